//! Errors over the steps of a process that feeds a model its own results.
//!
//! ```text
//! Euler     x_0 given; x_(k+1) = x_k + update(x_k, t = k/n) / n       diffusion samplers, rectified flow
//! greedy    token_(k+1) = the largest logit behind token_k            decoding, over a window that the model reads whole
//! ```
//!
//! Each arithmetic goes its own way: step k compares what the two have made of the same start after k steps.

use std::collections::BTreeMap;

use presil_workloads::{Graph, Role};
use rayon::prelude::*;

use crate::array::Array;
use crate::compare::Errors;
use crate::evaluate::TaskError;
use crate::executor::{ExecutionError, Executor, State};

/// What is done with a model's results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Process {
    /// Results are added to an input, step by step.
    Euler {
        /// Steps from 0 to 1.
        steps: usize,
        /// The input that is advanced.
        state: String,
        /// The input that takes the time, where there is one.
        time: Option<String>,
        /// The output that is added.
        update: String,
    },
    /// The largest logit becomes the next token.
    Greedy {
        /// Tokens that are given.
        prompt: usize,
        /// Tokens that are made.
        tokens: usize,
        /// The input that holds them.
        state: String,
        /// The output of their logits.
        logits: String,
    },
}

/// A step of the process.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// Errors of the state (Euler), or of the logits that the next token comes from (greedy).
    pub errors: Errors,
    /// Samples whose tokens are still those of the reference; of an Euler process all.
    pub alike: usize,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Growth {
    /// Samples.
    pub samples: usize,
    /// Step after step.
    pub steps: Vec<Step>,
    /// For each sample what the reference and the other arithmetic end with.
    pub ends: Vec<[Array; 2]>,
}

/// One sample in one arithmetic.
struct Course<'a> {
    executor: &'a Executor<'a>,
    inputs: BTreeMap<String, Array>,
}

impl Process {
    /// Both arithmetics over samples; `inputs` has them along the outermost rank of each array.
    ///
    /// # Errors
    /// Names that the graph has not, inputs that do not fit, a graph that can't be executed.
    pub fn run(
        &self,
        reference: &Executor<'_>,
        faithful: &Executor<'_>,
        inputs: &BTreeMap<String, Array>,
    ) -> Result<Growth, TaskError> {
        let graph = reference.graph;
        let (Self::Euler { state, .. } | Self::Greedy { state, .. }) = self;
        let missing = || TaskError::from(ExecutionError::Input(state.clone(), Vec::new()));
        let samples = inputs
            .get(state)
            .and_then(|x| x.shape().first())
            .copied()
            .ok_or_else(missing)?;
        let sample = |i: usize| -> Result<(Vec<Step>, [Array; 2]), TaskError> {
            let own = inputs
                .iter()
                .filter_map(|(name, x)| Some((name.clone(), x.outer(i, 1)?)));
            let own: BTreeMap<String, Array> = own.collect();
            let mut courses = [reference, faithful].map(|executor| Course {
                executor,
                inputs: own.clone(),
            });
            let mut steps = Vec::new();
            let mut alike = true;
            for k in 0..self.steps() {
                let [a, b] = &mut courses;
                let (x, y) = (self.step(a, k)?, self.step(b, k)?);
                let mut step = Step::default();
                step.errors.take(&x, &y);
                alike &= matches!(self, Self::Euler { .. }) || a.inputs == b.inputs;
                step.alike = usize::from(alike);
                steps.push(step);
            }
            let ends = courses.map(|c| c.inputs.get(state).cloned().unwrap_or_default());
            Ok((steps, ends))
        };
        self.check(graph)?;
        let made: Result<Vec<_>, TaskError> = (0..samples).into_par_iter().map(sample).collect();
        let mut growth = Growth {
            samples,
            steps: vec![Step::default(); self.steps()],
            ends: Vec::with_capacity(samples),
        };
        for (steps, ends) in made? {
            for (all, own) in growth.steps.iter_mut().zip(steps) {
                all.errors.merge(&own.errors);
                all.alike += own.alike;
            }
            growth.ends.push(ends);
        }
        Ok(growth)
    }

    fn steps(&self) -> usize {
        match self {
            Self::Euler { steps, .. } => *steps,
            Self::Greedy { tokens, .. } => *tokens,
        }
    }

    fn check(&self, graph: &Graph) -> Result<(), TaskError> {
        let (Self::Euler { update: output, .. } | Self::Greedy { logits: output, .. }) = self;
        let mut outputs = graph.tensors.iter().filter(|t| t.role == Role::Output);
        if outputs.any(|t| t.name == *output) {
            return self.check_window(graph);
        }
        let outputs = graph.tensors.iter().filter(|t| t.role == Role::Output);
        let known: Vec<&str> = outputs.map(|t| t.name.as_str()).collect();
        Err(TaskError::NoOutput(output.clone(), known.join(", ")))
    }

    /// Tokens that are made must fit what the model reads.
    fn check_window(&self, graph: &Graph) -> Result<(), TaskError> {
        let Self::Greedy {
            prompt,
            tokens,
            state,
            ..
        } = self
        else {
            return Ok(());
        };
        let input = graph.tensors.iter().find(|t| t.name == *state);
        let window = input.and_then(|t| t.shape.last()).copied().unwrap_or(0);
        let needed = prompt + tokens;
        if *prompt == 0 || needed as u64 > window {
            let state = state.clone();
            return Err(TaskError::Window {
                state,
                needed,
                window,
            });
        }
        Ok(())
    }

    /// Takes a step; gives what is compared.
    fn step(&self, course: &mut Course<'_>, k: usize) -> Result<Array, TaskError> {
        match self {
            Self::Euler {
                steps,
                state,
                time,
                update,
            } => {
                if let Some(time) = time {
                    let at =
                        Array::new(vec![1], vec![k as f32 / *steps as f32]).unwrap_or_default();
                    course.inputs.insert(time.clone(), at);
                }
                let made = course.executor.run(&course.inputs)?;
                let velocity = output(course.executor, &made, update).unwrap_or_default();
                let x = course.inputs.entry(state.clone()).or_default();
                for (x, v) in x.values_mut().iter_mut().zip(velocity.values()) {
                    *x += v / *steps as f32;
                }
                Ok(x.clone())
            }
            Self::Greedy {
                prompt,
                state,
                logits,
                ..
            } => {
                let at = prompt + k;
                let window = course
                    .executor
                    .graph
                    .tensors
                    .iter()
                    .find(|t| t.name == *state);
                let length = window.and_then(|t| t.shape.last()).copied().unwrap_or(0) as usize;
                let mut ids = course
                    .inputs
                    .get(state)
                    .map(|x| x.values().to_vec())
                    .unwrap_or_default();
                ids.truncate(at);
                ids.resize(length, 0.0);
                let read = Array::new(vec![1, length], ids.clone()).unwrap_or_default();
                course.inputs.insert(state.clone(), read);
                let made = course.executor.run(&course.inputs)?;
                let all = output(course.executor, &made, logits).unwrap_or_default();
                let width = all.shape().last().copied().unwrap_or(1);
                let from = (at.max(1) - 1) * width;
                let own = all.values().get(from..from + width).unwrap_or(&[]).to_vec();
                let most = own.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
                let token = own.iter().position(|x| *x == most).unwrap_or(0);
                if let Some(id) = course
                    .inputs
                    .get_mut(state)
                    .and_then(|x| x.values_mut().get_mut(at))
                {
                    *id = token as f32;
                }
                let shape = vec![own.len()];
                Ok(Array::new(shape, own).unwrap_or_default())
            }
        }
    }
}

fn output(executor: &Executor<'_>, state: &State, name: &str) -> Option<Array> {
    let id = executor
        .graph
        .tensors
        .iter_ids()
        .find(|(_, t)| t.name == name)?
        .0;
    state.tensor(id).cloned()
}
