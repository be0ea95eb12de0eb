//! Chips that run each op as one kernel: a grid of blocks over multiprocessors (GPUs).
//!
//! A library has a menu of matmul tiles; its best kernel for a shape is taken, as libraries do. All times are of a
//! stream that is never empty (launches overlap with the work before them but for `launch`).
//!
//! **Matmul** `m x n x k`, `batch` times. A tile `bm x bn` with steps of `bk` along the reduction, and the reduction
//! cut into `s` slices:
//!
//! ```text
//! blocks    = ceil(m/bm) ceil(n/bn) batch s          steps = ceil(ceil(k/bk) / s)
//! occupancy = what fits of shared memory (stages x (bm + bn) bk) and of the registers for sums (4 bm bn)
//! a wave    = multiprocessors x occupancy blocks     waves = full ones and one partial one
//! step      = max( c bm bn bk / (MACs per cycle x issue efficiency)         c = ceil(blocks of the wave / multiprocessors)
//!                  max(blocks, c multiprocessors / 2) operand bytes / (cache rate x cache efficiency)
//!                  bytes that the wave's blocks do not share / DRAM rate
//!                  round trip to the cache / (stages - 1)                   operands in flight (Little's law)
//!                  step cycles )
//! T = launch + sum over waves (steps x step) + (1 + (waves - 1) / occupancy) (prologue + epilogue) + [s > 1] round trip
//!     (persistent blocks overlap all but one prologue and epilogue)
//! prologue = round trip        epilogue = round trip / 2 + tile's bytes of c blocks / cache rate
//! ```
//!
//! The cache is managed by hardware: blocks of a wave run side by side, so a panel of A or B that several of them
//! read comes from DRAM once. Blocks are walked in bands as high as makes the wave's region square
//! ([`reuse::region`]); operands that fit into the cache together come from DRAM once in all.
//! `T` is never below launch, 1.5 round trips and every operand once over DRAM. Where all operands are in the cache, a
//! round trip is half as long.
//!
//! **Power**: where a board's limit is below `static + energy / time`, the clock falls until it is not; power goes
//! with the clock to `power exponent`, so `T` grows by `(power / limit)^(1 / exponent)`.
//!
//! **Vector kernels** ([`stream`]), without the set-up of matmul kernels that a round trip holds:
//!
//! ```text
//! T = launch + (dependent accesses + 1) load latency + max( bytes / DRAM rate, bytes / cache rate,
//!       instructions / (lanes of the multiprocessors that have a row x issue efficiency),
//!       instructions of a row / its threads x dependent cycles )
//! ```
//!
//! One access, two where rows are reduced, and one until the last results are there. Instructions of softmax and norms
//! are counted by hardware. A row has a warp (softmax of up to 1024 columns) or a block, so few rows use few
//! multiprocessors. Rows that are read again (norms: mean, then values) come from memory again unless those in flight fit
//! into shared memory or a quarter of the cache.
//!
//! **Attention** ([`attention`]): blocks of query rows over tiles of keys; see there.
//!
//! What is not modelled: which of several kernels a library's heuristics prefer beyond the fastest, unaligned shapes,
//! data-dependent power, interference of kernels that run at once.

mod attention;
mod matmul;
mod power;
pub mod reuse;
mod stream;
#[cfg(test)]
mod tests;

use presil_hwmodels::{Chip, EngineKind, KernelParameters, KernelTile, NodeKind};

pub use attention::{Attention, attention};
pub use matmul::{Matmul, matmul};
pub use stream::{RowOp, Rows, lanes, rows, stream};

/// Part of a round trip, or a load, to memory that one to the cache takes.
const CACHE_TRIP: f64 = 0.5;

/// What kernels need to know of a chip, in one format. Plain figures, so that a study may change any of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Multiprocessors.
    pub multiprocessors: f64,
    /// Clock, Hz.
    pub hertz: f64,
    /// MACs per cycle of a multiprocessor in the format.
    pub macs_per_cycle: f64,
    /// Vector lanes of a multiprocessor.
    pub lanes: f64,
    /// Bytes per second that long streams reach from DRAM.
    pub dram_rate: f64,
    /// Seconds of a load from DRAM.
    pub memory_latency: f64,
    /// Bytes per second that the cache's ports give in all.
    pub cache_rate: f64,
    /// Bytes of the cache, copies of a line counted once.
    pub cache: f64,
    /// Bytes of the shared memory of a multiprocessor.
    pub shared: f64,
    /// Bytes of registers for partial sums of a multiprocessor.
    pub accumulators: f64,
    /// Threads of a multiprocessor.
    pub threads: f64,
    /// Whether the ends of tiles overlap with the starts of the next ones.
    pub persistent: bool,
    /// What all kernels share.
    pub parameters: KernelParameters,
    /// Bits of the two operands of a MAC over those of two 16-bit ones: its energy goes with them, as most of it is
    /// operands on their way through shared memory and registers.
    pub operand_width: f64,
    /// Energy of a byte from DRAM, J.
    pub dram_energy: f64,
    /// Energy of a byte from the cache, J.
    pub cache_energy: f64,
    /// Power that dynamic energy may take, W; infinite where nothing limits it.
    pub power_limit: f64,
    /// Static power, W.
    pub static_power: f64,
    /// Exponent of power in the clock.
    pub power_exponent: f64,
    /// Tiles of the matmul kernels.
    pub tiles: Vec<KernelTile>,
}

/// Where the time of a kernel goes, in seconds; the parts sum to its time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Parts {
    /// From the kernel before.
    pub launch: f64,
    /// Dependent accesses: first operands, last results, slices joined.
    pub fill: f64,
    /// Full waves that the multipliers (or lanes) bound.
    pub compute: f64,
    /// Full waves that the cache bounds.
    pub cache: f64,
    /// What DRAM bounds.
    pub dram: f64,
    /// Full waves that the latency of a step bounds.
    pub latency: f64,
    /// The partial wave.
    pub tail: f64,
    /// The clock below its full rate.
    pub throttle: f64,
}

impl Parts {
    /// All of them.
    pub fn total(&self) -> f64 {
        self.launch
            + self.fill
            + self.compute
            + self.cache
            + self.dram
            + self.latency
            + self.tail
            + self.throttle
    }
}

/// A kernel chosen for an op, and what it costs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Kernel {
    /// Its kind and tile in words: "matmul 128x256x64, 2 slices".
    pub name: String,
    /// Blocks.
    pub blocks: f64,
    /// Blocks that a multiprocessor runs at once.
    pub occupancy: f64,
    /// Waves, the partial one included.
    pub waves: f64,
    /// Seconds.
    pub time: f64,
    /// Where they go.
    pub parts: Parts,
    /// Seconds in which the multipliers (or lanes) of the busiest multiprocessor work.
    pub busy: f64,
    /// Bytes that blocks read from the cache.
    pub cache_bytes: f64,
    /// Bytes read from DRAM.
    pub dram_read: f64,
    /// Bytes written to DRAM.
    pub dram_written: f64,
    /// Dynamic energy at the clock it runs at, J.
    pub energy: f64,
    /// What multiplications have of it.
    pub multiply_energy: f64,
    /// The full clock over the clock it runs at.
    pub slowdown: f64,
}

impl Kernel {
    /// Static and dynamic energy on the board while it runs, J.
    pub fn board_energy(&self, machine: &Machine) -> f64 {
        self.energy + machine.static_power * self.time
    }
}

/// The machine of a chip in a mode of its array's compute node; `None` where the chip has no kernels.
pub fn machine(chip: &Chip, mode: usize) -> Option<Machine> {
    let k = chip.kernels.as_ref()?;
    let EngineKind::Array { compute, .. } = chip.engines[k.array].kind else {
        return None;
    };
    let node = &chip.nodes[compute];
    let NodeKind::Compute(c) = &node.kind else {
        return None;
    };
    let EngineKind::Vector { lanes, .. } = chip.engines[k.vector].kind else {
        return None;
    };
    let own = c.modes.get(mode)?;
    let bits = (own.input.bits() + own.weight.bits()) as f64;
    let dram = chip.nodes[chip.root()].memory()?;
    let cache = chip.nodes[k.cache].memory()?;
    let shared = chip.nodes[k.shared].memory()?;
    let NodeKind::Fanout(fanout) = &chip.nodes[k.multiprocessors].kind else {
        return None;
    };
    let n = (chip.nodes[k.multiprocessors].instances * fanout.instances()) as f64;
    let static_power: f64 = chip.static_power().iter().map(|(_, p)| p.0).sum();
    Some(Machine {
        multiprocessors: n,
        hertz: chip.clocks[c.clock].domain.frequency.0,
        macs_per_cycle: own.macs_per_cycle * node.instances as f64 / n,
        lanes: lanes as f64 / n,
        dram_rate: dram.streams()[0].0,
        memory_latency: dram.latency.0,
        cache_rate: cache.read_rate.0,
        cache: cache.capacity.0 as f64 / k.cache_copies as f64,
        shared: shared.capacity.0 as f64,
        accumulators: k.accumulators.0 as f64,
        threads: k.threads as f64,
        persistent: k.persistent,
        parameters: k.parameters,
        operand_width: bits / 32.0,
        dram_energy: dram.read_energy.0 * 8.0,
        cache_energy: cache.read_energy.0 * 8.0,
        power_limit: k
            .power_limit
            .map_or(f64::INFINITY, |p| (p.0 - static_power).max(1.0)),
        static_power,
        power_exponent: k.power_exponent,
        tiles: k.tiles.clone(),
    })
}

impl Machine {
    /// Energy of a MAC at the full clock, J.
    fn mac_energy(&self) -> f64 {
        self.parameters.mac_energy.0 * self.operand_width
    }

    /// The machine as an op sees it whose operands are all in the cache.
    #[must_use]
    pub fn with_cached_memory(&self) -> Self {
        Self {
            dram_rate: self.cache_reached(),
            memory_latency: self.memory_latency * CACHE_TRIP,
            parameters: KernelParameters {
                round_trip: self.parameters.round_trip * CACHE_TRIP,
                ..self.parameters
            },
            dram_energy: 0.0,
            ..self.clone()
        }
    }

    /// Bytes per second that all multiprocessors together get from the cache.
    pub fn cache_reached(&self) -> f64 {
        self.cache_rate * self.parameters.cache_efficiency
    }
}
