//! The event loop.
//!
//! At each moment all queues act until none can (in their order, so that the same program always runs the same way);
//! then time goes on to the next moment at which a set-up, a move or a tail ends. Moments are integers of
//! femtoseconds. Rates of flows change only when a flow begins or ends; what a flow has moved until then is rounded down to
//! whole units, and its end up to a whole femtosecond: a flow alone takes its time, rounded up.

use std::collections::VecDeque;

use presil_numerics::ids::Id;
use thiserror::Error;

use super::account::{Doing, Sums, Times};
use super::program::{CauseId, Flow, PoolId, Program, Step, TagId, Work};
use super::share::{Filling, Given};
use super::skip::Skipper;

/// Why a program does not end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Stuck {
    /// Queues wait for tokens that nobody gives.
    #[error("queues wait for each other forever: {}", told(.0))]
    Deadlock(Vec<Waiting>),
    /// A step or a work that names what the program does not have, or a loop or a flow of nothing.
    #[error(
        "queue `{queue}`, step {step}: it names what the program does not have, or does nothing"
    )]
    Malformed {
        /// Name of the queue.
        queue: String,
        /// Its step.
        step: usize,
    },
    /// Longer than femtoseconds count, five hours.
    #[error("the simulated time is longer than five hours")]
    TooLong,
}

/// A queue that waits forever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its name.
    pub queue: String,
    /// What it waits for.
    pub cause: String,
    /// Its step.
    pub step: usize,
}

fn told(waiting: &[Waiting]) -> String {
    let each = waiting
        .iter()
        .map(|w| format!("`{}` for {} at step {}", w.queue, w.cause, w.step));
    each.collect::<Vec<_>>().join(", ")
}

/// What [`run`] does beside running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Every event.
    EveryEvent,
    /// Skips periods that repeat exactly; the result is the same to the femtosecond.
    SkipPeriods,
}

/// Something to be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A work moved.
    Moved {
        /// Index of the queue.
        queue: usize,
        /// Index of the work.
        work: u32,
        /// The queue's op.
        tag: Option<TagId>,
        /// From when.
        start: u64,
        /// Until when.
        end: u64,
    },
    /// What was between two earlier moments happened again, so many times.
    Skipped {
        /// From when.
        start: u64,
        /// Until when.
        end: u64,
        /// Times.
        periods: u64,
    },
}

/// Runs a program to its end.
///
/// # Errors
/// If queues wait for each other, it takes longer than five hours, or the program is malformed.
pub fn run(program: &Program, pace: Pace) -> Result<Times, Stuck> {
    watched(program, pace, &mut |_| {})
}

/// [`run`], with what happens told in the order in which it ends.
///
/// # Errors
/// As of [`run`].
pub fn watched(program: &Program, pace: Pace, see: &mut dyn FnMut(Seen)) -> Result<Times, Stuck> {
    if let Some((queue, step)) = program.malformed() {
        let queue = queue.into();
        return Err(Stuck::Malformed { queue, step });
    }
    let mut machine = Machine::new(program);
    let mut skipper = Skipper::new(pace);
    loop {
        machine.settle(see);
        if let Some(jump) = skipper.look(&mut machine) {
            see(jump?);
        }
        if !machine.step()? {
            break;
        }
    }
    let events = machine.events;
    Ok(machine.sums.times(machine.now, skipper.skipped, events))
}

/// A loop that a queue is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// The step of its header, and the step behind its body.
    pub head: u32,
    pub end: u32,
    pub iteration: u64,
    pub count: u64,
}

/// A work that moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moving {
    pub work: u32,
    pub start: u64,
    /// The end of its cycles.
    pub cycles: u64,
    pub flow: Option<Moved>,
}

/// How far a flow is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moved {
    /// Units left at `since`, and when they are through at the present rate.
    pub left: u64,
    pub since: u64,
    pub end: u64,
    pub given: Given,
}

/// The state of a queue.
#[derive(Debug, Clone, Default)]
pub(super) struct Lane {
    pub at: u32,
    pub frames: Vec<Frame>,
    /// Works and when they are set up; works and when they are done.
    pub setups: VecDeque<(u32, u64)>,
    pub moving: Option<Moving>,
    pub tails: VecDeque<(u32, u64)>,
    /// When the last work is done.
    pub last: u64,
    pub tag: Option<TagId>,
    pub waits: Option<CauseId>,
}

/// The state of a program.
pub(super) struct Machine<'a> {
    pub program: &'a Program,
    pub now: u64,
    pub lanes: Vec<Lane>,
    pub pools: Vec<u64>,
    pub sums: Sums,
    /// Loops of leading queues that began another iteration at this moment: queue, header.
    pub wrapped: Vec<(u32, u32)>,
    pub events: u64,
    /// Whether a flow began or ended at this moment.
    flows_changed: bool,
    filling: Filling,
    given: Vec<Given>,
}

impl<'a> Machine<'a> {
    fn new(program: &'a Program) -> Self {
        Self {
            program,
            now: 0,
            lanes: program.queues.iter().map(|_| Lane::default()).collect(),
            pools: program.pools.iter().map(|p| p.tokens).collect(),
            sums: Sums::new(program),
            wrapped: Vec::new(),
            events: 0,
            flows_changed: false,
            filling: Filling::new(program.resources.len()),
            given: Vec::new(),
        }
    }

    fn work(&self, work: u32) -> &'a Work {
        &self.program.works[work as usize]
    }

    fn give(&mut self, tokens: &[(PoolId, u64)]) {
        for (pool, n) in tokens {
            self.pools[pool.index()] += n;
        }
    }

    /// All queues act until none can.
    fn settle(&mut self, see: &mut dyn FnMut(Seen)) {
        self.wrapped.clear();
        let mut acted = true;
        while acted {
            acted = false;
            for queue in 0..self.lanes.len() {
                acted |= self.retire(queue);
                acted |= self.stop(queue, see);
                acted |= self.issue(queue);
                acted |= self.start(queue);
            }
        }
        if self.flows_changed {
            self.flows_changed = false;
            self.share();
        }
    }

    /// Works that are done.
    fn retire(&mut self, queue: usize) -> bool {
        let mut acted = false;
        while let Some((work, at)) = self.lanes[queue].tails.front().copied()
            && at <= self.now
        {
            self.lanes[queue].tails.pop_front();
            self.give(&self.work(work).signals);
            acted = true;
        }
        acted
    }

    /// The end of a move.
    fn stop(&mut self, queue: usize, see: &mut dyn FnMut(Seen)) -> bool {
        let now = self.now;
        let Some(moving) = self.lanes[queue].moving else {
            return false;
        };
        if moving.cycles > now || moving.flow.is_some_and(|f| f.end > now) {
            return false;
        }
        let work = self.work(moving.work);
        let lane = &mut self.lanes[queue];
        lane.moving = None;
        lane.last = lane.last.max(now.saturating_add(work.tail.0));
        lane.tails.push_back((moving.work, lane.last));
        see(Seen::Moved {
            queue,
            work: moving.work,
            tag: lane.tag,
            start: moving.start,
            end: now,
        });
        if let Some(flow) = &work.flow {
            self.flows_changed = true;
            for (resource, cost) in &flow.over {
                let alone = (flow.amount as f64 * cost).ceil() as u64;
                self.sums.serve(*resource, alone);
            }
        }
        self.give(&work.frees);
        true
    }

    /// Takes steps until one must wait.
    fn issue(&mut self, queue: usize) -> bool {
        let q = &self.program.queues[queue];
        let lane = &mut self.lanes[queue];
        lane.waits = None;
        let mut acted = false;
        loop {
            while let Some(frame) = lane.frames.last_mut().filter(|f| f.end == lane.at) {
                if frame.iteration + 1 < frame.count {
                    frame.iteration += 1;
                    lane.at = frame.head + 1;
                    if q.leads {
                        self.wrapped.push((queue as u32, frame.head));
                    }
                } else {
                    lane.frames.pop();
                }
            }
            let Some(step) = q.steps.get(lane.at as usize) else {
                return acted;
            };
            match *step {
                Step::Repeat { count, steps } => lane.frames.push(Frame {
                    head: lane.at,
                    end: lane.at + 1 + steps,
                    iteration: 0,
                    count,
                }),
                Step::Mark(tag) => lane.tag = Some(tag),
                Step::Acquire { pool, tokens } => {
                    let there = &mut self.pools[pool.index()];
                    if *there < tokens {
                        lane.waits = Some(self.program.pools[pool.index()].cause);
                        return acted;
                    }
                    *there -= tokens;
                }
                Step::Work(work) => {
                    let busy = lane.setups.len() + usize::from(lane.moving.is_some());
                    if busy >= q.outstanding.max(1) as usize {
                        return acted;
                    }
                    let setup = self.program.works[work as usize].setup.0;
                    lane.setups
                        .push_back((work, self.now.saturating_add(setup)));
                }
            }
            lane.at += 1;
            acted = true;
        }
    }

    /// The next work moves, if it is set up.
    fn start(&mut self, queue: usize) -> bool {
        let now = self.now;
        let lane = &mut self.lanes[queue];
        let ready = lane.setups.front().filter(|s| s.1 <= now);
        let (Some((work, _)), None) = (ready.copied(), lane.moving) else {
            return false;
        };
        lane.setups.pop_front();
        let w = &self.program.works[work as usize];
        self.flows_changed |= w.flow.is_some();
        lane.moving = Some(Moving {
            work,
            start: now,
            cycles: now.saturating_add(w.cycles.0),
            flow: w.flow.as_ref().map(|flow| Moved {
                left: flow.amount,
                since: now,
                end: u64::MAX,
                given: Given {
                    rate: 0.0,
                    share: 0.0,
                    bound_by: None,
                },
            }),
        });
        true
    }

    /// Shares resources anew.
    fn share(&mut self) {
        let (program, now) = (self.program, self.now);
        let mut flows: Vec<&Flow> = Vec::with_capacity(self.lanes.len());
        for lane in &mut self.lanes {
            let Some(moving) = &mut lane.moving else {
                continue;
            };
            let Some(flow) = program.works[moving.work as usize].flow.as_ref() else {
                continue;
            };
            let Some(moved) = moving.flow.as_mut().filter(|m| m.end > now) else {
                continue;
            };
            let done = moved.given.rate * (now - moved.since) as f64;
            // A flow that is not through has something left.
            moved.left = moved.left.saturating_sub(done as u64).max(1);
            moved.since = now;
            flows.push(flow);
        }
        self.filling.fill(&flows, &mut self.given);
        let moving = self.lanes.iter_mut().filter_map(|l| l.moving.as_mut());
        let open = moving
            .filter_map(|m| m.flow.as_mut())
            .filter(|m| m.end > now);
        for (moved, given) in open.zip(&self.given) {
            moved.given = *given;
            let takes = (moved.left as f64 / given.rate).ceil();
            moved.end = match takes < u64::MAX as f64 {
                true => now.saturating_add((takes as u64).max(1)),
                false => u64::MAX,
            };
        }
    }

    /// Time goes on to the next moment. Whether there is one.
    fn step(&mut self) -> Result<bool, Stuck> {
        let now = self.now;
        let next = self.lanes.iter().filter_map(|l| l.next(now)).min();
        let Some(next) = next else {
            return self.ended().map(|()| false);
        };
        if next == u64::MAX {
            return Err(Stuck::TooLong);
        }
        self.spend(next - now);
        self.now = next;
        self.events += 1;
        self.sums.event();
        Ok(true)
    }

    fn ended(&self) -> Result<(), Stuck> {
        let lanes = self.program.queues.iter().zip(&self.lanes);
        let waiting: Vec<Waiting> = lanes
            .filter(|(queue, lane)| (lane.at as usize) < queue.steps.len())
            .map(|(queue, lane)| Waiting {
                queue: queue.name.clone(),
                cause: lane
                    .waits
                    .map(|c| self.program.causes[c.index()].clone())
                    .unwrap_or_default(),
                step: lane.at as usize,
            })
            .collect();
        match waiting.is_empty() {
            true => Ok(()),
            false => Err(Stuck::Deadlock(waiting)),
        }
    }

    /// Tells where the time until the next moment goes.
    fn spend(&mut self, time: u64) {
        let mut told = None;
        for (queue, lane) in self.lanes.iter().enumerate() {
            let q = &self.program.queues[queue];
            let doing = lane.doing(q.steps.len());
            let lost = lane.moving.and_then(|m| m.flow).and_then(|f| {
                let lost = (time as f64 * (1.0 - f.given.share)) as u64;
                Some((f.given.bound_by?, lost.min(time)))
            });
            self.sums.spend(queue, doing, time, lost);
            if let Some(as_cause) = q.told_as {
                let own = lane.moving.and_then(|m| self.work(m.work).told_as);
                let rank = match doing {
                    Doing::Moving => (0, own.unwrap_or(as_cause)),
                    Doing::Waiting(cause) => (1, cause),
                    _ => (2, as_cause),
                };
                if told.is_none_or(|(r, _)| rank.0 < r) {
                    told = Some(rank);
                }
            }
        }
        let retires = self.program.retires.and_then(|q| self.lanes[q.index()].tag);
        if let Some((tag, (_, cause))) = retires.zip(told) {
            self.sums.tell(tag, cause, time);
        }
    }
}

impl Lane {
    /// When something ends next.
    fn next(&self, now: u64) -> Option<u64> {
        let tail = self.tails.front().map(|t| t.1);
        let other = match &self.moving {
            Some(m) => Some(m.cycles.max(m.flow.map_or(0, |f| f.end))),
            None => self.setups.front().map(|s| s.1),
        };
        // Cycles that ended before the flow, or a set-up that ended before the last move: nothing new.
        [tail, other]
            .into_iter()
            .flatten()
            .filter(|t| *t > now)
            .min()
    }

    fn doing(&self, steps: usize) -> Doing {
        if self.moving.is_some() {
            Doing::Moving
        } else if !self.setups.is_empty() {
            Doing::SettingUp
        } else if let Some(cause) = self.waits {
            Doing::Waiting(cause)
        } else if self.at as usize == steps && self.tails.is_empty() {
            Doing::Done
        } else {
            Doing::Draining
        }
    }
}
