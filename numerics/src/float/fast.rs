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

const INFINITE: i32 = 0x7f80_0000;
/// 2^23: the sum with a smaller number is rounded to an integer.
const INTEGERS: f32 = 8_388_608.0;

/// What the kernel needs of a format and a conversion.
#[derive(Debug, Clone, Copy)]
pub struct FastFloat {
    rounding: Rounding,
    mantissa: u32,
    rebias: u32,
    /// f32 bits of the smallest normal number; 0 where subnormal numbers need no step of their own.
    smallest_normal: i32,
    per_quantum: f32,
    keep_subnormals: u32,
    largest: i32,
    /// Places from f32's sign bit to the code's.
    sign_shift: u32,
    no_negative_zero: bool,
    overflow: Signed,
    infinite: Signed,
    nan: Signed,
}

/// A code of a positive number, and the bits that differ for a negative one.
#[derive(Debug, Clone, Copy)]
struct Signed {
    positive: u32,
    differ: u32,
}

impl Signed {
    fn new(code: impl Fn(bool) -> u128) -> Self {
        let (positive, negative) = (code(false) as u32, code(true) as u32);
        Self {
            positive,
            differ: positive ^ negative,
        }
    }

    /// `negative` is all ones or zero.
    #[inline(always)]
    fn pick(self, negative: u32) -> u32 {
        self.positive ^ self.differ & negative
    }
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

/// `negative` is all ones or zero: the sign of the whole, whose magnitude's `n = nearest-even(u)`, `rest = u - n`
/// another rule rounds.
#[inline(always)]
fn settle<const R: u8>(n: u32, rest: f32, negative: u32) -> u32 {
    let floor = n.wrapping_sub(u32::from(rest < 0.0));
    let inexact = u32::from(rest != 0.0);
    match R {
        AWAY => n + u32::from(rest == 0.5),
        ZERO => floor,
        DOWN => floor.wrapping_add(inexact & negative),
        UP => floor.wrapping_add(inexact & !negative),
        HALF_UP => n
            .wrapping_add(u32::from(rest == 0.5) & !negative)
            .wrapping_sub(u32::from(rest == -0.5) & negative),
        ODD => floor | inexact,
        _ => n,
    }
}

/// A mantissa length that is known when the kernel is compiled.
const ANY: u32 = 0;

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
        let special = |x: f32| {
            Signed::new(|negative| {
                let x = if negative { -x } else { x };
                layout.encode(Exact::from(x), conversion, 0).code
            })
        };
        let keep = conversion.subnormals == Subnormals::Keep;
        Some(Self {
            rounding: conversion.rounding,
            mantissa: layout.mantissa,
            rebias: ((127 - layout.bias) as u32) << layout.mantissa,
            smallest_normal: if direct && keep {
                0
            } else {
                (128 - layout.bias) << 23
            },
            per_quantum: if direct {
                0.0
            } else {
                f32::from_bits(((127 - layout.quantum()) as u32) << 23)
            },
            keep_subnormals: if keep { u32::MAX } else { 0 },
            largest: layout.largest() as i32,
            sign_shift: 31 - magnitude_bits,
            no_negative_zero: layout.specials == Specials::NanAtNegativeZero,
            overflow: Signed::new(|negative| layout.overflow(negative, conversion, false).code),
            infinite: special(f32::INFINITY),
            nan: special(f32::NAN),
        })
    }

    /// The code of a number by rounding rule `R`, mantissa length `M` or [`ANY`]. All comparisons are signed, which every
    /// vector unit has: bits without their sign are below 2^31.
    #[inline(always)]
    fn code<const R: u8, const M: u32, const SUBNORMALS: bool>(&self, x: f32) -> u32 {
        let shift = 23 - if M == ANY { self.mantissa } else { M };
        let bits = x.to_bits();
        let negative = (bits as i32 >> 31) as u32;
        let a = bits & 0x7fff_ffff;
        let (half, mask) = (1u32 << (shift - 1), (1u32 << shift) - 1);
        let add = match R {
            EVEN => half - 1 + (a >> shift & 1),
            AWAY => half,
            DOWN => mask & negative,
            UP => mask & !negative,
            HALF_UP => half.wrapping_add(negative),
            _ => 0,
        };
        let mut magnitude = ((a + add) >> shift).wrapping_sub(self.rebias);
        if R == ODD {
            magnitude |= u32::from(a & mask != 0);
        }
        if SUBNORMALS {
            let small = (a as i32) < self.smallest_normal;
            // Nothing but small numbers enters the product.
            let u = f32::from_bits(if small { a } else { 0 }) * self.per_quantum;
            let sum = u + INTEGERS;
            let n = sum.to_bits().wrapping_sub(INTEGERS.to_bits());
            let count = settle::<R>(n, u - (sum - INTEGERS), negative) & self.keep_subnormals;
            magnitude = if small { count } else { magnitude };
        }
        let mut sign = (bits & 0x8000_0000) >> self.sign_shift;
        if self.no_negative_zero {
            sign = if magnitude == 0 { 0 } else { sign };
        }
        let over = magnitude as i32 > self.largest;
        let mut code = magnitude | sign;
        code = if over {
            self.overflow.pick(negative)
        } else {
            code
        };
        code = if a as i32 >= INFINITE {
            self.infinite.pick(negative)
        } else {
            code
        };
        if a as i32 > INFINITE {
            self.nan.pick(negative)
        } else {
            code
        }
    }

    #[inline(always)]
    fn run<const R: u8, const M: u32, const SUBNORMALS: bool, T: Narrow>(
        &self,
        values: &[f32],
        codes: &mut [T],
    ) {
        // A copy keeps the parameters in registers. The usual case is compiled without a test in the loop.
        let fast = *self;
        if fast.no_negative_zero {
            for (x, c) in values.iter().zip(codes) {
                *c = T::narrow(fast.code::<R, M, SUBNORMALS>(*x));
            }
        } else {
            let fast = Self {
                no_negative_zero: false,
                ..fast
            };
            for (x, c) in values.iter().zip(codes) {
                *c = T::narrow(fast.code::<R, M, SUBNORMALS>(*x));
            }
        }
    }

    /// The codes of numbers.
    pub(crate) fn encode<T: Narrow>(&self, values: &[f32], codes: &mut [T]) {
        match self.rounding {
            Rounding::NearestEven | Rounding::Stochastic { .. } => self.nearest(values, codes),
            Rounding::NearestAway => self.run::<AWAY, ANY, true, T>(values, codes),
            Rounding::TowardZero => self.run::<ZERO, ANY, true, T>(values, codes),
            Rounding::Down => self.run::<DOWN, ANY, true, T>(values, codes),
            Rounding::Up => self.run::<UP, ANY, true, T>(values, codes),
            Rounding::HalfUp => self.run::<HALF_UP, ANY, true, T>(values, codes),
            Rounding::ToOdd => self.run::<ODD, ANY, true, T>(values, codes),
        }
    }

    /// The code of one number to nearest even, whatever the rounding that the kernel was made for.
    pub(crate) fn nearest_even(&self, value: f32) -> u32 {
        self.code::<EVEN, ANY, true>(value)
    }

    /// To nearest even, compiled for the mantissas of the usual formats.
    fn nearest<T: Narrow>(&self, values: &[f32], codes: &mut [T]) {
        match (self.mantissa, self.smallest_normal) {
            (7, 0) => self.run::<EVEN, 7, false, T>(values, codes),
            (1, _) => self.run::<EVEN, 1, true, T>(values, codes),
            (2, _) => self.run::<EVEN, 2, true, T>(values, codes),
            (3, _) => self.run::<EVEN, 3, true, T>(values, codes),
            (10, _) => self.run::<EVEN, 10, true, T>(values, codes),
            _ => self.run::<EVEN, ANY, true, T>(values, codes),
        }
    }
}
