//! Block types of GGUF files against gguf-py (`gguf.json`): blocks read, and written where the type has an encoder.

use serde::Deserialize;

use super::text::{Bytes, Numbers, all_same};
use super::{Groups, ReferenceError, Verdict, check_length};
use crate::block::gguf::{GgufError, GgufType};

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    #[serde(rename = "type")]
    kind_of_block: String,
    block_elems: usize,
    block_bytes: usize,
    kind: String,
    mode: Mode,
    input: Option<Numbers>,
    bytes_hex: Bytes,
    output: Numbers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Mode {
    #[serde(rename = "quantize+dequantize")]
    Both,
    #[serde(rename = "dequantize_only")]
    Read,
}

/// Blocks by type: those read, then those written.
pub(super) fn groups(text: &str) -> Result<Groups, ReferenceError> {
    let file: File = serde_json::from_str(text)?;
    let (mut read, mut written) = (Groups::default(), Groups::default());
    for case in &file.cases {
        let name = &case.kind_of_block;
        let unknown = |_| ReferenceError::Unknown {
            what: "GGUF type",
            name: name.clone(),
        };
        let block: GgufType = name.parse().map_err(unknown)?;
        check_length(name, "elements", block.block_elements(), case.block_elems)?;
        check_length(name, "bytes", block.block_bytes(), case.block_bytes)?;
        let values = block.dequantize(&case.bytes_hex.0);
        let mut equal = values.is_ok_and(|values| all_same(&values, &case.output.0));
        match case.mode {
            Mode::Both => {
                let input = case.input.as_ref().map_or(&[][..], |i| &i.0);
                let bytes = block.quantize(input);
                let verdict = Verdict::of(bytes.is_ok_and(|b| b == case.bytes_hex.0));
                let group = written.named(&format!("GGUF written: {name}"));
                group.count(verdict, || case.kind.clone());
            }
            // The library's list of types without an encoder is the reference's.
            Mode::Read => {
                let zeros = vec![0.0; block.block_elements()];
                equal &= block.quantize(&zeros) == Err(GgufError::DecodeOnly(block));
            }
        }
        let group = read.named(&format!("GGUF read: {name}"));
        group.count(Verdict::of(equal), || case.kind.clone());
    }
    read.0.append(&mut written.0);
    Ok(read)
}
