//! The cost of each op of a graph, once engines, epilogues and homes are known.

use presil_hwmodels::{Chip, EngineId, EngineKind, NodeId, NodeKind, Operand};
use presil_numerics::{Bytes, IdVec};
use presil_workloads::einsum::Place;
use presil_workloads::{Einsum, Graph, Op, OpId, OpKind, Role, TensorId};

use super::engines::{self, Choice};
use super::facts::{assumptions, proofs, scene_facts};
use super::memory_plan::{self, Holds, Tiles};
use super::operands::{moved, stored, stored_operands};
use super::planned::{self, PlanOptions, Planned};
use super::residency::{self, Residency, Scene};
use super::room::{tile_bits, usable, weight_memory};
use super::solve::{self, Memo};
use super::tails;
use super::{Execution, Schedule, ScheduleOptions, ScheduledOp, WeightStream};
use crate::cost::{Cost, Resource};
use crate::ledger::{self, Ledger, Stored, add_busy, add_energy, add_traffic};
use crate::partition::Partition;
use crate::problem::Problem;
use crate::search::Solution;
use crate::vector::{self, Operands};

/// Schedules a checked graph.
pub(super) fn schedule(
    graph: &Graph,
    chip: &Chip,
    options: &ScheduleOptions,
    plan: &PlanOptions,
    memo: &Memo,
) -> Schedule {
    let prepared = Prepared::new(graph, chip, options, plan);
    prepared.price(&prepared.planned, &[], memo).0
}

/// What is decided before mappings are searched: engines, epilogues, order and homes.
pub(crate) struct Prepared<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) chip: &'a Chip,
    pub(crate) options: &'a ScheduleOptions,
    plan: &'a PlanOptions,
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
    pub(crate) fn solve(&self, problems: &[Option<Problem>], memo: &Memo) -> Vec<Option<Solution>> {
        let some: Vec<Problem> = problems.iter().flatten().cloned().collect();
        let objective = self.options.objective;
        let mut solved = solve::solve_all(&some, objective, &memo.share(0)).into_iter();
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
            residency: residency::plan(&scene, self.options.objective, self.plan.alignment),
            reordered: order.iter().copied().ne(self.graph.ops.ids()),
            order,
            tails,
        }
    }

    fn pricer<'b>(
        &'b self,
        chip: &'b Chip,
        planned: &'b Planned,
        residency: &'b Residency,
    ) -> Pricer<'b> {
        Pricer {
            scene: Scene {
                chip,
                graph: self.graph,
                base: &self.base,
                choices: &self.choices,
                tails: &planned.tails,
            },
            residency,
            options: self.options,
            first_reader: first_readers(self.graph, &self.base, &planned.order),
        }
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
    fn solved(&self, planned: &Planned, share: &Share) -> Vec<Option<Result<Found, String>>> {
        let pricer = self.pricer(share.chip, planned, &share.residency);
        let mut solutions = self
            .pricer(share.fair, planned, &share.residency)
            .solutions(|op| share.ops.contains(&op), share.memo);
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

    /// The schedule of a plan with some ops on shares of the cores, and whether all of those have mappings there.
    pub(crate) fn price(
        &self,
        planned: &Planned,
        shares: &[Share],
        memo: &Memo,
    ) -> (Schedule, bool) {
        let Self { graph, chip, .. } = *self;
        let Planned {
            residency,
            tails,
            order,
            reordered,
        } = planned;
        let whole = self.pricer(chip, planned, residency);
        let parts: Vec<Pricer> = shares
            .iter()
            .map(|s| self.pricer(s.chip, planned, &s.residency))
            .collect();
        let part_of = |op: OpId| shares.iter().position(|s| s.ops.contains(&op));
        let mut solutions = whole.solutions(|op| part_of(op).is_none(), memo);
        for share in shares {
            let mut found = self.solved(planned, share);
            for op in &share.ops {
                solutions[op.0 as usize] = found[op.0 as usize].take();
            }
        }
        let mapped = |op: &OpId| matches!(solutions[op.0 as usize], Some(Ok(_)));
        let complete = shares.iter().flat_map(|s| &s.ops).all(mapped);
        let tiles = whole.tiles(order, &solutions);
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
            *reordered,
        );
        let mut unmodelled = Vec::new();
        let mut ops: IdVec<OpId, ScheduledOp> = IdVec::new();
        for (id, solution) in graph.ops.ids().zip(solutions) {
            // What was to run in the epilogue of an op that has no mapping runs by itself.
            let tail_of = tails.into[id.0 as usize]
                .filter(|into| tails.folded[id.0 as usize] || ops[*into].execution.is_mapped());
            let pricer = part_of(id).map_or(&whole, |s| &parts[s]);
            let op = pricer.op(id, tail_of, solution);
            let (name, class) = (&graph.ops[id].name, graph.ops[id].class.name());
            if let Execution::Unsupported { reason } = &op.execution {
                unmodelled.push(format!(
                    "{name} ({class}): no engine runs it and its cost is missing: {reason}"
                ));
            }
            if let OpKind::Unknown { name: kind } = &graph.ops[id].kind {
                unmodelled.push(format!(
                    "{name} ({kind}): presil has no model of it; only its operands' movement is costed"
                ));
            }
            ops.push(op);
        }
        let homes = graph.tensors.ids().map(|t| whole.home(t)).collect();
        let mut assumptions = assumptions(&scene_facts(chip, graph, tails, residency, *reordered));
        assumptions.extend(proofs(ops.iter().filter_map(|o| o.gap).collect()));
        let schedule = Schedule {
            ops,
            order: order.clone(),
            homes,
            memory,
            peak_activation: residency.peak_activation,
            partition: Partition::default(),
            assumptions,
            unmodelled,
        };
        (schedule, complete)
    }
}

/// For each tensor, the first op that reads it.
fn first_readers(graph: &Graph, base: &[TensorId], order: &[OpId]) -> Vec<Option<OpId>> {
    let mut first = vec![None; graph.tensors.len()];
    for id in order.iter().copied() {
        let op = &graph.ops[id];
        for t in op.inputs.iter().filter(|_| op.kind != OpKind::View) {
            first[base[t.0 as usize].0 as usize].get_or_insert(id);
        }
    }
    first
}

struct Pricer<'a> {
    scene: Scene<'a>,
    residency: &'a Residency,
    options: &'a ScheduleOptions,
    first_reader: Vec<Option<OpId>>,
}

/// A mapping found for an array op.
struct Found {
    engine: EngineId,
    mode: usize,
    solution: Solution,
    /// Where weights stay over the steps of the op, if not at home.
    over_steps: Option<NodeId>,
}

impl<'a> Pricer<'a> {
    fn home(&self, t: TensorId) -> NodeId {
        self.residency.home[self.scene.base[t.0 as usize].0 as usize]
    }

    fn stored(&self, t: TensorId, output: bool) -> Stored {
        stored(self.scene.graph, t, self.home(t), output)
    }

    fn position(&self, op: OpId) -> usize {
        self.scene.tails.position[op.0 as usize]
    }

    /// For each array op of some the first of its engines that has a mapping; else why not.
    fn solutions(
        &self,
        of: impl Fn(OpId) -> bool,
        memo: &Memo,
    ) -> Vec<Option<Result<Found, String>>> {
        let graph = self.scene.graph;
        let mut found: Vec<Option<Result<Found, String>>> =
            graph.ops.iter().map(|_| None).collect();
        let mut open: Vec<OpId> = graph
            .ops
            .ids()
            .filter(|id| matches!(self.scene.choices[id.0 as usize], Choice::Array(_)) && of(*id))
            .collect();
        let mut round = 0;
        while !open.is_empty() {
            let tried: Vec<(OpId, EngineId, usize)> = open
                .iter()
                .filter_map(|id| match &self.scene.choices[id.0 as usize] {
                    Choice::Array(engines) => engines.get(round).map(|(e, m)| (*id, *e, *m)),
                    _ => None,
                })
                .collect();
            let problems: Vec<_> = tried
                .iter()
                .filter_map(|(id, e, m)| self.problem(*id, *e, *m))
                .collect();
            // An op without a problem (operands of its own cascade) was not chosen for an array.
            debug_assert_eq!(problems.len(), tried.len());
            let (problems, places): (Vec<Problem>, Vec<Option<NodeId>>) =
                problems.into_iter().unzip();
            let solved = solve::solve_all(&problems, self.options.objective, memo);
            open = Vec::new();
            for (((id, engine, mode), over_steps), solution) in
                tried.into_iter().zip(places).zip(solved)
            {
                if solution.is_err() {
                    open.push(id);
                }
                let solution = solution.map(|solution| Found {
                    engine,
                    mode,
                    solution,
                    over_steps,
                });
                found[id.0 as usize] = Some(solution);
            }
            round += 1;
            open.retain(|id| match &self.scene.choices[id.0 as usize] {
                Choice::Array(engines) => engines.len() > round,
                _ => false,
            });
        }
        found
    }

    /// The problem of an array op, and where its weights stay over its steps.
    fn problem(
        &self,
        id: OpId,
        engine: EngineId,
        mode: usize,
    ) -> Option<(Problem<'a>, Option<NodeId>)> {
        let Scene { chip, graph, .. } = self.scene;
        let op = &graph.ops[id];
        let einsum = op.contraction()?;
        let EngineKind::Array { compute, .. } = chip.engines[engine].kind else {
            return None;
        };
        let NodeKind::Compute(node) = &chip.nodes[compute].kind else {
            return None;
        };
        let path = chip.path(compute);
        let input = |i: usize| match einsum.inputs.get(i)?.place {
            Place::Input(p) => op.inputs.get(p as usize).map(|t| self.stored(*t, false)),
            _ => None,
        };
        let output = self.stored(self.scene.output_of(id)?, true);
        let operands = [input(0)?, input(1)?, output];
        let mut home = operands.map(|s| s.home);
        // Scales stay out of tiles; they are booked at home with the elements that they belong to.
        let bits = operands.map(|s| s.payload);
        let accumulate = self
            .options
            .accumulate
            .unwrap_or_else(|| node.modes[mode].accumulate);

        let mut capacity: Vec<Bytes> = path
            .iter()
            .map(|n| self.residency.left(chip, *n, self.position(id)))
            .collect();
        let weights = Bytes(
            (vector::touched(einsum, &einsum.inputs[1]) as f64 * operands[1].bits / 8.0).ceil()
                as u64,
        );
        let mut over_steps = None;
        if op.steps > 1 && home[1] == chip.root() && operands[1].role == Operand::Weight {
            // The innermost single memory that holds all weights keeps them from step to step.
            let holds = |(n, left): &(&NodeId, &Bytes)| {
                let node = &chip.nodes[**n];
                **n != chip.root()
                    && node.instances == 1
                    && weights.0.saturating_mul(2) <= left.0
                    && node.memory().is_some_and(|m| m.keeps.has(Operand::Weight))
            };
            if let Some(n) = path
                .iter()
                .zip(&capacity)
                .filter(holds)
                .map(|(n, _)| *n)
                .next_back()
            {
                (home[1], over_steps) = (n, Some(n));
            }
        }
        for (n, left) in path.iter().zip(&mut capacity) {
            if over_steps == Some(*n) {
                left.0 -= weights.0;
            }
            if chip.nodes[*n].memory().is_some_and(|m| m.resident) {
                *left = usable(
                    chip,
                    *n,
                    *left,
                    einsum,
                    home,
                    bits,
                    accumulate.bits() as f64,
                );
            }
        }
        Some((
            Problem {
                einsum,
                chip,
                engine,
                path,
                bits,
                accumulate,
                mode,
                home,
                capacity,
            },
            over_steps,
        ))
    }

    /// What each op that runs by itself has in resident memories while it runs, by position.
    fn tiles(
        &self,
        order: &[OpId],
        solutions: &[Option<Result<Found, String>>],
    ) -> Vec<(usize, OpId, Vec<Tiles>)> {
        let alone = |id: &&OpId| self.scene.tails.into[id.0 as usize].is_none();
        let mut all: Vec<(usize, OpId, Vec<Tiles>)> = Vec::new();
        for id in order.iter().filter(alone) {
            let list = match &solutions[id.0 as usize] {
                Some(Ok(found)) => self.tiles_of(*id, found),
                _ => Vec::new(),
            };
            let at = self.position(*id);
            // Ops that run at once have their tiles side by side.
            match all.last_mut().filter(|last| last.0 == at) {
                Some(last) => last.2.extend(list),
                None => all.push((at, *id, list)),
            }
        }
        all
    }

    /// What a mapped op has in resident memories beside whole tensors at home there.
    fn tiles_of(&self, id: OpId, found: &Found) -> Vec<Tiles> {
        let Scene { chip, graph, .. } = self.scene;
        let op = &graph.ops[id];
        let Some(einsum) = op.contraction() else {
            return Vec::new();
        };
        let bits = self.tensor_bits(id, einsum, found.mode, found.engine);
        let mut list = Vec::new();
        for held in &self.residency.held {
            let memory = held.memory;
            if found.over_steps == Some(memory)
                && let Some(t) = op.inputs.get(1)
            {
                let elements = vector::touched(einsum, &einsum.inputs[1]) as f64;
                let bytes = (elements * self.stored(*t, false).bits / 8.0).ceil() as u64;
                list.push(Tiles {
                    memory,
                    holds: Holds::Weights(id),
                    bytes,
                    copies: 1,
                });
            }
            let copies = chip.nodes[memory]
                .memory()
                .map_or(1, |m| m.buffering)
                .max(1);
            let tiles = tile_bits(&found.solution.mapping, memory, einsum, bits);
            for (operand, bits) in Operand::ALL.into_iter().zip(tiles) {
                list.push(Tiles {
                    memory,
                    holds: Holds::Tile(id, operand),
                    bytes: (bits / 8.0).ceil() as u64,
                    copies: u64::from(copies),
                });
            }
        }
        list.retain(|t| t.bytes > 0);
        list
    }

    /// An op; `tail_of`: the op in whose epilogue it runs.
    fn op(
        &self,
        id: OpId,
        tail_of: Option<OpId>,
        found: Option<Result<Found, String>>,
    ) -> ScheduledOp {
        let Scene { chip, graph, .. } = self.scene;
        let op = &graph.ops[id];
        if let Some(into) = tail_of {
            let (engine, how) = if self.scene.tails.folded[id.0 as usize] {
                (None, "folded into the weights of")
            } else {
                (tails::inline_unit(chip), "in the epilogue of")
            };
            let notes = vec![format!("{how} {}", graph.ops[into].name)];
            return ScheduledOp {
                notes,
                ..self.bare(id, Execution::Fused { into }, engine, Cost::default())
            };
        }
        let choice = match (&self.scene.choices[id.0 as usize], found) {
            (Choice::Array(_), Some(Ok(found))) => return self.mapped(id, found),
            (Choice::Array(_), Some(Err(reason))) => engines::otherwise(chip, reason),
            (choice, _) => choice.clone(),
        };
        let [inputs, outputs] = stored_operands(graph, op, |t| self.home(t));
        let operands = Operands {
            inputs: &inputs,
            outputs: &outputs,
        };
        let mut scheduled = match self.unmapped(op, &choice, operands, self.position(id)) {
            Ok((execution, engine, cost)) => {
                let cost = ledger::repeat(cost, op.steps);
                let mut scheduled = self.bare(id, execution, engine, cost);
                if matches!(choice, Choice::Vector(_)) {
                    let own = |c: &&crate::cost::MemoryCount| {
                        c.memory == chip.root() && c.operand == Operand::Weight
                    };
                    scheduled.weights.streamed = scheduled
                        .cost
                        .counts
                        .iter()
                        .filter(own)
                        .fold(0.0, |sum, c| sum + c.read_bits);
                }
                scheduled
            }
            Err(e) => self.bare(
                id,
                Execution::Unsupported {
                    reason: e.to_string(),
                },
                None,
                Cost::default(),
            ),
        };
        match &scheduled.execution {
            Execution::Host { reason } => scheduled.notes.push(format!("on the host: {reason}")),
            Execution::Unsupported { reason } => scheduled.notes.push(format!("not run: {reason}")),
            _ => {}
        }
        if matches!(op.kind, OpKind::Select { .. }) {
            scheduled.notes.push("comparisons are expected ones".into());
        }
        scheduled
    }

    /// A scheduled op without notes; its weights' first load and the room beside it.
    fn bare(
        &self,
        id: OpId,
        execution: Execution,
        engine: Option<EngineId>,
        cost: Cost,
    ) -> ScheduledOp {
        let Scene { chip, graph, .. } = self.scene;
        let kept = |t: &&TensorId| {
            let held = matches!(graph.tensors[**t].role, Role::Weight | Role::Constant);
            let stored = self.scene.base[t.0 as usize];
            held && self.home(**t) != chip.root()
                && self.first_reader[stored.0 as usize] == Some(id)
        };
        // A shared tensor is loaded once for all repetitions.
        let times = |t: TensorId| {
            if graph.tensors[t].shared {
                graph.repeat_of(id) as f64
            } else {
                1.0
            }
        };
        let bits = |t: &TensorId| graph.tensors[*t].bits().0 as f64 / times(*t);
        let loaded = graph.ops[id]
            .inputs
            .iter()
            .filter(kept)
            .map(bits)
            .fold(0.0, |sum, b| sum + b);
        let lasting = |t: &&TensorId| matches!(graph.tensors[**t].role, Role::Weight);
        let once = graph.ops[id]
            .inputs
            .iter()
            .filter(lasting)
            .filter(|t| self.home(**t) == chip.root())
            .map(|t| graph.tensors[*t].bits().0 as f64)
            .fold(0.0, |sum, b| sum + b);
        let room = match weight_memory(chip, engine) {
            Some(n) => {
                let left = self.residency.left(chip, n, self.position(id)).0 as f64 * 8.0;
                left * chip.nodes[n].instances as f64
            }
            None => 0.0,
        };
        ScheduledOp {
            execution,
            engine,
            cost,
            weights: WeightStream {
                streamed: 0.0,
                once,
                loaded,
                room,
            },
            notes: Vec::new(),
            gap: None,
        }
    }

    /// Execution and cost of one step of an op that has no mapping.
    fn unmapped(
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
                (
                    Execution::Vector,
                    Some(*engine),
                    vector::cascade(chip, unit, einsums, operands, available)?,
                )
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

    /// An array op with its epilogue.
    fn mapped(&self, id: OpId, found: Found) -> ScheduledOp {
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
        let gap = solution.certificate.objective.gap();
        let mut cost = ledger::repeat(solution.cost, steps);
        let mut notes = Vec::new();

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
            let (elements, s) = (vector::touched(e, &e.inputs[1]), self.stored(*t, false));
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
        scheduled.gap = Some(gap);
        scheduled
    }

    /// Stored bits of the operands of an array op while tiles: partial sums in the accumulator's format.
    fn tensor_bits(&self, id: OpId, einsum: &Einsum, mode: usize, engine: EngineId) -> [f64; 3] {
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
    fn epilogue(&self, root: OpId, fused: OpId, cost: &mut Cost, extra: &mut Ledger) {
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
            let elements = u128::from(vector::touched(einsum, access)) * u128::from(op.steps);
            extra.transfer(s.home, memory, s.role, elements, s.bits);
            extra.read(memory, s.role, elements, s.bits);
        }
    }
}
