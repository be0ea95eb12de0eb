//! MX blocks of 32: torchao with four scale rules, microxcaling with three roundings (`mx.json`).
//!
//! torchao: scale, codes and numbers are equal; under a NaN scale the codes of NaN elements mean nothing, and formats
//! without NaN get other ones. microxcaling has numbers and no codes, and loses the sign of zero: numbers are equal.
//!
//! Listed: microxcaling takes the exponent of each element from a logarithm in f32, one too large just below a power of
//! two. With truncation it then drops one bit more than the format has; its other roundings, and its other blocks, keep
//! that bit. The case is listed if every number that differs is such a one and nearer to zero there.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::text::{Bytes, Numbers, all_same};
use super::{Groups, ReferenceError, Verdict, check_length};
use crate::block::mx::{BLOCK, Dialect, Mx, ScaleRule};
use crate::{Format, Rounding};

const LOGARITHM: &str = "microxcaling takes the exponent of an element just below a power of two from a logarithm in f32, and truncates one bit more than the format has";

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    format: String,
    kind: String,
    input: Numbers,
    #[serde(default)]
    torchao: BTreeMap<Rule, Quantized>,
    #[serde(default)]
    microxcaling: BTreeMap<Mode, Numbers>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Rule {
    Floor,
    Ceil,
    Even,
    Rceil,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Even,
    Nearest,
    Floor,
}

#[derive(Deserialize)]
struct Quantized {
    scale_e8m0: u8,
    codes_hex: Bytes,
    output: Numbers,
}

fn element(name: &str) -> Option<Format> {
    let element = match name {
        "mxfp8_e4m3" => "fp8_e4m3fn",
        "mxfp8_e5m2" => "fp8_e5m2",
        "mxfp6_e3m2" => "fp6_e3m2fn",
        "mxfp6_e2m3" => "fp6_e2m3fn",
        "mxfp4_e2m1" => "fp4_e2m1fn",
        "mxint8" => "int8",
        _ => return None,
    };
    element.parse().ok()
}

/// The quantizer of a format, by the name of its scheme.
fn quantizer(
    name: &str,
    rule: ScaleRule,
    rounding: Rounding,
    dialect: Dialect,
) -> Result<Mx, ReferenceError> {
    let element = element(name);
    let mx = element.and_then(|e| Mx::new(e, rule, rounding, dialect).ok());
    mx.ok_or_else(|| ReferenceError::Unknown {
        what: "MX format",
        name: name.into(),
    })
}

/// Blocks by format: torchao's, then microxcaling's.
pub(super) fn groups(text: &str) -> Result<Groups, ReferenceError> {
    let file: File = serde_json::from_str(text)?;
    let mut groups = Groups::default();
    for case in &file.cases {
        check_length(&case.kind, "numbers", BLOCK, case.input.0.len())?;
        let group = groups.named(&format!("torchao MX: {}", case.format));
        for (rule, expected) in &case.torchao {
            let verdict = torchao(case, *rule, expected)?;
            group.count(verdict, || format!("{} {rule:?}", case.kind));
        }
    }
    for case in &file.cases {
        let group = groups.named(&format!("microxcaling MX: {}", case.format));
        for (mode, expected) in &case.microxcaling {
            check_length(&case.kind, "numbers", BLOCK, expected.0.len())?;
            let verdict = microxcaling(case, *mode, &expected.0)?;
            group.count(verdict, || format!("{} {mode:?}", case.kind));
        }
    }
    Ok(groups)
}

/// Scale, codes and numbers of a block.
fn quantized(mx: &Mx, input: &[f32]) -> (u8, [u8; BLOCK], [f32; BLOCK]) {
    let (mut scales, mut codes, mut values) = ([0], [0; BLOCK], [0.0; BLOCK]);
    mx.quantize(input, &mut scales, &mut codes);
    mx.dequantize(&scales, &codes, &mut values);
    (scales[0], codes, values)
}

fn torchao(case: &Case, rule: Rule, expected: &Quantized) -> Result<Verdict, ReferenceError> {
    check_length(&case.kind, "codes", BLOCK, expected.codes_hex.0.len())?;
    let rule = match rule {
        Rule::Floor => ScaleRule::Floor,
        Rule::Ceil => ScaleRule::Ceil,
        Rule::Even => ScaleRule::Even,
        Rule::Rceil => ScaleRule::Rceil,
    };
    let mx = quantizer(&case.format, rule, Rounding::NearestEven, Dialect::Torchao)?;
    let (scale, codes, values) = quantized(&mx, &case.input.0);
    let meaningless = |x: &f32| scale == 255 && (x.is_nan() || rule == ScaleRule::Rceil);
    let pairs = codes.iter().zip(&expected.codes_hex.0);
    let codes_equal = pairs
        .zip(&case.input.0)
        .all(|((ours, theirs), x)| ours == theirs || meaningless(x));
    let equal =
        scale == expected.scale_e8m0 && codes_equal && all_same(&values, &expected.output.0);
    Ok(Verdict::of(equal))
}

fn microxcaling(case: &Case, mode: Mode, expected: &[f32]) -> Result<Verdict, ReferenceError> {
    let rounding = match mode {
        Mode::Even => Rounding::NearestEven,
        Mode::Nearest => Rounding::NearestAway,
        Mode::Floor => Rounding::TowardZero,
    };
    let mx = quantizer(
        &case.format,
        ScaleRule::Floor,
        rounding,
        Dialect::Microxcaling,
    )?;
    let (_, _, values) = quantized(&mx, &case.input.0);
    let pairs = values.iter().zip(expected).zip(&case.input.0);
    let mut differing = pairs
        .filter(|((ours, theirs), _)| ours != theirs && !(ours.is_nan() && theirs.is_nan()))
        .peekable();
    if differing.peek().is_none() {
        return Ok(Verdict::Passed);
    }
    let contradicted = mode == Mode::Floor
        && differing.all(|((ours, theirs), x)| {
            let next = x.abs().to_bits() + 1;
            let below_a_power_of_two = next & 0x007f_ffff == 0;
            below_a_power_of_two && theirs.abs() < ours.abs() && ours.abs() <= x.abs()
        });
    Ok(if contradicted {
        Verdict::Listed(LOGARITHM)
    } else {
        Verdict::Failed
    })
}
