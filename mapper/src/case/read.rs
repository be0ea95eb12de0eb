//! From the text of a case file to a case.

use presil_hwmodels::decode::Decode;
use presil_hwmodels::document::{self, Item, Problems};
use presil_hwmodels::json;
use presil_numerics::Diagnostics;
use thiserror::Error;

use super::Case;
use super::resolve::{Machine, resolve};
use super::spec::CaseSpec;

/// Everything that is wrong in a case file. `Display` is the full text for the user.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct CaseError(pub Vec<Diagnostics>);

/// A text as JSON if it begins with `{`, else as TOML.
pub(super) fn parsed(origin: &str, text: &str, problems: &mut Problems) -> Item {
    let source = problems.source(origin, text);
    match text.trim_start().starts_with('{') {
        true => json::parse(source, problems),
        false => document::parse(source, problems),
    }
}

/// Reads a case file, TOML or JSON (a text that begins with `{`). `machine` gives the hierarchy where the file
/// says none.
///
/// # Errors
/// All mistakes of the file, each with its place and what would be right.
pub fn read(origin: &str, text: &str, machine: Option<Machine<'_>>) -> Result<Case, CaseError> {
    let mut problems = Problems::default();
    let item = parsed(origin, text, &mut problems);
    let readable = problems.is_empty();
    let spec = if readable {
        CaseSpec::decode(&item, &mut problems)
    } else {
        None
    };
    // A table that could not be read leaves holes; what else is wrong would only repeat them.
    let readable = problems.is_empty();
    let case = spec.filter(|_| readable);
    let case = case.and_then(|spec| resolve(&spec, machine, &mut problems));
    match case {
        Some(case) if problems.is_empty() => Ok(case),
        _ => Err(CaseError(problems.into_diagnostics())),
    }
}

#[cfg(test)]
mod tests;
