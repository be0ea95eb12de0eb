//! What has to be mapped: one MAC einsum on one array engine.

use presil_hwmodels::{Chip, EngineId, NodeId, OperandSet};
use presil_numerics::{Bytes, Format};
use presil_workloads::Einsum;

/// One MAC einsum on one array engine, given where its operands start and end and what capacity is left.
#[derive(Debug, Clone)]
pub struct Problem<'a> {
    /// The einsum; [`Einsum::is_contraction`] holds.
    pub einsum: &'a Einsum,
    /// The chip.
    pub chip: &'a Chip,
    /// The array.
    pub engine: EngineId,
    /// Nodes from the root to the array's compute node.
    pub path: Vec<NodeId>,
    /// Mean stored bits of an element of input, weight and final output, scales included.
    pub bits: [f64; 3],
    /// Format of partial sums, wherever they are kept or moved.
    pub accumulate: Format,
    /// Index into the chip's compute modes that is used.
    pub mode: usize,
    /// The memory where each operand starts (inputs) or ends (output): it holds the whole tensor and its
    /// storage node is the outermost of that operand. Memories above it carry no traffic of the operand.
    pub home: [NodeId; 3],
    /// For each node of `path`, the capacity that tiles of this op may use in one instance (before division by
    /// the memory's `buffering`); what is resident for other ops is already taken away. Whole tensors at home
    /// do not count against it.
    pub capacity: Vec<Bytes>,
    /// How each operand lies at its home; none: packed tile by tile, as weights are before they are loaded.
    pub lies: [Option<Lies>; 3],
}

/// How a tensor lies in a memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lies {
    /// For each rank of its access, in the order of the access, bits from one index to the next.
    pub pitch_bits: Vec<u64>,
}

/// A problem without the einsum and the chip that it refers to.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// As of [`Problem::engine`].
    pub engine: EngineId,
    /// As of [`Problem::path`].
    pub path: Vec<NodeId>,
    /// As of [`Problem::bits`].
    pub bits: [f64; 3],
    /// As of [`Problem::accumulate`].
    pub accumulate: Format,
    /// As of [`Problem::mode`].
    pub mode: usize,
    /// As of [`Problem::home`].
    pub home: [NodeId; 3],
    /// As of [`Problem::capacity`].
    pub capacity: Vec<Bytes>,
    /// As of [`Problem::lies`].
    pub lies: [Option<Lies>; 3],
}

impl Terms {
    /// The problem of an einsum on a chip.
    pub fn of<'a>(&self, einsum: &'a Einsum, chip: &'a Chip) -> Problem<'a> {
        let Self {
            engine,
            path,
            bits,
            accumulate,
            mode,
            home,
            capacity,
            lies,
        } = self.clone();
        Problem {
            einsum,
            chip,
            engine,
            path,
            bits,
            accumulate,
            mode,
            home,
            capacity,
            lies,
        }
    }
}

impl Problem<'_> {
    /// It without its einsum and chip.
    pub fn terms(&self) -> Terms {
        Terms {
            engine: self.engine,
            path: self.path.clone(),
            bits: self.bits,
            accumulate: self.accumulate,
            mode: self.mode,
            home: self.home,
            capacity: self.capacity.clone(),
            lies: self.lies.clone(),
        }
    }

    /// Memories of the path that an operand may be kept at, below its home, outermost first.
    pub fn levels_below_home(&self, operand: presil_hwmodels::Operand) -> Vec<NodeId> {
        let home = self.home[operand.index()];
        let below = self.path.iter().skip_while(|n| **n != home).skip(1);
        below
            .filter(|n| {
                self.chip.nodes[**n]
                    .memory()
                    .is_some_and(|m| m.keeps.has(operand))
            })
            .copied()
            .collect()
    }

    /// Operands that a memory must keep.
    pub fn must_keep(&self, node: NodeId) -> OperandSet {
        self.chip.nodes[node]
            .memory()
            .map_or(OperandSet::NONE, |m| m.must_keep)
    }
}
