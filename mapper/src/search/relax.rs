//! A bound on all mappings at once: what crosses into the memories above all fanouts.
//!
//! Where every mapping stores its operands in the same memories before the first fanout (a global buffer), what home and these
//! memories move depends on the loops above their marks alone, and these loops are in time: no assignment of dimensions to
//! axes matters. So the marks of one section are left of each shape, and every order of them is bounded by duality
//! ([`super::dual`]), with
//!
//! ```text
//! energy   = MACs + transfers into these marks
//! compute  = the least compute time of any assignment
//! ports    = transfers into these marks only
//! room     = their tiles
//! ```
//!
//! *No mapping has less.* Take any mapping of the space and leave out all marks further in. A loop that stood before one of
//! those, an early one, moves in to the next mark that is left and whose operand it indexes, or below all: no transfer into marks that are left grows. All
//! gaps before marks of an operand that a loop indexes are open ([`Model::loose`](super::model::Model)), so the loop stays apart from those further
//! out, and loops of one dimension never meet: after an early mark no more loops of its operand's dimensions stand in the section. Inside of the
//! innermost mark that is left, loops become one; its tile is the smallest that gives as many tiles.

use super::assign::Assignment;
use super::dual::{Dual, Table};
use super::layout::Layout;
use super::model::Model;
use super::options::Options;
use super::posynomial::Posynomial;
use super::shape::{self, Shape};
use super::tree::{EQUAL, Goal};

/// Passes over the options in search of good weights, and rounds of them with fewer and fewer options.
const PASSES: u32 = 24;
const ROUNDS: u32 = 3;
/// Options at most that all orders together take.
const MOST: u64 = 200_000;

/// A lower bound on the goal's figure of every mapping that is better than `best`, of which the compute takes so many seconds at least; 0 if there is none.
/// Counts its work in bounds.
pub(super) fn floor(model: &Model, goal: Goal, best: f64, compute: f64, work: &mut u64) -> f64 {
    let masked = model.masked.contains(&true);
    if masked || model.frame.partial < model.frame.bits[2] || !best.is_finite() {
        return 0.0;
    }
    let Some(part) = model.above_fanouts() else {
        return 0.0;
    };
    let mut least = best;
    for shape in shape::all(&part) {
        least = least.min(bound(&part, &shape, goal, best, compute, work));
    }
    least
}

/// The bound of one order.
fn bound(part: &Model, shape: &Shape, goal: Goal, best: f64, compute: f64, work: &mut u64) -> f64 {
    let layout = Layout::part(part, shape, compute);
    let mut options: Vec<Options> = Vec::with_capacity(part.sizes.len());
    for d in 0..part.sizes.len() {
        let Some((all, built)) = layout.options(d, &Assignment::none(), MOST.saturating_sub(*work))
        else {
            return 0.0;
        };
        *work += built;
        options.push(all);
    }
    let mut open: Vec<Vec<u32>> = options
        .iter()
        .map(|o| (0..o.len() as u32).collect())
        .collect();
    let mut bound: f64 = 0.0;
    for _ in 0..ROUNDS {
        let before: usize = open.iter().map(Vec::len).sum();
        let tables: Vec<Table> = options
            .iter()
            .zip(&open)
            .map(|(o, open)| Table::new(o, open))
            .collect();
        let least = least_factors(layout.count, &options, &open);
        let posynomial = Posynomial::new(&layout, 0, &least);
        let mut dual = Dual::new(
            &posynomial,
            goal,
            part.frame.static_power,
            layout.count,
            &least,
        );
        let target = dual.target(best * (1.0 - EQUAL));
        dual.improve(target, PASSES, &tables);
        *work += u64::from(PASSES) * before as u64 / 64;
        bound = bound.max(dual.bound());
        if dual.best >= target {
            return best;
        }
        dual.filter(&tables, &mut open, target);
        if open.iter().any(Vec::is_empty) {
            return best;
        }
        let after: usize = open.iter().map(Vec::len).sum();
        if 5 * after > 4 * before {
            break;
        }
    }
    bound
}

/// Products of the least factors of the options that are left.
fn least_factors(count: usize, options: &[Options], open: &[Vec<u32>]) -> Vec<f64> {
    let mut factors = vec![1.0; count];
    for (o, open) in options.iter().zip(open) {
        for (c, f) in factors.iter_mut().enumerate() {
            let each = open.iter().map(|i| o.factors[*i as usize * count + c]);
            *f *= each.fold(f64::INFINITY, f64::min);
        }
    }
    factors
}
