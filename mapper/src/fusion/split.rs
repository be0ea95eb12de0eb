//! Splits the dimensions of a group's einsums where the ranks of a tensor between them say so.
//!
//! From the inside out, ranks of equal extents of which one slides stand against each other; the others are cut at
//! each other's boundaries in the flat tensor (see [`super::axes`]).

use presil_workloads::einsum::Place;
use presil_workloads::{Access, Affine, DimId, Einsum, OpId, OpKind};

use super::axes::{Axis, Kind, Site};
use crate::schedule::residency::Scene;

/// The dimension that a rank is, or none for a rank of one element.
pub(super) fn plain(rank: &Affine, extent: u64, e: &Einsum) -> Option<Option<DimId>> {
    match rank.terms.as_slice() {
        [] if rank.offset == 0 && extent == 1 => Some(None),
        [(d, 1)] if rank.offset == 0 && extent == e.dim(*d).size => Some(Some(*d)),
        _ => None,
    }
}

/// Two accesses of one tensor.
pub(super) struct Link<'a> {
    /// The maker, by site, and how it writes.
    pub(super) a: (usize, &'a Access),
    /// A reader, and how it reads.
    pub(super) b: (usize, &'a Access),
    /// Which of the reader's inputs that is.
    pub(super) input: usize,
}

/// Splits dimensions where tensors' ranks say so.
pub(super) struct Splitter<'a> {
    pub(super) sites: Vec<(Site, &'a Einsum)>,
    pub(super) links: Vec<Link<'a>>,
    /// For each site and dimension, the sizes of its parts, outermost first.
    factors: Vec<Vec<Vec<u64>>>,
    /// Dimensions that no common tile serves.
    pub(super) pinned: Vec<(usize, DimId)>,
}

/// How two accesses of a tensor stand against each other.
struct Sides {
    a: Vec<Place4>,
    b: Vec<Place4>,
    /// Ranks that stand against each other whole.
    whole: Vec<(usize, usize)>,
}

/// A part: where it lies in the flat tensor, site, dimension, index.
type Place4 = (u64, u64, usize, DimId, usize);

impl<'a> Splitter<'a> {
    pub(super) fn new(scene: &Scene<'a>, ops: &[OpId]) -> Option<Self> {
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
            for (input, access) in e.inputs.iter().enumerate() {
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
                        input,
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
    pub(super) fn split(&mut self) -> Option<()> {
        loop {
            let mut changed = false;
            for l in 0..self.links.len() {
                let Sides { a, b, .. } = self.sides(l)?;
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

    /// Ranks of the maker and the reader of a link that stand against each other whole.
    pub(super) fn whole(&mut self, link: usize) -> Vec<(usize, usize)> {
        self.sides(link).map_or(Vec::new(), |s| s.whole)
    }

    /// The parts of both sides of a link, by where they lie; sliding ranks are pinned. `None` if the sides are
    /// different tensors, or a slice.
    fn sides(&mut self, link: usize) -> Option<Sides> {
        let Link {
            a: (sa, a),
            b: (sb, b),
            ..
        } = self.links[link];
        let mut whole = Vec::new();
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
            whole.push((ra, rb));
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
        Some(Sides {
            a: self.places(sa, a, ra),
            b: self.places(sb, b, rb),
            whole,
        })
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
    pub(super) fn axes(&mut self) -> (Vec<Axis>, Vec<Vec<Vec<usize>>>) {
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
            let Some(Sides { a, b, .. }) = self.sides(l) else {
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
