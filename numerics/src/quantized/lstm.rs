//! LSTM with int8 inputs, weights and state, int16 gates and an int16 cell.
//!
//! ```text
//! g_x    = sat16(R(bias_x + sum w_x (x - zx)));  g_x = sat16(g_x + R(sum r_x (h - zh)))    gate x, in steps of 2^-12
//!          multipliers s_w s_x 2^12 and s_r s_h 2^12
//! f, i, o = logistic(g) of 16-bit words Q3 in Q0;  g = tanh(g_c)                              fixed_point
//! CIFG   i = 32767 - f
//! c      = sat16(f c / 2^15 + i g / 2^(30 + e)), each quotient rounded, ties away             cell scale 2^e
//! h      = sat8(zh + R(o tanh(c))), tanh of Q(15 + e) words, multiplier 2^-30 / s_h
//! ```
//!
//! LiteRT makes the ratios in f32 and rounds twice ([`super::rescale::LITERT_F32_RATIO`]). Peepholes, layer
//! normalization and projection are not here. Source: TensorFlow Lite, kernels lstm, lstm_eval, tensor_utils.

use super::accumulation::Accumulation;
use super::fixed_point::{WORD16, WORD32};
use super::rescale::{Recipe, Rescale};
use super::{Clamp, Element, QuantizedError, Scaling, check, check_zero_point, starts};
use crate::arithmetic::matmul::Size;
use crate::integer::requantize::Requantization;

/// The steps of gates.
const GATE_SCALE: f32 = 1.0 / 4096.0;

/// The weights of a gate: `[cells][inputs]`, `[cells][cells]`, `[cells]`.
#[derive(Debug, Clone, Copy)]
pub struct GateWeights<'a> {
    /// Of the input.
    pub input: &'a [i8],
    /// Their scale.
    pub input_scale: f32,
    /// Of the state.
    pub recurrent: &'a [i8],
    /// Their scale.
    pub recurrent_scale: f32,
    /// In steps of the input's scale times its weights'.
    pub bias: &'a [i64],
}

/// The weights of all gates.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// The input gate; without it, it is one less the forget gate.
    pub input: Option<GateWeights<'a>>,
    /// The forget gate.
    pub forget: GateWeights<'a>,
    /// The new value of the cell.
    pub cell: GateWeights<'a>,
    /// The output gate.
    pub output: GateWeights<'a>,
}

/// What an LSTM is made from.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Inputs of a step.
    pub inputs: usize,
    /// Cells.
    pub cells: usize,
    /// The input's codes.
    pub input: Scaling,
    /// The codes of state and output.
    pub state: Scaling,
    /// The cell's scale is 2 to this power, -15 to -9.
    pub cell_exponent: i32,
    /// The largest magnitude of a cell's code, where it is clipped.
    pub cell_clip: Option<i16>,
    /// How gates and outputs are rescaled.
    pub recipe: Recipe,
    /// The registers of the gates' sums.
    pub accumulation: Accumulation,
}

/// A gate made ready: weights with columns for cells.
#[derive(Debug, Clone)]
struct Gate {
    input: Vec<i32>,
    input_multiplier: Requantization,
    recurrent: Vec<i32>,
    recurrent_multiplier: Requantization,
    bias: Vec<i64>,
}

/// An LSTM made ready.
#[derive(Debug, Clone)]
pub struct Lstm {
    /// What it is made from.
    pub spec: Spec,
    input: Option<Gate>,
    forget: Gate,
    cell: Gate,
    output: Gate,
    hidden: Rescale,
}

/// What lasts from step to step: `[batches][cells]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The output.
    pub output: Vec<i8>,
    /// The cells.
    pub cell: Vec<i16>,
}

impl Lstm {
    /// Prepares multipliers and weights.
    pub fn new(spec: Spec, weights: &Weights<'_>) -> Result<Self, QuantizedError> {
        if !(-15..=-9).contains(&spec.cell_exponent) {
            return Err(QuantizedError::Shape(
                "a cell's scale must be 2^-15 to 2^-9",
            ));
        }
        check_zero_point::<i8>(spec.input.zero_point)?;
        check_zero_point::<i8>(spec.state.zero_point)?;
        let gate = |w: &GateWeights<'_>| gate(&spec, w);
        let real = spec.recipe.ratio(&[2f32.powi(-30)], spec.state.scale);
        Ok(Self {
            input: weights.input.as_ref().map(gate).transpose()?,
            forget: gate(&weights.forget)?,
            cell: gate(&weights.cell)?,
            output: gate(&weights.output)?,
            hidden: Rescale::of_ratio::<i8>(spec.recipe, real, spec.state, Clamp::None),
            spec,
        })
    }

    /// The state before the first step of so many sequences: zero.
    pub fn start(&self, batches: usize) -> State {
        let count = batches.saturating_mul(self.spec.cells);
        State {
            output: vec![i8::saturated(self.spec.state.zero_point.into()); count],
            cell: vec![0; count],
        }
    }

    /// One step of all sequences: `input` is `[batches][inputs]`, the output is the state's. Gives how many additions
    /// left their registers.
    pub fn step(&self, input: &[i8], state: &mut State) -> Result<u64, QuantizedError> {
        let Spec { inputs, cells, .. } = self.spec;
        let batches = state.output.len() / cells.max(1);
        check("the input", input.len(), &[batches, inputs])?;
        check("the state", state.output.len(), &[batches, cells])?;
        check("the cells", state.cell.len(), &[batches, cells])?;
        let mut overflows = 0;
        let mut sums = |gate: &Gate| -> Result<Vec<i64>, QuantizedError> {
            let (sums, outside) = self.sums(gate, input, &state.output)?;
            overflows += outside;
            Ok(sums)
        };
        let input_gate = self.input.as_ref().map(&mut sums).transpose()?;
        let forget = sums(&self.forget)?;
        let new = sums(&self.cell)?;
        let output = sums(&self.output)?;
        let (w, e) = (WORD16, self.spec.cell_exponent);
        let clip = self.spec.cell_clip.map(|c| i64::from(c.max(0)));
        let shifted = |x: i64, n: i32| WORD32.scale(x, -n);
        for (i, cell) in state.cell.iter_mut().enumerate() {
            let forget = w.logistic(forget[i], 3);
            let admitted = match &input_gate {
                Some(gate) => w.logistic(gate[i], 3),
                None => i64::from(i16::MAX) - forget,
            };
            let kept = shifted(forget * i64::from(*cell), 15);
            let added = shifted(admitted * w.tanh(new[i], 3), 30 + e);
            let c = w.saturate(kept + added);
            let c = clip.map_or(c, |clip| c.clamp(-clip, clip));
            *cell = c as i16;
            let product = w.logistic(output[i], 3) * w.tanh(c, (15 + e) as u32);
            state.output[i] = self.hidden.code(product, 0, i as u64);
        }
        Ok(overflows)
    }

    /// A gate before its function.
    fn sums(
        &self,
        gate: &Gate,
        input: &[i8],
        output: &[i8],
    ) -> Result<(Vec<i64>, u64), QuantizedError> {
        let Spec {
            inputs,
            cells,
            accumulation,
            ..
        } = &self.spec;
        let m = output.len() / (*cells).max(1);
        let size = |k| Size { m, n: *cells, k };
        let rows = |codes: &[i8], zero_point| -> Vec<i32> {
            let offset = accumulation.offset(zero_point);
            let less = |x: &i8| i32::from(*x).wrapping_sub(offset);
            codes.iter().map(less).collect()
        };
        let zero_points = (self.spec.input.zero_point, self.spec.state.zero_point);
        let mut of_input = gate.bias.repeat(m);
        let a = rows(input, zero_points.0);
        let b = (&gate.input[..], 0);
        let mut overflows =
            accumulation.product((&a, zero_points.0), b, &mut of_input, size(*inputs))?;
        let mut of_state = vec![0; of_input.len()];
        let a = rows(output, zero_points.1);
        let b = (&gate.recurrent[..], 0);
        overflows += accumulation.product((&a, zero_points.1), b, &mut of_state, size(*cells))?;
        let gates = of_input
            .iter()
            .zip(&of_state)
            .enumerate()
            .map(|(i, (x, h))| {
                let (x, h) = (
                    gate.input_multiplier.apply(*x, i as u64),
                    gate.recurrent_multiplier.apply(*h, i as u64),
                );
                WORD16.saturate(WORD16.saturate(x).saturating_add(h))
            });
        Ok((gates.collect(), overflows))
    }
}

fn gate(spec: &Spec, weights: &GateWeights<'_>) -> Result<Gate, QuantizedError> {
    let Spec { inputs, cells, .. } = *spec;
    check("input weights", weights.input.len(), &[cells, inputs])?;
    check(
        "recurrent weights",
        weights.recurrent.len(),
        &[cells, cells],
    )?;
    let bias = starts(Some(weights.bias), cells)?;
    let columns = |weights: &[i8], k: usize| {
        let mut columns = vec![0; weights.len()];
        for (i, w) in weights.iter().enumerate() {
            columns[i % k * cells + i / k] = i32::from(*w);
        }
        columns
    };
    let multiplier = |weight: f32, operand: f32| {
        let ratio = spec.recipe.ratio(&[weight, operand], GATE_SCALE);
        spec.recipe.multiplier(ratio)
    };
    Ok(Gate {
        input: columns(weights.input, inputs),
        input_multiplier: multiplier(weights.input_scale, spec.input.scale),
        recurrent: columns(weights.recurrent, cells),
        recurrent_multiplier: multiplier(weights.recurrent_scale, spec.state.scale),
        bias,
    })
}
