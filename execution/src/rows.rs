//! Softmax, norms, reductions and poolings: what vector units do row by row.
//!
//! The steps are those of the ops' cost programs, each rounded as the unit rounds; sums run in the order of the row:
//!
//! ```text
//! softmax   c = scale log2 e;  m = max x;  e_i = exp2(fma(x_i, c, -(m c)));  z = sum e_i;  y_i = e_i (1/z)
//! RMS       s = sum fma(x_i, x_i, s);  r = rsqrt(fma(s, 1/k, eps));  y_i = (x_i r) w_i
//! layer     u = (sum x_i) (1/k);  d_i = x_i - u;  s = sum fma(d_i, d_i, s);  r as above;  y_i = fma(d_i r, w_i, b_i)
//! average   (sum x_i) (1/count)
//! ```

use presil_numerics::function::Function;
use presil_workloads::build::{NormKind, PoolKind};
use presil_workloads::formula::Unary;
use presil_workloads::meaning::Parameters;
use presil_workloads::{Domain, Einsum, ReduceOperator};
use rayon::prelude::*;

use crate::array::{Array, strides};
use crate::vector::VectorUnit;

/// A row of a tensor that is seen as [outer, k, inner]: where its elements are.
#[derive(Debug, Clone, Copy)]
struct Row {
    first: usize,
    step: usize,
    length: usize,
}

impl Row {
    fn all(shape: &[usize], axis: usize) -> Option<Vec<Self>> {
        let outer: usize = shape.get(..axis)?.iter().product();
        let length = *shape.get(axis)?;
        let inner: usize = shape.get(axis + 1..)?.iter().product();
        Some(Self::split(outer, length, inner))
    }

    fn split(outer: usize, length: usize, inner: usize) -> Vec<Self> {
        let rows = (0..outer).flat_map(|o| {
            (0..inner).map(move |i| Self {
                first: o * length * inner + i,
                step: inner,
                length,
            })
        });
        rows.collect()
    }

    fn read(self, x: &[f32]) -> impl Iterator<Item = f64> + '_ {
        (0..self.length).map(move |i| f64::from(x[self.first + i * self.step]))
    }
}

/// Writes what `of` makes of each row into a tensor of the input's shape.
fn by_rows(x: &Array, rows: &[Row], of: impl Fn(usize, Row) -> Vec<f64> + Sync) -> Array {
    let made: Vec<Vec<f64>> = rows
        .par_iter()
        .enumerate()
        .map(|(i, row)| of(i, *row))
        .collect();
    let mut out = Array::zeros(x.shape());
    let values = out.values_mut();
    for (row, made) in rows.iter().zip(&made) {
        for (i, y) in made.iter().enumerate() {
            values[row.first + i * row.step] = *y as f32;
        }
    }
    out
}

/// Softmax along an axis, over the keys that each query sees, `sinks` by head.
pub fn softmax(
    unit: &VectorUnit,
    x: &Array,
    einsum: &Einsum,
    (axis, scale, log): (usize, f64, bool),
    sinks: Option<&Array>,
) -> Option<Array> {
    let rows = Row::all(x.shape(), axis)?;
    let queries = match einsum.domain {
        Domain::Causal { query, .. } | Domain::Banded { query, .. } => {
            usize::try_from(einsum.dim(query).size).ok()?
        }
        _ => 1,
    };
    let sees = |query: usize, key: usize| {
        let (query, key) = (query as i64, key as i64);
        match einsum.domain {
            Domain::Causal { offset, .. } => key <= query + offset,
            Domain::Banded { offset, window, .. } => {
                let ago = query + offset - key;
                ago >= 0 && (ago as u64) < window
            }
            _ => true,
        }
    };
    let heads = sinks.map_or(1, |s| s.values().len().max(1));
    let factor = unit.step(scale * std::f64::consts::LOG2_E);
    let of = |i: usize, row: Row| -> Vec<f64> {
        let query = i % queries;
        let seen: Vec<Option<f64>> = row
            .read(x.values())
            .enumerate()
            .map(|(k, x)| sees(query, k).then_some(x))
            .collect();
        let sink = sinks.map(|s| f64::from(s.values()[i / queries % heads]));
        let most =
            seen.iter().flatten().fold(
                f64::NEG_INFINITY,
                |m, x| if x.is_nan() { *x } else { m.max(*x) },
            );
        // A sink is a logit of its own, which the scale does not touch.
        let most = sink.map_or(most, |s| most.max(s / scale));
        if unit.register.is_none() {
            let sum: f64 = seen
                .iter()
                .flatten()
                .map(|x| (scale * (x - most)).exp())
                .sum();
            let sum = sum + sink.map_or(0.0, |s| (s - scale * most).exp());
            let y = |x: f64| {
                let d = scale * (x - most);
                if log { d - sum.ln() } else { d.exp() / sum }
            };
            return seen.iter().map(|x| x.map_or(0.0, y)).collect();
        }
        let shift = unit.step(most * factor);
        let power = |x: f64| {
            unit.function(
                Unary::Of(Function::Exp2),
                unit.step(x.mul_add(factor, -shift)),
            )
        };
        let arguments = seen
            .iter()
            .map(|x| x.map_or(0.0, |x| unit.step(x.mul_add(factor, -shift))));
        let arguments: Vec<f64> = arguments.collect();
        let mut powers = vec![0.0; arguments.len()];
        unit.function_of_all(Unary::Of(Function::Exp2), &arguments, &mut powers);
        for (power, _) in powers.iter_mut().zip(&seen).filter(|(_, x)| x.is_none()) {
            *power = 0.0;
        }
        let sum = powers.iter().fold(0.0, |sum, e| unit.step(sum + e));
        let sum = sink.map_or(sum, |s| unit.step(sum + power(s / scale)));
        if log {
            let of_sum = unit.function(Unary::Of(Function::Log), sum);
            let y = |x: f64| unit.step(unit.step(unit.step(x - most) * unit.step(scale)) - of_sum);
            return seen.iter().map(|x| x.map_or(0.0, y)).collect();
        }
        let share = unit.function(Unary::Of(Function::Reciprocal), sum);
        powers.iter().map(|e| unit.step(e * share)).collect()
    };
    Some(by_rows(x, &rows, of))
}

/// A norm over the rows of an einsum of dimensions x, k, y; scale and shift are the further inputs.
pub fn norm(
    unit: &VectorUnit,
    inputs: &[&Array],
    einsum: &Einsum,
    (kind, epsilon, parameters): (NormKind, f64, Parameters),
) -> Option<Array> {
    let x = *inputs.first()?;
    let size = |i: usize| usize::try_from(einsum.dims.get(i)?.size).ok();
    let (outer, k, inner) = (size(0)?, size(1)?, size(2)?);
    if outer * k * inner != x.values().len() {
        return None;
    }
    let rows = Row::split(outer, k, inner);
    let channels = inputs
        .get(1)
        .or(inputs.get(2))
        .map_or(1, |p| p.values().len())
        .max(1);
    let place = match parameters {
        Parameters::Row => 1,
        Parameters::Channels => x
            .shape()
            .get(2..)
            .map_or(1, |rest| rest.iter().product::<usize>())
            .max(1),
    };
    let of = |_: usize, row: Row| -> Vec<f64> {
        let share = unit.step(1.0 / k as f64);
        let mean = match kind {
            NormKind::Rms => 0.0,
            NormKind::Layer => {
                unit.step(row.read(x.values()).fold(0.0, |s, x| unit.step(s + x)) * share)
            }
        };
        let centred = |x: f64| {
            if kind == NormKind::Layer {
                unit.step(x - mean)
            } else {
                x
            }
        };
        let squares = row.read(x.values()).fold(0.0, |s, x| {
            let d = centred(x);
            unit.step(d.mul_add(d, s))
        });
        let variance = unit.step(squares.mul_add(share, unit.step(epsilon)));
        let r = unit.function(Unary::Of(Function::Rsqrt), variance);
        let parameter = |n: usize, i: usize| -> Option<f64> {
            let at = match parameters {
                Parameters::Row => i,
                Parameters::Channels => (row.first + i * row.step) / place % channels,
            };
            let values = inputs.get(n)?.values();
            values.get(at % values.len().max(1)).map(|p| f64::from(*p))
        };
        let y = |(i, x): (usize, f64)| {
            let y = unit.step(centred(x) * r);
            match (parameter(1, i), parameter(2, i)) {
                (Some(w), Some(b)) => unit.step(y.mul_add(w, b)),
                (Some(w), None) => unit.step(y * w),
                _ => y,
            }
        };
        row.read(x.values()).enumerate().map(y).collect()
    };
    Some(by_rows(x, &rows, of))
}

/// A reduction over ranks into a shape.
pub fn reduce(
    unit: &VectorUnit,
    x: &Array,
    operator: ReduceOperator,
    mean: bool,
    axes: &[usize],
    shape: &[usize],
) -> Option<Array> {
    let steps = strides(x.shape());
    let places = |kept: bool| -> Vec<usize> {
        let ranks = (0..steps.len()).filter(|r| axes.contains(r) != kept);
        ranks.fold(vec![0], |places: Vec<usize>, r| {
            let (extent, step) = (x.shape()[r], steps[r]);
            let along = |p: &usize| (*p..).step_by(step).take(extent);
            places.iter().flat_map(along).collect()
        })
    };
    let (outputs, within) = (places(true), places(false));
    let values = outputs.par_iter().map(|first| {
        let elements = within.iter().map(|p| f64::from(x.values()[first + p]));
        reduced(unit, operator, elements, mean.then_some(within.len())) as f32
    });
    Array::new(shape.to_vec(), values.collect()).ok()
}

fn reduced(
    unit: &VectorUnit,
    operator: ReduceOperator,
    elements: impl Iterator<Item = f64>,
    mean_of: Option<usize>,
) -> f64 {
    let step = |a: f64, b: f64| match operator {
        ReduceOperator::Sum => unit.step(a + b),
        ReduceOperator::Product => unit.step(a * b),
        ReduceOperator::Max if b.is_nan() => b,
        ReduceOperator::Min if b.is_nan() => b,
        ReduceOperator::Max => a.max(b),
        ReduceOperator::Min => a.min(b),
    };
    let start = match operator {
        ReduceOperator::Sum => 0.0,
        ReduceOperator::Product => 1.0,
        ReduceOperator::Max => f64::NEG_INFINITY,
        ReduceOperator::Min => f64::INFINITY,
    };
    let result = elements.fold(start, step);
    match mean_of {
        Some(count) if unit.register.is_none() => result / count as f64,
        Some(count) => unit.step(result * unit.step(1.0 / count as f64)),
        None => result,
    }
}

/// A pooling over the windows of an einsum: its input's ranks are affine in the output's and the window's dimensions.
pub fn pool(
    unit: &VectorUnit,
    x: &Array,
    einsum: &Einsum,
    (kind, counts_padding): (PoolKind, bool),
    shape: &[usize],
) -> Option<Array> {
    let input = einsum.inputs.first()?;
    let reduced_dims: Vec<_> = einsum.dim_ids().filter(|d| einsum.is_reduced(*d)).collect();
    let sizes = |dims: &[presil_workloads::DimId]| -> Vec<usize> {
        dims.iter().map(|d| einsum.dim(*d).size as usize).collect()
    };
    let kept: Vec<_> = einsum
        .output
        .ranks
        .iter()
        .filter_map(|r| r.terms.first().map(|t| t.0))
        .collect();
    let (outer, window) = (sizes(&kept), sizes(&reduced_dims));
    if outer.iter().product::<usize>() != shape.iter().product::<usize>() {
        return None;
    }
    let steps = strides(x.shape());
    let index = |mut at: usize, sizes: &[usize]| -> Vec<i64> {
        let mut index = vec![0; sizes.len()];
        for (i, s) in index.iter_mut().zip(sizes).rev() {
            *i = (at % s) as i64;
            at /= s;
        }
        index
    };
    let windows: Vec<Vec<i64>> = (0..window.iter().product())
        .map(|w| index(w, &window))
        .collect();
    let of = |o: usize| -> f32 {
        let at = index(o, &outer);
        let element = |w: &Vec<i64>| -> Option<f64> {
            let mut place = 0usize;
            for (rank, affine) in input.ranks.iter().enumerate() {
                let value = |d: presil_workloads::DimId| {
                    let kept = kept.iter().position(|k| *k == d).map(|i| at[i]);
                    kept.or_else(|| reduced_dims.iter().position(|r| *r == d).map(|i| w[i]))
                        .unwrap_or(0)
                };
                let i =
                    affine.terms.iter().map(|(d, c)| c * value(*d)).sum::<i64>() + affine.offset;
                let i = usize::try_from(i).ok().filter(|i| *i < x.shape()[rank])?;
                place += i * steps[rank];
            }
            Some(f64::from(x.values()[place]))
        };
        let elements: Vec<f64> = windows.iter().filter_map(element).collect();
        let (operator, divisor) = match kind {
            PoolKind::Max => (ReduceOperator::Max, None),
            PoolKind::Average if counts_padding => (ReduceOperator::Sum, Some(windows.len())),
            PoolKind::Average => (ReduceOperator::Sum, Some(elements.len().max(1))),
        };
        reduced(unit, operator, elements.into_iter(), divisor) as f32
    };
    if input.ranks.len() != x.shape().len() {
        return None;
    }
    let values = (0..shape.iter().product())
        .into_par_iter()
        .map(of)
        .collect();
    Array::new(shape.to_vec(), values).ok()
}

/// Rotary position encoding of a tensor seen as [batch, tokens, heads, width].
pub fn rotary(
    unit: &VectorUnit,
    x: &Array,
    einsum: &Einsum,
    (base, first, neighbours): (f64, u64, bool),
    shape: &[usize],
) -> Option<Array> {
    let size = |i: usize| usize::try_from(einsum.dims.get(i)?.size).ok();
    let (batch, tokens, heads, width) = (size(0)?, size(1)?, size(2)?, size(3)?);
    let half = width / 2;
    if batch * tokens * heads * width != x.values().len() {
        return None;
    }
    let mut out = x.clone().reshaped(shape).ok()?;
    for (i, head) in out.values_mut().chunks_mut(width).enumerate() {
        let position = (i / heads % tokens) as f64 + first as f64;
        for pair in 0..half {
            let angle = position * base.powf(-2.0 * pair as f64 / width as f64);
            let (sin, cos) = (unit.step(angle.sin()), unit.step(angle.cos()));
            let (a, b) = if neighbours {
                (2 * pair, 2 * pair + 1)
            } else {
                (pair, pair + half)
            };
            let (x, y) = (f64::from(head[a]), f64::from(head[b]));
            head[a] = unit.step(x.mul_add(cos, -unit.step(y * sin))) as f32;
            head[b] = unit.step(y.mul_add(cos, unit.step(x * sin))) as f32;
        }
    }
    Some(out)
}
