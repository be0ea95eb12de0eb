//! What a partial mapping can become at best.

use super::{Goal, Place, Score, Search, State};
use crate::hierarchy::Mask;
use crate::optimum::space::{MEMORIES, OPERANDS, PORTS, Space};

/// The most that spatial loops further out can do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Instances that one word of each operand serves.
    pub(super) shared: [f64; OPERANDS],
    /// Instances.
    pub(super) instances: f64,
    /// Instances that differ in dimensions which do not index the output.
    pub(super) unindexed: f64,
    /// Dimensions that may be laid along them.
    pub(super) dims: Mask,
}

impl Limits {
    pub(super) fn all(space: &Space) -> Vec<Vec<Self>> {
        let mut limits = Self {
            shared: [1.0; OPERANDS],
            instances: 1.0,
            unindexed: 1.0,
            dims: Mask::NONE,
        };
        let mut all = Vec::new();
        for segment in &space.segments {
            let mut here = vec![limits];
            for axis in &segment.axes {
                let size = axis.size as f64;
                for (o, operand) in space.operands.iter().enumerate() {
                    let free = !axis.accepts.minus(operand.indexed).is_empty();
                    if free && axis.shares.has(o) {
                        limits.shared[o] *= size;
                    }
                    if free && operand.is_output {
                        limits.unindexed *= size;
                    }
                }
                if !axis.accepts.is_empty() {
                    limits.instances *= size;
                }
                limits.dims = limits.dims.or(axis.accepts);
                here.push(limits);
            }
            all.push(here);
        }
        all
    }
}

/// Cycles of the ports of memories of segment 0, by memory.
pub(super) type LeastCycles = Vec<(usize, [f64; PORTS])>;

impl Search<'_> {
    /// Least energy of all storages of an operand outside its `i`-th one: each element passes each once.
    pub(super) fn outside_of(&self, o: usize) -> Vec<f64> {
        let chain = &self.placement.chains[o];
        let operand = &self.space.operands[o];
        let mut sums = vec![0.0, 0.0];
        for pair in chain.windows(2) {
            let (parent, child) = (self.memory(pair[0]), self.memory(pair[1]));
            let served = operand.least * self.limits[pair[0].0][0].shared[o]
                / self.limits[pair[1].0][0].shared[o];
            let (above, below) = (parent.rates[o].energy, child.rates[o].energy);
            let energy = if operand.is_output {
                operand.least * below[1] + served * above[3]
            } else {
                operand.least * below[0] + served * above[2]
            };
            sums.push(sums[sums.len() - 1] + energy);
        }
        sums
    }

    /// Least cycles of the ports of segment 0's memories for the storages of an operand outside its `i`-th.
    pub(super) fn least_cycles_of(&self, o: usize) -> Vec<LeastCycles> {
        let chain = &self.placement.chains[o];
        let operand = &self.space.operands[o];
        let mut sums: Vec<LeastCycles> = vec![Vec::new(), Vec::new()];
        for pair in chain.windows(2) {
            let mut sum = sums[sums.len() - 1].clone();
            let served = operand.least * self.limits[pair[0].0][0].shared[o]
                / self.limits[pair[1].0][0].shared[o];
            let kinds = if operand.is_output { (1, 3) } else { (0, 2) };
            for (node, kind, words) in [
                (pair[1], kinds.0, operand.least),
                (pair[0], kinds.1, served),
            ] {
                if node.0 == 0 {
                    let ports = self.memory(node).rates[o].cycles[kind].map(|c| c * words);
                    sum.push((node.1, ports));
                }
            }
            sums.push(sum);
        }
        sums
    }

    /// A lower bound of what a partial mapping in a segment can become.
    pub(super) fn bound(&self, (segment, axes): Place, s: &State, goal: &Goal) -> Score {
        self.bound_within(&self.limits[segment][axes], s, goal)
    }

    /// The same, with what spatial loops further out can do at most.
    fn bound_within(&self, limits: &Limits, s: &State, goal: &Goal) -> Score {
        let mut energy = s.energy - s.saved * limits.unindexed;
        // What serving each operand's outermost storage costs before spatial sharing.
        let mut serving = [0.0; OPERANDS];
        let mut cycles = [[0.0; PORTS]; MEMORIES];
        let mut busiest: f64 = 0.0;
        for (o, operand) in self.space.operands.iter().enumerate() {
            let placed = usize::from(s.placed[o]);
            if placed == 0 {
                continue;
            }
            let parent = self.placement.chains[o][placed - 1];
            let share = limits.shared[o] / self.limits[parent.0][0].shared[o];
            let rates = &self.memory(parent).rates[o];
            energy += self.outside[o][placed];
            let asked = s.asked[o];
            let again = if operand.is_output {
                (asked - s.first * limits.unindexed * share).max(0.0)
            } else {
                asked
            };
            let update = if operand.is_output { asked } else { 0.0 };
            serving[o] = update * rates.energy[3] + again * rates.energy[2];
            if parent.0 == 0 {
                for (p, port) in cycles[parent.1].iter_mut().enumerate() {
                    *port += (update * rates.cycles[3][p] + again * rates.cycles[2][p]) / share;
                }
            }
            for (m, ports) in &self.least_cycles[o][placed] {
                let sums = cycles[*m].iter_mut().zip(ports);
                sums.for_each(|(sum, port)| *sum += port);
            }
        }
        energy += self.shared_serving(limits, s, &serving);
        for c in cycles.iter().flatten() {
            busiest = busiest.max(*c);
        }
        let time = s.time / limits.instances;
        let time = time.max(busiest * self.space.compute_rate / self.space.operations);
        self.score(energy, time, goal)
    }

    /// Least cost of serving operands through the fans outside, each shared as far as it goes: alone by its largest
    /// share, together so that the product of shares is at most that of the instances, if every dimension leaves
    /// at most one operand unindexed (the arithmetic mean is at least the geometric one).
    fn shared_serving(&self, limits: &Limits, s: &State, serving: &[f64; OPERANDS]) -> f64 {
        let mut alone = 0.0;
        let (mut product, mut count, mut together) = (1.0, 0, 0.0);
        for (o, cost) in serving.iter().enumerate().take(self.space.operands.len()) {
            let placed = usize::from(s.placed[o]);
            if placed == 0 || *cost == 0.0 {
                continue;
            }
            let parent = self.placement.chains[o][placed - 1];
            let share = limits.shared[o] / self.limits[parent.0][0].shared[o];
            alone += cost / share;
            if share > 1.0 {
                product *= cost;
                count += 1;
            } else {
                together += cost;
            }
        }
        if count < 2 || !self.exclusive {
            return alone;
        }
        let mean = (product / limits.instances).powf(1.0 / f64::from(count));
        alone.max(together + mean * f64::from(count))
    }

    pub(super) fn score(&self, energy: f64, time: f64, goal: &Goal) -> Score {
        let cycles = time * self.space.operations / self.space.compute_rate;
        Score::new(
            self.objective,
            energy + goal.beside.0,
            cycles + goal.beside.1,
        )
    }

    /// A lower bound of everything in the placement.
    pub(in crate::optimum) fn root(&self) -> Score {
        let innermost = self.space.segments.len() - 1;
        let axes = self.space.segments[innermost].axes.len();
        self.bound((innermost, axes), &self.start(), &Goal::default())
    }

    /// Whether a partial mapping is no better than what is known even if the dimensions `later` take all of `left`
    /// instances along an axis.
    pub(super) fn worse_along(
        &self,
        (segment, index): Place,
        s: &State,
        (later, left): (Mask, u64),
        goal: &Goal,
    ) -> bool {
        let Some(limit) = goal.limit.filter(|_| !goal.exhaustive) else {
            return false;
        };
        let mut limits = self.limits[segment][index];
        let axis = &self.space.segments[segment].axes[index];
        let left = left as f64;
        limits.instances *= left;
        for (o, operand) in self.space.operands.iter().enumerate() {
            let free = !later.minus(operand.indexed).is_empty();
            if free && axis.shares.has(o) {
                limits.shared[o] *= left;
            }
            if free && operand.is_output {
                limits.unindexed *= left;
            }
        }
        !self.bound_within(&limits, s, goal).beats(limit)
    }

    pub(super) fn worse(&self, place: Place, s: &State, goal: &Goal) -> bool {
        !goal.exhaustive
            && goal
                .limit
                .is_some_and(|limit| !self.bound(place, s, goal).beats(limit))
    }
}
