//! Block floating point: signed magnitudes under a shared exponent (MSFP, Flexpoint).
//!
//! ```text
//! E = floor(log2 amax), stored as E + 127 in 8 bits          amax over the block's finite numbers
//! x ~ (-1)^s x q x 2^(E + 1 - m)                             q: m bits, round(|x| / 2^(E + 1 - m)), at most 2^m - 1
//! ```
//!
//! There is no hidden bit: the largest magnitude has its leading bit set, the others are aligned to it. Source: Rouhani
//! et al., "Pushing the limits of narrow precision inferencing at cloud scale with Microsoft floating point", 2020
//! (MSFP12: m = 3, blocks of 16). Directed roundings follow the sign of the number.

use crate::conversion::Conversion;
use crate::exact::{Exact, Magnitude};
use crate::integer::IntRange;
use crate::rounding::Rounding;

/// A block floating point format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockFloat {
    mantissa: u32,
    block: usize,
    rounding: Rounding,
}

impl BlockFloat {
    /// Magnitudes of `mantissa` bits (1..=15) in blocks; `None` outside.
    pub fn new(mantissa: u8, block: usize, rounding: Rounding) -> Option<Self> {
        let fits = (1..=15).contains(&mantissa) && block > 0;
        fits.then_some(Self {
            mantissa: mantissa.into(),
            block,
            rounding,
        })
    }

    /// Exponent codes of blocks, and a code for each number: the sign above the magnitude.
    pub fn quantize(&self, values: &[f32]) -> (Vec<u8>, Vec<u16>) {
        let (mut exponents, mut codes) = (Vec::new(), Vec::with_capacity(values.len()));
        let conversion = Conversion {
            rounding: self.rounding,
            ..Conversion::default()
        };
        let range = IntRange {
            bits: self.mantissa + 1,
            signed: true,
        };
        for (g, block) in values.chunks(self.block).enumerate() {
            let finite = block.iter().filter(|x| x.is_finite());
            let amax = finite.fold(0f32, |a, x| a.max(x.abs()));
            let exponent = (amax.to_bits() >> 23) as u8;
            exponents.push(exponent);
            let unit = self.unit(exponent);
            for (x, index) in block.iter().zip((g * self.block) as u64..) {
                let scaled = scale_down(Exact::from(*x), unit);
                let q = range.integer(range.encode(scaled, &conversion, index).code);
                let magnitude = q.unsigned_abs().min(range.largest() as u128) as u16;
                codes.push(magnitude | u16::from(q < 0) << self.mantissa);
            }
        }
        (exponents, codes)
    }

    /// Numbers of codes, to nearest f32.
    pub fn dequantize(&self, exponents: &[u8], codes: &[u16]) -> Vec<f32> {
        let blocks = codes.chunks(self.block).zip(exponents);
        let number = |(codes, exponent): (&[u16], &u8)| {
            let unit = self.unit(*exponent);
            let number = |code: &u16| {
                let magnitude = code & ((1 << self.mantissa) - 1);
                let negative = code >> self.mantissa & 1 == 1;
                Exact::finite(negative, magnitude.into(), unit).to_f32()
            };
            codes.iter().map(number).collect::<Vec<_>>()
        };
        blocks.flat_map(number).collect()
    }

    /// Exponent of a magnitude's unit.
    fn unit(&self, exponent: u8) -> i32 {
        i32::from(exponent) - 126 - self.mantissa as i32
    }
}

fn scale_down(value: Exact, unit: i32) -> Exact {
    match value.magnitude {
        Magnitude::Finite {
            significand,
            exponent,
        } => Exact::finite(value.negative, significand, exponent - unit),
        _ => value,
    }
}
