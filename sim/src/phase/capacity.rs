//! What the root memory holds and moves, by what it is.

use presil_hwmodels::{Chip, MemoryKind, Operand};
use presil_mapper::schedule::Schedule;
use presil_numerics::Bytes;
use presil_workloads::tensor::Role;
use presil_workloads::{Graph, Op, TensorId};

use crate::run::{OpRun, Phase};

/// Bytes of the root memory, read and written, by what they are. An access belongs to the tensor that is the
/// operand: the first or second input, or the first output.
pub(super) fn root_traffic(
    graph: &Graph,
    chip: &Chip,
    schedule: &Schedule,
    repeats: &[u64],
) -> Vec<(String, f64)> {
    let (mut weights, mut caches, mut activations) = (0.0, 0.0, 0.0);
    for ((op, scheduled), repeat) in graph.ops.iter().zip(schedule.ops.iter()).zip(repeats) {
        let counts = &scheduled.cost.counts;
        for count in counts.iter().filter(|c| c.memory == chip.root()) {
            let bytes = (count.read_bits + count.write_bits) / 8.0 * *repeat as f64;
            match operand(op, count.operand).map(|t| graph.tensors[t].role) {
                Some(Role::Weight | Role::Constant) => weights += bytes,
                Some(Role::Cache) => caches += bytes,
                _ => activations += bytes,
            }
        }
    }
    let list = [
        ("weights", weights),
        ("caches", caches),
        ("activations", activations),
    ];
    list.map(|(name, bytes)| (name.to_string(), bytes)).to_vec()
}

/// The tensor that is an operand of an op.
fn operand(op: &Op, operand: Operand) -> Option<TensorId> {
    match operand {
        Operand::Input => op.inputs.first().copied(),
        Operand::Weight => op.inputs.get(1).or(op.inputs.first()).copied(),
        Operand::Output => op.outputs.first().copied(),
    }
}

/// Says so where tensors spill into a root memory that products do not write while they run.
pub(super) fn spill(chip: &Chip, phases: &[Phase]) -> Option<String> {
    let name = &chip.nodes[chip.root()].name;
    let of_op = |op: &OpRun| {
        let root = op.traffic.iter().find(|t| t.memory == *name);
        root.map(|t| t.write_bytes).filter(|b| *b > 0.0)
    };
    // The last op that writes gives the result back.
    let of_phase = |p: &Phase| {
        let writes: Vec<f64> = p.ops.iter().filter_map(of_op).collect();
        writes
            .split_last()
            .map_or(0.0, |(_, others)| others.iter().sum())
    };
    let written = phases.iter().map(of_phase).fold(0.0, f64::max);
    let flash = chip.nodes[chip.root()].memory()?.kind == MemoryKind::Flash;
    (flash && written > 0.0).then(|| {
        let written = Bytes(written as u64);
        format!(
            "capacity: the memories on the chip hold too little; {written} of activations are written to `{name}`, \
             which is flash: the figures are as if it could be"
        )
    })
}

/// Says so where weights and caches do not fit into the root memory in some phase.
pub(super) fn overflow(chip: &Chip, phases: &[Phase]) -> Option<String> {
    let capacity = chip.nodes[chip.root()].memory()?.capacity;
    let needed = |p: &&Phase| p.weight_bytes.saturating_add(p.cache_bytes);
    let worst = phases.iter().max_by_key(needed)?;
    (needed(&worst) > capacity.0).then(|| {
        format!(
            "capacity: weights ({}) and caches ({}) do not fit into `{}` ({capacity}); the figures are as if they did",
            Bytes(worst.weight_bytes),
            Bytes(worst.cache_bytes),
            chip.nodes[chip.root()].name
        )
    })
}
