//! Exact counts of models: `counts.csv`.

use serde::Deserialize;

use super::{Case, relative};
use crate::inspect::{Question, inspect};

/// A row of `counts.csv`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct CountRow {
    model: String,
    phase: String,
    batch: u64,
    tokens: Option<u64>,
    macs: u128,
    parameters: Option<u128>,
    source: String,
}

/// The figures of a row: MACs, and parameters if it has them.
pub(super) fn count_cases(row: &CountRow) -> Vec<Case> {
    let name = match row.tokens {
        Some(tokens) => format!("{} {} {tokens}", row.model, row.phase),
        None => row.model.clone(),
    };
    let question = Question {
        model: row.model.clone(),
        decode: row.phase == "decode",
        prompt: row.tokens.unwrap_or(1),
        context: row.tokens.unwrap_or(1),
        batch: row.batch,
        // The references expand latent attention at every step.
        absorb_mla: false,
        shapes: Vec::new(),
        allow_unknown: false,
    };
    let answer = inspect(&question);
    let case = |what: &str, reference: u128, predicted: Result<u128, String>| Case {
        name: format!("{name} {what}"),
        class: "exact counts".into(),
        predicted: predicted.as_ref().ok().map(|p| *p as f64),
        reference: reference as f64,
        unit: what.into(),
        error: predicted
            .as_ref()
            .ok()
            .map(|p| relative(*p as f64, reference as f64)),
        tolerance: Some(0.0),
        passed: predicted == Ok(reference),
        source: row.source.clone(),
        note: predicted.err().unwrap_or_default(),
    };
    let answer = answer.map_err(|e| e.to_string());
    let mut cases = vec![case(
        "macs",
        row.macs,
        answer.as_ref().map(|a| a.macs).map_err(Clone::clone),
    )];
    if let Some(parameters) = row.parameters {
        cases.push(case("parameters", parameters, answer.map(|a| a.parameters)));
    }
    cases
}
