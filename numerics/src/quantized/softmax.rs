//! Softmax of rows of codes.
//!
//! int8, in fixed point ([`super::fixed_point`], 32 bits):
//!
//! ```text
//! d    = x - max x;  only where d >= -floor(31 x 2^26 / 2^l), else the output is the least code
//! e    = exp(d beta s_x): the difference by the multiplier min(beta s_x 2^26, 2^31 - 1) = q 2^l, in Q5; exp in Q0
//! S    = sum e in Q12, each term rounded
//! 1/S  = r 2^-b: S is shifted to 1..2, r = 1 / (1 + (S' - 1)) in Q0
//! y    = least code + r e / 2^(b + 31 - bits), ties away, clamped
//! ```
//!
//! int16, by two tables of 513 entries ([`super::table`]):
//!
//! ```text
//! d    = clamp(R(x - max x) + 32767), multiplier beta s_x 65535 / 10;  e = T_exp(d), over -10 .. 0, in steps of 2^-15
//! S    = sum e;  S' = S shifted to 1..2, rounded to 16 bits;  r = T_1/(1+x)(S' - 1)
//! y    = clamp((e r + half) >> right, 0, 32767)
//! ```
//!
//! Source: TensorFlow Lite, reference/softmax.h and kernels activations.

use super::fixed_point::WORD32;
use super::table::{self, InterpolatedTable};
use super::{Element, QuantizedError, Scaling, check};
use crate::integer::requantize::{FixedMultiplier, Requantization};

/// Integer bits of differences.
const DIFFERENCE: u32 = 5;
/// Integer bits of sums.
const SUM: i32 = 12;

/// Softmax of int8 codes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Softmax {
    /// Differences to Q5.
    pub multiplier: FixedMultiplier,
    /// The least difference that counts.
    pub least_difference: i32,
}

impl Softmax {
    /// Of a scale and a factor of the exponent.
    pub fn new(input: f32, beta: f32) -> Self {
        let unit = f64::from(1u32 << (31 - DIFFERENCE));
        let real = f64::from(beta) * f64::from(input) * unit;
        let multiplier = FixedMultiplier::new(real.min(f64::from(i32::MAX)));
        let radius = f64::from((1u32 << DIFFERENCE) - 1) * unit * 2f64.powi(-multiplier.shift);
        Self {
            multiplier,
            least_difference: -(radius.floor().min(f64::from(i32::MAX)) as i32),
        }
    }

    fn exp(&self, difference: i32) -> Option<i64> {
        let difference = (difference >= self.least_difference).then_some(difference)?;
        let scaled = Requantization::DoubleRounding(self.multiplier).apply(difference.into(), 0);
        Some(WORD32.exp_of_negative(scaled, DIFFERENCE))
    }

    fn row<A: Element, B: Element>(&self, input: &[A], output: &mut [B]) {
        let w = WORD32;
        let largest = input.iter().map(|x| (*x).into()).max().unwrap_or(0);
        let exps = || input.iter().map(|x| self.exp((*x).into() - largest));
        let sum: i64 = exps().flatten().map(|e| w.scale(e, -SUM)).sum();
        let headroom = (sum as u32).leading_zeros().min(31);
        let fraction = i64::from(((sum as u32) << headroom) as i32 ^ i32::MIN);
        let reciprocal = w.reciprocal_of_one_plus(fraction);
        let bits = (B::LARGEST - B::LEAST).count_ones() as i32;
        let right = SUM - headroom as i32 + 31 - bits;
        for (e, y) in exps().zip(output) {
            let code = e.map_or(0, |e| w.scale(w.product(reciprocal, e), -right));
            *y = B::saturated(code + i64::from(B::LEAST));
        }
    }
}

/// Softmax over rows of `depth` codes.
pub fn softmax<A: Element, B: Element>(
    op: &Softmax,
    depth: usize,
    input: &[A],
    output: &mut [B],
) -> Result<(), QuantizedError> {
    rows(depth, input, output, |input, output| op.row(input, output))
}

/// Softmax of int16 codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Softmax16 {
    /// Differences to the table's steps.
    pub multiplier: Requantization,
    /// exp over -10..0.
    pub exp: InterpolatedTable,
    /// 1 / (1 + x) over 0..1.
    pub reciprocal: InterpolatedTable,
}

impl Softmax16 {
    /// Of a scale and a factor of the exponent.
    pub fn new(input: f32, beta: f32) -> Self {
        let step = 10.0 / 65535.0;
        let multiplier = FixedMultiplier::new(f64::from(input) * f64::from(beta) / step);
        let of = |scale: f64, zero_point: i16, f: fn(f32) -> f32| {
            let input = Scaling {
                scale: scale as f32,
                zero_point: zero_point.into(),
            };
            let output = Scaling {
                scale: (2.0 / 65535.0) as f32,
                zero_point: 0,
            };
            InterpolatedTable::of_real(input, output, f)
        };
        Self {
            multiplier: Requantization::DoubleRounding(multiplier),
            exp: of(step, i16::MAX, table::exp),
            reciprocal: of(1.0 / 65535.0, i16::MIN, |x| 1.0 / (1.0 + x)),
        }
    }

    fn row(&self, input: &[i16], output: &mut [i16]) {
        let largest = input.iter().copied().max().unwrap_or(0);
        let exp = |x: i16| {
            let scaled = self.multiplier.apply(i64::from(x) - i64::from(largest), 0);
            self.exp.code(i16::saturated(scaled + 32767))
        };
        let exps: Vec<i16> = input.iter().map(|x| exp(*x)).collect();
        let sum: i64 = exps.iter().map(|e| i64::from(*e)).sum();
        let headroom = (sum as i32).leading_zeros().max(1);
        let shifted = ((sum << (headroom - 1)) + (1 << 13)) >> 14;
        let fraction = i16::saturated(shifted - (1 << 15) - (1 << 16));
        let reciprocal = i64::from(self.reciprocal.code(fraction));
        let right = 31 - headroom;
        let half = if right > 0 { 1 << (right - 1) } else { 0 };
        for (e, y) in exps.iter().zip(output) {
            let code = (i64::from(*e) * reciprocal + half) >> right;
            *y = i16::saturated(code.max(0));
        }
    }
}

/// Softmax over rows of `depth` int16 codes.
pub fn softmax_int16(
    op: &Softmax16,
    depth: usize,
    input: &[i16],
    output: &mut [i16],
) -> Result<(), QuantizedError> {
    rows(depth, input, output, |input, output| op.row(input, output))
}

pub(super) fn rows<A, B>(
    depth: usize,
    input: &[A],
    output: &mut [B],
    row: impl Fn(&[A], &mut [B]),
) -> Result<(), QuantizedError> {
    check("the output", output.len(), &[input.len()])?;
    if depth == 0 || !input.len().is_multiple_of(depth) {
        return Err(QuantizedError::Shape("rows don't divide the elements"));
    }
    for (input, output) in input
        .chunks_exact(depth)
        .zip(output.chunks_exact_mut(depth))
    {
        row(input, output);
    }
    Ok(())
}
