//! Reference cases of number formats: what other implementations made of given numbers, compared case by case.
//!
//! A file is of one [`Source`], recognized by its name; its cases are counted in [`Group`]s (of a format, a block type,
//! a generation of units). A case passes if presil's result is the reference's, bit for bit; NaN equals NaN, since
//! payloads differ between implementations. A case that its own reference contradicts is not passed but listed with
//! the reason. Each reason is a condition on the case, checked there, and none is a list of names:
//!
//! ```text
//! cases = passed + listed + failed
//! ```
//!
//! A file whose text is malformed has an error and no counts.
//!
//! | file | made by | a case |
//! |---|---|---|
//! | `formats.json` | ml_dtypes | the number of a code |
//! | `rounding_cases.csv` | ml_dtypes | the code of an f32 |
//! | `mx.json` | torchao, microxcaling | a block of 32 under one scale rule or rounding |
//! | `nvfp4.json` | torchao | a tensor with one or two levels of scales |
//! | `nf4.json` | bitsandbytes | a tensor in NF4 or FP4 blocks; a scale quantized twice |
//! | `gguf.json` | gguf-py | a block read; a block written |
//! | `mbqm.csv` | gemmlowp's and TFLite's formulas | an accumulator times a multiplier, rounded twice and once |
//! | `mma.json` | MMA-Sim | a matrix instruction |
//! | `fp8_gemm.json` | mmaemu | a matrix product of FP8 |
//!
//! `tests/data/numerics/README.md` says where the files of the repository come from.

mod fp8_gemm;
mod gguf;
mod ml_dtypes;
mod mma;
mod mx;
mod nf4;
mod nvfp4;
mod requantization;
mod text;

use thiserror::Error;

use crate::arithmetic::presets::TableError;

/// Cases of one kind, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Whose cases, and of what.
    pub name: String,
    /// All cases.
    pub cases: usize,
    /// Those in which presil's result is the reference's.
    pub passed: usize,
    /// Those that their own reference contradicts.
    pub listed: Vec<Listed>,
    /// Names of the others.
    pub failed: Vec<String>,
}

/// A case that its own reference contradicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The case.
    pub name: String,
    /// What the reference does there that its own rule does not say.
    pub reason: &'static str,
}

/// What a comparison says of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    Listed(&'static str),
    Failed,
}

impl Verdict {
    fn of(equal: bool) -> Self {
        if equal { Self::Passed } else { Self::Failed }
    }
}

impl Group {
    fn new(name: String) -> Self {
        Self {
            name,
            cases: 0,
            passed: 0,
            listed: Vec::new(),
            failed: Vec::new(),
        }
    }

    fn count(&mut self, verdict: Verdict, name: impl FnOnce() -> String) {
        self.cases += 1;
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Listed(reason) => self.listed.push(Listed {
                name: name(),
                reason,
            }),
            Verdict::Failed => self.failed.push(name()),
        }
    }
}

/// Groups in the order in which their first cases come.
#[derive(Debug, Default)]
struct Groups(Vec<Group>);

impl Groups {
    fn named(&mut self, name: &str) -> &mut Group {
        let at = self.0.iter().position(|g| g.name == name);
        let at = at.unwrap_or_else(|| {
            self.0.push(Group::new(name.into()));
            self.0.len() - 1
        });
        &mut self.0[at]
    }
}

/// Why a file of cases can't be compared.
#[derive(Debug, Error)]
pub enum ReferenceError {
    /// Its text is no JSON of its form.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Its text is no CSV of its form.
    #[error("{0}")]
    Csv(#[from] csv::Error),
    /// It has no case.
    #[error("no cases in the file")]
    Empty,
    /// A name that stands for nothing.
    #[error("no {what} of the name `{name}`")]
    Unknown {
        /// What it should name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A list of the wrong length.
    #[error("{case}: {got} {what}, not {expected}")]
    Length {
        /// The case.
        case: String,
        /// What is listed.
        what: &'static str,
        /// How many there must be.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// A number that the case can't have.
    #[error("{case}: {what} {value} is out of range")]
    Range {
        /// The case.
        case: String,
        /// What it is.
        what: &'static str,
        /// The number.
        value: String,
    },
    /// The table of units can't be read.
    #[error("{0}")]
    Units(#[from] TableError),
}

/// Refuses a list that has not the length it must have.
fn check_length(
    case: &str,
    what: &'static str,
    expected: usize,
    got: usize,
) -> Result<(), ReferenceError> {
    if expected == got {
        return Ok(());
    }
    Err(ReferenceError::Length {
        case: case.into(),
        what,
        expected,
        got,
    })
}

/// Whose cases a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Numbers of codes, by ml_dtypes.
    Codes,
    /// Casts from f32, by ml_dtypes.
    Casts,
    /// MX blocks, by torchao and microxcaling.
    Mx,
    /// NVFP4, by torchao.
    Nvfp4,
    /// NF4 and FP4, by bitsandbytes.
    Nf4,
    /// GGUF blocks, by gguf-py.
    Gguf,
    /// Requantization, by gemmlowp's and TFLite's formulas.
    Requantization,
    /// Matrix instructions, by MMA-Sim.
    Mma,
    /// Matrix products of FP8, by mmaemu.
    Fp8Gemm,
}

/// Every source and the name of its file.
const FILES: [(Source, &str); 9] = [
    (Source::Codes, "formats.json"),
    (Source::Casts, "rounding_cases.csv"),
    (Source::Mx, "mx.json"),
    (Source::Nvfp4, "nvfp4.json"),
    (Source::Nf4, "nf4.json"),
    (Source::Gguf, "gguf.json"),
    (Source::Requantization, "mbqm.csv"),
    (Source::Mma, "mma.json"),
    (Source::Fp8Gemm, "fp8_gemm.json"),
];

impl Source {
    /// The source of a file of this name.
    pub fn of_file(name: &str) -> Option<Self> {
        let file = FILES.iter().find(|(_, file)| *file == name);
        file.map(|(source, _)| *source)
    }

    /// Compares every case of a file's text.
    pub fn groups(self, text: &str) -> Result<Vec<Group>, ReferenceError> {
        let Groups(mut groups) = match self {
            Self::Codes => ml_dtypes::codes(text),
            Self::Casts => ml_dtypes::casts(text),
            Self::Mx => mx::groups(text),
            Self::Nvfp4 => nvfp4::groups(text),
            Self::Nf4 => nf4::groups(text),
            Self::Gguf => gguf::groups(text),
            Self::Requantization => requantization::groups(text),
            Self::Mma => mma::groups(text),
            Self::Fp8Gemm => fp8_gemm::groups(text),
        }?;
        groups.retain(|g| g.cases > 0);
        if groups.is_empty() {
            return Err(ReferenceError::Empty);
        }
        Ok(groups)
    }
}
