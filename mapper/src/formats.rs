//! Which formats can stand for which: what a mode of an engine can take in.

use presil_numerics::Format;

/// Whether every value of `narrow` is a value of `wide` (scales aside): an integer in a wider integer or in a
/// float with enough significand, a float in a float with no less exponent and mantissa. Code books and shared
/// exponents decode to 16-bit floats. Signed and unsigned integers of one width hold each other: a zero point
/// moves one range onto the other.
pub fn holds(wide: Format, narrow: Format) -> bool {
    if wide == narrow {
        return true;
    }
    match (wide, narrow) {
        (Format::Int { bits: w, .. }, Format::Int { bits: n, .. }) => w >= n,
        // Magnitudes up to 2^significand are exact.
        (
            Format::Float {
                mantissa, exponent, ..
            },
            Format::Int { bits, signed },
        ) => {
            let magnitude = u64::from(bits) - u64::from(signed);
            u64::from(mantissa) + 1 >= magnitude && magnitude < 1 << (exponent.min(15) - 1)
        }
        (
            Format::Float {
                exponent: we,
                mantissa: wm,
                ..
            },
            Format::Float {
                exponent, mantissa, ..
            },
        ) => we >= exponent && wm >= mantissa,
        (
            Format::Float {
                exponent, mantissa, ..
            },
            Format::Nf4 | Format::Fp4Bnb | Format::Palette { .. },
        ) => exponent >= 5 && mantissa >= 7,
        (Format::Float { exponent, .. }, Format::E8m0) => exponent >= 8,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_formats_hold_narrower_ones() {
        let f = |s: &str| s.parse::<Format>().unwrap_or(Format::E8m0);
        for (wide, narrow) in [
            ("int8", "int4"),
            ("int8", "uint8"),
            ("bf16", "int8"),
            ("bf16", "int4"),
            ("fp32", "bf16"),
            ("fp32", "fp16"),
            ("bf16", "fp8_e5m2"),
            ("fp16", "fp8_e4m3fn"),
            ("fp8_e4m3fn", "fp4_e2m1fn"),
            ("bf16", "nf4"),
            ("fp32", "int16"),
        ] {
            assert!(holds(f(wide), f(narrow)), "{wide} {narrow}");
        }
        for (wide, narrow) in [
            ("int4", "int8"),
            ("fp16", "bf16"),
            ("bf16", "fp16"),
            ("int8", "bf16"),
            ("bf16", "int16"),
            ("fp8_e4m3fn", "fp8_e5m2"),
            ("fp8_e4m3fn", "int8"),
            ("int8", "nf4"),
        ] {
            assert!(!holds(f(wide), f(narrow)), "{wide} {narrow}");
        }
    }
}
