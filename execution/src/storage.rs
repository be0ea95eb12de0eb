//! What numbers become when they are stored in a format, and read back.
//!
//! ```text
//! fp32                       themselves
//! bf16, fp16, tf32, ..       the nearest number of the format, ties to even; beyond its range infinity
//! formats of up to 8 bits    round(x / s) s with s = max |x| / largest of the format, for the tensor; of each output
//!                            channel of a weight with `_pc` (int8_pc), of each entry of the outermost rank of others
//! schemes                    as the scheme says: mxfp4, nvfp4, nf4, int4_g128, q4_0, palette4
//! ```
//!
//! Blocks of a weight run through what each output channel reads (a linear's inputs, a convolution's channels and taps), those of other
//! tensors through each entry of the outermost rank; the last one of a row may be short. Those of nf4 run through all rows
//! without a break, as bitsandbytes has them. Scales that the scheme does not define are f32, and are taken from the numbers
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
    /// One scale, or one for each entry along an axis.
    pub scales: Vec<f32>,
    /// Elements from one entry of that axis to the next.
    inner: usize,
    /// Format of the elements.
    pub format: Format,
}

impl Elements {
    /// The scale of each element.
    pub fn scale_of_each(&self) -> Vec<f32> {
        let scale = |i: usize| self.scales[i / self.inner % self.scales.len()];
        (0..self.values.len()).map(scale).collect()
    }
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
        // Without a zero point an unsigned integer would lose every negative number, one signed bit every positive one.
        if format.int_range().is_some_and(|r| !r.signed || r.bits < 2) {
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

    /// The numbers as they are read back, and how many were beyond the range. Channels and the rows of blocks are the
    /// entries along `axis`.
    pub fn store(&self, x: &Array, axis: usize) -> Result<(Array, u64), StorageError> {
        match self {
            Self::Kept => Ok((x.clone(), 0)),
            Self::Rounded(register) => {
                let mut out = x.clone();
                let round = |v: &mut f32| {
                    let before = *v;
                    *v = register.round(f64::from(before)) as f32;
                    u64::from(before.is_finite() && !v.is_finite())
                };
                let beyond = out.values_mut().par_iter_mut().map(round).sum();
                Ok((out, beyond))
            }
            Self::Scaled { .. } => {
                let mut out = x.clone();
                if let Some(elements) = self.elements(x, axis) {
                    let scaled = elements.values.iter().zip(elements.scale_of_each());
                    for (v, (element, scale)) in out.values_mut().iter_mut().zip(scaled) {
                        *v = element * scale;
                    }
                }
                Ok((out, 0))
            }
            Self::Scheme(scheme) => blocks(scheme, x, axis),
        }
    }

    /// The elements and scales of a tensor, where it is stored under scales of f32: one, or one for each entry along
    /// `axis`.
    pub fn elements(&self, x: &Array, axis: usize) -> Option<Elements> {
        let Self::Scaled {
            codec,
            largest,
            by_channel,
        } = self
        else {
            return None;
        };
        let (channels, inner) = match x.shape().get(axis) {
            Some(channels) if *by_channel => {
                (*channels, x.shape()[axis + 1..].iter().product::<usize>())
            }
            _ => (1, 1),
        };
        let (channels, inner) = (channels.max(1), inner.max(1));
        let mut largest_of = vec![0f32; channels];
        for (i, v) in x.values().iter().enumerate().filter(|(_, v)| v.is_finite()) {
            let most = &mut largest_of[i / inner % channels];
            *most = most.max(v.abs());
        }
        let scales = largest_of.iter().map(|amax| match amax / largest {
            scale if scale > 0.0 => scale,
            _ => 1.0,
        });
        let mut elements = Elements {
            values: x.values().to_vec(),
            scales: scales.collect(),
            inner,
            format: codec.format,
        };
        let scales = elements.scale_of_each();
        let divide = |(v, scale): (&mut f32, &f32)| {
            *v = codec.rounded(f64::from(*v / scale), 0).0 as f32;
        };
        elements.values.par_iter_mut().zip(&scales).for_each(divide);
        Some(elements)
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
}

/// A tensor in a scheme's blocks, which run through each entry along an axis in turn, or through the flattened tensor.
fn blocks(scheme: &Scheme, x: &Array, axis: usize) -> Result<(Array, u64), StorageError> {
    let all = x.values().len();
    let entries = x.shape().get(axis).copied().unwrap_or(1).max(1);
    let inner = x.shape().iter().skip(axis + 1).product::<usize>().max(1);
    let whole_tensor = matches!(scheme, Scheme::Book { .. } | Scheme::Palette { .. });
    let length = if whole_tensor { all } else { all / entries }.max(1);
    // Where each element stands once the axis is outermost.
    let outermost: Vec<usize> = (0..entries)
        .flat_map(|e| (0..all / (entries * inner).max(1)).map(move |o| (o * entries + e) * inner))
        .flat_map(|first| first..first + inner)
        .collect();
    // Zeros behind a row change nothing in its blocks.
    let width = if length == all {
        all
    } else {
        length.next_multiple_of(BLOCK)
    };
    let mut padded = vec![0.0; all.div_ceil(length) * width];
    let place = |i: usize| i / length * width + i % length;
    for (i, from) in outermost.iter().enumerate() {
        padded[place(i)] = x.values()[*from];
    }
    let stored = scheme.quantize(&padded)?;
    let mut out = x.clone();
    for (i, to) in outermost.iter().enumerate() {
        out.values_mut()[*to] = stored.values[place(i)];
    }
    Ok((out, stored.saturated))
}
