//! Pareto fronts against those of every mapping there is.

use std::cell::RefCell;

use super::chips::{chip, dram, gemm, memory, problem};
use super::exhaustive::{
    Numbers, OPTIONS, costed, exhaust_those, some_array, some_dram, some_matmul, some_memory,
};
use crate::Problem;
use crate::search::{Front, Options, front};

/// Time and energy of every legal mapping.
fn everything(problem: &Problem) -> Vec<(f64, f64)> {
    let power: f64 = problem.chip.static_power().iter().map(|p| p.1.0).sum();
    let all = RefCell::new(Vec::new());
    let note = |m: &crate::Mapping| {
        let told = costed(problem, power, m.steps().to_vec());
        all.borrow_mut().extend(told.map(|(_, t, e)| (t, e)));
        false
    };
    exhaust_those(problem, &note);
    all.into_inner()
}

/// No mapping is better than all points by more than what the front says.
fn covers(front: &Front, all: &[(f64, f64)], what: &str) {
    let near = 1.0 + 2e-8;
    for (t, e) in all {
        let ahead = front.points.iter().position(|p| p.energy <= e * near);
        let (point, least) = match ahead {
            Some(at) => (&front.points[at], 0.0),
            None => (front.points.last().unwrap(), front.least_energy),
        };
        assert!(
            point.least_time <= t * near && least <= e * near,
            "{what}: {t} s and {e} J, but a bound of {} s at {} J and of {least} J",
            point.least_time,
            point.energy
        );
    }
}

/// Points are those of the front of all mappings, and no other.
fn agrees(problem: &Problem, what: &str) -> usize {
    let all = everything(problem);
    let found = front(problem, &[], &OPTIONS);
    if all.is_empty() {
        assert!(found.is_err(), "{what}");
        return 0;
    }
    let found = found.unwrap();
    assert!(found.proven(), "{what}: {found:?}");
    covers(&found, &all, what);
    let near = 1.0 + 2e-8;
    for p in &found.points {
        let better = all.iter().find(|(t, e)| {
            *t <= p.time * near
                && *e <= p.energy * near
                && (*t * near < p.time || *e * near < p.energy)
        });
        assert_eq!(better, None, "{what}: {} s, {} J", p.time, p.energy);
        assert!(
            all.iter()
                .any(|(t, e)| (t / p.time - 1.0).abs() < 1e-8 && (e / p.energy - 1.0).abs() < 1e-8)
        );
    }
    let ordered = |w: &[crate::search::Point]| w[0].time < w[1].time && w[0].energy > w[1].energy;
    assert!(found.points.windows(2).all(ordered), "{what}");
    found.points.len()
}

#[test]
fn fronts_of_two_level_matmuls_are_those_of_all_mappings() {
    let mut numbers = Numbers(11);
    let mut longest = 0;
    for case in 0..30 {
        let bytes = 8 + numbers.below(60);
        let nodes = vec![
            some_dram(&mut numbers),
            some_memory(&mut numbers, bytes, &["iwo", "w", "o", "i", "wo"]),
        ];
        let chip = chip(nodes);
        let einsum = some_matmul(&mut numbers, 4);
        longest = longest.max(agrees(&problem(&chip, &einsum), &format!("case {case}")));
    }
    assert!(longest >= 3, "no front had more than {longest} points");
}

#[test]
fn fronts_of_small_arrays_are_those_of_all_mappings() {
    let mut numbers = Numbers(5);
    let mut longest = 0;
    for case in 0..20 {
        let chip = some_array(&mut numbers, &["iwo", "w", "o", "i", "wo"]);
        let einsum = some_matmul(&mut numbers, 3);
        longest = longest.max(agrees(&problem(&chip, &einsum), &format!("case {case}")));
    }
    assert!(longest >= 3, "no front had more than {longest} points");
}

#[test]
fn what_a_front_leaves_open_is_within_its_gaps() {
    let mut numbers = Numbers(3);
    let mut open = 0;
    for case in 0..20 {
        let chip = some_array(&mut numbers, &["w", "o", "i"]);
        let einsum = some_matmul(&mut numbers, 3);
        let p = problem(&chip, &einsum);
        let few = Options {
            budget: 1 + numbers.below(150),
            ..OPTIONS
        };
        let Ok(found) = front(&p, &[], &few) else {
            continue;
        };
        open += usize::from(!found.proven());
        covers(&found, &everything(&p), &format!("case {case}"));
    }
    assert!(open >= 5, "only {open} fronts were left open");
}

#[test]
fn a_front_holds_the_optima_of_all_objectives() {
    use crate::search::{Objective, solve};
    let chip = chip(vec![
        dram(4.0),
        presil_hwmodels::NodeKind::Memory(memory(400, "iwo", 16.0, 1.0)),
    ]);
    let einsum = gemm(12, 14, 18);
    let p = problem(&chip, &einsum);
    let found = front(&p, &[], &OPTIONS).unwrap();
    assert!(found.proven());
    let least = |of: fn(f64, f64) -> f64| {
        let all = found.points.iter().map(|p| of(p.time, p.energy));
        all.fold(f64::INFINITY, f64::min)
    };
    for (objective, of) in [
        (Objective::Latency, (|t, _| t) as fn(f64, f64) -> f64),
        (Objective::Energy, |_, e| e),
        (Objective::Edp, |t, e| t * e),
    ] {
        let best = solve(&p, objective, &OPTIONS).unwrap().lower_bound;
        assert!((least(of) / best - 1.0).abs() < 1e-8, "{objective:?}");
    }
}
