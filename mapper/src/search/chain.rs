//! Chains of tile counts of one dimension.
//!
//! A dimension of `D` iterations is cut by its loops, from the outside in, into `1 = n_0 <= n_1 <= .. <= D` tiles. From
//! the inside out each loop groups `m` tiles into one: `n_outer = ceil(n_inner / m)`. Of all trips `m` that give
//! the same number of groups the search takes the fewest, `m = ceil(n_inner / n_outer)`: they give the same counts everywhere
//! further out, smaller tiles and fewer iterations. Then every `n_i` is one of the about `2 sqrt(D)` distinct
//! quotients `ceil(D / t)`, tiles are products of trips (each inner tile divides the next outer one), and
//! only the outermost loop leaves a remainder.

/// The tile counts of a dimension.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    /// Distinct quotients `ceil(size / t)`, ascending from 1 to the size.
    counts: Vec<u32>,
}

impl Chain {
    /// The chain of a dimension; none for sizes beyond 32 bit.
    pub fn new(size: u64) -> Option<Self> {
        let size = u32::try_from(size).ok()?;
        let mut counts = Vec::new();
        let mut tile = size;
        while tile > 0 {
            let n = size.div_ceil(tile);
            counts.push(n);
            // The largest tile with more pieces.
            tile = (size.div_ceil(n) - 1).min(tile - 1);
        }
        Some(Self { counts })
    }

    /// Tile counts that one loop can make of `outer` tiles, ascending, with its trips; the first is `outer` itself.
    pub fn inside(&self, outer: u32) -> impl Iterator<Item = (u32, u32)> + use<'_> {
        let from = self.counts.partition_point(|n| *n < outer);
        self.counts[from..]
            .iter()
            .map(move |n| (*n, n.div_ceil(outer)))
            .filter(move |(n, m)| n.div_ceil(*m) == outer)
    }

    /// Tile counts that a loop of exactly so many trips can make of `outer` tiles.
    pub fn with_trips(&self, outer: u32, trips: u32) -> impl Iterator<Item = u32> + use<'_> {
        let from = self.counts.partition_point(|n| *n < outer);
        let most = outer.saturating_mul(trips);
        self.counts[from..]
            .iter()
            .copied()
            .take_while(move |n| *n <= most)
            .filter(move |n| n.div_ceil(outer) == trips && n.div_ceil(trips) == outer)
    }

    /// Trips from 2 to `most` that a loop can have.
    pub fn trips(&self, most: u64) -> Vec<u32> {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let has = |m: u32| {
            let mut inner = self.counts.iter();
            inner.any(|n| *n > 1 && n.div_ceil(n.div_ceil(m)) == m)
        };
        let last = self.counts.last().copied().unwrap_or(1);
        (2..=most.min(last)).filter(|m| has(*m)).collect()
    }
}

/// A loop of a dimension: its trips, and what it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// Trips.
    pub trips: u32,
    /// Tiles after it, that is counted inside it.
    pub tiles: u32,
    /// The gap that it stands in (in time), or the gap behind the fanout that it lies along.
    pub gap: u8,
    /// Index into [`super::frame::Frame::axes`] of where it lies in space; none: in time.
    pub axis: Option<u8>,
}

/// What a loop is to a count of iterations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Its iterations are told apart.
    Keep,
    /// They are not.
    Drop,
    /// Only the first one is looked at.
    First,
}

/// How many combinations of iterations of a dimension's loops, from the outside in, exist. Only the outermost
/// loop leaves a remainder.
pub(super) fn combinations(links: &[Link], role: impl Fn(&Link) -> Role + Copy) -> f64 {
    let Some(last) = links.last() else {
        return 1.0;
    };
    let full: u64 = links.iter().map(|l| u64::from(l.trips)).product();
    count(links, full, u64::from(last.tiles), role) as f64
}

/// The same of a block with `units` of `full` innermost tiles.
fn count(links: &[Link], full: u64, units: u64, role: impl Fn(&Link) -> Role + Copy) -> u64 {
    let Some((first, inner)) = links.split_first() else {
        return 1;
    };
    if units == full {
        return links
            .iter()
            .filter(|l| role(l) == Role::Keep)
            .map(|l| u64::from(l.trips))
            .product();
    }
    let each = full / u64::from(first.trips);
    let (whole, rest) = (units / each, units % each);
    match role(first) {
        Role::Keep => {
            let last = if rest > 0 {
                count(inner, each, rest, role)
            } else {
                0
            };
            whole * count(inner, each, each, role) + last
        }
        Role::Drop | Role::First => count(inner, each, units.min(each), role),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn counts_are_the_distinct_quotients() {
        for size in [1u64, 2, 3, 7, 12, 56, 97, 1000] {
            let mut expected: Vec<u32> = (1..=size).map(|t| size.div_ceil(t) as u32).collect();
            expected.sort_unstable();
            expected.dedup();
            assert_eq!(Chain::new(size).unwrap().counts, expected, "{size}");
        }
    }

    #[test]
    fn loops_lead_back_out() {
        let chain = Chain::new(56).unwrap();
        for &outer in &chain.counts {
            let all: Vec<_> = chain.inside(outer).collect();
            assert_eq!(all[0], (outer, 1));
            for (inner, trips) in all {
                assert_eq!(inner.div_ceil(trips), outer);
                let with: Vec<u32> = chain.with_trips(outer, trips).collect();
                assert!(with.contains(&inner));
            }
        }
    }

    #[test]
    fn combinations_agree_with_a_walk() {
        for size in [1u32, 5, 7, 12, 13, 30] {
            let chain = Chain::new(u64::from(size)).unwrap();
            for (a, m1) in chain.inside(1) {
                for (b, m2) in chain.inside(a) {
                    for (c, m3) in chain.inside(b) {
                        let link = |tiles, trips| Link {
                            trips,
                            tiles,
                            gap: 0,
                            axis: None,
                        };
                        let links = [link(a, m1), link(b, m2), link(c, m3)];
                        for mask in 0..8u32 {
                            let mut seen = Vec::new();
                            for i in 0..c {
                                let digits = [i / (m3 * m2), i / m3 % m2, i % m3];
                                let mut kept = digits;
                                for (k, x) in kept.iter_mut().enumerate() {
                                    if mask & (1 << k) == 0 {
                                        *x = 0;
                                    }
                                }
                                if !seen.contains(&kept) {
                                    seen.push(kept);
                                }
                            }
                            let base = links.as_ptr();
                            let keep = |l: &Link| {
                                let k = (std::ptr::from_ref(l) as usize - base as usize)
                                    / size_of::<Link>();
                                if mask & (1 << k) != 0 {
                                    Role::Keep
                                } else {
                                    Role::Drop
                                }
                            };
                            assert_eq!(combinations(&links, keep), seen.len() as f64);
                        }
                    }
                }
            }
        }
    }
}
