//! Constants that say where they come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How well a constant is known.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Measured on silicon or by a tool that was run.
    Measured,
    /// In a peer-reviewed or vendor's technical publication.
    Published,
    /// In a vendor's data sheet or marketing.
    Vendor,
    /// Scaled from another node, size or format by a named model.
    Scaled,
    /// Derived exactly from other fields of the chip.
    Derived,
    /// Assumed; the range says how badly.
    Assumed,
}

/// One resolved constant of a chip, for reports: what it is, its value as text, and what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provenance {
    /// Path in the chip file ("glb.capacity").
    pub path: String,
    /// The value with its unit.
    pub value: String,
    /// Lower and upper end, with units.
    pub range: Option<(String, String)>,
    /// How well it is known.
    pub status: Status,
    /// Where it comes from.
    pub source: String,
    /// Constants of one group move together in uncertainty studies: those that the file groups, and those that
    /// one technology model gives.
    pub group: Option<String>,
}
