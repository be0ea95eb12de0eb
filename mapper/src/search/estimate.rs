//! The cost of a plan in closed form, in about a microsecond: what the search climbs on.
//!
//! It follows [`crate::analysis`], with sums over tiles in place of walks. For a storage of operand `X` with a
//! tile of `e` elements, the loops in time above it give
//!
//! ```text
//! visits   = product of trips of all loops down to the innermost one that indexes X   (what lies further in
//!            repeats the same tile)
//! entering = visits x e x instances                                                   (all instances)
//! served   = entering / instances that one word serves
//! ```
//!
//! where the steps of that innermost loop fetch only the new part of a window. Loops over dimensions that index
//! the operand count partial tiles in part, so sums over plain dimensions are exact; borders of padded windows,
//! halos kept over a reset of inner loops, and masks are not: the exact analysis judges the best plans. Bursts and rows of
//! a home off chip stretch what its tiles take as they do there ([`crate::analysis::runs`]).

use std::hash::BuildHasher;

use rustc_hash::{FxBuildHasher, FxHashMap};

use super::Objective;
use super::frame::{Frame, OffChip};
use super::plan::{Item, Loop, Plan};
use crate::analysis::runs::Stretch;
use crate::analysis::time::Port;

/// Time and energy of a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    /// Seconds.
    pub time: f64,
    /// Joules.
    pub energy: f64,
}

/// What is compared: the objective, then what breaks ties.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Score(pub f64, pub f64);

impl Score {
    /// Worse than everything.
    pub const WORST: Self = Self(f64::INFINITY, f64::INFINITY);

    /// The score of a time and an energy.
    pub fn new(objective: Objective, time: f64, energy: f64) -> Self {
        match objective {
            Objective::Latency => Self(time, energy),
            Objective::Energy => Self(energy, time),
            Objective::Edp => Self(time * energy, energy),
        }
    }

    /// Better by more than rounding.
    pub fn beats(self, other: Self) -> bool {
        let near = |a: f64, b: f64| a == b || (a - b).abs() < 1e-9 * a.abs().min(b.abs());
        if near(self.0, other.0) {
            self.1 < other.1 && !near(self.1, other.1)
        } else {
            self.0 < other.0
        }
    }
}

/// Buffers and counters of estimates.
#[derive(Debug, Default)]
pub(super) struct Estimator {
    items: Vec<Item>,
    tile: Vec<u64>,
    /// A tile of the walk.
    here: Vec<u64>,
    /// Traffic by store.
    ports: Vec<Traffic>,
    /// Bits that tiles take by store.
    used: Vec<f64>,
    /// Whether partial sums are held, by store.
    partial: Vec<bool>,
    /// Estimates by the plan's hash: climbs come back to two plans of five. (Two plans of one hash would mislead a
    /// climb, not the result, which is analysed exactly.)
    seen: FxHashMap<u64, Option<Estimate>>,
    /// Estimates made.
    pub count: u64,
}

impl Estimator {
    /// The estimate of a plan; none if its tiles do not fit.
    pub fn estimate(&mut self, frame: &Frame, plan: &Plan) -> Option<Estimate> {
        self.count += 1;
        let key = FxBuildHasher.hash_one(plan);
        if let Some(known) = self.seen.get(&key) {
            return *known;
        }
        let estimate = self.calculate(frame, plan);
        self.seen.insert(key, estimate);
        estimate
    }

    fn calculate(&mut self, frame: &Frame, plan: &Plan) -> Option<Estimate> {
        plan.lower(frame, &mut self.items, &mut self.tile);
        let n = frame.stores.len();
        self.ports.clear();
        self.ports.resize(n, Traffic::default());
        self.used.clear();
        self.used.resize(n, 0.0);
        self.partial.clear();
        self.partial.resize(n, false);
        if !self.fits(frame) {
            return None;
        }
        let mut energy = frame.mac_energy;
        let mut wait = Wait::default();
        for operand in 0..3 {
            energy += self.traffic(frame, operand, &mut wait);
        }
        let mut steady = self.compute_time(frame) + wait.stalled;
        let mut longest = steady;
        for (at, (port, store)) in self.ports.iter().zip(&frame.stores).enumerate() {
            energy += port.bits[0] * store.energy[0] + port.bits[1] * store.energy[1];
            let (busy, rest) = port.time.busy(store.shared_port);
            longest = longest.max(busy);
            let inside = wait.outermost.is_some_and(|o| at > o);
            steady = steady.max(if inside { rest + wait.stalled } else { rest });
        }
        // What does not obey is worse than what does, the more the further it is from it.
        let rules = frame.rules.as_ref();
        let stretch = rules.map_or(1.0, |r| r.stretch(frame, &self.items));
        Some(Estimate {
            time: stretch * (frame.fixed + (wait.exposed + steady).max(longest)),
            energy: stretch * energy,
        })
    }

    /// Whether the tiles of the lowered plan fit.
    fn fits(&mut self, frame: &Frame) -> bool {
        self.mark_partial(frame);
        for item in &self.items {
            if let Item::Keep {
                operand,
                store,
                level,
                elements,
            } = *item
                && level > 0
            {
                let partial = operand == 2 && self.partial[store];
                self.used[store] += elements
                    * if partial {
                        frame.partial
                    } else {
                        frame.bits[operand]
                    };
            }
        }
        self.used
            .iter()
            .zip(&frame.stores)
            .all(|(u, s)| *u <= s.capacity)
    }

    /// Finds the stores of the output that may hold partial sums: a loop above the next one inside reduces, other
    /// than spatially on the way up between the two.
    fn mark_partial(&mut self, frame: &Frame) {
        let (mut reduced, mut summed, mut last) = (false, false, None);
        for item in &self.items {
            match *item {
                Item::Time(l) => reduced |= frame.dims[l.dim].scatters,
                Item::Space { each: l, axis } if frame.axes[axis].shared & 0b100 != 0 => {
                    summed |= frame.dims[l.dim].scatters;
                }
                Item::Space { each: l, .. } => reduced |= frame.dims[l.dim].scatters,
                Item::Keep {
                    operand: 2, store, ..
                } => {
                    if let Some(last) = last.replace(store) {
                        self.partial[last] = reduced;
                    }
                    reduced |= summed;
                }
                _ => {}
            }
        }
        if let Some(last) = last {
            self.partial[last] = reduced;
        }
    }

    /// Seconds of the busiest compute instance.
    fn compute_time(&self, frame: &Frame) -> f64 {
        let bit = |l: &Loop| 1u64 << (l.dim & 63);
        let (mut points, mut uneven) = (1.0, 0);
        for item in &self.items {
            if let Item::Time(l) | Item::Space { each: l, .. } = item
                && l.trips != l.ratio
            {
                uneven |= bit(l);
            }
        }
        for item in &self.items {
            if let Item::Time(l) = item
                && uneven & bit(l) == 0
            {
                points *= l.trips;
            }
        }
        for (dim, d) in frame.dims.iter().enumerate() {
            if uneven & (1 << (dim & 63)) != 0 {
                points *= iterations(&self.items, dim, d.size);
            }
        }
        points * frame.point_time * frame.density
    }

    /// Counts the traffic of an operand; the energy of its wires.
    fn traffic(&mut self, frame: &Frame, operand: usize, wait: &mut Wait) -> f64 {
        let bit = 1u8 << operand;
        let (mut run, mut between) = (Walk::default(), Between::default());
        let mut above: Option<Parent> = None;
        let mut wires = 0.0;
        for i in 0..self.items.len() {
            match self.items[i] {
                Item::Time(l) if frame.dims[l.dim].operands & bit != 0 => {
                    run.all *= l.ratio;
                    run.visits = run.all;
                    run.last = Some((i, l));
                }
                Item::Time(l) => run.all *= l.trips,
                Item::Fan { hop } => {
                    between.hops += between.hop * between.served;
                    between.hop = hop;
                }
                Item::Space { each: l, axis } => {
                    run.instances *= l.trips;
                    let dim = &frame.dims[l.dim];
                    let merged = dim.operands & bit == 0 && frame.axes[axis].shared & bit != 0;
                    run.parts *= if dim.operands & bit != 0 {
                        l.ratio
                    } else {
                        l.trips
                    };
                    if merged {
                        between.served *= l.trips;
                    }
                    if dim.scatters && !merged {
                        between.apart = true;
                        run.apart = true;
                    }
                }
                Item::Keep {
                    operand: o,
                    store,
                    level,
                    elements,
                } if o == operand => {
                    let mut fresh = elements;
                    if let (Some(parent), true) = (above, level > 0) {
                        let keeps = frame.stores[store].keep_overlap;
                        let share = if keeps {
                            self.fresh(frame, operand, &run)
                        } else {
                            1.0
                        };
                        let entering = run.visits * elements * share * run.parts;
                        let stretch = match &frame.off_chip[operand] {
                            Some(home) if parent.home => self.stretch(home, frame, i),
                            _ => [Stretch::NONE; 2],
                        };
                        let child = Child {
                            store,
                            elements,
                            visits: run.visits,
                            stretch,
                        };
                        fresh = self.edge(
                            frame,
                            operand,
                            parent,
                            Some(child),
                            entering,
                            &run,
                            &between,
                            wait,
                        );
                        wires += self.wires(frame, operand, entering, &between);
                    }
                    above = Some(Parent {
                        store,
                        home: level == 0,
                        instances: run.instances,
                        fresh,
                    });
                    between = Between::default();
                }
                Item::Keep { .. } => {}
            }
        }
        // The compute nodes take every operand anew for every point.
        if let Some(parent) = above {
            self.edge(
                frame, operand, parent, None, frame.macs, &run, &between, wait,
            );
            wires += self.wires(frame, operand, frame.macs, &between);
        }
        wires
    }

    /// Energy of the fanouts between a parent and its children: a word pays for each instance that it reaches.
    fn wires(&self, frame: &Frame, operand: usize, entering: f64, between: &Between) -> f64 {
        let served = entering / between.served;
        let width = if operand == 2 {
            frame.partial
        } else {
            frame.bits[operand]
        };
        served * (between.hops + between.hop * between.served) * width
    }

    /// Counts what crosses between a parent and its children (the compute: none). Returns how many entries of the
    /// children start without a value.
    #[expect(clippy::too_many_arguments, reason = "the state of one walk")]
    fn edge(
        &mut self,
        frame: &Frame,
        operand: usize,
        parent: Parent,
        child: Option<Child>,
        entering: f64,
        run: &Walk,
        between: &Between,
        wait: &mut Wait,
    ) -> f64 {
        let served = entering / between.served;
        let mut fresh = entering;
        // Bits read and written at the parent and the child.
        let (above, here) = if operand == 2 {
            let (width, wide) = (frame.bits[2], frame.partial);
            let again = (served - parent.fresh).max(0.0);
            let returned = if between.apart { 0.0 } else { again };
            let finals = if run.apart {
                0.0
            } else {
                frame.outputs.min(served)
            };
            let held = child.is_some_and(|c| self.partial[c.store]);
            fresh = entering - returned;
            let above = [again * wide, finals * width + (served - finals) * wide];
            (
                above,
                [entering * if held { wide } else { width }, returned * wide],
            )
        } else {
            let width = frame.bits[operand];
            ([served * width, 0.0], [0.0, entering * width])
        };
        let stretch = child.map_or([Stretch::NONE; 2], |c| c.stretch);
        let above = self.port(frame, parent.store, above, parent.instances, stretch);
        let Some(child) = child else { return fresh };
        let none = [Stretch::NONE; 2];
        let here = self.port(frame, child.store, here, run.instances, none);
        // The first tile in, or the last one out, overlaps with nothing.
        let part = (child.elements * run.instances / entering).min(1.0);
        let (above, here) = if operand == 2 {
            (above[1], here[0])
        } else {
            (above[0], here[1])
        };
        let setup = frame.stores[parent.store].setup;
        wait.exposed += above.max(here) * part + setup;
        if frame.stores[child.store].single {
            wait.stalled += above.max(here) * (1.0 - part);
            let outermost = wait.outermost.unwrap_or(child.store);
            wait.outermost = Some(outermost.min(child.store));
        }
        // Outputs are written above and read here.
        let out = usize::from(operand == 2);
        self.ports[parent.store].time.exposed[out] += above * part;
        self.ports[parent.store].time.exposed[2] += setup;
        self.ports[parent.store].time.setup += setup * child.visits;
        self.ports[child.store].time.exposed[1 - out] += here * part;
        fresh
    }

    /// Adds bits read and written to a store; the seconds that they take in one instance.
    fn port(
        &mut self,
        frame: &Frame,
        store: usize,
        bits: [f64; 2],
        instances: f64,
        stretch: [Stretch; 2],
    ) -> [f64; 2] {
        let time = frame.stores[store].time;
        let port = &mut self.ports[store];
        [0, 1].map(|i| {
            let seconds = bits[i] * time[i] / instances * stretch[i].time;
            port.bits[i] += bits[i] * stretch[i].bytes;
            port.time.seconds[i] += seconds;
            seconds
        })
    }

    /// What bursts and rows make of the tile that stands before an item.
    fn stretch(&mut self, home: &OffChip, frame: &Frame, item: usize) -> [Stretch; 2] {
        self.here.clear();
        self.here.extend(frame.dims.iter().map(|d| d.size));
        for item in &self.items[..item] {
            if let Item::Time(l) | Item::Space { each: l, .. } = item {
                self.here[l.dim] = l.tile;
            }
        }
        home.stretch(&self.here)
    }

    /// The part of a tile that a step of the innermost loop over its operand fetches, averaged over the loop.
    fn fresh(&self, frame: &Frame, operand: usize, run: &Walk) -> f64 {
        let Some((_, l)) = run.last else { return 1.0 };
        let rank = frame.ranks[operand]
            .iter()
            .find(|r| r.terms.len() > 1 && r.terms.iter().any(|t| t.0 == l.dim));
        let Some(rank) = rank else { return 1.0 };
        let (mut points, mut span) = (1.0, 1.0);
        let mut coefficient = 1.0;
        for &(d, c) in &rank.terms {
            let tile = if d == l.dim {
                l.tile
            } else {
                self.tile_at(run, d)
            };
            points *= tile as f64;
            span += (tile.saturating_sub(1)) as f64 * c / rank.step;
            if d == l.dim {
                coefficient = c / rank.step;
            }
        }
        let window = f64::min(points, span);
        let fresh = (coefficient * l.tile as f64).min(window);
        (window + (l.trips - 1.0) * fresh) / (l.trips * window)
    }

    /// A dimension's tile inside the innermost loop of a walk: that of the next loop further out over it, or all.
    fn tile_at(&self, run: &Walk, dim: usize) -> u64 {
        let end = run.last.map_or(0, |(i, _)| i);
        let outer = self.items[..end].iter().rev().find_map(|item| match item {
            Item::Time(l) | Item::Space { each: l, .. } if l.dim == dim => Some(l.tile),
            _ => None,
        });
        outer.unwrap_or(self.tile[dim])
    }
}

/// Traffic of one store.
#[derive(Debug, Clone, Copy, Default)]
struct Traffic {
    /// Bits read and written, all instances.
    bits: [f64; 2],
    /// Seconds of one instance.
    time: Port,
}

/// Seconds that overlap with nothing.
#[derive(Debug, Default)]
struct Wait {
    /// First tiles in, last tiles out.
    exposed: f64,
    /// Transfers into memories without a second buffer.
    stalled: f64,
    /// The outermost of those.
    outermost: Option<usize>,
}

/// What loops so far do to an operand.
#[derive(Debug)]
struct Walk {
    /// Iterations of all loops in time.
    all: f64,
    /// Of those down to the innermost that indexes the operand.
    visits: f64,
    /// Iterations in space: those that index it counted in part.
    parts: f64,
    /// Instances that work.
    instances: f64,
    /// Whether instances update the same outputs separately.
    apart: bool,
    /// The innermost loop that indexes it, and its place.
    last: Option<(usize, Loop)>,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            all: 1.0,
            visits: 1.0,
            parts: 1.0,
            instances: 1.0,
            apart: false,
            last: None,
        }
    }
}

/// The loops in space between a storage and the next one inside.
#[derive(Debug)]
struct Between {
    /// Children that one word serves.
    served: f64,
    /// Whether children update the same outputs separately.
    apart: bool,
    /// Joules for a bit served over all fanouts but the last one.
    hops: f64,
    /// Joules for a bit over the last fanout.
    hop: f64,
}

impl Default for Between {
    fn default() -> Self {
        Self {
            served: 1.0,
            apart: false,
            hops: 0.0,
            hop: 0.0,
        }
    }
}

/// A storage.
#[derive(Debug, Clone, Copy)]
struct Parent {
    store: usize,
    /// Whether the operand starts (or ends) there.
    home: bool,
    instances: f64,
    /// Entries that start without a value, all instances.
    fresh: f64,
}

/// The next storage inside.
#[derive(Debug, Clone, Copy)]
struct Child {
    store: usize,
    /// Elements of a tile.
    elements: f64,
    /// Tiles that it takes one after the other.
    visits: f64,
    /// What the parent's bursts and rows make of them, when read and when written.
    stretch: [Stretch; 2],
}

/// Iterations in time that the busiest instance makes over a dimension: partial tiles run only their own part.
fn iterations(items: &[Item], dim: usize, size: u64) -> f64 {
    fn go(items: &[Item], dim: usize, extent: u64) -> f64 {
        for (i, item) in items.iter().enumerate() {
            match item {
                Item::Time(l) if l.dim == dim => {
                    let (whole, rest) = (extent / l.tile, extent % l.tile);
                    let inner = &items[i + 1..];
                    let full = if whole > 0 {
                        whole as f64 * go(inner, dim, l.tile)
                    } else {
                        0.0
                    };
                    return full + if rest > 0 { go(inner, dim, rest) } else { 0.0 };
                }
                Item::Space { each: l, .. } if l.dim == dim => {
                    return go(&items[i + 1..], dim, extent.min(l.tile));
                }
                _ => {}
            }
        }
        1.0
    }
    go(items, dim, size)
}
