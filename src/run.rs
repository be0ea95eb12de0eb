//! The main job: a model on a chip.

use std::path::PathBuf;

use presil_hwmodels::{Chip, ChipError};
use presil_mapper::case::on_chip;
use presil_mapper::partition::schedules;
use presil_mapper::schedule::{Asked, Memo, PlanOptions, Schedule, ScheduleError, ScheduleOptions};
use presil_numerics::{Format, Precision, Quantization, Seconds, Watts};
use presil_sim::run::{Fidelity, PointUse, PowerUse};
use presil_sim::timing::Stuck;
use presil_sim::{Run, phase, power};
use presil_workloads::{Graph, Model, ModelError, Pass, Request, Routing};
use thiserror::Error;

use crate::eval::load::{self, LoadError};

pub use presil_mapper::search::Objective;

/// Which phases of an LLM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseChoice {
    /// The prompt only.
    Prefill,
    /// Token generation only.
    Decode,
    /// Both.
    Both,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Zoo name or file.
    pub model: String,
    /// Chip name or file.
    pub chip: String,
    /// Images or sequences at once.
    pub batch: u64,
    /// LLMs: tokens of the prompt.
    pub prompt: u64,
    /// LLMs: tokens to generate.
    pub generate: u64,
    /// LLMs: which phases.
    pub phase: PhaseChoice,
    /// LLMs: decode at this context instead of the mean over `generate` tokens.
    pub context: Option<u64>,
    /// Shapes of inputs that a file leaves open.
    pub shapes: Vec<(String, Vec<u64>)>,
    /// Formats; `None`: the file's own, else the chip's default.
    pub precision: Option<Precision>,
    /// Weights alone.
    pub weights: Option<Quantization>,
    /// Activations alone.
    pub activations: Option<Quantization>,
    /// KV cache alone.
    pub kv: Option<Quantization>,
    /// Partial sums; `None`: the chip's own.
    pub accumulate: Option<Format>,
    /// What the mapping minimizes.
    pub objective: Objective,
    /// Whether many passes run, one after the other or as a pipeline over the chip's cores.
    pub throughput: bool,
    /// How tokens spread over experts.
    pub routing: Routing,
    /// Whether latent attention absorbs its projections.
    pub absorb_mla: bool,
    /// Cost unknown ops as data movement.
    pub allow_unknown: bool,
    /// Overrides of chip fields: path and value.
    pub sets: Vec<(String, String)>,
    /// Operating point of the chip; none: as its file says.
    pub point: Option<String>,
    /// What the chip may draw on average in any phase: its fastest operating point that keeps to it is taken.
    pub power_limit: Option<Watts>,
    /// From one run to the next, where it comes again and again.
    pub period: Option<Seconds>,
    /// How times are made.
    pub fidelity: Fidelity,
    /// Whether groups of ops may run tile by tile, where the chip's compiler does that.
    pub fuse: bool,
    /// A file of constraints that mappings must obey.
    pub constraints: Option<PathBuf>,
}

impl Options {
    /// A model on a chip with everything else at its default.
    pub fn new(model: impl Into<String>, chip: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            chip: chip.into(),
            batch: 1,
            prompt: 512,
            generate: 128,
            phase: PhaseChoice::Both,
            context: None,
            shapes: Vec::new(),
            precision: None,
            weights: None,
            activations: None,
            kv: None,
            accumulate: None,
            objective: Objective::Latency,
            throughput: false,
            routing: Routing::Uniform,
            absorb_mla: true,
            allow_unknown: false,
            sets: Vec::new(),
            point: None,
            power_limit: None,
            period: None,
            fidelity: Fidelity::Simulated,
            fuse: true,
            constraints: None,
        }
    }
}

/// Why there is no Run.
#[derive(Debug, Error)]
pub enum RunError {
    /// The chip.
    #[error("{0}")]
    Chip(#[from] ChipError),
    /// The model.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// The schedule.
    #[error("{0}")]
    Schedule(#[from] ScheduleError),
    /// The simulation.
    #[error("the simulation gives no time: {0}; `--fidelity analytic` runs without it")]
    Simulation(#[from] Stuck),
    /// An operating point that the chip has not.
    #[error("chip `{chip}` has no operating point{}; {}", point.as_ref().map(|p| format!(" `{p}`")).unwrap_or_default(), has(points))]
    Point {
        /// The chip.
        chip: String,
        /// As asked for; none: any.
        point: Option<String>,
        /// Those that it has.
        points: Vec<String>,
    },
    /// The file of constraints.
    #[error("{0}")]
    Constraints(#[from] LoadError),
    /// An op that has no mapping that obeys.
    #[error("op `{op}` does not obey the constraints: {reason}")]
    Unmet {
        /// The op.
        op: String,
        /// Why not.
        reason: String,
    },
    /// Constraints of nothing.
    #[error(
        "constraint {} of `{file}` holds for no op of the model: none has that name, or all that it names", .table + 1
    )]
    Idle {
        /// The file.
        file: String,
        /// Its table, from 0.
        table: usize,
    },
}

fn has(points: &[String]) -> String {
    match points {
        [] => "add [[power.point]] tables with a voltage and clocks to its file".into(),
        some => format!("it has {}", some.join(", ")),
    }
}

/// Runs a model on a chip, at the operating point that was asked for or that a limit of power allows.
pub fn run(options: &Options) -> Result<Run, RunError> {
    let chip = presil_hwmodels::load(&options.chip, &options.sets)?;
    let model = Model::find(&options.model)?;
    let (chip, mut run) = match (&options.point, options.power_limit) {
        (Some(name), _) => {
            let chip = chip
                .at_point(name)
                .ok_or_else(|| no_point(&chip, Some(name)))?;
            let mut run = run_on(&model, &chip, options)?;
            run.power.point = Some(name.clone());
            (chip, run)
        }
        (None, Some(limit)) => within(&model, &chip, options, limit)?,
        (None, None) => {
            let run = run_on(&model, &chip, options)?;
            (chip, run)
        }
    };
    if let Some(period) = options.period {
        let work = power::work(&run.phases);
        run.power.duty = Some(power::duty(&chip, &work, period.0));
    }
    Ok(run)
}

fn no_point(chip: &Chip, name: Option<&String>) -> RunError {
    RunError::Point {
        chip: chip.name.clone(),
        point: name.cloned(),
        points: chip.power.points.iter().map(|p| p.name.clone()).collect(),
    }
}

/// The run at the fastest operating point whose power is within the limit, or at the one that draws least. All points are tried,
/// since no order of voltages is an order of speeds where a memory off chip sets the pace.
fn within(
    model: &Model,
    chip: &Chip,
    options: &Options,
    limit: Watts,
) -> Result<(Chip, Run), RunError> {
    let names = chip.power.points.iter().map(|p| &p.name);
    let runs: Result<Vec<_>, RunError> = names
        .map(|name| {
            let chip = chip
                .at_point(name)
                .ok_or_else(|| no_point(chip, Some(name)))?;
            let run = run_on(model, &chip, options)?;
            let used = power::point(name, &chip, &run.phases, limit.0);
            Ok((used, chip, run))
        })
        .collect();
    let mut runs = runs?;
    runs.sort_by(|a, b| a.0.latency_s.total_cmp(&b.0.latency_s));
    let points = runs.iter().map(|r| r.0.clone()).collect();
    let least =
        |a: &(PointUse, Chip, Run), b: &(PointUse, Chip, Run)| a.0.power_w.total_cmp(&b.0.power_w);
    let taken = match runs.iter().position(|r| r.0.holds) {
        Some(at) => runs.swap_remove(at),
        None => runs
            .into_iter()
            .min_by(least)
            .ok_or_else(|| no_point(chip, None))?,
    };
    let (used, chip, mut run) = taken;
    run.power = PowerUse {
        limit_w: Some(limit.0),
        points,
        point: Some(used.name),
        duty: None,
    };
    Ok((chip, run))
}

/// The constraints that are asked for, and how many tables they are.
fn asked(options: &Options) -> Result<Option<(Asked, usize)>, LoadError> {
    let Some(file) = &options.constraints else {
        return Ok(None);
    };
    let (origin, text) = (file.display().to_string(), load::text(file)?);
    let tables = on_chip::tables(&origin, &text)?;
    Ok(Some((Asked { origin, text }, tables)))
}

/// Runs a model that was found on a chip that was loaded; `options` names neither again.
pub fn run_on(model: &Model, chip: &Chip, options: &Options) -> Result<Run, RunError> {
    let precision = precision(model, chip, options);
    let plan = ScheduleOptions {
        objective: options.objective,
        accumulate: precision.and_then(|p| p.accumulate).or(options.accumulate),
    };
    let asked = asked(options)?;
    let mut idle: Vec<usize> = (0..asked.as_ref().map_or(0, |a| a.1)).collect();
    // Phases and contexts share most of their problems: each is solved once.
    let memo = Memo::default();
    let mut phase =
        |name: &str, steps: u64, pass: Pass| -> Result<(Graph, presil_sim::run::Phase), RunError> {
            let mut graph = model.graph(&request(options, pass))?;
            if let Some(p) = precision {
                graph.set_precision(p.weights, p.activations, p.kv);
            }
            let memories = PlanOptions {
                fuse: options.fuse,
                asked: asked.as_ref().map(|a| a.0.clone()),
                ..PlanOptions::default()
            };
            let plans = schedules(&graph, chip, &plan, &memories, &memo)?;
            for c in plans.iter().flat_map(|s| &s.constrained) {
                if let Some(reason) = &c.unmet {
                    let (op, reason) = (graph.ops[c.op].name.clone(), reason.clone());
                    return Err(RunError::Unmet { op, reason });
                }
                idle.retain(|t| !c.tables.contains(t));
            }
            let phases = plans
                .iter()
                .map(|s| phase::phase(name, steps, &graph, chip, s, options.fidelity));
            let phases = phases.collect::<Result<Vec<_>, Stuck>>()?;
            let mut best = phase::best(phases, options.objective).unwrap_or_default();
            // The next token needs the one before it.
            if matches!(pass, Pass::Decode { .. }) {
                best.partition.pipeline = None;
            }
            if options.throughput {
                best = phase::streamed(best);
            }
            Ok((graph, best))
        };
    let mut graphs = Vec::new();
    let mut phases = Vec::new();
    if model.is_llm() {
        if options.phase != PhaseChoice::Decode {
            let (graph, prefill) = phase(
                "prefill",
                1,
                Pass::Prefill {
                    prompt: options.prompt,
                },
            )?;
            graphs.push(graph);
            phases.push(prefill);
        }
        if options.phase != PhaseChoice::Prefill {
            let (steps_counted, contexts) = match options.context {
                Some(context) => (1, vec![(context, 1.0)]),
                None => (
                    options.generate,
                    phase::decode_contexts(options.prompt, options.generate),
                ),
            };
            let mut steps = Vec::with_capacity(contexts.len());
            for (context, weight) in contexts {
                let (graph, step) = phase("decode", steps_counted, Pass::Decode { context })?;
                graphs.push(graph);
                steps.push((step, weight));
            }
            phases.push(phase::mean_phase(steps));
        }
    } else {
        let (graph, forward) = phase("forward", 1, Pass::Forward)?;
        graphs.push(graph);
        phases.push(forward);
    }
    if let (Some(table), Some((asked, _))) = (idle.first(), &asked) {
        return Err(RunError::Idle {
            file: asked.origin.clone(),
            table: *table,
        });
    }
    let context = phase::RunContext {
        model: options.model.clone(),
        precision: precision.map_or_else(|| "as in the file".into(), |p| p.to_string()),
        objective: options.objective,
        fidelity: options.fidelity,
        batch: options.batch,
        prompt: model.is_llm().then_some(options.prompt),
        generate: (model.is_llm() && options.phase != PhaseChoice::Prefill)
            .then_some(options.generate),
    };
    let mut run = phase::assemble(context, chip, &graphs, phases);
    if options.throughput {
        run.objective = "throughput".into();
    }
    Ok(run)
}

/// The graph of a pass and its schedule: of several, the one that takes least.
pub(crate) fn scheduled(
    model: &Model,
    chip: &Chip,
    options: &Options,
    pass: Pass,
) -> Result<(Graph, Schedule), RunError> {
    let mut graph = model.graph(&request(options, pass))?;
    let precision = precision(model, chip, options);
    if let Some(p) = precision {
        graph.set_precision(p.weights, p.activations, p.kv);
    }
    let plan = ScheduleOptions {
        objective: options.objective,
        accumulate: precision.and_then(|p| p.accumulate).or(options.accumulate),
    };
    let memories = PlanOptions {
        fuse: options.fuse,
        ..PlanOptions::default()
    };
    let mut plans = schedules(&graph, chip, &plan, &memories, &Memo::default())?;
    let mut least = (0, f64::INFINITY);
    for (i, plan) in plans.iter().enumerate() {
        let phase = phase::phase("pass", 1, &graph, chip, plan, options.fidelity)?;
        if phase.latency_s < least.1 {
            least = (i, phase.latency_s);
        }
    }
    if plans.is_empty() {
        return Err(ScheduleError::Empty(graph.name).into());
    }
    Ok((graph, plans.swap_remove(least.0)))
}

pub(crate) fn request(options: &Options, pass: Pass) -> Request {
    Request {
        batch: options.batch,
        pass,
        shapes: options.shapes.clone(),
        routing: options.routing.clone(),
        absorb_mla: options.absorb_mla,
        allow_unknown: options.allow_unknown,
    }
}

/// The formats of a run: what the user gave, over the file's own (`None`, for files that state formats), over
/// the chip's default, over bf16.
pub(crate) fn precision(model: &Model, chip: &Chip, options: &Options) -> Option<Precision> {
    let stated = matches!(
        model,
        Model::Onnx(_) | Model::Tflite(_) | Model::File(_) | Model::Graph(_)
    );
    (formats_given(options) || !stated).then(|| formats(chip, options))
}

/// Whether the user gave any format of operands.
pub(crate) fn formats_given(options: &Options) -> bool {
    options.precision.is_some()
        || options.weights.is_some()
        || options.activations.is_some()
        || options.kv.is_some()
}

/// What the user gave, over the chip's default, over bf16.
pub(crate) fn formats(chip: &Chip, options: &Options) -> Precision {
    let base = options
        .precision
        .or(chip.numerics.precision)
        .unwrap_or_else(|| Precision::uniform(Format::BF16));
    Precision {
        weights: options.weights.unwrap_or(base.weights),
        activations: options.activations.unwrap_or(base.activations),
        kv: options.kv.unwrap_or(base.kv),
        accumulate: options.accumulate.or(base.accumulate),
    }
}
