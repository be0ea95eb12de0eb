//! NVFP4 of torchao, with one and two levels of scales (`nvfp4.json`): scales, codes and numbers are equal.

use serde::Deserialize;

use super::text::{Bytes, Number, Numbers, all_same, same};
use super::{Groups, ReferenceError, Verdict};
use crate::block::nvfp4::{BLOCK, Nvfp4};
use crate::codebook::nf4::unpack;

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kind: String,
    input: Numbers,
    single_level: Quantized,
    two_level: Quantized,
}

#[derive(Deserialize)]
struct Quantized {
    per_tensor_scale: Option<Number>,
    scales_e4m3_hex: Bytes,
    codes_hex: Bytes,
    output: Numbers,
}

/// Tensors by levels of scales.
pub(super) fn groups(text: &str) -> Result<Groups, ReferenceError> {
    let file: File = serde_json::from_str(text)?;
    let nvfp4 = Nvfp4::new();
    let mut groups = Groups::default();
    for case in &file.cases {
        let input = &case.input.0;
        if !input.len().is_multiple_of(BLOCK) {
            return Err(ReferenceError::Range {
                case: case.kind.clone(),
                what: "number of elements",
                value: input.len().to_string(),
            });
        }
        let tensor_scale = Nvfp4::tensor_scale(input);
        for (levels, expected, scale) in [
            ("one level", &case.single_level, None),
            ("two levels", &case.two_level, Some(tensor_scale)),
        ] {
            let equal = equal(&nvfp4, input, scale, expected);
            let group = groups.named(&format!("torchao NVFP4: {levels}"));
            group.count(Verdict::of(equal), || case.kind.clone());
        }
    }
    Ok(groups)
}

fn equal(nvfp4: &Nvfp4, input: &[f32], tensor: Option<f32>, expected: &Quantized) -> bool {
    let tensors_equal = match (tensor, expected.per_tensor_scale) {
        (Some(ours), Some(Number(theirs))) => same(ours, theirs),
        (None, None) => true,
        _ => false,
    };
    let mut scales = vec![0; input.len() / BLOCK];
    let mut codes = vec![0; input.len()];
    let mut values = vec![0.0; input.len()];
    nvfp4.quantize(input, tensor, &mut scales, &mut codes);
    nvfp4.dequantize(&scales, &codes, tensor, &mut values);
    tensors_equal
        && scales == expected.scales_e4m3_hex.0
        && codes == unpack(&expected.codes_hex.0)
        && all_same(&values, &expected.output.0)
}
