//! How far a unit is from its function.
//!
//! ```text
//! absolute   y - f(x)            relative   (y - f(x)) / f(x), where f(x) is not zero
//! ulp        |y - f(x)| / 2^(max(floor log2 |f(x)|, e_min) - m), of float outputs of m mantissa bits
//! ```
//!
//! `f` in f64; `y` in the output's register. Arguments are rounded to the input's register before either. Where `f(x)` is
//! not finite nothing is measured; `y` that is not finite where `f(x)` is counts as `unbounded`.

use super::lanes::BLOCK;
use super::unit::Evaluator;

/// Errors over some arguments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    /// Arguments measured.
    pub count: u64,
    /// The largest relative error above, and below (negative), and where.
    pub relative: [Extreme; 2],
    /// The largest absolute error.
    pub absolute: Extreme,
    /// The largest error in units of the last place; 0 of integer outputs.
    pub ulp: Extreme,
    /// Root of the mean of squared relative errors.
    pub relative_rms: f64,
    /// Results that are not the function rounded once.
    pub not_nearest: u64,
    /// Results that are infinite or NaN where the function is finite.
    pub unbounded: u64,
}

/// An error and its argument.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Extreme {
    /// The error.
    pub error: f64,
    /// Where it is.
    pub at: f64,
}

impl Extreme {
    fn raise(&mut self, error: f64, at: f64) {
        if error.abs() > self.error.abs() {
            *self = Self { error, at };
        }
    }
}

impl Errors {
    /// The largest relative error of either sign.
    pub fn largest_relative(&self) -> f64 {
        self.relative[0].error.max(-self.relative[1].error)
    }

    /// Errors of a unit of one argument.
    pub fn measure(evaluator: &Evaluator, arguments: impl IntoIterator<Item = f64>) -> Self {
        let function = evaluator.unit().function;
        let layout = evaluator.unit().output.format.float_layout();
        let mut errors = Self {
            count: 0,
            relative: [Extreme::default(); 2],
            absolute: Extreme::default(),
            ulp: Extreme::default(),
            relative_rms: 0.0,
            not_nearest: 0,
            unbounded: 0,
        };
        let mut squares = 0.0;
        let mut arguments = arguments.into_iter();
        loop {
            let mut x = [1.0; BLOCK];
            let mut filled = 0;
            for (lane, argument) in x.iter_mut().zip(arguments.by_ref()) {
                *lane = argument;
                filled += 1;
            }
            evaluator.input().settle(&mut x);
            if filled == 0 {
                break;
            }
            let y = evaluator.evaluate(&x, None);
            let values = x.map(|x| function.value(x));
            let mut nearest = [0.0; BLOCK];
            evaluator.output().convert(&values, &mut nearest);
            for lane in 0..filled {
                let (x, y, f) = (&x[lane], &y[lane], values[lane]);
                if !f.is_finite() {
                    continue;
                }
                errors.count += 1;
                if !y.is_finite() {
                    errors.unbounded += 1;
                    continue;
                }
                let difference = y - f;
                errors.absolute.raise(difference, *x);
                if f != 0.0 {
                    let relative = difference / f;
                    squares += relative * relative;
                    errors.relative[usize::from(relative < 0.0)].raise(relative, *x);
                }
                if let Some(layout) = layout {
                    let least = layout.quantum() + layout.mantissa as i32;
                    let exponent = exponent_of(f).max(least) - layout.mantissa as i32;
                    errors.ulp.raise(difference.abs() / 2f64.powi(exponent), *x);
                }
                errors.not_nearest += u64::from(nearest[lane] != *y);
            }
        }
        errors.relative_rms = (squares / errors.count.max(1) as f64).sqrt();
        errors
    }
}

fn exponent_of(x: f64) -> i32 {
    if x == 0.0 {
        return i32::MIN / 2;
    }
    ((x.to_bits() >> 52 & 0x7ff) as i32) - 1023
}
