//! Odd inputs: each has a right answer or a typed error.

use presil_workloads::Einsum;

use super::super::{Options, Solution, SpaceError, front, nearest, solve, solve_einsum};
use super::chains::{case_of, named};
use super::{einsum, fits};
use crate::conventions::{Convention, evaluate};
use crate::hierarchy::{
    Axis, ComputeLevel, FanoutLevel, Hierarchy, Level, Mask, MemoryLevel, Port, Transfer,
};
use crate::search::Objective;

const OBJECTIVES: [Objective; 3] = [Objective::Latency, Objective::Energy, Objective::Edp];

fn memory(name: &str, words: f64, energy: f64) -> Level {
    let carries = (0..3).flat_map(|o| Transfer::ALL.map(|t| (o, t)));
    Level::Memory(MemoryLevel {
        capacity: words * 8.0,
        read_energy: energy,
        write_energy: energy,
        update_energy: energy,
        ports: vec![Port {
            name: "p".into(),
            read_rate: 64.0,
            write_rate: 64.0,
            granule: 1.0,
            access_energy: None,
            carries: carries.collect(),
        }],
        ..MemoryLevel::unlimited(name, 4, 8.0)
    })
}

fn fan(size: u64) -> Level {
    Level::Fanout(FanoutLevel {
        name: "pes".into(),
        hop_energy: 0.0,
        axes: vec![Axis {
            name: "x".into(),
            size,
            shares: Mask::ALL,
            shares_overlap: Mask::NONE,
            must_share: Mask::NONE,
            accepts: Mask::ALL,
            min_usage: 0.0,
            systolic: false,
        }],
    })
}

fn machine(levels: Vec<Level>) -> Hierarchy {
    let mut levels = levels;
    levels.push(Level::Compute(ComputeLevel {
        name: "mac".into(),
        energy: 1.0,
        rate: 1.0,
        leakage: 0.0,
    }));
    Hierarchy {
        name: "odd".into(),
        levels,
    }
}

fn dram() -> Level {
    memory("dram", f64::INFINITY, 10.0)
}

fn gemm(m: u64, n: u64, k: u64) -> Einsum {
    einsum(
        &[m, n, k],
        &[&[&[(0, 1)], &[(2, 1)]], &[&[(2, 1)], &[(1, 1)]]],
        &[&[(0, 1)], &[(1, 1)]],
    )
}

fn copy(names: &[&str], m: u64, n: u64) -> Einsum {
    let e = einsum(&[m, n], &[&[&[(0, 1)], &[(1, 1)]]], &[&[(0, 1)], &[(1, 1)]]);
    named(e, names)
}

/// o[m, n] = a[m, n] b[m, n].
fn product(names: &[&str], m: u64, n: u64) -> Einsum {
    let rank: &[&[(u32, i64)]] = &[&[(0, 1)], &[(1, 1)]];
    named(einsum(&[m, n], &[rank, rank], rank), names)
}

/// The figures that are told of a solution are those of its mappings, which are legal.
fn sound(solution: &Solution, einsums: &[Einsum], h: &Hierarchy) {
    let (mut energy, mut cycles) = (0.0, 0.0);
    for (mapped, e) in solution.einsums.iter().zip(einsums) {
        mapped.tree.check(e, h).unwrap();
        assert!(fits(e, h, &mapped.tree));
        let told = evaluate(Convention::AccelForge, e, h, &mapped.tree).unwrap();
        energy += told.energy_total();
        cycles += told.cycles;
    }
    assert!((energy - solution.energy).abs() <= 1e-9 * energy);
    assert!((cycles - solution.cycles).abs() <= 1e-9 * cycles);
}

fn chain(
    einsums: &[Einsum],
    operands: &[&[usize]],
    h: &Hierarchy,
    objective: Objective,
) -> Solution {
    let with = einsums.iter().zip(operands);
    let with: Vec<(Einsum, Vec<usize>)> = with.map(|(e, o)| (e.clone(), o.to_vec())).collect();
    let solution = solve(&case_of(&with, h, objective), &Options::new(objective)).unwrap();
    sound(&solution, einsums, h);
    solution
}

#[test]
fn extents_of_one_and_primes_and_wide_fanouts_are_mapped() {
    let h = machine(vec![dram(), memory("glb", 40.0, 1.0), fan(64)]);
    for (m, n, k) in [(1, 1, 1), (7, 1, 13), (1, 31, 1), (67, 1, 2), (64, 64, 1)] {
        for objective in OBJECTIVES {
            let e = gemm(m, n, k);
            let solution = solve_einsum(&e, &h, &Options::new(objective)).unwrap();
            sound(&solution, &[e], &h);
        }
    }
    // 67 rows on 64 instances take two rounds.
    let free = machine(vec![memory("dram", f64::INFINITY, 0.0), fan(64)]);
    let solution = solve_einsum(&gemm(67, 1, 1), &free, &Options::new(Objective::Latency)).unwrap();
    assert!(solution.lower_bound <= solution.cycles);
}

#[test]
fn memories_that_hold_nothing_are_passed_by_or_refused() {
    let mut tiny = memory("tiny", 0.0, 0.1);
    let h = machine(vec![dram(), tiny.clone()]);
    let options = Options::new(Objective::Edp);
    let e = gemm(4, 4, 4);
    let passed = solve_einsum(&e, &h, &options).unwrap();
    sound(&passed, std::slice::from_ref(&e), &h);
    if let Level::Memory(m) = &mut tiny {
        m.must_keep = Mask::ALL;
    }
    let h = machine(vec![dram(), tiny]);
    assert_eq!(solve_einsum(&e, &h, &options), Err(SpaceError::Nothing));
    let first = machine(vec![memory("dram", 1.0, 10.0)]);
    assert_eq!(solve_einsum(&e, &first, &options), Err(SpaceError::Nothing));
}

#[test]
fn whole_tensors_fit_by_themselves() {
    // Nothing may stand at a memory that is smaller than it, also where it is the only thing kept.
    let h = machine(vec![dram(), memory("glb", 6.0, 0.1)]);
    for objective in OBJECTIVES {
        let e = copy(&["m", "n"], 4, 2);
        let solution = solve_einsum(&e, &h, &Options::new(objective)).unwrap();
        sound(&solution, &[e], &h);
    }
}

#[test]
fn what_arrays_cannot_hold_is_refused() {
    let options = Options::new(Objective::Energy);
    let many = (0..8).map(|i| memory(&format!("l{i}"), 100.0, 1.0));
    let h = machine(many.collect());
    let error = solve_einsum(&gemm(2, 2, 2), &h, &options).unwrap_err();
    assert!(
        matches!(
            error,
            SpaceError::TooMany {
                limit: 6,
                got: 8,
                ..
            }
        ),
        "{error}"
    );
    let mut five = memory("dram", f64::INFINITY, 1.0);
    if let Level::Memory(m) = &mut five {
        m.ports = vec![m.ports[0].clone(); 5];
    }
    let error = solve_einsum(&gemm(2, 2, 2), &machine(vec![five]), &options).unwrap_err();
    assert!(
        matches!(
            error,
            SpaceError::TooMany {
                limit: 4,
                got: 5,
                ..
            }
        ),
        "{error}"
    );
    let mut rf = memory("rf", 10.0, 0.1);
    if let Level::Memory(m) = &mut rf {
        m.ports = vec![m.ports[0].clone(); 4];
    }
    let h = machine(vec![dram(), fan(2), rf.clone(), rf.clone(), rf]);
    let error = solve_einsum(&gemm(2, 2, 2), &h, &options).unwrap_err();
    assert!(
        matches!(
            error,
            SpaceError::TooMany {
                limit: 8,
                got: 12,
                ..
            }
        ),
        "{error}"
    );
    let sizes = [2; 13];
    let ranks: Vec<[(u32, i64); 1]> = (0..13).map(|d| [(d, 1)]).collect();
    let ranks: Vec<&[(u32, i64)]> = ranks.iter().map(|r| &r[..]).collect();
    let wide = einsum(&sizes, &[&ranks], &ranks);
    let error = solve_einsum(&wide, &machine(vec![dram()]), &options).unwrap_err();
    assert!(
        matches!(
            error,
            SpaceError::TooMany {
                limit: 12,
                got: 13,
                ..
            }
        ),
        "{error}"
    );
    // Dimensions of one iteration do not count.
    let sizes: Vec<u64> = (0..13).map(|d| 1 + d % 2).collect();
    let narrow = einsum(&sizes, &[&ranks], &ranks);
    let h = machine(vec![dram()]);
    sound(&solve_einsum(&narrow, &h, &options).unwrap(), &[narrow], &h);
}

#[test]
fn diagonals_are_refused() {
    let inputs: [&[&[(u32, i64)]]; 2] = [&[&[(0, 1)], &[(0, 1), (1, 1)]], &[&[(0, 1)], &[(0, 1)]]];
    for input in inputs {
        let options = Options::new(Objective::Energy);
        let of = |m| einsum(&[m, 3], &[input], &[&[(0, 1)], &[(1, 1)]]);
        let h = machine(vec![dram(), memory("glb", 100.0, 0.1)]);
        let error = solve_einsum(&of(4), &h, &options).unwrap_err();
        assert!(
            matches!(error, SpaceError::Diagonal { operand: 0, .. }),
            "{error}"
        );
        // One iteration is no diagonal.
        sound(&solve_einsum(&of(1), &h, &options).unwrap(), &[of(1)], &h);
    }
}

#[test]
fn an_empty_case_costs_nothing() {
    let h = machine(vec![dram()]);
    let case = case_of(&[], &h, Objective::Edp);
    let options = Options::new(Objective::Edp);
    let solution = solve(&case, &options).unwrap();
    assert!(solution.einsums.is_empty() && solution.fused.is_empty());
    assert_eq!((solution.energy, solution.cycles), (0.0, 0.0));
    assert_eq!(front(&case, &options).unwrap().len(), 1);
    assert!(nearest(&case, 3, &options).is_err());
}

#[test]
fn intermediates_of_two_readings_are_whole() {
    let h = machine(vec![dram(), memory("glb", 100.0, 0.1)]);
    let names = ["m", "n"];
    for objective in OBJECTIVES {
        // Handed over where it is read once.
        let once = [copy(&names, 4, 3), copy(&names, 4, 3)];
        let fused = chain(&once, &[&[0, 1], &[1, 2]], &h, objective).fused;
        assert!(objective == Objective::Latency || fused == [true]);
        // Read twice by one einsum.
        let square = [copy(&names, 4, 3), product(&names, 4, 3)];
        let solution = chain(&square, &[&[0, 1], &[1, 1, 2]], &h, objective);
        assert_eq!(solution.fused, [false]);
        // Read by two einsums; the last reads both intermediates and hands over at most the nearer one.
        let forked = [
            copy(&names, 4, 3),
            copy(&names, 4, 3),
            product(&names, 4, 3),
        ];
        let solution = chain(&forked, &[&[0, 1], &[1, 2], &[1, 2, 3]], &h, objective);
        assert!(!solution.fused[0]);
        assert!(objective == Objective::Latency || solution.fused[1]);
        // Made twice.
        let solution = chain(&forked[..2], &[&[0, 1], &[1, 1]], &h, objective);
        assert_eq!(solution.fused, [false]);
    }
}

#[test]
fn ranks_of_one_position_are_handed_over() {
    let h = machine(vec![dram(), memory("glb", 100.0, 0.1)]);
    let einsums = [copy(&["m", "n"], 5, 1), copy(&["m", "n"], 5, 1)];
    let solution = chain(&einsums, &[&[0, 1], &[1, 2]], &h, Objective::Energy);
    assert_eq!(solution.fused, [true]);
    // Everything lives on chip: four passages of 5 elements, and 10 operations.
    let expected = 20.0 * 8.0 * 0.1 + 10.0;
    assert!(
        (solution.energy - expected).abs() < 1e-9,
        "{}",
        solution.energy
    );
}

#[test]
fn what_two_einsums_read_takes_room_once() {
    // Room for the tensor that both read, the result, and one element of what lies between.
    let h = machine(vec![dram(), memory("glb", 25.0, 0.1)]);
    let names = ["m", "n"];
    let einsums = [copy(&names, 4, 3), product(&names, 4, 3)];
    let solution = chain(&einsums, &[&[0, 1], &[0, 1, 2]], &h, Objective::Energy);
    assert_eq!(solution.fused, [true]);
    // Everything lives on chip: five passages of 12 elements, and 24 operations.
    let expected = 60.0 * 8.0 * 0.1 + 24.0;
    let energy = solution.energy;
    assert!((energy - expected).abs() < 1e-9, "{energy}");
}
