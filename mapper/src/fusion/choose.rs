//! Which groups to fuse, over a whole network.
//!
//! Each run of consecutive ops has at most one best way for latency and energy, and a few that are best for some product of
//! both: its Pareto points. From the first op to the last, a point is the least of sums: of the ops so far, each alone
//! or in one group. Points that are no better in time and energy than another are dropped, which loses nothing as
//! both only ever add up. At the end the objective picks one.

use presil_workloads::{Graph, OpId, OpKind, TensorId};

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
/// Bounds of ways that differ by less are taken for equal.
const CLOSE: f64 = 0.01;
/// Points kept at a position.
const POINTS: usize = 128;

/// Classes of ways by the least share of the group's memory that they leave to an op.
const ROOMS: [f64; 4] = [0.5, 0.25, 0.125, 0.0];

/// An intermediate, whole.
struct Inner {
    bytes: f64,
    axes: Vec<usize>,
    /// Ops that make or read it.
    members: Vec<usize>,
}

/// A way that may be worth pricing.
struct Candidate {
    floor: Floor,
    /// Index into [`ROOMS`].
    room: usize,
    tiling: usize,
    way: Way,
}

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
            &self.tiling.tiles,
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

    fn price_of(&self, c: &Chosen) -> Price {
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

    /// The best ways to run some ops as a group, if any is better than what is known of them.
    fn group(&self, roots: &[OpId], than: Price, repeat: f64) -> Vec<Chosen> {
        let scene = self.pricing.scene;
        if !self.promising(roots) {
            return Vec::new();
        }
        let Some(group) = Group::of(scene, roots) else {
            return Vec::new();
        };
        if !connected(self.pricing, &group, roots) {
            return Vec::new();
        }
        let mut ways: Vec<Candidate> = Vec::new();
        let mut tilings: Vec<Tiling> = Vec::new();
        for memory in memories(scene, &group) {
            for tiles in self.tiles(&group, memory) {
                let Some(tiling) =
                    Tiling::new(scene, &group, &tiles, self.pricing.options.accumulate, true)
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
        self.best(&group, &tilings, ways, than, repeat)
    }

    /// The ways that no other beats, priced in the order of their bounds, in turn from those that leave much room to
    /// those that leave little: bounds know nothing of room.
    fn best(
        &self,
        group: &Group,
        tilings: &[Tiling],
        mut ways: Vec<Candidate>,
        than: Price,
        repeat: f64,
    ) -> Vec<Chosen> {
        let objective = self.pricing.options.objective;
        let of = |f: &Floor| {
            Price {
                time: f.time,
                energy: f.energy,
            }
            .of(objective)
        };
        // Bounds within a hundredth are as good as equal: of those the one with least of the other figure.
        let least = ways
            .iter()
            .map(|w| of(&w.floor))
            .fold(f64::INFINITY, f64::min);
        let grade = |f: &Floor| ((of(f) / least).ln() / CLOSE).floor();
        let other = |f: &Floor| match objective {
            Objective::Energy => f.time,
            _ => f.energy,
        };
        ways.sort_by(|a, b| {
            let (a, b) = (&a.floor, &b.floor);
            let by_grade = grade(a).total_cmp(&grade(b));
            by_grade
                .then(other(a).total_cmp(&other(b)))
                .then(of(a).total_cmp(&of(b)))
        });
        let mut best: Vec<Chosen> = Vec::new();
        let mut tried = 0;
        let mut class = 0;
        while !ways.is_empty() {
            let next = (0..ROOMS.len()).find_map(|k| {
                let wanted = (class + k) % ROOMS.len();
                let at = ways.iter().position(|w| w.room == wanted);
                at.map(|at| (at, wanted))
            });
            let Some((at, taken)) = next else { break };
            class = (taken + 1) % ROOMS.len();
            let Candidate {
                floor, tiling, way, ..
            } = ways.remove(at);
            let known: Vec<Price> = best.iter().map(|c| self.price_of(c)).collect();
            let beaten = |p: &Price| match objective {
                Objective::Edp => p.time <= floor.time && p.energy <= floor.energy,
                _ => !self.worth(*p, floor, repeat),
            };
            if known.iter().any(beaten) {
                continue;
            }
            if tried == EXACT {
                break;
            }
            tried += 1;
            let Some(priced) = self.pricing.price(group, &tilings[tiling], &way) else {
                continue;
            };
            let price = self.price(priced.time, priced.energy);
            let better = |than: &Price| match objective {
                Objective::Edp => price.time < than.time || price.energy < than.energy,
                _ => price.of(objective) < than.of(objective),
            };
            if better(&than) && known.iter().all(better) {
                if objective != Objective::Edp {
                    best.clear();
                }
                best.push(Chosen {
                    group: group.clone(),
                    tiling: tilings[tiling].clone(),
                    way,
                    priced,
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

    /// Tile sizes that may fit a memory, those of fewest iterations first; whether they are all.
    fn tiles(&self, group: &Group, memory: presil_hwmodels::NodeId) -> Vec<Vec<u64>> {
        let scene = self.pricing.scene;
        let capacity = scene.chip.nodes[memory]
            .memory()
            .map_or(0, |m| m.capacity.0);
        let inner = self.inner(group);
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
        // What an op reads and what it makes are there at one time.
        let filled = |tiles: &[u64]| {
            let members = 0..group.ops.len();
            let of = |m: usize| {
                let own = inner.iter().filter(|i| i.members.contains(&m));
                own.map(|i| i.bytes * part(tiles, &i.axes)).sum::<f64>() / capacity as f64
            };
            members.map(of).fold(0.0, f64::max)
        };
        let online = |tiles: &[u64]| {
            let cut =
                |a: usize| group.axes[a].kind == Kind::Online && tiles[a] < group.axes[a].size;
            (0..tiles.len()).any(cut)
        };
        // Rewritten or not, with much room left or little: each by itself.
        let mut classes: Vec<Vec<(u64, Vec<u64>)>> = vec![Vec::new(); 2 * ROOMS.len()];
        for (n, tiles) in list {
            let left = 1.0 - filled(&tiles);
            if left > 0.0 {
                let room = ROOMS.iter().position(|r| left >= *r).unwrap_or(0);
                classes[2 * room + usize::from(online(&tiles))].push((n, tiles));
            }
        }
        let mut chosen = Vec::new();
        for class in &mut classes {
            class.sort();
            let few = class.drain(..).take(TILINGS / ROOMS.len());
            chosen.extend(few.map(|l| l.1));
        }
        chosen
    }

    /// The intermediates of a group, whole.
    fn inner(&self, group: &Group) -> Vec<Inner> {
        let scene = self.pricing.scene;
        let of = |t: &TensorId| {
            let touches = |m: &usize| {
                let op = &scene.graph.ops[group.ops[*m]];
                let mut all = op.inputs.iter().chain(&op.outputs);
                all.any(|x| scene.stored(*x) == t.0 as usize)
            };
            let makes = |s: &usize| {
                let outputs = &scene.graph.ops[group.ops[group.sites[*s].member]].outputs;
                outputs.iter().any(|x| scene.stored(*x) == t.0 as usize)
            };
            // A cascade makes its output in its last einsum.
            let maker = (0..group.sites.len()).rfind(makes);
            Inner {
                bytes: scene.graph.tensors[*t].bits().0 as f64 / 8.0,
                axes: maker.map_or(Vec::new(), |s| {
                    group.indexed(s, &group.einsum(scene, s).output)
                }),
                members: (0..group.ops.len()).filter(touches).collect(),
            }
        };
        group.inner.iter().map(of).collect()
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
        ways: &mut Vec<Candidate>,
    ) -> bool {
        let Pricing {
            scene, residency, ..
        } = self.pricing;
        let chip = scene.chip;
        let each = !chip.mapspace.launch_groups_once;
        // Without a loop nothing is cut. What is one launch runs its iterations side by side: some must not sum.
        let free = |l: &super::plan::Shared| group.axes[l.axis].kind == Kind::Free;
        if tiling.loops.is_empty() || (!each && !tiling.loops.iter().any(free)) {
            return false;
        }
        let base = base(scene, group, tiling, memory, residency, each);
        if !self.worth(
            than,
            base.best(chip, tiling, residency, self.static_power),
            repeat,
        ) {
            return false;
        }
        let before = ways.len();
        let capacity = chip.nodes[memory]
            .memory()
            .map_or(1.0, |m| m.capacity.0.max(1) as f64);
        // Ways that hold the same, fetch it as often and sum as long are one.
        let mut seen: Vec<(Vec<TensorId>, Vec<u64>, u64)> = Vec::new();
        for loops in tiling.orders() {
            let way = Way {
                memory,
                loops,
                held: Vec::new(),
            };
            let sums = |l: &super::plan::Shared| {
                matches!(group.axes[l.axis].kind, Kind::Sum | Kind::Online)
            };
            let outermost = way.loops.iter().position(sums).unwrap_or(way.loops.len());
            let summed: u64 = way.loops[outermost..].iter().map(|l| l.trips).product();
            let free = self.pricing.room(group, tiling, &way);
            if free <= 0.0 {
                continue;
            }
            let home = |o: &super::plan::Outside| residency.home[o.tensor.0 as usize];
            let able: Vec<TensorId> = tiling
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
                let taken = |o: &&super::plan::Outside| way.held.contains(&o.tensor);
                let fetches = tiling
                    .outside
                    .iter()
                    .filter(taken)
                    .map(|o| way.fetches(&o.axes));
                let what = (way.held.clone(), fetches.collect::<Vec<u64>>(), summed);
                if seen.contains(&what) {
                    continue;
                }
                seen.push(what);
                let bytes = tiling.outside.iter().filter(taken).map(|o| o.bytes as f64);
                let room = free - bytes.sum::<f64>() / capacity;
                if room > 0.0 && self.worth(than, floor, repeat) {
                    let room = ROOMS
                        .iter()
                        .position(|r| room >= *r)
                        .unwrap_or(ROOMS.len() - 1);
                    ways.push(Candidate {
                        floor,
                        room,
                        tiling: index,
                        way,
                    });
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
