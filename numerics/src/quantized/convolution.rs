//! Convolutions of quantized images, channels innermost (NHWC).
//!
//! ```text
//! conv2d       y[p, o]        = Q_o(bias_o + sum over taps t, channels c of (x[p.t, c] - zx)(w[o, t, c] - zw))
//!              in groups: o reads the channels of its group only
//! depthwise    y[p, c m + j]  = Q(bias + sum over taps t of (x[p.t, c] - zx)(w[t, c m + j] - zw)),  j < m
//! ```
//!
//! `p.t` is the position under tap t ([`super::window`]); padding counts as zero. Sums: [`super::accumulation`]; `Q`:
//! [`super::rescale`]. Weights of conv2d are `[out][kernel][in / groups]`, of depthwise `[kernel][out]`.
//!
//! Both gather the patches of many positions as rows of a matrix, group by group, and multiply it with the weights.

use super::accumulation::Accumulation;
use super::rescale::Rescale;
use super::window::Window;
use super::{Element, QuantizedError, check, check_zero_point, elements, starts};
use crate::arithmetic::matmul::Size;

/// Operands gathered at once, where they are more than [`ROWS`] positions'.
const GATHERED: usize = 1 << 19;
/// Positions that are worth laying out the weights for.
const ROWS: usize = 96;

/// A convolution.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// Images.
    pub batches: usize,
    /// The window over them.
    pub window: Window,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Groups; 1 where every output reads every input.
    pub groups: usize,
    /// The input's code of zero.
    pub input_zero_point: i32,
    /// The weights' code of zero.
    pub weight_zero_point: i32,
    /// The registers.
    pub accumulation: Accumulation,
    /// To the output's codes.
    pub rescale: Rescale,
}

/// A depthwise convolution.
#[derive(Debug, Clone)]
pub struct DepthwiseConv2d {
    /// Images.
    pub batches: usize,
    /// The window over them.
    pub window: Window,
    /// Input channels.
    pub channels: usize,
    /// Outputs of each.
    pub multiplier: usize,
    /// The input's code of zero.
    pub input_zero_point: i32,
    /// The weights' code of zero.
    pub weight_zero_point: i32,
    /// The registers.
    pub accumulation: Accumulation,
    /// To the output's codes.
    pub rescale: Rescale,
}

/// Convolves; gives how many additions left their registers.
pub fn conv2d<T: Element>(
    op: &Conv2d,
    input: &[T],
    weights: &[i8],
    bias: Option<&[i64]>,
    output: &mut [T],
) -> Result<u64, QuantizedError> {
    let groups = op.groups;
    if groups == 0 || !op.inputs.is_multiple_of(groups) || !op.outputs.is_multiple_of(groups) {
        return Err(QuantizedError::Shape("groups don't divide the channels"));
    }
    let (channels, columns) = (op.inputs / groups, op.outputs / groups);
    let taps = op.window.taps();
    check("the weights", weights.len(), &[op.outputs, taps, channels])?;
    let k = elements(&[taps, channels])?;
    Grouped {
        batches: op.batches,
        window: op.window,
        groups,
        channels,
        columns,
        input_zero_point: op.input_zero_point,
        weight_zero_point: op.weight_zero_point,
        accumulation: &op.accumulation,
        rescale: &op.rescale,
    }
    .run(input, bias, output, |group, l, j| {
        weights[(group * columns + j) * k + l]
    })
}

/// Convolves each channel by itself; gives how many additions left their registers.
pub fn depthwise_conv2d<T: Element>(
    op: &DepthwiseConv2d,
    input: &[T],
    weights: &[i8],
    bias: Option<&[i64]>,
    output: &mut [T],
) -> Result<u64, QuantizedError> {
    let (channels, columns) = (op.channels, op.multiplier);
    let taps = op.window.taps();
    check("the weights", weights.len(), &[taps, channels, columns])?;
    Grouped {
        batches: op.batches,
        window: op.window,
        groups: channels,
        channels: 1,
        columns,
        input_zero_point: op.input_zero_point,
        weight_zero_point: op.weight_zero_point,
        accumulation: &op.accumulation,
        rescale: &op.rescale,
    }
    .run(input, bias, output, |group, l, j| {
        weights[(l * channels + group) * columns + j]
    })
}

/// A convolution whose groups have `channels` inputs and `columns` outputs each.
struct Grouped<'a> {
    batches: usize,
    window: Window,
    groups: usize,
    channels: usize,
    columns: usize,
    input_zero_point: i32,
    weight_zero_point: i32,
    accumulation: &'a Accumulation,
    rescale: &'a Rescale,
}

impl Grouped<'_> {
    /// `weight(group, l, j)` is product l's weight of a group's output j.
    fn run<T: Element>(
        &self,
        input: &[T],
        bias: Option<&[i64]>,
        output: &mut [T],
        weight: impl Fn(usize, usize, usize) -> i8,
    ) -> Result<u64, QuantizedError> {
        let Self {
            batches, window, ..
        } = *self;
        let [height, width] = window.input;
        let [rows, columns] = window.output;
        let inputs = elements(&[self.groups, self.channels])?;
        let outputs = elements(&[self.groups, self.columns])?;
        check_zero_point::<T>(self.input_zero_point)?;
        check_zero_point::<i8>(self.weight_zero_point)?;
        check("the input", input.len(), &[batches, height, width, inputs])?;
        check(
            "the output",
            output.len(),
            &[batches, rows, columns, outputs],
        )?;
        let bias = starts(bias, outputs)?;
        if !self.rescale.serves(outputs) {
            return Err(QuantizedError::Shape(
                "the multipliers are not those of the channels",
            ));
        }
        if outputs == 0 {
            return Ok(0);
        }
        let weight_offset = self.accumulation.offset(self.weight_zero_point);
        let k = elements(&[window.taps(), self.channels])?;
        let image = elements(&[height, width, inputs])?;
        let mut overflows = 0;
        let mut patches = Vec::new();
        for group in 0..self.groups {
            let mut weights = Vec::with_capacity(k * self.columns);
            for l in 0..k {
                let row = (0..self.columns).map(|j| i32::from(weight(group, l, j)));
                weights.extend(row.map(|w| w.wrapping_sub(weight_offset)));
            }
            let start = group * self.columns;
            let positions = batches * window.positions();
            let block = (GATHERED / k.max(1)).max(ROWS).min(positions.max(1));
            for first in (0..positions).step_by(block) {
                let count = block.min(positions - first);
                self.gather((input, image), group, first..first + count, &mut patches);
                let mut sums = bias[start..start + self.columns].repeat(count);
                let size = Size {
                    m: count,
                    n: self.columns,
                    k,
                };
                overflows += self.accumulation.product(
                    (&patches, self.input_zero_point),
                    (&weights, self.weight_zero_point),
                    &mut sums,
                    size,
                )?;
                for (i, sums) in sums.chunks_exact(self.columns).enumerate() {
                    let first = (first + i) * outputs + start;
                    for (j, sum) in sums.iter().enumerate() {
                        let at = first + j;
                        output[at] = self.rescale.code(*sum, start + j, at as u64);
                    }
                }
            }
        }
        Ok(overflows)
    }

    /// The operands of positions of all images of so many elements, a row each.
    fn gather<T: Element>(
        &self,
        (input, image): (&[T], usize),
        group: usize,
        positions: std::ops::Range<usize>,
        patches: &mut Vec<i32>,
    ) {
        let offset = self.accumulation.offset(self.input_zero_point);
        let padding = self.input_zero_point.wrapping_sub(offset);
        let window = &self.window;
        let inputs = self.groups * self.channels;
        patches.clear();
        for position in positions {
            let image = &input[position / window.positions() * image..][..image];
            for under in window.under(position % window.positions()) {
                match under {
                    Some(at) => {
                        let first = at * inputs + group * self.channels;
                        let codes = &image[first..first + self.channels];
                        patches.extend(codes.iter().map(|x| (*x).into().wrapping_sub(offset)));
                    }
                    None => patches.extend(std::iter::repeat_n(padding, self.channels)),
                }
            }
        }
    }
}
