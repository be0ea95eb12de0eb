//! presil's own convention: elements that really move.
//!
//! # Counts
//!
//! Those of [`crate::analysis`], on any hierarchy, for any number of inputs and any domain: partial tiles, borders
//! and halos are counted as they are; first visits of outputs read nothing; outputs drain. For a memory and an
//! operand kept there,
//!
//! ```text
//! fills    inputs: elements that enter; outputs: old values that come down        written from above
//! drains   outputs: elements that leave                                           read to above
//! reads    inputs: elements that groups below need; outputs: old values           read to below
//! updates  outputs: elements that groups below send up                            written from below
//! ```
//!
//! summed over instances. A *group* is what one transfer serves: instances along axes with `shares` under loops
//! that do not index the operand, and along axes with `shares_overlap` under any loop; seen from above it is one
//! buffer that holds the union of its members' tiles.
//!
//! The outermost storage node of an operand is its home: the whole tensor starts (inputs) or ends (outputs) there,
//! and memories above it carry nothing of it. It may stand below loops, but the output's not below spatial loops
//! that split its sums: nothing would add them up.
//!
//! # Capacity
//!
//! ```text
//! buffering x sum over operands kept of (elements of a full tile x bits there) <= capacity
//! ```
//!
//! A full tile has the elements that its points touch: a sliding window's union, less gaps of strides, at most the
//! extent of the rank.
//!
//! # Energy, in picojoules
//!
//! ```text
//! read, drain = blocks x block x bits x read energy         blocks = ceil(elements / block)
//! write       = the same with the write energy              (fills)
//! update      = the same with the update energy
//! hop         = elements reached x bits of the memory above x hop energy, by fanout
//! compute     = points of the domain x energy of an operation
//! leak        = instances there are x leakage x cycles
//! ```
//!
//! Elements of one operand stand packed in blocks; the last block is accessed whole.
//!
//! # Time, in cycles
//!
//! ```text
//! T       = max over ports and compute
//! compute = iterations / rate             temporal iterations in which at least one instance has work
//! port    = sum over what it carries of bits / rate     of the busiest instance, bits in whole granules
//! ```
//!
//! The busiest instance is the first along each spatial loop (the last along the queries of a causal or banded
//! domain), or an average one if that has more. Start-up and what cannot overlap are a chip's
//! ([`crate::analysis`], `time`), not a hierarchy's.

#[cfg(test)]
mod tests;

use presil_workloads::Einsum;

use super::{Accesses, ActionEnergy, Convention, ConventionError, CyclePart, Evaluation};
use crate::analysis::counts::{Counts, Edge, Prepared};
use crate::analysis::nest::Nest;
use crate::hierarchy::{Hierarchy, Level, MemoryLevel, Transfer, operand_count};
use crate::looptree::{LoopTree, LoopTreeError};

/// What a checked loop tree costs. For many of one einsum use an [`Evaluator`].
///
/// # Errors
/// As [`Evaluator::evaluate`].
pub fn evaluate(
    einsum: &Einsum,
    hierarchy: &Hierarchy,
    tree: &LoopTree,
) -> Result<Evaluation, ConventionError> {
    Evaluator::new(einsum, hierarchy)?.evaluate_checked(tree)
}

/// The evaluation of loop trees of one einsum on one hierarchy.
#[derive(Debug, Clone)]
pub struct Evaluator<'a> {
    einsum: &'a Einsum,
    hierarchy: &'a Hierarchy,
    prepared: Prepared,
    operations: u64,
}

/// Elements that a memory and an operand exchange, and the share of the busiest instance in each.
#[derive(Debug, Clone, Copy, Default)]
struct Moved {
    level: usize,
    operand: usize,
    tile: f64,
    instances: f64,
    /// Fills, drains, reads, updates: as [`Transfer::ALL`].
    elements: [f64; 4],
    busiest: [f64; 4],
}

impl<'a> Evaluator<'a> {
    /// Prepares what all loop trees share.
    ///
    /// # Errors
    /// If the einsum has too many points to count, a memory does not tell how wide its operands are, or one serves
    /// other axes than those below it.
    pub fn new(einsum: &'a Einsum, hierarchy: &'a Hierarchy) -> Result<Self, ConventionError> {
        let operands = operand_count(einsum);
        let bare = hierarchy.levels.iter().filter_map(Level::memory);
        if let Some(m) = bare.into_iter().find(|m| m.bits.len() < operands) {
            return beyond(format!(
                "needs the bits of all {operands} operands at memory `{}`, which has {}",
                m.name,
                m.bits.len()
            ));
        }
        if let Some(m) = misplaced(hierarchy) {
            return beyond(format!(
                "takes memory `{m}` to serve all axes below it on the path; move it to where it belongs"
            ));
        }
        let few = einsum.points().is_some_and(|p| p <= i64::MAX as u64);
        let Some(operations) = einsum.executed_points().filter(|_| few) else {
            return beyond("cannot count that many points; split the einsum".into());
        };
        Ok(Self {
            einsum,
            hierarchy,
            prepared: Prepared::new(einsum),
            operations,
        })
    }

    /// What a loop tree costs.
    ///
    /// # Errors
    /// If it is no mapping of the einsum on the hierarchy, tiles do not fit, or the output's home lies below spatial
    /// loops that split its sums.
    pub fn evaluate(&self, tree: &LoopTree) -> Result<Evaluation, ConventionError> {
        tree.check(self.einsum, self.hierarchy)?;
        self.evaluate_checked(tree)
    }

    fn evaluate_checked(&self, tree: &LoopTree) -> Result<Evaluation, ConventionError> {
        let nest = Nest::of_tree(self.einsum, self.hierarchy, tree);
        self.check_home(&nest)?;
        let counts = Counts::new(self.einsum, &self.prepared, &nest);
        let moved = self.moved(&nest, &counts);
        self.check_capacity(&moved)?;
        let mut evaluation = Evaluation {
            accesses: moved.iter().map(Moved::accesses).collect(),
            parts: self.parts(&moved, &counts),
            operations: self.operations as f64,
            instances_used: nest.instances(nest.loops.len()) as f64,
            ..Evaluation::default()
        };
        evaluation.cycles = evaluation.parts.iter().fold(0.0, |t, p| t.max(p.cycles));
        evaluation.energy = self.energy(&moved, &counts, evaluation.cycles);
        Ok(evaluation)
    }

    fn check_home(&self, nest: &Nest) -> Result<(), ConventionError> {
        let home = nest.chains[nest.output()].first();
        let mut above = nest.loops[..home.map_or(0, |s| s.above)].iter();
        if above.any(|l| l.network.is_some() && l.scatters) {
            return beyond(
                "needs the output kept above the spatial loops that split its sums".into(),
            );
        }
        Ok(())
    }

    /// What each memory and operand exchange, outermost level first.
    fn moved(&self, nest: &Nest, counts: &Counts) -> Vec<Moved> {
        let mut moved: Vec<Moved> = Vec::with_capacity(counts.edges.len());
        for edge in &counts.edges {
            let store = |level: usize, above: usize| Moved {
                level,
                operand: edge.operand,
                tile: counts.tile_elements(edge.operand, above) as f64,
                instances: nest.instances(above) as f64,
                ..Moved::default()
            };
            // Edges follow an operand inwards: a parent was the child before.
            let known = moved
                .last()
                .is_some_and(|m| (m.level, m.operand) == (edge.parent, edge.operand));
            if !known {
                moved.push(store(edge.parent, edge.from));
            }
            let (below, above) = exchanged(edge);
            if let Some(parent) = moved.last_mut() {
                below
                    .into_iter()
                    .for_each(|(t, n)| parent.add(t, n, edge.parent_share));
            }
            if let Some(level) = edge.child {
                let mut child = store(level, edge.to);
                above
                    .into_iter()
                    .for_each(|(t, n)| child.add(t, n, edge.child_share));
                moved.push(child);
            }
        }
        moved.sort_by_key(|m| (m.level, m.operand));
        moved
    }

    fn check_capacity(&self, moved: &[Moved]) -> Result<(), ConventionError> {
        for (level, memory) in self.hierarchy.levels.iter().enumerate() {
            let Some(memory) = memory.memory() else {
                continue;
            };
            let kept = moved.iter().filter(|m| m.level == level);
            let needed =
                memory.buffering * kept.map(|m| m.tile * memory.bits[m.operand]).sum::<f64>();
            if needed > memory.capacity {
                return Err(LoopTreeError::Capacity {
                    memory: memory.name.clone(),
                    needed_bits: needed.ceil() as u64,
                    available_bits: memory.capacity as u64,
                }
                .into());
            }
        }
        Ok(())
    }

    fn parts(&self, moved: &[Moved], counts: &Counts) -> Vec<CyclePart> {
        let mut parts = Vec::new();
        for (level, l) in self.hierarchy.levels.iter().enumerate() {
            match l {
                Level::Memory(memory) => {
                    let kept = || moved.iter().filter(|m| m.level == level);
                    parts.extend(memory.ports.iter().map(|port| {
                        let times = port.carries.iter().flat_map(|(operand, transfer)| {
                            kept()
                                .filter(|m| m.operand == *operand)
                                .map(|m| m.time(memory, port, *transfer))
                        });
                        CyclePart {
                            name: format!("{} {}", memory.name, port.name),
                            cycles: times.sum(),
                        }
                    }));
                }
                Level::Fanout(_) => {}
                Level::Compute(c) => parts.push(CyclePart {
                    name: c.name.clone(),
                    cycles: counts.iterations as f64 / c.rate,
                }),
            }
        }
        parts
    }

    fn energy(&self, moved: &[Moved], counts: &Counts, cycles: f64) -> Vec<ActionEnergy> {
        let mut energies = Vec::new();
        let mut add = |level: usize, operand: Option<usize>, action: &'static str, energy: f64| {
            if energy != 0.0 {
                energies.push(ActionEnergy {
                    level,
                    operand,
                    action,
                    energy,
                });
            }
        };
        let mut instances = 1.0;
        for (level, l) in self.hierarchy.levels.iter().enumerate() {
            match l {
                Level::Memory(memory) => {
                    for m in moved.iter().filter(|m| m.level == level) {
                        for transfer in Transfer::ALL {
                            let (action, energy) = m.energy(memory, transfer);
                            add(level, Some(m.operand), action, energy);
                        }
                    }
                    add(level, None, "leak", memory.leakage * instances * cycles);
                }
                Level::Fanout(fanout) => {
                    if fanout.hop_energy != 0.0 {
                        for (edge, words) in counts.across(level) {
                            let sent = (words + edge.returned) as f64 * self.width(edge);
                            add(level, Some(edge.operand), "hop", sent * fanout.hop_energy);
                        }
                    }
                    instances *= fanout.axes.iter().map(|a| a.size as f64).product::<f64>();
                }
                Level::Compute(compute) => {
                    let operations = self.operations as f64;
                    add(level, None, "compute", operations * compute.energy);
                    add(level, None, "leak", compute.leakage * instances * cycles);
                }
            }
        }
        energies
    }

    /// Bits of an element on its way between the memories of an edge: as the one above stores it.
    fn width(&self, edge: &Edge) -> f64 {
        let memory = self
            .hierarchy
            .levels
            .get(edge.parent)
            .and_then(Level::memory);
        memory.map_or(0.0, |m| m.bits[edge.operand])
    }
}

/// The first memory that says to serve other axes than all of the fanouts below it.
fn misplaced(hierarchy: &Hierarchy) -> Option<&str> {
    let levels = hierarchy.levels.iter().enumerate();
    let mut memories = levels.filter_map(|(level, l)| Some((level, l.memory()?)));
    let misplaced = memories.find(|(level, m)| {
        let below = hierarchy.levels[*level..].iter().filter_map(Level::fanout);
        let mut axes = below.flat_map(|f| &f.axes);
        let count = axes.clone().count();
        !m.serves.is_empty()
            && (m.serves.len() != count || axes.any(|a| !m.serves.contains(&a.name)))
    });
    misplaced.map(|(_, m)| m.name.as_str())
}

/// Elements by transfer.
type Exchange = [(Transfer, u128); 2];

/// What the parent of an edge exchanges with below, and the child with above.
fn exchanged(edge: &Edge) -> (Exchange, Exchange) {
    if edge.output {
        (
            [
                (Transfer::ToBelow, edge.again),
                (Transfer::FromBelow, edge.served),
            ],
            [
                (Transfer::FromAbove, edge.returned),
                (Transfer::ToAbove, edge.entering),
            ],
        )
    } else {
        (
            [(Transfer::ToBelow, edge.served), (Transfer::FromBelow, 0)],
            [(Transfer::FromAbove, edge.entering), (Transfer::ToAbove, 0)],
        )
    }
}

impl Moved {
    fn add(&mut self, transfer: Transfer, elements: u128, share: f64) {
        self.elements[transfer as usize] += elements as f64;
        self.busiest[transfer as usize] += elements as f64 * share;
    }

    fn of(&self, transfer: Transfer) -> f64 {
        self.elements[transfer as usize]
    }

    fn accesses(&self) -> Accesses {
        Accesses {
            level: self.level,
            operand: self.operand,
            tile: self.tile,
            instances: self.instances,
            reads: self.of(Transfer::ToBelow),
            fills: self.of(Transfer::FromAbove),
            updates: self.of(Transfer::FromBelow),
            drains: self.of(Transfer::ToAbove),
            ..Accesses::default()
        }
    }

    /// Cycles that a transfer keeps a port of the busiest instance busy.
    fn time(&self, memory: &MemoryLevel, port: &crate::hierarchy::Port, transfer: Transfer) -> f64 {
        let rate = if transfer.reads() {
            port.read_rate
        } else {
            port.write_rate
        };
        let bits = self.busiest[transfer as usize] * memory.bits[self.operand];
        let granule = port.granule;
        let whole = if granule > 0.0 {
            (bits / granule).ceil() * granule
        } else {
            bits
        };
        if whole > 0.0 { whole / rate } else { 0.0 }
    }

    fn energy(&self, memory: &MemoryLevel, transfer: Transfer) -> (&'static str, f64) {
        let (action, bit) = match transfer {
            Transfer::FromAbove => ("write", memory.write_energy),
            Transfer::ToAbove => ("drain", memory.read_energy),
            Transfer::ToBelow => ("read", memory.read_energy),
            Transfer::FromBelow => ("update", memory.update_energy),
        };
        let block = memory.block.max(1) as f64;
        let elements = (self.of(transfer) / block).ceil() * block;
        (action, elements * memory.bits[self.operand] * bit)
    }
}

fn beyond<T>(reason: String) -> Result<T, ConventionError> {
    Err(ConventionError::Beyond {
        convention: Convention::Physical.name(),
        reason,
    })
}
