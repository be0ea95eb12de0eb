//! Contractions in the arithmetic of an op: what its operands are stored as, its adder, its bias.

use std::sync::Arc;

use presil_numerics::arithmetic::matmul::Size;
use presil_workloads::formula::Binary;
use presil_workloads::{Formula, OpId};

use crate::arithmetic::Adder;
use crate::array::Array;
use crate::contraction::{Plan, scatter};
use crate::executor::{Events, ExecutionError, Executor};
use crate::storage::{Codes, Storage};

impl Executor<'_> {
    /// An op's contraction of operands and a bias; `stored` is the second one as the arithmetic stores it.
    pub(crate) fn contract(
        &self,
        id: OpId,
        (a, b, bias): (Arc<Array>, Arc<Array>, Option<Arc<Array>>),
        stored: Option<&(Arc<Array>, Option<Codes>)>,
        (bias_rank, shape): (usize, &[usize]),
        events: &mut Events,
    ) -> Result<Option<Array>, ExecutionError> {
        let op = &self.graph.ops[id];
        let arithmetic = self.arithmetics[id.0 as usize];
        let Some(einsum) = op.contraction() else {
            return Ok(None);
        };
        let wrong = |error| ExecutionError::Storage {
            op: op.name.clone(),
            error,
        };
        if arithmetic.adder.is_integer() {
            let a = arithmetic.activations.codes(&a);
            let b = match stored {
                Some((_, codes)) => codes.clone(),
                None => arithmetic.activations.codes(&b),
            };
            let (Some(a), Some(b), Some(plan)) = (a, b, &self.plans[id.0 as usize]) else {
                return Err(ExecutionError::NoIntegers(op.name.clone()));
            };
            if a.scales.len() > 1 {
                return Err(ExecutionError::NoIntegers(op.name.clone()));
            }
            let bias = bias.as_ref().map(|b| Bias::new(b, bias_rank, shape));
            return self
                .integers(id, plan, (&a, &b), bias, shape, events)
                .map(Some);
        }
        let keep = |storage: &Storage, x: Arc<Array>, events: &mut Events| {
            if storage.keeps() {
                return Ok(x);
            }
            let (stored, beyond) = storage.store(&x)?;
            events.saturated += beyond;
            Ok(Arc::new(stored))
        };
        let a = keep(&arithmetic.activations, a, events).map_err(wrong)?;
        let b = match stored {
            Some((stored, _)) => stored.clone(),
            None => keep(&arithmetic.activations, b, events).map_err(wrong)?,
        };
        let mut sums = Array::zeros(shape);
        match &self.plans[id.0 as usize] {
            Some(plan) => self.products(id, plan, (&a, &b), sums.values_mut(), events)?,
            None => scatter(einsum, a.values(), b.values(), sums.values_mut()),
        }
        let Some(bias) = bias else {
            return Ok(Some(sums));
        };
        // The bias, seen along its ranks, is added as the vector unit adds.
        let mut along = vec![1; shape.len()];
        for (extent, all) in along
            .iter_mut()
            .zip(shape)
            .skip(bias_rank)
            .take(bias.shape().len().max(1))
        {
            *extent = *all;
        }
        let Ok(bias) = bias.as_ref().clone().reshaped(&along) else {
            return Ok(None);
        };
        let sum = Formula::of_two(Binary::Add);
        Ok(arithmetic.vector.elementwise(&sum, &[&sums, &bias], shape))
    }

    fn products(
        &self,
        id: OpId,
        plan: &Plan,
        (a, b): (&Array, &Array),
        out: &mut [f32],
        events: &mut Events,
    ) -> Result<(), ExecutionError> {
        let (op, arithmetic) = (&self.graph.ops[id], self.arithmetics[id.0 as usize]);
        let size = Size {
            m: plan.m,
            n: plan.n,
            k: plan.k,
        };
        let (mut rows, mut columns) = (Vec::new(), Vec::new());
        let mut c = vec![0f32; plan.m * plan.n];
        for batch in 0..plan.batches {
            plan.a(a.values(), batch, &mut rows);
            plan.b(b.values(), batch, &mut columns);
            c.fill(0.0);
            let added = arithmetic.adder.add(&rows, &columns, &mut c, size);
            events.overflows += added.map_err(|error| ExecutionError::Adder {
                op: op.name.clone(),
                error,
            })?;
            plan.mask(batch, &mut c);
            for (place, c) in plan.places(batch).zip(&c) {
                out[place] = *c;
            }
        }
        Ok(())
    }

    fn integers(
        &self,
        id: OpId,
        plan: &Plan,
        (a, b): (&Codes, &Codes),
        bias: Option<Bias>,
        shape: &[usize],
        events: &mut Events,
    ) -> Result<Array, ExecutionError> {
        let op = &self.graph.ops[id];
        let Adder::Ordered(summer) = &self.arithmetics[id.0 as usize].adder else {
            return Err(ExecutionError::NoIntegers(op.name.clone()));
        };
        let size = Size {
            m: plan.m,
            n: plan.n,
            k: plan.k,
        };
        let last = summer
            .summation
            .spill
            .map_or(summer.summation.accumulator, |s| s.accumulator);
        let range = last.format.int_range();
        let (least, largest) = range.map_or((i64::MIN, i64::MAX), |r| {
            (r.least() as i64, r.largest() as i64)
        });
        // The matrices are gathered as f32, which holds codes of up to 24 bits exactly.
        let as_floats = |codes: &[i32]| codes.iter().map(|c| *c as f32).collect::<Vec<f32>>();
        let (a_codes, b_codes) = (as_floats(&a.codes), as_floats(&b.codes));
        let b_scales: Vec<f32> = {
            let run = (b.codes.len() / b.scales.len().max(1)).max(1);
            (0..b.codes.len()).map(|i| b.scales[i / run]).collect()
        };
        let (mut rows, mut columns, mut scales) = (Vec::new(), Vec::new(), Vec::new());
        let mut out = Array::zeros(shape);
        let mut c = vec![0i64; plan.m * plan.n];
        for batch in 0..plan.batches {
            plan.a(&a_codes, batch, &mut rows);
            plan.b(&b_codes, batch, &mut columns);
            plan.b(&b_scales, batch, &mut scales);
            let places: Vec<usize> = plan.places(batch).collect();
            let scale_of = |i: usize| f64::from(a.scales[0]) * f64::from(scales[i % plan.n]);
            for (i, c) in c.iter_mut().enumerate() {
                let start = bias
                    .as_ref()
                    .map_or(0.0, |b| f64::from(b.at(places[i])) / scale_of(i));
                *c = (start.round_ties_even() as i64).clamp(least, largest);
            }
            let ints = |matrix: &[f32]| matrix.iter().map(|x| *x as i32).collect::<Vec<i32>>();
            let added = summer.matmul_int(&ints(&rows), &ints(&columns), &mut c, size);
            events.overflows += added.map_err(|error| ExecutionError::Adder {
                op: op.name.clone(),
                error,
            })?;
            for (i, place) in places.iter().enumerate() {
                out.values_mut()[*place] = (c[i] as f64 * scale_of(i)) as f32;
            }
        }
        Ok(out)
    }
}

/// A bias as seen at each place of an output.
struct Bias {
    values: Vec<f32>,
    inner: usize,
}

impl Bias {
    fn new(bias: &Array, rank: usize, shape: &[usize]) -> Self {
        Self {
            values: bias.values().to_vec(),
            inner: shape
                .get(rank + bias.shape().len().max(1)..)
                .map_or(1, |s| s.iter().product()),
        }
    }

    fn at(&self, place: usize) -> f32 {
        self.values[place / self.inner.max(1) % self.values.len().max(1)]
    }
}
