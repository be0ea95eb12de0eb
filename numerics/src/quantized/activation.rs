//! Ops on one tensor, element by element, in integers.
//!
//! ```text
//! requantize    y = Q(x - zx), multiplier s_x / s_o                       also between widths
//! relu, relu6   the same, clamped to [0, ..], [0, 6]
//! leaky relu    y = Q(x - zx) where x >= zx, else by the multiplier alpha s_x / s_o
//!
//! hard swish    y = x relu6(x + 3) / 6, in 16-bit words; products as in fixed_point
//!   h = (x - zx) 2^7                    in steps of s_x / 128
//!   p = h M1                            M1 2^e1 = s_x / 128 / s_o, M1 of 16 bits
//!   r = h M2 2^e2, saturated            M2 2^e2 = s_x / 128 x 32768 / 3: 2^15 stands for 3. Where e2 > 0: e2 - 1 places
//!                                       left, the product, one place left; else the product, -e2 places right, ties away
//!   r = floor((r + 2^15) / 2)           relu6(x + 3) / 6 in Q0
//!   y = clamp(zo + trunc(r p / 2^15) 2^e1)    ties of 2^e1 away
//! ```
//!
//! Sources: TensorFlow Lite's kernels activations, quantize; reference/hard_swish.h.

use super::fixed_point::WORD16;
use super::rescale::{Recipe, Rescale};
use super::{Clamp, Element, QuantizedError, Scaling, check};
use crate::integer::requantize::{FixedMultiplier, Requantization};

/// Codes of one scale to codes of another, clamped; leaky below zero where it has a slope.
#[derive(Debug, Clone, PartialEq)]
pub struct Requantize {
    /// The input's code of zero.
    pub zero_point: i32,
    /// To the output's codes.
    pub rescale: Rescale,
    /// The multiplier of inputs below zero, where it is another.
    pub below: Option<Requantization>,
}

impl Requantize {
    /// Requantize, relu, relu6, as the clamp says.
    pub fn new<T: Element>(recipe: Recipe, input: Scaling, output: Scaling, clamp: Clamp) -> Self {
        let ratio = recipe.ratio(&[input.scale], output.scale);
        Self {
            zero_point: input.zero_point,
            rescale: Rescale::of_ratio::<T>(recipe, ratio, output, clamp),
            below: None,
        }
    }

    /// Leaky relu.
    pub fn leaky<T: Element>(recipe: Recipe, input: Scaling, output: Scaling, slope: f32) -> Self {
        let ratio = recipe.ratio(&[input.scale, slope], output.scale);
        Self {
            below: Some(recipe.multiplier(ratio)),
            ..Self::new::<T>(recipe, input, output, Clamp::None)
        }
    }

    /// One element.
    pub fn code<A: Element, B: Element>(&self, x: A, index: u64) -> B {
        let offset = i64::from(x.into()) - i64::from(self.zero_point);
        match self.below {
            Some(below) if offset < 0 => {
                let Rescale {
                    zero_point, range, ..
                } = self.rescale;
                B::saturated(below.output(offset, zero_point, range, index))
            }
            _ => self.rescale.code(offset, 0, index),
        }
    }
}

/// Requantizes all elements.
pub fn requantize<A: Element, B: Element>(
    op: &Requantize,
    input: &[A],
    output: &mut [B],
) -> Result<(), QuantizedError> {
    check("the output", output.len(), &[input.len()])?;
    for (i, (x, y)) in input.iter().zip(output).enumerate() {
        *y = op.code(*x, i as u64);
    }
    Ok(())
}

/// x relu6(x + 3) / 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HardSwish {
    /// The input's code of zero.
    pub input_zero_point: i32,
    /// The output's code of zero.
    pub output_zero_point: i32,
    /// M1 and e1.
    pub output: (i16, i32),
    /// M2 and e2.
    pub gate: (i16, i32),
}

impl HardSwish {
    /// Of two scales.
    pub fn new(input: Scaling, output: Scaling) -> Self {
        let fine = input.scale * (1.0 / 128.0);
        let multiplier = |real: f32| {
            let m = FixedMultiplier::new(real.into());
            // Rounded to 16 bits, ties up; what would be 2^15 is 2^15 - 1.
            let rounded = (i64::from(m.significand) + (1 << 15)) >> 16;
            (rounded.min(i16::MAX.into()) as i16, m.shift)
        };
        Self {
            input_zero_point: input.zero_point,
            output_zero_point: output.zero_point,
            output: multiplier(fine / output.scale),
            gate: multiplier(fine / (3.0 / 32768.0)),
        }
    }

    /// One element.
    pub fn code<T: Element>(&self, x: T) -> T {
        let w = WORD16;
        let offset = i64::from(x.into()) - i64::from(self.input_zero_point);
        let h = w.saturate(offset << 7);
        let scaled = w.product(h, self.output.0.into());
        let (multiplier, exponent) = self.gate;
        let mut gate = h;
        if exponent > 0 {
            gate = w.scale(gate, exponent - 1);
        }
        gate = w.product(gate, multiplier.into());
        gate = w.scale(gate, exponent.min(1));
        let gate = (gate + (1 << 15)) >> 1;
        let product = w.saturate(gate * scaled / (1 << 15));
        let y = w.scale(product, self.output.1);
        T::saturated(y + i64::from(self.output_zero_point))
    }
}

/// Hard swish of all elements.
pub fn hard_swish<T: Element>(
    op: &HardSwish,
    input: &[T],
    output: &mut [T],
) -> Result<(), QuantizedError> {
    check("the output", output.len(), &[input.len()])?;
    for (x, y) in input.iter().zip(output) {
        *y = op.code(*x);
    }
    Ok(())
}
