//! Layers that ZigZag mapped and evaluated: every figure that it recorded, layer by layer.

use presil_mapper::interop::zigzag::{Difference, RecordedLayer, read};
use rayon::prelude::*;

use super::super::Case;
use super::{Figure, File, compared, failed};

const CLASS: &str = "peer: zigzag";
/// Relative differences that are rounding.
const TOLERANCE: f64 = 1e-9;

/// The layers of a file.
pub(super) fn cases(file: &File) -> Vec<Case> {
    match read(&file.text) {
        Ok(layers) => layers.par_iter().map(|l| case(file, l)).collect(),
        Err(error) => vec![failed(CLASS, &file.name, file, error.to_string())],
    }
}

fn case(file: &File, layer: &RecordedLayer) -> Case {
    let stem = file.name.rsplit(['/', '\\']).next().unwrap_or(&file.name);
    let name = format!("{} {}", stem.trim_end_matches(".json"), layer.case.name);
    let figure = |d: Difference| Figure {
        name: d.figure,
        expected: d.expected,
        got: d.got,
    };
    match layer.compare(TOLERANCE) {
        Ok(differences) => {
            let differences: Vec<Figure> = differences.into_iter().map(figure).collect();
            compared(CLASS, &name, file, layer.figures.len(), &differences, 0)
        }
        Err(error) => failed(CLASS, &name, file, error.to_string()),
    }
}
