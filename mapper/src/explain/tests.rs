//! Prices and reasons that can be told by hand, and their monotony on chips that ship.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use presil_hwmodels::{Chip, EngineKind, Operand};
use presil_numerics::{Bytes, Format};
use presil_workloads::{Einsum, OpId, file};

use super::{Change, Reason, Usage, axis_name, figures, prices, usage, why};
use crate::problem::Problem;
use crate::schedule::arrays;
use crate::search::{Constraint, Objective, Options, Solution, solve};

/// DRAM of a bandwidth, a buffer and a row of multipliers for pixels.
fn tiny(size: u64, bandwidth: &str, buffer: &str) -> Chip {
    let text = format!(
        r#"
name = "tiny"
description = "For tests."
status = "assumed"
source = "test"
[technology]
node = "7 nm"
[[clock]]
name = "core"
frequency = "1 GHz"
[[memory]]
name = "dram"
kind = "dram"
capacity = "1 GiB"
word = "1 B"
bandwidth = "{bandwidth}"
read_energy = "10 pJ/bit"
write_energy = "10 pJ/bit"
static_power = "0 W"
[[memory]]
name = "buffer"
parent = "dram"
kind = "sram"
capacity = "{buffer}"
word = "64 B"
ports = "1r1w"
clock = "core"
[[fanout]]
name = "row"
parent = "buffer"
[[fanout.dim]]
name = "row"
size = {size}
multicast = ["input", "weight"]
accepts = ["pixel"]
[[compute]]
name = "mac"
parent = "row"
clock = "core"
mode = [{{ input = "int8", weight = "int8", accumulate = "int32", macs_per_cycle = 1 }}]
[[array]]
name = "array"
compute = "mac"
"#
    );
    presil_hwmodels::load::from_text("tiny.toml", &text, None, &[])
        .unwrap_or_else(|e| panic!("{e}"))
}

fn einsum(text: &str, tensors: [&str; 3]) -> Einsum {
    let text = format!(
        "name = \"t\"\nformat = \"int8\"\n[[tensor]]\nname = \"I\"\nshape = {}\nrole = \"input\"\n\
         [[tensor]]\nname = \"W\"\nshape = {}\nrole = \"weight\"\n[[op]]\neinsum = \"{text}\"\n{}",
        tensors[0], tensors[1], tensors[2]
    );
    let graph = file::parse("t", &text).unwrap();
    graph.ops[OpId(0)].contraction().unwrap().clone()
}

fn gemm(m: u64, n: u64, k: u64) -> Einsum {
    einsum(
        "O[m,n] += I[m,k] * W[k,n]",
        [&format!("[{m}, {k}]"), &format!("[{k}, {n}]"), ""],
    )
}

/// All operands at home in the root memory.
fn problem<'a>(chip: &'a Chip, einsum: &'a Einsum) -> Problem<'a> {
    let (engine, mode) = arrays(chip, [Format::INT8, Format::INT8])[0];
    let EngineKind::Array { compute, .. } = chip.engines[engine].kind else {
        panic!("no array");
    };
    let path = chip.path(compute);
    let capacity = path
        .iter()
        .map(|n| chip.nodes[*n].memory().map_or(Bytes::ZERO, |m| m.capacity));
    Problem {
        einsum,
        chip,
        engine,
        bits: [8.0; 3],
        accumulate: Format::INT32,
        mode,
        home: [chip.root(); 3],
        capacity: capacity.collect(),
        lies: [const { None }; 3],
        path,
    }
}

fn options() -> Options {
    Options {
        budget: 20_000,
        ..Options::default()
    }
}

/// A budget that ends before most proofs.
fn few() -> Options {
    Options {
        budget: 300,
        ..Options::default()
    }
}

fn solved(problem: &Problem, by: Objective) -> (Solution, Usage) {
    let solution = solve(problem, by, &options()).unwrap();
    let usage = usage(problem, &solution.mapping, &solution.cost);
    (solution, usage)
}

/// The relative change of the latency that the change of a name gives.
fn price(problem: &Problem, name: &str) -> f64 {
    let all = prices(
        problem,
        &[],
        &problem.capacity,
        None,
        Objective::Latency,
        &options(),
    )
    .unwrap();
    let found = all.prices.iter().find(|p| p.name == name);
    let names = || {
        all.prices
            .iter()
            .map(|p| p.name.clone())
            .collect::<Vec<_>>()
    };
    found
        .unwrap_or_else(|| panic!("no {name} in {:?}", names()))
        .gains[0]
        .relative
}

#[test]
fn a_tenth_of_the_binding_bandwidth_is_worth_its_share_of_the_time() {
    // 3 x 64 x 64 bytes at 0.1 byte a cycle, far more than the buffer and the multipliers take.
    let (chip, e) = (tiny(4096, "0.1 GB/s", "64 KiB"), gemm(64, 64, 64));
    let p = problem(&chip, &e);
    let gain = price(&p, "dram: 10 % more bandwidth");
    assert!(gain < -0.085 && gain > -0.0911, "{gain}");
    assert_eq!(price(&p, "row: 4097 instead of 4096"), 0.0);
    assert_eq!(price(&p, "buffer: 1 KiB more"), 0.0);
}

#[test]
fn one_more_instance_counts_where_it_saves_an_iteration() {
    // 15 rows on 4 instances take 4 rounds, on 5 three; 16 rows take four on either.
    let chip = tiny(4, "1000 GB/s", "64 KiB");
    let (odd, even) = (gemm(15, 64, 64), gemm(16, 64, 64));
    let gain = price(&problem(&chip, &odd), "row: 5 instead of 4");
    assert!((gain + 0.25).abs() < 0.01, "{gain}");
    assert_eq!(price(&problem(&chip, &even), "row: 5 instead of 4"), 0.0);
}

#[test]
fn more_is_never_worse_and_less_than_the_bound() {
    let (matmul, conv) = (
        gemm(196, 96, 160),
        einsum(
            "O[n,k,p,q] += I[n,c,p+r-1,q+s-1] * W[k,c,r,s]",
            [
                "[1, 24, 14, 14]",
                "[40, 24, 3, 3]",
                "dims = { p = 14, q = 14 }",
            ],
        ),
    );
    for name in ["edge-npu", "eyeriss", "nvdla-small"] {
        let chip = presil_hwmodels::load(name, &[]).unwrap();
        let faster = presil_hwmodels::load(name, &[]).map(|mut c| {
            for clock in c.clocks.iter_mut() {
                clock.domain.frequency.0 *= 1.1;
            }
            c
        });
        for e in [&matmul, &conv] {
            let p = problem(&chip, e);
            let all = prices(
                &p,
                &[],
                &p.capacity,
                faster.as_ref().ok(),
                Objective::Edp,
                &few(),
            )
            .unwrap();
            assert!(all.prices.len() > 12, "{name}: {}", all.prices.len());
            assert!(all.prices.iter().any(|p| p.change == Change::Clock));
            let mut last = f64::NEG_INFINITY;
            for price in &all.prices {
                for (gain, base) in price.gains.iter().zip(all.base) {
                    assert!(
                        gain.relative <= 0.0 && gain.value <= base * (1.0 + 1e-9),
                        "{name}: {price:?}"
                    );
                    assert!(gain.at_most <= gain.relative, "{name}: {price:?}");
                    assert!(gain.at_most > -1.0, "{name}: {price:?}");
                    assert!(!gain.proven || gain.at_most == gain.relative);
                }
                assert!(price.gains[2].relative >= last, "sorted by the objective");
                last = price.gains[2].relative;
            }
        }
    }
}

#[test]
fn prices_do_not_depend_on_threads() {
    let (chip, e) = (
        presil_hwmodels::load("edge-npu", &[]).unwrap(),
        gemm(100, 60, 36),
    );
    let p = problem(&chip, &e);
    let told = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| prices(&p, &[], &p.capacity, None, Objective::Energy, &few()).unwrap())
    };
    assert_eq!(told(1), told(3));
}

#[test]
fn usage_adds_up_to_the_cost() {
    let (chip, e) = (
        presil_hwmodels::load("eyeriss", &[]).unwrap(),
        gemm(64, 96, 128),
    );
    let p = problem(&chip, &e);
    let (solution, usage) = solved(&p, Objective::Energy);
    let bits: f64 = solution
        .cost
        .counts
        .iter()
        .map(|c| c.read_bits + c.write_bits)
        .sum();
    let bytes: f64 = usage
        .levels
        .iter()
        .flat_map(|l| &l.operands)
        .map(|o| o.read_bytes + o.write_bytes)
        .sum();
    assert!((bits / 8.0 - bytes).abs() < 1e-6 * bytes);
    assert!(
        usage
            .levels
            .iter()
            .all(|l| l.share() <= 1.0 && l.busy <= solution.cost.time)
    );
    let used: u64 = usage.axes.iter().map(|a| a.used).product();
    assert_eq!(used, solution.cost.instances_used);
    let root = &usage.levels[0];
    assert!(root.operands.iter().all(|o| o.home));
    let weight = root
        .operands
        .iter()
        .find(|o| o.operand == Operand::Weight)
        .unwrap();
    assert_eq!(weight.tile_bytes, 96.0 * 128.0);
}

#[test]
fn an_axis_says_why_it_is_not_used_more() {
    // Rows for pixels alone: n and k are not accepted, and m is all there.
    let (chip, e) = (tiny(64, "1000 GB/s", "64 KiB"), gemm(24, 64, 64));
    let p = problem(&chip, &e);
    let (solution, usage) = solved(&p, Objective::Latency);
    let all = why(
        &p,
        &[],
        &solution.mapping,
        &usage,
        &solution.cost,
        Objective::Latency,
    );
    let [axis] = all.as_slice() else {
        panic!("{all:?}");
    };
    assert_eq!((axis.axis.used, axis.axis.size), (24, 64));
    assert_eq!(axis_name(&chip, &axis.axis), "row");
    let reason = |name: &str| {
        let of = |d: &&(presil_workloads::DimId, Reason)| e.dim(d.0).name == name;
        axis.reasons.iter().find(of).map(|d| d.1.clone()).unwrap()
    };
    assert_eq!(reason("m"), Reason::Spent);
    assert!(matches!(reason("n"), Reason::Accepts(a) if a.len() == 1));
    assert!(matches!(reason("k"), Reason::Accepts(_)));
}

#[test]
fn what_would_be_legal_has_its_cost() {
    // All in one instance: laying m along the row is legal, and faster.
    let (chip, e) = (tiny(16, "1000 GB/s", "64 KiB"), gemm(32, 8, 8));
    let p = problem(&chip, &e);
    let steps: Vec<crate::Step> = plain(&p);
    let mapping = crate::Mapping::new(&p, steps).unwrap();
    let cost = crate::evaluate(&p, &mapping).unwrap();
    let usage = usage(&p, &mapping, &cost);
    let all = why(&p, &[], &mapping, &usage, &cost, Objective::Latency);
    let m = all[0]
        .reasons
        .iter()
        .find(|r| e.dim(r.0).name == "m")
        .unwrap();
    let Reason::Costs { used, time, energy } = m.1 else {
        panic!("{m:?}");
    };
    assert_eq!(used, 16);
    assert!(time < -0.8, "{time}");
    assert!(energy < 0.0, "{energy}");
    assert!(figures(&p, &cost).0 > 0.0);
}

/// Everything kept in both memories, one loop a dimension.
fn plain(p: &Problem) -> Vec<crate::Step> {
    let keep = |memory| Operand::ALL.map(|operand| crate::Step::Store { memory, operand });
    let loops = p
        .einsum
        .dim_ids()
        .map(|dim| crate::Step::Temporal { dim, tile: 1 });
    [p.path[0], p.path[1]]
        .into_iter()
        .flat_map(keep)
        .chain(loops)
        .collect()
}

/// A row of 16 that may hold only so many pixels, and a buffer that must be used by a half.
fn restricted(problem: &Problem, across: u64) -> Vec<Constraint> {
    let node = |name: &str| {
        let mut path = problem.path.iter();
        *path.find(|n| problem.chip.nodes[**n].name == name).unwrap()
    };
    let pixels = problem.einsum.dim_ids().next().unwrap();
    vec![
        Constraint {
            trips: vec![(pixels, across)],
            ..Constraint::none(node("row"))
        },
        Constraint {
            min_utilization: 0.5,
            ..Constraint::none(node("buffer"))
        },
    ]
}

#[test]
fn constraints_have_a_price_and_hold_for_every_other_one() {
    let (chip, e) = (tiny(16, "1000 GB/s", "2 KiB"), gemm(32, 16, 24));
    let p = problem(&chip, &e);
    let asked = restricted(&p, 1);
    let by = Objective::Latency;
    let told = |constraints: &[Constraint]| {
        prices(&p, constraints, &p.capacity, None, by, &options()).unwrap()
    };
    let (free, bound) = (told(&[]), told(&asked));
    assert!(bound.proven[0] && free.proven[0]);
    let solution = crate::search::solve_within(&p, &asked, by, &options()).unwrap();
    assert!((solution.certificate.objective.found / bound.base[0] - 1.0).abs() < 1e-8);
    // One of the sixteen instances works: without that it takes about a sixteenth, with any other change not much less than
    // before, and a larger buffer does not have to be filled by more.
    let of = |name: &str| bound.prices.iter().find(|p| p.name == name).unwrap();
    let lifted = of("row: without its constraint").gains[0];
    assert!(lifted.relative < -0.6, "{lifted:?}");
    assert!(lifted.value >= free.base[0] * (1.0 - 1e-9));
    let filled = of("buffer: 1 KiB more").gains[0];
    assert!(
        filled.relative <= 0.0 && filled.at_most > -0.1,
        "{filled:?}"
    );
    for price in bound
        .prices
        .iter()
        .filter(|p| !matches!(p.change, Change::Lift(_)))
    {
        assert!(price.gains[0].relative > -0.5, "{price:?}");
    }
    // And what keeps more pixels off the row is the constraint.
    let used = usage(&p, &solution.mapping, &solution.cost);
    let all = why(&p, &asked, &solution.mapping, &used, &solution.cost, by);
    assert_eq!(all[0].reasons[0].1, Reason::Asked, "{all:?}");
}
