//! A graph, its weights and an arithmetic for each op, ready to run on inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use presil_numerics::arithmetic::summation::SummationError;
use presil_workloads::{Block, Einsum, Graph, Meaning, Op, OpId, OpKind, Role, TensorId};
use thiserror::Error;

use crate::arithmetic::Arithmetic;
use crate::array::Array;
use crate::contract::{Operand, operand};
use crate::contraction::{Plan, channel_axis};
use crate::rows;
use crate::storage::StorageError;

/// Tensors by name.
pub type Weights = BTreeMap<String, Array>;

/// Why a graph can't be executed.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ExecutionError {
    /// Ops whose meaning nobody stated.
    #[error("{} cannot be executed: the model does not say what {} ({})", plural(.0.len(), "op"), if .0.len() == 1 { "it computes" } else { "they compute" }, some(.0))]
    Unstated(Vec<String>),
    /// Weights that are not there.
    #[error("{} missing: {}", plural(.0.len(), "weight"), some(.0))]
    Missing(Vec<String>),
    /// An input that is not there.
    #[error("input `{0}` of shape {1:?} is not given")]
    Input(String, Vec<u64>),
    /// A tensor of another shape.
    #[error("`{name}` has the shape {given:?}, and the model has {expected:?} there")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        given: Vec<usize>,
        /// The model's.
        expected: Vec<u64>,
    },
    /// An op that does not fit its operands.
    #[error("op `{0}` does not fit its operands")]
    Operands(String),
    /// A block that repeats and does not say what it hands on.
    #[error("block `{0}` repeats, and the model does not say what a repetition hands to the next")]
    Carries(String),
    /// A tensor that can't be stored as it should.
    #[error("op `{op}`: {error}")]
    Storage {
        /// The op.
        op: String,
        /// Why.
        error: StorageError,
    },
    /// Products that can't be added up as they should.
    #[error("op `{op}`: {error}")]
    Adder {
        /// The op.
        op: String,
        /// Why.
        error: SummationError,
    },
    /// Integer accumulators without integer operands under one scale each.
    #[error(
        "op `{0}`: integer accumulators add integers; store weights and activations as signed integers of up to 8 bits, activations under one scale for the tensor"
    )]
    NoIntegers(String),
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn some(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(8).map(String::as_str).collect();
    let more = if names.len() > 8 { ", .." } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// What happened in an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Events {
    /// Sums that left the range of their register.
    pub overflows: u64,
    /// Numbers beyond the range of the format that they were stored in.
    pub saturated: u64,
    /// Bits of a signed register that holds every partial sum in any order; 0 where not measured.
    pub width: u32,
}

impl Events {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            overflows: self.overflows + other.overflows,
            saturated: self.saturated + other.saturated,
            width: self.width.max(other.width),
        }
    }
}

/// A graph ready to run.
pub struct Executor<'a> {
    /// The graph.
    pub graph: &'a Graph,
    pub(crate) arithmetics: Vec<&'a Arithmetic>,
    pub(crate) plans: Vec<Option<Plan>>,
    weights: BTreeMap<String, Arc<Array>>,
    /// Weights as contractions read them, by op and repetition.
    pub(crate) stored: BTreeMap<(OpId, usize), Arc<Operand>>,
}

/// Tensors in the course of a run.
#[derive(Debug, Clone, Default)]
pub struct State {
    tensors: Vec<Option<Arc<Array>>>,
}

impl State {
    /// A tensor, where it has been made.
    pub fn tensor(&self, id: TensorId) -> Option<&Array> {
        self.tensors.get(id.0 as usize)?.as_deref()
    }
}

/// Ops in the order of execution, with the repetition of their block.
pub fn order(graph: &Graph) -> impl Iterator<Item = (OpId, usize)> + '_ {
    graph.blocks.iter().flat_map(|block| {
        let repetitions = 0..usize::try_from(block.repeat).unwrap_or(usize::MAX);
        repetitions.flat_map(|r| block.ops.clone().map(move |op| (OpId(op), r)))
    })
}

impl<'a> Executor<'a> {
    /// Makes a graph ready: looks up all weights, and stores those of contractions as the op's arithmetic does.
    /// `of` gives the arithmetic of each op.
    pub fn new(
        graph: &'a Graph,
        weights: &Weights,
        of: impl Fn(&Op) -> &'a Arithmetic,
    ) -> Result<Self, ExecutionError> {
        let unstated = graph
            .ops
            .iter()
            .filter(|op| op.meaning == Meaning::Unstated);
        let unstated: Vec<String> = unstated.map(|op| op.name.clone()).collect();
        if !unstated.is_empty() {
            return Err(ExecutionError::Unstated(unstated));
        }
        if let Some(block) = graph
            .blocks
            .iter()
            .find(|b| b.repeat > 1 && b.carries.is_empty())
        {
            return Err(ExecutionError::Carries(block.name.clone()));
        }
        let arithmetics: Vec<&Arithmetic> = graph.ops.iter().map(of).collect();
        let plan = |(op, arithmetic): (&Op, &&Arithmetic)| {
            let plan = op.contraction().and_then(Plan::new)?;
            Some(plan.ordered(arithmetic.order.clone()))
        };
        let mut executor = Self {
            graph,
            plans: graph.ops.iter().zip(&arithmetics).map(plan).collect(),
            arithmetics,
            weights: BTreeMap::new(),
            stored: BTreeMap::new(),
        };
        executor.look_up(weights)?;
        executor.store()?;
        Ok(executor)
    }

    fn look_up(&mut self, weights: &Weights) -> Result<(), ExecutionError> {
        let graph = self.graph;
        let mut missing = Vec::new();
        for (id, repetition) in order(graph) {
            let op = &graph.ops[id];
            for t in needed(op)
                .filter(|t| matches!(graph.tensors[*t].role, Role::Weight | Role::Constant))
            {
                let name = self.weight_name(id, t, repetition);
                if self.weights.contains_key(&name) || missing.contains(&name) {
                    continue;
                }
                // Language models of HuggingFace have their weights under "model.".
                let found = weights
                    .get(&name)
                    .or_else(|| weights.get(&format!("model.{name}")));
                let constant = graph.constants.get(&t).and_then(|values| {
                    let values = values.iter().map(|v| *v as f32).collect();
                    Array::new(extents(&graph.tensors[t].shape), values).ok()
                });
                let found = found.or(constant.as_ref());
                let Some(found) = found else {
                    missing.push(name);
                    continue;
                };
                let expected = &graph.tensors[t].shape;
                let seen = fitted(found, expected).ok_or_else(|| ExecutionError::Shape {
                    name: name.clone(),
                    given: found.shape().to_vec(),
                    expected: expected.clone(),
                })?;
                self.weights.insert(name, Arc::new(seen));
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(ExecutionError::Missing(missing))
        }
    }

    fn store(&mut self) -> Result<(), ExecutionError> {
        let graph = self.graph;
        for (id, repetition) in order(graph) {
            let op = &graph.ops[id];
            let weight = op
                .inputs
                .get(1)
                .filter(|t| graph.tensors[**t].role == Role::Weight);
            let (Meaning::Contraction { .. }, Some(t)) = (&op.meaning, weight) else {
                continue;
            };
            let Some(weight) = self
                .weights
                .get(&self.weight_name(id, *t, repetition))
                .cloned()
            else {
                continue;
            };
            let stored = self.as_weight(id, weight)?;
            self.stored.insert((id, repetition), stored);
        }
        Ok(())
    }

    /// A weight as an op's contraction reads it.
    pub(crate) fn as_weight(
        &self,
        id: OpId,
        weight: Arc<Array>,
    ) -> Result<Arc<Operand>, ExecutionError> {
        let arithmetic = self.arithmetics[id.0 as usize];
        let mut events = Events::default();
        let einsum = self.graph.ops[id].contraction();
        let axis = einsum
            .and_then(|e| channel_axis(e, weight.shape()))
            .unwrap_or(0);
        let stored = operand(
            (&weight, axis),
            &arithmetic.weights,
            arithmetic,
            &mut events,
        );
        let stored = stored.map_err(|error| ExecutionError::Storage {
            op: self.graph.ops[id].name.clone(),
            error,
        })?;
        Ok(Arc::new(stored))
    }

    /// The name under which a repetition's weight is looked up.
    fn weight_name(&self, op: OpId, tensor: TensorId, repetition: usize) -> String {
        let t = &self.graph.tensors[tensor];
        match self.graph.block_of(op) {
            Some(block) if repetition > 0 && !t.shared => {
                renumbered(&t.name, repetition as u64 * layers_of(self.graph, block))
            }
            _ => t.name.clone(),
        }
    }

    /// The state before the first op.
    pub fn start(&self, inputs: &BTreeMap<String, Array>) -> Result<State, ExecutionError> {
        let mut tensors = vec![None; self.graph.tensors.len()];
        for (id, t) in self.graph.tensors.iter_ids() {
            let given = inputs
                .get(&t.name)
                .filter(|_| matches!(t.role, Role::Input | Role::Cache));
            tensors[id.0 as usize] = match (given, t.role) {
                (Some(x), _) => {
                    let seen = fitted(x, &t.shape).ok_or_else(|| ExecutionError::Shape {
                        name: t.name.clone(),
                        given: x.shape().to_vec(),
                        expected: t.shape.clone(),
                    })?;
                    Some(Arc::new(seen))
                }
                (None, Role::Input) => {
                    return Err(ExecutionError::Input(t.name.clone(), t.shape.clone()));
                }
                (None, Role::Cache) => Some(Arc::new(Array::zeros(&extents(&t.shape)))),
                _ => None,
            };
        }
        Ok(State { tensors })
    }

    /// Runs all ops.
    pub fn run(&self, inputs: &BTreeMap<String, Array>) -> Result<State, ExecutionError> {
        let mut state = self.start(inputs)?;
        for (op, repetition) in order(self.graph) {
            self.step(&mut state, op, repetition)?;
        }
        Ok(state)
    }

    /// Runs an op.
    pub fn step(
        &self,
        state: &mut State,
        id: OpId,
        repetition: usize,
    ) -> Result<Events, ExecutionError> {
        let op = &self.graph.ops[id];
        if repetition > 0
            && let Some(block) = self.graph.block_of(id).filter(|b| b.ops.start == id.0)
        {
            let handed: Vec<_> = block
                .carries
                .iter()
                .map(|(_, made)| state.tensors[made.0 as usize].clone())
                .collect();
            for ((reads, _), array) in block.carries.iter().zip(handed) {
                state.tensors[reads.0 as usize] = array;
            }
        }
        let arithmetic = self.arithmetics[id.0 as usize];
        let mut events = Events::default();
        let misfit = || ExecutionError::Operands(op.name.clone());
        let made = match &op.meaning {
            Meaning::Elsewhere => Vec::new(),
            Meaning::Program(program) => self
                .program(state, (id, repetition), program, &mut events)?
                .ok_or_else(misfit)?,
            meaning => {
                let made = match meaning {
                    Meaning::Contraction { bias_rank } => {
                        self.plain_contraction(state, (id, repetition), *bias_rank, &mut events)?
                    }
                    _ => self.other(state, (id, repetition)),
                };
                let made = Arc::new(made.ok_or_else(misfit)?);
                op.outputs.first().map(|t| (*t, made)).into_iter().collect()
            }
        };
        let moves = matches!(
            op.kind,
            OpKind::View | OpKind::Move { .. } | OpKind::Gather { .. }
        );
        for (tensor, made) in made {
            let kept = if arithmetic.results.keeps() || moves {
                made
            } else {
                let stored = arithmetic.results.store(&made, 0);
                let (stored, beyond) = stored.map_err(|error| ExecutionError::Storage {
                    op: op.name.clone(),
                    error,
                })?;
                events.saturated += beyond;
                Arc::new(stored)
            };
            state.tensors[tensor.0 as usize] = Some(kept);
        }
        Ok(events)
    }

    /// The arithmetic of an op.
    pub(crate) fn arithmetic(&self, id: OpId) -> &Arithmetic {
        self.arithmetics[id.0 as usize]
    }

    /// The matrices of an op's contraction.
    pub(crate) fn plan(&self, id: OpId) -> Option<&Plan> {
        self.plans.get(id.0 as usize)?.as_ref()
    }

    pub(crate) fn operand(
        &self,
        state: &State,
        op: OpId,
        tensor: TensorId,
        repetition: usize,
    ) -> Option<Arc<Array>> {
        match self.graph.tensors[tensor].role {
            Role::Weight | Role::Constant => self
                .weights
                .get(&self.weight_name(op, tensor, repetition))
                .cloned(),
            _ => state.tensors[tensor.0 as usize].clone(),
        }
    }

    fn other(&self, state: &State, (id, repetition): (OpId, usize)) -> Option<Array> {
        let op = &self.graph.ops[id];
        let inputs: Option<Vec<Arc<Array>>> = needed(op)
            .map(|t| self.operand(state, id, t, repetition))
            .collect();
        let inputs = inputs?;
        let inputs: Vec<&Array> = inputs.iter().map(Arc::as_ref).collect();
        let out = *op.outputs.first()?;
        let shape = extents(&self.graph.tensors[out].shape);
        match &op.meaning {
            Meaning::Append => append(state.tensor(out)?, inputs.first()?),
            meaning => self.simple(meaning, &inputs, (id, repetition), &shape),
        }
    }

    /// What a meaning that is no contraction makes of inputs.
    pub(crate) fn simple(
        &self,
        meaning: &Meaning,
        inputs: &[&Array],
        (id, repetition): (OpId, usize),
        shape: &[usize],
    ) -> Option<Array> {
        let op = &self.graph.ops[id];
        let unit = &self.arithmetics[id.0 as usize].vector;
        let x = inputs.first().copied();
        match meaning {
            Meaning::Elementwise(formula) => unit.elementwise(formula, inputs, shape),
            Meaning::Softmax { axis, scale, log } => {
                let of = (*axis, *scale, *log);
                rows::softmax(unit, x?, first_einsum(op)?, of, inputs.get(1).copied())
            }
            Meaning::Norm {
                kind,
                epsilon,
                parameters,
            } => rows::norm(
                unit,
                inputs,
                first_einsum(op)?,
                (*kind, *epsilon, *parameters),
            ),
            Meaning::Pool {
                kind,
                counts_padding,
            } => rows::pool(unit, x?, first_einsum(op)?, (*kind, *counts_padding), shape),
            Meaning::Reduce {
                operator,
                mean,
                axes,
            } => rows::reduce(unit, x?, *operator, *mean, axes, shape),
            Meaning::Rotary {
                base,
                first,
                neighbours,
            } => rows::rotary(
                unit,
                x?,
                first_einsum(op)?,
                (*base, *first, *neighbours),
                shape,
            ),
            other => self.indexed(other, inputs, (id, repetition), shape),
        }
    }

    /// The contraction of an op's own inputs.
    fn plain_contraction(
        &self,
        state: &State,
        (id, repetition): (OpId, usize),
        bias_rank: usize,
        events: &mut Events,
    ) -> Result<Option<Array>, ExecutionError> {
        let op = &self.graph.ops[id];
        let read = |i: usize| {
            op.inputs
                .get(i)
                .and_then(|t| self.operand(state, id, *t, repetition))
        };
        let (Some(a), Some(b), Some(out)) = (read(0), read(1), op.outputs.first()) else {
            return Ok(None);
        };
        let shape = extents(&self.graph.tensors[*out].shape);
        let stored = self.stored.get(&(id, repetition)).cloned();
        self.contract(id, (a, b, read(2)), stored, (bias_rank, &shape), events)
    }
}

/// The inputs that an op's meaning reads: a rotary encoding's table only stands for its traffic.
fn needed(op: &Op) -> impl Iterator<Item = TensorId> + '_ {
    let tensors: &[TensorId] = match &op.meaning {
        Meaning::Rotary { .. } => op.inputs.get(..1).unwrap_or(&[]),
        Meaning::Program(program) => &program.reads,
        Meaning::Elsewhere => &[],
        _ => &op.inputs,
    };
    tensors.iter().copied()
}

fn first_einsum(op: &Op) -> Option<&Einsum> {
    match &op.kind {
        OpKind::Cascade(einsums) => einsums.first(),
        _ => None,
    }
}

pub(crate) fn extents(shape: &[u64]) -> Vec<usize> {
    shape
        .iter()
        .map(|d| usize::try_from(*d).unwrap_or(usize::MAX))
        .collect()
}

/// An array in a tensor's shape, ranks of extent 1 aside.
fn fitted(x: &Array, shape: &[u64]) -> Option<Array> {
    let (own, expected) = (x.shape().to_vec(), extents(shape));
    let plain = |s: &[usize]| s.iter().copied().filter(|d| *d != 1).collect::<Vec<_>>();
    (plain(&own) == plain(&expected))
        .then(|| x.clone().reshaped(&expected).ok())
        .flatten()
}

/// A cache whose last rows are new ones.
fn append(cache: &Array, x: &Array) -> Option<Array> {
    let (&batch, inner) = cache.shape().split_first()?;
    let (&kept, rest) = inner.split_first()?;
    let width: usize = rest.iter().product();
    let added = x.values().len() / (batch * width).max(1);
    let mut out = cache.clone();
    for (b, run) in out.values_mut().chunks_mut(kept * width).enumerate() {
        let rows = added.min(kept);
        let from = b * added * width + (added - rows) * width;
        run[(kept - rows) * width..].copy_from_slice(x.values().get(from..from + rows * width)?);
    }
    Some(out)
}

/// How many layers a repetition of a block has: the distinct numbers in its weights' names.
fn layers_of(graph: &Graph, block: &Block) -> u64 {
    let ops = block.ops.clone().map(|op| &graph.ops[OpId(op)]);
    let weights = ops.flat_map(|op| &op.inputs).map(|t| &graph.tensors[*t]);
    let weights = weights.filter(|t| t.role == Role::Weight && !t.shared);
    let mut numbers: Vec<u64> = weights
        .filter_map(|t| t.name.split('.').find_map(|part| part.parse().ok()))
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.len().max(1) as u64
}

/// A name whose first number is so much larger.
fn renumbered(name: &str, by: u64) -> String {
    let mut done = false;
    let parts = name.split('.').map(|part| match part.parse::<u64>() {
        Ok(number) if !done => {
            done = true;
            number.saturating_add(by).to_string()
        }
        _ => part.to_string(),
    });
    parts.collect::<Vec<_>>().join(".")
}
