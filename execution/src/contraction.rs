//! Contractions as matrix products.
//!
//! Each dimension of a sum of products stands in the output and both inputs (batch), in the output and one of them (a
//! row of the first or a column of the second input) or in the inputs only (reduced). So, for each batch,
//!
//! ```text
//! O[m, n] = bias + sum over k of A[m, k] B[k, n]
//! ```
//!
//! where m, n and k run over the dimensions of a kind in the einsum's order, and an element of A or B lies where the
//! affine indices say, zero outside the tensor. That is any convolution (A is gathered: im2col), attention, linear.
//! An output whose index is a sum of dimensions (transposed convolution) has no such form: its products are added one
//! after the other.
//!
//! Points outside a mask add nothing: where the key is reduced, elements of A outside the mask count as zero; where it is
//! an output dimension, those outputs are zero.

use std::sync::Arc;

use presil_workloads::{Access, DimId, Domain, Einsum};

use crate::array::strides;

/// A contraction's matrices: where each element of batch, row, column and reduction lies.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Number of batches.
    pub batches: usize,
    /// Rows of `A` and the output.
    pub m: usize,
    /// Columns of `B` and the output.
    pub n: usize,
    /// Products of a sum.
    pub k: usize,
    a: Places,
    b: Places,
    out: Places,
    mask: Option<Mask>,
    /// Where the order of products is not the einsum's: the product at each place.
    order: Option<Arc<[u32]>>,
}

/// Offsets of an operand along the four groups of dimensions, and the ranks that may leave the tensor.
#[derive(Debug, Clone)]
struct Places {
    /// For batch, m, n, k: the offset that each of its points adds.
    offsets: [Vec<i64>; 4],
    /// The same of those ranks alone that never leave the tensor.
    inside: [Vec<i64>; 4],
    /// Ranks whose index may be outside: the index that each point adds, the constant, the extent.
    bounded: Vec<Bounded>,
    constant: i64,
}

#[derive(Debug, Clone)]
struct Bounded {
    parts: [Vec<i64>; 4],
    constant: i64,
    extent: i64,
}

/// Query and key of each point of a group, and which pairs are executed.
#[derive(Debug, Clone)]
struct Mask {
    query: [Vec<i64>; 4],
    key: [Vec<i64>; 4],
    offset: i64,
    window: i64,
}

const BATCH: usize = 0;
const M: usize = 1;
const N: usize = 2;
const K: usize = 3;

impl Plan {
    /// The matrices of a contraction; `None` where its output's indices are no plain dimensions, or a domain has none.
    pub fn new(einsum: &Einsum) -> Option<Self> {
        let [a, b] = einsum.inputs.as_slice() else {
            return None;
        };
        let plain = einsum
            .output
            .ranks
            .iter()
            .all(|r| r.offset == 0 && matches!(r.terms.as_slice(), [] | [(_, 1)]));
        let mut named: Vec<DimId> = einsum
            .output
            .ranks
            .iter()
            .flat_map(|r| r.terms.iter().map(|t| t.0))
            .collect();
        let count = named.len();
        named.sort();
        named.dedup();
        if !plain || named.len() != count || matches!(einsum.domain, Domain::Ragged { .. }) {
            return None;
        }
        let mut groups: [Vec<DimId>; 4] = Default::default();
        for d in einsum.dim_ids() {
            let group = match (
                einsum.is_reduced(d),
                Einsum::names(a, d),
                Einsum::names(b, d),
            ) {
                (true, ..) => K,
                (false, true, true) => BATCH,
                (false, _, false) => M,
                (false, false, true) => N,
            };
            groups[group].push(d);
        }
        let size = |group: usize| -> Option<usize> {
            groups[group].iter().try_fold(1usize, |n, d| {
                n.checked_mul(usize::try_from(einsum.dim(*d).size).ok()?)
            })
        };
        let mask = Mask::new(einsum, &groups);
        Some(Self {
            batches: size(BATCH)?,
            m: size(M)?,
            n: size(N)?,
            k: size(K)?,
            a: Places::new(einsum, a, &groups)?,
            b: Places::new(einsum, b, &groups)?,
            out: Places::new(einsum, &einsum.output, &groups)?,
            mask,
            order: None,
        })
    }

    /// The same with its products in another order.
    pub fn ordered(mut self, order: Option<Arc<[u32]>>) -> Self {
        self.order = order;
        self
    }

    /// Places of a sum: products, and places without one.
    pub fn places_of_sum(&self) -> usize {
        self.order.as_ref().map_or(self.k, |o| o.len())
    }

    /// `A` of a batch: m rows of as many places as a sum has.
    pub fn a(&self, tensor: &[f32], batch: usize, matrix: &mut Vec<f32>) {
        self.a
            .gather(tensor, batch, (M, self.m), (K, self.k), matrix);
        if let Some(mask) = &self.mask {
            mask.apply(batch, (M, self.m), (K, self.k), matrix);
        }
        if let Some(order) = &self.order {
            let place = |row: &[f32], p: u32| row.get(p as usize).copied().unwrap_or(0.0);
            let rows = matrix.chunks(self.k.max(1));
            *matrix = rows
                .flat_map(|row| order.iter().map(move |p| place(row, *p)))
                .collect();
        }
    }

    /// What lies beside the first element of each row of `A`, where neighbours along the outermost rank share it (a
    /// scale).
    pub fn a_scales(&self, of_each: &[f32], batch: usize, scales: &mut Vec<f32>) {
        let first = self.a.inside[BATCH][batch];
        scales.clear();
        scales.extend(
            self.a.inside[M]
                .iter()
                .map(|m| of_each[(first + m) as usize]),
        );
    }

    /// `B` of a batch: as many rows as a sum has places, of n columns.
    pub fn b(&self, tensor: &[f32], batch: usize, matrix: &mut Vec<f32>) {
        self.b
            .gather(tensor, batch, (K, self.k), (N, self.n), matrix);
        if let Some(order) = &self.order {
            let mut ordered = vec![0.0; order.len() * self.n];
            for (row, place) in ordered.chunks_mut(self.n.max(1)).zip(order.iter()) {
                let from = *place as usize * self.n;
                if let Some(own) = matrix.get(from..from + self.n) {
                    row.copy_from_slice(own);
                }
            }
            *matrix = ordered;
        }
    }

    /// Where the output of a batch, m x n, lies in its tensor.
    pub fn places(&self, batch: usize) -> impl Iterator<Item = usize> + '_ {
        let first = self.out.constant + self.out.offsets[BATCH][batch];
        self.out.offsets[M].iter().flat_map(move |m| {
            self.out.offsets[N]
                .iter()
                .map(move |n| (first + m + n) as usize)
        })
    }

    /// Sets outputs of a batch that lie outside the mask to zero.
    pub fn mask(&self, batch: usize, c: &mut [f32]) {
        if let Some(mask) = &self.mask {
            mask.apply(batch, (M, self.m), (N, self.n), c);
        }
    }
}

/// The sum over a group's dimensions of `coefficient x index`, at each of its points.
fn over(einsum: &Einsum, group: &[DimId], coefficient: impl Fn(DimId) -> i64) -> Vec<i64> {
    let mut sums = vec![0i64];
    for d in group {
        let (c, size) = (coefficient(*d), einsum.dim(*d).size as i64);
        sums = sums
            .iter()
            .flat_map(|s| (0..size).map(move |i| s + c * i))
            .collect();
    }
    sums
}

impl Places {
    fn new(einsum: &Einsum, access: &Access, groups: &[Vec<DimId>; 4]) -> Option<Self> {
        let extents: Option<Vec<usize>> = access
            .extents
            .iter()
            .map(|e| usize::try_from(*e).ok())
            .collect();
        let steps = strides(&extents?);
        let factor = |rank: usize, d: DimId| {
            let term = access.ranks[rank].terms.iter().find(|t| t.0 == d);
            term.map_or(0, |t| t.1)
        };
        let offset = |d: DimId| {
            (0..steps.len())
                .map(|r| factor(r, d) * steps[r] as i64)
                .sum::<i64>()
        };
        let constant = (0..steps.len())
            .map(|r| access.ranks[r].offset * steps[r] as i64)
            .sum();
        let leaves = |r: usize| {
            let rank = &access.ranks[r];
            let reach = |sign: i64| -> i64 {
                let terms = rank.terms.iter().filter(|t| t.1.signum() == sign);
                let furthest = terms.map(|(d, c)| c * (einsum.dim(*d).size as i64 - 1));
                furthest.sum::<i64>() + rank.offset
            };
            reach(-1) < 0 || reach(1) >= access.extents[r] as i64
        };
        let bounded: Vec<usize> = (0..steps.len()).filter(|r| leaves(*r)).collect();
        let inside = |d: DimId| {
            let kept = (0..steps.len()).filter(|r| !bounded.contains(r));
            kept.map(|r| factor(r, d) * steps[r] as i64).sum::<i64>()
        };
        let parts = |r: usize| Bounded {
            parts: std::array::from_fn(|g| over(einsum, &groups[g], |d| factor(r, d))),
            constant: access.ranks[r].offset,
            extent: access.extents[r] as i64,
        };
        Some(Self {
            offsets: std::array::from_fn(|g| over(einsum, &groups[g], offset)),
            inside: std::array::from_fn(|g| over(einsum, &groups[g], inside)),
            bounded: bounded.iter().map(|r| parts(*r)).collect(),
            constant,
        })
    }

    /// The elements at rows of one group and columns of another, in a batch; zero outside the tensor.
    fn gather(
        &self,
        tensor: &[f32],
        batch: usize,
        (rows, count): (usize, usize),
        (columns, width): (usize, usize),
        matrix: &mut Vec<f32>,
    ) {
        matrix.clear();
        matrix.reserve(count * width);
        let first = self.constant + self.offsets[BATCH][batch];
        for row in 0..count {
            let start = first + self.offsets[rows][row];
            let places = &self.offsets[columns];
            if self.bounded.is_empty() {
                matrix.extend(places.iter().map(|p| tensor[(start + p) as usize]));
                continue;
            }
            matrix.extend((0..width).map(|column| {
                let inside = self.bounded.iter().all(|b| {
                    let index = b.constant
                        + b.parts[BATCH][batch]
                        + b.parts[rows][row]
                        + b.parts[columns][column];
                    (0..b.extent).contains(&index)
                });
                if inside {
                    tensor[(start + places[column]) as usize]
                } else {
                    0.0
                }
            }));
        }
    }
}

impl Mask {
    fn new(einsum: &Einsum, groups: &[Vec<DimId>; 4]) -> Option<Self> {
        let (query, key, offset, window) = match einsum.domain {
            Domain::Causal { query, key, offset } => (query, key, offset, i64::MAX),
            Domain::Banded {
                query,
                key,
                offset,
                window,
            } => (
                query,
                key,
                offset,
                i64::try_from(window).unwrap_or(i64::MAX),
            ),
            Domain::Dense | Domain::Ragged { .. } => return None,
        };
        let of =
            |dim: DimId| std::array::from_fn(|g| over(einsum, &groups[g], |d| i64::from(d == dim)));
        Some(Self {
            query: of(query),
            key: of(key),
            offset,
            window,
        })
    }

    fn apply(
        &self,
        batch: usize,
        (rows, count): (usize, usize),
        (columns, width): (usize, usize),
        matrix: &mut [f32],
    ) {
        let at = |parts: &[Vec<i64>; 4], row: usize, column: usize| {
            parts[BATCH][batch] + parts[rows][row] + parts[columns][column]
        };
        // Where these two groups don't hold both query and key, this matrix has no place outside the mask.
        let varies = |parts: &[Vec<i64>; 4]| {
            [BATCH, rows, columns]
                .iter()
                .any(|g| parts[*g].iter().any(|x| *x > 0))
        };
        let whole = |parts: &[Vec<i64>; 4]| parts.iter().all(|p| p.iter().all(|x| *x == 0));
        if !((varies(&self.query) || whole(&self.query)) && (varies(&self.key) || whole(&self.key)))
        {
            return;
        }
        for row in 0..count {
            for column in 0..width {
                let (q, k) = (
                    at(&self.query, row, column) + self.offset,
                    at(&self.key, row, column),
                );
                if k > q || q - k >= self.window {
                    matrix[row * width + column] = 0.0;
                }
            }
        }
    }
}

/// The axis of a contraction's second operand, of this shape, along which its output channels lie: the largest of those
/// that name dimensions of the output only. `None` where there is none, or where the einsum's view splits no axis.
pub fn channel_axis(einsum: &Einsum, shape: &[usize]) -> Option<usize> {
    let access = einsum.inputs.get(1)?;
    let mut ranks = access.ranks.iter().zip(&access.extents).peekable();
    let mut best: Option<(usize, usize)> = None;
    for (axis, extent) in shape.iter().enumerate() {
        let (mut seen, mut kept) = (1u64, true);
        // The view's ranks that make up this axis, those of extent 1 behind it included.
        while let Some((rank, own)) = ranks.next_if(|(_, own)| {
            seen.checked_mul(**own)
                .is_some_and(|all| all <= *extent as u64)
        }) {
            seen *= own;
            let stays = |d: DimId| !einsum.is_reduced(d) || einsum.dim(d).size == 1;
            kept &= rank.terms.iter().all(|(d, _)| stays(*d));
        }
        if seen != *extent as u64 {
            return None;
        }
        if kept && best.is_none_or(|(_, most)| *extent > most) {
            best = Some((axis, *extent));
        }
    }
    best.map(|(axis, _)| axis)
}

/// Adds the products of an einsum whose output has no matrix form to its output, one after the other in the order of
/// its dimensions.
pub fn scatter(einsum: &Einsum, a: &[f32], b: &[f32], out: &mut [f32]) {
    let [first, second] = einsum.inputs.as_slice() else {
        return;
    };
    let mut point = vec![0u64; einsum.dims.len()];
    loop {
        let places = [&einsum.output, first, second].map(|access| place(access, &point));
        if let [Some(o), Some(i), Some(w)] = places {
            out[o] = a[i].mul_add(b[w], out[o]);
        }
        let Some(d) = (0..point.len())
            .rev()
            .find(|d| point[*d] + 1 < einsum.dims[*d].size)
        else {
            return;
        };
        point[d] += 1;
        point[d + 1..].fill(0);
    }
}

/// Where a point's element lies; `None` outside the tensor.
fn place(access: &Access, point: &[u64]) -> Option<usize> {
    let mut at = 0usize;
    for (rank, extent) in access.ranks.iter().zip(&access.extents) {
        let terms = rank
            .terms
            .iter()
            .map(|(d, c)| c * point[d.0 as usize] as i64);
        let index = u64::try_from(terms.sum::<i64>() + rank.offset)
            .ok()
            .filter(|i| i < extent)?;
        at = at * usize::try_from(*extent).ok()? + usize::try_from(index).ok()?;
    }
    Some(at)
}
