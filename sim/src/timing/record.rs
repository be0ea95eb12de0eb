//! What happened when, in a bounded number of slices.
//!
//! Of each run of an op the first `TILES` works of a queue are slices of their own, all later ones together one. A
//! period that was skipped is one slice on each queue that worked in it, and one of all ops if several ops ran in it.

use presil_numerics::ids::Id;

use super::machine::Seen;
use super::program::{Program, TagId};

/// Works of a queue in a run of an op that are told one by one.
const TILES: u32 = 24;
/// Stretches of time of a resource that are kept apart.
const STRETCHES: usize = 1 << 17;

/// From when, until when, busy for how long.
type Served = (u64, u64, f64);

/// Points in time of a rate.
const BINS: usize = 512;

/// A stretch of time of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The op; none if it is of several.
    pub op: Option<TagId>,
    /// Femtoseconds.
    pub start: u64,
    /// Femtoseconds.
    pub end: u64,
    /// Works in it, or periods that were skipped.
    pub works: u64,
}

/// What is told of a program's run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    /// Slices of each queue, in order. Those of the queue that retires ops are their times.
    pub slices: Vec<Vec<Slice>>,
    /// Busy share of each resource over equal parts of the time.
    pub busy: Vec<Vec<f64>>,
}

/// Takes in what [`super::machine::watched`] tells.
pub(crate) struct Recorder<'a> {
    program: &'a Program,
    slices: Vec<Vec<Slice>>,
    /// Works of the last run of an op, by queue.
    works: Vec<u32>,
    /// When the last op ended.
    retired: u64,
    /// By resource.
    served: Vec<Vec<Served>>,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(program: &'a Program) -> Self {
        Self {
            program,
            slices: vec![Vec::new(); program.queues.len()],
            works: vec![0; program.queues.len()],
            retired: 0,
            served: vec![Vec::new(); program.resources.len()],
        }
    }

    pub(crate) fn see(&mut self, seen: Seen) {
        match seen {
            Seen::Moved {
                queue,
                work,
                tag,
                start,
                end,
            } => self.moved(queue, work, tag, start, end),
            Seen::Skipped {
                start,
                end,
                periods,
            } => self.skipped(start, end, periods),
        }
    }

    fn moved(&mut self, queue: usize, work: u32, op: Option<TagId>, start: u64, end: u64) {
        if self.program.retires.is_some_and(|q| q.index() == queue) {
            let slice = Slice {
                op,
                start: self.retired,
                end,
                works: 1,
            };
            self.retired = end;
            self.slices[queue].push(slice);
            return;
        }
        if start == end {
            return;
        }
        if let Some(flow) = &self.program.works[work as usize].flow {
            for (resource, cost) in &flow.over {
                let busy = flow.amount as f64 * cost;
                add(&mut self.served[resource.index()], (start, end, busy));
            }
        }
        let slices = &mut self.slices[queue];
        let same = slices.last_mut().filter(|s| s.op == op);
        self.works[queue] = match same {
            Some(_) => self.works[queue] + 1,
            None => 0,
        };
        match same {
            Some(last) if self.works[queue] > TILES => {
                last.end = end;
                last.works += 1;
            }
            _ => slices.push(Slice {
                op,
                start,
                end,
                works: 1,
            }),
        }
    }

    fn skipped(&mut self, start: u64, end: u64, periods: u64) {
        let length = (end - start) / periods.max(1);
        let from = start.saturating_sub(length);
        for served in &mut self.served {
            let inside = served.iter().rev().take_while(|s| s.1 > from);
            let busy: f64 = inside.map(|s| s.2).sum();
            if busy > 0.0 {
                add(served, (start, end, busy * periods as f64));
            }
        }
        let retires = self.program.retires.map(|q| q.index());
        let ended = |slices: &[Slice]| slices.iter().rev().take_while(|s| s.end > from).count();
        let several = retires.is_some_and(|q| ended(&self.slices[q]) > 0);
        for (queue, slices) in self.slices.iter_mut().enumerate() {
            let retires = retires == Some(queue);
            if retires != several || (!retires && ended(slices) == 0) {
                continue;
            }
            let op = slices.last().and_then(|s| s.op).filter(|_| !retires);
            slices.push(Slice {
                op,
                start,
                end,
                works: periods,
            });
            self.works[queue] = 0;
        }
        if several {
            self.retired = end;
        }
    }

    /// All of it, of a program that ended at `end`.
    pub(crate) fn finish(self, end: u64) -> Record {
        let width = (end as f64 / BINS as f64).max(1.0);
        let busy = self.served.iter().map(|served| {
            let mut bins = vec![0.0; BINS];
            for (start, end, busy) in served {
                spread(&mut bins, width, *start as f64, *end as f64, *busy);
            }
            bins.iter().map(|b| (b / width).min(1.0)).collect()
        });
        Record {
            busy: busy.collect(),
            slices: self.slices,
        }
    }
}

/// Adds a stretch of time; where there are too many, neighbours become one.
fn add(served: &mut Vec<Served>, stretch: Served) {
    if served.len() >= STRETCHES {
        let pairs = served.chunks(2).map(|pair| {
            let last = pair.last().copied().unwrap_or_default();
            (pair[0].0, last.1, pair.iter().map(|s| s.2).sum())
        });
        *served = pairs.collect();
    }
    served.push(stretch);
}

/// Adds an amount that is spread evenly from `start` to `end`.
fn spread(bins: &mut [f64], width: f64, start: f64, end: f64, amount: f64) {
    let length = (end - start).max(1.0);
    let first = (start / width) as usize;
    for (i, bin) in bins.iter_mut().enumerate().skip(first) {
        let (from, to) = (i as f64 * width, (i + 1) as f64 * width);
        if from >= end {
            return;
        }
        *bin += amount * ((to.min(end) - from.max(start)).max(0.0) / length);
    }
}
