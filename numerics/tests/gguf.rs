//! All block types against gguf-py 0.19: blocks read, and written where the type has an encoder.

use presil_numerics::block::gguf::{GgufError, GgufType};
use serde_json::Value;

use crate::{bytes_of, f32_of, reference};

#[test]
fn every_block_is_equal() {
    let file: Value = serde_json::from_str(&reference("gguf.json")).unwrap();
    let (mut read, mut written) = (0, 0);
    for case in file["cases"].as_array().unwrap() {
        let kind: GgufType = case["type"].as_str().unwrap().parse().unwrap();
        assert_eq!(
            kind.block_elements() as u64,
            case["block_elems"].as_u64().unwrap()
        );
        assert_eq!(
            kind.block_bytes() as u64,
            case["block_bytes"].as_u64().unwrap()
        );
        let floats = |name: &str| -> Vec<f32> {
            let items = case[name].as_array().unwrap();
            items.iter().map(|x| f32_of(x.as_str().unwrap())).collect()
        };
        let bytes = bytes_of(case["bytes_hex"].as_str().unwrap());
        let values = kind.dequantize(&bytes).unwrap();
        let pairs = values.iter().zip(floats("output"));
        for (i, (ours, theirs)) in pairs.enumerate() {
            let same = ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan();
            assert!(
                same,
                "{kind} {} element {i}: {ours} for {theirs}",
                case["kind"]
            );
        }
        assert_eq!(values.len(), floats("output").len());
        read += 1;
        if case["mode"] == "quantize+dequantize" {
            assert_eq!(
                kind.quantize(&floats("input")).unwrap(),
                bytes,
                "{kind} {}",
                case["kind"]
            );
            written += 1;
        } else {
            let zeros = vec![0.0; kind.block_elements()];
            assert_eq!(kind.quantize(&zeros), Err(GgufError::DecodeOnly(kind)));
        }
    }
    assert_eq!((read, written), (180, 100));
    assert_eq!(GgufType::all().count(), 18);
    assert!(
        GgufType::all()
            .all(|t| GgufType::from_id(t.id()) == Some(t) && t.to_string().parse() == Ok(t))
    );
    assert!(GgufType::Q8_0.dequantize(&[0; 35]).is_err());
}
