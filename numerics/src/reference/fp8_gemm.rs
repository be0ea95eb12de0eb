//! Matrix products of FP8 by mmaemu (`fp8_gemm.json`), accumulated in the unit alone ("fast") or promoted to f32 on the
//! way: every element equal. Its second operand has N rows.

use serde::Deserialize;

use super::mma::{Product, numbers};
use super::text::{Bytes, Numbers};
use super::{Groups, ReferenceError, Verdict, check_length};
use crate::Format;
use crate::arithmetic::matmul::Size;
use crate::arithmetic::presets::fused_dots;

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    profile: String,
    use_fast_accum: bool,
    kind: String,
    #[serde(rename = "M")]
    m: usize,
    #[serde(rename = "N")]
    n: usize,
    #[serde(rename = "K")]
    k: usize,
    a_e4m3_hex: Bytes,
    #[serde(rename = "b_e4m3_hex_NK")]
    b_e4m3_hex: Bytes,
    d_f32_hex: Numbers,
}

/// Products by generation and accumulation.
pub(super) fn groups(text: &str) -> Result<Groups, ReferenceError> {
    let units = fused_dots()?;
    let file: File = serde_json::from_str(text)?;
    let format = Format::FP8_E4M3FN;
    let mut groups = Groups::default();
    for case in &file.cases {
        let (promoted, how) = if case.use_fast_accum {
            ("", "fast")
        } else {
            ("_promoted", "promoted")
        };
        let unit_name = format!("{}_f8{promoted}", case.profile);
        let unit = units.iter().find(|u| u.name == unit_name);
        let unit = unit.and_then(|u| u.with_inputs(format, format).ok());
        let unit = unit.ok_or(ReferenceError::Unknown {
            what: "unit in the table",
            name: unit_name,
        })?;
        let name = format!("{} K = {}", case.kind, case.k);
        let (n, k) = (case.n, case.k);
        let rows = numbers(&case.b_e4m3_hex.0, format)?;
        let elements = n.saturating_mul(k);
        check_length(&name, "elements of B", elements, rows.len())?;
        let product = Product {
            size: Size { m: case.m, n, k },
            a: numbers(&case.a_e4m3_hex.0, format)?,
            b: (0..elements).map(|i| rows[i % n * k + i / n]).collect(),
            c: vec![0.0; case.d_f32_hex.0.len()],
            d: case.d_f32_hex.0.clone(),
            name,
        };
        let verdict = Verdict::of(product.equal(&unit)?);
        let group = groups.named(&format!("mmaemu FP8 products: {}, {how}", case.profile));
        group.count(verdict, || product.name.clone());
    }
    Ok(groups)
}
