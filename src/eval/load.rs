//! Cases from files, told by their endings: `.toml` and `.json` are case files, one each; `.yaml` files together
//! are Timeloop's set. A `.cfg` and a `.csv` together are SCALE-Sim's, whose layers have no mapping
//! ([`super::systolic`]).

use std::path::{Path, PathBuf};

use presil_hwmodels::Chip;
use presil_mapper::case::chip::{clock_hz, hierarchy};
use presil_mapper::case::read::{CaseError, read};
use presil_mapper::case::{Case, resolve::Machine};
use thiserror::Error;

/// Largest file that is read.
const MAX_BYTES: u64 = 64 << 20;

/// A case, and what was assumed when it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The case.
    pub case: Case,
    /// What a reader of its figures must know.
    pub notes: Vec<String>,
}

/// Why there is no case. `Display` is the full text for the user.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A file that can't be read.
    #[error("cannot read `{}`: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A file of no known form.
    #[error(
        "`{0}` is of no known form; a case is a .toml or .json file, a set of Timeloop .yaml files, or a SCALE-Sim .cfg with its .csv"
    )]
    Form(String),
    /// Files that do not go together.
    #[error("{0}")]
    Set(String),
    /// A case file with mistakes.
    #[error(transparent)]
    Case(#[from] CaseError),
}

/// Reads the cases of some files. `chip` is the machine of case files that write no levels.
///
/// # Errors
/// If a file can't be read, or means nothing.
pub fn load(paths: &[PathBuf], chip: Option<&Chip>) -> Result<Vec<Loaded>, LoadError> {
    let ends = |path: &PathBuf, endings: &[&str]| {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        endings.contains(&ending.to_lowercase().as_str())
    };
    let of = |endings: &[&str]| -> Vec<PathBuf> {
        paths.iter().filter(|p| ends(p, endings)).cloned().collect()
    };
    let (files, yaml) = (of(&["toml", "json"]), of(&["yaml", "yml"]));
    if let Some(other) = paths
        .iter()
        .find(|p| !ends(p, &["toml", "json", "yaml", "yml"]))
    {
        return Err(LoadError::Form(other.display().to_string()));
    }
    let mut cases = Vec::new();
    for path in &files {
        cases.push(case_file(path, &text(path)?, chip)?);
    }
    if !yaml.is_empty() {
        cases.push(timeloop(&texts(&yaml)?)?);
    }
    Ok(cases)
}

/// Splits off SCALE-Sim's files: `.cfg` and `.csv`, as labels and texts, and all others.
///
/// # Errors
/// If a file can't be read.
#[expect(clippy::type_complexity, reason = "three lists of labelled texts")]
pub fn split_systolic(
    paths: &[PathBuf],
) -> Result<(Vec<(String, String)>, Vec<(String, String)>, Vec<PathBuf>), LoadError> {
    let is = |path: &&PathBuf, ending: &str| path.extension().is_some_and(|e| e == ending);
    let of = |ending: &str| -> Vec<PathBuf> {
        paths.iter().filter(|p| is(p, ending)).cloned().collect()
    };
    let others = paths.iter().filter(|p| !is(p, "cfg") && !is(p, "csv"));
    Ok((
        texts(&of("cfg"))?,
        texts(&of("csv"))?,
        others.cloned().collect(),
    ))
}

pub(crate) fn text(path: &Path) -> Result<String, LoadError> {
    let error = |reason: String| LoadError::Read {
        path: path.into(),
        reason,
    };
    let metadata = std::fs::metadata(path).map_err(|e| error(e.to_string()))?;
    if !metadata.is_file() {
        return Err(error("it is not a file".into()));
    }
    if metadata.len() > MAX_BYTES {
        return Err(error(format!("it is larger than {MAX_BYTES} bytes")));
    }
    std::fs::read_to_string(path).map_err(|e| error(e.to_string()))
}

/// Labels and texts.
fn texts(paths: &[PathBuf]) -> Result<Vec<(String, String)>, LoadError> {
    let labelled = |p: &PathBuf| Ok((p.display().to_string(), text(p)?));
    paths.iter().map(labelled).collect()
}

fn case_file(path: &Path, text: &str, chip: Option<&Chip>) -> Result<Loaded, LoadError> {
    let origin = path.display().to_string();
    let Some(chip) = chip else {
        let case = read(&origin, text, None)?;
        return Ok(Loaded {
            case,
            notes: Vec::new(),
        });
    };
    let on_chip: Machine<'_> = &|einsum, bits| hierarchy(chip, einsum, bits);
    let mut case = read(&origin, text, Some(on_chip))?;
    case.clock_hz = case.clock_hz.or(clock_hz(chip));
    let note = format!(
        "machine: the first array of chip {}, partial sums in its accumulator's width",
        chip.name
    );
    Ok(Loaded {
        case,
        notes: vec![note],
    })
}

/// A Timeloop set: architecture, problem, mapping, constraints, energy reference table.
fn timeloop(texts: &[(String, String)]) -> Result<Loaded, LoadError> {
    let texts: Vec<(&str, &str)> = texts
        .iter()
        .map(|(l, t)| (l.as_str(), t.as_str()))
        .collect();
    match presil_mapper::interop::timeloop::read(&texts) {
        Ok(reading) => Ok(Loaded {
            case: reading.case,
            notes: reading.notes,
        }),
        Err(error) => Err(LoadError::Set(error.to_string())),
    }
}
