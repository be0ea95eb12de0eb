//! Branch and bound over all assignments and shapes: the optimum, and what proves it.
//!
//! Before anything is opened all mappings are bounded at once (`relax`); no bound that is told in the end is below that.
//!
//! Best first over a heap of *assignments* (bounded by compulsory traffic, [`Assignment::bound`]), and *trees*, one for each assignment, shape
//! and case of the output (bounded by the least factors of every dimension, then by duality); a tree is searched depth first. What has a
//! bound no less than the best mapping so far is cut off; when the heap's least bound is, the best mapping is the optimum.
//! First a few trees are dived into, for a good mapping to cut by. If there are more trees than the budget can reach,
//! only a small part of it is spent. Masked domains are searched alike, but never called proven: their bound is that of compulsory traffic.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use presil_hwmodels::{NodeId, Operand};
use rustc_hash::FxHashMap;

use super::assign::{self, Assignment};
use super::cases::{self, Root};
use super::chain::Link;
use super::dual::Weights;
use super::layout::Layout;
use super::model::{DIMS, Model};
use super::options::Options;
use super::shape::{self, Shape};
use super::tree::{EQUAL, Goal, Judge, Tree, Work};
use super::{QUICK_BELOW, relax};

/// Assignments that are told apart at most, and for each bound of the budget.
const ASSIGNMENTS: u64 = 8_000;
const ASSIGNMENTS_EACH: u64 = 4;

/// Assignments whose trees are dived into before any is searched in full, and trees of each.
const DIVES: usize = 4;
const DEEP: usize = 2;
/// Children of each node that a dive follows.
const WIDTH: usize = 2;
/// Work of all of a tree, about; and the part of the budget that is spent where it cannot suffice for all trees.
const TREE_WORK: u64 = 60;
const BEYOND_REACH: u64 = 20;
/// Work of building an option and of bounding a tree, in bounds of nodes.
const OPTION_WORK: u64 = 1;
const ROOT_WORK: u64 = 4;
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

/// What is left to look at below an open node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A tree with weights, by its place in the list of trees.
    Refined(u32),
    /// A tree.
    Tree(u32),
    /// All trees of an assignment and a shape.
    Shape(u32),
    /// All shapes of an assignment.
    Assignment,
}

/// A subtree in the heap.
#[derive(Debug, Clone, Copy)]
struct Open {
    bound: f64,
    assignment: u32,
    what: What,
}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> Ordering {
        // The least bound first; of equal ones what is closest to a mapping, then in order.
        let key = |o: &Self| (o.what, o.assignment);
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

/// Whether all trees are within reach of a budget, given the least time so far.
pub(super) fn reaches(model: &Model, time: f64, budget: u64) -> bool {
    let frame = model.frame;
    let cycles = (time - frame.fixed) / frame.point_time;
    let shapes = shape::all(model).len();
    let most = (budget / TREE_WORK) as usize / shapes.max(1);
    let (assignments, all) = assign::all(model, cycles, most.max(1));
    all && within_reach((assignments.len() * shapes) as u64, budget) == budget
}

/// Minimizes the goal's figure, given an incumbent of so much, within a budget of work.
pub(super) fn prove<J: Judge>(
    model: &Model,
    goal: Goal,
    best: f64,
    judge: &mut J,
    budget: u64,
    log: bool,
    common: &mut Common,
) -> Outcome {
    let mut search = Search {
        model,
        goal,
        best,
        judge,
        budget,
        log,
        out: Outcome {
            assignments: common.assigned.len(),
            shapes: common.shapes.len(),
            root: f64::INFINITY,
            ..Outcome::default()
        },
        roots: Vec::new(),
        shape_of: Vec::new(),
        heap: BinaryHeap::with_capacity(common.assigned.len()),
        open: f64::INFINITY,
        floor: 0.0,
        common,
    };
    search.start();
    search.bound_all();
    search.budget = within_reach(search.trees(), budget);
    search.dive();
    // Better mappings may have brought the rest within reach.
    search.budget = within_reach(search.trees(), budget);
    search.run();
    search.finish()
}

/// The budget for so many trees: all of it if they are within reach, else a small part.
fn within_reach(trees: u64, budget: u64) -> u64 {
    if trees > budget / TREE_WORK {
        budget / BEYOND_REACH
    } else {
        budget
    }
}

/// A search over all assignments and shapes.
struct Search<'a, 'm, J: Judge> {
    model: &'a Model<'m>,
    goal: Goal,
    /// The best figure so far.
    best: f64,
    judge: &'a mut J,
    budget: u64,
    log: bool,
    common: &'a mut Common,
    out: Outcome,
    roots: Vec<Root>,
    /// The shape of each root.
    shape_of: Vec<u32>,
    heap: BinaryHeap<Open>,
    /// Least bound of what the budget left open.
    open: f64,
    /// No mapping that is better than the first incumbent has less.
    floor: f64,
}

impl<J: Judge> Search<'_, '_, J> {
    fn dead(&self, bound: f64) -> bool {
        bound >= self.best * (1.0 - EQUAL)
    }

    /// Trees that may have to be looked into.
    fn trees(&self) -> u64 {
        let open = self.heap.iter().filter(|o| !self.dead(o.bound));
        let (whole, part): (Vec<&Open>, Vec<&Open>) =
            open.partition(|o| o.what == What::Assignment);
        (whole.len() * self.common.shapes.len() + part.len()) as u64
    }

    fn spent(&self) -> bool {
        self.out.work.bounds > self.budget
    }

    /// Opens all assignments.
    fn start(&mut self) {
        let power = self.model.frame.static_power;
        for (i, a) in self.common.assigned.iter().enumerate() {
            let (time, energy) = a.bound;
            let bound = self.goal.of(power, time, energy);
            self.out.root = self.out.root.min(bound);
            self.heap.push(Open {
                bound,
                assignment: i as u32,
                what: What::Assignment,
            });
        }
        self.out.work.bounds += self.common.assigned.len() as u64 / 8;
    }

    /// Bounds all mappings at once, beside the budget; if none is better than the best, nothing stays open.
    fn bound_all(&mut self) {
        if self.log || self.budget < QUICK_BELOW {
            return;
        }
        let mut work = 0;
        let compute = self.common.compute;
        self.floor = relax::floor(self.model, self.goal, self.best, compute, &mut work);
        self.out.root = self.out.root.max(self.floor);
        if self.dead(self.floor) {
            self.out.work.pruned += self.heap.len() as u64;
            self.heap.clear();
        }
    }

    /// A quick look at the most promising mappings of a few trees.
    fn dive(&mut self) {
        let mut later = Vec::new();
        for _ in 0..DIVES {
            // The best tree of one assignment after the other.
            let Some(top) = self.heap.pop() else { break };
            if top.what != What::Assignment || self.dead(top.bound) || self.spent() {
                later.push(top);
                continue;
            }
            let from = std::mem::take(&mut self.heap);
            self.expand(top);
            let mut dives = 0;
            while let Some(next) = self.heap.pop() {
                if self.dead(next.bound) || self.spent() {
                    later.push(next);
                    break;
                }
                if let What::Refined(root) = next.what {
                    self.search(next, root, WIDTH);
                    later.push(next);
                    dives += 1;
                    if dives == DEEP {
                        break;
                    }
                } else {
                    self.expand(next);
                }
            }
            later.extend(self.heap.drain());
            self.heap = from;
        }
        self.heap.extend(later);
    }

    /// Best first, until nothing open is better than the best mapping, or the budget is spent.
    fn run(&mut self) {
        while let Some(top) = self.heap.pop() {
            if self.dead(top.bound) || self.spent() {
                if !self.dead(top.bound) {
                    self.open = self.open.min(top.bound);
                }
                self.heap.push(top);
                return;
            }
            match top.what {
                What::Refined(root) => {
                    self.out.entered += 1;
                    self.search(top, root, usize::MAX);
                }
                _ => self.expand(top),
            }
        }
    }

    /// Opens what lies below a node; what the budget does not allow stays open.
    fn expand(&mut self, top: Open) {
        match top.what {
            What::Assignment => self.expand_assignment(top),
            What::Shape(s) => self.expand_shape(top, s),
            What::Tree(root) => self.refine(top, root),
            What::Refined(_) => {}
        }
    }

    fn expand_assignment(&mut self, top: Open) {
        for s in 0..self.common.shapes.len() as u32 {
            self.heap.push(Open {
                what: What::Shape(s),
                ..top
            });
        }
    }

    fn expand_shape(&mut self, top: Open, s: u32) {
        let Common {
            assigned,
            shapes,
            options: cache,
            ..
        } = &mut *self.common;
        let assignment = &assigned[top.assignment as usize].assignment;
        let layout = Layout::new(self.model, &shapes[s as usize], assignment);
        let keys = keys(self.model, s as usize, assignment);
        for key in &keys {
            if !cache.contains_key(key) {
                let most = self.budget.saturating_sub(self.out.work.bounds) / OPTION_WORK;
                let Some((options, built)) = layout.options(key.1, assignment, most) else {
                    // The budget is spent.
                    self.out.work.bounds += OPTION_WORK * most + 1;
                    self.open = self.open.min(top.bound);
                    return;
                };
                self.out.work.bounds += OPTION_WORK * built + 1;
                cache.insert(key.clone(), options);
            }
        }
        let options: Vec<&Options> = keys.iter().map(|k| &cache[k]).collect();
        for mut root in cases::split(&layout, &options, self.goal, !self.log) {
            self.out.work.bounds += ROOT_WORK;
            root.bound = root.bound.max(top.bound);
            if root.bound >= self.best * (1.0 - EQUAL) && !self.log {
                self.out.work.pruned += 1;
                continue;
            }
            self.heap.push(Open {
                bound: root.bound,
                what: What::Tree(self.roots.len() as u32),
                ..top
            });
            self.roots.push(root);
            self.shape_of.push(s);
        }
    }

    fn refine(&mut self, top: Open, r: u32) {
        let s = self.shape_of[r as usize];
        let assignment = &self.common.assigned[top.assignment as usize].assignment;
        let layout = Layout::new(self.model, &self.common.shapes[s as usize], assignment);
        let keys = keys(self.model, s as usize, assignment);
        let options: Vec<&Options> = keys.iter().map(|k| &self.common.options[k]).collect();
        let root = &mut self.roots[r as usize];
        let work = &mut self.out.work;
        if self.log {
            // Every subtree has to be told with its bound: no weights, and no options dropped.
            root.weights = Some(Weights::default());
        } else {
            cases::refine(&layout, &options, root, self.goal, self.best, work);
        }
        if root.bound < self.best * (1.0 - EQUAL) {
            self.heap.push(Open {
                bound: root.bound,
                what: What::Refined(r),
                ..top
            });
        } else {
            work.pruned += 1;
        }
    }

    /// Searches a tree, following so many children of each node.
    fn search(&mut self, top: Open, r: u32, width: usize) {
        let whole = width == usize::MAX;
        let s = self.shape_of[r as usize] as usize;
        let shape = &self.common.shapes[s];
        let assignment = &self.common.assigned[top.assignment as usize].assignment;
        let layout = Layout::new(self.model, shape, assignment);
        let keys = keys(self.model, s, assignment);
        let options: Vec<&Options> = keys.iter().map(|k| &self.common.options[k]).collect();
        let root = &self.roots[r as usize];
        let mut order: Vec<usize> = (0..options.len()).collect();
        order.sort_by_key(|d| (std::cmp::Reverse(root.open[*d].len()), *d));
        let mut cuts = Vec::new();
        let mut tree = Tree {
            layout: &layout,
            model: self.model,
            shape,
            options: &options,
            goal: self.goal,
            best: self.best,
            judge: &mut *self.judge,
            work: &mut self.out.work,
            budget: self.budget,
            open: f64::INFINITY,
            width,
            order,
            rest: Vec::new(),
            rest_part: Vec::new(),
            parts: Vec::new(),
            root,
            chosen: [0; DIMS],
            log: (self.log && whole).then_some(&mut cuts),
        };
        tree.search();
        self.best = tree.best;
        if whole {
            // What the whole tree is at least, its parts are.
            self.open = self.open.min(tree.open.max(top.bound));
        }
        self.out
            .cuts
            .extend(cuts.into_iter().map(|(fixed, bound)| Cut {
                assignment: assignment.clone(),
                marks: Some(marks(self.model, shape)),
                fixed,
                bound,
            }));
    }

    /// What was found, and proven, if `all` assignments were made and bounds hold.
    fn finish(mut self) -> Outcome {
        let model = self.model;
        let mut out = std::mem::take(&mut self.out);
        out.work.pruned += self.heap.len() as u64;
        if self.log {
            out.cuts.extend(self.heap.iter().map(|o| {
                let shape = match o.what {
                    What::Assignment => None,
                    What::Shape(s) => Some(s),
                    What::Tree(r) | What::Refined(r) => Some(self.shape_of[r as usize]),
                };
                Cut {
                    assignment: self.common.assigned[o.assignment as usize]
                        .assignment
                        .clone(),
                    marks: shape.map(|s| marks(model, &self.common.shapes[s as usize])),
                    fixed: Vec::new(),
                    bound: o.bound,
                }
            }));
        }
        // Under a mask that cuts something off, counts in closed form are no bounds in every case.
        let masked = model.density < 1.0 && model.masked.contains(&true);
        if !self.common.all || masked {
            // Of assignments that were not made, or not bounded, only this is known.
            let (time, energy) = assign::floor(model);
            let bound = self.goal.of(model.frame.static_power, time, energy);
            self.open = self.open.min(bound);
        }
        self.open = self.open.max(self.floor);
        out.bound = self.best.min(self.open);
        out.proven = self.open >= self.best * (1.0 - EQUAL);
        out
    }
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

/// What the stages of a search share.
pub(super) struct Common {
    assigned: Vec<Assigned>,
    /// Whether those are all assignments that may be worth it.
    all: bool,
    /// Seconds that the compute of any takes, at least.
    compute: f64,
    shapes: Vec<Shape>,
    options: FxHashMap<OptionKey, Options>,
}

/// An assignment, and time and dynamic energy of its mappings, at least.
struct Assigned {
    assignment: Assignment,
    bound: (f64, f64),
}

impl Common {
    /// For goals whose mappings take no longer than `most` seconds.
    pub fn new(model: &Model, most: f64, budget: u64) -> Self {
        // More cycles than the whole time cannot be worth it.
        let cycles = (most * (1.0 + EQUAL) - model.frame.fixed) / model.frame.point_time;
        let count = ASSIGNMENTS.min(ASSIGNMENTS_EACH.saturating_mul(budget));
        let (assignments, all) = assign::all(model, cycles, count as usize);
        let times = assignments.iter().map(|a| a.iterations(model));
        let compute = times.fold(f64::INFINITY, f64::min) * model.frame.point_time;
        let assigned = assignments.into_iter().map(|assignment| Assigned {
            bound: assignment.bound(model),
            assignment,
        });
        Self {
            compute: if all { compute } else { 0.0 },
            assigned: assigned.collect(),
            all,
            shapes: shape::all(model),
            options: FxHashMap::default(),
        }
    }
}

/// Shape, dimension, and its spatial loops.
type OptionKey = (usize, usize, Vec<(u8, u32)>);

fn keys(model: &Model, shape: usize, assignment: &Assignment) -> Vec<OptionKey> {
    (0..model.sizes.len())
        .map(|d| (shape, d, assignment.along(d)))
        .collect()
}
