//! What given mappings cost: `presil eval`.
//!
//! A case is read from files of any known form ([`load()`]), each of its einsums' mappings is evaluated in one
//! convention or in all of them ([`evaluate`]), and the [`Report`] is shown as text or JSON.

pub mod json;
pub mod load;
pub mod systolic;
pub mod text;

use presil_mapper::case::Case;
use presil_mapper::conventions::{self, Convention, ConventionError, Evaluation};
use thiserror::Error;

pub use load::{LoadError, Loaded, load};

/// Which conventions are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The case's own.
    Own,
    /// This one.
    One(Convention),
    /// All, side by side.
    All,
}

/// A case's mappings, told.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The case.
    pub case: Case,
    /// What was assumed when it was read.
    pub notes: Vec<String>,
    /// Conventions, in order.
    pub conventions: Vec<Convention>,
    /// For each einsum, what each convention says of its mapping.
    pub einsums: Vec<Vec<Result<Evaluation, ConventionError>>>,
}

/// Why there is nothing to tell.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum EvalError {
    /// An einsum without a mapping.
    #[error(
        "case `{case}`: einsum `{einsum}` has no mapping; add `mapping = ...`, or let `presil map` find one"
    )]
    NoMapping {
        /// The case.
        case: String,
        /// The einsum.
        einsum: String,
    },
    /// No convention that was asked for can tell it.
    #[error("case `{case}`: einsum `{einsum}`: {error}")]
    Untold {
        /// The case.
        case: String,
        /// The einsum.
        einsum: String,
        /// Why not, of the first convention asked for.
        error: ConventionError,
    },
}

/// Evaluates the mappings of a case.
///
/// # Errors
/// If an einsum has no mapping, or no convention asked for can tell it.
pub fn evaluate(loaded: Loaded, asked: Asked) -> Result<Report, EvalError> {
    let Loaded { case, notes } = loaded;
    let conventions = match asked {
        Asked::Own => vec![case.convention],
        Asked::One(convention) => vec![convention],
        Asked::All => Convention::ALL.to_vec(),
    };
    let mut einsums = Vec::new();
    for e in &case.einsums {
        let Some(tree) = &e.mapping else {
            return Err(EvalError::NoMapping {
                case: case.name.clone(),
                einsum: e.name.clone(),
            });
        };
        let told: Vec<Result<Evaluation, ConventionError>> = conventions
            .iter()
            .map(|c| conventions::evaluate(*c, &e.einsum, &e.hierarchy, tree))
            .collect();
        if let (true, Some(Err(error))) = (told.iter().all(Result::is_err), told.first()) {
            return Err(EvalError::Untold {
                case: case.name.clone(),
                einsum: e.name.clone(),
                error: error.clone(),
            });
        }
        einsums.push(told);
    }
    Ok(Report {
        case,
        notes,
        conventions,
        einsums,
    })
}

impl Report {
    /// Picojoules and cycles of all einsums one after the other, in a convention that can tell them all.
    pub fn totals(&self, convention: usize) -> Option<(f64, f64)> {
        let mut sums = (0.0, 0.0);
        for told in &self.einsums {
            let evaluation = told.get(convention)?.as_ref().ok()?;
            sums.0 += evaluation.energy_total();
            sums.1 += evaluation.cycles;
        }
        Some(sums)
    }
}
