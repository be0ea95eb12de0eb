//! The parts of a program under construction: who runs what, which tokens there are, what is shared.

use std::collections::BTreeMap;

use presil_hwmodels::{Chip, EngineId, NodeId, NodeKind, Operand};
use presil_mapper::analysis::crossing::Wires;
use presil_mapper::analysis::tiles::Port;
use presil_mapper::partition::Cores;
use presil_numerics::Femtoseconds;
use presil_numerics::ids::Id;
use rustc_hash::FxHashMap;

use super::walk::repeated;
use crate::timing::program::{
    CauseId, Flow, Pool, PoolId, Program, Queue, QueueId, ResourceId, Step, Work,
};

/// Cores that ops of their own run on; ops that have the whole chip are on lane 0.
pub(super) type Lane = u32;

/// A queue. Time is told by the first one in this order that has something to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Who {
    /// An array's passes.
    Array(Lane, EngineId),
    /// Works of a vector unit.
    Vector(EngineId),
    /// The host.
    Host,
    /// Starts ops, one after the other.
    Control,
    /// Moves between memories that no engine makes.
    Move,
    /// Tiles into a memory.
    Load(Lane, NodeId, Operand),
    /// Partial sums into a memory.
    Restore(Lane, NodeId),
    /// Tiles out of a memory.
    Store(Lane, NodeId),
    /// Biases, scales and the like of an op.
    Beside(Lane),
    /// Parts of what a vector unit reads.
    Feed(EngineId),
    /// Parts of what it made.
    Drain(EngineId),
    /// Weights that stay on chip, in the first pass.
    Fetch,
    /// Ends ops.
    Retire,
}

/// Tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Tokens {
    /// Room for a tile.
    Room(Lane, NodeId, Operand),
    /// Tiles that are there, where they came from and which memory they go on to, if not to the array.
    There(Lane, NodeId, Operand, NodeId, Option<NodeId>),
    /// Tiles of partial sums that came back.
    Back(Lane, NodeId),
    /// Tiles of partial sums that are stored above.
    Stored(Lane, NodeId),
    /// Tiles of outputs that are complete, of partial sums that are not.
    Complete(Lane),
    Partial(Lane, NodeId),
    /// Complete ones that went through the vector unit.
    Finished(Lane, NodeId),
    /// What lies beside.
    Beside(Lane),
    /// Room for and parts in a vector unit's memory: in and out.
    FeedRoom(EngineId),
    Fed(EngineId),
    DrainRoom(EngineId),
    Made(EngineId),
    /// Weights of the first pass.
    Fetched(u32),
    /// A queue may begin with the op that is next.
    Go(Who),
    /// Ops that are done; the next op may start.
    Done,
    Next,
}

/// Steps of some queues.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Steps(pub(super) BTreeMap<Who, Vec<Step>>);

impl Steps {
    pub(super) fn push(&mut self, who: Who, step: Step) {
        self.0.entry(who).or_default().push(step);
    }

    pub(super) fn extend(&mut self, who: Who, steps: Vec<Step>) {
        self.0.entry(who).or_default().extend(steps);
    }

    /// What runs after these.
    pub(super) fn then(&mut self, other: Self) {
        for (who, steps) in other.0 {
            self.extend(who, steps);
        }
    }

    /// These, each queue's behind a step.
    pub(super) fn after(self, step: Step) -> Self {
        let all = self.0.into_iter();
        Self(
            all.map(|(who, steps)| (who, std::iter::once(step).chain(steps).collect()))
                .collect(),
        )
    }

    /// These, so many times.
    pub(super) fn times(self, count: u64) -> Self {
        let all = self.0.into_iter();
        Self(all.map(|(who, s)| (who, repeated(count, s))).collect())
    }
}

/// Everything of a program but the steps.
pub(super) struct Parts<'a> {
    pub(super) chip: &'a Chip,
    cores: Option<Cores>,
    works: Vec<Work>,
    known: FxHashMap<Vec<u64>, u32>,
    pools: Vec<Pool>,
    pool_ids: BTreeMap<Tokens, PoolId>,
    resources: Vec<String>,
    resource_ids: FxHashMap<(Lane, NodeId, Port), ResourceId>,
    causes: Vec<String>,
}

/// Tokens that stand for all room of an operand in a memory: slots of most numbers of tiles are whole tokens.
const ROOM: u64 = 720_720;

/// Causes that are no memory.
pub(crate) const COMPUTE: &str = "compute";
pub(crate) const VECTOR: &str = "vector";
pub(crate) const HOST: &str = "host";
pub(crate) const LAUNCH: &str = "launch";

impl<'a> Parts<'a> {
    pub(super) fn new(chip: &'a Chip, cores: Option<Cores>) -> Self {
        Self {
            chip,
            cores,
            works: Vec::new(),
            known: FxHashMap::default(),
            pools: Vec::new(),
            pool_ids: BTreeMap::new(),
            resources: Vec::new(),
            resource_ids: FxHashMap::default(),
            causes: Vec::new(),
        }
    }

    fn cause(&mut self, name: &str) -> CauseId {
        let at = self.causes.iter().position(|c| c == name);
        CauseId::new(at.unwrap_or_else(|| {
            self.causes.push(name.into());
            self.causes.len() - 1
        }))
    }

    pub(super) fn memory_cause(&mut self, node: NodeId) -> CauseId {
        let name = self.chip.nodes[node].name.clone();
        self.cause(&name)
    }

    /// A pool; where it is new, with what is in it at first and what waiting for it is told as.
    pub(super) fn pool(&mut self, tokens: Tokens) -> PoolId {
        if let Some(id) = self.pool_ids.get(&tokens) {
            return *id;
        }
        let cause = self.waits_for(tokens);
        let first = match tokens {
            Tokens::Room(..) => ROOM,
            Tokens::FeedRoom(_) | Tokens::DrainRoom(_) => 2,
            Tokens::Next => 1,
            _ => 0,
        };
        let id = PoolId::new(self.pools.len());
        self.pools.push(Pool {
            tokens: first,
            cause,
        });
        self.pool_ids.insert(tokens, id);
        id
    }

    /// What a queue that waits for tokens waits for: the memory above that tiles come from or go to, or an engine.
    fn waits_for(&mut self, tokens: Tokens) -> CauseId {
        let root = self.chip.root();
        match tokens {
            Tokens::There(_, _, _, from, _) => self.memory_cause(from),
            Tokens::Room(_, n, o) => {
                let above = self.memory_above(n, o);
                self.memory_cause(above)
            }
            Tokens::Back(_, n) | Tokens::Stored(_, n) | Tokens::Partial(_, n) => {
                let above = self.memory_above(n, Operand::Output);
                self.memory_cause(above)
            }
            Tokens::Complete(_) => self.cause(COMPUTE),
            Tokens::Finished(..) | Tokens::FeedRoom(_) | Tokens::DrainRoom(_) | Tokens::Made(_) => {
                self.cause(VECTOR)
            }
            Tokens::Beside(_) | Tokens::Fed(_) | Tokens::Fetched(_) => self.memory_cause(root),
            Tokens::Go(_) | Tokens::Done | Tokens::Next => self.cause(LAUNCH),
        }
    }

    /// The next memory above that may keep an operand.
    fn memory_above(&self, node: NodeId, operand: Operand) -> NodeId {
        let mut at = self.chip.nodes[node].parent;
        while let Some(n) = at {
            let memory = self.chip.nodes[n].memory();
            if memory.is_some_and(|m| m.keeps.has(operand)) {
                return n;
            }
            at = self.chip.nodes[n].parent;
        }
        self.chip.root()
    }

    /// Takes one of so many slots of a memory.
    pub(super) fn take_room(&mut self, tokens: Tokens, slots: u64) -> Step {
        Step::Acquire {
            pool: self.pool(tokens),
            tokens: ROOM / slots.max(1),
        }
    }

    /// What gives a slot back.
    pub(super) fn room(&mut self, tokens: Tokens, slots: u64) -> (PoolId, u64) {
        (self.pool(tokens), ROOM / slots.max(1))
    }

    pub(super) fn take(&mut self, tokens: Tokens) -> Step {
        Step::Acquire {
            pool: self.pool(tokens),
            tokens: 1,
        }
    }

    /// A port or wires that flows share. Private nodes of cores are of their lane, others of all.
    pub(super) fn resource(&mut self, lane: Lane, node: NodeId, port: Port) -> ResourceId {
        let memory = self.chip.nodes[node].memory();
        let shared = memory.is_some_and(|m| m.shared_port);
        let port = match port {
            Port::Write if shared => Port::Read,
            port => port,
        };
        let private = self.cores.is_some_and(|c| c.is_private(self.chip, node));
        let lane = if private { lane } else { 0 };
        *self
            .resource_ids
            .entry((lane, node, port))
            .or_insert_with(|| {
                let name = &self.chip.nodes[node].name;
                let what = match (shared, port) {
                    (true, _) => "",
                    (false, Port::Read) => " read",
                    (false, Port::Write) => " write",
                    (false, Port::Link(Wires::Down)) => " down",
                    (false, Port::Link(Wires::Up)) => " up",
                    (false, Port::Link(Wires::Both)) => "",
                    (false, Port::Link(Wires::Own(operand))) => match operand {
                        0 => " input",
                        1 => " weight",
                        _ => " output",
                    },
                };
                self.resources.push(format!("{name}{what}"));
                ResourceId::new(self.resources.len() - 1)
            })
    }

    /// A flow that occupies ports for so many seconds of each if it is alone, and moves no faster than within `pace` seconds.
    pub(super) fn flow(
        &mut self,
        lane: Lane,
        ports: &[(NodeId, Port, f64)],
        pace: f64,
    ) -> Option<Flow> {
        let mut over: Vec<(ResourceId, f64)> = Vec::with_capacity(ports.len());
        let mut amount = 0.0f64;
        for (node, port, seconds) in ports.iter().filter(|p| p.2 > 0.0) {
            let resource = self.resource(lane, *node, *port);
            match over.iter_mut().find(|o| o.0 == resource) {
                Some(o) => o.1 += seconds * 1e15,
                None => over.push((resource, seconds * 1e15)),
            }
            amount = amount.max(seconds * self.rate(*node, *port));
        }
        if over.is_empty() {
            return None;
        }
        let amount = (amount.round() as u64).max(1);
        over.iter_mut().for_each(|o| o.1 /= amount as f64);
        Some(Flow {
            amount,
            over,
            least: pace.max(0.0) * 1e15 / amount as f64,
        })
    }

    /// Bits per second of a port or link.
    fn rate(&self, node: NodeId, port: Port) -> f64 {
        let rate = match (&self.chip.nodes[node].kind, port) {
            (NodeKind::Memory(m), Port::Read) => Some(m.read_rate),
            (NodeKind::Memory(m), Port::Write) => Some(m.write_rate),
            (NodeKind::Fanout(f), Port::Link(_)) => f.network.and_then(|n| n.link_rate),
            _ => None,
        };
        rate.map_or(0.0, |r| r.0 * 8.0)
    }

    /// The step that does a work; equal works are one.
    pub(super) fn work(&mut self, work: Work) -> Step {
        let key = key(&work);
        if let Some(id) = self.known.get(&key) {
            return Step::Work(*id);
        }
        let id = u32::try_from(self.works.len()).unwrap_or(u32::MAX);
        self.works.push(work);
        self.known.insert(key, id);
        Step::Work(id)
    }

    /// A work that only gives tokens, when all before it in its queue is done.
    pub(super) fn give(&mut self, tokens: &[Tokens], tail: f64) -> Step {
        let signals = tokens.iter().map(|t| (self.pool(*t), 1)).collect();
        self.work(Work {
            tail: femto(tail),
            signals,
            ..Work::default()
        })
    }

    /// A work that only gives a slot back, when moves before it have ended.
    pub(super) fn free(&mut self, tokens: Tokens, slots: u64) -> Step {
        let frees = vec![self.room(tokens, slots)];
        self.work(Work {
            frees,
            ..Work::default()
        })
    }

    /// What the time of a queue is told as while it moves.
    fn told_as(&mut self, who: Who) -> Option<CauseId> {
        let root = self.chip.root();
        Some(match who {
            Who::Array(..) => self.cause(COMPUTE),
            Who::Vector(_) => self.cause(VECTOR),
            Who::Host => self.cause(HOST),
            Who::Control => self.cause(LAUNCH),
            Who::Load(_, n, o) => {
                let above = self.memory_above(n, o);
                self.memory_cause(above)
            }
            Who::Restore(_, n) | Who::Store(_, n) => {
                let above = self.memory_above(n, Operand::Output);
                self.memory_cause(above)
            }
            Who::Move | Who::Beside(_) | Who::Feed(_) | Who::Drain(_) | Who::Fetch => {
                self.memory_cause(root)
            }
            Who::Retire => return None,
        })
    }

    fn name(&self, who: Who) -> String {
        let node = |n: NodeId| self.chip.nodes[n].name.as_str();
        let engine = |e: EngineId| self.chip.engines[e].name.as_str();
        let lane = |l: Lane| match l {
            0 => String::new(),
            l => format!(" of set {l}"),
        };
        match who {
            Who::Array(l, e) => format!("{}{}", engine(e), lane(l)),
            Who::Vector(e) => engine(e).into(),
            Who::Host => "host".into(),
            Who::Control => "control".into(),
            Who::Move => "moves".into(),
            Who::Load(l, n, o) => format!("{} into {}{}", o.name(), node(n), lane(l)),
            Who::Restore(l, n) => format!("partial sums into {}{}", node(n), lane(l)),
            Who::Store(l, n) => format!("output out of {}{}", node(n), lane(l)),
            Who::Beside(l) => format!("biases and scales{}", lane(l)),
            Who::Feed(e) => format!("into {}", engine(e)),
            Who::Drain(e) => format!("out of {}", engine(e)),
            Who::Fetch => "resident weights".into(),
            Who::Retire => "ops".into(),
        }
    }

    /// The program of some steps, which tells time of so many ops.
    pub(super) fn program(mut self, steps: Steps, ops: usize) -> Program {
        let mut queues = Vec::with_capacity(steps.0.len());
        let mut retires = None;
        for (who, steps) in steps.0 {
            if who == Who::Retire {
                retires = Some(QueueId::new(queues.len()));
            }
            queues.push(Queue {
                name: self.name(who),
                outstanding: self.outstanding(who),
                told_as: self.told_as(who),
                leads: matches!(who, Who::Array(..) | Who::Vector(_) | Who::Retire),
                steps,
            });
        }
        Program {
            queues,
            works: self.works,
            pools: self.pools,
            resources: self.resources,
            causes: self.causes,
            tags: u32::try_from(ops).unwrap_or(u32::MAX),
            retires,
        }
    }

    /// Works that may be set up or moving at once.
    fn outstanding(&self, who: Who) -> u32 {
        let movement = &self.chip.movement;
        match who {
            Who::Array(..) | Who::Vector(_) | Who::Host | Who::Control | Who::Retire => 1,
            Who::Store(..) | Who::Drain(_) => movement.stores,
            Who::Load(..)
            | Who::Restore(..)
            | Who::Move
            | Who::Beside(_)
            | Who::Feed(_)
            | Who::Fetch => movement.loads,
        }
    }
}

/// Seconds in whole femtoseconds.
pub(super) fn femto(seconds: f64) -> Femtoseconds {
    Femtoseconds((seconds.max(0.0) * 1e15).round() as u64)
}

fn key(work: &Work) -> Vec<u64> {
    let told = work.told_as.map_or(u64::MAX, |c| u64::from(c.0));
    let mut key = vec![work.setup.0, work.cycles.0, work.tail.0, told];
    if let Some(f) = &work.flow {
        key.extend([f.amount, f.least.to_bits()]);
        key.extend(
            f.over
                .iter()
                .flat_map(|(r, c)| [u64::from(r.0), c.to_bits()]),
        );
    }
    for tokens in [&work.frees, &work.signals] {
        key.push(u64::MAX);
        key.extend(tokens.iter().flat_map(|(p, n)| [u64::from(p.0), *n]));
    }
    key
}
