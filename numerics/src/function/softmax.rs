//! Softmax of a row, as units and passes make it.
//!
//! ```text
//! three passes   m = max x;   s = sum e_i,  e_i = E(x_i - m);   y_i = e_i / s
//! online         by blocks, one pass for m and s:  m' = max(m, max of the block);  s <- s E(m - m'), then + E(x_i - m')
//!                (not for the first block);  then y_i = E(x_i - m) / s
//! two passes     no maximum: e_i = p_i 2^n_i (an exponential design's two halves);  n = max n_i so far, the sum of p
//!                kept as s 2^n:  s <- s 2^(n - n') + p_i 2^(n_i - n');  then y_i = (p_i / s) 2^(n_i - n)
//! ```
//!
//! `E(d)`: the difference is rounded to `difference`; in base e an `exp` unit takes it, or an `exp2` unit takes it times
//! log2(e), rounded to `difference` again; in base 2 (Softermax) an `exp2` unit takes it. Division by the sum is a product
//! with a `reciprocal` unit's result, rounded to `product`, or a `division` unit. Multiplication by a power of two is exact
//! before the rounding of the sum that follows. The maximum is exact. A row of nothing but -inf gives NaN, as -inf - -inf does.
//!
//! Sources: online: Milakov, Gimelshein, "Online normalizer calculation for softmax", arXiv 1805.02867; two passes: Dukhan,
//! Ablavatski, "Two-pass softmax algorithm", arXiv 2001.04438; base 2: Stevens et al., "Softermax", DAC 2021.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lanes::BLOCK;
use super::reduce::{Sum, SumState};
use super::register::{Register, Rounder, power};
use super::unit::{Design, Evaluator, FunctionUnit};
use super::{DesignError, Function};

/// How a softmax is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Softmax {
    /// The order of passes over the row.
    pub passes: Passes,
    /// What is raised to the differences.
    #[serde(default)]
    pub base: Base,
    /// What arguments are rounded to.
    pub input: Register,
    /// What differences to the maximum are rounded to.
    pub difference: Register,
    /// The exponential: `exp` or `exp2`.
    pub exponential: FunctionUnit,
    /// How exponentials are added up.
    pub sum: Sum,
    /// A `reciprocal` or a `division` unit.
    pub normalizer: FunctionUnit,
    /// What the product with the reciprocal is rounded to.
    pub product: Register,
    /// What results are rounded to.
    pub output: Register,
}

/// The order of passes over a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Passes {
    /// Maximum, sum, quotients.
    Three,
    /// Exponents apart instead of a maximum.
    Two,
    /// Maximum and sum at once, by blocks of so many.
    Online(u32),
}

/// What is raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// e.
    #[default]
    E,
    /// 2.
    Two,
}

/// A softmax, made ready.
#[derive(Debug, Clone)]
pub struct SoftmaxEvaluator {
    passes: Passes,
    input: Rounder,
    difference: Rounder,
    /// log2(e), where an `exp2` unit makes powers of e.
    factor: Option<f64>,
    exponential: Evaluator,
    sum: SumState,
    normalizer: Evaluator,
    product: Rounder,
    output: Rounder,
}

impl Softmax {
    /// f32 throughout, functions correctly rounded but for their rare hard cases.
    pub fn reference(passes: Passes) -> Self {
        let f32 = Register::f32();
        Self {
            passes,
            base: Base::E,
            input: f32,
            difference: f32,
            exponential: FunctionUnit::reference(Function::Exp, f32, f32),
            sum: Sum::sequential(f32),
            normalizer: FunctionUnit::reference(Function::Division, f32, f32),
            product: f32,
            output: f32,
        }
    }

    /// The softmax made ready.
    pub fn evaluator(&self) -> Result<SoftmaxEvaluator, DesignError> {
        let registers = [self.input, self.difference, self.exponential.output];
        let narrow = registers.iter().all(Register::is_narrow);
        let difference = self.difference.rounder(narrow)?;
        let factor = match (self.exponential.function, self.base) {
            (Function::Exp, Base::E) | (Function::Exp2, Base::Two) => None,
            (Function::Exp2, Base::E) => Some(difference.one(std::f64::consts::LOG2_E)),
            (other, _) => return Err(DesignError::Kernel("softmax exponential", other)),
        };
        let normalizer = self.normalizer.function;
        if !matches!(normalizer, Function::Reciprocal | Function::Division) {
            return Err(DesignError::Kernel("softmax normalizer", normalizer));
        }
        let splits = matches!(self.exponential.design, Design::Exponential(_));
        if self.passes == Passes::Two && !(splits && factor.is_none()) {
            return Err(DesignError::Kernel(
                "two-pass softmax of a fraction",
                self.exponential.function,
            ));
        }
        if matches!(self.passes, Passes::Online(block) if !(1..=1 << 20).contains(&block)) {
            return Err(DesignError::field(
                "online",
                "blocks have 1 to 2^20 numbers",
            ));
        }
        let products = [self.exponential.output, self.normalizer.output];
        Ok(SoftmaxEvaluator {
            passes: self.passes,
            input: self.input.rounder(true)?,
            difference,
            factor,
            exponential: self.exponential.evaluator()?,
            sum: self.sum.ready(narrow)?,
            normalizer: self.normalizer.evaluator()?,
            product: self
                .product
                .rounder(products.iter().all(Register::is_narrow))?,
            output: self.output.rounder(true)?,
        })
    }
}

impl SoftmaxEvaluator {
    /// The softmax of one row; `y` is as long as `x`.
    pub fn apply(&self, x: &[f32], y: &mut [f32]) {
        let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let mut row = vec![0.0; wide.len()];
        self.input.convert(&wide, &mut row);
        let quotients = match self.passes {
            Passes::Two => self.two_passes(&row),
            Passes::Three => {
                let largest = maximum(&row);
                let mut partial = self.sum.start();
                for (block, x) in row.chunks(BLOCK).enumerate() {
                    self.sum
                        .add(&mut partial, &self.powers(x, largest), block * BLOCK);
                }
                self.quotients(&row, largest, self.sum.finish(&partial))
            }
            Passes::Online(length) => {
                let (largest, partial) = self.online(&row, length as usize);
                self.quotients(&row, largest, self.sum.finish(&partial))
            }
        };
        let mut rounded = vec![0.0; quotients.len()];
        self.output.convert(&quotients, &mut rounded);
        for (y, q) in y.iter_mut().zip(&rounded) {
            *y = *q as f32;
        }
    }

    fn online(&self, row: &[f64], length: usize) -> (f64, Vec<f64>) {
        let mut partial = self.sum.start();
        let mut largest = f64::NEG_INFINITY;
        for (block, x) in row.chunks(length).enumerate() {
            let raised = largest.max(maximum(x));
            if block > 0 {
                let factor = self.powers(&[largest], raised)[0];
                self.sum.scale(&mut partial, factor);
            }
            largest = raised;
            for (part, x) in x.chunks(BLOCK).enumerate() {
                let index = block * length + part * BLOCK;
                self.sum.add(&mut partial, &self.powers(x, largest), index);
            }
        }
        (largest, partial)
    }

    /// `E(x - largest)` of a block's numbers at most.
    fn powers(&self, x: &[f64], largest: f64) -> Vec<f64> {
        let mut lanes = [largest; BLOCK];
        lanes[..x.len()].copy_from_slice(x);
        let mut difference = [0.0; BLOCK];
        self.difference
            .sub(&lanes, &[largest; BLOCK], &mut difference);
        if let Some(factor) = self.factor {
            let of_e = difference;
            self.difference
                .mul(&of_e, &[factor; BLOCK], &mut difference);
        }
        self.exponential.evaluate(&difference, None)[..x.len()].to_vec()
    }

    fn quotients(&self, row: &[f64], largest: f64, sum: f64) -> Vec<f64> {
        let by = self.divider(sum);
        let blocks = row.chunks(BLOCK);
        blocks
            .flat_map(|x| by.divide(&self.powers(x, largest)))
            .collect()
    }

    fn divider(&self, sum: f64) -> Divider<'_> {
        let reciprocal = self.normalizer.unit().function == Function::Reciprocal;
        Divider {
            softmax: self,
            sum,
            reciprocal: reciprocal.then(|| self.normalizer.one(sum)),
        }
    }

    fn two_passes(&self, row: &[f64]) -> Vec<f64> {
        let mut partial = self.sum.start();
        let mut exponent = f64::NEG_INFINITY;
        let halves: Vec<(f64, f64)> = row.chunks(BLOCK).flat_map(|x| self.halves(x)).collect();
        for (index, (p, n)) in halves.iter().enumerate() {
            if *n > exponent {
                let down = power_of(exponent - n);
                for s in &mut partial {
                    let scaled = [*s * down];
                    let mut out = [0.0];
                    self.sum.register.convert(&scaled, &mut out);
                    *s = out[0];
                }
                exponent = *n;
            }
            let mut term = [0.0];
            self.sum
                .register
                .convert(&[p * power_of(n - exponent)], &mut term);
            self.sum.add(&mut partial, &term, index);
        }
        let by = self.divider(self.sum.finish(&partial));
        let blocks = halves.chunks(BLOCK).flat_map(|block| {
            let p: Vec<f64> = block.iter().map(|(p, _)| *p).collect();
            let quotients = by.divide(&p);
            let shifted = quotients.iter().zip(block);
            shifted
                .map(|(q, (_, n))| q * power_of(n - exponent))
                .collect::<Vec<_>>()
        });
        blocks.collect()
    }

    fn halves(&self, x: &[f64]) -> Vec<(f64, f64)> {
        let mut lanes = [0.0; BLOCK];
        lanes[..x.len()].copy_from_slice(x);
        let (p, n) = self.exponential.halves(&lanes);
        p.into_iter().zip(n).take(x.len()).collect()
    }
}

/// `2^n`, zero far below.
fn power_of(n: f64) -> f64 {
    if n < -1000.0 { 0.0 } else { power(n as i32) }
}

/// The largest number; NaN where one is.
fn maximum(x: &[f64]) -> f64 {
    let larger = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
    x.iter().copied().fold(f64::NEG_INFINITY, larger)
}

struct Divider<'a> {
    softmax: &'a SoftmaxEvaluator,
    sum: f64,
    reciprocal: Option<f64>,
}

impl Divider<'_> {
    fn divide(&self, e: &[f64]) -> Vec<f64> {
        let mut lanes = [0.0; BLOCK];
        lanes[..e.len()].copy_from_slice(e);
        let mut quotients = [0.0; BLOCK];
        match self.reciprocal {
            Some(r) => self
                .softmax
                .product
                .mul(&lanes, &[r; BLOCK], &mut quotients),
            None => {
                quotients = self
                    .softmax
                    .normalizer
                    .evaluate(&[self.sum; BLOCK], Some(&lanes));
            }
        }
        quotients[..e.len()].to_vec()
    }
}
