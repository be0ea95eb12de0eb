//! Functions as tables.
//!
//! ```text
//! int8     256 codes:  y = clamp(round(f(s_x (x - zx)) x (1 / s_o)) + zo), each step in f32, ties away from zero
//! int16    513 samples at x_i = lo + i (hi - lo) / 512 in f32; the sample is lowered by half the error that linear
//!          interpolation has midway:
//!            g(x)   = f(x) / s_o in steps of the output
//!            L_i    = clamp(round(g(x_i)) - round((round((g(x_i+1) + round(g(x_i))) / 2) - round(g(x_i + step/2))) / 2))
//!            L_512  = clamp(round(g(hi)))
//!          index i = 256 + (x >> 7), offset o = x & 127:  y = L_i + (((L_i+1 - L_i) o + 64) >> 7)
//! ```
//!
//! exp, tanh and erfc are taken in f64 by one implementation and rounded to f32, so that tables are the same on every
//! machine.
//! Sources: TensorFlow Lite, `kernels/internal/common.h` (table lookup) and the kernels that fill its tables.

use super::{Element, QuantizedError, Scaling, check};

/// A function of int8 codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The outputs of -128, -127, .., 127.
    pub codes: [i8; 256],
}

impl Table {
    /// A function of codes.
    pub fn new(f: impl Fn(i8) -> i8) -> Self {
        let mut codes = [0; 256];
        for (x, code) in (i8::MIN..=i8::MAX).zip(&mut codes) {
            *code = f(x);
        }
        Self { codes }
    }

    /// A function of numbers.
    pub fn of_real(input: Scaling, output: Scaling, f: impl Fn(f32) -> f32) -> Self {
        let inverse = 1.0 / output.scale;
        Self::new(|x| {
            let number = input.scale * (i32::from(x) - input.zero_point) as f32;
            let steps = (f(number) * inverse).round() + output.zero_point as f32;
            i8::saturated(steps as i64)
        })
    }

    /// One element.
    pub fn code(&self, x: i8) -> i8 {
        self.codes[(i32::from(x) + 128) as usize]
    }

    /// All elements.
    pub fn apply(&self, input: &[i8], output: &mut [i8]) -> Result<(), QuantizedError> {
        check("the output", output.len(), &[input.len()])?;
        for (x, y) in input.iter().zip(output) {
            *y = self.code(*x);
        }
        Ok(())
    }
}

/// 1 / (1 + exp(-x)), each step in f32.
pub fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// tanh.
pub fn tanh(x: f32) -> f32 {
    libm::tanh(x.into()) as f32
}

/// The exponential function.
pub fn exp(x: f32) -> f32 {
    libm::exp(x.into()) as f32
}

/// x P(X <= x) of a normal X: x erfc(-x / sqrt 2) / 2.
pub fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    (0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)) as f32
}

/// GELU by tanh: x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
pub fn gelu_tanh(x: f32) -> f32 {
    let x = f64::from(x);
    let slope = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    (0.5 * x * (1.0 + libm::tanh(slope * (x + 0.044715 * x * x * x)))) as f32
}

/// A function of int16 codes by interpolation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterpolatedTable {
    /// The samples.
    pub samples: Vec<i16>,
}

impl InterpolatedTable {
    /// A function of numbers.
    pub fn of_real(input: Scaling, output: Scaling, f: impl Fn(f32) -> f32) -> Self {
        const STEPS: i32 = 512;
        let (least, largest) = (i32::from(i16::MIN), i32::from(i16::MAX));
        let bound =
            |scaling: Scaling, code: i32| scaling.scale * (code - scaling.zero_point) as f32;
        let (lo, hi) = (bound(input, least), bound(input, largest));
        let step = (hi - lo) / STEPS as f32;
        let span = bound(output, largest) - bound(output, least);
        let inverse = (largest - least + 1) as f32 / span;
        let clamp = |x: f32| x.clamp(least as f32, largest as f32) as i16;
        let g = |x: f32| f(x) * inverse;
        let sample = |i: i32| {
            let x = lo + i as f32 * step;
            let here = g(x).round();
            let midway = ((g(lo + (i + 1) as f32 * step) + here) / 2.0).round();
            let error = midway - g(x + step / 2.0).round();
            clamp(here - (error / 2.0).round())
        };
        let mut samples: Vec<i16> = (0..STEPS).map(sample).collect();
        samples.push(clamp(g(hi).round()));
        Self { samples }
    }

    /// One element.
    pub fn code(&self, x: i16) -> i16 {
        let (index, offset) = ((256 + (x >> 7)) as usize, i32::from(x & 127));
        let [Some(here), Some(next)] = [index, index + 1].map(|i| self.samples.get(i)) else {
            return 0;
        };
        let (here, next) = (i32::from(*here), i32::from(*next));
        (here + (((next - here) * offset + 64) >> 7)) as i16
    }
}
