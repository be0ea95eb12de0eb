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
//! - *fixed*: all others (reductions whose result the group reads, sliding windows, experts chosen by data, two dimensions
//!   of one einsum that are the same: queries and keys of one sequence).

use presil_workloads::einsum::Place;
use presil_workloads::{Access, Affine, DimId, Domain, Einsum, OpId, OpKind, TensorId};

use super::rewrite;
use crate::schedule::residency::Scene;

/// Whether a loop over an axis may be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Free,
    Sum,
    Online,
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
            ops,
        };
        let pinned = group.pinned(&splitter);
        group.classify(scene, &pinned);
        Some(group)
    }

    pub(crate) fn einsum<'a>(&self, scene: &Scene<'a>, site: usize) -> &'a Einsum {
        let Site { member, einsum } = self.sites[site];
        let OpKind::Cascade(list) = &scene.graph.ops[self.ops[member]].kind else {
            unreachable!("members are cascades");
        };
        &list[einsum]
    }

    /// Whether a dimension of a site has a part of an axis.
    fn has(&self, site: usize, axis: usize) -> bool {
        self.parts[site].iter().any(|p| p.contains(&axis))
    }

    /// The axes that index an operand of a site.
    pub(crate) fn indexed(&self, site: usize, access: &Access) -> Vec<usize> {
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

/// The dimension that a rank is, or none for a rank of one element.
pub(super) fn plain(rank: &Affine, extent: u64, e: &Einsum) -> Option<Option<DimId>> {
    match rank.terms.as_slice() {
        [] if rank.offset == 0 && extent == 1 => Some(None),
        [(d, 1)] if rank.offset == 0 && extent == e.dim(*d).size => Some(Some(*d)),
        _ => None,
    }
}

/// Two accesses of one tensor.
struct Link<'a> {
    a: (usize, &'a Access),
    b: (usize, &'a Access),
}

/// Splits dimensions where tensors' ranks say so.
struct Splitter<'a> {
    sites: Vec<(Site, &'a Einsum)>,
    links: Vec<Link<'a>>,
    /// For each site and dimension, the sizes of its parts, outermost first.
    factors: Vec<Vec<Vec<u64>>>,
    /// Dimensions that no common tile serves.
    pinned: Vec<(usize, DimId)>,
}

/// A part: where it lies in the flat tensor, site, dimension, index.
type Place4 = (u64, u64, usize, DimId, usize);

impl<'a> Splitter<'a> {
    fn new(scene: &Scene<'a>, ops: &[OpId]) -> Option<Self> {
        let mut sites = Vec::new();
        for (member, id) in ops.iter().enumerate() {
            let OpKind::Cascade(list) = &scene.graph.ops[*id].kind else {
                return None;
            };
            let own = list.iter().enumerate();
            sites.extend(own.map(|(einsum, e)| (Site { member, einsum }, e)));
        }
        let factors = sites
            .iter()
            .map(|(_, e): &(Site, &Einsum)| e.dims.iter().map(|d| vec![d.size]).collect())
            .collect();
        let mut splitter = Self {
            links: Vec::new(),
            sites,
            factors,
            pinned: Vec::new(),
        };
        splitter.link(scene, ops)?;
        Some(splitter)
    }

    /// Links each reader of what is made in the group, locals of cascades included, to its maker.
    fn link(&mut self, scene: &Scene<'a>, ops: &[OpId]) -> Option<()> {
        let mut links = Vec::new();
        for (b, (reader, e)) in self.sites.iter().enumerate() {
            let op = &scene.graph.ops[ops[reader.member]];
            for access in &e.inputs {
                let maker = match access.place {
                    Place::Local(_) => self.sites.iter().position(|(s, m)| {
                        s.member == reader.member && m.output.place == access.place
                    }),
                    Place::Input(i) => {
                        let stored = scene.stored(*op.inputs.get(i as usize)?);
                        self.sites.iter().position(|(s, m)| {
                            let Place::Output(o) = m.output.place else {
                                return false;
                            };
                            let made = scene.graph.ops[ops[s.member]].outputs.get(o as usize);
                            made.is_some_and(|t| scene.stored(*t) == stored)
                        })
                    }
                    Place::Output(_) => return None,
                };
                if let Some(a) = maker {
                    links.push(Link {
                        a: (a, &self.sites[a].1.output),
                        b: (b, access),
                    });
                }
            }
            // What is read without an index is read whole.
            for (i, t) in op.inputs.iter().enumerate() {
                let made = ops.iter().any(|o| {
                    let outputs = &scene.graph.ops[*o].outputs;
                    outputs.iter().any(|x| scene.stored(*x) == scene.stored(*t))
                });
                let OpKind::Cascade(list) = &op.kind else {
                    return None;
                };
                let indexed = list
                    .iter()
                    .flat_map(|e| &e.inputs)
                    .any(|a| matches!(a.place, Place::Input(p) if p as usize == i));
                if made && !indexed {
                    return None;
                }
            }
        }
        self.links = links;
        Some(())
    }

    /// Splits until nothing splits; `None` where ranks do not divide each other.
    fn split(&mut self) -> Option<()> {
        loop {
            let mut changed = false;
            for l in 0..self.links.len() {
                let (a, b) = self.sides(l)?;
                let mut marks: Vec<u64> = a.iter().chain(&b).flat_map(|p| [p.0, p.1]).collect();
                marks.sort_unstable();
                marks.dedup();
                if marks.windows(2).any(|w| w[1] % w[0] != 0) {
                    return None;
                }
                for (from, to, site, dim, part) in a.into_iter().chain(b) {
                    let within: Vec<u64> = marks
                        .iter()
                        .copied()
                        .filter(|m| (from..=to).contains(m))
                        .collect();
                    if within.len() > 2 {
                        let mut pieces: Vec<u64> = within.windows(2).map(|w| w[1] / w[0]).collect();
                        pieces.reverse();
                        self.factors[site][dim.0 as usize].splice(part..=part, pieces);
                        changed = true;
                        break;
                    }
                }
                if changed {
                    break;
                }
            }
            if !changed {
                return Some(());
            }
        }
    }

    /// The parts of both sides of a link, by where they lie; sliding ranks are pinned. `None` if the sides are
    /// different tensors, or a slice.
    fn sides(&mut self, link: usize) -> Option<(Vec<Place4>, Vec<Place4>)> {
        let Link {
            a: (sa, a),
            b: (sb, b),
        } = self.links[link];
        let (ea, eb) = (self.sites[sa].1, self.sites[sb].1);
        let (mut ra, mut rb) = (a.ranks.len(), b.ranks.len());
        // From the inside out, ranks of equal extents of which one slides stand against each other.
        loop {
            let slides = |access: &Access, e: &Einsum| {
                let ranks = access.ranks.iter().zip(&access.extents);
                ranks
                    .map(|(r, x)| plain(r, *x, e).is_none())
                    .collect::<Vec<bool>>()
            };
            let (wa, wb) = (slides(a, ea), slides(b, eb));
            if !wa[..ra].contains(&true) && !wb[..rb].contains(&true) {
                break;
            }
            if ra == 0 || rb == 0 || a.extents[ra - 1] != b.extents[rb - 1] {
                return None;
            }
            ra -= 1;
            rb -= 1;
            if wa[ra] || wb[rb] {
                for (site, rank) in [(sa, &a.ranks[ra]), (sb, &b.ranks[rb])] {
                    for (d, _) in &rank.terms {
                        if !self.pinned.contains(&(site, *d)) {
                            self.pinned.push((site, *d));
                        }
                    }
                }
            }
        }
        let elements = |x: &Access| x.extents.iter().fold(1u64, |n, e| n.saturating_mul(*e));
        if elements(a) != elements(b) {
            return None;
        }
        Some((self.places(sa, a, ra), self.places(sb, b, rb)))
    }

    /// Parts of the outer `ranks` ranks of an access, innermost first.
    fn places(&self, site: usize, access: &Access, ranks: usize) -> Vec<Place4> {
        let mut list = Vec::new();
        let mut at = 1u64;
        for rank in access.ranks[..ranks].iter().rev() {
            let Some((d, _)) = rank.terms.first() else {
                continue;
            };
            let factors = &self.factors[site][d.0 as usize];
            for (part, f) in factors.iter().enumerate().rev().filter(|(_, f)| **f > 1) {
                let to = at.saturating_mul(*f);
                list.push((at, to, site, *d, part));
                at = to;
            }
        }
        list
    }

    /// One axis for all parts that lie between the same boundaries.
    fn axes(&mut self) -> (Vec<Axis>, Vec<Vec<Vec<usize>>>) {
        let mut id: Vec<Vec<Vec<usize>>> = Vec::new();
        let mut size = Vec::new();
        for factors in &self.factors {
            let of = |list: &Vec<u64>| {
                let own = list.iter().map(|f| {
                    size.push(*f);
                    size.len() - 1
                });
                own.collect::<Vec<usize>>()
            };
            id.push(factors.iter().map(of).collect());
        }
        let mut same: Vec<usize> = (0..size.len()).collect();
        for l in 0..self.links.len() {
            let Some((a, b)) = self.sides(l) else {
                continue;
            };
            for (x, y) in a.iter().zip(&b) {
                debug_assert_eq!((x.0, x.1), (y.0, y.1));
                let of = |p: &Place4| id[p.2][p.3.0 as usize][p.4];
                let (from, to) = (same[of(x)], same[of(y)]);
                same.iter_mut()
                    .filter(|s| **s == from)
                    .for_each(|s| *s = to);
            }
        }
        let mut kept: Vec<usize> = Vec::new();
        let mut axes: Vec<Axis> = Vec::new();
        let mut parts: Vec<Vec<Vec<usize>>> = Vec::new();
        for (s, dims) in id.iter().enumerate() {
            let e = self.sites[s].1;
            let mut own = Vec::new();
            for (d, list) in dims.iter().enumerate() {
                let mut of_dim = Vec::new();
                for part in list {
                    let class = same[*part];
                    let at = kept.iter().position(|k| *k == class).unwrap_or(kept.len());
                    if at == kept.len() {
                        kept.push(class);
                        axes.push(Axis {
                            name: String::new(),
                            size: size[*part],
                            kind: Kind::Fixed,
                        });
                    }
                    // MAC ops have the best names.
                    if axes[at].name.is_empty()
                        || (e.is_contraction()
                            && s > 0
                            && list.len() == 1
                            && axes[at].name.starts_with('x'))
                    {
                        axes[at].name = e.dims[d].name.clone();
                    }
                    of_dim.push(at);
                }
                own.push(of_dim);
            }
            parts.push(own);
        }
        (axes, parts)
    }
}
