//! What a user asks of mappings beside what the chip asks: constraints of loops and of room.
//!
//! A loop in time stands at the memory of the next storage outside it; the outermost loops, below the homes of all operands,
//! stand at the outermost home. So where loops stand depends on the place of each storage, also where its tile came
//! earlier and stays ([`super::shape`]).
//!
//! In the search
//!
//! - axes: assignments that break a rule are not made;
//! - `forbidden`, `trips`: loops of a dimension at a memory are a matter of its chain alone, so options of a
//!   dimension are built under these rules;
//! - `order`, `min_utilization`: matters of several dimensions; partial choices that break one are cut off, and no option is
//!   dropped because another one, which may break it, costs less;
//! - every mapping that is analysed is checked as a whole.
//!
//! Bounds of the free space hold for what obeys. What the free space leaves out as needless may be all that obeys: loops of named
//! dimensions stand in every gap, and loops of which trips are given, or any if tiles have to be large, have any trips.

use presil_hwmodels::{NodeId, NodeKind, Operand};
use presil_numerics::ids::Id;
use presil_workloads::DimId;

use super::SearchError;
use super::assign::Assignment;
use super::frame::Frame;
use super::plan::{Item, Spread};
use crate::mapping::Step;
use crate::{Mapping, Problem};

/// What is asked of the loops that stand at a memory or lie across a fanout, and of the use of either.
#[derive(Debug, Clone, PartialEq)]
pub struct Constraint {
    /// The memory or fanout.
    pub level: NodeId,
    /// One axis of the fanout; none: all.
    pub axis: Option<u8>,
    /// Trips of all its loops over a dimension together.
    pub trips: Vec<(DimId, u64)>,
    /// Dimensions without a loop of more than one trip.
    pub forbidden: Vec<DimId>,
    /// Order of its loops, innermost first, as far as it is given; loops across one axis are written in it.
    pub order: Vec<DimId>,
    /// Least share that tiles take of the memory's capacity, as far as it is free, or that is used of the instances.
    pub min_utilization: f64,
}

impl Constraint {
    /// Nothing asked.
    pub fn none(level: NodeId) -> Self {
        Self {
            level,
            axis: None,
            trips: Vec::new(),
            forbidden: Vec::new(),
            order: Vec::new(),
            min_utilization: 0.0,
        }
    }
}

/// Where a rule holds.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    /// Index into [`Frame::stores`].
    Store(usize),
    /// Indices into [`Frame::axes`].
    Axes(std::ops::Range<usize>),
}

/// A constraint in terms of a frame.
#[derive(Debug, Clone)]
struct Rule {
    place: Place,
    trips: Vec<(usize, u64)>,
    /// Dimensions, as bits.
    forbidden: u32,
    order: Vec<usize>,
    /// Bits of tiles, or instances.
    least: f64,
}

impl Rule {
    fn names(&self) -> u32 {
        let dims = self
            .trips
            .iter()
            .map(|t| t.0)
            .chain(self.order.iter().copied());
        dims.fold(self.forbidden, |s, d| s | 1 << d)
    }

    fn trips(&self, dim: usize) -> Option<u64> {
        self.trips.iter().find(|t| t.0 == dim).map(|t| t.1)
    }
}

/// Which loops a dimension may have at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loops {
    /// Any, of fewest trips.
    Free,
    /// Any of any trips.
    All,
    /// Of so many trips together.
    Given(u32),
    None,
}

impl Loops {
    /// Trips from 2 to `most` of one of several loops that obey together.
    pub fn trips(self, most: u64) -> Vec<u32> {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let one = |n: &u32| match self {
            Self::Given(given) => given.is_multiple_of(*n),
            Self::Free | Self::All => true,
            Self::None => false,
        };
        let most = match self {
            Self::Given(given) => most.min(given),
            _ => most,
        };
        (2..=most).filter(one).collect()
    }
}

/// The constraints of a problem.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    /// Where the outermost loops stand.
    pub outermost: usize,
    /// Dimensions whose loops have to be told apart by where they stand, as bits.
    pub told: u32,
    /// Whether tiles at a memory have to be large.
    pub filled: bool,
}

/// A loop or a storage of a mapping.
#[derive(Debug, Clone, Copy)]
enum Part {
    Keep { store: usize, bits: f64 },
    Time { dim: usize, trips: f64 },
    Space { axis: usize, dim: usize, trips: f64 },
}

impl Rules {
    /// Compiles constraints; none if nothing is asked.
    ///
    /// # Errors
    /// If one can never be met.
    pub fn new(
        problem: &Problem,
        frame: &Frame,
        constraints: &[Constraint],
    ) -> Result<Option<Self>, SearchError> {
        let mut rules = Vec::new();
        for c in constraints {
            rules.extend(rule(problem, frame, c)?);
        }
        if rules.is_empty() {
            return Ok(None);
        }
        let at_memories = || rules.iter().filter(|r| matches!(r.place, Place::Store(_)));
        let filled = at_memories().any(|r| r.least > 0.0);
        let told = match filled {
            true => u32::MAX,
            false => at_memories().fold(0, |s, r| s | r.names()),
        };
        let place = |s: &usize| {
            let node = frame.stores[*s].node;
            problem.path.iter().position(|n| *n == node)
        };
        let homes = frame.levels[0].memory.iter().flatten().copied();
        let outermost = homes.min_by_key(place).unwrap_or(0);
        Ok(Some(Self {
            outermost,
            told,
            filled,
            rules,
        }))
    }

    /// Rules of a memory.
    fn at(&self, store: usize) -> impl Iterator<Item = &Rule> {
        let here = move |r: &&Rule| r.place == Place::Store(store);
        self.rules.iter().filter(here)
    }

    /// A memory, if loops at it have rules.
    pub fn class(&self, store: usize) -> Option<usize> {
        self.at(store).any(|r| r.names() != 0).then_some(store)
    }

    /// Whether where loops of a dimension stand matters.
    pub fn tells(&self, dim: usize) -> bool {
        self.told & (1 << dim) != 0
    }

    /// Loops that a dimension may have at a memory with rules, or at others.
    pub fn loops(&self, class: Option<usize>, dim: usize) -> Loops {
        let free = if self.filled { Loops::All } else { Loops::Free };
        let Some(store) = class else { return free };
        let mut found = free;
        for r in self.at(store) {
            if r.forbidden & (1 << dim) != 0 {
                return Loops::None;
            }
            if let Some(n) = r.trips(dim) {
                found = Loops::Given(u32::try_from(n).unwrap_or(u32::MAX));
            }
        }
        found
    }

    /// Memories where trips of a dimension are given, with those.
    pub fn given(&self, dim: usize) -> impl Iterator<Item = (usize, u32)> {
        self.rules.iter().filter_map(move |r| match r.place {
            Place::Store(store) => Some((store, u32::try_from(r.trips(dim)?).unwrap_or(u32::MAX))),
            Place::Axes(_) => None,
        })
    }

    /// Dimensions in the order that loops at a memory have, innermost first.
    pub fn order(&self, class: Option<usize>) -> &[usize] {
        let ordered = class.and_then(|s| self.at(s).find(|r| r.order.len() > 1));
        ordered.map_or(&[], |r| &r.order)
    }

    /// Whether several dimensions together may break a rule that each one alone obeys.
    pub fn joint(&self) -> bool {
        let ordered = |r: &Rule| matches!(r.place, Place::Store(_)) && r.order.len() > 1;
        self.filled || self.rules.iter().any(ordered)
    }

    /// Memories whose tiles have to take so many bits.
    pub fn rooms(&self) -> impl Iterator<Item = (usize, f64)> {
        self.rules.iter().filter_map(|r| match r.place {
            Place::Store(s) if r.least > 0.0 => Some((s, r.least)),
            _ => None,
        })
    }

    /// Trips that a dimension may have across an axis: none if any of the usual ones.
    pub fn across(&self, axis: usize, dim: usize) -> Option<Loops> {
        // Tiles grow with the trips across axes inside.
        let mut found = self.filled.then_some(Loops::All);
        for r in &self.rules {
            let Place::Axes(axes) = &r.place else {
                continue;
            };
            if !axes.contains(&axis) {
                continue;
            }
            if r.forbidden & (1 << dim) != 0 {
                return Some(Loops::None);
            }
            if let Some(n) = r.trips(dim) {
                found = Some(Loops::Given(u32::try_from(n).unwrap_or(u32::MAX)));
            } else if r.least > 0.0 && found.is_none() {
                found = Some(Loops::All);
            }
        }
        found
    }

    /// Whether an assignment of which all axes up to one are filled obeys the rules of those.
    pub fn spread(&self, assignment: &Assignment, last: usize) -> bool {
        self.rules.iter().all(|r| {
            let Place::Axes(axes) = &r.place else {
                return true;
            };
            if axes.end != last + 1 {
                return true;
            }
            let here = || {
                let all = assignment.spreads.iter();
                all.filter(|s| axes.contains(&usize::from(s.axis)))
            };
            let along = |d: usize| -> u64 {
                let mine = here().filter(|s| usize::from(s.dim) == d);
                mine.map(|s| u64::from(s.trips)).product()
            };
            let used: f64 = here().map(|s| f64::from(s.trips)).product();
            used >= r.least * (1.0 - 1e-12) && r.trips.iter().all(|(d, n)| along(*d) == *n)
        })
    }

    /// An assignment of a climb with the trips that are given and without what is forbidden, as far as there is room.
    pub fn fit(&self, frame: &Frame, spreads: &[Spread]) -> Vec<Spread> {
        let mut fitted: Vec<Spread> = Vec::new();
        for r in &self.rules {
            let Place::Axes(axes) = &r.place else {
                continue;
            };
            for &(dim, factor) in r.trips.iter().filter(|t| t.1 > 1) {
                let takes = |a: &usize| {
                    let axis = &frame.axes[*a];
                    axis.accepts.contains(&dim) && axis.size >= factor
                };
                let axis = axes.clone().find(takes);
                fitted.extend(axis.map(|axis| Spread { axis, dim, factor }));
            }
        }
        for s in spreads {
            if matches!(
                self.across(s.axis, s.dim),
                Some(Loops::Given(_) | Loops::None)
            ) {
                continue;
            }
            let taken = |same: &dyn Fn(&Spread) -> bool| -> u64 {
                fitted
                    .iter()
                    .filter(|f| same(f))
                    .map(|f| f.factor)
                    .product()
            };
            let room = frame.axes[s.axis].size / taken(&|f| f.axis == s.axis).max(1);
            let left = frame.dims[s.dim]
                .size
                .div_ceil(taken(&|f| f.dim == s.dim).max(1));
            let factor = s.factor.min(room).min(left);
            if factor > 1 {
                fitted.push(Spread { factor, ..*s });
            }
        }
        fitted.sort_by_key(|s| s.axis);
        fitted
    }

    /// How far a mapping is from obeying; 0 if it does.
    pub fn broken(&self, problem: &Problem, frame: &Frame, mapping: &Mapping) -> f64 {
        let store = |n: NodeId| frame.stores.iter().position(|s| s.node == n);
        let local = |d: DimId| frame.dims.iter().position(|x| x.id == d);
        let homes = Operand::ALL.len();
        let bits = mapping.tile_bits(problem);
        let mut tiles: Vec<u64> = problem.einsum.dims.iter().map(|d| d.size).collect();
        let mut parts = Vec::with_capacity(bits.len());
        for (i, (step, bits)) in mapping.steps().iter().zip(bits).enumerate() {
            match *step {
                Step::Store { memory, .. } => {
                    parts.extend(
                        store(memory)
                            .filter(|_| i >= homes)
                            .map(|store| Part::Keep { store, bits }),
                    );
                }
                Step::Temporal { dim, tile } | Step::Spatial { dim, tile, .. } => {
                    let outer = std::mem::replace(&mut tiles[dim.index()], tile);
                    let Some(d) = local(dim) else { continue };
                    let trips = outer.div_ceil(tile) as f64;
                    let axis = match *step {
                        Step::Spatial { fanout, axis, .. } => frame
                            .axes
                            .iter()
                            .position(|a| (a.fanout, a.axis) == (fanout, axis)),
                        _ => None,
                    };
                    parts.push(match axis {
                        Some(axis) => Part::Space {
                            axis,
                            dim: d,
                            trips,
                        },
                        None => Part::Time { dim: d, trips },
                    });
                }
            }
        }
        self.distance(&parts)
    }

    /// The same of a lowered plan, roughly: what estimates are stretched by, so that climbs lead to plans that obey.
    pub fn stretch(&self, frame: &Frame, items: &[Item]) -> f64 {
        let part = |item: &Item| match *item {
            Item::Keep {
                operand,
                store,
                level,
                elements,
            } if level > 0 => {
                let width = match operand {
                    2 => frame.partial,
                    o => frame.bits[o],
                };
                Some(Part::Keep {
                    store,
                    bits: elements * width,
                })
            }
            Item::Time(l) => Some(Part::Time {
                dim: l.dim,
                trips: l.trips,
            }),
            Item::Space { each: l, axis } => Some(Part::Space {
                axis,
                dim: l.dim,
                trips: l.trips,
            }),
            Item::Keep { .. } | Item::Fan { .. } => None,
        };
        let parts: Vec<Part> = items.iter().filter_map(part).collect();
        let far = self.distance(&parts);
        if far > 0.0 { 10.0 + 90.0 * far } else { 1.0 }
    }

    fn distance(&self, parts: &[Part]) -> f64 {
        self.rules.iter().map(|r| self.of_rule(r, parts)).sum()
    }

    /// How far parts, from the outside in, are from obeying one rule.
    fn of_rule(&self, rule: &Rule, parts: &[Part]) -> f64 {
        let (mut at, mut far, mut used) = (self.outermost, 0.0, 0.0);
        let mut trips = vec![1.0; rule.trips.len()];
        // The place in the order of the loop before.
        let mut last = usize::MAX;
        let mut instances = 1.0;
        for part in parts {
            let (dim, n) = match (part, &rule.place) {
                (Part::Keep { store, bits }, place) => {
                    at = *store;
                    used += if *place == Place::Store(at) {
                        *bits
                    } else {
                        0.0
                    };
                    continue;
                }
                (Part::Time { dim, trips }, Place::Store(s)) if *s == at && *trips > 1.0 => {
                    if let Some(place) = rule.order.iter().position(|d| d == dim) {
                        far += if place > last { 1.0 } else { 0.0 };
                        last = place;
                    }
                    (*dim, *trips)
                }
                (Part::Space { axis, dim, trips }, Place::Axes(axes)) if axes.contains(axis) => {
                    instances *= *trips;
                    (*dim, *trips)
                }
                _ => continue,
            };
            if rule.forbidden & (1 << dim) != 0 {
                far += n.ln();
            }
            let given = rule.trips.iter().position(|t| t.0 == dim);
            if let Some(g) = given {
                trips[g] *= n;
            }
        }
        for ((_, asked), n) in rule.trips.iter().zip(trips) {
            far += (*asked as f64 / n).ln().abs();
        }
        let used = match rule.place {
            Place::Store(_) => used,
            Place::Axes(_) => instances,
        };
        if used < rule.least * (1.0 - 1e-12) {
            far += (rule.least / used.max(1.0)).ln().max(1e-3);
        }
        far
    }

    /// The steps with loops across each axis in the order that is asked for.
    pub fn written(&self, frame: &Frame, mut steps: Vec<Step>) -> Vec<Step> {
        let axis_of = |s: &Step| match *s {
            Step::Spatial { fanout, axis, .. } => frame
                .axes
                .iter()
                .position(|a| (a.fanout, a.axis) == (fanout, axis)),
            _ => None,
        };
        for rule in &self.rules {
            let Place::Axes(axes) = &rule.place else {
                continue;
            };
            let turn = |s: &Step| match *s {
                Step::Spatial { dim, .. } => {
                    let mut order = rule.order.iter();
                    let place = order.position(|d| frame.dims[*d].id == dim);
                    std::cmp::Reverse(place.unwrap_or(usize::MAX))
                }
                _ => std::cmp::Reverse(usize::MAX),
            };
            let together = |a: &Step, b: &Step| axis_of(a).is_some() && axis_of(a) == axis_of(b);
            for run in steps.chunk_by_mut(together) {
                if run
                    .first()
                    .and_then(axis_of)
                    .is_some_and(|a| axes.contains(&a))
                {
                    run.sort_by_key(turn);
                }
            }
        }
        steps
    }
}

/// Compiles a constraint; none if it says nothing.
fn rule(problem: &Problem, frame: &Frame, c: &Constraint) -> Result<Option<Rule>, SearchError> {
    let impossible = |reason: String| SearchError::Constraint {
        level: level_name(problem, c),
        reason,
    };
    let node = &problem.chip.nodes[c.level];
    let (place, room) = match &node.kind {
        NodeKind::Memory(_) => {
            let store = frame.stores.iter().position(|s| s.node == c.level);
            let store = store.ok_or_else(|| {
                impossible("it is not on the path of the array that runs this".into())
            })?;
            (Place::Store(store), frame.stores[store].capacity)
        }
        _ => {
            let mine = |(_, a): &(usize, &super::frame::Axis)| {
                a.fanout == c.level && c.axis.is_none_or(|x| x == a.axis)
            };
            let mut all = frame.axes.iter().enumerate().filter(mine).map(|a| a.0);
            let Some(first) = all.next() else {
                return Err(impossible(
                    "no loop can lie across it: it is not below the homes of all operands".into(),
                ));
            };
            let axes = first..all.next_back().unwrap_or(first) + 1;
            let sizes = frame.axes[axes.clone()].iter().map(|a| a.size as f64);
            let room = sizes.product();
            (Place::Axes(axes), room)
        }
    };
    let local = |d: &DimId| frame.dims.iter().position(|x| x.id == *d);
    let mut trips = Vec::new();
    for (d, n) in &c.trips {
        let dim = problem.einsum.dim(*d);
        if *n > dim.size {
            return Err(impossible(format!(
                "{n} trips of `{}`, of which there are {}",
                dim.name, dim.size
            )));
        }
        let across = matches!(place, Place::Axes(_));
        if across && *n as f64 > room {
            return Err(impossible(format!(
                "{n} trips of `{}` across {room} instances",
                dim.name
            )));
        }
        let takes = |axes: &std::ops::Range<usize>, d: usize| {
            let mut axes = frame.axes[axes.clone()].iter();
            axes.any(|a| a.accepts.contains(&d))
        };
        if let (Place::Axes(axes), Some(d)) = (&place, local(d))
            && *n > 1
            && !takes(axes, d)
        {
            return Err(impossible(format!("it does not take `{}`", dim.name)));
        }
        trips.extend(local(d).map(|d| (d, *n)));
    }
    let rule = Rule {
        place,
        trips,
        forbidden: c
            .forbidden
            .iter()
            .filter_map(local)
            .fold(0, |s, d| s | 1 << d),
        order: c.order.iter().filter_map(local).collect(),
        least: c.min_utilization * room,
    };
    let says = rule.names() != 0 || rule.least > 0.0;
    Ok(says.then_some(rule))
}

/// The name of what a constraint is of, as users write it.
pub fn level_name(problem: &Problem, c: &Constraint) -> String {
    let node = &problem.chip.nodes[c.level];
    let axis = match (&node.kind, c.axis) {
        (NodeKind::Fanout(f), Some(a)) => f.dims.get(usize::from(a)),
        _ => None,
    };
    match axis {
        Some(a) => format!("{}.{}", node.name, a.name),
        None => node.name.clone(),
    }
}
