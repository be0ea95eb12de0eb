//! The counts of a mapping by brute force, for the tests.
//!
//! Every point of the domain is executed: its loop digits say when and in which instance, and its elements are
//! put into the tile that the buffer of that instance holds then. The buffers' histories are played back with
//! real sets. Nothing is shared with the analysis but the definition in its module documentation.

#![expect(clippy::unwrap_used, reason = "tests")]

mod by_hand;
pub(crate) mod cases;
pub(crate) mod chips;
mod tests;
mod theorems;

use std::collections::{BTreeMap, BTreeSet};

use presil_hwmodels::Overlap;
use presil_numerics::ids::Id;
use presil_workloads::{Domain, Einsum};

use crate::hierarchy::{Hierarchy, access_of, operand_count};
use crate::looptree::{LoopTree, Node};

type Element = Vec<i64>;
type Tile = BTreeSet<Element>;
/// Tiles by instance and time, in order.
type History = BTreeMap<(Vec<u64>, Vec<u64>), Tile>;

/// Counts of an operand between a storage and the next one inside it. Levels are those of the hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EdgeCounts {
    pub(crate) operand: usize,
    pub(crate) parent: usize,
    pub(crate) child: Option<usize>,
    pub(crate) entering: u128,
    pub(crate) served: u128,
    pub(crate) again: u128,
    pub(crate) returned: u128,
    /// Whether an instance of the parent or child holds its last tile while others of its parent go on: when its
    /// partial sums go up then is a matter of definition.
    pub(crate) idles: bool,
    /// Words across each fanout between the two.
    pub(crate) hops: Vec<(usize, u128)>,
}

/// All counts of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OracleCounts {
    pub(crate) points: u128,
    pub(crate) iterations: u128,
    pub(crate) edges: Vec<EdgeCounts>,
    /// Distinct elements of each operand.
    pub(crate) touched: Vec<u128>,
}

struct Looped {
    dim: usize,
    /// Tile around and inside.
    outer: u64,
    tile: u64,
    /// Fanout and axis.
    space: Option<(usize, usize)>,
}

struct Walk<'a> {
    einsum: &'a Einsum,
    hierarchy: &'a Hierarchy,
    loops: Vec<Looped>,
    /// Storage of each operand and the number of loops above it.
    chains: Vec<Vec<(usize, usize)>>,
    points: Vec<Vec<i64>>,
}

/// Walks a mapping.
pub(crate) fn count(einsum: &Einsum, hierarchy: &Hierarchy, tree: &LoopTree) -> OracleCounts {
    let mut tiles: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
    let operands = operand_count(einsum);
    let mut walk = Walk {
        einsum,
        hierarchy,
        loops: vec![],
        chains: vec![vec![]; operands],
        points: points(einsum),
    };
    for node in &tree.nodes {
        let (dim, tile, space) = match *node {
            Node::Keep { level, operand } => {
                walk.chains[operand].push((level, walk.loops.len()));
                continue;
            }
            Node::Temporal { dim, tile } => (dim.index(), tile, None),
            Node::Spatial {
                level,
                axis,
                dim,
                tile,
            } => (dim.index(), tile, Some((level, axis))),
        };
        walk.loops.push(Looped {
            dim,
            outer: tiles[dim],
            tile,
            space,
        });
        tiles[dim] = tile;
    }
    let times: BTreeSet<Vec<u64>> = walk
        .points
        .iter()
        .map(|p| walk.time(p, walk.loops.len()))
        .collect();
    let edges = (0..operands).flat_map(|o| walk.operand(o)).collect();
    let touched = (0..operands).map(|o| {
        let elements = walk.points.iter().filter_map(|p| element(einsum, o, p));
        let elements: BTreeSet<Element> = elements.collect();
        scaled(einsum, o, elements.len() as u128)
    });
    OracleCounts {
        points: walk.points.len() as u128,
        iterations: times.len() as u128,
        edges,
        touched: touched.collect(),
    }
}

/// The points of the domain.
fn points(einsum: &Einsum) -> Vec<Vec<i64>> {
    let mut points = vec![vec![]];
    for d in &einsum.dims {
        points = points
            .iter()
            .flat_map(|p: &Vec<i64>| {
                (0..d.size as i64).map(move |i| p.iter().copied().chain([i]).collect())
            })
            .collect();
    }
    points.retain(|p| match einsum.domain {
        Domain::Dense => true,
        Domain::Causal { query, key, offset } => p[key.index()] <= p[query.index()] + offset,
        Domain::Banded {
            query,
            key,
            offset,
            window,
        } => {
            let newest = p[query.index()] + offset;
            p[key.index()] <= newest && p[key.index()] > newest - window as i64
        }
        Domain::Ragged {
            group, row, rows, ..
        } => {
            let groups = einsum.dim(group).size;
            let mine = rows / groups + u64::from((p[group.index()] as u64) < rows % groups);
            (p[row.index()] as u64) < mine
        }
    });
    points
}

/// The element that a point touches; none if it is padding.
fn element(einsum: &Einsum, operand: usize, point: &[i64]) -> Option<Element> {
    let access = access_of(einsum, operand);
    let rows = match einsum.domain {
        Domain::Ragged { group, row, .. } => Some([group, row]),
        _ => None,
    };
    let index = access
        .ranks
        .iter()
        .zip(&access.extents)
        .map(|(rank, extent)| {
            let index = rank
                .terms
                .iter()
                .map(|(d, c)| c * point[d.index()])
                .sum::<i64>()
                + rank.offset;
            let of_rows =
                rows.is_some_and(|r| r.iter().all(|d| rank.terms.iter().any(|t| t.0 == *d)));
            (of_rows || (0..*extent as i64).contains(&index)).then_some(index)
        });
    index.collect()
}

fn scaled(einsum: &Einsum, operand: usize, count: u128) -> u128 {
    match einsum.domain {
        Domain::Ragged {
            group,
            row,
            distinct,
            ..
        } if Einsum::names(access_of(einsum, operand), group)
            && !Einsum::names(access_of(einsum, operand), row) =>
        {
            (count as f64 * distinct / einsum.dim(group).size as f64).round() as u128
        }
        _ => count,
    }
}

impl Walk<'_> {
    /// The digit of a point in a loop.
    fn digit(&self, point: &[i64], l: &Looped) -> u64 {
        point[l.dim] as u64 % l.outer / l.tile
    }

    fn time(&self, point: &[i64], above: usize) -> Vec<u64> {
        self.loops[..above]
            .iter()
            .filter(|l| l.space.is_none())
            .map(|l| self.digit(point, l))
            .collect()
    }

    fn space(&self, point: &[i64], above: usize, apart: impl Fn(usize) -> bool) -> Vec<u64> {
        let loops = self.loops[..above]
            .iter()
            .enumerate()
            .filter(|(i, l)| l.space.is_some() && apart(*i));
        loops.map(|(_, l)| self.digit(point, l)).collect()
    }

    /// What buffers under `above` loops hold, those spatial loops told apart that `apart` says.
    fn history(&self, operand: usize, above: usize, apart: impl Fn(usize) -> bool) -> History {
        let mut history = History::new();
        for p in &self.points {
            let tile = history
                .entry((self.space(p, above, &apart), self.time(p, above)))
                .or_default();
            tile.extend(element(self.einsum, operand, p));
        }
        history
    }

    fn output(&self) -> usize {
        self.chains.len() - 1
    }

    fn overlap(&self, operand: usize, level: usize) -> Overlap {
        if operand == self.output() {
            Overlap::Keep
        } else {
            self.hierarchy.levels[level].memory().unwrap().overlap
        }
    }

    /// Whether one word serves all iterations of a spatial loop that need it.
    fn merges(&self, operand: usize, i: usize) -> bool {
        let l = &self.loops[i];
        let Some((level, axis)) = l.space else {
            return false;
        };
        let axis = &self.hierarchy.levels[level].fanout().unwrap().axes[axis];
        let indexed = Einsum::names(access_of(self.einsum, operand), Id::new(l.dim));
        axis.shares_overlap.has(operand) || (!indexed && axis.shares.has(operand))
    }

    fn operand(&self, operand: usize) -> Vec<EdgeCounts> {
        let chain = &self.chains[operand];
        let einsum = self.einsum;
        let mut edges = Vec::new();
        for (order, &(parent, from)) in chain.iter().enumerate() {
            let next = chain.get(order + 1);
            let to = next.map_or(self.loops.len(), |n| n.1);
            let overlap = next.map(|n| self.overlap(operand, n.0));
            let merged = |i: usize| i >= from && self.merges(operand, i);
            let entering = entries(&self.history(operand, to, |_| true), overlap);
            let served = entries(&self.history(operand, to, |i| !merged(i)), overlap);
            let end = next.map_or(self.hierarchy.levels.len(), |n| n.0);
            let fanouts = (parent..end).filter(|l| self.hierarchy.levels[*l].fanout().is_some());
            let hops = fanouts.map(|f| {
                let deeper = |i: usize| self.loops[i].space.is_some_and(|s| s.0 > f);
                let words = entries(
                    &self.history(operand, to, |i| !(merged(i) && deeper(i))),
                    overlap,
                );
                (f, scaled(einsum, operand, words))
            });
            edges.push(EdgeCounts {
                operand,
                parent,
                child: next.map(|n| n.0),
                entering: scaled(einsum, operand, entering),
                served: scaled(einsum, operand, served),
                again: 0,
                returned: 0,
                idles: false,
                hops: hops.collect(),
            });
        }
        if operand == self.output() {
            self.play(chain, &mut edges);
        }
        edges
    }

    /// Plays partial sums: which values exist where when a tile enters or an update arrives.
    fn play(&self, chain: &[(usize, usize)], edges: &mut [EdgeCounts]) {
        let einsum = self.einsum;
        let everywhere = self.loops.len();
        let mut levels: Vec<Level> = Vec::new();
        for (order, &(_, above)) in chain.iter().enumerate().skip(1) {
            let from = chain[order - 1].1;
            let merged = |i: usize| i >= from && self.merges(self.output(), i);
            let updates_apart = (from..above).any(|i| self.updates_apart(i) && !merged(i));
            levels.push(Level {
                joint: self.history(self.output(), above, |i| !merged(i)),
                member: self.history(self.output(), above, |_| true),
                overlap: self.overlap(self.output(), chain[order].0),
                updates_apart,
                held_joint: BTreeMap::new(),
                held: BTreeMap::new(),
            });
        }
        let mut idles = false;
        for (n, level) in levels.iter().enumerate() {
            let outer = (0..chain[n].1)
                .filter(|i| self.loops[*i].space.is_some())
                .count();
            let mut times: BTreeMap<&Vec<u64>, Vec<&Vec<u64>>> = BTreeMap::new();
            for (member, time) in level.member.keys() {
                times.entry(member).or_default().push(time);
            }
            let mut of_parent: BTreeMap<&[u64], &Vec<&Vec<u64>>> = BTreeMap::new();
            for (member, times) in &times {
                idles |= *of_parent.entry(&member[..outer]).or_insert(times) != times;
            }
            edges[n].idles = idles && n > 0;
            edges[n + 1].idles = idles;
        }
        // Values that exist: level (0 is home), instance, element.
        let mut values: BTreeSet<(usize, Vec<u64>, Element)> = BTreeSet::new();
        let mut by_time: BTreeMap<Vec<u64>, Vec<&Vec<i64>>> = BTreeMap::new();
        for p in &self.points {
            by_time.entry(self.time(p, everywhere)).or_default().push(p);
        }
        let mut step = |time: Option<&Vec<u64>>, points: &[&Vec<i64>], levels: &mut Vec<Level>| {
            // Tiles that groups leave, from the inside out, then those that they enter, from the outside in.
            let mut moves: Vec<Vec<Move>> = Vec::new();
            for n in 0..levels.len() {
                let (from, above) = (chain[n].1, chain[n + 1].1);
                let merged = |i: usize| i >= from && self.merges(self.output(), i);
                let (outer, inner) = levels.split_at_mut(n);
                let level = &mut inner[0];
                let mut here = level.moves(self, time, from, above, &merged);
                if let Some(parents) = outer.last() {
                    here.extend(level.left_behind(parents));
                }
                moves.push(here);
            }
            for (n, level_moves) in moves.iter().enumerate().rev() {
                for m in level_moves {
                    for (instance, e) in &m.gone {
                        values.remove(&(n + 1, instance.clone(), e.clone()));
                    }
                    for e in &m.leaves {
                        let new = values.insert((n, m.parent.clone(), e.clone()));
                        edges[n].again += u128::from(levels[n].updates_apart && !new);
                    }
                }
            }
            for (n, level_moves) in moves.iter().enumerate() {
                for m in level_moves {
                    for e in &m.enters {
                        if !levels[n].updates_apart
                            && values.contains(&(n, m.parent.clone(), e.clone()))
                        {
                            edges[n].again += 1;
                            if let Some(instance) = m.takes.get(e) {
                                edges[n].returned += 1;
                                values.insert((n + 1, instance.clone(), e.clone()));
                            } else {
                                // A member that idled since holds it still, though the group has left it.
                                edges[n..].iter_mut().for_each(|e| e.idles = true);
                            }
                        }
                    }
                }
            }
            // Updates of the innermost storage by the compute.
            let inner = chain.len() - 1;
            let from = chain[inner].1;
            let mut updates: BTreeSet<(Vec<u64>, Vec<u64>, Element)> = BTreeSet::new();
            for p in points {
                let group = self.space(p, everywhere, |i| {
                    !(i >= from && self.merges(self.output(), i))
                });
                if let Some(e) = element(einsum, self.output(), p) {
                    updates.insert((group, self.space(p, from, |_| true), e));
                }
            }
            for (_, instance, e) in updates {
                let new = values.insert((inner, instance, e));
                edges[inner].again += u128::from(!new);
            }
        };
        for (time, points) in &by_time {
            step(Some(time), points, &mut levels);
        }
        step(None, &[], &mut levels);
        let last = edges.len() - 1;
        let from = chain[last].1;
        let apart =
            (from..everywhere).any(|i| self.updates_apart(i) && !self.merges(self.output(), i));
        edges[last].returned = if apart { 0 } else { edges[last].again };
    }

    /// Whether instances along a spatial loop may update the same elements.
    fn updates_apart(&self, i: usize) -> bool {
        let l = &self.loops[i];
        let einsum = self.einsum;
        let trips = l.outer.div_ceil(l.tile);
        let terms = |r: &presil_workloads::Affine| {
            let others = r.terms.iter().filter(|t| einsum.dim(t.0).size > 1).count();
            r.terms.iter().any(|t| t.0.index() == l.dim) && others > 1
        };
        let rows = match einsum.domain {
            Domain::Ragged { group, row, .. } => [group.index(), row.index()].contains(&l.dim),
            _ => false,
        };
        let reduced = einsum.is_reduced(Id::new(l.dim));
        l.space.is_some()
            && trips > 1
            && (reduced || (!rows && einsum.output.ranks.iter().any(terms)))
    }
}

/// Elements that enter, over all buffers.
fn entries(history: &History, overlap: Option<Overlap>) -> u128 {
    let mut held: BTreeMap<&Vec<u64>, &Tile> = BTreeMap::new();
    let mut entries = 0;
    for ((instance, _), tile) in history {
        let before = held.insert(instance, tile);
        entries += new_elements(before, tile, overlap) as u128;
    }
    entries
}

fn new_elements(before: Option<&Tile>, tile: &Tile, overlap: Option<Overlap>) -> usize {
    match (before, overlap) {
        (None, _) | (_, None) => tile.len(),
        (Some(b), Some(Overlap::Keep)) => tile.difference(b).count(),
        (Some(b), Some(Overlap::Refetch)) => {
            if b == tile {
                0
            } else {
                tile.len()
            }
        }
    }
}

/// A storage of the output while it is played.
struct Level {
    joint: History,
    member: History,
    overlap: Overlap,
    updates_apart: bool,
    held_joint: BTreeMap<Vec<u64>, (Vec<u64>, Tile)>,
    held: BTreeMap<Vec<u64>, (Vec<u64>, Tile)>,
}

/// What a group of buffers does when it goes to its next tile.
struct Move {
    parent: Vec<u64>,
    leaves: Vec<Element>,
    enters: Vec<Element>,
    /// Elements that leave members.
    gone: Vec<(Vec<u64>, Element)>,
    /// The member that takes an old value.
    takes: BTreeMap<Element, Vec<u64>>,
}

impl Level {
    /// The moves of all groups that work at a time; at the end (no time) all that is held leaves.
    fn moves(
        &mut self,
        walk: &Walk,
        time: Option<&Vec<u64>>,
        from: usize,
        above: usize,
        merged: &dyn Fn(usize) -> bool,
    ) -> Vec<Move> {
        let space: Vec<usize> = (0..above)
            .filter(|i| walk.loops[*i].space.is_some())
            .collect();
        let group_of = |member: &Vec<u64>| -> Vec<u64> {
            space
                .iter()
                .zip(member)
                .filter(|(i, _)| !merged(**i))
                .map(|(_, d)| *d)
                .collect()
        };
        let outer = (0..from).filter(|i| walk.loops[*i].space.is_some()).count();
        let Some(time) = time else {
            let held = std::mem::take(&mut self.held_joint);
            return held
                .into_iter()
                .map(|(group, (_, tile))| Move {
                    parent: group[..outer].to_vec(),
                    leaves: tile.into_iter().collect(),
                    enters: vec![],
                    gone: vec![],
                    takes: BTreeMap::new(),
                })
                .collect();
        };
        // All that have work in this state go to it together, whenever within it their first point is.
        let state = time[..(0..above)
            .filter(|i| walk.loops[*i].space.is_none())
            .count()]
            .to_vec();
        let groups: Vec<(Vec<u64>, Vec<u64>)> = self
            .joint
            .keys()
            .filter(|(_, t)| *t == state)
            .cloned()
            .collect();
        let mut moves = Vec::new();
        for (group, time) in groups {
            if self.held_joint.get(&group).is_some_and(|h| h.0 == time) {
                continue;
            }
            let tile = self.joint[&(group.clone(), time.clone())].clone();
            let before = self
                .held_joint
                .insert(group.clone(), (time.clone(), tile.clone()))
                .map(|h| h.1);
            let (leaves, enters) = change(before.as_ref(), &tile, self.overlap);
            let mut m = Move {
                parent: group[..outer].to_vec(),
                leaves,
                enters,
                gone: vec![],
                takes: BTreeMap::new(),
            };
            let mine: Vec<(Vec<u64>, Tile)> = self
                .member
                .iter()
                .filter(|((member, t), _)| *t == time && group_of(member) == group)
                .map(|((member, _), tile)| (member.clone(), tile.clone()))
                .collect();
            for (member, tile) in mine {
                let before = self
                    .held
                    .insert(member.clone(), (time.clone(), tile.clone()))
                    .map(|h| h.1);
                let (gone, come) = change(before.as_ref(), &tile, self.overlap);
                m.gone.extend(gone.into_iter().map(|e| (member.clone(), e)));
                for e in come {
                    m.takes.entry(e).or_insert_with(|| member.clone());
                }
            }
            moves.push(m);
        }
        moves
    }
}

impl Level {
    /// What buffers without work in this state give up because their parent has gone on: a buffer holds nothing that its
    /// parent does not.
    fn left_behind(&mut self, parents: &Level) -> Vec<Move> {
        let mut moves = Vec::new();
        for (group, (_, tile)) in &mut self.held_joint {
            let Some((parent, (_, inside))) = parents.held.iter().find(|p| group.starts_with(p.0))
            else {
                continue;
            };
            let leaves: Vec<Element> = tile.difference(inside).cloned().collect();
            if leaves.is_empty() {
                continue;
            }
            tile.retain(|e| inside.contains(e));
            let mut gone = Vec::new();
            let members = self.held.iter_mut().filter(|m| m.0.starts_with(parent));
            for (member, (_, tile)) in members {
                gone.extend(tile.difference(inside).map(|e| (member.clone(), e.clone())));
                tile.retain(|e| inside.contains(e));
            }
            moves.push(Move {
                parent: parent.clone(),
                leaves,
                enters: vec![],
                gone,
                takes: BTreeMap::new(),
            });
        }
        moves
    }
}

/// What leaves and what enters.
fn change(before: Option<&Tile>, tile: &Tile, overlap: Overlap) -> (Vec<Element>, Vec<Element>) {
    let Some(before) = before else {
        return (vec![], tile.iter().cloned().collect());
    };
    match overlap {
        Overlap::Refetch if before == tile => (vec![], vec![]),
        Overlap::Refetch => (
            before.iter().cloned().collect(),
            tile.iter().cloned().collect(),
        ),
        Overlap::Keep => (
            before.difference(tile).cloned().collect(),
            tile.difference(before).cloned().collect(),
        ),
    }
}
