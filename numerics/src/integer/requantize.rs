//! Requantization: an accumulator times a real multiplier, as integer hardware makes it.
//!
//! A multiplier `M` is a significand `q` of `b` bits and a shift `s` (left where positive):
//!
//! ```text
//! M = q x 2^(s - b)       q = round(f x 2^b) of |M| = f x 2^s, 1/2 <= f < 1; q = 2^b is halved and s raised;
//!                         then q has the sign of M
//! ```
//!
//! | form | result for accumulator x | where |
//! |---|---|---|
//! | double rounding | `l = max(s, 0)`, `r = max(-s, 0)`; `h = trunc((x 2^l q + n) / 2^31)`, `n = 2^30`, for a negative product `1 - 2^30`; then `h / 2^r`, ties away from zero | gemmlowp, TFLite convolutions |
//! | double rounding, ties up | the same h; then `floor((h + 2^(r-1)) / 2^r)` | ruy's kernels for x86, TFLite's optimized products |
//! | single rounding | `floor((x q + 2^(30-s)) / 2^(31-s))`: ties toward +infinity | TFLite fully connected, ruy |
//! | float | `round(f32(x) x f32(M))`, any rounding, usually nearest even | XNNPACK, ONNX Runtime |
//! | power of two | `round(x / 2^n)`, any rounding | shift-only hardware |
//! | 16 bits | `floor((x q16 + 2^(14-s)) / 2^(15-s))`, `q16 = (q + 2^15) >> 16`, 32767 where q is above 0x7fff0000 - 1 | TFLite int16x8 with a 64-bit accumulator, CMSIS-NN |
//!
//! The result then gets the zero point and is clamped. `x 2^l` wraps to 32 bits in the double rounding form, as it does
//! there. Sources: gemmlowp fixedpoint.h; TFLite kernels/internal/common.h and quantization_util.

use crate::conversion::Conversion;
use crate::exact::Exact;
use crate::integer::IntRange;
use crate::rounding::Rounding;

/// A fixed-point multiplier: `significand x 2^(shift - 31)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedMultiplier {
    /// 2^30 ..= 2^31 - 1, or 0; negative for negative multipliers.
    pub significand: i32,
    /// Left where positive.
    pub shift: i32,
}

impl FixedMultiplier {
    /// The multiplier nearest to a real one: zero where it is zero, not finite, or of a magnitude below 2^-32.
    pub fn new(real: f64) -> Self {
        let zero = Self {
            significand: 0,
            shift: 0,
        };
        if !real.is_finite() || real == 0.0 {
            return zero;
        }
        let exponent = real.to_bits() >> 52 & 0x7ff;
        if exponent == 0 {
            return zero;
        }
        let mut shift = exponent as i32 - 1022;
        // The fraction scaled to 0.5..1, its 53 bits rounded to 31, ties away from zero.
        let significand = real.to_bits() & ((1 << 52) - 1) | 1 << 52;
        let mut q = (significand + (1 << 21)) >> 22;
        if q == 1 << 31 {
            q >>= 1;
            shift += 1;
        }
        if shift < -31 {
            return zero;
        }
        Self {
            significand: if real < 0.0 { -(q as i32) } else { q as i32 },
            shift: shift.min(30),
        }
    }
}

/// How an accumulator is brought to the scale of the output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Requantization {
    /// A doubling high product and a rounding shift.
    DoubleRounding(FixedMultiplier),
    /// The same, ties of the shift toward plus infinity.
    DoubleRoundingUp(FixedMultiplier),
    /// One rounding shift of the whole product, ties toward plus infinity.
    SingleRounding(FixedMultiplier),
    /// An f32 product.
    Float {
        /// The multiplier.
        multiplier: f32,
        /// How the product is rounded to an integer.
        rounding: Rounding,
    },
    /// A shift to the right.
    PowerOfTwo {
        /// Places, 0..=127.
        shift: u8,
        /// How what is shifted out counts.
        rounding: Rounding,
    },
    /// A 16-bit multiplier on a wide accumulator.
    Reduced(FixedMultiplier),
}

impl Requantization {
    /// The accumulator at the output's scale, before zero point and clamp. `index` is for stochastic rounding.
    pub fn apply(&self, accumulator: i64, index: u64) -> i64 {
        match *self {
            Self::DoubleRounding(m) => double_rounding(accumulator, m, false),
            Self::DoubleRoundingUp(m) => double_rounding(accumulator, m, true),
            Self::SingleRounding(m) => {
                let m = FixedMultiplier {
                    shift: m.shift.min(30),
                    ..m
                };
                let product = i128::from(accumulator) * i128::from(m.significand);
                floor_half_up(product, 31 - m.shift)
            }
            Self::Float {
                multiplier,
                rounding: Rounding::NearestEven,
            } => (accumulator as f32 * multiplier).round_ties_even() as i64,
            Self::Float {
                multiplier,
                rounding,
            } => {
                let wide = IntRange {
                    bits: 64,
                    signed: true,
                };
                let conversion = Conversion {
                    rounding,
                    ..Conversion::default()
                };
                let product = Exact::from(accumulator as f32 * multiplier);
                wide.integer(wide.encode(product, &conversion, index).code) as i64
            }
            Self::PowerOfTwo { shift, rounding } => {
                let shift = u32::from(shift.min(127));
                rounding.shift_right(accumulator.into(), shift, index) as i64
            }
            Self::Reduced(m) => {
                let q = if m.significand < 0x7fff_0000 {
                    (m.significand + (1 << 15)) >> 16
                } else {
                    0x7fff
                };
                let product = i128::from(accumulator) * i128::from(q);
                floor_half_up(product, 15 - m.shift.min(14))
            }
        }
    }

    /// The output integer: requantized, with the zero point, clamped to an activation's range.
    pub fn output(&self, accumulator: i64, zero_point: i64, range: (i64, i64), index: u64) -> i64 {
        let (least, largest) = range;
        let q = self.apply(accumulator, index).saturating_add(zero_point);
        q.min(largest).max(least)
    }
}

fn floor_half_up(product: i128, shift: i32) -> i64 {
    let shift = shift.clamp(1, 126);
    ((product + (1 << (shift - 1))) >> shift) as i64
}

fn double_rounding(accumulator: i64, m: FixedMultiplier, ties_up: bool) -> i64 {
    let (left, right) = (m.shift.clamp(0, 31), (-m.shift).clamp(0, 31));
    let x = (accumulator as i32).wrapping_shl(left as u32);
    let high = if x == i32::MIN && m.significand == i32::MIN {
        i32::MAX.into()
    } else {
        // The quotient truncated after the nudge is the floor of the nearest.
        (i64::from(x) * i64::from(m.significand) + (1 << 30)) >> 31
    };
    let half = (1i64 << right) >> 1;
    if ties_up || high >= 0 {
        (high + half) >> right
    } else {
        -((half - high) >> right)
    }
}

/// A sum of products of raw integers corrected for zero points:
/// `sum (a - za)(w - zw) = sum a w - zw sum a - za sum w + k za zw`.
pub fn zero_point_correction(
    products: i64,
    (sum_a, zero_a): (i64, i64),
    (sum_w, zero_w): (i64, i64),
    terms: i64,
) -> i64 {
    products - zero_w * sum_a - zero_a * sum_w + terms * zero_a * zero_w
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn multipliers_are_normalized() {
        let m = FixedMultiplier::new(0.5);
        assert_eq!((m.significand, m.shift), (1 << 30, 0));
        let m = FixedMultiplier::new(1.0 - 1e-12);
        assert_eq!((m.significand, m.shift), (1 << 30, 1));
        assert_eq!(FixedMultiplier::new(0.0).significand, 0);
        let m = FixedMultiplier::new(-0.75);
        assert_eq!((m.significand, m.shift), (-3 << 29, 0));
    }

    /// A quarter of 1 rounds to 1 when it is rounded twice (ruy, issue 227).
    #[test]
    fn twice_rounded_a_quarter_is_one() {
        let m = FixedMultiplier {
            significand: 1 << 30,
            shift: -1,
        };
        assert_eq!(Requantization::DoubleRounding(m).apply(1, 0), 1);
        assert_eq!(Requantization::SingleRounding(m).apply(1, 0), 0);
    }

    proptest! {
        #[test]
        fn forms_stay_near_the_product(x in -(1i64 << 29)..1 << 29, real in 1e-6f64..1.0) {
            let m = FixedMultiplier::new(real);
            let exact = x as f64 * real;
            let tolerance = 1.0 + exact.abs() * 1e-6;
            for form in [
                Requantization::DoubleRounding(m),
                Requantization::DoubleRoundingUp(m),
                Requantization::SingleRounding(m),
                Requantization::Float { multiplier: real as f32, rounding: Rounding::NearestEven },
            ] {
                prop_assert!((form.apply(x, 0) as f64 - exact).abs() <= tolerance, "{:?}", form);
            }
            let reduced = Requantization::Reduced(m).apply(x, 0) as f64;
            prop_assert!((reduced - exact).abs() <= 1.0 + exact.abs() / 30_000.0);
            let sums = [Requantization::DoubleRounding(m), Requantization::SingleRounding(m)].map(|f| f.apply(x, 0));
            prop_assert!((sums[0] - sums[1]).abs() <= 1);
        }

        /// The quotients as gemmlowp defines them, and f32 products rounded without a product of integers.
        #[test]
        fn fast_forms_are_the_defined_ones(x in any::<i32>(), real in 1e-9f64..1e9, bits in any::<u32>()) {
            let m = FixedMultiplier::new(real);
            let (left, right) = (m.shift.max(0) as u32, (-m.shift).max(0) as u32);
            let product = i64::from(x.wrapping_shl(left)) * i64::from(m.significand);
            let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
            let high = i128::from((product + nudge) / (1 << 31));
            for (form, rounding) in [
                (Requantization::DoubleRounding(m), Rounding::NearestAway),
                (Requantization::DoubleRoundingUp(m), Rounding::HalfUp),
            ] {
                prop_assert_eq!(i128::from(form.apply(x.into(), 0)), rounding.shift_right(high, right, 0));
            }
            let multiplier = f32::from_bits(bits);
            let float = Requantization::Float { multiplier, rounding: Rounding::NearestEven };
            let product = x as f32 * multiplier;
            let wide = IntRange { bits: 64, signed: true };
            let code = wide.encode(product.into(), &Conversion::default(), 0).code;
            prop_assert_eq!(i128::from(float.apply(x.into(), 0)), wide.integer(code));
        }

        #[test]
        fn zero_points_correct_exactly(pairs in proptest::collection::vec((-128i64..128, -128i64..128), 1..40), za in -128i64..128, zw in -128i64..128) {
            let direct: i64 = pairs.iter().map(|(a, w)| (a - za) * (w - zw)).sum();
            let products = pairs.iter().map(|(a, w)| a * w).sum();
            let sum_a = pairs.iter().map(|p| p.0).sum();
            let sum_w = pairs.iter().map(|p| p.1).sum();
            let corrected = zero_point_correction(products, (sum_a, za), (sum_w, zw), pairs.len() as i64);
            prop_assert_eq!(corrected, direct);
        }
    }
}
