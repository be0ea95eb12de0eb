//! The search against full enumeration.

#![expect(clippy::unwrap_used, reason = "tests")]

mod budget;
mod certificates;
mod chains;
mod constraints;
mod odd;
mod points;
mod single;
mod trees;
mod triples;
mod walks;

use presil_hwmodels::Overlap;
use presil_workloads::einsum::Place;
use presil_workloads::{Access, Affine, Dim, DimId, Domain, Einsum, MapOperator, ReduceOperator};

use crate::conventions::Evaluation;
use crate::hierarchy::{
    Axis, ComputeLevel, FanoutLevel, Hierarchy, Level, Mask, MemoryLevel, Port, Transfer,
};
use crate::looptree::{LoopTree, Node, tile_shape};
use crate::search::Objective;

/// A small pseudo-random number generator (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[(self.next() % choices.len() as u64) as usize]
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

fn access(einsum_ranks: &[&[(u32, i64)]], dims: &[Dim], place: Place) -> Access {
    let rank = |terms: &&[(u32, i64)]| Affine {
        terms: terms.iter().map(|(d, c)| (DimId(*d), *c)).collect(),
        offset: 0,
    };
    let extent = |terms: &&[(u32, i64)]| {
        let reach = terms
            .iter()
            .map(|(d, c)| c.unsigned_abs() * (dims[*d as usize].size - 1));
        reach.sum::<u64>() + 1
    };
    Access {
        place,
        ranks: einsum_ranks.iter().map(rank).collect(),
        extents: einsum_ranks.iter().map(extent).collect(),
    }
}

fn einsum(sizes: &[u64], inputs: &[&[&[(u32, i64)]]], output: &[&[(u32, i64)]]) -> Einsum {
    let dims: Vec<Dim> = sizes
        .iter()
        .enumerate()
        .map(|(i, size)| Dim {
            name: format!("d{i}"),
            size: *size,
        })
        .collect();
    Einsum {
        inputs: inputs
            .iter()
            .enumerate()
            .map(|(i, x)| access(x, &dims, Place::Input(i as u8)))
            .collect(),
        output: access(output, &dims, Place::Output(0)),
        dims,
        map: MapOperator::MultiplyAccumulate,
        reduce: ReduceOperator::Sum,
        domain: Domain::Dense,
    }
}

fn random_memory(
    r: &mut Random,
    name: &str,
    operands: usize,
    energy: f64,
    words: &[f64],
) -> MemoryLevel {
    let bits: Vec<f64> = (0..operands).map(|_| r.of(&[8.0, 8.0, 16.0])).collect();
    let rate = r.of(&[2.0, 8.0, 64.0]);
    let all: Vec<(usize, Transfer)> = (0..operands)
        .flat_map(|o| Transfer::ALL.map(|t| (o, t)))
        .collect();
    let port = |carries: Vec<(usize, Transfer)>| Port {
        name: "p".into(),
        read_rate: rate,
        write_rate: rate * 2.0,
        granule: 1.0,
        access_energy: None,
        carries,
    };
    let (reads, writes) = all.iter().copied().partition(|(_, t)| t.reads());
    MemoryLevel {
        capacity: r.of(words) * 8.0,
        bits,
        read_energy: energy,
        write_energy: energy * 1.25,
        update_energy: energy * 1.25,
        ports: if r.chance(50) {
            vec![port(all)]
        } else {
            vec![port(reads), port(writes)]
        },
        overlap: Overlap::Refetch,
        ..MemoryLevel::unlimited(name, operands, 8.0)
    }
}

/// A fanout of one axis, which operands may share.
fn random_fanout(r: &mut Random) -> Level {
    let axis = Axis {
        name: "x".into(),
        size: r.of(&[2, 3]),
        shares: Mask(r.next() as u32 & 7),
        shares_overlap: Mask::NONE,
        must_share: Mask::NONE,
        accepts: Mask::ALL,
        min_usage: 0.0,
        systolic: false,
    };
    Level::Fanout(FanoutLevel {
        name: "pes".into(),
        hop_energy: 0.0,
        axes: vec![axis],
    })
}

fn random_hierarchy(r: &mut Random, operands: usize) -> Hierarchy {
    let everything = Mask((1 << operands) - 1);
    let mut levels = Vec::new();
    let mut dram = random_memory(r, "dram", operands, 10.0, &[f64::INFINITY]);
    dram.must_keep = everything;
    levels.push(Level::Memory(dram));
    let mut glb = random_memory(r, "glb", operands, 1.0, &[6.0, 10.0, 20.0, 60.0]);
    if r.chance(50) {
        glb.must_keep = everything;
    }
    levels.push(Level::Memory(glb));
    if r.chance(60) {
        let axes = 1 + r.next() % 2;
        let axis = |r: &mut Random, i: u64| Axis {
            name: format!("x{i}"),
            size: r.of(&[2, 3, 4]),
            shares: Mask(r.next() as u32 & everything.0),
            shares_overlap: Mask::NONE,
            must_share: if r.chance(20) {
                Mask::one(r.next() as usize % operands)
            } else {
                Mask::NONE
            },
            accepts: Mask::ALL,
            min_usage: 0.0,
            systolic: false,
        };
        let axes = (0..axes).map(|i| axis(r, i)).collect();
        levels.push(Level::Fanout(FanoutLevel {
            name: "pes".into(),
            hop_energy: 0.0,
            axes,
        }));
        if r.chance(60) {
            let mut rf = random_memory(r, "rf", operands, 0.1, &[3.0, 6.0, 12.0]);
            if r.chance(40) {
                rf.must_keep = Mask::one(r.next() as usize % operands);
            }
            if r.chance(30) {
                rf.keeps = Mask(r.next() as u32).or(rf.must_keep);
            }
            levels.push(Level::Memory(rf));
        }
    }
    levels.push(Level::Compute(ComputeLevel {
        name: "mac".into(),
        energy: 0.5,
        rate: 1.0,
        leakage: 0.0,
    }));
    Hierarchy {
        name: "random".into(),
        levels,
    }
}

fn figure(objective: Objective, e: &Evaluation) -> f64 {
    match objective {
        Objective::Latency => e.cycles,
        Objective::Energy => e.energy_total(),
        Objective::Edp => e.energy_total() * e.cycles,
    }
}

/// Whether the tiles of a tree fit its memories.
fn fits(einsum: &Einsum, hierarchy: &Hierarchy, tree: &LoopTree) -> bool {
    hierarchy.memories().all(|level| {
        let Some(m) = hierarchy.levels[level].memory() else {
            return true;
        };
        let mut used = 0.0;
        for (i, n) in tree.nodes.iter().enumerate() {
            if let Node::Keep { level: l, operand } = *n
                && l == level
            {
                let shape = tile_shape(einsum, operand, &tree.tiles(einsum, i));
                used += shape.iter().map(|s| *s as f64).product::<f64>() * m.bits[operand];
            }
        }
        used <= m.capacity / m.buffering
    })
}
