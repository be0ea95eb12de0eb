//! What constraints of memories ask of loops in time and of room.
//!
//! A loop in time stands at the memory of the next storage outside it; the outermost ones stand at the outermost home. What
//! a constraint asks of a memory's loops is settled with its last storage of a group, of the outermost home's with the
//! whole mapping. Room is that of all tiles of a group.

use presil_numerics::ids::Id;

use super::model::{Model, Stage};
use super::replay::Checker;
use crate::case::CaseEinsum;
use crate::looptree::{LoopTree, Node};

/// What is asked of one memory.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub level: usize,
    given: Vec<(usize, u64)>,
    forbidden: Vec<bool>,
    /// Innermost first.
    pub order: Vec<usize>,
    /// Bits of tiles.
    least: f64,
}

impl Rule {
    /// Those of a case that say something.
    pub fn all(e: &CaseEinsum, sizes: &[u64]) -> Vec<Self> {
        let mut rules = Vec::new();
        for c in &e.constraints.levels {
            let level = e.hierarchy.levels.get(c.level);
            let Some(memory) = level.and_then(|l| l.memory()) else {
                continue;
            };
            let long = |d: usize| sizes.get(d).is_some_and(|s| *s > 1);
            let least = match c.min_utilization > 0.0 {
                true => c.min_utilization * memory.capacity / memory.buffering,
                false => 0.0,
            };
            let rule = Self {
                level: c.level,
                given: c.trips.iter().copied().filter(|g| long(g.0)).collect(),
                forbidden: (0..sizes.len())
                    .map(|d| long(d) && c.forbidden.has(d))
                    .collect(),
                order: c.order.iter().copied().filter(|d| long(*d)).collect(),
                least,
            };
            let says = !rule.given.is_empty() || rule.forbidden.contains(&true);
            if says || rule.order.len() > 1 || rule.least > 0.0 {
                rules.push(rule);
            }
        }
        rules
    }

    /// Whether it tells loops over a dimension apart by where they stand.
    pub fn names(&self, d: usize) -> bool {
        let given = self.given.iter().any(|g| g.0 == d);
        given || self.forbidden[d] || self.order.contains(&d) || self.least > 0.0
    }
}

/// What stands at the memories that have rules.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stood {
    /// For each rule, trips of each given dimension, and the place in the order of the outermost loop so far.
    trips: Vec<Vec<u64>>,
    last: Vec<usize>,
    /// Loops outside the last storage: dimension and trips.
    loose: Vec<(usize, u64)>,
    broken: bool,
}

impl Stood {
    fn new(rules: &[Rule]) -> Self {
        Self {
            trips: rules.iter().map(|r| vec![1; r.given.len()]).collect(),
            last: vec![0; rules.len()],
            loose: Vec::new(),
            broken: false,
        }
    }

    /// A loop outside all so far.
    fn grow(&mut self, d: usize, inner: u64, outer: u64) {
        if outer > inner {
            self.loose.push((d, outer.div_ceil(inner)));
        }
    }

    /// A storage, or the homes: loops since the last one stand there.
    fn settle(&mut self, rules: &[Rule], level: usize) {
        let loops = std::mem::take(&mut self.loose);
        for (i, rule) in rules.iter().enumerate().filter(|(_, r)| r.level == level) {
            for (d, n) in &loops {
                self.broken |= rule.forbidden[*d];
                if let Some(at) = rule.order.iter().position(|o| o == d) {
                    self.broken |= at < self.last[i];
                    self.last[i] = at.max(self.last[i]);
                }
                let given = rule.given.iter().zip(&mut self.trips[i]);
                for ((_, most), trips) in given.filter(|g| g.0.0 == *d) {
                    *trips = trips.saturating_mul(*n);
                    self.broken |= *trips > *most;
                }
            }
        }
    }

    fn meets(&self, rule: &Rule, i: usize) -> bool {
        rule.given.iter().map(|g| &g.1).eq(&self.trips[i])
    }

    /// What decides about what is still to come.
    fn progress(mut self, model: &Model) -> Self {
        self.loose.retain(|l| model.ruled[l.0]);
        self
    }
}

impl Checker<'_> {
    fn stood(&self, at: usize) -> Stood {
        let partial = &self.partials[at];
        let Some(of) = partial.of else {
            return Stood::new(&self.model.rules);
        };
        let mut stood = self.stood(of);
        if let Some((_, level)) = partial.keep {
            let grow = |s: &mut Stood, c: &crate::optimum::certificate::Cut| {
                s.grow(c.0, u64::from(c.1), u64::from(c.2));
            };
            partial.loops.iter().for_each(|c| grow(&mut stood, c));
            stood.settle(&self.model.rules, level);
            partial.slide.iter().for_each(|c| grow(&mut stood, c));
        }
        stood
    }

    /// The memory that the outermost loops stand at.
    fn outermost(&self, placement: usize) -> usize {
        let chains = self.placements[placement].iter().enumerate();
        let homes = chains.filter(|(o, c)| !self.model.floats(*o, c));
        homes.map(|(_, c)| c[0]).min().unwrap_or(0)
    }

    /// Whether what extends a partial mapping by loops and a storage of a group obeys so far; `left`: storages that each
    /// operand still has to come, then.
    pub(super) fn permits(
        &self,
        at: usize,
        (group, level): (usize, usize),
        loops: &[(usize, u64, u64)],
        left: &[usize],
    ) -> bool {
        let rules = &self.model.rules;
        if rules.is_empty() {
            return true;
        }
        let mut stood = self.stood(at);
        for (d, inner, outer) in loops {
            stood.grow(*d, *inner, *outer);
        }
        stood.settle(rules, level);
        let mut chains = self.chains(at).iter().zip(left).enumerate();
        let more =
            chains.any(|(o, (chain, left))| self.model.storages(o, chain, *left).contains(&level));
        let outermost = group == 0 && level == self.outermost(self.place[at].0);
        let mut here = rules.iter().enumerate().filter(|(_, r)| r.level == level);
        !stood.broken && (more || outermost || here.all(|(i, r)| stood.meets(r, i)))
    }

    /// Whether all groups that nothing is to come of obey.
    pub(super) fn closes(&self, at: usize) -> bool {
        let model = self.model;
        if model.rules.is_empty() {
            return true;
        }
        let (placement, steps) = self.place[at];
        let next = self.stage(placement, steps);
        let done = |level: usize| match next {
            Some(Stage::Axis(g, _) | Stage::Keep(g)) => model.group_of(level) > g,
            None => true,
        };
        let mut stood = self.stood(at);
        if next.is_none() {
            let outermost = self.outermost(placement);
            let t = self.tally(at);
            for d in model.turn(outermost) {
                stood.grow(d, t.tile[d], model.sizes[d]);
            }
            stood.settle(&model.rules, outermost);
        }
        let rules = model.rules.iter().enumerate();
        let mut rules = rules.filter(|(_, r)| done(r.level));
        let met = |(i, r): (usize, &Rule)| stood.meets(r, i) && self.used(at, r.level) >= r.least;
        !stood.broken && rules.all(met)
    }

    /// Bits of all tiles at a memory so far.
    fn used(&self, at: usize, level: usize) -> f64 {
        let model = self.model;
        let chains = self.chains(at).iter().enumerate();
        let homes = chains.filter(|(o, c)| c[0] == level && !model.floats(*o, c));
        let mut used: f64 = homes.map(|(o, _)| model.bits(level, o, &model.sizes)).sum();
        let mut next = Some(at);
        while let Some(i) = next {
            let partial = &self.partials[i];
            if let Some((o, l)) = partial.keep
                && l == level
            {
                used += model.bits(level, o, &self.tally(i).kept[o]);
            }
            next = partial.of;
        }
        used
    }

    /// Whether constraints allow all that extends `b` to extend `a`.
    pub(super) fn obeys_alike(&self, a: usize, b: usize) -> bool {
        let model = self.model;
        let rules = &model.rules;
        let progress = |at: usize| self.stood(at).progress(model);
        let (group, _) = self.ends_in(b);
        let filled = |r: &&Rule| r.least > 0.0 && model.group_of(r.level) == group;
        let filled = rules.iter().filter(filled);
        let mut filled = filled.map(|r| (self.used(a, r.level), self.used(b, r.level)));
        rules.is_empty()
            || (progress(a) == progress(b)
                && (self.group_done(b) || filled.all(|(a, b)| a == b))
                && (self.closes(a) || !self.closes(b)))
    }
}

/// Whether a tree obeys the constraints of memories.
pub(super) fn obeyed(model: &Model, tree: &LoopTree) -> bool {
    let rules = &model.rules;
    let mut stood = Stood::new(rules);
    let mut used = vec![0.0; model.hierarchy.levels.len()];
    let level_of = |node: &Node| match *node {
        Node::Keep { level, .. } => Some(level),
        _ => None,
    };
    let first = |o: usize| {
        let keeps = |n: &Node| matches!(n, Node::Keep { operand, .. } if *operand == o);
        let first = tree.nodes.iter().find(|n| keeps(n));
        first.and_then(level_of).unwrap_or(0)
    };
    let whole = (0..model.operands.len()).filter(|o| !model.floats(*o, &[first(*o)]));
    let homes = whole.count();
    let outermost = tree.nodes.iter().take(homes).filter_map(level_of).min();
    for (i, node) in tree.nodes.iter().enumerate().rev() {
        let tiles = tree.tiles(model.einsum, i);
        match *node {
            Node::Keep { level, operand } => {
                used[level] += model.bits(level, operand, &tiles);
                if i >= homes {
                    stood.settle(rules, level);
                }
            }
            Node::Temporal { dim, tile } => stood.grow(dim.index(), tile, tiles[dim.index()]),
            Node::Spatial { .. } => {}
        }
    }
    if let Some(outermost) = outermost {
        stood.settle(rules, outermost);
    }
    let met = |(i, r): (usize, &Rule)| stood.meets(r, i) && used[r.level] >= r.least;
    !stood.broken && rules.iter().enumerate().all(met)
}
