//! Kernels of the lanes: elementwise ops, softmax, norms. They are as fast as their bytes, or their lanes.

use super::{Kernel, Machine, Parts, power};

/// Threads of a block that works on one row.
const ROW_THREADS: f64 = 128.0;
/// Share of the cache that rows in flight may take to be there still when they are read again: the rest holds what
/// streams through meanwhile.
const CACHE_SHARE: f64 = 0.25;
/// Share of the shared memory of a multiprocessor that one row may take to be kept by its block.
const SHARED_SHARE: f64 = 0.25;

/// Rows that are reduced and written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rows {
    /// Rows.
    pub rows: u64,
    /// Elements of a row.
    pub columns: u64,
    /// Bits of an element.
    pub bits: f64,
    /// Passes over a row beyond the first where nothing keeps it: 1 for norms, 2 for a softmax.
    pub again: u64,
    /// Whether a block keeps its row in shared memory where it fits (softmax), else it relies on the caches.
    pub kept: bool,
    /// Lane operations per element.
    pub operations: f64,
    /// Whether the rows are in the cache already and stay there when written.
    pub cached: bool,
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
    moved(x, name, [read, written, 0.0], operations, trips)
}

/// A kernel that reduces rows.
pub fn rows(x: &Machine, name: &str, r: &Rows) -> Kernel {
    let x = if r.cached { &x.with_cached_memory() } else { x };
    let bytes = r.rows as f64 * r.columns as f64 * r.bits / 8.0;
    let row = r.columns as f64 * r.bits / 8.0;
    let flight = x.threads / ROW_THREADS * row;
    let near = flight <= x.shared || flight * x.multiprocessors <= CACHE_SHARE * x.cache;
    let kept = r.kept && row <= SHARED_SHARE * x.shared;
    let again = if kept { 0.0 } else { r.again as f64 * bytes };
    let (far, near) = if near { (0.0, again) } else { (again, 0.0) };
    let operations = r.operations * r.rows as f64 * r.columns as f64;
    moved(x, name, [bytes + far, bytes, near], operations, 2.0)
}

/// A kernel by bytes read from DRAM, written to DRAM, and read or written near, in the cache alone. Where none come from DRAM its
/// accesses end in the cache.
pub fn lanes(x: &Machine, name: &str, bytes: [f64; 3], operations: f64, reduces: bool) -> Kernel {
    let near = bytes[0] + bytes[1] == 0.0;
    let x = if near { &x.with_cached_memory() } else { x };
    moved(x, name, bytes, operations, if reduces { 2.0 } else { 1.0 })
}

/// A kernel by bytes read from DRAM, written to DRAM, and read again from near.
fn moved(
    x: &Machine,
    name: &str,
    [read, written, near]: [f64; 3],
    operations: f64,
    trips: f64,
) -> Kernel {
    let q = &x.parameters;
    let dram = (read + written) / x.dram_rate;
    let cache = (read + written + near) / x.cache_reached();
    let lanes = operations / (x.lanes * x.multiprocessors * x.hertz);
    let mut parts = Parts {
        launch: q.launch.0,
        fill: trips * q.round_trip.0,
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
