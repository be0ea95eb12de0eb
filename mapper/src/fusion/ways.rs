//! The ways to run a group that are worth pricing, and the best of them.
//!
//! Tilings of a group in each memory; of each all orders of its loops and sets of held operands, with a bound; priced
//! from the least bound on (see [`super`]).

use presil_hwmodels::{FuseGroups, NodeId};
use presil_workloads::{OpId, Role, TensorId};

use super::axes::{Group, Kind};
use super::bound::{Base, Floor, base};
use super::choose::{Chooser, Chosen, GIVE, Price};
use super::cuts::cuts;
use super::plan::{Cut, Tiling, Way, memories, slides};
use super::price::{Part, Pricing};
use super::seen::Question;
use super::windows::Slides;
use super::{CLOSELY, EXACT};
use crate::schedule::solve::Effort;
use crate::search::Objective;

/// Bounds of ways that differ by less are taken for equal.
const CLOSE: f64 = 0.01;
/// Ways of a group with windows, of which there are many with bounds that are close, that are priced without finding a better one.
const PATIENCE: usize = 8;
/// What rounding of masked tiles may take off a bound.
const ROUNDING: f64 = 0.99;
/// What longer searches may leave of a price by short ones.
const SHORT: f64 = 0.9;
/// Classes of ways by the least share of the group's memory that they leave to an op.
pub(super) const ROOMS: [f64; 4] = [0.5, 0.25, 0.125, 0.0];

/// A way that may be worth pricing.
struct Candidate {
    floor: Floor,
    /// Index into [`ROOMS`].
    room: usize,
    tiling: usize,
    way: Way,
}

/// What was looked at of a group.
struct Looked {
    /// What must be beaten.
    known: Vec<Price>,
    tilings: Vec<Tiling>,
    /// Ways with their prices by short searches.
    ranked: Vec<(Price, Candidate)>,
}

impl Chooser<'_> {
    /// The best ways to run some ops as a group, if any is better than what is known of them.
    pub(super) fn group(&self, roots: &[OpId], than: Price, repeat: f64) -> Vec<Chosen> {
        let scene = self.pricing.scene;
        if !self.made(roots) || !self.promising(roots) {
            return Vec::new();
        }
        let Some(group) = Group::of(scene, roots) else {
            return Vec::new();
        };
        if !connected(self.pricing, &group, roots) {
            return Vec::new();
        }
        let question = Question::of(self.pricing, &group, than, repeat);
        if let Some(found) = self.seen.find(self.pricing, &group, &question) {
            return found;
        }
        let found = self.look(&group, than, repeat);
        self.seen.put(&group, question, &found);
        found
    }

    /// Whether the chip's compiler makes such groups.
    fn made(&self, roots: &[OpId]) -> bool {
        let graph = self.pricing.scene.graph;
        match self.pricing.scene.chip.mapspace.fuse_groups {
            FuseGroups::None => false,
            FuseGroups::All => true,
            FuseGroups::Attention => {
                let product = |id: &OpId| graph.ops[*id].contraction().is_some();
                let weight = |t: &TensorId| graph.tensors[*t].role == Role::Weight;
                let ends = [roots.first(), roots.last()];
                ends.into_iter().all(|end| end.is_some_and(product))
                    && roots
                        .iter()
                        .filter(|id| product(id))
                        .all(|id| !graph.ops[*id].inputs.iter().any(weight))
            }
        }
    }

    /// The best ways to run a group. Ways that cut no rows come first: they have fewest pieces, and what is known of them
    /// cuts off most of the others.
    fn look(&self, group: &Group, than: Price, repeat: f64) -> Vec<Chosen> {
        let scene = self.pricing.scene;
        let accumulate = self.pricing.options.accumulate;
        let all = Cut {
            tiles: group.axes.iter().map(|a| a.size).collect(),
            kept: None,
        };
        let Some(whole) = Tiling::new(scene, group, &all, accumulate, true) else {
            return Vec::new();
        };
        let mut memories = memories(scene, group);
        memories.retain(|m| self.may(group, &whole, *m, than, repeat));
        let cuts: Vec<(NodeId, Cut)> = memories
            .iter()
            .flat_map(|m| cuts(scene, group, *m).into_iter().map(|c| (*m, c)))
            .collect();
        let mut looked = Looked {
            known: vec![than],
            tilings: Vec::new(),
            ranked: Vec::new(),
        };
        for (sliding, patience) in [(false, EXACT), (true, PATIENCE)] {
            let cuts = cuts.iter().filter(|c| group.slides(&c.1.tiles) == sliding);
            let mut ways = self.candidates(group, &whole, cuts, repeat, &mut looked);
            self.by_bound(&mut ways);
            self.glance(group, ways, patience, repeat, &mut looked);
        }
        self.best(group, looked, than, repeat)
    }

    /// The ways of some cuts that may be worth something.
    fn candidates<'c>(
        &self,
        group: &Group,
        whole: &Tiling,
        cuts: impl Iterator<Item = &'c (NodeId, Cut)>,
        repeat: f64,
        looked: &mut Looked,
    ) -> Vec<Candidate> {
        let scene = self.pricing.scene;
        let accumulate = self.pricing.options.accumulate;
        let mut ways: Vec<Candidate> = Vec::new();
        let mut base: Option<(NodeId, Base)> = None;
        for (memory, cut) in cuts {
            let Some(slides) = slides(group, cut) else {
                continue;
            };
            let of = base.take().filter(|b| b.0 == *memory);
            let (_, all) =
                base.insert(of.unwrap_or_else(|| (*memory, self.base(group, whole, *memory))));
            let floor = self.cut(group, all, whole, cut, &slides);
            if self.out(floor, &looked.known, repeat) {
                continue;
            }
            let step = &whole.largest;
            let made = Tiling::sliding(scene, group, cut, slides, accumulate, true, step);
            let Some(tiling) = made else { continue };
            let index = looked.tilings.len();
            if self.ways(
                group,
                &tiling,
                *memory,
                &looked.known,
                repeat,
                index,
                &mut ways,
            ) {
                looked.tilings.push(tiling);
            }
        }
        ways
    }

    /// Whether what no tiling goes below (all work, each operand once, one launch of each op) is worth anything.
    fn may(&self, group: &Group, whole: &Tiling, memory: NodeId, than: Price, repeat: f64) -> bool {
        let base = self.base(group, whole, memory);
        let floor = base.best(self.pricing.scene.chip, whole, self.static_power);
        // Means of masked tiles are rounded to whole keys.
        let floor = Floor {
            time: floor.time * ROUNDING,
            energy: floor.energy * ROUNDING,
        };
        self.worth(than, floor, repeat)
    }

    fn base(&self, group: &Group, tiling: &Tiling, memory: NodeId) -> Base {
        let Pricing {
            scene, residency, ..
        } = self.pricing;
        let each = !scene.chip.mapspace.launch_groups_once;
        base(scene, group, tiling, memory, residency, each)
    }

    /// What no way of a cut over rows goes below, from the bound of `whole` axes: with it most cuts need not be made.
    fn cut(
        &self,
        group: &Group,
        all: &Base,
        whole: &Tiling,
        cut: &Cut,
        slides: &[Option<Slides>],
    ) -> Floor {
        if slides.iter().all(Option::is_none) {
            return Floor::default();
        }
        let axes = group.axes.iter().zip(&cut.tiles);
        let iterations: f64 = axes
            .map(|(a, tile)| a.size.div_ceil(*tile) as f64)
            .product();
        let grown = |member: usize| -> f64 {
            let Some(site) = group.sites.iter().position(|s| s.member == member) else {
                return 1.0;
            };
            let windows = group.windows.iter().zip(slides);
            let each = windows
                .filter_map(|(w, s)| Some(s.as_ref()?.made[site] as f64 / w.sizes[site] as f64));
            each.product()
        };
        // An op does not run where it makes nothing.
        let runs = match cut.kept {
            Some(_) => 1.0,
            None => iterations,
        };
        let chip = self.pricing.scene.chip;
        all.cut(runs, grown).best(chip, whole, self.static_power)
    }

    /// The ways that no other beats, of those that are best by short searches.
    fn best(&self, group: &Group, looked: Looked, than: Price, repeat: f64) -> Vec<Chosen> {
        let objective = self.pricing.options.objective;
        let Looked {
            tilings,
            mut ranked,
            ..
        } = looked;
        ranked.sort_by(|a, b| a.0.of(objective).total_cmp(&b.0.of(objective)));
        let closely = ranked.into_iter().take(CLOSELY).map(|r| r.1);
        let mut best: Vec<Chosen> = Vec::new();
        for Candidate {
            floor, tiling, way, ..
        } in closely
        {
            let known: Vec<Price> = best.iter().map(|c| self.price_of(c)).collect();
            if known.iter().any(|p| self.beaten(floor, *p, repeat)) {
                continue;
            }
            let Some(priced) = self.pricing.price(group, &tilings[tiling], &way) else {
                continue;
            };
            let price = self.price(priced.time, priced.energy);
            let better = |than: &Price| match objective {
                Objective::Edp => price.time < than.time || price.energy < than.energy,
                _ => price.of(objective) < than.of(objective),
            };
            let near = price.of(objective) <= than.of(objective) * (1.0 + GIVE)
                && price.other(objective) < than.other(objective);
            if (near || better(&than)) && known.iter().all(better) {
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

    /// Sorts ways by their bounds.
    fn by_bound(&self, ways: &mut [Candidate]) {
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
    }

    /// Whether a way of this bound cannot be better than what is known, first of which is what is to be saved from.
    fn out(&self, floor: Floor, known: &[Price], repeat: f64) -> bool {
        let than = known.first();
        than.is_some_and(|p| !self.worth(*p, floor, repeat))
            || known.iter().any(|p| self.beaten(floor, *p, repeat))
    }

    /// Whether a way of this bound cannot be better than a price.
    fn beaten(&self, floor: Floor, price: Price, repeat: f64) -> bool {
        match self.pricing.options.objective {
            Objective::Edp => price.time <= floor.time && price.energy <= floor.energy,
            _ => !self.worth(price, floor, repeat),
        }
    }

    /// Prices of ways by short searches, in the order of their bounds, in turn of how much room they leave; until so many
    /// were no better than what is known.
    fn glance(
        &self,
        group: &Group,
        mut ways: Vec<Candidate>,
        patience: usize,
        repeat: f64,
        looked: &mut Looked,
    ) {
        let glance = Pricing {
            effort: Effort::Glance,
            ..*self.pricing
        };
        let mut class = 0;
        let (mut tried, mut last) = (0, 0);
        while tried < EXACT && tried - last < patience {
            let next = (0..ROOMS.len()).find_map(|k| {
                let wanted = (class + k) % ROOMS.len();
                let at = ways.iter().position(|w| w.room == wanted);
                at.map(|at| (at, wanted))
            });
            let Some((at, taken)) = next else { break };
            class = (taken + 1) % ROOMS.len();
            let candidate = ways.remove(at);
            let out = |floor: Floor| self.out(floor, &looked.known, repeat);
            if out(candidate.floor) {
                continue;
            }
            tried += 1;
            // What is priced so far, and the bound of the rest.
            let beaten = |part: Part| {
                let (so_far, rest) = (self.price(part.time, part.energy), 1.0 - part.share);
                out(Floor {
                    time: SHORT * so_far.time + rest * candidate.floor.time,
                    energy: SHORT * so_far.energy + rest * candidate.floor.energy,
                })
            };
            let tiling = &looked.tilings[candidate.tiling];
            let Some(priced) = glance.price_unless(group, tiling, &candidate.way, beaten) else {
                continue;
            };
            let price = self.price(priced.time, priced.energy);
            let better = |k: &Price| price.time < k.time || price.energy < k.energy;
            if looked.known.iter().all(better) {
                looked.known.push(price);
                last = tried;
            }
            looked.ranked.push((price, candidate));
        }
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

    /// The ways of a tiling that may be worth something; whether there are any.
    #[expect(clippy::too_many_arguments, reason = "what is known of a tiling")]
    fn ways(
        &self,
        group: &Group,
        tiling: &Tiling,
        memory: NodeId,
        known: &[Price],
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
        let free = |l: &super::plan::Shared| match group.axes[l.axis].kind {
            Kind::Free => true,
            Kind::Window => tiling
                .cut
                .kept
                .is_none_or(|w| group.windows[w].axis != l.axis),
            _ => false,
        };
        if tiling.loops.is_empty() || (!each && !tiling.loops.iter().any(free)) {
            return false;
        }
        let base = self.base(group, tiling, memory);
        if self.out(base.best(chip, tiling, self.static_power), known, repeat) {
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
            let elsewhere = tiling.outside.iter().filter(|o| home(o) != memory);
            // What holding fetches less often, each by itself; the rest (their ops might fetch them more than once an
            // iteration) all or none.
            let (able, rest): (Vec<_>, Vec<_>) = elsewhere
                .partition(|o| way.fetches(&o.axes) < tiling.iterations || o.readers.len() > 1);
            let (able, more) = able.split_at(able.len().min(6));
            let rest: Vec<TensorId> = rest.iter().chain(more).map(|o| o.tensor).collect();
            let sets = 1usize << (able.len() + usize::from(!rest.is_empty()));
            for set in 0..sets {
                let chosen = able.iter().enumerate();
                let mut held: Vec<TensorId> = chosen
                    .filter(|(i, _)| set >> i & 1 == 1)
                    .map(|(_, o)| o.tensor)
                    .collect();
                if set >> able.len() & 1 == 1 {
                    held.extend(&rest);
                }
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
                if room > 0.0 && !self.out(floor, known, repeat) {
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
