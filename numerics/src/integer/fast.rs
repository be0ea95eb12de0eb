//! f32 to integers of at most 16 bits, many at once and without a branch.
//!
//! The number (divided by its scale) is clamped to the range, so that adding and subtracting 1.5 x 2^23 leaves the
//! nearest integer `n` and, exactly, the rest `y - n`, from which every other rounding follows. Clamping before
//! rounding changes nothing, since the ends are integers. Wrapping takes the exact path.

use crate::conversion::{Conversion, MissingNan, Overflow};
use crate::float::fast::{AWAY, DOWN, EVEN, HALF_UP, Narrow, ODD, UP, ZERO};
use crate::integer::IntRange;
use crate::integer::affine::{Affine, Division};
use crate::rounding::Rounding;

/// 1.5 x 2^23.
const INTEGERS: f32 = 12_582_912.0;

/// What the kernel needs of an integer format and a conversion.
#[derive(Debug, Clone, Copy)]
pub struct FastInt {
    rounding: Rounding,
    scale: f32,
    reciprocal: bool,
    least: f32,
    largest: f32,
    nan: f32,
    zero_point: i32,
    mask: u32,
}

impl FastInt {
    /// The kernel of plain integers, where one fits.
    pub fn new(range: IntRange, conversion: &Conversion) -> Option<Self> {
        let affine = Affine {
            range,
            scale: 1.0,
            zero_point: 0,
            narrow: false,
            division: Division::Reciprocal,
        };
        Self::affine(&affine, conversion)
    }

    /// The kernel of scaled integers, where one fits.
    pub fn affine(affine: &Affine, conversion: &Conversion) -> Option<Self> {
        let range = affine.range;
        let fits = range.bits <= 16
            && affine.zero_point.unsigned_abs() <= 1 << 16
            && affine.division != Division::Exact
            && conversion.overflow != Overflow::Wrap
            && !matches!(conversion.rounding, Rounding::Stochastic { .. });
        let zero = i128::from(affine.zero_point);
        let least = (range.least() + i128::from(affine.narrow) - zero) as f32;
        let largest = (range.largest() - zero) as f32;
        let reciprocal = affine.division == Division::Reciprocal;
        fits.then(|| Self {
            rounding: conversion.rounding,
            scale: if reciprocal {
                1.0 / affine.scale
            } else {
                affine.scale
            },
            reciprocal,
            least,
            largest,
            nan: match conversion.missing_nan {
                MissingNan::Largest => largest,
                _ => 0f32.clamp(least.min(largest), largest),
            },
            zero_point: affine.zero_point as i32,
            mask: (1 << range.bits) - 1,
        })
    }

    #[inline(always)]
    fn code<const R: u8, const RECIPROCAL: bool>(&self, x: f32) -> u32 {
        let y = if RECIPROCAL {
            x * self.scale
        } else {
            x / self.scale
        };
        let y = if y < self.least { self.least } else { y };
        let y = if y > self.largest { self.largest } else { y };
        let y = if y.is_nan() { self.nan } else { y };
        let sum = y + INTEGERS;
        let n = sum.to_bits().wrapping_sub(INTEGERS.to_bits()) as i32;
        let rest = y - (sum - INTEGERS);
        let floor = n - i32::from(rest < 0.0);
        let inexact = i32::from(rest != 0.0);
        let negative = i32::from(y < 0.0);
        let toward_zero = floor + (inexact & negative);
        let q = match R {
            AWAY => n + i32::from(rest == 0.5 && y > 0.0) - i32::from(rest == -0.5 && y < 0.0),
            ZERO => toward_zero,
            DOWN => floor,
            UP => floor + inexact,
            HALF_UP => n + i32::from(rest == 0.5),
            ODD => toward_zero + (inexact & !toward_zero & 1) * (1 - 2 * negative),
            _ => n,
        };
        (q + self.zero_point) as u32 & self.mask
    }

    fn run<const R: u8, T: Narrow>(&self, values: &[f32], codes: &mut [T]) {
        if self.reciprocal {
            for (x, c) in values.iter().zip(codes) {
                *c = T::narrow(self.code::<R, true>(*x));
            }
        } else {
            for (x, c) in values.iter().zip(codes) {
                *c = T::narrow(self.code::<R, false>(*x));
            }
        }
    }

    /// The codes of numbers, as many as both slices have.
    pub fn encode_halves(&self, values: &[f32], codes: &mut [u16]) {
        self.encode(values, codes);
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
