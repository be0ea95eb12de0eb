//! Attention kernels: scores, softmax and values in one pass over the keys, never written out.
//!
//! A block takes `bm` rows of one key-value head: the queries of all heads that share it are packed side by side
//! (`rows = queries x heads / kv heads`). It walks tiles of `bn` keys that its rows may see:
//!
//! ```text
//! keys of tile i = min(keys, keys - queries + ceil((i+1) bm / group)) - first key in the window      (causal)
//! step   = max( 2 bm bn d / (MACs per cycle x issue efficiency) + bm bn score operations / lanes,
//!               2 bn d key bytes / (cache rate of one multiprocessor),  step cycles )
//! body   = max( sum of steps x step / min(blocks, multiprocessors),  longest block ) + waves x fixed
//! fixed  = block round trips x round trip + queries in, output out
//! T      = launch + max(body, keys, values, queries, outputs over DRAM + 1.5 round trips)
//! ```
//!
//! Where blocks are few, keys are cut into slices; a second kernel joins them (half a launch, as it is in the queue
//! already, and a round trip). Blocks are started longest first, so the sum of their work spreads evenly.

use super::{Kernel, Machine, Parts, power};

/// Rows of a block.
const ROWS: [f64; 3] = [16.0, 64.0, 128.0];
/// Keys of a step.
const KEYS: [f64; 2] = [64.0, 128.0];
/// Slices of the keys.
const SLICES: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// `batch` sequences of `queries` queries over `keys` keys, the last ones of which are the queries' own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Sequences.
    pub batch: u64,
    /// Query heads.
    pub heads: u64,
    /// Heads of keys and values; a divisor of `heads`.
    pub kv_heads: u64,
    /// Queries of a sequence.
    pub queries: u64,
    /// Keys of a sequence, those of earlier steps included.
    pub keys: u64,
    /// Elements of a head.
    pub head_dim: u64,
    /// Keys that a query sees at most, where there is a window.
    pub window: Option<u64>,
    /// Whether a query sees no later key.
    pub causal: bool,
    /// Stored bits of an element of the queries.
    pub query_bits: f64,
    /// Of keys and values.
    pub key_bits: f64,
    /// Of the output.
    pub output_bits: f64,
}

impl Attention {
    /// Keys that tile `i` of the rows sees.
    fn seen(&self, i: u64, bm: f64) -> f64 {
        let group = (self.heads / self.kv_heads.max(1)).max(1) as f64;
        let before = self.keys.saturating_sub(self.queries) as f64;
        let end = if self.causal {
            (before + ((i + 1) as f64 * bm / group).ceil()).min(self.keys as f64)
        } else {
            self.keys as f64
        };
        let start = self.window.map_or(0.0, |w| {
            (before + (i as f64 * bm / group).floor() - w as f64 + 1.0).max(0.0)
        });
        (end - start).max(1.0)
    }

    /// Bytes of queries, keys and values, output that move.
    fn bytes(&self) -> [f64; 3] {
        let d = self.head_dim as f64;
        let tokens = self.batch as f64 * self.queries as f64;
        let heads = self.heads as f64;
        let keys = self
            .window
            .map_or(self.keys, |w| self.keys.min(w + self.queries - 1));
        let kv = 2.0 * self.batch as f64 * keys as f64 * self.kv_heads as f64 * d;
        [
            tokens * heads * d * self.query_bits / 8.0,
            kv * self.key_bits / 8.0,
            tokens * heads * d * self.output_bits / 8.0,
        ]
    }
}

/// The fastest attention kernel; of equal ones the first. `x` is the machine in the format that is multiplied.
pub fn attention(x: &Machine, a: &Attention) -> Kernel {
    let rows = (a.queries * (a.heads / a.kv_heads.max(1)).max(1)) as f64;
    let units = (a.batch * a.kv_heads.max(1)) as f64;
    let mut best: Option<Kernel> = None;
    for bm in ROWS {
        // A block of far fewer rows than there are only reads the keys more often.
        if bm < 64.0 && rows > 64.0 {
            continue;
        }
        let tiles = (rows / bm).ceil().max(1.0) as u64;
        for bn in KEYS {
            let (mut sum, mut longest) = (0.0, 0.0f64);
            for i in 0..tiles {
                let steps = (a.seen(i, bm) / bn).ceil();
                sum += steps;
                longest = longest.max(steps);
            }
            let block = Blocks {
                bm,
                bn,
                count: tiles as f64 * units,
                steps: sum * units,
                longest,
            };
            for slices in SLICES {
                if slices > longest || (slices > 1.0 && tiles > 1) {
                    break;
                }
                let kernel = block.kernel(x, a, slices);
                if best.as_ref().is_none_or(|b| kernel.time < b.time) {
                    best = Some(kernel);
                }
            }
        }
    }
    best.unwrap_or_default()
}

/// The blocks of a kernel.
struct Blocks {
    bm: f64,
    bn: f64,
    count: f64,
    /// Steps of all blocks.
    steps: f64,
    /// Steps of the longest one.
    longest: f64,
}

impl Blocks {
    fn kernel(&self, x: &Machine, a: &Attention, slices: f64) -> Kernel {
        let q = &x.parameters;
        let d = a.head_dim as f64;
        let (scores, n) = (self.bm * self.bn, x.multiprocessors);
        let multiply = 2.0 * scores * d / (x.macs_per_cycle * q.issue_efficiency * x.hertz);
        let exponents = scores * q.score_operations / (x.lanes * x.hertz);
        let operands = 2.0 * self.bn * d * a.key_bits / 8.0;
        let share = x.cache_reached() / n;
        let step = (multiply + exponents)
            .max(operands / share)
            .max(q.step_cycles / x.hertz);
        let blocks = self.count * slices;
        let spread = self.steps * step / blocks.min(n);
        let alone = (self.longest / slices).ceil() * step.max(q.round_trip.0 / 3.0);
        let ends = self.bm * d * (a.query_bits + a.output_bits) / 8.0 / share;
        let fixed = q.block_round_trips * q.round_trip.0 + ends;
        let waves = (blocks / n).ceil();
        let [queries, keys, output] = a.bytes();
        let dram = (queries + keys + output) / x.dram_rate + 1.5 * q.round_trip.0;
        let joined = if slices > 1.0 {
            q.launch.0 / 2.0 + q.round_trip.0
        } else {
            0.0
        };
        let mut parts = Parts {
            launch: q.launch.0,
            fill: waves * fixed + joined,
            ..Parts::default()
        };
        let work = spread.max(alone);
        if alone > spread {
            parts.latency = work;
        } else if step > multiply + exponents {
            parts.cache = work;
        } else {
            parts.compute = work;
        }
        parts.dram = (dram - work - waves * fixed).max(0.0);
        let macs = self.steps * 2.0 * scores * d;
        let cache_bytes = self.steps * operands + queries;
        let multiply_energy = macs * x.mac_energy();
        let energy = multiply_energy
            + cache_bytes * x.cache_energy
            + (queries + keys + output) * x.dram_energy;
        let cut = if slices > 1.0 {
            format!(", {slices} slices")
        } else {
            String::new()
        };
        let kernel = Kernel {
            name: format!("attention {}x{}{cut}", self.bm, self.bn),
            blocks,
            occupancy: 1.0,
            waves,
            time: parts.total(),
            parts,
            busy: self.steps * multiply / n,
            cache_bytes,
            dram_read: queries + keys,
            dram_written: output,
            energy: 0.0,
            multiply_energy,
            slowdown: 1.0,
        };
        power::limit(x, kernel, energy)
    }
}
