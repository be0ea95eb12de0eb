//! The cost of ops that have no mapping: vector units, movement, the host.

use presil_hwmodels::{EngineId, EngineKind};
use presil_numerics::Bytes;
use presil_workloads::{Einsum, Op, OpKind};

use super::Execution;
use super::engines::Choice;
use super::operands::moved;
use super::pricer::Pricer;
use super::residency::Scene;
use crate::cost::Cost;
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
                let mut cost = vector::cascade(chip, unit, einsums, operands, available)?;
                if let Some(k) = chip.kernels.as_ref().filter(|k| k.vector == *engine) {
                    // A kernel's own start: launch and the first dependent access.
                    let start = k.parameters.launch + k.parameters.round_trip - unit.launch;
                    cost.latency += start;
                    cost.time += start;
                }
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
