//! Links of trees by walking every path, word by word.

use std::collections::{BTreeMap, BTreeSet};

use presil_hwmodels::{FanoutDim, OperandSet};
use presil_numerics::{JoulesPerBit, Seconds};

use super::*;

/// A router, a switch or the memory, as (kind, a, b).
type At = (u64, u64, u64);
type Link = (At, At);

const MEMORY: At = (0, 0, 0);

fn fanout(sizes: &[u64]) -> Fanout {
    let dim = |(n, size): (usize, &u64)| FanoutDim {
        name: format!("d{n}"),
        size: *size,
        multicast: OperandSet::ALL,
        reduces: true,
        accepts: Vec::new(),
        per_stream: *size,
    };
    Fanout {
        dims: sizes.iter().enumerate().map(dim).collect(),
        hop_energy: JoulesPerBit(1e-12),
        network: None,
    }
}

/// All coordinates of used instances with the digits of separating loops, by counting through all digits.
fn instances(axes: usize, loops: &[Spread]) -> Vec<(Vec<u64>, Vec<u64>)> {
    let total: u64 = loops.iter().map(|l| l.trips).product();
    (0..total)
        .map(|mut n| {
            let mut digits = vec![0; loops.len()];
            for (i, l) in loops.iter().enumerate().rev() {
                digits[i] = n % l.trips;
                n /= l.trips;
            }
            let mut at = vec![0; axes];
            for (l, d) in loops.iter().zip(&digits) {
                at[l.axis] = at[l.axis] * l.trips + d;
            }
            let apart = loops.iter().zip(&digits).filter(|(l, _)| !l.same);
            (apart.map(|(_, d)| *d).collect(), at)
        })
        .collect()
}

/// One step at a time from the memory to an instance.
fn path(topology: Topology, sizes: &[u64], at: &[u64], chain: usize) -> Vec<At> {
    let flat = at.iter().zip(sizes).fold(0, |n, (i, s)| n * s + i);
    let all: u64 = sizes.iter().product();
    let mut path = vec![MEMORY];
    match topology {
        Topology::Bus => path.push((1, 0, 0)),
        Topology::Tree { radix } => {
            let mut depth = 0;
            while radix.pow(depth) < all {
                depth += 1;
            }
            for level in 0..=depth {
                let switch = flat / radix.pow(depth - level);
                path.push((1, u64::from(level), switch));
            }
        }
        Topology::Mesh { columns, entrances } => {
            let (row, column) = (flat / columns, flat % columns);
            let rows = all.div_ceil(columns);
            let served = rows.div_ceil(entrances);
            let mut r = (0..=row).rev().find(|r| r % served == 0).unwrap_or(0);
            let mut c = 0;
            path.push((1, r, c));
            while c < column {
                c += 1;
                path.push((1, r, c));
            }
            while r < row {
                r += 1;
                path.push((1, r, c));
            }
        }
        Topology::Systolic => {
            let others = at.iter().zip(sizes).enumerate();
            let others = others.filter(|(a, _)| *a != chain);
            let which = others.fold(0, |n, (_, (i, s))| n * s + i);
            path.extend((0..=at[chain]).map(|i| (1, which, i)));
        }
    }
    path
}

/// Words over every link if each group needs one.
fn walked(topology: Topology, sizes: &[u64], loops: &[Spread]) -> (BTreeMap<Link, u64>, u64, u64) {
    let chain = loops.iter().find(|l| l.same && l.trips > 1);
    let chain = chain.map_or(0, |l| l.axis);
    let mut trees: BTreeMap<Vec<u64>, BTreeSet<Link>> = BTreeMap::new();
    let mut farthest = 0;
    for (group, at) in instances(sizes.len(), loops) {
        let path = path(topology, sizes, &at, chain);
        farthest = farthest.max(path.len() as u64 - 1);
        let tree = trees.entry(group).or_default();
        tree.extend(path.windows(2).map(|w| (w[0], w[1])));
    }
    let mut words = BTreeMap::new();
    for link in trees.values().flatten() {
        *words.entry(*link).or_default() += 1;
    }
    (words, trees.len() as u64, farthest)
}

/// Every way to lay up to three loops on small fanouts.
fn cases() -> Vec<(Vec<u64>, Vec<Spread>)> {
    let mut cases = Vec::new();
    for sizes in [
        vec![6],
        vec![9],
        vec![16],
        vec![3, 4],
        vec![4, 3],
        vec![2, 2, 3],
    ] {
        let loops: Vec<Spread> = (0..sizes.len())
            .flat_map(|axis| [2, 3].map(|trips| (axis, trips)))
            .flat_map(|(axis, trips)| [false, true].map(|same| Spread { axis, trips, same }))
            .collect();
        let fits = |ls: &[Spread]| {
            let used = |a| {
                ls.iter()
                    .filter(|l| l.axis == a)
                    .map(|l| l.trips)
                    .product::<u64>()
            };
            sizes.iter().enumerate().all(|(a, s)| used(a) <= *s)
        };
        let mut some = vec![Vec::new()];
        for _ in 0..3 {
            let longer: Vec<Vec<Spread>> = some
                .iter()
                .flat_map(|ls: &Vec<Spread>| loops.iter().map(|l| [ls.as_slice(), &[*l]].concat()))
                .filter(|ls| fits(ls))
                .collect();
            some.extend(longer);
            some.dedup();
        }
        cases.extend(some.into_iter().map(|ls| (sizes.clone(), ls)));
    }
    cases
}

#[test]
fn links_of_multicast_trees_are_those_that_words_walk() {
    let mesh = |columns, entrances| Topology::Mesh { columns, entrances };
    let tree = |radix| Topology::Tree { radix };
    let topologies = [
        mesh(3, 1),
        mesh(3, 2),
        mesh(4, 1),
        mesh(2, 3),
        tree(2),
        tree(4),
        Topology::Systolic,
    ];
    let cases = cases();
    assert!(cases.len() > 500, "{}", cases.len());
    for topology in topologies {
        for (sizes, loops) in &cases {
            let network = Network {
                topology,
                hop_latency: Seconds::ZERO,
                link_rate: None,
            };
            let own = reach(&fanout(sizes), &network, loops);
            let (words, groups, farthest) = walked(topology, sizes, loops);
            let told = format!("{topology:?} {sizes:?} {loops:?}");
            let crossed: u64 = words.values().sum();
            let most = words.values().max().copied().unwrap_or(0);
            assert!(
                (own.links * groups as f64 - crossed as f64).abs() < 1e-9,
                "{told}"
            );
            assert!(
                (own.busiest * groups as f64 - most as f64).abs() < 1e-9,
                "{told}"
            );
            assert_eq!(own.hops, farthest, "{told}");
            // No fewer links than instances reached.
            let reached: u64 = loops.iter().map(|l| l.trips).product();
            assert!(crossed >= reached, "{told}");
        }
    }
}

#[test]
fn a_bus_carries_each_word_once_past_all() {
    let network = Network {
        topology: Topology::Bus,
        hop_latency: Seconds::ZERO,
        link_rate: None,
    };
    let same = Spread {
        axis: 0,
        trips: 3,
        same: true,
    };
    for loops in [
        vec![],
        vec![same],
        vec![Spread {
            same: false,
            ..same
        }],
    ] {
        let own = reach(&fanout(&[8]), &network, &loops);
        assert_eq!((own.links, own.busiest, own.hops), (8.0, 1.0, 1));
    }
}
