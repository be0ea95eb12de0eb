//! How a schedule uses the chip's cores, by names.

use presil_hwmodels::Chip;
use presil_mapper::cost::Resource;
use presil_mapper::partition::{Pipeline, Stage, used};
use presil_mapper::schedule::{Execution, Schedule};
use presil_workloads::{Graph, OpId};

use crate::analytic::OpTime;
use crate::run::{CoreSet, CoreUse, PipelineRun, StageRun};

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
        pipeline: schedule
            .partition
            .pipeline
            .as_ref()
            .map(|p| pipeline(graph, chip, p)),
    }
}

fn pipeline(graph: &Graph, chip: &Chip, p: &Pipeline) -> PipelineRun {
    let stage = |s: &Stage| StageRun {
        ops: s.ops.iter().map(|o| graph.ops[*o].name.clone()).collect(),
        cores: s.cores,
        time_s: s.time.0,
        weight_bytes: s.weights.0,
    };
    let by = match p.bound_by {
        Some(Resource::Memory(n) | Resource::Network(n)) => chip.nodes[n].name.clone(),
        Some(Resource::Vector) => "vector".into(),
        Some(_) => "host".into(),
        None => "stage".into(),
    };
    PipelineRun {
        stages: p.stages.iter().map(stage).collect(),
        interval_s: p.interval.0,
        interval_by: by,
        latency_s: p.latency.0,
        loaded_latency_s: p.interval.0 * p.stages.len() as f64,
        energy_j: p.energy.0,
        memory: chip.nodes[p.home].name.clone(),
    }
}
