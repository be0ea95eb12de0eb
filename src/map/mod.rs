//! The best mapping of a case: `presil map`.
//!
//! Each einsum is searched by itself ([`solve`]); the mappings found become those of the case, which is then
//! evaluated and shown like one that came with them ([`crate::eval`]). [`explain`] tells what one more of each
//! resource would give.

pub mod explain;
pub mod show;
pub mod solve;

use presil_mapper::case::Case;
use presil_mapper::conventions::Convention;
use presil_mapper::search::Objective;
use thiserror::Error;

use crate::eval::{Asked, EvalError, Loaded, Report, evaluate};
use solve::{Proof, SolveError, solve};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// What is made small; the case's own if `None`.
    pub objective: Option<Objective>,
    /// Only tiles that divide their extent; as the case says if not set.
    pub perfect: bool,
    /// Partial mappings that the search of an einsum may look at.
    pub work: u64,
    /// Conventions that the result is told in beside the search's own.
    pub convention: Option<Convention>,
}

/// A case with the mappings found.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    /// What was made small.
    pub objective: Objective,
    /// How each einsum's mapping was proven.
    pub proofs: Vec<Proof>,
    /// The case with its mappings, told.
    pub report: Report,
}

/// Why there is no mapping.
#[derive(Debug, Error)]
pub enum MapError {
    /// An einsum that the search cannot map.
    #[error("case `{case}`: einsum `{einsum}`: {error}")]
    Search {
        /// The case.
        case: String,
        /// The einsum.
        einsum: String,
        /// Why not.
        error: SolveError,
    },
    /// A mapping that cannot be told.
    #[error(transparent)]
    Told(#[from] EvalError),
}

/// The best mapping of each einsum of a case.
///
/// # Errors
/// If the search can map one of them in no way, or no convention can tell the result.
pub fn map(loaded: Loaded, options: &Options) -> Result<Mapped, MapError> {
    let Loaded { mut case, notes } = loaded;
    let objective = options.objective.unwrap_or(case.objective);
    let mut proofs = Vec::new();
    for i in 0..case.einsums.len() {
        let (tree, proof) = solved(&case, i, objective, options)?;
        case.einsums[i].mapping = Some(tree);
        proofs.push(proof);
    }
    case.objective = objective;
    // A mapping is shown as it was searched, unless another convention is asked for.
    let told_in = options.convention.unwrap_or(solve::CONVENTION);
    case.convention = told_in;
    let report = evaluate(Loaded { case, notes }, Asked::One(told_in))?;
    Ok(Mapped {
        objective,
        proofs,
        report,
    })
}

fn solved(
    case: &Case,
    einsum: usize,
    objective: Objective,
    options: &Options,
) -> Result<(presil_mapper::looptree::LoopTree, Proof), MapError> {
    solve(case, einsum, objective, options).map_err(|error| MapError::Search {
        case: case.name.clone(),
        einsum: case.einsums[einsum].name.clone(),
        error,
    })
}
