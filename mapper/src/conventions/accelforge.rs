//! Convention `accelforge`: what AccelForge's symbolic model counts.
//!
//! Source: AccelForge 1.0.467, documentation of assumptions and of energy and latency, and optima that it found.
//!
//! # Model
//!
//! A storage node is filled anew for every iteration of every loop above it; reuse comes only from where the node
//! stands. With `tile` the elements of its tile (a sliding window counts every position between its first and
//! last), `above` all loops above the node:
//!
//! ```text
//! fills(node) = sum over iterations of `above` of tile            (partial tiles count in part)
//! ```
//!
//! If the loop directly above the node slides a window (its dimension shares a rank with others), the node takes
//! the full tile first and then only the new positions (directly: no other storage stands between; what AccelForge does
//! where one stands there is not documented). `served`, what the parent reads (or receives) for it,
//! counts spatial loops between the two once if the operand has not their dimension and the axis shares it.
//!
//! ```text
//! input   child: writes = fills                       parent: reads = served
//! output  child: writes = fills - first, reads (drain) = fills
//!         parent: reads = served - served first, writes = served
//! ```
//!
//! `first` are the fills that start without a value: the elements of the output, once for each iteration of the
//! spatial loops above that do not index it. The compute is a node of one element: it takes each input once for a
//! MAC, and takes and returns the output.
//!
//! Energy is bits x energy per bit, and operations x energy. A memory's time is that of its busiest instance: its
//! ports work side by side, transfers of a port take turns. Data arrive when they are needed, so the time of the
//! einsum is the longest of all levels.

use presil_numerics::ids::Id;
use presil_workloads::Einsum;

use super::{Accesses, ActionEnergy, CyclePart, Evaluation};
use crate::hierarchy::{Hierarchy, MemoryLevel, Transfer, access_of, operand_count};
use crate::looptree::{LoopTree, Node};

/// A loop of one dimension.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Index of its node.
    node: usize,
    tile: u64,
    spatial: bool,
}

/// How iterations of spatial loops are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Space {
    /// All of them.
    All,
    /// Only the first one: what one instance sees.
    First,
}

/// Number of tiles and sum of their extents.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Tiles {
    count: f64,
    extent: f64,
}

/// Tiles that loops make of an extent, those with `skip` left out (seen as one).
fn tiles(extent: u64, cuts: &[Cut], seen: &dyn Fn(&Cut) -> Space) -> Tiles {
    if extent == 0 {
        return Tiles::default();
    }
    let Some((cut, inner)) = cuts.split_first() else {
        return Tiles {
            count: 1.0,
            extent: extent as f64,
        };
    };
    if cut.spatial && seen(cut) == Space::First {
        return tiles(extent.min(cut.tile), inner, seen);
    }
    let (full, rest) = (extent / cut.tile, extent % cut.tile);
    let (a, b) = (
        if full > 0 {
            tiles(cut.tile, inner, seen)
        } else {
            Tiles::default()
        },
        tiles(rest, inner, seen),
    );
    Tiles {
        count: full as f64 * a.count + b.count,
        extent: full as f64 * a.extent + b.extent,
    }
}

/// What is counted of one mapping.
struct Counter<'a> {
    einsum: &'a Einsum,
    tree: &'a LoopTree,
    /// Loops of each dimension, outer first.
    cuts: Vec<Vec<Cut>>,
}

impl<'a> Counter<'a> {
    fn new(einsum: &'a Einsum, tree: &'a LoopTree) -> Self {
        let mut cuts = vec![Vec::new(); einsum.dims.len()];
        for (i, node) in tree.nodes.iter().enumerate() {
            if let Some((dim, tile)) = node.cut() {
                cuts[dim.index()].push(Cut {
                    node: i,
                    tile,
                    spatial: matches!(node, Node::Spatial { .. }),
                });
            }
        }
        Self { einsum, tree, cuts }
    }

    /// Loops of a dimension above a node.
    fn above(&self, dim: usize, node: usize) -> &[Cut] {
        let cuts = &self.cuts[dim];
        &cuts[..cuts.iter().take_while(|c| c.node < node).count()]
    }

    fn indexes(&self, operand: usize, dim: usize) -> bool {
        let access = access_of(self.einsum, operand);
        Einsum::names(access, presil_workloads::DimId::new(dim))
    }

    /// The node of the loop of more than one iteration directly above a node: none if something else stands there.
    fn directly_above(&self, node: usize) -> Option<usize> {
        let trips = |i: usize, dim: usize, tile: u64| {
            let outer = self.tree.tiles(self.einsum, i)[dim];
            outer > tile
        };
        self.tree.nodes[..node]
            .iter()
            .enumerate()
            .rev()
            .find_map(|(i, n)| match *n {
                // A storage in between, of whatever operand, is what the loop is directly above of.
                Node::Keep { .. } => Some(None),
                Node::Temporal { dim, tile } => trips(i, dim.index(), tile).then_some(Some(i)),
                Node::Spatial { dim, tile, .. } => trips(i, dim.index(), tile).then_some(None),
            })
            .flatten()
    }

    /// Elements that a node of an operand takes in all iterations of the loops above it (`node` may be the end of
    /// the tree: the compute). Spatial loops at or after `from` over dimensions that the operand does not have count
    /// once where `shared` says so.
    fn fills(
        &self,
        operand: usize,
        node: usize,
        shared: &dyn Fn(usize) -> bool,
        space: &dyn Fn(&Cut) -> Space,
    ) -> f64 {
        let sliding = self.directly_above(node);
        let mut total = 1.0;
        for dim in (0..self.einsum.dims.len()).filter(|d| !self.indexes(operand, *d)) {
            let seen = |c: &Cut| {
                if shared(c.node) {
                    Space::First
                } else {
                    space(c)
                }
            };
            total *= tiles(self.einsum.dims[dim].size, self.above(dim, node), &seen).count;
        }
        for rank in &access_of(self.einsum, operand).ranks {
            total *= self.rank(&rank.terms, node, sliding, space);
        }
        total
    }

    /// Sum over the tiles of a rank's dimensions of the positions that enter.
    fn rank(
        &self,
        terms: &[(presil_workloads::DimId, i64)],
        node: usize,
        sliding: Option<usize>,
        space: &dyn Fn(&Cut) -> Space,
    ) -> f64 {
        let of = |dim: usize| tiles(self.einsum.dims[dim].size, self.above(dim, node), space);
        if let [(dim, 1 | -1)] = terms {
            return of(dim.index()).extent;
        }
        // Sum over all combinations of tiles of sum(c (t - 1)) + 1, which is linear in each tile.
        let all: Vec<(f64, Tiles)> = terms
            .iter()
            .map(|(d, c)| (c.unsigned_abs() as f64, of(d.index())))
            .collect();
        let combinations: f64 = all.iter().map(|(_, t)| t.count).product();
        let whole = combinations
            + all
                .iter()
                .map(|(c, t)| c * (t.extent - t.count) * combinations / t.count)
                .sum::<f64>();
        let slid = terms.iter().position(|(d, _)| {
            let last = self.above(d.index(), node).last();
            last.is_some_and(|c| Some(c.node) == sliding)
        });
        match slid {
            Some(at) => whole - self.kept(terms, at, node, space),
            None => whole,
        }
    }

    /// Positions that stay while the innermost loop of term `at` slides.
    fn kept(
        &self,
        terms: &[(presil_workloads::DimId, i64)],
        at: usize,
        node: usize,
        space: &dyn Fn(&Cut) -> Space,
    ) -> f64 {
        let dim = terms[at].0.index();
        let coefficient = terms[at].1.unsigned_abs() as f64;
        let (outer, last) = match self.above(dim, node).split_last() {
            Some((last, outer)) => (outer, *last),
            None => return 0.0,
        };
        // Reach of the other dimensions: all their tiles but partial ones are alike; sum over both kinds.
        let others: Vec<(f64, Vec<(u64, f64)>)> = terms
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != at)
            .map(|(_, (d, c))| (c.unsigned_abs() as f64, self.kinds(d.index(), node, space)))
            .collect();
        let mut kept = 0.0;
        for (extent, count) in kinds(self.einsum.dims[dim].size, outer, space) {
            let (full, rest) = (extent / last.tile, extent % last.tile);
            // Steps after the first, by the extent of the tile that is stepped to.
            let steps = [
                (last.tile, full.saturating_sub(1)),
                (rest, u64::from(rest > 0 && full > 0)),
            ];
            for (tile, steps) in steps {
                if steps > 0 {
                    let stay = |reach: f64| {
                        let extent = coefficient * (tile as f64 - 1.0) + reach + 1.0;
                        (extent - coefficient * tile as f64).max(0.0)
                    };
                    kept += count * steps as f64 * over(&others, 0.0, &stay);
                }
            }
        }
        kept
    }

    fn kinds(&self, dim: usize, node: usize, space: &dyn Fn(&Cut) -> Space) -> Vec<(u64, f64)> {
        kinds(self.einsum.dims[dim].size, self.above(dim, node), space)
    }

    /// Fills that start without a value: the elements, once for each iteration of spatial loops that do not index
    /// the operand.
    fn first(
        &self,
        operand: usize,
        node: usize,
        shared: &dyn Fn(usize) -> bool,
        space: &dyn Fn(&Cut) -> Space,
    ) -> f64 {
        let mut total = 1.0;
        for dim in 0..self.einsum.dims.len() {
            let cuts = self.above(dim, node);
            if self.indexes(operand, dim) {
                continue;
            }
            let counted = |c: &Cut| !shared(c.node) && space(c) == Space::All;
            total *= spread(self.einsum.dims[dim].size, cuts, &counted);
        }
        for rank in &access_of(self.einsum, operand).ranks {
            total *= self.rank(&rank.terms, node, None, space);
        }
        total
    }
}

/// Iterations of the counted spatial loops that have work in a full tile.
fn spread(extent: u64, cuts: &[Cut], counted: &dyn Fn(&Cut) -> bool) -> f64 {
    let Some((cut, inner)) = cuts.split_first() else {
        return f64::from(u8::from(extent > 0));
    };
    if extent == 0 {
        return 0.0;
    }
    if !cut.spatial || !counted(cut) {
        return spread(extent.min(cut.tile), inner, counted);
    }
    let (full, rest) = (extent / cut.tile, extent % cut.tile);
    let whole = if full > 0 {
        spread(cut.tile, inner, counted)
    } else {
        0.0
    };
    full as f64 * whole + spread(rest, inner, counted)
}

/// The different extents of tiles, and how many there are of each.
fn kinds(extent: u64, cuts: &[Cut], space: &dyn Fn(&Cut) -> Space) -> Vec<(u64, f64)> {
    let Some((cut, inner)) = cuts.split_first() else {
        return vec![(extent, 1.0)];
    };
    if cut.spatial && space(cut) == Space::First {
        return kinds(extent.min(cut.tile), inner, space);
    }
    let (full, rest) = (extent / cut.tile, extent % cut.tile);
    let mut all = Vec::new();
    if full > 0 {
        all.extend(
            kinds(cut.tile, inner, space)
                .into_iter()
                .map(|(e, n)| (e, n * full as f64)),
        );
    }
    if rest > 0 {
        all.extend(kinds(rest, inner, space));
    }
    all
}

/// Sum of a function of the reach `sum(c (t - 1))` over all combinations of tiles.
fn over(others: &[(f64, Vec<(u64, f64)>)], reach: f64, f: &dyn Fn(f64) -> f64) -> f64 {
    match others.split_first() {
        None => f(reach),
        Some(((c, kinds), rest)) => kinds
            .iter()
            .map(|(t, n)| n * over(rest, reach + c * (*t as f64 - 1.0), f))
            .sum(),
    }
}

/// What a mapping costs. The tree has been checked.
pub(super) fn evaluate(einsum: &Einsum, hierarchy: &Hierarchy, tree: &LoopTree) -> Evaluation {
    let counter = Counter::new(einsum, tree);
    let mut evaluation = Evaluation::default();
    let all = |_: &Cut| Space::All;
    let one = |_: &Cut| Space::First;
    let total = counts(&counter, hierarchy, &all);
    let busiest = counts(&counter, hierarchy, &one);
    let operations = macs(&counter, &all);
    for (level, l) in hierarchy.levels.iter().enumerate() {
        let Some(memory) = l.memory() else { continue };
        let mine = |a: &&Accesses| a.level == level;
        for a in total.iter().filter(mine) {
            energy(&mut evaluation, memory, a);
            evaluation.accesses.push(*a);
        }
        let instance: Vec<Accesses> = busiest.iter().filter(mine).copied().collect();
        evaluation.parts.push(CyclePart {
            name: memory.name.clone(),
            cycles: cycles(memory, &instance),
        });
    }
    if let Some(compute) = hierarchy.compute() {
        let last = hierarchy.levels.len() - 1;
        evaluation.energy.push(ActionEnergy {
            level: last,
            operand: None,
            action: "compute",
            energy: operations * compute.energy,
        });
        evaluation.parts.push(CyclePart {
            name: compute.name.clone(),
            cycles: macs(&counter, &one) / compute.rate,
        });
    }
    evaluation.operations = operations;
    evaluation.instances_used = instances(&counter, tree.nodes.len());
    evaluation.cycles = evaluation
        .parts
        .iter()
        .map(|p| p.cycles)
        .fold(0.0, f64::max);
    evaluation
}

/// Operations; of one instance if `space` says so.
fn macs(counter: &Counter, space: &dyn Fn(&Cut) -> Space) -> f64 {
    let end = counter.tree.nodes.len();
    (0..counter.einsum.dims.len())
        .map(|d| tiles(counter.einsum.dims[d].size, counter.above(d, end), space).extent)
        .product()
}

/// Instances used above a node.
fn instances(counter: &Counter, node: usize) -> f64 {
    (0..counter.einsum.dims.len())
        .map(|d| {
            spread(counter.einsum.dims[d].size, counter.above(d, node), &|_| {
                true
            })
        })
        .product()
}

/// Accesses of every memory by every operand: of all instances, or of the first one of each memory.
fn counts(
    counter: &Counter,
    hierarchy: &Hierarchy,
    space: &dyn Fn(&Cut) -> Space,
) -> Vec<Accesses> {
    let output = operand_count(counter.einsum) - 1;
    let mut traffic = Vec::new();
    for operand in 0..=output {
        // Storage nodes of the operand, and the compute.
        let mut stops: Vec<(usize, Option<usize>)> = Vec::new();
        for (i, node) in counter.tree.nodes.iter().enumerate() {
            if let Node::Keep { level, operand: o } = *node
                && o == operand
            {
                stops.push((i, Some(level)));
            }
        }
        stops.push((counter.tree.nodes.len(), None));
        for (order, pair) in stops.windows(2).enumerate() {
            let ((parent, Some(level)), (child, _)) = (pair[0], pair[1]) else {
                continue;
            };
            let mut a = Accesses {
                level,
                operand,
                tile: words(
                    counter.einsum,
                    operand,
                    &counter.tree.tiles(counter.einsum, parent),
                ),
                instances: instances(counter, parent),
                ..Accesses::default()
            };
            let shared = |node: usize| node > parent && shares(counter, hierarchy, operand, node);
            // Of one instance of the parent: spatial loops below it are all seen.
            let mine = |c: &Cut| {
                if c.node > parent {
                    Space::All
                } else {
                    space(c)
                }
            };
            let served = counter.fills(operand, child, &shared, &mine);
            if operand == output {
                a.reads = served - counter.first(operand, child, &shared, &mine);
                a.updates = served;
            } else {
                a.reads = served;
            }
            if order > 0 {
                let none = |_: usize| false;
                let fills = counter.fills(operand, parent, &none, space);
                if operand == output {
                    a.fills = fills - counter.first(operand, parent, &none, space);
                    a.drains = fills;
                } else {
                    a.fills = fills;
                }
            }
            traffic.push(a);
        }
    }
    traffic.sort_by_key(|a| (a.level, a.operand));
    traffic
}

/// Whether one word serves all iterations of a spatial loop.
fn shares(counter: &Counter, hierarchy: &Hierarchy, operand: usize, node: usize) -> bool {
    match counter.tree.nodes[node] {
        Node::Spatial {
            level, axis, dim, ..
        } => {
            let axis = hierarchy.levels[level]
                .fanout()
                .and_then(|f| f.axes.get(axis));
            !counter.indexes(operand, dim.index()) && axis.is_some_and(|a| a.shares.has(operand))
        }
        _ => false,
    }
}

fn words(einsum: &Einsum, operand: usize, tiles: &[u64]) -> f64 {
    let shape = crate::looptree::tile_shape(einsum, operand, tiles);
    shape.iter().map(|s| *s as f64).product()
}

fn energy(evaluation: &mut Evaluation, memory: &MemoryLevel, a: &Accesses) {
    let bits = memory.bits[a.operand];
    let mut add = |action, words: f64, per_bit: f64| {
        evaluation.energy.push(ActionEnergy {
            level: a.level,
            operand: Some(a.operand),
            action,
            energy: words * bits * per_bit,
        });
    };
    add("read", a.reads + a.drains, memory.read_energy);
    add("write", a.fills + a.updates, memory.write_energy);
}

/// Cycles of a memory instance: the longest of its ports.
fn cycles(memory: &MemoryLevel, accesses: &[Accesses]) -> f64 {
    let port = |p: &crate::hierarchy::Port| {
        let of = |(operand, transfer): &(usize, Transfer)| {
            let a = accesses.iter().find(|a| a.operand == *operand);
            let words = a.map_or(0.0, |a| match transfer {
                Transfer::FromAbove => a.fills,
                Transfer::ToAbove => a.drains,
                Transfer::ToBelow => a.reads,
                Transfer::FromBelow => a.updates,
            });
            let rate = if transfer.reads() {
                p.read_rate
            } else {
                p.write_rate
            };
            words * memory.bits[*operand] / rate
        };
        p.carries.iter().map(of).sum::<f64>()
    };
    memory.ports.iter().map(port).fold(0.0, f64::max)
}
