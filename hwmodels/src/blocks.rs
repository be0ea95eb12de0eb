//! Block engines: arrays of dot-product lanes that make an output block by block.
//!
//! Such an engine (Arm Ethos-U is one) cuts a layer's output into blocks that its buffer holds, and a block into
//! *micro-blocks* of rows x columns x channels, whose sums its lanes make at once. A *step* takes one filter tap and
//! `input_channels` channels (or several taps, where the layer has few channels) of a micro-block and lasts at least
//! `step_cycles`. Finished blocks pass an output unit at so many cycles an element. What a chip file says of it is in
//! its section `[blocks]`; times are closed forms of the mapper's.

use presil_numerics::Bytes;

use crate::chip::{EngineId, NodeId};

/// What passes an output unit, in the order of the output unit's keys in a chip file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// Sums of products, averages and copies.
    Sum,
    /// Maxima.
    Maximum,
    /// Sums and differences of two tensors.
    Add,
    /// Products of two tensors, and sums of more than 32 bits.
    Multiply,
    /// Products of two tensors with results of 32 bits.
    WideMultiply,
    /// Other operations on 32-bit values with two operands.
    WideBinary,
    /// Other operations on 32-bit values with one operand.
    WideUnary,
    /// Look-ups in a function table.
    Lookup,
    /// Clamping to a range.
    Clamp,
}

impl OutputKind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Sum,
        Self::Maximum,
        Self::Add,
        Self::Multiply,
        Self::WideMultiply,
        Self::WideBinary,
        Self::WideUnary,
        Self::Lookup,
        Self::Clamp,
    ];

    /// The key in a chip file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Maximum => "maximum",
            Self::Add => "add",
            Self::Multiply => "multiply",
            Self::WideMultiply => "wide_multiply",
            Self::WideBinary => "wide_binary",
            Self::WideUnary => "wide_unary",
            Self::Lookup => "lookup",
            Self::Clamp => "clamp",
        }
    }
}

/// The buffer that a block's inputs and sums share, in banks that are given out several at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BankedBuffer {
    /// Banks.
    pub banks: u64,
    /// Bytes of a bank.
    pub bank: Bytes,
    /// Banks that are never inputs or sums: outputs on their way, the last ones.
    pub reserved: u64,
    /// Banks of a function table, where a layer has one; those reserved at the end serve as well.
    pub table: u64,
    /// Banks that inputs of 8, 16 and 32 bits are given at a time.
    pub input_grain: [u64; 3],
    /// Banks that sums of 32 bits and of 40 bits are given at a time.
    pub sum_grain: [u64; 2],
}

/// A block engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocks {
    /// The array whose layers run so.
    pub array: EngineId,
    /// The vector engine whose ops run so, and that takes the array's outputs.
    pub vector: EngineId,
    /// Where feature maps live unless the schedule keeps them closer: the root memory, or one below it.
    pub arena: NodeId,
    /// The memory that weights are staged in.
    pub staging: NodeId,
    /// Bytes of a function table, loaded before a layer uses another one than the layer before.
    pub function_table: Bytes,
    /// Passes over an input in the arena from which on it is first copied to the staging memory, if it
    /// and the output fit there.
    pub input_passes: Option<u64>,
    /// Whether feature maps that fit no memory closer than the arena pass from op to op in stripes of rows.
    pub cascades: bool,
    /// Engines that share a layer's output channels.
    pub cores: u64,
    /// Rows, columns and channels of a micro-block.
    pub micro: [u64; 3],
    /// Input channels of a step.
    pub input_channels: u64,
    /// Filter taps of a step, where a step takes several.
    pub taps: u64,
    /// Cycles of a step at least.
    pub step_cycles: u64,
    /// Cycles to decode the weights of a step for one output channel.
    pub decode_cycles: f64,
    /// Cycles that a sum waits for itself, for sums of 32 and of 40 bits.
    pub hazard_cycles: [u64; 2],
    /// Rows and columns of a filter at a time.
    pub window: u64,
    /// Rows, columns and channels of a block at most.
    pub most: [u64; 3],
    /// Blocks of fewer than all channels have a multiple of so many; feature maps are stored in bricks of as many.
    pub brick: u64,
    /// Bytes of input channels of a block: with whole filters, and with taps packed into steps.
    pub input_bytes: [u64; 2],
    /// The buffer.
    pub buffer: BankedBuffer,
    /// Bytes of scale and bias of an output channel.
    pub scale_bytes: u64,
    /// Bytes of scales that one request reads.
    pub scale_request: u64,
    /// Stored bits of weights over their own bits: what the weight decoder saves, or costs.
    pub weight_ratio: f64,
    /// Part of a block's latencies and work that its command takes.
    pub command_share: f64,
    /// Cycles that an output takes, by [`OutputKind`].
    pub output_cycles: [f64; 9],
}

impl Blocks {
    /// Cycles that an output of a kind takes.
    pub fn output(&self, kind: OutputKind) -> f64 {
        self.output_cycles[kind as usize]
    }
}
