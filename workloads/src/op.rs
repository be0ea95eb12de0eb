//! Ops: what a graph executes.

use presil_numerics::define_ids;

use crate::einsum::Einsum;
use crate::meaning::Meaning;
use crate::tensor::TensorId;

define_ids! {
    /// An op of a graph.
    OpId,
}

/// What an op is called in reports and in the counting rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpClass {
    /// Convolution of any rank; grouped, depthwise and dilated included.
    Conv,
    /// Transposed convolution.
    ConvTranspose,
    /// Matmul with a weight.
    Linear,
    /// Attention scores: queries by keys.
    AttentionQk,
    /// Attention output: probabilities by values.
    AttentionPv,
    /// Any other matmul of two activations.
    Matmul,
    /// An expert's linear in a mixture of experts.
    MoeExpert,
    /// Recurrent part of an LSTM, GRU or the like.
    Recurrent,
    /// Softmax.
    Softmax,
    /// Layer, RMS, group, batch or instance norm.
    Norm,
    /// Activation function or its gate.
    Activation,
    /// Elementwise arithmetic, residual adds included.
    Elementwise,
    /// Pooling and reductions.
    Pool,
    /// Rotary or other position encoding.
    Position,
    /// Conversion between formats.
    Quantize,
    /// Embedding and other look-ups by data.
    Gather,
    /// Choice by data: routing, top-k, sorting, non-maximum suppression.
    Select,
    /// Movement without arithmetic: transposition, concatenation, padding, resizing by repetition.
    Move,
    /// Append to a cache.
    CacheWrite,
    /// An op that presil has no model of.
    Unknown,
}

impl OpClass {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conv => "conv",
            Self::ConvTranspose => "conv_transpose",
            Self::Linear => "linear",
            Self::AttentionQk => "attn_qk",
            Self::AttentionPv => "attn_pv",
            Self::Matmul => "matmul",
            Self::MoeExpert => "moe_expert",
            Self::Recurrent => "recurrent",
            Self::Softmax => "softmax",
            Self::Norm => "norm",
            Self::Activation => "activation",
            Self::Elementwise => "elementwise",
            Self::Pool => "pool",
            Self::Position => "position",
            Self::Quantize => "quantize",
            Self::Gather => "gather",
            Self::Select => "select",
            Self::Move => "move",
            Self::CacheWrite => "cache_write",
            Self::Unknown => "unknown",
        }
    }
}

/// What an op does.
#[derive(Debug, Clone, PartialEq)]
pub enum OpKind {
    /// A cascade of einsums, executed in order; the last one makes the output. One MAC einsum for matmuls and
    /// convolutions (a bias is a third input that initializes the accumulators, an activation an op of its own), several lane einsums for softmax and norms.
    Cascade(Vec<Einsum>),
    /// Rows of `bytes_per_row` elements read at places that the data gives (embedding, paged cache).
    Gather {
        /// Rows read.
        rows: u64,
        /// Elements of a row.
        row_elements: u64,
    },
    /// A choice by data over `candidates`, with the expected number of comparisons stated.
    Select {
        /// Elements looked at.
        candidates: u64,
        /// Comparisons, expected.
        comparisons: u64,
    },
    /// Elements moved without arithmetic. Inputs are read and outputs written once.
    Move {
        /// Elements moved.
        elements: u64,
    },
    /// A view (reshape, slice of a contiguous run): no element moves.
    View,
    /// An op that presil has no model of; costed as reading its inputs and writing its outputs, and named in
    /// every report.
    Unknown {
        /// The name that the model file gives it.
        name: String,
    },
}

/// An op of a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    /// Unique within the graph; hierarchical, dot-separated where the model is.
    pub name: String,
    /// What it is called in reports and counting rules.
    pub class: OpClass,
    /// What it does.
    pub kind: OpKind,
    /// Tensors read, in the order that [`crate::einsum::Place::Input`] counts.
    pub inputs: Vec<TensorId>,
    /// Tensors written, in the order that [`crate::einsum::Place::Output`] counts.
    pub outputs: Vec<TensorId>,
    /// How often it runs in sequence with the same weights for each run of its block (time steps of a
    /// recurrent layer, iterations of a loop). Usually 1.
    pub steps: u64,
    /// What it computes, for execution.
    pub meaning: Meaning,
}

impl Op {
    /// The MAC einsum of the op, if it has one.
    pub fn contraction(&self) -> Option<&Einsum> {
        match &self.kind {
            OpKind::Cascade(einsums) => einsums.iter().find(|e| e.is_contraction()),
            _ => None,
        }
    }
}
