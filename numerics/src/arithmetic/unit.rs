//! Any unit that the repository knows, by name.

use super::fused::FusedDot;
use super::presets::{OrderedSum, TableError, fused_dots, ordered_sums};
use crate::format::Format;

/// A unit that adds products up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// A fused dot unit.
    Fused(FusedDot),
    /// Ordinary adders in a stated order.
    Ordered(OrderedSum),
}

impl Unit {
    /// All units of `configs/numerics`.
    pub fn all() -> Result<Vec<Self>, TableError> {
        let fused = fused_dots()?.into_iter().map(Self::Fused);
        Ok(fused
            .chain(ordered_sums()?.into_iter().map(Self::Ordered))
            .collect())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Fused(unit) => &unit.name,
            Self::Ordered(unit) => &unit.name,
        }
    }

    /// Formats of its operands.
    pub fn inputs(&self) -> &[Format] {
        match self {
            Self::Fused(unit) => &unit.inputs,
            Self::Ordered(unit) => &unit.inputs,
        }
    }

    /// Where its values come from.
    pub fn source(&self) -> &str {
        match self {
            Self::Fused(unit) => &unit.source,
            Self::Ordered(unit) => &unit.source,
        }
    }
}
