//! Matrix instructions of MMA-Sim (`mma.json`): `d = a x b + c` of one instruction, every element equal, by the scalar
//! routine that defines the unit and by the matrix product. The unit is the one of the table that has the
//! generation, the operands and the accumulator.

use serde::Deserialize;

use super::text::{Bytes, same};
use super::{Groups, ReferenceError, Verdict, check_length};
use crate::arithmetic::fused::FusedUnit;
use crate::arithmetic::matmul::Size;
use crate::arithmetic::presets::fused_dots;
use crate::{Codec, Conversion, Format, Overflow};

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    instr: String,
    arch: String,
    qualifier: String,
    kind: String,
    rows: usize,
    #[serde(rename = "N")]
    n: usize,
    #[serde(rename = "K")]
    k: usize,
    a_type: String,
    b_type: String,
    c_type: String,
    d_type: String,
    a_hex: Bytes,
    #[serde(rename = "b_hex_KN")]
    b_hex: Bytes,
    c_hex: Bytes,
    d_hex: Bytes,
}

/// Instructions by generation.
pub(super) fn groups(text: &str) -> Result<Groups, ReferenceError> {
    let units = fused_dots()?;
    let file: File = serde_json::from_str(text)?;
    let mut groups = Groups::default();
    for case in &file.cases {
        let generation = match case.arch.as_str() {
            "Ada Lovelace" => "ada".into(),
            "RTX Blackwell" => "blackwell".into(),
            other => other.to_lowercase(),
        };
        let (stored_a, stored_b) = (format_of(&case.a_type)?, format_of(&case.b_type)?);
        let (a, b) = (operand(&case.a_type)?, operand(&case.b_type)?);
        let (c, d) = (format_of(&case.c_type)?, format_of(&case.d_type)?);
        let fitting = units.iter().find(|u| {
            u.generation == generation
                && u.inputs.contains(&a)
                && u.accumulate == c
                && u.promote.is_none()
        });
        let unit = fitting.and_then(|u| u.with_inputs(a, b).ok());
        let unit = unit.ok_or_else(|| ReferenceError::Unknown {
            what: "unit in the table",
            name: format!("{} {} {}", case.arch, case.instr, case.qualifier),
        })?;
        let product = Product {
            name: format!("{} {} {}", case.instr, case.qualifier, case.kind),
            size: Size {
                m: case.rows,
                n: case.n,
                k: case.k,
            },
            a: numbers(&case.a_hex.0, stored_a)?,
            b: numbers(&case.b_hex.0, stored_b)?,
            c: numbers(&case.c_hex.0, c)?,
            d: numbers(&case.d_hex.0, d)?,
        };
        let verdict = Verdict::of(product.equal(&unit)?);
        let group = groups.named(&format!("MMA-Sim instructions: {}", case.arch));
        group.count(verdict, || product.name.clone());
    }
    Ok(groups)
}

/// The format of an operand: those of tf32 instructions lie in 32 bits, of which the unit drops the low 13.
fn operand(name: &str) -> Result<Format, ReferenceError> {
    format_of(if name == "float32" { "tf32" } else { name })
}

/// The format of a type, whose codes are whole bytes.
fn format_of(name: &str) -> Result<Format, ReferenceError> {
    let ours = name.replacen("bfloat", "bf", 1).replacen("float", "fp", 1);
    let format: Option<Format> = ours.parse().ok();
    let whole = format.filter(|f| f.bits().is_multiple_of(8));
    whole.ok_or_else(|| ReferenceError::Unknown {
        what: "type",
        name: name.into(),
    })
}

/// The numbers of little-endian codes of whole bytes.
pub(super) fn numbers(bytes: &[u8], format: Format) -> Result<Vec<f32>, ReferenceError> {
    let conversion = Conversion {
        overflow: Overflow::Infinity,
        ..Conversion::default()
    };
    let codec = Codec::new(format, conversion).map_err(|_| ReferenceError::Unknown {
        what: "type",
        name: format.to_string(),
    })?;
    let codes = bytes.chunks((format.bits() as usize / 8).max(1));
    let number = |code: &[u8]| {
        let little = code.iter().rev();
        let code = little.fold(0u128, |n, byte| n << 8 | u128::from(*byte));
        codec.decode(code).to_f32()
    };
    Ok(codes.map(number).collect())
}

/// A product `d = c + a x b`, `b` of K rows.
pub(super) struct Product {
    pub name: String,
    pub size: Size,
    pub a: Vec<f32>,
    pub b: Vec<f32>,
    pub c: Vec<f32>,
    pub d: Vec<f32>,
}

impl Product {
    /// Whether the unit gives every element of `d`, by both of its routines.
    pub fn equal(&self, unit: &FusedUnit) -> Result<bool, ReferenceError> {
        let Size { m, n, k } = self.size;
        let lengths = [
            ("elements of A", m.saturating_mul(k), self.a.len()),
            ("elements of B", k.saturating_mul(n), self.b.len()),
            ("elements of C", m.saturating_mul(n), self.c.len()),
            ("elements of D", m.saturating_mul(n), self.d.len()),
        ];
        for (what, expected, got) in lengths {
            check_length(&self.name, what, expected, got)?;
        }
        let scalar = |(index, expected): (usize, &f32)| {
            let (i, j) = (index / n, index % n);
            let column: Vec<f32> = (0..k).map(|l| self.b[l * n + j]).collect();
            let row = &self.a[i * k..(i + 1) * k];
            same(unit.dot(row, &column, self.c[index]), *expected)
        };
        let mut product = self.c.clone();
        let multiplied = unit.matmul(&self.a, &self.b, &mut product, self.size);
        Ok(multiplied.is_ok()
            && product.iter().zip(&self.d).all(|(x, y)| same(*x, *y))
            && self.d.iter().enumerate().all(scalar))
    }
}
