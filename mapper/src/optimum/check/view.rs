//! What the neighbours of an einsum see of its mapping, and whether einsums that share loops fit together.
//!
//! An intermediate that one einsum hands to the next has a home on either side. At the outermost memory, it is whole;
//! else the loops outside the home are shared, and both homes have one memory and tile.
//!
//! ```text
//! nest   of two einsums of a group, all places of storages outside every home between them lie in one order of loops
//! room   of X  =  all that X keeps  +  for each other Y, what Y keeps outside the loops shared by X and Y
//! ```
//!
//! where the shared loops are those outside every home between, and copies of one tensor in one tile at one memory
//! count once. Leaving an einsum out only frees room and order, so a part of a group that does not fit cannot be
//! mended by more of it.

use std::collections::BTreeSet;

use super::model::Model;
use crate::case::Case;
use crate::hierarchy::access_of;
use crate::looptree::{LoopTree, Node, tile_shape};

/// Memory and tile, by rank, of an intermediate that is handed over tile by tile.
pub(super) type Handed = Option<(usize, Vec<u64>)>;

/// Tile of every dimension of the case; the largest extent where it is whole.
type Cut = Vec<u64>;

/// A tile of a tensor: level, tensor, and dimension and extent of each rank.
type Copied = (usize, usize, Vec<(usize, u64)>);

/// A storage outside a home.
#[derive(Debug, Clone)]
struct Kept {
    level: usize,
    cut: Cut,
    bits: f64,
    copied: Option<Copied>,
    /// Whether it stands outside the home of what comes in, and of what goes out.
    outside: [bool; 2],
}

/// What neighbours see of a mapping.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// What comes in, and what goes out.
    pub handed: [Handed; 2],
    /// The same as numbers: mappings of one key are the same to neighbours.
    pub key: Vec<u64>,
    /// Where those homes stand.
    homes: [Option<Cut>; 2],
    /// Where storages stand, from the outermost one to the innermost home.
    cuts: Vec<Cut>,
    kept: Vec<Kept>,
    /// Bits of all storages, by level.
    used: Vec<f64>,
    copies: BTreeSet<Copied>,
}

/// Whether an einsum makes a tensor, and one reads it.
pub(super) fn intermediate(case: &Case, tensor: usize) -> bool {
    let [makes, reads] = users(case, tensor);
    !makes.is_empty() && !reads.is_empty()
}

/// Einsums that make a tensor, and those that read it.
fn users(case: &Case, tensor: usize) -> [Vec<usize>; 2] {
    let mut users = [Vec::new(), Vec::new()];
    for (i, e) in case.einsums.iter().enumerate() {
        for o in (0..e.operands.len()).filter(|o| e.operands[*o] == tensor) {
            users[usize::from(o + 1 < e.operands.len())].push(i);
        }
    }
    users
}

/// The input and the output of an einsum that may be handed over tile by tile: made once, read once by the next einsum,
/// and told in the same dimensions by both.
pub(super) fn handed(case: &Case, i: usize) -> [Option<usize>; 2] {
    let into = |reader: usize| {
        let maker = reader.checked_sub(1)?;
        let tensor = *case.einsums[maker].operands.last()?;
        if users(case, tensor) != [vec![maker], vec![reader]] {
            return None;
        }
        let reads = &case.einsums.get(reader)?.operands;
        let input = reads.iter().position(|t| *t == tensor)?;
        let made = ranks(case, maker, case.einsums[maker].operands.len() - 1)?;
        (made == ranks(case, reader, input)?).then_some(input)
    };
    let out = (i + 1 < case.einsums.len()).then(|| into(i + 1)).flatten();
    [into(i), out.map(|_| case.einsums[i].operands.len() - 1)]
}

/// Names and extents of an operand's ranks, if each is one dimension.
fn ranks(case: &Case, i: usize, o: usize) -> Option<Vec<(&str, u64)>> {
    let einsum = &case.einsums[i].einsum;
    let ranks = access_of(einsum, o).ranks.iter();
    let rank = |r: &presil_workloads::Affine| match r.terms.as_slice() {
        [] => Some(("", 1)),
        [(d, 1)] => Some((einsum.dim(*d).name.as_str(), einsum.dim(*d).size)),
        _ => None,
    };
    ranks.map(rank).collect()
}

/// All dimensions of a case, with the largest extent of each name.
pub(super) struct Dims<'a> {
    case: &'a Case,
    names: Vec<&'a str>,
    whole: Cut,
}

impl<'a> Dims<'a> {
    pub fn new(case: &'a Case) -> Self {
        let (mut names, mut whole): (Vec<&str>, Cut) = (Vec::new(), Vec::new());
        for d in case.einsums.iter().flat_map(|e| &e.einsum.dims) {
            match names.iter().position(|n| *n == d.name) {
                Some(at) => whole[at] = whole[at].max(d.size),
                None => {
                    names.push(&d.name);
                    whole.push(d.size);
                }
            }
        }
        Self { case, names, whole }
    }

    fn number(&self, name: &str) -> usize {
        let found = self.names.iter().position(|n| *n == name);
        found.unwrap_or(self.names.len())
    }

    /// Tiles of one einsum, in the dimensions of all.
    fn cut(&self, model: &Model, tiles: &[u64]) -> Cut {
        let mut cut = self.whole.clone();
        for (d, dim) in model.einsum.dims.iter().enumerate() {
            if tiles[d] < dim.size {
                cut[self.number(&dim.name)] = tiles[d];
            }
        }
        cut
    }

    /// Whether loops can lead from an outer place to an inner one, or they are the same.
    fn inside(&self, inner: &Cut, outer: &Cut) -> bool {
        let mut all = inner.iter().zip(outer).zip(&self.whole);
        all.all(|((i, o), whole)| o.is_multiple_of(*i) || o == whole)
    }

    /// What neighbours see of a mapping of an einsum.
    pub fn view(&self, model: &Model, i: usize, tree: &LoopTree) -> View {
        let nodes = tree.nodes.iter().enumerate();
        let storages: Vec<(usize, usize, usize)> = nodes
            .filter_map(|(at, n)| match *n {
                Node::Keep { level, operand } => Some((at, level, operand)),
                _ => None,
            })
            .collect();
        let home = |o: Option<usize>| {
            let first = storages.iter().find(|s| Some(s.2) == o)?;
            model.floats(first.2, &[first.1]).then_some(first.0)
        };
        let homes = model.handed.map(home);
        let Some(innermost) = homes.iter().flatten().max() else {
            return View::default();
        };
        let mut view = View {
            used: vec![0.0; model.hierarchy.levels.len()],
            ..View::default()
        };
        for &(at, level, o) in &storages {
            let tiles = tree.tiles(model.einsum, at);
            let cut = self.cut(model, &tiles);
            let tile = tile_shape(model.einsum, o, &tiles);
            let outside = homes.map(|h| h.is_some_and(|h| at < h));
            for side in (0..2).filter(|s| homes[*s] == Some(at)) {
                view.handed[side] = Some((level, tile.clone()));
                view.homes[side] = Some(cut.clone());
            }
            if at <= *innermost {
                view.cuts.push(cut.clone());
                let numbers = [level, o, usize::from(outside[0]), usize::from(outside[1])];
                view.key.extend(numbers.map(|n| n as u64));
                view.key.extend(&cut);
            }
            if model.room(level).is_infinite() {
                continue;
            }
            let bits = model.bits(level, o, &tiles);
            view.used[level] += bits;
            let copied = self.copied(i, o, level, tile);
            view.copies.extend(copied.clone());
            if outside.contains(&true) {
                view.kept.push(Kept {
                    level,
                    cut,
                    bits,
                    copied,
                    outside,
                });
            }
        }
        view.key.insert(0, view.cuts.len() as u64);
        view.key.extend(view.used.iter().map(|u| u.to_bits()));
        for (level, tensor, tile) in &view.copies {
            view.key.extend([*level as u64, *tensor as u64]);
            view.key
                .extend(tile.iter().flat_map(|(d, t)| [*d as u64, *t]));
        }
        view
    }

    /// A tile of an input.
    fn copied(&self, i: usize, o: usize, level: usize, tile: Vec<u64>) -> Option<Copied> {
        let operands = &self.case.einsums[i].operands;
        let ranks = ranks(self.case, i, o).filter(|_| o + 1 < operands.len())?;
        let dims = ranks.iter().map(|(name, _)| self.number(name));
        Some((level, operands[o], dims.zip(tile).collect()))
    }

    /// Whether the loops outside a place stand in one order in two einsums.
    fn nested(&self, a: &View, b: &View, shared: &Cut) -> bool {
        let cuts = a.cuts.iter().chain(&b.cuts);
        let cuts: Vec<&Cut> = cuts.filter(|c| self.inside(shared, c)).collect();
        cuts.iter().enumerate().all(|(i, a)| {
            let ordered = |b: &&Cut| self.inside(a, b) || self.inside(b, a);
            cuts[i + 1..].iter().all(ordered)
        })
    }

    /// What one einsum of a group keeps outside the loops that it shares with another, and where those end; none if nothing
    /// is shared.
    fn alive<'v>(
        &self,
        group: &[&'v View],
        one: usize,
        other: usize,
    ) -> Option<(Cut, Vec<&'v Kept>)> {
        let (from, to) = (one.min(other), one.max(other));
        let between = group[from..to].iter().map(|v| v.homes[1].clone());
        let between: Vec<Cut> = between.collect::<Option<_>>()?;
        let outer = |a: Cut, b: Cut| if self.inside(&a, &b) { b } else { a };
        let shared = between.into_iter().reduce(outer)?;
        let side = usize::from(one < other);
        let own = group[one].homes[side].as_ref() == Some(&shared);
        let kept = |k: &&Kept| {
            let out = own || (k.cut != shared && self.inside(&shared, &k.cut));
            k.outside[side] && out
        };
        let kept = group[one].kept.iter().filter(kept).collect();
        Some((shared, kept))
    }

    /// Whether einsums that hand over tile by tile, each to the next, run in one nest, and fit.
    pub fn fit(&self, models: &[Model], group: &[&View]) -> bool {
        (0..group.len()).all(|running| {
            let mut used = group[running].used.clone();
            let mut copies = group[running].copies.clone();
            for other in (0..group.len()).filter(|o| *o != running) {
                let Some((shared, kept)) = self.alive(group, other, running) else {
                    return false;
                };
                if !self.nested(group[other], group[running], &shared) {
                    return false;
                }
                for k in kept {
                    let again = k.copied.as_ref().is_some_and(|c| !copies.insert(c.clone()));
                    used[k.level] += if again { 0.0 } else { k.bits };
                }
            }
            let room = |(level, used): (usize, &f64)| *used <= models[running].room(level);
            used.iter().enumerate().all(room)
        })
    }
}

/// Why a mapping is none of an einsum of a chain: tensors must be whole at home, or handed over below loops that index
/// them.
pub(super) fn astray(model: &Model, tree: &LoopTree) -> Option<&'static str> {
    for (o, x) in model.operands.iter().enumerate() {
        let keeps = |n: &Node| matches!(n, Node::Keep { operand, .. } if *operand == o);
        let at = tree.nodes.iter().position(keeps)?;
        let Node::Keep { level, .. } = tree.nodes[at] else {
            continue;
        };
        let tiles = tree.tiles(model.einsum, at);
        let floats = model.floats(o, &[level]);
        let whole = |d: usize| tiles[d] == model.sizes[d] || (floats && x.indexed[d]);
        if !(0..tiles.len()).all(whole) {
            return Some("starts below loops that do not index it");
        }
        if model.between[o] && level > 0 && !floats {
            return Some("hands over what must be whole at the outermost memory");
        }
    }
    None
}
