//! Factors worth trying.

use rustc_hash::FxHashMap;

/// Distinct quotients `ceil(e / k)` that are at most `most`, largest first.
pub(super) fn ceil_quotients(e: u64, most: u64) -> Vec<u64> {
    let mut found = Vec::new();
    let mut f = most.min(e);
    while f > 0 && found.len() < 64 {
        // The smallest factor of as many rounds as f makes.
        let rounds = e.div_ceil(f);
        let smallest = e.div_ceil(rounds);
        found.push(smallest);
        f = smallest - 1;
    }
    found
}

/// Factors of an extent, spread evenly on a logarithmic scale: 1, the extent, its divisors where there are any,
/// else quotients rounded up and powers of two.
#[derive(Debug, Default)]
pub(super) struct Factors {
    cache: FxHashMap<u64, std::rc::Rc<[u64]>>,
}

impl Factors {
    /// The factors of an extent in rising order.
    pub fn of(&mut self, extent: u64) -> std::rc::Rc<[u64]> {
        self.cache
            .entry(extent)
            .or_insert_with(|| spread(extent).into())
            .clone()
    }
}

fn spread(extent: u64) -> Vec<u64> {
    let mut all: Vec<(u64, u8)> = vec![(1, 0), (extent, 0)];
    let root = (1..).take_while(|k| k * k <= extent && *k <= 4096);
    for k in root {
        let rank = if extent.is_multiple_of(k) { 1 } else { 2 };
        all.push((extent.div_ceil(k), rank));
        if rank == 1 {
            all.push((k, 1));
        }
    }
    let powers = (1..64).map(|b| 1u64 << b).take_while(|p| *p < extent);
    all.extend(powers.map(|p| (p, if extent.is_multiple_of(p) { 1 } else { 3 })));
    all.sort_unstable();
    all.dedup_by_key(|f| f.0);
    // One factor of each bucket of a ratio of 1.4: the best ranked, then the largest.
    let mut kept: Vec<(u64, u8)> = Vec::new();
    for f in all {
        match kept.last_mut() {
            Some(last) if f.1 > 0 && (last.0 as f64) * 1.4 > f.0 as f64 && f.0 > 4 => {
                if f.1 <= last.1 {
                    *last = f;
                }
            }
            _ => kept.push(f),
        }
    }
    kept.into_iter().map(|f| f.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_distinct_and_efficient() {
        assert_eq!(ceil_quotients(12, 12), [12, 6, 4, 3, 2, 1]);
        assert_eq!(
            ceil_quotients(113, 16),
            [15, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
        );
        assert_eq!(ceil_quotients(13, 14), [13, 7, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn factors_hold_both_ends_in_rising_order() {
        for e in [1, 2, 3, 7, 12, 113, 224, 4096, 128_256, u64::MAX / 3] {
            let f = spread(e);
            assert_eq!((f.first(), f.last()), (Some(&1), Some(&e)));
            assert!(f.is_sorted_by(|a, b| a < b) && f.len() < 160, "{e}: {f:?}");
        }
    }
}
