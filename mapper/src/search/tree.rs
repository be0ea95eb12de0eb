//! The tree of mappings of one assignment of dimensions to axes, from the outside in.

use super::assign::Assignment;
use super::frame::Frame;
use super::model::{DIMS, Figures, Loops, Model, STORES};
use super::rest::Floor;
use crate::mapping::Step;
use presil_hwmodels::Operand;

/// Relative difference below which two figures count as equal.
pub(super) const EQUAL: f64 = 1e-9;

/// What a search minimizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Figure {
    /// Seconds.
    Time,
    /// Joules, static ones included.
    Energy,
    /// Their product.
    Product,
    /// Joules of what is placed: for floors.
    Placed,
}

impl Figure {
    /// The figure of a time and an energy (static included).
    pub fn of(self, time: f64, energy: f64) -> f64 {
        match self {
            Self::Time => time,
            Self::Energy | Self::Placed => energy,
            Self::Product => time * energy,
        }
    }
}

/// What is sought: least of one figure, with another one at most so large.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goal {
    pub figure: Figure,
    pub limited: Figure,
    pub limit: f64,
}

/// A step of the way from the root to a node.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item {
    Keep(usize, usize),
    Loop(usize),
}

/// A leaf as it is offered for exact analysis.
pub(super) trait Judge {
    /// Analyses steps exactly: the sought figure, if they are legal and within the limit.
    fn judge(&mut self, steps: Vec<Step>, bound: f64) -> Option<f64>;
}

/// A search of the tree.
pub(super) struct Tree<'a, 'm, J: Judge> {
    pub model: &'a Model<'m>,
    pub assignment: &'a Assignment,
    pub floor: &'a Floor,
    pub goal: Goal,
    /// The best figure so far.
    pub best: f64,
    pub judge: J,
    /// Work left: bounds computed.
    pub budget: u64,
    pub work: u64,
    pub leaves: u64,
    pub pruned: u64,
    /// Least bound of what the budget left open.
    pub open: f64,
    /// Whether this is for a floor: only the placed energy counts, leaves are not analysed.
    pub partial: bool,
    loops: Loops,
    trail: Vec<Item>,
    pool: Vec<Vec<Candidate>>,
    from: usize,
    /// Bound of the node whose children are being listed.
    node: f64,
}

/// A child of a node.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    bound: f64,
    /// The slot filled; none: on to the fanouts.
    slot: Option<u8>,
    /// Its innermost loop's dimension.
    last: u8,
    tiles: [u32; DIMS],
}

impl<'a, 'm, J: Judge> Tree<'a, 'm, J> {
    pub fn new(
        model: &'a Model<'m>,
        assignment: &'a Assignment,
        floor: &'a Floor,
        goal: Goal,
        best: f64,
        judge: J,
        budget: u64,
    ) -> Self {
        Self {
            model,
            assignment,
            floor,
            goal,
            best,
            judge,
            budget,
            work: 0,
            leaves: 0,
            pruned: 0,
            open: f64::INFINITY,
            partial: goal.figure == Figure::Placed,
            loops: Loops::new(),
            trail: Vec::new(),
            pool: Vec::new(),
            from: 0,
            node: 0.0,
        }
    }

    /// Lower bound on the goal of every mapping of the assignment inside a section's outer border.
    pub fn root(&mut self, from: usize) -> f64 {
        let f = self.start(from);
        self.bound(&f, from, self.slots_from(from))
    }

    fn start(&self, from: usize) -> Figures {
        let mut f = Figures::new(self.model, from);
        if from == 0 {
            f.energy = self.model.frame.mac_energy;
        }
        f
    }

    fn slots_from(&self, section: usize) -> u32 {
        let range = self.model.sections.get(section).map_or(self.model.slots.len(), |s| s.slots.start);
        (range..self.model.slots.len()).fold(0, |s, i| s | 1 << i)
    }

    /// Searches all mappings inside a section's outer border.
    pub fn search(&mut self, from: usize) {
        self.from = from;
        let f = self.start(from);
        if from == 0 {
            let left = self.model.sections[0].slots.clone().fold(0, |s, i| s | 1 << i);
            self.section(0, f, left, None);
        } else {
            // The spatial loops further out come first: no loop in time is known there.
            self.fans(from - 1, 0, f);
        }
    }

    /// Lower bound on the goal of all mappings that hold what is placed.
    fn bound(&self, f: &Figures, section: usize, left: u32) -> f64 {
        let (model, frame) = (self.model, self.model.frame);
        let chain = model.rest(&self.loops, f, self.assignment, left);
        let floor = self.floor.energy.get(section).copied().unwrap_or(0.0);
        let dynamic = f.energy + chain.max(floor);
        if self.partial {
            return dynamic;
        }
        let time = self.time(f, section);
        let energy = dynamic + frame.static_power * time;
        if self.goal.limited.of(time, energy) > self.goal.limit * (1.0 + EQUAL) {
            return f64::INFINITY;
        }
        self.goal.figure.of(time, energy)
    }

    fn time(&self, f: &Figures, section: usize) -> f64 {
        let (model, frame) = (self.model, self.model.frame);
        let compute = model.iterations(&self.loops, self.assignment) * frame.point_time;
        let mut time = f.fixed + f.wait + compute;
        let floors = &self.floor.ports[section.min(self.floor.ports.len() - 1)];
        for ((port, store), floor) in f.ports.iter().zip(&model.stores).zip(floors).take(STORES - 3) {
            let (read, write) = (port.read + floor[0], port.write + floor[1]);
            let busy = port.setup + if store.shared_port { read + write } else { read.max(write) };
            if busy > 0.0 {
                time = time.max(f.fixed + busy + (f.exposed - port.touched).max(0.0));
            }
        }
        time
    }

    fn dead(&self, bound: f64) -> bool {
        bound >= self.best * (1.0 - EQUAL)
    }

    fn spend(&mut self, bound: f64) -> bool {
        self.work += 1;
        if self.work > self.budget {
            self.open = self.open.min(bound);
            return false;
        }
        true
    }

    /// All ways on from a place between two fanouts. `left` are the slots of the section that are not used yet; `after` is
    /// the one used last if no loop has followed it.
    fn section(&mut self, section: usize, f: Figures, left: u32, after: Option<usize>) {
        let inner = self.slots_from(section + 1);
        let mut list = self.pool.pop().unwrap_or_default();
        list.clear();
        let node = self.bound(&f, section + 1, left | inner);
        self.node = node;
        let required = (0..32).any(|s| left & (1 << s) != 0 && self.model.slots[s].required);
        if !required {
            let bound = self.bound(&f, section + 1, inner);
            list.push(Candidate { bound, slot: None, last: 0, tiles: [0; DIMS] });
        }
        for s in 0..self.model.slots.len() {
            if left & (1 << s) != 0 {
                let slot = self.model.slots[s];
                // A required slot of the operand further out comes first; optional ones are passed by.
                let skipped = |x: &usize| left & (1 << x) != 0 && self.model.slots[*x].operand == slot.operand;
                if (0..s).filter(skipped).any(|x| self.model.slots[x].required) {
                    continue;
                }
                let rest = self.without(left, s);
                self.gap(section, &f, s, rest, inner, after, &mut list);
            }
        }
        list.sort_by(|a, b| a.bound.total_cmp(&b.bound));
        for i in 0..list.len() {
            let c = list[i];
            if self.work > self.budget {
                self.open = self.open.min(c.bound);
                break;
            }
            if self.dead(c.bound) {
                self.pruned += (list.len() - i) as u64;
                break;
            }
            match c.slot {
                None => self.fans(section, self.loops.axes_passed, f),
                Some(s) => {
                    let s = usize::from(s);
                    let slot = self.model.slots[s];
                    let before = self.loops.count;
                    let pushed = self.push(&c.tiles, c.last, slot.operand);
                    let looped = self.loops.count > before;
                    let mut g = f;
                    self.note(&mut g, &pushed);
                    if let Some(g) = self.model.place(&self.loops, g, slot.operand, Some(slot)) {
                        self.trail.push(Item::Keep(slot.operand, slot.store));
                        let rest = self.without(left, s);
                        let _ = looped;
                        self.section(section, g, rest, Some(s));
                        self.trail.pop();
                    }
                    self.unpush(&pushed);
                }
            }
        }
        self.pool.push(list);
    }

    /// Slots left after one is used: those of its operand further out are passed by.
    fn without(&self, left: u32, slot: usize) -> u32 {
        let o = self.model.slots[slot].operand;
        (0..=slot)
            .filter(|x| self.model.slots[*x].operand == o)
            .fold(left, |l, x| l & !(1 << x))
    }

    /// Loops, then a storage: all choices that the bound leaves.
    #[expect(clippy::too_many_arguments, reason = "the state of one node")]
    fn gap(
        &mut self,
        section: usize,
        f: &Figures,
        s: usize,
        rest: u32,
        inner: u32,
        after: Option<usize>,
        list: &mut Vec<Candidate>,
    ) {
        let operand = self.model.slots[s].operand;
        // Without a loop in between, storage stands in order of the slots.
        let mut order: Vec<usize> = Vec::with_capacity(DIMS);
        let last_section = section + 1 == self.model.sections.len() || inner == 0;
        if !last_section {
            order.extend((0..self.model.sizes.len()).filter(|d| !self.model.has(operand, *d)));
        }
        let outer = order.len();
        order.extend((0..self.model.sizes.len()).filter(|d| self.model.has(operand, *d)));
        let mut tiles = self.loops.tiles;
        let bound = self.node;
        let gap = Gap { bound, section, s, rest, inner, in_order: after.is_none_or(|a| a < s), outer, order, last_section };
        self.choose(&gap, f, 0, &mut tiles, list);
    }

    fn choose(&mut self, gap: &Gap, f: &Figures, at: usize, tiles: &mut [u32; DIMS], list: &mut Vec<Candidate>) {
        if at == gap.order.len() {
            self.offer(gap, f, tiles, list);
            return;
        }
        let d = gap.order[at];
        let now = self.loops.tiles[d];
        let operand = self.model.slots[gap.s].operand;
        let chains = &self.model.chains;
        let capacity = self.model.stores[self.model.slots[gap.s].store].capacity;
        let used = f.used[self.model.slots[gap.s].store];
        for (n, _) in chains[d].inside(now) {
            tiles[d] = n;
            if at >= gap.outer {
                // Later dimensions at their smallest tiles.
                let mut tile = [1u64; DIMS];
                for &e in &gap.order[gap.outer..=at] {
                    tile[e] = u64::from(self.model.sizes[e].div_ceil(tiles[e]));
                }
                let least = self.model.frame.elements(operand, &tile[..self.model.sizes.len()]);
                if used + least * self.model.frame.bits[operand].min(self.model.frame.partial) > capacity {
                    continue;
                }
            }
            if n > now && at + 1 < gap.order.len() {
                // What is chosen so far, in the order that forces least.
                let bound = self.peek(gap, f, tiles, at);
                if self.dead(bound) {
                    self.pruned += 1;
                    break;
                }
            }
            self.choose(gap, f, at + 1, tiles, list);
            if self.work > self.budget {
                self.open = self.open.min(gap.bound);
                break;
            }
        }
        tiles[d] = now;
    }

    /// Bound of a gap whose dimensions up to `at` are chosen, before its storage is placed.
    fn peek(&mut self, gap: &Gap, f: &Figures, tiles: &[u32; DIMS], at: usize) -> f64 {
        self.work += 1;
        let mut chosen = self.loops.tiles;
        for &d in &gap.order[..=at] {
            chosen[d] = tiles[d];
        }
        let pushed = self.push(&chosen, u8::MAX, self.model.slots[gap.s].operand);
        let bound = self.bound(f, gap.section, gap.rest | 1 << gap.s | gap.inner);
        self.unpush(&pushed);
        bound
    }

    /// Candidates for chosen tile counts: one for each innermost loop that matters.
    fn offer(&mut self, gap: &Gap, f: &Figures, tiles: &[u32; DIMS], list: &mut Vec<Candidate>) {
        let slot = self.model.slots[gap.s];
        let changed = |d: usize| tiles[d] > self.loops.tiles[d];
        let relevant = gap.order[gap.outer..].iter().copied().filter(|d| changed(*d));
        let mut lasts: Vec<usize> = Vec::with_capacity(4);
        for d in relevant.rev() {
            let kind = self.model.named[d];
            let same = |x: &usize| self.model.named[*x] == kind;
            if lasts.is_empty() || ((!gap.last_section || !self.model.exact) && (!self.model.exact || !lasts.iter().any(same))) {
                lasts.push(d);
            }
        }
        if lasts.is_empty() {
            // Loops that leave the tile as it is belong further in.
            if gap.order[..gap.outer].iter().any(|d| changed(*d)) || !gap.in_order {
                return;
            }
            lasts.push(usize::from(u8::MAX));
        }
        for last in lasts {
            let pushed = self.push(tiles, last as u8, slot.operand);
            let mut g = *f;
            self.note(&mut g, &pushed);
            let placed = self.model.place(&self.loops, g, slot.operand, Some(slot));
            let bound = placed.map_or(f64::INFINITY, |g| self.bound(&g, gap.section + 1, gap.rest | gap.inner));
            self.unpush(&pushed);
            if self.dead(bound) {
                self.pruned += 1;
            } else if self.spend(bound) {
                list.push(Candidate { bound, slot: Some(gap.s as u8), last: last as u8, tiles: *tiles });
            }
        }
    }

    /// Adds loops in time up to some tile counts: those that the operand is not indexed by outermost, the kind of
    /// `last` innermost, `last` itself last. Returns their dimensions.
    fn push(&mut self, tiles: &[u32; DIMS], last: u8, operand: usize) -> Pushed {
        let mut pushed = Pushed { dims: [0; DIMS], count: 0 };
        let kind = self.model.named.get(usize::from(last)).copied();
        for pass in 0..4 {
            for d in 0..self.model.sizes.len() {
                let class = if d == usize::from(last) {
                    3
                } else if kind == Some(self.model.named[d]) {
                    2
                } else if self.model.has(operand, d) {
                    1
                } else {
                    0
                };
                if class == pass && tiles[d] > self.loops.tiles[d] {
                    self.loops.push(d, tiles[d], None);
                    self.trail.push(Item::Loop(d));
                    pushed.dims[pushed.count] = d as u8;
                    pushed.count += 1;
                }
            }
        }
        pushed
    }

    fn unpush(&mut self, pushed: &Pushed) {
        for d in pushed.dims[..pushed.count].iter().rev() {
            self.loops.pop(usize::from(*d));
            self.trail.pop();
        }
    }

    /// Notes for each operand the innermost loop in time that indexes it.
    fn note(&self, f: &mut Figures, pushed: &Pushed) {
        let first = self.loops.count - pushed.count as u16;
        for (i, d) in pushed.dims[..pushed.count].iter().enumerate() {
            for (o, seen) in f.seen.iter_mut().enumerate() {
                if self.model.has(o, usize::from(*d)) {
                    *seen = first + i as u16 + 1;
                }
            }
        }
    }

    /// The spatial loops below a section, then the next section or the compute.
    fn fans(&mut self, section: usize, axis: usize, f: Figures) {
        let model = self.model;
        let end = model.sections.get(section + 1).map_or(model.frame.axes.len(), |s| {
            model.fans.get(s.fans.start).map_or(model.frame.axes.len(), |f| f.0.start)
        });
        self.spread(section, axis, end, 0, f);
    }

    fn spread(&mut self, section: usize, axis: usize, end: usize, at: usize, f: Figures) {
        let spreads = &self.assignment.spreads;
        let from = spreads.partition_point(|s| usize::from(s.axis) < axis) + at;
        match spreads.get(from).filter(|s| usize::from(s.axis) < end) {
            Some(s) => {
                let d = usize::from(s.dim);
                for n in self.model.chains[d].with_trips(self.loops.tiles[d], s.trips) {
                    self.loops.push(d, n, Some(s.axis));
                    self.trail.push(Item::Loop(d));
                    self.spread(section, axis, end, at + 1, f);
                    self.trail.pop();
                    self.loops.pop(d);
                }
            }
            None => {
                let before = std::mem::replace(&mut self.loops.axes_passed, end);
                let left = self.slots_from(section + 1);
                let bound = self.bound(&f, section + 1, left);
                if self.dead(bound) {
                    self.pruned += 1;
                } else if self.spend(bound) {
                    match self.model.sections.get(section + 1) {
                        Some(next) => {
                            let mine = next.slots.clone().fold(0, |s, i| s | 1 << i);
                            self.section(section + 1, f, mine, None);
                        }
                        None => self.leaf(f),
                    }
                }
                self.loops.axes_passed = before;
            }
        }
    }

    /// What is left runs innermost; its order does not matter.
    fn leaf(&mut self, f: Figures) {
        let mut tiles = [1; DIMS];
        tiles[..self.model.sizes.len()].copy_from_slice(&self.model.sizes);
        let reaches = (0..self.model.sizes.len()).all(|d| {
            let (n, size) = (self.loops.tiles[d], self.model.sizes[d]);
            size.div_ceil(size.div_ceil(n)) == n
        });
        if !reaches {
            return;
        }
        let pushed = self.push(&tiles, u8::MAX, 0);
        let mut g = Some(f);
        for o in 0..3 {
            g = g.and_then(|g| self.model.place(&self.loops, g, o, None));
        }
        if let Some(g) = g {
            let bound = self.bound(&g, self.model.sections.len(), 0);
            if !self.dead(bound) {
                self.leaves += 1;
                if self.partial {
                    self.best = bound;
                } else if let Some(found) = self.judge.judge(self.steps(), bound) {
                    self.best = self.best.min(found);
                }
            } else {
                self.pruned += 1;
            }
        }
        self.unpush(&pushed);
    }

    /// The steps of the mapping that is placed.
    fn steps(&self) -> Vec<Step> {
        let frame: &Frame = self.model.frame;
        let mut at = [0usize; DIMS];
        let homes = (0..3).filter_map(|o| {
            let home = frame.levels[0].memory[o]?;
            Some(Step::Store { memory: frame.stores[home].node, operand: Operand::ALL[o] })
        });
        let mut steps: Vec<Step> = homes.collect();
        for item in &self.trail {
            match *item {
                Item::Keep(operand, store) => steps.push(Step::Store {
                    memory: frame.stores[store].node,
                    operand: Operand::ALL[operand],
                }),
                Item::Loop(d) => {
                    let links = &self.loops.links[d];
                    let link = links[at[d]];
                    at[d] += 1;
                    let tile: u64 = links[at[d]..].iter().map(|l| u64::from(l.trips)).product();
                    let dim = frame.dims[d].id;
                    steps.push(match link.axis {
                        None => Step::Temporal { dim, tile },
                        Some(a) => {
                            let axis = &frame.axes[usize::from(a)];
                            Step::Spatial { fanout: axis.fanout, axis: axis.axis, dim, tile }
                        }
                    });
                }
            }
        }
        steps
    }
}

struct Gap {
    /// Bound of the node above.
    bound: f64,
    section: usize,
    s: usize,
    rest: u32,
    inner: u32,
    in_order: bool,
    outer: usize,
    order: Vec<usize>,
    last_section: bool,
}

struct Pushed {
    dims: [u8; DIMS],
    count: usize,
}
