//! The best mapping of one einsum on a chip, in convention `physical`: `presil map PROBLEM --chip CHIP`.
//!
//! ```text
//! what is named --target--> Target --problem--> Work --solve--> Mapping, Cost, proof --told--> ChipMapping --show--> text, JSON
//! ```
//!
//! - [`target`]: what a user names: a case file, a short form, a layer of a model; [`short`]: the short form's grammar;
//! - [`problem`]: einsum, formats, homes and what is left of each memory;
//! - [`told`]: the value that is shown; [`show`], [`show_explain`]: as text; [`json`]: as JSON.
//!
//! What one more of each resource would give, and why an axis is not used more, is in [`presil_mapper::explain`].

pub mod json;
pub mod problem;
pub mod short;
pub mod show;
pub mod show_explain;
pub mod target;
pub mod told;

use std::path::PathBuf;

use presil_hwmodels::{Chip, ChipError};
use presil_mapper::case::on_chip::{OnChip, Scope, read};
use presil_mapper::explain::{self, prices};
use presil_mapper::problem::Problem;
use presil_mapper::schedule::OpProblem;
use presil_mapper::search::{self, Constraint, Objective, SearchError, Solution};
use presil_workloads::ModelError;
use thiserror::Error;

use crate::eval::LoadError;
use crate::run;

pub use target::Target;
pub use told::{ChipMapping, FrontProof, Near};

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// What is mapped.
    pub target: Target,
    /// What is made small; none: what a case says, else latency.
    pub objective: Option<Objective>,
    /// Chip, formats and pass; the model's name is the target's, and the objective is the one above.
    pub run: run::Options,
    /// Bounds that each stage of a search may compute.
    pub work: u64,
    /// Seconds that the search may take.
    pub seconds: Option<f64>,
    /// A file of constraints that mappings must obey.
    pub constraints: Option<PathBuf>,
    /// Which mappings.
    pub wanted: super::Wanted,
    /// Whether prices and reasons are wanted.
    pub explain: bool,
}

/// Why there is no mapping. `Display` is the full text for the user.
#[derive(Debug, Error)]
pub enum ChipMapError {
    /// The chip.
    #[error(transparent)]
    Chip(#[from] ChipError),
    /// The case file.
    #[error(transparent)]
    Case(#[from] LoadError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The short form, or what does not go together.
    #[error("{0}")]
    Asked(String),
    /// The search.
    #[error("`{name}` on chip `{chip}`: {error}")]
    Search {
        /// What was mapped.
        name: String,
        /// The chip.
        chip: String,
        /// Why not.
        error: SearchError,
    },
}

const CONSTRAINED_NOTE: &str =
    "only mappings that obey the constraints are looked at; bounds and proofs are of those";

/// The best mapping of what is asked for.
///
/// # Errors
/// If what is named does not exist, no array of the chip runs it, or no mapping fits.
pub fn map(ask: &Ask) -> Result<ChipMapping, ChipMapError> {
    let chip = presil_hwmodels::load(&ask.run.chip, &ask.run.sets)?;
    let work = problem::work(ask, &chip)?;
    let on_arrays = work.problems(ask, &chip)?;
    let text = match &ask.constraints {
        Some(file) => Some((file.display().to_string(), crate::eval::load::text(file)?)),
        None => None,
    };
    let options = search::Options {
        budget: ask.work,
        seconds: ask.seconds,
        near: match ask.wanted {
            super::Wanted::Nearest(count) => count,
            _ => 0,
        },
        ..search::Options::default()
    };
    let by = ask.objective.or(work.objective).unwrap_or_default();
    let failed = |error| ChipMapError::Search {
        name: work.name.clone(),
        chip: chip.name.clone(),
        error,
    };
    // As a schedule does: the first array that has a mapping.
    let mut first_error = None;
    for on_array in &on_arrays {
        let asked = match asked(&work, text.as_ref(), &on_array.problem) {
            Ok(asked) => asked,
            Err(error) => {
                first_error.get_or_insert(ChipMapError::from(error));
                continue;
            }
        };
        let restricted = asked.chip(on_array.problem.chip);
        let on_array = &OpProblem {
            problem: Problem {
                chip: &restricted,
                ..on_array.problem.clone()
            },
            ..on_array.clone()
        };
        let problem = &on_array.problem;
        let constraints = &asked.constraints;
        match search::solve_within(problem, constraints, by, &options) {
            Ok(solution) => {
                let (several, of_front) = match ask.wanted {
                    super::Wanted::Best => (Vec::new(), None),
                    super::Wanted::Nearest(count) => (nearest(problem, &solution, by, count), None),
                    super::Wanted::Front => {
                        let told = front(problem, constraints, &options).map_err(failed)?;
                        (told.0, Some(told.1))
                    }
                };
                let explained = match ask.explain {
                    true => {
                        let faster = faster(ask, &chip);
                        let room = &on_array.room;
                        let told =
                            prices(problem, constraints, room, faster.as_ref(), by, &options);
                        Some(told.map_err(failed)?)
                    }
                    false => None,
                };
                let mut told = told::tell(
                    &work,
                    on_array,
                    constraints,
                    by,
                    &solution,
                    several,
                    explained,
                );
                told.front = of_front;
                if !asked.is_empty() {
                    told.notes.push(CONSTRAINED_NOTE.into());
                }
                return Ok(told);
            }
            Err(error) => {
                first_error.get_or_insert(failed(error));
            }
        }
    }
    match first_error {
        Some(error) => Err(error),
        None => Err(ChipMapError::Asked(format!(
            "chip `{}` has no array",
            chip.name
        ))),
    }
}

/// What constraints ask of the mappings of a problem: those of the case, and of a file.
fn asked(
    work: &problem::Work,
    text: Option<&(String, String)>,
    problem: &Problem,
) -> Result<OnChip, LoadError> {
    let mut asked = match text {
        Some((origin, text)) => read(origin, text, problem, Scope::One(work.op()))?,
        None => OnChip::default(),
    };
    asked.add_case(problem, &work.constraints);
    Ok(asked)
}

/// The best mappings by the objective: those that the search kept, and the one that it chose.
fn nearest(problem: &Problem, solution: &Solution, by: Objective, count: usize) -> Vec<Near> {
    let (time, energy) = explain::figures(problem, &solution.cost);
    let chosen = Near::new(problem, time, energy, &solution.mapping);
    let kept = solution.near.iter();
    let mut all: Vec<Near> = kept
        .map(|(time, energy, m)| Near::new(problem, *time, *energy, m))
        .collect();
    if !all.contains(&chosen) {
        all.push(chosen);
    }
    all.sort_by(|a, b| {
        let value = |m: &Near| explain::objective(by, (m.latency_s, m.energy_j));
        value(a).total_cmp(&value(b))
    });
    all.truncate(count);
    all
}

/// Mappings of which none found is as good as another in time and energy, the fastest first, and what is proven of them.
fn front(
    problem: &Problem,
    constraints: &[Constraint],
    options: &search::Options,
) -> Result<(Vec<Near>, FrontProof), SearchError> {
    let front = search::front(problem, constraints, options)?;
    let proof = FrontProof {
        proven: front.proven(),
        time_gap: front.time_gap(),
        energy_gap: front.energy_gap(),
        least_energy_j: front.least_energy,
        searches: front.searches,
        bounds: front.expanded,
        analysed: front.analysed,
    };
    let near = |p: &search::Point| Near {
        least_s: Some(p.least_time),
        ..Near::new(problem, p.time, p.energy, &p.mapping)
    };
    Ok((front.points.iter().map(near).collect(), proof))
}

/// The chip with every clock a tenth faster, as its file would have it; none if a frequency cannot be overridden.
fn faster(ask: &Ask, chip: &Chip) -> Option<Chip> {
    let mut sets = ask.run.sets.clone();
    for clock in chip.clocks.iter() {
        let hertz = clock.domain.frequency.0 * 1.1;
        sets.push((format!("{}.frequency", clock.name), format!("{hertz} Hz")));
    }
    presil_hwmodels::load(&ask.run.chip, &sets).ok()
}
