//! The exact price of a way to run a group, by the model that prices every op.
//!
//! Each piece's step is priced as a graph with its homes given: intermediates, what is held and what accumulates in the
//! group's memory, everything else where the residency plan has it; tiles of the members' mappings have what is left of
//! each memory. Ops of a step run one after the other; within an op everything overlaps, the fetch of what is held
//! with the first op that reads it included.
//!
//! ```text
//! T(op) = sum over iterations of (latency + waits + max over resources of (busy + fetches that fall on the iteration))
//! wait  = latency and set-up of the memory that a fetch comes from, before its first word
//! cost  = sum over iterations of counts, busy times and energies;  latency(op) = T(op) - largest busy time
//! ```
//!
//! Outputs that accumulate over a loop are in the group's memory in the accumulator's format: read again by the array
//! for each further iteration, and read, converted and written to their home at the end. With the online softmax
//! they are rescaled by the vector unit instead ([`super::rewrite`]).

use presil_hwmodels::{EngineKind, NodeId, Operand};
use presil_numerics::{Bytes, Seconds};
use presil_workloads::count::op_macs;
use presil_workloads::{OpId, OpKind, TensorId};

use super::axes::{Group, Kind};
use super::plan::{Tiling, Way};
use super::rewrite;
use super::step::{Piece, Step};
use crate::cost::Cost;
use crate::ledger::{self, Ledger, Stored, add_traffic, longest};
use crate::schedule::engines::Choice;
use crate::schedule::memory_plan::allocate::Allocation;
use crate::schedule::memory_plan::{Holds, Tiles};
use crate::schedule::operands::stored;
use crate::schedule::pricer::Pricer;
use crate::schedule::residency::{Held, Residency, Scene};
use crate::schedule::solve::Effort;
use crate::schedule::{Execution, Memo, ScheduleOptions, ScheduledOp};
use crate::vector::{self, Operands};

/// What a group takes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Priced {
    /// By member, all iterations together.
    pub(crate) ops: Vec<ScheduledOp>,
    /// What each member's mapping has in resident memories beside the group's tiles.
    pub(crate) tiles: Vec<Vec<Tiles>>,
    /// Seconds and dynamic joules of one run of the group.
    pub(crate) time: f64,
    pub(crate) energy: f64,
}

/// What is priced of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// Seconds and dynamic joules.
    pub(super) time: f64,
    pub(super) energy: f64,
    /// Of all MACs.
    pub(super) share: f64,
}

/// Fetches of an operand that is held.
struct Fetch {
    /// How many.
    count: u64,
    /// Before the first word of each is there: latency and set-up of its home.
    wait: Seconds,
    /// What all of them move.
    ledger: Ledger,
}

/// What pricing looks at.
pub(crate) struct Pricing<'a> {
    pub(crate) scene: &'a Scene<'a>,
    pub(crate) residency: &'a Residency,
    pub(crate) options: &'a ScheduleOptions,
    pub(crate) memo: &'a Memo,
    pub(crate) effort: Effort,
    /// Whether the residency plan already counts the group's tiles.
    pub(crate) reserved: bool,
}

impl Pricing<'_> {
    /// Bytes that are left of a node while a member runs, the group's own tiles and intermediates not counted.
    pub(super) fn left(&self, group: &Group, node: NodeId, member: usize) -> u64 {
        let Scene { chip, tails, .. } = *self.scene;
        let position = tails.position[group.ops[member].0 as usize];
        let left = self.residency.left(chip, node, position).0;
        let own = match self.reserved {
            true => self.residency.tiles_at(node, position),
            false => self.residency.taken_by(node, position, &group.inner),
        };
        left.saturating_add(own)
    }

    /// The least share of the group's memory that is left for the tiles of an op.
    pub(crate) fn room(&self, group: &Group, tiling: &Tiling, way: &Way) -> f64 {
        let live = tiling.live(self.scene, group, way);
        let memory = self.scene.chip.nodes[way.memory].memory();
        let capacity = memory.map_or(1, |m| m.capacity.0.max(1)) as f64;
        let left = |m: usize| {
            let own = alive(&live, tiling.largest.tails.position[m]);
            self.left(group, way.memory, m) as f64 - own as f64
        };
        (0..group.ops.len()).map(left).fold(f64::INFINITY, f64::min) / capacity
    }

    /// The price; `None` if some op has no mapping in the room that is left.
    pub(crate) fn price(&self, group: &Group, tiling: &Tiling, way: &Way) -> Option<Priced> {
        self.price_unless(group, tiling, way, |_| false)
    }

    /// The price, iterations of most weight first; also `None` once `out` says of what is priced so far (seconds, dynamic
    /// joules, share of all MACs) that the rest does not matter.
    pub(super) fn price_unless(
        &self,
        group: &Group,
        tiling: &Tiling,
        way: &Way,
        out: impl Fn(Part) -> bool,
    ) -> Option<Priced> {
        let n = group.ops.len();
        let mut sums: Vec<Cost> = vec![Cost::default(); n];
        let mut fetched: Vec<Ledger> = vec![Ledger::default(); n];
        let mut shown: Vec<ScheduledOp> = Vec::new();
        // Of each op, the weight of the piece in which it is shown: the most frequent one in which it runs.
        let mut heaviest = vec![0; n];
        let mut tiles: Vec<Vec<Tiles>> = vec![Vec::new(); n];
        let mut streamed = vec![0.0; n];
        let macs = |step: &Step| -> u128 {
            let of = |o| op_macs(&step.graph, o).1;
            step.graph.ops.ids().map(of).sum::<u128>().max(1)
        };
        let work = |(piece, step): &(Piece, Step)| u128::from(piece.weight) * macs(step);
        let all: u128 = tiling.pieces.iter().map(work).sum();
        let mut pieces: Vec<&(Piece, Step)> = tiling.pieces.iter().collect();
        pieces.sort_by_key(|p| std::cmp::Reverse(work(p)));
        let mut done = 0;
        for pair in pieces {
            let (piece, step) = pair;
            let so_far = Part {
                time: sums.iter().map(|c| c.time.0).sum(),
                energy: sums.iter().map(|c| c.energy_total().0).sum(),
                share: done as f64 / all as f64,
            };
            if done > 0 && out(so_far) {
                return None;
            }
            done += work(pair);
            let (ops, held) = self.step(group, tiling, way, step)?;
            for (most, list) in tiles.iter_mut().zip(held) {
                if bytes(&list) > bytes(most) {
                    *most = list;
                }
            }
            for (member, op) in ops.iter().enumerate() {
                streamed[member] += op.weights.streamed * piece.weight as f64;
                let mut costs = vec![self.launched(op)];
                costs.extend(self.extras(group, tiling, way, step, member)?);
                let fetches = self.fetches(group, tiling, way, member);
                self.add(
                    &mut sums[member],
                    &costs,
                    piece.weight,
                    tiling.iterations,
                    &fetches,
                );
            }
            let runs = |m: usize| step.graph.ops[OpId(m as u32)].kind != OpKind::View;
            for (member, mut op) in ops.into_iter().enumerate() {
                let weight = if runs(member) { piece.weight } else { 0 };
                let part = &step.graph.ops[OpId(member as u32)];
                op.tile = part.contraction().cloned();
                match shown.get_mut(member) {
                    None => shown.push(op),
                    Some(known) if weight > heaviest[member] => *known = op,
                    Some(_) => {}
                }
                heaviest[member] = heaviest[member].max(weight);
            }
        }
        for member in 0..n {
            for fetch in self.fetches(group, tiling, way, member) {
                fetched[member].merge(&fetch.ledger);
            }
            streamed[member] += fetched[member].weight_bits(self.scene.chip.root());
        }
        if self.scene.chip.mapspace.launch_groups_once {
            let first = shown.iter().find_map(|o| o.engine);
            let launch = first.map_or(Seconds::ZERO, |e| self.scene.chip.engines[e].launch);
            sums[0].latency += launch;
            sums[0].time += launch;
        }
        for (op, cost) in shown.iter_mut().zip(sums) {
            op.cost = cost;
        }
        for (op, streamed) in shown.iter_mut().zip(streamed) {
            op.weights.streamed = streamed;
        }
        self.tell(group, tiling, way, &mut shown);
        Some(Priced {
            time: shown.iter().map(|o| o.cost.time.0).sum(),
            energy: shown.iter().map(|o| o.cost.energy_total().0).sum(),
            ops: shown,
            tiles,
        })
    }

    /// Says in each op what it is part of.
    fn tell(&self, group: &Group, tiling: &Tiling, way: &Way, ops: &mut [ScheduledOp]) {
        let loops: Vec<String> = way
            .loops
            .iter()
            .map(|l| {
                format!(
                    "{} in {} tiles of {}",
                    group.axes[l.axis].name, l.trips, l.tile
                )
            })
            .collect();
        let over = match loops.is_empty() {
            true => String::new(),
            false => format!(" over {}", loops.join(", ")),
        };
        for (member, op) in ops.iter_mut().enumerate() {
            if matches!(op.execution, Execution::Fused { .. }) {
                continue;
            }
            let others: Vec<&str> = group
                .ops
                .iter()
                .enumerate()
                .filter(|(m, _)| *m != member && tiling.largest.tails.into[*m].is_none())
                .map(|(_, o)| self.scene.graph.ops[*o].name.as_str())
                .collect();
            op.notes
                .push(format!("fused with {}{over}", others.join(", ")));
            op.notes.extend(self.halo(group, tiling, member));
            if tiling.online && group.softmax == Some(member) {
                op.notes
                    .push("online softmax: running maximum and sum, outputs rescaled".into());
            }
        }
    }

    /// What becomes of the rows that windows of an op's readers share.
    fn halo(&self, group: &Group, tiling: &Tiling, member: usize) -> Option<String> {
        let site = group.sites.iter().position(|s| s.member == member)?;
        let windows = group.windows.iter().zip(&tiling.slides);
        let kept = windows
            .clone()
            .any(|(_, s)| s.as_ref().is_some_and(|s| s.kept[site]));
        let again: f64 = windows
            .filter_map(|(w, s)| Some(s.as_ref()?.made[site] as f64 / w.sizes[site] as f64))
            .product();
        let again = match again {
            a if a > 1.0 => Some(format!(
                "halo made again: {:.1} % more work",
                100.0 * (a - 1.0)
            )),
            _ => None,
        };
        let kept = kept.then(|| "rows that the next tile needs are kept".to_string());
        let both: Vec<String> = kept.into_iter().chain(again).collect();
        (!both.is_empty()).then(|| both.join("; "))
    }

    /// The ops of a step, and what their mappings have in the group's memory.
    fn step(
        &self,
        group: &Group,
        tiling: &Tiling,
        way: &Way,
        step: &Step,
    ) -> Option<(Vec<ScheduledOp>, Vec<Vec<Tiles>>)> {
        let chip = self.scene.chip;
        let live = tiling.live(self.scene, group, way);
        let home: Vec<NodeId> = step
            .graph
            .tensors
            .ids()
            .map(|id| {
                let sums = step.graph.ops.iter_ids().any(|(o, op)| {
                    op.outputs.contains(&id) && tiling.accumulates(self.scene, group, o.0 as usize)
                });
                tiling.home(group, way, self.residency, step.whole[id.0 as usize], sums)
            })
            .collect();
        let used = chip.nodes.iter_ids().map(|(node, n)| {
            let capacity = n.memory().map_or(0, |m| m.capacity.0);
            let members = 0..group.ops.len();
            let of = |m: usize| {
                let own = match node == way.memory {
                    true => alive(&live, step.tails.position[m]),
                    false => 0,
                };
                (capacity.saturating_sub(self.left(group, node, m))).saturating_add(own)
            };
            members.map(of).collect::<Vec<u64>>()
        });
        let held = self.residency.held.iter().map(|h| Held {
            memory: h.memory,
            residents: Vec::new(),
            allocation: Allocation::default(),
        });
        let residency = Residency::given(home, used.collect(), held.collect());
        let order: Vec<OpId> = step.graph.ops.ids().collect();
        let scene = Scene {
            chip,
            graph: &step.graph,
            base: &step.base,
            choices: &step.choices,
            tails: &step.tails,
        };
        let wholes = step.whole.iter();
        let wholes = wholes.map(|t| &self.scene.graph.tensors[*t]).collect();
        let pricer = Pricer::new(scene, &residency, self.options, &order).tiles_of_tensors(wholes);
        let solutions = pricer.solutions(|_| true, self.memo, self.effort);
        let mut tiles: Vec<Vec<Tiles>> = vec![Vec::new(); order.len()];
        for (_, op, mut list) in pricer.tiles(&order, &solutions) {
            let whole = group.ops[op.0 as usize];
            for t in &mut list {
                if let Holds::Tile(_, operand) = t.holds {
                    t.holds = Holds::Tile(whole, operand);
                }
            }
            tiles[op.0 as usize] = list;
        }
        let ops: Vec<ScheduledOp> = pricer.ops(solutions, |_| None).iter().cloned().collect();
        let runs = |(op, choice): (&ScheduledOp, &Choice)| match choice {
            Choice::Array(_) => op.execution.is_mapped(),
            _ => !matches!(
                op.execution,
                Execution::Unsupported { .. } | Execution::Host { .. }
            ),
        };
        ops.iter()
            .zip(&step.choices)
            .all(runs)
            .then_some((ops, tiles))
    }

    /// The cost of an op of a step, less its launch where a group is launched as a whole.
    fn launched(&self, op: &ScheduledOp) -> Cost {
        let mut cost = op.cost.clone();
        if self.scene.chip.mapspace.launch_groups_once
            && let (Some(engine), false) =
                (op.engine, matches!(op.execution, Execution::Fused { .. }))
        {
            let launch = self.scene.chip.engines[engine].launch.0;
            cost.latency = Seconds((cost.latency.0 - launch).max(0.0));
            cost.time = cost.latency + longest(&cost.busy);
        }
        cost
    }

    /// Fetches of what is held that fall on a member.
    fn fetches(&self, group: &Group, tiling: &Tiling, way: &Way, member: usize) -> Vec<Fetch> {
        let scene = self.scene;
        let mut list: Vec<Fetch> = Vec::new();
        for o in tiling
            .outside
            .iter()
            .filter(|o| way.held.contains(&o.tensor))
        {
            if o.readers.first() != Some(&member) || tiling.largest.tails.into[member].is_some() {
                continue;
            }
            let s = stored(
                scene.graph,
                o.tensor,
                self.residency.home[o.tensor.0 as usize],
                false,
            );
            let mut ledger = Ledger::default();
            let elements = tiling.fetched(way, o).round() as u128;
            ledger.transfer(s.home, way.memory, s.role, elements, o.bits);
            let home = scene.chip.nodes[s.home].memory();
            list.push(Fetch {
                count: way.fetches(&o.axes).min(tiling.iterations),
                wait: home.map_or(Seconds::ZERO, |m| m.latency + m.setup),
                ledger,
            });
        }
        debug_assert!(list.is_empty() || member < group.ops.len());
        list.sort_by_key(|f| f.count);
        list
    }

    /// Adds `weight` of `iterations` iterations of some costs, one after the other, to a sum. The fetches of what is
    /// held fall on the first of them.
    fn add(&self, sum: &mut Cost, costs: &[Cost], weight: u64, iterations: u64, fetches: &[Fetch]) {
        let chip = self.scene.chip;
        let before = sum.time.0;
        let share = weight as f64 / iterations.max(1) as f64;
        let mut time = 0.0;
        let mut done = 0u64;
        // Iterations in which the operands from the i-th on are fetched: those of outer ones are among those of inner ones.
        let mut first = costs[0].clone();
        let mut with: Vec<f64> = Vec::new();
        for i in 0..=fetches.len() {
            let mut cost = costs[0].clone();
            for fetch in &fetches[i..] {
                add_traffic(
                    chip,
                    &mut cost,
                    fetch.ledger.share(1.0 / fetch.count as f64),
                );
                cost.time += fetch.wait;
            }
            with.push(cost.time.0);
        }
        for (i, fetch) in fetches.iter().enumerate() {
            time += fetch.count.saturating_sub(done) as f64 * share * with[i];
            done = done.max(fetch.count);
        }
        time += (iterations.saturating_sub(done)) as f64 * share * with[fetches.len()];
        for fetch in fetches {
            add_traffic(
                chip,
                &mut first,
                fetch.ledger.share(1.0 / iterations.max(1) as f64),
            );
        }
        ledger::add(sum, &ledger::repeat(first, weight));
        for cost in &costs[1..] {
            time += cost.time.0 * weight as f64;
            ledger::add(sum, &ledger::repeat(cost.clone(), weight));
        }
        let time = Seconds(before + time);
        sum.time = Seconds(time.0.max(longest(&sum.busy).0));
        sum.latency = sum.time - longest(&sum.busy);
    }

    /// What a member does in an iteration beside its op: accumulate, rescale, finish.
    fn extras(
        &self,
        group: &Group,
        tiling: &Tiling,
        way: &Way,
        step: &Step,
        member: usize,
    ) -> Option<Vec<Cost>> {
        let scene = self.scene;
        let Some(format) = tiling.sums else {
            return Some(Vec::new());
        };
        let sums: u64 = way
            .loops
            .iter()
            .filter(|l| matches!(group.axes[l.axis].kind, Kind::Sum | Kind::Online))
            .map(|l| l.trips)
            .product();
        let others: u64 = way.loops.iter().map(|l| l.trips).product::<u64>() / sums.max(1);
        // Share of iterations that end a sum.
        let last = others as f64 / tiling.iterations.max(1) as f64;
        let here = |elements: u64, bits: f64, format| Stored {
            home: way.memory,
            format,
            elements,
            bits,
            payload: bits,
            role: Operand::Output,
        };
        let accumulators = |elements: u64| here(elements, format.bits() as f64, format);
        if tiling.online {
            if group.softmax != Some(member) {
                return Some(Vec::new());
            }
            let Choice::Vector(unit) = step.choices[member] else {
                return None;
            };
            let engine = &scene.chip.engines[unit];
            let room = match engine.kind {
                EngineKind::Vector { memory, .. } => Bytes(self.left(group, memory, member)),
                _ => Bytes::ZERO,
            };
            let OpKind::Cascade(list) = &step.graph.ops[OpId(member as u32)].kind else {
                return None;
            };
            let rows: u64 = {
                let e = list.first()?;
                e.dim_ids()
                    .filter(|d| !e.is_reduced(*d))
                    .map(|d| e.dim(d).size)
                    .product()
            };
            let sink = (0..group.ops.len()).find(|m| tiling.accumulates(scene, group, *m))?;
            let out = *step.graph.ops[OpId(sink as u32)].outputs.first()?;
            let elements = step.graph.tensors[out].elements();
            let width = elements / rows.max(1);
            let whole = step.whole[out.0 as usize];
            let given = stored(
                scene.graph,
                whole,
                self.residency.home[whole.0 as usize],
                true,
            );
            let (row, all) = (accumulators(rows), accumulators(elements));
            let cascade =
                |einsums: &[presil_workloads::Einsum], inputs: &[Stored], outputs: &[Stored]| {
                    let made = vector::cascade(
                        scene.chip,
                        engine,
                        einsums,
                        Operands { inputs, outputs },
                        room,
                    );
                    let mut cost = made.ok()?;
                    if scene.chip.mapspace.launch_groups_once {
                        cost.latency = Seconds((cost.latency.0 - engine.launch.0).max(0.0));
                        cost.time = cost.latency + longest(&cost.busy);
                    }
                    Some(cost)
                };
            return Some(vec![
                cascade(&rewrite::state(rows), &[row, row], &[row, row])?,
                cascade(&rewrite::rescale(rows, width), &[all, all, row], &[all])?,
                ledger::scale(
                    cascade(&rewrite::finish(rows, width), &[all, row], &[given])?,
                    last,
                ),
            ]);
        }
        if !tiling.accumulates(scene, group, member) {
            return Some(Vec::new());
        }
        let mut ledger = Ledger::default();
        for t in &step.graph.ops[OpId(member as u32)].outputs {
            let tensor = &step.graph.tensors[*t];
            let (elements, bits) = (u128::from(tensor.elements()), format.bits() as f64);
            let whole = step.whole[t.0 as usize];
            let given = stored(
                scene.graph,
                whole,
                self.residency.home[whole.0 as usize],
                true,
            );
            // Every iteration but the first reads the sum so far; the last one's is read once more and goes home.
            ledger.read(way.memory, Operand::Output, elements, bits);
            let mut home = Ledger::default();
            home.write(given.home, Operand::Output, elements, given.bits);
            ledger.merge(&home.share(last));
        }
        let mut cost = Cost::default();
        add_traffic(scene.chip, &mut cost, ledger);
        Some(vec![cost])
    }

    /// The tiles of a group, each with when it is alive, by position in the schedule.
    pub(crate) fn reservations(
        &self,
        group: &Group,
        tiling: &Tiling,
        way: &Way,
    ) -> Vec<(TensorId, u64, usize, usize)> {
        let at = |m: usize| self.scene.tails.position[group.ops[m].0 as usize];
        let live = tiling.live(self.scene, group, way).into_iter();
        live.map(|(t, bytes, from, to)| (t, bytes, at(from), at(to)))
            .collect()
    }
}

/// Bytes of tiles, as many of each as are buffered.
fn bytes(list: &[Tiles]) -> u64 {
    list.iter()
        .fold(0, |s, t| s.saturating_add(t.bytes.saturating_mul(t.copies)))
}

/// Bytes alive at a member.
fn alive(live: &[(TensorId, u64, usize, usize)], member: usize) -> u64 {
    let here = live
        .iter()
        .filter(|(_, _, from, to)| (*from..=*to).contains(&member));
    here.fold(0, |s, l| s.saturating_add(l.1))
}
