//! Matrix products of fused dot units, sixteen columns at once.
//!
//! The arithmetic is that of [`fused`](super::fused) in 32-bit lanes. Operands are read once, as a signed significand
//! with the format's fraction bits and an exponent. A block takes two passes over its products: the largest exponent,
//! then
//!
//! ```text
//! t = trunc(a_sig b_sig 2^(F - fa - fb) / 2^(E - e))      a product, a shift, and the sign put back
//! ```
//!
//! `|t| < 2^(F+2)`, so that `2^(29-F) - 1` addends fit 32 bits; their sums go on in f64, which is exact below 2^53, as
//! is the carry of units that add `C` afterwards. The sum is rounded by adding and subtracting `1.5 x 2^(q+52)`, `q`
//! the exponent of the output's last bit: nearest even, and from it toward zero.
//!
//! What the lanes can't tell (operands that are infinite or NaN, overflow, products at the limit) is marked, and those
//! outputs are computed again by the scalar routine. Units that don't fit take it throughout.

use rayon::prelude::*;

use super::fused::{Carry, FusedUnit, Order, Wires};
use super::matmul::{Size, SizeError};
use crate::rounding::Rounding;

/// Columns at once.
const WIDTH: usize = 16;
/// Rows that a thread takes at once.
const PIECE: usize = 8;
/// Exponent of a zero operand: products with it never lead.
const NOTHING: i32 = -10_000;
/// Exponent of a zero accumulator.
const NO_CARRY: i32 = -30_000;

type Ints = [i32; WIDTH];
type Doubles = [f64; WIDTH];

/// What the lanes need to know of a unit.
#[derive(Debug, Clone, Copy)]
struct Plan {
    promotes: bool,
    interleave: usize,
    fraction_bits: i32,
    /// Left shift of `a`'s significands, so that products have at least F fraction bits.
    before: u32,
    /// Right shift of products that have more.
    beyond: i32,
    /// Addends whose sum fits 32 bits.
    chunk: usize,
    carry: Carry,
    accumulate: Wires,
    /// Largest number of the accumulator's format.
    accumulates: f64,
    /// Exponents from which a product may be infinite.
    limit: i32,
    toward_zero: bool,
    signed_underflow: bool,
    mantissa: i32,
    least_exponent: i32,
    largest: f64,
}

/// Significands and exponents of one operand, and whether a line of it holds a special value.
struct Lines {
    significands: Vec<i32>,
    exponents: Vec<i32>,
    special: bool,
}

/// One accumulator a lane, and lanes that the scalar routine must do again.
struct State {
    value: [f32; WIDTH],
    again: [bool; WIDTH],
}

impl FusedUnit {
    /// `c + a x b` in the unit's arithmetic, every sum in the order of k.
    pub fn matmul(&self, a: &[f32], b: &[f32], c: &mut [f32], size: Size) -> Result<(), SizeError> {
        size.check(a.len(), b.len(), c.len())?;
        let Size { n, k, .. } = size;
        if n == 0 {
            return Ok(());
        }
        let column = |j: usize| -> Vec<f32> { (0..k).map(|l| b[l * n + j]).collect() };
        let Some(plan) = self.plan() else {
            let columns: Vec<Vec<f32>> = (0..n).map(column).collect();
            c.par_chunks_mut(n).enumerate().for_each(|(i, c)| {
                for (column, c) in columns.iter().zip(c) {
                    *c = self.dot(&a[i * k..(i + 1) * k], column, *c);
                }
            });
            return Ok(());
        };
        let order = self.order(k);
        let panels: Vec<Panel> = (0..n.div_ceil(WIDTH))
            .into_par_iter()
            .map(|p| Panel::new(self.b, b, size, &order, p * WIDTH))
            .collect();
        c.par_chunks_mut(PIECE * n)
            .enumerate()
            .for_each(|(piece, c)| {
                let rows: Vec<Lines> = (0..c.len() / n)
                    .map(|i| {
                        let row = (piece * PIECE + i) * k;
                        lines(self.a, &a[row..row + k], &order, plan.before)
                    })
                    .collect();
                for (p, panel) in panels.iter().enumerate() {
                    for (i, row) in rows.iter().enumerate() {
                        let at = i * n + p * WIDTH;
                        let c = &mut c[at..at + WIDTH.min(n - p * WIDTH)];
                        let mut state = State {
                            value: [0.0; WIDTH],
                            again: panel.special.map(|s| s || row.special),
                        };
                        for (j, c) in c.iter().enumerate() {
                            state.value[j] = *c;
                            state.again[j] |= !c.is_finite();
                        }
                        pulp::Arch::new().dispatch(Chain {
                            plan: &plan,
                            order: &order,
                            row,
                            panel,
                            state: &mut state,
                        });
                        for (j, c) in c.iter_mut().enumerate() {
                            *c = if state.again[j] {
                                let row = (piece * PIECE + i) * k;
                                self.dot(&a[row..row + k], &column(p * WIDTH + j), *c)
                            } else {
                                state.value[j]
                            };
                        }
                    }
                }
            });
        Ok(())
    }

    /// Whether and how the lanes can do it.
    fn plan(&self) -> Option<Plan> {
        let unit = &self.unit;
        let bits = unit.fraction_bits as i32;
        let both = self.a.mantissa + self.b.mantissa;
        let toward_zero = match unit.rounding {
            Rounding::TowardZero => true,
            Rounding::NearestEven => false,
            _ => return None,
        };
        let carry_fits = match unit.carry {
            Carry::Aligned => unit.interleave == 1,
            Carry::After {
                carry_bits,
                sum_bits,
                ..
            } => unit.interleave <= 2 && carry_bits <= 40 && sum_bits <= 40,
        };
        let fits = unit.exact_group == 1
            && carry_fits
            && (1..=26).contains(&bits)
            && both <= 28
            && self.a.least_exponent >= -150
            && self.b.least_exponent >= -150
            && unit.block <= 1 << 12;
        fits.then(|| Plan {
            promotes: unit.promote.is_some(),
            interleave: unit.interleave,
            fraction_bits: bits,
            before: (bits - both).max(0) as u32,
            beyond: (both - bits).max(0),
            chunk: (1 << (29 - bits)) - 1,
            carry: unit.carry,
            accumulate: self.c,
            accumulates: self.accumulator.decode(self.accumulator.largest()).to_f64(),
            limit: unit.product_limit.map_or(i32::MAX, |limit| limit - 1),
            toward_zero,
            signed_underflow: unit.signed_underflow,
            mantissa: self.output.mantissa as i32,
            least_exponent: self.output.quantum() + self.output.mantissa as i32,
            largest: self.output.decode(self.output.largest()).to_f64(),
        })
    }
}

/// Reads a line of an operand, in the order of the chain.
fn lines(wires: Wires, values: &[f32], order: &Order, before: u32) -> Lines {
    let mut lines = Lines {
        significands: Vec::with_capacity(values.len()),
        exponents: Vec::with_capacity(values.len()),
        special: false,
    };
    for place in &order.places {
        let (significand, exponent, special) = split(wires, values[*place]);
        lines.significands.push(significand << before);
        lines.exponents.push(exponent);
        lines.special |= special;
    }
    lines
}

/// A number as a signed significand with the wires' fraction bits, and its exponent; specials as zero.
fn split(wires: Wires, x: f32) -> (i32, i32, bool) {
    let field = (x.to_bits() >> 23 & 0xff) as i32;
    let fraction = (x.to_bits() & 0x7f_ffff) as i32;
    if field == 0xff {
        return (0, NOTHING, true);
    }
    let (mut significand, mut exponent) =
        (fraction | i32::from(field > 0) << 23, field.max(1) - 127);
    if significand != 0 && field == 0 {
        let up = significand.leading_zeros() as i32 - 8;
        significand <<= up;
        exponent -= up;
    }
    let below = (wires.least_exponent - exponent).max(0);
    exponent += below;
    significand >>= (below + 23 - wires.mantissa).min(31);
    if significand == 0 {
        return (0, NOTHING, false);
    }
    let signed = if x < 0.0 { -significand } else { significand };
    (signed, exponent, false)
}

/// Sixteen columns of `B`, line by line of k in the order of the chain.
struct Panel {
    significands: Vec<Ints>,
    exponents: Vec<Ints>,
    special: [bool; WIDTH],
}

impl Panel {
    fn new(wires: Wires, b: &[f32], size: Size, order: &Order, first: usize) -> Self {
        let width = WIDTH.min(size.n - first);
        let mut panel = Self {
            significands: vec![[0; WIDTH]; size.k],
            exponents: vec![[NOTHING; WIDTH]; size.k],
            special: [false; WIDTH],
        };
        for (l, place) in order.places.iter().enumerate() {
            for j in 0..width {
                let (significand, exponent, special) = split(wires, b[place * size.n + first + j]);
                panel.significands[l][j] = significand;
                panel.exponents[l][j] = exponent;
                panel.special[j] |= special;
            }
        }
        panel
    }
}

/// The call of [`chain`], compiled for the machine's vectors.
struct Chain<'a> {
    plan: &'a Plan,
    order: &'a Order,
    row: &'a Lines,
    panel: &'a Panel,
    state: &'a mut State,
}

impl pulp::NullaryFnOnce for Chain<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        chain(self.plan, self.order, self.row, self.panel, self.state);
    }
}

/// All blocks of a row and a panel.
#[inline(always)]
fn chain(plan: &Plan, order: &Order, row: &Lines, panel: &Panel, state: &mut State) {
    if !plan.promotes {
        for step in &order.steps {
            block(plan, row, panel, step.range.clone(), state);
        }
        return;
    }
    let mut total = state.value;
    state.value = [0.0; WIDTH];
    for step in &order.steps {
        block(plan, row, panel, step.range.clone(), state);
        if step.ends {
            promote(plan, &mut total, state);
            state.value = [0.0; WIDTH];
        }
    }
    state.value = total;
}

/// Partial sums added to the accumulators, to nearest even.
#[inline(always)]
fn promote(plan: &Plan, total: &mut [f32; WIDTH], state: &mut State) {
    let mantissa = plan.accumulate.mantissa;
    for ((total, partial), again) in total.iter_mut().zip(state.value).zip(&mut state.again) {
        *total += partial;
        if mantissa < 23 {
            // f32 holds more than twice the narrower format's bits and two more: rounding twice is rounding once.
            let x = f64::from(*total);
            let y = nearest(x, last_bit(x, plan.accumulate.least_exponent, mantissa)) + 0.0;
            *again |= y.is_nan() || y.abs() > plan.accumulates;
            *total = y as f32;
        }
    }
}

/// Products of one block, summed and rounded into the accumulators.
#[inline(always)]
fn block(
    plan: &Plan,
    row: &Lines,
    panel: &Panel,
    range: std::ops::Range<usize>,
    state: &mut State,
) {
    let (carry, carry_exponents) = carries(plan, &state.value);
    let mut total = [0f64; WIDTH];
    let mut largest = [2 * NOTHING; WIDTH];
    for set in 0..plan.interleave {
        let mut exponents = [2 * NOTHING; WIDTH];
        if plan.carry == Carry::Aligned {
            exponents = carry_exponents;
        }
        for l in (range.start + set..range.end).step_by(plan.interleave) {
            let (e, b) = (row.exponents[l], &panel.exponents[l]);
            for j in 0..WIDTH {
                exponents[j] = exponents[j].max(e + b[j]);
            }
        }
        let mut sum = sums(plan, row, panel, range.start + set..range.end, &exponents);
        if plan.carry == Carry::Aligned {
            for j in 0..WIDTH {
                let shift = exponents[j] - carry_exponents[j] + 23 - plan.fraction_bits;
                sum[j] += f64::from(aligned(carry[j], shift));
            }
        }
        for (again, exponent) in state.again.iter_mut().zip(&exponents) {
            *again |= *exponent >= plan.limit;
        }
        if set == 0 {
            (total, largest) = (sum, exponents);
        } else {
            for j in 0..WIDTH {
                let to = largest[j].max(exponents[j]);
                total[j] = (total[j] * power(largest[j] - to)).floor()
                    + (sum[j] * power(exponents[j] - to)).floor();
                largest[j] = to;
            }
        }
    }
    let mut x = [0f64; WIDTH];
    match plan.carry {
        Carry::Aligned => {
            for j in 0..WIDTH {
                x[j] = total[j] * power(largest[j] - plan.fraction_bits);
            }
        }
        Carry::After {
            carry_bits,
            sum_bits,
            vanishes_below,
        } => {
            let (carry_bits, sum_bits) = (carry_bits as i32, sum_bits as i32);
            let least = vanishes_below.map_or(i32::MIN, |n| -(n as i32));
            for j in 0..WIDTH {
                let to = largest[j].max(carry_exponents[j]);
                let up = power(largest[j] - plan.fraction_bits - to + sum_bits);
                let sum = (total[j] * up).floor();
                let below = carry_exponents[j] - to;
                let c = (f64::from(carry[j]) * power(below - 23 + carry_bits)).floor();
                let c = if below < least { 0.0 } else { c };
                x[j] = sum * power(to - sum_bits) + c * power(to - carry_bits);
            }
        }
    }
    round(plan, &x, state);
}

/// The accumulators as signed significands with 23 fraction bits, and their exponents.
#[inline(always)]
fn carries(plan: &Plan, value: &[f32; WIDTH]) -> (Ints, Ints) {
    let mut significands = [0; WIDTH];
    let mut exponents = [0; WIDTH];
    let dropped = !((1i32 << (23 - plan.accumulate.mantissa)) - 1);
    for j in 0..WIDTH {
        let bits = value[j].to_bits();
        let field = (bits >> 23 & 0xff) as i32;
        let significand = (bits & 0x7f_ffff) as i32 | i32::from(field > 0) << 23;
        let own = field.max(1) - 127;
        let exponent = own.max(plan.accumulate.least_exponent);
        let significand = (significand >> (exponent - own).min(31)) & dropped;
        exponents[j] = if significand == 0 { NO_CARRY } else { exponent };
        let sign = bits as i32 >> 31;
        significands[j] = (significand ^ sign) - sign;
    }
    (significands, exponents)
}

/// A signed integer shifted right, or left where negative, its magnitude truncated.
#[inline(always)]
fn aligned(value: i32, right: i32) -> i32 {
    let sign = value >> 31;
    let magnitude = ((value ^ sign) - sign) as u32;
    let magnitude = (magnitude << (-right).clamp(0, 7)) >> right.clamp(0, 31);
    (magnitude as i32 ^ sign) - sign
}

/// Sums of a set's products, truncated to F bits below the exponents given, in units of the last of these bits.
#[inline(always)]
fn sums(
    plan: &Plan,
    row: &Lines,
    panel: &Panel,
    range: std::ops::Range<usize>,
    exponents: &Ints,
) -> Doubles {
    let mut total = [0f64; WIDTH];
    let mut base = *exponents;
    for base in &mut base {
        *base += plan.beyond;
    }
    let mut start = range.start;
    while start < range.end {
        let end = (start + plan.chunk * plan.interleave).min(range.end);
        let mut sum = [0i32; WIDTH];
        for l in (start..end).step_by(plan.interleave) {
            let (s, e) = (row.significands[l], row.exponents[l]);
            let (bs, be) = (&panel.significands[l], &panel.exponents[l]);
            for j in 0..WIDTH {
                let product = s * bs[j];
                let sign = product >> 31;
                let magnitude = ((product ^ sign) - sign) as u32;
                let shift = (base[j] - e - be[j]).min(31) as u32;
                sum[j] += ((magnitude >> (shift & 31)) as i32 ^ sign) - sign;
            }
        }
        for j in 0..WIDTH {
            total[j] += f64::from(sum[j]);
        }
        start = end;
    }
    total
}

/// `2^exponent`, clamped to f64's normal range.
#[inline(always)]
fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent.clamp(-1022, 1023) + 1023) as u64) << 52)
}

/// Exponent of the last bit that a float of so many bits keeps of a number.
#[inline(always)]
fn last_bit(x: f64, least_exponent: i32, mantissa: i32) -> i32 {
    let exponent = (x.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    exponent.max(least_exponent) - mantissa
}

/// The nearest multiple of `2^last`, even of two.
#[inline(always)]
fn nearest(x: f64, last: i32) -> f64 {
    let integers = power(last + 52) * 1.5;
    (x + integers) - integers
}

/// Rounds exact sums to the output's format.
#[inline(always)]
fn round(plan: &Plan, x: &Doubles, state: &mut State) {
    for j in 0..WIDTH {
        let x = x[j];
        let last = last_bit(x, plan.least_exponent, plan.mantissa);
        let nearest = nearest(x, last);
        let beyond = plan.toward_zero && nearest.abs() > x.abs();
        let back = if beyond { power(last) } else { 0.0 };
        let y = nearest - back.copysign(x);
        // Adding zero makes -0 positive.
        let y = if plan.signed_underflow {
            y.copysign(x)
        } else {
            y + 0.0
        };
        state.again[j] |= y.is_nan() || y.abs() > plan.largest;
        state.value[j] = y as f32;
    }
}
