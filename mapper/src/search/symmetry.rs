//! Symmetries of a problem: dimensions that may change places.
//!
//! If the operands' ranks, as sets, stay the same when two dimensions of equal size (or two pairs of them at once: `p` with `q`
//! and `r` with `s`) change places, and every axis accepts both or neither, then a mapping and its image cost the same. Of assignments
//! that are images of each other one is looked at.

use presil_workloads::{Access, DimId, Domain};

use super::assign::Assignment;
use super::frame::Frame;
use crate::problem::Problem;

/// Dimensions that change places, by number.
pub(super) type Swap = Vec<(usize, usize)>;

/// The swaps that leave a problem as it is.
pub(super) fn swaps(problem: &Problem, frame: &Frame) -> Vec<Swap> {
    // Ranks of a tensor that lies in some order are not alike.
    if problem.einsum.domain != Domain::Dense || problem.lies.iter().any(Option::is_some) {
        return Vec::new();
    }
    let alike = |a: usize, b: usize| {
        let (x, y) = (&frame.dims[a], &frame.dims[b]);
        let axes = frame.axes.iter();
        x.size == y.size
            && x.operands == y.operands
            && x.scatters == y.scatters
            && axes
                .clone()
                .all(|x| x.accepts.contains(&a) == x.accepts.contains(&b))
    };
    let dims = frame.dims.len();
    let pairs: Vec<(usize, usize)> = (0..dims)
        .flat_map(|a| (a + 1..dims).map(move |b| (a, b)))
        .filter(|p| alike(p.0, p.1))
        .collect();
    let mut found: Vec<Swap> = Vec::new();
    for (i, p) in pairs.iter().enumerate() {
        let alone = vec![*p];
        if same(problem, frame, &alone) {
            found.push(alone);
            continue;
        }
        for q in &pairs[i + 1..] {
            let both = vec![*p, *q];
            let apart = p.0 != q.0 && p.0 != q.1 && p.1 != q.0 && p.1 != q.1;
            if apart && same(problem, frame, &both) {
                found.push(both);
            }
        }
    }
    found
}

fn image(swap: &[(usize, usize)], dim: usize) -> usize {
    let mut of = swap.iter().filter_map(|(a, b)| match dim {
        d if d == *a => Some(*b),
        d if d == *b => Some(*a),
        _ => None,
    });
    of.next().unwrap_or(dim)
}

/// Whether the ranks of every operand stay the same.
fn same(problem: &Problem, frame: &Frame, swap: &[(usize, usize)]) -> bool {
    let to = |d: DimId| {
        let place = frame.dims.iter().position(|x| x.id == d);
        place.map_or(d, |p| frame.dims[image(swap, p)].id)
    };
    let ranks = |a: &Access, swapped: bool| {
        let one = |(r, extent): (&presil_workloads::Affine, &u64)| {
            let term = |(d, c): &(DimId, i64)| (if swapped { to(*d) } else { *d }.0, *c);
            let mut terms: Vec<(u32, i64)> = r.terms.iter().map(term).collect();
            terms.sort_unstable();
            (terms, r.offset, *extent)
        };
        let mut all: Vec<_> = a.ranks.iter().zip(&a.extents).map(one).collect();
        all.sort_unstable();
        all
    };
    let mut operands = problem.einsum.operands();
    operands.all(|a| ranks(a, false) == ranks(a, true))
}

/// Drops assignments whose image stays.
pub(super) fn drop_images(assignments: &mut Vec<Assignment>, swaps: &[Swap]) {
    let mut mirror: Vec<(u8, u8, u32)> = Vec::new();
    assignments.retain(|a| {
        let order = |s: &super::assign::Spread| (s.axis, s.dim, s.trips);
        swaps.iter().all(|swap| {
            mirror.clear();
            mirror.extend(a.spreads.iter().map(|s| {
                let dim = image(swap, usize::from(s.dim)) as u8;
                (s.axis, dim, s.trips)
            }));
            mirror.sort_unstable();
            a.spreads.iter().map(order).le(mirror.iter().copied())
        })
    });
}
