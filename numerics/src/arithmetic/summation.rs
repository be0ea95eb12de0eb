//! Sums in a stated order, by adders of a stated format: what a mapping of a reduction onto hardware decides.
//!
//! A dot product of K products and a carried-in `c` is, in this order,
//!
//! ```text
//! p_i        the products: exact into the next adder, or rounded to a format first
//! t_g        `tree` consecutive products added pairwise, level by level: (p0 + p1) + (p2 + p3); an odd one waits
//! lane_j     `lanes` accumulators: group g is added to lane g mod lanes; lane 0 starts from c, the others from 0
//! sum        the lanes added up: one after the other, or pairwise as in a tree
//! ```
//!
//! With a spill, this happens for every `every` products anew, from zero, and each partial sum is added to an outer
//! accumulator, of another width, that starts from `c`. Each adder rounds, saturates or wraps each of its sums.
//! Saturating and rounding sums depend on the order; wrapping ones do not.
//!
//! [`Summer::dot`] is the one scalar routine that defines all of it, on numbers without rounding;
//! [`summation_lanes`](super::summation_lanes) gives the same bits fast.

use serde::Deserialize;
use thiserror::Error;

use super::matmul::SizeError;
use crate::codec::{Codec, CodecError};
use crate::conversion::{Conversion, Outcome, Overflow, Subnormals};
use crate::exact::Exact;
use crate::format::Format;
use crate::rounding::Rounding;

/// An adder and its register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accumulator {
    /// Format of the register.
    pub format: Format,
    /// What a sum beyond its range becomes.
    pub overflow: Overflow,
    /// How a sum is rounded to it.
    #[serde(default)]
    pub rounding: Rounding,
    /// What sums below its normal range become.
    #[serde(default)]
    pub subnormals: Subnormals,
}

impl Accumulator {
    /// An integer register of some bits.
    pub fn int(bits: u8, overflow: Overflow) -> Self {
        Self {
            format: Format::Int { bits, signed: true },
            overflow,
            rounding: Rounding::NearestEven,
            subnormals: Subnormals::Keep,
        }
    }

    /// A float register with the rounding of IEEE 754.
    pub fn float(format: Format) -> Self {
        Self {
            format,
            overflow: Overflow::Infinity,
            rounding: Rounding::NearestEven,
            subnormals: Subnormals::Keep,
        }
    }

    fn codec(self) -> Result<Codec, CodecError> {
        let conversion = Conversion {
            rounding: self.rounding,
            overflow: self.overflow,
            subnormals: self.subnormals,
            ..Conversion::default()
        };
        Codec::new(self.format, conversion)
    }
}

/// How the lanes are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Merge {
    /// Lane after lane.
    #[default]
    Sequential,
    /// Neighbours, level by level.
    Pairwise,
}

/// Partial sums at another width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spill {
    /// Products of a partial sum.
    pub every: usize,
    /// What the partial sums are added into.
    pub accumulator: Accumulator,
}

/// The order and the adders of a sum of products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summation {
    /// What products are rounded to before they are added; exact where absent.
    pub product: Option<Accumulator>,
    /// Products added in a tree before they meet an accumulator.
    #[serde(default = "one")]
    pub tree: usize,
    /// The tree's adders; exact where absent.
    pub tree_adder: Option<Accumulator>,
    /// Interleaved accumulators.
    #[serde(default = "one")]
    pub lanes: usize,
    /// Their order in the end.
    #[serde(default)]
    pub merge: Merge,
    /// The accumulators.
    pub accumulator: Accumulator,
    /// Partial sums at another width.
    pub spill: Option<Spill>,
}

fn one() -> usize {
    1
}

/// Why sums can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SummationError {
    /// A register whose format does not go with its overflow or rounding.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A number of products or lanes out of its range.
    #[error("`{field}` of a summation must be 1 to {most}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Its largest value.
        most: usize,
    },
    /// A slice of another length than its matrix.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// A register that can't hold the product's elements.
    #[error("`{0}` is no register for {1}")]
    Register(Format, &'static str),
}

/// The most products of a tree, and lanes.
const MOST: usize = 1 << 16;

impl Summation {
    /// One accumulator that takes product after product.
    pub fn sequential(accumulator: Accumulator) -> Self {
        Self {
            product: None,
            tree: 1,
            tree_adder: None,
            lanes: 1,
            merge: Merge::Sequential,
            accumulator,
            spill: None,
        }
    }

    /// Its adders made ready.
    pub fn summer(&self) -> Result<Summer, SummationError> {
        let spill = self.spill.map_or(1, |s| s.every.min(MOST));
        for (field, value) in [("tree", self.tree), ("lanes", self.lanes), ("every", spill)] {
            if !(1..=MOST).contains(&value) {
                return Err(SummationError::OutOfRange { field, most: MOST });
            }
        }
        let optional = |a: Option<Accumulator>| a.map(Accumulator::codec).transpose();
        Ok(Summer {
            product: optional(self.product)?,
            tree: optional(self.tree_adder)?,
            accumulator: self.accumulator.codec()?,
            outer: optional(self.spill.map(|s| s.accumulator))?,
            summation: *self,
        })
    }
}

/// A summation whose adders are ready.
#[derive(Debug, Clone)]
pub struct Summer {
    /// What it does.
    pub summation: Summation,
    product: Option<Codec>,
    tree: Option<Codec>,
    accumulator: Codec,
    outer: Option<Codec>,
}

/// A sum, and how many of its additions left the range of their register.
#[derive(Debug, Clone, Copy)]
pub struct Sum {
    /// The last register's number.
    pub value: Exact,
    /// Additions and products beyond the range.
    pub overflows: u64,
}

/// Counts what adders do; numbers stochastic roundings.
#[derive(Default)]
struct Log {
    overflows: u64,
    roundings: u64,
    /// What the accumulators hold, addition after addition, where that is asked for.
    trace: Option<Vec<Exact>>,
}

impl Log {
    fn write(&mut self, codec: &Codec, value: Exact) -> Exact {
        let encoded = codec.encode(value, self.roundings);
        self.roundings += 1;
        self.overflows += u64::from(encoded.outcome == Outcome::Overflowed);
        codec.decode(encoded.code)
    }

    fn add(&mut self, adder: &Codec, x: Exact, y: Exact) -> Exact {
        self.write(adder, x.plus(y, adder.conversion.rounding))
    }

    fn holds(&mut self, value: Exact) {
        if let Some(trace) = &mut self.trace {
            trace.push(value);
        }
    }
}

impl Summer {
    /// `c + a . b` in the order and by the adders stated. `a` and `b` are of one length; products' and exact trees'
    /// significands must fit 120 bits.
    pub fn dot(&self, a: &[Exact], b: &[Exact], c: Exact) -> Sum {
        self.sum(a, b, c, &mut Log::default())
    }

    /// The same, and what each accumulator holds after each of its additions: of every group of products in turn, then
    /// of the outer accumulator where there is one.
    pub fn trace(&self, a: &[Exact], b: &[Exact], c: Exact) -> (Sum, Vec<Exact>) {
        let mut log = Log {
            trace: Some(Vec::new()),
            ..Log::default()
        };
        let sum = self.sum(a, b, c, &mut log);
        (sum, log.trace.unwrap_or_default())
    }

    fn sum(&self, a: &[Exact], b: &[Exact], c: Exact, log: &mut Log) -> Sum {
        let pairs: Vec<(Exact, Exact)> = a.iter().copied().zip(b.iter().copied()).collect();
        let value = match (self.summation.spill, &self.outer) {
            (Some(spill), Some(outer)) => {
                let mut sum = c;
                for pairs in pairs.chunks(spill.every) {
                    let partial = self.partial(pairs, Exact::ZERO, log);
                    sum = log.add(outer, sum, partial);
                    log.holds(sum);
                }
                sum
            }
            _ => self.partial(&pairs, c, log),
        };
        Sum {
            value,
            overflows: log.overflows,
        }
    }

    fn partial(&self, pairs: &[(Exact, Exact)], c: Exact, log: &mut Log) -> Exact {
        let mut lanes = vec![Exact::ZERO; self.summation.lanes];
        lanes[0] = c;
        for (g, group) in pairs.chunks(self.summation.tree).enumerate() {
            let products = group.iter().map(|(a, b)| {
                let exact = a.times(*b);
                self.product
                    .as_ref()
                    .map_or(exact, |codec| log.write(codec, exact))
            });
            let products = products.collect();
            let sum = pairwise(products, |x, y| match &self.tree {
                Some(adder) => log.add(adder, x, y),
                None => x.plus(y, self.accumulator.conversion.rounding),
            });
            let lane = g % lanes.len();
            lanes[lane] = log.add(&self.accumulator, lanes[lane], sum);
            log.holds(lanes[lane]);
        }
        let add = |x, y| log.add(&self.accumulator, x, y);
        match self.summation.merge {
            Merge::Pairwise => pairwise(lanes, add),
            Merge::Sequential => lanes.into_iter().reduce(add).unwrap_or(Exact::ZERO),
        }
    }
}

/// Neighbours added level by level; an odd one waits for the next level.
fn pairwise(mut values: Vec<Exact>, mut add: impl FnMut(Exact, Exact) -> Exact) -> Exact {
    while values.len() > 1 {
        let level = values.chunks(2).map(|pair| match pair {
            [x, y] => add(*x, *y),
            _ => pair[0],
        });
        values = level.collect();
    }
    values.first().copied().unwrap_or(Exact::ZERO)
}
