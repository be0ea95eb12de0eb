//! NVFP4: 16 elements of E2M1 under an E4M3 scale, and one f32 scale for the whole tensor, or none.
//!
//! ```text
//! x ~ T x s x p               p: E2M1, s: E4M3 of the block, T: f32 of the tensor (one level: T = 1)
//!
//! T = amax(tensor) / (448 x 6)
//! s = E4M3(clamp(amax(block) / 6 / T, 2^-6, 448))              to nearest even
//! p = E2M1(x x r)   r = (1 / T) / s; one level: p = E2M1(x / s)     saturating, to nearest even, all in f32
//! ```
//!
//! The scale has E4M3's smallest normal number as its least, so that it is never zero. Two-level quantizers multiply by
//! the reciprocal, as NVIDIA's and torchao's kernels do. Source: torchao 0.18 (`nvfp4_quantize`); NVIDIA, "Introducing
//! NVFP4", 2025.

use crate::block::amax;
use crate::conversion::Conversion;
use crate::exact::Exact;
use crate::float::FloatLayout;
use crate::float::fast::FastFloat;
use crate::format::Specials;

/// Elements of a block.
pub const BLOCK: usize = 16;

const E4M3_LARGEST: f32 = 448.0;
const E4M3_SMALLEST_NORMAL: f32 = 0.015_625;
const E2M1_LARGEST: f32 = 6.0;

const E2M1: FloatLayout = FloatLayout {
    exponent: 2,
    mantissa: 1,
    bias: 1,
    specials: Specials::Finite,
};
const E4M3: FloatLayout = FloatLayout {
    exponent: 4,
    mantissa: 3,
    bias: 7,
    specials: Specials::NanOnly,
};

/// Quantizer and dequantizer.
#[derive(Debug, Clone)]
pub struct Nvfp4 {
    element: Option<FastFloat>,
    scale: Option<FastFloat>,
    scales: Vec<f32>,
    elements: Vec<f32>,
}

impl Default for Nvfp4 {
    fn default() -> Self {
        Self::new()
    }
}

impl Nvfp4 {
    /// NVFP4 with the tables of its two formats.
    pub fn new() -> Self {
        let table = |layout: FloatLayout, codes: u128| {
            (0..codes).map(|c| layout.decode(c).to_f32()).collect()
        };
        Self {
            element: FastFloat::new(E2M1, &Conversion::default()),
            scale: FastFloat::new(E4M3, &Conversion::default()),
            scales: table(E4M3, 256),
            elements: table(E2M1, 16),
        }
    }

    /// The second-level scale of a tensor.
    pub fn tensor_scale(values: &[f32]) -> f32 {
        amax(values) / (E4M3_LARGEST * E2M1_LARGEST)
    }

    /// The largest number under a block's and a tensor's scale.
    pub fn largest(&self, scale: u8, tensor_scale: f32) -> f32 {
        E2M1_LARGEST * (self.scales[usize::from(scale)] * tensor_scale)
    }

    /// The scale code of a block.
    fn scale_code(&self, block: &[f32], tensor_scale: Option<f32>) -> u8 {
        let wanted = amax(block) / E2M1_LARGEST;
        let wanted = tensor_scale.map_or(wanted, |t| wanted / t);
        let clamped = if wanted.is_nan() {
            wanted
        } else {
            wanted.clamp(E4M3_SMALLEST_NORMAL, E4M3_LARGEST)
        };
        match &self.scale {
            Some(fast) => fast.nearest_even(clamped) as u8,
            None => {
                E4M3.encode(Exact::from(clamped), &Conversion::default(), 0)
                    .code as u8
            }
        }
    }

    /// Scale codes and element codes (one a byte), block by block, under a tensor's scale or none.
    pub fn quantize(
        &self,
        values: &[f32],
        tensor_scale: Option<f32>,
        scales: &mut [u8],
        codes: &mut [u8],
    ) {
        let blocks = values.chunks(BLOCK).zip(codes.chunks_mut(BLOCK));
        for ((values, codes), code) in blocks.zip(scales) {
            *code = self.scale_code(values, tensor_scale);
            let scale = self.scales[usize::from(*code)];
            let whole: Result<&[f32; BLOCK], _> = values.try_into();
            let place: Result<&mut [u8; BLOCK], _> = (&mut *codes).try_into();
            if let (Ok(values), Ok(codes)) = (whole, place) {
                // Lengths known when this is compiled.
                let scaled = match tensor_scale {
                    Some(tensor) => {
                        let reciprocal = 1.0 / tensor / scale;
                        values.map(|x| x * reciprocal)
                    }
                    None => values.map(|x| x / scale),
                };
                self.encode(&scaled, codes);
            } else {
                let scaled: Vec<f32> = match tensor_scale {
                    Some(tensor) => {
                        let reciprocal = 1.0 / tensor / scale;
                        values.iter().map(|x| x * reciprocal).collect()
                    }
                    None => values.iter().map(|x| x / scale).collect(),
                };
                self.encode(&scaled, codes);
            }
        }
    }

    #[inline(always)]
    fn encode(&self, scaled: &[f32], codes: &mut [u8]) {
        if let Some(fast) = &self.element {
            return fast.encode(scaled, codes);
        }
        for (x, code) in scaled.iter().zip(codes) {
            let encoded = E2M1.encode(Exact::from(*x), &Conversion::default(), 0);
            *code = encoded.code as u8;
        }
    }

    /// Numbers of codes, in f32: the element times the product of the two scales.
    pub fn dequantize(
        &self,
        scales: &[u8],
        codes: &[u8],
        tensor_scale: Option<f32>,
        values: &mut [f32],
    ) {
        let blocks = codes.chunks(BLOCK).zip(values.chunks_mut(BLOCK));
        for ((codes, values), scale) in blocks.zip(scales) {
            let scale = self.scales[usize::from(*scale)] * tensor_scale.unwrap_or(1.0);
            for (code, value) in codes.iter().zip(values) {
                *value = self.elements[usize::from(code & 15)] * scale;
            }
        }
    }
}
