//! A model in a chip's arithmetic, beside its reference: errors of each op, the task's metric, and what the same choice
//! takes in time, energy and area.

mod order;
pub mod task;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use presil_execution::choice::{Choice, ChoiceError, Chosen};
use presil_execution::compare::Errors;
use presil_execution::evaluate::{Evaluation, Metric, Score, Task, TaskError};
use presil_execution::vectors::Vectors;
use presil_execution::{Arithmetic, Array, Executor, Weights};
use presil_workloads::{Graph, Model, ModelError, Op, OpId, Pass, Request as GraphRequest};
use serde::Serialize;
use thiserror::Error;

use crate::arrays::{self, ArraysError};
use crate::run::{Options, PhaseChoice, RunError, run};
use task::{Data, DataError, Measured};

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Zoo name or file.
    pub model: String,
    /// Chip name or file.
    pub chip: String,
    /// Overrides of chip fields: path and value.
    pub sets: Vec<(String, String)>,
    /// A task file, or arrays.
    pub data: PathBuf,
    /// Input of the model, array of the data.
    pub inputs: Vec<(String, String)>,
    /// What is measured.
    pub metric: Option<Measured>,
    /// Weights; `None`: `weights.safetensors` beside the model file.
    pub parameters: Option<PathBuf>,
    /// Language models: tokens of a sequence.
    pub prompt: u64,
    /// Storage of weights, activations and results by name; `None`: the chip's default precision.
    pub weights: Option<String>,
    /// As above.
    pub activations: Option<String>,
    /// As above.
    pub results: Option<String>,
    /// A unit or a register.
    pub accumulate: Option<String>,
    /// Format of vector work.
    pub vector: Option<String>,
    /// Units of functions: function and unit.
    pub functions: Vec<(String, String)>,
    /// Samples taken at most; 0 for all.
    pub samples: usize,
    /// Whether each op is tried in the chip's arithmetic alone.
    pub sensitivity: bool,
    /// Whether the task's sampler or decoder is run, step by step.
    pub growth: bool,
}

/// Why there is no report.
#[derive(Debug, Error)]
pub enum ExecuteError {
    /// The chip, the schedule or the simulation.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The weights.
    #[error(transparent)]
    Arrays(#[from] ArraysError),
    /// The arithmetic.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// The execution.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A model whose weights are nowhere.
    #[error("`{0}` has no weights with it: give them with `--parameters FILE.safetensors`")]
    NoWeights(String),
    /// A task without a process.
    #[error("the task has no [sampler] and no [decoder]: errors do not grow over its steps")]
    NoProcess,
    /// An op that is not there, or is no matrix op.
    #[error("there are no sums of `{op}`; matrix ops are {has}")]
    NoOp {
        /// The op.
        op: String,
        /// Those that there are.
        has: String,
    },
}

/// How an op's results differ from their reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpReport {
    /// The op.
    pub name: String,
    /// Its class.
    pub class: &'static str,
    /// Signal to noise; `None` where there is no noise or no signal.
    pub sqnr_db: Option<f64>,
    /// Cosine of the angle to the reference.
    pub cosine: f64,
    /// Largest error.
    pub max_abs_error: f64,
    /// Largest error in units of f32's last place.
    pub max_ulp: f64,
    /// Mean of them.
    pub mean_ulp: f64,
    /// Share of results that differ.
    pub different: f64,
    /// Infinities and NaN that are not the reference's, or that the reference has and this arithmetic has not.
    pub lost: u64,
    /// Sums that left the range of their register.
    pub overflows: u64,
    /// Numbers beyond the range of the format that they were stored in.
    pub saturated: u64,
    /// Bits of a signed accumulator that holds all partial sums of this data in any order; integers only.
    pub safe_accumulator_bits: Option<u32>,
}

/// A task's metric under both arithmetics.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricReport {
    /// Which.
    pub metric: Metric,
    /// Predictions, or elements.
    pub count: u64,
    /// The reference's loss.
    pub reference_loss: f64,
    /// The loss in the chip's arithmetic.
    pub loss: f64,
    /// The reference's share of right predictions.
    pub reference_accuracy: Option<f64>,
    /// The share in the chip's arithmetic.
    pub accuracy: Option<f64>,
    /// Samples whose prediction differs.
    pub flips: Vec<usize>,
}

/// What the same formats take on the chip.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// Of one inference.
    pub latency_s: f64,
    /// Of one inference.
    pub energy_j: f64,
    /// Of the chip.
    pub area_mm2: f64,
}

/// The task with one op in the chip's arithmetic and all others in the reference's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sensitivity {
    /// The op.
    pub op: String,
    /// What the loss gains; without a metric, `None`.
    pub loss_gain: Option<f64>,
    /// Signal to noise of the model's last op; `None` where it has no noise.
    pub sqnr_db: Option<f64>,
}

/// A step of a sampler or a decoder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GrowthStep {
    /// Signal to noise of the state, or of the logits; `None` where there is no noise.
    pub sqnr_db: Option<f64>,
    /// Mean squared error of the same.
    pub mse: f64,
    /// Share of samples whose tokens are still the reference's; of a sampler 1.
    pub alike: f64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The model.
    pub model: String,
    /// The chip.
    pub chip: String,
    /// Samples taken.
    pub samples: usize,
    /// Storage of weights.
    pub weights: String,
    /// Storage of activations.
    pub activations: String,
    /// What adds.
    pub accumulate: String,
    /// Ops in the order of execution.
    pub ops: Vec<OpReport>,
    /// The first op whose signal is less than [`DIVERGED_DB`] above its noise, or that loses infinities or NaN.
    pub first_divergence: Option<String>,
    /// The metric, where one was asked for.
    pub metric: Option<MetricReport>,
    /// Time, energy and area.
    pub cost: Cost,
    /// Ops by how much they matter, the worst first, where asked for.
    pub sensitivity: Vec<Sensitivity>,
    /// Errors over the steps of the task's process, where asked for.
    pub growth: Vec<GrowthStep>,
    /// What was not asked for and had to be decided.
    pub assumptions: Vec<String>,
}

/// Signal to noise below which an op's results are said to diverge, in dB: noise of a tenth of the signal's amplitude.
pub const DIVERGED_DB: f64 = 20.0;

/// Everything that a request names, read and resolved.
struct Scene {
    chip: String,
    graph: Graph,
    weights: Weights,
    data: Data,
    task: Task,
    choice: Choice,
    chosen: Chosen,
    /// Arithmetic of the ops whose mapping tells an order.
    ordered: BTreeMap<String, Arithmetic>,
    options: Options,
}

impl Scene {
    fn new(request: &Request) -> Result<Self, ExecuteError> {
        let chip = presil_hwmodels::load(&request.chip, &request.sets).map_err(RunError::from)?;
        let model = Model::find(&request.model)?;
        let pass = if model.is_llm() {
            Pass::Prefill {
                prompt: request.prompt,
            }
        } else {
            Pass::Forward
        };
        let (graph, weights) = graph_and_weights(request, &model, pass)?;
        let mut data = Data::named(&request.data)?;
        data.inputs.extend(request.inputs.iter().cloned());
        data.measured = request.metric.clone().or(data.measured);
        let task = data.task(&graph)?;
        let default = chip.numerics.precision;
        let name = |given: &Option<String>, of: fn(&presil_numerics::Precision) -> String| {
            let default = || default.as_ref().map_or("bf16".into(), of);
            given.clone().unwrap_or_else(default)
        };
        let choice = Choice {
            weights: name(&request.weights, |p| p.weights.to_string()),
            activations: name(&request.activations, |p| p.activations.to_string()),
            results: request.results.clone(),
            accumulate: request.accumulate.clone(),
            vector: request.vector.clone(),
            functions: request.functions.clone(),
        };
        let mut chosen = choice.arithmetic(&chip.numerics.units)?;
        let options = options(request, &choice);
        let ordered = order::by_op(&model, &chip, &options, pass, &mut chosen)?;
        Ok(Self {
            chip: chip.name,
            graph,
            weights,
            data,
            task,
            choice,
            chosen,
            ordered,
            options,
        })
    }

    /// The chip's arithmetic of an op.
    fn own(&self, op: &Op) -> &Arithmetic {
        self.ordered
            .get(&op.name)
            .unwrap_or(&self.chosen.arithmetic)
    }

    fn executor<'a>(
        &'a self,
        of: impl Fn(&Op) -> &'a Arithmetic,
    ) -> Result<Executor<'a>, ExecuteError> {
        Ok(Executor::new(&self.graph, &self.weights, of).map_err(TaskError::from)?)
    }

    /// The task's process in both arithmetics.
    fn growth(
        &self,
        reference: &Executor<'_>,
        faithful: &Executor<'_>,
    ) -> Result<Vec<GrowthStep>, ExecuteError> {
        let (process, inputs) = self.data.process_inputs()?.ok_or(ExecuteError::NoProcess)?;
        let grown = process.run(reference, faithful, &inputs)?;
        let step = |s: &presil_execution::growth::Step| GrowthStep {
            sqnr_db: s.errors.sqnr_db(),
            mse: s.errors.mse(),
            alike: s.alike as f64 / grown.samples.max(1) as f64,
        };
        Ok(grown.steps.iter().map(step).collect())
    }

    /// Each contraction alone in the chip's arithmetic, the one that matters most first.
    fn sensitivity(
        &self,
        reference: &Executor<'_>,
        most: usize,
    ) -> Result<Vec<Sensitivity>, ExecuteError> {
        let exact = Arithmetic::reference();
        let mut ranked = Vec::new();
        for (id, op) in self.graph.ops.iter_ids() {
            if op.contraction().is_none() {
                continue;
            }
            let only = |other: &Op| {
                if other.name == op.name {
                    self.own(op)
                } else {
                    &exact
                }
            };
            let alone = Executor::new(&self.graph, &self.weights, only).map_err(TaskError::from)?;
            let made = self.task.compare(reference, &alone, most)?;
            ranked.push(sensitivity_of(&self.graph, id, &made));
        }
        ranked.sort_by(worse);
        Ok(ranked)
    }
}

/// Golden vectors of an op on the first sample: at most `count` sums.
///
/// # Errors
/// Those of [`execute`]; an op that is not there, or no matrix op.
pub fn vectors(request: &Request, op: &str, count: usize) -> Result<Vectors, ExecuteError> {
    let scene = Scene::new(request)?;
    let matrix_ops = scene.graph.ops.iter_ids();
    let matrix_ops: Vec<_> = matrix_ops
        .filter(|(_, o)| o.contraction().is_some())
        .collect();
    let no_op = || ExecuteError::NoOp {
        op: op.into(),
        has: matrix_ops
            .iter()
            .map(|(_, o)| o.name.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    };
    let (id, _) = *matrix_ops
        .iter()
        .find(|(_, o)| o.name == op)
        .ok_or_else(no_op)?;
    let executor = scene.executor(|op| scene.own(op))?;
    let inputs = scene.task.first(&scene.graph)?;
    let made = executor
        .vectors(&inputs, id, count)
        .map_err(TaskError::from)?;
    made.ok_or_else(no_op)
}

/// Executes a model in a chip's arithmetic.
///
/// # Errors
/// Anything of the request that can't be read or does not go together.
pub fn execute(request: &Request) -> Result<Report, ExecuteError> {
    let scene = Scene::new(request)?;
    let Scene {
        graph,
        task,
        choice,
        ..
    } = &scene;
    let exact = Arithmetic::reference();
    let reference = scene.executor(|_| &exact)?;
    let faithful = scene.executor(|op| scene.own(op))?;
    let most = if request.samples == 0 {
        usize::MAX
    } else {
        request.samples
    };
    let evaluation = task.compare(&reference, &faithful, most)?;
    let sensitivity = if request.sensitivity {
        scene.sensitivity(&reference, most)?
    } else {
        Vec::new()
    };
    let ops: Vec<OpReport> = evaluation
        .ops
        .iter()
        .map(|(id, errors)| op_report(graph, *id, errors))
        .collect();
    // Noise without a signal has no ratio.
    let diverged = |o: &&OpReport| match o.sqnr_db {
        Some(db) => db < DIVERGED_DB || o.lost > 0,
        None => o.max_abs_error > 0.0 || o.lost > 0,
    };
    let (cost, uncosted) = cost(&scene.options, choice)?;
    Ok(Report {
        model: request.model.clone(),
        chip: scene.chip.clone(),
        samples: evaluation.samples,
        weights: choice.weights.clone(),
        activations: choice.activations.clone(),
        accumulate: scene.chosen.adder.clone(),
        first_divergence: ops.iter().find(diverged).map(|o| o.name.clone()),
        ops,
        metric: metric(&evaluation, scene.data.measured.as_ref()),
        cost,
        sensitivity,
        growth: if request.growth {
            scene.growth(&reference, &faithful)?
        } else {
            Vec::new()
        },
        assumptions: scene
            .chosen
            .assumptions
            .iter()
            .cloned()
            .chain(uncosted)
            .collect(),
    })
}

/// The graph of a pass and its weights: those of a file, or those that the model file itself stores, or a file beside it.
fn graph_and_weights(
    request: &Request,
    model: &Model,
    pass: Pass,
) -> Result<(Graph, Weights), ExecuteError> {
    let asked = GraphRequest {
        pass,
        ..GraphRequest::default()
    };
    if let Some(file) = &request.parameters {
        return Ok((model.graph(&asked)?, arrays::read(file)?));
    }
    if let Model::Onnx(path) = model {
        let (graph, stored) = presil_workloads::onnx::import_with_weights(path, &asked)?;
        let array = |(shape, values): (Vec<u64>, Vec<f32>)| {
            let shape = shape
                .iter()
                .map(|d| usize::try_from(*d).unwrap_or(usize::MAX));
            Array::new(shape.collect(), values).ok()
        };
        let stored = stored
            .into_iter()
            .filter_map(|(name, t)| Some((name, array(t)?)));
        return Ok((graph, stored.collect()));
    }
    let beside = Path::new(&request.model).with_file_name("weights.safetensors");
    if Path::new(&request.model).is_file() && beside.is_file() {
        return Ok((model.graph(&asked)?, arrays::read(&beside)?));
    }
    Err(ExecuteError::NoWeights(request.model.clone()))
}

fn op_report(graph: &Graph, id: OpId, errors: &Errors) -> OpReport {
    let op = &graph.ops[id];
    OpReport {
        name: op.name.clone(),
        class: op.class.name(),
        sqnr_db: errors.sqnr_db(),
        cosine: errors.cosine(),
        max_abs_error: errors.max_abs,
        max_ulp: errors.max_ulp,
        mean_ulp: errors.mean_ulp(),
        different: errors.different as f64 / (errors.pairs + errors.lost).max(1) as f64,
        lost: errors.lost,
        overflows: errors.events.overflows,
        saturated: errors.events.saturated,
        safe_accumulator_bits: (errors.events.width > 0).then_some(errors.events.width),
    }
}

fn sensitivity_of(graph: &Graph, op: OpId, made: &Evaluation) -> Sensitivity {
    let gain = |reference: Score, own: Score| own.loss() - reference.loss();
    Sensitivity {
        op: graph.ops[op].name.clone(),
        loss_gain: made.reference.zip(made.faithful).map(|(r, f)| gain(r, f)),
        sqnr_db: made.ops.last_key_value().and_then(|(_, e)| e.sqnr_db()),
    }
}

/// Larger gains of the loss first; without them, less signal to noise first.
fn worse(a: &Sensitivity, b: &Sensitivity) -> std::cmp::Ordering {
    let gains = b
        .loss_gain
        .unwrap_or(0.0)
        .total_cmp(&a.loss_gain.unwrap_or(0.0));
    let noise = |s: &Sensitivity| s.sqnr_db.unwrap_or(f64::INFINITY);
    gains
        .then(noise(a).total_cmp(&noise(b)))
        .then(a.op.cmp(&b.op))
}

fn metric(evaluation: &Evaluation, measured: Option<&Measured>) -> Option<MetricReport> {
    let (reference, own) = (evaluation.reference?, evaluation.faithful?);
    let metric = measured?.metric;
    let share = |s: Score| (metric != Metric::Mse).then(|| s.accuracy());
    Some(MetricReport {
        metric,
        count: own.count,
        reference_loss: reference.loss(),
        loss: own.loss(),
        reference_accuracy: share(reference),
        accuracy: share(own),
        flips: evaluation.flips.clone(),
    })
}

/// The run whose cost is told: the same formats on the same chip.
fn options(request: &Request, choice: &Choice) -> Options {
    let mut options = Options::new(&request.model, &request.chip);
    options.sets.clone_from(&request.sets);
    options.prompt = request.prompt;
    options.phase = PhaseChoice::Prefill;
    options.weights = choice.weights.parse().ok();
    options.activations = choice.activations.parse().ok();
    options.kv = options.activations;
    let register = choice.accumulate.as_deref();
    options.accumulate = register.and_then(|name| name.split(':').next()?.parse().ok());
    options
}

/// Time and energy of one inference in the chosen formats, the chip's area; and what of the choice the cost does not see.
fn cost(options: &Options, choice: &Choice) -> Result<(Cost, Vec<String>), ExecuteError> {
    let mut unseen = Vec::new();
    if choice.accumulate.is_some() && options.accumulate.is_none() {
        unseen.push("time and energy are those of the chip's own accumulators".to_string());
    }
    let run = run(options)?;
    let sum = |of: fn(&presil_sim::run::Phase) -> f64| run.phases.iter().map(of).sum();
    Ok((
        Cost {
            latency_s: sum(|p| p.latency_s),
            energy_j: sum(|p| p.energy_j),
            area_mm2: run.area_total().0,
        },
        unseen,
    ))
}
