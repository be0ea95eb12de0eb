//! Building graphs op by op, with shapes checked on the way.
//!
//! A [`Builder`] owns the graph that is being built; each method appends one op, checks its operands, makes
//! its output tensor and returns its id. Names are given whole ("layers.0.attention.q"); the output tensor of
//! an op is called like the op.
//!
//! - `conv`: convolutions; `matmul`: linears and matmuls; `vector` and `pool`: what runs on vector units;
//!   `movement`: look-ups, views and moves; `check`: the rules that [`Graph::check`] enforces.
//!
//! Sizes may come from files: products of extents are checked or saturate, so that a hostile size gives an
//! error here or in [`Graph::check`], never a wrap.

mod check;
mod conv;
mod matmul;
mod movement;
mod pool;
#[cfg(test)]
mod tests;
mod vector;

pub(crate) use check::check_cascade;
pub use conv::Conv;
pub use matmul::{Attention, Experts, Mask};
pub use pool::PoolKind;
pub(crate) use vector::lanes;
pub use vector::{Function, NormKind};

use presil_numerics::{Format, Quantization};

use crate::einsum::{Access, Affine, Dim, DimId, Einsum, Place};
use crate::graph::{Block, Graph, GraphError};
use crate::meaning::Meaning;
use crate::op::{Op, OpClass, OpId, OpKind};
use crate::tensor::{Role, Tensor, TensorId};

/// A graph in the making.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    /// The graph so far. Blocks are those that have ended.
    pub graph: Graph,
}

impl Builder {
    /// An empty graph of a name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            graph: Graph {
                name: name.into(),
                ..Graph::default()
            },
        }
    }

    /// Adds a tensor in bf16; [`Graph::set_precision`] gives it its final storage.
    pub fn tensor(&mut self, name: impl Into<String>, shape: &[u64], role: Role) -> TensorId {
        let quantization = Quantization::from(Format::BF16);
        self.graph.tensors.push(Tensor {
            name: name.into(),
            shape: shape.to_vec(),
            quantization,
            role,
            shared: false,
            density: 1.0,
        })
    }

    /// Adds an input of the graph.
    pub fn input(&mut self, name: impl Into<String>, shape: &[u64]) -> TensorId {
        self.tensor(name, shape, Role::Input)
    }

    /// Adds a weight.
    pub fn weight(&mut self, name: impl Into<String>, shape: &[u64]) -> TensorId {
        self.tensor(name, shape, Role::Weight)
    }

    /// Marks a tensor as an output of the graph.
    pub fn output(&mut self, tensor: TensorId) {
        self.graph.tensors[tensor].role = Role::Output;
    }

    /// The shape of a tensor.
    pub fn shape(&self, tensor: TensorId) -> &[u64] {
        &self.graph.tensors[tensor].shape
    }

    /// Ends a block: every op since the last block's end runs `repeat` times. Does nothing if there is none.
    pub fn end_block(&mut self, name: impl Into<String>, repeat: u64) {
        let start = self.graph.blocks.last().map_or(0, |b| b.ops.end);
        let end = u32::try_from(self.graph.ops.len()).unwrap_or(u32::MAX);
        if end > start {
            self.graph.blocks.push(Block {
                name: name.into(),
                ops: start..end,
                repeat,
                carries: Vec::new(),
            });
        }
    }

    /// Ends the last block and checks the whole graph.
    pub fn finish(mut self) -> Result<Graph, GraphError> {
        let name = if self.graph.blocks.is_empty() {
            "graph"
        } else {
            "end"
        };
        self.end_block(name, 1);
        self.graph.check()?;
        Ok(self.graph)
    }

    /// Appends an op with one new output tensor (called like the op) and returns the tensor.
    pub fn push(
        &mut self,
        name: &str,
        class: OpClass,
        kind: OpKind,
        inputs: &[TensorId],
        shape: &[u64],
    ) -> TensorId {
        let out = self.tensor(name, shape, Role::Activation);
        self.push_op(Op {
            name: name.into(),
            class,
            kind,
            inputs: inputs.to_vec(),
            outputs: vec![out],
            steps: 1,
            meaning: Meaning::Unstated,
        });
        out
    }

    /// Says what the last op computes.
    pub fn means(&mut self, meaning: Meaning) {
        if let Some(op) = self.last_op() {
            op.meaning = meaning;
        }
    }

    /// Says what the repetitions of the block that ended last hand on: what one reads, and what the one before made.
    pub fn carries(&mut self, reads: TensorId, made: TensorId) {
        if let Some(block) = self.graph.blocks.last_mut() {
            block.carries.push((reads, made));
        }
    }

    /// Appends an op as it is.
    pub fn push_op(&mut self, op: Op) -> OpId {
        self.graph.ops.push(op)
    }

    /// The last op, to adjust (its `steps`, say).
    pub fn last_op(&mut self) -> Option<&mut Op> {
        self.graph.ops.iter_mut().last()
    }

    /// An error of an op's shapes.
    pub(crate) fn shape_error(op: &str, reason: impl Into<String>) -> GraphError {
        GraphError::Shape {
            op: op.into(),
            reason: reason.into(),
        }
    }
}

/// Dimensions of an einsum by name and size.
pub(crate) fn dims(list: &[(&str, u64)]) -> Vec<Dim> {
    list.iter()
        .map(|(name, size)| Dim {
            name: (*name).into(),
            size: *size,
        })
        .collect()
}

/// An access whose ranks are plain dimensions of `all`, by index.
pub(crate) fn plain(place: Place, all: &[Dim], ranks: &[u32]) -> Access {
    Access {
        place,
        ranks: ranks.iter().map(|d| Affine::dim(DimId(*d))).collect(),
        extents: ranks.iter().map(|d| all[*d as usize].size).collect(),
    }
}

/// Number of elements of a shape, 2^64 - 1 if there are more; [`Graph::check`] rejects tensors of that size.
pub(crate) fn elements(shape: &[u64]) -> u64 {
    shape.iter().fold(1, |n: u64, &d| n.saturating_mul(d))
}

/// A stride, dilation or padding as a coefficient.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A cascade of one einsum.
pub(crate) fn single(einsum: Einsum) -> OpKind {
    OpKind::Cascade(vec![einsum])
}
