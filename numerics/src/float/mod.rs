//! Floats of any exponent, mantissa, bias and special codes.
//!
//! A code is sign, exponent field `F` (`e` bits) and fraction `T` (`m` bits), from the top (IEEE 754-2019, 3.4):
//!
//! ```text
//! F = 0      (-1)^s x T x 2^(1 - bias - m)                  zero and subnormal numbers
//! F > 0      (-1)^s x (2^m + T) x 2^(F - bias - m)          normal numbers
//!
//! special codes of the magnitude F x 2^m + T:
//! ieee       F all ones: infinity where T = 0, else NaN      fp16, bf16, tf32, OCP E5M2
//! fn         all ones: NaN                                   OCP E4M3
//! fnuz       none; sign 1 over magnitude 0 is the one NaN    E4M3FNUZ, E5M2FNUZ
//! finite     none                                            OCP E3M2, E2M3, E2M1
//! ```
//!
//! Magnitude codes are in the order of their values, so a rounding that goes up adds one to the code, and overflow is
//! a code above the largest finite one, after rounding as if there were no largest exponent.
//!
//! Sources: IEEE 754-2019; OCP 8-bit Floating Point Specification (OFP8) 1.0; OCP Microscaling Formats 1.0, 5.3;
//! Graphcore/AMD "8-bit numerical formats for deep neural networks" (fnuz).

pub mod e8m0;
pub mod fast;

use crate::conversion::{Conversion, Encoded, MissingNan, Outcome, Overflow, Subnormals};
use crate::exact::{Exact, Magnitude};
use crate::format::Specials;
use crate::rounding::split;

/// Where the parts of a float format's codes lie: [`Format::Float`](crate::Format::Float) with what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloatLayout {
    /// Exponent bits.
    pub exponent: u32,
    /// Mantissa bits.
    pub mantissa: u32,
    /// Exponent bias.
    pub bias: i32,
    /// Infinities and NaNs.
    pub specials: Specials,
}

impl FloatLayout {
    /// Bits of the code without its sign.
    fn magnitude_bits(self) -> u32 {
        self.exponent + self.mantissa
    }

    /// Exponent of the unit of subnormal numbers.
    pub fn quantum(self) -> i32 {
        1 - self.bias - self.mantissa as i32
    }

    /// The largest finite magnitude code.
    pub fn largest(self) -> u128 {
        let all = (1u128 << self.magnitude_bits()) - 1;
        match self.specials {
            Specials::Ieee => all - (1 << self.mantissa),
            Specials::NanOnly => all - 1,
            Specials::NanAtNegativeZero | Specials::Finite => all,
        }
    }

    /// The magnitude code of infinity.
    pub fn infinity(self) -> Option<u128> {
        (self.specials == Specials::Ieee).then(|| self.largest() + 1)
    }

    /// The code of NaN with a sign, where there is one: quiet, no payload.
    pub fn nan(self, negative: bool) -> Option<u128> {
        let sign = u128::from(negative) << self.magnitude_bits();
        match self.specials {
            Specials::Ieee => {
                let quiet = self.mantissa.checked_sub(1)?;
                Some(sign | (self.largest() + 1) | 1 << quiet)
            }
            Specials::NanOnly => Some(sign | (self.largest() + 1)),
            Specials::NanAtNegativeZero => Some(1 << self.magnitude_bits()),
            Specials::Finite => None,
        }
    }

    fn signed(self, negative: bool, magnitude: u128) -> u128 {
        let no_negative_zero = self.specials == Specials::NanAtNegativeZero && magnitude == 0;
        magnitude | u128::from(negative && !no_negative_zero) << self.magnitude_bits()
    }

    /// What a code stands for; bits above the format's are ignored.
    pub fn decode(self, code: u128) -> Exact {
        let magnitude = code & ((1 << self.magnitude_bits()) - 1);
        let negative = code >> self.magnitude_bits() & 1 == 1;
        let special = |magnitude| Exact {
            negative,
            magnitude,
        };
        if self.specials == Specials::NanAtNegativeZero && negative && magnitude == 0 {
            return special(Magnitude::Nan);
        }
        if magnitude > self.largest() {
            let infinite = self.infinity() == Some(magnitude);
            return special(if infinite {
                Magnitude::Infinite
            } else {
                Magnitude::Nan
            });
        }
        let field = (magnitude >> self.mantissa) as i32;
        let fraction = magnitude & ((1 << self.mantissa) - 1);
        let hidden = u128::from(field > 0) << self.mantissa;
        Exact::finite(
            negative,
            hidden | fraction,
            self.quantum() + (field - 1).max(0),
        )
    }

    /// The code of a number; overflow by wrapping is not defined for floats and saturates.
    pub fn encode(self, value: Exact, conversion: &Conversion, index: u64) -> Encoded {
        let negative = value.negative;
        match value.magnitude {
            Magnitude::Nan => Encoded {
                code: self.encode_nan(negative, conversion.missing_nan),
                outcome: Outcome::Nan,
            },
            Magnitude::Infinite => self.overflow(negative, conversion, true),
            Magnitude::Finite { significand: 0, .. } => Encoded {
                code: self.signed(negative, 0),
                outcome: Outcome::Exact,
            },
            Magnitude::Finite {
                significand,
                exponent,
            } => self.encode_finite(negative, significand, exponent, conversion, index),
        }
    }

    fn encode_finite(
        self,
        negative: bool,
        significand: u128,
        exponent: i32,
        conversion: &Conversion,
        index: u64,
    ) -> Encoded {
        let field = exponent
            .saturating_add(significand.ilog2() as i32)
            .saturating_add(self.bias);
        if field > 1 << self.exponent {
            return self.overflow(negative, conversion, false);
        }
        if field < 1 && conversion.subnormals == Subnormals::Flush {
            return Encoded {
                code: self.signed(negative, 0),
                outcome: Outcome::Flushed,
            };
        }
        let base = ((field - 1).max(0) as u128) << self.mantissa;
        let unit = self.quantum() + (field - 1).max(0);
        let shift = unit.saturating_sub(exponent);
        let (magnitude, exact) = if shift <= 0 {
            (base + (significand << -shift), true)
        } else {
            let (kept, fraction) = split(significand, shift as u32);
            let kept = conversion.rounding.round(kept, fraction, negative, index);
            (base + kept, fraction.is_zero())
        };
        if magnitude > self.largest() {
            return self.overflow(negative, conversion, false);
        }
        Encoded {
            code: self.signed(negative, magnitude),
            outcome: match (exact, magnitude) {
                (true, _) => Outcome::Exact,
                (false, 0) => Outcome::Flushed,
                (false, _) => Outcome::Rounded,
            },
        }
    }

    fn encode_nan(self, negative: bool, missing: MissingNan) -> u128 {
        self.nan(negative).unwrap_or_else(|| match missing {
            MissingNan::Zero => self.signed(negative, 0),
            MissingNan::NegatedZero => self.signed(!negative, 0),
            MissingNan::Largest => self.largest(),
        })
    }

    fn overflow(self, negative: bool, conversion: &Conversion, infinite: bool) -> Encoded {
        let sign = u128::from(negative) << self.magnitude_bits();
        let finite = sign | self.largest();
        let code = match conversion.overflow {
            Overflow::Saturate | Overflow::Wrap => finite,
            Overflow::Infinity if !infinite && !conversion.rounding.reaches_infinity(negative) => {
                finite
            }
            Overflow::Infinity => match self.infinity() {
                Some(magnitude) => sign | magnitude,
                None => self.nan(negative).unwrap_or(finite),
            },
            Overflow::Nan => self.nan(negative).unwrap_or(finite),
        };
        let kept = infinite && self.infinity().is_some_and(|i| code == sign | i);
        Encoded {
            code,
            outcome: if kept {
                Outcome::Exact
            } else {
                Outcome::Overflowed
            },
        }
    }
}
