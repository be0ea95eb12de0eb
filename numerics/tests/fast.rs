//! The branch-free kernels against the exact path.

use presil_numerics::block::mx::{BLOCK, Dialect, Mx, ScaleRule};
use presil_numerics::conversion::{MissingNan, Subnormals};
use presil_numerics::integer::IntRange;
use presil_numerics::integer::affine::{Affine, Division};
use presil_numerics::integer::fast::FastInt;
use presil_numerics::{Codec, Conversion, Exact, Format, Overflow, Rounding};

const ROUNDINGS: [Rounding; 7] = [
    Rounding::NearestEven,
    Rounding::NearestAway,
    Rounding::TowardZero,
    Rounding::Down,
    Rounding::Up,
    Rounding::HalfUp,
    Rounding::ToOdd,
];

/// Every upper half of f32's bits with a lower half that is none, one, all, a half, or mixed.
fn numbers() -> Vec<f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut numbers = Vec::new();
    for upper in 0..=0xffffu32 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let mixed = (state >> 48) as u32;
        let lower = [0, 1, 0xffff, 0x8000, 0x7fff, mixed][(state >> 32) as usize % 6];
        numbers.push(f32::from_bits(upper << 16 | lower));
        if upper % 4 == 0 {
            numbers.push(f32::from_bits(upper << 16));
            numbers.push(f32::from_bits(upper << 16 | mixed));
        }
    }
    numbers
}

#[test]
fn kernels_equal_the_exact_path() {
    let numbers = numbers();
    let names = [
        "bf16",
        "fp16",
        "fp8_e4m3fn",
        "fp8_e5m2",
        "fp8_e4m3fnuz",
        "fp8_e5m2fnuz",
        "fp6_e3m2fn",
        "fp6_e2m3fn",
        "fp4_e2m1fn",
        "fp_e4m3",
        "fp_e3m4",
        "fp_e8m3fn_b100",
        "fp_e6m9",
        "fp_e8m7_b120",
        "int8",
        "uint8",
        "int4",
        "uint2",
        "int16",
        "uint16",
        "int1",
    ];
    for name in names {
        let format: Format = name.parse().unwrap();
        for (i, rounding) in ROUNDINGS.into_iter().enumerate() {
            let overflows = [Overflow::Saturate, Overflow::Infinity, Overflow::Nan];
            let missing = [
                MissingNan::Zero,
                MissingNan::NegatedZero,
                MissingNan::Largest,
            ];
            let conversion = Conversion {
                rounding,
                overflow: overflows[i % 3],
                subnormals: if i % 2 == 0 {
                    Subnormals::Keep
                } else {
                    Subnormals::Flush
                },
                missing_nan: missing[i % 3],
            };
            let codec = Codec::new(format, conversion).unwrap();
            let mut codes = vec![0u16; numbers.len()];
            codec.encode_halves(&numbers, &mut codes, 0);
            for (x, code) in numbers.iter().zip(&codes) {
                let exact = codec.encode(Exact::from(*x), 0).code;
                assert_eq!(
                    u128::from(*code),
                    exact,
                    "{name} {conversion:?} {x:e} {:08x}",
                    x.to_bits()
                );
            }
            if codec.code_bits() <= 8 {
                let mut bytes = vec![0u8; numbers.len()];
                codec.encode_bytes(&numbers, &mut bytes, 0);
                assert!(bytes.iter().zip(&codes).all(|(b, c)| u16::from(*b) == *c));
            }
        }
    }
}

/// MX blocks: elements of one magnitude or of all, ends of the range, zeros, infinities, NaN, partial blocks.
#[test]
fn mx_kernels_equal_the_exact_path() {
    let mut state = 7u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    let mut values = Vec::new();
    for block in 0..200u32 {
        let exponent = if block % 3 == 0 {
            1 + random() % 254
        } else {
            100 + random() % 40
        };
        for _ in 0..BLOCK {
            let spread = if block % 5 == 0 {
                random() % 256
            } else {
                exponent.saturating_sub(random() % 12)
            };
            values.push(f32::from_bits(
                random() & 0x807f_ffff | spread.min(254 + block % 2) << 23,
            ));
        }
    }
    values.extend([0.0; BLOCK]);
    values.extend([-0.0, f32::INFINITY, 1.0]);
    let roundings = [
        Rounding::NearestEven,
        Rounding::NearestAway,
        Rounding::TowardZero,
        Rounding::Stochastic { bits: 7, seed: 3 },
    ];
    for name in [
        "fp8_e4m3fn",
        "fp8_e5m2",
        "fp6_e3m2fn",
        "fp6_e2m3fn",
        "fp4_e2m1fn",
        "int8",
    ] {
        for rule in [
            ScaleRule::Floor,
            ScaleRule::Ceil,
            ScaleRule::Even,
            ScaleRule::Rceil,
        ] {
            for dialect in [Dialect::Exact, Dialect::Torchao, Dialect::Microxcaling] {
                let rounding = roundings[random() as usize % 4];
                let mx = Mx::new(name.parse().unwrap(), rule, rounding, dialect).unwrap();
                let mut scales = vec![0; values.len().div_ceil(BLOCK)];
                let mut codes = vec![0; values.len()];
                mx.quantize(&values, &mut scales, &mut codes);
                for (i, block) in values.chunks(BLOCK).enumerate() {
                    let (scale, exact) = mx.quantize_exactly(block, (i * BLOCK) as u64);
                    let fast = &codes[i * BLOCK..][..block.len()];
                    assert_eq!(
                        (scales[i], fast),
                        (scale, &exact[..]),
                        "{name} {rule:?} {dialect:?} {rounding} {block:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn scaled_integers_equal_the_exact_path() {
    let numbers = numbers();
    for (bits, signed, zero_point, scale) in [
        (8, true, 0, 0.1f32),
        (8, false, 131, 0.037),
        (4, false, 7, 1.5),
        (16, true, -300, 3e-4),
    ] {
        for (i, rounding) in ROUNDINGS.into_iter().enumerate() {
            let affine = Affine {
                range: IntRange { bits, signed },
                scale,
                zero_point,
                narrow: i % 2 == 0,
                division: if i % 3 == 0 {
                    Division::Reciprocal
                } else {
                    Division::Quotient
                },
            };
            let conversion = Conversion {
                rounding,
                ..Conversion::default()
            };
            let fast = FastInt::affine(&affine, &conversion).unwrap();
            let mut codes = vec![0u16; numbers.len()];
            fast.encode_halves(&numbers, &mut codes);
            for (x, code) in numbers.iter().zip(&codes) {
                let exact = affine.encode(*x, &conversion, 0).code;
                assert_eq!(u128::from(*code), exact, "{affine:?} {rounding} {x:e}");
            }
        }
    }
}
