//! Layers on a block engine ([`presil_hwmodels::Blocks`]): closed forms of its time and traffic.
//!
//! A layer makes an output of rows x columns x channels `[H, W, C]` from an input `[h, w, c]` by a filter of `R x S`
//! taps. Its block is chosen by a stated rule (`choose`), its cycles (`cycles`) and its traffic (`traffic`) follow.
//!
//! ```text
//! micro-blocks of a block   u = ceil(rows / micro rows) x ceil(columns / micro columns),  z = ceil(channels / micro channels)
//! steps of a window         taps; ceil(taps / 4) where taps are packed (depthwise, or few input channels)
//! multiply(block) = sum over windows of max(decode, step cycles x u) x steps x z + hazard(u, z, steps)
//!                   x ceil(c / input channels of a block)  (/ cores)
//! output(block)   = max(cycles of an output x its elements, scale bytes x channels x latency / request)
//! command(block)  = share x (read latency + write latency + output + multiply)
//! engine = read(first input block) + write(last output block)
//!          + sum over blocks of max(multiply, output) + max(min(multiply, output), command)      of a whole block
//! ```
//!
//! A filter of more than 8 x 8 taps is taken window by window. `hazard`: where a block is a single micro-block in
//! rows and columns, a sum waits for itself between steps. Elementwise layers have no sums: an output takes its
//! cycles, or its share of reading and writing a block if that is longer.
//!
//! Each memory moves whole bursts: a run of `L` contiguous bytes takes the time of a burst if it is shorter. Feature
//! maps between layers lie in bricks of 16 channels (a run is 16 channels of a block's row), inputs and outputs of
//! the network channel by channel (a run is the channels of a block). Blocks read their whole input once for every
//! block of output channels, and weights once for every block of rows and columns: from the memory that they are
//! staged in, where they are.
//!
//! A layer takes as long as the busiest of the engine and the memories. Sources: the rules are those that Arm
//! publishes in its compiler Vela (5.2.0) with the parameters of its configuration files; checked against its estimates
//! of single layers.

mod choose;
mod cycles;
mod layers;
#[cfg(test)]
mod tests;
mod traffic;

pub(crate) use choose::{Block, choose};
pub(crate) use cycles::{Around, Port, engine_cycles};
pub(crate) use layers::layers;
pub(crate) use traffic::{Lying, moved};

use presil_hwmodels::OutputKind;

/// What a layer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Every output sums over a window of all input channels.
    Convolution,
    /// Every output sums over a window of its own channel.
    Depthwise,
    /// Every output sums over all input channels of its pixel.
    Linear,
    /// Every output is a maximum or an average over a window of its own channel.
    Pool,
    /// Every output sums the channels of its pixel, without weights.
    Sum,
    /// Every output comes from its own inputs.
    Elementwise,
}

impl Kind {
    /// Whether an output channel reads only its own input channel.
    pub(crate) fn keeps_channels(self) -> bool {
        matches!(self, Self::Depthwise | Self::Pool | Self::Elementwise)
    }

    /// Whether rows of its output need only some rows of its input, so that it can run in stripes.
    pub(crate) fn runs_in_stripes(self) -> bool {
        !matches!(self, Self::Linear | Self::Sum)
    }

    /// Whether it has filters.
    pub(crate) fn has_filters(self) -> bool {
        matches!(self, Self::Convolution | Self::Depthwise)
    }

    /// Whether it has weights.
    pub(crate) fn has_weights(self) -> bool {
        self.has_filters() || self == Self::Linear
    }
}

/// A layer as a block engine sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layer {
    /// What it does.
    pub(crate) kind: Kind,
    /// Output rows, columns, channels.
    pub(crate) out: [u64; 3],
    /// Input rows, columns, channels.
    pub(crate) input: [u64; 3],
    /// Filter taps along rows and columns.
    pub(crate) taps: [u64; 2],
    /// Elements that the filter spans along rows and columns.
    pub(crate) span: [u64; 2],
    /// Steps between outputs.
    pub(crate) stride: [u64; 2],
    /// Bits of an input and of an output element.
    pub(crate) bits: [u64; 2],
    /// Tensors of the output's size that an elementwise layer reads.
    pub(crate) operands: u64,
    /// Whether one of its operands is a single element for each row or in all.
    pub(crate) scalar: bool,
    /// Whether it reads a constant of its output's size beside them, from where weights are.
    pub(crate) constant: bool,
    /// What passes the output unit.
    pub(crate) output: OutputKind,
    /// Whether its inputs and outputs are tensors of the graph, or pass between layers of one op.
    pub(crate) ends: [bool; 2],
    /// How often it runs in sequence.
    pub(crate) repeat: u64,
}

impl Layer {
    /// A layer of one tap with 8-bit elements.
    fn plain(kind: Kind, out: [u64; 3], input: [u64; 3], output: OutputKind) -> Self {
        Self {
            kind,
            out,
            input,
            taps: [1; 2],
            span: [1; 2],
            stride: [1; 2],
            bits: [8; 2],
            operands: 1,
            scalar: false,
            constant: false,
            output,
            ends: [true; 2],
            repeat: 1,
        }
    }
}

impl Layer {
    /// The layer on a stripe that is a part of its rows, in whole micro-blocks.
    pub(crate) fn stripe(&self, part: f64, micro_rows: u64) -> Self {
        let share = (self.out[0] as f64 * part) as u64 / micro_rows * micro_rows;
        let rows = share.max(micro_rows).min(self.out[0]);
        let reach = (rows.max(1) - 1)
            .saturating_mul(self.stride[0])
            .saturating_add(self.span[0]);
        Self {
            out: [rows, self.out[1], self.out[2]],
            input: [reach.min(self.input[0]), self.input[1], self.input[2]],
            ..self.clone()
        }
    }

    /// Weights as they are stored over what they are: where steps take input channels only, these are filled up.
    pub(crate) fn filling(&self, input_channels: u64, packed: bool) -> f64 {
        let deep = matches!(self.kind, Kind::Convolution | Kind::Linear) && !packed;
        if !deep {
            return 1.0;
        }
        let channels = self.input[2].max(1);
        channels.next_multiple_of(input_channels) as f64 / channels as f64
    }
}

/// The product of extents, 2^64 - 1 if it is more.
pub(crate) fn volume(extents: [u64; 3]) -> u64 {
    extents.iter().fold(1, |n: u64, d| n.saturating_mul(*d))
}

/// The product of factors, which may be more than 64 bits hold.
pub(crate) fn product(factors: &[u64]) -> f64 {
    factors.iter().map(|f| *f as f64).product()
}

/// The smaller extents of two.
pub(crate) fn within(a: [u64; 3], b: [u64; 3]) -> [u64; 3] {
    [a[0].min(b[0]), a[1].min(b[1]), a[2].min(b[2])]
}
