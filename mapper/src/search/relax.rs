//! Bounds on all assignments and all chains of a shape at once.
//!
//! Between two stages of a dimension (its gaps and the axes it may lie along, from the outside in) a chain steps from `n` tiles to
//! `n'` by a loop of `m` trips. With `r = ln(n' / n)` and `t = ln m >= r`, the logarithm of every factor
//! ([`super::layout`]) is at least a sum over stages of multiples of `r` and `t`, with equality where nothing is left over:
//!
//! ```text
//! combinations of the loops K      >= r of all stages up to the last of K - t of those not in K
//! share of the busiest instance    >= - t of the axes above
//! tile                             >= r of the stages inside
//! first tile over all              >= - t of the loops in time above
//! words, of an own dimension       >= ln(1 - share of a lone tile)
//! ```
//!
//! (`n = n_1 <= (combinations of K) x (product of the other trips)`.) So a bound by weights ([`super::dual`]) is, of each
//! dimension, a shortest path through its tile counts: no chain is enumerated, and the axes' trips are a step as any
//! other, held together by the room that an axis has. What holds for all assignments holds, with the trips of the axes
//! fixed, for one: a bound on it before any of its options is built.

use super::assign::Assignment;
use super::dual::{Dual, Weights};
use super::layout::{Factors, KINDS, Layout};
use super::model::{Model, STORES};
use super::posynomial::{Posynomial, Room};
use super::shape::Shape;
use super::tree::{EQUAL, Goal};

/// Passes in search of weights.
const PASSES: u32 = 24;

/// A stage of a dimension: a gap in time, or an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Time(u8),
    Space(u8),
}

/// A multiple of `r`, of `t` or of a lone tile's loss in a stage, for each unit of a column.
#[derive(Debug, Clone, Copy)]
struct Part {
    column: u16,
    stage: u8,
    what: u8,
    sign: f64,
}

const RATIO: u8 = 0;
const TRIPS: u8 = 1;
const LONE: u8 = 2;

/// One dimension of a shape.
#[derive(Debug)]
struct Path {
    dim: usize,
    stages: Vec<Stage>,
    parts: Vec<Part>,
}

/// A shape with all its assignments.
#[derive(Debug)]
pub(super) struct Relaxed {
    paths: Vec<Path>,
    weights: Weights,
    off: f64,
    /// No mapping of the shape is better.
    pub bound: f64,
}

impl Relaxed {
    /// Bounds a shape; `best` is the incumbent's figure.
    pub fn new(model: &Model, shape: &Shape, goal: Goal, best: f64) -> Self {
        let mut layout = Layout::new(model, shape, &Assignment::none());
        // Nothing is known of what instances share: the weaker of each.
        for e in &mut layout.edges {
            e.apart = true;
        }
        let paths: Vec<Path> = (0..model.sizes.len())
            .map(|d| Path::new(&layout, d))
            .collect();
        let axes = model.frame.axes.len();
        // Without partial sums nothing is taken off, so least factors do not matter.
        let least = vec![1.0; layout.count];
        let mut posynomial = Posynomial::new(&layout, 0, &least);
        for (a, axis) in model.frame.axes.iter().enumerate() {
            posynomial.rooms.push(Room {
                store: STORES + a,
                column: layout.count + a,
                share: 1.0 / axis.size as f64,
            });
        }
        let mut dual = Dual::new(
            &posynomial,
            goal,
            model.frame.static_power,
            layout.count + axes,
            &least,
        );
        let target = dual.target(best * (1.0 - EQUAL));
        let mut values = Vec::new();
        dual.improve(target, super::dual::passes(), |weights, chosen| {
            let each = paths.iter().map(|p| p.least(model, weights, None, &mut values, Some(&mut *chosen)));
            each.sum()
        });
        Self {
            bound: dual.bound(),
            off: dual.off(),
            weights: std::mem::take(&mut dual.weights),
            paths,
        }
    }

    /// Logarithm of the part of a dimension, with given trips along the axes.
    pub fn part(&self, model: &Model, dim: usize, spread: &[(u8, u32)], values: &mut Vec<f64>) -> f64 {
        self.paths[dim].least(model, &self.weights, Some(spread), values, None)
    }

    /// Figure of a sum of parts.
    pub fn figure(&self, parts: f64) -> f64 {
        ((self.weights.constant + parts).exp() - self.off).max(0.0)
    }
}

impl Path {
    fn new(layout: &Layout, dim: usize) -> Self {
        let (model, shape) = (layout.model, layout.shape);
        let gaps = shape.gaps(model, dim);
        let mut stages = Vec::new();
        for section in 0..model.sections.len() {
            let here = gaps
                .iter()
                .filter(|g| shape.marks[usize::from(**g)].section == section);
            stages.extend(here.map(|g| Stage::Time(*g)));
            for (a, axis) in model.frame.axes.iter().enumerate() {
                if model.axis_section[a] == section && axis.accepts.contains(&dim) {
                    stages.push(Stage::Space(a as u8));
                }
            }
        }
        stages.push(Stage::Time(shape.marks.len() as u8));
        let mut path = Self {
            dim,
            stages,
            parts: Vec::new(),
        };
        path.collect(layout);
        path
    }

    fn stages_that(&self, of: impl Fn(Stage) -> bool) -> u32 {
        let each = self.stages.iter().enumerate().filter(|(_, s)| of(**s));
        each.fold(0, |m, (i, _)| m | 1 << i)
    }

    fn add(&mut self, column: usize, stages: u32, what: u8, sign: f64) {
        for stage in (0..self.stages.len() as u8).filter(|s| stages & (1 << s) != 0) {
            self.parts.push(Part {
                column: column as u16,
                stage,
                what,
                sign,
            });
        }
    }

    /// Combinations of loops, at least.
    fn ways(&mut self, column: usize, keep: u32) {
        if keep == 0 {
            return;
        }
        let up_to = u32::MAX >> keep.leading_zeros();
        self.add(column, up_to, RATIO, 1.0);
        self.add(column, up_to & !keep, TRIPS, -1.0);
    }

    fn collect(&mut self, layout: &Layout) {
        let (model, shape, dim) = (layout.model, layout.shape, self.dim);
        let section = |m: usize| model.slots[shape.marks[m].slot].section;
        let space = |a: u8| model.axis_section[usize::from(a)];
        let masked = model.masked[dim];
        for (i, e) in layout.edges.iter().enumerate() {
            let (from, to) = (
                e.parent.map_or(0, section),
                e.child.map_or(usize::MAX, section),
            );
            let until = e.child.map_or(u8::MAX, |m| m as u8 + 1);
            let named = model.has(e.operand, dim);
            let timed = self.stages_that(|s| matches!(s, Stage::Time(g) if g < until));
            let above = |p: &Self, to: usize| {
                p.stages_that(|s| matches!(s, Stage::Space(a) if space(a) < to))
            };
            let (above_parent, above_child) = (above(self, from), above(self, to));
            let shares =
                self.stages_that(|s| matches!(s, Stage::Space(a) if model.shares(a, e.operand)));
            let merging = above_child & !above_parent & shares;
            let (entering, served) = (timed | above_child, (timed | above_child) & !merging);
            let column = |f: Factors| i * KINDS + f as usize;
            self.add(column(Factors::ParentShare), above_parent, TRIPS, -1.0);
            self.add(column(Factors::ChildShare), above_child, TRIPS, -1.0);
            self.add(column(Factors::Visits), timed, TRIPS, 1.0);
            self.add(column(Factors::First), timed, TRIPS, -1.0);
            for (h, (_, at)) in e.hops.iter().enumerate() {
                if named {
                    continue;
                }
                let end = hop_end(layout, i, h);
                let inner = self.stages_that(|s| matches!(s, Stage::Space(a) if a >= end));
                let dropped = merging & inner;
                if e.child.is_some() {
                    if !masked {
                        self.ways(*at, entering & !dropped);
                    }
                } else {
                    self.add(*at, dropped, TRIPS, -1.0);
                }
            }
            let Some(m) = e.child else {
                if !named {
                    self.add(column(Factors::Served), merging, TRIPS, -1.0);
                }
                continue;
            };
            if named {
                for f in [Factors::Entering, Factors::Served] {
                    self.add(column(f), timed, LONE, 1.0);
                }
                let size = model.sizes[dim];
                if layout.breadth(e.operand, dim, size) == f64::from(size) {
                    let (natural, below) = (section(m), shape.below(model, m));
                    let inside = self.stages_that(|s| match s {
                        Stage::Time(gap) => gap >= below,
                        Stage::Space(a) => space(a) >= natural,
                    });
                    self.add(column(Factors::Tile), inside, RATIO, 1.0);
                }
            } else if !masked {
                self.ways(column(Factors::Entering), entering);
                self.ways(column(Factors::Served), served);
            }
        }
        let time = self.stages_that(|s| matches!(s, Stage::Time(_)));
        self.ways(layout.count - 1, time);
        for (i, s) in self.stages.clone().into_iter().enumerate() {
            if let Stage::Space(a) = s {
                self.add(layout.count + usize::from(a), 1 << i, TRIPS, 1.0);
            }
        }
    }

    /// The least weighted sum of a chain's parts; with given trips along the axes, or any. Adds the logarithms of the best
    /// chain's factors to `chosen`.
    fn least(
        &self,
        model: &Model,
        weights: &Weights,
        spread: Option<&[(u8, u32)]>,
        values: &mut Vec<f64>,
        chosen: Option<&mut [f64]>,
    ) -> f64 {
        let chain = &model.chains[self.dim];
        let n = chain.counts.len();
        let mut costs = [[0.0f64; 3]; 32];
        for p in &self.parts {
            let w = weights.columns.get(usize::from(p.column)).copied().unwrap_or(0.0);
            costs[usize::from(p.stage)][usize::from(p.what)] += w * p.sign;
        }
        let stages = self.stages.len();
        values.clear();
        values.resize((stages + 1) * n, f64::INFINITY);
        values[stages * n + n - 1] = 0.0;
        let allowed = |s: usize| -> (u32, u32) {
            match (self.stages[s], spread) {
                (Stage::Time(_), _) => (1, u32::MAX),
                (Stage::Space(a), None) => {
                    let most = model.frame.axes[usize::from(a)].size;
                    (1, most.min(u64::from(u32::MAX)) as u32)
                }
                (Stage::Space(a), Some(spread)) => {
                    let trips = spread.iter().find(|x| x.0 == a).map_or(1, |x| x.1);
                    (trips, trips)
                }
            }
        };
        for s in (0..stages).rev() {
            let (from, to) = allowed(s);
            let [r, t, lone] = costs[s];
            let (head, tail) = values.split_at_mut((s + 1) * n);
            let (outer, inner) = (&mut head[s * n..], &tail[..n]);
            for (value, steps) in outer.iter_mut().zip(&chain.steps) {
                let fit = steps.iter().filter(|x| x.trips >= from && x.trips <= to);
                for x in fit {
                    let v = inner[usize::from(x.inner)] + r * x.ratio + t * x.log + lone * x.lone;
                    if v < *value {
                        *value = v;
                    }
                }
            }
        }
        if let Some(chosen) = chosen.filter(|_| values[0].is_finite()) {
            let mut at = 0;
            for s in 0..stages {
                let (from, to) = allowed(s);
                let [r, t, lone] = costs[s];
                let inner = &values[(s + 1) * n..(s + 2) * n];
                let cost = |x: &&super::chain::Step| {
                    inner[usize::from(x.inner)] + r * x.ratio + t * x.log + lone * x.lone
                };
                let fit = chain.steps[at].iter().filter(|x| x.trips >= from && x.trips <= to);
                let Some(best) = fit.min_by(|a, b| cost(a).total_cmp(&cost(b))) else {
                    break;
                };
                for p in self.parts.iter().filter(|p| usize::from(p.stage) == s) {
                    let x = match p.what {
                        RATIO => best.ratio,
                        TRIPS => best.log,
                        _ => best.lone,
                    };
                    chosen[usize::from(p.column)] += p.sign * x;
                }
                at = usize::from(best.inner);
            }
        }
        values[0]
    }
}

/// The end of the axes of an edge's fanout.
fn hop_end(layout: &Layout, edge: usize, hop: usize) -> u8 {
    let model = layout.model;
    let e = &layout.edges[edge];
    let section = |m: usize| model.slots[layout.shape.marks[m].slot].section;
    let (from, to) = (
        e.parent.map_or(0, section),
        e.child.map_or(usize::MAX, section),
    );
    let between = |f: &&(std::ops::Range<usize>, f64)| {
        let s = model.axis_section.get(f.0.start).copied().unwrap_or(0);
        f.1 > 0.0 && s >= from && s < to
    };
    model
        .fans
        .iter()
        .filter(between)
        .nth(hop)
        .map_or(0, |f| f.0.end as u8)
}
