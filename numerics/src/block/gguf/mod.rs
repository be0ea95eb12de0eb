//! The block types of GGUF files, byte for byte.
//!
//! | type | elements | bytes | element | number |
//! |---|---|---|---|---|
//! | F16, BF16 | 1 | 2 | the float | itself |
//! | Q4_0, Q5_0 | 32 | 18, 22 | 4, 5 bits, offset 8, 16 | d q |
//! | Q4_1, Q5_1 | 32 | 20, 24 | 4, 5 bits | d q + m |
//! | Q8_0 | 32 | 34 | int8 | d q |
//! | Q2_K | 256 = 16 x 16 | 84 | 2 bits; 4-bit scale and minimum | d s q - d' m |
//! | Q3_K | 256 = 16 x 16 | 110 | 3 bits, offset 4; 6-bit scale, offset 32 | d s q |
//! | Q4_K, Q5_K | 256 = 8 x 32 | 144, 176 | 4, 5 bits; 6-bit scale and minimum | d s q - d' m |
//! | Q6_K | 256 = 16 x 16 | 210 | 6 bits, offset 32; int8 scale | d s q |
//! | IQ4_NL | 32 | 18 | an entry of 16 | d v |
//! | IQ4_XS | 256 = 8 x 32 | 136 | an entry of 16; 6-bit scale, offset 32 | d s v |
//! | TQ1_0 | 256 | 54 | a ternary digit, five in a byte | d q |
//! | TQ2_0 | 256 | 66 | a ternary digit in 2 bits | d q |
//! | MXFP4 | 32 | 17 | E2M1; E8M0 scale | e v |
//! | NVFP4 | 64 = 4 x 16 | 36 | E2M1; unsigned E4M3 scales | e v |
//!
//! d, d', m of blocks are fp16. All products are f32, the block's scale times the sub-block's first. Encoders exist for
//! the types whose encoding their reference defines without a search: all but the K types, IQ4 and NVFP4.
//! Source: llama.cpp, ggml-common.h (structures) and gguf-py 0.19 (`gguf.quants`, the encoders' arithmetic).

mod legacy;
mod supers;
mod tables;

use std::fmt;
use std::str::FromStr;

use crate::conversion::Conversion;
use crate::exact::Exact;
use crate::float::FloatLayout;
use crate::format::Specials;

/// A block type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the module's table says what each is")]
pub enum GgufType {
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
    Iq4Xs,
    Tq1_0,
    Tq2_0,
    Mxfp4,
    Nvfp4,
}

/// Each type's name, number in files, elements and bytes of a block.
const TYPES: [(GgufType, &str, u32, usize, usize); 18] = [
    (GgufType::F16, "F16", 1, 1, 2),
    (GgufType::Bf16, "BF16", 30, 1, 2),
    (GgufType::Q4_0, "Q4_0", 2, 32, 18),
    (GgufType::Q4_1, "Q4_1", 3, 32, 20),
    (GgufType::Q5_0, "Q5_0", 6, 32, 22),
    (GgufType::Q5_1, "Q5_1", 7, 32, 24),
    (GgufType::Q8_0, "Q8_0", 8, 32, 34),
    (GgufType::Q2K, "Q2_K", 10, 256, 84),
    (GgufType::Q3K, "Q3_K", 11, 256, 110),
    (GgufType::Q4K, "Q4_K", 12, 256, 144),
    (GgufType::Q5K, "Q5_K", 13, 256, 176),
    (GgufType::Q6K, "Q6_K", 14, 256, 210),
    (GgufType::Iq4Nl, "IQ4_NL", 20, 32, 18),
    (GgufType::Iq4Xs, "IQ4_XS", 23, 256, 136),
    (GgufType::Tq1_0, "TQ1_0", 34, 256, 54),
    (GgufType::Tq2_0, "TQ2_0", 35, 256, 66),
    (GgufType::Mxfp4, "MXFP4", 39, 32, 17),
    (GgufType::Nvfp4, "NVFP4", 40, 64, 36),
];

/// Why numbers can't be brought to or from a block type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// A length that is no multiple of a block.
    #[error("{0} has blocks of {1} {2}; {3} is no multiple")]
    Length(GgufType, usize, &'static str, usize),
    /// No encoder.
    #[error("{0} is written by a search that its definition leaves open: presil reads it only")]
    DecodeOnly(GgufType),
    /// An unknown name.
    #[error("`{0}` is not a GGUF block type")]
    Unknown(String),
}

impl GgufType {
    /// All types.
    pub fn all() -> impl Iterator<Item = Self> {
        TYPES.into_iter().map(|t| t.0)
    }

    fn row(self) -> (Self, &'static str, u32, usize, usize) {
        // The table has every type in the order of declaration.
        TYPES[self as usize]
    }

    /// The type of a number in a file (`ggml_type`).
    pub fn from_id(id: u32) -> Option<Self> {
        TYPES.into_iter().find(|t| t.2 == id).map(|t| t.0)
    }

    /// The number in files.
    pub fn id(self) -> u32 {
        self.row().2
    }

    /// Elements of a block.
    pub fn block_elements(self) -> usize {
        self.row().3
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    /// The numbers of blocks.
    pub fn dequantize(self, bytes: &[u8]) -> Result<Vec<f32>, GgufError> {
        let (elements, size) = (self.block_elements(), self.block_bytes());
        if !bytes.len().is_multiple_of(size) {
            return Err(GgufError::Length(self, size, "bytes", bytes.len()));
        }
        let mut values = vec![0.0; bytes.len() / size * elements];
        for (block, out) in bytes
            .chunks_exact(size)
            .zip(values.chunks_exact_mut(elements))
        {
            match self {
                Self::F16 => out[0] = half(block),
                Self::Bf16 => out[0] = f32::from_bits(u32::from(word(block)) << 16),
                Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => {
                    legacy::decode(self, block, out);
                }
                Self::Q2K => supers::q2(block, out),
                Self::Q3K => supers::q3(block, out),
                Self::Q4K | Self::Q5K => supers::q4_q5(self == Self::Q5K, block, out),
                Self::Q6K => supers::q6(block, out),
                Self::Iq4Nl => tables::iq4_nl(block, out),
                Self::Iq4Xs => tables::iq4_xs(block, out),
                Self::Tq1_0 => tables::tq1(block, out),
                Self::Tq2_0 => tables::tq2(block, out),
                Self::Mxfp4 => tables::mxfp4(block, out),
                Self::Nvfp4 => tables::nvfp4(block, out),
            }
        }
        Ok(values)
    }

    /// The blocks of numbers.
    pub fn quantize(self, values: &[f32]) -> Result<Vec<u8>, GgufError> {
        let elements = self.block_elements();
        if !values.len().is_multiple_of(elements) {
            return Err(GgufError::Length(self, elements, "elements", values.len()));
        }
        let mut bytes = Vec::with_capacity(values.len() / elements * self.block_bytes());
        for block in values.chunks_exact(elements) {
            match self {
                Self::F16 => bytes.extend(half_bytes(block[0])),
                Self::Bf16 => {
                    let code = BF16.encode(Exact::from(block[0]), &NON_SATURATING, 0).code;
                    bytes.extend((code as u16).to_le_bytes());
                }
                Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => {
                    legacy::encode(self, block, &mut bytes);
                }
                Self::Tq1_0 => tables::encode_tq1(block, &mut bytes),
                Self::Tq2_0 => tables::encode_tq2(block, &mut bytes),
                Self::Mxfp4 => tables::encode_mxfp4(block, &mut bytes),
                Self::Q2K
                | Self::Q3K
                | Self::Q4K
                | Self::Q5K
                | Self::Q6K
                | Self::Iq4Nl
                | Self::Iq4Xs
                | Self::Nvfp4 => return Err(GgufError::DecodeOnly(self)),
            }
        }
        Ok(bytes)
    }
}

impl fmt::Display for GgufType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.row().1)
    }
}

impl FromStr for GgufType {
    type Err = GgufError;

    fn from_str(s: &str) -> Result<Self, GgufError> {
        let found = TYPES.into_iter().find(|t| t.1.eq_ignore_ascii_case(s));
        found
            .map(|t| t.0)
            .ok_or_else(|| GgufError::Unknown(s.into()))
    }
}

const fn ieee(exponent: u32, mantissa: u32) -> FloatLayout {
    FloatLayout {
        exponent,
        mantissa,
        bias: (1 << (exponent - 1)) - 1,
        specials: Specials::Ieee,
    }
}

const FP16: FloatLayout = ieee(5, 10);
const BF16: FloatLayout = ieee(8, 7);

const NON_SATURATING: Conversion = Conversion {
    rounding: crate::Rounding::NearestEven,
    overflow: crate::Overflow::Infinity,
    subnormals: crate::conversion::Subnormals::Keep,
    missing_nan: crate::conversion::MissingNan::Zero,
};

/// The first two bytes as a little-endian word.
fn word(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

/// The first two bytes as fp16.
fn half(bytes: &[u8]) -> f32 {
    FP16.decode(word(bytes).into()).to_f32()
}

/// fp16 to nearest even, overflow to infinity.
fn half_bytes(value: f32) -> [u8; 2] {
    let code = FP16.encode(Exact::from(value), &NON_SATURATING, 0).code;
    (code as u16).to_le_bytes()
}

/// The reciprocal of a scale, 0 of 0.
fn reciprocal(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}
