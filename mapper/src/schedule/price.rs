//! The cost of each op of a graph, once engines, epilogues and homes are known.

use presil_hwmodels::Chip;
use presil_numerics::IdVec;
use presil_workloads::{Graph, OpId, OpKind};

use super::engines::{self, Choice};
use super::facts::{assumptions, groups_in_words, proofs, scene_facts};
use super::memory_plan::{self, Tiles, allocate::Span};
use super::operands::stored_operands;
use super::planned::{self, PlanOptions};
use super::pricer::{Pricer, first_readers};
use super::residency::{self, GroupTile, Reserved, Residency, Scene};
use super::room::weight_memory;
use super::solve::{Effort, Memo};
use super::tails;
use super::{Execution, Schedule, ScheduleOptions, ScheduledOp};
use crate::fusion::{self, Chosen, FusedGroup, Pricing};
use crate::search::Objective;
use crate::vector::Operands;

/// Schedules a checked graph.
pub(super) fn schedule(
    graph: &Graph,
    chip: &Chip,
    options: &ScheduleOptions,
    plan: &PlanOptions,
    memo: &Memo,
) -> Schedule {
    let base = tails::bases(graph);
    let root = vec![chip.root(); graph.tensors.len()];
    let mut choices: Vec<Choice> = graph
        .ops
        .iter()
        .map(|op| {
            let [inputs, outputs] = stored_operands(graph, op, |t| root[t.0 as usize]);
            engines::choose(
                chip,
                graph,
                op,
                Operands {
                    inputs: &inputs,
                    outputs: &outputs,
                },
            )
        })
        .collect();
    let tails = tails::find(chip, graph, &choices, &base);
    // Nobody runs what weights have taken in.
    for (choice, _) in choices
        .iter_mut()
        .zip(&tails.folded)
        .filter(|(_, folded)| **folded)
    {
        *choice = Choice::View;
    }
    let planned = planned::plan(chip, graph, &base, &choices, tails, options.objective, plan);
    let scene = Scene {
        chip,
        graph,
        base: &base,
        choices: &choices,
        tails: &planned.tails,
    };
    let maker = Maker {
        scene: &scene,
        options,
        plan,
        memo,
        order: &planned.order,
        reordered: planned.reordered,
    };
    let plain = maker.schedule(&planned.residency, &[]);
    if !(plan.fuse && chip.mapspace.fuse_groups) {
        return plain;
    }
    match maker.fused(&planned.residency, &plain) {
        Some(fused) => Schedule {
            unfused: Some(Box::new(plain)),
            ..fused
        },
        None => plain,
    }
}

/// A fused group with its ops priced.
struct Ready {
    group: FusedGroup,
    ops: Vec<ScheduledOp>,
    /// What their mappings have in resident memories.
    tiles: Vec<Vec<Tiles>>,
}

/// What groups take out of memories.
fn reserved(pricing: &Pricing, chosen: &[Chosen]) -> Reserved {
    let mut reserved = Reserved::default();
    for c in chosen {
        reserved.inner.extend(&c.group.inner);
        let tiles = pricing
            .reservations(&c.group, &c.tiling, &c.way)
            .into_iter();
        reserved
            .tiles
            .extend(tiles.map(|(tensor, bytes, from, to)| GroupTile {
                memory: c.way.memory,
                tensor,
                bytes,
                live: Span { from, to },
            }));
        for (op, tiles) in c.group.ops.iter().zip(&c.priced.tiles) {
            let position = pricing.scene.position(*op);
            let of = |t: &Tiles| (t.memory, position, t.bytes.saturating_mul(t.copies));
            reserved.passing.extend(tiles.iter().map(of));
            reserved.positions.push(position);
        }
    }
    reserved
}

/// Makes schedules of a scene.
struct Maker<'a> {
    scene: &'a Scene<'a>,
    options: &'a ScheduleOptions,
    plan: &'a PlanOptions,
    memo: &'a Memo,
    order: &'a [OpId],
    reordered: bool,
}

impl Maker<'_> {
    /// The schedule with the groups that pay, where there are any.
    fn fused(&self, residency: &Residency, plain: &Schedule) -> Option<Schedule> {
        let Scene { chip, .. } = *self.scene;
        let before = self.pricing(residency, false, Effort::Quick);
        let mut chosen = fusion::choose(&before, self.order, &plain.ops);
        // A group that does not do what it promised goes, and the rest is placed again.
        while !chosen.is_empty() {
            let again = residency::plan(
                self.scene,
                self.options.objective,
                self.plan.alignment,
                &reserved(&before, &chosen),
            );
            let over = |h: &residency::Held| {
                let memory = chip.nodes[h.memory].memory();
                h.allocation.peak > memory.map_or(0, |m| m.capacity.0)
            };
            if again.held.iter().any(over) {
                chosen.pop();
                continue;
            }
            let after = self.pricing(&again, true, Effort::Full);
            let ready: Vec<Option<Ready>> = chosen
                .iter()
                .map(|c| self.ready(&after, c, plain))
                .collect();
            if ready.iter().all(Option::is_some) {
                let ready: Vec<Ready> = ready.into_iter().flatten().collect();
                return Some(self.schedule(&again, &ready));
            }
            let mut kept = ready.iter();
            chosen.retain(|_| kept.next().is_some_and(Option::is_some));
        }
        None
    }

    fn pricing<'b>(
        &'b self,
        residency: &'b Residency,
        reserved: bool,
        effort: Effort,
    ) -> Pricing<'b> {
        Pricing {
            scene: self.scene,
            residency,
            options: self.options,
            memo: self.memo,
            effort,
            reserved,
        }
    }

    /// A group priced in full; `None` if it has no mapping, or is no better than its ops alone.
    fn ready(&self, pricing: &Pricing, chosen: &Chosen, plain: &Schedule) -> Option<Ready> {
        let chosen = chosen.clone().exact(pricing)?;
        let priced = pricing.price(&chosen.group, &chosen.tiling, &chosen.way)?;
        let alone = || chosen.group.ops.iter().map(|o| &plain.ops[*o].cost);
        let time = priced.time < alone().map(|c| c.time.0).sum::<f64>();
        let energy = priced.energy < alone().map(|c| c.energy_total().0).sum::<f64>();
        let better = match self.options.objective {
            Objective::Latency => time,
            Objective::Energy => energy,
            Objective::Edp => time || energy,
        };
        better.then(|| Ready {
            group: chosen.told(pricing),
            ops: priced.ops,
            tiles: priced.tiles,
        })
    }

    fn schedule(&self, residency: &Residency, groups: &[Ready]) -> Schedule {
        let Scene {
            chip,
            graph,
            base,
            tails,
            ..
        } = *self.scene;
        // What runs in a group is priced already.
        let mut choices = self.scene.choices.to_vec();
        for op in groups.iter().flat_map(|g| &g.group.ops) {
            choices[op.0 as usize] = Choice::View;
        }
        let scene = Scene {
            choices: &choices,
            ..*self.scene
        };
        let pricer = Pricer {
            scene,
            residency,
            options: self.options,
            first_reader: first_readers(graph, base, self.order),
        };
        let solutions = pricer.solutions(self.memo, Effort::Full);
        let mut tiles = pricer.tiles(self.order, &solutions);
        for (_, op, list) in &mut tiles {
            for ready in groups {
                if let Some(m) = ready.group.ops.iter().position(|o| o == op) {
                    list.clone_from(&ready.tiles[m]);
                }
            }
        }
        let ahead = chip
            .mapspace
            .prefetch_weights
            .then(|| weight_memory(chip, None));
        let memory = memory_plan::build(
            chip,
            residency,
            &tiles,
            ahead.flatten(),
            self.plan.alignment,
            self.reordered,
        );
        let mut ops = pricer.ops(solutions);
        for ready in groups {
            for (id, op) in ready.group.ops.iter().zip(&ready.ops) {
                let mut op = op.clone();
                // Steps know nothing of what stays between inferences.
                op.weights.loaded = ops[*id].weights.loaded;
                if let Execution::Fused { into } = &mut op.execution {
                    *into = ready.group.ops[into.0 as usize];
                }
                ops[*id] = op;
            }
        }
        let homes = graph.tensors.ids().map(|t| pricer.home(t)).collect();
        let facts = scene_facts(chip, graph, tails, residency, self.reordered);
        let mut assumptions = assumptions(&facts);
        assumptions.extend(groups_in_words(chip, groups.iter().map(|g| &g.group)));
        assumptions.extend(proofs(ops.iter().filter_map(|o| o.gap).collect()));
        Schedule {
            order: self.order.to_vec(),
            homes,
            memory,
            peak_activation: residency.peak_activation,
            assumptions,
            unmodelled: unmodelled(graph, &ops),
            groups: groups.iter().map(|g| g.group.clone()).collect(),
            objective: self.options.objective,
            unfused: None,
            ops,
        }
    }
}

/// Ops without a model, or that no engine runs, with the reason.
fn unmodelled(graph: &Graph, ops: &IdVec<OpId, ScheduledOp>) -> Vec<String> {
    let mut list = Vec::new();
    for (id, op) in ops.iter_ids() {
        let (name, class) = (&graph.ops[id].name, graph.ops[id].class.name());
        if let Execution::Unsupported { reason } = &op.execution {
            list.push(format!(
                "{name} ({class}): no engine runs it and its cost is missing: {reason}"
            ));
        }
        if let OpKind::Unknown { name: kind } = &graph.ops[id].kind {
            list.push(format!(
                "{name} ({kind}): presil has no model of it; only its operands' movement is costed"
            ));
        }
    }
    list
}
