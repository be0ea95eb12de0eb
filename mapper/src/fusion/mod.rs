//! Fused groups: ops that run tile by tile under shared loops, what passes between them staying on chip.
//!
//! ```text
//! groups     consecutive ops of a block linked by tensors that only they use      (axes, split)
//! windows    rows of the last op's output, and those of what it is made of        (windows)
//! plan       tile sizes, order of shared loops, what is held over them, a bound   (cuts, plan, bound)
//! price      the exact cost of a way: one iteration is a graph of its own         (step, masked, price)
//! ways       those worth pricing, and the best of them                            (ways, seen)
//! choice     disjoint groups of least total, by dynamic programming over the order (choose)
//! ```
//!
//! A group's LoopTree is: the shared loops, then one subtree an op. What one op makes and another reads is there only as
//! a tile, in one resident memory, the group's. Each op of an iteration is mapped by the search as any op is, given
//! where its operands start and what capacity is left; vector ops are priced as everywhere. Ops of an iteration run
//! one after the other (no overlap between them is claimed).
//!
//! What an op reads from outside is either *streamed* by it in every iteration, or *held*: fetched into the group's memory
//! once for each iteration of the loops from the outermost to the innermost that indexes it. Outputs leave as
//! they are made; those that sum over a shared loop are held until it ends, in the accumulator's format.
//!
//! Which of such groups a chip's compiler makes is `fuse_groups` in its file: none, those from one product of two activations to
//! another one (attention), or all; whether starting one is one launch, or one for
//! each op of each iteration, is `launch_groups_once`.
//!
//! A group that is one launch is a kernel whose iterations may run side by side, so at least one of its loops must not
//! sum; a group without a loop is none.
//!
//! # What is searched
//!
//! For each run of up to `UNITS` ops all memories, tilings into 1, 2, 3, 4, 6, 8, 12 .. tiles (of
//! those that fit the `TILINGS` of fewest iterations, a quarter of them for each class of room that they leave), all loop orders, all sets of held operands.
//!
//! ```text
//! bound of all ways       all work, each operand once, one launch of each op: a group that cannot pay is not tiled
//! bound of each way       roofline of its tiling, its traffic, its launches
//! short searches          from the least bound on, in turn of how much room ways leave, until no bound is a
//!                         thousandth of the whole below the best price, or EXACT are priced
//! longer ones             of the CLOSELY best of those; dense means of masked tiles, last tiles that are almost whole are whole
//! in full                 the groups chosen, beside residency planned anew; the pass is compared with the one without
//! ```
//!
//! Every price is that of legal mappings, so each is one that can be had: bounds above it cut nothing that is better. Short
//! searches are a few percent above longer ones, by about the same for all ways of a group, which is why they rank them
//! well. Groups that are equal (layers of a network) are looked at once (`seen`). In full, a masked op is mapped as if
//! there were no mask, and the exact analysis then counts what the mask leaves; the proof goes on from there.
//!
//! # Sliding windows
//!
//! Convolutions, poolings and what stands between them share loops over rows and columns of what leaves the group: the tile
//! of each op before is what the later ones read of it (`windows`). Where tiles overlap, both are looked at: every iteration
//! makes its halo again, which is real work, or rows stay in the group's memory along one of the loops, the innermost,
//! and each is made once (along an outer loop they are made again). What is held from outside fetches its overlaps in the
//! same way; what is streamed fetches what its tiles touch. Edge iterations are priced exactly; while ways are
//! compared, iterations at edges count as those inside where there are more than three.
//!
//! Not cut: rows behind a transposed convolution, a resize or a concatenation, and behind norms over a whole plane
//! (group norm), which reduce what such a loop would cut. Rows that only some of several readers skip (a strided 1x1
//! convolution) are made all the same. That fewer activations alive leave more room for resident weights is seen when
//! residency is planned anew, not when groups are chosen.

mod axes;
mod bound;
mod choose;
mod cuts;
mod masked;
mod plan;
mod price;
mod rewrite;
mod seen;
mod split;
mod step;
#[cfg(test)]
mod tests;
mod ways;
mod windows;

use presil_hwmodels::NodeId;
use presil_numerics::Bytes;
use presil_workloads::{OpId, TensorId};

pub(crate) use choose::{Chosen, choose};
pub(crate) use price::Pricing;

/// Ops of a group at most, epilogues not counted.
pub(crate) const UNITS: usize = 6;
/// Tilings of a group in a memory that are looked at.
pub(crate) const TILINGS: usize = 64;
/// Ways of a group that are priced by short searches.
pub(crate) const EXACT: usize = 48;
/// Of those, ways that are priced by longer ones.
pub(crate) const CLOSELY: usize = 4;

/// A loop that a group shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedLoop {
    /// Name of the dimension, as the group's MAC ops call it.
    pub dim: String,
    /// Iterations.
    pub trips: u64,
    /// Indices of the dimension in one iteration; the last may have fewer.
    pub tile: u64,
}

/// Rows made in a group that a tile shares with the next one along a loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halo {
    /// Name of the loop's dimension.
    pub dim: String,
    /// Rows, of the tensor of which they are most.
    pub rows: u64,
    /// Whether they stay in the group's memory from tile to tile; else each tile makes them again.
    pub kept: bool,
}

/// A fused group of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct FusedGroup {
    /// Its ops in order, epilogues included.
    pub ops: Vec<OpId>,
    /// Where tiles pass from op to op.
    pub memory: NodeId,
    /// Shared loops, outermost first.
    pub loops: Vec<SharedLoop>,
    /// Iterations that run: fewer than the product of trips where a mask leaves some empty.
    pub iterations: u64,
    /// Tensors from outside that are held over inner loops, with the bytes of their tiles.
    pub held: Vec<(TensorId, Bytes)>,
    /// Tensors that exist only as tiles, with the bytes of those.
    pub tiles: Vec<(TensorId, Bytes)>,
    /// The rewrite that it needs.
    pub rewrite: Option<&'static str>,
    /// Rows made in the group that tiles share, by loop.
    pub halo: Vec<Halo>,
}
