//! Logistic and tanh of int16 codes.
//!
//! LiteRT's reference kernels interpolate in one table of 256 values, since `tanh(x) = 2 logistic(2x) - 1`. Each value
//! is raised by half the error that linear interpolation has midway to the next, so that it errs evenly both ways:
//!
//! ```text
//! F(i) = 2^16 logistic(i / 24);  T_i = round(F(i) + (F(i + 1/2) - (F(i) + F(i + 1)) / 2) / 2),  T_255 = 2^16 - 1
//!
//! v = (x m + 2^(l-1)) >> l         m 2^-l = 3 s_x 2^12: |x| / 10.67 over the table
//! logistic    u = |v| >> 9, f = |v| & 511:  r = T_u 2^9 + f (T_u+1 - T_u), 32767 x 2^10 from u = 255 on
//!             y = (r + 2^9) >> 10                  v >= 0
//!             y = (2^25 - r + 2^9 - 1) >> 10       v < 0
//! tanh        u = |v| >> 8, f = |v| & 255:  r = T_u 2^8 + f (T_u+1 - T_u), 65535 x 2^8 from u = 255 on
//!             y = (r - 2^23 + 2^7) >> 8            v >= 0
//!             y = (-r + 2^23 + 2^7 - 1) >> 8       v < 0
//! ```
//!
//! A scale of 2^-12 or 2^-11 has `m = 3 x 2^l'`, `l = 0`; any other `m = 3 s_x 2^(12 + l)` truncated, with l the first
//! that brings it above 2^14. Its optimized kernels take gemmlowp's functions ([`super::fixed_point`]) of Q3 words
//! instead: logistic of steps of 2^-12, tanh of both. Source: TensorFlow Lite, kernels activations and reference/integer_ops.

use super::fixed_point::WORD16;
use super::{QuantizedError, check};

/// Which function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// 1 / (1 + exp(-x)), in steps of 2^-15.
    Logistic,
    /// tanh(x), in steps of 2^-15.
    Tanh,
}

/// How it is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// By interpolation, m and l.
    Table {
        /// m.
        multiplier: i32,
        /// l.
        shift: u32,
    },
    /// gemmlowp's, after so many places to the left.
    FixedPoint {
        /// 0 or 1.
        shift: i32,
    },
}

/// A function of int16 codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sigmoid {
    /// Which.
    pub function: Function,
    /// How.
    pub method: Method,
    table: Vec<u32>,
}

/// The places left that bring a scale to 2^-12, where it is 2^-12 or 2^-11.
fn places(scale: f32) -> Option<i32> {
    [0, 1].into_iter().find(|n| scale == 2f32.powi(n - 12))
}

impl Sigmoid {
    /// As LiteRT's reference kernel computes it.
    pub fn interpolated(function: Function, input: f32) -> Self {
        let (multiplier, shift) = match places(input) {
            Some(n) => (3 << n, 0),
            None => {
                let mut real = f64::from(input) * 4096.0 * 3.0;
                let mut shift = 0;
                while real <= 32767.0 / 2.0 && shift <= 30 {
                    shift += 1;
                    real *= 2.0;
                }
                (real as i32, shift)
            }
        };
        let f = |at: f64| 65536.0 / (1.0 + libm::exp(-at / 24.0));
        let sample = |i: u32| {
            let at = f64::from(i);
            let error = f(at + 0.5) - (f(at) + f(at + 1.0)) / 2.0;
            (f(at) + error / 2.0).round() as u32
        };
        Self {
            function,
            method: Method::Table { multiplier, shift },
            table: (0..255).map(sample).chain([0xffff]).collect(),
        }
    }

    /// As LiteRT's optimized kernel computes it; `None` for scales that it does not take.
    pub fn fixed_point(function: Function, input: f32) -> Option<Self> {
        let shift = places(input)?;
        let taken = shift == 0 || function == Function::Tanh;
        taken.then(|| Self {
            function,
            method: Method::FixedPoint { shift },
            table: Vec::new(),
        })
    }

    /// One element.
    pub fn code(&self, x: i16) -> i16 {
        let x = i64::from(x);
        match (&self.method, self.function) {
            (Method::FixedPoint { shift }, function) => {
                let x = WORD16.scale(x, *shift);
                (match function {
                    Function::Logistic => WORD16.logistic(x, 3),
                    Function::Tanh => WORD16.tanh(x, 3),
                }) as i16
            }
            (Method::Table { multiplier, shift }, function) => {
                let half = if *shift > 0 { 1 << (shift - 1) } else { 0 };
                let v = (x * i64::from(*multiplier) + half) >> shift;
                match function {
                    Function::Logistic => {
                        let r = self.interpolate(v, 9).unwrap_or(0x7fff << 10);
                        let r = if v >= 0 {
                            r + (1 << 9)
                        } else {
                            (1 << 25) - r + (1 << 9) - 1
                        };
                        (r >> 10) as i16
                    }
                    Function::Tanh => {
                        let r = self.interpolate(v, 8).unwrap_or(0xffff << 8);
                        let r = if v >= 0 {
                            r - (1 << 23)
                        } else {
                            (1 << 23) - 1 - r
                        };
                        ((r + (1 << 7)) >> 8) as i16
                    }
                }
            }
        }
    }

    /// The table at |v|, with so many bits of fraction; `None` beyond it.
    fn interpolate(&self, v: i64, bits: u32) -> Option<i64> {
        let v = v.unsigned_abs();
        let at = usize::try_from(v >> bits).ok()?;
        let here = i64::from(*self.table.get(at)?);
        let next = i64::from(*self.table.get(at + 1)?);
        let fraction = (v & ((1 << bits) - 1)) as i64;
        Some((here << bits) + fraction * (next - here))
    }
}

/// All elements.
pub fn sigmoid(op: &Sigmoid, input: &[i16], output: &mut [i16]) -> Result<(), QuantizedError> {
    check("the output", output.len(), &[input.len()])?;
    for (x, y) in input.iter().zip(output) {
        *y = op.code(*x);
    }
    Ok(())
}
