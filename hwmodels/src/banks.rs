//! Conflicts in a memory of banks: several lanes want words at once, each bank gives one a cycle.
//!
//! Word `w` lies in bank `w mod b`. An access of several lanes takes as many cycles as the bank has words to give that has
//! most; without conflicts it would take `ceil(words / b)`.
//!
//! ```text
//! k lanes, s words apart    ceil(k / (b / gcd(s, b)))          at s = 0 all want the same word: 1
//! boxes of lanes            the largest sum of their loads     loads of an axis: how often i x s mod b, i < k, is each bank
//! ```
//!
//! Lanes whose elements are narrower than a word and next to each other share words; lanes that want the same word are given
//! it at once. Assumption: the lanes of one access are served before those of the next.

use presil_numerics::Bytes;

/// Banks whose loads are added one by one, at most; more are not told apart.
const MOST: u64 = 1 << 12;

/// Banks of a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Banks {
    /// How many.
    pub count: u64,
    /// Bytes that one gives in a cycle.
    pub width: Bytes,
}

/// Lanes in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// Lanes.
    pub lanes: u64,
    /// Bytes from one to the next.
    pub stride: u64,
}

/// Cycles of one access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cycles {
    /// With conflicts.
    pub taken: u64,
    /// Without.
    pub least: u64,
}

impl Cycles {
    /// How much longer it takes; at least 1.
    pub fn factor(&self) -> f64 {
        (self.taken as f64 / self.least.max(1) as f64).max(1.0)
    }
}

impl Banks {
    /// An access of a box of lanes.
    pub fn strided(&self, axes: &[Axis]) -> Cycles {
        let banks = self.count.clamp(1, MOST);
        let width = self.width.0.max(1);
        let mut loads = vec![0u64; banks as usize];
        loads[0] = 1;
        let mut words = 1u64;
        for axis in axes.iter().filter(|a| a.lanes > 1 && a.stride > 0) {
            let (lanes, step) = in_words(*axis, width);
            words = words.saturating_mul(lanes);
            loads = spread(&loads, lanes, step % banks);
        }
        Cycles {
            taken: loads.into_iter().max().unwrap_or(1),
            least: words.div_ceil(banks),
        }
    }
}

/// Distinct words of an axis, and how many apart: elements that are next to each other share them.
fn in_words(axis: Axis, width: u64) -> (u64, u64) {
    if axis.stride >= width {
        return (axis.lanes, axis.stride / width);
    }
    let reach = (axis.lanes - 1).saturating_mul(axis.stride);
    (reach / width + 1, 1)
}

/// Adds loads of `lanes` copies, each `step` banks further.
fn spread(loads: &[u64], lanes: u64, step: u64) -> Vec<u64> {
    let banks = loads.len() as u64;
    let period = banks / gcd(step, banks);
    let mut sum = vec![0u64; loads.len()];
    for i in 0..period.min(lanes) {
        let times = (lanes - i).div_ceil(period);
        for (bank, load) in loads.iter().enumerate().filter(|(_, l)| **l > 0) {
            let to = (bank as u64 + i * step) % banks;
            let cell = &mut sum[to as usize];
            *cell = cell.saturating_add(load.saturating_mul(times));
        }
    }
    sum
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Every lane's word, by hand.
    fn walked(banks: Banks, axes: &[Axis]) -> Cycles {
        let mut bytes = vec![0u64];
        for a in axes {
            let lanes = 0..a.lanes.max(1);
            bytes = lanes
                .flat_map(|i| bytes.iter().map(move |b| b + i * a.stride))
                .collect();
        }
        let words: BTreeSet<u64> = bytes.iter().map(|b| b / banks.width.0).collect();
        let mut loads = vec![0u64; banks.count as usize];
        for w in &words {
            loads[(w % banks.count) as usize] += 1;
        }
        Cycles {
            taken: loads.into_iter().max().unwrap_or(0),
            least: (words.len() as u64).div_ceil(banks.count),
        }
    }

    proptest! {
        #[test]
        fn a_stride_is_as_walked(lanes in 1u64..70, stride in 0u64..70, count in 1u64..40) {
            let banks = Banks { count, width: Bytes(4) };
            let axes = [Axis { lanes, stride: stride * 4 }];
            let found = banks.strided(&axes);
            prop_assert_eq!(found, walked(banks, &axes));
            if stride > 0 {
                let period = count / gcd(stride, count);
                prop_assert_eq!(found.taken, lanes.div_ceil(period));
            }
        }

        #[test]
        fn narrow_neighbours_share_words(lanes in 1u64..70, log in 0u32..4, count in 1u64..40) {
            let banks = Banks { count, width: Bytes(8) };
            let axes = [Axis { lanes, stride: 1 << log }];
            prop_assert_eq!(banks.strided(&axes), walked(banks, &axes));
        }

        /// Boxes whose lanes want different words: rows behind each other.
        #[test]
        fn boxes_are_as_walked(
            inner in 1u64..9,
            step in 1u64..9,
            rows in 1u64..9,
            gap in 0u64..20,
            count in 1u64..40,
        ) {
            let banks = Banks { count, width: Bytes(2) };
            let pitch = (inner - 1) * step + 1 + gap;
            let axes = [
                Axis { lanes: inner, stride: 2 * step },
                Axis { lanes: rows, stride: 2 * pitch },
            ];
            prop_assert_eq!(banks.strided(&axes), walked(banks, &axes));
        }
    }
}
