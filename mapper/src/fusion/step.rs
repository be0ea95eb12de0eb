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
//!
//! Under a window ([`super::windows`]) an op's rows are those that the iteration makes, a tensor's those that are there:
//! the accesses of its readers begin where their windows do. An op that makes nothing is left out.

use presil_numerics::Format;
use presil_workloads::einsum::Place;
use presil_workloads::{
    Access, Block, DimId, Domain, Einsum, Graph, Op, OpId, OpKind, Role, Tensor, TensorId,
};

use super::axes::{Group, Kind};
use super::masked::{masked_pieces, mean};
use super::rewrite;
use super::split::plain;
use super::windows::{Slide, Slides};
use crate::schedule::engines::Choice;
use crate::schedule::residency::Scene;
use crate::schedule::tails::Tails;

/// Different iterations that one tiling may have.
const PIECES: usize = 8;
/// The same where rows slide: those at the edges differ.
const SLIDING: usize = 25;

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
    /// Of each window of the group that is cut, the rows of its nodes.
    pub(crate) slides: Vec<Option<Slide>>,
}

impl Piece {
    /// One iteration of a group over some tiles.
    pub(crate) fn of(group: &Group, tiles: &[u64]) -> Self {
        Self {
            weight: 1,
            tiles: tiles.to_vec(),
            offset: group.mask.map(|m| m.offset),
            slides: vec![None; group.windows.len()],
        }
    }

    /// The tile of a part of a site's dimension.
    fn tile(&self, group: &Group, site: usize, axis: usize) -> u64 {
        let windows = group.windows.iter().zip(&self.slides);
        let mut own = windows.filter_map(|(w, slide)| {
            let slide = slide.as_ref().filter(|_| w.of_site[site] == axis)?;
            Some(slide.made[site].count)
        });
        own.next().unwrap_or(self.tiles[axis])
    }
}

/// The iterations of a tiling; `None` if they differ in too many ways, or some run nothing. `slides`: those of each window
/// that is cut.
///
/// `rough`: masked tiles of as many queries are one, with all of as many keys as have their pairs on average, a last
/// tile that is almost whole is whole, and rows at edges are as inside; good enough to compare ways by.
pub(crate) fn pieces(
    group: &Group,
    tiles: &[u64],
    slides: &[Option<Slides>],
    rough: bool,
) -> Option<Vec<Piece>> {
    let masked = |a: usize| group.mask.is_some_and(|m| m.query == a || m.key == a);
    let sliding = |a: usize| group.windows.iter().any(|w| w.axis == a);
    let cut = |a: usize| tiles[a] < group.axes[a].size;
    let mut list = vec![Piece::of(group, tiles)];
    for a in (0..tiles.len()).filter(|a| cut(*a) && !masked(*a) && !sliding(*a)) {
        let (size, tile) = (group.axes[a].size, tiles[a]);
        let rest = size % tile;
        let split = match rough && close(rest, tile) {
            true => [(tile, size.div_ceil(tile)), (0, 0)],
            false => [(tile, size / tile), (rest, 1)],
        };
        let split = split.into_iter().filter(|s| s.0 > 0);
        list = each(&list, split, |piece, (tile, count)| {
            piece.tiles[a] = tile;
            piece.weight *= count;
        });
    }
    for (w, (window, slides)) in group.windows.iter().zip(slides).enumerate() {
        let Some(slides) = slides else { continue };
        let classes = match rough {
            true => slides.rough(window),
            false => slides.classes.clone(),
        };
        list = each(&list, classes.iter(), |piece, (weight, slide)| {
            piece.weight *= weight;
            piece.slides[w] = Some(slide.clone());
        });
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
    let most = match slides.iter().any(Option::is_some) {
        true => SLIDING,
        false => PIECES,
    };
    (list.len() <= most).then_some(list)
}

/// Each piece with each of some changes.
fn each<T>(
    list: &[Piece],
    changes: impl Iterator<Item = T> + Clone,
    change: impl Fn(&mut Piece, T),
) -> Vec<Piece> {
    let made = list.iter().flat_map(|piece| {
        changes.clone().map(|c| {
            let mut piece = piece.clone();
            change(&mut piece, c);
            piece
        })
    });
    made.collect()
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
        let sites: Vec<usize> = (0..group.sites.len())
            .filter(|s| group.sites[*s].member == member)
            .collect();
        let einsums: Vec<Einsum> = sites
            .iter()
            .map(|s| cut(group, *s, group.einsum(scene, *s), piece))
            .collect();
        if einsums.iter().flat_map(|e| &e.dims).any(|d| d.size == 0) {
            made.choices[member] = Choice::View;
            made.graph.ops.push(Op {
                kind: OpKind::View,
                inputs: Vec::new(),
                outputs: Vec::new(),
                ..op.clone()
            });
            continue;
        }
        let mut list = |tensors: &[TensorId], output: bool| -> Option<Vec<TensorId>> {
            let each = tensors.iter().enumerate().map(|(i, t)| {
                let own = |a: &Access| match a.place {
                    Place::Input(p) => !output && p as usize == i,
                    Place::Output(p) => output && p as usize == i,
                    Place::Local(_) => false,
                };
                let each = einsums.iter().zip(&sites).flat_map(|(e, s)| {
                    let whole = group.einsum(scene, *s);
                    let pairs = e.operands().zip(whole.operands()).enumerate();
                    let seen = pairs.filter(|(_, (a, _))| own(a));
                    seen.map(move |(at, (a, full))| {
                        (there(group, *s, at, a, whole, piece), full.extents.clone())
                    })
                });
                let accesses: Vec<(Vec<u64>, Vec<u64>)> = each.collect();
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
        carries: Vec::new(),
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
        dim.size = parts.iter().map(|a| piece.tile(group, site, *a)).product();
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
    for (w, slide) in group.windows.iter().zip(&piece.slides) {
        let Some(slide) = slide else { continue };
        for read in w.reads.iter().filter(|r| r.site == site) {
            let access = &mut made.inputs[read.input];
            let whole = &e.inputs[read.input];
            if plain(&whole.ranks[read.rank], whole.extents[read.rank], e).is_none() {
                access.ranks[read.rank].offset = read.local(slide);
                access.extents[read.rank] = slide.there[read.node].count;
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

/// The extents of what is there of the tensor of a site's operand (inputs, then the output). `cut`: the access of the
/// step, of which `whole` is the einsum.
fn there(
    group: &Group,
    site: usize,
    operand: usize,
    cut: &Access,
    whole: &Einsum,
    piece: &Piece,
) -> Vec<u64> {
    let mut extents = cut.extents.clone();
    for (w, slide) in group.windows.iter().zip(&piece.slides) {
        let Some(slide) = slide else { continue };
        let plainly = |access: &Access, rank: usize| {
            plain(&access.ranks[rank], access.extents[rank], whole).is_some()
        };
        let at = match whole.inputs.get(operand) {
            // Extents of sliding ranks are those of what is there.
            Some(access) => {
                let mut reads = w.reads.iter();
                let read = reads.find(|r| r.site == site && r.input == operand);
                read.map(|r| (r.rank, r.node))
                    .filter(|r| plainly(access, r.0))
            }
            None => {
                let own = |d: &DimId| group.parts[site][d.0 as usize].contains(&w.of_site[site]);
                let mut ranks = whole.output.ranks.iter();
                let rank = ranks.position(|r| r.terms.iter().any(|t| own(&t.0)));
                rank.map(|r| (r, site))
            }
        };
        if let Some((rank, node)) = at {
            let made = slide.made[site].count.max(1);
            extents[rank] = (extents[rank] / made).saturating_mul(slide.there[node].count);
        }
    }
    extents
}

/// The tile of an operand: as large as what is there of what the accesses see; the whole tensor if none sees it.
/// `accesses`: extents of what is there, and as they were.
fn tile(
    scene: &Scene,
    group: &Group,
    made: &mut Step,
    t: TensorId,
    accesses: &[(Vec<u64>, Vec<u64>)],
) -> Option<TensorId> {
    let whole = TensorId(scene.stored(t) as u32);
    let tensor = &scene.graph.tensors[t];
    let product = |e: &[u64]| e.iter().try_fold(1u64, |n, x| n.checked_mul(*x));
    let mut shape = tensor.shape.clone();
    let largest = accesses.iter().max_by_key(|(there, _)| product(there));
    if let Some((there, full)) = largest
        && there != full
    {
        shape = match *full == tensor.shape {
            true => there.clone(),
            false => vec![product(there)?],
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
