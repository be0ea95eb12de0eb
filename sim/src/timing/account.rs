//! Where time goes: sums that a skip of whole periods multiplies.
//!
//! Each femtosecond of each queue is in one class:
//!
//! ```text
//! moving      its work moves at the rate that it would have alone
//! contended   the rest of the time that a flow moves, by the resource that binds it
//! setting up  a work is set up, nothing moves
//! waiting     by cause: tokens that are not there
//! draining    only tails of works are left of what was started
//! done        all steps are done
//! ```
//!
//! and each femtosecond of the program is told of one op: that whose mark the retiring queue stands at, as the cause
//! that the first queue with such gives: what it moves as, else what it waits for.

use presil_numerics::Femtoseconds;
use presil_numerics::ids::Id;

use super::program::{CauseId, Program, QueueId, ResourceId, TagId};

/// What a queue does at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Moving,
    SettingUp,
    Waiting(CauseId),
    Draining,
    Done,
}

/// Sums of times, as one row of numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sums {
    pub(super) row: Vec<u64>,
    causes: usize,
    resources: usize,
    queues: usize,
}

/// Classes of a queue that are neither a cause nor a resource.
const PLAIN: usize = 4;

impl Sums {
    pub(super) fn new(program: &Program) -> Self {
        let (causes, resources) = (program.causes.len(), program.resources.len());
        let queues = program.queues.len();
        let told = program.tags as usize * causes;
        let each = PLAIN + causes + resources;
        Self {
            row: vec![0; queues * each + told + resources + 1],
            causes,
            resources,
            queues,
        }
    }

    fn of(&self, queue: usize) -> usize {
        queue * (PLAIN + self.causes + self.resources)
    }

    fn told(&self, tag: usize) -> usize {
        self.of(self.queues) + tag * self.causes
    }

    fn events(&self) -> usize {
        self.row.len() - 1
    }

    /// One more event.
    pub(super) fn event(&mut self) {
        let at = self.events();
        self.row[at] += 1;
    }

    /// Time of a queue; `lost` of it by contention for a resource.
    pub(super) fn spend(&mut self, queue: usize, doing: Doing, time: u64, lost: Lost) {
        let at = self.of(queue);
        let class = match doing {
            Doing::Moving => 0,
            Doing::SettingUp => 1,
            Doing::Draining => 2,
            Doing::Done => 3,
            Doing::Waiting(cause) => PLAIN + cause.index(),
        };
        let mut rest = time;
        if let Some((resource, lost)) = lost {
            rest -= lost;
            self.row[at + PLAIN + self.causes + resource.index()] += lost;
        }
        self.row[at + class] += rest;
    }

    /// Time that is told of an op.
    pub(super) fn tell(&mut self, tag: TagId, cause: CauseId, time: u64) {
        let at = self.told(tag.index()) + cause.index();
        self.row[at] += time;
    }

    /// Time that a resource would take for a flow alone.
    pub(super) fn serve(&mut self, resource: ResourceId, time: u64) {
        let at = self.events() - self.resources + resource.index();
        self.row[at] += time;
    }

    /// What all of it comes to.
    pub(super) fn times(&self, end: u64, skipped: u64, events: u64) -> Times {
        let femto = |n: &u64| Femtoseconds(*n);
        let queue = |q: usize| {
            let row = &self.row[self.of(q)..self.of(q + 1)];
            let (plain, rest) = row.split_at(PLAIN);
            let (waiting, contended) = rest.split_at(self.causes);
            QueueTimes {
                moving: Femtoseconds(plain[0]),
                setting_up: Femtoseconds(plain[1]),
                draining: Femtoseconds(plain[2]),
                done: Femtoseconds(plain[3]),
                waiting: waiting.iter().map(femto).collect(),
                contended: contended.iter().map(femto).collect(),
            }
        };
        let told = &self.row[self.told(0)..self.events() - self.resources];
        let served = &self.row[self.events() - self.resources..self.events()];
        Times {
            end: Femtoseconds(end),
            queues: (0..self.queues).map(queue).collect(),
            told: told
                .chunks(self.causes.max(1))
                .map(|c| c.iter().map(femto).collect())
                .collect(),
            served: served.iter().map(femto).collect(),
            events,
            represented: self.row[self.events()],
            skipped: Femtoseconds(skipped),
        }
    }
}

/// The resource that a flow loses time by, and how much.
pub(super) type Lost = Option<(ResourceId, u64)>;

/// Where the time of a queue goes; the parts sum to the end of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueTimes {
    /// Moving at the rate that its works have alone.
    pub moving: Femtoseconds,
    /// Setting up a work with nothing moving.
    pub setting_up: Femtoseconds,
    /// Waiting for tails with nothing else to do.
    pub draining: Femtoseconds,
    /// After its last step.
    pub done: Femtoseconds,
    /// Waiting for tokens, by cause.
    pub waiting: Vec<Femtoseconds>,
    /// Lost by contention, by resource.
    pub contended: Vec<Femtoseconds>,
}

/// What a program takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    /// When all is done.
    pub end: Femtoseconds,
    /// By queue.
    pub queues: Vec<QueueTimes>,
    /// By op and cause; all of them sum to the end where a queue retires.
    pub told: Vec<Vec<Femtoseconds>>,
    /// By resource: what its flows take alone.
    pub served: Vec<Femtoseconds>,
    /// Moments at which something happened that were gone through.
    pub events: u64,
    /// Moments in all, those of skipped periods included.
    pub represented: u64,
    /// Time in skipped periods.
    pub skipped: Femtoseconds,
}

impl Times {
    /// A queue's.
    pub fn queue(&self, queue: QueueId) -> Option<&QueueTimes> {
        self.queues.get(queue.index())
    }
}
