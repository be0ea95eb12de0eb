//! Provably optimal mappings of cases.

mod search;
mod space;
#[cfg(test)]
mod tests;

use crate::hierarchy::Hierarchy;
use crate::looptree::{LoopTree, Node};
use crate::search::Objective;
use presil_workloads::Einsum;
use search::{Best, Placement, Search, Step, Work};
use space::Space;
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
}

/// A mapping and how it was proven.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// The mapping.
    pub tree: LoopTree,
    /// Picojoules.
    pub energy: f64,
    /// Cycles.
    pub cycles: f64,
    /// Whether nothing better exists.
    pub proven: bool,
    /// Partial mappings looked at.
    pub expanded: u64,
    /// Those cut off by a bound.
    pub bounded: u64,
    /// Those cut off by a better one.
    pub dominated: u64,
}

/// The best mapping of an einsum on a hierarchy under convention `accelforge`.
///
/// # Errors
/// If the problem is beyond the search, or nothing fits.
pub fn solve(
    einsum: &Einsum,
    hierarchy: &Hierarchy,
    options: &Options,
) -> Result<Solution, SpaceError> {
    let space = Space::new(einsum, hierarchy, options.perfect)?;
    let slots = search::slots(&space).len();
    if slots > search::SLOTS {
        return Err(SpaceError::TooMany {
            what: "ports below a fanout that carry partial sums",
            limit: search::SLOTS,
            got: slots,
        });
    }
    let placements = placements(&space)?;
    let mut best: Option<Best> = None;
    let mut work = Work::default();
    for beam in [Some(16), None] {
        for (i, placement) in placements.iter().enumerate() {
            let left = options.work.saturating_sub(work.expanded);
            let mut search = Search::new(&space, options.objective, placement, i, left);
            search.run(&mut best, beam);
            work.expanded += search.work.expanded;
            work.bounded += search.work.bounded;
            work.dominated += search.work.dominated;
        }
    }
    let best = best.ok_or(SpaceError::Nothing)?;
    Ok(Solution {
        tree: tree(&space, &placements[best.placement], &best.steps),
        energy: best.energy,
        cycles: best.time,
        proven: work.expanded <= options.work,
        expanded: work.expanded,
        bounded: work.bounded,
        dominated: work.dominated,
    })
}

/// All allowed sets of memories that keep each operand.
fn placements(space: &Space) -> Result<Vec<Placement>, SpaceError> {
    let mut all = vec![Placement { chains: Vec::new() }];
    for o in 0..space.operands.len() {
        let chains = chains(space, o);
        if chains.is_empty() {
            return Err(SpaceError::Homeless(o));
        }
        all = all
            .iter()
            .flat_map(|p| {
                chains.iter().map(|c| {
                    let mut p = p.clone();
                    p.chains.push(c.clone());
                    p
                })
            })
            .collect();
    }
    Ok(all)
}

/// Allowed chains of storages of one operand, the most storages first.
fn chains(space: &Space, o: usize) -> Vec<Vec<(usize, usize)>> {
    let mut all: Vec<Vec<(usize, usize)>> = vec![Vec::new()];
    for (s, segment) in space.segments.iter().enumerate() {
        for (m, memory) in segment.memories.iter().enumerate() {
            let mut next = Vec::new();
            for chain in all {
                let must = memory.must_keep.has(o)
                    || (memory.must_keep_unless_above.has(o) && chain.is_empty());
                let home = !chain.is_empty() || s == 0;
                if (memory.keeps.has(o) || must) && home {
                    let mut with = chain.clone();
                    with.push((s, m));
                    next.push(with);
                }
                if !must {
                    next.push(chain);
                }
            }
            all = next;
        }
    }
    all.retain(|c| !c.is_empty());
    all
}

/// The loop tree of steps told from the inside out.
fn tree(space: &Space, placement: &Placement, steps: &[Step]) -> LoopTree {
    let mut segment = space.segments.len() - 1;
    let mut nodes = Vec::new();
    let empty = |s: usize| space.segments[s].axes.is_empty();
    // A fan is announced before its axes: the first one belongs to the innermost segment that has axes.
    let mut fan = space.segments.len();
    for step in steps {
        nodes.push(match *step {
            Step::Fan => {
                fan = (0..fan).rev().find(|s| !empty(*s)).unwrap_or(0);
                segment = fan;
                continue;
            }
            Step::Grow { dim, tile } => Node::Temporal {
                dim: space.dims[usize::from(dim)],
                tile: u64::from(tile),
            },
            Step::Spread { axis, dim, tile } => {
                let axis = &space.segments[segment].axes[usize::from(axis)];
                Node::Spatial {
                    level: axis.level,
                    axis: axis.axis,
                    dim: space.dims[usize::from(dim)],
                    tile: u64::from(tile),
                }
            }
            Step::Keep { operand, memory } => Node::Keep {
                level: space.segments[segment].memories[usize::from(memory)].level,
                operand: usize::from(operand),
            },
        });
    }
    for (o, chain) in placement.chains.iter().enumerate().rev() {
        let (s, m) = chain[0];
        nodes.push(Node::Keep {
            level: space.segments[s].memories[m].level,
            operand: o,
        });
    }
    nodes.reverse();
    LoopTree { nodes }
}
