//! Rounding: which of its two neighbours a number that a format lacks becomes.
//!
//! A magnitude `k + f` (`k` an integer count of the format's quantum, `0 < f < 1`) becomes `k` or `k + 1`:
//!
//! ```text
//! nearest, ties to even   k + 1 where f > 1/2, or f = 1/2 and k odd               IEEE 754 roundTiesToEven
//! nearest, ties away      k + 1 where f >= 1/2                                    IEEE 754 roundTiesToAway
//! toward zero             k                                                       truncation of a magnitude
//! down                    k + 1 where negative                                    floor: a two's complement shift
//! up                      k + 1 where positive                                    ceiling
//! half up                 floor(x + 1/2) of the signed value: ties toward +infinity
//! to odd                  k | 1                                                   never lost by a second rounding
//! stochastic, n bits      k + 1 where floor(f 2^n) + r >= 2^n                      r: n random bits
//! ```
//!
//! "Even" and "odd" are those of `k`. Without mantissa bits `k` is 1 for every normal number, and ties go away from
//! zero (IEEE 754-2019, 4.3.1: "if that is not possible, the one larger in magnitude"). Stochastic rounding adds `n`
//! random bits below the quantum and truncates, as hardware does: what lies below the first `n` bits of `f` is lost,
//! and the mean is exact for values that have no more. Its bits come from [`crate::random`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::random;

/// How a number between two neighbours is rounded.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// To the nearest, ties to the even code.
    #[default]
    NearestEven,
    /// To the nearest, ties away from zero.
    NearestAway,
    /// Toward zero.
    TowardZero,
    /// Toward minus infinity.
    Down,
    /// Toward plus infinity.
    Up,
    /// To the nearest, ties toward plus infinity.
    HalfUp,
    /// To the neighbour whose code is odd.
    ToOdd,
    /// Up with a probability that is the fraction.
    Stochastic {
        /// Random bits of a decision, 1..=32.
        bits: u8,
        /// Seed of the random bits.
        seed: u64,
    },
}

/// What a rounding discards: `bits / 2^128`, and whether anything lies below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fraction {
    pub(crate) bits: u128,
    pub(crate) below: bool,
}

impl Fraction {
    const HALF: u128 = 1 << 127;

    pub(crate) fn is_zero(self) -> bool {
        self.bits == 0 && !self.below
    }

    fn is_half(self) -> bool {
        self.bits == Self::HALF && !self.below
    }
}

/// Splits `significand / 2^shift` into its integer part and the rest.
pub(crate) fn split(significand: u128, shift: u32) -> (u128, Fraction) {
    let (kept, bits, below) = match shift {
        0 => (significand, 0, false),
        1..=127 => (significand >> shift, significand << (128 - shift), false),
        128 => (0, significand, false),
        129..=255 => {
            let bits = significand >> (shift - 128);
            (0, bits, bits << (shift - 128) != significand)
        }
        _ => (0, 0, significand != 0),
    };
    (kept, Fraction { bits, below })
}

impl Rounding {
    /// The rounded magnitude of `kept + fraction`. `index` numbers the value for stochastic rounding.
    pub(crate) fn round(self, kept: u128, fraction: Fraction, negative: bool, index: u64) -> u128 {
        if fraction.is_zero() {
            return kept;
        }
        let at_least_half = fraction.bits >= Fraction::HALF;
        let up = match self {
            Self::NearestEven => at_least_half && !(fraction.is_half() && kept & 1 == 0),
            Self::NearestAway => at_least_half,
            Self::TowardZero => false,
            Self::Down => negative,
            Self::Up => !negative,
            Self::HalfUp => at_least_half && !(fraction.is_half() && negative),
            Self::ToOdd => kept & 1 == 0,
            Self::Stochastic { bits, seed } => {
                let bits = u32::from(bits.clamp(1, 32));
                let top = (fraction.bits >> (128 - bits)) as u64;
                let random = u64::from(random::word(seed, index) >> (32 - bits));
                top + random >= 1 << bits
            }
        };
        kept + u128::from(up)
    }

    /// Whether a result above the largest finite number becomes infinite under this rounding, where overflow
    /// does at all (IEEE 754-2019, 7.4: not where rounding leads back toward zero).
    pub(crate) fn reaches_infinity(self, negative: bool) -> bool {
        match self {
            Self::TowardZero | Self::ToOdd => false,
            Self::Down => negative,
            Self::Up => !negative,
            _ => true,
        }
    }

    /// `dividend / 2^shift`, rounded.
    pub fn shift_right(self, value: i128, shift: u32, index: u64) -> i128 {
        let negative = value < 0;
        let (kept, fraction) = split(value.unsigned_abs(), shift);
        let magnitude = self.round(kept, fraction, negative, index) as i128;
        if negative { -magnitude } else { magnitude }
    }
}

/// A name that is no rounding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a rounding; write rne, rna, rtz, rtn, rtp, half_up, odd or stochastic (stochastic8: of 8 random bits)"
)]
pub struct UnknownRounding(pub String);

impl FromStr for Rounding {
    type Err = UnknownRounding;

    /// Reads "rne", "rna", "rtz", "rtn", "rtp", "half_up", "odd", "stochastic", "stochastic8" (seed 0).
    fn from_str(s: &str) -> Result<Self, UnknownRounding> {
        let error = || UnknownRounding(s.into());
        Ok(match s {
            "rne" => Self::NearestEven,
            "rna" => Self::NearestAway,
            "rtz" => Self::TowardZero,
            "rtn" => Self::Down,
            "rtp" => Self::Up,
            "half_up" => Self::HalfUp,
            "odd" => Self::ToOdd,
            "stochastic" => Self::Stochastic { bits: 32, seed: 0 },
            _ => {
                let digits = s.strip_prefix("stochastic").ok_or_else(error)?;
                let bits = digits.parse().ok().filter(|b| (1..=32).contains(b));
                Self::Stochastic {
                    bits: bits.ok_or_else(error)?,
                    seed: 0,
                }
            }
        })
    }
}

impl fmt::Display for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NearestEven => f.pad("rne"),
            Self::NearestAway => f.pad("rna"),
            Self::TowardZero => f.pad("rtz"),
            Self::Down => f.pad("rtn"),
            Self::Up => f.pad("rtp"),
            Self::HalfUp => f.pad("half_up"),
            Self::ToOdd => f.pad("odd"),
            Self::Stochastic { bits, .. } => f.pad(&format!("stochastic{bits}")),
        }
    }
}
