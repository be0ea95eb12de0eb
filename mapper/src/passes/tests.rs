#![expect(clippy::unwrap_used, reason = "tests")]

use presil_hwmodels::{Chip, EngineKind, NodeId, Operand};
use presil_numerics::{Bytes, Format};
use presil_workloads::build::{Builder, Conv as Layer};
use presil_workloads::{Einsum, Graph};

use super::*;
use crate::analysis::evaluate;

/// A convolution of an input [n, c, h, w].
fn conv(input: [u64; 4], layer: &Layer) -> Graph {
    let mut b = Builder::new("t");
    let x = b.input("x", &input);
    let y = b.conv2d("y", x, layer).unwrap();
    b.output(y);
    b.finish().unwrap()
}

fn einsum(graph: &Graph) -> &Einsum {
    graph.ops.iter().next().unwrap().contraction().unwrap()
}

fn problem<'a>(chip: &'a Chip, einsum: &'a Einsum) -> Problem<'a> {
    let (engine, compute) = chip
        .engines
        .iter_ids()
        .find_map(|(id, e)| match e.kind {
            EngineKind::Array { compute, .. } => Some((id, compute)),
            _ => None,
        })
        .unwrap();
    let path = chip.path(compute);
    let room = |n: &NodeId| chip.nodes[*n].memory().map_or(Bytes(0), |m| m.capacity);
    Problem {
        einsum,
        chip,
        engine,
        capacity: path.iter().map(room).collect(),
        path,
        bits: [16.0; 3],
        accumulate: "int16".parse::<Format>().unwrap(),
        mode: 0,
        home: [chip.root(); 3],
        lies: [const { None }; 3],
    }
}

fn eyeriss() -> Chip {
    presil_hwmodels::load("eyeriss", &[]).unwrap()
}

fn planned(chip: &Chip, graph: &Graph) -> Planned {
    plan(&problem(chip, einsum(graph))).unwrap()
}

/// Layers of Chen et al., JSSC 2017, Tables V and VI: name, input, layer, processing latency in ms, active PEs.
fn published() -> Vec<(&'static str, Graph, f64, u64)> {
    let square = |k, r, stride, padding| Layer::square(k, r, stride, padding);
    vec![
        (
            "alexnet 1",
            conv([4, 3, 227, 227], &square(96, 11, 4, 0)),
            16.5,
            154,
        ),
        (
            "alexnet 2",
            conv([4, 96, 27, 27], &square(256, 5, 1, 2).with_groups(2)),
            39.2,
            135,
        ),
        (
            "alexnet 3",
            conv([4, 256, 13, 13], &square(384, 3, 1, 1)),
            21.8,
            156,
        ),
        (
            "alexnet 4",
            conv([4, 384, 13, 13], &square(384, 3, 1, 1).with_groups(2)),
            16.0,
            156,
        ),
        (
            "vgg 1-1",
            conv([3, 3, 224, 224], &square(64, 3, 1, 1)),
            38.0,
            156,
        ),
        (
            "vgg 1-2",
            conv([3, 64, 224, 224], &square(64, 3, 1, 1)),
            810.6,
            156,
        ),
        (
            "vgg 3-1",
            conv([3, 128, 56, 56], &square(256, 3, 1, 1)),
            204.0,
            156,
        ),
        (
            "vgg 3-2",
            conv([3, 256, 56, 56], &square(256, 3, 1, 1)),
            408.1,
            156,
        ),
        (
            "vgg 4-1",
            conv([3, 256, 28, 28], &square(512, 3, 1, 1)),
            105.1,
            168,
        ),
        (
            "vgg 5-1",
            conv([3, 512, 14, 14], &square(512, 3, 1, 1)),
            48.3,
            168,
        ),
    ]
}

#[test]
fn processing_takes_what_silicon_took() {
    let chip = eyeriss();
    for (name, graph, ms, pes) in published() {
        let p = planned(&chip, &graph);
        assert!(p.passes.stated, "{name}");
        assert_eq!(p.passes.active, pes, "{name}");
        let error = p.passes.cycle.0 * p.passes.cycles() * 1e3 / ms - 1.0;
        assert!(error.abs() < 0.05, "{name}: {error:.3}");
    }
}

#[test]
fn bytes_between_buffer_and_array_are_the_published_ones() {
    // Of AlexNet in 10^6 bytes.
    let chip = eyeriss();
    for ((name, graph, ..), mb) in published().iter().zip([18.5, 77.6, 50.2, 37.4]) {
        let bytes = planned(&chip, graph).passes.array_bits / 8e6;
        assert!((bytes / mb - 1.0).abs() < 0.005, "{name}: {bytes} of {mb}");
    }
}

#[test]
fn a_pass_by_hand() {
    // One pass of a 3x3 filter over a 5x6 image: 3 rows of 4 outputs, 2 channels, 8 filters.
    let chip = eyeriss();
    let graph = conv([1, 2, 5, 6], &Layer::square(8, 3, 1, 0));
    let passes = planned(&chip, &graph).passes;
    assert!(!passes.stated);
    assert_eq!(passes.kinds.len(), 1);
    let time = passes.kinds[0].time;
    let x = passes.parameters;
    assert_eq!((x.e, x.f, passes.count()), (3, 4, 1));
    assert_eq!(time.filters, 8.0 * 2.0 * 9.0 / 4.0);
    assert_eq!(time.window, 5.0 * 3.0 * 2.0);
    let (p, q) = (8u64.div_ceil(x.t), 2u64.div_ceil(x.r));
    let compute = (p * q * 3 * 4) as f64;
    assert_eq!(time.steady, compute.max(5.0 * 6.0 * 2.0));
    assert_eq!(time.drain, 3.0 * 8.0 / 4.0);
}

#[test]
fn passes_cover_every_product_once() {
    let chip = eyeriss();
    let odd = conv([5, 14, 19, 23], &Layer::square(21, 3, 2, 1).with_groups(7));
    let graphs = published().into_iter().map(|p| p.1).chain([odd]);
    for graph in graphs {
        let einsum = einsum(&graph);
        let p = planned(&chip, &graph);
        let points: u64 = p
            .passes
            .kinds
            .iter()
            .map(|k| k.count * k.images * k.rows * k.columns * k.filters * k.channels)
            .sum();
        let taps: u64 = einsum.dims[6..].iter().map(|d| d.size).product();
        assert_eq!(Some(points * taps), einsum.points());
    }
}

#[test]
fn the_nest_moves_what_the_passes_do() {
    let chip = eyeriss();
    for (name, graph, ..) in published() {
        let problem = problem(&chip, einsum(&graph));
        let p = plan(&problem).unwrap();
        let exact = evaluate(&problem, &p.mapping).unwrap();
        let of = |cost: &Cost, memory: &str, operand: Operand| {
            let node = chip.node(memory).unwrap();
            let found = cost
                .counts
                .iter()
                .find(|c| c.memory == node && c.operand == operand);
            found.map(|c| (c.reads, c.writes)).unwrap()
        };
        for operand in [Operand::Weight, Operand::Output] {
            assert_eq!(
                of(&exact, "dram", operand),
                of(&p.cost, "dram", operand),
                "{name}"
            );
        }
        // The nest keeps rows that strips share, and sends no padding.
        let (kept, sent) = (
            of(&exact, "dram", Operand::Input),
            of(&p.cost, "dram", Operand::Input),
        );
        assert!(
            kept.0 <= sent.0 && kept.0 * 10 > sent.0 * 7,
            "{name} {kept:?} {sent:?}"
        );
        // It reads no partial sum before the first visit, where the array reads a bias.
        let (kept, sent) = (
            of(&exact, "glb", Operand::Output),
            of(&p.cost, "glb", Operand::Output),
        );
        assert_eq!(kept.1, sent.1, "{name}");
        assert!(kept.0 <= sent.0, "{name}");
        assert_eq!(exact.executed_macs, p.cost.executed_macs);
    }
}

#[test]
fn chosen_parameters_are_no_slower_than_stated_ones() {
    let stated = eyeriss();
    let mut free = stated.clone();
    if let Some(d) = &mut free.mapspace.row_stationary {
        d.layers.clear();
    }
    for (name, graph, ..) in published() {
        let (a, b) = (
            planned(&stated, &graph).passes,
            planned(&free, &graph).passes,
        );
        assert!(!b.stated);
        assert!(
            b.cycles() <= a.cycles() * (1.0 + 1e-12),
            "{name}: {} {}",
            b.cycles(),
            a.cycles()
        );
    }
}

#[test]
fn what_is_no_plain_convolution_has_no_passes() {
    let chip = eyeriss();
    let dilated = Layer {
        dilation: [2, 2],
        ..Layer::square(4, 3, 1, 0)
    };
    for layer in [dilated, Layer::square(4, 13, 1, 0)] {
        // Thirteen rows of a filter are more than the array has.
        let graph = conv([1, 2, 15, 15], &layer);
        assert!(plan(&problem(&chip, einsum(&graph))).is_none());
    }
    let mut other = eyeriss();
    other.mapspace.row_stationary = None;
    let graph = conv([1, 2, 15, 15], &Layer::square(4, 3, 1, 0));
    assert!(plan(&problem(&other, einsum(&graph))).is_none());
}
