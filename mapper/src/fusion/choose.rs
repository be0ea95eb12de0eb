//! Which groups to fuse, over a whole network.
//!
//! Each run of consecutive ops has at most one best way for latency and energy, and a few that are best for some product of
//! both: its Pareto points. From the first op to the last, a point is the least of sums: of the ops so far, each alone
//! or in one group. Points that are no better in time and energy than another are dropped, which loses nothing as
//! both only ever add up. At the end the objective picks one; of those within half a percent of it, the one with the least of the
//! other figure, as everywhere (a group that is as fast as two smaller ones moves less).

use presil_workloads::{Graph, OpId, OpKind, TensorId};

use super::axes::Group;
use super::bound::Floor;
use super::plan::{Tiling, Way};
use super::price::{Priced, Pricing};
use super::seen::Seen;
use super::{FusedGroup, SharedLoop, UNITS};
use crate::schedule::ScheduledOp;
use crate::schedule::engines::Choice;
use crate::search::Objective;
use presil_numerics::{Bytes, IdVec};

/// Share of the whole that a group must be able to save.
const LEAST: f64 = 1e-3;
/// Share of the objective that is given up for the other figure, as in the search of mappings.
pub(super) const GIVE: f64 = 0.005;
/// Points kept at a position.
const POINTS: usize = 128;

/// A group with the best way found to run it.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) group: Group,
    pub(crate) tiling: Tiling,
    pub(crate) way: Way,
    pub(crate) priced: Priced,
}

impl Chosen {
    /// The same with masks as they are.
    pub(crate) fn exact(self, pricing: &Pricing) -> Option<Self> {
        let accumulate = pricing.options.accumulate;
        let tiling = Tiling::new(
            pricing.scene,
            &self.group,
            &self.tiling.cut,
            accumulate,
            false,
        )?;
        Some(Self { tiling, ..self })
    }

    /// What a schedule tells of it.
    pub(crate) fn told(&self, pricing: &Pricing) -> FusedGroup {
        let shared = |l: &super::plan::Shared| SharedLoop {
            dim: self.group.axes[l.axis].name.clone(),
            trips: l.trips,
            tile: l.tile,
        };
        let live = self.tiling.live(pricing.scene, &self.group, &self.way);
        let held = |t: &TensorId| self.way.held.contains(t);
        let (kept, passing): (Vec<_>, Vec<_>) = live
            .iter()
            .map(|l| (l.0, Bytes(l.1)))
            .partition(|l| held(&l.0));
        FusedGroup {
            ops: self.group.ops.clone(),
            memory: self.way.memory,
            loops: self.way.loops.iter().map(shared).collect(),
            iterations: self.tiling.iterations,
            held: kept,
            tiles: passing,
            rewrite: self.tiling.online.then_some("online softmax"),
            halo: self.tiling.halo(&self.group),
        }
    }
}

/// Time and energy, static energy included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Price {
    pub(super) time: f64,
    pub(super) energy: f64,
}

impl Price {
    pub(super) fn of(self, objective: Objective) -> f64 {
        match objective {
            Objective::Latency => self.time,
            Objective::Energy => self.energy,
            Objective::Edp => self.time * self.energy,
        }
    }

    /// The figure that near ties of the objective go by.
    pub(super) fn other(self, objective: Objective) -> f64 {
        match objective {
            Objective::Energy => self.time,
            _ => self.energy,
        }
    }
}

/// The groups of a network: none if no group is better than its ops alone. `alone`: the ops priced one by one; `apart`: those
/// that have to run by themselves.
pub(crate) fn choose(
    pricing: &Pricing,
    order: &[OpId],
    alone: &IdVec<OpId, ScheduledOp>,
    apart: impl Fn(&OpId) -> bool,
) -> Vec<Chosen> {
    let graph = pricing.scene.graph;
    let runs = runs(pricing, order, apart);
    let chooser = Chooser::new(pricing, alone, &runs);
    let repeats = graph.repeats();
    let mut chosen: Vec<Chosen> = Vec::new();
    let mut points = vec![Point {
        price: Price {
            time: 0.0,
            energy: 0.0,
        },
        groups: Vec::new(),
    }];
    for run in runs {
        let n = run.len();
        let repeat = repeats[run[0].0 as usize] as f64;
        let mut spans: Vec<(usize, usize, usize)> = Vec::new();
        for (from, to) in (2..=n.min(UNITS)).flat_map(|l| (0..=n - l).map(move |i| (i, i + l))) {
            let than = chooser.least(&run, from, to, &spans, &chosen);
            for found in chooser.group(&run[from..to], than, repeat) {
                spans.push((from, to, chosen.len()));
                chosen.push(found);
            }
        }
        let mut at: Vec<Vec<Point>> = vec![Vec::new(); n + 1];
        at[0] = points;
        for i in 0..n {
            let here = pareto(std::mem::take(&mut at[i]));
            let single = (i, i + 1, chooser.alone(&run[i..=i]), None);
            let grouped = spans
                .iter()
                .map(|(from, to, c)| (*from, *to, chooser.price_of(&chosen[*c]), Some(*c)));
            for (_, to, price, group) in grouped.chain([single]).filter(|x| x.0 == i) {
                at[to].extend(here.iter().map(|p| p.plus(price, repeat, group)));
            }
        }
        points = pareto(std::mem::take(&mut at[n]));
    }
    // What runs outside of all runs is in every sum.
    let rest = chooser.rest;
    let objective = pricing.options.objective;
    let score = |p: &Point| {
        let all = Price {
            time: p.price.time + rest.time,
            energy: p.price.energy + rest.energy,
        };
        (all.of(objective), all.other(objective))
    };
    let least = points
        .iter()
        .map(|p| score(p).0)
        .fold(f64::INFINITY, f64::min);
    let near = points
        .into_iter()
        .filter(|p| score(p).0 <= least * (1.0 + GIVE));
    let best = near.min_by(|a, b| {
        let (a, b) = (score(a), score(b));
        a.1.total_cmp(&b.1).then(a.0.total_cmp(&b.0))
    });
    let wanted = best.map_or(Vec::new(), |b| b.groups);
    let all = chosen.into_iter().enumerate();
    all.filter(|(i, _)| wanted.contains(i))
        .map(|(_, c)| c)
        .collect()
}

/// Sums so far, and the groups that are in them.
#[derive(Debug, Clone)]
struct Point {
    price: Price,
    groups: Vec<usize>,
}

impl Point {
    fn plus(&self, price: Price, repeat: f64, group: Option<usize>) -> Self {
        Self {
            price: Price {
                time: self.price.time + price.time * repeat,
                energy: self.price.energy + price.energy * repeat,
            },
            groups: self.groups.iter().copied().chain(group).collect(),
        }
    }
}

/// The points that no other beats in both.
fn pareto(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_by(|a, b| {
        let (a, b) = (a.price, b.price);
        a.time
            .total_cmp(&b.time)
            .then(a.energy.total_cmp(&b.energy))
    });
    let mut kept: Vec<Point> = Vec::new();
    for p in points {
        if kept.last().is_none_or(|k| p.price.energy < k.price.energy) {
            kept.push(p);
        }
    }
    if kept.len() > POINTS {
        // The ends and an even choice between.
        let n = kept.len();
        let wanted: Vec<usize> = (0..POINTS).map(|i| i * (n - 1) / (POINTS - 1)).collect();
        kept = kept
            .into_iter()
            .enumerate()
            .filter(|(i, _)| wanted.contains(i))
            .map(|(_, p)| p)
            .collect();
    }
    kept
}

/// Runs of ops of one block that might be fused, in order.
fn runs(pricing: &Pricing, order: &[OpId], apart: impl Fn(&OpId) -> bool) -> Vec<Vec<OpId>> {
    let graph = pricing.scene.graph;
    let mut list: Vec<Vec<OpId>> = Vec::new();
    let mut block = None;
    let mut open = false;
    for id in order {
        let at = id.0 as usize;
        let op = &graph.ops[*id];
        if op.kind == OpKind::View || pricing.scene.tails.into[at].is_some() {
            continue;
        }
        let here = block_of(graph, *id);
        let able = matches!(
            pricing.scene.choices[at],
            Choice::Array(_) | Choice::Vector(_)
        ) && op.steps == 1
            && matches!(op.kind, OpKind::Cascade(_))
            && !apart(id);
        match list.last_mut() {
            _ if !able => open = false,
            Some(run) if open && block == here => run.push(*id),
            _ => {
                list.push(vec![*id]);
                open = true;
            }
        }
        block = here;
    }
    list.retain(|r| r.len() > 1);
    list
}

fn block_of(graph: &Graph, op: OpId) -> Option<usize> {
    graph.blocks.iter().position(|b| b.ops.contains(&op.0))
}

pub(super) struct Chooser<'a> {
    pub(super) pricing: &'a Pricing<'a>,
    pub(super) alone: &'a IdVec<OpId, ScheduledOp>,
    pub(super) static_power: f64,
    /// All ops, each alone.
    pub(super) total: Price,
    /// Those that are in no run.
    pub(super) rest: Price,
    pub(super) seen: Seen,
}

impl<'a> Chooser<'a> {
    fn new(
        pricing: &'a Pricing<'a>,
        alone: &'a IdVec<OpId, ScheduledOp>,
        runs: &[Vec<OpId>],
    ) -> Self {
        let power = pricing.scene.chip.static_power();
        let mut chooser = Self {
            pricing,
            alone,
            static_power: power.iter().map(|p| p.1.0).sum(),
            total: Price {
                time: 0.0,
                energy: 0.0,
            },
            rest: Price {
                time: 0.0,
                energy: 0.0,
            },
            seen: Seen::default(),
        };
        for (id, repeat) in alone.ids().zip(pricing.scene.graph.repeats()) {
            let p = chooser.alone(&[id]);
            chooser.total.time += p.time * repeat as f64;
            chooser.total.energy += p.energy * repeat as f64;
            if !runs.iter().any(|r| r.contains(&id)) {
                chooser.rest.time += p.time * repeat as f64;
                chooser.rest.energy += p.energy * repeat as f64;
            }
        }
        chooser
    }

    pub(super) fn price(&self, time: f64, dynamic: f64) -> Price {
        Price {
            time,
            energy: dynamic + self.static_power * time,
        }
    }

    pub(super) fn price_of(&self, c: &Chosen) -> Price {
        self.price(c.priced.time, c.priced.energy)
    }

    /// The least of some ops of a run with the groups found so far; for EDP, where a sum has no order, of each alone.
    fn least(
        &self,
        run: &[OpId],
        from: usize,
        to: usize,
        spans: &[(usize, usize, usize)],
        chosen: &[Chosen],
    ) -> Price {
        let objective = self.pricing.options.objective;
        if objective == Objective::Edp {
            return self.alone(&run[from..to]);
        }
        let mut best: Vec<Price> = vec![Price {
            time: 0.0,
            energy: 0.0,
        }];
        for end in from + 1..=to {
            let single = (end - 1, self.alone(&run[end - 1..end]));
            let groups = spans.iter().filter(|s| s.1 == end && s.0 >= from);
            let all = groups
                .map(|s| (s.0, self.price_of(&chosen[s.2])))
                .chain([single]);
            let sums = all.map(|(start, p)| {
                let before = best[start - from];
                Price {
                    time: before.time + p.time,
                    energy: before.energy + p.energy,
                }
            });
            let least = sums.min_by(|a, b| a.of(objective).total_cmp(&b.of(objective)));
            best.push(least.unwrap_or(Price {
                time: f64::INFINITY,
                energy: f64::INFINITY,
            }));
        }
        best[to - from]
    }

    pub(super) fn alone(&self, ops: &[OpId]) -> Price {
        let cost = |id: &OpId| &self.alone[*id].cost;
        let time: f64 = ops.iter().map(|id| cost(id).time.0).sum();
        let dynamic: f64 = ops.iter().map(|id| cost(id).energy_total().0).sum();
        self.price(time, dynamic)
    }

    /// Whether something within `saved` of a price is worth having.
    pub(super) fn worth(&self, than: Price, floor: Floor, repeat: f64) -> bool {
        let objective = self.pricing.options.objective;
        let gain = |a: f64, b: f64, all: f64| (a - b) * repeat > LEAST * all;
        let time = gain(than.time, floor.time, self.total.time);
        let energy = gain(than.energy, floor.energy, self.total.energy);
        match objective {
            Objective::Latency => time,
            Objective::Energy => energy,
            Objective::Edp => time || energy,
        }
    }
}
