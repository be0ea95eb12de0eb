//! Which memories a tensor may be at home in, what it takes there, and where it passes otherwise.

use presil_hwmodels::{Chip, EngineKind, NodeId, Operand};
use presil_numerics::Bytes;
use presil_workloads::{OpId, TensorId};

use super::super::engines::Choice;
use super::super::layout::{Layout, images, layout};
use super::Scene;
use super::candidates::{BitCost, Use, saved};
use crate::search::Objective;

/// What may go where.
pub(super) struct Paths<'a> {
    scene: &'a Scene<'a>,
    /// Resident memories with one instance, nearest to compute first.
    pub(super) memories: Vec<NodeId>,
    uses: &'a [Vec<Use>],
    images: Vec<bool>,
    /// For each memory, what offsets and sizes are multiples of.
    pub(super) step: Vec<u64>,
    /// For each memory and tensor, the bytes of its layout in such steps.
    pub(super) bytes: Vec<Vec<u64>>,
    /// For each tensor, its bytes as they move.
    moved: Vec<u64>,
    /// For each tensor, whether some use keeps it in the root memory.
    root_only: Vec<bool>,
    /// For each tensor, its roles on arrays.
    roles: Vec<Vec<(OpId, Operand)>>,
    /// For each memory, what a bit at home there saves.
    saved: Vec<BitCost>,
}

impl<'a> Paths<'a> {
    /// `alignment`: offsets and sizes are multiples of it, and of the memory's word.
    pub(super) fn new(
        scene: &'a Scene<'a>,
        uses: &'a [Vec<Use>],
        objective: Objective,
        alignment: Bytes,
    ) -> Self {
        let Scene { chip, graph, .. } = *scene;
        let mut root_only = vec![false; graph.tensors.len()];
        let mut roles = vec![Vec::new(); graph.tensors.len()];
        for (id, op) in graph.ops.iter_ids() {
            match &scene.choices[id.0 as usize] {
                Choice::Host(..) | Choice::Unsupported(_) => {
                    for t in op.inputs.iter().chain(&op.outputs) {
                        root_only[scene.stored(*t)] = true;
                    }
                }
                Choice::Array(_) => {
                    for (t, role) in scene.array_roles(id) {
                        roles[t].push((id, role));
                    }
                }
                _ => {}
            }
        }
        let memories = resident_memories(chip);
        let images = images(graph, |t| scene.stored(t));
        let word = |m: NodeId| chip.nodes[m].memory().map_or(1, |m| m.word.0.max(1));
        let up = |x: u64, step: u64| x.checked_next_multiple_of(step).unwrap_or(u64::MAX);
        let step: Vec<u64> = memories
            .iter()
            .map(|m| up(alignment.0.max(1), word(*m)))
            .collect();
        let bytes = memories
            .iter()
            .zip(&step)
            .map(|(m, step)| {
                let each = graph.tensors.iter().zip(&images);
                each.map(|(t, image)| up(layout(t, *image, Bytes(word(*m))).bytes.0, *step))
                    .collect()
            })
            .collect();
        Self {
            saved: memories
                .iter()
                .map(|m| saved(chip, *m, objective))
                .collect(),
            moved: graph
                .tensors
                .iter()
                .map(|t| t.bits().bytes_ceil().0)
                .collect(),
            scene,
            memories,
            uses,
            images,
            step,
            bytes,
            root_only,
            roles,
        }
    }

    /// The layout of a tensor in a memory.
    pub(super) fn layout(&self, tensor: usize, memory: NodeId) -> Layout {
        let Scene { chip, graph, .. } = *self.scene;
        let word = chip.nodes[memory].memory().map_or(Bytes(1), |m| m.word);
        layout(
            &graph.tensors[TensorId(tensor as u32)],
            self.images[tensor],
            word,
        )
    }

    /// Positions and bytes at which a tensor passes through a memory (by index) when it is at home elsewhere:
    /// those of arrays that keep that operand there.
    pub(super) fn passes(&self, memory: usize, tensor: usize) -> Vec<(usize, u64)> {
        let at = |p: usize| {
            let role = self.roles[tensor]
                .iter()
                .find(|(op, _)| self.scene.position(*op) == p);
            role.is_some_and(|(op, role)| self.keeps(memory, *op, *role))
        };
        let positions = self.uses[tensor].iter().map(|u| u.position);
        positions
            .filter(|p| at(*p))
            .map(|p| (p, self.moved[tensor]))
            .collect()
    }

    /// For each position, the bytes of all operands that pass through a memory.
    pub(super) fn passing(&self, memory: usize) -> Vec<u64> {
        let mut sum = vec![0u64; self.scene.graph.ops.len()];
        for t in 0..self.uses.len() {
            for (p, bytes) in self.passes(memory, t) {
                sum[p] = sum[p].saturating_add(bytes);
            }
        }
        sum
    }

    /// Whether a memory is on the path of an op's arrays and may keep an operand.
    fn keeps(&self, memory: usize, op: OpId, role: Operand) -> bool {
        let (chip, memory) = (self.scene.chip, self.memories[memory]);
        let Choice::Array(engines) = &self.scene.choices[op.0 as usize] else {
            return false;
        };
        chip.nodes[memory]
            .memory()
            .is_some_and(|m| m.keeps.has(role))
            && engines.iter().all(|(e, _)| match chip.engines[*e].kind {
                EngineKind::Array { compute, .. } => chip.path(compute).contains(&memory),
                _ => false,
            })
    }

    /// Whether every use lets a tensor be at home in a memory.
    pub(super) fn allowed(&self, memory: usize, tensor: usize) -> bool {
        !self.root_only[tensor]
            && self.roles[tensor]
                .iter()
                .all(|(op, role)| self.keeps(memory, *op, *role))
    }

    /// Whether a host op touches a tensor.
    pub(super) fn root_only(&self, tensor: usize) -> bool {
        self.root_only[tensor]
    }

    /// What a home in a memory saves.
    pub(super) fn value(&self, memory: usize, tensor: usize) -> f64 {
        let BitCost { read, write } = self.saved[memory];
        self.uses[tensor]
            .iter()
            .fold(0.0, |s, u| s + u.read * read + u.written * write)
    }
}

/// Resident memories with one instance, nearest to compute first.
fn resident_memories(chip: &Chip) -> Vec<NodeId> {
    let able = |id: &NodeId| {
        *id != chip.root()
            && chip.nodes[*id].instances == 1
            && chip.nodes[*id].memory().is_some_and(|m| m.resident)
    };
    chip.nodes.ids().rev().filter(able).collect()
}
