//! How many elements of an operand enter a buffer while a loop nest runs.
//!
//! A buffer holds the current tile. The state of a buffer is the digits of the loops above it; the states that
//! have work are visited in lexicographic order. Going from state `s` to the next one `s'`, the elements
//! `tile(s') - tile(s)` enter. So
//!
//! ```text
//! entering = sum over visited states |tile(s)|  -  sum over successions |tile(s) & tile(s')|
//! ```
//!
//! Both sums factorize over the groups of the operand ([`super::pattern`]): the states are a product of each
//! group's states, the tiles a product of each group's sets. A succession at temporal loop `j` takes one step
//! of `j`, and all temporal loops inside it go from their last digits back to their first. With, for each group,
//!
//! ```text
//! reset[k]  sum over prefixes of its first k temporal loops  of |set(last state) & set(first state)|
//! step[k]   sum over steps of its temporal loop k            of |set(last before) & set(first after)|
//! ```
//!
//! the second sum is `sum over j of step_g[j] * product over other groups h of reset_h[loops of h outside j]`,
//! and the first is the product of `reset[all]`. Groups of one plain or absent dimension have closed forms; the
//! others walk their own states.
//!
//! Spatial loops are instances: each has states of its own, and the sums run over instances. Instances that one
//! transfer serves (multicast; reduced outputs; shared overlap) are merged: seen from above they are one buffer
//! that holds the union of their tiles, and has work when one of them has.

use std::borrow::Cow;

use super::digits::Digits;
use super::nest::Loop;
use super::pattern::{Group, Pattern, Rank, Shape};
use super::plane;
use super::region::Span;
use super::set::Set;

/// What a loop is to a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Iterations follow each other.
    Time,
    /// Iterations are buffers of their own.
    Space,
    /// Iterations are one buffer, which holds the union of their tiles.
    Merged,
    /// Only the iteration of this digit is looked at.
    Fixed(u64),
}

/// What a buffer does with what the next tile needs again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retain {
    /// Nothing is held: each state fetches its tile (compute nodes).
    Nothing,
    /// Elements of the next tile stay.
    Keep,
    /// An unchanged tile stays; a changed one is fetched whole.
    Refetch,
}

/// Sums of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) reset: Vec<u128>,
    pub(crate) step: Vec<u128>,
}

impl Profile {
    /// Adds the sums of other states, so many times.
    pub(crate) fn add(&mut self, other: &Self, times: u64) {
        let times = u128::from(times);
        self.reset
            .iter_mut()
            .zip(&other.reset)
            .for_each(|(x, y)| *x += y * times);
        self.step
            .iter_mut()
            .zip(&other.step)
            .for_each(|(x, y)| *x += y * times);
    }
}

/// What enters the buffers at one place of a nest.
pub(crate) struct Flow<'a> {
    pub(crate) pattern: &'a Pattern,
    /// Extents of the dimensions.
    pub(crate) sizes: &'a [u64],
    /// Tile of each dimension in a buffer.
    pub(crate) tiles: Vec<u64>,
    /// Loops above the buffers.
    pub(crate) loops: &'a [Loop],
    pub(crate) retain: Retain,
    /// Sums of each group with all instances apart.
    apart: Vec<Profile>,
}

impl<'a> Flow<'a> {
    /// The flow into buffers under some loops.
    pub(crate) fn new(
        pattern: &'a Pattern,
        sizes: &'a [u64],
        tiles: Vec<u64>,
        loops: &'a [Loop],
        retain: Retain,
    ) -> Self {
        let mut flow = Self {
            pattern,
            sizes,
            tiles,
            loops,
            retain,
            apart: Vec::new(),
        };
        let role = |l: &Loop| {
            if l.network.is_some() {
                Role::Space
            } else {
                Role::Time
            }
        };
        let roles: Vec<Role> = loops.iter().map(role).collect();
        flow.apart = pattern
            .groups
            .iter()
            .map(|g| profile(g, &flow, &roles))
            .collect();
        flow
    }

    /// Elements that enter, over all instances.
    pub(crate) fn entering_all(&self) -> u128 {
        self.entering_with(|_| Role::Space)
    }

    /// Elements that enter, over all buffers that the roles of spatial loops leave apart.
    pub(crate) fn entering_with(&self, spatial: impl Fn(usize) -> Role) -> u128 {
        let role = |(i, l): (usize, &Loop)| {
            if l.network.is_some() {
                spatial(i)
            } else {
                Role::Time
            }
        };
        let roles: Vec<Role> = self.loops.iter().enumerate().map(role).collect();
        let changed = |g: &Group| {
            let mut own = self
                .loops
                .iter()
                .zip(&roles)
                .filter(|(l, _)| g.dims.contains(&l.dim));
            own.any(|(_, r)| matches!(r, Role::Merged | Role::Fixed(_)))
        };
        let groups = self.pattern.groups.iter().zip(&self.apart);
        let profiles: Vec<Cow<Profile>> = groups
            .map(|(g, apart)| {
                if changed(g) {
                    Cow::Owned(profile(g, self, &roles))
                } else {
                    Cow::Borrowed(apart)
                }
            })
            .collect();
        self.combine(&profiles)
    }

    fn combine(&self, profiles: &[Cow<Profile>]) -> u128 {
        if self.pattern.nothing {
            return 0;
        }
        let visits: u128 = profiles
            .iter()
            .map(|p| p.reset.last().copied().unwrap_or(0))
            .product();
        if self.retain == Retain::Nothing || visits == 0 {
            return visits;
        }
        let groups = &self.pattern.groups;
        let mut outside = vec![0usize; profiles.len()];
        let mut kept = 0;
        for l in self.loops.iter().filter(|l| l.network.is_none()) {
            let Some(g) = groups.iter().position(|g| g.dims.contains(&l.dim)) else {
                continue;
            };
            let step = profiles[g].step[outside[g]];
            if step != 0 {
                let others = profiles
                    .iter()
                    .zip(&outside)
                    .enumerate()
                    .filter(|(h, _)| *h != g);
                kept += step * others.map(|(_, (p, k))| p.reset[*k]).product::<u128>();
            }
            outside[g] += 1;
        }
        visits - kept
    }
}

fn profile(g: &Group, flow: &Flow, roles: &[Role]) -> Profile {
    let Flow {
        sizes,
        tiles,
        retain,
        ..
    } = flow;
    let (sizes, retain) = (*sizes, *retain);
    let own: Vec<(Loop, Role)> = flow
        .loops
        .iter()
        .zip(roles)
        .filter(|(l, _)| g.dims.contains(&l.dim))
        .map(|(l, r)| (*l, *r))
        .collect();
    let total = |sum: u128| Profile {
        reset: vec![sum],
        step: vec![],
    };
    match &g.shape {
        Shape::Free => closed(
            &Digits::new(sizes[g.dims[0]], tiles[g.dims[0]], &own),
            false,
        ),
        Shape::Plain => closed(&Digits::new(sizes[g.dims[0]], tiles[g.dims[0]], &own), true),
        Shape::Affine(rank)
            if retain == Retain::Nothing && !own.iter().any(|o| o.1 == Role::Merged) =>
        {
            total(window_points(g, rank, sizes, &own))
        }
        Shape::Plane { region, a, b } if retain == Retain::Nothing => {
            // Points that differ in a dimension of the operand have nothing in common.
            let has = |dim: usize| (*a && dim == region.a) || (*b && dim == region.b);
            let mut own = own;
            own.iter_mut()
                .filter(|(l, r)| *r == Role::Merged && has(l.dim))
                .for_each(|(_, r)| *r = Role::Space);
            total(plane::compute(*region, sizes, &own))
        }
        Shape::Plane { region, .. } => plane::buffer(g, *region, sizes, tiles, &own, retain),
        Shape::Affine(_) | Shape::Any { .. } => walk(g, sizes, tiles, &own, retain),
    }
}

/// Points of the dimensions of one rank that are in bounds. Of a fixed instance all points count: it is the one
/// with most of them.
fn window_points(g: &Group, rank: &Rank, sizes: &[u64], own: &[(Loop, Role)]) -> u128 {
    if own.iter().any(|(_, r)| matches!(r, Role::Fixed(_))) {
        let points = |dim: &usize| {
            let mine: Vec<(Loop, Role)> =
                own.iter().filter(|(l, _)| l.dim == *dim).copied().collect();
            let digits = Digits::new(sizes[*dim], 1, &mine);
            digits.prefixes(digits.inner_loops())
        };
        return g.dims.iter().map(points).product();
    }
    let Some(&(long, c)) = rank.terms.iter().max_by_key(|(d, _)| sizes[*d]) else {
        return 0;
    };
    let others: Vec<(usize, i64)> = rank
        .terms
        .iter()
        .filter(|(d, _)| *d != long)
        .copied()
        .collect();
    let mut at = vec![0u64; others.len()];
    let mut count = 0;
    loop {
        let base = others
            .iter()
            .zip(&at)
            .fold(rank.constant, |i, ((_, c), x)| i + c * *x as i64);
        count += Set::affine(
            base,
            std::iter::once((c, (0, sizes[long] as i64))),
            rank.extent,
        )
        .len();
        let Some(next) = (0..at.len())
            .rev()
            .find(|i| at[*i] + 1 < sizes[others[*i].0])
        else {
            return count;
        };
        at[next] += 1;
        at[next + 1..].fill(0);
    }
}

/// Closed form of one dimension: tiles of a plain one (and unions of merged ones) are equal or disjoint, an absent
/// one is the unit.
fn closed(digits: &Digits, plain: bool) -> Profile {
    let count = digits.inner_loops();
    if plain {
        let reset = (0..=count).map(|k| digits.single_states(k)).collect();
        return Profile {
            reset,
            step: vec![0; count],
        };
    }
    let reset: Vec<u128> = (0..=count).map(|k| digits.prefixes(k)).collect();
    let step = reset.windows(2).map(|w| w[1] - w[0]).collect();
    Profile { reset, step }
}

/// Elements of a next tile that are there already.
pub(crate) fn overlap(x: &Set, y: &Set, retain: Retain) -> u128 {
    let shared = x.shared(y);
    let whole = shared == x.len() && shared == y.len();
    match retain {
        Retain::Keep => shared,
        Retain::Refetch if whole => shared,
        Retain::Refetch | Retain::Nothing => 0,
    }
}

/// An odometer over some loops of the group.
pub(crate) struct Odometer {
    loops: Vec<(usize, i64, u64)>,
    at: Vec<u64>,
}

impl Odometer {
    /// The loops of a role, all at their first iteration.
    pub(crate) fn new(own: &[(Loop, Role)], role: Role) -> Self {
        let loops: Vec<_> = own
            .iter()
            .filter(|(_, r)| *r == role)
            .map(|(l, _)| (l.dim, l.tile as i64, l.trips))
            .collect();
        Self {
            at: vec![0; loops.len()],
            loops,
        }
    }

    /// Advances, moving the start of tiles; false after the last.
    pub(crate) fn next(&mut self, start: &mut [i64]) -> bool {
        for (i, (dim, tile, trips)) in self.loops.iter().enumerate().rev() {
            self.at[i] += 1;
            start[*dim] += tile;
            if self.at[i] < *trips {
                return true;
            }
            start[*dim] -= tile * *trips as i64;
            self.at[i] = 0;
        }
        false
    }
}

/// Sums of a group by a walk over its states.
fn walk(g: &Group, sizes: &[u64], tiles: &[u64], own: &[(Loop, Role)], retain: Retain) -> Profile {
    let mut start = vec![0i64; sizes.len()];
    for (l, r) in own {
        if let Role::Fixed(digit) = r {
            start[l.dim] += l.tile as i64 * *digit as i64;
        }
    }
    let mut space = Odometer::new(own, Role::Space);
    let mut time = Odometer::new(own, Role::Time);
    let mut merged = Odometer::new(own, Role::Merged);
    let count = time.loops.len();
    let mut profile = Profile {
        reset: vec![0; count + 1],
        step: vec![0; count],
    };
    let mut boxes: Vec<Vec<Span>> = Vec::new();
    loop {
        let mut last: Option<(Vec<u64>, Set)> = None;
        let mut firsts: Vec<Set> = Vec::with_capacity(count);
        loop {
            boxes.clear();
            loop {
                let inside = g.dims.iter().all(|d| start[*d] < sizes[*d] as i64);
                if inside {
                    let spans = start.iter().zip(tiles).zip(sizes);
                    boxes.push(
                        spans
                            .map(|((s, t), n)| (*s, (*s + *t as i64).min(*n as i64)))
                            .collect(),
                    );
                }
                if !merged.next(&mut start) {
                    break;
                }
            }
            if let Some(set) = g.touched(&boxes) {
                profile.reset[count] += set.len();
                if retain != Retain::Nothing && count > 0 {
                    match &last {
                        None => firsts = vec![set.clone(); count],
                        Some((digits, before)) => {
                            let k = digits
                                .iter()
                                .zip(&time.at)
                                .position(|(x, y)| x != y)
                                .unwrap_or(count - 1);
                            profile.step[k] += overlap(before, &set, retain);
                            for (inner, first) in firsts.iter_mut().enumerate().skip(k + 1) {
                                profile.reset[inner] += overlap(before, first, retain);
                                *first = set.clone();
                            }
                        }
                    }
                    last = Some((time.at.clone(), set));
                }
            }
            if !time.next(&mut start) {
                break;
            }
        }
        if let Some((_, set)) = &last {
            for (k, first) in firsts.iter().enumerate() {
                profile.reset[k] += overlap(set, first, retain);
            }
        }
        if !space.next(&mut start) {
            break;
        }
    }
    profile
}
