//! Tiles of a mapping over time: what a simulation of it moves, by whom and how often.
//!
//! A mapping is cut in two. *Tiles*: storages in memories above the innermost fanout that is on the path take tiles from
//! their parents and give them back, each when a loop above it steps that changes it. *Passes*: all that happens under the
//! innermost of these storages is one pass of the array, of fixed duration.
//!
//! ```text
//! transfers of a storage = iterations of the loops above it but for the innermost ones that its operand does not have
//! one transfer           = all traffic of the edge x its share;  share = indices of the operand's dimensions in the tile,
//!                          over their sum over all transfers
//! one pass               = all work x its share;                 share = points in it, over all
//! ```
//!
//! A memory whose parent takes no time to set a transfer up is fed by a stream rather than by commands. What it takes in one go is then
//! several of its tiles, as many as fit one of the parts (`movement.credits`) in which its room is given back: where in it a tile ends tells nothing of time.
//! Room is for as many tiles as fit beside each other, but for no more than that many, and for one in a memory that is not
//! double-buffered.
//!
//! Ports take longer where instances meet in a bank ([`super::conflicts`]). Sums are the exact counts of [`crate::analysis`]; how they spread over transfers is by size alone: first tiles that bring
//! more of a sliding window than later ones, and tiles that a mask cuts, are at their mean.

use presil_hwmodels::{EngineKind, NodeId, NodeKind, Operand};
use presil_numerics::Seconds;
use presil_numerics::ids::Id;
use presil_workloads::{DimId, Einsum};

use super::counts::{Counts, Edge, Prepared};
use super::crossing::{Crossing, Wires, crossings};
use super::nest::Nest;
use super::{AnalysisError, compute, conflicts, time, traffic};
use crate::cost::MemoryCount;
use crate::hierarchy::access_of;
use crate::mapping::Mapping;
use crate::problem::Problem;

/// A port of a memory, or wires of a fanout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// What it reads.
    Read,
    /// What it writes.
    Write,
    /// Wires of a fanout's network.
    Link(Wires),
}

/// A loop over tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileLoop {
    /// Index of the dimension.
    pub dim: usize,
    /// Indices in one iteration; the last iteration may have fewer.
    pub tile: u64,
    /// Whether its iterations lie in space: all run at once.
    pub spatial: bool,
    /// Whether its iterations add to the same outputs.
    pub reduces: bool,
}

/// Traffic of all transfers in one direction between two storages, of the busiest instances.
#[derive(Debug, Clone, PartialEq)]
pub struct Transfers {
    /// Bits that the child's busiest instance takes or gives.
    pub bits: f64,
    /// Seconds of ports that they occupy.
    pub ports: Vec<(NodeId, Port, f64)>,
    /// Of each, over the hops of networks.
    pub latency: Seconds,
}

/// What moves between a storage and the next one inside it.
#[derive(Debug, Clone, PartialEq)]
pub struct TileEdge {
    /// The operand.
    pub operand: Operand,
    /// Where tiles come from.
    pub parent: NodeId,
    /// Where they go to.
    pub child: NodeId,
    /// Whether the parent is the operand's home.
    pub home: bool,
    /// Loops with which the tile at the parent changes; 0 at home.
    pub outer: usize,
    /// Loops with which the tile at the child changes.
    pub inner: usize,
    /// Dimensions of the operand.
    pub dims: Vec<usize>,
    /// Tiles of it that the child has room for.
    pub slots: u64,
    /// Inputs, or partial sums that go on.
    pub down: Option<Transfers>,
    /// Outputs and partial sums that leave.
    pub up: Option<Transfers>,
}

/// All passes of the array.
#[derive(Debug, Clone, PartialEq)]
pub struct Passes {
    /// Loops around one pass.
    pub depth: usize,
    /// Time of all of them: that of the MACs, or of what is slowest inside the array, and refills of what is not double-buffered.
    pub busy: Seconds,
    /// Seconds of ports of memories outside that they occupy.
    pub ports: Vec<(NodeId, Port, f64)>,
    /// Before the first pass: first tiles of memories inside in, last ones out, which overlap with nothing.
    pub preload: Seconds,
    /// Seconds of ports of memories outside that these occupy.
    pub preload_ports: Vec<(NodeId, Port, f64)>,
    /// From the last operands of a pass to its last result.
    pub tail: Seconds,
}

/// A mapping over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Tiles {
    /// Extent of each dimension.
    pub sizes: Vec<u64>,
    /// Loops from the outside in, as far as a pass.
    pub loops: Vec<TileLoop>,
    /// Edges between memories, those of one operand from the outside in.
    pub edges: Vec<TileEdge>,
    /// The array.
    pub passes: Passes,
    /// All accesses of the mapping.
    pub counts: Vec<MemoryCount>,
    /// Cycles of the MACs.
    pub cycles: f64,
}

/// The tiles of a mapping of a problem.
///
/// # Errors
/// As of [`crate::analysis::evaluate`].
pub fn tiles(problem: &Problem, mapping: &Mapping) -> Result<Tiles, AnalysisError> {
    let (unit, mode) = compute(problem).ok_or(AnalysisError::NoCompute { mode: problem.mode })?;
    let einsum = problem.einsum;
    let nest = Nest::new(problem, mapping.steps());
    let prepared = Prepared::new(einsum);
    let counts = Counts::new(einsum, &prepared, &nest);
    let clock = problem.chip.clocks[unit.clock].domain;
    let cycles = counts.iterations as f64 / mode.macs_per_cycle;
    let array = array_place(problem);
    let mut tiles = Tiles {
        sizes: einsum.dims.iter().map(|d| d.size).collect(),
        loops: Vec::new(),
        edges: Vec::new(),
        passes: Passes {
            depth: 0,
            busy: clock.seconds(cycles),
            ports: Vec::new(),
            preload: Seconds::ZERO,
            preload_ports: Vec::new(),
            tail: tail(problem, clock),
        },
        counts: traffic::by_memory(problem, &counts),
        cycles,
    };
    let mut inside = Inside::default();
    let mut reach = Vec::new();
    let crossings = crossings(problem, &nest, &counts);
    for (number, edge) in counts.edges.iter().enumerate() {
        let own = crossings.iter().filter(|c| c.edge == number);
        let crossed: Vec<&Crossing> = own.collect();
        match edge.child.filter(|c| *c < array) {
            Some(child) => {
                let own = tile_edge(problem, &nest, edge, &crossed, child);
                tiles.edges.push(own);
                reach.push(edge.to);
            }
            None => inside.add(problem, &nest, &counts, edge, &crossed, array),
        }
    }
    let deepest = reach.iter().max().copied().unwrap_or(0);
    tiles.loops = nest.loops[..deepest].iter().map(tile_loop).collect();
    let mut streams = Streams {
        problem,
        prepared: &prepared,
        tiles: &mut tiles,
        reach,
    };
    streams.coarsen();
    streams.slots();
    tiles.passes.depth = tiles.edges.iter().map(|e| e.inner).max().unwrap_or(0);
    tiles.loops.truncate(tiles.passes.depth);
    inside.close(problem, &mut tiles.passes);
    Ok(tiles)
}

/// The place of the innermost fanout: what is below it is inside the array. The compute where there is none.
fn array_place(problem: &Problem) -> usize {
    let fanout = |n: &NodeId| matches!(problem.chip.nodes[*n].kind, NodeKind::Fanout(_));
    let last = problem.path.iter().rposition(fanout);
    last.unwrap_or(problem.path.len().saturating_sub(1))
}

fn tail(problem: &Problem, clock: presil_numerics::ClockDomain) -> Seconds {
    match problem.chip.engines.get(problem.engine).map(|e| &e.kind) {
        Some(EngineKind::Array {
            fill_cycles,
            drain_cycles,
            ..
        }) => clock.seconds((fill_cycles + drain_cycles) as f64),
        _ => Seconds::ZERO,
    }
}

fn tile_loop(l: &super::nest::Loop) -> TileLoop {
    TileLoop {
        dim: l.dim,
        tile: l.tile,
        spatial: l.network.is_some(),
        reduces: l.scatters,
    }
}

fn tile_edge(
    problem: &Problem,
    nest: &Nest,
    edge: &Edge,
    crossed: &[&Crossing],
    child: usize,
) -> TileEdge {
    let home = nest
        .chains
        .get(edge.operand)
        .and_then(|c| c.first())
        .is_some_and(|s| s.level == edge.parent);
    let access = access_of(problem.einsum, edge.operand);
    let dims = (0..problem.einsum.dims.len())
        .filter(|d| Einsum::names(access, DimId::new(*d)))
        .collect();
    let changes = |above: usize| {
        let relevant =
            |l: &super::nest::Loop| l.network.is_none() && Einsum::names(access, DimId::new(l.dim));
        nest.loops[..above]
            .iter()
            .rposition(relevant)
            .map_or(0, |i| i + 1)
    };
    let (down, up) = transfers(problem, nest, edge, crossed);
    let operand = traffic::operand(edge);
    let parent = problem.path[edge.parent];
    let outer = if home { 0 } else { changes(edge.from) };
    TileEdge {
        operand,
        parent,
        child: problem.path[child],
        home,
        outer,
        inner: changes(edge.to),
        slots: 1,
        dims,
        down: down.filter(|t| t.bits > 0.0),
        up: up.filter(|t| t.bits > 0.0),
    }
}

/// Works out in which pieces memories are fed and drained.
struct Streams<'a, 'p> {
    problem: &'a Problem<'p>,
    prepared: &'a Prepared,
    tiles: &'a mut Tiles,
    /// Loops above the child of each edge.
    reach: Vec<usize>,
}

impl Streams<'_, '_> {
    fn credits(&self) -> u64 {
        self.problem.chip.movement.credits.max(1)
    }

    /// Bits that tiles may take in a memory.
    fn room(&self, memory: NodeId) -> f64 {
        let place = self.problem.path.iter().position(|p| *p == memory);
        let capacity = place.and_then(|p| self.problem.capacity.get(p));
        capacity.map_or(0.0, |c| c.0 as f64) * 8.0
    }

    /// Bits of what one instance of an edge's child holds of its operand under so many loops, the last of which has another tile if one is given; of
    /// outputs as wide as partial sums.
    fn bits(&self, edge: usize, depth: usize, tile: Option<u64>) -> f64 {
        let mut extents = self.tiles.sizes.clone();
        let loops = &self.tiles.loops;
        let outer = loops[..depth].iter();
        let spread = loops[depth..self.reach[edge]].iter().filter(|l| l.spatial);
        for l in outer.chain(spread) {
            extents[l.dim] = extents[l.dim].min(l.tile);
        }
        if let Some((l, tile)) = depth.checked_sub(1).and_then(|d| loops.get(d)).zip(tile) {
            extents[l.dim] = extents[l.dim].max(tile);
        }
        let operand = self.tiles.edges[edge].operand;
        let wide = match operand {
            Operand::Output => self.problem.accumulate.bits() as f64,
            _ => 0.0,
        };
        let bits = self.problem.bits[operand.index()].max(wide);
        self.prepared.patterns[operand.index()].tile_elements(&extents) as f64 * bits
    }

    /// Makes tiles of streams as large as their grain.
    fn coarsen(&mut self) {
        for at in 0..self.tiles.edges.len() {
            let edge = &self.tiles.edges[at];
            let above = self
                .tiles
                .edges
                .iter()
                .find(|e| e.operand == edge.operand && e.child == edge.parent)
                .map_or(0, |e| e.inner);
            let parent = self.problem.chip.nodes[edge.parent].memory();
            let streams = parent.is_some_and(|m| m.setup.0 == 0.0);
            self.tiles.edges[at].outer = above;
            if streams {
                self.widen(at, above);
            }
        }
    }

    /// Leaves loops out from the inside as long as what they go through fits the grain, and the last one in part.
    fn widen(&mut self, at: usize, above: usize) {
        let (operand, child) = (self.tiles.edges[at].operand, self.tiles.edges[at].child);
        let grain = self.room(child) / self.credits() as f64;
        let mut inner = self.tiles.edges[at].inner;
        // Sums that come back do so tile by tile.
        let sums = |l: &TileLoop| operand == Operand::Output && l.reduces;
        while inner > above
            && !sums(&self.tiles.loops[inner - 1])
            && self.bits(at, inner - 1, None) <= grain
        {
            inner -= 1;
        }
        self.tiles.edges[at].inner = inner;
        let Some(last) = inner.checked_sub(1).filter(|l| *l >= above) else {
            return;
        };
        let TileLoop { dim, tile, .. } = self.tiles.loops[last];
        if self.tiles.loops[last].spatial || sums(&self.tiles.loops[last]) {
            return;
        }
        let around = self.tiles.loops[..last].iter().rev();
        let extent = around
            .filter(|l| l.dim == dim)
            .map(|l| l.tile)
            .next()
            .unwrap_or(self.tiles.sizes[dim]);
        let mut wide = tile;
        while wide * 2 < extent && self.bits(at, inner, Some(wide * 2)) <= grain {
            wide *= 2;
        }
        if wide > tile {
            self.split(at, last, wide);
        }
    }

    /// Has an edge step with larger tiles of a loop, which is cut in two.
    fn split(&mut self, at: usize, cut: usize, tile: u64) {
        let (outer, reach) = (self.tiles.loops[cut], &mut self.reach);
        self.tiles.loops.insert(cut, TileLoop { tile, ..outer });
        for (i, (edge, reach)) in self.tiles.edges.iter_mut().zip(reach).enumerate() {
            let moved = |n: usize| if n > cut { n + 1 } else { n };
            edge.outer = moved(edge.outer);
            edge.inner = match i == at {
                true => cut + 1,
                false => moved(edge.inner),
            };
            *reach = moved(*reach);
        }
    }

    /// Tiles that memories have room for.
    ///
    /// Outputs that are under way through the array are in its own registers: as many more as passes start until one has left it.
    fn slots(&mut self) {
        let bits = |at: usize| self.bits(at, self.tiles.edges[at].inner, None);
        let all: Vec<f64> = (0..self.tiles.edges.len()).map(bits).collect();
        for at in 0..all.len() {
            let child = self.tiles.edges[at].child;
            let beside = self.tiles.edges.iter().zip(&all);
            let taken: f64 = beside.filter(|(e, _)| e.child == child).map(|b| b.1).sum();
            let memory = self.problem.chip.nodes[child].memory();
            let buffering = memory.map_or(1, |m| u64::from(m.buffering));
            let fit = (self.room(child) / taken.max(1.0)) as u64;
            let slots = match buffering {
                0 | 1 => 1,
                _ => fit.clamp(buffering, self.credits().max(buffering)),
            };
            self.tiles.edges[at].slots = slots + self.under_way(at);
        }
    }

    /// Tiles of the array's outputs that start while one is under way; 0 for other edges.
    fn under_way(&self, at: usize) -> u64 {
        let edge = &self.tiles.edges[at];
        let inside = |e: &TileEdge| e.operand == edge.operand && e.parent == edge.child;
        if edge.operand != Operand::Output || self.tiles.edges.iter().any(inside) {
            return 0;
        }
        let mut extents = self.tiles.sizes.clone();
        let mut tiles = 1.0;
        for l in &self.tiles.loops[..edge.inner] {
            let trips = extents[l.dim].div_ceil(l.tile).max(1);
            extents[l.dim] = extents[l.dim].min(l.tile);
            if !l.spatial {
                tiles *= trips as f64;
            }
        }
        let passes = &self.tiles.passes;
        let each = passes.busy.0 / tiles;
        (passes.tail.0 / each.max(1e-15))
            .ceil()
            .min(self.credits() as f64) as u64
    }
}

/// What goes down and what comes up over an edge.
fn transfers(
    problem: &Problem,
    nest: &Nest,
    edge: &Edge,
    crossed: &[&Crossing],
) -> (Option<Transfers>, Option<Transfers>) {
    let ports = port_seconds(problem, nest, edge);
    let (_, child) = traffic::accesses(problem, edge);
    let Some(child) = child else {
        return (None, None);
    };
    let of = |bits: f64, ports: &[(NodeId, Port, f64)], way: usize| Transfers {
        bits: bits * edge.child_share,
        ports: ports
            .iter()
            .copied()
            .chain(links(problem, crossed, way))
            .filter(|p| p.2 > 0.0)
            .collect(),
        latency: crossed.iter().map(|c| Seconds(c.ways[way].latency)).sum(),
    };
    let [parent_read, parent_write, child_read, child_write] = ports;
    if !edge.output {
        let down = of(child.write_bits, &[parent_read, child_write], 0);
        return (Some(down), None);
    }
    // Old values go down into the child, or are added at the parent as new ones arrive.
    if edge.returned > 0 {
        let down = of(child.write_bits, &[parent_read, child_write], 0);
        let up = of(child.read_bits, &[child_read, parent_write], 1);
        return (Some(down), Some(up));
    }
    let ports = [child_read, parent_write, parent_read];
    let up = of(child.read_bits, &ports, 1);
    (None, Some(up))
}

/// Seconds of links that an edge's words occupy in one direction.
fn links(
    problem: &Problem,
    crossed: &[&Crossing],
    way: usize,
) -> impl Iterator<Item = (NodeId, Port, f64)> {
    let own = crossed.iter().map(move |c| {
        let port = Port::Link(c.wires[way]);
        (problem.path[c.place], port, c.ways[way].seconds)
    });
    own.collect::<Vec<_>>().into_iter()
}

/// Seconds of the parent's reads and writes and the child's, of the busiest instances.
fn port_seconds(problem: &Problem, nest: &Nest, edge: &Edge) -> [(NodeId, Port, f64); 4] {
    let (of_parent, of_child) = traffic::accesses(problem, edge);
    let stretched = time::stretched(problem, nest, edge).map(|s| s.time);
    let above = time::port_time(problem, &of_parent, edge.parent_share);
    let conflicts = conflicts::factor(problem, nest, edge);
    let above = (above.0 * conflicts, above.1 * conflicts);
    let here = of_child.map_or((0.0, 0.0), |c| {
        time::port_time(problem, &c, edge.child_share)
    });
    let child = of_child.map_or(of_parent.memory, |c| c.memory);
    [
        (of_parent.memory, Port::Read, above.0 * stretched[0]),
        (of_parent.memory, Port::Write, above.1 * stretched[1]),
        (child, Port::Read, here.0),
        (child, Port::Write, here.1),
    ]
}

/// What the edges inside the array take.
#[derive(Default)]
struct Inside {
    /// Seconds of reads and of writes, by memory: of all tiles but the exposed one, and of that.
    ports: Vec<(NodeId, [f64; 2], [f64; 2], bool)>,
    /// Seconds of links, by fanout and wires.
    links: Vec<(NodeId, Wires, f64, bool)>,
    /// Latencies of hops, down and up.
    hops: [f64; 2],
    /// Memories whose words the array waits for.
    answer: Vec<NodeId>,
    preload: f64,
    stalled: f64,
    /// Of the memories inside, the longest time of all tiles but the exposed one, and the share of that one.
    refill: (f64, f64),
}

impl Inside {
    fn add(
        &mut self,
        problem: &Problem,
        nest: &Nest,
        counts: &Counts,
        edge: &Edge,
        crossed: &[&Crossing],
        array: usize,
    ) {
        self.cross(problem, crossed, array);
        let node = problem.path[edge.parent];
        if !edge.output && !self.answer.contains(&node) {
            self.answer.push(node);
        }
        let seconds = port_seconds(problem, nest, edge);
        let elements = counts.tile_elements(edge.operand, edge.to) as f64;
        let instance = edge.entering as f64 * edge.child_share;
        // The first tile of an input, the last one of an output.
        let part = match edge.child {
            Some(_) if instance > 0.0 => (elements / instance).min(1.0),
            _ => 0.0,
        };
        let outside = |n: NodeId| problem.path.iter().position(|p| *p == n) < Some(array);
        let way = usize::from(edge.output);
        let exposed = |port: usize| match (edge.output, port) {
            (false, 0 | 3) | (true, 1 | 2) => part,
            _ => 0.0,
        };
        for (number, (node, port, s)) in seconds.into_iter().enumerate() {
            if s <= 0.0 {
                continue;
            }
            let at = self.ports.iter().position(|p| p.0 == node);
            let at = at.unwrap_or_else(|| {
                self.ports.push((node, [0.0; 2], [0.0; 2], outside(node)));
                self.ports.len() - 1
            });
            let side = usize::from(port == Port::Write);
            self.ports[at].1[side] += s * (1.0 - exposed(number));
            self.ports[at].2[side] += s * exposed(number);
        }
        let Some(child) = edge.child else { return };
        let over = crossed
            .iter()
            .fold(0.0f64, |t, c| t.max(c.ways[way].seconds));
        let slower = |a: usize, b: usize| seconds[a].2.max(seconds[b].2).max(over);
        let slower = if edge.output {
            slower(1, 2)
        } else {
            slower(0, 3)
        };
        let rest = slower * (1.0 - part);
        if time::single_buffered(problem, problem.path[child]) {
            self.stalled += rest;
        } else if rest > self.refill.0 {
            self.refill = (rest, part);
        }
        self.preload += slower * part;
    }

    /// What an edge makes links carry.
    fn cross(&mut self, problem: &Problem, crossed: &[&Crossing], array: usize) {
        let mut latency = [0.0; 2];
        for c in crossed {
            let node = problem.path[c.place];
            for way in [0, 1] {
                latency[way] += c.ways[way].latency;
                let (wires, seconds) = (c.wires[way], c.ways[way].seconds);
                let own = |l: &&mut (NodeId, Wires, f64, bool)| (l.0, l.1) == (node, wires);
                match self.links.iter_mut().find(own) {
                    Some(l) => l.2 += seconds,
                    None => self.links.push((node, wires, seconds, c.place < array)),
                }
            }
        }
        for (all, own) in self.hops.iter_mut().zip(latency) {
            *all = all.max(own);
        }
    }

    fn close(self, problem: &Problem, passes: &mut Passes) {
        let busy = passes.busy.0 + self.stalled;
        // While one tile of a memory inside is worked on, the next one comes; with the last one, or the first, nothing does.
        let (refill, part) = self.refill;
        let mut inner: f64 = busy.max(refill + busy * part);
        passes.tail += Seconds(self.hops[0] + self.hops[1]);
        for (node, wires, seconds, outside) in self.links {
            match outside {
                true if seconds > 0.0 => passes.ports.push((node, Port::Link(wires), seconds)),
                true => {}
                false => inner = inner.max(seconds),
            }
        }
        for node in self.answer {
            let memory = problem.chip.nodes[node].memory();
            passes.tail += memory.map_or(Seconds::ZERO, |m| m.latency);
        }
        for (node, steady, first, outside) in self.ports {
            let memory = problem.chip.nodes[node].memory();
            let [read, write] = steady;
            if outside {
                let of = |[read, write]: [f64; 2]| {
                    let ports = [(node, Port::Read, read), (node, Port::Write, write)];
                    ports.into_iter().filter(|p| p.2 > 0.0)
                };
                passes.ports.extend(of(steady));
                passes.preload_ports.extend(of(first));
            } else if memory.is_some_and(|m| m.shared_port) {
                inner = inner.max(read + write);
            } else {
                inner = inner.max(read).max(write);
            }
        }
        passes.busy = Seconds(inner);
        passes.preload = Seconds(self.preload);
    }
}
