//! How a number becomes a code of a narrower format, and what became of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::rounding::Rounding;

/// What a number beyond the largest finite one of a format becomes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// The largest finite number, infinities too (OCP OFP8: saturating).
    #[default]
    Saturate,
    /// Integers only: the low bits. Infinities become 0.
    Wrap,
    /// Infinity where the format has it, else NaN where it has that, else the largest finite number
    /// (OCP OFP8: non-saturating). Roundings toward zero stay at the largest finite number (IEEE 754, 7.4).
    Infinity,
    /// NaN where the format has it, else the largest finite number.
    Nan,
}

/// What becomes of numbers below the smallest normal one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Subnormals {
    /// They are rounded to the format's subnormal numbers.
    #[default]
    Keep,
    /// Zero of their sign. Smallness is told before rounding (Arm's FPCR.FZ).
    Flush,
}

/// What NaN becomes in a format that has none.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum MissingNan {
    /// Zero of its sign (plain zero for integers).
    #[default]
    Zero,
    /// Zero of the opposite sign, as ml_dtypes casts to 6 and 4 bits.
    NegatedZero,
    /// The largest finite number, positive (NVIDIA's `cvt.satfinite` to e2m1, e2m3, e3m2).
    Largest,
}

/// How a number becomes a code.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Conversion {
    /// Which neighbour.
    #[serde(default)]
    pub rounding: Rounding,
    /// Beyond the range.
    #[serde(default)]
    pub overflow: Overflow,
    /// Below the normal range.
    #[serde(default)]
    pub subnormals: Subnormals,
    /// NaN without a code.
    #[serde(default)]
    pub missing_nan: MissingNan,
}

/// What became of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The code stands for the number itself.
    Exact,
    /// It was rounded to a neighbour.
    Rounded,
    /// It was not zero and became zero.
    Flushed,
    /// It was beyond the finite range.
    Overflowed,
    /// It was not a number.
    Nan,
}

/// A code and what became of the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// The code, in the low bits.
    pub code: u128,
    /// What became of the number.
    pub outcome: Outcome,
}

/// Outcomes counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// Numbers that their code stands for.
    pub exact: u64,
    /// Numbers rounded to a neighbour.
    pub rounded: u64,
    /// Nonzero numbers that became zero.
    pub flushed: u64,
    /// Numbers beyond the finite range, infinities among them.
    pub overflowed: u64,
    /// Numbers that were NaN.
    pub nan: u64,
}

impl Tally {
    /// Counts one more.
    pub fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Exact => &mut self.exact,
            Outcome::Rounded => &mut self.rounded,
            Outcome::Flushed => &mut self.flushed,
            Outcome::Overflowed => &mut self.overflowed,
            Outcome::Nan => &mut self.nan,
        } += 1;
    }

    /// All that were counted.
    pub fn values(&self) -> u64 {
        self.exact + self.rounded + self.flushed + self.overflowed + self.nan
    }
}

/// A name that is no overflow rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an overflow rule; write saturate, wrap, nonfinite (or inf), or nan")]
pub struct UnknownOverflow(pub String);

impl FromStr for Overflow {
    type Err = UnknownOverflow;

    fn from_str(s: &str) -> Result<Self, UnknownOverflow> {
        match s {
            "saturate" => Ok(Self::Saturate),
            "wrap" => Ok(Self::Wrap),
            "nonfinite" | "inf" | "infinity" => Ok(Self::Infinity),
            "nan" => Ok(Self::Nan),
            _ => Err(UnknownOverflow(s.into())),
        }
    }
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Saturate => "saturate",
            Self::Wrap => "wrap",
            Self::Infinity => "nonfinite",
            Self::Nan => "nan",
        })
    }
}
