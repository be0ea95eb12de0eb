//! Tensors while a graph is executed: numbers in f32, row-major.
//!
//! Every format that is narrower than f32 is a subset of it, so that numbers of any such format are held exactly;
//! which format they are of, the arithmetic knows that made them. Integers up to 2^24 (tokens, labels) are exact too.

use thiserror::Error;

/// A tensor's numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Array {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// A shape that does not have as many elements as there are numbers.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{values} numbers do not fill the shape {shape:?}")]
pub struct ShapeError {
    /// The shape.
    pub shape: Vec<usize>,
    /// The numbers.
    pub values: usize,
}

impl Array {
    /// Numbers in a shape, outermost rank first.
    pub fn new(shape: Vec<usize>, values: Vec<f32>) -> Result<Self, ShapeError> {
        let elements = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if elements == Some(values.len()) {
            Ok(Self { shape, values })
        } else {
            let values = values.len();
            Err(ShapeError { shape, values })
        }
    }

    /// Zeros.
    pub fn zeros(shape: &[usize]) -> Self {
        Self {
            shape: shape.to_vec(),
            values: vec![0.0; shape.iter().product()],
        }
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The numbers, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The numbers, to change.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The same numbers in another shape.
    pub fn reshaped(self, shape: &[usize]) -> Result<Self, ShapeError> {
        Self::new(shape.to_vec(), self.values)
    }

    /// Elements `start..start + length` along the outermost rank.
    pub fn outer(&self, start: usize, length: usize) -> Option<Self> {
        let (&all, inner) = self.shape.split_first()?;
        let row: usize = inner.iter().product();
        let end = start.checked_add(length).filter(|end| *end <= all)?;
        let shape = std::iter::once(length).chain(inner.iter().copied());
        Some(Self {
            shape: shape.collect(),
            values: self.values[start * row..end * row].to_vec(),
        })
    }
}

/// Steps between neighbours of each rank of a row-major tensor.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}
