//! Dimensions along the axes of a fan.

use super::front::Front;
use super::{Goal, Place, Search, State, Step};

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
            for s in &states {
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

    /// Lays dimensions from `dim` on along an axis of which `used` instances are taken.
    fn axis(
        &mut self,
        (segment, index): Place,
        s: &State,
        dim: usize,
        used: u64,
        goal: &Goal,
        keep: &mut Front,
    ) {
        if self.spent() {
            return;
        }
        let space = self.space;
        let axis = &space.segments[segment].axes[index];
        let Some(dim) = (dim..space.dims.len()).find(|d| axis.accepts.has(*d)) else {
            self.work.expanded += 1;
            let refused = used < axis.least || (index == 0 && !self.obeys(segment, s));
            if refused || self.worse((segment, index), s, goal) {
                self.work.bounded += 1;
            } else {
                keep.add(self, (segment, index), *s, goal.compares());
            }
            return;
        };
        self.axis((segment, index), s, dim + 1, used, goal, keep);
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
            self.share((segment, index), dim, tile, trips, &mut next);
            let used = used * u64::from(trips);
            self.axis((segment, index), &next, dim + 1, used, goal, keep);
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

    /// What laying `trips` tiles of a dimension along an axis changes outside.
    fn share(&self, (segment, index): Place, dim: usize, tile: u32, trips: u32, s: &mut State) {
        let axis = &self.space.segments[segment].axes[index];
        let trips = f64::from(trips);
        // Where the last tile of an inner loop goes depends on whether the dimension is laid along axes further out.
        let open = self.limits[segment][index].dims.has(dim) && s.tile[dim] < self.space.sizes[dim];
        let speed = if open {
            1.0 / trips
        } else {
            self.speed(self.space.sizes[dim], tile, s.tile[dim])
        };
        s.time *= speed;
        for port in &mut s.ports {
            *port = (port.0 * speed, port.1 * speed);
        }
        for (o, operand) in self.space.operands.iter().enumerate() {
            if operand.indexed.has(dim) {
                continue;
            }
            let shared = axis.shares.has(o);
            if shared {
                s.asked[o] *= if open {
                    1.0 / trips
                } else {
                    self.served(dim, s.kept[o][dim], tile, s.tile[dim])
                };
            }
            if operand.is_output {
                s.saved *= trips;
                s.first *= if shared { 1.0 } else { trips };
                for port in &mut s.ports {
                    port.1 *= trips;
                }
            }
        }
    }

    /// Share of the tiles `kept` of a dimension that the first instance has, if a loop from `outer` to `inner` is spread.
    pub(super) fn served(&self, dim: usize, kept: u32, inner: u32, outer: u32) -> f64 {
        let size = self.space.sizes[dim];
        let (full, rest) = (size / outer, (size % outer).min(inner));
        f64::from(full * inner.div_ceil(kept) + rest.div_ceil(kept))
            / f64::from(size.div_ceil(kept))
    }

    /// Share of a dimension's iterations that the busiest instance has left.
    fn speed(&self, size: u32, tile: u32, outer: u32) -> f64 {
        let (full, rest) = (size / outer, size % outer);
        f64::from(full * tile + rest.min(tile)) / f64::from(size)
    }
}
