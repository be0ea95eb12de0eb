//! The loop tree as Timeloop sees it: storage levels with their temporal and spatial loops.

use presil_numerics::ids::Id;
use presil_workloads::{DimId, Einsum};

use super::{ConventionError, beyond};
use crate::hierarchy::{Axis, FanoutLevel, Hierarchy, Mask, operand_count};
use crate::looptree::{LoopTree, Node};

/// Instances below one storage level are listed one by one.
const MOST_INSTANCES: u64 = 1 << 22;

/// A loop of more than one iteration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loop {
    /// Dimension.
    pub dim: usize,
    /// Iterations.
    pub trips: u64,
    /// How far an iteration moves along the dimension: the tile inside.
    pub step: u64,
}

/// The grid of instances below a storage level.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    /// Instances in a row: those there are, or those that the loops use if these are more.
    pub columns: u64,
    /// Rows.
    pub rows: u64,
    /// Operands that instances with the same delta share.
    pub shares: Mask,
}

/// A storage level: temporal loops outside its spatial ones.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    /// The memory's index in the hierarchy; none for a level that only carries loops.
    pub memory: Option<usize>,
    /// Operands kept here.
    pub keeps: Mask,
    /// Temporal loops, outermost first.
    pub temporal: Vec<Loop>,
    /// Spatial loops, outermost first: those across rows, then those along them.
    pub spatial: Vec<Loop>,
    /// The grid that the spatial loops run over.
    pub grid: Option<Grid>,
    /// Tiles of the dimensions outside this level's loops.
    pub tiles: Vec<u64>,
    /// Tiles between its temporal and its spatial loops: what all instances below hold together.
    pub union: Vec<u64>,
    /// Instances of this level that the mapping uses.
    pub instances: u64,
    /// The fanout of its spatial loops.
    fanout: Option<usize>,
    /// How many of the spatial loops run across rows.
    across: usize,
}

impl Storage {
    /// Instances below it.
    pub fn fanout(&self) -> u64 {
        self.spatial.iter().map(|l| l.trips).product()
    }
}

/// Storage levels, outermost first.
#[derive(Debug, Clone)]
pub(super) struct Nest {
    pub storages: Vec<Storage>,
    /// Iterations of all temporal loops.
    pub iterations: u64,
    /// Compute instances used.
    pub units: u64,
}

impl Nest {
    /// The tiles below a storage level.
    pub fn tiles_below(&self, storage: usize) -> Vec<u64> {
        match self.storages.get(storage + 1) {
            Some(inner) => inner.tiles.clone(),
            None => self.storages[storage].tiles.iter().map(|_| 1).collect(),
        }
    }

    /// Cuts a tree into storage levels.
    pub fn new(
        einsum: &Einsum,
        hierarchy: &Hierarchy,
        tree: &LoopTree,
    ) -> Result<Self, ConventionError> {
        let mut builder = Builder {
            hierarchy,
            tiles: einsum.dims.iter().map(|d| d.size).collect(),
            instances: 1,
            next_memory: 0,
            storages: Vec::new(),
        };
        for node in &tree.nodes {
            match *node {
                Node::Keep { level, operand } => builder.keep(level, operand)?,
                Node::Temporal { dim, tile } => {
                    if let Some(l) = builder.cut(einsum, dim, tile)? {
                        builder.temporal(l);
                    }
                }
                Node::Spatial {
                    level,
                    axis,
                    dim,
                    tile,
                } => {
                    if let Some(l) = builder.cut(einsum, dim, tile)? {
                        builder.spatial(einsum, level, axis, l)?;
                    }
                }
            }
        }
        builder.open_memories(hierarchy.levels.len());
        if builder.storages.first().is_none_or(|s| s.memory.is_none()) {
            return Err(beyond("starts at a memory that keeps whole operands"));
        }
        builder.finish()
    }
}

struct Builder<'a> {
    hierarchy: &'a Hierarchy,
    tiles: Vec<u64>,
    instances: u64,
    /// Memories before this index in the hierarchy have their storage level.
    next_memory: usize,
    storages: Vec<Storage>,
}

impl Builder<'_> {
    /// The loop of a node, if it has more than one iteration.
    fn cut(
        &mut self,
        einsum: &Einsum,
        dim: DimId,
        tile: u64,
    ) -> Result<Option<Loop>, ConventionError> {
        let outer = std::mem::replace(&mut self.tiles[dim.index()], tile);
        if !outer.is_multiple_of(tile.max(1)) {
            return Err(beyond(format!(
                "has perfect factors only: {tile} does not divide {outer} of dimension `{}`",
                einsum.dim(dim).name
            )));
        }
        let trips = outer / tile.max(1);
        Ok((trips > 1).then_some(Loop {
            dim: dim.index(),
            trips,
            step: tile,
        }))
    }

    fn open(&mut self, memory: Option<usize>, tiles: Vec<u64>) -> &mut Storage {
        let storage = Storage {
            memory,
            keeps: Mask::NONE,
            temporal: Vec::new(),
            spatial: Vec::new(),
            grid: None,
            union: tiles.clone(),
            tiles,
            instances: self.instances,
            fanout: None,
            across: 0,
        };
        self.storages.push(storage);
        let last = self.storages.len() - 1;
        &mut self.storages[last]
    }

    /// Opens the storage levels of all memories before a level of the hierarchy that have none yet.
    fn open_memories(&mut self, before: usize) {
        for level in self.next_memory..before {
            if self
                .hierarchy
                .levels
                .get(level)
                .is_some_and(|l| l.memory().is_some())
            {
                self.open(Some(level), self.tiles.clone());
            }
        }
        self.next_memory = self.next_memory.max(before);
    }

    fn keep(&mut self, level: usize, operand: usize) -> Result<(), ConventionError> {
        self.open_memories(level + 1);
        let tiles = &self.tiles;
        let storage = self.storages.iter_mut().find(|s| s.memory == Some(level));
        match storage {
            Some(s) if s.tiles == *tiles => {
                s.keeps = s.keeps.with(operand);
                Ok(())
            }
            _ => Err(beyond(format!(
                "keeps one tiling for all operands of a memory; `{}` keeps them at different places of the nest",
                self.hierarchy.levels[level].name()
            ))),
        }
    }

    /// The level that takes the next loop: the innermost one, or a new one if that has the spatial loops of
    /// another fanout.
    fn innermost(&mut self, fanout: Option<usize>, before: Vec<u64>) -> &mut Storage {
        let fits = self
            .storages
            .last()
            .is_some_and(|s| s.spatial.is_empty() || (fanout.is_some() && s.fanout == fanout));
        if !fits {
            return self.open(None, before);
        }
        let last = self.storages.len() - 1;
        &mut self.storages[last]
    }

    fn before(&self, l: Loop) -> Vec<u64> {
        let mut tiles = self.tiles.clone();
        tiles[l.dim] = l.step * l.trips;
        tiles
    }

    fn temporal(&mut self, l: Loop) {
        let before = self.before(l);
        let after = self.tiles.clone();
        let storage = self.innermost(None, before);
        storage.temporal.push(l);
        storage.union = after;
    }

    fn spatial(
        &mut self,
        einsum: &Einsum,
        level: usize,
        axis: usize,
        l: Loop,
    ) -> Result<(), ConventionError> {
        let before = self.before(l);
        // Memories outside the fanout hold the tile that its loops cut.
        let after = std::mem::replace(&mut self.tiles, before.clone());
        self.open_memories(level);
        self.tiles = after;
        let Some(fanout) = self.hierarchy.levels[level].fanout() else {
            return Err(beyond("needs a fanout for each spatial loop"));
        };
        let (grid, extends) = grid(fanout, axis, l.trips, operand_count(einsum))?;
        let storage = self.innermost(Some(level), before);
        storage.fanout = Some(level);
        if extends.1 > 1 {
            storage.spatial.insert(storage.across, l);
            storage.across += 1;
        } else {
            storage.spatial.push(l);
        }
        let used = storage.grid.get_or_insert(grid);
        let (columns, rows) = extends;
        // What the loops use; the physical size is the floor, applied at the end.
        used.columns *= columns;
        used.rows *= rows;
        self.instances = self
            .instances
            .checked_mul(l.trips)
            .filter(|n| *n <= MOST_INSTANCES)
            .ok_or_else(|| beyond(format!("counts at most {MOST_INSTANCES} instances")))?;
        Ok(())
    }

    fn finish(mut self) -> Result<Nest, ConventionError> {
        for storage in &mut self.storages {
            let Some(fanout) = storage.fanout else {
                continue;
            };
            let fanout = self.hierarchy.levels[fanout].fanout();
            let axes = fanout.map_or(&[][..], |f| &f.axes);
            if let Some(grid) = &mut storage.grid {
                let size = |rows: bool| -> u64 {
                    let along = axes
                        .iter()
                        .enumerate()
                        .filter(|(i, a)| is_row(*i, a) == rows);
                    along.map(|(_, a)| a.size).product()
                };
                grid.columns = grid.columns.max(size(false));
                grid.rows = grid.rows.max(size(true));
            }
        }
        let loops = self.storages.iter().flat_map(|s| &s.temporal);
        let iterations = loops
            .map(|l| l.trips)
            .try_fold(1u64, u64::checked_mul)
            .ok_or_else(|| beyond("counts at most 2^64 iterations"))?;
        Ok(Nest {
            iterations,
            units: self.instances,
            storages: self.storages,
        })
    }
}

/// Whether an axis runs across the rows of the grid (Timeloop's Y): named so, or the second.
fn is_row(index: usize, axis: &Axis) -> bool {
    let name = axis.name.to_ascii_lowercase();
    name.ends_with('y') || (index == 1 && !name.ends_with('x'))
}

/// An empty grid with what its fanout shares, and by how many columns and rows a loop along an axis extends it.
fn grid(
    fanout: &FanoutLevel,
    axis: usize,
    trips: u64,
    operands: usize,
) -> Result<(Grid, (u64, u64)), ConventionError> {
    if fanout.axes.len() > 2 {
        return Err(beyond(format!(
            "has two axes a fanout; `{}` has {}",
            fanout.name,
            fanout.axes.len()
        )));
    }
    let shared = |a: &Axis| {
        (0..operands)
            .filter(|o| a.shares.has(*o))
            .collect::<Vec<_>>()
    };
    let Some(along) = fanout.axes.get(axis) else {
        return Err(beyond(format!("`{}` has no axis {axis}", fanout.name)));
    };
    if fanout.axes.iter().any(|a| shared(a) != shared(along)) {
        return Err(beyond(format!(
            "shares an operand along both axes of a fanout or along none; those of `{}` differ",
            fanout.name
        )));
    }
    let grid = Grid {
        columns: 1,
        rows: 1,
        shares: along.shares,
    };
    let extends = if is_row(axis, along) {
        (1, trips)
    } else {
        (trips, 1)
    };
    Ok((grid, extends))
}
