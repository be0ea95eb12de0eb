//! Where tensors live: which stay on chip between ops.
//!
//! Everything is at home in the root memory unless the plan keeps it in a resident memory (`resident`, one
//! instance on the chip). Time is the index of an op; the ops of an epilogue stand at their MAC op's.
//!
//! ```text
//! live(activation) = from the op that makes it to its last reader; through a repeated block it was made before
//! live(weight, cache) = always
//! working(memory, op) = min(share x capacity, buffering x bytes of the op's operands that do not live there)
//! sum of live bytes + working <= capacity          at every op
//! ```
//!
//! The policy is greedy. Activations first, those with most accesses for each op that they stay over; then, where
//! the chip keeps weights between inferences, weights and caches with most bytes moved for each MAC. Each goes to
//! the resident memory nearest to the arrays that is on the path of every array reading or writing it, may keep
//! that operand, and has room over its whole life. Inputs and outputs of the graph, and what a host op touches,
//! stay in the root memory.
//!
//! A tensor that enters a repeated block and one of the same shape that leaves it are the two ends of one loop:
//! both stay on chip or neither.

use std::collections::{BTreeMap, BTreeSet};

use presil_hwmodels::{Chip, EngineKind, NodeId, Operand};
use presil_numerics::Bytes;
use presil_workloads::count::tensor_repeats;
use presil_workloads::einsum::Place;
use presil_workloads::{Graph, OpId, OpKind, Role, TensorId};

use super::engines::Choice;
use super::tails::Tails;

/// The largest part of a resident memory that is held free for the tiles of an op with operands elsewhere. Half
/// lets streamed tiles and kept tensors share a memory evenly.
const WORKING_SHARE: f64 = 0.5;

/// Homes, and what they take over time.
#[derive(Debug, Clone)]
pub(crate) struct Residency {
    /// For each tensor, its home.
    pub(crate) home: Vec<NodeId>,
    /// For each node and op index, the bytes that live there.
    used: Vec<Vec<u64>>,
    /// Largest bytes of activations alive at once, wherever.
    pub(crate) peak_activation: Bytes,
}

impl Residency {
    /// Capacity of one instance of a memory that is left at an op.
    pub(crate) fn left(&self, chip: &Chip, memory: NodeId, position: usize) -> Bytes {
        let capacity = chip.nodes[memory].memory().map_or(0, |m| m.capacity.0);
        let used = self.used[memory.0 as usize]
            .get(position)
            .copied()
            .unwrap_or(0);
        Bytes(capacity.saturating_sub(used))
    }
}

/// What the plan looks at.
pub(crate) struct Scene<'a> {
    pub(crate) chip: &'a Chip,
    pub(crate) graph: &'a Graph,
    pub(crate) base: &'a [TensorId],
    pub(crate) choices: &'a [Choice],
    pub(crate) tails: &'a Tails,
}

/// A tensor that may stay on chip.
#[derive(Debug, Clone, Default)]
struct Candidate {
    tensor: usize,
    bytes: u64,
    from: usize,
    to: usize,
}

impl Scene<'_> {
    fn stored(&self, t: TensorId) -> usize {
        self.base[t.0 as usize].0 as usize
    }

    /// The role of each operand of an array op: input, weight, output; the rest (bias, residual) none.
    fn array_roles(&self, op: OpId) -> Vec<(usize, Operand)> {
        let o = &self.graph.ops[op];
        let Some(e) = o.contraction() else {
            return Vec::new();
        };
        let tensor = |place: Place| match place {
            Place::Input(i) => o.inputs.get(i as usize).copied(),
            Place::Output(_) => self.output_of(op),
            Place::Local(_) => None,
        };
        let accesses = e.operands().zip(Operand::ALL);
        accesses
            .filter_map(|(a, role)| tensor(a.place).map(|t| (self.stored(t), role)))
            .collect()
    }

    /// What an op puts out once its epilogue has run.
    pub(crate) fn output_of(&self, op: OpId) -> Option<TensorId> {
        let last = self.tails.tail[op.0 as usize].last().copied().unwrap_or(op);
        self.graph.ops[last].outputs.first().copied()
    }

    /// Tensors that exist only within an epilogue.
    fn inner(&self) -> Vec<bool> {
        let mut inner = vec![false; self.graph.tensors.len()];
        for (id, tail) in self.graph.ops.ids().zip(&self.tails.tail) {
            let group = std::iter::once(id).chain(tail.iter().copied());
            for op in group.take(tail.len()) {
                for t in &self.graph.ops[op].outputs {
                    inner[self.stored(*t)] = true;
                }
            }
        }
        inner
    }
}

/// Plans homes.
pub(crate) fn plan(scene: &Scene) -> Residency {
    let Scene { chip, graph, .. } = *scene;
    let n = graph.ops.len();
    let inner = scene.inner();
    let uses = uses(scene, &inner);
    let bytes: Vec<u64> = graph
        .tensors
        .iter()
        .map(|t| t.bits().bytes_ceil().0)
        .collect();
    let (mut candidates, partner) = activations(scene, &inner, &uses, &bytes);
    let mut residency = Residency {
        home: vec![chip.root(); graph.tensors.len()],
        used: chip.nodes.iter().map(|_| Vec::new()).collect(),
        peak_activation: peak(&candidates, n),
    };
    let memories = resident_memories(chip);
    if memories.is_empty() {
        return residency;
    }
    for m in &memories {
        residency.used[m.0 as usize] = vec![0; n];
    }
    let mut room = Room::new(scene, &memories, &uses, &bytes);

    if chip.mapspace.keep_activations {
        // Most accesses for each op of its life first; then in order of the graph.
        let score = |c: &Candidate| uses[c.tensor].len() as f64 / (c.to - c.from + 1) as f64;
        let plain =
            |c: &Candidate| graph.tensors[TensorId(c.tensor as u32)].role == Role::Activation;
        candidates.retain(plain);
        let by_tensor: Vec<Candidate> = {
            let mut table = vec![Candidate::default(); graph.tensors.len()];
            for c in &candidates {
                table[c.tensor] = c.clone();
            }
            table
        };
        let mut order = candidates;
        order.sort_by(|a, b| {
            score(b)
                .total_cmp(&score(a))
                .then(a.from.cmp(&b.from))
                .then(a.tensor.cmp(&b.tensor))
        });
        let mut done = vec![false; graph.tensors.len()];
        for c in order {
            if done[c.tensor] {
                continue;
            }
            let other = partner[c.tensor].map(|p| by_tensor[p].clone());
            let both: Vec<Candidate> = std::iter::once(c).chain(other).collect();
            for c in &both {
                done[c.tensor] = true;
            }
            if both.iter().all(|c| c.bytes > 0) {
                place(&mut residency, &mut room, &memories, &both);
            }
        }
    }
    if chip.mapspace.keep_weights {
        for c in persistent(scene, &uses, &bytes) {
            place(&mut residency, &mut room, &memories, &[c]);
        }
    }
    residency
}

/// Resident memories with one instance, nearest to compute first.
fn resident_memories(chip: &Chip) -> Vec<NodeId> {
    let able = |id: &NodeId| {
        *id != chip.root()
            && chip.nodes[*id].instances == 1
            && chip.nodes[*id].memory().is_some_and(|m| m.resident)
    };
    chip.nodes.ids().rev().filter(able).collect()
}

/// Where ops read or write each stored tensor; views and what stays inside an epilogue have none.
fn uses(scene: &Scene, inner: &[bool]) -> Vec<Vec<usize>> {
    let mut uses = vec![Vec::new(); scene.graph.tensors.len()];
    for (id, op) in scene.graph.ops.iter_ids() {
        if op.kind == OpKind::View {
            continue;
        }
        let position = scene.tails.position[id.0 as usize];
        for t in op.inputs.iter().chain(&op.outputs) {
            let stored = scene.stored(*t);
            if !inner[stored] {
                uses[stored].push(position);
            }
        }
    }
    uses
}

/// Lives of everything made within the inference, and the pairs that are two ends of a repeated block.
fn activations(
    scene: &Scene,
    inner: &[bool],
    uses: &[Vec<usize>],
    bytes: &[u64],
) -> (Vec<Candidate>, Vec<Option<usize>>) {
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
        let positions = || uses[at].iter().copied();
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
        list.push(Candidate {
            tensor: at,
            bytes: bytes[at],
            from,
            to,
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
        c.to = c.to.max(end[c.tensor]);
    }
    (list, partner)
}

fn peak(live: &[Candidate], ops: usize) -> Bytes {
    let mut change = vec![0i128; ops + 1];
    for c in live {
        change[c.from] += i128::from(c.bytes);
        change[c.to + 1] -= i128::from(c.bytes);
    }
    let (mut now, mut most) = (0i128, 0i128);
    for c in change {
        now += c;
        most = most.max(now);
    }
    Bytes(u64::try_from(most).unwrap_or(u64::MAX))
}

/// Weights and caches, those that save most traffic for each MAC first.
fn persistent(scene: &Scene, uses: &[Vec<usize>], bytes: &[u64]) -> Vec<Candidate> {
    let graph = scene.graph;
    let repeats = tensor_repeats(graph);
    let last = graph.ops.len().saturating_sub(1);
    let mut macs = vec![0u128; graph.tensors.len()];
    let mut looked_up = vec![false; graph.tensors.len()];
    for (id, op) in graph.ops.iter_ids() {
        let work = presil_workloads::count::op_macs(graph, id).1;
        for t in &op.inputs {
            let stored = scene.stored(*t);
            macs[stored] = macs[stored].max(work);
            // A table of which a few rows are read saves nothing by its size.
            looked_up[stored] |= matches!(op.kind, OpKind::Gather { .. });
        }
    }
    let mut list: Vec<(f64, Candidate)> = Vec::new();
    for (id, t) in graph.tensors.iter_ids() {
        let at = id.0 as usize;
        let kind = matches!(t.role, Role::Weight | Role::Cache | Role::Constant);
        if !kind || looked_up[at] || uses[at].is_empty() || scene.stored(id) != at || bytes[at] == 0
        {
            continue;
        }
        let Some(all) = bytes[at].checked_mul(repeats[at]) else {
            continue;
        };
        list.push((
            macs[at] as f64 / bytes[at] as f64,
            Candidate {
                tensor: at,
                bytes: all,
                from: 0,
                to: last,
            },
        ));
    }
    list.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.tensor.cmp(&b.1.tensor)));
    list.into_iter().map(|(_, c)| c).collect()
}

/// What may go where, and what is taken.
struct Room<'a> {
    scene: &'a Scene<'a>,
    uses: &'a [Vec<usize>],
    bytes: &'a [u64],
    /// For each tensor, whether some use keeps it in the root memory.
    root_only: Vec<bool>,
    /// For each tensor, its roles on arrays.
    roles: Vec<Vec<(OpId, Operand)>>,
    /// For each memory (in order) and op, bytes of operands that the op brings there and that live elsewhere.
    away: Vec<Vec<u64>>,
}

impl<'a> Room<'a> {
    fn new(
        scene: &'a Scene<'a>,
        memories: &[NodeId],
        uses: &'a [Vec<usize>],
        bytes: &'a [u64],
    ) -> Self {
        let graph = scene.graph;
        let mut root_only = vec![false; graph.tensors.len()];
        let mut roles = vec![Vec::new(); graph.tensors.len()];
        for (id, op) in graph.ops.iter_ids() {
            match &scene.choices[id.0 as usize] {
                Choice::Host(..) | Choice::Unsupported(_) => {
                    for t in op.inputs.iter().chain(&op.outputs) {
                        root_only[scene.stored(*t)] = true;
                    }
                }
                Choice::Array(_) => {
                    for (t, role) in scene.array_roles(id) {
                        roles[t].push((id, role));
                    }
                }
                _ => {}
            }
        }
        let mut room = Self {
            scene,
            uses,
            bytes,
            root_only,
            roles,
            away: Vec::new(),
        };
        room.away = memories.iter().map(|m| room.brought(*m)).collect();
        room
    }

    /// For each op, the bytes of its operands that pass through a memory.
    fn brought(&self, memory: NodeId) -> Vec<u64> {
        let mut sum = vec![0u64; self.scene.graph.ops.len()];
        for (t, uses) in self.uses.iter().enumerate() {
            for &p in uses {
                if self.passes(memory, t, p) {
                    sum[p] = sum[p].saturating_add(self.bytes[t]);
                }
            }
        }
        sum
    }

    /// Whether an op has part of a tensor in a memory while it works: an array that keeps that operand there.
    fn passes(&self, memory: NodeId, tensor: usize, position: usize) -> bool {
        let role = self.roles[tensor]
            .iter()
            .find(|(op, _)| op.0 as usize == position);
        role.is_some_and(|(op, role)| self.keeps(memory, *op, *role))
    }

    /// Whether a memory is on the path of an op's arrays and may keep an operand.
    fn keeps(&self, memory: NodeId, op: OpId, role: Operand) -> bool {
        let chip = self.scene.chip;
        let Choice::Array(engines) = &self.scene.choices[op.0 as usize] else {
            return false;
        };
        chip.nodes[memory]
            .memory()
            .is_some_and(|m| m.keeps.has(role))
            && engines.iter().all(|(e, _)| match chip.engines[*e].kind {
                EngineKind::Array { compute, .. } => chip.path(compute).contains(&memory),
                _ => false,
            })
    }

    fn allowed(&self, memory: NodeId, tensor: usize) -> bool {
        !self.root_only[tensor]
            && self.roles[tensor]
                .iter()
                .all(|(op, role)| self.keeps(memory, *op, *role))
    }
}

/// Places candidates together in the first memory that has room for all of them.
fn place(
    residency: &mut Residency,
    room: &mut Room,
    memories: &[NodeId],
    group: &[Candidate],
) -> bool {
    for (slot, &memory) in memories.iter().enumerate() {
        if group.iter().all(|c| room.allowed(memory, c.tensor))
            && fits(residency, room, slot, memory, group)
        {
            for c in group {
                residency.home[c.tensor] = memory;
                for used in &mut residency.used[memory.0 as usize][c.from..=c.to] {
                    *used += c.bytes;
                }
                for &p in &room.uses[c.tensor] {
                    if room.passes(memory, c.tensor, p) {
                        room.away[slot][p] =
                            room.away[slot][p].saturating_sub(room.bytes[c.tensor]);
                    }
                }
            }
            return true;
        }
    }
    false
}

/// Whether a memory holds candidates beside what lives there and what ops need to work, at every op.
fn fits(
    residency: &Residency,
    room: &Room,
    slot: usize,
    memory: NodeId,
    group: &[Candidate],
) -> bool {
    let Some(m) = room.scene.chip.nodes[memory].memory() else {
        return false;
    };
    let capacity = m.capacity.0 as f64;
    let share = capacity * WORKING_SHARE;
    let used = &residency.used[memory.0 as usize];
    group.iter().all(|c| {
        // Own uses need no working space once it lives here.
        let own: BTreeMap<usize, u64> = {
            let here = room.uses[c.tensor]
                .iter()
                .filter(|p| room.passes(memory, c.tensor, **p));
            here.fold(BTreeMap::new(), |mut sum, p| {
                *sum.entry(*p).or_insert(0) += room.bytes[c.tensor];
                sum
            })
        };
        (c.from..=c.to).all(|p| {
            let others = group
                .iter()
                .filter(|o| o.from <= p && p <= o.to)
                .map(|o| o.bytes as f64)
                .sum::<f64>();
            let away = room.away[slot][p].saturating_sub(own.get(&p).copied().unwrap_or(0)) as f64;
            let working = share.min(away * f64::from(m.buffering));
            used[p] as f64 + others + working <= capacity
        })
    })
}
