//! Registers of function units: the numbers that an intermediate result may be.
//!
//! A register's numbers are those of a float format, or of an integer format with a binary point:
//!
//! ```text
//! float         the numbers of the format
//! fixed point   code x 2^-fraction
//! ```
//!
//! Units compute on `f64`s that stand for such numbers. An operation takes two steps, and together they round once:
//!
//! ```text
//! s = odd(a o b)       the exact result, rounded to 53 bits to odd: never to a number or a tie of a narrower register
//! y = round(s)         rounded to the register by its rule
//! ```
//!
//! which is what rounding the exact result gives, for registers of up to 50 significant bits (Boldo, Melquiond, IEEE TC
//! 57(4), 2008). Sums reach `odd` by an error-free transformation (Knuth's TwoSum); products of two registers of at most
//! 26 bits are exact in `f64`. Wider operands, and roundings that have no fast form, take the exact path of
//! [`Codec`] and [`Exact`]; the tests compare the two.
//!
//! Rounding a magnitude `a` in `[p, 2p)`, `p` a power of two no less than the smallest normal number, to `m` mantissa
//! bits, nearest even, is `(a + c) - c` with `c = 3/2 p 2^(52 - m)`; other rules move its result by one unit `p 2^-m`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::codec::{Codec, CodecError};
use crate::conversion::{Conversion, Overflow, Subnormals};
use crate::exact::{Exact, Magnitude};
use crate::float::FloatLayout;
use crate::format::Format;
use crate::integer::IntRange;
use crate::rounding::Rounding;

/// The numbers that an intermediate or a final result is rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// A float format, or an integer format whose codes count `2^-fraction`.
    pub format: Format,
    /// Binary places of an integer format.
    #[serde(default)]
    pub fraction: i16,
    /// Which neighbour a result becomes.
    #[serde(default)]
    pub rounding: Rounding,
    /// What a result beyond the range becomes. Integers saturate where this is infinity.
    #[serde(default = "infinity")]
    pub overflow: Overflow,
    /// What a result below the normal range becomes.
    #[serde(default)]
    pub subnormals: Subnormals,
}

fn infinity() -> Overflow {
    Overflow::Infinity
}

/// Why a register can't be one of a function unit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegisterError {
    /// Format and conversion don't go together.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Neither float nor integer.
    #[error("`{0}` is no register of a function unit: only floats and integers are")]
    Kind(Format),
    /// More than an f64 holds.
    #[error(
        "`{0}` is too wide for a function unit: at most 53 significant bits and 11 exponent bits"
    )]
    TooWide(Format),
    /// A binary point far from the number.
    #[error("`fraction` is {0}; write -64 to 128, and 0 for floats")]
    Fraction(i16),
    /// Function units round the same way each time.
    #[error("function units don't round stochastically")]
    Stochastic,
}

impl Register {
    /// A float register with the rules of IEEE 754.
    pub fn float(format: Format) -> Self {
        Self {
            format,
            fraction: 0,
            rounding: Rounding::NearestEven,
            overflow: Overflow::Infinity,
            subnormals: Subnormals::Keep,
        }
    }

    /// Single precision with the rules of IEEE 754.
    pub fn f32() -> Self {
        Self::float(Format::FP32)
    }

    /// Two's complement of some bits, `fraction` of them binary places, to nearest even, saturating.
    pub fn fixed(bits: u8, fraction: i16) -> Self {
        Self {
            format: Format::Int { bits, signed: true },
            fraction,
            overflow: Overflow::Saturate,
            ..Self::float(Format::FP32)
        }
    }

    /// Significant bits of its numbers.
    pub fn significant_bits(&self) -> u32 {
        match self.format {
            Format::Float { mantissa, .. } => u32::from(mantissa) + 1,
            other => other.bits() as u32,
        }
    }

    /// Whether products of two such numbers, and sums with a third, are within the fast path.
    pub(crate) fn is_narrow(&self) -> bool {
        match self.format {
            Format::Float {
                exponent,
                mantissa,
                bias,
                ..
            } => exponent <= 8 && mantissa <= 25 && (0..=300).contains(&bias),
            Format::Int { bits, .. } => bits <= 26,
            _ => false,
        }
    }

    /// Its rounding made ready. `narrow`: every operand of its operations [is narrow](Self::is_narrow).
    pub(crate) fn rounder(&self, narrow: bool) -> Result<Rounder, RegisterError> {
        let conversion = Conversion {
            rounding: self.rounding,
            overflow: self.overflow,
            subnormals: self.subnormals,
            ..Conversion::default()
        };
        if matches!(self.rounding, Rounding::Stochastic { .. }) {
            return Err(RegisterError::Stochastic);
        }
        let codec = Codec::new(self.format, conversion)?;
        let fits = match self.format {
            Format::Float {
                exponent, mantissa, ..
            } => exponent <= 11 && mantissa <= 52,
            Format::Int { bits, .. } => bits <= 53,
            other => return Err(RegisterError::Kind(other)),
        };
        if !fits {
            return Err(RegisterError::TooWide(self.format));
        }
        if !(-64..=128).contains(&self.fraction) || self.fraction != 0 && !self.format.is_int() {
            return Err(RegisterError::Fraction(self.fraction));
        }
        let exact = ExactRounder {
            codec,
            fraction: i32::from(self.fraction),
        };
        let wide_exponent = matches!(self.format, Format::Float { exponent, bias, .. }
            if exponent > 9 || !(-250..=500).contains(&bias));
        let simple =
            self.rounding != Rounding::ToOdd && self.significant_bits() <= 50 && !wide_exponent;
        let kind = match (self.format.float_layout(), self.format.int_range()) {
            _ if !simple => Kind::Exact,
            (Some(layout), _) => Kind::Float(FloatRounder::new(layout, &exact)),
            (_, Some(range)) if self.overflow != Overflow::Wrap => {
                Kind::Fixed(FixedRounder::new(range, &exact))
            }
            _ => Kind::Exact,
        };
        let kind = if *self == Self::f32() {
            Kind::Single
        } else {
            kind
        };
        Ok(Rounder {
            exact,
            kind,
            narrow,
        })
    }

    /// A number in the register.
    pub fn round(&self, x: f64) -> Result<f64, RegisterError> {
        Ok(self.rounder(false)?.exact.round(Exact::from(x)))
    }
}

/// Rounds numbers without a limit of width.
#[derive(Debug, Clone)]
pub(crate) struct ExactRounder {
    codec: Codec,
    fraction: i32,
}

impl ExactRounder {
    fn scaled(x: Exact, places: i32) -> Exact {
        match x.magnitude {
            Magnitude::Finite {
                significand,
                exponent,
            } => Exact::finite(x.negative, significand, exponent.saturating_add(places)),
            _ => x,
        }
    }

    pub(crate) fn round(&self, x: Exact) -> f64 {
        let code = self.code(x);
        self.value(code)
    }

    /// The code of a number, rounded. NaN has no sign.
    pub(crate) fn code(&self, x: Exact) -> u128 {
        let x = if x.is_nan() { Exact::NAN } else { x };
        self.codec.encode(Self::scaled(x, self.fraction), 0).code
    }

    /// What a code stands for.
    pub(crate) fn value(&self, code: u128) -> f64 {
        Self::scaled(self.codec.decode(code), -self.fraction).to_f64()
    }

    pub(crate) fn code_bits(&self) -> u32 {
        self.codec.code_bits()
    }

    fn rule(&self) -> Rounding {
        self.codec.conversion.rounding
    }
}

/// A register's rounding, ready for many numbers.
#[derive(Debug, Clone)]
pub(crate) struct Rounder {
    pub(crate) exact: ExactRounder,
    pub(crate) kind: Kind,
    /// Whether products of operands are exact in f64.
    pub(crate) narrow: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// IEEE binary32: the machine's own conversion.
    Single,
    Float(FloatRounder),
    Fixed(FixedRounder),
    Exact,
}

impl Rounder {
    /// The rule that decides signs of zeros.
    pub(crate) fn rule(&self) -> Rounding {
        self.exact.rule()
    }
}

pub(crate) const EVEN: u8 = 0;
pub(crate) const AWAY: u8 = 1;
pub(crate) const ZERO: u8 = 2;
pub(crate) const DOWN: u8 = 3;
pub(crate) const UP: u8 = 4;
pub(crate) const HALF_UP: u8 = 5;

pub(crate) fn rule_number(rounding: Rounding) -> u8 {
    match rounding {
        Rounding::NearestAway => AWAY,
        Rounding::TowardZero => ZERO,
        Rounding::Down => DOWN,
        Rounding::Up => UP,
        Rounding::HalfUp => HALF_UP,
        _ => EVEN,
    }
}

/// One of two numbers, without a memory access that would keep loops from becoming vectors.
#[inline(always)]
fn pick([positive, other]: [f64; 2], negative: bool) -> f64 {
    if negative { other } else { positive }
}

/// A magnitude `a` whose nearest multiple of `unit` is `n`, by another rule.
#[inline(always)]
fn settle<const R: u8>(a: f64, n: f64, unit: f64, negative: bool) -> f64 {
    let rest = a - n;
    let below = if rest < 0.0 { n - unit } else { n };
    let above = if rest > 0.0 { n + unit } else { n };
    let half = 0.5 * unit;
    match R {
        AWAY => {
            if rest == half {
                n + unit
            } else {
                n
            }
        }
        ZERO => below,
        DOWN => {
            if negative {
                above
            } else {
                below
            }
        }
        UP => {
            if negative {
                below
            } else {
                above
            }
        }
        HALF_UP => {
            let tie = if rest == half && !negative {
                n + unit
            } else {
                n
            };
            if rest == -half && negative {
                n - unit
            } else {
                tie
            }
        }
        _ => n,
    }
}

/// 2^600.
const FAR: f64 = f64::from_bits((1023 + 600) << 52);

const MAGNITUDE: u64 = u64::MAX >> 1;
const EXPONENT: u64 = 0x7ff << 52;

/// 2^n for exponents of normal f64s.
pub(crate) fn power(n: i32) -> f64 {
    f64::from_bits(((n.clamp(-1022, 1023) + 1023) as u64) << 52)
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct FloatRounder {
    smallest_normal: f64,
    /// `3/2 x 2^(52 - m)`.
    shifter: f64,
    /// `2^-m`.
    unit: f64,
    largest: f64,
    flush: bool,
    no_negative_zero: bool,
    over: [f64; 2],
    infinite: [f64; 2],
    nan: f64,
}

impl FloatRounder {
    fn new(layout: FloatLayout, exact: &ExactRounder) -> Self {
        let m = layout.mantissa as i32;
        let conversion = exact.codec.conversion;
        let over = |negative: bool| {
            // Just above all finite numbers: a number of the largest binade's next.
            let magnitude = layout.decode(layout.largest()).to_f64() * 4.0;
            exact.round(Exact::from(if negative { -magnitude } else { magnitude }))
        };
        Self {
            smallest_normal: power(layout.quantum() + m),
            shifter: 1.5 * power(52 - m),
            unit: power(-m),
            largest: layout.decode(layout.largest()).to_f64(),
            flush: conversion.subnormals == Subnormals::Flush,
            no_negative_zero: exact.round(Exact::from(-0.0f64)).is_sign_positive(),
            over: [over(false), over(true)],
            infinite: [f64::INFINITY, f64::NEG_INFINITY].map(|x| exact.round(Exact::from(x))),
            nan: exact.round(Exact::NAN),
        }
    }

    #[inline(always)]
    pub(crate) fn round<const R: u8>(&self, x: f64) -> f64 {
        let bits = x.to_bits();
        let negative = bits >> 63 != 0;
        let a = f64::from_bits(bits & MAGNITUDE);
        let p = f64::from_bits(bits & EXPONENT);
        let p = if p > self.smallest_normal {
            p
        } else {
            self.smallest_normal
        };
        // Far beyond every number of the format, where c would overflow.
        let p = if p > FAR { FAR } else { p };
        let c = p * self.shifter;
        let n = settle::<R>(a, (a + c) - c, p * self.unit, negative);
        let n = if self.flush && a < self.smallest_normal {
            0.0
        } else {
            n
        };
        let signed = f64::from_bits(n.to_bits() | bits & !MAGNITUDE);
        let signed = if self.no_negative_zero {
            signed + 0.0
        } else {
            signed
        };
        let y = if n > self.largest {
            pick(self.over, negative)
        } else {
            signed
        };
        let y = if a == f64::INFINITY {
            pick(self.infinite, negative)
        } else {
            y
        };
        if x.is_nan() { self.nan } else { y }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct FixedRounder {
    /// `2^fraction` and its inverse.
    scale: f64,
    unit: f64,
    least: f64,
    largest: f64,
    nan: f64,
}

impl FixedRounder {
    fn new(range: IntRange, exact: &ExactRounder) -> Self {
        Self {
            scale: power(exact.fraction),
            unit: power(-exact.fraction),
            least: range.least() as f64,
            largest: range.largest() as f64,
            nan: exact.round(Exact::NAN),
        }
    }

    #[inline(always)]
    pub(crate) fn round<const R: u8>(&self, x: f64) -> f64 {
        const INTEGERS: f64 = 1.5 * (1u64 << 52) as f64;
        let s = x * self.scale;
        let s = if s < self.least - 1.0 {
            self.least - 1.0
        } else {
            s
        };
        let s = if s > self.largest + 1.0 {
            self.largest + 1.0
        } else {
            s
        };
        let negative = s < 0.0;
        let a = s.abs();
        let n = settle::<R>(a, (a + INTEGERS) - INTEGERS, 1.0, negative);
        let n = if negative { -n } else { n };
        let n = if n < self.least { self.least } else { n };
        let n = if n > self.largest { self.largest } else { n };
        if x.is_nan() {
            self.nan
        } else {
            n * self.unit + 0.0
        }
    }
}
