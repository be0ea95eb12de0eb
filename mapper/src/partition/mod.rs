//! Partitions: ops that run at once on disjoint groups of a chip's cores.
//!
//! # Cores
//!
//! A chip file says of a fanout dimension how many of its instances one instruction stream drives
//! ([`per_stream`](presil_hwmodels::FanoutDim::per_stream)). A group of as many is a *core* here, whatever the chip calls it: it can
//! run an op of its own. One op alone may use all of them: the mapping search lays its dimensions along the axis as
//! the axis accepts them, with partial sums added on the way up where it `reduces`. See `cores`.
//!
//! # Sets
//!
//! Independent ops of one block run at once, each on a share of the cores, its mapping searched on a chip that has no
//! more of them. Nothing below the axis is shared; everything else is: memories above, vector units, wires.
//!
//! ```text
//! k_i             cores of member i; the sum over a set is at most all of them
//! L_i = F_i + E_i what overlaps with nothing: launch, array fill and drain, which members do side by side (F);
//!                 first tiles in and last tiles out, which queue at the shared memories (E)
//! B_i(r)          busy time of resource r
//! L    = max F_i + sum E_i
//! T    = L + max( max over i, r below the axis of B_i(r),  max over r shared of sum over i of B_i(r) )
//! ```
//!
//! `T` can be kept: give member `i` the fraction `B_i(r) / sum B(r)` of each shared resource `r` from the time that
//! its first tiles are in, at the latest `L` less its drain; it then needs at most `sum B(r)` there, at most
//! its own `B_i` below the axis, and fractions sum to one. So `T` is an upper bound under fair sharing, equal to the
//! cost of the op alone for a set of one. See `together`.
//!
//! # Pipelines
//!
//! Where all weights fit in the cores' own buffers, the graph can also be laid out over the cores, each
//! keeping the weights of its ops: see `pipeline`. Its interval and its latency are different figures, and both are
//! others than the schedule's.
//!
//! # How sets are chosen
//!
//! Which ops form sets is chosen exactly, by dynamic programming over what has run (`sets`), on the costs of ops
//! under the plain schedule's residency; what comes out is scheduled anew, with members at one position, so that
//! what lives then lives beside all of them, and shared memories are divided by cores (`corun`). The caller keeps the better
//! of both schedules by their whole phases: a partition is never worse than the plain schedule.

mod cores;
mod corun;
mod pipeline;
mod sets;
mod stages;
mod stationary;
mod together;

#[cfg(test)]
mod tests;

use presil_hwmodels::{Chip, NodeId};
use presil_numerics::{Bytes, Joules, Seconds};
use presil_workloads::{Graph, OpId};

use crate::cost::Resource;
use crate::schedule::prepared::Prepared;
use crate::schedule::{self, Memo, PlanOptions, Schedule, ScheduleError, ScheduleOptions};

pub use cores::{Cores, used};
pub use together::together;

/// A member of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The op; its epilogue runs with it.
    pub op: OpId,
    /// Cores that it runs on.
    pub cores: u64,
}

/// Ops that run at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoSet {
    /// In the order in which they stand in the schedule; at least two.
    pub members: Vec<Member>,
}

/// How a schedule uses the cores of a chip.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Partition {
    /// The axis of cores, if there is one.
    pub cores: Option<Cores>,
    /// Sets of ops that run at once, in the order in which they run.
    pub sets: Vec<CoSet>,
    /// The graph as a pipeline over the cores, beside the schedule: its ops are costed apart.
    pub pipeline: Option<Pipeline>,
}

/// A stage of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its ops in order, without those that run in epilogues; an op of a repeated block once for each repetition.
    pub ops: Vec<OpId>,
    /// Its cores.
    pub cores: u64,
    /// Its time for one inference.
    pub time: Seconds,
    /// Weights that it keeps, in all its buffers.
    pub weights: Bytes,
}

/// A graph as a pipeline of stages, each on cores that keep its weights. Everything is for one inference.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// The stages in order.
    pub stages: Vec<Stage>,
    /// Time from one inference to the next in the steady state.
    pub interval: Seconds,
    /// The shared resource that sets it; none: the longest stage does.
    pub bound_by: Option<Resource>,
    /// Time of one inference through an empty pipeline.
    pub latency: Seconds,
    /// Dynamic energy, and the chip's static power over an interval.
    pub energy: Joules,
    /// MACs.
    pub executed_macs: u128,
    /// Where activations are handed over.
    pub home: NodeId,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self {
            stages: Vec::new(),
            interval: Seconds::ZERO,
            bound_by: None,
            latency: Seconds::ZERO,
            energy: Joules::ZERO,
            executed_macs: 0,
            home: NodeId(0),
        }
    }
}

/// An order of a graph's ops in which sets stand together.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Arrangement {
    /// All ops, epilogues behind their MAC ops.
    pub(crate) order: Vec<OpId>,
    /// Sets in that order.
    pub(crate) sets: Vec<CoSet>,
}

/// Schedules of a graph on a chip: that op by op or in fused groups, and where the chip has cores and it promises to pay, one
/// with ops that run at once. The better one is that of the better whole phase, which is the caller's to time.
///
/// # Errors
/// Those of [`schedule`](crate::schedule::schedule).
pub fn schedules(
    graph: &Graph,
    chip: &Chip,
    options: &ScheduleOptions,
    plan: &PlanOptions,
    memo: &Memo,
) -> Result<Vec<Schedule>, ScheduleError> {
    schedule::check(graph, chip)?;
    let prepared = Prepared::new(graph, chip, options, plan);
    let mut first = prepared.schedule(memo);
    // Constrained ops run on the whole chip.
    let cores = Cores::of(chip).filter(|_| plan.asked.is_none());
    let Some(cores) = cores else {
        return Ok(vec![first]);
    };
    let plain = first.unfused.as_deref().unwrap_or(&first);
    let pipeline = pipeline::pipeline(&prepared, cores, plain, memo);
    let mut apart = corun::co_run(&prepared, cores, plain, memo);
    let plain = first.unfused.as_deref_mut().map(|p| &mut p.partition);
    let here = [
        Some(&mut first.partition),
        plain,
        apart.as_mut().map(|a| &mut a.partition),
    ];
    for partition in here.into_iter().flatten() {
        partition.cores = Some(cores);
        partition.pipeline.clone_from(&pipeline);
    }
    Ok(std::iter::once(first).chain(apart).collect())
}
