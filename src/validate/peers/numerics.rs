//! Number formats, quantizers and matrix units of other implementations ([`presil_numerics::reference`]): one case a
//! group of a file (a format, a block type, a generation of units), whose figure is how many of its cases are equal.
//! Those that their own reference contradicts are in the group's tolerance and, with the reason, in its note.

use std::collections::BTreeMap;

use presil_numerics::reference::{Group, Source};

use super::super::{Case, NUMERICS, relative};
use super::{File, failed};

/// Names of cases that a note spells out.
const NAMED: usize = 3;

/// The groups of a file.
pub(super) fn cases(file: &File, source: Source) -> Vec<Case> {
    match source.groups(&file.text) {
        Ok(groups) => groups.into_iter().map(|g| case(file, g)).collect(),
        Err(error) => vec![failed(NUMERICS, &file.name, file, error.to_string())],
    }
}

fn case(file: &File, group: Group) -> Case {
    let (passed, cases) = (group.passed as f64, group.cases as f64);
    let note = note(&group);
    Case {
        class: NUMERICS.into(),
        predicted: Some(passed),
        reference: cases,
        unit: "equal cases".into(),
        error: Some(relative(passed, cases)),
        tolerance: Some(group.listed.len() as f64 / cases),
        passed: group.failed.is_empty(),
        source: file.name.clone(),
        name: group.name,
        note,
    }
}

/// What is listed, by reason, and what failed.
fn note(group: &Group) -> String {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for listed in &group.listed {
        let names = by_reason.entry(listed.reason).or_default();
        names.push(&listed.name);
    }
    let listed = by_reason
        .iter()
        .map(|(reason, names)| format!("{} listed ({}): {reason}", names.len(), some_of(names)));
    let mut parts: Vec<String> = listed.collect();
    if !group.failed.is_empty() {
        let names: Vec<&str> = group.failed.iter().map(String::as_str).collect();
        parts.push(format!("{} differ ({})", names.len(), some_of(&names)));
    }
    parts.join("; ")
}

/// The first names, and how many more there are.
fn some_of(names: &[&str]) -> String {
    let mut text: Vec<&str> = names.iter().copied().take(NAMED).collect();
    text.dedup();
    if names.len() > NAMED {
        text.push("...");
    }
    text.join(", ")
}
