//! How a domain is cut into segments, and which one a number lies in.
//!
//! Segment `i` is `[border_i, border_i+1)`; numbers outside all of them take the first or the last one's, at its end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DesignError;

/// Borders of segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Segments {
    /// Equal parts of an interval.
    Uniform {
        /// Least number.
        low: f64,
        /// Where the last segment ends.
        high: f64,
        /// Number of segments.
        count: u32,
    },
    /// Octaves `[low 2^k, low 2^(k+1))`, each in equal parts: exponent and leading fraction bits of the number.
    Octaves {
        /// Least number, above zero.
        low: f64,
        /// Number of octaves.
        octaves: u32,
        /// Segments of each.
        parts: u32,
    },
    /// These borders, increasing, one more than segments.
    Borders(Vec<f64>),
}

/// The most segments of a table.
pub(crate) const MOST_SEGMENTS: u64 = 1 << 16;

impl Segments {
    /// One segment.
    pub fn one(low: f64, high: f64) -> Self {
        Self::Uniform {
            low,
            high,
            count: 1,
        }
    }

    /// The borders, one more than segments.
    pub fn borders(&self) -> Result<Vec<f64>, DesignError> {
        let count = match self {
            Self::Uniform { count, .. } => u64::from(*count),
            Self::Octaves { octaves, parts, .. } => u64::from(*octaves) * u64::from(*parts),
            Self::Borders(borders) => (borders.len() as u64).saturating_sub(1),
        };
        if !(1..=MOST_SEGMENTS).contains(&count) {
            return Err(DesignError::field("segments", "have 1 to 65536 of them"));
        }
        let borders: Vec<f64> = match self {
            Self::Uniform { low, high, count } => {
                let width = (high - low) / f64::from(*count);
                let inner = (0..*count).map(|i| low + f64::from(i) * width);
                inner.chain([*high]).collect()
            }
            Self::Octaves {
                low,
                octaves,
                parts,
            } => {
                if *low <= 0.0 || *octaves > 1024 {
                    return Err(DesignError::field(
                        "octaves",
                        "start above zero, and are 1024 at most",
                    ));
                }
                let octave = |k: u32| low * 2f64.powi(k as i32);
                let part = |k, i: u32| octave(k) * (1.0 + f64::from(i) / f64::from(*parts));
                let all = (0..*octaves).flat_map(|k| (0..*parts).map(move |i| part(k, i)));
                all.chain([octave(*octaves)]).collect()
            }
            Self::Borders(borders) => borders.clone(),
        };
        if borders.iter().any(|b| !b.is_finite()) || borders.windows(2).any(|b| b[0] >= b[1]) {
            return Err(DesignError::field(
                "segments",
                "must have finite, increasing borders",
            ));
        }
        Ok(borders)
    }
}

/// Borders, ready to find a number's segment.
#[derive(Debug, Clone)]
pub(crate) struct Finder {
    pub(crate) borders: Vec<f64>,
    /// Segments a unit of length, where they are equal.
    per_unit: Option<f64>,
}

impl Finder {
    pub(crate) fn new(segments: &Segments) -> Result<Self, DesignError> {
        let borders = segments.borders()?;
        let per_unit = match segments {
            Segments::Uniform { low, high, count } => Some(f64::from(*count) / (high - low)),
            _ => None,
        };
        Ok(Self { borders, per_unit })
    }

    pub(crate) fn low(&self) -> f64 {
        self.borders[0]
    }

    pub(crate) fn high(&self) -> f64 {
        self.borders[self.borders.len() - 1]
    }

    /// The segment of a number; the first one of NaN.
    pub(crate) fn find(&self, x: f64) -> usize {
        let last = self.borders.len() - 2;
        let Some(per_unit) = self.per_unit else {
            let at_most = self.borders.partition_point(|b| *b <= x);
            return at_most.saturating_sub(1).min(last);
        };
        // The guess is off by one at most, where x - low was rounded.
        let guess = (((x - self.low()) * per_unit) as usize).min(last);
        if x < self.borders[guess] {
            guess.saturating_sub(1)
        } else if x >= self.borders[guess + 1] {
            (guess + 1).min(last)
        } else {
            guess
        }
    }

    /// `x`, or the nearest number between the ends.
    pub(crate) fn confine(&self, x: f64) -> f64 {
        x.max(self.low()).min(self.high())
    }
}
