//! Layers that ZigZag mapped and evaluated: every figure that it recorded, layer by layer.

use presil_mapper::interop::zigzag::{compare, read};

use super::super::Case;
use super::{Figure, File, compared, failed};

const CLASS: &str = "peer: zigzag";
/// Relative differences that are rounding.
const TOLERANCE: f64 = 1e-9;

/// The layers of a file.
pub(super) fn cases(file: &File) -> Vec<Case> {
    let fail = |reason: String| vec![failed(CLASS, &file.name, file, reason)];
    let recorded = match read(&file.text) {
        Ok(recorded) => recorded,
        Err(error) => return fail(error.to_string()),
    };
    let differences = match compare(&recorded, TOLERANCE) {
        Ok(differences) => differences,
        Err(error) => return fail(error.to_string()),
    };
    let layers = recorded.case.einsums.iter().zip(&recorded.figures);
    let case = |(einsum, figures): (&presil_mapper::case::CaseEinsum, &Vec<_>)| {
        let of_layer = differences.iter().filter(|d| d.layer == einsum.name);
        let differences: Vec<Figure> = of_layer
            .map(|d| Figure {
                name: d.figure.clone(),
                expected: d.expected,
                got: d.got,
            })
            .collect();
        let name = format!("{}: {}", recorded.case.name, einsum.name);
        compared(CLASS, &name, file, figures.len(), &differences, 0)
    };
    layers.map(case).collect()
}
