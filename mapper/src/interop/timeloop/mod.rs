//! Timeloop v3 and v4: YAML sets in, [`Case`]s out; mappings out.
//!
//! A set is one or several YAML texts whose top-level keys are merged, in any order: `architecture`, `problem`,
//! `mapping`, constraints (`constraints`, `architecture_constraints`, `mapspace_constraints`), energies (`ERT`,
//! `ERT_summary`) and `mapper`. What the keys hold is described where it is read: `arch`, `problem`,
//! `mapping`, `constraints` and `ert`. Keys of tools that run before or after Timeloop (components, variables,
//! areas) are passed over; anything else that Timeloop would obey and presil cannot is an error that names it.
//!
//! Templates (Jinja) and arithmetic in attributes are not evaluated: give the set as Timeloop's front end hands it on.

mod arch;
mod components;
mod constraints;
mod ert;
mod mapping;
mod problem;
pub mod reference;
mod tree;
mod write;

#[cfg(test)]
mod tests;

pub use write::{WriteError, write_mapping};

use thiserror::Error;

use crate::case::{Case, CaseEinsum, Constraints};
use crate::conventions::Convention;
use crate::search::Objective;
use arch::Architecture;
use ert::Energies;
use problem::Problem;
use tree::{Cursor, Node, Value, parse};

/// A mistake in a set, or something in it that presil cannot say.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{file}:{line}: {path}: {reason}")]
pub struct TimeloopError {
    /// The text's label.
    pub file: String,
    /// Its line, from 1; 0 if none is known.
    pub line: usize,
    /// Keys from the top, as `architecture.subtree[0].name`.
    pub path: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// A set as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The case: one einsum, in convention `timeloop`.
    pub case: Case,
    /// What was assumed, to be shown with every result.
    pub notes: Vec<String>,
}

/// Keys that say nothing about the machine, the problem or the mapping.
const PASSED_OVER: [&str; 12] = [
    "dumped_by_timeloop_front_end",
    "compound_components",
    "components",
    "primitive_components",
    "variables",
    "globals",
    "art",
    "art_summary",
    "version",
    "layout",
    "ert_summary_version",
    "action_counts",
];

/// Top-level keys of a set, each with its text.
#[derive(Default)]
struct Sections<'a> {
    found: Vec<(String, Cursor<'a>)>,
}

impl<'a> Sections<'a> {
    fn get(&self, key: &str) -> Option<&Cursor<'a>> {
        self.all(key).next()
    }
    fn all(&self, key: &str) -> impl Iterator<Item = &Cursor<'a>> {
        self.found
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, c)| c)
    }
    fn need(&self, key: &str, file: &str) -> Result<&Cursor<'a>, TimeloopError> {
        self.get(key).ok_or_else(|| TimeloopError {
            file: file.into(),
            line: 0,
            path: key.into(),
            reason: format!("the set has no `{key}`; add the file that holds it"),
        })
    }
}

/// Reads a set from its texts, each with a label (a file's name) for messages.
///
/// # Errors
/// The first mistake, with its place.
pub fn read(texts: &[(&str, &str)]) -> Result<Reading, TimeloopError> {
    let mut documents: Vec<(&str, Node)> = Vec::new();
    for (label, text) in texts {
        for node in parse(label, text)? {
            documents.push((label, node));
        }
    }
    let mut sections = Sections::default();
    for (label, node) in &documents {
        collect(Cursor::top(label, node), &mut sections)?;
    }
    let label = texts.first().map_or("", |(label, _)| label);
    assemble(&sections, label)
}

fn collect<'a>(top: Cursor<'a>, sections: &mut Sections<'a>) -> Result<(), TimeloopError> {
    if matches!(top.node.value, Value::Null) {
        return Ok(());
    }
    for (key, cursor) in top.entries()? {
        let key = key.to_ascii_lowercase().replace('-', "_");
        match key.as_str() {
            "arch" => sections.found.push(("architecture".into(), cursor)),
            "mapspace" => {
                cursor.only(&["constraints", "template", "version"], "a map space")?;
                if let Some(inner) = cursor.get("constraints") {
                    sections.found.push(("constraints".into(), inner));
                }
            }
            "architecture_constraints" | "mapspace_constraints" | "arch_constraints" => {
                sections.found.push(("constraints".into(), cursor));
            }
            "architecture" | "problem" | "mapping" => {
                if sections.get(&key).is_some() {
                    return Err(cursor.fail("stands twice in the set; keep one"));
                }
                sections.found.push((key, cursor));
            }
            "constraints" | "ert" | "ert_summary" | "mapper" => sections.found.push((key, cursor)),
            "sparse_optimizations" => {
                if !cursor.is_empty() {
                    return Err(cursor.fail(
                        "sparse designs are not told in this convention; drop the key for the dense figures",
                    ));
                }
            }
            k if PASSED_OVER.contains(&k) => {}
            _ => {
                return Err(cursor.fail(
                    "is no key of a Timeloop set that presil knows; remove it if it does not matter",
                ));
            }
        }
    }
    Ok(())
}

fn assemble(sections: &Sections<'_>, label: &str) -> Result<Reading, TimeloopError> {
    let problem = Problem::read(sections.need("problem", label)?)?;
    let mut energies = Energies::default();
    for key in ["ert", "ert_summary"] {
        for cursor in sections.all(key) {
            energies.read(cursor)?;
        }
    }
    let mut notes = Vec::new();
    let mut arch = Architecture::read(
        sections.need("architecture", label)?,
        &energies,
        &problem,
        &mut notes,
    )?;
    let mut limits = Constraints::default();
    for cursor in sections.all("constraints") {
        constraints::read(cursor, &problem, &mut arch, &mut limits)?;
    }
    constraints::read_embedded(&problem, &mut arch, &mut limits)?;
    limits.perfect = true;
    let tree = match sections.get("mapping") {
        Some(cursor) if !cursor.is_empty() => Some(mapping::read(cursor, &problem, &arch)?),
        _ => None,
    };
    let objective = match sections.get("mapper") {
        Some(cursor) => objective(cursor)?,
        None => Objective::Edp,
    };
    Ok(Reading {
        case: case(problem, arch, limits, tree, objective),
        notes,
    })
}

/// A case of read parts.
fn case(
    problem: Problem,
    arch: Architecture<'_>,
    constraints: Constraints,
    mapping: Option<crate::looptree::LoopTree>,
    objective: Objective,
) -> Case {
    Case {
        name: problem.name.clone(),
        tensors: problem.tensors(arch.word_bits()),
        einsums: vec![CaseEinsum {
            name: problem.name.clone(),
            operands: (0..problem.operands.len()).collect(),
            einsum: problem.einsum,
            hierarchy: arch.hierarchy,
            mapping,
            constraints,
        }],
        convention: Convention::Timeloop,
        objective,
        clock_hz: arch.clock_hz,
    }
}

/// What the mapper is told to make small: the first of its metrics. Timeloop's own default is EDP.
fn objective(mapper: &Cursor<'_>) -> Result<Objective, TimeloopError> {
    let metrics = mapper
        .get("optimization_metrics")
        .or_else(|| mapper.get("optimization_metric"));
    let Some(metrics) = metrics else {
        return Ok(Objective::Edp);
    };
    let names = metrics.words()?;
    match names.first().map(String::as_str) {
        Some("delay" | "latency" | "cycles") => Ok(Objective::Latency),
        Some("energy") => Ok(Objective::Energy),
        Some("edp") | None => Ok(Objective::Edp),
        Some(other) => Err(metrics.fail(format!(
            "presil has no objective `{other}`; use delay, energy or edp"
        ))),
    }
}
