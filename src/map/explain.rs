//! Why not better: what one more of each resource would give.
//!
//! The einsum is searched again on machines that differ in one thing: a memory with 1 KiB more, a port that moves
//! one element more in a cycle, an axis with one instance more. The difference of the optima is that resource's
//! shadow price at this machine; energies per access and clocks stay as they are. Where a search is not proven,
//! its price is a bound only, and is told so.

use presil_mapper::case::Case;
use presil_mapper::hierarchy::{Hierarchy, Level};
use presil_mapper::search::Objective;

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

/// Prices of every limit of an einsum's machine, the largest gain first.
pub fn explain(
    case: &Case,
    einsum: usize,
    objective: Objective,
    options: &Options,
    proof: &Proof,
) -> Vec<Price> {
    let hierarchy = &case.einsums[einsum].hierarchy;
    let before = proof.value(objective);
    let price = |(resource, machine): (String, Hierarchy)| {
        let mut wider = case.clone();
        wider.einsums[einsum].hierarchy = machine;
        let (_, found) = solve(&wider, einsum, objective, options).ok()?;
        let value = found.value(objective);
        Some(Price {
            resource,
            value,
            change: (value - before) / before,
            proven: proof.proven && found.proven,
        })
    };
    let mut prices: Vec<Price> = wider(hierarchy).into_iter().filter_map(price).collect();
    prices.sort_by(|a, b| a.change.total_cmp(&b.change));
    prices
}

/// Machines with one more of one resource.
fn wider(hierarchy: &Hierarchy) -> Vec<(String, Hierarchy)> {
    let mut machines = Vec::new();
    let mut add = |resource: String, level: usize, change: &dyn Fn(&mut Level)| {
        let mut machine = hierarchy.clone();
        change(&mut machine.levels[level]);
        machines.push((resource, machine));
    };
    for (l, level) in hierarchy.levels.iter().enumerate() {
        match level {
            Level::Memory(m) => {
                if m.capacity.is_finite() {
                    add(format!("1 KiB of {}", m.name), l, &|level| {
                        if let Level::Memory(m) = level {
                            m.capacity += 8192.0;
                        }
                    });
                }
                let word = m.bits.iter().copied().fold(0.0, f64::max);
                for (p, port) in m.ports.iter().enumerate() {
                    let name = format!("{word} bits/cycle of {} ({})", m.name, port.name);
                    add(name, l, &|level| {
                        if let Level::Memory(m) = level {
                            m.ports[p].read_rate += word;
                            m.ports[p].write_rate += word;
                        }
                    });
                }
            }
            Level::Fanout(f) => {
                for (a, axis) in f.axes.iter().enumerate() {
                    let name = format!("1 instance of {}.{}", f.name, axis.name);
                    add(name, l, &|level| {
                        if let Level::Fanout(f) = level {
                            f.axes[a].size += 1;
                        }
                    });
                }
            }
            Level::Compute(_) => {}
        }
    }
    machines
}
