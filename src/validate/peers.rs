//! Files of peers: what other tools say of given mappings, and the optima that they found.
//!
//! | file | class | what must hold |
//! |---|---|---|
//! | `optima_accelforge*.json` | peer optimum: accelforge | the mapping found is no worse than the given optimum, in convention `accelforge` |
//!
//! A file that cannot be read is one case that fails, with the reason; it costs no other.

use std::path::{Path, PathBuf};

use presil_mapper::interop::accelforge::{self, Reference};
use presil_mapper::search::Objective;
use rayon::prelude::*;

use super::files::{all_files, text};
use super::{Case, ValidateError, relative};
use crate::map::Options;
use crate::map::solve::solve;

/// What a file is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Optima that AccelForge found.
    AccelForge,
}

/// A file of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    kind: Kind,
    name: String,
    text: String,
}

const BUILT_IN: [(Kind, &str, &str); 1] = [(
    Kind::AccelForge,
    "optima_accelforge.json",
    include_str!("../../tests/data/mapping/optima_accelforge.json"),
)];

/// The built-in files of peers, or those in a folder.
pub(super) fn files(data: Option<&Path>) -> Result<Vec<File>, ValidateError> {
    let Some(folder) = data else {
        let file = |(kind, name, text): &(Kind, &str, &str)| File {
            kind: *kind,
            name: (*name).into(),
            text: (*text).into(),
        };
        return Ok(BUILT_IN.iter().map(file).collect());
    };
    let mut files = Vec::new();
    for path in all_files(folder)? {
        if let Some(kind) = kind_of(&path) {
            files.push(File {
                kind,
                name: path.display().to_string(),
                text: text(&path)?,
            });
        }
    }
    Ok(files)
}

/// What a file is of, by its name.
fn kind_of(path: &PathBuf) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    if name.starts_with("optima_accelforge") && name.ends_with(".json") {
        return Some(Kind::AccelForge);
    }
    None
}

/// All cases of some files.
pub(super) fn cases(files: &[File]) -> Vec<Case> {
    let cases = files.par_iter().flat_map_iter(|file| match file.kind {
        Kind::AccelForge => accelforge_cases(file),
    });
    cases.collect()
}

/// A case that could not be looked at.
fn failed(class: &str, name: &str, file: &File, reason: String) -> Case {
    Case {
        name: name.into(),
        class: class.into(),
        predicted: None,
        reference: 0.0,
        unit: String::new(),
        error: None,
        tolerance: None,
        passed: false,
        source: file.name.clone(),
        note: reason,
    }
}

/// Partial mappings that a search for a reference optimum may look at.
const WORK: u64 = 50_000_000;

fn accelforge_cases(file: &File) -> Vec<Case> {
    let class = "peer optimum: accelforge";
    match accelforge::read(&file.text) {
        Ok(references) => {
            let cases = references.cases.par_iter().map(|r| optimum(class, file, r));
            let mut cases: Vec<Case> = cases.collect();
            let skipped = references.skipped.into_iter();
            cases.extend(skipped.map(|(id, reason)| failed(class, &id, file, reason)));
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
        convention: None,
    };
    if reference.fused && case.einsums.len() > 1 {
        let reason = "the joint mapping of fused einsums is not searched yet";
        return failed(class, &name, file, reason.into());
    }
    let (mut energy, mut cycles, mut proven) = (0.0, 0.0, true);
    for einsum in 0..case.einsums.len() {
        match solve(case, einsum, case.objective, &options) {
            Ok((_, proof)) => {
                energy += proof.energy_pj;
                cycles += proof.cycles;
                proven &= proof.proven;
            }
            Err(error) => return failed(class, &name, file, error.to_string()),
        }
    }
    let expected = &reference.expected;
    let (predicted, given, unit) = match case.objective {
        Objective::Latency => (cycles, expected.cycles, "cycles"),
        Objective::Energy => (energy, expected.energy, "pJ"),
        Objective::Edp => (
            energy * cycles,
            expected.energy * expected.cycles,
            "pJ cycles",
        ),
    };
    let error = relative(predicted, given);
    let tolerance = 1e-9;
    let mut note = if proven { "proven" } else { "not proven" }.to_string();
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
