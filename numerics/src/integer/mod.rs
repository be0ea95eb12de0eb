//! Integers of 1 to 64 bits.
//!
//! ```text
//! signed: two's complement, -2^(n-1) ..= 2^(n-1) - 1          unsigned: 0 ..= 2^n - 1
//! ```
//!
//! A number is rounded to an integer, then brought into range: clamped, or its low `n` bits kept (wrap). Infinity
//! wraps to 0. Where overflow is to become infinity or NaN, which integers lack, it saturates.

pub mod affine;
pub mod fast;
pub mod requantize;

use crate::conversion::{Conversion, Encoded, MissingNan, Outcome, Overflow};
use crate::exact::{Exact, Magnitude};
use crate::rounding::split;

/// The range of an integer format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntRange {
    /// Width, 1..=64.
    pub bits: u32,
    /// Two's complement if true.
    pub signed: bool,
}

impl IntRange {
    /// The least integer.
    pub fn least(self) -> i128 {
        if self.signed {
            -(1 << (self.bits - 1))
        } else {
            0
        }
    }

    /// The largest integer.
    pub fn largest(self) -> i128 {
        (1 << (self.bits - u32::from(self.signed))) - 1
    }

    /// The integer that the low bits of a code are.
    pub fn integer(self, code: u128) -> i128 {
        let low = (code & ((1 << self.bits) - 1)) as i128;
        if low > self.largest() {
            low - (1 << self.bits)
        } else {
            low
        }
    }

    /// The code of an integer: its low bits.
    pub fn code(self, integer: i128) -> u128 {
        integer as u128 & ((1 << self.bits) - 1)
    }

    /// An integer brought into range, and whether it was outside.
    pub fn confine(self, integer: i128, overflow: Overflow) -> (i128, bool) {
        let clamped = integer.clamp(self.least(), self.largest());
        if clamped == integer {
            (integer, false)
        } else if overflow == Overflow::Wrap {
            (self.integer(integer as u128), true)
        } else {
            (clamped, true)
        }
    }

    /// What a code stands for.
    pub fn decode(self, code: u128) -> Exact {
        Exact::from(self.integer(code))
    }

    /// The code of a number.
    pub fn encode(self, value: Exact, conversion: &Conversion, index: u64) -> Encoded {
        let negative = value.negative;
        let (integer, outcome) = match value.magnitude {
            Magnitude::Nan => {
                let largest = conversion.missing_nan == MissingNan::Largest;
                (if largest { self.largest() } else { 0 }, Outcome::Nan)
            }
            Magnitude::Infinite => {
                let end = if negative {
                    self.least()
                } else {
                    self.largest()
                };
                let wraps = conversion.overflow == Overflow::Wrap;
                (if wraps { 0 } else { end }, Outcome::Overflowed)
            }
            Magnitude::Finite { significand: 0, .. } => (0, Outcome::Exact),
            Magnitude::Finite {
                significand,
                exponent,
            } => {
                let (integer, exact) = round(negative, significand, exponent, conversion, index);
                match self.confine(integer, conversion.overflow) {
                    (integer, true) => (integer, Outcome::Overflowed),
                    (integer, false) if exact => (integer, Outcome::Exact),
                    (0, false) => (0, Outcome::Flushed),
                    (integer, false) => (integer, Outcome::Rounded),
                }
            }
        };
        Encoded {
            code: self.code(integer),
            outcome,
        }
    }
}

/// A finite number as an integer, and whether it was one. Magnitudes from 2^126 on stand as the multiple of 2^126
/// with the same sign and the same low 126 bits: beyond every range, and equal under wrapping.
fn round(
    negative: bool,
    significand: u128,
    exponent: i32,
    conversion: &Conversion,
    index: u64,
) -> (i128, bool) {
    const BEYOND: u128 = 1 << 126;
    let (magnitude, exact) = if exponent < 0 {
        let (kept, fraction) = split(significand, exponent.unsigned_abs());
        let rounded = conversion.rounding.round(kept, fraction, negative, index);
        (rounded, fraction.is_zero())
    } else {
        let low = significand.checked_shl(exponent as u32).unwrap_or(0);
        let lost = exponent as u32 > significand.leading_zeros();
        (if lost { low % BEYOND + BEYOND } else { low }, true)
    };
    let magnitude = if magnitude > BEYOND {
        magnitude % BEYOND + BEYOND
    } else {
        magnitude
    } as i128;
    (if negative { -magnitude } else { magnitude }, exact)
}
