//! Newtypes for physical quantities, with checked parsing and printing.
//!
//! A quantity is read from a number and a unit ("34.1 GB/s"); a bare number where a unit is due is an
//! error that names the units that would do. Counts ([`Bits`], [`Bytes`]) are exact integers: a fraction
//! or an overflow is an error, never a rounding or a wrap. SI prefixes are powers of 1000 and IEC
//! prefixes (Ki, Mi, Gi, Ti) powers of 1024.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Sub};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Why a quantity could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnitError {
    /// No number at the start of the text.
    #[error(
        "`{text}` does not start with a number; write a number and a unit, such as `{example}`"
    )]
    NoNumber {
        /// As written.
        text: String,
        /// What would do.
        example: &'static str,
    },
    /// A number stands where a unit is due.
    #[error("`{text}` has no unit; write one of {units}, such as `{example}`")]
    NoUnit {
        /// As written.
        text: String,
        /// Units that would do.
        units: String,
        /// A quantity that would do.
        example: &'static str,
    },
    /// The unit is none of this quantity's.
    #[error("`{unit}` is not a unit of {quantity}; write one of {units}")]
    UnknownUnit {
        /// The unit as written.
        unit: String,
        /// What the quantity is.
        quantity: &'static str,
        /// Units that would do.
        units: String,
    },
    /// The value cannot be held: negative, not finite, fractional where a count is due, or too large.
    #[error("`{text}` is not a valid {quantity}: {reason}")]
    OutOfRange {
        /// As written.
        text: String,
        /// What the quantity is.
        quantity: &'static str,
        /// Why it can't be held.
        reason: &'static str,
    },
}

/// Splits "34.1 GB/s" into its number and its unit.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let mut end = 0;
    let bytes = text.as_bytes();
    while end < bytes.len() {
        let c = bytes[end];
        let exponent = (c == b'e' || c == b'E')
            && end > 0
            && matches!(bytes.get(end + 1), Some(b'0'..=b'9' | b'-' | b'+'));
        let sign = (c == b'-' || c == b'+') && (end == 0 || matches!(bytes[end - 1], b'e' | b'E'));
        if c.is_ascii_digit() || c == b'.' || c == b'_' || exponent || sign {
            end += 1;
        } else {
            break;
        }
    }
    (&text[..end], text[end..].trim())
}

fn list(units: &[(&str, f64)]) -> String {
    units
        .iter()
        .map(|(u, _)| format!("`{u}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn parse(
    text: &str,
    quantity: &'static str,
    example: &'static str,
    units: &[(&str, f64)],
) -> Result<f64, UnitError> {
    let (number, unit) = split(text);
    let number: f64 = number
        .replace('_', "")
        .parse()
        .map_err(|_| UnitError::NoNumber {
            text: text.into(),
            example,
        })?;
    if unit.is_empty() {
        return Err(UnitError::NoUnit {
            text: text.into(),
            units: list(units),
            example,
        });
    }
    let factor = units
        .iter()
        .find(|(u, _)| *u == unit)
        .map(|(_, f)| *f)
        .ok_or_else(|| UnitError::UnknownUnit {
            unit: unit.into(),
            quantity,
            units: list(units),
        })?;
    let value = number * factor;
    if !value.is_finite() || value < 0.0 {
        let reason = "it must be finite and not negative";
        return Err(UnitError::OutOfRange {
            text: text.into(),
            quantity,
            reason,
        });
    }
    Ok(value)
}

/// Prints with the largest unit that leaves a number of at least one, and four significant digits.
fn print(f: &mut fmt::Formatter<'_>, value: f64, units: &[(&str, f64)]) -> fmt::Result {
    let mut best = units[0];
    for &(unit, factor) in units {
        let better = if value.abs() >= factor {
            factor > best.1 || value.abs() < best.1
        } else {
            false
        };
        if better || (value.abs() < best.1 && factor < best.1) {
            best = (unit, factor);
        }
    }
    if value == 0.0 {
        best = units[0];
    }
    let scaled = value / best.1;
    let digits = if scaled == 0.0 {
        0
    } else {
        (3 - scaled.abs().log10().floor() as i32).clamp(0, 6)
    };
    let mut text = format!("{scaled:.*}", digits as usize);
    if text.contains('.') {
        text = text.trim_end_matches('0').trim_end_matches('.').to_string();
    }
    f.pad(&format!("{text} {}", best.0))
}

macro_rules! serde_text {
    ($name:ident, $quantity:literal, $example:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct V;
                impl serde::de::Visitor<'_> for V {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                        write!(f, "a {} with its unit, such as \"{}\"", $quantity, $example)
                    }
                    fn visit_str<E: serde::de::Error>(self, s: &str) -> Result<$name, E> {
                        s.parse().map_err(E::custom)
                    }
                }
                d.deserialize_any(V)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "description": concat!("A ", $quantity, " with its unit, such as \"", $example, "\"")
                })
            }
        }
    };
}

macro_rules! real_unit {
    ($(#[$doc:meta])* $name:ident, $quantity:literal, $example:literal, print $print:expr, [$(($u:literal, $f:expr)),+ $(,)?]) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
        pub struct $name(pub f64);
        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0.0);
            /// Accepted unit spellings and their factors.
            pub const UNITS: &'static [(&'static str, f64)] = &[$(($u, $f)),+];
            /// The larger of two.
            pub fn max(self, other: Self) -> Self { Self(self.0.max(other.0)) }
            /// The smaller of two.
            pub fn min(self, other: Self) -> Self { Self(self.0.min(other.0)) }
        }
        impl FromStr for $name {
            type Err = UnitError;
            fn from_str(s: &str) -> Result<Self, UnitError> {
                parse(s, $quantity, $example, Self::UNITS).map(Self)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { print(f, self.0, $print) }
        }
        impl Add for $name { type Output = Self; fn add(self, o: Self) -> Self { Self(self.0 + o.0) } }
        impl Sub for $name { type Output = Self; fn sub(self, o: Self) -> Self { Self(self.0 - o.0) } }
        impl AddAssign for $name { fn add_assign(&mut self, o: Self) { self.0 += o.0; } }
        impl Mul<f64> for $name { type Output = Self; fn mul(self, o: f64) -> Self { Self(self.0 * o) } }
        impl Div<f64> for $name { type Output = Self; fn div(self, o: f64) -> Self { Self(self.0 / o) } }
        impl Div for $name { type Output = f64; fn div(self, o: Self) -> f64 { self.0 / o.0 } }
        impl Sum for $name { fn sum<I: Iterator<Item = Self>>(i: I) -> Self { Self(i.map(|x| x.0).sum()) } }
        serde_text!($name, $quantity, $example);
    };
}

real_unit!(
    /// A duration in seconds. Timestamps of the event engine are [`crate::Femtoseconds`].
    Seconds, "duration", "1.5 us",
    print &[("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("ps", 1e-12)],
    [("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("ps", 1e-12), ("fs", 1e-15)]
);
real_unit!(
    /// A frequency in hertz.
    Hertz, "frequency", "1.2 GHz",
    print &[("Hz", 1.0), ("kHz", 1e3), ("MHz", 1e6), ("GHz", 1e9)],
    [("Hz", 1.0), ("kHz", 1e3), ("MHz", 1e6), ("GHz", 1e9)]
);
real_unit!(
    /// An energy in joules.
    Joules, "energy", "0.8 pJ",
    print &[("J", 1.0), ("mJ", 1e-3), ("uJ", 1e-6), ("nJ", 1e-9), ("pJ", 1e-12), ("fJ", 1e-15)],
    [("J", 1.0), ("mJ", 1e-3), ("uJ", 1e-6), ("nJ", 1e-9), ("pJ", 1e-12), ("fJ", 1e-15)]
);
real_unit!(
    /// An energy for each bit moved, in joules per bit.
    JoulesPerBit, "energy per bit", "3.8 pJ/bit",
    print &[("pJ/bit", 1e-12), ("fJ/bit", 1e-15)],
    [("J/bit", 1.0), ("nJ/bit", 1e-9), ("pJ/bit", 1e-12), ("fJ/bit", 1e-15), ("pJ/B", 1e-12 / 8.0), ("pJ/byte", 1e-12 / 8.0)]
);
real_unit!(
    /// A power in watts.
    Watts, "power", "250 mW",
    print &[("W", 1.0), ("mW", 1e-3), ("uW", 1e-6), ("nW", 1e-9)],
    [("kW", 1e3), ("W", 1.0), ("mW", 1e-3), ("uW", 1e-6), ("nW", 1e-9), ("pW", 1e-12)]
);
real_unit!(
    /// A silicon area in square millimetres.
    SquareMm, "area", "0.25 mm2",
    print &[("mm2", 1.0), ("um2", 1e-6)],
    [("mm2", 1.0), ("um2", 1e-6)]
);
real_unit!(
    /// A data rate in bytes per second.
    BytesPerSecond, "data rate", "34.1 GB/s",
    print &[("B/s", 1.0), ("kB/s", 1e3), ("MB/s", 1e6), ("GB/s", 1e9), ("TB/s", 1e12)],
    [
        ("B/s", 1.0), ("kB/s", 1e3), ("MB/s", 1e6), ("GB/s", 1e9), ("TB/s", 1e12),
        ("KiB/s", 1024.0), ("MiB/s", 1_048_576.0), ("GiB/s", 1_073_741_824.0), ("TiB/s", 1_099_511_627_776.0),
        ("bit/s", 0.125), ("Mbit/s", 0.125e6), ("Gbit/s", 0.125e9),
    ]
);

real_unit!(
    /// A supply voltage in volts.
    Volts, "voltage", "0.8 V",
    print &[("V", 1.0)],
    [("V", 1.0), ("mV", 1e-3)]
);
real_unit!(
    /// A process node or another length on the die, in nanometres.
    Nanometres, "length", "7 nm",
    print &[("nm", 1.0)],
    [("nm", 1.0), ("um", 1e3), ("mm", 1e6)]
);

macro_rules! count_unit {
    ($(#[$doc:meta])* $name:ident, $quantity:literal, $example:literal, print $print:expr, [$(($u:literal, $f:expr)),+ $(,)?]) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);
        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);
            /// Accepted unit spellings and their factors.
            pub const UNITS: &'static [(&'static str, f64)] = &[$(($u, $f)),+];
            /// The sum, or `None` where it overflows.
            pub fn checked_add(self, o: Self) -> Option<Self> { self.0.checked_add(o.0).map(Self) }
            /// The product, or `None` where it overflows.
            pub fn checked_mul(self, n: u64) -> Option<Self> { self.0.checked_mul(n).map(Self) }
        }
        impl FromStr for $name {
            type Err = UnitError;
            fn from_str(s: &str) -> Result<Self, UnitError> {
                let value = parse(s, $quantity, $example, Self::UNITS)?;
                let bad = |reason| UnitError::OutOfRange { text: s.into(), quantity: $quantity, reason };
                // 2^53: beyond it an f64 no longer holds every integer.
                if value > 9_007_199_254_740_992.0 { return Err(bad("it is too large")); }
                if value.fract() != 0.0 { return Err(bad("it must be a whole number")); }
                Ok(Self(value as u64))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { print(f, self.0 as f64, $print) }
        }
        impl Add for $name { type Output = Self; fn add(self, o: Self) -> Self { Self(self.0 + o.0) } }
        impl AddAssign for $name { fn add_assign(&mut self, o: Self) { self.0 += o.0; } }
        impl Sum for $name { fn sum<I: Iterator<Item = Self>>(i: I) -> Self { Self(i.map(|x| x.0).sum()) } }
        serde_text!($name, $quantity, $example);
    };
}

count_unit!(
    /// A number of bytes.
    Bytes, "size", "512 KiB",
    print &[("B", 1.0), ("KiB", 1024.0), ("MiB", 1_048_576.0), ("GiB", 1_073_741_824.0), ("TiB", 1_099_511_627_776.0)],
    [
        ("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12),
        ("KiB", 1024.0), ("MiB", 1_048_576.0), ("GiB", 1_073_741_824.0), ("TiB", 1_099_511_627_776.0),
    ]
);
count_unit!(
    /// A number of bits.
    Bits, "number of bits", "16 bit",
    print &[("bit", 1.0), ("kbit", 1e3), ("Mbit", 1e6), ("Gbit", 1e9)],
    [("bit", 1.0), ("bits", 1.0), ("kbit", 1e3), ("Mbit", 1e6), ("Kibit", 1024.0), ("Mibit", 1_048_576.0)]
);

impl Bits {
    /// Bytes that hold these bits, rounded up.
    pub fn bytes_ceil(self) -> Bytes {
        Bytes(self.0.div_ceil(8))
    }
}

impl Bytes {
    /// The time to move these bytes at a rate. Infinite at rate zero.
    pub fn at(self, rate: BytesPerSecond) -> Seconds {
        Seconds(self.0 as f64 / rate.0)
    }
}

impl Mul<Seconds> for Watts {
    type Output = Joules;
    fn mul(self, t: Seconds) -> Joules {
        Joules(self.0 * t.0)
    }
}

impl Div<Seconds> for Joules {
    type Output = Watts;
    fn div(self, t: Seconds) -> Watts {
        Watts(self.0 / t.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_and_print() {
        assert_eq!("512 KiB".parse(), Ok(Bytes(524_288)));
        assert_eq!("1.2 GHz".parse::<Hertz>().map(|h| h.0), Ok(1.2e9));
        assert_eq!(
            "34.1 GB/s".parse::<BytesPerSecond>().map(|b| b.to_string()),
            Ok("34.1 GB/s".into())
        );
        assert_eq!(
            "3.8 pJ/bit".parse::<JoulesPerBit>().map(|b| b.to_string()),
            Ok("3.8 pJ/bit".into())
        );
        assert_eq!(Seconds(0.00231).to_string(), "2.31 ms");
        assert_eq!(Seconds(0.0).to_string(), "0 s");
        assert_eq!(Bytes(1000).to_string(), "1000 B");
    }

    #[test]
    fn bad_quantities_say_what_would_do() {
        let bare = "512".parse::<Bytes>().map_err(|e| e.to_string());
        assert!(bare.is_err_and(|m| m.contains("has no unit") && m.contains("512 KiB")));
        assert!("1.5 B".parse::<Bytes>().is_err());
        assert!("-1 KiB".parse::<Bytes>().is_err());
        assert!("1e30 TiB".parse::<Bytes>().is_err());
        assert!("fast GB/s".parse::<BytesPerSecond>().is_err());
        assert!("5 GB".parse::<BytesPerSecond>().is_err());
    }
}
