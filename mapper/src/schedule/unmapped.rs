//! The cost of ops that have no mapping: vector units, movement, the host.

use presil_hwmodels::{Chip, EngineId, EngineKind, Kernels};
use presil_numerics::{Bytes, Seconds};
use presil_workloads::{Einsum, Op, OpClass, OpKind};

use super::Execution;
use super::engines::Choice;
use super::operands::moved;
use super::pricer::Pricer;
use super::residency::Scene;
use crate::cost::{Cost, Resource};
use crate::kernels::{self, RowOp, Rows, machine};
use crate::ledger;
use crate::vector::{self, Operands};

impl Pricer<'_> {
    /// Execution and cost of one step of an op that has no mapping.
    pub(super) fn unmapped(
        &self,
        op: &Op,
        choice: &Choice,
        operands: Operands,
        position: usize,
    ) -> Result<(Execution, Option<EngineId>, Cost), vector::CannotRun> {
        let Scene { chip, graph, .. } = self.scene;
        let [reads, writes] = moved(graph, op, operands);
        let comparisons = if let OpKind::Select { comparisons, .. } = op.kind {
            comparisons
        } else {
            0
        };
        Ok(match choice {
            Choice::View => (Execution::View, None, Cost::default()),
            Choice::Vector(engine) => {
                let einsums: &[Einsum] = if let OpKind::Cascade(e) = &op.kind {
                    e
                } else {
                    &[]
                };
                let unit = &chip.engines[*engine];
                let available = match unit.kind {
                    EngineKind::Vector { memory, .. } => {
                        self.residency.left(chip, memory, position)
                    }
                    _ => Bytes::ZERO,
                };
                let cost = vector::cascade(chip, unit, einsums, operands, available)?;
                let cost = match chip.kernels.as_ref().filter(|k| k.vector == *engine) {
                    Some(kernels) => {
                        let bits = operands.inputs.first().map_or(0, |s| s.format.bits());
                        as_kernel(chip, kernels, op.class, einsums, bits as f64, cost)
                    }
                    None => cost,
                };
                (Execution::Vector, Some(*engine), cost)
            }
            Choice::Movement(by) => {
                let cost = vector::movement(
                    chip,
                    by.map(|e| &chip.engines[e]),
                    &reads,
                    &writes,
                    comparisons,
                )?;
                (Execution::Movement, *by, cost)
            }
            Choice::Host(engine, reason) => {
                let operations = match &op.kind {
                    OpKind::Cascade(einsums) => vector::host_operations(einsums),
                    _ => comparisons as f64,
                };
                let cost = vector::host(chip, &chip.engines[*engine], operations, &reads, &writes)?;
                let executed = op
                    .contraction()
                    .and_then(Einsum::executed_points)
                    .unwrap_or(0);
                let cost = Cost {
                    executed_macs: u128::from(executed),
                    ..cost
                };
                (
                    Execution::Host {
                        reason: reason.clone(),
                    },
                    Some(*engine),
                    cost,
                )
            }
            Choice::Unsupported(reason) => (
                Execution::Unsupported {
                    reason: reason.clone(),
                },
                None,
                Cost::default(),
            ),
            Choice::Array(_) => (
                Execution::Unsupported {
                    reason: "no array has a mapping for it".into(),
                },
                None,
                Cost::default(),
            ),
        })
    }
}

/// The cost of a cascade whose passes are one kernel: its traffic and lanes, in the time of the family's kernels. Softmax and norms
/// keep or read again their rows as these kernels do, whatever the passes of the cascade would.
fn as_kernel(
    chip: &Chip,
    kernels: &Kernels,
    class: OpClass,
    einsums: &[Einsum],
    bits: f64,
    mut cost: Cost,
) -> Cost {
    let Some(machine) = machine(chip, 0) else {
        return cost;
    };
    let bytes = |n| {
        let (read, written) = ledger::bits(&cost.counts, n);
        (read / 8.0, written / 8.0)
    };
    let (far, near) = (bytes(chip.root()), bytes(kernels.cache));
    let busy = cost.busy.iter().filter(|b| b.0 == Resource::Vector);
    let lanes: f64 = busy.map(|b| b.1.0).sum();
    let operations = lanes * machine.lanes * machine.multiprocessors * machine.hertz;
    let reduces = |e: &&Einsum| reduced(e) > 1;
    let kernel = match (class, einsums.iter().find(reduces)) {
        (OpClass::Softmax | OpClass::Norm, Some(first)) => {
            let columns = reduced(first);
            let points = first.executed_points().unwrap_or(u64::MAX);
            let op = match class {
                OpClass::Softmax => RowOp::Softmax,
                _ if einsums.iter().filter(reduces).count() > 1 => RowOp::LayerNorm,
                _ => RowOp::RmsNorm,
            };
            let r = Rows {
                op,
                rows: points / columns,
                columns,
                bits,
                cached: far.0 + far.1 == 0.0,
            };
            kernels::rows(&machine, class.name(), &r)
        }
        (_, reducing) => {
            // What comes from DRAM is written to the cache, and what goes there is read from it.
            let through = far.0 + far.1;
            let near = (near.0 - through).max(0.0) + (near.1 - through).max(0.0);
            let moved = [far.0, far.1, near];
            kernels::lanes(
                &machine,
                class.name(),
                moved,
                operations,
                reducing.is_some(),
            )
        }
    };
    let cache = Resource::Memory(kernels.cache);
    for b in cost.busy.iter_mut().filter(|b| b.0 == cache) {
        b.1 = Seconds((kernel.cache_bytes + kernel.dram_written) / machine.cache_reached());
    }
    let longest = ledger::longest(&cost.busy);
    cost.latency = Seconds((kernel.time - longest.0).max(0.0));
    cost.time = cost.latency + longest;
    cost
}

/// Elements that one result of an einsum is reduced from.
fn reduced(einsum: &Einsum) -> u64 {
    let sizes = einsum.dim_ids().filter(|d| einsum.is_reduced(*d));
    sizes
        .map(|d| einsum.dim(d).size)
        .fold(1, u64::saturating_mul)
}
