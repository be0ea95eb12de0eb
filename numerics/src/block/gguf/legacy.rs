//! Blocks of 32 under one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
//!
//! ```text
//! Q4_0 d, 16 bytes of nibbles     Q5_0 d, 4 bytes of fifth bits, 16 bytes     Q8_0 d, 32 int8
//! Q4_1 d, m, 16 bytes             Q5_1 d, m, 4 bytes, 16 bytes
//!
//! Element i of the first half is the low nibble of byte i, of the second half the high nibble.
//!
//! encoding, h = 8 or 16, n = 15 or 31:
//! Q4_0, Q5_0   d = x / -h of the (first) x of largest magnitude      q = min(trunc(x / d + h + 1/2), n)
//! Q4_1, Q5_1   d = (max - min) / n, m = min                          q = min(trunc((x - m) / d + 1/2), n)
//! Q8_0         d = max |x| / 127                                     q = round(x / d), ties away from zero
//! ```
//!
//! Quotients are products with the f32 reciprocal of the unrounded d; what is stored is d in fp16.

use super::{GgufType, half, half_bytes, reciprocal};
use crate::block::amax;

/// Whether elements have five bits, and whether the block has a minimum.
fn shape(kind: GgufType) -> (bool, bool) {
    let five = matches!(kind, GgufType::Q5_0 | GgufType::Q5_1);
    (five, matches!(kind, GgufType::Q4_1 | GgufType::Q5_1))
}

pub(super) fn decode(kind: GgufType, block: &[u8], out: &mut [f32]) {
    let d = half(block);
    if kind == GgufType::Q8_0 {
        for (q, x) in block[2..].iter().zip(out) {
            *x = d * f32::from(*q as i8);
        }
        return;
    }
    let (five, minimum) = shape(kind);
    let (m, rest) = if minimum {
        (half(&block[2..]), &block[4..])
    } else {
        (0.0, &block[2..])
    };
    let (fifth, nibbles) = if five {
        let bits = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]);
        (bits, &rest[4..])
    } else {
        (0, rest)
    };
    let offset = match (minimum, five) {
        (true, _) => 0.0,
        (false, true) => 16.0,
        (false, false) => 8.0,
    };
    for (i, x) in out.iter_mut().enumerate() {
        let nibble = nibbles[i % 16] >> (i / 16 * 4) & 15;
        let q = f32::from(nibble | ((fifth >> i & 1) << 4) as u8);
        *x = if minimum { d * q + m } else { d * (q - offset) };
    }
}

pub(super) fn encode(kind: GgufType, block: &[f32], bytes: &mut Vec<u8>) {
    if kind == GgufType::Q8_0 {
        let d = amax(block) / 127.0;
        let inverse = reciprocal(d);
        bytes.extend(half_bytes(d));
        bytes.extend(block.iter().map(|x| (x * inverse).round() as i8 as u8));
        return;
    }
    let (five, minimum) = shape(kind);
    let n = if five { 31u8 } else { 15 };
    let (d, origin, half_up) = if minimum {
        let least = block.iter().fold(f32::INFINITY, |a, b| a.min(*b));
        let largest = block.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        ((largest - least) / f32::from(n), least, 0.5)
    } else {
        let mut signed = 0f32;
        for x in block {
            if x.abs() > signed.abs() {
                signed = *x;
            }
        }
        let h = f32::from(n / 2 + 1);
        (signed / -h, 0.0, h + 0.5)
    };
    let inverse = reciprocal(d);
    let code = |x: &f32| (((x - origin) * inverse + half_up) as u8).min(n);
    let codes: Vec<u8> = block.iter().map(code).collect();
    bytes.extend(half_bytes(d));
    if minimum {
        bytes.extend(half_bytes(origin));
    }
    if five {
        let fifth = codes.iter().enumerate();
        let fifth = fifth.fold(0u32, |bits, (i, q)| bits | u32::from(q >> 4) << i);
        bytes.extend(fifth.to_le_bytes());
    }
    bytes.extend((0..16).map(|i| codes[i] & 15 | codes[i + 16] << 4));
}
