//! What is decided of a graph on a chip before mappings are searched: engines, epilogues, order and homes.

use presil_hwmodels::{Chip, EngineId};
use presil_workloads::{Graph, OpId, TensorId};

use super::engines::{self, Choice};
use super::operands::stored_operands;
use super::planned::{self, PlanOptions, Planned};
use super::pricer::{Found, Pricer};
use super::residency::{self, Reserved, Residency, Scene};
use super::solve::{self, Effort, Memo};
use super::tails;
use super::{ScheduleOptions, ScheduledOp};
use crate::problem::Problem;
use crate::search::Solution;
use crate::vector::Operands;

/// What is decided before mappings are searched: engines, epilogues, order and homes.
pub(crate) struct Prepared<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) chip: &'a Chip,
    pub(crate) options: &'a ScheduleOptions,
    pub(crate) plan: &'a PlanOptions,
    pub(crate) base: Vec<TensorId>,
    pub(crate) choices: Vec<Choice>,
    pub(crate) planned: Planned,
}

/// Ops that run on a share of the chip's cores: the chip with as many, the same with a fair part of shared rates, for which
/// mappings are searched, the residency with as much room, and the solutions.
pub(crate) struct Share<'a> {
    pub(crate) chip: &'a Chip,
    pub(crate) fair: &'a Chip,
    pub(crate) residency: Residency,
    pub(crate) ops: Vec<OpId>,
    pub(crate) memo: &'a Memo,
    pub(crate) effort: Effort,
}

/// Ops whose operands are at home elsewhere than in the plan.
pub(crate) struct Stationary<'a> {
    pub(crate) chip: &'a Chip,
    pub(crate) residency: &'a Residency,
}

impl<'a> Prepared<'a> {
    /// The problem of an array op there.
    pub(crate) fn stage_problem<'b>(
        &'b self,
        stage: &Stationary<'b>,
        op: OpId,
        engine: EngineId,
        mode: usize,
    ) -> Option<Problem<'b>> {
        self.pricer(stage.chip, &self.planned, stage.residency)
            .problem(op, engine, mode)
            .map(|(problem, _)| problem)
    }

    /// An op there; of an array op with its mapping and what that costs.
    pub(crate) fn stage_op(
        &self,
        stage: &Stationary,
        op: OpId,
        found: Option<(EngineId, usize, Solution)>,
    ) -> ScheduledOp {
        let found = found.map(|(engine, mode, solution)| {
            Ok(Found {
                engine,
                mode,
                solution,
                over_steps: None,
            })
        });
        self.pricer(stage.chip, &self.planned, stage.residency)
            .op(op, None, found)
    }

    /// Solutions of problems on one chip.
    pub(crate) fn solve(
        &self,
        problems: &[Option<Problem>],
        memo: &Memo,
        effort: Effort,
    ) -> Vec<Option<Solution>> {
        let some: Vec<Problem> = problems.iter().flatten().cloned().collect();
        let objective = self.options.objective;
        let mut solved = solve::solve_all(&some, objective, &memo.share(0), effort).into_iter();
        problems
            .iter()
            .map(|p| p.as_ref().and_then(|_| solved.next()?.ok()))
            .collect()
    }

    pub(crate) fn new(
        graph: &'a Graph,
        chip: &'a Chip,
        options: &'a ScheduleOptions,
        plan: &'a PlanOptions,
    ) -> Self {
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
        Self {
            graph,
            chip,
            options,
            plan,
            base,
            choices,
            planned,
        }
    }

    /// The plan with ops in another order, some at one position: ops that run at once.
    pub(crate) fn replanned(&self, order: Vec<OpId>, at_once: &[Vec<OpId>]) -> Planned {
        let mut tails = self.planned.tails.placed(&order);
        for ops in at_once {
            let at = |op: &OpId| tails.position[op.0 as usize];
            let first = ops.iter().map(at).min().unwrap_or(0);
            for op in ops {
                let tail = tails.tail[op.0 as usize].clone();
                for o in tail.iter().chain([op]) {
                    tails.position[o.0 as usize] = first;
                }
            }
        }
        let scene = Scene {
            chip: self.chip,
            graph: self.graph,
            base: &self.base,
            choices: &self.choices,
            tails: &tails,
        };
        Planned {
            residency: residency::plan(
                &scene,
                self.options.objective,
                self.plan.alignment,
                &Reserved::default(),
            ),
            reordered: order.iter().copied().ne(self.graph.ops.ids()),
            order,
            tails,
        }
    }

    /// What is decided, on the chip or one like it.
    pub(crate) fn scene<'b>(&'b self, chip: &'b Chip, planned: &'b Planned) -> Scene<'b> {
        Scene {
            chip,
            graph: self.graph,
            base: &self.base,
            choices: &self.choices,
            tails: &planned.tails,
        }
    }

    pub(super) fn pricer<'b>(
        &'b self,
        chip: &'b Chip,
        planned: &'b Planned,
        residency: &'b Residency,
    ) -> Pricer<'b> {
        let scene = self.scene(chip, planned);
        Pricer::new(scene, residency, self.options, &planned.order).asking(self.plan.asked.as_ref())
    }

    /// The ops of a share as they would run there; none for those that have no mapping there.
    pub(crate) fn on_share(&self, planned: &Planned, share: &Share) -> Vec<Option<ScheduledOp>> {
        let pricer = self.pricer(share.chip, planned, &share.residency);
        let mut solutions = self.solved(planned, share);
        let one = |op: &OpId| match solutions[op.0 as usize].take() {
            Some(Ok(found)) => Some(pricer.op(*op, None, Some(Ok(found)))),
            _ => None,
        };
        share.ops.iter().map(one).collect()
    }

    /// The solutions of a share's ops, at the full rates of what they share.
    pub(super) fn solved(
        &self,
        planned: &Planned,
        share: &Share,
    ) -> Vec<Option<Result<Found, String>>> {
        let pricer = self.pricer(share.chip, planned, &share.residency);
        let mut solutions = self
            .pricer(share.fair, planned, &share.residency)
            .solutions(|op| share.ops.contains(&op), share.memo, share.effort);
        for op in &share.ops {
            let Some(Ok(found)) = &mut solutions[op.0 as usize] else {
                continue;
            };
            let cost = pricer
                .problem(*op, found.engine, found.mode)
                .and_then(|(p, _)| crate::analysis::evaluate(&p, &found.solution.mapping).ok());
            match cost {
                Some(cost) => found.solution.cost = cost,
                None => solutions[op.0 as usize] = None,
            }
        }
        solutions
    }
}
