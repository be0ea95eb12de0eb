//! The JSON document of a Run.
//!
//! Keys carry their unit (`latency_s`, `energy_j`, `area_mm2`, `dram_bytes`); counts are plain. A figure that does
//! not exist or is not finite is `null`, never a missing key. Counts are integers as long as they fit 64 bits and
//! the nearest floating-point number beyond. `dram_bytes` is the traffic of the root memory, read and written.
//!
//! `totals` are those of one pass where the Run has one phase. A language model's Run with a prefill and a decode
//! step has `ttft_s` and `tpot_s` there, and `latency_s` is `null`, since no single time is both; energy, counts
//! and traffic are then those of the whole request: the prefill and all decode steps.

use presil_sim::Run;
use presil_sim::run::{Energy, OpRun, Phase, Traffic};
use serde_json::{Map, Value, json};

use crate::figures::{self, View};
use crate::{groups, memory};

/// Version of the document's form; it changes when a key changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// A count: an integer where it fits 64 bits, the nearest floating-point number beyond.
fn count(n: u128) -> Value {
    u64::try_from(n).map_or_else(|_| json!(n as f64), Value::from)
}

fn energy(entries: &[Energy]) -> Value {
    let one =
        |e: &Energy| json!({"component": e.component, "action": e.action, "energy_j": e.energy_j});
    entries.iter().map(one).collect()
}

fn traffic(entries: &[Traffic]) -> Value {
    let one = |t: &Traffic| json!({"memory": t.memory, "read_bytes": t.read_bytes, "write_bytes": t.write_bytes});
    entries.iter().map(one).collect()
}

fn parts(parts: Vec<figures::Part>, unit: &str) -> Value {
    let one = |p: figures::Part| {
        let mut m = Map::new();
        m.insert("name".into(), json!(p.name));
        m.insert(unit.into(), json!(p.value));
        Value::Object(m)
    };
    parts.into_iter().map(one).collect()
}

fn layer(view: &View<'_>, phase: &Phase, index: usize, op: &OpRun) -> Value {
    let memory: Map<String, Value> = op
        .time
        .memory_s
        .iter()
        .map(|(m, t)| (m.clone(), json!(t)))
        .collect();
    json!({
        "phase": phase.name,
        "index": index,
        "name": op.name,
        "class": op.class,
        "shape": op.shape,
        "repeat": op.repeat,
        "engine": op.engine,
        "macs": count(op.macs),
        "executed_macs": count(op.executed_macs),
        "latency_s": op.time.total_s,
        "time": {
            "compute_s": op.time.compute_s,
            "memory_s": memory,
            "vector_s": op.time.vector_s,
            "latency_s": op.time.latency_s,
        },
        "bottleneck": op.bottleneck,
        "utilization": op.utilization,
        "cores": op.cores,
        "intensity_macs_per_byte": op.intensity,
        "energy_j": figures::op_joules(op),
        "energy": energy(&op.energy),
        "dram_bytes": view.root_bytes(&op.traffic),
        "traffic": traffic(&op.traffic),
        "mapping": op.mapping,
        "memories": op.memories,
        "axes": op.axes,
        "group": op.group,
        "notes": op.notes,
    })
}

fn phase(view: &View<'_>, phase: &Phase) -> Value {
    let run = view.run;
    let (rate, unit) = figures::throughput(run, phase).unzip();
    json!({
        "name": phase.name,
        "steps": phase.steps,
        "latency_s": phase.latency_s,
        "interval_s": phase.interval_s,
        "cold_latency_s": phase.cold_latency_s,
        "lower_bound_s": phase.lower_bound_s,
        "lower_bound_by": phase.lower_bound_by,
        "throughput": rate,
        "throughput_unit": unit,
        "energy_j": phase.energy_j,
        "cold_energy_j": phase.cold_energy_j,
        "average_power_w": figures::average_power(phase),
        "peak_power_w": figures::peak_power(phase).map(|p| p.0),
        "peak_power_op": figures::peak_power(phase).map(|p| &p.1.name),
        "macs": count(phase.macs),
        "executed_macs": count(phase.executed_macs),
        "utilization": phase.utilization,
        "bottleneck": figures::bound_by(phase).map(|b| b.0),
        "bottleneck_share": figures::bound_by(phase).map(|b| b.1),
        "intensity_macs_per_byte": view.intensity(phase.executed_macs, &phase.traffic),
        "dram_bytes": view.root_bytes(&phase.traffic),
        "dram_bytes_by_content": phase.root_traffic.iter().map(|(n, b)| (n.clone(), json!(b))).collect::<serde_json::Map<_, _>>(),
        "weight_bytes": phase.weight_bytes,
        "cache_bytes": phase.cache_bytes,
        "peak_activation_bytes": phase.peak_activation_bytes,
        "peak_sram_bytes": memory::peaks(std::iter::once(phase)),
        "memory_plan": memory::plan_json(&phase.memory_plan),
        "groups": groups::groups_json(phase),
        "partition": crate::cores::partition_json(&phase.partition),
        "time_by_cause": parts(view.phase_time(phase), "time_s"),
        "energy": energy(&phase.energy),
        "traffic": traffic(&phase.traffic),
    })
}

fn totals(view: &View<'_>) -> Value {
    let run = view.run;
    let one = match run.phases.as_slice() {
        [p] => Some(p),
        _ => None,
    };
    // A single phase counts once, however many steps it stands for; a request counts all of its steps.
    let times = |p: &Phase| if one.is_some() { 1 } else { p.steps };
    let sum = |f: fn(&Phase) -> f64| {
        run.phases
            .iter()
            .map(|p| f(p) * times(p) as f64)
            .fold(0.0, |a, b| a + b)
    };
    let counted = |f: fn(&Phase) -> u128| {
        run.phases.iter().try_fold(0u128, |s, p| {
            s.checked_add(f(p).checked_mul(times(p).into())?)
        })
    };
    let (time, joules) = (sum(|p| p.latency_s), sum(|p| p.energy_j));
    let executed = counted(|p| p.executed_macs);
    let dram: f64 = run
        .phases
        .iter()
        .map(|p| view.root_bytes(&p.traffic) * times(p) as f64)
        .fold(0.0, |a, b| a + b);
    let rate_of = |name: &str| {
        run.phases
            .iter()
            .find(|p| p.name == name)
            .and_then(|p| figures::throughput(run, p))
            .map(|r| r.0)
    };
    let most = |f: fn(&Phase) -> u64| run.phases.iter().map(f).max();
    let busy = executed.and_then(|e| figures::ratio(e as f64, run.peak_macs_per_s * time));
    json!({
        "latency_s": one.map(|p| p.latency_s),
        "interval_s": one.map(|p| p.interval_s),
        "cold_latency_s": one.map(|p| p.cold_latency_s),
        "lower_bound_s": one.map(|p| p.lower_bound_s),
        "ttft_s": run.ttft().map(|t| t.0),
        "tpot_s": run.tpot().map(|t| t.0),
        "throughput": one.and_then(|p| figures::throughput(run, p)).map(|r| r.0),
        "throughput_unit": one.and_then(|p| figures::throughput(run, p)).map(|r| r.1),
        "prefill_tokens_per_s": run.prompt.and_then(|_| rate_of("prefill")),
        "decode_tokens_per_s": rate_of("decode"),
        "energy_j": joules,
        "average_power_w": figures::ratio(joules, time),
        "macs": counted(|p| p.macs).map(count),
        "executed_macs": executed.map(count),
        "parameters": count(run.parameters),
        "dram_bytes": dram,
        "utilization": one.map_or(busy, |p| Some(p.utilization)),
        "bottleneck": one.and_then(figures::bound_by).map(|b| b.0),
        "weight_bytes": most(|p| p.weight_bytes),
        "cache_bytes": most(|p| p.cache_bytes),
        "peak_activation_bytes": most(|p| p.peak_activation_bytes),
        "peak_sram_bytes": memory::peaks(run.phases.iter()),
        "area_mm2": run.area_total().0 + 0.0,
        "static_power_w": run.static_total().0 + 0.0,
    })
}

/// The JSON document of a Run; `version` is the tool's.
pub fn run_json(run: &Run, version: &str) -> Value {
    let view = View::new(run);
    let layers: Vec<Value> = run
        .phases
        .iter()
        .flat_map(|p| {
            p.ops
                .iter()
                .enumerate()
                .map(|(i, op)| layer(&view, p, i, op))
                .collect::<Vec<_>>()
        })
        .collect();
    let named = |list: &[(String, f64)], unit: &str| -> Value {
        let one = |(n, v): &(String, f64)| {
            let mut m = Map::new();
            m.insert("component".into(), json!(n));
            m.insert(unit.into(), json!(v));
            Value::Object(m)
        };
        list.iter().map(one).collect()
    };
    json!({
        "schema_version": SCHEMA_VERSION,
        "version": version,
        "model": run.model,
        "chip": run.chip,
        "inputs": {
            "model": run.model,
            "chip": run.chip,
            "chip_hash": run.chip_hash,
            "precision": run.precision,
            "objective": run.objective,
            "fidelity": figures::fidelity(run.fidelity),
            "batch": run.batch,
            "prompt": run.prompt,
            "generate": run.generate,
        },
        "totals": totals(&view),
        "phases": run.phases.iter().map(|p| phase(&view, p)).collect::<Value>(),
        "layers": layers,
        "hardware": {
            "peak_macs_per_s": run.peak_macs_per_s,
            "dram": view.root(),
            "dram_peak_bytes_per_s": run.dram_peak_bytes_per_s,
            "dram_streaming_bytes_per_s": run.dram_streaming_bytes_per_s,
            "ridge_macs_per_byte": figures::ridge(run),
            "area": named(&run.area, "area_mm2"),
            "static_power": named(&run.static_power, "static_power_w"),
        },
        "assumptions": view.assumptions,
        "unmodelled": view.unmodelled,
        "power": run.power,
        "provenance": run.provenance,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::sample;

    #[test]
    fn documents_read_back_and_hold_every_op() {
        for run in sample::all() {
            let text = serde_json::to_string(&run_json(&run, "1.2.3")).unwrap();
            let back: Value = serde_json::from_str(&text).unwrap();
            let ops: usize = run.phases.iter().map(|p| p.ops.len()).sum();
            assert_eq!(back["layers"].as_array().map(Vec::len), Some(ops));
            assert_eq!(back["schema_version"], 1);
            assert_eq!(back["version"], "1.2.3");
            assert_eq!(back["model"], Value::from(run.model));
            for key in [
                "totals",
                "phases",
                "assumptions",
                "unmodelled",
                "provenance",
                "inputs",
                "version",
                "chip",
            ] {
                assert!(!back[key].is_null(), "{key}");
            }
        }
    }

    #[test]
    fn one_phase_has_a_latency_and_two_have_ttft_and_tpot() {
        let cnn = run_json(&sample::cnn(), "1");
        let layers: f64 = cnn["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| l["latency_s"].as_f64().unwrap())
            .sum();
        let total = cnn["totals"]["latency_s"].as_f64().unwrap();
        assert!((layers - total).abs() < 1e-9 * total);
        assert!(cnn["totals"]["ttft_s"].is_null());
        assert_eq!(cnn["totals"]["throughput"].as_f64().unwrap(), 1.0 / total);

        let run = sample::llm();
        let llm = run_json(&run, "1");
        assert!(llm["totals"]["latency_s"].is_null());
        assert_eq!(llm["totals"]["ttft_s"], json!(run.phases[0].latency_s));
        assert_eq!(llm["totals"]["tpot_s"], json!(run.phases[1].latency_s));
        assert_eq!(
            llm["totals"]["prefill_tokens_per_s"],
            json!(512.0 / run.phases[0].latency_s)
        );
        let joules = run.phases[0].energy_j + 128.0 * run.phases[1].energy_j;
        assert_eq!(llm["totals"]["energy_j"].as_f64().unwrap(), joules);
        let macs = run.phases[0].macs + 128 * run.phases[1].macs;
        assert_eq!(llm["totals"]["macs"].as_u64().map(u128::from), Some(macs));
    }

    #[test]
    fn what_is_not_finite_is_null_and_large_counts_are_floats() {
        let v = run_json(&sample::zeros(), "1");
        assert!(v["layers"][1]["latency_s"].is_null());
        assert!(v["layers"][1]["time"]["memory_s"]["lpddr5"].is_null());
        assert_eq!(v["layers"][1]["macs"].as_f64(), Some(u128::MAX as f64));
        assert!(v["phases"][0]["throughput"].is_null());
        assert!(v["phases"][0]["energy_j"].is_null());
        assert_eq!(count(u128::from(u64::MAX)), json!(u64::MAX));
    }
}
