//! Board power over large and over memory-bound products: `gemm_power.csv`.
//!
//! A row sums up many products: rate and power of those with m, n, k >= 4096, and of those with few rows on large
//! weights. The shapes are not told: the model's figure is the median over m, n, k of 4096, 8192 and 16384; of
//! memory-bound ones that of 8 x 16384 x 16384.

use presil_mapper::kernels::{Machine, Matmul, machine, matmul};
use presil_mapper::schedule::arrays;
use serde::Deserialize;

use super::predict::{Chips, formats};
use crate::validate::{Case, ValidateError, csv_rows, relative};

#[derive(Debug, Clone, Deserialize)]
pub(super) struct PowerRow {
    sys: String,
    fw: String,
    dtype: String,
    #[serde(rename = "pJ_per_flop")]
    per_flop: Option<f64>,
    #[serde(rename = "pJ_per_weightbyte")]
    per_byte: Option<f64>,
}

/// The rows of `gemm_power.csv`.
pub(super) fn rows(text: &str) -> Result<Vec<PowerRow>, ValidateError> {
    csv_rows("gemm_power.csv", text)
}

/// Two cases a row, as far as it has both figures.
pub(super) fn cases(chips: &Chips, rows: &[PowerRow]) -> Vec<Case> {
    rows.iter().flat_map(|row| of_row(chips, row)).collect()
}

fn of_row(chips: &Chips, row: &PowerRow) -> Vec<Case> {
    let base = row.dtype.trim_end_matches("_block");
    let found = chips.of(&row.sys).zip(formats(base)).and_then(|(chip, f)| {
        let (_, mode) = arrays(chip, [f.input, f.weight]).first().copied()?;
        Some((machine(chip, mode)?, f.bits))
    });
    let case = |what: &str, unit: &str, reference: Option<f64>, predicted: Option<f64>| {
        reference.map(|reference| Case {
            name: format!("{} {} {} {what}", row.sys, row.fw, row.dtype),
            class: format!("silicon: gpu board energy {what}"),
            predicted,
            reference,
            unit: unit.into(),
            error: predicted.map(|p| relative(p, reference)),
            tolerance: None,
            passed: false,
            source: "gemm_power.csv".into(),
            note: String::new(),
        })
    };
    let large = found.as_ref().and_then(|(x, bits)| large(x, *bits));
    let small = found.as_ref().and_then(|(x, bits)| {
        let p = product([8, 16384, 16384], *bits);
        let k = matmul(x, &p)?;
        Some(k.board_energy(x) / p.bytes()[1] * 1e12)
    });
    [
        case("large products", "pJ/flop", row.per_flop, large),
        case("few rows", "pJ/weight byte", row.per_byte, small),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn product([m, n, k]: [u64; 3], bits: [f64; 2]) -> Matmul {
    Matmul {
        m,
        n,
        k,
        batch: 1,
        distinct: 1.0,
        input_bits: bits[0],
        weight_bits: bits[1],
        output_bits: 16.0,
        input_cached: false,
        weight_cached: false,
        output_cached: false,
    }
}

/// Median board energy of a floating-point operation, pJ.
fn large(x: &Machine, bits: [f64; 2]) -> Option<f64> {
    const SIDES: [u64; 3] = [4096, 8192, 16384];
    let mut all = Vec::new();
    for m in SIDES {
        for n in SIDES {
            for k in SIDES {
                let p = product([m, n, k], bits);
                let kernel = matmul(x, &p)?;
                all.push(kernel.board_energy(x) / (2.0 * p.macs()) * 1e12);
            }
        }
    }
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied()
}
