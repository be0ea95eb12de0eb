//! Logarithmic numbers: a sign and the binary logarithm of the magnitude in fixed point.
//!
//! ```text
//! value = (-1)^s x 2^(L / 2^f)       L: i + f bits, two's complement; its least value stands for zero
//! ```
//!
//! Rounding is that of the logarithm: nearest is nearest in ratio. Except at powers of two the logarithm of a number
//! with finitely many bits is irrational, so there are no ties and every comparison is with a root of two that no
//! significand equals: the roots are floors at 63 fraction bits, made by integer arithmetic, and a significand of up
//! to 64 bits compares with them exactly. Numbers whose logarithm is below the least become zero. There is no NaN and
//! no infinity. Source of the form: Miyashita, Lee, Murmann, "Convolutional neural networks using logarithmic data
//! representation", 2016.

use crate::conversion::{Conversion, Encoded, MissingNan, Outcome};
use crate::exact::{Exact, Magnitude};
use crate::rounding::Rounding;

/// A logarithmic format with the roots of two that its codes need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logarithmic {
    integer: u32,
    fraction: u32,
    /// floor(2^(j / 2^(f+1)) x 2^63).
    roots: Vec<u64>,
}

impl Logarithmic {
    /// Integer bits (the logarithm's sign among them) are brought to 2..=11, fraction bits to 0..=4.
    pub fn new(integer: u8, fraction: u8) -> Self {
        let fraction = u32::from(fraction.min(4));
        let halvings = fraction + 1;
        Self {
            integer: u32::from(integer.clamp(2, 11)),
            fraction,
            roots: (0..1 << halvings).map(|j| root(j, halvings)).collect(),
        }
    }

    fn log_bits(&self) -> u32 {
        self.integer + self.fraction
    }

    /// The largest logarithm, in its own unit; the least nonzero number's is its negative.
    fn largest(&self) -> i32 {
        (1 << (self.log_bits() - 1)) - 1
    }

    fn zero(&self, negative: bool) -> u128 {
        u128::from(negative) << self.log_bits() | 1 << (self.log_bits() - 1)
    }

    fn code(&self, negative: bool, log: i32) -> u128 {
        let mask = (1u128 << self.log_bits()) - 1;
        u128::from(negative) << self.log_bits() | (log as u128 & mask)
    }

    /// What a code stands for: a power of two, or a number within 2^-63 of the irrational one, below it, with a last
    /// bit that says so: it rounds to f32 and f64 as the irrational number does.
    pub fn decode(&self, code: u128) -> Exact {
        let negative = code >> self.log_bits() & 1 == 1;
        let shift = 32 - self.log_bits();
        let log = ((code as u32) << shift) as i32 >> shift;
        if log < -self.largest() {
            return Exact::finite(negative, 0, 0);
        }
        let step = log.rem_euclid(1 << self.fraction);
        let whole = log.div_euclid(1 << self.fraction);
        if step == 0 {
            return Exact::finite(negative, 1, whole);
        }
        let root = self.roots[2 * step as usize];
        Exact::finite(negative, u128::from(root) << 1 | 1, whole - 64)
    }

    /// The code of a number. Stochastic rounding is to nearest here.
    pub fn encode(&self, value: Exact, conversion: &Conversion, _index: u64) -> Encoded {
        let negative = value.negative;
        let end = Encoded {
            code: self.code(negative, self.largest()),
            outcome: Outcome::Overflowed,
        };
        match value.magnitude {
            Magnitude::Nan => Encoded {
                code: match conversion.missing_nan {
                    MissingNan::Zero => self.zero(negative),
                    MissingNan::NegatedZero => self.zero(!negative),
                    MissingNan::Largest => self.code(false, self.largest()),
                },
                outcome: Outcome::Nan,
            },
            Magnitude::Infinite => end,
            Magnitude::Finite { significand: 0, .. } => Encoded {
                code: self.zero(negative),
                outcome: Outcome::Exact,
            },
            Magnitude::Finite {
                significand,
                exponent,
            } => {
                let whole = exponent.saturating_add(significand.ilog2() as i32);
                let (log, exact) = self.logarithm(significand, conversion.rounding, negative);
                let log = whole.saturating_mul(1 << self.fraction).saturating_add(log);
                if log > self.largest() {
                    end
                } else if log < -self.largest() {
                    Encoded {
                        code: self.zero(negative),
                        outcome: Outcome::Flushed,
                    }
                } else {
                    Encoded {
                        code: self.code(negative, log),
                        outcome: if exact {
                            Outcome::Exact
                        } else {
                            Outcome::Rounded
                        },
                    }
                }
            }
        }
    }

    /// The rounded logarithm of a significand scaled to 1..2, in the format's unit, and whether it is exact.
    fn logarithm(&self, significand: u128, rounding: Rounding, negative: bool) -> (i32, bool) {
        let top = significand << significand.leading_zeros();
        let (scaled, rest) = ((top >> 64) as u64, top as u64);
        if scaled == 1 << 63 && rest == 0 {
            return (0, true);
        }
        // Roots at even places are logarithms of the format, those at odd places lie halfway between two.
        let below = self.roots.partition_point(|root| *root < scaled).max(1) - 1;
        let floor = (below / 2) as i32;
        let log = match rounding {
            Rounding::NearestEven
            | Rounding::NearestAway
            | Rounding::HalfUp
            | Rounding::Stochastic { .. } => below.div_ceil(2) as i32,
            Rounding::TowardZero => floor,
            Rounding::Down => floor + i32::from(negative),
            Rounding::Up => floor + i32::from(!negative),
            Rounding::ToOdd => floor | 1,
        };
        (log, false)
    }
}

/// floor(2^(j / 2^halvings) x 2^63), bit by bit: the largest b with b^(2^halvings) <= 2^(j + 63 x 2^halvings).
fn root(j: u32, halvings: u32) -> u64 {
    let bound = j + (63 << halvings);
    let mut b = 1u64 << 63;
    for bit in (0..63).rev() {
        let trial = b | 1 << bit;
        let mut power = vec![trial];
        for _ in 0..halvings {
            power = square(&power);
        }
        if !exceeds_power_of_two(&power, bound) {
            b = trial;
        }
    }
    b
}

/// The square of a little-endian number.
fn square(a: &[u64]) -> Vec<u64> {
    let mut product = vec![0u64; 2 * a.len()];
    for (i, &x) in a.iter().enumerate() {
        let mut carry = 0u128;
        for (k, &y) in a.iter().enumerate() {
            let sum = u128::from(x) * u128::from(y) + u128::from(product[i + k]) + carry;
            product[i + k] = sum as u64;
            carry = sum >> 64;
        }
        product[i + a.len()] = carry as u64;
    }
    product
}

/// Whether a little-endian number is above 2^bound.
fn exceeds_power_of_two(a: &[u64], bound: u32) -> bool {
    let Some(top) = a.iter().rposition(|limb| *limb != 0) else {
        return false;
    };
    let length = 64 * top as u32 + a[top].ilog2();
    length > bound
        || length == bound && (!a[top].is_power_of_two() || a[..top].iter().any(|limb| *limb != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_those_of_two() {
        // floor(sqrt(2) x 2^63), from the digits of sqrt(2).
        assert_eq!(root(1, 1), 13_043_817_825_332_782_212);
        assert_eq!(root(0, 3), 1 << 63);
    }

    #[test]
    fn codes_survive_and_order() {
        for (integer, fraction) in [(4, 3), (2, 0), (5, 4), (8, 1)] {
            let log = Logarithmic::new(integer, fraction);
            let mut last = f64::NEG_INFINITY;
            for l in -log.largest()..=log.largest() {
                let code = log.code(false, l);
                let value = log.decode(code).to_f64();
                assert!(value > last);
                let ideal = (f64::from(l) / f64::from(1 << log.fraction)).exp2();
                assert!((value / ideal - 1.0).abs() < 1e-15);
                last = value;
                let back = log.encode(Exact::from(value), &Conversion::default(), 0);
                assert_eq!(back.code, code);
                let back = log.encode(Exact::from(-value), &Conversion::default(), 0);
                assert_eq!(back.code, log.code(true, l));
            }
        }
    }

    #[test]
    fn nearest_is_by_ratio() {
        let log = Logarithmic::new(4, 1);
        for x in (1..4000).map(|i| f64::from(i) / 100.0) {
            let code = log.encode(Exact::from(x), &Conversion::default(), 0).code;
            let expected = (2.0 * x.log2()).round();
            let ideal = (expected / 2.0).clamp(-7.5, 7.5).exp2();
            assert!(
                (log.decode(code).to_f64() / ideal - 1.0).abs() < 1e-15,
                "{x}"
            );
        }
    }
}
