//! LayerNorm, RMSNorm and GroupNorm, as units and passes make them.
//!
//! Of a row of n numbers, with every `round` to the design's register and sums as [`Sum`] states:
//!
//! ```text
//! layer   mean = round(sum x * k),  k = round(1/n)
//!         variance, deviations:   d_i = round(x_i - mean);  v = round(sum d_i^2 * k)
//!         variance, moments:      v = round(round(sum x_i^2 * k) - round(mean^2)), not below 0
//!         r = rsqrt(round(v + epsilon));   y_i = round(round(d_i r) gamma_i) + beta_i        (one rounding with `fma`)
//! rms     v = round(sum x_i^2 * k);   r = rsqrt(round(v + epsilon));   y_i = round(round(x_i r) gamma_i)
//! group   `layer` over the channels of a group and all their places; gamma and beta by channel
//! ```
//!
//! Moments take one pass over the row and cancel where the mean is large against the deviation. A constant relative error
//! of the rsqrt unit is a gain error of the whole row.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::lanes::BLOCK;
use super::reduce::{Sum, SumState};
use super::register::{Register, Rounder};
use super::unit::{Evaluator, FunctionUnit};
use super::{DesignError, Function};

/// How a norm is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Norm {
    /// What it takes out.
    pub kind: NormKind,
    /// How the variance is made; of `rms`, there is one way.
    #[serde(default)]
    pub variance: Variance,
    /// What is added to the variance.
    pub epsilon: f64,
    /// What arguments, gamma and beta are rounded to.
    pub input: Register,
    /// How numbers and squares are added up.
    pub sum: Sum,
    /// What the other operations are rounded to.
    pub register: Register,
    /// Whether a product and a sum round once.
    #[serde(default)]
    pub fma: bool,
    /// The inverse root.
    pub rsqrt: FunctionUnit,
    /// What results are rounded to.
    pub output: Register,
}

/// What a norm takes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Mean and deviation.
    Layer,
    /// The root of the mean square.
    Rms,
}

/// How a variance is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Variance {
    /// The mean of squared deviations, in a pass of its own.
    #[default]
    Deviations,
    /// The mean of squares less the square of the mean.
    Moments,
}

/// Slices that don't belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{what}: {found} numbers where {expected} are due")]
pub struct LengthError {
    /// What has another length.
    pub what: &'static str,
    /// How many there are.
    pub found: usize,
    /// How many there should be.
    pub expected: usize,
}

pub(crate) fn check(what: &'static str, found: usize, expected: usize) -> Result<(), LengthError> {
    if found == expected {
        Ok(())
    } else {
        Err(LengthError {
            what,
            found,
            expected,
        })
    }
}

/// A norm, made ready.
#[derive(Debug, Clone)]
pub struct NormEvaluator {
    kind: NormKind,
    variance: Variance,
    epsilon: f64,
    input: Rounder,
    sum: SumState,
    register: Rounder,
    fma: bool,
    rsqrt: Evaluator,
    output: Rounder,
}

impl Norm {
    /// f32 throughout, the root correctly rounded but for rare hard cases.
    pub fn reference(kind: NormKind, epsilon: f64) -> Self {
        let f32 = Register::f32();
        Self {
            kind,
            variance: Variance::Deviations,
            epsilon,
            input: f32,
            sum: Sum::sequential(f32),
            register: f32,
            fma: false,
            rsqrt: FunctionUnit::reference(Function::Rsqrt, f32, f32),
            output: f32,
        }
    }

    /// The norm made ready.
    pub fn evaluator(&self) -> Result<NormEvaluator, DesignError> {
        if self.rsqrt.function != Function::Rsqrt {
            return Err(DesignError::Kernel("norm's rsqrt", self.rsqrt.function));
        }
        let registers = [
            self.input,
            self.register,
            self.sum.register,
            self.rsqrt.output,
        ];
        let narrow = registers.iter().all(Register::is_narrow);
        let register = self.register.rounder(narrow)?;
        Ok(NormEvaluator {
            kind: self.kind,
            variance: self.variance,
            epsilon: register.one(self.epsilon),
            input: self.input.rounder(true)?,
            sum: self.sum.ready(narrow)?,
            register,
            fma: self.fma,
            rsqrt: self.rsqrt.evaluator()?,
            output: self.output.rounder(true)?,
        })
    }
}

impl NormEvaluator {
    /// The norm of one row; gamma and beta, where there are any, are as long.
    pub fn apply(
        &self,
        x: &[f32],
        gamma: Option<&[f32]>,
        beta: Option<&[f32]>,
        y: &mut [f32],
    ) -> Result<(), LengthError> {
        check("gamma", gamma.map_or(x.len(), <[f32]>::len), x.len())?;
        check("beta", beta.map_or(x.len(), <[f32]>::len), x.len())?;
        check("results", y.len(), x.len())?;
        let normalized = self.normalized(x);
        let gamma = gamma.map(|g| self.read(g));
        let beta = beta.map(|b| self.read(b));
        self.affine(&normalized, gamma.as_deref(), beta.as_deref(), y);
        Ok(())
    }

    /// GroupNorm: `x` holds `places` numbers of each channel, gamma and beta one a channel.
    pub fn apply_groups(
        &self,
        x: &[f32],
        groups: usize,
        gamma: &[f32],
        beta: &[f32],
        y: &mut [f32],
    ) -> Result<(), LengthError> {
        let channels = gamma.len();
        check("beta", beta.len(), channels)?;
        check("results", y.len(), x.len())?;
        let each = channels.checked_div(groups).unwrap_or(0);
        check("channels of groups", each * groups, channels)?;
        let places = x.len().checked_div(channels).unwrap_or(0);
        check("numbers of channels", places * channels, x.len())?;
        if x.is_empty() {
            return Ok(());
        }
        let (gamma, beta) = (self.read(gamma), self.read(beta));
        let rows = x.chunks(each * places).zip(y.chunks_mut(each * places));
        for (group, (x, y)) in rows.enumerate() {
            let normalized = self.normalized(x);
            let of = |values: &[f64]| -> Vec<f64> {
                let own = &values[group * each..(group + 1) * each];
                own.iter()
                    .flat_map(|v| std::iter::repeat_n(*v, places))
                    .collect()
            };
            self.affine(&normalized, Some(&of(&gamma)), Some(&of(&beta)), y);
        }
        Ok(())
    }

    fn read(&self, x: &[f32]) -> Vec<f64> {
        let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let mut row = vec![0.0; wide.len()];
        self.input.convert(&wide, &mut row);
        row
    }

    fn one(&self, operation: impl Fn(&Rounder, &mut [f64])) -> f64 {
        let mut out = [0.0];
        operation(&self.register, &mut out);
        out[0]
    }

    fn squares(&self, row: &[f64]) -> f64 {
        let mut partial = self.sum.start();
        self.sum.add_squares(&mut partial, row, 0, self.fma);
        self.sum.finish(&partial)
    }

    fn normalized(&self, x: &[f32]) -> Vec<f64> {
        let row = self.read(x);
        let share = self.register.one(1.0 / row.len().max(1) as f64);
        let mean_of = |sum: f64| self.one(|r, out| r.mul(&[sum], &[share], out));
        let (centred, variance) = match self.kind {
            NormKind::Rms => {
                let variance = mean_of(self.squares(&row));
                (row, variance)
            }
            NormKind::Layer => {
                let mut partial = self.sum.start();
                self.sum.add(&mut partial, &row, 0);
                let mean = mean_of(self.sum.finish(&partial));
                let mut centred = vec![0.0; row.len()];
                self.register
                    .add(&row, &vec![-mean; row.len()], &mut centred);
                let variance = match self.variance {
                    Variance::Deviations => mean_of(self.squares(&centred)),
                    Variance::Moments => {
                        let square = self.one(|r, out| r.mul(&[mean], &[mean], out));
                        let moment = mean_of(self.squares(&row));
                        self.one(|r, out| r.add(&[moment], &[-square], out))
                            .max(0.0)
                    }
                };
                (centred, variance)
            }
        };
        let shifted = self.one(|r, out| r.add(&[variance], &[self.epsilon], out));
        let root = self.rsqrt.one(shifted);
        let mut normalized = vec![0.0; centred.len()];
        self.register
            .mul(&centred, &vec![root; centred.len()], &mut normalized);
        normalized
    }

    fn affine(&self, x: &[f64], gamma: Option<&[f64]>, beta: Option<&[f64]>, y: &mut [f32]) {
        for (block, out) in y.chunks_mut(BLOCK).enumerate() {
            let range = block * BLOCK..block * BLOCK + out.len();
            let x = &x[range.clone()];
            let mut result = vec![0.0; x.len()];
            match (gamma, beta) {
                (Some(g), Some(b)) => {
                    self.register
                        .mul_add(self.fma, x, &g[range.clone()], &b[range], &mut result);
                }
                (Some(g), None) => self.register.mul(x, &g[range], &mut result),
                (None, Some(b)) => self.register.add(x, &b[range], &mut result),
                (None, None) => result.copy_from_slice(x),
            }
            let mut rounded = vec![0.0; x.len()];
            self.output.convert(&result, &mut rounded);
            for (y, r) in out.iter_mut().zip(&rounded) {
                *y = *r as f32;
            }
        }
    }
}
