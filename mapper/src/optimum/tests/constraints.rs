//! Constraints of loops in time and of room, against full enumeration of what obeys them.

use presil_numerics::ids::Id;
use proptest::prelude::*;

use super::super::{Options, SpaceError, solve};
use super::single::{All, MOST, case_of, random_problem};
use super::{Random, figure, fits};
use crate::case::{Case, Constraints, LevelConstraint};
use crate::conventions::{Convention, evaluate};
use crate::hierarchy::{Mask, operand_count};
use crate::looptree::{LoopTree, Node, tile_shape};

/// Whether a loop tree obeys, told from the tree alone.
fn obeys(case: &Case, constraint: &LevelConstraint, tree: &LoopTree) -> bool {
    let (e, h) = (&case.einsums[0].einsum, &case.einsums[0].hierarchy);
    let homes = operand_count(e);
    let level_of = |n: &Node| match *n {
        Node::Keep { level, .. } => Some(level),
        _ => None,
    };
    let outermost = tree.nodes[..homes].iter().filter_map(level_of).min();
    let mut at = outermost.unwrap();
    let mut trips = vec![1; e.dims.len()];
    // From the outside in.
    let mut order = Vec::new();
    let mut used = 0.0;
    for (i, node) in tree.nodes.iter().enumerate() {
        let tiles = tree.tiles(e, i);
        match *node {
            Node::Keep { level, operand } => {
                at = if i < homes { at } else { level };
                if level == constraint.level {
                    let words: u64 = tile_shape(e, operand, &tiles).iter().product();
                    used += words as f64 * h.levels[level].memory().unwrap().bits[operand];
                }
            }
            Node::Temporal { dim, tile } if at == constraint.level && tiles[dim.index()] > tile => {
                trips[dim.index()] *= tiles[dim.index()].div_ceil(tile);
                order.extend(constraint.order.iter().position(|d| *d == dim.index()));
            }
            _ => {}
        }
    }
    let memory = h.levels[constraint.level].memory().unwrap();
    let free = (0..trips.len()).all(|d| trips[d] == 1 || !constraint.forbidden.has(d));
    let given = constraint.trips.iter().all(|(d, n)| trips[*d] == *n);
    let ordered = order.is_sorted_by(|a, b| a >= b);
    let share = constraint.min_utilization;
    free && given && ordered && (share == 0.0 || used >= share * memory.capacity)
}

/// A constraint of a random memory.
pub(super) fn constraint(r: &mut Random, case: &Case) -> LevelConstraint {
    let h = &case.einsums[0].hierarchy;
    let dims = case.einsums[0].einsum.dims.len();
    let memories: Vec<usize> = h.memories().collect();
    let mut c = LevelConstraint {
        level: r.of(&memories),
        ..LevelConstraint::default()
    };
    let limited = h.levels[c.level].memory().unwrap().capacity.is_finite();
    match r.next() % 4 {
        0 => {
            let d = r.next() as usize % dims;
            let size = case.einsums[0].einsum.dims[d].size;
            c.trips = vec![(d, r.of(&[1, 2, 3, size]).min(size))];
        }
        1 => c.forbidden = Mask(r.next() as u32 & ((1 << dims) - 1)),
        2 if limited => c.min_utilization = r.of(&[0.3, 0.6, 0.9]),
        _ => {
            c.order = (0..dims).collect();
            c.order.rotate_left(r.next() as usize % dims);
            if r.chance(50) {
                c.order.reverse();
            }
        }
    }
    if r.chance(30) {
        let d = r.next() as usize % dims;
        c.forbidden = c.forbidden.with(d);
    }
    c
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    TooLarge,
    /// Nothing obeys.
    Nothing,
    /// The constraint costs nothing, or something.
    Free,
    Costs,
}

fn compare(seed: u64, perfect: bool) -> Result<Seen, TestCaseError> {
    let (e, h, objective) = random_problem(seed, !perfect);
    let mut case = case_of(&e, &h, objective);
    let loops: u64 = e.dims.iter().map(|d| u64::from(d.size.ilog2())).sum();
    if loops > 3 {
        return Ok(Seen::TooLarge);
    }
    let mut r = Random(seed ^ 77);
    let c = constraint(&mut r, &case);
    let mut least = [f64::INFINITY; 2];
    for (i, best) in least.iter_mut().enumerate() {
        let asked = |tree: &LoopTree| i == 0 || obeys(&case, &c, tree);
        let mut all = All::new(&e, &h, perfect, objective, &asked);
        all.run();
        if all.count > MOST {
            return Ok(Seen::TooLarge);
        }
        *best = all.best;
    }
    let [free, best] = least;
    case.einsums[0].constraints = Constraints {
        levels: vec![c.clone()],
        perfect,
    };
    let options = Options {
        perfect,
        work: u64::MAX,
        ..Options::new(objective)
    };
    let found = match solve(&case, &options) {
        Ok(found) => found,
        Err(error) => {
            let nothing = matches!(error, SpaceError::Nothing | SpaceError::Constraint { .. });
            prop_assert!(
                nothing && best.is_infinite(),
                "{error}: {best}, seed {seed}"
            );
            return Ok(Seen::Nothing);
        }
    };
    let tree = &found.einsums[0].tree;
    let names: Vec<String> = (0..4).map(|i| format!("x{i}")).collect();
    let context = format!(
        "seed {seed} {objective:?} {c:?}\n{}\n{h:#?}",
        tree.describe(&e, &h, &names)
    );
    let told = evaluate(Convention::AccelForge, &e, &h, tree);
    prop_assert!(told.is_ok() && fits(&e, &h, tree), "{context}");
    prop_assert!(obeys(&case, &c, tree), "disobeys: {context}");
    let value = figure(objective, &told.unwrap());
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b;
    let proven = near(found.lower_bound, value);
    prop_assert!(proven || !perfect, "bound {context}");
    prop_assert!(found.lower_bound <= best * (1.0 + 1e-9), "bound {context}");
    let optimal = near(value, best);
    prop_assert!(optimal || !proven, "found {value}, best {best}, {context}");
    Ok(if near(best, free) {
        Seen::Free
    } else {
        Seen::Costs
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn constrained_searches_equal_full_enumeration(seed in any::<u64>()) {
        compare(seed, true)?;
        compare(seed, false)?;
    }
}

#[test]
fn constraints_bind_often() {
    let seen: Vec<Seen> = (0..150).map(|s| compare(s, s % 2 == 0).unwrap()).collect();
    for kind in [Seen::Nothing, Seen::Free, Seen::Costs] {
        let count = seen.iter().filter(|s| **s == kind).count();
        assert!(count > 1, "{kind:?}: {count}");
    }
}
