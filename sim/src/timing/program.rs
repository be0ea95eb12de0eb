//! What the machine runs: queues of commands, pools of tokens, shared resources.
//!
//! A [`Program`] is data: every duration, amount and dependence in it is a constant, so the same state has the same
//! future wherever it stands in a loop. [`super::machine`] rests on that.

use presil_numerics::ids::Id;
use presil_numerics::{Femtoseconds, define_ids};

define_ids! {
    /// A queue of a program.
    QueueId,
    /// A pool of tokens.
    PoolId,
    /// A shared resource.
    ResourceId,
    /// Why a queue waits, and what an op's time is told as.
    CauseId,
    /// An op that time is told of.
    TagId,
}

/// A queue runs its steps in order.
///
/// A work passes through four stages: *set-up* (works that follow may be set up meanwhile, as far as `outstanding` allows), *moving* (one work of a
/// queue at a time), *tail* (the next one moves already), done. Works of a queue are done in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Name, as in reports and traces.
    pub name: String,
    /// Works that may be set up or moving at once, at least 1.
    pub outstanding: u32,
    /// What is told of an op while this queue moves something and no queue before it does; none: not told of.
    pub told_as: Option<CauseId>,
    /// Whether loops of this queue are looked at for a period.
    pub leads: bool,
    /// Its steps; loops stand before their bodies.
    pub steps: Vec<Step>,
}

/// A step of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The next so many steps, so many times.
    Repeat {
        /// Times, at least 1.
        count: u64,
        /// Steps of the body, inner loops' headers and bodies included; at least 1.
        steps: u32,
    },
    /// Waits for tokens and takes them.
    Acquire {
        /// The pool.
        pool: PoolId,
        /// Tokens.
        tokens: u64,
    },
    /// Does a work; an index into [`Program::works`].
    Work(u32),
    /// From here on, until the next such step of the queue, time is told of this op.
    Mark(TagId),
}

/// Something that takes time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Work {
    /// Set-up before it moves.
    pub setup: Femtoseconds,
    /// Least duration of moving: cycles of an engine, whatever it moves.
    pub cycles: Femtoseconds,
    /// What moves over shared resources, if anything does.
    pub flow: Option<Flow>,
    /// From the end of moving to the result.
    pub tail: Femtoseconds,
    /// Tokens given back when moving ends.
    pub frees: Vec<(PoolId, u64)>,
    /// Tokens given when it is done.
    pub signals: Vec<(PoolId, u64)>,
    /// What its moving is told as, where that is not what its queue's is.
    pub told_as: Option<CauseId>,
}

/// An amount that moves over resources at once, at one rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// Units to move, such as bits. At least 1.
    pub amount: u64,
    /// For each resource that it crosses, its femtoseconds for a unit if nothing else uses the resource. Positive. At least one
    /// resource, or a limit of its own.
    pub over: Vec<(ResourceId, f64)>,
    /// Fewest femtoseconds for a unit whatever resources allow (requests in flight by latency). 0: no limit.
    pub least: f64,
}

/// A pool of tokens: tiles that are ready, slots that are free, ops that are done.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Tokens at the start.
    pub tokens: u64,
    /// What a queue that waits for them waits for.
    pub cause: CauseId,
}

/// Queues that run at once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Program {
    /// Queues; where several could act at one moment, in this order.
    pub queues: Vec<Queue>,
    /// Works of all queues.
    pub works: Vec<Work>,
    /// Pools.
    pub pools: Vec<Pool>,
    /// Names of shared resources.
    pub resources: Vec<String>,
    /// Names of causes.
    pub causes: Vec<String>,
    /// Ops that time is told of.
    pub tags: u32,
    /// The queue whose marks tell which op the time is told of.
    pub retires: Option<QueueId>,
}

impl Program {
    /// The first step that names what there is not, or repeats, crosses or moves nothing: name of its queue, and its index.
    pub(super) fn malformed(&self) -> Option<(&str, usize)> {
        let retires = self.retires.is_none_or(|q| q.index() < self.queues.len());
        for queue in &self.queues {
            let told = queue.told_as.is_none_or(|c| c.index() < self.causes.len());
            if !(told && retires) {
                return Some((&queue.name, 0));
            }
            // Ends of the loops that a step lies in.
            let mut ends: Vec<usize> = Vec::new();
            for (at, step) in queue.steps.iter().enumerate() {
                ends.retain(|end| *end > at);
                let inside = ends.last().copied().unwrap_or(queue.steps.len());
                if let Step::Repeat { steps, .. } = step {
                    ends.push(at + 1 + *steps as usize);
                }
                if !self.knows(step, at, inside) {
                    return Some((&queue.name, at));
                }
            }
        }
        None
    }

    /// Whether a step at a place makes sense inside a loop that ends at `end`.
    fn knows(&self, step: &Step, at: usize, end: usize) -> bool {
        let pool = |p: &PoolId| p.index() < self.pools.len();
        match step {
            Step::Repeat { count, steps } => {
                *count > 0 && *steps > 0 && at + 1 + *steps as usize <= end
            }
            Step::Acquire { pool: p, .. } => {
                pool(p) && self.pools[p.index()].cause.index() < self.causes.len()
            }
            Step::Mark(tag) => tag.0 < self.tags,
            Step::Work(work) => self.works.get(*work as usize).is_some_and(|w| {
                let given = w.frees.iter().chain(&w.signals);
                given.into_iter().all(|(p, _)| pool(p))
                    && w.told_as.is_none_or(|c| c.index() < self.causes.len())
                    && w.flow.as_ref().is_none_or(|f| self.flows(f))
            }),
        }
    }

    fn flows(&self, flow: &Flow) -> bool {
        let crosses = |(r, cost): &(ResourceId, f64)| {
            r.index() < self.resources.len() && *cost > 0.0 && cost.is_finite()
        };
        let bound = !flow.over.is_empty() || flow.least > 0.0;
        flow.amount > 0 && bound && flow.least.is_finite() && flow.over.iter().all(crosses)
    }
}
