//! f32 to floats of at most 16 bits, many at once and without a branch.
//!
//! With `s = 23 - m` discarded bits, a magnitude in the target's normal range rounds by one addition to its f32 bits
//! `a` and a shift; the exponent is rebiased by subtracting from the code:
//!
//! ```text
//! code = ((a + r) >> s) - ((127 - bias) << m)        r: 2^(s-1) - 1 + (a >> s & 1)   nearest, ties to even
//!                                                       2^(s-1), 0, 2^s - 1          nearest away, toward zero, away
//! ```
//!
//! Below it, `u = |x| / quantum` is an exact f32 product with `u < 2^m`; adding and subtracting 2^23 leaves the
//! nearest integer `n` and, exactly, `u - n`, from which every other rounding follows. A target with f32's own bias
//! needs no such step. Formats and roundings that don't fit (no mantissa bits, bias beyond f32's, stochastic) take the
//! exact path of [`FloatLayout::encode`]; both give the same codes, which the tests compare exhaustively.

use crate::conversion::{Conversion, Subnormals};
use crate::exact::Exact;
use crate::float::FloatLayout;
use crate::format::Specials;
use crate::rounding::Rounding;

pub(crate) const EVEN: u8 = 0;
pub(crate) const AWAY: u8 = 1;
pub(crate) const ZERO: u8 = 2;
pub(crate) const DOWN: u8 = 3;
pub(crate) const UP: u8 = 4;
pub(crate) const HALF_UP: u8 = 5;
pub(crate) const ODD: u8 = 6;

const INFINITE: u32 = 0x7f80_0000;
/// 2^23: the sum with a smaller number is rounded to an integer.
const INTEGERS: f32 = 8_388_608.0;

/// What the kernel needs of a format and a conversion.
#[derive(Debug, Clone, Copy)]
pub struct FastFloat {
    rounding: Rounding,
    shift: u32,
    rebias: u32,
    /// f32 bits of the smallest normal number; 0 where subnormal numbers need no step of their own.
    smallest_normal: u32,
    per_quantum: f32,
    keep_subnormals: u32,
    largest: u32,
    sign_shift: u32,
    zero_sign: u32,
    overflow: [u32; 2],
    infinite: [u32; 2],
    nan: [u32; 2],
}

/// A code's storage.
pub(crate) trait Narrow: Copy {
    fn narrow(code: u32) -> Self;
}

impl Narrow for u8 {
    #[inline(always)]
    fn narrow(code: u32) -> Self {
        code as u8
    }
}

impl Narrow for u16 {
    #[inline(always)]
    fn narrow(code: u32) -> Self {
        code as u16
    }
}

#[inline(always)]
fn select(condition: bool, yes: u32, no: u32) -> u32 {
    if condition { yes } else { no }
}

/// Rounds `n = nearest-even(u)`, `rest = u - n` by another rule; `negative` is the sign of the whole.
#[inline(always)]
fn settle<const R: u8>(n: u32, rest: f32, negative: u32) -> u32 {
    let floor = n.wrapping_sub(u32::from(rest < 0.0));
    let inexact = u32::from(rest != 0.0);
    match R {
        AWAY => n + u32::from(rest == 0.5),
        ZERO => floor,
        DOWN => floor.wrapping_add(inexact & negative),
        UP => floor.wrapping_add(inexact & !negative & 1),
        HALF_UP => n
            .wrapping_add(u32::from(rest == 0.5) & !negative & 1)
            .wrapping_sub(u32::from(rest == -0.5) & negative),
        ODD => floor | inexact,
        _ => n,
    }
}

impl FastFloat {
    /// The kernel of a format and a conversion, where one fits.
    pub fn new(layout: FloatLayout, conversion: &Conversion) -> Option<Self> {
        let magnitude_bits = layout.exponent + layout.mantissa;
        let direct = layout.bias == 127;
        let fits = layout.mantissa >= 1
            && magnitude_bits <= 15
            && layout.exponent <= 8
            && (direct || (-126..=0).contains(&layout.quantum()))
            && (-100..=127).contains(&layout.bias)
            && !matches!(conversion.rounding, Rounding::Stochastic { .. });
        if !fits {
            return None;
        }
        let both = |f: &dyn Fn(bool) -> u128| [f(false) as u32, f(true) as u32];
        let special = |x: f32| {
            both(&|negative| {
                let x = if negative { -x } else { x };
                layout.encode(Exact::from(x), conversion, 0).code
            })
        };
        let keep = conversion.subnormals == Subnormals::Keep;
        Some(Self {
            rounding: conversion.rounding,
            shift: 23 - layout.mantissa,
            rebias: ((127 - layout.bias) as u32) << layout.mantissa,
            smallest_normal: if direct && keep {
                0
            } else {
                ((128 - layout.bias) as u32) << 23
            },
            per_quantum: if direct {
                0.0
            } else {
                f32::from_bits(((127 - layout.quantum()) as u32) << 23)
            },
            keep_subnormals: if keep { u32::MAX } else { 0 },
            largest: layout.largest() as u32,
            sign_shift: 31 - magnitude_bits,
            zero_sign: u32::from(layout.specials != Specials::NanAtNegativeZero),
            overflow: both(&|negative| layout.overflow(negative, conversion, false).code),
            infinite: special(f32::INFINITY),
            nan: special(f32::NAN),
        })
    }

    #[inline(always)]
    pub(crate) fn code<const R: u8, const SUBNORMALS: bool>(&self, x: f32) -> u32 {
        let bits = x.to_bits();
        let negative = bits >> 31;
        let a = bits & 0x7fff_ffff;
        let (half, mask) = (1u32 << (self.shift - 1), (1u32 << self.shift) - 1);
        let add = match R {
            EVEN => half - 1 + (a >> self.shift & 1),
            AWAY => half,
            DOWN => mask & 0u32.wrapping_sub(negative),
            UP => mask & negative.wrapping_sub(1),
            HALF_UP => half - negative,
            _ => 0,
        };
        let mut magnitude = ((a + add) >> self.shift).wrapping_sub(self.rebias);
        if R == ODD {
            magnitude |= u32::from(a & mask != 0);
        }
        if SUBNORMALS {
            // The minimum keeps infinities and NaNs out of the product.
            let u = f32::from_bits(a.min(self.smallest_normal)) * self.per_quantum;
            let sum = u + INTEGERS;
            let n = sum.to_bits().wrapping_sub(INTEGERS.to_bits());
            let small = settle::<R>(n, u - (sum - INTEGERS), negative) & self.keep_subnormals;
            magnitude = select(a < self.smallest_normal, small, magnitude);
        }
        let sign =
            (negative & (self.zero_sign | u32::from(magnitude != 0))) << (31 - self.sign_shift);
        let pick = |codes: [u32; 2]| select(negative != 0, codes[1], codes[0]);
        let code = select(
            magnitude > self.largest,
            pick(self.overflow),
            magnitude | sign,
        );
        let special = select(a == INFINITE, pick(self.infinite), pick(self.nan));
        select(a >= INFINITE, special, code)
    }

    fn run<const R: u8, T: Narrow>(&self, values: &[f32], codes: &mut [T]) {
        if self.smallest_normal != 0 {
            for (x, c) in values.iter().zip(codes) {
                *c = T::narrow(self.code::<R, true>(*x));
            }
        } else {
            for (x, c) in values.iter().zip(codes) {
                *c = T::narrow(self.code::<R, false>(*x));
            }
        }
    }

    /// The codes of numbers.
    pub(crate) fn encode<T: Narrow>(&self, values: &[f32], codes: &mut [T]) {
        match self.rounding {
            Rounding::NearestEven | Rounding::Stochastic { .. } => {
                self.run::<EVEN, T>(values, codes);
            }
            Rounding::NearestAway => self.run::<AWAY, T>(values, codes),
            Rounding::TowardZero => self.run::<ZERO, T>(values, codes),
            Rounding::Down => self.run::<DOWN, T>(values, codes),
            Rounding::Up => self.run::<UP, T>(values, codes),
            Rounding::HalfUp => self.run::<HALF_UP, T>(values, codes),
            Rounding::ToOdd => self.run::<ODD, T>(values, codes),
        }
    }
}
