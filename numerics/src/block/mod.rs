//! Elements that share scales.
//!
//! - [`mx`]: OCP Microscaling: 32 elements of FP8, FP6, FP4 or INT8 and a power of two;
//! - [`nvfp4`]: 16 elements of FP4 and an FP8 scale, under one scale of the tensor or none;
//! - [`group`]: integers with a scale (and a zero point) for each group;
//! - [`floating`]: block floating point, signed magnitudes under a shared exponent;
//! - [`gguf`]: the block types of GGUF files;
//! - [`scheme`]: tensors under schemes by name.
//!
//! NF4 and FP4 code books are in [`codebook::nf4`](crate::codebook::nf4).

pub mod floating;
pub mod gguf;
pub mod group;
pub mod mx;
pub mod nvfp4;
pub mod scheme;

/// The largest magnitude of a block: NaN where it holds one.
pub fn amax(values: &[f32]) -> f32 {
    // Signed maxima, which every vector unit has.
    let bits = values.iter().map(|x| (x.to_bits() & 0x7fff_ffff) as i32);
    f32::from_bits(bits.fold(0, i32::max) as u32)
}
