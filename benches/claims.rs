//! Benchmarks of the claims that the README makes: one group a claim.
//!
//! Whole processes are timed from outside, as a user waits for them, on one thread. `cargo bench` runs all.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use presil::mapper::interop::accelforge::read;
use presil::mapper::optimum;
use presil::run::{Options, run};
use presil::workloads::{Model, Request};

/// Runs the program once, on one thread, its output read and thrown away.
fn process(args: &[&str]) {
    let status = Command::new(env!("CARGO_BIN_EXE_presil"))
        .args(args)
        .env("RAYON_NUM_THREADS", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.is_ok_and(|s| s.success()), "{args:?}");
}

fn whole_processes(c: &mut Criterion) {
    let mut group = c.benchmark_group("process");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(10));
    group.bench_function("run resnet50 on edge-npu (claim: under 0.5 s)", |b| {
        b.iter(|| process(&["run", "resnet50", "--chip", "edge-npu", "--json"]));
    });
    group.bench_function(
        "run llama3-70b, prefill and decode (claim: under 3 s)",
        |b| {
            b.iter(|| {
                process(&[
                    "run",
                    "llama3-70b",
                    "--chip",
                    "h100-sxm",
                    "--prompt",
                    "512",
                    "--generate",
                    "128",
                    "--json",
                ])
            });
        },
    );
    group.bench_function("chips (claim: under 30 ms)", |b| {
        b.iter(|| process(&["chips"]))
    });
    group.finish();
}

fn importing(c: &mut Criterion) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx/edge_chain3000.onnx");
    let name = path.display().to_string();
    c.bench_function("import a chain of 3000 nodes (claim: under 0.2 s)", |b| {
        b.iter(|| {
            Model::find(&name)
                .and_then(|m| m.graph(&Request::default()))
                .map(|g| g.ops.len())
        });
    });
}

fn in_process(c: &mut Criterion) {
    let mut group = c.benchmark_group("library");
    group.sample_size(10);
    for (model, chip) in [
        ("resnet50", "edge-npu"),
        ("resnet50", "eyeriss"),
        ("sd15-unet", "tpu-v4i"),
    ] {
        group.bench_function(format!("{model} on {chip}"), |b| {
            b.iter(|| run(&Options::new(model, chip)).map(|r| r.phases.len()));
        });
    }
    group.finish();
}

/// The reference cases of AccelForge, each beside the CPU seconds that it took AccelForge 1.0.467 (one thread, imports
/// and just-in-time compilation left out).
fn proven_optima(c: &mut Criterion) {
    let path = "tests/data/mapping/optima_accelforge.json";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let seconds = |id: &str| {
        let cases = file["cases"].as_array().into_iter().flatten();
        let case = cases.into_iter().find(|c| c["id"] == id)?;
        case["accelforge_cost"]["cpu_s"].as_f64()
    };
    let mut group = c.benchmark_group("optimum");
    group.sample_size(10);
    for reference in read(&text).map_or(Vec::new(), |r| r.cases) {
        let options = optimum::Options {
            perfect: true,
            ..optimum::Options::new(reference.case.objective)
        };
        let peer = seconds(&reference.id).map_or(0.0, |s| s * 1e3);
        let name = format!("{} (AccelForge: {peer:.0} ms of CPU)", reference.id);
        group.bench_function(name, |b| {
            b.iter(|| optimum::solve(&reference.case, &options).map(|s| s.expanded))
        });
        let mut partial = reference.case.clone();
        for einsum in &mut partial.einsums {
            einsum.constraints.perfect = false;
        }
        let options = optimum::Options {
            perfect: false,
            ..options
        };
        if reference.id == "N02" {
            group.bench_function("N02 with partial tiles (claim: under 2 ms)", |b| {
                b.iter(|| optimum::solve(&partial, &options).map(|s| s.expanded))
            });
        }
        if reference.id == "N03" {
            group.bench_function("N03 with partial tiles (claim: under 1 s)", |b| {
                b.iter(|| optimum::solve(&partial, &options).map(|s| s.expanded))
            });
        }
    }
    group.finish();
}

criterion_group!(
    benches,
    whole_processes,
    importing,
    in_process,
    proven_optima
);
criterion_main!(benches);
