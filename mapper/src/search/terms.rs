//! The cost of a mapping of one shape and assignment, as products over dimensions.
//!
//! With everything in a fixed order, each count is a product of one factor a dimension ([`Factors`]); a mapping is one
//! *option* (a chain of loops) for each dimension. For each transfer into a mark, or to the compute:
//!
//! ```text
//! D  words that enter all instances          = touched(X) x product over d not in X of combinations of the loops above
//! G  words that the parent gives             = the same, shared spatial loops between parent and child left out
//! P  share of the busiest parent in G        C  share of the busiest child in D
//! F  first tile over what the busiest child takes
//! V  tiles that one instance takes           T  elements of a tile
//! ```
//!
//! For plain operands all are exact, and so are energy and time. Sliding windows count as if overlap were
//! never fetched twice, `P` and `C` as averages, `F` as `1 / V`: lower bounds. Under a mask, `n` tiles of a coupled dimension count as
//! `max(1, density x (n - 1))`, a lower bound on the average of tiles that meet the domain.
//!
//! *Lone tiles.* Where a last block is so short that an operand's own loops have one iteration in it, its tile stays while loops outside
//! repeat; those words count once. With the share `1 - s` of elements in other blocks as a factor of each of the operand's dimensions, `D` and `G`
//! are lower bounds.
//!
//! *Bounds.* Every cost grows with every factor. So with the least factor of any option for dimensions that are still open, costs are
//! lower bounds on all mappings that choose the same options otherwise. (Output: a storage's drains grow
//! with `D` at least as fast as what its entries without a value save below, see [`Layout::evaluate`].)

use super::assign::Assignment;
use super::chain::{Link, Role, combinations};
use super::model::{DIMS, Model, STORES};
use super::shape::Shape;

/// Factors of a transfer.
#[derive(Debug, Clone, Copy)]
#[repr(usize)]
enum Factors {
    Entering,
    Served,
    ParentShare,
    ChildShare,
    First,
    Visits,
    Tile,
}

const KINDS: usize = 7;

/// A transfer: from a parent to the next storage of its operand, or to the compute.
#[derive(Debug, Clone)]
struct Edge {
    operand: usize,
    /// Mark of the parent; none: the home.
    parent: Option<usize>,
    /// None: the compute.
    child: Option<usize>,
    parent_store: usize,
    child_store: usize,
    /// Whether instances below update the same outputs separately: between parent and child, and at all.
    apart: bool,
    ever: bool,
    /// Children that one word serves, at most.
    merged: f64,
    /// The edge of the same operand into the parent.
    above: Option<usize>,
    /// Joules for a bit and the factor of words of each fanout in between.
    hops: Vec<(f64, usize)>,
    /// Whether spatial loops make the child (if an output storage) hold partial sums in any case.
    wide: bool,
}

/// What the factors of a shape and an assignment mean.
pub(super) struct Layout<'a, 'm> {
    model: &'a Model<'m>,
    shape: &'a Shape,
    edges: Vec<Edge>,
    /// Number of factors; the last one is iterations.
    pub count: usize,
    fixed: f64,
}

/// The options of one dimension.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub chains: Vec<Vec<Link>>,
    /// Factors of one option after the other.
    pub factors: Vec<f64>,
    /// Tile at each mark, of one option after the other.
    pub tiles: Vec<u32>,
    /// Marks of the output that hold partial sums by a loop of this option, as bits.
    pub partial: Vec<u32>,
    /// Marks whose tiles a loop in time of this option changes, as bits.
    pub moving: Vec<u32>,
    /// The least of each.
    pub least: Vec<f64>,
    pub least_tiles: Vec<u32>,
    pub least_partial: u32,
}

impl<'a, 'm> Layout<'a, 'm> {
    pub fn new(model: &'a Model<'m>, shape: &'a Shape, assignment: &Assignment) -> Self {
        let mut edges = Vec::with_capacity(shape.marks.len() + 3);
        let mut count = 0;
        let mut last: [(Option<usize>, Option<usize>); 3] = [(None, None); 3];
        let mut answered = 0u32;
        let mut fixed = model.frame.fixed;
        let children = (0..shape.marks.len()).map(Some).map(|m| (m, None));
        let compute = (0..3).map(|o| (None, Some(o)));
        for (child, operand) in children.chain(compute) {
            let slot = child.map(|m| model.slots[shape.marks[m].slot]);
            let operand = operand.or(slot.map(|s| s.operand)).unwrap_or(0);
            let (parent, above) = last[operand];
            let home = model.frame.levels[0].memory[operand].unwrap_or(0);
            let parent_slot = parent.map(|m| model.slots[shape.marks[m].slot]);
            let parent_store = parent_slot.map_or(home, |s| s.store);
            let from = parent_slot.map_or(0, |s| s.section);
            let to = slot.map_or(usize::MAX, |s| s.section);
            if operand < 2 && answered & (1 << parent_store) == 0 {
                answered |= 1 << parent_store;
                fixed += model.stores[parent_store].latency;
            }
            let (mut apart, mut ever, mut merged) = (false, false, 1.0);
            for s in &assignment.spreads {
                let section = model.axis_section[usize::from(s.axis)];
                let d = usize::from(s.dim);
                let between = section >= from && section < to;
                if between && !model.has(operand, d) && model.shares(s.axis, operand) {
                    merged *= f64::from(s.trips);
                }
                if section < to && model.frame.dims[d].scatters {
                    let inside = section >= from;
                    let merged = inside && !model.has(2, d) && model.shares(s.axis, 2);
                    apart |= inside && !merged;
                    ever |= !merged;
                }
            }
            let mut edge = Edge {
                operand,
                parent,
                child,
                parent_store,
                child_store: slot.map_or(usize::MAX, |s| s.store),
                apart,
                ever,
                merged,
                above,
                hops: Vec::new(),
                wide: false,
            };
            count += KINDS;
            for (i, fan) in model.fans.iter().enumerate() {
                let section = model
                    .sections
                    .iter()
                    .position(|s| s.fans.contains(&i))
                    .unwrap_or(0);
                if fan.1 > 0.0 && section >= from && section < to {
                    edge.hops.push((fan.1, 0));
                }
            }
            last[operand] = (child, Some(edges.len()));
            edges.push(edge);
        }
        for e in &mut edges {
            for hop in &mut e.hops {
                hop.1 = count;
                count += 1;
            }
        }
        let mut layout = Self {
            model,
            shape,
            edges,
            count: count + 1,
            fixed,
        };
        for e in 0..layout.edges.len() {
            layout.edges[e].wide = layout.spread_partial(e, assignment);
        }
        layout
    }

    /// The edge out of a mark.
    fn out_of(&self, edge: usize) -> Option<&Edge> {
        self.edges.iter().find(|e| e.above == Some(edge))
    }

    /// Whether spatial loops alone make the child of an edge hold partial sums.
    fn spread_partial(&self, edge: usize, assignment: &Assignment) -> bool {
        let model = self.model;
        let e = &self.edges[edge];
        let (Some(child), 2) = (e.child, e.operand) else {
            return false;
        };
        let from = model.slots[self.shape.marks[child].slot].section;
        let next = self.out_of(edge).and_then(|n| n.child);
        let to = next.map_or(usize::MAX, |m| {
            model.slots[self.shape.marks[m].slot].section
        });
        assignment.spreads.iter().any(|s| {
            let (section, d) = (model.axis_section[usize::from(s.axis)], usize::from(s.dim));
            let summed = section >= from && !model.has(2, d) && model.shares(s.axis, 2);
            section < to && model.frame.dims[d].scatters && !summed
        })
    }

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
            .filter(|e| {
                self.edges[*e].operand == 2
                    && self.edges[*e].child.is_some()
                    && self.edges[*e].merged > 1.0
            })
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
                options.partial[*k] & !options.partial[i] & !RAGGED == 0
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
                f[Factors::Tile as usize] = if named { f64::from(tiles[m]) } else { 1.0 };
                if e.operand == 2 && model.frame.dims[dim].scatters {
                    let next = self.out_of(i).and_then(|n| n.child);
                    let below = next.map_or(u8::MAX, |n| shape.below(model, n));
                    if links.iter().any(|l| l.axis.is_none() && l.gap < below) {
                        partial |= 1 << m;
                    }
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

    /// Whether tiles fit, of products of factors.
    fn fits(&self, factors: &[f64], tiles: &[[u64; DIMS]], partial: u32) -> bool {
        let model = self.model;
        let mut used = [0.0; STORES];
        for (i, e) in self.edges.iter().enumerate() {
            let Some(m) = e.child else { break };
            let elements = if model.windows(e.operand) {
                model
                    .frame
                    .elements(e.operand, &tiles[m][..model.sizes.len()])
            } else {
                factors[i * KINDS + Factors::Tile as usize]
            };
            let wide = e.operand == 2 && (e.wide || partial & (1 << m) != 0);
            let width = if wide {
                model.frame.partial
            } else {
                model.frame.bits[e.operand]
            };
            used[e.child_store] += elements * width;
            if used[e.child_store] > model.stores[e.child_store].capacity {
                return false;
            }
        }
        true
    }

    /// Time and dynamic energy from products of factors: exact where all dimensions are chosen and the model is exact,
    /// else lower bounds. None if tiles do not fit. `tiles` holds for each mark the tile of every dimension.
    ///
    /// Output, with `M` children merged into one: from one more visit of a storage with `D` drains its drains grow by
    /// `M` wide words, what its entries without a value save below by `M - 1` (all `M` where nothing
    /// comes back), and what is written above by one: the sum never falls.
    pub fn evaluate(
        &self,
        factors: &[f64],
        tiles: &[[u64; DIMS]],
        partial: u32,
        whole: bool,
    ) -> Option<(f64, f64)> {
        let (model, frame) = (self.model, self.model.frame);
        if !self.fits(factors, tiles, partial) {
            return None;
        }
        let exact = whole && model.exact && partial & RAGGED == 0;
        let mut energy = frame.mac_energy;
        let (mut exposed, mut stalled, mut waited) = (0.0, 0.0, 0.0);
        let mut ports = [Port::default(); STORES];
        let mut fresh = [0.0; 16];
        let wide = frame.partial;
        for (i, e) in self.edges.iter().enumerate() {
            let f = &factors[i * KINDS..(i + 1) * KINDS];
            let base = if e.child.is_some() {
                model.touched[e.operand]
            } else {
                model.points[e.operand]
            };
            let entering = base * f[Factors::Entering as usize];
            let served = base * f[Factors::Served as usize];
            let (entering, served) = if e.child.is_some() {
                (entering.max(base), served.max(base))
            } else {
                (entering, served)
            };
            let width = frame.bits[e.operand];
            let (above, here, ends);
            let mut held = width;
            if e.operand == 2 {
                let before = e.above.map_or(model.touched[2], |a| fresh[a]);
                let again = (served - before).max(0.0);
                let returned = if e.apart { 0.0 } else { again };
                let finals = if e.ever {
                    0.0
                } else {
                    model.touched[2].min(served)
                };
                // Of bounds: no more than as many drains as children merge into what arrives.
                let drains = if exact { entering } else { served * e.merged };
                fresh[i] = drains - returned;
                if let Some(m) = e.child
                    && (e.wide || partial & (1 << m) != 0)
                {
                    held = wide;
                }
                above = [again * wide, finals * width + (served - finals) * wide];
                here = [entering * held, returned * wide];
                ends = (finals, returned);
            } else {
                above = [served * width, 0.0];
                here = [0.0, entering * width];
                ends = (0.0, 0.0);
            }
            for (hop, at) in &e.hops {
                let words = base * factors[*at];
                let bits = if e.operand == 2 {
                    let finals = if words <= served * (1.0 + 1e-12) {
                        ends.0
                    } else {
                        0.0
                    };
                    finals * width + (words - finals + ends.1) * wide
                } else {
                    words * width
                };
                energy += bits * hop;
            }
            let p = &model.stores[e.parent_store];
            energy += above[0] * p.energy[0] + above[1] * p.energy[1];
            let share = f[Factors::ParentShare as usize];
            let above = [above[0] * p.time[0] * share, above[1] * p.time[1] * share];
            ports[e.parent_store].read += above[0];
            ports[e.parent_store].write += above[1];
            if e.child.is_none() {
                continue;
            }
            let c = &model.stores[e.child_store];
            energy += here[0] * c.energy[0] + here[1] * c.energy[1];
            let share = f[Factors::ChildShare as usize];
            let here = [here[0] * c.time[0] * share, here[1] * c.time[1] * share];
            ports[e.child_store].read += here[0];
            ports[e.child_store].write += here[1];
            let (up, down) = if e.operand == 2 {
                (above[1], here[0])
            } else {
                (above[0], here[1])
            };
            let slower = up.max(down);
            let part = f[Factors::First as usize].min(1.0);
            let first = slower * part + p.setup;
            exposed += first;
            if c.single {
                stalled += slower * (1.0 - part);
                waited += slower + p.setup;
            } else {
                waited += first;
            }
            ports[e.parent_store].setup += p.setup * f[Factors::Visits as usize];
            ports[e.parent_store].exposed += up * part + p.setup;
            ports[e.child_store].exposed += down * part;
            ports[e.parent_store].touched += first;
            ports[e.child_store].touched += first;
        }
        let iterations = factors[self.count - 1] * model.density;
        let compute = iterations * frame.point_time;
        let mut time = if exact {
            self.fixed + exposed + compute + stalled
        } else {
            self.fixed + waited + compute
        };
        for (port, store) in ports.iter().zip(&model.stores) {
            if port.read + port.write == 0.0 {
                continue;
            }
            let busy = port.setup
                + if store.shared_port {
                    port.read + port.write
                } else {
                    port.read.max(port.write)
                };
            let also = if exact {
                exposed - port.exposed
            } else {
                (exposed - port.touched).max(0.0)
            };
            time = time.max(self.fixed + busy + also).max(busy);
        }
        Some((time, energy))
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

/// Traffic of one memory's busiest instance.
#[derive(Debug, Clone, Copy, Default)]
struct Port {
    read: f64,
    write: f64,
    setup: f64,
    exposed: f64,
    /// Exposed time of all transfers that it takes part in.
    touched: f64,
}
