//! Branch and bound over all assignments: the optimum and its certificate.

use super::assign::{self, Assignment};
use super::model::{Model, STORES, stand_in};
use super::rest::Floor;
use super::tree::{EQUAL, Figure, Goal, Judge, Tree};
use crate::mapping::Step;

/// Assignments that are told apart.
const ASSIGNMENTS: usize = 200_000;
/// Work on the floor of one section, as a share of the budget.
const FLOOR_WORK: u64 = 20_000;

/// Nothing is analysed exactly.
struct Blind;

impl Judge for Blind {
    fn judge(&mut self, _: Vec<Step>, _: f64) -> Option<f64> {
        None
    }
}

/// What a search did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outcome {
    pub root: f64,
    pub bound: f64,
    pub proven: bool,
    pub work: u64,
    pub floor_work: u64,
    pub leaves: u64,
    pub pruned: u64,
    pub assignments: usize,
    pub entered: usize,
}

/// Minimizes the goal's figure, given an incumbent of so much.
pub(super) fn prove<J: Judge>(
    model: &mut Model,
    goal: Goal,
    mut best: f64,
    mut judge: J,
    budget: u64,
) -> Outcome {
    let (all, whole) = assign::all(model, ASSIGNMENTS);
    let sections = model.sections.len();
    let mut ranked: Vec<(f64, usize)> = Vec::with_capacity(all.len());
    let none = vec![0.0; sections + 1];
    for (i, a) in all.iter().enumerate() {
        let floor = Floor { energy: none.clone(), ports: model.port_floors(a) };
        let root = Tree::new(model, a, &floor, goal, f64::INFINITY, Blind, 0).root(0);
        ranked.push((root, i));
    }
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut out = Outcome {
        root: ranked.first().map_or(f64::INFINITY, |r| r.0),
        assignments: all.len(),
        bound: f64::INFINITY,
        ..Outcome::default()
    };
    let mut left = budget;
    let mut open = f64::INFINITY;
    for &(root, i) in &ranked {
        if root >= best * (1.0 - EQUAL) {
            break;
        }
        if left == 0 {
            open = open.min(root);
            break;
        }
        out.entered += 1;
        let a = &all[i];
        let mut floor = Floor { energy: none.clone(), ports: model.port_floors(a) };
        for from in (1..sections).rev() {
            set_stand_ins(model, from);
            let goal = Goal { figure: Figure::Placed, limited: Figure::Time, limit: f64::INFINITY };
            let work = FLOOR_WORK.min(left);
            let mut tree = Tree::new(model, a, &floor, goal, f64::INFINITY, Blind, work);
            tree.search(from);
            let energy = tree.best.min(tree.open);
            out.floor_work += tree.work;
            left = left.saturating_sub(tree.work);
            floor.energy[from] = if energy.is_finite() { energy * (1.0 - EQUAL) } else { energy };
        }
        let mut tree = Tree::new(model, a, &floor, goal, best, &mut judge, left);
        let entered = tree.root(0);
        if entered < best * (1.0 - EQUAL) {
            tree.search(0);
        }
        best = best.min(tree.best);
        open = open.min(tree.open);
        out.work += tree.work;
        out.leaves += tree.leaves;
        out.pruned += tree.pruned;
        left = left.saturating_sub(tree.work);
    }
    out.bound = best.min(open);
    out.proven = whole && open >= best * (1.0 - EQUAL);
    out
}

impl<J: Judge> Judge for &mut J {
    fn judge(&mut self, steps: Vec<Step>, bound: f64) -> Option<f64> {
        (**self).judge(steps, bound)
    }
}

/// Stand-ins for parents in front of a section: the cheapest that may stand there, with ports that take no time.
fn set_stand_ins(model: &mut Model, from: usize) {
    for o in 0..3 {
        let home = model.frame.levels[0].memory[o];
        let above = model
            .slots
            .iter()
            .filter(|s| s.operand == o && s.section < from)
            .map(|s| s.store)
            .chain(home);
        let mut energy = [f64::INFINITY; 2];
        for s in above {
            energy[0] = energy[0].min(model.stores[s].energy[0]);
            energy[1] = energy[1].min(model.stores[s].energy[1]);
        }
        let energy = if o == 2 { [0.0, energy[1]] } else { energy };
        let at = stand_in(o);
        debug_assert!(at < STORES);
        model.stores[at] = super::model::Store { energy, ..Default::default() };
    }
}

/// For tests and messages: the assignment in words.
#[cfg(test)]
pub(super) fn describe(a: &Assignment) -> String {
    let each = a.spreads.iter().map(|s| format!("{}:{}x{}", s.axis, s.dim, s.trips));
    each.collect::<Vec<_>>().join(" ")
}
