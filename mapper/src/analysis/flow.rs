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

use smallvec::{SmallVec, smallvec};

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) reset: SmallVec<[u128; 4]>,
    pub(crate) step: SmallVec<[u128; 4]>,
}

impl Profile {
    /// No sums yet, of a group of so many temporal loops.
    pub(crate) fn zero(loops: usize) -> Self {
        Self {
            reset: smallvec![0; loops + 1],
            step: smallvec![0; loops],
        }
    }

    /// Of states that nothing is carried between: their tiles.
    fn total(tiles: u128) -> Self {
        Self {
            reset: smallvec![tiles],
            step: SmallVec::new(),
        }
    }

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
    /// Sums of each group with all instances apart; empty if nobody asks for them.
    apart: Vec<Profile>,
}

/// Roles of the loops above some buffers.
type Roles = SmallVec<[Role; 12]>;

impl<'a> Flow<'a> {
    /// The flow into buffers under some loops.
    pub(crate) fn new(
        pattern: &'a Pattern,
        sizes: &'a [u64],
        tiles: Vec<u64>,
        loops: &'a [Loop],
        retain: Retain,
    ) -> Self {
        let mut flow = Self::unsummed(pattern, sizes, tiles, loops, retain);
        let roles = flow.roles(|_| Role::Space);
        let groups = pattern.groups.iter();
        flow.apart = groups.map(|g| profile(g, &flow, &roles)).collect();
        flow
    }

    /// The same, of which nobody asks for the sums of single instances.
    pub(crate) fn unsummed(
        pattern: &'a Pattern,
        sizes: &'a [u64],
        tiles: Vec<u64>,
        loops: &'a [Loop],
        retain: Retain,
    ) -> Self {
        Self {
            pattern,
            sizes,
            tiles,
            loops,
            retain,
            apart: Vec::new(),
        }
    }

    fn roles(&self, spatial: impl Fn(usize) -> Role) -> Roles {
        let role = |(i, l): (usize, &Loop)| match l.network {
            Some(_) => spatial(i),
            None => Role::Time,
        };
        self.loops.iter().enumerate().map(role).collect()
    }

    /// Elements that enter, over all instances.
    pub(crate) fn entering_all(&self) -> u128 {
        self.entering_with(|_| Role::Space)
    }

    /// Elements that enter, over all buffers that the roles of spatial loops leave apart.
    pub(crate) fn entering_with(&self, spatial: impl Fn(usize) -> Role) -> u128 {
        let roles = self.roles(spatial);
        let changed = |g: &Group| {
            let mut own = self.loops.iter().zip(&roles);
            own.any(|(l, r)| matches!(r, Role::Merged | Role::Fixed(_)) && g.dims.contains(&l.dim))
        };
        let groups = self.pattern.groups.iter().enumerate();
        let profiles: Vec<Cow<Profile>> = groups
            .map(|(i, g)| match self.apart.get(i) {
                Some(apart) if !changed(g) => Cow::Borrowed(apart),
                _ => Cow::Owned(profile(g, self, &roles)),
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
        let mut outside: SmallVec<[usize; 8]> = smallvec![0; profiles.len()];
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
    let (sizes, tiles, retain) = (flow.sizes, &flow.tiles[..], flow.retain);
    let own = flow.loops.iter().zip(roles);
    let own = own.filter(|(l, _)| g.dims.contains(&l.dim));
    if matches!(g.shape, Shape::Free | Shape::Plain) && own.clone().all(|(l, _)| l.whole) {
        let tile = (g.shape == Shape::Plain).then(|| tiles[g.dims[0]]);
        return whole(own, tile);
    }
    let mut own: SmallVec<[(Loop, Role); 8]> = own.map(|(l, r)| (*l, *r)).collect();
    let merges = own.iter().any(|(_, r)| *r == Role::Merged);
    match &g.shape {
        Shape::Free | Shape::Plain => {
            let digits = Digits::new(sizes[g.dims[0]], tiles[g.dims[0]], &own);
            closed(&digits, g.shape == Shape::Plain, retain)
        }
        Shape::Affine(rank) if retain == Retain::Nothing && !merges => {
            Profile::total(window_points(g, rank, sizes, &own))
        }
        Shape::Plane { region, a, b } if retain == Retain::Nothing => {
            // Points that differ in a dimension of the operand have nothing in common.
            let has = |dim: usize| (*a && dim == region.a) || (*b && dim == region.b);
            own.iter_mut()
                .filter(|(l, r)| *r == Role::Merged && has(l.dim))
                .for_each(|(_, r)| *r = Role::Space);
            Profile::total(plane::compute(*region, sizes, &own))
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

/// Closed form of one dimension that the operand has (then `tile` is its tile) or not, all tiles of which are full.
fn whole<'a>(own: impl Iterator<Item = (&'a Loop, &'a Role)>, tile: Option<u64>) -> Profile {
    let mut profile = Profile::default();
    // Buffers times states so far.
    let mut states = 1;
    for (l, role) in own {
        let trips = u128::from(l.trips);
        match role {
            Role::Fixed(_) => {}
            Role::Merged if tile.is_none() => {}
            Role::Merged => states *= trips,
            Role::Space => {
                states *= trips;
                // The loops outside it have stood at every instance.
                profile.reset.iter_mut().for_each(|r| *r *= trips);
                profile.step.iter_mut().for_each(|s| *s *= trips);
            }
            Role::Time => {
                profile.reset.push(states);
                profile.step.push(states * (trips - 1));
                states *= trips;
            }
        }
    }
    if let Some(tile) = tile {
        // Every step leads to other elements.
        profile.reset.iter_mut().for_each(|r| *r = 0);
        profile.step.iter_mut().for_each(|s| *s = 0);
        states *= u128::from(tile);
    }
    profile.reset.push(states);
    profile
}

/// Closed form of one dimension: tiles of a plain one (and unions of merged ones) are equal or disjoint, an absent
/// one is the unit.
fn closed(digits: &Digits, plain: bool, retain: Retain) -> Profile {
    let count = digits.inner_loops();
    let sum = |k: usize| {
        if plain {
            digits.single_states(k)
        } else {
            digits.prefixes(k)
        }
    };
    if retain == Retain::Nothing {
        return Profile::total(sum(count));
    }
    let mut profile = Profile::zero(count);
    for (k, reset) in profile.reset.iter_mut().enumerate() {
        *reset = sum(k);
    }
    if !plain {
        for k in 0..count {
            profile.step[k] = profile.reset[k + 1] - profile.reset[k];
        }
    }
    profile
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
    loops: SmallVec<[(usize, i64, u64); 6]>,
    at: SmallVec<[u64; 6]>,
}

impl Odometer {
    /// The loops of a role, all at their first iteration.
    pub(crate) fn new(own: &[(Loop, Role)], role: Role) -> Self {
        let loops: SmallVec<_> = own
            .iter()
            .filter(|(_, r)| *r == role)
            .map(|(l, _)| (l.dim, l.tile as i64, l.trips))
            .collect();
        Self {
            at: smallvec![0; loops.len()],
            loops,
        }
    }

    /// Advances, moving the start of tiles; false after the last.
    pub(crate) fn next(&mut self, start: &mut [i64]) -> bool {
        self.step(start).is_some()
    }

    /// Advances, and tells the outermost loop that does; none after the last.
    fn step(&mut self, start: &mut [i64]) -> Option<usize> {
        for (i, (dim, tile, trips)) in self.loops.iter().enumerate().rev() {
            self.at[i] += 1;
            start[*dim] += tile;
            if self.at[i] < *trips {
                return Some(i);
            }
            start[*dim] -= tile * *trips as i64;
            self.at[i] = 0;
        }
        None
    }
}

/// Boxes that are seen as one: the intervals of the group's dimensions. Reused from state to state.
#[derive(Default)]
struct Boxes {
    spans: Vec<Vec<Span>>,
    used: usize,
}

impl Boxes {
    /// The boxes of tiles that start somewhere, moved along the merged loops, so far as they exist.
    fn fill(
        &mut self,
        g: &Group,
        sizes: &[u64],
        tiles: &[u64],
        start: &mut [i64],
        merged: &mut Odometer,
    ) -> &[Vec<Span>] {
        self.used = 0;
        loop {
            if g.dims.iter().all(|d| start[*d] < sizes[*d] as i64) {
                if self.used == self.spans.len() {
                    self.spans.push(vec![(0, 1); sizes.len()]);
                }
                for d in &g.dims {
                    let end = (start[*d] + tiles[*d] as i64).min(sizes[*d] as i64);
                    self.spans[self.used][*d] = (start[*d], end);
                }
                self.used += 1;
            }
            if !merged.next(start) {
                return &self.spans[..self.used];
            }
        }
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
    let carries = retain != Retain::Nothing && count > 0;
    let mut profile = Profile::zero(count);
    let mut boxes = Boxes::default();
    loop {
        let mut last: Option<Set> = None;
        let mut firsts: Vec<Set> = Vec::with_capacity(count);
        // Outermost loop that stepped since the last state that has work.
        let mut stepped = count;
        loop {
            let touched = boxes.fill(g, sizes, tiles, &mut start, &mut merged);
            if let Some(set) = g.touched(touched) {
                profile.reset[count] += set.len();
                if carries {
                    match &last {
                        None => firsts = vec![set.clone(); count],
                        Some(before) => {
                            profile.step[stepped] += overlap(before, &set, retain);
                            for (inner, first) in firsts.iter_mut().enumerate().skip(stepped + 1) {
                                profile.reset[inner] += overlap(before, first, retain);
                                first.clone_from(&set);
                            }
                        }
                    }
                    last = Some(set);
                    stepped = count;
                }
            }
            match time.step(&mut start) {
                Some(k) => stepped = stepped.min(k),
                None => break,
            }
        }
        if let Some(set) = &last {
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
