//! Softmax, norms and rotary embedding: against plain f32 code, and within bounds of their formulas.

use presil_numerics::Format;
use presil_numerics::function::fit::{Evaluation, Weight};
use presil_numerics::function::kernel::{Kernel, Origin, Polynomial, Target};
use presil_numerics::function::norm::{Norm, NormKind, Variance};
use presil_numerics::function::reduce::Sum;
use presil_numerics::function::reduction::{Exponential, Split};
use presil_numerics::function::rotary::{Pairs, Rotary};
use presil_numerics::function::segments::Segments;
use presil_numerics::function::softmax::{Base, Passes, Softmax};
use presil_numerics::function::{Design, Function, FunctionUnit, Register};
use presil_numerics::random::word;

fn numbers(seed: u64, count: u64, scale: f32) -> Vec<f32> {
    let uniform = |i| word(seed, i) as i32 as f32 / (1u32 << 31) as f32;
    (0..count).map(|i| scale * uniform(i)).collect()
}

fn run(softmax: &Softmax, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    softmax.evaluator().unwrap().apply(x, &mut y);
    y
}

fn exp(x: f32) -> f32 {
    Function::Exp.value(f64::from(x)) as f32
}

/// The formula in f64.
fn ideal(x: &[f32]) -> Vec<f64> {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: Vec<f64> = x.iter().map(|x| f64::from(x - largest).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|e| e / sum).collect()
}

fn worst(y: &[f32], ideal: &[f64]) -> f64 {
    let pairs = y.iter().zip(ideal).filter(|(_, f)| **f > 1e-30);
    pairs
        .map(|(y, f)| (f64::from(*y) / f - 1.0).abs())
        .fold(0.0, f64::max)
}

/// An exponential unit of f32, within about a unit of the last place.
fn exponential(function: Function) -> FunctionUnit {
    let f32 = Register::f32();
    let fit = Polynomial::fit(
        Target::of(Function::Exp2),
        Segments::one(-0.5, 0.5),
        6,
        Weight::Relative,
        Origin::Zero,
        Evaluation::within(f32, true),
    );
    FunctionUnit {
        design: Design::Exponential(Exponential {
            split: Split::Nearest,
            register: f32,
            fma: true,
            kernel: Kernel::Polynomial(fit.unwrap()),
        }),
        ..FunctionUnit::reference(function, f32, f32)
    }
}

#[test]
fn softmax_in_three_passes() {
    let softmax = Softmax::reference(Passes::Three);
    for (length, scale) in [(1, 1.0), (7, 3.0), (128, 8.0), (1000, 20.0)] {
        let x = numbers(length, length, scale);
        let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let e: Vec<f32> = x.iter().map(|x| exp(x - largest)).collect();
        let sum = e.iter().fold(0.0f32, |s, e| s + e);
        let expected: Vec<f32> = e.iter().map(|e| e / sum).collect();
        let y = run(&softmax, &x);
        assert_eq!(y, expected);
        assert!(worst(&y, &ideal(&x)) < (length as f64 / 2.0 + 4.0) * 6e-8);
    }
    // Lanes of 8 added pairwise, and a product with the reciprocal.
    let f32 = Register::f32();
    let lanes = Softmax {
        sum: Sum {
            register: f32,
            lanes: 8,
            pairwise: true,
        },
        normalizer: FunctionUnit::reference(Function::Reciprocal, f32, f32),
        ..Softmax::reference(Passes::Three)
    };
    let x = numbers(3, 333, 5.0);
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: Vec<f32> = x.iter().map(|x| exp(x - largest)).collect();
    let mut s = [0.0f32; 8];
    for (i, e) in e.iter().enumerate() {
        s[i % 8] += e;
    }
    let sum = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
    let r = 1.0 / sum;
    let expected: Vec<f32> = e.iter().map(|e| e * r).collect();
    assert_eq!(run(&lanes, &x), expected);
}

#[test]
fn softmax_online() {
    for (length, block) in [
        (1u64, 1u32),
        (50, 1),
        (333, 1),
        (333, 16),
        (1000, 200),
        (64, 1000),
    ] {
        let softmax = Softmax::reference(Passes::Online(block));
        let x = numbers(length + u64::from(block), length, 12.0);
        let (mut largest, mut sum) = (f32::NEG_INFINITY, 0.0f32);
        for (number, part) in x.chunks(block as usize).enumerate() {
            let raised = part.iter().copied().fold(largest, f32::max);
            if number > 0 {
                sum *= exp(largest - raised);
            }
            largest = raised;
            for x in part {
                sum += exp(x - largest);
            }
        }
        let expected: Vec<f32> = x.iter().map(|x| exp(x - largest) / sum).collect();
        let y = run(&softmax, &x);
        assert_eq!(y, expected, "{length} by {block}");
        // Numerators are the same; the sums differ by their roundings.
        let three = run(&Softmax::reference(Passes::Three), &x);
        let most = three
            .iter()
            .zip(&y)
            .map(|(a, b)| a.to_bits().abs_diff(b.to_bits()))
            .max();
        assert!(most.unwrap() <= 16, "{length} by {block}: {most:?} ulp");
        assert!(worst(&y, &ideal(&x)) < (length as f64 / 2.0 + 8.0) * 6e-8);
    }
}

#[test]
fn softmax_in_two_passes_and_base_two() {
    let two = Softmax {
        exponential: exponential(Function::Exp),
        ..Softmax::reference(Passes::Two)
    };
    let x = numbers(11, 500, 30.0);
    let y = run(&two, &x);
    // One f32 product x log2(e): an error of 2^-24 |x| log2(e) in the exponent.
    assert!(worst(&y, &ideal(&x)) < 30.0 * 1.5 * 6e-8 + 3e-5);
    let sum: f64 = y.iter().map(|y| f64::from(*y)).sum();
    assert!((sum - 1.0).abs() < 1e-5);
    // Far from zero no maximum is needed.
    let shifted: Vec<f32> = x.iter().map(|x| x + 300.0).collect();
    assert!(run(&two, &shifted).iter().all(|y| y.is_finite()));

    let of_exp2 = Softmax {
        exponential: exponential(Function::Exp2),
        ..Softmax::reference(Passes::Three)
    };
    assert!(worst(&run(&of_exp2, &x), &ideal(&x)) < 2e-5);
    let softermax = Softmax {
        base: Base::Two,
        ..of_exp2
    };
    let natural: Vec<f32> = x.iter().map(|x| x * std::f32::consts::LN_2).collect();
    assert!(worst(&run(&softermax, &x), &ideal(&natural)) < 2e-5);

    let wrong = Softmax {
        exponential: FunctionUnit::reference(Function::Exp, Register::f32(), Register::f32()),
        ..two
    };
    assert!(wrong.evaluator().is_err());
    let text = toml::to_string(&softermax).unwrap();
    assert_eq!(toml::from_str::<Softmax>(&text).unwrap(), softermax);
}

#[test]
fn softmax_of_special_rows() {
    for passes in [Passes::Three, Passes::Online(2)] {
        let softmax = Softmax::reference(passes);
        let inf = f32::INFINITY;
        assert_eq!(run(&softmax, &[-inf, 2.0, 2.0, -inf]), [0.0, 0.5, 0.5, 0.0]);
        assert!(run(&softmax, &[-inf, -inf]).iter().all(|y| y.is_nan()));
        assert!(run(&softmax, &[1.0, f32::NAN]).iter().all(|y| y.is_nan()));
        assert_eq!(run(&softmax, &[3e38, -3e38]), [1.0, 0.0]);
        assert!(run(&softmax, &[]).is_empty());
    }
    // bf16 everywhere: sums of many small terms stop growing, which f32 sums do not.
    let bf16 = Register::float(Format::BF16);
    let narrow = Softmax {
        sum: Sum::sequential(bf16),
        output: bf16,
        ..Softmax::reference(Passes::Three)
    };
    let y = run(&narrow, &vec![0.0; 1000]);
    assert_eq!(y[0], 1.0 / 256.0);
}

fn norm_of(norm: &Norm, x: &[f32], gamma: &[f32], beta: Option<&[f32]>) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let evaluator = norm.evaluator().unwrap();
    evaluator.apply(x, Some(gamma), beta, &mut y).unwrap();
    y
}

fn rsqrt(x: f32) -> f32 {
    Function::Rsqrt.value(f64::from(x)) as f32
}

#[test]
fn norms() {
    for length in [1u64, 5, 128, 769] {
        let x: Vec<f32> = numbers(length, length, 3.0)
            .iter()
            .map(|x| x + 1.5)
            .collect();
        let gamma = numbers(length + 1, length, 2.0);
        let beta = numbers(length + 2, length, 1.0);
        let share = 1.0 / length as f32;
        let sum = |terms: &mut dyn Iterator<Item = f32>| terms.fold(0.0f32, |s, t| s + t);
        let epsilon = 1e-5f32;

        let mean = sum(&mut x.iter().copied()) * share;
        let d: Vec<f32> = x.iter().map(|x| x - mean).collect();
        let deviations = sum(&mut d.iter().map(|d| d * d)) * share;
        let moments = (sum(&mut x.iter().map(|x| x * x)) * share - mean * mean).max(0.0);
        for (variance, v) in [
            (Variance::Deviations, deviations),
            (Variance::Moments, moments),
        ] {
            let r = rsqrt(v + epsilon);
            let norm = Norm {
                variance,
                ..Norm::reference(NormKind::Layer, 1e-5)
            };
            let parts = d.iter().zip(&gamma).zip(&beta);
            let expected: Vec<f32> = parts.map(|((d, g), b)| (d * r) * g + b).collect();
            assert_eq!(norm_of(&norm, &x, &gamma, Some(&beta)), expected);
            let fused = Norm { fma: true, ..norm };
            let y = norm_of(&fused, &x, &gamma, Some(&beta));
            let near = y.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 2e-5);
            assert!(near && (length < 100 || y != expected));
        }
        let square = sum(&mut x.iter().map(|x| x * x)) * share;
        let r = rsqrt(square + 1e-6);
        let rms = Norm::reference(NormKind::Rms, 1e-6);
        let expected: Vec<f32> = x.iter().zip(&gamma).map(|(x, g)| (x * r) * g).collect();
        assert_eq!(norm_of(&rms, &x, &gamma, None), expected);

        // The formula in f64.
        let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let n = length as f64;
        let root = (wide.iter().map(|x| x * x).sum::<f64>() / n + 1e-6).sqrt();
        for ((y, x), g) in expected.iter().zip(&wide).zip(&gamma) {
            let f = x / root * f64::from(*g);
            assert!((f64::from(*y) - f).abs() < (n + 8.0) * 6e-8 * f.abs() + 1e-12);
        }
    }
}

#[test]
fn groups_and_lengths() {
    let norm = Norm::reference(NormKind::Layer, 1e-5).evaluator().unwrap();
    let (channels, places, groups) = (6, 5, 3);
    let x = numbers(1, channels * places, 2.0);
    let gamma = numbers(2, channels, 1.0);
    let beta = numbers(3, channels, 1.0);
    let mut y = vec![0.0; x.len()];
    norm.apply_groups(&x, groups, &gamma, &beta, &mut y)
        .unwrap();
    let each = 2 * places as usize;
    for group in 0..groups {
        let range = group * each..(group + 1) * each;
        let mut plain = vec![0.0; each];
        norm.apply(&x[range.clone()], None, None, &mut plain)
            .unwrap();
        for (i, p) in plain.iter().enumerate() {
            let channel = group * 2 + i / places as usize;
            assert_eq!(y[range.start + i], p * gamma[channel] + beta[channel]);
        }
    }
    assert!(norm.apply_groups(&x, 4, &gamma, &beta, &mut y).is_err());
    assert!(norm.apply_groups(&x, 0, &gamma, &beta, &mut y).is_err());
    assert!(norm.apply(&x, Some(&gamma), None, &mut y).is_err());
    assert!(norm.apply(&[], None, None, &mut []).is_ok());
    // Moments cancel where the mean is large.
    let far: Vec<f32> = numbers(4, 64, 0.01).iter().map(|x| x + 1000.0).collect();
    let moments = Norm {
        variance: Variance::Moments,
        ..Norm::reference(NormKind::Layer, 1e-5)
    };
    let mut z = [vec![0.0; 64], vec![0.0; 64]];
    norm.apply(&far, None, None, &mut z[0]).unwrap();
    moments
        .evaluator()
        .unwrap()
        .apply(&far, None, None, &mut z[1])
        .unwrap();
    let off = z[0]
        .iter()
        .zip(&z[1])
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(off > 0.1);
}

#[test]
fn rotary_embedding() {
    for pairs in [Pairs::Halves, Pairs::Interleaved] {
        let rotary = Rotary::reference(10_000.0, pairs);
        let evaluator = rotary.evaluator().unwrap();
        let x = numbers(5, 64, 1.0);
        for position in [0u32, 1, 17, 4095] {
            let mut y = vec![0.0; 64];
            evaluator.apply(&x, position, &mut y).unwrap();
            for i in 0..32 {
                let frequency = 10_000f64.powf(-2.0 * i as f64 / 64.0) as f32;
                let angle = position as f32 * frequency;
                let sine = Function::Sin.value(f64::from(angle)) as f32;
                let cosine = Function::Cos.value(f64::from(angle)) as f32;
                let (one, two) = match pairs {
                    Pairs::Halves => (i, i + 32),
                    Pairs::Interleaved => (2 * i, 2 * i + 1),
                };
                assert_eq!(y[one], x[one] * cosine - x[two] * sine);
                assert_eq!(y[two], x[one] * sine + x[two] * cosine);
                let exact = f64::from(position) * 10_000f64.powf(-2.0 * i as f64 / 64.0);
                let ideal = f64::from(x[one]) * exact.cos() - f64::from(x[two]) * exact.sin();
                // The angle carries 2^-24 of itself, twice.
                assert!((f64::from(y[one]) - ideal).abs() < 3e-7 + exact * 1.3e-7);
            }
        }
        assert!(evaluator.apply(&x[..3], 1, &mut [0.0; 3]).is_err());
        // Positions in bf16 share angles.
        let narrow = Rotary {
            angle: Register::float(Format::BF16),
            ..rotary
        };
        let narrow = narrow.evaluator().unwrap();
        assert_eq!(narrow.factors(1000, 64)[0], narrow.factors(1001, 64)[0]);
        assert_ne!(
            evaluator.factors(1000, 64)[0],
            evaluator.factors(1001, 64)[0]
        );
    }
}
