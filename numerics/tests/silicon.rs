//! Units against what instructions and a library gave on silicon: `matrix_units.json`, `library_products.json`.

use presil_numerics::arithmetic::fused::FusedUnit;
use presil_numerics::arithmetic::matmul::Size;
use presil_numerics::arithmetic::presets::fused_dots;
use presil_numerics::arithmetic::summation::{Accumulator, Summation};
use presil_numerics::exact::Exact;
use presil_numerics::{Codec, Conversion, Format, Overflow};
use serde::Deserialize;

use crate::{bytes_of, reference};

#[derive(Deserialize)]
struct Cases<T> {
    columns: usize,
    cases: Vec<T>,
}

/// Rows of A, columns of B one after the other, rows of C and D.
#[derive(Deserialize)]
struct Case {
    instruction: String,
    kind: String,
    a: String,
    b: String,
    c: String,
    d: String,
}

/// The same of a product without C.
#[derive(Deserialize)]
struct Product {
    unit: String,
    format: String,
    k: usize,
    a: String,
    b: String,
    d: String,
}

fn format_of(name: &str) -> Format {
    let name = match name {
        "f32" => "fp32",
        "f16" => "fp16",
        "e4m3" => "fp8_e4m3fn",
        "e5m2" => "fp8_e5m2",
        other => other,
    };
    name.parse().unwrap()
}

/// Numbers from their bytes. Those of tf32 lie in 32 bits, as they are: the unit drops the low 13, of NaN too.
fn values(hex: &str, format: &str) -> Vec<f32> {
    let bytes = bytes_of(hex);
    let size = match format {
        "f32" | "tf32" => 4,
        "f16" | "bf16" => 2,
        _ => 1,
    };
    let codes = bytes.chunks(size).map(|code| {
        let little = code.iter().rev();
        little.fold(0u32, |n, byte| n << 8 | u32::from(*byte))
    });
    if size == 4 {
        return codes.map(f32::from_bits).collect();
    }
    let conversion = Conversion {
        overflow: Overflow::Infinity,
        ..Conversion::default()
    };
    let codec = Codec::new(format_of(format), conversion).unwrap();
    codes.map(|c| codec.decode(c.into()).to_f32()).collect()
}

/// The unit that does an instruction.
fn unit_of(instruction: &[&str]) -> &'static str {
    match instruction {
        [_, _, "f32", "f16" | "bf16", ..] => "hopper_16",
        [_, _, "f16", "f16", ..] => "hopper_f16_f16",
        [_, _, _, "tf32", ..] => "hopper_tf32",
        ["wgmma", _, "f32", ..] => "hopper_f8",
        ["wgmma", ..] => "hopper_f8_f16",
        [_, _, "f32", ..] => "hopper_f8_mma",
        _ => "hopper_f8_f16_mma",
    }
}

fn named(name: &str, a: &str, b: &str) -> FusedUnit {
    let units = fused_dots().unwrap();
    let unit = units.iter().find(|u| u.name == name).unwrap();
    unit.with_inputs(format_of(a), format_of(b)).unwrap()
}

/// Both routines give `d` of `c + a x b`, the columns of `b` one after the other; NaN whatever its payload.
fn check(name: &str, unit: &FusedUnit, columns: usize, [a, b, c, d]: [&[f32]; 4]) {
    let k = b.len() / columns;
    let size = Size {
        m: d.len() / columns,
        n: columns,
        k,
    };
    let lines: Vec<f32> = (0..b.len())
        .map(|i| b[i % columns * k + i / columns])
        .collect();
    let mut product = c.to_vec();
    unit.matmul(a, &lines, &mut product, size).unwrap();
    for (i, expected) in d.iter().enumerate() {
        let (row, column) = (i / columns, i % columns);
        let dot = unit.dot(&a[row * k..][..k], &b[column * k..][..k], c[i]);
        for got in [dot, product[i]] {
            assert!(
                got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(),
                "{name} [{row}, {column}]: {got:e} is not {expected:e}"
            );
        }
    }
}

/// The int32 sums of an int8 instruction: exact, then wrapped or saturated.
fn check_integers(case: &Case, columns: usize) {
    let overflow = if case.instruction.ends_with("satfinite") {
        Overflow::Saturate
    } else {
        Overflow::Wrap
    };
    // The products make one exact sum that meets C in an adder of 32 bits.
    let summation = Summation {
        tree: 32,
        ..Summation::sequential(Accumulator::int(32, overflow))
    };
    let summer = summation.summer().unwrap();
    let bytes = |hex: &str| -> Vec<Exact> {
        let codes = bytes_of(hex).into_iter();
        codes.map(|x| Exact::from(i128::from(x as i8))).collect()
    };
    let words = |hex: &str| -> Vec<i32> {
        let bytes = bytes_of(hex);
        let words = bytes.chunks(4);
        words
            .map(|w| i32::from_le_bytes(w.try_into().unwrap()))
            .collect()
    };
    let (a, b, c) = (bytes(&case.a), bytes(&case.b), words(&case.c));
    let k = b.len() / columns;
    for (i, expected) in words(&case.d).into_iter().enumerate() {
        let (a, b) = (&a[i / columns * k..][..k], &b[i % columns * k..][..k]);
        let sum = summer.dot(a, b, Exact::from(i128::from(c[i]))).value;
        assert_eq!(
            sum.to_f64(),
            f64::from(expected),
            "{} {} [{i}]",
            case.instruction,
            case.kind
        );
    }
}

#[test]
fn instructions_on_silicon() {
    let cases: Cases<Case> = serde_json::from_str(&reference("matrix_units.json")).unwrap();
    for case in &cases.cases {
        let parts: Vec<&str> = case.instruction.split('.').collect();
        let &[_, _, c, a, b, ..] = &parts[..] else {
            panic!("no instruction: {}", case.instruction)
        };
        if a == "s8" {
            check_integers(case, cases.columns);
            continue;
        }
        let unit = named(unit_of(&parts), a, b);
        let numbers = [
            values(&case.a, a),
            values(&case.b, b),
            values(&case.c, c),
            values(&case.d, c),
        ];
        let name = format!("{} {}", case.instruction, case.kind);
        check(
            &name,
            &unit,
            cases.columns,
            numbers.each_ref().map(|x| &x[..]),
        );
    }
    assert_eq!(cases.cases.len(), 24 * 13);
}

/// As an H200 does: NaN whose bits all lie below those of tf32 is infinite.
#[test]
fn tf32_reads_nineteen_bits_of_nan() {
    let unit = named("hopper_tf32", "tf32", "tf32");
    let low = f32::from_bits(0xff80_0001);
    assert_eq!(unit.dot(&[low, 1.0], &[2.0, 1.0], 0.0), f32::NEG_INFINITY);
    let high = f32::from_bits(0xff80_2000);
    assert!(unit.dot(&[high, 1.0], &[2.0, 1.0], 0.0).is_nan());
}

#[test]
fn library_products_on_silicon() {
    let cases: Cases<Product> = serde_json::from_str(&reference("library_products.json")).unwrap();
    for case in &cases.cases {
        let unit = named(&case.unit, &case.format, &case.format);
        let (a, b) = (values(&case.a, &case.format), values(&case.b, &case.format));
        let d = values(&case.d, "f32");
        let name = format!("{} of {}, K = {}", case.unit, case.format, case.k);
        check(
            &name,
            &unit,
            cases.columns,
            [&a, &b, &vec![0.0; d.len()], &d],
        );
    }
    assert_eq!(cases.cases.len(), 16);
}
