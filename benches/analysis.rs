//! Single evaluations of the exact analysis: one mapping of a plain GEMM, of one with partial tiles, and of a
//! convolution, on two memories over a 16 x 16 array of elements with registers.
//!
//! Criterion prints the time of one evaluation and its inverse, evaluations a second on one thread.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use presil::mapper::conventions::physical::Evaluator;
use presil::mapper::hierarchy::{
    Axis, ComputeLevel, FanoutLevel, Hierarchy, Level, Mask, MemoryLevel, Port, Transfer,
};
use presil::mapper::looptree::{LoopTree, Node};
use presil::numerics::ids::Id;
use presil::workloads::einsum::Place;
use presil::workloads::{Access, Affine, Dim, Domain, Einsum, MapOperator, ReduceOperator};

fn memory(name: &str, energy: f64, rate: f64) -> Level {
    let carries = (0..3).flat_map(|o| Transfer::ALL.map(|t| (o, t)));
    let port = Port {
        name: "port".into(),
        read_rate: rate,
        write_rate: rate,
        granule: 8.0,
        access_energy: None,
        carries: carries.collect(),
    };
    Level::Memory(MemoryLevel {
        read_energy: energy,
        write_energy: energy,
        update_energy: energy,
        ports: vec![port],
        ..MemoryLevel::unlimited(name, 3, 8.0)
    })
}

fn array() -> Hierarchy {
    let axis = |name: &str| Axis {
        name: name.into(),
        size: 16,
        shares: Mask::ALL,
        shares_overlap: Mask::NONE,
        must_share: Mask::NONE,
        accepts: Mask::ALL,
        min_usage: 0.0,
        systolic: false,
    };
    let elements = FanoutLevel {
        name: "elements".into(),
        axes: vec![axis("x"), axis("y")],
        hop_energy: 0.0,
    };
    let mac = ComputeLevel {
        name: "mac".into(),
        energy: 0.5,
        rate: 1.0,
        leakage: 0.0,
    };
    Hierarchy {
        name: "array".into(),
        levels: vec![
            memory("dram", 10.0, 128.0),
            memory("buffer", 1.0, 512.0),
            Level::Fanout(elements),
            memory("registers", 0.1, 24.0),
            Level::Compute(mac),
        ],
    }
}

fn dims(list: &[(&str, u64)]) -> Vec<Dim> {
    let dim = |(name, size): &(&str, u64)| Dim {
        name: (*name).into(),
        size: *size,
    };
    list.iter().map(dim).collect()
}

fn plain(place: Place, dims: &[Dim], list: &[usize]) -> Access {
    Access {
        place,
        ranks: list.iter().map(|d| Affine::dim(Id::new(*d))).collect(),
        extents: list.iter().map(|d| dims[*d].size).collect(),
    }
}

fn einsum(dims: Vec<Dim>, input: Access, weight: Access, output: Access) -> Einsum {
    Einsum {
        dims,
        inputs: vec![input, weight],
        output,
        map: MapOperator::MultiplyAccumulate,
        reduce: ReduceOperator::Sum,
        domain: Domain::Dense,
    }
}

/// `O[m,n] = sum_k I[m,k] W[k,n]`, each 1024.
fn gemm() -> Einsum {
    let d = dims(&[("m", 1024), ("n", 1024), ("k", 1024)]);
    let (i, w, o) = (
        plain(Place::Input(0), &d, &[0, 2]),
        plain(Place::Input(1), &d, &[2, 1]),
        plain(Place::Output(0), &d, &[0, 1]),
    );
    einsum(d, i, w, o)
}

/// 64 to 64 channels of 56 x 56, 3 x 3, padded.
fn convolution() -> Einsum {
    let d = dims(&[
        ("k", 64),
        ("c", 64),
        ("p", 56),
        ("q", 56),
        ("r", 3),
        ("s", 3),
    ]);
    let window = |out: usize, tap: usize| Affine {
        terms: vec![(Id::new(out), 1), (Id::new(tap), 1)],
        offset: -1,
    };
    let input = Access {
        place: Place::Input(0),
        ranks: vec![Affine::dim(Id::new(1)), window(2, 4), window(3, 5)],
        extents: vec![64, 56, 56],
    };
    let (w, o) = (
        plain(Place::Input(1), &d, &[0, 1, 4, 5]),
        plain(Place::Output(0), &d, &[0, 2, 3]),
    );
    einsum(d, input, w, o)
}

/// Everything is kept at each memory; the loops above the buffer, above the elements, and in them.
fn tree(
    outer: &[(usize, u64)],
    middle: &[(usize, u64)],
    across: [(usize, u64); 2],
    inner: &[usize],
) -> LoopTree {
    let keep = |level| [0, 1, 2].map(|operand| Node::Keep { level, operand });
    let temporal = |(d, tile): (usize, u64)| Node::Temporal {
        dim: Id::new(d),
        tile,
    };
    let mut nodes = keep(0).to_vec();
    nodes.extend(outer.iter().copied().map(temporal));
    nodes.extend(keep(1));
    nodes.extend(middle.iter().copied().map(temporal));
    nodes.extend((0..2).map(|axis| Node::Spatial {
        level: 2,
        axis,
        dim: Id::new(across[axis].0),
        tile: across[axis].1,
    }));
    nodes.extend(keep(3));
    nodes.extend(inner.iter().map(|d| temporal((*d, 1))));
    LoopTree { nodes }
}

fn single_evaluations(c: &mut Criterion) {
    let array = array();
    let (gemm, convolution) = (gemm(), convolution());
    let cases = [
        (
            "gemm",
            &gemm,
            tree(
                &[(0, 256), (1, 256)],
                &[(2, 64), (0, 64)],
                [(0, 4), (2, 4)],
                &[1, 0, 2],
            ),
        ),
        (
            "gemm with partial tiles",
            &gemm,
            tree(
                &[(0, 300), (1, 256)],
                &[(2, 64), (0, 60)],
                [(0, 4), (2, 4)],
                &[1, 0, 2],
            ),
        ),
        (
            "convolution",
            &convolution,
            tree(
                &[(2, 8), (0, 32)],
                &[(1, 16)],
                [(0, 2), (1, 1)],
                &[3, 2, 0, 4, 5],
            ),
        ),
    ];
    let mut group = c.benchmark_group("exact analysis");
    group.throughput(Throughput::Elements(1));
    for (name, einsum, tree) in &cases {
        let evaluator = Evaluator::new(einsum, &array).ok();
        let evaluate = || evaluator.as_ref().and_then(|e| e.evaluate(tree).ok());
        assert!(
            tree.check(einsum, &array).is_ok() && evaluate().is_some(),
            "{name}"
        );
        group.bench_function(*name, |b| b.iter(evaluate));
    }
    group.finish();
}

criterion_group!(benches, single_evaluations);
criterion_main!(benches);
