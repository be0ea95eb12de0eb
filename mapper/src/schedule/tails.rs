//! Views and epilogues: which ops cost no pass of their own.
//!
//! A view's output is its input under another shape: both are one stored tensor, called by the first one's id.
//!
//! Where a vector unit takes an array's outputs as they drain (`inline`), an op joins the epilogue of a MAC op
//! when all of this holds:
//! - it is one lane einsum without reduction, over as many elements as the MAC op puts out, which it reads
//!   plainly (no broadcast);
//! - it is the only reader of the MAC op's output (or of the epilogue's last op);
//! - everything else that it reads exists before the MAC op runs;
//! - both are in one block, run in as many steps, and the unit can compute it.
//!
//! The main operand then never moves; other operands (a residual) are read once; the lanes work while the array
//! does.

use presil_hwmodels::{Chip, EngineId, EngineKind};
use presil_workloads::{Graph, Op, OpId, OpKind, Role, TensorId};

use super::engines::Choice;

/// For each tensor, the stored one that it is a view of; itself for most.
pub(crate) fn bases(graph: &Graph) -> Vec<TensorId> {
    let mut base: Vec<TensorId> = graph.tensors.ids().collect();
    for op in graph.ops.iter() {
        if let (OpKind::View, Some(input)) = (&op.kind, op.inputs.first()) {
            for out in &op.outputs {
                base[out.0 as usize] = base[input.0 as usize];
            }
        }
    }
    base
}

/// Epilogues by MAC op, and where each op stands in time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tails {
    /// For each op, the MAC op whose epilogue it joined.
    pub(crate) into: Vec<Option<OpId>>,
    /// For each op, the ops of its epilogue in order.
    pub(crate) tail: Vec<Vec<OpId>>,
    /// For each op, the index of the op with which it runs.
    pub(crate) position: Vec<usize>,
}

/// The vector unit that takes array outputs directly.
pub(crate) fn inline_unit(chip: &Chip) -> Option<EngineId> {
    let inline = |e: &presil_hwmodels::Engine| matches!(e.kind, EngineKind::Vector { inline: true, .. });
    chip.engines.iter_ids().find(|(_, e)| inline(e)).map(|(id, _)| id)
}

/// Finds the epilogues.
pub(crate) fn find(chip: &Chip, graph: &Graph, choices: &[Choice], base: &[TensorId]) -> Tails {
    let n = graph.ops.len();
    let mut tails = Tails { into: vec![None; n], tail: vec![Vec::new(); n], position: (0..n).collect() };
    let Some(unit) = inline_unit(chip) else { return tails };

    let mut readers = vec![0u32; graph.tensors.len()];
    let mut maker: Vec<Option<OpId>> = vec![None; graph.tensors.len()];
    let mut kept = vec![false; graph.tensors.len()];
    for (id, op) in graph.ops.iter_ids() {
        if op.kind == OpKind::View {
            continue;
        }
        for t in &op.inputs {
            readers[base[t.0 as usize].0 as usize] += 1;
        }
        for t in &op.outputs {
            maker[base[t.0 as usize].0 as usize] = Some(id);
        }
    }
    for (id, t) in graph.tensors.iter_ids() {
        kept[base[id.0 as usize].0 as usize] |= t.role != Role::Activation;
    }
    let mut block = vec![0usize; n];
    for (b, range) in graph.blocks.iter().map(|b| &b.ops).enumerate() {
        for slot in &mut block[range.start as usize..range.end as usize] {
            *slot = b;
        }
    }

    for (id, op) in graph.ops.iter_ids() {
        let at = id.0 as usize;
        let on_unit = choices[at] == Choice::Vector(unit);
        if !on_unit || !is_elementwise(graph, op) {
            continue;
        }
        let Some(out) = op.outputs.first() else { continue };
        // When each operand exists; weights, inputs and caches always do.
        let ready = |t: &TensorId| maker[base[t.0 as usize].0 as usize].map(|m| tails.position[m.0 as usize]);
        let joins = op.inputs.iter().enumerate().filter_map(|(i, t)| {
            let stored = base[t.0 as usize].0 as usize;
            let root = maker[stored].map(|m| tails.into[m.0 as usize].unwrap_or(m))?;
            let r = root.0 as usize;
            let alone = readers[stored] == 1 && !kept[stored];
            let same = graph.tensors[*t].elements() == graph.tensors[*out].elements()
                && graph.tensors[base[t.0 as usize]].elements() == graph.tensors[*out].elements();
            let others = op.inputs.iter().enumerate().filter(|(j, _)| *j != i);
            let early = others.filter_map(|(_, t)| ready(t)).all(|p| p < tails.position[r]);
            let last = tails.tail[r].last().copied().unwrap_or(root);
            let behind = maker[stored] == Some(last);
            let together = block[r] == block[at] && graph.ops[root].steps == op.steps;
            let array = matches!(choices[r], Choice::Array(_));
            (array && alone && same && early && behind && together).then_some(root)
        });
        if let Some(root) = joins.max() {
            tails.into[at] = Some(root);
            tails.tail[root.0 as usize].push(id);
            tails.position[at] = tails.position[root.0 as usize];
        }
    }
    tails
}

/// Whether an op is one lane einsum over each element of its output.
fn is_elementwise(graph: &Graph, op: &Op) -> bool {
    let OpKind::Cascade(einsums) = &op.kind else { return false };
    let [e] = einsums.as_slice() else { return false };
    let [out] = op.outputs.as_slice() else { return false };
    !e.is_contraction()
        && e.dim_ids().all(|d| !e.is_reduced(d) || e.dim(d).size == 1)
        && e.points() == Some(graph.tensors[*out].elements())
}
