//! When ops run: one after the other in the schedule's order, weights fetched ahead in the idle time of the root
//! memory.
//!
//! ```text
//! T(op)  = latency + max(busy of every resource)
//! busy(root) = D + W - p      D: its traffic that belongs to this moment, W: its weights, p: those fetched before
//! slack  = T - busy(root)     goes to the weights of the ops that follow, in order
//! ```
//!
//! where the chip prefetches weights (`prefetch_weights`). What is fetched ahead must have room on chip: held bits
//! are at most the room beside the op that runs, and stop at the first weights that do not fit. Nothing is fetched
//! twice or for free: the root memory's port time over the whole graph is the sum of all D and W, so no schedule
//! ends before it. With separate ports for reads and writes, `D + W` is `max(reads + W, writes)`.
//!
//! Ops that run at once ([`presil_mapper::partition`]) are one step of the cost of the set. Each member is then told
//! that part of the set's time that its own time times its cores is of that of all members, so that no utilization is above 1.
//!
//! A repeated block is unrolled until a repetition starts in the state that the one before started in; the
//! repetitions between are then equal and are multiplied, the last ones run out into what follows the block.

use presil_hwmodels::Chip;
use presil_mapper::cost::Resource;
use presil_mapper::ledger;
use presil_mapper::partition::{CoSet, Member, together};
use presil_mapper::schedule::{Execution, Schedule, ScheduledOp};
use presil_workloads::{Graph, OpId};

/// How far ahead weights are fetched, in ops. Chips' fetch queues are shorter than any model; room binds first.
const AHEAD: usize = 64;
/// Repetitions that are unrolled before the last one counts as steady even if it still changes in the last digits.
const UNROLL: u64 = 64;

/// Where the time of an op goes, over all its repetitions. The parts sum to the total.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct OpTime {
    pub(crate) total: f64,
    /// The op's own engine.
    pub(crate) compute: f64,
    /// An epilogue's lanes beyond the array.
    pub(crate) vector: f64,
    /// Waiting for the memory that is busy longest, by node index.
    pub(crate) memory: Vec<(usize, f64)>,
    pub(crate) latency: f64,
    /// Busy time by resource, with the root memory's as it was left by prefetch.
    pub(crate) busy: Vec<(Resource, f64)>,
    /// Seconds of weights of the root memory, and of those what was fetched ahead.
    weights: [f64; 2],
}

impl OpTime {
    fn ahead(&self) -> f64 {
        match self.weights[0] > 0.0 {
            true => (self.weights[1] / self.weights[0]).clamp(0.0, 1.0),
            false => 0.0,
        }
    }
}

/// One repetition of an op, in seconds.
#[derive(Debug, Clone, Default)]
struct Step {
    latency: f64,
    compute: f64,
    vector: f64,
    others: Vec<(Resource, f64)>,
    /// Longest of what is not the root memory.
    longest: f64,
    /// Root memory: weights, other reads, writes.
    weights: f64,
    reads: f64,
    writes: f64,
    shared_port: bool,
    /// Seconds of weight reads that fit beside this op.
    room: f64,
}

impl Step {
    /// Busy time of the root memory with so much of the weights left to fetch.
    fn root(&self, left: f64) -> f64 {
        if self.shared_port {
            self.reads + self.writes + left
        } else {
            (self.reads + left).max(self.writes)
        }
    }

    /// Time of the root's read port, which prefetch competes for.
    fn port(&self, left: f64) -> f64 {
        if self.shared_port {
            self.root(left)
        } else {
            self.reads + left
        }
    }
}

/// The time of every op over all its repetitions. `cold`: weights that stay on chip are loaded as well.
pub(crate) fn times(graph: &Graph, chip: &Chip, schedule: &Schedule, cold: bool) -> Vec<OpTime> {
    let mut times = whole(graph, chip, schedule, cold);
    for set in &schedule.partition.sets {
        split(schedule, set, &mut times);
    }
    times
}

/// Seconds of the root memory in which each op's weights are fetched ahead, over all its repetitions; those of a set at its first member.
pub(crate) fn fetched(graph: &Graph, chip: &Chip, schedule: &Schedule, cold: bool) -> Vec<f64> {
    let times = whole(graph, chip, schedule, cold);
    times.iter().map(|t| t.weights[1]).collect()
}

/// Of each op's weights that stream from the root memory, the part that is fetched before it runs; of a set's, that of all of them.
pub(crate) fn ahead(graph: &Graph, chip: &Chip, schedule: &Schedule, cold: bool) -> Vec<f64> {
    let times = whole(graph, chip, schedule, cold);
    let mut parts: Vec<f64> = times.iter().map(OpTime::ahead).collect();
    for set in &schedule.partition.sets {
        let first = set.members.first().map_or(0.0, |m| parts[m.op.0 as usize]);
        for m in &set.members {
            parts[m.op.0 as usize] = first;
        }
    }
    parts
}

/// Times of ops, of a set at its first member.
fn whole(graph: &Graph, chip: &Chip, schedule: &Schedule, cold: bool) -> Vec<OpTime> {
    // By position; a block's positions are the range of its ops.
    let steps: Vec<Step> = schedule
        .order
        .iter()
        .map(|id| match set_of(schedule, *id) {
            Some(set) if set.members.first().is_none_or(|m| m.op != *id) => Step::default(),
            Some(set) => at_once(chip, schedule, set, cold),
            None => step(chip, &schedule.ops[*id], cold),
        })
        .collect();
    let mut run = Runner {
        prefetch: chip.mapspace.prefetch_weights,
        distance: chip
            .mapspace
            .prefetch_ops
            .map_or(AHEAD, |n| (n as usize).min(AHEAD)),
        blocks: graph
            .blocks
            .iter()
            .filter(|b| !b.ops.is_empty())
            .map(|b| (b.ops.start as usize, b.ops.end as usize, b.repeat))
            .collect(),
        steps: &steps,
        ahead: std::collections::VecDeque::new(),
        times: vec![OpTime::default(); steps.len()],
    };
    run.all();
    let mut times = vec![OpTime::default(); run.times.len()];
    for (id, time) in schedule.order.iter().zip(run.times) {
        times[id.0 as usize] = time;
    }
    times
}

/// The set that an op runs in.
fn set_of(schedule: &Schedule, op: OpId) -> Option<&CoSet> {
    let holds = |s: &&CoSet| s.members.iter().any(|m| m.op == op);
    schedule.partition.sets.iter().find(holds)
}

/// A set is one step, at its first member's place.
fn at_once(chip: &Chip, schedule: &Schedule, set: &CoSet, cold: bool) -> Step {
    let members: Vec<&ScheduledOp> = set.members.iter().map(|m| &schedule.ops[m.op]).collect();
    let cores = schedule.partition.cores;
    match cores.and_then(|c| together(chip, c, &members)) {
        Some(op) => step(chip, &op, cold),
        None => Step::default(),
    }
}

/// Gives each member of a set its part of the set's time.
pub(crate) fn split(schedule: &Schedule, set: &CoSet, times: &mut [OpTime]) {
    let Some(first) = set.members.first() else {
        return;
    };
    let alone = |m: &Member| schedule.ops[m.op].cost.time.0 * m.cores as f64;
    let sum: f64 = set.members.iter().map(alone).sum();
    let whole = std::mem::take(&mut times[first.op.0 as usize]);
    for m in &set.members {
        let part = if sum > 0.0 {
            alone(m) / sum
        } else {
            1.0 / set.members.len() as f64
        };
        times[m.op.0 as usize] = OpTime {
            total: whole.total * part,
            compute: whole.compute * part,
            vector: whole.vector * part,
            memory: whole.memory.iter().map(|(n, t)| (*n, t * part)).collect(),
            latency: whole.latency * part,
            busy: whole.busy.iter().map(|(r, t)| (*r, t * part)).collect(),
            weights: whole.weights.map(|w| w * part),
        };
    }
}

fn step(chip: &Chip, op: &ScheduledOp, cold: bool) -> Step {
    let cost = &op.cost;
    let root = chip.root();
    let of = |r: Resource| {
        cost.busy
            .iter()
            .filter(|b| b.0 == r)
            .fold(0.0, |sum, b| sum + b.1.0)
    };
    let busy = of(Resource::Memory(root));
    let (read_bits, write_bits) = ledger::bits(&cost.counts, root);
    let port = |r: f64, w: f64| ledger::port_time(chip, root, r, w).0;
    let shared_port = chip.nodes[root].memory().is_some_and(|m| m.shared_port);
    // The cost's own busy time may hold more than the bytes (bursts, set-up): the parts share it.
    let counted = port(read_bits, write_bits);
    let scale = if counted > 0.0 && busy > 0.0 {
        busy / counted
    } else {
        1.0
    };
    let streamed = op.weights.streamed.min(read_bits);
    let loaded = if cold {
        port(op.weights.loaded, 0.0)
    } else {
        0.0
    };
    let (compute, vector) = match op.execution {
        Execution::Mapped { .. } => (of(Resource::Compute), of(Resource::Vector)),
        _ => (
            of(Resource::Compute)
                .max(of(Resource::Vector))
                .max(of(Resource::Host)),
            0.0,
        ),
    };
    let others: Vec<(Resource, f64)> = cost
        .busy
        .iter()
        .filter(|b| b.0 != Resource::Memory(root))
        .map(|b| (b.0, b.1.0))
        .collect();
    Step {
        latency: cost.latency.0,
        compute,
        vector,
        longest: others.iter().fold(0.0, |t, b| t.max(b.1)),
        others,
        weights: port(streamed, 0.0) * scale + loaded,
        reads: port(read_bits - streamed, 0.0) * scale,
        writes: port(0.0, write_bits) * scale,
        shared_port,
        room: port(op.weights.room, 0.0),
    }
}

struct Runner<'a> {
    prefetch: bool,
    /// Ops ahead whose weights are fetched.
    distance: usize,
    /// First op, end and repetitions of each block.
    blocks: Vec<(usize, usize, u64)>,
    steps: &'a [Step],
    /// Seconds of weights already fetched for the op that is next, the one after it, ...
    ahead: std::collections::VecDeque<f64>,
    times: Vec<OpTime>,
}

impl Runner<'_> {
    fn all(&mut self) {
        for block in 0..self.blocks.len() {
            let (start, end, repeat) = self.blocks[block];
            // The last repetitions see what follows the block.
            let run_out = (AHEAD.div_ceil(end - start) + 1) as u64;
            let mut before = None;
            let mut done = 0;
            while done < repeat {
                let state = self.ahead.clone();
                let left = repeat - done;
                let steady = before.as_ref().is_some_and(|b| same(b, &state)) || done >= UNROLL;
                let times = if steady && left > run_out {
                    left - run_out
                } else {
                    1
                };
                for op in start..end {
                    self.one(block, op, left - 1, times);
                }
                done += times;
                before = Some(state);
            }
        }
    }

    /// Runs an op with so many repetitions of its block to come, and books it `times` times.
    fn one(&mut self, block: usize, op: usize, to_come: u64, times: u64) {
        let s = &self.steps[op];
        let fetched = self.ahead.pop_front().unwrap_or(0.0);
        let left = (s.weights - fetched).max(0.0);
        let root = s.root(left);
        let busy = s.longest.max(root);
        let total = s.latency + busy;
        if self.prefetch {
            self.fetch_ahead(block, op, to_come, total - s.port(left));
        }
        let n = times as f64;
        let t = &mut self.times[op];
        t.total += total * n;
        t.weights[0] += s.weights * n;
        t.weights[1] += (s.weights - left) * n;
        t.latency += s.latency * n;
        t.compute += s.compute * n;
        let vector = (s.vector - s.compute).max(0.0);
        t.vector += vector * n;
        let wait = busy - s.compute.max(s.vector);
        if wait > 0.0 {
            let memories = s.others.iter().filter_map(|(r, b)| match r {
                Resource::Memory(n) | Resource::Network(n) => Some((n.0 as usize, *b)),
                _ => None,
            });
            let worst = memories
                .fold((0, root), |w, m| if m.1 > w.1 { m } else { w })
                .0;
            match t.memory.iter_mut().find(|m| m.0 == worst) {
                Some(m) => m.1 += wait * n,
                None => t.memory.push((worst, wait * n)),
            }
        }
        let root_busy = (Resource::Memory(presil_hwmodels::NodeId(0)), root);
        for (r, b) in s.others.iter().copied().chain([root_busy]) {
            match t.busy.iter_mut().find(|x| x.0 == r) {
                Some(x) => x.1 += b * n,
                None => t.busy.push((r, b * n)),
            }
        }
    }

    /// Spends slack on the weights of the ops after `op`, in order, as room allows.
    fn fetch_ahead(&mut self, block: usize, op: usize, to_come: u64, slack: f64) {
        let held: f64 = self.ahead.iter().sum();
        let mut budget = slack.min(self.steps[op].room - held);
        let mut next = (block, op, to_come);
        for distance in 0..self.distance {
            if budget <= 0.0 {
                return;
            }
            let Some(at) = self.after(next) else { return };
            next = at;
            let s = &self.steps[at.1];
            if self.ahead.len() <= distance {
                self.ahead.push_back(0.0);
            }
            let Some(have) = self.ahead.get_mut(distance) else {
                return;
            };
            let missing = (s.weights - *have).max(0.0);
            let take = missing.min(budget);
            *have += take;
            budget -= take;
            if take < missing {
                return;
            }
        }
    }

    /// The op after one, across repetitions and blocks.
    fn after(&self, (block, op, to_come): (usize, usize, u64)) -> Option<(usize, usize, u64)> {
        let (start, end, _) = self.blocks[block];
        if op + 1 < end {
            return Some((block, op + 1, to_come));
        }
        if to_come > 0 {
            return Some((block, start, to_come - 1));
        }
        let next = self.blocks.get(block + 1)?;
        Some((block + 1, next.0, next.2 - 1))
    }
}

/// Equal states, up to rounding.
fn same(a: &std::collections::VecDeque<f64>, b: &std::collections::VecDeque<f64>) -> bool {
    let n = a.len().max(b.len());
    let at = |v: &std::collections::VecDeque<f64>, i: usize| v.get(i).copied().unwrap_or(0.0);
    (0..n).all(|i| (at(a, i) - at(b, i)).abs() <= 1e-12 * at(a, i).abs().max(at(b, i).abs()))
}
