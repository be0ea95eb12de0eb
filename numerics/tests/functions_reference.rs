//! The functions themselves against arithmetic of many words.
//!
//! `PRESIL_EVERY=1` takes every fp16 and bf16 argument (minutes) and not one in 61.

use astro_float_num::{BigFloat, Consts, RoundingMode};
use presil_numerics::function::{Function, FunctionUnit, Register};
use presil_numerics::random::word;
use presil_numerics::{Codec, Conversion, Exact, Format, Overflow};

const BITS: usize = 448;
const RM: RoundingMode = RoundingMode::None;

fn big(x: f64) -> BigFloat {
    BigFloat::from_f64(x, BITS)
}

fn add(a: &BigFloat, b: &BigFloat) -> BigFloat {
    a.add(b, BITS, RM)
}

fn mul(a: &BigFloat, b: &BigFloat) -> BigFloat {
    a.mul(b, BITS, RM)
}

fn div(a: &BigFloat, b: &BigFloat) -> BigFloat {
    a.div(b, BITS, RM)
}

fn sigmoid(x: &BigFloat, cc: &mut Consts) -> BigFloat {
    let e = x.neg().exp(BITS, RM, cc);
    div(&big(1.0), &add(&big(1.0), &e))
}

/// `2 / sqrt(pi) e^(-x^2) sum 2^n x^(2n+1) / (2n+1)!!`: every term positive, for every x.
fn erf(x: &BigFloat, cc: &mut Consts) -> BigFloat {
    let square = mul(x, x);
    let mut term = x.clone();
    let mut sum = x.clone();
    for n in 1..4000 {
        let next = mul(&term, &square);
        term = div(&mul(&next, &big(2.0)), &big(f64::from(2 * n + 1)));
        sum = add(&sum, &term);
        let (Some(t), Some(s)) = (term.exponent(), sum.exponent()) else {
            break;
        };
        if t < s - BITS as i32 {
            break;
        }
    }
    let pi = cc.pi(BITS, RM);
    let scale = div(&big(2.0), &pi.sqrt(BITS, RM));
    mul(&mul(&scale, &square.neg().exp(BITS, RM, cc)), &sum)
}

fn precise(function: Function, x: f64, cc: &mut Consts) -> BigFloat {
    let b = big(x);
    let one = big(1.0);
    match function {
        Function::Exp => b.exp(BITS, RM, cc),
        // Powers that are exact may be ties.
        Function::Exp2 if x.fract() == 0.0 && x.abs() < 1000.0 => big(2f64.powi(x as i32)),
        Function::Exp2 => mul(&b, &cc.ln_2(BITS, RM)).exp(BITS, RM, cc),
        Function::Log => b.ln(BITS, RM, cc),
        Function::Log2 => b.log2(BITS, RM, cc),
        Function::Sigmoid => sigmoid(&b, cc),
        Function::Tanh => b.tanh(BITS, RM, cc),
        Function::Erf => erf(&b, cc),
        Function::Gelu => {
            let z = div(&b, &big(2.0).sqrt(BITS, RM));
            mul(&mul(&b, &big(0.5)), &add(&one, &erf(&z, cc)))
        }
        Function::GeluTanh => {
            let cube = mul(&mul(&b, &b), &b);
            let inner = add(&b, &mul(&big(0.044715), &cube));
            let pi = cc.pi(BITS, RM);
            let root = div(&big(2.0), &pi).sqrt(BITS, RM);
            mul(&b, &sigmoid(&mul(&mul(&root, &inner), &big(2.0)), cc))
        }
        Function::QuickGelu => mul(&b, &sigmoid(&mul(&b, &big(1.702)), cc)),
        Function::Silu => mul(&b, &sigmoid(&b, cc)),
        Function::Softplus => add(&one, &b.exp(BITS, RM, cc)).ln(BITS, RM, cc),
        Function::HardSigmoid | Function::HardSwish => {
            let clamped = add(&b, &big(3.0)).max(&big(0.0)).min(&big(6.0));
            let gate = div(&clamped, &big(6.0));
            if function == Function::HardSwish {
                mul(&b, &gate)
            } else {
                gate
            }
        }
        Function::Reciprocal | Function::Division => div(&one, &b),
        Function::Sqrt => b.sqrt(BITS, RM),
        Function::Rsqrt => div(&one, &b.sqrt(BITS, RM)),
        Function::Sin => b.sin(BITS, RM, cc),
        Function::Cos => b.cos(BITS, RM, cc),
    }
}

/// The leading 127 bits, and a last one that says that more follow.
fn exact(x: &BigFloat) -> Exact {
    let Some((words, _, sign, exponent, _)) = x.as_raw_parts() else {
        return Exact::NAN;
    };
    if x.is_zero() {
        return Exact::ZERO;
    }
    let top = words.len();
    let lead = u128::from(words[top - 1]) << 64 | u128::from(words[top - 2]);
    let more = words[..top - 2].iter().any(|w| *w != 0);
    Exact::finite(
        sign == astro_float_num::Sign::Neg,
        lead | u128::from(more),
        exponent - 128,
    )
}

/// Whether the function has a number there that is neither 0 nor beyond f32's, and that the series reach.
fn is_plain(function: Function, x: f64) -> bool {
    let y = function.value(x);
    let tails = matches!(function, Function::Gelu | Function::Erf) && x.abs() > 14.0;
    // e^-x below 2^-400 is lost beside 1.
    let lost = matches!(function, Function::Softplus) && !(-250.0..1e6).contains(&x);
    let far = matches!(function, Function::Tanh | Function::Sin | Function::Cos) && x.abs() > 1e6;
    x.is_finite() && y.is_finite() && (1e-46..1e39).contains(&y.abs()) && !tails && !lost && !far
}

fn codes(format: Format) -> Vec<f64> {
    let codec = Codec::new(format, Conversion::default()).unwrap();
    codec.decode_table().into_iter().map(f64::from).collect()
}

fn nearest(format: Format) -> Codec {
    let conversion = Conversion {
        overflow: Overflow::Infinity,
        ..Conversion::default()
    };
    Codec::new(format, conversion).unwrap()
}

fn every() -> usize {
    std::env::var("PRESIL_EVERY")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(61)
}

/// f64 is within 2^-45 of the function, and rounds to the nearest number of fp16, bf16 and f32.
#[test]
fn values_are_those_of_many_words() {
    let mut cc = Consts::new().unwrap();
    let (half, brain, single) = (
        nearest(Format::FP16),
        nearest(Format::BF16),
        nearest(Format::FP32),
    );
    let narrow = [Format::FP16, Format::BF16].map(codes);
    for (number, function) in Function::ALL.into_iter().enumerate() {
        let some = narrow
            .iter()
            .flat_map(|c| c.iter().skip(number).step_by(every()));
        let wide = (0..400u64).map(|i| {
            // Magnitudes of 2^-16 to 2^6, where functions bend.
            let bits = word(7 + number as u64, i);
            let exponent = 111 + (bits >> 23 & 0x1f) % 22;
            f64::from(f32::from_bits(bits & 0x807f_ffff | exponent << 23))
        });
        let mut count = 0;
        for x in some.copied().chain(wide) {
            if !is_plain(function, x) {
                continue;
            }
            count += 1;
            let value = function.value(x);
            let truth = exact(&precise(function, x, &mut cc));
            let error = (Exact::from(value).plus(
                Exact {
                    negative: !truth.negative,
                    ..truth
                },
                presil_numerics::Rounding::NearestEven,
            ))
            .to_f64();
            assert!(
                error.abs() <= value.abs() * 2f64.powi(-45),
                "{function}({x:e}) = {value:e} is off by {error:e}"
            );
            for codec in [&half, &brain, &single] {
                // Nearer than that to the middle between two numbers f64 can't tell.
                let near = 2f64.powi(-45) * value.abs();
                let [low, high] =
                    [value - near, value + near].map(|x| codec.encode(Exact::from(x), 0).code);
                if low != high {
                    continue;
                }
                assert_eq!(
                    codec.encode(Exact::from(value), 0).code,
                    codec.encode(truth, 0).code,
                    "{function}({x:e}) in {}",
                    codec.format
                );
            }
        }
        assert!(count > 700, "{function}: {count} arguments only");
    }
}

/// Every fp16 and bf16 argument: where 2^-40 more or less would round otherwise, many words decide.
#[test]
fn hard_cases_round_right() {
    let mut cc = Consts::new().unwrap();
    let mut hard = 0;
    let mut wrong = Vec::new();
    for format in [Format::FP16, Format::BF16] {
        let codec = nearest(format);
        let code = |x: f64| codec.encode(Exact::from(x), 0).code;
        let register = Register::float(format);
        for function in Function::ALL {
            let unit = FunctionUnit::reference(function, register, register);
            let evaluator = unit.evaluator().unwrap();
            let arguments = codes(format);
            let mut results = vec![0.0; arguments.len()];
            evaluator.apply_f64(&arguments, &mut results);
            for (x, y) in arguments.iter().zip(&results) {
                let value = function.value(*x);
                if value.is_nan() {
                    assert!(y.is_nan());
                    continue;
                }
                let near = 2f64.powi(-40) * value.abs();
                let settled = code(value - near) == code(value + near);
                let truth = if settled || !is_plain(function, *x) {
                    code(value)
                } else {
                    hard += 1;
                    codec.encode(exact(&precise(function, *x, &mut cc)), 0).code
                };
                if code(*y) != truth {
                    wrong.push(format!("{function}({x:e}) in {format}"));
                }
            }
        }
    }
    assert!(hard > 0);
    assert_eq!(wrong, Vec::<String>::new());
}

/// The table of the documentation.
#[test]
fn special_values() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let ln2 = std::f64::consts::LN_2;
    let table: [(Function, [f64; 4]); 19] = [
        (Function::Exp, [0.0, 1.0, 1.0, inf]),
        (Function::Exp2, [0.0, 1.0, 1.0, inf]),
        (Function::Log, [nan, -inf, -inf, inf]),
        (Function::Log2, [nan, -inf, -inf, inf]),
        (Function::Sigmoid, [0.0, 0.5, 0.5, 1.0]),
        (Function::Tanh, [-1.0, -0.0, 0.0, 1.0]),
        (Function::Erf, [-1.0, -0.0, 0.0, 1.0]),
        (Function::Gelu, [-0.0, -0.0, 0.0, inf]),
        (Function::GeluTanh, [-0.0, -0.0, 0.0, inf]),
        (Function::QuickGelu, [-0.0, -0.0, 0.0, inf]),
        (Function::Silu, [-0.0, -0.0, 0.0, inf]),
        (Function::Softplus, [0.0, ln2, ln2, inf]),
        (Function::HardSigmoid, [0.0, 0.5, 0.5, 1.0]),
        (Function::HardSwish, [-0.0, -0.0, 0.0, inf]),
        (Function::Reciprocal, [-0.0, -inf, inf, 0.0]),
        (Function::Sqrt, [nan, -0.0, 0.0, inf]),
        (Function::Rsqrt, [nan, -inf, inf, 0.0]),
        (Function::Sin, [nan, -0.0, 0.0, nan]),
        (Function::Cos, [nan, 1.0, 1.0, nan]),
    ];
    for (function, expected) in table {
        for (x, y) in [-inf, -0.0, 0.0, inf].into_iter().zip(expected) {
            let got = function.value(x);
            let same = got.to_bits() == y.to_bits() || got.is_nan() && y.is_nan();
            assert!(same, "{function}({x}) = {got}, not {y}");
        }
        assert!(function.value(nan).is_nan());
        assert_eq!(function.name().parse(), Ok(function));
    }
    for f in [
        Function::Log,
        Function::Log2,
        Function::Sqrt,
        Function::Rsqrt,
    ] {
        assert!(f.value(-1.0).is_nan());
    }
    let two = |a, b| Function::Division.value_of_two(a, b);
    assert_eq!(
        (two(1.0, -0.0), two(-0.0, 2.0), two(3.0, inf)),
        (-inf, -0.0, 0.0)
    );
    assert!(two(0.0, 0.0).is_nan() && two(inf, inf).is_nan());
    assert!("gelu2".parse::<Function>().is_err());
}
