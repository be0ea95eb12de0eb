//! Feature maps that pass from op to op in stripes of rows, on a block engine whose compiler does so.
//!
//! An activation that no memory closer than the arena has room for, and that only the next op reads, need not be
//! whole at any time: both ops run on a stripe of rows before they go on to the next. A run of such ops is a cascade.
//! Its stripes are as high as half of the staging memory allows, the other half holding weights and the next stripe:
//!
//! ```text
//! part of each map that is there at a time = capacity / 2 / sum of the maps between the ops
//! ```
//!
//! Rows that two stripes share are read twice, which the blocks count; they are not computed twice.

use presil_hwmodels::Blocks;
use presil_numerics::IdVec;
use presil_workloads::{OpId, Role, TensorId};

use super::pricer::Pricer;
use crate::blocks::{self, Layer};

/// Which ops run in stripes, and what passes between them.
#[derive(Debug, Clone, Default)]
pub(super) struct Cascades {
    /// For each op, the part of its rows that a stripe is.
    pub(super) part: Vec<Option<f64>>,
    /// For each stored tensor, whether it is there stripe by stripe.
    pub(super) inside: Vec<bool>,
}

/// The cascades of ops that run in an order.
pub(super) fn find(pricer: &Pricer, order: &[OpId]) -> Cascades {
    let graph = pricer.scene.graph;
    let mut cascades = Cascades {
        part: vec![None; graph.ops.len()],
        inside: vec![false; graph.tensors.len()],
    };
    let Some(blocks) = pricer.scene.chip.blocks.as_ref().filter(|b| b.cascades) else {
        return cascades;
    };
    let mut readers: IdVec<TensorId, u32> = graph.tensors.iter().map(|_| 0).collect();
    for op in graph.ops.iter() {
        for t in &op.inputs {
            readers[pricer.scene.base[t.0 as usize]] += 1;
        }
    }
    let alone = |op: &&OpId| pricer.scene.tails.into[op.0 as usize].is_none();
    let own: Vec<OpId> = order.iter().filter(alone).copied().collect();
    let mut run: Vec<(OpId, Option<TensorId>)> = Vec::new();
    for (at, op) in own.iter().enumerate() {
        let next = own.get(at + 1);
        let passed = next.and_then(|n| passes(pricer, blocks, *op, *n, &readers));
        run.push((*op, passed));
        if passed.is_none() {
            close(pricer, blocks, &run, &mut cascades);
            run.clear();
        }
    }
    cascades
}

/// The layer of an op that can run in stripes.
fn striped(pricer: &Pricer, op: OpId) -> Option<Layer> {
    pricer.block_engine(op)?;
    let graph = pricer.scene.graph;
    let layers = blocks::layers(graph, &graph.ops[op])?;
    let [layer] = layers.as_slice() else {
        return None;
    };
    layer.kind.runs_in_stripes().then(|| layer.clone())
}

/// What passes from an op to the next in stripes.
fn passes(
    pricer: &Pricer,
    blocks: &Blocks,
    op: OpId,
    next: OpId,
    readers: &IdVec<TensorId, u32>,
) -> Option<TensorId> {
    let scene = &pricer.scene;
    let stored = |t: &TensorId| scene.base[t.0 as usize];
    let out = stored(&scene.output_of(op)?);
    let far = pricer.home(out) == blocks.arena && blocks.arena != blocks.staging;
    let plain = scene.graph.tensors[out].role == Role::Activation && !pricer.pixels[out.0 as usize];
    let once = readers[out] == 1;
    let reads = scene.graph.ops[next]
        .inputs
        .iter()
        .any(|t| stored(t) == out);
    let able = striped(pricer, op).is_some() && striped(pricer, next).is_some();
    (far && plain && once && reads && able).then_some(out)
}

/// Gives the ops of a run their stripes, if there is room for one row at least.
fn close(
    pricer: &Pricer,
    blocks: &Blocks,
    run: &[(OpId, Option<TensorId>)],
    cascades: &mut Cascades,
) {
    let (chip, graph) = (pricer.scene.chip, pricer.scene.graph);
    let between: Vec<TensorId> = run.iter().filter_map(|r| r.1).collect();
    let bytes: f64 = between
        .iter()
        .map(|t| graph.tensors[*t].bits().0 as f64 / 8.0)
        .sum();
    let capacity = chip.nodes[blocks.staging]
        .memory()
        .map_or(0.0, |m| m.capacity.0 as f64);
    let rows = run
        .first()
        .and_then(|r| striped(pricer, r.0))
        .map_or(0, |l| l.out[0]);
    let part = capacity / 2.0 / bytes;
    if between.is_empty() || part * (rows as f64) < 1.0 {
        return;
    }
    for (op, _) in run {
        cascades.part[op.0 as usize] = Some(part.min(1.0));
    }
    for t in between {
        cascades.inside[t.0 as usize] = true;
    }
}
