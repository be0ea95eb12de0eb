//! From accumulators to output codes.
//!
//! ```text
//! q = clamp(zo + R_c(acc))       R_c: the multiplier of channel c, M_c = s_a s_w,c / s_o, in one of the forms of
//!                                [`crate::integer::requantize`]
//! ```
//!
//! `M` is made in f64 (`f64(s_a) f64(s_w) / f64(s_o)`) or in f32 (product and quotient each rounded to f32). A recipe
//! says both:
//!
//! | recipe | form | ratio | where |
//! |---|---|---|---|
//! | [`LITERT`] | double rounding | f64 | LiteRT's reference convolutions, batch matmul, requantize, activations, mean |
//! | [`LITERT_FULLY_CONNECTED`] | single rounding | f64 | its fully connected of int8 and int16 |
//! | [`LITERT_F32_RATIO`] | double rounding | f32 | its mul, LSTM |
//! | [`LITERT_INT16`] | 16-bit multiplier | f64 | its convolutions of int16 with 64-bit accumulators |
//! | [`LITERT_OPTIMIZED`] | double rounding, ties up | f64 | its optimized convolutions of int8 on x86 |
//! | [`LITERT_OPTIMIZED_FULLY_CONNECTED`] | double rounding, ties up | f32 | its optimized fully connected of int8 on x86 |
//! | [`XNNPACK`] | f32 product, nearest even | f32 | XNNPACK's qs8 convolutions, fully connected, mul, mean |
//! | [`XNNPACK_CONVERT`] | 8 fraction bits | f32 | XNNPACK's qs8 requantize, leaky relu |

use super::{Clamp, Element, Scaling};
use crate::integer::requantize::{FixedMultiplier, Requantization};
use crate::rounding::Rounding;

/// How an accumulator times a ratio of scales becomes an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// gemmlowp's two roundings.
    DoubleRounding,
    /// The same, ties of the second up.
    DoubleRoundingUp,
    /// One rounding, ties up.
    SingleRounding,
    /// One rounding of a 16-bit multiplier.
    Reduced,
    /// One rounding, ties up, of a multiplier of so many fraction bits, itself rounded to nearest even.
    Fraction(u8),
    /// A product in f32.
    Float(Rounding),
    /// A shift by the power of two nearest to the ratio: hardware without multipliers.
    PowerOfTwo(Rounding),
}

/// The arithmetic of a ratio of scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RatioPrecision {
    /// Products and quotients in f64.
    F64,
    /// Products and quotients in f32.
    F32,
}

/// How a chip or runtime rescales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// The form of the multiplier.
    pub form: Form,
    /// The precision in which it was made.
    pub ratio: RatioPrecision,
}

/// LiteRT's reference kernels where nothing else is said.
pub const LITERT: Recipe = Recipe {
    form: Form::DoubleRounding,
    ratio: RatioPrecision::F64,
};

/// LiteRT's fully connected.
pub const LITERT_FULLY_CONNECTED: Recipe = Recipe {
    form: Form::SingleRounding,
    ratio: RatioPrecision::F64,
};

/// LiteRT's kernels that make the ratio in f32.
pub const LITERT_F32_RATIO: Recipe = Recipe {
    form: Form::DoubleRounding,
    ratio: RatioPrecision::F32,
};

/// LiteRT's convolutions of int16 activations.
pub const LITERT_INT16: Recipe = Recipe {
    form: Form::Reduced,
    ratio: RatioPrecision::F64,
};

/// LiteRT's optimized convolutions of int8 on x86.
pub const LITERT_OPTIMIZED: Recipe = Recipe {
    form: Form::DoubleRoundingUp,
    ratio: RatioPrecision::F64,
};

/// LiteRT's optimized fully connected of int8 on x86.
pub const LITERT_OPTIMIZED_FULLY_CONNECTED: Recipe = Recipe {
    form: Form::DoubleRoundingUp,
    ratio: RatioPrecision::F32,
};

/// XNNPACK's signed 8-bit products.
pub const XNNPACK: Recipe = Recipe {
    form: Form::Float(Rounding::NearestEven),
    ratio: RatioPrecision::F32,
};

/// XNNPACK's conversions between signed 8-bit scales.
pub const XNNPACK_CONVERT: Recipe = Recipe {
    form: Form::Fraction(8),
    ratio: RatioPrecision::F32,
};

impl Recipe {
    /// The product of scales over another scale.
    pub fn ratio(self, factors: &[f32], divisor: f32) -> f64 {
        match self.ratio {
            RatioPrecision::F64 => {
                let product: f64 = factors.iter().map(|x| f64::from(*x)).product();
                product / f64::from(divisor)
            }
            RatioPrecision::F32 => (factors.iter().product::<f32>() / divisor).into(),
        }
    }

    /// The multiplier of a real ratio.
    pub fn multiplier(self, real: f64) -> Requantization {
        let fixed = FixedMultiplier::new(real);
        match self.form {
            Form::DoubleRounding => Requantization::DoubleRounding(fixed),
            Form::DoubleRoundingUp => Requantization::DoubleRoundingUp(fixed),
            Form::SingleRounding => Requantization::SingleRounding(fixed),
            Form::Reduced => Requantization::Reduced(fixed),
            Form::Fraction(bits) => {
                let bits = bits.min(30);
                let q = libm::rint(real * f64::from(1u32 << bits));
                Requantization::SingleRounding(FixedMultiplier {
                    significand: q as i32,
                    shift: 31 - i32::from(bits),
                })
            }
            Form::Float(rounding) => Requantization::Float {
                multiplier: real as f32,
                rounding,
            },
            Form::PowerOfTwo(rounding) => Requantization::PowerOfTwo {
                shift: (-libm::round(libm::log2(real))).clamp(0.0, 127.0) as u8,
                rounding,
            },
        }
    }
}

/// The way from accumulators to codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Rescale {
    /// The multiplier of each channel, or the one of all.
    pub multipliers: Vec<Requantization>,
    /// The output's code of zero.
    pub zero_point: i64,
    /// The least and largest output.
    pub range: (i64, i64),
}

impl Rescale {
    /// Of accumulators in steps of `input x weights[c]`; one weight scale serves all channels.
    pub fn new<T: Element>(
        recipe: Recipe,
        input: f32,
        weights: &[f32],
        output: Scaling,
        clamp: Clamp,
    ) -> Self {
        let of = |w: &f32| recipe.multiplier(recipe.ratio(&[input, *w], output.scale));
        Self {
            multipliers: weights.iter().map(of).collect(),
            zero_point: output.zero_point.into(),
            range: clamp.range::<T>(output),
        }
    }

    /// Of one real ratio.
    pub fn of_ratio<T: Element>(recipe: Recipe, real: f64, output: Scaling, clamp: Clamp) -> Self {
        Self {
            multipliers: vec![recipe.multiplier(real)],
            zero_point: output.zero_point.into(),
            range: clamp.range::<T>(output),
        }
    }

    /// Whether there is a multiplier for each of so many channels.
    pub(super) fn serves(&self, channels: usize) -> bool {
        self.multipliers.len() == 1 || self.multipliers.len() == channels
    }

    /// The output of an accumulator. `index` numbers the element for stochastic rounding.
    pub fn code<T: Element>(&self, accumulator: i64, channel: usize, index: u64) -> T {
        let one = self.multipliers.len() == 1;
        let multiplier = self.multipliers.get(if one { 0 } else { channel });
        T::saturated(multiplier.map_or(self.zero_point, |m| {
            m.output(accumulator, self.zero_point, self.range, index)
        }))
    }
}
