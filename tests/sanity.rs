//! What anyone can check of a result, for the models and chips that ship.

use presil::hwmodels::{NodeKind, library};
use presil::reports::figures;
use presil::run::{Objective, Options, PhaseChoice, run};
use presil::sim::run::Fidelity;
use presil::workloads::count::tensor_repeats;
use presil::workloads::tensor::{Role, TensorId};
use presil::workloads::{Model, Pass, Request};
use presil::{Graph, Run, sim::run::Phase};
use rayon::prelude::*;

fn go(options: &Options) -> Run {
    run(options).unwrap_or_else(|e| panic!("{} on {}: {e}", options.model, options.chip))
}

/// An LLM at sizes that keep the tests short.
fn short(model: &str, chip: &str) -> Options {
    Options {
        prompt: 128,
        generate: 2,
        ..Options::new(model, chip)
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-30)
}

/// Parts sum to totals, nothing is negative, nothing beats the bound.
fn check(run: &Run, phase: &Phase) {
    let at = format!("{} {} on {}", run.model, phase.name, run.chip);
    let mut latency = 0.0;
    for op in &phase.ops {
        let t = &op.time;
        let parts =
            t.compute_s + t.vector_s + t.latency_s + t.memory_s.iter().map(|m| m.1).sum::<f64>();
        assert!(
            close(parts, t.total_s),
            "{at}, {}: parts {parts} of {}",
            op.name,
            t.total_s
        );
        let all = [t.compute_s, t.vector_s, t.latency_s]
            .into_iter()
            .chain(t.memory_s.iter().map(|m| m.1));
        assert!(
            all.into_iter().all(|p| p >= 0.0 && p.is_finite()),
            "{at}, {}: {t:?}",
            op.name
        );
        assert!(
            (0.0..=1.0 + 1e-9).contains(&op.utilization),
            "{at}, {}: utilization {}",
            op.name,
            op.utilization
        );
        latency += t.total_s;
    }
    assert!(
        close(latency, phase.latency_s),
        "{at}: ops take {latency} of {}",
        phase.latency_s
    );
    let energy: f64 = phase.energy.iter().map(|e| e.energy_j).sum();
    assert!(
        close(energy, phase.energy_j),
        "{at}: entries sum to {energy} of {}",
        phase.energy_j
    );
    let of_ops: f64 = phase
        .ops
        .iter()
        .flat_map(|o| &o.energy)
        .map(|e| e.energy_j)
        .sum();
    let dynamic: f64 = phase
        .energy
        .iter()
        .filter(|e| e.action != "static")
        .map(|e| e.energy_j)
        .sum();
    assert!(
        close(of_ops, dynamic),
        "{at}: ops spend {of_ops} of {dynamic}"
    );
    assert!(
        phase.latency_s >= phase.lower_bound_s * (1.0 - 1e-9),
        "{at}: {} beats its bound {}",
        phase.latency_s,
        phase.lower_bound_s
    );
    assert!(
        phase.cold_latency_s >= phase.latency_s * (1.0 - 1e-9),
        "{at}: cold is faster than warm"
    );
    assert!(
        phase.utilization <= 1.0 + 1e-9,
        "{at}: utilization {}",
        phase.utilization
    );
    assert!(phase.latency_s > 0.0 && phase.energy_j > 0.0, "{at}");
}

/// Models for a chip: all, and of GPUs and block engines that only change figures of another one of each kind. The larger of the two
/// diffusion networks, which one builder makes, is for one chip.
fn models_for(chip: &str) -> Vec<&'static str> {
    let large = |m: &&str| *m == "sdxl-unet" && chip != "edge-npu";
    let extends = library::text(chip).is_some_and(|t| t.contains("\nextends"));
    let loaded = presil::hwmodels::load(chip, &[]).unwrap();
    let family = loaded.kernels.is_some() || loaded.blocks.is_some();
    match extends && family {
        true => vec!["mobilenet_v2", "bert-base", "llama3.2-1b"],
        false => Model::names().into_iter().filter(|m| !large(m)).collect(),
    }
}

#[test]
fn every_model_runs_on_every_chip() {
    let pairs: Vec<(&str, &str)> = library::names()
        .into_iter()
        .flat_map(|chip| models_for(chip).into_iter().map(move |model| (model, chip)))
        .collect();
    pairs.par_iter().for_each(|(model, chip)| {
        let run = go(&short(model, chip));
        run.phases.iter().for_each(|p| check(&run, p));
        let unmodelled = run.unmodelled.iter().filter(|u| !u.starts_with("capacity"));
        assert_eq!(
            unmodelled.count(),
            0,
            "{model} on {chip}: {:?}",
            run.unmodelled
        );
        let unmapped = run
            .phases
            .iter()
            .flat_map(|p| &p.ops)
            .find(|o| o.notes.iter().any(|n| n.contains("no mapping")));
        assert!(unmapped.is_none(), "{model} on {chip}: {unmapped:?}");
    });
}

/// What the multipliers and the compulsory traffic take at least: executed MACs at the cheapest mode of the array,
/// and the multiplied weights that no memory on the chip can hold, each read once.
fn energy_floor(options: &Options, phase: &Phase) -> f64 {
    let chip = presil::hwmodels::load(&options.chip, &[]).unwrap();
    let modes = chip.nodes.iter().filter_map(|n| match &n.kind {
        NodeKind::Compute(c) => Some(&c.modes),
        _ => None,
    });
    let mac = modes
        .flatten()
        .map(|m| m.energy.0)
        .fold(f64::INFINITY, f64::min);
    let on_array = phase.ops.iter().filter(|o| !o.mapping.is_empty());
    let macs: f64 = on_array.map(|o| o.executed_macs as f64).sum();
    let resident = chip
        .nodes
        .iter()
        .skip(1)
        .filter_map(|n| n.memory().filter(|m| m.resident));
    let held: f64 = resident.map(|m| m.capacity.0 as f64).sum();
    let pass = match phase.name.as_str() {
        "prefill" => Pass::Prefill {
            prompt: options.prompt,
        },
        "decode" => Pass::Decode {
            context: options.prompt,
        },
        _ => Pass::Forward,
    };
    let weights = multiplied_bytes(&graph_of(options, pass), &[Role::Weight]);
    let read_energy = chip.nodes[chip.root()].memory().unwrap().read_energy.0;
    macs * mac + (weights - held).max(0.0) * 8.0 * read_energy
}

#[test]
fn energy_is_never_below_its_floor() {
    for chip in ["edge-npu", "eyeriss", "tpu-v1", "a100-sxm-80"] {
        for model in ["resnet50", "bert-base", "llama3.2-1b"] {
            let options = short(model, chip);
            for phase in &go(&options).phases {
                let floor = energy_floor(&options, phase);
                let energy = phase.energy_j;
                assert!(
                    floor > 0.0 && energy >= floor,
                    "{model} on {chip}: {energy} J below {floor} J"
                );
            }
        }
    }
}

#[test]
fn more_bandwidth_is_never_slower() {
    for model in ["resnet50", "vit_b_16", "llama3.2-1b"] {
        let latencies: Vec<f64> = ["10 GB/s", "20 GB/s", "40 GB/s", "80 GB/s", "160 GB/s"]
            .par_iter()
            .map(|rate| {
                let sets = vec![("dram.bandwidth".to_string(), (*rate).to_string())];
                let run = go(&Options {
                    sets,
                    fidelity: Fidelity::Analytic,
                    phase: PhaseChoice::Prefill,
                    ..short(model, "edge-npu")
                });
                run.phases[0].latency_s
            })
            .collect();
        assert!(
            latencies.windows(2).all(|w| w[1] <= w[0] * (1.0 + 1e-9)),
            "{model}: {latencies:?}"
        );
    }
}

/// The graph of a pass, in the formats of the run.
fn graph_of(options: &Options, pass: Pass) -> Graph {
    let chip = presil::hwmodels::load(&options.chip, &[]).unwrap();
    let request = Request {
        batch: options.batch,
        pass,
        ..Request::default()
    };
    let mut graph = Model::find(&options.model)
        .unwrap()
        .graph(&request)
        .unwrap();
    let precision = options.precision.or(chip.numerics.precision).unwrap();
    graph.set_precision(precision.weights, precision.activations, precision.kv);
    graph
}

/// Stored bytes of the tensors of some roles that MAC ops read: each once for each repetition of its block.
fn multiplied_bytes(graph: &Graph, roles: &[Role]) -> f64 {
    let repeats = tensor_repeats(graph);
    let multiplied = |id: TensorId| {
        let mut ops = graph.ops.iter();
        ops.any(|op| op.contraction().is_some() && op.inputs.contains(&id))
    };
    let tensors = graph.tensors.iter_ids();
    let read = tensors.filter(|(id, t)| roles.contains(&t.role) && multiplied(*id));
    read.map(|(id, t)| t.bits().0 as f64 / 8.0 * repeats[id.0 as usize] as f64)
        .sum()
}

#[test]
fn decoding_alone_streams_weights_and_cache() {
    for (model, chip) in [
        ("llama3.2-1b", "edge-npu"),
        ("llama3-8b", "edge-npu"),
        ("gemma-2b", "edge-npu"),
        ("llama3-8b", "ara2-like"),
    ] {
        let options = Options {
            phase: PhaseChoice::Decode,
            context: Some(1024),
            ..Options::new(model, chip)
        };
        let run = go(&options);
        let graph = graph_of(&options, Pass::Decode { context: 1024 });
        let bytes = multiplied_bytes(&graph, &[Role::Weight, Role::Cache]);
        let expected = bytes / run.dram_streaming_bytes_per_s;
        let ratio = run.phases[0].latency_s / expected;
        assert!(
            (0.95..=1.05).contains(&ratio),
            "{model} on {chip}: {ratio} of the streaming time"
        );
    }
}

/// Contexts between those that are evaluated cost what is taken for them.
#[test]
fn the_mean_decode_step_is_that_of_every_step() {
    for (model, chip, batch) in [("llama3.2-1b", "edge-npu", 8), ("gemma-2b", "h100-sxm", 32)] {
        let options = Options {
            phase: PhaseChoice::Decode,
            prompt: 200,
            generate: 40,
            batch,
            ..Options::new(model, chip)
        };
        let mean = go(&options).phases[0].clone();
        let steps = (201..=240).map(|context| {
            let run = go(&Options {
                context: Some(context),
                ..options.clone()
            });
            (run.phases[0].latency_s, run.phases[0].energy_j)
        });
        let (latency, energy) = steps.fold((0.0, 0.0), |s, x| (s.0 + x.0 / 40.0, s.1 + x.1 / 40.0));
        let off = |found: f64, all: f64| (found / all - 1.0).abs();
        let (latency, energy) = (off(mean.latency_s, latency), off(mean.energy_j, energy));
        assert!(
            latency < 1e-4 && energy < 1e-4,
            "{model} on {chip}: {latency} {energy}"
        );
    }
}

/// No context is mapped much worse than its neighbours (tiles of short runs in DRAM once took twice the time).
#[test]
fn neighbouring_contexts_cost_alike() {
    let at = |context| {
        let options = Options {
            batch: 16,
            phase: PhaseChoice::Decode,
            context: Some(context),
            ..Options::new("llama3.2-1b", "edge-npu")
        };
        go(&options).phases[0].latency_s
    };
    let steps: Vec<f64> = [234, 235, 236, 237, 273, 294].map(at).to_vec();
    let (first, last) = (steps[0], steps[steps.len() - 1]);
    assert!(steps.is_sorted_by(|a, b| *b > a * 0.999), "{steps:?}");
    assert!(last < 1.03 * first, "{steps:?}");
}

#[test]
fn batch_raises_decode_throughput_until_something_else_binds() {
    let steps = [1, 4, 16, 64, 256].map(|batch| {
        let options = Options {
            batch,
            phase: PhaseChoice::Decode,
            context: Some(512),
            ..Options::new("llama3.2-1b", "edge-npu")
        };
        let run = go(&options);
        let phase = &run.phases[0];
        let by = figures::bound_by(phase).unwrap().0.to_string();
        let what = figures::root_mostly(phase).unwrap().0.to_string();
        (batch as f64 / phase.latency_s, by, what)
    });
    assert!(
        steps.windows(2).all(|w| w[1].0 >= w[0].0 * 0.999),
        "{steps:?}"
    );
    assert!(steps[1].0 > 3.0 * steps[0].0, "{steps:?}");
    assert!(
        steps[4].0 < 128.0 * steps[0].0,
        "something must bind: {steps:?}"
    );
    // At batch 1 the weights bind, at batch 256 the cache.
    assert_eq!(
        (steps[0].1.as_str(), steps[0].2.as_str()),
        ("dram", "weights"),
        "{steps:?}"
    );
    assert_eq!(
        (steps[4].1.as_str(), steps[4].2.as_str()),
        ("dram", "caches"),
        "{steps:?}"
    );
}

#[test]
fn a_model_that_does_not_fit_is_named() {
    let run = go(&Options {
        phase: PhaseChoice::Decode,
        context: Some(512),
        ..Options::new("llama3-70b", "a100-sxm-80")
    });
    let named = run.unmodelled.iter().any(|u| u.contains("capacity"));
    assert!(named, "{:?}", run.unmodelled);
}

#[test]
fn activations_in_flash_are_named() {
    let run = go(&Options::new("bert-base", "ethos-u55-256"));
    assert!(
        run.unmodelled.iter().any(|u| u.contains("flash")),
        "{:?}",
        run.unmodelled
    );
    // The camera network fits.
    let small = go(&Options::new("mobilenet_v2", "ethos-u55-256"));
    assert!(small.unmodelled.is_empty(), "{:?}", small.unmodelled);
}

#[test]
fn the_objective_is_what_is_minimized() {
    for model in ["resnet18", "bert-base"] {
        let with = |objective| {
            let run = go(&Options {
                objective,
                ..Options::new(model, "edge-npu")
            });
            (run.phases[0].latency_s, run.phases[0].energy_j)
        };
        let (fast, frugal) = (with(Objective::Latency), with(Objective::Energy));
        assert!(fast.0 <= frugal.0 * 1.01, "{model}: {fast:?} {frugal:?}");
        assert!(frugal.1 <= fast.1 * 1.01, "{model}: {fast:?} {frugal:?}");
    }
}
