//! The one place that calls the search of mappings.

use presil_mapper::case::Case;
use presil_mapper::conventions::Convention;
use presil_mapper::looptree::LoopTree;
use presil_mapper::optimum;
use presil_mapper::search::Objective;
use serde::Serialize;

use super::{Options, Wanted};

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

/// A mapping for each einsum, and what it rests on.
pub type Found = (Vec<LoopTree>, Proof);

/// The best mappings of a case, one an einsum.
///
/// # Errors
/// If an einsum is beyond the search, or nothing fits.
pub fn solve(case: &Case, options: &Options) -> Result<Found, SolveError> {
    let search = options_of(case, options);
    Ok(found(case, &search, optimum::solve(case, &search)?))
}

/// The mappings that are asked for.
///
/// # Errors
/// If an einsum is beyond the search, or nothing fits.
pub fn search(case: &Case, wanted: Wanted, options: &Options) -> Result<Vec<Found>, SolveError> {
    let search = options_of(case, options);
    let solutions = match wanted {
        Wanted::Best => vec![optimum::solve(case, &search)?],
        Wanted::Nearest(count) => optimum::nearest(case, count, &search)?,
        Wanted::Front => optimum::front(case, &search)?,
    };
    let all = solutions.into_iter().map(|s| found(case, &search, s));
    Ok(all.collect())
}

/// The best mappings of cases. Those that differ only in energies and in sizes of memories are searched at once.
pub fn solve_all(cases: &[Case], options: &Options) -> Vec<Result<Found, SolveError>> {
    let mut found: Vec<Option<Result<Found, SolveError>>> = vec![None; cases.len()];
    let searches: Vec<optimum::Options> = cases.iter().map(|c| options_of(c, options)).collect();
    for i in 0..cases.len() {
        if found[i].is_some() {
            continue;
        }
        let search = searches[i];
        let alike = |j: &usize| found[*j].is_none() && searches[*j] == search;
        let members: Vec<usize> = (i..cases.len()).filter(alike).collect();
        let group: Vec<Case> = members.iter().map(|j| cases[*j].clone()).collect();
        let solutions = optimum::solve_all(&group, &search);
        for ((j, case), solution) in members.into_iter().zip(&group).zip(solutions) {
            found[j] = Some(solution.map(|s| self::found(case, &search, s)));
        }
    }
    found.into_iter().flatten().collect()
}

pub(super) fn options_of(case: &Case, options: &Options) -> optimum::Options {
    let objective = options.objective.unwrap_or(case.objective);
    optimum::Options {
        perfect: options.perfect || case.einsums.iter().any(|e| e.constraints.perfect),
        work: options.work,
        seconds: options.budget,
        exhaustive: options.exhaustive,
        ..optimum::Options::new(objective)
    }
}

fn found(case: &Case, search: &optimum::Options, solution: optimum::Solution) -> Found {
    let found = figure_of(search.objective, solution.energy, solution.cycles);
    let later = case.einsums.iter().skip(1).zip(&solution.fused);
    let fused = later.filter(|(_, fused)| **fused);
    let proof = Proof {
        energy_pj: solution.energy,
        cycles: solution.cycles,
        found,
        lower_bound: solution.lower_bound,
        proven: solution.lower_bound >= found * (1.0 - 1e-12),
        fused: fused.map(|(e, _)| e.name.clone()).collect(),
        expanded: solution.expanded,
        bounded: solution.bounded,
        dominated: solution.dominated,
    };
    let trees = solution.einsums.into_iter().map(|e| e.tree);
    (trees.collect(), proof)
}
