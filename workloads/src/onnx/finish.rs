//! From the built graph to the finished one: attention recognized, unused parts dropped, names unique.
//!
//! A matmul of two activations whose result reaches a softmax through elementwise ops, views and moves only, and
//! the matmul of activations that reads that softmax's result, are attention scores and attention values.

use presil_numerics::IdVec;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::build::Builder;
use crate::graph::{Graph, GraphError};
use crate::op::{Op, OpClass, OpId, OpKind};
use crate::tensor::{Role, Tensor, TensorId};

/// How many ops lie between a matmul and its softmax at most.
const REACH: usize = 12;
/// How many readers of a softmax are looked at.
const READERS: usize = 64;

/// Finishes a graph.
pub(crate) fn finish(mut builder: Builder, dropped: &FxHashSet<u32>) -> Result<Graph, GraphError> {
    let graph = &mut builder.graph;
    let ops = std::mem::take(&mut graph.ops);
    graph.ops = ops
        .iter()
        .enumerate()
        .filter(|(i, _)| !dropped.contains(&(*i as u32)))
        .map(|(_, op)| op.clone())
        .collect::<IdVec<OpId, Op>>();
    attention(graph);
    drop_unused(graph);
    let tensors = graph.tensors.iter_mut().map(|t| &mut t.name);
    unique(tensors);
    unique(graph.ops.iter_mut().map(|o| &mut o.name));
    builder.finish()
}

/// Names that occur again get a number behind.
fn unique<'a>(names: impl Iterator<Item = &'a mut String>) {
    let mut seen: FxHashSet<String> = FxHashSet::default();
    let mut next: FxHashMap<String, u32> = FxHashMap::default();
    for name in names {
        while !seen.insert(name.clone()) {
            let base = name
                .split_once('~')
                .map_or(name.as_str(), |(b, _)| b)
                .to_string();
            let number = next.entry(base.clone()).or_insert(1);
            *number += 1;
            *name = format!("{base}~{number}");
        }
    }
}

/// Drops tensors that no op touches, but those that the file gives (inputs, outputs, weights).
fn drop_unused(graph: &mut Graph) {
    let mut used: Vec<bool> = graph
        .tensors
        .iter()
        .map(|t| matches!(t.role, Role::Input | Role::Output | Role::Weight))
        .collect();
    for op in graph.ops.iter() {
        for t in op.inputs.iter().chain(&op.outputs) {
            used[t.0 as usize] = true;
        }
    }
    let mut next = 0;
    let new: Vec<TensorId> = used
        .iter()
        .map(|u| {
            let id = TensorId(next);
            next += u32::from(*u);
            id
        })
        .collect();
    let tensors = std::mem::take(&mut graph.tensors);
    graph.tensors = tensors
        .iter()
        .zip(&used)
        .filter(|(_, u)| **u)
        .map(|(t, _)| t.clone())
        .collect::<IdVec<TensorId, Tensor>>();
    for op in graph.ops.iter_mut() {
        for t in op.inputs.iter_mut().chain(&mut op.outputs) {
            *t = new[t.0 as usize];
        }
    }
}

/// Whether data pass through an op unchanged in meaning: scaled, masked, seen in another shape.
fn passes(op: &Op) -> bool {
    matches!(
        op.class,
        OpClass::Elementwise | OpClass::Move | OpClass::Quantize
    ) || matches!(op.kind, OpKind::View)
}

fn attention(graph: &mut Graph) {
    let (made, read) = graph.uses();
    let mut classes: Vec<(OpId, OpClass)> = Vec::new();
    for (id, op) in graph
        .ops
        .iter_ids()
        .filter(|(_, op)| op.class == OpClass::Softmax)
    {
        let matmul = |id: &OpId| graph.ops[*id].class == OpClass::Matmul;
        // Backwards along the operand that the softmax normalizes (the largest one).
        let mut at = op.inputs.first().copied();
        let mut scores = None;
        for _ in 0..REACH {
            let Some(maker) = at.and_then(|t| made[t.0 as usize]) else {
                break;
            };
            if matmul(&maker) {
                scores = Some(maker);
                break;
            }
            let maker = &graph.ops[maker];
            if !passes(maker) {
                break;
            }
            at = maker.inputs.iter().copied().rev().max_by_key(|t| {
                graph.tensors[*t].elements() + u64::from(made[t.0 as usize].is_some())
            });
        }
        // Forwards to the product with the values.
        let mut values = None;
        let mut front = op.outputs.first().copied();
        for _ in 0..REACH {
            let Some(t) = front else { break };
            let readers = read[t.0 as usize].as_slice();
            let readers = &readers[..readers.len().min(READERS)];
            values = readers.iter().copied().find(|r| matmul(r) && *r > id);
            if values.is_some() {
                break;
            }
            let through = readers.iter().find(|r| passes(&graph.ops[**r]));
            front = through.and_then(|r| graph.ops[*r].outputs.first().copied());
        }
        if let (Some(scores), Some(values)) = (scores, values) {
            classes.extend([
                (scores, OpClass::AttentionQk),
                (values, OpClass::AttentionPv),
            ]);
        }
    }
    for (id, class) in classes {
        graph.ops[id].class = class;
    }
}
