//! The search against every mapping there is, for tiny problems.
//!
//! The enumeration shares nothing with the search: it grows lists of steps from the outside in. Between two
//! fanouts each dimension has at most one loop between neighbouring storage steps; loops of one iteration are
//! left out.

use presil_hwmodels::{DimSelector, NodeKind, Operand};
use presil_workloads::build::Conv;
use presil_workloads::{DimId, Einsum};

use super::chips::{chip, conv, dram, fanout, gemm, memory, problem};
use crate::analysis::evaluate;
use crate::search::{Objective, Options, solve};
use crate::{Mapping, Problem, Step};

/// Scores (latency, energy, edp) of the best mappings, and how many there are.
struct Optimum {
    best: [f64; 3],
    mappings: [String; 3],
    legal: usize,
}

fn exhaust(problem: &Problem) -> Optimum {
    let mut optimum = Optimum {
        best: [f64::INFINITY; 3],
        mappings: Default::default(),
        legal: 0,
    };
    let tiles: Vec<u64> = problem.einsum.dims.iter().map(|d| d.size).collect();
    let homes = Operand::ALL.map(|o| Step::Store {
        memory: problem.home[o.index()],
        operand: o,
    });
    grow(problem, &mut homes.to_vec(), &tiles, 1, 0, &mut optimum);
    optimum
}

/// Extends steps at a place of the path: by a storage, by loops, or on to the next place. `since` is the number
/// of the step after the last storage or fanout.
fn grow(
    problem: &Problem,
    steps: &mut Vec<Step>,
    tiles: &[u64],
    place: usize,
    since: usize,
    optimum: &mut Optimum,
) {
    let sizes: Vec<u64> = problem.einsum.dims.iter().map(|d| d.size).collect();
    let node = problem.path[place];
    let smaller = |d: usize| {
        let whole = tiles[d] == sizes[d];
        (1..tiles[d]).filter(move |t| whole || tiles[d].is_multiple_of(*t))
    };
    match &problem.chip.nodes[node].kind {
        NodeKind::Compute(_) => {
            // What is left runs innermost; its order does not matter to the compute.
            for (d, tile) in tiles.iter().enumerate().filter(|t| *t.1 > 1) {
                let _ = tile;
                steps.push(Step::Temporal {
                    dim: DimId(d as u32),
                    tile: 1,
                });
            }
            if let Ok(mapping) = Mapping::new(problem, steps.clone()) {
                let cost = evaluate(problem, &mapping).unwrap();
                let (t, e) = (cost.time.0, cost.energy_total().0);
                for ((best, text), x) in
                    optimum
                        .best
                        .iter_mut()
                        .zip(&mut optimum.mappings)
                        .zip([t, e, t * e])
                {
                    if x < *best {
                        *best = x;
                        *text = mapping.to_string();
                    }
                }
                optimum.legal += 1;
            }
            let keep = steps.len() - tiles.iter().filter(|t| **t > 1).count();
            steps.truncate(keep);
        }
        NodeKind::Memory(m) => {
            // Any loops, then a storage, any number of times; then on. Loops that no storage follows here stand
            // at a later place, or above a fanout.
            let fanout = |n: &presil_hwmodels::NodeId| {
                matches!(problem.chip.nodes[*n].kind, NodeKind::Fanout(_))
            };
            let open = matches!(steps.last(), Some(Step::Temporal { .. }));
            if !open || problem.path.get(place + 1).is_some_and(fanout) {
                grow(problem, steps, tiles, place + 1, since, optimum);
            }
            for operand in Operand::ALL.into_iter().filter(|o| m.keeps.has(*o)) {
                let step = Step::Store {
                    memory: node,
                    operand,
                };
                let after = |s: &Step| matches!(s, Step::Store { memory, operand: o } if *memory == node && o.index() >= operand.index());
                // Storage steps side by side are in the order of operands.
                let side = steps
                    .iter()
                    .rev()
                    .take_while(|s| matches!(s, Step::Store { .. }))
                    .any(after);
                if steps.contains(&step) || side {
                    continue;
                }
                steps.push(step);
                let now = steps.len();
                grow(problem, steps, tiles, place, now, optimum);
                steps.pop();
            }
            for d in 0..tiles.len() {
                let dim = DimId(d as u32);
                if steps[since.min(steps.len())..]
                    .iter()
                    .any(|s| matches!(s, Step::Temporal { dim: x, .. } if *x == dim))
                {
                    continue;
                }
                for tile in smaller(d) {
                    let mut next = tiles.to_vec();
                    next[d] = tile;
                    steps.push(Step::Temporal { dim, tile });
                    grow(problem, steps, &next, place, since, optimum);
                    steps.pop();
                }
            }
        }
        NodeKind::Fanout(_) => {
            grow(problem, steps, tiles, place + 1, steps.len(), optimum);
            for d in 0..tiles.len() {
                let dim = DimId(d as u32);
                if steps
                    .iter()
                    .any(|s| matches!(s, Step::Spatial { dim: x, .. } if *x == dim))
                {
                    continue;
                }
                for tile in smaller(d) {
                    let mut next = tiles.to_vec();
                    next[d] = tile;
                    steps.push(Step::Spatial {
                        fanout: node,
                        axis: 0,
                        dim,
                        tile,
                    });
                    let now = steps.len();
                    grow(problem, steps, &next, place, now, optimum);
                    steps.pop();
                }
            }
        }
    }
}

/// A deterministic stream of numbers below a bound.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

const OPTIONS: Options = Options {
    estimates: 12_000,
    evaluations: 96,
    give: 0.0,
};
const OBJECTIVES: [Objective; 3] = [Objective::Latency, Objective::Energy, Objective::Edp];

/// Ratios of what the search finds to the optimum, for each objective.
fn ratios(problem: &Problem) -> Vec<f64> {
    let optimum = exhaust(problem);
    let found = OBJECTIVES.iter().enumerate().map(|(i, objective)| {
        let best = optimum.best[i];
        match solve(problem, *objective, &OPTIONS) {
            Ok(s) => {
                let (t, e) = (s.cost.time.0, s.cost.energy_total().0);
                let score = match objective {
                    Objective::Latency => t,
                    Objective::Energy => e,
                    Objective::Edp => t * e,
                };
                if score > 1.05 * best {
                    println!(
                        "{objective:?} {:.3} times: {} instead of {}",
                        score / best,
                        s.mapping,
                        optimum.mappings[i]
                    );
                }
                score / best
            }
            Err(e) => {
                assert_eq!(
                    optimum.legal, 0,
                    "{e}, but {} mappings are legal",
                    optimum.legal
                );
                1.0
            }
        }
    });
    found.collect()
}

fn judge(mut all: Vec<f64>) {
    all.sort_by(f64::total_cmp);
    let within = |x: f64| all.iter().filter(|r| **r <= x).count() as f64 / all.len() as f64;
    println!(
        "{} cases: equal {:.1} %, within 1 % {:.1} %, within 5 % {:.1} %, worst {:.3}",
        all.len(),
        100.0 * within(1.0 + 1e-9),
        100.0 * within(1.01),
        100.0 * within(1.05),
        all.last().unwrap()
    );
    assert!(all[0] > 1.0 - 1e-9, "better than the optimum: {}", all[0]);
    assert!(within(1.05) >= 0.95, "too few cases within 5 %");
    assert!(within(1.3) == 1.0, "a case beyond 30 %");
}

#[test]
fn two_level_matmuls_are_optimal() {
    let mut numbers = Numbers(7);
    let mut all = Vec::new();
    for _ in 0..20 {
        let [m, n, k] = [0; 3].map(|_| 1 + numbers.below(5));
        let buffer = NodeKind::Memory(memory(
            6 + numbers.below(60),
            "iwo",
            8.0,
            1.0 + numbers.below(8) as f64,
        ));
        let chip = chip(vec![dram(0.5 + numbers.below(4) as f64), buffer]);
        let einsum = gemm(m, n, k);
        all.extend(ratios(&problem(&chip, &einsum)));
    }
    judge(all.clone());
    assert!(all.iter().all(|r| *r <= 1.0 + 1e-9), "{all:?}");
}

#[test]
fn small_arrays_come_close() {
    let mut numbers = Numbers(11);
    let mut all = Vec::new();
    let selectors = [
        DimSelector::Reduction,
        DimSelector::OutputChannel,
        DimSelector::Pixel,
    ];
    for _ in 0..10 {
        let [m, n, k] = [0; 3].map(|_| 1 + numbers.below(4));
        let buffer = NodeKind::Memory(memory(8 + numbers.below(40), "iwo", 4.0, 4.0));
        let first = numbers.below(3) as usize;
        let axis = fanout(&[(2 + numbers.below(3), &selectors[first..(first + 2).min(3)])]);
        let registers = NodeKind::Memory(memory(
            4 + numbers.below(8),
            ["w", "o", "i"][numbers.below(3) as usize],
            8.0,
            0.3,
        ));
        let chip = chip(vec![
            dram(0.5 + numbers.below(4) as f64),
            buffer,
            axis,
            registers,
        ]);
        let einsum = gemm(m, n, k);
        all.extend(ratios(&problem(&chip, &einsum)));
    }
    judge(all);
}

#[test]
fn small_convolutions_come_close() {
    let mut numbers = Numbers(13);
    let mut all = Vec::new();
    for _ in 0..10 {
        let (c, k) = (1 + numbers.below(2), 1 + numbers.below(3));
        let filter = 1 + numbers.below(2);
        let shape = Conv {
            kernel: [filter, 1],
            padding: [numbers.below(2), 0, 0, 0],
            ..Conv::square(k, 1, 1 + numbers.below(2), 0)
        };
        let buffer = NodeKind::Memory(memory(6 + numbers.below(40), "iwo", 4.0, 3.0));
        let chip = chip(vec![dram(0.5 + numbers.below(4) as f64), buffer]);
        let einsum: Einsum = conv(c, 2 + numbers.below(3), &shape);
        all.extend(ratios(&problem(&chip, &einsum)));
    }
    judge(all);
}
