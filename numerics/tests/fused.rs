//! Fused dot units: kernels against the scalar routine, and scaled blocks against exact sums.

use presil_numerics::arithmetic::fused::{FusedDot, Scales};
use presil_numerics::arithmetic::matmul::Size;
use presil_numerics::arithmetic::presets::fused_dots;
use presil_numerics::{Codec, Conversion, Format};

fn named<'a>(units: &'a [FusedDot], name: &str) -> &'a FusedDot {
    units.iter().find(|u| u.name == name).unwrap()
}

fn same(x: f32, y: f32) -> bool {
    x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan()
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
