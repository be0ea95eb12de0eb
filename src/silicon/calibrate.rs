//! Fits the few parameters that all kernels of a family share.
//!
//! The parameters of `[kernels]` from `launch` to `block_round_trips` are multiplied by one factor each, the same for all
//! chips, ops and formats, so that
//!
//! ```text
//! mean over groups of mean over rows |ln(predicted / measured)|        groups: large and small products, prefill, decode
//! ```
//!
//! is least, over the rows of 16-bit formats of the devices asked for. Half of the rows are fitted on, those whose
//! index in the file has an even hash (SplitMix64); the other half is held apart and tells the error. Then each device in turn is left
//! out whole. The search is Nelder-Mead from the values in the chip files, with a fixed count of evaluations: same data,
//! same result. `mac_energy` is not fitted here: it rests on measured board power, and what latencies say of it is hard to
//! tell from the issue efficiency.

use std::collections::BTreeMap;
use std::path::Path;

use presil_hwmodels::KernelParameters;
use serde::Serialize;

use super::measuring::Measuring;
use super::predict::{Chips, Predicted, Subject, predictions};
use super::rows::{File, Op, Row};
use crate::validate::{ValidateError, all_files};

/// Evaluations of a fit.
const EVALUATIONS: usize = 500;
/// Evaluations of a fit with a device left out.
const LEFT_OUT_EVALUATIONS: usize = 160;
/// Factors of parameters.
const PARAMETERS: [&str; 7] = [
    "launch",
    "round_trip",
    "cache_efficiency",
    "issue_efficiency",
    "step_cycles",
    "score_operations",
    "block_round_trips",
];

/// A parameter before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fitted {
    /// Name in the chip file.
    pub name: &'static str,
    /// What the chip files' values are to be multiplied by.
    pub factor: f64,
    /// Value of the first chip, in SI units.
    pub before: f64,
    /// Its value times the factor.
    pub after: f64,
}

/// Errors of a class of rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Errors {
    /// The class.
    pub class: String,
    /// Rows fitted on, and their mean absolute error.
    pub fitted: (usize, Option<f64>),
    /// Rows held apart, and theirs.
    pub held: (usize, Option<f64>),
}

/// A device that the fit never saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeftOut {
    /// Its chip.
    pub chip: String,
    /// Errors of its rows.
    pub errors: Vec<Errors>,
}

/// What a calibration found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Which rows it was fitted on.
    pub subset: String,
    /// The parameters.
    pub parameters: Vec<Fitted>,
    /// Errors of the rows of the devices fitted on.
    pub errors: Vec<Errors>,
    /// Each device left out in turn.
    pub left_out: Vec<LeftOut>,
}

/// Calibrates on the rows of a folder. `chips`: those fitted on; empty: all that have rows.
pub fn calibrate(data: &Path, chips: &[String]) -> Result<Calibration, ValidateError> {
    let (measuring, known) = (Measuring::built_in()?, Chips::built_in()?);
    let data_rows = super::read(&all_files(data)?)?.rows;
    if data_rows.is_empty() {
        return Err(ValidateError::Empty(data.into()));
    }
    let wanted: Vec<Row> = data_rows.into_iter().filter(sixteen_bit).collect();
    let subjects = known.subjects(&wanted, &measuring);
    let all: Vec<Subject> = subjects.into_iter().filter(|s| s.known.is_ok()).collect();
    let asked = |s: &&Subject| chips.is_empty() || chips.iter().any(|c| c == s.chip);
    let own: Vec<&Subject> = all.iter().filter(asked).collect();
    let factors = fit(&own, chosen, EVALUATIONS);
    let errors = errors(&own, &factors, chosen);
    let mut names: Vec<&str> = all.iter().map(|s| s.chip).collect();
    names.sort_unstable();
    names.dedup();
    let everything: Vec<&Subject> = all.iter().collect();
    let left_out = names
        .iter()
        .map(|name| {
            let factors = fit(
                &everything,
                |s| s.chip != *name && chosen(s),
                LEFT_OUT_EVALUATIONS,
            );
            let rows: Vec<&Subject> = all.iter().filter(|s| s.chip == *name).collect();
            LeftOut {
                chip: (*name).into(),
                errors: self::errors(&rows, &factors, |_| false),
            }
        })
        .collect();
    let before = own.first().and_then(|s| s.parameters()).map(values);
    Ok(Calibration {
        subset: format!(
            "rows of 16-bit formats that may be fitted on, whose index has an even hash, of {}",
            if chips.is_empty() {
                names.join(", ")
            } else {
                chips.join(", ")
            }
        ),
        parameters: PARAMETERS
            .iter()
            .enumerate()
            .map(|(i, name)| Fitted {
                name,
                factor: factors[i],
                before: before.map_or(0.0, |b| b[i]),
                after: before.map_or(0.0, |b| b[i] * factors[i]),
            })
            .collect(),
        errors,
        left_out,
    })
}

fn sixteen_bit(row: &Row) -> bool {
    let known = ["bfloat16", "bf16", "fp16", "float16"].contains(&row.dtype.as_str());
    let cache = match &row.op {
        Op::Attention { kv_dtype, .. } => *kv_dtype == row.dtype,
        _ => true,
    };
    known && cache && row.file != File::Vector
}

/// Whether a row is fitted on: the hash of its index (the finalizer of SplitMix64) is even.
fn chosen(s: &Subject) -> bool {
    let mut x = s.row.index as u64;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    s.held.fit && (x ^ (x >> 31)) & 1 == 0
}

/// The group of a row in the loss.
fn group(row: &Row) -> usize {
    match (row.file, &row.op) {
        (File::Gemm, _) if row.latency >= 100.0 => 0,
        (File::Gemm, _) => 1,
        (_, Op::Attention { decode: false, .. }) => 2,
        _ => 3,
    }
}

type Factors = [f64; 7];

fn values(p: KernelParameters) -> Factors {
    [
        p.launch.0,
        p.round_trip.0,
        p.cache_efficiency,
        p.issue_efficiency,
        p.step_cycles,
        p.score_operations,
        p.block_round_trips,
    ]
}

/// Parameters times factors; efficiencies at most 1.
fn scaled(mut p: KernelParameters, f: &Factors) -> KernelParameters {
    p.launch = p.launch * f[0];
    p.round_trip = p.round_trip * f[1];
    p.cache_efficiency = (p.cache_efficiency * f[2]).min(1.0);
    p.issue_efficiency = (p.issue_efficiency * f[3]).min(1.0);
    p.step_cycles *= f[4];
    p.score_operations *= f[5];
    p.block_round_trips *= f[6];
    p
}

fn predicted(subjects: &[&Subject], factors: &Factors) -> Vec<Option<Predicted>> {
    predictions(subjects, |s| s.parameters().map(|p| scaled(p, factors)))
}

/// Mean over groups of the mean |ln(predicted / measured)|.
fn loss(subjects: &[&Subject], factors: &Factors) -> f64 {
    let mut sums = [(0.0, 0usize); 4];
    for (s, p) in subjects.iter().zip(predicted(subjects, factors)) {
        if let Some(p) = p.filter(|p| !p.told && p.latency > 0.0) {
            let entry = &mut sums[group(s.row)];
            entry.0 += (p.latency / s.row.latency).ln().abs();
            entry.1 += 1;
        }
    }
    let means: Vec<f64> = sums
        .iter()
        .filter(|s| s.1 > 0)
        .map(|s| s.0 / s.1 as f64)
        .collect();
    means.iter().sum::<f64>() / means.len().max(1) as f64
}

/// The factors of least loss on the rows that `of` takes.
fn fit(subjects: &[&Subject], of: impl Fn(&Subject) -> bool, evaluations: usize) -> Factors {
    let rows: Vec<&Subject> = subjects.iter().copied().filter(|s| of(s)).collect();
    let objective = |logs: &Factors| loss(&rows, &logs.map(f64::exp));
    minimize(objective, evaluations).map(f64::exp)
}

/// Nelder-Mead from the origin with steps of 0.15.
fn minimize(f: impl Fn(&Factors) -> f64, evaluations: usize) -> Factors {
    const N: usize = 7;
    let mut points: Vec<(Factors, f64)> = Vec::new();
    for i in 0..=N {
        let mut x = [0.0; N];
        if i > 0 {
            x[i - 1] = 0.15;
        }
        points.push((x, f(&x)));
    }
    let mut used = N + 1;
    while used < evaluations {
        points.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut centre = [0.0; N];
        for (x, _) in &points[..N] {
            for (c, v) in centre.iter_mut().zip(x) {
                *c += v / N as f64;
            }
        }
        let worst = points[N];
        let towards = |t: f64| {
            let mut x = centre;
            for (c, w) in x.iter_mut().zip(&worst.0) {
                *c += t * (*c - w);
            }
            (x, f(&x))
        };
        let reflected = towards(1.0);
        used += 1;
        if reflected.1 < points[0].1 {
            let expanded = towards(2.0);
            used += 1;
            points[N] = if expanded.1 < reflected.1 {
                expanded
            } else {
                reflected
            };
        } else if reflected.1 < points[N - 1].1 {
            points[N] = reflected;
        } else {
            let contracted = towards(if reflected.1 < worst.1 { 0.5 } else { -0.5 });
            used += 1;
            if contracted.1 < worst.1.min(reflected.1) {
                points[N] = contracted;
            } else {
                let best = points[0].0;
                for p in points.iter_mut().skip(1) {
                    for (x, b) in p.0.iter_mut().zip(&best) {
                        *x = b + 0.5 * (*x - b);
                    }
                    p.1 = f(&p.0);
                }
                used += N;
            }
        }
    }
    points.sort_by(|a, b| a.1.total_cmp(&b.1));
    points[0].0
}

/// Mean absolute errors by class.
fn errors(
    subjects: &[&Subject],
    factors: &Factors,
    seen: impl Fn(&Subject) -> bool,
) -> Vec<Errors> {
    let mut by: BTreeMap<String, [Vec<f64>; 2]> = BTreeMap::new();
    for (s, p) in subjects.iter().zip(predicted(subjects, factors)) {
        if let Some(p) = p.filter(|p| !p.told) {
            let error = (p.latency / s.row.latency - 1.0).abs();
            by.entry(s.class()).or_default()[usize::from(!seen(s))].push(error);
        }
    }
    let sum = |e: &Vec<f64>| {
        let mean = (!e.is_empty()).then(|| e.iter().sum::<f64>() / e.len() as f64);
        (e.len(), mean)
    };
    by.into_iter()
        .map(|(class, [fitted, held])| Errors {
            class,
            fitted: sum(&fitted),
            held: sum(&held),
        })
        .collect()
}

impl Calibration {
    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mean = |e: Option<f64>| e.map_or("-".into(), |e| format!("{:.1} %", 100.0 * e));
        let mut text = format!(
            "# Calibration\n\nFitted on {}.\n\n| parameter | factor | first chip, before | after |\n|---|---:|---:|---:|\n",
            self.subset
        );
        for p in &self.parameters {
            text.push_str(&format!(
                "| {} | {:.3} | {:.4e} | {:.4e} |\n",
                p.name, p.factor, p.before, p.after
            ));
        }
        text.push_str(
            "\n| class | fitted rows | MAPE | held-out rows | MAPE |\n|---|---:|---:|---:|---:|\n",
        );
        for e in &self.errors {
            text.push_str(&format!(
                "| {} | {} | {} | {} | {} |\n",
                e.class,
                e.fitted.0,
                mean(e.fitted.1),
                e.held.0,
                mean(e.held.1)
            ));
        }
        text.push_str("\n| left out | class | rows | MAPE |\n|---|---|---:|---:|\n");
        for l in &self.left_out {
            for e in &l.errors {
                text.push_str(&format!(
                    "| {} | {} | {} | {} |\n",
                    l.chip,
                    e.class,
                    e.held.0,
                    mean(e.held.1)
                ));
            }
        }
        text
    }
}
