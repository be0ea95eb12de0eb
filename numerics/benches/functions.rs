//! Function units: numbers a second on one core. `-- exhaustive FILE..` measures every f32 in [1, 4) for every row of tables
//! like those in tests/data/numerics and prints where the largest errors are.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "../tests/rsqrt_rows.rs"]
mod rsqrt_rows;

use std::time::Instant;

use presil_numerics::Format;
use presil_numerics::function::fit::{Evaluation, Weight};
use presil_numerics::function::kernel::{Kernel, Origin, Polynomial, Target};
use presil_numerics::function::measure::Errors;
use presil_numerics::function::reduction::Mirrored;
use presil_numerics::function::segments::Segments;
use presil_numerics::function::unit::look_up;
use presil_numerics::function::{Design, Function, FunctionUnit, Register, SpecialValues};

fn exhaustive(file: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let Some(unit) = rsqrt_rows::unit_of(fields[0]) else {
            println!("{}: no unit", fields[0]);
            continue;
        };
        let evaluator = unit.evaluator().unwrap();
        let start = std::time::Instant::now();
        let errors = Errors::measure(&evaluator, rsqrt_rows::two_binades(1));
        let at = |x: f64| (x as f32).to_bits();
        let expected: f64 = fields[1].parse().unwrap();
        let got = errors.largest_relative();
        println!(
            "{},{:08x},{:08x},{:.4}",
            fields[0],
            at(errors.relative[0].at),
            at(errors.relative[1].at),
            100.0 * errors.not_nearest as f64 / errors.count as f64,
        );
        eprintln!(
            "{} {got:.8e} ({:+.1e}), {:.3} ulp ({}), {:.2} s",
            fields[0],
            got / expected - 1.0,
            errors.ulp.error,
            fields[4],
            start.elapsed().as_secs_f64(),
        );
    }
}

/// The best of several runs, in million numbers a second.
fn measure(name: &str, unit: &FunctionUnit, x: &[f32]) {
    let evaluator = unit.evaluator().unwrap();
    let mut y = vec![0.0; x.len()];
    let times = (0..9).map(|_| {
        let start = Instant::now();
        evaluator.apply(x, &mut y);
        start.elapsed().as_secs_f64()
    });
    let best = times.fold(f64::INFINITY, f64::min);
    println!("{name:<44} {:>8.0} M/s", x.len() as f64 / best / 1e6);
}

fn speed() {
    let x: Vec<f32> = rsqrt_rows::two_binades(41).map(|x| x as f32).collect();
    for method in [
        "quake1",
        "hal1nr",
        "table256_8bit_1NRfma",
        "table256_2NRfma",
        "pw_seg16_deg2",
        "pw_seg2_deg3",
    ] {
        let unit = rsqrt_rows::unit_of(method).unwrap();
        measure(&format!("rsqrt, f32: {method}"), &unit, &x);
    }
    for function in [
        Function::Exp,
        Function::Sigmoid,
        Function::Gelu,
        Function::Sin,
    ] {
        let unit = FunctionUnit::reference(function, Register::f32(), Register::f32());
        measure(&format!("{function}, reference"), &unit, &x);
    }
    let half = Register::float(Format::FP16);
    for (name, register) in [
        ("fp16", half),
        ("int16, 12 places", Register::fixed(16, 12)),
    ] {
        let fit = Polynomial::fit(
            Target::of(Function::Tanh),
            Segments::Uniform {
                low: 0.0,
                high: 4.0,
                count: 16,
            },
            2,
            Weight::Absolute,
            Origin::Start,
            Evaluation::within(register, true),
        );
        let unit = FunctionUnit {
            function: Function::Tanh,
            input: register,
            output: register,
            special_values: SpecialValues::Reference,
            design: Design::Mirrored(Mirrored {
                kernel: Kernel::Polynomial(fit.unwrap()),
                limit: 4.0,
                beyond: 1.0,
                register,
            }),
        };
        measure(&format!("tanh, 16 segments of degree 2, {name}"), &unit, &x);
        let table = unit.evaluator().unwrap().codes().unwrap();
        let codes: Vec<u16> = (0..1u32 << 20).map(|i| (i * 40_503) as u16).collect();
        let mut out = vec![0; codes.len()];
        let times = (0..9).map(|_| {
            let start = Instant::now();
            look_up(&table, &codes, &mut out);
            start.elapsed().as_secs_f64()
        });
        let best = times.fold(f64::INFINITY, f64::min);
        println!(
            "{:<44} {:>8.0} M/s",
            format!("the same by codes, {name}"),
            codes.len() as f64 / best / 1e6
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().position(|a| a == "exhaustive") {
        Some(at) => arguments[at + 1..].iter().for_each(|file| exhaustive(file)),
        None => speed(),
    }
}
