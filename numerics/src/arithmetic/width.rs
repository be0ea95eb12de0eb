//! The narrowest integer accumulator in which no sum overflows.
//!
//! ```text
//! bits(least, largest) = the least n with -2^(n-1) <= least and largest <= 2^(n-1) - 1
//!
//! formats alone   products lie in [p-, p+], from the ends of both ranges; a sum of at most K of them in
//!                 [min(0, K p-), max(0, K p+)], whatever the data and the order
//! data            the least and largest register that an order of additions really meets
//! data, any order sums of subsets: [sum of negative products, sum of positive ones]
//! ```

use super::summation::{Merge, Summation};
use crate::integer::IntRange;

/// The integers that a register has met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// The least, 0 included.
    pub least: i128,
    /// The largest, 0 included.
    pub largest: i128,
}

impl Reach {
    /// Extends the range by a number.
    pub fn meet(&mut self, value: i128) {
        self.least = self.least.min(value);
        self.largest = self.largest.max(value);
    }

    /// Both ranges.
    pub fn and(self, other: Self) -> Self {
        Self {
            least: self.least.min(other.least),
            largest: self.largest.max(other.largest),
        }
    }

    /// Bits of the narrowest two's complement register that holds it.
    pub fn bits(self) -> u32 {
        // The complement of a negative n is -n - 1.
        let bits = |magnitude: i128| 129 - magnitude.leading_zeros();
        bits(self.largest.max(0)).max(bits(!self.least.min(-1)))
    }
}

/// What sums of at most `k` products of two integer formats can reach; `None` where it needs more than 126 bits.
pub fn reach_of_formats(a: IntRange, b: IntRange, k: u64) -> Option<Reach> {
    let ends = [a.least(), a.largest()];
    let mut reach = Reach::default();
    for x in ends {
        for y in [b.least(), b.largest()] {
            let product = x.checked_mul(y)?.checked_mul(i128::from(k))?;
            (product.unsigned_abs() < 1 << 125).then_some(())?;
            reach.meet(product);
        }
    }
    Some(reach)
}

/// What any order of adding these products can reach.
pub fn reach_of_any_order(a: &[i64], b: &[i64], c: i64) -> Reach {
    let mut reach = Reach::default();
    let products = a
        .iter()
        .zip(b)
        .map(|(a, b)| i128::from(*a) * i128::from(*b));
    for addend in products.chain([i128::from(c)]) {
        if addend < 0 {
            reach.least += addend;
        } else {
            reach.largest += addend;
        }
    }
    reach
}

/// What the accumulators meet in a stated order; first those of partial sums, then the outer one of a spill.
pub fn reach_in_order(summation: &Summation, a: &[i64], b: &[i64], c: i64) -> [Reach; 2] {
    let products: Vec<i128> = a
        .iter()
        .zip(b)
        .map(|(a, b)| i128::from(*a) * i128::from(*b))
        .collect();
    let mut inner = Reach::default();
    let mut outer = Reach::default();
    match summation.spill {
        None => {
            partial(summation, &products, i128::from(c), &mut inner);
        }
        Some(spill) => {
            let mut sum = i128::from(c);
            outer.meet(sum);
            for products in products.chunks(spill.every.max(1)) {
                sum += partial(summation, products, 0, &mut inner);
                outer.meet(sum);
            }
        }
    }
    [inner, outer]
}

fn partial(summation: &Summation, products: &[i128], c: i128, reach: &mut Reach) -> i128 {
    let mut lanes = vec![0; summation.lanes.max(1)];
    lanes[0] = c;
    reach.meet(c);
    for (g, group) in products.chunks(summation.tree.max(1)).enumerate() {
        let lane = g % lanes.len();
        lanes[lane] += group.iter().sum::<i128>();
        reach.meet(lanes[lane]);
    }
    match summation.merge {
        Merge::Sequential => {
            let mut sum = lanes[0];
            for lane in &lanes[1..] {
                sum += lane;
                reach.meet(sum);
            }
            sum
        }
        Merge::Pairwise => {
            while lanes.len() > 1 {
                lanes = lanes.chunks(2).map(|pair| pair.iter().sum()).collect();
                for sum in &lanes {
                    reach.meet(*sum);
                }
            }
            lanes[0]
        }
    }
}
