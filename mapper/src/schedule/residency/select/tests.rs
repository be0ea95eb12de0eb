#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;

/// Whether homes fit, from the definition: every load of every memory at every position.
fn fits(c: &Choices, items: &[Option<usize>], lasting: &[Option<usize>]) -> bool {
    let all = || {
        c.items
            .iter()
            .zip(items)
            .chain(c.lasting.iter().zip(lasting))
    };
    (0..c.memories.len()).all(|m| {
        (0..c.positions).all(|p| {
            let (mut held, mut passing) = (0, c.memories[m].passing[p]);
            for piece in all()
                .filter(|x| *x.1 == Some(m))
                .flat_map(|(i, _)| &i.pieces)
            {
                if piece.live.iter().any(|s| s.from <= p && p <= s.to) {
                    held += piece.bytes[m];
                }
                let own = piece.passes[m].iter().filter(|x| x.0 == p);
                passing -= own.map(|x| x.1).sum::<u64>();
            }
            for s in c.shares.iter().filter(|s| s.at == p) {
                if items[s.from.0] == Some(m) && items[s.to.0] == Some(m) {
                    held -= c.items[s.from.0].pieces[s.from.1].bytes[m];
                }
            }
            let capacity = c.memories[m].capacity;
            held + (capacity / 2).min(passing * c.memories[m].buffering) <= capacity
        })
    })
}

fn worth(c: &Choices, items: &[Option<usize>], lasting: &[Option<usize>]) -> f64 {
    let all = c
        .items
        .iter()
        .zip(items)
        .chain(c.lasting.iter().zip(lasting));
    all.map(|(i, h)| h.map_or(0.0, |m| i.value[m].unwrap()))
        .sum()
}

/// The most value of all homes of all items.
fn brute(c: &Choices) -> f64 {
    let n = c.items.len() + c.lasting.len();
    let base = c.memories.len() + 1;
    let mut best = 0.0f64;
    'next: for code in 0..base.pow(n as u32) {
        let mut rest = code;
        let mut homes = Vec::new();
        for item in c.items.iter().chain(&c.lasting) {
            let home = (rest % base).checked_sub(1);
            rest /= base;
            if home.is_some_and(|m| item.value[m].is_none()) {
                continue 'next;
            }
            homes.push(home);
        }
        let (items, lasting) = homes.split_at(c.items.len());
        let value = worth(c, items, lasting);
        if value > best && fits(c, items, lasting) {
            best = value;
        }
    }
    best
}

fn checked(c: &Choices) -> Selection {
    let s = select(c);
    assert!(fits(c, &s.items, &s.lasting), "{c:?} {s:?}");
    assert!((worth(c, &s.items, &s.lasting) - s.value).abs() < 1e-9);
    s
}

/// Random choices: each item of one or two pieces, some passing through, some in place of another.
fn choices(
    memories: usize,
    items: usize,
    lasting: usize,
    positions: usize,
) -> impl Strategy<Value = Choices> {
    type Raw = (u64, usize, usize, u64, bool, u8, u8);
    let raw = move || {
        (
            1..30u64,
            0..positions,
            0..4usize,
            1..40u64,
            any::<bool>(),
            any::<u8>(),
            any::<u8>(),
        )
    };
    let build = move |list: Vec<Raw>, weights: Vec<Raw>, capacity: Vec<u64>, background: u64| {
        let passing_of = |raw: &Raw, span: Span| -> Vec<Vec<(usize, u64)>> {
            (0..memories)
                .map(|m| {
                    let here = raw.5 >> m & 1 == 1;
                    here.then_some((span.from, raw.0)).into_iter().collect()
                })
                .collect()
        };
        let piece = |tensor, raw: &Raw, span: Span| Piece {
            tensor,
            bytes: (0..memories as u64).map(|m| raw.0 + m).collect(),
            live: vec![span],
            passes: passing_of(raw, span),
        };
        let value = |raw: &Raw| -> Vec<Option<f64>> {
            (0..memories)
                .map(|m| (raw.6 >> m & 3 != 0).then_some((raw.3 + m as u64) as f64))
                .collect()
        };
        let span = |raw: &Raw| Span {
            from: raw.1,
            to: (raw.1 + raw.2).min(positions - 1),
        };
        let mut items: Vec<Item> = Vec::new();
        let mut shares = Vec::new();
        for (i, raw) in list.iter().enumerate() {
            let mut pieces = vec![piece(i, raw, span(raw))];
            // Some are tied to a copy that lives later.
            if raw.4 && raw.1 + 6 < positions {
                let later = Span {
                    from: raw.1 + 5,
                    to: raw.1 + 6,
                };
                pieces.push(piece(100 + i, raw, later));
            }
            items.push(Item {
                pieces,
                value: value(raw),
            });
        }
        // Of equal bytes, one ending where the other starts; each at most once on either side.
        let mut used = [vec![false; items.len()], vec![false; items.len()]];
        for a in 0..items.len() {
            for b in 0..items.len() {
                let (x, y) = (&items[a].pieces[0], &items[b].pieces[0]);
                let (s, t) = (x.live[0], y.live[0]);
                if a != b
                    && s.to == t.from
                    && s.from < s.to
                    && t.from < t.to
                    && x.bytes == y.bytes
                    && !used[0][a]
                    && !used[1][b]
                {
                    (used[0][a], used[1][b]) = (true, true);
                    shares.push(Share {
                        from: (a, 0),
                        to: (b, 0),
                        at: s.to,
                    });
                }
            }
        }
        let whole = Span {
            from: 0,
            to: positions - 1,
        };
        let lasting: Vec<Item> = weights
            .iter()
            .enumerate()
            .map(|(i, raw)| {
                let mut p = piece(200 + i, raw, whole);
                p.passes = passing_of(raw, span(raw));
                Item {
                    pieces: vec![p],
                    value: value(raw),
                }
            })
            .collect();
        let spaces = (0..memories)
            .map(|m| {
                let mut passing = vec![background; positions];
                for (p, bytes) in items
                    .iter()
                    .chain(&lasting)
                    .flat_map(|i| &i.pieces)
                    .flat_map(|p| &p.passes[m])
                {
                    passing[*p] += bytes;
                }
                Space {
                    capacity: capacity[m],
                    buffering: 1 + m as u64,
                    passing,
                    reserved: vec![0; positions],
                }
            })
            .collect();
        Choices {
            positions,
            memories: spaces,
            items,
            shares,
            lasting,
        }
    };
    (
        prop::collection::vec(raw(), 0..items),
        prop::collection::vec(raw(), 0..lasting.max(1)),
        prop::collection::vec(0..120u64, memories),
        0..10u64,
    )
        .prop_map(move |(a, b, c, d)| build(a, b, c, d))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn weights_move_closer_where_there_is_room(c in choices(2, 8, 8, 8)) {
        let before = checked(&c);
        let mut s = before.clone();
        closer(&c, &mut s);
        prop_assert!(fits(&c, &s.items, &s.lasting));
        prop_assert!(s.value >= before.value);
        prop_assert!((worth(&c, &s.items, &s.lasting) - s.value).abs() < 1e-9);
        prop_assert!(s.items == before.items);
        let on_chip = |l: &[Option<usize>]| l.iter().map(Option::is_some).collect::<Vec<_>>();
        prop_assert_eq!(on_chip(&s.lasting), on_chip(&before.lasting));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn one_memory_is_optimal(c in choices(1, 9, 5, 8)) {
        let s = checked(&c);
        prop_assert!(s.optimal);
        prop_assert_eq!(s.value, brute(&c));
    }

    /// What greedy choices put on chip fits, places shared included.
    #[test]
    fn greedy_choices_fit(c in choices(2, 14, 0, 12), dense in any::<bool>()) {
        let none = vec![None; c.items.len()];
        if let Some(homes) = fill(&c, Load::new(&c), &none, none.clone(), dense) {
            prop_assert!(fits(&c, &homes, &[]));
            prop_assert!(worth(&c, &homes, &[]) <= select(&c).value);
        }
    }

    #[test]
    fn several_memories_are_optimal(c in choices(2, 8, 0, 8)) {
        let s = checked(&c);
        prop_assert!(s.optimal);
        prop_assert_eq!(s.value, brute(&c));
    }

    /// More capacity never has less value, also where weights are too many for all subsets.
    #[test]
    fn more_capacity_is_never_worse(c in choices(2, 14, 16, 12), more in 0..60u64, which in 0..2usize) {
        let small = checked(&c);
        let mut larger = c.clone();
        larger.memories[which].capacity += more;
        // Weights go to the larger memory: keep it the larger one.
        let order = |c: &Choices| c.memories[0].capacity >= c.memories[1].capacity;
        prop_assume!(order(&c) == order(&larger));
        let large = checked(&larger);
        prop_assert!(large.value >= small.value, "{} {} {} {} lasting {}", small.value, small.optimal, large.value, large.optimal, c.lasting.len());
    }
}

/// The greedy rule by accesses for each op of a life keeps one long-lived tensor where two short ones save more.
#[test]
fn two_short_lives_beat_one_long_one() {
    let item = |tensor, bytes, from, to, value| Item {
        pieces: vec![Piece {
            tensor,
            bytes: vec![bytes],
            live: vec![Span { from, to }],
            passes: vec![Vec::new()],
        }],
        value: vec![Some(value)],
    };
    let c = Choices {
        positions: 8,
        memories: vec![Space {
            capacity: 10,
            buffering: 2,
            passing: vec![0; 8],
            reserved: vec![0; 8],
        }],
        items: vec![
            item(0, 8, 0, 7, 30.0),
            item(1, 7, 0, 3, 20.0),
            item(2, 7, 4, 7, 20.0),
        ],
        shares: Vec::new(),
        lasting: vec![],
    };
    let s = checked(&c);
    assert_eq!(s.items, [None, Some(0), Some(0)]);
    assert!(s.optimal);
}

/// Many tensors that live at one time: states are dropped, the result still fits and says that it is no optimum.
#[test]
fn too_many_states_are_said() {
    let items: Vec<Item> = (0..40)
        .map(|i| Item {
            pieces: vec![Piece {
                tensor: i,
                bytes: vec![100 + 37 * i as u64 % 91],
                live: vec![Span {
                    from: i / 4,
                    to: 20 + i / 4,
                }],
                passes: vec![Vec::new()],
            }],
            value: vec![Some(100.0 + (53 * i % 97) as f64)],
        })
        .collect();
    let c = Choices {
        positions: 40,
        memories: vec![Space {
            capacity: 1500,
            buffering: 1,
            passing: vec![10; 40],
            reserved: vec![0; 40],
        }],
        items,
        shares: Vec::new(),
        lasting: vec![],
    };
    let s = checked(&c);
    assert!(!s.optimal);
    // No worse than taking the densest first.
    let homes = vec![None; c.items.len()];
    let greedy = fill(&c, Load::new(&c), &homes, homes.clone(), true).unwrap();
    assert!(worth(&c, &greedy, &[]) > 0.0 && s.value >= worth(&c, &greedy, &[]));
}
