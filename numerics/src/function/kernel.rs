//! Kernels: the look-ups and polynomials that approximate a function on an interval.
//!
//! ```text
//! polynomial     segment i of x;  t = round(x - origin_i);  Horner: p = c_n;  p = round(p t + c_k), k = n-1 .. 0
//! interpolated   segment i of x;  t = round((x - border_i) / width);  y = e_i + (e_i+1 - e_i) t
//! exact          the function itself, rounded once
//! cordic         see [`cordic`](super::cordic)
//! ```
//!
//! Every `round` is to the register that the design states; `p t + c` is one rounding with `fma`, two without. The
//! coefficients and entries are part of the design; they are rounded to their own register when the design is made
//! ready. A polynomial of degree 0 is a plain table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cordic::{Cordic, CordicState};
use super::lanes::{BLOCK, Lanes};
use super::register::{Register, Rounder};
use super::segments::{Finder, Segments};
use super::{DesignError, Function};

/// What approximates a function on an interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// The function itself, rounded once to a register: what no table beats.
    Exact(Register),
    /// Polynomials on segments.
    Polynomial(Polynomial),
    /// A table with linear interpolation.
    Interpolated(Interpolated),
    /// Shift-and-add rotations: sine, cosine, exponential.
    Cordic(Cordic),
}

/// Polynomials on segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Polynomial {
    /// Where each polynomial holds.
    pub segments: Segments,
    /// What its argument counts from.
    #[serde(default)]
    pub origin: Origin,
    /// Of each segment, the constant first.
    pub coefficients: Vec<Vec<f64>>,
    /// What coefficients are stored in.
    pub coefficient: Register,
    /// What intermediate results are rounded to.
    pub register: Register,
    /// Whether a product and a sum round once.
    pub fma: bool,
    /// In which order they are taken.
    #[serde(default)]
    pub order: Order,
}

/// What a segment's argument counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Zero: the argument is x.
    #[default]
    Zero,
    /// The segment's lower border.
    Start,
    /// Its middle.
    Centre,
}

/// The order of a polynomial's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// `((c3 t + c2) t + c1) t + c0`.
    #[default]
    Horner,
    /// Neighbours first: `(c3 t + c2) t^2 + (c1 t + c0)`, then `t^4` and so on.
    Estrin,
}

/// A table with linear interpolation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interpolated {
    /// Between which borders the entries lie: one entry a border.
    pub segments: Segments,
    /// The function at the borders, or near it.
    pub entries: Vec<f64>,
    /// What entries are stored in.
    pub entry: Register,
    /// Where in its segment a number lies, 0 to 1.
    pub fraction: Register,
    /// What difference, product and sum are rounded to.
    pub register: Register,
    /// Whether product and sum round once.
    pub fma: bool,
}

/// The function that a kernel stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The function.
    pub function: Function,
    /// Of the negated argument: `f(x) - max(x, 0)` of the functions that are this plus an even one.
    pub mirrored: bool,
}

impl Target {
    /// The function itself.
    pub fn of(function: Function) -> Self {
        Self {
            function,
            mirrored: false,
        }
    }

    /// The function's number.
    pub fn value(self, x: f64) -> f64 {
        self.function.value(if self.mirrored { -x } else { x })
    }
}

/// A kernel made ready.
#[derive(Debug, Clone)]
pub(crate) enum KernelState {
    Exact(Target, Rounder),
    Polynomial(PolynomialState),
    Interpolated(InterpolatedState),
    Cordic(CordicState),
}

#[derive(Debug, Clone)]
pub(crate) struct PolynomialState {
    finder: Finder,
    /// Of each segment; empty where all arguments count from zero.
    origins: Vec<f64>,
    /// By segment, then by power.
    coefficients: Vec<f64>,
    terms: usize,
    register: Rounder,
    fma: bool,
    order: Order,
}

#[derive(Debug, Clone)]
pub(crate) struct InterpolatedState {
    finder: Finder,
    entries: Vec<f64>,
    fraction: Rounder,
    register: Rounder,
    fma: bool,
}

const MOST_TERMS: usize = 32;

impl Kernel {
    /// The registers that its operands come from.
    pub(crate) fn registers(&self) -> Vec<Register> {
        match self {
            Self::Exact(register) => vec![*register],
            Self::Polynomial(p) => vec![p.coefficient, p.register],
            Self::Interpolated(i) => vec![i.entry, i.fraction, i.register],
            Self::Cordic(c) => vec![c.register],
        }
    }

    pub(crate) fn ready(&self, target: Target, narrow: bool) -> Result<KernelState, DesignError> {
        Ok(match self {
            Self::Exact(register) => KernelState::Exact(target, register.rounder(narrow)?),
            Self::Polynomial(p) => KernelState::Polynomial(p.ready(narrow)?),
            Self::Interpolated(i) => KernelState::Interpolated(i.ready(narrow)?),
            Self::Cordic(c) => KernelState::Cordic(c.ready(target, narrow)?),
        })
    }
}

impl Polynomial {
    fn ready(&self, narrow: bool) -> Result<PolynomialState, DesignError> {
        let finder = Finder::new(&self.segments)?;
        let segments = finder.borders.len() - 1;
        if self.coefficients.len() != segments {
            return Err(DesignError::field("coefficients", "are one list a segment"));
        }
        let terms = self.coefficients[0].len();
        let equal = self.coefficients.iter().all(|c| c.len() == terms);
        if !equal || !(1..=MOST_TERMS).contains(&terms) {
            return Err(DesignError::field(
                "coefficients",
                "are 1 to 32, as many for each segment",
            ));
        }
        let stored = self.coefficient.rounder(narrow)?;
        let coefficients = self.coefficients.iter().flatten();
        let origins = match self.origin {
            Origin::Zero => Vec::new(),
            Origin::Start => finder.borders[..segments].to_vec(),
            Origin::Centre => {
                let middles = finder.borders.windows(2).map(|b| 0.5 * (b[0] + b[1]));
                middles.collect()
            }
        };
        Ok(PolynomialState {
            coefficients: coefficients.map(|c| stored.one(*c)).collect(),
            terms,
            origins,
            finder,
            register: self.register.rounder(narrow)?,
            fma: self.fma,
            order: self.order,
        })
    }
}

impl PolynomialState {
    fn evaluate(&self, x: &Lanes) -> Lanes {
        let mut segment = [0usize; BLOCK];
        let mut t = *x;
        if self.terms == self.coefficients.len() {
            // One segment: nothing to find.
        } else {
            for (s, x) in segment.iter_mut().zip(x) {
                *s = self.finder.find(*x);
            }
        }
        for (t, x) in t.iter_mut().zip(x) {
            *t = self.finder.confine(*x);
        }
        if !self.origins.is_empty() {
            let origins = segment.map(|s| self.origins[s]);
            let confined = t;
            self.register.sub(&confined, &origins, &mut t);
        }
        let coefficient = |k: usize| segment.map(|s| self.coefficients[s * self.terms + k]);
        match self.order {
            Order::Horner => {
                let mut p = coefficient(self.terms - 1);
                for k in (0..self.terms - 1).rev() {
                    let so_far = p;
                    self.register
                        .mul_add(self.fma, &so_far, &t, &coefficient(k), &mut p);
                }
                p
            }
            Order::Estrin => {
                let mut level: Vec<Lanes> = (0..self.terms).map(coefficient).collect();
                let mut power = t;
                while level.len() > 1 {
                    let pairs = level.chunks(2).map(|pair| match pair {
                        [low, high] => {
                            let mut sum = [0.0; BLOCK];
                            self.register.mul_add(self.fma, high, &power, low, &mut sum);
                            sum
                        }
                        _ => pair[0],
                    });
                    level = pairs.collect();
                    let base = power;
                    self.register.mul(&base, &base, &mut power);
                }
                level[0]
            }
        }
    }
}

impl Interpolated {
    fn ready(&self, narrow: bool) -> Result<InterpolatedState, DesignError> {
        let finder = Finder::new(&self.segments)?;
        if self.entries.len() != finder.borders.len() {
            return Err(DesignError::field("entries", "are one a border"));
        }
        let stored = self.entry.rounder(narrow)?;
        Ok(InterpolatedState {
            entries: self.entries.iter().map(|e| stored.one(*e)).collect(),
            finder,
            fraction: self.fraction.rounder(narrow)?,
            register: self.register.rounder(narrow)?,
            fma: self.fma,
        })
    }
}

impl InterpolatedState {
    fn evaluate(&self, x: &Lanes) -> Lanes {
        let (mut low, mut high, mut place) = ([0.0; BLOCK], [0.0; BLOCK], [0.0; BLOCK]);
        for (lane, x) in x.iter().enumerate() {
            let x = self.finder.confine(*x);
            let s = self.finder.find(x);
            let (start, end) = (self.finder.borders[s], self.finder.borders[s + 1]);
            (low[lane], high[lane]) = (self.entries[s], self.entries[s + 1]);
            place[lane] = (x - start) / (end - start);
        }
        let (mut t, mut rise, mut y) = (place, [0.0; BLOCK], [0.0; BLOCK]);
        self.fraction.settle(&mut t);
        self.register.sub(&high, &low, &mut rise);
        self.register.mul_add(self.fma, &rise, &t, &low, &mut y);
        y
    }
}

impl KernelState {
    /// The approximation at some numbers.
    pub(crate) fn evaluate(&self, x: &Lanes) -> Lanes {
        match self {
            Self::Exact(target, register) => {
                let mut y = x.map(|x| target.value(x));
                register.settle(&mut y);
                y
            }
            Self::Polynomial(p) => p.evaluate(x),
            Self::Interpolated(i) => i.evaluate(x),
            Self::Cordic(c) => c.evaluate(x),
        }
    }
}
