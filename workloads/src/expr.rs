//! What values are made of while a model is imported: tensors of the graph, and steps from them.
//!
//! Importers drop what costs nothing (a transposed parameter is read in its own order, a dequantization is how an op
//! reads its operand). What such a value is stays here, and becomes part of the [`Program`] of the ops that read it.

use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::einsum::ReduceOperator;
use crate::formula::{Binary, Formula, Unary};
use crate::meaning::Meaning;
use crate::program::{Program, Step};
use crate::tensor::TensorId;

/// Steps that may lie between a value and a tensor; what is made of more is not stated.
const DEEPEST: u32 = 200;

/// A value as steps from tensors.
#[derive(Debug, Clone)]
pub(crate) struct Expr(Rc<Node>);

#[derive(Debug)]
struct Node {
    shape: Vec<u64>,
    depth: u32,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Unknown,
    Tensor(TensorId),
    Step(Meaning, Vec<Expr>),
}

impl Expr {
    fn new(shape: Vec<u64>, depth: u32, kind: Kind) -> Self {
        Self(Rc::new(Node { shape, depth, kind }))
    }

    /// A value that nobody can say.
    pub fn unknown(shape: &[u64]) -> Self {
        Self::new(shape.to_vec(), 0, Kind::Unknown)
    }

    /// A tensor in its own shape.
    pub fn tensor(tensor: TensorId, shape: &[u64]) -> Self {
        Self::new(shape.to_vec(), 0, Kind::Tensor(tensor))
    }

    /// Numbers.
    pub fn constant(shape: &[u64], values: Vec<f64>) -> Self {
        if shape.iter().product::<u64>() != values.len() as u64 {
            return Self::unknown(shape);
        }
        Self::step(Meaning::Constant(Arc::new(values)), &[], shape.to_vec())
    }

    /// One number.
    pub fn number(x: f64) -> Self {
        Self::constant(&[], vec![x])
    }

    /// A step from other values.
    pub fn step(meaning: Meaning, operands: &[&Self], shape: Vec<u64>) -> Self {
        let depth = operands.iter().map(|o| o.0.depth).max().unwrap_or(0) + 1;
        let unknown = operands.iter().any(|o| o.is_unknown()) || meaning == Meaning::Unstated;
        if unknown || depth > DEEPEST {
            return Self::unknown(&shape);
        }
        let operands = operands.iter().map(|o| (*o).clone()).collect();
        Self::new(shape, depth, Kind::Step(meaning, operands))
    }

    /// Its extents.
    pub fn shape(&self) -> &[u64] {
        &self.0.shape
    }

    /// Whether it can't be said.
    pub fn is_unknown(&self) -> bool {
        matches!(self.0.kind, Kind::Unknown)
    }

    /// A formula of values that broadcast; `text` as [`Formula::parse`] reads it.
    pub fn formula(text: &str, operands: &[&Self]) -> Self {
        match Formula::parse(text) {
            Ok(formula) => Self::elementwise(formula, operands),
            Err(_) => Self::unknown(operands.first().map_or(&[], |o| o.shape())),
        }
    }

    /// A formula of values that broadcast.
    pub fn elementwise(formula: Formula, operands: &[&Self]) -> Self {
        let Some(shape) = broadcast(operands) else {
            return Self::unknown(operands.first().map_or(&[], |o| o.shape()));
        };
        Self::step(Meaning::Elementwise(formula), operands, shape)
    }

    /// A function of each element.
    pub fn unary(&self, function: Unary) -> Self {
        Self::elementwise(Formula::of(function), &[self])
    }

    /// An operation with another value.
    pub fn binary(&self, operation: Binary, other: &Self) -> Self {
        Self::elementwise(Formula::of_two(operation), &[self, other])
    }

    /// An operation with a number.
    pub fn with(&self, operation: Binary, number: f64) -> Self {
        Self::elementwise(Formula::input().with(operation, number), &[self])
    }

    /// Elements kept within bounds.
    pub fn clipped(&self, low: f64, high: f64) -> Self {
        Self::elementwise(Formula::input().clipped(low, high), &[self])
    }

    /// The same elements in another shape.
    pub fn reshape(&self, shape: &[u64]) -> Self {
        if shape == self.shape() {
            return self.clone();
        }
        let count = |s: &[u64]| s.iter().product::<u64>();
        if count(shape) != count(self.shape()) {
            return Self::unknown(shape);
        }
        match &self.0.kind {
            // Of several reshapes only the last one counts.
            Kind::Step(Meaning::Reshape, of) if of.len() == 1 => of[0].reshape(shape),
            _ => Self::step(Meaning::Reshape, &[self], shape.to_vec()),
        }
    }

    /// With ranks in another order.
    pub fn transpose(&self, order: &[usize]) -> Self {
        let shape = order.iter().map(|r| self.shape().get(*r).copied());
        let Some(shape) = shape.collect::<Option<Vec<u64>>>() else {
            return Self::unknown(self.shape());
        };
        if order.iter().enumerate().all(|(i, r)| i == *r) {
            return self.clone();
        }
        let order = order.to_vec();
        Self::step(Meaning::Transpose { order }, &[self], shape)
    }

    /// A part.
    pub fn slice(&self, starts: &[u64], sizes: &[u64], steps: &[i64]) -> Self {
        let meaning = Meaning::Slice {
            starts: starts.to_vec(),
            sizes: sizes.to_vec(),
            steps: steps.to_vec(),
        };
        Self::step(meaning, &[self], sizes.to_vec())
    }

    /// Elements `start..start + size` along an axis.
    pub fn part(&self, axis: usize, start: u64, size: u64) -> Self {
        let rank = self.shape().len();
        let (mut starts, mut sizes) = (vec![0; rank], self.shape().to_vec());
        let (Some(s), Some(z)) = (starts.get_mut(axis), sizes.get_mut(axis)) else {
            return Self::unknown(self.shape());
        };
        (*s, *z) = (start, size);
        self.slice(&starts, &sizes, &vec![1; rank])
    }

    /// Elements at places along an axis, `fill` where there is none.
    pub fn take(&self, axis: usize, places: Vec<Option<usize>>, fill: f64) -> Self {
        let mut shape = self.shape().to_vec();
        let Some(extent) = shape.get_mut(axis) else {
            return Self::unknown(self.shape());
        };
        *extent = places.len() as u64;
        Self::step(Meaning::Take { axis, places, fill }, &[self], shape)
    }

    /// Weighted sums of elements along an axis.
    pub fn blend(&self, axis: usize, taps: Vec<Vec<(usize, f64)>>) -> Self {
        let mut shape = self.shape().to_vec();
        let Some(extent) = shape.get_mut(axis) else {
            return Self::unknown(self.shape());
        };
        *extent = taps.len() as u64;
        Self::step(Meaning::Blend { axis, taps }, &[self], shape)
    }

    /// Values one behind the other.
    pub fn concat(axis: usize, parts: &[&Self]) -> Self {
        let Some(mut shape) = parts.first().map(|p| p.shape().to_vec()) else {
            return Self::unknown(&[]);
        };
        if axis >= shape.len() {
            return Self::unknown(&shape);
        }
        shape[axis] = parts.iter().filter_map(|p| p.shape().get(axis)).sum();
        Self::step(Meaning::Concat { axis }, parts, shape)
    }

    /// Parts along an axis at the places that a value gives.
    pub fn gather(&self, axis: usize, places: &Self) -> Self {
        let (Some(before), Some(after)) = (self.shape().get(..axis), self.shape().get(axis + 1..))
        else {
            return Self::unknown(self.shape());
        };
        let shape = [before, places.shape(), after].concat();
        Self::step(Meaning::Gather { axis }, &[self, places], shape)
    }

    /// A reduction over ranks, which stay with extent 1.
    pub fn reduce(&self, operator: ReduceOperator, mean: bool, axes: &[usize]) -> Self {
        let mut shape = self.shape().to_vec();
        for a in axes {
            match shape.get_mut(*a) {
                Some(extent) => *extent = 1,
                None => return Self::unknown(self.shape()),
            }
        }
        let meaning = Meaning::Reduce {
            operator,
            mean,
            axes: axes.to_vec(),
        };
        Self::step(meaning, &[self], shape)
    }

    /// With `outside` where a place of the last two ranks, column less row, is not in a range.
    pub fn band(&self, least: Option<i64>, most: Option<i64>, outside: f64) -> Self {
        let meaning = Meaning::Band {
            least,
            most,
            outside,
        };
        Self::step(meaning, &[self], self.shape().to_vec())
    }

    /// As seen from a larger shape that it broadcasts to.
    pub fn expand(&self, shape: &[u64]) -> Self {
        let like = Self::unknown(shape);
        match broadcast(&[self, &like]) {
            Some(all) if all == self.shape() => self.clone(),
            Some(all) => Self::step(Meaning::Elementwise(Formula::input()), &[self], all),
            None => like,
        }
    }
}

fn broadcast(operands: &[&Expr]) -> Option<Vec<u64>> {
    let rank = operands.iter().map(|o| o.shape().len()).max()?;
    let mut out = vec![1u64; rank];
    for o in operands {
        let skip = rank - o.shape().len();
        for (all, own) in out.iter_mut().skip(skip).zip(o.shape()) {
            if *all != *own && *all != 1 && *own != 1 {
                return None;
            }
            *all = if *all == 1 { *own } else { *all };
        }
    }
    Some(out)
}

/// What an op of some inputs computes: values for tensors. One step from the op's own inputs is that step's meaning.
pub(crate) fn meaning(inputs: &[TensorId], gives: &[(TensorId, Expr)]) -> Meaning {
    if gives.is_empty() || gives.iter().any(|(_, e)| e.is_unknown()) {
        return Meaning::Unstated;
    }
    if let [(_, only)] = gives {
        match &only.0.kind {
            Kind::Tensor(t) if inputs == [*t] => return Meaning::Reshape,
            Kind::Step(meaning, operands)
                if operands.len() == inputs.len() && !inputs.is_empty() =>
            {
                let own =
                    |(o, t): (&Expr, &TensorId)| matches!(o.0.kind, Kind::Tensor(own) if own == *t);
                if operands.iter().zip(inputs).all(own) {
                    return meaning.clone();
                }
            }
            _ => {}
        }
    }
    let mut made = Listing::default();
    for (tensor, expr) in gives {
        made.reads_of(expr);
        made.program.gives.push((*tensor, 0));
    }
    for (i, (_, expr)) in gives.iter().enumerate() {
        made.program.gives[i].1 = made.place(expr);
    }
    Meaning::Program(Box::new(made.program))
}

/// A program in the making, and the places of the values in it.
#[derive(Default)]
struct Listing {
    program: Program,
    tensors: FxHashMap<TensorId, usize>,
    seen: FxHashMap<*const Node, ()>,
    places: FxHashMap<*const Node, usize>,
}

impl Listing {
    fn reads_of(&mut self, expr: &Expr) {
        if self.seen.insert(Rc::as_ptr(&expr.0), ()).is_some() {
            return;
        }
        match &expr.0.kind {
            Kind::Unknown => {}
            Kind::Tensor(t) => {
                if !self.tensors.contains_key(t) {
                    self.tensors.insert(*t, self.program.reads.len());
                    self.program.reads.push(*t);
                }
            }
            Kind::Step(_, operands) => operands.iter().for_each(|o| self.reads_of(o)),
        }
    }

    fn place(&mut self, expr: &Expr) -> usize {
        if let Some(place) = self.places.get(&Rc::as_ptr(&expr.0)) {
            return *place;
        }
        let place = match &expr.0.kind {
            Kind::Unknown => 0,
            Kind::Tensor(t) => self.tensors.get(t).copied().unwrap_or(0),
            Kind::Step(meaning, operands) => {
                let operands = operands.iter().map(|o| self.place(o)).collect();
                self.program.steps.push(Step {
                    meaning: meaning.clone(),
                    operands,
                    shape: expr.0.shape.clone(),
                });
                self.program.reads.len() + self.program.steps.len() - 1
            }
        };
        self.places.insert(Rc::as_ptr(&expr.0), place);
        place
    }
}
