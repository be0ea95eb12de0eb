//! Designs of function units: against plain code of the same arithmetic, and within bounds of their functions.

use presil_numerics::function::composed::Composed;
use presil_numerics::function::cordic::Cordic;
use presil_numerics::function::fit::{Evaluation, Weight};
use presil_numerics::function::kernel::{Interpolated, Kernel, Order, Origin, Polynomial, Target};
use presil_numerics::function::measure::Errors;
use presil_numerics::function::reduction::{
    Circular, Direct, Exponential, Logarithm, Mirrored, Split, Tail,
};
use presil_numerics::function::roots::{Refined, Refinement, Seed, Step};
use presil_numerics::function::segments::Segments;
use presil_numerics::function::table::{CodeTable, Codes};
use presil_numerics::function::unit::look_up;
use presil_numerics::function::{
    Design, DesignError, Function, FunctionUnit, Register, SpecialValues,
};
use presil_numerics::random::word;
use presil_numerics::{Exact, Format, Rounding};

fn f32_unit(function: Function, design: Design) -> FunctionUnit {
    FunctionUnit {
        function,
        input: Register::f32(),
        output: Register::f32(),
        special_values: SpecialValues::Reference,
        design,
    }
}

fn polynomial(target: Target, segments: Segments, degree: usize, weight: Weight) -> Kernel {
    let f32 = Register::f32();
    let fitted = Polynomial::fit(
        target,
        segments,
        degree,
        weight,
        Origin::Centre,
        Evaluation::within(f32, true),
    );
    Kernel::Polynomial(fitted.unwrap())
}

fn uniform(low: f64, high: f64, count: u32) -> Segments {
    Segments::Uniform { low, high, count }
}

/// Numbers of some range, evenly.
fn between(low: f64, high: f64, count: u32) -> impl Iterator<Item = f64> {
    (0..=count).map(move |i| low + (high - low) * f64::from(i) / f64::from(count))
}

fn largest_ulp(unit: &FunctionUnit, low: f64, high: f64) -> f64 {
    let errors = Errors::measure(&unit.evaluator().unwrap(), between(low, high, 20_000));
    assert_eq!(errors.unbounded, 0);
    errors.ulp.error
}

/// Zeros, infinities and NaN of a unit that tells them apart are the function's.
fn specials_hold(unit: &FunctionUnit) {
    let evaluator = unit.evaluator().unwrap();
    for x in [
        f64::NEG_INFINITY,
        -0.0,
        0.0,
        f64::INFINITY,
        f64::NAN,
        -2.5,
        1e-40,
        -1e-40,
    ] {
        let y = evaluator.one(x);
        let f = unit.function.value(f64::from(x as f32)) as f32;
        let tells = !x.is_finite() || x == 0.0 || f.is_nan();
        let same = y.to_bits() == f64::from(f).to_bits() || y.is_nan() && f.is_nan();
        assert!(!tells || same, "{}({x}) = {y}, not {f}", unit.function);
    }
}

/// Horner in bf16, written out with the exact codec.
#[test]
fn polynomials_round_every_step() {
    let bf16 = Register::float(Format::BF16);
    let round = |x: Exact| bf16.round(x.to_f64()).unwrap();
    let one = |x: f64| bf16.round(x).unwrap();
    let target = Target::of(Function::Exp2);
    for (fma, order) in [
        (true, Order::Horner),
        (false, Order::Horner),
        (true, Order::Estrin),
    ] {
        let fit = Polynomial::fit(
            target,
            uniform(0.0, 1.0, 4),
            3,
            Weight::Relative,
            Origin::Start,
            Evaluation::within(bf16, fma),
        );
        let p = Polynomial {
            order,
            ..fit.unwrap()
        };
        let coefficients = p.coefficients.clone();
        let unit = FunctionUnit {
            input: bf16,
            output: bf16,
            ..f32_unit(
                Function::Exp2,
                Design::Direct(Direct {
                    kernel: Kernel::Polynomial(p),
                    below: Some(Tail {
                        from: 0.0,
                        value: Some(1.0),
                    }),
                    above: Some(Tail {
                        from: 1.0,
                        value: None,
                    }),
                }),
            )
        };
        let evaluator = unit.evaluator().unwrap();
        let mul_add = |a: f64, b: f64, c: f64| {
            let product = Exact::from(a).times(Exact::from(b));
            let product = if fma {
                product
            } else {
                Exact::from(round(product))
            };
            round(product.plus(Exact::from(c), Rounding::NearestEven))
        };
        for x in between(0.01, 0.99, 500).map(one) {
            let segment = (x * 4.0).floor();
            let t = one(x - segment / 4.0);
            let c: Vec<f64> = coefficients[segment as usize]
                .iter()
                .map(|c| one(*c))
                .collect();
            let expected = if order == Order::Horner {
                let high = mul_add(c[3], t, c[2]);
                mul_add(mul_add(high, t, c[1]), t, c[0])
            } else {
                let square = one(t * t);
                mul_add(mul_add(c[3], t, c[2]), square, mul_add(c[1], t, c[0]))
            };
            assert_eq!(evaluator.one(x), expected, "{x} {fma} {order:?}");
        }
        assert_eq!((evaluator.one(-3.0), evaluator.one(7.0)), (1.0, 7.0));
    }
}

#[test]
fn exponentials_and_logarithms() {
    let natural = Split::Natural(vec![0.693_359_375, -2.121_944_4e-4]);
    for (function, split, degree, fma, bound) in [
        (Function::Exp2, Split::Floor, 6, true, 1.0),
        (Function::Exp2, Split::Nearest, 6, true, 1.0),
        (Function::Exp, natural.clone(), 6, true, 1.3),
        // One product with log2(e) in f32 costs as many ulp as the argument has bits before the point.
        (Function::Exp, Split::Nearest, 6, true, 90.0),
    ] {
        let (target, interval) = match split {
            Split::Floor => (Function::Exp2, [0.0, 1.0]),
            Split::Nearest => (Function::Exp2, [-0.5, 0.5]),
            Split::Natural(_) => (Function::Exp, [-0.35, 0.35]),
        };
        let segments = uniform(interval[0], interval[1], 1);
        let unit = f32_unit(
            function,
            Design::Exponential(Exponential {
                split,
                register: Register::f32(),
                fma,
                kernel: polynomial(Target::of(target), segments, degree, Weight::Relative),
            }),
        );
        let error = largest_ulp(&unit, -85.0, 85.0);
        assert!(error < bound, "{function}: {error} ulp");
        specials_hold(&unit);
        let evaluator = unit.evaluator().unwrap();
        assert_eq!(
            (evaluator.one(300.0), evaluator.one(-300.0)),
            (f64::INFINITY, 0.0)
        );
        // Results are rounded to subnormal numbers once.
        let tiny = evaluator.one(-100.0);
        let value = function.value(-100.0);
        assert!((tiny - value).abs() < 1.01 * 2f64.powi(-149), "{tiny:e}");
    }
    let exact = Kernel::Exact(Register::f32());
    for (function, centred, bound) in [(Function::Log2, true, 1.6), (Function::Log, true, 3.0)] {
        let unit = f32_unit(
            function,
            Design::Logarithm(Logarithm {
                kernel: exact.clone(),
                centred,
                register: Register::f32(),
            }),
        );
        for (low, high) in [(1e-3, 0.7), (0.7, 1.42), (1.5, 1e6), (1e-44, 1e-40)] {
            let error = largest_ulp(&unit, low, high);
            assert!(error < bound, "{function} in {low}..{high}: {error} ulp");
        }
        specials_hold(&unit);
    }
    // Not centred, the exponent -1 and a fraction near 1 cancel just below 1.
    let plain = f32_unit(
        Function::Log2,
        Design::Logarithm(Logarithm {
            kernel: exact,
            centred: false,
            register: Register::f32(),
        }),
    );
    assert!(largest_ulp(&plain, 0.9999, 0.99999) > 1000.0);
}

#[test]
fn symmetries() {
    let f32 = Register::f32();
    for (function, limit, beyond, bound) in [
        (Function::Sigmoid, 18.0, 1.0, 6e-7),
        (Function::Tanh, 9.0, 1.0, 6e-7),
        (Function::Erf, 4.0, 1.0, 6e-7),
        (Function::Gelu, 6.0, 0.0, 2e-6),
        (Function::GeluTanh, 6.0, 0.0, 2e-6),
        (Function::QuickGelu, 18.0, 0.0, 2e-6),
        (Function::Silu, 20.0, 0.0, 2e-6),
        (Function::Softplus, 18.0, 0.0, 2e-6),
        (Function::HardSwish, 3.0, 0.0, 2e-6),
        (Function::HardSigmoid, 3.0, 1.0, 6e-7),
    ] {
        let remainder = beyond == 0.0;
        let target = Target {
            function,
            mirrored: remainder,
        };
        let kernel = polynomial(target, uniform(0.0, limit, 64), 5, Weight::Absolute);
        let mirrored = Mirrored {
            kernel,
            limit,
            beyond,
            register: f32,
        };
        let unit = f32_unit(function, Design::Mirrored(mirrored));
        let evaluator = unit.evaluator().unwrap();
        let errors = Errors::measure(&evaluator, between(-25.0, 25.0, 20_001));
        assert!(
            errors.absolute.error.abs() < bound,
            "{function}: {:?}",
            errors.absolute
        );
        specials_hold(&unit);
        // Beyond the limit the unit saturates.
        let far = [evaluator.one(-30.0), evaluator.one(30.0)];
        let ends = match function {
            Function::Tanh | Function::Erf => [-1.0, 1.0],
            Function::Sigmoid | Function::HardSigmoid => [0.0, 1.0],
            _ => [0.0, 30.0],
        };
        assert_eq!(far, ends, "{function}");
    }
    let kernel = Kernel::Exact(f32);
    let mirrored = Mirrored {
        kernel,
        limit: 1.0,
        beyond: 0.0,
        register: f32,
    };
    let none = f32_unit(Function::Exp, Design::Mirrored(mirrored));
    assert_eq!(
        none.evaluator().err(),
        Some(DesignError::Kernel("mirrored", Function::Exp))
    );
}

#[test]
fn angles() {
    let quarter = std::f64::consts::FRAC_PI_4;
    let fit = |function| {
        let segments = uniform(-quarter - 0.01, quarter + 0.01, 1);
        polynomial(Target::of(function), segments, 9, Weight::Absolute)
    };
    for function in [Function::Sin, Function::Cos] {
        let circular = Circular {
            parts: vec![
                1.570_312_5,
                4.837_512_969_970_703e-4,
                7.549_789_948_768_648e-8,
            ],
            register: Register::f32(),
            fma: true,
            sine: fit(Function::Sin),
            cosine: fit(Function::Cos),
        };
        let unit = f32_unit(function, Design::Circular(circular));
        let errors = Errors::measure(&unit.evaluator().unwrap(), between(-600.0, 600.0, 20_000));
        assert!(
            errors.absolute.error.abs() < 3e-7,
            "{function}: {:?}",
            errors.absolute
        );
        specials_hold(&unit);

        // Fixed point of 24 bits, 20 of them fraction bits: each of 20 rotations adds a unit at most.
        let register = Register {
            rounding: Rounding::Down,
            ..Register::fixed(24, 20)
        };
        let cordic = Cordic::circular(register, 20);
        let direct = Direct {
            kernel: Kernel::Cordic(cordic),
            below: None,
            above: None,
        };
        let unit = f32_unit(function, Design::Direct(direct));
        let errors = Errors::measure(&unit.evaluator().unwrap(), between(-1.57, 1.57, 5000));
        assert!(
            errors.absolute.error.abs() < 24.0 * 2f64.powi(-20),
            "{:?}",
            errors.absolute
        );
    }
    let cordic = Cordic::hyperbolic(Register::fixed(24, 20), 20);
    let direct = Direct {
        kernel: Kernel::Cordic(cordic.clone()),
        below: None,
        above: None,
    };
    let unit = f32_unit(Function::Exp, Design::Direct(direct.clone()));
    let errors = Errors::measure(&unit.evaluator().unwrap(), between(-1.1, 1.1, 5000));
    assert!(
        errors.absolute.error.abs() < 48.0 * 2f64.powi(-20),
        "{:?}",
        errors.absolute
    );
    let tanh = f32_unit(Function::Tanh, Design::Direct(direct));
    assert_eq!(
        tanh.evaluator().err(),
        Some(DesignError::Kernel("cordic", Function::Tanh))
    );

    // The same rotations in integers.
    let mut z = (0.7 * f64::from(1 << 20)).round() as i64;
    let fixed = |x: f64| (x * f64::from(1 << 20)).round_ties_even() as i64;
    let (mut x, mut y) = (fixed(cordic.gain), 0i64);
    let shifted = |v: i64, s: u8| {
        // To nearest even, as the register rounds.
        (v as f64 / f64::from(1u32 << s)).round_ties_even() as i64
    };
    for (shift, angle) in cordic.shifts.iter().zip(&cordic.angles) {
        let d = if z >= 0 { 1 } else { -1 };
        (x, y) = (x + d * shifted(y, *shift), y + d * shifted(x, *shift));
        z -= d * fixed(*angle);
    }
    let got = unit.evaluator().unwrap().one(0.7);
    assert_eq!(got, (x + y) as f64 / f64::from(1 << 20));
}

#[test]
fn tables_of_codes() {
    let input = Codes::affine(Format::INT8, 0.05, -3);
    let output = Codes::affine(Format::INT8, 1.0 / 256.0, -128);
    let table = CodeTable::of(Function::Sigmoid, input, output).unwrap();
    assert_eq!(table.entries.len(), 256);
    for code in -128i32..=127 {
        let x = f64::from(code + 3) * 0.05;
        let y = ((1.0 / (1.0 + (-x).exp())) * 256.0).round_ties_even() as i32 - 128;
        let entry = table.entries[code as u8 as usize];
        assert_eq!(entry as u8 as i8 as i32, y.clamp(-128, 127), "{code}");
    }
    let unit = f32_unit(Function::Sigmoid, Design::CodeTable(table.clone()));
    let evaluator = unit.evaluator().unwrap();
    // Ties of the quotient go to even before the zero point is added.
    assert_eq!(
        evaluator.one(0.05 * 2.4),
        f64::from(table.entries[255] as u8 as i8 as i32 + 128) / 256.0
    );
    assert_eq!(evaluator.codes(), Some(table.entries.clone()));
    let mut out = [0; 3];
    look_up(&table.entries, &[0, 255, 128], &mut out);
    assert_eq!(
        out,
        [table.entries[0], table.entries[255], table.entries[128]]
    );
    // fp8 to fp8, with NaN.
    let fp8 = Codes::plain(Format::FP8_E4M3FN);
    let table = CodeTable::of(Function::Exp, fp8, fp8).unwrap();
    assert_eq!(
        (table.entries[0], table.entries[0x7f], table.entries[0x7e]),
        (0x38, 0x7f, 0x7e)
    );
    assert!(CodeTable::of(Function::Exp, Codes::plain(Format::FP32), fp8).is_err());

    // A unit of 16-bit formats as one table.
    let half = Register::float(Format::FP16);
    let unit = FunctionUnit::reference(Function::Exp, half, half);
    let evaluator = unit.evaluator().unwrap();
    let codes = evaluator.codes().unwrap();
    assert_eq!(
        (codes.len(), codes[0], codes[0x3c00]),
        (1 << 16, 0x3c00, 0x4170)
    );
    assert!(
        evaluator.codes().is_some()
            && f32_unit(Function::Exp, Design::Reference)
                .evaluator()
                .unwrap()
                .codes()
                .is_none()
    );
}

/// 513 entries of 16 bits, interpolated by 7 bits, written in integers.
#[test]
fn interpolated_tables() {
    let word16 = |fraction| Register {
        rounding: Rounding::HalfUp,
        ..Register::fixed(16, fraction)
    };
    let wide = Register {
        rounding: Rounding::HalfUp,
        ..Register::fixed(24, 15)
    };
    let fraction = Register {
        format: "uint8".parse().unwrap(),
        ..Register::fixed(8, 7)
    };
    let interpolated = Interpolated::fill(
        Target::of(Function::Tanh),
        uniform(-8.0, 8.0, 512),
        false,
        word16(15),
        fraction,
        wide,
        false,
    )
    .unwrap();
    let entries: Vec<i64> = interpolated
        .entries
        .iter()
        .map(|e| ((e * 32768.0 + 0.5).floor() as i64).clamp(-32768, 32767))
        .collect();
    let direct = Direct {
        kernel: Kernel::Interpolated(interpolated),
        below: None,
        above: None,
    };
    let unit = FunctionUnit {
        function: Function::Tanh,
        input: Register::fixed(16, 12),
        output: word16(15),
        special_values: SpecialValues::Raw,
        design: Design::Direct(direct),
    };
    let codes = unit.evaluator().unwrap().codes().unwrap();
    for code in i16::MIN..=i16::MAX {
        let place = i64::from(code) + 32768;
        let (index, offset) = ((place >> 7) as usize, place & 127);
        let slope = entries[index + 1] - entries[index];
        let y = entries[index] + ((slope * offset + 64) >> 7);
        assert_eq!(i64::from(codes[code as u16 as usize] as i16), y, "{code}");
    }
    // Centring the entries halves the error where chords lie on one side.
    let error = |centred| {
        let f32 = Register::f32();
        let target = Target::of(Function::Exp2);
        let fill = Interpolated::fill(target, uniform(0.0, 1.0, 16), centred, f32, f32, f32, true);
        let kernel = Kernel::Interpolated(fill.unwrap());
        let unit = f32_unit(
            Function::Exp2,
            Design::Direct(Direct {
                kernel,
                below: None,
                above: None,
            }),
        );
        let errors = Errors::measure(&unit.evaluator().unwrap(), between(0.0, 0.999, 5000));
        errors.absolute.error.abs()
    };
    let ratio = error(true) / error(false);
    assert!((0.45..0.6).contains(&ratio), "{ratio}");
}

#[test]
fn seeds_and_refinements() {
    let f32 = Register::f32();
    let seed = |function, octaves| {
        let segments = Segments::Octaves {
            low: 1.0,
            octaves,
            parts: 128,
        };
        let uint = Register {
            format: "uint9".parse().unwrap(),
            ..Register::fixed(9, 9)
        };
        let fit = Polynomial::fit(
            Target::of(function),
            segments,
            0,
            Weight::Relative,
            Origin::Start,
            Evaluation {
                coefficient: uint,
                ..Evaluation::within(f32, true)
            },
        );
        Seed::Kernel(Kernel::Polynomial(fit.unwrap()))
    };
    let unit = |function, seed, refinement, correction| {
        let refined = Refined {
            register: f32,
            seed,
            refinement,
            correction,
            fma: true,
        };
        f32_unit(function, Design::Refined(refined))
    };
    let newton = |coefficients: &[f64], count| {
        Refinement::Steps(vec![Step::residual(coefficients, true); count])
    };
    let of_one = || seed(Function::Reciprocal, 1);
    let of_two = || seed(Function::Rsqrt, 2);
    for (unit, bound) in [
        (
            unit(Function::Reciprocal, of_one(), newton(&[1.0], 2), false),
            0.6,
        ),
        (
            unit(
                Function::Reciprocal,
                of_one(),
                newton(&[1.0, 1.0], 1),
                false,
            ),
            2.0,
        ),
        (
            unit(
                Function::Reciprocal,
                of_one(),
                Refinement::Goldschmidt(2),
                false,
            ),
            4.0,
        ),
        (
            unit(Function::Rsqrt, of_two(), newton(&[0.5], 2), false),
            1.1,
        ),
        (
            unit(Function::Rsqrt, of_two(), newton(&[0.5, 0.375], 1), false),
            2.0,
        ),
        (
            unit(Function::Rsqrt, of_two(), Refinement::Goldschmidt(2), false),
            2.0,
        ),
        (
            unit(Function::Sqrt, of_two(), newton(&[0.5], 2), true),
            0.501,
        ),
        (
            unit(Function::Sqrt, of_two(), Refinement::Goldschmidt(2), false),
            2.0,
        ),
        (
            unit(
                Function::Sqrt,
                Seed::Magic(0x1fbd_1df5),
                Refinement::default(),
                false,
            ),
            6e5,
        ),
        (
            unit(
                Function::Reciprocal,
                Seed::Magic(0x7ef3_11c7),
                newton(&[1.0], 3),
                false,
            ),
            1.0,
        ),
    ] {
        for (low, high) in [(1.0, 4.0), (1e-30, 1e-29), (3e20, 4e20)] {
            let error = largest_ulp(&unit, low, high);
            assert!(error <= bound, "{unit:?} in {low}..{high}: {error} ulp");
        }
        specials_hold(&unit);
    }
    // Negative numbers have reciprocals.
    let evaluator = unit(Function::Reciprocal, of_one(), newton(&[1.0], 2), false)
        .evaluator()
        .unwrap();
    assert_eq!((evaluator.one(-4.0), evaluator.one(-0.5)), (-0.25, -2.0));

    let division = unit(Function::Division, of_one(), newton(&[1.0], 2), true);
    let evaluator = division.evaluator().unwrap();
    let number = |seed, i| f32::from_bits(word(seed, i) & 0x80ff_ffff | 0x3f00_0000);
    let a: Vec<f32> = (0..5000).map(|i| number(1, i)).collect();
    let b: Vec<f32> = (0..5000).map(|i| number(2, i)).collect();
    let mut q = vec![0.0; a.len()];
    evaluator.divide(&a, &b, &mut q);
    for ((a, b), q) in a.iter().zip(&b).zip(&q) {
        assert_eq!((a / b).to_bits(), q.to_bits(), "{a:e} / {b:e}");
    }
    let mut q = [0.0; 6];
    let (zero, inf) = (0.0f32, f32::INFINITY);
    evaluator.divide(
        &[1.0, -1.0, zero, inf, inf, zero],
        &[zero, zero, zero, inf, -2.0, -3.0],
        &mut q,
    );
    assert_eq!(
        (q[0], q[1], q[4], q[5].to_bits()),
        (inf, -inf, -inf, (-0.0f32).to_bits())
    );
    assert!(q[2].is_nan() && q[3].is_nan());

    let magic = unit(
        Function::Sqrt,
        Seed::Magic(0x1fbd_1df5),
        newton(&[0.5], 1),
        false,
    );
    assert!(matches!(
        magic.evaluator(),
        Err(DesignError::Field { field: "magic", .. })
    ));
    let exp = unit(Function::Exp, of_one(), Refinement::default(), false);
    assert_eq!(
        exp.evaluator().err(),
        Some(DesignError::Kernel("refined", Function::Exp))
    );
}

/// Functions of other units, written in the machine's f32.
#[test]
fn composed_units() {
    let part = |f| f32_unit(f, Design::Reference);
    let unit = |function, parts: &[Function]| {
        let parts = parts.iter().map(|f| part(*f)).collect();
        let composed = Composed {
            register: Register::f32(),
            fma: false,
            parts,
        };
        f32_unit(function, Design::Composed(composed))
    };
    let value = |f: Function, x: f32| f.value(f64::from(x)) as f32;
    let sigmoid = |x: f32| 1.0 / (1.0 + value(Function::Exp, -x));
    type Plain<'a> = &'a dyn Fn(f32) -> f32;
    let cases: [(Function, &[Function], Plain); 9] = [
        (
            Function::Sigmoid,
            &[Function::Exp, Function::Reciprocal],
            &sigmoid,
        ),
        (Function::Silu, &[Function::Sigmoid], &|x| {
            x * value(Function::Sigmoid, x)
        }),
        (Function::Tanh, &[Function::Sigmoid], &|x| {
            2.0 * value(Function::Sigmoid, 2.0 * x) - 1.0
        }),
        (Function::Gelu, &[Function::Erf], &|x| {
            0.5 * x * (value(Function::Erf, x * std::f32::consts::FRAC_1_SQRT_2) + 1.0)
        }),
        (Function::QuickGelu, &[Function::Sigmoid], &|x| {
            x * value(Function::Sigmoid, 1.702 * x)
        }),
        (Function::Softplus, &[Function::Exp, Function::Log], &|x| {
            value(Function::Log, value(Function::Exp, x) + 1.0)
        }),
        (Function::Exp, &[Function::Exp2], &|x| {
            value(Function::Exp2, x * std::f32::consts::LOG2_E)
        }),
        (Function::HardSigmoid, &[], &|x| {
            (x * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0)
        }),
        (Function::HardSwish, &[], &|x| {
            x * (x * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0)
        }),
    ];
    for (function, parts, plain) in cases {
        let unit = unit(function, parts);
        let evaluator = unit.evaluator().unwrap();
        for x in between(-9.0, 9.0, 2000)
            .map(|x| x as f32)
            .filter(|x| *x != 0.0)
        {
            let got = evaluator.one(f64::from(x)) as f32;
            assert_eq!(got.to_bits(), plain(x).to_bits(), "{function}({x})");
        }
        specials_hold(&unit);
    }
    let lacking = unit(Function::Sigmoid, &[Function::Exp]).evaluator();
    assert!(lacking.is_err_and(|e| e.to_string().contains("`exp` and `reciprocal`")));
}

#[test]
fn files() {
    let text = r#"
        function = "sigmoid"
        input = { format = "fp16" }
        output = { format = "fp16", overflow = "saturate" }
        [design.mirrored]
        limit = 8.0
        beyond = 1.0
        register = { format = "int16", fraction = 14, rounding = "down" }
        [design.mirrored.kernel.polynomial]
        segments = { uniform = { low = 0.0, high = 8.0, count = 2 } }
        origin = "start"
        coefficients = [[0.5, 0.12], [0.98, 0.005]]
        coefficient = { format = "int16", fraction = 14 }
        register = { format = "int16", fraction = 14, rounding = "down" }
        fma = true
    "#;
    let unit: FunctionUnit = toml::from_str(text).unwrap();
    let evaluator = unit.evaluator().unwrap();
    assert_eq!(
        (
            evaluator.one(0.0),
            evaluator.one(100.0),
            evaluator.one(-100.0)
        ),
        (0.5, 1.0, 0.0)
    );
    let written = toml::to_string(&unit).unwrap();
    assert_eq!(toml::from_str::<FunctionUnit>(&written).unwrap(), unit);
    for (field, wrong) in [
        ("limit = 8.0", "limit = 8.0\nlimits = 3"),
        ("\"fp16\" }", "\"fp16\", bits = 3 }"),
        ("function = \"sigmoid\"", "function = \"sigma\""),
    ] {
        let error = toml::from_str::<FunctionUnit>(&text.replace(field, wrong));
        assert!(error.is_err(), "{wrong}");
    }
    for (field, wrong) in [
        ("[[0.5, 0.12], [0.98, 0.005]]", "[[0.5, 0.12]]"),
        ("count = 2", "count = 0"),
        ("count = 2", "count = 4000000000"),
        ("high = 8.0", "high = -8.0"),
        ("high = 8.0", "high = nan"),
        ("fraction = 14 }", "fraction = 300 }"),
        ("\"int16\", fraction = 14 }", "\"nf4\" }"),
        ("\"int16\", fraction = 14 }", "\"int64\" }"),
    ] {
        let unit: FunctionUnit = toml::from_str(&text.replace(field, wrong)).unwrap();
        assert!(unit.evaluator().is_err(), "{wrong}");
    }
    let schema = serde_json::to_string(&schemars_of()).unwrap();
    assert!(schema.contains("mirrored") && schema.contains("goldschmidt"));
}

fn schemars_of() -> schemars::Schema {
    schemars::schema_for!(FunctionUnit)
}

/// Largest errors of units of a word: those of the ideal polynomials, and f32's own rounding.
#[test]
fn units_of_a_word_are_as_good_as_their_polynomials() {
    let f32 = Register::f32();
    let cases = [
        // 2^f on one segment: the relative errors of the ideal polynomials of degrees 2 and 4.
        (Function::Exp2, "poly1x2", -20.0, 20.0, 1.72e-3, 1.75e-3),
        (Function::Exp2, "poly1x4", -20.0, 20.0, 2.5e-6, 3.2e-6),
        // 1/m in segments of degree 0: half the ratio of a segment's ends.
        (Function::Reciprocal, "table64", 1e-3, 1e3, 7.2e-3, 7.9e-3),
        // Tables and degree 1 over two binades, as published.
        (Function::Rsqrt, "poly16x1", 1.0, 4.0, 9e-4, 1.8e-3),
    ];
    for (function, word, low, high, least, most) in cases {
        let unit = FunctionUnit::of_word(function, word, f32).unwrap().unwrap();
        let evaluator = unit.evaluator().unwrap();
        let errors = Errors::measure(&evaluator, between(low, high, 200_001));
        let error = errors.largest_relative();
        assert!((least..most).contains(&error), "{function} {word}: {error}");
    }
    for (function, word, bound) in [
        (Function::Sigmoid, "poly32x2", 1e-4),
        (Function::Silu, "poly32x2", 1e-3),
        (Function::Gelu, "poly64x2", 1e-3),
        (Function::Tanh, "poly64x2", 2e-4),
    ] {
        let unit = FunctionUnit::of_word(function, word, f32).unwrap().unwrap();
        let errors = Errors::measure(&unit.evaluator().unwrap(), between(-12.0, 12.0, 20_001));
        let error = errors.absolute.error.abs();
        assert!(error < bound && error > 0.0, "{function} {word}: {error}");
    }
    for word in ["poly", "poly0x2", "table", "tablex", "64"] {
        let made = FunctionUnit::of_word(Function::Exp2, word, f32);
        assert!(!matches!(made, Ok(Some(_))), "{word}");
    }
}
