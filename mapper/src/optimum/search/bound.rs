//! What a partial mapping can become at best.

use super::{Goal, Place, Score, Search, State};
use crate::hierarchy::Mask;
use crate::optimum::prices::{Bill, COLUMNS, Points};
use crate::optimum::space::{MEMORIES, OPERANDS, PORTS, Price, Space};

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

/// What is known of the storages of an operand that are still to come.
#[derive(Debug, Clone)]
pub(super) struct Coming {
    /// Instances that share one word of the next one, by axes outside of it.
    shared: f64,
    /// Price of serving an element from there, and of taking one back.
    energy: [Price; 2],
    /// Its place among the memories of segment 0, and the cycles of its ports for the same.
    port: Option<(usize, [[f64; PORTS]; 2])>,
    /// What all but the next one's serving moves at least: each element passes each once.
    outside: Bill,
    /// Least cycles of the ports of memories of segment 0 for the same, by memory.
    cycles: Vec<(usize, [f64; PORTS])>,
}

impl Search<'_> {
    /// For each number of storages of an operand still to come.
    pub(super) fn coming(&self, o: usize) -> Vec<Coming> {
        let chain = &self.placement.chains[o];
        let operand = &self.space.operands[o];
        let shared = |node: (usize, usize)| self.limits[node.0][0].shared[o];
        let mut all: Vec<Coming> = Vec::new();
        for (i, node) in chain.iter().enumerate() {
            let rates = &self.memory(*node).rates[o];
            let mut next = Coming {
                shared: shared(*node),
                energy: [rates.energy[2], rates.energy[3]],
                port: (node.0 == 0).then_some((node.1, [rates.cycles[2], rates.cycles[3]])),
                outside: [0.0; COLUMNS],
                cycles: Vec::new(),
            };
            if let Some(before) = all.last() {
                let parent = chain[i - 1];
                let served = operand.least * before.shared / next.shared;
                let (fill, serve) = if operand.is_output { (1, 3) } else { (0, 2) };
                let above = &self.memory(parent).rates[o];
                next.outside = before.outside;
                rates.energy[fill].count(operand.least, &mut next.outside);
                above.energy[serve].count(served, &mut next.outside);
                next.cycles.clone_from(&before.cycles);
                for (node, each, words) in [
                    (*node, &rates.cycles[fill], operand.least),
                    (parent, &above.cycles[serve], served),
                ] {
                    if node.0 == 0 {
                        next.cycles.push((node.1, each.map(|c| c * words)));
                    }
                }
            }
            all.push(next);
        }
        all
    }

    /// A lower bound of what a partial mapping in a segment can become, at the first point at which it may be best.
    pub(super) fn bound(&self, (segment, axes): Place, s: &State, goal: &Goal) -> Score {
        let outlook = self.outlook(&self.limits[segment][axes], s);
        let point = s.alive.iter().next().unwrap_or(0);
        let energy = self.energy(point, &outlook, |_| false);
        self.score(energy, outlook.time, goal)
    }

    /// What a partial mapping moves at least, with what spatial loops further out can do at most.
    fn outlook(&self, limits: &Limits, s: &State) -> Outlook<'_> {
        let columns = self.space.prices.columns;
        let mut outlook = Outlook {
            moved: s.moved,
            serves: [None; OPERANDS],
            instances: limits.instances,
            time: s.time / limits.instances,
        };
        for c in 0..columns {
            outlook.moved[c] -= s.saved[c] * limits.unindexed;
        }
        let mut cycles = [[0.0; PORTS]; MEMORIES];
        for (o, coming) in self.coming.iter().enumerate() {
            let Some(next) = usize::from(s.placed[o]).checked_sub(1).map(|n| &coming[n]) else {
                continue;
            };
            let share = limits.shared[o] / next.shared;
            let (mut again, mut update) = (s.asked[o], 0.0);
            if self.space.operands[o].is_output {
                update = again;
                again = (again - s.first * limits.unindexed * share).max(0.0);
            }
            for c in 0..columns {
                outlook.moved[c] += next.outside[c];
            }
            outlook.serves[o] = Some(Serve {
                again,
                update,
                share,
                energy: &next.energy,
            });
            if let Some((memory, [reads, writes])) = &next.port {
                let (again, update) = (again / share, update / share);
                for (p, port) in cycles[*memory].iter_mut().enumerate() {
                    *port += update * writes[p] + again * reads[p];
                }
            }
            for (m, ports) in &next.cycles {
                let sums = cycles[*m].iter_mut().zip(ports);
                sums.for_each(|(sum, port)| *sum += port);
            }
        }
        let memories = self.space.segments[0].memories.len();
        let mut busiest: f64 = 0.0;
        for c in cycles[..memories].iter().flatten() {
            busiest = if *c > busiest { *c } else { busiest };
        }
        let busiest = busiest * self.space.compute_rate / self.space.operations;
        outlook.time = outlook.time.max(busiest);
        outlook
    }

    /// Picojoules of all that a partial mapping becomes at a point, at least.
    ///
    /// Serving operands through the fans outside is shared as far as it goes: alone by the largest share of each,
    /// together so that the product of shares is at most that of the instances, if every dimension leaves
    /// at most one operand unindexed (the arithmetic mean is at least the geometric one).
    fn energy(&self, point: usize, outlook: &Outlook, enough: impl Fn(f64) -> bool) -> f64 {
        let prices = &self.space.prices;
        let bill = &prices.of[point];
        let energy = prices.compute[point] + prices.energy(point, &outlook.moved);
        let mut alone = 0.0;
        let (mut product, mut count, mut together) = (1.0, 0u32, 0.0);
        for serve in outlook.serves.iter().flatten() {
            let [again, update] = serve
                .energy
                .map(|price| price.each * bill[usize::from(price.column)]);
            let cost = serve.update * update + serve.again * again;
            if cost > 0.0 {
                alone += cost / serve.share;
                if serve.share > 1.0 {
                    product *= cost;
                    count += 1;
                } else {
                    together += cost;
                }
            }
        }
        if count > 1 && self.exclusive && !enough(energy + alone) {
            let mean = product / outlook.instances;
            let mean = match count {
                2 => mean.sqrt(),
                3 => mean.cbrt(),
                _ => mean.powf(1.0 / f64::from(count)),
            };
            alone = alone.max(together + mean * f64::from(count));
        }
        energy + alone
    }

    pub(super) fn score(&self, energy: f64, time: f64, goal: &Goal) -> Score {
        let cycles = time * self.space.operations / self.space.compute_rate;
        Score::new(
            self.objective,
            energy + goal.beside.0,
            cycles + goal.beside.1,
        )
    }

    /// Lower bounds of everything in the placement, by point.
    pub(in crate::optimum) fn root(&self) -> Vec<Score> {
        let innermost = self.space.segments.len() - 1;
        let axes = self.space.segments[innermost].axes.len();
        let outlook = self.outlook(&self.limits[innermost][axes], &self.start());
        let root = |point: usize| {
            let energy = self.energy(point, &outlook, |_| false);
            self.score(energy, outlook.time, &Goal::default())
        };
        (0..self.space.prices.points()).map(root).collect()
    }

    /// The points at which a partial mapping can become better than what is known, with what spatial loops further out
    /// can do at most.
    fn hopeful(&self, limits: &Limits, s: &State, goal: &Goal) -> Points {
        if goal.targets.iter().all(|t| t.limit.is_none()) {
            return s.alive;
        }
        let outlook = self.outlook(limits, s);
        let refused = |point: &usize| {
            let target = &goal.targets[*point];
            let refuses = |energy: f64| target.refuses(self.score(energy, outlook.time, goal));
            refuses(self.energy(*point, &outlook, refuses))
        };
        let all = s.alive.iter().filter(refused).map(Points::one);
        s.alive.minus(all.fold(Points::NONE, Points::or))
    }

    /// The points at which a partial mapping can become better than what is known if the dimensions `later` take all of
    /// `left` instances along an axis.
    pub(super) fn hopeful_along(
        &self,
        (segment, index): Place,
        s: &State,
        (later, left): (Mask, u64),
        goal: &Goal,
    ) -> Points {
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
        self.hopeful(&limits, s, goal)
    }

    /// Whether a partial mapping is no better than what is known at any point; those at which it is not are left out.
    pub(super) fn worse(&self, (segment, axes): Place, s: &mut State, goal: &Goal) -> bool {
        s.alive = self.hopeful(&self.limits[segment][axes], s, goal);
        s.alive.is_empty()
    }
}

/// What a partial mapping moves at least.
struct Outlook<'a> {
    /// All but serving what is asked for.
    moved: Bill,
    serves: [Option<Serve<'a>>; OPERANDS],
    /// Instances further out.
    instances: f64,
    /// Least time.
    time: f64,
}

/// Serving what is asked for of an operand.
#[derive(Clone, Copy)]
struct Serve<'a> {
    again: f64,
    update: f64,
    /// Instances that one word serves at most.
    share: f64,
    energy: &'a [Price; 2],
}
