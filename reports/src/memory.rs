//! The memory plan of a phase, for JSON and for readers.

use presil_sim::run::{MemoryPlan, MemoryRegion, MemoryUse, Phase};
use serde_json::{Map, Value, json};

use crate::text;

/// Most bytes in each resident memory at once.
pub(crate) fn peaks<'a>(phases: impl Iterator<Item = &'a Phase>) -> Map<String, Value> {
    let mut most: Map<String, Value> = Map::new();
    for m in phases.flat_map(|p| &p.memory_plan.memories) {
        let before = most.get(&m.memory).and_then(Value::as_u64).unwrap_or(0);
        most.insert(m.memory.clone(), json!(before.max(m.peak_bytes)));
    }
    most
}

/// The whole plan: `peak_bytes` and who is alive then, every region by offset and time, spills.
pub(crate) fn plan_json(plan: &MemoryPlan) -> Value {
    let spills = plan.spills.iter().map(|s| {
        json!({
            "tensor": s.name,
            "cause": s.cause,
            "written_bytes": s.written_bytes,
            "read_bytes": s.read_bytes,
        })
    });
    json!({
        "optimal": plan.optimal,
        "order": plan.order,
        "memories": plan.memories.iter().map(memory_json).collect::<Value>(),
        "spills": spills.collect::<Value>(),
    })
}

fn memory_json(m: &MemoryUse) -> Value {
    let alive = m
        .peak_alive
        .iter()
        .map(|(name, kind, bytes)| json!({"name": name, "kind": kind, "bytes": bytes}));
    json!({
        "memory": m.memory,
        "capacity_bytes": m.capacity_bytes,
        "peak_bytes": m.peak_bytes,
        "peak_at": m.peak_at,
        "peak_alive": alive.collect::<Value>(),
        "top_bytes": m.top_bytes,
        "tensor_top_bytes": m.tensor_top_bytes,
        "tensor_bound_bytes": m.tensor_bound_bytes,
        "optimal": m.optimal,
        "fragmentation": m.fragmentation,
        "alignment_bytes": m.alignment_bytes,
        "regions": m.regions.iter().map(region_json).collect::<Value>(),
    })
}

fn region_json(r: &MemoryRegion) -> Value {
    let held = r
        .held
        .iter()
        .map(|(from, to)| json!({"from": from, "to": to}));
    let mut region = json!({
        "name": r.name,
        "kind": r.kind,
        "offset_bytes": r.offset_bytes,
        "size_bytes": r.size_bytes,
        "held": held.collect::<Value>(),
    });
    if let Some(o) = region.as_object_mut().filter(|_| r.row_bytes > 0) {
        let layout = json!({
            "rank_order": r.rank_order,
            "pitch_bits": r.pitch_bits,
            "row_bytes": r.row_bytes,
            "padding_bytes": r.padding_bytes,
        });
        o.insert("layout".into(), layout);
    }
    region
}

/// One line a memory: its peak, its capacity, where, and what is largest then.
pub(crate) fn lines(plan: &MemoryPlan) -> Vec<String> {
    let mut lines: Vec<String> = plan.memories.iter().map(line).collect();
    if !plan.spills.is_empty() {
        let sum = |f: fn(&presil_sim::run::SpilledTensor) -> f64| {
            text::bytes(plan.spills.iter().map(f).sum::<f64>())
        };
        let mut largest: Vec<_> = plan.spills.iter().collect();
        let moved = |s: &presil_sim::run::SpilledTensor| s.written_bytes + s.read_bytes;
        largest.sort_by(|a, b| moved(b).total_cmp(&moved(a)));
        let names: Vec<String> = largest
            .iter()
            .take(3)
            .map(|s| text::plain(&s.name))
            .collect();
        let more = if plan.spills.len() > 3 { ", ..." } else { "" };
        lines.push(format!(
            "spilled: {} tensors, {} written, {} read: {}{more}",
            plan.spills.len(),
            sum(|s| s.written_bytes),
            sum(|s| s.read_bytes),
            names.join(", ")
        ));
    }
    lines
}

fn line(m: &MemoryUse) -> String {
    let share = m.peak_bytes as f64 / m.capacity_bytes.max(1) as f64;
    let mut alive: Vec<(String, &str, u64)> = Vec::new();
    // Buffers of one tile are one thing to a reader.
    for (name, kind, bytes) in &m.peak_alive {
        match alive.iter_mut().find(|a| a.0 == *name && a.1 == kind) {
            Some(a) => a.2 += bytes,
            None => alive.push((name.clone(), kind, *bytes)),
        }
    }
    alive.sort_by_key(|a| std::cmp::Reverse(a.2));
    let parts: Vec<String> = alive
        .iter()
        .take(3)
        .map(|(name, kind, bytes)| {
            let kind = match *kind {
                "activation" => String::new(),
                other => format!(" ({})", text::plain(other)),
            };
            format!("{}{kind} {}", text::plain(name), text::bytes(*bytes as f64))
        })
        .collect();
    let what = match parts.is_empty() {
        true => String::new(),
        false => format!(" at {}: {}", text::plain(&m.peak_at), parts.join(", ")),
    };
    format!(
        "{} peak {} of {} ({}){what}",
        text::plain(&m.memory),
        text::bytes(m.peak_bytes as f64),
        text::bytes(m.capacity_bytes as f64),
        text::percent(share)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_plan_is_told_in_lines_and_in_json() {
        let run = sample::cnn();
        let phase = &run.phases[0];
        let lines = lines(&phase.memory_plan);
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].starts_with("glb peak 1.5 MiB of 4 MiB (37.5 %) at "),
            "{lines:?}"
        );
        // Two buffers of one tile are told as one.
        assert!(lines[0].contains("(weight tile) 512 KiB"), "{lines:?}");
        assert!(
            lines[1].starts_with("spilled: 1 tensors, 784 KiB written, 784 KiB read"),
            "{lines:?}"
        );
        assert_eq!(peaks(run.phases.iter())["glb"], 1_572_864);
        let plan = plan_json(&phase.memory_plan);
        let region = &plan["memories"][0]["regions"][0];
        assert_eq!(region["offset_bytes"], 0);
        assert_eq!(region["layout"]["rank_order"], json!([0, 2, 3, 1]));
        assert!(plan["memories"][0]["regions"][1]["layout"].is_null());
    }
}
