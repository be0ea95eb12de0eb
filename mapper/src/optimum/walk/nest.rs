//! Nests: everything of a mapping but its tiles.
//!
//! A nest tells, from the inside out, where storages stand and where loops may: a *slot* is a place of one loop over one
//! dimension, whose trips may be 1. Which nests there are follows the rules of the search (helpful loops, one
//! of two orders of storages with no loop between, loops that slide chosen beside); what those rules ask of the loops
//! taken together is told as [`Check`]s of bits that loops of more than one trip set.

use super::split::Splits;
use crate::hierarchy::Mask;
use crate::optimum::rules::Rule;
use crate::optimum::search::{Placement, Step};
use crate::optimum::space::{Operand, Space};

/// Where a loop stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// In time. `slides`: it must be there, since the storage inside it takes only what enters.
    Time { slides: bool },
    /// In time, outside all storages: up to the extent.
    Rest,
    /// Along an axis of the fan below a segment.
    Space { segment: usize, axis: usize },
}

/// A place of one loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub dim: usize,
    pub kind: Kind,
    /// Set where it has more than one trip.
    pub bits: u64,
    /// The memory that constraints of it are told at.
    pub memory: Option<(usize, usize)>,
}

/// A storage below the homes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Storage {
    pub operand: usize,
    pub segment: usize,
    pub memory: usize,
    /// Slots inside it.
    pub at: usize,
    /// Whether the slot directly above slides.
    pub slid: bool,
}

/// What bits of whole mappings must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// One of these is set.
    Any(u64),
    /// The lowest of `of` that is set is none of `bad`.
    Lowest { of: u64, bad: u64 },
    /// These are not all set.
    NotAll(u64),
}

impl Check {
    /// Whether bits are as asked.
    pub(super) fn holds(self, bits: u64) -> bool {
        match self {
            Self::Any(of) => bits & of != 0,
            Self::Lowest { of, bad } => {
                let set = bits & of;
                set & set.wrapping_neg() & bad == 0
            }
            Self::NotAll(of) => bits & of != of,
        }
    }
}

/// A step of a nest, from the inside out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Slot,
    Keep { operand: usize, memory: usize },
    Fan,
}

/// Everything of a mapping but its tiles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Nest {
    items: Vec<Item>,
    /// Inside out.
    pub slots: Vec<Slot>,
    /// Inside out.
    pub storages: Vec<Storage>,
    pub checks: Vec<Check>,
    /// Bits in use.
    bits: u32,
}

impl Nest {
    /// A new bit; none if there are no more.
    fn bit(&mut self) -> Option<u64> {
        let bit = 1u64.checked_shl(self.bits)?;
        self.bits += 1;
        Some(bit)
    }

    /// The steps of a mapping with a split of each dimension, from the inside out.
    pub(super) fn steps(&self, splits: &[Splits], chosen: &[u32]) -> Vec<Step> {
        let mut at: Vec<usize> = vec![0; splits.len()];
        let mut slots = self.slots.iter();
        let step = |item: &Item| match *item {
            Item::Fan => Some(Step::Fan),
            Item::Keep { operand, memory } => Some(Step::Keep {
                operand: operand as u8,
                memory: memory as u8,
            }),
            Item::Slot => {
                let slot = slots.next()?;
                let tiles = splits[slot.dim].tiles(chosen[slot.dim] as usize);
                let (tile, outer) = (tiles[at[slot.dim]], tiles[at[slot.dim] + 1]);
                at[slot.dim] += 1;
                let dim = slot.dim as u8;
                let step = match slot.kind {
                    Kind::Space { axis, .. } => Step::Spread {
                        axis: axis as u8,
                        dim,
                        tile,
                    },
                    Kind::Time { .. } | Kind::Rest => Step::Grow { dim, tile },
                };
                (outer > tile).then_some(step)
            }
        };
        self.items.iter().filter_map(step).collect()
    }
}

/// Makes the nests of a placement.
pub(super) struct Nests<'a> {
    space: &'a Space,
    placement: &'a Placement,
    nest: Nest,
    /// Place in its chain of each operand's outermost storage so far.
    placed: Vec<usize>,
    visit: &'a mut dyn FnMut(&Nest) -> bool,
    /// Whether a nest has more checks than there are bits.
    pub overflow: bool,
}

impl<'a> Nests<'a> {
    /// `visit` is called with each nest, until it says no.
    pub(super) fn new(
        space: &'a Space,
        placement: &'a Placement,
        visit: &'a mut dyn FnMut(&Nest) -> bool,
    ) -> Self {
        Self {
            space,
            placement,
            nest: Nest::default(),
            placed: placement.chains.iter().map(Vec::len).collect(),
            visit,
            overflow: false,
        }
    }

    /// Makes all nests.
    pub(super) fn run(&mut self) {
        let innermost = self.space.segments.len() - 1;
        self.fan(innermost);
        self.segment(innermost, None);
    }

    /// Slots along the axes of the fan below a segment.
    fn fan(&mut self, segment: usize) {
        let axes = &self.space.segments[segment].axes;
        if !axes.is_empty() {
            self.nest.items.push(Item::Fan);
        }
        for (index, axis) in axes.iter().enumerate().rev() {
            let turn = axis.turn.iter().copied();
            for dim in turn.filter(|d| axis.accepts.has(*d)) {
                let axis = index;
                self.slot(dim, Kind::Space { segment, axis }, None);
            }
        }
    }

    fn slot(&mut self, dim: usize, kind: Kind, memory: Option<(usize, usize)>) {
        self.nest.items.push(Item::Slot);
        self.nest.slots.push(Slot {
            dim,
            kind,
            bits: 0,
            memory,
        });
    }

    /// The next storage of a segment outside that of operand `top`. Whether to go on.
    fn segment(&mut self, segment: usize, top: Option<usize>) -> bool {
        let mut last = true;
        for o in 0..self.placed.len() {
            let Some(at) = self.placed[o].checked_sub(1).filter(|at| *at > 0) else {
                continue;
            };
            let (s, memory) = self.placement.chains[o][at];
            if s != segment {
                continue;
            }
            last = false;
            self.placed[o] -= 1;
            let go_on = self.storage(segment, memory, o, top);
            self.placed[o] += 1;
            if !go_on {
                return false;
            }
        }
        match (last, segment) {
            (false, _) => true,
            (true, 0) => self.whole(top),
            (true, _) => {
                let (items, slots) = (self.nest.items.len(), self.nest.slots.len());
                self.fan(segment - 1);
                let go_on = self.segment(segment - 1, top);
                self.nest.items.truncate(items);
                self.nest.slots.truncate(slots);
                go_on
            }
        }
    }

    /// A storage, with and without a loop that slides directly above it.
    fn storage(&mut self, segment: usize, memory: usize, o: usize, top: Option<usize>) -> bool {
        let (items, slots) = (self.nest.items.len(), self.nest.slots.len());
        let outer = &self.space.operands[o];
        let plain = outer.plain.minus(self.space.ruled);
        let allowed = self.indexed(top).minus(plain);
        self.gap((segment, memory), allowed, Kind::Time { slides: false });
        self.nest.items.push(Item::Keep { operand: o, memory });
        self.nest.storages.push(Storage {
            operand: o,
            segment,
            memory,
            at: self.nest.slots.len(),
            slid: false,
        });
        let go_on = self.slides(segment, o);
        self.nest.storages.pop();
        self.nest.items.truncate(items);
        self.nest.slots.truncate(slots);
        go_on
    }

    fn slides(&mut self, segment: usize, o: usize) -> bool {
        let slides = self.space.operands[o].slides;
        if !self.segment(segment, Some(o)) {
            return false;
        }
        for d in (0..self.space.dims.len()).filter(|d| slides.has(*d)) {
            self.slot(d, Kind::Time { slides: true }, None);
            self.slid(true);
            let go_on = self.segment(segment, Some(o));
            self.slid(false);
            self.nest.items.pop();
            self.nest.slots.pop();
            if !go_on {
                return false;
            }
        }
        true
    }

    fn slid(&mut self, slid: bool) {
        if let Some(storage) = self.nest.storages.last_mut() {
            storage.slid = slid;
        }
    }

    /// Dimensions of an operand, and those that constraints name: loops over others are better further in.
    fn indexed(&self, operand: Option<usize>) -> Mask {
        let operand = operand.map(|o| &self.space.operands[o]);
        operand.map_or(Mask::ALL, |o| o.indexed.or(self.space.ruled))
    }

    /// Slots of loops in time at a memory. Where their order is free, those come last that would slide where the nest
    /// says that nothing does, or once more.
    fn gap(&mut self, memory: (usize, usize), allowed: Mask, kind: Kind) {
        let space = self.space;
        let turn = &space.segments[memory.0].memories[memory.1].turn;
        let here = |d: &usize| *d < space.dims.len() && allowed.has(*d);
        let mut dims: Vec<usize> = turn.iter().copied().filter(here).collect();
        dims.retain(|d| !self.forbids(memory, *d));
        if let Some(inner) = self.nest.storages.last()
            && space.rules.is_empty()
        {
            let last = bad(&self.nest, inner, &space.operands[inner.operand]);
            dims.sort_by_key(|d| last.has(*d));
        }
        for dim in dims {
            self.slot(dim, kind, Some(memory));
        }
    }

    fn forbids(&self, memory: (usize, usize), dim: usize) -> bool {
        let here = |r: &&Rule| (r.segment, r.memory) == memory;
        let mut rules = self.space.rules.iter().filter(here);
        rules.any(|r| r.forbidden.has(dim))
    }

    /// All storages are placed: the loops outside, and what is asked of all of them.
    fn whole(&mut self, top: Option<usize>) -> bool {
        let (items, slots) = (self.nest.items.len(), self.nest.slots.len());
        let homes = self.placement.chains.iter().map(|c| c[0].1);
        let memory = (0, homes.min().unwrap_or(0));
        self.gap(memory, self.indexed(top), Kind::Rest);
        let mut nest = self.nest.clone();
        let go_on = match self.settle(&mut nest, memory) {
            false => true,
            true if self.check(&mut nest).is_some() => (self.visit)(&nest),
            true => {
                self.overflow = true;
                false
            }
        };
        self.nest.items.truncate(items);
        self.nest.slots.truncate(slots);
        go_on
    }

    /// Puts loops that slide at the memory of the next storage outside. Whether they may be there.
    fn settle(&self, nest: &mut Nest, outermost: (usize, usize)) -> bool {
        (0..nest.storages.len()).all(|i| {
            let storage = nest.storages[i];
            let outer = nest.storages.get(i + 1);
            let memory = outer.map_or(outermost, |s| (s.segment, s.memory));
            let slot = &mut nest.slots[storage.at..];
            match slot.first_mut().filter(|_| storage.slid) {
                Some(slot) => {
                    slot.memory = Some(memory);
                    !self.forbids(memory, slot.dim)
                }
                None => true,
            }
        })
    }

    /// Adds the checks; none if there are too few bits.
    fn check(&self, nest: &mut Nest) -> Option<()> {
        for i in 0..nest.storages.len() {
            let storage = nest.storages[i];
            let operand = &self.space.operands[storage.operand];
            let outer = nest.storages.get(i + 1).copied();
            let end = outer.map_or(nest.slots.len(), |s| s.at);
            if !operand.slides.is_empty() {
                sliding(nest, storage, end, operand)?;
            }
            let Some(outer) = outer else { continue };
            let swaps = self.space.operands[outer.operand].slides.is_empty();
            let swaps = swaps && self.space.rules.is_empty();
            // Two storages without a loop between are told in one order only, unless it matters outside.
            if swaps && outer.segment == storage.segment && storage.operand > outer.operand {
                any(nest, storage.at..end)?;
            }
        }
        self.orders(nest)
    }

    /// Loops at a memory of a given order stand in it.
    fn orders(&self, nest: &mut Nest) -> Option<()> {
        for rule in self.space.rules.iter().filter(|r| r.order.len() > 1) {
            let here = Some((rule.segment, rule.memory));
            let place = |s: &Slot| rule.order.iter().position(|d| *d == s.dim);
            let mine = |i: &usize| nest.slots[*i].memory == here;
            let slots: Vec<usize> = (0..nest.slots.len()).filter(mine).collect();
            for (n, inner) in slots.iter().enumerate() {
                for outer in &slots[n + 1..] {
                    let places = (place(&nest.slots[*inner]), place(&nest.slots[*outer]));
                    if let (Some(a), Some(b)) = places
                        && b < a
                    {
                        let (x, y) = (nest.bit()?, nest.bit()?);
                        nest.slots[*inner].bits |= x;
                        nest.slots[*outer].bits |= y;
                        nest.checks.push(Check::NotAll(x | y));
                    }
                }
            }
        }
        Some(())
    }
}

/// One of some slots is taken.
fn any(nest: &mut Nest, slots: std::ops::Range<usize>) -> Option<()> {
    let bit = nest.bit()?;
    nest.slots[slots].iter_mut().for_each(|s| s.bits |= bit);
    nest.checks.push(Check::Any(bit));
    Some(())
}

/// Dimensions of which no loop in time may stand directly above a storage, or above the loop that slides there: what
/// slides is what the nest says, and a second loop of the dimension that slides would be the same loop.
fn bad(nest: &Nest, storage: &Storage, operand: &Operand) -> Mask {
    match nest.slots.get(storage.at).filter(|_| storage.slid) {
        Some(slot) => Mask::one(slot.dim),
        None => operand.slides,
    }
}

/// Loops above a storage slide as the nest says.
fn sliding(nest: &mut Nest, storage: Storage, end: usize, operand: &Operand) -> Option<()> {
    let mut slots = storage.at..end;
    let bad = bad(nest, &storage, operand);
    if storage.slid {
        any(nest, storage.at..storage.at + 1)?;
        slots.next();
    }
    let (mut of, mut bads, mut last) = (0, 0, None);
    for i in slots {
        let slot = nest.slots[i];
        let is_bad = bad.has(slot.dim) && !matches!(slot.kind, Kind::Space { .. });
        // Neighbours that are alike share a bit.
        let bit = match last {
            Some((bit, was)) if was == is_bad => bit,
            _ => nest.bit()?,
        };
        last = Some((bit, is_bad));
        nest.slots[i].bits |= bit;
        of |= bit;
        bads |= if is_bad { bit } else { 0 };
    }
    if bads != 0 {
        nest.checks.push(Check::Lowest { of, bad: bads });
    }
    Some(())
}
