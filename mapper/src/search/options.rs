//! Options of a dimension: its chains of loops, and the factors that they make.
//!
//! *Lone tiles.* Where a last block is so short that an operand's own loops have one iteration in it, its tile stays while loops outside
//! repeat; those words count once. With the share `1 - s` of elements in other blocks as a factor of each of the operand's dimensions, `D` and `G`
//! are lower bounds.

use super::assign::Assignment;
use super::chain::{Link, Role, combinations};
use super::layout::{Edge, Factors, KINDS, Layout};
use super::posynomial::HOME;

/// The options of one dimension.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub chains: Vec<Vec<Link>>,
    /// Factors of one option after the other.
    pub factors: Vec<f64>,
    /// Their logarithms.
    pub logs: Vec<f64>,
    /// Tile at each mark, of one option after the other.
    pub tiles: Vec<u32>,
    /// Marks of the output that hold partial sums by a loop of this option, as bits, and [`HOME`].
    pub partial: Vec<u32>,
    /// Marks whose tiles a loop in time of this option changes, as bits.
    pub moving: Vec<u32>,
    /// The least of each.
    pub least: Vec<f64>,
    pub least_tiles: Vec<u32>,
    pub least_partial: u32,
}

impl Layout<'_, '_> {

    /// All options of a dimension, less dominated ones; and how many there were. None if there are more than `most`.
    pub fn options(
        &self,
        dim: usize,
        assignment: &Assignment,
        most: u64,
    ) -> Option<(Options, u64)> {
        let gaps = self.shape.gaps(self.model, dim);
        let mut stages = Vec::new();
        for section in 0..self.model.sections.len() {
            let here = gaps
                .iter()
                .filter(|g| self.shape.marks[usize::from(**g)].section == section);
            stages.extend(here.map(|g| Stage::Time(*g)));
            let spread = assignment.spreads.iter().filter(|s| {
                usize::from(s.dim) == dim && self.model.axis_section[usize::from(s.axis)] == section
            });
            stages.extend(spread.map(|s| Stage::Space(s.axis, s.trips)));
        }
        let mut options = Options {
            least: vec![f64::INFINITY; self.count],
            least_tiles: vec![u32::MAX; self.shape.marks.len()],
            least_partial: u32::MAX,
            ..Options::default()
        };
        if !self.extend(dim, &stages, 1, &mut Vec::new(), &mut options, most) {
            return None;
        }
        let built = options.chains.len() as u64;
        if self.model.exact {
            self.drop_dominated(&mut options);
        }
        options.logs = options.factors.iter().map(|f| f.ln()).collect();
        Some((options, built))
    }

    /// Drops options that another one is at least as good as in every factor. Where drains of the output merge, options are only
    /// compared if as many do.
    fn drop_dominated(&self, options: &mut Options) {
        let (count, marks) = (self.count, self.shape.marks.len());
        let all = options.chains.len();
        let row = |i: usize| &options.factors[i * count..(i + 1) * count];
        let varies = |c: &usize| (1..all).any(|i| row(i)[*c] != row(0)[*c]);
        let columns: Vec<usize> = (0..count).filter(varies).collect();
        let merging: Vec<usize> = (0..self.edges.len())
            .filter(|e| self.may_merge(&self.edges[*e]))
            .map(|e| e * KINDS)
            .collect();
        let sum = |i: usize| -> f64 {
            columns
                .iter()
                .map(|c| row(i)[*c] / options.least[*c].max(f64::MIN_POSITIVE))
                .sum()
        };
        let mut order: Vec<(f64, usize)> = (0..all).map(|i| (sum(i), i)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut kept: Vec<usize> = Vec::new();
        for (_, i) in order {
            let beaten = kept.iter().any(|k| {
                options.partial[*k] & !options.partial[i] & !(RAGGED | HOME) == 0
                    && options.moving[*k] & !options.moving[i] == 0
                    && columns.iter().all(|c| row(*k)[*c] <= row(i)[*c])
                    && merging.iter().all(|c| row(*k)[*c] == row(i)[*c])
            });
            if !beaten {
                kept.push(i);
            }
        }
        kept.sort_unstable();
        let factors = kept.iter().flat_map(|i| row(*i).iter().copied()).collect();
        let tiles = kept
            .iter()
            .flat_map(|i| &options.tiles[i * marks..(i + 1) * marks])
            .copied()
            .collect();
        let partial = kept.iter().map(|i| options.partial[*i]).collect();
        let moving = kept.iter().map(|i| options.moving[*i]).collect();
        let chains = kept.iter().map(|i| options.chains[*i].clone()).collect();
        (options.factors, options.tiles) = (factors, tiles);
        (options.partial, options.moving, options.chains) = (partial, moving, chains);
    }

    /// Whether drains into an edge's child may merge on their way up, in any assignment.
    fn may_merge(&self, e: &Edge) -> bool {
        let model = self.model;
        let Some(child) = e.child.filter(|_| e.operand == 2) else {
            return false;
        };
        let section = |m: usize| model.slots[self.shape.marks[m].slot].section;
        let between = e.parent.map_or(0, section)..section(child);
        let mut axes = model.axis_section.iter().enumerate();
        axes.any(|(a, s)| between.contains(s) && model.shares(a as u8, 2))
    }

    /// Adds all options that begin with some loops; false if there are too many.
    fn extend(
        &self,
        dim: usize,
        stages: &[Stage],
        outer: u32,
        links: &mut Vec<Link>,
        options: &mut Options,
        most: u64,
    ) -> bool {
        let chain = &self.model.chains[dim];
        let Some((stage, rest)) = stages.split_first() else {
            if options.chains.len() as u64 >= most {
                return false;
            }
            let size = self.model.sizes[dim];
            if size.div_ceil(size.div_ceil(outer)) == outer {
                let trips = size.div_ceil(outer);
                if trips > 1 {
                    links.push(Link {
                        trips,
                        tiles: size,
                        gap: self.shape.marks.len() as u8,
                        axis: None,
                    });
                }
                self.add(dim, links, options);
                if trips > 1 {
                    links.pop();
                }
            }
            return true;
        };
        match *stage {
            Stage::Time(gap) => chain.inside(outer).all(|(tiles, trips)| {
                let axis = None;
                if trips > 1 {
                    links.push(Link {
                        trips,
                        tiles,
                        gap,
                        axis,
                    });
                }
                let whole = self.extend(dim, rest, tiles, links, options, most);
                if trips > 1 {
                    links.pop();
                }
                whole
            }),
            Stage::Space(axis, trips) => chain.with_trips(outer, trips).all(|tiles| {
                let axis = Some(axis);
                links.push(Link {
                    trips,
                    tiles,
                    gap: 0,
                    axis,
                });
                let whole = self.extend(dim, rest, tiles, links, options, most);
                links.pop();
                whole
            }),
        }
    }

    /// Adds an option.
    fn add(&self, dim: usize, links: &[Link], options: &mut Options) {
        let at = options.factors.len();
        let (factors, tiles, partial, moving) = self.factors(dim, links);
        options.factors.extend_from_slice(&factors);
        for (l, f) in options.least.iter_mut().zip(&options.factors[at..]) {
            *l = l.min(*f);
        }
        for (l, t) in options.least_tiles.iter_mut().zip(&tiles) {
            *l = (*l).min(*t);
        }
        options.least_partial &= partial;
        options.tiles.extend_from_slice(&tiles);
        options.partial.push(partial);
        options.moving.push(moving);
        options.chains.push(links.to_vec());
    }

    /// A dimension's factor of the elements of a tile: of a window only its widest dimension counts.
    fn breadth(&self, operand: usize, dim: usize, tile: u32) -> f64 {
        let model = self.model;
        let tile = f64::from(tile);
        let mut ranks = model.frame.ranks[operand].iter();
        let Some(rank) = ranks.find(|r| r.terms.iter().any(|t| t.0 == dim)) else {
            return tile;
        };
        let widest = rank.terms.iter().map(|t| t.0).max_by_key(|d| model.sizes[*d]);
        if widest == Some(dim) {
            tile.min(rank.extent)
        } else {
            1.0
        }
    }

    /// Factors of a chain of loops, tiles at the marks, marks of the output that it makes hold partial sums, and
    /// marks whose tiles its loops in time change.
    fn factors(&self, dim: usize, links: &[Link]) -> (Vec<f64>, Vec<u32>, u32, u32) {
        let (model, shape) = (self.model, self.shape);
        let size = model.sizes[dim];
        let section = |l: &Link| l.axis.map(|a| model.axis_section[usize::from(a)]);
        let mut factors = vec![1.0; self.count];
        let mut tiles = Vec::with_capacity(shape.marks.len());
        for (m, mark) in shape.marks.iter().enumerate() {
            let (natural, below) = (model.slots[mark.slot].section, shape.below(model, m));
            let inside = |l: &&Link| section(l).map_or(l.gap >= below, |s| s >= natural);
            let tile: u64 = links
                .iter()
                .filter(inside)
                .map(|l| u64::from(l.trips))
                .product();
            tiles.push(tile.min(u64::from(size)) as u32);
        }
        let (mut partial, mut moving) = (0, 0);
        for (i, e) in self.edges.iter().enumerate() {
            let place = |m: Option<usize>, none: usize| {
                m.map_or(none, |m| model.slots[shape.marks[m].slot].section)
            };
            let (from, to) = (place(e.parent, 0), place(e.child, usize::MAX));
            let named = model.has(e.operand, dim);
            // Loops in time that count are those up to the child's mark.
            let timed = |l: &Link| e.child.is_none_or(|m| usize::from(l.gap) <= m);
            let shared = |l: &Link| l.axis.is_some_and(|a| model.shares(a, e.operand));
            let thin = |count: f64| {
                if model.masked[dim] {
                    (model.density * (count - 1.0)).max(1.0)
                } else {
                    count
                }
            };
            let entering = |l: &Link| match section(l) {
                None if timed(l) => Role::Keep,
                Some(s) if s < to => Role::Keep,
                _ => Role::Drop,
            };
            let served = |l: &Link| match section(l) {
                Some(s) if s >= from && s < to && shared(l) => Role::Drop,
                _ => entering(l),
            };
            let parent_one = |l: &Link| match section(l) {
                Some(s) if s < from => Role::First,
                _ => served(l),
            };
            let child_one = |l: &Link| match section(l) {
                Some(s) if s < to => Role::First,
                _ => entering(l),
            };
            let f = &mut factors[i * KINDS..(i + 1) * KINDS];
            let visits: f64 = links
                .iter()
                .filter(|l| l.axis.is_none() && timed(l))
                .map(|l| f64::from(l.trips))
                .product();
            f[Factors::Visits as usize] = visits;
            let exact = !model.windows(e.operand);
            let spatial = |until: usize| -> f64 {
                let above = links
                    .iter()
                    .filter(|l| section(l).is_some_and(|s| s < until));
                above.map(|l| f64::from(l.trips)).product()
            };
            // Words of an operand with the dimension are elements; else repetitions.
            let (all, once) = if named {
                (1.0, 1.0)
            } else {
                (combinations(links, entering), combinations(links, served))
            };
            if let Some(m) = e.child {
                f[Factors::Entering as usize] = thin(all);
                f[Factors::Served as usize] = thin(once);
                if named
                    && let Some(last) = links.iter().rposition(|l| l.axis.is_none() && timed(l))
                {
                    moving |= 1 << m;
                    let lone = lone(links, last, size, section, [from, to]);
                    f[Factors::Entering as usize] = 1.0 - lone;
                    f[Factors::Served as usize] = 1.0 - lone;
                    if lone > 0.0 {
                        partial |= RAGGED;
                    }
                }
            } else {
                f[Factors::Served as usize] = once / all;
            }
            let keep = |role: &dyn Fn(&Link) -> Role| {
                if named {
                    combinations(links, |l| {
                        if role(l) == Role::First {
                            Role::First
                        } else {
                            Role::Keep
                        }
                    })
                } else {
                    combinations(links, role)
                }
            };
            let words = |count: f64| if named { f64::from(size) } else { count };
            if exact {
                f[Factors::ParentShare as usize] = keep(&parent_one) / words(once);
                let one = keep(&child_one);
                f[Factors::ChildShare as usize] = one / words(all);
                if let Some(m) = e.child {
                    f[Factors::First as usize] =
                        if named { f64::from(tiles[m]) } else { 1.0 } / one;
                }
            } else {
                f[Factors::ParentShare as usize] = 1.0 / spatial(from);
                f[Factors::ChildShare as usize] = 1.0 / spatial(to);
                f[Factors::First as usize] = 1.0 / visits;
            }
            if let Some(m) = e.child {
                f[Factors::Tile as usize] = if named {
                    self.breadth(e.operand, dim, tiles[m])
                } else {
                    1.0
                };
                if e.operand == 2 && model.frame.dims[dim].scatters {
                    let next = self.out_of(i).and_then(|n| n.child);
                    let below = next.map_or(u8::MAX, |n| shape.below(model, n));
                    if links.iter().any(|l| l.axis.is_none() && l.gap < below) {
                        partial |= 1 << m;
                    }
                }
            }
            if e.operand == 2 && e.parent.is_none() && model.frame.dims[dim].scatters {
                let below = e.child.map_or(u8::MAX, |m| shape.below(model, m));
                if links.iter().any(|l| l.axis.is_none() && l.gap < below) {
                    partial |= HOME;
                }
            }
            let mut fans = model.fans.iter().filter(|f| f.1 > 0.0).filter(|f| {
                let s = model.axis_section.get(f.0.start).copied().unwrap_or(0);
                s >= from && s < to
            });
            for (_, at) in &e.hops {
                let end = fans.next().map_or(0, |f| f.0.end);
                let words = |l: &Link| match l.axis {
                    Some(a) if usize::from(a) >= end => served(l),
                    _ => entering(l),
                };
                factors[*at] = if named {
                    1.0
                } else {
                    let n = combinations(links, words);
                    if e.child.is_some() { thin(n) } else { n / all }
                };
            }
        }
        factors[self.count - 1] = combinations(links, |l| {
            if l.axis.is_none() {
                Role::Keep
            } else {
                Role::Drop
            }
        });
        (factors, tiles, partial, moving)
    }
}

/// The share of a dimension's elements that lie in a block in which its loop `at` has one iteration, that is where no
/// loop further in changes the tile: of all, or of the first instance below either of two sections, if that is more.
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
    if units > full / u64::from(links[at].trips) {
        return 0.0;
    }
    let mut share = units as f64 / f64::from(size);
    for (first, s) in first.into_iter().zip(sections) {
        if first {
            let one = combinations(links, |l| match section(l) {
                Some(x) if x < s => Role::First,
                _ => Role::Keep,
            });
            share = share.max(units as f64 / one);
        }
    }
    share
}

/// The bit that marks an option with such a block: costs in closed form are bounds then.
pub(super) const RAGGED: u32 = 1 << 31;

#[derive(Debug, Clone, Copy)]
enum Stage {
    Time(u8),
    Space(u8, u32),
}
