//! How near numbers are to what they should be.
//!
//! ```text
//! SQNR = 10 log10 (sum x^2 / sum (x - y)^2) dB         over pairs of finite numbers, in f64
//! ```

use serde::Serialize;

/// Errors of numbers against their reference.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Fidelity {
    /// Pairs of finite numbers.
    pub pairs: u64,
    /// Pairs of which one is not finite, and which are not the same infinity or both NaN.
    pub lost: u64,
    /// Signal to quantization noise in dB; `None` where there is no noise or no signal.
    pub sqnr_db: Option<f64>,
    /// Largest absolute error.
    pub max_abs_error: f64,
    /// Mean of the errors.
    pub mean_error: f64,
}

impl Fidelity {
    /// Of pairs of a reference and what stands for it.
    pub fn new(pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut f = Self::default();
        let (mut signal, mut noise, mut sum) = (0.0, 0.0, 0.0);
        for (x, y) in pairs {
            if !(x.is_finite() && y.is_finite()) {
                f.lost += u64::from(x != y && !(x.is_nan() && y.is_nan()));
                continue;
            }
            let error = y - x;
            f.pairs += 1;
            signal += x * x;
            noise += error * error;
            sum += error;
            f.max_abs_error = f.max_abs_error.max(error.abs());
        }
        if noise > 0.0 && signal > 0.0 {
            f.sqnr_db = Some(10.0 * (signal / noise).log10());
        }
        if f.pairs > 0 {
            f.mean_error = sum / f.pairs as f64;
        }
        f
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_in_decibels() {
        let f = Fidelity::new([
            (1.0, 1.1),
            (-1.0, -1.1),
            (f64::NAN, f64::NAN),
            (1.0, f64::INFINITY),
        ]);
        assert!((f.sqnr_db.unwrap_or_default() - 20.0).abs() < 1e-9);
        assert_eq!((f.pairs, f.lost), (2, 1));
        assert_eq!(Fidelity::new([(1.0, 1.0)]).sqnr_db, None);
    }
}
