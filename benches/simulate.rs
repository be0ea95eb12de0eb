//! What simulating a pass takes after its mapping, on one thread: lowering the schedule and running its events.
//!
//! For each model and chip: milliseconds, moments gone through and in all (the rest was skipped), and the simulated time
//! against the analytic one. The last line is simulated cycles of the chip's array a second of CPU.

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
    ] {
        if let Some((took, simulated)) = one(model, pass, "edge-npu") {
            // The array of edge-npu runs at 1 GHz.
            println!("{:>30.2e} cycles a second", simulated * 1e9 / took);
        }
    }
}
