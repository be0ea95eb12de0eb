//! Ops that compute in several steps: each step's value from the values before it.
//!
//! A step is executed as an op of its meaning would be, in the arithmetic of the op; values between steps are numbers of
//! f32. What the program gives at the end is stored as results are.

use std::sync::Arc;

use presil_numerics::arithmetic::matmul::Size;
use presil_numerics::arithmetic::summation::{Accumulator, Summation};
use presil_numerics::{Codec, Conversion, Format, Overflow};
use presil_workloads::{Meaning, OpId, Program, Role, TensorId};
use rayon::prelude::*;

use crate::arithmetic::Adder;
use crate::array::Array;
use crate::executor::{Events, ExecutionError, Executor, State, extents};
use crate::{along, indexing, movement, recurrence};

/// Tensors and what they are given.
type Given = Vec<(TensorId, Arc<Array>)>;

impl Executor<'_> {
    /// The tensors that a program gives; `None` where a step does not fit its operands.
    pub(crate) fn program(
        &self,
        state: &State,
        (id, repetition): (OpId, usize),
        program: &Program,
        events: &mut Events,
    ) -> Result<Option<Given>, ExecutionError> {
        let mut values: Vec<Arc<Array>> = Vec::new();
        // Whether a value is the same for each inference.
        let mut fixed: Vec<bool> = Vec::new();
        for t in &program.reads {
            let Some(read) = self.operand(state, id, *t, repetition) else {
                return Ok(None);
            };
            values.push(read);
            let role = self.graph.tensors[*t].role;
            fixed.push(matches!(role, Role::Weight | Role::Constant));
        }
        for step in &program.steps {
            let operands: Option<Vec<Arc<Array>>> = step
                .operands
                .iter()
                .map(|o| values.get(*o).cloned())
                .collect();
            let Some(operands) = operands else {
                return Ok(None);
            };
            let shape = extents(&step.shape);
            let made = match &step.meaning {
                Meaning::Contraction { bias_rank } => {
                    let [a, b, rest @ ..] = operands.as_slice() else {
                        return Ok(None);
                    };
                    let stored = match step.operands.get(1).and_then(|o| fixed.get(*o)) {
                        Some(true) => Some(self.as_weight(id, b.clone())?),
                        _ => None,
                    };
                    let operands = (a.clone(), b.clone(), rest.first().cloned());
                    let at = (*bias_rank, shape.as_slice());
                    self.contract(id, operands, stored, at, events)?
                }
                Meaning::IntegerContraction => {
                    let [a, b] = operands.as_slice() else {
                        return Ok(None);
                    };
                    self.integer_sums(id, (a, b), &shape, events)?
                }
                meaning => {
                    let seen: Vec<&Array> = operands.iter().map(Arc::as_ref).collect();
                    self.simple(meaning, &seen, (id, repetition), &shape)
                }
            };
            let Some(made) = made else {
                return Ok(None);
            };
            values.push(Arc::new(made));
            let all_fixed = step.operands.iter().all(|o| fixed.get(*o) == Some(&true));
            fixed.push(all_fixed);
        }
        let gives = program
            .gives
            .iter()
            .map(|(t, place)| Some((*t, values.get(*place)?.clone())));
        Ok(gives.collect())
    }

    /// The steps that no op has by itself.
    pub(crate) fn indexed(
        &self,
        meaning: &Meaning,
        inputs: &[&Array],
        (id, repetition): (OpId, usize),
        shape: &[usize],
    ) -> Option<Array> {
        let arithmetic = self.arithmetic(id);
        match meaning {
            Meaning::Constant(values) => {
                let values = values.iter().map(|v| *v as f32).collect();
                Array::new(shape.to_vec(), values).ok()
            }
            Meaning::Convert { format, conversion } => {
                converted(inputs.first()?, *format, *conversion)
            }
            Meaning::Blend { axis, taps } => {
                along::blend(&arithmetic.vector, inputs.first()?, *axis, taps, shape)
            }
            Meaning::Cumulative {
                axis,
                product,
                exclusive,
                reverse,
            } => along::cumulative(
                &arithmetic.vector,
                inputs.first()?,
                *axis,
                *product,
                (*exclusive, *reverse),
            ),
            Meaning::Order {
                axis,
                count,
                largest,
                last,
            } => along::order(inputs.first()?, *axis, *count, (*largest, *last), shape),
            Meaning::Recurrence(layer) => recurrence::layer(arithmetic, layer, inputs, shape),
            Meaning::Take { .. }
            | Meaning::Band { .. }
            | Meaning::GatherElements { .. }
            | Meaning::GatherVectors { .. }
            | Meaning::ScatterElements { .. }
            | Meaning::ScatterVectors { .. } => indexing::indexed(meaning, inputs, shape),
            moves => movement::moved(moves, inputs, shape, repetition),
        }
    }

    /// The sums of products of a model's own integers: by the adders of the arithmetic where those are integer adders, else
    /// exact.
    pub(crate) fn integer_sums(
        &self,
        id: OpId,
        (a, b): (&Array, &Array),
        shape: &[usize],
        events: &mut Events,
    ) -> Result<Option<Array>, ExecutionError> {
        let Some(plan) = self.plan(id) else {
            return Ok(None);
        };
        let adding = |error| ExecutionError::Adder {
            op: self.graph.ops[id].name.clone(),
            error,
        };
        let exact = Summation::sequential(Accumulator::int(62, Overflow::Wrap));
        let exact = exact.summer().map_err(adding)?;
        let summer = match &self.arithmetic(id).adder {
            Adder::Ordered(summer) if self.arithmetic(id).adder.is_integer() => summer,
            _ => &exact,
        };
        let size = Size {
            m: plan.m,
            n: plan.n,
            k: plan.places_of_sum(),
        };
        let mut out = Array::zeros(shape);
        let (mut rows, mut columns) = (Vec::new(), Vec::new());
        let ints = |matrix: &[f32]| matrix.iter().map(|x| *x as i32).collect::<Vec<i32>>();
        for batch in 0..plan.batches {
            plan.a(a.values(), batch, &mut rows);
            plan.b(b.values(), batch, &mut columns);
            let mut sums = vec![0i64; plan.m * plan.n];
            let added = summer.matmul_int(&ints(&rows), &ints(&columns), &mut sums, size);
            events.overflows += added.map_err(adding)?;
            for (place, sum) in plan.places(batch).zip(&sums) {
                out.values_mut()[place] = *sum as f32;
            }
        }
        Ok(Some(out))
    }
}

/// Each number as the nearest of a format.
fn converted(x: &Array, format: Format, conversion: Conversion) -> Option<Array> {
    let codec = Codec::new(format, conversion).ok()?;
    let mut out = x.clone();
    out.values_mut()
        .par_iter_mut()
        .for_each(|v| *v = codec.rounded(f64::from(*v), 0).0 as f32);
    Some(out)
}
