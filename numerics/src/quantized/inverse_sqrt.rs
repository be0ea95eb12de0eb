//! The reciprocal square root of an integer as a fixed-point multiplier.
//!
//! ```text
//! x > 1          multiplied or divided by 4 until 2^27 <= x < 2^29, so that x / 2 in Q3 lies in 1/4 .. 1
//! y0 = 1, five times  y = 3/2 y - (x/2) y^3    in Q3 of 32 bits; then y times sqrt(1/2) in Q0
//! x <= 1         the largest multiplier
//! ```
//!
//! Every product is gemmlowp's and every change of format a saturating shift ([`super::fixed_point`]).
//! Source: TensorFlow Lite, `kernels/internal/common.h`.

use super::fixed_point::WORD32;
use crate::integer::requantize::FixedMultiplier;

/// 1 / sqrt(x), as `significand x 2^(shift - 31)`.
pub fn inverse_sqrt(x: i32) -> FixedMultiplier {
    if x <= 1 {
        return FixedMultiplier {
            significand: i32::MAX,
            shift: 0,
        };
    }
    let w = WORD32;
    let mut x = x;
    let mut right = 11i32;
    while x >= 1 << 29 {
        x /= 4;
        right += 1;
    }
    let pairs = (x.leading_zeros() as i32 - 1) / 2 - 1;
    right -= pairs;
    let x = i64::from(x) << (2 * pairs);
    let half = w.scale(x >> 1, -1);
    let three_halves = (1 << 28) + (1 << 27);
    let mut y = 1 << 28;
    for _ in 0..5 {
        // The cube of Q3 words is Q9; both products of the step are Q6.
        let cube = w.scale(w.product(w.product(y, y), y), 6);
        y = w.scale(w.product(three_halves, y) - w.product(half, cube), 3);
    }
    let mut significand = w.product(y, 1_518_500_250);
    if right < 0 {
        significand = w.saturate(significand << -right);
        right = 0;
    }
    FixedMultiplier {
        significand: significand as i32,
        shift: -right,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_near_the_real_one() {
        let squares = (0..31).flat_map(|e| [1i64 << e, (1 << e) + 1, (1 << e) * 3 / 2]);
        for x in squares.filter(|x| *x > 1 && *x < i64::from(i32::MAX)) {
            let m = inverse_sqrt(x as i32);
            let real = f64::from(m.significand) * 2f64.powi(m.shift - 31);
            let error = real * (x as f64).sqrt() - 1.0;
            // Five steps from 1 towards 2, at x = 1/4: 1.3e-6.
            assert!(error.abs() < 2e-6, "{x}: {error}");
        }
    }
}
