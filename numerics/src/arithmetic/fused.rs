//! Fused dot units: many products and an accumulator added in one aligned, truncated sum.
//!
//! Matrix instructions of GPUs don't add with the rounding of IEEE 754. A block of `n` products and the accumulator
//! `C` becomes
//!
//! ```text
//! p_i  = a_i x b_i                                    exact; exponent e_i = e(a_i) + e(b_i), not normalized:
//!                                                     |p_i| = s_i x 2^e_i, 0 < s_i < 4
//! E    = max e_i, and e(C) where C is aligned too     over what is not zero
//! S    = sum of trunc(p_i / 2^(E-F)) x 2^(E-F)        each truncated toward zero to F bits below 2^E; the sum is exact
//! D    = round(S)                                     to the output's format
//!
//! e(x) = max(floor(log2 |x|), the format's least normal exponent)
//! ```
//!
//! and a longer dot product is a chain of such blocks, of consecutive products or of pairs in turn (`strands`). A chain
//! may start from zero and be added to the accumulator afterwards (`promote`). Units of AMD's third generation add `C` after the products:
//! with `E' = max(E, e(C))`, both the sum and `C` are floored (two's complement) to so many bits below `2^E'`, added
//! and rounded; FP8 aligns even and odd products apart, then floors both to the larger `E - F`. Units for blocks with
//! scales add scale exponents to `e_i`; four-bit ones sum 16 products exactly and multiply by both scales'
//! significands before aligning (the group's exponent is that of its scales).
//!
//! Special values: NaN where an operand is NaN, infinity meets zero in a product, or infinities of both signs meet;
//! else infinity where there is one. A result beyond the output's range is infinite under every rounding. NaN
//! payloads are not modelled. Zeros are +0, except an underflowed negative sum where `signed_underflow`.
//!
//! Sources: Fasi, Higham, Mikaitis, Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ CS 7:e330 (2021);
//! MMA-Sim (arXiv 2511.10909), whose cases the tests pass bit for bit. The units themselves are data:
//! `configs/numerics/fused-dot.toml`, read by [`presets`](super::presets).

use serde::Deserialize;
use thiserror::Error;

use crate::conversion::{Conversion, Outcome, Overflow};
use crate::exact::Exact;
use crate::float::FloatLayout;
use crate::format::Format;
use crate::rounding::Rounding;

/// How the accumulator joins a block's products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Carry {
    /// As one more addend.
    Aligned,
    /// After the products' sum, both floored below the larger exponent.
    After {
        /// Bits that the accumulator keeps.
        carry_bits: u32,
        /// Bits that the sum keeps.
        sum_bits: u32,
        /// An accumulator whose exponent is smaller by more than this adds nothing, instead of its floor.
        vanishes_below: Option<u32>,
    },
}

/// A fused dot unit, as a table of units states it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusedDot {
    /// Its name in the table.
    pub name: String,
    /// Whose unit it is.
    pub generation: String,
    /// Operand formats, in any pair.
    pub inputs: Vec<Format>,
    /// Format of the accumulator that goes in.
    pub accumulate: Format,
    /// Products added at once.
    pub block: usize,
    /// Bits kept below the largest exponent.
    pub fraction_bits: u32,
    /// Sets of products aligned apart: product `i` belongs to set `i mod interleave`.
    #[serde(default = "one")]
    pub interleave: usize,
    /// Products summed exactly before they are scaled and aligned.
    #[serde(default = "one")]
    pub exact_group: usize,
    /// How the accumulator joins.
    pub carry: Carry,
    /// Products of `2^product_limit` and above are infinite.
    pub product_limit: Option<i32>,
    /// Format that a block's sum is rounded to.
    pub output: Format,
    /// How it is rounded.
    pub rounding: Rounding,
    /// Whether a negative sum that rounds to zero is -0.
    #[serde(default)]
    pub signed_underflow: bool,
    /// Blocks that take pairs of products in turn: of each `block x strands` products, pair `p` belongs to block
    /// `p mod strands`.
    #[serde(default = "one")]
    pub strands: usize,
    /// Partial sums of so many products start from zero and are added in the accumulator's format, to nearest even.
    pub promote: Option<usize>,
    /// Where the values come from.
    pub source: String,
}

fn one() -> usize {
    1
}

/// Why a description is no unit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FusedDotError {
    /// A format that this arithmetic has no exponents for, or wider than the f32 that values travel in.
    #[error("`{0}` is no float of at most 8 exponent and 23 mantissa bits")]
    NotAFloat(Format),
    /// A number out of its range.
    #[error("`{field}` of unit `{unit}` must be {range}")]
    OutOfRange {
        /// The unit.
        unit: String,
        /// The field.
        field: &'static str,
        /// What it must be.
        range: &'static str,
    },
    /// An operand format that the unit does not take.
    #[error("unit `{unit}` takes no `{format}`")]
    NoSuchInput {
        /// The unit.
        unit: String,
        /// The format.
        format: Format,
    },
}

/// Scales of blocks of consecutive elements of both operands.
#[derive(Debug, Clone, Copy)]
pub struct Scales<'a> {
    /// Their format: e8m0, or an 8-bit float whose sign is ignored.
    pub format: Format,
    /// Elements that share a scale.
    pub block: usize,
    /// Scales of `a`'s blocks.
    pub a: &'a [f32],
    /// Scales of `b`'s blocks.
    pub b: &'a [f32],
}

/// What an operand's wires carry: bits of the fraction, and the least exponent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wires {
    pub(crate) mantissa: i32,
    pub(crate) least_exponent: i32,
}

impl Wires {
    pub(crate) fn of(format: Format) -> Result<Self, FusedDotError> {
        if format == Format::E8m0 {
            return Ok(Self {
                mantissa: 0,
                least_exponent: -127,
            });
        }
        let layout = layout_of(format)?;
        Ok(Self {
            mantissa: layout.mantissa as i32,
            least_exponent: layout.quantum() + layout.mantissa as i32,
        })
    }

    /// Reads a number; fraction bits below the format's are dropped.
    fn read(self, x: f32) -> Operand {
        let (negative, field) = (x.is_sign_negative(), (x.to_bits() >> 23 & 0xff) as i32);
        let fraction = i64::from(x.to_bits() & 0x7f_ffff);
        if field == 0xff {
            let fraction = fraction >> (23 - self.mantissa);
            return if fraction == 0 {
                Operand::Infinite { negative }
            } else {
                Operand::Nan
            };
        }
        let hidden = i64::from(field > 0) << 23;
        let significand = fraction | hidden;
        let mut unit = field.max(1) - 150;
        if significand == 0 {
            return Operand::Zero { negative };
        }
        let exponent = (unit + significand.ilog2() as i32).max(self.least_exponent);
        let dropped = (exponent - self.mantissa - unit).max(0);
        let significand = significand.checked_shr(dropped as u32).unwrap_or(0);
        unit += dropped;
        if significand == 0 {
            return Operand::Zero { negative };
        }
        Operand::Finite(Addend {
            value: i128::from(if negative { -significand } else { significand }),
            unit,
            exponent,
        })
    }
}

/// `value x 2^unit`, aligned by `exponent`.
#[derive(Debug, Clone, Copy)]
struct Addend {
    value: i128,
    unit: i32,
    exponent: i32,
}

impl Addend {
    fn times(self, other: Self) -> Self {
        Self {
            value: self.value * other.value,
            unit: self.unit + other.unit,
            exponent: self.exponent + other.exponent,
        }
    }

    /// Truncated toward zero to multiples of `2^unit`.
    fn truncated(self, unit: i32) -> i128 {
        let magnitude = shifted(self.value.abs(), self.unit - unit);
        if self.value < 0 {
            -magnitude
        } else {
            magnitude
        }
    }

    /// Floored to multiples of `2^unit`.
    fn floored(self, unit: i32) -> i128 {
        shifted(self.value, self.unit - unit)
    }
}

/// `value x 2^left`, floored. Callers shift left only within the width of the sum.
fn shifted(value: i128, left: i32) -> i128 {
    if left >= 0 {
        value << left.min(127)
    } else {
        value >> (-left).min(127)
    }
}

#[derive(Debug, Clone, Copy)]
enum Operand {
    Zero { negative: bool },
    Finite(Addend),
    Infinite { negative: bool },
    Nan,
}

impl Operand {
    fn negative(self) -> bool {
        match self {
            Self::Zero { negative } | Self::Infinite { negative } => negative,
            Self::Finite(x) => x.value < 0,
            Self::Nan => false,
        }
    }

    fn times(self, other: Self, limit: Option<i32>) -> Self {
        let negative = self.negative() != other.negative();
        match (self, other) {
            (Self::Nan, _)
            | (_, Self::Nan)
            | (Self::Zero { .. }, Self::Infinite { .. })
            | (Self::Infinite { .. }, Self::Zero { .. }) => Self::Nan,
            (Self::Infinite { .. }, _) | (_, Self::Infinite { .. }) => Self::Infinite { negative },
            (Self::Zero { .. }, _) | (_, Self::Zero { .. }) => Self::Zero { negative },
            (Self::Finite(x), Self::Finite(y)) => {
                let p = x.times(y);
                let leading = p.unit + p.value.unsigned_abs().ilog2() as i32;
                if limit.is_some_and(|limit| leading >= limit) {
                    Self::Infinite { negative }
                } else {
                    Self::Finite(p)
                }
            }
        }
    }
}

/// What special values make of a sum.
#[derive(Debug, Clone, Copy, Default)]
struct Specials {
    nan: bool,
    infinite: [bool; 2],
}

impl Specials {
    fn see(&mut self, operand: Operand) {
        match operand {
            Operand::Nan => self.nan = true,
            Operand::Infinite { negative } => self.infinite[usize::from(negative)] = true,
            Operand::Zero { .. } | Operand::Finite(_) => {}
        }
    }

    fn result(self) -> Option<f32> {
        match (self.nan, self.infinite) {
            (true, _) | (_, [true, true]) => Some(f32::NAN),
            (_, [true, false]) => Some(f32::INFINITY),
            (_, [false, true]) => Some(f32::NEG_INFINITY),
            _ => None,
        }
    }
}

fn layout_of(format: Format) -> Result<FloatLayout, FusedDotError> {
    format
        .float_layout()
        .filter(|l| l.exponent <= 8 && l.mantissa <= 23 && l.bias.abs() <= 127)
        .ok_or(FusedDotError::NotAFloat(format))
}

/// A unit with its operands' formats chosen.
#[derive(Debug, Clone)]
pub struct FusedUnit {
    /// The description.
    pub unit: FusedDot,
    pub(crate) a: Wires,
    pub(crate) b: Wires,
    pub(crate) c: Wires,
    pub(crate) accumulator: FloatLayout,
    pub(crate) output: FloatLayout,
}

/// In which order a chain takes products.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// The products, by their place in the operands.
    pub(crate) places: Vec<usize>,
    /// The blocks.
    pub(crate) steps: Vec<Step>,
}

/// One block of a chain.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Its products among the places.
    pub(crate) range: std::ops::Range<usize>,
    /// Whether the partial sum is added to the accumulator after it.
    pub(crate) ends: bool,
}

impl FusedDot {
    /// The unit on operands of two formats.
    pub fn with_inputs(&self, a: Format, b: Format) -> Result<FusedUnit, FusedDotError> {
        let range = |field, range| FusedDotError::OutOfRange {
            unit: self.name.clone(),
            field,
            range,
        };
        if let Some(&format) = [a, b].iter().find(|f| !self.inputs.contains(f)) {
            return Err(FusedDotError::NoSuchInput {
                unit: self.name.clone(),
                format,
            });
        }
        if !(1..=1 << 16).contains(&self.block) {
            return Err(range("block", "1 to 65536"));
        }
        if !(1..=48).contains(&self.fraction_bits) {
            return Err(range("fraction_bits", "1 to 48"));
        }
        if !(1..=self.block).contains(&self.interleave) {
            return Err(range("interleave", "1 to the block"));
        }
        if !(1..=self.block).contains(&self.exact_group) {
            return Err(range("exact_group", "1 to the block"));
        }
        if !(1..=16).contains(&self.strands) || self.strands > 1 && self.exact_group > 1 {
            return Err(range("strands", "1 to 16, and 1 with exact groups"));
        }
        let together = self.block * self.strands;
        if self.promote.is_some_and(|n| n == 0 || n % together != 0) {
            return Err(range("promote", "a multiple of the strands' blocks"));
        }
        if let Carry::After {
            carry_bits,
            sum_bits,
            ..
        } = self.carry
            && (carry_bits > 48 || sum_bits > 48)
        {
            return Err(range("carry", "of at most 48 bits"));
        }
        let (layout_a, layout_b) = (layout_of(a)?, layout_of(b)?);
        // A group's exact sum must fit an i128 beside the scales' significands.
        let small = layout_a.exponent <= 4 && layout_b.exponent <= 4;
        if self.exact_group > 1 && !small {
            return Err(range(
                "exact_group",
                "1 for inputs of 5 exponent bits and more",
            ));
        }
        Ok(FusedUnit {
            unit: self.clone(),
            a: Wires::of(a)?,
            b: Wires::of(b)?,
            c: Wires::of(self.accumulate)?,
            accumulator: layout_of(self.accumulate)?,
            output: layout_of(self.output)?,
        })
    }
}

impl FusedUnit {
    /// `c + a . b`, as the unit gives it: the scalar routine that defines it. `a` and `b` are of one length and hold
    /// numbers of the unit's formats; the last block may be shorter.
    pub fn dot(&self, a: &[f32], b: &[f32], c: f32) -> f32 {
        self.chain(a, b, None, c)
    }

    /// The same of blocks with scales.
    pub fn dot_scaled(&self, a: &[f32], b: &[f32], scales: &Scales, c: f32) -> f32 {
        self.chain(a, b, Some(scales), c)
    }

    /// What the accumulator holds after each block, and the outer sum after each promotion; the last is the result.
    pub fn trace(&self, a: &[f32], b: &[f32], c: f32) -> Vec<f32> {
        let mut trace = Vec::new();
        let result = self.chain_seen(a, b, None, c, |value| trace.push(value));
        if trace.last().map(|v| v.to_bits()) != Some(result.to_bits()) {
            trace.push(result);
        }
        trace
    }

    fn chain(&self, a: &[f32], b: &[f32], scales: Option<&Scales>, c: f32) -> f32 {
        self.chain_seen(a, b, scales, c, |_| {})
    }

    fn chain_seen(
        &self,
        a: &[f32],
        b: &[f32],
        scales: Option<&Scales>,
        c: f32,
        mut seen: impl FnMut(f32),
    ) -> f32 {
        let order = self.order(a.len().min(b.len()));
        let promoted = self.unit.promote.is_some();
        let mut total = c;
        let mut partial = if promoted { 0.0 } else { c };
        for step in order.steps {
            partial = self.block(a, b, &order.places[step.range], scales, partial);
            seen(partial);
            if step.ends {
                total = self.promoted(total, partial);
                partial = 0.0;
                seen(total);
            }
        }
        if promoted { total } else { partial }
    }

    /// Which products each block of a chain adds.
    pub(crate) fn order(&self, length: usize) -> Order {
        let FusedDot {
            block,
            strands,
            promote,
            ..
        } = self.unit;
        let together = block * strands;
        let mut order = Order {
            places: Vec::with_capacity(length),
            steps: Vec::with_capacity(length.div_ceil(block)),
        };
        let mut start = 0;
        while start < length {
            let end = (start + together).min(length);
            for strand in 0..strands {
                let first = order.places.len();
                let own = |i: &usize| strands == 1 || (i - start) / 2 % strands == strand;
                order.places.extend((start..end).filter(own));
                order.steps.push(Step {
                    range: first..order.places.len(),
                    ends: false,
                });
            }
            if let (Some(promote), Some(last)) = (promote, order.steps.last_mut()) {
                last.ends = end % promote == 0 || end == length;
            }
            start = end;
        }
        order
    }

    /// A partial sum added to the accumulator.
    fn promoted(&self, total: f32, partial: f32) -> f32 {
        // f32 holds more than twice the bits of the narrower formats and two more: rounding twice is rounding once.
        let sum = total + partial;
        if self.accumulator.mantissa == 23 || !sum.is_finite() {
            return sum;
        }
        round_to(&self.accumulator, Rounding::NearestEven, Exact::from(sum))
    }

    fn block(
        &self,
        a: &[f32],
        b: &[f32],
        places: &[usize],
        scales: Option<&Scales>,
        c: f32,
    ) -> f32 {
        let unit = &self.unit;
        let c = self.c.read(c);
        let mut specials = Specials::default();
        specials.see(c);
        let mut sets: Vec<Vec<Addend>> = vec![Vec::new(); unit.interleave];
        for (number, group) in places.chunks(unit.exact_group).enumerate() {
            let mut products: Vec<Addend> = Vec::new();
            for &i in group {
                let product = self
                    .a
                    .read(a[i])
                    .times(self.b.read(b[i]), unit.product_limit);
                specials.see(product);
                if let Operand::Finite(p) = product {
                    products.push(p);
                }
            }
            let sum = if unit.exact_group == 1 {
                products.first().copied()
            } else {
                exact_sum(&products)
            };
            let set = number % unit.interleave;
            match (sum, scale_of(scales, group[0])) {
                (Some(sum), None) => sets[set].push(sum),
                (sum, Some(scale)) => {
                    specials.see(scale);
                    if let (Some(sum), Operand::Finite(scale)) = (sum, scale) {
                        sets[set].push(sum.times(scale));
                    }
                }
                (None, None) => {}
            }
        }
        if let Some(special) = specials.result() {
            return special;
        }
        let c = match c {
            Operand::Finite(c) => Some(c),
            _ => None,
        };
        self.rounded(match unit.carry {
            Carry::Aligned => {
                sets[0].extend(c);
                self.sum_sets(&sets)
            }
            Carry::After {
                carry_bits,
                sum_bits,
                vanishes_below,
            } => after(
                self.sum_sets(&sets),
                c,
                carry_bits as i32,
                sum_bits as i32,
                vanishes_below,
            ),
        })
    }

    /// Every set truncated at its own largest exponent and summed; several are floored to the largest of all.
    fn sum_sets(&self, sets: &[Vec<Addend>]) -> Option<Addend> {
        let bits = self.unit.fraction_bits as i32;
        let sums: Vec<Addend> = sets
            .iter()
            .filter_map(|set| {
                let exponent = set.iter().map(|x| x.exponent).max()?;
                let unit = exponent - bits;
                Some(Addend {
                    value: set.iter().map(|x| x.truncated(unit)).sum(),
                    unit,
                    exponent,
                })
            })
            .collect();
        let exponent = sums.iter().map(|x| x.exponent).max()?;
        let unit = exponent - bits;
        Some(Addend {
            value: sums.iter().map(|x| x.floored(unit)).sum(),
            unit,
            exponent,
        })
    }

    fn rounded(&self, sum: Option<Addend>) -> f32 {
        let Some(sum) = sum.filter(|s| s.value != 0) else {
            return 0.0;
        };
        let exact = Exact::finite(sum.value < 0, sum.value.unsigned_abs(), sum.unit);
        let value = round_to(&self.output, self.unit.rounding, exact);
        if value == 0.0 && !self.unit.signed_underflow {
            0.0
        } else {
            value
        }
    }
}

/// A number rounded to a format; beyond its range infinite under every rounding.
fn round_to(layout: &FloatLayout, rounding: Rounding, exact: Exact) -> f32 {
    let conversion = Conversion {
        rounding,
        overflow: Overflow::Infinity,
        ..Conversion::default()
    };
    let encoded = layout.encode(exact, &conversion, 0);
    if encoded.outcome == Outcome::Overflowed {
        return if exact.negative {
            f32::NEG_INFINITY
        } else {
            f32::INFINITY
        };
    }
    layout.decode(encoded.code).to_f32()
}

/// The sum of products in the smallest of their units; aligned by exponent 0.
fn exact_sum(products: &[Addend]) -> Option<Addend> {
    let unit = products.iter().map(|p| p.unit).min()?;
    let value: i128 = products.iter().map(|p| p.truncated(unit)).sum();
    (value != 0).then_some(Addend {
        value,
        unit,
        exponent: 0,
    })
}

/// The product of the scales of an element of both operands.
fn scale_of(scales: Option<&Scales>, element: usize) -> Option<Operand> {
    let scales = scales?;
    let wires = Wires::of(scales.format).ok()?;
    let block = element / scales.block.max(1);
    let read = |of: &[f32]| wires.read(of.get(block).copied().unwrap_or(f32::NAN).abs());
    Some(read(scales.a).times(read(scales.b), None))
}

/// The sum and the accumulator, both floored below the larger exponent.
fn after(
    sum: Option<Addend>,
    c: Option<Addend>,
    carry_bits: i32,
    sum_bits: i32,
    vanishes_below: Option<u32>,
) -> Option<Addend> {
    let exponent = sum.iter().chain(&c).map(|x| x.exponent).max()?;
    let unit = exponent - carry_bits.max(sum_bits);
    let vanishes = |c: &Addend| vanishes_below.is_some_and(|n| c.exponent < exponent - n as i32);
    let sum = sum.map_or(0, |s| s.floored(exponent - sum_bits));
    let c = c.filter(|c| !vanishes(c));
    let c = c.map_or(0, |c| c.floored(exponent - carry_bits));
    let value = shifted(sum, exponent - sum_bits - unit) + shifted(c, exponent - carry_bits - unit);
    Some(Addend {
        value,
        unit,
        exponent,
    })
}
