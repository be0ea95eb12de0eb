//! Mappings, the one analytic cost model, search, residency and schedules.
//!
//! ```text
//! Graph + Chip --schedule--> Schedule: for each op its engine, where its operands start and end, its mapping, its Cost
//! ```
//!
//! - [`problem`]: what has to be mapped: one MAC einsum on one array, given where its operands start and what
//!   capacity is left;
//! - [`mapping`]: a LoopTree: storage nodes, temporal and spatial loops;
//! - [`analysis`]: exact counts of a mapping (convention `physical`); `oracle` (in the tests): the same by brute force;
//! - [`hierarchy`], [`looptree`], [`conventions`]: the neutral ground on which mappings are told as each tool counts
//!   them; [`convert`]: a problem's mapping there;
//! - [`cost`]: time and energy from counts;
//! - [`search`]: the best mapping of a problem;
//! - [`hierarchy`], [`looptree`], [`conventions`], [`case`](mod@case): one path of levels, mappings on it, what they cost as each
//!   tool counts it, and the files that state them; [`interop`]: files of peers;
//! - [`formats`]: which formats can stand for which; [`ledger`]: accounts of what moves;
//! - [`explain`]: what a mapping makes of its chip, what one more of each resource would give, and why not more;
//! - [`kernels`]: chips that run each op as a grid of blocks over multiprocessors (GPUs);
//! - [`vector`]: cost of what runs on vector units, by movement, and on the host;
//! - `blocks`: layers on engines that work block by block;
//! - [`fusion`]: groups of ops that run tile by tile under shared loops;
//! - [`passes`]: convolutions on row-stationary arrays, pass by pass;
//! - [`partition`]: ops that run at once, each on cores of its own;
//! - [`reduction`]: the order in which a mapping adds up products;
//! - [`schedule`]: whole graphs: engines, residency, prefetch, epilogues, fused groups.
//!
//! This crate knows no model file, no chip file and no report.

pub mod analysis;
mod blocks;
pub mod case;
pub mod conventions;
pub mod convert;
pub mod cost;
pub mod explain;
pub mod formats;
pub mod fusion;
pub mod hierarchy;
pub mod interop;
pub mod kernels;
pub mod ledger;
pub mod looptree;
pub mod mapping;
pub mod optimum;
#[cfg(test)]
mod oracle;
pub mod partition;
pub mod passes;
pub mod problem;
pub mod reduction;
pub mod schedule;
pub mod search;
mod touched;
pub mod vector;

pub use analysis::{AnalysisError, Analyzer, evaluate};
pub use cost::{Cost, EnergyEntry, MemoryCount, Resource};
pub use mapping::{Mapping, MappingError, Step};
pub use problem::Problem;
pub use touched::touched;
