//! Two arithmetics side by side on the same inputs: how far each op's result is from its reference.
//!
//! ```text
//! SQNR     10 log10 (sum x^2 / sum (x - y)^2)       cosine   sum x y / sqrt(sum x^2 sum y^2)
//! ULP      |x - y| in units of the last place, in f32, of the larger of the two: at most 2^24 or so
//! ```
//!
//! Errors are those that reach the op: both runs go on with their own results. An op diverges where its SQNR falls below
//! a bound; the first one that does is named.

use std::collections::BTreeMap;

use presil_workloads::OpId;

use crate::array::Array;
use crate::executor::{Events, ExecutionError, Executor, State, order};

/// How far the results of an op are from their reference, over all inputs and repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Errors {
    /// Pairs of finite numbers.
    pub pairs: u64,
    /// Pairs of which one is not finite, and which are not the same infinity or both NaN.
    pub lost: u64,
    /// Pairs that differ in their bits.
    pub different: u64,
    signal: f64,
    noise: f64,
    product: f64,
    other: f64,
    /// Largest error.
    pub max_abs: f64,
    /// Largest error in units of the last place of the larger of the two.
    pub max_ulp: f64,
    sum_ulp: f64,
    /// Overflows and saturations.
    pub events: Events,
}

impl Errors {
    /// Takes in pairs of a reference and what stands for it.
    pub fn take(&mut self, reference: &Array, given: &Array) {
        for (x, y) in reference.values().iter().zip(given.values()) {
            let (x, y) = (f64::from(*x), f64::from(*y));
            self.different += u64::from(x.to_bits() != y.to_bits() && !(x.is_nan() && y.is_nan()));
            if !(x.is_finite() && y.is_finite()) {
                self.lost += u64::from(x != y && !(x.is_nan() && y.is_nan()));
                continue;
            }
            self.pairs += 1;
            let error = (x - y).abs();
            self.signal += x * x;
            self.noise += error * error;
            self.product += x * y;
            self.other += y * y;
            self.max_abs = self.max_abs.max(error);
            let ulp = error / unit(x.abs().max(y.abs()));
            self.max_ulp = self.max_ulp.max(ulp);
            self.sum_ulp += ulp;
        }
    }

    /// Takes in the errors of other inputs.
    pub fn merge(&mut self, other: &Self) {
        self.pairs += other.pairs;
        self.lost += other.lost;
        self.different += other.different;
        self.signal += other.signal;
        self.noise += other.noise;
        self.product += other.product;
        self.other += other.other;
        self.max_abs = self.max_abs.max(other.max_abs);
        self.max_ulp = self.max_ulp.max(other.max_ulp);
        self.sum_ulp += other.sum_ulp;
        self.events = self.events.and(other.events);
    }

    /// Signal to noise in dB; `None` where there is no noise or no signal.
    pub fn sqnr_db(&self) -> Option<f64> {
        (self.noise > 0.0 && self.signal > 0.0).then(|| 10.0 * (self.signal / self.noise).log10())
    }

    /// Cosine of the angle between the two; 1 where both are zero.
    pub fn cosine(&self) -> f64 {
        let norm = (self.signal * self.other).sqrt();
        if norm > 0.0 {
            (self.product / norm).min(1.0)
        } else {
            1.0
        }
    }

    /// Mean error in units of the last place of the larger of the two.
    pub fn mean_ulp(&self) -> f64 {
        self.sum_ulp / self.pairs.max(1) as f64
    }

    /// Mean squared error.
    pub fn mse(&self) -> f64 {
        self.noise / self.pairs.max(1) as f64
    }
}

/// The unit of the last place of an f32.
fn unit(x: f64) -> f64 {
    let x = (x as f32).abs().max(f32::MIN_POSITIVE);
    f64::from(f32::from_bits(x.to_bits() & 0x7f80_0000)) * 2f64.powi(-23)
}

/// Errors of each op, by op.
pub type ByOp = BTreeMap<OpId, Errors>;

/// Runs both on inputs, and takes in each op's errors.
pub fn side_by_side(
    reference: &Executor<'_>,
    faithful: &Executor<'_>,
    inputs: &BTreeMap<String, Array>,
    errors: &mut ByOp,
) -> Result<(State, State), ExecutionError> {
    let (mut expected, mut given) = (reference.start(inputs)?, faithful.start(inputs)?);
    for (op, repetition) in order(reference.graph) {
        reference.step(&mut expected, op, repetition)?;
        let events = faithful.step(&mut given, op, repetition)?;
        let own = errors.entry(op).or_default();
        own.events = own.events.and(events);
        if let Some(out) = reference.graph.ops[op].outputs.first()
            && let (Some(x), Some(y)) = (expected.tensor(*out), given.tensor(*out))
        {
            own.take(x, y);
        }
    }
    Ok((expected, given))
}
