//! Codes of one element of any format: [`Codec`] is a [`Format`] and a [`Conversion`] that fit each other.

use thiserror::Error;

use crate::codebook::CodeBook;
use crate::conversion::{Conversion, Encoded, Outcome, Overflow};
use crate::exact::Exact;
use crate::float::{FloatLayout, e8m0};
use crate::format::Format;
use crate::integer::IntRange;
use crate::logarithmic::Logarithmic;
use crate::rounding::Rounding;

/// Why numbers can't be written in a format under a conversion.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CodecError {
    /// A palette's numbers are those of its code book.
    #[error("`{0}` has no numbers of its own: give its code book")]
    NeedsCodeBook(Format),
    /// Only integers wrap.
    #[error("`{0}` does not wrap: only integers do; choose saturate, nonfinite or nan")]
    WrapsOnlyIntegers(Format),
    /// A code book knows the nearest entry only.
    #[error("`{0}` is a code book: numbers become the nearest entry (rne), not by `{1}`")]
    NearestOnly(Format, Rounding),
}

/// One element's encoder and decoder.
#[derive(Debug, Clone)]
pub struct Codec {
    /// The format.
    pub format: Format,
    /// How numbers become codes.
    pub conversion: Conversion,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Int(IntRange),
    Float(FloatLayout),
    E8m0,
    CodeBook(CodeBook),
    Logarithmic(Logarithmic),
}

impl Codec {
    /// The codec of a format.
    pub fn new(format: Format, conversion: Conversion) -> Result<Self, CodecError> {
        let kind = match format {
            Format::Int { .. } => match format.int_range() {
                Some(range) => Kind::Int(range),
                None => return Err(CodecError::NeedsCodeBook(format)),
            },
            Format::Float { .. } => match format.float_layout() {
                Some(layout) => Kind::Float(layout),
                None => return Err(CodecError::NeedsCodeBook(format)),
            },
            Format::E8m0 => Kind::E8m0,
            Format::Nf4 => Kind::CodeBook(CodeBook::nf4()),
            Format::Fp4Bnb => Kind::CodeBook(CodeBook::fp4()),
            Format::Logarithmic { integer, fraction } => {
                Kind::Logarithmic(Logarithmic::new(integer, fraction))
            }
            Format::Palette { .. } => return Err(CodecError::NeedsCodeBook(format)),
        };
        if conversion.overflow == Overflow::Wrap && !matches!(kind, Kind::Int(_)) {
            return Err(CodecError::WrapsOnlyIntegers(format));
        }
        if conversion.rounding != Rounding::NearestEven && matches!(kind, Kind::CodeBook(_)) {
            return Err(CodecError::NearestOnly(format, conversion.rounding));
        }
        Ok(Self {
            format,
            conversion,
            kind,
        })
    }

    /// The code of a number. `index` numbers the values of a tensor for stochastic rounding.
    pub fn encode(&self, value: Exact, index: u64) -> Encoded {
        match &self.kind {
            Kind::Int(range) => range.encode(value, &self.conversion, index),
            Kind::Float(layout) => layout.encode(value, &self.conversion, index),
            Kind::E8m0 => e8m0::encode(value, &self.conversion, index),
            Kind::CodeBook(book) => {
                let code = book.nearest(value.to_f32());
                Encoded {
                    code: u128::from(code),
                    outcome: book.outcome(value.to_f32(), code),
                }
            }
            Kind::Logarithmic(log) => log.encode(value, &self.conversion, index),
        }
    }

    /// What a code stands for.
    pub fn decode(&self, code: u128) -> Exact {
        match &self.kind {
            Kind::Int(range) => range.decode(code),
            Kind::Float(layout) => layout.decode(code),
            Kind::E8m0 => e8m0::decode(code as u8),
            Kind::CodeBook(book) => Exact::from(book.value(code as u8)),
            Kind::Logarithmic(log) => log.decode(code),
        }
    }

    /// Bits of a code in memory's terms of this codec: those of the format, tf32's 19.
    pub fn code_bits(&self) -> u32 {
        match &self.kind {
            Kind::Float(layout) => 1 + layout.exponent + layout.mantissa,
            _ => self.format.bits() as u32,
        }
    }

    /// The float layout, where the format is a float.
    pub(crate) fn float_layout(&self) -> Option<FloatLayout> {
        match self.kind {
            Kind::Float(layout) => Some(layout),
            _ => None,
        }
    }

    /// The integer range, where the format is an integer.
    pub(crate) fn int_range(&self) -> Option<IntRange> {
        match self.kind {
            Kind::Int(range) => Some(range),
            _ => None,
        }
    }

    /// What a number becomes, as the nearest f64 of its code's value, and the outcome.
    pub fn rounded(&self, value: f64, index: u64) -> (f64, Outcome) {
        let Encoded { code, outcome } = self.encode(Exact::from(value), index);
        (self.decode(code).to_f64(), outcome)
    }
}
