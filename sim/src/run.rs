//! The Run: what a model on a chip takes, per op and in total, with what the figures rest on.
//!
//! Everything is for one inference (one forward pass; for LLMs one prefill or one decode step) unless a field
//! says otherwise. Accounting closes: for each op the parts of `time` sum to its total, and the ops' totals and
//! the energy entries sum to those of the phase.

use presil_hwmodels::Provenance;
use presil_numerics::{Bytes, Joules, Seconds, SquareMm, Watts};
use serde::Serialize;

/// How a figure was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fidelity {
    /// Closed forms.
    Analytic,
    /// Tile-level events.
    Simulated,
}

/// Where an op's time goes. The parts sum to `total`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct TimeParts {
    /// Wall time that this op adds to the phase.
    pub total_s: f64,
    /// Arrays or lanes compute at the rate that the mapping allows (the ideal time of its executed work at the
    /// peak of its engine is part of this; see `utilization`).
    pub compute_s: f64,
    /// Waiting for each memory beyond the compute time, by name.
    pub memory_s: Vec<(String, f64)>,
    /// Vector work that is not hidden behind the array.
    pub vector_s: f64,
    /// Launch, fill, drain, handover.
    pub latency_s: f64,
}

/// Traffic of one memory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Traffic {
    /// Memory name.
    pub memory: String,
    /// Bytes read.
    pub read_bytes: f64,
    /// Bytes written.
    pub write_bytes: f64,
}

/// Energy of one component and action.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Energy {
    /// Component name as in the chip file.
    pub component: String,
    /// "read", "write", "mac", "hop", "lane", "static" ...
    pub action: String,
    /// Energy.
    pub energy_j: f64,
}

/// What a mapping makes of one instance of a memory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MappedMemory {
    /// Its name.
    pub memory: String,
    /// Bytes that tiles may take.
    pub capacity_bytes: u64,
    /// Share of them that tiles take, all copies counted; whole tensors at home take nothing from tiles.
    pub capacity_share: f64,
    /// Share of the mapping's time (no epilogue, nothing fetched ahead) that its busier port works.
    pub port_utilization: f64,
    /// What it keeps.
    pub tiles: Vec<MappedTile>,
}

/// The tile of an operand in one instance of a memory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MappedTile {
    /// "input", "weight", "output".
    pub operand: String,
    /// Bytes of one copy.
    pub tile_bytes: f64,
    /// Whether it is the whole tensor at home.
    pub home: bool,
}

/// What a mapping makes of an axis of a fanout.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MappedAxis {
    /// "pes.rows".
    pub axis: String,
    /// Instances.
    pub size: u64,
    /// Those used.
    pub used: u64,
}

/// The passes of a convolution on a row-stationary array.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PassRun {
    /// How many.
    pub count: u64,
    /// Their time: that of the op without launch and without inputs and results that come and go between passes.
    pub processing_s: f64,
    /// What the best mapping that was found would take in all, were the array's control free to run it.
    pub free_s: Option<f64>,
    /// Processing elements at work, at most.
    pub active: u64,
    /// The memory that inputs and partial sums of a pass are in.
    pub buffer: String,
    /// Bytes between that memory and the array; what comes from and goes to the memory above it is not among them.
    pub buffer_bytes: f64,
}

/// One op (all its repetitions together, as `repeat` says).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpRun {
    /// Name as in the graph.
    pub name: String,
    /// Class name ("conv", "linear").
    pub class: String,
    /// Dimensions and sizes ("n1 k64 c3 p112 q112 r7 s7").
    pub shape: String,
    /// Times it runs; every figure below is the sum over them.
    pub repeat: u64,
    /// Engine name.
    pub engine: String,
    /// MACs by the counting rules.
    pub macs: u128,
    /// MACs inside the mask.
    pub executed_macs: u128,
    /// Where the time goes.
    pub time: TimeParts,
    /// What limits it: "compute", a memory's name, "vector", "host", "latency".
    pub bottleneck: String,
    /// Executed MACs over the engine's peak MACs in `total_s`; lanes likewise. 0..=1.
    pub utilization: f64,
    /// Instances along the chip's axis of cores that the mapping uses; none on a chip without cores and for ops
    /// without a mapping.
    pub cores: Option<u64>,
    /// MACs per byte of root memory traffic; infinite is written as null.
    pub intensity: Option<f64>,
    /// Dynamic energy by component and action.
    pub energy: Vec<Energy>,
    /// Bytes by memory.
    pub traffic: Vec<Traffic>,
    /// The mapping as a loop nest, one line a step; empty for ops without one. Of an op in a fused group: that of one
    /// iteration of the group's loops.
    pub mapping: Vec<String>,
    /// Tiles and ports of each memory under the mapping, outermost first; empty for ops without one.
    pub memories: Vec<MappedMemory>,
    /// Axes of fanouts under the mapping, outermost first; empty for ops without one.
    pub axes: Vec<MappedAxis>,
    /// The fused group that it runs in, as an index into the phase's `groups`.
    pub group: Option<usize>,
    /// Its passes, if it is a convolution on a row-stationary array.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passes: Option<PassRun>,
    /// What a reader must know: fused into another op, ran on the host and why, expected counts.
    pub notes: Vec<String>,
}

/// A range of addresses of a memory over some ops.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryRegion {
    /// Tensor or op.
    pub name: String,
    /// "activation", "weight", "cache", "constant": a tensor at home there; "input tile", "weight tile",
    /// "output tile" of an op; "group tile" of a tensor that a fused group
    /// holds or passes on; "weights over steps"; "ahead": free for weights of later ops.
    pub kind: String,
    /// First byte.
    pub offset_bytes: u64,
    /// Bytes.
    pub size_bytes: u64,
    /// Names of the first and the last op between which it is held; several pairs for the ends of a loop.
    pub held: Vec<(String, String)>,
    /// Ranks of a tensor (indices into its shape), outermost first; empty for others.
    pub rank_order: Vec<usize>,
    /// Bits from one index to the next of each rank in that order.
    pub pitch_bits: Vec<u64>,
    /// Bytes of a row: the innermost ranks whose elements are packed.
    pub row_bytes: u64,
    /// Bytes at the ends of rows that hold nothing.
    pub padding_bytes: u64,
}

/// What a resident memory holds over a phase.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct MemoryUse {
    /// Its name.
    pub memory: String,
    /// Its capacity.
    pub capacity_bytes: u64,
    /// Most bytes of tensors and tiles in it at once.
    pub peak_bytes: u64,
    /// The op where that is.
    pub peak_at: String,
    /// What is in it then, largest first: name, kind, bytes.
    pub peak_alive: Vec<(String, String, u64)>,
    /// Highest address in use.
    pub top_bytes: u64,
    /// Highest address of a tensor.
    pub tensor_top_bytes: u64,
    /// Most bytes of tensors alive at once, which bounds it.
    pub tensor_bound_bytes: u64,
    /// Whether no placement of the tensors ends lower.
    pub optimal: bool,
    /// Largest share of the bytes left that is not in the largest hole.
    pub fragmentation: f64,
    /// Offsets and sizes of tensors are multiples of it.
    pub alignment_bytes: u64,
    /// Everything in it by address and time.
    pub regions: Vec<MemoryRegion>,
}

/// An activation that goes through the root memory for want of a place on chip.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpilledTensor {
    /// Its name.
    pub name: String,
    /// "room", "gaps" (no room in one piece), "host" (a host op touches it), "path" (no memory on all paths).
    pub cause: String,
    /// Bytes written to the root memory, each write once.
    pub written_bytes: f64,
    /// Bytes read from it, each read once.
    pub read_bytes: f64,
}

/// The memory plan of a phase.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct MemoryPlan {
    /// Resident memories, nearest to compute first.
    pub memories: Vec<MemoryUse>,
    /// Activations that are not on chip.
    pub spills: Vec<SpilledTensor>,
    /// Whether no other choice of what stays saves more.
    pub optimal: bool,
    /// Op names in the order in which they run, where that is not the model's.
    pub order: Vec<String>,
}

/// A group of ops that run tile by tile under shared loops.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupRun {
    /// Names of its ops in order, epilogues included.
    pub ops: Vec<String>,
    /// Times it runs; figures that are saved are the sum over them.
    pub repeat: u64,
    /// The memory in which tiles pass from op to op.
    pub memory: String,
    /// Shared loops, outermost first: dimension, iterations, indices in one iteration.
    pub loops: Vec<(String, u64, u64)>,
    /// Iterations that run; fewer than the loops have where a mask leaves some empty.
    pub iterations: u64,
    /// Tensors from outside that stay in the memory over inner loops, with the bytes of their tiles.
    pub held: Vec<(String, u64)>,
    /// Tensors that exist only as tiles, with the bytes of those.
    pub tiles: Vec<(String, u64)>,
    /// Loops along which tiles share rows that the group makes: dimension, rows at most, and whether they are kept from tile
    /// to tile; else they are made again.
    pub halo: Vec<(String, u64, bool)>,
    /// The rewrite that it needs ("online softmax").
    pub rewrite: Option<String>,
    /// Time that its ops take less than each alone.
    pub saved_s: f64,
    /// Dynamic energy that they take less.
    pub saved_j: f64,
    /// Bytes that they read from and write to the root memory less.
    pub saved_root_bytes: f64,
}

/// A set of ops that run at once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CoreSet {
    /// Names of the ops, and the cores of each.
    pub ops: Vec<(String, u64)>,
    /// Wall time of the set over all its repetitions.
    pub latency_s: f64,
}

/// A stage of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageRun {
    /// Names of its ops in order, epilogues aside.
    pub ops: Vec<String>,
    /// Its cores.
    pub cores: u64,
    /// Its time for one pass.
    pub time_s: f64,
    /// Weights that its cores keep.
    pub weight_bytes: u64,
}

/// The graph as a pipeline over the cores, each keeping the weights of its ops; for one pass in the steady state.
/// Its ops are mapped otherwise than those of the phase, so none of these figures is a sum of theirs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PipelineRun {
    /// The stages in order.
    pub stages: Vec<StageRun>,
    /// Time from one pass to the next.
    pub interval_s: f64,
    /// What sets it: "stage", or a shared memory or unit.
    pub interval_by: String,
    /// Time of one pass through an empty pipeline.
    pub latency_s: f64,
    /// Time of one pass through a full one, at most: stages times the interval.
    pub loaded_latency_s: f64,
    /// Energy of one pass, static energy over an interval included.
    pub energy_j: f64,
    /// Where stages hand over activations.
    pub memory: String,
}

/// How a phase uses the chip's cores.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct CoreUse {
    /// The axis of cores; empty on a chip without.
    pub axis: String,
    /// Cores along it.
    pub cores: u64,
    /// Sets of ops that run at once. Of a set's time each op has the part as its own that its time times its cores is
    /// of that of all members.
    pub sets: Vec<CoreSet>,
    /// The pipeline, if all weights fit in the cores' own buffers.
    pub pipeline: Option<PipelineRun>,
}

/// A stretch of time on a track.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TimelineSlice {
    /// Index into the phase's ops; none if it is of several.
    pub op: Option<usize>,
    /// From when, in seconds from the start of the pass.
    pub start_s: f64,
    /// Until when.
    pub end_s: f64,
    /// Tiles, or repetitions where several ops are told together.
    pub tiles: u64,
}

/// What an engine or a mover of tiles does over a pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimelineTrack {
    /// Its name.
    pub name: String,
    /// In order; they do not overlap.
    pub slices: Vec<TimelineSlice>,
}

/// When who does what in one pass, by simulation.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Timeline {
    /// When each op is the one that is waited for; of repetitions that are alike one is told.
    pub ops: Vec<TimelineSlice>,
    /// Engines and movers, in the order in which time is told of them.
    pub tracks: Vec<TimelineTrack>,
    /// Ports that are shared: name, and the busy share over equal parts of the pass.
    pub ports: Vec<(String, Vec<f64>)>,
}

impl Timeline {
    /// When the pass ends, in seconds.
    pub fn end_s(&self) -> f64 {
        self.ops.last().map_or(0.0, |s| s.end_s)
    }
}

/// One phase: a forward pass, a prefill, a decode step.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Phase {
    /// "forward", "prefill", "decode".
    pub name: String,
    /// How the phase enters the run's totals (decode steps: --generate).
    pub steps: u64,
    /// Wall time of one pass, weights already where the steady state keeps them.
    pub latency_s: f64,
    /// Time from one pass to the next in the steady state: the latency, or the interval of the pipeline where
    /// throughput is asked for and the pipeline's is shorter.
    pub interval_s: f64,
    /// Wall time of the first pass, with cold weights.
    pub cold_latency_s: f64,
    /// The bound that nothing beats: the busiest resource's time at peak rate.
    pub lower_bound_s: f64,
    /// The resource of that bound.
    pub lower_bound_by: String,
    /// Energy of one pass, static energy included.
    pub energy_j: f64,
    /// Energy of the first pass, with cold weights.
    pub cold_energy_j: f64,
    /// MACs by the counting rules.
    pub macs: u128,
    /// MACs inside the masks.
    pub executed_macs: u128,
    /// Executed MACs over peak MACs in the latency.
    pub utilization: f64,
    /// Bytes by memory, the root memory first.
    pub traffic: Vec<Traffic>,
    /// Bytes of the root memory, read and written, by what they are: "weights", "caches", "activations".
    pub root_traffic: Vec<(String, f64)>,
    /// Energy by component and action, static entries included.
    pub energy: Vec<Energy>,
    /// Stored bytes of weights and of caches.
    pub weight_bytes: u64,
    /// Stored bytes of caches.
    pub cache_bytes: u64,
    /// Largest bytes of activations alive at once.
    pub peak_activation_bytes: u64,
    /// What resident memories hold, where and when, and what they could not hold.
    pub memory_plan: MemoryPlan,
    /// Ops that run at once.
    pub partition: CoreUse,
    /// The ops.
    pub ops: Vec<OpRun>,
    /// Groups of them that run tile by tile.
    pub groups: Vec<GroupRun>,
    /// When they run, if that was simulated.
    pub timeline: Option<Timeline>,
    /// Assumptions of the schedule.
    pub assumptions: Vec<String>,
    /// Ops without a model, or that no engine runs, with the reason.
    pub unmodelled: Vec<String>,
}

/// What a run takes at an operating point of the chip.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PointUse {
    /// Its name.
    pub name: String,
    /// Supply voltage of the die.
    pub voltage_v: f64,
    /// Time of all passes.
    pub latency_s: f64,
    /// Energy of all passes.
    pub energy_j: f64,
    /// Average power of the phase that draws most.
    pub power_w: f64,
    /// Whether that is within the limit.
    pub holds: bool,
}

/// A way to rest between the works of periods.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rest {
    /// "on", "idle", "asleep".
    pub name: String,
    /// Power while it rests.
    pub power_w: f64,
    /// Time in a period in which it does not rest, waking up and loading weights included.
    pub busy_s: f64,
    /// Energy of a period.
    pub energy_j: f64,
}

/// What a chip draws where the run comes again and again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Duty {
    /// From one run to the next.
    pub period_s: f64,
    /// How it rests in between; none where the run takes longer than a period.
    pub taken: Option<String>,
    /// Average power; where the run takes longer than a period, that of runs one after the other.
    pub average_power_w: f64,
    /// The ways to rest.
    pub ways: Vec<Rest>,
}

/// Power beyond that of single passes, as far as it was asked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct PowerUse {
    /// What it may draw on average.
    pub limit_w: Option<f64>,
    /// The operating points that were tried under the limit, fastest first.
    pub points: Vec<PointUse>,
    /// The point that the run is at; none: as the chip file says.
    pub point: Option<String>,
    /// Runs that come again and again.
    pub duty: Option<Duty>,
}

/// What a model on a chip takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Model name.
    pub model: String,
    /// Chip name.
    pub chip: String,
    /// Hash of the resolved chip file.
    pub chip_hash: String,
    /// Precision in the one-line form.
    pub precision: String,
    /// "latency", "energy", "edp".
    pub objective: String,
    /// How the figures were made.
    pub fidelity: Fidelity,
    /// Sequences or images of one pass.
    pub batch: u64,
    /// Tokens of the prompt, for LLMs.
    pub prompt: Option<u64>,
    /// Tokens generated, for LLMs.
    pub generate: Option<u64>,
    /// Phases in order.
    pub phases: Vec<Phase>,
    /// Parameters of the model.
    pub parameters: u128,
    /// Peak dense MACs per second of the chip in this precision.
    pub peak_macs_per_s: f64,
    /// Root memory rate in bytes per second, at peak and with the streaming efficiency.
    pub dram_peak_bytes_per_s: f64,
    /// Root memory rate that long streams reach.
    pub dram_streaming_bytes_per_s: f64,
    /// Operating points and periods.
    pub power: PowerUse,
    /// Die area by component.
    pub area: Vec<(String, f64)>,
    /// Static power by component.
    pub static_power: Vec<(String, f64)>,
    /// Assumptions of model, schedule and chip that the figures rest on.
    pub assumptions: Vec<String>,
    /// Ops that presil has no model of, or that the chip cannot run, with the reason.
    pub unmodelled: Vec<String>,
    /// Constants of the chip and their sources.
    pub provenance: Vec<Provenance>,
}

impl Run {
    /// Time to first token: one prefill pass.
    pub fn ttft(&self) -> Option<Seconds> {
        self.phases
            .iter()
            .find(|p| p.name == "prefill")
            .map(|p| Seconds(p.latency_s))
    }
    /// Time per output token: mean decode step.
    pub fn tpot(&self) -> Option<Seconds> {
        self.phases
            .iter()
            .find(|p| p.name == "decode")
            .map(|p| Seconds(p.latency_s))
    }
    /// Die area.
    pub fn area_total(&self) -> SquareMm {
        SquareMm(self.area.iter().map(|a| a.1).sum())
    }
    /// Static power.
    pub fn static_total(&self) -> Watts {
        Watts(self.static_power.iter().map(|a| a.1).sum())
    }
    /// Energy of all phases with their steps.
    pub fn energy_total(&self) -> Joules {
        Joules(
            self.phases
                .iter()
                .map(|p| p.energy_j * p.steps as f64)
                .sum(),
        )
    }
    /// Stored weights.
    pub fn weight_bytes(&self) -> Bytes {
        Bytes(
            self.phases
                .iter()
                .map(|p| p.weight_bytes)
                .max()
                .unwrap_or(0),
        )
    }
}
