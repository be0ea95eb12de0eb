//! The search of one placement: which memories keep which operands is given, everything else is found.
//!
//! - [`fan`]: dimensions along the axes of a fan; [`segment`]: storages of a segment and the loops between them;
//!   [`close`](mod@close): the end of a segment, and of a mapping;
//! - [`bound`](mod@bound): what a partial mapping can become; [`front`](mod@front): which partial mappings are needless;
//! - [`obey`](mod@obey): what constraints of memories ask;
//! - [`goal`]: what is looked for and what was found; [`record`](mod@record): what became of each partial mapping.

mod bound;
mod close;
mod fan;
mod front;
mod goal;
mod obey;
mod record;
mod segment;

use std::rc::Rc;
use std::time::Instant;

use presil_workloads::Einsum;
use rustc_hash::FxHashMap;

use super::prices::{Bill, COLUMNS, Points};
use super::space::{DIMS, GATES, MEMORIES, Memory, OPERANDS, Space, Tile};
use crate::hierarchy::{Hierarchy, Mask};
use crate::search::Objective;
use bound::{Coming, Limits};
pub(super) use goal::{Common, Goal, Part, Parts, Room, Target, Tiles, no_more};
pub(super) use record::Record;

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
    /// Points at which it may become the best mapping.
    alive: Points,
    /// What is moved in what is decided, first visits not yet taken off.
    moved: Bill,
    /// What first visits save of that, for one iteration of the spatial loops outside that do not index the output.
    saved: Bill,
    /// Time over that of one instance that does all operations.
    time: f64,
    /// That of the compute alone: partial tiles are counted exactly in it, where they are.
    compute: f64,
    /// Dimensions along which ports inside serve tiles that do not divide it (those of operands that it does not index),
    /// or windows, or instances further in.
    uneven: Mask,
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
    /// Its number in the record, if there is one.
    node: u32,
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
    /// By gate: the ports of the segment's memories, one memory after the other.
    ports: [(f64, f64); GATES],
    /// Where bits used of each memory, and tiles, stand of the places where the floating operands were put.
    floats: [u32; 2],
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
    /// Whether a search ended before it looked at everything.
    pub cut: bool,
    /// Least bound of what it left then.
    pub open: Option<f64>,
}

/// When a search ends at the latest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fuse {
    /// Partial mappings looked at.
    pub work: u64,
    pub until: Option<Instant>,
}

impl Fuse {
    /// Never.
    pub(super) const NONE: Self = Self {
        work: u64::MAX,
        until: None,
    };
}

/// The smaller one of what there is.
pub(super) fn least(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    [a, b].into_iter().flatten().reduce(f64::min)
}

impl Work {
    /// Adds the work of another search.
    pub(super) fn add(&mut self, other: Self) {
        self.expanded += other.expanded;
        self.bounded += other.bounded;
        self.dominated += other.dominated;
        self.least = least(self.least, other.least);
        self.cut |= other.cut;
        self.open = least(self.open, other.open);
    }

    /// A lower bound of everything, with the best that was found.
    pub(super) fn bound(&self, found: f64) -> f64 {
        let open = self.open.filter(|_| self.cut);
        least(least(self.least, open), Some(found)).unwrap_or(found)
    }

    /// Something of a bound is left.
    pub(super) fn leave(&mut self, bound: f64) {
        self.open = least(self.open, Some(bound));
    }
}

pub(super) struct Search<'a> {
    space: &'a Space,
    /// What partial tiles are counted exactly on: the hierarchy of each point.
    exact: Option<(&'a Einsum, &'a [Hierarchy])>,
    objective: Objective,
    placement: &'a Placement,
    index: usize,
    /// What is known of storages still to come, by operand and their number less one.
    coming: Vec<Vec<Coming>>,
    /// Whether every dimension leaves at most one operand unindexed.
    exclusive: bool,
    /// Ports below a fan that carry partial sums: segment, memory, port.
    slots: Vec<(usize, usize, usize)>,
    /// By segment and number of axes of the fan below it that are still open.
    limits: Vec<Vec<Limits>>,
    /// Steps with the one before.
    arena: Vec<(u32, Step)>,
    pub work: Work,
    /// What became of each partial mapping, if that is asked for.
    pub record: Option<Record>,
    fuse: Fuse,
    /// Questions whether the fuse has burnt down.
    asked: u64,
    /// The tiles that a loop may leave above a tile of a dimension, as far as they were asked for.
    ladders: FxHashMap<(usize, u32), Rc<[u32]>>,
    /// Bits used and tiles where floating operands were put.
    floats: Vec<(Room, Tile)>,
}

/// A segment, and how many axes of the fan below it are still open.
type Place = (usize, usize);

const NONE: u32 = u32::MAX;

impl<'a> Search<'a> {
    pub(super) fn new(
        space: &'a Space,
        exact: Option<(&'a Einsum, &'a [Hierarchy])>,
        objective: Objective,
        placement: &'a Placement,
        index: usize,
        fuse: Fuse,
    ) -> Self {
        let output = space.operands.len() - 1;
        let mut search = Self {
            space,
            exact,
            objective,
            placement,
            index,
            coming: Vec::new(),
            slots: slots(space),
            exclusive: (0..space.dims.len())
                .all(|d| space.operands.iter().filter(|o| !o.indexed.has(d)).count() <= 1),
            limits: Limits::all(space),
            arena: Vec::new(),
            work: Work::default(),
            record: None,
            fuse,
            asked: 0,
            ladders: FxHashMap::default(),
            floats: Vec::new(),
        };
        search.coming = (0..=output).map(|o| search.coming(o)).collect();
        search
    }

    fn memory(&self, (segment, memory): (usize, usize)) -> &'a Memory {
        &self.space.segments[segment].memories[memory]
    }

    /// Whether the search is to end.
    fn spent(&mut self) -> bool {
        let ask = self.asked.is_multiple_of(64);
        self.asked += 1;
        let late = || self.fuse.until.is_some_and(|t| Instant::now() >= t);
        self.work.cut |= self.work.expanded > self.fuse.work || (ask && late());
        self.work.cut
    }

    /// The tiles that a loop may leave above a tile of a dimension.
    fn ladder(&mut self, dim: usize, tile: u32) -> Rc<[u32]> {
        let space = self.space;
        let ladder = || {
            let mut tiles = Vec::new();
            space.outer_tiles(dim, tile, &mut tiles);
            tiles.into()
        };
        let known = self.ladders.entry((dim, tile)).or_insert_with(ladder);
        Rc::clone(known)
    }

    /// The points at which so many bits fit into the memories of a segment.
    fn holds(&self, segment: usize, used: &Room) -> Points {
        let memories = self.space.segments[segment].memories.iter();
        let fit = memories.zip(used).map(|(m, u)| m.holds(*u));
        fit.fold(Points::first(usize::MAX), Points::and)
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
            alive: Points::first(self.space.prices.points()),
            moved: [0.0; COLUMNS],
            saved: [0.0; COLUMNS],
            time: 1.0,
            compute: 1.0,
            uneven: Mask::NONE,
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
            node: NONE,
        }
    }

    /// Searches; a `beam` keeps only so many partial mappings at each fan (then nothing is proven).
    pub(super) fn run(&mut self, goal: &mut Goal, beam: Option<usize>) {
        let fits = |side: usize| {
            let floats = self.placement.floating[side].is_some();
            goal.asked[side]
                .as_ref()
                .is_none_or(|t| t.is_some() == floats)
        };
        let mut start = self.start();
        // Whole tensors fit by themselves, also where nothing else is kept.
        start.alive = goal.points(start.alive).and(self.holds(0, &self.homes()));
        if !fits(0) || !fits(1) || start.alive.is_empty() {
            return;
        }
        self.arena.clear();
        self.floats.clear();
        let count = self.space.segments.len();
        self.root_noted(&mut start);
        let innermost = (count - 1, self.space.segments[count - 1].axes.len());
        if self.worse(innermost, &mut start, goal) {
            self.work.bounded += 1;
            self.bounded(innermost, &start, goal);
            return;
        }
        let mut frontier = vec![start];
        for segment in (0..count).rev() {
            let spread = self.spread(segment, frontier, goal);
            frontier = self.segment(segment, spread, goal, beam);
            if segment > 0 && frontier.is_empty() {
                return;
            }
        }
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
                (0..memory.ports)
                    .filter(|p| cycles[0][*p] + cycles[2][*p] > 0.0)
                    .map(|p| (s, m, p)),
            );
        }
    }
    slots
}
