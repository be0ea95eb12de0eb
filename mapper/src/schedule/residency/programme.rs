//! Dynamic programming over positions: the homes of items that live for a while.

use super::load::{Load, over};
use super::select::{Choices, Share};

/// States of the dynamic programme at one position.
const STATES: usize = 4096;

/// Items live at one position that a state holds (four bits each).
const SLOTS: usize = 32;

/// States once the effort is spent.
const FEW_STATES: usize = 64;

/// The dynamic programme over positions.
pub(super) struct Programme<'a> {
    choices: &'a Choices,
    base: &'a Load,
    fixed: &'a [Option<usize>],
    /// Free items by first position, and by last.
    starts: Vec<Vec<usize>>,
    ends: Vec<Vec<usize>>,
    /// Pieces of free items live at each position.
    live: Vec<Vec<(usize, usize)>>,
    shares: Vec<Vec<Share>>,
    /// The four bits of each free item.
    slot: Vec<Option<usize>>,
    /// Choices made: the one before, the item, its memory.
    trail: Vec<(u32, u32, u8)>,
}

/// Homes of live items, four bits each (0: the root memory), their value, and the last choice.
#[derive(Debug, Clone, Copy)]
struct State {
    code: u128,
    value: f64,
    last: u32,
}

const NONE: u32 = u32::MAX;

impl<'a> Programme<'a> {
    pub(super) fn new(choices: &'a Choices, base: &'a Load, fixed: &'a [Option<usize>]) -> Self {
        let n = choices.positions;
        let mut p = Self {
            choices,
            base,
            fixed,
            starts: vec![Vec::new(); n],
            ends: vec![Vec::new(); n],
            live: vec![Vec::new(); n],
            shares: vec![Vec::new(); n],
            slot: vec![None; choices.items.len()],
            trail: Vec::new(),
        };
        for (i, item) in choices.items.iter().enumerate() {
            if fixed[i].is_some() || item.best().is_none() {
                continue;
            }
            let (Some(from), Some(to)) = (
                item.spans().map(|s| s.from).min(),
                item.spans().map(|s| s.to).max(),
            ) else {
                continue;
            };
            p.starts[from].push(i);
            p.ends[to].push(i);
            for (k, piece) in item.pieces.iter().enumerate() {
                for at in piece.live.iter().flat_map(|s| s.from..=s.to) {
                    p.live[at].push((i, k));
                }
            }
        }
        let free = |i: usize| fixed[i].is_none();
        for s in &choices.shares {
            if free(s.from.0) || free(s.to.0) {
                p.shares[s.at].push(*s);
            }
        }
        p
    }

    /// The free items at home on chip, and whether no state was dropped; `None` if nothing fits. `effort` is what is
    /// left of the homes of single items that may be looked at with all states.
    pub(super) fn run(mut self, effort: &mut u64) -> Option<(Vec<(usize, usize)>, bool)> {
        let mut states = vec![State {
            code: 0,
            value: 0.0,
            last: NONE,
        }];
        let mut exact = true;
        let mut taken = [false; SLOTS];
        for p in 0..self.choices.positions {
            let changes = !self.starts[p].is_empty() || !self.ends[p].is_empty();
            for i in std::mem::take(&mut self.starts[p]) {
                // Beyond what a state can hold, an item stays in the root memory.
                let Some(slot) = taken.iter().position(|t| !t) else {
                    exact = false;
                    continue;
                };
                taken[slot] = true;
                self.slot[i] = Some(slot);
                self.branch(&mut states, i, slot);
            }
            if !self.roomy(p) {
                let each = (self.live[p].len() + 1) * self.choices.memories.len();
                *effort = effort.saturating_sub((states.len() * each) as u64);
                states.retain(|s| self.holds(s.code, p));
            }
            if states.is_empty() {
                return None;
            }
            let mut mask = u128::MAX;
            for &i in &self.ends[p] {
                if let Some(slot) = self.slot[i] {
                    mask &= !(0xF << (4 * slot));
                    taken[slot] = false;
                }
            }
            if mask != u128::MAX {
                for s in &mut states {
                    s.code &= mask;
                }
            }
            if changes {
                let width = if *effort == 0 { FEW_STATES } else { STATES };
                exact &= merge(&mut states, width);
            }
        }
        let best = states
            .into_iter()
            .reduce(|a, b| if b.value > a.value { b } else { a })?;
        let mut homes = Vec::new();
        let mut at = best.last;
        while let Some(&(before, item, memory)) = self.trail.get(at as usize) {
            homes.push((item as usize, memory as usize));
            at = before;
        }
        Some((homes, exact))
    }

    /// Every state with an item in each memory that it may be in, and in none.
    fn branch(&mut self, states: &mut Vec<State>, item: usize, slot: usize) {
        let value = &self.choices.items[item].value;
        let before = states.len();
        for (m, v) in value.iter().enumerate().take(15) {
            let Some(v) = v.filter(|v| *v > 0.0) else {
                continue;
            };
            for s in 0..before {
                let s = states[s];
                let last = self.trail.len() as u32;
                self.trail.push((s.last, item as u32, m as u8));
                states.push(State {
                    code: s.code | ((m as u128 + 1) << (4 * slot)),
                    value: s.value + v,
                    last,
                });
            }
        }
    }

    fn home(&self, code: u128, item: usize) -> Option<usize> {
        match (self.fixed[item], self.slot[item]) {
            (Some(m), _) => Some(m),
            (None, Some(slot)) => ((code >> (4 * slot) & 0xF) as usize).checked_sub(1),
            _ => None,
        }
    }

    /// Whether every memory holds whatever is put into it at a position.
    fn roomy(&self, p: usize) -> bool {
        self.choices.memories.iter().enumerate().all(|(m, space)| {
            let pieces = self.live[p].iter().filter_map(|&(i, k)| {
                let item = &self.choices.items[i];
                item.value[m].map(|_| item.pieces[k].bytes[m])
            });
            let held = pieces.fold(self.base.held[m][p], u64::saturating_add);
            !over(space, held, self.base.passing[m][p])
        })
    }

    /// Whether every memory holds what a state puts into it at a position.
    fn holds(&self, code: u128, p: usize) -> bool {
        self.choices.memories.iter().enumerate().all(|(m, space)| {
            let (mut held, mut passing) = (self.base.held[m][p], self.base.passing[m][p]);
            for &(i, k) in &self.live[p] {
                if self.home(code, i) == Some(m) {
                    let piece = &self.choices.items[i].pieces[k];
                    held = held.saturating_add(piece.bytes[m]);
                    let own = piece.passes[m].iter().filter(|x| x.0 == p);
                    passing = passing.saturating_sub(own.map(|x| x.1).sum());
                }
            }
            for s in &self.shares[p] {
                if self.home(code, s.from.0) == Some(m) && self.home(code, s.to.0) == Some(m) {
                    held -= self.choices.items[s.from.0].pieces[s.from.1].bytes[m].min(held);
                }
            }
            !over(space, held, passing)
        })
    }
}

/// Keeps of equal states the one of most value; drops the least valuable beyond the limit. Returns whether none
/// was dropped.
fn merge(states: &mut Vec<State>, width: usize) -> bool {
    if states.len() > 1 {
        states.sort_by(|a, b| a.code.cmp(&b.code).then(b.value.total_cmp(&a.value)));
        states.dedup_by_key(|s| s.code);
    }
    if states.len() <= width {
        return true;
    }
    states.sort_by(|a, b| b.value.total_cmp(&a.value).then(a.code.cmp(&b.code)));
    // What holds nothing always fits.
    let empty = states.iter().find(|s| s.code == 0).copied();
    states.truncate(width - 1);
    if let Some(empty) = empty.filter(|_| states.iter().all(|s| s.code != 0)) {
        states.push(empty);
    }
    false
}
