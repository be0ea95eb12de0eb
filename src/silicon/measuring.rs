//! What measured rows hold beside the op: `configs/validation/measuring.csv`.

use presil_numerics::Seconds;
use serde::Deserialize;

use super::rows::{Op, Row};
use crate::validate::{ValidateError, csv_rows};

const BUILT_IN: &str = include_str!("../../configs/validation/measuring.csv");

#[derive(Debug, Clone, Deserialize)]
struct Line {
    file: String,
    framework: String,
    format: String,
    overhead: String,
    read: f64,
    write: f64,
    copies: f64,
    fit: u8,
}

/// All lines.
pub(crate) struct Measuring {
    lines: Vec<(Line, Overhead)>,
}

/// Time of the host and of other kernels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Overhead {
    /// Seconds.
    Fixed(f64),
    /// What the smallest row of the group takes beyond the model.
    Smallest,
}

/// What holds of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Held {
    pub(crate) overhead: Overhead,
    /// Bits read and written per element of the input by kernels before the op.
    pub(crate) before: [f64; 2],
    /// Weights that repetitions rotate between; 0: the cache is cold.
    pub(crate) copies: f64,
    /// Whether a calibration may see it.
    pub(crate) fit: bool,
}

impl Measuring {
    /// The lines that ship.
    pub(crate) fn built_in() -> Result<Self, ValidateError> {
        let lines: Vec<Line> = csv_rows("measuring.csv", BUILT_IN)?;
        let lines: Result<Vec<(Line, Overhead)>, ValidateError> = lines
            .into_iter()
            .map(|l| {
                let overhead = match l.overhead.as_str() {
                    "smallest" => Overhead::Smallest,
                    text => {
                        let seconds: Seconds = text.parse().map_err(|e| ValidateError::Row {
                            file: "measuring.csv".into(),
                            error: format!("{e}"),
                        })?;
                        Overhead::Fixed(seconds.0)
                    }
                };
                Ok((l, overhead))
            })
            .collect();
        Ok(Self { lines: lines? })
    }

    /// What holds of a row; of rows that no line fits: nothing beside the op, a cold cache.
    pub(crate) fn of(&self, row: &Row) -> Held {
        let format = match &row.op {
            Op::Attention { decode: true, .. } => "decode",
            Op::Attention { decode: false, .. } => "prefill",
            _ => row.dtype.as_str(),
        };
        let fits = |pattern: &str, text: &str| pattern == "*" || text.starts_with(pattern);
        let found = self.lines.iter().find(|(l, _)| {
            l.file == row.file.name()
                && fits(&l.framework, &row.framework)
                && fits(&l.format, format)
        });
        found.map_or(
            Held {
                overhead: Overhead::Fixed(0.0),
                before: [0.0; 2],
                copies: 0.0,
                fit: true,
            },
            |(l, overhead)| Held {
                overhead: *overhead,
                before: [l.read, l.write],
                copies: l.copies,
                fit: l.fit != 0,
            },
        )
    }
}
