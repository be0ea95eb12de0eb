//! Which colour a thing has, the same in every figure of a report.
//!
//! The series follow the palette of Okabe and Ito, "Color Universal Design" (2008), which stays apart in the common
//! forms of colour blindness; the style sheet holds the values, for light and for dark.

use crate::figures::{self, Kind, Part, View};
use crate::svg::Ink;
use presil_sim::Run;

const COMPUTE: u8 = 0;
const MEMORIES: [u8; 6] = [1, 2, 3, 4, 5, 12];
const VECTOR: u8 = 6;
const OTHERS: [u8; 3] = [7, 11, 13];
const LATENCY: u8 = 8;
const STATIC: u8 = 9;
const REST: u8 = 10;
const CLASSES: [u8; 7] = [0, 1, 6, 4, 2, 7, 3];

fn series(n: u8) -> Ink {
    Ink(Ink::SERIES + n)
}

fn nth(list: &[u8], n: usize) -> Ink {
    series(list.get(n).or(list.last()).copied().unwrap_or(REST))
}

/// The colour of a part of time or energy.
pub fn ink(view: &View<'_>, part: &Part) -> Ink {
    match part.kind {
        Kind::Compute => series(COMPUTE),
        Kind::Memory => memory(view, &part.name),
        Kind::Vector => series(VECTOR),
        Kind::Other => {
            let mut others = view.components.iter().filter(|c| c.1 == Kind::Other);
            nth(
                &OTHERS,
                others
                    .position(|c| c.0 == part.name)
                    .unwrap_or(OTHERS.len()),
            )
        }
        Kind::Latency => series(LATENCY),
        Kind::Static => series(STATIC),
        Kind::Rest => series(REST),
    }
}

/// The colour of a memory.
pub fn memory(view: &View<'_>, name: &str) -> Ink {
    nth(
        &MEMORIES,
        view.memories
            .iter()
            .position(|m| *m == name)
            .unwrap_or(MEMORIES.len()),
    )
}

/// The op classes of a Run that have a colour of their own: those that take most time, at most seven.
pub fn classes(run: &Run) -> Vec<(&str, Ink)> {
    let mut sums: Vec<(&str, f64)> = Vec::new();
    for op in run
        .phases
        .iter()
        .flat_map(|p| &p.ops)
        .filter(|op| op.executed_macs > 0)
    {
        match sums.iter_mut().find(|s| s.0 == op.class) {
            Some(s) => s.1 += figures::finite(op.time.total_s),
            None => sums.push((&op.class, figures::finite(op.time.total_s))),
        }
    }
    sums.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    sums.into_iter()
        .zip(CLASSES)
        .map(|((name, _), n)| (name, series(n)))
        .collect()
}

/// The colour of an op's class.
pub fn class(classes: &[(&str, Ink)], name: &str) -> Ink {
    classes
        .iter()
        .find(|c| c.0 == name)
        .map_or(series(LATENCY), |c| c.1)
}
