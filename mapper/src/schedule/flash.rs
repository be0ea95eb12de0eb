//! Attention as one kernel, on chips with kernels.
//!
//! Scores, their softmax, and its product with the values are one kernel where nothing else reads what passes between
//! them: the scores never leave a block. The op of the scores carries the cost, the other two are fused into it.

use presil_hwmodels::{EngineKind, Operand};
use presil_numerics::IdVec;
use presil_numerics::{Joules, Seconds};
use presil_workloads::einsum::Domain;
use presil_workloads::{Einsum, OpClass, OpId, TensorId};

use super::mapped::in_words;
use super::pricer::Pricer;
use super::{Execution, ScheduledOp};
use crate::cost::{Cost, EnergyEntry, Resource};
use crate::kernels::{Attention, Kernel, attention, machine};
use crate::ledger::{self, Ledger, longest};
use crate::touched::touched;

/// The three ops of an attention.
struct Chain {
    scores: OpId,
    softmax: OpId,
    values: OpId,
}

impl Pricer<'_> {
    /// Prices each attention of the graph as one kernel, where that is faster than its ops.
    pub(super) fn flash(&self, ops: &mut IdVec<OpId, ScheduledOp>) {
        if self.scene.chip.kernels.is_none() {
            return;
        }
        for scores in self.scene.graph.ops.ids() {
            let Some(chain) = self.chain(scores) else {
                continue;
            };
            let Some((kernel, cost)) = self.flash_cost(&chain, ops) else {
                continue;
            };
            let parts = [chain.scores, chain.softmax, chain.values];
            let alone: f64 = parts.iter().map(|o| ops[*o].cost.time.0).sum();
            if cost.time.0 >= alone {
                continue;
            }
            let names = |o: OpId| self.scene.graph.ops[o].name.as_str();
            let note = format!(
                "{}; takes in {} and {}",
                in_words(&kernel),
                names(chain.softmax),
                names(chain.values)
            );
            for o in [chain.softmax, chain.values] {
                let op = &mut ops[o];
                op.execution = Execution::Fused { into: scores };
                op.cost = Cost::default();
                op.kernel = None;
                op.notes = vec![format!("in the attention kernel of {}", names(scores))];
            }
            let op = &mut ops[scores];
            op.cost = cost;
            op.kernel = Some(kernel);
            op.notes = vec![note];
        }
    }

    /// The attention that starts with an op: nothing else reads its scores or their softmax.
    fn chain(&self, scores: OpId) -> Option<Chain> {
        let graph = self.scene.graph;
        if graph.ops[scores].class != OpClass::AttentionQk {
            return None;
        }
        let softmax = self.only_reader(*graph.ops[scores].outputs.first()?)?;
        let values = self.only_reader(*graph.ops[softmax].outputs.first()?)?;
        let fits = graph.ops[softmax].contraction().is_none()
            && graph.ops[values].class == OpClass::AttentionPv
            && [softmax, values]
                .iter()
                .all(|o| graph.ops[*o].steps == graph.ops[scores].steps);
        fits.then_some(Chain {
            scores,
            softmax,
            values,
        })
    }

    fn only_reader(&self, t: TensorId) -> Option<OpId> {
        let base = &self.scene.base;
        let stored = base[t.0 as usize];
        let mut readers = self
            .scene
            .graph
            .ops
            .iter_ids()
            .filter(|(_, op)| op.inputs.iter().any(|i| base[i.0 as usize] == stored))
            .map(|(id, _)| id);
        let first = readers.next()?;
        readers.next().is_none().then_some(first)
    }

    fn flash_cost(&self, chain: &Chain, ops: &IdVec<OpId, ScheduledOp>) -> Option<(Kernel, Cost)> {
        let (chip, graph) = (self.scene.chip, self.scene.graph);
        let Execution::Mapped { mode, .. } = &ops[chain.scores].execution else {
            return None;
        };
        if !ops[chain.values].execution.is_mapped() {
            return None;
        }
        let x = machine(chip, *mode)?;
        let (scores, values) = (&graph.ops[chain.scores], &graph.ops[chain.values]);
        let einsum = scores.contraction()?;
        let query = self.stored(*scores.inputs.first()?, false);
        let keys = self.stored(*scores.inputs.get(1)?, false);
        let output = self.stored(*values.outputs.first()?, true);
        let value = self.stored(*values.inputs.get(1)?, false);
        let a = shape(einsum, [query.bits, keys.bits, output.bits])?;
        let kernel = attention(&x, &a);
        let mut moved = Ledger::default();
        let cache = chip.kernels.as_ref()?.cache;
        let second = values.contraction()?;
        let reads = [
            (query, touched(einsum, einsum.inputs.first()?)),
            (keys, touched(einsum, einsum.inputs.get(1)?)),
            (value, touched(second, second.inputs.get(1)?)),
        ];
        for (s, elements) in reads {
            moved.read(s.home, s.role, u128::from(elements), s.bits);
        }
        let written = touched(second, &second.output);
        moved.write(
            output.home,
            Operand::Output,
            u128::from(written),
            output.bits,
        );
        moved.beside(cache, Operand::Input, kernel.cache_bytes * 8.0, 0.0);
        let mut energy = Vec::new();
        if let EngineKind::Array { compute, .. } = chip.engines[chip.kernels.as_ref()?.array].kind {
            energy.push(EnergyEntry {
                component: chip.nodes[compute].name.clone(),
                action: "mac",
                energy: Joules(kernel.multiply_energy),
            });
        }
        let busy = [(Resource::Compute, Seconds(kernel.busy * kernel.slowdown))];
        let mut cost = moved.close(chip, &busy, Seconds::ZERO, energy);
        cost.latency = Seconds((kernel.time - longest(&cost.busy).0).max(0.0));
        cost.time = cost.latency + longest(&cost.busy);
        let parts = [chain.scores, chain.values].map(|o| &ops[o].cost);
        cost.instances_used = parts[0].instances_used;
        let mut cost = ledger::repeat(cost, scores.steps);
        cost.executed_macs = parts.iter().map(|c| c.executed_macs).sum();
        Some((kernel, cost))
    }
}

/// The attention that the einsum of its scores describes: keys and widths in the second operand, heads of a group and
/// queries in the first alone.
fn shape(einsum: &Einsum, [query_bits, key_bits, output_bits]: [f64; 3]) -> Option<Attention> {
    let (first, second) = (einsum.inputs.first()?, einsum.inputs.get(1)?);
    let (mut rows, mut keys, mut width, mut units) = (1u64, 1u64, 1u64, 1u64);
    for d in einsum.dim_ids() {
        let size = einsum.dim(d).size;
        let names = [first, second, &einsum.output].map(|a| Einsum::names(a, d));
        let extent = match names {
            [true, true, true] => &mut units,
            [true, true, false] => &mut width,
            [true, false, true] => &mut rows,
            [false, true, true] => &mut keys,
            _ => return None,
        };
        *extent = extent.saturating_mul(size);
    }
    let (queries, window, causal) = match &einsum.domain {
        Domain::Causal { query, .. } => (einsum.dim(*query).size, None, true),
        Domain::Banded { query, window, .. } => (einsum.dim(*query).size, Some(*window), true),
        Domain::Dense => (rows, None, false),
        Domain::Ragged { .. } => return None,
    };
    Some(Attention {
        batch: units,
        heads: (rows / queries.max(1)).max(1),
        kv_heads: 1,
        queries,
        keys,
        head_dim: width,
        window,
        causal,
        query_bits,
        key_bits,
        output_bits,
    })
}
