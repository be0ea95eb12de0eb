//! Matmul kernels: the fastest of the menu. The equations are in the module above.

use presil_hwmodels::KernelTile;

use super::reuse::region;
use super::{CACHE_TRIP, Kernel, Machine, Parts, power};

/// Slices of the reduction that a library tries.
const SLICES: [u64; 15] = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64];
/// Blocks of one multiprocessor, at most.
const OCCUPANCY: f64 = 4.0;
/// Bits of partial sums.
const SUM_BITS: f64 = 32.0;
/// Bytes of registers that a block needs beside its sums: addresses and operand fragments of its warps.
const FRAGMENTS: f64 = 32.0 * 1024.0;

/// `batch` times `output[m, n] = sum over k of input[m, k] weight[k, n]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matmul {
    /// Rows of the output.
    pub m: u64,
    /// Columns of the output.
    pub n: u64,
    /// Length of the reduction.
    pub k: u64,
    /// Independent products.
    pub batch: u64,
    /// Share of the input's m x k elements that are distinct: 1 for a product, less where windows of a convolution
    /// overlap.
    pub distinct: f64,
    /// Stored bits of an element of the input, scales included.
    pub input_bits: f64,
    /// Of the weight.
    pub weight_bits: f64,
    /// Of the output.
    pub output_bits: f64,
    /// Whether the input is in the cache already.
    pub input_cached: bool,
    /// Whether the weight is in the cache already.
    pub weight_cached: bool,
    /// Whether the output stays in the cache.
    pub output_cached: bool,
}

impl Matmul {
    /// Bytes of the input, the weight and the output.
    pub fn bytes(&self) -> [f64; 3] {
        let (m, n, k, batch) = (
            self.m as f64,
            self.n as f64,
            self.k as f64,
            self.batch as f64,
        );
        [
            m * k * batch * self.distinct * self.input_bits / 8.0,
            k * n * batch * self.weight_bits / 8.0,
            m * n * batch * self.output_bits / 8.0,
        ]
    }

    /// MACs.
    pub fn macs(&self) -> f64 {
        self.m as f64 * self.n as f64 * self.k as f64 * self.batch as f64
    }
}

/// The fastest kernel of the menu for a product; of equal ones the first. `None` for an empty menu.
pub fn matmul(machine: &Machine, p: &Matmul) -> Option<Kernel> {
    let mut best: Option<(Kernel, KernelTile, u64)> = None;
    for tile in &machine.tiles {
        let turned = KernelTile {
            m: tile.n,
            n: tile.m,
            ..*tile
        };
        let ways = if tile.m == tile.n { 1 } else { 2 };
        for tile in [*tile, turned].into_iter().take(ways) {
            for slices in SLICES {
                if let Some(kernel) = kernel(machine, p, &tile, slices)
                    && best.as_ref().is_none_or(|(b, ..)| kernel.time < b.time)
                {
                    best = Some((kernel, tile, slices));
                }
            }
        }
    }
    best.map(|(kernel, tile, slices)| {
        let cut = if slices > 1 {
            format!(" in {slices} slices")
        } else {
            String::new()
        };
        Kernel {
            name: format!("matmul {}x{}{cut}", tile.m, tile.n),
            ..kernel
        }
    })
}

/// What a kernel does in one step of a wave, and how long that takes.
struct Step {
    compute: f64,
    cache: f64,
    dram: f64,
    latency: f64,
}

impl Step {
    fn time(&self) -> f64 {
        self.compute
            .max(self.cache)
            .max(self.dram)
            .max(self.latency)
    }

    /// Books seconds under what bounds the step.
    fn book(&self, parts: &mut Parts, seconds: f64) {
        let t = self.time();
        if t == self.compute {
            parts.compute += seconds;
        } else if t == self.dram {
            parts.dram += seconds;
        } else if t == self.cache {
            parts.cache += seconds;
        } else {
            parts.latency += seconds;
        }
    }
}

/// A kernel's grid: what does not depend on the wave.
struct Grid<'a> {
    machine: &'a Machine,
    p: &'a Matmul,
    bm: f64,
    bn: f64,
    bk: f64,
    rows: f64,
    columns: f64,
    slices: f64,
    steps: f64,
    stages: f64,
    /// Bytes that a block reads itself in one step (not by a neighbour's read).
    read: f64,
    blocks: f64,
    occupancy: f64,
    waves: f64,
    /// A dependent access to the operands, s.
    trip: f64,
    /// Largest bytes that the wave can have to bring, where all operands fit into the cache.
    cold: f64,
}

impl Grid<'_> {
    /// Bytes that a wave of so many blocks brings from DRAM.
    fn brought(&self, blocks: f64) -> f64 {
        let p = self.p;
        let (m, n, batch) = (p.m as f64, p.n as f64, p.batch as f64);
        let outputs = (blocks / self.slices).max(1.0);
        let r = region(outputs, self.rows, self.columns, batch, self.bm, self.bn);
        let depth = (self.steps * self.slices * self.bk).min(p.k as f64);
        let side = |extent: f64, bits: f64, cached: bool| {
            if cached {
                0.0
            } else {
                extent * depth * bits / 8.0
            }
        };
        let a = p.distinct
            * side(
                (r.rows * self.bm).min(m * batch),
                p.input_bits,
                p.input_cached,
            );
        let b = side(
            (r.columns * self.bn).min(n * batch),
            p.weight_bits,
            p.weight_cached,
        );
        (a + b).min(self.cold)
    }

    fn step(&self, blocks: f64) -> Step {
        let x = self.machine;
        let q = &x.parameters;
        let each = (blocks / x.multiprocessors).ceil();
        let macs = each * self.bm * self.bn * self.bk;
        // One multiprocessor takes at most twice its share of the cache's rate.
        let sources = blocks.max(each * x.multiprocessors / 2.0);
        // What is in flight, a neighbour has asked for: it comes from the cache.
        let flight = CACHE_TRIP * x.parameters.round_trip.0 / (self.stages - 1.0);
        Step {
            compute: macs / (x.macs_per_cycle * q.issue_efficiency * x.hertz),
            cache: sources * self.read / x.cache_reached(),
            dram: self.brought(blocks) / self.steps / x.dram_rate,
            latency: flight.max(q.step_cycles / x.hertz),
        }
    }
}

/// One kernel; `None` where its reduction has fewer steps than slices.
fn kernel(x: &Machine, p: &Matmul, tile: &KernelTile, slices: u64) -> Option<Kernel> {
    let (bm, bn) = (tile.m as f64, tile.n as f64);
    let wide = p.input_bits.max(p.weight_bits).max(1.0);
    let bk = (tile.k.0 as f64 * 8.0 / wide).floor().max(1.0);
    let all = (p.k as f64 / bk).ceil();
    if slices as f64 > all {
        return None;
    }
    let steps = (all / slices as f64).ceil();
    let slices = (all / steps).ceil();
    let (rows, columns) = ((p.m as f64 / bm).ceil(), (p.n as f64 / bn).ceil());
    let blocks = rows * columns * p.batch as f64 * slices;
    let (a, b) = (bm * bk * p.input_bits / 8.0, bn * bk * p.weight_bits / 8.0);
    let stage = a + b;
    let cluster = if rows.max(columns) >= 2.0 {
        tile.cluster as f64
    } else {
        1.0
    };
    let read = stage - (1.0 - 1.0 / cluster) * a.max(b);
    let stages = (tile.stages as f64).min((x.shared / stage).floor());
    if stages < 2.0 {
        return None;
    }
    let sums = bm * bn * SUM_BITS / 8.0 + FRAGMENTS;
    let occupancy = (x.shared / (stage * stages))
        .floor()
        .min((x.accumulators / sums).floor())
        .clamp(1.0, OCCUPANCY);
    let slots = x.multiprocessors * occupancy;
    let full = (blocks / slots).floor();
    let rest = blocks - full * slots;
    let waves = full + if rest > 0.0 { 1.0 } else { 0.0 };
    let [input, weight, output] = p.bytes();
    let uncached =
        if p.input_cached { 0.0 } else { input } + if p.weight_cached { 0.0 } else { weight };
    let fits = input + weight <= x.cache;
    let grid = Grid {
        machine: x,
        p,
        bm,
        bn,
        bk,
        rows,
        columns,
        slices,
        steps,
        stages,
        read,
        blocks,
        occupancy,
        waves,
        trip: x.parameters.round_trip.0
            * if p.input_cached && p.weight_cached {
                CACHE_TRIP
            } else {
                1.0
            },
        cold: if fits {
            uncached / waves
        } else {
            f64::INFINITY
        },
    };
    Some(timed(&grid, full, rest, [uncached, output]))
}

/// The time of a kernel whose grid is known.
fn timed(g: &Grid, full: f64, rest: f64, [uncached, output]: [f64; 2]) -> Kernel {
    let (x, p) = (g.machine, g.p);
    let q = &x.parameters;
    let slots = x.multiprocessors * g.occupancy;
    let mut parts = Parts {
        launch: q.launch.0,
        ..Parts::default()
    };
    let (mut busy, mut brought) = (0.0, 0.0);
    if full > 0.0 {
        let step = g.step(slots);
        step.book(&mut parts, full * g.steps * step.time());
        busy += full * g.steps * step.compute;
        brought += full * g.brought(slots);
    }
    if rest > 0.0 {
        let step = g.step(rest);
        let seconds = g.steps * step.time();
        if full > 0.0 {
            parts.tail += seconds;
        } else {
            step.book(&mut parts, seconds);
        }
        busy += g.steps * step.compute;
        brought += g.brought(rest);
    }
    // Sums of slices are written and read again in the accumulator's format.
    let bits = if g.slices > 1.0 {
        2.0 * SUM_BITS
    } else {
        p.output_bits
    };
    let each = (g.blocks.min(slots) / x.multiprocessors).ceil();
    let written = each * x.multiprocessors * g.bm * g.bn * bits / 8.0;
    let epilogue = g.trip / 2.0 + written / x.cache_reached();
    let shown = if x.persistent {
        1.0
    } else {
        1.0 + (g.waves - 1.0) / g.occupancy
    };
    parts.fill = shown * (g.trip + epilogue);
    if g.slices > 1.0 {
        parts.fill += g.trip;
    }
    let dram_written = if p.output_cached { 0.0 } else { output };
    let dram_read = brought.max(uncached);
    let least = (uncached + dram_written) / x.dram_rate + 1.5 * g.trip;
    parts.dram += (least - (parts.total() - parts.launch)).max(0.0);
    let cache_bytes = g.blocks * g.steps * g.read;
    // Rows and columns beyond the matrix are multiplied too.
    let issued = g.blocks * g.steps * g.bm * g.bn * g.bk;
    let multiply_energy = issued * x.mac_energy();
    let energy =
        multiply_energy + cache_bytes * x.cache_energy + (dram_read + dram_written) * x.dram_energy;
    let kernel = Kernel {
        name: String::new(),
        blocks: g.blocks,
        occupancy: g.occupancy,
        waves: g.waves,
        time: parts.total(),
        parts,
        busy,
        cache_bytes,
        dram_read,
        dram_written,
        energy: 0.0,
        multiply_energy,
        slowdown: 1.0,
    };
    power::limit(x, kernel, energy)
}
