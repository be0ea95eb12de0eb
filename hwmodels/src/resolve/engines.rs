//! Engines: arrays, vector units, the host.

use presil_numerics::{IdVec, Joules, LanePrimitive, Seconds, SquareMm, Watts};

use super::{Context, node_named};
use crate::chip::{
    Engine, EngineId, EngineKind, Node, NodeId, NodeKind, PrimitiveCost, VectorMode,
};
use crate::decode::At;
use crate::sourced::{Provenance, Status};
use crate::spec::{ArraySpec, HostSpec, VectorModeSpec, VectorSpec};
use crate::technology::Estimate;
use crate::technology::logic::significand;

/// Resolves all engines: arrays, vector units, host, each in the order of the file.
pub(super) fn resolve(
    cx: &mut Context<'_>,
    nodes: &IdVec<NodeId, Node>,
) -> Option<IdVec<EngineId, Engine>> {
    let spec = cx.spec;
    let mut engines: Vec<Option<Engine>> = Vec::new();
    for a in &spec.array {
        engines.push(array(cx, a, nodes));
    }
    for v in &spec.vector {
        engines.push(vector(cx, v, nodes));
    }
    if let Some(h) = &spec.host {
        engines.push(Some(host(cx, h)));
    }
    if engines.is_empty() {
        cx.whole(
            "the chip has no engine",
            "add an [[array]], a [[vector]] or a [host]",
        );
    }
    for c in &spec.compute {
        if !spec.array.iter().any(|a| a.compute.value == c.name.value) {
            let message = format!("no array uses the compute node `{}`", c.name.value);
            cx.problems.at(
                &c.name.place,
                message,
                format!("add an [[array]] with `compute = \"{}\"`", c.name.value),
            );
        }
    }
    engines.into_iter().collect()
}

fn array(cx: &mut Context<'_>, a: &ArraySpec, nodes: &IdVec<NodeId, Node>) -> Option<Engine> {
    let name = &a.name.value;
    let is_compute = |n: &Node| matches!(n.kind, NodeKind::Compute(_));
    let compute = named(cx, nodes, &a.compute, "compute node", is_compute);
    let fill_cycles = a
        .fill_cycles
        .as_ref()
        .map_or(0, |c| cx.constant(&format!("{name}.fill_cycles"), c));
    let drain_cycles = a
        .drain_cycles
        .as_ref()
        .map_or(0, |c| cx.constant(&format!("{name}.drain_cycles"), c));
    let launch = a
        .launch
        .as_ref()
        .map_or(Seconds::ZERO, |c| cx.constant(&format!("{name}.launch"), c));
    let kind = EngineKind::Array {
        compute: compute?,
        fill_cycles,
        drain_cycles,
    };
    Some(Engine {
        name: name.clone(),
        kind,
        area: SquareMm::ZERO,
        static_power: Watts::ZERO,
        launch,
    })
}

/// The node of a name and kind; a problem where there is none.
/// The node of a name that is what is asked for; a problem where there is none.
pub(super) fn named(
    cx: &mut Context<'_>,
    nodes: &IdVec<NodeId, Node>,
    name: &At<String>,
    noun: &str,
    is: impl Fn(&Node) -> bool,
) -> Option<NodeId> {
    let found = node_named(nodes, &name.value).filter(|id| nodes.get(*id).is_some_and(&is));
    if found.is_none() {
        let known: Vec<String> = nodes
            .iter()
            .filter(|n| is(n))
            .map(|n| n.name.clone())
            .collect();
        cx.unknown(noun, name, &known);
    }
    found
}

fn vector(cx: &mut Context<'_>, v: &VectorSpec, nodes: &IdVec<NodeId, Node>) -> Option<Engine> {
    let name = &v.name.value;
    let memory = named(cx, nodes, &v.memory, "memory", |n| n.memory().is_some());
    let clock = cx.clock(&v.clock);
    let lanes = cx.count(&format!("{name}.lanes"), &v.lanes);
    if v.mode.is_empty() {
        cx.problems.at(
            &v.name.place,
            format!("`{name}` computes in no format"),
            "add a [[vector.mode]] with `formats` and `rate`",
        );
    }
    let mut modes: Vec<VectorMode> = Vec::new();
    let mut widest = Estimate {
        value: 0.0,
        low: 0.0,
        high: 0.0,
        source: String::new(),
    };
    for spec in &v.mode {
        for format in vector_mode(cx, name, spec) {
            let area = cx.technology.lane_area(format.format).times(lanes as f64);
            if area.value > widest.value {
                widest = area;
            }
            if modes.iter().any(|m| m.format == format.format) {
                cx.problems.at(
                    &spec.place,
                    format!("`{name}` has two modes for {}", format.format),
                    "remove one",
                );
            }
            modes.push(format);
        }
    }
    let area = cx.or_modelled(&format!("{name}.area"), v.area.as_ref(), &widest, SquareMm);
    let leakage = cx.technology.logic_leakage(area.0);
    let static_power = cx.or_modelled(
        &format!("{name}.static_power"),
        v.static_power.as_ref(),
        &leakage,
        Watts,
    );
    let launch = v
        .launch
        .as_ref()
        .map_or(Seconds::ZERO, |c| cx.constant(&format!("{name}.launch"), c));
    let inline = v.inline.unwrap_or(false);
    let kind = EngineKind::Vector {
        memory: memory?,
        lanes,
        clock: clock?,
        modes,
        inline,
    };
    Some(Engine {
        name: name.clone(),
        kind,
        area,
        static_power,
        launch,
    })
}

/// One mode for each format of a table.
fn vector_mode(cx: &mut Context<'_>, engine: &str, m: &VectorModeSpec) -> Vec<VectorMode> {
    let names: Vec<String> = LanePrimitive::ALL
        .iter()
        .map(|p| p.name().to_string())
        .collect();
    let keys = m
        .rates
        .0
        .iter()
        .map(|(k, _)| k)
        .chain(m.latencies.0.iter().map(|(k, _)| k))
        .chain(m.energies.0.iter().map(|(k, _)| k));
    for key in keys.filter(|k| !names.contains(&k.value)) {
        cx.unknown("lane primitive", key, &names);
    }
    if m.formats.is_empty() {
        cx.problems.at(
            &m.place,
            "a mode needs formats",
            "add `formats = [\"bf16\"]`",
        );
    }
    if m.rate.is_none() && m.rates.0.is_empty() {
        cx.problems.at(
            &m.place,
            "a mode needs rates",
            "add `rate = 1.0`: operations per cycle and lane",
        );
    }
    let common = m
        .rate
        .as_ref()
        .map(|r| cx.constant(&format!("{engine}.rate"), r));
    for (key, rate) in &m.rates.0 {
        cx.constant(&format!("{engine}.rates.{}", key.value), rate);
    }
    let mut modes = Vec::new();
    for format in &m.formats {
        if significand(*format).is_none() {
            cx.problems.at(
                &m.place,
                format!("`{format}` has no arithmetic"),
                "use integers and floats",
            );
            continue;
        }
        let mut primitives = Vec::new();
        let mut estimates: Vec<Estimate> = Vec::new();
        for primitive in LanePrimitive::ALL {
            let named = m
                .rates
                .0
                .iter()
                .find(|(k, _)| k.value == primitive.name())
                .map(|(_, r)| r.value);
            let Some(rate) = named.or(common).filter(|r| *r > 0.0) else {
                primitives.push(None);
                continue;
            };
            let path = format!("{engine}.{format}.{}", primitive.name());
            let latency = m
                .latencies
                .0
                .iter()
                .find(|(k, _)| k.value == primitive.name());
            let latency = match latency {
                Some((_, c)) => cx.constant(&format!("{path}.latency"), c),
                None => cx.technology.lane_latency(primitive),
            };
            let written = m
                .energies
                .0
                .iter()
                .find(|(k, _)| k.value == primitive.name())
                .map(|(_, c)| c);
            let energy = match written {
                Some(c) => cx.constant(&format!("{path}.energy"), c),
                None => {
                    let estimate = cx.technology.lane(primitive, *format);
                    estimates.push(estimate.clone());
                    Joules(estimate.value)
                }
            };
            primitives.push(Some(PrimitiveCost {
                per_cycle: rate,
                latency,
                energy,
            }));
        }
        lane_provenance(cx, &format!("{engine}.{format}.energy"), &estimates);
        modes.push(VectorMode {
            format: *format,
            primitives,
        });
    }
    modes
}

/// One line for all modelled primitives of a format: the cheapest and the dearest.
fn lane_provenance(cx: &mut Context<'_>, path: &str, estimates: &[Estimate]) {
    let least = estimates.iter().min_by(|a, b| a.value.total_cmp(&b.value));
    let most = estimates.iter().max_by(|a, b| a.value.total_cmp(&b.value));
    let (Some(least), Some(most)) = (least, most) else {
        return;
    };
    cx.provenance.push(Provenance {
        path: path.into(),
        value: format!(
            "{} to {} by primitive",
            Joules(least.value),
            Joules(most.value)
        ),
        range: Some((Joules(least.low).to_string(), Joules(most.high).to_string())),
        status: Status::Scaled,
        source: most.source.clone(),
        group: Some(most.source.clone()),
    });
}

fn host(cx: &mut Context<'_>, h: &HostSpec) -> Engine {
    let cores = cx.count("host.cores", &h.cores);
    let frequency = cx.positive("host.frequency", &h.frequency);
    let per_cycle = cx.positive("host.operations_per_cycle", &h.operations_per_cycle);
    let efficiency = cx.positive("host.efficiency", &h.efficiency);
    if efficiency > 1.0 {
        cx.problems.at(
            &h.efficiency.place,
            "an efficiency is at most 1",
            "write 0.3 for 30 %",
        );
    }
    let rate = cx.positive("host.bandwidth", &h.bandwidth);
    let operations = cores as f64 * frequency.0 * per_cycle * efficiency;
    let source = "cores x frequency x operations per cycle x efficiency";
    let derived = Estimate {
        value: operations,
        low: operations,
        high: operations,
        source: source.into(),
    };
    cx.modelled(
        "host.operations_per_second",
        &derived,
        Status::Derived,
        |v| format!("{:.4} Gop/s", v / 1e9),
    );
    let estimate = cx.technology.host_operation();
    let energy = cx.or_modelled("host.energy", h.energy.as_ref(), &estimate, Joules);
    let handover = h
        .handover
        .as_ref()
        .map_or(Seconds::ZERO, |c| cx.constant("host.handover", c));
    let area = h
        .area
        .as_ref()
        .map_or(SquareMm::ZERO, |c| cx.constant("host.area", c));
    let static_power = h
        .static_power
        .as_ref()
        .map_or(Watts::ZERO, |c| cx.constant("host.static_power", c));
    Engine {
        name: h.name.as_ref().map_or("host".into(), |n| n.value.clone()),
        kind: EngineKind::Host {
            operations_per_second: operations,
            rate,
            energy,
            handover,
        },
        area,
        static_power,
        launch: Seconds::ZERO,
    }
}

/// The engine of a name and kind; a problem that tells those there are if there is none.
pub(super) fn engine_named(
    cx: &mut Context<'_>,
    engines: &IdVec<EngineId, Engine>,
    name: &At<String>,
    noun: &str,
    is: impl Fn(&EngineKind) -> bool,
) -> Option<EngineId> {
    let found = engines
        .iter_ids()
        .find(|(_, e)| e.name == name.value && is(&e.kind))
        .map(|(id, _)| id);
    if found.is_none() {
        let known: Vec<String> = engines
            .iter()
            .filter(|e| is(&e.kind))
            .map(|e| e.name.clone())
            .collect();
        cx.unknown(noun, name, &known);
    }
    found
}
