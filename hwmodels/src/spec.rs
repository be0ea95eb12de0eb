//! What a chip file says: the tables and keys of `configs/chips/*.toml`.
//!
//! ```toml
//! name = "tiny"
//! description = "A 4x4 array over one buffer."
//! status = "assumed"                       # of every constant below that says nothing else
//! source = "example"
//!
//! [technology]
//! node = "22 nm"
//!
//! [[clock]]
//! name = "core"
//! frequency = "500 MHz"
//!
//! [[memory]]                               # the root: it has no parent
//! name = "dram"
//! kind = "dram"
//! part = "LPDDR4-4266"
//! channels = 2
//! capacity = "1 GiB"
//!
//! [[memory]]
//! name = "sram"
//! parent = "dram"
//! kind = "sram"
//! capacity = "256 KiB"
//! word = "16 B"                            # bandwidth = word x ports x clock
//! clock = "core"
//!
//! [[fanout]]
//! name = "pes"
//! parent = "sram"
//! [[fanout.dim]]
//! name = "rows"
//! size = 4
//! multicast = ["output"]
//! reduces = true
//! accepts = ["reduction"]
//!
//! [[compute]]
//! name = "mac"
//! parent = "pes"
//! clock = "core"
//! mode = [{ input = "int8", weight = "int8", accumulate = "int32", macs_per_cycle = 1 }]
//!
//! [[array]]
//! name = "array"
//! compute = "mac"
//! ```
//!
//! Nodes name their `parent`, so that a file that `extends` another can change one node by its name. A constant is
//! written plainly or as `{ value, range = [lowest, highest], status, source, group }`. Energies, areas and leakage
//! that a file leaves out come from the technology models. Nothing here is checked beyond the type of each key;
//! [`crate::resolve`] does that.

use std::str::FromStr;

use presil_numerics::{
    Bytes, BytesPerSecond, Format, Hertz, Joules, JoulesPerBit, Nanometres, Precision, Seconds,
    SquareMm, Volts, Watts,
};
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::chip::{DimSelector, FuseGroups, MemoryKind, Operand, Overlap};
use crate::decode::{At, Decode, Entries, Sourced, decode_names, one_of, spec_tables};
use crate::document::{Item, ItemKind, Problems};
use crate::sourced::Status;
use crate::technology::{DeviceClass, Scaling};

spec_tables! {
    /// A chip: a tree of memories, fanouts and compute, the engines that attach to it, and what its compiler and
    /// its arithmetic can do.
    pub struct ChipSpec {
        /// Name.
        pub name: At<String>,
        /// One sentence.
        pub description: String,
        /// A chip that this one starts from: a name of the library or a path beside this file.
        pub extends: Option<At<String>>,
        /// Status of the constants of this file that state none.
        pub status: Option<Status>,
        /// Source of the constants of this file that state none.
        pub source: Option<String>,
        /// Process.
        pub technology: TechnologySpec,
        /// Clock domains.
        pub clock: Vec<ClockSpec>,
        /// Memories.
        pub memory: Vec<MemorySpec>,
        /// Spatial fanouts.
        pub fanout: Vec<FanoutSpec>,
        /// Compute nodes: the leaves.
        pub compute: Vec<ComputeSpec>,
        /// MAC array engines.
        pub array: Vec<ArraySpec>,
        /// Vector engines.
        pub vector: Vec<VectorSpec>,
        /// A general processor for what the other engines cannot run.
        pub host: Option<HostSpec>,
        /// Everything else on the chip.
        pub other: Option<OtherSpec>,
        /// What its compiler can do.
        pub mapspace: Option<MapspaceSpec>,
        /// How far ahead and in which pieces data moves.
        pub movement: Option<MovementSpec>,
        /// An array that works block by block of the output, micro-block by micro-block.
        pub blocks: Option<BlocksSpec>,
        /// The kernels that its library has, on chips that run ops as grids of blocks (GPUs).
        pub kernels: Option<KernelsSpec>,
        /// What it can do to draw less: operating points, idling, sleep.
        pub power: Option<PowerSpec>,
        /// Its arithmetic.
        pub numerics: Option<NumericsSpec>,
    }

    /// The process that a chip is made in, and which models speak of it.
    pub struct TechnologySpec {
        /// Process node, such as 7 nm.
        pub node: Sourced<Nanometres>,
        /// Transistor class of logic and SRAM; decides leakage above all. Default itrs-lstp.
        pub device: Option<DeviceClass>,
        /// Supply voltage; energies scale with its square. Default: the node's nominal one.
        pub voltage: Option<Sourced<Volts>>,
        /// Which source scales energies between nodes. Default jouppi; the other gives the range.
        pub scaling: Option<Scaling>,
    }

    /// A clock domain.
    pub struct ClockSpec {
        /// Name, for the `clock` keys.
        pub name: At<String>,
        /// Frequency.
        pub frequency: Sourced<Hertz>,
    }

    /// A memory. All figures are of one instance.
    pub struct MemorySpec {
        /// Unique name.
        pub name: At<String>,
        /// The node above; the root memory has none.
        pub parent: Option<At<String>>,
        /// Technology.
        pub kind: MemoryKind,
        /// Transistor class, where it is not the chip's.
        pub device: Option<DeviceClass>,
        /// DRAM part of the technology table, such as LPDDR5-6400: gives rates, burst, energies and background.
        pub part: Option<At<String>>,
        /// Channels of the part.
        pub channels: Option<Sourced<u64>>,
        /// Capacity.
        pub capacity: Sourced<Bytes>,
        /// Bytes of one port access. SRAM and registers: default 8 B.
        pub word: Option<Sourced<Bytes>>,
        /// Ports: "1rw" (shared by reads and writes), "1r1w", "2r1w". Default 1rw off chip, 1r1w on chip.
        pub ports: Option<At<Ports>>,
        /// Clock of the ports, where no bandwidth is given.
        pub clock: Option<At<String>>,
        /// Rate of reads and of writes. Default: word x ports x clock, or the part's.
        pub bandwidth: Option<Sourced<BytesPerSecond>>,
        /// Rate of reads.
        pub read_bandwidth: Option<Sourced<BytesPerSecond>>,
        /// Rate of writes.
        pub write_bandwidth: Option<Sourced<BytesPerSecond>>,
        /// Fraction of the rate that long streams reach. Default 1, or the part's.
        pub streaming_efficiency: Option<Sourced<f64>>,
        /// Order of a DRAM address's fields, such as row-rank-bank-group-column. Default: the part's. Matters where the
        /// efficiency is the part's.
        pub address_order: Option<At<String>>,
        /// Requests that may be in flight to it: bounds its rates by their bytes over its latency. Default: no bound.
        pub outstanding: Option<Sourced<u64>>,
        /// Bytes of such a request. Default: the burst.
        pub request: Option<Sourced<Bytes>>,
        /// Banks that the capacity is split into. Default: as many as banks of the technology's size.
        pub banks: Option<Sourced<u64>>,
        /// Bytes that a bank gives in a cycle: accesses that meet in a bank take longer. Default: they never meet.
        pub bank_width: Option<Sourced<Bytes>>,
        /// Energy of moving a bit in or out. Default: the technology model or the part's.
        pub energy: Option<Sourced<JoulesPerBit>>,
        /// Energy of reading a bit.
        pub read_energy: Option<Sourced<JoulesPerBit>>,
        /// Energy of writing a bit.
        pub write_energy: Option<Sourced<JoulesPerBit>>,
        /// Leakage or background power. Default: the technology model or the part's.
        pub static_power: Option<Sourced<Watts>>,
        /// Area on the die. Default: the technology model; zero off chip.
        pub area: Option<Sourced<SquareMm>>,
        /// Operands that may be kept here. Default all.
        pub keeps: Option<Vec<Operand>>,
        /// Operands that every mapping must keep here (a systolic array's stationary operand).
        pub must_keep: Vec<Operand>,
        /// Tiles held for each kept one: 2 for double buffering. Default 1.
        pub buffering: Option<At<u64>>,
        /// Whether tensors may stay here between ops. Default: only off chip.
        pub resident: Option<bool>,
        /// What happens to halos of sliding windows. Default keep.
        pub overlap: Option<Overlap>,
        /// Time from a request to its first word. Default: the part's, else zero.
        pub latency: Option<Sourced<Seconds>>,
        /// Time to set up one transfer into this memory's children. Default zero.
        pub setup: Option<Sourced<Seconds>>,
        /// Smallest efficient transfer. Default: the part's burst, else the word.
        pub burst: Option<Sourced<Bytes>>,
        /// Code in which it holds some operands, leaving zeros out. Default none.
        pub compression: Option<CompressionSpec>,
        /// Accesses that zeros save. Default none.
        pub gating: Option<GatingSpec>,
    }

    /// A code that leaves zeros out. A tensor that it would lengthen is stored as it is.
    pub struct CompressionSpec {
        /// The code.
        pub code: At<CodeName>,
        /// Operands that are held in it.
        pub operands: Vec<Operand>,
        /// Run length: bits of the length of a run of zeros.
        pub run_bits: Option<Sourced<u64>>,
        /// Run length: bits of the element behind a run.
        pub value_bits: Option<Sourced<u64>>,
        /// Run length: pairs of run and element in a word.
        pub pairs_per_word: Option<Sourced<u64>>,
        /// Run length: bits of such a word.
        pub word_bits: Option<Sourced<u64>>,
    }

    /// A gate that zeros close.
    pub struct GatingSpec {
        /// Operands of which one zero closes it.
        pub by: Vec<Operand>,
        /// Share of the energy that is left where it is closed. Default 0.
        pub rest: Option<Sourced<f64>>,
    }

    /// A spatial fanout: everything below exists once for each instance.
    pub struct FanoutSpec {
        /// Unique name.
        pub name: At<String>,
        /// The node above.
        pub parent: At<String>,
        /// Dimensions.
        pub dim: Vec<FanoutDimSpec>,
        /// Energy of moving a bit to one instance; with a network, over one link. Default: the technology's wire over the pitch of an instance.
        pub hop_energy: Option<Sourced<JoulesPerBit>>,
        /// Links to the instances. Default: none that take time.
        pub network: Option<NetworkSpec>,
    }

    /// The network of a fanout.
    pub struct NetworkSpec {
        /// How its links lie: bus, tree, mesh or systolic.
        pub topology: At<TopologyName>,
        /// Time from one router or neighbour to the next. Default 0.
        pub hop_latency: Option<Sourced<Seconds>>,
        /// Rate of a link in one direction. Default: width x clock; without these, links limit nothing.
        pub link_bandwidth: Option<Sourced<BytesPerSecond>>,
        /// Bytes that a link moves in a cycle.
        pub link_width: Option<Sourced<Bytes>>,
        /// Clock of the links, where a width is given.
        pub clock: Option<At<String>>,
        /// Mesh: instances in a row. Default: the size of the last dimension.
        pub columns: Option<Sourced<u64>>,
        /// Mesh: rows at which the memory above is attached. Default 1: at a corner.
        pub entrances: Option<Sourced<u64>>,
        /// Tree: links below each switch. Default 2.
        pub radix: Option<Sourced<u64>>,
    }

    /// How far ahead and in which pieces data moves.
    pub struct MovementSpec {
        /// Transfers into a memory that the mover of one operand has set up or under way at once: entries of its command queue. Default 2.
        pub loads: Option<Sourced<u64>>,
        /// The same, out of a memory. Default 2.
        pub stores: Option<Sourced<u64>>,
        /// Parts of a memory's room that it gives back, one by one, to a stream that feeds it (one that takes no time to set a transfer up).
        /// Default 16.
        pub credits: Option<Sourced<u64>>,
        /// Strips in which a vector op passes through its memory at most. Default 16.
        pub strips: Option<Sourced<u64>>,
    }

    /// One dimension of a fanout.
    pub struct FanoutDimSpec {
        /// Name ("rows").
        pub name: At<String>,
        /// Instances along it.
        pub size: Sourced<u64>,
        /// Operands that one read above delivers to all instances that need the same.
        pub multicast: Vec<Operand>,
        /// Whether partial outputs are summed on the way up. Default false.
        pub reduces: Option<bool>,
        /// Dimensions of an einsum that may be laid along it, in order of preference: classes or names.
        pub accepts: Vec<DimSelector>,
        /// Instances that one instruction stream drives: groups of as many may run different ops at once. Default:
        /// all of them, so that every instance runs the same op.
        pub instances_per_stream: Option<Sourced<u64>>,
    }

    /// A compute node: multipliers below everything else.
    pub struct ComputeSpec {
        /// Unique name.
        pub name: At<String>,
        /// The node above.
        pub parent: At<String>,
        /// Clock.
        pub clock: At<String>,
        /// Format pairs that it multiplies.
        pub mode: Vec<ModeSpec>,
        /// Area of one instance. Default: the technology model.
        pub area: Option<Sourced<SquareMm>>,
        /// Leakage of one instance. Default: the technology model.
        pub static_power: Option<Sourced<Watts>>,
        /// MACs that zeros save. Default none.
        pub gating: Option<GatingSpec>,
    }

    /// A pair of formats that a compute node multiplies.
    pub struct ModeSpec {
        /// Format of the first input.
        pub input: Format,
        /// Format of the second input.
        pub weight: Format,
        /// Format of partial sums.
        pub accumulate: Format,
        /// MACs per cycle of one instance.
        pub macs_per_cycle: Sourced<f64>,
        /// Energy of one MAC. Default: the technology model.
        pub energy: Option<Sourced<Joules>>,
        /// Structured sparsity that it makes use of: [2, 4] skips half of weights that are stored two of four. Default none.
        pub structured: Option<At<Vec<u64>>>,
    }

    /// An engine that runs MAC einsums: the path from the root to a compute node.
    pub struct ArraySpec {
        /// Unique name.
        pub name: At<String>,
        /// Its compute node.
        pub compute: At<String>,
        /// Cycles for the first result to leave after the first operands enter. Default 0.
        pub fill_cycles: Option<Sourced<u64>>,
        /// Cycles to drain after the last operands. Default 0.
        pub drain_cycles: Option<Sourced<u64>>,
        /// Time to start an op that is not hidden. Default 0.
        pub launch: Option<Sourced<Seconds>>,
    }

    /// A vector engine working on a memory.
    pub struct VectorSpec {
        /// Unique name.
        pub name: At<String>,
        /// The memory it reads and writes.
        pub memory: At<String>,
        /// Lanes, in all.
        pub lanes: Sourced<u64>,
        /// Clock.
        pub clock: At<String>,
        /// Whether it takes the array's outputs as they drain (bias, activation, requantization, residual add).
        pub inline: Option<bool>,
        /// Time to start an op that is not hidden. Default 0.
        pub launch: Option<Sourced<Seconds>>,
        /// Formats and rates.
        pub mode: Vec<VectorModeSpec>,
        /// Area of all lanes. Default: the technology model.
        pub area: Option<Sourced<SquareMm>>,
        /// Leakage of all lanes. Default: the technology model.
        pub static_power: Option<Sourced<Watts>>,
    }

    /// What a vector engine does in some formats.
    pub struct VectorModeSpec {
        /// Element formats.
        pub formats: Vec<Format>,
        /// Operations per cycle and lane of every primitive that `rates` does not name. Without it those are missing.
        pub rate: Option<Sourced<f64>>,
        /// Operations per cycle and lane by primitive; 0: the engine can't.
        pub rates: Entries<Sourced<f64>>,
        /// Cycles from operand to result by primitive. Default: the technology table.
        pub latencies: Entries<Sourced<f64>>,
        /// Energy of an operation by primitive. Default: the technology model.
        pub energies: Entries<Sourced<Joules>>,
    }

    /// A general processor on the root memory.
    pub struct HostSpec {
        /// Name. Default host.
        pub name: Option<At<String>>,
        /// Cores.
        pub cores: Sourced<u64>,
        /// Clock.
        pub frequency: Sourced<Hertz>,
        /// Operations per cycle of one core (a MAC counts two).
        pub operations_per_cycle: Sourced<f64>,
        /// Fraction of the peak that compiled kernels reach.
        pub efficiency: Sourced<f64>,
        /// Rate at which it moves data to and from the root memory.
        pub bandwidth: Sourced<BytesPerSecond>,
        /// Energy of one operation. Default: the technology table's.
        pub energy: Option<Sourced<Joules>>,
        /// Time to hand an op over and back. Default 0.
        pub handover: Option<Sourced<Seconds>>,
        /// Area, where it is on this die. Default 0.
        pub area: Option<Sourced<SquareMm>>,
        /// Leakage. Default 0.
        pub static_power: Option<Sourced<Watts>>,
    }

    /// Everything else on the chip.
    pub struct OtherSpec {
        /// Power whenever it is on: clock tree, IO, control.
        pub power: Option<Sourced<Watts>>,
        /// Area: IO, PHY, control.
        pub area: Option<Sourced<SquareMm>>,
    }

    /// What the chip's compiler can do.
    pub struct MapspaceSpec {
        /// Whether weights of the next op are fetched while this one runs. Default true.
        pub prefetch_weights: Option<bool>,
        /// Whether activations may stay in resident memories between ops. Default true.
        pub keep_activations: Option<bool>,
        /// Whether weights may stay in resident memories between inferences. Default true.
        pub keep_weights: Option<bool>,
        /// Whether softmax and norms stay on chip between their passes. Default true.
        pub fuse_cascades: Option<bool>,
        /// Which groups of ops run tile by tile, with what passes between them on chip: none (or false), attention, all (or
        /// true: attention, MLPs, chains of convolutions). Default none.
        pub fuse_groups: Option<FuseGroups>,
        /// Whether such a group is one launch; otherwise each op of each tile is launched. Default false.
        pub launch_groups_once: Option<bool>,
        /// Ops ahead of the running one whose weights are fetched at most. Default: as many as there is room for.
        pub prefetch_ops: Option<Sourced<u64>>,        /// Row-stationary dataflow, in which all convolutions run. Default: mappings are searched for.
        pub row_stationary: Option<RowStationarySpec>,
    }

    /// A block engine: an array that makes an output block by block, and a block micro-block by micro-block. Layers of
    /// its array and ops of its vector engine are priced by closed forms instead of searched mappings.
    pub struct BlocksSpec {
        /// The array.
        pub array: At<String>,
        /// The vector engine that takes its outputs and runs the other ops.
        pub vector: At<String>,
        /// The memory where feature maps live. Default: the root.
        pub arena: Option<At<String>>,
        /// The memory where weights are staged.
        pub staging: At<String>,
        /// Bytes of a function table that is loaded before a layer uses another one than the layer before. Default 0.
        pub function_table: Option<Sourced<Bytes>>,
        /// Passes over an input in the arena from which on it is first copied to the staging memory, if
        /// it and the output fit there. Default: never.
        pub input_passes: Option<Sourced<u64>>,
        /// Whether feature maps that fit no memory closer than the arena pass from op to op in stripes of rows. Default false.
        pub cascades: Option<bool>,
        /// Engines that share a layer's output channels. Default 1.
        pub cores: Option<Sourced<u64>>,
        /// Output rows of a micro-block.
        pub micro_rows: Sourced<u64>,
        /// Output columns of a micro-block.
        pub micro_columns: Sourced<u64>,
        /// Output channels of a micro-block.
        pub micro_channels: Sourced<u64>,
        /// Input channels of a step.
        pub input_channels: Sourced<u64>,
        /// Filter taps of a step, where a layer's channels do not fill it.
        pub taps: Sourced<u64>,
        /// Cycles of a step at least.
        pub step_cycles: Sourced<u64>,
        /// Cycles to decode the weights of a step for one output channel.
        pub decode_cycles: Sourced<f64>,
        /// Cycles that a 32-bit sum waits for itself.
        pub hazard_cycles: Sourced<u64>,
        /// The same for 40-bit sums. Default: as for 32 bits.
        pub wide_hazard_cycles: Option<Sourced<u64>>,
        /// Rows and columns of a filter that are taken at a time.
        pub window: Sourced<u64>,
        /// Rows of a block at most.
        pub most_rows: Sourced<u64>,
        /// Columns of a block at most.
        pub most_columns: Sourced<u64>,
        /// Channels of a block at most.
        pub most_channels: Sourced<u64>,
        /// Channels of a brick, in which feature maps are stored and channels are split.
        pub brick: Sourced<u64>,
        /// Bytes of input channels of a block.
        pub block_input_bytes: Sourced<u64>,
        /// The same where taps are packed into steps.
        pub packed_input_bytes: Sourced<u64>,
        /// Banks of the buffer that inputs and sums share.
        pub banks: Sourced<u64>,
        /// Size of a bank.
        pub bank: Sourced<Bytes>,
        /// Banks that hold neither inputs nor sums.
        pub reserved_banks: Sourced<u64>,
        /// Banks of a function table beyond those reserved.
        pub table_banks: Sourced<u64>,
        /// Banks that 8-bit inputs are given at a time.
        pub input_grain: Sourced<u64>,
        /// Banks that 32-bit inputs are given at a time.
        pub wide_input_grain: Sourced<u64>,
        /// Banks that 32-bit sums are given at a time.
        pub sum_grain: Sourced<u64>,
        /// Banks that 40-bit sums are given at a time.
        pub wide_sum_grain: Sourced<u64>,
        /// Bytes of scale and bias of an output channel.
        pub scale_bytes: Sourced<u64>,
        /// Bytes of scales that one request reads.
        pub scale_request: Sourced<u64>,
        /// Stored bits of weights over their own bits. Default 1: random weights hardly compress.
        pub weight_ratio: Option<Sourced<f64>>,
        /// Part of a block's latencies and work that its command takes.
        pub command_share: Sourced<f64>,
        /// Cycles that an output takes: sum, maximum, add, multiply, wide_multiply, wide_binary, wide_unary, lookup, clamp.
        pub output_cycles: Entries<Sourced<f64>>,
    }

    /// The kernels of a chip that runs each op as a grid of blocks over multiprocessors, and the few parameters of
    /// their timing that all ops and formats share.
    pub struct KernelsSpec {
        /// The array engine that multiplies.
        pub array: At<String>,
        /// The vector engine of softmax, norms and elementwise ops.
        pub vector: At<String>,
        /// The fanout whose instances are the multiprocessors.
        pub multiprocessors: At<String>,
        /// The memory of a multiprocessor that holds operand tiles.
        pub shared: At<String>,
        /// The cache that all multiprocessors share.
        pub cache: At<String>,
        /// Copies that the cache holds of a line that all multiprocessors read: one for each partition. Default 1.
        pub cache_copies: Option<Sourced<u64>>,
        /// Whether blocks stay for several tiles and overlap the end of one with the start of the next. Default false.
        pub persistent: Option<bool>,
        /// Registers of a multiprocessor that hold partial sums, at most.
        pub accumulators: Sourced<Bytes>,
        /// Threads that a multiprocessor has at once, at most.
        pub threads: Sourced<u64>,
        /// Time from one kernel to the next in a stream that is never empty.
        pub launch: Sourced<Seconds>,
        /// Time of a dependent access to memory: issue, miss, return, barrier.
        pub round_trip: Sourced<Seconds>,
        /// Fraction of the cache's rate that reads by all multiprocessors reach.
        pub cache_efficiency: Sourced<f64>,
        /// Fraction of the cycles in which a multiplier that has its operands is given work.
        pub issue_efficiency: Sourced<f64>,
        /// Least cycles of one step of a block along the reduction: barrier, addresses, dependent multiplications.
        pub step_cycles: Sourced<f64>,
        /// Lane operations per score of attention that do not overlap with its multiplications.
        pub score_operations: Sourced<f64>,
        /// Dependent accesses to memory in the life of a block of attention.
        pub block_round_trips: Sourced<f64>,
        /// Energy of one MAC of 16-bit operands at the full clock, operand delivery within the multiprocessor included.
        pub mac_energy: Sourced<Joules>,
        /// Power of the whole board beyond which the clock falls. Default: none.
        pub power_limit: Option<Sourced<Watts>>,
        /// Exponent of dynamic power in the clock when voltage falls with it. Default 2.5.
        pub power_exponent: Option<Sourced<f64>>,
        /// Tiles of the library's matmul kernels; the fastest is taken, in either orientation.
        pub tile: Vec<KernelTileSpec>,
    }

    /// A tile that one block of a matmul kernel computes.
    pub struct KernelTileSpec {
        /// Rows of the output.
        pub m: Sourced<u64>,
        /// Columns of the output.
        pub n: Sourced<u64>,
        /// Bytes of one row of an operand in one step along the reduction.
        pub k: Sourced<Bytes>,
        /// Steps whose operands are in flight or in shared memory, at most.
        pub stages: Sourced<u64>,
        /// Neighbouring blocks that receive the operand they share by one read of the cache. Default 1.
        pub cluster: Option<Sourced<u64>>,

    }

    /// The row-stationary dataflow: what delivers operands to the PEs, and what the compiler chooses. Convolutions of
    /// other sizes than those listed take the parameters with the least processing time.
    pub struct RowStationarySpec {
        /// The memory that holds inputs and partial sums of a pass.
        pub buffer: At<String>,
        /// Inputs delivered in a cycle.
        pub input_words: Sourced<f64>,
        /// Weights delivered in a cycle.
        pub weight_words: Sourced<f64>,
        /// Partial sums delivered, and as many collected, in a cycle.
        pub output_words: Sourced<f64>,
        /// Parameters by layer size.
        pub layer: Vec<RowStationaryLayerSpec>,
    }

    /// Parameters of layers of some size, by the letters of Chen et al., JSSC 2017.
    pub struct RowStationaryLayerSpec {
        /// Rows of the filter.
        pub filter_rows: Sourced<u64>,
        /// Rows of the output.
        pub output_rows: Sourced<u64>,
        /// Output channels whose partial sums the buffer holds.
        pub m: Sourced<u64>,
        /// Images of a pass.
        pub n: Sourced<u64>,
        /// Output rows of a strip, the width of a set of PEs.
        pub e: Sourced<u64>,
        /// Output columns of a tile. Default: all.
        pub f: Option<Sourced<u64>>,
        /// Filters that a set interleaves.
        pub p: Sourced<u64>,
        /// Channels that a set interleaves.
        pub q: Sourced<u64>,
        /// Sets with different channels.
        pub r: Sourced<u64>,
        /// Sets with different filters.
        pub t: Sourced<u64>,
    }

    /// What a chip can do to draw less.
    pub struct PowerSpec {
        /// Power of the whole chip with its memory while it waits with its clocks off. Default: its static power.
        pub idle: Option<Sourced<Watts>>,
        /// Power of the whole chip with its memory while it sleeps. Default: it never does.
        pub sleep: Option<Sourced<Watts>>,
        /// From the wish to work to the first op. Default 0.
        pub wake: Option<Sourced<Seconds>>,
        /// Energy of going to sleep and waking up. Default 0.
        pub wake_energy: Option<Sourced<Joules>>,
        /// Whether memories on chip keep what they hold while it sleeps. Default false.
        pub retains: Option<bool>,
        /// Operating points.
        pub point: Vec<PointSpec>,
    }

    /// An operating point: a supply voltage of the die, and the clocks that go with it.
    pub struct PointSpec {
        /// Name, for `--point`.
        pub name: At<String>,
        /// Supply voltage; dynamic energies scale with its square, leakage with itself.
        pub voltage: Sourced<Volts>,
        /// Frequency of each clock that changes.
        pub clocks: Entries<Sourced<Hertz>>,
    }

    /// The chip's arithmetic.
    pub struct NumericsSpec {
        /// Format of activations between ops unless the user says otherwise.
        pub activations: Option<Format>,
        /// Default precision of a run.
        pub precision: Option<Precision>,
        /// Units of `configs/numerics` that add its products up, for execution; of those that take a format the first.
        pub units: Vec<String>,
        /// The arithmetic in words, key by key: rounding, saturation, requantization, function tables.
        pub arithmetic: Entries<String>,
    }
}

/// Keys of the root that hold one table each.
pub const SECTIONS: [&str; 9] = [
    "technology",
    "host",
    "other",
    "mapspace",
    "movement",
    "blocks",
    "kernels",
    "power",
    "numerics",
];

/// Name of a code that leaves zeros out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeName {
    /// Lengths of runs of zeros.
    RunLength,
    /// A bit for each element.
    Bitmask,
}

/// Name of a topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopologyName {
    /// One wire.
    Bus,
    /// Switches.
    Tree,
    /// Routers in rows and columns.
    Mesh,
    /// Neighbours.
    Systolic,
}

decode_names! {
    TopologyName: "topology" [
        "bus" => TopologyName::Bus,
        "tree" => TopologyName::Tree,
        "mesh" => TopologyName::Mesh,
        "systolic" => TopologyName::Systolic,
    ],
    CodeName: "code" ["run-length" => CodeName::RunLength, "bitmask" => CodeName::Bitmask],
    MemoryKind: "kind of memory" [
        "dram" => MemoryKind::Dram,
        "sram" => MemoryKind::Sram,
        "register" => MemoryKind::Register,
        "flash" => MemoryKind::Flash,
    ],
    Operand: "operand" [
        "input" => Operand::Input,
        "weight" => Operand::Weight,
        "output" => Operand::Output,
    ],
    Overlap: "treatment of halos" ["keep" => Overlap::Keep, "refetch" => Overlap::Refetch],
    DeviceClass: "device class" [
        "itrs-hp" => DeviceClass::Hp,
        "itrs-lop" => DeviceClass::Lop,
        "itrs-lstp" => DeviceClass::Lstp,
    ],
    Scaling: "scaling source" ["jouppi" => Scaling::Jouppi, "stillmaker" => Scaling::Stillmaker],
}

impl Decode for FuseGroups {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        let known = [
            ("none", Self::None),
            ("attention", Self::Attention),
            ("all", Self::All),
        ];
        match item.kind {
            ItemKind::Bool(true) => Some(Self::All),
            ItemKind::Bool(false) => Some(Self::None),
            _ => one_of(item, problems, "kind of group", &known),
        }
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["none", "attention", "all", true, false] })
    }
}

/// Names of einsum dimensions that a fanout may ask for; workloads define them.
const DIMENSIONS: [&str; 13] = [
    "n", "g", "k", "c", "p", "q", "r", "s", "o", "t", "b", "m", "d",
];

impl Decode for DimSelector {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        let mut known = vec![
            ("reduction", Self::Reduction),
            ("output_channel", Self::OutputChannel),
            ("pixel", Self::Pixel),
            ("group", Self::Group),
        ];
        known.extend(DIMENSIONS.map(|name| (name, Self::Named(name.into()))));
        one_of(item, problems, "dimension", &known)
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        let mut names = vec!["reduction", "output_channel", "pixel", "group"];
        names.extend(DIMENSIONS);
        json_schema!({ "enum": names })
    }
}

/// Ports of a memory: "1rw", "1r1w", "2r1w".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Accesses per cycle that may be reads.
    pub read: u64,
    /// Accesses per cycle that may be writes.
    pub write: u64,
    /// Whether they are the same ports.
    pub shared: bool,
}

impl FromStr for Ports {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        let count = |digits: &str| {
            digits
                .parse::<u64>()
                .ok()
                .filter(|n| (1..=64).contains(n))
                .ok_or(())
        };
        if let Some(digits) = s.strip_suffix("rw") {
            let n = count(digits)?;
            return Ok(Self {
                read: n,
                write: n,
                shared: true,
            });
        }
        let (read, write) = s
            .strip_suffix('w')
            .and_then(|s| s.split_once('r'))
            .ok_or(())?;
        Ok(Self {
            read: count(read)?,
            write: count(write)?,
            shared: false,
        })
    }
}

impl Decode for Ports {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        let ports = item.text().and_then(|t| t.parse().ok());
        if ports.is_none() {
            let help =
                "write `1rw` for one port that reads and writes share, `1r1w` for one of each";
            problems.at(&item.place, "expected the ports of a memory", help);
        }
        ports
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(rw|r[0-9]+w)$" })
    }
}
