//! What a user asks for in one word: the formats of weights, activations, KV cache and accumulator.
//!
//! "w4a16kv8": weights, activations and KV cache by width; "int8": weights, activations and KV cache alike.
//! A width stands for the usual scheme of that width: w4 = `int4_g128`, w8 = `int8` (per channel scales),
//! 16 = `bf16`, 32 = `fp32`; `a8`, `kv8` = `int8`, `kv4` = `int4_g128`. Any name of a format or scheme may
//! stand in the place of a width: "w=mxfp4,a=bf16,kv=fp8_e4m3fn,acc=fp32".

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::format::Format;
use crate::quantization::Quantization;

/// Formats of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision {
    /// Weights of linear and convolution ops.
    pub weights: Quantization,
    /// Activations.
    pub activations: Quantization,
    /// KV cache and other state kept between steps.
    pub kv: Quantization,
    /// Accumulator and stored partial sums. `None`: the chip's own for these formats.
    pub accumulate: Option<Format>,
}

/// A precision that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{text}` is not a precision: {reason}; write a format such as `int8` or `bf16`, widths such as `w4a16kv8`, or names such as `w=mxfp4,a=bf16,kv=int8`"
)]
pub struct PrecisionError {
    /// As written.
    pub text: String,
    /// What is wrong.
    pub reason: String,
}

impl Precision {
    /// The same format everywhere.
    pub fn uniform(format: impl Into<Quantization>) -> Self {
        let q = format.into();
        let weights = if q.format == Format::INT8 && q.scaling.is_none() {
            by_width("w", "8")
        } else {
            None
        };
        Self {
            weights: weights.unwrap_or(q),
            activations: q,
            kv: q,
            accumulate: None,
        }
    }
}

fn by_width(what: &str, width: &str) -> Option<Quantization> {
    let name = match (what, width) {
        ("w", "8") => "int8_pc",
        (_, "2") => "int2_g64",
        (_, "3") => "int3_g128",
        (_, "4") => "int4_g128",
        (_, "6") => "mxfp6_e3m2",
        (_, "8") => "int8",
        (_, "16") => "bf16",
        (_, "32") => "fp32",
        _ => return None,
    };
    name.parse().ok()
}

impl FromStr for Precision {
    type Err = PrecisionError;
    fn from_str(s: &str) -> Result<Self, PrecisionError> {
        let error = |reason: String| PrecisionError {
            text: s.into(),
            reason,
        };
        if s.contains('=') {
            return named_parts(s).map_err(error);
        }
        if let Some(parts) = widths(s) {
            let get = |what: &str| parts.iter().find(|(w, _)| *w == what).map(|(_, n)| *n);
            let part = |what: &str, width: &str| {
                by_width(what, width).ok_or_else(|| {
                    error(format!(
                        "no usual scheme has {width} bits in `{what}{width}`"
                    ))
                })
            };
            let weights = get("w").ok_or_else(|| error("it gives no weights (`w`)".into()))?;
            let activations =
                get("a").ok_or_else(|| error("it gives no activations (`a`)".into()))?;
            let activations_q = part("a", activations)?;
            let kv = match get("kv") {
                Some(width) => part("kv", width)?,
                None => activations_q,
            };
            return Ok(Self {
                weights: part("w", weights)?,
                activations: activations_q,
                kv,
                accumulate: None,
            });
        }
        s.parse::<Quantization>()
            .map(Self::uniform)
            .map_err(|e| error(e.to_string()))
    }
}

/// Splits "w4a16kv8" into its letters and digits; `None` where the text has another form.
fn widths(s: &str) -> Option<Vec<(&str, &str)>> {
    let mut parts: Vec<(&str, &str)> = Vec::new();
    let mut rest = s;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit())?;
        let end = rest[digits..]
            .find(|c: char| !c.is_ascii_digit())
            .map_or(rest.len(), |e| digits + e);
        let what = &rest[..digits];
        if !matches!(what, "w" | "a" | "kv") || parts.iter().any(|(w, _)| *w == what) {
            return None;
        }
        parts.push((what, &rest[digits..end]));
        rest = &rest[end..];
    }
    (!parts.is_empty()).then_some(parts)
}

fn named_parts(s: &str) -> Result<Precision, String> {
    let (mut weights, mut activations, mut kv, mut accumulate) = (None, None, None, None);
    for part in s.split(',') {
        let (what, name) = part
            .split_once('=')
            .ok_or_else(|| format!("`{part}` has no `=`"))?;
        match what.trim() {
            "w" => {
                weights = Some(
                    name.trim()
                        .parse::<Quantization>()
                        .map_err(|e| e.to_string())?,
                )
            }
            "a" => {
                activations = Some(
                    name.trim()
                        .parse::<Quantization>()
                        .map_err(|e| e.to_string())?,
                )
            }
            "kv" => {
                kv = Some(
                    name.trim()
                        .parse::<Quantization>()
                        .map_err(|e| e.to_string())?,
                )
            }
            "acc" => accumulate = Some(name.trim().parse::<Format>().map_err(|e| e.to_string())?),
            other => return Err(format!("`{other}` is none of `w`, `a`, `kv`, `acc`")),
        }
    }
    let activations = activations.ok_or("it gives no activations (`a=`)")?;
    let weights = weights.ok_or("it gives no weights (`w=`)")?;
    Ok(Precision {
        weights,
        activations,
        kv: kv.unwrap_or(activations),
        accumulate,
    })
}

impl fmt::Display for Precision {
    /// One format where it is the same everywhere, names otherwise; either form reads back to the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::uniform(self.activations) {
            return write!(f, "{}", self.activations);
        }
        write!(
            f,
            "w={},a={},kv={}",
            self.weights, self.activations, self.kv
        )?;
        match self.accumulate {
            Some(a) => write!(f, ",acc={a}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn precisions_read() {
        let p: Precision = "w4a16kv8".parse().unwrap();
        assert_eq!(p.to_string(), "w=int4_g128,a=bf16,kv=int8");
        assert_eq!(p.to_string().parse::<Precision>(), Ok(p));
        let p: Precision = "int8".parse().unwrap();
        assert_eq!(p.to_string(), "int8");
        let p: Precision = "w=int8,a=int8,kv=int8".parse().unwrap();
        assert_eq!(p.to_string(), "w=int8,a=int8,kv=int8");
        for bad in [
            "",
            "w4",
            "w5a16",
            "x4a16",
            "w4a16w8",
            "w=int4",
            "a=int8,w=intt8",
        ] {
            assert!(bad.parse::<Precision>().is_err(), "{bad}");
        }
    }
}
