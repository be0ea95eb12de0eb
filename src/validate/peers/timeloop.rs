//! Mappings that Timeloop evaluated: every figure that it printed.

use presil_mapper::interop::timeloop::reference::{ReferenceError, compare, id_of};
use rayon::prelude::*;
use serde_json::Value;

use super::super::Case;
use super::{Figure, File, compared, failed, left_out};

const CLASS: &str = "peer: timeloop";

/// The cases of a file.
pub(super) fn cases(file: &File) -> Vec<Case> {
    let json: Value = match serde_json::from_str(&file.text) {
        Ok(json) => json,
        Err(error) => return vec![failed(CLASS, &file.name, file, error.to_string())],
    };
    let Some(cases) = json.get("cases").and_then(Value::as_array) else {
        let reason = "it has no list `cases`";
        return vec![failed(CLASS, &file.name, file, reason.into())];
    };
    cases.par_iter().map(|c| case(file, c)).collect()
}

fn case(file: &File, json: &Value) -> Case {
    match compare(json) {
        Ok(comparison) => {
            let differences: Vec<Figure> = comparison
                .differences
                .into_iter()
                .map(|d| Figure {
                    name: d.figure,
                    expected: d.expected,
                    got: d.got,
                })
                .collect();
            let (id, figures) = (&comparison.id, comparison.figures);
            compared(CLASS, id, file, figures, &differences, 0)
        }
        Err(ReferenceError::Sparse { id }) => {
            let reason = "a sparse design, which is not told in this convention";
            left_out(CLASS, &id, file, reason.into())
        }
        Err(error) => failed(CLASS, &id_of(json), file, error.to_string()),
    }
}
