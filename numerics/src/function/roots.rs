//! Reciprocals, roots and quotients by a seed and refinements.
//!
//! With `k = 1` for reciprocal and division, `k = 2` for rsqrt and sqrt, an approximation `y` of `x^(-1/k)` has
//!
//! ```text
//! c = x y  (k = 1),   x y^2  (k = 2)              near 1
//! product    y <- y (s P(c))                      P by Horner, s a scale or absent
//!            y <- y (s (a_0 + (a_1 u) v))         c = u v left unrounded: `fuse_argument`, of linear P
//! residual   e = 1 - c;  y <- y + (y e) Q(e)      one rounding for e's difference and for the sum with `fma`
//!            y <- y + (y q) e                     where Q is a constant q
//! ```
//!
//! | step | coefficients |
//! |---|---|
//! | Newton-Raphson, k = 2 | product `[1.5, -0.5]`, residual `[0.5]` |
//! | Newton-Raphson, k = 1 | product `[2, -1]`, residual `[1]` |
//! | Halley (third order), k = 2 | product `[1.875, -1.25, 0.375]`, residual `[0.5, 0.375]` |
//! | third order, k = 1 | product `[3, -3, 1]`, residual `[1, 1]` |
//! | any published variant | its constants |
//!
//! Goldschmidt's iteration carries the result and how far it is off, so that its multiplications don't wait for one another:
//!
//! ```text
//! k = 1   n = a y, d = x y;      f = 2 - d;         n <- n f,     d <- d f        a: numerator, 1 of reciprocals
//! k = 2   g = x y, h = y / 2;    r = 1/2 - g h;     g <- g + g r, h <- h + h r    sqrt: g, rsqrt: 2 h
//! ```
//!
//! At the end, `sqrt x = x y` and `a / x = a y`; with `correction`, the remainder is taken in:
//!
//! ```text
//! sqrt       s = x y;  r = x - s s;  s <- s + r (y / 2)
//! division   q = a y;  r = a - x q;  q <- q + r y
//! ```
//!
//! Seeds: **magic**: the codes of a float register as integers, `constant - (code >> 1)` for rsqrt, `constant + (code >> 1)`
//! for sqrt, which is no `y` and so takes no step, `constant - code` for reciprocals. **kernel**: of the significand over
//! [1, 2) or, with the exponent's parity, [1, 4); exponents are exact.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kernel::{Kernel, KernelState, Target};
use super::lanes::{BLOCK, Lanes};
use super::register::{Register, Rounder, power};
use super::{DesignError, Function};
use crate::exact::Exact;

/// A seed and refinements: reciprocal, division, rsqrt, sqrt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Refined {
    /// What every operation is rounded to.
    pub register: Register,
    /// The first approximation.
    pub seed: Seed,
    /// What improves it.
    #[serde(default)]
    pub refinement: Refinement,
    /// Whether the remainder of the root or quotient is taken in.
    #[serde(default)]
    pub correction: bool,
    /// Whether the correction's and Goldschmidt's products and sums round once.
    #[serde(default)]
    pub fma: bool,
}

/// The first approximation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Seed {
    /// The code's shift and difference.
    Magic(i64),
    /// A table or polynomial of the significand.
    Kernel(Kernel),
}

/// What improves a seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Refinement {
    /// Steps of their own constants.
    Steps(Vec<Step>),
    /// So many of Goldschmidt's.
    Goldschmidt(u32),
}

impl Default for Refinement {
    fn default() -> Self {
        Self::Steps(Vec::new())
    }
}

/// One refinement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Product or residual.
    pub form: Form,
    /// Of P or Q, the constant first.
    pub coefficients: Vec<f64>,
    /// What P is multiplied by, as an operation of its own.
    pub scale: Option<f64>,
    /// Whether a product and a sum round once.
    #[serde(default)]
    pub fma: bool,
    /// Whether `c` is `x (y y)` and not `(x y) y`.
    #[serde(default)]
    pub square_first: bool,
    /// Product steps of two coefficients with `fma`: whether `c` is not rounded before the sum, but the product of
    /// its first factor with the second coefficient is.
    #[serde(default)]
    pub fuse_argument: bool,
}

/// How a step corrects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// `y (s P(c))`.
    Product,
    /// `y + (y e) Q(e)`.
    Residual,
}

impl Step {
    /// A product step.
    pub fn product(coefficients: &[f64], fma: bool) -> Self {
        Self {
            form: Form::Product,
            coefficients: coefficients.to_vec(),
            scale: None,
            fma,
            square_first: false,
            fuse_argument: false,
        }
    }

    /// A residual step.
    pub fn residual(coefficients: &[f64], fma: bool) -> Self {
        Self {
            form: Form::Residual,
            ..Self::product(coefficients, fma)
        }
    }
}

impl Refined {
    pub(crate) fn registers(&self) -> Vec<Register> {
        let seed = match &self.seed {
            Seed::Magic(_) => Vec::new(),
            Seed::Kernel(kernel) => kernel.registers(),
        };
        [vec![self.register], seed].concat()
    }

    pub(crate) fn ready(
        &self,
        function: Function,
        narrow: bool,
    ) -> Result<RefinedState, DesignError> {
        let power = match function {
            Function::Reciprocal | Function::Division => 1,
            Function::Rsqrt | Function::Sqrt => 2,
            other => return Err(DesignError::Kernel("refined", other)),
        };
        let register = self.register.rounder(narrow)?;
        let base = if power == 1 {
            Function::Reciprocal
        } else {
            Function::Rsqrt
        };
        let seed = match &self.seed {
            Seed::Magic(constant) => {
                if !self.register.format.is_float() {
                    return Err(DesignError::field("magic", "is for float registers"));
                }
                SeedState::Magic(*constant)
            }
            Seed::Kernel(kernel) => {
                SeedState::Kernel(Box::new(kernel.ready(Target::of(base), narrow)?))
            }
        };
        let rounded = |k: &f64| register.one(*k);
        let refinement = match &self.refinement {
            Refinement::Goldschmidt(count) if *count <= 16 => RefinementState::Goldschmidt(*count),
            Refinement::Goldschmidt(_) => {
                return Err(DesignError::field("goldschmidt", "takes 16 steps at most"));
            }
            Refinement::Steps(steps) => {
                let sizes = steps.iter().map(|s| s.coefficients.len());
                if steps.len() > 16 || sizes.into_iter().any(|n| !(1..=16).contains(&n)) {
                    return Err(DesignError::field(
                        "steps",
                        "are 16 at most, of 1 to 16 coefficients",
                    ));
                }
                let fusable =
                    |s: &Step| s.form == Form::Product && s.fma && s.coefficients.len() == 2;
                if steps.iter().any(|s| s.fuse_argument && !fusable(s)) {
                    return Err(DesignError::field(
                        "fuse_argument",
                        "are product steps of two coefficients with fma",
                    ));
                }
                RefinementState::Steps(
                    steps
                        .iter()
                        .map(|step| Step {
                            coefficients: step.coefficients.iter().map(rounded).collect(),
                            scale: step.scale.as_ref().map(rounded),
                            ..step.clone()
                        })
                        .collect(),
                )
            }
        };
        let no_steps = matches!(&self.refinement, Refinement::Steps(s) if s.is_empty());
        let direct_root = function == Function::Sqrt && matches!(self.seed, Seed::Magic(_));
        if direct_root && (!no_steps || self.correction) {
            return Err(DesignError::field(
                "magic",
                "of sqrt is the root itself and takes no step",
            ));
        }
        Ok(RefinedState {
            function,
            power,
            seed,
            refinement,
            correction: self.correction,
            fma: self.fma,
            direct_root,
            register,
        })
    }
}

#[derive(Debug, Clone)]
enum SeedState {
    Magic(i64),
    Kernel(Box<KernelState>),
}

#[derive(Debug, Clone)]
enum RefinementState {
    Steps(Vec<Step>),
    Goldschmidt(u32),
}

/// A refined seed, made ready.
#[derive(Debug, Clone)]
pub(crate) struct RefinedState {
    function: Function,
    power: u32,
    seed: SeedState,
    refinement: RefinementState,
    correction: bool,
    fma: bool,
    direct_root: bool,
    register: Rounder,
}

impl RefinedState {
    /// The function at `x`; of division, `numerator / x`.
    pub(crate) fn evaluate(&self, x: &Lanes, numerator: Option<&Lanes>) -> Lanes {
        let r = &self.register;
        let mut y = self.seeded(x);
        if self.direct_root {
            return y;
        }
        let ones = [1.0; BLOCK];
        let steps = match &self.refinement {
            RefinementState::Steps(steps) => steps,
            RefinementState::Goldschmidt(count) => {
                return self.goldschmidt(*count, x, numerator.unwrap_or(&ones), y);
            }
        };
        for step in steps {
            self.step(step, x, &mut y);
        }
        let mut out = y;
        match self.function {
            Function::Sqrt => {
                r.mul(x, &y, &mut out);
                if self.correction {
                    self.correct(&out.map(|s| -s), &mut out, x, &y.map(|y| 0.5 * y));
                }
            }
            Function::Division => {
                let a = numerator.unwrap_or(&ones);
                r.mul(a, &y, &mut out);
                if self.correction {
                    self.correct(&x.map(|x| -x), &mut out, a, &y);
                }
            }
            _ => {}
        }
        out
    }

    /// `q <- q + (whole + factor q) slope`.
    fn correct(&self, factor: &Lanes, q: &mut Lanes, whole: &Lanes, slope: &Lanes) {
        let r = &self.register;
        let mut rest = [0.0; BLOCK];
        r.mul_add(self.fma, factor, q, whole, &mut rest);
        let before = *q;
        r.mul_add(self.fma, &rest, slope, &before, q);
    }

    fn seeded(&self, x: &Lanes) -> Lanes {
        match &self.seed {
            SeedState::Magic(constant) => self.magic(*constant, x),
            SeedState::Kernel(kernel) => {
                let mut significand = [0.0; BLOCK];
                let mut scale = [0.0; BLOCK];
                for ((m, s), x) in significand.iter_mut().zip(&mut scale).zip(x) {
                    let (fraction, exponent) = normalized(*x, self.power);
                    *m = fraction;
                    *s = power(-exponent).copysign(*x);
                }
                let y = kernel.evaluate(&significand);
                let mut out = [0.0; BLOCK];
                let scaled: Lanes = std::array::from_fn(|lane| y[lane] * scale[lane]);
                self.register.convert(&scaled, &mut out);
                out
            }
        }
    }

    fn magic(&self, constant: i64, x: &Lanes) -> Lanes {
        if self.register.exact.code_bits() == 32
            && matches!(self.register.kind, super::register::Kind::Single)
        {
            return x.map(|x| {
                let code = (x as f32).to_bits() as i32;
                f64::from(f32::from_bits(
                    self.shifted(constant, i64::from(code)) as u32
                ))
            });
        }
        let bits = self.register.exact.code_bits();
        x.map(|x| {
            let code = self.register.exact.code(Exact::from(x)) as i64;
            let signed = code << (64 - bits) >> (64 - bits);
            let low = (1u128 << bits) - 1;
            let code = self.shifted(constant, signed) as i128 as u128 & low;
            self.register.exact.value(code)
        })
    }

    fn shifted(&self, constant: i64, code: i64) -> i64 {
        match self.function {
            Function::Sqrt => constant.wrapping_add(code >> 1),
            Function::Rsqrt => constant.wrapping_sub(code >> 1),
            _ => constant.wrapping_sub(code),
        }
    }

    fn step(&self, step: &Step, x: &Lanes, y: &mut Lanes) {
        let r = &self.register;
        let (mut product, mut c) = ([0.0; BLOCK], [0.0; BLOCK]);
        // c = first second, both factors kept for a fused difference.
        let (first, second) = match (self.power, step.square_first) {
            (1, _) => (*x, *y),
            (_, true) => {
                r.mul(y, y, &mut product);
                (*x, product)
            }
            (_, false) => {
                r.mul(x, y, &mut product);
                (product, *y)
            }
        };
        let constant = |k: usize| [step.coefficients[k]; BLOCK];
        let last = step.coefficients.len() - 1;
        let old = *y;
        let mut p = constant(last);
        match step.form {
            Form::Product => {
                if step.fuse_argument {
                    r.mul(&first, &constant(1), &mut c);
                    r.mul_add(true, &c, &second, &constant(0), &mut p);
                } else {
                    r.mul(&first, &second, &mut c);
                    for k in (0..last).rev() {
                        let so_far = p;
                        r.mul_add(step.fma, &so_far, &c, &constant(k), &mut p);
                    }
                }
                if let Some(scale) = step.scale {
                    let so_far = p;
                    r.mul(&[scale; BLOCK], &so_far, &mut p);
                }
                r.mul(&old, &p, y);
            }
            Form::Residual => {
                let mut e = [0.0; BLOCK];
                let negated = first.map(|f| -f);
                r.mul_add(step.fma, &negated, &second, &[1.0; BLOCK], &mut e);
                for k in (0..last).rev() {
                    let so_far = p;
                    r.mul_add(step.fma, &so_far, &e, &constant(k), &mut p);
                }
                // A constant joins y, where it is mostly exact; a polynomial waits for e.
                let (early, late) = if last == 0 { (p, e) } else { (e, p) };
                let mut product = [0.0; BLOCK];
                r.mul(&old, &early, &mut product);
                r.mul_add(step.fma, &product, &late, &old, y);
            }
        }
    }

    fn goldschmidt(&self, count: u32, x: &Lanes, numerator: &Lanes, y: Lanes) -> Lanes {
        let r = &self.register;
        let (mut g, mut h) = ([0.0; BLOCK], [0.0; BLOCK]);
        if self.power == 1 {
            r.mul(numerator, &y, &mut g);
            r.mul(x, &y, &mut h);
            for _ in 0..count {
                let (n, d) = (g, h);
                let mut f = [0.0; BLOCK];
                r.sub(&[2.0; BLOCK], &d, &mut f);
                r.mul(&n, &f, &mut g);
                r.mul(&d, &f, &mut h);
            }
            return g;
        }
        r.mul(x, &y, &mut g);
        r.convert(&y.map(|y| 0.5 * y), &mut h);
        for _ in 0..count {
            let (g0, h0) = (g, h);
            let mut rest = [0.0; BLOCK];
            let negated = g0.map(|g| -g);
            r.mul_add(self.fma, &negated, &h0, &[0.5; BLOCK], &mut rest);
            r.mul_add(self.fma, &g0, &rest, &g0, &mut g);
            r.mul_add(self.fma, &h0, &rest, &h0, &mut h);
        }
        if self.function == Function::Sqrt {
            g
        } else {
            let mut y = [0.0; BLOCK];
            r.convert(&h.map(|h| 2.0 * h), &mut y);
            y
        }
    }
}

/// `|x| = m 2^(k e)` with `m` in `[1, 2^k)`: `m` and `e`. Of zero, infinity and NaN, something finite.
pub(crate) fn normalized(x: f64, k: u32) -> (f64, i32) {
    let field = (x.to_bits() >> 52 & 0x7ff) as i32;
    let exponent = field - 1023;
    let whole = if k == 2 {
        exponent.div_euclid(2)
    } else {
        exponent
    };
    let left = exponent - whole * k as i32;
    let fraction = x.to_bits() & ((1 << 52) - 1);
    let significand = f64::from_bits(fraction | ((left + 1023) as u64) << 52);
    (significand, whole)
}
