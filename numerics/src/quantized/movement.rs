//! Codes moved, not changed.
//!
//! ```text
//! pad            what is outside becomes the code of zero
//! concatenate    [outer][n1][inner], [outer][n2][inner], .. -> [outer][n1 + n2 + ..][inner]
//! broadcast      an axis of extent 1 is repeated
//! ```

use super::{QuantizedError, check, elements};

/// Pads every axis of a shape by so many codes before and after.
pub fn pad<T: Copy>(
    shape: &[usize],
    padding: &[[usize; 2]],
    code: T,
    input: &[T],
) -> Result<Vec<T>, QuantizedError> {
    if shape.len() != padding.len() {
        return Err(QuantizedError::Shape("a padding for every axis is needed"));
    }
    check("the input", input.len(), shape)?;
    let padded: Vec<usize> = shape
        .iter()
        .zip(padding)
        .map(|(n, [before, after])| n.saturating_add(*before).saturating_add(*after))
        .collect();
    let mut output = vec![code; elements(&padded)?];
    for (i, x) in input.iter().enumerate() {
        let (mut rest, mut at, mut stride) = (i, 0, 1);
        for axis in (0..shape.len()).rev() {
            at += (rest % shape[axis] + padding[axis][0]) * stride;
            rest /= shape[axis];
            stride *= padded[axis];
        }
        output[at] = *x;
    }
    Ok(output)
}

/// Puts tensors after one another along an axis; each is its codes and its extent there times what lies inside.
pub fn concatenate<T: Copy>(
    outer: usize,
    operands: &[(&[T], usize)],
) -> Result<Vec<T>, QuantizedError> {
    for (codes, each) in operands {
        check("an operand", codes.len(), &[outer, *each])?;
    }
    let part = |i: usize| {
        operands
            .iter()
            .flat_map(move |(codes, each)| &codes[i * each..(i + 1) * each])
    };
    Ok((0..outer).flat_map(part).copied().collect())
}

/// A tensor repeated along its axes of extent 1 to fill a shape of as many axes or more.
pub fn broadcast<T: Copy>(
    shape: &[usize],
    to: &[usize],
    input: &[T],
) -> Result<Vec<T>, QuantizedError> {
    check("the input", input.len(), shape)?;
    let Some(more) = to.len().checked_sub(shape.len()) else {
        return Err(QuantizedError::Shape("a broadcast can't drop axes"));
    };
    let fits = |(from, to): (&usize, &usize)| *from == *to || *from == 1;
    if !shape.iter().zip(&to[more..]).all(fits) {
        return Err(QuantizedError::Shape("the shapes don't broadcast"));
    }
    let count = elements(to)?;
    let element = |i: usize| {
        let (mut rest, mut at, mut stride) = (i, 0, 1);
        for axis in (0..shape.len()).rev() {
            let index = rest % to[axis + more];
            rest /= to[axis + more];
            at += if shape[axis] == 1 { 0 } else { index } * stride;
            stride *= shape[axis];
        }
        input[at]
    };
    Ok((0..count).map(element).collect())
}
