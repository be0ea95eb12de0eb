//! OCP Microscaling (MX): 32 elements and a power-of-two scale (OCP Microscaling Formats 1.0).
//!
//! ```text
//! x ~ 2^(S - 127) x P         S: E8M0 code of the block, 255 = NaN; P: the element's own number
//! MXINT8: P = q / 64, -127 <= q <= 127
//!
//! scale rule         exponent of the scale, from amax = max |x| and the element's largest number M, E = floor(log2 M)
//! floor              floor(log2 amax) - E                                 OCP 1.0, 6.3
//! ceil               ceil(log2 amax) - E
//! even               floor(log2 (amax + half a unit of the element's mantissa)) - E
//! rceil              ceil(log2 (amax / M))                                the quotient in f32
//! ```
//!
//! An exponent below -127 is -127, one above 127 as the dialect says. Elements are `x / 2^exponent`, rounded and
//! saturated. floor(log2) is read from the exponent bits of f32, subnormal numbers counting as 2^-127.
//!
//! Where the specification is silent implementations differ; a [`Dialect`] says which is followed:
//!
//! | | exact | torchao (0.18) | microxcaling (7bc4195) |
//! |---|---|---|---|
//! | elements at exponent -127 | x / 2^-127 | x / 2^-126; rceil: x | x / 2^-127 |
//! | infinity in a block | elements saturate | elements saturate | all NaN |
//! | floor(log2 amax) | exponent bits | exponent bits | of the f32 logarithm, one too many just below 2^k |

use crate::block::amax;
use crate::codec::{Codec, CodecError};
use crate::conversion::{Conversion, MissingNan, Overflow, Subnormals};
use crate::exact::Exact;
use crate::float::e8m0;
use crate::float::fast::FastFloat;
use crate::format::Format;
use crate::integer::IntRange;
use crate::integer::affine::{Affine, Division};
use crate::integer::fast::FastInt;
use crate::rounding::Rounding;

/// Elements of a block.
pub const BLOCK: usize = 32;

/// How a block's scale follows from its largest magnitude.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ScaleRule {
    /// The exponent of the largest magnitude.
    #[default]
    Floor,
    /// One more unless the largest magnitude is a power of two.
    Ceil,
    /// The exponent of the largest magnitude after rounding to the element's mantissa.
    Even,
    /// The least power of two under which the largest magnitude does not saturate.
    Rceil,
}

/// Whose reading of what the specification leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// Elements are exact quotients.
    #[default]
    Exact,
    /// torchao's kernels.
    Torchao,
    /// Microsoft's microxcaling.
    Microxcaling,
}

/// An MX format: quantizer and dequantizer.
#[derive(Debug, Clone)]
pub struct Mx {
    /// How scales are chosen.
    pub rule: ScaleRule,
    /// Whose reading.
    pub dialect: Dialect,
    element: Element,
    /// Exponent of the element's largest number.
    largest_exponent: i32,
    largest: f32,
    mantissa: u32,
    table: Vec<f32>,
}

#[derive(Debug, Clone)]
enum Element {
    Float(Codec, Option<FastFloat>),
    Int8(Affine, Conversion, Option<FastInt>),
}

/// Why a format can't be the element of an MX block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MxError {
    /// Neither a float of at most 8 bits nor int8.
    #[error(
        "`{0}` is no MX element: write fp8_e4m3fn, fp8_e5m2, fp6_e3m2fn, fp6_e2m3fn, fp4_e2m1fn or int8"
    )]
    Element(Format),
    /// The element's conversion.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl Mx {
    /// The MX format of an element format.
    pub fn new(
        element: Format,
        rule: ScaleRule,
        rounding: Rounding,
        dialect: Dialect,
    ) -> Result<Self, MxError> {
        let conversion = Conversion {
            rounding,
            overflow: Overflow::Saturate,
            subnormals: Subnormals::Keep,
            missing_nan: MissingNan::Zero,
        };
        let (kind, table, mantissa) = match element {
            Format::INT8 => {
                let affine = Affine {
                    range: IntRange {
                        bits: 8,
                        signed: true,
                    },
                    scale: 64f32.recip(),
                    zero_point: 0,
                    narrow: true,
                    // 64 is exact.
                    division: Division::Reciprocal,
                };
                let table = (0..256).map(|code| affine.decode(code)).collect();
                let fast = FastInt::affine(&affine, &conversion);
                (Element::Int8(affine, conversion, fast), table, 6)
            }
            Format::Float { mantissa, .. } if element.bits() <= 8 => {
                let codec = Codec::new(element, conversion)?;
                let table = codec.decode_table();
                let layout = codec.float_layout();
                let fast = layout.and_then(|l| FastFloat::new(l, &conversion));
                (Element::Float(codec, fast), table, u32::from(mantissa))
            }
            _ => return Err(MxError::Element(element)),
        };
        let finite = table.iter().copied().filter(|x: &f32| x.is_finite());
        let largest = finite.fold(0.0, f32::max);
        Ok(Self {
            rule,
            dialect,
            element: kind,
            largest_exponent: exponent_bits(largest),
            largest,
            mantissa,
            table,
        })
    }

    /// Bits of an element's code.
    pub fn code_bits(&self) -> u32 {
        self.table.len().ilog2()
    }

    /// The largest number under a scale.
    pub fn largest(&self, scale: u8) -> f32 {
        self.largest * e8m0::decode(scale).to_f32()
    }

    /// The E8M0 code of a block's scale.
    pub fn scale(&self, values: &[f32]) -> u8 {
        self.scale_of(amax(values))
    }

    fn scale_of(&self, amax: f32) -> u8 {
        if amax.is_nan() || amax.is_infinite() && self.dialect == Dialect::Microxcaling {
            return e8m0::NAN;
        }
        let bits = amax.to_bits();
        let exponent = match self.rule {
            ScaleRule::Floor if self.dialect == Dialect::Microxcaling => {
                let logarithm =
                    f64::from(if amax == 0.0 { f32::MIN_POSITIVE } else { amax }).log2() as f32;
                logarithm.floor() as i32 - self.largest_exponent
            }
            ScaleRule::Floor => exponent_bits(amax) - self.largest_exponent,
            ScaleRule::Ceil => {
                let above = amax.is_finite() && bits & 0x007f_ffff != 0;
                exponent_bits(amax) + i32::from(above) - self.largest_exponent
            }
            ScaleRule::Even => {
                let half = 1 << (22 - self.mantissa);
                (((bits + half) >> 23) as i32).min(255) - 127 - self.largest_exponent
            }
            ScaleRule::Rceil => {
                let quotient = amax / self.largest;
                let above = if quotient < f32::MIN_POSITIVE {
                    quotient > power(-127)
                } else {
                    quotient.is_finite() && quotient.to_bits() & 0x007f_ffff != 0
                };
                (exponent_bits(quotient) + i32::from(above)).min(127)
            }
        };
        (exponent + 127).clamp(0, 254) as u8
    }

    /// What elements are multiplied by before they are rounded, under a scale that is not NaN.
    fn factor(&self, scale: u8) -> f32 {
        match (scale, self.dialect, self.rule) {
            (0, Dialect::Torchao, ScaleRule::Rceil) => 1.0,
            (0, Dialect::Torchao, _) => power(126),
            _ => power(127 - i32::from(scale)),
        }
    }

    /// What is encoded for an element under a NaN scale, where codes mean nothing: zero of its sign, NaN of what is not
    /// finite; by the rceil rule NaN of all.
    fn lost(&self, x: f32) -> f32 {
        if self.rule == ScaleRule::Rceil {
            f32::NAN
        } else if x.is_finite() {
            0f32.copysign(x)
        } else {
            f32::NAN.copysign(x)
        }
    }

    /// Scales and element codes (one a byte) of numbers, block by block; the last block may be short. Codes that have
    /// no place in the slices are not written.
    pub fn quantize(&self, values: &[f32], scales: &mut [u8], codes: &mut [u8]) {
        let blocks = values.chunks(BLOCK).zip(codes.chunks_mut(BLOCK));
        for (first, ((values, codes), scale)) in blocks.zip(scales).enumerate() {
            *scale = self.scale(values);
            let index = (first * BLOCK) as u64;
            let mut scaled = [0f32; BLOCK];
            let whole: Result<&[f32; BLOCK], _> = values.try_into();
            let place: Result<&mut [u8; BLOCK], _> = (&mut *codes).try_into();
            match (whole, place) {
                // Lengths known when this is compiled.
                (Ok(values), Ok(codes)) if *scale != e8m0::NAN => {
                    let factor = self.factor(*scale);
                    scaled = values.map(|x| x * factor);
                    self.encode(&scaled, codes, index);
                }
                _ => {
                    let factor = self.factor(*scale);
                    for (s, x) in scaled.iter_mut().zip(values) {
                        *s = if *scale == e8m0::NAN {
                            self.lost(*x)
                        } else {
                            x * factor
                        };
                    }
                    self.encode(&scaled[..values.len()], codes, index);
                }
            }
        }
    }

    fn encode(&self, scaled: &[f32], codes: &mut [u8], first: u64) {
        match &self.element {
            Element::Float(_, Some(fast)) => fast.encode(scaled, codes),
            Element::Int8(.., Some(fast)) => fast.encode(scaled, codes),
            Element::Float(codec, None) => codec.encode_bytes(scaled, codes, first),
            Element::Int8(affine, conversion, None) => {
                for ((x, code), index) in scaled.iter().zip(codes).zip(first..) {
                    *code = affine.encode(*x, conversion, index).code as u8;
                }
            }
        }
    }

    /// Numbers of element codes under their blocks' scales, in f32.
    pub fn dequantize(&self, scales: &[u8], codes: &[u8], values: &mut [f32]) {
        let blocks = codes.chunks(BLOCK).zip(values.chunks_mut(BLOCK));
        for ((codes, values), scale) in blocks.zip(scales) {
            let scale = e8m0::decode(*scale).to_f32();
            for (code, value) in codes.iter().zip(values) {
                *value = self.number(*code) * scale;
            }
        }
    }

    /// The element's own number of a code.
    fn number(&self, code: u8) -> f32 {
        self.table[usize::from(code) & (self.table.len() - 1)]
    }

    /// A block through the exact path: what [`quantize`](Self::quantize) must equal.
    pub fn quantize_exactly(&self, values: &[f32], first: u64) -> (u8, Vec<u8>) {
        let scale = self.scale(values);
        let factor = Exact::from(self.factor(scale));
        let code = |(x, index): (&f32, u64)| {
            let scaled = if scale == e8m0::NAN {
                Exact::from(self.lost(*x))
            } else {
                product(Exact::from(*x), factor)
            };
            let encoded = match &self.element {
                Element::Float(codec, _) => codec.encode(scaled, index),
                Element::Int8(affine, conversion, _) => {
                    affine.encode(scaled.to_f32(), conversion, index)
                }
            };
            encoded.code as u8
        };
        (scale, values.iter().zip(first..).map(code).collect())
    }
}

/// The product of two f32, exact.
fn product(a: Exact, b: Exact) -> Exact {
    use crate::exact::Magnitude::{Finite, Infinite, Nan};
    let magnitude = match (a.magnitude, b.magnitude) {
        (Nan, _) | (_, Nan) => Nan,
        (Infinite, _) if b.is_zero() => Nan,
        (_, Infinite) if a.is_zero() => Nan,
        (Infinite, _) | (_, Infinite) => Infinite,
        (
            Finite {
                significand: x,
                exponent: e,
            },
            Finite {
                significand: y,
                exponent: f,
            },
        ) => Finite {
            significand: x * y,
            exponent: e + f,
        },
    };
    Exact {
        negative: a.negative != b.negative,
        magnitude,
    }
}

/// The unbiased exponent field: floor(log2 x) of a normal number, -127 below, 128 of infinity.
fn exponent_bits(x: f32) -> i32 {
    (x.to_bits() >> 23 & 0xff) as i32 - 127
}

/// 2^n, n from -127 to 127.
fn power(n: i32) -> f32 {
    Exact::finite(false, 1, n).to_f32()
}
