//! Which memories keep which operands, and the loop tree of a finished search.

use super::search::{Placement, Step};
use super::space::{Space, SpaceError};
use crate::looptree::{LoopTree, Node};

/// Where an operand may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// At any memory above the first fanout.
    Anywhere,
    /// At the outermost memory: an intermediate that is handed over whole.
    Outermost,
    /// Anywhere above the first fanout but there: an intermediate that is handed over tile by tile.
    Floating,
}

/// All allowed sets of memories that keep each operand.
///
/// # Errors
/// If an operand has none.
pub(super) fn placements(space: &Space, starts: &[Start]) -> Result<Vec<Placement>, SpaceError> {
    let output = space.operands.len() - 1;
    let floats = |o: &usize| starts[*o] == Start::Floating;
    let mut all = vec![Placement {
        chains: Vec::new(),
        floating: [(0..output).find(floats), Some(output).filter(floats)],
    }];
    for (o, start) in starts.iter().enumerate() {
        let chains = chains(space, o, *start);
        if chains.is_empty() {
            return Err(SpaceError::Homeless(o));
        }
        let with = |p: &Placement| {
            let p = p.clone();
            chains
                .iter()
                .map(move |c| {
                    let mut p = p.clone();
                    p.chains.push(c.clone());
                    p
                })
                .collect::<Vec<_>>()
        };
        all = all.iter().flat_map(with).collect();
    }
    Ok(all)
}

/// Allowed chains of storages of one operand, the most storages first.
fn chains(space: &Space, o: usize, start: Start) -> Vec<Vec<(usize, usize)>> {
    let mut all: Vec<Vec<(usize, usize)>> = vec![Vec::new()];
    for (s, segment) in space.segments.iter().enumerate() {
        for (m, memory) in segment.memories.iter().enumerate() {
            let mut next = Vec::new();
            for chain in all {
                let must = memory.must_keep.has(o)
                    || (memory.must_keep_unless_above.has(o) && chain.is_empty());
                let starts = match start {
                    Start::Anywhere => s == 0,
                    Start::Outermost => (s, m) == (0, 0),
                    Start::Floating => s == 0 && m > 0,
                };
                if (memory.keeps.has(o) || must) && (!chain.is_empty() || starts) {
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
pub(super) fn tree(space: &Space, placement: &Placement, steps: &[Step]) -> LoopTree {
    let mut segment = space.segments.len() - 1;
    let mut nodes = Vec::new();
    // A fan is announced before its axes: the first one is that of the innermost segment that has axes.
    let mut fan = space.segments.len();
    for step in steps {
        nodes.push(match *step {
            Step::Fan => {
                let axes = |s: &usize| !space.segments[*s].axes.is_empty();
                fan = (0..fan).rev().find(axes).unwrap_or(0);
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
    let chains = placement.chains.iter().enumerate().rev();
    let mut homes: Vec<(usize, (usize, usize))> = chains
        .filter(|(o, _)| !placement.floating.contains(&Some(*o)))
        .map(|(o, chain)| (o, chain[0]))
        .collect();
    // Loops directly below the homes stand at the outermost one.
    if !space.rules.is_empty() {
        homes.sort_by_key(|home| home.1);
    }
    for (o, (s, m)) in homes {
        nodes.push(Node::Keep {
            level: space.segments[s].memories[m].level,
            operand: o,
        });
    }
    nodes.reverse();
    LoopTree { nodes }
}
