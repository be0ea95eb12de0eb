//! Rotary position embedding: pairs of numbers turned by an angle that grows with the position.
//!
//! Of a head of d numbers at position p, pair i = 0 .. d/2 - 1:
//!
//! ```text
//! w_i = base^(-2 i / d), rounded to `angle`;   a = round(p w_i) to `angle`;   s = sin(a), c = cos(a) by the units
//! y_1 = round(x_1 c) - round(x_2 s)            halves:      x_1 = x[i],   x_2 = x[i + d/2]
//! y_2 = round(x_1 s) + round(x_2 c)            interleaved: x_1 = x[2 i], x_2 = x[2 i + 1]
//! ```
//!
//! The sum rounds together with its first product with `fma`. Angles of far positions lose bits in narrow registers: with
//! bf16 every position above 256 shares its angle with others. Source: Su et al., "RoFormer", arXiv 2104.09864.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::norm::{LengthError, check};
use super::register::{Register, Rounder};
use super::unit::{Evaluator, FunctionUnit};
use super::{DesignError, Function};

/// How a rotation is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotary {
    /// Of the frequencies.
    pub base: f64,
    /// Which numbers are pairs.
    pub pairs: Pairs,
    /// What arguments are rounded to.
    pub input: Register,
    /// What frequencies and angles are rounded to.
    pub angle: Register,
    /// The sine.
    pub sine: FunctionUnit,
    /// The cosine.
    pub cosine: FunctionUnit,
    /// What products and sums are rounded to.
    pub register: Register,
    /// Whether a product and a sum round once.
    #[serde(default)]
    pub fma: bool,
    /// What results are rounded to.
    pub output: Register,
}

/// Which numbers of a head are pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pairs {
    /// i and i + d/2 (GPT-NeoX, Llama in HuggingFace's form).
    Halves,
    /// 2 i and 2 i + 1 (GPT-J, the original form).
    Interleaved,
}

/// A rotation, made ready.
#[derive(Debug, Clone)]
pub struct RotaryEvaluator {
    base: f64,
    pairs: Pairs,
    input: Rounder,
    angle: Rounder,
    sine: Evaluator,
    cosine: Evaluator,
    register: Rounder,
    fma: bool,
    output: Rounder,
}

impl Rotary {
    /// f32 throughout.
    pub fn reference(base: f64, pairs: Pairs) -> Self {
        let f32 = Register::f32();
        Self {
            base,
            pairs,
            input: f32,
            angle: f32,
            sine: FunctionUnit::reference(Function::Sin, f32, f32),
            cosine: FunctionUnit::reference(Function::Cos, f32, f32),
            register: f32,
            fma: false,
            output: f32,
        }
    }

    /// The rotation made ready.
    pub fn evaluator(&self) -> Result<RotaryEvaluator, DesignError> {
        for (unit, function) in [(&self.sine, Function::Sin), (&self.cosine, Function::Cos)] {
            if unit.function != function {
                return Err(DesignError::Kernel("rotary", unit.function));
            }
        }
        if !(self.base.is_finite() && self.base > 0.0) {
            return Err(DesignError::field("base", "is finite and above zero"));
        }
        let registers = [
            self.input,
            self.register,
            self.sine.output,
            self.cosine.output,
        ];
        let narrow = registers.iter().all(Register::is_narrow);
        Ok(RotaryEvaluator {
            base: self.base,
            pairs: self.pairs,
            input: self.input.rounder(true)?,
            angle: self.angle.rounder(false)?,
            sine: self.sine.evaluator()?,
            cosine: self.cosine.evaluator()?,
            register: self.register.rounder(narrow)?,
            fma: self.fma,
            output: self.output.rounder(true)?,
        })
    }
}

impl RotaryEvaluator {
    /// Sine and cosine of every pair of a head of `length` numbers at a position.
    pub fn factors(&self, position: u32, length: usize) -> Vec<(f64, f64)> {
        let factors = (0..length / 2).map(|i| {
            let exponent = -2.0 * i as f64 / length as f64;
            let frequency = self.angle.one(libm::pow(self.base, exponent));
            let mut angle = [0.0];
            self.angle
                .mul(&[f64::from(position)], &[frequency], &mut angle);
            (self.sine.one(angle[0]), self.cosine.one(angle[0]))
        });
        factors.collect()
    }

    /// A head at a position; `x` has an even number of numbers, `y` as many.
    pub fn apply(&self, x: &[f32], position: u32, y: &mut [f32]) -> Result<(), LengthError> {
        check("a head", x.len(), x.len() / 2 * 2)?;
        check("results", y.len(), x.len())?;
        let half = x.len() / 2;
        let places = |i: usize| match self.pairs {
            Pairs::Halves => (i, i + half),
            Pairs::Interleaved => (2 * i, 2 * i + 1),
        };
        let factors = self.factors(position, x.len());
        let of = |place: usize| self.input.one(f64::from(x[place]));
        let first: Vec<f64> = (0..half).map(|i| of(places(i).0)).collect();
        let second: Vec<f64> = (0..half).map(|i| of(places(i).1)).collect();
        let sine: Vec<f64> = factors.iter().map(|f| f.0).collect();
        let cosine: Vec<f64> = factors.iter().map(|f| f.1).collect();
        let negated: Vec<f64> = second.iter().map(|x| -x).collect();
        let turned = [
            self.combined(&first, &cosine, &negated, &sine),
            self.combined(&first, &sine, &second, &cosine),
        ];
        for (i, (a, b)) in turned[0].iter().zip(&turned[1]).enumerate() {
            let (one, two) = places(i);
            y[one] = self.output.one(*a) as f32;
            y[two] = self.output.one(*b) as f32;
        }
        Ok(())
    }

    /// `a b + round(c d)`.
    fn combined(&self, a: &[f64], b: &[f64], c: &[f64], d: &[f64]) -> Vec<f64> {
        let mut result = vec![0.0; a.len()];
        let chunk = super::lanes::BLOCK;
        for start in (0..a.len()).step_by(chunk) {
            let range = start..(start + chunk).min(a.len());
            let mut product = vec![0.0; range.len()];
            self.register
                .mul(&c[range.clone()], &d[range.clone()], &mut product);
            self.register.mul_add(
                self.fma,
                &a[range.clone()],
                &b[range.clone()],
                &product,
                &mut result[range],
            );
        }
        result
    }
}
