//! Sums of the group of two dimensions that the domain couples, without a walk over all its states.
//!
//! *Buffers.* The states under a prefix of temporal digits form a subtree. Its sums and its first and last sets
//! depend on the band only by the distance of its box from the diagonal, if the box is not cut by the border, and
//! not at all if it lies inside. So subtrees are summed once for each distance, relative to their corner.
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
    let mut profile = Profile {
        reset: vec![0; count + 1],
        step: vec![0; count],
    };
    loop {
        if let Some(node) = tree.visit(0, start[region.a], start[region.b]) {
            profile.add(&node.profile);
        }
        if !space.next(&mut start) {
            return profile;
        }
    }
}

impl Tree<'_> {
    fn visit(&mut self, k: usize, a: i64, b: i64) -> Option<Rc<Node>> {
        let (na, nb) = (
            self.sizes[self.region.a] as i64,
            self.sizes[self.region.b] as i64,
        );
        let (ra, rb) = self.reach[k];
        let (x, y) = ((a, (a + ra).min(na)), (b, (b + rb).min(nb)));
        if !self.region.meets(x, y) {
            return None;
        }
        let key = if a + ra > na || b + rb > nb || self.region.is_stairs() {
            Key::Corner(k, a, b)
        } else if self.region.cells(x, y) == length(x) * length(y) {
            Key::Inside(k)
        } else {
            Key::Distance(k, b - a)
        };
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
        let mut profile = Profile {
            reset: vec![0; count + 1],
            step: vec![0; count],
        };
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
        let mut profile = Profile {
            reset: vec![0; count + 1],
            step: vec![0; count],
        };
        let mut ends: Option<(Set, Set)> = None;
        for i in 0..trips as i64 {
            let (da, db) = if dim == self.region.a {
                (i * tile, 0)
            } else {
                (0, i * tile)
            };
            let Some(child) = self.visit(k + 1, a + da, b + db) else {
                continue;
            };
            profile.add(&child.profile);
            let place = |s: &Set| s.clone().shifted(self.group, self.region, da, db);
            let (first, last) = (place(&child.first), place(&child.last));
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
