//! Words that cross between each storage node and the next one inside it.
//!
//! This is the one core of the analysis: it knows the einsum and the flattened nest, and neither chip nor problem.

use presil_workloads::{Access, Domain, Einsum};

use super::bounds::touched_by;
use super::flow::{Flow, Retain, Role};
use super::nest::{Nest, Store};
use super::pattern::Pattern;
use super::region::Region;
use crate::hierarchy::{access_of, operand_count};

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

/// Traffic between a storage node and the next one of the operand inside it. Levels are places on the path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge {
    pub(crate) operand: usize,
    /// Whether the operand is the output.
    pub(crate) output: bool,
    pub(crate) parent: usize,
    /// Loops above the parent.
    pub(crate) from: usize,
    /// None: the compute.
    pub(crate) child: Option<usize>,
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

/// What the analysis of any mapping needs to know of its einsum.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    /// Of each operand.
    pub(crate) patterns: Vec<Pattern>,
    /// Of the iterations themselves.
    everything: Pattern,
    region: Option<Region>,
    sizes: Vec<u64>,
    /// Distinct elements of the output.
    outputs: u128,
    scales: Vec<Scale>,
}

impl Prepared {
    pub(crate) fn new(einsum: &Einsum) -> Self {
        let region = Region::of(einsum);
        let operands = || (0..operand_count(einsum)).map(|o| access_of(einsum, o));
        let patterns: Vec<Pattern> = operands()
            .map(|a| Pattern::of(einsum, Some(a), region))
            .collect();
        let outputs = patterns
            .last()
            .map_or(0, |p| touched_by(einsum, &einsum.output, p));
        Self {
            everything: Pattern::of(einsum, None, region),
            patterns,
            region,
            sizes: einsum.dims.iter().map(|d| d.size).collect(),
            outputs,
            scales: operands().map(|a| ragged_scale(einsum, a)).collect(),
        }
    }
}

/// The traffic of a mapping.
pub(crate) struct Counts<'a> {
    pub(crate) edges: Vec<Edge>,
    /// Temporal iterations in which at least one compute instance works.
    pub(crate) iterations: u128,
    pub(crate) prepared: &'a Prepared,
    einsum: &'a Einsum,
    nest: &'a Nest,
    /// The flow of each edge.
    flows: Vec<Flow<'a>>,
}

impl<'a> Counts<'a> {
    /// Counts the traffic of a nest.
    pub(crate) fn new(einsum: &'a Einsum, prepared: &'a Prepared, nest: &'a Nest) -> Self {
        let ones = vec![1; prepared.sizes.len()];
        let all = Flow::unsummed(
            &prepared.everything,
            &prepared.sizes,
            ones,
            &nest.loops,
            Retain::Nothing,
        );
        let iterations = all.entering_with(|_| Role::Merged);
        let stores = nest.chains.iter().map(Vec::len).sum();
        let mut counts = Self {
            edges: Vec::with_capacity(stores),
            iterations,
            prepared,
            einsum,
            nest,
            flows: Vec::with_capacity(stores),
        };
        for (operand, chain) in nest.chains.iter().enumerate() {
            counts.operand(operand, chain);
        }
        counts
    }

    fn operand(&mut self, operand: usize, chain: &'a [Store]) {
        let output = operand == self.nest.output();
        // Entries of the parent's buffer that started without a value.
        let mut fresh = self.prepared.outputs;
        for (order, parent) in chain.iter().enumerate() {
            let next = chain.get(order + 1);
            let mut edge = Edge {
                operand,
                output,
                parent: parent.level,
                from: parent.above,
                child: next.map(|s| s.level),
                to: next.map_or(self.nest.loops.len(), |s| s.above),
                entering: 0,
                served: 0,
                again: 0,
                returned: 0,
                finals: 0,
                child_partial: output && self.nest.holds_partial(order + 1),
                parent_share: 1.0,
                child_share: 1.0,
            };
            let flow = self.flow(&edge, next);
            let entering = flow.entering_all();
            edge.entering = self.scale(operand, entering);
            edge.served = self.scale(operand, self.served(&edge, &flow, entering));
            if output {
                self.sums(&mut edge, fresh);
                fresh = edge.entering.saturating_sub(edge.returned);
            }
            self.shares(&mut edge, &flow);
            self.edges.push(edge);
            self.flows.push(flow);
        }
    }

    /// What enters the buffers that the parent sees, of what enters all instances.
    fn served(&self, edge: &Edge, flow: &Flow, entering: u128) -> u128 {
        let merged = |i: &usize| self.merged(edge, *i) == Role::Merged;
        // Instances that need the same at the same times are served together; tiles apart have nothing in common.
        let alike = |i: usize| {
            let l = &self.nest.loops[i];
            let has = flow.pattern.alone(l.dim).filter(|_| l.whole)?;
            Some(if has { 1 } else { u128::from(l.trips) })
        };
        let spatial = self.spatial(edge.from, edge.to).filter(merged);
        match spatial.map(alike).product::<Option<u128>>() {
            Some(together) => entering / together,
            None => flow.entering_with(|i| self.merged(edge, i)),
        }
    }

    /// What is added to, comes back and is final of the outputs that arrive.
    fn sums(&self, edge: &mut Edge, fresh: u128) {
        let apart = |from: usize| {
            self.spatial(from, edge.to)
                .any(|i| self.nest.loops[i].scatters && self.merged(edge, i) == Role::Space)
        };
        let (added_above, never_final) = (apart(edge.from), apart(0));
        edge.again = edge.served.saturating_sub(fresh);
        edge.returned = if added_above { 0 } else { edge.again };
        edge.finals = if never_final {
            0
        } else {
            self.prepared.outputs.min(edge.served)
        };
    }

    /// Shares of the busiest instances.
    fn shares(&self, edge: &mut Edge, flow: &Flow) {
        let alike = |i: usize| {
            let l = &self.nest.loops[i];
            l.whole && flow.pattern.alone(l.dim).is_some()
        };
        if self.spatial(0, edge.to).all(alike) {
            let each = |above: usize| 1.0 / self.nest.instances(above) as f64;
            edge.parent_share = each(edge.from);
            edge.child_share = edge.child.map_or(1.0, |_| each(edge.to));
            return;
        }
        let fixed = |i: usize| Role::Fixed(self.busiest(i));
        let share = |some: u128, all: u128, above: usize| {
            if all == 0 {
                1.0
            } else {
                (some as f64 / all as f64).max(1.0 / self.nest.instances(above) as f64)
            }
        };
        if self.spatial(0, edge.from).next().is_some() {
            let one = flow.entering_with(|i| {
                if i < edge.from {
                    fixed(i)
                } else {
                    self.merged(edge, i)
                }
            });
            let one = self.scale(edge.operand, one);
            edge.parent_share = share(one, edge.served, edge.from);
        }
        if edge.child.is_some() && self.spatial(0, edge.to).next().is_some() {
            let one = self.scale(edge.operand, flow.entering_with(fixed));
            edge.child_share = share(one, edge.entering, edge.to);
        }
    }

    /// Indices of spatial loops.
    fn spatial(&self, from: usize, to: usize) -> impl Iterator<Item = usize> + use<'_> {
        (from..to).filter(|i| self.nest.loops[*i].network.is_some())
    }

    /// What a spatial loop is to the parent of an edge.
    fn merged(&self, edge: &Edge, i: usize) -> Role {
        if i >= edge.from && self.nest.loops[i].serves(edge.operand) {
            Role::Merged
        } else {
            Role::Space
        }
    }

    /// The iteration of a spatial loop whose instance has most work: the first; the last for causal queries.
    fn busiest(&self, i: usize) -> u64 {
        let l = &self.nest.loops[i];
        match self.prepared.region {
            Some(r) if r.a == l.dim && !r.is_stairs() => l.trips - 1,
            _ => 0,
        }
    }

    /// The flow into the child of an edge.
    fn flow(&self, edge: &Edge, child: Option<&Store>) -> Flow<'a> {
        let retain = match child {
            None => Retain::Nothing,
            Some(c) if c.refetches && !edge.output => Retain::Refetch,
            Some(_) => Retain::Keep,
        };
        Flow::new(
            &self.prepared.patterns[edge.operand],
            &self.prepared.sizes,
            self.nest.tiles(self.einsum, edge.to),
            &self.nest.loops[..edge.to],
            retain,
        )
    }

    fn scale(&self, operand: usize, count: u128) -> u128 {
        self.prepared.scales[operand].apply(count)
    }

    /// Elements of an operand that cross the fanout at a level, once for each instance reached, by edge; old
    /// values that go down are not among them.
    pub(crate) fn across(&self, level: usize) -> impl Iterator<Item = (&Edge, u128)> {
        let past = move |fanout: usize| fanout > level;
        self.crossing(level, past)
            .map(|(_, edge, words)| (edge, words))
    }

    /// The same, once for each group of instances that the fanout serves together, with the number of the edge.
    pub(crate) fn entering(&self, level: usize) -> impl Iterator<Item = (usize, &Edge, u128)> {
        self.crossing(level, move |fanout: usize| fanout >= level)
    }

    /// Elements that cross the fanout at a level, once for all that fanouts beyond some place serve together.
    fn crossing(
        &self,
        level: usize,
        beyond: impl Fn(usize) -> bool,
    ) -> impl Iterator<Item = (usize, &Edge, u128)> {
        let edges = self.edges.iter().zip(&self.flows).enumerate();
        edges
            .filter(move |(_, (e, _))| level >= e.parent && e.child.is_none_or(|c| level <= c))
            .map(move |(number, (edge, flow))| {
                let words = flow.entering_with(|i| {
                    let network = self.nest.loops[i].network;
                    if network.is_some_and(|n| beyond(n.level)) {
                        self.merged(edge, i)
                    } else {
                        Role::Space
                    }
                });
                (number, edge, self.scale(edge.operand, words))
            })
    }

    /// Elements of a full tile that a buffer under the first `above` loops keeps.
    pub(crate) fn tile_elements(&self, operand: usize, above: usize) -> u128 {
        let tiles = self.nest.tiles(self.einsum, above);
        self.prepared.patterns[operand].tile_elements(&tiles)
    }
}
