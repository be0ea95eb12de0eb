//! How much room tiles have, and how much they take.

use presil_hwmodels::{Chip, EngineId, EngineKind, NodeId, Operand};
use presil_numerics::Bytes;
use presil_workloads::{Access, Einsum};

use crate::mapping::{Mapping, Step};

/// The outermost memory on chip that weights pass through on their way to an array (that of the first array for
/// other engines).
pub(super) fn weight_memory(chip: &Chip, engine: Option<EngineId>) -> Option<NodeId> {
    let compute = |id: EngineId| match chip.engines[id].kind {
        EngineKind::Array { compute, .. } => Some(compute),
        _ => None,
    };
    let compute = engine
        .and_then(compute)
        .or_else(|| chip.engines.ids().find_map(compute))?;
    let keeps = |n: &NodeId| {
        chip.nodes[*n]
            .memory()
            .is_some_and(|m| m.keeps.has(Operand::Weight))
    };
    chip.path(compute).into_iter().skip(1).find(keeps)
}

/// Capacity that tiles of an op can use: what is left, but no more than holds all operands that are not at home
/// there, and in steps of a 64th of the memory, so that equal ops at different times are one problem.
pub(super) fn usable(
    chip: &Chip,
    memory: NodeId,
    left: Bytes,
    einsum: &Einsum,
    home: [NodeId; 3],
    bits: [f64; 3],
    accumulate: f64,
) -> Bytes {
    let Some(m) = chip.nodes[memory].memory() else {
        return left;
    };
    let mut all = 0.0;
    for ((access, operand), bits) in einsum.operands().zip(Operand::ALL).zip(bits) {
        if home[operand.index()] == memory || !m.keeps.has(operand) {
            continue;
        }
        let bits = if operand == Operand::Output {
            bits.max(accumulate)
        } else {
            bits
        };
        let sizes: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
        all += (footprint(access, &sizes) * bits / 8.0).ceil() + 1.0;
    }
    let enough = all * f64::from(m.buffering.max(1));
    if enough <= left.0 as f64 {
        return Bytes(enough as u64);
    }
    let step = (m.capacity.0 / 64).max(1);
    if left == m.capacity {
        left
    } else {
        Bytes(left.0 / step * step)
    }
}

/// Elements of the box that an operand's tile spans, padding included.
pub(super) fn footprint(access: &Access, tile: &[u64]) -> f64 {
    let rank = |r: &presil_workloads::Affine| {
        let reach = r
            .terms
            .iter()
            .map(|(d, c)| c.unsigned_abs() as f64 * (tile[d.0 as usize].max(1) - 1) as f64);
        1.0 + reach.sum::<f64>()
    };
    access.ranks.iter().map(rank).product()
}

/// Bits of the tiles that a mapping keeps in one instance of a memory, by operand; whole tensors at home aside.
pub(super) fn tile_bits(
    mapping: &Mapping,
    memory: NodeId,
    einsum: &Einsum,
    bits: [f64; 3],
) -> [f64; 3] {
    let mut tile: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
    let mut held = [0.0; 3];
    let mut stored = [false; 3];
    for step in mapping.steps() {
        match *step {
            Step::Temporal { dim, tile: t } | Step::Spatial { dim, tile: t, .. } => {
                if let Some(slot) = tile.get_mut(dim.0 as usize) {
                    *slot = t;
                }
            }
            Step::Store {
                memory: at,
                operand,
            } => {
                let i = operand.index();
                if at == memory
                    && stored[i]
                    && let Some(access) = einsum.operands().nth(i)
                {
                    held[i] += footprint(access, &tile) * bits[i];
                }
                stored[i] = true;
            }
        }
    }
    held
}
