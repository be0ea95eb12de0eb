//! What an op waits for in a memory, class by class.
//!
//! Time that is told of a memory is told of what its port does. Of a DRAM whose bus turns between reads and writes, the
//! part of the port's time that the op's written bytes pay for turns is a class of its own:
//!
//! ```text
//! turnaround = told x written bytes x time of a turn / group / time of the port
//! ```

use presil_hwmodels::{Chip, NodeId};
use presil_mapper::ledger;
use presil_mapper::schedule::ScheduledOp;

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
