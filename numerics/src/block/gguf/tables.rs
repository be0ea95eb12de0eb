//! Blocks whose elements index a table or are digits: IQ4_NL, IQ4_XS, TQ1_0, TQ2_0, MXFP4, NVFP4.
//!
//! ```text
//! IQ4_NL  d, 16 bytes                          nibbles by halves of 32, as in Q4_0
//! IQ4_XS  d, two bits of 8 scales (16 bits), four bits of 8 scales (4 bytes), 128 bytes: nibbles by halves of 32
//! MXFP4   E8M0 e, 16 bytes                     x = 2^(e - 127) v
//! NVFP4   four E4M3 scales (code 0 and 127 are 0), 32 bytes: nibbles by halves of 16
//! TQ2_0   64 bytes, d                          element i: bits 2 (i / 32 % 4) of byte 32 (i / 128) + i % 32, less 1
//! TQ1_0   32 bytes of 5 digits, 16 of 5, 4 of 4, d: digit k of byte b is element k B + b of the B bytes' part;
//!         a byte is ceil(N 256 / 243) of the base-3 number N, first digit first, so that digit k is
//!         the integer part of 3 (byte 3^k mod 256) / 256; less 1
//! ```
//!
//! Ternary encoding rounds x / max |x| half away from zero. MXFP4's scale exponent is floor(log2 max |x|) - 2 (code 0
//! for a block of zeros, whose codes wrap below 0), its elements are the entries of least error in f32, the first of equals.

use super::{half, half_bytes, reciprocal, word};
use crate::block::amax;
use crate::exact::Exact;

/// IQ4_NL's entries.
const IQ4: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// E2M1's numbers, doubled.
const E2M1_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Numbers of nibbles: the low ones of all bytes, then the high ones.
fn nibbles(table: &[i8; 16], scale: f32, bytes: &[u8], out: &mut [f32]) {
    for (i, x) in out.iter_mut().enumerate() {
        let nibble = bytes[i % bytes.len()] >> (i / bytes.len() * 4) & 15;
        *x = scale * f32::from(table[usize::from(nibble)]);
    }
}

pub(super) fn iq4_nl(block: &[u8], out: &mut [f32]) {
    nibbles(&IQ4, half(block), &block[2..], out);
}

pub(super) fn iq4_xs(block: &[u8], out: &mut [f32]) {
    let (d, high) = (half(block), word(&block[2..]));
    let (low, qs) = block[4..].split_at(4);
    for (j, (bytes, out)) in qs
        .chunks_exact(16)
        .zip(out.chunks_exact_mut(32))
        .enumerate()
    {
        let scale = low[j / 2] >> (4 * (j % 2)) & 15 | ((high >> (2 * j) & 3) << 4) as u8;
        nibbles(&IQ4, d * f32::from(i16::from(scale) - 32), bytes, out);
    }
}

/// 2^(e - 128): half of what an E8M0 code stands for, for entries that are doubled.
fn half_power(code: u8) -> f32 {
    Exact::finite(false, 1, i32::from(code) - 128).to_f32()
}

pub(super) fn mxfp4(block: &[u8], out: &mut [f32]) {
    nibbles(&E2M1_DOUBLED, half_power(block[0]), &block[1..], out);
}

pub(super) fn nvfp4(block: &[u8], out: &mut [f32]) {
    let (scales, qs) = block.split_at(4);
    for (j, (bytes, out)) in qs.chunks_exact(8).zip(out.chunks_exact_mut(16)).enumerate() {
        let (field, fraction) = (i32::from(scales[j] >> 3 & 15), u128::from(scales[j] & 7));
        let scale = match (scales[j], field) {
            (0 | 127, _) => Exact::ZERO,
            (_, 0) => Exact::finite(false, fraction, -10),
            _ => Exact::finite(false, fraction | 8, field - 11),
        };
        nibbles(&E2M1_DOUBLED, scale.to_f32(), bytes, out);
    }
}

pub(super) fn tq2(block: &[u8], out: &mut [f32]) {
    let d = half(&block[64..]);
    for (i, x) in out.iter_mut().enumerate() {
        let digit = block[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4)) & 3;
        *x = d * (f32::from(digit) - 1.0);
    }
}

/// The parts of a TQ1_0 block: first byte, bytes, digits a byte.
const PARTS: [(usize, usize, u32); 3] = [(0, 32, 5), (32, 16, 5), (48, 4, 4)];

pub(super) fn tq1(block: &[u8], out: &mut [f32]) {
    let d = half(&block[52..]);
    let digit = |byte: u8, k: u32| {
        let shifted = byte.wrapping_mul(3u8.pow(k));
        f32::from(((u16::from(shifted) * 3) >> 8) as u8)
    };
    let places = PARTS.iter().flat_map(|&(first, bytes, digits)| {
        (0..digits).flat_map(move |k| (first..first + bytes).map(move |b| (b, k)))
    });
    for (x, (b, k)) in out.iter_mut().zip(places) {
        *x = d * (digit(block[b], k) - 1.0);
    }
}

/// Digits 0, 1, 2 of numbers, and the scale.
fn ternary(block: &[f32]) -> (Vec<u8>, f32) {
    let d = amax(block);
    let inverse = reciprocal(d);
    let digit = |x: &f32| ((x * inverse).round() as i8 + 1) as u8;
    (block.iter().map(digit).collect(), d)
}

pub(super) fn encode_tq2(block: &[f32], bytes: &mut Vec<u8>) {
    let (digits, d) = ternary(block);
    for part in digits.chunks_exact(128) {
        let byte = |i: usize| (0..4).fold(0, |byte, k| byte | part[32 * k + i] << (2 * k));
        bytes.extend((0..32).map(byte));
    }
    bytes.extend(half_bytes(d));
}

pub(super) fn encode_tq1(block: &[f32], bytes: &mut Vec<u8>) {
    let (digits, d) = ternary(block);
    let mut rest = &digits[..];
    for (_, count, places) in PARTS {
        let (part, after) = rest.split_at(count * places as usize);
        rest = after;
        for b in 0..count {
            // Four digits stand before a fifth that is 0.
            let number = (0..5).fold(0u16, |n, k| {
                3 * n + part.get(k * count + b).map_or(0, |digit| u16::from(*digit))
            });
            bytes.push((number * 256).div_ceil(243) as u8);
        }
    }
    bytes.extend(half_bytes(d));
}

pub(super) fn encode_mxfp4(block: &[f32], bytes: &mut Vec<u8>) {
    let largest = amax(block);
    let code = if largest > 0.0 {
        ((largest.to_bits() >> 23) as i32 - 2) as u8
    } else {
        0
    };
    let scale = half_power(code);
    let nearest = |x: f32| {
        let error = |entry: i8| (scale * f32::from(entry) - x).abs();
        let mut best = 0;
        for (i, entry) in E2M1_DOUBLED.iter().enumerate() {
            if error(*entry) < error(E2M1_DOUBLED[best]) {
                best = i;
            }
        }
        best as u8
    };
    bytes.push(code);
    bytes.extend((0..16).map(|i| nearest(block[i]) | nearest(block[i + 16]) << 4));
}
