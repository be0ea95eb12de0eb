//! Which partial mappings are needless, because another one is at least as good in everything that matters.

use rustc_hash::FxHashMap;

use super::{Local, Place, Search, Site, State};
use crate::optimum::space::{MEMORIES, Tile};

impl Search<'_> {
    /// Whether a partial mapping is at least as good as another with the same tiles and operand.
    pub(super) fn no_worse(&self, (segment, axes): Place, a: &State, b: &State) -> bool {
        let spread = self.limits[segment][axes].unindexed;
        let settled = |(cost, saved): (f64, f64), (more, less): (f64, f64)| {
            cost - saved <= more - less && cost - saved * spread <= more - less * spread
        };
        settled((a.energy, a.saved), (b.energy, b.saved))
            && a.time <= b.time
            && a.ports.iter().zip(&b.ports).all(|(x, y)| settled(*x, *y))
            && a.first >= b.first
            && a.asked.iter().zip(&b.asked).all(|(x, y)| x <= y)
            && (self.space.perfect || self.alike((segment, axes), a, b))
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
                })
            })
    }

    /// The same within a segment, with the same storages placed.
    pub(super) fn no_worse_within(&self, site: &Site, a: &Local, b: &Local) -> bool {
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
            .flatten()
            .zip(b.ports.iter().flatten())
            .all(|(x, y)| x.0 - x.1 <= y.0 - y.1 && x.0 - x.1 * spread <= y.0 - y.1 * spread);
        rooms && ports && self.no_worse((site.segment, 0), &a.state, &b.state)
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
        s: State,
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
        let no_worse = |a: &State, b: &State| search.no_worse(place, a, b);
        let better = same
            .iter()
            .find(|i| no_worse(&self.states[**i as usize], &s));
        if let Some(i) = better {
            self.dominated += 1;
            return Some((s.node, self.states[*i as usize].node));
        }
        if let Some(i) = same
            .iter()
            .find(|i| no_worse(&s, &self.states[**i as usize]))
        {
            self.dominated += 1;
            let old = std::mem::replace(&mut self.states[*i as usize], s);
            return Some((old.node, s.node));
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
        local: Local,
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
        let no_worse = |a: &Local, b: &Local| search.no_worse_within(site, a, b);
        let better = same
            .iter()
            .find(|i| no_worse(&self.locals[**i as usize], &local));
        if let Some(i) = better {
            self.dominated += 1;
            let better = self.locals[*i as usize].state.node;
            return Some((local.state.node, better));
        }
        if let Some(i) = same
            .iter()
            .find(|i| no_worse(&local, &self.locals[**i as usize]))
        {
            self.dominated += 1;
            let old = std::mem::replace(&mut self.locals[*i as usize], local);
            return Some((old.state.node, local.state.node));
        }
        same.push(self.locals.len() as u32);
        self.locals.push(local);
        None
    }
}
