//! Casts from f32 on one core, in values a second. Claims: 500 M/s for casts of elements, 300 M/s for MX blocks.
//!
//! Each line is the best and the median of 300 runs over 64 Ki values, which stay in the second-level cache. The best
//! is what the code takes on a machine that has other work too. A filter as argument runs the lines that contain it.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;
use std::time::Instant;

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

/// Times a function over `count` values and prints a line.
fn bench(name: &str, count: usize, runs: usize, mut f: impl FnMut()) {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    if filter.is_some_and(|text| !name.contains(&text)) {
        return;
    }
    f();
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let rate = |seconds: f64| count as f64 / seconds / 1e6;
    println!(
        "{name:32} best {:8.0} M/s   median {:8.0} M/s",
        rate(times[0]),
        rate(times[runs / 2])
    );
}

fn main() {
    let values = numbers(1 << 16);
    elements(&values);
    blocks(&values);
}

fn elements(values: &[f32]) {
    let n = values.len();
    let mut bytes = vec![0u8; n];
    let mut halves = vec![0u16; n];
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
        bench(&format!("{name} {rounding}"), n, 300, || {
            codec.encode_bytes(black_box(values), &mut bytes, 0);
        });
    }
    for name in ["bf16", "fp16", "int16"] {
        let conversion = Conversion {
            overflow: Overflow::Infinity,
            ..Conversion::default()
        };
        let codec = Codec::new(format(name), conversion).unwrap();
        bench(&format!("{name} rne"), n, 300, || {
            codec.encode_halves(black_box(values), &mut halves, 0);
        });
    }
    let codec = Codec::new(format("fp8_e4m3fn"), Conversion::default()).unwrap();
    bench("fp8_e4m3fn, exact path", n, 20, || {
        black_box(codec.encode_counted(black_box(values).iter().map(|x| Exact::from(*x)), 0));
    });
}

fn blocks(values: &[f32]) {
    let n = values.len();
    let mut codes = vec![0u8; n];
    let mut scales = vec![0u8; n / BLOCK];
    let mut back = vec![0f32; n];
    for name in [
        "fp8_e4m3fn",
        "fp8_e5m2",
        "fp6_e3m2fn",
        "fp6_e2m3fn",
        "fp4_e2m1fn",
        "int8",
    ] {
        let (rule, rounding) = (ScaleRule::Floor, Rounding::NearestEven);
        let mx = Mx::new(format(name), rule, rounding, Dialect::Exact).unwrap();
        bench(&format!("mx {name}"), n, 300, || {
            mx.quantize(black_box(values), &mut scales, &mut codes);
        });
        bench(&format!("mx {name} back"), n, 300, || {
            mx.dequantize(black_box(&scales), &codes, &mut back);
        });
    }
    let nvfp4 = Nvfp4::new();
    let mut scales = vec![0u8; n / nvfp4::BLOCK];
    let tensor = Some(Nvfp4::tensor_scale(values));
    bench("nvfp4", n, 300, || {
        nvfp4.quantize(black_box(values), tensor, &mut scales, &mut codes);
    });
    let conversion = Conversion::default();
    let int4 = GroupInt::new(format("int4"), 128, Format::FP16, false, conversion).unwrap();
    bench("int4 in groups of 128", n, 300, || {
        black_box(int4.quantize(black_box(values)));
    });
    for kind in [GgufType::Q4_0, GgufType::Q8_0] {
        bench(&kind.to_string(), n, 100, || {
            black_box(kind.quantize(black_box(values)).unwrap());
        });
    }
    for kind in [GgufType::Q4_0, GgufType::Q4K, GgufType::Q6K] {
        let bytes = vec![7u8; n / kind.block_elements() * kind.block_bytes()];
        bench(&format!("{kind} back"), n, 100, || {
            black_box(kind.dequantize(black_box(&bytes)).unwrap());
        });
    }
}
