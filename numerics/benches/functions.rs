//! Function units: numbers a second on one core. `-- exhaustive FILE..` measures every f32 in [1, 4) for every row of tables
//! like those in tests/data/numerics and prints where the largest errors are.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "../tests/rsqrt_rows.rs"]
mod rsqrt_rows;

use presil_numerics::function::measure::Errors;

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

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|a| a == "exhaustive") {
        for file in &arguments[at + 1..] {
            exhaustive(file);
        }
        return;
    }
}
