//! Contractions: operands as their storage holds them, sums as the adders give them.

use std::sync::Arc;

use presil_workloads::OpId;

use crate::arithmetic::{Adder, Arithmetic};
use crate::array::Array;
use crate::contraction::scatter;
use crate::executor::{Events, ExecutionError, Executor};
use crate::products;
use crate::storage::{Elements, Storage, StorageError};
use crate::vector::VectorUnit;

/// An operand of a contraction as its storage holds it.
#[derive(Debug, Clone)]
pub(crate) enum Operand {
    /// Numbers.
    Numbers(Arc<Array>),
    /// Elements beside scales, where both operands are stored so.
    Scaled(Elements),
}

/// What a contraction is made of before its products are added.
pub(crate) struct Factors<'a> {
    pub a: Operand,
    pub b: Arc<Operand>,
    pub adder: &'a Adder,
    pub bias: Option<Bias>,
}

impl<'a> Executor<'a> {
    /// The operands of a contraction as the op's arithmetic stores them; `stored` is the second one where it was stored
    /// before.
    pub(crate) fn factors(
        &self,
        id: OpId,
        (a, b, bias): (Arc<Array>, Arc<Array>, Option<Arc<Array>>),
        stored: Option<Arc<Operand>>,
        (bias_rank, shape): (usize, &[usize]),
        events: &mut Events,
    ) -> Result<Factors<'a>, ExecutionError> {
        let op = &self.graph.ops[id];
        let arithmetic = self.arithmetics[id.0 as usize];
        let bias = bias.map(|b| Bias::new(&b, bias_rank, shape));
        let wrong = |error| ExecutionError::Storage {
            op: op.name.clone(),
            error,
        };
        let a = operand((&a, 0), &arithmetic.activations, arithmetic, events).map_err(wrong)?;
        let (adder, b) = match stored {
            Some(stored) => (&arithmetic.adder, stored),
            None => {
                let b = operand((&b, 0), &arithmetic.activations, arithmetic, events);
                (&arithmetic.activation_adder, Arc::new(b.map_err(wrong)?))
            }
        };
        if adder.is_integer() {
            let integers = |o: &Operand| matches!(o, Operand::Scaled(e) if e.format.is_int());
            let one_scale = matches!(&a, Operand::Scaled(e) if e.scales.len() == 1);
            if !(integers(&a) && integers(&b) && one_scale) {
                return Err(ExecutionError::NoIntegers(op.name.clone()));
            }
        }
        Ok(Factors { a, b, adder, bias })
    }

    /// The contraction of operands and a bias.
    pub(crate) fn contract(
        &self,
        id: OpId,
        operands: (Arc<Array>, Arc<Array>, Option<Arc<Array>>),
        stored: Option<Arc<Operand>>,
        (bias_rank, shape): (usize, &[usize]),
        events: &mut Events,
    ) -> Result<Option<Array>, ExecutionError> {
        let op = &self.graph.ops[id];
        let arithmetic = self.arithmetics[id.0 as usize];
        let Some(einsum) = op.contraction() else {
            return Ok(None);
        };
        let factors = self.factors(id, operands, stored, (bias_rank, shape), events)?;
        let Factors { a, b, adder, bias } = factors;
        let mut sums = Array::zeros(shape);
        let (left, right) = (a.numbers(), b.numbers());
        let Some(plan) = &self.plans[id.0 as usize] else {
            if matches!(a, Operand::Scaled(_)) {
                return Err(ExecutionError::NoIntegers(op.name.clone()));
            }
            scatter(einsum, left, right, sums.values_mut());
            return Ok(Some(with_bias(&arithmetic.vector, sums, bias.as_ref())));
        };
        let adding = |error| ExecutionError::Adder {
            op: op.name.clone(),
            error,
        };
        if let (Adder::Ordered(summer), Operand::Scaled(a), Operand::Scaled(b)) =
            (adder, &a, b.as_ref())
            && adder.is_integer()
        {
            let measure = arithmetic.measures_width;
            let integers = products::Integers {
                plan,
                summer,
                measure,
            };
            let made = integers.add(a, b, bias.as_ref(), sums.values_mut(), events);
            made.map_err(adding)?;
            return Ok(Some(sums));
        }
        products::floats(plan, adder, (left, right), sums.values_mut(), events).map_err(adding)?;
        if let (Operand::Scaled(a), Operand::Scaled(b)) = (&a, b.as_ref()) {
            products::scale(plan, a, b, sums.values_mut());
        }
        Ok(Some(with_bias(&arithmetic.vector, sums, bias.as_ref())))
    }
}

impl Operand {
    /// Its numbers, or its elements.
    pub(crate) fn numbers(&self) -> &[f32] {
        match self {
            Self::Numbers(x) => x.values(),
            Self::Scaled(e) => &e.values,
        }
    }
}

/// A contraction's operand, whose channels lie along an axis: its elements and scales where both operands are stored under scales, else its numbers.
pub(crate) fn operand(
    (x, axis): (&Arc<Array>, usize),
    storage: &Storage,
    arithmetic: &Arithmetic,
    events: &mut Events,
) -> Result<Operand, StorageError> {
    if arithmetic.scales_apart()
        && let Some(elements) = storage.elements(x, axis)
    {
        return Ok(Operand::Scaled(elements));
    }
    if storage.keeps() && arithmetic.activations.keeps() {
        return Ok(Operand::Numbers(x.clone()));
    }
    let (mut stored, beyond) = storage.store(x, axis)?;
    events.saturated += beyond;
    // Weights of a narrower format meet activations in theirs.
    if let Storage::Rounded(_) = arithmetic.activations {
        stored = arithmetic.activations.store(&stored, axis)?.0;
    }
    Ok(Operand::Numbers(Arc::new(stored)))
}

/// Sums and a bias, added as the vector unit adds.
fn with_bias(unit: &VectorUnit, mut sums: Array, bias: Option<&Bias>) -> Array {
    if let Some(bias) = bias {
        for (place, sum) in sums.values_mut().iter_mut().enumerate() {
            *sum = unit.step(f64::from(*sum) + f64::from(bias.at(place))) as f32;
        }
    }
    sums
}

/// A bias as seen at each place of an output.
pub(crate) struct Bias {
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

    pub(crate) fn at(&self, place: usize) -> f32 {
        self.values[place / self.inner.max(1) % self.values.len().max(1)]
    }
}
