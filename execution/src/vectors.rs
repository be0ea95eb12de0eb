//! Golden vectors: sums of an op with everything that a unit sees on the way, for those who build it.

use std::collections::BTreeMap;

use presil_numerics::{Exact, Format};
use presil_workloads::{Meaning, OpId};

use crate::arithmetic::Adder;
use crate::array::Array;
use crate::contract::{Factors, Operand};
use crate::executor::{Events, ExecutionError, Executor, extents, order};

/// One sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector {
    /// Where its result stands in the op's output, flat.
    pub place: usize,
    /// First operands, in the order in which the unit takes them; zero where a place has no product.
    pub a: Vec<f32>,
    /// Second operands.
    pub b: Vec<f32>,
    /// What the accumulator starts from.
    pub start: f64,
    /// What accumulators hold after each of their additions.
    pub trace: Vec<f64>,
    /// The sum, before scales and what follows.
    pub sum: f64,
}

/// Sums of one op.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// Formats of the first and the second operand; f32 where schemes or f32 are read.
    pub formats: [Format; 2],
    /// Format of the register that holds the sum.
    pub register: Format,
    /// The sums.
    pub vectors: Vec<Vector>,
}

impl Executor<'_> {
    /// At most `count` sums of a contraction in one run, spread evenly over its output.
    ///
    /// # Errors
    /// Those of a run. `None` of ops that are no contraction in matrix form.
    pub fn vectors(
        &self,
        inputs: &BTreeMap<String, Array>,
        op: OpId,
        count: usize,
    ) -> Result<Option<Vectors>, ExecutionError> {
        let mut state = self.start(inputs)?;
        for (id, repetition) in order(self.graph).take_while(|(id, _)| *id != op) {
            self.step(&mut state, id, repetition)?;
        }
        let (Meaning::Contraction { bias_rank }, Some(plan)) =
            (&self.graph.ops[op].meaning, &self.plans[op.0 as usize])
        else {
            return Ok(None);
        };
        let o = &self.graph.ops[op];
        let read = |i: usize| self.operand(&state, op, *o.inputs.get(i)?, 0);
        let (Some(a), Some(b), Some(out)) = (read(0), read(1), o.outputs.first()) else {
            return Ok(None);
        };
        let shape = extents(&self.graph.tensors[*out].shape);
        let stored = self.stored.get(&(op, 0)).cloned();
        let at = (*bias_rank, shape.as_slice());
        let events = &mut Events::default();
        let Factors { a, b, adder, bias } =
            self.factors(op, (a, b, read(2)), stored, at, events)?;
        let arithmetic = self.arithmetics[op.0 as usize];
        let format = |o: &Operand| match o {
            Operand::Scaled(e) => e.format,
            Operand::Numbers(_) => arithmetic
                .activations
                .element_format()
                .unwrap_or(Format::FP32),
        };
        let (all, width) = (plan.batches * plan.m * plan.n, plan.places_of_sum());
        // One more each time, so that picks go through the columns as well.
        let stride = (all / count.clamp(1, all.max(1))).max(1);
        let picks = (0..count.min(all)).map(|i| i * stride + i % stride);
        let (mut rows, mut columns, mut last) = (Vec::new(), Vec::new(), None);
        let mut vectors = Vec::with_capacity(picks.len());
        for pick in picks {
            let (batch, within) = (pick / (plan.m * plan.n), pick % (plan.m * plan.n));
            if last != Some(batch) {
                plan.a(a.numbers(), batch, &mut rows);
                plan.b(b.numbers(), batch, &mut columns);
                last = Some(batch);
            }
            let (m, n) = (within / plan.n, within % plan.n);
            let left = rows[m * width..(m + 1) * width].to_vec();
            let right: Vec<f32> = (0..width).map(|k| columns[k * plan.n + n]).collect();
            let place = plan.places(batch).nth(within).unwrap_or(0);
            let start = match (&a, b.as_ref(), &bias, adder.is_integer()) {
                (Operand::Scaled(a), Operand::Scaled(b), Some(bias), true) => {
                    let column = if b.scales.len() == 1 { 0 } else { n };
                    let unit =
                        f64::from(a.scales[0]) * f64::from(b.scales[column % b.scales.len()]);
                    (f64::from(bias.at(place)) / unit).round_ties_even()
                }
                _ => 0.0,
            };
            let (sum, trace) = traced(adder, &left, &right, start);
            vectors.push(Vector {
                place,
                a: left,
                b: right,
                start,
                trace,
                sum,
            });
        }
        Ok(Some(Vectors {
            formats: [format(&a), format(&b)],
            register: register(adder),
            vectors,
        }))
    }
}

/// A sum in an adder's arithmetic, and what its accumulators hold on the way.
pub fn traced(adder: &Adder, a: &[f32], b: &[f32], start: f64) -> (f64, Vec<f64>) {
    match adder {
        Adder::F32 => {
            let mut sum = start as f32;
            let steps = a.iter().zip(b).map(|(a, b)| {
                sum = a.mul_add(*b, sum);
                f64::from(sum)
            });
            let trace: Vec<f64> = steps.collect();
            (f64::from(sum), trace)
        }
        Adder::Ordered(summer) => {
            let exact = |x: &[f32]| x.iter().map(|x| Exact::from(*x)).collect::<Vec<_>>();
            let (sum, trace) = summer.trace(&exact(a), &exact(b), Exact::from(start));
            let trace = trace.iter().map(|x| x.to_f64()).collect();
            (sum.value.to_f64(), trace)
        }
        Adder::Fused(unit) => {
            let trace = unit.trace(a, b, start as f32);
            let sum = trace.last().copied().unwrap_or(start as f32);
            (f64::from(sum), trace.into_iter().map(f64::from).collect())
        }
    }
}

/// The format of the register that holds an adder's sum.
pub fn register(adder: &Adder) -> Format {
    match adder {
        Adder::F32 => Format::FP32,
        Adder::Ordered(summer) => {
            let s = &summer.summation;
            s.spill.map_or(s.accumulator, |s| s.accumulator).format
        }
        Adder::Fused(unit) => unit.unit.output,
    }
}
