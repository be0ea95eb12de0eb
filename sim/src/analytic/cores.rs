//! How a schedule uses the chip's cores, by names.

use presil_hwmodels::Chip;
use presil_mapper::partition::used;
use presil_mapper::schedule::{Execution, Schedule};
use presil_workloads::{Graph, OpId};

use super::timing::OpTime;
use crate::run::{CoreSet, CoreUse};

/// Instances along the axis of cores that an op's mapping uses.
pub(super) fn of_op(graph: &Graph, id: OpId, schedule: &Schedule) -> Option<u64> {
    let cores = schedule.partition.cores?;
    let einsum = graph.ops[id].contraction()?;
    let Execution::Mapped { mapping, .. } = &schedule.ops[id].execution else {
        return None;
    };
    let sizes: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
    Some(used(cores, mapping, &sizes))
}

pub(super) fn of_phase(
    graph: &Graph,
    chip: &Chip,
    schedule: &Schedule,
    times: &[OpTime],
) -> CoreUse {
    let Some(cores) = schedule.partition.cores else {
        return CoreUse::default();
    };
    let time = |op: OpId| times.get(op.0 as usize).map_or(0.0, |t| t.total);
    let sets = schedule.partition.sets.iter().map(|s| CoreSet {
        ops: s
            .members
            .iter()
            .map(|m| (graph.ops[m.op].name.clone(), m.cores))
            .collect(),
        latency_s: s.members.iter().map(|m| time(m.op)).sum(),
    });
    CoreUse {
        axis: cores.name(chip),
        cores: cores.count,
        sets: sets.collect(),
    }
}
