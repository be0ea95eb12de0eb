//! The exact analysis of a mapping (convention `physical`).
//!
//! One core counts (`counts`, on a flattened `nest`); it knows operands by number and levels by place. A problem on
//! a chip ([`Analyzer`]) and a loop tree on a hierarchy ([`crate::conventions::physical`]) both feed it, and make
//! time and energy of what it counts.
//!
//! # What is counted
//!
//! A storage node's buffer holds exactly the current tile of its operand: the elements that the points of the
//! tile touch, inside the domain and in bounds (padding is not fetched, gaps of strides are not either). When the
//! loops above it step, the elements of the next tile that it does not hold enter (`flow`); with
//! `Overlap::Refetch` a changed tile of an input enters whole (partial sums that the next tile needs always stay). Tiles without a point of the domain are skipped. A compute
//! node holds nothing: each MAC takes its operands from the innermost storage.
//!
//! *Inputs.* Each instance fetches its own tile. What enters is written here; the parent reads it once for each
//! multicast group: instances that differ only in spatial loops whose dimension the operand does not have, on axes
//! that multicast the operand. A group is seen from the parent as one buffer that holds the union of its members'
//! tiles; members differ only where the domain couples the dimension to one that the operand has. No halo is
//! shared between neighbours, unless an axis shares overlaps (`Axis::shares_overlap` of a hierarchy): then the
//! instances along it are one group for any loop, and what their tiles have in common is read once. What each
//! instance is written stays the same.
//!
//! *Outputs.* What enters leaves again: it is read here and written above (drained). On axes that reduce (or share
//! overlaps of the output), the parent gets one word for each group of instances; else each instance updates it separately. With `D` entering
//! (all instances), `G` arriving above (groups), and `Z` the entries of the parent's buffer that started without
//! a value (at home: the distinct elements touched), the parent is written `G` times, and its old value is read
//! `G - Z` times: the first visit of a value is a pure write. Where instances do not share elements otherwise,
//! the old value goes down into one instance of the group, which accumulates onto it: `G - Z` are written here,
//! and `D - (G - Z)` entries start without a value. Where instances update the same elements separately, the old
//! value is added at the parent and all `D` entries start without one.
//!
//! Ragged rows: an operand's rank over group and row names the group's rows, all in bounds; traffic of operands
//! with the group but not the row is scaled by expected over possible groups, and rounded.
//!
//! # Time and energy
//!
//! See `time`, [`crossing`] for networks, and `runs` for what bursts and rows of a DRAM add to both. Widths: inputs and weights have their mean stored bits. A value of the output has its final
//! width when it crosses for the last time with its reduction complete, and the accumulator's before.

pub(crate) mod bounds;
pub mod conflicts;
pub(crate) mod counts;
pub mod crossing;
pub(crate) mod digits;
pub(crate) mod flow;
pub(crate) mod nest;
pub(crate) mod network;
pub(crate) mod pattern;
pub(crate) mod plane;
pub(crate) mod region;
pub mod runs;
pub(crate) mod set;
pub mod tiles;
pub(crate) mod time;
pub(crate) mod traffic;

use presil_hwmodels::{MacMode, NodeKind};
use presil_numerics::Joules;
use thiserror::Error;

pub use bounds::{compulsory, touched_elements, touched_of};
pub(crate) use pattern::Pattern;

use crate::cost::{Cost, EnergyEntry};
use crate::mapping::Mapping;
use crate::problem::Problem;

/// Why a mapping could not be analysed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AnalysisError {
    /// Counts do not fit.
    #[error("the einsum has more points than can be counted; split it")]
    Overflow,
    /// The problem's engine, path or mode does not lead to a compute node of the chip.
    #[error("the problem's path does not end in a compute node with mode {mode}")]
    NoCompute {
        /// The mode asked for.
        mode: usize,
    },
    /// The einsum is not a product of two inputs.
    #[error("the einsum has {inputs} inputs; a MAC array takes two")]
    Inputs {
        /// Inputs there are.
        inputs: usize,
    },
}

/// The exact cost of a mapping of a problem. For many mappings of one problem use an [`Analyzer`].
pub fn evaluate(problem: &Problem, mapping: &Mapping) -> Result<Cost, AnalysisError> {
    Analyzer::new(problem)?.evaluate(mapping)
}

/// The analysis of one problem, for any number of its mappings.
#[derive(Debug, Clone)]
pub struct Analyzer<'a> {
    problem: &'a Problem<'a>,
    macs: u64,
    prepared: counts::Prepared,
}

impl<'a> Analyzer<'a> {
    /// Prepares what all mappings of a problem share.
    pub fn new(problem: &'a Problem<'a>) -> Result<Self, AnalysisError> {
        let einsum = problem.einsum;
        if einsum.inputs.len() != 2 {
            return Err(AnalysisError::Inputs {
                inputs: einsum.inputs.len(),
            });
        }
        if einsum.points().is_none_or(|p| p > i64::MAX as u64) {
            return Err(AnalysisError::Overflow);
        }
        let macs = einsum.executed_points().ok_or(AnalysisError::Overflow)?;
        compute(problem).ok_or(AnalysisError::NoCompute { mode: problem.mode })?;
        Ok(Self {
            problem,
            macs,
            prepared: counts::Prepared::new(einsum),
        })
    }

    /// The exact cost of a mapping.
    pub fn evaluate(&self, mapping: &Mapping) -> Result<Cost, AnalysisError> {
        let problem = self.problem;
        let (compute, mode) =
            compute(problem).ok_or(AnalysisError::NoCompute { mode: problem.mode })?;
        let nest = nest::Nest::new(problem, mapping.steps());
        let counts = counts::Counts::new(problem.einsum, &self.prepared, &nest);
        let mut cost = Cost {
            executed_macs: u128::from(self.macs),
            instances_used: nest.instances(nest.loops.len()),
            counts: traffic::by_memory(problem, &counts),
            ..Cost::default()
        };
        cost.compute_cycles = counts.iterations as f64 / mode.macs_per_cycle;
        let crossings = crossing::crossings(problem, &nest, &counts);
        time::fill(problem, &nest, &counts, &crossings, compute, &mut cost);
        energy(problem, &nest, &counts, &crossings, mode, &mut cost);
        Ok(cost)
    }
}

/// The compute node that a problem's path ends in, and the mode used.
pub(crate) fn compute<'a>(
    problem: &Problem<'a>,
) -> Option<(&'a presil_hwmodels::Compute, &'a MacMode)> {
    match &problem.chip.nodes.get(*problem.path.last()?)?.kind {
        NodeKind::Compute(c) => Some((c, c.modes.get(problem.mode)?)),
        _ => None,
    }
}

fn energy(
    problem: &Problem,
    nest: &nest::Nest,
    counts: &counts::Counts,
    crossings: &[crossing::Crossing],
    mode: &MacMode,
    cost: &mut Cost,
) {
    for (place, node) in problem.path.iter().enumerate() {
        let component = &problem.chip.nodes[*node].name;
        let mut add = |action: &'static str, joules: f64| {
            if joules > 0.0 {
                cost.energy.push(EnergyEntry {
                    component: component.clone(),
                    action,
                    energy: Joules(joules),
                });
            }
        };
        match &problem.chip.nodes[*node].kind {
            NodeKind::Memory(m) => {
                let mine = cost.counts.iter().filter(|c| c.memory == *node);
                let (read, write) =
                    mine.fold((0.0, 0.0), |(r, w), c| (r + c.read_bits, w + c.write_bits));
                let (idle_read, idle_write) = time::wasted(problem, nest, counts, place);
                let (read, write) = (read + idle_read, write + idle_write);
                add("read", read * m.read_energy.0);
                add("write", write * m.write_energy.0);
            }
            NodeKind::Fanout(f) if f.hop_energy.0 > 0.0 => {
                let bits = match &f.network {
                    Some(_) => crossing::link_bits(crossings, place),
                    None => traffic::hop_bits(problem, counts, place),
                };
                add("hop", bits * f.hop_energy.0);
            }
            NodeKind::Fanout(_) => {}
            NodeKind::Compute(_) => add("mac", cost.executed_macs as f64 * mode.energy.0),
        }
    }
}
