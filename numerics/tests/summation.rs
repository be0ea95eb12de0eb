//! Accumulators, orders and widths: against i128, against the machine's own floats, and the lanes against the scalar
//! routine.

use presil_numerics::arithmetic::matmul::Size;
use presil_numerics::arithmetic::presets::{flushed, ordered_sums};
use presil_numerics::arithmetic::summation::{
    Accumulator, Merge, Spill, Summation, SummationError,
};
use presil_numerics::arithmetic::width::{reach_in_order, reach_of_any_order, reach_of_formats};
use presil_numerics::conversion::Subnormals;
use presil_numerics::random::word;
use presil_numerics::{Exact, Format, Overflow, Rounding};
use proptest::prelude::*;

fn exact(values: &[i64]) -> Vec<Exact> {
    values.iter().map(|x| Exact::from(i128::from(*x))).collect()
}

fn exact_floats(values: &[f32]) -> Vec<Exact> {
    values.iter().map(|x| Exact::from(*x)).collect()
}

fn same(x: f32, y: f32) -> bool {
    x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan()
}

/// Product after product in a register of some bits.
fn accumulated(a: &[i64], b: &[i64], c: i64, bits: u32, overflow: Overflow) -> (i128, u64) {
    let (least, largest) = (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1);
    let (mut sum, mut overflows) = (i128::from(c), 0);
    for (a, b) in a.iter().zip(b) {
        let exact = sum + i128::from(*a) * i128::from(*b);
        sum = if overflow == Overflow::Wrap {
            (exact - least).rem_euclid(1 << bits) + least
        } else {
            exact.clamp(least, largest)
        };
        overflows += u64::from(sum != exact);
    }
    (sum, overflows)
}

fn float_with_special(bits: u32) -> f32 {
    f32::from_bits(bits)
}

fn narrow_int() -> BoxedStrategy<Accumulator> {
    (8u8..=64, any::<bool>())
        .prop_map(|(bits, wrap)| {
            let overflow = if wrap {
                Overflow::Wrap
            } else {
                Overflow::Saturate
            };
            Accumulator::int(bits, overflow)
        })
        .boxed()
}

fn float_register() -> BoxedStrategy<Accumulator> {
    let formats = [
        "fp32", "fp16", "bf16", "tf32", "fp_e8m13", "fp8_e5m2", "fp_e6m9",
    ];
    let overflows = [Overflow::Saturate, Overflow::Infinity, Overflow::Nan];
    let roundings = [Rounding::NearestEven, Rounding::TowardZero, Rounding::Up];
    (
        proptest::sample::select(formats.to_vec()),
        proptest::sample::select(overflows.to_vec()),
        proptest::sample::select(roundings.to_vec()),
        any::<bool>(),
    )
        .prop_map(|(format, overflow, rounding, flush)| Accumulator {
            format: format.parse().unwrap(),
            overflow,
            rounding,
            subnormals: if flush {
                Subnormals::Flush
            } else {
                Subnormals::Keep
            },
        })
        .boxed()
}

fn order(register: BoxedStrategy<Accumulator>) -> impl Strategy<Value = Summation> {
    let maybe = proptest::option::of(register.clone());
    (
        maybe.clone(),
        1usize..9,
        maybe.clone(),
        1usize..6,
        any::<bool>(),
        register,
        (maybe, 1usize..20),
    )
        .prop_map(
            |(product, tree, tree_adder, lanes, pairs, accumulator, (outer, every))| Summation {
                product,
                tree,
                tree_adder,
                lanes,
                merge: if pairs {
                    Merge::Pairwise
                } else {
                    Merge::Sequential
                },
                accumulator,
                spill: outer.map(|accumulator| Spill { every, accumulator }),
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn exact_sums_and_products_round_as_the_machine_does(a: u64, b: u64, c: u32, d: u32, near in -60i32..60) {
        let same64 = |x: f64, y: f64| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan();
        // Exponents at random hardly meet: the second pair has close ones.
        let close = f64::from_bits(a ^ b >> 12) * 2f64.powi(near);
        for (x, y) in [(f64::from_bits(a), f64::from_bits(b)), (f64::from_bits(a), -close)] {
            let sum = Exact::from(x).plus(Exact::from(y), Rounding::NearestEven).to_f64();
            prop_assert!(same64(sum, x + y), "{x:e} + {y:e}: {sum:e}");
            prop_assert!(same64(Exact::from(x).times(Exact::from(y)).to_f64(), x * y));
        }
        let (x, y) = (float_with_special(c), float_with_special(d));
        prop_assert!(same(Exact::from(x).plus(Exact::from(y), Rounding::NearestEven).to_f32(), x + y));
        let fused = Exact::from(x).times(Exact::from(y)).plus(Exact::from(y), Rounding::NearestEven);
        prop_assert!(same(fused.to_f32(), x.mul_add(y, y)));
    }

    #[test]
    fn integer_accumulators(
        pairs in proptest::collection::vec((-70_000i64..70_000, -70_000i64..70_000), 0..40),
        bits in 8u8..=64, wrap: bool,
    ) {
        let overflow = if wrap { Overflow::Wrap } else { Overflow::Saturate };
        let (a, b): (Vec<i64>, Vec<i64>) = pairs.into_iter().unzip();
        let summer = Summation::sequential(Accumulator::int(bits, overflow)).summer().unwrap();
        let sum = summer.dot(&exact(&a), &exact(&b), Exact::from(5i128));
        let (expected, overflows) = accumulated(&a, &b, 5, u32::from(bits), overflow);
        prop_assert_eq!(sum.value.to_f64(), expected as f64);
        prop_assert_eq!(sum.overflows, overflows);
    }

    #[test]
    fn integer_lanes_equal_the_scalar_routine(
        order in order(narrow_int()), seed: u64, magnitude in 3u32..32, m in 1usize..4, n in 1usize..20, k in 0usize..50,
    ) {
        let number = |stream, i: usize| (word(seed ^ stream, i as u64) as i32) >> (32 - magnitude);
        let a: Vec<i32> = (0..m * k).map(|i| number(1, i)).collect();
        let b: Vec<i32> = (0..k * n).map(|i| number(2, i)).collect();
        let carried: Vec<i64> = (0..m * n).map(|i| i64::from(number(3, i) % 100)).collect();
        let summer = order.summer().unwrap();
        let mut c = carried.clone();
        let counted = summer.matmul_int(&a, &b, &mut c, Size { m, n, k }).unwrap();
        let mut overflows = 0;
        for (index, c) in c.iter().enumerate() {
            let row: Vec<i64> = (0..k).map(|l| i64::from(a[index / n * k + l])).collect();
            let column: Vec<i64> = (0..k).map(|l| i64::from(b[l * n + index % n])).collect();
            let sum = summer.dot(&exact(&row), &exact(&column), Exact::from(i128::from(carried[index])));
            overflows += sum.overflows;
            let expected = Exact::from(i128::from(*c)).plus(sum.value.times(Exact::from(-1i128)), Rounding::NearestEven);
            prop_assert!(expected.is_zero(), "{order:?}: {c} is not {:?}", sum.value);
        }
        prop_assert_eq!(counted, overflows);
    }

    #[test]
    fn float_lanes_equal_the_scalar_routine(
        order in order(float_register()), seed: u64, wild: bool, m in 1usize..3, n in 1usize..20, k in 0usize..40,
    ) {
        let number = |stream, i: usize| {
            let bits = word(seed ^ stream, i as u64);
            if wild { float_with_special(bits) } else { (bits as i32 >> (bits % 24)) as f32 / 65536.0 }
        };
        let a: Vec<f32> = (0..m * k).map(|i| number(1, i)).collect();
        let b: Vec<f32> = (0..k * n).map(|i| number(2, i)).collect();
        let carried: Vec<f32> = (0..m * n).map(|i| (i % 7) as f32).collect();
        let summer = order.summer().unwrap();
        let mut c = carried.clone();
        let counted = summer.matmul_float(&a, &b, &mut c, Size { m, n, k }).unwrap();
        let mut overflows = 0;
        for (index, c) in c.iter().enumerate() {
            let row = exact_floats(&a[index / n * k..][..k]);
            let column: Vec<f32> = (0..k).map(|l| b[l * n + index % n]).collect();
            let sum = summer.dot(&row, &exact_floats(&column), Exact::from(carried[index]));
            overflows += sum.overflows;
            prop_assert!(same(*c, sum.value.to_f32()), "{order:?}: {c:e} is not {:e}", sum.value.to_f32());
        }
        prop_assert_eq!(counted, overflows);
    }

    #[test]
    fn widths_are_the_least_safe_ones(
        order in order(narrow_int()),
        pairs in proptest::collection::vec((-200i64..200, -200i64..200), 1..40),
    ) {
        let (a, b): (Vec<i64>, Vec<i64>) = pairs.into_iter().unzip();
        // Trees and products are exact here: the register in question is the accumulator.
        let wide = Accumulator::int(64, Overflow::Saturate);
        let spill = order.spill.map(|s| Spill { accumulator: wide, ..s });
        let order = Summation { product: None, tree_adder: None, spill, ..order };
        let overflows = |bits: u32| {
            let accumulator = Accumulator::int(bits as u8, Overflow::Saturate);
            let order = Summation { accumulator, ..order };
            order.summer().unwrap().dot(&exact(&a), &exact(&b), Exact::ZERO).overflows
        };
        let [reach, _] = reach_in_order(&order, &a, &b, 0);
        prop_assert_eq!(overflows(reach.bits()), 0);
        prop_assert!(reach.bits() == 1 || overflows(reach.bits() - 1) > 0);
        let any = reach_of_any_order(&a, &b, 0);
        prop_assert!(any.and(reach) == any);
        let format = Format::Int { bits: 9, signed: true }.int_range().unwrap();
        let formats = reach_of_formats(format, format, a.len() as u64).unwrap();
        prop_assert!(formats.and(any) == formats);
    }
}

/// Sums in the machine's own f32, written out by hand.
#[test]
fn orders_by_hand() {
    let a: Vec<f32> = (0..11).map(|i| (word(1, i) as i32) as f32 / 1e6).collect();
    let p: Vec<f32> = a.iter().map(|x| x * x).collect();
    let fp32 = Accumulator::float(Format::FP32);
    let product = Some(fp32);
    let base = Summation {
        product,
        ..Summation::sequential(fp32)
    };
    let run = |order: Summation| {
        let x = exact_floats(&a);
        order.summer().unwrap().dot(&x, &x, Exact::from(1f32)).value
    };
    let sequential = p.iter().fold(1f32, |sum, p| sum + p);
    assert_eq!(run(base).to_f32(), sequential);
    let tree = Summation {
        tree: 4,
        tree_adder: Some(fp32),
        ..base
    };
    let expected = ((1.0 + ((p[0] + p[1]) + (p[2] + p[3]))) + ((p[4] + p[5]) + (p[6] + p[7])))
        + ((p[8] + p[9]) + p[10]);
    assert_eq!(run(tree).to_f32(), expected);
    let lanes = Summation { lanes: 3, ..base };
    let lane = |j: usize, c: f32| p.iter().skip(j).step_by(3).fold(c, |sum, p| sum + p);
    let (x, y, z) = (lane(0, 1.0), lane(1, 0.0), lane(2, 0.0));
    assert_eq!(run(lanes).to_f32(), (x + y) + z);
    let pairs = Summation {
        lanes: 4,
        merge: Merge::Pairwise,
        ..base
    };
    let lane = |j: usize, c: f32| p.iter().skip(j).step_by(4).fold(c, |sum, p| sum + p);
    let expected = (lane(0, 1.0) + lane(1, 0.0)) + (lane(2, 0.0) + lane(3, 0.0));
    assert_eq!(run(pairs).to_f32(), expected);
    let outer = Accumulator::float("fp64".parse().unwrap());
    let spill = Summation {
        spill: Some(Spill {
            every: 4,
            accumulator: outer,
        }),
        ..base
    };
    let part = |p: &[f32]| f64::from(p.iter().fold(0f32, |sum, p| sum + p));
    let expected = ((1.0 + part(&p[..4])) + part(&p[4..8])) + part(&p[8..]);
    assert_eq!(run(spill).to_f64(), expected);
    // These orders differ in bits: otherwise the comparisons above would show little.
    assert!(sequential != run(tree).to_f32() || sequential != run(lanes).to_f32());
}

#[test]
fn saturation_depends_on_the_order_and_wrapping_does_not() {
    let (a, b) = (exact(&[100, 100, -100, -100]), exact(&[1, 1, 1, 1]));
    let (c, d) = (exact(&[100, -100, 100, -100]), exact(&[1, 1, 1, 1]));
    let run = |overflow, a: &[Exact], b: &[Exact]| {
        let summer = Summation::sequential(Accumulator::int(8, overflow))
            .summer()
            .unwrap();
        summer.dot(a, b, Exact::ZERO).value.to_f64()
    };
    assert_eq!(run(Overflow::Saturate, &a, &b), -73.0);
    assert_eq!(run(Overflow::Saturate, &c, &d), 0.0);
    assert_eq!(run(Overflow::Wrap, &a, &b), 0.0);
    assert_eq!(run(Overflow::Wrap, &c, &d), 0.0);
}

#[test]
fn widths_of_formats() {
    let int8 = Format::INT8.int_range().unwrap();
    let bits = |k| reach_of_formats(int8, int8, k).unwrap().bits();
    // 128 x 128 = 2^14 needs 16 bits with its sign; every doubling of K one more.
    assert_eq!((bits(1), bits(2), bits(3), bits(512)), (16, 17, 17, 25));
    assert_eq!(reach_of_formats(int8, int8, u64::MAX).unwrap().bits(), 79);
    let int64 = Format::Int {
        bits: 64,
        signed: true,
    }
    .int_range()
    .unwrap();
    assert!(reach_of_formats(int64, int64, 3).is_none());
}

#[test]
fn what_is_no_summation_is_refused() {
    let int16 = Accumulator::int(16, Overflow::Wrap);
    let lanes = Summation {
        lanes: 0,
        ..Summation::sequential(int16)
    };
    assert!(matches!(
        lanes.summer(),
        Err(SummationError::OutOfRange { field: "lanes", .. })
    ));
    let wrapping = Accumulator {
        overflow: Overflow::Wrap,
        ..Accumulator::float(Format::FP16)
    };
    assert!(matches!(
        Summation::sequential(wrapping).summer(),
        Err(SummationError::Codec(_))
    ));
    let summer = Summation::sequential(int16).summer().unwrap();
    let size = Size { m: 1, n: 1, k: 1 };
    assert!(matches!(
        summer.matmul_float(&[1.0], &[1.0], &mut [0.0], size),
        Err(SummationError::Register(..))
    ));
    assert!(matches!(
        summer.matmul_int(&[1], &[1, 2], &mut [0], size),
        Err(SummationError::Size(_))
    ));
}

/// The trees of four of AMD's first two generations, written out in the machine's f32.
#[test]
fn trees_of_matrix_units() {
    let units = ordered_sums().unwrap();
    let summer = |name: &str| {
        let unit = units.iter().find(|u| u.name == name).unwrap();
        (unit.flush_operands, unit.summation.summer().unwrap())
    };
    let a = [0.1f32, 3e5, -7.25, 1e-3, 11.0, -3e5, 0.3, 5.0].map(|x| (x * 64.0).trunc() / 64.0);
    let b = [1.5f32, 1.0, 0.125, 8.0, -2.0, 1.0, 4.0, 0.5];
    let p: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a * b).collect();
    let expected = (0.7 + ((p[0] + p[1]) + (p[2] + p[3]))) + ((p[4] + p[5]) + (p[6] + p[7]));
    for name in ["cdna1_f16", "cdna2_f16"] {
        let (_, summer) = summer(name);
        let sum = summer.dot(&exact_floats(&a), &exact_floats(&b), Exact::from(0.7f32));
        assert_eq!(sum.value.to_f32(), expected);
    }
    let tiny = exact_floats(&[2f32.powi(-70)]);
    let keeps = |name| summer(name).1.dot(&tiny, &tiny, Exact::ZERO).value.to_f32();
    assert_eq!(
        (keeps("cdna1_bf16"), keeps("cdna2_bf16")),
        (2f32.powi(-140), 0.0)
    );
    assert!(summer("cdna2_f16").0 && !summer("cdna1_f16").0);
    assert_eq!(flushed(Format::FP16, 2f32.powi(-15)), 0.0);
    assert_eq!(flushed(Format::FP16, 2f32.powi(-14)), 2f32.powi(-14));
}
