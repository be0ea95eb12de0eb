//! Tensors that may stay on chip: their lives, their bytes, what a home on chip saves.
//!
//! Time is a position in the order of ops; the ops of an epilogue stand at their MAC op's.
//!
//! ```text
//! live(activation) = from the op that makes it to its last reader; through a repeated block it was made before
//! live(weight, cache) = always
//! value(tensor, m) = sum over uses of bits x repetitions x (cost of a bit at every memory above m)
//! ```
//!
//! with each use counted once, and the cost of a bit by what the schedule is for: time at the memory's rate,
//! energy, or both in units of the root memory's.
//!
//! A tensor that enters a repeated block and one of the same shape that leaves it are the two ends of one loop:
//! both stay on chip or neither. If they live at different times they have one place; else each place is held for
//! both lives, and the ends swap places from repetition to repetition.
//!
//! The output of an elementwise op takes the place of an input of equal bytes that is read there last.

use std::collections::BTreeSet;

use presil_hwmodels::{Chip, NodeId};
use presil_workloads::count::{op_macs, tensor_repeats};
use presil_workloads::einsum::Place;
use presil_workloads::{OpKind, Role, TensorId};

use super::super::engines::{Choice, array_rate};
use super::super::memory_plan::allocate::Span;
use super::super::operands::{moved, stored_operands};
use super::super::tails::is_elementwise;
use super::select::{Item, Piece, Share};
use super::{Paths, Scene};
use crate::search::Objective;
use crate::vector::Operands;

/// A use of a stored tensor by an op, in bits over all repetitions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Use {
    pub(crate) position: usize,
    pub(crate) read: f64,
    pub(crate) written: f64,
}

/// Uses of each stored tensor; views and what stays inside an epilogue have none.
pub(super) fn uses(scene: &Scene, inner: &[bool]) -> Vec<Vec<Use>> {
    let Scene { chip, graph, .. } = *scene;
    let mut uses = vec![Vec::new(); graph.tensors.len()];
    for ((id, op), repeat) in graph.ops.iter_ids().zip(graph.repeats()) {
        if op.kind == OpKind::View {
            continue;
        }
        let position = scene.position(id);
        let [inputs, outputs] = stored_operands(graph, op, |_| chip.root());
        let operands = Operands {
            inputs: &inputs,
            outputs: &outputs,
        };
        let [reads, writes] = moved(graph, op, operands);
        let lists = [(&op.inputs, reads, false), (&op.outputs, writes, true)];
        for (tensors, list, output) in lists {
            for (t, m) in tensors.iter().zip(list) {
                let stored = scene.stored(*t);
                if inner[stored] {
                    continue;
                }
                // What always is there may stay over the steps of an op.
                let lasting = matches!(graph.tensors[*t].role, Role::Weight | Role::Constant);
                let steps = if lasting { 1 } else { op.steps };
                let bits = m.elements as f64 * m.stored.bits * steps as f64 * repeat as f64;
                let (read, written) = if output { (0.0, bits) } else { (bits, 0.0) };
                uses[stored].push(Use {
                    position,
                    read,
                    written,
                });
            }
        }
    }
    uses
}

/// A tensor made within the inference, and when it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) tensor: usize,
    pub(super) span: Span,
}

/// Lives of everything made within the inference, and the pairs that are two ends of a repeated block.
pub(super) fn lives(
    scene: &Scene,
    inner: &[bool],
    uses: &[Vec<Use>],
) -> (Vec<Life>, Vec<Option<usize>>) {
    let graph = scene.graph;
    let n = graph.tensors.len();
    let mut list = Vec::new();
    let mut entering: Vec<Vec<usize>> = vec![Vec::new(); graph.blocks.len()];
    let mut leaving: Vec<Vec<usize>> = vec![Vec::new(); graph.blocks.len()];
    let block_at = |position: usize| {
        graph
            .blocks
            .partition_point(|b| (b.ops.end as usize) <= position)
    };
    for (id, t) in graph.tensors.iter_ids() {
        let at = id.0 as usize;
        let made = matches!(t.role, Role::Activation | Role::Input | Role::Output);
        if !made || inner[at] || scene.stored(id) != at {
            continue;
        }
        let positions = || uses[at].iter().map(|u| u.position);
        let (Some(mut from), Some(mut to)) = (positions().min(), positions().max()) else {
            continue;
        };
        if t.role == Role::Input {
            from = 0;
        }
        if t.role == Role::Output {
            to = graph.ops.len() - 1;
        }
        let home_block = if t.role == Role::Input {
            usize::MAX
        } else {
            block_at(from)
        };
        for block in positions().map(block_at).collect::<BTreeSet<_>>() {
            let repeats = graph.blocks.get(block).is_some_and(|b| b.repeat > 1);
            if repeats && block != home_block {
                entering[block].push(at);
            }
        }
        if graph
            .blocks
            .get(home_block)
            .is_some_and(|b| b.repeat > 1 && to >= b.ops.end as usize)
        {
            leaving[home_block].push(at);
        }
        list.push(Life {
            tensor: at,
            span: Span { from, to },
        });
    }
    // Pair what enters with what leaves by shape, in order; what enters unpaired stays for the whole block.
    let mut partner = vec![None; n];
    let mut end: Vec<usize> = vec![0; n];
    for (b, block) in graph.blocks.iter().enumerate() {
        for &x in &entering[b] {
            let shape = |t: usize| &graph.tensors[TensorId(t as u32)].shape;
            let free = leaving[b]
                .iter()
                .copied()
                .find(|y| partner[*y].is_none() && shape(*y) == shape(x));
            match free {
                Some(y) if partner[x].is_none() => {
                    partner[x] = Some(y);
                    partner[y] = Some(x);
                }
                _ => end[x] = end[x].max(block.ops.end as usize - 1),
            }
        }
    }
    for c in &mut list {
        c.span.to = c.span.to.max(end[c.tensor]);
    }
    (list, partner)
}

/// What a bit costs at each memory above a node (the node itself not).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct BitCost {
    pub(super) read: f64,
    pub(super) write: f64,
}

/// The cost of a bit at a memory, read and written.
fn unit(chip: &Chip, memory: NodeId, objective: Objective) -> BitCost {
    let Some(m) = chip.nodes[memory].memory() else {
        return BitCost::default();
    };
    let times = m.streams().map(|rate| 1.0 / (8.0 * rate.0));
    let energies = [m.read_energy.0, m.write_energy.0];
    let both = match objective {
        Objective::Latency => times,
        Objective::Energy => energies,
        Objective::Edp => {
            let root = chip.nodes[chip.root()].memory();
            let (t, e) = root.map_or((1.0, 1.0), |r| {
                let t = 1.0 / (8.0 * r.streams()[0].0);
                (t, r.read_energy.0)
            });
            let part = |x: f64, of: f64| if of > 0.0 { x / of } else { 0.0 };
            [0, 1].map(|i| part(times[i], t) + part(energies[i], e))
        }
    };
    let finite = |x: f64| if x.is_finite() { x.max(0.0) } else { 0.0 };
    BitCost {
        read: finite(both[0]),
        write: finite(both[1]),
    }
}

/// What a home in a memory saves for each bit that is read or written.
pub(super) fn saved(chip: &Chip, memory: NodeId, objective: Objective) -> BitCost {
    let mut sum = BitCost::default();
    let mut above = chip.nodes[memory].parent;
    while let Some(node) = above {
        let cost = unit(chip, node, objective);
        let next = chip.nodes[node].parent;
        if next.is_none() {
            sum.read += cost.read;
            sum.write += cost.write;
        } else if chip.nodes[node].memory().is_some() {
            // What passes by is written and read.
            sum.read += cost.read + cost.write;
            sum.write += cost.read + cost.write;
        }
        above = next;
    }
    // Where neither time nor energy is given, traffic counts.
    if sum.read <= 0.0 && sum.write <= 0.0 {
        return BitCost {
            read: 1.0,
            write: 1.0,
        };
    }
    sum
}

/// Items of activations with their shares, and the place (a representative tensor) that each tensor has.
pub(super) fn activations(
    scene: &Scene,
    paths: &Paths,
    lives: &[Life],
    partner: &[Option<usize>],
) -> (Vec<Item>, Vec<Share>, Vec<usize>) {
    let graph = scene.graph;
    let plain = |l: &Life| graph.tensors[TensorId(l.tensor as u32)].role == Role::Activation;
    let mut span: Vec<Option<Span>> = vec![None; graph.tensors.len()];
    for l in lives
        .iter()
        .filter(|l| plain(l) && paths.bytes.iter().all(|b| b[l.tensor] > 0))
    {
        span[l.tensor] = Some(l.span);
    }
    // Ends of a loop of which one may not stay: neither does.
    let tie = |t: usize| partner[t];
    let alone: Vec<usize> = (0..span.len())
        .filter(|t| span[*t].is_some() && tie(*t).is_some_and(|o| span[o].is_none()))
        .collect();
    for t in alone {
        span[t] = None;
    }
    let mut live: Vec<Vec<Span>> = span.iter().map(|s| s.iter().copied().collect()).collect();
    let mut place: Vec<usize> = (0..span.len()).collect();
    let moves = in_place(scene, &span, paths);
    let direct = |a: usize, b: usize| {
        moves
            .iter()
            .any(|m| (m.0, m.1) == (a, b) || (m.0, m.1) == (b, a))
    };
    for (x, a) in span.iter().enumerate() {
        let Some(y) = tie(x).filter(|y| *y > x) else {
            continue;
        };
        let (Some(a), Some(b)) = (*a, span[y]) else {
            continue;
        };
        let equal = paths.bytes.iter().all(|l| l[x] == l[y]);
        if equal && (!a.meets(b) || direct(x, y)) {
            place[y] = x;
        } else {
            live[x] = both(a, b);
            live[y] = both(a, b);
        }
    }
    let mut kept = Vec::new();
    for (from, to, at) in moves {
        if joins(&live, &mut place, from, to) {
            kept.push((from, to, at));
        }
    }
    let mut items: Vec<Item> = Vec::new();
    let mut index: Vec<Option<(usize, usize)>> = vec![None; span.len()];
    for t in (0..span.len()).filter(|t| span[*t].is_some()) {
        if index[t].is_some() {
            continue;
        }
        let members: Vec<usize> = std::iter::once(t).chain(tie(t)).collect();
        for (k, m) in members.iter().enumerate() {
            index[*m] = Some((items.len(), k));
        }
        items.push(item(paths, &members, |t| live[t].clone()));
    }
    let shares = kept
        .iter()
        .filter_map(|&(from, to, at)| {
            Some(Share {
                from: index[from]?,
                to: index[to]?,
                at,
            })
        })
        .collect();
    (items, shares, place)
}

/// Two spans as one list.
fn both(a: Span, b: Span) -> Vec<Span> {
    let mut list = [a, b];
    list.sort_unstable();
    if list[0].meets(list[1]) {
        return vec![Span {
            from: list[0].from,
            to: a.to.max(b.to),
        }];
    }
    list.to_vec()
}

/// An item of tensors tied to each other.
pub(super) fn item(paths: &Paths, members: &[usize], live: impl Fn(usize) -> Vec<Span>) -> Item {
    let memories = 0..paths.memories.len();
    let pieces = members
        .iter()
        .map(|&tensor| Piece {
            tensor,
            bytes: paths.bytes.iter().map(|b| b[tensor]).collect(),
            live: live(tensor),
            passes: memories.clone().map(|m| paths.passes(m, tensor)).collect(),
        })
        .collect();
    let value = |m: usize| {
        let able = members.iter().all(|t| paths.allowed(m, *t));
        able.then(|| members.iter().map(|t| paths.value(m, *t)).sum())
    };
    Item {
        pieces,
        value: memories.clone().map(value).collect(),
    }
}

/// Moves in place: the input read last, the output, and the position of an elementwise op of its own.
fn in_place(scene: &Scene, span: &[Option<Span>], paths: &Paths) -> Vec<(usize, usize, usize)> {
    let Scene { graph, tails, .. } = *scene;
    let found = graph.ops.iter_ids().filter_map(|(id, op)| {
        let own = tails.into[id.0 as usize].is_none()
            && matches!(scene.choices[id.0 as usize], Choice::Vector(_))
            && op.steps == 1
            && is_elementwise(graph, op);
        let (OpKind::Cascade(einsums), true) = (&op.kind, own) else {
            return None;
        };
        let (e, at) = (einsums.first()?, scene.position(id));
        let out = scene.stored(*op.outputs.first()?);
        let made = span[out].filter(|s| s.from == at)?;
        let takes = |i: &usize| {
            let Some(t) = op.inputs.get(*i) else {
                return false;
            };
            let stored = scene.stored(*t);
            let dies = span[stored].is_some_and(|s| s.to == at && s.from < at);
            // However often it is read, each element is read where the output's is written.
            let plain = |a: &presil_workloads::Access| match a.place {
                Place::Input(j) => {
                    let other = op.inputs.get(j as usize).map(|t| scene.stored(*t));
                    other != Some(stored) || a.ranks == e.output.ranks
                }
                _ => true,
            };
            dies && e.inputs.iter().all(plain)
                && graph.tensors[*t].elements() == graph.tensors[TensorId(out as u32)].elements()
                && paths.bytes.iter().all(|b| b[stored] == b[out])
        };
        debug_assert!(made.from == at);
        let i = (0..op.inputs.len()).find(takes)?;
        Some((scene.stored(op.inputs[i]), out, at))
    });
    found.collect()
}

/// Gives two tensors one place if none of those that share it with either live at one time otherwise.
fn joins(live: &[Vec<Span>], place: &mut [usize], from: usize, to: usize) -> bool {
    let (a, b) = (place[from], place[to]);
    if a == b {
        return true;
    }
    let members =
        |p: usize| -> Vec<usize> { (0..place.len()).filter(|t| place[*t] == p).collect() };
    let meet = |x: usize, y: usize| {
        (x, y) != (from, to) && live[x].iter().any(|s| live[y].iter().any(|t| s.meets(*t)))
    };
    let (left, right) = (members(a), members(b));
    if left.iter().any(|x| right.iter().any(|y| meet(*x, *y))) {
        return false;
    }
    // A loop whose ends are held for each other does not die where one of them is read last.
    if live[from].len() != 1 || live[to].len() != 1 || live[from][0].to != live[to][0].from {
        return false;
    }
    for t in right {
        place[t] = a;
    }
    true
}

/// A weight or cache that may stay between inferences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lasting {
    pub(super) tensor: usize,
    /// How many of it there are, one for each repetition.
    pub(super) repeats: u64,
    /// Share of what it saves that counts.
    pub(super) share: f64,
}

/// The part of a weight's fetch time that counts although the op computes meanwhile: what is fetched competes with
/// the weights of later ops.
const HIDDEN: f64 = 0.125;

/// Weights and caches that may stay, those first whose fetch is hidden least by computing.
///
/// ```text
/// hidden = min(1, time of the MACs at the array's peak / time of the fetch at the root memory's rate)
/// share  = 1 - (1 - 1/8) hidden      for time; 1 for energy; their mean for both
/// ```
pub(super) fn lasting(scene: &Scene, uses: &[Vec<Use>], objective: Objective) -> Vec<Lasting> {
    let Scene { chip, graph, .. } = *scene;
    let repeats = tensor_repeats(graph);
    let mut computing = vec![0.0f64; graph.tensors.len()];
    let mut looked_up = vec![false; graph.tensors.len()];
    for ((id, op), repeat) in graph.ops.iter_ids().zip(graph.repeats()) {
        let rate = match &scene.choices[id.0 as usize] {
            Choice::Array(engines) => engines.first().and_then(|(e, m)| array_rate(chip, *e, *m)),
            _ => None,
        };
        let work = op_macs(graph, id).1 as f64 * repeat as f64;
        let time = rate.filter(|r| *r > 0.0).map_or(0.0, |r| work / r);
        for t in &op.inputs {
            let stored = scene.stored(*t);
            computing[stored] += time;
            // A table of which a few rows are read saves nothing by its size.
            looked_up[stored] |= matches!(op.kind, OpKind::Gather { .. });
        }
    }
    let root = unit(chip, chip.root(), Objective::Latency);
    let mut list: Vec<(f64, Lasting)> = Vec::new();
    for (id, t) in graph.tensors.iter_ids() {
        let at = id.0 as usize;
        let kind = matches!(t.role, Role::Weight | Role::Cache | Role::Constant);
        if !kind || looked_up[at] || uses[at].is_empty() || scene.stored(id) != at {
            continue;
        }
        let fetch: f64 = uses[at]
            .iter()
            .map(|u| u.read * root.read + u.written * root.write)
            .sum();
        if fetch <= 0.0 {
            continue;
        }
        let busy = computing[at] / fetch;
        let shown = 1.0 - (1.0 - HIDDEN) * busy.min(1.0);
        let share = match objective {
            Objective::Latency => shown,
            Objective::Energy => 1.0,
            Objective::Edp => (1.0 + shown) / 2.0,
        };
        list.push((
            busy,
            Lasting {
                tensor: at,
                repeats: repeats[at],
                share,
            },
        ));
    }
    list.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.tensor.cmp(&b.1.tensor)));
    list.into_iter().map(|(_, l)| l).collect()
}
