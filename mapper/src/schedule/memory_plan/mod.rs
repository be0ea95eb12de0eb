//! The memory plan: what each resident memory holds, where and when, and what it could not hold.
//!
//! Time is a position in [`Schedule::order`](super::Schedule::order); the ops of an epilogue stand at their MAC
//! op's. For each resident memory the plan lists regions:
//!
//! ```text
//! tensor   at home there from the op that makes it to its last reader (weights and caches: always), at one
//!          address; the output of an elementwise op at that of its input where it takes its place
//! tiles    of an array op's operands that are at home elsewhere, while the op runs: the mapping's tiles, as many
//!          of each as the memory buffers; weights that stay over the steps of an op likewise
//! group    a tile that a fused group holds or passes on, while the ops that need it run, at one address
//! ahead    what is left while an op runs, for weights of later ops
//!
//! bound    most bytes of tensors alive at once           <= tensor_peak: highest end of a tensor
//! peak     highest end of a tensor or a tile             <= capacity
//! fragmentation(op) = 1 - largest hole / bytes left      while the op runs
//! ```
//!
//! Tensors are placed for the whole graph at once (`allocate`); tiles go to the holes between them, each into the
//! tightest that holds it, or are split over several. A repeated block stands for all its repetitions: weights
//! that stay are there once for each.
//!
//! Vector units stream operands at home elsewhere through their memory in rows; those few bytes are not listed.

pub mod allocate;
mod holes;

use presil_hwmodels::{Chip, NodeId, Operand};
use presil_numerics::Bytes;
use presil_workloads::{OpId, TensorId};

use super::layout::Layout;
use super::residency::{Held, Residency};
use allocate::Span;
use holes::Holes;

/// Why an activation is not at home on chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Others that save more take the room.
    Room,
    /// There is room, but not in one piece.
    Gaps,
    /// A host op, or an op that nobody runs, touches it in the root memory.
    Host,
    /// No resident memory is on the path of every array that uses it.
    Path,
}

impl Cause {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Gaps => "gaps",
            Self::Host => "host",
            Self::Path => "path",
        }
    }
}

/// An activation that goes through the root memory although the chip keeps activations. Bytes of one inference,
/// over all repetitions, each use counted once; what mappings fetch again is in the ops' counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spill {
    /// The tensor.
    pub tensor: TensorId,
    /// Why.
    pub cause: Cause,
    /// Bytes written to the root memory.
    pub written_bytes: f64,
    /// Bytes read from it.
    pub read_bytes: f64,
}

/// What a region of a memory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// A tensor at home there.
    Tensor(TensorId),
    /// A tile of an operand of an op, or part of one.
    Tile(OpId, Operand),
    /// A tile of a tensor that a fused group holds or passes on.
    GroupTile(TensorId),
    /// Weights that stay over the steps of an op.
    Weights(OpId),
    /// Free for weights of later ops while an op runs.
    Ahead(OpId),
}

/// A range of addresses of a memory over some time.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// What for.
    pub holds: Holds,
    /// First byte.
    pub offset: Bytes,
    /// Bytes: those of the layout, for each repetition of what always stays.
    pub bytes: Bytes,
    /// Positions from and to which, both included; several for the ends of a loop.
    pub live: Vec<Span>,
    /// How a tensor lies in it.
    pub layout: Option<Layout>,
}

/// The plan of one resident memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Scratchpad {
    /// The memory.
    pub memory: NodeId,
    /// Its capacity.
    pub capacity: Bytes,
    /// Offsets and sizes of tensors are multiples of it.
    pub alignment: Bytes,
    /// Tensors by start, then tiles and room ahead by op.
    pub regions: Vec<Region>,
    /// Most bytes of tensors alive at once: no plan that keeps them needs less.
    pub bound: Bytes,
    /// Highest end of a tensor.
    pub tensor_peak: Bytes,
    /// Whether no placement of these tensors has a lower one.
    pub optimal: bool,
    /// Highest end of a tensor or a tile.
    pub peak: Bytes,
    /// Most bytes of tensors and tiles at once.
    pub most: Bytes,
    /// The position where that is.
    pub most_at: usize,
    /// The largest fragmentation of what is left at any position that has something left.
    pub fragmentation: f64,
}

impl Scratchpad {
    /// Indices of the regions of tensors and tiles at a position, largest first.
    pub fn alive(&self, position: usize) -> Vec<usize> {
        let here = |r: &Region| {
            !matches!(r.holds, Holds::Ahead(_)) && r.live.iter().any(|s| s.has(position))
        };
        let mut list: Vec<usize> = (0..self.regions.len())
            .filter(|i| here(&self.regions[*i]))
            .collect();
        list.sort_by_key(|i| (std::cmp::Reverse(self.regions[*i].bytes), *i));
        list
    }
}

/// The plan of a schedule's memories.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MemoryPlan {
    /// The resident memories, nearest to compute first.
    pub memories: Vec<Scratchpad>,
    /// Activations that are not at home on chip.
    pub spills: Vec<Spill>,
    /// Whether no other choice of tensors saves more root memory cost.
    pub optimal: bool,
    /// Whether the order of ops is another than the graph's.
    pub reordered: bool,
    /// Bytes that activations at home in the root memory, inputs and outputs included, have read from and written
    /// to it in one inference, each use counted once.
    pub root_bytes: (f64, f64),
}

/// Tiles of an op in a memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tiles {
    pub(crate) memory: NodeId,
    pub(crate) holds: Holds,
    /// Bytes of one, and how many.
    pub(crate) bytes: u64,
    pub(crate) copies: u64,
}

/// The plan, once tiles are known. `order`: the ops that run, with what they hold in memories; `ahead`: where
/// weights are fetched ahead, if at all.
pub(super) fn build(
    chip: &Chip,
    residency: &Residency,
    tiles: &[(usize, OpId, Vec<Tiles>)],
    ahead: Option<NodeId>,
    alignment: Bytes,
    reordered: bool,
) -> MemoryPlan {
    let pads = residency.held.iter().map(|held| {
        let ahead = ahead == Some(held.memory);
        scratchpad(chip, held, tiles, ahead, alignment)
    });
    MemoryPlan {
        memories: pads.collect(),
        spills: residency.spills.clone(),
        optimal: residency.optimal,
        reordered,
        root_bytes: (residency.root_bits.0 / 8.0, residency.root_bits.1 / 8.0),
    }
}

fn scratchpad(
    chip: &Chip,
    held: &Held,
    tiles: &[(usize, OpId, Vec<Tiles>)],
    ahead: bool,
    alignment: Bytes,
) -> Scratchpad {
    let memory = chip.nodes[held.memory].memory();
    let (capacity, word) = memory.map_or((0, 1), |m| (m.capacity.0, m.word.0.max(1)));
    let mut regions: Vec<Region> = held
        .residents
        .iter()
        .map(|r| Region {
            holds: match r.tile {
                true => Holds::GroupTile(r.tensor),
                false => Holds::Tensor(r.tensor),
            },
            offset: Bytes(r.offset),
            bytes: Bytes(r.bytes),
            live: r.live.clone(),
            layout: r.layout.clone(),
        })
        .collect();
    let mut peak = held.allocation.peak;
    let (mut most, mut most_at, mut fragmentation) = (0u64, 0usize, 0.0f64);
    for (position, op, list) in tiles {
        let taken = held
            .residents
            .iter()
            .filter(|r| r.live.iter().any(|s| s.has(*position)))
            .map(|r| (r.offset, r.offset.saturating_add(r.bytes)));
        let mut holes = Holes::new(capacity, taken);
        let now = Span {
            from: *position,
            to: *position,
        };
        let mut add = |holds, (from, to): (u64, u64)| {
            regions.push(Region {
                holds,
                offset: Bytes(from),
                bytes: Bytes(to - from),
                live: vec![now],
                layout: None,
            });
        };
        for t in list.iter().filter(|t| t.memory == held.memory) {
            for _ in 0..t.copies {
                for range in holes.take(t.bytes, word) {
                    peak = peak.max(range.1);
                    add(t.holds, range);
                }
            }
        }
        let left = holes.total();
        if capacity - left.min(capacity) > most {
            (most, most_at) = (capacity - left, *position);
        }
        if left > 0 {
            fragmentation = fragmentation.max(1.0 - holes.largest() as f64 / left as f64);
        }
        if ahead {
            holes.all().for_each(|hole| add(Holds::Ahead(*op), hole));
        }
    }
    let step = alignment.0.max(1).checked_next_multiple_of(word);
    Scratchpad {
        memory: held.memory,
        capacity: Bytes(capacity),
        alignment: Bytes(step.unwrap_or(word)),
        regions,
        bound: Bytes(held.allocation.bound),
        tensor_peak: Bytes(held.allocation.peak),
        optimal: held.allocation.optimal,
        peak: Bytes(peak),
        most: Bytes(most),
        most_at,
        fragmentation,
    }
}
