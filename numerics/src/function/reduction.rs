//! Range reductions: how a kernel on a short interval serves all numbers.
//!
//! ```text
//! direct        y = K(x) on the kernel's interval; below and above it: its ends, a constant, or x
//!
//! mirrored      a = |x|;  h = K(a) for a < limit, else `beyond`
//!   odd           tanh, erf, sin:                                y = h, -h
//!   complement    sigmoid:                                       y = h, 1 - h
//!   even          cos:                                           y = h
//!   remainder     GELU, SiLU, quick GELU, softplus, hard swish:  y = a + h, h       h stands for f(-a) = f(a) - a
//!
//! exponential   binary: t = x log2(e), of exp2 x;  i = floor(t) or nearest;  f = t - i;  y = 2^i K(f)    K: 2^f
//!               natural: i = nearest(x log2(e));  r = x - i p_1 - i p_2 ..;  y = 2^i K(r)                K: e^r
//! logarithm     x = 2^e m, m in [1, 2) or [sqrt 1/2, sqrt 2);  y = e + K(m), of log times ln 2           K: log2 m
//! circular      i = nearest(x 2/pi);  r = x - i p_1 - i p_2 ..;  y = +-S(r) or +-C(r) by i mod 4         S, C: sin, cos
//! ```
//!
//! Products, differences and sums are each rounded to the design's register (`fma`: product and sum together);
//! multiplication by a power of two and negation are exact. The parts `p` of ln 2 and pi/2 are the design's (Cody and Waite).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kernel::{Kernel, KernelState, Target};
use super::lanes::{BLOCK, Lanes};
use super::register::{Register, Rounder, power};
use super::roots::normalized;
use super::{DesignError, Function};

/// A kernel on its interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Direct {
    /// The approximation.
    pub kernel: Kernel,
    /// Below `low`.
    pub below: Option<Tail>,
    /// At `high` and above.
    pub above: Option<Tail>,
}

/// What a function is beyond a kernel's interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tail {
    /// Where it begins.
    pub from: f64,
    /// Its number there; the argument where absent.
    pub value: Option<f64>,
}

/// A kernel of magnitudes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirrored {
    /// The approximation of h.
    pub kernel: Kernel,
    /// From where on h is `beyond`.
    pub limit: f64,
    /// h from there on.
    pub beyond: f64,
    /// What the complement and the sum are rounded to.
    pub register: Register,
}

/// Exponentials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exponential {
    /// How the argument is split.
    pub split: Split,
    /// What constants, products and differences are rounded to.
    pub register: Register,
    /// Whether a product and a difference round once.
    #[serde(default)]
    pub fma: bool,
    /// Of 2^f, or of e^r where the split is natural.
    pub kernel: Kernel,
}

/// How the argument of an exponential is split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Base two, the fraction in [0, 1).
    Floor,
    /// Base two, the fraction in [-1/2, 1/2].
    Nearest,
    /// Base e, by these parts of ln 2, the remainder in about [-0.35, 0.35].
    Natural(Vec<f64>),
}

/// Logarithms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Logarithm {
    /// Of log2 m.
    pub kernel: Kernel,
    /// Whether m lies about 1.
    pub centred: bool,
    /// What sum and product are rounded to.
    pub register: Register,
}

/// Sine and cosine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Circular {
    /// Parts of pi/2.
    pub parts: Vec<f64>,
    /// What products and differences are rounded to.
    pub register: Register,
    /// Whether a product and a difference round once.
    #[serde(default)]
    pub fma: bool,
    /// Of the sine on [-pi/4, pi/4].
    pub sine: Kernel,
    /// Of the cosine there.
    pub cosine: Kernel,
}

/// The symmetry of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Symmetry {
    Odd,
    Complement,
    Even,
    Remainder,
}

pub(crate) fn symmetry(function: Function) -> Option<Symmetry> {
    Some(match function {
        Function::Tanh | Function::Erf | Function::Sin => Symmetry::Odd,
        Function::Sigmoid | Function::HardSigmoid => Symmetry::Complement,
        Function::Cos => Symmetry::Even,
        Function::Gelu
        | Function::GeluTanh
        | Function::QuickGelu
        | Function::Silu
        | Function::Softplus
        | Function::HardSwish => Symmetry::Remainder,
        _ => return None,
    })
}

#[derive(Debug, Clone)]
pub(crate) struct DirectState {
    kernel: KernelState,
    below: Option<Tail>,
    above: Option<Tail>,
}

impl Direct {
    pub(crate) fn ready(
        &self,
        function: Function,
        narrow: bool,
    ) -> Result<DirectState, DesignError> {
        Ok(DirectState {
            kernel: self.kernel.ready(Target::of(function), narrow)?,
            below: self.below,
            above: self.above,
        })
    }
}

impl DirectState {
    pub(crate) fn evaluate(&self, x: &Lanes) -> Lanes {
        let mut y = self.kernel.evaluate(x);
        for (y, x) in y.iter_mut().zip(x) {
            for tail in [
                self.below.filter(|t| *x < t.from),
                self.above.filter(|t| *x >= t.from),
            ]
            .into_iter()
            .flatten()
            {
                *y = tail.value.unwrap_or(*x);
            }
        }
        y
    }
}

#[derive(Debug, Clone)]
pub(crate) struct MirroredState {
    symmetry: Symmetry,
    kernel: KernelState,
    limit: f64,
    beyond: f64,
    register: Rounder,
}

impl Mirrored {
    pub(crate) fn ready(
        &self,
        function: Function,
        narrow: bool,
    ) -> Result<MirroredState, DesignError> {
        let symmetry = symmetry(function).ok_or(DesignError::Kernel("mirrored", function))?;
        let target = Target {
            function,
            mirrored: symmetry == Symmetry::Remainder,
        };
        let register = self.register.rounder(narrow)?;
        Ok(MirroredState {
            symmetry,
            kernel: self.kernel.ready(target, narrow)?,
            limit: self.limit,
            beyond: register.one(self.beyond),
            register,
        })
    }
}

impl MirroredState {
    pub(crate) fn evaluate(&self, x: &Lanes) -> Lanes {
        let a = x.map(f64::abs);
        let mut h = self.kernel.evaluate(&a);
        for (h, a) in h.iter_mut().zip(&a) {
            *h = if *a < self.limit { *h } else { self.beyond };
        }
        let mut other = [0.0; BLOCK];
        match self.symmetry {
            Symmetry::Odd => std::array::from_fn(|lane| h[lane] * 1f64.copysign(x[lane])),
            Symmetry::Even => h,
            Symmetry::Complement => {
                self.register.sub(&[1.0; BLOCK], &h, &mut other);
                std::array::from_fn(|lane| if x[lane] < 0.0 { other[lane] } else { h[lane] })
            }
            Symmetry::Remainder => {
                self.register.add(&a, &h, &mut other);
                std::array::from_fn(|lane| if x[lane] < 0.0 { h[lane] } else { other[lane] })
            }
        }
    }
}

/// The largest magnitude of an exponent; beyond it results are zero or beyond every register.
const FARTHEST: f64 = 2000.0;

/// `y 2^i`, exact unless subnormal in f64.
fn scaled(y: f64, i: f64) -> f64 {
    let i = i.clamp(-FARTHEST, FARTHEST) as i32;
    y * power(i / 2) * power(i - i / 2)
}

/// `x - i p_1 - i p_2 ..`, step by step.
fn reduced(register: &Rounder, fma: bool, x: &Lanes, i: &Lanes, parts: &[f64]) -> Lanes {
    let negated = i.map(|i| -i);
    let mut rest = *x;
    for part in parts {
        let before = rest;
        register.mul_add(fma, &negated, &[*part; BLOCK], &before, &mut rest);
    }
    rest
}

fn rounded_parts(register: &Rounder, parts: &[f64]) -> Result<Vec<f64>, DesignError> {
    if !(1..=4).contains(&parts.len()) {
        return Err(DesignError::field("parts", "are one to four"));
    }
    Ok(parts.iter().map(|p| register.one(*p)).collect())
}

#[derive(Debug, Clone)]
pub(crate) struct ExponentialState {
    /// log2(e); 1 of exp2.
    factor: f64,
    floor: bool,
    natural: Vec<f64>,
    register: Rounder,
    fma: bool,
    kernel: KernelState,
}

impl Exponential {
    pub(crate) fn ready(
        &self,
        function: Function,
        narrow: bool,
    ) -> Result<ExponentialState, DesignError> {
        let register = self.register.rounder(narrow)?;
        let factor = match function {
            Function::Exp => register.one(std::f64::consts::LOG2_E),
            Function::Exp2 => 1.0,
            other => return Err(DesignError::Kernel("exponential", other)),
        };
        let natural = match &self.split {
            Split::Natural(_) if function == Function::Exp2 => {
                return Err(DesignError::Kernel("exponential, natural", function));
            }
            Split::Natural(parts) => rounded_parts(&register, parts)?,
            _ => Vec::new(),
        };
        let base = if natural.is_empty() {
            Function::Exp2
        } else {
            Function::Exp
        };
        Ok(ExponentialState {
            factor,
            floor: self.split == Split::Floor,
            natural,
            register,
            fma: self.fma,
            kernel: self.kernel.ready(Target::of(base), narrow)?,
        })
    }
}

impl ExponentialState {
    pub(crate) fn evaluate(&self, x: &Lanes) -> Lanes {
        let (y, i) = self.halves(x);
        std::array::from_fn(|lane| scaled(y[lane], i[lane]))
    }

    /// The kernel's result and the exponent that it is to be scaled by.
    pub(crate) fn halves(&self, x: &Lanes) -> (Lanes, Lanes) {
        let mut t = *x;
        if self.factor != 1.0 {
            self.register.mul(x, &[self.factor; BLOCK], &mut t);
        }
        // Infinite arguments stay within exponents.
        let t = t.map(|t| t.clamp(-FARTHEST, FARTHEST));
        let i = t.map(|t| {
            if self.floor {
                t.floor()
            } else {
                t.round_ties_even()
            }
        });
        let f = if self.natural.is_empty() {
            let mut f = [0.0; BLOCK];
            self.register.sub(&t, &i, &mut f);
            f
        } else {
            reduced(&self.register, self.fma, x, &i, &self.natural)
        };
        (self.kernel.evaluate(&f), i)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct LogarithmState {
    /// ln 2 of the natural one.
    factor: Option<f64>,
    centred: bool,
    register: Rounder,
    kernel: KernelState,
}

impl Logarithm {
    pub(crate) fn ready(
        &self,
        function: Function,
        narrow: bool,
    ) -> Result<LogarithmState, DesignError> {
        let register = self.register.rounder(narrow)?;
        let factor = match function {
            Function::Log => Some(register.one(std::f64::consts::LN_2)),
            Function::Log2 => None,
            other => return Err(DesignError::Kernel("logarithm", other)),
        };
        Ok(LogarithmState {
            factor,
            centred: self.centred,
            kernel: self.kernel.ready(Target::of(Function::Log2), narrow)?,
            register,
        })
    }
}

impl LogarithmState {
    pub(crate) fn evaluate(&self, x: &Lanes) -> Lanes {
        let (mut m, mut e) = ([0.0; BLOCK], [0.0; BLOCK]);
        for lane in 0..BLOCK {
            let (significand, exponent) = normalized(x[lane], 1);
            let halve = self.centred && significand >= std::f64::consts::SQRT_2;
            m[lane] = if halve {
                0.5 * significand
            } else {
                significand
            };
            e[lane] = f64::from(exponent + i32::from(halve));
        }
        let fraction = self.kernel.evaluate(&m);
        let mut y = [0.0; BLOCK];
        self.register.add(&e, &fraction, &mut y);
        if let Some(factor) = self.factor {
            let binary = y;
            self.register.mul(&binary, &[factor; BLOCK], &mut y);
        }
        y
    }
}

#[derive(Debug, Clone)]
pub(crate) struct CircularState {
    cosine: bool,
    quotient: f64,
    parts: Vec<f64>,
    register: Rounder,
    fma: bool,
    kernels: [KernelState; 2],
}

impl Circular {
    pub(crate) fn ready(
        &self,
        function: Function,
        narrow: bool,
    ) -> Result<CircularState, DesignError> {
        if !matches!(function, Function::Sin | Function::Cos) {
            return Err(DesignError::Kernel("circular", function));
        }
        let register = self.register.rounder(narrow)?;
        let parts = rounded_parts(&register, &self.parts)?;
        Ok(CircularState {
            cosine: function == Function::Cos,
            quotient: register.one(std::f64::consts::FRAC_2_PI),
            parts,
            register,
            fma: self.fma,
            kernels: [
                self.sine.ready(Target::of(Function::Sin), narrow)?,
                self.cosine.ready(Target::of(Function::Cos), narrow)?,
            ],
        })
    }
}

impl CircularState {
    pub(crate) fn evaluate(&self, x: &Lanes) -> Lanes {
        let mut t = [0.0; BLOCK];
        self.register.mul(x, &[self.quotient; BLOCK], &mut t);
        let i = t.map(f64::round_ties_even);
        let r = reduced(&self.register, self.fma, x, &i, &self.parts);
        let [sine, cosine] = [&self.kernels[0], &self.kernels[1]].map(|k| k.evaluate(&r));
        std::array::from_fn(|lane| {
            let turns = i[lane].rem_euclid(4.0) as u32;
            let quadrant = turns + u32::from(self.cosine);
            let y = if quadrant.is_multiple_of(2) {
                sine[lane]
            } else {
                cosine[lane]
            };
            if quadrant % 4 >= 2 { -y } else { y }
        })
    }
}
