//! Which groups to fuse, over a whole network.
//!
//! Each run of consecutive ops has at most one best way for latency and energy, and a few that are best for some product of
//! both: its Pareto points. From the first op to the last, a point is the least of sums: of the ops so far, each alone
//! or in one group. Points that are no better in time and energy than another are dropped, which loses nothing as
//! both only ever add up. At the end the objective picks one.

use presil_workloads::{Graph, OpId, OpKind};

use super::axes::{Group, Kind};
use super::plan::{Floor, Tiling, Way, base, memories, tile_sizes};
use super::price::{Priced, Pricing};
use super::{EXACT, FusedGroup, SharedLoop, TILINGS, UNITS};
use crate::schedule::ScheduledOp;
use crate::schedule::engines::Choice;
use crate::search::Objective;
use presil_numerics::{Bytes, IdVec};

/// Share of the whole that a group must be able to save.
const LEAST: f64 = 1e-3;
/// Points kept at a position.
const POINTS: usize = 128;

/// A group with the best way found to run it.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) group: Group,
    pub(crate) tiling: Tiling,
    pub(crate) way: Way,
    pub(crate) priced: Priced,
    pub(crate) proven: bool,
}

impl Chosen {
    /// What a schedule tells of it.
    pub(crate) fn told(&self, pricing: &Pricing) -> FusedGroup {
        let shared = |l: &super::plan::Shared| SharedLoop {
            dim: self.group.axes[l.axis].name.clone(),
            trips: l.trips,
            tile: l.tile,
        };
        let live = self.tiling.live(pricing.scene, &self.group, &self.way);
        let held = |t: &presil_workloads::TensorId| self.way.held.contains(t);
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
            proven: self.proven,
        }
    }
}

/// Time and energy, static energy included.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Price {
    time: f64,
    energy: f64,
}

impl Price {
    fn of(self, objective: Objective) -> f64 {
        match objective {
            Objective::Latency => self.time,
            Objective::Energy => self.energy,
            Objective::Edp => self.time * self.energy,
        }
    }
}

/// The groups of a network: none if no group is better than its ops alone. `alone`: the ops priced one by one.
pub(crate) fn choose(
    pricing: &Pricing,
    order: &[OpId],
    alone: &IdVec<OpId, ScheduledOp>,
) -> Vec<Chosen> {
    let graph = pricing.scene.graph;
    let runs = runs(pricing, order);
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
        let mut at: Vec<Vec<Point>> = vec![Vec::new(); n + 1];
        at[0] = points;
        for i in 0..n {
            let single = chooser.alone(&run[i..=i]);
            let mut next: Vec<(usize, Price, Option<usize>)> = vec![(i + 1, single, None)];
            for j in (i + 2)..=n.min(i + UNITS) {
                for found in chooser.group(&run[i..j], repeat) {
                    let price = chooser.price(found.priced.time, found.priced.energy);
                    next.push((j, price, Some(chosen.len())));
                    chosen.push(found);
                }
            }
            let here = pareto(std::mem::take(&mut at[i]));
            for (to, price, group) in next {
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
        (all.of(objective), all.time, all.energy)
    };
    let best = points.into_iter().min_by(|a, b| {
        let (a, b) = (score(a), score(b));
        a.0.total_cmp(&b.0)
            .then(a.1.total_cmp(&b.1))
            .then(a.2.total_cmp(&b.2))
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
fn runs(pricing: &Pricing, order: &[OpId]) -> Vec<Vec<OpId>> {
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
            && matches!(op.kind, OpKind::Cascade(_));
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

struct Chooser<'a> {
    pricing: &'a Pricing<'a>,
    alone: &'a IdVec<OpId, ScheduledOp>,
    static_power: f64,
    /// All ops, each alone.
    total: Price,
    /// Those that are in no run.
    rest: Price,
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

    fn price(&self, time: f64, dynamic: f64) -> Price {
        Price {
            time,
            energy: dynamic + self.static_power * time,
        }
    }

    fn alone(&self, ops: &[OpId]) -> Price {
        let cost = |id: &OpId| &self.alone[*id].cost;
        let time: f64 = ops.iter().map(|id| cost(id).time.0).sum();
        let dynamic: f64 = ops.iter().map(|id| cost(id).energy_total().0).sum();
        self.price(time, dynamic)
    }

    /// Whether something within `saved` of a price is worth having.
    fn worth(&self, than: Price, floor: Floor, repeat: f64) -> bool {
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

    /// The best ways to run some ops as a group, if any is better than each alone.
    fn group(&self, roots: &[OpId], repeat: f64) -> Vec<Chosen> {
        let scene = self.pricing.scene;
        let than = self.alone(roots);
        if !self.promising(roots) {
            return Vec::new();
        }
        let Some(group) = Group::of(scene, roots) else {
            return Vec::new();
        };
        if !connected(self.pricing, &group, roots) {
            return Vec::new();
        }
        let mut ways: Vec<(Floor, usize, Way)> = Vec::new();
        let mut tilings: Vec<Tiling> = Vec::new();
        for memory in memories(scene, &group) {
            for tiles in self.tiles(&group, memory) {
                let Some(tiling) =
                    Tiling::new(scene, &group, &tiles, self.pricing.options.accumulate)
                else {
                    continue;
                };
                if self.ways(
                    &group,
                    &tiling,
                    memory,
                    than,
                    repeat,
                    tilings.len(),
                    &mut ways,
                ) {
                    tilings.push(tiling);
                }
            }
        }
        let objective = self.pricing.options.objective;
        let of = |f: &Floor| {
            Price {
                time: f.time,
                energy: f.energy,
            }
            .of(objective)
        };
        ways.sort_by(|a, b| {
            of(&a.0)
                .total_cmp(&of(&b.0))
                .then(a.0.energy.total_cmp(&b.0.energy))
        });
        let mut best: Vec<Chosen> = Vec::new();
        let mut tried = 0;
        for (floor, t, way) in ways {
            let beaten = |p: Price| match objective {
                Objective::Edp => p.time <= floor.time && p.energy <= floor.energy,
                _ => p.of(objective) <= of(&floor),
            };
            let known = best
                .iter()
                .map(|c| self.price(c.priced.time, c.priced.energy));
            if known.clone().any(beaten) {
                continue;
            }
            // Nothing within a thousandth of the whole is looked for.
            if known.clone().any(|p| !self.worth(p, floor, repeat)) {
                continue;
            }
            if tried == EXACT {
                best.iter_mut().for_each(|c| c.proven = false);
                break;
            }
            tried += 1;
            let Some(priced) = self.pricing.price(&group, &tilings[t], &way) else {
                continue;
            };
            let price = self.price(priced.time, priced.energy);
            let better = match objective {
                Objective::Edp => price.time < than.time || price.energy < than.energy,
                _ => price.of(objective) < than.of(objective),
            };
            let dominated = best
                .iter()
                .map(|c| self.price(c.priced.time, c.priced.energy))
                .any(|p| match objective {
                    Objective::Edp => p.time <= price.time && p.energy <= price.energy,
                    _ => p.of(objective) <= price.of(objective),
                });
            if better && !dominated {
                if objective != Objective::Edp {
                    best.clear();
                }
                best.push(Chosen {
                    group: group.clone(),
                    tiling: tilings[t].clone(),
                    way,
                    priced,
                    proven: true,
                });
            }
        }
        best
    }

    /// Whether some tensor between the ops passes through the root memory, or launches can be saved.
    fn promising(&self, roots: &[OpId]) -> bool {
        let Pricing {
            scene, residency, ..
        } = self.pricing;
        let chip = scene.chip;
        let spilled = |id: &OpId| {
            scene
                .output_of(*id)
                .is_some_and(|t| residency.home[scene.stored(t)] == chip.root())
        };
        chip.mapspace.launch_groups_once || roots[..roots.len() - 1].iter().any(spilled)
    }

    /// Tile sizes that may fit a memory, those of fewest iterations first.
    fn tiles(&self, group: &Group, memory: presil_hwmodels::NodeId) -> Vec<Vec<u64>> {
        let scene = self.pricing.scene;
        let capacity = scene.chip.nodes[memory]
            .memory()
            .map_or(0, |m| m.capacity.0);
        // Of each intermediate: bits of all of it, and its axes.
        let inner: Vec<(f64, Vec<usize>)> = group
            .inner
            .iter()
            .map(|t| {
                let maker = group.sites.iter().position(|s| {
                    let outputs = &scene.graph.ops[group.ops[s.member]].outputs;
                    outputs.iter().any(|x| scene.stored(*x) == t.0 as usize)
                });
                let axes = maker.map_or(Vec::new(), |s| {
                    let member = group.sites[s].member;
                    let last = (0..group.sites.len())
                        .rfind(|s| group.sites[*s].member == member)
                        .unwrap_or(s);
                    group.indexed(last, &group.einsum(scene, last).output)
                });
                (scene.graph.tensors[*t].bits().0 as f64 / 8.0, axes)
            })
            .collect();
        let loops: Vec<usize> = (0..group.axes.len())
            .filter(|a| group.axes[*a].kind != Kind::Fixed)
            .collect();
        let start: Vec<u64> = group.axes.iter().map(|a| a.size).collect();
        let mut list: Vec<(u64, Vec<u64>)> = vec![(1, start)];
        for axis in loops {
            let size = group.axes[axis].size;
            let mut next = Vec::new();
            for (n, tiles) in &list {
                for tile in tile_sizes(size) {
                    let mut tiles = tiles.clone();
                    tiles[axis] = tile;
                    next.push((n.saturating_mul(size.div_ceil(tile)), tiles));
                }
            }
            list = next;
        }
        let part = |tiles: &[u64], axes: &[usize]| -> f64 {
            axes.iter()
                .map(|a| tiles[*a] as f64 / group.axes[*a].size as f64)
                .product()
        };
        let fits = |tiles: &[u64]| {
            inner
                .iter()
                .all(|(bytes, axes)| bytes * part(tiles, axes) < capacity as f64)
        };
        list.retain(|(_, tiles)| fits(tiles));
        list.sort();
        list.truncate(TILINGS);
        list.into_iter().map(|l| l.1).collect()
    }

    /// The ways of a tiling that may be worth something; whether there are any.
    #[expect(clippy::too_many_arguments, reason = "what is known of a tiling")]
    fn ways(
        &self,
        group: &Group,
        tiling: &Tiling,
        memory: presil_hwmodels::NodeId,
        than: Price,
        repeat: f64,
        index: usize,
        ways: &mut Vec<(Floor, usize, Way)>,
    ) -> bool {
        let Pricing {
            scene, residency, ..
        } = self.pricing;
        let chip = scene.chip;
        let each = !chip.mapspace.launch_groups_once;
        let base = base(scene, group, tiling, memory, residency, each);
        if !self.worth(
            than,
            base.best(chip, tiling, residency, self.static_power),
            repeat,
        ) {
            return false;
        }
        let before = ways.len();
        let mut seen: Vec<Vec<u64>> = Vec::new();
        for loops in tiling.orders() {
            let way = Way {
                memory,
                loops,
                held: Vec::new(),
            };
            // Orders that fetch the same and hold sums as long are one.
            let mut rounds: Vec<u64> = tiling.outside.iter().map(|o| way.rounds(&o.axes)).collect();
            let sums = |l: &super::plan::Shared| {
                matches!(group.axes[l.axis].kind, Kind::Sum | Kind::Online)
            };
            let outermost = way.loops.iter().position(sums).unwrap_or(way.loops.len());
            rounds.push(way.loops[outermost..].iter().map(|l| l.trips).product());
            if seen.contains(&rounds) {
                continue;
            }
            seen.push(rounds);
            let home = |o: &super::plan::Outside| residency.home[o.tensor.0 as usize];
            let able: Vec<presil_workloads::TensorId> = tiling
                .outside
                .iter()
                .filter(|o| home(o) != memory)
                .filter(|o| way.fetches(&o.axes) < tiling.iterations || o.readers.len() > 1)
                .map(|o| o.tensor)
                .collect();
            for set in 0..1usize << able.len().min(6) {
                let held = able
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| set >> i & 1 == 1)
                    .map(|(_, t)| *t)
                    .collect();
                let way = Way {
                    held,
                    ..way.clone()
                };
                let floor = base.floor(chip, tiling, &way, residency, self.static_power);
                if self.worth(than, floor, repeat) && self.pricing.fits(group, tiling, &way) {
                    ways.push((floor, index, way));
                }
            }
        }
        ways.len() > before
    }
}

/// Whether the ops hang together by what passes between them.
fn connected(pricing: &Pricing, group: &Group, roots: &[OpId]) -> bool {
    let scene = pricing.scene;
    let mut set: Vec<usize> = (0..roots.len()).collect();
    let unit = |id: &OpId| {
        let root = scene.tails.into[id.0 as usize].unwrap_or(*id);
        roots.iter().position(|r| *r == root)
    };
    for t in &group.inner {
        let touch = group.ops.iter().filter(|id| {
            let op = &scene.graph.ops[**id];
            op.inputs
                .iter()
                .chain(&op.outputs)
                .any(|x| scene.stored(*x) == t.0 as usize)
        });
        let units: Vec<usize> = touch.filter_map(unit).collect();
        if let Some(first) = units.first().map(|u| set[*u]) {
            for u in &units {
                let from = set[*u];
                set.iter_mut()
                    .filter(|s| **s == from)
                    .for_each(|s| *s = first);
            }
        }
    }
    set.iter().all(|s| *s == set[0])
}
