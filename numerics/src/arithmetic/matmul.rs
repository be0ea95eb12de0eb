//! Matrix products on slices, row-major: `A` of m x k, `B` of k x n, `C` of m x n.
//!
//! ```text
//! f32     c = fma(a_k, b_k, c) for k = 0, 1, ..        one rounding per product, in that order, on every machine
//! int8    exact: sums of at most 1024 products of 8-bit integers stay within 2^24, where f32 is exact, so that
//!         the same kernel serves; block sums are added in i32 (wrapping, as hardware's 32-bit accumulator would)
//! ```
//!
//! Both run in tiles of six rows by two vectors: a tile's sums stay in registers over a block of `k`, and the
//! tiling changes nothing in any sum's order. Rows are shared out among rayon's current threads in fixed pieces, so
//! that results depend neither on the number of threads nor on the machine's vector width.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use thiserror::Error;

/// The extents of a matrix product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Rows of `A` and `C`.
    pub m: usize,
    /// Columns of `B` and `C`.
    pub n: usize,
    /// Columns of `A`, rows of `B`.
    pub k: usize,
}

/// A slice whose length is not that of its matrix.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("matrix {matrix} of a product of m = {}, n = {}, k = {} has {length} elements", size.m, size.n, size.k)]
pub struct SizeError {
    /// "A", "B" or "C".
    pub matrix: char,
    /// The product.
    pub size: Size,
    /// The slice's length.
    pub length: usize,
}

impl Size {
    /// Checks the lengths of the three slices.
    pub fn check(self, a: usize, b: usize, c: usize) -> Result<(), SizeError> {
        let of = |matrix, length: usize, rows: usize, columns: usize| {
            if rows.checked_mul(columns) == Some(length) {
                Ok(())
            } else {
                Err(SizeError {
                    matrix,
                    size: self,
                    length,
                })
            }
        };
        of('A', a, self.m, self.k)?;
        of('B', b, self.k, self.n)?;
        of('C', c, self.m, self.n)
    }
}

/// Rows of a tile.
const ROWS: usize = 6;
/// Vectors of a tile's row.
const VECTORS: usize = 2;
/// Products of a sum that are taken together: `B`'s part of a tile fits the first-level cache, and a sum of so many
/// products of 8-bit integers is below 2^22.
const DEPTH: usize = 256;
/// Rows that a thread takes at once.
pub(crate) const PIECE: usize = 96;

/// `c += a x b`, every sum in the order of k, each step one fused multiply-add.
pub fn matmul_f32(a: &[f32], b: &[f32], c: &mut [f32], size: Size) -> Result<(), SizeError> {
    size.check(a.len(), b.len(), c.len())?;
    let (a, b) = (|i, l| a[i * size.k + l], |l, j| b[l * size.n + j]);
    product(size, a, b, c, |c| *c, |c, sum| *c = sum);
    Ok(())
}

/// `c += a x b` of 8-bit integers, modulo 2^32: exact where k is below 2^17.
pub fn matmul_i8(a: &[i8], b: &[i8], c: &mut [i32], size: Size) -> Result<(), SizeError> {
    size.check(a.len(), b.len(), c.len())?;
    let a = |i, l| f32::from(a[i * size.k + l]);
    let b = |l, j| f32::from(b[l * size.n + j]);
    let finish = |c: &mut i32, sum: f32| *c = c.wrapping_add(sum as i32);
    product(size, a, b, c, |_| 0.0, finish);
    Ok(())
}

/// `c += a x b` of integers whose sums fit 64 bits, exactly.
pub(crate) fn product_of_ints(a: &[i32], b: &[i32], c: &mut [i64], size: Size) {
    let Size { n, k, .. } = size;
    let largest = |x: &[i32]| {
        x.iter()
            .map(|x| u64::from(x.unsigned_abs()))
            .max()
            .unwrap_or(0)
    };
    if largest(a).saturating_mul(largest(b)) <= (1 << 24) / DEPTH as u64 {
        let a = |i, l| a[i * k + l] as f32;
        let b = |l, j| b[l * n + j] as f32;
        product(size, a, b, c, |_| 0.0, |c, sum| *c += sum as i64);
        return;
    }
    c.par_chunks_mut(n).enumerate().for_each(|(i, c)| {
        for l in 0..k {
            let a = i64::from(a[i * k + l]);
            for (c, b) in c.iter_mut().zip(&b[l * n..(l + 1) * n]) {
                *c += a * i64::from(*b);
            }
        }
    });
}

/// Runs tiles over all of `C`: a tile's sums start from what `start` makes of `C`'s elements, take `DEPTH` products
/// each, and come back through `finish`.
fn product<T: Send>(
    size: Size,
    a: impl Fn(usize, usize) -> f32 + Sync,
    b: impl Fn(usize, usize) -> f32 + Sync,
    c: &mut [T],
    start: impl Fn(&T) -> f32 + Sync,
    finish: impl Fn(&mut T, f32) + Sync,
) {
    let Size { n, k, .. } = size;
    if n == 0 {
        return;
    }
    let width = VECTORS * pulp::Arch::new().dispatch(Lanes);
    let padded = n.div_ceil(width) * width;
    let mut packed_b = vec![0.0; padded * k];
    for (l0, l1) in blocks(k) {
        packed_b[padded * l0..padded * l1]
            .par_chunks_mut((l1 - l0) * width)
            .enumerate()
            .for_each(|(panel, packed)| pack(packed, l0, panel * width, width, n, &b));
    }
    c.par_chunks_mut(PIECE * n)
        .enumerate()
        .for_each(|(piece, c)| {
            let rows = c.len() / n;
            let mut packed_a = vec![0.0; rows.div_ceil(ROWS) * ROWS * DEPTH];
            let mut sums = vec![0.0; ROWS * width];
            for (l0, l1) in blocks(k) {
                let depth = l1 - l0;
                let packed_a = &mut packed_a[..rows.div_ceil(ROWS) * ROWS * depth];
                let from = |l, i| a(piece * PIECE + i, l);
                for (group, packed) in packed_a.chunks_exact_mut(depth * ROWS).enumerate() {
                    pack(packed, l0, group * ROWS, ROWS, rows, &from);
                }
                for (panel, b) in packed_b[padded * l0..padded * l1]
                    .chunks_exact(depth * width)
                    .enumerate()
                {
                    let j0 = panel * width;
                    let columns = width.min(n - j0);
                    for (group, a) in packed_a.chunks_exact(depth * ROWS).enumerate() {
                        let i0 = group * ROWS;
                        let rows = ROWS.min(rows - i0);
                        let at = |i: usize| (i0 + i) * n + j0..(i0 + i) * n + j0 + columns;
                        for (i, sums) in sums.chunks_exact_mut(width).take(rows).enumerate() {
                            for (sum, c) in sums.iter_mut().zip(&c[at(i)]) {
                                *sum = start(c);
                            }
                        }
                        let sums = &mut sums[..];
                        pulp::Arch::new().dispatch(Tile { a, b, sums });
                        for (i, sums) in sums.chunks_exact(width).take(rows).enumerate() {
                            for (sum, c) in sums.iter().zip(&mut c[at(i)]) {
                                finish(c, *sum);
                            }
                        }
                    }
                }
            }
        });
}

/// The blocks of `DEPTH` products of a sum of k.
fn blocks(k: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..k)
        .step_by(DEPTH)
        .map(move |l0| (l0, (l0 + DEPTH).min(k)))
}

/// Lays a panel out as tiles read it: elements `first..first + width` for every l from `l0` on, zeros beyond `end`.
fn pack(
    packed: &mut [f32],
    l0: usize,
    first: usize,
    width: usize,
    end: usize,
    element: &impl Fn(usize, usize) -> f32,
) {
    for (l, packed) in packed.chunks_exact_mut(width).enumerate() {
        for (i, x) in packed.iter_mut().enumerate() {
            *x = if first + i < end {
                element(l0 + l, first + i)
            } else {
                0.0
            };
        }
    }
}

/// Lanes of a vector of f32.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// `ROWS` rows by `VECTORS` vectors of sums, with `a` of `ROWS` and `b` of a tile's width for every product.
struct Tile<'a> {
    a: &'a [f32],
    b: &'a [f32],
    sums: &'a mut [f32],
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (sums, _) = S::as_mut_simd_f32s(self.sums);
        let (b, _) = S::as_simd_f32s(self.b);
        let mut acc = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        for (acc, sums) in acc.iter_mut().zip(sums.chunks_exact(VECTORS)) {
            acc.copy_from_slice(sums);
        }
        let (a, _) = self.a.as_chunks::<ROWS>();
        let (b, _) = b.as_chunks::<VECTORS>();
        for (a, b) in a.iter().zip(b) {
            for (a, acc) in a.iter().zip(&mut acc) {
                let a = simd.splat_f32s(*a);
                for (b, acc) in b.iter().zip(acc) {
                    *acc = simd.mul_add_f32s(a, *b, *acc);
                }
            }
        }
        for (acc, sums) in acc.iter().zip(sums.chunks_exact_mut(VECTORS)) {
            sums.copy_from_slice(acc);
        }
    }
}
