//! One iteration of a group's shared loops, as a graph of its own.
//!
//! The members with their dimensions cut to the tile, the tensors that they touch as large as those tiles: everything
//! that prices a graph prices a step. Iterations differ where tiles do not divide an axis, and under a mask. Those
//! that are equal are one [`Piece`] with a weight; so are, under a mask, those whose tiles of pairs grow by the same
//! amount from one to the next: the middle one (or the two in the middle, half each) has their mean exactly, for all that
//! is linear in the offset: MACs, keys touched, scores. Keys that no query of a tile sees are cut off.
//!
//! ```text
//! tile of queries [q, q + T):   keys [lo, hi) = [max(0, q + offset - window + 1), min(n, q + T + offset))
//!                               offset of the step = q + offset - lo
//! tiles of keys as well:        pairs of tiles without a pair inside the mask are not run
//! sum over pieces of weight x executed points = executed points of the op
//! ```

use presil_numerics::Format;
use presil_workloads::einsum::Place;
use presil_workloads::{
    Access, Block, Domain, Einsum, Graph, Op, OpId, OpKind, Role, Tensor, TensorId,
};

use super::axes::{Group, Kind, plain};
use super::masked::{masked_pieces, mean};
use super::rewrite;
use crate::schedule::engines::Choice;
use crate::schedule::residency::Scene;
use crate::schedule::tails::Tails;

/// Different iterations that one tiling may have.
const PIECES: usize = 8;

/// Tiles that differ by less than one part in so many are alike in rough pieces.
const CLOSE: u64 = 32;

/// Equal iterations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// How many.
    pub(crate) weight: u64,
    /// Of each axis, its tile.
    pub(crate) tiles: Vec<u64>,
    /// Offset of the mask within the tile; none where all pairs are executed.
    pub(crate) offset: Option<i64>,
}

/// The iterations of a tiling; `None` if they differ in too many ways, or some run nothing.
///
/// `rough`: masked tiles of as many queries are one, with all of as many keys as have their pairs on average, and a last
/// tile that is almost whole is whole; good enough to compare ways by.
pub(crate) fn pieces(group: &Group, tiles: &[u64], rough: bool) -> Option<Vec<Piece>> {
    let masked = |a: usize| group.mask.is_some_and(|m| m.query == a || m.key == a);
    let cut = |a: usize| tiles[a] < group.axes[a].size;
    let mut list = vec![Piece {
        weight: 1,
        tiles: tiles.to_vec(),
        offset: group.mask.map(|m| m.offset),
    }];
    for a in (0..tiles.len()).filter(|a| cut(*a) && !masked(*a)) {
        let (size, tile) = (group.axes[a].size, tiles[a]);
        let mut next = Vec::new();
        for piece in &list {
            let rest = size % tile;
            let split = match rough && close(rest, tile) {
                true => [(tile, size.div_ceil(tile)), (0, 0)],
                false => [(tile, size / tile), (rest, 1)],
            };
            for (tile, count) in split {
                if tile > 0 {
                    let mut piece = piece.clone();
                    piece.tiles[a] = tile;
                    piece.weight *= count;
                    next.push(piece);
                }
            }
        }
        list = next;
    }
    if let Some(mask) = group.mask
        && (cut(mask.query) || cut(mask.key))
    {
        let mut pairs = masked_pieces(group, tiles, &mask)?;
        if rough {
            pairs = mean(&pairs, &mask);
        }
        list = list
            .iter()
            .flat_map(|p| {
                pairs.iter().map(|(weight, query, key, offset)| {
                    let mut piece = p.clone();
                    piece.weight *= weight;
                    piece.tiles[mask.query] = *query;
                    piece.tiles[mask.key] = *key;
                    piece.offset = *offset;
                    piece
                })
            })
            .collect();
    }
    (list.len() <= PIECES).then_some(list)
}

/// Whether a tile is as good as another one that is not smaller.
pub(super) fn close(tile: u64, whole: u64) -> bool {
    (whole - whole / CLOSE..=whole).contains(&tile)
}

/// A step with who runs its ops.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) graph: Graph,
    pub(crate) base: Vec<TensorId>,
    pub(crate) choices: Vec<Choice>,
    pub(crate) tails: Tails,
    /// Of each tensor, the stored one that it is a tile of.
    pub(crate) whole: Vec<TensorId>,
}

impl Step {
    /// The tile of a stored tensor.
    pub(crate) fn tile(&self, whole: TensorId) -> Option<TensorId> {
        let at = self.whole.iter().position(|t| *t == whole)?;
        Some(TensorId(at as u32))
    }
}

/// The step of a piece. `sums`: format of outputs that accumulate over a loop, which are then in that format; with
/// `online` the softmax is rewritten. `None` where a tile cannot be stored by itself.
pub(crate) fn step(
    scene: &Scene,
    group: &Group,
    piece: &Piece,
    sums: Option<Format>,
    online: bool,
) -> Option<Step> {
    let graph = scene.graph;
    let mut made = Step {
        graph: Graph {
            name: graph.name.clone(),
            ..Graph::default()
        },
        base: Vec::new(),
        choices: group
            .ops
            .iter()
            .map(|o| scene.choices[o.0 as usize].clone())
            .collect(),
        tails: tails(scene, group),
        whole: Vec::new(),
    };
    for (member, id) in group.ops.iter().enumerate() {
        let op = &graph.ops[*id];
        let einsums: Vec<Einsum> = (0..group.sites.len())
            .filter(|s| group.sites[*s].member == member)
            .map(|s| cut(group, s, group.einsum(scene, s), piece))
            .collect();
        let mut list = |tensors: &[TensorId], output: bool| -> Option<Vec<TensorId>> {
            let each = tensors.iter().enumerate().map(|(i, t)| {
                let accesses: Vec<(&Access, &Access)> = einsums
                    .iter()
                    .zip((0..group.sites.len()).filter(|s| group.sites[*s].member == member))
                    .flat_map(|(e, s)| e.operands().zip(group.einsum(scene, s).operands()))
                    .filter(|(a, _)| match a.place {
                        Place::Input(p) => !output && p as usize == i,
                        Place::Output(p) => output && p as usize == i,
                        Place::Local(_) => false,
                    })
                    .collect();
                tile(scene, group, &mut made, *t, &accesses)
            });
            each.collect()
        };
        let (inputs, outputs) = (list(&op.inputs, false)?, list(&op.outputs, true)?);
        let reduced = einsums.first().is_some_and(Einsum::is_contraction)
            && sums.is_some()
            && reduces(scene, group, member);
        if let (Some(format), true) = (sums, reduced) {
            for t in &outputs {
                made.graph.tensors[*t].quantization = format.into();
            }
        }
        let kind = match online && group.softmax == Some(member) {
            true => OpKind::Cascade(rewrite::partial(&einsums)),
            false => OpKind::Cascade(einsums),
        };
        made.graph.ops.push(Op {
            kind,
            inputs,
            outputs,
            ..op.clone()
        });
    }
    if made.graph.tensors.iter().any(|t| t.storage().is_none()) {
        return None;
    }
    made.base = made.graph.tensors.ids().collect();
    made.graph.blocks = vec![Block {
        name: "step".into(),
        ops: 0..made.graph.ops.len() as u32,
        repeat: 1,
    }];
    Some(made)
}

/// Whether a member's output accumulates over some axis that may be a loop.
pub(crate) fn reduces(scene: &Scene, group: &Group, member: usize) -> bool {
    (0..group.sites.len())
        .filter(|s| group.sites[*s].member == member)
        .any(|s| {
            let e = group.einsum(scene, s);
            e.is_contraction()
                && e.dim_ids().filter(|d| e.is_reduced(*d)).any(|d| {
                    let parts = &group.parts[s][d.0 as usize];
                    parts
                        .iter()
                        .any(|a| matches!(group.axes[*a].kind, Kind::Sum | Kind::Online))
                })
        })
}

fn cut(group: &Group, site: usize, e: &Einsum, piece: &Piece) -> Einsum {
    let mut made = e.clone();
    for (dim, parts) in made.dims.iter_mut().zip(&group.parts[site]) {
        dim.size = parts.iter().map(|a| piece.tiles[*a]).product();
    }
    let sizes: Vec<u64> = made.dims.iter().map(|d| d.size).collect();
    for access in made
        .inputs
        .iter_mut()
        .chain(std::iter::once(&mut made.output))
    {
        for (rank, extent) in access.ranks.iter().zip(&mut access.extents) {
            if let Some(Some(d)) = plain(rank, *extent, e) {
                *extent = sizes[d.0 as usize];
            }
        }
    }
    let moved = |offset: i64| -> Option<i64> {
        match group.mask {
            Some(_) => piece.offset,
            None => Some(offset),
        }
    };
    made.domain = match e.domain {
        Domain::Causal { query, key, offset } => match moved(offset) {
            Some(offset) => Domain::Causal { query, key, offset },
            None => Domain::Dense,
        },
        Domain::Banded {
            query,
            key,
            offset,
            window,
        } => match moved(offset) {
            Some(offset) => Domain::Banded {
                query,
                key,
                offset,
                window,
            },
            None => Domain::Dense,
        },
        ref other => other.clone(),
    };
    made
}

/// The tile of an operand: as large as what the accesses see; the whole tensor if none sees it. `accesses`: cut, and
/// as they were.
fn tile(
    scene: &Scene,
    group: &Group,
    made: &mut Step,
    t: TensorId,
    accesses: &[(&Access, &Access)],
) -> Option<TensorId> {
    let whole = TensorId(scene.stored(t) as u32);
    let tensor = &scene.graph.tensors[t];
    let product = |e: &[u64]| e.iter().try_fold(1u64, |n, x| n.checked_mul(*x));
    let mut shape = tensor.shape.clone();
    let largest = accesses.iter().max_by_key(|(a, _)| product(&a.extents));
    if let Some((cut, full)) = largest
        && cut.extents != full.extents
    {
        shape = match full.extents == tensor.shape {
            true => cut.extents.clone(),
            false => vec![product(&cut.extents)?],
        };
    }
    let elements = product(&shape)?;
    if let Some(id) = made.tile(whole) {
        if made.graph.tensors[id].elements() < elements {
            made.graph.tensors[id].shape = shape;
        }
        return Some(id);
    }
    let within = |o: &OpId| {
        let op = &scene.graph.ops[*o];
        op.outputs
            .iter()
            .any(|x| scene.stored(*x) == scene.stored(t))
    };
    let read = |o: &OpId| {
        let op = &scene.graph.ops[*o];
        op.inputs
            .iter()
            .any(|x| scene.stored(*x) == scene.stored(t))
    };
    let role = match tensor.role {
        Role::Weight | Role::Constant | Role::Cache => tensor.role,
        _ if !group.ops.iter().any(within) => Role::Input,
        _ if group.ops.iter().any(read) => Role::Activation,
        _ => Role::Output,
    };
    made.whole.push(whole);
    Some(made.graph.tensors.push(Tensor {
        shape,
        role,
        ..tensor.clone()
    }))
}

fn tails(scene: &Scene, group: &Group) -> Tails {
    let index = |o: &OpId| group.ops.iter().position(|x| x == o);
    let id = |o: &OpId| index(o).map(|i| OpId(i as u32));
    let of = |o: &OpId| o.0 as usize;
    let own = &scene.tails;
    let into: Vec<Option<OpId>> = group
        .ops
        .iter()
        .map(|o| own.into[of(o)].and_then(|r| id(&r)))
        .collect();
    Tails {
        tail: group
            .ops
            .iter()
            .map(|o| own.tail[of(o)].iter().filter_map(id).collect())
            .collect(),
        position: into
            .iter()
            .enumerate()
            .map(|(i, r)| r.map_or(i, |r| r.0 as usize))
            .collect(),
        folded: group.ops.iter().map(|o| own.folded[of(o)]).collect(),
        into,
    }
}
