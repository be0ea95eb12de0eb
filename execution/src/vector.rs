//! A vector unit's arithmetic: each step of a formula gives a number of its register's format.
//!
//! ```text
//! reference    all steps in f64; the op's result rounded once to f32
//! a unit       r = round(a op b) to the register's format after each step, functions by the unit's own designs
//! ```
//!
//! Sums, products, quotients and square roots of two register numbers are taken in f64 and rounded once more: with at
//! most 24 bits of significand that is their correct rounding (53 >= 2 x 24 + 2, Figueroa 1995). A fused multiply-add
//! is one f64 step of an exact product.

use presil_numerics::codec::CodecError;
use presil_numerics::function::Evaluator;
use presil_numerics::{Codec, Conversion, Format, Overflow, Rounding};
use presil_workloads::Formula;
use presil_workloads::formula::{Binary, Term, Unary};
use rayon::prelude::*;

use crate::array::{Array, strides};
use crate::functions;

/// Elements that are taken through a formula together.
const PIECE: usize = 512;

/// What steps are rounded to.
#[derive(Debug, Clone)]
pub struct Register {
    /// The format.
    pub format: Format,
    codec: Codec,
    /// Bits of an f64's significand below the register's, where its normal numbers are rounded by adding to them.
    dropped: Option<u32>,
    normal: (f64, f64),
}

impl Register {
    /// A register of a float format, rounded to nearest even, with infinities.
    pub fn new(format: Format) -> Result<Self, CodecError> {
        let conversion = Conversion {
            rounding: Rounding::NearestEven,
            overflow: Overflow::Infinity,
            ..Conversion::default()
        };
        let codec = Codec::new(format, conversion)?;
        let layout = format.float_layout();
        let power = |e: i32| 2f64.powi(e);
        Ok(Self {
            format,
            dropped: layout
                .filter(|l| l.mantissa > 0 && l.exponent <= 8)
                .map(|l| 52 - l.mantissa),
            normal: layout.map_or((0.0, 0.0), |l| {
                let top = (1i32 << l.exponent.min(30)) - 2 - l.bias;
                (power(l.quantum() + l.mantissa as i32), power(top))
            }),
            codec,
        })
    }

    /// The register's number nearest to one.
    pub fn round(&self, x: f64) -> f64 {
        match self.dropped {
            Some(dropped) if (self.normal.0..self.normal.1).contains(&x.abs()) => {
                let bits = x.to_bits();
                let half = (1u64 << (dropped - 1)) - 1 + (bits >> dropped & 1);
                f64::from_bits((bits + half) >> dropped << dropped)
            }
            _ => self.codec.rounded(x, 0).0,
        }
    }
}

/// A vector unit.
#[derive(Debug, Clone, Default)]
pub struct VectorUnit {
    /// What each step's result is rounded to; `None` for the reference.
    pub register: Option<Register>,
    /// Units of functions that are not correctly rounded ones.
    pub functions: Vec<Evaluator>,
}

impl VectorUnit {
    /// A step's result.
    pub fn step(&self, x: f64) -> f64 {
        self.register.as_ref().map_or(x, |r| r.round(x))
    }

    /// A function of a register's number.
    pub fn function(&self, f: Unary, x: f64) -> f64 {
        match self.unit_of(f) {
            Some(unit) => self.step(unit.one(x)),
            None => self.step(functions::value(f, x)),
        }
    }

    /// A function of each number.
    pub fn function_of_all(&self, f: Unary, x: &[f64], y: &mut [f64]) {
        match self.unit_of(f) {
            Some(unit) => unit.apply_f64(x, y),
            None => y
                .iter_mut()
                .zip(x)
                .for_each(|(y, x)| *y = functions::value(f, *x)),
        }
        for y in y {
            *y = self.step(*y);
        }
    }

    fn unit_of(&self, f: Unary) -> Option<&Evaluator> {
        let Unary::Of(function) = f else {
            return None;
        };
        let mut units = self.functions.iter();
        units.find(|u| u.unit().function == function)
    }

    /// A formula at each place of inputs that broadcast to a shape; `None` where they don't.
    pub fn elementwise(
        &self,
        formula: &Formula,
        inputs: &[&Array],
        shape: &[usize],
    ) -> Option<Array> {
        let views: Option<Vec<View>> = inputs.iter().map(|x| View::new(x, shape)).collect();
        let views = views?;
        if formula.inputs() > views.len() {
            return None;
        }
        let mut out = Array::zeros(shape);
        let fill = |(piece, out): (usize, &mut [f32])| {
            let mut terms: Vec<[f64; PIECE]> = vec![[0.0; PIECE]; formula.terms().len()];
            self.piece(formula, &views, piece * PIECE, out.len(), &mut terms);
            if let Some(last) = terms.last() {
                for (o, t) in out.iter_mut().zip(last) {
                    *o = *t as f32;
                }
            }
        };
        out.values_mut()
            .par_chunks_mut(PIECE)
            .enumerate()
            .for_each(fill);
        Some(out)
    }

    fn piece(
        &self,
        formula: &Formula,
        views: &[View],
        first: usize,
        count: usize,
        terms: &mut [[f64; PIECE]],
    ) {
        for (i, term) in formula.terms().iter().enumerate() {
            let (earlier, rest) = terms.split_at_mut(i);
            let Some(out) = rest.first_mut().map(|t| &mut t[..count]) else {
                return;
            };
            match *term {
                Term::Input(n) => views[n].read(first, out),
                Term::Constant(c) => out.fill(self.step(c)),
                Term::Unary(f, a) => {
                    let count = out.len();
                    self.function_of_all(f, &earlier[a][..count], out);
                }
                Term::Binary(op, a, b) => {
                    for ((o, a), b) in out.iter_mut().zip(&earlier[a]).zip(&earlier[b]) {
                        *o = self.step(binary(op, *a, *b));
                    }
                }
                Term::Select(c, a, b) => {
                    for (((o, c), a), b) in out
                        .iter_mut()
                        .zip(&earlier[c])
                        .zip(&earlier[a])
                        .zip(&earlier[b])
                    {
                        *o = if *c != 0.0 { *a } else { *b };
                    }
                }
            }
        }
    }
}

fn binary(op: Binary, a: f64, b: f64) -> f64 {
    match op {
        Binary::Add => a + b,
        Binary::Subtract => a - b,
        Binary::Multiply => a * b,
        Binary::Divide => a / b,
        Binary::Maximum if a.is_nan() || b.is_nan() => f64::NAN,
        Binary::Minimum if a.is_nan() || b.is_nan() => f64::NAN,
        Binary::Maximum => a.max(b),
        Binary::Minimum => a.min(b),
        Binary::Power => functions::power(a, b),
        Binary::Less => f64::from(u8::from(a < b)),
        Binary::Equal => f64::from(u8::from(a == b)),
    }
}

/// An input as seen at each place of a shape that it broadcasts to.
struct View<'a> {
    values: &'a [f32],
    /// Extent of each rank of the shape, and the input's step along it; none where both are alike.
    ranks: Vec<(usize, usize)>,
}

impl<'a> View<'a> {
    fn new(x: &'a Array, shape: &[usize]) -> Option<Self> {
        let missing = shape.len().checked_sub(x.shape().len())?;
        if x.shape() == shape {
            return Some(Self {
                values: x.values(),
                ranks: Vec::new(),
            });
        }
        let own = strides(x.shape());
        let ranks = shape.iter().enumerate().map(|(rank, extent)| {
            let Some(r) = rank.checked_sub(missing) else {
                return Some((*extent, 0));
            };
            match x.shape()[r] {
                1 => Some((*extent, 0)),
                e if e == *extent => Some((*extent, own[r])),
                _ => None,
            }
        });
        let ranks = ranks.collect::<Option<Vec<_>>>()?;
        Some(Self {
            values: x.values(),
            // A shape without ranks is one place; so is the list below.
            ranks: if ranks.is_empty() {
                vec![(1, 0)]
            } else {
                ranks
            },
        })
    }

    /// The input at the places from `first` on.
    fn read(&self, first: usize, out: &mut [f64]) {
        if self.ranks.is_empty() {
            for (o, x) in out.iter_mut().zip(&self.values[first..]) {
                *o = f64::from(*x);
            }
            return;
        }
        for (i, o) in out.iter_mut().enumerate() {
            let mut left = first + i;
            let mut at = 0;
            for (extent, step) in self.ranks.iter().rev() {
                at += left % extent * step;
                left /= extent;
            }
            *o = f64::from(self.values[at]);
        }
    }
}
