//! Time of a mapping from its counts.
//!
//! ```text
//! T = launch + array fill and drain + first tiles in + last tiles out + max over resources (busy - exposed)
//! busy(compute)  = iterations / (MACs per cycle x clock) + stalls
//! busy(memory)   = bits / rate of long streams + set-up x transfers, of the busiest instance;
//!                  the larger of reads and writes, their sum where the port is shared
//! ```
//!
//! *Iterations* are those of the temporal loops in which at least one instance has a point of the domain: the
//! array runs in lockstep and skips what none executes.
//!
//! *First tiles in*: before the first MAC, each storage of an input or weight below its home takes its first
//! (full) tile, one after the other: the slower of parent and child, plus set-up; and each memory that is read
//! answers after its latency. *Last tiles out*: each storage of the output below its home drains its last tile.
//! That time of a memory is `exposed`: it is part of its busy time, and not counted twice.
//!
//! A memory with `buffering == 1` cannot take a tile while the old one is in use: all its transfers but the exposed ones
//! are *stalls*, which overlap with nothing that is done with its tiles, MACs and memories further inside:
//!
//! ```text
//! T >= ... + stalls + max(compute, busy - exposed of memories inside the outermost such memory)
//! ```
//!
//! The busiest instance is the first along each spatial loop (the last along the queries of a causal or banded
//! domain), or an average one if that has more. Transfers are counted as the iterations of the temporal loops
//! above a storage, without the innermost ones whose dimension the operand does not have.
//!
//! Off-chip memories move whole bursts and open rows: what tiles take from and give to an operand's home there takes
//! longer by [`super::runs::stretch`]; each instance's tile is a transfer of its own.
//!
//! Links of a network are resources as memories are, down and up apart unless the network says otherwise; a tile waits for the slowest of
//! parent, child and links ([`super::crossing`]), and each network adds the latency of its hops once down and once up.
//!
//! [`Cost::latency`] is `T` less the largest busy time, so that both sum to the time.

use presil_hwmodels::{Compute, EngineKind, MemoryKind, NodeId};
use presil_numerics::Seconds;
use presil_numerics::ids::Id;
use presil_workloads::{DimId, Einsum};

use super::counts::{Counts, Edge};
use super::crossing::{Crossing, Wires};
use super::nest::Nest;
use super::runs::{self, Layout, Stretch};
use super::traffic::{self, accesses};
use crate::cost::{Cost, MemoryCount, Resource};
use crate::hierarchy::access_of;
use crate::problem::Problem;

/// Seconds of a memory's busiest instance.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Port {
    /// Of reads and of writes.
    pub(crate) seconds: [f64; 2],
    /// Of set-ups.
    pub(crate) setup: f64,
    /// Of reads, writes and set-ups, what is exposed.
    pub(crate) exposed: [f64; 3],
}

impl Port {
    /// Busy time, and what of it is not exposed. Ports of their own for reads and writes have each its own part of
    /// both: what one of them does early takes no time from the other.
    pub(crate) fn busy(&self, shared: bool) -> (f64, f64) {
        let [read, write] = self.seconds;
        let [early_read, early_write, early_setup] = self.exposed;
        let rest = [read - early_read, write - early_write];
        let (busy, steady) = if shared {
            (read + write, rest[0] + rest[1])
        } else {
            (read.max(write), rest[0].max(rest[1]))
        };
        (busy + self.setup, steady + self.setup - early_setup)
    }

    /// Whether nothing is read or written.
    pub(crate) fn is_idle(&self) -> bool {
        self.seconds == [0.0; 2]
    }
}

/// Seconds of what has no port of its own.
#[derive(Debug, Clone, Copy)]
struct Link {
    place: usize,
    wires: Wires,
    seconds: f64,
    /// What of it is exposed.
    exposed: f64,
}

/// Adds to the seconds of a network's wires.
fn carry(links: &mut Vec<Link>, place: usize, wires: Wires, seconds: f64, part: f64) {
    if seconds <= 0.0 {
        return;
    }
    let exposed = seconds * part;
    match links
        .iter_mut()
        .find(|l| (l.place, l.wires) == (place, wires))
    {
        Some(l) => {
            l.seconds += seconds;
            l.exposed += exposed;
        }
        None => links.push(Link {
            place,
            wires,
            seconds,
            exposed,
        }),
    }
}

/// Latencies of the hops of all networks, those of the slowest edge each way.
fn hops(crossings: &[Crossing], places: usize) -> f64 {
    let way = |place: usize, way: usize| {
        let own = crossings.iter().filter(|c| c.place == place);
        own.fold(0.0f64, |t, c| t.max(c.ways[way].latency))
    };
    (0..places).map(|p| way(p, 0) + way(p, 1)).sum()
}

/// Fills in busy times, latency and time.
pub(crate) fn fill(
    problem: &Problem,
    nest: &Nest,
    counts: &Counts,
    crossings: &[Crossing],
    compute: &Compute,
    cost: &mut Cost,
) {
    let mut ports = vec![Port::default(); problem.path.len()];
    let mut links: Vec<Link> = Vec::new();
    let (mut exposed, mut stalled) = (0.0, 0.0);
    // Place of the outermost memory that stalls.
    let mut outermost = usize::MAX;
    let mut answers = vec![false; problem.path.len()];
    for (number, edge) in counts.edges.iter().enumerate() {
        let parent = edge.parent;
        answers[parent] |= !edge.output;
        let (of_parent, of_child) = accesses(problem, edge);
        let stretched = stretched(problem, nest, edge).map(|s| s.time);
        let busy_parent = port_time(problem, &of_parent, edge.parent_share);
        let busy_parent = (busy_parent.0 * stretched[0], busy_parent.1 * stretched[1]);
        ports[parent].seconds[0] += busy_parent.0;
        ports[parent].seconds[1] += busy_parent.1;
        let crossed = || crossings.iter().filter(|c| c.edge == number);
        let Some((child, of_child)) = edge.child.zip(of_child) else {
            for c in crossed() {
                carry(&mut links, c.place, c.wires[0], c.ways[0].seconds, 0.0);
                carry(&mut links, c.place, c.wires[1], c.ways[1].seconds, 0.0);
            }
            continue;
        };
        let busy_child = port_time(problem, &of_child, edge.child_share);
        ports[child].seconds[0] += busy_child.0;
        ports[child].seconds[1] += busy_child.1;
        let transfers = transfers(problem.einsum, nest, edge);
        let setup = problem.chip.nodes[of_parent.memory]
            .memory()
            .map_or(0.0, |m| m.setup.0);
        // One tile: the share of the whole traffic that the largest tile is.
        let elements = counts.tile_elements(edge.operand, edge.to) as f64;
        let instance = edge.entering as f64 * edge.child_share;
        let part = if instance > 0.0 {
            (elements / instance).min(1.0)
        } else {
            0.0
        };
        let time = |b: (f64, f64), reads: bool| if reads { b.0 } else { b.1 };
        let (above, here) = (
            time(busy_parent, !edge.output),
            time(busy_child, edge.output),
        );
        let way = usize::from(edge.output);
        let over = crossed().fold(0.0f64, |t, c| t.max(c.ways[way].seconds));
        let slower = above.max(here).max(over);
        for c in crossed() {
            for w in [0, 1] {
                let part = if w == way { part } else { 0.0 };
                carry(&mut links, c.place, c.wires[w], c.ways[w].seconds, part);
            }
        }
        exposed += slower * part + setup;
        if single_buffered(problem, of_child.memory) {
            stalled += slower * (1.0 - part);
            outermost = outermost.min(child);
        }
        ports[parent].exposed[usize::from(edge.output)] += above * part;
        ports[parent].exposed[2] += setup;
        ports[parent].setup += setup * transfers;
        ports[child].exposed[usize::from(!edge.output)] += here * part;
    }
    let clock = problem.chip.clocks[compute.clock].domain;
    let mut fixed = 0.0;
    if let Some(engine) = problem.chip.engines.get(problem.engine) {
        fixed += engine.launch.0;
        if let EngineKind::Array {
            fill_cycles,
            drain_cycles,
            ..
        } = engine.kind
        {
            fixed += clock.seconds((fill_cycles + drain_cycles) as f64).0;
        }
    }
    let busy_compute = clock.seconds(cost.compute_cycles).0 + stalled;
    let mut steady = busy_compute;
    cost.busy.push((Resource::Compute, Seconds(busy_compute)));
    let places = problem.path.iter().zip(&ports).zip(&answers).enumerate();
    for (place, ((node, port), answers)) in places {
        let Some(m) = problem.chip.nodes[*node].memory() else {
            continue;
        };
        if port.is_idle() {
            continue;
        }
        let (busy, rest) = port.busy(m.shared_port);
        fixed += if *answers { m.latency.0 } else { 0.0 };
        let stalls = if place > outermost { stalled } else { 0.0 };
        steady = steady.max(rest + stalls);
        cost.busy.push((Resource::Memory(*node), Seconds(busy)));
    }
    for (place, node) in problem.path.iter().enumerate() {
        let own = || links.iter().filter(|l| l.place == place);
        let busy = own().fold(0.0f64, |t, l| t.max(l.seconds));
        if busy > 0.0 {
            cost.busy.push((Resource::Network(*node), Seconds(busy)));
        }
        let rest = own().fold(0.0f64, |t, l| t.max(l.seconds - l.exposed));
        let stalls = if place > outermost { stalled } else { 0.0 };
        steady = steady.max(rest + stalls);
    }
    fixed += hops(crossings, problem.path.len());
    let longest = cost.busy.iter().fold(0.0, |t: f64, b| t.max(b.1.0));
    let time = (fixed + exposed + steady).max(longest);
    cost.time = Seconds(time);
    cost.latency = Seconds(time - longest);
}

/// What bursts and rows make of an edge's reads and writes at its parent.
pub(super) fn stretched(problem: &Problem, nest: &Nest, edge: &Edge) -> [Stretch; 2] {
    let none = [Stretch::NONE; 2];
    let home = nest.chains.get(edge.operand).and_then(|c| c.first());
    let memory = problem
        .path
        .get(edge.parent)
        .and_then(|n| problem.chip.nodes[*n].memory())
        .filter(|m| matches!(m.kind, MemoryKind::Dram));
    let (Some(memory), Some(_)) = (memory, edge.child) else {
        return none;
    };
    if home.is_none_or(|h| h.level != edge.parent) {
        return none;
    }
    let (einsum, operand) = (problem.einsum, traffic::operand(edge).index());
    let Some(lies) = &problem.lies[operand] else {
        return none;
    };
    let mut tile: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
    for l in &nest.loops[..edge.to] {
        tile[l.dim] = l.tile;
    }
    let access = access_of(einsum, edge.operand);
    let layout = Layout::new(access, lies, problem.bits[operand], |d| Some(d.0 as usize));
    let runs = layout.runs(&tile);
    runs::stretches(memory, runs)
}

/// Bits of bursts that a memory at a place of the path reads and writes beside those asked for.
pub(crate) fn wasted(problem: &Problem, nest: &Nest, counts: &Counts, place: usize) -> (f64, f64) {
    let (mut read, mut written) = (0.0, 0.0);
    for edge in counts.edges.iter().filter(|e| e.parent == place) {
        let [r, w] = stretched(problem, nest, edge);
        let access = accesses(problem, edge).0;
        read += access.read_bits * (r.bytes - 1.0);
        written += access.write_bits * (w.bytes - 1.0);
    }
    (read, written)
}

/// Seconds to read and to write an instance's share of some accesses.
pub(super) fn port_time(problem: &Problem, access: &MemoryCount, share: f64) -> (f64, f64) {
    let Some(m) = problem.chip.nodes[access.memory].memory() else {
        return (0.0, 0.0);
    };
    let at = |bits: f64, rate: f64| {
        if bits > 0.0 { bits / 8.0 / rate } else { 0.0 }
    };
    let [reads, writes] = m.streams();
    (
        at(access.read_bits * share, reads.0),
        at(access.write_bits * share, writes.0),
    )
}

pub(super) fn single_buffered(problem: &Problem, memory: NodeId) -> bool {
    let memory = problem.chip.nodes[memory].memory();
    memory.is_some_and(|m| m.buffering == 1)
}

/// Tiles that the child of an edge takes, one after the other.
fn transfers(einsum: &Einsum, nest: &Nest, edge: &Edge) -> f64 {
    let access = access_of(einsum, edge.operand);
    let temporal = nest.loops[..edge.to].iter().filter(|l| l.network.is_none());
    let relevant = |d: usize| Einsum::names(access, DimId::new(d));
    temporal
        .rev()
        .skip_while(|l| !relevant(l.dim))
        .map(|l| l.trips as f64)
        .product()
}
