//! How a phase uses the chip's cores, for JSON and for readers.

use presil_sim::run::{CoreSet, CoreUse, PipelineRun, StageRun};
use serde_json::{Value, json};

use crate::text;

/// Sets that readers are shown.
const SHOWN: usize = 8;

/// Axis, cores and sets; `null` on a chip without cores.
pub(crate) fn partition_json(partition: &CoreUse) -> Value {
    if partition.cores == 0 {
        return Value::Null;
    }
    let set = |s: &CoreSet| {
        let ops = s
            .ops
            .iter()
            .map(|(name, cores)| json!({"op": name, "cores": cores}));
        json!({"ops": ops.collect::<Value>(), "latency_s": s.latency_s})
    };
    json!({
        "axis": partition.axis,
        "cores": partition.cores,
        "sets": partition.sets.iter().map(set).collect::<Value>(),
        "pipeline": partition.pipeline.as_ref().map(pipeline_json),
    })
}

fn pipeline_json(p: &PipelineRun) -> Value {
    let stage = |s: &StageRun| {
        json!({
            "ops": s.ops,
            "cores": s.cores,
            "time_s": s.time_s,
            "weight_bytes": s.weight_bytes,
        })
    };
    json!({
        "interval_s": p.interval_s,
        "interval_by": p.interval_by,
        "latency_s": p.latency_s,
        "loaded_latency_s": p.loaded_latency_s,
        "energy_j": p.energy_j,
        "memory": p.memory,
        "stages": p.stages.iter().map(stage).collect::<Value>(),
    })
}

/// A pipeline in lines: its figures, then a line a stage.
pub(crate) fn pipeline_lines(partition: &CoreUse) -> Vec<String> {
    let Some(p) = &partition.pipeline else {
        return Vec::new();
    };
    let mut lines = vec![
        format!(
            "a pass every {} (set by {}), {} through it empty, at most {} full, {} a pass",
            text::seconds(p.interval_s),
            match p.interval_by.as_str() {
                "stage" => "the longest stage",
                other => other,
            },
            text::seconds(p.latency_s),
            text::seconds(p.loaded_latency_s),
            text::joules(p.energy_j)
        ),
        format!(
            "weights stay in the {}; activations pass through {}",
            partition.axis, p.memory
        ),
    ];
    let stage = |s: &StageRun| {
        let ends = match (s.ops.first(), s.ops.last()) {
            (Some(a), Some(b)) if s.ops.len() > 1 => {
                format!("{} .. {}", text::plain(a), text::plain(b))
            }
            (Some(a), _) => text::plain(a),
            _ => String::new(),
        };
        format!(
            "{:>9}  on {} with {} of weights: {ends}",
            text::seconds(s.time_s),
            s.cores,
            text::bytes(s.weight_bytes as f64)
        )
    };
    lines.extend(p.stages.iter().take(SHOWN).map(stage));
    if let Some(more) = p.stages.len().checked_sub(SHOWN).filter(|n| *n > 0) {
        lines.push(format!("and {more} more stages"));
    }
    lines
}

/// One line a set: its time, its ops and the cores of each.
pub(crate) fn lines(partition: &CoreUse) -> Vec<String> {
    let line = |s: &CoreSet| {
        let ops: Vec<String> = s
            .ops
            .iter()
            .map(|(name, cores)| format!("{} on {cores}", text::plain(name)))
            .collect();
        format!("{:>9}  {}", text::seconds(s.latency_s), ops.join(", "))
    };
    let mut lines: Vec<String> = partition.sets.iter().take(SHOWN).map(line).collect();
    if let Some(more) = partition.sets.len().checked_sub(SHOWN).filter(|n| *n > 0) {
        lines.push(format!("and {more} more sets"));
    }
    lines
}
