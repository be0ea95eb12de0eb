//! The end of a segment; the end of the outermost one is a whole mapping.

use super::front::Front;
use super::{Common, Goal, Local, NONE, Part, Score, Search, State, Step, Tiles, least};
use crate::conventions::{Convention, evaluate};
use crate::hierarchy::Mask;
use crate::optimum::placement::tree;
use crate::optimum::space::{MEMORIES, Tile};

impl Search<'_> {
    /// All storages of a segment are placed.
    pub(super) fn close(
        &mut self,
        segment: usize,
        local: &Local,
        goal: &mut Goal,
        keep: &mut Front,
    ) {
        let mut local = *local;
        if !self.closes(segment, &local.state, &local.used) {
            return;
        }
        if segment == 0 {
            let top = self.space.operands.get(usize::from(local.state.top));
            let indexed = top.map_or(Mask::ALL, |o| o.indexed.or(self.space.ruled));
            let open = (0..self.space.dims.len())
                .any(|d| !indexed.has(d) && local.state.tile[d] < self.space.sizes[d]);
            if open {
                self.unhelpful(local.state.node);
                return;
            }
            for o in (0..self.space.operands.len()).filter(|o| !self.placement.floats(*o)) {
                let home = self.placement.chains[o][0].1;
                self.serve(segment, &mut local, o, home);
            }
        }
        self.settle(segment, &mut local);
        if segment > 0 {
            if self.worse((segment, 0), &mut local.state, goal) {
                self.work.bounded += 1;
                self.bounded((segment, 0), &local.state, goal);
            } else {
                let needless = keep.add(self, (segment, 0), local.state, goal.compares());
                self.needless(needless);
            }
            return;
        }
        for point in local.state.alive.iter() {
            self.end_at(point, &local, goal);
        }
    }

    /// A whole mapping at a point.
    fn end_at(&mut self, point: usize, local: &Local, goal: &mut Goal) {
        let s = &local.state;
        let prices = &self.space.prices;
        let energy =
            prices.compute[point] + prices.energy(point, &s.moved) - prices.energy(point, &s.saved);
        let time = s.ports.iter().fold(s.time, |t, p| t.max(p.0 - p.1));
        let cycles = time * self.space.operations / self.space.compute_rate;
        let score = self.score(energy, time, goal);
        self.whole(local.state.node, score);
        if goal.targets[point].refuses(score) {
            return;
        }
        // Partial tiles: counts below fans are bounds; the exact ones decide.
        let (mut energy, mut cycles, mut score) = (energy, cycles, score);
        if !self.space.perfect
            && let Some((e, t)) = self.told(point, local)
        {
            let exact = Score::new(self.objective, e + goal.beside.0, t + goal.beside.1);
            if score.0 < exact.0 * (1.0 - 1e-12) {
                let target = &mut goal.targets[point];
                target.least = least(target.least, Some(score.0));
            }
            (energy, cycles, score) = (e, t, exact);
        }
        if goal.targets[point].refuses(score) {
            return;
        }
        if goal.near.is_some() {
            let part = self.part(local, energy, cycles);
            goal.nearly(score, part);
            return;
        }
        if let Some(parts) = &mut goal.parts {
            parts.add(self.part(local, energy, cycles));
            return;
        }
        let target = &mut goal.targets[point];
        target.limit = Some(score);
        target.best = Some(self.part(local, energy, cycles));
    }

    /// Energy and cycles of a whole mapping at a point, counted by the convention itself.
    fn told(&self, point: usize, local: &Local) -> Option<(f64, f64)> {
        let (einsum, hierarchies) = self.exact?;
        let tree = tree(self.space, self.placement, &self.trail(&local.state));
        let hierarchy = hierarchies.get(point)?;
        let told = evaluate(Convention::AccelForge, einsum, hierarchy, &tree).ok()?;
        Some((told.energy_total(), told.cycles))
    }

    pub(super) fn kept(&self, o: usize, memory: usize, tile: &Tile) -> Tiles {
        let ranks = self.space.operands[o].ranks.iter();
        let tile = ranks.map(|d| d.map_or(1, |d| tile[d])).collect();
        Some((memory, tile))
    }

    /// Tiles at storages from the outermost one to the innermost home of a floating operand.
    fn cuts(&self, steps: &[Step]) -> Vec<Tile> {
        let mut tile = self.space.sizes;
        let mut homes = self.placement.floating.iter().flatten().count();
        let mut cuts: Vec<Tile> = Vec::new();
        for step in steps.iter().rev() {
            match *step {
                _ if homes == 0 => break,
                Step::Grow { dim, tile: t } | Step::Spread { dim, tile: t, .. } => {
                    tile[usize::from(dim)] = t;
                }
                Step::Keep { operand, memory } => {
                    if cuts.last() != Some(&tile) {
                        cuts.push(tile);
                    }
                    let o = usize::from(operand);
                    let home = self.placement.chains[o][0] == (0, usize::from(memory));
                    homes -= usize::from(home && self.placement.floats(o));
                }
                Step::Fan => {}
            }
        }
        cuts
    }

    /// What is kept outside the home of a floating operand, of tensors that other einsums read too.
    fn common(&self, floating: usize, steps: &[Step]) -> Vec<Common> {
        if self.space.common.iter().all(Option::is_none) {
            return Vec::new();
        }
        let kept = |o: usize, memory: usize, tile: &Tile| {
            let ranks = self.space.operands[o].ranks.iter();
            Some(Common {
                tensor: self.space.common[o]?,
                memory,
                tile: ranks.map(|d| d.map_or(1, |d| tile[d])).collect(),
                bits: self.words(o, tile) * self.memory((0, memory)).bits[o],
            })
        };
        let mut tile = self.space.sizes;
        let chains = self.placement.chains.iter().enumerate();
        let homes = chains.filter(|(o, _)| !self.placement.floats(*o));
        let mut common: Vec<Common> = homes
            .filter_map(|(o, chain)| kept(o, chain[0].1, &tile))
            .collect();
        for step in steps.iter().rev() {
            match *step {
                Step::Grow { dim, tile: t } | Step::Spread { dim, tile: t, .. } => {
                    tile[usize::from(dim)] = t;
                }
                Step::Keep { operand, .. } if usize::from(operand) == floating => break,
                Step::Keep { operand, memory } => {
                    common.extend(kept(usize::from(operand), usize::from(memory), &tile));
                }
                Step::Fan => {}
            }
        }
        common
    }

    fn part(&self, local: &Local, energy: f64, cycles: f64) -> Part {
        let steps = self.trail(&local.state);
        let mut part = Part {
            tiles: [None, None],
            moved: std::array::from_fn(|c| local.state.moved[c] - local.state.saved[c]),
            energy,
            cycles,
            used: [0.0; MEMORIES],
            outside: [[0.0; MEMORIES]; 2],
            common: [Vec::new(), Vec::new()],
            cuts: self.cuts(&steps),
            steps,
            placement: self.index,
        };
        let memories = self.space.segments[0].memories.iter().enumerate();
        let limited: Vec<usize> = memories
            .filter(|(_, m)| m.capacity.is_finite())
            .map(|(m, _)| m)
            .collect();
        let homes = self.homes();
        for (side, o) in self.placement.floating.iter().enumerate() {
            let Some(o) = *o else { continue };
            let (used, tile) = self.floats[local.floats[side] as usize];
            part.tiles[side] = self.kept(o, self.placement.chains[o][0].1, &tile);
            for &m in &limited {
                part.used[m] = local.used[m];
                part.outside[side][m] = local.used[m] - (used[m] - homes[m]);
            }
            part.common[side] = self.common(o, &part.steps);
        }
        part
    }

    /// Takes the busy times of a segment's ports into the time; those whose first visits depend on what lies
    /// outside are kept beside it.
    fn settle(&self, segment: usize, local: &mut Local) {
        let scale = self.space.compute_rate / self.space.operations;
        let s = &mut local.state;
        for (m, memory) in self.space.segments[segment].memories.iter().enumerate() {
            let ports = &local.ports[memory.gate..][..memory.ports];
            for (p, (cycles, saved)) in ports.iter().enumerate() {
                if *saved > 0.0 && self.limits[segment][0].unindexed > 1.0 {
                    if let Some(slot) = self.slots.iter().position(|x| *x == (segment, m, p)) {
                        s.ports[slot] = (cycles * scale, saved * scale);
                    }
                    let least = cycles - saved * self.limits[segment][0].unindexed;
                    s.time = s.time.max(least * scale);
                } else {
                    s.time = s.time.max((cycles - saved) * scale);
                }
            }
        }
    }

    /// The steps of a whole mapping, from the inside out.
    pub(super) fn trail(&self, s: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut at = s.steps;
        while at != NONE {
            let (before, step) = self.arena[at as usize];
            steps.push(step);
            at = before;
        }
        steps.reverse();
        steps.extend(self.rest(s).map(|d| Step::Grow {
            dim: d as u8,
            tile: s.tile[d],
        }));
        steps
    }
}
