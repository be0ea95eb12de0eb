//! The axes of a group of ops: dimensions that are one because a tensor made in the group links them.
//!
//! Ops name their dimensions on their own, and see one tensor under different shapes: scores are written as
//! [b, g, u, m, n] and read by the softmax as [x, m, k] with `x = b g u`. Two accesses of one stored tensor run over
//! the same flat sequence of elements, so the boundaries of their ranks (products of the inner extents) cut it in
//! the same places. Where one has a boundary inside the other's rank, that dimension is split there: `x` has the parts
//! `b`, `g`, `u`. Parts that lie between the same two boundaries are one axis. This is repeated until nothing splits.
//!
//! ```text
//! size(dimension) = product of its parts;   with axes cut to tiles, size = product of the tiles of its parts
//! ```
//!
//! Which loops may be shared by the group follows from the axes:
//!
//! - *free*: every einsum of the group has it, and none reduces it: iterations are independent;
//! - *sum*: as before, but MAC ops whose output leaves the group reduce it: their outputs accumulate over the loop;
//! - *online*: the keys of a softmax between two matmuls, by the rewrite of [`super::rewrite`];
//! - *window*: rows or columns of what leaves the group, of which windows reach back to rows of what is made before
//!   ([`super::windows`]);
//! - *fixed*: all others (reductions whose result the group reads, rows behind windows, experts chosen by data, two
//!   dimensions of one einsum that are the same: queries and keys of one sequence).

use presil_workloads::{Access, DimId, Domain, Einsum, OpId, OpKind, TensorId};

use super::rewrite;
use super::split::{Splitter, plain};
use super::windows::{self, Window};
use crate::schedule::residency::Scene;

/// Whether a loop over an axis may be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Free,
    Sum,
    Online,
    Window,
    Fixed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) kind: Kind,
}

/// Executed pairs of a query and a key axis: `query + offset - window < key <= query + offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mask {
    pub(crate) query: usize,
    pub(crate) key: usize,
    pub(crate) offset: i64,
    /// None for a causal mask.
    pub(crate) window: Option<u64>,
}

/// An einsum of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Site {
    /// Index of the op in the group.
    pub(crate) member: usize,
    /// Index in its cascade.
    pub(crate) einsum: usize,
}

/// Ops that might run together, and the axes that they share.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// In the order in which they run; epilogues behind their MAC op.
    pub(crate) ops: Vec<OpId>,
    /// Stored tensors that are made and used up within the group and pass through memory.
    pub(crate) inner: Vec<TensorId>,
    pub(crate) axes: Vec<Axis>,
    pub(crate) sites: Vec<Site>,
    /// For each site and dimension, the axes of its parts, outermost first.
    pub(crate) parts: Vec<Vec<Vec<usize>>>,
    pub(crate) mask: Option<Mask>,
    /// The softmax that an online axis goes through, as an index into `ops`.
    pub(crate) softmax: Option<usize>,
    /// Of each axis of kind [`Kind::Window`], how its rows reach back.
    pub(crate) windows: Vec<Window>,
}

impl Group {
    /// The group of some ops; `None` if they cannot run together: what one makes another reads in a way that no
    /// common tile serves, or somebody outside reads it too.
    pub(crate) fn of(scene: &Scene, roots: &[OpId]) -> Option<Self> {
        let mut ops: Vec<OpId> = Vec::new();
        for root in roots {
            ops.push(*root);
            ops.extend(&scene.tails.tail[root.0 as usize]);
        }
        let inner = inner(scene, roots, &ops)?;
        if inner.is_empty() {
            return None;
        }
        let mut splitter = Splitter::new(scene, &ops)?;
        splitter.split()?;
        let (axes, parts) = splitter.axes();
        let mut group = Self {
            inner,
            axes,
            sites: splitter.sites.iter().map(|s| s.0).collect(),
            parts,
            mask: None,
            softmax: None,
            windows: Vec::new(),
            ops,
        };
        let pinned = group.pinned(&splitter);
        group.classify(scene, &pinned);
        group.windows = windows::find(scene, &group, &mut splitter);
        for w in &group.windows {
            group.axes[w.axis].kind = Kind::Window;
        }
        Some(group)
    }

    pub(crate) fn einsum<'a>(&self, scene: &Scene<'a>, site: usize) -> &'a Einsum {
        let Site { member, einsum } = self.sites[site];
        let OpKind::Cascade(list) = &scene.graph.ops[self.ops[member]].kind else {
            unreachable!("members are cascades");
        };
        &list[einsum]
    }

    /// Whether tiles are of rows behind windows.
    pub(super) fn slides(&self, tiles: &[u64]) -> bool {
        let cut = |w: &Window| tiles[w.axis] < self.axes[w.axis].size;
        self.windows.iter().any(cut)
    }

    /// The site that makes a stored tensor: of a cascade its last einsum.
    pub(super) fn maker(&self, scene: &Scene, t: TensorId) -> Option<usize> {
        let makes = |s: &usize| {
            let outputs = &scene.graph.ops[self.ops[self.sites[*s].member]].outputs;
            outputs.iter().any(|x| scene.stored(*x) == t.0 as usize)
        };
        (0..self.sites.len()).rfind(makes)
    }

    /// Whether a dimension of a site has a part of an axis.
    fn has(&self, site: usize, axis: usize) -> bool {
        self.parts[site].iter().any(|p| p.contains(&axis))
    }

    /// The axes that index an operand of a site; of rows behind windows, the one whose loop cuts them.
    pub(crate) fn indexed(&self, site: usize, access: &Access) -> Vec<usize> {
        let mut list = self.named(site, access);
        for a in &mut list {
            let window = self.windows.iter().find(|w| w.of_site[site] == *a);
            *a = window.map_or(*a, |w| w.axis);
        }
        list.sort_unstable();
        list.dedup();
        list
    }

    /// The axes of the parts of an operand's dimensions.
    pub(super) fn named(&self, site: usize, access: &Access) -> Vec<usize> {
        let dims = access
            .ranks
            .iter()
            .flat_map(|r| r.terms.iter().map(|t| t.0));
        let mut list: Vec<usize> = dims
            .flat_map(|d| self.parts[site][d.0 as usize].iter().copied())
            .collect();
        list.sort_unstable();
        list.dedup();
        list
    }

    /// Axes that no loop may cut, by einsums alone; finds the mask on the way.
    fn pinned(&mut self, splitter: &Splitter) -> Vec<bool> {
        let mut pinned = vec![false; self.axes.len()];
        let mut masks: Vec<Option<Mask>> = Vec::new();
        for (s, (_, e)) in splitter.sites.iter().enumerate() {
            // Queries and keys of one sequence: a tile of the axis would pair each row with those of its own tile alone.
            let parts: Vec<usize> = self.parts[s].iter().flatten().copied().collect();
            for (i, axis) in parts.iter().enumerate() {
                pinned[*axis] |= parts[..i].contains(axis);
            }
            let mut pin = |d: DimId| {
                for a in &self.parts[s][d.0 as usize] {
                    pinned[*a] = true;
                }
            };
            for access in e.operands() {
                for (rank, extent) in access.ranks.iter().zip(&access.extents) {
                    if plain(rank, *extent, e).is_none() {
                        rank.terms.iter().for_each(|t| pin(t.0));
                    }
                }
            }
            for d in splitter.pinned.iter().filter(|p| p.0 == s) {
                pin(d.1);
            }
            match e.domain {
                Domain::Dense => {}
                Domain::Ragged { group, row, .. } => {
                    pin(group);
                    pin(row);
                }
                Domain::Causal { query, key, offset } => {
                    masks.push(self.mask_of(s, query, key, offset, None));
                }
                Domain::Banded {
                    query,
                    key,
                    offset,
                    window,
                } => masks.push(self.mask_of(s, query, key, offset, Some(window))),
            }
        }
        if let Some(first) = masks.first() {
            if first.is_some() && masks.iter().all(|m| m == first) {
                self.mask = *first;
            } else {
                // Masks that differ: none of their axes is cut.
                for (s, (_, e)) in splitter.sites.iter().enumerate() {
                    if let Domain::Causal { query, key, .. } | Domain::Banded { query, key, .. } =
                        e.domain
                    {
                        for d in [query, key] {
                            for a in &self.parts[s][d.0 as usize] {
                                pinned[*a] = true;
                            }
                        }
                    }
                }
            }
        }
        pinned
    }

    fn mask_of(
        &self,
        site: usize,
        query: DimId,
        key: DimId,
        offset: i64,
        window: Option<u64>,
    ) -> Option<Mask> {
        let one = |d: DimId| match self.parts[site][d.0 as usize].as_slice() {
            [axis] => Some(*axis),
            _ => None,
        };
        Some(Mask {
            query: one(query)?,
            key: one(key)?,
            offset,
            window,
        })
    }

    fn classify(&mut self, scene: &Scene, pinned: &[bool]) {
        for (axis, pinned) in pinned.iter().enumerate() {
            if !pinned && self.axes[axis].size > 1 {
                self.axes[axis].kind = self.kind(scene, axis);
            }
        }
    }

    fn kind(&mut self, scene: &Scene, axis: usize) -> Kind {
        let mut kind = Kind::Free;
        // Sites that only a softmax rewritten can bear.
        let mut odd: Vec<usize> = Vec::new();
        for (s, site) in self.sites.iter().enumerate() {
            let e = self.einsum(scene, s);
            let reduced = e
                .dim_ids()
                .any(|d| e.is_reduced(d) && self.parts[s][d.0 as usize].contains(&axis));
            if !self.has(s, axis) || (reduced && !self.accumulates(scene, s)) {
                odd.push(site.member);
            } else if reduced {
                kind = Kind::Sum;
            }
        }
        odd.dedup();
        match odd.as_slice() {
            [] => kind,
            [member] if kind == Kind::Sum && self.online(scene, *member, axis) => {
                self.softmax = Some(*member);
                Kind::Online
            }
            _ => Kind::Fixed,
        }
    }

    /// Whether what a site puts out leaves the group as it is: a MAC op's output without an epilogue.
    fn accumulates(&self, scene: &Scene, site: usize) -> bool {
        let Site { member, .. } = self.sites[site];
        let id = self.ops[member];
        let op = &scene.graph.ops[id];
        self.einsum(scene, site).is_contraction()
            && scene.tails.tail[id.0 as usize].is_empty()
            && op.inputs.len() == 2
            && op
                .outputs
                .iter()
                .all(|t| !self.read_inside(scene, scene.stored(*t)))
    }

    fn read_inside(&self, scene: &Scene, stored: usize) -> bool {
        let reads = |op: &OpId| {
            let inputs = &scene.graph.ops[*op].inputs;
            inputs.iter().any(|t| scene.stored(*t) == stored)
        };
        self.ops.iter().any(reads)
    }

    /// Whether the keys of a softmax are an axis of their own, and only a sum over them reads its output.
    fn online(&self, scene: &Scene, member: usize, axis: usize) -> bool {
        let id = self.ops[member];
        let op = &scene.graph.ops[id];
        let Some(softmax) = rewrite::softmax(op) else {
            return false;
        };
        let first = self.sites.iter().position(|s| s.member == member);
        let keys = first.map(|s| &self.parts[s][softmax.keys.0 as usize]);
        let Some(out) = op.outputs.first().map(|t| scene.stored(*t)) else {
            return false;
        };
        let sums = (0..self.sites.len()).filter(|s| {
            let reader = &scene.graph.ops[self.ops[self.sites[*s].member]];
            reader.inputs.iter().any(|t| scene.stored(*t) == out)
        });
        let sums: Vec<usize> = sums.collect();
        keys.is_some_and(|k| k.as_slice() == [axis])
            && matches!(sums.as_slice(), [s] if self.accumulates(scene, *s))
    }
}

/// Tensors made and used up within the group that pass through memory: `None` if somebody else reads what the
/// group reads too, or reads a slice of it.
fn inner(scene: &Scene, roots: &[OpId], ops: &[OpId]) -> Option<Vec<TensorId>> {
    let graph = scene.graph;
    let mut list = Vec::new();
    for root in roots {
        let Some(out) = scene.output_of(*root) else {
            continue;
        };
        let stored = scene.stored(out);
        let mut inside = false;
        let mut outside = false;
        for (id, op) in graph.ops.iter_ids() {
            if op.kind == OpKind::View || !op.inputs.iter().any(|t| scene.stored(*t) == stored) {
                continue;
            }
            match ops.contains(&id) {
                true => inside = true,
                false => outside = true,
            }
        }
        let kept = graph.ops[*root].outputs.len() != 1;
        if !inside {
            continue;
        }
        let plain = graph.tensors.iter_ids().all(|(id, t)| {
            scene.stored(id) != stored || t.role == presil_workloads::Role::Activation
        });
        if outside || kept || !plain {
            return None;
        }
        list.push(TensorId(stored as u32));
    }
    Some(list)
}
