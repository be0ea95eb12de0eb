//! The cost of ops that have a mapping, with their epilogues.

use presil_hwmodels::{EngineId, EngineKind, NodeKind, Operand};
use presil_workloads::einsum::Place;
use presil_workloads::{Einsum, OpId, OpKind, TensorId};

use super::operands::stored_operands;
use super::pricer::{Found, Pricer};
use super::residency::Scene;
use super::room::{tile_bits, weight_memory};
use super::{Execution, ScheduledOp, data, engines, product, tails};
use crate::cost::{Cost, Resource};
use crate::explain::usage;
use crate::kernels::Kernel;
use crate::ledger::{self, Ledger, add_busy, add_energy, add_traffic};
use crate::passes;
use crate::touched::touched;
use crate::vector::{self, Operands};

impl Pricer<'_> {
    /// An array op with its epilogue.
    pub(super) fn mapped(&self, id: OpId, found: Found) -> ScheduledOp {
        let Scene {
            chip, graph, tails, ..
        } = self.scene;
        let Found {
            engine,
            mode,
            solution,
            over_steps,
        } = found;
        let op = &graph.ops[id];
        let steps = op.steps;
        let step = self.problem(id, engine, mode);
        let home = step.as_ref().map(|(p, _)| p.home);
        let used = step
            .as_ref()
            .filter(|_| solution.passes.is_none())
            .map(|(p, _)| usage(p, &solution.mapping, &solution.cost));
        let passes = solution.passes;
        // A row-stationary array has no choice of mappings, and its tiles are handed over word by word.
        let gap = passes
            .is_none()
            .then(|| solution.certificate.objective.gap());
        let kernel = self.kernel(id, mode);
        let once = match (&kernel, op.contraction(), self.product_stored(id)) {
            (Some(k), Some(e), Some(stored)) => product::cost(chip, k, e, &stored, &solution.cost),
            _ => solution.cost,
        };
        let mut cost = ledger::repeat(once, steps);
        let mut notes: Vec<String> = kernel.iter().map(in_words).collect();

        // Scales move with their elements, at home; weights among the array's operands can be fetched ahead.
        let mut streamed = 0.0;
        let mut extra = Ledger::default();
        let einsum = op.contraction();
        for (access, operand) in einsum.iter().flat_map(|e| e.operands().zip(Operand::ALL)) {
            let s = match access.place {
                Place::Input(p) => op.inputs.get(p as usize).map(|t| self.stored(*t, false)),
                _ => self.scene.output_of(id).map(|t| self.stored(t, true)),
            };
            let Some(s) = s else { continue };
            let scales = s.bits - s.payload;
            for c in cost
                .counts
                .iter()
                .filter(|c| c.memory == s.home && c.operand == operand)
            {
                // Partial sums have no scales: of an output only what is written last does.
                let written = if operand == Operand::Output {
                    c.writes.min(u128::from(s.elements))
                } else {
                    0
                };
                let read = if operand == Operand::Output {
                    0
                } else {
                    c.reads
                };
                let (read, written) = (read as f64 * scales, written as f64 * scales);
                extra.beside(s.home, operand, read, written);
                if s.role == Operand::Weight && s.home == chip.root() {
                    streamed += c.read_bits
                        + if operand == Operand::Weight {
                            0.0
                        } else {
                            read
                        };
                }
            }
        }
        if let (Some(memory), Some(e)) = (over_steps, einsum)
            && let Some(t) = op.inputs.get(1)
        {
            let (elements, s) = (touched(e, &e.inputs[1]), self.stored(*t, false));
            extra.transfer(
                chip.root(),
                memory,
                Operand::Weight,
                u128::from(elements),
                s.bits,
            );
            notes.push(format!(
                "weights stay in {} over {steps} steps",
                chip.nodes[memory].name
            ));
        }
        // Operands that no einsum indexes (bias) are read once a step as the array's outputs start from them.
        let indexed = |i: usize| {
            einsum.is_some_and(|e| {
                e.inputs
                    .iter()
                    .any(|a| matches!(a.place, Place::Input(p) if p as usize == i))
            })
        };
        for (_, t) in op.inputs.iter().enumerate().filter(|(i, _)| !indexed(*i)) {
            let s = self.stored(*t, false);
            extra.read(
                s.home,
                s.role,
                u128::from(graph.tensors[*t].elements()) * u128::from(steps),
                s.bits,
            );
        }
        let (folded, tail): (Vec<OpId>, Vec<OpId>) = tails.tail[id.0 as usize]
            .iter()
            .partition(|o| tails.folded[o.0 as usize]);
        // Bias and output multipliers that a norm leaves behind.
        for t in folded
            .iter()
            .flat_map(|o| graph.ops[*o].inputs.iter().skip(1))
        {
            let s = self.stored(*t, false);
            extra.read(
                s.home,
                s.role,
                u128::from(s.elements) * u128::from(steps),
                s.bits,
            );
        }
        for &fused in &tail {
            self.epilogue(id, fused, &mut cost, &mut extra);
        }
        for (what, ops) in [("weights take in", &folded), ("epilogue", &tail)] {
            let names: Vec<&str> = ops.iter().map(|o| graph.ops[*o].name.as_str()).collect();
            if !names.is_empty() {
                notes.push(format!("{what}: {}", names.join(", ")));
            }
        }
        streamed += extra.weight_bits(chip.root());
        add_traffic(chip, &mut cost, extra);
        let data = self.data(id);
        data::apply(chip, &data, &mut cost);
        streamed *= data.coded_share(chip, chip.root(), Operand::Weight);
        self.skip_weights(id, engine, mode, &mut cost);
        if let (Some(passes), Some(home)) = (&passes, home) {
            passes::expose(chip, home, &mut cost);
            notes.push(passes.describe());
        }

        if let (EngineKind::Array { compute, .. }, Some(e)) = (&chip.engines[engine].kind, einsum)
            && let (NodeKind::Compute(node), Some(pair)) =
                (&chip.nodes[*compute].kind, engines::pair(graph, op, e))
        {
            notes.extend(engines::conversion_note(node, mode, pair));
        }
        let tiles = weight_memory(chip, Some(engine)).map_or(0.0, |n| {
            let held = einsum.map_or([0.0; 3], |e| {
                tile_bits(
                    &solution.mapping,
                    n,
                    e,
                    self.tensor_bits(id, e, mode, engine),
                )
            });
            // A double buffer's second half takes later weights once this op's last tile is in the first.
            let buffering = chip.nodes[n].memory().map_or(1, |m| m.buffering).max(1);
            let handed_over = held[1] * f64::from(buffering - 1);
            (held.iter().sum::<f64>() * f64::from(buffering) - handed_over)
                * chip.nodes[n].instances as f64
        });
        let mut scheduled = self.bare(
            id,
            Execution::Mapped {
                mapping: solution.mapping,
                mode,
            },
            Some(engine),
            cost,
        );
        scheduled.weights.streamed = streamed;
        scheduled.weights.room = (scheduled.weights.room - tiles).max(0.0);
        scheduled.notes = notes;
        // Where a kernel runs it, the mapping says nothing of what happens.
        scheduled.gap = gap.filter(|_| kernel.is_none());
        scheduled.usage = used.filter(|_| kernel.is_none());
        scheduled.passes = passes;
        scheduled.terms = step.map(|(p, _)| p.terms());
        scheduled.kernel = kernel;
        scheduled
    }

    /// The kernel that runs a MAC op, on a chip with kernels.
    pub(super) fn kernel(&self, id: OpId, mode: usize) -> Option<Kernel> {
        let Scene { chip, graph, .. } = self.scene;
        chip.kernels.as_ref()?;
        let einsum = graph.ops[id].contraction()?;
        product::of_einsum(chip, mode, einsum, &self.product_stored(id)?)
    }

    /// The operands of a product as they are stored, without scales: those are booked beside.
    fn product_stored(&self, id: OpId) -> Option<product::Where> {
        let op = &self.scene.graph.ops[id];
        let einsum = op.contraction()?;
        let input = |i: usize| match einsum.inputs.get(i)?.place {
            Place::Input(p) => op.inputs.get(p as usize).map(|t| self.stored(*t, false)),
            _ => None,
        };
        let output = self.stored(self.scene.output_of(id)?, true);
        let plain = |s: ledger::Stored| ledger::Stored {
            bits: s.payload,
            ..s
        };
        Some([plain(input(0)?), plain(input(1)?), plain(output)])
    }

    /// Stored bits of the operands of an array op while tiles: partial sums in the accumulator's format.
    pub(super) fn tensor_bits(
        &self,
        id: OpId,
        einsum: &Einsum,
        mode: usize,
        engine: EngineId,
    ) -> [f64; 3] {
        self.problem(id, engine, mode).map_or([0.0; 3], |(p, _)| {
            debug_assert!(std::ptr::eq(p.einsum, einsum));
            [
                p.bits[0],
                p.bits[1],
                p.bits[2].max(p.accumulate.bits() as f64),
            ]
        })
    }

    /// Adds an op of an epilogue to its MAC op's cost: lanes at work, operands other than the main one read.
    pub(super) fn epilogue(&self, root: OpId, fused: OpId, cost: &mut Cost, extra: &mut Ledger) {
        let Scene { chip, graph, .. } = self.scene;
        let op = &graph.ops[fused];
        let (OpKind::Cascade(einsums), Some(unit)) = (&op.kind, tails::inline_unit(chip)) else {
            return;
        };
        let engine = &chip.engines[unit];
        let EngineKind::Vector { memory, .. } = engine.kind else {
            return;
        };
        let [inputs, outputs] = stored_operands(graph, op, |t| self.home(t));
        let operands = Operands {
            inputs: &inputs,
            outputs: &outputs,
        };
        let Ok(work) = vector::lane_work(chip, engine, einsums, operands) else {
            return;
        };
        let steps = op.steps as f64;
        add_busy(&mut cost.busy, Resource::Vector, work.busy * steps);
        add_energy(&mut cost.energy, &engine.name, "lane", work.energy * steps);
        cost.latency += work.latency * steps;

        let group: Vec<OpId> = std::iter::once(root)
            .chain(self.scene.tails.tail[root.0 as usize].iter().copied())
            .collect();
        let made_inside = |t: &TensorId| {
            let stored = self.scene.base[t.0 as usize];
            group.iter().any(|o| {
                graph.ops[*o]
                    .outputs
                    .iter()
                    .any(|x| self.scene.base[x.0 as usize] == stored)
            })
        };
        for access in einsums
            .iter()
            .flat_map(|e| e.inputs.iter().map(move |a| (e, a)))
        {
            let (einsum, access) = access;
            let Place::Input(i) = access.place else {
                continue;
            };
            let (Some(t), Some(s)) = (op.inputs.get(i as usize), inputs.get(i as usize)) else {
                continue;
            };
            if made_inside(t) {
                continue;
            }
            let elements = u128::from(touched(einsum, access)) * u128::from(op.steps);
            extra.transfer(s.home, memory, s.role, elements, s.bits);
            extra.read(memory, s.role, elements, s.bits);
        }
    }
}

/// A kernel as a note says it.
pub(super) fn in_words(k: &Kernel) -> String {
    let clock = if k.slowdown > 1.001 {
        format!(", clock at {:.0} % by the power limit", 100.0 / k.slowdown)
    } else {
        String::new()
    };
    format!(
        "kernel {}: {} blocks, {} at once on a multiprocessor, {} waves{clock}",
        k.name, k.blocks, k.occupancy, k.waves
    )
}
