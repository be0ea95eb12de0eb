//! The one place that calls the search of mappings.

use presil_mapper::case::Case;
use presil_mapper::conventions::Convention;
use presil_mapper::looptree::LoopTree;
use presil_mapper::optimum;
use presil_mapper::search::Objective;
use serde::Serialize;

use super::Options;

pub use optimum::SpaceError as SolveError;

/// The convention that the search counts in.
pub const CONVENTION: Convention = Convention::AccelForge;

/// How a mapping was proven.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proof {
    /// Picojoules, as the search counts.
    pub energy_pj: f64,
    /// Cycles, as the search counts.
    pub cycles: f64,
    /// Whether nothing better exists.
    pub proven: bool,
    /// Partial mappings looked at.
    pub expanded: u64,
    /// Those cut off by a bound.
    pub bounded: u64,
    /// Those cut off by a better one.
    pub dominated: u64,
}

impl Proof {
    /// The figure that was made small: cycles, picojoules, or their product.
    pub fn value(&self, objective: Objective) -> f64 {
        match objective {
            Objective::Latency => self.cycles,
            Objective::Energy => self.energy_pj,
            Objective::Edp => self.cycles * self.energy_pj,
        }
    }
}

/// The best mapping of an einsum of a case.
///
/// # Errors
/// If the einsum is beyond the search, or nothing fits.
pub fn solve(
    case: &Case,
    einsum: usize,
    objective: Objective,
    options: &Options,
) -> Result<(LoopTree, Proof), SolveError> {
    let e = &case.einsums[einsum];
    let search = optimum::Options {
        objective,
        perfect: options.perfect || e.constraints.perfect,
        work: options.work,
    };
    let found = optimum::solve(&e.einsum, &e.hierarchy, &search)?;
    let proof = Proof {
        energy_pj: found.energy,
        cycles: found.cycles,
        proven: found.proven,
        expanded: found.expanded,
        bounded: found.bounded,
        dominated: found.dominated,
    };
    Ok((found.tree, proof))
}
