//! Tables of the technology models and interpolation between their points.

use serde::de::DeserializeOwned;

/// Interpolates a positive quantity that follows a power law between points: linear in the logarithms of `x` and
/// `y`. `points` ascend in `x`. Outside of them the end segment's power law goes on, its exponent limited to
/// `limits`; one point alone is a constant, none gives 1.
pub fn log_log(points: &[(f64, f64)], x: f64, limits: (f64, f64)) -> f64 {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return 1.0;
    };
    if points.len() == 1 {
        return first.1;
    }
    let at = points
        .iter()
        .position(|p| p.0 >= x)
        .unwrap_or(points.len() - 1)
        .clamp(1, points.len() - 1);
    let (Some(a), Some(b)) = (points.get(at - 1), points.get(at)) else {
        return first.1;
    };
    let exponent = (b.1 / a.1).ln() / (b.0 / a.0).ln();
    if x < first.0 {
        return first.1 * (x / first.0).powf(exponent.clamp(limits.0, limits.1));
    }
    if x > last.0 {
        return last.1 * (x / last.0).powf(exponent.clamp(limits.0, limits.1));
    }
    a.1 * (x / a.0).powf(exponent)
}

/// Exponents that extrapolation of sizes and widths may have: never falling, never faster than in proportion.
pub const RISING: (f64, f64) = (0.0, 1.0);
/// Any exponent.
pub const ANY: (f64, f64) = (-8.0, 8.0);

/// Reads the rows of a table that is compiled into the program. A row that can't be read is left out; the tests
/// see to it that there is none.
pub fn rows<T: DeserializeOwned>(text: &str) -> Vec<T> {
    csv::Reader::from_reader(text.as_bytes())
        .deserialize()
        .flatten()
        .collect()
}

/// Number of data lines of a table.
#[cfg(test)]
pub fn lines(text: &str) -> usize {
    text.lines().filter(|l| !l.trim().is_empty()).count() - 1
}
