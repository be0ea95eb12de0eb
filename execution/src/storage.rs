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
//! Blocks run along the flattened tensor. Scales that the scheme does not define are f32, and are taken from the numbers
//! themselves (dynamic quantization); integers are symmetric and leave their least code out.

use presil_numerics::block::mx::ScaleRule;
use presil_numerics::block::scheme::{Scheme, SchemeError};
use presil_numerics::codec::CodecError;
use presil_numerics::quantization::Granularity;
use presil_numerics::{Codec, Conversion, Exact, Format, Overflow, Quantization};
use rayon::prelude::*;
use thiserror::Error;

use crate::array::Array;
use crate::vector::Register;

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

/// Integer codes and their scales, where a tensor is stored so.
#[derive(Debug, Clone, PartialEq)]
pub struct Codes {
    /// The codes.
    pub codes: Vec<i32>,
    /// One scale, or one for each entry of the outermost rank.
    pub scales: Vec<f32>,
}

impl Storage {
    /// The storage of a quantization.
    pub fn new(quantization: Quantization) -> Result<Self, StorageError> {
        let format = quantization.format;
        let by_channel = match quantization.scaling {
            None => false,
            Some(s)
                if matches!(s.granularity, Granularity::Channel { axis: 0 })
                    && s.outer.is_none() =>
            {
                true
            }
            Some(_) => {
                let scheme = Scheme::named(
                    &quantization.to_string(),
                    &Conversion::default(),
                    ScaleRule::Floor,
                )?;
                let none = || SchemeError::NoQuantizer(quantization.to_string());
                return Ok(Self::Scheme(Box::new(scheme.ok_or_else(none)?)));
            }
        };
        if let Some(scheme) = Scheme::named(
            &quantization.to_string(),
            &Conversion::default(),
            ScaleRule::Floor,
        )
        .ok()
        .flatten()
        {
            return Ok(Self::Scheme(Box::new(scheme)));
        }
        if format == Format::FP32 {
            return Ok(Self::Kept);
        }
        if format.bits() > 8 && !format.is_int() {
            return Ok(Self::Rounded(Box::new(Register::new(format)?)));
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
                let stored = scheme.quantize(x.values())?;
                out.values_mut().copy_from_slice(&stored.values);
                beyond = stored.saturated;
            }
        }
        Ok((out, beyond))
    }

    /// The codes of a tensor that is stored as integers under scales.
    pub fn codes(&self, x: &Array) -> Option<Codes> {
        let Self::Scaled {
            codec,
            largest,
            by_channel,
        } = self
        else {
            return None;
        };
        codec.format.int_range().filter(|r| r.signed)?;
        let run = self.run(x, *by_channel);
        let mut codes = vec![0; x.values().len()];
        let mut scales = Vec::new();
        for (values, codes) in x.values().chunks(run).zip(codes.chunks_mut(run)) {
            let scale = scale(values, *largest);
            for (v, c) in values.iter().zip(codes) {
                let code = codec.encode(Exact::from(*v / scale), 0).code;
                *c = codec.decode(code).to_f64() as i32;
            }
            scales.push(scale);
        }
        Some(Codes { codes, scales })
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
