//! What the tiles of one operand cost along their sequence.
//!
//! The tiles that a storage level's child goes through are boxes of one shape. Walking the sampled sequence, the
//! state is: how far the box moved since the last visit, the stride that was last rewarded, and the last delta.
//! The same states come back over and over, so the walk remembers the totals of each (loop, state): its effort
//! grows with the number of loops, not with two to its power.

use rustc_hash::FxHashMap;

use super::Release;
use super::space::{Demand, Space};

/// Sums over all steps, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    /// Read from the parent (each shared element once).
    pub reads: u128,
    /// Received from the parent, over all instances.
    pub received: u128,
    /// Received from neighbours, over all instances.
    pub linked: u128,
}

impl Totals {
    fn plus(self, other: Self, times: u128) -> Option<Self> {
        let add = |a: u128, b: u128| a.checked_add(b.checked_mul(times)?);
        Some(Self {
            reads: add(self.reads, other.reads)?,
            received: add(self.received, other.received)?,
            linked: add(self.linked, other.linked)?,
        })
    }
}

/// A temporal loop as an operand sees it.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// Iterations.
    pub trips: u64,
    /// How far one iteration moves the box.
    pub moves: Vec<i64>,
}

/// A box relative to the tile's own corner: `[low, high)` of each rank; empty if `low == high`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Delta {
    low: Vec<i64>,
    high: Vec<i64>,
}

impl Delta {
    fn whole(extents: &[i64]) -> Self {
        Self {
            low: vec![0; extents.len()],
            high: extents.to_vec(),
        }
    }
    fn empty(ranks: usize) -> Self {
        Self {
            low: vec![0; ranks],
            high: vec![0; ranks],
        }
    }
    fn size(&self) -> u128 {
        let sides = self.low.iter().zip(&self.high);
        sides.map(|(l, h)| (h - l).max(0) as u128).product()
    }
    fn shape(&self) -> impl Iterator<Item = i64> + '_ {
        self.low.iter().zip(&self.high).map(|(l, h)| h - l)
    }
}

/// The part of a box that it did not cover before it moved by `shift`. Boxes that differ along more than one axis
/// share nothing that hardware could keep.
fn not_held(extents: &[i64], shift: &[i64]) -> Delta {
    let mut delta = Delta::whole(extents);
    let mut moved = shift.iter().enumerate().filter(|(_, s)| **s != 0);
    let (Some((rank, by)), None) = (moved.next(), moved.next()) else {
        return if shift.iter().all(|s| *s == 0) {
            Delta::empty(extents.len())
        } else {
            delta
        };
    };
    if by.abs() < extents[rank] {
        if *by > 0 {
            delta.low[rank] = extents[rank] - by;
        } else {
            delta.high[rank] = -by;
        }
    }
    delta
}

/// State before a visit. Numbers refer to the walk's tables; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    /// How far the box moved since the last visit.
    shift: usize,
    /// The stride along which held parts are kept.
    stride: usize,
    /// What the last visit fetched.
    last: usize,
}

/// A walk along the tiles of one operand.
pub(super) struct Walk<'a> {
    release: Release,
    steps: &'a [Step],
    extents: Vec<i64>,
    /// Whether a tile stays until the next; not so directly at the compute units.
    holds: bool,
    space: Option<Space>,
    /// Shift `i + 1`: one iteration of loop `i`, after all loops inside it have run.
    shifts: Vec<Vec<i64>>,
    /// Delta `i + 1`.
    deltas: Vec<Delta>,
    known: FxHashMap<(usize, State), (Totals, State)>,
}

impl<'a> Walk<'a> {
    /// A walk of boxes of `extents` through temporal loops, outermost first; with the instances below, if there
    /// are several.
    pub fn new(
        release: Release,
        steps: &'a [Step],
        extents: Vec<i64>,
        holds: bool,
        space: Option<Space>,
    ) -> Self {
        // Inner loops are left at their second iteration.
        let mut left = vec![0i64; extents.len()];
        let mut shifts = Vec::new();
        for step in steps.iter().rev() {
            shifts.push(step.moves.iter().zip(&left).map(|(m, l)| m - l).collect());
            left.iter_mut().zip(&step.moves).for_each(|(l, m)| *l += m);
        }
        shifts.reverse();
        Self {
            release,
            steps,
            extents,
            holds,
            space,
            shifts,
            deltas: Vec::new(),
            known: FxHashMap::default(),
        }
    }

    /// The totals; none on overflow.
    pub fn totals(mut self) -> Option<Totals> {
        if !self.holds && self.space.is_none() {
            return self.every_visit();
        }
        let start = State {
            shift: 0,
            stride: 0,
            last: 0,
        };
        self.visit(0, start).map(|(totals, _)| totals)
    }

    /// The totals where each visit asks for the whole box.
    fn every_visit(&self) -> Option<Totals> {
        let trips = self.steps.iter().map(|s| u128::from(s.trips));
        let reads = trips
            .chain([Delta::whole(&self.extents).size()])
            .try_fold(1, u128::checked_mul)?;
        Some(Totals {
            reads,
            received: reads,
            linked: 0,
        })
    }

    /// Totals of all iterations of the loops from `depth` inwards, and the state that they leave (its shift is
    /// not meant).
    fn visit(&mut self, depth: usize, state: State) -> Option<(Totals, State)> {
        if depth == self.steps.len() {
            return Some(self.fetch(state));
        }
        if let Some(known) = self.known.get(&(depth, state)) {
            return Some(*known);
        }
        let (first, after) = self.visit(depth + 1, state)?;
        let again = State {
            shift: depth + 1,
            ..after
        };
        let (rest, end) = self.visit(depth + 1, again)?;
        let totals = first.plus(rest, u128::from(self.steps[depth].trips - 1))?;
        self.known.insert((depth, state), (totals, end));
        Some((totals, end))
    }

    /// One visit.
    fn fetch(&mut self, state: State) -> (Totals, State) {
        let (delta, stride) = self.delta(state);
        let size = delta.size();
        let demand = self.demand(&delta, state);
        let totals = Totals {
            reads: size * u128::from(demand.reads),
            received: size * u128::from(demand.received),
            linked: size * u128::from(demand.linked),
        };
        let last = match self.deltas.iter().position(|d| *d == delta) {
            Some(known) => known + 1,
            None => {
                self.deltas.push(delta);
                self.deltas.len()
            }
        };
        let after = State {
            shift: 0,
            stride,
            last,
        };
        (totals, after)
    }

    fn shift(&self, number: usize) -> Option<&Vec<i64>> {
        self.shifts.get(number.checked_sub(1)?)
    }

    fn delta(&self, state: State) -> (Delta, usize) {
        let whole = Delta::whole(&self.extents);
        let (Some(shift), true) = (self.shift(state.shift), self.holds) else {
            return (whole, state.stride);
        };
        let stays = shift.iter().all(|s| *s == 0);
        if stays && self.release == Release::Current {
            return (Delta::empty(self.extents.len()), state.stride);
        }
        match self.shift(state.stride) {
            None => (not_held(&self.extents, shift), state.shift),
            Some(stride) if stride == shift => (not_held(&self.extents, shift), state.stride),
            Some(_) => (whole, 0),
        }
    }

    fn demand(&mut self, delta: &Delta, state: State) -> Demand {
        let Some(space) = &mut self.space else {
            return Demand {
                reads: 1,
                received: 1,
                linked: 0,
            };
        };
        let shift = state.shift.checked_sub(1).and_then(|s| self.shifts.get(s));
        let last = state.last.checked_sub(1).and_then(|d| self.deltas.get(d));
        let (Some(shift), Some(last)) = (shift, last) else {
            return space.plain();
        };
        if delta.size() == 0 || !delta.shape().eq(last.shape()) {
            return space.plain();
        }
        let corner = delta
            .low
            .iter()
            .zip(&last.low)
            .map(|(now, then)| now - then);
        let moved: Vec<i64> = shift.iter().zip(corner).map(|(s, c)| s + c).collect();
        space.moved(&moved)
    }
}
