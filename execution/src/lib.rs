//! Execution of graphs: the numbers that ops give, in a stated arithmetic.
//!
//! The graph is the one that is timed. What each op computes, its [`Meaning`](presil_workloads::Meaning) says; weights come by the names of their
//! tensors. A block that repeats runs its ops once for each repetition with weights of its own, whose names have the
//! repetition's number in the place of the first one's ("layers.0.mlp.up_proj.weight" is layers.3 in the fourth), and what the block
//! carries ([`presil_workloads::Block::carries`]) is handed on.
//!
//! - [`mod@array`]: tensors; [`storage`]: what they become in a format; [`arithmetic`]: the arithmetic of a chip;
//! - [`contraction`]: einsums as matrix products; [`vector`], [`rows`], [`along`], [`movement`], [`indexing`],
//!   [`recurrence`]: the other ops;
//! - [`executor`]: a graph, its weights and an arithmetic, ready to run; [`compare`]: two arithmetics side by side.

pub mod along;
pub mod arithmetic;
pub mod array;
pub mod compare;
pub mod contraction;
pub mod executor;
pub mod functions;
pub mod indexing;
pub mod movement;
mod products;
mod program;
pub mod recurrence;
pub mod rows;
pub mod storage;
pub mod vector;

pub use arithmetic::{Adder, Arithmetic};
pub use array::Array;
pub use executor::{ExecutionError, Executor, Weights};
pub use storage::Storage;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod onnx_tests;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
