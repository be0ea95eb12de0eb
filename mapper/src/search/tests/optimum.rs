//! What an optimum has to be like.

use presil_hwmodels::{Chip, DimSelector, NodeKind};

use super::chips::{chip, conv, dram, fanout, gemm, memory, problem};
use crate::search::{Objective, Options, solve};
use presil_workloads::build::Conv;

const ALL: Options = Options {
    budget: u64::MAX,
    give: 0.0,
    near: 0,
    log: false,
    seconds: None,
};

/// A chip of an array with buffers on both sides.
struct Knobs {
    rate: f64,
    bytes: u64,
    port: f64,
    keeps: &'static str,
    axis: u64,
    accepts: &'static [DimSelector],
}

const BASE: Knobs = Knobs {
    rate: 2.0,
    bytes: 96,
    port: 4.0,
    keeps: "io",
    axis: 4,
    accepts: &[DimSelector::Reduction],
};

fn build(k: &Knobs) -> Chip {
    chip(vec![
        dram(k.rate),
        NodeKind::Memory(memory(k.bytes, k.keeps, k.port, 2.0)),
        fanout(&[(k.axis, k.accepts)]),
        NodeKind::Memory(memory(4, "w", 1.0, 0.1)),
    ])
}

#[test]
fn more_of_anything_is_never_worse() {
    let both = &[DimSelector::Reduction, DimSelector::OutputChannel][..];
    let steps: [(&str, Knobs); 6] = [
        ("bandwidth of dram", Knobs { rate: 3.0, ..BASE }),
        ("capacity", Knobs { bytes: 160, ..BASE }),
        ("bandwidth of the buffer", Knobs { port: 8.0, ..BASE }),
        (
            "one more operand in the buffer",
            Knobs {
                keeps: "iwo",
                ..BASE
            },
        ),
        ("a larger array", Knobs { axis: 6, ..BASE }),
        (
            "a wider mapspace",
            Knobs {
                accepts: both,
                ..BASE
            },
        ),
    ];
    for einsum in [gemm(10, 7, 12), gemm(1, 13, 9)] {
        let figures = |k: &Knobs| {
            let chip = build(k);
            let p = problem(&chip, &einsum);
            [Objective::Latency, Objective::Energy, Objective::Edp].map(|o| {
                let s = solve(&p, o, &ALL).unwrap();
                assert!(s.proven, "{}", s.space);
                s.certificate.objective.found
            })
        };
        let base = figures(&BASE);
        for (what, knobs) in &steps {
            for (now, before) in figures(knobs).iter().zip(base) {
                assert!(
                    *now <= before * (1.0 + 1e-9),
                    "{what}: {now} after {before}"
                );
            }
        }
    }
}

#[test]
fn giving_some_of_the_objective_pays_in_the_other_figure() {
    let (chip, einsum) = (build(&BASE), gemm(10, 7, 12));
    let p = problem(&chip, &einsum);
    let strict = solve(&p, Objective::Latency, &ALL).unwrap();
    let mut last = strict.certificate.other.found;
    for give in [0.005, 0.05, 0.5] {
        let s = solve(&p, Objective::Latency, &Options { give, ..ALL }).unwrap();
        let limit = strict.cost.time.0 * (1.0 + give) * (1.0 + 1e-9);
        assert!(s.proven && s.cost.time.0 <= limit);
        assert!(s.certificate.other.found <= last * (1.0 + 1e-9));
        last = s.certificate.other.found;
    }
}

#[test]
fn the_near_optimal_set_is_distinct_and_in_order() {
    let (chip, einsum) = (build(&BASE), gemm(6, 5, 8));
    let p = problem(&chip, &einsum);
    let s = solve(&p, Objective::Energy, &Options { near: 12, ..ALL }).unwrap();
    assert_eq!(s.near.len(), 12);
    assert!((s.near[0].1 / s.certificate.objective.found - 1.0).abs() < 1e-8);
    assert!(
        s.near
            .windows(2)
            .all(|w| w[0].1 <= w[1].1 && w[0].2 != w[1].2)
    );
}

#[test]
fn an_exhausted_budget_is_admitted() {
    let (chip, einsum) = (build(&BASE), conv(16, 14, &Conv::square(32, 3, 1, 1)));
    let p = problem(&chip, &einsum);
    let few = solve(&p, Objective::Energy, &Options { budget: 300, ..ALL }).unwrap();
    let proof = few.certificate.objective;
    assert!(!few.proven && !proof.proven && proof.gap() > 0.0 && proof.gap() < 1.0);
    assert!(few.lower_bound < proof.found, "{}", few.space);
    let more = solve(
        &p,
        Objective::Energy,
        &Options {
            budget: 30_000,
            ..ALL
        },
    )
    .unwrap();
    assert!(more.lower_bound >= few.lower_bound * (1.0 - 1e-9));
    assert!(more.certificate.objective.found <= proof.found * (1.0 + 1e-9));
}

#[test]
fn what_is_cut_off_is_logged_with_bounds_beyond_the_optimum() {
    let (chip, einsum) = (build(&BASE), gemm(6, 5, 8));
    let p = problem(&chip, &einsum);
    let s = solve(&p, Objective::Latency, &Options { log: true, ..ALL }).unwrap();
    assert!(s.proven && !s.cuts.is_empty());
    assert!(
        s.cuts
            .iter()
            .all(|c| c.bound >= s.lower_bound * (1.0 - 1e-8))
    );
    assert!(s.cuts.iter().any(|c| c.marks.is_some()));
}
