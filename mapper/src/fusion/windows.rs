//! Windows: what a loop over rows of what leaves a group makes of the ops before.
//!
//! Row `p` of a convolution or pooling reads the rows `stride x p + offset .. + span` of its input, `span = dilation x
//! (taps - 1) + 1`, what lies outside `0..size` being padding; an elementwise op reads row `p` alone (span 1). With the
//! rows that leave the group cut into tiles `[a, b)`, the rows that each op makes follow from the last to the first
//! (Alwani et al., MICRO 2016; Mei et al., DeFiNES, HPCA 2023):
//!
//! ```text
//! needs     of rows [lo, hi) of a reader:  [stride lo + offset, stride (hi - 1) + offset + span), within 0..size, from
//!           the first row that a tap falls on to the last; of several readers (a skip beside a convolution) the hull
//!
//! recompute made  = needs                            overlaps are made again by each iteration
//!           there = made
//! keep      made  = [end before, end)                end = last of the needs, never going back; each row once: the first
//!                                                    iteration makes more, the last all that is left
//!           there = [first row that a reader still wants, end)     rows kept from iteration to iteration
//! ```
//!
//! Tensors from outside that are read through windows have rows like those of an op: needed, or where they are held,
//! fetched as they would be made. So a convolution with only pointwise ops behind it has a window too, in which no row of an op overlaps
//! with others. Iterations of equal rows, each as far from the others, are one class.
//!
//! What an op makes in an iteration may be nothing (its rows ended before those of the last op): then it does not run.
//!
//! A window is a set of axes, one for each einsum, that reach each other through windows or are the same, and such that
//! no einsum reduces its own; what leaves the group has one axis, the loop's. Rows are kept along the innermost loop
//! only: rows kept over another loop would have to be there for each iteration of those inside.

use presil_workloads::einsum::Place;
use presil_workloads::{Access, Affine, DimId, Domain, Einsum, TensorId};

use super::axes::Group;
use super::split::{Link, Splitter, plain};
use crate::schedule::residency::Scene;

/// Iterations of a loop at most.
const TRIPS: u64 = 1 << 16;

/// Rows that windows link, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// The axis of what leaves the group, which the loop cuts.
    pub(crate) axis: usize,
    /// Of each site, its axis.
    pub(crate) of_site: Vec<usize>,
    /// Tensors from outside that are read row by row; nodes are sites, then these.
    pub(crate) outside: Vec<TensorId>,
    /// Rows of each node, all there are.
    pub(crate) sizes: Vec<u64>,
    /// Sites whose output leaves the group.
    leaving: Vec<usize>,
    pub(crate) reads: Vec<Read>,
}

/// How a site reads rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) site: usize,
    /// Which of its inputs, and the rank.
    pub(crate) input: usize,
    pub(crate) rank: usize,
    /// Whose rows.
    pub(crate) node: usize,
    pub(crate) stride: i64,
    pub(crate) offset: i64,
    pub(crate) span: i64,
    /// Rows from one tap to the next.
    pub(crate) dilation: i64,
}

/// Rows from one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rows {
    pub(crate) from: i64,
    pub(crate) count: u64,
}

impl Rows {
    fn new(from: i64, to: i64) -> Self {
        Self {
            from,
            count: u64::try_from(to - from).unwrap_or(0),
        }
    }

    pub(crate) fn end(self) -> i64 {
        self.from + self.count as i64
    }

    /// The least rows that have both.
    fn hull(self, other: Self) -> Self {
        match (self.count, other.count) {
            (0, _) => other,
            (_, 0) => self,
            _ => Self::new(self.from.min(other.from), self.end().max(other.end())),
        }
    }
}

/// An iteration: of each node the rows made or fetched, and those there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slide {
    pub(crate) made: Vec<Rows>,
    pub(crate) there: Vec<Rows>,
}

/// The iterations of a loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slides {
    /// Equal ones, with how many there are.
    pub(crate) classes: Vec<(u64, Slide)>,
    /// Rows of each node made or fetched in all iterations.
    pub(crate) made: Vec<u64>,
    /// The most that each node makes or has there in an iteration.
    pub(crate) most: Slide,
    /// Whether rows of a node stay from one iteration to the next.
    pub(crate) kept: Vec<bool>,
    /// Rows of a node that an iteration and the next both have, at most.
    pub(crate) overlap: Vec<u64>,
}

impl Slides {
    /// Classes that stand for others: iterations of as many rows of the last op are as most of them are.
    pub(crate) fn rough(&self, window: &Window) -> Vec<(u64, Slide)> {
        let trips: u64 = self.classes.iter().map(|c| c.0).sum();
        if trips <= 3 {
            return self.classes.clone();
        }
        let rows = |s: &Slide| window.leaving.first().map_or(0, |l| s.made[*l].count);
        let mut list: Vec<(u64, u64, Slide)> = Vec::new();
        for (weight, slide) in &self.classes {
            match list.iter_mut().find(|l| rows(&l.2) == rows(slide)) {
                Some(known) => {
                    known.0 += weight;
                    if *weight > known.1 {
                        (known.1, known.2) = (*weight, slide.clone());
                    }
                }
                None => list.push((*weight, *weight, slide.clone())),
            }
        }
        list.into_iter().map(|(n, _, slide)| (n, slide)).collect()
    }
}

impl Window {
    /// The iterations of a loop over tiles; `None` if there are too many. `keep`: rows stay over iterations.
    pub(crate) fn slides(&self, tile: u64, keep: bool) -> Option<Slides> {
        let size = self.sizes[*self.leaving.first()?];
        let trips = size.div_ceil(tile.max(1));
        if trips > TRIPS {
            return None;
        }
        let nodes = self.sizes.len();
        let mut classes: Vec<(u64, Slide, Vec<i64>)> = Vec::new();
        let mut made = vec![0u64; nodes];
        let none = vec![Rows::default(); nodes];
        let mut most = Slide {
            made: none.clone(),
            there: none,
        };
        let mut kept = vec![false; nodes];
        let mut overlap = vec![0u64; nodes];
        let mut before: Option<Vec<Rows>> = None;
        let mut ends = vec![0i64; nodes];
        for i in 0..trips {
            let (from, to) = (i * tile, ((i + 1) * tile).min(size));
            let rows = Rows::new(from as i64, to as i64);
            let slide = match keep {
                false => self.recomputed(rows),
                true => self.kept(rows, i == 0, to == size, &mut ends),
            };
            for n in 0..nodes {
                made[n] += slide.made[n].count;
                most.made[n].count = most.made[n].count.max(slide.made[n].count);
                most.there[n].count = most.there[n].count.max(slide.there[n].count);
                kept[n] |= slide.there[n].from < slide.made[n].from;
                if let Some(before) = &before {
                    let both = before[n].end().min(slide.there[n].end()) - slide.there[n].from;
                    overlap[n] = overlap[n].max(u64::try_from(both).unwrap_or(0));
                }
            }
            before = Some(slide.there.clone());
            let key = self.key(&slide);
            match classes.iter_mut().find(|c| c.2 == key) {
                Some(class) => class.0 += 1,
                None => classes.push((1, slide, key)),
            }
        }
        Some(Slides {
            classes: classes.into_iter().map(|c| (c.0, c.1)).collect(),
            made,
            most,
            kept,
            overlap,
        })
    }

    /// What two iterations must have in common to cost the same.
    fn key(&self, slide: &Slide) -> Vec<i64> {
        let counts = slide
            .made
            .iter()
            .chain(&slide.there)
            .map(|r| r.count as i64);
        let reads = self.reads.iter().map(|r| match slide.made[r.site].count {
            0 => 0,
            _ => r.local(slide),
        });
        counts.chain(reads).collect()
    }

    /// Every overlap made again.
    fn recomputed(&self, rows: Rows) -> Slide {
        let mut made = vec![Rows::default(); self.sizes.len()];
        for leaving in &self.leaving {
            made[*leaving] = rows;
        }
        for read in self.reads.iter().rev() {
            let wanted = made[read.site];
            if wanted.count > 0 {
                let needs = read.needs(wanted, self.sizes[read.node]);
                made[read.node] = made[read.node].hull(needs);
            }
        }
        Slide {
            there: made.clone(),
            made,
        }
    }

    /// Every row made once. `ends`: the ends of what was made before.
    fn kept(&self, rows: Rows, first: bool, last: bool, ends: &mut [i64]) -> Slide {
        let before = ends.to_vec();
        let sites = self.of_site.len();
        for leaving in &self.leaving {
            ends[*leaving] = rows.end();
        }
        if last {
            for (end, size) in ends.iter_mut().zip(&self.sizes).take(sites) {
                *end = *size as i64;
            }
        }
        for read in self.reads.iter().rev() {
            let new = Rows::new(before[read.site], ends[read.site]);
            if new.count > 0 {
                let needs = read.needs(new, self.sizes[read.node]);
                ends[read.node] = ends[read.node].max(needs.end());
            }
        }
        let mut made: Vec<Rows> = before
            .iter()
            .zip(ends.iter())
            .map(|(from, to)| Rows::new(*from, *to))
            .collect();
        let mut starts: Vec<i64> = made.iter().map(|m| m.from).collect();
        if first {
            // Rows from outside that nobody wants are not fetched.
            starts[sites..].copy_from_slice(&ends[sites..]);
        }
        for read in &self.reads {
            let from = made[read.site].from * read.stride + read.offset;
            starts[read.node] = starts[read.node].min(from.clamp(0, ends[read.node]));
        }
        let there: Vec<Rows> = starts
            .iter()
            .zip(ends.iter())
            .map(|(from, to)| Rows::new(*from, *to))
            .collect();
        if first {
            made[sites..].copy_from_slice(&there[sites..]);
        }
        Slide { made, there }
    }
}

impl Read {
    /// The rows that some of the reader's need: from the first that a tap falls on to the last.
    fn needs(&self, rows: Rows, size: u64) -> Rows {
        let (size, step, taps) = (size as i64, self.dilation, self.span - 1);
        let start = |row: i64| row * self.stride + self.offset;
        // Taps in the padding, beyond which only whole steps count.
        let steps = |rows: i64| (rows.max(0) + step - 1) / step * step;
        let first = |row: i64| start(row) + steps(-start(row));
        let last = |row: i64| {
            let last = start(row) + taps;
            last - steps(last - size + 1)
        };
        let (mut from, mut to) = (i64::MAX, i64::MIN);
        for row in rows.from..rows.end() {
            if first(row) < size && first(row) <= start(row) + taps {
                from = from.min(first(row));
            }
            if start(row) >= 0 {
                break;
            }
        }
        for row in (rows.from..rows.end()).rev() {
            if last(row) >= 0 && last(row) >= start(row) {
                to = to.max(last(row) + 1);
            }
            if start(row) + taps < size {
                break;
            }
        }
        match from < to {
            true => Rows::new(from, to),
            false => Rows::default(),
        }
    }

    /// Where the window of the first row made lies in what is there.
    pub(crate) fn local(&self, slide: &Slide) -> i64 {
        slide.made[self.site].from * self.stride + self.offset - slide.there[self.node].from
    }
}

/// A rank as a dimension that is not reduced runs over it: that dimension, stride, offset, span and dilation.
fn sliding(rank: &Affine, e: &Einsum) -> Option<(DimId, [i64; 4])> {
    let mut moving = None;
    let (mut span, mut dilation) = (1i64, None);
    for (d, c) in &rank.terms {
        if *c <= 0 {
            return None;
        }
        if e.is_reduced(*d) {
            if e.dim(*d).size > 1 && dilation.replace(*c).is_some() {
                return None;
            }
            span = span.checked_add(c.checked_mul(i64::try_from(e.dim(*d).size - 1).ok()?)?)?;
        } else if moving.replace((*d, *c)).is_some() {
            return None;
        }
    }
    moving.map(|(d, stride)| (d, [stride, rank.offset, span, dilation.unwrap_or(1)]))
}

/// Two axes that a tensor between two sites links; one and itself where a tensor from outside is read through a window.
struct Edge {
    maker: usize,
    reader: usize,
}

/// The windows of a group: those that a loop may cut.
pub(super) fn find(scene: &Scene, group: &Group, splitter: &mut Splitter) -> Vec<Window> {
    let mut edges: Vec<Edge> = Vec::new();
    let mut blocked = vec![false; group.axes.len()];
    let one = |site: usize, d: DimId| match group.parts[site][d.0 as usize].as_slice() {
        [axis] => Some(*axis),
        _ => None,
    };
    for l in 0..splitter.links.len() {
        for (ra, rb) in splitter.whole(l) {
            let link = &splitter.links[l];
            let ((sa, a), (sb, b)) = (link.a, link.b);
            let (ea, eb) = (splitter.sites[sa].1, splitter.sites[sb].1);
            let maker = plain(&a.ranks[ra], a.extents[ra], ea).flatten();
            let maker = maker.and_then(|d| one(sa, d));
            let reader = sliding(&b.ranks[rb], eb).and_then(|w| one(sb, w.0));
            match (maker, reader) {
                (Some(maker), Some(reader)) => edges.push(Edge { maker, reader }),
                _ => {
                    for (site, rank) in [(sa, &a.ranks[ra]), (sb, &b.ranks[rb])] {
                        block(group, site, rank.terms.iter().map(|t| t.0), &mut blocked);
                    }
                }
            }
        }
    }
    // Rows read from outside through a window are one by themselves.
    for (s, (_, e)) in splitter.sites.iter().enumerate() {
        for (input, access) in e.inputs.iter().enumerate() {
            let made = |l: &Link| l.b.0 == s && l.input == input;
            if splitter.links.iter().any(made) {
                continue;
            }
            let slides = access.ranks.iter().zip(&access.extents);
            let slides = slides.filter(|(rank, extent)| plain(rank, **extent, e).is_none());
            let axes = slides.filter_map(|(rank, _)| one(s, sliding(rank, e)?.0));
            edges.extend(axes.map(|a| Edge {
                maker: a,
                reader: a,
            }));
        }
    }
    for (s, (_, e)) in splitter.sites.iter().enumerate() {
        for (rank, extent) in e.output.ranks.iter().zip(&e.output.extents) {
            if plain(rank, *extent, e).is_none() {
                block(group, s, rank.terms.iter().map(|t| t.0), &mut blocked);
            }
        }
        if let Domain::Causal {
            query: a, key: b, ..
        }
        | Domain::Banded {
            query: a, key: b, ..
        }
        | Domain::Ragged {
            group: a, row: b, ..
        } = e.domain
        {
            block(group, s, [a, b].into_iter(), &mut blocked);
        }
    }
    let mut list = Vec::new();
    for axes in components(group.axes.len(), &edges) {
        if axes.iter().all(|a| !blocked[*a]) {
            list.extend(window(scene, group, splitter, &axes));
        }
    }
    list
}

fn block(group: &Group, site: usize, dims: impl Iterator<Item = DimId>, blocked: &mut [bool]) {
    for d in dims {
        for a in &group.parts[site][d.0 as usize] {
            blocked[*a] = true;
        }
    }
}

/// Axes that edges link.
fn components(axes: usize, edges: &[Edge]) -> Vec<Vec<usize>> {
    let mut set: Vec<usize> = (0..axes).collect();
    for e in edges {
        let (from, to) = (set[e.maker], set[e.reader]);
        set.iter_mut().filter(|s| **s == from).for_each(|s| *s = to);
    }
    let mut roots: Vec<usize> = edges.iter().map(|e| set[e.maker]).collect();
    roots.sort_unstable();
    roots.dedup();
    let of = |root: &usize| (0..axes).filter(|a| set[*a] == *root).collect();
    roots.iter().map(of).collect()
}

/// A component's window, if a loop may cut it.
fn window(scene: &Scene, group: &Group, splitter: &Splitter, axes: &[usize]) -> Option<Window> {
    let sites = group.sites.len();
    // Of each site its dimension and axis.
    let mut of_site: Vec<(DimId, usize)> = Vec::new();
    for (s, (_, e)) in splitter.sites.iter().enumerate() {
        let dims = e.dim_ids().flat_map(|d| {
            let parts = group.parts[s][d.0 as usize].iter();
            parts.filter(|p| axes.contains(p)).map(move |p| (d, *p))
        });
        let dims: Vec<(DimId, usize)> = dims.collect();
        let [own] = dims.as_slice() else { return None };
        if e.is_reduced(own.0) {
            return None;
        }
        of_site.push(*own);
    }
    let read = |s: &usize| splitter.links.iter().any(|l| l.a.0 == *s);
    let leaving: Vec<usize> = (0..sites).filter(|s| !read(s)).collect();
    let axis = of_site[*leaving.first()?].1;
    if leaving.iter().any(|s| of_site[*s].1 != axis) {
        return None;
    }
    let mut made = Window {
        axis,
        sizes: of_site.iter().map(|(_, a)| group.axes[*a].size).collect(),
        of_site: of_site.iter().map(|(_, a)| *a).collect(),
        outside: Vec::new(),
        leaving,
        reads: Vec::new(),
    };
    // Where the rows of each tensor from outside lie in it.
    let mut places: Vec<(u64, u64)> = Vec::new();
    for (s, (site, e)) in splitter.sites.iter().enumerate() {
        let (own, part) = of_site[s];
        for (input, access) in e.inputs.iter().enumerate() {
            let link = splitter
                .links
                .iter()
                .find(|l| l.b.0 == s && l.input == input);
            let mut ranks = access
                .ranks
                .iter()
                .enumerate()
                .filter(|(_, r)| r.terms.iter().any(|t| t.0 == own));
            let (Some((rank, expression)), None) = (ranks.next(), ranks.next()) else {
                if link.is_some() || Einsum::names(access, own) {
                    return None;
                }
                continue;
            };
            let window = match plain(expression, access.extents[rank], e) {
                Some(_) => [1, 0, 1, 1],
                None if group.parts[s][own.0 as usize].len() == 1 => sliding(expression, e)?.1,
                None => return None,
            };
            let node = match (link, access.place) {
                (Some(link), _) => link.a.0,
                (None, Place::Input(i)) => {
                    let op = &scene.graph.ops[group.ops[site.member]];
                    let t = TensorId(scene.stored(*op.inputs.get(i as usize)?) as u32);
                    let parts = &group.parts[s][own.0 as usize];
                    let place = place(group, access, rank, parts, part);
                    let known = made.outside.iter().position(|x| *x == t);
                    let at = known.unwrap_or(places.len());
                    if known.is_none() {
                        made.outside.push(t);
                        made.sizes.push(place.1);
                        places.push(place);
                    }
                    if places[at] != place {
                        return None;
                    }
                    sites + at
                }
                (None, _) => return None,
            };
            let [stride, offset, span, dilation] = window;
            made.reads.push(Read {
                site: s,
                input,
                rank,
                node,
                stride,
                offset,
                span,
                dilation,
            });
        }
    }
    Some(made)
}

/// Where rows lie in a tensor: elements from one to the next, and how many there are.
fn place(group: &Group, access: &Access, rank: usize, parts: &[usize], part: usize) -> (u64, u64) {
    let inner = access.extents[rank + 1..].iter();
    let mut step = inner.fold(1u64, |n, e| n.saturating_mul(*e));
    if let [_] = parts {
        return (step, access.extents[rank]);
    }
    let behind = parts.iter().rev().take_while(|p| **p != part);
    for p in behind {
        step = step.saturating_mul(group.axes[*p].size);
    }
    (step, group.axes[part].size)
}
