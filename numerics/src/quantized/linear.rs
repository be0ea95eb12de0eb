//! Products of matrices of codes.
//!
//! ```text
//! fully connected   y[b, o] = Q_o(bias_o + sum over i of (x[b, i] - zx)(w[o, i] - zw))
//! batch matmul      y[b, i, j] = Q(sum over l of (x[b, i, l] - zx)(w[b, l, j] - zw))
//! ```
//!
//! Sums: [`super::accumulation`]; `Q`: [`super::rescale`]. Matrices are row-major.

use super::accumulation::Accumulation;
use super::rescale::Rescale;
use super::{Element, QuantizedError, check, check_zero_point, starts};
use crate::arithmetic::matmul::Size;

/// A layer whose every output reads every input.
#[derive(Debug, Clone)]
pub struct FullyConnected {
    /// Rows.
    pub batches: usize,
    /// Inputs of a row.
    pub inputs: usize,
    /// Outputs of a row.
    pub outputs: usize,
    /// The input's code of zero.
    pub input_zero_point: i32,
    /// The weights' code of zero.
    pub weight_zero_point: i32,
    /// The registers.
    pub accumulation: Accumulation,
    /// To the output's codes.
    pub rescale: Rescale,
}

/// Products of two activations.
#[derive(Debug, Clone)]
pub struct BatchMatmul {
    /// Products.
    pub batches: usize,
    /// Extents of one.
    pub size: Size,
    /// The left operand's code of zero.
    pub left_zero_point: i32,
    /// The right operand's code of zero.
    pub right_zero_point: i32,
    /// The registers.
    pub accumulation: Accumulation,
    /// To the output's codes; one multiplier.
    pub rescale: Rescale,
}

/// Multiplies with weights `[out][in]`; gives how many additions left their registers.
pub fn fully_connected<T: Element>(
    op: &FullyConnected,
    input: &[T],
    weights: &[i8],
    bias: Option<&[i64]>,
    output: &mut [T],
) -> Result<u64, QuantizedError> {
    let FullyConnected {
        batches: m,
        inputs: k,
        outputs: n,
        ..
    } = *op;
    check("the input", input.len(), &[m, k])?;
    check("the weights", weights.len(), &[n, k])?;
    check("the output", output.len(), &[m, n])?;
    check_zero_point::<T>(op.input_zero_point)?;
    check_zero_point::<i8>(op.weight_zero_point)?;
    let mut sums = starts(bias, n)?.repeat(m);
    if !op.rescale.serves(n) {
        return Err(QuantizedError::Shape(
            "the multipliers are not those of the outputs",
        ));
    }
    let weight_offset = op.accumulation.offset(op.weight_zero_point);
    let mut transposed = vec![0; n * k];
    for (i, w) in weights.iter().enumerate() {
        transposed[i % k * n + i / k] = i32::from(*w).wrapping_sub(weight_offset);
    }
    let rows = offsets(input, op.accumulation.offset(op.input_zero_point));
    let overflows = op.accumulation.product(
        (&rows, op.input_zero_point),
        (&transposed, op.weight_zero_point),
        &mut sums,
        Size { m, n, k },
    )?;
    for (i, (sum, y)) in sums.iter().zip(output).enumerate() {
        *y = op.rescale.code(*sum, i % n, i as u64);
    }
    Ok(overflows)
}

/// Multiplies matrices of activations; gives how many additions left their registers.
pub fn batch_matmul<T: Element>(
    op: &BatchMatmul,
    left: &[T],
    right: &[T],
    output: &mut [T],
) -> Result<u64, QuantizedError> {
    let Size { m, n, k } = op.size;
    check("the left operand", left.len(), &[op.batches, m, k])?;
    check("the right operand", right.len(), &[op.batches, k, n])?;
    check("the output", output.len(), &[op.batches, m, n])?;
    check_zero_point::<T>(op.left_zero_point)?;
    check_zero_point::<T>(op.right_zero_point)?;
    let mut overflows = 0;
    for batch in 0..op.batches {
        let of = |x: &[T], each: usize, zero_point| {
            let matrix = &x[batch * each..(batch + 1) * each];
            offsets(matrix, op.accumulation.offset(zero_point))
        };
        let a = of(left, m * k, op.left_zero_point);
        let b = of(right, k * n, op.right_zero_point);
        let mut sums = vec![0; m * n];
        overflows += op.accumulation.product(
            (&a, op.left_zero_point),
            (&b, op.right_zero_point),
            &mut sums,
            op.size,
        )?;
        let first = batch * m * n;
        for (i, sum) in sums.iter().enumerate() {
            output[first + i] = op.rescale.code(*sum, 0, (first + i) as u64);
        }
    }
    Ok(overflows)
}

fn offsets<T: Element>(codes: &[T], offset: i32) -> Vec<i32> {
    codes
        .iter()
        .map(|x| (*x).into().wrapping_sub(offset))
        .collect()
}
