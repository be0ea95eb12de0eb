//! What no mapping that extends a partial one goes below, and when one partial mapping makes another needless.
//!
//! The bound adds to what is decided:
//!
//! - each storage still to come takes each element of its operand once (an output's gives each up once), and the storage
//!   above serves it, shared by no more than all axes between can share;
//! - what the outermost storages ask now is served by the next ones, each shared by no more than all axes further out
//!   (`c / s`). If every dimension leaves at most one operand unindexed, a loop shares one operand, so the shares
//!   of all multiply to at most the instances there are, and `sum c / s >= n (product of c / instances) ^ (1 / n)`;
//! - first visits save as much as the most instances outside allow;
//! - the time is at least what is decided over all instances outside, and at least the traffic that the ports of the
//!   outermost group are known to have.

use super::model::{Model, Outer};
use super::tally::Tally;

/// A lower bound of the objective for all that extends a partial mapping of a placement.
pub(super) fn bound(model: &Model, chains: &[Vec<usize>], t: &Tally, outer: &Outer) -> f64 {
    let mut energy = t.energy - t.saved * outer.apart;
    let mut busy = vec![Vec::new(); model.hierarchy.levels.len()];
    let mut add = |level: usize, cycles: &[f64], words: f64| {
        let ports: &mut Vec<f64> = &mut busy[level];
        ports.resize(ports.len().max(cycles.len()), 0.0);
        ports
            .iter_mut()
            .zip(cycles)
            .for_each(|(p, c)| *p += c * words);
    };
    // What serving costs, and the most that share it.
    let mut serving: Vec<(f64, f64)> = Vec::new();
    for (o, x) in model.operands.iter().enumerate() {
        let chain = &chains[o][..t.left[o]];
        let Some(next) = chain.last() else {
            continue;
        };
        let outside = |level: usize| model.outer(model.group_of(level), 0).shared[o];
        let share = outer.shared[o] / outside(*next);
        let (each, cycles) = (model.energy(*next, o), model.cycles(*next, o));
        let asks = t.asks[o];
        let (reads, writes) = match x.output {
            true => ((asks - t.first * outer.apart * share).max(0.0), asks),
            false => (asks, 0.0),
        };
        serving.push((reads * each[2] + writes * each[3], share));
        if model.group_of(*next) == 0 {
            add(*next, &cycles[2], reads / share);
            add(*next, &cycles[3], writes / share);
        }
        // Storages still to come: each takes every element once.
        let (fill, serve) = if x.output { (1, 3) } else { (0, 2) };
        for pair in chain.windows(2) {
            let served = x.elements * outside(pair[0]) / outside(pair[1]);
            energy += x.elements * model.energy(pair[1], o)[fill];
            energy += served * model.energy(pair[0], o)[serve];
            for (level, kind, words) in [(pair[1], fill, x.elements), (pair[0], serve, served)] {
                if model.group_of(level) == 0 {
                    add(level, &model.cycles(level, o)[kind], words);
                }
            }
        }
    }
    energy += shared(model, &serving, outer.instances);
    let busiest = busy.iter().flatten().copied().fold(0.0, f64::max);
    let cycles = t.time / outer.instances * model.operations / model.rate;
    model.figure(energy, cycles.max(busiest))
}

/// Least cost of what is served to all operands.
fn shared(model: &Model, serving: &[(f64, f64)], instances: f64) -> f64 {
    let alone: f64 = serving.iter().map(|(cost, share)| cost / share).sum();
    let one = |d: usize| model.operands.iter().filter(|x| !x.indexed[d]).count() <= 1;
    let exclusive = (0..model.sizes.len())
        .filter(|d| model.sizes[*d] > 1)
        .all(one);
    let spread: Vec<f64> = serving
        .iter()
        .filter(|(cost, share)| *share > 1.0 && *cost > 0.0)
        .map(|s| s.0)
        .collect();
    if !exclusive || spread.len() < 2 {
        return alone;
    }
    let n = spread.len() as f64;
    let mean = (spread.iter().product::<f64>() / instances).powf(1.0 / n);
    let rest: f64 = serving.iter().filter(|s| s.1 <= 1.0).map(|s| s.0).sum();
    alone.max(rest + n * mean)
}

/// Rounding that comparisons allow.
const ROUNDING: f64 = 1e-11;

fn at_most(a: f64, b: f64) -> bool {
    a <= b + ROUNDING * a.abs().max(b.abs())
}

/// Whether whatever extends `b` extends `a` as well, and is then at least as good. `inside`: a fan is being told; `open`:
/// memories where storages are still to come.
pub(super) fn no_worse(
    model: &Model,
    (a, b): (&Tally, &Tally),
    outer: &Outer,
    inside: bool,
    open: &[usize],
) -> Result<(), &'static str> {
    // What a cost and its savings become, at either end of what multiplies the savings.
    let settled = |(cost, saved): (f64, f64), (more, less): (f64, f64)| {
        let ends = [1.0, outer.apart];
        // Savings cancel: the rounding is that of the costs.
        let room = ROUNDING * cost.abs().max(more.abs());
        ends.iter()
            .all(|n| cost - saved * n <= more - less * n + room)
    };
    let ports = |a: &[(usize, usize, f64, f64)], b: &[(usize, usize, f64, f64)]| {
        a.iter().all(|p| {
            let other = b.iter().find(|q| (q.0, q.1) == (p.0, p.1));
            settled((p.2, p.3), other.map_or((0.0, 0.0), |q| (q.2, q.3)))
        })
    };
    let dims = 0..model.sizes.len();
    let even = |d: usize, tile: u64| model.sizes[d].is_multiple_of(tile);
    let alike = || {
        dims.clone().filter(|d| outer.dims[*d]).all(|d| {
            model.operands.iter().enumerate().all(|(o, x)| {
                let (k, l) = (a.kept[o][d], b.kept[o][d]);
                x.indexed[d] || k == l || (even(d, k) && even(d, l))
            }) && (a.uneven[d] || !b.uneven[d])
        })
    };
    if a.tile != b.tile || a.top != b.top || a.left != b.left {
        return Err("stands elsewhere");
    }
    if !open.is_empty() && a.touching != b.touching {
        return Err("has other storages directly inside");
    }
    if !open.iter().all(|m| at_most(a.used[*m], b.used[*m])) {
        return Err("takes more room");
    }
    if !settled((a.energy, a.saved), (b.energy, b.saved)) {
        return Err("takes more energy");
    }
    if !at_most(a.time, b.time)
        || !at_most(a.compute, b.compute)
        || !ports(&a.late, &b.late)
        || !ports(&a.here, &b.here)
    {
        return Err("takes more time");
    }
    if !at_most(b.first, a.first) {
        return Err("has fewer first visits");
    }
    if !a.asks.iter().zip(&b.asks).all(|(x, y)| at_most(*x, *y)) {
        return Err("asks for more");
    }
    let goes_on = outer.dims.contains(&true);
    if !model.perfect && goes_on && ((inside && a.below != b.below) || !alike()) {
        return Err("has other partial tiles");
    }
    if !model.perfect && goes_on && inside && a.fan.len().max(b.fan.len()) > 0 {
        // Two axes at most: one is told, and its tiles are the same.
        let of = |t: &Tally| {
            t.fan
                .iter()
                .map(|l| l.1)
                .collect::<std::collections::BTreeSet<_>>()
        };
        if of(a).len() > 1 || of(b).len() > 1 {
            return Err("has other loops along several axes");
        }
    }
    Ok(())
}
