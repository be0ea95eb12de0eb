//! Mappings: LoopTrees of storage nodes, temporal loops and spatial loops.
//!
//! A mapping is a list of steps from the outside in; below the last one is the compute. Before the first step
//! the tile of every dimension is its whole extent. A loop over a dimension with child tile `t` cuts the current
//! tile `T` into `ceil(T / t)` iterations. Only the outermost loop of a dimension may leave a remainder (its last
//! tile is partial); each inner tile divides the next outer one. After the last step the tile of every dimension
//! is 1.
//!
//! A storage step keeps an operand's current tile at a memory from there on inwards. Operands may be placed
//! differently (uneven mapping) and pass memories by (bypass). The first storage step of each operand is at its
//! home, before any loop.
//!
//! A spatial loop lays iterations along one dimension of a fanout; several loops may share a fanout dimension
//! (their trips multiply). Steps follow the chip's path: a storage step of a memory stands after the spatial
//! loops of the fanouts above it and before those of the fanouts below it.

//!
//! Capacity: a memory holds `buffering` times the sum over the operands kept there (below their home) of the bits
//! of a full tile. A tile has as many elements as it touches at most (the union of a sliding window's positions,
//! not more than the rank's extent). Outputs take the accumulator's width where the values that arrive from below
//! may be partial sums, that is where a loop above the next storage node inside (or above the compute) reduces,
//! other than spatially on the way up; else their final width.

use std::fmt;

use presil_hwmodels::{DimSelector, Fanout, NodeId, NodeKind, Operand};
use presil_numerics::Bytes;
use presil_numerics::ids::Id;
use presil_workloads::{DimId, Einsum};
use thiserror::Error;

use crate::analysis::{Pattern, nest};
use crate::problem::Problem;

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
    #[error(
        "step {step}: tile {tile} of dimension `{dim}` does not divide the tile {outer} around it"
    )]
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
    /// The mapping of some steps, if it is a legal one of the problem.
    pub fn new(problem: &Problem, steps: Vec<Step>) -> Result<Self, MappingError> {
        check_tiles(problem.einsum, &steps)?;
        check_places(problem, &steps)?;
        check_capacity(problem, &steps)?;
        Ok(Self { steps })
    }

    /// The steps from the outside in.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// For each step the bits of the tile that it keeps in one instance of its memory; 0 for loops.
    pub fn tile_bits(&self, problem: &Problem) -> Vec<f64> {
        let footprint = Footprint::new(problem, &self.steps);
        let bits = |(i, step): (usize, &Step)| match *step {
            Step::Store { operand, .. } => footprint.bits(problem, operand, i),
            _ => 0.0,
        };
        self.steps.iter().enumerate().map(bits).collect()
    }

    /// The loop nest, one line a step.
    pub fn describe(&self, problem: &Problem) -> Vec<String> {
        let footprint = Footprint::new(problem, &self.steps);
        let mut tiles: Vec<u64> = problem.einsum.dims.iter().map(|d| d.size).collect();
        let mut indent = 0;
        let mut lines = Vec::with_capacity(self.steps.len());
        for (i, step) in self.steps.iter().enumerate() {
            let pad = "  ".repeat(indent);
            let line = match *step {
                Step::Store { memory, operand } => {
                    let bits = footprint.bits(problem, operand, i);
                    let name = &problem.chip.nodes[memory].name;
                    format!("{pad}{name} keeps {} {}", operand.name(), whole_bytes(bits))
                }
                Step::Temporal { dim, tile } | Step::Spatial { dim, tile, .. } => {
                    let outer = std::mem::replace(&mut tiles[dim.index()], tile);
                    let name = &problem.einsum.dim(dim).name;
                    indent += 1;
                    let at = match *step {
                        Step::Spatial { fanout, axis, .. } => {
                            format!("  across {}", axis_name(problem, fanout, axis))
                        }
                        _ => String::new(),
                    };
                    format!(
                        "{pad}for {name} in {} (tile {tile}){at}",
                        outer.div_ceil(tile)
                    )
                }
            };
            lines.push(line);
        }
        lines
    }
}

/// Short form: `n3@input n5@weight d0/16 s2.0:d1/4` (storage at a node, loops with their tiles, spatial ones
/// with fanout and axis); numbers are ids.
impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.steps.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            match step {
                Step::Store { memory, operand } => write!(f, "n{}@{}", memory.0, operand.name())?,
                Step::Temporal { dim, tile } => write!(f, "d{}/{tile}", dim.0)?,
                Step::Spatial {
                    fanout,
                    axis,
                    dim,
                    tile,
                } => write!(f, "s{}.{axis}:d{}/{tile}", fanout.0, dim.0)?,
            }
        }
        Ok(())
    }
}

fn axis_name(problem: &Problem, fanout: NodeId, axis: u8) -> String {
    let node = &problem.chip.nodes[fanout];
    match &node.kind {
        NodeKind::Fanout(f) => f
            .dims
            .get(usize::from(axis))
            .map_or(String::new(), |d| format!("{}.{}", node.name, d.name)),
        _ => String::new(),
    }
}

/// Whether a selector names a dimension of a contraction.
pub fn selects(einsum: &Einsum, selector: &DimSelector, dim: DimId) -> bool {
    let has = |a: Option<&presil_workloads::Access>| a.is_some_and(|a| Einsum::names(a, dim));
    let (input, weight, output) = (
        has(einsum.inputs.first()),
        has(einsum.inputs.get(1)),
        Einsum::names(&einsum.output, dim),
    );
    match selector {
        DimSelector::Reduction => input && weight && !output,
        DimSelector::OutputChannel => !input && weight && output,
        DimSelector::Pixel => input && !weight && output,
        DimSelector::Group => input && weight && output,
        DimSelector::Named(name) => einsum.dim(dim).name == *name,
    }
}

fn check_tiles(einsum: &Einsum, steps: &[Step]) -> Result<(), MappingError> {
    let mut tiles: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
    for (i, step) in steps.iter().enumerate() {
        let (Step::Temporal { dim, tile } | Step::Spatial { dim, tile, .. }) = *step else {
            continue;
        };
        let Some(outer) = tiles.get_mut(dim.index()) else {
            return Err(MappingError::Place {
                step: i,
                reason: format!("the einsum has no dimension {}", dim.0),
            });
        };
        let d = einsum.dim(dim);
        if tile == 0 || tile > *outer || (*outer != d.size && *outer % tile != 0) {
            return Err(MappingError::Tile {
                step: i,
                dim: d.name.clone(),
                tile,
                outer: *outer,
            });
        }
        *outer = tile;
    }
    match einsum.dims.iter().zip(&tiles).find(|(_, t)| **t != 1) {
        Some((d, t)) => Err(MappingError::Open {
            dim: d.name.clone(),
            tile: *t,
        }),
        None => Ok(()),
    }
}

fn check_places(problem: &Problem, steps: &[Step]) -> Result<(), MappingError> {
    let chip = problem.chip;
    let name = |n: NodeId| chip.nodes.get(n).map_or("?", |n| n.name.as_str());
    let place_of = |n: NodeId| problem.path.iter().position(|p| *p == n);
    let mut tiles: Vec<u64> = problem.einsum.dims.iter().map(|d| d.size).collect();
    // Places on the path of the innermost memory and fanout so far, and of each operand's innermost storage.
    let (mut memory_at, mut fanout_at) = (0, 0);
    let mut kept: [Option<usize>; 3] = [None; 3];
    let mut used: Vec<(NodeId, u8, u64)> = Vec::new();
    let mut loops = false;
    for (i, step) in steps.iter().enumerate() {
        let fail = |reason: String| Err(MappingError::Place { step: i, reason });
        match *step {
            Step::Store { memory, operand } => {
                let Some(place) = place_of(memory) else {
                    return fail(format!(
                        "`{}` is not on the path to the array",
                        name(memory)
                    ));
                };
                let Some(m) = chip.nodes[memory].memory() else {
                    return fail(format!("`{}` is no memory", name(memory)));
                };
                let home = problem.home[operand.index()];
                match kept[operand.index()] {
                    None if memory != home => {
                        let (what, home) = (operand.name(), name(home));
                        return fail(format!(
                            "the first storage of {what} must be at its home `{home}`"
                        ));
                    }
                    None if loops => {
                        return fail(format!(
                            "the home of {} must come before any loop",
                            operand.name()
                        ));
                    }
                    Some(above) if place <= above => {
                        return fail(format!(
                            "`{}` does not lie inside the memory that keeps {} already",
                            name(memory),
                            operand.name()
                        ));
                    }
                    Some(_) if !m.keeps.has(operand) => {
                        return fail(format!("`{}` cannot keep {}", name(memory), operand.name()));
                    }
                    _ => {}
                }
                if place < fanout_at {
                    return fail(format!(
                        "`{}` lies outside a fanout whose loops stand before it",
                        name(memory)
                    ));
                }
                kept[operand.index()] = Some(place);
                memory_at = memory_at.max(place);
            }
            Step::Temporal { dim, tile } => {
                loops = true;
                tiles[dim.index()] = tile;
            }
            Step::Spatial {
                fanout,
                axis,
                dim,
                tile,
            } => {
                loops = true;
                let Some((place, f)) = place_of(fanout).zip(as_fanout(problem, fanout)) else {
                    return fail(format!(
                        "`{}` is no fanout on the path to the array",
                        name(fanout)
                    ));
                };
                let Some(a) = f.dims.get(usize::from(axis)) else {
                    return fail(format!("fanout `{}` has no dimension {axis}", name(fanout)));
                };
                if place < memory_at || place < fanout_at {
                    return fail(format!(
                        "`{}` lies outside a memory or fanout that stands before it",
                        name(fanout)
                    ));
                }
                fanout_at = place;
                let d = &problem.einsum.dim(dim).name;
                if !a.accepts.iter().any(|s| selects(problem.einsum, s, dim)) {
                    return fail(format!(
                        "`{}.{}` does not accept dimension `{d}`",
                        name(fanout),
                        a.name
                    ));
                }
                let trips = std::mem::replace(&mut tiles[dim.index()], tile).div_ceil(tile);
                let entry = match used.iter_mut().find(|u| (u.0, u.1) == (fanout, axis)) {
                    Some(entry) => entry,
                    None => {
                        used.push((fanout, axis, 1));
                        let last = used.len() - 1;
                        &mut used[last]
                    }
                };
                entry.2 = entry.2.saturating_mul(trips);
                if entry.2 > a.size {
                    return fail(format!(
                        "`{}.{}` has {} instances, not {}",
                        name(fanout),
                        a.name,
                        a.size,
                        entry.2
                    ));
                }
            }
        }
    }
    let missing = |reason: String| {
        Err(MappingError::Place {
            step: steps.len(),
            reason,
        })
    };
    for operand in Operand::ALL {
        let (what, home) = (operand.name(), problem.home[operand.index()]);
        if kept[operand.index()].is_none() {
            return missing(format!("{what} is not stored at its home `{}`", name(home)));
        }
        let below = problem.path.iter().skip_while(|n| **n != home).skip(1);
        for node in below.filter(|n| problem.must_keep(**n).has(operand)) {
            if !steps.contains(&Step::Store {
                memory: *node,
                operand,
            }) {
                return missing(format!("`{}` must keep {what}", name(*node)));
            }
        }
    }
    Ok(())
}

fn as_fanout<'a>(problem: &Problem<'a>, node: NodeId) -> Option<&'a Fanout> {
    match &problem.chip.nodes.get(node)?.kind {
        NodeKind::Fanout(f) => Some(f),
        _ => None,
    }
}

fn check_capacity(problem: &Problem, steps: &[Step]) -> Result<(), MappingError> {
    let footprint = Footprint::new(problem, steps);
    for (place, node) in problem.path.iter().enumerate() {
        let Some(memory) = problem.chip.nodes[*node].memory() else {
            continue;
        };
        let tiles = steps.iter().enumerate().filter_map(|(i, step)| match step {
            Step::Store { memory, operand }
                if memory == node && problem.home[operand.index()] != *node =>
            {
                Some(footprint.bits(problem, *operand, i))
            }
            _ => None,
        });
        let needed = whole_bytes(tiles.sum::<f64>() * f64::from(memory.buffering));
        let available = problem
            .capacity
            .get(place)
            .copied()
            .unwrap_or(memory.capacity);
        if needed > available {
            return Err(MappingError::Capacity {
                memory: problem.chip.nodes[*node].name.clone(),
                needed,
                available,
            });
        }
    }
    Ok(())
}

fn whole_bytes(bits: f64) -> Bytes {
    Bytes((bits / 8.0).ceil() as u64)
}

/// Sizes of the tiles that steps keep.
struct Footprint {
    patterns: [Pattern; 3],
    nest: nest::Nest,
    /// Which storage of its operand a step is.
    order: Vec<usize>,
}

impl Footprint {
    fn new(problem: &Problem, steps: &[Step]) -> Self {
        let mut seen = [0usize; 3];
        let order = steps.iter().map(|step| match step {
            Step::Store { operand, .. } => {
                seen[operand.index()] += 1;
                seen[operand.index()] - 1
            }
            _ => 0,
        });
        let patterns = Operand::ALL
            .map(|o| Pattern::of(problem.einsum, nest::access(problem.einsum, o), None));
        Self {
            order: order.collect(),
            nest: nest::Nest::new(problem, steps),
            patterns,
        }
    }

    /// Bits of the tile that a storage step keeps.
    fn bits(&self, problem: &Problem, operand: Operand, step: usize) -> f64 {
        let order = self.order[step];
        let Some(store) = self.nest.chains[operand.index()].get(order) else {
            return 0.0;
        };
        let tiles = self.nest.tiles(problem.einsum, store.above);
        let elements = self.patterns[operand.index()].tile_elements(&tiles);
        let partial = operand == Operand::Output && order > 0 && self.nest.holds_partial(order);
        let width = if partial {
            problem.accumulate.bits() as f64
        } else {
            problem.bits[operand.index()]
        };
        elements as f64 * width
    }
}
