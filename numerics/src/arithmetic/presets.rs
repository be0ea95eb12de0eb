//! The units of matrix instructions that the repository knows, as data with sources.

use serde::Deserialize;
use thiserror::Error;

use super::fused::FusedDot;
use super::summation::Summation;
use crate::format::Format;

const FUSED_DOTS: &str = include_str!("../../../configs/numerics/fused-dot.toml");
const ORDERED_SUMS: &str = include_str!("../../../configs/numerics/summation.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table<T> {
    unit: Vec<T>,
}

/// A matrix unit that adds by ordinary adders.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderedSum {
    /// Its name in the table.
    pub name: String,
    /// Whose unit it is.
    pub generation: String,
    /// Operand formats.
    pub inputs: Vec<Format>,
    /// Whether subnormal operands are zeros: those of [`flushed`].
    #[serde(default)]
    pub flush_operands: bool,
    /// Order and adders.
    pub summation: Summation,
    /// Where the values come from.
    pub source: String,
}

/// A table of units that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct TableError(#[from] toml::de::Error);

/// Reads a table of fused dot units.
pub fn read_fused_dots(text: &str) -> Result<Vec<FusedDot>, TableError> {
    Ok(toml::from_str::<Table<FusedDot>>(text)?.unit)
}

/// The units of `configs/numerics/fused-dot.toml`.
pub fn fused_dots() -> Result<Vec<FusedDot>, TableError> {
    read_fused_dots(FUSED_DOTS)
}

/// The units of `configs/numerics/summation.toml`.
pub fn ordered_sums() -> Result<Vec<OrderedSum>, TableError> {
    Ok(toml::from_str::<Table<OrderedSum>>(ORDERED_SUMS)?.unit)
}

/// An operand, zero where it is subnormal in its format.
pub fn flushed(format: Format, x: f32) -> f32 {
    let least = format
        .float_layout()
        .map_or(0.0, |l| 2f64.powi(l.quantum() + l.mantissa as i32));
    if f64::from(x).abs() < least { 0.0 } else { x }
}
