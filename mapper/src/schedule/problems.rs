//! What an op of a graph is to the array that runs it: its [`Problem`], as a schedule would have it.
//!
//! Order, homes and what they leave of each memory are those that [`super::schedule`] decides on; nothing is searched.

use presil_hwmodels::{Chip, NodeId};
use presil_numerics::Bytes;
use presil_workloads::{Graph, OpId};
use thiserror::Error;

use super::engines::Choice;
use super::planned::PlanOptions;
use super::prepared::Prepared;
use super::{ScheduleError, ScheduleOptions, check};
use crate::problem::Problem;

/// An op on one array.
#[derive(Debug, Clone)]
pub struct OpProblem<'a> {
    /// What has to be mapped: one step of one repetition.
    pub problem: Problem<'a>,
    /// For each node of the path, what whole tensors at home there leave of one instance.
    /// [`Problem::capacity`] is no more than that, and no more than all operands that the memory keeps need.
    pub room: Vec<Bytes>,
    /// Where weights stay over the steps of the op, if not at home.
    pub over_steps: Option<NodeId>,
}

/// Why an op has no problem.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoProblem {
    /// The graph cannot be scheduled.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// No array runs it.
    #[error("op `{op}` ({class}) has no mapping: {reason}")]
    NoArray {
        /// The op.
        op: String,
        /// Its class.
        class: &'static str,
        /// What runs it instead.
        reason: String,
    },
}

/// The problems of an op, one for each array that multiplies its formats, fastest first: a schedule takes the
/// first that has a mapping.
///
/// # Errors
/// If the graph cannot be scheduled, or no array runs the op.
pub fn op_problems<'a>(
    graph: &'a Graph,
    chip: &'a Chip,
    options: &ScheduleOptions,
    op: OpId,
) -> Result<Vec<OpProblem<'a>>, NoProblem> {
    check(graph, chip)?;
    let none = |reason: String| NoProblem::NoArray {
        op: graph.ops[op].name.clone(),
        class: graph.ops[op].class.name(),
        reason,
    };
    let Some(einsum) = graph.ops[op].contraction() else {
        return Err(none("it is no sum of products".into()));
    };
    let plan = PlanOptions::default();
    let prepared = Prepared::new(graph, chip, options, &plan);
    let residency = &prepared.planned.residency;
    let engines = match &prepared.choices[op.0 as usize] {
        Choice::Array(engines) => engines,
        other => return Err(none(runs_as(chip, other))),
    };
    let pricer = prepared.pricer(chip, &prepared.planned, residency);
    let position = pricer.position(op);
    let on_array = |(engine, mode): &(_, usize)| {
        let (p, over_steps) = pricer.problem(op, *engine, *mode)?;
        let left = |(n, capacity): (&NodeId, &Bytes)| match over_steps {
            // Weights that stay over the steps are taken away already.
            Some(at) if at == *n => *capacity,
            _ => residency.left(chip, *n, position),
        };
        let room = p.path.iter().zip(&p.capacity).map(left).collect();
        Some(OpProblem {
            problem: Problem {
                einsum,
                chip,
                engine: p.engine,
                path: p.path,
                bits: p.bits,
                accumulate: p.accumulate,
                mode: p.mode,
                home: p.home,
                capacity: p.capacity,
                lies: p.lies,
            },
            room,
            over_steps,
        })
    };
    let problems: Vec<OpProblem> = engines.iter().filter_map(on_array).collect();
    match problems.is_empty() {
        true => Err(none("its operands are made within its own cascade".into())),
        false => Ok(problems),
    }
}

/// Who runs an op that no array runs.
fn runs_as(chip: &Chip, choice: &Choice) -> String {
    match choice {
        Choice::Vector(e) => format!("`{}` runs it, pass by pass", chip.engines[*e].name),
        Choice::Movement(_) => "memories alone run it".into(),
        Choice::Host(e, why) => format!("`{}` runs it: {why}", chip.engines[*e].name),
        Choice::Unsupported(why) => why.clone(),
        Choice::View | Choice::Array(_) => "nothing moves".into(),
    }
}
