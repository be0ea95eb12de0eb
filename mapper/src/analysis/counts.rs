//! Words that cross between each storage node and the next one inside it.

use presil_hwmodels::{NodeId, Operand, Overlap};
use presil_numerics::ids::Id;
use presil_workloads::{Access, DimId, Domain, Einsum};

use super::bounds::touched_by;
use super::flow::{Flow, Retain, Role};
use super::nest::{Nest, access, scatters};
use super::pattern::Pattern;
use super::region::Region;
use crate::cost::MemoryCount;
use crate::problem::Problem;

/// Expected over possible groups of a ragged operand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale(f64);

impl Scale {
    /// The scaled count, rounded.
    pub(crate) fn apply(self, count: u128) -> u128 {
        if self.0 == 1.0 {
            count
        } else {
            (count as f64 * self.0).round() as u128
        }
    }
}

/// The scale of an operand: of those with the group of a ragged domain but not its row.
pub(crate) fn ragged_scale(einsum: &Einsum, access: &Access) -> Scale {
    match einsum.domain {
        Domain::Ragged {
            group,
            row,
            distinct,
            ..
        } if Einsum::names(access, group) && !Einsum::names(access, row) => {
            Scale((distinct / einsum.dim(group).size as f64).clamp(0.0, 1.0))
        }
        _ => Scale(1.0),
    }
}

/// Traffic between a storage node and the next one of the operand inside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge {
    pub(crate) operand: Operand,
    pub(crate) parent: NodeId,
    /// Loops above the parent.
    pub(crate) from: usize,
    /// None: the compute.
    pub(crate) child: Option<NodeId>,
    /// Loops above the child.
    pub(crate) to: usize,
    /// Elements that enter the child's instances (or the compute), or leave them: `D`.
    pub(crate) entering: u128,
    /// Elements that the parent's instances read for them, or receive from them: `G`.
    pub(crate) served: u128,
    /// Outputs: elements of `served` that add to a value at the parent.
    pub(crate) again: u128,
    /// Outputs: old values that go down into the child.
    pub(crate) returned: u128,
    /// Outputs: elements of `served` that are final.
    pub(crate) finals: u128,
    /// Whether the child may hold partial sums.
    pub(crate) child_partial: bool,
    /// Share of the busiest instance of the parent in `served`.
    pub(crate) parent_share: f64,
    /// Share of the busiest instance of the child in `entering`.
    pub(crate) child_share: f64,
}

/// What the analysis of any mapping of a problem needs to know of its einsum.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) patterns: [Pattern; 3],
    /// Of the iterations themselves.
    everything: Pattern,
    region: Option<Region>,
    sizes: Vec<u64>,
    touched: [u128; 3],
    scales: [Scale; 3],
}

impl Prepared {
    pub(crate) fn new(einsum: &Einsum) -> Self {
        let region = Region::of(einsum);
        let patterns = Operand::ALL.map(|o| Pattern::of(einsum, access(einsum, o), region));
        let touched = Operand::ALL.map(|o| touched_by(einsum, o, &patterns[o.index()]));
        let scales =
            Operand::ALL.map(|o| access(einsum, o).map_or(Scale(1.0), |a| ragged_scale(einsum, a)));
        let sizes = einsum.dims.iter().map(|d| d.size).collect();
        Self {
            everything: Pattern::of(einsum, None, region),
            patterns,
            region,
            sizes,
            touched,
            scales,
        }
    }
}

/// The traffic of a mapping.
pub(crate) struct Counts<'a> {
    pub(crate) edges: Vec<Edge>,
    /// Temporal iterations in which at least one compute instance works.
    pub(crate) iterations: u128,
    pub(crate) prepared: &'a Prepared,
    nest: &'a Nest,
    /// The flow of each edge.
    flows: Vec<Flow<'a>>,
}

impl<'a> Counts<'a> {
    /// Counts the traffic of a nest.
    pub(crate) fn new(problem: &Problem, prepared: &'a Prepared, nest: &'a Nest) -> Self {
        let ones = vec![1; prepared.sizes.len()];
        let all = Flow::new(
            &prepared.everything,
            &prepared.sizes,
            ones,
            &nest.loops,
            Retain::Nothing,
        );
        let iterations = all.entering_with(|_| Role::Merged);
        let mut counts = Self {
            edges: Vec::with_capacity(9),
            iterations,
            prepared,
            nest,
            flows: Vec::with_capacity(9),
        };
        for operand in Operand::ALL {
            counts.operand(problem, operand);
        }
        counts
    }

    fn operand(&mut self, problem: &Problem, operand: Operand) {
        let chain = &self.nest.chains[operand.index()];
        let einsum = problem.einsum;
        let touched = self.prepared.touched[operand.index()];
        // Entries of the parent's buffer that started without a value.
        let mut fresh = touched;
        for (order, parent) in chain.iter().enumerate() {
            let next = chain.get(order + 1);
            let mut edge = Edge {
                operand,
                parent: parent.memory,
                from: parent.above,
                child: next.map(|s| s.memory),
                to: next.map_or(self.nest.loops.len(), |s| s.above),
                entering: 0,
                served: 0,
                again: 0,
                returned: 0,
                finals: 0,
                child_partial: operand == Operand::Output
                    && self.nest.holds_partial(einsum, order + 1),
                parent_share: 1.0,
                child_share: 1.0,
            };
            let between = |i: usize| i >= edge.from;
            let flow = self.flow(problem, &edge);
            edge.entering = self.scale(operand, flow.entering_all());
            let merged = |i: usize| {
                if between(i) && self.merges(einsum, operand, i) {
                    Role::Merged
                } else {
                    Role::Space
                }
            };
            edge.served = self.scale(operand, flow.entering_with(merged));
            let shared = |from: usize, to: usize| {
                (from..to).any(|i| {
                    let l = &self.nest.loops[i];
                    l.network.is_some()
                        && scatters(einsum, l.dim)
                        && !(between(i) && self.merges(einsum, operand, i))
                })
            };
            if operand == Operand::Output {
                edge.again = edge.served.saturating_sub(fresh);
                edge.returned = if shared(edge.from, edge.to) {
                    0
                } else {
                    edge.again
                };
                edge.finals = if shared(0, edge.to) {
                    0
                } else {
                    touched.min(edge.served)
                };
                fresh = edge.entering.saturating_sub(edge.returned);
            }
            let fixed = |i: usize| Role::Fixed(self.busiest(i));
            let share = |some: u128, all: u128, to: usize| {
                let instances: f64 = self
                    .spatial(0, to)
                    .map(|i| self.nest.loops[i].trips as f64)
                    .product();
                if all == 0 {
                    1.0
                } else {
                    (some as f64 / all as f64).max(1.0 / instances)
                }
            };
            if self.spatial(0, edge.from).next().is_some() {
                let one = flow.entering_with(|i| if between(i) { merged(i) } else { fixed(i) });
                let one = self.scale(operand, one);
                edge.parent_share = share(one, edge.served, edge.from);
            }
            if edge.child.is_some() && self.spatial(0, edge.to).next().is_some() {
                let one = self.scale(operand, flow.entering_with(fixed));
                edge.child_share = share(one, edge.entering, edge.to);
            }
            self.edges.push(edge);
            self.flows.push(flow);
        }
    }

    /// Indices of spatial loops.
    fn spatial(&self, from: usize, to: usize) -> impl Iterator<Item = usize> + use<'_> {
        (from..to).filter(|i| self.nest.loops[*i].network.is_some())
    }

    /// The iteration of a spatial loop whose instance has most work: the first; the last for causal queries.
    fn busiest(&self, i: usize) -> u64 {
        let l = &self.nest.loops[i];
        match self.prepared.region {
            Some(r) if r.a == l.dim && !r.is_stairs() => l.trips - 1,
            _ => 0,
        }
    }

    /// Whether one word serves all iterations of a spatial loop.
    fn merges(&self, einsum: &Einsum, operand: Operand, i: usize) -> bool {
        let l = &self.nest.loops[i];
        let named = access(einsum, operand).is_some_and(|a| Einsum::names(a, DimId::new(l.dim)));
        !named
            && l.network.is_some_and(|n| {
                if operand == Operand::Output {
                    n.reduces
                } else {
                    n.multicast.has(operand)
                }
            })
    }

    /// The flow into the child of an edge.
    fn flow(&self, problem: &Problem, edge: &Edge) -> Flow<'a> {
        let retain = match edge.child.and_then(|c| problem.chip.nodes[c].memory()) {
            None => Retain::Nothing,
            Some(m) if m.overlap == Overlap::Refetch && edge.operand != Operand::Output => {
                Retain::Refetch
            }
            Some(_) => Retain::Keep,
        };
        let tiles = self.nest.tiles(problem.einsum, edge.to);
        let pattern = &self.prepared.patterns[edge.operand.index()];
        Flow::new(
            pattern,
            &self.prepared.sizes,
            tiles,
            &self.nest.loops[..edge.to],
            retain,
        )
    }

    fn scale(&self, operand: Operand, count: u128) -> u128 {
        self.prepared.scales[operand.index()].apply(count)
    }

    /// Reads and writes of each memory.
    pub(crate) fn by_memory(&self, problem: &Problem) -> Vec<MemoryCount> {
        let mut counts: Vec<MemoryCount> = Vec::with_capacity(self.edges.len());
        for edge in &self.edges {
            for access in edge.accesses(problem) {
                let found = counts
                    .iter_mut()
                    .find(|c| c.memory == access.memory && c.operand == edge.operand);
                match found {
                    Some(c) => {
                        c.reads += access.reads;
                        c.writes += access.writes;
                        c.read_bits += access.read_bits;
                        c.write_bits += access.write_bits;
                    }
                    None => counts.push(access),
                }
            }
        }
        counts
    }

    /// Bits that cross the fanout at a place of the path, in both directions, once for each instance reached.
    pub(crate) fn hop_bits(&self, problem: &Problem, place: usize) -> f64 {
        let place_of = |n: NodeId| {
            problem
                .path
                .iter()
                .position(|p| *p == n)
                .unwrap_or(usize::MAX)
        };
        let mut bits = 0.0;
        for (edge, flow) in self.edges.iter().zip(&self.flows) {
            if place < place_of(edge.parent) || edge.child.is_some_and(|c| place > place_of(c)) {
                continue;
            }
            let below = |i: usize| {
                self.nest.loops[i]
                    .network
                    .is_some_and(|n| place_of(n.fanout) > place)
            };
            let role = |i: usize| {
                let merged =
                    i >= edge.from && below(i) && self.merges(problem.einsum, edge.operand, i);
                if merged { Role::Merged } else { Role::Space }
            };
            let words = self.scale(edge.operand, flow.entering_with(role));
            bits += if edge.operand == Operand::Output {
                let finals = if words == edge.served { edge.finals } else { 0 };
                finals as f64 * problem.bits[2]
                    + (words - finals + edge.returned) as f64 * problem.accumulate.bits() as f64
            } else {
                words as f64 * problem.bits[edge.operand.index()]
            };
        }
        bits
    }
}

impl Edge {
    /// Accesses of the parent, then of the child if it is a memory.
    pub(crate) fn accesses(&self, problem: &Problem) -> Vec<MemoryCount> {
        let count = |memory, reads: u128, writes: u128, read_bits, write_bits| MemoryCount {
            memory,
            operand: self.operand,
            reads,
            writes,
            read_bits,
            write_bits,
        };
        let width = problem.bits[self.operand.index()];
        let mut accesses = Vec::with_capacity(2);
        if self.operand == Operand::Output {
            let wide = problem.accumulate.bits() as f64;
            let written = self.finals as f64 * width + (self.served - self.finals) as f64 * wide;
            accesses.push(count(
                self.parent,
                self.again,
                self.served,
                self.again as f64 * wide,
                written,
            ));
            if let Some(child) = self.child {
                let held = if self.child_partial { wide } else { width };
                let drained = self.entering as f64 * held;
                accesses.push(count(
                    child,
                    self.entering,
                    self.returned,
                    drained,
                    self.returned as f64 * wide,
                ));
            }
        } else {
            accesses.push(count(
                self.parent,
                self.served,
                0,
                self.served as f64 * width,
                0.0,
            ));
            if let Some(child) = self.child {
                accesses.push(count(
                    child,
                    0,
                    self.entering,
                    0.0,
                    self.entering as f64 * width,
                ));
            }
        }
        accesses
    }
}
