//! Building options of a dimension: its chains of loops, and the factors that they make.
//!
//! *Lone tiles.* Where a last block is so short that an operand's own loops have one iteration in it (in an instance), its tile stays while loops outside
//! repeat; those words count once. With the share `1 - s` of elements in other blocks as a factor of each of the operand's dimensions, `D` and `G`
//! are lower bounds.
//!
//! *Windows stay in part.* A sweep over overlapping tiles fetches each element once. But where loops of other dimensions repeat
//! the sweep, what its last and its first tile have in common is there already. Under fixed indices of those other
//! loops an element is fetched unless at the first tile that has it, right after one of them stepped, the tile before held it. All loops inside
//! have then gone from their last iteration to their first, among them the operand's innermost one, of dimension `d`, with `t`
//! trips. So along `d`'s rank it lies where the first and the last of `t` tiles, `s` apart and `L` long, overlap:
//! `max(0, L - (t - 1) s)` for each of `tiles / t` blocks, other dimensions of the rank taken whole. The share of the rank that
//! this is at most is taken off; for instances that one transfer serves, whose neighbours may overlap too, `2 (L - s)` for each block; of the
//! last block, if it is ragged, all of the tile. Which dimension is the innermost is not known, so each one's share is taken off.
//!
//! *Too large on its own.* An option whose tile does not fit a memory even alone is not built.

use super::assign::Assignment;
use super::chain::{Chain, Link, Role, Step, combinations};
use super::layout::{Edge, Factors, KINDS, Layout};
use super::model::STORES;
use super::options::{Options, RAGGED};
use super::posynomial::HOME;
use super::shape::MARKS;

/// Where an edge stands, for one dimension.
struct Place {
    /// Sections of its parent and its child.
    from: usize,
    to: usize,
    named: bool,
    exact: bool,
    /// Loops in time that enter its child anew stand in gaps before this one.
    until: u8,
    /// The gap from which on loops of a scattering dimension leave its child, and its parent if that is the home, whole.
    whole: [u8; 2],
    /// Of the fanouts in between, the end of their axes.
    hops: Vec<u8>,
    window: Option<Window>,
}

/// A rank that a dimension shares with others, in steps of the rank.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// Steps from one index of the dimension to the next.
    each: f64,
    /// Steps from the first to the last index of the others.
    others: f64,
    /// Indices that the whole operand has along the rank, at least.
    least: f64,
    /// Whether the child holds on to what the next tile needs again.
    keeps: bool,
}

impl Window {
    /// The window that a dimension moves in an edge's operand.
    fn new(layout: &Layout, e: &Edge, dim: usize) -> Option<Self> {
        let (model, frame) = (layout.model, layout.model.frame);
        e.child?;
        let all = &frame.ranks[e.operand];
        let mut mine = all.iter().filter(|r| r.terms.iter().any(|t| t.0 == dim));
        let rank = mine.next().filter(|r| r.terms.len() > 1)?;
        let once = mine.next().is_none();
        let sizes: Vec<u64> = model.sizes.iter().map(|s| u64::from(*s)).collect();
        let others = all.iter().filter(|r| !std::ptr::eq(*r, rank));
        let others: f64 = others.map(|r| r.touched(&sizes)).product();
        let steps = |own: bool| -> f64 {
            let terms = rank.terms.iter().filter(|t| (t.0 == dim) == own);
            let far = |(d, c): &(usize, f64)| (sizes[*d] - 1) as f64 * c;
            terms.map(|t| if own { t.1 } else { far(t) }).sum::<f64>() / rank.step
        };
        Some(Self {
            each: steps(true),
            others: steps(false),
            // Of a dimension of several ranks nothing is known.
            least: if once {
                model.touched[e.operand] / others
            } else {
                0.0
            },
            keeps: e.operand == 2 || frame.stores[e.child_store].keep_overlap,
        })
    }
}

/// A place of loops: a gap, or an axis with its trips.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Time(u8),
    Space(u8, u32),
}

/// Builds options.
pub(super) struct Builder<'l, 'a, 'm> {
    layout: &'l Layout<'a, 'm>,
    dim: usize,
    size: u32,
    stages: Vec<Stage>,
    /// Of each stage, and after the last, the tile counts outside it that some choice inside completes.
    alive: Vec<Vec<bool>>,
    places: Vec<Place>,
    /// Of each mark its section, and the first gap inside it.
    marks: Vec<(usize, u8)>,
    links: Vec<Link>,
    /// Combinations counted for the present chain.
    ways: Vec<(u32, u32, f64)>,
    pub options: Options,
    most: u64,
}

impl<'l, 'a, 'm> Builder<'l, 'a, 'm> {
    pub fn new(layout: &'l Layout<'a, 'm>, dim: usize, assignment: &Assignment, most: u64) -> Self {
        let (model, shape) = (layout.model, layout.shape);
        let section = |m: usize| model.slots[shape.marks[m].slot].section;
        let gaps = shape.gaps(model, dim);
        let mut stages = Vec::new();
        for section in 0..model.sections.len() {
            let here = gaps
                .iter()
                .filter(|g| shape.marks[usize::from(**g)].section == section);
            stages.extend(here.map(|g| Stage::Time(*g)));
            let spread = assignment.spreads.iter().filter(|s| {
                usize::from(s.dim) == dim && model.axis_section[usize::from(s.axis)] == section
            });
            stages.extend(spread.map(|s| Stage::Space(s.axis, s.trips)));
        }
        let marks: Vec<(usize, u8)> = (0..shape.marks.len())
            .map(|m| (section(m), shape.below(model, m)))
            .collect();
        let below = |m: Option<usize>| m.map_or(u8::MAX, |m| marks[m].1);
        let scatters = model.frame.dims[dim].scatters;
        let place = |(i, e): (usize, &Edge)| {
            let (from, to) = (
                e.parent.map_or(0, section),
                e.child.map_or(usize::MAX, section),
            );
            let next = layout.out_of(i).and_then(|n| n.child);
            let counts = e.operand == 2 && scatters;
            let between = |f: &&(std::ops::Range<usize>, f64)| {
                let s = model.axis_section.get(f.0.start).copied().unwrap_or(0);
                f.1 > 0.0 && s >= from && s < to
            };
            Place {
                from,
                to,
                named: model.has(e.operand, dim),
                exact: !model.windows(e.operand),
                until: e.child.map_or(u8::MAX, |m| m as u8 + 1),
                whole: [
                    if counts && e.child.is_some() {
                        below(next)
                    } else {
                        0
                    },
                    if counts && e.parent.is_none() {
                        below(e.child)
                    } else {
                        0
                    },
                ],
                hops: model
                    .fans
                    .iter()
                    .filter(between)
                    .map(|f| f.0.end as u8)
                    .collect(),
                window: Window::new(layout, e, dim),
            }
        };
        let places: Vec<Place> = layout.edges.iter().enumerate().map(place).collect();
        let mut limits = vec![u32::MAX; stages.len() + 1];
        for e in &layout.edges {
            let Some(m) = e.child.filter(|_| model.has(e.operand, dim)) else {
                continue;
            };
            let width = if e.operand == 2 {
                model.frame.bits[2].min(model.frame.partial)
            } else {
                model.frame.bits[e.operand]
            };
            let most = model.stores[e.child_store].capacity / width;
            let size = model.sizes[dim];
            if layout.breadth(e.operand, dim, size) <= most {
                continue;
            }
            let inside = |s: &Stage| match *s {
                Stage::Time(gap) => gap >= marks[m].1,
                Stage::Space(axis, _) => model.axis_section[usize::from(axis)] >= marks[m].0,
            };
            let outside = stages.iter().take_while(|s| !inside(s)).count();
            if stages[outside..].iter().all(inside) {
                limits[outside] = limits[outside].min(most.min(f64::from(u32::MAX)) as u32);
            }
        }
        let alive = alive(&model.chains[dim], &stages, &limits);
        let options = Options::none(layout.count, shape.marks.len());
        Self {
            layout,
            dim,
            size: model.sizes[dim],
            stages,
            alive,
            places,
            marks,
            links: Vec::new(),
            ways: Vec::new(),
            options,
            most,
        }
    }

    /// Adds all options that begin with the present loops, from a stage on, with the tile count at a place of the chain;
    /// false if there are too many.
    pub fn extend(&mut self, stage: usize, outer: usize) -> bool {
        if !self.alive[stage][outer] {
            return true;
        }
        let chain = &self.layout.model.chains[self.dim];
        let (trips, gap, axis) = match self.stages.get(stage) {
            None => {
                if self.options.len() as u64 >= self.most {
                    return false;
                }
                let trips = self.size.div_ceil(chain.counts[outer]);
                let gap = self.marks.len() as u8;
                self.within((trips, gap, None), chain.counts.len() - 1, Self::add);
                return true;
            }
            Some(Stage::Time(gap)) => (0, *gap, None),
            Some(Stage::Space(axis, trips)) => (*trips, 0, Some(*axis)),
        };
        let mut whole = true;
        for step in chain.steps[outer]
            .iter()
            .filter(|s| trips == 0 || s.trips == trips)
        {
            let inner = usize::from(step.inner);
            self.within((step.trips, gap, axis), inner, |b| {
                whole &= b.extend(stage + 1, inner);
            });
            if !whole {
                return false;
            }
        }
        true
    }

    /// Does something within a loop, if it has more than one iteration.
    fn within(
        &mut self,
        (trips, gap, axis): (u32, u8, Option<u8>),
        inner: usize,
        what: impl FnOnce(&mut Self),
    ) {
        let tiles = self.layout.model.chains[self.dim].counts[inner];
        let link = Link {
            trips,
            tiles,
            gap,
            axis,
        };
        if trips > 1 {
            self.links.push(link);
        }
        what(self);
        if trips > 1 {
            self.links.pop();
        }
    }

    /// Combinations of iterations of the links to keep, the first of others.
    fn ways(&mut self, sets: &Sets, keep: u32, first: u32) -> f64 {
        let keep = keep & !first;
        if !sets.ragged {
            return self.trips(keep);
        }
        let known = self.ways.iter().find(|w| (w.0, w.1) == (keep, first));
        if let Some(w) = known {
            return w.2;
        }
        let n = combinations(&self.links, |i| {
            if keep & (1 << i) != 0 {
                Role::Keep
            } else if first & (1 << i) != 0 {
                Role::First
            } else {
                Role::Drop
            }
        });
        self.ways.push((keep, first, n));
        n
    }

    /// Trips of links, in all.
    fn trips(&self, of: u32) -> f64 {
        let (mut left, mut product) = (of, 1.0);
        while left != 0 {
            product *= f64::from(self.links[left.trailing_zeros() as usize].trips);
            left &= left - 1;
        }
        product
    }

    /// The share of an operand's elements that may stay from one sweep of a window to the next, at most: of each
    /// instance's, and of what instances served together take. `last` is the innermost loop in time above the child,
    /// `tile` what the dimension has inside; then links in space above it, and those of them that are served together.
    fn stay(
        &self,
        sets: &Sets,
        window: Window,
        last: usize,
        tile: u32,
        [above, merging]: [u32; 2],
    ) -> [f64; 2] {
        let inside = sets.all & !((2u32 << last) - 1);
        let trips = f64::from(self.links[last].trips);
        let outside = sets.all & ((2u32 << last) - 1);
        let blocks = self.trips(outside | above) / trips;
        let tile = f64::from(tile);
        let length = (tile - 1.0) * window.each + window.others + 1.0;
        let (shift, next) = (self.trips(inside) * window.each, tile * window.each);
        let (mut one, mut many) = (0.0, 0.0);
        if window.keeps {
            one = (length - (trips - 1.0) * shift).max(0.0);
            many = match (merging, length > 2.0 * next) {
                (0, _) => one,
                (_, true) => length,
                (_, false) => 2.0 * (length - next).max(0.0),
            };
        }
        // Of the dimension's outermost loop only instances inside can miss an iteration, and no more than one.
        let short = match last {
            _ if !sets.ragged => 0.0,
            0 if above & inside == 0 => 0.0,
            0 => (length - (trips - 2.0) * shift).max(0.0),
            _ => length,
        };
        let rest = self.trips(above & inside) * short;
        [one, many].map(|x| ((blocks * x + rest) / window.least).min(1.0))
    }

    /// The present chain's links, sorted.
    fn sets(&self) -> Sets {
        let model = self.layout.model;
        let mut sets = Sets::default();
        for (i, l) in self.links.iter().enumerate() {
            let bit = 1 << i;
            sets.all |= bit;
            let Some(a) = l.axis else {
                sets.time |= bit;
                let from = usize::from(l.gap) + 1;
                sets.time_before[from..].iter_mut().for_each(|s| *s |= bit);
                continue;
            };
            let from = model.axis_section[usize::from(a)] + 1;
            sets.space_above[from.min(SECTIONS)..]
                .iter_mut()
                .for_each(|s| *s |= bit);
            for (o, s) in sets.shared.iter_mut().enumerate() {
                *s |= if model.shares(a, o) { bit } else { 0 };
            }
        }
        sets.space = sets.all & !sets.time;
        sets.ragged = self.trips(sets.all) != f64::from(self.size);
        sets
    }

    /// Adds the present chain: factors, tiles at the marks, marks of the output that it makes hold partial sums, and
    /// marks whose tiles its loops in time change.
    fn add(&mut self) {
        let (layout, dim, size) = (self.layout, self.dim, self.size);
        let model = layout.model;
        let sets = self.sets();
        self.ways.clear();
        let at = self.options.factors.len();
        self.options.factors.resize(at + layout.count, 1.0);
        let section = |l: &Link| l.axis.map(|a| model.axis_section[usize::from(a)]);
        let tiles_at = self.options.tiles.len();
        for at in 0..self.marks.len() {
            let (natural, below) = self.marks[at];
            let inside = sets.time & !sets.before(below) | sets.space & !sets.above(natural);
            let tile = self.trips(inside).min(f64::from(size)) as u32;
            self.options.tiles.push(tile);
        }
        let masked = model.masked[dim];
        let thin = |count: f64| {
            if masked {
                (model.density * (count - 1.0)).max(1.0)
            } else {
                count
            }
        };
        let (mut partial, mut moving) = (0, 0);
        for (i, e) in layout.edges.iter().enumerate() {
            let place = &self.places[i];
            let (from, to, named) = (place.from, place.to, place.named);
            let (exact, whole, window) = (place.exact, place.whole, place.window);
            let timed = sets.before(place.until);
            let (above_parent, above_child) = (sets.above(from), sets.above(to));
            let merging = above_child & !above_parent & sets.shared[e.operand];
            let entering = timed | above_child;
            let served = entering & !merging;
            let visits = self.trips(timed);
            // Words of an operand with the dimension are elements; else repetitions.
            let (all, once) = if named {
                (1.0, 1.0)
            } else {
                (self.ways(&sets, entering, 0), self.ways(&sets, served, 0))
            };
            let (mut enter, mut serve) = (thin(all), thin(once));
            if let Some(m) = e.child {
                if named && timed != 0 {
                    moving |= 1 << m;
                    let last = 31 - timed.leading_zeros() as usize;
                    let lone = if sets.ragged {
                        lone(&self.links, last, size, section, [from, to])
                    } else {
                        0.0
                    };
                    (enter, serve) = (1.0 - lone, 1.0 - lone);
                    if let Some(w) = window {
                        let tile = self.options.tiles[tiles_at + m];
                        let stay = self.stay(&sets, w, last, tile, [above_child, merging]);
                        (enter, serve) = (enter * (1.0 - stay[0]), serve * (1.0 - stay[1]));
                    }
                    if lone > 0.0 {
                        partial |= RAGGED;
                    }
                }
                if sets.before(whole[0]) != 0 {
                    partial |= 1 << m;
                }
            } else {
                (enter, serve) = (1.0, once / all);
            }
            if sets.before(whole[1]) != 0 {
                partial |= HOME;
            }
            let words = |count: f64| if named { f64::from(size) } else { count };
            let (parent, child, first);
            if exact {
                let keep = if named {
                    [sets.all; 2]
                } else {
                    [served, entering]
                };
                parent = self.ways(&sets, keep[0], above_parent) / words(once);
                let one = self.ways(&sets, keep[1], above_child);
                child = one / words(all);
                first = e.child.map_or(1.0, |m| {
                    let tile = self.options.tiles[tiles_at + m];
                    if named {
                        f64::from(tile) / one
                    } else {
                        1.0 / one
                    }
                });
            } else {
                parent = 1.0 / self.trips(above_parent);
                child = 1.0 / self.trips(above_child);
                first = 1.0 / visits;
            }
            let tile = e.child.filter(|_| named).map_or(1.0, |m| {
                layout.breadth(e.operand, dim, self.options.tiles[tiles_at + m])
            });
            for (h, (_, column)) in e.hops.iter().enumerate() {
                if named {
                    self.options.factors[at + column] = enter.min(serve);
                    continue;
                }
                let end = self.places[i].hops[h];
                let further = self.links.iter().enumerate();
                let inner = further
                    .filter(|(_, l)| l.axis.is_some_and(|a| a >= end))
                    .fold(0, |s, (i, _)| s | 1 << i);
                let n = self.ways(&sets, entering & !(merging & inner), 0);
                self.options.factors[at + column] =
                    if e.child.is_some() { thin(n) } else { n / all };
            }
            let f = &mut self.options.factors[at + i * KINDS..at + (i + 1) * KINDS];
            f[Factors::Entering as usize] = enter;
            f[Factors::Served as usize] = serve;
            f[Factors::ParentShare as usize] = parent;
            f[Factors::ChildShare as usize] = child;
            f[Factors::First as usize] = first;
            f[Factors::Visits as usize] = visits;
            f[Factors::Tile as usize] = tile;
        }
        let factors = &mut self.options.factors[at..];
        for (i, e) in layout.edges.iter().enumerate() {
            let parent = factors[i * KINDS + Factors::ParentShare as usize];
            let above = e
                .above
                .map(|a| factors[a * KINDS + Factors::ChildShare as usize]);
            factors[i * KINDS + Factors::LesserShare as usize] =
                above.map_or(parent, |a| parent.min(a));
        }
        self.options.factors[at + layout.count - 1] = self.ways(&sets, sets.time, 0);
        self.options.end(&self.links, (partial, moving));
    }
}

/// Sections at most: each but the first and the last holds a memory.
const SECTIONS: usize = STORES + 2;

/// Links of a chain, as bits.
#[derive(Debug, Default)]
struct Sets {
    all: u32,
    time: u32,
    space: u32,
    /// Of time, before each gap.
    time_before: [u32; MARKS + 2],
    /// Of space, above each section.
    space_above: [u32; SECTIONS + 1],
    /// Of space, by operand: those that share its words.
    shared: [u32; 3],
    /// Whether the trips are more than the dimension has iterations.
    ragged: bool,
}

impl Sets {
    /// Loops in time that stand in gaps before one.
    fn before(&self, gap: u8) -> u32 {
        self.time_before[usize::from(gap).min(MARKS + 1)]
    }

    /// Loops in space above a section.
    fn above(&self, section: usize) -> u32 {
        self.space_above[section.min(SECTIONS)]
    }
}

/// Of each stage, and after the last, which tile counts outside it lead on to a chain whose tiles fit.
fn alive(chain: &Chain, stages: &[Stage], limits: &[u32]) -> Vec<Vec<bool>> {
    let size = chain.counts.last().copied().unwrap_or(1);
    let fits = |stage: usize, n: u32| size.div_ceil(n) <= limits[stage];
    let whole = |n: &u32| fits(stages.len(), *n) && size.div_ceil(size.div_ceil(*n)) == *n;
    let mut all = vec![chain.counts.iter().map(whole).collect::<Vec<bool>>()];
    for (s, stage) in stages.iter().enumerate().rev() {
        let inner = &all[all.len() - 1];
        let trips = match stage {
            Stage::Time(_) => 0,
            Stage::Space(_, trips) => *trips,
        };
        let leads = |(n, steps): (&u32, &Vec<Step>)| {
            let mut fit = steps.iter().filter(|i| trips == 0 || i.trips == trips);
            fits(s, *n) && fit.any(|i| inner[usize::from(i.inner)])
        };
        let outer = chain.counts.iter().zip(&chain.steps).map(leads).collect();
        all.push(outer);
    }
    all.reverse();
    all
}

/// The share of a dimension's elements, at most, that lie in a block in which its loop `at` has one iteration, in all instances or in
/// some, that is where no loop further in changes the tile: of all, or of the first instance below either of two sections, if that is more.
/// Only the last block can be so short.
fn lone(
    links: &[Link],
    at: usize,
    size: u32,
    section: impl Fn(&Link) -> Option<usize>,
    sections: [usize; 2],
) -> f64 {
    let mut units = u64::from(size);
    let mut full: u64 = links.iter().map(|l| u64::from(l.trips)).product();
    let mut first = [true; 2];
    for l in &links[..at] {
        full /= u64::from(l.trips);
        let digit = (units - 1) / full;
        units -= digit * full;
        for (first, s) in first.iter_mut().zip(sections) {
            *first &= digit == 0 || section(l).is_none_or(|x| x >= s);
        }
    }
    let inside = full / u64::from(links[at].trips);
    if units > inside {
        // Of two iterations, instances beyond the end of the second have the first one alone.
        let spread = links[at + 1..]
            .iter()
            .any(|l| section(l).is_some_and(|x| x < sections[1]));
        if !spread || units >= 2 * inside {
            return 0.0;
        }
        units = 2 * inside - units;
    }
    let mut share = units as f64 / f64::from(size);
    for (first, s) in first.into_iter().zip(sections) {
        if first {
            let one = combinations(links, |i| match section(&links[i]) {
                Some(x) if x < s => Role::First,
                _ => Role::Keep,
            });
            share = share.max(units as f64 / one);
        }
    }
    share
}
