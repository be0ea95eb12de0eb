//! What prices ops, given homes: problems of array ops, their solutions, and each op's cost.

use presil_hwmodels::{EngineId, EngineKind, MemoryKind, NodeId, NodeKind, Operand};
use presil_numerics::{Bytes, IdVec};
use presil_workloads::einsum::Place;
use presil_workloads::{Einsum, Graph, OpId, OpKind, Role, Tensor, TensorId};

use super::asked::Asked;
use super::cascades::{self, Cascades};
use super::data;
use super::engines::{self, Choice};
use super::layout;
use super::memory_plan::{Holds, Tiles};
use super::operands::{stored, stored_operands};
use super::residency::{Residency, Scene};
use super::room::{tile_bits, usable, weight_memory};
use super::solve::{Effort, Memo};
use super::tails;
use super::{Execution, ScheduleOptions, ScheduledOp, WeightStream};
use crate::cost::Cost;
use crate::ledger::{self, Stored};
use crate::problem::{Lies, Problem};
use crate::search::Solution;
use crate::touched::touched;
use crate::vector::Operands;

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

/// Stored tensors that lie pixel by pixel.
fn pixels(graph: &Graph, base: &[TensorId]) -> Vec<bool> {
    let mut pixels = vec![false; graph.tensors.len()];
    for (id, t) in graph.tensors.iter_ids() {
        pixels[base[id.0 as usize].0 as usize] |= matches!(t.role, Role::Input | Role::Output);
    }
    for op in graph.ops.iter() {
        if matches!(
            op.kind,
            OpKind::View | OpKind::Move { .. } | OpKind::Gather { .. }
        ) {
            for t in op.inputs.iter().chain(&op.outputs) {
                pixels[base[t.0 as usize].0 as usize] = true;
            }
        }
    }
    pixels
}

/// For each op that runs by itself, the one before it.
fn before(scene: &Scene, order: &[OpId]) -> Vec<Option<OpId>> {
    let mut before = vec![None; scene.graph.ops.len()];
    let mut last = None;
    for id in order {
        let view = scene.graph.ops[*id].kind == OpKind::View;
        if !view && scene.tails.into[id.0 as usize].is_none() {
            before[id.0 as usize] = last;
            last = Some(*id);
        }
    }
    before
}

/// Prices the ops of a scene.
pub(crate) struct Pricer<'a> {
    pub(crate) scene: Scene<'a>,
    pub(crate) residency: &'a Residency,
    pub(crate) options: &'a ScheduleOptions,
    pub(crate) first_reader: Vec<Option<OpId>>,
    /// For each stored tensor, whether convolutions or pools touch it.
    images: Vec<bool>,
    /// For each tensor what it is a tile of, where they are tiles.
    wholes: Vec<&'a Tensor>,
    /// For each stored tensor, whether it lies pixel by pixel for a block engine: what the network is given and gives
    /// back, and what is moved or seen in other shapes.
    pub(super) pixels: Vec<bool>,
    /// Which ops of a block engine run in stripes.
    pub(super) cascades: Cascades,
    /// For each op that runs by itself, the one before it.
    pub(super) before: Vec<Option<OpId>>,
    /// What mappings have to obey.
    pub(super) asked: Option<&'a Asked>,
}

/// A mapping found for an array op.
pub(crate) struct Found {
    pub(super) engine: EngineId,
    pub(super) mode: usize,
    pub(crate) solution: Solution,
    /// Where weights stay over the steps of the op, if not at home.
    pub(super) over_steps: Option<NodeId>,
}

impl<'a> Pricer<'a> {
    /// Prices ops that run in an order.
    pub(crate) fn new(
        scene: Scene<'a>,
        residency: &'a Residency,
        options: &'a ScheduleOptions,
        order: &[OpId],
    ) -> Self {
        let Scene { graph, base, .. } = scene;
        let mut pricer = Self {
            first_reader: first_readers(graph, base, order),
            images: layout::images(graph, |t| base[t.0 as usize].0 as usize),
            wholes: Vec::new(),
            pixels: pixels(graph, base),
            cascades: Cascades::default(),
            before: before(&scene, order),
            asked: None,
            scene,
            residency,
            options,
        };
        if pricer.scene.chip.blocks.is_some() {
            pricer.cascades = cascades::find(&pricer, order);
        }
        pricer
    }

    /// The same for tensors that are tiles, and lie as what they are tiles of.
    pub(crate) fn tiles_of_tensors(self, wholes: Vec<&'a Tensor>) -> Self {
        Self { wholes, ..self }
    }

    /// The same for mappings that have to obey.
    pub(super) fn asking(self, asked: Option<&'a Asked>) -> Self {
        Self { asked, ..self }
    }

    pub(crate) fn home(&self, t: TensorId) -> NodeId {
        let stored = self.scene.base[t.0 as usize];
        let home = self.residency.home[stored.0 as usize];
        let Some(b) = &self.scene.chip.blocks else {
            return home;
        };
        if home != self.scene.chip.root() {
            return home;
        }
        let inside = self.cascades.inside.get(stored.0 as usize);
        if inside.is_some_and(|i| *i) {
            return b.staging;
        }
        // What the network is given and gives back lies in the arena, if it fits there.
        let tensor = &self.scene.graph.tensors[stored];
        let given = matches!(tensor.role, Role::Input | Role::Output);
        let fits = self.scene.chip.nodes[b.arena]
            .memory()
            .is_some_and(|m| tensor.bits().bytes_ceil() <= m.capacity);
        if given && fits { b.arena } else { home }
    }

    pub(crate) fn stored(&self, t: TensorId, output: bool) -> Stored {
        stored(self.scene.graph, t, self.home(t), output)
    }

    pub(crate) fn position(&self, op: OpId) -> usize {
        self.scene.tails.position[op.0 as usize]
    }

    /// For each array op of some the first of its engines that has a mapping; else why not.
    pub(crate) fn solutions(
        &self,
        of: impl Fn(OpId) -> bool,
        memo: &Memo,
        effort: Effort,
    ) -> Vec<Option<Result<Found, String>>> {
        let graph = self.scene.graph;
        let mut found: Vec<Option<Result<Found, String>>> =
            graph.ops.iter().map(|_| None).collect();
        let mut open: Vec<OpId> = graph
            .ops
            .ids()
            .filter(|id| matches!(self.scene.choices[id.0 as usize], Choice::Array(_)) && of(*id))
            .filter(|id| self.block_engine(*id).is_none())
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
            let ids: Vec<OpId> = tried.iter().map(|t| t.0).collect();
            let solved = self.solved(&ids, &problems, memo, effort);
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
    pub(crate) fn problem(
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
            (touched(einsum, &einsum.inputs[1]) as f64 * operands[1].bits / 8.0).ceil() as u64,
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
                lies: self.lies(id, einsum),
            },
            over_steps,
        ))
    }

    /// How the operands of an array op lie at home, in off-chip memories.
    fn lies(&self, id: OpId, einsum: &Einsum) -> [Option<Lies>; 3] {
        let Scene { chip, graph, .. } = self.scene;
        let mut lies = [const { None }; 3];
        for (access, slot) in einsum.operands().zip(&mut lies) {
            let t = match access.place {
                Place::Input(i) => graph.ops[id].inputs.get(i as usize).copied(),
                _ => self.scene.output_of(id),
            };
            let Some(t) = t else { continue };
            let Some(m) = chip.nodes[self.home(t)].memory() else {
                continue;
            };
            if m.kind == MemoryKind::Dram {
                let image = self.images[self.scene.stored(t)];
                let tensor = &graph.tensors[t];
                let whole = self.wholes.get(t.0 as usize).copied().unwrap_or(tensor);
                *slot = layout::lies(tensor, whole, image, m.word, access);
            }
        }
        lies
    }

    /// What each op that runs by itself has in resident memories while it runs, by position.
    pub(crate) fn tiles(
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
    pub(crate) fn tiles_of(&self, id: OpId, found: &Found) -> Vec<Tiles> {
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
                let elements = touched(einsum, &einsum.inputs[1]) as f64;
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
    pub(crate) fn op(
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
        if let Some(blocked) = self.blocked(id) {
            return blocked;
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
                let mut cost = ledger::repeat(cost, op.steps);
                let data = self.data(id);
                data::apply(chip, &data, &mut cost);
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
    pub(crate) fn bare(
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
            tile: None,
            gap: None,
            usage: None,
            terms: None,
            kernel: None,
            passes: None,
        }
    }

    /// All ops. What was to run in the epilogue of an op that has no mapping runs by itself.
    /// All ops; some may be priced by another one.
    pub(crate) fn ops<'p>(
        &'p self,
        solutions: Vec<Option<Result<Found, String>>>,
        by: impl Fn(OpId) -> Option<&'p Self>,
    ) -> IdVec<OpId, ScheduledOp> {
        let tails = self.scene.tails;
        let mut ops: IdVec<OpId, ScheduledOp> = IdVec::new();
        for (id, solution) in self.scene.graph.ops.ids().zip(solutions) {
            let at = id.0 as usize;
            let tail_of = tails.into[at]
                .filter(|into| tails.folded[at] || ops[*into].execution.array_mode().is_some());
            ops.push(by(id).unwrap_or(self).op(id, tail_of, solution));
        }
        ops
    }
}
