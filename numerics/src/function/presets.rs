//! Published designs of function units, as data with sources.

use serde::Deserialize;

use super::unit::FunctionUnit;
pub use crate::arithmetic::presets::TableError;

const FUNCTIONS: &str = include_str!("../../../configs/numerics/functions.toml");

/// A unit with a name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedUnit {
    /// Its name in the table.
    pub name: String,
    /// Where the design comes from.
    pub source: String,
    /// The design.
    pub unit: FunctionUnit,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    unit: Vec<NamedUnit>,
}

/// Reads a table of function units.
pub fn read_function_units(text: &str) -> Result<Vec<NamedUnit>, TableError> {
    Ok(toml::from_str::<Table>(text)?.unit)
}

/// The units of `configs/numerics/functions.toml`.
pub fn function_units() -> Result<Vec<NamedUnit>, TableError> {
    read_function_units(FUNCTIONS)
}
