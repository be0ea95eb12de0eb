//! Quantization: how the elements of a tensor are stored, with all that travels beside them.
//!
//! Storage is exact and a function of shape and quantization:
//!
//! ```text
//! payload  = elements x format bits            (x kept / group under N:M sparsity)
//! scales   = blocks x scale bits  + super-blocks x super-scale bits
//! zeros    = blocks x zero-point bits
//! metadata = N:M index bits, code books
//! blocks   = product over axes of ceil(extent / block extent)   (per tensor: 1, per channel: extent of the axis)
//! ```

use std::fmt;
use std::str::FromStr;

use crate::format::{Format, UnknownFormat};
use crate::units::Bits;

/// Along what the scales repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// One scale for the whole tensor.
    Tensor,
    /// One scale for each index of an axis. Negative axes count from the last.
    Channel {
        /// The axis.
        axis: i8,
    },
    /// One scale for each run of `size` elements along an axis.
    Block {
        /// The axis. Negative axes count from the last.
        axis: i8,
        /// Elements of a block.
        size: u32,
    },
}

/// A format whose elements are scaled: how the scales are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scaling {
    /// Along what the scales repeat.
    pub granularity: Granularity,
    /// Format of a scale.
    pub scale: Format,
    /// Format of a zero point or minimum, where there is one per scale.
    pub zero_point: Option<Format>,
    /// Scales of the scales: one more set for each run of so many blocks (GGUF K-quants, double quantization).
    pub outer: Option<OuterScale>,
}

/// The second level of a two-level scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OuterScale {
    /// Blocks of the inner level that share one outer scale; 0 for one in the whole tensor.
    pub blocks: u32,
    /// Bits stored for each outer group (all its scales and minima together).
    pub bits: u32,
}

/// Sparsity that the stored form exploits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sparsity {
    /// All elements are stored.
    Dense,
    /// `kept` of every `group` consecutive elements are stored, with an index of ceil(log2 group) bits each.
    NOfM {
        /// Elements kept.
        kept: u8,
        /// Elements of a group.
        group: u8,
    },
}

/// How a tensor's elements are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quantization {
    /// The encoding of one element.
    pub format: Format,
    /// Scales, if the format is scaled. `None` also for integers whose scale is a constant of the graph.
    pub scaling: Option<Scaling>,
    /// Stored sparsity.
    pub sparsity: Sparsity,
}

/// Bits that a tensor takes, by what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Storage {
    /// Elements.
    pub payload: Bits,
    /// Scales of all levels.
    pub scales: Bits,
    /// Zero points.
    pub zero_points: Bits,
    /// Sparsity indices and code books.
    pub metadata: Bits,
}

impl Storage {
    /// All bits.
    pub fn total(&self) -> Bits {
        Bits(
            self.payload
                .0
                .saturating_add(self.scales.0)
                .saturating_add(self.zero_points.0)
                .saturating_add(self.metadata.0),
        )
    }
}

impl From<Format> for Quantization {
    fn from(format: Format) -> Self {
        Self {
            format,
            scaling: None,
            sparsity: Sparsity::Dense,
        }
    }
}

const fn int(bits: u8) -> Format {
    Format::Int { bits, signed: true }
}

/// Schemes with a name of their own. Sources: OCP Microscaling Formats v1.0 (mx*), NVIDIA (nvfp4),
/// QLoRA (nf4), llama.cpp's ggml-common.h block structures (q*_0, q*_1, q*_k).
fn named(name: &str) -> Option<Quantization> {
    let fp = |n: &str| n.parse::<Format>().ok();
    let block = |format, size, scale, zero_point, outer| {
        let granularity = Granularity::Block { axis: -1, size };
        let scaling = Some(Scaling {
            granularity,
            scale,
            zero_point,
            outer,
        });
        Some(Quantization {
            format,
            scaling,
            sparsity: Sparsity::Dense,
        })
    };
    let outer = |blocks, bits| Some(OuterScale { blocks, bits });
    let six = Format::Int {
        bits: 6,
        signed: false,
    };
    match name {
        "mxfp8_e4m3" | "mxfp8" => block(fp("fp8_e4m3fn")?, 32, Format::E8m0, None, None),
        "mxfp8_e5m2" => block(fp("fp8_e5m2")?, 32, Format::E8m0, None, None),
        "mxfp6_e3m2" => block(fp("fp6_e3m2fn")?, 32, Format::E8m0, None, None),
        "mxfp6_e2m3" => block(fp("fp6_e2m3fn")?, 32, Format::E8m0, None, None),
        "mxfp4" => block(fp("fp4_e2m1fn")?, 32, Format::E8m0, None, None),
        "mxint8" => block(Format::INT8, 32, Format::E8m0, None, None),
        "nvfp4" => block(fp("fp4_e2m1fn")?, 16, fp("fp8_e4m3fn")?, None, outer(0, 32)),
        "nf4" => block(Format::Nf4, 64, Format::FP32, None, None),
        "nf4_dq" => block(Format::Nf4, 64, Format::INT8, None, outer(256, 32)),
        "q4_0" => block(int(4), 32, Format::FP16, None, None),
        "q4_1" => block(int(4), 32, Format::FP16, Some(Format::FP16), None),
        "q5_0" => block(int(5), 32, Format::FP16, None, None),
        "q5_1" => block(int(5), 32, Format::FP16, Some(Format::FP16), None),
        "q8_0" => block(Format::INT8, 32, Format::FP16, None, None),
        // Super-blocks of 256 elements: 16 x 16 (q2, q3, q6) or 8 x 32 (q4, q5).
        "q2_k" => block(int(2), 16, int(4), Some(int(4)), outer(16, 32)),
        "q3_k" => block(int(3), 16, int(6), None, outer(16, 16)),
        "q4_k" => block(int(4), 32, six, Some(six), outer(8, 32)),
        "q5_k" => block(int(5), 32, six, Some(six), outer(8, 32)),
        "q6_k" => block(int(6), 16, Format::INT8, None, outer(16, 16)),
        _ => None,
    }
}

impl Quantization {
    /// The well-known scheme names (format names aside).
    pub const NAMES: [&'static str; 21] = [
        "mxfp8",
        "mxfp8_e4m3",
        "mxfp8_e5m2",
        "mxfp6_e3m2",
        "mxfp6_e2m3",
        "mxfp4",
        "mxint8",
        "nvfp4",
        "nf4",
        "nf4_dq",
        "q4_0",
        "q4_1",
        "q5_0",
        "q5_1",
        "q8_0",
        "q2_k",
        "q3_k",
        "q4_k",
        "q5_k",
        "q6_k",
        "int4_g128",
    ];

    /// The exact storage of a tensor of a shape, or `None` where it overflows 64 bits.
    pub fn storage(&self, shape: &[u64]) -> Option<Storage> {
        let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d))?;
        let width = self.format.bits();
        let (payload, mut metadata) = match self.sparsity {
            Sparsity::Dense => (elements.checked_mul(width)?, 0),
            Sparsity::NOfM { kept, group } => {
                let last = shape.last().copied().unwrap_or(1).max(1);
                let groups =
                    (elements / last).checked_mul(last.div_ceil(u64::from(group.max(1))))?;
                let stored = groups.checked_mul(u64::from(kept))?;
                let index = u64::from(group.max(2)).next_power_of_two().ilog2();
                (
                    stored.checked_mul(width)?,
                    stored.checked_mul(u64::from(index))?,
                )
            }
        };
        let mut storage = Storage {
            payload: Bits(payload),
            ..Storage::default()
        };
        let mut blocks = 1u64;
        if let Some(s) = self.scaling {
            blocks = s.granularity.blocks(shape)?;
            let mut scales = blocks.checked_mul(s.scale.bits())?;
            if let Some(o) = s.outer {
                let groups = if o.blocks == 0 {
                    1
                } else {
                    blocks.div_ceil(u64::from(o.blocks))
                };
                scales = scales.checked_add(groups.checked_mul(u64::from(o.bits))?)?;
            }
            storage.scales = Bits(scales);
            storage.zero_points = Bits(match s.zero_point {
                Some(z) => blocks.checked_mul(z.bits())?,
                None => 0,
            });
        }
        if let Format::Palette { bits } = self.format {
            // A code book of 2^bits entries of 16 bits for each block.
            metadata = metadata.checked_add(blocks.checked_mul((1u64 << bits) * 16)?)?;
        }
        storage.metadata = Bits(metadata);
        storage
            .payload
            .0
            .checked_add(storage.scales.0)?
            .checked_add(storage.zero_points.0)?
            .checked_add(metadata)?;
        Some(storage)
    }

    /// Mean bits of an element of a large tensor, scales and metadata included.
    pub fn bits_per_element(&self) -> f64 {
        let shape = [4096, 4096];
        self.storage(&shape)
            .map_or(f64::NAN, |s| s.total().0 as f64 / (4096.0 * 4096.0))
    }
}

impl Granularity {
    /// Number of scales that a tensor of a shape has, or `None` on overflow.
    fn blocks(self, shape: &[u64]) -> Option<u64> {
        let axis_of = |axis: i8| {
            let rank = shape.len() as i64;
            let at = if axis < 0 {
                rank + i64::from(axis)
            } else {
                i64::from(axis)
            };
            usize::try_from(at).ok().filter(|a| *a < shape.len())
        };
        match self {
            Self::Tensor => Some(1),
            Self::Channel { axis } => Some(axis_of(axis).map_or(1, |a| shape[a])),
            Self::Block { axis, size } => {
                let Some(at) = axis_of(axis) else {
                    return Some(1);
                };
                let others = shape.iter().enumerate().filter(|(i, _)| *i != at);
                let rest = others.map(|(_, d)| *d).try_fold(1u64, u64::checked_mul)?;
                rest.checked_mul(shape[at].div_ceil(u64::from(size.max(1))))
            }
        }
    }
}

impl FromStr for Quantization {
    type Err = UnknownFormat;
    /// Reads a format name ("int8"), a scheme ("mxfp4", "q4_k"), groups ("int4_g128", "int8_pc" per channel)
    /// or N:M sparsity behind any of these ("int8_2:4").
    fn from_str(s: &str) -> Result<Self, UnknownFormat> {
        if let Some(q) = named(s) {
            return Ok(q);
        }
        if let Some((head, tail)) = s.rsplit_once('_') {
            // One sparsity at most: what stands before it must have none.
            if !head.contains(':')
                && let Some((kept, group)) = tail.split_once(':')
                && let (Ok(kept), Ok(group)) = (kept.parse::<u8>(), group.parse::<u8>())
                && kept > 0
                && kept <= group
            {
                return Ok(Self {
                    sparsity: Sparsity::NOfM { kept, group },
                    ..head.parse()?
                });
            }
            let granularity = match tail
                .strip_prefix('g')
                .and_then(|n| n.parse::<u32>().ok())
                .filter(|n| *n > 0)
            {
                Some(size) => Some(Granularity::Block { axis: -1, size }),
                None if tail == "pc" => Some(Granularity::Channel { axis: 0 }),
                None => None,
            };
            if let (Some(granularity), Ok(format)) = (granularity, head.parse::<Format>()) {
                let scaling = Some(Scaling {
                    granularity,
                    scale: Format::FP16,
                    zero_point: None,
                    outer: None,
                });
                return Ok(Self {
                    format,
                    scaling,
                    sparsity: Sparsity::Dense,
                });
            }
        }
        s.parse::<Format>().map(Self::from).map_err(|_| {
            let formats = Format::names();
            let names = formats.iter().map(String::as_str).chain(Self::NAMES);
            UnknownFormat {
                name: s.into(),
                nearest: crate::diagnostic::nearest(s, names),
            }
        })
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dense = Self {
            sparsity: Sparsity::Dense,
            ..*self
        };
        let head = match self.scaling {
            None => self.format.to_string(),
            Some(s) => match Self::NAMES.iter().find(|n| named(n) == Some(dense)) {
                Some(name) => (*name).to_string(),
                None => match s.granularity {
                    Granularity::Tensor => self.format.to_string(),
                    Granularity::Channel { .. } => format!("{}_pc", self.format),
                    Granularity::Block { size, .. } => format!("{}_g{size}", self.format),
                },
            },
        };
        match self.sparsity {
            Sparsity::Dense => f.pad(&head),
            Sparsity::NOfM { kept, group } => f.pad(&format!("{head}_{kept}:{group}")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Bits of one element, as the schemes' own documents give them.
    #[test]
    fn schemes_take_their_published_bits() {
        let cases = [
            ("q4_0", 4.5),
            ("q4_1", 5.0),
            ("q5_0", 5.5),
            ("q5_1", 6.0),
            ("q8_0", 8.5),
            ("q2_k", 2.625),
            ("q3_k", 3.4375),
            ("q4_k", 4.5),
            ("q5_k", 5.5),
            ("q6_k", 6.5625),
            ("mxfp4", 4.25),
            ("mxfp8", 8.25),
            ("mxfp6_e3m2", 6.25),
            ("int4_g128", 4.125),
            ("nf4", 4.5),
            ("int8", 8.0),
            ("int8_2:4", 5.0),
        ];
        for (name, bits) in cases {
            let q: Quantization = name.parse().unwrap();
            assert_eq!(q.bits_per_element(), bits, "{name}");
            assert_eq!(q.to_string(), name);
        }
    }

    #[test]
    fn storage_counts_partial_blocks() {
        let q: Quantization = "int4_g128".parse().unwrap();
        let s = q.storage(&[3, 130]).unwrap_or_default();
        assert_eq!((s.payload, s.scales), (Bits(3 * 130 * 4), Bits(3 * 2 * 16)));
        assert_eq!(q.storage(&[u64::MAX, 2]), None);
    }
}
