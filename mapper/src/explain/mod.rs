//! Why a mapping is as it is: what it uses, what one more of each resource would give, and why it uses no more.
//!
//! - [`usage`](mod@usage): tiles, traffic and ports of each memory, and how far each axis is used;
//! - [`prices`](mod@prices): shadow prices, by finite difference;
//! - [`why`](mod@why): for each axis and dimension, what keeps more of it from lying there.
//!
//! All three work on a [`Problem`] in convention `physical`; the figures are those of
//! [`crate::search`]: seconds, and joules with the chip's static power over that time.

pub mod prices;
pub mod usage;
pub mod why;

#[cfg(test)]
mod tests;

pub use prices::{Change, Gain, Price, Prices, prices};
pub use usage::{AxisUse, LevelUse, OperandUse, Usage, usage};
pub use why::{AxisWhy, Reason, why};

use presil_hwmodels::{Chip, NodeKind};

use crate::cost::Cost;
use crate::problem::Problem;
use crate::search::Objective;

/// Seconds, and joules with the chip's static power over them.
pub fn figures(problem: &Problem, cost: &Cost) -> (f64, f64) {
    let power: f64 = problem.chip.static_power().iter().map(|p| p.1.0).sum();
    (cost.time.0, cost.energy_total().0 + power * cost.time.0)
}

/// What an objective makes of seconds and joules.
pub fn objective(objective: Objective, (seconds, joules): (f64, f64)) -> f64 {
    match objective {
        Objective::Latency => seconds,
        Objective::Energy => joules,
        Objective::Edp => seconds * joules,
    }
}

/// The name of an axis: "pes.rows"; one that has its fanout's name is named once.
pub fn axis_name(chip: &Chip, axis: &AxisUse) -> String {
    let node = &chip.nodes[axis.fanout];
    let dim = match &node.kind {
        NodeKind::Fanout(f) => f.dims.get(usize::from(axis.axis)),
        _ => None,
    };
    match dim {
        Some(dim) if dim.name != node.name => format!("{}.{}", node.name, dim.name),
        _ => node.name.clone(),
    }
}
