//! Benchmarks of the claims that the README makes: one group a claim.
//!
//! Whole processes are timed from outside, as a user waits for them, on one thread. `cargo bench` runs all.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
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
        "run llama3-70b, prefill and decode (claim: under 1 s)",
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

criterion_group!(benches, whole_processes, importing, in_process);
criterion_main!(benches);
