//! Sets of elements of one group of ranks: what a tile touches.

use super::pattern::{Group, Shape};
use super::region::{Region, Span, length};

/// A set of elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Set {
    /// An arithmetic progression: `start, start + step, ..`; step at least 1, and 1 where count is below 2.
    Progression { start: i64, step: i64, count: u64 },
    /// Disjoint intervals in order.
    Spans(Vec<Span>),
    /// Points of a plane inside boxes of which the first starts at `corner`. Those of equal tiling are equal or
    /// disjoint.
    Cells { corner: (i64, i64), count: u128 },
    /// Anything else: codes in order, without repetition.
    Points(Vec<i128>),
}

impl Set {
    /// The one element of nothing: what an operand without the ranks of a group touches.
    pub(crate) const UNIT: Self = Self::Progression {
        start: 0,
        step: 1,
        count: 1,
    };

    /// An interval.
    pub(crate) fn span(s: Span) -> Self {
        Self::progression(s.0, 1, u64::try_from(length(s)).unwrap_or(u64::MAX))
    }

    fn progression(start: i64, step: i64, count: u64) -> Self {
        match count {
            0 => Self::Progression {
                start: 0,
                step: 1,
                count,
            },
            1 => Self::Progression {
                start,
                step: 1,
                count,
            },
            _ => Self::Progression { start, step, count },
        }
    }

    /// Elements.
    pub(crate) fn len(&self) -> u128 {
        match self {
            Self::Progression { count, .. } => u128::from(*count),
            Self::Spans(spans) => spans.iter().map(|s| length(*s)).sum(),
            Self::Cells { count, .. } => *count,
            Self::Points(points) => points.len() as u128,
        }
    }

    /// Elements that two sets share.
    pub(crate) fn shared(&self, other: &Self) -> u128 {
        match (self, other) {
            (
                &Self::Progression {
                    start: a,
                    step: s,
                    count: m,
                },
                &Self::Progression {
                    start: b,
                    step: t,
                    count: n,
                },
            ) => shared_progressions((a, s, m), (b, t, n)),
            (Self::Cells { corner: a, count }, Self::Cells { corner: b, .. }) => {
                if a == b {
                    *count
                } else {
                    0
                }
            }
            (Self::Spans(x), Self::Spans(y)) => x
                .iter()
                .flat_map(|a| y.iter().map(|b| length((a.0.max(b.0), a.1.min(b.1)))))
                .sum(),
            (Self::Points(x), Self::Points(y)) => merge(x.iter().copied(), y.iter().copied()),
            (Self::Points(x), y) => merge(x.iter().copied(), y.elements()),
            (x, Self::Points(y)) => merge(x.elements(), y.iter().copied()),
            (x, y) => merge(x.elements(), y.elements()),
        }
    }

    /// The set moved in the plane of a region, seen by what a group's operand has of it.
    pub(crate) fn shifted(mut self, group: &Group, region: Region, da: i64, db: i64) -> Self {
        let Shape::Plane { a, b, .. } = group.shape else {
            return self;
        };
        debug_assert!(group.dims.contains(&region.a));
        let along = if a {
            da
        } else if b {
            db
        } else {
            0
        };
        match &mut self {
            Self::Progression { start, .. } => *start += along,
            Self::Spans(spans) => spans
                .iter_mut()
                .for_each(|s| *s = (s.0 + along, s.1 + along)),
            Self::Cells { corner, .. } => *corner = (corner.0 + da, corner.1 + db),
            Self::Points(_) => {}
        }
        self
    }

    /// The elements in order, of one-dimensional sets.
    fn elements(&self) -> Box<dyn Iterator<Item = i128> + '_> {
        match self {
            Self::Progression { start, step, count } => Box::new(
                (0..i128::from(*count)).map(|i| i128::from(*start) + i * i128::from(*step)),
            ),
            Self::Spans(spans) => {
                Box::new(spans.iter().flat_map(|s| i128::from(s.0)..i128::from(s.1)))
            }
            Self::Points(points) => Box::new(points.iter().copied()),
            Self::Cells { .. } => Box::new(std::iter::empty()),
        }
    }

    /// What `constant + sum(coefficient x)` takes with each x in its interval, inside `0..extent`.
    pub(crate) fn affine(
        constant: i64,
        terms: impl Iterator<Item = (i64, Span)> + Clone,
        extent: i64,
    ) -> Self {
        let mut whole = (constant, 1i64, 1u64);
        let mut regular = true;
        for (coefficient, span) in terms.clone() {
            let count = u64::try_from(length(span)).unwrap_or(u64::MAX);
            if count == 0 {
                return Self::progression(0, 1, 0);
            }
            // A negative step runs backwards from its last element.
            let low = if coefficient < 0 { span.1 - 1 } else { span.0 };
            match add(whole, coefficient * low, coefficient.abs(), count) {
                Some(sum) => whole = sum,
                None => regular = false,
            }
        }
        if regular {
            let (start, step, count) = whole;
            let skip = if start < 0 {
                (-start + step - 1) / step
            } else {
                0
            };
            let end = if extent <= start {
                0
            } else {
                (extent - 1 - start) / step + 1
            };
            let end = end.min(i64::try_from(count).unwrap_or(i64::MAX));
            return Self::progression(
                start + skip * step,
                step,
                u64::try_from(end - skip).unwrap_or(0),
            );
        }
        let mut points = vec![i128::from(constant)];
        for (coefficient, span) in terms {
            let shifts = move |p: i128| {
                (span.0..span.1).map(move |x| p + i128::from(coefficient) * i128::from(x))
            };
            points = points.iter().copied().flat_map(shifts).collect();
            points.sort_unstable();
            points.dedup();
        }
        points.retain(|p| (0..i128::from(extent)).contains(p));
        Self::Points(points)
    }

    /// The union of one-dimensional sets.
    pub(crate) fn join(mut sets: Vec<Self>) -> Self {
        sets.retain(|s| s.len() > 0);
        if let Some(whole) = Self::chain(&mut sets) {
            return whole;
        }
        let mut points: Vec<i128> = sets.iter().flat_map(Self::elements).collect();
        points.sort_unstable();
        points.dedup();
        Self::Points(points)
    }

    /// The union of progressions of one step, if it is one.
    fn chain(sets: &mut [Self]) -> Option<Self> {
        let of = |s: &Self| match *s {
            Self::Progression { start, step, count } => Some((start, step, count)),
            _ => None,
        };
        sets.sort_unstable_by_key(|s| of(s).map(|p| p.0));
        let mut all = sets.iter().map(of);
        let (start, step, count) = all.next().unwrap_or(Some((0, 1, 0)))?;
        let mut end = start + step * count as i64;
        for next in all {
            let (low, by, n) = next?;
            if by != step || (low - start) % step != 0 || low > end {
                return None;
            }
            end = end.max(low + step * n as i64);
        }
        Some(Self::progression(
            start,
            step,
            u64::try_from((end - start) / step).unwrap_or(0),
        ))
    }

    /// The union of intervals in any order.
    pub(crate) fn union(mut spans: Vec<Span>) -> Self {
        spans.retain(|s| s.0 < s.1);
        spans.sort_unstable();
        let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
        for s in spans {
            match joined.last_mut() {
                Some(last) if s.0 <= last.1 => last.1 = last.1.max(s.1),
                _ => joined.push(s),
            }
        }
        match joined[..] {
            [one] => Self::span(one),
            _ => Self::Spans(joined),
        }
    }
}

/// The sum set of a progression and `low + step * 0..count`, if it is a progression.
fn add(
    (start, step, count): (i64, i64, u64),
    low: i64,
    add_step: i64,
    add_count: u64,
) -> Option<(i64, i64, u64)> {
    let start = start + low;
    if add_count == 1 {
        return Some((start, step, count));
    }
    if count == 1 {
        return Some((start, add_step, add_count));
    }
    // A coarse step that is a multiple of the fine one leaves no gap if the fine one covers it.
    let ((coarse, n), (fine, m)) = if step >= add_step {
        ((step, count), (add_step, add_count))
    } else {
        ((add_step, add_count), (step, count))
    };
    let ratio = u64::try_from(coarse / fine).ok()?;
    (coarse % fine == 0 && m >= ratio).then(|| (start, fine, ratio * (n - 1) + m))
}

fn shared_progressions((a, s, m): (i64, i64, u64), (b, t, n): (i64, i64, u64)) -> u128 {
    if m == 0 || n == 0 {
        return 0;
    }
    let wide = |(start, step, count): (i64, i64, u64)| {
        i128::from(start) + i128::from(step) * i128::from(count - 1)
    };
    let (low, high) = (i128::from(a.max(b)), wide((a, s, m)).min(wide((b, t, n))));
    if low > high {
        return 0;
    }
    let (a, b, s, t) = (i128::from(a), i128::from(b), i128::from(s), i128::from(t));
    // Elements of the first at or after `low` that lie on the second: x = a + s i with s i = b - a (mod t).
    let g = gcd(s, t);
    if (b - a).rem_euclid(g) != 0 {
        return 0;
    }
    let period = s / g * t;
    let base = a + s * (((b - a) / g).rem_euclid(t / g) * inverse(s / g, t / g)).rem_euclid(t / g);
    let first = base + (low - base + period - 1).div_euclid(period) * period;
    if first > high {
        0
    } else {
        u128::try_from((high - first) / period + 1).unwrap_or(0)
    }
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The inverse of `a` modulo `m` (coprime); 0 for m = 1.
fn inverse(a: i128, m: i128) -> i128 {
    let (mut old, mut new) = ((a.rem_euclid(m), 1i128), (m, 0i128));
    while new.0 != 0 {
        let q = old.0 / new.0;
        (old, new) = (new, (old.0 - q * new.0, old.1 - q * new.1));
    }
    if m == 1 { 0 } else { old.1.rem_euclid(m) }
}

fn merge(x: impl Iterator<Item = i128>, y: impl Iterator<Item = i128>) -> u128 {
    let (mut x, mut y) = (x.peekable(), y.peekable());
    let mut shared = 0;
    while let (Some(a), Some(b)) = (x.peek().copied(), y.peek().copied()) {
        shared += u128::from(a == b);
        if a <= b {
            x.next();
        }
        if b <= a {
            y.next();
        }
    }
    shared
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn affine_sets_equal_their_elements(
            constant in -6i64..6, extent in 1i64..30,
            x in (-3i64..4, 0i64..4, 1i64..5), y in (-3i64..4, 0i64..4, 1i64..5), shift in 0i64..4,
        ) {
            let terms = |move_by: i64| {
                [x, y].into_iter().filter(|t| t.0 != 0).enumerate().map(move |(i, (c, start, n))| {
                    let start = start + if i == 0 { move_by } else { 0 };
                    (c, (start, start + n))
                })
            };
            let walk = |move_by: i64| -> BTreeSet<i64> {
                let sums = terms(move_by).fold(vec![constant], |sums, (c, s)| {
                    sums.iter().flat_map(|v| (s.0..s.1).map(move |x| v + c * x)).collect()
                });
                sums.into_iter().filter(|v| (0..extent).contains(v)).collect()
            };
            let (p, q) = (Set::affine(constant, terms(0), extent), Set::affine(constant, terms(shift), extent));
            prop_assert_eq!(p.len(), walk(0).len() as u128);
            prop_assert_eq!(p.shared(&q), walk(0).intersection(&walk(shift)).count() as u128);
        }
    }
}
