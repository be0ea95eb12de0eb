//! Workloads: tensors, ops as extended einsums, graphs, and where they come from.
//!
//! A [`Graph`] is plain data: an arena of [`Tensor`]s, an arena of [`Op`]s in execution order, and
//! [`Block`]s that say which runs of ops repeat (80 equal decoder layers are one block with `repeat = 80`).
//! An op is an extended [`Einsum`] (or a short cascade of them) wherever possible, so that one cost model
//! serves matmuls, convolutions, softmax and norms; what is not an einsum has a kind of its own.
//!
//! - [`tensor`], [`einsum`], [`op`], [`graph`]: the nouns;
//! - [`expression`]: einsums as text;
//! - [`meaning`], [`formula`], [`program`]: what ops compute, where they are executed;
//! - [`count`]: MACs, parameters and bytes by the counting rules that it states;
//! - [`build`]: functions that make ops (convolution, linear, attention, norm ...) while checking shapes;
//! - [`model`]: from a name or a file to a graph;
//! - [`zoo`]: models by name; [`llm`]: decoder-only language models by configuration;
//! - [`onnx`], [`tflite`]: importers; [`mod@file`]: presil's own graph TOML.
//!
//! This crate knows no chip: nothing here has a time or an energy.

pub mod build;
pub mod count;
pub mod einsum;
mod expr;
pub mod expression;
pub mod file;
pub mod formula;
pub mod graph;
pub mod llm;
pub mod meaning;
pub mod model;
pub mod onnx;
pub mod op;
pub mod program;
pub mod tensor;
pub mod tflite;
pub mod zoo;

pub use einsum::{Access, Affine, Dim, DimId, Domain, Einsum, MapOperator, ReduceOperator};
pub use formula::Formula;
pub use graph::{Block, Graph, GraphError};
pub use meaning::Meaning;
pub use model::{Model, ModelError, Pass, Request, Routing};
pub use op::{Op, OpClass, OpId, OpKind};
pub use program::{Program, Step};
pub use tensor::{Role, Tensor, TensorId};
