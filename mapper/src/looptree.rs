//! A loop tree on a [`Hierarchy`]: the mapping of one einsum, in the form that all conventions read.
//!
//! Nodes stand from the outside in; below the last one is the compute. Before the first node the tile of every
//! dimension is its whole extent; a loop over a dimension with child tile `t` cuts the current tile `T` into
//! `ceil(T / t)` iterations. Each inner tile divides the next outer one; only the outermost loop of a dimension
//! may leave a remainder. After the last node every tile is 1.
//!
//! A storage node keeps the current tile of an operand at a memory from there on inwards. Nodes follow the
//! hierarchy for each operand: an operand's storage nodes go from outer to inner levels. Spatial loops of a fanout
//! stand between the storage nodes of the memories above it and those below it.

use std::fmt::Write;

use presil_numerics::ids::Id;
use presil_workloads::{DimId, Einsum};
use thiserror::Error;

use crate::hierarchy::{Hierarchy, access_of, operand_count};

/// A node of a loop tree. Levels are indices into [`Hierarchy::levels`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Node {
    /// Keeps the current tile of an operand at a memory.
    Keep {
        /// The memory.
        level: usize,
        /// The operand.
        operand: usize,
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
        level: usize,
        /// Which of its axes.
        axis: usize,
        /// The dimension.
        dim: DimId,
        /// Its tile inside the loop.
        tile: u64,
    },
}

impl Node {
    /// The dimension and child tile, if it is a loop.
    pub fn cut(&self) -> Option<(DimId, u64)> {
        match *self {
            Self::Keep { .. } => None,
            Self::Temporal { dim, tile } | Self::Spatial { dim, tile, .. } => Some((dim, tile)),
        }
    }
}

/// A mapping of one einsum.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LoopTree {
    /// Nodes, from the outside in.
    pub nodes: Vec<Node>,
}

/// Why a loop tree is no mapping of an einsum on a hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoopTreeError {
    /// A tile that does not divide the next outer one (or is zero, or larger than it).
    #[error(
        "node {node}: tile {tile} of dimension `{dim}` does not divide the tile {outer} around it"
    )]
    Tile {
        /// Index of the node.
        node: usize,
        /// Dimension.
        dim: String,
        /// Its tile.
        tile: u64,
        /// The tile around it.
        outer: u64,
    },
    /// A dimension whose last tile is not 1.
    #[error("dimension `{dim}` ends at a tile of {tile}; its loops must end at 1")]
    Open {
        /// Dimension.
        dim: String,
        /// Last tile.
        tile: u64,
    },
    /// A node that cannot stand where it stands.
    #[error("node {node}: {reason}")]
    Place {
        /// Index of the node.
        node: usize,
        /// What is wrong.
        reason: String,
    },
    /// An operand that is kept nowhere, or not where it must be.
    #[error("`{operand}` {reason}")]
    Kept {
        /// The operand.
        operand: String,
        /// What is wrong.
        reason: String,
    },
    /// Tiles that do not fit.
    #[error("memory `{memory}` needs {needed_bits} bits of tiles but has {available_bits}")]
    Capacity {
        /// The memory.
        memory: String,
        /// Bits needed, of one instance.
        needed_bits: u64,
        /// Bits there are.
        available_bits: u64,
    },
}

impl LoopTree {
    /// The tile of every dimension below the first `nodes` nodes.
    pub fn tiles(&self, einsum: &Einsum, nodes: usize) -> Vec<u64> {
        let mut tiles: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
        for (dim, tile) in self.nodes[..nodes].iter().filter_map(Node::cut) {
            tiles[dim.index()] = tile;
        }
        tiles
    }

    /// Checks tiles, places and what must be kept, not capacities.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, einsum: &Einsum, hierarchy: &Hierarchy) -> Result<(), LoopTreeError> {
        self.check_spread(einsum, hierarchy)?;
        self.check_order(hierarchy)
    }

    /// The same, for a convention that reads from the hierarchy what lies inside a fanout, and not from where
    /// spatial loops stand among the nodes: they may stand anywhere.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check_spread(
        &self,
        einsum: &Einsum,
        hierarchy: &Hierarchy,
    ) -> Result<(), LoopTreeError> {
        self.check_tiles(einsum)?;
        self.check_places(einsum, hierarchy)?;
        self.check_kept(einsum, hierarchy)
    }

    fn check_tiles(&self, einsum: &Einsum) -> Result<(), LoopTreeError> {
        let mut tiles: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
        for (i, node) in self.nodes.iter().enumerate() {
            let Some((dim, tile)) = node.cut() else {
                continue;
            };
            let Some(outer) = tiles.get_mut(dim.index()) else {
                return Err(LoopTreeError::Place {
                    node: i,
                    reason: format!("the einsum has no dimension {}", dim.0),
                });
            };
            let d = einsum.dim(dim);
            let whole = *outer == d.size || *outer % tile.max(1) == 0;
            if tile == 0 || tile > *outer || !whole {
                return Err(LoopTreeError::Tile {
                    node: i,
                    dim: d.name.clone(),
                    tile,
                    outer: *outer,
                });
            }
            *outer = tile;
        }
        match einsum.dims.iter().zip(&tiles).find(|(_, t)| **t != 1) {
            Some((d, t)) => Err(LoopTreeError::Open {
                dim: d.name.clone(),
                tile: *t,
            }),
            None => Ok(()),
        }
    }

    fn check_places(&self, einsum: &Einsum, hierarchy: &Hierarchy) -> Result<(), LoopTreeError> {
        let mut innermost: Vec<Option<usize>> = vec![None; operand_count(einsum)];
        let mut tiles: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
        let mut used: Vec<(usize, usize, u64)> = Vec::new();
        for (i, node) in self.nodes.iter().enumerate() {
            let fail = |reason: String| Err(LoopTreeError::Place { node: i, reason });
            match *node {
                Node::Keep { level, operand } => {
                    let Some(memory) = hierarchy.levels.get(level).and_then(|l| l.memory()) else {
                        return fail(format!("level {level} is no memory"));
                    };
                    let Some(above) = innermost.get_mut(operand) else {
                        return fail(format!("the einsum has no operand {operand}"));
                    };
                    if !memory.keeps.has(operand) {
                        return fail(format!("`{}` cannot keep operand {operand}", memory.name));
                    }
                    if above.is_some_and(|a| a >= level) {
                        return fail(format!(
                            "`{}` does not lie inside the memory that keeps operand {operand} already",
                            memory.name
                        ));
                    }
                    *above = Some(level);
                }
                Node::Temporal { dim, tile } => tiles[dim.index()] = tile,
                Node::Spatial {
                    level,
                    axis,
                    dim,
                    tile,
                } => {
                    let Some(fanout) = hierarchy.levels.get(level).and_then(|l| l.fanout()) else {
                        return fail(format!("level {level} is no fanout"));
                    };
                    let Some(a) = fanout.axes.get(axis) else {
                        return fail(format!("fanout `{}` has no axis {axis}", fanout.name));
                    };
                    let name = &einsum.dim(dim).name;
                    let refused = (0..operand_count(einsum))
                        .any(|o| a.must_share.has(o) && Einsum::names(access_of(einsum, o), dim));
                    if refused || !a.accepts.has(dim.index()) {
                        return fail(format!(
                            "`{}.{}` does not accept dimension `{name}`",
                            fanout.name, a.name
                        ));
                    }
                    let trips = std::mem::replace(&mut tiles[dim.index()], tile).div_ceil(tile);
                    let place = match used.iter().position(|u| (u.0, u.1) == (level, axis)) {
                        Some(place) => place,
                        None => {
                            used.push((level, axis, 1));
                            used.len() - 1
                        }
                    };
                    used[place].2 = used[place].2.saturating_mul(trips);
                    if used[place].2 > a.size {
                        return fail(format!(
                            "`{}.{}` has {} instances, not {}",
                            fanout.name, a.name, a.size, used[place].2
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Fanouts stand in the order of the hierarchy, each between the memories above it and those below it.
    fn check_order(&self, hierarchy: &Hierarchy) -> Result<(), LoopTreeError> {
        let (mut fanout_at, mut memory_at) = (0, 0);
        for (i, node) in self.nodes.iter().enumerate() {
            let fail = |level: usize, what: &str| {
                Err(LoopTreeError::Place {
                    node: i,
                    reason: format!("`{}` lies outside {what}", hierarchy.levels[level].name()),
                })
            };
            match *node {
                Node::Keep { level, .. } if level < fanout_at => {
                    return fail(level, "a fanout whose loops stand before it");
                }
                Node::Spatial { level, .. } if level < fanout_at || level < memory_at => {
                    return fail(level, "a memory or fanout that stands before it");
                }
                Node::Keep { level, .. } => memory_at = memory_at.max(level),
                Node::Spatial { level, .. } => fanout_at = level,
                Node::Temporal { .. } => {}
            }
        }
        Ok(())
    }

    fn check_kept(&self, einsum: &Einsum, hierarchy: &Hierarchy) -> Result<(), LoopTreeError> {
        for operand in 0..operand_count(einsum) {
            let kept = |level: usize| self.nodes.contains(&Node::Keep { level, operand });
            let fail = |reason: String| {
                Err(LoopTreeError::Kept {
                    operand: operand_name(einsum, operand),
                    reason,
                })
            };
            let mut above = false;
            for level in hierarchy.memories() {
                let Some(memory) = hierarchy.levels[level].memory() else {
                    continue;
                };
                let here = kept(level);
                let must = memory.must_keep.has(operand)
                    || (memory.must_keep_unless_above.has(operand) && !above);
                if must && !here {
                    return fail(format!("must be kept at `{}`", memory.name));
                }
                above |= here;
            }
            if !above {
                return fail("is kept nowhere".into());
            }
        }
        Ok(())
    }

    /// The nest as text, one line a node: `dram keeps input 4096 (64 x 64)`, `for m in 4 (tile 16) across pes.x`.
    pub fn describe(&self, einsum: &Einsum, hierarchy: &Hierarchy, names: &[String]) -> String {
        let mut tiles: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
        let mut indent = 0;
        let mut text = String::new();
        for node in &self.nodes {
            let pad = "  ".repeat(indent);
            match *node {
                Node::Keep { level, operand } => {
                    let shape = tile_shape(einsum, operand, &tiles);
                    let words: u64 = shape.iter().product();
                    let shape: Vec<String> = shape.iter().map(u64::to_string).collect();
                    let _ = writeln!(
                        text,
                        "{pad}{} keeps {} {words} ({})",
                        hierarchy.levels[level].name(),
                        names.get(operand).map_or("?", String::as_str),
                        shape.join(" x ")
                    );
                }
                Node::Temporal { dim, tile } | Node::Spatial { dim, tile, .. } => {
                    let outer = std::mem::replace(&mut tiles[dim.index()], tile);
                    let across = match *node {
                        Node::Spatial { level, axis, .. } => {
                            let fanout = hierarchy.levels[level].fanout();
                            let axis = fanout.and_then(|f| f.axes.get(axis));
                            let axis = axis.map_or("?", |a| a.name.as_str());
                            format!("  across {}.{axis}", hierarchy.levels[level].name())
                        }
                        _ => String::new(),
                    };
                    let _ = writeln!(
                        text,
                        "{pad}for {} in {} (tile {tile}){across}",
                        einsum.dim(dim).name,
                        outer.div_ceil(tile.max(1)),
                    );
                    indent += 1;
                }
            }
        }
        text
    }
}

/// A name for an operand of an einsum without tensor names.
fn operand_name(einsum: &Einsum, operand: usize) -> String {
    if operand < einsum.inputs.len() {
        format!("input {operand}")
    } else {
        "output".into()
    }
}

/// Extents of the axis-aligned box of elements that a tile of an operand spans, rank by rank: a sliding window
/// counts all positions between its first and last.
pub fn tile_shape(einsum: &Einsum, operand: usize, tiles: &[u64]) -> Vec<u64> {
    let span = |terms: &[(DimId, i64)]| {
        let reach = terms
            .iter()
            .map(|(d, c)| c.unsigned_abs() * (tiles[d.index()] - 1));
        reach.sum::<u64>() + 1
    };
    access_of(einsum, operand)
        .ranks
        .iter()
        .map(|r| span(&r.terms))
        .collect()
}
