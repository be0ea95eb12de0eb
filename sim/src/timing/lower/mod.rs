//! From a schedule to a program: who does what, in which order, waiting for whom.
//!
//! ```text
//! control   starts ops in the schedule's order: op -> launch -> go;  the next one once it is done
//! op        mapped: tiles through its memories and passes of its array (`mapped`); with a form of its own: `closed`
//!           vector: parts of its operands, fed, worked on and drained;  host, moves: one work
//! fused     ops of a group, once for each iteration of its loops
//! at once   ops of a set on cores of their own, each with queues of its own; what cores share, they share
//! block     repeated as it is
//! ```
//!
//! Weights that are fetched ahead into free room on chip take only time in which the root memory would be idle; how much that is
//! of each op's the analytic timing says, and the simulation does not follow it: what was fetched is there.
//!
//! Assumptions. One command is started at a time; what comes early is only weights, as far as there is room for tiles of the next
//! op. Instances of a fanout run in lockstep: the busiest one is followed. Of a fused group's iterations all take the
//! mean. Vector ops stream in `movement.strips` strips, or fewer where a strip would be less than an element a lane.

mod closed;
mod mapped;
mod parts;
#[cfg(test)]
mod tests;
mod walk;

use presil_hwmodels::{Chip, EngineId, EngineKind, NodeId, Operand};
use presil_mapper::analysis::tiles::{Port, Tiles, tiles};
use presil_mapper::cost::Resource;
use presil_mapper::ledger;
use presil_mapper::schedule::{Execution, FusedGroup, Schedule, ScheduledOp};
use presil_numerics::ids::Id;
use presil_workloads::{Graph, OpId};

use crate::analytic::ahead;

use super::program::{Program, Step, TagId, Work};
use mapped::{Beside, Mapped};
use parts::{Lane, Parts, Steps, Tokens, Who, femto};

pub(crate) use parts::{COMPUTE, HOST, LAUNCH, VECTOR};

/// The program of one pass of a graph by its schedule. `cold`: weights that stay on chip are loaded as well.
pub fn lower(graph: &Graph, chip: &Chip, schedule: &Schedule, cold: bool) -> Program {
    let mut lowering = Lowering {
        graph,
        chip,
        schedule,
        cold,
        ahead: ahead(graph, chip, schedule, cold),
        parts: Parts::new(chip, schedule.partition.cores),
    };
    let mut all = Steps::default();
    let mut order = schedule.order.iter().copied();
    for block in graph.blocks.iter().filter(|b| !b.ops.is_empty()) {
        let ops: Vec<OpId> = order.by_ref().take(block.ops.len()).collect();
        all.then(lowering.ops(&ops).times(block.repeat));
    }
    lowering.parts.program(all, graph.ops.len())
}

struct Lowering<'a> {
    graph: &'a Graph,
    chip: &'a Chip,
    schedule: &'a Schedule,
    cold: bool,
    /// Of each op's weights, the part that is fetched ahead.
    ahead: Vec<f64>,
    parts: Parts<'a>,
}

/// A part of an op's cost.
#[derive(Clone, Copy)]
struct Share {
    /// Of the cost, that one run has.
    of: f64,
    /// Whether this run is a launch.
    launch: bool,
}

impl Lowering<'_> {
    /// Ops of one repetition of a block, in order.
    fn ops(&mut self, ops: &[OpId]) -> Steps {
        let mut steps = Steps::default();
        let mut at = 0;
        while at < ops.len() {
            let id = ops[at];
            let group = self.schedule.groups.iter().find(|g| g.ops.contains(&id));
            let set = self
                .schedule
                .partition
                .sets
                .iter()
                .find(|s| s.members.iter().any(|m| m.op == id));
            if let Some(group) = group {
                let members = ops[at..]
                    .iter()
                    .take_while(|o| group.ops.contains(o))
                    .count();
                let own = self.group(group, &ops[at..at + members]);
                steps.then(own);
                at += members;
            } else if let Some(set) = set {
                if set.members.first().is_some_and(|m| m.op == id) {
                    let members: Vec<OpId> = set.members.iter().map(|m| m.op).collect();
                    let own = self.at_once(&members);
                    steps.then(own);
                }
                at += 1;
            } else {
                let own = self.alone(id);
                steps.then(own);
                at += 1;
            }
        }
        steps
    }

    /// An op with all its steps.
    fn alone(&mut self, id: OpId) -> Steps {
        let times = self.graph.ops[id].steps.max(1);
        let share = Share {
            of: 1.0 / times as f64,
            launch: true,
        };
        let mut steps = self.resident(&[id]);
        steps.then(self.once(&[id], share, false).times(times));
        steps
    }

    /// In the first pass: fetches weights that stay on chip, in order and as early as the root memory can; ops start once
    /// theirs are there.
    fn resident(&mut self, ops: &[OpId]) -> Steps {
        let mut steps = Steps::default();
        for id in ops.iter().filter(|_| self.cold) {
            let loaded = self.schedule.ops[*id].weights.loaded;
            if loaded <= 0.0 {
                continue;
            }
            let root = self.chip.root();
            let ports = [(root, Port::Read, self.port(root, loaded, 0.0))];
            let flow = self.parts.flow(0, &ports, 0.0);
            let fetched = Tokens::Fetched(id.0);
            let signals = vec![(self.parts.pool(fetched), 1)];
            let work = self.parts.work(Work {
                flow,
                signals,
                ..Work::default()
            });
            steps.push(Who::Fetch, work);
            steps.push(Who::Control, self.parts.take(fetched));
        }
        steps
    }

    /// A fused group.
    fn group(&mut self, group: &FusedGroup, ops: &[OpId]) -> Steps {
        let times = group.iterations.max(1);
        let once = self.chip.mapspace.launch_groups_once;
        let mut steps = self.resident(ops);
        if once && let Some(first) = ops.first() {
            // Behind the op before, as any launch.
            let launch = self.launch(*first);
            let next = self.parts.take(Tokens::Next);
            let signals = vec![(self.parts.pool(Tokens::Next), 1)];
            let work = self.parts.work(Work {
                cycles: femto(launch),
                signals,
                ..Work::default()
            });
            steps.extend(Who::Control, vec![next, work]);
        }
        let mut iteration = Steps::default();
        for op in ops {
            let share = Share {
                of: 1.0 / times as f64,
                launch: !once,
            };
            let own = self.once(&[*op], share, true);
            iteration.then(own);
        }
        steps.then(iteration.times(times));
        steps
    }

    /// Ops that run at once, each on a lane.
    fn at_once(&mut self, ops: &[OpId]) -> Steps {
        let times = |o: &OpId| self.graph.ops[*o].steps.max(1);
        let all = ops.iter().map(times).max().unwrap_or(1);
        let share = Share {
            of: 1.0 / all as f64,
            launch: true,
        };
        let mut steps = self.resident(ops);
        steps.then(self.once(ops, share, false).times(all));
        steps
    }

    /// One run of some ops that start together.
    fn once(&mut self, ops: &[OpId], share: Share, fused: bool) -> Steps {
        let mut steps = Steps::default();
        let mut launch = 0.0f64;
        let mut go = Vec::new();
        let mut running = 0;
        for (lane, id) in ops.iter().enumerate() {
            let op = &self.schedule.ops[*id];
            if matches!(
                op.execution,
                Execution::Fused { .. } | Execution::View | Execution::Unsupported { .. }
            ) {
                continue;
            }
            running += 1;
            let lane = if ops.len() > 1 { lane as Lane + 1 } else { 0 };
            let (own, starts) = match &op.execution {
                _ if self.is_closed(op) => (None, Some(self.closed(*id, lane, share.of, &mut go))),
                Execution::Mapped { .. } => {
                    (self.mapped(*id, lane, share.of, fused, &mut go), None)
                }
                Execution::Vector => (None, Some(self.vector(op, share.of, &mut go))),
                Execution::Host { .. } => {
                    (None, Some(self.single(Who::Host, op, share.of, &mut go)))
                }
                _ => (None, Some(self.single(Who::Move, op, share.of, &mut go))),
            };
            let mark = Step::Mark(TagId::new(id.index()));
            match (own, starts) {
                (Some(own), _) => {
                    launch = launch.max(self.launch(*id));
                    steps.then(own.after(mark));
                }
                (_, Some(own)) => {
                    launch = launch.max(op.cost.latency.0 * share.of);
                    steps.then(own.after(mark));
                }
                // A mapping that cannot be followed: its time as one work.
                _ => {
                    let engine = op.engine.unwrap_or(EngineId(0));
                    let who = Who::Array(lane, engine);
                    let own = self.whole(who, op, share.of, &mut go);
                    steps.then(own.after(mark));
                }
            }
        }
        if running == 0 {
            return steps;
        }
        let launch = if share.launch { launch } else { 0.0 };
        self.control(&mut steps, ops[0], launch, go, running);
        steps
    }

    fn launch(&self, id: OpId) -> f64 {
        let engine = self.schedule.ops[id].engine;
        engine
            .and_then(|e| self.chip.engines.get(e))
            .map_or(0.0, |e| e.launch.0)
    }

    /// Starts ops once those before are done, and ends them.
    fn control(&mut self, steps: &mut Steps, first: OpId, launch: f64, go: Vec<Who>, running: u64) {
        let next = self.parts.take(Tokens::Next);
        let signals = go
            .into_iter()
            .map(|w| (self.parts.pool(Tokens::Go(w)), 1))
            .collect();
        let start = self.parts.work(Work {
            cycles: femto(launch),
            signals,
            ..Work::default()
        });
        let mark = Step::Mark(TagId::new(first.index()));
        steps.extend(Who::Control, vec![mark, next, start]);
        let done = Step::Acquire {
            pool: self.parts.pool(Tokens::Done),
            tokens: running,
        };
        let next = self.parts.give(&[Tokens::Next], 0.0);
        steps.extend(Who::Retire, vec![mark, done, next]);
    }

    fn mapped(
        &mut self,
        id: OpId,
        lane: Lane,
        share: f64,
        fused: bool,
        go: &mut Vec<Who>,
    ) -> Option<Steps> {
        let op = &self.schedule.ops[id];
        let (engine, tiles) = self.tiles(id)?;
        // One iteration of a group may do less than the part of it that is mapped: masks, last tiles.
        let work = if fused && tiles.cycles > 0.0 {
            op.cost.compute_cycles * share / tiles.cycles
        } else {
            1.0
        };
        let beside = self.beside(op, &tiles, share, work);
        let run = Mapped {
            lane,
            engine,
            tiles: &tiles,
            share: work,
            beside,
            prefetch: self.chip.mapspace.prefetch_weights && op.weights.streamed > 0.0 && !fused,
            ahead: if fused {
                0.0
            } else {
                self.ahead.get(id.index()).copied().unwrap_or(0.0)
            },
        };
        Some(run.lower(&mut self.parts, go))
    }

    /// The tiles of an op's mapping.
    fn tiles(&self, id: OpId) -> Option<(EngineId, Tiles)> {
        let op = &self.schedule.ops[id];
        let Execution::Mapped { mapping, .. } = &op.execution else {
            return None;
        };
        let terms = op.terms.as_ref()?;
        let einsum = op.tile.as_ref().or(self.graph.ops[id].contraction())?;
        let problem = terms.of(einsum, self.chip);
        Some((terms.engine, tiles(&problem, mapping).ok()?))
    }

    /// What an op takes beside its mapping.
    fn beside(&self, op: &ScheduledOp, tiles: &Tiles, share: f64, work: f64) -> Beside {
        let mut beside = Beside::default();
        let busy = |r: Resource| {
            let own = op.cost.busy.iter().filter(|b| b.0 == r);
            own.map(|b| b.1.0).sum::<f64>()
        };
        let vector = busy(Resource::Vector) * share;
        let inline = |e: &EngineId| {
            matches!(
                self.chip.engines[*e].kind,
                EngineKind::Vector { inline: true, .. }
            )
        };
        if vector > 0.0
            && let Some(unit) = self.chip.engines.ids().find(inline)
        {
            beside.vector = Some((unit, vector));
        }
        for c in &op.cost.counts {
            let mut own = tiles
                .counts
                .iter()
                .filter(|t| t.memory == c.memory && t.operand == c.operand);
            let (read, written) = own
                .next()
                .map_or((0.0, 0.0), |t| (t.read_bits, t.write_bits));
            let read = (c.read_bits * share - read * work).max(0.0);
            let written = (c.write_bits * share - written * work).max(0.0);
            // Rounding of sums is no traffic.
            let small = 1e-9 * (c.read_bits + c.write_bits) * share;
            let ports = [
                (
                    c.memory,
                    Port::Read,
                    if read > small {
                        self.port(c.memory, read, 0.0)
                    } else {
                        0.0
                    },
                ),
                (
                    c.memory,
                    Port::Write,
                    if written > small {
                        self.port(c.memory, 0.0, written)
                    } else {
                        0.0
                    },
                ),
            ];
            let list = match c.operand {
                Operand::Weight => &mut beside.weights,
                _ => &mut beside.ports,
            };
            list.extend(ports.into_iter().filter(|p| p.2 > 0.0));
        }
        beside
    }

    fn port(&self, memory: NodeId, read: f64, written: f64) -> f64 {
        ledger::port_time(self.chip, memory, read, written).0
    }

    /// Port seconds of an op's traffic, by memory: reads and writes.
    fn traffic(&self, op: &ScheduledOp, share: f64) -> Vec<(NodeId, f64, f64)> {
        let memories = self.chip.nodes.ids();
        let of = |n: NodeId| {
            let (read, written) = ledger::bits(&op.cost.counts, n);
            (
                n,
                self.port(n, read * share, 0.0),
                self.port(n, 0.0, written * share),
            )
        };
        memories.map(of).filter(|t| t.1 + t.2 > 0.0).collect()
    }

    /// A vector op: parts are fed into the unit's memory, worked on and drained, where operands are at home elsewhere.
    fn vector(&mut self, op: &ScheduledOp, share: f64, go: &mut Vec<Who>) -> Steps {
        let Some(engine) = op.engine else {
            return self.single(Who::Move, op, share, go);
        };
        let EngineKind::Vector { memory, lanes, .. } = self.chip.engines[engine].kind else {
            return self.single(Who::Move, op, share, go);
        };
        let busy: f64 = op
            .cost
            .busy
            .iter()
            .filter(|b| b.0 == Resource::Vector)
            .map(|b| b.1.0)
            .sum();
        let elements: u128 = op
            .cost
            .counts
            .iter()
            .map(|c| c.reads.max(c.writes))
            .max()
            .unwrap_or(1);
        let elements = (elements as f64 * share / lanes.max(1) as f64).ceil() as u64;
        let parts = elements.clamp(1, self.chip.movement.strips.max(1));
        let each = share / parts as f64;
        let traffic = self.traffic(op, each);
        let (own, away): (Vec<_>, Vec<_>) = traffic.into_iter().partition(|t| t.0 == memory);
        let (mut feed, mut drain) = (Vec::new(), Vec::new());
        for (node, read, written) in away {
            feed.extend((read > 0.0).then_some((node, Port::Read, read)));
            drain.extend((written > 0.0).then_some((node, Port::Write, written)));
        }
        let mut ports = Vec::new();
        for (node, read, written) in own {
            ports.extend([(node, Port::Read, read), (node, Port::Write, written)]);
        }
        self.stream(engine, parts, busy * each, [feed, ports, drain], go)
    }

    /// Parts through a vector unit: ports of what feeds it, of its own memory, of what drains it.
    fn stream(
        &mut self,
        engine: EngineId,
        count: u64,
        cycles: f64,
        ports: [Vec<(NodeId, Port, f64)>; 3],
        go: &mut Vec<Who>,
    ) -> Steps {
        let [feed, own, drain] = ports;
        let mut steps = Steps::default();
        let unit = Who::Vector(engine);
        go.push(unit);
        steps.push(unit, self.parts.take(Tokens::Go(unit)));
        let (fed, drained) = (!feed.is_empty(), !drain.is_empty());
        let flow = self.parts.flow(0, &own, cycles);
        let mut work = Work {
            cycles: femto(cycles),
            flow,
            ..Work::default()
        };
        let mut body = Vec::new();
        if fed {
            let who = Who::Feed(engine);
            go.push(who);
            steps.push(who, self.parts.take(Tokens::Go(who)));
            let flow = self.parts.flow(0, &feed, 0.0);
            let signals = vec![(self.parts.pool(Tokens::Fed(engine)), 1)];
            let load = self.parts.work(Work {
                flow,
                signals,
                ..Work::default()
            });
            let room = self.parts.take(Tokens::FeedRoom(engine));
            steps.extend(who, walk::repeated(count, vec![room, load]));
            body.push(self.parts.take(Tokens::Fed(engine)));
            work.frees
                .push((self.parts.pool(Tokens::FeedRoom(engine)), 1));
        }
        if drained {
            let who = Who::Drain(engine);
            let flow = self.parts.flow(0, &drain, 0.0);
            let frees = vec![(self.parts.pool(Tokens::DrainRoom(engine)), 1)];
            let store = self.parts.work(Work {
                flow,
                frees,
                ..Work::default()
            });
            go.push(who);
            steps.push(who, self.parts.take(Tokens::Go(who)));
            let made = self.parts.take(Tokens::Made(engine));
            steps.extend(who, walk::repeated(count, vec![made, store]));
            let done = self.parts.give(&[Tokens::Done], 0.0);
            steps.push(who, done);
            body.push(self.parts.take(Tokens::DrainRoom(engine)));
            work.signals
                .push((self.parts.pool(Tokens::Made(engine)), 1));
        }
        body.push(self.parts.work(work));
        steps.extend(unit, walk::repeated(count, body));
        if !drained {
            let done = self.parts.give(&[Tokens::Done], 0.0);
            steps.push(unit, done);
        }
        steps
    }

    /// An op as one work on its traffic.
    fn single(&mut self, who: Who, op: &ScheduledOp, share: f64, go: &mut Vec<Who>) -> Steps {
        let engines = [Resource::Host, Resource::Vector, Resource::Compute];
        let busy = op.cost.busy.iter().filter(|b| engines.contains(&b.0));
        let busy = busy.fold(0.0f64, |t, b| t.max(b.1.0)) * share;
        let mut ports = Vec::new();
        for (node, read, written) in self.traffic(op, share) {
            ports.extend([(node, Port::Read, read), (node, Port::Write, written)]);
        }
        self.one(who, busy, &ports, go)
    }

    /// An op whose mapping cannot be followed, at the time that the analytic model gives it.
    fn whole(&mut self, who: Who, op: &ScheduledOp, share: f64, go: &mut Vec<Who>) -> Steps {
        self.one(who, op.cost.time.0 * share, &[], go)
    }

    fn one(
        &mut self,
        who: Who,
        busy: f64,
        ports: &[(NodeId, Port, f64)],
        go: &mut Vec<Who>,
    ) -> Steps {
        go.push(who);
        let go = self.parts.take(Tokens::Go(who));
        let flow = self.parts.flow(0, ports, busy);
        let signals = vec![(self.parts.pool(Tokens::Done), 1)];
        let work = self.parts.work(Work {
            cycles: femto(busy),
            flow,
            signals,
            ..Work::default()
        });
        let mut steps = Steps::default();
        steps.extend(who, vec![go, work]);
        steps
    }
}
