//! Multiply-accumulates a second on one core. Claims: f32 >= 20 G/s, int8 exact >= 40, narrow accumulators in order >= 2,
//! fused dot units >= 1.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::time::Instant;

use presil_numerics::arithmetic::matmul::{Size, matmul_f32, matmul_i8};
use presil_numerics::arithmetic::presets::fused_dots;
use presil_numerics::arithmetic::summation::{Accumulator, Spill, Summation};
use presil_numerics::quantized::accumulation::{Accumulation, Operands};
use presil_numerics::quantized::convolution::{Conv2d, conv2d};
use presil_numerics::quantized::rescale::{self, Rescale};
use presil_numerics::quantized::window::Window;
use presil_numerics::quantized::{Clamp, Scaling};
use presil_numerics::random::word;
use presil_numerics::{Codec, Conversion, Format, Overflow};

/// The best of several runs, in G multiply-accumulates a second.
fn measure(name: &str, size: Size, mut run: impl FnMut()) {
    let macs = (size.m * size.n * size.k) as f64;
    let times = (0..7).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    let best = times.fold(f64::INFINITY, f64::min);
    println!("{name:<34} {:>8.2} GMAC/s", macs / best / 1e9);
}

fn numbers(format: Format, count: usize, seed: u64) -> Vec<f32> {
    let codec = Codec::new(format, Conversion::default()).unwrap();
    let uniform = |i| word(seed, i as u64) as i32 as f32 / (1u32 << 31) as f32;
    let number = |i| {
        codec
            .decode(codec.encode(uniform(i).into(), 0).code)
            .to_f32()
    };
    (0..count).map(number).collect()
}

fn dense() {
    let size = Size {
        m: 768,
        n: 768,
        k: 768,
    };
    let a = numbers(Format::FP32, size.m * size.k, 1);
    let b = numbers(Format::FP32, size.k * size.n, 2);
    let mut c = vec![0.0; size.m * size.n];
    measure("f32", size, || matmul_f32(&a, &b, &mut c, size).unwrap());
    let byte = |seed, i: usize| word(seed, i as u64) as i8;
    let a: Vec<i8> = (0..size.m * size.k).map(|i| byte(1, i)).collect();
    let b: Vec<i8> = (0..size.k * size.n).map(|i| byte(2, i)).collect();
    let mut c = vec![0; size.m * size.n];
    measure("int8 exact", size, || {
        matmul_i8(&a, &b, &mut c, size).unwrap()
    });
}

/// Convolutions of 3x3 over 28x28, 128 channels to 128: accumulators, rescaled to int8.
fn convolutions() {
    let side = [28, 28];
    let size = Size {
        m: 28 * 28,
        n: 128,
        k: 9 * 128,
    };
    let byte = |seed, i: usize| word(seed, i as u64) as i8;
    let x: Vec<i8> = (0..size.m * 128).map(|i| byte(1, i)).collect();
    let w: Vec<i8> = (0..size.n * size.k).map(|i| byte(2, i)).collect();
    let mut y = vec![0i8; size.m * size.n];
    let narrow = Summation::sequential(Accumulator::int(20, Overflow::Saturate));
    let output = Scaling {
        scale: 2.0,
        zero_point: 3,
    };
    for (name, accumulation, recipe) in [
        ("conv2d int8, LiteRT", Accumulation::Bits32, rescale::LITERT),
        (
            "conv2d int8, XNNPACK",
            Accumulation::Bits32,
            rescale::XNNPACK,
        ),
        (
            "conv2d int8, 20 bits saturating",
            Accumulation::ordered(&narrow, Operands::Offset).unwrap(),
            rescale::LITERT,
        ),
    ] {
        let op = Conv2d {
            batches: 1,
            window: Window::same(side, [3, 3], [1, 1], [1, 1]),
            inputs: 128,
            outputs: 128,
            groups: 1,
            input_zero_point: -5,
            weight_zero_point: 0,
            accumulation,
            rescale: Rescale::new::<i8>(recipe, 0.01, &[0.01], output, Clamp::None),
        };
        measure(name, size, || {
            conv2d(&op, &x, &w, None, &mut y).unwrap();
        });
    }
}

fn fused() {
    let size = Size {
        m: 128,
        n: 512,
        k: 1024,
    };
    for unit in fused_dots().unwrap() {
        let input = unit.inputs[0];
        let a = numbers(input, size.m * size.k, 1);
        let b = numbers(input, size.k * size.n, 2);
        let mut c = vec![0.0; size.m * size.n];
        let unit = unit.with_inputs(input, input).unwrap();
        if unit.unit.exact_group > 1 {
            continue;
        }
        measure(&unit.unit.name, size, || {
            unit.matmul(&a, &b, &mut c, size).unwrap()
        });
    }
}

fn ordered() {
    let size = Size {
        m: 64,
        n: 512,
        k: 1024,
    };
    let byte = |seed, i: usize| i32::from(word(seed, i as u64) as i8);
    let a: Vec<i32> = (0..size.m * size.k).map(|i| byte(1, i)).collect();
    let b: Vec<i32> = (0..size.k * size.n).map(|i| byte(2, i)).collect();
    let saturating = Summation::sequential(Accumulator::int(20, Overflow::Saturate));
    let spill = Spill {
        every: 64,
        accumulator: Accumulator::int(24, Overflow::Saturate),
    };
    for (name, order) in [
        ("20 bits, saturating", saturating),
        (
            "20 bits, wrapping",
            Summation::sequential(Accumulator::int(20, Overflow::Wrap)),
        ),
        (
            "20 bits, 4 lanes",
            Summation {
                lanes: 4,
                ..saturating
            },
        ),
        (
            "20 bits, trees of 8",
            Summation {
                tree: 8,
                ..saturating
            },
        ),
        (
            "20 bits, spilled every 64",
            Summation {
                spill: Some(spill),
                ..saturating
            },
        ),
        (
            "40 bits of int20",
            Summation::sequential(Accumulator::int(40, Overflow::Saturate)),
        ),
        (
            "32 bits, proven safe",
            Summation::sequential(Accumulator::int(32, Overflow::Saturate)),
        ),
    ] {
        let summer = order.summer().unwrap();
        let mut c = vec![0; size.m * size.n];
        let wide = |x: &[i32]| x.iter().map(|x| x << 12).collect::<Vec<_>>();
        let (a, b) = if name.contains("int20") {
            (wide(&a), wide(&b))
        } else {
            (a.clone(), b.clone())
        };
        measure(name, size, || {
            c.fill(0);
            summer.matmul_int(&a, &b, &mut c, size).unwrap();
        });
    }
    let a = numbers(Format::FP16, size.m * size.k, 1);
    let b = numbers(Format::FP16, size.k * size.n, 2);
    for format in ["fp32", "fp16", "bf16"] {
        let accumulator = Accumulator::float(format.parse().unwrap());
        let trees = Summation {
            tree: 4,
            tree_adder: Some(accumulator),
            ..Summation::sequential(accumulator)
        };
        for (name, order) in [
            ("", Summation::sequential(accumulator)),
            (", trees of 4", trees),
        ] {
            let summer = order.summer().unwrap();
            let mut c = vec![0.0; size.m * size.n];
            measure(&format!("{format} accumulator{name}"), size, || {
                c.fill(0.0);
                summer.matmul_float(&a, &b, &mut c, size).unwrap();
            });
        }
    }
}

fn main() {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    pool.install(|| {
        dense();
        convolutions();
        ordered();
        fused();
    });
}
