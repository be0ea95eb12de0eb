//! Recurrent layers: each state from the one before it.
//!
//! ```text
//! LSTM  i, o, f = s(W x + R h + b + p c);  g = t(W x + R h + b);  c' = f c + i g;  h' = o u(c'), o of p c'
//! GRU   z, r = s(W x + R h + b);  n = t(W x + R (r h) + b), or t(W x + wb + r (R h + rb));  h' = (1 - z) n + z h
//! RNN   h' = t(W x + R h + b)
//! ```
//!
//! W x of all steps is given; R h is added up by the arithmetic's adder, the rest is the vector unit's. A sequence that
//! has ended keeps its state and gives zeros.

use presil_numerics::arithmetic::matmul::Size;
use presil_workloads::Formula;
use presil_workloads::program::{Cell, Recurrence};

use crate::arithmetic::Arithmetic;
use crate::array::Array;

/// The operands of a layer; [`Recurrence`] says in which shapes.
struct Operands<'a> {
    products: &'a [f32],
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    lengths: Option<&'a [f32]>,
    hidden: Option<&'a [f32]>,
    cells: Option<&'a [f32]>,
    peepholes: Option<&'a [f32]>,
}

/// A direction of a layer, at some step.
struct Direction<'a> {
    arithmetic: &'a Arithmetic,
    layer: &'a Recurrence,
    /// Recurrence weights [width, gates x width].
    weights: Vec<f32>,
    /// Biases of inputs and of states, [gates x width] each.
    bias: [Vec<f32>; 2],
    peepholes: Option<&'a [f32]>,
    functions: [&'a Formula; 3],
    hidden: Vec<f32>,
    cells: Vec<f32>,
}

/// The states of all steps, the last ones and the last cells, one behind the other.
pub fn layer(
    arithmetic: &Arithmetic,
    layer: &Recurrence,
    inputs: &[&Array],
    shape: &[usize],
) -> Option<Array> {
    let gates = match layer.cell {
        Cell::Lstm => 4,
        Cell::Gru { .. } => 3,
        Cell::Plain => 1,
    };
    let (width, batch, directions) = (layer.width, layer.batch, layer.reverse.len());
    let (rows, one) = (gates * width, batch * width);
    let operands = operands(layer, inputs, rows)?;
    let mut sequence = vec![0f32; layer.steps * directions * one];
    let (mut hidden, mut cells) = (Vec::new(), Vec::new());
    for d in 0..directions {
        let own = &operands.weights[d * rows * width..(d + 1) * rows * width];
        let mut weights = vec![0f32; rows * width];
        for (i, w) in own.iter().enumerate() {
            weights[i % width * rows + i / width] = *w;
        }
        let part = |all: Option<&[f32]>, length: usize, start: usize| match all {
            Some(all) => all[start..start + length].to_vec(),
            None => vec![0.0; length],
        };
        let mut direction = Direction {
            arithmetic,
            layer,
            weights,
            bias: [0, 1].map(|i| part(operands.bias, rows, (2 * d + i) * rows)),
            peepholes: operands
                .peepholes
                .map(|p| &p[d * 3 * width..(d + 1) * 3 * width]),
            functions: layer.functions.get(d)?.each_ref().map(|g| &g.formula),
            hidden: part(operands.hidden, one, d * one),
            cells: part(operands.cells, one, d * one),
        };
        for step in 0..layer.steps {
            let at = if layer.reverse[d] {
                layer.steps - 1 - step
            } else {
                step
            };
            let products: Vec<f32> = (0..batch)
                .flat_map(|b| {
                    let first = ((at * batch + b) * directions + d) * rows;
                    operands.products[first..first + rows].iter().copied()
                })
                .collect();
            let (next, next_cells) = direction.step(&products)?;
            let out = &mut sequence[(at * directions + d) * one..][..one];
            for b in 0..batch {
                let lasts = operands.lengths.is_none_or(|l| (at as f32) < l[b]);
                if lasts {
                    let own = b * width..(b + 1) * width;
                    direction.hidden[own.clone()].copy_from_slice(&next[own.clone()]);
                    direction.cells[own.clone()].copy_from_slice(&next_cells[own.clone()]);
                    out[own.clone()].copy_from_slice(&next[own]);
                }
            }
        }
        hidden.extend(direction.hidden);
        cells.extend(direction.cells);
    }
    sequence.extend(hidden);
    if layer.cell == Cell::Lstm {
        sequence.extend(cells);
    }
    Array::new(shape.to_vec(), sequence).ok()
}

fn operands<'a>(layer: &Recurrence, inputs: &[&'a Array], rows: usize) -> Option<Operands<'a>> {
    let (width, batch, directions) = (layer.width, layer.batch, layer.reverse.len());
    let sized = |x: &&'a Array, length: usize| (x.values().len() == length).then_some(x.values());
    let [products, weights, rest @ ..] = inputs else {
        return None;
    };
    let mut rest = rest.iter();
    let mut next = |given: bool, length: usize| -> Option<Option<&'a [f32]>> {
        if !given {
            return Some(None);
        }
        Some(Some(sized(rest.next()?, length)?))
    };
    let state = directions * batch * width;
    Some(Operands {
        products: sized(products, layer.steps * batch * directions * rows)?,
        weights: sized(weights, directions * rows * width)?,
        bias: next(layer.given[0], directions * 2 * rows)?,
        lengths: next(layer.given[1], batch)?,
        hidden: next(layer.given[2], state)?,
        cells: next(layer.given[3], state)?,
        peepholes: next(layer.given[4], directions * 3 * width)?,
    })
}

impl Direction<'_> {
    /// `state R`, [batch, gates x width].
    fn recurrent(&self, state: &[f32]) -> Option<Vec<f32>> {
        let (m, k) = (self.layer.batch, self.layer.width);
        let n = self.weights.len() / k.max(1);
        let mut sums = vec![0f32; m * n];
        if self.arithmetic.adder.is_integer() {
            return None;
        }
        let size = Size { m, n, k };
        self.arithmetic
            .adder
            .add(state, &self.weights, &mut sums, size)
            .ok()?;
        Some(sums)
    }

    /// One function of sums of parts [batch, width].
    fn gate(&self, function: usize, sums: Vec<f32>) -> Option<Vec<f32>> {
        let clipped = sums.into_iter().map(|x| match self.layer.clip {
            Some(c) => f64::from(x).clamp(-c, c) as f32,
            None => x,
        });
        let shape = [self.layer.batch, self.layer.width];
        let sums = Array::new(shape.to_vec(), clipped.collect()).ok()?;
        let unit = &self.arithmetic.vector;
        let made = unit.elementwise(self.functions[function], &[&sums], &shape)?;
        Some(made.values().to_vec())
    }

    /// For each element of a state, a number of it by its place and its column.
    fn each(&self, of: impl Fn(usize, usize) -> f64) -> Vec<f32> {
        let unit = &self.arithmetic.vector;
        (0..self.layer.batch * self.layer.width)
            .map(|i| unit.step(of(i, i % self.layer.width)) as f32)
            .collect()
    }

    /// The next states and cells.
    fn step(&self, products: &[f32]) -> Option<(Vec<f32>, Vec<f32>)> {
        let width = self.layer.width;
        let rows = self.bias[0].len();
        let own = self.recurrent(&self.hidden)?;
        // W x + R h + b of a gate, or either half of it.
        let at = |gate: usize, i: usize| i / width * rows + gate * width + i % width;
        let input = |gate: usize, i: usize, column: usize| {
            f64::from(products[at(gate, i)]) + f64::from(self.bias[0][gate * width + column])
        };
        let state = |own: &[f32], gate: usize, i: usize, column: usize| {
            f64::from(own[at(gate, i)]) + f64::from(self.bias[1][gate * width + column])
        };
        let sum = |gate: usize| self.each(|i, c| input(gate, i, c) + state(&own, gate, i, c));
        match self.layer.cell {
            Cell::Plain => {
                let next = self.gate(0, sum(0))?;
                Some((next, self.cells.clone()))
            }
            Cell::Gru { reset_after } => {
                let (z, r) = (self.gate(0, sum(0))?, self.gate(0, sum(1))?);
                let candidate = if reset_after {
                    self.each(|i, c| input(2, i, c) + f64::from(r[i]) * state(&own, 2, i, c))
                } else {
                    let reset = self.each(|i, _| f64::from(r[i]) * f64::from(self.hidden[i]));
                    let own = self.recurrent(&reset)?;
                    self.each(|i, c| input(2, i, c) + state(&own, 2, i, c))
                };
                let n = self.gate(1, candidate)?;
                let next = self.each(|i, _| {
                    let z = f64::from(z[i]);
                    (1.0 - z) * f64::from(n[i]) + z * f64::from(self.hidden[i])
                });
                Some((next, self.cells.clone()))
            }
            Cell::Lstm => {
                let peep = |gate: usize, cells: &[f32], i: usize, c: usize| {
                    let weight = self
                        .peepholes
                        .map_or(0.0, |p| f64::from(p[gate * width + c]));
                    weight * f64::from(cells[i])
                };
                let with = |gate: usize, part: usize, cells: &[f32]| {
                    let sums = sum(gate);
                    self.each(|i, c| f64::from(sums[i]) + peep(part, cells, i, c))
                };
                let i = self.gate(0, with(0, 0, &self.cells))?;
                let f = if self.layer.coupled {
                    self.each(|k, _| 1.0 - f64::from(i[k]))
                } else {
                    self.gate(0, with(2, 2, &self.cells))?
                };
                let g = self.gate(1, sum(3))?;
                let cells = self.each(|k, _| {
                    f64::from(f[k]) * f64::from(self.cells[k]) + f64::from(i[k]) * f64::from(g[k])
                });
                let o = self.gate(0, with(1, 1, &cells))?;
                // What a cell shows is not clipped: the bounds are those of gates.
                let shape = [self.layer.batch, width];
                let held = Array::new(shape.to_vec(), cells.clone()).ok()?;
                let unit = &self.arithmetic.vector;
                let shown = unit.elementwise(self.functions[2], &[&held], &shape)?;
                let next = self.each(|k, _| f64::from(o[k]) * f64::from(shown.values()[k]));
                Some((next, cells))
            }
        }
    }
}
