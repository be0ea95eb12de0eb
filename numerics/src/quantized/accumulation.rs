//! Sums of products of codes, in the registers that are there.
//!
//! ```text
//! 32 or 64 bits    acc = bias + sum (a - za)(w - zw)  modulo 2^32 or 2^64: no order matters
//! ordered          by the adders of a [`Summation`](crate::arithmetic::summation), whose registers saturate, wrap or
//!                  spill in its order. Two designs:
//!   offset           the multipliers take a - za and w - zw (one bit wider); the sum starts from the bias
//!   raw              the multipliers take the codes; the sum starts from bias - za sum w + K za zw, known before the
//!                    data; - zw sum a, where zw is not 0, is added exactly when the sum has left the registers
//! ```
//!
//! A start that its register can't hold saturates or wraps as a sum does, and counts as an overflow. The products of
//! one sum are in the order of the operand: taps row by row, input channels innermost. Positions in the padding are
//! products with the code of zero.

use crate::arithmetic::matmul::{Size, product_of_ints};
use crate::arithmetic::summation::{Accumulator, Summation, SummationError, Summer};

/// What the multipliers of ordered sums take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operands {
    /// Codes less their zero points.
    Offset,
    /// Codes.
    Raw,
}

/// The registers of sums of products.
#[derive(Debug, Clone)]
pub enum Accumulation {
    /// 32 bits, as LiteRT's int8 kernels have.
    Bits32,
    /// 64 bits, as its int16 kernels have.
    Bits64,
    /// Adders of any width in a stated order.
    Ordered {
        /// The adders.
        adders: Box<Summer>,
        /// What is multiplied.
        operands: Operands,
    },
}

impl Accumulation {
    /// Adders made ready.
    pub fn ordered(summation: &Summation, operands: Operands) -> Result<Self, SummationError> {
        Ok(Self::Ordered {
            adders: Box::new(summation.summer()?),
            operands,
        })
    }

    /// Whether operands lose their zero points before they are multiplied.
    fn offsets(&self) -> bool {
        !matches!(
            self,
            Self::Ordered {
                operands: Operands::Raw,
                ..
            }
        )
    }

    /// What is multiplied where codes have this zero point: the number to take off.
    pub(super) fn offset(&self, zero_point: i32) -> i32 {
        if self.offsets() { zero_point } else { 0 }
    }

    /// `c + a x b`, of operands that [`Self::offset`] was taken off, whose zero points were `za` and `zb`. Gives how
    /// many additions left their registers.
    pub(super) fn product(
        &self,
        (a, za): (&[i32], i32),
        (b, zb): (&[i32], i32),
        c: &mut [i64],
        size: Size,
    ) -> Result<u64, SummationError> {
        size.check(a.len(), b.len(), c.len())?;
        if size.n == 0 || size.m == 0 {
            return Ok(0);
        }
        match self {
            Self::Bits32 => {
                exact(a, b, c, size);
                for sum in c.iter_mut() {
                    *sum = i64::from(*sum as i32);
                }
                Ok(0)
            }
            Self::Bits64 => {
                exact(a, b, c, size);
                Ok(0)
            }
            Self::Ordered { adders, operands } => {
                let raw = *operands == Operands::Raw;
                if raw {
                    start(b, (za, zb), c, size);
                }
                let s = adders.summation;
                let last = s.spill.map_or(s.accumulator, |s| s.accumulator);
                let mut overflows = confine(c, last);
                overflows += adders.matmul_int(a, b, c, size)?;
                if raw && zb != 0 {
                    finish(a, zb, c, size);
                }
                Ok(overflows)
            }
        }
    }
}

/// The exact sums; a few rows are not worth tiles.
fn exact(a: &[i32], b: &[i32], c: &mut [i64], size: Size) {
    if size.m >= 4 && size.n >= 4 && size.k > 0 {
        product_of_ints(a, b, c, size);
        return;
    }
    let Size { m: _, n, k } = size;
    for (i, c) in c.chunks_exact_mut(n).enumerate() {
        for (l, a) in a[i * k..(i + 1) * k].iter().enumerate() {
            for (sum, b) in c.iter_mut().zip(&b[l * n..(l + 1) * n]) {
                *sum = sum.wrapping_add(i64::from(*a) * i64::from(*b));
            }
        }
    }
}

/// `- za sum b + K za zb` added to every start.
fn start(b: &[i32], (za, zb): (i32, i32), c: &mut [i64], size: Size) {
    let (za, zb) = (i64::from(za), i64::from(zb));
    let mut offsets = vec![size.k as i64 * za * zb; size.n];
    for b in b.chunks_exact(size.n) {
        for (offset, b) in offsets.iter_mut().zip(b) {
            *offset -= za * i64::from(*b);
        }
    }
    for c in c.chunks_exact_mut(size.n) {
        for (c, offset) in c.iter_mut().zip(&offsets) {
            *c += offset;
        }
    }
}

/// `- zb sum a` added to every sum.
fn finish(a: &[i32], zb: i32, c: &mut [i64], size: Size) {
    for (i, c) in c.chunks_exact_mut(size.n).enumerate() {
        let row = &a[i * size.k..(i + 1) * size.k];
        let sum: i64 = row.iter().map(|a| i64::from(*a)).sum();
        for c in c {
            *c -= i64::from(zb) * sum;
        }
    }
}

/// Brings starts into a register; gives how many were outside.
fn confine(c: &mut [i64], register: Accumulator) -> u64 {
    let Some(range) = register.format.int_range() else {
        return 0;
    };
    let mut outside = 0;
    for c in c {
        let (confined, left) = range.confine((*c).into(), register.overflow);
        *c = confined as i64;
        outside += u64::from(left);
    }
    outside
}
