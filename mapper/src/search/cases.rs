//! Trees of one assignment and shape, split by what the output does, and their bounds.
//!
//! Which storages of the output hold partial sums, and whether the home is updated more than once, decides what
//! they are read and how wide their words are ([`super::posynomial`]). Each mapping belongs to one *case*; options
//! that do not fit it are left out of its tree.

use super::dual::{Dual, Table, Weights};
use super::layout::Layout;
use super::model::DIMS;
use super::options::Options;
use super::posynomial::{HOME, Posynomial};
use super::shape::MARKS;
use super::tree::{EQUAL, Goal, Work};

/// A tree that may be searched.
#[derive(Debug, Clone)]
pub(super) struct Root {
    /// Storages that hold partial sums, as marks, and [`HOME`].
    pub case: u32,
    /// Of each dimension, the options that are left.
    pub open: Vec<Vec<u32>>,
    /// No mapping of the tree is better.
    pub bound: f64,
    /// Weights that bound partial choices too; none before they are sought.
    pub weights: Option<Weights>,
    /// What is taken off the bound of the weights.
    pub off: f64,
}

/// Passes over the options of a tree in search of good weights, and rounds of them.
const PASSES: u32 = 16;
const ROUNDS: u32 = 3;

/// The trees of an assignment and a shape, with the bounds of least factors; one tree of all cases if they are not to
/// be told apart.
pub(super) fn split(layout: &Layout, options: &[&Options], goal: Goal, apart: bool) -> Vec<Root> {
    let outputs = layout.edges.iter().filter(|e| e.operand == 2);
    let (mut told, mut forced) = (HOME, 0);
    for e in outputs {
        if let Some(m) = e.child {
            told |= 1 << m;
            forced |= if e.wide { 1 << m } else { 0 };
        }
        if e.parent.is_none() && e.ever {
            forced |= HOME;
        }
    }
    let mut some = 0;
    for o in options {
        some |= o.partial.iter().fold(0, |s, p| s | p);
        forced |= o.partial.iter().fold(u32::MAX, |s, p| s & p);
    }
    forced &= told;
    let free = if apart { some & told & !forced } else { 0 };
    let mut roots = Vec::new();
    let mut part = free;
    loop {
        let case = forced | part;
        let fits = |o: &&Options| -> Vec<u32> {
            let all = 0..o.len() as u32;
            all.filter(|i| !apart || o.partial[*i as usize] & told & !case == 0)
                .collect()
        };
        let open: Vec<Vec<u32>> = options.iter().map(fits).collect();
        if open.iter().all(|o| !o.is_empty()) {
            let mut root = Root {
                case,
                open,
                bound: f64::INFINITY,
                weights: None,
                off: 0.0,
            };
            root.bound = least(layout, options, &root, goal);
            if root.bound.is_finite() {
                roots.push(root);
            }
        }
        if part == 0 {
            return roots;
        }
        part = (part - 1) & free;
    }
}

/// Products of the least factors of the options that are left.
fn least_factors(layout: &Layout, options: &[&Options], root: &Root) -> Vec<f64> {
    let count = layout.count;
    let mut factors = vec![1.0; count];
    for (o, open) in options.iter().zip(&root.open) {
        if open.len() == o.len() {
            factors.iter_mut().zip(&o.least).for_each(|(f, l)| *f *= l);
            continue;
        }
        let Some(first) = open.first() else { continue };
        let at = *first as usize * count;
        let mut varying = o.varying.iter().map(|c| usize::from(*c)).peekable();
        for (c, (f, one)) in factors
            .iter_mut()
            .zip(&o.factors[at..at + count])
            .enumerate()
        {
            if varying.next_if_eq(&c).is_some() {
                let each = open.iter().map(|i| o.factors[*i as usize * count + c]);
                *f *= each.fold(f64::INFINITY, f64::min);
            } else {
                *f *= one;
            }
        }
    }
    factors
}

/// The bound of least factors.
fn least(layout: &Layout, options: &[&Options], root: &Root, goal: Goal) -> f64 {
    let factors = least_factors(layout, options, root);
    let mut tiles = [[1u64; DIMS]; MARKS];
    for (d, o) in options.iter().enumerate() {
        for (m, t) in o.least_tiles.iter().enumerate() {
            tiles[m][d] = u64::from(*t);
        }
    }
    let cost = layout.evaluate(&factors, &tiles, root.case & !HOME, options.is_empty());
    cost.map_or(f64::INFINITY, |(t, e)| {
        goal.of(layout.model.frame.static_power, t, e)
    })
}

/// Seeks weights that prove that the tree holds nothing better than `best`, and drops the options that cannot.
pub(super) fn refine(
    layout: &Layout,
    options: &[&Options],
    root: &mut Root,
    goal: Goal,
    best: f64,
    work: &mut Work,
) {
    let power = layout.model.frame.static_power;
    for _ in 0..ROUNDS {
        let factors = least_factors(layout, options, root);
        let posynomial = Posynomial::new(layout, root.case, &factors);
        let mut dual = Dual::new(&posynomial, goal, power, layout.count, &factors);
        let target = dual.target(best * (1.0 - EQUAL));
        let before: usize = root.open.iter().map(Vec::len).sum();
        let tables: Vec<Table> = options
            .iter()
            .zip(&root.open)
            .map(|(o, open)| Table::new(o, open))
            .collect();
        dual.improve(target, PASSES, &tables);
        work.bounds += (u64::from(PASSES) * before as u64) / 16;
        root.bound = root.bound.max(dual.bound());
        root.off = dual.off();
        if dual.best >= target {
            root.bound = f64::INFINITY;
            return;
        }
        dual.filter(&tables, &mut root.open, target);
        root.weights = Some(std::mem::take(&mut dual.weights));
        let after: usize = root.open.iter().map(Vec::len).sum();
        if root.open.iter().any(Vec::is_empty) {
            root.bound = f64::INFINITY;
            return;
        }
        let bound = least(layout, options, root, goal);
        root.bound = root.bound.max(bound);
        if 5 * after > 4 * before {
            return;
        }
    }
}
