//! Pooling and means.
//!
//! ```text
//! average   y = clamp(sum / n), ties away from zero; n: the positions under the window that are in the image
//! max       y = clamp(max)
//! mean      LiteRT: acc = sum (x - zx) over N; y = clamp(zo + R(acc)), the multiplier of s_x / s_o with 1/N folded in:
//!           z = min(floor(log2 N), 32, 31 + shift);  q' = floor(q 2^z / N), shift' = shift - z
//! ```
//!
//! Average and max pooling keep scale and zero point. Source: TensorFlow Lite, reference/integer_ops/pooling.h,
//! reference/reduce.h, kernels reduce.

use super::rescale::{Form, Recipe, Rescale};
use super::window::Window;
use super::{Clamp, Element, QuantizedError, Scaling, check, elements};
use crate::integer::requantize::{FixedMultiplier, Requantization};

/// A window over images of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Images.
    pub batches: usize,
    /// The window.
    pub window: Window,
    /// Channels.
    pub channels: usize,
    /// The least and largest output.
    pub range: (i64, i64),
}

/// Average pooling.
pub fn average_pool<T: Element>(
    op: &Pool,
    input: &[T],
    output: &mut [T],
) -> Result<(), QuantizedError> {
    pool(op, input, output, |codes| {
        let (mut sum, mut count) = (0i64, 0i64);
        for code in codes {
            sum += i64::from(code);
            count += 1;
        }
        let half = if sum > 0 { count / 2 } else { -(count / 2) };
        (sum + half) / count.max(1)
    })
}

/// Max pooling.
pub fn max_pool<T: Element>(
    op: &Pool,
    input: &[T],
    output: &mut [T],
) -> Result<(), QuantizedError> {
    pool(op, input, output, |codes| {
        codes.max().unwrap_or(T::LEAST).into()
    })
}

fn pool<T: Element>(
    op: &Pool,
    input: &[T],
    output: &mut [T],
    of: impl Fn(&mut dyn Iterator<Item = i32>) -> i64,
) -> Result<(), QuantizedError> {
    let Pool {
        batches,
        window,
        channels,
        range: (least, largest),
    } = *op;
    let [height, width] = window.input;
    let [rows, columns] = window.output;
    check(
        "the input",
        input.len(),
        &[batches, height, width, channels],
    )?;
    check(
        "the output",
        output.len(),
        &[batches, rows, columns, channels],
    )?;
    let image = elements(&[height, width, channels])?;
    for (i, y) in output.iter_mut().enumerate() {
        let (position, channel) = (i / channels, i % channels);
        let input = &input[position / window.positions() * image..][..image];
        let under = window.under(position % window.positions()).flatten();
        let mut codes = under.map(|at| input[at * channels + channel].into());
        *y = T::saturated(of(&mut codes).min(largest).max(least));
    }
    Ok(())
}

/// A mean of some elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Mean {
    /// Elements of a mean.
    pub count: usize,
    /// The input's code of zero.
    pub input_zero_point: i32,
    /// To the output's codes, 1/N folded in.
    pub rescale: Rescale,
}

impl Mean {
    /// Over `count` elements.
    pub fn new<T: Element>(recipe: Recipe, count: usize, input: Scaling, output: Scaling) -> Self {
        let ratio = recipe.ratio(&[input.scale], output.scale);
        let mut rescale = Rescale::of_ratio::<T>(recipe, ratio, output, Clamp::None);
        let n = count.max(1) as i64;
        let fold = |m: FixedMultiplier| {
            let places = n.ilog2().min(32).min((31 + m.shift).max(0) as u32);
            FixedMultiplier {
                significand: ((i64::from(m.significand) << places) / n) as i32,
                shift: m.shift - places as i32,
            }
        };
        for multiplier in &mut rescale.multipliers {
            *multiplier = match *multiplier {
                Requantization::DoubleRounding(m) => Requantization::DoubleRounding(fold(m)),
                Requantization::SingleRounding(m) => Requantization::SingleRounding(fold(m)),
                _ => recipe.multiplier(match recipe.form {
                    Form::Float(_) => recipe.ratio(&[input.scale], output.scale * n as f32),
                    _ => ratio / n as f64,
                }),
            };
        }
        Self {
            count,
            input_zero_point: input.zero_point,
            rescale,
        }
    }

    /// The mean of these codes. `index` numbers the output for stochastic rounding.
    pub fn code<T: Element>(&self, codes: impl Iterator<Item = T>, index: u64) -> T {
        let zero_point = i64::from(self.input_zero_point);
        let sum = codes.map(|x| i64::from(x.into()) - zero_point).sum();
        self.rescale.code(sum, 0, index)
    }
}

/// Means over the middle axis of `[outer][count][inner]`.
pub fn mean<T: Element>(
    op: &Mean,
    inner: usize,
    input: &[T],
    output: &mut [T],
) -> Result<(), QuantizedError> {
    let outer = output.len() / inner.max(1);
    check("the output", output.len(), &[outer, inner])?;
    check("the input", input.len(), &[outer, op.count, inner])?;
    for (i, y) in output.iter_mut().enumerate() {
        let first = i / inner * op.count * inner + i % inner;
        let codes = (0..op.count).map(|j| input[first + j * inner]);
        *y = op.code(codes, i as u64);
    }
    Ok(())
}
