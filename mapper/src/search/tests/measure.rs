//! Where the search stands on real models: run by hand with PRESIL_MEASURE="chip model objective".

use presil_workloads::{Model, Pass, Request};

use crate::Problem;
use crate::schedule::{ScheduleOptions, schedule};
use crate::search::Solution;
use crate::search::{Certificate, Objective};

/// Nanoseconds that this thread has run.
fn ran() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|t| t.parse().ok())
        .unwrap_or(0.0)
}

/// Prints a solution and what it took.
pub(in crate::search) struct Watch(f64);

impl Watch {
    pub fn new() -> Self {
        Self(ran())
    }

    pub fn tell(&self, problem: &Problem, s: &Solution) {
        if std::env::var("PRESIL_MEASURE").is_err() {
            return;
        }
        let dims = problem.einsum.dims.iter().filter(|d| d.size > 1);
        let dims: Vec<String> = dims.map(|d| format!("{}{}", d.name, d.size)).collect();
        let Certificate {
            objective: o,
            other,
        } = s.certificate;
        println!(
            "  {:28} {:.5e} bound {:.4} {} | {:.5e} bound {:.4} {} | {:.1} ms | {}",
            dims.join(" "),
            o.found,
            o.lower_bound / o.found,
            o.proven,
            other.found,
            other.lower_bound / other.found,
            other.proven,
            (ran() - self.0) * 1e-6,
            s.space
        );
    }
}

#[test]
fn measure() {
    let Ok(what) = std::env::var("PRESIL_MEASURE") else {
        return;
    };
    let words: Vec<&str> = what.split_whitespace().collect();
    let chip = presil_hwmodels::load(words[0], &[]).unwrap();
    let model = Model::find(words[1]).unwrap();
    let objective = match words[2] {
        "latency" => Objective::Latency,
        "energy" => Objective::Energy,
        _ => Objective::Edp,
    };
    let mut graph = model
        .graph(&Request {
            pass: Pass::Forward,
            ..Request::default()
        })
        .unwrap();
    let p = chip.numerics.precision.unwrap();
    graph.set_precision(p.weights, p.activations, p.kv);
    let start = std::time::Instant::now();
    schedule(
        &graph,
        &chip,
        &ScheduleOptions {
            objective,
            accumulate: p.accumulate,
        },
    )
    .unwrap();
    println!(
        "{what}: {:.1} ms in all",
        start.elapsed().as_secs_f64() * 1e3
    );
}

/// Options with a budget from the environment.
pub(in crate::search) fn changed(options: &crate::search::Options) -> crate::search::Options {
    let mut options = *options;
    if let Ok(b) = std::env::var("PRESIL_BUDGET") {
        options.budget = b.parse().unwrap();
    }
    options
}
