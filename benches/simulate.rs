//! What simulating a pass takes after its mapping, on one thread: lowering the schedule and running its events.
//!
//! For each model and chip: milliseconds, moments gone through and in all (the rest was skipped), and the simulated time
//! time. Below the models of the edge NPU: simulated cycles of its array a second of CPU. Last come the GEMMs that SCALE-Sim was
//! run on, on a weight-stationary array of the same size (the TPU v1's with fewer rows and columns): CPU time of both, SCALE-Sim's as
//! recorded in `tests/data/systolic/scalesim.csv` (on another machine of this class), with the mapping search and without it.

use std::time::Instant;

use presil::hwmodels::Chip;
use presil::mapper::schedule::{ScheduleOptions, schedule};
use presil::mapper::search::Objective;
use presil::sim::timing::lower::lower;
use presil::sim::timing::{Pace, run};
use presil::workloads::{Graph, Model, Pass, Request};

const PREFILL: Pass = Pass::Prefill { prompt: 2048 };
const DECODE: Pass = Pass::Decode { context: 2048 };

fn graph(model: &str, pass: Pass, chip: &Chip) -> Option<Graph> {
    let request = Request {
        pass,
        ..Request::default()
    };
    let mut graph = Model::find(model).ok()?.graph(&request).ok()?;
    if let Some(p) = chip.numerics.precision {
        graph.set_precision(p.weights, p.activations, p.kv);
    }
    Some(graph)
}

/// Seconds of CPU and simulated seconds.
fn one(model: &str, pass: Pass, name: &str) -> Option<(f64, f64)> {
    let chip = presil::hwmodels::load(name, &[]).ok()?;
    let graph = graph(model, pass, &chip)?;
    let options = ScheduleOptions {
        objective: Objective::Latency,
        accumulate: None,
    };
    let schedule = schedule(&graph, &chip, &options).ok()?;
    let start = Instant::now();
    let program = lower(&graph, &chip, &schedule, false);
    let times = run(&program, Pace::SkipPeriods).ok()?;
    let took = start.elapsed().as_secs_f64();
    println!(
        "{model:12} {name:16} {:9.2} ms  {:9} of {:10} moments  {:10.3} ms simulated",
        took * 1e3,
        times.events,
        times.represented,
        times.end.seconds().0 * 1e3,
    );
    Some((took, times.end.seconds().0))
}

/// A GEMM that SCALE-Sim was run on: M, N, K, rows and columns of the array, CPU seconds, simulated cycles.
fn recorded() -> Vec<([u64; 5], f64, f64)> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/systolic/scalesim.csv"
    );
    let Ok(mut reader) = csv::Reader::from_path(path) else {
        return Vec::new();
    };
    let headers = reader.headers().cloned().unwrap_or_default();
    let at = |name: &str| headers.iter().position(|h| h == name).unwrap_or(usize::MAX);
    let columns = ["M", "N", "K", "rows", "cols"].map(at);
    let (group, dataflow) = (at("group"), at("df"));
    let (seconds, cycles) = (at("cpu_s"), at("compute_cycles"));
    let ws = |r: &csv::StringRecord| {
        r.get(group) == Some("gemm_calc_big") && r.get(dataflow) == Some("ws")
    };
    let number = |r: &csv::StringRecord, at: usize| r.get(at).and_then(|t| t.parse::<f64>().ok());
    let rows = reader.records().flatten().filter(ws);
    rows.filter_map(|r| {
        let sizes = columns.map(|c| number(&r, c).unwrap_or(0.0) as u64);
        Some((sizes, number(&r, seconds)?, number(&r, cycles)?))
    })
    .collect()
}

/// CPU seconds of mapping and of simulating a GEMM, and its simulated cycles.
fn gemm([m, n, k, rows, columns]: [u64; 5]) -> Option<(f64, f64, f64)> {
    let set = |dim: &str, size: u64| (format!("mxu.{dim}.size"), size.to_string());
    let chip =
        presil::hwmodels::load("tpu-v1", &[set("rows", rows), set("columns", columns)]).ok()?;
    let mut b = presil::workloads::build::Builder::new("gemm");
    let x = b.input("x", &[m, k]);
    let y = b.linear("y", x, n, false).ok()?;
    b.output(y);
    let mut graph = b.finish().ok()?;
    let int8 = presil::numerics::Quantization::from(presil::numerics::Format::INT8);
    graph.set_precision(int8, int8, int8);
    let options = ScheduleOptions {
        objective: Objective::Latency,
        accumulate: None,
    };
    let start = Instant::now();
    let schedule = schedule(&graph, &chip, &options).ok()?;
    let mapped = start.elapsed().as_secs_f64();
    let again = Instant::now();
    let mut cycles = 0.0;
    for _ in 0..100 {
        let program = lower(&graph, &chip, &schedule, false);
        cycles = run(&program, Pace::SkipPeriods).ok()?.end.seconds().0 * 700e6;
    }
    Some((mapped, again.elapsed().as_secs_f64() / 100.0, cycles))
}

fn gemms() {
    let mut ratios = Vec::new();
    for (sizes, seconds, cycles) in recorded() {
        let Some((mapped, simulated, ours)) = gemm(sizes) else {
            continue;
        };
        ratios.push(seconds / simulated);
        println!(
            "{sizes:?}: SCALE-Sim {seconds:.3} s for {cycles} cycles; presil {:.1} us for {ours:.0} cycles with memories, {:.1} ms to map: {:.1e} times less, {:.0} with mapping",
            simulated * 1e6,
            mapped * 1e3,
            seconds / simulated,
            seconds / (simulated + mapped),
        );
    }
    ratios.sort_by(f64::total_cmp);
    if let (Some(least), Some(median)) = (ratios.first(), ratios.get(ratios.len() / 2)) {
        println!("least {least:.1e}, median {median:.1e} times less CPU");
    }
}

fn main() {
    for chip in presil::hwmodels::library::names() {
        if one("resnet50", Pass::Forward, chip).is_none() {
            println!("resnet50     {chip:16} not simulated");
        }
    }
    for (model, pass) in [
        ("llama3-8b", PREFILL),
        ("llama3-8b", DECODE),
        ("sd15-unet", Pass::Forward),
        ("sdxl-unet", Pass::Forward),
    ] {
        if let Some((took, simulated)) = one(model, pass, "edge-npu") {
            // The array of edge-npu runs at 1 GHz.
            println!("{:>30.2e} cycles a second", simulated * 1e9 / took);
        }
    }
    gemms();
}
