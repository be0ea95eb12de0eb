//! The bits of a problem's traffic: accesses of memories and wires.

use presil_hwmodels::{NodeId, Operand};

use super::counts::{Counts, Edge};
use crate::cost::MemoryCount;
use crate::problem::Problem;

/// The operand of an edge of a problem.
pub(crate) fn operand(edge: &Edge) -> Operand {
    match edge.operand {
        0 => Operand::Input,
        1 => Operand::Weight,
        _ => Operand::Output,
    }
}

/// Accesses of an edge's parent, and of its child if that is a memory.
pub(crate) fn accesses(problem: &Problem, edge: &Edge) -> (MemoryCount, Option<MemoryCount>) {
    let count = |level: usize, reads: u128, writes: u128, read_bits, write_bits| MemoryCount {
        memory: problem.path.get(level).copied().unwrap_or(NodeId(0)),
        operand: operand(edge),
        reads,
        writes,
        read_bits,
        write_bits,
    };
    let width = problem.bits[operand(edge).index()];
    if !edge.output {
        let bits = |words: u128| words as f64 * width;
        let parent = count(edge.parent, edge.served, 0, bits(edge.served), 0.0);
        let child = edge
            .child
            .map(|c| count(c, 0, edge.entering, 0.0, bits(edge.entering)));
        return (parent, child);
    }
    let wide = problem.accumulate.bits() as f64;
    let written = edge.finals as f64 * width + (edge.served - edge.finals) as f64 * wide;
    let old = edge.again as f64 * wide;
    let parent = count(edge.parent, edge.again, edge.served, old, written);
    let child = edge.child.map(|c| {
        let held = if edge.child_partial { wide } else { width };
        let (drained, returned) = (edge.entering as f64 * held, edge.returned as f64 * wide);
        count(c, edge.entering, edge.returned, drained, returned)
    });
    (parent, child)
}

/// Reads and writes of each memory.
pub(crate) fn by_memory(problem: &Problem, counts: &Counts) -> Vec<MemoryCount> {
    let mut sums: Vec<MemoryCount> = Vec::with_capacity(counts.edges.len() + 3);
    for edge in &counts.edges {
        let (parent, child) = accesses(problem, edge);
        for access in [Some(parent), child].into_iter().flatten() {
            let found = sums
                .iter_mut()
                .find(|c| c.memory == access.memory && c.operand == access.operand);
            match found {
                Some(c) => {
                    c.reads += access.reads;
                    c.writes += access.writes;
                    c.read_bits += access.read_bits;
                    c.write_bits += access.write_bits;
                }
                None => sums.push(access),
            }
        }
    }
    sums
}

/// Bits that cross the fanout at a place of the path, in both directions, once for each instance reached.
pub(crate) fn hop_bits(problem: &Problem, counts: &Counts, place: usize) -> f64 {
    let across = counts.across(place);
    across
        .map(|(edge, words)| word_bits(problem, edge, words) + returned_bits(problem, edge))
        .sum()
}

/// Bits of some words of an edge on their way: outputs are as wide as sums, but for those that are final.
pub(crate) fn word_bits(problem: &Problem, edge: &Edge, words: u128) -> f64 {
    if !edge.output {
        return words as f64 * problem.bits[operand(edge).index()];
    }
    let finals = if words == edge.served { edge.finals } else { 0 };
    finals as f64 * problem.bits[2] + (words - finals) as f64 * problem.accumulate.bits() as f64
}

/// Bits of old values that go down; none of inputs.
pub(crate) fn returned_bits(problem: &Problem, edge: &Edge) -> f64 {
    edge.returned as f64 * problem.accumulate.bits() as f64
}
