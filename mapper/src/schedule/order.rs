//! An order of ops in which less is alive at once.
//!
//! ```text
//! node           a MAC op with its epilogue, or an op of its own
//! before(v)      nodes that make what v reads, that read what v overwrites, and the makers of its views
//! done set S     nodes that ran; with v in S all of before(v) is in S
//! mem(S)         bytes of activations that exist once S ran and are read later (or leave the block)
//! peak(order)    = max over its nodes v of mem(S before v) + bytes that v makes
//! ```
//!
//! `mem` depends on the set and not on its order, so the least peak of a set is found from those of its subsets
//! with one node less: dynamic programming over done sets, by size. A graph has few of them where few branches
//! run side by side (n + 1 for a chain of n, (n + 1)(m + 1) for two branches). Beyond [`SETS`] of one size those
//! of highest peak are dropped: the order is then good, not proven best. Sets that reach the peak of the order as
//! given are dropped as well: they lead nowhere better.
//!
//! Each block is ordered by itself and stays a block. What the capacity allows is as good as nothing: peaks below
//! it count as it. Ties keep the order as given.

use presil_workloads::{Graph, OpId, OpKind, Role, TensorId};
use rustc_hash::FxHashMap;

use super::tails::Tails;

/// Done sets of one size.
const SETS: usize = 4096;

/// An order of lower peak than the graph's own, if one is found; `enough`: bytes that need no better order.
pub(crate) fn lower_peak(
    graph: &Graph,
    base: &[TensorId],
    tails: &Tails,
    enough: u64,
) -> Option<Vec<OpId>> {
    let alive = Alive::new(graph, base, tails);
    let before = dependences(graph, base, tails);
    let mut order: Vec<OpId> = Vec::with_capacity(graph.ops.len());
    let mut better = false;
    for block in &graph.blocks {
        let own = |o: &usize| tails.into[*o].is_none();
        let range = block.ops.start as usize..block.ops.end as usize;
        let nodes: Vec<usize> = range.clone().filter(own).collect();
        let part = Part::new(&alive, &before, &nodes);
        let found = part.best(enough);
        better |= found.is_some();
        let sequence = found.unwrap_or_else(|| (0..nodes.len()).collect());
        for node in sequence {
            let root = nodes[node];
            order.push(OpId(root as u32));
            order.extend(&tails.tail[root]);
        }
    }
    (better && order.len() == graph.ops.len()).then_some(order)
}

/// For each op that is a node, the nodes that run before it.
pub(crate) fn dependences(graph: &Graph, base: &[TensorId], tails: &Tails) -> Vec<Vec<usize>> {
    let node = |op: OpId| tails.into[op.0 as usize].unwrap_or(op).0 as usize;
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); graph.ops.len()];
    let mut writer: Vec<Option<usize>> = vec![None; graph.tensors.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.tensors.len()];
    let mut view: Vec<Option<usize>> = vec![None; graph.tensors.len()];
    for (id, op) in graph.ops.iter_ids() {
        let me = node(id);
        let mut add = |other: usize| {
            if other != me && !before[me].contains(&other) {
                before[me].push(other);
            }
        };
        for t in &op.inputs {
            let stored = base[t.0 as usize].0 as usize;
            writer[stored].into_iter().for_each(&mut add);
            view[t.0 as usize].into_iter().for_each(&mut add);
            readers[stored].push(me);
        }
        for t in &op.outputs {
            if op.kind == OpKind::View {
                view[t.0 as usize] = Some(me);
                continue;
            }
            let stored = base[t.0 as usize].0 as usize;
            writer[stored].into_iter().for_each(&mut add);
            readers[stored].drain(..).for_each(&mut add);
            writer[stored] = Some(me);
        }
    }
    before
}

/// Activations by node: bytes, who makes and who reads them.
struct Alive {
    bytes: Vec<u64>,
    made: Vec<Vec<usize>>,
    read: Vec<Vec<usize>>,
    readers: Vec<Vec<usize>>,
}

impl Alive {
    fn new(graph: &Graph, base: &[TensorId], tails: &Tails) -> Self {
        let n = graph.ops.len();
        let mut alive = Self {
            bytes: vec![0; graph.tensors.len()],
            made: vec![Vec::new(); n],
            read: vec![Vec::new(); n],
            readers: vec![Vec::new(); graph.tensors.len()],
        };
        for (id, t) in graph.tensors.iter_ids() {
            let counted = t.role == Role::Activation && base[id.0 as usize] == id;
            if counted {
                alive.bytes[id.0 as usize] = t.bits().bytes_ceil().0;
            }
        }
        for (id, op) in graph
            .ops
            .iter_ids()
            .filter(|(_, op)| op.kind != OpKind::View)
        {
            let node = tails.into[id.0 as usize].unwrap_or(id).0 as usize;
            for t in &op.inputs {
                let stored = base[t.0 as usize].0 as usize;
                if !alive.readers[stored].contains(&node) {
                    alive.readers[stored].push(node);
                    alive.read[node].push(stored);
                }
            }
            for t in &op.outputs {
                let stored = base[t.0 as usize].0 as usize;
                if !alive.made[node].contains(&stored) {
                    alive.made[node].push(stored);
                }
            }
        }
        // What stays within an epilogue is never alive.
        for node in 0..n {
            let within = |t: &usize| {
                alive.readers[*t].iter().all(|r| *r == node) && !alive.readers[*t].is_empty()
            };
            let inner: Vec<usize> = alive.made[node].iter().copied().filter(within).collect();
            for t in inner {
                alive.bytes[t] = 0;
            }
        }
        alive
    }
}

/// A block: its nodes by index, what each waits for, makes and ends.
struct Part {
    before: Vec<Vec<usize>>,
    made: Vec<u64>,
    /// For each node, the tensors that it reads (by index among those of the block).
    read: Vec<Vec<usize>>,
    /// For each tensor its bytes and readers; one that leaves the block has a reader that never runs.
    bytes: Vec<u64>,
    readers: Vec<Vec<usize>>,
    /// Bytes that a node makes and nobody reads.
    lost: Vec<u64>,
    entering: u64,
}

/// A done set's best way: its peak, the bytes that are left, the set before (by index) and the last node.
#[derive(Debug, Clone, Copy)]
struct Way {
    peak: u64,
    mem: u64,
    from: u32,
    node: u32,
}

impl Part {
    fn new(alive: &Alive, before: &[Vec<usize>], nodes: &[usize]) -> Self {
        let n = nodes.len();
        let index = |op: usize| nodes.binary_search(&op).ok();
        let mut part = Self {
            before: nodes
                .iter()
                .map(|v| before[*v].iter().filter_map(|b| index(*b)).collect())
                .collect(),
            made: vec![0; n],
            read: vec![Vec::new(); n],
            bytes: Vec::new(),
            readers: Vec::new(),
            lost: vec![0; n],
            entering: 0,
        };
        let mut known: FxHashMap<usize, usize> = FxHashMap::default();
        for (v, op) in nodes.iter().enumerate() {
            let touched = alive.made[*op].iter().map(|t| (*t, true));
            for (t, made) in touched.chain(alive.read[*op].iter().map(|t| (*t, false))) {
                if alive.bytes[t] == 0 {
                    continue;
                }
                let inside: Vec<usize> =
                    alive.readers[t].iter().filter_map(|r| index(*r)).collect();
                if made && alive.readers[t].is_empty() {
                    part.made[v] = part.made[v].saturating_add(alive.bytes[t]);
                    part.lost[v] = part.lost[v].saturating_add(alive.bytes[t]);
                    continue;
                }
                let slot = *known.entry(t).or_insert_with(|| {
                    let mut readers = inside.clone();
                    if readers.len() < alive.readers[t].len() {
                        readers.push(usize::MAX);
                    }
                    part.bytes.push(alive.bytes[t]);
                    part.readers.push(readers);
                    if !made {
                        part.entering = part.entering.saturating_add(alive.bytes[t]);
                    }
                    part.bytes.len() - 1
                });
                if made {
                    part.made[v] = part.made[v].saturating_add(alive.bytes[t]);
                } else {
                    part.read[v].push(slot);
                }
            }
        }
        part
    }

    /// Bytes alive while a node runs after a set, and once it ran.
    fn step(&self, done: &[u64], mem: u64, v: usize) -> (u64, u64) {
        let during = mem.saturating_add(self.made[v]);
        let has = |r: usize| r != usize::MAX && done[r / 64] >> (r % 64) & 1 == 1;
        let dead = |t: &&usize| self.readers[**t].iter().all(|r| *r == v || has(*r));
        let ended = self.read[v].iter().filter(dead).map(|t| self.bytes[*t]);
        let ended = ended.fold(self.lost[v], u64::saturating_add);
        (during, during.saturating_sub(ended))
    }

    /// The peak of the order as given.
    fn given(&self) -> u64 {
        let mut done = vec![0u64; self.made.len().div_ceil(64)];
        let (mut mem, mut peak) = (self.entering, self.entering);
        for v in 0..self.made.len() {
            let (during, after) = self.step(&done, mem, v);
            peak = peak.max(during);
            mem = after;
            done[v / 64] |= 1 << (v % 64);
        }
        peak
    }

    /// An order of lower peak than as given, where that is more than `enough`.
    fn best(&self, enough: u64) -> Option<Vec<usize>> {
        let n = self.made.len();
        let limit = self.given();
        if limit <= enough {
            return None;
        }
        let words = n.div_ceil(64);
        let mut layers: Vec<Vec<Way>> = Vec::with_capacity(n);
        let mut sets: Vec<Vec<u64>> = vec![vec![0; words]];
        let mut ways = vec![Way {
            peak: self.entering.max(enough),
            mem: self.entering,
            from: 0,
            node: 0,
        }];
        for _ in 0..n {
            let (next, found) = self.grow(&sets, &ways, limit);
            if found.is_empty() {
                return None;
            }
            layers.push(found.clone());
            (sets, ways) = (next, found);
        }
        let mut order = Vec::with_capacity(n);
        let mut at = 0usize;
        for layer in layers.iter().rev() {
            let way = layer.get(at)?;
            order.push(way.node as usize);
            at = way.from as usize;
        }
        order.reverse();
        Some(order)
    }

    /// The sets with one node more, each by its best way of a peak below the limit.
    fn grow(&self, sets: &[Vec<u64>], ways: &[Way], limit: u64) -> (Vec<Vec<u64>>, Vec<Way>) {
        let mut known: FxHashMap<Vec<u64>, usize> = FxHashMap::default();
        let mut next: Vec<Way> = Vec::new();
        let mut keys: Vec<Vec<u64>> = Vec::new();
        for (from, (done, way)) in sets.iter().zip(ways).enumerate() {
            let has = |v: usize| done[v / 64] >> (v % 64) & 1 == 1;
            for v in (0..self.made.len()).filter(|v| !has(*v)) {
                if !self.before[v].iter().all(|b| has(*b)) {
                    continue;
                }
                let (during, mem) = self.step(done, way.mem, v);
                let peak = way.peak.max(during);
                if peak >= limit {
                    continue;
                }
                let mut set = done.clone();
                set[v / 64] |= 1 << (v % 64);
                let way = Way {
                    peak,
                    mem,
                    from: from as u32,
                    node: v as u32,
                };
                match known.get(&set) {
                    Some(&at) if next[at].peak <= peak => {}
                    Some(&at) => next[at] = way,
                    None => {
                        known.insert(set.clone(), next.len());
                        keys.push(set);
                        next.push(way);
                    }
                }
            }
        }
        if next.len() > SETS {
            let mut rank: Vec<usize> = (0..next.len()).collect();
            rank.sort_by_key(|i| (next[*i].peak, next[*i].mem, *i));
            rank.truncate(SETS);
            keys = rank.iter().map(|i| keys[*i].clone()).collect();
            next = rank.iter().map(|i| next[*i]).collect();
        }
        (keys, next)
    }
}

#[cfg(test)]
mod tests;
