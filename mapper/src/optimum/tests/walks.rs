//! The walk of all mappings: its figures are those of the convention, its number of mappings is that of the loop trees, and
//! the search finds what is best of them.

use std::collections::BTreeSet;

use presil_numerics::ids::Id;
use proptest::prelude::*;

use super::super::space::Space;
use super::super::{Options, SpaceError, solve, walk};
use super::constraints::constraint;
use super::single::{All, MOST, case_of, random_problem};
use super::{Random, fits};
use crate::case::{Case, Constraints};
use crate::conventions::{Convention, evaluate};
use crate::hierarchy::{Mask, operand_count};
use crate::looptree::{LoopTree, Node};

/// A random case, often with a constraint, and what to do with it.
fn random(seed: u64, perfect: bool, constrained: bool) -> (Case, Options) {
    let (e, h, objective) = random_problem(seed, !perfect);
    let mut case = case_of(&e, &h, objective);
    if constrained {
        let c = constraint(&mut Random(seed ^ 77), &case);
        case.einsums[0].constraints = Constraints {
            levels: vec![c],
            perfect,
        };
    }
    let options = Options {
        perfect,
        work: u64::MAX,
        ..Options::new(objective)
    };
    (case, options)
}

/// Every mapping of the walk is legal, fits, and costs what the convention says; no mapping comes twice.
fn told(seed: u64, perfect: bool, constrained: bool) -> Result<usize, TestCaseError> {
    let (case, options) = random(seed, perfect, constrained);
    let (e, h) = (&case.einsums[0].einsum, &case.einsums[0].hierarchy);
    let options = Options {
        work: 500,
        ..options
    };
    let mut seen = Vec::new();
    let walked = walk::each(&case, &options, &mut |tree, energy, cycles| {
        seen.push((tree.clone(), energy, cycles));
    });
    prop_assume!(walked.is_ok());
    for (tree, energy, cycles) in &seen {
        let names: Vec<String> = (0..4).map(|i| format!("x{i}")).collect();
        let text = tree.describe(e, h, &names);
        let context = format!("seed {seed}\n{text}{h:#?}");
        let told = evaluate(Convention::AccelForge, e, h, tree);
        prop_assert!(told.is_ok(), "{told:?} {context}");
        let told = told.unwrap();
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs();
        let exact = told.energy_total();
        prop_assert!(near(*energy, exact), "{energy} {exact} pJ {context}");
        let exact = told.cycles;
        prop_assert!(near(*cycles, exact), "{cycles} {exact} cycles {context}");
        prop_assert!(fits(e, h, tree), "does not fit {context}");
    }
    let trees: Vec<&LoopTree> = seen.iter().map(|s| &s.0).collect();
    let distinct: BTreeSet<String> = trees.iter().map(|t| format!("{t:?}")).collect();
    prop_assert!(
        distinct.len() == trees.len(),
        "one comes twice, seed {seed}"
    );
    Ok(seen.len())
}

/// The best mapping of the walk is that of the search. Mappings that were counted.
fn best(seed: u64, perfect: bool, constrained: bool) -> Result<u64, TestCaseError> {
    let (case, options) = random(seed, perfect, constrained);
    let all = Options {
        exhaustive: true,
        ..options
    };
    match (solve(&case, &all), solve(&case, &options)) {
        (Ok(walked), Ok(found)) => {
            let value =
                |e: f64, t: f64| super::super::search::Score::new(options.objective, e, t).0;
            let (w, f) = (
                value(walked.energy, walked.cycles),
                value(found.energy, found.cycles),
            );
            let context = format!("walk {w}, search {f}, seed {seed} {case:#?}");
            prop_assert!((w - f).abs() <= 1e-9 * f, "{context}");
            prop_assert!(found.lower_bound <= w * (1.0 + 1e-9), "{context}");
            prop_assert!(
                walked.complete && walked.lower_bound >= w * (1.0 - 1e-9),
                "{context}"
            );
            Ok(walked.expanded)
        }
        (Err(a), Err(b)) => {
            prop_assert!(a == b, "{a} {b}");
            Ok(0)
        }
        (a, b) => {
            prop_assert!(false, "{a:?} {b:?} seed {seed}");
            Ok(0)
        }
    }
}

/// What stands between two storages, from the outside in.
#[derive(Default)]
struct Gap {
    time: Vec<(usize, u64)>,
    space: Vec<(usize, usize, usize)>,
    /// Whether a loop in time stands inside one in space.
    mixed: bool,
    fans: BTreeSet<usize>,
}

/// Whether a loop tree is the one of its equals that the walk looks at: the rules of `nest`, told from the tree alone.
fn chosen(case: &Case, space: &Space, tree: &LoopTree) -> bool {
    let e = &case.einsums[0].einsum;
    let homes = operand_count(e);
    let dim = |d: usize| space.dims.iter().position(|x| x.index() == d).unwrap();
    let mut gap = Gap::default();
    let mut outer: Option<(usize, usize)> = None;
    let mut good = true;
    let mut close = |gap: Gap, outer: Option<(usize, usize)>, inner: Option<(usize, usize)>| {
        let indexed = inner.map_or(Mask::ALL, |i| space.operands[i.0].indexed);
        let plain = outer.map_or(Mask::NONE, |o| space.operands[o.0].plain);
        let helpful = indexed.minus(plain);
        good &= gap.time.iter().all(|(d, _)| helpful.has(*d));
        good &= gap.time.is_sorted_by(|a, b| a.0 < b.0) && !gap.mixed;
        // Along an axis dimensions are told inside out.
        good &= gap
            .space
            .is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1) || (a.0, a.1) == (b.0, b.1) && a.2 > b.2);
        let empty = gap.time.is_empty() && gap.space.is_empty();
        if let (Some(o), Some(i)) = (outer, inner) {
            good &= !(empty && o.1 == i.1 && i.0 > o.0);
        }
    };
    // Memories with no fanout between are one segment.
    let segment = |level: usize| {
        let inside = |s: &super::super::space::Segment| s.memories.iter().any(|m| m.level == level);
        space.segments.iter().position(inside).unwrap()
    };
    for node in &tree.nodes[homes..] {
        match *node {
            Node::Temporal { dim: d, tile } => {
                gap.mixed |= !gap.space.is_empty();
                gap.time.push((dim(d.index()), tile));
            }
            Node::Spatial {
                level,
                axis,
                dim: d,
                ..
            } => {
                gap.fans.insert(level);
                gap.space.push((level, axis, dim(d.index())));
            }
            Node::Keep { level, operand } => {
                let inner = Some((operand, segment(level)));
                close(std::mem::take(&mut gap), outer, inner);
                outer = inner;
            }
        }
    }
    close(gap, outer, None);
    good
}

/// The walk counts the loop trees of full enumeration of which it looks at one of all that are equal. How many there are.
fn counted(seed: u64) -> Result<Option<u64>, TestCaseError> {
    let (case, options) = random(seed, true, false);
    let (e, h) = (&case.einsums[0].einsum, &case.einsums[0].hierarchy);
    let loops: u64 = e.dims.iter().map(|d| u64::from(d.size.ilog2())).sum();
    let space = Space::new(e, h, true).unwrap();
    // Which loop slides is told of trees in another way.
    if loops > 4 || space.operands.iter().any(|o| !o.slides.is_empty()) {
        return Ok(None);
    }
    let trees = std::cell::RefCell::new(BTreeSet::new());
    let asked = |tree: &LoopTree| {
        if tree.check(e, h).is_ok() && chosen(&case, &space, tree) {
            trees.borrow_mut().insert(format!("{tree:?}"));
        }
        false
    };
    let mut all = All::new(e, h, true, options.objective, &asked);
    all.run();
    if all.count > MOST {
        return Ok(None);
    }
    let all = Options {
        exhaustive: true,
        ..options
    };
    let found = match solve(&case, &all) {
        Ok(found) => found.expanded,
        Err(SpaceError::Nothing) => 0,
        Err(error) => return Err(TestCaseError::fail(format!("{error}"))),
    };
    let trees = trees.borrow().len() as u64;
    prop_assert!(found == trees, "{found} of {trees}, seed {seed} {case:#?}");
    Ok(Some(found))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn figures_are_those_of_the_convention(seed in any::<u64>(), constrained in any::<bool>()) {
        told(seed, true, constrained)?;
        told(seed, false, constrained)?;
    }

    #[test]
    fn the_search_finds_the_best_of_all(seed in any::<u64>(), constrained in any::<bool>()) {
        best(seed, true, constrained)?;
        best(seed, false, constrained)?;
    }

    #[test]
    fn all_loop_trees_are_counted(seed in any::<u64>()) {
        counted(seed)?;
    }
}

#[test]
fn random_cases_have_many_mappings() {
    let many = |s: &u64| best(*s, true, false).unwrap() > 100;
    assert!((0..60).filter(many).count() > 10);
    let some = |s: &u64| counted(*s).unwrap().is_some_and(|n| n > 10);
    assert!((0..60).filter(some).count() > 5);
}

#[test]
fn what_is_cut_off_is_told() {
    let walked = |seed: u64, work: u64| {
        let (case, options) = random(seed, true, false);
        let all = Options {
            exhaustive: true,
            work,
            ..options
        };
        solve(&case, &all).ok()
    };
    let large = |s: &u64| walked(*s, u64::MAX).is_some_and(|w| w.expanded > 500);
    let seed = (0..).find(large).unwrap();
    let (whole, some) = (walked(seed, u64::MAX).unwrap(), walked(seed, 10).unwrap());
    assert!(whole.complete && !some.complete);
    assert!(some.expanded >= 10 && some.expanded < whole.expanded);
    assert!(some.lower_bound <= whole.lower_bound);
}
