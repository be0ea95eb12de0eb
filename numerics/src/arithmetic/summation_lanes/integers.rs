//! Integer adders in lanes of 32 or 64 bits.

use super::{Adders, WIDTH};

/// An integer lane.
pub(super) trait Lane: Copy + Default + PartialEq + Ord + Send + Sync {
    fn from_i64(x: i64) -> Self;
    fn to_i64(self) -> i64;
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    /// The low `bits` bits, with their sign.
    fn low(self, bits: u32) -> Self;
}

macro_rules! lane {
    ($type:ty) => {
        impl Lane for $type {
            #[inline(always)]
            fn from_i64(x: i64) -> Self {
                x as Self
            }
            #[inline(always)]
            fn to_i64(self) -> i64 {
                i64::from(self)
            }
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn times(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn low(self, bits: u32) -> Self {
                (self << (Self::BITS - bits)) >> (Self::BITS - bits)
            }
        }
    };
}
lane!(i32);
lane!(i64);

/// The range of an integer register.
#[derive(Clone, Copy)]
pub(super) struct Limit<T> {
    pub(super) least: T,
    pub(super) largest: T,
    /// Bits of a signed register that wraps.
    pub(super) wraps: Option<u32>,
}

pub(super) struct IntAdders<'a, T> {
    pub(super) row: &'a [T],
    pub(super) panel: &'a [[T; WIDTH]],
    pub(super) product: Option<Limit<T>>,
    pub(super) tree: Option<Limit<T>>,
    pub(super) accumulator: Limit<T>,
    pub(super) outer: Limit<T>,
    pub(super) overflows: [T; WIDTH],
}

impl<T: Lane> IntAdders<'_, T> {
    #[inline(always)]
    fn confine(&mut self, sum: [T; WIDTH], limit: Limit<T>) -> [T; WIDTH] {
        let mut kept = sum;
        if let Some(bits) = limit.wraps {
            for x in &mut kept {
                *x = x.low(bits);
            }
        } else {
            for x in &mut kept {
                *x = (*x).max(limit.least).min(limit.largest);
            }
        }
        for j in 0..WIDTH {
            let lost = T::from_i64(i64::from(kept[j] != sum[j]));
            self.overflows[j] = self.overflows[j].plus(lost);
        }
        kept
    }

    #[inline(always)]
    fn sum(x: [T; WIDTH], y: [T; WIDTH]) -> [T; WIDTH] {
        let mut sum = x;
        for j in 0..WIDTH {
            sum[j] = sum[j].plus(y[j]);
        }
        sum
    }
}

impl<T: Lane> Adders for IntAdders<'_, T> {
    type Vector = [T; WIDTH];

    #[inline(always)]
    fn zero(&self) -> Self::Vector {
        [T::default(); WIDTH]
    }

    #[inline(always)]
    fn product(&mut self, l: usize) -> Self::Vector {
        let mut product = self.panel[l];
        for x in &mut product {
            *x = x.times(self.row[l]);
        }
        match self.product {
            Some(limit) => self.confine(product, limit),
            None => product,
        }
    }

    #[inline(always)]
    fn tree(&mut self, x: Self::Vector, y: Self::Vector) -> Self::Vector {
        match self.tree {
            Some(limit) => self.confine(Self::sum(x, y), limit),
            None => Self::sum(x, y),
        }
    }

    #[inline(always)]
    fn accumulate(&mut self, x: Self::Vector, y: Self::Vector) -> Self::Vector {
        self.confine(Self::sum(x, y), self.accumulator)
    }

    #[inline(always)]
    fn outer(&mut self, x: Self::Vector, y: Self::Vector) -> Self::Vector {
        self.confine(Self::sum(x, y), self.outer)
    }
}
