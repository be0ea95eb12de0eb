//! Super-blocks of 256 with quantized scales: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K.
//!
//! Where elements lie, `i` from 0 to 255:
//!
//! ```text
//! Q2_K   scales[16] (low nibble scale, high nibble minimum), qs[64], d, d'
//! Q3_K   high[32], qs[64], scales[12], d
//!        two bits:  qs[32 (i / 128) + i % 32] >> 2 (i / 32 % 4)
//!        third bit: high[i % 32] >> (i / 32), where it is 0 the element is 4 less
//!        scale j:   low four bits scales[j % 8] >> 4 (j / 8), high two scales[8 + j % 4] >> 2 (j / 4)
//! Q4_K   d, d', scales[12], qs[128]              Q5_K   d, d', scales[12], high[32], qs[128]
//!        four bits: qs[32 (i / 64) + i % 32] >> 4 (i / 32 % 2);   fifth bit: high[i % 32] >> (i / 32)
//!        j < 4: scale scales[j] & 63, minimum scales[j + 4] & 63; else scale scales[j + 4] & 15 with the top two bits
//!        of scales[j - 4], minimum scales[j + 4] >> 4 with the top two bits of scales[j]
//! Q6_K   low[128], high[64], scales[16], d
//!        four bits: low[64 (i / 128) + i % 64] >> 4 (i / 64 % 2);   two: high[32 (i / 128) + i % 32] >> 2 (i / 32 % 4)
//! ```

use super::half;

pub(super) fn q2(block: &[u8], out: &mut [f32]) {
    let (scales, rest) = block.split_at(16);
    let (qs, rest) = rest.split_at(64);
    let (d, minimum) = (half(rest), half(&rest[2..]));
    for (i, x) in out.iter_mut().enumerate() {
        let scale = scales[i / 16];
        let q = qs[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4)) & 3;
        let (dl, ml) = (d * f32::from(scale & 15), minimum * f32::from(scale >> 4));
        *x = dl * f32::from(q) - ml;
    }
}

pub(super) fn q3(block: &[u8], out: &mut [f32]) {
    let (high, rest) = block.split_at(32);
    let (qs, rest) = rest.split_at(64);
    let (scales, rest) = rest.split_at(12);
    let d = half(rest);
    for (i, x) in out.iter_mut().enumerate() {
        let j = i / 16;
        let low = scales[j % 8] >> (4 * (j / 8)) & 15;
        let top = scales[8 + j % 4] >> (2 * (j / 4)) & 3;
        let scale = i16::from(low | top << 4) - 32;
        let q = qs[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4)) & 3;
        let less = if high[i % 32] >> (i / 32) & 1 == 1 {
            0
        } else {
            4
        };
        *x = d * f32::from(scale) * f32::from(i16::from(q) - less);
    }
}

pub(super) fn q4_q5(five: bool, block: &[u8], out: &mut [f32]) {
    let (d, minimum) = (half(block), half(&block[2..]));
    let (scales, rest) = block[4..].split_at(12);
    let (high, qs) = rest.split_at(if five { 32 } else { 0 });
    for (i, x) in out.iter_mut().enumerate() {
        let j = i / 32;
        let (scale, least) = if j < 4 {
            (scales[j] & 63, scales[j + 4] & 63)
        } else {
            (
                scales[j + 4] & 15 | scales[j - 4] >> 6 << 4,
                scales[j + 4] >> 4 | scales[j] >> 6 << 4,
            )
        };
        let q = qs[32 * (i / 64) + i % 32] >> (4 * (j % 2)) & 15;
        let fifth = if five { high[i % 32] >> j & 1 } else { 0 };
        let (dl, ml) = (d * f32::from(scale), minimum * f32::from(least));
        *x = dl * f32::from(q | fifth << 4) - ml;
    }
}

pub(super) fn q6(block: &[u8], out: &mut [f32]) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, rest) = rest.split_at(16);
    let d = half(rest);
    for (i, x) in out.iter_mut().enumerate() {
        let four = low[64 * (i / 128) + i % 64] >> (4 * (i / 64 % 2)) & 15;
        let two = high[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4)) & 3;
        let q = i16::from(four | two << 4) - 32;
        *x = d * f32::from(scales[i / 16] as i8) * f32::from(q);
    }
}
