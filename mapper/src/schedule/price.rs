//! The cost of each op of a graph, once engines, epilogues and homes are known.

use presil_hwmodels::{Chip, FuseGroups};
use presil_numerics::IdVec;
use presil_workloads::{Graph, OpId, OpKind};

use super::engines::Choice;
use super::facts::{assumptions, groups_in_words, proofs, scene_facts};
use super::memory_plan::{self, Tiles, allocate::Span};
use super::planned::{PlanOptions, Planned};
use super::prepared::{Prepared, Share};
use super::pricer::Pricer;
use super::residency::{self, GroupTile, Reserved, Residency, Scene};
use super::room::weight_memory;
use super::solve::{Effort, Memo};
use super::{Execution, Schedule, ScheduleOptions, ScheduledOp};
use crate::fusion::{self, Chosen, FusedGroup, Pricing};
use crate::partition::Partition;
use crate::search::Objective;

/// Schedules a checked graph.
pub(super) fn schedule(
    graph: &Graph,
    chip: &Chip,
    options: &ScheduleOptions,
    plan: &PlanOptions,
    memo: &Memo,
) -> Schedule {
    Prepared::new(graph, chip, options, plan).schedule(memo)
}

/// A fused group with its ops priced.
pub(crate) struct Ready {
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

impl Prepared<'_> {
    /// The schedule with groups fused, where that promises to pay; the one without is in it.
    pub(crate) fn schedule(&self, memo: &Memo) -> Schedule {
        let plain = self.price(
            &self.planned,
            &self.planned.residency,
            Parts::default(),
            memo,
        );
        if !self.plan.fuse || self.chip.mapspace.fuse_groups == FuseGroups::None {
            return plain.0;
        }
        match self.fused(&plain.0, memo) {
            Some(fused) => Schedule {
                unfused: Some(Box::new(plain.0)),
                ..fused
            },
            None => plain.0,
        }
    }

    /// The schedule with the groups that pay, where there are any.
    fn fused(&self, plain: &Schedule, memo: &Memo) -> Option<Schedule> {
        let (chip, planned) = (self.chip, &self.planned);
        let scene = self.scene(chip, planned);
        let before = self.pricing(&scene, &planned.residency, false, Effort::Quick, memo);
        let constrained = |op: &OpId| plain.constrained.iter().any(|c| c.op == *op);
        let mut chosen = fusion::choose(&before, &planned.order, &plain.ops, constrained);
        // A group that does not do what it promised goes, and the rest is placed again.
        while !chosen.is_empty() {
            let again = residency::plan(
                &scene,
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
            let after = self.pricing(&scene, &again, true, Effort::Unmasked, memo);
            let ready: Vec<Option<Ready>> = chosen
                .iter()
                .map(|c| self.ready(&after, c, plain))
                .collect();
            if ready.iter().all(Option::is_some) {
                let ready: Vec<Ready> = ready.into_iter().flatten().collect();
                let parts = Parts {
                    groups: &ready,
                    ..Parts::default()
                };
                return Some(self.price(planned, &again, parts, memo).0);
            }
            let mut kept = ready.iter();
            chosen.retain(|_| kept.next().is_some_and(Option::is_some));
        }
        None
    }

    fn pricing<'b>(
        &'b self,
        scene: &'b Scene<'b>,
        residency: &'b Residency,
        reserved: bool,
        effort: Effort,
        memo: &'b Memo,
    ) -> Pricing<'b> {
        Pricing {
            scene,
            residency,
            options: self.options,
            memo,
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

    /// The schedule of a plan, with parts of it run otherwise than op by op, and whether all ops on shares have mappings
    /// there.
    pub(crate) fn price(
        &self,
        planned: &Planned,
        residency: &Residency,
        parts: Parts,
        memo: &Memo,
    ) -> (Schedule, bool) {
        let Self { graph, chip, .. } = *self;
        let Parts { shares, groups } = parts;
        // What runs in a group is priced already.
        let mut choices = self.choices.clone();
        for op in groups.iter().flat_map(|g| &g.group.ops) {
            choices[op.0 as usize] = Choice::View;
        }
        let scene = Scene {
            choices: &choices,
            ..self.scene(chip, planned)
        };
        let whole = Pricer::new(scene, residency, self.options, &planned.order)
            .asking(self.plan.asked.as_ref());
        let mut constrained = whole.constrained();
        let pricers: Vec<Pricer> = shares
            .iter()
            .map(|s| self.pricer(s.chip, planned, &s.residency))
            .collect();
        let part_of = |op: OpId| shares.iter().position(|s| s.ops.contains(&op));
        let mut solutions = whole.solutions(|op| part_of(op).is_none(), memo, Effort::Full);
        for share in shares {
            let mut found = self.solved(planned, share);
            for op in &share.ops {
                solutions[op.0 as usize] = found[op.0 as usize].take();
            }
        }
        let mapped = |op: &OpId| matches!(solutions[op.0 as usize], Some(Ok(_)));
        let complete = shares.iter().flat_map(|s| &s.ops).all(mapped);
        let mut tiles = whole.tiles(&planned.order, &solutions);
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
            planned.reordered,
        );
        let failure = |op: OpId| match &solutions[op.0 as usize] {
            Some(Err(reason)) => Some(reason.clone()),
            _ => None,
        };
        let failures: Vec<Option<String>> = constrained.iter().map(|c| failure(c.op)).collect();
        let mut ops = whole.ops(solutions, |op| part_of(op).map(|s| &pricers[s]));
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
        for (c, failure) in constrained.iter_mut().zip(failures) {
            c.check(&ops, failure);
        }
        let homes = graph.tensors.ids().map(|t| whole.home(t)).collect();
        let facts = scene_facts(chip, graph, &planned.tails, residency, planned.reordered);
        let mut assumptions = assumptions(&facts);
        assumptions.extend(groups_in_words(chip, groups.iter().map(|g| &g.group)));
        assumptions.extend(proofs(ops.iter().filter_map(|o| o.gap).collect()));
        let schedule = Schedule {
            order: planned.order.clone(),
            homes,
            memory,
            peak_activation: residency.peak_activation,
            partition: Partition::default(),
            assumptions,
            unmodelled: unmodelled(graph, &ops),
            groups: groups.iter().map(|g| g.group.clone()).collect(),
            objective: self.options.objective,
            unfused: None,
            constrained,
            ops,
        };
        (schedule, complete)
    }
}

/// What of a schedule does not run op by op on the whole chip.
#[derive(Clone, Copy, Default)]
pub(crate) struct Parts<'a> {
    /// Ops on shares of the cores.
    pub(crate) shares: &'a [Share<'a>],
    /// Fused groups.
    pub(crate) groups: &'a [Ready],
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
