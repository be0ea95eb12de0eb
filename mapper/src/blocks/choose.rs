//! Which block a layer is made in.
//!
//! Blocks are multiples of the micro-block up to the largest block and the output, those of fewer than all channels
//! of a brick too. A block is legal if two of its input blocks and, unless the layer is elementwise, two sets of its
//! sums fit the buffer. Of the legal ones that with the fewest elements fetched for each output is taken:
//!
//! ```text
//! fetched = input elements of a block x blocks (x blocks of channels, where all of them read the whole input)
//!           + weights x blocks of rows and columns
//! ```
//!
//! halved where the whole input fits the two input blocks. Elementwise layers take the largest block. Of equals the
//! first is taken, channels varying slowest, then rows; later ones only up to 4 x 4 and if they cover more input.

use presil_hwmodels::Blocks;

use super::{Kind, Layer, product, volume};

/// The side up to which a later block of equal cost may be taken.
const SMALL: u64 = 4;

/// A block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Output rows, columns, channels.
    pub(crate) out: [u64; 3],
    /// Input rows, columns, channels.
    pub(crate) input: [u64; 3],
    /// Whether steps take several taps of few input channels.
    pub(crate) packed: bool,
}

/// Whether packing taps into steps uses the lanes better than filling them with input channels.
fn packs(blocks: &Blocks, layer: &Layer) -> bool {
    if !layer.kind.has_filters() {
        return false;
    }
    let (channels, taps) = (layer.input[2], layer.taps[0].saturating_mul(layer.taps[1]));
    if channels <= blocks.input_channels {
        return true;
    }
    let bytes = if layer.bits[0] == 16 { 2 } else { 1 };
    let used = |n: u64, whole: u64| n as f64 / n.next_multiple_of(whole.max(1)) as f64;
    let deep = used(channels, blocks.input_bytes[0] / bytes);
    let packed = used(channels, blocks.input_channels) * used(taps, blocks.taps / bytes);
    packed > deep
}

/// The input block that an output block needs.
fn input_block(blocks: &Blocks, layer: &Layer, out: [u64; 3], packed: bool) -> [u64; 3] {
    let side = |i: usize| {
        let span = layer.span[i].min(blocks.window);
        let reach = (out[i] - 1).saturating_mul(layer.stride[i]);
        // No input block that long fits a buffer.
        let side = reach.saturating_add(span).min(u64::from(u32::MAX));
        side.next_multiple_of(blocks.micro[i])
    };
    let depth = if layer.kind.keeps_channels() {
        out[2]
    } else {
        let halves = if layer.bits[0] == 16 { 2 } else { 1 };
        let most = (blocks.input_bytes[usize::from(packed)] / halves).max(1);
        layer.input[2]
            .min(most)
            .next_multiple_of(blocks.input_channels)
    };
    [side(0), side(1), depth]
}

/// Whether a block fits the buffer.
fn fits(blocks: &Blocks, layer: &Layer, out: [u64; 3], input: [u64; 3]) -> bool {
    let buffer = &blocks.buffer;
    let banks =
        |bytes: u64, grain: u64| (bytes.div_ceil(buffer.bank.0) * 2).next_multiple_of(grain.max(1));
    let bytes = layer.bits[0].div_ceil(8);
    let width = match bytes {
        1 => 0,
        2 => 1,
        _ => 2,
    };
    let row = input[2].saturating_mul(bytes).next_multiple_of(8);
    let area = input[0].saturating_mul(input[1]);
    let inputs = banks(area.saturating_mul(row), buffer.input_grain[width]);
    let table = matches!(layer.output, presil_hwmodels::OutputKind::Lookup);
    let reserved = buffer.reserved + if table { buffer.table } else { 0 };
    let other = if layer.kind == Kind::Elementwise {
        if layer.scalar { 0 } else { inputs }
    } else {
        let wide = usize::from(bytes > 1);
        let sum_bytes = [4, 5][wide];
        let sums = volume([out[0], out[1], out[2].next_multiple_of(8)]);
        banks(sums.saturating_mul(sum_bytes), buffer.sum_grain[wide])
    };
    reserved.saturating_add(inputs).saturating_add(other) <= buffer.banks
}

/// The block of a layer.
pub(crate) fn choose(blocks: &Blocks, layer: &Layer) -> Block {
    let packed = packs(blocks, layer);
    let mut most = blocks.most;
    for ((m, out), micro) in most.iter_mut().zip(layer.out).zip(blocks.micro) {
        *m = (*m).min(out).next_multiple_of(micro);
    }
    let mut best: Option<(f64, f64, Block)> = None;
    let mut depth = next_depth(
        blocks,
        layer,
        blocks.micro[2].max(most[2].min(blocks.brick)),
    );
    while depth <= most[2] {
        for rows in (blocks.micro[0]..=most[0]).step_by(blocks.micro[0] as usize) {
            for columns in (blocks.micro[1]..=most[1]).step_by(blocks.micro[1] as usize) {
                let whole = [rows, columns, depth];
                let input = input_block(blocks, layer, whole, packed);
                let out = flat(blocks, layer, whole);
                if !fits(blocks, layer, out, input) {
                    continue;
                }
                let cost = fetched(blocks, layer, out, input);
                let covered = [0, 1].map(|i| layer.input[i].min(input[i]).max(1));
                let uncovered = product(&layer.input[..2]) / product(&covered);
                let better = match &best {
                    None => true,
                    Some((least, _, _)) if cost < *least => true,
                    Some((least, covered, _)) => {
                        let small = rows <= SMALL && columns <= SMALL;
                        cost == *least && small && uncovered <= *covered
                    }
                };
                if better {
                    // Coverage counts only among blocks of equal cost.
                    let lower = best.as_ref().is_none_or(|b| cost < b.0);
                    let covered = if lower { f64::INFINITY } else { uncovered };
                    best = Some((
                        cost,
                        covered,
                        Block {
                            out: whole,
                            input,
                            packed,
                        },
                    ));
                }
            }
        }
        depth = next_depth(blocks, layer, depth + blocks.micro[2]);
    }
    match best {
        Some((_, _, block)) => block,
        None => Block {
            out: blocks.micro,
            input: input_block(blocks, layer, blocks.micro, packed),
            packed,
        },
    }
}

/// Channels of a block are bricks unless they are all.
fn next_depth(blocks: &Blocks, layer: &Layer, depth: u64) -> u64 {
    if depth < layer.out[2] {
        depth.next_multiple_of(blocks.brick)
    } else {
        depth
    }
}

/// An engine with micro-blocks of two rows keeps sums of one row only, where there is only one.
fn flat(blocks: &Blocks, layer: &Layer, block: [u64; 3]) -> [u64; 3] {
    if layer.out[0] == 1 && layer.taps[0] == 1 && blocks.micro[0] == 2 {
        return [1, block[1], block[2]];
    }
    block
}

/// Elements fetched for each output.
fn fetched(blocks: &Blocks, layer: &Layer, out: [u64; 3], input: [u64; 3]) -> f64 {
    let parts = |i: usize| layer.out[i] as f64 / out[i] as f64;
    let whole = |i: usize| layer.out[i].div_ceil(out[i]) as f64;
    let outputs = volume(layer.out).max(1) as f64;
    let mut cost = if layer.kind == Kind::Elementwise {
        (outputs / volume(out) as f64).max(1.0)
    } else {
        let windows = product(&layer.span.map(|s| s.div_ceil(blocks.window)));
        let read = product(&[input[0], input[1], layer.input[2]]);
        let mut inputs = read * windows * parts(0) * parts(1);
        if !layer.kind.keeps_channels() {
            inputs *= whole(2);
        }
        let mut weights = 0.0;
        if layer.kind.has_weights() {
            let each = product(&[layer.span[0], layer.span[1], layer.input[2]]);
            weights = each * whole(0) * whole(1);
            if layer.kind != Kind::Depthwise {
                weights *= layer.out[2] as f64;
            }
        }
        (inputs + weights) / outputs
    };
    if volume(layer.input) < volume(input).saturating_mul(2) {
        cost /= 2.0;
    }
    cost
}
