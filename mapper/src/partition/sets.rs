//! Which ops form sets: the cheapest sequence of sets of independent units that keeps every dependence.
//!
//! ```text
//! done S       units that ran; closed: all that a done unit waits for is done
//! ready(S)     units that are not done but wait for nothing else
//! best(S + A)  = min over A, non-empty, within ready(S), of best(S) + cost(A)
//! ```
//!
//! Costs do not depend on what ran before, so the best way to a done set is one of its best ways plus one step:
//! dynamic programming by size is exact. A unit that no set takes runs alone whenever it is ready; to run it at once never
//! costs more (its place in the sum is free, and what it lets others do only grows), so done sets are closed under
//! such units, and a chain has one done set a unit.

use rustc_hash::FxHashMap;

/// A unit of work: an op with its epilogue.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unit {
    /// Units that it waits for, by index.
    pub(super) before: Vec<usize>,
    /// What it costs alone.
    pub(super) alone: f64,
    /// Whether it may be in a set.
    pub(super) able: bool,
}

/// A set of units as bits.
type Bits = Box<[u64]>;

fn has(bits: &[u64], i: usize) -> bool {
    bits.get(i / 64).is_some_and(|w| w >> (i % 64) & 1 == 1)
}

fn put(bits: &mut [u64], i: usize) {
    if let Some(w) = bits.get_mut(i / 64) {
        *w |= 1 << (i % 64);
    }
}

/// A done set that was reached.
struct State {
    done: Bits,
    size: usize,
    cost: f64,
    /// The state before and the set that ran then.
    from: Option<(usize, Vec<usize>)>,
}

/// Done sets that are looked at, at most.
const STATES: usize = 20_000;

/// Ready units of which sets are made, the first ones; more would be too many subsets.
const WIDTH: usize = 10;

/// The sets of two or more units of the cheapest sequence; `most`: units of a set; `cost`: what a set of
/// two or more costs, infinite if it may not be. None where there are too many done sets to look at.
pub(super) fn choose(
    units: &[Unit],
    most: usize,
    mut cost: impl FnMut(&[usize]) -> f64,
) -> Option<Vec<Vec<usize>>> {
    let n = units.len();
    let ready =
        |done: &[u64], i: usize| !has(done, i) && units[i].before.iter().all(|b| has(done, *b));
    // Runs what no set takes.
    let close = |done: &mut Bits, size: &mut usize, sum: &mut f64| {
        let mut again = true;
        while again {
            again = false;
            for (i, u) in units.iter().enumerate() {
                if !u.able && ready(done, i) {
                    put(done, i);
                    *size += 1;
                    *sum += u.alone;
                    again = true;
                }
            }
        }
    };
    let mut states: Vec<State> = Vec::new();
    let mut by_size: Vec<Vec<usize>> = vec![Vec::new(); n + 1];
    let mut index: FxHashMap<Bits, usize> = FxHashMap::default();
    let mut start = State {
        done: vec![0u64; n.div_ceil(64).max(1)].into_boxed_slice(),
        size: 0,
        cost: 0.0,
        from: None,
    };
    close(&mut start.done, &mut start.size, &mut start.cost);
    index.insert(start.done.clone(), 0);
    by_size[start.size].push(0);
    states.push(start);
    for size in 0..n {
        for at in std::mem::take(&mut by_size[size]) {
            let open: Vec<usize> = (0..n)
                .filter(|i| ready(&states[at].done, *i))
                .take(WIDTH)
                .collect();
            for set in subsets(&open, most) {
                let step = match set.as_slice() {
                    [one] => units[*one].alone,
                    _ => cost(&set),
                };
                if !step.is_finite() {
                    continue;
                }
                let mut next = State {
                    done: states[at].done.clone(),
                    size: size + set.len(),
                    cost: states[at].cost + step,
                    from: None,
                };
                set.iter().for_each(|i| put(&mut next.done, *i));
                close(&mut next.done, &mut next.size, &mut next.cost);
                next.from = Some((at, set));
                match index.get(&next.done) {
                    Some(&old) if states[old].cost <= next.cost => {}
                    Some(&old) => states[old] = next,
                    None if states.len() == STATES => return None,
                    None => {
                        index.insert(next.done.clone(), states.len());
                        by_size[next.size].push(states.len());
                        states.push(next);
                    }
                }
            }
        }
    }
    let mut at = states.iter().position(|s| s.size == n)?;
    let mut sets = Vec::new();
    while let Some((from, set)) = &states[at].from {
        if set.len() > 1 {
            sets.push(set.clone());
        }
        at = *from;
    }
    sets.reverse();
    Some(sets)
}

/// Non-empty subsets of at most so many members, small ones first.
fn subsets(of: &[usize], most: usize) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = Vec::new();
    let mut last: Vec<(usize, Vec<usize>)> = vec![(0, Vec::new())];
    for _ in 0..most.min(of.len()) {
        let mut next = Vec::new();
        for (from, set) in &last {
            for (i, x) in of.iter().enumerate().skip(*from) {
                let mut larger = set.clone();
                larger.push(*x);
                next.push((i + 1, larger));
            }
        }
        all.extend(next.iter().map(|(_, s)| s.clone()));
        last = next;
    }
    all
}

/// An order of all units in which each set stands together: of what is ready, the set with the earliest unit first. None
/// if sets wait for each other.
pub(super) fn order(units: &[Unit], sets: &[Vec<usize>]) -> Option<Vec<Vec<usize>>> {
    let mut group: Vec<Vec<usize>> = Vec::new();
    let mut of = vec![usize::MAX; units.len()];
    for i in 0..units.len() {
        if of[i] != usize::MAX {
            continue;
        }
        let members = sets
            .iter()
            .find(|s| s.contains(&i))
            .cloned()
            .unwrap_or_else(|| vec![i]);
        members.iter().for_each(|m| of[*m] = group.len());
        group.push(members);
    }
    let mut done = vec![false; group.len()];
    let mut sequence = Vec::with_capacity(group.len());
    while sequence.len() < group.len() {
        let free = |g: &usize| {
            !done[*g]
                && group[*g]
                    .iter()
                    .flat_map(|m| &units[*m].before)
                    .all(|b| done[of[*b]])
        };
        let next = (0..group.len()).find(free)?;
        done[next] = true;
        sequence.push(group[next].clone());
    }
    Some(sequence)
}
