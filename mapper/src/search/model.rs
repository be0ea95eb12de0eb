//! What a partial mapping costs, and what the rest of it costs at least.
//!
//! Loops, storage and spatial loops are placed from the outside in. With `n_d` tiles of dimension `d` outside a storage of
//! operand `X` ([`super::chain`]), `touched(X)` elements that any execution touches, and the loops in time inside the
//! innermost one that `X` is indexed by left out (they repeat the same tile):
//!
//! ```text
//! D = touched(X) x product over d not in X of n_d        words that enter all instances
//! G = the same, spatial loops between parent and child that the network shares left out
//! V = product of the trips of those loops in time        tiles that one instance takes
//! ```
//!
//! For operands whose ranks are single dimensions (*plain*) and domains without a mask, `D` and `G` are exact, so the energy of what is
//! placed is exact. For sliding windows they count a fully shared halo; for masked domains `n_d - 1` tiles
//! count by the mask's density: both are lower bounds. The time of a port takes the average instance for the busiest one,
//! the first tile at least `1 / V` of all: lower bounds, exact where tiles are complete.

use presil_hwmodels::Operand;
use presil_workloads::Domain;

use super::SearchError;
use super::assign::Assignment;
use super::chain::{Chain, Link, combinations};
use super::frame::Frame;
use crate::analysis::{Analyzer, compulsory};
use crate::problem::Problem;

/// Dimensions of more than one iteration that the search takes.
pub(super) const DIMS: usize = 10;
/// Memories, a stand-in for each operand's unknown parent included.
pub(super) const STORES: usize = 12;

/// A storage that a mapping may or must have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub operand: usize,
    pub store: usize,
    pub section: usize,
    pub required: bool,
}

/// Storage and fanouts between two fanouts: loops and storage stand in any order, then come the fanouts.
#[derive(Debug, Clone)]
pub(super) struct Section {
    /// Indices into [`Model::slots`].
    pub slots: std::ops::Range<usize>,
    /// Indices into [`Model::fans`].
    pub fans: std::ops::Range<usize>,
}

/// A memory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Store {
    /// Bits that tiles may take.
    pub capacity: f64,
    /// Joules for a bit read and written.
    pub energy: [f64; 2],
    /// Seconds for a bit read and written by one instance.
    pub time: [f64; 2],
    pub shared_port: bool,
    pub single: bool,
    pub setup: f64,
    pub latency: f64,
}

/// A problem compiled for the search.
pub(super) struct Model<'a> {
    pub frame: &'a Frame,
    pub chains: Vec<Chain>,
    pub sizes: Vec<u32>,
    /// Dimensions in order of descending density of use; masks of operands.
    pub named: Vec<u8>,
    pub stores: [Store; STORES],
    pub slots: Vec<Slot>,
    pub sections: Vec<Section>,
    /// Of each fanout its axes and joules for a bit.
    pub fans: Vec<(std::ops::Range<usize>, f64)>,
    pub touched: [f64; 3],
    /// Words that the compute takes, each operand.
    pub points: [f64; 3],
    /// For a masked domain, the dimensions coupled and the share of their points executed.
    pub masked: [bool; DIMS],
    pub density: f64,
    /// Whether the costs of placed storage are exact.
    pub exact: bool,
}

/// Index of the stand-in for an operand's unknown parent.
pub(super) fn stand_in(operand: usize) -> usize {
    STORES - 3 + operand
}

impl<'a> Model<'a> {
    /// Compiles a problem; none if it has too many dimensions or memories.
    pub fn new(problem: &Problem, frame: &'a Frame) -> Result<Option<Self>, SearchError> {
        let dims = frame.dims.len();
        if dims > DIMS || frame.stores.len() > STORES - 3 {
            return Ok(None);
        }
        let chains: Option<Vec<Chain>> = frame.dims.iter().map(|d| Chain::new(d.size)).collect();
        let Some(chains) = chains else {
            return Ok(None);
        };
        let mut stores = [Store::default(); STORES];
        for (store, s) in stores.iter_mut().zip(&frame.stores) {
            let place = problem.path.iter().position(|n| *n == s.node);
            let memory = problem.chip.nodes[s.node].memory();
            let bytes = place.and_then(|p| problem.capacity.get(p)).map_or(0, |b| b.0);
            *store = Store {
                capacity: bytes as f64 * 8.0 / f64::from(memory.map_or(1, |m| m.buffering.max(1))),
                energy: s.energy,
                time: s.time,
                shared_port: s.shared_port,
                single: s.single,
                setup: s.setup,
                latency: memory.map_or(0.0, |m| m.latency.0),
            };
        }
        let (slots, sections, fans) = sections(frame);
        let mut masked = [false; DIMS];
        let coupled = match problem.einsum.domain {
            Domain::Dense => None,
            Domain::Causal { query, key, .. } | Domain::Banded { query, key, .. } => Some([query, key]),
            Domain::Ragged { group, row, .. } => Some([group, row]),
        };
        for (m, d) in masked.iter_mut().zip(&frame.dims) {
            *m = coupled.is_some_and(|c| c.contains(&d.id));
        }
        let touched = compulsory(problem).map(|t| t as f64);
        let plain = (0..3).all(|o| {
            let full: f64 = frame
                .dims
                .iter()
                .filter(|d| d.operands & (1 << o) != 0)
                .map(|d| d.size as f64)
                .product();
            frame.ranks[o].iter().all(|r| r.terms.len() == 1) && touched[o] == full
        });
        let points = points(problem, frame)?;
        Ok(Some(Self {
            frame,
            sizes: frame.dims.iter().map(|d| d.size as u32).collect(),
            named: frame.dims.iter().map(|d| d.operands).collect(),
            chains,
            stores,
            slots,
            sections,
            fans,
            touched,
            points,
            masked,
            density: frame.density,
            exact: plain && coupled.is_none(),
        }))
    }

    pub fn has(&self, operand: usize, dim: usize) -> bool {
        self.named[dim] & (1 << operand) != 0
    }

    pub fn shares(&self, axis: u8, operand: usize) -> bool {
        self.frame.axes[usize::from(axis)].shared & (1 << operand) != 0
    }
}

/// Words that the compute takes of each operand: those that the innermost storage gives in the plainest mapping.
fn points(problem: &Problem, frame: &Frame) -> Result<[f64; 3], SearchError> {
    let macs = frame.macs;
    let windows = frame.ranks.iter().any(|o| o.iter().any(|r| r.terms.len() > 1))
        || compulsory(problem)
            .iter()
            .zip(&frame.ranks)
            .any(|(t, ranks)| *t as f64 != ranks.iter().map(|r| r.extent).product::<f64>());
    if !windows {
        return Ok([macs; 3]);
    }
    let plan = super::plan::Plan::trivial(frame);
    let Ok(mapping) = crate::Mapping::new(problem, plan.steps(frame)) else {
        // Nothing fits; nothing will be searched.
        return Ok([0.0; 3]);
    };
    let cost = Analyzer::new(problem)?.evaluate(&mapping)?;
    let mut points = [macs; 3];
    for operand in [Operand::Input, Operand::Weight] {
        let last = mapping.steps().iter().rev().find_map(|s| match s {
            crate::Step::Store { memory, operand: o } if *o == operand => Some(*memory),
            _ => None,
        });
        let count = cost
            .counts
            .iter()
            .find(|c| Some(c.memory) == last && c.operand == operand);
        if let Some(c) = count {
            points[operand.index()] = c.reads as f64;
        }
    }
    Ok(points)
}

type Fans = Vec<(std::ops::Range<usize>, f64)>;

fn sections(frame: &Frame) -> (Vec<Slot>, Vec<Section>, Fans) {
    let (mut slots, mut sections, mut fans): (Vec<Slot>, Vec<Section>, Fans) =
        (Vec::new(), Vec::new(), Vec::new());
    let mut start = 0;
    for (l, level) in frame.levels.iter().enumerate() {
        for operand in (0..3).filter(|_| l > 0) {
            if let Some(store) = level.memory[operand] {
                slots.push(Slot {
                    operand,
                    store,
                    section: sections.len(),
                    required: level.required & (1 << operand) != 0,
                });
            }
        }
        let from = fans.len();
        fans.extend(level.fans.iter().map(|f| (f.axes.clone(), f.hop)));
        if fans.len() > from || l + 1 == frame.levels.len() {
            sections.push(Section {
                slots: start..slots.len(),
                fans: from..fans.len(),
            });
            start = slots.len();
        }
    }
    (slots, sections, fans)
}

/// Where an operand is kept innermost so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    pub store: usize,
    /// Loops above it.
    pub place: u16,
    /// First fanout below it.
    pub fan: usize,
    /// Instances of it that work.
    pub instances: f64,
    /// Output: entries that started without a value.
    pub fresh: f64,
    /// Output: words drained from it.
    pub drained: f64,
    /// Elements of its tile.
    pub elements: f64,
    /// Whether it is the home (or stands for it).
    pub home: bool,
}

/// Traffic of one memory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Port {
    pub read: f64,
    pub write: f64,
    pub setup: f64,
    /// Exposed time of transfers that it takes part in.
    pub touched: f64,
}

/// Costs of what is placed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    /// Joules.
    pub energy: f64,
    /// First tiles in and last tiles out, at least.
    pub exposed: f64,
    /// That, and transfers into memories without a second buffer.
    pub wait: f64,
    /// Launch, fill and drain, answers of memories.
    pub fixed: f64,
    pub ports: [Port; STORES],
    /// Bits of tiles.
    pub used: [f64; STORES],
    pub answered: u16,
    pub held: [Held; 3],
    /// One more than the place of the innermost loop in time that indexes the operand.
    pub seen: [u16; 3],
}

impl Figures {
    /// Nothing placed but the homes, or stand-ins for parents in front of a section.
    pub fn new(model: &Model, from: usize) -> Self {
        let mut figures = Self {
            energy: 0.0,
            exposed: 0.0,
            wait: 0.0,
            fixed: model.frame.fixed,
            ports: [Port::default(); STORES],
            used: [0.0; STORES],
            answered: 0,
            held: [Held::default(); 3],
            seen: [0; 3],
        };
        for o in 0..3 {
            let store = match model.frame.levels[0].memory[o] {
                Some(home) if from == 0 => home,
                _ => stand_in(o),
            };
            figures.held[o] = Held {
                store,
                place: 0,
                fan: if from == 0 { 0 } else { model.sections[from - 1].fans.start },
                instances: 1.0,
                fresh: model.touched[o],
                drained: 0.0,
                elements: 0.0,
                home: true,
            };
            if from == 0 && o < 2 {
                figures.answer(model, store);
            }
        }
        figures
    }

    fn answer(&mut self, model: &Model, store: usize) {
        if self.answered & (1 << store) == 0 {
            self.answered |= 1 << store;
            self.fixed += model.stores[store].latency;
        }
    }
}

/// Loops placed so far.
#[derive(Debug, Clone)]
pub(super) struct Loops {
    /// Of each dimension, from the outside in.
    pub links: [Vec<Link>; DIMS],
    /// Tiles of each dimension.
    pub tiles: [u32; DIMS],
    /// Loops in all.
    pub count: u16,
    /// Spatial iterations.
    pub instances: f64,
    /// Axes whose spatial loops are placed: those before this one.
    pub axes_passed: usize,
}

impl Loops {
    pub fn new() -> Self {
        Self {
            links: std::array::from_fn(|_| Vec::with_capacity(12)),
            tiles: [1; DIMS],
            count: 0,
            instances: 1.0,
            axes_passed: 0,
        }
    }

    /// Adds a loop that makes so many tiles.
    pub fn push(&mut self, dim: usize, tiles: u32, axis: Option<u8>) {
        let trips = tiles.div_ceil(self.tiles[dim]);
        self.links[dim].push(Link {
            trips,
            tiles,
            place: self.count,
            axis,
        });
        self.tiles[dim] = tiles;
        self.count += 1;
        if axis.is_some() {
            self.instances *= f64::from(trips);
        }
    }

    /// Takes the last loop of a dimension away.
    pub fn pop(&mut self, dim: usize) {
        if let Some(l) = self.links[dim].pop() {
            self.tiles[dim] = self.links[dim].last().map_or(1, |l| l.tiles);
            self.count -= 1;
            if l.axis.is_some() {
                self.instances /= f64::from(l.trips);
            }
        }
    }
}

impl Model<'_> {
    /// Smallest possible tile of a dimension.
    fn tile(&self, loops: &Loops, dim: usize) -> u32 {
        self.sizes[dim].div_ceil(loops.tiles[dim])
    }

    /// Elements of an operand's tile, at least.
    pub fn elements(&self, loops: &Loops, operand: usize) -> f64 {
        let mut tile = [0u64; DIMS];
        for (d, t) in tile.iter_mut().enumerate().take(self.sizes.len()) {
            *t = u64::from(self.tile(loops, d));
        }
        self.frame.elements(operand, &tile[..self.sizes.len()])
    }

    /// How often words of an operand are repeated over the loops that it is not indexed by, of those kept.
    fn repeats(&self, loops: &Loops, operand: usize, keep: impl Fn(&Link) -> bool + Copy) -> f64 {
        let mut product = 1.0;
        for d in 0..self.sizes.len() {
            if !self.has(operand, d) && !loops.links[d].is_empty() {
                product *= self.thinned(d, combinations(&loops.links[d], keep));
            }
        }
        product
    }

    /// Tiles of a dimension, thinned by a mask.
    fn thinned(&self, dim: usize, count: f64) -> f64 {
        if self.masked[dim] {
            (self.density * (count - 1.0)).max(1.0)
        } else {
            count
        }
    }

    /// Places the next storage of an operand, or, without one, its way to the compute. None if tiles do not fit.
    pub fn place(
        &self,
        loops: &Loops,
        mut f: Figures,
        operand: usize,
        child: Option<Slot>,
    ) -> Option<Figures> {
        let parent = f.held[operand];
        let seen = if child.is_some() { f.seen[operand] } else { u16::MAX };
        let timed = |l: &Link| l.axis.is_some() || l.place < seen;
        let merged = |l: &Link, from: u16| {
            l.place >= from && l.axis.is_some_and(|a| self.shares(a, operand))
        };
        let (entering, served) = if child.is_some() {
            let t = self.touched[operand];
            let all = self.repeats(loops, operand, timed);
            let once = self.repeats(loops, operand, |l| timed(l) && !merged(l, parent.place));
            (t * all, t * once)
        } else {
            let mut share = 1.0;
            for d in 0..self.sizes.len() {
                if !self.has(operand, d) {
                    let once = combinations(&loops.links[d], |l| !merged(l, parent.place));
                    share *= once / f64::from(self.sizes[d]);
                }
            }
            (self.points[operand], self.points[operand] * share)
        };
        let p = self.stores[parent.store];
        let (width, wide) = (self.frame.bits[operand], self.frame.partial);
        let mut fresh = 0.0;
        // Bits read and written above and here.
        let (above, here);
        let mut hop_bits = [served * width, 0.0];
        if operand == 2 {
            let (apart, ever) = self.apart(loops, parent.place);
            let again = (served - parent.fresh).max(0.0);
            let returned = if apart || parent.store == stand_in(2) { 0.0 } else { again };
            let finals = if ever { 0.0 } else { self.touched[2].min(served) };
            fresh = entering - returned;
            above = [again * wide, finals * width + (served - finals) * wide];
            here = [entering * width, returned * wide];
            hop_bits = [finals, returned];
            if !parent.home && self.partial(loops, parent.place) {
                self.widen(&mut f, parent)?;
            }
        } else {
            above = [served * width, 0.0];
            here = [0.0, entering * width];
            f.answer(self, parent.store);
        }
        for fan in parent.fan..self.fans_passed(loops, child) {
            let hop = self.fans[fan].1;
            if hop > 0.0 {
                let inner = self.fans[fan].0.end;
                let keep = |l: &Link| {
                    timed(l) && !(merged(l, parent.place) && l.axis.is_some_and(|a| usize::from(a) >= inner))
                };
                let words = if child.is_some() {
                    self.touched[operand] * self.repeats(loops, operand, keep)
                } else {
                    let mut share = 1.0;
                    for d in (0..self.sizes.len()).filter(|d| !self.has(operand, *d)) {
                        share *= combinations(&loops.links[d], keep) / f64::from(self.sizes[d]);
                    }
                    self.points[operand] * share
                };
                let bits = if operand == 2 {
                    let finals = if words == served { hop_bits[0] } else { 0.0 };
                    finals * width + (words - finals + hop_bits[1]) * wide
                } else {
                    words * width
                };
                f.energy += bits * hop;
            }
        }
        f.energy += above[0] * p.energy[0] + above[1] * p.energy[1];
        let times = [above[0] * p.time[0], above[1] * p.time[1]].map(|t| t / parent.instances);
        f.ports[parent.store].read += times[0];
        f.ports[parent.store].write += times[1];
        let Some(slot) = child else {
            return Some(f);
        };
        let c = self.stores[slot.store];
        f.energy += here[0] * c.energy[0] + here[1] * c.energy[1];
        let own = [here[0] * c.time[0], here[1] * c.time[1]].map(|t| t / loops.instances);
        f.ports[slot.store].read += own[0];
        f.ports[slot.store].write += own[1];
        let visits = self.visits(loops, seen);
        let slower = if operand == 2 {
            times[1].max(own[0])
        } else {
            times[0].max(own[1])
        };
        let first = slower / visits + p.setup;
        f.exposed += first;
        f.wait += if c.single { slower + p.setup } else { first };
        f.ports[parent.store].setup += p.setup * visits;
        f.ports[parent.store].touched += first;
        f.ports[slot.store].touched += first;
        let elements = self.elements(loops, operand);
        f.used[slot.store] += elements * width;
        if f.used[slot.store] > c.capacity {
            return None;
        }
        f.held[operand] = Held {
            store: slot.store,
            place: loops.count,
            fan: self.sections[slot.section].fans.start,
            instances: loops.instances,
            fresh,
            drained: entering,
            elements,
            home: false,
        };
        Some(f)
    }

    fn fans_passed(&self, _loops: &Loops, child: Option<Slot>) -> usize {
        child.map_or(self.fans.len(), |s| self.sections[s.section].fans.start)
    }

    /// Tiles that one instance takes.
    fn visits(&self, loops: &Loops, seen: u16) -> f64 {
        let mut product = 1.0;
        for links in &loops.links[..self.sizes.len()] {
            for l in links.iter().filter(|l| l.axis.is_none() && l.place < seen) {
                product *= f64::from(l.trips);
            }
        }
        if self.density < 1.0 { 1.0f64.max(product) } else { product }
    }

    /// Whether instances between a storage of the output and now, and whether any, sum the same outputs apart.
    fn apart(&self, loops: &Loops, from: u16) -> (bool, bool) {
        let (mut between, mut ever) = (false, false);
        for (d, links) in loops.links[..self.sizes.len()].iter().enumerate() {
            if !self.frame.dims[d].scatters {
                continue;
            }
            for l in links {
                let Some(axis) = l.axis else { continue };
                let inside = l.place >= from;
                let merged = inside && !self.has(2, d) && self.shares(axis, 2);
                between |= inside && !merged;
                ever |= !merged;
            }
        }
        (between, ever)
    }

    /// Whether the output's innermost storage, under so many loops, may hold partial sums.
    fn partial(&self, loops: &Loops, from: u16) -> bool {
        loops.links[..self.sizes.len()].iter().enumerate().any(|(d, links)| {
            self.frame.dims[d].scatters
                && links.iter().any(|l| {
                    let summed = l.place >= from
                        && !self.has(2, d)
                        && l.axis.is_some_and(|a| self.shares(a, 2));
                    !summed
                })
        })
    }

    /// Turns an output storage's tile and drains to the accumulator's width.
    fn widen(&self, f: &mut Figures, held: Held) -> Option<()> {
        let more = self.frame.partial - self.frame.bits[2];
        let s = self.stores[held.store];
        f.energy += held.drained * more * s.energy[0];
        f.ports[held.store].read += held.drained * more * s.time[0] / held.instances;
        f.used[held.store] += held.elements * more;
        (f.used[held.store] <= s.capacity).then_some(())
    }

    /// Iterations in time that the busiest instance makes, at least: what is placed, and the rest of an
    /// assignment of dimensions to axes.
    pub fn iterations(&self, loops: &Loops, assignment: &Assignment) -> f64 {
        let mut product = 1.0;
        for d in 0..self.sizes.len() {
            let size = self.sizes[d];
            let all = assignment.spread[d].max(1);
            let mut least = f64::from(size.div_ceil(all));
            let links = &loops.links[d];
            if links.iter().any(|l| l.axis.is_none()) {
                let timed = combinations(links, |l| l.axis.is_none());
                let done: u32 = links.iter().filter(|l| l.axis.is_some()).map(|l| l.trips).product();
                let rest = (all / done.max(1)).max(1);
                let tile = size.div_ceil(loops.tiles[d]).div_ceil(rest);
                least = least.max((timed - 1.0) * f64::from(tile) + 1.0).max(timed);
            }
            product *= least;
        }
        product * self.density
    }
}
