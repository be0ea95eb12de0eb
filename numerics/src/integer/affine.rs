//! Integers with a scale and a zero point.
//!
//! ```text
//! quantize     q = confine(round(x / scale) + zero_point)
//! dequantize   x = (q - zero_point) x scale
//! symmetric    zero_point = 0; narrow: the least code is left out, so that the range is symmetric too
//!
//! scale from a range, symmetric:    scale = max |x| / largest
//! scale from a range, asymmetric:   scale = (hi - lo) / (largest - least)    lo, hi: the range widened to hold 0
//!                                   zero_point = confine(round(least - lo / scale))
//! ```
//!
//! How the quotient is made is part of the definition, since runtimes differ: the f32 quotient (ONNX QuantizeLinear),
//! an f32 product with the f32 reciprocal (many kernels), or the exact quotient rounded once.
//! Sources: ONNX operators QuantizeLinear, DynamicQuantizeLinear; TFLite 8-bit quantization specification.

use crate::conversion::{Conversion, Encoded, Outcome};
use crate::exact::Exact;
use crate::integer::IntRange;

/// How a number is divided by its scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Division {
    /// The quotient in f32.
    #[default]
    Quotient,
    /// The product in f32 with the reciprocal in f32.
    Reciprocal,
    /// The exact quotient.
    Exact,
}

/// A scale and zero point over an integer range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// The integers.
    pub range: IntRange,
    /// What one step stands for.
    pub scale: f32,
    /// The integer that stands for zero.
    pub zero_point: i64,
    /// Whether the least integer is left out.
    pub narrow: bool,
    /// How a number is divided by the scale.
    pub division: Division,
}

impl Affine {
    /// Symmetric: the largest magnitude stands at the largest integer. The scale is 1 where all are zero.
    pub fn symmetric(range: IntRange, amax: f32) -> Self {
        let scale = amax / range.largest() as f32;
        Self {
            range,
            scale: if scale > 0.0 { scale } else { 1.0 },
            zero_point: 0,
            narrow: true,
            division: Division::Quotient,
        }
    }

    /// Asymmetric: the range of numbers, widened to hold zero, over all integers.
    pub fn asymmetric(range: IntRange, least: f32, largest: f32) -> Self {
        let (least, largest) = (least.min(0.0), largest.max(0.0));
        let scale = (largest - least) / (range.largest() - range.least()) as f32;
        let scale = if scale > 0.0 { scale } else { 1.0 };
        let zero = (range.least() as f32 - least / scale).round_ties_even();
        Self {
            range,
            scale,
            zero_point: (zero as i64).clamp(
                range.least() as i64,
                range.largest().min(i64::MAX.into()) as i64,
            ),
            narrow: false,
            division: Division::Quotient,
        }
    }

    /// The code of a number.
    pub fn encode(&self, value: f32, conversion: &Conversion, index: u64) -> Encoded {
        let scaled = match self.division {
            Division::Quotient => Exact::from(value / self.scale),
            Division::Reciprocal => Exact::from(value * (1.0 / self.scale)),
            Division::Exact => Exact::from(value).quotient(Exact::from(self.scale)),
        };
        // Wide enough that only the sum with the zero point is confined.
        let wide = IntRange {
            bits: 100,
            signed: true,
        };
        let Encoded { code, outcome } = wide.encode(scaled, conversion, index);
        let sum = wide.integer(code) + i128::from(self.zero_point);
        let (confined, outside) = self.range.confine(sum, conversion.overflow);
        let least = self.range.least() + i128::from(self.narrow);
        Encoded {
            code: self.range.code(confined.max(least)),
            outcome: if outside || confined < least {
                Outcome::Overflowed
            } else {
                outcome
            },
        }
    }

    /// What a code stands for, in f32.
    pub fn decode(&self, code: u128) -> f32 {
        (self.range.integer(code) - i128::from(self.zero_point)) as f32 * self.scale
    }
}
