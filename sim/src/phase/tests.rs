#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use presil_hwmodels::{Chip, EngineKind, NodeKind, Turns};
use presil_mapper::schedule::{ScheduleOptions, schedule};
use presil_numerics::{Bytes, BytesPerSecond, Format, Precision, Quantization, Seconds};
use presil_workloads::build::{Builder, Conv, Function, NormKind};
use presil_workloads::{Model, Pass, Request};
use proptest::prelude::*;

use super::*;
use crate::small_chip as chip;

fn options(objective: Objective) -> ScheduleOptions {
    ScheduleOptions {
        objective,
        accumulate: None,
    }
}

fn phase(name: &str, steps: u64, graph: &Graph, chip: &Chip, schedule: &Schedule) -> Phase {
    super::phase(name, steps, graph, chip, schedule, Fidelity::Analytic).unwrap()
}

fn on(graph: &Graph, chip: &Chip) -> Phase {
    phase(
        "forward",
        1,
        graph,
        chip,
        &schedule(graph, chip, &options(Objective::Latency)).unwrap(),
    )
}

fn formats(mut graph: Graph, format: Format) -> Graph {
    let q = Quantization::from(format);
    graph.set_precision(q, q, q);
    graph
}

fn model(name: &str, pass: Pass, batch: u64, precision: &str) -> Graph {
    let request = Request {
        pass,
        batch,
        ..Request::default()
    };
    let mut graph = Model::find(name).unwrap().graph(&request).unwrap();
    let p: Precision = precision.parse().unwrap();
    graph.set_precision(p.weights, p.activations, p.kv);
    graph
}

fn close(a: f64, b: f64, what: &str) {
    assert!(
        (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
        "{what}: {a} against {b}"
    );
}

/// Everything that must hold of any phase.
fn check(p: &Phase, graph: &Graph, chip: &Chip) {
    for o in &p.ops {
        let t = &o.time;
        let parts =
            t.compute_s + t.vector_s + t.latency_s + t.memory_s.iter().map(|m| m.1).sum::<f64>();
        close(parts, t.total_s, &o.name);
        assert!(
            t.compute_s >= 0.0
                && t.vector_s >= 0.0
                && t.latency_s >= 0.0
                && t.memory_s.iter().all(|m| m.1 > 0.0)
        );
        assert!(
            o.utilization >= 0.0 && o.utilization <= 1.0 + 1e-9,
            "{}: {}",
            o.name,
            o.utilization
        );
    }
    close(
        p.ops.iter().map(|o| o.time.total_s).sum(),
        p.latency_s,
        "latency",
    );
    close(
        p.energy.iter().map(|e| e.energy_j).sum(),
        p.energy_j,
        "energy",
    );
    let stat: f64 = chip.static_power().iter().map(|s| s.1.0).sum::<f64>() * p.latency_s;
    let dynamic: f64 = p
        .ops
        .iter()
        .flat_map(|o| &o.energy)
        .map(|e| e.energy_j)
        .sum();
    close(stat + dynamic, p.energy_j, "static and dynamic energy");
    assert_eq!(
        p.traffic[0].memory,
        chip.nodes[chip.root()].name,
        "the root comes first"
    );
    for t in &p.traffic {
        let own = p
            .ops
            .iter()
            .flat_map(|o| &o.traffic)
            .filter(|x| x.memory == t.memory);
        close(
            own.map(|x| x.read_bytes + x.write_bytes).sum(),
            t.read_bytes + t.write_bytes,
            &t.memory,
        );
    }
    assert!(
        p.lower_bound_s > 0.0 && p.latency_s >= p.lower_bound_s * (1.0 - 1e-9),
        "{} < {}",
        p.latency_s,
        p.lower_bound_s
    );
    assert!(p.cold_latency_s >= p.latency_s);

    // Energy: executed MACs, and what must cross the DRAM port, at its energy.
    let s = schedule(graph, chip, &options(Objective::Latency)).unwrap();
    let mut least = 0.0;
    for (id, repeat) in graph.ops.ids().zip(graph.repeats()) {
        if let (Execution::Mapped { mode, .. }, Some(engine)) =
            (&s.ops[id].execution, s.ops[id].engine)
        {
            let EngineKind::Array { compute, .. } = chip.engines[engine].kind else {
                panic!()
            };
            let NodeKind::Compute(c) = &chip.nodes[compute].kind else {
                panic!()
            };
            least += op_macs(graph, id).1 as f64 * repeat as f64 * c.modes[*mode].energy.0;
        }
    }
    let (read, write) = bound::compulsory(graph, chip, &s, chip.root());
    let m = chip.nodes[chip.root()].memory().unwrap();
    least += read * m.read_energy.0 + write * m.write_energy.0;
    assert!(dynamic >= least * (1.0 - 1e-9), "{dynamic} < {least}");
    let root = p.traffic.iter().find(|t| t.memory == "dram").unwrap();
    let (read, write) = (read / 8.0 * (1.0 - 1e-9), write / 8.0 * (1.0 - 1e-9));
    assert!(
        root.read_bytes >= read,
        "{}: reads {} < {read}",
        graph.name,
        root.read_bytes
    );
    assert!(
        root.write_bytes >= write,
        "{}: writes {} < {write}",
        graph.name,
        root.write_bytes
    );
}

fn small_cnn() -> Graph {
    let mut b = Builder::new("cnn");
    let x = b.input("x", &[1, 3, 56, 56]);
    let mut x = b.conv2d("stem", x, &Conv::square(32, 7, 2, 3)).unwrap();
    x = b.function("stem.relu", x, Function::Relu).unwrap();
    b.end_block("stem", 1);
    for (i, width) in [32u64, 64].into_iter().enumerate() {
        let skip = x;
        x = b
            .conv2d(&format!("b{i}.c1"), x, &Conv::square(width, 3, 1, 1))
            .unwrap();
        x = b.batch_norm(&format!("b{i}.n1"), x).unwrap();
        x = b.function(&format!("b{i}.r1"), x, Function::Relu).unwrap();
        x = b
            .conv2d(
                &format!("b{i}.dw"),
                x,
                &Conv::square(width, 3, 1, 1).with_groups(width),
            )
            .unwrap();
        if i == 0 {
            x = b.add(&format!("b{i}.add"), x, skip).unwrap();
        }
        x = b
            .norm(&format!("b{i}.norm"), x, NormKind::Layer, true, true)
            .unwrap();
    }
    b.output(x);
    b.finish().unwrap()
}

#[test]
fn accounts_close() {
    let chip = chip::chip();
    let graphs = [
        formats(small_cnn(), Format::INT8),
        formats(small_cnn(), Format::BF16),
        // The array has no FP32: everything goes to vector unit and host.
        formats(small_cnn(), Format::FP32),
        model("resnet18", Pass::Forward, 1, "int8"),
        model("bert-base", Pass::Forward, 1, "bf16"),
        model("llama3.2-1b", Pass::Prefill { prompt: 64 }, 2, "w4a16kv8"),
        model("llama3.2-1b", Pass::Decode { context: 100 }, 1, "int8"),
    ];
    for graph in &graphs {
        check(&on(graph, &chip), graph, &chip);
        let mut other = chip.clone();
        other.mapspace.keep_weights = true;
        other.mapspace.fuse_cascades = false;
        chip::buffer(&mut other).capacity = Bytes(32 << 20);
        check(&on(graph, &other), graph, &other);
        other.mapspace.prefetch_weights = false;
        other.mapspace.keep_activations = false;
        check(&on(graph, &other), graph, &other);
    }
}

#[test]
fn more_bandwidth_is_never_slower() {
    for graph in [
        formats(small_cnn(), Format::INT8),
        model("llama3.2-1b", Pass::Decode { context: 64 }, 1, "int8"),
        model("mobilenet_v2", Pass::Forward, 1, "int8"),
    ] {
        let mut before = f64::INFINITY;
        for rate in [1e9, 2e9, 5e9, 10e9, 20e9, 50e9, 200e9] {
            let mut chip = chip::chip();
            chip::dram(&mut chip).read_rate = BytesPerSecond(rate);
            chip::dram(&mut chip).write_rate = BytesPerSecond(rate);
            let now = on(&graph, &chip).latency_s;
            assert!(
                now <= before * (1.0 + 1e-9),
                "{}: {now} at {rate} after {before}",
                graph.name
            );
            before = now;
        }
    }
}

/// A decode step of a memory-bound chip takes its weights and cache at the rate that streams reach.
#[test]
fn decode_streams_weights_and_cache() {
    let chip = chip::chip();
    for (context, precision) in [(128, "int8"), (1024, "int8"), (512, "w4a16kv8")] {
        let graph = model("llama3.2-1b", Pass::Decode { context }, 1, precision);
        let p = on(&graph, &chip);
        let m = chip.nodes[chip.root()].memory().unwrap();
        // The embedding table is tied: read whole by the head, one row by the look-up.
        let bytes = (p.weight_bytes + p.cache_bytes) as f64;
        let ideal = bytes / (m.read_rate.0 * m.streaming_efficiency);
        let ratio = p.latency_s / ideal;
        assert!(
            (0.999..1.05).contains(&ratio),
            "context {context}, {precision}: {ratio}"
        );
        assert_eq!(p.lower_bound_by, "dram");
        assert!(p.utilization < 0.2);
    }
}

#[test]
fn batches_raise_decode_throughput_until_something_else_binds() {
    let chip = chip::chip();
    let mut before: f64 = 0.0;
    let mut bottleneck = String::new();
    for batch in [1, 2, 4, 8, 16, 64] {
        let graph = model("llama3.2-1b", Pass::Decode { context: 64 }, batch, "int8");
        let p = on(&graph, &chip);
        let rate = batch as f64 / p.latency_s;
        assert!(
            rate >= before * 0.999,
            "batch {batch}: {rate} after {before}"
        );
        if batch <= 4 && batch > 1 {
            assert!(rate > before * 1.6, "batch {batch}: {rate} after {before}");
        }
        before = rate;
        let slowest = p
            .ops
            .iter()
            .max_by(|a, b| a.time.total_s.total_cmp(&b.time.total_s))
            .unwrap();
        bottleneck.clone_from(&slowest.bottleneck);
        if batch == 1 {
            assert_eq!(bottleneck, "dram");
        }
    }
    // 64 rows of weights keep the array or its buffer busier than the DRAM.
    assert!(
        bottleneck == "compute" || bottleneck == "buffer",
        "{bottleneck}"
    );
}

#[test]
fn repeated_blocks_take_as_long_as_written_out() {
    let build = |repeat: u64, copies: usize| {
        let mut b = Builder::new("blocks");
        let x = b.input("x", &[4, 512]);
        let mut x = b.linear("in", x, 512, false).unwrap();
        b.end_block("in", 1);
        for i in 0..copies {
            let up = b.linear(&format!("l{i}.up"), x, 2048, false).unwrap();
            let n = b
                .norm(&format!("l{i}.n"), up, NormKind::Rms, true, false)
                .unwrap();
            x = b.linear(&format!("l{i}.down"), n, 512, false).unwrap();
            b.end_block(format!("l{i}"), repeat);
        }
        let y = b.linear("head", x, 4096, false).unwrap();
        b.output(y);
        formats(b.finish().unwrap(), Format::INT8)
    };
    let chip = chip::chip();
    for n in [2, 3, 40, 200] {
        let folded = on(&build(n as u64, 1), &chip);
        let unfolded = on(&build(1, n), &chip);
        assert!(
            (folded.latency_s / unfolded.latency_s - 1.0).abs() < 1e-6,
            "{n}: {} {}",
            folded.latency_s,
            unfolded.latency_s
        );
        close(folded.energy_j, unfolded.energy_j, "energy");
        assert_eq!(folded.executed_macs, unfolded.executed_macs);
    }
}

#[test]
fn prefetch_hides_weights_but_never_loses_bytes() {
    let graph = model("llama3.2-1b", Pass::Decode { context: 64 }, 1, "int8");
    let mut chip = chip::chip();
    let with = on(&graph, &chip);
    chip.mapspace.prefetch_weights = false;
    let without = on(&graph, &chip);
    assert!(
        with.latency_s < without.latency_s,
        "{} {}",
        with.latency_s,
        without.latency_s
    );
    let m = chip.nodes[chip.root()].memory().unwrap();
    let port: f64 = with
        .traffic
        .iter()
        .filter(|t| t.memory == "dram")
        .map(|t| t.read_bytes + t.write_bytes)
        .sum();
    assert!(with.latency_s >= port / (m.read_rate.0 * m.streaming_efficiency) * (1.0 - 1e-9));
}

#[test]
fn cold_weights_cost_their_load() {
    let graph = formats(small_cnn(), Format::INT8);
    let mut chip = chip::chip();
    let p = on(&graph, &chip);
    close(p.cold_latency_s, p.latency_s, "nothing kept");
    chip.mapspace.keep_weights = true;
    chip.mapspace.prefetch_weights = false;
    chip::dram(&mut chip).read_rate = BytesPerSecond(1e8);
    let p = on(&graph, &chip);
    // Its kernels' weights, at the rate that streams reach, as far as compute does not hide them.
    assert!(p.cold_latency_s > p.latency_s);
    assert!(p.cold_latency_s <= p.latency_s + p.weight_bytes as f64 / 0.8e8);
}

#[test]
fn the_mean_of_decode_steps_is_exact_for_linear_costs() {
    for (prompt, generate) in [
        (0, 1),
        (10, 16),
        (10, 17),
        (512, 128),
        (7, 1000),
        (1, 100_003),
    ] {
        let nodes = decode_contexts(prompt, generate);
        close(nodes.iter().map(|n| n.1).sum(), 1.0, "weights");
        assert!(nodes.len() <= 16 && nodes.iter().all(|n| n.1 > 0.0));
        assert_eq!(
            (nodes[0].0, nodes[nodes.len() - 1].0),
            (prompt + 1, prompt + generate)
        );
        // The mean of contexts themselves.
        let mean = prompt as f64 + (generate + 1) as f64 / 2.0;
        close(
            nodes.iter().map(|(c, w)| *c as f64 * w).sum(),
            mean,
            "mean context",
        );
    }
    // Bent at a node: |c - c_k| is linear between neighbours, so its mean is exact too.
    let nodes = decode_contexts(100, 500);
    let bend = nodes[5].0 as f64;
    let exact = (101..=600)
        .map(|c| (f64::from(c) - bend).abs())
        .sum::<f64>()
        / 500.0;
    close(
        nodes
            .iter()
            .map(|(c, w)| (*c as f64 - bend).abs() * w)
            .sum(),
        exact,
        "bent",
    );
}

#[test]
fn mean_phases_keep_their_accounts() {
    let chip = chip::chip();
    let steps = decode_contexts(100, 3)
        .into_iter()
        .map(|(context, weight)| {
            let graph = model("llama3.2-1b", Pass::Decode { context }, 1, "int8");
            (on(&graph, &chip), weight)
        });
    let steps: Vec<(Phase, f64)> = steps.collect();
    let middle = steps[1].0.clone();
    let mean = mean_phase(steps);
    close(
        mean.ops.iter().map(|o| o.time.total_s).sum(),
        mean.latency_s,
        "latency",
    );
    close(
        mean.energy.iter().map(|e| e.energy_j).sum(),
        mean.energy_j,
        "energy",
    );
    assert_eq!(mean.ops.len(), middle.ops.len());
    assert_eq!(mean.executed_macs, middle.executed_macs);
    assert!((mean.latency_s / middle.latency_s - 1.0).abs() < 1e-3);
}

#[test]
fn unknown_and_unsupported_ops_are_in_the_run() {
    let mut graph = formats(small_cnn(), Format::INT8);
    let last = graph.ops.ids().next_back().unwrap();
    graph.ops[last].kind = presil_workloads::OpKind::Unknown {
        name: "Frobnicate".into(),
    };
    let chip = chip::chip();
    let p = on(&graph, &chip);
    let context = RunContext {
        fidelity: Fidelity::Analytic,
        model: "cnn".into(),
        precision: "int8".into(),
        objective: Objective::Latency,
        batch: 1,
        prompt: None,
        generate: None,
    };
    let run = assemble(context, &chip, &[graph], vec![p]);
    assert!(
        run.unmodelled.len() == 1 && run.unmodelled[0].contains("Frobnicate"),
        "{:?}",
        run.unmodelled
    );
    assert!((run.peak_macs_per_s - 256e9).abs() < 1.0);
    assert!(!run.assumptions.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Chains of linears of any size on chips of any balance keep their accounts.
    #[test]
    fn any_chain_keeps_its_accounts(
        widths in prop::collection::vec(1u64..600, 2..6),
        rows in 1u64..64,
        repeat in 1u64..5,
        rate in 1e8f64..1e12,
        capacity in 8u64..4096,
        keep in any::<[bool; 3]>(),
    ) {
        let mut b = Builder::new("chain");
        let mut x = b.input("x", &[rows, widths[0]]);
        for (i, w) in widths.iter().enumerate().skip(1) {
            x = b.linear(&format!("l{i}"), x, *w, true).unwrap();
            x = b.function(&format!("f{i}"), x, Function::Silu).unwrap();
            if i == 1 {
                b.end_block("first", 1);
            }
        }
        x = b.linear("back", x, widths[1], false).unwrap();
        b.end_block("rest", repeat);
        b.output(x);
        let graph = formats(b.finish().unwrap(), Format::INT8);
        let mut chip = chip::chip();
        chip::dram(&mut chip).read_rate = BytesPerSecond(rate);
        chip::dram(&mut chip).write_rate = BytesPerSecond(rate * 0.7);
        chip::dram(&mut chip).shared_port = keep[0] ^ keep[1];
        chip::buffer(&mut chip).capacity = Bytes(capacity << 10);
        chip.mapspace.keep_weights = keep[0];
        chip.mapspace.keep_activations = keep[1];
        chip.mapspace.prefetch_weights = keep[2];
        check(&on(&graph, &chip), &graph, &chip);
    }
}

#[test]
fn the_root_memory_comes_first_whatever_the_first_op_reads() {
    let mut b = Builder::new("softmax first");
    let x = b.input("x", &[64, 128]);
    let y = b.softmax("s", x, 1).unwrap();
    b.output(y);
    let graph = formats(b.finish().unwrap(), Format::BF16);
    let chip = chip::chip();
    let p = on(&graph, &chip);
    check(&p, &graph, &chip);
    // A vector unit names its own memory first.
    assert_ne!(p.ops[0].traffic[0].memory, p.traffic[0].memory);
}

/// Fused groups are never worse by what was asked for, and the accounts of the pass close.
#[test]
fn fused_groups_are_never_worse_and_accounts_close() {
    let mut chip = chip::chip();
    chip.mapspace.fuse_groups = presil_hwmodels::FuseGroups::All;
    let graphs = [
        model("gpt2", Pass::Prefill { prompt: 512 }, 1, "int8"),
        model("tinyllama-1.1b", Pass::Prefill { prompt: 512 }, 1, "int8"),
        model("gpt2", Pass::Decode { context: 512 }, 1, "int8"),
    ];
    let mut fused_some = 0;
    for graph in &graphs {
        for objective in [Objective::Latency, Objective::Energy, Objective::Edp] {
            let s = schedule(graph, &chip, &options(objective)).unwrap();
            let with = phase("forward", 1, graph, &chip, &s);
            check(&with, graph, &chip);
            let Some(plain) = &s.unfused else { continue };
            let without = phase("forward", 1, graph, &chip, plain);
            let figure = |p: &Phase| match objective {
                Objective::Latency => p.latency_s,
                Objective::Energy => p.energy_j,
                Objective::Edp => p.latency_s * p.energy_j,
            };
            assert!(figure(&with) <= figure(&without));
            assert_eq!(with.executed_macs, without.executed_macs);
            fused_some += with.groups.len();
        }
    }
    assert!(fused_some > 2, "{fused_some}");
}

#[test]
fn ops_that_run_at_once_close_and_never_cost_more() {
    let chip = presil_hwmodels::load("edge-npu", &[]).unwrap();
    let graph = model("bert-base", Pass::Forward, 1, "int8");
    for objective in [Objective::Latency, Objective::Energy, Objective::Edp] {
        let all = presil_mapper::partition::schedules(
            &graph,
            &chip,
            &options(objective),
            &presil_mapper::schedule::PlanOptions::default(),
            &presil_mapper::schedule::Memo::default(),
        )
        .unwrap();
        let phases: Vec<Phase> = all
            .iter()
            .map(|s| phase("forward", 1, &graph, &chip, s))
            .collect();
        for p in &phases {
            check(p, &graph, &chip);
            assert_eq!(p.executed_macs, phases[0].executed_macs);
            // Members of a set have the set's time between them, and no more cores than there are.
            for set in &p.partition.sets {
                let of = |name: &String| p.ops.iter().find(|o| o.name == *name).unwrap();
                let sum: f64 = set.ops.iter().map(|(n, _)| of(n).time.total_s).sum();
                close(sum, set.latency_s, "set");
                assert!(set.ops.iter().map(|o| o.1).sum::<u64>() <= p.partition.cores);
                assert!(set.ops.iter().all(|(n, k)| of(n).cores.unwrap() <= *k));
            }
        }
        let plain = phases[0].clone();
        let best = best(phases, objective).unwrap();
        assert!(best.latency_s <= plain.latency_s || objective != Objective::Latency);
        assert!(best.energy_j <= plain.energy_j || objective != Objective::Energy);
        assert_eq!(best.interval_s, best.latency_s);
        // Its weights are too many for the cores' buffers.
        assert_eq!(best.partition.pipeline, None);
        assert_eq!(streamed(best.clone()).interval_s, best.latency_s);
        // A pipeline sets the interval where it is faster, and the phase says what that rests on.
        let mut piped = best.clone();
        piped.partition.pipeline = Some(crate::run::PipelineRun {
            stages: Vec::new(),
            interval_s: best.latency_s / 2.0,
            interval_by: "stage".into(),
            latency_s: 2.0 * best.latency_s,
            loaded_latency_s: 3.0 * best.latency_s,
            energy_j: best.energy_j,
            memory: "dram".into(),
        });
        let piped = streamed(piped);
        assert_eq!(piped.interval_s, best.latency_s / 2.0);
        assert_eq!(piped.latency_s, best.latency_s);
        assert!(
            piped
                .assumptions
                .last()
                .unwrap()
                .contains("weights were loaded before")
        );
    }
}

#[test]
fn simulated_passes_close_and_never_beat_the_bound() {
    let passes = [
        ("resnet50", Pass::Forward, "int8"),
        ("bert-base", Pass::Forward, "int8"),
        ("gpt2", Pass::Prefill { prompt: 256 }, "int8"),
        ("gpt2", Pass::Decode { context: 256 }, "w4a16kv8"),
    ];
    for chip in ["edge-npu", "ara2-like", "tpu-v4i"] {
        let chip = presil_hwmodels::load(chip, &[]).unwrap();
        for (name, pass, precision) in passes {
            let graph = model(name, pass, 1, precision);
            let s = schedule(&graph, &chip, &options(Objective::Latency)).unwrap();
            let by = |f| super::phase("forward", 1, &graph, &chip, &s, f).unwrap();
            let (simulated, analytic) = (by(Fidelity::Simulated), by(Fidelity::Analytic));
            check(&simulated, &graph, &chip);
            // What moves is the same; only when differs.
            assert_eq!(simulated.traffic, analytic.traffic);
            let ratio = simulated.latency_s / analytic.latency_s;
            assert!(
                (0.8..1.6).contains(&ratio),
                "{name} on {}: {ratio}",
                chip.name
            );
        }
    }
}

/// Written bytes pay turns of the DRAM's bus in both times, as a class of their own, and nothing else changes.
#[test]
fn turns_are_paid_by_what_is_written() {
    let graph = formats(small_cnn(), Format::INT8);
    let mut plain = chip::chip();
    // A slow DRAM of one port, so that it binds.
    let dram = chip::dram(&mut plain);
    (dram.read_rate, dram.write_rate) = (BytesPerSecond(1e8), BytesPerSecond(1e8));
    dram.shared_port = true;
    plain.mapspace.keep_activations = false;
    let mut turning = plain.clone();
    chip::dram(&mut turning).turns = Some(Turns {
        time: Seconds(1e-6),
        group: 64.0,
    });
    let timed = |chip: &Chip, fidelity: Fidelity| {
        let s = schedule(&graph, chip, &options(Objective::Latency)).unwrap();
        super::phase("forward", 1, &graph, chip, &s, fidelity).unwrap()
    };
    for fidelity in [Fidelity::Analytic, Fidelity::Simulated] {
        let (before, after) = (timed(&plain, fidelity), timed(&turning, fidelity));
        check(&after, &graph, &turning);
        assert!(after.latency_s > before.latency_s);
        let turns = |p: &Phase| -> f64 {
            let parts = p.ops.iter().flat_map(|o| &o.time.memory_s);
            parts
                .filter(|m| m.0 == "dram turnaround")
                .map(|m| m.1)
                .sum()
        };
        assert_eq!(turns(&before), 0.0);
        // Time that is hidden is not told; what is told is at most what all written bytes pay.
        let root = after.traffic.iter().find(|t| t.memory == "dram").unwrap();
        let all = root.write_bytes / 64.0 * 1e-6;
        let told = turns(&after);
        assert!(
            told > 0.5 * all && told <= all * (1.0 + 1e-9),
            "{told} of {all}"
        );
    }
}
