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

/// What was found, and how far it is proven.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proof {
    /// Picojoules, as the search counts.
    pub energy_pj: f64,
    /// Cycles, as the search counts.
    pub cycles: f64,
    /// The objective's figure.
    pub found: f64,
    /// What nothing in the space goes below.
    pub lower_bound: f64,
    /// Whether nothing better exists: the bound is what was found.
    pub proven: bool,
    /// Einsums that take over an intermediate from the one before tile by tile.
    pub fused: Vec<String>,
    /// Partial mappings looked at.
    pub expanded: u64,
    /// Those cut off by a bound.
    pub bounded: u64,
    /// Those cut off by a better one.
    pub dominated: u64,
}

/// The figure that is made small: cycles, picojoules, or their product.
pub fn figure_of(objective: Objective, energy: f64, cycles: f64) -> f64 {
    match objective {
        Objective::Latency => cycles,
        Objective::Energy => energy,
        Objective::Edp => cycles * energy,
    }
}

/// The best mappings of a case, one an einsum.
///
/// # Errors
/// If an einsum is beyond the search, or nothing fits.
pub fn solve(case: &Case, options: &Options) -> Result<(Vec<LoopTree>, Proof), SolveError> {
    let search = optimum::Options {
        objective: options.objective.unwrap_or(case.objective),
        perfect: options.perfect || case.einsums.iter().any(|e| e.constraints.perfect),
        work: options.work,
    };
    let solution = optimum::solve(case, &search)?;
    let found = figure_of(search.objective, solution.energy, solution.cycles);
    let later = case.einsums.iter().skip(1).zip(&solution.fused);
    let fused = later.filter(|(_, fused)| **fused);
    let proof = Proof {
        energy_pj: solution.energy,
        cycles: solution.cycles,
        found,
        lower_bound: solution.lower_bound,
        proven: solution.complete && solution.lower_bound >= found * (1.0 - 1e-12),
        fused: fused.map(|(e, _)| e.name.clone()).collect(),
        expanded: solution.expanded,
        bounded: solution.bounded,
        dominated: solution.dominated,
    };
    let trees = solution.einsums.into_iter().map(|e| e.tree);
    Ok((trees.collect(), proof))
}
