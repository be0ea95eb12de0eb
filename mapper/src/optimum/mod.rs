//! Provably optimal mappings of cases, under convention `accelforge`.
//!
//! # The space
//!
//! All placements of storage (every subset of the memories that may keep an operand, in every order of nodes between
//! two fanouts: uneven mappings included), all loops between them, all ways to lay dimensions along axes, all tile
//! sizes: perfect factors, or (the default) those where, of all multiples of the tile inside that make the same
//! number of tiles, the smallest is taken. An operand starts (or ends) whole at its outermost memory, before any loop; an
//! intermediate of a chain may also be kept tile by tile below loops that producer and reader share ([`chain`](self)).
//!
//! # Why most of it need not be looked at
//!
//! Counts are products: with `t` the tile of each dimension at a storage of operand `X`, and `D` the extents,
//!
//! ```text
//! fills(X) = product of D over plain dimensions of X
//!          x product of ceil(D / t) over dimensions that do not index X
//!          x, for each window, the positions that enter over all its tiles
//! ```
//!
//! *Helpful loops.* A loop directly above a storage of `X` over a dimension that does not index `X` can be moved
//! below it: fills of `X` fall by its trips, nothing else changes. A loop directly below a storage of `X` over a
//! plain dimension of `X` can be moved above it: fills stay, the tile gets smaller. Both moves repeat until, between
//! a storage of `X` and the next one inside, of `Y`, all loops index `Y` and are not plain in `X`. So only those
//! are looked at, and all orders of them are the same, but for the loop that slides a window directly above its
//! storage, which is chosen beside.
//!
//! *Fronts.* Told from the inside out, everything outside a fan depends on what lies inside only through the tiles, the
//! operand stored outermost so far, what each operand asks of the next storage, energy, first visits and time. Of
//! two partial mappings with the same tiles and operand, one that is no worse in all of these makes the other
//! needless.
//!
//! *Bounds.* What is decided, plus: every storage still to come takes each element once; serving what is asked is
//! shared by no more than the largest axes, and by all operands together by no more than the instances there are,
//! where each dimension leaves one operand unindexed (the arithmetic mean of the shares' costs is at least the
//! geometric one); time is at least the work over all instances, and the least traffic of the outermost memories.
//! A partial mapping whose bound does not beat the best one is cut off. A first pass that keeps few partial mappings
//! makes a good one early.
//!
//! Larger tiles below a storage never make what fills it more, so they are tried first, and where one of them is no good
//! neither are smaller ones.
//!
//! When the search ends within its work and time, the best mapping's cost is the lower bound: it is proven. Else the
//! least bound of what it left is told; what a first pass with few partial mappings finds is never lost.
//!
//! *Partial tiles.* Where the last tile of a loop goes is known when all axes of its dimension are; the outermost fan
//! counts them exactly. Along axes further in, and where memories inside serve tiles that do not divide a dimension, or windows, time and sharing are taken
//! at their least (some instance is as busy as the average), so that the proof is of a
//! lower bound, which holds if the exact count of the mapping found equals it ([`Solution::lower_bound`]).
//!
//! *Constraints* tell loops apart by where they stand. For the dimensions that they name no loop is moved, and partial
//! mappings are compared only if what they have put at each memory came to the same.
//!
//! *Points.* Cases that differ only in energies and sizes of memories have the same mappings and move the same elements:
//! [`solve_all`] looks at their space once for all of them.
//!
//! # All mappings
//!
//! With [`Options::exhaustive`] a walk counts every mapping of the space exactly, with no bound and no comparison of
//! partial mappings: the search is tested against it.
//!
//! A [`certificate`] records the last pass; [`check`](mod@check) believes none of it.

pub mod certificate;
mod chain;
pub mod check;
mod join;
mod link;
mod placement;
mod points;
mod prices;
mod rules;
mod search;
mod space;
#[cfg(test)]
mod tests;
mod walk;

use presil_workloads::Einsum;

use crate::case::{Case, CaseEinsum, Constraints};
use crate::conventions::Convention;
use crate::hierarchy::{Hierarchy, operand_count};
use crate::looptree::LoopTree;
use crate::search::Objective;
pub use space::SpaceError;

/// What to search for, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// What is made small.
    pub objective: Objective,
    /// Whether every tile must divide its extent.
    pub perfect: bool,
    /// Partial mappings that may be looked at.
    pub work: u64,
    /// Seconds that the search may take; what a search finds that is cut off by them depends on the machine.
    pub seconds: Option<f64>,
    /// Count every mapping of the space, with no bound and no comparison (module docs, "All mappings"): for tests of the search, of
    /// cases of one einsum. `work` is then of whole mappings.
    pub exhaustive: bool,
}

impl Options {
    /// Partial tiles, and as much work as takes about a second.
    pub fn new(objective: Objective) -> Self {
        Self {
            objective,
            perfect: false,
            work: 2_000_000,
            seconds: None,
            exhaustive: false,
        }
    }
}

/// A mapping of one einsum.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    /// The mapping.
    pub tree: LoopTree,
    /// Picojoules.
    pub energy: f64,
    /// Cycles.
    pub cycles: f64,
}

/// The best mappings of a case, and how far that is proven.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// One for each einsum.
    pub einsums: Vec<Mapped>,
    /// For each einsum but the first: whether its predecessor hands over tile by tile.
    pub fused: Vec<bool>,
    /// Picojoules of all.
    pub energy: f64,
    /// Cycles of all, one einsum after the other.
    pub cycles: f64,
    /// The objective's figure that nothing in the space goes below.
    pub lower_bound: f64,
    /// Whether the search looked at everything that its bounds leave.
    pub complete: bool,
    /// Partial mappings looked at; of an exhaustive search, whole mappings counted.
    pub expanded: u64,
    /// Those cut off by a bound.
    pub bounded: u64,
    /// Those cut off by a better one.
    pub dominated: u64,
}

/// The best mappings of the einsums of a case.
///
/// # Errors
/// If an einsum is beyond the search, or nothing fits.
pub fn solve(case: &Case, options: &Options) -> Result<Solution, SpaceError> {
    match options.exhaustive {
        true => walk::solve(case, options),
        false => chain::solve(case, options),
    }
}

/// The best mappings of the einsums of each case. Cases of one einsum that differ only in energies and in sizes
/// of memories are searched at once, up to 128 of them; what is found is the same, and the work
/// that is told of each is that of all of them. Others, and all if seconds are given, are searched one by one.
pub fn solve_all(cases: &[Case], options: &Options) -> Vec<Result<Solution, SpaceError>> {
    points::solve_all(cases, options)
}

/// The mappings of a case of which none is at least as good as another in energy and time, by energy.
///
/// # Errors
/// If an einsum is beyond the search, or nothing fits.
pub fn front(case: &Case, options: &Options) -> Result<Vec<Solution>, SpaceError> {
    chain::front(case, options)
}

/// The `count` best mappings of a case of one einsum, the best first.
///
/// # Errors
/// If the einsum is beyond the search, or nothing fits, or there is more than one einsum.
pub fn nearest(case: &Case, count: usize, options: &Options) -> Result<Vec<Solution>, SpaceError> {
    chain::nearest(case, count, options)
}

/// The best mapping of one einsum on a hierarchy.
///
/// # Errors
/// If the einsum is beyond the search, or nothing fits.
pub fn solve_einsum(
    einsum: &Einsum,
    hierarchy: &Hierarchy,
    options: &Options,
) -> Result<Solution, SpaceError> {
    let case = Case {
        name: String::new(),
        tensors: Vec::new(),
        einsums: vec![CaseEinsum {
            name: String::new(),
            einsum: einsum.clone(),
            operands: (0..operand_count(einsum)).collect(),
            hierarchy: hierarchy.clone(),
            mapping: None,
            constraints: Constraints::default(),
        }],
        convention: Convention::AccelForge,
        objective: options.objective,
        clock_hz: None,
    };
    solve(&case, options)
}
