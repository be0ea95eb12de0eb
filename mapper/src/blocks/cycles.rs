//! Cycles of the engine.

use presil_hwmodels::{Blocks, Chip, NodeId, OutputKind};

use super::{Block, Kind, Layer, volume, within};

/// A memory as the engine sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Port {
    /// The memory.
    pub(crate) memory: NodeId,
    /// Cycles from a request to its first word.
    pub(crate) latency: f64,
    /// Bytes a cycle, read and written.
    pub(crate) rate: [f64; 2],
    /// Bytes of a burst.
    pub(crate) burst: u64,
}

impl Port {
    /// A memory of a chip, in cycles of a clock of so many hertz. `None` where the node is no memory.
    pub(crate) fn of(chip: &Chip, memory: NodeId, hertz: f64) -> Option<Self> {
        let m = chip.nodes[memory].memory()?;
        Some(Self {
            memory,
            latency: m.latency.0 * hertz,
            rate: m.streams().map(|rate| rate.0 / hertz),
            burst: m.burst.0.max(1),
        })
    }

    /// How much longer runs of so many bytes take than whole bursts.
    pub(crate) fn stretch(&self, run: u64) -> f64 {
        self.burst as f64 / self.burst.min(run.max(1)) as f64
    }

    /// Cycles of a transfer from its request on. `way`: 0 reads, 1 writes.
    fn transfer(&self, bytes: u64, run: u64, way: usize) -> f64 {
        self.latency + bytes as f64 * self.stretch(run) / self.rate[way]
    }
}

/// What the engine's cycles depend on beside the layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Around<'a> {
    /// Input, output.
    pub(crate) ports: [&'a Port; 2],
    /// Bytes of a run read from the input and written to the output.
    pub(crate) runs: [u64; 2],
    /// Outputs as they are stored, bricks filled up.
    pub(crate) outputs: f64,
    /// Latency of the memory that scales are read from.
    pub(crate) scales: f64,
}

/// Cycles that the engine takes for one run of a layer.
pub(crate) fn engine_cycles(
    blocks: &Blocks,
    layer: &Layer,
    block: &Block,
    tail: Option<OutputKind>,
    around: Around,
) -> f64 {
    let bytes = |bits: u64| bits.div_ceil(8);
    let input = within(layer.input, block.input);
    let out = within(layer.out, block.out);
    let [reads, writes] = around.ports;
    let first = reads.transfer(volume(input) * bytes(layer.bits[0]), around.runs[0], 0);
    let last = writes.transfer(volume(out) * bytes(layer.bits[1]), around.runs[1], 1);
    let per_output = tail
        .map_or(0.0, |t| blocks.output(t))
        .max(blocks.output(layer.output));
    if layer.kind == Kind::Elementwise {
        let elements = volume(block.out) as f64;
        let moved = blocks.command_share * (first + last + per_output * elements) / elements;
        return per_output.max(moved) * around.outputs;
    }
    let one = Work::of(blocks, layer, block, out, per_output, around.scales);
    let mut busy = 0.0;
    for (rows, row_blocks) in pieces(layer.out[0], out[0]) {
        for (columns, column_blocks) in pieces(layer.out[1], out[1]) {
            for (channels, channel_blocks) in pieces(layer.out[2], out[2]) {
                let size = [rows, columns, channels];
                let work = Work::of(blocks, layer, block, size, per_output, around.scales);
                let times = (row_blocks * column_blocks * channel_blocks) as f64;
                busy += work.multiply.max(work.output) * times;
            }
        }
    }
    let command =
        blocks.command_share * (reads.latency + writes.latency + one.output + one.multiply);
    first + last + busy + one.multiply.min(one.output).max(command)
}

/// Whole blocks along a side and what is left: sizes, and how many there are of each.
fn pieces(extent: u64, block: u64) -> impl Iterator<Item = (u64, u64)> {
    let (whole, rest) = (extent / block.max(1), extent % block.max(1));
    [(block, whole), (rest, u64::from(rest > 0))]
        .into_iter()
        .filter(|p| p.1 > 0 && p.0 > 0)
}

/// Cycles of one block.
#[derive(Debug, Clone, Copy)]
struct Work {
    multiply: f64,
    output: f64,
}

impl Work {
    fn of(
        blocks: &Blocks,
        layer: &Layer,
        block: &Block,
        size: [u64; 3],
        per_output: f64,
        scale_latency: f64,
    ) -> Self {
        let mut output = (per_output * volume(size) as f64).ceil();
        if layer.kind.has_weights() {
            let scales = (blocks.scale_bytes * size[2]) as f64 * scale_latency;
            output = output.max(scales / blocks.scale_request as f64);
        }
        Self {
            multiply: multiply(blocks, layer, block, size),
            output,
        }
    }
}

/// Cycles of the lanes for a block of a size.
fn multiply(blocks: &Blocks, layer: &Layer, block: &Block, size: [u64; 3]) -> f64 {
    let micro = micro_block(blocks, layer);
    let count = |i: usize| size[i].div_ceil(micro[i]);
    let (area, depth) = ((count(0) * count(1)) as f64, count(2) as f64);
    let wide = layer.bits[0] > 8;
    let step = blocks.step_cycles as f64;
    let decode = blocks.decode_cycles * micro[2] as f64;
    let taps_of_step = (blocks.taps / if wide { 2 } else { 1 }).max(1);
    let packed_inputs = layer.input[2]
        .min(block.input[2])
        .div_ceil(blocks.input_channels) as f64;
    let hazard = blocks.hazard_cycles[usize::from(wide)] as f64;
    let mut sum = 0.0;
    for (rows, row_windows) in pieces(layer.taps[0], blocks.window) {
        for (columns, column_windows) in pieces(layer.taps[1], blocks.window) {
            let taps = rows * columns;
            let (steps, cycles, inputs) = match layer.kind {
                // A pooling takes the pixels of a micro-block one after the other.
                Kind::Pool => {
                    let pixels = (micro[0] * micro[1]) as f64;
                    (1.0, step.max(taps as f64) * area * pixels, 1.0)
                }
                Kind::Depthwise => {
                    let steps = taps.div_ceil(blocks.taps) as f64;
                    let slower = if wide { 2.0 } else { 1.0 };
                    (steps, decode.max(step * area * slower) * steps, 1.0)
                }
                Kind::Convolution if block.packed => {
                    let steps = taps.div_ceil(taps_of_step) as f64;
                    (steps, decode.max(step * area) * steps, packed_inputs)
                }
                _ => (taps as f64, decode.max(step * area) * taps as f64, 1.0),
            };
            let waits = match (area == 1.0, depth == 1.0) {
                (true, true) => hazard * steps,
                (true, false) => hazard * (steps - 1.0) * depth,
                _ => 0.0,
            };
            let windows = (row_windows * column_windows) as f64;
            sum += (cycles * depth + waits) * inputs * windows;
        }
    }
    if matches!(layer.kind, Kind::Convolution | Kind::Linear | Kind::Sum) {
        let input = layer.input[2].min(block.input[2]).max(1);
        sum *= layer.input[2].div_ceil(input) as f64;
    }
    sum / blocks.cores as f64
}

/// The micro-block of a layer: four columns of one row where there is only one row, instead of two of two.
fn micro_block(blocks: &Blocks, layer: &Layer) -> [u64; 3] {
    let flat = blocks.micro[0] == 2
        && layer.kind.has_weights()
        && layer.out[0] == 1
        && layer.out[1].is_multiple_of(2)
        && layer.taps[0] == 1;
    if flat {
        return [1, blocks.micro[0] * blocks.micro[1], blocks.micro[2]];
    }
    blocks.micro
}
