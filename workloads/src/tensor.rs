//! Tensors: shape, storage and role.

use presil_numerics::{Bits, Quantization, Storage, define_ids};

define_ids! {
    /// A tensor of a graph.
    TensorId,
}

/// What a tensor is to the graph; decides who stores it and how often it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Given from outside for each inference.
    Input,
    /// Given back for each inference.
    Output,
    /// Learned and constant over inferences. Counted as parameters.
    Weight,
    /// A constant that is no parameter (tables, masks, shape values).
    Constant,
    /// Made and used within one inference.
    Activation,
    /// Kept between steps (KV cache, recurrent state).
    Cache,
}

/// A tensor of a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Unique within the graph; hierarchical, dot-separated where the model is.
    pub name: String,
    /// Extents, outermost first. A scalar has none.
    pub shape: Vec<u64>,
    /// How the elements are stored.
    pub quantization: Quantization,
    /// What it is to the graph.
    pub role: Role,
    /// For weights inside a repeated block: whether all repetitions use the same one
    /// (false: each repetition has its own of this shape).
    pub shared: bool,
    /// Share of the elements that are not zero, in 0..=1: what codes and gates that leave zeros out go by. 1 where
    /// nothing is known.
    pub density: f64,
}

impl Tensor {
    /// Number of elements. Checked when the tensor enters a graph.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Stored bits including scales and metadata. Checked when the tensor enters a graph.
    pub fn bits(&self) -> Bits {
        self.storage().map_or(Bits(u64::MAX), |s| s.total())
    }

    /// What is stored. Blocks of a convolution's weights [k, c, r, s] run over its taps and channels flattened,
    /// as the reduction does; those of other tensors along the axis that the quantization names. `None` where
    /// the size does not fit 64 bits.
    pub fn storage(&self) -> Option<Storage> {
        match (self.role, self.shape.as_slice()) {
            (Role::Weight, [k, taps @ ..]) if taps.len() > 2 => {
                let taps = taps.iter().try_fold(1u64, |n, &d| n.checked_mul(d))?;
                self.quantization.storage(&[*k, taps])
            }
            _ => self.quantization.storage(&self.shape),
        }
    }
}
