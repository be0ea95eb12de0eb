//! What a mapping makes of its path: tiles, traffic and ports of each memory, and how far each axis is used.
//!
//! Tiles are those of one instance, as they are stored (partial sums as wide as the accumulator); their share is of
//! what the problem leaves of an instance, all `buffering` copies counted. Traffic is summed over instances. A
//! memory's busy time is that of its busiest instance's busier port; over the op's time it is that port's
//! utilization.

use presil_hwmodels::{NodeId, NodeKind, Operand};
use presil_numerics::{Bytes, Seconds};
use presil_workloads::DimId;

use crate::cost::{Cost, Resource};
use crate::mapping::{Mapping, Step};
use crate::problem::Problem;

/// What a mapping makes of its path.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Usage {
    /// Memories that keep something, outermost first.
    pub levels: Vec<LevelUse>,
    /// Axes of the path's fanouts, outermost first.
    pub axes: Vec<AxisUse>,
    /// Time of the mapping.
    pub time: Seconds,
}

/// A memory.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelUse {
    /// The memory.
    pub memory: NodeId,
    /// What tiles may take in one instance.
    pub capacity: Bytes,
    /// Copies held of each tile.
    pub buffering: u32,
    /// Busy time of the busier port of its busiest instance.
    pub busy: Seconds,
    /// Operands that it keeps.
    pub operands: Vec<OperandUse>,
}

impl LevelUse {
    /// Share of the capacity that tiles take.
    pub fn share(&self) -> f64 {
        let tiles = self.operands.iter().filter(|o| !o.home);
        // An empty sum of floats is minus zero.
        let bytes = tiles.fold(0.0, |sum, o| sum + o.tile_bytes);
        bytes * f64::from(self.buffering) / (self.capacity.0 as f64).max(1.0)
    }
}

/// An operand at a memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OperandUse {
    /// The operand.
    pub operand: Operand,
    /// Whether it starts or ends here: the whole tensor, which takes nothing from the tiles.
    pub home: bool,
    /// Bytes of one copy of its tile in one instance.
    pub tile_bytes: f64,
    /// Elements read.
    pub reads: u128,
    /// Elements written.
    pub writes: u128,
    /// Bytes read.
    pub read_bytes: f64,
    /// Bytes written.
    pub write_bytes: f64,
}

/// An axis of a fanout.
#[derive(Debug, Clone, PartialEq)]
pub struct AxisUse {
    /// The fanout.
    pub fanout: NodeId,
    /// Which of its dimensions.
    pub axis: u8,
    /// Instances along it.
    pub size: u64,
    /// Those that work.
    pub used: u64,
    /// Dimensions along it with their trips.
    pub loops: Vec<(DimId, u64)>,
}

/// What a mapping makes of its problem's path; `cost` is its cost.
pub fn usage(problem: &Problem, mapping: &Mapping, cost: &Cost) -> Usage {
    let bits = mapping.tile_bits(problem);
    let mut usage = Usage {
        time: cost.time,
        ..Usage::default()
    };
    for (place, node) in problem.path.iter().enumerate() {
        match &problem.chip.nodes[*node].kind {
            NodeKind::Memory(m) => {
                let kept = mapping.steps().iter().zip(&bits);
                let kept = kept.filter_map(|(step, bits)| match *step {
                    Step::Store { memory, operand } if memory == *node => Some((operand, *bits)),
                    _ => None,
                });
                let operands: Vec<OperandUse> = kept
                    .map(|(operand, bits)| operand_use(problem, cost, *node, operand, bits))
                    .collect();
                if operands.is_empty() {
                    continue;
                }
                let busy = cost.busy.iter().filter(|b| b.0 == Resource::Memory(*node));
                usage.levels.push(LevelUse {
                    memory: *node,
                    capacity: problem.capacity.get(place).copied().unwrap_or(m.capacity),
                    buffering: m.buffering,
                    busy: busy.map(|b| b.1).sum(),
                    operands,
                });
            }
            NodeKind::Fanout(f) => {
                for (a, axis) in (0u8..).zip(&f.dims) {
                    let loops = spread(problem, mapping, *node, a);
                    usage.axes.push(AxisUse {
                        fanout: *node,
                        axis: a,
                        size: axis.size,
                        used: loops.iter().map(|l| l.1).product(),
                        loops,
                    });
                }
            }
            NodeKind::Compute(_) => {}
        }
    }
    usage
}

fn operand_use(
    problem: &Problem,
    cost: &Cost,
    memory: NodeId,
    operand: Operand,
    bits: f64,
) -> OperandUse {
    let count = cost
        .counts
        .iter()
        .find(|c| (c.memory, c.operand) == (memory, operand));
    OperandUse {
        operand,
        home: problem.home[operand.index()] == memory,
        tile_bytes: bits / 8.0,
        reads: count.map_or(0, |c| c.reads),
        writes: count.map_or(0, |c| c.writes),
        read_bytes: count.map_or(0.0, |c| c.read_bits / 8.0),
        write_bytes: count.map_or(0.0, |c| c.write_bits / 8.0),
    }
}

/// Dimensions along an axis with their trips, loops of one trip left out.
fn spread(problem: &Problem, mapping: &Mapping, node: NodeId, along: u8) -> Vec<(DimId, u64)> {
    let mut tiles: Vec<u64> = problem.einsum.dims.iter().map(|d| d.size).collect();
    let mut loops = Vec::new();
    for step in mapping.steps() {
        let (Step::Temporal { dim, tile } | Step::Spatial { dim, tile, .. }) = *step else {
            continue;
        };
        let Some(outer) = tiles.get_mut(dim.0 as usize) else {
            continue;
        };
        let trips = std::mem::replace(outer, tile).div_ceil(tile.max(1));
        match *step {
            Step::Spatial { fanout, axis, .. } if (fanout, axis) == (node, along) && trips > 1 => {
                loops.push((dim, trips));
            }
            _ => {}
        }
    }
    loops
}
