//! A number without rounding: what a code of any format stands for.
//!
//! ```text
//! value = (-1)^negative x significand x 2^exponent          significand: up to 128 bits
//! ```
//!
//! Every format's codes decode to it and every format encodes from it, so that a conversion between any two formats
//! rounds once.

use crate::rounding::{Rounding, split};

/// The magnitude of a number.
#[derive(Debug, Clone, Copy)]
pub enum Magnitude {
    /// `significand x 2^exponent`; zero where the significand is.
    Finite {
        /// Any integer.
        significand: u128,
        /// Exponent of its unit.
        exponent: i32,
    },
    /// Infinity.
    Infinite,
    /// Not a number.
    Nan,
}

/// A number of any format.
#[derive(Debug, Clone, Copy)]
pub struct Exact {
    /// Sign; zeros and NaNs have one too.
    pub negative: bool,
    /// Magnitude.
    pub magnitude: Magnitude,
}

impl Exact {
    /// A finite number.
    pub fn finite(negative: bool, significand: u128, exponent: i32) -> Self {
        let magnitude = Magnitude::Finite {
            significand,
            exponent,
        };
        Self {
            negative,
            magnitude,
        }
    }

    /// Plus zero.
    pub const ZERO: Self = Self {
        negative: false,
        magnitude: Magnitude::Finite {
            significand: 0,
            exponent: 0,
        },
    };

    /// Not a number, positive.
    pub const NAN: Self = Self {
        negative: false,
        magnitude: Magnitude::Nan,
    };

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        matches!(self.magnitude, Magnitude::Finite { significand: 0, .. })
    }

    /// Whether it is not a number.
    pub fn is_nan(self) -> bool {
        matches!(self.magnitude, Magnitude::Nan)
    }

    /// Reads the bits of an IEEE binary format of at most 64 bits.
    fn ieee(bits: u64, exponent_bits: u32, mantissa_bits: u32) -> Self {
        let negative = bits >> (exponent_bits + mantissa_bits) != 0;
        let field = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
        let fraction = bits & ((1 << mantissa_bits) - 1);
        let bias = (1i32 << (exponent_bits - 1)) - 1;
        let magnitude = if field == (1 << exponent_bits) - 1 {
            if fraction == 0 {
                Magnitude::Infinite
            } else {
                Magnitude::Nan
            }
        } else {
            let hidden = u64::from(field != 0) << mantissa_bits;
            Magnitude::Finite {
                significand: u128::from(fraction | hidden),
                exponent: (field.max(1) as i32) - bias - mantissa_bits as i32,
            }
        };
        Self {
            negative,
            magnitude,
        }
    }

    /// The nearest f64, ties to even.
    pub fn to_f64(self) -> f64 {
        let bits = self.nearest_ieee(11, 52);
        f64::from_bits(bits)
    }

    /// The nearest f32, ties to even.
    pub fn to_f32(self) -> f32 {
        f32::from_bits(self.nearest_ieee(8, 23) as u32)
    }

    fn nearest_ieee(self, exponent_bits: u32, mantissa_bits: u32) -> u64 {
        let bias = (1i32 << (exponent_bits - 1)) - 1;
        let infinity = ((1u64 << exponent_bits) - 1) << mantissa_bits;
        let magnitude = match self.magnitude {
            Magnitude::Infinite => infinity,
            Magnitude::Nan => infinity | 1 << (mantissa_bits - 1),
            Magnitude::Finite { significand: 0, .. } => 0,
            Magnitude::Finite {
                significand,
                exponent,
            } => {
                let leading = exponent.saturating_add(significand.ilog2() as i32);
                if leading > bias {
                    infinity
                } else {
                    let field = leading.saturating_add(bias).max(1);
                    let shift = (field - bias - mantissa_bits as i32).saturating_sub(exponent);
                    let base = u128::from((field - 1) as u64) << mantissa_bits;
                    if shift <= 0 {
                        (base + (significand << -shift)) as u64
                    } else {
                        let (kept, fraction) = split(significand, shift as u32);
                        let kept = Rounding::NearestEven.round(kept, fraction, self.negative, 0);
                        (base + kept) as u64
                    }
                }
            }
        };
        magnitude | u64::from(self.negative) << (exponent_bits + mantissa_bits)
    }

    /// `self / divisor`, both of at most 64 significant bits: exact, or with at least 63 correct bits and a last
    /// one that says that more follow, so that rounding it to 61 bits or fewer is rounding the quotient.
    pub fn quotient(self, divisor: Self) -> Self {
        let negative = self.negative != divisor.negative;
        let magnitude = match (self.magnitude, divisor.magnitude) {
            (Magnitude::Nan, _)
            | (_, Magnitude::Nan)
            | (Magnitude::Infinite, Magnitude::Infinite) => Magnitude::Nan,
            (Magnitude::Infinite, _) => Magnitude::Infinite,
            (_, Magnitude::Infinite) => Magnitude::Finite {
                significand: 0,
                exponent: 0,
            },
            (
                Magnitude::Finite {
                    significand: a,
                    exponent: ea,
                },
                Magnitude::Finite {
                    significand: b,
                    exponent: eb,
                },
            ) => match (a, b) {
                (0, 0) => Magnitude::Nan,
                (_, 0) => Magnitude::Infinite,
                (0, _) => Magnitude::Finite {
                    significand: 0,
                    exponent: 0,
                },
                _ => {
                    let up = a.leading_zeros();
                    let a = a << up;
                    let significand = (a / b) << 1 | u128::from(a % b != 0);
                    // The quotient of a 128-bit by a b-bit integer has at least 128 - b bits; one more says whether it is exact.
                    if a / b >= 1 << 127 {
                        Magnitude::Finite {
                            significand: a / b,
                            exponent: ea - up as i32 - eb,
                        }
                    } else {
                        Magnitude::Finite {
                            significand,
                            exponent: ea - up as i32 - eb - 1,
                        }
                    }
                }
            },
        };
        Self {
            negative,
            magnitude,
        }
    }
}

impl From<f32> for Exact {
    fn from(value: f32) -> Self {
        Self::ieee(u64::from(value.to_bits()), 8, 23)
    }
}

impl From<f64> for Exact {
    fn from(value: f64) -> Self {
        Self::ieee(value.to_bits(), 11, 52)
    }
}

impl From<i128> for Exact {
    fn from(value: i128) -> Self {
        Self::finite(value < 0, value.unsigned_abs(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn floats_survive(bits: u64, narrow: u32) {
            let (x, y) = (f64::from_bits(bits), f32::from_bits(narrow));
            prop_assert!(x.is_nan() || Exact::from(x).to_f64().to_bits() == bits);
            prop_assert!(y.is_nan() || Exact::from(y).to_f32().to_bits() == narrow);
            // The hardware's own narrowing is the oracle of rounding to f32.
            prop_assert!(x.is_nan() || Exact::from(x).to_f32().to_bits() == (x as f32).to_bits());
        }

        #[test]
        fn quotients_round_as_hardware_divides(a: u64, b: u64, c: u32, d: u32) {
            let (x, y) = (f64::from_bits(a), f64::from_bits(b));
            let q = Exact::from(x).quotient(Exact::from(y)).to_f64();
            prop_assert!((x / y).is_nan() && q.is_nan() || q.to_bits() == (x / y).to_bits());
            let (x, y) = (f32::from_bits(c), f32::from_bits(d));
            let q = Exact::from(x).quotient(Exact::from(y)).to_f32();
            prop_assert!((x / y).is_nan() && q.is_nan() || q.to_bits() == (x / y).to_bits());
        }
    }
}
