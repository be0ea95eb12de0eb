//! The branch-free kernels against the exact path.

use presil_numerics::conversion::{MissingNan, Subnormals};
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
