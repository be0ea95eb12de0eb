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
//!
//! A batch norm of a trained network is `y = scale[c] x + shift[c]`. Directly behind a MAC op with stored weights
//! it is no op at all: `scale (w * x) + shift = (scale w) * x + shift`, so deployment multiplies the scale into
//! the weights and makes the shift the bias (Jacob et al., CVPR 2018, section 3.2). What is left is a constant or
//! two for each channel (bias, and the multiplier of quantized outputs), which are read as the parameters of the
//! norm are.

use presil_hwmodels::{Chip, EngineId, EngineKind, Operand};
use presil_numerics::LanePrimitive;
use presil_workloads::einsum::Place;
use presil_workloads::{
    Access, DimId, Einsum, Graph, MapOperator, Op, OpClass, OpId, OpKind, Role, TensorId,
};

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
    /// For each op, whether it is a batch norm folded into the weights of the MAC op that it joined.
    pub(crate) folded: Vec<bool>,
}

impl Tails {
    fn join(&mut self, op: OpId, root: OpId) {
        let at = op.0 as usize;
        self.into[at] = Some(root);
        self.tail[root.0 as usize].push(op);
        self.position[at] = self.position[root.0 as usize];
    }

    /// The same with positions in another order of the ops, in which epilogues follow their MAC ops.
    pub(super) fn placed(&self, order: &[OpId]) -> Self {
        let mut tails = self.clone();
        let root = |op: &OpId| self.into[op.0 as usize].unwrap_or(*op);
        for (p, op) in order.iter().enumerate() {
            tails.position[op.0 as usize] = p;
        }
        for op in order {
            tails.position[op.0 as usize] = tails.position[root(op).0 as usize];
        }
        tails
    }
}

/// The vector unit that takes array outputs directly.
pub(crate) fn inline_unit(chip: &Chip) -> Option<EngineId> {
    let inline =
        |e: &presil_hwmodels::Engine| matches!(e.kind, EngineKind::Vector { inline: true, .. });
    chip.engines
        .iter_ids()
        .find(|(_, e)| inline(e))
        .map(|(id, _)| id)
}

/// Finds the epilogues.
pub(crate) fn find(chip: &Chip, graph: &Graph, choices: &[Choice], base: &[TensorId]) -> Tails {
    let n = graph.ops.len();
    let mut tails = Tails {
        into: vec![None; n],
        tail: vec![Vec::new(); n],
        position: (0..n).collect(),
        folded: vec![false; n],
    };
    let unit = inline_unit(chip);

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
        if !is_elementwise(graph, op) {
            continue;
        }
        let main = op.inputs.first().map(|t| base[t.0 as usize].0 as usize);
        let behind = main
            .filter(|t| readers[*t] == 1 && !kept[*t])
            .and_then(|t| maker[t]);
        let takes = |root: &OpId| {
            let (r, tail) = (root.0 as usize, &tails.tail[root.0 as usize]);
            matches!(choices[r], Choice::Array(_))
                && block[r] == block[at]
                && graph.ops[*root].steps == op.steps
                && tail.iter().all(|o| tails.folded[o.0 as usize])
                && behind == Some(tail.last().copied().unwrap_or(*root))
                && folds(graph, *root, op)
        };
        let root = behind
            .map(|o| tails.into[o.0 as usize].unwrap_or(o))
            .filter(takes);
        if let Some(root) = root {
            tails.join(id, root);
            tails.folded[at] = true;
            continue;
        }
        if unit.is_none_or(|u| choices[at] != Choice::Vector(u)) {
            continue;
        }
        // The output unit of a block engine has one input.
        if chip.blocks.is_some() && op.inputs.len() > 1 {
            continue;
        }
        let Some(out) = op.outputs.first() else {
            continue;
        };
        // When each operand exists; weights, inputs and caches always do.
        let ready = |t: &TensorId| {
            maker[base[t.0 as usize].0 as usize].map(|m| tails.position[m.0 as usize])
        };
        let joins = op.inputs.iter().enumerate().filter_map(|(i, t)| {
            let stored = base[t.0 as usize].0 as usize;
            let root = maker[stored].map(|m| tails.into[m.0 as usize].unwrap_or(m))?;
            let r = root.0 as usize;
            let alone = readers[stored] == 1 && !kept[stored];
            let same = graph.tensors[*t].elements() == graph.tensors[*out].elements()
                && graph.tensors[base[t.0 as usize]].elements() == graph.tensors[*out].elements();
            let others = op.inputs.iter().enumerate().filter(|(j, _)| *j != i);
            let early = others
                .filter_map(|(_, t)| ready(t))
                .all(|p| p < tails.position[r]);
            let last = tails.tail[r].last().copied().unwrap_or(root);
            let behind = maker[stored] == Some(last);
            let together = block[r] == block[at] && graph.ops[root].steps == op.steps;
            let array = matches!(choices[r], Choice::Array(_));
            (array && alone && same && early && behind && together).then_some(root)
        });
        if let Some(root) = joins.max() {
            tails.join(id, root);
        }
    }
    tails
}

/// Whether an elementwise op is a batch norm whose parameters the weights of a MAC op can take: one multiply-add
/// by stored vectors over the channels, those dimensions of the MAC op's output that its weights have.
fn folds(graph: &Graph, root: OpId, op: &Op) -> bool {
    let (OpKind::Cascade(einsums), Some(mac)) = (&op.kind, graph.ops[root].contraction()) else {
        return false;
    };
    let [norm] = einsums.as_slice() else {
        return false;
    };
    let stored = |t: TensorId| graph.tensors[t].role == Role::Weight;
    let weights = mac
        .inputs
        .get(Operand::Weight.index())
        .filter(|a| match a.place {
            Place::Input(i) => graph.ops[root]
                .inputs
                .get(i as usize)
                .is_some_and(|t| stored(*t)),
            _ => false,
        });
    let Some(weights) = weights else { return false };
    let channel = |d: &DimId| Einsum::names(&mac.output, *d) && Einsum::names(weights, *d);
    let channels: u64 = mac
        .dim_ids()
        .filter(channel)
        .map(|d| mac.dim(d).size)
        .product();
    let parameters = op.inputs.get(1..).unwrap_or_default();
    // Both vectors run along one dimension of the norm, that of the channels.
    let along = |a: &Access| -> Vec<DimId> {
        norm.dim_ids()
            .filter(|d| Einsum::names(a, *d) && norm.dim(*d).size > 1)
            .collect()
    };
    let vectors: Vec<Vec<DimId>> = norm.inputs.iter().skip(1).map(along).collect();
    op.class == OpClass::Norm
        && matches!(&norm.map, MapOperator::Lanes(program) if *program == [LanePrimitive::Fma])
        && parameters.len() == 2
        && parameters
            .iter()
            .all(|t| stored(*t) && graph.tensors[*t].elements() == channels)
        && norm
            .inputs
            .first()
            .is_some_and(|a| a.place == Place::Input(0))
        && vectors
            .iter()
            .all(|dims| dims.len() <= 1 && Some(dims) == vectors.first())
}

/// Whether an op is one lane einsum over each element of its output.
pub(super) fn is_elementwise(graph: &Graph, op: &Op) -> bool {
    let OpKind::Cascade(einsums) = &op.kind else {
        return false;
    };
    let [e] = einsums.as_slice() else {
        return false;
    };
    let [out] = op.outputs.as_slice() else {
        return false;
    };
    !e.is_contraction()
        && e.dim_ids().all(|d| !e.is_reduced(d) || e.dim(d).size == 1)
        && e.points() == Some(graph.tensors[*out].elements())
}
