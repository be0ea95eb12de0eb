//! Shapes and loop nests as text; what mappings use, with names.

use presil_hwmodels::{Chip, NodeKind};
use presil_mapper::explain::{self, LevelUse};
use presil_mapper::schedule::ScheduledOp;
use presil_mapper::{Mapping, Step};
use presil_workloads::{Einsum, Graph, Op, OpKind};

use crate::run::{MappedAxis, MappedMemory, MappedTile};

/// Dimensions and sizes of an op's largest einsum ("n1 k64 c3"); for others the output's extents.
pub(super) fn shape(graph: &Graph, op: &Op) -> String {
    if let OpKind::Cascade(einsums) = &op.kind
        && let Some(e) = op
            .contraction()
            .or_else(|| einsums.iter().max_by_key(|e| e.points()))
    {
        let dims: Vec<String> = e
            .dims
            .iter()
            .map(|d| format!("{}{}", d.name, d.size))
            .collect();
        return dims.join(" ");
    }
    let Some(out) = op.outputs.first().or(op.inputs.first()) else {
        return String::new();
    };
    let extents: Vec<String> = graph.tensors[*out]
        .shape
        .iter()
        .map(u64::to_string)
        .collect();
    extents.join(" x ")
}

/// A mapping as a loop nest, one line a step.
pub(super) fn loop_nest(chip: &Chip, einsum: &Einsum, mapping: &Mapping) -> Vec<String> {
    let mut tile: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
    let mut cut = |dim: presil_workloads::DimId, to: u64| {
        let Some(slot) = tile.get_mut(dim.0 as usize) else {
            return 1;
        };
        let trips = slot.div_ceil(to.max(1));
        *slot = to;
        trips
    };
    let lines = mapping.steps().iter().map(|step| match *step {
        Step::Store { memory, operand } => {
            format!("{}: keep {}", chip.nodes[memory].name, operand.name())
        }
        Step::Temporal { dim, tile } => {
            let trips = cut(dim, tile);
            format!("for {} in {trips} tiles of {tile}", einsum.dim(dim).name)
        }
        Step::Spatial {
            fanout,
            axis,
            dim,
            tile,
        } => {
            let trips = cut(dim, tile);
            let axis = match &chip.nodes[fanout].kind {
                NodeKind::Fanout(f) => f.dims.get(axis as usize).map_or("?", |d| d.name.as_str()),
                _ => "?",
            };
            format!(
                "spread {} over {trips} {axis}, tiles of {tile}",
                einsum.dim(dim).name
            )
        }
    });
    lines.collect()
}

/// What an op's mapping makes of the memories of its path.
pub(super) fn memories(chip: &Chip, op: &ScheduledOp) -> Vec<MappedMemory> {
    let Some(usage) = &op.usage else {
        return Vec::new();
    };
    let tile = |o: &explain::OperandUse| MappedTile {
        operand: o.operand.name().into(),
        tile_bytes: o.tile_bytes,
        home: o.home,
    };
    let level = |l: &LevelUse| MappedMemory {
        memory: chip.nodes[l.memory].name.clone(),
        capacity_bytes: l.capacity.0,
        capacity_share: l.share(),
        port_utilization: super::ratio(l.busy.0, usage.time.0),
        tiles: l.operands.iter().map(tile).collect(),
    };
    usage.levels.iter().map(level).collect()
}

/// What an op's mapping makes of the axes of its path.
pub(super) fn axes(chip: &Chip, op: &ScheduledOp) -> Vec<MappedAxis> {
    let axes = op.usage.iter().flat_map(|u| &u.axes);
    axes.map(|a| MappedAxis {
        axis: explain::axis_name(chip, a),
        size: a.size,
        used: a.used,
    })
    .collect()
}
