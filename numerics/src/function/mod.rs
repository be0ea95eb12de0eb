//! Function units: exp, reciprocals, roots, activations, sine, as hardware makes them.
//!
//! A [`FunctionUnit`] is a [`Function`], the [`Register`]s that its argument and its result are rounded to, and a
//! [`Design`] between them, all plain values that a file states and a search varies: tables and coefficients are in the
//! value, every intermediate result is rounded to a register that the value names. [`FunctionUnit::evaluator`] makes it
//! ready once; an [`Evaluator`] then takes slices.
//!
//! ```text
//! argument --input register--> design --output register--> result
//!
//! reference      the function in f64, rounded once                       [`reference`]
//! code_table     a code of the output for each code of the input         [`table`]
//! direct         a kernel on its interval                                [`reduction`]
//! mirrored       a kernel of |x|, by the function's symmetry             [`reduction`]
//! exponential    2^integer times a kernel of the fraction                [`reduction`]
//! logarithm      exponent plus a kernel of the significand               [`reduction`]
//! circular       kernels of the angle within a quarter turn              [`reduction`]
//! refined        magic number or table, then Newton, Halley, Goldschmidt [`roots`]
//! composed       other units and plain operations                        [`composed`]
//!
//! kernels: exact, polynomial, interpolated table, CORDIC                 [`kernel`], [`cordic`]
//! ```
//!
//! [`piecewise`] makes units from a number of segments and a degree, [`fit`] makes coefficients and tables (minimax), [`measure`] tells how far a unit is from its function, [`presets`]
//! holds published designs. [`softmax`], [`norm`] and [`rotary`] are made of units: their order of operations ([`reduce`]: of
//! sums), registers and passes are values too.

pub mod composed;
pub mod cordic;
pub mod fit;
pub mod kernel;
mod lanes;
pub mod measure;
pub mod norm;
pub mod piecewise;
pub mod presets;
pub mod reduce;
pub mod reduction;
pub mod reference;
pub mod register;
pub mod roots;
pub mod rotary;
pub mod segments;
pub mod softmax;
pub mod table;
pub mod unit;

use thiserror::Error;

pub use reference::Function;
pub use register::{Register, RegisterError};
pub use unit::{Design, Evaluator, FunctionUnit, SpecialValues};

/// Why a function unit can't be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DesignError {
    /// A register that is none.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A field out of its range.
    #[error("`{field}` of a function unit: they {rule}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// A design that is not one of the function.
    #[error("a `{0}` design makes no `{1}`")]
    Kernel(&'static str, Function),
    /// A function that no polynomial was found for: not finite, or zero under a relative weight.
    #[error(
        "no polynomial fits: the function is not finite on a segment, or zero there under a relative weight"
    )]
    Fit,
    /// A composed unit lacks a part.
    #[error("`{function}` is composed of {}: give a unit of each", needs.iter().map(|f| format!("`{f}`")).collect::<Vec<_>>().join(" and "))]
    Part {
        /// The function.
        function: Function,
        /// What it is made of.
        needs: Vec<Function>,
    },
}

impl DesignError {
    fn field(field: &'static str, rule: &'static str) -> Self {
        Self::Field { field, rule }
    }
}
