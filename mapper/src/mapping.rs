//! Mappings: LoopTrees of storage nodes, temporal loops and spatial loops.
//!
//! A mapping is a list of steps from the outside in; below the last one is the compute. Before the first step
//! the tile of every dimension is its whole extent. A loop over a dimension with child tile `t` cuts the current
//! tile `T` into `ceil(T / t)` iterations, of which the last may be partial; `t` must then divide... nothing:
//! only the outermost loop of a dimension may leave a remainder, so each inner tile divides the next outer one.
//! After the last step the tile of every dimension is 1.
//!
//! A storage step keeps an operand's current tile at a memory from there on inwards. Operands may be placed
//! differently (uneven mapping) and pass memories by (bypass). The first storage step of each operand is at its
//! home, before any loop.
//!
//! A spatial loop lays iterations along one dimension of a fanout; several loops may share a fanout dimension
//! (their trips multiply). Steps follow the chip's path: a storage step of a memory stands after the spatial
//! loops of the fanouts above it and before those of the fanouts below it.

use presil_hwmodels::{NodeId, Operand};
use presil_workloads::DimId;
use thiserror::Error;

/// One step of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Keeps the current tile of an operand at a memory.
    Store {
        /// The memory.
        memory: NodeId,
        /// The operand.
        operand: Operand,
    },
    /// Iterates in time.
    Temporal {
        /// The dimension.
        dim: DimId,
        /// Its tile inside the loop.
        tile: u64,
    },
    /// Iterates in space.
    Spatial {
        /// The fanout.
        fanout: NodeId,
        /// Which of its dimensions.
        axis: u8,
        /// The dimension.
        dim: DimId,
        /// Its tile inside the loop.
        tile: u64,
    },
}

/// A mapping of a problem. Made by [`Mapping::new`], which checks it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mapping {
    steps: Vec<Step>,
}

/// Why steps are no legal mapping.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MappingError {
    /// A tile that does not divide the next outer one, or is zero, or larger than it.
    #[error("step {step}: tile {tile} of dimension `{dim}` does not divide the tile {outer} around it")]
    Tile {
        /// Index of the step.
        step: usize,
        /// Dimension name.
        dim: String,
        /// Its tile.
        tile: u64,
        /// The tile around it.
        outer: u64,
    },
    /// A dimension whose last tile is not 1.
    #[error("dimension `{dim}` ends at a tile of {tile}; its loops must end at 1")]
    Open {
        /// Dimension name.
        dim: String,
        /// Last tile.
        tile: u64,
    },
    /// A step that stands where the chip's path does not allow it.
    #[error("step {step}: {reason}")]
    Place {
        /// Index of the step.
        step: usize,
        /// What is wrong.
        reason: String,
    },
    /// Tiles that do not fit.
    #[error("memory `{memory}` needs {needed} of tiles but has {available}")]
    Capacity {
        /// The memory.
        memory: String,
        /// Bytes needed.
        needed: presil_numerics::Bytes,
        /// Bytes there are.
        available: presil_numerics::Bytes,
    },
}

impl Mapping {
    /// The steps from the outside in.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}
