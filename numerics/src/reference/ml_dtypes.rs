//! ml_dtypes: the number of every code (`formats.json`), and casts from f32 (`rounding_cases.csv`).
//!
//! Its casts round to nearest even and overflow to infinity or NaN; formats of 4 and 6 bits have neither and saturate.
//!
//! Listed: it rounds f32's own subnormal numbers to E8M0 on a grid of 2^-126, so that 0.75 x 2^-126 less one unit
//! becomes 2^-126 though 2^-127 is nearer. Its own rule for all others is to nearest.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::text::{Code, Decimal, Number};
use super::{Groups, ReferenceError, Verdict, check_length};
use crate::conversion::{Conversion, MissingNan, Overflow, Subnormals};
use crate::{Codec, Exact, Format, Rounding};

const CASTS: Conversion = Conversion {
    rounding: Rounding::NearestEven,
    overflow: Overflow::Infinity,
    subnormals: Subnormals::Keep,
    missing_nan: MissingNan::NegatedZero,
};

const SUBNORMAL: &str =
    "ml_dtypes rounds subnormal f32 to E8M0 in units of 2^-126, away from the nearest code";

/// The codec of a format by its name in ml_dtypes.
fn codec(name: &str) -> Result<Codec, ReferenceError> {
    let ours = match name {
        "float8_e4m3fn" => "fp8_e4m3fn",
        "float8_e5m2" => "fp8_e5m2",
        "float8_e4m3fnuz" => "fp8_e4m3fnuz",
        "float8_e5m2fnuz" => "fp8_e5m2fnuz",
        "float8_e4m3b11fnuz" => "fp_e4m3fnuz_b11",
        "float8_e4m3" => "fp_e4m3",
        "float8_e3m4" => "fp_e3m4",
        "float8_e8m0fnu" => "e8m0",
        "float6_e2m3fn" => "fp6_e2m3fn",
        "float6_e3m2fn" => "fp6_e3m2fn",
        "float4_e2m1fn" => "fp4_e2m1fn",
        "bfloat16" => "bf16",
        "float16" => "fp16",
        other => other,
    };
    let format: Option<Format> = ours.parse().ok();
    let codec = format.and_then(|f| Codec::new(f, CASTS).ok());
    codec.ok_or_else(|| ReferenceError::Unknown {
        what: "format",
        name: name.into(),
    })
}

#[derive(Deserialize)]
struct Formats {
    formats: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    bits: usize,
    codes: Vec<Decimal>,
}

/// The number of every code of each format.
pub(super) fn codes(text: &str) -> Result<Groups, ReferenceError> {
    let file: Formats = serde_json::from_str(text)?;
    let mut groups = Groups::default();
    for (name, entry) in &file.formats {
        let codec = codec(name)?;
        check_length(name, "bits", codec.code_bits() as usize, entry.bits)?;
        let all = 1usize.checked_shl(codec.code_bits()).unwrap_or(usize::MAX);
        if entry.codes.len() > all {
            check_length(name, "codes", all, entry.codes.len())?;
        }
        let group = groups.named(&format!("ml_dtypes codes: {name}"));
        for (code, Decimal(expected)) in entry.codes.iter().enumerate() {
            let number = codec.decode(code as u128).to_f64();
            let equal = number.to_bits() == expected.to_bits();
            let verdict = Verdict::of(equal || number.is_nan() && expected.is_nan());
            group.count(verdict, || format!("{code:#x}"));
        }
    }
    Ok(groups)
}

#[derive(Deserialize)]
struct Cast {
    format: String,
    kind: String,
    f32_bits_hex: Number,
    code_hex: Code,
}

/// Every cast of each format.
pub(super) fn casts(text: &str) -> Result<Groups, ReferenceError> {
    let mut groups = Groups::default();
    let mut codecs: BTreeMap<String, Codec> = BTreeMap::new();
    for row in csv::Reader::from_reader(text.as_bytes()).deserialize() {
        let cast: Cast = row?;
        if !codecs.contains_key(&cast.format) {
            codecs.insert(cast.format.clone(), codec(&cast.format)?);
        }
        let verdict = match codecs.get(&cast.format) {
            Some(codec) => verdict(codec, &cast)?,
            None => Verdict::Failed,
        };
        let group = groups.named(&format!("ml_dtypes casts: {}", cast.format));
        let bits = cast.f32_bits_hex.0.to_bits();
        group.count(verdict, || format!("{} {bits:08x}", cast.kind));
    }
    Ok(groups)
}

fn verdict(codec: &Codec, cast: &Cast) -> Result<Verdict, ReferenceError> {
    let (Number(value), Code(expected)) = (cast.f32_bits_hex, cast.code_hex);
    if expected.checked_shr(codec.code_bits()).unwrap_or(0) != 0 {
        return Err(ReferenceError::Range {
            case: format!("{} {}", cast.format, cast.kind),
            what: "code",
            value: format!("{expected:x}"),
        });
    }
    let got = codec.encode(Exact::from(value), 0).code;
    let (theirs, ours) = (codec.decode(expected), codec.decode(got));
    if got == expected || theirs.is_nan() && ours.is_nan() {
        return Ok(Verdict::Passed);
    }
    let distance = |number: Exact| (number.to_f64() - f64::from(value)).abs();
    let contradicted =
        codec.format == Format::E8m0 && value.is_subnormal() && distance(ours) < distance(theirs);
    Ok(if contradicted {
        Verdict::Listed(SUBNORMAL)
    } else {
        Verdict::Failed
    })
}
