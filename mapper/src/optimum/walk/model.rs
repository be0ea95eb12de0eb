//! What a mapping of a nest costs and takes, as sums of products with one factor for each dimension.
//!
//! ```text
//! measure = base + sum over products of  weight x product over dimensions of factor(split of the dimension)
//! ```
//!
//! Counts of convention `accelforge` are of this form, with partial tiles too: sums over the tiles of a dimension
//! depend on its own loops only. For an operand at a storage (or the compute), with the loops above it,
//!
//! ```text
//! fills = product over dimensions that do not index it of tiles
//!       x product over plain dimensions of the extents of all tiles
//!       x product over windows of ( product of tiles
//!                                 + sum over its dimensions of c x (extents - tiles) x tiles of the others
//!                                 - steps of the one that slides x what the other keeps in a step )
//! ```
//!
//! where spatial loops count as one iteration if one access serves all, or if one instance is asked for. A window is a
//! sum, so a product of windows is multiplied out. What the other dimension of a window keeps, `max(0, c (t - 1) + 1 - step)`
//! over its tiles, is a factor; with more than two dimensions in a window it is none, and the walk does not take it.

use super::nest::{Kind, Nest};
use super::split::{Splits, over};
use crate::optimum::search::Placement;
use crate::optimum::space::{DIMS, Operand, Space, Window};

/// What of a split is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Tiles.
    Count,
    /// Sum of their extents.
    Extent,
    /// Sum of their extents less one.
    Reach,
    /// Steps of the innermost loop, without the first ones.
    Steps,
    /// Sum of the positions that stay: `max(0, coefficient x (extent - 1) + 1 - step)`.
    Stay { coefficient: u32, step: u32 },
    /// Extent of a whole tile.
    Tile,
    /// The same less one.
    TileReach,
    /// Tiles in one of some slots further out.
    Across { to: usize },
}

/// A factor of one dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Factor {
    of: Of,
    /// Slots of the dimension that stand inside.
    from: usize,
    /// Those outside that count as one iteration; the innermost is bit 0.
    folded: u64,
}

impl Factor {
    /// Its value for a split.
    pub(super) fn value(&self, tiles: &[u32]) -> f64 {
        let above = &tiles[self.from..];
        let sum = |leaf: &dyn Fn(u32) -> f64| over(above, self.folded, &leaf);
        match self.of {
            Of::Count => sum(&|_| 1.0),
            Of::Extent => sum(&f64::from),
            Of::Reach => sum(&|t| f64::from(t) - 1.0),
            Of::Steps => {
                let outer = over(&above[1..], self.folded >> 1, &|_| 1.0);
                sum(&|_| 1.0) - outer
            }
            Of::Stay { coefficient, step } => {
                let (c, step) = (f64::from(coefficient), f64::from(step));
                sum(&|t| (c * (f64::from(t) - 1.0) + 1.0 - step).max(0.0))
            }
            Of::Tile => f64::from(above[0]),
            Of::TileReach => f64::from(above[0]) - 1.0,
            Of::Across { to } => f64::from(tiles[to].div_ceil(above[0])),
        }
    }
}

/// A product of factors, by dimension; none is 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Product {
    pub weight: f64,
    pub factors: [Option<Factor>; DIMS],
}

impl Product {
    fn of(weight: f64) -> Self {
        Self {
            weight,
            factors: [None; DIMS],
        }
    }
}

/// What a measure is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Use {
    /// Picojoules.
    Energy,
    /// Cycles of a resource: the longest of all counts.
    Time,
    /// Must lie between.
    Within { least: f64, most: f64 },
}

/// A figure of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measure {
    pub used: Use,
    pub base: f64,
    pub products: Vec<Product>,
}

/// A storage of an operand, or the compute.
#[derive(Debug, Clone, Copy)]
struct Stop {
    /// Slots inside it.
    at: usize,
    place: Option<(usize, usize)>,
    slid: bool,
}

/// Loops that count as one iteration, by slot.
struct Folds {
    /// For all dimensions.
    all: Vec<bool>,
    /// For dimensions that do not index the operand.
    shared: Vec<bool>,
}

struct Model<'a> {
    space: &'a Space,
    placement: &'a Placement,
    nest: &'a Nest,
    splits: &'a [Splits],
}

/// All measures of a nest: first the energy.
pub(super) fn measures(
    space: &Space,
    placement: &Placement,
    nest: &Nest,
    splits: &[Splits],
) -> Vec<Measure> {
    let model = Model {
        space,
        placement,
        nest,
        splits,
    };
    let mut measures = model.costs();
    measures.push(model.compute());
    measures.extend(model.rooms());
    measures.extend(model.axes());
    measures
}

impl Model<'_> {
    /// Energy, and the time of each port.
    fn costs(&self) -> Vec<Measure> {
        let mut energy = Measure {
            used: Use::Energy,
            base: self.space.prices.compute[0],
            products: Vec::new(),
        };
        let memories = self.space.segments.iter().enumerate();
        let memories = memories.flat_map(|(s, x)| (0..x.memories.len()).map(move |m| (s, m)));
        let mut ports = Vec::new();
        for place in memories {
            let memory = &self.space.segments[place.0].memories[place.1];
            ports.extend((0..memory.ports).map(|p| {
                let measure = Measure {
                    used: Use::Time,
                    base: 0.0,
                    products: Vec::new(),
                };
                (place, p, measure)
            }));
        }
        for o in 0..self.space.operands.len() {
            let stops = self.stops(o);
            for (i, pair) in stops.windows(2).enumerate() {
                let Some(place) = pair[0].place else { continue };
                let rates = &self.space.segments[place.0].memories[place.1].rates[o];
                let all = self.moved(o, i > 0, pair[0], pair[1], false);
                for (products, kind) in &all {
                    let price = rates.energy[*kind];
                    let price = price.each * self.space.prices.of[0][usize::from(price.column)];
                    take(&mut energy, products, price);
                }
                let one = self.moved(o, i > 0, pair[0], pair[1], true);
                for (_, p, measure) in ports.iter_mut().filter(|p| p.0 == place) {
                    for (products, kind) in &one {
                        take(measure, products, rates.cycles[*kind][*p]);
                    }
                }
            }
        }
        let ports = ports.into_iter().map(|p| p.2);
        std::iter::once(energy).chain(ports).collect()
    }

    /// What moves at a storage of an operand: elements and the kind of transfer; of all instances or the busiest one.
    fn moved(
        &self,
        o: usize,
        filled: bool,
        stop: Stop,
        inner: Stop,
        busiest: bool,
    ) -> Vec<(Vec<Product>, usize)> {
        let space = |from: usize| -> Vec<bool> {
            let slots = self.nest.slots.iter().enumerate();
            let spatial = slots.map(|(i, s)| i >= from && matches!(s.kind, Kind::Space { .. }));
            spatial.map(|s| s && busiest).collect()
        };
        let none = vec![false; self.nest.slots.len()];
        let below = Folds {
            all: space(stop.at),
            shared: self.shared(o, inner.at..stop.at),
        };
        let above = Folds {
            all: space(0),
            shared: none,
        };
        let mut moved = vec![(self.fills(o, inner, &below), 2)];
        if self.space.operands[o].is_output {
            moved.push((moved[0].0.clone(), 3));
            moved.push((negative(self.first(o, inner, &below)), 2));
        }
        if filled {
            moved.push((self.fills(o, stop, &above), 0));
            if self.space.operands[o].is_output {
                moved.push((self.fills(o, stop, &above), 1));
                moved.push((negative(self.first(o, stop, &above)), 0));
            }
        }
        moved
    }

    /// Storages of an operand, outermost first, and the compute.
    fn stops(&self, o: usize) -> Vec<Stop> {
        let home = Stop {
            at: self.nest.slots.len(),
            place: Some(self.placement.chains[o][0]),
            slid: false,
        };
        let mine = self.nest.storages.iter().rev().filter(|s| s.operand == o);
        let inner = mine.map(|s| Stop {
            at: s.at,
            place: Some((s.segment, s.memory)),
            slid: s.slid,
        });
        let compute = Stop {
            at: 0,
            place: None,
            slid: false,
        };
        let ends = std::iter::once(home).chain(inner);
        ends.chain(std::iter::once(compute)).collect()
    }

    /// Spatial loops among some slots of which one access serves all iterations.
    fn shared(&self, o: usize, among: std::ops::Range<usize>) -> Vec<bool> {
        let slots = self.nest.slots.iter().enumerate();
        let shares = slots.map(|(i, s)| match s.kind {
            Kind::Space { segment, axis } => {
                among.contains(&i) && self.space.segments[segment].axes[axis].shares.has(o)
            }
            _ => false,
        });
        shares.collect()
    }

    /// The factor of a dimension at a place.
    fn factor(&self, dim: usize, at: usize, of: Of, folded: impl Fn(usize) -> bool) -> Factor {
        let splits = &self.splits[dim];
        let from = splits.inside(at);
        let above = splits.slots[from..].iter().enumerate();
        let folded = above.filter(|(_, s)| folded(**s));
        Factor {
            of,
            from,
            folded: folded.fold(0, |m, (i, _)| m | 1 << i),
        }
    }

    /// Elements that a storage, or the compute, takes in over all iterations of the loops above it.
    fn fills(&self, o: usize, stop: Stop, folds: &Folds) -> Vec<Product> {
        let operand = &self.space.operands[o];
        let slid = self.nest.slots.get(stop.at).filter(|_| stop.slid);
        let slid = slid.map(|s| s.dim);
        self.elements(operand, stop.at, slid, folds, |s| {
            folds.all[s] || folds.shared[s]
        })
    }

    /// Those of the output that start without a value: its elements, once for each iteration of spatial loops that do not
    /// index it.
    fn first(&self, o: usize, stop: Stop, folds: &Folds) -> Vec<Product> {
        let operand = &self.space.operands[o];
        self.elements(operand, stop.at, None, folds, |s| {
            let spatial = matches!(self.nest.slots[s].kind, Kind::Space { .. });
            !spatial || folds.all[s] || folds.shared[s]
        })
    }

    /// Elements of an operand over tiles at a place; loops that count as one iteration for dimensions that do not index it
    /// are `apart`.
    fn elements(
        &self,
        operand: &Operand,
        at: usize,
        slid: Option<usize>,
        folds: &Folds,
        apart: impl Fn(usize) -> bool,
    ) -> Vec<Product> {
        let of = |d: usize, of: Of| Some(self.factor(d, at, of, |s| folds.all[s]));
        let mut product = Product::of(1.0);
        for d in 0..self.space.dims.len() {
            if operand.plain.has(d) {
                product.factors[d] = of(d, Of::Extent);
            } else if !operand.indexed.has(d) {
                product.factors[d] = Some(self.factor(d, at, Of::Count, &apart));
            }
        }
        let windows = operand.windows.iter().map(|w| summands(w, slid));
        multiply(product, windows, &of)
    }

    fn compute(&self) -> Measure {
        let spatial = |s: usize| matches!(self.nest.slots[s].kind, Kind::Space { .. });
        let mut product = Product::of(1.0 / self.space.compute_rate);
        for d in 0..self.space.dims.len() {
            product.factors[d] = Some(self.factor(d, 0, Of::Extent, spatial));
        }
        Measure {
            used: Use::Time,
            base: 0.0,
            products: vec![product],
        }
    }

    /// Bits in each memory.
    fn rooms(&self) -> Vec<Measure> {
        let mut rooms = Vec::new();
        for (segment, s) in self.space.segments.iter().enumerate() {
            for (memory, m) in s.memories.iter().enumerate() {
                let here =
                    |r: &&crate::optimum::rules::Rule| (r.segment, r.memory) == (segment, memory);
                let rules = self.space.rules.iter().filter(here);
                let least = rules.map(|r| r.least).fold(0.0, f64::max);
                if m.capacity.is_infinite() && least <= 0.0 {
                    continue;
                }
                let mut room = Measure {
                    used: Use::Within {
                        least,
                        most: m.capacity,
                    },
                    base: 0.0,
                    products: Vec::new(),
                };
                for o in 0..self.space.operands.len() {
                    let mut stops = self.stops(o);
                    stops.retain(|s| s.place == Some((segment, memory)));
                    for stop in stops {
                        take(&mut room, &self.words(o, stop.at), m.bits[o]);
                    }
                }
                rooms.push(room);
            }
        }
        rooms
    }

    /// Elements of a tile at a place.
    fn words(&self, o: usize, at: usize) -> Vec<Product> {
        let operand = &self.space.operands[o];
        let of = |d: usize, of: Of| Some(self.factor(d, at, of, |_| false));
        let mut product = Product::of(1.0);
        let plain = (0..self.space.dims.len()).filter(|d| operand.plain.has(*d));
        plain.for_each(|d| product.factors[d] = of(d, Of::Tile));
        let windows = operand.windows.iter().map(|w| {
            let reach = w.terms.iter().map(|(d, c)| (*c, vec![(*d, Of::TileReach)]));
            std::iter::once((1.0, Vec::new())).chain(reach).collect()
        });
        multiply(product, windows, &of)
    }

    /// Instances along each axis, and of each fan.
    fn axes(&self) -> Vec<Measure> {
        let mut all = Vec::new();
        for (segment, s) in self.space.segments.iter().enumerate() {
            let instances: f64 = s.axes.iter().map(|a| a.size as f64).product();
            for (index, axis) in s.axes.iter().enumerate() {
                let (least, most) = (axis.least as f64, axis.size as f64);
                let mine = |kind: Kind| {
                    kind == Kind::Space {
                        segment,
                        axis: index,
                    }
                };
                all.push(self.along(&mine, least, most));
            }
            if s.least > 0.0 {
                let mine =
                    |kind: Kind| matches!(kind, Kind::Space { segment: s, .. } if s == segment);
                all.push(self.along(&mine, s.least * instances, f64::INFINITY));
            }
        }
        all
    }

    /// Trips of spatial loops.
    fn along(&self, mine: &dyn Fn(Kind) -> bool, least: f64, most: f64) -> Measure {
        let mut product = Product::of(1.0);
        for (d, splits) in self.splits.iter().enumerate().take(self.space.dims.len()) {
            let here = |s: &usize| mine(self.nest.slots[*s].kind);
            let from = splits.slots.iter().position(here);
            let to = splits.slots.iter().rposition(here);
            if let (Some(from), Some(to)) = (from, to) {
                product.factors[d] = Some(Factor {
                    of: Of::Across { to: to + 1 },
                    from,
                    folded: 0,
                });
            }
        }
        Measure {
            used: Use::Within { least, most },
            base: 0.0,
            products: vec![product],
        }
    }
}

/// A summand of a window: its coefficient and factors.
type Summand = (f64, Vec<(usize, Of)>);

/// What the positions of a window are the sum of; dimension `slid` slides.
fn summands(window: &Window, slid: Option<usize>) -> Vec<Summand> {
    let terms = &window.terms;
    let counts = |but: Option<usize>| {
        let others = terms.iter().map(|t| t.0).filter(move |d| Some(*d) != but);
        others.map(|d| (d, Of::Count))
    };
    let mut all: Vec<Summand> = vec![(1.0, counts(None).collect())];
    for (d, c) in terms {
        let reach = std::iter::once((*d, Of::Reach));
        all.push((*c, counts(Some(*d)).chain(reach).collect()));
    }
    let others = terms.iter().filter(|t| Some(t.0) != slid);
    let step = terms.iter().find(|t| Some(t.0) == slid);
    if let Some((slid, step)) = step {
        // With no other dimension a tile of one position stays only if it does not move: never.
        let mut stay: Vec<(usize, Of)> = others
            .map(|(d, c)| {
                let (coefficient, step) = (*c as u32, *step as u32);
                (*d, Of::Stay { coefficient, step })
            })
            .collect();
        if !stay.is_empty() {
            stay.push((*slid, Of::Steps));
            all.push((-1.0, stay));
        }
    }
    all
}

/// A product times sums.
fn multiply(
    product: Product,
    sums: impl Iterator<Item = Vec<Summand>>,
    of: &dyn Fn(usize, Of) -> Option<Factor>,
) -> Vec<Product> {
    let mut all = vec![product];
    for sum in sums {
        let times = |product: &Product| {
            let product = *product;
            let with = sum.iter().map(move |(weight, factors)| {
                let mut p = product;
                p.weight *= weight;
                factors.iter().for_each(|(d, x)| p.factors[*d] = of(*d, *x));
                p
            });
            with.collect::<Vec<Product>>()
        };
        all = all.iter().flat_map(times).collect();
    }
    all
}

fn negative(mut products: Vec<Product>) -> Vec<Product> {
    products.iter_mut().for_each(|p| p.weight = -p.weight);
    products
}

/// Adds products to a measure.
fn take(measure: &mut Measure, products: &[Product], weight: f64) {
    if weight == 0.0 {
        return;
    }
    measure.products.extend(products.iter().map(|p| Product {
        weight: p.weight * weight,
        factors: p.factors,
    }));
}
