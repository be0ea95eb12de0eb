//! L2 normalization and the reciprocal square root.
//!
//! ```text
//! L2 normalization   y = clamp(R(x - zx)), multiplier 2^7 / sqrt(sum (x - zx)^2) of the row; outputs in steps of 1/128
//! rsqrt              v = x - zx; v = 0: the largest code
//!                    d = R(1), multiplier 2^20 / sqrt(v);  y = clamp(zo + R(d)), multiplier 2^-20 / (sqrt(s_x) s_o)
//! ```
//!
//! Roots: [`super::inverse_sqrt`]; R: double rounding. Source: TensorFlow Lite, reference/integer_ops/l2normalization.h,
//! kernels elementwise.

use super::inverse_sqrt::inverse_sqrt;
use super::rescale::{LITERT, Rescale};
use super::softmax::rows;
use super::table::Table;
use super::{Clamp, Element, QuantizedError, Scaling};
use crate::integer::requantize::{FixedMultiplier, Requantization};

/// Divides rows of `depth` codes by their norms. The output's scale is 1/128, its zero point 0.
pub fn l2_normalization(
    zero_point: i32,
    depth: usize,
    input: &[i8],
    output: &mut [i8],
) -> Result<(), QuantizedError> {
    let offset = |x: &i8| i64::from(*x) - i64::from(zero_point);
    rows(depth, input, output, |input: &[i8], output: &mut [i8]| {
        let squares = input.iter().map(|x| offset(x).saturating_mul(offset(x)));
        let sum = squares.fold(0, i64::saturating_add);
        let m = inverse_sqrt(sum.min(i32::MAX.into()) as i32);
        let multiplier = Requantization::DoubleRounding(FixedMultiplier {
            shift: m.shift + 7,
            ..m
        });
        for (x, y) in input.iter().zip(output) {
            *y = i8::saturated(multiplier.apply(offset(x), 0));
        }
    })
}

/// Bits below one while a root is an integer.
const SPARE: i32 = 20;

/// The table of 1 / sqrt(x); `None` where the input has codes below its zero point, which have no root.
pub fn rsqrt(input: Scaling, output: Scaling) -> Option<Table> {
    if input.zero_point > i8::LEAST {
        return None;
    }
    let real = 1.0 / (f64::from(input.scale.sqrt()) * f64::from(output.scale));
    let mut rescale = Rescale::of_ratio::<i8>(LITERT, real, output, Clamp::None);
    for multiplier in &mut rescale.multipliers {
        if let Requantization::DoubleRounding(m) = multiplier {
            m.shift -= SPARE;
        }
    }
    Some(Table::new(|x| {
        let value = i32::from(x).saturating_sub(input.zero_point);
        if value == 0 {
            return i8::MAX;
        }
        let root = inverse_sqrt(value);
        let root = Requantization::DoubleRounding(FixedMultiplier {
            shift: root.shift + SPARE,
            ..root
        });
        rescale.code(root.apply(1, 0), 0, 0)
    }))
}
