//! Schedules: whole graphs on a chip, op by op.
//!
//! ```text
//! Graph + Chip -> engine of each op -> epilogues -> order, homes of tensors -> mappings (searched)
//!              -> memory plan, Cost of each op
//! ```
//!
//! - `engines`: who runs an op, in which format; - `tails`: views and epilogues;
//! - `asked`: constraints of mappings, op by op;
//! - `order`: orders in which less is alive; - `residency`: what stays on chip between ops, and at which address;
//! - `layout`: how it lies there; - `solve`: the mappings; - `memory_plan`: all of it over time; - `price`: the costs.
//!
//! Ops run in order, one at a time; within an op everything overlaps (the busiest resource decides). Each cost is
//! that of one repetition of the op's block with all its steps, in the steady state: weights that the plan keeps
//! on chip between inferences are there. [`WeightStream`] says what a timing model needs to overlap the fetch of
//! weights with earlier ops, and what the first inference loads in addition.

mod asked;
pub(crate) mod engines;
mod facts;
pub mod layout;
mod mapped;
pub mod memory_plan;
pub(crate) mod operands;
pub(crate) mod order;
pub(crate) mod planned;
pub(crate) mod prepared;
pub(crate) mod price;
pub(crate) mod pricer;
mod problems;
pub(crate) mod residency;
mod room;
pub(crate) mod solve;
pub(crate) mod tails;
mod unmapped;

use presil_hwmodels::{Chip, EngineId, NodeId};
use presil_numerics::{Bytes, Format, IdVec};
use presil_workloads::{Einsum, Graph, OpId, OpKind, TensorId};
use thiserror::Error;

use crate::cost::Cost;
use crate::explain::Usage;
pub use crate::fusion::{FusedGroup, SharedLoop};
use crate::mapping::Mapping;
use crate::partition::Partition;
use crate::search::Objective;

pub use asked::{Asked, Constrained};
pub use engines::{array_rate, arrays, peak_macs_per_second};
pub use memory_plan::MemoryPlan;
pub use planned::{Order, PlanOptions};
pub use problems::{NoProblem, OpProblem, op_problems};
pub use solve::Memo;

/// What a schedule is to be like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleOptions {
    /// What mappings minimize.
    pub objective: Objective,
    /// Format of partial sums; `None`: that of the array's mode.
    pub accumulate: Option<Format>,
}

/// Why a graph has no schedule. Ops that nobody can run are no error: they are listed in
/// [`Schedule::unmodelled`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// No ops.
    #[error("graph `{0}` has no ops: there is nothing to schedule")]
    Empty(String),
    /// More points than can be counted.
    #[error("op `{0}` has more than 2^64 points; split it")]
    Overflow(String),
    /// Blocks that leave ops out.
    #[error("graph `{0}` has ops outside its blocks; check it before scheduling it")]
    Blocks(String),
    /// A chip whose root node is no memory.
    #[error("chip `{0}` has no root memory: the first node of its tree must be one")]
    Root(String),
}

/// How an op is executed.
#[derive(Debug, Clone, PartialEq)]
pub enum Execution {
    /// On an array, by a mapping.
    Mapped {
        /// The mapping of one step.
        mapping: Mapping,
        /// Index into the compute node's modes.
        mode: usize,
    },
    /// On a vector unit, pass by pass.
    Vector,
    /// By the memories alone.
    Movement,
    /// On the host, for this reason.
    Host {
        /// Why no other engine runs it.
        reason: String,
    },
    /// In the epilogue of a MAC op, which carries its cost.
    Fused {
        /// The MAC op.
        into: OpId,
    },
    /// Nothing moves.
    View,
    /// Not at all: it costs nothing here and is listed as unmodelled.
    Unsupported {
        /// Why.
        reason: String,
    },
}

impl Execution {
    /// Whether it runs on an array by a mapping.
    pub fn is_mapped(&self) -> bool {
        matches!(self, Self::Mapped { .. })
    }
}

/// The weights that an op fetches, as far as fetching them can overlap with other ops. Bits of one repetition.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WeightStream {
    /// Read from the root memory in every inference; part of the cost's counts.
    pub streamed: f64,
    /// Of those, each element once.
    pub once: f64,
    /// Read from the root memory in the first inference only, to stay on chip; in no count.
    pub loaded: f64,
    /// Room on chip for weights of later ops while this op runs.
    pub room: f64,
}

/// An op of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduledOp {
    /// How it is executed.
    pub execution: Execution,
    /// By which engine; none for movement, views and what is unsupported.
    pub engine: Option<EngineId>,
    /// Cost of one repetition of its block, all its steps and its epilogue included. Zero for fused ops, views
    /// and what is unsupported.
    pub cost: Cost,
    /// Its weights.
    pub weights: WeightStream,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// Of a mapped op in a fused group: the part of its einsum that one iteration of the group's loops runs, which
    /// its mapping maps.
    pub tile: Option<Einsum>,
    /// Of a mapped op: the share of the objective that a better mapping might save; 0 if the mapping is proven to be
    /// the best.
    pub gap: Option<f64>,
    /// Of a mapped op: what its mapping keeps and uses in one step, its epilogue left out.
    pub usage: Option<Usage>,
}

/// A schedule of a graph on a chip.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The ops.
    pub ops: IdVec<OpId, ScheduledOp>,
    /// The order in which they run: the graph's, or another within its blocks. An epilogue runs with its MAC op,
    /// wherever it stands.
    pub order: Vec<OpId>,
    /// Where each tensor lives.
    pub homes: IdVec<TensorId, NodeId>,
    /// What resident memories hold over time.
    pub memory: MemoryPlan,
    /// Largest bytes of activations alive at once.
    pub peak_activation: Bytes,
    /// Which ops run at once, each on cores of its own.
    pub partition: Partition,
    /// What the figures rest on.
    pub assumptions: Vec<String>,
    /// Ops without a model, or that no engine runs, with the reason.
    pub unmodelled: Vec<String>,
    /// Groups of ops that run tile by tile.
    pub groups: Vec<FusedGroup>,
    /// What was made small.
    pub objective: Objective,
    /// Ops whose mappings have to obey constraints.
    pub constrained: Vec<Constrained>,
    /// Where there are groups: the schedule without any, which they are to beat.
    pub unfused: Option<Box<Schedule>>,
}

/// Schedules a graph on a chip.
pub fn schedule(
    graph: &Graph,
    chip: &Chip,
    options: &ScheduleOptions,
) -> Result<Schedule, ScheduleError> {
    schedule_with(graph, chip, options, &Memo::default())
}

/// Schedules a graph on a chip with the solutions of earlier schedules on the same chip at hand.
pub fn schedule_with(
    graph: &Graph,
    chip: &Chip,
    options: &ScheduleOptions,
    memo: &Memo,
) -> Result<Schedule, ScheduleError> {
    schedule_planned(graph, chip, options, &PlanOptions::default(), memo)
}

/// Schedules a graph on a chip with memories planned as asked.
pub fn schedule_planned(
    graph: &Graph,
    chip: &Chip,
    options: &ScheduleOptions,
    plan: &PlanOptions,
    memo: &Memo,
) -> Result<Schedule, ScheduleError> {
    check(graph, chip)?;
    Ok(price::schedule(graph, chip, options, plan, memo))
}

/// Refuses what cannot be scheduled.
pub(crate) fn check(graph: &Graph, chip: &Chip) -> Result<(), ScheduleError> {
    if graph.ops.is_empty() {
        return Err(ScheduleError::Empty(graph.name.clone()));
    }
    let covered: u64 = graph
        .blocks
        .iter()
        .map(|b| u64::from(b.ops.end.saturating_sub(b.ops.start)))
        .sum();
    if covered != graph.ops.len() as u64 {
        return Err(ScheduleError::Blocks(graph.name.clone()));
    }
    if chip
        .nodes
        .iter()
        .next()
        .is_none_or(|n| n.memory().is_none())
    {
        return Err(ScheduleError::Root(chip.name.clone()));
    }
    for op in graph.ops.iter() {
        if let OpKind::Cascade(einsums) = &op.kind
            && einsums.iter().any(|e| {
                e.executed_points()
                    .and_then(|p| p.checked_mul(op.steps))
                    .is_none()
            })
        {
            return Err(ScheduleError::Overflow(op.name.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
