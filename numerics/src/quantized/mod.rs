//! Integer-quantized kernels: convolutions, products, elementwise and normalizing ops, LSTM, on slices of codes.
//!
//! Every tensor is affine: `x = (q - zero_point) x scale` ([`Scaling`]). A kernel is prepared once from scales and
//! shapes: a plain struct whose multipliers, tables and clamps stand in public fields; calling it touches codes only.
//! It knows no graph and no file.
//!
//! ```text
//! product ops    acc = bias + sum (a - za)(w - zw)       registers and order: accumulation
//!                q   = clamp(zo + R(acc))                R: a multiplier s_a s_w / s_o of one of several forms: rescale
//! the rest       one module each, equations in its documentation
//! ```
//!
//! How an accumulator is rounded and in which precision the ratio of scales is made differ from op to op inside one
//! runtime; both are a [`rescale::Recipe`], and the recipes of LiteRT's reference kernels and of XNNPACK are named
//! there. With them the kernels here give LiteRT 2.3.0's codes bit for bit (`docs/numerics.md` has the table).
//! With other recipes and [`accumulation::Accumulation::Ordered`] they are those of a chip.
//!
//! | module | ops |
//! |---|---|
//! | [`convolution`] | conv2d, depthwise conv2d, groups, dilation, per channel; int8 and int16 activations |
//! | [`linear`] | fully connected, batch matmul |
//! | [`elementwise`] | add, sub, squared difference, mul |
//! | [`activation`] | requantize, relu, leaky relu, hard swish |
//! | [`table`] | any function of int8 as 256 codes, of int16 by 513 entries with interpolation; logistic, tanh, gelu, exp |
//! | [`sigmoid`] | logistic and tanh of int16 |
//! | [`softmax`] | int8, int16 |
//! | [`normalization`] | L2 normalization, reciprocal square root |
//! | [`pooling`] | average, max, mean |
//! | [`lstm`] | LSTM and CIFG-LSTM with an int8 state and an int16 cell |
//! | [`movement`] | pad, concatenation, broadcast |
//!
//! Sources: the TensorFlow Lite 8-bit quantization specification, and the definitions in TensorFlow Lite's reference
//! kernels (`kernels/internal/reference`) and in gemmlowp's `fixedpoint.h`, written down here as equations.

pub mod accumulation;
pub mod activation;
pub mod convolution;
pub mod elementwise;
pub mod fixed_point;
pub mod inverse_sqrt;
pub mod linear;
pub mod lstm;
pub mod movement;
pub mod normalization;
pub mod pooling;
pub mod rescale;
pub mod sigmoid;
pub mod softmax;
pub mod table;
pub mod window;

use thiserror::Error;

use crate::arithmetic::summation::SummationError;

/// What codes stand for: `(code - zero_point) x scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// What one step stands for.
    pub scale: f32,
    /// The code of zero.
    pub zero_point: i32,
}

/// The codes of activations and weights: i8, u8, i16.
pub trait Element: Copy + Default + Into<i32> + Send + Sync {
    /// The least code.
    const LEAST: i32;
    /// The largest code.
    const LARGEST: i32;

    /// The code of an integer, saturated.
    fn saturated(integer: i64) -> Self;
}

impl Element for i8 {
    const LEAST: i32 = i8::MIN as i32;
    const LARGEST: i32 = i8::MAX as i32;

    fn saturated(integer: i64) -> Self {
        integer.clamp(i8::MIN.into(), i8::MAX.into()) as i8
    }
}

impl Element for u8 {
    const LEAST: i32 = 0;
    const LARGEST: i32 = u8::MAX as i32;

    fn saturated(integer: i64) -> Self {
        integer.clamp(0, u8::MAX.into()) as u8
    }
}

impl Element for i16 {
    const LEAST: i32 = i16::MIN as i32;
    const LARGEST: i32 = i16::MAX as i32;

    fn saturated(integer: i64) -> Self {
        integer.clamp(i16::MIN.into(), i16::MAX.into()) as i16
    }
}

/// The clamp that an op applies to its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clamp {
    /// The codes' own range.
    #[default]
    None,
    /// From 0 on.
    Relu,
    /// 0 to 6.
    Relu6,
    /// -1 to 1.
    ReluN1To1,
}

impl Clamp {
    /// Its least and largest code: `clamp(zero_point + round(x / scale))`, the quotient in f32, ties away from zero.
    pub fn range<T: Element>(self, output: Scaling) -> (i64, i64) {
        let code = |x: f32| {
            let steps = (x / output.scale).round() as i64;
            steps.saturating_add(output.zero_point.into())
        };
        let (least, largest) = (i64::from(T::LEAST), i64::from(T::LARGEST));
        let (from, to) = match self {
            Self::None => (least, largest),
            Self::Relu => (code(0.0), largest),
            Self::Relu6 => (code(0.0), code(6.0)),
            Self::ReluN1To1 => (code(-1.0), code(1.0)),
        };
        (from.max(least), to.min(largest))
    }
}

/// Why a kernel can't run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuantizedError {
    /// A slice of another length than its shape has.
    #[error("{what} has {found} elements, its shape {expected}")]
    Length {
        /// The operand.
        what: &'static str,
        /// Elements of the shape.
        expected: usize,
        /// Elements of the slice.
        found: usize,
    },
    /// A shape that is none.
    #[error("{0}")]
    Shape(&'static str),
    /// Adders that can't take the sums.
    #[error(transparent)]
    Summation(#[from] SummationError),
}

/// Elements of a shape.
fn elements(shape: &[usize]) -> Result<usize, QuantizedError> {
    let product = shape.iter().try_fold(1usize, |n, x| n.checked_mul(*x));
    product.ok_or(QuantizedError::Shape(
        "a shape has more elements than memory",
    ))
}

/// Checks that a code of zero is a code: sums of products then fit 64 bits.
fn check_zero_point<T: Element>(zero_point: i32) -> Result<(), QuantizedError> {
    if (T::LEAST..=T::LARGEST).contains(&zero_point) {
        Ok(())
    } else {
        Err(QuantizedError::Shape("a zero point is not among the codes"))
    }
}

/// What the sums of so many outputs start from.
fn starts(bias: Option<&[i64]>, outputs: usize) -> Result<Vec<i64>, QuantizedError> {
    let Some(bias) = bias else {
        return Ok(vec![0; outputs]);
    };
    check("the bias", bias.len(), &[outputs])?;
    if bias.iter().any(|b| b.unsigned_abs() >= 1 << 62) {
        return Err(QuantizedError::Shape("a bias needs more than 62 bits"));
    }
    Ok(bias.to_vec())
}

/// Checks a slice's length against its shape.
fn check(what: &'static str, found: usize, shape: &[usize]) -> Result<(), QuantizedError> {
    let expected = elements(shape)?;
    if expected == found {
        Ok(())
    } else {
        Err(QuantizedError::Length {
            what,
            expected,
            found,
        })
    }
}
