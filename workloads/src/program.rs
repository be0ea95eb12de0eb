//! Ops that compute in several steps, and recurrent layers.
//!
//! A program reads tensors and takes its values through steps of simple meanings, as a list: the tensors that it reads
//! come first, then what each step gives.
//!
//! ```text
//! y = round(x / s) + z      reads x, s, z     3: x0 / x1 of 0, 1     4: clip(round(x0) + x1) of 3, 2     gives 4
//! ```

use crate::meaning::Meaning;
use crate::tensor::TensorId;

/// Steps that together are what an op computes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Program {
    /// Tensors read, the first values.
    pub reads: Vec<TensorId>,
    /// The steps; each gives the next value.
    pub steps: Vec<Step>,
    /// Tensors given, and which value each is. They may be outputs of other ops, of meaning
    /// [`Elsewhere`](Meaning::Elsewhere).
    pub gives: Vec<(TensorId, usize)>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it computes. A contraction, a softmax and a pooling are those of the op's einsums.
    pub meaning: Meaning,
    /// Which earlier values it reads.
    pub operands: Vec<usize>,
    /// Shape of its value.
    pub shape: Vec<u64>,
}

/// Which recurrent layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// i, o, f, c gates: c' = f c + i g, h' = o act(c').
    Lstm,
    /// z, r, h gates: h' = (1 - z) n + z h.
    Gru {
        /// Whether the reset gate multiplies after the product with the recurrence weights.
        reset_after: bool,
    },
    /// h' = act(W x + R h + b).
    Plain,
}

/// A function of a gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// What it computes.
    pub formula: crate::Formula,
}

/// A recurrent layer. Inputs: all products with the input weights [steps x batch, directions, gates x width] (with no
/// bias), recurrence weights [directions, gates x width, width], the bias [directions, 2 gates x width], lengths of
/// sequences, first states, first cells [directions, batch, width], peepholes [directions, 3 width]. Its value is the
/// states [steps, directions, batch, width], then the last states, then (LSTM) the last cells, one behind the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrence {
    /// Which.
    pub cell: Cell,
    /// Time steps.
    pub steps: usize,
    /// Sequences.
    pub batch: usize,
    /// For each direction, whether it runs from the last step on.
    pub reverse: Vec<bool>,
    /// Elements of a state.
    pub width: usize,
    /// The functions of each direction: of gates, of the candidate, of the cell.
    pub functions: Vec<[Gate; 3]>,
    /// Bounds of what the functions take.
    pub clip: Option<f64>,
    /// Whether the input gate is `1 - forget gate`.
    pub coupled: bool,
    /// Which of the inputs from the bias on are given.
    pub given: [bool; 5],
}
