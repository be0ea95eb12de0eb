//! Sums of the group of two dimensions that the domain couples, without a walk over all its states.
//!
//! *Buffers.* The states under a prefix of temporal digits form a subtree. Its sums and its first and last sets
//! depend on the band only by the distance of its box from the diagonal, if the box is not cut by the border, and
//! not at all if it lies inside. So subtrees are summed once for each distance, relative to their corner. Along a
//! loop the boxes without a point, those that the border cuts and those inside are one run each: a run without
//! points is skipped, and one inside is summed as its first box times its length.
//!
//! *Compute.* Nothing is held, so each point counts once, or once for each union of merged points.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::digits::Digits;
use super::flow::{Odometer, Profile, Retain, Role, overlap};
use super::nest::Loop;
use super::pattern::Group;
use super::region::{Region, Span, length};
use super::set::Set;

/// Where a subtree stands: level, and what its sums depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Inside(usize),
    Distance(usize, i64),
    Corner(usize, i64, i64),
}

/// Sums of a subtree; its sets are relative to its corner.
struct Node {
    first: Set,
    last: Set,
    profile: Profile,
}

struct Tree<'a> {
    group: &'a Group,
    region: Region,
    sizes: &'a [u64],
    tiles: &'a [u64],
    /// Dimension, tile and trips of temporal loops.
    time: Vec<(usize, i64, u64)>,
    merged: &'a [(Loop, Role)],
    /// Extent of the box under each level, in a and b.
    reach: Vec<(i64, i64)>,
    retain: Retain,
    known: FxHashMap<Key, Option<Rc<Node>>>,
}

/// Sums for a buffer.
pub(crate) fn buffer(
    group: &Group,
    region: Region,
    sizes: &[u64],
    tiles: &[u64],
    own: &[(Loop, Role)],
    retain: Retain,
) -> Profile {
    let of = |role: Role| own.iter().filter(move |(_, r)| *r == role);
    let time: Vec<_> = of(Role::Time)
        .map(|(l, _)| (l.dim, l.tile as i64, l.trips))
        .collect();
    let span = |dim: usize, from: usize| {
        let loops = time.iter().skip(from).copied();
        let merged = of(Role::Merged).map(|(l, _)| (l.dim, l.tile as i64, l.trips));
        let reach = loops
            .chain(merged)
            .filter(|l| l.0 == dim)
            .map(|l| l.1 * (l.2 as i64 - 1))
            .sum::<i64>();
        reach + tiles[dim] as i64
    };
    let reach = (0..=time.len())
        .map(|k| (span(region.a, k), span(region.b, k)))
        .collect();
    let count = time.len();
    let mut tree = Tree {
        group,
        region,
        sizes,
        tiles,
        time,
        merged: own,
        reach,
        retain,
        known: FxHashMap::default(),
    };
    let mut start = vec![0i64; sizes.len()];
    for (l, r) in own {
        if let Role::Fixed(digit) = r {
            start[l.dim] += l.tile as i64 * *digit as i64;
        }
    }
    let mut space = Odometer::new(own, Role::Space);
    let mut profile = Profile::zero(count);
    loop {
        if let Some(node) = tree.visit(0, start[region.a], start[region.b]) {
            profile.add(&node.profile, 1);
        }
        if !space.next(&mut start) {
            return profile;
        }
    }
}

impl Tree<'_> {
    /// The box under a level at a place, in bounds.
    fn bounds(&self, k: usize, a: i64, b: i64) -> (Span, Span) {
        let end = |dim: usize, at: i64| at.min(self.sizes[dim] as i64);
        let (ra, rb) = self.reach[k];
        (
            (a, end(self.region.a, a + ra)),
            (b, end(self.region.b, b + rb)),
        )
    }

    /// What the sums of a subtree depend on; none if its box has no point of the domain.
    fn key(&self, k: usize, a: i64, b: i64) -> Option<Key> {
        let (x, y) = self.bounds(k, a, b);
        if !self.region.meets(x, y) {
            return None;
        }
        let cut = (x.1 - x.0, y.1 - y.0) != self.reach[k];
        Some(if cut || self.region.is_stairs() {
            Key::Corner(k, a, b)
        } else if self.region.cells(x, y) == length(x) * length(y) {
            Key::Inside(k)
        } else {
            Key::Distance(k, b - a)
        })
    }

    fn visit(&mut self, k: usize, a: i64, b: i64) -> Option<Rc<Node>> {
        let key = self.key(k, a, b)?;
        if let Some(node) = self.known.get(&key) {
            return node.clone();
        }
        let node = if k == self.time.len() {
            self.leaf(a, b)
        } else {
            self.inner(k, a, b)
        }
        .map(Rc::new);
        self.known.insert(key, node.clone());
        node
    }

    fn leaf(&self, a: i64, b: i64) -> Option<Node> {
        let mut start = vec![0i64; self.sizes.len()];
        (start[self.region.a], start[self.region.b]) = (a, b);
        let mut merged = Odometer::new(self.merged, Role::Merged);
        let mut boxes: Vec<Vec<Span>> = Vec::new();
        loop {
            let spans = start.iter().zip(self.tiles).zip(self.sizes);
            boxes.push(
                spans
                    .map(|((s, t), n)| (*s, (*s + *t as i64).min(*n as i64)))
                    .collect(),
            );
            if !merged.next(&mut start) {
                break;
            }
        }
        let set = self
            .group
            .touched(&boxes)?
            .shifted(self.group, self.region, -a, -b);
        let count = self.time.len();
        let mut profile = Profile::zero(count);
        profile.reset[count] = set.len();
        Some(Node {
            first: set.clone(),
            last: set,
            profile,
        })
    }

    fn inner(&mut self, k: usize, a: i64, b: i64) -> Option<Node> {
        let (dim, tile, trips) = self.time[k];
        let count = self.time.len();
        let mut profile = Profile::zero(count);
        let mut ends: Option<(Set, Set)> = None;
        let along_a = dim == self.region.a;
        let step = |i: u64| {
            let by = i as i64 * tile;
            if along_a { (by, 0) } else { (0, by) }
        };
        let mut i = 0;
        while i < trips {
            let (da, db) = step(i);
            let Some(key) = self.key(k + 1, a + da, b + db) else {
                let before = |i: u64| {
                    let (da, db) = step(i);
                    let (x, y) = self.bounds(k + 1, a + da, b + db);
                    self.region.is_ahead(x, y, along_a)
                };
                if !before(i) {
                    break;
                }
                i = end_of_run(i, trips, before);
                continue;
            };
            let run = if key == Key::Inside(k + 1) {
                let inside = |i: u64| {
                    let (da, db) = step(i);
                    self.key(k + 1, a + da, b + db) == Some(key)
                };
                end_of_run(i, trips, inside) - i
            } else {
                1
            };
            let Some(child) = self.visit(k + 1, a + da, b + db) else {
                i += run;
                continue;
            };
            profile.add(&child.profile, run);
            let place = |s: &Set, i: u64| {
                let (da, db) = step(i);
                s.clone().shifted(self.group, self.region, da, db)
            };
            let first = place(&child.first, i);
            if run > 1 {
                let (last, next) = (place(&child.last, i), place(&child.first, i + 1));
                profile.step[k] += overlap(&last, &next, self.retain) * u128::from(run - 1);
            }
            i += run;
            let last = place(&child.last, i - 1);
            ends = Some(match ends {
                None => (first, last),
                Some((start, before)) => {
                    profile.step[k] += overlap(&before, &first, self.retain);
                    (start, last)
                }
            });
        }
        let (first, last) = ends?;
        profile.reset[k] = overlap(&last, &first, self.retain);
        Some(Node {
            first,
            last,
            profile,
        })
    }
}

/// The first index behind a run: `same` holds at `from`, up to some index, and nowhere behind it before `end`.
fn end_of_run(from: u64, end: u64, same: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (from + 1, end);
    if low >= high || !same(low) {
        return low;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if same(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Elements that the points of compute take. A dimension that is both fixed and not walked counts its mean share.
pub(crate) fn compute(region: Region, sizes: &[u64], own: &[(Loop, Role)]) -> u128 {
    let has =
        |dim: usize, test: &dyn Fn(Role) -> bool| own.iter().any(|(l, r)| l.dim == dim && test(*r));
    let special = |dim: usize| has(dim, &|r| matches!(r, Role::Merged | Role::Fixed(_)));
    let whole = |dim: usize| (0, sizes[dim] as i64);
    let (walked, other) = match (special(region.a), special(region.b)) {
        (false, false) => return region.cells(whole(region.a), whole(region.b)),
        (true, _) => (region.a, region.b),
        (false, true) => (region.b, region.a),
    };
    let across = |at: i64| {
        let point = (at, at + 1);
        if walked == region.a {
            region.project_b(point, whole(other))
        } else {
            region.project_a(whole(other), point)
        }
    };
    let mine: Vec<(Loop, Role)> = own
        .iter()
        .filter(|(l, _)| l.dim == walked)
        .copied()
        .collect();
    let theirs: Vec<(Loop, Role)> = own
        .iter()
        .filter(|(l, _)| l.dim == other)
        .copied()
        .collect();
    let mut start = vec![0i64; sizes.len()];
    for (l, r) in &mine {
        if let Role::Fixed(digit) = r {
            start[l.dim] += l.tile as i64 * *digit as i64;
        }
    }
    let apart: Vec<(Loop, Role)> = mine
        .iter()
        .map(|(l, r)| {
            (
                *l,
                if matches!(r, Role::Time | Role::Space) {
                    Role::Time
                } else {
                    *r
                },
            )
        })
        .collect();
    let (mut states, mut merged) = (
        Odometer::new(&apart, Role::Time),
        Odometer::new(&apart, Role::Merged),
    );
    let mut spans: Vec<Span> = Vec::new();
    let mut count = 0;
    loop {
        spans.clear();
        loop {
            if start[walked] < sizes[walked] as i64 {
                let span = across(start[walked]);
                match spans.last_mut() {
                    Some(last) if last.0 <= span.1 && span.0 <= last.1 => {
                        *last = (last.0.min(span.0), last.1.max(span.1));
                    }
                    _ => spans.push(span),
                }
            }
            if !merged.next(&mut start) {
                break;
            }
        }
        count += reached(&spans, sizes[other], &theirs);
        if !states.next(&mut start) {
            break;
        }
    }
    let fixed = theirs
        .iter()
        .filter(|(_, r)| matches!(r, Role::Fixed(_)))
        .map(|(l, _)| u128::from(l.trips));
    count / fixed.product::<u128>()
}

/// States of a dimension at tile 1 that have a point in some intervals.
fn reached(spans: &[Span], size: u64, own: &[(Loop, Role)]) -> u128 {
    let merges = own.iter().any(|(_, r)| *r == Role::Merged);
    match spans {
        [] => 0,
        [(from, to)] if from >= to => 0,
        [one] if !merges => length(*one),
        _ if !merges => Set::union(spans.to_vec()).len(),
        // A merged state reaches into 0..end if its first point does.
        [(0, end)] => {
            let states: Vec<(Loop, Role)> =
                own.iter().map(|(l, r)| (*l, role_of_state(*r))).collect();
            Digits::new(*end as u64, 1, &states).prefixes(states.len())
        }
        _ => {
            let states: Vec<(Loop, Role)> =
                own.iter().map(|(l, r)| (*l, role_of_state(*r))).collect();
            let (mut walk, mut merged) = (
                Odometer::new(&states, Role::Time),
                Odometer::new(&states, Role::Merged),
            );
            let dim = own.first().map_or(0, |(l, _)| l.dim);
            let mut start = vec![0i64; dim + 1];
            let mut count = 0;
            loop {
                let mut any = false;
                loop {
                    let at = start[dim];
                    any |= at < size as i64 && spans.iter().any(|s| s.0 <= at && at < s.1);
                    if !merged.next(&mut start) {
                        break;
                    }
                }
                count += u128::from(any);
                if !walk.next(&mut start) {
                    return count;
                }
            }
        }
    }
}

fn role_of_state(role: Role) -> Role {
    if role == Role::Merged {
        Role::Merged
    } else {
        Role::Time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_where_it_does() {
        for end in 1..12 {
            for from in 0..end {
                for stop in from + 1..=end {
                    assert_eq!(end_of_run(from, end, |i| i < stop), stop);
                }
            }
        }
    }
}
