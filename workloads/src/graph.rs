//! Graphs: tensors, ops in execution order, and which runs of ops repeat.

use std::collections::BTreeMap;
use std::ops::Range;

use presil_numerics::{IdVec, Quantization};
use rustc_hash::FxHashMap;
use thiserror::Error;

use crate::op::{Op, OpId, OpKind};
use crate::tensor::{Role, Tensor, TensorId};

/// What is wrong with a graph.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GraphError {
    /// Two tensors or two ops of one name.
    #[error("the name `{0}` is given twice")]
    Duplicate(String),
    /// A tensor whose element count or storage does not fit 64 bits.
    #[error("tensor `{name}` of shape {shape:?} is too large: its size does not fit 64 bits")]
    TooLarge {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// An op reads a tensor that is made later, or by nobody.
    #[error("op `{op}` reads tensor `{tensor}` before any op makes it")]
    NotMade {
        /// The op.
        op: String,
        /// The tensor.
        tensor: String,
    },
    /// An op whose operands do not fit together.
    #[error("op `{op}`: {reason}")]
    Shape {
        /// The op.
        op: String,
        /// What does not fit.
        reason: String,
    },
    /// MACs that do not fit 64 bits.
    #[error("op `{0}` has more than 2^64 points")]
    Overflow(String),
}

/// A run of ops that executes `repeat` times, each time with weights of its own (unless shared).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Name in reports ("layers").
    pub name: String,
    /// Ops, as a range of their indices. Blocks are in order, contiguous, and cover all ops.
    pub ops: Range<u32>,
    /// How often it runs.
    pub repeat: u64,
    /// Where it repeats: what a repetition reads, and what the one before made of it (a residual stream, the state of
    /// a recurrence).
    pub carries: Vec<(TensorId, TensorId)>,
}

/// A workload: plain data, in execution order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// Name of the model and phase ("llama3-8b prefill 512").
    pub name: String,
    /// Tensors. One that is made inside a repeated block stands for that of every repetition.
    pub tensors: IdVec<TensorId, Tensor>,
    /// Ops in execution order.
    pub ops: IdVec<OpId, Op>,
    /// Runs of ops that repeat.
    pub blocks: Vec<Block>,
    /// Elements of constants that the model states, row-major.
    pub constants: BTreeMap<TensorId, Vec<f64>>,
    /// Facts about how the graph was made that a report must show ("experts touched: expected under uniform
    /// routing").
    pub assumptions: Vec<String>,
}

impl Graph {
    /// The block of an op.
    pub fn block_of(&self, op: OpId) -> Option<&Block> {
        self.blocks.iter().find(|b| b.ops.contains(&op.0))
    }

    /// How often an op's block runs. Times [`Op::steps`] gives its runs in all.
    pub fn repeat_of(&self, op: OpId) -> u64 {
        self.block_of(op).map_or(1, |b| b.repeat)
    }

    /// For each op, how often its block runs.
    pub fn repeats(&self) -> Vec<u64> {
        let mut repeats = vec![1; self.ops.len()];
        for b in &self.blocks {
            for r in &mut repeats[b.ops.start as usize..b.ops.end as usize] {
                *r = b.repeat;
            }
        }
        repeats
    }

    /// For each tensor, the op that makes it and the ops that read it, in order.
    pub fn uses(&self) -> (Vec<Option<OpId>>, Vec<Vec<OpId>>) {
        let mut made = vec![None; self.tensors.len()];
        let mut read = vec![Vec::new(); self.tensors.len()];
        for (id, op) in self.ops.iter_ids() {
            for t in &op.inputs {
                read[t.0 as usize].push(id);
            }
            for t in &op.outputs {
                made[t.0 as usize] = Some(id);
            }
        }
        (made, read)
    }

    /// Sets the storage of every tensor by its role: `weights` for weights that linear and convolution ops read
    /// as their second operand, `activations` for inputs, outputs and activations, `kv` for caches. Other
    /// weights (norm scales, biases, embeddings that only a look-up reads) take the activation format.
    pub fn set_precision(
        &mut self,
        weights: Quantization,
        activations: Quantization,
        kv: Quantization,
    ) {
        let mut contracted = vec![false; self.tensors.len()];
        for op in self.ops.iter() {
            if op.contraction().is_some()
                && let Some(t) = op.inputs.get(1)
            {
                contracted[t.0 as usize] = true;
            }
        }
        for (t, contracted) in self.tensors.iter_mut().zip(contracted) {
            t.quantization = match t.role {
                Role::Weight if contracted => weights,
                Role::Cache => kv,
                _ => activations,
            };
        }
    }

    /// Checks everything that later stages rely on: names unique, sizes in range, tensors made before they are
    /// read, blocks contiguous, every einsum's accesses within its op's tensors, points in range.
    pub fn check(&self) -> Result<(), GraphError> {
        let mut names: FxHashMap<&str, ()> = FxHashMap::default();
        for t in self.tensors.iter() {
            if names.insert(&t.name, ()).is_some() {
                return Err(GraphError::Duplicate(t.name.clone()));
            }
            let elements = t.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
            if elements.is_none() || t.storage().is_none() {
                return Err(GraphError::TooLarge {
                    name: t.name.clone(),
                    shape: t.shape.clone(),
                });
            }
        }
        let mut end = 0;
        for b in &self.blocks {
            let whole = b.ops.start == end
                && b.ops.end >= b.ops.start
                && b.ops.end as usize <= self.ops.len();
            if !whole || b.repeat == 0 {
                let reason = "blocks must be contiguous, in order, and run at least once".into();
                return Err(GraphError::Shape {
                    op: b.name.clone(),
                    reason,
                });
            }
            end = b.ops.end;
        }
        if end as usize != self.ops.len() {
            return Err(GraphError::Shape {
                op: self.name.clone(),
                reason: "blocks must cover all ops".into(),
            });
        }
        let mut ready: Vec<bool> = self
            .tensors
            .iter()
            .map(|t| !matches!(t.role, Role::Activation | Role::Output))
            .collect();
        let mut op_names: FxHashMap<&str, ()> = FxHashMap::default();
        for op in self.ops.iter() {
            if op_names.insert(&op.name, ()).is_some() {
                return Err(GraphError::Duplicate(op.name.clone()));
            }
            for t in &op.inputs {
                if !ready[t.0 as usize] {
                    let tensor = self.tensors[*t].name.clone();
                    return Err(GraphError::NotMade {
                        op: op.name.clone(),
                        tensor,
                    });
                }
            }
            for t in &op.outputs {
                ready[t.0 as usize] = true;
            }
            if let OpKind::Cascade(einsums) = &op.kind {
                crate::build::check_cascade(self, op, einsums)?;
            }
        }
        Ok(())
    }

    /// Number of ops of each class that execute, repeats included.
    pub fn histogram(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for (op, repeat) in self.ops.iter().zip(self.repeats()) {
            *counts.entry(op.class.name()).or_insert(0) += repeat;
        }
        counts
    }
}
