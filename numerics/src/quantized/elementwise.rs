//! Ops on two tensors, element by element.
//!
//! Add, sub and squared difference bring both operands to a common scale with `L` spare bits below:
//!
//! ```text
//! S  = 2 max(s_a, s_b)
//! a' = R((a - za) 2^L), multiplier s_a / S             b' likewise
//! add, sub              y = Q(a' + b'), Q(a' - b')     multiplier S / (2^L s_o)           L = 20, for int16 15
//! squared difference    y = Q((a' - b')^2)             multiplier S^2 / (2^2L s_o)        L = 7
//! mul                   y = Q((a - za)(b - zb))        multiplier s_a s_b / s_o
//! ```
//!
//! LiteRT makes the ratio of mul in f32 ([`super::rescale::LITERT_F32_RATIO`]), all others in f64; XNNPACK makes that of
//! mul in f32 too, with a product in f32. Source: TensorFlow Lite's kernels add, sub, mul, squared_difference.
//!
//! Operands have one length; [`super::movement::broadcast`] repeats the shorter.

use super::rescale::{Recipe, Rescale};
use super::{Clamp, Element, QuantizedError, Scaling, check};
use crate::integer::requantize::Requantization;

/// What is made of two operands at a common scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combination {
    /// a + b.
    Add,
    /// a - b.
    Sub,
    /// (a - b)^2.
    SquaredDifference,
}

/// An operand on its way to the common scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aligned {
    /// Its code of zero.
    pub zero_point: i32,
    /// To the common scale.
    pub multiplier: Requantization,
}

/// Add, sub, squared difference.
#[derive(Debug, Clone, PartialEq)]
pub struct Combine {
    /// Which.
    pub combination: Combination,
    /// L.
    pub left_shift: u32,
    /// The operands.
    pub operands: [Aligned; 2],
    /// To the output's codes.
    pub rescale: Rescale,
}

impl Combine {
    /// With the spare bits that LiteRT takes for these codes.
    pub fn new<T: Element>(
        combination: Combination,
        recipe: Recipe,
        operands: [Scaling; 2],
        output: Scaling,
        clamp: Clamp,
    ) -> Self {
        let squared = combination == Combination::SquaredDifference;
        let left_shift = match (squared, T::LARGEST > 255) {
            (true, _) => 7,
            (false, false) => 20,
            (false, true) => 15,
        };
        let common = 2.0 * f64::from(operands[0].scale.max(operands[1].scale));
        let spare = f64::from(1 << left_shift);
        let ratio = if squared {
            common * common / (spare * spare * f64::from(output.scale))
        } else {
            common / (spare * f64::from(output.scale))
        };
        Self {
            combination,
            left_shift,
            operands: operands.map(|s| Aligned {
                zero_point: s.zero_point,
                multiplier: recipe.multiplier(f64::from(s.scale) / common),
            }),
            rescale: Rescale::of_ratio::<T>(recipe, ratio, output, clamp),
        }
    }

    /// One element.
    pub fn code<T: Element>(&self, a: T, b: T, index: u64) -> T {
        let aligned = |x: T, operand: &Aligned| {
            let offset = i64::from(x.into()) - i64::from(operand.zero_point);
            operand.multiplier.apply(offset << self.left_shift, index)
        };
        let (a, b) = (aligned(a, &self.operands[0]), aligned(b, &self.operands[1]));
        let combined = match self.combination {
            Combination::Add => a.wrapping_add(b),
            Combination::Sub => a.wrapping_sub(b),
            Combination::SquaredDifference => {
                let difference = a.wrapping_sub(b);
                difference.wrapping_mul(difference)
            }
        };
        self.rescale.code(combined, 0, index)
    }
}

/// A product of two tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Mul {
    /// The operands' codes of zero.
    pub zero_points: [i32; 2],
    /// To the output's codes.
    pub rescale: Rescale,
}

impl Mul {
    /// Of two scales.
    pub fn new<T: Element>(
        recipe: Recipe,
        operands: [Scaling; 2],
        output: Scaling,
        clamp: Clamp,
    ) -> Self {
        let [a, b] = operands;
        let ratio = recipe.ratio(&[a.scale, b.scale], output.scale);
        Self {
            zero_points: [a.zero_point, b.zero_point],
            rescale: Rescale::of_ratio::<T>(recipe, ratio, output, clamp),
        }
    }

    /// One element.
    pub fn code<T: Element>(&self, a: T, b: T, index: u64) -> T {
        let offset = |x: T, zero_point: i32| i64::from(x.into()) - i64::from(zero_point);
        let [za, zb] = self.zero_points;
        let product = offset(a, za).wrapping_mul(offset(b, zb));
        self.rescale.code(product, 0, index)
    }
}

/// Combines all elements.
pub fn combine<T: Element>(
    op: &Combine,
    a: &[T],
    b: &[T],
    output: &mut [T],
) -> Result<(), QuantizedError> {
    pairs(a, b, output, |a, b, i| op.code(a, b, i))
}

/// Multiplies all elements.
pub fn mul<T: Element>(op: &Mul, a: &[T], b: &[T], output: &mut [T]) -> Result<(), QuantizedError> {
    pairs(a, b, output, |a, b, i| op.code(a, b, i))
}

fn pairs<T: Element>(
    a: &[T],
    b: &[T],
    output: &mut [T],
    of: impl Fn(T, T, u64) -> T,
) -> Result<(), QuantizedError> {
    check("the first operand", a.len(), &[output.len()])?;
    check("the second operand", b.len(), &[output.len()])?;
    for (i, (y, (a, b))) in output.iter_mut().zip(a.iter().zip(b)).enumerate() {
        *y = of(*a, *b, i as u64);
    }
    Ok(())
}
