//! Where the search stands on real models: run by hand with PRESIL_MEASURE="chip model objective".

use std::sync::Mutex;

use presil_workloads::{Model, Pass, Request};

use crate::analysis::Analyzer;
use crate::schedule::{ScheduleOptions, schedule};
use crate::search::frame::Frame;
use crate::search::model::Model as Compiled;
use crate::search::prove::prove;
use crate::search::tree::{Figure, Goal, Judge};
use crate::search::{Objective, Solution};
use crate::{Mapping, Problem, Step};

static LOCK: Mutex<()> = Mutex::new(());

struct Exact<'a> {
    analyzer: Analyzer<'a>,
    problem: &'a Problem<'a>,
    figure: Figure,
    power: f64,
    judged: u64,
    illegal: u64,
    closest: f64,
    best: f64,
}

impl Judge for Exact<'_> {
    fn judge(&mut self, steps: Vec<Step>, bound: f64) -> Option<f64> {
        self.judged += 1;
        let mapping = match Mapping::new(self.problem, steps) {
            Ok(m) => m,
            Err(e) => {
                self.illegal += 1;
                if self.illegal < 3 {
                    println!("      illegal: {e}");
                }
                return None;
            }
        };
        let cost = self.analyzer.evaluate(&mapping).unwrap();
        let (t, e) = (cost.time.0, cost.energy_total().0);
        let x = self.figure.of(t, e + self.power * t);
        assert!(bound <= x * (1.0 + 1e-9), "bound {bound} above {x}: {mapping}\n{:?}", cost);
        if x < self.best {
            self.best = x;
            self.closest = bound / x;
        }
        Some(x)
    }
}

pub(in crate::search) fn trace(problem: &Problem, objective: Objective, solution: &Solution) {
    if std::env::var("PRESIL_MEASURE").is_err() {
        return;
    }
    let _guard = LOCK.lock().unwrap();
    let frame = Frame::new(problem);
    let Some(model) = Compiled::new(problem, &frame).unwrap() else {
        println!("  not compiled");
        return;
    };
    let figure = match objective {
        Objective::Latency => Figure::Time,
        Objective::Energy => Figure::Energy,
        Objective::Edp => Figure::Product,
    };
    let (t, e) = (solution.cost.time.0, solution.cost.energy_total().0);
    let best = figure.of(t, e + frame.static_power * t);
    let mut judge = Exact {
        analyzer: Analyzer::new(problem).unwrap(),
        problem,
        figure,
        power: frame.static_power,
        judged: 0,
        illegal: 0,
        closest: 0.0,
        best: f64::INFINITY,
    };
    let goal = Goal { figure, limited: Figure::Time, limit: f64::INFINITY };
    let budget = std::env::var("PRESIL_BUDGET").map_or(200_000, |b| b.parse().unwrap());
    let start = std::time::Instant::now();
    let out = prove(&model, goal, best, &mut judge, budget);
    let ms = start.elapsed().as_secs_f64() * 1e3;
    let dims: Vec<String> = frame.dims.iter().map(|d| format!("{}{}", problem.einsum.dim(d.id).name, d.size)).collect();
    println!(
        "  {:28} exact={} seed {:.5e} root {:.4} bound {:.4} found {:.4} proven {} | {:.1} ms, {} assignments, {} shapes, {} subtrees, {} entered, bounds {} leaves {} illegal {} closest {:.4}",
        dims.join(" "), model.exact, best, out.root / best, out.bound / best, judge.best / best, out.proven, ms, out.assignments, out.shapes, out.subtrees, out.entered, out.work.bounds, judge.judged, judge.illegal, judge.closest
    );
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
    let mut graph = model.graph(&Request { pass: Pass::Forward, ..Request::default() }).unwrap();
    let p = chip.numerics.precision.unwrap();
    graph.set_precision(p.weights, p.activations, p.kv);
    let start = std::time::Instant::now();
    schedule(&graph, &chip, &ScheduleOptions { objective, accumulate: p.accumulate }).unwrap();
    println!("{what}: {:.1} ms in all", start.elapsed().as_secs_f64() * 1e3);
}
