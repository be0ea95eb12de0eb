//! Code books under block scales: NF4 and bitsandbytes' FP4, with double quantization of the scales.
//!
//! ```text
//! blocks of 64 consecutive elements:   A = max |x|     code = nearest(x / A)     x ~ book[code] x A
//!
//! double quantization of the A, in blocks of 256 of them:
//!   o = mean A        B = max |A - o|        c = nearest of the dynamic map to (A - o) / B
//!   A ~ map[c] x B + o
//! ```
//!
//! All in f32; a block of zeros has A = 0 and the codes of zero. The dynamic map (Dettmers, "8-bit approximations for
//! parallelism in deep learning", 2015; signed, as bitsandbytes builds it) has for each decade 10^-6..10^0 the
//! midpoints of 2^i equal parts of 0.1..1 scaled by it, both signs, and 0 and 1.
//! Packing: the first element of a pair is the high nibble.

use crate::block::amax;
use crate::codebook::CodeBook;

/// Elements of a block, as usual.
pub const BLOCK: usize = 64;
/// Scales of a block of the second level.
pub const OUTER_BLOCK: usize = 256;

/// Codes (one a byte) and scales of numbers in blocks.
pub fn quantize(book: &CodeBook, values: &[f32], block: usize) -> (Vec<u8>, Vec<f32>) {
    let block = block.max(1);
    let scales: Vec<f32> = values.chunks(block).map(amax).collect();
    let mut codes = Vec::with_capacity(values.len());
    for (values, scale) in values.chunks(block).zip(&scales) {
        let divisor = if *scale == 0.0 { 1.0 } else { *scale };
        codes.extend(values.iter().map(|x| book.nearest(x / divisor)));
    }
    (codes, scales)
}

/// Numbers of codes under their blocks' scales.
pub fn dequantize(book: &CodeBook, codes: &[u8], scales: &[f32], block: usize) -> Vec<f32> {
    let blocks = codes.chunks(block.max(1)).zip(scales);
    blocks
        .flat_map(|(codes, scale)| codes.iter().map(move |c| book.value(*c) * scale))
        .collect()
}

/// Scales quantized once more.
#[derive(Debug, Clone, PartialEq)]
pub struct DoubleQuantized {
    /// Code of each scale in the dynamic map.
    pub codes: Vec<u8>,
    /// Scale of each 256 scales.
    pub outer: Vec<f32>,
    /// Mean of all scales.
    pub offset: f32,
}

impl DoubleQuantized {
    /// Quantizes scales.
    pub fn new(scales: &[f32]) -> Self {
        let offset = mean(scales);
        let centred: Vec<f32> = scales.iter().map(|s| s - offset).collect();
        let (codes, outer) = quantize(&dynamic_map(), &centred, OUTER_BLOCK);
        Self {
            codes,
            outer,
            offset,
        }
    }

    /// The scales as they are read back.
    pub fn scales(&self) -> Vec<f32> {
        let scales = dequantize(&dynamic_map(), &self.codes, &self.outer, OUTER_BLOCK);
        scales.into_iter().map(|s| s + self.offset).collect()
    }
}

/// The mean in f32 by 32 interleaved sums, added four apart 8 lanes and then lane by lane: the order in which torch
/// adds up to 512 numbers with 8-lane vectors.
fn mean(values: &[f32]) -> f32 {
    let mut sums = [0f32; 32];
    for (i, x) in values.iter().enumerate() {
        sums[i % 32] += x;
    }
    let (lanes, others) = sums.split_at_mut(8);
    for row in others.chunks(8) {
        for (lane, x) in lanes.iter_mut().zip(row) {
            *lane += x;
        }
    }
    lanes.iter().fold(0.0, |sum, x| sum + x) / values.len().max(1) as f32
}

/// The signed dynamic map of 256 numbers, ascending.
pub fn dynamic_map() -> CodeBook {
    let mut numbers = vec![0.0, 1.0];
    for i in 0..7u32 {
        let parts = 1usize << i;
        let decade = 10f64.powi(i as i32 - 6) as f32;
        let edge = |k: usize| linspace(k, parts);
        for k in 0..parts {
            let midpoint = (edge(k) + edge(k + 1)) / 2.0;
            let number = decade * midpoint;
            numbers.extend([number, -number]);
        }
    }
    numbers.sort_by(f32::total_cmp);
    CodeBook::of(numbers)
}

/// Edge `k` of 0.1..1 in equal parts, in f32: from the nearer end, by a fused multiply-add of the rounded step, as
/// torch spaces numbers.
fn linspace(k: usize, parts: usize) -> f32 {
    let step = (1.0 - 0.1f32) / parts as f32;
    if k <= parts / 2 {
        step.mul_add(k as f32, 0.1)
    } else {
        (-step).mul_add((parts - k) as f32, 1.0)
    }
}

/// Two codes of 4 bits a byte, the first in the high nibble.
pub fn pack(codes: &[u8]) -> Vec<u8> {
    let pair = |pair: &[u8]| pair[0] << 4 | pair.get(1).unwrap_or(&0) & 15;
    codes.chunks(2).map(pair).collect()
}

/// The codes of packed bytes.
pub fn unpack(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).collect()
}
