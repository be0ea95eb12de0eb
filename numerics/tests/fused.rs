//! Fused dot units against the published cases.

use presil_numerics::arithmetic::fused::{FusedDot, FusedUnit, Scales};
use presil_numerics::arithmetic::matmul::Size;
use presil_numerics::arithmetic::presets::fused_dots;
use presil_numerics::{Codec, Conversion, Format, Overflow};
use serde::Deserialize;

use crate::{bytes_of, f32_of, reference};

#[derive(Deserialize)]
struct Cases<T> {
    cases: Vec<T>,
}

#[derive(Deserialize)]
struct Mma {
    instr: String,
    arch: String,
    qualifier: String,
    rows: usize,
    #[serde(rename = "N")]
    n: usize,
    #[serde(rename = "K")]
    k: usize,
    a_type: String,
    b_type: String,
    c_type: String,
    d_type: String,
    a_hex: String,
    #[serde(rename = "b_hex_KN")]
    b_hex: String,
    c_hex: String,
    d_hex: String,
}

#[derive(Deserialize)]
struct Gemm {
    profile: String,
    use_fast_accum: bool,
    #[serde(rename = "M")]
    m: usize,
    #[serde(rename = "N")]
    n: usize,
    #[serde(rename = "K")]
    k: usize,
    a_e4m3_hex: String,
    #[serde(rename = "b_e4m3_hex_NK")]
    b_e4m3_hex: String,
    d_f32_hex: Vec<String>,
}

fn format_of(name: &str) -> Format {
    let name = match name {
        "float32" => "fp32",
        "float16" => "fp16",
        "bfloat16" => "bf16",
        "float8_e4m3fn" => "fp8_e4m3fn",
        "float8_e5m2" => "fp8_e5m2",
        "float8_e4m3fnuz" => "fp8_e4m3fnuz",
        other => panic!("unknown type {other}"),
    };
    name.parse().unwrap()
}

fn values(hex: &str, format: Format) -> Vec<f32> {
    let conversion = Conversion {
        overflow: Overflow::Infinity,
        ..Conversion::default()
    };
    let codec = Codec::new(format, conversion).unwrap();
    let bytes = bytes_of(hex);
    let codes = bytes.chunks(format.bits() as usize / 8).map(|code| {
        let little = code.iter().rev();
        little.fold(0u128, |n, byte| n << 8 | u128::from(*byte))
    });
    codes.map(|code| codec.decode(code).to_f32()).collect()
}

fn named<'a>(units: &'a [FusedDot], name: &str) -> &'a FusedDot {
    units.iter().find(|u| u.name == name).unwrap()
}

fn same(x: f32, y: f32) -> bool {
    x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan()
}

/// A case: `d = c + a x b`, `b` of K rows.
struct Case<'a> {
    name: String,
    size: [usize; 3],
    a: &'a [f32],
    b: &'a [f32],
    c: &'a [f32],
    d: &'a [f32],
}

fn check(unit: &FusedUnit, case: &Case) {
    let [m, n, k] = case.size;
    for (index, expected) in case.d.iter().enumerate() {
        let (i, j) = (index / n, index % n);
        let column: Vec<f32> = (0..k).map(|l| case.b[l * n + j]).collect();
        let got = unit.dot(&case.a[i * k..(i + 1) * k], &column, case.c[index]);
        let name = &case.name;
        assert!(
            same(got, *expected),
            "{name} [{i}, {j}]: {got:e} is not {expected:e}"
        );
    }
    let mut d = case.c.to_vec();
    unit.matmul(case.a, case.b, &mut d, Size { m, n, k })
        .unwrap();
    assert!(
        d.iter().zip(case.d).all(|(x, y)| same(*x, *y)),
        "{}",
        case.name
    );
}

#[test]
fn matrix_instructions() {
    let units = fused_dots().unwrap();
    let cases: Cases<Mma> = serde_json::from_str(&reference("mma.json")).unwrap();
    for case in &cases.cases {
        let generation = match case.arch.as_str() {
            "Ada Lovelace" => "ada".into(),
            "RTX Blackwell" => "blackwell".into(),
            other => other.to_lowercase(),
        };
        // Operands of tf32 instructions lie in 32 bits; the unit drops the low 13.
        let tf32 = case.a_type == "float32";
        let input = |name: &str| {
            if tf32 {
                "tf32".parse().unwrap()
            } else {
                format_of(name)
            }
        };
        let (a, b) = (input(&case.a_type), input(&case.b_type));
        let c = format_of(&case.c_type);
        let fits = |u: &&FusedDot| {
            u.generation == generation
                && u.inputs.contains(&a)
                && u.accumulate == c
                && u.promote.is_none()
        };
        let unit = units.iter().find(fits).unwrap();
        check(
            &unit.with_inputs(a, b).unwrap(),
            &Case {
                name: format!("{} {} {}", case.arch, case.instr, case.qualifier),
                size: [case.rows, case.n, case.k],
                a: &values(&case.a_hex, format_of(&case.a_type)),
                b: &values(&case.b_hex, format_of(&case.b_type)),
                c: &values(&case.c_hex, c),
                d: &values(&case.d_hex, format_of(&case.d_type)),
            },
        );
    }
    assert_eq!(cases.cases.len(), 48);
}

#[test]
fn fp8_matrix_products() {
    let units = fused_dots().unwrap();
    let cases: Cases<Gemm> = serde_json::from_str(&reference("fp8_gemm.json")).unwrap();
    for case in &cases.cases {
        let promoted = if case.use_fast_accum { "" } else { "_promoted" };
        let unit = named(&units, &format!("{}_f8{promoted}", case.profile));
        let format = Format::FP8_E4M3FN;
        let (n, k) = (case.n, case.k);
        let transposed = values(&case.b_e4m3_hex, format);
        let b: Vec<f32> = (0..n * k).map(|i| transposed[i % n * k + i / n]).collect();
        check(
            &unit.with_inputs(format, format).unwrap(),
            &Case {
                name: format!("{}, K = {k}", unit.name),
                size: [case.m, n, k],
                a: &values(&case.a_e4m3_hex, format),
                b: &b,
                c: &vec![0.0; case.m * n],
                d: &case.d_f32_hex.iter().map(|h| f32_of(h)).collect::<Vec<_>>(),
            },
        );
    }
    assert_eq!(cases.cases.len(), 36);
}

/// Numbers of a format, all codes alike, so that special values, subnormals and wide exponents meet; or half of them
/// near one.
fn mixed(format: Format, count: usize, seed: u64, wild: bool) -> Vec<f32> {
    let codec = Codec::new(format, Conversion::default()).unwrap();
    let bits = codec.code_bits();
    let number = |i: usize| {
        let word = presil_numerics::random::word(seed, i as u64);
        let any = codec.decode(u128::from(word) & ((1 << bits) - 1)).to_f32();
        let near = (word >> 8) as f32 / (1u32 << 23) as f32 - 1.0;
        let tame = codec.decode(codec.encode(near.into(), 0).code).to_f32();
        let special = !any.is_finite() && word >> 27 != 0;
        if special || !wild && !i.is_multiple_of(4) {
            tame
        } else {
            any
        }
    };
    (0..count).map(number).collect()
}

#[test]
fn kernels_equal_the_scalar_routine() {
    let size = Size {
        m: 3,
        n: 21,
        k: 150,
    };
    let Size { m, n, k } = size;
    for unit in fused_dots().unwrap() {
        for &input in &unit.inputs {
            for wild in [false, true] {
                let fused = unit.with_inputs(input, input).unwrap();
                let a = mixed(input, m * k, 1, wild);
                let b = mixed(input, k * n, 2, wild);
                let c = mixed(unit.accumulate, m * n, 3, wild);
                let mut d = c.clone();
                fused.matmul(&a, &b, &mut d, size).unwrap();
                for index in 0..m * n {
                    let (i, j) = (index / n, index % n);
                    let column: Vec<f32> = (0..k).map(|l| b[l * n + j]).collect();
                    let expected = fused.dot(&a[i * k..(i + 1) * k], &column, c[index]);
                    let name = &unit.name;
                    assert!(
                        same(d[index], expected),
                        "{name} of {input} [{i}, {j}], {wild}: {} is not {expected}",
                        d[index]
                    );
                }
            }
        }
    }
}

/// Scales near enough that nothing is truncated before the output: the sum in f64 is exact, and its first 24 bits are
/// the result.
#[test]
fn scaled_blocks_within_the_fraction_are_exact() {
    let units = fused_dots().unwrap();
    let fp4: Format = "fp4_e2m1fn".parse().unwrap();
    let unit = named(&units, "blackwell_f4_scaled")
        .with_inputs(fp4, fp4)
        .unwrap();
    let of = |i: usize| [1.5f32, 0.25, 40.0, 1.0 / 64.0][i % 4];
    for seed in 0..50 {
        let a = mixed(fp4, 64, 2 * seed, true);
        let b = mixed(fp4, 64, 2 * seed + 1, true);
        let scale_a: Vec<f32> = (0..4).map(|i| of(i + seed as usize)).collect();
        let scale_b: Vec<f32> = (0..4).map(|i| of(i * seed as usize)).collect();
        let scales = Scales {
            format: Format::FP8_E4M3FN,
            block: 16,
            a: &scale_a,
            b: &scale_b,
        };
        let product =
            |i: usize| f64::from(a[i] * b[i]) * f64::from(scale_a[i / 16] * scale_b[i / 16]);
        let exact = 0.5 + (0..64).map(product).sum::<f64>();
        let first = f64::from_bits(exact.to_bits() & !((1 << 29) - 1)) as f32;
        assert_eq!(unit.dot_scaled(&a, &b, &scales, 0.5), first);
    }
}
