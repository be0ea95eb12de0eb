//! The primitives that vector units are made of.
//!
//! Softmax, norms, activations and the like lower to programs of these; a chip file gives throughput,
//! latency and energy per primitive and format. A chip that has no unit for a primitive may give an
//! expansion into others in its `numerics` section.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One primitive operation of a vector lane, applied to one element.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum LanePrimitive {
    /// Addition or subtraction.
    Add,
    /// Multiplication.
    Mul,
    /// Fused multiply-add.
    Fma,
    /// Maximum or minimum (also clamps, ReLU).
    Max,
    /// 2^x.
    Exp2,
    /// log2 x.
    Log2,
    /// 1/sqrt(x).
    Rsqrt,
    /// 1/x.
    Reciprocal,
    /// Conversion between formats, requantization included.
    Convert,
    /// Comparison or selection.
    Compare,
    /// One element's step of a reduction (sum or max) across lanes or time.
    Reduce,
    /// Movement between lanes (transposition, rotation, permutation).
    Shuffle,
    /// Table look-up (sigmoid, tanh, erf, sin, cos by table).
    Lookup,
}

impl LanePrimitive {
    /// All primitives, in declaration order.
    pub const ALL: [Self; 13] = [
        Self::Add,
        Self::Mul,
        Self::Fma,
        Self::Max,
        Self::Exp2,
        Self::Log2,
        Self::Rsqrt,
        Self::Reciprocal,
        Self::Convert,
        Self::Compare,
        Self::Reduce,
        Self::Shuffle,
        Self::Lookup,
    ];

    /// The name in chip files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Mul => "mul",
            Self::Fma => "fma",
            Self::Max => "max",
            Self::Exp2 => "exp2",
            Self::Log2 => "log2",
            Self::Rsqrt => "rsqrt",
            Self::Reciprocal => "reciprocal",
            Self::Convert => "convert",
            Self::Compare => "compare",
            Self::Reduce => "reduce",
            Self::Shuffle => "shuffle",
            Self::Lookup => "lookup",
        }
    }
}
