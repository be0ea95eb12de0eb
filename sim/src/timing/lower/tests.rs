//! Programs of schedules: against the analytic model where nothing but tiles matters, and skipped against gone through.

#![expect(clippy::unwrap_used, reason = "tests")]

mod networks;
mod systolic;

use presil_hwmodels::{Chip, EngineKind, NodeKind};
use presil_mapper::analysis::evaluate;
use presil_mapper::mapping::{Mapping, Step as Cut};
use presil_mapper::schedule::{ScheduleOptions, schedule};
use presil_mapper::search::Objective;
use presil_numerics::{Format, Quantization, Seconds};
use presil_workloads::build::{Builder, Conv};
use presil_workloads::{Model, Pass, Request};
use proptest::prelude::*;

use super::*;
use crate::small_chip as chip;
use crate::timing::{Pace, run};

const OPTIONS: ScheduleOptions = ScheduleOptions {
    objective: Objective::Latency,
    accumulate: None,
};

/// Nothing takes time but moving and computing.
fn without_latencies(mut chip: Chip) -> Chip {
    for node in chip.nodes.iter_mut() {
        if let NodeKind::Memory(m) = &mut node.kind {
            (m.latency, m.setup) = (Seconds::ZERO, Seconds::ZERO);
        }
    }
    for engine in chip.engines.iter_mut() {
        engine.launch = Seconds::ZERO;
        if let EngineKind::Array {
            fill_cycles,
            drain_cycles,
            ..
        } = &mut engine.kind
        {
            (*fill_cycles, *drain_cycles) = (0, 0);
        }
    }
    chip
}

fn int8(mut graph: Graph) -> Graph {
    let q = Quantization::from(Format::INT8);
    graph.set_precision(q, q, q);
    graph
}

fn conv(batch: u64, channels: u64, out: u64, side: u64, kernel: u64, stride: u64) -> Graph {
    let mut b = Builder::new("one");
    let x = b.input("x", &[batch, channels, side, side]);
    let settings = Conv::square(out, kernel, stride, kernel / 2);
    let y = b.conv2d("conv", x, &settings).unwrap();
    b.output(y);
    int8(b.finish().unwrap())
}

fn linear(rows: u64, features: u64, out: u64) -> Graph {
    let mut b = Builder::new("linear");
    let x = b.input("x", &[rows, features]);
    let y = b.linear("linear", x, out, false).unwrap();
    b.output(y);
    int8(b.finish().unwrap())
}

/// The schedule of a graph of one op, which runs by a mapping of these steps.
fn by_hand(graph: &Graph, chip: &Chip, steps: Vec<Cut>) -> Schedule {
    let mut s = schedule(graph, chip, &OPTIONS).unwrap();
    let op = &mut s.ops[OpId(0)];
    let terms = op.terms.as_ref().unwrap();
    let problem = terms.of(graph.ops[OpId(0)].contraction().unwrap(), chip);
    let own = Mapping::new(&problem, steps).unwrap();
    op.cost = evaluate(&problem, &own).unwrap();
    if let Execution::Mapped { mapping, .. } = &mut op.execution {
        *mapping = own;
    }
    s
}

/// What one transfer of each kind and one pass take at most, alone.
fn fill_and_drain(tiles: &Tiles) -> f64 {
    let walk = walk::Walk::new(tiles, walk::Apart::default());
    let largest = |depth: usize, dims: &[usize]| {
        let all = walk.sum(depth, &|at| walk::volume(at, dims));
        let full = dims.iter().map(|d| {
            let loops = tiles.loops[..depth].iter().filter(|l| l.dim == *d);
            loops.map(|l| l.tile).min().unwrap_or(tiles.sizes[*d]) as f64
        });
        full.product::<f64>() / all
    };
    let mut time = 0.0;
    for edge in &tiles.edges {
        let part = largest(edge.inner, &edge.dims);
        for t in edge.down.iter().chain(&edge.up) {
            time += t.ports.iter().fold(0.0f64, |s, p| s.max(p.2)) * part;
        }
    }
    let all: Vec<usize> = (0..tiles.sizes.len()).collect();
    let passes = &tiles.passes;
    let pass = passes.ports.iter().fold(passes.busy.0, |s, p| s.max(p.2));
    time + pass * largest(passes.depth, &all) + passes.preload.0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// With no latencies an op takes its busiest resource's time, and fill and drain.
    #[test]
    fn an_op_takes_its_analytic_time_within_fill_and_drain(
        batch in 1u64..3, channels in 1u64..97, out in 1u64..97, side in 3u64..40, kernel in 1u64..4, stride in 1u64..3,
    ) {
        let kernel = kernel * 2 - 1;
        let graph = conv(batch, channels, out, side.max(kernel), kernel, stride);
        let chip = without_latencies(chip::chip());
        let s = schedule(&graph, &chip, &OPTIONS).unwrap();
        let op = s.ops.iter().next().unwrap();
        let program = lower(&graph, &chip, &s, false);
        let simulated = run(&program, Pace::SkipPeriods).unwrap().end.seconds().0;
        let lowering = Lowering {
            graph: &graph,
            chip: &chip,
            schedule: &s,
            cold: false,
            ahead: Vec::new(),
            parts: Parts::new(&chip, None),
        };
        let (_, tiles) = lowering.tiles(OpId(0)).unwrap();
        let busiest = ledger::longest(&op.cost.busy).0;
        let most = op.cost.time.0 + 2.0 * fill_and_drain(&tiles);
        prop_assert!(simulated >= busiest * (1.0 - 1e-6), "{simulated} < {busiest}");
        prop_assert!(simulated <= most * (1.0 + 1e-6), "{simulated} > {most}, analytic {}", op.cost.time.0);
    }
}

#[test]
fn skipped_periods_of_schedules_are_exact() {
    let (mut gone_through, mut all) = (0, 0);
    for (name, pass, chip) in [
        ("gpt2", Pass::Decode { context: 128 }, "edge-npu"),
        ("gpt2", Pass::Prefill { prompt: 64 }, "tpu-v4i"),
        ("mobilenet_v2", Pass::Forward, "ara2-like"),
        ("bert-base", Pass::Forward, "simba"),
    ] {
        let chip = presil_hwmodels::load(chip, &[]).unwrap();
        let request = Request {
            pass,
            ..Request::default()
        };
        let graph = int8(Model::find(name).unwrap().graph(&request).unwrap());
        let s = schedule(&graph, &chip, &OPTIONS).unwrap();
        let program = lower(&graph, &chip, &s, false);
        let skipped = run(&program, Pace::SkipPeriods).unwrap();
        let every = run(&program, Pace::EveryEvent).unwrap();
        assert_eq!(skipped.end, every.end, "{name}");
        assert_eq!(skipped.told, every.told, "{name}");
        assert_eq!(skipped.queues, every.queues, "{name}");
        gone_through += skipped.events;
        all += every.events;
    }
    println!("{gone_through} of {all} moments gone through");
    assert!(gone_through * 2 < all, "{gone_through} of {all}");
}

/// Weights that stay are fetched once, however often the iterations of a fused group run.
#[test]
fn first_passes_of_fused_groups_are_skipped_as_well() {
    let chip = presil_hwmodels::load("edge-npu", &[]).unwrap();
    let request = Request {
        batch: 100_000,
        ..Request::default()
    };
    let graph = int8(Model::find("resnet50").unwrap().graph(&request).unwrap());
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    assert!(s.groups.iter().any(|g| g.iterations > 100));
    assert!(s.ops.iter().any(|o| o.weights.loaded > 0.0));
    let of = |cold| run(&lower(&graph, &chip, &s, cold), Pace::SkipPeriods).unwrap();
    let (warm, cold) = (of(false), of(true));
    assert!(cold.end >= warm.end);
    assert!(
        cold.events < 2 * warm.events,
        "{} {}",
        cold.events,
        warm.events
    );
}
