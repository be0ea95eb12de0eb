//! Layers against figures of Vela, and rules that every layer keeps.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use presil_hwmodels::{Blocks, Chip};
use presil_workloads::build::{Builder, Conv};
use presil_workloads::{Graph, OpClass, Role};
use proptest::prelude::*;

use super::*;

fn chip(name: &str) -> Chip {
    presil_hwmodels::load(name, &[]).unwrap_or_else(|e| panic!("{e}"))
}

/// A layer's block, its cycles with feature maps in one memory as the network's inputs, and what it moves.
fn run(chip: &Chip, layer: &Layer) -> (Block, f64, super::traffic::Moved) {
    let blocks = chip.blocks.as_ref().unwrap();
    let hertz = chip.clocks.iter().next().unwrap().domain.frequency.0;
    let port = Port::of(chip, blocks.staging, hertz).unwrap();
    let block = choose(blocks, layer);
    let moved = moved(blocks, layer, &block, [Lying::Pixels; 2]);
    let around = Around {
        ports: [&port, &port],
        runs: moved.runs,
        outputs: moved.written / layer.bits[1].div_ceil(8) as f64,
        scales: port.latency,
    };
    (
        block,
        engine_cycles(blocks, layer, &block, None, around),
        moved,
    )
}

fn window(kind: Kind, side: u64, channels: u64, filters: u64, taps: u64) -> Layer {
    Layer {
        taps: [taps; 2],
        span: [taps; 2],
        ..Layer::plain(
            kind,
            [side, side, filters],
            [side, side, channels],
            OutputKind::Sum,
        )
    }
}

#[test]
fn single_layers_take_the_cycles_that_vela_says() {
    // Vela 5.2.0, NPU cycles of networks of one layer, less the load of their weights; block as its schedule shows.
    let pointwise = window(Kind::Convolution, 56, 64, 64, 1);
    let depthwise = window(Kind::Depthwise, 112, 32, 32, 3);
    let cases: [(&str, &Layer, [u64; 3], f64); 6] = [
        ("ethos-u55-256", &pointwise, [8, 8, 64], 52_544.0),
        ("ethos-u55-128", &pointwise, [8, 8, 32], 102_208.0),
        ("ethos-u55-32", &pointwise, [3, 8, 64], 405_024.0),
        ("ethos-u55-256", &depthwise, [14, 14, 16], 153_184.0),
        ("ethos-u55-128", &depthwise, [7, 12, 16], 302_632.0),
        ("ethos-u55-32", &depthwise, [8, 8, 16], 1_206_992.0),
    ];
    for (name, layer, block, cycles) in cases {
        let (chosen, taken, _) = run(&chip(name), layer);
        assert_eq!((chosen.out, taken), (block, cycles), "{name}");
    }
    // Partial blocks of a filter of several taps take a little less there.
    let dense = window(Kind::Convolution, 56, 64, 64, 3);
    let (block, taken, moved) = run(&chip("ethos-u55-256"), &dense);
    assert_eq!(block.out, [6, 14, 32]);
    assert!((taken / 454_552.0 - 1.0).abs() < 6e-3, "{taken}");
    // It reads 40 blocks of 8 x 16 pixels, all channels of each, for both halves of the output channels.
    assert_eq!(moved.read, (40 * 2 * 8 * 16 * 64) as f64);
    assert_eq!((moved.weight_reads, moved.input_passes), (40, 2));
}

#[test]
fn few_channels_pack_taps_into_steps() {
    let blocks = chip("ethos-u55-256").blocks.unwrap();
    let first = Layer {
        stride: [2, 2],
        out: [112, 112, 32],
        ..window(Kind::Convolution, 224, 3, 32, 3)
    };
    let block = choose(&blocks, &first);
    assert!(block.packed);
    assert!(!choose(&blocks, &window(Kind::Convolution, 56, 64, 64, 3)).packed);
    // The input of a packed block is 8 channels deep, of which three are there: a run is shorter than a burst.
    assert_eq!(block.input[2], 8);
    let moved = moved(&blocks, &first, &block, [Lying::Pixels; 2]);
    assert_eq!(moved.runs[0], 8);
}

#[test]
fn one_row_takes_four_columns_at_a_time() {
    let chip = chip("ethos-u55-256");
    let row = |columns: u64| {
        Layer::plain(
            Kind::Linear,
            [1, columns, 128],
            [1, columns, 128],
            OutputKind::Sum,
        )
    };
    // 4 x 4 and 2 x 2 columns of 2 rows hold 16 and 4 pixels: a row of 64 keeps all lanes, one of 63 half of them.
    let (_, even, _) = run(&chip, &row(64));
    let (_, odd, _) = run(&chip, &row(63));
    assert!(odd > 1.5 * even, "{odd} {even}");
}

#[test]
fn a_stripe_is_whole_micro_blocks_of_rows() {
    let layer = window(Kind::Convolution, 112, 32, 32, 3);
    let stripe = layer.stripe(0.06, 2);
    assert_eq!((stripe.out, stripe.input), ([6, 112, 32], [8, 112, 32]));
    assert_eq!(layer.stripe(0.001, 2).out[0], 2);
    assert_eq!(layer.stripe(1.0, 2), layer);
}

#[test]
fn weights_fill_up_input_channels() {
    let linear =
        |channels| Layer::plain(Kind::Linear, [1, 1, 80], [1, 1, channels], OutputKind::Sum);
    assert_eq!(linear(28).filling(8, false), 32.0 / 28.0);
    assert_eq!(linear(32).filling(8, false), 1.0);
    assert_eq!(
        window(Kind::Depthwise, 14, 20, 20, 3).filling(8, false),
        1.0
    );
}

/// A graph of one op of a builder.
fn graph(make: impl FnOnce(&mut Builder)) -> Graph {
    let mut b = Builder::new("one");
    make(&mut b);
    b.finish().unwrap()
}

fn layers_of(graph: &Graph) -> Vec<Layer> {
    layers(graph, graph.ops.iter().last().unwrap()).unwrap()
}

#[test]
fn ops_become_layers_of_their_shapes() {
    let conv = graph(|b| {
        let x = b.input("x", &[1, 24, 20, 30]);
        let conv = Conv::square(48, 3, 2, 1);
        b.conv2d("c", x, &conv).unwrap();
    });
    let layer = &layers_of(&conv)[0];
    assert_eq!(
        (layer.kind, layer.out, layer.input),
        (Kind::Convolution, [10, 15, 48], [20, 30, 24])
    );
    assert_eq!((layer.taps, layer.stride), ([3, 3], [2, 2]));
    let depthwise = graph(|b| {
        let x = b.input("x", &[1, 24, 20, 30]);
        let conv = Conv::square(24, 3, 1, 1).with_groups(24);
        b.conv2d("c", x, &conv).unwrap();
    });
    assert_eq!(layers_of(&depthwise)[0].kind, Kind::Depthwise);
    let linear = graph(|b| {
        let x = b.input("x", &[64, 128]);
        b.linear("l", x, 512, true).unwrap();
    });
    let layer = &layers_of(&linear)[0];
    assert_eq!(
        (layer.kind, layer.out, layer.input),
        (Kind::Linear, [8, 8, 512], [8, 8, 128])
    );
}

#[test]
fn products_of_activations_run_column_by_column() {
    let product = graph(|b| {
        let a = b.input("a", &[4, 64, 32]);
        let c = b.tensor("b", &[4, 48, 32], Role::Input);
        b.matmul("m", OpClass::Matmul, a, c, true).unwrap();
    });
    let list = layers_of(&product);
    let shape = |l: &Layer| (l.kind, l.out, l.repeat);
    assert_eq!(shape(&list[1]), (Kind::Elementwise, [4, 64, 32], 48));
    assert_eq!(shape(&list[2]), (Kind::Sum, [4, 64, 1], 48));
    // All of a softmax's rows and columns pass four times, a reciprocal is found for each row.
    let softmax = graph(|b| {
        let x = b.input("x", &[4, 64, 48]);
        b.softmax("s", x, 2).unwrap();
    });
    let list = layers_of(&softmax);
    let whole = list.iter().filter(|l| volume(l.out) == 4 * 64 * 48).count();
    assert_eq!(whole, 5);
    let small: Vec<&Layer> = list.iter().filter(|l| l.repeat > 1).collect();
    assert_eq!(
        (small.len(), volume(small[0].out), small[0].repeat),
        (1, 4 * 64, 21)
    );
}

/// MACs a cycle of all lanes.
fn lanes(blocks: &Blocks) -> f64 {
    let outputs = blocks.micro.iter().product::<u64>();
    (outputs * blocks.input_channels * blocks.cores) as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn layers_are_never_faster_than_their_lanes(
        pick in 0usize..5,
        rows in 1u64..40, columns in 1u64..70, channels in 1u64..150, filters in 1u64..150,
        taps in 1u64..10, stride in 1u64..3, depthwise in any::<bool>(),
    ) {
        let names = ["ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256", "ethos-u65-512"];
        let chip = chip(names[pick]);
        let blocks = chip.blocks.as_ref().unwrap();
        let kind = if depthwise { Kind::Depthwise } else { Kind::Convolution };
        let filters = if depthwise { channels } else { filters };
        let layer = Layer {
            taps: [taps; 2],
            span: [taps; 2],
            stride: [stride; 2],
            ..Layer::plain(
                kind,
                [rows, columns, filters],
                [(rows - 1) * stride + taps, (columns - 1) * stride + taps, channels],
                OutputKind::Sum,
            )
        };
        let (block, cycles, moved) = run(&chip, &layer);
        let inputs = if depthwise { 1 } else { channels };
        let macs = (rows * columns * filters * inputs * taps * taps) as f64;
        prop_assert!(cycles >= macs / lanes(blocks), "{cycles} cycles for {macs}");
        // What is written is the output; what is read covers the input where windows do not skip any of it.
        prop_assert_eq!(moved.written, volume(layer.out) as f64);
        if stride <= taps {
            prop_assert!(moved.read >= volume(layer.input) as f64 * 0.99, "{}", moved.read);
        }
        // Blocks are micro-blocks, and of whole bricks of channels unless they hold all of them.
        for i in 0..3 {
            prop_assert_eq!(block.out[i] % blocks.micro[i], 0);
        }
        prop_assert!(block.out[2] >= filters || block.out[2] % blocks.brick == 0 || block.out == blocks.micro);
    }
}
