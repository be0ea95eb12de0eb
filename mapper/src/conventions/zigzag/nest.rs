//! What ZigZag sees of a mapping: for each operand its memories with the temporal loops held in each, and the
//! loops laid over the array that each memory serves.
//!
//! Levels are counted from the inside: level 0 is the innermost memory. Loops of a level stand inner to outer.

use presil_numerics::ids::Id;
use presil_workloads::{Domain, Einsum};

use super::beyond;
use crate::conventions::ConventionError;
use crate::hierarchy::{Hierarchy, access_of, operand_count};
use crate::looptree::{LoopTree, Node};

/// What a dimension is to an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relevance {
    /// It indexes the operand alone.
    Relevant,
    /// It does not index the operand.
    Irrelevant,
    /// It indexes, with another dimension, a sliding rank of the operand.
    Sliding {
        /// The rank: index into [`OperandNest::windows`].
        window: usize,
        /// Whether it is the rank's first term.
        first: bool,
    },
}

/// A rank that two dimensions index: `first x a + second x b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    first: u64,
    second: u64,
    /// Elements there are.
    extent: u64,
}

impl Window {
    /// Distinct elements that `a x b` index pairs touch, gaps not counted. Trips may be fractions; whole ones count.
    pub(super) fn elements(&self, a: f64, b: f64) -> f64 {
        let (a, b) = (a as i128, b as i128);
        let shared = gcd(self.first, self.second).max(1);
        let (step, reach) = (self.first / shared, self.second / shared);
        let distinct = a * b - (b - i128::from(step)).max(0) * (a - i128::from(reach));
        distinct.min(i128::from(self.extent)) as f64
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A loop: a dimension and its trips (a fraction where a dimension does not fill the array).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Loop {
    pub(super) dim: usize,
    pub(super) trips: f64,
}

/// Which trips of spatial loops are meant, where a dimension does not fill the instances laid for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// Their mean over the temporal iterations: what energy counts.
    Mean,
    /// The mean cut to a whole number: what latency counts.
    Whole,
}

/// One operand's way through the hierarchy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OperandNest {
    /// The operand.
    pub(super) operand: usize,
    /// Indices of its memories in the hierarchy.
    pub(super) memories: Vec<usize>,
    /// What each dimension is to it.
    pub(super) relevance: Vec<Relevance>,
    /// Its sliding ranks.
    pub(super) windows: Vec<Window>,
    /// Temporal loops of each level, stationary ones moved inwards.
    pub(super) temporal: Vec<Vec<Loop>>,
    /// Spatial loops that each level serves, and as a last entry those that none does: mean trips.
    mean: Vec<Vec<Loop>>,
    /// The same with whole trips.
    whole: Vec<Vec<Loop>>,
}

impl OperandNest {
    /// Spatial loops between each level and the next inner one (the array inside level 0).
    pub(super) fn spatial(&self, view: View) -> &[Vec<Loop>] {
        match view {
            View::Mean => &self.mean,
            View::Whole => &self.whole,
        }
    }

    fn is(&self, l: &Loop, what: Relevance) -> bool {
        self.relevance[l.dim] == what
    }

    /// Product of the leading loops of `loops` that are `what`.
    fn run<'a>(&self, loops: impl Iterator<Item = &'a Loop>, what: Relevance) -> f64 {
        loops
            .take_while(|l| self.is(l, what))
            .map(|l| l.trips)
            .product()
    }

    /// Cycles for which the innermost level gives the same element: its innermost irrelevant loops.
    pub(super) fn stationary_cycles(&self) -> f64 {
        let innermost = self.temporal.first();
        innermost.map_or(1.0, |l| self.run(l.iter(), Relevance::Irrelevant))
    }

    /// Product of the outermost loops of a level that are all `what`.
    pub(super) fn outermost_run(&self, level: usize, what: Relevance) -> f64 {
        self.run(self.temporal[level].iter().rev(), what)
    }

    /// Moves the innermost irrelevant loops of each level to the next inner one: while they run, that one keeps
    /// what it has.
    fn merge_stationary(&mut self) {
        for level in (1..self.temporal.len()).rev() {
            // Outer levels first: what they hand inwards may be handed on.
            let at = self.temporal[level]
                .iter()
                .take_while(|l| self.is(l, Relevance::Irrelevant))
                .count();
            let moved: Vec<Loop> = self.temporal[level].drain(..at).collect();
            self.temporal[level - 1].extend(moved);
        }
    }
}

/// An axis of the array as it is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct AxisUse {
    /// Whether operands move along it by one instance a cycle.
    pub(super) systolic: bool,
    /// Instances laid with loops.
    pub(super) used: u64,
}

/// What ZigZag sees of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Nest {
    /// Operands, as in the einsum: inputs, then the output.
    pub(super) operands: Vec<OperandNest>,
    /// Cycles of all temporal loops.
    pub(super) cycles: f64,
    /// Operations.
    pub(super) operations: f64,
    /// Compute instances there are.
    pub(super) units: f64,
    /// Axes of the array.
    pub(super) axes: Vec<AxisUse>,
}

/// A spatial loop with the axis it lies along.
#[derive(Debug, Clone, Copy)]
struct Laid {
    level: usize,
    axis: usize,
    dim: usize,
    trips: u64,
    mean: f64,
    whole: f64,
}

/// Trips above which doubles no longer count exactly.
const EXACT: u64 = 1 << 53;

/// Reads a mapping as ZigZag does.
///
/// # Errors
/// If it is illegal, or ZigZag has no rule for something in it.
pub(super) fn read(
    einsum: &Einsum,
    hierarchy: &Hierarchy,
    tree: &LoopTree,
) -> Result<Nest, ConventionError> {
    tree.check_spread(einsum, hierarchy)?;
    if einsum.domain != Domain::Dense {
        return Err(beyond("counts dense einsums only"));
    }
    if hierarchy.compute().is_some_and(|c| c.rate != 1.0) {
        return Err(beyond(
            "lets a compute instance do one operation a cycle: set its rate to 1 and add instances",
        ));
    }
    let operations = einsum.points().filter(|p| *p <= EXACT);
    let operations = operations.ok_or_else(|| beyond("counts at most 2^53 operations"))?;
    let (temporal, laid) = loops(einsum, tree);
    let laid = with_means(einsum, laid);
    check_trips(einsum, &temporal, &laid)?;
    check_sharing(einsum, hierarchy, &laid)?;
    let cycles: f64 = temporal.iter().map(|l| l.1.trips).product();
    if cycles > EXACT as f64 {
        return Err(beyond("counts at most 2^53 cycles"));
    }
    let operands = (0..operand_count(einsum))
        .map(|o| operand_nest(einsum, hierarchy, tree, o, &temporal, &laid))
        .collect::<Result<_, _>>()?;
    let axes = axes(hierarchy, &laid);
    Ok(Nest {
        operands,
        cycles,
        operations: operations as f64,
        units: axes.iter().map(|a| a.0 as f64).product(),
        axes: axes.into_iter().map(|a| a.1).collect(),
    })
}

/// Temporal loops (outer to inner, with the index of their node) and spatial ones, without those of one trip.
fn loops(einsum: &Einsum, tree: &LoopTree) -> (Vec<(usize, Loop)>, Vec<Laid>) {
    let mut tiles: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
    let (mut temporal, mut laid) = (Vec::new(), Vec::new());
    for (i, node) in tree.nodes.iter().enumerate() {
        let Some((dim, tile)) = node.cut() else {
            continue;
        };
        let dim = dim.index();
        let trips = std::mem::replace(&mut tiles[dim], tile).div_ceil(tile);
        match *node {
            _ if trips == 1 => {}
            Node::Spatial { level, axis, .. } => laid.push(Laid {
                level,
                axis,
                dim,
                trips,
                mean: trips as f64,
                whole: trips as f64,
            }),
            _ => temporal.push((
                i,
                Loop {
                    dim,
                    trips: trips as f64,
                },
            )),
        }
    }
    laid.sort_by_key(|l| (l.level, l.axis));
    (temporal, laid)
}

/// Replaces, for each dimension, the trips along the axis with the most of them by their mean over the iterations
/// in time: `size / ceil(size / trips)`, where the axes before it are taken off the size.
fn with_means(einsum: &Einsum, mut laid: Vec<Laid>) -> Vec<Laid> {
    for (dim, d) in einsum.dims.iter().enumerate() {
        let of_dim: Vec<usize> = (0..laid.len()).filter(|i| laid[*i].dim == dim).collect();
        let most = of_dim.iter().map(|i| laid[*i].trips).max();
        let Some(first) = of_dim.iter().find(|i| Some(laid[**i].trips) == most) else {
            continue;
        };
        let before: u64 = of_dim
            .iter()
            .take_while(|i| *i != first)
            .map(|i| laid[*i].trips)
            .product();
        let iterations = d.size.div_ceil(laid[*first].trips * before);
        let mean = d.size as f64 / iterations as f64 / before as f64;
        laid[*first].mean = mean;
        laid[*first].whole = mean.trunc();
    }
    laid
}

/// Temporal trips of a dimension that is not laid over the array must multiply to its extent.
fn check_trips(
    einsum: &Einsum,
    temporal: &[(usize, Loop)],
    laid: &[Laid],
) -> Result<(), ConventionError> {
    for (dim, d) in einsum.dims.iter().enumerate() {
        let of_dim = temporal.iter().filter(|l| l.1.dim == dim);
        let trips: f64 = of_dim.map(|l| l.1.trips).product();
        if trips != d.size as f64 && laid.iter().all(|l| l.dim != dim) {
            return Err(beyond(format!(
                "has partial tiles only over the array: the loops of dimension `{}` must multiply to {}",
                d.name, d.size
            )));
        }
    }
    Ok(())
}

/// Operands that a loop over the array does not index are shared by its instances.
fn check_sharing(
    einsum: &Einsum,
    hierarchy: &Hierarchy,
    laid: &[Laid],
) -> Result<(), ConventionError> {
    for l in laid {
        let axis = hierarchy.levels[l.level]
            .fanout()
            .and_then(|f| f.axes.get(l.axis));
        let names = |o: usize| {
            let ranks = &access_of(einsum, o).ranks;
            ranks
                .iter()
                .any(|r| r.terms.iter().any(|t| t.0.index() == l.dim))
        };
        let apart = (0..operand_count(einsum))
            .find(|o| !names(*o) && axis.is_some_and(|a| !a.shares.has(*o)));
        if let (Some(o), Some(a)) = (apart, axis) {
            return Err(beyond(format!(
                "shares operands between instances that need the same: axis `{}` must share operand {o}",
                a.name
            )));
        }
    }
    Ok(())
}

/// Sizes and uses of all axes.
fn axes(hierarchy: &Hierarchy, laid: &[Laid]) -> Vec<(u64, AxisUse)> {
    let mut axes = Vec::new();
    for (level, l) in hierarchy.levels.iter().enumerate() {
        for (i, axis) in l.fanout().iter().flat_map(|f| f.axes.iter().enumerate()) {
            let along = laid.iter().filter(|l| (l.level, l.axis) == (level, i));
            let used = AxisUse {
                systolic: axis.systolic,
                used: along.map(|l| l.trips).product(),
            };
            axes.push((axis.size, used));
        }
    }
    axes
}

fn operand_nest(
    einsum: &Einsum,
    hierarchy: &Hierarchy,
    tree: &LoopTree,
    operand: usize,
    temporal: &[(usize, Loop)],
    laid: &[Laid],
) -> Result<OperandNest, ConventionError> {
    let (relevance, windows) = relevance(einsum, operand)?;
    let kept = |i: &usize| match tree.nodes[*i] {
        Node::Keep { level, operand: o } if o == operand => Some((*i, level)),
        _ => None,
    };
    let keeps: Vec<(usize, usize)> = (0..tree.nodes.len()).filter_map(|i| kept(&i)).collect();
    let levels = keeps.len();
    let mut per_level = vec![Vec::new(); levels];
    for (at, l) in temporal.iter().rev() {
        let outside = keeps.iter().filter(|k| k.0 < *at).count();
        let Some(level) = levels.checked_sub(outside).filter(|l| *l < levels) else {
            return Err(beyond(format!(
                "wants every operand kept outside all loops: operand {operand} is not"
            )));
        };
        per_level[level].push(*l);
    }
    let memories: Vec<usize> = keeps.iter().rev().map(|k| k.1).collect();
    let (mean, whole) = served(hierarchy, &memories, laid);
    let mut nest = OperandNest {
        operand,
        memories,
        relevance,
        windows,
        temporal: per_level,
        mean,
        whole,
    };
    nest.merge_stationary();
    Ok(nest)
}

/// Spatial loops by the innermost level whose memory serves their axis; last, those that none serves.
fn served(
    hierarchy: &Hierarchy,
    memories: &[usize],
    laid: &[Laid],
) -> (Vec<Vec<Loop>>, Vec<Vec<Loop>>) {
    let mut mean = vec![Vec::new(); memories.len() + 1];
    let mut whole = mean.clone();
    for l in laid {
        let level = memories.iter().position(|m| serves(hierarchy, *m, l));
        let level = level.unwrap_or(memories.len());
        for (loops, trips) in [(&mut mean[level], l.mean), (&mut whole[level], l.whole)] {
            let loops: &mut Vec<Loop> = loops;
            // Loops of a dimension along several axes are one.
            match loops.iter_mut().find(|o| o.dim == l.dim) {
                Some(other) => other.trips *= trips,
                None => loops.push(Loop { dim: l.dim, trips }),
            }
        }
    }
    (mean, whole)
}

/// Whether one instance of a memory serves all instances along the axis of a spatial loop.
fn serves(hierarchy: &Hierarchy, memory: usize, l: &Laid) -> bool {
    if memory > l.level {
        return false;
    }
    let Some(m) = hierarchy.levels[memory].memory() else {
        return false;
    };
    let fanout = hierarchy.levels[l.level].fanout();
    let axis = fanout.and_then(|f| f.axes.get(l.axis));
    m.serves.is_empty() || axis.is_some_and(|a| m.serves.contains(&a.name))
}

/// What each dimension is to an operand. A rank of two terms slides, even where one of its dimensions is 1.
fn relevance(
    einsum: &Einsum,
    operand: usize,
) -> Result<(Vec<Relevance>, Vec<Window>), ConventionError> {
    let access = access_of(einsum, operand);
    let mut relevance = vec![Relevance::Irrelevant; einsum.dims.len()];
    let mut windows = Vec::new();
    for (rank, extent) in access.ranks.iter().zip(&access.extents) {
        match rank.terms[..] {
            [] => {}
            [(d, _)] => match relevance[d.index()] {
                Relevance::Irrelevant => relevance[d.index()] = Relevance::Relevant,
                Relevance::Relevant => {}
                Relevance::Sliding { .. } => return Err(twice(einsum, d.index())),
            },
            [(a, first), (b, second)] if operand < einsum.inputs.len() => {
                for (d, is_first) in [(a.index(), true), (b.index(), false)] {
                    if relevance[d] != Relevance::Irrelevant {
                        return Err(twice(einsum, d));
                    }
                    relevance[d] = Relevance::Sliding {
                        window: windows.len(),
                        first: is_first,
                    };
                }
                windows.push(Window {
                    first: first.unsigned_abs(),
                    second: second.unsigned_abs(),
                    extent: *extent,
                });
            }
            _ => {
                return Err(beyond(
                    "has rules for ranks of one dimension, and of two in inputs",
                ));
            }
        }
    }
    Ok((relevance, windows))
}

fn twice(einsum: &Einsum, dim: usize) -> ConventionError {
    beyond(format!(
        "has no rule for dimension `{}`, which indexes several ranks of an operand",
        einsum.dims[dim].name
    ))
}
