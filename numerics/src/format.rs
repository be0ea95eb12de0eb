//! Number formats: the encoding of one element.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::float::FloatLayout;
use crate::integer::IntRange;

/// How a float format spends its top exponent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Specials {
    /// IEEE 754: infinities and NaNs.
    Ieee,
    /// No infinities; NaN where exponent and mantissa are all ones (OCP `fn`).
    NanOnly,
    /// No infinities, one NaN in the place of negative zero (`fnuz`).
    NanAtNegativeZero,
    /// Every code is a finite number (OCP FP6 and FP4).
    Finite,
}

/// The encoding of one element of a tensor. Scales and zero points belong to a
/// [`Quantization`](crate::Quantization), not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Two's complement or unsigned integer of 1 to 64 bits. "int8", "uint4".
    Int {
        /// Width, 1..=64.
        bits: u8,
        /// Two's complement if true.
        signed: bool,
    },
    /// Binary float: one sign bit, `exponent` bits, `mantissa` bits. "fp32", "bf16", "fp8_e4m3fn".
    Float {
        /// Exponent bits, 1..=15.
        exponent: u8,
        /// Stored mantissa bits, 0..=112.
        mantissa: u8,
        /// Exponent bias.
        bias: i16,
        /// Infinities and NaNs.
        specials: Specials,
    },
    /// Power-of-two scale: eight exponent bits, no sign, no mantissa (OCP E8M0).
    E8m0,
    /// The 16 quantiles of a normal distribution (QLoRA's NF4).
    Nf4,
    /// The 4-bit float code book of bitsandbytes (a sign and eight magnitudes).
    Fp4Bnb,
    /// A sign and the binary logarithm of the magnitude in fixed point. "log_i4f3".
    Logarithmic {
        /// Integer bits of the logarithm, its sign among them, 2..=11.
        integer: u8,
        /// Fraction bits of the logarithm, 0..=4.
        fraction: u8,
    },
    /// An index of `bits` bits into a code book that is stored with the tensor. "palette4".
    Palette {
        /// Index width, 1..=8.
        bits: u8,
    },
}

/// A format name that is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{name}` is not a number format{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
pub struct UnknownFormat {
    /// The name as written.
    pub name: String,
    /// The nearest known name.
    pub nearest: Option<String>,
}

const fn float(exponent: u8, mantissa: u8, specials: Specials) -> Format {
    Format::Float {
        exponent,
        mantissa,
        bias: (1 << (exponent - 1)) - 1,
        specials,
    }
}

/// Named float formats: every name stands once.
const FLOATS: [(&str, Format); 12] = [
    ("fp64", float(11, 52, Specials::Ieee)),
    ("fp32", float(8, 23, Specials::Ieee)),
    ("tf32", float(8, 10, Specials::Ieee)),
    ("bf16", float(8, 7, Specials::Ieee)),
    ("fp16", float(5, 10, Specials::Ieee)),
    ("fp8_e5m2", float(5, 2, Specials::Ieee)),
    ("fp8_e4m3fn", float(4, 3, Specials::NanOnly)),
    (
        "fp8_e4m3fnuz",
        Format::Float {
            exponent: 4,
            mantissa: 3,
            bias: 8,
            specials: Specials::NanAtNegativeZero,
        },
    ),
    (
        "fp8_e5m2fnuz",
        Format::Float {
            exponent: 5,
            mantissa: 2,
            bias: 16,
            specials: Specials::NanAtNegativeZero,
        },
    ),
    ("fp6_e3m2fn", float(3, 2, Specials::Finite)),
    ("fp6_e2m3fn", float(2, 3, Specials::Finite)),
    ("fp4_e2m1fn", float(2, 1, Specials::Finite)),
];

impl Format {
    /// 8-bit two's complement.
    pub const INT8: Self = Self::Int {
        bits: 8,
        signed: true,
    };
    /// 32-bit two's complement.
    pub const INT32: Self = Self::Int {
        bits: 32,
        signed: true,
    };
    /// IEEE binary32.
    pub const FP32: Self = float(8, 23, Specials::Ieee);
    /// IEEE binary16.
    pub const FP16: Self = float(5, 10, Specials::Ieee);
    /// bfloat16.
    pub const BF16: Self = float(8, 7, Specials::Ieee);
    /// OCP FP8 E4M3.
    pub const FP8_E4M3FN: Self = float(4, 3, Specials::NanOnly);

    /// Bits of one element as stored in memory. tf32 is stored in 32.
    pub fn bits(self) -> u64 {
        match self {
            Self::Int { bits, .. } | Self::Palette { bits } => u64::from(bits),
            Self::Float {
                exponent: 8,
                mantissa: 10,
                ..
            } => 32,
            Self::Float {
                exponent, mantissa, ..
            } => 1 + u64::from(exponent) + u64::from(mantissa),
            Self::E8m0 => 8,
            Self::Nf4 | Self::Fp4Bnb => 4,
            Self::Logarithmic { integer, fraction } => 1 + u64::from(integer) + u64::from(fraction),
        }
    }

    /// The range of an integer format.
    pub fn int_range(self) -> Option<IntRange> {
        match self {
            Self::Int { bits, signed } => Some(IntRange {
                bits: u32::from(bits),
                signed,
            }),
            _ => None,
        }
    }

    /// Where the parts of a float format's codes lie.
    pub fn float_layout(self) -> Option<FloatLayout> {
        match self {
            Self::Float {
                exponent,
                mantissa,
                bias,
                specials,
            } => Some(FloatLayout {
                exponent: u32::from(exponent),
                mantissa: u32::from(mantissa),
                bias: i32::from(bias),
                specials,
            }),
            _ => None,
        }
    }

    /// Whether this is an integer format.
    pub fn is_int(self) -> bool {
        matches!(self, Self::Int { .. })
    }

    /// Whether this is a float format.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float { .. })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Self::Int { bits, signed: true } => format!("int{bits}"),
            Self::Int {
                bits,
                signed: false,
            } => format!("uint{bits}"),
            Self::E8m0 => "e8m0".into(),
            Self::Nf4 => "nf4".into(),
            Self::Fp4Bnb => "fp4_bnb".into(),
            Self::Logarithmic { integer, fraction } => format!("log_i{integer}f{fraction}"),
            Self::Palette { bits } => format!("palette{bits}"),
            Self::Float {
                exponent,
                mantissa,
                bias,
                specials,
            } => match FLOATS.iter().find(|(_, x)| x == self) {
                Some((name, _)) => (*name).into(),
                None => {
                    let kind = match specials {
                        Specials::Ieee => "",
                        Specials::NanOnly => "fn",
                        Specials::NanAtNegativeZero => "fnuz",
                        Specials::Finite => "finite",
                    };
                    let usual = (1i16 << (exponent - 1)) - 1;
                    let bias = if bias == usual {
                        String::new()
                    } else {
                        format!("_b{bias}")
                    };
                    format!("fp_e{exponent}m{mantissa}{kind}{bias}")
                }
            },
        };
        f.pad(&text)
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;
    fn from_str(s: &str) -> Result<Self, UnknownFormat> {
        if let Some((_, format)) = FLOATS.iter().find(|(name, _)| *name == s) {
            return Ok(*format);
        }
        let width = |prefix: &str, range: std::ops::RangeInclusive<u8>| {
            let digits = s.strip_prefix(prefix)?;
            let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
            digits
                .parse::<u8>()
                .ok()
                .filter(|b| plain && range.contains(b))
        };
        if let Some(bits) = width("uint", 1..=64) {
            return Ok(Self::Int {
                bits,
                signed: false,
            });
        }
        if let Some(bits) = width("int", 1..=64) {
            return Ok(Self::Int { bits, signed: true });
        }
        if let Some(bits) = width("palette", 1..=8) {
            return Ok(Self::Palette { bits });
        }
        match s {
            "e8m0" => Ok(Self::E8m0),
            "nf4" => Ok(Self::Nf4),
            "fp4_bnb" => Ok(Self::Fp4Bnb),
            "f64" => Ok(float(11, 52, Specials::Ieee)),
            "f32" => Ok(Self::FP32),
            "f16" => Ok(Self::FP16),
            _ => parametric_float(s)
                .or_else(|| logarithmic(s))
                .ok_or_else(|| UnknownFormat {
                    name: s.into(),
                    nearest: crate::diagnostic::nearest(
                        s,
                        Self::names().iter().map(String::as_str),
                    ),
                }),
        }
    }
}

/// Reads "fp_e5m3", "fp_e4m3fn", "fp_e5m2fnuz_b16".
fn parametric_float(s: &str) -> Option<Format> {
    let rest = s.strip_prefix("fp_e")?;
    let (exponent, rest) = rest.split_once('m')?;
    let exponent: u8 = exponent.parse().ok().filter(|e| (1..=15).contains(e))?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let mantissa: u8 = rest[..end].parse().ok().filter(|m| *m <= 112)?;
    let (kind, bias) = match rest[end..].split_once("_b") {
        Some((kind, bias)) => (kind, Some(bias.parse::<i16>().ok()?)),
        None => (&rest[end..], None),
    };
    let specials = match kind {
        "" => Specials::Ieee,
        "fn" => Specials::NanOnly,
        "fnuz" => Specials::NanAtNegativeZero,
        "finite" => Specials::Finite,
        _ => return None,
    };
    let usual = (1i16 << (exponent - 1)) - 1;
    Some(Format::Float {
        exponent,
        mantissa,
        bias: bias.unwrap_or(usual),
        specials,
    })
}

/// Reads "log_i4f3".
fn logarithmic(s: &str) -> Option<Format> {
    let (integer, fraction) = s.strip_prefix("log_i")?.split_once('f')?;
    let integer = integer.parse().ok().filter(|i| (2..=11).contains(i))?;
    let fraction = fraction.parse().ok().filter(|f| *f <= 4)?;
    Some(Format::Logarithmic { integer, fraction })
}

impl Format {
    /// The well-known names, for completion and suggestions.
    pub fn names() -> Vec<String> {
        let ints = [2u8, 4, 8, 16, 32].map(|b| format!("int{b}"));
        let uints = [2u8, 4, 8, 16].map(|b| format!("uint{b}"));
        let others = ["e8m0", "nf4", "fp4_bnb", "palette4", "log_i4f3"].map(String::from);
        let floats = FLOATS.iter().map(|(n, _)| (*n).to_string());
        floats.chain(ints).chain(uints).chain(others).collect()
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl schemars::JsonSchema for Format {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Format".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A number format: int1..int64, uint1..uint64, fp32, tf32, bf16, fp16, fp8_e4m3fn, fp8_e5m2, fp6_e3m2fn, fp6_e2m3fn, fp4_e2m1fn, e8m0, nf4, fp4_bnb, palette1..palette8, log_iXfY, or fp_eXmY"
        })
    }
}
