//! MX, NVFP4, NF4 and FP4 blocks against torchao, microxcaling and bitsandbytes.

use presil_numerics::block::mx::{Dialect, Mx, ScaleRule};
use presil_numerics::block::nvfp4::{self, Nvfp4};
use presil_numerics::codebook::{CodeBook, nf4};
use presil_numerics::{Format, Rounding};
use serde_json::Value;

use crate::{bytes_of, f32_of, reference};

fn floats(value: &Value) -> Vec<f32> {
    let items = value.as_array().unwrap();
    items.iter().map(|x| f32_of(x.as_str().unwrap())).collect()
}

/// Equal bits, NaN equal to NaN.
fn same(a: &[f32], b: &[f32]) -> bool {
    let pairs = a.iter().zip(b);
    a.len() == b.len()
        && pairs
            .into_iter()
            .all(|(x, y)| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan())
}

fn element(name: &str) -> Format {
    match name {
        "mxfp8_e4m3" => "fp8_e4m3fn",
        "mxfp8_e5m2" => "fp8_e5m2",
        "mxfp6_e3m2" => "fp6_e3m2fn",
        "mxfp6_e2m3" => "fp6_e2m3fn",
        "mxfp4_e2m1" => "fp4_e2m1fn",
        _ => "int8",
    }
    .parse()
    .unwrap()
}

#[test]
fn mx_equals_torchao() {
    let file: Value = serde_json::from_str(&reference("mx.json")).unwrap();
    let mut passed = 0;
    let mut failed = Vec::new();
    for case in file["cases"].as_array().unwrap() {
        let input = floats(&case["input"]);
        let name = case["format"].as_str().unwrap();
        let rules = [
            ("floor", ScaleRule::Floor),
            ("ceil", ScaleRule::Ceil),
            ("even", ScaleRule::Even),
            ("rceil", ScaleRule::Rceil),
        ];
        for (mode, rule) in rules {
            let Some(expected) = case["torchao"].get(mode) else {
                continue;
            };
            let mx = Mx::new(element(name), rule, Rounding::NearestEven, Dialect::Torchao).unwrap();
            let (mut scales, mut codes, mut values) = ([0], [0; 32], [0.0; 32]);
            mx.quantize(&input, &mut scales, &mut codes);
            mx.dequantize(&scales, &codes, &mut values);
            let nan_block = scales == [255];
            let theirs = bytes_of(expected["codes_hex"].as_str().unwrap());
            // Under a NaN scale the codes of NaN elements mean nothing: formats without NaN get other ones.
            let codes_equal =
                codes.iter().zip(&theirs).zip(&input).all(|((a, b), x)| {
                    a == b || nan_block && (x.is_nan() || rule == ScaleRule::Rceil)
                });
            let scale = expected["scale_e8m0"].as_u64().unwrap();
            if u64::from(scales[0]) == scale
                && codes_equal
                && same(&values, &floats(&expected["output"]))
            {
                passed += 1;
            } else {
                failed.push(format!(
                    "{name} {} {mode}: scale {scale} ours {}",
                    case["kind"], scales[0]
                ));
            }
        }
    }
    assert_eq!((passed, failed), (600, Vec::new()));
}

/// microxcaling takes the exponent of each element from a logarithm in f32 too, which is one too large just below a
/// power of two: with truncation it then drops one bit more than the format has. Its own other roundings and blocks
/// keep that bit.
#[test]
fn mx_equals_microxcaling() {
    let file: Value = serde_json::from_str(&reference("mx.json")).unwrap();
    let (mut passed, mut listed) = (0, Vec::new());
    for case in file["cases"].as_array().unwrap() {
        let input = floats(&case["input"]);
        let name = case["format"].as_str().unwrap();
        let roundings = [
            ("even", Rounding::NearestEven),
            ("nearest", Rounding::NearestAway),
            ("floor", Rounding::TowardZero),
        ];
        for (mode, rounding) in roundings {
            let mx = Mx::new(
                element(name),
                ScaleRule::Floor,
                rounding,
                Dialect::Microxcaling,
            )
            .unwrap();
            let (mut scales, mut codes, mut values) = ([0], [0; 32], [0.0; 32]);
            mx.quantize(&input, &mut scales, &mut codes);
            mx.dequantize(&scales, &codes, &mut values);
            let expected = floats(&case["microxcaling"][mode]);
            // Values are equal; the sign of a zero is not compared, since it has floats without codes (-0 of integers).
            let differs = |(ours, theirs): &(&f32, &f32)| {
                ours != theirs && !(ours.is_nan() && theirs.is_nan())
            };
            let pairs = values.iter().zip(&expected);
            let differing = pairs.clone().zip(&input).filter(|(pair, _)| differs(pair));
            let differing: Vec<f32> = differing.map(|(_, x)| *x).collect();
            if differing.is_empty() {
                passed += 1;
                continue;
            }
            let below_a_power_of_two = |x: &f32| {
                let next = f32::from_bits(x.abs().to_bits() + 1);
                next.to_bits() & 0x007f_ffff == 0
            };
            assert!(
                mode == "floor" && differing.iter().all(below_a_power_of_two),
                "{name} {} {mode}: {differing:?}",
                case["kind"]
            );
            listed.push((name, case["kind"].as_str().unwrap()));
        }
    }
    assert_eq!((passed, listed.len()), (533, 7));
    assert!(
        listed
            .iter()
            .all(|(_, kind)| *kind == "max_just_below_pow2")
    );
}

#[test]
fn nvfp4_equals_torchao() {
    let file: Value = serde_json::from_str(&reference("nvfp4.json")).unwrap();
    let nvfp4 = Nvfp4::new();
    let mut passed = 0;
    for case in file["cases"].as_array().unwrap() {
        let input = floats(&case["input"]);
        for (level, tensor) in [
            ("single_level", None),
            ("two_level", Some(Nvfp4::tensor_scale(&input))),
        ] {
            let expected = &case[level];
            let theirs = expected["per_tensor_scale"].as_str().map(f32_of);
            assert_eq!(tensor.map(f32::to_bits), theirs.map(f32::to_bits));
            let mut scales = vec![0; input.len() / nvfp4::BLOCK];
            let mut codes = vec![0; input.len()];
            let mut values = vec![0.0; input.len()];
            nvfp4.quantize(&input, tensor, &mut scales, &mut codes);
            nvfp4.dequantize(&scales, &codes, tensor, &mut values);
            assert_eq!(
                scales,
                bytes_of(expected["scales_e4m3_hex"].as_str().unwrap()),
                "{}",
                case["kind"]
            );
            assert_eq!(
                codes,
                nf4::unpack(&bytes_of(expected["codes_hex"].as_str().unwrap())),
                "{} {level}",
                case["kind"]
            );
            assert!(same(&values, &floats(&expected["output"])));
            passed += 1;
        }
    }
    assert_eq!(passed, 20);
}

#[test]
fn code_books_equal_bitsandbytes() {
    let file: Value = serde_json::from_str(&reference("nf4.json")).unwrap();
    let mut passed = 0;
    for case in file["cases"].as_array().unwrap() {
        let input = floats(&case["input"]);
        let name = case["type"].as_str().unwrap();
        let book = if name == "nf4" {
            CodeBook::nf4()
        } else {
            CodeBook::fp4()
        };
        for (value, theirs) in book
            .values()
            .iter()
            .zip(file["codebook"][name].as_array().unwrap())
        {
            assert_eq!(*value, theirs.as_f64().unwrap() as f32);
        }
        let block = case["blocksize"].as_u64().unwrap() as usize;
        let (codes, scales) = nf4::quantize(&book, &input, block);
        assert!(same(&scales, &floats(&case["absmax"])));
        assert_eq!(
            nf4::pack(&codes),
            bytes_of(case["packed_hex"].as_str().unwrap()),
            "{name}"
        );
        assert!(same(
            &nf4::dequantize(&book, &codes, &scales, block),
            &floats(&case["output"])
        ));
        passed += 1;
    }
    assert_eq!(passed, 28);
}

#[test]
fn double_quantization_equals_bitsandbytes() {
    let file: Value = serde_json::from_str(&reference("nf4.json")).unwrap();
    let (mut codes, mut listed) = (0, 0);
    for case in file["double_quant"].as_array().unwrap() {
        let map = nf4::dynamic_map();
        assert!(same(map.values(), &floats(&case["state2_code"])));
        let scales = floats(&case["absmax_f32"]);
        let double = nf4::DoubleQuantized::new(&scales);
        assert_eq!(
            double.offset.to_bits(),
            f32_of(case["offset"].as_str().unwrap()).to_bits()
        );
        let theirs = bytes_of(case["absmax_codes_hex"].as_str().unwrap());
        let differing = double
            .codes
            .iter()
            .zip(&theirs)
            .zip(scales.iter().enumerate());
        for ((ours, theirs), (i, scale)) in differing.filter(|((a, b), _)| a != b) {
            // Its code is the farther one, by 1e-6 of the block's largest: beyond what f32 rounding explains.
            let x = (scale - double.offset) / double.outer[i / nf4::OUTER_BLOCK];
            let (near, far) = (x - map.value(*ours), x - map.value(*theirs));
            assert!(far.abs() - near.abs() > 9e-7);
            listed += 1;
        }
        codes += theirs.len();
        assert!(same(&double.outer, &floats(&case["state2_absmax"])));
        let book = CodeBook::nf4();
        let (elements, _) = nf4::quantize(&book, &floats(&case["input_first128"]), 64);
        let first = bytes_of(case["packed_first64_hex"].as_str().unwrap());
        assert_eq!(&nf4::pack(&elements)[..first.len()], &first[..]);
        let output = nf4::dequantize(&book, &elements, &double.scales(), 64);
        assert!(same(&output, &floats(&case["output_first128"])[..128]));
    }
    assert_eq!((codes, listed), (768, 1));
}
