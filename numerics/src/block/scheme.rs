//! A tensor under a named scheme: "mxfp4", "nvfp4", "nf4", "nf4_dq", "int4_g128", "q4_0".
//!
//! The names are those of [`Quantization`]; here they quantize numbers. Elements are in blocks along the flattened
//! tensor. What is stored is the code of each element and the arrays beside them; a GGUF type stores its own bytes.

use std::fmt;

use thiserror::Error;

use crate::block::gguf::{GgufError, GgufType};
use crate::block::group::{GroupError, GroupInt, Groups};
use crate::block::mx::{self, Dialect, Mx, MxError, ScaleRule};
use crate::block::nvfp4::{self, Nvfp4};
use crate::codebook::{CodeBook, nf4, palette};
use crate::conversion::Conversion;
use crate::format::{Format, UnknownFormat};
use crate::quantization::{Granularity, OuterScale, Quantization, Scaling, Sparsity};

/// A scheme that quantizes numbers.
#[derive(Debug, Clone)]
pub enum Scheme {
    /// OCP Microscaling.
    Mx(Mx),
    /// NVFP4 under the tensor's own scale.
    Nvfp4(Nvfp4),
    /// A code book under block scales, the scales quantized once more or not.
    Book {
        /// The code book.
        book: CodeBook,
        /// Whether scales are quantized too.
        double: bool,
    },
    /// Integers in groups.
    Group {
        /// How groups are stored.
        group: GroupInt,
        /// Bits of an integer.
        bits: u32,
        /// Elements of a group.
        size: usize,
    },
    /// Indices into a palette fitted to the tensor.
    Palette {
        /// Bits of an index.
        bits: u8,
    },
    /// A block type of GGUF files.
    Gguf(GgufType),
}

/// Why a name quantizes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SchemeError {
    /// No such name.
    #[error(transparent)]
    Unknown(#[from] UnknownFormat),
    /// An element that MX has not.
    #[error(transparent)]
    Mx(#[from] MxError),
    /// A group that can't be.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// A tensor that a GGUF type can't hold.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A scheme that costs are known of, but no arithmetic.
    #[error("`{0}` has no quantizer: only its storage is known")]
    NoQuantizer(String),
    /// A rounding that the scheme's definition does not leave open.
    #[error("`{0}` is defined with one rounding; `--round` does not change it")]
    FixedRounding(String),
    /// A palette without one finite number.
    #[error("the tensor has no finite number to fit a palette to")]
    NothingToFit,
}

/// An array beside the codes.
#[derive(Debug, Clone, PartialEq)]
pub enum Side {
    /// Codes.
    Bytes(Vec<u8>),
    /// Numbers.
    Floats(Vec<f32>),
}

/// A quantized tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// A code for each element; of a GGUF type its bytes.
    pub codes: Vec<u8>,
    /// Bits of a code.
    pub code_bits: u32,
    /// Elements of a block; 0 for the whole tensor.
    pub block: usize,
    /// Scales and what else is stored, by name.
    pub sides: Vec<(&'static str, Side)>,
    /// The numbers as they are read back.
    pub values: Vec<f32>,
    /// Numbers beyond the largest one under their block's scale, where the scheme lets that be (MX, NVFP4).
    pub saturated: u64,
}

impl Scheme {
    /// The scheme of a name, or `None` where it is the name of a plain element format. The rule is that of MX scales.
    pub fn named(
        name: &str,
        conversion: &Conversion,
        rule: ScaleRule,
    ) -> Result<Option<Self>, SchemeError> {
        let fixed = || {
            if conversion.rounding == crate::Rounding::NearestEven {
                Ok(())
            } else {
                Err(SchemeError::FixedRounding(name.into()))
            }
        };
        if let Ok(kind) = name.parse::<GgufType>()
            && !matches!(
                kind,
                GgufType::F16 | GgufType::Bf16 | GgufType::Mxfp4 | GgufType::Nvfp4
            )
        {
            fixed()?;
            return Ok(Some(Self::Gguf(kind)));
        }
        let quantization: Quantization = name.parse()?;
        let none = || SchemeError::NoQuantizer(name.into());
        if quantization.sparsity != Sparsity::Dense {
            return Err(none());
        }
        if let Format::Palette { bits } = quantization.format {
            fixed()?;
            return Ok(Some(Self::Palette { bits }));
        }
        let Some(scaling) = quantization.scaling else {
            return Ok(None);
        };
        let scheme = match (quantization.format, scaling) {
            (
                element,
                Scaling {
                    scale: Format::E8m0,
                    ..
                },
            ) => Self::Mx(Mx::new(element, rule, conversion.rounding, Dialect::Exact)?),
            (Format::Nf4, Scaling { outer, .. }) => {
                fixed()?;
                Self::Book {
                    book: CodeBook::nf4(),
                    double: outer.is_some(),
                }
            }
            (
                Format::Float { .. },
                Scaling {
                    outer: Some(OuterScale { blocks: 0, .. }),
                    ..
                },
            ) => {
                fixed()?;
                Self::Nvfp4(Nvfp4::new())
            }
            (
                element @ Format::Int { bits: 2..=8, .. },
                Scaling {
                    granularity: Granularity::Block { size, .. },
                    scale,
                    outer: None,
                    ..
                },
            ) => {
                let signed = matches!(element, Format::Int { signed: true, .. });
                let size = size as usize;
                Self::Group {
                    group: GroupInt::new(element, size, scale, !signed, *conversion)?,
                    bits: element.bits() as u32,
                    size,
                }
            }
            _ => return Err(none()),
        };
        Ok(Some(scheme))
    }

    /// Quantizes a tensor.
    pub fn quantize(&self, values: &[f32]) -> Result<Stored, SchemeError> {
        let mut codes = vec![0u8; values.len()];
        let mut back = vec![0f32; values.len()];
        let stored = match self {
            Self::Mx(mx) => {
                let mut scales = vec![0; values.len().div_ceil(mx::BLOCK)];
                mx.quantize(values, &mut scales, &mut codes);
                mx.dequantize(&scales, &codes, &mut back);
                let largest = scales.iter().map(|s| mx.largest(*s));
                let saturated = beyond(values, mx::BLOCK, largest);
                let sides = vec![("scales", Side::Bytes(scales))];
                Stored {
                    codes,
                    code_bits: mx.code_bits(),
                    block: mx::BLOCK,
                    sides,
                    values: back,
                    saturated,
                }
            }
            Self::Nvfp4(nvfp4) => {
                let mut scales = vec![0; values.len().div_ceil(nvfp4::BLOCK)];
                let tensor = Nvfp4::tensor_scale(values);
                nvfp4.quantize(values, Some(tensor), &mut scales, &mut codes);
                nvfp4.dequantize(&scales, &codes, Some(tensor), &mut back);
                let largest = scales.iter().map(|s| nvfp4.largest(*s, tensor));
                let saturated = beyond(values, nvfp4::BLOCK, largest);
                let sides = vec![
                    ("scales", Side::Bytes(scales)),
                    ("tensor_scale", Side::Floats(vec![tensor])),
                ];
                Stored {
                    codes,
                    code_bits: 4,
                    block: nvfp4::BLOCK,
                    sides,
                    values: back,
                    saturated,
                }
            }
            Self::Book { book, double } => {
                let (codes, scales) = nf4::quantize(book, values, nf4::BLOCK);
                let (read, sides) = if *double {
                    let double = nf4::DoubleQuantized::new(&scales);
                    let read = double.scales();
                    let sides = vec![
                        ("scales", Side::Bytes(double.codes)),
                        ("outer_scales", Side::Floats(double.outer)),
                        ("offset", Side::Floats(vec![double.offset])),
                    ];
                    (read, sides)
                } else {
                    (scales.clone(), vec![("scales", Side::Floats(scales))])
                };
                let values = nf4::dequantize(book, &codes, &read, nf4::BLOCK);
                Stored {
                    codes,
                    code_bits: 4,
                    block: nf4::BLOCK,
                    sides,
                    values,
                    saturated: 0,
                }
            }
            Self::Group { group, bits, size } => {
                let groups = group.quantize(values);
                let values = group.dequantize(&groups);
                let Groups {
                    codes,
                    scales,
                    zero_points,
                } = groups;
                let mut sides = vec![("scales", Side::Floats(scales))];
                if !zero_points.is_empty() {
                    let zeros = zero_points.into_iter().map(|z| z as u8).collect();
                    sides.push(("zero_points", Side::Bytes(zeros)));
                }
                let codes = codes.into_iter().map(|c| c as u8).collect();
                Stored {
                    codes,
                    code_bits: *bits,
                    block: *size,
                    sides,
                    values,
                    saturated: 0,
                }
            }
            Self::Palette { bits } => {
                let book = palette::fit(values, *bits).ok_or(SchemeError::NothingToFit)?;
                let codes: Vec<u8> = values.iter().map(|x| book.nearest(*x)).collect();
                let values = codes.iter().map(|c| book.value(*c)).collect();
                let sides = vec![("palette", Side::Floats(book.values().to_vec()))];
                Stored {
                    codes,
                    code_bits: (*bits).into(),
                    block: 0,
                    sides,
                    values,
                    saturated: 0,
                }
            }
            Self::Gguf(kind) => {
                let codes = kind.quantize(values)?;
                let values = kind.dequantize(&codes)?;
                Stored {
                    codes,
                    code_bits: 8,
                    block: kind.block_elements(),
                    sides: Vec::new(),
                    values,
                    saturated: 0,
                }
            }
        };
        Ok(stored)
    }
}

/// Finite numbers above the largest of their block.
fn beyond(values: &[f32], block: usize, largest: impl Iterator<Item = f32>) -> u64 {
    let blocks = values.chunks(block).zip(largest);
    let count = |(values, largest): (&[f32], f32)| {
        let above = values.iter().filter(|x| x.abs() > largest);
        above.count() as u64
    };
    blocks.map(count).sum()
}

impl Stored {
    /// The codes at their width, the first in the lowest bits of the first byte; a GGUF type's bytes as they are.
    pub fn packed(&self) -> Vec<u8> {
        let bits = self.code_bits as usize;
        if bits >= 8 {
            return self.codes.clone();
        }
        let mut bytes = vec![0u8; (self.codes.len() * bits).div_ceil(8)];
        for (i, code) in self.codes.iter().enumerate() {
            let at = i * bits;
            let wide = u16::from(*code) << (at % 8);
            bytes[at / 8] |= wide as u8;
            if let Some(next) = bytes.get_mut(at / 8 + 1) {
                *next |= (wide >> 8) as u8;
            }
        }
        bytes
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mx(_) => f.pad("MX"),
            Self::Nvfp4(_) => f.pad("NVFP4"),
            Self::Book { .. } => f.pad("code book"),
            Self::Group { .. } => f.pad("integer groups"),
            Self::Palette { .. } => f.pad("palette"),
            Self::Gguf(kind) => kind.fmt(f),
        }
    }
}
