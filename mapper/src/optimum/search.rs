//! The search of one placement: which memories keep which operands is given, everything else is found.

use rustc_hash::FxHashMap;

use super::space::{DIMS, Memory, OPERANDS, PORTS, Space, Tile};
use crate::hierarchy::Mask;
use crate::search::Objective;

/// Most ports below a fan that carry partial sums.
pub(super) const SLOTS: usize = 6;
/// Most memories of a segment.
const MEMORIES: usize = 6;

/// Which memories keep each operand, as (segment, memory of it), outermost first; the first is its home.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placement {
    pub chains: Vec<Vec<(usize, usize)>>,
}

/// A step of a mapping, told from the inside out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// A loop in time; the tile inside it.
    Grow { dim: u8, tile: u32 },
    /// A loop in space.
    Spread { axis: u8, dim: u8, tile: u32 },
    /// Storage.
    Keep { operand: u8, memory: u8 },
    /// The end of a segment, before the fan above it.
    Fan,
}

/// What is compared: the objective, then what breaks ties.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Score(pub f64, pub f64);

impl Score {
    pub(super) fn new(objective: Objective, energy: f64, time: f64) -> Self {
        match objective {
            Objective::Latency => Self(time, energy),
            Objective::Energy => Self(energy, time),
            Objective::Edp => Self(energy * time, energy),
        }
    }

    /// Smaller by more than rounding.
    pub(super) fn beats(self, other: Self) -> bool {
        let near = |a: f64, b: f64| a == b || (a - b).abs() <= 1e-12 * a.abs().max(b.abs());
        if near(self.0, other.0) {
            self.1 < other.1 && !near(self.1, other.1)
        } else {
            self.0 < other.0
        }
    }
}

/// A partial mapping: everything inside some place is decided.
#[derive(Debug, Clone, Copy)]
struct State {
    /// Tiles here.
    tile: Tile,
    /// Picojoules of what is decided, first visits not yet taken off.
    energy: f64,
    /// Picojoules that first visits save, for one iteration of the spatial loops outside that do not index the
    /// output.
    saved: f64,
    /// Time over that of one instance that does all operations.
    time: f64,
    /// Busy times of ports whose first visits are not settled: the time, and what one iteration of the spatial loops
    /// outside that do not index the output saves of it.
    ports: [(f64, f64); SLOTS],
    /// Elements that each operand's outermost storage so far (or the compute) asks of the next one outside.
    asked: [f64; OPERANDS],
    /// Of those of the output, the ones that start without a value.
    first: f64,
    /// Place in its chain of each operand's outermost storage so far.
    placed: [u8; OPERANDS],
    /// The operand of the outermost storage so far; `OPERANDS` for the compute.
    top: u8,
    /// Last step in the arena.
    steps: u32,
}

/// What is being decided within a segment.
#[derive(Debug, Clone, Copy)]
struct Local {
    state: State,
    /// The operand of the storage directly inside, of this segment, with no loop between.
    touching: Option<usize>,
    used: [f64; MEMORIES],
    /// Cycles of all operations of each port, and those that first visits save.
    ports: [[(f64, f64); PORTS]; MEMORIES],
}

/// Counters of work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Partial mappings looked at.
    pub expanded: u64,
    /// Those cut off by a bound.
    pub bounded: u64,
    /// Those cut off because another one is at least as good in everything.
    pub dominated: u64,
}

/// The best mapping so far.
#[derive(Debug, Clone)]
pub(super) struct Best {
    pub score: Score,
    pub energy: f64,
    pub time: f64,
    /// From the inside out.
    pub steps: Vec<Step>,
    pub placement: usize,
}

pub(super) struct Search<'a> {
    space: &'a Space,
    objective: Objective,
    placement: &'a Placement,
    index: usize,
    /// Least energy of the storages of an operand outside its `i`-th, by operand and `i`.
    outside: Vec<Vec<f64>>,
    /// Least cycles of the ports of memories of segment 0 for those storages.
    least_cycles: Vec<Vec<Vec<(usize, [f64; PORTS])>>>,
    /// Whether every dimension leaves at most one operand unindexed.
    exclusive: bool,
    /// Ports below a fan that carry partial sums: segment, memory, port.
    slots: Vec<(usize, usize, usize)>,
    /// Largest product of shared axes of the fans above a segment up to another one.
    shared: Vec<[f64; OPERANDS]>,
    /// Largest number of instances above a segment; of iterations that do not index the output.
    instances: Vec<f64>,
    unindexed: Vec<f64>,
    /// Steps with the one before.
    arena: Vec<(u32, Step)>,
    pub work: Work,
    pub limit: u64,
    tiles: Vec<Vec<u32>>,
}

const NONE: u32 = u32::MAX;

impl<'a> Search<'a> {
    pub(super) fn new(
        space: &'a Space,
        objective: Objective,
        placement: &'a Placement,
        index: usize,
        limit: u64,
    ) -> Self {
        let count = space.segments.len();
        let output = space.operands.len() - 1;
        let mut shared = vec![[1.0; OPERANDS]; count + 1];
        let (mut instances, mut unindexed) = (vec![1.0; count + 1], vec![1.0; count + 1]);
        for s in 0..count {
            shared[s + 1] = shared[s];
            instances[s + 1] = instances[s];
            unindexed[s + 1] = unindexed[s];
            for axis in &space.segments[s].axes {
                for (o, operand) in space.operands.iter().enumerate() {
                    if axis.shares.has(o) && !axis.accepts.minus(operand.indexed).is_empty() {
                        shared[s + 1][o] *= axis.size as f64;
                    }
                }
                if !axis.accepts.is_empty() {
                    instances[s + 1] *= axis.size as f64;
                }
                if !axis
                    .accepts
                    .minus(space.operands[output].indexed)
                    .is_empty()
                {
                    unindexed[s + 1] *= axis.size as f64;
                }
            }
        }
        let mut search = Self {
            space,
            objective,
            placement,
            index,
            outside: Vec::new(),
            least_cycles: Vec::new(),
            slots: slots(space),
            exclusive: (0..space.dims.len())
                .all(|d| space.operands.iter().filter(|o| !o.indexed.has(d)).count() <= 1),
            shared,
            instances,
            unindexed,
            arena: Vec::new(),
            work: Work::default(),
            limit,
            tiles: vec![Vec::new(); DIMS + 1],
        };
        search.outside = (0..=output).map(|o| search.outside_of(o)).collect();
        search.least_cycles = (0..=output).map(|o| search.least_cycles_of(o)).collect();
        search
    }

    fn memory(&self, (segment, memory): (usize, usize)) -> &'a Memory {
        &self.space.segments[segment].memories[memory]
    }

    /// Least energy of all storages of an operand outside its `i`-th one: each element passes each once.
    fn outside_of(&self, o: usize) -> Vec<f64> {
        let chain = &self.placement.chains[o];
        let operand = &self.space.operands[o];
        let mut sums = vec![0.0, 0.0];
        for pair in chain.windows(2) {
            let (parent, child) = (self.memory(pair[0]), self.memory(pair[1]));
            let served = operand.least * self.shared[pair[0].0][o] / self.shared[pair[1].0][o];
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
    fn least_cycles_of(&self, o: usize) -> Vec<Vec<(usize, [f64; PORTS])>> {
        let chain = &self.placement.chains[o];
        let operand = &self.space.operands[o];
        let mut sums: Vec<Vec<(usize, [f64; PORTS])>> = vec![Vec::new(), Vec::new()];
        for pair in chain.windows(2) {
            let mut sum = sums[sums.len() - 1].clone();
            let served = operand.least * self.shared[pair[0].0][o] / self.shared[pair[1].0][o];
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
    fn bound(&self, segment: usize, s: &State) -> Score {
        let mut energy = s.energy - s.saved * self.unindexed[segment];
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
            let share = self.shared[segment][o] / self.shared[parent.0][o];
            let rates = &self.memory(parent).rates[o];
            energy += self.outside[o][placed];
            let asked = s.asked[o];
            let again = if operand.is_output {
                (asked - s.first * self.unindexed[segment] * share).max(0.0)
            } else {
                asked
            };
            let update = if operand.is_output { asked } else { 0.0 };
            serving[o] = update * rates.energy[3] + again * rates.energy[2];
            if parent.0 == 0 {
                for p in 0..PORTS {
                    cycles[parent.1][p] +=
                        (update * rates.cycles[3][p] + again * rates.cycles[2][p]) / share;
                }
            }
            for (m, ports) in &self.least_cycles[o][placed] {
                for p in 0..PORTS {
                    cycles[*m][p] += ports[p];
                }
            }
        }
        energy += self.shared_serving(segment, s, &serving);
        for c in cycles.iter().flatten() {
            busiest = busiest.max(*c);
        }
        let time = s.time / self.instances[segment];
        let time = time.max(busiest * self.space.compute_rate / self.space.operations);
        self.score(energy, time)
    }

    /// Least cost of serving operands through the fans outside, each shared as far as it goes: alone by its largest
    /// share, together so that the product of shares is at most that of the instances, if every dimension leaves
    /// at most one operand unindexed (the arithmetic mean is at least the geometric one).
    fn shared_serving(&self, segment: usize, s: &State, serving: &[f64; OPERANDS]) -> f64 {
        let mut alone = 0.0;
        let (mut product, mut count, mut together) = (1.0, 0, 0.0);
        for (o, cost) in serving.iter().enumerate().take(self.space.operands.len()) {
            let placed = usize::from(s.placed[o]);
            if placed == 0 || *cost == 0.0 {
                continue;
            }
            let parent = self.placement.chains[o][placed - 1];
            let share = self.shared[segment][o] / self.shared[parent.0][o];
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
        let mean = (product / self.instances[segment]).powf(1.0 / f64::from(count));
        alone.max(together + mean * f64::from(count))
    }

    fn score(&self, energy: f64, time: f64) -> Score {
        Score::new(
            self.objective,
            energy,
            time * self.space.operations / self.space.compute_rate,
        )
    }

    fn push(&mut self, before: u32, step: Step) -> u32 {
        self.arena.push((before, step));
        (self.arena.len() - 1) as u32
    }

    /// Searches; a `beam` keeps only so many partial mappings at each fan (then nothing is proven).
    pub(super) fn run(&mut self, best: &mut Option<Best>, beam: Option<usize>) {
        self.arena.clear();
        let count = self.space.segments.len();
        let operations = self.space.operations;
        let start = State {
            tile: [1; DIMS],
            energy: operations * self.space.compute_energy,
            saved: 0.0,
            time: 1.0,
            ports: [(0.0, 0.0); SLOTS],
            asked: [operations; OPERANDS],
            first: self.space.operands.last().map_or(0.0, |o| {
                o.plain_size
                    * o.windows
                        .iter()
                        .map(|w| w.entering(&self.space.sizes, &[1; DIMS], None))
                        .product::<f64>()
            }),
            placed: std::array::from_fn(|o| {
                self.placement.chains.get(o).map_or(0, |c| c.len() as u8)
            }),
            top: OPERANDS as u8,
            steps: NONE,
        };
        let mut frontier = vec![start];
        for segment in (0..count).rev() {
            let spread = self.spread(segment, frontier, best);
            frontier = self.segment(segment, spread, best, beam);
            if segment > 0 && frontier.is_empty() {
                return;
            }
        }
    }

    fn worse(&self, segment: usize, s: &State, best: &Option<Best>) -> bool {
        best.as_ref()
            .is_some_and(|b| !self.bound(segment, s).beats(b.score))
    }

    /// All ways to lay dimensions along the axes of the fan below a segment.
    fn spread(&mut self, segment: usize, states: Vec<State>, best: &Option<Best>) -> Vec<State> {
        let axes = &self.space.segments[segment].axes;
        if axes.is_empty() {
            return states;
        }
        let mut keep = Front::default();
        for s in &states {
            let mut s = *s;
            s.steps = self.push(s.steps, Step::Fan);
            self.axis(
                segment,
                axes.len(),
                &s,
                0,
                1,
                [1.0; OPERANDS],
                (1.0, 1.0),
                best,
                &mut keep,
            );
        }
        self.work.dominated += keep.dominated;
        keep.states
    }

    /// Lays dimensions from `dim` on along axis `axes - 1`; then goes on with the axis outside it.
    #[allow(clippy::too_many_arguments)]
    fn axis(
        &mut self,
        segment: usize,
        axes: usize,
        s: &State,
        dim: usize,
        used: u64,
        shares: [f64; OPERANDS],
        unindexed: (f64, f64),
        best: &Option<Best>,
        keep: &mut Front,
    ) {
        if axes == 0 {
            let mut s = *s;
            for o in 0..self.space.operands.len() {
                s.asked[o] /= shares[o];
            }
            s.first *= unindexed.1;
            s.saved *= unindexed.0;
            for port in &mut s.ports {
                port.1 *= unindexed.0;
            }
            self.work.expanded += 1;
            if self.worse(segment, &s, best) {
                self.work.bounded += 1;
            } else {
                keep.add(self, segment, s);
            }
            return;
        }
        let space = self.space;
        let axis = &space.segments[segment].axes[axes - 1];
        if dim == space.dims.len() {
            if used >= axis.least {
                self.axis(segment, axes - 1, s, 0, 1, shares, unindexed, best, keep);
            }
            return;
        }
        self.axis(
            segment,
            axes,
            s,
            dim + 1,
            used,
            shares,
            unindexed,
            best,
            keep,
        );
        if !axis.accepts.has(dim) {
            return;
        }
        let (tile, size) = (s.tile[dim], space.sizes[dim]);
        let count = size.div_ceil(tile);
        let most = (axis.size / used).min(u64::from(count)) as u32;
        for factor in 2..=most {
            if space.perfect && count % factor != 0 {
                continue;
            }
            let mut next = *s;
            next.tile[dim] = tile.saturating_mul(factor).min(size);
            // An axis longer than the iterations that are left is used in part.
            let trips = next.tile[dim].div_ceil(tile);
            let speed = self.speed(size, tile, next.tile[dim]);
            next.time = s.time * speed;
            for port in &mut next.ports {
                *port = (port.0 * speed, port.1 * speed);
            }
            next.steps = self.push(
                s.steps,
                Step::Spread {
                    axis: (axes - 1) as u8,
                    dim: dim as u8,
                    tile,
                },
            );
            let (mut shares, mut unindexed) = (shares, unindexed);
            for (o, operand) in space.operands.iter().enumerate() {
                if !operand.indexed.has(dim) {
                    let shared = axis.shares.has(o);
                    if shared {
                        shares[o] *= f64::from(trips);
                    }
                    if operand.is_output {
                        unindexed.0 *= f64::from(trips);
                        unindexed.1 *= if shared { 1.0 } else { f64::from(trips) };
                    }
                }
            }
            self.axis(
                segment,
                axes,
                &next,
                dim + 1,
                used * u64::from(trips),
                shares,
                unindexed,
                best,
                keep,
            );
        }
    }

    /// Share of a dimension's iterations that the busiest instance has left.
    fn speed(&self, size: u32, tile: u32, outer: u32) -> f64 {
        let (full, rest) = (size / outer, size % outer);
        f64::from(full * tile + rest.min(tile)) / f64::from(size)
    }

    /// All ways to place a segment's storages and the loops between them.
    fn segment(
        &mut self,
        segment: usize,
        mut states: Vec<State>,
        best: &mut Option<Best>,
        beam: Option<usize>,
    ) -> Vec<State> {
        let nodes = self.nodes(segment);
        states.sort_by(|a, b| {
            let (a, b) = (self.bound(segment, a), self.bound(segment, b));
            a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        let mut keep = Front::default();
        for s in &states {
            if self.worse(segment, s, best) {
                self.work.bounded += 1;
                continue;
            }
            let mut local = Local {
                state: *s,
                touching: None,
                used: [0.0; MEMORIES],
                ports: [[(0.0, 0.0); PORTS]; MEMORIES],
            };
            if segment == 0 {
                self.homes(&mut local);
            }
            self.order(segment, &nodes, 0, &local, best, &mut keep);
            if self.work.expanded > self.limit {
                break;
            }
        }
        self.work.dominated += keep.dominated;
        let mut states = keep.states;
        if let Some(beam) = beam {
            states.sort_by(|a, b| {
                let (a, b) = (self.bound(segment, a), self.bound(segment, b));
                a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
            });
            states.truncate(beam);
        }
        states
    }

    /// Whole tensors at home take their room.
    fn homes(&self, local: &mut Local) {
        for (o, chain) in self.placement.chains.iter().enumerate() {
            let m = chain[0].1;
            let operand = &self.space.operands[o];
            let whole: f64 = operand
                .windows
                .iter()
                .map(|w| w.reach(&self.space.sizes))
                .product();
            local.used[m] += operand.plain_size * whole * self.memory(chain[0]).bits[o];
        }
    }

    /// Storages below the homes in a segment: (operand, memory).
    fn nodes(&self, segment: usize) -> Vec<(usize, usize)> {
        let mut nodes = Vec::new();
        for (o, chain) in self.placement.chains.iter().enumerate() {
            nodes.extend(
                chain
                    .iter()
                    .skip(1)
                    .filter(|n| n.0 == segment)
                    .map(|n| (o, n.1)),
            );
        }
        nodes
    }

    /// Chooses the next storage outwards among those not in `done`, after the loops between.
    fn order(
        &mut self,
        segment: usize,
        nodes: &[(usize, usize)],
        done: u32,
        local: &Local,
        best: &mut Option<Best>,
        keep: &mut Front,
    ) {
        if done.count_ones() as usize == nodes.len() {
            self.close(segment, local, best, keep);
            return;
        }
        for (i, (o, m)) in nodes.iter().enumerate() {
            // The storages of one operand go from the inside out.
            let next = usize::from(local.state.placed[*o]).checked_sub(1);
            let here = next.map(|n| self.placement.chains[*o][n]);
            if done & (1 << i) != 0 || here != Some((segment, *m)) {
                continue;
            }
            let inner = local.state.top;
            let allowed = self.helpful(usize::from(inner), *o);
            self.block(
                segment,
                nodes,
                done | 1 << i,
                (*o, *m),
                allowed,
                0,
                local,
                best,
                keep,
            );
        }
    }

    /// Dimensions whose loops help between a storage of operand `outer` and one of `inner` inside it: relevant to
    /// the inner one (others are better further in) and not plainly relevant to the outer one (those are better
    /// further out).
    fn helpful(&self, inner: usize, outer: usize) -> Mask {
        let indexed = self
            .space
            .operands
            .get(inner)
            .map_or(Mask::ALL, |o| o.indexed);
        indexed.minus(self.space.operands[outer].plain)
    }

    /// Loops in time below a storage, then the storage.
    #[allow(clippy::too_many_arguments)]
    fn block(
        &mut self,
        segment: usize,
        nodes: &[(usize, usize)],
        done: u32,
        node: (usize, usize),
        allowed: Mask,
        dim: usize,
        local: &Local,
        best: &mut Option<Best>,
        keep: &mut Front,
    ) {
        if self.work.expanded > self.limit {
            return;
        }
        let next = (dim..self.space.dims.len()).find(|d| allowed.has(*d));
        let Some(next) = next else {
            self.store(segment, nodes, done, node, local, best, keep);
            return;
        };
        self.block(
            segment,
            nodes,
            done,
            node,
            allowed,
            next + 1,
            local,
            best,
            keep,
        );
        let tile = local.state.tile[next];
        let mut tiles = std::mem::take(&mut self.tiles[next]);
        let mut options = Vec::new();
        std::mem::swap(&mut tiles, &mut options);
        self.space.outer_tiles(next, tile, &mut options);
        for outer in options.iter().copied() {
            let mut grown = *local;
            grown.state.tile[next] = outer;
            grown.touching = None;
            if !self.fits(segment, nodes, done, node, &grown) {
                break;
            }
            grown.state.steps = self.push(
                local.state.steps,
                Step::Grow {
                    dim: next as u8,
                    tile,
                },
            );
            self.block(
                segment,
                nodes,
                done,
                node,
                allowed,
                next + 1,
                &grown,
                best,
                keep,
            );
        }
        self.tiles[next] = options;
    }

    /// Whether the storages still to come in a segment fit with tiles no larger than here.
    fn fits(
        &self,
        segment: usize,
        nodes: &[(usize, usize)],
        done: u32,
        node: (usize, usize),
        local: &Local,
    ) -> bool {
        let mut used = local.used;
        for (i, (o, m)) in nodes.iter().enumerate() {
            if done & (1 << i) == 0 || (*o, *m) == node {
                used[*m] += self.words(*o, &local.state.tile)
                    * self.space.segments[segment].memories[*m].bits[*o];
            }
        }
        let memories = &self.space.segments[segment].memories;
        memories.iter().zip(&used).all(|(m, u)| *u <= m.capacity)
    }

    fn words(&self, o: usize, tile: &Tile) -> f64 {
        let operand = &self.space.operands[o];
        let plain = (0..self.space.dims.len()).filter(|d| operand.plain.has(*d));
        plain.map(|d| f64::from(tile[d])).product::<f64>()
            * operand
                .windows
                .iter()
                .map(|w| w.reach(tile))
                .product::<f64>()
    }

    /// Elements that a storage of an operand takes in over all its tiles.
    fn entering(&self, o: usize, tile: &Tile, slid: Option<(usize, u32)>) -> f64 {
        let operand = &self.space.operands[o];
        let sizes = &self.space.sizes;
        let mut total = operand.plain_size;
        for d in (0..self.space.dims.len()).filter(|d| !operand.indexed.has(*d)) {
            total *= f64::from(sizes[d].div_ceil(tile[d]));
        }
        for window in &operand.windows {
            total *= window.entering(sizes, tile, slid);
        }
        total
    }

    /// Serves what is inside from a memory.
    fn serve(&self, segment: usize, local: &mut Local, o: usize, m: usize) {
        let rates = &self.space.segments[segment].memories[m].rates[o];
        let s = &mut local.state;
        let asked = s.asked[o];
        if self.space.operands[o].is_output {
            s.energy += asked * (rates.energy[2] + rates.energy[3]);
            s.saved += s.first * rates.energy[2];
            for p in 0..PORTS {
                local.ports[m][p].0 += asked * (rates.cycles[2][p] + rates.cycles[3][p]);
                local.ports[m][p].1 += s.first * rates.cycles[2][p];
            }
        } else {
            s.energy += asked * rates.energy[2];
            for p in 0..PORTS {
                local.ports[m][p].0 += asked * rates.cycles[2][p];
            }
        }
    }

    /// Places a storage, with and without a loop that slides directly above it.
    #[allow(clippy::too_many_arguments)]
    fn store(
        &mut self,
        segment: usize,
        nodes: &[(usize, usize)],
        done: u32,
        (o, m): (usize, usize),
        local: &Local,
        best: &mut Option<Best>,
        keep: &mut Front,
    ) {
        self.work.expanded += 1;
        // Two storages without a loop between are told in one order only, unless a loop may slide directly above.
        let twice =
            self.space.operands[o].slides.is_empty() && local.touching.is_some_and(|t| t > o);
        if twice || !self.fits(segment, nodes, done, (o, m), local) {
            return;
        }
        let mut placed = *local;
        placed.touching = Some(o);
        self.serve(segment, &mut placed, o, m);
        placed.used[m] +=
            self.words(o, &local.state.tile) * self.space.segments[segment].memories[m].bits[o];
        placed.state.placed[o] -= 1;
        placed.state.top = o as u8;
        placed.state.steps = self.push(
            local.state.steps,
            Step::Keep {
                operand: o as u8,
                memory: m as u8,
            },
        );
        self.fill(segment, nodes, done, (o, m), &placed, None, best, keep);
        let slides = self.space.operands[o].slides;
        for d in (0..self.space.dims.len()).filter(|d| slides.has(*d)) {
            let tile = local.state.tile[d];
            let mut options = Vec::new();
            self.space.outer_tiles(d, tile, &mut options);
            for outer in options {
                let mut slid = placed;
                slid.state.tile[d] = outer;
                slid.touching = None;
                if !self.fits(segment, nodes, done, (OPERANDS, 0), &slid) {
                    break;
                }
                slid.state.steps = self.push(placed.state.steps, Step::Grow { dim: d as u8, tile });
                self.fill(
                    segment,
                    nodes,
                    done,
                    (o, m),
                    &slid,
                    Some((d, tile)),
                    best,
                    keep,
                );
            }
        }
    }

    /// Counts what fills a storage, and goes on outwards.
    #[allow(clippy::too_many_arguments)]
    fn fill(
        &mut self,
        segment: usize,
        nodes: &[(usize, usize)],
        done: u32,
        (o, m): (usize, usize),
        local: &Local,
        slid: Option<(usize, u32)>,
        best: &mut Option<Best>,
        keep: &mut Front,
    ) {
        let mut next = *local;
        let mut tile = local.state.tile;
        let outer = slid.map(|(d, inner)| {
            let outer = tile[d];
            tile[d] = inner;
            (d, outer)
        });
        let entering = self.entering(o, &tile, outer);
        let rates = &self.space.segments[segment].memories[m].rates[o];
        let s = &mut next.state;
        s.asked[o] = entering;
        let operand = &self.space.operands[o];
        if operand.is_output {
            let first = operand.plain_size
                * operand
                    .windows
                    .iter()
                    .map(|w| w.entering(&self.space.sizes, &tile, None))
                    .product::<f64>();
            s.first = first;
            s.energy += entering * (rates.energy[0] + rates.energy[1]);
            s.saved += first * rates.energy[0];
            for p in 0..PORTS {
                next.ports[m][p].0 += entering * (rates.cycles[0][p] + rates.cycles[1][p]);
                next.ports[m][p].1 += first * rates.cycles[0][p];
            }
        } else {
            s.energy += entering * rates.energy[0];
            for p in 0..PORTS {
                next.ports[m][p].0 += entering * rates.cycles[0][p];
            }
        }
        if self.worse(segment, &next.state, best) {
            self.work.bounded += 1;
            return;
        }
        self.order(segment, nodes, done, &next, best, keep);
    }

    /// All storages of a segment are placed.
    fn close(&mut self, segment: usize, local: &Local, best: &mut Option<Best>, keep: &mut Front) {
        let mut local = *local;
        if segment == 0 {
            let indexed = self
                .space
                .operands
                .get(usize::from(local.state.top))
                .map_or(Mask::ALL, |o| o.indexed);
            let open = (0..self.space.dims.len())
                .any(|d| !indexed.has(d) && local.state.tile[d] < self.space.sizes[d]);
            if open {
                return;
            }
            for o in 0..self.space.operands.len() {
                let home = self.placement.chains[o][0].1;
                self.serve(segment, &mut local, o, home);
            }
        }
        self.settle(segment, &mut local);
        let s = &local.state;
        if segment > 0 {
            if self.worse(segment, &local.state, best) {
                self.work.bounded += 1;
            } else {
                keep.add(self, segment, local.state);
            }
            return;
        }
        let energy = s.energy - s.saved;
        let time = s.ports.iter().fold(s.time, |t, p| t.max(p.0 - p.1));
        let score = self.score(energy, time);
        let s = local.state;
        if best.as_ref().is_none_or(|b| score.beats(b.score)) {
            *best = Some(Best {
                score,
                energy,
                time: time * self.space.operations / self.space.compute_rate,
                steps: self.trail(&s),
                placement: self.index,
            });
        }
    }

    /// Takes the busy times of a segment's ports into the time; those whose first visits depend on what lies
    /// outside are kept beside it.
    fn settle(&self, segment: usize, local: &mut Local) {
        let scale = self.space.compute_rate / self.space.operations;
        let s = &mut local.state;
        for (m, ports) in local.ports.iter().enumerate() {
            for (p, (cycles, saved)) in ports.iter().enumerate() {
                if *saved > 0.0 && self.unindexed[segment] > 1.0 {
                    if let Some(slot) = self.slots.iter().position(|x| *x == (segment, m, p)) {
                        s.ports[slot] = (cycles * scale, saved * scale);
                    }
                    let least = cycles - saved * self.unindexed[segment];
                    s.time = s.time.max(least * scale);
                } else {
                    s.time = s.time.max((cycles - saved) * scale);
                }
            }
        }
    }

    /// The steps of a whole mapping, from the inside out.
    fn trail(&self, s: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut at = s.steps;
        while at != NONE {
            let (before, step) = self.arena[at as usize];
            steps.push(step);
            at = before;
        }
        steps.reverse();
        for d in 0..self.space.dims.len() {
            if s.tile[d] < self.space.sizes[d] {
                steps.push(Step::Grow {
                    dim: d as u8,
                    tile: s.tile[d],
                });
            }
        }
        steps
    }
}

/// Ports of memories below a fan that carry partial sums.
pub(super) fn slots(space: &Space) -> Vec<(usize, usize, usize)> {
    let output = space.operands.len() - 1;
    let mut slots = Vec::new();
    for (s, segment) in space.segments.iter().enumerate().skip(1) {
        for (m, memory) in segment.memories.iter().enumerate() {
            let cycles = memory.rates[output].cycles;
            slots.extend(
                (0..PORTS)
                    .filter(|p| cycles[0][*p] + cycles[2][*p] > 0.0)
                    .map(|p| (s, m, p)),
            );
        }
    }
    slots
}

/// Partial mappings of which none is at least as good as another in everything that matters outside.
#[derive(Default)]
struct Front {
    states: Vec<State>,
    /// By tile and top operand: indices into `states`.
    by_tile: FxHashMap<(Tile, u8), Vec<u32>>,
    dominated: u64,
}

impl Front {
    fn add(&mut self, search: &Search, segment: usize, s: State) {
        let same = self.by_tile.entry((s.tile, s.top)).or_default();
        let operands = search.space.operands.len();
        let spread = search.unindexed[segment];
        let no_worse = |a: &State, b: &State| {
            a.energy - a.saved <= b.energy - b.saved
                && a.energy - a.saved * spread <= b.energy - b.saved * spread
                && a.time <= b.time
                && a.first >= b.first
                && (0..operands).all(|o| a.asked[o] <= b.asked[o])
        };
        if same.iter().any(|i| no_worse(&self.states[*i as usize], &s)) {
            self.dominated += 1;
            return;
        }
        if let Some(i) = same
            .iter()
            .find(|i| no_worse(&s, &self.states[**i as usize]))
        {
            self.dominated += 1;
            self.states[*i as usize] = s;
            return;
        }
        same.push(self.states.len() as u32);
        self.states.push(s);
    }
}
