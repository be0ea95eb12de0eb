//! Inverse square roots: every row of the published tables, at its worst arguments and on a part of all.

use presil_numerics::Format;
use presil_numerics::function::fit::{Weight, minimax};
use presil_numerics::function::measure::Errors;
use presil_numerics::function::presets::function_units;
use presil_numerics::function::{Evaluator, FunctionUnit};

use crate::reference;
use crate::rsqrt_rows::{two_binades, unit_of};

fn rows(file: &str) -> Vec<Vec<String>> {
    let text = reference(file);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let records = reader.records();
    records
        .map(|r| r.unwrap().iter().map(String::from).collect())
        .collect()
}

fn relative(evaluator: &Evaluator, bits: &str) -> f64 {
    let x = f64::from(f32::from_bits(u32::from_str_radix(bits, 16).unwrap()));
    evaluator.one(x) * x.sqrt() - 1.0
}

#[test]
fn rows_of_the_tables() {
    let worst = rows("rsqrt_worst.csv");
    let published = [rows("rsqrt_published.csv"), rows("rsqrt_designed.csv")].concat();
    assert_eq!((worst.len(), published.len()), (117, 117));
    for (row, worst) in published.iter().zip(&worst) {
        let name = row[0].as_str();
        assert_eq!(name, worst[0]);
        let evaluator = unit_of(name).unwrap().evaluator().unwrap();
        let number = |field: usize| row[field].parse::<f64>().unwrap();
        // Printed to nine digits.
        let same =
            |found: f64, printed: f64| (found - printed).abs() <= 6e-9 * printed.abs() + 3e-16;
        let [above, below] = [1, 2].map(|i| relative(&evaluator, &worst[i]));
        assert!(same(above, number(2)), "{name}: {above:e} above");
        assert!(same(below, number(3)), "{name}: {below:e} below");
        let part = Errors::measure(&evaluator, two_binades(1021));
        let largest = part.largest_relative();
        assert!(largest <= number(1) * (1.0 + 6e-9), "{name}: {largest:e}");
        assert!(part.ulp.error <= number(4) * 1.0001 + 0.001, "{name}");
        // A sample of one in 1021 knows means to a few percent.
        let rms = part.relative_rms / number(5);
        assert!((0.93..1.07).contains(&rms), "{name}: {rms}");
        let share = 100.0 * part.not_nearest as f64 / part.count as f64;
        assert!((share - number(7)).abs() < 2.0, "{name}: {share}");
    }
}

#[test]
fn ideal_polynomials() {
    for row in rows("rsqrt_piecewise.csv") {
        let [segments, degree] = [0, 1].map(|i| row[i].parse::<usize>().unwrap());
        let each = segments / 2;
        let binades = [1.0, 2.0].into_iter();
        let parts = binades.flat_map(|b| {
            (0..each).map(move |i| {
                let border = |i: usize| b * (1.0 + i as f64 / each as f64);
                [border(i), border(i + 1)]
            })
        });
        let fitted = parts.map(|part| {
            minimax(|x| 1.0 / x.sqrt(), part, degree, Weight::Relative, part[0])
                .unwrap()
                .error
        });
        let error = fitted.fold(0.0, f64::max);
        let printed: f64 = row[2].parse().unwrap();
        assert!((error / printed - 1.0).abs() < 6e-5, "{row:?}: {error:e}");
    }
}

/// Degrees 1 to 5 of 2^f on [0, 1) and of 1/m on [1, 2).
#[test]
fn ideal_errors_by_degree() {
    let exp2 = [2.98e-2, 1.72e-3, 7.5e-5, 2.6e-6, 7.5e-8];
    let reciprocal = [5.9e-2, 1.01e-2, 1.73e-3, 2.97e-4, 5.1e-5];
    for degree in 1..=5 {
        let e = minimax(f64::exp2, [0.0, 1.0], degree, Weight::Relative, 0.0).unwrap();
        let r = minimax(|x| 1.0 / x, [1.0, 2.0], degree, Weight::Relative, 0.0).unwrap();
        // The figures have two or three digits.
        let near = |error: f64, printed: f64| (error / printed - 1.0).abs() < 0.02;
        assert!(near(e.error, exp2[degree - 1]), "{:e}", e.error);
        assert!(near(r.error, reciprocal[degree - 1]), "{:e}", r.error);
    }
    // Of 1/m the minimax error is known: 1/T_(n+1)(3), 2^-3/2 .. of relative errors on [1, 2].
    let t = |n: usize| ((n as f64) * 3f64.acosh()).cosh();
    for degree in 1..=5 {
        let r = minimax(|x| 1.0 / x, [1.0, 2.0], degree, Weight::Relative, 0.0).unwrap();
        assert!((r.error * t(degree + 1) - 1.0).abs() < 1e-6);
    }
    assert_eq!(minimax(|x| x, [-1.0, 1.0], 2, Weight::Relative, 0.0), None);
}

/// The published sources as they are written, in the machine's own f32.
#[test]
fn presets_as_published() {
    let units = function_units().unwrap();
    let unit = |name: &str| {
        let found = units.iter().find(|u| u.name == name).unwrap();
        found.unit.evaluator().unwrap()
    };
    let seed =
        |x: f32, magic: u32| f32::from_bits(magic.wrapping_sub(((x.to_bits() as i32) >> 1) as u32));
    let quake = |x: f32| {
        let half = x * 0.5;
        let y = seed(x, 0x5f37_59df);
        y * (1.5 - half * y * y)
    };
    let kadlec = |x: f32| {
        let y = seed(x, 0x5f1f_fff9);
        y * (0.703_952_25 * (2.389_244_6 - x * y * y))
    };
    let moroz = |x: f32| {
        let y = seed(x, 0x5f11_10a0);
        let c = x * y * y;
        y * (2.282_518_6 - c * (2.253_305 - c))
    };
    let sources: [(&str, &dyn Fn(f32) -> f32); 3] = [
        ("quake_1", &quake),
        ("kadlec_1", &kadlec),
        ("moroz_1", &moroz),
    ];
    for (name, source) in sources {
        let evaluator = unit(name);
        // Zeros and negative numbers go through as they do in the source; infinities and NaNs too. Half of a subnormal
        // number is rounded in the source of the first.
        let some = (0..1u32 << 16)
            .map(|i| f32::from_bits(i << 16 | i))
            .filter(|x| *x == 0.0 || x.is_nan() || x.abs() >= 2f32.powi(-125));
        for x in some {
            let mut y = [0.0];
            evaluator.apply(&[x], &mut y);
            let expected = source(x);
            let same = y[0].to_bits() == expected.to_bits() || y[0].is_nan() && expected.is_nan();
            assert!(same, "{name}({x:e}) = {:e}, not {expected:e}", y[0]);
        }
    }
    // The fitted ones are what the fit finds.
    for degree in 1..=3 {
        let fitted = unit_of(&format!("magic_0x5f200000_deg{degree}_fma"));
        let fitted = fitted.unwrap().evaluator().unwrap();
        let stored = unit(&format!("minimax_{degree}"));
        for x in two_binades(8191) {
            assert_eq!(fitted.one(x), stored.one(x));
        }
    }
    for named in &units {
        let json = serde_json::to_string(&named.unit).unwrap();
        assert_eq!(
            serde_json::from_str::<FunctionUnit>(&json).unwrap(),
            named.unit
        );
        assert_eq!(named.unit.output.format, Format::FP32);
        assert!(!named.source.is_empty());
    }
}
