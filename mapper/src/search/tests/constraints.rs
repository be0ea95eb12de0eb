//! Searches under constraints against every mapping that obeys them, for tiny problems.

use presil_hwmodels::{NodeId, NodeKind};
use presil_numerics::ids::Id;
use presil_workloads::build::Conv;
use presil_workloads::{DimId, Einsum};

use super::chips::{chip, conv, dram, gemm, memory, problem};
use super::exhaustive::{
    Numbers, OBJECTIVES, OPTIONS, exhaust_those, score, some_array, some_dram, some_matmul,
    some_memory,
};
use crate::search::{Constraint, Objective, Options, SearchError, solve, solve_within};
use crate::{Mapping, Problem, Step};

/// Whether steps obey a constraint. Loops right above the compute have no order of their own.
fn obeys(problem: &Problem, c: &Constraint, mapping: &Mapping) -> bool {
    let steps = mapping.steps();
    let homes = problem.home.iter();
    let place = |n: &&NodeId| problem.path.iter().position(|p| p == *n);
    let mut at = *homes.min_by_key(place).unwrap();
    let in_time = |s: &&Step| matches!(s, Step::Temporal { .. });
    let innermost = steps.len() - steps.iter().rev().take_while(in_time).count();
    let bits = mapping.tile_bits(problem);
    let mut tiles: Vec<u64> = problem.einsum.dims.iter().map(|d| d.size).collect();
    let mut trips = vec![1; tiles.len()];
    let (mut used, mut instances) = (0.0, 1);
    let mut places: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        match *step {
            Step::Store { memory, .. } if i >= 3 => {
                at = memory;
                used += if at == c.level { bits[i] } else { 0.0 };
            }
            Step::Store { .. } => {}
            Step::Temporal { dim, tile } => {
                let n = tiles[dim.index()].div_ceil(tile);
                tiles[dim.index()] = tile;
                if at == c.level && n > 1 {
                    trips[dim.index()] *= n;
                    let to = if i < innermost {
                        &mut places
                    } else {
                        &mut last
                    };
                    to.extend(c.order.iter().position(|d| *d == dim));
                }
            }
            Step::Spatial {
                fanout,
                axis,
                dim,
                tile,
            } => {
                let n = tiles[dim.index()].div_ceil(tile);
                tiles[dim.index()] = tile;
                if fanout == c.level && c.axis.is_none_or(|a| a == axis) {
                    trips[dim.index()] *= n;
                    instances *= n;
                }
            }
        }
    }
    let ordered =
        places.is_sorted_by(|a, b| a >= b) && places.iter().all(|p| last.iter().all(|l| p >= l));
    let share = match &problem.chip.nodes[c.level].kind {
        NodeKind::Memory(m) => used / (m.capacity.0 / u64::from(m.buffering)) as f64 / 8.0,
        NodeKind::Fanout(f) => {
            let axes = f.dims.iter().enumerate();
            let mine = axes.filter(|(i, _)| c.axis.is_none_or(|a| usize::from(a) == *i));
            instances as f64 / mine.map(|(_, a)| a.size).product::<u64>() as f64
        }
        NodeKind::Compute(_) => 1.0,
    };
    ordered
        && c.trips.iter().all(|(d, n)| trips[d.index()] == *n)
        && c.forbidden.iter().all(|d| trips[d.index()] == 1)
        && share >= c.min_utilization * (1.0 - 1e-9)
}

/// A constraint of one of the levels.
fn constraint(numbers: &mut Numbers, problem: &Problem) -> Constraint {
    let dims: Vec<DimId> = problem.einsum.dim_ids().collect();
    let levels = &problem.path[..problem.path.len() - 1];
    let mut c = Constraint::none(numbers.one_of(levels));
    let fanout = match &problem.chip.nodes[c.level].kind {
        NodeKind::Fanout(f) => Some(f),
        _ => None,
    };
    if let Some(f) = fanout
        && numbers.below(3) == 0
    {
        c.axis = Some(numbers.below(f.dims.len() as u64) as u8);
    }
    match numbers.below(5) {
        0 | 1 => {
            let dim = numbers.one_of(&dims);
            let size = problem.einsum.dim(dim).size;
            let most = match fanout {
                Some(f) => f.dims.iter().map(|a| a.size).min().unwrap_or(1),
                None => size,
            };
            c.trips.push((dim, 1 + numbers.below(size.min(most))));
        }
        2 => {
            c.forbidden = dims
                .iter()
                .copied()
                .filter(|_| numbers.below(2) == 0)
                .collect()
        }
        3 if c.level != problem.path[0] => {
            c.min_utilization = numbers.one_of(&[0.3, 0.6, 0.9]);
        }
        _ => {
            c.order.clone_from(&dims);
            c.order
                .rotate_left(numbers.below(dims.len() as u64) as usize);
            if numbers.below(2) == 0 {
                c.order.reverse();
            }
        }
    }
    if numbers.below(3) == 0 {
        c.forbidden.push(numbers.one_of(&dims));
    }
    c
}

/// How often nothing obeyed, the constraints cost nothing, and something.
#[derive(Debug, Default)]
struct Seen([usize; 3]);

/// How the search's space and the enumeration lie to each other.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Spaces {
    /// The best are the same.
    Equal,
    /// The enumeration may have one better by this share: orders of loops around windows.
    Close(f64),
    /// The enumeration leaves out storage in the order of the path's end to its begin.
    Larger,
}

/// The search finds the least of all mappings that obey, and says so.
fn agrees(
    problem: &Problem,
    constraints: &[Constraint],
    spaces: Spaces,
    what: &str,
    seen: &mut Seen,
) {
    if std::env::var("PRESIL_CASE").is_ok_and(|c| c != what) {
        return;
    }
    let all = |m: &Mapping| constraints.iter().all(|c| obeys(problem, c, m));
    let optimum = exhaust_those(problem, &all);
    for (i, objective) in OBJECTIVES.iter().enumerate() {
        let best = optimum.best[i];
        let context = || format!("{what} {objective:?} {constraints:?}");
        let s = match solve_within(problem, constraints, *objective, &OPTIONS) {
            Ok(s) => s,
            Err(e) => {
                let text = format!(
                    "{}: {e}, {} obey, {}",
                    context(),
                    optimum.legal,
                    optimum.mappings[i]
                );
                assert_eq!(optimum.legal, 0, "{text}");
                let never = matches!(
                    e,
                    SearchError::Unmet { proven: true, .. }
                        | SearchError::Constraint { .. }
                        | SearchError::DoesNotFit { .. }
                );
                assert!(never, "{text}");
                seen.0[0] += 1;
                continue;
            }
        };
        assert!(all(&s.mapping), "{} disobeyed by {}", context(), s.mapping);
        let found = score(*objective, problem, &s);
        let text = format!(
            "{}: {} times the least of {}\n{}\ninstead of {}\n{}",
            context(),
            found / best,
            optimum.legal,
            s.mapping,
            optimum.mappings[i],
            s.space
        );
        assert!(
            spaces == Spaces::Larger || found >= best * (1.0 - 1e-8),
            "{text}"
        );
        let loss = match spaces {
            Spaces::Close(loss) => loss,
            _ => 1e-8,
        };
        assert!(found <= best * (1.0 + loss), "{text}");
        assert!(s.proven, "{text}");
        assert!((s.lower_bound / found - 1.0).abs() < 1e-8, "{text}");
        let free = score(
            *objective,
            problem,
            &solve(problem, *objective, &OPTIONS).unwrap(),
        );
        let costs = found > free * (1.0 + 1e-8);
        seen.0[if costs { 2 } else { 1 }] += 1;
    }
}

#[test]
fn constrained_matmuls_are_optimal_in_two_levels() {
    let (mut numbers, mut seen) = (Numbers(3), Seen::default());
    for case in 0..60 {
        let [m, n, k] = [0; 3].map(|_| 1 + numbers.below(4));
        let einsum = gemm(m, n, k);
        let bytes = 6 + numbers.below(50);
        let keeps = &["iwo", "iwo", "iw", "wo", "io"];
        let nodes = vec![
            some_dram(&mut numbers),
            some_memory(&mut numbers, bytes, keeps),
        ];
        let chip = chip(nodes);
        let problem = problem(&chip, &einsum);
        let count = 1 + numbers.below(2);
        let constraints: Vec<Constraint> = (0..count)
            .map(|_| constraint(&mut numbers, &problem))
            .collect();
        agrees(
            &problem,
            &constraints,
            Spaces::Equal,
            &format!("case {case}"),
            &mut seen,
        );
    }
    assert!(seen.0.iter().all(|n| *n > 5), "{seen:?}");
}

#[test]
fn constrained_arrays_are_optimal() {
    let (mut numbers, mut seen) = (Numbers(29), Seen::default());
    for case in 0..30 {
        let einsum = some_matmul(&mut numbers, 3);
        let chip = some_array(&mut numbers, &["w", "o", "i"]);
        let problem = problem(&chip, &einsum);
        let c = constraint(&mut numbers, &problem);
        agrees(
            &problem,
            &[c],
            Spaces::Equal,
            &format!("case {case}"),
            &mut seen,
        );
    }
    assert!(seen.0.iter().all(|n| *n > 3), "{seen:?}");
}

#[test]
fn two_memories_side_by_side_are_told_apart() {
    let (mut numbers, mut seen) = (Numbers(41), Seen::default());
    for case in 0..24 {
        let [m, n, k] = [0; 3].map(|_| 1 + numbers.below(3));
        let einsum = gemm(m, n, k);
        let bytes = 8 + numbers.below(30);
        let nodes = vec![
            some_dram(&mut numbers),
            some_memory(&mut numbers, bytes, &["io", "iw", "i"]),
            some_memory(&mut numbers, bytes / 2, &["w", "wo", "o"]),
        ];
        let chip = chip(nodes);
        let problem = problem(&chip, &einsum);
        let constraints = [(); 2].map(|()| constraint(&mut numbers, &problem));
        agrees(
            &problem,
            &constraints,
            Spaces::Larger,
            &format!("case {case}"),
            &mut seen,
        );
    }
    assert!(seen.0.iter().all(|n| *n > 3), "{seen:?}");
}

#[test]
fn constrained_convolutions_are_as_good_as_any() {
    let (mut numbers, mut seen) = (Numbers(13), Seen::default());
    for case in 0..10 {
        let shape = Conv {
            kernel: [1 + numbers.below(3), 1],
            ..Conv::square(1 + numbers.below(2), 1, 1, 0)
        };
        let bytes = 6 + numbers.below(30);
        let nodes = vec![
            some_dram(&mut numbers),
            some_memory(&mut numbers, bytes, &["iwo", "io", "i"]),
        ];
        let chip = chip(nodes);
        let einsum: Einsum = conv(1, 3, &shape);
        let problem = problem(&chip, &einsum);
        let c = constraint(&mut numbers, &problem);
        agrees(
            &problem,
            &[c],
            Spaces::Close(0.05),
            &format!("case {case}"),
            &mut seen,
        );
    }
    println!("{seen:?}");
}

#[test]
fn what_cannot_be_met_is_named() {
    let nodes = vec![dram(1.0), NodeKind::Memory(memory(64, "iwo", 2.0, 1.0))];
    let chip = chip(nodes);
    let einsum = gemm(4, 4, 4);
    let problem = problem(&chip, &einsum);
    let [root, buffer] = [problem.path[0], problem.path[1]];
    let large = Constraint {
        trips: vec![(DimId(0), 5)],
        ..Constraint::none(root)
    };
    let told = |constraints: &[Constraint]| {
        solve_within(&problem, constraints, Objective::Energy, &OPTIONS).unwrap_err()
    };
    assert!(matches!(told(&[large]), SearchError::Constraint { .. }));
    // No three loops of two trips halve four rows.
    let two = Constraint {
        trips: vec![(DimId(0), 2)],
        ..Constraint::none(root)
    };
    let never = Constraint {
        forbidden: vec![DimId(0)],
        min_utilization: 1.0,
        ..Constraint::none(buffer)
    };
    let name = problem.chip.nodes[buffer].name.clone();
    let expected = SearchError::Unmet {
        level: Some(name),
        proven: true,
    };
    let unmet = told(&[two.clone(), never]);
    assert_eq!(unmet, expected);
    let rest = Constraint {
        forbidden: vec![DimId(0)],
        ..Constraint::none(buffer)
    };
    let together = SearchError::Unmet {
        level: None,
        proven: true,
    };
    assert_eq!(told(&[two, rest]), together);
}

#[test]
fn a_search_ends_with_its_seconds_and_its_bound_holds() {
    let nodes = vec![
        dram(1.0),
        NodeKind::Memory(memory(4096, "iwo", 8.0, 2.0)),
        NodeKind::Memory(memory(128, "iwo", 8.0, 1.0)),
    ];
    let chip = chip(nodes);
    let einsum = gemm(240, 360, 420);
    let problem = problem(&chip, &einsum);
    let options = Options {
        seconds: Some(0.2),
        ..OPTIONS
    };
    let start = std::time::Instant::now();
    let s = solve(&problem, Objective::Energy, &options).unwrap();
    assert!(start.elapsed().as_secs_f64() < 5.0);
    assert!(!s.proven, "{}", s.space);
    let found = s.certificate.objective.found;
    let floor = compulsory_energy(&problem);
    assert!(
        s.lower_bound < found && s.lower_bound >= floor,
        "{floor} {} {found}",
        s.lower_bound
    );
}

/// What operands cross from and to the root with, once.
fn compulsory_energy(problem: &Problem) -> f64 {
    let root = problem.chip.nodes[problem.path[0]].memory().unwrap();
    let touched = crate::analysis::compulsory(problem);
    let bits = touched.iter().zip(problem.bits).map(|(t, b)| *t as f64 * b);
    bits.zip([root.read_energy.0, root.read_energy.0, root.write_energy.0])
        .map(|(b, e)| b * e)
        .sum()
}

/// Searches that share seconds end with the proof, and with the same mapping as one that has all the work it needs.
#[test]
fn seconds_give_what_work_gives_where_both_suffice() {
    let mut numbers = Numbers(53);
    for case in 0..10 {
        let einsum = some_matmul(&mut numbers, 3);
        let chip = some_array(&mut numbers, &["w", "o", "i"]);
        let problem = problem(&chip, &einsum);
        let timed = Options {
            seconds: Some(600.0),
            ..OPTIONS
        };
        for objective in OBJECTIVES {
            let of = |options| solve_within(&problem, &[], objective, options);
            let (Ok(all), Ok(shared)) = (of(&OPTIONS), of(&timed)) else {
                continue;
            };
            assert!(all.proven && shared.proven, "case {case}");
            assert_eq!(all.mapping, shared.mapping, "case {case}");
            assert_eq!(all.lower_bound, shared.lower_bound, "case {case}");
        }
    }
}
