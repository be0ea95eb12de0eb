//! Numbers as the files write them: bits and codes in hexadecimal, f64 in decimals.

use serde::Deserialize;
use thiserror::Error;

/// A text that is no number of its form.
#[derive(Debug, Error)]
#[error("`{text}` is no {form}")]
pub(super) struct NoNumber {
    form: &'static str,
    text: String,
}

fn no(form: &'static str, text: &str) -> NoNumber {
    NoNumber {
        form,
        text: text.into(),
    }
}

/// An f32, by 8 hexadecimal digits of its bits.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Number(pub f32);

impl TryFrom<String> for Number {
    type Error = NoNumber;

    fn try_from(text: String) -> Result<Self, NoNumber> {
        number(&text).map(Self)
    }
}

fn number(text: &str) -> Result<f32, NoNumber> {
    let bits = u32::from_str_radix(text, 16);
    bits.map(f32::from_bits)
        .map_err(|_| no("f32 in hexadecimal", text))
}

/// Numbers, each by its bits.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub(super) struct Numbers(pub Vec<f32>);

impl TryFrom<Vec<String>> for Numbers {
    type Error = NoNumber;

    fn try_from(texts: Vec<String>) -> Result<Self, NoNumber> {
        let numbers: Result<Vec<f32>, NoNumber> = texts.iter().map(|t| number(t)).collect();
        numbers.map(Self)
    }
}

/// An f64 in decimals.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Decimal(pub f64);

impl TryFrom<String> for Decimal {
    type Error = NoNumber;

    fn try_from(text: String) -> Result<Self, NoNumber> {
        let value = text.parse();
        value.map(Self).map_err(|_| no("number", &text))
    }
}

/// A code in hexadecimal.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Code(pub u128);

impl TryFrom<String> for Code {
    type Error = NoNumber;

    fn try_from(text: String) -> Result<Self, NoNumber> {
        let code = u128::from_str_radix(&text, 16);
        code.map(Self).map_err(|_| no("hexadecimal code", &text))
    }
}

/// Bytes, by two hexadecimal digits each.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Bytes(pub Vec<u8>);

impl TryFrom<String> for Bytes {
    type Error = NoNumber;

    fn try_from(text: String) -> Result<Self, NoNumber> {
        let digits = text.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> = digits.map(byte).collect();
        bytes
            .map(Self)
            .ok_or_else(|| no("bytes in hexadecimal", &text))
    }
}

fn byte(digits: &[u8]) -> Option<u8> {
    let digit = |d: &u8| char::from(*d).to_digit(16);
    match digits {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    }
}

/// Equal bits, or both NaN.
pub(super) fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// The same of all numbers.
pub(super) fn all_same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(*a, *b))
}
