//! Casts from f32 on one core, in values a second. Claims: 500 M/s for casts of elements, 300 M/s for MX blocks.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use presil_numerics::block::gguf::GgufType;
use presil_numerics::block::group::GroupInt;
use presil_numerics::block::mx::{BLOCK, Dialect, Mx, ScaleRule};
use presil_numerics::block::nvfp4::{self, Nvfp4};
use presil_numerics::{Codec, Conversion, Exact, Format, Overflow, Rounding};

/// Numbers of a bell curve, without a library of random numbers: sums of hashed bits.
fn numbers(count: usize) -> Vec<f32> {
    let uniform =
        |i: u64| f64::from(presil_numerics::random::word(1, i)) / f64::from(u32::MAX) - 0.5;
    let sum = |i: usize| (0..6).map(|k| uniform(6 * i as u64 + k)).sum::<f64>();
    (0..count).map(|i| (sum(i) * 4.0) as f32).collect()
}

fn format(name: &str) -> Format {
    name.parse().unwrap()
}

fn casts(c: &mut Criterion) {
    // 64 Ki values: in and out stay in the second-level cache.
    let values = numbers(1 << 16);
    let mut group = c.benchmark_group("cast f32 to");
    group.throughput(Throughput::Elements(values.len() as u64));
    let mut bytes = vec![0u8; values.len()];
    let mut halves = vec![0u16; values.len()];
    for (name, rounding) in [
        ("fp8_e4m3fn", Rounding::NearestEven),
        ("fp8_e5m2", Rounding::NearestEven),
        ("fp6_e3m2fn", Rounding::NearestEven),
        ("fp4_e2m1fn", Rounding::NearestEven),
        ("int8", Rounding::NearestEven),
        ("int4", Rounding::NearestEven),
        ("fp8_e4m3fn", Rounding::TowardZero),
        ("fp8_e4m3fn", Rounding::HalfUp),
        ("int8", Rounding::NearestAway),
    ] {
        let conversion = Conversion {
            rounding,
            ..Conversion::default()
        };
        let codec = Codec::new(format(name), conversion).unwrap();
        group.bench_function(format!("{name} {rounding}"), |b| {
            b.iter(|| codec.encode_bytes(black_box(&values), &mut bytes, 0));
        });
    }
    for name in ["bf16", "fp16", "int16"] {
        let conversion = Conversion {
            overflow: Overflow::Infinity,
            ..Conversion::default()
        };
        let codec = Codec::new(format(name), conversion).unwrap();
        group.bench_function(format!("{name} rne"), |b| {
            b.iter(|| codec.encode_halves(black_box(&values), &mut halves, 0));
        });
    }
    let codec = Codec::new(format("fp8_e4m3fn"), Conversion::default()).unwrap();
    group.bench_function("fp8_e4m3fn, exact path", |b| {
        b.iter(|| codec.encode_counted(black_box(&values).iter().map(|x| Exact::from(*x)), 0));
    });
    group.finish();
}

fn blocks(c: &mut Criterion) {
    let values = numbers(1 << 16);
    let mut group = c.benchmark_group("blocks");
    group.throughput(Throughput::Elements(values.len() as u64));
    let mut codes = vec![0u8; values.len()];
    let mut scales = vec![0u8; values.len() / BLOCK];
    let mut back = vec![0f32; values.len()];
    for name in [
        "fp8_e4m3fn",
        "fp8_e5m2",
        "fp6_e3m2fn",
        "fp6_e2m3fn",
        "fp4_e2m1fn",
        "int8",
    ] {
        let mx = Mx::new(
            format(name),
            ScaleRule::Floor,
            Rounding::NearestEven,
            Dialect::Exact,
        )
        .unwrap();
        group.bench_function(format!("mx {name}"), |b| {
            b.iter(|| mx.quantize(black_box(&values), &mut scales, &mut codes));
        });
        group.bench_function(format!("mx {name} back"), |b| {
            b.iter(|| mx.dequantize(black_box(&scales), &codes, &mut back));
        });
    }
    let nvfp4 = Nvfp4::new();
    let mut scales = vec![0u8; values.len() / nvfp4::BLOCK];
    let tensor = Some(Nvfp4::tensor_scale(&values));
    group.bench_function("nvfp4", |b| {
        b.iter(|| nvfp4.quantize(black_box(&values), tensor, &mut scales, &mut codes));
    });
    let int4 = GroupInt::new(
        format("int4"),
        128,
        Format::FP16,
        false,
        Conversion::default(),
    )
    .unwrap();
    group.bench_function("int4 in groups of 128", |b| {
        b.iter(|| int4.quantize(black_box(&values)))
    });
    for kind in [GgufType::Q4_0, GgufType::Q8_0] {
        group.bench_function(format!("{kind}"), |b| {
            b.iter(|| kind.quantize(black_box(&values)))
        });
    }
    for kind in [GgufType::Q4_0, GgufType::Q4K, GgufType::Q6K] {
        let bytes = vec![7u8; values.len() / kind.block_elements() * kind.block_bytes()];
        group.bench_function(format!("{kind} back"), |b| {
            b.iter(|| kind.dequantize(black_box(&bytes)))
        });
    }
    group.finish();
}

criterion_group!(
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_millis(800));
    targets = casts, blocks
);
criterion_main!(benches);
