//! One mean decode step of many.
//!
//! The n-th of `generate` tokens after a prompt of `prompt` attends to `prompt + n` tokens, itself included. Up to
//! [`ALL`] steps every context is evaluated. Beyond that [`NODES`] contexts are, spread evenly, the first and the
//! last among them, with weights that make the mean exact for every function that is linear between neighbours:
//! over a run of `m` contexts from `a` up to but without `b`
//!
//! ```text
//! sum f = f(a) (m + 1) / 2 + f(b) (m - 1) / 2
//! ```
//!
//! Decode time and energy are piecewise linear in the context (cache traffic, attention MACs) but for the steps of
//! tiles: the mean of nine contexts was within 1e-4 of that of all steps in what was tried (`tests/sanity.rs` holds two of those).

use crate::run::{OpRun, Phase, TimeParts};

use super::{add_energy, add_traffic, push_new};

/// Steps up to which every context is evaluated.
const ALL: u64 = 16;
/// Contexts evaluated beyond that.
const NODES: u64 = 9;

/// Contexts to evaluate and their weights, which sum to 1.
pub fn decode_contexts(prompt: u64, generate: u64) -> Vec<(u64, f64)> {
    let first = prompt.saturating_add(1);
    let n = generate.max(1);
    if n <= ALL {
        return (0..n)
            .map(|i| (first.saturating_add(i), 1.0 / n as f64))
            .collect();
    }
    let at = |k: u64| (u128::from(k) * u128::from(n - 1) / u128::from(NODES - 1)) as u64;
    let mut nodes: Vec<(u64, f64)> = (0..NODES)
        .map(|k| (first.saturating_add(at(k)), 0.0))
        .collect();
    for k in 1..nodes.len() {
        let m = (nodes[k].0 - nodes[k - 1].0) as f64;
        nodes[k - 1].1 += (m + 1.0) / 2.0 / n as f64;
        nodes[k].1 += (m - 1.0) / 2.0 / n as f64;
    }
    if let Some(last) = nodes.last_mut() {
        last.1 += 1.0 / n as f64;
    }
    nodes
}

/// The mean of phases of equal structure with their weights (which sum to 1): ops by position. Counts that come
/// out fractional are rounded. Shapes, mappings and notes are those of the phase in the middle.
pub fn mean_phase(phases: Vec<(Phase, f64)>) -> Phase {
    let middle = phases.len() / 2;
    let Some((pattern, _)) = phases.get(middle) else {
        return Phase::default();
    };
    if phases.len() == 1 {
        return pattern.clone();
    }
    let mut mean = Phase {
        ops: Vec::new(),
        energy: Vec::new(),
        traffic: Vec::new(),
        root_traffic: Vec::new(),
        ..pattern.clone()
    };
    let of = |f: &dyn Fn(&Phase) -> f64| phases.iter().map(|(p, w)| f(p) * w).sum::<f64>();
    mean.latency_s = of(&|p| p.latency_s);
    mean.interval_s = of(&|p| p.interval_s);
    mean.partition.pipeline = None;
    mean.cold_latency_s = of(&|p| p.cold_latency_s);
    mean.lower_bound_s = of(&|p| p.lower_bound_s);
    mean.utilization = of(&|p| p.utilization);
    mean.energy_j = of(&|p| p.energy_j);
    mean.cold_energy_j = of(&|p| p.cold_energy_j);
    mean.macs = of(&|p| p.macs as f64).round() as u128;
    mean.executed_macs = of(&|p| p.executed_macs as f64).round() as u128;
    mean.cache_bytes = of(&|p| p.cache_bytes as f64).round() as u64;
    mean.peak_activation_bytes = phases
        .iter()
        .map(|(p, _)| p.peak_activation_bytes)
        .max()
        .unwrap_or(0);
    // The plan that needs most room.
    let needs = |p: &Phase| {
        p.memory_plan
            .memories
            .iter()
            .map(|m| m.peak_bytes)
            .sum::<u64>()
    };
    if let Some((largest, _)) = phases.iter().rev().max_by_key(|(p, _)| needs(p)) {
        mean.memory_plan = largest.memory_plan.clone();
    }
    // Sets of the middle one, with their part of the mean time.
    mean.partition.sets.iter_mut().for_each(|s| {
        if pattern.latency_s > 0.0 {
            s.latency_s *= mean.latency_s / pattern.latency_s;
        }
    });
    for (p, w) in &phases {
        for e in &p.energy {
            add_energy(&mut mean.energy, &e.component, &e.action, e.energy_j * w);
        }
        for t in &p.traffic {
            add_traffic(
                &mut mean.traffic,
                &t.memory,
                t.read_bytes * w,
                t.write_bytes * w,
            );
        }
        for (name, bytes) in &p.root_traffic {
            match mean.root_traffic.iter_mut().find(|r| r.0 == *name) {
                Some(r) => r.1 += bytes * w,
                None => mean.root_traffic.push((name.clone(), bytes * w)),
            }
        }
        for a in &p.assumptions {
            push_new(&mut mean.assumptions, a);
        }
        for u in &p.unmodelled {
            push_new(&mut mean.unmodelled, u);
        }
    }
    for (i, op) in pattern.ops.iter().enumerate() {
        let same: Vec<(&OpRun, f64)> = phases
            .iter()
            .filter_map(|(p, w)| p.ops.get(i).filter(|o| o.name == op.name).map(|o| (o, *w)))
            .collect();
        mean.ops.push(mean_op(op, &same));
    }
    push_new(
        &mut mean.assumptions,
        &format!(
            "decode is the mean over {} contexts; shapes and mappings shown are those of the middle one",
            phases.len()
        ),
    );
    mean
}

fn mean_op(pattern: &OpRun, ops: &[(&OpRun, f64)]) -> OpRun {
    let of = |f: &dyn Fn(&OpRun) -> f64| ops.iter().map(|(o, w)| f(o) * w).sum::<f64>();
    let mut time = TimeParts {
        total_s: of(&|o| o.time.total_s),
        compute_s: of(&|o| o.time.compute_s),
        vector_s: of(&|o| o.time.vector_s),
        latency_s: of(&|o| o.time.latency_s),
        memory_s: Vec::new(),
    };
    let mut mean = OpRun {
        energy: Vec::new(),
        traffic: Vec::new(),
        ..pattern.clone()
    };
    for (o, w) in ops {
        for (name, t) in &o.time.memory_s {
            match time.memory_s.iter_mut().find(|m| m.0 == *name) {
                Some(m) => m.1 += t * w,
                None => time.memory_s.push((name.clone(), t * w)),
            }
        }
        for e in &o.energy {
            add_energy(&mut mean.energy, &e.component, &e.action, e.energy_j * w);
        }
        for t in &o.traffic {
            add_traffic(
                &mut mean.traffic,
                &t.memory,
                t.read_bytes * w,
                t.write_bytes * w,
            );
        }
    }
    mean.macs = of(&|o| o.macs as f64).round() as u128;
    mean.executed_macs = of(&|o| o.executed_macs as f64).round() as u128;
    mean.utilization = of(&|o| o.utilization);
    let intensities = ops
        .iter()
        .filter_map(|(o, w)| o.intensity.map(|i| (i * w, *w)));
    let (sum, weight) = intensities.fold((0.0, 0.0), |(s, t), (i, w)| (s + i, t + w));
    mean.intensity = (weight > 0.0).then(|| sum / weight);
    mean.time = time;
    mean
}
