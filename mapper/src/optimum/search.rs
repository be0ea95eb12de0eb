//! The search of one placement: which memories keep which operands is given, everything else is found.

use presil_workloads::Einsum;
use rustc_hash::FxHashMap;

use super::placement::tree;

use super::space::{DIMS, MEMORIES, Memory, OPERANDS, PORTS, Space, Tile};
use crate::conventions::{Convention, evaluate};
use crate::hierarchy::{Hierarchy, Mask};
use crate::search::Objective;

/// Most ports below a fan that carry partial sums.
pub(super) const SLOTS: usize = 8;

/// Which memories keep each operand, as (segment, memory of it), outermost first; the first is its home.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placement {
    pub chains: Vec<Vec<(usize, usize)>>,
    /// Floating operands: an input and the output, whose homes stand below loops shared with a neighbour.
    pub floating: [Option<usize>; 2],
}

impl Placement {
    fn floats(&self, operand: usize) -> bool {
        self.floating.contains(&Some(operand))
    }
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
    /// Tiles here, and below the innermost open fan.
    tile: Tile,
    below: Tile,
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
    /// Tiles of those storages.
    kept: [Tile; OPERANDS],
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
    /// Storages of the segment that are placed, by bit.
    done: u32,
    /// The operand of the storage directly inside, of this segment, with no loop between.
    touching: Option<usize>,
    used: [f64; MEMORIES],
    /// Cycles of all operations of each port, and those that first visits save.
    ports: [[(f64, f64); PORTS]; MEMORIES],
    /// Bits used of each memory and tiles where the floating operands were placed.
    floats: [(Room, Tile); 2],
}

/// A segment and its storages: (operand, memory).
struct Site {
    segment: usize,
    nodes: Vec<(usize, usize)>,
}

/// Counters of work.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Work {
    /// Partial mappings looked at.
    pub expanded: u64,
    /// Those cut off by a bound.
    pub bounded: u64,
    /// Those cut off because another one is at least as good in everything.
    pub dominated: u64,
    /// Least bound of whole mappings whose exact cost is above it.
    pub least: Option<f64>,
}

impl Work {
    /// Adds the work of another search.
    pub(super) fn add(&mut self, other: Self) {
        self.expanded += other.expanded;
        self.bounded += other.bounded;
        self.dominated += other.dominated;
    }
}

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Goal {
    /// Energy and cycles of other einsums that the figures are added to.
    pub beside: (f64, f64),
    /// Nothing is kept that does not beat it.
    pub limit: Option<Score>,
    /// The best mapping so far.
    pub best: Option<Part>,
    /// All that may be part of the best chain, where chains are asked for.
    pub parts: Option<Parts>,
    /// Tiles of the floating operands that are asked for; `None` takes any.
    pub asked: [Option<Tiles>; 2],
    /// So many of the best mappings, where more than one is asked for: nothing is left out because another mapping is
    /// as good.
    pub near: Option<(usize, Vec<(Score, Part)>)>,
    /// Look at everything: no bound, no comparison.
    pub exhaustive: bool,
    /// Least bound of whole mappings whose exact cost is above it.
    pub least: Option<f64>,
}

/// Steps with the fans inside each spatial one: a loop in time above a fan with none is the same below it.
fn nest(steps: &[Step]) -> Vec<(usize, Step)> {
    let mut fans = 0;
    let mut nest = Vec::new();
    for step in steps {
        match step {
            Step::Fan => fans += 1,
            Step::Spread { .. } => nest.push((fans, *step)),
            Step::Grow { .. } | Step::Keep { .. } => nest.push((0, *step)),
        }
    }
    nest
}

impl Goal {
    /// Takes a mapping into the near set.
    fn nearly(&mut self, score: Score, part: Part) {
        let Some((most, near)) = &mut self.near else {
            return;
        };
        // A loop directly above a storage may be told as one that slides or as one that does not.
        let told = nest(&part.steps);
        let same = |n: &(Score, Part)| n.1.placement == part.placement && nest(&n.1.steps) == told;
        if let Some(i) = near.iter().position(same) {
            if !score.beats(near[i].0) {
                return;
            }
            near.remove(i);
        }
        let at = near.partition_point(|n| !score.beats(n.0));
        near.insert(at, (score, part));
        near.truncate(*most);
        if near.len() == *most
            && let Some((worst, _)) = near.last()
        {
            self.limit = Some(*worst);
        }
    }

    /// Whether mappings are left out because another is as good.
    fn compares(&self) -> bool {
        self.near.is_none() && !self.exhaustive
    }
}

/// The memory (of segment 0) that keeps a floating operand, and its tile there, rank by rank; none where it is handed
/// over whole.
pub(super) type Tiles = Option<(usize, Vec<u32>)>;

/// Bits of each memory of segment 0; none of those that never limit.
pub(super) type Room = [f64; MEMORIES];

/// A mapping of one einsum of a chain, as far as its neighbours see it. Floating operands (intermediates that live
/// on chip below loops shared with a neighbour) are told by the tile that is kept.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// Kept tile of the floating input and of the floating output.
    pub tiles: [Tiles; 2],
    pub energy: f64,
    pub cycles: f64,
    /// Bits used, where an operand floats.
    pub used: Room,
    /// Of those, bits of what lives outside the shared loops of the floating input and output.
    pub outside: [Room; 2],
    /// Tiles at storages outside the homes of floating operands, and at these, outermost first: where the shared
    /// loops cannot change places.
    pub cuts: Vec<Tile>,
    pub steps: Vec<Step>,
    pub placement: usize,
}

/// Parts of which none is at least as good as another of the same tiles.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    pub parts: Vec<Part>,
    by_tiles: FxHashMap<[Tiles; 2], Vec<u32>>,
}

impl Parts {
    fn add(&mut self, part: Part) {
        let same = self.by_tiles.entry(part.tiles.clone()).or_default();
        let no_worse = |a: &Part, b: &Part| {
            a.energy <= b.energy
                && a.cycles <= b.cycles
                && no_more(&a.used, &b.used)
                && no_more(&a.outside[0], &b.outside[0])
                && no_more(&a.outside[1], &b.outside[1])
                && a.cuts.iter().all(|c| b.cuts.contains(c))
        };
        if same
            .iter()
            .any(|i| no_worse(&self.parts[*i as usize], &part))
        {
            return;
        }
        if let Some(i) = same
            .iter()
            .find(|i| no_worse(&part, &self.parts[**i as usize]))
        {
            self.parts[*i as usize] = part;
            return;
        }
        same.push(self.parts.len() as u32);
        self.parts.push(part);
    }
}

/// Whether one room is at most another in every memory.
pub(super) fn no_more(a: &Room, b: &Room) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b)
}

/// The most that spatial loops further out can do.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Instances that one word of each operand serves.
    shared: [f64; OPERANDS],
    /// Instances.
    instances: f64,
    /// Instances that differ in dimensions which do not index the output.
    unindexed: f64,
    /// Dimensions that may be laid along them.
    dims: Mask,
}

impl Limits {
    fn all(space: &Space) -> Vec<Vec<Self>> {
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

pub(super) struct Search<'a> {
    space: &'a Space,
    /// What partial tiles are counted exactly on.
    exact: Option<(&'a Einsum, &'a Hierarchy)>,
    objective: Objective,
    placement: &'a Placement,
    index: usize,
    /// Least energy of the storages of an operand outside its `i`-th, by operand and `i`.
    outside: Vec<Vec<f64>>,
    /// Least cycles of the ports of memories of segment 0 for those storages.
    least_cycles: Vec<Vec<LeastCycles>>,
    /// Whether every dimension leaves at most one operand unindexed.
    exclusive: bool,
    /// Ports below a fan that carry partial sums: segment, memory, port.
    slots: Vec<(usize, usize, usize)>,
    /// By segment and number of axes of the fan below it that are still open.
    limits: Vec<Vec<Limits>>,
    /// Steps with the one before.
    arena: Vec<(u32, Step)>,
    pub work: Work,
    pub limit: u64,
    tiles: Vec<Vec<u32>>,
}

/// Cycles of the ports of memories of segment 0, by memory.
type LeastCycles = Vec<(usize, [f64; PORTS])>;

/// A segment, and how many axes of the fan below it are still open.
type Place = (usize, usize);

const NONE: u32 = u32::MAX;

impl<'a> Search<'a> {
    pub(super) fn new(
        space: &'a Space,
        exact: Option<(&'a Einsum, &'a Hierarchy)>,
        objective: Objective,
        placement: &'a Placement,
        index: usize,
        limit: u64,
    ) -> Self {
        let output = space.operands.len() - 1;
        let mut search = Self {
            space,
            exact,
            objective,
            placement,
            index,
            outside: Vec::new(),
            least_cycles: Vec::new(),
            slots: slots(space),
            exclusive: (0..space.dims.len())
                .all(|d| space.operands.iter().filter(|o| !o.indexed.has(d)).count() <= 1),
            limits: Limits::all(space),
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
    fn least_cycles_of(&self, o: usize) -> Vec<LeastCycles> {
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
    fn bound(&self, (segment, axes): Place, s: &State, goal: &Goal) -> Score {
        let limits = &self.limits[segment][axes];
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

    fn score(&self, energy: f64, time: f64, goal: &Goal) -> Score {
        let cycles = time * self.space.operations / self.space.compute_rate;
        Score::new(
            self.objective,
            energy + goal.beside.0,
            cycles + goal.beside.1,
        )
    }

    fn push(&mut self, before: u32, step: Step) -> u32 {
        self.arena.push((before, step));
        (self.arena.len() - 1) as u32
    }

    /// The compute: nothing is decided.
    fn start(&self) -> State {
        let operations = self.space.operations;
        State {
            tile: [1; DIMS],
            below: [1; DIMS],
            energy: operations * self.space.compute_energy,
            saved: 0.0,
            time: 1.0,
            ports: [(0.0, 0.0); SLOTS],
            asked: [operations; OPERANDS],
            kept: [[1; DIMS]; OPERANDS],
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
        }
    }

    /// A lower bound of everything in the placement.
    pub(super) fn root(&self) -> Score {
        let innermost = self.space.segments.len() - 1;
        let axes = self.space.segments[innermost].axes.len();
        self.bound((innermost, axes), &self.start(), &Goal::default())
    }

    /// Searches; a `beam` keeps only so many partial mappings at each fan (then nothing is proven).
    pub(super) fn run(&mut self, goal: &mut Goal, beam: Option<usize>) {
        let fits = |side: usize| {
            let floats = self.placement.floating[side].is_some();
            goal.asked[side]
                .as_ref()
                .is_none_or(|t| t.is_some() == floats)
        };
        // Whole tensors fit by themselves, also where nothing else is kept.
        let memories = &self.space.segments[0].memories;
        let homes = memories
            .iter()
            .zip(self.homes())
            .all(|(m, u)| u <= m.capacity);
        if !fits(0) || !fits(1) || !homes {
            return;
        }
        self.arena.clear();
        let count = self.space.segments.len();
        let mut frontier = vec![self.start()];
        for segment in (0..count).rev() {
            let spread = self.spread(segment, frontier, goal);
            frontier = self.segment(segment, spread, goal, beam);
            if segment > 0 && frontier.is_empty() {
                return;
            }
        }
    }

    fn worse(&self, place: Place, s: &State, goal: &Goal) -> bool {
        !goal.exhaustive
            && goal
                .limit
                .is_some_and(|limit| !self.bound(place, s, goal).beats(limit))
    }

    /// All ways to lay dimensions along the axes of the fan below a segment, one axis after the other.
    fn spread(&mut self, segment: usize, mut states: Vec<State>, goal: &Goal) -> Vec<State> {
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
        if self.work.expanded > self.limit {
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
    fn served(&self, dim: usize, kept: u32, inner: u32, outer: u32) -> f64 {
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

    /// All ways to place a segment's storages and the loops between them, one storage after the other.
    fn segment(
        &mut self,
        segment: usize,
        mut states: Vec<State>,
        goal: &mut Goal,
        beam: Option<usize>,
    ) -> Vec<State> {
        let site = Site {
            segment,
            nodes: self.nodes(segment),
        };
        self.sort(segment, &mut states, goal, |s| s);
        states.truncate(beam.unwrap_or(usize::MAX));
        let mut layer: Vec<Local> = states.iter().map(|s| self.local(segment, s)).collect();
        for _ in 0..site.nodes.len() {
            let mut next = Layer::default();
            for local in &layer {
                if self.worse((segment, 0), &local.state, goal) {
                    self.work.bounded += 1;
                } else {
                    self.extend(&site, local, goal, &mut next);
                }
            }
            self.work.dominated += next.dominated;
            layer = next.locals;
            self.sort(segment, &mut layer, goal, |l| &l.state);
            layer.truncate(beam.unwrap_or(usize::MAX));
        }
        let mut keep = Front::default();
        for local in &layer {
            self.close(segment, local, goal, &mut keep);
        }
        self.work.dominated += keep.dominated;
        let mut states = keep.states;
        if let Some(beam) = beam {
            self.sort(segment, &mut states, goal, |s| s);
            states.truncate(beam);
        }
        states
    }

    /// Sorts by bound, least first.
    fn sort<T>(&self, segment: usize, all: &mut [T], goal: &Goal, state: fn(&T) -> &State) {
        all.sort_by_cached_key(|x| {
            let bound = self.bound((segment, 0), state(x), goal);
            (bound.0.to_bits(), bound.1.to_bits())
        });
    }

    /// The start in a segment.
    fn local(&self, segment: usize, s: &State) -> Local {
        let mut local = Local {
            state: *s,
            done: 0,
            touching: None,
            used: [0.0; MEMORIES],
            ports: [[(0.0, 0.0); PORTS]; MEMORIES],
            floats: [([0.0; MEMORIES], [1; DIMS]); 2],
        };
        if segment == 0 {
            local.used = self.homes();
        }
        local
    }

    /// Room of whole tensors at home.
    fn homes(&self) -> Room {
        let mut used = [0.0; MEMORIES];
        for (o, chain) in self.placement.chains.iter().enumerate() {
            if self.placement.floats(o) {
                continue;
            }
            let m = chain[0].1;
            let operand = &self.space.operands[o];
            let whole: f64 = operand
                .windows
                .iter()
                .map(|w| w.reach(&self.space.sizes))
                .product();
            used[m] += operand.plain_size * whole * self.memory(chain[0]).bits[o];
        }
        used
    }

    /// Storages below the homes in a segment, and floating homes: (operand, memory).
    fn nodes(&self, segment: usize) -> Vec<(usize, usize)> {
        let mut nodes = Vec::new();
        for (o, chain) in self.placement.chains.iter().enumerate() {
            nodes.extend(
                chain
                    .iter()
                    .skip(usize::from(!self.placement.floats(o)))
                    .filter(|n| n.0 == segment)
                    .map(|n| (o, n.1)),
            );
        }
        nodes
    }

    /// Chooses the next storage outwards, with the loops between.
    fn extend(&mut self, site: &Site, local: &Local, goal: &Goal, next: &mut Layer) {
        for (i, (o, m)) in site.nodes.iter().enumerate() {
            // The storages of one operand go from the inside out.
            let inner = usize::from(local.state.placed[*o]).checked_sub(1);
            let here = inner.map(|n| self.placement.chains[*o][n]);
            if local.done & (1 << i) != 0 || here != Some((site.segment, *m)) {
                continue;
            }
            let allowed = self.helpful(usize::from(local.state.top), *o);
            self.block(site, i, allowed, 0, local, goal, next);
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
        // Loops inside a floating home are not better further out: they would be shared.
        if self.placement.floats(outer) {
            return indexed;
        }
        indexed.minus(self.space.operands[outer].plain)
    }

    /// Loops in time below a storage, from dimension `dim` on; then the storage.
    #[allow(clippy::too_many_arguments)]
    fn block(
        &mut self,
        site: &Site,
        node: usize,
        allowed: Mask,
        dim: usize,
        local: &Local,
        goal: &Goal,
        next: &mut Layer,
    ) {
        if self.work.expanded > self.limit {
            return;
        }
        let Some(dim) = (dim..self.space.dims.len()).find(|d| allowed.has(*d)) else {
            self.store(site, node, local, goal, next);
            return;
        };
        self.block(site, node, allowed, dim + 1, local, goal, next);
        let tile = local.state.tile[dim];
        let mut options = std::mem::take(&mut self.tiles[dim]);
        self.space.outer_tiles(dim, tile, &mut options);
        for outer in &options {
            let mut grown = *local;
            grown.state.tile[dim] = *outer;
            grown.touching = None;
            if !self.fits(site, &grown) {
                break;
            }
            grown.state.steps = self.push(
                local.state.steps,
                Step::Grow {
                    dim: dim as u8,
                    tile,
                },
            );
            self.block(site, node, allowed, dim + 1, &grown, goal, next);
        }
        self.tiles[dim] = options;
    }

    /// Whether the storages still to come in a segment fit with tiles no larger than here.
    fn fits(&self, site: &Site, local: &Local) -> bool {
        let memories = &self.space.segments[site.segment].memories;
        let mut used = local.used;
        for (i, (o, m)) in site.nodes.iter().enumerate() {
            if local.done & (1 << i) == 0 {
                used[*m] += self.words(*o, &local.state.tile) * memories[*m].bits[*o];
            }
        }
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
    fn store(&mut self, site: &Site, node: usize, local: &Local, goal: &Goal, next: &mut Layer) {
        self.work.expanded += 1;
        let (o, m) = site.nodes[node];
        let operand = &self.space.operands[o];
        let home = self.placement.floats(o) && local.state.placed[o] == 1;
        // Two storages without a loop between are told in one order only, unless it matters outside.
        let swaps = operand.slides.is_empty() && !home;
        let twice = swaps && local.touching.is_some_and(|t| t > o);
        // Loops shared with a neighbour index the operand.
        let shared =
            |d: usize| operand.indexed.has(d) || local.state.tile[d] == self.space.sizes[d];
        let broken = home && !(0..self.space.dims.len()).all(shared);
        if twice || broken || !self.fits(site, local) {
            return;
        }
        let mut placed = *local;
        placed.done |= 1 << node;
        placed.touching = Some(o);
        self.serve(site.segment, &mut placed, o, m);
        placed.used[m] += self.words(o, &local.state.tile) * self.memory((site.segment, m)).bits[o];
        placed.state.placed[o] -= 1;
        placed.state.top = o as u8;
        placed.state.steps = self.push(
            local.state.steps,
            Step::Keep {
                operand: o as u8,
                memory: m as u8,
            },
        );
        if home {
            self.float(site, (o, m), placed, goal, next);
            return;
        }
        self.fill(site, (o, m), &placed, None, goal, next);
        let slides = operand.slides;
        for d in (0..self.space.dims.len()).filter(|d| slides.has(*d)) {
            let tile = local.state.tile[d];
            let mut options = std::mem::take(&mut self.tiles[d]);
            self.space.outer_tiles(d, tile, &mut options);
            for outer in &options {
                let mut slid = placed;
                slid.state.tile[d] = *outer;
                slid.touching = None;
                if !self.fits(site, &slid) {
                    break;
                }
                slid.state.steps = self.push(placed.state.steps, Step::Grow { dim: d as u8, tile });
                self.fill(site, (o, m), &slid, Some((d, tile)), goal, next);
            }
            self.tiles[d] = options;
        }
    }

    /// Places the home of a floating operand.
    fn float(
        &mut self,
        site: &Site,
        (o, m): (usize, usize),
        mut placed: Local,
        goal: &Goal,
        next: &mut Layer,
    ) {
        let side = usize::from(self.placement.floating[1] == Some(o));
        let tile = placed.state.tile;
        if let Some(asked) = &goal.asked[side]
            && *asked != self.kept(o, m, &tile)
        {
            return;
        }
        placed.floats[side] = (placed.used, tile);
        placed.state.asked[o] = 0.0;
        if self.space.operands[o].is_output {
            placed.state.first = 0.0;
        }
        self.offer(site, placed, goal, next);
    }

    /// Counts what fills a storage.
    fn fill(
        &mut self,
        site: &Site,
        (o, m): (usize, usize),
        local: &Local,
        slid: Option<(usize, u32)>,
        goal: &Goal,
        next: &mut Layer,
    ) {
        let mut filled = *local;
        let mut tile = local.state.tile;
        let outer = slid.map(|(d, inner)| {
            let outer = tile[d];
            tile[d] = inner;
            (d, outer)
        });
        let entering = self.entering(o, &tile, outer);
        let rates = &self.memory((site.segment, m)).rates[o];
        let operand = &self.space.operands[o];
        let (s, ports) = (&mut filled.state, &mut filled.ports[m]);
        s.asked[o] = entering;
        s.kept[o] = tile;
        if operand.is_output {
            let windows = operand.windows.iter();
            let windows = windows.map(|w| w.entering(&self.space.sizes, &tile, None));
            let first = operand.plain_size * windows.product::<f64>();
            s.first = first;
            s.energy += entering * (rates.energy[0] + rates.energy[1]);
            s.saved += first * rates.energy[0];
            for (p, port) in ports.iter_mut().enumerate() {
                port.0 += entering * (rates.cycles[0][p] + rates.cycles[1][p]);
                port.1 += first * rates.cycles[0][p];
            }
        } else {
            s.energy += entering * rates.energy[0];
            for (p, port) in ports.iter_mut().enumerate() {
                port.0 += entering * rates.cycles[0][p];
            }
        }
        self.offer(site, filled, goal, next);
    }

    fn offer(&mut self, site: &Site, local: Local, goal: &Goal, next: &mut Layer) {
        if self.worse((site.segment, 0), &local.state, goal) {
            self.work.bounded += 1;
        } else {
            next.add(self, site, local, goal.compares());
        }
    }

    /// All storages of a segment are placed.
    fn close(&mut self, segment: usize, local: &Local, goal: &mut Goal, keep: &mut Front) {
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
            for o in (0..self.space.operands.len()).filter(|o| !self.placement.floats(*o)) {
                let home = self.placement.chains[o][0].1;
                self.serve(segment, &mut local, o, home);
            }
        }
        self.settle(segment, &mut local);
        let s = &local.state;
        if segment > 0 {
            if self.worse((segment, 0), &local.state, goal) {
                self.work.bounded += 1;
            } else {
                keep.add(self, (segment, 0), local.state, goal.compares());
            }
            return;
        }
        let energy = s.energy - s.saved;
        let time = s.ports.iter().fold(s.time, |t, p| t.max(p.0 - p.1));
        let cycles = time * self.space.operations / self.space.compute_rate;
        let score = self.score(energy, time, goal);
        if !goal.exhaustive && goal.limit.is_some_and(|limit| !score.beats(limit)) {
            return;
        }
        // Partial tiles: counts below fans are bounds; the exact ones decide.
        let (mut energy, mut cycles, mut score) = (energy, cycles, score);
        if !self.space.perfect
            && let Some((e, t)) = self.told(&local)
        {
            let exact = Score::new(self.objective, e + goal.beside.0, t + goal.beside.1);
            if score.0 < exact.0 * (1.0 - 1e-12) {
                goal.least = Some(goal.least.map_or(score.0, |l| l.min(score.0)));
            }
            (energy, cycles, score) = (e, t, exact);
        }
        if goal.limit.is_some_and(|limit| !score.beats(limit)) {
            return;
        }
        if goal.near.is_some() {
            let part = self.part(&local, energy, cycles);
            goal.nearly(score, part);
            return;
        }
        if let Some(parts) = &mut goal.parts {
            parts.add(self.part(&local, energy, cycles));
            return;
        }
        goal.limit = Some(score);
        goal.best = Some(self.part(&local, energy, cycles));
    }

    /// Energy and cycles of a whole mapping, counted by the convention itself.
    fn told(&self, local: &Local) -> Option<(f64, f64)> {
        let (einsum, hierarchy) = self.exact?;
        let tree = tree(self.space, self.placement, &self.trail(&local.state));
        let told = evaluate(Convention::AccelForge, einsum, hierarchy, &tree).ok()?;
        Some((told.energy_total(), told.cycles))
    }

    fn kept(&self, o: usize, memory: usize, tile: &Tile) -> Tiles {
        let ranks = self.space.operands[o].ranks.iter();
        let tile = ranks.map(|d| d.map_or(1, |d| tile[d])).collect();
        Some((memory, tile))
    }

    /// Tiles at storages from the outermost one to the innermost home of a floating operand.
    fn cuts(&self, steps: &[Step]) -> Vec<Tile> {
        let mut tile = self.space.sizes;
        let mut homes = self.placement.floating.iter().flatten().count();
        let mut cuts: Vec<Tile> = Vec::new();
        for step in steps.iter().rev() {
            match *step {
                _ if homes == 0 => break,
                Step::Grow { dim, tile: t } | Step::Spread { dim, tile: t, .. } => {
                    tile[usize::from(dim)] = t;
                }
                Step::Keep { operand, memory } => {
                    if cuts.last() != Some(&tile) {
                        cuts.push(tile);
                    }
                    let o = usize::from(operand);
                    let home = self.placement.chains[o][0] == (0, usize::from(memory));
                    homes -= usize::from(home && self.placement.floats(o));
                }
                Step::Fan => {}
            }
        }
        cuts
    }

    fn part(&self, local: &Local, energy: f64, cycles: f64) -> Part {
        let steps = self.trail(&local.state);
        let mut part = Part {
            tiles: [None, None],
            energy,
            cycles,
            used: [0.0; MEMORIES],
            outside: [[0.0; MEMORIES]; 2],
            cuts: self.cuts(&steps),
            steps,
            placement: self.index,
        };
        let memories = self.space.segments[0].memories.iter().enumerate();
        let limited: Vec<usize> = memories
            .filter(|(_, m)| m.capacity.is_finite())
            .map(|(m, _)| m)
            .collect();
        let homes = self.homes();
        for (side, o) in self.placement.floating.iter().enumerate() {
            let Some(o) = *o else { continue };
            let (used, tile) = local.floats[side];
            part.tiles[side] = self.kept(o, self.placement.chains[o][0].1, &tile);
            for &m in &limited {
                part.used[m] = local.used[m];
                part.outside[side][m] = local.used[m] - (used[m] - homes[m]);
            }
        }
        part
    }

    /// Takes the busy times of a segment's ports into the time; those whose first visits depend on what lies
    /// outside are kept beside it.
    fn settle(&self, segment: usize, local: &mut Local) {
        let scale = self.space.compute_rate / self.space.operations;
        let s = &mut local.state;
        for (m, ports) in local.ports.iter().enumerate() {
            for (p, (cycles, saved)) in ports.iter().enumerate() {
                if *saved > 0.0 && self.limits[segment][0].unindexed > 1.0 {
                    if let Some(slot) = self.slots.iter().position(|x| *x == (segment, m, p)) {
                        s.ports[slot] = (cycles * scale, saved * scale);
                    }
                    let least = cycles - saved * self.limits[segment][0].unindexed;
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

impl Search<'_> {
    /// Whether a partial mapping is at least as good as another with the same tiles and operand.
    fn no_worse(&self, (segment, axes): Place, a: &State, b: &State) -> bool {
        let spread = self.limits[segment][axes].unindexed;
        let settled = |(cost, saved): (f64, f64), (more, less): (f64, f64)| {
            cost - saved <= more - less && cost - saved * spread <= more - less * spread
        };
        settled((a.energy, a.saved), (b.energy, b.saved))
            && a.time <= b.time
            && a.ports.iter().zip(&b.ports).all(|(x, y)| settled(*x, *y))
            && a.first >= b.first
            && a.asked.iter().zip(&b.asked).all(|(x, y)| x <= y)
    }

    /// The same within a segment, with the same storages placed.
    fn no_worse_within(&self, site: &Site, a: &Local, b: &Local) -> bool {
        let spread = self.limits[site.segment][0].unindexed;
        let open = |m: usize| {
            let nodes = site.nodes.iter().enumerate();
            nodes
                .into_iter()
                .any(|(i, n)| n.1 == m && a.done & (1 << i) == 0)
        };
        let rooms = (0..MEMORIES).all(|m| a.used[m] <= b.used[m] || !open(m));
        let ports = a
            .ports
            .iter()
            .flatten()
            .zip(b.ports.iter().flatten())
            .all(|(x, y)| x.0 - x.1 <= y.0 - y.1 && x.0 - x.1 * spread <= y.0 - y.1 * spread);
        rooms && ports && self.no_worse((site.segment, 0), &a.state, &b.state)
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
    fn add(&mut self, search: &Search, place: Place, s: State, compares: bool) {
        if !compares {
            self.states.push(s);
            return;
        }
        let same = self.by_tile.entry((s.tile, s.top)).or_default();
        let no_worse = |a: &State, b: &State| search.no_worse(place, a, b);
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

/// Partial mappings within a segment with equally many storages placed, of which none is needless.
#[derive(Default)]
struct Layer {
    locals: Vec<Local>,
    by_tile: FxHashMap<(Tile, u8, u32, Option<usize>), Vec<u32>>,
    dominated: u64,
}

impl Layer {
    fn add(&mut self, search: &Search, site: &Site, local: Local, compares: bool) {
        let s = &local.state;
        // Rooms and tiles of floating operands are told to neighbours: such mappings are not compared here.
        let told = search.placement.floating.iter().flatten().next().is_some() && site.segment == 0;
        if told || !compares {
            self.locals.push(local);
            return;
        }
        let same = self
            .by_tile
            .entry((s.tile, s.top, local.done, local.touching))
            .or_default();
        let no_worse = |a: &Local, b: &Local| search.no_worse_within(site, a, b);
        if same
            .iter()
            .any(|i| no_worse(&self.locals[*i as usize], &local))
        {
            self.dominated += 1;
            return;
        }
        if let Some(i) = same
            .iter()
            .find(|i| no_worse(&local, &self.locals[**i as usize]))
        {
            self.dominated += 1;
            self.locals[*i as usize] = local;
            return;
        }
        same.push(self.locals.len() as u32);
        self.locals.push(local);
    }
}
