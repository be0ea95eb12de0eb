//! Which dimensions lie along which axes.
//!
//! An axis takes one to three of the dimensions that it accepts. A factor `f` of a dimension with `e` iterations
//! left speeds it up by `e / ceil(e / f)`: a factor that leaves a nearly empty last round is no better than a
//! smaller one, and prime extents need no padding. Axes are filled one after the other; a beam keeps the best
//! partial assignments by speed-up, at most two of each signature (the set of dimensions on each axis), since which
//! dimensions are parallel decides what is shared, and the best sharing is not known yet. The two are the fastest and
//! the most balanced of those nearly as fast: 108 cores as 27 x 4 share operands that 106 x 1 cannot.

use std::collections::hash_map::Entry;
use std::hash::Hash;

use rustc_hash::FxHashMap;

use super::factors::ceil_quotients;
use super::frame::Frame;
use super::plan::Spread;

/// Assignments kept while axes are filled.
const BEAM: usize = 96;
/// Speed that a balanced choice may give up, as a share.
const NEARLY: f64 = 0.03;
/// Ways to fill one axis.
const FILLS: usize = 24;

/// A (partial) assignment.
#[derive(Debug, Clone)]
struct Assignment {
    spreads: Vec<Spread>,
    speed: f64,
    /// By axis the dimensions on it, as bits.
    signature: Vec<u64>,
}

/// The best assignments, at most `count`, fastest first; always at least one, which may be empty.
pub(super) fn assignments(frame: &Frame, count: usize) -> Vec<Vec<Spread>> {
    let mut beam = vec![Assignment {
        spreads: Vec::new(),
        speed: 1.0,
        signature: Vec::new(),
    }];
    // Axes with the fewest choices first: they would find their dimensions taken.
    let mut axes: Vec<usize> = (0..frame.axes.len()).collect();
    axes.sort_by_key(|a| (frame.axes[*a].accepts.len(), *a));
    for axis in axes {
        let mut next = Vec::new();
        for a in &beam {
            let left: Vec<u64> = (0..frame.dims.len())
                .map(|d| {
                    let taken = a
                        .spreads
                        .iter()
                        .filter(|s| s.dim == d)
                        .map(|s| s.factor)
                        .product::<u64>();
                    frame.dims[d].size.div_ceil(taken.max(1))
                })
                .collect();
            for (fill, speed) in fills(frame, axis, &left) {
                let mut signature = a.signature.clone();
                signature.push(fill.iter().fold(0, |s, (d, _)| s | 1 << (d & 63)));
                let spreads = fill
                    .iter()
                    .map(|&(dim, factor)| Spread { axis, dim, factor });
                let spreads = a.spreads.iter().copied().chain(spreads).collect();
                next.push(Assignment {
                    spreads,
                    speed: a.speed * speed,
                    signature,
                });
            }
        }
        beam = select(next, BEAM);
    }
    let mut best = select(beam, count);
    for a in &mut best {
        a.spreads.sort_by_key(|s| s.axis);
    }
    best.into_iter().map(|a| a.spreads).collect()
}

fn select(all: Vec<Assignment>, count: usize) -> Vec<Assignment> {
    // Stable: equal ones stay in order of preference. Of those within a hundredth the balanced ones come first.
    let key = |a: Assignment| {
        let sum = a.spreads.iter().map(|s| s.factor).sum::<u64>();
        ((a.speed.ln() * 100.0).round(), sum, a)
    };
    let mut all: Vec<(f64, u64, Assignment)> = all.into_iter().map(key).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let kept = two_of_a_kind(&all, |(_, sum, a)| (&a.signature, a.speed, *sum));
    let kept = kept.into_iter().take(count);
    kept.map(|i| all[i].2.clone()).collect()
}

/// Of a list from fast to slow, the places of the fastest of each kind and of the one with the smallest sum of
/// factors among those of the kind that are nearly as fast. In order of the list.
fn two_of_a_kind<'a, T, K: Eq + Hash>(
    list: &'a [T],
    of: impl Fn(&'a T) -> (K, f64, u64),
) -> Vec<usize> {
    struct Pair {
        speed: f64,
        fastest: usize,
        other: Option<(u64, usize)>,
    }
    let mut kinds: FxHashMap<K, Pair> = FxHashMap::default();
    for (i, item) in list.iter().enumerate() {
        let (kind, speed, sum) = of(item);
        match kinds.entry(kind) {
            Entry::Vacant(new) => {
                new.insert(Pair {
                    speed,
                    fastest: i,
                    other: None,
                });
            }
            Entry::Occupied(mut pair) => {
                let pair = pair.get_mut();
                let near = speed >= pair.speed * (1.0 - NEARLY);
                if pair.other.is_none() || (near && pair.other.is_some_and(|o| sum < o.0)) {
                    pair.other = Some((sum, i));
                }
            }
        }
    }
    // Sorted below: the map's order is of no account.
    let mut kept: Vec<usize> = kinds
        .values()
        .flat_map(|p| [Some(p.fastest), p.other.map(|o| o.1)])
        .flatten()
        .collect();
    kept.sort_unstable();
    kept
}

type Fill = Vec<(usize, u64)>;

/// Ways to fill one axis, given the iterations left of each dimension, with their speed-up.
fn fills(frame: &Frame, axis: usize, left: &[u64]) -> Vec<(Fill, f64)> {
    let a = &frame.axes[axis];
    let dims: Vec<usize> = a.accepts.iter().copied().filter(|d| left[*d] > 1).collect();
    let mut found: Vec<(Fill, f64)> = vec![(Vec::new(), 1.0)];
    let mut from = 0;
    // Each round adds one more dimension to the fills of the round before.
    for round in 0..3 {
        let end = found.len();
        for i in from..end {
            let (fill, speed) = found[i].clone();
            let room = a.size / fill.iter().map(|f| f.1).product::<u64>();
            let after = fill
                .last()
                .and_then(|(d, _)| dims.iter().position(|x| x == d))
                .map_or(0, |p| p + 1);
            for &d in &dims[after.min(dims.len())..] {
                for f in useful(left[d], room, if round == 0 { 6 } else { 2 }) {
                    let more = left[d] as f64 / left[d].div_ceil(f) as f64;
                    let mut fill = fill.clone();
                    fill.push((d, f));
                    found.push((fill, speed * more));
                }
            }
        }
        from = end;
    }
    found.sort_by(|x, y| y.1.total_cmp(&x.1));
    let kind = |f: &Fill| f.iter().fold(0u64, |s, (d, _)| s | 1 << (d & 63));
    let kept = two_of_a_kind(&found, |f| (kind(&f.0), f.1, f.0.iter().map(|x| x.1).sum()));
    kept.into_iter()
        .take(FILLS)
        .map(|i| found[i].clone())
        .collect()
}

/// Useful factors of `e` iterations on at most `room` instances, quotients `ceil(e / k)`: the largest, and those that
/// leave room for further dimensions (a half, a quarter, an eighth, and the root of the room).
fn useful(e: u64, room: u64, count: usize) -> Vec<u64> {
    if room < 2 || e < 2 {
        return Vec::new();
    }
    let quotients: Vec<u64> = ceil_quotients(e, room.min(e))
        .into_iter()
        .filter(|f| *f > 1)
        .collect();
    let mut all: Vec<u64> = quotients.iter().copied().take(count).collect();
    if count > 2 {
        for part in [room / 2, room / 4, room / 8, room.isqrt()] {
            let below = quotients.iter().copied().find(|f| *f <= part);
            all.extend(below.filter(|f| !all.contains(f)));
        }
    }
    // The whole room, with a last round that is partly empty, leaves powers of two aligned.
    let power = 1 << room.min(e).ilog2();
    if !all.contains(&power) {
        all.push(power);
    }
    all
}
