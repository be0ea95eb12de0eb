//! The memory plan of a schedule by names.

use presil_hwmodels::Chip;
use presil_mapper::schedule::Schedule;
use presil_mapper::schedule::memory_plan::{Holds, Region, Scratchpad};
use presil_workloads::{Graph, Role};

use crate::run::{MemoryPlan, MemoryRegion, MemoryUse, SpilledTensor};

pub(super) fn plan(graph: &Graph, chip: &Chip, schedule: &Schedule) -> MemoryPlan {
    let memory = &schedule.memory;
    let op = |p: usize| op_name(graph, schedule, p);
    MemoryPlan {
        memories: memory
            .memories
            .iter()
            .map(|pad| memory_use(graph, chip, pad, &op))
            .collect(),
        spills: memory
            .spills
            .iter()
            .map(|s| SpilledTensor {
                name: graph.tensors[s.tensor].name.clone(),
                cause: s.cause.name().into(),
                written_bytes: s.written_bytes,
                read_bytes: s.read_bytes,
            })
            .collect(),
        optimal: memory.optimal,
        order: if memory.reordered {
            (0..schedule.order.len()).map(op).collect()
        } else {
            Vec::new()
        },
    }
}

fn op_name(graph: &Graph, schedule: &Schedule, position: usize) -> String {
    let op = schedule.order.get(position);
    op.map_or_else(String::new, |op| graph.ops[*op].name.clone())
}

fn memory_use(
    graph: &Graph,
    chip: &Chip,
    pad: &Scratchpad,
    op: &impl Fn(usize) -> String,
) -> MemoryUse {
    let named = |r: &Region| {
        let (name, kind) = name_and_kind(graph, r.holds);
        (name, kind, r.bytes.0)
    };
    MemoryUse {
        memory: chip.nodes[pad.memory].name.clone(),
        capacity_bytes: pad.capacity.0,
        peak_bytes: pad.most.0,
        peak_at: op(pad.most_at),
        peak_alive: pad
            .alive(pad.most_at)
            .into_iter()
            .filter_map(|i| pad.regions.get(i).map(named))
            .collect(),
        top_bytes: pad.peak.0,
        tensor_top_bytes: pad.tensor_peak.0,
        tensor_bound_bytes: pad.bound.0,
        optimal: pad.optimal,
        fragmentation: pad.fragmentation,
        alignment_bytes: pad.alignment.0,
        regions: pad.regions.iter().map(|r| region(graph, r, op)).collect(),
    }
}

fn region(graph: &Graph, r: &Region, op: &impl Fn(usize) -> String) -> MemoryRegion {
    let (name, kind) = name_and_kind(graph, r.holds);
    let layout = r.layout.as_ref();
    MemoryRegion {
        name,
        kind,
        offset_bytes: r.offset.0,
        size_bytes: r.bytes.0,
        held: r.live.iter().map(|s| (op(s.from), op(s.to))).collect(),
        rank_order: layout.map_or_else(Vec::new, |l| l.order.clone()),
        pitch_bits: layout.map_or_else(Vec::new, |l| l.pitch_bits.clone()),
        row_bytes: layout.map_or(0, |l| l.row_bytes.0),
        padding_bytes: layout.map_or(0, |l| l.padding.0),
    }
}

fn name_and_kind(graph: &Graph, holds: Holds) -> (String, String) {
    match holds {
        Holds::Tensor(t) => {
            let tensor = &graph.tensors[t];
            let kind = match tensor.role {
                Role::Weight => "weight",
                Role::Constant => "constant",
                Role::Cache => "cache",
                _ => "activation",
            };
            (tensor.name.clone(), kind.into())
        }
        Holds::GroupTile(t) => (graph.tensors[t].name.clone(), "group tile".into()),
        Holds::Tile(op, operand) => {
            let kind = format!("{} tile", operand.name());
            (graph.ops[op].name.clone(), kind)
        }
        Holds::Weights(op) => (graph.ops[op].name.clone(), "weights over steps".into()),
        Holds::Ahead(op) => (graph.ops[op].name.clone(), "ahead".into()),
    }
}
