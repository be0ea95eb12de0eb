//! Integers in groups, each with a scale and, where asymmetric, a zero point.
//!
//! ```text
//! symmetric    s = F(amax / largest)                    q = clamp(round(x / s), -largest, largest)
//! asymmetric   s = F((hi - lo) / (largest - least))     q = clamp(round(x / s) + z, least, largest)
//!              z = clamp(round(least - lo / s))         lo, hi: the group's range widened to hold 0
//! ```
//!
//! F rounds to the scale's format (to nearest even), and elements are quantized by the rounded scale, so that what is
//! stored is what was used. Quotients are f32. A scale that is or rounds to zero is stored as 1.
//! This is the form of GPTQ, AWQ and torchao's weight-only int4 and int8; see [`integer::affine`](crate::integer::affine).

use crate::codec::{Codec, CodecError};
use crate::conversion::Conversion;
use crate::exact::Exact;
use crate::format::Format;
use crate::integer::IntRange;
use crate::integer::affine::{Affine, Division};
use crate::integer::fast::FastInt;

/// How groups of integers are stored.
#[derive(Debug, Clone)]
pub struct GroupInt {
    range: IntRange,
    group: usize,
    scale: Codec,
    asymmetric: bool,
    conversion: Conversion,
}

/// A tensor in groups.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    /// Codes, one in each.
    pub codes: Vec<u16>,
    /// Scale of each group.
    pub scales: Vec<f32>,
    /// Zero point of each group; empty where symmetric.
    pub zero_points: Vec<i64>,
}

/// Why integers can't be grouped so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// Elements are integers of at most 16 bits.
    #[error("`{0}` is no integer of at most 16 bits")]
    Element(Format),
    /// A symmetric group of unsigned integers holds no negative number.
    #[error("`{0}` is unsigned: a symmetric group needs a sign")]
    Unsigned(Format),
    /// A group has elements.
    #[error("a group has at least one element")]
    Empty,
    /// The scale's format.
    #[error(transparent)]
    Scale(#[from] CodecError),
}

/// Folds numbers from zero in eight lanes, and then the lanes: of minima and maxima the order does not matter.
fn lanes(values: &[f32], fold: impl Fn(f32, &f32) -> f32) -> f32 {
    let mut lanes = [0f32; 8];
    let (eights, rest) = values.as_chunks::<8>();
    for eight in eights {
        for (lane, x) in lanes.iter_mut().zip(eight) {
            *lane = fold(*lane, x);
        }
    }
    lanes.iter().chain(rest).fold(0.0, fold)
}

impl GroupInt {
    /// Groups of `group` elements of an integer format under scales of a format.
    pub fn new(
        element: Format,
        group: usize,
        scale: Format,
        asymmetric: bool,
        conversion: Conversion,
    ) -> Result<Self, GroupError> {
        let range = element.int_range().filter(|r| r.bits <= 16);
        let range = range.ok_or(GroupError::Element(element))?;
        if !range.signed && !asymmetric {
            return Err(GroupError::Unsigned(element));
        }
        if group == 0 {
            return Err(GroupError::Empty);
        }
        Ok(Self {
            range,
            group,
            scale: Codec::new(scale, Conversion::default())?,
            asymmetric,
            conversion,
        })
    }

    fn affine(&self, values: &[f32]) -> Affine {
        let finite = |x: &f32| if x.is_finite() { *x } else { 0.0 };
        let lower = |a: f32, x: f32| if x < a { x } else { a };
        let higher = |a: f32, x: f32| if x > a { x } else { a };
        let largest = lanes(values, |a, x| higher(a, finite(x)));
        let least = lanes(values, |a, x| lower(a, finite(x)));
        let ideal = if self.asymmetric {
            Affine::asymmetric(self.range, least, largest)
        } else {
            Affine::symmetric(self.range, largest.max(-least))
        };
        let stored = self.scale.encode(Exact::from(ideal.scale), 0).code;
        let stored = self.scale.decode(stored).to_f32();
        let scale = if stored > 0.0 { stored } else { 1.0 };
        let zero_point = if self.asymmetric {
            let zero = (self.range.least() as f32 - least / scale).round_ties_even() as i128;
            zero.clamp(self.range.least(), self.range.largest()) as i64
        } else {
            0
        };
        Affine {
            scale,
            zero_point,
            division: Division::Quotient,
            ..ideal
        }
    }

    /// Codes, scales and zero points of numbers.
    pub fn quantize(&self, values: &[f32]) -> Groups {
        let mut codes = vec![0; values.len()];
        let (mut scales, mut zero_points) = (Vec::new(), Vec::new());
        let groups = values.chunks(self.group).zip(codes.chunks_mut(self.group));
        for (g, (values, codes)) in groups.enumerate() {
            let affine = self.affine(values);
            if let Some(fast) = FastInt::affine(&affine, &self.conversion) {
                fast.encode(values, codes);
            } else {
                let first = (g * self.group) as u64;
                for ((x, code), index) in values.iter().zip(codes).zip(first..) {
                    *code = affine.encode(*x, &self.conversion, index).code as u16;
                }
            }
            scales.push(affine.scale);
            if self.asymmetric {
                zero_points.push(affine.zero_point);
            }
        }
        Groups {
            codes,
            scales,
            zero_points,
        }
    }

    /// Numbers of codes.
    pub fn dequantize(&self, groups: &Groups) -> Vec<f32> {
        let mut values = Vec::with_capacity(groups.codes.len());
        let codes = groups.codes.chunks(self.group).zip(&groups.scales);
        for (g, (codes, scale)) in codes.enumerate() {
            let affine = Affine {
                range: self.range,
                scale: *scale,
                zero_point: groups.zero_points.get(g).copied().unwrap_or(0),
                narrow: !self.asymmetric,
                division: Division::Quotient,
            };
            values.extend(codes.iter().map(|c| affine.decode(u128::from(*c))));
        }
        values
    }
}
