//! Chains of tile counts of one dimension.
//!
//! A dimension of `D` iterations is cut by its loops, from the outside in, into `1 = n_0 <= n_1 <= .. <= D` tiles. From
//! the inside out each loop groups `m` tiles into one: `n_outer = ceil(n_inner / m)`. Of all trips `m` that give
//! the same number of groups the search takes the fewest, `m = ceil(n_inner / n_outer)`: they give the same counts everywhere
//! further out, smaller tiles and fewer iterations. Then every `n_i` is one of the about `2 sqrt(D)` distinct
//! quotients `ceil(D / t)`, tiles are products of trips (each inner tile divides the next outer one), and
//! only the outermost loop leaves a remainder.

use std::borrow::Cow;

use super::rules::Loops;

/// A loop from one tile count to a larger one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Place of the tile count inside it.
    pub inner: u16,
    pub trips: u32,
}

/// The tile counts of a dimension.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    /// Distinct quotients `ceil(size / t)`, ascending from 1 to the size.
    pub counts: Vec<u32>,
    /// Of each, the loops that can split so many tiles further, fewest trips first; the first does not.
    pub steps: Vec<Vec<Step>>,
    /// Trips of those loops, ascending from 2.
    trips: Vec<u32>,
}

/// Tile counts of a dimension at most.
const MOST: usize = 1024;

impl Chain {
    /// The chain of a dimension; none if it has too many.
    pub fn new(size: u64) -> Option<Self> {
        let size = u32::try_from(size)
            .ok()
            .filter(|s| u64::from(*s) < (MOST * MOST) as u64)?;
        let mut counts = Vec::new();
        let mut tile = size;
        while tile > 0 {
            let n = size.div_ceil(tile);
            counts.push(n);
            // The largest tile with more pieces.
            tile = (size.div_ceil(n) - 1).min(tile - 1);
        }
        if counts.len() > MOST {
            return None;
        }
        let steps = |(i, outer): (usize, &u32)| {
            let step = |(n, inner): (usize, &u32)| {
                let trips = inner.div_ceil(*outer);
                (inner.div_ceil(trips) == *outer).then_some(Step {
                    inner: n as u16,
                    trips,
                })
            };
            counts.iter().enumerate().skip(i).filter_map(step).collect()
        };
        let steps: Vec<Vec<Step>> = counts.iter().enumerate().map(steps).collect();
        let mut trips: Vec<u32> = steps.iter().flatten().map(|s| s.trips).collect();
        trips.retain(|t| *t > 1);
        trips.sort_unstable();
        trips.dedup();
        Some(Self {
            counts,
            steps,
            trips,
        })
    }

    /// The loops that can split the tiles of a place further, none among them.
    pub fn splits(&self, outer: usize, loops: Loops) -> Cow<'_, [Step]> {
        let fewest = &self.steps[outer];
        let none = &fewest[..1];
        match loops {
            Loops::Free => Cow::Borrowed(fewest),
            Loops::None => Cow::Borrowed(none),
            Loops::All | Loops::Given(_) => {
                let mut all = none.to_vec();
                for (n, inner) in self.counts.iter().enumerate().skip(outer) {
                    let into = self.counts[outer];
                    let least = inner.div_ceil(into).max(2);
                    // From this many trips on there are fewer tiles outside.
                    let end = match into {
                        1 => inner + 1,
                        more => inner.div_ceil(more - 1),
                    };
                    let one = |trips: &u32| match loops {
                        Loops::Given(given) => given.is_multiple_of(*trips),
                        _ => true,
                    };
                    let step = |trips| Step {
                        inner: n as u16,
                        trips,
                    };
                    all.extend((least..end).filter(one).map(step));
                }
                Cow::Owned(all)
            }
        }
    }

    /// Trips from 2 to `most` that a loop can have.
    pub fn trips(&self, most: u64) -> &[u32] {
        let end = self.trips.partition_point(|t| u64::from(*t) <= most);
        &self.trips[..end]
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

/// How many combinations of iterations of a dimension's loops, from the outside in, exist; `role` says what each loop, by
/// its place, is to the count. Only the outermost loop leaves a remainder.
pub(super) fn combinations(links: &[Link], role: impl Fn(usize) -> Role + Copy) -> f64 {
    let Some(last) = links.last() else {
        return 1.0;
    };
    let full: u64 = links.iter().map(|l| u64::from(l.trips)).product();
    count(links, 0, full, u64::from(last.tiles), role) as f64
}

/// The same of the loops from a place on, of a block with `units` of `full` innermost tiles.
fn count(
    links: &[Link],
    from: usize,
    full: u64,
    units: u64,
    role: impl Fn(usize) -> Role + Copy,
) -> u64 {
    let Some(first) = links.get(from) else {
        return 1;
    };
    if units == full {
        return (from..links.len())
            .filter(|i| role(*i) == Role::Keep)
            .map(|i| u64::from(links[i].trips))
            .product();
    }
    let each = full / u64::from(first.trips);
    let (whole, rest) = (units / each, units % each);
    match role(from) {
        Role::Keep => {
            let last = if rest > 0 {
                count(links, from + 1, each, rest, role)
            } else {
                0
            };
            whole * count(links, from + 1, each, each, role) + last
        }
        Role::Drop | Role::First => count(links, from + 1, each, units.min(each), role),
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
        for (outer, steps) in chain.counts.iter().zip(&chain.steps) {
            assert_eq!(chain.counts[usize::from(steps[0].inner)], *outer);
            assert_eq!(steps[0].trips, 1);
            for step in steps {
                let inner = chain.counts[usize::from(step.inner)];
                assert_eq!(inner.div_ceil(step.trips), *outer);
            }
        }
    }

    #[test]
    fn combinations_agree_with_a_walk() {
        for size in [1u32, 5, 7, 12, 13, 30] {
            let chain = Chain::new(u64::from(size)).unwrap();
            let inside = |outer: u32| -> Vec<(u32, u32)> {
                let at = chain.counts.iter().position(|n| *n == outer).unwrap();
                let steps = chain.steps[at].iter();
                steps
                    .map(|s| (chain.counts[usize::from(s.inner)], s.trips))
                    .collect()
            };
            for (a, m1) in inside(1) {
                for (b, m2) in inside(a) {
                    for (c, m3) in inside(b) {
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
                            let keep = |k: usize| {
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
