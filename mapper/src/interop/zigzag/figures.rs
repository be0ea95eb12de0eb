//! Figures of layers, as recorded and as counted.

use super::record::Layer;
use super::{Case, ConventionError, Figure};
use crate::conventions::zigzag::{LevelReport, Report, report};

/// Names of the four transfers in records, in the order of [`Transfer::ALL`].
const WORDS: [&str; 4] = [
    "wr_in_by_high",
    "rd_out_to_high",
    "rd_out_to_low",
    "wr_in_by_low",
];
/// All figures of a case of one layer as the convention counts them; none if it has no einsum.
///
/// # Errors
/// If the layer has no mapping, or one that the convention cannot count.
pub fn counted_figures(case: &Case) -> Result<Vec<Figure>, ConventionError> {
    let Some(e) = case.einsums.first() else {
        return Ok(Vec::new());
    };
    let names = case.operand_names(0);
    let tree = e.mapping.clone().unwrap_or_default();
    let r = report(&e.einsum, &e.hierarchy, &tree)?;
    let mut figures = time_figures(&r);
    let mut add = |name: String, value| figures.push(Figure { name, value });
    let memory = r.memory_energy();
    add("energy.total".into(), memory + r.operation_energy);
    add("energy.mac".into(), r.operation_energy);
    add("energy.memory".into(), memory);
    add("operations".into(), r.operations);
    for l in &r.levels {
        let operand = &names[l.operand];
        let at = format!("{operand}.{}", e.hierarchy.levels[l.level].name());
        add(format!("energy.{at}"), level_energy(l));
        add(format!("memory utilization.{at}"), l.utilization);
        for (name, words) in WORDS.iter().zip(l.words) {
            add(format!("words.{at}.{name}"), words);
        }
        if is_outermost(&r, l) {
            add(format!("elements.{operand}"), l.tile);
        }
    }
    for p in &r.ports {
        let level = &e.hierarchy.levels[p.level];
        let port = level.memory().and_then(|m| m.ports.get(p.port));
        let port = port.map_or("?", |p| p.name.as_str());
        add(format!("stall.{}.{port}", level.name()), p.stall);
    }
    Ok(figures)
}

fn is_outermost(r: &Report, level: &LevelReport) -> bool {
    let of = r.levels.iter().filter(|l| l.operand == level.operand);
    of.map(|l| l.level).min() == Some(level.level)
}

fn level_energy(l: &LevelReport) -> f64 {
    let [fill, drain, read, update] = l.energy;
    (drain + read) + (fill + update)
}

fn time_figures(r: &Report) -> Vec<Figure> {
    let with_stall = r.computation + r.stall;
    let with_onload = with_stall + r.onloading;
    let figures = [
        ("latency.total", r.cycles()),
        ("latency.ideal", r.ideal),
        ("latency.ideal_temporal", r.computation),
        ("latency.stall_slack_comb", r.stall),
        ("latency.onloading", r.onloading),
        ("latency.offloading", r.offloading),
        ("latency.systolic_drain", r.systolic_drain),
        ("latency.compute_with_stall", with_stall),
        ("latency.with_onload", with_onload),
        ("utilization.spatial", r.ideal / r.computation),
        ("utilization.u0", r.ideal / with_stall),
        ("utilization.u1", r.ideal / with_onload),
        ("utilization.u2", r.ideal / r.cycles()),
    ];
    figures
        .into_iter()
        .map(|(name, value)| Figure {
            name: name.into(),
            value,
        })
        .collect()
}

pub(super) fn recorded_figures(layer: &Layer) -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    let mut add = |name: String, value: f64| figures.push(Figure { name, value });
    add("energy.total".into(), layer.energy.total);
    add("energy.mac".into(), layer.energy.mac);
    add("energy.memory".into(), layer.energy.memory);
    add("operations".into(), layer.total_macs);
    for (name, value) in layer.latency.iter() {
        add(format!("latency.{name}"), *value);
    }
    for (name, value) in layer.utilization.iter() {
        add(format!("utilization.{name}"), *value);
    }
    for (operand, value) in layer.operand_elems.iter() {
        add(format!("elements.{operand}"), *value);
    }
    for (memory, ports) in layer.stall_slack_per_port.iter() {
        for (port, value) in ports.iter() {
            add(format!("stall.{memory}.{port}"), *value);
        }
    }
    for (operand, memories) in layer.memory_levels_inner_to_outer.iter() {
        let known = |what: &str, n: Option<usize>| match n == Some(memories.len()) {
            true => Ok(()),
            false => Err(format!("`{operand}` needs {what} for each of its memories")),
        };
        let energy = layer.energy.per_operand_per_level.get(operand);
        let used = layer.memory_utilization.get(operand);
        let words = layer.memory_word_accesses.get(operand);
        known("an energy", energy.map(Vec::len))?;
        known("a utilization", used.map(Vec::len))?;
        known("word accesses", words.map(Vec::len))?;
        for (i, memory) in memories.iter().enumerate() {
            let at = format!("{operand}.{memory}");
            add(format!("energy.{at}"), energy.map_or(0.0, |e| e[i]));
            add(
                format!("memory utilization.{at}"),
                used.map_or(0.0, |u| u[i]),
            );
            for (name, value) in words.iter().flat_map(|w| w[i].iter()) {
                add(format!("words.{at}.{name}"), *value);
            }
        }
    }
    Ok(figures)
}
