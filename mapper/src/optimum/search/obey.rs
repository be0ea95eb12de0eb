//! What constraints of memories ask of loops in time and of room.
//!
//! A loop in time stands at the memory of the next storage outside it; the outermost ones, directly below the homes of all
//! operands, at the outermost home. Constraints tell loops of a dimension apart by where they stand, so for the
//! dimensions that they name no loop is left out because it would be as good elsewhere; partial mappings
//! are compared only where the loops at each memory came to the same.

use super::{NONE, Search, Site, State, Step};
use crate::optimum::rules::Rule;

/// What stands at the memories that have rules.
pub(super) struct Stood {
    /// For each rule, the trips of each given dimension, and the place in the order of the outermost loop so far.
    trips: Vec<Vec<u32>>,
    last: Vec<usize>,
    /// Loops outside the last storage: dimension and trips.
    loose: Vec<(usize, u32)>,
    /// Whether a rule is broken.
    broken: bool,
}

impl Stood {
    /// Puts the loose loops at a memory.
    fn settle(&mut self, rules: &[Rule], (segment, memory): (usize, usize)) {
        let loops = std::mem::take(&mut self.loose);
        let here = |(_, r): &(usize, &Rule)| (r.segment, r.memory) == (segment, memory);
        for (i, rule) in rules.iter().enumerate().filter(here) {
            for (dim, trips) in loops.iter().filter(|l| l.1 > 1) {
                self.broken |= rule.forbidden.has(*dim);
                if let Some(at) = rule.order.iter().position(|d| d == dim) {
                    self.broken |= at < self.last[i];
                    self.last[i] = self.last[i].max(at);
                }
                for ((d, most), n) in rule.given.iter().zip(&mut self.trips[i]) {
                    if d == dim {
                        *n = n.saturating_mul(*trips);
                        self.broken |= *n > *most;
                    }
                }
            }
        }
    }

    /// Whether the loops at a rule's memory are as given.
    fn meets(&self, rules: &[Rule], i: usize) -> bool {
        let given = rules[i].given.iter().zip(&self.trips[i]);
        given.into_iter().all(|((_, asked), n)| asked == n)
    }
}

impl Search<'_> {
    /// What stands at each memory so far.
    fn stood(&self, s: &State) -> Stood {
        let rules = &self.space.rules;
        let mut stood = Stood {
            trips: rules.iter().map(|r| vec![1; r.given.len()]).collect(),
            last: vec![0; rules.len()],
            loose: Vec::new(),
            broken: false,
        };
        let mut steps = Vec::new();
        let (mut tile, mut at) = (s.tile, s.steps);
        while at != NONE {
            let (before, step) = self.arena[at as usize];
            let mut trips = 1;
            if let Step::Grow { dim, tile: inner }
            | Step::Spread {
                dim, tile: inner, ..
            } = step
            {
                let outer = std::mem::replace(&mut tile[usize::from(dim)], inner);
                trips = outer.div_ceil(inner);
            }
            steps.push((step, trips));
            at = before;
        }
        let count = self.space.segments.len();
        let (mut segment, mut fan) = (count - 1, count);
        for (step, trips) in steps.into_iter().rev() {
            match step {
                Step::Fan => {
                    let axes = |s: &usize| !self.space.segments[*s].axes.is_empty();
                    fan = (0..fan).rev().find(axes).unwrap_or(0);
                    segment = fan;
                }
                Step::Spread { .. } => {}
                Step::Grow { dim, .. } => stood.loose.push((usize::from(dim), trips)),
                Step::Keep { memory, .. } => stood.settle(rules, (segment, usize::from(memory))),
            }
        }
        stood
    }

    /// Where the outermost loops stand: the outermost home of operands that do not float.
    pub(super) fn outermost(&self) -> usize {
        let chains = self.placement.chains.iter().enumerate();
        let homes = chains.filter(|(o, _)| !self.placement.floats(*o));
        homes.map(|(_, c)| c[0].1).min().unwrap_or(0)
    }

    /// Whether a partial mapping with a storage just placed at a memory obeys so far; `done`: its storages placed.
    pub(super) fn permits(&self, site: &Site, s: &State, memory: usize, done: u32) -> bool {
        let rules = &self.space.rules;
        if rules.is_empty() {
            return true;
        }
        let stood = self.stood(s);
        let more = site.nodes.iter().enumerate();
        let mut more = more.filter(|(i, n)| done & (1 << i) == 0 && n.1 == memory);
        let open = more.next().is_some() || (site.segment == 0 && memory == self.outermost());
        let here = |r: &Rule| (r.segment, r.memory) == (site.segment, memory);
        !stood.broken && (0..rules.len()).all(|i| open || !here(&rules[i]) || stood.meets(rules, i))
    }

    /// Whether a whole segment obeys; `used`: bits of tiles in its memories.
    pub(super) fn closes(&self, segment: usize, s: &State, used: &[f64]) -> bool {
        let rules = &self.space.rules;
        if rules.is_empty() {
            return true;
        }
        let mut stood = self.stood(s);
        if segment == 0 {
            stood.loose.extend(self.rest(s).map(|d| {
                let trips = self.space.sizes[d].div_ceil(s.tile[d]);
                (d, trips)
            }));
            stood.settle(rules, (0, self.outermost()));
        }
        let here = |i: &usize| rules[*i].segment == segment;
        let met = |i: usize| stood.meets(rules, i) && used[rules[i].memory] >= rules[i].least;
        !stood.broken && (0..rules.len()).filter(here).all(met)
    }

    /// Dimensions of the outermost loops, innermost first.
    pub(super) fn rest(&self, s: &State) -> impl Iterator<Item = usize> {
        let turn = &self.space.segments[0].memories[self.outermost()].turn;
        let dims = 0..self.space.dims.len();
        let rest = turn.iter().copied().filter(move |d| dims.contains(d));
        rest.filter(|d| s.tile[*d] < self.space.sizes[*d])
    }

    /// What rules still depend on: partial mappings that differ in it are not compared.
    pub(super) fn progress(&self, s: &State) -> Vec<u32> {
        if self.space.rules.is_empty() {
            return Vec::new();
        }
        let stood = self.stood(s);
        let trips = stood.trips.into_iter().flatten();
        let last = stood.last.into_iter().map(|l| l as u32);
        let ruled = stood.loose.iter().filter(|l| self.space.ruled.has(l.0));
        let loose = ruled.flat_map(|(d, n)| [*d as u32, *n]);
        trips.chain(last).chain(loose).collect()
    }

    /// Whether the room that is used at a memory must come to a least.
    pub(super) fn filled(&self, segment: usize, memory: usize) -> bool {
        let mut rules = self.space.rules.iter();
        rules.any(|r| (r.segment, r.memory) == (segment, memory) && r.least > 0.0)
    }
}
