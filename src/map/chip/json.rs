//! A mapping on a chip as JSON. Keys carry their units; counts are plain.

use presil_mapper::explain::{Gain, Prices};
use presil_mapper::search::Proof;
use serde_json::{Value, json};

use super::show_explain::reason;
use super::told::{Axis, AxisReasons, ChipMapping, FrontProof, Level, Near};

/// The document.
pub fn json(m: &ChipMapping) -> Value {
    let certificate = &m.certificate;
    let named = |unit: &str, list: &[(String, f64)]| -> Value {
        list.iter()
            .map(|(name, value)| json!({ "name": name, unit: value }))
            .collect()
    };
    let mut value = json!({
        "name": m.name,
        "chip": m.chip,
        "convention": "physical",
        "engine": m.engine,
        "mode": m.mode,
        "shape": m.shape,
        "homes": { "input": m.homes[0], "weight": m.homes[1], "output": m.homes[2] },
        "objective": m.objective.name(),
        "latency_s": m.latency_s,
        "energy_j": m.energy_j,
        "edp_js": m.latency_s * m.energy_j,
        "macs": count(m.macs),
        "utilization": m.utilization,
        "mapping": m.nest,
        "memories": m.levels.iter().map(level).collect::<Value>(),
        "axes": m.axes.iter().map(axis).collect::<Value>(),
        "time": named("busy_s", &m.time),
        "bottleneck": m.bound_by,
        "energy": m.energy.iter().map(|(c, a, j)| json!({ "component": c, "action": a, "energy_j": j })).collect::<Value>(),
        "proof": {
            "objective": proof(&certificate.objective),
            "other": proof(&certificate.other),
            "space": m.space,
        },
        "notes": m.notes,
    });
    if let Some(map) = value.as_object_mut() {
        if !m.near.is_empty() {
            map.insert("mappings".into(), m.near.iter().map(near).collect());
        }
        if let Some(told) = &m.front {
            map.insert("front".into(), front(told));
        }
        if let Some(told) = &m.prices {
            map.insert("prices".into(), prices(told));
        }
        if let Some(told) = &m.why {
            map.insert("why".into(), told.iter().map(why).collect());
        }
    }
    value
}

/// An integer where it fits 64 bits, the nearest floating-point number beyond.
fn count(n: u128) -> Value {
    u64::try_from(n).map_or_else(|_| json!(n as f64), Value::from)
}

fn level(l: &Level) -> Value {
    let operand = |o: &presil_mapper::explain::OperandUse| {
        json!({
            "operand": o.operand.name(),
            "home": o.home,
            "tile_bytes": o.tile_bytes,
            "reads": count(o.reads),
            "writes": count(o.writes),
            "read_bytes": o.read_bytes,
            "write_bytes": o.write_bytes,
        })
    };
    json!({
        "memory": l.memory,
        "capacity_bytes": l.capacity_bytes,
        "buffering": l.buffering,
        "capacity_share": l.share,
        "port_utilization": l.port,
        "operands": l.operands.iter().map(operand).collect::<Value>(),
    })
}

fn axis(a: &Axis) -> Value {
    let loops = |(d, n): &(String, u64)| json!({ "dim": d, "trips": n });
    json!({
        "axis": a.name,
        "size": a.size,
        "used": a.used,
        "utilization": a.used as f64 / a.size.max(1) as f64,
        "loops": a.loops.iter().map(loops).collect::<Value>(),
    })
}

fn proof(p: &Proof) -> Value {
    json!({
        "found": p.found,
        "lower_bound": p.lower_bound,
        "gap": p.gap(),
        "proven": p.proven,
        "bounds": p.expanded,
        "pruned": p.pruned,
        "analysed": p.analysed,
    })
}

fn near(m: &Near) -> Value {
    let mut value = json!({ "latency_s": m.latency_s, "energy_j": m.energy_j, "mapping": m.nest });
    if let (Some(least), Some(map)) = (m.least_s, value.as_object_mut()) {
        map.insert("least_latency_s".into(), json!(least));
    }
    value
}

fn front(f: &FrontProof) -> Value {
    json!({
        "proven": f.proven,
        "latency_gap": f.time_gap,
        "energy_gap": f.energy_gap,
        "least_energy_j": f.least_energy_j,
        "searches": f.searches,
        "bounds": f.bounds,
        "analysed": f.analysed,
    })
}

fn prices(prices: &Prices) -> Value {
    let gain = |g: &Gain| {
        json!({
            "value": g.value,
            "relative_change": g.relative,
            "relative_bound": g.at_most,
            "proven": g.proven,
        })
    };
    let three = |of: [Value; 3]| {
        let [latency, energy, edp] = of;
        json!({ "latency": latency, "energy": energy, "edp": edp })
    };
    let price = |p: &presil_mapper::explain::Price| json!({ "resource": p.name, "change": three(p.gains.each_ref().map(gain)) });
    let base = prices.base;
    json!({
        "least": three(base.map(|b| json!(b))),
        "proven": three(prices.proven.map(|b| json!(b))),
        "one_more": prices.prices.iter().map(price).collect::<Value>(),
    })
}

fn why(a: &AxisReasons) -> Value {
    let (used, size) = (a.axis.used, a.axis.size);
    let one = |(d, r): &(String, presil_mapper::explain::Reason)| json!({ "dim": d, "reason": reason(r, used, size) });
    let mut value = axis(&a.axis);
    if let Some(map) = value.as_object_mut() {
        map.insert("reasons".into(), a.reasons.iter().map(one).collect());
    }
    value
}
