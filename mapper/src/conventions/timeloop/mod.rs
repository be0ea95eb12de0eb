//! Convention `timeloop`: what Timeloop v4's dense model counts.
//!
//! # The model
//!
//! *Storage levels.* The nest is cut into storage levels, outermost first (`nest`): temporal loops, then the
//! spatial loops over the instances below. A memory that keeps nothing and a fanout directly below another one
//! are levels too. `tile(s, t)` is the axis-aligned box of operand `t` below everything outside level `s`.
//!
//! *Deltas.* Along the sequence of its tiles, an instance of level `s + 1` asks its parent for the part of the
//! tile's box that it did not hold (`deltas`): the box minus the box before it, if both differ along one axis
//! only and the step is the one before; a step that changes pays the whole box and starts over. The sequence is
//! sampled: of each temporal loop, the first iteration and the second, which stands for all others. Counts are
//! those of the first instance; the others see the same boxes shifted (`space`).
//!
//! *Space.* Among the instances that a spatial level serves, equal deltas are read once (multicast; for the
//! output: added on the way up) where the axis shares them. If a neighbour (instances numbered row by row) held
//! the same delta one step before, the instance takes it from there over a link; this is preferred whenever it
//! makes fewer reads. Halos that two instances share partly are read for both.
//!
//! *Counts* per instance (`counts`), `accesses` being the deltas read out of a level to those below:
//!
//! ```text
//! partition(child) = floor(partition(parent) x tile(child) / box of all the parent's instances)
//! share(child)     = deltas received / instances of the parent's fanout          (an average)
//! input:  reads = accesses + peer;   fills = share + peer;   updates = 0
//! output: updates = accesses;        reads = accesses + peer - partition         (first visits are not read)
//!         fills = share + peer - partition                                       (0 at the outermost level)
//! ```
//!
//! A level that does not keep an operand passes what is asked of it to the next outer level that does. The drain
//! of finished outputs to the level above is not counted as a read.
//!
//! *Energy* (`cost`): each kind of access is rounded up to whole blocks and paid at its own energy; instances of
//! one cluster share an access; leakage is paid for used instances over all cycles, none for compute units.
//! Address generation, adders and networks have no energy unless their components are given one.
//!
//! *Cycles*: with `T` iterations of all temporal loops, a level's ports let the compute units run at
//! `s = min(1, rate / demand)`, demand being accesses of one instance over `T`; it takes `ceil(T / s)` cycles, and
//! the slowest level counts.
//!
//! Source: NVlabs/timeloop v4, `nest-analysis.cpp`, `tiling.cpp`, `buffer.cpp`, `operation-space.cpp`. Not told:
//! sparse designs, imperfect factors, spatial skews, networks of their own.

mod cost;
mod counts;
mod deltas;
mod nest;
mod space;
#[cfg(test)]
mod tests;

use presil_hwmodels::Overlap;
use presil_workloads::{Domain, Einsum};

use super::{ConventionError, Evaluation};
use crate::hierarchy::{Hierarchy, MemoryLevel};
use crate::looptree::LoopTree;

/// A failure of this convention.
fn beyond(reason: impl Into<String>) -> ConventionError {
    ConventionError::Beyond {
        convention: "timeloop",
        reason: reason.into(),
    }
}

/// Which Timeloop v4 counts. They differ in one thing: what a tile that stays does to the stride of its moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Release {
    /// Nothing: an iteration that needs the same tile is not a step.
    #[default]
    Current,
    /// It is a step of stride zero, so that the next move pays its whole box: halos are lost where a loop that an
    /// operand does not depend on stands inside its window (NVlabs/timeloop#295, mended by #297 in December 2024).
    /// The outputs checked in with timeloop-accelergy-exercises were printed by such a Timeloop.
    BeforeTranslationFix,
}

/// What a mapping costs as the current Timeloop counts it. The tree has been checked.
///
/// # Errors
/// If the tree has imperfect factors, tiles that do not fit, or the hierarchy has what Timeloop's model lacks.
pub fn evaluate(
    einsum: &Einsum,
    hierarchy: &Hierarchy,
    tree: &LoopTree,
) -> Result<Evaluation, ConventionError> {
    evaluate_as(Release::Current, einsum, hierarchy, tree)
}

/// What a mapping costs as a release of Timeloop counts it.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_as(
    release: Release,
    einsum: &Einsum,
    hierarchy: &Hierarchy,
    tree: &LoopTree,
) -> Result<Evaluation, ConventionError> {
    if einsum.domain != Domain::Dense {
        return Err(beyond("counts dense domains only; evaluate the dense box"));
    }
    for memory in hierarchy.levels.iter().filter_map(|l| l.memory()) {
        check_memory(memory)?;
    }
    let nest = nest::Nest::new(einsum, hierarchy, tree)?;
    let counts = counts::count(release, einsum, &nest)?;
    cost::price(einsum, hierarchy, &nest, &counts)
}

fn check_memory(memory: &MemoryLevel) -> Result<(), ConventionError> {
    if memory.overlap != Overlap::Keep {
        return Err(beyond(format!(
            "keeps halos in every memory; `{}` refetches them",
            memory.name
        )));
    }
    if !memory.serves.is_empty() {
        return Err(beyond(format!(
            "has no memory that serves single axes, as `{}` does",
            memory.name
        )));
    }
    Ok(())
}
