//! Matrix products by a [`Summer`], sixteen columns at once, with the bits of its scalar routine.
//!
//! Integers run in 32-bit lanes where every register has at most 30 bits and every tree's sum stays below 2^30, in
//! 64-bit lanes where that holds with 62 and 2^61. Where no register can overflow, since `K max|a| max|b| + max|c|`
//! fits each of them, order does not matter and the exact product serves.
//!
//! Floats run in f64 lanes: products of f32 numbers are exact there, and a sum of two numbers is brought to f64 by
//! rounding to odd, so that rounding it again to at most 24 bits is rounding the exact sum:
//!
//! ```text
//! s = x + y to nearest, e = its error (Knuth's two-sum); where e is not 0 and s's last bit is 0, s moves one step
//! toward s + e
//! ```
//!
//! Plain f32 accumulation of exact products is [`matmul_f32`]. What fits no lane takes the scalar routine.

mod floats;
mod integers;

use rayon::prelude::*;

use floats::{FloatAdders, Register};
use integers::{IntAdders, Lane, Limit};

use super::matmul::{Size, matmul_f32, product_of_ints};
use super::summation::{Accumulator, Merge, Sum, Summation, SummationError, Summer};
use crate::conversion::Overflow;
use crate::exact::{Exact, Magnitude};
use crate::format::Format;

const WIDTH: usize = 16;
/// Rows that a thread takes at once.
const PIECE: usize = 8;

/// The adders of one order, on sixteen sums at once.
trait Adders {
    type Vector: Copy;
    fn zero(&self) -> Self::Vector;
    fn product(&mut self, l: usize) -> Self::Vector;
    fn tree(&mut self, x: Self::Vector, y: Self::Vector) -> Self::Vector;
    fn accumulate(&mut self, x: Self::Vector, y: Self::Vector) -> Self::Vector;
    fn outer(&mut self, x: Self::Vector, y: Self::Vector) -> Self::Vector;
}

/// The call of [`dot`], compiled for the machine's vectors.
struct Dot<'a, A: Adders> {
    order: &'a Summation,
    k: usize,
    adders: &'a mut A,
    c: A::Vector,
}

impl<A: Adders> pulp::NullaryFnOnce for Dot<'_, A> {
    type Output = A::Vector;

    #[inline(always)]
    fn call(self) -> A::Vector {
        dot(self.order, self.k, self.adders, self.c)
    }
}

/// The order of [`Summer::dot`].
#[inline(always)]
fn dot<A: Adders>(order: &Summation, k: usize, adders: &mut A, c: A::Vector) -> A::Vector {
    let mut scratch = Vec::with_capacity(order.lanes.max(order.tree));
    let Some(spill) = order.spill else {
        return partial(order, 0..k, adders, c, &mut scratch);
    };
    let mut sum = c;
    let mut start = 0;
    while start < k {
        let end = start.saturating_add(spill.every).min(k);
        let zero = adders.zero();
        let part = partial(order, start..end, adders, zero, &mut scratch);
        sum = adders.outer(sum, part);
        start = end;
    }
    sum
}

#[inline(always)]
fn partial<A: Adders>(
    order: &Summation,
    range: std::ops::Range<usize>,
    adders: &mut A,
    c: A::Vector,
    scratch: &mut Vec<A::Vector>,
) -> A::Vector {
    let (tree, lanes) = (order.tree, order.lanes);
    if tree == 1 && lanes == 1 {
        let mut sum = c;
        for l in range {
            let product = adders.product(l);
            sum = adders.accumulate(sum, product);
        }
        return sum;
    }
    let mut sums = vec![adders.zero(); lanes];
    sums[0] = c;
    for (g, start) in range.clone().step_by(tree).enumerate() {
        scratch.clear();
        for l in start..start.saturating_add(tree).min(range.end) {
            scratch.push(adders.product(l));
        }
        let group = pairwise(scratch, |x, y| adders.tree(x, y));
        let lane = g % lanes;
        sums[lane] = adders.accumulate(sums[lane], group);
    }
    match order.merge {
        Merge::Pairwise => pairwise(&mut sums, |x, y| adders.accumulate(x, y)),
        Merge::Sequential => {
            let (first, rest) = (sums[0], &sums[1..]);
            rest.iter().fold(first, |x, y| adders.accumulate(x, *y))
        }
    }
}

/// Neighbours added level by level, in place; there is at least one.
#[inline(always)]
fn pairwise<V: Copy>(values: &mut [V], mut add: impl FnMut(V, V) -> V) -> V {
    let mut length = values.len();
    while length > 1 {
        for i in 0..length / 2 {
            values[i] = add(values[2 * i], values[2 * i + 1]);
        }
        if length % 2 == 1 {
            values[length / 2] = values[length - 1];
        }
        length = length.div_ceil(2);
    }
    values[0]
}

/// Sixteen columns of `B` from `first` on, zeros beyond its last.
fn panel<T: Copy, U: Copy + Default>(
    b: &[T],
    size: Size,
    first: usize,
    of: impl Fn(T) -> U,
) -> Vec<[U; WIDTH]> {
    let width = WIDTH.min(size.n - first);
    let mut panel = vec![[U::default(); WIDTH]; size.k];
    for (l, lanes) in panel.iter_mut().enumerate() {
        let row = &b[l * size.n + first..][..width];
        for (lane, b) in lanes.iter_mut().zip(row) {
            *lane = of(*b);
        }
    }
    panel
}

impl Summer {
    fn registers(&self) -> impl Iterator<Item = Accumulator> {
        let s = self.summation;
        [s.product, s.tree_adder, s.spill.map(|s| s.accumulator)]
            .into_iter()
            .flatten()
            .chain([s.accumulator])
    }

    /// `c + a x b` of integers; gives how many additions left the range of their register. `c` holds numbers of the
    /// last register.
    pub fn matmul_int(
        &self,
        a: &[i32],
        b: &[i32],
        c: &mut [i64],
        size: Size,
    ) -> Result<u64, SummationError> {
        size.check(a.len(), b.len(), c.len())?;
        for register in self.registers() {
            if !register.format.is_int() {
                return Err(SummationError::Register(register.format, "integers"));
            }
        }
        if size.n == 0 {
            return Ok(0);
        }
        let largest = |x: &[i32]| {
            x.iter()
                .map(|x| i128::from(x.unsigned_abs()))
                .max()
                .unwrap_or(0)
        };
        let product = largest(a) * largest(b);
        let carry = c.iter().map(|x| i128::from(x.unsigned_abs())).max();
        let carry = carry.unwrap_or(0);
        if self.never_overflows(product, carry, size.k as i128) {
            product_of_ints(a, b, c, size);
            return Ok(0);
        }
        let tree = match self.summation.tree_adder {
            Some(_) => 1,
            None => self.summation.tree.min(size.k) as i128,
        };
        let fits = |register: u8, sums: i128| {
            let ranges = self.registers();
            let bits = ranges.map(|a| a.format.bits()).max().unwrap_or(64);
            bits <= u64::from(register) && product * tree.max(1) <= sums && carry <= sums
        };
        if fits(30, 1 << 30) && size.k < 1 << 30 {
            Ok(self.int_lanes::<i32>(a, b, c, size))
        } else if fits(62, 1 << 61) {
            Ok(self.int_lanes::<i64>(a, b, c, size))
        } else {
            let exact = |x: i32| Exact::from(i128::from(x));
            let sums = self.scalars(a, b, c, size, exact, |c| Exact::from(i128::from(c)));
            Ok(settle(sums, c, |value| integer(value) as i64))
        }
    }

    /// Whether every register holds every sum of k products of such magnitudes and a carry.
    fn never_overflows(&self, product: i128, carry: i128, k: i128) -> bool {
        let sum = product.saturating_mul(k).saturating_add(carry);
        self.registers().all(|a| {
            let range = a.format.int_range();
            range.is_some_and(|r| r.signed && sum <= r.largest())
        })
    }

    fn int_lanes<T: Lane>(&self, a: &[i32], b: &[i32], c: &mut [i64], size: Size) -> u64 {
        let Size { n, k, .. } = size;
        let limit = |a: Accumulator| {
            let range = a.format.int_range();
            let (least, largest) = range.map_or((0, 0), |r| (r.least(), r.largest()));
            let signed = range.is_some_and(|r| r.signed);
            let wraps = (a.overflow == Overflow::Wrap && signed).then(|| a.format.bits() as u32);
            Limit {
                least: T::from_i64(least as i64),
                largest: T::from_i64(largest as i64),
                wraps,
            }
        };
        let s = &self.summation;
        let read = |x: i32| T::from_i64(i64::from(x));
        let panels: Vec<Vec<[T; WIDTH]>> = (0..n.div_ceil(WIDTH))
            .into_par_iter()
            .map(|p| panel(b, size, p * WIDTH, read))
            .collect();
        let run = |row: &[T], panel: &[[T; WIDTH]], c: &mut [i64]| {
            let mut sums = [T::default(); WIDTH];
            for (sum, c) in sums.iter_mut().zip(c.iter()) {
                *sum = T::from_i64(*c);
            }
            let mut adders = IntAdders {
                row,
                panel,
                product: s.product.map(limit),
                tree: s.tree_adder.map(limit),
                accumulator: limit(s.accumulator),
                outer: limit(s.spill.map_or(s.accumulator, |s| s.accumulator)),
                overflows: [T::default(); WIDTH],
            };
            let sums = pulp::Arch::new().dispatch(Dot {
                order: s,
                k,
                adders: &mut adders,
                c: sums,
            });
            for (sum, c) in sums.iter().zip(c.iter_mut()) {
                *c = sum.to_i64();
            }
            let lanes = adders.overflows.iter().take(c.len());
            lanes.map(|o| o.to_i64() as u64).sum::<u64>()
        };
        by_rows(a, c, size, &panels, read, run)
    }

    /// `c + a x b` of floats; gives how many additions left the range of their register. `c` holds numbers of the last
    /// register.
    pub fn matmul_float(
        &self,
        a: &[f32],
        b: &[f32],
        c: &mut [f32],
        size: Size,
    ) -> Result<u64, SummationError> {
        size.check(a.len(), b.len(), c.len())?;
        for register in self.registers() {
            let layout = register.format.float_layout();
            if !layout.is_some_and(|l| l.mantissa <= 23 && l.exponent <= 8 && l.bias.abs() <= 127) {
                return Err(SummationError::Register(register.format, "f32 numbers"));
            }
        }
        if size.n == 0 {
            return Ok(0);
        }
        let s = &self.summation;
        if *s == Summation::sequential(Accumulator::float(Format::FP32)) {
            let mut sums = c.to_vec();
            matmul_f32(a, b, &mut sums, size)?;
            if sums.iter().all(|sum| sum.is_finite()) {
                c.copy_from_slice(&sums);
                return Ok(0);
            }
        }
        let exact_tree = s.tree > 1 && s.tree_adder.is_none();
        let registers: Option<Vec<Register>> = self.registers().map(Register::new).collect();
        match registers {
            Some(_) if !exact_tree => Ok(self.float_lanes(a, b, c, size)),
            _ => {
                let sums = self.scalars(a, b, c, size, Exact::from, Exact::from);
                Ok(settle(sums, c, Exact::to_f32))
            }
        }
    }

    fn float_lanes(&self, a: &[f32], b: &[f32], c: &mut [f32], size: Size) -> u64 {
        let Size { n, k, .. } = size;
        let s = &self.summation;
        let Some(accumulator) = Register::new(s.accumulator) else {
            return 0;
        };
        let outer = s.spill.and_then(|s| Register::new(s.accumulator));
        let panels: Vec<Vec<[f64; WIDTH]>> = (0..n.div_ceil(WIDTH))
            .into_par_iter()
            .map(|p| panel(b, size, p * WIDTH, f64::from))
            .collect();
        let run = |row: &[f64], panel: &[[f64; WIDTH]], c: &mut [f32]| {
            let mut sums = [0.0; WIDTH];
            for (sum, c) in sums.iter_mut().zip(c.iter()) {
                *sum = f64::from(*c);
            }
            let mut adders = FloatAdders {
                row,
                panel,
                product: s.product.and_then(Register::new),
                tree: s.tree_adder.and_then(Register::new),
                accumulator,
                outer: outer.unwrap_or(accumulator),
                overflows: [0; WIDTH],
            };
            let sums = pulp::Arch::new().dispatch(Dot {
                order: s,
                k,
                adders: &mut adders,
                c: sums,
            });
            for (sum, c) in sums.iter().zip(c.iter_mut()) {
                *c = *sum as f32;
            }
            adders.overflows.iter().take(c.len()).sum()
        };
        by_rows(a, c, size, &panels, f64::from, run)
    }

    /// Every element by the scalar routine.
    fn scalars<T: Copy + Sync, C: Copy + Sync>(
        &self,
        a: &[T],
        b: &[T],
        c: &[C],
        size: Size,
        exact: impl Fn(T) -> Exact + Sync,
        carry: impl Fn(C) -> Exact + Sync,
    ) -> Vec<Sum> {
        let Size { n, k, .. } = size;
        c.par_iter()
            .enumerate()
            .map(|(index, c)| {
                let (i, j) = (index / n, index % n);
                let row: Vec<Exact> = a[i * k..(i + 1) * k].iter().map(|x| exact(*x)).collect();
                let column: Vec<Exact> = (0..k).map(|l| exact(b[l * n + j])).collect();
                self.dot(&row, &column, carry(*c))
            })
            .collect()
    }
}

/// Writes sums where they belong and adds up their overflows.
fn settle<C>(sums: Vec<Sum>, c: &mut [C], of: impl Fn(Exact) -> C) -> u64 {
    let mut overflows = 0;
    for (sum, c) in sums.into_iter().zip(c) {
        *c = of(sum.value);
        overflows += sum.overflows;
    }
    overflows
}

/// An integer that is one.
fn integer(value: Exact) -> i128 {
    let magnitude = match value.magnitude {
        Magnitude::Finite {
            significand,
            exponent,
        } => significand.checked_shl(exponent.max(0) as u32).unwrap_or(0) as i128,
        Magnitude::Infinite | Magnitude::Nan => 0,
    };
    if value.negative {
        -magnitude
    } else {
        magnitude
    }
}

/// Runs a row of `A` with a panel of `B` for every part of `C`, pieces of rows side by side; adds up what `run` gives.
fn by_rows<T: Copy + Sync, U: Copy + Sync, C: Send>(
    a: &[T],
    c: &mut [C],
    size: Size,
    panels: &[Vec<[U; WIDTH]>],
    of: impl Fn(T) -> U + Sync,
    run: impl Fn(&[U], &[[U; WIDTH]], &mut [C]) -> u64 + Sync,
) -> u64 {
    let Size { n, k, .. } = size;
    c.par_chunks_mut(PIECE * n)
        .enumerate()
        .map(|(piece, c)| {
            let rows: Vec<Vec<U>> = (0..c.len() / n)
                .map(|i| {
                    a[(piece * PIECE + i) * k..][..k]
                        .iter()
                        .map(|x| of(*x))
                        .collect()
                })
                .collect();
            let mut overflows = 0;
            for (p, panel) in panels.iter().enumerate() {
                for (i, row) in rows.iter().enumerate() {
                    let at = i * n + p * WIDTH;
                    let width = WIDTH.min(n - p * WIDTH);
                    overflows += run(row, panel, &mut c[at..at + width]);
                }
            }
            overflows
        })
        .sum()
}
