//! The best mappings of a case: `presil map`.
//!
//! The case is searched as a whole ([`mod@solve`]); the mappings found become those of the case, which is then
//! evaluated and shown like one that came with them ([`crate::eval`]). [`mod@explain`] tells what one more of each
//! resource would give, [`mod@certify`] writes and checks certificates. On a chip, in convention `physical`, one einsum is
//! mapped by [`mod@chip`].

pub mod certify;
pub mod chip;
pub mod explain;
pub mod show;
pub mod solve;

use presil_mapper::case::Case;
use presil_mapper::conventions::Convention;
use presil_mapper::search::Objective;
use thiserror::Error;

use crate::eval::{Asked, EvalError, Loaded, Report, evaluate};
use solve::{Found, Proof, SolveError};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// What is made small; the case's own if `None`.
    pub objective: Option<Objective>,
    /// Only tiles that divide their extent; as the case says if not set.
    pub perfect: bool,
    /// Partial mappings that the search may look at.
    pub work: u64,
    /// Seconds that the search of a case may take.
    pub budget: Option<f64>,
    /// Every mapping is looked at, with no bound and no comparison: to test the search on small cases.
    pub exhaustive: bool,
    /// Convention that the result is told in, if not the search's own.
    pub convention: Option<Convention>,
}

/// A case with the mappings found.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    /// What was made small.
    pub objective: Objective,
    /// What was found, and how far it is proven.
    pub proof: Proof,
    /// The case with its mappings, told.
    pub report: Report,
}

/// Why there is no mapping.
#[derive(Debug, Error)]
pub enum MapError {
    /// A case that the search cannot map.
    #[error("case `{case}`: {error}")]
    Search {
        /// The case.
        case: String,
        /// Why not.
        error: SolveError,
    },
    /// A mapping that cannot be told.
    #[error(transparent)]
    Told(#[from] EvalError),
}

/// Which mappings are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The best one.
    Best,
    /// So many of the best, of a case of one einsum.
    Nearest(usize),
    /// All of which none is at least as good as another in energy and time.
    Front,
}

/// The mappings of a case that are asked for: one, or several, the best first (a front by energy).
///
/// # Errors
/// If the search can map it in no way, or no convention can tell the result.
pub fn map(loaded: Loaded, wanted: Wanted, options: &Options) -> Result<Vec<Mapped>, MapError> {
    let Loaded { mut case, notes } = loaded;
    case.objective = options.objective.unwrap_or(case.objective);
    let found = solve::search(&case, wanted, options).map_err(|error| MapError::Search {
        case: case.name.clone(),
        error,
    })?;
    let told = found.into_iter().map(|f| told(&case, &notes, f, options));
    told.collect()
}

/// The best mapping of each case, in order. Cases that differ only in energies and in sizes of memories are searched at
/// once. An error is of one case: the search can map it in no way, or no convention can tell the result.
pub fn map_all(loaded: Vec<Loaded>, options: &Options) -> Vec<Result<Mapped, MapError>> {
    let (mut cases, mut notes) = (Vec::new(), Vec::new());
    for Loaded { mut case, notes: n } in loaded {
        case.objective = options.objective.unwrap_or(case.objective);
        cases.push(case);
        notes.push(n);
    }
    let found = solve::solve_all(&cases, options);
    let mapped = cases.iter().zip(notes).zip(found);
    mapped
        .map(|((case, notes), found)| {
            let found = found.map_err(|error| MapError::Search {
                case: case.name.clone(),
                error,
            })?;
            told(case, &notes, found, options)
        })
        .collect()
}

fn told(
    case: &Case,
    notes: &[String],
    (trees, proof): Found,
    options: &Options,
) -> Result<Mapped, MapError> {
    let mut case = case.clone();
    for (einsum, tree) in case.einsums.iter_mut().zip(trees) {
        einsum.mapping = Some(tree);
    }
    // A mapping is shown as it was searched, unless another convention is asked for.
    case.convention = options.convention.unwrap_or(solve::CONVENTION);
    let told_in = Asked::One(case.convention);
    let notes = notes.to_vec();
    Ok(Mapped {
        objective: case.objective,
        proof,
        report: evaluate(Loaded { case, notes }, told_in)?,
    })
}
