//! Functions in fixed-point words of 16 or 32 bits, after gemmlowp.
//!
//! `Qk` is a word with k integer bits: the number is `raw / 2^(bits - 1 - k)`. One is the largest word of Q0.
//!
//! ```text
//! a b            floor((a b + 2^(bits-2)) / 2^(bits-1)), least x least = largest        Qj x Qk = Q(j+k)
//! x 2^n          n > 0: saturated; n < 0: ties away from zero
//! exp(a), a <= 0    a = r - m / 4, -1/4 <= r < 0; t = r + 1/8;
//!                   exp(r) = e^-1/8 (1 + t + ((t^4/4 + t^3) / 3 + t^2) / 2), times e^-(2^j / 4) for every bit j of m
//! 1 / (1 + a), 0 <= a <= 1    d = (a + 1) / 2; x = 48/17 - 32/17 d; three times x += x (1 - d x); x / 2
//! (1 - a) / (1 + a)           x - 1
//! logistic(a)    1 / (1 + exp(-|a|)), for a < 0 one less it
//! tanh(a)        (1 - exp(-2|a|)) / (1 + exp(-2|a|)), with a's sign
//! ```
//!
//! Constants of 16-bit words are those of 32 bits, rounded. Source: gemmlowp, `fixedpoint/fixedpoint.h`.

use crate::rounding::Rounding;

/// Words of some bits, 16 or 32; raw words stand in i64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    bits: u32,
}

/// 16-bit words.
pub const WORD16: Word = Word { bits: 16 };
/// 32-bit words.
pub const WORD32: Word = Word { bits: 32 };

/// e^-(2^j / 4) in Q0 of 32 bits, for j from 0 on.
const EXPONENTIALS: [i64; 7] = [
    1_672_461_947,
    1_302_514_674,
    790_015_084,
    290_630_308,
    39_332_535,
    720_401,
    242,
];

impl Word {
    /// The largest word; one in Q0.
    pub fn largest(self) -> i64 {
        (1 << (self.bits - 1)) - 1
    }

    fn least(self) -> i64 {
        -(1 << (self.bits - 1))
    }

    /// An integer brought into the word's range.
    pub fn saturate(self, x: i64) -> i64 {
        x.clamp(self.least(), self.largest())
    }

    fn wrap(self, x: i64) -> i64 {
        x << (64 - self.bits) >> (64 - self.bits)
    }

    /// The product of two words.
    pub fn product(self, a: i64, b: i64) -> i64 {
        self.saturate((a * b + (1 << (self.bits - 2))) >> (self.bits - 1))
    }

    /// `x 2^n`.
    pub fn scale(self, x: i64, n: i32) -> i64 {
        if n >= 0 {
            self.saturate(x << n.min(31))
        } else {
            Rounding::NearestAway.shift_right(x.into(), n.unsigned_abs(), 0) as i64
        }
    }

    /// A 32-bit constant.
    fn constant(self, x: i64) -> i64 {
        self.scale(x, self.bits as i32 - 32)
    }

    /// exp of a number in `Q(integer_bits)` that is not positive, in Q0.
    pub fn exp_of_negative(self, a: i64, integer_bits: u32) -> i64 {
        if a == 0 {
            return self.largest();
        }
        let integer_bits = integer_bits.min(self.bits - 6);
        let fraction_bits = self.bits - 1 - integer_bits;
        let quarter = 1 << (fraction_bits - 2);
        let rest = (a & (quarter - 1)) - quarter;
        let mut result = self.exp_near_zero(self.scale(rest, integer_bits as i32));
        let quarters = rest - a;
        for (e, factor) in (-2i32..).zip(EXPONENTIALS) {
            let bit = fraction_bits as i32 + e;
            if (integer_bits as i32) > e && quarters >> bit & 1 == 1 {
                result = self.product(result, self.constant(factor));
            }
        }
        // From -32 on, more quarters than the table has.
        if integer_bits > 5 && a < -(32 << fraction_bits) {
            return 0;
        }
        result
    }

    /// exp of a number of Q0 from -1/4 up to 0, exclusive.
    fn exp_near_zero(self, a: i64) -> i64 {
        let center = self.constant(1_895_147_668);
        let third = self.constant(715_827_883);
        let x = self.wrap(a + (1 << (self.bits - 4)));
        let x2 = self.product(x, x);
        let x3 = self.product(x2, x);
        let x4 = self.product(x2, x2);
        let tail = self.product(self.wrap(self.scale(x4, -2) + x3), third);
        let tail = self.scale(self.wrap(tail + x2), -1);
        let correction = self.product(center, self.wrap(x + tail));
        self.saturate(center + correction)
    }

    /// 2 / (1 + a) in Q2, of a number in Q0 from 0 to 1.
    fn double_reciprocal(self, a: i64) -> i64 {
        let sum = a + self.largest();
        let half = (sum + if sum >= 0 { 1 } else { -1 }) / 2;
        let one = 1 << (self.bits - 3);
        let mut x = self
            .wrap(self.constant(1_515_870_810) + self.product(half, self.constant(-1_010_580_540)));
        for _ in 0..3 {
            let rest = self.wrap(one - self.product(half, x));
            x = self.wrap(x + self.scale(self.product(x, rest), 2));
        }
        x
    }

    /// 1 / (1 + a) in Q0, of a number in Q0 from 0 to 1.
    pub fn reciprocal_of_one_plus(self, a: i64) -> i64 {
        // Half of a number in Q2 is the same word in Q1.
        self.scale(self.double_reciprocal(a), 1)
    }

    /// The logistic function of a number in `Q(integer_bits)`, in Q0.
    pub fn logistic(self, a: i64, integer_bits: u32) -> i64 {
        if a == 0 {
            return 1 << (self.bits - 2);
        }
        let magnitude = if a > 0 { a } else { self.wrap(-a) };
        let exp = self.exp_of_negative(self.wrap(-magnitude), integer_bits);
        let positive = self.reciprocal_of_one_plus(exp);
        if a > 0 {
            positive
        } else {
            self.wrap(self.largest() - positive)
        }
    }

    /// tanh of a number in `Q(integer_bits)`, in Q0.
    pub fn tanh(self, a: i64, integer_bits: u32) -> i64 {
        if a == 0 {
            return 0;
        }
        let negative = if a < 0 { a } else { self.wrap(-a) };
        // Twice a number is the same word with one integer bit more.
        let exp = self.exp_of_negative(negative, integer_bits + 1);
        let one = 1 << (self.bits - 3);
        let t = self.scale(self.wrap(self.double_reciprocal(exp) - one), 2);
        if a < 0 { self.wrap(-t) } else { t }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 16-bit word, and 32-bit words all over their range, near the real functions.
    #[test]
    fn functions_are_near_the_real_ones() {
        for raw in -32768..=32767i64 {
            let x = raw as f64 / 4096.0;
            let logistic = WORD16.logistic(raw, 3) as f64 / 32768.0;
            let tanh = WORD16.tanh(raw, 3) as f64 / 32768.0;
            // The word that has no opposite is taken as its own.
            if raw != -32768 {
                assert!((logistic - 1.0 / (1.0 + (-x).exp())).abs() < 4e-4, "{x}");
                assert!((tanh - x.tanh()).abs() < 8e-4, "{x}");
            }
            let raw = raw << 16 | 0x1234;
            if raw < 0 {
                let x = raw as f64 / f64::from(1 << 26);
                let exp = WORD32.exp_of_negative(raw, 5) as f64 / f64::from(1u32 << 31);
                // The series stops at the fourth power of 1/8.
                assert!((exp - x.exp()).abs() < 3e-7, "{x}");
            } else {
                let x = raw as f64 / f64::from(1u32 << 31);
                let reciprocal = WORD32.reciprocal_of_one_plus(raw) as f64 / f64::from(1u32 << 31);
                assert!((reciprocal - 1.0 / (1.0 + x)).abs() < 1e-8, "{x}");
            }
        }
    }
}
