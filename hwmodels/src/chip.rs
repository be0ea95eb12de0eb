//! The resolved chip: a tree of memories, fanouts and compute, and the engines that attach to it.
//!
//! ```text
//! dram ── glb ── [fanout rows x columns] ── input_spad ── weight_spad ── psum_spad ── mac      engine "array"
//!           └── vector unit                                                                    engine "vector"
//! host processor                                                                               engine "host"
//! ```
//!
//! The tree's nodes are stored parents first; node 0 is the root memory (DRAM). The path from the root to an
//! array engine's compute node is what a mapping maps to. Parallel per-operand buffers stand one under the
//! other, each keeping only its operand: an operand that a memory does not keep passes by it without cost.
//! Every rate, energy and area is filled in; all are for one instance unless said otherwise.

use presil_numerics::{
    Bytes, BytesPerSecond, ClockDomain, Coding, Format, IdVec, Joules, JoulesPerBit, LanePrimitive,
    Seconds, SquareMm, Watts, define_ids,
};

use crate::banks::Banks;
use crate::network::{Movement, Network};
use crate::power::PowerStates;
use crate::sourced::Provenance;

define_ids! {
    /// A node of a chip's tree.
    NodeId,
    /// A clock domain of a chip.
    ClockId,
    /// An engine of a chip.
    EngineId,
}

/// A role that an operand of a MAC einsum has on a chip: the first input, the second input, or the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operand {
    /// First input: activations.
    Input,
    /// Second input: weights, or the second activation of a matmul of two.
    Weight,
    /// Output and its partial sums.
    Output,
}

impl Operand {
    /// All operands, in index order.
    pub const ALL: [Self; 3] = [Self::Input, Self::Weight, Self::Output];
    /// 0, 1, 2.
    pub fn index(self) -> usize {
        self as usize
    }
    /// The name in files and reports.
    pub fn name(self) -> &'static str {
        ["input", "weight", "output"][self.index()]
    }
}

/// A set of operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct OperandSet(pub u8);

impl OperandSet {
    /// All three.
    pub const ALL: Self = Self(0b111);
    /// None.
    pub const NONE: Self = Self(0);
    /// The set of some operands.
    pub fn of(operands: &[Operand]) -> Self {
        Self(operands.iter().fold(0, |s, o| s | 1 << o.index()))
    }
    /// Whether it has an operand.
    pub fn has(self, operand: Operand) -> bool {
        self.0 & (1 << operand.index()) != 0
    }
}

/// What technology a memory is made in; decides nothing but defaults and reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemoryKind {
    /// Off-chip DRAM.
    Dram,
    /// Software-managed SRAM.
    Sram,
    /// Flip-flops or latches.
    Register,
    /// Off-chip flash or ROM.
    Flash,
}

/// What a memory does with elements that the next tile needs again (halos of sliding windows).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Overlap {
    /// Keeps them: only elements not already held are fetched.
    Keep,
    /// Fetches the whole next tile.
    Refetch,
}

/// A memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// Technology.
    pub kind: MemoryKind,
    /// Capacity of one instance.
    pub capacity: Bytes,
    /// Bytes of one port access; traffic is counted in bytes, energy per bit is that of whole accesses.
    pub word: Bytes,
    /// Read rate of one instance.
    pub read_rate: BytesPerSecond,
    /// Write rate of one instance.
    pub write_rate: BytesPerSecond,
    /// Whether reads and writes share one port (their times add).
    pub shared_port: bool,
    /// Fraction of the rate that long streams reach (refresh, turnaround, row misses). 1 for SRAM.
    pub streaming_efficiency: f64,
    /// Energy of reading a bit; for DRAM the sum of activate, array and IO.
    pub read_energy: JoulesPerBit,
    /// Energy of writing a bit.
    pub write_energy: JoulesPerBit,
    /// Power whenever the chip is on (leakage; background and refresh of DRAM).
    pub static_power: Watts,
    /// Area on the die. Zero for off-chip memories.
    pub area: SquareMm,
    /// Operands that may be kept here.
    pub keeps: OperandSet,
    /// Operands that must be kept here by every mapping (a systolic array's stationary operand).
    pub must_keep: OperandSet,
    /// How many tiles are held for each kept one: 2 for double buffering, so half the capacity holds tiles.
    pub buffering: u32,
    /// Whether tensors may stay here between ops.
    pub resident: bool,
    /// What happens to halos.
    pub overlap: Overlap,
    /// Time from a request to its first word.
    pub latency: Seconds,
    /// Time to set up one transfer into this memory's children (DMA descriptor). Zero where hardware streams.
    pub setup: Seconds,
    /// Smallest efficient transfer (DRAM burst); shorter runs waste the rest.
    pub burst: Bytes,
    /// Rows that must be opened before they are read or written. None for on-chip memories.
    pub rows: Option<Rows>,
    /// Turns of a DRAM's bus from reads to writes and back. None: part of the efficiency, or no such bus.
    pub turns: Option<Turns>,
    /// What requests in flight allow.
    pub in_flight: InFlight,
    /// Banks in which accesses at once may conflict. None: they never do.
    pub banks: Option<Banks>,
    /// The code in which it holds operands, leaving zeros out.
    pub compression: Option<Compression>,
    /// Accesses that zeros save.
    pub gating: Option<Gating>,
    /// The clock that it names, if any.
    pub clock: Option<ClockId>,
}

impl Memory {
    /// Rates of long streams, read and written: the port's with what refresh (the efficiency) and turns take off, and no
    /// more than requests in flight allow.
    ///
    /// ```text
    /// 1 / read    = max(1 / (rate x efficiency),                         1 / in flight)
    /// 1 / written = max(1 / (rate x efficiency) + time of a turn / group, 1 / in flight)
    /// ```
    ///
    /// A turn is paid by the written bytes of its group, so the time of a port stays a sum over bytes: an op that only
    /// writes pays turns that it does not need, a share of `time of a turn / group x rate` at most.
    pub fn streams(&self) -> [BytesPerSecond; 2] {
        let limit = self.in_flight.limit().0;
        let turn = self.turns.map_or(0.0, |t| t.each_byte());
        let seconds = |rate: f64| 1.0 / (rate * self.streaming_efficiency);
        let write = match turn > 0.0 {
            true => 1.0 / (seconds(self.write_rate.0) + turn),
            false => self.write_rate.0 * self.streaming_efficiency,
        };
        let read = self.read_rate.0 * self.streaming_efficiency;
        [read, write].map(|rate| BytesPerSecond(rate.min(limit)))
    }

    /// The same for some of its bytes: a part of all rates.
    pub fn take_part(&mut self, part: f64) {
        self.read_rate.0 *= part;
        self.write_rate.0 *= part;
        if let Some(turns) = &mut self.turns {
            turns.group *= part;
        }
        let limits = [&mut self.in_flight.controller, &mut self.in_flight.asked];
        for limit in limits.into_iter().flatten() {
            limit.0 *= part;
        }
    }
}

/// Turns of a bus that reads and writes share ([`crate::dram`]).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Turns {
    /// Idle time of a turn to writes and back.
    pub time: Seconds,
    /// Written bytes, of all channels, that pay for one.
    pub group: f64,
}

impl Turns {
    /// Seconds that a written byte pays.
    pub fn each_byte(&self) -> f64 {
        match self.group > 0.0 {
            true => self.time.0 / self.group,
            false => 0.0,
        }
    }
}

/// Rates that requests in flight allow, by Little's law: their bytes over the latency.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct InFlight {
    /// Those that the controllers of a DRAM hold. None: no limit known.
    pub controller: Option<BytesPerSecond>,
    /// Those of who asks. None: the chip file gives none, taken as unlimited.
    pub asked: Option<BytesPerSecond>,
}

impl InFlight {
    /// The lower of both.
    pub fn limit(&self) -> BytesPerSecond {
        let rates = [self.controller, self.asked];
        let lowest = rates
            .into_iter()
            .flatten()
            .fold(f64::INFINITY, |l, r| l.min(r.0));
        BytesPerSecond(lowest)
    }
}

/// In what form a memory holds some operands. They are decoded on their way out and coded on their way in, at the
/// memory's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// The code.
    pub coding: Coding,
    /// Operands that are held in it. Partial sums are not.
    pub operands: OperandSet,
}

/// A gate that zeros close: where the element of an operand is zero, what stands behind the gate does not switch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gating {
    /// Operands of which one zero closes it.
    pub by: OperandSet,
    /// Share of the energy that is left where it is closed.
    pub rest: f64,
}

impl Gating {
    /// The share of the energy that is spent on data of some densities (of input, weight and output), zeros being
    /// independent.
    pub fn share(&self, density: [f64; 3]) -> f64 {
        let open: f64 = Operand::ALL
            .into_iter()
            .filter(|o| self.by.has(*o))
            .map(|o| density[o.index()])
            .product();
        open + (1.0 - open) * self.rest
    }
}

/// Rows of a DRAM. Neighbouring addresses go to all channels in turn, then along a row, then to the next bank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rows {
    /// Bytes of a row, of all channels together.
    pub page: Bytes,
    /// Banks of one channel.
    pub banks: u64,
    /// Channels.
    pub channels: u64,
    /// Least time between the activations of two rows in different banks of one channel.
    pub activate: Seconds,
    /// Least time between the activations of two rows of one bank.
    pub row_cycle: Seconds,
}

/// Which dimensions of an einsum a spatial dimension accepts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DimSelector {
    /// Reduced: in both inputs, not in the output (c, r, s; a matmul's k).
    Reduction,
    /// In weights and output only (output channels; a matmul's n).
    OutputChannel,
    /// In input and output only (batch, pixels; a matmul's m).
    Pixel,
    /// In all three operands (groups; batch of a batched matmul; heads).
    Group,
    /// A dimension of this name.
    Named(String),
}

/// One dimension of a fanout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FanoutDim {
    /// Name ("rows").
    pub name: String,
    /// Instances along it.
    pub size: u64,
    /// Operands that one read of the parent can deliver to all instances that need the same.
    pub multicast: OperandSet,
    /// Whether partial outputs are summed on the way up (adder tree, systolic chain).
    pub reduces: bool,
    /// Dimensions that may be laid along it, in order of preference. Several may share it.
    pub accepts: Vec<DimSelector>,
    /// Instances that one instruction stream drives, at most `size`: groups of as many neighbours may run
    /// different ops at once, what is left over joins none. `size`: all instances run the same op.
    pub per_stream: u64,
}

/// A spatial fanout: everything below it exists once per instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Fanout {
    /// Its dimensions.
    pub dims: Vec<FanoutDim>,
    /// Energy of moving a bit from the parent to one instance (wires, NoC); a multicast pays once for each
    /// instance reached. With a network: energy of a bit over one link.
    pub hop_energy: JoulesPerBit,
    /// Its links. None: words reach all instances at once, at the rate of the memory above.
    pub network: Option<Network>,
}

impl Fanout {
    /// Instances in all.
    pub fn instances(&self) -> u64 {
        self.dims.iter().map(|d| d.size).product()
    }
}

/// A pair of formats that a compute node multiplies.
#[derive(Debug, Clone, PartialEq)]
pub struct MacMode {
    /// Element format of the first input.
    pub input: Format,
    /// Element format of the second input.
    pub weight: Format,
    /// Format of partial sums.
    pub accumulate: Format,
    /// MACs per cycle of one instance; may be below 1 (a 16-bit product in four 8-bit cycles).
    pub macs_per_cycle: f64,
    /// Energy of one MAC.
    pub energy: Joules,
    /// Weights that it skips: of each `.1` in a row only `.0` are there, where the weights are stored so.
    pub structured: Option<(u64, u64)>,
}

/// A compute node: the leaf of an array.
#[derive(Debug, Clone, PartialEq)]
pub struct Compute {
    /// Its clock.
    pub clock: ClockId,
    /// Format pairs it multiplies. Operands of other formats are converted on the way in where a mode of at
    /// least the same width and kind exists (int4 weights on an int8 array), at that mode's rate.
    pub modes: Vec<MacMode>,
    /// Area of one instance.
    pub area: SquareMm,
    /// Leakage of one instance.
    pub static_power: Watts,
    /// MACs that zeros save.
    pub gating: Option<Gating>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a chip has tens of nodes")]
pub enum NodeKind {
    /// Stores operands.
    Memory(Memory),
    /// Multiplies what is below it.
    Fanout(Fanout),
    /// Computes.
    Compute(Compute),
}

/// A node of the tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Unique name; also the first part of `--set` paths.
    pub name: String,
    /// The node above; none for the root.
    pub parent: Option<NodeId>,
    /// Copies of it on the chip: the product of the fanouts above.
    pub instances: u64,
    /// What it is.
    pub kind: NodeKind,
}

impl Node {
    /// The memory, if it is one.
    pub fn memory(&self) -> Option<&Memory> {
        match &self.kind {
            NodeKind::Memory(m) => Some(m),
            _ => None,
        }
    }
}

/// Rate and energy of a lane primitive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrimitiveCost {
    /// Operations per cycle of one lane.
    pub per_cycle: f64,
    /// Cycles from operand to result.
    pub latency: f64,
    /// Energy of one operation.
    pub energy: Joules,
}

/// A format that a vector unit computes in.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorMode {
    /// Element format.
    pub format: Format,
    /// One entry for each [`LanePrimitive::ALL`], in that order. `None`: the unit can't.
    pub primitives: Vec<Option<PrimitiveCost>>,
}

impl VectorMode {
    /// The cost of a primitive.
    pub fn cost(&self, primitive: LanePrimitive) -> Option<&PrimitiveCost> {
        self.primitives
            .get(primitive as usize)
            .and_then(Option::as_ref)
    }
}

/// What an engine is.
#[derive(Debug, Clone, PartialEq)]
pub enum EngineKind {
    /// A MAC array: the path from the root to its compute node.
    Array {
        /// Its compute node.
        compute: NodeId,
        /// Cycles for the first result to leave after the first operands enter (systolic skew, pipeline).
        fill_cycles: u64,
        /// Cycles to drain after the last operands.
        drain_cycles: u64,
    },
    /// A vector unit working on a memory.
    Vector {
        /// Where its operands are read and its results written.
        memory: NodeId,
        /// Lanes.
        lanes: u64,
        /// Its clock.
        clock: ClockId,
        /// Formats it computes in.
        modes: Vec<VectorMode>,
        /// Whether it takes the array's outputs directly (bias, activation, requantization, residual add as
        /// the outputs drain), so that elementwise ops behind a MAC op need no pass over memory of their own.
        inline: bool,
    },
    /// A general processor that runs whatever the other engines cannot, working on the root memory.
    Host {
        /// Sustained scalar or SIMD operations per second (a MAC counts two).
        operations_per_second: f64,
        /// Rate at which it moves data to and from the root memory.
        rate: BytesPerSecond,
        /// Energy of one operation.
        energy: Joules,
        /// Time to hand an op over and back (interrupt, cache maintenance).
        handover: Seconds,
    },
}

/// An engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Engine {
    /// Unique name.
    pub name: String,
    /// What it is.
    pub kind: EngineKind,
    /// Area of what is not in the tree (a vector unit's lanes).
    pub area: SquareMm,
    /// Leakage of what is not in the tree.
    pub static_power: Watts,
    /// Time to start an op on it (command decode, kernel launch) that is not hidden.
    pub launch: Seconds,
}

/// How a chip requantizes, as far as cost is concerned, and what its arithmetic is called.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Numerics {
    /// Format that activations have on their way between ops unless the user says otherwise.
    pub activations: Option<Format>,
    /// Default precision of a run ("int8", "bf16", "w4a16kv8").
    pub precision: Option<presil_numerics::Precision>,
    /// Units of `configs/numerics` that add its products up; of those that take a format the first.
    pub units: Vec<String>,
    /// Description of the arithmetic as the chip file states it (rounding, saturation, requantization form,
    /// function tables), key by key.
    pub stated: Vec<(String, String)>,
}

/// Groups of ops that a chip's compiler runs tile by tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FuseGroups {
    /// None: ops run one by one.
    #[default]
    None,
    /// From one product of two activations to another one, with what lies between: the kernels of attention.
    Attention,
    /// Any that can be.
    All,
}

/// What a chip's compiler can do.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapspace {
    /// Whether weights of the next op are fetched while this one runs.
    pub prefetch_weights: bool,
    /// Whether activations may stay in resident memories between ops.
    pub keep_activations: bool,
    /// Whether weights may stay in resident memories between inferences (steady state).
    pub keep_weights: bool,
    /// Whether the parts of a softmax or norm stay on chip between its passes (otherwise each pass goes through
    /// memory).
    pub fuse_cascades: bool,
    /// Which groups of ops its compiler runs tile by tile, with what passes between them on chip.
    pub fuse_groups: FuseGroups,
    /// Whether such a group is launched once (one kernel); otherwise each op of each iteration is a command of
    /// its own.
    pub launch_groups_once: bool,
    /// Weights of how many ops ahead are fetched at most; `None`: as many as there is room for.
    pub prefetch_ops: Option<u64>,
    /// The row-stationary dataflow, on chips whose control can do nothing else for convolutions.
    pub row_stationary: Option<RowStationary>,
}

/// A tile that one block of a matmul kernel computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelTile {
    /// Rows of the output.
    pub m: u64,
    /// Columns of the output.
    pub n: u64,
    /// Bytes of one row of an operand in one step along the reduction.
    pub k: Bytes,
    /// Steps whose operands are in flight or in shared memory, at most.
    pub stages: u64,
    /// Neighbouring blocks that receive the operand they share by one read of the cache.
    pub cluster: u64,
}

/// The timing parameters that all kernels of a chip share, whatever the op and its formats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KernelParameters {
    /// Time from one kernel to the next in a stream that is never empty.
    pub launch: Seconds,
    /// Time of a dependent access to memory.
    pub round_trip: Seconds,
    /// Fraction of the cache's rate that reads by all multiprocessors reach.
    pub cache_efficiency: f64,
    /// Fraction of the cycles in which a multiplier that has its operands is given work.
    pub issue_efficiency: f64,
    /// Least cycles of one step of a block along the reduction.
    pub step_cycles: f64,
    /// Lane operations per score of attention that do not overlap with its multiplications.
    pub score_operations: f64,
    /// Dependent accesses to memory in the life of a block of attention.
    pub block_round_trips: f64,
    /// Energy of one MAC of 16-bit operands at the full clock.
    pub mac_energy: Joules,
}

/// The kernels of a chip that runs each op as a grid of blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernels {
    /// The array engine that multiplies.
    pub array: EngineId,
    /// The vector engine of softmax, norms and elementwise ops.
    pub vector: EngineId,
    /// The fanout whose instances are the multiprocessors.
    pub multiprocessors: NodeId,
    /// The memory of a multiprocessor that holds operand tiles.
    pub shared: NodeId,
    /// The cache that all multiprocessors share.
    pub cache: NodeId,
    /// Copies that the cache holds of a line that all multiprocessors read.
    pub cache_copies: u64,
    /// Whether blocks stay for several tiles and overlap the end of one with the start of the next.
    pub persistent: bool,
    /// Registers of a multiprocessor that hold partial sums, at most.
    pub accumulators: Bytes,
    /// Threads that a multiprocessor has at once, at most.
    pub threads: u64,
    /// What all kernels share.
    pub parameters: KernelParameters,
    /// Power of the whole board beyond which the clock falls.
    pub power_limit: Option<Watts>,
    /// Exponent of dynamic power in the clock when voltage falls with it.
    pub power_exponent: f64,
    /// Tiles of the matmul kernels.
    pub tiles: Vec<KernelTile>,
}

/// The row-stationary dataflow: convolutions run in passes of rows (see `presil_mapper::passes`).
#[derive(Debug, Clone, PartialEq)]
pub struct RowStationary {
    /// The memory that holds inputs and partial sums of a pass.
    pub buffer: NodeId,
    /// Elements of input, weight and partial sum that each of the array's networks delivers in a cycle. Partial sums
    /// go both ways at once, each at that rate.
    pub words_per_cycle: [f64; 3],
    /// The compiler's choices for some layers.
    pub layers: Vec<RowStationaryLayer>,
}

/// Which layers take which parameters of the row-stationary dataflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowStationaryLayer {
    /// Rows of the filter.
    pub filter_rows: u64,
    /// Rows of the output.
    pub output_rows: u64,
    /// Their parameters.
    pub parameters: PassParameters,
}

/// Parameters of a pass, by the letters of Chen et al., JSSC 2017.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PassParameters {
    /// Output channels whose partial sums the buffer holds.
    pub m: u64,
    /// Images of a pass.
    pub n: u64,
    /// Output rows of a strip: the width of a set of PEs.
    pub e: u64,
    /// Output columns of a tile.
    pub f: u64,
    /// Filters that a set interleaves.
    pub p: u64,
    /// Channels that a set interleaves.
    pub q: u64,
    /// Sets with different channels.
    pub r: u64,
    /// Sets with different filters.
    pub t: u64,
}

/// A chip, validated and resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Chip {
    /// Name ("edge-npu").
    pub name: String,
    /// One sentence.
    pub description: String,
    /// Process node in nanometres.
    pub node_nm: f64,
    /// Clock domains.
    pub clocks: IdVec<ClockId, Clock>,
    /// The tree, parents first.
    pub nodes: IdVec<NodeId, Node>,
    /// Engines.
    pub engines: IdVec<EngineId, Engine>,
    /// What its compiler can do.
    pub mapspace: Mapspace,
    /// How far ahead and in which pieces data moves.
    pub movement: Movement,
    /// The engine that works block by block, if it has one.
    pub blocks: Option<crate::blocks::Blocks>,
    /// Its kernels, where it runs ops as grids of blocks.
    pub kernels: Option<Kernels>,
    /// What it can do to draw less.
    pub power: PowerStates,
    /// Its arithmetic.
    pub numerics: Numerics,
    /// Power of everything else whenever it is on (clock tree, IO, control).
    pub other_power: Watts,
    /// Area of everything else (IO, control, PHY).
    pub other_area: SquareMm,
    /// Every resolved constant with its source.
    pub provenance: Vec<Provenance>,
    /// A hash of the resolved file, for reports.
    pub hash: String,
}

/// A named clock domain.
#[derive(Debug, Clone, PartialEq)]
pub struct Clock {
    /// Name ("core").
    pub name: String,
    /// The domain.
    pub domain: ClockDomain,
}

impl Chip {
    /// The nodes from the root to a node, both included.
    pub fn path(&self, to: NodeId) -> Vec<NodeId> {
        let mut path = vec![to];
        while let Some(parent) = self.nodes[path[path.len() - 1]].parent {
            path.push(parent);
        }
        path.reverse();
        path
    }

    /// The root memory.
    pub fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// The node of a name.
    pub fn node(&self, name: &str) -> Option<NodeId> {
        self.nodes
            .iter_ids()
            .find(|(_, n)| n.name == name)
            .map(|(id, _)| id)
    }

    /// Peak operations per second (two per MAC) of the best mode of each format pair, summed over arrays:
    /// derived from instances, rate and clock, never typed in.
    pub fn peak_ops(&self, weight: Format, input: Format) -> f64 {
        let arrays = self.engines.iter().filter_map(|e| match e.kind {
            EngineKind::Array { compute, .. } => Some(compute),
            _ => None,
        });
        arrays
            .map(|id| match &self.nodes[id].kind {
                NodeKind::Compute(c) => {
                    let mode = c
                        .modes
                        .iter()
                        .filter(|m| m.weight == weight && m.input == input);
                    let rate = mode.map(|m| m.macs_per_cycle).fold(0.0, f64::max);
                    2.0 * rate
                        * self.nodes[id].instances as f64
                        * self.clocks[c.clock].domain.frequency.0
                }
                _ => 0.0,
            })
            .sum()
    }

    /// Area of the die, by component.
    pub fn area(&self) -> Vec<(String, SquareMm)> {
        let nodes = self.nodes.iter().map(|n| {
            let each = match &n.kind {
                NodeKind::Memory(m) => m.area,
                NodeKind::Compute(c) => c.area,
                NodeKind::Fanout(_) => SquareMm::ZERO,
            };
            (n.name.clone(), each * n.instances as f64)
        });
        let engines = self.engines.iter().map(|e| (e.name.clone(), e.area));
        let other = std::iter::once(("other".to_string(), self.other_area));
        nodes
            .chain(engines)
            .chain(other)
            .filter(|(_, a)| a.0 > 0.0)
            .collect()
    }

    /// Static power, by component.
    pub fn static_power(&self) -> Vec<(String, Watts)> {
        let nodes = self.nodes.iter().map(|n| {
            let each = match &n.kind {
                NodeKind::Memory(m) => m.static_power,
                NodeKind::Compute(c) => c.static_power,
                NodeKind::Fanout(_) => Watts::ZERO,
            };
            (n.name.clone(), each * n.instances as f64)
        });
        let engines = self
            .engines
            .iter()
            .map(|e| (e.name.clone(), e.static_power));
        let other = std::iter::once(("other".to_string(), self.other_power));
        nodes
            .chain(engines)
            .chain(other)
            .filter(|(_, p)| p.0 > 0.0)
            .collect()
    }
}
