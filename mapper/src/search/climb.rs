//! Climbing: from a plan to a local optimum.
//!
//! Moves change one thing, or two where the first alone would not fit: a factor (with the tile outside it kept or
//! scaled), one factor up and another down, a factor from one level to the next, the place of a loop, the place
//! of a storage, a bypass, the assignment of axes. The best of each group of moves is taken if it is better;
//! a sweep over all groups that changes nothing ends the climb, or the budget does.

use super::estimate::Score;
use super::factors::Factors;
use super::frame::Frame;
use super::plan::{Few, Plan, Spread};

/// What climbing works with.
pub(super) struct Climb<'a, 'f> {
    pub frame: &'a Frame,
    pub spreads: &'a [Vec<Spread>],
    pub factors: &'f mut Factors,
    /// Whether to try all orders of loops together with the best places for storage below them.
    pub thorough: bool,
}

/// The best plan of a group of moves so far.
struct Best<'e> {
    plan: Plan,
    score: Score,
    improved: bool,
    left: u64,
    evaluate: &'e mut dyn FnMut(&Plan) -> Score,
}

impl Best<'_> {
    fn offer(&mut self, plan: &Plan) {
        self.try_out(plan);
    }

    /// Offers a plan; its score.
    fn try_out(&mut self, plan: &Plan) -> Score {
        if self.left == 0 {
            return Score::WORST;
        }
        self.left -= 1;
        let score = (self.evaluate)(plan);
        if score.beats(self.score) {
            self.score = score;
            self.plan.clone_from(plan);
            self.improved = true;
        }
        score
    }
}

/// All orders of up to four kinds; of more, the rotations.
fn permutations(kinds: &[u8]) -> Vec<Vec<u8>> {
    if kinds.len() > 4 {
        let rotated = |i: usize| kinds[i..].iter().chain(&kinds[..i]).copied().collect();
        return (0..kinds.len()).map(rotated).collect();
    }
    let mut all = vec![Vec::new()];
    for _ in kinds {
        let longer = |p: &Vec<u8>| {
            let p = p.clone();
            let rest: Vec<u8> = kinds.iter().copied().filter(|k| !p.contains(k)).collect();
            rest.into_iter()
                .map(move |k| p.iter().copied().chain([k]).collect::<Vec<u8>>())
                .collect::<Vec<_>>()
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

/// A deterministic stream of numbers.
#[derive(Debug)]
pub(super) struct Numbers(pub u64);

impl Numbers {
    /// The next number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound.max(1) as u64) as usize
    }
}

impl Climb<'_, '_> {
    /// Climbs from a plan of a known score with at most `budget` evaluations.
    pub fn climb(
        &mut self,
        plan: Plan,
        score: Score,
        budget: u64,
        evaluate: &mut dyn FnMut(&Plan) -> Score,
    ) -> (Plan, Score) {
        let mut best = Best {
            plan,
            score,
            improved: false,
            left: budget,
            evaluate,
        };
        while best.left > 0 {
            best.improved = false;
            self.spreading(&mut best);
            for level in (1..self.frame.levels.len()).rev() {
                self.keeping(&mut best, level);
                self.factoring(&mut best, level);
                self.ordering(&mut best, level);
            }
            self.ordering(&mut best, 0);
            if best.improved {
                continue;
            }
            self.respreading(&mut best);
            for level in (1..self.frame.levels.len()).rev() {
                self.exchanging(&mut best, level);
            }
            if !best.improved && self.thorough {
                for level in 1..self.frame.levels.len() {
                    self.placing(&mut best, level);
                }
            }
            if !best.improved {
                break;
            }
        }
        (best.plan, best.score)
    }

    /// The best orders of loops with the best places of storage, all else as it is.
    pub fn placed(
        &mut self,
        plan: Plan,
        score: Score,
        budget: u64,
        evaluate: &mut dyn FnMut(&Plan) -> Score,
    ) -> Plan {
        let mut best = Best {
            plan,
            score,
            improved: false,
            left: budget,
            evaluate,
        };
        for level in 1..self.frame.levels.len() {
            self.placing(&mut best, level);
        }
        best.plan
    }

    /// Other assignments of axes, and parts of the present one.
    fn spreading(&self, best: &mut Best) {
        let start = best.plan.clone();
        for i in 0..start.spreads.len() {
            let mut plan = start.clone();
            let factor = plan.spreads[i].factor;
            if factor > 2 {
                plan.spreads[i].factor = factor.div_ceil(2);
                best.offer(&plan);
            }
            plan.spreads.remove(i);
            best.offer(&plan);
        }
        let mut plan = best.plan.clone();
        for s in self.spreads {
            if s[..] != best.plan.spreads[..] {
                plan.spreads = Few::from_slice(s);
                best.offer(&plan);
            }
        }
    }

    /// Another dimension along one axis, the other axes as they are: assignments are listed by speed-up, which is not
    /// what matters where a memory binds.
    fn respreading(&self, best: &mut Best) {
        if self.spreads.is_empty() {
            return;
        }
        for (axis, a) in self.frame.axes.iter().enumerate() {
            let others = best.plan.spreads.iter().filter(|s| s.axis != axis);
            let others: Few<Spread> = others.copied().collect();
            let at = others.partition_point(|s| s.axis < axis);
            let mut plan = best.plan.clone();
            for &dim in &a.accepts {
                let taken = others.iter().filter(|s| s.dim == dim);
                let taken: u64 = taken.map(|s| s.factor).product();
                let factor = self.frame.dims[dim].size.div_ceil(taken).min(a.size);
                if factor > 1 {
                    plan.spreads.clone_from(&others);
                    plan.spreads.insert(at, Spread { axis, dim, factor });
                    best.offer(&plan);
                }
            }
        }
    }

    fn keeping(&self, best: &mut Best, level: usize) {
        let l = &self.frame.levels[level];
        let mut plan = best.plan.clone();
        for o in (0..3).filter(|o| l.allowed() & !l.required & (1 << o) != 0) {
            let keep = best.plan.layers[level].keep;
            plan.layers[level].keep = keep ^ (1 << o);
            best.offer(&plan);
        }
    }

    /// All factors of each dimension at a level.
    fn factoring(&mut self, best: &mut Best, level: usize) {
        for dim in 0..self.frame.dims.len() {
            let (inner, outer) = self.tiles(&best.plan, level, dim);
            let size = self.frame.dims[dim].size;
            if inner >= size {
                continue;
            }
            let now = best.plan.layers[level].factors[dim];
            let mut plan = best.plan.clone();
            let (above, spread) = if level > 1 {
                let above = plan.layers[level - 1].factors[dim];
                (above, self.spread_below(&plan, level - 1, dim))
            } else {
                (1, 1)
            };
            for &f in self.factors.of(size.div_ceil(inner)).iter() {
                if f != now {
                    plan.layers[level].factors[dim] = f;
                    best.offer(&plan);
                }
                // The same with the tile outside kept as it is, by the factor of the level above.
                if level > 1 && f != now {
                    let rest = outer
                        .div_ceil(inner.saturating_mul(f).saturating_mul(spread))
                        .max(1);
                    if rest != above {
                        plan.layers[level - 1].factors[dim] = rest;
                        best.offer(&plan);
                        plan.layers[level - 1].factors[dim] = above;
                    }
                }
            }
        }
    }

    /// The places of the loops of a level, and of the storage below them.
    fn ordering(&self, best: &mut Best, level: usize) {
        let active: Few<usize> = best.plan.layers[level]
            .order
            .iter()
            .copied()
            .filter(|d| self.loops(&best.plan, level, *d))
            .collect();
        if active.len() > 1 {
            let mut plan = best.plan.clone();
            let order = &plan.layers[level].order;
            let idle: Few<usize> = order
                .iter()
                .copied()
                .filter(|d| !active.contains(d))
                .collect();
            for (i, dim) in active.iter().enumerate() {
                for j in (0..active.len()).filter(|j| *j != i) {
                    let order = &mut plan.layers[level].order;
                    order.clear();
                    order.extend(idle.iter().chain(&active).copied());
                    order.remove(idle.len() + i);
                    order.insert(idle.len() + j, *dim);
                    best.offer(&plan);
                }
            }
        }
        let below = level + 1;
        if below >= best.plan.layers.len() || !self.frame.levels[level].fans.is_empty() {
            return;
        }
        let mut plan = best.plan.clone();
        let places = self.places(&plan, level);
        let layer = &plan.layers[below];
        let (keep, hoist) = (layer.keep, layer.hoist);
        for o in (0..3).filter(|o| keep & (1 << o) != 0) {
            for p in places.iter().filter(|p| **p != hoist[o]) {
                plan.layers[below].hoist[o] = *p;
                best.offer(&plan);
            }
            plan.layers[below].hoist[o] = hoist[o];
        }
    }

    /// Orders of the loops above a level, dimensions of equal operands side by side; for each the places of the
    /// storage below, one operand after the other.
    fn placing(&self, best: &mut Best, level: usize) {
        let above = level - 1;
        if !self.frame.levels[above].fans.is_empty() {
            return;
        }
        let start = best.plan.clone();
        let l = &self.frame.levels[level];
        let mut kinds: Vec<u8> = self.frame.dims.iter().map(|d| d.operands).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let free = l.allowed() & !l.required;
        for order in permutations(&kinds) {
            let mut plan = start.clone();
            let rank = |d: &usize| {
                order
                    .iter()
                    .position(|k| *k == self.frame.dims[*d].operands)
            };
            plan.layers[above].order.sort_by_key(rank);
            let places = self.places(&plan, above);
            for first in 0..3 {
                for step in [1, 2] {
                    let (keep, hoist) =
                        (start.layers[level].keep & !free, start.layers[level].hoist);
                    plan.layers[level].keep = keep;
                    plan.layers[level].hoist = hoist;
                    for o in [first, (first + step) % 3, (first + 2 * step) % 3] {
                        if l.allowed() & (1 << o) == 0 {
                            continue;
                        }
                        let without = plan.layers[level].keep;
                        let mut taken = (best.try_out(&plan), without, plan.layers[level].hoist[o]);
                        plan.layers[level].keep |= 1 << o;
                        for p in &places {
                            plan.layers[level].hoist[o] = *p;
                            let score = best.try_out(&plan);
                            if score.beats(taken.0) {
                                taken = (score, without | 1 << o, *p);
                            }
                        }
                        (plan.layers[level].keep, plan.layers[level].hoist[o]) = (taken.1, taken.2);
                    }
                }
            }
        }
    }

    /// Places among the loops of a level where storage may stand: before each loop, and below all of them.
    fn places(&self, plan: &Plan, level: usize) -> Few<usize> {
        let order = &plan.layers[level].order;
        let loops = (0..order.len()).filter(|p| self.loops(plan, level, order[*p]));
        loops.chain([order.len()]).collect()
    }

    /// One dimension's factor up and another's down, at the same level.
    fn exchanging(&mut self, best: &mut Best, level: usize) {
        let n = self.frame.dims.len();
        for up in 0..n {
            for down in (0..n).filter(|d| *d != up) {
                let mut plan = best.plan.clone();
                let now = plan.layers[level].factors[up];
                let steps = |s: &mut Self, dim: usize| {
                    let inner = s.tiles(&plan, level, dim).0;
                    let list = s.factors.of(s.frame.dims[dim].size.div_ceil(inner).max(1));
                    let now = plan.layers[level].factors[dim];
                    (list.partition_point(|f| *f < now), list)
                };
                let (at_up, ups) = steps(self, up);
                let (at_down, downs) = steps(self, down);
                for &more in ups.iter().skip(at_up + 1).take(2).chain(ups.last()) {
                    for &less in downs[..at_down.min(downs.len())].iter().rev().take(3) {
                        if more > now {
                            plan.layers[level].factors[up] = more;
                            plan.layers[level].factors[down] = less;
                            best.offer(&plan);
                        }
                    }
                }
            }
        }
    }

    /// Iterations of a dimension in space below a level's loops, before the next level.
    fn spread_below(&self, plan: &Plan, level: usize, dim: usize) -> u64 {
        let axes = self.frame.levels[level].axes();
        plan.spreads
            .iter()
            .filter(|s| s.dim == dim && axes.contains(&s.axis))
            .map(|s| s.factor)
            .product()
    }

    /// Tiles of a dimension inside a level's loops and outside the loops of the level above it (not cut off).
    fn tiles(&self, plan: &Plan, level: usize, dim: usize) -> (u64, u64) {
        let mut tile = 1u64;
        for l in (level + 1..plan.layers.len()).rev() {
            tile = tile
                .saturating_mul(self.spread_below(plan, l, dim))
                .saturating_mul(plan.layers[l].factors[dim]);
        }
        let inner = tile.saturating_mul(self.spread_below(plan, level, dim));
        let mut outer = inner.saturating_mul(plan.layers[level].factors[dim]);
        if level > 1 {
            let above = self.spread_below(plan, level - 1, dim);
            outer = outer
                .saturating_mul(above)
                .saturating_mul(plan.layers[level - 1].factors[dim]);
        }
        (inner, outer)
    }

    /// Whether a dimension has a loop in time at a level.
    fn loops(&self, plan: &Plan, level: usize, dim: usize) -> bool {
        let (inner, _) = self.tiles(plan, level, dim);
        inner < self.frame.dims[dim].size && (level == 0 || plan.layers[level].factors[dim] > 1)
    }

    /// Changes a plan in a few places at random.
    pub fn kicked(&mut self, mut plan: Plan, numbers: &mut Numbers) -> Plan {
        let (n, levels) = (self.frame.dims.len(), self.frame.levels.len());
        for _ in 0..2 + numbers.below(3) {
            let level = numbers.below(levels);
            let layer = &mut plan.layers[level];
            match numbers.below(5) {
                0 if level > 0 => {
                    let l = &self.frame.levels[level];
                    layer.keep ^= l.allowed() & !l.required & (1 << numbers.below(3));
                }
                1 if level > 0 => layer.hoist[numbers.below(3)] = numbers.below(n + 1),
                2 if n > 1 => layer.order.swap(numbers.below(n), numbers.below(n)),
                3 if !self.spreads.is_empty() => {
                    plan.spreads =
                        Few::from_slice(&self.spreads[numbers.below(self.spreads.len())]);
                }
                _ if level > 0 && n > 0 => {
                    let dim = numbers.below(n);
                    let list = self.factors.of(self.frame.dims[dim].size);
                    plan.layers[level].factors[dim] = list[numbers.below(list.len())];
                }
                _ => {}
            }
        }
        plan
    }

    /// Grows the tiles of every level, from the inside out, as long as they fit: all dimensions alike.
    pub fn filled(&mut self, mut plan: Plan, fits: &mut dyn FnMut(&Plan) -> bool) -> Plan {
        for level in (1..plan.layers.len()).rev() {
            let mut open: Vec<usize> = (0..self.frame.dims.len()).collect();
            while !open.is_empty() {
                open.retain(|&dim| {
                    let (inner, _) = self.tiles(&plan, level, dim);
                    let now = plan.layers[level].factors[dim];
                    let size = self.frame.dims[dim].size;
                    if inner.saturating_mul(now) >= size {
                        return false;
                    }
                    plan.layers[level].factors[dim] = now * 2;
                    let ok = fits(&plan);
                    if !ok {
                        plan.layers[level].factors[dim] = now;
                    }
                    ok
                });
            }
        }
        plan
    }
}
