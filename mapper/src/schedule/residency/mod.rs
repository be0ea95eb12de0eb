//! Where tensors live: which stay on chip between ops, and at which addresses.
//!
//! Everything is at home in the root memory unless the plan keeps it in a resident memory (`resident`, one
//! instance on the chip). Activations stay where the chip's compiler keeps them (`keep_activations`), weights and
//! caches where it keeps those between inferences (`keep_weights`). A tensor may be at home in a memory that is on
//! the path of every array reading or writing it and that may keep that operand; inputs and outputs of the graph,
//! and what a host op touches, stay in the root memory.
//!
//! - `candidates`: what may stay, when it lives, what that saves; `paths`: where it may be and what it takes;
//! - `select`: the choice of most saved cost under capacity over time, with `load`, `programme`, `greedy`;
//! - then each memory's tensors get addresses. Where they cannot be placed without gaps that push them over the
//!   capacity, the one of least value among those beyond it goes to the root memory, until they can.
//!
//! What is allowed on chip but is not there is a spill: each of its uses is traffic of the root memory.

mod candidates;
mod greedy;
mod load;
mod paths;
mod programme;
mod select;

use presil_hwmodels::{Chip, NodeId, Operand};
use presil_numerics::Bytes;
use presil_workloads::einsum::Place;
use presil_workloads::{Graph, OpId, TensorId};

use super::engines::Choice;
use super::layout::Layout;
use super::memory_plan::allocate::{Allocation, Block, Span, allocate};
use super::memory_plan::{Cause, Spill};
use super::tails::Tails;
use crate::search::Objective;
use candidates::{Life, Use};
use paths::Paths;
use select::{Choices, Item, Selection, Space};

/// A tensor at home in a resident memory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resident {
    pub(crate) tensor: TensorId,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) live: Vec<Span>,
    /// None for a tile.
    pub(crate) layout: Option<Layout>,
    /// Whether it is a tile of a fused group, not the whole tensor.
    pub(crate) tile: bool,
}

/// A tile that a fused group has in a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupTile {
    pub(crate) memory: NodeId,
    pub(crate) tensor: TensorId,
    pub(crate) bytes: u64,
    pub(crate) live: Span,
}

/// What fused groups need.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Reserved {
    /// Tensors that exist only as tiles.
    pub(crate) inner: Vec<TensorId>,
    pub(crate) tiles: Vec<GroupTile>,
    /// Positions at which groups run.
    pub(crate) positions: Vec<usize>,
    /// Bytes that tiles of an op there take in a memory.
    pub(crate) passing: Vec<(NodeId, usize, u64)>,
}

/// What a resident memory holds between ops.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    pub(crate) memory: NodeId,
    pub(crate) residents: Vec<Resident>,
    pub(crate) allocation: Allocation,
}

/// Homes, and what they take over time.
#[derive(Debug, Clone)]
pub(crate) struct Residency {
    /// For each tensor, its home.
    pub(crate) home: Vec<NodeId>,
    /// For each node and position, the bytes that live there.
    used: Vec<Vec<u64>>,
    /// For each resident memory, its tensors.
    pub(crate) held: Vec<Held>,
    /// What might have stayed but did not.
    pub(crate) spills: Vec<Spill>,
    /// Largest bytes of activations alive at once, wherever.
    pub(crate) peak_activation: Bytes,
    /// What homes on chip save, in units of the objective.
    pub(crate) saved: f64,
    /// Whether no other choice saves more.
    pub(crate) optimal: bool,
    /// Bits read from and written to the root memory by the activations at home there, each use once.
    pub(crate) root_bits: (f64, f64),
}

impl Residency {
    /// Capacity of one instance of a memory that is left at a position.
    pub(crate) fn left(&self, chip: &Chip, memory: NodeId, position: usize) -> Bytes {
        let capacity = chip.nodes[memory].memory().map_or(0, |m| m.capacity.0);
        let used = self.used[memory.0 as usize]
            .get(position)
            .copied()
            .unwrap_or(0);
        Bytes(capacity.saturating_sub(used))
    }

    /// Homes that are given, with the bytes taken in each node at each position.
    pub(crate) fn given(home: Vec<NodeId>, used: Vec<Vec<u64>>, held: Vec<Held>) -> Self {
        Self {
            home,
            used,
            held,
            spills: Vec::new(),
            peak_activation: Bytes::ZERO,
            saved: 0.0,
            optimal: true,
            root_bits: (0.0, 0.0),
        }
    }

    /// Bytes that some tensors take in a memory at a position.
    pub(crate) fn taken_by(&self, memory: NodeId, position: usize, tensors: &[TensorId]) -> u64 {
        let held = self.held.iter().filter(|h| h.memory == memory);
        let here = |r: &&Resident| {
            tensors.contains(&r.tensor) && !r.tile && r.live.iter().any(|s| s.has(position))
        };
        held.flat_map(|h| &h.residents)
            .filter(here)
            .fold(0, |s, r| s.saturating_add(r.bytes))
    }

    /// Bytes of fused groups' tiles in a memory at a position.
    pub(crate) fn tiles_at(&self, memory: NodeId, position: usize) -> u64 {
        let held = self.held.iter().filter(|h| h.memory == memory);
        let here = |r: &&Resident| r.tile && r.live.iter().any(|s| s.has(position));
        held.flat_map(|h| &h.residents)
            .filter(here)
            .fold(0, |s, r| s.saturating_add(r.bytes))
    }

    /// The same with a part of what is left in some memories, for an op that shares them with others.
    pub(crate) fn part(
        &self,
        chip: &Chip,
        (part, of): (u64, u64),
        positions: usize,
        shared: impl Fn(NodeId) -> bool,
    ) -> Self {
        let mut narrow = self.clone();
        for ((node, at), used) in chip.nodes.iter_ids().zip(&mut narrow.used) {
            let capacity = at.memory().map_or(0, |m| m.capacity.0);
            if !shared(node) {
                continue;
            }
            let left = |position: usize| {
                let all = u128::from(self.left(chip, node, position).0);
                u64::try_from(all * u128::from(part) / u128::from(of.max(1))).unwrap_or(capacity)
            };
            *used = (0..positions)
                .map(|p| capacity.saturating_sub(left(p)))
                .collect();
        }
        narrow
    }

    /// A residency with homes as given: of one memory a part is left for tiles, of another so many bytes are taken.
    pub(crate) fn at(
        &self,
        chip: &Chip,
        home: impl Fn(TensorId) -> NodeId,
        (tiles, part): (NodeId, u64),
        (taken, bytes): (NodeId, u64),
        positions: usize,
    ) -> Self {
        let mut other = self.clone();
        for (t, slot) in other.home.iter_mut().enumerate() {
            *slot = home(TensorId(t as u32));
        }
        for ((node, at), used) in chip.nodes.iter_ids().zip(&mut other.used) {
            let capacity = at.memory().map_or(0, |m| m.capacity.0);
            let amount = if node == tiles && node != chip.root() {
                capacity - capacity / part.max(1)
            } else if node == taken {
                bytes.min(capacity)
            } else {
                0
            };
            *used = vec![amount; positions];
        }
        other.held.clear();
        other
    }

    /// Whether something was spilled for want of room.
    pub(crate) fn short(&self) -> bool {
        let room = |s: &Spill| matches!(s.cause, Cause::Room | Cause::Gaps);
        self.spills.iter().any(room)
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

impl Scene<'_> {
    pub(crate) fn stored(&self, t: TensorId) -> usize {
        self.base[t.0 as usize].0 as usize
    }

    /// Where an op stands in time.
    pub(crate) fn position(&self, op: OpId) -> usize {
        self.tails.position[op.0 as usize]
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
    pub(crate) fn inner(&self) -> Vec<bool> {
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

/// Plans homes and addresses. `alignment`: offsets are multiples of it and of the memory's word.
pub(crate) fn plan(
    scene: &Scene,
    objective: Objective,
    alignment: Bytes,
    reserved: &Reserved,
) -> Residency {
    let Scene { chip, graph, .. } = *scene;
    let mut inner = scene.inner();
    for t in &reserved.inner {
        inner[t.0 as usize] = true;
    }
    let uses = candidates::uses(scene, &inner);
    let (lives, partner) = candidates::lives(scene, &inner, &uses);
    let paths = Paths::new(scene, &uses, objective, alignment);
    let (mut choices, place) = choices(scene, &paths, &lives, &partner, &uses, objective);
    reserve(&mut choices, &paths, reserved);
    let mut selection = select::select(&choices);
    select::closer(&choices, &mut selection);
    let mut gaps = vec![false; graph.tensors.len()];
    let mut held = Vec::new();
    for (m, &memory) in paths.memories.iter().enumerate() {
        let capacity = choices.memories[m].capacity;
        let tiles: Vec<&GroupTile> = reserved
            .tiles
            .iter()
            .filter(|t| t.memory == memory)
            .collect();
        let list = loop {
            let list = address(&choices, &selection, &place, m, paths.step[m], &tiles);
            match evict(&choices, &mut selection, &list, m, capacity) {
                Some(tensors) => tensors.into_iter().for_each(|t| gaps[t] = true),
                None => break list,
            }
        };
        held.push(Held {
            memory,
            residents: residents(&list, &tiles, |t| paths.layout(t, memory)),
            allocation: list.1,
        });
    }
    let home = homes(chip, graph, &choices, &selection, &paths);
    let spills = spills(scene, &choices, &selection, &paths, &uses, &gaps);
    let at_root = |l: &&Life| home[l.tensor] == chip.root();
    let root_bits = lives
        .iter()
        .filter(at_root)
        .flat_map(|l| &uses[l.tensor])
        .fold((0.0, 0.0), |(r, w), u| (r + u.read, w + u.written));
    Residency {
        used: used(chip, graph, &held),
        peak_activation: peak(graph, &lives),
        saved: value(&choices, &selection),
        optimal: selection.optimal && !gaps.contains(&true),
        home,
        held,
        spills,
        root_bits,
    }
}

/// Items and memories to choose from, and the place of each tensor.
fn choices(
    scene: &Scene,
    paths: &Paths,
    lives: &[Life],
    partner: &[Option<usize>],
    uses: &[Vec<Use>],
    objective: Objective,
) -> (Choices, Vec<usize>) {
    let Scene { chip, graph, .. } = *scene;
    let positions = graph.ops.len();
    let (mut items, mut shares) = (Vec::new(), Vec::new());
    let mut place: Vec<usize> = (0..graph.tensors.len()).collect();
    if chip.mapspace.keep_activations {
        (items, shares, place) = candidates::activations(scene, paths, lives, partner);
    }
    let always = Span {
        from: 0,
        to: positions.saturating_sub(1),
    };
    let mut lasting = Vec::new();
    if chip.mapspace.keep_weights {
        for l in candidates::lasting(scene, uses, objective) {
            let mut item = candidates::item(paths, &[l.tensor], |_| vec![always]);
            for bytes in item.pieces.iter_mut().flat_map(|p| &mut p.bytes) {
                *bytes = bytes.saturating_mul(l.repeats);
            }
            for value in item.value.iter_mut().flatten() {
                *value *= l.share;
            }
            lasting.push(item);
        }
    }
    let memories = paths
        .memories
        .iter()
        .enumerate()
        .map(|(m, node)| {
            let memory = chip.nodes[*node].memory();
            Space {
                capacity: memory.map_or(0, |m| m.capacity.0),
                buffering: memory.map_or(1, |m| u64::from(m.buffering)),
                passing: paths.passing(m),
                reserved: vec![0; positions],
            }
        })
        .collect();
    let choices = Choices {
        positions,
        memories,
        items,
        shares,
        lasting,
    };
    (choices, place)
}

/// Takes what groups need out of what tensors may take. Tiles of an op in a group have what the group's own leave:
/// rounding of either never makes a position that nothing fits.
fn reserve(choices: &mut Choices, paths: &Paths, reserved: &Reserved) {
    for (m, (space, memory)) in choices.memories.iter_mut().zip(&paths.memories).enumerate() {
        for t in reserved.tiles.iter().filter(|t| t.memory == *memory) {
            let bytes = t
                .bytes
                .checked_next_multiple_of(paths.step[m])
                .unwrap_or(u64::MAX);
            for held in &mut space.reserved[t.live.from..=t.live.to] {
                *held = held.saturating_add(bytes);
            }
        }
        for p in &reserved.positions {
            space.passing[*p] = 0;
        }
        for (_, p, bytes) in reserved.passing.iter().filter(|p| p.0 == *memory) {
            space.passing[*p] += bytes.div_ceil(space.buffering.max(1));
        }
        for p in &reserved.positions {
            let left = space.capacity.saturating_sub(space.reserved[*p]);
            space.passing[*p] = space.passing[*p].min(left / space.buffering.max(1));
        }
    }
}

/// Items at home in a memory, activations first, by their index among all.
fn at_home<'a>(
    choices: &'a Choices,
    selection: &'a Selection,
    memory: usize,
) -> impl Iterator<Item = (usize, &'a Item)> + 'a {
    let all = choices.items.iter().chain(&choices.lasting);
    let homes = selection.items.iter().chain(&selection.lasting);
    let here = all.zip(homes).enumerate();
    here.filter(move |(_, (_, home))| **home == Some(memory))
        .map(|(i, (item, _))| (i, item))
}

/// A tensor in a place.
struct Member {
    tensor: usize,
    bytes: u64,
    live: Vec<Span>,
    /// Its item among all.
    item: usize,
}

/// Tensors by place, and the addresses of the places.
type Addresses = (Vec<Vec<Member>>, Allocation);

/// Addresses of what is at home in a memory.
fn address(
    choices: &Choices,
    selection: &Selection,
    place: &[usize],
    memory: usize,
    alignment: u64,
    tiles: &[&GroupTile],
) -> Addresses {
    let mut blocks: Vec<Vec<Member>> = Vec::new();
    let mut block_of = vec![None; place.len()];
    for (i, item) in at_home(choices, selection, memory) {
        for piece in &item.pieces {
            let slot = *block_of[place[piece.tensor]].get_or_insert_with(|| {
                blocks.push(Vec::new());
                blocks.len() - 1
            });
            blocks[slot].push(Member {
                tensor: piece.tensor,
                bytes: piece.bytes[memory],
                live: piece.live.clone(),
                item: i,
            });
        }
    }
    let mut sized: Vec<Block> = blocks
        .iter()
        .map(|members| {
            let mut live: Vec<Span> = members
                .iter()
                .flat_map(|m| m.live.iter().copied())
                .collect();
            live.sort_unstable();
            Block {
                bytes: members.iter().map(|m| m.bytes).max().unwrap_or(0),
                live,
            }
        })
        .collect();
    sized.extend(tiles.iter().map(|t| Block {
        bytes: t.bytes,
        live: vec![t.live],
    }));
    let allocation = allocate(&sized, alignment);
    (blocks, allocation)
}

/// Sends the item of least value that lies beyond a memory's capacity to the root memory; returns its tensors.
fn evict(
    choices: &Choices,
    selection: &mut Selection,
    (blocks, allocation): &Addresses,
    memory: usize,
    capacity: u64,
) -> Option<Vec<usize>> {
    if allocation.peak <= capacity {
        return None;
    }
    let n = choices.items.len();
    let item = |i: usize| {
        choices
            .items
            .get(i)
            .unwrap_or_else(|| &choices.lasting[i - n])
    };
    let beyond = blocks
        .iter()
        .zip(&allocation.offsets)
        .filter(|(members, offset)| {
            let bytes = members.iter().map(|m| m.bytes).max().unwrap_or(0);
            offset.saturating_add(bytes) > capacity
        });
    let worth = |i: usize| item(i).value[memory].unwrap_or(0.0);
    let least = beyond
        .flat_map(|(members, _)| members.iter().map(|m| m.item))
        .min_by(|a, b| worth(*a).total_cmp(&worth(*b)).then(a.cmp(b)))?;
    match least.checked_sub(n) {
        Some(l) => selection.lasting[l] = None,
        None => selection.items[least] = None,
    }
    selection.value -= worth(least);
    Some(item(least).pieces.iter().map(|p| p.tensor).collect())
}

fn residents(
    (blocks, allocation): &Addresses,
    tiles: &[&GroupTile],
    layout: impl Fn(usize) -> Layout,
) -> Vec<Resident> {
    let mut list: Vec<Resident> = blocks
        .iter()
        .zip(&allocation.offsets)
        .flat_map(|(members, offset)| members.iter().map(move |m| (m, *offset)))
        .map(|(m, offset)| Resident {
            tensor: TensorId(m.tensor as u32),
            offset,
            bytes: m.bytes,
            live: m.live.clone(),
            layout: Some(layout(m.tensor)),
            tile: false,
        })
        .collect();
    let offsets = allocation.offsets.get(blocks.len()..).unwrap_or_default();
    list.extend(tiles.iter().zip(offsets).map(|(t, offset)| Resident {
        tensor: t.tensor,
        offset: *offset,
        bytes: t.bytes,
        live: vec![t.live],
        layout: None,
        tile: true,
    }));
    list.sort_by_key(|r| (r.live.first().copied(), r.offset, r.tensor));
    list
}

fn homes(
    chip: &Chip,
    graph: &Graph,
    choices: &Choices,
    selection: &Selection,
    paths: &Paths,
) -> Vec<NodeId> {
    let mut home = vec![chip.root(); graph.tensors.len()];
    for (m, memory) in paths.memories.iter().enumerate() {
        for piece in at_home(choices, selection, m).flat_map(|(_, i)| &i.pieces) {
            home[piece.tensor] = *memory;
        }
    }
    home
}

fn value(choices: &Choices, selection: &Selection) -> f64 {
    let all = choices.items.iter().chain(&choices.lasting);
    let homes = selection.items.iter().chain(&selection.lasting);
    all.zip(homes)
        .filter_map(|(item, home)| home.and_then(|m| item.value[m]))
        .fold(0.0, |s, v| s + v)
}

/// Bytes taken in each node at each position: tensors in one place count once.
fn used(chip: &Chip, graph: &Graph, held: &[Held]) -> Vec<Vec<u64>> {
    let mut used: Vec<Vec<u64>> = chip.nodes.iter().map(|_| Vec::new()).collect();
    for h in held {
        let mut here = vec![0u64; graph.ops.len()];
        for (p, sum) in here.iter_mut().enumerate() {
            let mut now: Vec<(u64, u64)> = h
                .residents
                .iter()
                .filter(|r| r.live.iter().any(|s| s.has(p)))
                .map(|r| (r.offset, r.bytes))
                .collect();
            now.sort_unstable_by_key(|r| (r.0, std::cmp::Reverse(r.1)));
            now.dedup_by_key(|r| r.0);
            *sum = now.iter().fold(0, |s, r| s.saturating_add(r.1));
        }
        used[h.memory.0 as usize] = here;
    }
    used
}

fn peak(graph: &Graph, lives: &[Life]) -> Bytes {
    let mut change = vec![0i128; graph.ops.len() + 1];
    for l in lives {
        let bytes = graph.tensors[TensorId(l.tensor as u32)]
            .bits()
            .bytes_ceil()
            .0;
        change[l.span.from] += i128::from(bytes);
        change[l.span.to + 1] -= i128::from(bytes);
    }
    let (mut now, mut most) = (0i128, 0i128);
    for c in change {
        now += c;
        most = most.max(now);
    }
    Bytes(u64::try_from(most).unwrap_or(u64::MAX))
}

/// Activations that might have stayed but did not.
fn spills(
    scene: &Scene,
    choices: &Choices,
    selection: &Selection,
    paths: &Paths,
    uses: &[Vec<Use>],
    gaps: &[bool],
) -> Vec<Spill> {
    let mut list = Vec::new();
    for (item, _) in choices
        .items
        .iter()
        .zip(&selection.items)
        .filter(|(_, h)| h.is_none())
    {
        let able = item.value.iter().any(Option::is_some);
        for piece in &item.pieces {
            let cause = if gaps[piece.tensor] {
                Cause::Gaps
            } else if able {
                Cause::Room
            } else if paths.root_only(piece.tensor) {
                Cause::Host
            } else {
                Cause::Path
            };
            let sum = |f: fn(&Use) -> f64| uses[piece.tensor].iter().map(f).sum::<f64>() / 8.0;
            list.push(Spill {
                tensor: TensorId(piece.tensor as u32),
                cause,
                written_bytes: sum(|u| u.written),
                read_bytes: sum(|u| u.read),
            });
        }
    }
    debug_assert!(
        list.iter()
            .all(|s| scene.stored(s.tensor) == s.tensor.0 as usize)
    );
    list
}
