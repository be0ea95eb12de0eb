//! Counting conventions: what a mapping costs as each tool counts it.
//!
//! The counts of presil itself (`physical`) are those of [`crate::analysis`]. Peers count a few things
//! differently; each convention here reproduces one of them exactly, on the same [`Hierarchy`] and [`LoopTree`],
//! so that a mapping brought from a peer shows the peer's numbers, and one case can be told in all of them.

mod accelforge;
pub mod physical;
pub mod scalesim;
pub mod timeloop;
pub mod zigzag;

use presil_workloads::Einsum;
use thiserror::Error;

use crate::hierarchy::Hierarchy;
use crate::looptree::{LoopTree, LoopTreeError};

/// Whose rules of counting are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Convention {
    /// Elements that really move: [`crate::analysis`].
    #[default]
    Physical,
    /// Timeloop v4's model.
    Timeloop,
    /// AccelForge's symbolic model.
    AccelForge,
    /// ZigZag's cost model.
    ZigZag,
    /// SCALE-Sim's closed forms.
    ScaleSim,
}

impl Convention {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Physical,
        Self::Timeloop,
        Self::AccelForge,
        Self::ZigZag,
        Self::ScaleSim,
    ];
    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Physical => "physical",
            Self::Timeloop => "timeloop",
            Self::AccelForge => "accelforge",
            Self::ZigZag => "zigzag",
            Self::ScaleSim => "scalesim",
        }
    }
    /// The convention of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }
}

/// Accesses of one memory by one operand, in elements, summed over the instances used.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Accesses {
    /// Index of the level.
    pub level: usize,
    /// The operand.
    pub operand: usize,
    /// Elements of the tile that an instance keeps.
    pub tile: f64,
    /// Instances used.
    pub instances: f64,
    /// Read to serve what is below (old partial sums included).
    pub reads: f64,
    /// Written from above.
    pub fills: f64,
    /// Written from below.
    pub updates: f64,
    /// Read to be written above. Conventions that do not count the drain leave it 0.
    pub drains: f64,
    /// Updates that were added to a value read here, and not the first of their element.
    pub reductions: f64,
    /// Distinct elements that one instance holds over the whole run; 0 where a convention does not tell.
    pub partition: f64,
}

/// What one level does over the run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LevelUse {
    /// Index of the level.
    pub level: usize,
    /// Instances used.
    pub instances: f64,
    /// Cycles that it needs, its bandwidth considered.
    pub cycles: f64,
    /// Share of full speed at which its ports let the compute units run: 1 if they never limit.
    pub throttling: f64,
}

/// Energy of one action, in picojoules.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionEnergy {
    /// Index of the level.
    pub level: usize,
    /// The operand that caused it, if one did.
    pub operand: Option<usize>,
    /// "read", "write", "update", "compute", "leak" ...
    pub action: &'static str,
    /// Picojoules.
    pub energy: f64,
}

/// A part of the time, in cycles. What the parts are, and how they make the total, is the convention's.
#[derive(Debug, Clone, PartialEq)]
pub struct CyclePart {
    /// "dram", "glb read", "stall", "onloading" ...
    pub name: String,
    /// Cycles.
    pub cycles: f64,
}

/// What a mapping costs in a convention.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evaluation {
    /// Accesses by level and operand, outermost level first.
    pub accesses: Vec<Accesses>,
    /// The same in words of the ports, for conventions that count and price those; else empty.
    pub words: Vec<Accesses>,
    /// Energy by level, operand and action.
    pub energy: Vec<ActionEnergy>,
    /// Parts of the time.
    pub parts: Vec<CyclePart>,
    /// Use of each level, outermost first, where a convention tells it.
    pub levels: Vec<LevelUse>,
    /// Cycles in all.
    pub cycles: f64,
    /// Operations (MACs) executed.
    pub operations: f64,
    /// Compute instances used (an average where instances differ).
    pub instances_used: f64,
}

impl Evaluation {
    /// Picojoules in all.
    pub fn energy_total(&self) -> f64 {
        self.energy.iter().map(|e| e.energy).sum()
    }
    /// The accesses of an operand at a level.
    pub fn at(&self, level: usize, operand: usize) -> Option<&Accesses> {
        self.accesses
            .iter()
            .find(|a| (a.level, a.operand) == (level, operand))
    }
}

/// Why a mapping cannot be told in a convention.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ConventionError {
    /// The mapping is none of this einsum on this hierarchy.
    #[error(transparent)]
    Mapping(#[from] LoopTreeError),
    /// Something that the convention has no rule for.
    #[error("convention `{convention}` {reason}")]
    Beyond {
        /// The convention.
        convention: &'static str,
        /// What it cannot tell, and what to do.
        reason: String,
    },
}

/// What a mapping costs in a convention.
///
/// # Errors
/// If the mapping is no legal one, or holds something that the convention has no rule for.
pub fn evaluate(
    convention: Convention,
    einsum: &Einsum,
    hierarchy: &Hierarchy,
    tree: &LoopTree,
) -> Result<Evaluation, ConventionError> {
    // ZigZag lets spatial loops stand anywhere, and checks by itself.
    if convention != Convention::ZigZag {
        tree.check(einsum, hierarchy)?;
    }
    match convention {
        Convention::Physical => physical::evaluate(einsum, hierarchy, tree),
        Convention::Timeloop => timeloop::evaluate(einsum, hierarchy, tree),
        Convention::AccelForge => Ok(accelforge::evaluate(einsum, hierarchy, tree)),
        Convention::ZigZag => zigzag::evaluate(einsum, hierarchy, tree),
        Convention::ScaleSim => Err(scalesim::no_mapping()),
    }
}
