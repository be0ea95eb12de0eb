//! The analysis agrees with the walk to the last word.

use proptest::prelude::*;

use super::cases::{self, Random};
use super::count;
use crate::analysis::counts::{Counts, Prepared};
use crate::analysis::nest::Nest;
use crate::analysis::touched_elements;
use crate::mapping::Mapping;
use presil_hwmodels::Operand;

fn check(seed: u64) -> Result<(), TestCaseError> {
    let mut r = Random(seed);
    let einsum = cases::einsum(&mut r);
    let chip = cases::random_chip(&mut r);
    let mut problem = cases::problem(&einsum, &chip);
    // Sometimes an operand lives further in.
    for operand in Operand::ALL {
        let above_fanouts = problem.path.iter().take_while(|n| {
            !matches!(chip.nodes[**n].kind, presil_hwmodels::NodeKind::Fanout(_))
        });
        let homes: Vec<_> = above_fanouts.filter(|n| chip.nodes[**n].memory().is_some_and(|m| m.keeps.has(operand))).collect();
        if r.chance(20) && !homes.is_empty() {
            problem.home[operand.index()] = *homes[r.int(0, homes.len() as u64 - 1) as usize];
        }
    }
    let steps = cases::mapping(&mut r, &problem);
    let mapping = Mapping::new(&problem, steps);
    prop_assert!(mapping.is_ok(), "seed {}: {:?}", seed, mapping);
    let mapping = mapping.unwrap();
    let expected = count(&problem, mapping.steps());
    let nest = Nest::new(&problem, mapping.steps());
    let prepared = Prepared::new(&einsum);
    let counts = Counts::new(&problem, &prepared, &nest);
    let context = || format!("seed {seed}\n{einsum:#?}\n{}", mapping.describe(&problem).join("\n"));
    prop_assert_eq!(einsum.executed_points().map(u128::from), Some(expected.points));
    prop_assert_eq!(counts.iterations, expected.iterations, "iterations {}", context());
    for operand in Operand::ALL {
        prop_assert_eq!(touched_elements(&einsum, operand), expected.touched[operand.index()], "touched {}", context());
    }
    prop_assert_eq!(counts.edges.len(), expected.edges.len());
    for (edge, e) in counts.edges.iter().zip(&expected.edges) {
        prop_assert_eq!((edge.operand, edge.parent, edge.child), (e.operand, e.parent, e.child));
        prop_assert_eq!((edge.entering, edge.served), (e.entering, e.served), "{:?}\n{}", e, context());
        if !e.idles {
            prop_assert_eq!((edge.again, edge.returned), (e.again, e.returned), "{:?}\n{}", e, context());
        }
    }
    for (place, node) in problem.path.iter().enumerate() {
        let across = |(edge, e): (&crate::analysis::counts::Edge, &super::EdgeCounts)| {
            let words = e.hops.iter().find(|h| h.0 == *node)?.1;
            Some(if edge.operand == Operand::Output {
                let finals = if words == edge.served { edge.finals } else { 0 };
                8 * finals + 32 * (words - finals + edge.returned)
            } else {
                8 * words
            })
        };
        let expected: u128 = counts.edges.iter().zip(&expected.edges).filter_map(across).sum();
        if matches!(chip.nodes[*node].kind, presil_hwmodels::NodeKind::Fanout(_)) {
            prop_assert_eq!(counts.hop_bits(&problem, place) as u128, expected, "fanout {}\n{}", place, context());
        }
    }
    prop_assert!(crate::evaluate(&problem, &mapping).is_ok());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]
    #[test]
    fn counts_equal_a_walk_over_the_loop_nest(seed: u64) {
        check(seed)?;
    }
}

/// 256 x 256 x 256 matmul of bytes; DRAM at 100 J, a 64 KiB buffer at 6 J a word, a MAC at 1 J.
///
/// The buffer holds one whole operand (64 KiB less what the other tiles need is too little), so one operand is
/// fetched twice at best: with n in two halves outside, the weight half-panel (256 x 128) and one row of input
/// and output stay in the buffer:
///
/// ```text
/// for n in 2 (tile 128)
///   buffer keeps weight 256 x 128 = 32768 words; entering: 2 x 32768 = 65536
///   for m in 256 (tile 1)
///     buffer keeps input  1 x 256; entering: 2 x 256 x 256  = 131072 (each row once for each half)
///     buffer keeps output 1 x 128; entering: 2 x 256 x 128  = 65536, all new, all final
///     for n in 128, for k in 256
/// ```
///
/// MACs take each 1 input, 1 weight, 1 update: M = 16777216 each; each update but the first of an element
/// (65536) reads its old value.
///
/// ```text
/// MAC     M                                                                       = 16777216
/// buffer  6 x (reads 2 M + (M - 65536) + drains 65536; writes 65536 + 131072 + M) = 6 x (4 M + 196608)
/// DRAM    100 x (65536 + 131072 reads, 65536 writes)                              = 26214400
/// in all                                                                          = 446824448
/// ```
///
/// which is also the optimum that an exhaustive search finds for this case (AccelForge 1.0.467; its buffer
/// figures sum to the same: 4 M - 65536 + 2 x 65536 + 65536 + 65536 for the second fetch).
#[test]
fn a_matmul_under_one_buffer_costs_what_its_derivation_says() {
    use crate::mapping::Step;
    use presil_hwmodels::{Memory, NodeId, NodeKind};
    use presil_numerics::{Bytes, JoulesPerBit};
    use presil_workloads::DimId;

    let einsum = cases::matmul(256, 256, 256);
    let energy = |word: f64| (JoulesPerBit(word / 8.0), JoulesPerBit(word / 8.0));
    let node = |word: f64, capacity: u64| {
        let (read_energy, write_energy) = energy(word);
        let buffering = 1;
        NodeKind::Memory(Memory { read_energy, write_energy, capacity: Bytes(capacity), buffering, ..cases::memory() })
    };
    let mut chip = cases::chip(vec![node(100.0, 1 << 30), node(6.0, 64 << 10)]);
    let mac = chip.nodes.iter_mut().last().unwrap();
    let NodeKind::Compute(compute) = &mut mac.kind else { unreachable!() };
    compute.modes[0].energy = presil_numerics::Joules(1.0);
    let mut problem = cases::problem(&einsum, &chip);
    problem.capacity[1] = Bytes(64 << 10);
    problem.accumulate = presil_numerics::Format::Int { bits: 8, signed: true };
    let (dram, buffer) = (NodeId(0), NodeId(1));
    let (m, n, k) = (DimId(0), DimId(1), DimId(2));
    let keep = |memory, operand| Step::Store { memory, operand };
    let (input, weight, output) = (Operand::Input, Operand::Weight, Operand::Output);
    let steps = vec![
        keep(dram, input),
        keep(dram, weight),
        keep(dram, output),
        Step::Temporal { dim: n, tile: 128 },
        keep(buffer, weight),
        Step::Temporal { dim: m, tile: 1 },
        keep(buffer, input),
        keep(buffer, output),
        Step::Temporal { dim: n, tile: 1 },
        Step::Temporal { dim: k, tile: 1 },
    ];
    let mapping = Mapping::new(&problem, steps).unwrap();
    let cost = crate::evaluate(&problem, &mapping).unwrap();
    let macs = 256u128.pow(3);
    let find = |memory, operand| {
        let c = cost.counts.iter().find(|c| c.memory == memory && c.operand == operand).unwrap();
        (c.reads, c.writes)
    };
    assert_eq!(find(dram, input), (131_072, 0));
    assert_eq!(find(dram, weight), (65_536, 0));
    assert_eq!(find(dram, output), (0, 65_536));
    assert_eq!(find(buffer, input), (macs, 131_072));
    assert_eq!(find(buffer, weight), (macs, 65_536));
    assert_eq!(find(buffer, output), (macs - 65_536 + 65_536, macs));
    assert_eq!(cost.compute_cycles, macs as f64);
    assert_eq!(cost.energy_total().0, 446_824_448.0);
}
