//! Branch and bound over all assignments and shapes: the optimum, and what proves it.
//!
//! Best first over a heap of *assignments* (bounded by compulsory traffic, [`Assignment::bound`]), and *trees*, one for each assignment and shape
//! (bounded by the least factors of every dimension); a tree is searched depth first. What has a bound no less than the best mapping so far
//! is cut off; when the heap's least bound is, the best mapping is the optimum.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use presil_hwmodels::{NodeId, Operand};
use rustc_hash::FxHashMap;

use super::assign::{self, Assignment};
use super::cases::{self, Root};
use super::chain::Link;
use super::model::{DIMS, Model};
use super::shape::{self, Shape};
use super::layout::Layout;
use super::options::Options;
use super::tree::{EQUAL, Figure, Goal, Judge, Tree, Work};

/// Assignments that are told apart at most.
const ASSIGNMENTS: usize = 8_000;

/// Trees that are dived into before any is searched in full.
const DIVES: usize = 8;
/// Work of building an option and of bounding a tree, in bounds of nodes.
const OPTION_WORK: u64 = 3;
const ROOT_WORK: u64 = 8;

/// A subtree that was cut off: all mappings of an assignment, of a shape if there is one, with the given chains.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    pub assignment: Assignment,
    /// Memory, operand and section of its marks.
    pub marks: Option<Vec<(NodeId, Operand, usize)>>,
    pub fixed: Vec<(usize, Vec<Link>)>,
    pub bound: f64,
}

/// What a search did.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    /// Bound at the root.
    pub root: f64,
    /// Lower bound on every mapping of the space.
    pub bound: f64,
    pub proven: bool,
    pub work: Work,
    pub assignments: usize,
    pub shapes: usize,
    pub entered: usize,
    /// What was cut off, if asked for.
    pub cuts: Vec<Cut>,
}

/// A subtree in the heap: an assignment, or a tree of an assignment and a shape.
#[derive(Debug, Clone, Copy)]
struct Open {
    bound: f64,
    assignment: u32,
    /// Its shape, and its place in the list of trees.
    tree: Option<(u32, u32)>,
}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> Ordering {
        // The least bound first; of equal ones trees before assignments, then in order.
        let key = |o: &Self| (o.tree.is_none(), o.assignment, o.tree);
        other
            .bound
            .total_cmp(&self.bound)
            .then_with(|| key(other).cmp(&key(self)))
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Open {}

/// Minimizes the goal's figure, given an incumbent of so much, within a budget of work.
pub(super) fn prove<J: Judge>(
    model: &Model,
    goal: Goal,
    mut best: f64,
    judge: &mut J,
    budget: u64,
    log: bool,
    cache: &mut Cache,
) -> Outcome {
    let frame = model.frame;
    let power = frame.static_power;
    // More cycles than the incumbent's whole time, or than its limit, cannot be worth it.
    let most = match (goal.figure, goal.limited) {
        (Figure::Time, _) => best,
        (_, Figure::Time) => goal.limit,
        _ => f64::INFINITY,
    };
    let cycles = if log {
        f64::INFINITY
    } else {
        (most * (1.0 + EQUAL) - frame.fixed) / frame.point_time
    };
    let (assignments, all) = assign::all(model, cycles, ASSIGNMENTS);
    let shapes = shape::all(model);
    let mut out = Outcome {
        assignments: assignments.len(),
        shapes: shapes.len(),
        root: f64::INFINITY,
        ..Outcome::default()
    };
    let mut heap: BinaryHeap<Open> = BinaryHeap::with_capacity(assignments.len());
    for (i, a) in assignments.iter().enumerate() {
        let (time, energy) = a.bound(model);
        let bound = goal.of(power, time, energy);
        out.root = out.root.min(bound);
        heap.push(Open {
            bound,
            assignment: i as u32,
            tree: None,
        });
    }
    out.work.bounds += assignments.len() as u64 / 8;
    let mut open = f64::INFINITY;
    let mut roots: Vec<Root> = Vec::new();
    // Trees that were dived into: a quick look at their most promising mappings.
    let mut dived: BinaryHeap<Open> = BinaryHeap::new();
    let mut diving = true;
    while let Some(top) = heap.pop().or_else(|| {
        diving = false;
        dived.pop()
    }) {
        let dead = top.bound >= best * (1.0 - EQUAL);
        if dead || out.work.bounds > budget {
            heap.push(top);
            if diving {
                // Nothing else to dive into: now all of them in full.
                diving = false;
                heap.append(&mut dived);
                continue;
            }
            if !dead {
                open = open.min(top.bound);
            }
            break;
        }
        let assignment = &assignments[top.assignment as usize];
        let Some((s, r)) = top.tree else {
            for (s, shape) in shapes.iter().enumerate() {
                let layout = Layout::new(model, shape, assignment);
                let keys = keys(model, s, assignment);
                for key in &keys {
                    if !cache.contains_key(key) {
                        let most = budget.saturating_sub(out.work.bounds) / OPTION_WORK;
                        let Some((options, built)) = layout.options(key.1, assignment, most) else {
                            out.work.bounds += OPTION_WORK * most + 1;
                            break;
                        };
                        out.work.bounds += OPTION_WORK * built + 1;
                        cache.insert(key.clone(), options);
                    }
                }
                let Some(options) = keys
                    .iter()
                    .map(|k| cache.get(k))
                    .collect::<Option<Vec<_>>>()
                else {
                    // The budget is spent.
                    open = open.min(top.bound);
                    break;
                };
                for mut root in cases::split(&layout, &options, goal) {
                    out.work.bounds += ROOT_WORK;
                    root.bound = root.bound.max(top.bound);
                    if root.bound >= best * (1.0 - EQUAL) && !log {
                        out.work.pruned += 1;
                        continue;
                    }
                    heap.push(Open {
                        bound: root.bound,
                        tree: Some((s as u32, roots.len() as u32)),
                        ..top
                    });
                    roots.push(root);
                }
            }
            continue;
        };
        let shape = &shapes[s as usize];
        let layout = Layout::new(model, shape, assignment);
        let keys = keys(model, s as usize, assignment);
        let options: Vec<&Options> = keys.iter().map(|k| &cache[k]).collect();
        let root = &mut roots[r as usize];
        if root.weights.is_none() {
            let dbg = std::env::var("PRESIL_DBG").is_ok();
            let (b0, w0, n0) = (root.bound, out.work.bounds, root.open.iter().map(Vec::len).collect::<Vec<_>>());
            cases::refine(&layout, &options, root, goal, best, &mut out.work);
            if dbg { println!("{:?} a{} s{s} case {:x} {:.4} -> {:.4} {:?} -> {:?} work {}", goal.figure, top.assignment, root.case, b0/best, root.bound/best, n0, root.open.iter().map(Vec::len).collect::<Vec<_>>(), out.work.bounds-w0); }
            root.weights.get_or_insert_default();
            if root.bound < best * (1.0 - EQUAL) {
                heap.push(Open {
                    bound: root.bound,
                    ..top
                });
            } else {
                out.work.pruned += 1;
            }
            continue;
        }
        let dive = diving;
        out.entered += usize::from(!dive);
        let mut order: Vec<usize> = (0..options.len()).collect();
        order.sort_by_key(|d| (std::cmp::Reverse(root.open[*d].len()), *d));
        let mut cuts = Vec::new();
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
            width: if dive { 1 } else { usize::MAX },
            order,
            rest: Vec::new(),
            rest_part: Vec::new(),
            parts: Vec::new(),
            root,
            chosen: [0; DIMS],
            log: (log && !dive).then_some(&mut cuts),
        };
        let w0 = tree.work.bounds;
        tree.search();
        if std::env::var("PRESIL_DBG").is_ok() { println!("   search dive {dive} a{} s{s} case {:x} bound {:.4} best {:e} work {}", top.assignment, root.case, root.bound / tree.best, tree.best, tree.work.bounds - w0); }
        best = tree.best;
        if dive {
            dived.push(top);
            if dived.len() == DIVES {
                diving = false;
                heap.append(&mut dived);
            }
            continue;
        }
        open = open.min(tree.open);
        out.cuts.extend(cuts.into_iter().map(|(fixed, bound)| Cut {
            assignment: assignment.clone(),
            marks: Some(marks(model, shape)),
            fixed,
            bound,
        }));
    }
    out.work.pruned += heap.len() as u64;
    if log {
        out.cuts.extend(heap.drain().map(|o| Cut {
            assignment: assignments[o.assignment as usize].clone(),
            marks: o.tree.map(|(s, _)| marks(model, &shapes[s as usize])),
            fixed: Vec::new(),
            bound: o.bound,
        }));
    }
    out.bound = best.min(open);
    if !all {
        // Of assignments that were not made only this is known: all instances work all the time.
        let instances: f64 = frame.axes.iter().map(|a| a.size as f64).product();
        let time = frame.fixed + frame.macs * frame.point_time / instances;
        let energy = frame.mac_energy + power * time;
        out.bound = out.bound.min(goal.figure.of(time, energy));
    }
    out.proven = all && open >= best * (1.0 - EQUAL);
    out
}

fn marks(model: &Model, shape: &Shape) -> Vec<(NodeId, Operand, usize)> {
    let mark = |m: &shape::Mark| {
        let slot = model.slots[m.slot];
        (
            model.frame.stores[slot.store].node,
            Operand::ALL[slot.operand],
            m.section,
        )
    };
    shape.marks.iter().map(mark).collect()
}

/// Options of dimensions, for any goal.
pub(super) type Cache = FxHashMap<OptionKey, Options>;

/// Shape, dimension, and its spatial loops.
type OptionKey = (usize, usize, Vec<(u8, u32)>);

fn keys(model: &Model, shape: usize, assignment: &Assignment) -> Vec<OptionKey> {
    (0..model.sizes.len())
        .map(|d| {
            let mine = assignment
                .spreads
                .iter()
                .filter(|s| usize::from(s.dim) == d);
            (shape, d, mine.map(|s| (s.axis, s.trips)).collect())
        })
        .collect()
}
