//! Pipelines: a graph laid out over the cores, each group of cores keeping the weights of its ops.
//!
//! Units (ops with their epilogues) run in the order of the plain schedule, repeated blocks unrolled. They are cut into stages; a stage has
//! cores of its own and works on one inference after the other, so that as many inferences are on the way as there are stages.
//!
//! ```text
//! T_s       time of stage s for one inference: the sum over its units of L + max busy (see `stationary`), one after the other
//! B(r)      busy time of a shared resource for one inference, over all units
//! interval  I = max( max over s of T_s,  max over r of B(r) )       from one inference to the next, steady state
//! latency   = sum over s of T_s                                     of one inference through an empty pipeline
//! loaded    = stages x I                                            of one inference in a full one, at most
//! energy    = dynamic energy of all units, without fetching weights, + static power x I
//! ```
//!
//! Stages hand over through shared memory: activations are at home in the innermost resident memory above the cores, or in the
//! root where they do not fit, and each op's cost holds what it reads and writes there. A tensor made in stage `s` and read
//! last in stage `t` is there `t - s + 1` times, one for each inference on the way.
//!
//! Weights fit if in each buffer the parts of all units of the stage fit together (twice buffering is for what
//! moves; weights that stay are there once). If they do not, or if the chip has no cores or no buffers for weights, there is no pipeline.
//! Bounds first: nothing is mapped unless all weights together fit in all buffers.
//!
//! Cuts and cores are balanced exactly over the numbers of cores that are looked at (all up to 8, then powers of
//! two and what is left): see `stages`. Their costs are those of quick searches; the stages taken are then searched in full.

use presil_hwmodels::{EngineKind, NodeId, NodeKind};
use presil_numerics::{Bytes, Joules, Seconds};
use presil_workloads::{Graph, OpId, Role, TensorId};

use super::stages::{Choice, balance};
use super::stationary::{Buffers, cut, whole};
use super::together::{is_shared, side_by_side};
use super::{Cores, Pipeline, Stage};
use crate::cost::Resource;
use crate::ledger::add_busy;
use crate::problem::Problem;
use crate::schedule::prepared::{Prepared, Stationary};
use crate::schedule::solve::Effort;
use crate::schedule::{Execution, Memo, Schedule, ScheduledOp};

/// Cores up to which every number of them is looked at for a stage.
const EVERY: u64 = 8;
/// Units of a chain, at most: beyond, balancing takes too long.
const UNITS: usize = 1024;
/// Part of a shared memory that tiles may take; the rest is for activations on the way.
const TILES: u64 = 4;

/// Numbers of cores that are looked at.
fn counts(all: u64) -> Vec<u64> {
    if all <= EVERY {
        return (1..=all).collect();
    }
    let mut list: Vec<u64> = (0..).map(|i| 1u64 << i).take_while(|c| *c < all).collect();
    list.push(all);
    list
}

/// The pipeline of a graph, if its weights fit.
pub(super) fn pipeline(
    prepared: &Prepared,
    cores: Cores,
    plain: &Schedule,
    memo: &Memo,
) -> Option<Pipeline> {
    let (graph, chip) = (prepared.graph, prepared.chip);
    let mapped = |o: &&ScheduledOp| matches!(o.execution, Execution::Mapped { .. });
    let engine = plain.ops.iter().find(mapped)?.engine?;
    let EngineKind::Array { compute, .. } = chip.engines[engine].kind else {
        return None;
    };
    let buffers = Buffers::of(chip, cores, compute)?;
    let chain = chain(prepared);
    let runs = |o: &ScheduledOp| {
        let same = !o.execution.is_mapped() || o.engine == Some(engine);
        same && !matches!(
            o.execution,
            Execution::Host { .. } | Execution::Unsupported { .. }
        )
    };
    let room = u128::from(buffers.room.0) * u128::from(chip.nodes[buffers.memory].instances);
    if chain.len() > UNITS
        || !plain.ops.iter().all(runs)
        || graph.ops.iter().any(|o| o.steps != 1)
        || weight_bytes(graph, plain) > room
    {
        return None;
    }
    let near = chip.path(compute).into_iter().rfind(|n| {
        *n != chip.root()
            && !cores.is_private(chip, *n)
            && chip.nodes[*n].memory().is_some_and(|m| m.resident)
    });
    let mut builder = Builder {
        prepared,
        cores,
        plain,
        buffers,
        counts: counts(cores.count),
        chain,
        home: chip.root(),
    };
    for home in near.into_iter().chain([chip.root()]) {
        builder.home = home;
        if let Some(found) = builder.build(memo) {
            return Some(found);
        }
    }
    None
}

/// Units in the order in which they run, blocks unrolled.
fn chain(prepared: &Prepared) -> Vec<OpId> {
    let (graph, planned) = (prepared.graph, &prepared.planned);
    let mut chain = Vec::new();
    for block in &graph.blocks {
        let own =
            |o: &&OpId| block.ops.contains(&o.0) && planned.tails.into[o.0 as usize].is_none();
        let units: Vec<OpId> = planned.order.iter().filter(own).copied().collect();
        for _ in 0..block.repeat.min(UNITS as u64 + 1) {
            chain.extend(&units);
            if chain.len() > UNITS {
                return chain;
            }
        }
    }
    chain
}

/// Weights that arrays read, one for each repetition.
fn weight_bytes(graph: &Graph, plain: &Schedule) -> u128 {
    let repeats = graph.repeats();
    let ops = plain
        .ops
        .iter_ids()
        .filter(|(_, o)| o.execution.is_mapped());
    ops.map(|(id, _)| {
        let bytes: u128 = graph.ops[id]
            .inputs
            .get(1)
            .filter(|t| graph.tensors[**t].role == Role::Weight)
            .map_or(0, |t| u128::from(graph.tensors[*t].bits().bytes_ceil().0));
        bytes * u128::from(repeats[id.0 as usize])
    })
    .sum()
}

struct Builder<'a> {
    prepared: &'a Prepared<'a>,
    cores: Cores,
    plain: &'a Schedule,
    buffers: Buffers,
    counts: Vec<u64>,
    chain: Vec<OpId>,
    /// Where activations are at home.
    home: NodeId,
}

/// An op on some cores.
struct Placed {
    op: ScheduledOp,
    /// Bytes of weights in each buffer.
    weights: u64,
}

impl Builder<'_> {
    fn build(&self, memo: &Memo) -> Option<Pipeline> {
        let mut distinct = self.chain.clone();
        distinct.sort_unstable();
        distinct.dedup();
        // Quick searches tell stages apart; those taken are searched in full.
        let placed = self.place(&distinct, |_, _| true, Effort::Quick, memo);
        let table: Vec<Vec<Choice>> = self
            .chain
            .iter()
            .map(|op| placed[op.0 as usize].iter().map(choice).collect())
            .collect();
        let stages = balance(&table, &self.counts, self.cores.count, self.buffers.room.0)?;
        let stage_of = |unit: usize| {
            stages
                .iter()
                .position(|s| (s.0..s.1).contains(&unit))
                .unwrap_or(0)
        };
        if !self.activations_fit(stage_of) {
            return None;
        }
        let taken = |op: OpId, n: usize| {
            stages.iter().any(|(start, end, cores)| {
                *cores == self.counts[n] && self.chain[*start..*end].contains(&op)
            })
        };
        let placed = self.place(&distinct, taken, Effort::Full, memo);
        self.finish(&stages, &placed)
    }

    /// By op of the graph and number of cores: ops on the numbers of cores (places in `counts`) that are asked for; those that no
    /// array runs are the same on all.
    fn place(
        &self,
        ops: &[OpId],
        asked: impl Fn(OpId, usize) -> bool,
        effort: Effort,
        memo: &Memo,
    ) -> Vec<Vec<Option<Placed>>> {
        let Self {
            prepared, cores, ..
        } = self;
        let chip = prepared.chip;
        let single = self.buffers.single(chip, *cores);
        let mut fair = single.clone();
        let part = 1.0 / cores.count as f64;
        for n in chip.nodes.ids().filter(|n| !cores.is_private(chip, *n)) {
            if let NodeKind::Memory(m) = &mut fair.nodes[n].kind {
                m.take_part(part);
            }
        }
        let residency = prepared.planned.residency.at(
            chip,
            |t| self.home_of(t),
            (self.home, TILES * cores.count),
            (self.buffers.memory, self.buffers.room.0),
            prepared.graph.ops.len(),
        );
        let mut wanted = Vec::new();
        let mut parts = Vec::new();
        for op in ops {
            let Some(einsum) = prepared.graph.ops[*op].contraction() else {
                continue;
            };
            let scheduled = &self.plain.ops[*op];
            let (Execution::Mapped { mode, .. }, Some(engine)) =
                (&scheduled.execution, scheduled.engine)
            else {
                continue;
            };
            let shares = self.counts.iter().enumerate();
            for (n, share) in shares.filter(|(n, _)| asked(*op, *n)) {
                let axes = self.buffers.on(*cores, *share);
                wanted.push((n, *op, engine, *mode));
                parts.push(cut(chip, einsum, &axes));
            }
        }
        let problems: Vec<Option<Problem>> = wanted
            .iter()
            .zip(&parts)
            .map(|((_, op, engine, mode), (part, _))| {
                let stage = Stationary {
                    chip: &fair,
                    residency: &residency,
                };
                let problem = prepared.stage_problem(&stage, *op, *engine, *mode)?;
                Some(Problem {
                    einsum: part,
                    ..problem
                })
            })
            .collect();
        let solved = prepared.solve(&problems, memo, effort);
        let graph = prepared.graph;
        let none = || self.counts.iter().map(|_| None).collect();
        let mut placed: Vec<Vec<Option<Placed>>> = graph.ops.iter().map(|_| none()).collect();
        let stage = Stationary {
            chip,
            residency: &residency,
        };
        for (((n, op, engine, mode), (part, cuts)), (problem, solution)) in
            wanted.iter().zip(&parts).zip(problems.iter().zip(solved))
        {
            let (Some(problem), Some(mut solution)) = (problem, solution) else {
                continue;
            };
            let (problem, Some(einsum)) = (
                Problem {
                    chip: &single,
                    ..problem.clone()
                },
                prepared.graph.ops[*op].contraction(),
            ) else {
                continue;
            };
            let Ok(cost) = crate::analysis::evaluate(&problem, &solution.mapping) else {
                continue;
            };
            let fixed = side_by_side(chip, &self.plain.ops[*op]);
            solution.cost = whole(chip, *cores, einsum, cuts, &cost, fixed);
            let stays = problem.home[1] == self.buffers.memory;
            let weights = if stays {
                let elements = crate::touched::touched(part, &part.inputs[1]);
                (elements as f64 * problem.bits[1] / 8.0).ceil() as u64
            } else {
                0
            };
            let scheduled = prepared.stage_op(&stage, *op, Some((*engine, *mode, solution)));
            placed[op.0 as usize][*n] = Some(Placed {
                op: scheduled,
                weights,
            });
        }
        for op in ops {
            if self.plain.ops[*op].execution.is_mapped() {
                continue;
            }
            for slot in &mut placed[op.0 as usize] {
                *slot = Some(Placed {
                    op: prepared.stage_op(&stage, *op, None),
                    weights: 0,
                });
            }
        }
        placed
    }

    /// Weights of arrays are at home in the buffers, what the model takes and gives in the root.
    fn home_of(&self, t: TensorId) -> NodeId {
        let graph = self.prepared.graph;
        let of_array = || {
            graph.ops.iter_ids().any(|(id, op)| {
                op.inputs.get(1) == Some(&t) && self.plain.ops[id].execution.is_mapped()
            })
        };
        match graph.tensors[t].role {
            Role::Weight if of_array() => self.buffers.memory,
            Role::Weight | Role::Constant | Role::Activation => self.home,
            Role::Input | Role::Output | Role::Cache => self.prepared.chip.root(),
        }
    }

    /// Whether all activations on the way fit in their home, as often as they are there.
    fn activations_fit(&self, stage_of: impl Fn(usize) -> usize) -> bool {
        let Prepared {
            graph,
            chip,
            ref base,
            ref planned,
            ..
        } = *self.prepared;
        if self.home == chip.root() {
            return true;
        }
        // Stages of the first and the last unit that touches a tensor, by repetition.
        let mut spans: Vec<Vec<(usize, usize)>> = vec![Vec::new(); graph.tensors.len()];
        let mut seen = vec![0usize; graph.ops.len()];
        for (unit, op) in self.chain.iter().enumerate() {
            let repetition = seen[op.0 as usize];
            seen[op.0 as usize] += 1;
            let stage = stage_of(unit);
            let group = std::iter::once(op).chain(&planned.tails.tail[op.0 as usize]);
            for t in group.flat_map(|o| graph.ops[*o].inputs.iter().chain(&graph.ops[*o].outputs)) {
                let stored = base[t.0 as usize];
                let list = &mut spans[stored.0 as usize];
                match list.get_mut(repetition) {
                    Some(span) => span.1 = span.1.max(stage),
                    // What enters a later block was made by the last repetition of an earlier one.
                    None => {
                        if let Some(last) = list.last_mut() {
                            last.1 = last.1.max(stage);
                        }
                        list.push((stage, stage));
                    }
                }
            }
        }
        let mut bytes = 0u128;
        for (id, t) in graph.tensors.iter_ids() {
            let here = matches!(t.role, Role::Activation | Role::Constant | Role::Weight)
                && base[id.0 as usize] == id
                && self.home_of(id) == self.home;
            if here {
                let copies: usize = if t.role == Role::Activation {
                    spans[id.0 as usize].iter().map(|s| s.1 - s.0 + 1).sum()
                } else {
                    spans[id.0 as usize].len()
                };
                bytes += u128::from(t.bits().bytes_ceil().0) * copies as u128;
            }
        }
        let capacity = chip.nodes[self.home].memory().map_or(0, |m| m.capacity.0);
        bytes <= u128::from(capacity - capacity / TILES)
    }

    fn finish(
        &self,
        stages: &[super::stages::Stage],
        placed: &[Vec<Option<Placed>>],
    ) -> Option<Pipeline> {
        let chip = self.prepared.chip;
        let mut shared: Vec<(Resource, Seconds)> = Vec::new();
        let mut found = Pipeline {
            home: self.home,
            ..Pipeline::default()
        };
        for (start, end, cores) in stages {
            let n = self.counts.iter().position(|c| c == cores)?;
            let mut stage = Stage {
                ops: self.chain.get(*start..*end)?.to_vec(),
                cores: *cores,
                time: Seconds::ZERO,
                weights: Bytes(0),
            };
            for op in &stage.ops {
                let p = placed[op.0 as usize].get(n)?.as_ref()?;
                stage.time += time(&p.op);
                stage.weights.0 += p.weights * self.buffers.per_core * cores;
                found.energy += p.op.cost.energy_total();
                found.executed_macs += p.op.cost.executed_macs;
                for (r, busy) in &p.op.cost.busy {
                    if is_shared(chip, self.cores, *r) {
                        add_busy(&mut shared, *r, *busy);
                    }
                }
            }
            found.latency += stage.time;
            if stage.time > found.interval {
                (found.interval, found.bound_by) = (stage.time, None);
            }
            found.stages.push(stage);
        }
        for (r, busy) in shared {
            if busy > found.interval {
                (found.interval, found.bound_by) = (busy, Some(r));
            }
        }
        let power: f64 = chip.static_power().iter().map(|p| p.1.0).sum();
        found.energy += Joules(power * found.interval.0);
        Some(found)
    }
}

fn time(op: &ScheduledOp) -> Seconds {
    op.cost.latency + crate::ledger::longest(&op.cost.busy)
}

fn choice(placed: &Option<Placed>) -> Choice {
    match placed {
        Some(p) => Choice {
            time: time(&p.op).0,
            weights: p.weights,
        },
        None => Choice {
            time: f64::INFINITY,
            weights: 0,
        },
    }
}
