//! Tables of codes: every code of a narrow input has its code of the output.
//!
//! A code stands for a number by its format, a scale and a zero point (integers), or by its format and a scale (floats):
//!
//! ```text
//! x = (code - zero_point) x scale          number = confine(round(x / scale) + zero_point)
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DesignError, Function};
use crate::codec::Codec;
use crate::conversion::{Conversion, Overflow};
use crate::exact::Exact;
use crate::format::Format;
use crate::rounding::Rounding;

/// What a code stands for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Codes {
    /// The code's format, of at most 16 bits.
    pub format: Format,
    /// What one step stands for.
    #[serde(default = "one")]
    pub scale: f64,
    /// The integer that stands for zero; 0 for floats.
    #[serde(default)]
    pub zero_point: i64,
    /// How a number becomes a code.
    #[serde(default)]
    pub conversion: Conversion,
}

fn one() -> f64 {
    1.0
}

/// A table of codes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CodeTable {
    /// What the input's codes stand for.
    pub input: Codes,
    /// What the output's codes stand for.
    pub output: Codes,
    /// The output's code of each code of the input, in the order of unsigned codes.
    pub entries: Vec<u16>,
}

/// The codec of codes.
#[derive(Debug, Clone)]
pub(crate) struct Coder {
    codec: Codec,
    /// Integers before the zero point is added; what is beyond 64 bits saturates.
    integers: Codec,
    codes: Codes,
}

impl Codes {
    /// Codes of a format as they are.
    pub fn plain(format: Format) -> Self {
        Self {
            format,
            scale: 1.0,
            zero_point: 0,
            conversion: Conversion::default(),
        }
    }

    /// Integers with a scale and a zero point.
    pub fn affine(format: Format, scale: f64, zero_point: i64) -> Self {
        Self {
            scale,
            zero_point,
            ..Self::plain(format)
        }
    }

    pub(crate) fn coder(self) -> Result<Coder, DesignError> {
        let codec = Codec::new(self.format, self.conversion)
            .map_err(super::register::RegisterError::Codec)?;
        if codec.code_bits() > 16 {
            return Err(DesignError::field("codes", "have 16 bits at most"));
        }
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return Err(DesignError::field("scale", "is finite and above zero"));
        }
        if self.zero_point != 0 && !self.format.is_int() || self.zero_point.abs() > 1 << 16 {
            return Err(DesignError::field(
                "zero_point",
                "is one of an integer of 16 bits",
            ));
        }
        let wide = Format::Int {
            bits: 64,
            signed: true,
        };
        let conversion = Conversion {
            overflow: Overflow::Saturate,
            ..self.conversion
        };
        let integers =
            Codec::new(wide, conversion).map_err(super::register::RegisterError::Codec)?;
        Ok(Coder {
            codec,
            integers,
            codes: self,
        })
    }
}

impl Coder {
    pub(crate) fn count(&self) -> usize {
        1 << self.codec.code_bits()
    }

    /// What a code stands for, to the nearest f64.
    pub(crate) fn value(&self, code: u16) -> f64 {
        let number = self.codec.decode(u128::from(code)).to_f64();
        (number - self.codes.zero_point as f64) * self.codes.scale
    }

    /// The code of a number.
    pub(crate) fn code(&self, x: f64) -> u16 {
        let mut quotient = Exact::from(x).quotient(Exact::from(self.codes.scale));
        if self.codes.zero_point != 0 && !quotient.is_nan() {
            let zero = Exact::from(i128::from(self.codes.zero_point));
            let integer = self.integers.encode(quotient, 0).code;
            quotient = (self.integers.decode(integer)).plus(zero, Rounding::NearestEven);
        }
        self.codec.encode(quotient, 0).code as u16
    }
}

impl CodeTable {
    /// The table of a function, each entry rounded from f64.
    pub fn of(function: Function, input: Codes, output: Codes) -> Result<Self, DesignError> {
        let (from, to) = (input.coder()?, output.coder()?);
        let codes = 0..from.count();
        let entry = |code: usize| to.code(function.value(from.value(code as u16)));
        Ok(Self {
            input,
            output,
            entries: codes.map(entry).collect(),
        })
    }

    pub(crate) fn ready(&self) -> Result<CodeTableState, DesignError> {
        let (input, output) = (self.input.coder()?, self.output.coder()?);
        if self.entries.len() != input.count() {
            return Err(DesignError::field("entries", "are one a code of the input"));
        }
        Ok(CodeTableState {
            values: self.entries.iter().map(|c| output.value(*c)).collect(),
            input,
        })
    }
}

/// A table of codes, made ready.
#[derive(Debug, Clone)]
pub(crate) struct CodeTableState {
    input: Coder,
    values: Vec<f64>,
}

impl CodeTableState {
    pub(crate) fn evaluate_one(&self, x: f64) -> f64 {
        self.values[usize::from(self.input.code(x))]
    }
}
