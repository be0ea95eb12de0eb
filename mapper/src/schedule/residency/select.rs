//! Which tensors stay on chip: the choice of most value under capacity over time.
//!
//! ```text
//! an item (a tensor, or tensors tied to each other) has a home in one resident memory m, or in the root memory
//! value(item, m) >= 0                        what its home saves; 0 in the root memory
//! load(m, p) = sum of bytes of pieces at home in m that live at p, a place shared in place counted once
//!            + min(capacity / 2, buffering x bytes that pass through m at p and are at home elsewhere)
//! load(m, p) <= capacity                     at every position p
//! maximize the sum of values
//! ```
//!
//! The second term is the room for tiles of the op at p. Its limit of half lets streamed tiles and kept tensors
//! share a memory evenly. Both `load` without items and `load - capacity` fall as capacity grows, so what fits a
//! memory fits a larger one, and the optimum is monotone in every capacity.
//!
//! The problem is a knapsack over time. Items that live for a while (activations) and items that always live
//! (weights, caches) are told apart:
//!
//! - **Activations: dynamic programming over positions.** A state is the homes of the items live now; equal
//!   states keep the one of most value. Items that start branch, states over capacity go, items that end merge.
//!   Before that, whatever fits even if everything else were there is fixed at its best home. The states are few
//!   where few tensors live at a time; beyond 4096 (64 once [`EFFORT`] is spent) those of least value are dropped,
//!   greedy choices are tried beside the result, and it is not called optimal.
//! - **Weights: a family of sets**, best first. For each set, the dynamic programme fills what it leaves; a set
//!   whose value and the most that activations can have beside it do not beat the best ends the search. Up to
//!   [`SUBSETS`] weights the family is all subsets, so the choice is an optimum of both; beyond, it is one set for
//!   each of many budgets of bytes, filled in order of preference by what still fits. As the family does not depend
//!   on capacity and the programme is exact, more capacity never has less value here either.

use super::super::memory_plan::allocate::Span;
use super::greedy::fill;
use super::load::Load;
use super::programme::Programme;

/// Weights of which all subsets are tried.
const SUBSETS: usize = 10;
/// Budgets of weights grow by one part in so many.
const BUDGET_STEP: u64 = 64;
/// Homes of single items that are looked at in all; then states are fewer, and sets.
const EFFORT: u64 = 40_000_000;
/// Sets of weights tried once the effort is spent.
const FEW_SETS: usize = 16;
/// Sets of weights that fit and for which the dynamic programme is run.
const SETS: usize = 256;

/// A tensor as memories would hold it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Piece {
    /// Which tensor.
    pub(super) tensor: usize,
    /// Bytes in each memory.
    pub(super) bytes: Vec<u64>,
    /// When it lives.
    pub(super) live: Vec<Span>,
    /// For each memory, positions and bytes at which it passes through while at home elsewhere.
    pub(super) passes: Vec<Vec<(usize, u64)>>,
}

/// Tensors that have one home.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Item {
    pub(super) pieces: Vec<Piece>,
    /// For each memory what it saves there; `None` where it may not be.
    pub(super) value: Vec<Option<f64>>,
}

impl Item {
    /// The memory of most value, the first of equals.
    pub(super) fn best(&self) -> Option<(usize, f64)> {
        let able = self.value.iter().enumerate();
        able.filter_map(|(m, v)| v.map(|v| (m, v)))
            .filter(|(_, v)| *v > 0.0)
            .fold(None, |best: Option<(usize, f64)>, x| match best {
                Some(b) if b.1 >= x.1 => Some(b),
                _ => Some(x),
            })
    }

    pub(super) fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        self.pieces.iter().flat_map(|p| p.live.iter().copied())
    }

    pub(super) fn bytes(&self, memory: usize) -> u64 {
        let add = |s: u64, p: &Piece| s.saturating_add(p.bytes[memory]);
        self.pieces.iter().fold(0, add)
    }
}

/// Two pieces of equal bytes, the second of which takes the place of the first at a position where both live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// Item and piece that is read last.
    pub(super) from: (usize, usize),
    /// Item and piece that is written.
    pub(super) to: (usize, usize),
    pub(super) at: usize,
}

/// A memory that items may be at home in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Space {
    pub(super) capacity: u64,
    /// Tiles held for each one that passes.
    pub(super) buffering: u64,
    /// For each position, bytes that pass through with every item at home elsewhere.
    pub(super) passing: Vec<u64>,
    /// For each position, bytes that are taken whatever is chosen.
    pub(super) reserved: Vec<u64>,
}

/// What is chosen from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choices {
    pub(super) positions: usize,
    pub(super) memories: Vec<Space>,
    pub(super) items: Vec<Item>,
    /// Among pieces of `items`.
    pub(super) shares: Vec<Share>,
    /// Items that always live, those to be preferred first.
    pub(super) lasting: Vec<Item>,
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Selection {
    /// For each item, its memory; `None`: the root memory.
    pub(super) items: Vec<Option<usize>>,
    pub(super) lasting: Vec<Option<usize>>,
    /// Sum of values.
    pub(super) value: f64,
    /// Whether nothing else has more.
    pub(super) optimal: bool,
}

/// Chooses.
pub(super) fn select(choices: &Choices) -> Selection {
    let mut effort = EFFORT;
    // Weights only take room, but for what they need no tiles: activations beside none of them, with none of those
    // tiles, save most.
    let mut alone = Load::new(choices);
    for (m, passing) in alone.passing.iter_mut().enumerate() {
        for (p, bytes) in choices
            .lasting
            .iter()
            .flat_map(|i| &i.pieces)
            .flat_map(|p| &p.passes[m])
        {
            passing[*p] = passing[*p].saturating_sub(*bytes);
        }
    }
    let (most, bounded) = activations(choices, alone, &mut effort)
        .map_or((0.0, true), |(_, value, exact)| (value, exact));
    let (family, whole) = sets(choices);
    let mut best: Option<Selection> = None;
    let mut optimal = whole && bounded;
    let mut tries = 0;
    let last = family.len().saturating_sub(1);
    let mut next = 0;
    for (i, set) in family.into_iter().enumerate() {
        // Out of effort a few sets are tried, from all weights to none.
        if i < next && i < last {
            continue;
        }
        if effort == 0 {
            next = i + (last / FEW_SETS).max(1);
        }
        if best.as_ref().is_some_and(|b| set.value + most <= b.value) {
            break;
        }
        if set
            .bytes
            .iter()
            .zip(&choices.memories)
            .any(|(b, m)| *b > m.capacity)
        {
            continue;
        }
        let mut load = Load::new(choices);
        for (item, home) in choices.lasting.iter().zip(&set.homes) {
            load.add(item, *home);
        }
        if tries == SETS {
            optimal = false;
            break;
        }
        let Some((items, value, exact)) = activations(choices, load, &mut effort) else {
            continue;
        };
        tries += 1;
        optimal &= exact;
        let value = value + set.value;
        if best.as_ref().is_none_or(|b| value > b.value) {
            best = Some(Selection {
                items,
                lasting: set.homes,
                value,
                optimal,
            });
        }
    }
    let nothing = Selection {
        items: vec![None; choices.items.len()],
        lasting: vec![None; choices.lasting.len()],
        value: 0.0,
        optimal: false,
    };
    let mut best = best.unwrap_or(nothing);
    best.optimal = optimal && effort > 0;
    best
}

/// Moves items that always live to memories where they save more, as far as there is room; sets of weights are
/// chosen with all of them in the largest memory.
pub(super) fn closer(choices: &Choices, selection: &mut Selection) {
    let mut load = Load::new(choices);
    let homes = selection.items.iter().chain(&selection.lasting);
    for (item, home) in choices.items.iter().chain(&choices.lasting).zip(homes) {
        load.add(item, *home);
    }
    shared(choices, &selection.items, &mut load);
    for (item, home) in choices.lasting.iter().zip(&mut selection.lasting) {
        let Some(now) = *home else { continue };
        let worth = |m: usize| item.value[m].unwrap_or(0.0);
        let better = (0..choices.memories.len()).filter(|m| worth(*m) > worth(now));
        for m in better {
            let mut moved = load.clone();
            moved.add(item, Some(m));
            moved.remove(item, now);
            if moved.fits_in(choices, m) && moved.fits_in(choices, now) {
                load = moved;
                selection.value += worth(m) - worth(now);
                *home = Some(m);
                break;
            }
        }
    }
}

/// A set of lasting items at home on chip.
struct Set {
    homes: Vec<Option<usize>>,
    /// Bytes in each memory.
    bytes: Vec<u64>,
    value: f64,
}

/// The family of sets, those of most value first, and whether it holds every useful one.
fn sets(choices: &Choices) -> (Vec<Set>, bool) {
    // All at their best memory: for several memories the largest that may hold one.
    let home = |item: &Item| {
        let able = item.value.iter().enumerate().filter(|(_, v)| v.is_some());
        let size = |m: usize| choices.memories[m].capacity;
        able.map(|(m, _)| m)
            .max_by_key(|m| (size(*m), std::cmp::Reverse(*m)))
    };
    let able: Vec<(usize, usize, f64)> = choices
        .lasting
        .iter()
        .enumerate()
        .filter_map(|(i, item)| {
            let m = home(item)?;
            let value = item.value[m].filter(|v| *v > 0.0)?;
            Some((i, m, value))
        })
        .collect();
    let set = |members: &mut dyn Iterator<Item = &(usize, usize, f64)>| {
        let mut homes = vec![None; choices.lasting.len()];
        let mut bytes = vec![0u64; choices.memories.len()];
        let mut value = 0.0;
        for &(i, m, v) in members {
            homes[i] = Some(m);
            bytes[m] = bytes[m].saturating_add(choices.lasting[i].bytes(m));
            value += v;
        }
        Set {
            homes,
            bytes,
            value,
        }
    };
    let one_memory = choices.memories.len() <= 1;
    let mut family: Vec<Set>;
    let whole = able.is_empty() || (able.len() <= SUBSETS && one_memory);
    if able.len() <= SUBSETS {
        let member = |bits: usize, i: usize| bits >> i & 1 == 1;
        family = (0..1usize << able.len())
            .map(|bits| {
                let members = able.iter().enumerate();
                set(&mut members.filter(|(i, _)| member(bits, *i)).map(|(_, x)| x))
            })
            .collect();
    } else {
        let bytes = |x: &(usize, usize, f64)| choices.lasting[x.0].bytes(x.1);
        let total = able.iter().fold(0u64, |s, x| s.saturating_add(bytes(x)));
        let mut budget = able.iter().map(bytes).min().unwrap_or(0);
        family = Vec::new();
        while budget < total {
            let mut left = budget;
            family.push(set(&mut able.iter().filter(|x| {
                let fits = bytes(x) <= left;
                left -= if fits { bytes(x) } else { 0 };
                fits
            })));
            budget = budget.saturating_add((budget / BUDGET_STEP).max(1));
        }
        family.push(set(&mut able.iter()));
        family.push(set(&mut std::iter::empty()));
    }
    // Stable: of equal values the one that was made first.
    family.sort_by(|a, b| b.value.total_cmp(&a.value));
    family.dedup_by(|a, b| a.homes == b.homes);
    (family, whole)
}

/// Homes of the items beside a load, their value, and whether it is the most; `None` if even none fits.
fn activations(
    choices: &Choices,
    base: Load,
    effort: &mut u64,
) -> Option<(Vec<Option<usize>>, f64, bool)> {
    let best: Vec<Option<(usize, f64)>> = choices.items.iter().map(Item::best).collect();
    let value = |homes: &[Option<usize>]| -> f64 {
        let each = choices.items.iter().zip(homes);
        each.map(|(i, h)| h.and_then(|m| i.value[m]).unwrap_or(0.0))
            .sum()
    };
    // Everything at its best home.
    let all: Vec<Option<usize>> = best.iter().map(|b| b.map(|b| b.0)).collect();
    let mut full = base.clone();
    for (item, home) in choices.items.iter().zip(&all) {
        full.add(item, *home);
    }
    shared(choices, &all, &mut full);
    if full.fits(choices) {
        let value = value(&all);
        return Some((all, value, true));
    }
    let (base, mut homes) = fix(choices, base, &all);
    let fixed = homes.clone();
    let (free, exact) = Programme::new(choices, &base, &homes).run(effort)?;
    for (i, m) in free {
        homes[i] = Some(m);
    }
    if !exact {
        let greedy = [homes, fixed.clone(), fixed.clone()].map(|start| {
            let mut load = base.clone();
            for ((item, home), fixed) in choices.items.iter().zip(&start).zip(&fixed) {
                load.add(item, home.filter(|_| fixed.is_none()));
            }
            (start, load)
        });
        let [found, by_density, by_value] = greedy;
        let all = [(found, true), (by_density, true), (by_value, false)];
        homes = all
            .into_iter()
            .filter_map(|((start, load), dense)| fill(choices, load, &fixed, start, dense))
            .reduce(|a, b| if value(&b) > value(&a) { b } else { a })?;
    }
    let value = value(&homes);
    Some((homes, value, exact))
}

/// Takes from a load what pieces at home beside each other share.
fn shared(choices: &Choices, homes: &[Option<usize>], load: &mut Load) {
    for s in &choices.shares {
        if let (Some(a), Some(b)) = (homes[s.from.0], homes[s.to.0])
            && a == b
        {
            load.share(choices, s, a, true);
        }
    }
}

/// Fixes the items that fit at their best home even if every item were in every memory that it may be in.
fn fix(choices: &Choices, mut base: Load, best: &[Option<usize>]) -> (Load, Vec<Option<usize>>) {
    let mut worst = base.clone();
    for item in &choices.items {
        for (m, value) in item.value.iter().enumerate().filter(|(_, v)| v.is_some()) {
            debug_assert!(value.is_some());
            for (piece, span) in item
                .pieces
                .iter()
                .flat_map(|p| p.live.iter().map(move |s| (p, s)))
            {
                for held in worst.held[m].iter_mut().take(span.to + 1).skip(span.from) {
                    *held = held.saturating_add(piece.bytes[m]);
                }
            }
        }
    }
    let safe = |item: &Item, m: usize| {
        let mut positions = item.spans().flat_map(|s| s.from..=s.to);
        positions.all(|p| !worst.excess(&choices.memories[m], m, p))
    };
    let homes: Vec<Option<usize>> = choices
        .items
        .iter()
        .zip(best)
        .map(|(item, home)| home.filter(|m| safe(item, *m)))
        .collect();
    for (item, home) in choices.items.iter().zip(&homes) {
        base.add(item, *home);
    }
    // Of fixed items; where one of two is free, the programme sees to it.
    shared(choices, &homes, &mut base);
    (base, homes)
}

#[cfg(test)]
mod tests;
