//! Branch and bound over all assignments and shapes: the optimum and its certificate.

use rustc_hash::FxHashMap;

use super::assign;
use super::model::{DIMS, Model};
use super::shape;
use super::terms::{Layout, Options};
use super::tree::{EQUAL, Figure, Goal, Judge, Tree, Work};

/// Assignments that are told apart.
const ASSIGNMENTS: usize = 50_000;

/// What a search did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outcome {
    pub root: f64,
    pub bound: f64,
    pub proven: bool,
    pub work: Work,
    pub assignments: usize,
    pub shapes: usize,
    pub subtrees: usize,
    pub entered: usize,
}

/// Minimizes the goal's figure, given an incumbent of so much.
pub(super) fn prove<J: Judge>(
    model: &Model,
    goal: Goal,
    mut best: f64,
    judge: &mut J,
    budget: u64,
) -> Outcome {
    let frame = model.frame;
    // More cycles than the incumbent's whole time, or than its limit, cannot be worth it.
    let most = match (goal.figure, goal.limited) {
        (Figure::Time, _) => best,
        (_, Figure::Time) => goal.limit,
        _ => f64::INFINITY,
    };
    let cycles = (most * (1.0 + EQUAL) - frame.fixed) / frame.point_time;
    let (assignments, whole) = assign::all(model, cycles, ASSIGNMENTS);
    let shapes = shape::all(model);
    let mut out = Outcome {
        assignments: assignments.len(),
        shapes: shapes.len(),
        bound: f64::INFINITY,
        root: f64::INFINITY,
        ..Outcome::default()
    };
    let mut open = f64::INFINITY;
    // Bounds of all pairs of assignment and shape.
    let mut ranked: Vec<(f64, u32, u32)> = Vec::new();
    let mut cache: FxHashMap<(usize, usize, Vec<(u8, u32)>), Options> = FxHashMap::default();
    for (a, assignment) in assignments.iter().enumerate() {
        for (s, shape) in shapes.iter().enumerate() {
            if out.work.bounds > budget {
                // Not looked at: nothing is known of it.
                open = 0.0;
                break;
            }
            let layout = Layout::new(model, shape, assignment);
            let keys = keys(model, s, assignment);
            for key in &keys {
                cache.entry(key.clone()).or_insert_with(|| layout.options(key.1, assignment));
            }
            let options: Vec<&Options> = keys.iter().map(|k| &cache[k]).collect();
            out.work.bounds += 1;
            let bound = root(&layout, &options, model, goal);
            out.root = out.root.min(bound);
            if bound < best * (1.0 - EQUAL) {
                ranked.push((bound, a as u32, s as u32));
            } else {
                out.work.pruned += 1;
            }
        }
    }
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    out.subtrees = ranked.len();
    for &(bound, a, s) in &ranked {
        if bound >= best * (1.0 - EQUAL) {
            break;
        }
        if out.work.bounds > budget {
            open = open.min(bound);
            break;
        }
        out.entered += 1;
        let (assignment, shape) = (&assignments[a as usize], &shapes[s as usize]);
        let layout = Layout::new(model, shape, assignment);
        let options: Vec<&Options> = keys(model, s as usize, assignment).iter().map(|k| &cache[k]).collect();
        let mut order: Vec<usize> = (0..options.len()).collect();
        order.sort_by_key(|d| (std::cmp::Reverse(options[*d].chains.len()), *d));
        let mut tree = Tree {
            layout: &layout,
            model,
            shape,
            options: &options,
            goal,
            best,
            judge,
            work: &mut out.work,
            budget,
            open: f64::INFINITY,
            order,
            rest: Vec::new(),
            chosen: [0; DIMS],
        };
        tree.search();
        best = tree.best;
        open = open.min(tree.open);
    }
    out.bound = best.min(open);
    out.proven = whole && open >= best * (1.0 - EQUAL);
    out
}

type OptionKey = (usize, usize, Vec<(u8, u32)>);

fn keys(model: &Model, shape: usize, assignment: &assign::Assignment) -> Vec<OptionKey> {
    (0..model.sizes.len())
        .map(|d| {
            let mine = assignment.spreads.iter().filter(|s| usize::from(s.dim) == d);
            (shape, d, mine.map(|s| (s.axis, s.trips)).collect())
        })
        .collect()
}

fn root(layout: &Layout, options: &[&Options], model: &Model, goal: Goal) -> f64 {
    let mut factors = vec![1.0; layout.count];
    let mut tiles = [[1u64; DIMS]; shape::MARKS];
    let mut partial = 0;
    for (d, o) in options.iter().enumerate() {
        factors.iter_mut().zip(&o.least).for_each(|(f, l)| *f *= l);
        for (m, t) in o.least_tiles.iter().enumerate() {
            tiles[m][d] = u64::from(*t);
        }
        partial |= o.least_partial;
    }
    if factors.iter().any(|f| f.is_infinite()) {
        return f64::INFINITY;
    }
    let cost = layout.evaluate(&factors, &tiles, partial, options.is_empty());
    cost.map_or(f64::INFINITY, |(t, e)| goal.of(model.frame.static_power, t, e))
}
