//! Design points solved at once, against each solved alone.

use super::super::{Options, Solution, SpaceError, solve, solve_all};
use super::single::random_einsum;
use super::{Random, fits, random_hierarchy};
use crate::case::{Case, CaseEinsum, Constraints};
use crate::conventions::Convention;
use crate::hierarchy::{Hierarchy, Level, operand_count};
use crate::interop::accelforge::read;
use crate::search::Objective;

const OPTIMA: &str = include_str!("../../../../tests/data/mapping/optima_accelforge.json");

fn figure(objective: Objective, s: &Solution) -> f64 {
    match objective {
        Objective::Latency => s.cycles,
        Objective::Energy => s.energy,
        Objective::Edp => s.energy * s.cycles,
    }
}

fn proven(objective: Objective, s: &Solution) -> bool {
    s.lower_bound >= figure(objective, s) * (1.0 - 1e-12)
}

/// The same machine with other energies and sizes; `rates`: also with other bandwidths.
fn varied(r: &mut Random, h: &Hierarchy, rates: bool) -> Hierarchy {
    let mut h = h.clone();
    for level in &mut h.levels {
        match level {
            Level::Memory(m) => {
                m.read_energy *= r.of(&[0.0, 0.5, 1.0, 3.0]);
                m.write_energy *= r.of(&[0.25, 1.0, 2.0]);
                m.capacity *= r.of(&[0.25, 0.5, 1.0, 2.0, 5.0]);
                for port in m.ports.iter_mut().filter(|_| rates) {
                    port.read_rate *= r.of(&[1.0, 2.0]);
                }
            }
            Level::Compute(c) => c.energy *= r.of(&[1.0, 2.0]),
            Level::Fanout(_) => {}
        }
    }
    h
}

fn case(e: &CaseEinsum, h: Hierarchy, objective: Objective) -> Case {
    Case {
        name: String::new(),
        tensors: Vec::new(),
        einsums: vec![CaseEinsum {
            hierarchy: h,
            ..e.clone()
        }],
        convention: Convention::AccelForge,
        objective,
        clock_hz: None,
    }
}

/// Solves cases both ways and compares; how many had a mapping.
fn compare(cases: &[Case], options: &Options) -> usize {
    let together = solve_all(cases, options);
    assert_eq!(together.len(), cases.len());
    let mut found = 0;
    for (case, together) in cases.iter().zip(together) {
        let (alone, together) = match (solve(case, options), together) {
            (Ok(alone), Ok(together)) => (alone, together),
            (alone, together) => {
                assert_eq!(alone.err(), together.err());
                continue;
            }
        };
        found += 1;
        let objective = options.objective;
        let (a, b) = (figure(objective, &alone), figure(objective, &together));
        let same = proven(objective, &alone) == proven(objective, &together);
        if same && proven(objective, &alone) {
            assert!((a - b).abs() <= 1e-12 * a, "{a} alone, {b} together");
        }
        assert!(same || proven(objective, &together), "{a} {b}");
        assert!(b <= a * (1.0 + 1e-12), "{a} alone, {b} together");
        let e = &case.einsums[0];
        let tree = &together.einsums[0].tree;
        assert_eq!(tree.check(&e.einsum, &e.hierarchy), Ok(()));
        assert!(fits(&e.einsum, &e.hierarchy, tree));
    }
    found
}

#[test]
fn points_solved_at_once_are_those_solved_alone() {
    let mut found = 0;
    for seed in 0..400 {
        let mut r = Random(seed);
        let perfect = r.chance(50);
        let einsum = random_einsum(&mut r, !perfect);
        let operands = operand_count(&einsum);
        let hierarchy = random_hierarchy(&mut r, operands);
        let objective = r.of(&[Objective::Energy, Objective::Edp, Objective::Latency]);
        let options = Options {
            perfect,
            ..Options::new(objective)
        };
        let e = CaseEinsum {
            name: String::new(),
            einsum,
            operands: (0..operands).collect(),
            hierarchy: hierarchy.clone(),
            mapping: None,
            constraints: Constraints::default(),
        };
        let rates = r.chance(30);
        let count = 2 + r.next() % 8;
        let cases: Vec<Case> = (0..count)
            .map(|_| case(&e, varied(&mut r, &hierarchy, rates), objective))
            .collect();
        found += compare(&cases, &options);
    }
    assert!(found > 1000, "{found}");
}

#[test]
fn points_of_reference_cases_are_those_solved_alone() {
    for reference in read(OPTIMA).unwrap().cases {
        let [e] = reference.case.einsums.as_slice() else {
            continue;
        };
        let mut r = Random(1);
        let objective = reference.case.objective;
        let options = Options {
            perfect: true,
            ..Options::new(objective)
        };
        let cases: Vec<Case> = (0..6)
            .map(|_| case(e, varied(&mut r, &e.hierarchy, false), objective))
            .collect();
        assert!(compare(&cases, &options) > 0, "{}", reference.id);
    }
}

#[test]
fn what_differs_in_more_is_solved_alone() {
    let references = read(OPTIMA).unwrap().cases;
    let cases: Vec<Case> = references.into_iter().take(5).map(|r| r.case).collect();
    let options = Options {
        perfect: true,
        ..Options::new(Objective::Energy)
    };
    let alone: Vec<Result<Solution, SpaceError>> =
        cases.iter().map(|c| solve(c, &options)).collect();
    assert_eq!(solve_all(&cases, &options), alone);
}
