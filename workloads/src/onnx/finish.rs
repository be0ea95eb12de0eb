//! From the built graph to the finished one: attention recognized, unused parts dropped, names unique.
//!
//! A matmul of two activations whose result reaches a softmax through elementwise ops, views and moves only, and
//! the matmul of activations that reads that softmax's result, are attention scores and attention values.

use presil_numerics::IdVec;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::build::Builder;
use crate::graph::{Graph, GraphError};
use crate::meaning::Meaning;
use crate::op::{Op, OpClass, OpId, OpKind};
use crate::tensor::{Role, Tensor, TensorId};

/// How many ops lie between a matmul and its softmax at most.
const REACH: usize = 12;
/// How many readers of a softmax are looked at.
const READERS: usize = 64;

/// Finishes a graph; what each tensor is called afterwards, where it is kept.
pub(crate) fn finish(
    mut builder: Builder,
    dropped: &FxHashSet<u32>,
) -> Result<(Graph, Vec<Option<TensorId>>), GraphError> {
    let graph = &mut builder.graph;
    let ops = std::mem::take(&mut graph.ops);
    graph.ops = ops
        .iter()
        .enumerate()
        .filter(|(i, _)| !dropped.contains(&(*i as u32)))
        .map(|(_, op)| op.clone())
        .collect::<IdVec<OpId, Op>>();
    attention(graph);
    let kept = drop_unused(graph);
    let tensors = graph.tensors.iter_mut().map(|t| &mut t.name);
    unique(tensors);
    unique(graph.ops.iter_mut().map(|o| &mut o.name));
    Ok((builder.finish()?, kept))
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
fn drop_unused(graph: &mut Graph) -> Vec<Option<TensorId>> {
    let mut used: Vec<bool> = graph
        .tensors
        .iter()
        .map(|t| matches!(t.role, Role::Input | Role::Output | Role::Weight))
        .collect();
    for op in graph.ops.iter() {
        let reads: &[TensorId] = match &op.meaning {
            Meaning::Program(program) => &program.reads,
            _ => &[],
        };
        for t in op.inputs.iter().chain(&op.outputs).chain(reads) {
            used[t.0 as usize] = true;
        }
    }
    let mut next = 0;
    let new: Vec<Option<TensorId>> = used
        .iter()
        .map(|u| {
            let id = TensorId(next);
            next += u32::from(*u);
            u.then_some(id)
        })
        .collect();
    let tensors = std::mem::take(&mut graph.tensors);
    graph.tensors = tensors
        .iter()
        .zip(&used)
        .filter(|(_, u)| **u)
        .map(|(t, _)| t.clone())
        .collect::<IdVec<TensorId, Tensor>>();
    let renumber = |t: &mut TensorId| {
        if let Some(Some(id)) = new.get(t.0 as usize) {
            *t = *id;
        }
    };
    for op in graph.ops.iter_mut() {
        op.inputs
            .iter_mut()
            .chain(&mut op.outputs)
            .for_each(renumber);
        if let Meaning::Program(program) = &mut op.meaning {
            program.reads.iter_mut().for_each(renumber);
            program.gives.retain(|(t, _)| used[t.0 as usize]);
            program.gives.iter_mut().for_each(|(t, _)| renumber(t));
        }
    }
    let constants = std::mem::take(&mut graph.constants).into_iter();
    graph.constants = constants
        .filter_map(|(t, values)| Some((new.get(t.0 as usize).copied()??, values)))
        .collect();
    new
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
