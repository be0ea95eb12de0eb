//! Which partial mappings are needless, because another one is at least as good in everything that matters.

use rustc_hash::FxHashMap;

use super::{Local, Place, Search, Site, State};
use crate::optimum::prices::Points;
use crate::optimum::space::{MEMORIES, Tile};

impl Search<'_> {
    /// The points at which a partial mapping is at least as good as another with the same tiles and operand, of those
    /// at which both may be best. What is worse at a point where it cannot be best is needless there by its own bound.
    pub(super) fn no_worse(&self, (segment, axes): Place, a: &State, b: &State) -> Points {
        let spread = self.limits[segment][axes].unindexed;
        let settled = |(cost, saved): (f64, f64), (more, less): (f64, f64)| {
            cost - saved <= more - less && cost - saved * spread <= more - less * spread
        };
        let both = a.alive.and(b.alive);
        let no_worse = !both.is_empty()
            && a.time <= b.time
            && a.compute <= b.compute
            && a.first >= b.first
            && a.asked.iter().zip(&b.asked).all(|(x, y)| x <= y)
            && a.ports.iter().zip(&b.ports).all(|(x, y)| settled(*x, *y))
            && (self.space.perfect || self.alike((segment, axes), a, b));
        if !no_worse {
            return Points::NONE;
        }
        let prices = &self.space.prices;
        let columns = 0..prices.columns;
        let mut all = columns
            .into_iter()
            .map(|c| settled((a.moved[c], a.saved[c]), (b.moved[c], b.saved[c])));
        if all.all(|c| c) {
            return both;
        }
        if prices.columns == 1 {
            return Points::NONE;
        }
        let told = |p: usize, s: &State| (prices.energy(p, &s.moved), prices.energy(p, &s.saved));
        let here = both.iter().filter(|p| settled(told(*p, a), told(*p, b)));
        here.map(Points::one).fold(Points::NONE, Points::or)
    }

    /// Whether partial tiles of two partial mappings are counted the same by the axes still to come: those change
    /// what is told of dimensions whose tiles do not divide them, and within a fan nothing is told exactly yet.
    fn alike(&self, (segment, axes): Place, a: &State, b: &State) -> bool {
        let open = self.limits[segment][axes].dims;
        if open.is_empty() {
            return true;
        }
        let all = self.space.segments[segment].axes.len();
        let inside = 0 < axes && axes < all;
        if inside && (a.below != b.below || all > 2) {
            return false;
        }
        let even = |dim: usize, tile: u32| self.space.sizes[dim].is_multiple_of(tile);
        (0..self.space.dims.len())
            .filter(|d| open.has(*d))
            .all(|d| {
                self.space.operands.iter().enumerate().all(|(o, operand)| {
                    let (x, y) = (a.kept[o][d], b.kept[o][d]);
                    operand.indexed.has(d) || x == y || (even(d, x) && even(d, y))
                }) && (a.uneven.has(d) || !b.uneven.has(d))
            })
    }

    /// The same within a segment, with the same storages placed.
    pub(super) fn no_worse_within(&self, site: &Site, a: &Local, b: &Local) -> Points {
        let spread = self.limits[site.segment][0].unindexed;
        let open = |m: usize| {
            let nodes = site.nodes.iter().enumerate();
            nodes
                .into_iter()
                .any(|(i, n)| n.1 == m && a.done & (1 << i) == 0)
        };
        let rooms = (0..MEMORIES).all(|m| match self.filled(site.segment, m) {
            true => a.used[m] == b.used[m],
            false => a.used[m] <= b.used[m] || !open(m),
        });
        let ports = a
            .ports
            .iter()
            .zip(&b.ports)
            .all(|(x, y)| x.0 - x.1 <= y.0 - y.1 && x.0 - x.1 * spread <= y.0 - y.1 * spread);
        match rooms && ports {
            true => self.no_worse((site.segment, 0), &a.state, &b.state),
            false => Points::NONE,
        }
    }
}

/// Partial mappings of which none is at least as good as another in everything that matters outside.
#[derive(Default)]
pub(super) struct Front {
    pub(super) states: Vec<State>,
    /// By tile and top operand: indices into `states`.
    by_tile: FxHashMap<(Tile, u8, Vec<u32>), Vec<u32>>,
    pub(super) dominated: u64,
}

/// What became of a partial mapping: the numbers of a needless one and of the one that makes it so.
pub(super) type Needless = Option<(u32, u32)>;

impl Front {
    pub(super) fn add(
        &mut self,
        search: &Search,
        place: Place,
        mut s: State,
        compares: bool,
    ) -> Needless {
        if !compares {
            self.states.push(s);
            return None;
        }
        let same = self
            .by_tile
            .entry((s.tile, s.top, search.progress(&s)))
            .or_default();
        for i in same.iter() {
            let other = &self.states[*i as usize];
            s.alive = s.alive.minus(search.no_worse(place, other, &s));
            if s.alive.is_empty() {
                self.dominated += 1;
                return Some((s.node, other.node));
            }
        }
        for i in same.iter() {
            let other = &mut self.states[*i as usize];
            other.alive = other.alive.minus(search.no_worse(place, &s, other));
            if other.alive.is_empty() {
                self.dominated += 1;
                let old = std::mem::replace(other, s);
                return Some((old.node, s.node));
            }
        }
        same.push(self.states.len() as u32);
        self.states.push(s);
        None
    }
}

/// Tile, top operand, storages placed, the one directly inside, and what rules depend on.
type Within = (Tile, u8, u32, Option<usize>, Vec<u32>);

/// Partial mappings within a segment with equally many storages placed, of which none is needless.
#[derive(Default)]
pub(super) struct Layer {
    pub(super) locals: Vec<Local>,
    by_tile: FxHashMap<Within, Vec<u32>>,
    pub(super) dominated: u64,
}

impl Layer {
    pub(super) fn add(
        &mut self,
        search: &Search,
        site: &Site,
        mut local: Local,
        compares: bool,
    ) -> Needless {
        let s = &local.state;
        // Rooms and tiles of floating operands are told to neighbours: such mappings are not compared here.
        let told = search.placement.floating.iter().flatten().next().is_some() && site.segment == 0;
        if told || !compares {
            self.locals.push(local);
            return None;
        }
        let same = self
            .by_tile
            .entry((
                s.tile,
                s.top,
                local.done,
                local.touching,
                search.progress(s),
            ))
            .or_default();
        for i in same.iter() {
            let other = &self.locals[*i as usize];
            let needless = search.no_worse_within(site, other, &local);
            local.state.alive = local.state.alive.minus(needless);
            if local.state.alive.is_empty() {
                self.dominated += 1;
                return Some((local.state.node, other.state.node));
            }
        }
        for i in same.iter() {
            let other = &mut self.locals[*i as usize];
            let needless = search.no_worse_within(site, &local, other);
            other.state.alive = other.state.alive.minus(needless);
            if other.state.alive.is_empty() {
                self.dominated += 1;
                let old = std::mem::replace(other, local);
                return Some((old.state.node, local.state.node));
            }
        }
        same.push(self.locals.len() as u32);
        self.locals.push(local);
        None
    }
}
