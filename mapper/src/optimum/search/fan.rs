//! Dimensions along the axes of a fan.

use super::front::Front;
use super::{Goal, NONE, Place, Search, State, Step};
use crate::hierarchy::Mask;

impl Search<'_> {
    /// All ways to lay dimensions along the axes of the fan below a segment, one axis after the other.
    pub(super) fn spread(
        &mut self,
        segment: usize,
        mut states: Vec<State>,
        goal: &Goal,
    ) -> Vec<State> {
        let axes = self.space.segments[segment].axes.len();
        if axes > 0 {
            for s in &mut states {
                s.steps = self.push(s.steps, Step::Fan);
                s.below = s.tile;
            }
        }
        for axis in (0..axes).rev() {
            let mut keep = Front::default();
            for s in &mut states {
                self.axis((segment, axis), s, 0, 1, goal, &mut keep);
                if self.work.cut {
                    let bound = self.bound((segment, axis + 1), s, goal);
                    self.work.leave(bound.0);
                }
            }
            self.work.dominated += keep.dominated;
            states = keep.states;
        }
        states
    }

    /// Lays dimensions from the `turn`-th on along an axis of which `used` instances are taken.
    fn axis(
        &mut self,
        (segment, index): Place,
        s: &mut State,
        turn: usize,
        used: u64,
        goal: &Goal,
        keep: &mut Front,
    ) {
        if self.spent() {
            return;
        }
        let space = self.space;
        let axis = &space.segments[segment].axes[index];
        let open = |t: &usize| axis.accepts.has(axis.turn[*t]);
        let Some(turn) = (turn..space.dims.len()).find(open) else {
            self.work.expanded += 1;
            let refused = used < axis.least || (index == 0 && !self.obeys(segment, s));
            let mut whole = *s;
            if index == 0 && !space.perfect {
                self.partial(segment, &mut whole);
            }
            self.along_noted((segment, index), &mut whole);
            if refused {
                self.work.bounded += 1;
                self.infeasible(whole.node);
            } else if self.worse((segment, index), &mut whole, goal) {
                self.work.bounded += 1;
                self.bounded((segment, index), &whole, goal);
            } else {
                let needless = keep.add(self, (segment, index), whole, goal.compares());
                self.needless(needless);
            }
            return;
        };
        let dim = axis.turn[turn];
        let later = axis.turn[turn..].iter().copied();
        let later = later.fold(Mask::NONE, Mask::with).and(axis.accepts);
        let left = (later, axis.size / used);
        if self.record.is_none() {
            s.alive = self.hopeful_along((segment, index), s, left, goal);
            if s.alive.is_empty() {
                self.work.bounded += 1;
                return;
            }
        }
        let alive = s.alive;
        self.axis((segment, index), s, turn + 1, used, goal, keep);
        // What bounds it without this dimension does not bound it with it.
        s.alive = alive;
        let (tile, size) = (s.tile[dim], space.sizes[dim]);
        let count = size.div_ceil(tile);
        let most = (axis.size / used).min(u64::from(count)) as u32;
        for factor in (2..=most).filter(|f| !space.perfect || count.is_multiple_of(*f)) {
            let mut next = *s;
            next.tile[dim] = tile.saturating_mul(factor).min(size);
            let step = Step::Spread {
                axis: index as u8,
                dim: dim as u8,
                tile,
            };
            next.steps = self.push(s.steps, step);
            let trips = next.tile[dim].div_ceil(tile);
            self.share((segment, index), dim, trips, &mut next);
            let used = used * u64::from(trips);
            self.axis((segment, index), &mut next, turn + 1, used, goal, keep);
        }
    }

    /// Whether the loops of a whole fan are as asked.
    fn obeys(&self, segment: usize, s: &State) -> bool {
        let segment = &self.space.segments[segment];
        let trips = |d: usize| s.tile[d].div_ceil(s.below[d]);
        let used: f64 = (0..self.space.dims.len())
            .map(|d| f64::from(trips(d)))
            .product();
        let instances: f64 = segment.axes.iter().map(|a| a.size as f64).product();
        segment.given.iter().all(|(d, n)| trips(*d) == *n) && used >= segment.least * instances
    }

    /// What laying `trips` tiles of a dimension along an axis changes outside, at least: with partial tiles the exact
    /// counts follow when the fan is whole ([`Self::partial`]).
    fn share(&self, (segment, index): Place, dim: usize, trips: u32, s: &mut State) {
        let axis = &self.space.segments[segment].axes[index];
        let trips = f64::from(trips);
        s.time /= trips;
        s.compute /= trips;
        for port in &mut s.ports {
            *port = (port.0 / trips, port.1 / trips);
        }
        for (o, operand) in self.space.operands.iter().enumerate() {
            if operand.indexed.has(dim) {
                continue;
            }
            let shared = axis.shares.has(o);
            if shared {
                s.asked[o] /= trips;
            }
            if operand.is_output {
                s.saved.iter_mut().for_each(|saved| *saved *= trips);
                s.first *= if shared { 1.0 } else { trips };
                for port in &mut s.ports {
                    port.1 *= trips;
                }
            }
        }
    }

    /// Counts partial tiles of a whole fan exactly: of the dimensions that no fan outside takes further. Where the last
    /// tile of a loop goes depends on those outside.
    fn partial(&self, segment: usize, s: &mut State) {
        let open = self.limits[segment][0].dims;
        for dim in 0..self.space.dims.len() {
            let (inner, outer) = (s.below[dim], s.tile[dim]);
            if inner == outer || (open.has(dim) && outer < self.space.sizes[dim]) {
                continue;
            }
            let cuts = self.along(s, dim);
            let trips = |shared: &dyn Fn(usize) -> bool| -> f64 {
                let mut from = outer;
                let mut trips = 1.0;
                for (axis, tile) in &cuts {
                    if shared(*axis) {
                        trips *= f64::from(from.div_ceil(*tile));
                    }
                    from = *tile;
                }
                trips
            };
            let axes = &self.space.segments[segment].axes;
            let exact = trips(&|_| true) * self.speed(self.space.sizes[dim], inner, outer);
            // Uneven tiles do not fall to instances as iterations do: the busiest has the average, at least.
            let ports = if s.uneven.has(dim) { 1.0 } else { exact };
            s.time *= ports;
            s.compute *= exact;
            s.time = s.time.max(s.compute);
            // The busiest instance has all of its own first visits, whatever it sums over.
            let output = self.space.operands.iter().find(|o| o.is_output);
            let sums = output.is_none_or(|o| !o.indexed.has(dim));
            for port in &mut s.ports {
                *port = (port.0 * ports, port.1 * if sums { 1.0 } else { exact });
            }
            for (o, operand) in self.space.operands.iter().enumerate() {
                if operand.indexed.has(dim) {
                    continue;
                }
                let shared = |axis: usize| axes[axis].shares.has(o);
                let kept = s.kept[o][dim];
                let size = self.space.sizes[dim];
                let (full, rest) = (size / outer, size % outer);
                let served = f64::from(full) * served(outer, kept, &cuts, &shared)
                    + served(rest, kept, &cuts, &shared);
                s.asked[o] *= trips(&shared) * served / f64::from(size.div_ceil(kept));
                if operand.is_output {
                    let all = instances(outer, &cuts, &|_| true) / trips(&|_| true);
                    s.saved.iter_mut().for_each(|saved| *saved *= all);
                    let apart = |axis: usize| !shared(axis);
                    s.first *= instances(outer, &cuts, &apart) / trips(&apart);
                }
            }
        }
        s.uneven = Mask::ALL;
    }

    /// Loops of a dimension along the axes of the fan just told, outer first: axis and tile inside.
    fn along(&self, s: &State, dim: usize) -> Vec<(usize, u32)> {
        let mut cuts = Vec::new();
        let mut at = s.steps;
        while at != NONE {
            match self.arena[at as usize] {
                (_, Step::Fan) => break,
                (_, Step::Spread { axis, dim: d, tile }) if usize::from(d) == dim => {
                    cuts.push((usize::from(axis), tile));
                }
                _ => {}
            }
            at = self.arena[at as usize].0;
        }
        cuts
    }

    /// Share of a dimension's iterations that the busiest instance has left.
    fn speed(&self, size: u32, tile: u32, outer: u32) -> f64 {
        let (full, rest) = (size / outer, size % outer);
        f64::from(full * tile + rest.min(tile)) / f64::from(size)
    }
}

/// Tiles `kept` of an extent that are served where shared loops count once.
fn served(extent: u32, kept: u32, cuts: &[(usize, u32)], shared: &dyn Fn(usize) -> bool) -> f64 {
    match cuts.split_first() {
        None => f64::from(extent.div_ceil(kept)),
        Some(((axis, tile), inner)) if shared(*axis) => {
            served(extent.min(*tile), kept, inner, shared)
        }
        Some(((_, tile), inner)) => {
            let full = f64::from(extent / tile);
            let whole = if full > 0.0 {
                served(*tile, kept, inner, shared)
            } else {
                0.0
            };
            full * whole + served(extent % tile, kept, inner, shared)
        }
    }
}

/// Instances of the counted loops that have work.
fn instances(extent: u32, cuts: &[(usize, u32)], counted: &dyn Fn(usize) -> bool) -> f64 {
    match cuts.split_first() {
        None => f64::from(extent.min(1)),
        Some(((axis, tile), inner)) if !counted(*axis) => {
            instances(extent.min(*tile), inner, counted)
        }
        Some(((_, tile), inner)) => {
            let full = f64::from(extent / tile);
            let whole = if full > 0.0 {
                instances(*tile, inner, counted)
            } else {
                0.0
            };
            full * whole + instances(extent % tile, inner, counted)
        }
    }
}
