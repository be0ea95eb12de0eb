//! What a layer moves.

use presil_hwmodels::Blocks;

use super::{Block, Kind, Layer, product, within};

/// How a feature map lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lying {
    /// In bricks of a few channels: what passes between layers.
    Bricks,
    /// Pixel by pixel, all channels of each: inputs and outputs of the network, and what is seen in other shapes.
    Pixels,
}

/// What one run of a layer moves, in bytes, and the runs that it moves them in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moved {
    /// Read of each input.
    pub(crate) read: f64,
    /// Written.
    pub(crate) written: f64,
    /// Contiguous bytes of a read and of a write.
    pub(crate) runs: [u64; 2],
    /// How often weights are read.
    pub(crate) weight_reads: u64,
    /// How often the input is read, for blocks of output channels.
    pub(crate) input_passes: u64,
}

/// What a layer moves.
pub(crate) fn moved(blocks: &Blocks, layer: &Layer, block: &Block, lying: [Lying; 2]) -> Moved {
    let bytes = layer.bits.map(|b| b.div_ceil(8));
    let stored = |channels: u64, lying: Lying| match lying {
        Lying::Bricks => channels.next_multiple_of(blocks.brick),
        Lying::Pixels => channels,
    };
    let [rows, columns, channels] = layer.out;
    let out_bytes = product(&[rows, columns, stored(channels, lying[1]), bytes[1]]);
    let out = within(layer.out, block.out);
    let parts = |i: usize| layer.out[i].div_ceil(out[i].max(1));
    let area_blocks = parts(0) * parts(1);
    let read = if layer.kind == Kind::Elementwise {
        product(&[rows, columns, stored(channels, lying[0]), bytes[0]])
    } else {
        let input = within(layer.input, block.input);
        let windows = layer.taps.map(|t| t.div_ceil(blocks.window));
        let again = if layer.kind.keeps_channels() {
            1
        } else {
            parts(2)
        };
        let deep = stored(layer.input[2], lying[0]);
        let each = product(&[input[0], input[1], deep, bytes[0]]);
        each * product(&[windows[0], windows[1], area_blocks, again])
    };
    let run_read = match lying[0] {
        Lying::Bricks => blocks.brick * block.input[1] * bytes[0],
        Lying::Pixels => block.input[2] * bytes[0],
    };
    let run_written = match lying[1] {
        Lying::Bricks => blocks.brick * block.out[1] * bytes[1] * blocks.cores,
        Lying::Pixels => (block.out[2].min(blocks.brick * blocks.cores)) * bytes[1],
    };
    Moved {
        read,
        written: out_bytes,
        runs: [run_read, run_written],
        weight_reads: area_blocks,
        input_passes: if layer.kind.keeps_channels() {
            1
        } else {
            parts(2)
        },
    }
}
