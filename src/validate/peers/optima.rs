//! Optima that AccelForge's mapper found: ours must not be worse.

use presil_mapper::interop::accelforge::{self, Reference};
use presil_mapper::search::Objective;
use rayon::prelude::*;

use super::super::{Case, relative};
use super::{File, failed, left_out};
use crate::map::Options;
use crate::map::solve::{figure_of, solve};

/// Partial mappings that a search for a reference optimum may look at.
const WORK: u64 = 2_000_000;

pub(super) fn cases(file: &File) -> Vec<Case> {
    let class = "peer optimum: accelforge";
    match accelforge::read(&file.text) {
        Ok(references) => {
            let cases = references.cases.par_iter().map(|r| optimum(class, file, r));
            let mut cases: Vec<Case> = cases.collect();
            let skipped = references.skipped.into_iter();
            cases.extend(skipped.map(|(id, reason)| left_out(class, &id, file, reason)));
            cases
        }
        Err(error) => vec![failed(class, &file.name, file, error.to_string())],
    }
}

/// The optimum of a case beside the given one: worse is an error, better is not.
fn optimum(class: &str, file: &File, reference: &Reference) -> Case {
    let case = &reference.case;
    let name = format!("{} {}", reference.id, case.objective.name());
    let options = Options {
        objective: None,
        perfect: true,
        work: WORK,
        budget: None,
        exhaustive: false,
        convention: None,
    };
    let proof = match solve(case, &options) {
        Ok((_, proof)) => proof,
        Err(error) => return failed(class, &name, file, error.to_string()),
    };
    let expected = &reference.expected;
    let given = figure_of(case.objective, expected.energy, expected.cycles);
    let unit = match case.objective {
        Objective::Latency => "cycles",
        Objective::Energy => "pJ",
        Objective::Edp => "pJ cycles",
    };
    let predicted = proof.found;
    let error = relative(predicted, given);
    let tolerance = 1e-9;
    let mut note = if proof.proven { "proven" } else { "not proven" }.to_string();
    if error < -tolerance {
        note.push_str("; better than the given optimum");
    }
    Case {
        name,
        class: class.into(),
        predicted: Some(predicted),
        reference: given,
        unit: unit.into(),
        error: Some(error),
        tolerance: Some(tolerance),
        passed: error <= tolerance,
        source: file.name.clone(),
        note,
    }
}
