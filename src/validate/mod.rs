//! Reference cases: what presil says beside what silicon and exact counts say.
//!
//! The ones in `configs/validation/` and `tests/data/mapping/` are built in, and a folder of the user's own files of
//! the same names is read with `--data`:
//!
//! - `counts.csv`: `model,phase,batch,tokens,macs,parameters,source`: exact counts, which must be equal.
//!   `tokens` is the prompt of a prefill, the context of a decode, empty otherwise.
//! - `measured.csv`: `case,class,chip,model,precision,batch,prompt,generate,op,metric,value,unit,tolerance,source,note`:
//!   a figure of one op (or of the whole model where `op` is empty). `class` is `silicon`, `rtl` or `estimate`.
//!   `metric` is `latency` (s, ms, us), `ttft`, `tpot`, `throughput` (TOPS: executed MACs count two),
//!   `dram_bytes` (B, kB, MB), `energy` (J, mJ, uJ), `power` (W, mW: energy over latency) or `chip_power` (the root
//!   memory's energy left out); of an op that runs in passes also `processing_latency` (without transfers between
//!   passes), `array_bytes` (between buffer and array) and `active_pes` (PE).
//!   `tolerance` is the relative error that passes; where it is empty the case is reported, not judged.
//!   `model` may be a path relative to the file's folder.
//! - measured kernels of GPUs ([`crate::silicon`]), in the folder or up to two folders below it;
//! - files of peers (`peers`), in the folder or up to two folders below it: what other tools say of given mappings,
//!   the optima that they found, and what other implementations make of numbers.
//!
//! The relative error is `(presil - reference) / reference`; a class reports the mean, median and largest of its
//! absolute value.

mod counts;
mod files;
mod measured;
mod peers;
mod table;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;
use thiserror::Error;

use counts::{CountRow, count_cases};
pub(crate) use files::{all_files, rows as csv_rows, text};
use files::{rows, text_of};
use measured::{MeasuredRow, measured_cases};
use table::sum_up;

/// Class of groups of cases of number formats and arithmetic.
const NUMERICS: &str = "numerics";

/// Why the cases could not be read.
#[derive(Debug, Error)]
pub enum ValidateError {
    /// The folder has none of the files.
    #[error(
        "`{0}` holds neither counts.csv nor measured.csv, nor files of peers (docs/reference-cases.md names them)"
    )]
    Empty(PathBuf),
    /// A file can't be read.
    #[error("cannot read `{path}`: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A row is wrong.
    #[error("{file}: {error}")]
    Row {
        /// The file.
        file: String,
        /// What is wrong and in which line.
        error: String,
    },
}

/// A reference case with presil's answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Case {
    /// Name.
    pub name: String,
    /// "silicon", "rtl", "estimate", "exact counts", "numerics".
    pub class: String,
    /// What presil says, in the unit; `None` where it can't, with the reason in `note`.
    pub predicted: Option<f64>,
    /// What the reference says.
    pub reference: f64,
    /// Unit of both.
    pub unit: String,
    /// (predicted - reference) / reference.
    pub error: Option<f64>,
    /// Largest error that passes; `None`: reported only.
    pub tolerance: Option<f64>,
    /// Whether it is judged and within its tolerance.
    pub passed: bool,
    /// Where the reference comes from.
    pub source: String,
    /// What a reader must know.
    pub note: String,
}

/// Cases of a class, summed up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Class {
    /// Class.
    pub class: String,
    /// Cases.
    pub cases: usize,
    /// Cases with a tolerance.
    pub judged: usize,
    /// Judged cases that pass.
    pub passed: usize,
    /// Mean of the absolute errors.
    pub mean_error: Option<f64>,
    /// Median of the absolute errors.
    pub median_error: Option<f64>,
    /// Largest absolute error.
    pub max_error: Option<f64>,
    /// Names of the worst cases, worst first.
    pub worst: Vec<String>,
}

/// The trust table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Validation {
    /// Version of the tool.
    pub version: &'static str,
    /// One row a class.
    pub classes: Vec<Class>,
    /// All cases.
    pub cases: Vec<Case>,
}

/// Runs every built-in case, or those of a folder.
pub fn validate(data: Option<&Path>) -> Result<Validation, ValidateError> {
    let counts = text_of(data, "counts.csv")?;
    let measured = text_of(data, "measured.csv")?;
    let peers = peers::files(data)?;
    let silicon = crate::silicon::read(&match data {
        Some(folder) => all_files(folder)?,
        None => Vec::new(),
    })?;
    let none = peers.is_empty() && silicon.is_empty();
    if let (Some(folder), None, None, true) = (data, &counts, &measured, none) {
        return Err(ValidateError::Empty(folder.into()));
    }
    let counts: Vec<CountRow> = rows("counts.csv", counts.as_deref().unwrap_or_default())?;
    let measured: Vec<MeasuredRow> = rows("measured.csv", measured.as_deref().unwrap_or_default())?;
    let mut cases: Vec<Case> = counts.par_iter().flat_map_iter(count_cases).collect();
    cases.extend(measured_cases(data, &measured));
    cases.extend(peers::cases(&peers));
    if !silicon.is_empty() {
        cases.extend(crate::silicon::cases(&silicon)?);
    }
    Ok(Validation {
        version: crate::VERSION,
        classes: sum_up(&cases),
        cases,
    })
}

/// (predicted - reference) / reference, 0 where they are equal.
pub(crate) fn relative(predicted: f64, reference: f64) -> f64 {
    if predicted == reference {
        0.0
    } else {
        (predicted - reference) / reference
    }
}
