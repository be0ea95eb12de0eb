//! E8M0: a power of two as a scale (OCP Microscaling Formats 1.0, 5.4.1).
//!
//! ```text
//! code 0..=254: 2^(code - 127)          code 255: NaN          no sign, no zero, no infinity
//! ```
//!
//! Zero, negative numbers, infinities and NaN become NaN, and overflow does unless it saturates. Numbers below the
//! smallest become it. Rounding is that of a float without mantissa bits: ties go to the larger.

use crate::conversion::{Conversion, Encoded, Outcome, Overflow};
use crate::exact::{Exact, Magnitude};
use crate::rounding::split;

/// The code of NaN.
pub const NAN: u8 = 255;

/// What a code stands for.
pub fn decode(code: u8) -> Exact {
    if code == NAN {
        Exact::NAN
    } else {
        Exact::finite(false, 1, i32::from(code) - 127)
    }
}

/// The code of a number.
pub fn encode(value: Exact, conversion: &Conversion, index: u64) -> Encoded {
    let nan = Encoded {
        code: u128::from(NAN),
        outcome: Outcome::Nan,
    };
    let largest = Encoded {
        code: 254,
        outcome: Outcome::Overflowed,
    };
    let overflowed = Encoded {
        outcome: Outcome::Overflowed,
        ..nan
    };
    match value.magnitude {
        _ if value.negative => nan,
        Magnitude::Nan | Magnitude::Finite { significand: 0, .. } => nan,
        Magnitude::Infinite if conversion.overflow == Overflow::Saturate => largest,
        Magnitude::Infinite => overflowed,
        Magnitude::Finite {
            significand,
            exponent,
        } => {
            let leading = significand.ilog2();
            let (kept, fraction) = split(significand, leading);
            let up = conversion.rounding.round(kept, fraction, false, index) - kept;
            let code = exponent.saturating_add(leading as i32 + 127 + up as i32);
            let rounded = if fraction.is_zero() && code >= 0 {
                Outcome::Exact
            } else {
                Outcome::Rounded
            };
            match code {
                255..
                    if conversion.overflow == Overflow::Saturate
                        || !conversion.rounding.reaches_infinity(false) =>
                {
                    largest
                }
                255.. => overflowed,
                _ => Encoded {
                    code: code.max(0) as u128,
                    outcome: rounded,
                },
            }
        }
    }
}
