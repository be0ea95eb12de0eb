//! Loops over tiles as loops of a queue.
//!
//! Iterations of a loop over tiles differ in three ways: the last one may be smaller, the first one along reducing loops
//! finds no partial sums, the last one along them makes final ones. Iterations that are alike become one `Repeat`.

use presil_mapper::analysis::tiles::Tiles;
use rustc_hash::FxHashMap;

use crate::timing::program::Step;

/// Dimensions with smaller last tiles that are told apart; with more of them all tiles are taken to be of one size.
const UNEVEN: usize = 3;

/// A place in the loops.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct At {
    /// Loops around it.
    pub(super) depth: usize,
    /// Indices of each dimension in the tile.
    pub(super) extents: Vec<u64>,
    /// Whether no iteration before added to the same outputs.
    pub(super) fresh: bool,
    /// Whether no iteration after does.
    pub(super) last: bool,
    /// Whether it is the first of all.
    pub(super) first: bool,
}

/// Before or after what the loops inside do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    Before,
    After,
}

/// What tells iterations apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Apart {
    /// First and last ones along reducing loops.
    pub(super) sums: bool,
    /// The very first one.
    pub(super) first: bool,
}

/// Goes through the loops of a mapping.
pub(super) struct Walk<'a> {
    tiles: &'a Tiles,
    apart: Apart,
    even: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(tiles: &'a Tiles, apart: Apart) -> Self {
        let uneven = |d: usize| {
            let mut own = tiles.loops.iter().filter(|l| l.dim == d && !l.spatial);
            own.any(|l| !tiles.sizes[d].is_multiple_of(l.tile))
        };
        let even = (0..tiles.sizes.len()).filter(|d| uneven(*d)).count() > UNEVEN;
        Self { tiles, apart, even }
    }

    fn start(&self) -> At {
        At {
            depth: 0,
            extents: self.tiles.sizes.clone(),
            fresh: true,
            last: true,
            first: self.apart.first,
        }
    }

    /// Iterations of the next loop in order, equal neighbours together.
    fn iterations(&self, at: &At) -> Vec<(u64, At)> {
        let l = self.tiles.loops[at.depth];
        let extent = at.extents[l.dim];
        let inside = |extent: u64, first: bool, last: bool| {
            let mut next = at.clone();
            next.depth += 1;
            next.extents[l.dim] = extent;
            if l.reduces && self.apart.sums {
                next.fresh &= first;
                next.last &= last;
            }
            next.first &= first;
            next
        };
        let trips = extent.div_ceil(l.tile);
        if l.spatial || trips == 1 {
            return vec![(1, inside(extent.min(l.tile), true, true))];
        }
        let rest = match extent % l.tile {
            rest if rest > 0 && !self.even => rest,
            _ => l.tile,
        };
        let all = [
            (1, inside(l.tile, true, false)),
            (trips - 2, inside(l.tile, false, false)),
            (1, inside(rest, false, true)),
        ];
        let mut alike: Vec<(u64, At)> = Vec::with_capacity(3);
        for (count, next) in all.into_iter().filter(|i| i.0 > 0) {
            match alike.last_mut().filter(|l| l.1 == next) {
                Some(l) => l.0 += count,
                None => alike.push((count, next)),
            }
        }
        alike
    }

    /// The steps of a queue: what `visit` says for each place down to `bottom`, inside the loops.
    pub(super) fn steps(
        &self,
        bottom: usize,
        visit: &mut dyn FnMut(&At, Edge) -> Vec<Step>,
    ) -> Vec<Step> {
        self.inside(&self.start(), bottom, visit, &mut FxHashMap::default())
    }

    fn inside(
        &self,
        at: &At,
        bottom: usize,
        visit: &mut dyn FnMut(&At, Edge) -> Vec<Step>,
        known: &mut FxHashMap<At, Vec<Step>>,
    ) -> Vec<Step> {
        if let Some(steps) = known.get(at) {
            return steps.clone();
        }
        let mut steps = visit(at, Edge::Before);
        if at.depth < bottom {
            let mut bodies: Vec<(u64, Vec<Step>)> = Vec::with_capacity(3);
            for (count, next) in self.iterations(at) {
                let body = self.inside(&next, bottom, visit, known);
                match bodies.last_mut().filter(|b| b.1 == body) {
                    Some(b) => b.0 += count,
                    None => bodies.push((count, body)),
                }
            }
            for (count, body) in bodies {
                steps.extend(repeated(count, body));
            }
        }
        steps.extend(visit(at, Edge::After));
        known.insert(at.clone(), steps.clone());
        steps
    }

    /// The sum of a figure over all places at `bottom`.
    pub(super) fn sum(&self, bottom: usize, figure: &dyn Fn(&At) -> f64) -> f64 {
        self.sum_inside(&self.start(), bottom, figure, &mut FxHashMap::default())
    }

    fn sum_inside(
        &self,
        at: &At,
        bottom: usize,
        figure: &dyn Fn(&At) -> f64,
        known: &mut FxHashMap<At, f64>,
    ) -> f64 {
        if at.depth == bottom {
            return figure(at);
        }
        if let Some(sum) = known.get(at) {
            return *sum;
        }
        let iterations = self.iterations(at);
        let sums = iterations
            .iter()
            .map(|(n, next)| *n as f64 * self.sum_inside(next, bottom, figure, known));
        let sum = sums.sum();
        known.insert(at.clone(), sum);
        sum
    }
}

/// Steps so many times.
pub(super) fn repeated(count: u64, body: Vec<Step>) -> Vec<Step> {
    match (count, body.is_empty()) {
        (0, _) | (_, true) => Vec::new(),
        (1, _) => body,
        _ => {
            let mut steps = Vec::with_capacity(body.len() + 1);
            let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
            steps.push(Step::Repeat {
                count,
                steps: length,
            });
            steps.extend(body);
            steps
        }
    }
}

/// Indices of some dimensions in a tile.
pub(super) fn volume(at: &At, dims: &[usize]) -> f64 {
    dims.iter().map(|d| at.extents[*d] as f64).product()
}
