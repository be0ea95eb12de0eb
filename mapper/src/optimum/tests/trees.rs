//! Every loop tree of one einsum of a chain.

use std::collections::BTreeMap;

use presil_workloads::{DimId, Einsum};

use super::fits;
use crate::conventions::{Convention, evaluate};
use crate::hierarchy::{Hierarchy, Level, access_of, operand_count};
use crate::looptree::{LoopTree, Node};
use crate::search::Objective;

/// All loop trees of one einsum of a chain: each intermediate is whole at the outermost memory, or its home is a memory
/// inside, below loops in time that all index it.
pub(super) struct Trees<'a, V> {
    einsum: &'a Einsum,
    hierarchy: &'a Hierarchy,
    between: &'a [usize],
    perfect: bool,
    most: u64,
    view: &'a dyn Fn(&LoopTree) -> V,
    /// Intermediates that are handed over tile by tile.
    floats: Vec<usize>,
    tree: LoopTree,
    count: u64,
    /// Energy and cycles of those of which none is as good in both, by view.
    found: BTreeMap<V, Vec<(f64, f64)>>,
}

impl<V: Ord + Clone> Trees<'_, V> {
    /// What neighbours see of each, with its energy and cycles; none if there are more than `most`.
    pub(super) fn all(
        einsum: &Einsum,
        hierarchy: &Hierarchy,
        between: &[usize],
        perfect: bool,
        most: u64,
        view: &dyn Fn(&LoopTree) -> V,
    ) -> Option<Vec<(V, f64, f64)>> {
        let mut trees = Trees {
            einsum,
            hierarchy,
            between,
            perfect,
            most,
            view,
            floats: Vec::new(),
            tree: LoopTree::default(),
            count: 0,
            found: BTreeMap::new(),
        };
        for set in 0..1 << between.len() {
            let some = between.iter().enumerate();
            let some = some.filter(|(i, _)| set & (1 << i) != 0);
            trees.floats = some.map(|(_, o)| *o).collect();
            trees.homes(0);
        }
        let all = trees.found.into_iter();
        let flat = all.flat_map(|(v, f)| f.into_iter().map(move |(e, t)| (v.clone(), e, t)));
        (trees.count <= most).then(|| flat.collect())
    }

    fn first_fan(&self) -> usize {
        let fan = |l: &Level| l.memory().is_none();
        self.hierarchy.levels.iter().position(fan).unwrap()
    }

    fn homes(&mut self, operand: usize) {
        if operand == operand_count(self.einsum) {
            let tiles: Vec<u64> = self.einsum.dims.iter().map(|d| d.size).collect();
            self.go(&tiles, None);
            return;
        }
        if self.floats.contains(&operand) {
            self.homes(operand + 1);
            return;
        }
        let last = if self.between.contains(&operand) {
            1
        } else {
            self.first_fan()
        };
        for level in 0..last {
            self.tree.nodes.push(Node::Keep { level, operand });
            self.homes(operand + 1);
            self.tree.nodes.pop();
        }
    }

    fn keeps(&self, operand: usize) -> impl Iterator<Item = usize> + '_ {
        self.tree.nodes.iter().filter_map(move |n| match *n {
            Node::Keep { level, operand: o } if o == operand => Some(level),
            _ => None,
        })
    }

    /// The innermost level whose place has been passed: a fanout or a memory below one.
    fn floor(&self) -> usize {
        let fan = self.first_fan();
        let below = |n: &Node| match *n {
            Node::Keep { level, .. } | Node::Spatial { level, .. } => level >= fan,
            Node::Temporal { .. } => false,
        };
        if self.tree.nodes.iter().any(below) {
            fan
        } else {
            0
        }
    }

    fn go(&mut self, tiles: &[u64], last: Option<usize>) {
        if self.count > self.most {
            return;
        }
        let homeless = |o: &&usize| self.keeps(**o).next().is_none();
        let waiting: Vec<usize> = self.floats.iter().filter(homeless).copied().collect();
        let waits = !waiting.is_empty();
        if !waits && tiles.iter().all(|t| *t == 1) {
            self.close();
        }
        let fan = self.first_fan();
        for dim in 0..tiles.len() {
            let id = DimId(dim as u32);
            let names = |o: &usize| Einsum::names(access_of(self.einsum, *o), id);
            if !waiting.iter().all(names) {
                continue;
            }
            let whole = !self.perfect && tiles[dim] == self.einsum.dims[dim].size;
            for tile in (1..tiles[dim]).filter(|t| whole || tiles[dim].is_multiple_of(*t)) {
                let mut next = tiles.to_vec();
                next[dim] = tile;
                if last != Some(dim) {
                    self.tree.nodes.push(Node::Temporal { dim: id, tile });
                    self.go(&next, Some(dim));
                    self.tree.nodes.pop();
                }
                let spread = self.hierarchy.levels[fan].fanout();
                let inner = (0..operand_count(self.einsum)).any(|o| self.keeps(o).any(|l| l > fan));
                if waits || inner {
                    continue;
                }
                for axis in 0..spread.map_or(0, |f| f.axes.len()) {
                    self.tree.nodes.push(Node::Spatial {
                        level: fan,
                        axis,
                        dim: id,
                        tile,
                    });
                    self.go(&next, None);
                    self.tree.nodes.pop();
                }
            }
        }
        for level in self.floor()..self.hierarchy.levels.len() {
            if self.hierarchy.levels[level].memory().is_none() || (waits && level > fan) {
                continue;
            }
            for operand in 0..operand_count(self.einsum) {
                let home = waiting.contains(&operand);
                let inside = self.keeps(operand).max().map_or(home, |l| l < level);
                if inside && !(home && level == 0) {
                    self.tree.nodes.push(Node::Keep { level, operand });
                    self.go(tiles, None);
                    self.tree.nodes.pop();
                }
            }
        }
    }

    fn close(&mut self) {
        self.count += 1;
        if !fits(self.einsum, self.hierarchy, &self.tree) {
            return;
        }
        let told = evaluate(
            Convention::AccelForge,
            self.einsum,
            self.hierarchy,
            &self.tree,
        );
        let Ok(told) = told else { return };
        let figures = (told.energy_total(), told.cycles);
        let view = (self.view)(&self.tree);
        let front = self.found.entry(view).or_default();
        if !front.iter().any(|f| f.0 <= figures.0 && f.1 <= figures.1) {
            front.retain(|f| !(figures.0 <= f.0 && figures.1 <= f.1));
            front.push(figures);
        }
    }
}

pub(super) fn value(objective: Objective, energy: f64, cycles: f64) -> f64 {
    match objective {
        Objective::Latency => cycles,
        Objective::Energy => energy,
        Objective::Edp => energy * cycles,
    }
}
