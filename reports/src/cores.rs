//! How a phase uses the chip's cores, for JSON and for readers.

use presil_sim::run::{CoreSet, CoreUse};
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
    })
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
