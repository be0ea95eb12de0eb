//! Code books: codes that stand for the numbers of a list.
//!
//! A number becomes the nearest entry; a number halfway between two becomes the lower one, as comparing with the
//! midpoints by `>` does. Equal entries are told apart by it too: FP4 has two zeros, and small positive numbers become the
//! second one, zero and small negative ones the first. NaN becomes the least entry.
//!
//! - NF4: the 16 quantiles of a normal distribution scaled to -1..1, zero among them (Dettmers et al., "QLoRA", 2023,
//!   appendix E; the f32 values of bitsandbytes).
//! - FP4 of bitsandbytes: a sign and the magnitudes 0, 1/192, 1/6, 1/4, 1/3, 1/2, 2/3, 1 in the order of its codes.
//! - Palettes: 2^n numbers fitted to the tensor ([`palette`]).

pub mod nf4;
pub mod palette;

use crate::conversion::Outcome;

/// Numbers by code.
#[derive(Debug, Clone, PartialEq)]
pub struct CodeBook {
    /// The number of each code, at most 256.
    values: Vec<f32>,
    /// Codes in the order of their numbers.
    order: Vec<u8>,
    /// Midpoints of neighbours in that order, exact.
    midpoints: Vec<f64>,
}

const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

const FP4_MAGNITUDES: [f32; 8] = [
    0.0,
    1.0 / 192.0,
    2.0 / 3.0,
    1.0,
    1.0 / 3.0,
    0.5,
    1.0 / 6.0,
    0.25,
];

impl CodeBook {
    /// The code book of a list of at most 256 numbers, or `None` where it is empty, longer, or holds a NaN.
    pub fn new(values: &[f32]) -> Option<Self> {
        if values.is_empty() || values.len() > 256 || values.iter().any(|v| v.is_nan()) {
            return None;
        }
        Some(Self::of(values.to_vec()))
    }

    fn of(values: Vec<f32>) -> Self {
        let mut order: Vec<u8> = (0..values.len()).map(|i| i as u8).collect();
        order.sort_by(|&a, &b| {
            values[usize::from(a)]
                .total_cmp(&values[usize::from(b)])
                .then(a.cmp(&b))
        });
        let number = |code: u8| f64::from(values[usize::from(code)]);
        let midpoints = order
            .windows(2)
            .map(|w| (number(w[0]) + number(w[1])) / 2.0)
            .collect();
        Self {
            values,
            order,
            midpoints,
        }
    }

    /// QLoRA's 4-bit normal float.
    pub fn nf4() -> Self {
        Self::of(NF4.to_vec())
    }

    /// The 4-bit float of bitsandbytes.
    pub fn fp4() -> Self {
        let negative = FP4_MAGNITUDES.map(|m| if m == 0.0 { m } else { -m });
        Self::of([FP4_MAGNITUDES, negative].concat())
    }

    /// The numbers by code.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The code of the entry nearest to a number.
    pub fn nearest(&self, value: f32) -> u8 {
        let x = f64::from(value);
        let above = self.midpoints.partition_point(|m| x > *m);
        self.order[above]
    }

    /// The number of a code; codes beyond the list repeat it.
    pub fn value(&self, code: u8) -> f32 {
        self.values[usize::from(code) % self.values.len()]
    }

    /// What became of a number that a code was chosen for.
    pub fn outcome(&self, value: f32, code: u8) -> Outcome {
        let entry = self.value(code);
        let ends = self
            .values
            .iter()
            .fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        if value.is_nan() {
            Outcome::Nan
        } else if entry == value {
            Outcome::Exact
        } else if value < ends.0 || value > ends.1 {
            Outcome::Overflowed
        } else if entry == 0.0 {
            Outcome::Flushed
        } else {
            Outcome::Rounded
        }
    }
}
