//! The matrix products of a contraction, batch by batch.
//!
//! Of operands under scales, elements are multiplied and added; the sums times the product of the two scales are the
//! result. The narrowest register that is safe for the data in any order of its products follows from their exact sum
//! `S` and the sum of their magnitudes `T`: partial sums lie within `c + (S - T)/2 .. c + (S + T)/2`.

use presil_numerics::Overflow;
use presil_numerics::arithmetic::matmul::Size;
use presil_numerics::arithmetic::summation::{Accumulator, Summation, SummationError, Summer};
use presil_numerics::arithmetic::width::Reach;

use crate::arithmetic::Adder;
use crate::contract::Bias;
use crate::contraction::Plan;
use crate::executor::Events;
use crate::storage::Elements;

/// The sums of float products.
pub fn floats(
    plan: &Plan,
    adder: &Adder,
    (a, b): (&[f32], &[f32]),
    out: &mut [f32],
    events: &mut Events,
) -> Result<(), SummationError> {
    let size = Size {
        m: plan.m,
        n: plan.n,
        k: plan.places_of_sum(),
    };
    let (mut rows, mut columns) = (Vec::new(), Vec::new());
    let mut c = vec![0f32; plan.m * plan.n];
    for batch in 0..plan.batches {
        plan.a(a, batch, &mut rows);
        plan.b(b, batch, &mut columns);
        c.fill(0.0);
        events.overflows += adder.add(&rows, &columns, &mut c, size)?;
        plan.mask(batch, &mut c);
        for (place, c) in plan.places(batch).zip(&c) {
            out[place] = *c;
        }
    }
    Ok(())
}

/// The scale of each output column of a batch: that of its column of `B`.
fn scales(plan: &Plan, b: &Elements, batch: usize, matrix: &mut Vec<f32>) {
    if b.scales.len() == 1 {
        matrix.clear();
        matrix.resize(plan.n, b.scales[0]);
        return;
    }
    plan.b(&b.scale_of_each(), batch, matrix);
    matrix.truncate(plan.n);
}

/// Multiplies sums of elements by the scales of their row and column.
pub fn scale(plan: &Plan, a: &Elements, b: &Elements, out: &mut [f32]) {
    let (mut of_rows, mut of_columns) = (Vec::new(), Vec::new());
    let of_each = a.scale_of_each();
    for batch in 0..plan.batches {
        plan.a_scales(&of_each, batch, &mut of_rows);
        scales(plan, b, batch, &mut of_columns);
        for (i, place) in plan.places(batch).enumerate() {
            let scale = f64::from(of_rows[i / plan.n]) * f64::from(of_columns[i % plan.n]);
            out[place] = (f64::from(out[place]) * scale) as f32;
        }
    }
}

/// Sums of integer products.
pub struct Integers<'a> {
    /// The matrices.
    pub plan: &'a Plan,
    /// The adders.
    pub summer: &'a Summer,
    /// Whether the safe width is measured.
    pub measure: bool,
}

impl Integers<'_> {
    /// The sums, from the bias in units of the product of the scales, as numbers.
    pub fn add(
        &self,
        a: &Elements,
        b: &Elements,
        bias: Option<&Bias>,
        out: &mut [f32],
        events: &mut Events,
    ) -> Result<(), SummationError> {
        let plan = self.plan;
        let size = Size {
            m: plan.m,
            n: plan.n,
            k: plan.places_of_sum(),
        };
        let s = &self.summer.summation;
        let last = s.spill.map_or(s.accumulator, |s| s.accumulator);
        let range = last.format.int_range();
        let (least, largest) = range.map_or((i64::MIN, i64::MAX), |r| {
            (r.least() as i64, r.largest() as i64)
        });
        let (mut matrix, mut of_columns) = (Vec::new(), Vec::new());
        let mut c = vec![0i64; plan.m * plan.n];
        for batch in 0..plan.batches {
            let ints = |matrix: &[f32]| matrix.iter().map(|x| *x as i32).collect::<Vec<i32>>();
            plan.a(&a.values, batch, &mut matrix);
            let rows = ints(&matrix);
            plan.b(&b.values, batch, &mut matrix);
            let columns = ints(&matrix);
            scales(plan, b, batch, &mut of_columns);
            let places: Vec<usize> = plan.places(batch).collect();
            let scale = |i: usize| f64::from(a.scales[0]) * f64::from(of_columns[i % plan.n]);
            for (i, c) in c.iter_mut().enumerate() {
                let start = bias.map_or(0.0, |b| f64::from(b.at(places[i])) / scale(i));
                *c = (start.round_ties_even() as i64).clamp(least, largest);
            }
            if self.measure {
                events.width = events.width.max(width(&rows, &columns, &c, size)?);
            }
            events.overflows += self.summer.matmul_int(&rows, &columns, &mut c, size)?;
            for (i, place) in places.iter().enumerate() {
                out[*place] = (c[i] as f64 * scale(i)) as f32;
            }
        }
        Ok(())
    }
}

/// Bits of the narrowest signed register that holds every partial sum of any order.
fn width(a: &[i32], b: &[i32], c: &[i64], size: Size) -> Result<u32, SummationError> {
    let wide = Summation::sequential(Accumulator::int(62, Overflow::Saturate)).summer()?;
    let magnitudes = |x: &[i32]| x.iter().map(|x| x.abs()).collect::<Vec<i32>>();
    let (mut sums, mut sizes) = (vec![0; c.len()], vec![0; c.len()]);
    wide.matmul_int(a, b, &mut sums, size)?;
    wide.matmul_int(&magnitudes(a), &magnitudes(b), &mut sizes, size)?;
    let mut reach = Reach::default();
    for ((s, t), c) in sums.iter().zip(&sizes).zip(c) {
        reach.meet(i128::from(*c + (s - t) / 2));
        reach.meet(i128::from(*c + (s + t) / 2));
    }
    Ok(reach.bits())
}
