//! A model on a data set: its task's metric, and each op's errors.
//!
//! ```text
//! classes      accuracy = share of samples whose largest logit is that of their label
//!              loss = mean of -log softmax(logits)[label]                        in nats
//! next_token   the same at each position of a sequence, whose label is the token behind it; perplexity = e^loss
//! mse          loss = mean of (output - target)^2 over all elements
//! ```
//!
//! Samples lie along the outermost rank of each array of the data and run one by one, or as many at once as the model's
//! inputs hold; they are independent, so that threads share them out, and sums are taken in their order.

use std::collections::BTreeMap;

use presil_workloads::{Graph, Role};
use rayon::prelude::*;
use serde::Serialize;
use thiserror::Error;

use crate::array::Array;
use crate::compare::{ByOp, side_by_side};
use crate::executor::{ExecutionError, Executor, State};

/// What a task counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Logits against a class each.
    Classes,
    /// Logits at each position against the token behind it.
    NextToken,
    /// Numbers against numbers.
    Mse,
}

/// A data set and what is asked of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// For each input of the graph, the samples.
    pub inputs: BTreeMap<String, Array>,
    /// What is counted, of which output of the graph, against which targets; the tokens themselves for
    /// [`Metric::NextToken`].
    pub metric: Option<(Metric, String, Array)>,
}

/// Why a data set does not fit a graph.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum TaskError {
    /// Arrays of different numbers of samples, or one whose samples the input can't hold.
    #[error(
        "`{name}` of shape {given:?} is no list of samples for `{name}` of the model, which has the shape {expected:?}{}",
        if *.samples > 0 { format!(" ({} samples by the other inputs)", .samples) } else { String::new() }
    )]
    Samples {
        /// The input.
        name: String,
        /// Its shape.
        given: Vec<usize>,
        /// The model's.
        expected: Vec<u64>,
        /// Samples that earlier inputs have.
        samples: usize,
    },
    /// An output that the graph does not have.
    #[error("the model has no output `{0}`; it has {1}")]
    NoOutput(String, String),
    /// Targets that do not fit the output.
    #[error("targets of shape {given:?} do not fit `{output}` of shape {shape:?}")]
    Targets {
        /// The output.
        output: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Shape of the targets.
        given: Vec<usize>,
    },
    /// More tokens than the model reads, or none to begin with.
    #[error(
        "a prompt and the tokens behind it are {needed}, and `{state}` holds 1 to {window}: a prompt has at least one token"
    )]
    Window {
        /// The input that holds tokens.
        state: String,
        /// Prompt and tokens.
        needed: usize,
        /// Tokens that the model reads.
        window: u64,
    },
    /// A graph that can't be executed.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
}

/// The sums that a metric is made of.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score {
    /// Predictions, or elements.
    pub count: u64,
    /// Right ones.
    pub correct: u64,
    loss: f64,
}

impl Score {
    /// Mean loss.
    pub fn loss(&self) -> f64 {
        self.loss / self.count.max(1) as f64
    }

    /// Share of right predictions.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.count.max(1) as f64
    }

    fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            correct: self.correct + other.correct,
            loss: self.loss + other.loss,
        }
    }

    fn of_class(logits: &[f32], label: f32) -> Self {
        let most = logits.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
        let sum: f64 = logits
            .iter()
            .map(|x| libm::exp(f64::from(*x) - f64::from(most)))
            .sum();
        let own = logits
            .get(label as usize)
            .copied()
            .unwrap_or(f32::NEG_INFINITY);
        let first = logits.iter().position(|x| *x == most);
        Self {
            count: 1,
            correct: u64::from(label >= 0.0 && first == Some(label as usize)),
            loss: libm::log(sum) - (f64::from(own) - f64::from(most)),
        }
    }
}

/// What came of a task under two arithmetics.
#[derive(Debug, Clone, Default)]
pub struct Evaluation {
    /// Samples taken.
    pub samples: usize,
    /// The reference's score.
    pub reference: Option<Score>,
    /// The score in the other arithmetic.
    pub faithful: Option<Score>,
    /// Each op's errors.
    pub ops: ByOp,
    /// Samples whose predicted class differs.
    pub flips: Vec<usize>,
}

impl Task {
    /// How many runs of the graph the data makes.
    ///
    /// # Errors
    /// Arrays that don't fit the graph's inputs or outputs.
    pub fn runs(&self, graph: &Graph) -> Result<usize, TaskError> {
        let mut runs = 0;
        for t in graph.tensors.iter().filter(|t| t.role == Role::Input) {
            let Some(given) = self.inputs.get(&t.name) else {
                return Err(ExecutionError::Input(t.name.clone(), t.shape.clone()).into());
            };
            let per_run = t.shape.first().copied().unwrap_or(1).max(1) as usize;
            let samples = given.shape().first().copied().unwrap_or(0) / per_run;
            let own = given.shape().iter().product::<usize>() / (samples * per_run).max(1);
            let fits = own as u64 == t.shape.iter().skip(1).product::<u64>();
            if !fits || samples == 0 || (runs > 0 && samples != runs) {
                return Err(TaskError::Samples {
                    name: t.name.clone(),
                    given: given.shape().to_vec(),
                    expected: t.shape.clone(),
                    samples: runs,
                });
            }
            runs = samples;
        }
        if let Some((metric, output, targets)) = &self.metric {
            let outputs = graph.tensors.iter().filter(|t| t.role == Role::Output);
            let Some(out) = outputs.clone().find(|t| t.name == *output) else {
                let known: Vec<&str> = outputs.map(|t| t.name.as_str()).collect();
                return Err(TaskError::NoOutput(output.clone(), known.join(", ")));
            };
            let classes = out.shape.last().copied().unwrap_or(1).max(1);
            let expected = match metric {
                Metric::Mse => out.elements(),
                Metric::Classes => out.elements() / classes,
                // One more than positions in each sequence.
                Metric::NextToken => {
                    out.shape.first().copied().unwrap_or(1) + out.elements() / classes
                }
            };
            if targets.values().len() as u64 != expected * runs as u64 {
                return Err(TaskError::Targets {
                    output: output.clone(),
                    shape: out.shape.clone(),
                    given: targets.shape().to_vec(),
                });
            }
        }
        Ok(runs)
    }

    /// The inputs of the first run.
    ///
    /// # Errors
    /// Arrays that don't fit the graph's inputs or outputs.
    pub fn first(&self, graph: &Graph) -> Result<BTreeMap<String, Array>, TaskError> {
        self.runs(graph)?;
        Ok(self.inputs(graph, 0))
    }

    /// The inputs of a run.
    fn inputs(&self, graph: &Graph, run: usize) -> BTreeMap<String, Array> {
        let inputs = graph
            .tensors
            .iter()
            .filter(|t| t.role == Role::Input)
            .filter_map(|t| {
                let per_run = t.shape.first().copied().unwrap_or(1).max(1) as usize;
                Some((
                    t.name.clone(),
                    self.inputs.get(&t.name)?.outer(run * per_run, per_run)?,
                ))
            });
        inputs.collect()
    }

    /// The score of a run's outputs, and each prediction's class.
    fn score(
        &self,
        executor: &Executor<'_>,
        state: &State,
        run: usize,
    ) -> Option<(Score, Vec<usize>)> {
        let (metric, output, targets) = self.metric.as_ref()?;
        let id = executor
            .graph
            .tensors
            .iter_ids()
            .find(|(_, t)| t.name == *output)?
            .0;
        let out = state.tensor(id)?;
        let classes = out.shape().last().copied().unwrap_or(1).max(1);
        let rows = out.values().chunks(classes);
        let per_run = targets.values().len() / self.runs(executor.graph).ok()?;
        let own = &targets.values()[run * per_run..(run + 1) * per_run];
        let classed = |labels: &[f32]| {
            let scores = rows
                .clone()
                .zip(labels)
                .map(|(row, label)| Score::of_class(row, *label));
            let best = rows.clone().map(|row| {
                let most = row.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
                row.iter().position(|x| *x == most).unwrap_or(0)
            });
            (scores.fold(Score::default(), Score::and), best.collect())
        };
        Some(match metric {
            Metric::Classes => classed(own),
            Metric::NextToken => {
                let sequences = out.shape().first().copied().unwrap_or(1).max(1);
                let behind = own
                    .chunks(own.len() / sequences)
                    .flat_map(|s| s[1..].iter().copied());
                classed(&behind.collect::<Vec<f32>>())
            }
            Metric::Mse => {
                let squares = out
                    .values()
                    .iter()
                    .zip(own)
                    .map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2));
                let score = Score {
                    count: own.len() as u64,
                    correct: 0,
                    loss: squares.sum(),
                };
                (score, Vec::new())
            }
        })
    }

    /// The score under one arithmetic.
    ///
    /// # Errors
    /// Data that does not fit the graph, a graph that can't be executed.
    pub fn evaluate(&self, executor: &Executor<'_>) -> Result<Option<Score>, TaskError> {
        let runs = self.runs(executor.graph)?;
        let scores: Result<Vec<Option<Score>>, TaskError> = (0..runs)
            .into_par_iter()
            .map(|run| {
                let state = executor.run(&self.inputs(executor.graph, run))?;
                Ok(self.score(executor, &state, run).map(|s| s.0))
            })
            .collect();
        Ok(scores?.into_iter().flatten().reduce(Score::and))
    }

    /// Both arithmetics side by side on at most `most` runs.
    ///
    /// # Errors
    /// Data that does not fit the graph, a graph that can't be executed.
    pub fn compare(
        &self,
        reference: &Executor<'_>,
        faithful: &Executor<'_>,
        most: usize,
    ) -> Result<Evaluation, TaskError> {
        let runs = self.runs(reference.graph)?.min(most);
        let made: Result<Vec<_>, TaskError> = (0..runs)
            .into_par_iter()
            .map(|run| {
                let mut ops = ByOp::new();
                let inputs = self.inputs(reference.graph, run);
                let (expected, given) = side_by_side(reference, faithful, &inputs, &mut ops)?;
                let expected = self.score(reference, &expected, run);
                Ok((ops, expected, self.score(faithful, &given, run)))
            })
            .collect();
        let mut evaluation = Evaluation {
            samples: runs,
            ..Evaluation::default()
        };
        let sum = |a: Option<Score>, b: Score| Some(a.unwrap_or_default().and(b));
        for (run, (ops, expected, given)) in made?.into_iter().enumerate() {
            for (op, errors) in ops {
                evaluation.ops.entry(op).or_default().merge(&errors);
            }
            if let (Some((expected, classes)), Some((given, others))) = (expected, given) {
                evaluation.reference = sum(evaluation.reference, expected);
                evaluation.faithful = sum(evaluation.faithful, given);
                if classes != others {
                    evaluation.flips.push(run);
                }
            }
        }
        Ok(evaluation)
    }
}
