//! An einsum on a hierarchy compiled for the search: plain numbers, no names.
//!
//! Levels are grouped into *segments*: memories with no fanout in between; segment 0 is the outermost. Below each
//! segment lies a *fan*: the axes of the fanouts between it and the next segment, or the compute.

use presil_numerics::ids::Id;
use presil_workloads::{DimId, Einsum};

use super::prices::{Points, Prices};
use super::rules::Rule;
use crate::hierarchy::{Hierarchy, Level, Mask, MemoryLevel, Transfer, access_of, operand_count};

/// Most dimensions of more than one iteration that the search takes.
pub(super) const DIMS: usize = 12;
/// Most operands.
pub(super) const OPERANDS: usize = 4;
/// Most ports of a memory.
pub(super) const PORTS: usize = 4;

/// Most ports of all memories of a segment.
pub(super) const GATES: usize = 12;

/// Most memories of a segment.
pub(super) const MEMORIES: usize = 6;

/// Tile of every dimension.
pub(super) type Tile = [u32; DIMS];

/// A rank that several dimensions index, or one with a coefficient: its tiles may overlap or leave gaps.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Window {
    /// Dimensions and the size of their coefficients.
    pub terms: Vec<(usize, f64)>,
}

/// An operand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operand {
    /// Dimensions that index it.
    pub indexed: Mask,
    /// Those of them whose tiles neither overlap nor leave gaps.
    pub plain: Mask,
    /// Ranks that are not plain.
    pub windows: Vec<Window>,
    /// Dimensions of windows.
    pub slides: Mask,
    /// Product of the extents of plain dimensions.
    pub plain_size: f64,
    /// Fewest elements that any storage takes in all: each once.
    pub least: f64,
    pub is_output: bool,
    /// The dimension of each rank; none where a rank has one position or more than one dimension.
    pub ranks: Vec<Option<usize>>,
}

/// The price of moving an element: a column, and how much of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Price {
    pub column: u8,
    pub each: f64,
}

/// What moving elements of one operand into, out of or through one memory costs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    /// Price of an element: from above, to above, to below, from below.
    pub energy: [Price; 4],
    /// Cycles per element of each kind, by port.
    pub cycles: [[f64; PORTS]; 4],
}

/// A memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Memory {
    /// Index into the hierarchy's levels.
    pub level: usize,
    /// Bits for tiles; the most that there are at any point.
    pub capacity: f64,
    /// Different capacities, smallest first, with the points that have at least as much.
    pub sizes: Vec<(f64, Points)>,
    pub bits: [f64; OPERANDS],
    pub rates: [Rates; OPERANDS],
    /// Ports that may limit.
    pub ports: usize,
    /// Those of the memories of the segment outside.
    pub gate: usize,
    pub keeps: Mask,
    pub must_keep: Mask,
    pub must_keep_unless_above: Mask,
    /// Order of dimensions, innermost first, that loops directly below its storages are told in.
    pub turn: Vec<usize>,
}

/// One axis of a fan.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FanAxis {
    pub level: usize,
    pub axis: usize,
    pub size: u64,
    pub shares: Mask,
    /// Dimensions that may lie along it.
    pub accepts: Mask,
    pub least: u64,
    /// Order of dimensions, innermost first.
    pub turn: Vec<usize>,
}

/// A segment and the fan below it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Segment {
    pub memories: Vec<Memory>,
    pub axes: Vec<FanAxis>,
    /// Iterations of dimensions along all axes together that are given.
    pub given: Vec<(usize, u32)>,
    /// Least share of all instances that is used.
    pub least: f64,
}

/// A compiled einsum and hierarchy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Space {
    /// Dimensions of more than one iteration.
    pub dims: Vec<DimId>,
    pub sizes: Tile,
    pub operands: Vec<Operand>,
    pub segments: Vec<Segment>,
    pub operations: f64,
    pub prices: Prices,
    pub compute_rate: f64,
    /// Whether tiles must divide extents.
    pub perfect: bool,
    /// Constraints of loops in time and of room.
    pub rules: Vec<Rule>,
    /// Dimensions whose loops they tell apart by where they stand.
    pub ruled: Mask,
    /// For each operand, the number of its tensor if other einsums read it too.
    pub common: Vec<Option<usize>>,
}

/// Why a search cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpaceError {
    /// More than the search takes.
    #[error("the search takes at most {limit} {what}, the einsum has {got}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many it takes.
        limit: usize,
        /// How many there are.
        got: usize,
    },
    /// A hierarchy that does not end in compute units or does not begin with a memory.
    #[error("hierarchy `{0}` must begin with a memory and end in its only compute level")]
    Shape(String),
    /// A constraint that the search cannot obey.
    #[error("the search cannot obey {constraint} at `{level}`: {remedy}")]
    Constraint {
        /// What is asked.
        constraint: &'static str,
        /// Of which level.
        level: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A dimension that indexes two ranks of an operand, whose elements are then no product of ranks.
    #[error(
        "the search takes no operand that one dimension indexes twice, as `{dim}` does operand {operand}"
    )]
    Diagonal {
        /// The operand.
        operand: usize,
        /// The dimension.
        dim: String,
    },
    /// No set of memories keeps an operand.
    #[error("operand {0} may be kept at no memory above the first fanout; let one keep it")]
    Homeless(usize),
    /// The search ended before it found anything.
    #[error("nothing was found within the work and time given; give more")]
    Unfinished,
    /// Not even single elements fit.
    #[error(
        "no mapping fits: the smallest tiles exceed the capacity of a memory that must keep them"
    )]
    Nothing,
}

impl Space {
    pub(super) fn new(
        einsum: &Einsum,
        hierarchy: &Hierarchy,
        perfect: bool,
    ) -> Result<Self, SpaceError> {
        let dims: Vec<DimId> = einsum
            .dim_ids()
            .filter(|d| einsum.dim(*d).size > 1)
            .collect();
        let count = operand_count(einsum);
        let limit = |what, limit, got| {
            if got > limit {
                Err(SpaceError::TooMany { what, limit, got })
            } else {
                Ok(())
            }
        };
        limit("dimensions of more than one iteration", DIMS, dims.len())?;
        limit("operands", OPERANDS, count)?;
        let mut sizes = [1u32; DIMS];
        for (i, d) in dims.iter().enumerate() {
            let size = einsum.dim(*d).size;
            sizes[i] = u32::try_from(size).map_err(|_| SpaceError::TooMany {
                what: "iterations of a dimension",
                limit: u32::MAX as usize,
                got: usize::try_from(size).unwrap_or(usize::MAX),
            })?;
        }
        let shape = || SpaceError::Shape(hierarchy.name.clone());
        let compute = hierarchy.compute().ok_or_else(shape)?;
        hierarchy
            .levels
            .first()
            .and_then(Level::memory)
            .ok_or_else(shape)?;
        let operands: Vec<Operand> = (0..count)
            .map(|o| operand(einsum, &dims, &sizes, o))
            .collect();
        for o in 0..count {
            if let Some(d) = repeated(einsum, &dims, o) {
                let dim = einsum.dim(d).name.clone();
                return Err(SpaceError::Diagonal { operand: o, dim });
            }
        }
        let mut segments = vec![Segment::default()];
        for (level, l) in hierarchy.levels.iter().enumerate() {
            match l {
                Level::Memory(m) => {
                    if segments.last().is_some_and(|s| !s.axes.is_empty()) {
                        segments.push(Segment::default());
                    }
                    if let Some(s) = segments.last_mut() {
                        s.memories.push(memory(m, level, count));
                    }
                }
                Level::Fanout(f) => {
                    for (axis, a) in f.axes.iter().enumerate() {
                        let accepts = accepted(einsum, &dims, &operands, a);
                        if let Some(s) = segments.last_mut() {
                            s.axes.push(FanAxis {
                                level,
                                axis,
                                size: a.size,
                                shares: a.shares,
                                accepts,
                                least: (a.min_usage * a.size as f64).ceil() as u64,
                                turn: (0..dims.len()).collect(),
                            });
                        }
                    }
                }
                Level::Compute(_) if level + 1 == hierarchy.levels.len() => {}
                Level::Compute(_) => return Err(shape()),
            }
        }
        for segment in &mut segments {
            let memories = segment.memories.len();
            limit("memories with no fanout between", MEMORIES, memories)?;
            let mut gates = 0;
            for memory in &mut segment.memories {
                memory.gate = gates;
                gates += memory.ports;
            }
            let what = "limiting ports of memories with no fanout between";
            limit(what, GATES, gates)?;
        }
        let memories = hierarchy.levels.iter().filter_map(Level::memory);
        let ports = memories.map(|m| m.ports.len()).max().unwrap_or(0);
        limit("ports of a memory", PORTS, ports)?;
        let operations: f64 = sizes.iter().map(|s| f64::from(*s)).product();
        let space = Self {
            operations,
            dims,
            sizes,
            operands,
            segments,
            prices: Prices::alone(operations * compute.energy),
            compute_rate: compute.rate,
            perfect,
            rules: Vec::new(),
            ruled: Mask::NONE,
            common: vec![None; count],
        };
        let carrying = super::search::slots(&space).len();
        let what = "ports below fanouts that carry partial sums";
        limit(what, super::search::SLOTS, carrying)?;
        Ok(space)
    }

    /// Elements of a tile of an operand.
    pub(super) fn words(&self, o: usize, tile: &Tile) -> f64 {
        let operand = &self.operands[o];
        let plain = (0..self.dims.len()).filter(|d| operand.plain.has(*d));
        let plain: f64 = plain.map(|d| f64::from(tile[d])).product();
        plain
            * operand
                .windows
                .iter()
                .map(|w| w.reach(tile))
                .product::<f64>()
    }

    /// What is the same at all points that can be searched at once.
    pub(super) fn shape(&self) -> Self {
        let mut shape = self.clone();
        shape.prices = Prices::alone(0.0);
        for memory in shape.segments.iter_mut().flat_map(|s| &mut s.memories) {
            memory.sizes(&[0.0]);
            let prices = memory.rates.iter_mut().flat_map(|r| &mut r.energy);
            prices.for_each(|p| *p = Price::default());
        }
        shape
    }

    /// The tiles that a loop may leave above a tile of a dimension, smallest first; the tile itself not included.
    /// With perfect factors its multiples that divide the extent; else of all multiples with the same number of
    /// tiles in the extent the smallest one, and the extent. Constraints of trips and of room tell those apart: then all.
    pub(super) fn outer_tiles(&self, dim: usize, tile: u32, into: &mut Vec<u32>) {
        into.clear();
        let size = self.sizes[dim];
        if tile >= size {
            return;
        }
        if self.perfect {
            let count = size / tile;
            let root = (1..=count).take_while(|f| *f <= count / *f);
            let small = root.filter(|f| count.is_multiple_of(*f));
            into.extend(small.map(|f| tile * f));
            let paired = into.len();
            for i in (0..paired).rev() {
                // The divisor that goes with a small one.
                let outer = size / (into[i] / tile);
                if into.last() != Some(&outer) {
                    into.push(outer);
                }
            }
            into.remove(0);
            return;
        }
        let count = size.div_ceil(tile);
        let mut factor = 1;
        while factor < count {
            // The smallest factor with fewer tiles than `factor` has.
            let trips = count.div_ceil(factor);
            factor = match self.ruled.has(dim) {
                true => factor + 1,
                false => count.div_ceil(trips - 1),
            };
            into.push((tile.saturating_mul(factor)).min(size));
        }
    }
}

/// A dimension that indexes more than one rank of an operand.
fn repeated(einsum: &Einsum, dims: &[DimId], o: usize) -> Option<DimId> {
    let ranks = &access_of(einsum, o).ranks;
    let count = |d: &DimId| {
        let indexed = |r: &&presil_workloads::Affine| r.terms.iter().any(|t| t.0 == *d);
        ranks.iter().filter(indexed).count()
    };
    dims.iter().find(|d| count(d) > 1).copied()
}

fn accepted(
    einsum: &Einsum,
    dims: &[DimId],
    operands: &[Operand],
    axis: &crate::hierarchy::Axis,
) -> Mask {
    let _ = einsum;
    let allowed = |i: &usize, d: &DimId| {
        let refused = operands
            .iter()
            .enumerate()
            .any(|(o, x)| axis.must_share.has(o) && x.indexed.has(*i));
        axis.accepts.has(d.index()) && !refused
    };
    dims.iter()
        .enumerate()
        .filter(|(i, d)| allowed(i, d))
        .fold(Mask::NONE, |m, (i, _)| m.with(i))
}

fn operand(einsum: &Einsum, dims: &[DimId], sizes: &Tile, o: usize) -> Operand {
    let access = access_of(einsum, o);
    let mut x = Operand {
        indexed: Mask::NONE,
        plain: Mask::NONE,
        windows: Vec::new(),
        slides: Mask::NONE,
        plain_size: 1.0,
        least: 1.0,
        is_output: o + 1 == operand_count(einsum),
        ranks: Vec::new(),
    };
    for rank in &access.ranks {
        let terms: Vec<(usize, f64)> = rank
            .terms
            .iter()
            .filter_map(|(d, c)| {
                let i = dims.iter().position(|x| x == d)?;
                Some((i, c.unsigned_abs() as f64))
            })
            .collect();
        for (i, _) in &terms {
            x.indexed = x.indexed.with(*i);
        }
        x.ranks.push(match terms.as_slice() {
            [(i, _)] => Some(*i),
            _ => None,
        });
        match terms.as_slice() {
            [] => {}
            [(i, c)] if *c == 1.0 => x.plain = x.plain.with(*i),
            _ => {
                for (i, _) in &terms {
                    x.slides = x.slides.with(*i);
                }
                x.windows.push(Window { terms });
            }
        }
    }
    // A dimension that also indexes a window elsewhere is not plain.
    x.plain = x.plain.minus(x.slides);
    let plain = (0..dims.len()).filter(|i| x.plain.has(*i));
    x.plain_size = plain.map(|i| f64::from(sizes[i])).product();
    x.least = x.plain_size * x.windows.iter().map(|w| w.touched(sizes)).product::<f64>();
    x
}

/// Positions that are counted one by one; longer ranks take a weaker bound.
const COUNTED: f64 = 1e6;

impl Window {
    /// Different positions that all tiles together touch, or a smaller number.
    fn touched(&self, sizes: &Tile) -> f64 {
        let reach = self.reach(sizes);
        let points: f64 = self
            .terms
            .iter()
            .map(|(i, _)| f64::from(sizes[*i]))
            .product();
        if reach > COUNTED || points > COUNTED {
            return self
                .terms
                .iter()
                .map(|(i, _)| f64::from(sizes[*i]))
                .fold(1.0, f64::max);
        }
        let mut hit = vec![false; reach as usize];
        let mut starts = vec![0usize];
        for (i, c) in &self.terms {
            let step = *c as usize;
            let next = |s: &usize| {
                let s = *s;
                (0..sizes[*i] as usize).map(move |k| s + k * step)
            };
            starts = starts.iter().flat_map(next).collect();
        }
        starts.iter().for_each(|s| hit[*s] = true);
        hit.iter().filter(|h| **h).count() as f64
    }

    /// Positions that a storage takes in over all its tiles. `slid`: a dimension and the tile outside the loop
    /// directly above that slides along it, so that only new positions enter in its steps.
    pub(super) fn entering(&self, sizes: &Tile, tile: &Tile, slid: Option<(usize, u32)>) -> f64 {
        let trips = |i: usize| f64::from(sizes[i].div_ceil(tile[i]));
        let combinations: f64 = self.terms.iter().map(|(i, _)| trips(*i)).product();
        let reaches = |(i, c): &(usize, f64)| c * (f64::from(sizes[*i]) - trips(*i)) / trips(*i);
        let whole = combinations * (1.0 + self.terms.iter().map(reaches).sum::<f64>());
        let Some((slid, outer)) = slid else {
            return whole;
        };
        let Some((_, step)) = self.terms.iter().find(|(i, _)| *i == slid) else {
            return whole;
        };
        let steps = trips(slid) - f64::from(sizes[slid].div_ceil(outer));
        let others: Vec<(usize, f64)> = self
            .terms
            .iter()
            .filter(|(i, _)| *i != slid)
            .copied()
            .collect();
        // A tile of the slid dimension keeps what the others reach beyond one step.
        let stay = |reach: f64| (reach + 1.0 - step).max(0.0);
        let kept = match others.as_slice() {
            [(i, c)] => {
                let (full, rest) = (sizes[*i] / tile[*i], sizes[*i] % tile[*i]);
                let part = if rest > 0 {
                    stay(c * (f64::from(rest) - 1.0))
                } else {
                    0.0
                };
                f64::from(full) * stay(c * (f64::from(tile[*i]) - 1.0)) + part
            }
            _ => {
                let reach = others
                    .iter()
                    .map(|(i, c)| c * (f64::from(tile[*i]) - 1.0))
                    .sum();
                others.iter().map(|(i, _)| trips(*i)).product::<f64>() * stay(reach)
            }
        };
        whole - steps * kept
    }

    /// Positions from the first to the last of a tile.
    pub(super) fn reach(&self, tile: &Tile) -> f64 {
        self.terms
            .iter()
            .map(|(i, c)| c * (f64::from(tile[*i]) - 1.0))
            .sum::<f64>()
            + 1.0
    }
}

impl Memory {
    /// Takes the capacity at each point.
    pub(super) fn sizes(&mut self, capacities: &[f64]) {
        let mut sizes = capacities.to_vec();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        self.capacity = sizes.last().copied().unwrap_or(0.0);
        let large = |least: f64| {
            let all = capacities.iter().enumerate().filter(|c| *c.1 >= least);
            all.fold(Points::NONE, |all, (p, _)| all.or(Points::one(p)))
        };
        self.sizes = sizes.iter().map(|s| (*s, large(*s))).collect();
    }

    /// The points at which so many bits fit.
    pub(super) fn holds(&self, bits: f64) -> Points {
        let fits = self.sizes.iter().find(|s| bits <= s.0);
        fits.map_or(Points::NONE, |s| s.1)
    }
}

fn memory(m: &MemoryLevel, level: usize, operands: usize) -> Memory {
    let mut bits = [0.0; OPERANDS];
    let mut rates = [Rates::default(); OPERANDS];
    for o in 0..operands {
        bits[o] = m.bits.get(o).copied().unwrap_or(0.0);
        let energy = [
            m.write_energy,
            m.read_energy,
            m.read_energy,
            // The convention knows one energy of writing.
            m.write_energy,
        ];
        rates[o].energy = energy.map(|e| Price {
            column: 0,
            each: e * bits[o],
        });
    }
    let mut ports = 0;
    for port in m.ports.iter().take(PORTS) {
        let mut limits = false;
        for (o, rates) in rates.iter_mut().enumerate().take(operands) {
            for (kind, transfer) in Transfer::ALL.into_iter().enumerate() {
                if port.carries.contains(&(o, transfer)) {
                    let rate = if transfer.reads() {
                        port.read_rate
                    } else {
                        port.write_rate
                    };
                    rates.cycles[kind][ports] = bits[o] / rate;
                    limits |= rates.cycles[kind][ports] > 0.0;
                }
            }
        }
        // What never limits leaves its place to the next one.
        ports += usize::from(limits);
    }
    let capacity = m.capacity / m.buffering;
    Memory {
        level,
        capacity,
        sizes: vec![(capacity, Points::one(0))],
        bits,
        rates,
        ports,
        gate: 0,
        keeps: m.keeps,
        must_keep: m.must_keep,
        must_keep_unless_above: m.must_keep_unless_above,
        turn: (0..DIMS).collect(),
    }
}
