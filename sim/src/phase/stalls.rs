//! What an op waits for in a memory, class by class, and what is taken of memories.
//!
//! Time that is told of a memory is told of what its port does. Of a DRAM whose bus turns between reads and writes, the
//! part of the port's time that the op's written bytes pay for turns is a class of its own:
//!
//! ```text
//! turnaround = told x written bytes x time of a turn / group / time of the port
//! ```

use presil_hwmodels::{Chip, NodeId};
use presil_mapper::analysis::conflicts::conflicts;
use presil_mapper::ledger;
use presil_mapper::schedule::{Execution, ScheduledOp};
use presil_numerics::Bytes;
use presil_workloads::{Graph, OpId};

/// The seconds that an op waits for memories, by class.
pub(super) fn by_class(
    chip: &Chip,
    op: &ScheduledOp,
    memories: &[(usize, f64)],
) -> Vec<(String, f64)> {
    let mut classes = Vec::new();
    for (index, seconds) in memories {
        let node = NodeId(*index as u32);
        let name = &chip.nodes[node].name;
        let turned = turned(chip, op, node) * seconds;
        classes.push((name.clone(), seconds - turned));
        if turned > 0.0 {
            classes.push((format!("{name} turnaround"), turned));
        }
    }
    classes
}

/// The share of a memory's port time in which its bus turns.
fn turned(chip: &Chip, op: &ScheduledOp, node: NodeId) -> f64 {
    let memory = &chip.nodes[node];
    let Some(turns) = memory.memory().and_then(|m| m.turns) else {
        return 0.0;
    };
    let (read, written) = ledger::bits(&op.cost.counts, node);
    let port = ledger::port_time(chip, node, read, written).0;
    let turning = written / 8.0 / memory.instances.max(1) as f64 * turns.each_byte();
    match port > 0.0 {
        true => (turning / port).clamp(0.0, 1.0),
        false => 0.0,
    }
}

/// What the chip's off-chip memories are taken to do beside what their files say.
pub(super) fn assumptions(chip: &Chip) -> Vec<String> {
    let Some(m) = chip.nodes[chip.root()].memory() else {
        return Vec::new();
    };
    let name = &chip.nodes[chip.root()].name;
    let mut all = Vec::new();
    if m.in_flight.asked.is_none() {
        all.push(format!(
            "requests in flight to `{name}` are not bounded: the chip file gives no `outstanding`"
        ));
    }
    if let Some(turns) = m.turns {
        all.push(format!(
            "the bus of `{name}` turns between reads and writes once for each {} written: {:.1} ns",
            Bytes(turns.group.round() as u64),
            turns.time.0 * 1e9
        ));
    }
    all
}

/// Accesses of a mapped op that meet in banks.
pub(super) fn conflict_notes(
    graph: &Graph,
    chip: &Chip,
    id: OpId,
    op: &ScheduledOp,
) -> Vec<String> {
    let (Execution::Mapped { mapping, .. }, Some(terms)) = (&op.execution, &op.terms) else {
        return Vec::new();
    };
    let Some(einsum) = op.tile.as_ref().or(graph.ops[id].contraction()) else {
        return Vec::new();
    };
    let told = conflicts(&terms.of(einsum, chip), mapping)
        .into_iter()
        .map(|c| {
            format!(
                "bank conflicts: {} in `{}` takes {:.2} times the cycles (in simulated times)",
                c.operand.name(),
                chip.nodes[c.memory].name,
                c.factor
            )
        });
    told.collect()
}
