//! What numbers become when they are stored in a format, and read back.
//!
//! ```text
//! fp32                       themselves
//! bf16, fp16, tf32, ..       the nearest number of the format, ties to even; beyond its range infinity
//! formats of up to 8 bits    round(x / s) s with s = max |x| / largest of the format, for the tensor; of each entry of
//!                            the outermost rank with `_pc` (int8_pc): a linear's or a convolution's output channels
//! schemes                    as the scheme says: mxfp4, nvfp4, nf4, int4_g128, q4_0, palette4
//! ```
//!
//! Blocks run along the rows of a tensor's outermost rank (a linear's inputs, a convolution's channels and taps), the last one
//! of a row may be short; those of nf4 along the flattened tensor, as bitsandbytes has them. Scales that the scheme does not define are f32, and are taken from the numbers
//! themselves (dynamic quantization); integers are symmetric and leave their least code out.

use presil_numerics::block::mx::ScaleRule;
use presil_numerics::block::scheme::{Scheme, SchemeError};
use presil_numerics::codec::CodecError;
use presil_numerics::quantization::Granularity;
use presil_numerics::{Codec, Conversion, Format, Overflow, Quantization};
use rayon::prelude::*;
use thiserror::Error;

use crate::array::Array;
use crate::vector::Register;

/// What rows are filled up to: a multiple of every block but GGUF's super-blocks.
const BLOCK: usize = 256;

/// How a tensor is stored.
#[derive(Debug, Clone, Default)]
pub enum Storage {
    /// In f32.
    #[default]
    Kept,
    /// Each number by itself.
    Rounded(Box<Register>),
    /// Under scales of f32.
    Scaled {
        /// Codes, saturating.
        codec: Box<Codec>,
        /// What the largest magnitude becomes.
        largest: f32,
        /// One scale for each entry of the outermost rank, not for the tensor.
        by_channel: bool,
    },
    /// A scheme.
    Scheme(Box<Scheme>),
}

/// Why a tensor can't be stored so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StorageError {
    /// A format without an encoder.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A scheme without a quantizer.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
}

/// Elements without their scales, where a tensor is stored under scales of f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Elements {
    /// Numbers of the element format: integers, or floats of up to 8 bits.
    pub values: Vec<f32>,
    /// One scale, or one for each entry of the outermost rank.
    pub scales: Vec<f32>,
    /// Format of the elements.
    pub format: Format,
}

impl Storage {
    /// The storage of a name. A name, because two schemes may take the same room and differ in their numbers
    /// (int4_g32 and q4_0).
    pub fn named(name: &str) -> Result<Self, StorageError> {
        if let Some(scheme) = Scheme::named(name, &Conversion::default(), ScaleRule::Floor)
            .ok()
            .flatten()
        {
            return Ok(Self::Scheme(Box::new(scheme)));
        }
        let quantization: Quantization = name.parse().map_err(SchemeError::from)?;
        let format = quantization.format;
        let by_channel = match quantization.scaling {
            None => false,
            Some(s)
                if matches!(s.granularity, Granularity::Channel { axis: 0 })
                    && s.outer.is_none() =>
            {
                true
            }
            Some(_) => return Err(SchemeError::NoQuantizer(name.into()).into()),
        };
        if format == Format::FP32 {
            return Ok(Self::Kept);
        }
        if format.bits() > 8 && !format.is_int() {
            return Ok(Self::Rounded(Box::new(Register::new(format)?)));
        }
        // Without a zero point an unsigned integer would lose every negative number.
        if format.int_range().is_some_and(|r| !r.signed) {
            return Err(SchemeError::NoQuantizer(name.into()).into());
        }
        let conversion = Conversion {
            overflow: Overflow::Saturate,
            ..Conversion::default()
        };
        let codec = Codec::new(format, conversion)?;
        let largest = match format.int_range() {
            Some(range) => range.largest() as f32,
            None => codec.rounded(f64::INFINITY, 0).0 as f32,
        };
        Ok(Self::Scaled {
            codec: Box::new(codec),
            largest,
            by_channel,
        })
    }

    /// Whether numbers are left as they are.
    pub fn keeps(&self) -> bool {
        matches!(self, Self::Kept)
    }

    /// The numbers as they are read back, and how many were beyond the range.
    pub fn store(&self, x: &Array) -> Result<(Array, u64), StorageError> {
        let mut out = x.clone();
        let mut beyond = 0;
        match self {
            Self::Kept => {}
            Self::Rounded(register) => {
                let round = |v: &mut f32| {
                    let before = *v;
                    *v = register.round(f64::from(before)) as f32;
                    u64::from(before.is_finite() && !v.is_finite())
                };
                beyond = out.values_mut().par_iter_mut().map(round).sum();
            }
            Self::Scaled {
                codec,
                largest,
                by_channel,
            } => {
                let run = self.run(x, *by_channel);
                for values in out.values_mut().chunks_mut(run) {
                    let scale = scale(values, *largest);
                    values.par_iter_mut().for_each(|v| {
                        *v = codec.rounded(f64::from(*v / scale), 0).0 as f32 * scale;
                    });
                }
            }
            Self::Scheme(scheme) => {
                let row = self.run(
                    x,
                    !matches!(**scheme, Scheme::Book { .. } | Scheme::Palette { .. }),
                );
                let whole = row.next_multiple_of(BLOCK);
                let rows = x.values().chunks(row);
                // Zeros behind a row change nothing in its blocks.
                let padded = rows.flat_map(|r| {
                    r.iter()
                        .copied()
                        .chain(std::iter::repeat_n(0.0, whole - r.len()))
                });
                let padded: Vec<f32> = if row == x.values().len() {
                    x.values().to_vec()
                } else {
                    padded.collect()
                };
                let stored = scheme.quantize(&padded)?;
                let width = if row == x.values().len() { row } else { whole };
                for (out, stored) in out
                    .values_mut()
                    .chunks_mut(row)
                    .zip(stored.values.chunks(width))
                {
                    out.copy_from_slice(&stored[..out.len()]);
                }
                beyond = stored.saturated;
            }
        }
        Ok((out, beyond))
    }

    /// The elements and scales of a tensor, where it is stored under scales of f32.
    pub fn elements(&self, x: &Array) -> Option<Elements> {
        let Self::Scaled {
            codec,
            largest,
            by_channel,
        } = self
        else {
            return None;
        };
        let run = self.run(x, *by_channel);
        let mut values = x.values().to_vec();
        let mut scales = Vec::new();
        for values in values.chunks_mut(run) {
            let scale = scale(values, *largest);
            for v in values.iter_mut() {
                *v = codec.rounded(f64::from(*v / scale), 0).0 as f32;
            }
            scales.push(scale);
        }
        Some(Elements {
            values,
            scales,
            format: codec.format,
        })
    }

    /// The format of single elements; `None` of schemes.
    pub fn element_format(&self) -> Option<Format> {
        match self {
            Self::Kept => Some(Format::FP32),
            Self::Rounded(register) => Some(register.format),
            Self::Scaled { codec, .. } => Some(codec.format),
            Self::Scheme(_) => None,
        }
    }

    fn run(&self, x: &Array, by_channel: bool) -> usize {
        let all = x.values().len();
        let channels = x.shape().first().copied().unwrap_or(1).max(1);
        (if by_channel { all / channels } else { all }).max(1)
    }
}

/// The scale under which the largest magnitude becomes `largest`; 1 where all are zero.
fn scale(values: &[f32], largest: f32) -> f32 {
    let amax = values
        .iter()
        .filter(|v| v.is_finite())
        .fold(0f32, |m, v| m.max(v.abs()));
    let scale = amax / largest;
    if scale > 0.0 { scale } else { 1.0 }
}
