//! The functions themselves, in f64.
//!
//! | function | | at -inf, -0, +0, +inf | where there is none |
//! |---|---|---|---|
//! | `exp`, `exp2` | e^x, 2^x | 0, 1, 1, inf | |
//! | `log`, `log2` | natural and binary logarithm | NaN, -inf, -inf, inf | NaN below 0 |
//! | `sigmoid` | 1 / (1 + e^-x) | 0, 1/2, 1/2, 1 | |
//! | `tanh`, `erf` | odd | -1, -0, 0, 1 | |
//! | `gelu` | x (1 + erf(x / sqrt 2)) / 2 | -0, -0, 0, inf | |
//! | `gelu_tanh` | x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2 | -0, -0, 0, inf | |
//! | `quick_gelu` | x sigmoid(1.702 x) | -0, -0, 0, inf | |
//! | `silu` | x sigmoid(x) | -0, -0, 0, inf | |
//! | `softplus` | log(1 + e^x) | 0, log 2, log 2, inf | |
//! | `hard_sigmoid` | min(max(x + 3, 0), 6) / 6 | 0, 1/2, 1/2, 1 | |
//! | `hard_swish` | x hard_sigmoid(x) | -0, -0, 0, inf | |
//! | `reciprocal` | 1 / x | -0, -inf, inf, 0 | |
//! | `division` | x / y | IEEE 754 | 0 / 0, inf / inf: NaN |
//! | `sqrt` | | NaN, -0, 0, inf | NaN below 0 |
//! | `rsqrt` | 1 / sqrt x | NaN, -inf, inf, 0 | NaN below 0 |
//! | `sin`, `cos` | radians | NaN, -0 or 1, 0 or 1, NaN | |
//!
//! NaN gives NaN. Limits at infinity that a product would make NaN (`-inf x 0`) are the limits. The f64 results are
//! within 2^-45 of their value, so that one rounding to 24 bits or fewer is the correctly rounded result except where
//! the value is nearer than that to the middle between two numbers. They come from `libm`, not from the machine's own
//! library, and are the same on every machine.
//!
//! Cancellation is kept out: `erfc` for the negative side of GELU, `e^x / (1 + e^x)` for the negative side of the sigmoid,
//! `log1p` for softplus.

use std::f64::consts::{FRAC_1_SQRT_2, PI};
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A function of one number (of two: division).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// e^x.
    Exp,
    /// 2^x.
    Exp2,
    /// Natural logarithm.
    Log,
    /// Binary logarithm.
    Log2,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// Error function.
    Erf,
    /// x (1 + erf(x / sqrt 2)) / 2.
    Gelu,
    /// x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
    GeluTanh,
    /// x sigmoid(1.702 x).
    QuickGelu,
    /// x sigmoid(x), also called swish.
    Silu,
    /// log(1 + e^x).
    Softplus,
    /// min(max(x + 3, 0), 6) / 6.
    HardSigmoid,
    /// x hard_sigmoid(x).
    HardSwish,
    /// 1 / x.
    Reciprocal,
    /// x / y.
    Division,
    /// Square root.
    Sqrt,
    /// 1 / sqrt x.
    Rsqrt,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
}

impl Function {
    /// All functions, in declaration order.
    pub const ALL: [Self; 20] = [
        Self::Exp,
        Self::Exp2,
        Self::Log,
        Self::Log2,
        Self::Sigmoid,
        Self::Tanh,
        Self::Erf,
        Self::Gelu,
        Self::GeluTanh,
        Self::QuickGelu,
        Self::Silu,
        Self::Softplus,
        Self::HardSigmoid,
        Self::HardSwish,
        Self::Reciprocal,
        Self::Division,
        Self::Sqrt,
        Self::Rsqrt,
        Self::Sin,
        Self::Cos,
    ];

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exp => "exp",
            Self::Exp2 => "exp2",
            Self::Log => "log",
            Self::Log2 => "log2",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Erf => "erf",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::QuickGelu => "quick_gelu",
            Self::Silu => "silu",
            Self::Softplus => "softplus",
            Self::HardSigmoid => "hard_sigmoid",
            Self::HardSwish => "hard_swish",
            Self::Reciprocal => "reciprocal",
            Self::Division => "division",
            Self::Sqrt => "sqrt",
            Self::Rsqrt => "rsqrt",
            Self::Sin => "sin",
            Self::Cos => "cos",
        }
    }

    /// How many numbers it takes.
    pub fn arity(self) -> usize {
        if self == Self::Division { 2 } else { 1 }
    }

    /// The function's number; of division, 1 over it.
    pub fn value(self, x: f64) -> f64 {
        if x.is_nan() {
            return f64::NAN;
        }
        match self {
            Self::Exp => libm::exp(x),
            Self::Exp2 => libm::exp2(x),
            Self::Log => libm::log(x),
            Self::Log2 => libm::log2(x),
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => libm::tanh(x),
            Self::Erf => libm::erf(x),
            Self::Gelu => scaled(x, 0.5 * libm::erfc(-x * FRAC_1_SQRT_2)),
            Self::GeluTanh => {
                let inner = (2.0 / PI).sqrt() * (x + 0.044715 * x * x * x);
                scaled(x, sigmoid(2.0 * inner))
            }
            Self::QuickGelu => scaled(x, sigmoid(1.702 * x)),
            Self::Silu => scaled(x, sigmoid(x)),
            Self::Softplus => x.max(0.0) + libm::log1p(libm::exp(-x.abs())),
            Self::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::HardSwish => scaled(x, (x + 3.0).clamp(0.0, 6.0) / 6.0),
            Self::Reciprocal | Self::Division => 1.0 / x,
            Self::Sqrt => x.sqrt(),
            // 1 / 0 keeps the sign of the zero, as IEEE 754's rSqrt does.
            Self::Rsqrt => 1.0 / x.sqrt(),
            Self::Sin => libm::sin(x),
            Self::Cos => libm::cos(x),
        }
    }

    /// The function's number of two numbers; functions of one take the first.
    pub fn value_of_two(self, x: f64, y: f64) -> f64 {
        if self == Self::Division {
            x / y
        } else {
            self.value(x)
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    let e = libm::exp(-x.abs());
    if x < 0.0 {
        e / (1.0 + e)
    } else {
        1.0 / (1.0 + e)
    }
}

/// `x g`, whose limit is 0 where `g` is. Next to zero, where `g` is 1/2 to 53 bits, the product is just above `x / 2`, which
/// for the smallest number of a format is a tie.
fn scaled(x: f64, g: f64) -> f64 {
    if g == 0.0 {
        0.0f64.copysign(x)
    } else if g == 0.5 && x != 0.0 {
        (0.5 * x).next_up()
    } else {
        x * g
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no function.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a function; write one of {names}", names = Function::ALL.map(Function::name).join(", "))]
pub struct UnknownFunction(pub String);

impl FromStr for Function {
    type Err = UnknownFunction;

    fn from_str(s: &str) -> Result<Self, UnknownFunction> {
        let found = Self::ALL.into_iter().find(|f| f.name() == s);
        found.ok_or_else(|| UnknownFunction(s.into()))
    }
}
