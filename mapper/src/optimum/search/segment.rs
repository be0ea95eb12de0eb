//! Storages of a segment, from the inside out, and the loops in time between them.

use super::front::{Front, Layer};
use super::{Goal, Local, NONE, Room, Search, Site, State, Step};
use crate::hierarchy::Mask;
use crate::optimum::prices::Points;
use crate::optimum::space::{GATES, MEMORIES, Tile};

/// Partial mappings that are still made whole when a search is cut off.
const CLOSED: usize = 64;

impl Search<'_> {
    /// All ways to place a segment's storages and the loops between them, one storage after the other.
    pub(super) fn segment(
        &mut self,
        segment: usize,
        mut states: Vec<State>,
        goal: &mut Goal,
        beam: Option<usize>,
    ) -> Vec<State> {
        let site = Site {
            segment,
            nodes: self.nodes(segment),
        };
        self.sort(segment, &mut states, goal, |s| s);
        states.truncate(beam.unwrap_or(usize::MAX));
        let mut layer: Vec<Local> = states.iter().map(|s| self.local(segment, s)).collect();
        for _ in 0..site.nodes.len() {
            let mut next = Layer::default();
            for local in &mut layer {
                if self.worse((segment, 0), &mut local.state, goal) {
                    self.work.bounded += 1;
                    self.bounded((segment, 0), &local.state, goal);
                } else {
                    self.extend(&site, local, goal, &mut next);
                    if self.work.cut {
                        let bound = self.bound((segment, 0), &local.state, goal);
                        self.work.leave(bound.0);
                    }
                }
            }
            self.work.dominated += next.dominated;
            layer = next.locals;
            self.sort(segment, &mut layer, goal, |l| &l.state);
            layer.truncate(beam.unwrap_or(usize::MAX));
        }
        let mut keep = Front::default();
        let mut closed = 0;
        for local in &layer {
            if self.spent() && closed >= CLOSED {
                let bound = self.bound((segment, 0), &local.state, goal);
                self.work.leave(bound.0);
                continue;
            }
            closed += 1;
            self.close(segment, local, goal, &mut keep);
        }
        self.work.dominated += keep.dominated;
        let mut states = keep.states;
        if let Some(beam) = beam {
            self.sort(segment, &mut states, goal, |s| s);
            states.truncate(beam);
        }
        states
    }

    /// Sorts by bound, least first.
    fn sort<T>(&self, segment: usize, all: &mut [T], goal: &Goal, state: fn(&T) -> &State) {
        all.sort_by_cached_key(|x| {
            let bound = self.bound((segment, 0), state(x), goal);
            (bound.0.to_bits(), bound.1.to_bits())
        });
    }

    /// The start in a segment.
    pub(super) fn local(&self, segment: usize, s: &State) -> Local {
        let mut local = Local {
            state: *s,
            done: 0,
            touching: None,
            used: [0.0; MEMORIES],
            ports: [(0.0, 0.0); GATES],
            floats: [NONE; 2],
        };
        if segment == 0 {
            local.used = self.homes();
        }
        local
    }

    /// Room of whole tensors at home.
    pub(super) fn homes(&self) -> Room {
        let mut used = [0.0; MEMORIES];
        for (o, chain) in self.placement.chains.iter().enumerate() {
            if self.placement.floats(o) {
                continue;
            }
            let m = chain[0].1;
            let operand = &self.space.operands[o];
            let whole: f64 = operand
                .windows
                .iter()
                .map(|w| w.reach(&self.space.sizes))
                .product();
            used[m] += operand.plain_size * whole * self.memory(chain[0]).bits[o];
        }
        used
    }

    /// Storages below the homes in a segment, and floating homes: (operand, memory).
    fn nodes(&self, segment: usize) -> Vec<(usize, usize)> {
        let mut nodes = Vec::new();
        for (o, chain) in self.placement.chains.iter().enumerate() {
            nodes.extend(
                chain
                    .iter()
                    .skip(usize::from(!self.placement.floats(o)))
                    .filter(|n| n.0 == segment)
                    .map(|n| (o, n.1)),
            );
        }
        nodes
    }

    /// Chooses the next storage outwards, with the loops between.
    fn extend(&mut self, site: &Site, local: &Local, goal: &Goal, next: &mut Layer) {
        for (i, (o, m)) in site.nodes.iter().enumerate() {
            // The storages of one operand go from the inside out.
            let inner = usize::from(local.state.placed[*o]).checked_sub(1);
            let here = inner.map(|n| self.placement.chains[*o][n]);
            if local.done & (1 << i) != 0 || here != Some((site.segment, *m)) {
                continue;
            }
            let allowed = self.helpful(usize::from(local.state.top), *o);
            let mut served = *local;
            self.serve(site.segment, &mut served, *o, *m);
            served.state.placed[*o] -= 1;
            self.block(site, i, allowed, 0, &served, goal, next);
        }
    }

    /// Dimensions whose loops help between a storage of operand `outer` and one of `inner` inside it: relevant to
    /// the inner one (others are better further in) and not plainly relevant to the outer one (those are better
    /// further out).
    fn helpful(&self, inner: usize, outer: usize) -> Mask {
        let inner = self.space.operands.get(inner);
        // What constraints tell apart by where it stands is nowhere as good.
        let indexed = inner.map_or(Mask::ALL, |o| o.indexed.or(self.space.ruled));
        // Loops inside a floating home are not better further out: they would be shared.
        if self.placement.floats(outer) {
            return indexed;
        }
        let plain = self.space.operands[outer].plain;
        indexed.minus(plain.minus(self.space.ruled))
    }

    /// Loops in time below a storage, from the `turn`-th dimension on; then the storage.
    #[allow(clippy::too_many_arguments)]
    fn block(
        &mut self,
        site: &Site,
        node: usize,
        allowed: Mask,
        turn: usize,
        local: &Local,
        goal: &Goal,
        next: &mut Layer,
    ) {
        if self.spent() {
            return;
        }
        let turns = &self.memory((site.segment, site.nodes[node].1)).turn;
        let count = self.space.dims.len();
        let open = |t: &usize| turns[*t] < count && allowed.has(turns[*t]);
        let Some(turn) = (turn..turns.len()).find(open) else {
            self.store(site, node, local, goal, next);
            return;
        };
        let dim = turns[turn];
        self.block(site, node, allowed, turn + 1, local, goal, next);
        let tile = local.state.tile[dim];
        let options = self.ladder(dim, tile);
        let step = Step::Grow {
            dim: dim as u8,
            tile,
        };
        let mut grown = *local;
        grown.touching = None;
        let fitting = options.partition_point(|outer| {
            grown.state.tile[dim] = *outer;
            !self.fitting(site, &grown).is_empty()
        });
        if self.record.is_some()
            && let Some(outer) = options.get(fitting)
        {
            grown.state.tile[dim] = *outer;
            grown.state.steps = self.push(local.state.steps, step);
            self.too_large(site, node, &grown.state);
        }
        // The largest first: what a smaller one costs is no less.
        let later = (turn + 1..turns.len()).map(|t| turns[t]);
        let later = later.filter(|d| *d < count && allowed.has(*d));
        let later = later.fold(Mask::NONE, Mask::with);
        let mut alive = local.state.alive;
        for outer in options[..fitting].iter().rev() {
            grown.state.tile[dim] = *outer;
            // Where a larger tile does not fit, a smaller one may.
            grown.state.alive = alive;
            grown.state.alive = self.fitting(site, &grown);
            let hopeless = self.hopeless(site, node, later, &grown.state, goal);
            alive = alive.minus(hopeless);
            grown.state.alive = grown.state.alive.minus(hopeless);
            if alive.is_empty() {
                self.work.bounded += 1;
                break;
            }
            if grown.state.alive.is_empty() {
                continue;
            }
            grown.state.steps = self.push(local.state.steps, step);
            self.block(site, node, allowed, turn + 1, &grown, goal, next);
        }
    }

    /// The points at which a storage that has been served, but not yet placed, cannot become part of something better
    /// with tiles as they are here, or smaller ones, but for those of dimensions `later`.
    fn hopeless(&self, site: &Site, node: usize, later: Mask, s: &State, goal: &Goal) -> Points {
        let (o, m) = site.nodes[node];
        let operand = &self.space.operands[o];
        let windows = operand.is_output && !operand.windows.is_empty();
        if windows || self.record.is_some() || self.placement.floats(o) {
            return Points::NONE;
        }
        let mut entering = operand.least;
        for d in (0..self.space.dims.len()).filter(|d| !operand.indexed.has(*d) && !later.has(*d)) {
            entering *= f64::from(self.space.sizes[d].div_ceil(s.tile[d]));
        }
        let mut filled = *s;
        self.take(site, (o, m), entering, &mut filled);
        self.worse((site.segment, 0), &mut filled, goal);
        s.alive.minus(filled.alive)
    }

    /// Counts the energy of what enters a storage, and what it asks for.
    fn take(&self, site: &Site, (o, m): (usize, usize), entering: f64, s: &mut State) {
        let rates = &self.memory((site.segment, m)).rates[o];
        let operand = &self.space.operands[o];
        s.asked[o] = entering;
        if operand.is_output {
            s.first = operand.plain_size
                * operand
                    .windows
                    .iter()
                    .map(|w| w.entering(&self.space.sizes, &s.kept[o], None))
                    .product::<f64>();
            rates.energy[1].count(entering, &mut s.moved);
            rates.energy[0].count(s.first, &mut s.saved);
        }
        rates.energy[0].count(entering, &mut s.moved);
    }

    /// The points at which the storages still to come in a segment fit with tiles no larger than here.
    fn fitting(&self, site: &Site, local: &Local) -> Points {
        let memories = &self.space.segments[site.segment].memories;
        let mut used = local.used;
        for (i, (o, m)) in site.nodes.iter().enumerate() {
            if local.done & (1 << i) == 0 {
                used[*m] += self.words(*o, &local.state.tile) * memories[*m].bits[*o];
            }
        }
        local.state.alive.and(self.holds(site.segment, &used))
    }

    pub(super) fn words(&self, o: usize, tile: &Tile) -> f64 {
        let operand = &self.space.operands[o];
        let plain = (0..self.space.dims.len()).filter(|d| operand.plain.has(*d));
        plain.map(|d| f64::from(tile[d])).product::<f64>()
            * operand
                .windows
                .iter()
                .map(|w| w.reach(tile))
                .product::<f64>()
    }

    /// Elements that a storage of an operand takes in over all its tiles.
    fn entering(&self, o: usize, tile: &Tile, slid: Option<(usize, u32)>) -> f64 {
        let operand = &self.space.operands[o];
        let sizes = &self.space.sizes;
        let mut total = operand.plain_size;
        for d in (0..self.space.dims.len()).filter(|d| !operand.indexed.has(*d)) {
            total *= f64::from(sizes[d].div_ceil(tile[d]));
        }
        for window in &operand.windows {
            total *= window.entering(sizes, tile, slid);
        }
        total
    }

    /// Serves what is inside from a memory.
    pub(super) fn serve(&self, segment: usize, local: &mut Local, o: usize, m: usize) {
        let memory = &self.space.segments[segment].memories[m];
        let rates = &memory.rates[o];
        let ports = &mut local.ports[memory.gate..][..memory.ports];
        let s = &mut local.state;
        let asked = s.asked[o];
        if self.space.operands[o].is_output {
            rates.energy[2].count(asked, &mut s.moved);
            rates.energy[3].count(asked, &mut s.moved);
            rates.energy[2].count(s.first, &mut s.saved);
            for (p, port) in ports.iter_mut().enumerate() {
                port.0 += asked * (rates.cycles[2][p] + rates.cycles[3][p]);
                port.1 += s.first * rates.cycles[2][p];
            }
        } else {
            rates.energy[2].count(asked, &mut s.moved);
            for (p, port) in ports.iter_mut().enumerate() {
                port.0 += asked * rates.cycles[2][p];
            }
        }
    }

    /// Places a storage, with and without a loop that slides directly above it.
    fn store(&mut self, site: &Site, node: usize, local: &Local, goal: &Goal, next: &mut Layer) {
        self.work.expanded += 1;
        let (o, m) = site.nodes[node];
        let operand = &self.space.operands[o];
        let home = self.placement.floats(o) && local.state.placed[o] == 0;
        // Two storages without a loop between are told in one order only, unless it matters outside.
        let swaps = operand.slides.is_empty() && !home && self.space.rules.is_empty();
        let twice = swaps && local.touching.is_some_and(|t| t > o);
        // Loops shared with a neighbour index the operand.
        let shared =
            |d: usize| operand.indexed.has(d) || local.state.tile[d] == self.space.sizes[d];
        let broken = home && !(0..self.space.dims.len()).all(shared);
        if twice || broken {
            return;
        }
        let alive = self.fitting(site, local);
        if alive.is_empty() {
            self.too_large(site, node, &local.state);
            return;
        }
        let mut placed = *local;
        placed.state.alive = alive;
        placed.done |= 1 << node;
        placed.touching = Some(o);
        placed.used[m] += self.words(o, &local.state.tile) * self.memory((site.segment, m)).bits[o];
        placed.state.top = o as u8;
        placed.state.steps = self.push(
            local.state.steps,
            Step::Keep {
                operand: o as u8,
                memory: m as u8,
            },
        );
        if !self.permits(site, &placed.state, m, placed.done) {
            return;
        }
        if home {
            self.float(site, (o, m), placed, goal, next);
            return;
        }
        self.fill(site, (o, m), &placed, None, goal, next);
        let slides = operand.slides;
        for d in (0..self.space.dims.len()).filter(|d| slides.has(*d)) {
            let tile = local.state.tile[d];
            let options = self.ladder(d, tile);
            for outer in options.iter() {
                let mut slid = placed;
                slid.state.tile[d] = *outer;
                slid.touching = None;
                slid.state.steps = self.push(placed.state.steps, Step::Grow { dim: d as u8, tile });
                let alive = self.fitting(site, &slid);
                if alive.is_empty() {
                    self.too_large(site, node, &slid.state);
                    break;
                }
                slid.state.alive = alive;
                self.fill(site, (o, m), &slid, Some((d, tile)), goal, next);
            }
        }
    }

    /// Places the home of a floating operand.
    fn float(
        &mut self,
        site: &Site,
        (o, m): (usize, usize),
        mut placed: Local,
        goal: &Goal,
        next: &mut Layer,
    ) {
        let side = usize::from(self.placement.floating[1] == Some(o));
        let tile = placed.state.tile;
        if let Some(asked) = &goal.asked[side]
            && *asked != self.kept(o, m, &tile)
        {
            return;
        }
        placed.floats[side] = self.floats.len() as u32;
        self.floats.push((placed.used, tile));
        placed.state.asked[o] = 0.0;
        if self.space.operands[o].is_output {
            placed.state.first = 0.0;
        }
        self.offer(site, placed, goal, next);
    }

    /// Notes dimensions along which a storage takes tiles that do not divide them, or windows.
    fn note_uneven(&self, o: usize, tile: &Tile, s: &mut State) {
        let operand = &self.space.operands[o];
        let uneven = |d: &usize| {
            let divides = self.space.sizes[*d].is_multiple_of(tile[*d]);
            !operand.plain.has(*d) && (operand.indexed.has(*d) || !divides)
        };
        let dims = (0..self.space.dims.len()).filter(uneven);
        s.uneven = dims.fold(s.uneven, Mask::with);
    }

    /// Counts what fills a storage.
    fn fill(
        &mut self,
        site: &Site,
        (o, m): (usize, usize),
        local: &Local,
        slid: Option<(usize, u32)>,
        goal: &Goal,
        next: &mut Layer,
    ) {
        let mut filled = *local;
        let mut tile = local.state.tile;
        let outer = slid.map(|(d, inner)| {
            let outer = tile[d];
            tile[d] = inner;
            (d, outer)
        });
        let entering = self.entering(o, &tile, outer);
        let memory = self.memory((site.segment, m));
        let rates = &memory.rates[o];
        filled.state.kept[o] = tile;
        self.note_uneven(o, &tile, &mut filled.state);
        self.take(site, (o, m), entering, &mut filled.state);
        let first = filled.state.first;
        let ports = &mut filled.ports[memory.gate..][..memory.ports];
        if self.space.operands[o].is_output {
            for (p, port) in ports.iter_mut().enumerate() {
                port.0 += entering * (rates.cycles[0][p] + rates.cycles[1][p]);
                port.1 += first * rates.cycles[0][p];
            }
        } else {
            for (p, port) in ports.iter_mut().enumerate() {
                port.0 += entering * rates.cycles[0][p];
            }
        }
        self.offer(site, filled, goal, next);
    }

    fn offer(&mut self, site: &Site, mut local: Local, goal: &Goal, next: &mut Layer) {
        self.keep_noted(site, &mut local.state);
        if self.worse((site.segment, 0), &mut local.state, goal) {
            self.work.bounded += 1;
            self.bounded((site.segment, 0), &local.state, goal);
        } else {
            let needless = next.add(self, site, local, goal.compares());
            self.needless(needless);
        }
    }
}
