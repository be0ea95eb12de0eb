//! Cases: einsums, a hierarchy, constraints, and perhaps a mapping: what `presil eval` and `presil map` read.
//!
//! Case files, Timeloop's YAML sets and SCALE-Sim's configurations all become a [`Case`].
//!
//! ```text
//! text --read--> CaseSpec --resolve--> Case --write--> text
//! ```
//!
//! - [`read`](mod@read): TOML or JSON text to a case, all mistakes at once; [`spec`]: what a file says; [`quantity`],
//!   [`sets`], [`nest`], [`presil_workloads::expression`]: the small languages in it; `einsums`, `tensors`, [`machine`],
//!   [`resolve`](mod@resolve): what it means;
//! - [`chip`](mod@chip): the machine of a case that names a chip; [`on_chip`]: constraints of mappings on one;
//! - [`write`](mod@write): a case (with its mapping) as a case file; [`schema`]: JSON Schema of the form.

pub mod chip;
mod einsums;
pub mod machine;
pub mod nest;
pub mod on_chip;
pub mod quantity;
pub mod read;
pub mod resolve;
pub mod schema;
pub mod sets;
pub mod spec;
mod tensors;
pub mod write;

use presil_workloads::Einsum;

use crate::conventions::Convention;
use crate::hierarchy::{Hierarchy, Mask};
use crate::looptree::LoopTree;
use crate::search::Objective;

/// A tensor of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseTensor {
    /// Name, unique in the case.
    pub name: String,
    /// Bits of an element unless a memory says otherwise.
    pub bits: f64,
    /// Extents of its ranks.
    pub extents: Vec<u64>,
}

/// An einsum of a case. Dimensions of the same name in several einsums are the same.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseEinsum {
    /// Name.
    pub name: String,
    /// The einsum.
    pub einsum: Einsum,
    /// Index into [`Case::tensors`] of each operand: inputs in order, then the output.
    pub operands: Vec<usize>,
    /// The machine, with sets of operands resolved for this einsum.
    pub hierarchy: Hierarchy,
    /// The given mapping.
    pub mapping: Option<LoopTree>,
    /// What a mapping must obey beside what the hierarchy says.
    pub constraints: Constraints,
}

/// What a mapping of one einsum must obey.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Constraints {
    /// Constraints of single levels.
    pub levels: Vec<LevelConstraint>,
    /// Whether every tile must divide the extent (perfect factors only).
    pub perfect: bool,
}

/// Constraints of the loops that stand directly below a level's storage nodes (a memory) or on it (a fanout).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LevelConstraint {
    /// Index of the level.
    pub level: usize,
    /// Trips that are given, by dimension (index into the einsum's dimensions).
    pub trips: Vec<(usize, u64)>,
    /// Dimensions that may not be iterated here.
    pub forbidden: Mask,
    /// Order of loops, innermost first, as far as it is given.
    pub order: Vec<usize>,
    /// Least share of the memory's capacity, or of the fanout's instances, that a mapping uses.
    pub min_utilization: f64,
}

/// A case.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Name.
    pub name: String,
    /// Tensors.
    pub tensors: Vec<CaseTensor>,
    /// Einsums, in order: each reads what earlier ones made.
    pub einsums: Vec<CaseEinsum>,
    /// The convention that its figures are meant in.
    pub convention: Convention,
    /// What a search makes small.
    pub objective: Objective,
    /// Clock, for figures in seconds; none if time is told in cycles only.
    pub clock_hz: Option<f64>,
}

impl Case {
    /// Names of an einsum's operands.
    pub fn operand_names(&self, einsum: usize) -> Vec<String> {
        let operands = &self.einsums[einsum].operands;
        operands
            .iter()
            .map(|t| self.tensors[*t].name.clone())
            .collect()
    }
}
