//! Domains that couple two dimensions, as regions of their plane.
//!
//! ```text
//! band    lo <= b - a <= hi           causal and banded attention: a query, b key
//! stairs  b < height(a)               ragged rows: a group, b row; height is ceil(rows/groups) for the first
//!                                     rows mod groups groups, then floor(rows/groups)
//! ```
//!
//! Both cut a box into a region whose projections are intervals, so that tiles need no enumeration of points.

use presil_numerics::ids::Id;
use presil_workloads::{Domain, Einsum};

/// A half-open interval; empty if `end <= start`.
pub(crate) type Span = (i64, i64);

/// Length of an interval.
pub(crate) fn length(s: Span) -> u128 {
    u128::try_from(i128::from(s.1) - i128::from(s.0)).unwrap_or(0)
}

/// What a region looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Band { lo: i64, hi: i64 },
    Stairs { floor: i64, higher: i64 },
}

/// A region of the plane of dimensions `a` and `b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    /// Index of dimension a.
    pub(crate) a: usize,
    /// Index of dimension b.
    pub(crate) b: usize,
    form: Form,
}

/// Stands for "no lower bound"; far from overflow.
const FAR: i64 = i64::MAX / 4;

impl Region {
    /// The region of an einsum's domain; none if it is the whole box.
    pub(crate) fn of(einsum: &Einsum) -> Option<Self> {
        let limit = |v: i64| v.clamp(-FAR, FAR);
        let width = |w: u64| i64::try_from(w).unwrap_or(FAR).min(FAR);
        let region = match einsum.domain {
            Domain::Dense => return None,
            Domain::Causal { query, key, offset } => Self {
                a: query.index(),
                b: key.index(),
                form: Form::Band {
                    lo: -FAR,
                    hi: limit(offset),
                },
            },
            Domain::Banded {
                query,
                key,
                offset,
                window,
            } => {
                let lo = limit(limit(offset) - width(window) + 1);
                Self {
                    a: query.index(),
                    b: key.index(),
                    form: Form::Band {
                        lo,
                        hi: limit(offset),
                    },
                }
            }
            Domain::Ragged {
                group, row, rows, ..
            } => {
                let groups = einsum.dim(group).size.max(1);
                let form = Form::Stairs {
                    floor: width(rows / groups),
                    higher: width(rows % groups),
                };
                Self {
                    a: group.index(),
                    b: row.index(),
                    form,
                }
            }
        };
        let size = |d: usize| width(einsum.dims[d].size);
        let (a, b) = ((0, size(region.a)), (0, size(region.b)));
        (region.cells(a, b) != length(a) * length(b)).then_some(region)
    }

    /// Whether a domain is ragged.
    pub(crate) fn is_stairs(&self) -> bool {
        matches!(self.form, Form::Stairs { .. })
    }

    fn height(floor: i64, higher: i64, a: i64) -> i64 {
        floor + i64::from(a < higher)
    }

    /// Whether a point is inside.
    pub(crate) fn has(&self, a: i64, b: i64) -> bool {
        match self.form {
            Form::Band { lo, hi } => lo <= b - a && b - a <= hi,
            Form::Stairs { floor, higher } => b < Self::height(floor, higher, a),
        }
    }

    /// Points inside a box.
    pub(crate) fn cells(&self, a: Span, b: Span) -> u128 {
        if a.0 >= a.1 || b.0 >= b.1 {
            return 0;
        }
        let count = match self.form {
            Form::Band { lo, hi } if lo > hi => 0,
            Form::Band { lo, hi } => below(a, b, hi) - below(a, b, lo - 1),
            Form::Stairs { floor, higher } => {
                let rows = |height: i64| i128::from((height.min(b.1) - b.0).max(0));
                let tall = i128::from((higher.min(a.1) - a.0).max(0));
                let short = i128::from(a.1 - a.0) - tall;
                tall * rows(floor + 1) + short * rows(floor)
            }
        };
        u128::try_from(count).unwrap_or(0)
    }

    /// Whether a box has a point inside.
    pub(crate) fn meets(&self, a: Span, b: Span) -> bool {
        if a.0 >= a.1 || b.0 >= b.1 {
            return false;
        }
        match self.form {
            Form::Band { lo, hi } => lo <= hi && b.0 - (a.1 - 1) <= hi && b.1 - 1 - a.0 >= lo,
            Form::Stairs { floor, higher } => b.0 < Self::height(floor, higher, a.0),
        }
    }

    /// Whether the region begins behind a box on its way along an axis, so that a later box of the way may meet it.
    /// Along an axis the boxes that meet a region follow each other; the first ones of stairs do.
    pub(crate) fn is_ahead(&self, a: Span, b: Span, along_a: bool) -> bool {
        match self.form {
            Form::Band { hi, .. } if along_a => b.0 - (a.1 - 1) > hi,
            Form::Band { lo, .. } => b.1 - 1 - a.0 < lo,
            Form::Stairs { .. } => false,
        }
    }

    /// The a-coordinates of the points inside a box.
    pub(crate) fn project_a(&self, a: Span, b: Span) -> Span {
        if !self.meets(a, b) {
            return (a.0, a.0);
        }
        match self.form {
            Form::Band { lo, hi } => (a.0.max(b.0 - hi), a.1.min(b.1 - lo)),
            Form::Stairs { floor, .. } if b.0 < floor => a,
            Form::Stairs { higher, .. } => (a.0, a.1.min(higher)),
        }
    }

    /// The b-coordinates of the points inside a box.
    pub(crate) fn project_b(&self, a: Span, b: Span) -> Span {
        if !self.meets(a, b) {
            return (b.0, b.0);
        }
        match self.form {
            Form::Band { lo, hi } => (b.0.max(a.0 + lo), b.1.min(a.1 + hi)),
            Form::Stairs { floor, higher } => (b.0, b.1.min(Self::height(floor, higher, a.0))),
        }
    }
}

/// Points of a box with `b - a <= bound`: the sum over a of `clamp(a + bound + 1 - b.0, 0, b.1 - b.0)`.
fn below(a: Span, b: Span, bound: i64) -> i128 {
    let (rows, full) = (
        i128::from(a.1) - i128::from(a.0),
        i128::from(b.1) - i128::from(b.0),
    );
    let first = i128::from(a.0) + i128::from(bound) + 1 - i128::from(b.0);
    let start = (-first).clamp(0, rows);
    let end = (full - first).clamp(start, rows);
    let ramp = end - start;
    ramp * (first + start) + ramp * (ramp - 1) / 2 + (rows - end) * full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_forms_equal_a_walk_over_the_points() {
        let forms = [
            Form::Band { lo: -FAR, hi: 0 },
            Form::Band { lo: -2, hi: 1 },
            Form::Band { lo: 1, hi: 3 },
            Form::Band { lo: 2, hi: 1 },
            Form::Stairs {
                floor: 2,
                higher: 3,
            },
            Form::Stairs {
                floor: 0,
                higher: 2,
            },
        ];
        for form in forms {
            let region = Region { a: 0, b: 1, form };
            for (a0, a1, b0, b1) in itertools(6) {
                let points: Vec<(i64, i64)> = (a0..a1)
                    .flat_map(|a| (b0..b1).map(move |b| (a, b)))
                    .filter(|&(a, b)| region.has(a, b))
                    .collect();
                let (a, b) = ((a0, a1), (b0, b1));
                assert_eq!(
                    region.cells(a, b),
                    points.len() as u128,
                    "{form:?} {a:?} {b:?}"
                );
                assert_eq!(
                    region.meets(a, b),
                    !points.is_empty(),
                    "{form:?} {a:?} {b:?}"
                );
                // A box that meets nothing is ahead of the region if a later one of its way meets it.
                if points.is_empty() {
                    let later = |along_a: bool| {
                        (1..20).any(|i| {
                            let by = |s: Span, moved: bool| {
                                let by = if moved { i } else { 0 };
                                (s.0 + by, s.1 + by)
                            };
                            region.meets(by(a, along_a), by(b, !along_a))
                        })
                    };
                    let none = matches!(form, Form::Band { lo, hi } if lo > hi);
                    for along_a in [true, false] {
                        assert!(
                            none || region.is_ahead(a, b, along_a) == later(along_a),
                            "{form:?} {a:?} {b:?} {along_a}"
                        );
                    }
                }
                let walk = |s: Span, has: &dyn Fn(i64) -> bool| (s.0..s.1).all(has);
                let (pa, pb) = (region.project_a(a, b), region.project_b(a, b));
                assert!(
                    walk(a, &|x| points.iter().any(|p| p.0 == x)
                        == (pa.0 <= x && x < pa.1)),
                    "{form:?} {a:?} {b:?}"
                );
                assert!(
                    walk(b, &|x| points.iter().any(|p| p.1 == x)
                        == (pb.0 <= x && x < pb.1)),
                    "{form:?} {a:?} {b:?}"
                );
            }
        }
    }

    fn itertools(n: i64) -> impl Iterator<Item = (i64, i64, i64, i64)> {
        let spans = move || (0..n).flat_map(move |x| (x..n).map(move |y| (x, y + 1)));
        spans().flat_map(move |a| spans().map(move |b| (a.0, a.1, b.0, b.1)))
    }
}
