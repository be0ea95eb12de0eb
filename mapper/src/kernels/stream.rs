//! Kernels of the lanes: elementwise ops, softmax, norms. They are as fast as their bytes, or their lanes.

use super::{Kernel, Machine, Parts, power};

/// Threads of a block, and of a row of a norm.
const ROW_THREADS: f64 = 128.0;
/// Columns that a softmax gives to one warp; longer rows have a block of their own.
const WARP_COLUMNS: u64 = 1024;
/// Threads of a warp, and of the largest block.
const WARP: f64 = 32.0;
const LARGEST_BLOCK: f64 = 1024.0;
/// Cycles from an instruction of a warp to its next one where no other warp fills them. Rows of 512 to 16384 elements alone on an
/// H200 took 4 to 10.5.
const DEPENDENT_CYCLES: f64 = 8.0;
/// Share of the cache that rows in flight may take to be there still when they are read again: the rest holds what
/// streams through meanwhile.
const CACHE_SHARE: f64 = 0.25;
/// Share of the shared memory of a multiprocessor that one row may take to be kept by its block.
const SHARED_SHARE: f64 = 0.25;

/// What is done with rows that are reduced and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOp {
    /// Largest element, sum of exponentials, quotients.
    Softmax,
    /// Mean and variance.
    LayerNorm,
    /// Mean of squares.
    RmsNorm,
}

impl RowOp {
    /// Passes over a row beyond the first where nothing keeps it.
    fn again(self) -> f64 {
        match self {
            Self::Softmax => 2.0,
            Self::LayerNorm | Self::RmsNorm => 1.0,
        }
    }

    /// Whether a block keeps its row in shared memory or registers where it fits, else it relies on the caches.
    fn kept(self) -> bool {
        self == Self::Softmax
    }

    /// Instructions of a lane per element: conversions, addresses and loops too. Counted by the hardware of an H200 in PyTorch 2.11's
    /// kernels of bf16 and fp32: 37 to 45, 34, 14 (`tests/data/measured/h200/counters.csv`).
    fn instructions(self) -> f64 {
        match self {
            Self::Softmax => 40.0,
            Self::LayerNorm => 34.0,
            Self::RmsNorm => 14.0,
        }
    }

    /// Threads that work on a row.
    fn threads(self, columns: u64) -> f64 {
        match self {
            Self::Softmax if columns <= WARP_COLUMNS => WARP,
            Self::Softmax => LARGEST_BLOCK,
            Self::LayerNorm | Self::RmsNorm => ROW_THREADS,
        }
    }
}

/// Rows that are reduced and written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rows {
    /// What is done with them.
    pub op: RowOp,
    /// Rows.
    pub rows: u64,
    /// Elements of a row.
    pub columns: u64,
    /// Bits of an element.
    pub bits: f64,
    /// Whether the rows are in the cache already and stay there when written.
    pub cached: bool,
}

/// What a kernel moves and does.
struct Work {
    /// Bytes read from DRAM.
    read: f64,
    /// Bytes written to DRAM.
    written: f64,
    /// Bytes read again from near.
    near: f64,
    /// Lane operations.
    operations: f64,
    /// Multiprocessors that have a part of it.
    multiprocessors: f64,
    /// Seconds of the longest chain of dependent instructions.
    alone: f64,
    /// Dependent accesses before the last ones.
    trips: f64,
}

/// A kernel that reads and writes bytes with so many lane operations in all, after `trips` dependent accesses.
pub fn stream(
    x: &Machine,
    name: &str,
    read: f64,
    written: f64,
    operations: f64,
    trips: f64,
) -> Kernel {
    let work = Work {
        read,
        written,
        near: 0.0,
        operations,
        multiprocessors: x.multiprocessors,
        alone: 0.0,
        trips,
    };
    moved(x, name, &work)
}

/// A kernel that reduces rows.
pub fn rows(x: &Machine, name: &str, r: &Rows) -> Kernel {
    let x = if r.cached { &x.with_cached_memory() } else { x };
    let (count, columns) = (r.rows as f64, r.columns as f64);
    let row = columns * r.bits / 8.0;
    let bytes = count * row;
    let flight = x.threads / ROW_THREADS * row;
    let near = flight <= x.shared || flight * x.multiprocessors <= CACHE_SHARE * x.cache;
    let kept = r.op.kept() && row <= SHARED_SHARE * x.shared;
    let again = if kept { 0.0 } else { r.op.again() * bytes };
    let (far, near) = if near { (0.0, again) } else { (again, 0.0) };
    let threads = r.op.threads(r.columns);
    let blocks = (count * (threads / ROW_THREADS).min(1.0)).ceil();
    let work = Work {
        read: bytes + far,
        written: bytes,
        near,
        operations: r.op.instructions() * count * columns,
        multiprocessors: blocks.clamp(1.0, x.multiprocessors),
        alone: r.op.instructions() * columns / threads * DEPENDENT_CYCLES / x.hertz,
        trips: 2.0,
    };
    moved(x, name, &work)
}

/// A kernel by bytes read from DRAM, written to DRAM, and read or written near, in the cache alone. Where none come from DRAM its
/// accesses end in the cache.
pub fn lanes(x: &Machine, name: &str, bytes: [f64; 3], operations: f64, reduces: bool) -> Kernel {
    let [read, written, near] = bytes;
    let x = if read + written == 0.0 {
        &x.with_cached_memory()
    } else {
        x
    };
    let work = Work {
        read,
        written,
        near,
        operations,
        multiprocessors: x.multiprocessors,
        alone: 0.0,
        trips: if reduces { 2.0 } else { 1.0 },
    };
    moved(x, name, &work)
}

fn moved(x: &Machine, name: &str, work: &Work) -> Kernel {
    let q = &x.parameters;
    let Work {
        read,
        written,
        near,
        ..
    } = *work;
    let dram = (read + written) / x.dram_rate;
    let cache = (read + written + near) / x.cache_reached();
    let issued = x.lanes * work.multiprocessors * x.hertz * q.issue_efficiency;
    let lanes = (work.operations / issued).max(work.alone);
    let mut parts = Parts {
        launch: q.launch.0,
        fill: (work.trips + 1.0) * x.memory_latency,
        ..Parts::default()
    };
    if dram >= cache && dram >= lanes {
        parts.dram = dram;
    } else if cache >= lanes {
        parts.cache = cache;
    } else {
        parts.compute = lanes;
    }
    let energy = (read + written) * x.dram_energy + (read + written + near) * x.cache_energy;
    let kernel = Kernel {
        name: name.into(),
        blocks: 1.0,
        occupancy: 1.0,
        waves: 1.0,
        time: parts.total(),
        parts,
        busy: lanes,
        cache_bytes: read + near,
        dram_read: read,
        dram_written: written,
        energy: 0.0,
        multiply_energy: 0.0,
        slowdown: 1.0,
    };
    power::limit(x, kernel, energy)
}
