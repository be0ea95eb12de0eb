//! The cost of a set of ops that run at once.

use presil_hwmodels::{Chip, EngineKind, NodeKind};
use presil_numerics::Seconds;

use super::Cores;
use crate::cost::{Cost, MemoryCount, Resource};
use crate::ledger::{add_busy, add_energy, longest};
use crate::schedule::{ScheduledOp, WeightStream};

/// The part of an op's latency that members of a set spend side by side: launch, array fill and drain.
pub(super) fn side_by_side(chip: &Chip, op: &ScheduledOp) -> Seconds {
    let Some(engine) = op.engine.and_then(|e| chip.engines.get(e)) else {
        return Seconds::ZERO;
    };
    let mut fixed = engine.launch.0;
    if let EngineKind::Array {
        compute,
        fill_cycles,
        drain_cycles,
    } = engine.kind
        && let NodeKind::Compute(c) = &chip.nodes[compute].kind
    {
        let clock = chip.clocks[c.clock].domain;
        fixed += clock.seconds((fill_cycles + drain_cycles) as f64).0;
    }
    Seconds(fixed.min(op.cost.latency.0))
}

/// Whether members of a set share a resource.
pub(super) fn is_shared(chip: &Chip, cores: Cores, resource: Resource) -> bool {
    match resource {
        Resource::Compute => false,
        Resource::Memory(n) | Resource::Network(n) => !cores.is_private(chip, n),
        Resource::Vector | Resource::Host | Resource::Latency => true,
    }
}

/// Ops that run at once on cores of their own, as one op: engine, execution and notes are those of the first. None
/// for no ops.
pub fn together(chip: &Chip, cores: Cores, members: &[&ScheduledOp]) -> Option<ScheduledOp> {
    let first = *members.first()?;
    let mut cost = Cost::default();
    let mut weights = WeightStream::default();
    let (mut side, mut queued) = (Seconds::ZERO, Seconds::ZERO);
    for m in members {
        let fixed = side_by_side(chip, m);
        side = side.max(fixed);
        queued += m.cost.latency - fixed;
        cost.executed_macs += m.cost.executed_macs;
        cost.compute_cycles = cost.compute_cycles.max(m.cost.compute_cycles);
        cost.instances_used += m.cost.instances_used;
        for (resource, busy) in &m.cost.busy {
            if is_shared(chip, cores, *resource) {
                add_busy(&mut cost.busy, *resource, *busy);
                continue;
            }
            match cost.busy.iter_mut().find(|b| b.0 == *resource) {
                Some(b) => b.1 = b.1.max(*busy),
                None => cost.busy.push((*resource, *busy)),
            }
        }
        for e in &m.cost.energy {
            add_energy(&mut cost.energy, &e.component, e.action, e.energy.0);
        }
        for c in &m.cost.counts {
            add_count(&mut cost.counts, c);
        }
        weights.streamed += m.weights.streamed;
        weights.once += m.weights.once;
        weights.loaded += m.weights.loaded;
        weights.room += m.weights.room;
    }
    cost.latency = side + queued;
    cost.time = cost.latency + longest(&cost.busy);
    Some(ScheduledOp {
        execution: first.execution.clone(),
        engine: first.engine,
        cost,
        weights,
        notes: first.notes.clone(),
        usage: None,
        terms: None,
        passes: None,
        tile: None,
        gap: first.gap,
        kernel: None,
    })
}

fn add_count(counts: &mut Vec<MemoryCount>, c: &MemoryCount) {
    let same = |x: &&mut MemoryCount| x.memory == c.memory && x.operand == c.operand;
    match counts.iter_mut().find(same) {
        Some(x) => {
            x.reads += c.reads;
            x.writes += c.writes;
            x.read_bits += c.read_bits;
            x.write_bits += c.write_bits;
        }
        None => counts.push(*c),
    }
}
