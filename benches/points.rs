//! What 100 design points take, in units of one, and how fast mappings are looked at.
//!
//! *Points.* Each reference case of one einsum, and 100 machines of it: the energy of each memory is between half and twice
//! its own, drawn evenly in its logarithm; the size of each limited memory is 1/2, 1, 2 or 4 of its own. Printed is the
//! time of all at once by the mean time of each alone, on one thread; `optimum::solve_all` gives the same results.
//!
//! *Rate.* Mappings a second, on one thread:
//!
//! - *walked*: whole valid mappings, each of which `Options::exhaustive` counts exactly (energy and time), with no bound; at
//!   most [`WALKED`] of a case. Mappings that do not fit are not among them;
//! - *decided*: mappings of the raw space: every split of every extent into factors over the loops below each
//!   memory and along each axis. Those that do not fit are among them, orders of loops are not. The search decides
//!   them all: it proves which is best.

use std::time::Instant;

use presil::mapper::case::Case;
use presil::mapper::hierarchy::Level;
use presil::mapper::interop::accelforge::read;
use presil::mapper::optimum::{Options, solve, solve_all};

const POINTS: usize = 100;

/// Mappings of a case that are walked: some seconds of them.
const WALKED: u64 = 100_000_000;

/// A number below 1, and the next seed.
fn random(seed: &mut u64) -> f64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 40) as f64 / (1u64 << 24) as f64
}

fn point(case: &Case, seed: &mut u64) -> Case {
    let mut case = case.clone();
    let levels = case
        .einsums
        .iter_mut()
        .flat_map(|e| &mut e.hierarchy.levels);
    for level in levels {
        let Level::Memory(m) = level else { continue };
        let price = 0.5 * 4f64.powf(random(seed));
        m.read_energy *= price;
        m.write_energy *= price;
        m.update_energy *= price;
        m.capacity *= [0.5, 1.0, 2.0, 4.0][(random(seed) * 4.0) as usize];
    }
    case
}

fn seconds<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed().as_secs_f64(), result)
}

fn main() {
    let text = include_str!("../tests/data/mapping/optima_accelforge.json");
    let cases = read(text).map_or(Vec::new(), |r| r.cases);
    println!("{POINTS} points                 one alone      all at once    ratio   distinct");
    for perfect in [true, false] {
        for reference in cases.iter().filter(|r| r.case.einsums.len() == 1) {
            // Partial tiles on arrays take 100 points alone a minute and more.
            if !perfect && ["N03", "N05", "N18"].contains(&reference.id.as_str()) {
                continue;
            }
            let mut case = reference.case.clone();
            case.einsums[0].constraints.perfect = perfect;
            let options = Options {
                perfect,
                ..Options::new(case.objective)
            };
            let mut seed = 1;
            let points: Vec<Case> = (0..POINTS).map(|_| point(&case, &mut seed)).collect();
            let one = || points.iter().filter(|c| solve(c, &options).is_ok()).count();
            let alone = seconds(one).0 / POINTS as f64;
            let (together, found) = seconds(|| solve_all(&points, &options));
            let mut trees: Vec<String> = found
                .iter()
                .flatten()
                .map(|s| format!("{:?}", s.einsums[0].tree))
                .collect();
            trees.sort();
            trees.dedup();
            println!(
                "{:4} {:8} tiles  {:10.3} ms  {:10.3} ms  {:6.1}   {}",
                reference.id,
                if perfect { "perfect" } else { "partial" },
                alone * 1e3,
                together * 1e3,
                together / alone,
                trees.len()
            );
        }
    }
    println!();
    println!("rate  tiles       walked           walked/s   search        raw space  decided/s");
    for perfect in [true, false] {
        for reference in cases.iter().filter(|r| r.case.einsums.len() == 1) {
            let mut case = reference.case.clone();
            case.einsums[0].constraints.perfect = perfect;
            rate(&reference.id, &case, perfect);
        }
    }
}

fn rate(id: &str, case: &Case, perfect: bool) {
    let options = Options {
        perfect,
        ..Options::new(case.objective)
    };
    let walk = Options {
        work: WALKED,
        exhaustive: true,
        ..options
    };
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let Ok(one) = one else { return };
    let (walking, walked) = one.install(|| seconds(|| solve(case, &walk)));
    let (searching, _) = seconds(|| solve(case, &options));
    let Ok(walked) = walked else {
        println!("{id:4}  nothing is walked");
        return;
    };
    let raw = raw(case);
    println!(
        "{id:4}  {}  {:12} {}  {:8.1} M/s  {:7.2} ms  {raw:12.3e}  {:9.2e}",
        if perfect { "perfect" } else { "partial" },
        walked.expanded,
        if walked.complete { "(all) " } else { "(some)" },
        walked.expanded as f64 / walking / 1e6,
        searching * 1e3,
        raw / searching,
    );
}

/// Splits of the extents of an einsum into factors.
fn raw(case: &Case) -> f64 {
    let e = &case.einsums[0];
    let places = |level: &Level| match level {
        Level::Memory(_) => 1,
        Level::Fanout(f) => f.axes.len(),
        Level::Compute(_) => 0,
    };
    let places: usize = e.hierarchy.levels.iter().map(places).sum();
    e.einsum
        .dims
        .iter()
        .map(|d| splits(d.size, places))
        .product()
}

/// Ways to write a number as a product of so many factors, in order.
fn splits(mut number: u64, factors: usize) -> f64 {
    let mut ways = 1.0;
    let mut prime = 2;
    while number > 1 {
        let mut exponent = 0;
        while number.is_multiple_of(prime) {
            number /= prime;
            exponent += 1;
        }
        // Exponents over factors: stars and bars.
        for i in 1..=exponent {
            ways *= (factors - 1 + i) as f64 / i as f64;
        }
        prime += 1;
    }
    ways
}
