//! Layers of real models on chips of real forms: always a legal mapping, never worse than the plainest one.

use presil_hwmodels::{Chip, DimSelector, NodeKind, Operand, OperandSet};
use presil_numerics::Bytes;
use presil_workloads::build::Conv;
use presil_workloads::build::{Attention, Experts, Mask};
use presil_workloads::{Einsum, OpClass};

use super::chips::{chip, conv, dram, einsum, fanout, gemm, memory, problem};
use crate::Mapping;
use crate::analysis::evaluate;
use crate::search::frame::Frame;
use crate::search::plan::Plan;
use crate::search::{Key, Objective, Options, SearchError, solve};

const REDUCTION: DimSelector = DimSelector::Reduction;
const OUTPUT: DimSelector = DimSelector::OutputChannel;
const PIXEL: DimSelector = DimSelector::Pixel;
const GROUP: DimSelector = DimSelector::Group;

fn sram(capacity: u64, keeps: &str, rate: f64, energy: f64) -> NodeKind {
    NodeKind::Memory(memory(capacity, keeps, rate, energy))
}

/// Cores with a weight-stationary systolic array each.
fn edge() -> Chip {
    let mut register = memory(1, "w", 1.0, 0.02);
    register.must_keep = OperandSet::of(&[Operand::Weight]);
    chip(vec![
        dram(34.0),
        sram(4 << 20, "iwo", 256.0, 2.0),
        fanout(&[(4, &[OUTPUT, PIXEL, GROUP])]),
        sram(64 << 10, "i", 64.0, 0.4),
        sram(64 << 10, "w", 64.0, 0.4),
        sram(32 << 10, "o", 256.0, 0.3),
        fanout(&[(32, &[REDUCTION]), (32, &[OUTPUT, GROUP])]),
        NodeKind::Memory(register),
    ])
}

/// Row-stationary: a global buffer and three spads in each element.
fn row_stationary() -> Chip {
    chip(vec![
        dram(16.0),
        sram(108 << 10, "io", 16.0, 3.0),
        fanout(&[
            (12, &[DimSelector::Named("r".into()), REDUCTION, OUTPUT]),
            (14, &[DimSelector::Named("p".into()), PIXEL, OUTPUT, GROUP]),
        ]),
        sram(24, "i", 4.0, 0.1),
        sram(448, "w", 4.0, 0.3),
        sram(96, "o", 8.0, 0.1),
    ])
}

/// Five levels with three fanouts.
fn gpu() -> Chip {
    chip(vec![
        dram(1400.0),
        sram(40 << 20, "iwo", 5000.0, 3.0),
        fanout(&[(108, &[OUTPUT, PIXEL, GROUP])]),
        sram(160 << 10, "iw", 128.0, 0.8),
        fanout(&[(4, &[OUTPUT, PIXEL, GROUP])]),
        sram(64 << 10, "iwo", 256.0, 0.2),
        fanout(&[
            (8, &[PIXEL, GROUP]),
            (4, &[OUTPUT, PIXEL]),
            (8, &[REDUCTION]),
        ]),
    ])
}

fn attention(mask: Mask, queries: u64, keys: u64, values: bool) -> Einsum {
    let a = Attention {
        batch: 1,
        heads: 32,
        kv_heads: 8,
        query_length: queries,
        key_length: keys,
        key_width: 64,
        value_width: 64,
        mask,
    };
    einsum(|b| {
        let cache = b.input("kv", &[1, keys, 8 * 64]);
        if values {
            let p = b.input("p", &[1, 32, queries, keys]);
            b.attention_values("y", p, cache, &a).unwrap();
        } else {
            let q = b.input("q", &[1, queries, 32 * 64]);
            b.attention_scores("y", q, cache, &a).unwrap();
        }
    })
}

fn experts(rows: u64, distinct: f64) -> Einsum {
    let e = Experts {
        experts: 64,
        rows,
        distinct,
        in_features: 2048,
        out_features: 1408,
    };
    einsum(|b| {
        let x = b.input("x", &[rows, 2048]);
        let w = b.weight("w", &[64, 1408, 2048]);
        b.experts_with("y", x, w, &e).unwrap();
    })
}

fn layers() -> Vec<(&'static str, Einsum)> {
    let transposed = einsum(|b| {
        let x = b.input("x", &[1, 64, 28, 28]);
        let w = b.weight("w", &[64, 32, 3, 3]);
        b.conv_transpose2d_with("y", x, w, None, &Conv::square(32, 3, 2, 1), [1, 1])
            .unwrap();
    });
    let batched = einsum(|b| {
        let x = b.input("x", &[12, 197, 64]);
        let y = b.input("y", &[12, 197, 64]);
        b.matmul("z", OpClass::Matmul, x, y, true).unwrap();
    });
    vec![
        ("stem 7x7/2", conv(3, 224, &Conv::square(64, 7, 2, 3))),
        ("3x3", conv(64, 56, &Conv::square(64, 3, 1, 1))),
        ("3x3/2 late", conv(512, 14, &Conv::square(512, 3, 2, 1))),
        ("1x1", conv(256, 56, &Conv::square(64, 1, 1, 0))),
        ("1x1/2", conv(1024, 14, &Conv::square(2048, 1, 2, 0))),
        ("prime", conv(97, 23, &Conv::square(113, 3, 1, 1))),
        (
            "depthwise",
            conv(144, 56, &Conv::square(144, 3, 1, 1).with_groups(144)),
        ),
        (
            "grouped",
            conv(128, 28, &Conv::square(256, 3, 1, 1).with_groups(32)),
        ),
        ("transposed", transposed),
        ("linear", gemm(512, 2048, 2048)),
        ("vocabulary", gemm(1, 128_256, 2048)),
        ("gemv", gemm(1, 8192, 2048)),
        ("one", gemm(1, 1, 1)),
        ("batched", batched),
        ("scores", attention(Mask::Causal { past: 0 }, 96, 96, false)),
        ("values", attention(Mask::Causal { past: 0 }, 96, 96, true)),
        (
            "banded",
            attention(
                Mask::Sliding {
                    past: 0,
                    window: 24,
                },
                96,
                96,
                false,
            ),
        ),
        (
            "decode",
            attention(Mask::Causal { past: 1023 }, 1, 1024, true),
        ),
        ("experts", experts(6, 6.0)),
        ("ragged experts", experts(1000, 63.2)),
    ]
}

fn chips() -> Vec<(&'static str, Chip)> {
    vec![
        ("edge", edge()),
        ("row stationary", row_stationary()),
        ("gpu", gpu()),
    ]
}

fn score(objective: Objective, cost: &crate::Cost) -> f64 {
    match objective {
        Objective::Latency => cost.time.0,
        Objective::Energy => cost.energy_total().0,
        Objective::Edp => cost.time.0 * cost.energy_total().0,
    }
}

#[test]
fn every_layer_has_a_mapping_on_every_chip() {
    for (chip_name, chip) in chips() {
        for (name, einsum) in layers() {
            for objective in [Objective::Latency, Objective::Energy] {
                let p = problem(&chip, &einsum);
                let start = std::time::Instant::now();
                let found = solve(&p, objective, &Options::default())
                    .unwrap_or_else(|e| panic!("{chip_name}, {name}: {e}"));
                let frame = Frame::new(&p);
                let plain = Mapping::new(&p, Plan::trivial(&frame).steps(&frame)).unwrap();
                let plain = evaluate(&p, &plain).unwrap();
                assert!(
                    score(objective, &found.cost) <= score(objective, &plain),
                    "{chip_name}, {name}"
                );
                let ideal = found.cost.executed_macs as f64
                    / chip.nodes[*p.path.last().unwrap()].instances as f64
                    * 1e-9;
                println!(
                    "{chip_name:15} {name:15} {:8} time {:9.3} us ({:5.1} % of peak, {:?}) energy {:9.3} uJ, {:5.1} ms, {}",
                    objective.name(),
                    found.cost.time.0 * 1e6,
                    100.0 * ideal / found.cost.time.0,
                    found.cost.bottleneck(),
                    found.cost.energy_total().0 * 1e6,
                    start.elapsed().as_secs_f64() * 1e3,
                    found.space,
                );
            }
        }
    }
}

#[test]
fn solutions_are_deterministic() {
    let (chip, einsum) = (row_stationary(), conv(64, 56, &Conv::square(64, 3, 1, 1)));
    let p = problem(&chip, &einsum);
    let once = solve(&p, Objective::Edp, &Options::default()).unwrap();
    assert_eq!(
        once,
        solve(&p, Objective::Edp, &Options::default()).unwrap()
    );
}

#[test]
fn what_is_too_large_for_a_proof_has_a_bound_by_its_work() {
    let mut register = memory(64, "iwo", 1.0, 0.02);
    register.must_keep = OperandSet::of(&Operand::ALL);
    let chip = chip(vec![dram(4.0), NodeKind::Memory(register)]);
    let einsum = gemm(1, 1, 1 << 21);
    let problem = problem(&chip, &einsum);
    let found = solve(&problem, Objective::Latency, &Options::default()).unwrap();
    let work = Frame::new(&problem).point_time * (1u64 << 21) as f64;
    assert!(!found.proven);
    assert!(work > 0.0 && found.lower_bound >= work, "{found:?}");
    assert!(found.lower_bound <= found.cost.time.0, "{found:?}");
}

#[test]
fn what_does_not_fit_is_named() {
    let mut register = memory(1, "wo", 1.0, 0.02);
    register.must_keep = OperandSet::of(&[Operand::Weight, Operand::Output]);
    let chip = chip(vec![dram(4.0), NodeKind::Memory(register)]);
    let einsum = gemm(4, 4, 4);
    let error = solve(
        &problem(&chip, &einsum),
        Objective::Latency,
        &Options::default(),
    )
    .unwrap_err();
    let expected = SearchError::DoesNotFit {
        memory: "node1".into(),
        operands: "weight, output".into(),
        needed: Bytes(5),
        available: Bytes(1),
    };
    assert_eq!(error, expected);
}

#[test]
fn more_capacity_and_bandwidth_do_not_hurt() {
    for einsum in [
        conv(64, 28, &Conv::square(96, 3, 1, 1)),
        gemm(300, 700, 500),
        gemm(1, 4096, 1000),
    ] {
        let mut last = f64::INFINITY;
        for (size, rate) in [
            (16 << 10, 4.0),
            (32 << 10, 4.0),
            (32 << 10, 8.0),
            (128 << 10, 8.0),
            (128 << 10, 32.0),
        ] {
            let axes = fanout(&[(16, &[REDUCTION]), (16, &[OUTPUT, PIXEL])]);
            let chip = chip(vec![
                dram(rate),
                sram(size, "iwo", 64.0, 2.0),
                axes,
                sram(16, "w", 2.0, 0.1),
            ]);
            let found = solve(
                &problem(&chip, &einsum),
                Objective::Latency,
                &Options::default(),
            )
            .unwrap();
            assert!(
                found.cost.time.0 <= last * 1.01,
                "{size} B at {rate} GB/s: {} after {last}",
                found.cost.time.0
            );
            last = found.cost.time.0;
        }
    }
}

#[test]
fn keys_tell_problems_apart_and_forget_names() {
    let chip = edge();
    let (a, b) = (gemm(8, 16, 32), gemm(8, 16, 33));
    let mut renamed = a.clone();
    renamed.dims[0].name = "rows".into();
    let key = |e: &Einsum| Key::of(&problem(&chip, e), Objective::Latency);
    assert_eq!(key(&a), key(&renamed));
    assert_ne!(key(&a), key(&b));
    assert_ne!(key(&a), Key::of(&problem(&chip, &a), Objective::Energy));
    let mut less = problem(&chip, &a);
    less.capacity[1] = Bytes(1 << 20);
    assert_ne!(key(&a), Key::of(&less, Objective::Latency));
    // Where an axis asks for a name, names count.
    let chip = row_stationary();
    let key = |e: &Einsum| Key::of(&problem(&chip, e), Objective::Latency);
    let mut named = a.clone();
    named.dims[0].name = "p".into();
    assert_ne!(key(&a), key(&named));
}

#[test]
fn every_layer_has_a_mapping_on_every_chip_that_ships() {
    for name in presil_hwmodels::library::names() {
        let chip = presil_hwmodels::load(name, &[]).unwrap();
        for (id, engine) in chip.engines.iter_ids() {
            let presil_hwmodels::EngineKind::Array { compute, .. } = engine.kind else {
                continue;
            };
            for (layer, einsum) in layers() {
                let mut p = problem(&chip, &einsum);
                p.engine = id;
                p.path = chip.path(compute);
                let memory = |n: &presil_hwmodels::NodeId| chip.nodes[*n].memory();
                p.capacity = p
                    .path
                    .iter()
                    .map(|n| memory(n).map_or(Bytes(0), |m| m.capacity))
                    .collect();
                let start = std::time::Instant::now();
                let found = solve(&p, Objective::Latency, &Options::default())
                    .unwrap_or_else(|e| panic!("{name}, {layer}: {e}"));
                let rate = match &chip.nodes[compute].kind {
                    NodeKind::Compute(c) => {
                        c.modes[0].macs_per_cycle
                            * chip.clocks[c.clock].domain.frequency.0
                            * chip.nodes[compute].instances as f64
                    }
                    _ => 0.0,
                };
                println!(
                    "{name:15} {layer:15} {:9.3} us, {:5.1} % of peak, {:?}, {:.1} ms",
                    found.cost.time.0 * 1e6,
                    100.0 * found.cost.executed_macs as f64 / rate / found.cost.time.0,
                    found.cost.bottleneck(),
                    start.elapsed().as_secs_f64() * 1e3,
                );
            }
        }
    }
}
