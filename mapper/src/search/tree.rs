//! The tree of mappings of one shape and assignment: one dimension after the other takes one of its options.

use std::time::Instant;

use presil_hwmodels::Operand;

use super::cases::Root;
use super::chain::Link;
use super::dual::Table;
use super::layout::Layout;
use super::model::{DIMS, Model};
use super::options::{Options, RAGGED};
use super::posynomial::HOME;
use super::prove::late;
use super::rules::Rules;
use super::shape::{MARKS, Shape};
use crate::mapping::Step;

/// Relative difference below which two figures count as equal.
pub(super) const EQUAL: f64 = 1e-9;

/// Work of an exact analysis, in bounds.
const LEAF_WORK: u64 = 40;

/// What a search minimizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Figure {
    /// Seconds.
    Time,
    /// Joules, static ones included.
    Energy,
    /// Their product.
    Product,
}

impl Figure {
    /// The figure of a time and an energy (static included).
    pub fn of(self, time: f64, energy: f64) -> f64 {
        match self {
            Self::Time => time,
            Self::Energy => energy,
            Self::Product => time * energy,
        }
    }
}

/// What is sought: least of one figure, with another one at most so large.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goal {
    pub figure: Figure,
    pub limited: Figure,
    pub limit: f64,
}

impl Goal {
    /// The figure of a time and a dynamic energy, or a bound on it; infinite beyond the limit.
    pub fn of(&self, power: f64, time: f64, dynamic: f64) -> f64 {
        let energy = dynamic + power * time;
        if self.limited.of(time, energy) > self.limit * (1.0 + EQUAL) {
            return f64::INFINITY;
        }
        self.figure.of(time, energy)
    }
}

/// Analyses mappings exactly.
pub(super) trait Judge {
    /// The exact figure of a mapping whose bound is given, if it is legal and within the limit.
    fn judge(&mut self, steps: Vec<Step>, bound: f64) -> Option<f64>;
}

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work {
    /// Bounds computed.
    pub bounds: u64,
    /// Mappings analysed exactly.
    pub leaves: u64,
    /// Subtrees cut off.
    pub pruned: u64,
}

/// A search of the tree.
pub(super) struct Tree<'a, 'm, J: Judge> {
    pub layout: &'a Layout<'a, 'm>,
    pub model: &'a Model<'m>,
    pub shape: &'a Shape,
    pub options: &'a [&'a Options],
    pub goal: Goal,
    /// The best figure so far.
    pub best: f64,
    pub judge: &'a mut J,
    pub work: &'a mut Work,
    pub budget: u64,
    /// When it has to end.
    pub until: Option<Instant>,
    /// Least bound of what the budget left open.
    pub open: f64,
    /// Children of a node that are followed: all, or only the most promising to find good mappings early.
    pub width: usize,
    /// Dimensions in the order of choice.
    pub order: Vec<usize>,
    /// Least factors of the dimensions from each depth on, and the least part of the weighted bound.
    pub rest: Vec<Vec<f64>>,
    pub rest_part: Vec<f64>,
    /// What is searched: options that are left, and weights.
    pub root: &'a Root,
    /// Of each dimension, the parts of its options in the weighted bound.
    pub parts: Vec<Vec<f64>>,
    pub chosen: [usize; DIMS],
    /// Subtrees cut off, if they are wanted: chains of the dimensions chosen, and the bound.
    pub log: Option<&'a mut Vec<Cut>>,
}

/// A subtree that was cut off: chains of the dimensions chosen, and its bound.
pub(super) type Cut = (Vec<(usize, Vec<Link>)>, f64);

/// A product of factors so far.
#[derive(Clone)]
struct Node {
    factors: Vec<f64>,
    tiles: [[u64; DIMS]; MARKS],
    partial: u32,
    /// Logarithm of the weighted bound so far.
    part: f64,
}

impl<J: Judge> Tree<'_, '_, J> {
    /// Searches all mappings under the root.
    pub fn search(&mut self) {
        let (n, count) = (self.order.len(), self.layout.count);
        let root = self.root;
        let weights = root.weights.as_ref();
        let row = |i: u32| i as usize * count..(i as usize + 1) * count;
        self.parts = (0..n)
            .map(|d| {
                let open = &root.open[d];
                weights.map_or_else(
                    || vec![0.0; open.len()],
                    |w| Table::new(self.options[d], open).weigh(w),
                )
            })
            .collect();
        self.rest = vec![vec![1.0; count]; n + 1];
        self.rest_part = vec![0.0; n + 1];
        for at in (0..n).rev() {
            let d = self.order[at];
            let mut least = vec![f64::INFINITY; count];
            for i in &root.open[d] {
                let own = &self.options[d].factors[row(*i)];
                least.iter_mut().zip(own).for_each(|(l, f)| *l = l.min(*f));
            }
            let rest = self.rest[at + 1].iter().zip(&least).map(|(r, l)| r * l);
            self.rest[at] = rest.collect();
            let part = self.parts[d].iter().copied().fold(f64::INFINITY, f64::min);
            self.rest_part[at] = self.rest_part[at + 1] + part;
        }
        let mut node = Node {
            factors: vec![1.0; count],
            tiles: [[1; DIMS]; MARKS],
            partial: root.case & !HOME,
            part: weights.map_or(f64::NEG_INFINITY, |w| w.constant),
        };
        for (d, o) in self.options.iter().enumerate() {
            for (m, t) in o.least_tiles.iter().enumerate() {
                node.tiles[m][d] = u64::from(*t);
            }
        }
        self.grow(0, &node, root.bound);
    }

    fn dead(&self, bound: f64) -> bool {
        bound >= self.best * (1.0 - EQUAL)
    }

    fn grow(&mut self, depth: usize, node: &Node, bound: f64) {
        if depth == self.order.len() {
            self.leaf(bound, node.partial & RAGGED != 0);
            return;
        }
        if self.work.bounds > self.budget || late(self.until) {
            self.open = self.open.min(bound);
            return;
        }
        let d = self.order[depth];
        let (options, root) = (self.options[d], self.root);
        let count = self.layout.count;
        let whole = depth + 1 == self.order.len();
        let power = self.model.frame.static_power;
        let mut list: Vec<(f64, usize)> = Vec::with_capacity(root.open[d].len());
        let mut child = node.clone();
        let target = (self.best * (1.0 - EQUAL) + root.off).ln();
        let rest_part = node.part + self.rest_part[depth + 1];
        for at in 0..root.open[d].len() {
            if rest_part + self.parts[d][at] >= target {
                self.work.pruned += 1;
                self.chosen[d] = root.open[d][at] as usize;
                self.note(depth + 1, self.best);
                continue;
            }
            let i = root.open[d][at] as usize;
            let own = &options.factors[i * count..(i + 1) * count];
            let rest = &self.rest[depth + 1];
            for (((c, n), o), r) in child
                .factors
                .iter_mut()
                .zip(&node.factors)
                .zip(own)
                .zip(rest)
            {
                *c = n * o * r;
            }
            self.place(&mut child, node, d, i);
            self.work.bounds += 1;
            let cost = self
                .layout
                .evaluate(&child.factors, &child.tiles, child.partial, whole);
            let bound = cost.map_or(f64::INFINITY, |(t, e)| self.goal.of(power, t, e));
            debug_assert!(
                !whole
                    || !self.model.exact
                    || child.partial & RAGGED != 0
                    || (rest_part + self.parts[d][at]).exp() - root.off
                        <= bound * (1.0 + 1e-6) + 1e-9 * root.off,
                "the weighted bound is beyond the exact cost"
            );
            list.push((bound, at));
        }
        list.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        list.truncate(self.width);
        for (bound, at) in list {
            let i = root.open[d][at] as usize;
            if self.dead(bound) {
                self.work.pruned += 1;
                self.chosen[d] = i;
                self.note(depth + 1, bound);
                continue;
            }
            let own = &options.factors[i * count..(i + 1) * count];
            for ((c, n), o) in child.factors.iter_mut().zip(&node.factors).zip(own) {
                *c = n * o;
            }
            self.place(&mut child, node, d, i);
            child.part = node.part + self.parts[d][at];
            self.chosen[d] = i;
            if self
                .model
                .rules
                .is_some_and(|r| !self.may_obey(r, depth + 1))
            {
                self.work.pruned += 1;
                continue;
            }
            self.grow(depth + 1, &child, bound);
        }
    }

    /// Whether what rules ask of several dimensions together may still be met, with the first dimensions of the order chosen.
    fn may_obey(&self, rules: &Rules, depth: usize) -> bool {
        rules.joint() && self.in_order(rules, depth) && self.roomy(rules, depth) || !rules.joint()
    }

    /// Whether loops of the chosen dimensions stand in the orders that memories ask for: innermost first, each in a gap not
    /// further in than those before it.
    fn in_order(&self, rules: &Rules, depth: usize) -> bool {
        let gaps = self.shape.marks.len() + 1;
        let mut owners: Vec<Option<usize>> = (0..gaps).map(|g| self.shape.owner(g)).collect();
        owners.sort_unstable();
        owners.dedup();
        owners.into_iter().all(|owner| {
            let mut least = usize::MAX;
            rules.order(owner).iter().all(|d| {
                if !self.order[..depth].contains(d) {
                    return true;
                }
                let here = self
                    .chain(*d)
                    .iter()
                    .filter(|l| l.axis.is_none() && self.shape.owner(usize::from(l.gap)) == owner);
                let stands = here.map(|l| usize::from(l.gap));
                let (first, last) = stands.fold((usize::MAX, 0), |(a, b), g| (a.min(g), b.max(g)));
                let fits = first == usize::MAX || last <= least;
                least = least.min(first);
                fits
            })
        })
    }

    /// Whether tiles may take as much room as memories ask for.
    fn roomy(&self, rules: &Rules, depth: usize) -> bool {
        let (model, marks) = (self.model, self.shape.marks.len());
        rules.rooms().all(|(store, least)| {
            let mut used = 0.0;
            for (m, mark) in self.shape.marks.iter().enumerate() {
                let slot = model.slots[mark.slot];
                if mark.turn || slot.store != store {
                    continue;
                }
                let mut tile = [1; DIMS];
                for (d, options) in self.options.iter().enumerate() {
                    let at = |i: usize| u64::from(options.tiles[i * marks + m]);
                    tile[d] = if self.order[..depth].contains(&d) {
                        at(self.chosen[d])
                    } else {
                        let open = self.root.open[d].iter();
                        open.map(|i| at(*i as usize)).max().unwrap_or(1)
                    };
                }
                let width = match slot.operand {
                    2 => model.frame.partial.max(model.frame.bits[2]),
                    o => model.frame.bits[o],
                };
                used += model.frame.elements(slot.operand, &tile) * width;
            }
            // The capacity in whole bytes.
            used >= least * (1.0 - 1e-9) - 8.0
        })
    }

    /// Notes a subtree that is cut off.
    fn note(&mut self, depth: usize, bound: f64) {
        if let Some(log) = self.log.as_deref_mut() {
            let fixed = self.order[..depth]
                .iter()
                .map(|d| (*d, self.options[*d].chain(self.chosen[*d]).to_vec()));
            log.push((fixed.collect(), bound));
        }
    }

    fn place(&self, child: &mut Node, node: &Node, d: usize, option: usize) {
        let options = self.options[d];
        if !self.model.exact {
            let marks = self.shape.marks.len();
            let tiles = &options.tiles[option * marks..(option + 1) * marks];
            child
                .tiles
                .iter_mut()
                .zip(tiles)
                .for_each(|(c, t)| c[d] = u64::from(*t));
        }
        child.partial = node.partial | options.partial[option];
    }

    /// A complete mapping: exact analysis of each order of its loops that matters, which some do where tiles overlap or
    /// last blocks are ragged.
    fn leaf(&mut self, bound: f64, ragged: bool) {
        let gaps = self.shape.marks.len() + 1;
        let windowed = |d: usize| (0..3).any(|o| self.model.windowed[o][d]);
        // Of each gap, the choices of its innermost loop.
        let mut choices: Vec<Vec<usize>> = vec![vec![DIMS]; gaps];
        if !self.model.exact || ragged {
            for (g, choice) in choices.iter_mut().enumerate().take(gaps - 1) {
                let here: Vec<usize> = (0..self.options.len())
                    .filter(|d| {
                        self.chain(*d)
                            .iter()
                            .any(|l| l.axis.is_none() && usize::from(l.gap) == g)
                    })
                    .collect();
                if here.len() > 1 && (ragged || here.iter().any(|d| windowed(*d))) {
                    *choice = here;
                }
            }
        }
        let mut at = vec![0; gaps];
        loop {
            self.work.leaves += 1;
            self.work.bounds += LEAF_WORK;
            if self.work.bounds > self.budget || late(self.until) {
                self.open = self.open.min(bound);
                return;
            }
            let last: Vec<usize> = choices.iter().zip(&at).map(|(c, i)| c[*i]).collect();
            let steps = self.steps(&last);
            if let Some(found) = self.judge.judge(steps, bound) {
                self.best = self.best.min(found);
            }
            let Some(next) = (0..gaps).rev().find(|g| at[*g] + 1 < choices[*g].len()) else {
                return;
            };
            at[next] += 1;
            at[next + 1..].fill(0);
        }
    }

    fn chain(&self, d: usize) -> &[Link] {
        self.options[d].chain(self.chosen[d])
    }

    /// The steps of the chosen mapping; `last` is the innermost loop of each gap.
    fn steps(&self, last: &[usize]) -> Vec<Step> {
        let (model, frame) = (self.model, self.model.frame);
        let keep = |operand: usize, store: usize| Step::Store {
            memory: frame.stores[store].node,
            operand: Operand::ALL[operand],
        };
        let homes = (0..3).filter_map(|o| Some(keep(o, frame.levels[0].memory[o]?)));
        let mut steps: Vec<Step> = homes.collect();
        let mut at = [0usize; DIMS];
        let mut add = |steps: &mut Vec<Step>, d: usize| {
            let chain = self.chain(d);
            let link = chain[at[d]];
            at[d] += 1;
            let tile: u64 = chain[at[d]..].iter().map(|l| u64::from(l.trips)).product();
            let dim = frame.dims[d].id;
            steps.push(match link.axis {
                None => Step::Temporal { dim, tile },
                Some(a) => {
                    let axis = &frame.axes[usize::from(a)];
                    Step::Spatial {
                        fanout: axis.fanout,
                        axis: axis.axis,
                        dim,
                        tile,
                    }
                }
            });
        };
        let loops = |gap: usize| {
            let has = move |d: &usize| {
                self.chain(*d)
                    .iter()
                    .any(|l| l.axis.is_none() && usize::from(l.gap) == gap)
            };
            let inner = last.get(gap).copied().unwrap_or(DIMS);
            let kind = model.named.get(inner).copied();
            let class =
                move |d: usize| usize::from(d == inner) + usize::from(kind == Some(model.named[d]));
            let mut dims: Vec<usize> = (0..self.options.len()).filter(has).collect();
            dims.sort_by_key(|d| (class(*d), *d));
            if let Some(rules) = model.rules {
                reorder(&mut dims, rules.order(self.shape.owner(gap)));
            }
            dims
        };
        for section in 0..model.sections.len() {
            let slot = |m: usize| model.slots[self.shape.marks[m].slot];
            // Storage whose mark stands in an outer section, and that waits no longer.
            let marks = &self.shape.marks;
            let first = marks.iter().position(|m| m.section >= section);
            let head = first.unwrap_or(marks.len());
            for m in (0..head).filter(|m| slot(*m).section == section && !marks[*m].turn) {
                if !self.shape.waits(head, marks[m].slot) {
                    steps.push(keep(slot(m).operand, slot(m).store));
                }
            }
            for m in (head..marks.len()).filter(|m| marks[*m].section == section) {
                for d in loops(m) {
                    add(&mut steps, d);
                }
                // What stands here: the mark's own storage, and what waited for it.
                for s in (0..=m).filter(|s| !marks[*s].turn && slot(*s).section == section) {
                    let waited = s == m || self.shape.waits(m, marks[s].slot);
                    if waited && !self.shape.waits(m + 1, marks[s].slot) {
                        steps.push(keep(slot(s).operand, slot(s).store));
                    }
                }
            }
            let mut spread: Vec<(u8, usize)> = Vec::new();
            for d in 0..self.options.len() {
                let axes = self.chain(d).iter().filter_map(|l| l.axis);
                spread.extend(
                    axes.filter(|a| model.axis_section[usize::from(*a)] == section)
                        .map(|a| (a, d)),
                );
            }
            spread.sort_unstable();
            for (_, d) in spread {
                add(&mut steps, d);
            }
        }
        for d in loops(self.shape.marks.len()) {
            add(&mut steps, d);
        }
        steps
    }
}

/// Puts the dimensions of an order, innermost first, into it, in the places that they have.
fn reorder(dims: &mut [usize], order: &[usize]) {
    let places: Vec<usize> = (0..dims.len())
        .filter(|i| order.contains(&dims[*i]))
        .collect();
    let mut inside_out = order
        .iter()
        .copied()
        .filter(|d| dims.contains(d))
        .collect::<Vec<_>>();
    for place in places {
        if let Some(d) = inside_out.pop() {
            dims[place] = d;
        }
    }
}
