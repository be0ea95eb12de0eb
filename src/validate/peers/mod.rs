//! Files of peers: what other tools say of given mappings, and the optima that they found.
//!
//! | file | class | what must hold |
//! |---|---|---|
//! | `optima_accelforge*.json` | peer optimum: accelforge | the mapping found is no worse than the given optimum, in convention `accelforge` |
//! | `timeloop_fixed.json`, `timeloop_exercises.json` | peer: timeloop | every figure printed for a given mapping is equal |
//! | `*.json` in a folder `zigzag` | peer: zigzag | every figure recorded for a layer is equal to 1e-9 |
//! | `scalesim.csv` | peer: scalesim | every figure with a closed form is equal to 1e-9 |
//! | `dram_efficiency_dramsim3.csv` | peer: dramsim3 | the share of the peak that a pattern reaches: HBM2 reads within 3 %, with writes 10 %, DDR4 sequential reads 5 %; others are reported |
//! | `vela.json` with `.tflite` files | estimate: vela | the total of each network is within 25 % |
//! | files of [`presil_numerics::reference`] | numerics | every case is equal, or contradicted by its own reference |
//!
//! A case of given mappings passes if all of its figures are equal; its error is the largest relative difference.
//! A file that cannot be read is one case that fails, with the reason; it costs no other.

mod dram;
mod numerics;
mod optima;
mod scalesim;
mod timeloop;
mod vela;
mod zigzag;

use std::path::{Path, PathBuf};

use presil_numerics::reference::Source;
use rayon::prelude::*;

use super::files::{all_files, text};
use super::{Case, ValidateError, relative};

/// What a file is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Optima that AccelForge found.
    AccelForge,
    /// Mappings that Timeloop evaluated.
    Timeloop,
    /// Layers that ZigZag mapped and evaluated.
    ZigZag,
    /// Layers that SCALE-Sim ran.
    ScaleSim,
    /// Networks that Vela estimated.
    Vela,
    /// Patterns that DRAMsim3 ran.
    Dram,
    /// Numbers of other implementations.
    Numerics(Source),
}

/// A file of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    kind: Kind,
    name: String,
    text: String,
    /// Where it lies; none for built-in files.
    folder: Option<PathBuf>,
}

macro_rules! numerics {
    ($source:ident, $name:literal) => {
        (
            Kind::Numerics(Source::$source),
            $name,
            include_str!(concat!("../../../tests/data/numerics/", $name)),
        )
    };
}

const BUILT_IN: [(Kind, &str, &str); 14] = [
    (
        Kind::AccelForge,
        "optima_accelforge.json",
        include_str!("../../../tests/data/mapping/optima_accelforge.json"),
    ),
    (
        Kind::Timeloop,
        "timeloop_fixed.json",
        include_str!("../../../tests/data/mapping/timeloop_fixed.json"),
    ),
    (
        Kind::ScaleSim,
        "scalesim.csv",
        include_str!("../../../tests/data/systolic/scalesim.csv"),
    ),
    (
        Kind::Vela,
        "vela.json",
        include_str!("../../../tests/data/vela/vela.json"),
    ),
    (
        Kind::Dram,
        "dram_efficiency_dramsim3.csv",
        include_str!("../../../tests/data/dram/dram_efficiency_dramsim3.csv"),
    ),
    numerics!(Codes, "formats.json"),
    numerics!(Casts, "rounding_cases.csv"),
    numerics!(Mx, "mx.json"),
    numerics!(Nvfp4, "nvfp4.json"),
    numerics!(Nf4, "nf4.json"),
    numerics!(Gguf, "gguf.json"),
    numerics!(Requantization, "mbqm.csv"),
    numerics!(Mma, "mma.json"),
    numerics!(Fp8Gemm, "fp8_gemm.json"),
];

/// The built-in files of peers, or those in a folder.
pub(super) fn files(data: Option<&Path>) -> Result<Vec<File>, ValidateError> {
    let Some(folder) = data else {
        let file = |(kind, name, text): &(Kind, &str, &str)| File {
            kind: *kind,
            name: (*name).into(),
            text: (*text).into(),
            folder: None,
        };
        return Ok(BUILT_IN.iter().map(file).collect());
    };
    let mut files = Vec::new();
    for path in all_files(folder)? {
        if let Some(kind) = kind_of(&path) {
            let name = path.strip_prefix(folder).unwrap_or(&path);
            files.push(File {
                kind,
                name: name.display().to_string(),
                text: text(&path)?,
                folder: path.parent().map(Path::to_path_buf),
            });
        }
    }
    Ok(files)
}

/// What a file is of, by its name and folder.
fn kind_of(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    let folder = path.parent().and_then(Path::file_name);
    let json = name.ends_with(".json");
    match name {
        _ if json && name.starts_with("optima_accelforge") => Some(Kind::AccelForge),
        "timeloop_fixed.json" | "timeloop_exercises.json" => Some(Kind::Timeloop),
        "scalesim.csv" => Some(Kind::ScaleSim),
        "vela.json" => Some(Kind::Vela),
        "dram_efficiency_dramsim3.csv" => Some(Kind::Dram),
        _ if json && folder.is_some_and(|f| f == "zigzag") => Some(Kind::ZigZag),
        _ => Source::of_file(name).map(Kind::Numerics),
    }
}

/// All cases of some files.
pub(super) fn cases(files: &[File]) -> Vec<Case> {
    let cases = files.par_iter().flat_map_iter(|file| match file.kind {
        Kind::AccelForge => optima::cases(file),
        Kind::Timeloop => timeloop::cases(file),
        Kind::ZigZag => zigzag::cases(file),
        Kind::ScaleSim => scalesim::cases(file),
        Kind::Vela => vela::cases(file),
        Kind::Dram => dram::cases(file),
        Kind::Numerics(source) => numerics::cases(file, source),
    });
    cases.collect()
}

/// A figure of a peer and presil's.
#[derive(Debug, Clone, PartialEq)]
struct Figure {
    name: String,
    expected: f64,
    got: f64,
}

/// A case of a given mapping: so many figures, of which some differ. `untold` are those without a closed form.
fn compared(
    class: &str,
    name: &str,
    file: &File,
    figures: usize,
    differences: &[Figure],
    untold: usize,
) -> Case {
    let error = |f: &Figure| relative(f.got, f.expected).abs();
    // A figure that is there on one side only has no relative error: it counts as all wrong.
    let size = |f: &Figure| if error(f).is_finite() { error(f) } else { 1.0 };
    let worst = differences
        .iter()
        .max_by(|a, b| size(a).total_cmp(&size(b)));
    let mut note = worst.map_or(String::new(), |f| {
        format!(
            "{} figures differ; most {}: {} instead of {}",
            differences.len(),
            f.name,
            f.got,
            f.expected
        )
    });
    if untold > 0 {
        let more = format!("{untold} figures have no closed form");
        note = if note.is_empty() {
            more
        } else {
            format!("{note}; {more}")
        };
    }
    Case {
        name: name.into(),
        class: class.into(),
        predicted: Some((figures - differences.len().min(figures)) as f64),
        reference: figures as f64,
        unit: "equal figures".into(),
        error: Some(worst.map_or(0.0, size)),
        tolerance: Some(0.0),
        passed: differences.is_empty() && figures > 0,
        source: file.name.clone(),
        note,
    }
}

/// A case that could not be looked at.
fn failed(class: &str, name: &str, file: &File, reason: String) -> Case {
    Case {
        name: name.into(),
        class: class.into(),
        predicted: None,
        reference: 0.0,
        unit: String::new(),
        error: None,
        tolerance: Some(0.0),
        passed: false,
        source: file.name.clone(),
        note: reason,
    }
}

/// A case that says nothing of presil: reported, not judged.
fn left_out(class: &str, name: &str, file: &File, reason: String) -> Case {
    Case {
        tolerance: None,
        ..failed(class, name, file, reason)
    }
}
