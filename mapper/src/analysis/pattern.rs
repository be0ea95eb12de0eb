//! How an operand depends on dimensions: independent groups of them.
//!
//! Dimensions that share a rank of the operand, or that the domain couples, form a group. The tile of an operand
//! is the product over groups of what each touches, so counts factorize (see [`super::flow`]).

use presil_numerics::ids::Id;
use presil_workloads::{Access, Einsum};

use super::region::{Region, Span};
use super::set::Set;

/// A rank: `constant + sum(coefficient x dimension)`, in bounds if in `0..extent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rank {
    pub(crate) constant: i64,
    pub(crate) terms: Vec<(usize, i64)>,
    pub(crate) extent: i64,
}

/// What a group looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One dimension that the operand does not have.
    Free,
    /// One dimension that is one rank, all in bounds: tiles are disjoint and complete.
    Plain,
    /// Dimensions of one rank (sliding windows, padding).
    Affine(Rank),
    /// The two dimensions that the domain couples; whether the operand has each, as a plain rank.
    Plane { region: Region, a: bool, b: bool },
    /// Anything else, point by point.
    Any {
        ranks: Vec<Rank>,
        region: Option<Region>,
    },
}

/// A group of dimensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// Indices, ascending.
    pub(crate) dims: Vec<usize>,
    pub(crate) shape: Shape,
}

/// The groups of an operand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    pub(crate) groups: Vec<Group>,
    /// Whether a constant index lies outside: nothing is ever touched.
    pub(crate) nothing: bool,
}

/// Stands for an extent that does not clip.
const UNCLIPPED: i64 = 1 << 40;

impl Pattern {
    /// The pattern of an operand, or of the iterations themselves if there is none.
    pub(crate) fn of(einsum: &Einsum, access: Option<&Access>, region: Option<Region>) -> Self {
        let sizes: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
        let mut nothing = false;
        let mut ranks: Vec<Rank> = Vec::new();
        for (rank, extent) in access
            .into_iter()
            .flat_map(|a| a.ranks.iter().zip(&a.extents))
        {
            let terms = rank.terms.iter().map(|(d, c)| (d.index(), *c));
            let terms: Vec<_> = terms.filter(|(d, c)| sizes[*d] > 1 && *c != 0).collect();
            let both = |r: Region| {
                r.is_stairs() && [r.a, r.b].iter().all(|d| terms.iter().any(|t| t.0 == *d))
            };
            // Rows of a ragged group lie where the group's rows lie, not at the box's place.
            let clips = !region.is_some_and(both);
            let extent = if clips {
                i64::try_from(*extent).unwrap_or(i64::MAX / 4)
            } else {
                UNCLIPPED
            };
            if terms.is_empty() {
                nothing |= !(0..extent).contains(&rank.offset);
            } else {
                ranks.push(Rank {
                    constant: rank.offset,
                    terms,
                    extent,
                });
            }
        }
        let mut root: Vec<usize> = (0..sizes.len()).collect();
        let mut unite = |x: usize, y: usize| {
            let (from, to) = (root[x].max(root[y]), root[x].min(root[y]));
            root.iter_mut()
                .filter(|r| **r == from)
                .for_each(|r| *r = to);
        };
        for rank in &ranks {
            rank.terms.windows(2).for_each(|w| unite(w[0].0, w[1].0));
        }
        if let Some(r) = region {
            unite(r.a, r.b);
        }
        let mut groups = Vec::with_capacity(sizes.len());
        for leader in 0..sizes.len() {
            let dims: Vec<usize> = (0..sizes.len()).filter(|d| root[*d] == leader).collect();
            let region = region.filter(|r| dims.contains(&r.a));
            if dims.is_empty() || (dims.iter().all(|d| sizes[*d] == 1) && region.is_none()) {
                continue;
            }
            let mine: Vec<Rank> = ranks
                .iter()
                .filter(|r| dims.contains(&r.terms[0].0))
                .cloned()
                .collect();
            groups.push(Group {
                shape: shape(&dims, mine, region, &sizes),
                dims,
            });
        }
        Self { groups, nothing }
    }

    /// Whether the operand has a dimension, if that is alone in its group: a plain rank, or none.
    pub(crate) fn alone(&self, dim: usize) -> Option<bool> {
        let group = self.groups.iter().find(|g| g.dims.contains(&dim));
        match group.map_or(&Shape::Free, |g| &g.shape) {
            Shape::Free => Some(false),
            Shape::Plain => Some(true),
            _ => None,
        }
    }

    /// Distinct elements of a full tile, at most (the domain and the borders are ignored).
    pub(crate) fn tile_elements(&self, tiles: &[u64]) -> u128 {
        if self.nothing {
            return 0;
        }
        let window = |rank: &Rank| {
            let terms = rank.terms.iter().map(|(d, c)| (*c, (0, tiles[*d] as i64)));
            // Shifted so that the smallest index is zero and nothing is clipped at the start.
            let low: i64 = rank
                .terms
                .iter()
                .filter(|(_, c)| *c < 0)
                .map(|(d, c)| c * (tiles[*d] as i64 - 1))
                .sum();
            Set::affine(-low, terms, i64::MAX / 4)
                .len()
                .min(rank.extent as u128)
        };
        let elements = self.groups.iter().map(|g| match &g.shape {
            Shape::Free => 1,
            Shape::Plain => u128::from(tiles[g.dims[0]]),
            Shape::Affine(rank) => window(rank),
            Shape::Plane { region, a, b } => {
                let size = |has: bool, d: usize| if has { u128::from(tiles[d]) } else { 1 };
                size(*a, region.a) * size(*b, region.b)
            }
            Shape::Any { ranks, .. } => ranks.iter().map(window).fold(1, u128::saturating_mul),
        });
        elements.fold(1, u128::saturating_mul)
    }
}

fn shape(dims: &[usize], ranks: Vec<Rank>, region: Option<Region>, sizes: &[u64]) -> Shape {
    let plain = |rank: &Rank| match rank.terms[..] {
        [(d, c)] => {
            let ends = [rank.constant, rank.constant + c * (sizes[d] as i64 - 1)];
            ends.iter().all(|i| (0..rank.extent).contains(i))
        }
        _ => false,
    };
    match (region, &ranks[..]) {
        (None, []) => Shape::Free,
        (None, [rank]) if plain(rank) => Shape::Plain,
        (None, [rank]) => Shape::Affine(rank.clone()),
        (Some(region), ranks) if dims.len() <= 2 => {
            let has = |d: usize| ranks.iter().filter(|r| r.terms[0].0 == d).count();
            let joint = region.is_stairs() && matches!(ranks, [rank] if rank.terms.len() == 2);
            if joint {
                Shape::Plane {
                    region,
                    a: true,
                    b: true,
                }
            } else if ranks.iter().all(plain) && has(region.a) <= 1 && has(region.b) <= 1 {
                Shape::Plane {
                    region,
                    a: has(region.a) == 1,
                    b: has(region.b) == 1,
                }
            } else {
                Shape::Any {
                    ranks: ranks.to_vec(),
                    region: Some(region),
                }
            }
        }
        _ => Shape::Any { ranks, region },
    }
}

impl Group {
    /// What the union of boxes touches; none if no point of them is executed. `boxes` gives for each dimension of
    /// the einsum its interval; there is more than one where iterations of a spatial loop are seen as one.
    pub(crate) fn touched(&self, boxes: &[Vec<Span>]) -> Option<Set> {
        let first = boxes.first()?;
        match &self.shape {
            Shape::Free => Some(Set::UNIT),
            Shape::Plain => Some(Set::union(boxes.iter().map(|x| x[self.dims[0]]).collect())),
            Shape::Affine(rank) => {
                let window = |x: &Vec<Span>| {
                    let terms = rank.terms.iter().map(|(d, c)| (*c, x[*d]));
                    Set::affine(rank.constant, terms, rank.extent)
                };
                Some(match boxes {
                    [one] => window(one),
                    _ => Set::join(boxes.iter().map(window).collect()),
                })
            }
            Shape::Plane { region, a, b } => {
                let plane = |x: &Vec<Span>| (x[region.a], x[region.b]);
                let mut met = boxes
                    .iter()
                    .map(plane)
                    .filter(|(a, b)| region.meets(*a, *b))
                    .peekable();
                met.peek()?;
                Some(match (a, b) {
                    (false, false) => Set::UNIT,
                    (true, true) => {
                        let (a, b) = plane(first);
                        Set::Cells {
                            corner: (a.0, b.0),
                            count: met.map(|(a, b)| region.cells(a, b)).sum(),
                        }
                    }
                    (true, false) => Set::union(met.map(|(a, b)| region.project_a(a, b)).collect()),
                    (false, true) => Set::union(met.map(|(a, b)| region.project_b(a, b)).collect()),
                })
            }
            Shape::Any { ranks, region } => self.points(ranks, *region, boxes),
        }
    }

    fn points(&self, ranks: &[Rank], region: Option<Region>, boxes: &[Vec<Span>]) -> Option<Set> {
        let mut codes: Vec<i128> = Vec::new();
        let mut any = false;
        for spans in boxes {
            let mut at: Vec<i64> = spans.iter().map(|s| s.0).collect();
            'points: loop {
                if region.is_none_or(|r| r.has(at[r.a], at[r.b])) {
                    any = true;
                    let code = ranks.iter().try_fold(0i128, |code, rank| {
                        let index = rank
                            .terms
                            .iter()
                            .fold(rank.constant, |i, (d, c)| i + c * at[*d]);
                        let inside = (0..rank.extent).contains(&index);
                        inside.then(|| {
                            code.wrapping_mul(i128::from(rank.extent))
                                .wrapping_add(i128::from(index))
                        })
                    });
                    codes.extend(code);
                }
                for d in self.dims.iter().rev() {
                    at[*d] += 1;
                    if at[*d] < spans[*d].1 {
                        continue 'points;
                    }
                    at[*d] = spans[*d].0;
                }
                break;
            }
        }
        codes.sort_unstable();
        codes.dedup();
        any.then_some(Set::Points(codes))
    }
}
