//! MACs, parameters and bytes of a graph.
//!
//! # Counting rules
//!
//! 1. One MAC is one multiply-accumulate of a convolution, linear or matmul. Bias, norms, activations, softmax,
//!    position encodings, pooling and look-ups count 0.
//! 2. Convolution: `N K P Q (C/g) R S`; padding taps are counted. Transposed: input elements x `(K/g) R S`.
//! 3. `macs` counts attention dense (every query with every key that the op is given); `executed_macs` counts
//!    the pairs inside the mask. Time and energy follow the executed ones.
//! 4. Grouped-query attention counts per query head.
//! 5. Mixture of experts counts tokens x experts per token.
//! 6. Parameters are the elements of all weights, each once; a weight used twice (tied embeddings) counts once;
//!    a weight in a repeated block counts once for each repetition unless it is shared.

use std::collections::BTreeMap;

use crate::graph::Graph;
use crate::op::OpId;
use crate::tensor::Role;

/// Totals of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// MACs by the counting rules (attention dense).
    pub macs: u128,
    /// MACs inside the masks.
    pub executed_macs: u128,
    /// MACs by op class.
    pub macs_by_class: BTreeMap<&'static str, u128>,
    /// Elements of all weights.
    pub parameters: u128,
    /// Stored bytes of all weights, scales included.
    pub weight_bytes: u128,
    /// Stored bytes of all caches.
    pub cache_bytes: u128,
}

/// MACs (dense, executed) of one run of an op: all its steps, one repetition of its block.
pub fn op_macs(graph: &Graph, op: OpId) -> (u128, u128) {
    let op = &graph.ops[op];
    match op.contraction() {
        Some(e) => {
            let times = |n: Option<u64>| u128::from(n.unwrap_or(u64::MAX)) * u128::from(op.steps);
            (times(e.points()), times(e.executed_points()))
        }
        None => (0, 0),
    }
}

/// How often each tensor exists: the repeat count of the block that uses it, or 1 if shared or used in several.
pub fn tensor_repeats(graph: &Graph) -> Vec<u64> {
    let mut repeats: Vec<Option<u64>> = vec![None; graph.tensors.len()];
    for (op, repeat) in graph.ops.iter().zip(graph.repeats()) {
        for t in op.inputs.iter().chain(&op.outputs) {
            let slot = &mut repeats[t.0 as usize];
            *slot = Some(slot.map_or(repeat, |r| r.min(repeat)));
        }
    }
    let shared = graph.tensors.iter().map(|t| t.shared);
    repeats
        .into_iter()
        .zip(shared)
        .map(|(r, shared)| if shared { 1 } else { r.unwrap_or(1) })
        .collect()
}

/// Totals of a graph.
pub fn count(graph: &Graph) -> Counts {
    let mut counts = Counts::default();
    for (id, repeat) in graph.ops.ids().zip(graph.repeats()) {
        let (macs, executed) = op_macs(graph, id);
        if macs > 0 {
            let repeat = u128::from(repeat);
            counts.macs += macs * repeat;
            counts.executed_macs += executed * repeat;
            *counts
                .macs_by_class
                .entry(graph.ops[id].class.name())
                .or_insert(0) += macs * repeat;
        }
    }
    for (t, repeat) in graph.tensors.iter().zip(tensor_repeats(graph)) {
        let times = u128::from(repeat);
        match t.role {
            Role::Weight => {
                counts.parameters += u128::from(t.elements()) * times;
                counts.weight_bytes += u128::from(t.bits().bytes_ceil().0) * times;
            }
            Role::Cache => counts.cache_bytes += u128::from(t.bits().bytes_ceil().0) * times,
            _ => {}
        }
    }
    counts
}
