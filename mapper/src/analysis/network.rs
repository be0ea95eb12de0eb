//! Links of a fanout's network: how many a word crosses, and what the busiest of them carries.
//!
//! Spatial loops give each instance its place: along an axis by the digits of its loops, the innermost fastest; over axes row by
//! row. Instances that differ only in loops whose iterations need the same words (or sum to the same ones) are a *group*: a word
//! crosses each link of the group's tree once ([`presil_hwmodels::network`] says which links these are). Words are spread evenly over groups:
//!
//! ```text
//! links    = sum over groups of links of the tree / groups              crossings of a word, on average
//! busiest  = groups whose tree has the busiest link / groups            share of all words that this link carries
//! hops     = links to the farthest instance
//! ```
//!
//! All words of a tree enter by one link (of a mesh with several entrances: one for each that it uses), so no other link carries more.

use presil_hwmodels::{Fanout, Network, Topology};

/// A spatial loop on a fanout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spread {
    /// The dimension of the fanout.
    pub(crate) axis: usize,
    /// Iterations.
    pub(crate) trips: u64,
    /// Whether all of them need the same words.
    pub(crate) same: bool,
}

/// What an operand's words do on a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reach {
    /// Links that a word crosses to its group.
    pub(crate) links: f64,
    /// Links that a word crosses to the nearest of the group.
    pub(crate) single: f64,
    /// Share of the words that the busiest link carries.
    pub(crate) busiest: f64,
    /// Links to the farthest instance.
    pub(crate) hops: u64,
}

/// How words reach the instances that loops, from the outside in, use.
pub(crate) fn reach(fanout: &Fanout, network: &Network, loops: &[Spread]) -> Reach {
    let sizes: Vec<u64> = fanout.dims.iter().map(|d| d.size.max(1)).collect();
    let all: u64 = sizes.iter().product();
    let places = Places::new(&sizes, loops);
    let mut sum = Sum::default();
    match network.topology {
        Topology::Bus => {
            let wire = all as f64;
            return Reach {
                links: wire,
                single: wire,
                busiest: 1.0,
                hops: 1,
            };
        }
        Topology::Tree { radix } => places.groups(|group| tree(radix, all, group, &mut sum)),
        Topology::Mesh { columns, entrances } => {
            let rows = all.div_ceil(columns.max(1)).max(1);
            let served = rows.div_ceil(entrances.max(1));
            places.groups(|group| mesh(columns.max(1), served, group, &mut sum));
        }
        Topology::Systolic => {
            let axis = loops.iter().find(|l| l.same && l.trips > 1);
            let axis = axis.map_or(0, |l| l.axis);
            let after: u64 = sizes.iter().skip(axis + 1).product();
            let size = sizes.get(axis).copied().unwrap_or(1);
            places.groups(|group| chains(after, size, group, &mut sum));
        }
    }
    sum.reach()
}

/// Where instances stand: each is one offset of loops that separate groups and one of loops within a group.
struct Places {
    groups: Vec<u64>,
    members: Vec<u64>,
}

impl Places {
    fn new(sizes: &[u64], loops: &[Spread]) -> Self {
        let mut strides: Vec<u64> = (0..sizes.len())
            .map(|a| sizes.iter().skip(a + 1).product())
            .collect();
        let mut places = Self {
            groups: vec![0],
            members: vec![0],
        };
        for l in loops.iter().rev() {
            let Some(stride) = strides.get_mut(l.axis) else {
                continue;
            };
            let of = match l.same {
                true => &mut places.members,
                false => &mut places.groups,
            };
            let inner = std::mem::take(of);
            let steps = (0..l.trips).flat_map(|i| inner.iter().map(move |p| (i, *p)));
            of.extend(steps.map(|(i, p)| p + i * *stride));
            *stride *= l.trips;
        }
        places
    }

    /// Hands each group's instances on.
    fn groups(&self, mut each: impl FnMut(&[u64])) {
        let mut group = Vec::with_capacity(self.members.len());
        for base in &self.groups {
            group.clear();
            group.extend(self.members.iter().map(|m| base + m));
            each(&group);
        }
    }
}

/// Sums over groups.
#[derive(Default)]
struct Sum {
    groups: u64,
    links: u64,
    single: u64,
    hops: u64,
    /// Groups by the link that they enter by.
    entered: Vec<u64>,
}

impl Sum {
    fn group(&mut self, links: u64, nearest: u64, farthest: u64) {
        self.groups += 1;
        self.links += links;
        self.single += nearest;
        self.hops = self.hops.max(farthest);
    }

    fn enters(&mut self, link: u64) {
        let at = link as usize;
        if self.entered.len() <= at {
            self.entered.resize(at + 1, 0);
        }
        self.entered[at] += 1;
    }

    fn reach(&self) -> Reach {
        let groups = self.groups.max(1) as f64;
        let most = self.entered.iter().max().copied().unwrap_or(0);
        Reach {
            links: self.links as f64 / groups,
            single: self.single as f64 / groups,
            busiest: most as f64 / groups,
            hops: self.hops,
        }
    }
}

/// Switches on the way to some leaves of a complete tree, one link above each.
fn tree(radix: u64, all: u64, group: &[u64], sum: &mut Sum) {
    let mut level = group.to_vec();
    level.sort_unstable();
    let (mut span, mut hops, mut links) = (1u64, 1, level.len() as u64);
    while span < all {
        span = span.saturating_mul(radix);
        level.iter_mut().for_each(|i| *i /= radix);
        level.dedup();
        links += level.len() as u64;
        hops += 1;
    }
    sum.group(links, hops, hops);
    sum.enters(0);
}

/// Along the entrance's row, then along columns. Each entrance serves so many rows.
fn mesh(columns: u64, served: u64, group: &[u64], sum: &mut Sum) {
    let entrance = |i: u64| i / columns / served;
    // Sorted by entrance, column and row, the last one of each column is the farthest in it.
    let mut at: Vec<(u64, u64, u64)> = group
        .iter()
        .map(|i| (entrance(*i), i % columns, i / columns % served))
        .collect();
    at.sort_unstable();
    let mut links = 0;
    for (n, (e, column, down)) in at.iter().enumerate() {
        let next = at.get(n + 1);
        let same_entrance = next.is_some_and(|x| x.0 == *e);
        if !(same_entrance && next.is_some_and(|x| x.1 == *column)) {
            links += down;
        }
        if !same_entrance {
            links += 1 + column;
            sum.enters(*e);
        }
    }
    let hops = || at.iter().map(|(_, column, down)| 1 + column + down);
    let nearest = hops().min().unwrap_or(0);
    sum.group(links, nearest, hops().max().unwrap_or(0));
}

/// Into each chain that has one of the group, as far as the last of these. Chains lie along an axis of some size, whose
/// neighbours are `after` places apart.
fn chains(after: u64, size: u64, group: &[u64], sum: &mut Sum) {
    let mut at: Vec<(u64, u64)> = group
        .iter()
        .map(|i| (i / (after * size) * after + i % after, i / after % size + 1))
        .collect();
    at.sort_unstable();
    let mut links = 0;
    for (n, (chain, far)) in at.iter().enumerate() {
        if at.get(n + 1).is_none_or(|x| x.0 != *chain) {
            links += far;
            sum.enters(*chain);
        }
    }
    let hops = || at.iter().map(|a| a.1);
    let nearest = hops().min().unwrap_or(0);
    sum.group(links, nearest, hops().max().unwrap_or(0));
}

#[cfg(test)]
mod tests;
