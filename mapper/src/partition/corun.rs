//! Which independent ops run at once, on how many cores each.
//!
//! The value of a set is what the schedule is for: its time, its energy (dynamic, and the chip's static power over its time), or
//! both relative to the plain schedule's (the first-order change of their product). Where weights are fetched ahead,
//! those that the root memory streams are no part of an op's time here: they hide behind earlier ops, in a set as alone.
//!
//! Bounds and an estimate keep the search small. A set takes at least `max F + sum of MACs / peak rate of all cores`, so it saves at most
//! what its members lose to their latencies and to idle instances: ops that fill the array gain nothing and
//! are not looked at, nor is anything where the root memory is busy all the time. What cannot save
//! `WORTH` of the whole is left alone. Of the rest, sets are searched that save so much if their members use
//! every resource as they do alone, or that might save `AT_ONCE`; then members are first mapped on one core,
//! which bounds them on any number of cores (see `single`). Divisions of the cores are compared by quick searches; the sets that are chosen
//! are then searched in full.

use presil_hwmodels::{Chip, EngineKind, NodeId};
use presil_workloads::{Graph, OpId};
use rustc_hash::FxHashMap;

use super::cores::fair;
use super::sets::{self, Unit};
use super::together::{is_shared, side_by_side, together};
use super::{Arrangement, CoSet, Cores, Member, Partition, used};
use crate::cost::Resource;
use crate::ledger;
use crate::schedule::order::dependences;
use crate::schedule::prepared::{Prepared, Share};
use crate::schedule::price::Parts;
use crate::schedule::residency::Residency;
use crate::schedule::solve::Effort;
use crate::schedule::{Execution, Memo, Schedule, ScheduledOp, array_rate};
use crate::search::Objective;

/// Part of the whole that a set must be able to save to be looked at.
const WORTH: f64 = 0.002;
/// Part of the whole that a set may save at most for it to be looked at although it saves nothing if its members
/// use every resource as they do alone.
const AT_ONCE: f64 = 0.02;
/// Members of a set.
const MEMBERS: usize = 4;
/// Cores up to which every division of them is tried.
const EVERY: u64 = 8;

/// What is made small: seconds and joules with their weights.
#[derive(Debug, Clone, Copy)]
struct Worth {
    time: f64,
    energy: f64,
}

/// The time that an op adds to a phase, and its dynamic energy. Where weights are fetched ahead, without them.
fn figures(chip: &Chip, op: &ScheduledOp) -> (f64, f64) {
    let root = chip.root();
    let others = op
        .cost
        .busy
        .iter()
        .filter(|b| b.0 != Resource::Memory(root))
        .fold(0.0f64, |t, b| t.max(b.1.0));
    let own = root_busy(chip, op, !chip.mapspace.prefetch_weights);
    let time = op.cost.latency.0 + others.max(own);
    (time, op.cost.energy_total().0)
}

/// Busy time of the root memory, with or without the weights that it streams.
fn root_busy(chip: &Chip, op: &ScheduledOp, weights: bool) -> f64 {
    let root = chip.root();
    let (read, written) = ledger::bits(&op.cost.counts, root);
    let busy = op.cost.busy.iter().find(|b| b.0 == Resource::Memory(root));
    let all = ledger::port_time(chip, root, read, written).0;
    let (Some(busy), true) = (busy, all > 0.0) else {
        return 0.0;
    };
    if weights {
        return busy.1.0;
    }
    // What is fetched again is fetched while the op runs.
    let streamed = op.weights.once.min(op.weights.streamed).min(read);
    busy.1.0 * ledger::port_time(chip, root, read - streamed, written).0 / all
}

/// A set as it was found: what it costs and the cores of its members.
type Found = (f64, Vec<u64>);

struct Search<'a> {
    prepared: &'a Prepared<'a>,
    cores: Cores,
    plain: &'a Schedule,
    worth: Worth,
    /// MACs over the peak rate of all cores, by op; zero for ops that may not be in a set.
    work: Vec<f64>,
    able: Vec<bool>,
    /// Ops on shares of the cores.
    on: FxHashMap<(OpId, u64), Option<ScheduledOp>>,
}

/// The schedule with ops that run at once, if some seem to pay.
pub(super) fn co_run(
    prepared: &Prepared,
    cores: Cores,
    plain: &Schedule,
    memo: &Memo,
) -> Option<Schedule> {
    let mut search = Search::new(prepared, cores, plain)?;
    let arrangement = search.arrange(memo)?;
    schedule(prepared, cores, arrangement, memo)
}

/// Members of a set, by number, and the cores of each.
type Divided = (Vec<usize>, Vec<u64>);

impl<'a> Search<'a> {
    /// None where nothing can be gained.
    fn new(prepared: &'a Prepared<'a>, cores: Cores, plain: &'a Schedule) -> Option<Self> {
        let (graph, chip) = (prepared.graph, prepared.chip);
        let repeats = graph.repeats();
        let (mut time, mut energy, mut root) = (0.0, 0.0, 0.0);
        for (op, n) in plain.ops.iter().zip(&repeats) {
            let (t, e) = figures(chip, op);
            time += t * *n as f64;
            energy += e * *n as f64;
            root += root_busy(chip, op, true) * *n as f64;
        }
        if time <= 0.0 || root >= time {
            return None;
        }
        let power: f64 = chip.static_power().iter().map(|p| p.1.0).sum();
        let worth = match prepared.options.objective {
            Objective::Latency => Worth {
                time: 1.0,
                energy: 0.0,
            },
            Objective::Energy => Worth {
                time: power,
                energy: 1.0,
            },
            Objective::Edp => {
                let all = (energy + power * time).max(f64::MIN_POSITIVE);
                Worth {
                    time: 1.0 / time + power / all,
                    energy: 1.0 / all,
                }
            }
        };
        let mut work = vec![0.0; graph.ops.len()];
        let mut able = vec![false; graph.ops.len()];
        for (id, op) in plain.ops.iter_ids() {
            let (Execution::Mapped { mode, .. }, Some(engine)) = (&op.execution, op.engine) else {
                continue;
            };
            let below = match chip.engines[engine].kind {
                EngineKind::Array { compute, .. } => cores.is_private(chip, compute),
                _ => false,
            };
            let rate = array_rate(chip, engine, *mode).filter(|r| *r > 0.0);
            if let (true, Some(rate)) = (below, rate) {
                able[id.0 as usize] = true;
                work[id.0 as usize] = op.cost.executed_macs as f64 / rate;
            }
        }
        Some(Self {
            prepared,
            cores,
            plain,
            worth,
            work,
            able,
            on: FxHashMap::default(),
        })
    }

    fn value(&self, op: &ScheduledOp) -> f64 {
        let (time, energy) = figures(self.prepared.chip, op);
        self.worth.time * time + self.worth.energy * energy
    }

    /// Least time of an op on so many cores.
    fn least(&self, op: OpId, cores: f64) -> f64 {
        let fixed = side_by_side(self.prepared.chip, &self.plain.ops[op]).0;
        fixed + self.work[op.0 as usize] * self.cores.count as f64 / cores
    }

    /// What a set can save at most, in units of what is made small.
    fn most(&self, ops: &[OpId]) -> f64 {
        let chip = self.prepared.chip;
        let alone: f64 = ops
            .iter()
            .map(|o| figures(chip, &self.plain.ops[*o]).0)
            .sum();
        let work: f64 = ops.iter().map(|o| self.work[o.0 as usize]).sum();
        let lanes: f64 = ops
            .iter()
            .flat_map(|o| &self.plain.ops[*o].cost.busy)
            .filter(|b| b.0 == Resource::Vector)
            .map(|b| b.1.0)
            .sum();
        let fixed = ops.iter().fold(0.0f64, |f, o| {
            f.max(side_by_side(chip, &self.plain.ops[*o]).0)
        });
        self.worth.time * (alone - fixed - work.max(lanes))
    }

    /// What a set would save if its members used every resource as they do alone: launches side by side, cores that
    /// a mapping leaves idle, and memories of one beside the arrays of another. Needs no search.
    fn as_alone(&self, ops: &[OpId]) -> f64 {
        let chip = self.prepared.chip;
        let (mut side, mut queued, mut alone) = (0.0f64, 0.0, 0.0);
        let mut shared: Vec<(Resource, f64)> = Vec::new();
        for id in ops {
            let op = &self.plain.ops[*id];
            let fixed = side_by_side(chip, op).0;
            side = side.max(fixed);
            queued += op.cost.latency.0 - fixed;
            alone += figures(chip, op).0;
            for (r, busy) in &op.cost.busy {
                let busy = match r {
                    Resource::Memory(m) if *m == chip.root() => {
                        root_busy(chip, op, !chip.mapspace.prefetch_weights)
                    }
                    r if is_shared(chip, self.cores, *r) => busy.0,
                    _ => busy.0 * self.part_used(*id),
                };
                match shared.iter_mut().find(|s| s.0 == *r) {
                    Some(s) => s.1 += busy,
                    None => shared.push((*r, busy)),
                }
            }
        }
        let longest = shared.iter().fold(0.0f64, |t, s| t.max(s.1));
        self.worth.time * (alone - side - queued - longest)
    }

    /// Part of the cores that an op's mapping uses.
    fn part_used(&self, id: OpId) -> f64 {
        let einsum = self.prepared.graph.ops[id].contraction();
        let (Execution::Mapped { mapping, .. }, Some(e)) = (&self.plain.ops[id].execution, einsum)
        else {
            return 1.0;
        };
        let sizes: Vec<u64> = e.dims.iter().map(|d| d.size).collect();
        let all = self.cores.count * self.cores.instances;
        (used(self.cores, mapping, &sizes) as f64 / all as f64).min(1.0)
    }

    /// Sets of every block and the order that they need; none if there are none.
    fn arrange(&mut self, memo: &Memo) -> Option<Arrangement> {
        let (graph, planned) = (self.prepared.graph, &self.prepared.planned);
        let whole: f64 = graph
            .ops
            .ids()
            .zip(graph.repeats())
            .map(|(id, n)| self.value(&self.plain.ops[id]) * n as f64)
            .sum();
        let before = dependences(graph, &self.prepared.base, &planned.tails);
        let mut all = Arrangement::default();
        for block in &graph.blocks {
            let nodes: Vec<OpId> = planned
                .order
                .iter()
                .copied()
                .filter(|o| block.ops.contains(&o.0) && planned.tails.into[o.0 as usize].is_none())
                .collect();
            let worth = WORTH * whole / block.repeat.max(1) as f64;
            let (units, sets) = self.block(&nodes, &before, worth, memo);
            let mut sequence = sets::order(
                &units,
                &sets.iter().map(|s| s.0.clone()).collect::<Vec<_>>(),
            )?;
            for group in &mut sequence {
                for unit in group.iter() {
                    let op = nodes[*unit];
                    all.order.push(op);
                    all.order.extend(&planned.tails.tail[op.0 as usize]);
                }
                if let Some((_, cores)) = sets.iter().find(|s| s.0 == *group) {
                    let members = group.iter().zip(cores).map(|(u, k)| Member {
                        op: nodes[*u],
                        cores: *k,
                    });
                    all.sets.push(CoSet {
                        members: members.collect(),
                    });
                }
            }
        }
        (!all.sets.is_empty() && all.order.len() == graph.ops.len()).then_some(all)
    }

    /// The units of a block, and its sets with the cores of their members.
    fn block(
        &mut self,
        nodes: &[OpId],
        before: &[Vec<usize>],
        worth: f64,
        memo: &Memo,
    ) -> (Vec<Unit>, Vec<Divided>) {
        let mut place = vec![usize::MAX; before.len()];
        for (i, op) in nodes.iter().enumerate() {
            place[op.0 as usize] = i;
        }
        let mut units: Vec<Unit> = nodes
            .iter()
            .map(|op| Unit {
                before: before[op.0 as usize]
                    .iter()
                    .map(|b| place[*b])
                    .filter(|b| *b != usize::MAX)
                    .collect(),
                alone: self.value(&self.plain.ops[*op]),
                able: false,
            })
            .collect();
        let first = |s: &Self, ops: &[OpId]| {
            s.most(ops) >= worth * AT_ONCE / WORTH || s.as_alone(ops) >= worth
        };
        let mut pairs = self.pairs(nodes, &units, first);
        if !pairs.is_empty() {
            self.single(nodes, &pairs, memo);
            pairs.retain(|(a, b)| self.most(&[nodes[*a], nodes[*b]]) >= worth);
        }
        if pairs.is_empty() {
            return (units, Vec::new());
        }
        for (a, b) in &pairs {
            units[*a].able = true;
            units[*b].able = true;
        }
        self.solve(nodes, &pairs, memo);
        let most = MEMBERS.min(usize::try_from(self.cores.count).unwrap_or(MEMBERS));
        let mut tried: FxHashMap<Vec<usize>, Option<Found>> = FxHashMap::default();
        let cost = |set: &[usize]| {
            if let Some(known) = tried.get(set) {
                return known.as_ref().map_or(f64::INFINITY, |f| f.0);
            }
            let ops: Vec<OpId> = set.iter().map(|u| nodes[*u]).collect();
            let alone: f64 = ops.iter().map(|o| self.value(&self.plain.ops[*o])).sum();
            let found = (self.most(&ops) >= worth)
                .then(|| self.divide(&ops, memo))
                .flatten()
                .filter(|f| f.0 <= alone - worth);
            let value = found.as_ref().map_or(f64::INFINITY, |f| f.0);
            tried.insert(set.to_vec(), found);
            value
        };
        let chosen = sets::choose(&units, most, cost).unwrap_or_default();
        let sets = chosen
            .into_iter()
            .filter_map(|s| {
                let cores = tried.get(&s)?.as_ref()?.1.clone();
                Some((s, cores))
            })
            .collect();
        (units, sets)
    }

    /// Pairs of independent units that may pay.
    fn pairs(
        &self,
        nodes: &[OpId],
        units: &[Unit],
        pays: impl Fn(&Self, &[OpId]) -> bool,
    ) -> Vec<(usize, usize)> {
        let words = nodes.len().div_ceil(64);
        let mut waits: Vec<Vec<u64>> = vec![vec![0; words]; nodes.len()];
        for (i, unit) in units.iter().enumerate() {
            for b in &unit.before {
                let mut all = waits[*b].clone();
                all[b / 64] |= 1 << (b % 64);
                waits[i].iter_mut().zip(all).for_each(|(w, x)| *w |= x);
            }
        }
        let able: Vec<usize> = (0..nodes.len())
            .filter(|i| self.able[nodes[*i].0 as usize])
            .collect();
        let mut pairs = Vec::new();
        for (n, &a) in able.iter().enumerate() {
            for &b in &able[n + 1..] {
                let apart =
                    waits[b][a / 64] >> (a % 64) & 1 == 0 && waits[a][b / 64] >> (b % 64) & 1 == 0;
                if apart && pays(self, &[nodes[a], nodes[b]]) {
                    pairs.push((a, b));
                }
            }
        }
        pairs
    }

    /// Prices units on one core each, which bounds them on any share: what `k` cores do in a time, one does in `k` times
    /// that time. Idle instances within a core are then no longer taken for room.
    fn single(&mut self, nodes: &[OpId], pairs: &[(usize, usize)], memo: &Memo) {
        let mut ops: Vec<OpId> = pairs
            .iter()
            .flat_map(|(a, b)| [nodes[*a], nodes[*b]])
            .collect();
        ops.sort_unstable();
        ops.dedup();
        ops.retain(|op| !self.on.contains_key(&(*op, 1)));
        self.price(1, ops.clone(), memo);
        for op in ops {
            if let Some(Some(alone)) = self.on.get(&(op, 1)) {
                let compute = alone.cost.busy.iter().find(|b| b.0 == Resource::Compute);
                let busy = compute.map_or(0.0, |b| b.1.0) / self.cores.count as f64;
                let work = &mut self.work[op.0 as usize];
                *work = work.max(busy);
            }
        }
    }

    /// Prices units on the shares on which they may pay.
    fn solve(&mut self, nodes: &[OpId], pairs: &[(usize, usize)], memo: &Memo) {
        let chip = self.prepared.chip;
        let time = |u: usize| figures(chip, &self.plain.ops[nodes[u]]).0;
        let mut wanted: Vec<(u64, OpId)> = Vec::new();
        let mut shares: Vec<Vec<u64>> = vec![Vec::new(); nodes.len()];
        for &(a, b) in pairs {
            for (me, other) in [(a, b), (b, a)] {
                for k in self
                    .divisions(&[nodes[me], nodes[other]])
                    .into_iter()
                    .map(|d| d[0])
                {
                    // As much time as the pair alone, and as many more as a set may have.
                    let limit = time(me) + time(other) * (MEMBERS - 1) as f64;
                    let slow = self.least(nodes[me], k as f64) >= limit;
                    if !slow && !shares[me].contains(&k) {
                        shares[me].push(k);
                        wanted.push((k, nodes[me]));
                    }
                }
            }
        }
        wanted.retain(|(k, op)| !self.on.contains_key(&(*op, *k)));
        wanted.sort_unstable();
        for group in wanted.chunk_by(|a, b| a.0 == b.0) {
            let cores = group[0].0;
            let ops: Vec<OpId> = group.iter().map(|g| g.1).collect();
            self.price(cores, ops, memo);
        }
    }

    fn price(&mut self, cores: u64, ops: Vec<OpId>, memo: &Memo) {
        let (prepared, all) = (self.prepared, self.cores);
        let chips = [
            all.share(prepared.chip, cores),
            fair(all, prepared.chip, cores),
        ];
        let memo = memo.share(cores);
        let share = Share {
            chip: &chips[0],
            fair: &chips[1],
            residency: part(prepared, all, cores, &prepared.planned.residency),
            ops,
            memo: &memo,
            effort: Effort::Quick,
        };
        let priced = prepared.on_share(&prepared.planned, &share);
        for (op, priced) in share.ops.iter().zip(priced) {
            self.on.insert((*op, cores), priced);
        }
    }

    /// Divisions of the cores over some ops that are tried: all of them where there are few cores; else those
    /// in proportion to the ops' times, to their work, and even ones.
    fn divisions(&self, ops: &[OpId]) -> Vec<Vec<u64>> {
        let all = self.cores.count;
        let n = ops.len() as u64;
        if n > all {
            return Vec::new();
        }
        if all <= EVERY {
            let mut list: Vec<Vec<u64>> = vec![Vec::new()];
            for i in 0..n {
                let mut next = Vec::new();
                for d in &list {
                    let left = all - d.iter().sum::<u64>() - (n - 1 - i);
                    next.extend((1..=left).map(|k| d.iter().copied().chain([k]).collect()));
                }
                list = next;
            }
            return list;
        }
        let time = |o: &OpId| figures(self.prepared.chip, &self.plain.ops[*o]).0;
        let weights: [Vec<f64>; 3] = [
            ops.iter().map(time).collect(),
            ops.iter().map(|o| self.work[o.0 as usize]).collect(),
            vec![1.0; ops.len()],
        ];
        let mut list: Vec<Vec<u64>> = Vec::new();
        for w in weights {
            let d = proportional(&w, all);
            if !list.contains(&d) {
                list.push(d);
            }
        }
        list
    }

    /// The best division of the cores over some ops, and what the set then costs.
    fn divide(&mut self, ops: &[OpId], memo: &Memo) -> Option<Found> {
        let mut best: Option<Found> = None;
        for cores in self.divisions(ops) {
            // Where few divisions are tried, each is priced when it is.
            for (op, k) in ops.iter().zip(&cores) {
                if self.cores.count > EVERY && !self.on.contains_key(&(*op, *k)) {
                    self.price(*k, vec![*op], memo);
                }
            }
            let members: Option<Vec<&ScheduledOp>> = ops
                .iter()
                .zip(&cores)
                .map(|(o, k)| self.on.get(&(*o, *k))?.as_ref())
                .collect();
            let Some(op) = members.and_then(|m| together(self.prepared.chip, self.cores, &m))
            else {
                continue;
            };
            let value = self.value(&op);
            if best.as_ref().is_none_or(|b| value < b.0) {
                best = Some((value, cores));
            }
        }
        best
    }
}

/// Whole parts of `all` in proportion to weights, at least one each; what rounding leaves goes to the first largest.
fn proportional(weights: &[f64], all: u64) -> Vec<u64> {
    let sum: f64 = weights.iter().sum();
    let free = all - weights.len() as u64;
    let part = |w: &f64| {
        let share = if sum > 0.0 {
            w / sum
        } else {
            1.0 / weights.len() as f64
        };
        1 + (share * free as f64) as u64
    };
    let mut parts: Vec<u64> = weights.iter().map(part).collect();
    let left = all.saturating_sub(parts.iter().sum());
    let largest = weights
        .iter()
        .enumerate()
        .fold(0, |best, (i, w)| if *w > weights[best] { i } else { best });
    if let Some(p) = parts.get_mut(largest) {
        *p += left;
    }
    parts
}

/// The residency on so many of the cores.
fn part(prepared: &Prepared, all: Cores, cores: u64, whole: &Residency) -> Residency {
    let chip = prepared.chip;
    let shared = |n: NodeId| !all.is_private(chip, n);
    let positions = prepared.graph.ops.len();
    whole.part(chip, (cores, all.count), positions, shared)
}

/// The schedule of an arrangement; none if a member has no mapping on its share.
fn schedule(
    prepared: &Prepared,
    cores: Cores,
    arrangement: Arrangement,
    memo: &Memo,
) -> Option<Schedule> {
    let Arrangement { order, sets } = arrangement;
    let at_once: Vec<Vec<OpId>> = sets
        .iter()
        .map(|s| s.members.iter().map(|m| m.op).collect())
        .collect();
    let planned = prepared.replanned(order, &at_once);
    let mut members: Vec<Member> = sets
        .iter()
        .flat_map(|s| s.members.iter().copied())
        .collect();
    members.sort_unstable_by_key(|m| (m.cores, m.op));
    let groups: Vec<&[Member]> = members.chunk_by(|a, b| a.cores == b.cores).collect();
    let chips: Vec<[Chip; 2]> = groups
        .iter()
        .map(|g| {
            let chip = prepared.chip;
            [cores.share(chip, g[0].cores), fair(cores, chip, g[0].cores)]
        })
        .collect();
    let memos: Vec<_> = groups.iter().map(|g| memo.share(g[0].cores)).collect();
    let shares: Vec<Share> = groups
        .iter()
        .zip(chips.iter().zip(&memos))
        .map(|(g, (chips, memo))| Share {
            chip: &chips[0],
            fair: &chips[1],
            residency: part(prepared, cores, g[0].cores, &planned.residency),
            ops: g.iter().map(|m| m.op).collect(),
            memo,
            effort: Effort::Full,
        })
        .collect();
    let (mut schedule, complete) = {
        let parts = Parts {
            shares: &shares,
            groups: &[],
        };
        prepared.price(&planned, &planned.residency, parts, memo)
    };
    if !complete {
        return None;
    }
    schedule
        .assumptions
        .push(assumption(prepared.graph, prepared.chip, cores, &sets));
    schedule.partition = Partition {
        cores: Some(cores),
        sets,
        pipeline: None,
    };
    Some(schedule)
}

fn assumption(graph: &Graph, chip: &Chip, cores: Cores, sets: &[CoSet]) -> String {
    let ops: usize = sets.iter().map(|s| s.members.len()).sum();
    let first = sets.first().map_or_else(String::new, |s| {
        let names: Vec<&str> = s
            .members
            .iter()
            .map(|m| graph.ops[m.op].name.as_str())
            .collect();
        names.join(", ")
    });
    format!(
        "{ops} independent ops run at once in {} sets, each on {} of its own (the first: {first}): shared memories \
         and vector units serve them in turn, first and last tiles queue",
        sets.len(),
        cores.name(chip),
    )
}
