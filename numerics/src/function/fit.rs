//! Coefficients and tables: minimax polynomials by Remez' exchange, table entries, in f64.
//!
//! ```text
//! minimise over P of degree n   max over [a, b] of |w(x) (P(x) - f(x))|        w = 1 (absolute) or 1 / |f(x)| (relative)
//!
//! repeat   solve w(x_i) (P(x_i) - f(x_i)) = (-1)^i E  for P and E on n + 2 points
//!          move the points to the extrema of the error, alternating in sign
//! until    the largest extremum exceeds |E| by less than 1e-9
//! ```
//!
//! P is solved for in Chebyshev polynomials of the interval and handed out in powers of `x - origin`. The error told is that of
//! the polynomial in f64: rounding its coefficients adds to it. Source: Remez 1934; Muller, "Elementary functions", 3.
//!
//! A table with interpolation may be **centred**: where chords lie on one side of the function, entries give way by half
//! of what the chord is off in the middle of the segments beside.

use super::DesignError;
use super::kernel::{Interpolated, Order, Origin, Polynomial, Target};
use super::register::Register;
use super::segments::Segments;

/// What error is made small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The difference.
    Absolute,
    /// The difference over the function, which must not be zero on the interval.
    Relative,
}

/// A polynomial and how far it is off.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// In powers of `x - origin`, the constant first.
    pub coefficients: Vec<f64>,
    /// The largest weighted error.
    pub error: f64,
}

const GRID: usize = 64;
const ROUNDS: usize = 60;

/// The polynomial of a degree that is nearest to a function on an interval; none where the function is not finite
/// there, the weight is not, or the exchange does not settle.
pub fn minimax(
    f: impl Fn(f64) -> f64,
    [low, high]: [f64; 2],
    degree: usize,
    weight: Weight,
    origin: f64,
) -> Option<Fit> {
    let ordered = low < high;
    if !ordered || degree > 24 {
        return None;
    }
    let (middle, half) = (0.5 * (low + high), 0.5 * (high - low));
    let at = |u: f64| middle + half * u;
    let weight_of = |y: f64| match weight {
        Weight::Absolute => 1.0,
        Weight::Relative => 1.0 / y.abs(),
    };
    let points = degree + 2;
    let mut nodes: Vec<f64> = (0..points)
        .map(|i| -(std::f64::consts::PI * i as f64 / (points - 1) as f64).cos())
        .collect();
    let count = GRID * points;
    let grid: Vec<f64> = (0..=count)
        .map(|i| -(std::f64::consts::PI * i as f64 / count as f64).cos())
        .collect();
    let on_grid: Vec<f64> = grid.iter().map(|u| f(at(*u))).collect();
    let one_sign = on_grid.iter().all(|y| *y > 0.0) || on_grid.iter().all(|y| *y < 0.0);
    if on_grid.iter().any(|y| !y.is_finite()) || weight == Weight::Relative && !one_sign {
        return None;
    }
    let mut best: Option<(Vec<f64>, f64)> = None;
    for _ in 0..ROUNDS {
        let (chebyshev, level) = levelled(&nodes, degree, |u| {
            let y = f(at(u));
            (y, weight_of(y))
        })?;
        let error = |u: f64| {
            let y = f(at(u));
            weight_of(y) * (clenshaw(&chebyshev, u) - y)
        };
        let Some(extrema) = extrema(&grid, &error, points) else {
            // Too few alternations: the polynomial is the function, but for roundings of f64.
            let largest = grid.iter().map(|u| error(*u).abs()).fold(0.0, f64::max);
            return finished(best.unwrap_or((chebyshev, largest)), half, middle - origin);
        };
        let largest = extrema.iter().map(|u| error(*u).abs()).fold(0.0, f64::max);
        if best.as_ref().is_none_or(|(_, e)| largest < *e) {
            best = Some((chebyshev, largest));
        }
        nodes = extrema;
        if largest <= level.abs() * (1.0 + 1e-9) {
            break;
        }
    }
    finished(best?, half, middle - origin)
}

fn finished((chebyshev, error): (Vec<f64>, f64), half: f64, shift: f64) -> Option<Fit> {
    let coefficients = powers(&chebyshev, half, shift);
    let finite = error.is_finite() && coefficients.iter().all(|c| c.is_finite());
    finite.then_some(Fit {
        coefficients,
        error,
    })
}

/// Chebyshev polynomials T_0 .. T_n at u.
fn chebyshev_at(u: f64, degree: usize) -> Vec<f64> {
    let mut t = vec![1.0, u];
    while t.len() <= degree {
        let next = 2.0 * u * t[t.len() - 1] - t[t.len() - 2];
        t.push(next);
    }
    t.truncate(degree + 1);
    t
}

fn clenshaw(c: &[f64], u: f64) -> f64 {
    let (mut b1, mut b2) = (0.0, 0.0);
    for c in c[1..].iter().rev() {
        (b1, b2) = (2.0 * u * b1 - b2 + c, b1);
    }
    u * b1 - b2 + c[0]
}

/// The polynomial whose weighted errors at the nodes alternate, and their size. `f` gives number and weight.
fn levelled(
    nodes: &[f64],
    degree: usize,
    f: impl Fn(f64) -> (f64, f64),
) -> Option<(Vec<f64>, f64)> {
    let n = nodes.len();
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(n);
    for (i, u) in nodes.iter().enumerate() {
        let (y, weight) = f(*u);
        let mut row = chebyshev_at(*u, degree);
        let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
        row.push(-sign / weight);
        row.push(y);
        if row.iter().any(|x| !x.is_finite()) {
            return None;
        }
        rows.push(row);
    }
    // Gaussian elimination with row exchange.
    for k in 0..n {
        let pivot = (k..n).max_by(|a, b| rows[*a][k].abs().total_cmp(&rows[*b][k].abs()))?;
        rows.swap(k, pivot);
        let (done, rest) = rows.split_at_mut(k + 1);
        let top = &done[k];
        if top[k] == 0.0 {
            return None;
        }
        for row in rest {
            let factor = row[k] / top[k];
            for (x, t) in row.iter_mut().zip(top).skip(k) {
                *x -= factor * t;
            }
        }
    }
    let mut solution = vec![0.0; n];
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|j| rows[k][j] * solution[j]).sum();
        solution[k] = (rows[k][n] - known) / rows[k][k];
    }
    let level = solution.pop()?;
    Some((solution, level))
}

/// Alternating extrema of the error, as many as asked.
fn extrema(grid: &[f64], error: &impl Fn(f64) -> f64, wanted: usize) -> Option<Vec<f64>> {
    let values: Vec<f64> = grid.iter().map(|u| error(*u)).collect();
    if values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    // The largest of each run of one sign.
    let mut found: Vec<usize> = Vec::new();
    for i in 0..grid.len() {
        match found.last_mut() {
            Some(last) if (values[*last] < 0.0) == (values[i] < 0.0) => {
                if values[i].abs() > values[*last].abs() {
                    *last = i;
                }
            }
            _ => found.push(i),
        }
    }
    // Too many: the smaller end goes, which keeps the alternation.
    while found.len() > wanted {
        let (first, last) = (values[found[0]], values[found[found.len() - 1]]);
        if first.abs() < last.abs() {
            found.remove(0);
        } else {
            found.pop();
        }
    }
    if found.len() < wanted {
        return None;
    }
    Some(found.into_iter().map(|i| refined(grid, error, i)).collect())
}

/// The extremum near a grid point, by golden section.
fn refined(grid: &[f64], error: &impl Fn(f64) -> f64, i: usize) -> f64 {
    if i == 0 || i == grid.len() - 1 {
        return grid[i];
    }
    let sign = error(grid[i]).signum();
    let (mut a, mut b) = (grid[i - 1], grid[i + 1]);
    let ratio = 0.5 * (5f64.sqrt() - 1.0);
    for _ in 0..40 {
        let (p, q) = (b - ratio * (b - a), a + ratio * (b - a));
        if sign * error(p) > sign * error(q) {
            b = q;
        } else {
            a = p;
        }
    }
    0.5 * (a + b)
}

/// Chebyshev polynomials of `u = (x - middle) / half` in powers of `t = x - origin`; `shift = middle - origin`.
fn powers(chebyshev: &[f64], half: f64, shift: f64) -> Vec<f64> {
    let n = chebyshev.len();
    // Powers of u.
    let (mut before, mut current) = (vec![0.0; n], vec![0.0; n]);
    before[0] = 1.0;
    if n > 1 {
        current[1] = 1.0;
    }
    let mut of_u = vec![0.0; n];
    of_u[0] = chebyshev[0];
    for c in &chebyshev[1..] {
        for (sum, t) in of_u.iter_mut().zip(&current) {
            *sum += c * t;
        }
        let mut next = vec![0.0; n];
        for k in 1..n {
            next[k] = 2.0 * current[k - 1];
        }
        for (x, b) in next.iter_mut().zip(&before) {
            *x -= b;
        }
        (before, current) = (current, next);
    }
    // u = (t - shift) / half, by Horner in polynomials.
    let mut result = vec![0.0; n];
    for c in of_u.iter().rev() {
        let mut next = vec![0.0; n];
        for k in 0..n {
            let from_below = if k > 0 { result[k - 1] } else { 0.0 };
            next[k] = (from_below - shift * result[k]) / half;
        }
        next[0] += c;
        result = next;
    }
    result
}

/// What a polynomial is stored and evaluated in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evaluation {
    /// What coefficients are stored in.
    pub coefficient: Register,
    /// What intermediate results are rounded to.
    pub register: Register,
    /// Whether a product and a sum round once.
    pub fma: bool,
}

impl Evaluation {
    /// All in one register.
    pub fn within(register: Register, fma: bool) -> Self {
        Self {
            coefficient: register,
            register,
            fma,
        }
    }
}

impl Polynomial {
    /// Minimax polynomials of a degree on every segment. Coefficients stay in f64: the register rounds them.
    pub fn fit(
        target: Target,
        segments: Segments,
        degree: usize,
        weight: Weight,
        origin: Origin,
        evaluation: Evaluation,
    ) -> Result<Self, DesignError> {
        let borders = segments.borders()?;
        let fitted = borders.windows(2).map(|b| {
            let origin = match origin {
                Origin::Zero => 0.0,
                Origin::Start => b[0],
                Origin::Centre => 0.5 * (b[0] + b[1]),
            };
            minimax(|x| target.value(x), [b[0], b[1]], degree, weight, origin)
                .map(|fit| fit.coefficients)
                .ok_or(DesignError::Fit)
        });
        Ok(Self {
            coefficients: fitted.collect::<Result<_, _>>()?,
            segments,
            origin,
            coefficient: evaluation.coefficient,
            register: evaluation.register,
            fma: evaluation.fma,
            order: Order::Horner,
        })
    }
}

impl Interpolated {
    /// Entries of a function at the borders, centred where asked, in f64: the register rounds them.
    pub fn fill(
        target: Target,
        segments: Segments,
        centred: bool,
        entry: Register,
        fraction: Register,
        register: Register,
        fma: bool,
    ) -> Result<Self, DesignError> {
        let borders = segments.borders()?;
        let f: Vec<f64> = borders.iter().map(|x| target.value(*x)).collect();
        let excess: Vec<f64> = borders
            .windows(2)
            .zip(f.windows(2))
            .map(|(b, f)| 0.5 * (f[0] + f[1]) - target.value(0.5 * (b[0] + b[1])))
            .collect();
        let entries = f.iter().enumerate().map(|(i, y)| {
            let beside = [i.checked_sub(1), Some(i)].map(|s| s.and_then(|s| excess.get(s)));
            let known: Vec<&f64> = beside.into_iter().flatten().collect();
            let mean = known.iter().copied().sum::<f64>() / known.len() as f64;
            if centred { y - 0.5 * mean } else { *y }
        });
        Ok(Self {
            entries: entries.collect(),
            segments,
            entry,
            fraction,
            register,
            fma,
        })
    }
}
