//! What ops compute, element for element: what execution needs beyond the einsums that costs follow from.
//!
//! An op's kind tells which elements it touches and which primitives run; this tells what comes out. A contraction's
//! einsum is complete by itself but for its bias; an einsum of lane primitives is not ("one look-up" may be sine or
//! cosine), so its formula stands here. Where nothing is stated an op can be timed and not executed, and execution
//! names it.

use std::sync::Arc;

use presil_numerics::{Conversion, Format};

use crate::build::{NormKind, PoolKind};
use crate::einsum::ReduceOperator;
use crate::formula::Formula;
use crate::program::{Program, Recurrence};

/// What an op computes. Ranks and places are those of its tensors' shapes.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Meaning {
    /// Nobody said.
    #[default]
    Unstated,
    /// The sum of products of the contraction. A third input is a bias: its elements lie along these trailing ranks of
    /// the output, from `bias_rank` on, and broadcast over the rest.
    Contraction {
        /// The output's rank along which a bias lies.
        bias_rank: usize,
    },
    /// A formula at each place of the inputs, which broadcast as in NumPy.
    Elementwise(Formula),
    /// `exp(scale x - max) / sum exp(scale x - max)` along an axis, over the domain of its first einsum. A second input
    /// is a sink of each head: one more addend of the denominator.
    Softmax {
        /// The axis.
        axis: usize,
        /// What the input is multiplied by before.
        scale: f64,
        /// Whether the logarithm is taken.
        log: bool,
    },
    /// A norm over the rows of its first einsum (dimensions x, k, y). Second and third inputs are scale and shift.
    Norm {
        /// Which.
        kind: NormKind,
        /// Added to the variance or mean square.
        epsilon: f64,
        /// Where scale and shift lie.
        parameters: Parameters,
    },
    /// A pooling over the windows of its first einsum.
    Pool {
        /// Which.
        kind: PoolKind,
        /// Whether an average divides by the whole window where part of it is padding.
        counts_padding: bool,
    },
    /// A reduction over ranks.
    Reduce {
        /// Which.
        operator: ReduceOperator,
        /// Whether a sum is divided by its number of elements.
        mean: bool,
        /// The ranks.
        axes: Vec<usize>,
    },
    /// Parts of the first input along an axis, at the places that the second input gives.
    Gather {
        /// The axis.
        axis: usize,
    },
    /// The same elements in the same order.
    Reshape,
    /// The part from `starts` on of as many elements as `sizes` says, every `steps`-th of each rank; then as the
    /// output's shape.
    Slice {
        /// First element of each rank.
        starts: Vec<u64>,
        /// Elements of each rank.
        sizes: Vec<u64>,
        /// Step of each rank.
        steps: Vec<i64>,
    },
    /// The part at the repetition's number along an axis: what a step of a recurrence reads of a sequence.
    Step {
        /// The axis.
        axis: usize,
    },
    /// Rank `i` of the output is rank `order[i]` of the input.
    Transpose {
        /// The order.
        order: Vec<usize>,
    },
    /// The inputs one behind the other.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// The input with elements of a value around it.
    Pad {
        /// Elements before the first of each rank.
        before: Vec<u64>,
        /// The value.
        value: f64,
    },
    /// Each element repeated along each rank.
    Enlarge {
        /// Repetitions for each rank.
        factors: Vec<u64>,
    },
    /// Rotary position encoding of an input seen as [batch, tokens, heads, width]: pairs (i, i + width/2) are turned by
    /// `position x base^(-2i/width)`.
    Rotary {
        /// The base.
        base: f64,
        /// Position of the first token.
        first: u64,
        /// Whether a pair is two neighbours (2i, 2i + 1) instead.
        neighbours: bool,
    },
    /// The input, appended to a cache.
    Append,
    /// Several steps, each of a meaning of its own.
    Program(Box<Program>),
    /// Nothing by itself: the steps of another op of the same node give what its outputs hold.
    Elsewhere,
    /// Numbers, row-major.
    Constant(Arc<Vec<f64>>),
    /// As a contraction, of integers and exactly.
    IntegerContraction,
    /// Elements at places along an axis; `fill` where there is no place.
    Take {
        /// The axis.
        axis: usize,
        /// The place of each element of the result.
        places: Vec<Option<usize>>,
        /// What stands where there is no place.
        fill: f64,
    },
    /// The input with `outside` where a place of the last two ranks, column less row, is not in a range.
    Band {
        /// The least that is inside.
        least: Option<i64>,
        /// The largest that is inside.
        most: Option<i64>,
        /// What stands outside.
        outside: f64,
    },
    /// Weighted sums of elements along an axis.
    Blend {
        /// The axis.
        axis: usize,
        /// Places and weights of each element of the result.
        taps: Vec<Vec<(usize, f64)>>,
    },
    /// The nearest number of a format, under a conversion.
    Convert {
        /// The format.
        format: Format,
        /// How numbers become those of the format.
        conversion: Conversion,
    },
    /// Elements of the first input at the places along an axis that the second gives, one for each.
    GatherElements {
        /// The axis.
        axis: usize,
    },
    /// Parts of the first input at the index vectors that lie along the last rank of the second.
    GatherVectors {
        /// Leading ranks that both share.
        batch: usize,
    },
    /// The first input with elements (the third input) at the places along an axis that the second gives.
    ScatterElements {
        /// The axis.
        axis: usize,
        /// How an element meets the one that is there; `None` replaces it.
        reduction: Option<ReduceOperator>,
    },
    /// The first input with parts (the third input) at the index vectors that lie along the last rank of the second.
    ScatterVectors {
        /// How an element meets the one that is there; `None` replaces it.
        reduction: Option<ReduceOperator>,
    },
    /// The places of the largest (or smallest) elements along an axis, in their order; of equals the first one first.
    Order {
        /// The axis.
        axis: usize,
        /// How many.
        count: usize,
        /// Whether the largest come first.
        largest: bool,
        /// Whether of equals the last one comes first.
        last: bool,
    },
    /// Sums (or products) of the elements up to each along an axis.
    Cumulative {
        /// The axis.
        axis: usize,
        /// Whether it multiplies.
        product: bool,
        /// Whether an element's own value is left out.
        exclusive: bool,
        /// Whether it runs from the last element on.
        reverse: bool,
    },
    /// A recurrent layer over all its time steps.
    Recurrence(Box<Recurrence>),
}

/// Where the scale and the shift of a norm lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameters {
    /// Along the normalized elements of a row.
    Row,
    /// Along rank 1, the channels.
    Channels,
}
