//! Float adders in f64 lanes: sums to odd, brought to the register's format.

use super::super::summation::Accumulator;
use super::{Adders, WIDTH};
use crate::conversion::{Overflow, Subnormals};
use crate::format::Specials;
use crate::rounding::Rounding;

/// A float register in f64 lanes.
#[derive(Clone, Copy)]
pub(super) struct Register {
    mantissa: i32,
    least_exponent: i32,
    largest: f64,
    toward_zero: bool,
    flush: bool,
    /// What finite sums beyond the range become, and infinite ones.
    beyond: [f64; 2],
}

impl Register {
    pub(super) fn new(a: Accumulator) -> Option<Self> {
        let layout = a.format.float_layout()?;
        let toward_zero = match a.rounding {
            Rounding::NearestEven => false,
            Rounding::TowardZero => true,
            _ => return None,
        };
        let fits = layout.specials == Specials::Ieee
            && (1..=23).contains(&layout.mantissa)
            && layout.exponent <= 8
            && layout.bias.abs() <= 127;
        let largest = layout.decode(layout.largest()).to_f64();
        fits.then(|| Self {
            mantissa: layout.mantissa as i32,
            least_exponent: layout.quantum() + layout.mantissa as i32,
            largest,
            toward_zero,
            flush: a.subnormals == Subnormals::Flush,
            beyond: match a.overflow {
                Overflow::Saturate | Overflow::Wrap => [largest; 2],
                Overflow::Infinity if toward_zero => [largest, f64::INFINITY],
                Overflow::Infinity => [f64::INFINITY; 2],
                Overflow::Nan => [f64::NAN; 2],
            },
        })
    }

    /// A number rounded to the register, and whether it was beyond its range (an infinity that stays one is not).
    #[inline(always)]
    fn write(&self, x: f64) -> (f64, bool) {
        let exponent = (x.to_bits() >> 52 & 0x7ff) as i32 - 1023;
        let last = exponent.max(self.least_exponent) - self.mantissa;
        let integers = power(last + 52) * 1.5;
        let nearest = (x + integers) - integers;
        let up = self.toward_zero && nearest.abs() > x.abs();
        let back = if up { power(last) } else { 0.0 };
        let y = (nearest - back.copysign(x)).copysign(x);
        let flushed = self.flush && exponent < self.least_exponent;
        let y = if flushed { 0f64.copysign(x) } else { y };
        let infinite = x.abs() == f64::INFINITY;
        let over = infinite || y.abs() > self.largest;
        let [finite, never] = self.beyond;
        let to = if infinite { never } else { finite };
        let kept = infinite && never == f64::INFINITY;
        (if over { to.copysign(x) } else { y }, over && !kept)
    }
}

/// `2^exponent`, clamped to f64's normal range.
#[inline(always)]
fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent.clamp(-1022, 1023) + 1023) as u64) << 52)
}

/// `x + y` in f64, rounded to odd.
#[inline(always)]
fn sum_to_odd(x: f64, y: f64) -> f64 {
    let s = x + y;
    let t = s - x;
    let e = (x - (s - t)) + (y - t);
    let inexact = e.abs() > 0.0;
    let outward = (e > 0.0) == (s > 0.0);
    let bits = s.to_bits();
    let step = if outward { 1u64 } else { u64::MAX };
    let step = if inexact && bits & 1 == 0 { step } else { 0 };
    f64::from_bits(bits.wrapping_add(step))
}

pub(super) struct FloatAdders<'a> {
    pub(super) row: &'a [f64],
    pub(super) panel: &'a [[f64; WIDTH]],
    pub(super) product: Option<Register>,
    pub(super) tree: Option<Register>,
    pub(super) accumulator: Register,
    pub(super) outer: Register,
    pub(super) overflows: [u64; WIDTH],
}

impl FloatAdders<'_> {
    #[inline(always)]
    fn write(&mut self, mut x: [f64; WIDTH], register: Register) -> [f64; WIDTH] {
        for (x, overflows) in x.iter_mut().zip(&mut self.overflows) {
            let (y, over) = register.write(*x);
            *x = y;
            *overflows += u64::from(over);
        }
        x
    }

    #[inline(always)]
    fn add(&mut self, x: [f64; WIDTH], y: [f64; WIDTH], register: Register) -> [f64; WIDTH] {
        let mut sum = x;
        for j in 0..WIDTH {
            sum[j] = sum_to_odd(x[j], y[j]);
        }
        self.write(sum, register)
    }
}

impl Adders for FloatAdders<'_> {
    type Vector = [f64; WIDTH];

    #[inline(always)]
    fn zero(&self) -> Self::Vector {
        [0.0; WIDTH]
    }

    #[inline(always)]
    fn product(&mut self, l: usize) -> Self::Vector {
        let mut product = self.panel[l];
        for x in &mut product {
            *x *= self.row[l];
        }
        match self.product {
            Some(register) => self.write(product, register),
            None => product,
        }
    }

    #[inline(always)]
    fn tree(&mut self, x: Self::Vector, y: Self::Vector) -> Self::Vector {
        self.add(x, y, self.tree.unwrap_or(self.accumulator))
    }

    #[inline(always)]
    fn accumulate(&mut self, x: Self::Vector, y: Self::Vector) -> Self::Vector {
        self.add(x, y, self.accumulator)
    }

    #[inline(always)]
    fn outer(&mut self, x: Self::Vector, y: Self::Vector) -> Self::Vector {
        self.add(x, y, self.outer)
    }
}
