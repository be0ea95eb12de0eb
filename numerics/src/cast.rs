//! Slices of numbers to codes and back.
//!
//! [`Codec::encode_bytes`] and [`Codec::encode_halves`] take the branch-free kernels of
//! [`float::fast`](crate::float::fast) and [`integer::fast`](crate::integer::fast) where one fits, and the exact path
//! of [`Codec::encode`] elsewhere: the codes are the same. [`Codec::encode_counted`] also tells what became of each.

use crate::codec::Codec;
use crate::conversion::Tally;
use crate::exact::Exact;
use crate::float::fast::{FastFloat, Narrow};
use crate::integer::fast::FastInt;

impl Codec {
    /// Codes of at most 8 bits, one a byte, of as many numbers as both slices have. The first number has index
    /// `first` for stochastic rounding. Codes of more bits lose their upper ones.
    pub fn encode_bytes(&self, values: &[f32], codes: &mut [u8], first: u64) {
        self.encode_slice(values, codes, first);
    }

    /// Codes of at most 16 bits, as [`encode_bytes`](Self::encode_bytes).
    pub fn encode_halves(&self, values: &[f32], codes: &mut [u16], first: u64) {
        self.encode_slice(values, codes, first);
    }

    fn encode_slice<T: Narrow>(&self, values: &[f32], codes: &mut [T], first: u64) {
        let float = self.float_layout();
        if let Some(fast) = float.and_then(|l| FastFloat::new(l, &self.conversion)) {
            return fast.encode(values, codes);
        }
        let int = self.int_range();
        if let Some(fast) = int.and_then(|r| FastInt::new(r, &self.conversion)) {
            return fast.encode(values, codes);
        }
        for ((x, c), index) in values.iter().zip(codes).zip(first..) {
            *c = T::narrow(self.encode(Exact::from(*x), index).code as u32);
        }
    }

    /// Codes of at most 64 bits (more lose their upper ones) and what became of the numbers.
    pub fn encode_counted(
        &self,
        values: impl IntoIterator<Item = Exact>,
        first: u64,
    ) -> (Vec<u64>, Tally) {
        let mut tally = Tally::default();
        let code = |(value, index)| {
            let encoded = self.encode(value, index);
            tally.count(encoded.outcome);
            encoded.code as u64
        };
        (values.into_iter().zip(first..).map(code).collect(), tally)
    }

    /// The nearest f32 of every code of a format of at most 16 bits, by code; empty for wider ones.
    pub fn decode_table(&self) -> Vec<f32> {
        if self.code_bits() > 16 {
            return Vec::new();
        }
        (0..1u128 << self.code_bits())
            .map(|code| self.decode(code).to_f32())
            .collect()
    }
}
