//! Why not better: what one more of each resource would give.
//!
//! The case is searched again on machines that differ in one thing: a memory with 1 KiB more, a port that moves
//! one element more in a cycle, an axis with one instance more. The difference of the optima is that resource's
//! shadow price at this machine; energies per access and clocks stay as they are. Where a search is not proven,
//! its price is a bound only, and is told so.

use presil_mapper::case::Case;
use presil_mapper::hierarchy::{Hierarchy, Level};

use super::Options;
use super::solve::{Proof, solve};

/// What one more of a resource would give.
#[derive(Debug, Clone, PartialEq)]
pub struct Price {
    /// What there is one more of: "1 KiB of glb".
    pub resource: String,
    /// The objective with it.
    pub value: f64,
    /// Its change relative to the objective without.
    pub change: f64,
    /// Whether both are proven.
    pub proven: bool,
}

/// Prices of every limit of a case's machine, the largest gain first.
pub fn explain(case: &Case, options: &Options, proof: &Proof) -> Vec<Price> {
    let Some(first) = case.einsums.first() else {
        return Vec::new();
    };
    let price = |(resource, change): (String, Change)| {
        let mut wider = case.clone();
        for einsum in &mut wider.einsums {
            // An einsum whose path ends further out does not see the level.
            if let Some(level) = einsum.hierarchy.levels.get_mut(change.level) {
                change.apply(level);
            }
        }
        let (_, found) = solve(&wider, options).ok()?;
        Some(Price {
            resource,
            value: found.found,
            change: (found.found - proof.found) / proof.found,
            proven: proof.proven && found.proven,
        })
    };
    let mut prices: Vec<Price> = changes(&first.hierarchy)
        .into_iter()
        .filter_map(price)
        .collect();
    prices.sort_by(|a, b| a.change.total_cmp(&b.change));
    prices
}

/// One more of one resource.
#[derive(Debug, Clone, Copy)]
struct Change {
    level: usize,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    /// So many bits of capacity.
    Capacity(f64),
    /// So many bits per cycle of a port.
    Rate(usize, f64),
    /// One instance of an axis.
    Instance(usize),
}

impl Change {
    fn apply(self, level: &mut Level) {
        match (level, self.what) {
            (Level::Memory(m), What::Capacity(bits)) => m.capacity += bits,
            (Level::Memory(m), What::Rate(p, bits)) => {
                if let Some(port) = m.ports.get_mut(p) {
                    port.read_rate += bits;
                    port.write_rate += bits;
                }
            }
            (Level::Fanout(f), What::Instance(a)) => {
                if let Some(axis) = f.axes.get_mut(a) {
                    axis.size += 1;
                }
            }
            _ => {}
        }
    }
}

/// Bits of 1 KiB.
const KIBIBYTE: f64 = 8192.0;

/// What there may be one more of.
fn changes(hierarchy: &Hierarchy) -> Vec<(String, Change)> {
    let mut changes = Vec::new();
    let mut add = |name: String, level: usize, what: What| {
        changes.push((name, Change { level, what }));
    };
    for (l, level) in hierarchy.levels.iter().enumerate() {
        match level {
            Level::Memory(m) => {
                if m.capacity.is_finite() {
                    add(format!("1 KiB of {}", m.name), l, What::Capacity(KIBIBYTE));
                }
                let word = m.bits.iter().copied().fold(0.0, f64::max);
                for (p, port) in m.ports.iter().enumerate() {
                    let name = format!("{word} bits/cycle of {} ({})", m.name, port.name);
                    add(name, l, What::Rate(p, word));
                }
            }
            Level::Fanout(f) => {
                for (a, axis) in f.axes.iter().enumerate() {
                    let name = format!("1 instance of {}.{}", f.name, axis.name);
                    add(name, l, What::Instance(a));
                }
            }
            Level::Compute(_) => {}
        }
    }
    changes
}
