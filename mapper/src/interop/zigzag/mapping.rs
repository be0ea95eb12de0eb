//! The mapping of a layer as a loop tree.

use presil_numerics::ids::Id;
use presil_workloads::{DimId, Einsum};

use super::record::{Hardware, Layer};
use crate::hierarchy::Hierarchy;
use crate::looptree::{LoopTree, Node};

/// The loop tree of a layer's temporal and spatial loops.
pub(super) fn mapping(
    layer: &Layer,
    hardware: &Hardware,
    einsum: &Einsum,
    hierarchy: &Hierarchy,
    operands: &[String],
) -> Result<LoopTree, String> {
    let (order, keeps) = temporal(layer, hierarchy, operands)?;
    let fanout = hierarchy.levels.iter().position(|l| l.fanout().is_some());
    let fanout = fanout.unwrap_or_default();
    let mut tiles = vec![1u64; einsum.dims.len()];
    let mut grow = |name: &str, trips: u64| {
        let dim = einsum.dims.iter().position(|d| d.name == name);
        let dim = dim.ok_or_else(|| format!("no loop `{name}`"))?;
        let tile = tiles[dim];
        let larger = tile.checked_mul(trips).filter(|t| *t > 0);
        tiles[dim] = larger.ok_or_else(|| format!("loops of `{name}` multiply to too much"))?;
        Ok::<_, String>((DimId(dim as u32), tile))
    };
    // From the inside out, and turned round at the end.
    let mut nodes = Vec::new();
    let axes = hardware.operational_array.dimensions.iter().enumerate();
    for (axis, name) in axes.rev() {
        let loops = layer.spatial_mapping.get(name);
        for (dim, trips) in loops
            .iter()
            .flat_map(|l| l.0.iter().rev())
            .filter(|l| l.1 != 1)
        {
            let (dim, tile) = grow(dim, *trips)?;
            nodes.push(Node::Spatial {
                level: fanout,
                axis,
                dim,
                tile,
            });
        }
    }
    for at in 0..=order.len() {
        let mut here: Vec<(usize, usize)> = keeps
            .iter()
            .filter(|k| k.0 == at)
            .map(|k| (k.1, k.2))
            .collect();
        here.sort_unstable_by(|a, b| b.cmp(a));
        nodes.extend(
            here.into_iter()
                .map(|(level, operand)| Node::Keep { level, operand }),
        );
        if let Some((name, trips)) = order.get(at) {
            let (dim, tile) = grow(name, *trips)?;
            nodes.push(Node::Temporal { dim, tile });
        }
    }
    nodes.reverse();
    let tree = LoopTree { nodes };
    check_trips(layer, einsum, &tree)?;
    Ok(tree)
}

/// The loop tree must say what the layer says: tiles cut away trips that reach beyond a dimension.
fn check_trips(layer: &Layer, einsum: &Einsum, tree: &LoopTree) -> Result<(), String> {
    let mut tiles: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
    let mut spatial = vec![1u64; einsum.dims.len()];
    for node in &tree.nodes {
        if let Some((dim, tile)) = node.cut() {
            let trips = std::mem::replace(&mut tiles[dim.index()], tile).div_ceil(tile);
            if matches!(node, Node::Spatial { .. }) {
                spatial[dim.index()] = spatial[dim.index()].saturating_mul(trips);
            }
        }
    }
    for (dim, trips) in einsum.dims.iter().zip(spatial) {
        let loops = layer.spatial_mapping.iter().flat_map(|(_, l)| l.iter());
        let given = loops
            .filter(|(name, _)| *name == dim.name)
            .fold(1u64, |all, (_, t)| all.saturating_mul(*t));
        if given != trips {
            return Err(format!(
                "dimension `{}` of {} lies {given} wide over the array; its temporal loops leave {trips}",
                dim.name, dim.size
            ));
        }
    }
    Ok(())
}

/// Temporal loops inner to outer, and for each operand and memory how many of them stand inside it: `(loops, level,
/// operand)`.
type Loops = (Vec<(String, u64)>, Vec<(usize, usize, usize)>);

fn temporal(layer: &Layer, hierarchy: &Hierarchy, operands: &[String]) -> Result<Loops, String> {
    let mut order: Option<Vec<(String, u64)>> = None;
    let mut keeps = Vec::new();
    for (operand, name) in operands.iter().enumerate() {
        let memories = layer.temporal_mapping_inner_to_outer.get(name);
        let memories = memories.ok_or_else(|| format!("`{name}` has no temporal mapping"))?;
        let mut loops: Vec<(String, u64)> = Vec::new();
        for (memory, own) in memories.iter() {
            let level = hierarchy.level(memory);
            let level = level.ok_or_else(|| format!("no memory `{memory}`"))?;
            loops.extend(own.iter().filter(|l| l.1 != 1).cloned());
            keeps.push((loops.len(), level, operand));
        }
        match &order {
            Some(order) if *order != loops => {
                return Err(format!("the loops of `{name}` are not those of the others"));
            }
            _ => order = Some(loops),
        }
    }
    Ok((order.unwrap_or_default(), keeps))
}
