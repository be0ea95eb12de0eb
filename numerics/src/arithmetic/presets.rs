//! The units of matrix instructions that the repository knows, as data with sources.

use serde::Deserialize;
use thiserror::Error;

use super::fused::FusedDot;

const FUSED_DOTS: &str = include_str!("../../../configs/numerics/fused-dot.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    unit: Vec<FusedDot>,
}

/// A table of units that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct TableError(#[from] toml::de::Error);

/// Reads a table of fused dot units.
pub fn read_fused_dots(text: &str) -> Result<Vec<FusedDot>, TableError> {
    Ok(toml::from_str::<Table>(text)?.unit)
}

/// The units of `configs/numerics/fused-dot.toml`.
pub fn fused_dots() -> Result<Vec<FusedDot>, TableError> {
    read_fused_dots(FUSED_DOTS)
}
