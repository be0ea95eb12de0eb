//! Sums and products of numbers without rounding.
//!
//! ```text
//! a + b    exact where the sum's bits fit 120; else its first 120 bits, the last one set where more follow
//! a x b    exact where the significands' widths add up to at most 128 bits
//! ```
//!
//! A sum so rounded (to odd) rounds to any format of at most 112 bits as the exact one does (Boldo, Melquiond,
//! "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE TC 57(4), 2008). Signs
//! of zeros are IEEE 754's: a sum of opposite numbers is +0, or -0 under rounding down.

use crate::exact::{Exact, Magnitude};
use crate::rounding::Rounding;

/// Bits that a sum keeps.
const KEPT: i32 = 120;

impl Exact {
    fn infinite(negative: bool) -> Self {
        Self {
            negative,
            magnitude: Magnitude::Infinite,
        }
    }

    /// The sum. `rounding` is what it will be rounded by: it decides the sign of a zero.
    pub fn plus(self, other: Self, rounding: Rounding) -> Self {
        let ((sa, ea), (sb, eb)) = match (self.magnitude, other.magnitude) {
            (Magnitude::Nan, _) | (_, Magnitude::Nan) => return Self::NAN,
            (Magnitude::Infinite, Magnitude::Infinite) if self.negative != other.negative => {
                return Self::NAN;
            }
            (Magnitude::Infinite, _) => return self,
            (_, Magnitude::Infinite) => return other,
            (
                Magnitude::Finite {
                    significand: sa,
                    exponent: ea,
                },
                Magnitude::Finite {
                    significand: sb,
                    exponent: eb,
                },
            ) => ((sa, ea), (sb, eb)),
        };
        match (sa, sb) {
            (0, 0) if self.negative == other.negative => return self,
            (0, 0) => return Self::finite(rounding == Rounding::Down, 0, 0),
            (_, 0) => return self,
            (0, _) => return other,
            _ => {}
        }
        // The unit is the smaller exponent, or higher where the leading bit would leave 120 bits.
        let top = (ea + sa.ilog2() as i32).max(eb + sb.ilog2() as i32);
        let unit = ea.min(eb).max(top - KEPT + 1);
        let (a, b) = (in_units(sa, ea - unit), in_units(sb, eb - unit));
        let signed = |x: u128, negative| if negative { -(x as i128) } else { x as i128 };
        let sum = signed(a, self.negative) + signed(b, other.negative);
        let negative = if sum == 0 {
            rounding == Rounding::Down
        } else {
            sum < 0
        };
        Self::finite(negative, sum.unsigned_abs(), unit)
    }

    /// The product.
    pub fn times(self, other: Self) -> Self {
        let negative = self.negative != other.negative;
        match (self.magnitude, other.magnitude) {
            (Magnitude::Nan, _) | (_, Magnitude::Nan) => Self::NAN,
            (Magnitude::Infinite, _) if other.is_zero() => Self::NAN,
            (_, Magnitude::Infinite) if self.is_zero() => Self::NAN,
            (Magnitude::Infinite, _) | (_, Magnitude::Infinite) => Self::infinite(negative),
            (
                Magnitude::Finite {
                    significand: sa,
                    exponent: ea,
                },
                Magnitude::Finite {
                    significand: sb,
                    exponent: eb,
                },
            ) => Self::finite(negative, sa * sb, ea + eb),
        }
    }
}

/// `significand x 2^left`, where right shifts leave a last bit that says whether more were lost.
fn in_units(significand: u128, left: i32) -> u128 {
    if left >= 0 {
        return significand << left;
    }
    let right = -left as u32;
    let kept = significand.checked_shr(right).unwrap_or(0);
    let exact = kept.checked_shl(right) == Some(significand);
    kept | u128::from(!exact)
}
