//! The elements of the tensors that a file stores, as numbers in f32.
//!
//! Integers beyond 2^24 and f64 become the nearest f32. A tensor's size is checked against what stores it before anything
//! is allocated by it; external data come from files inside the model's folder, links followed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use presil_numerics::{Codec, Conversion, Format};

use crate::graph::Graph;

use super::error::OnnxError;
use super::import::Stored;
use super::proto::TensorProto;
use super::value::{DType, check_tensor, elements};

/// Shape and elements of tensors, row-major, by name.
pub type Weights = BTreeMap<String, (Vec<u64>, Vec<f32>)>;

/// The elements of all stored tensors.
pub(super) fn all(
    graph: &Graph,
    stored: &[Stored],
    folder: Option<&Path>,
) -> Result<Weights, OnnxError> {
    let mut weights = Weights::new();
    for (tensor, proto) in stored {
        let (dtype, shape) = check_tensor(proto)?;
        if matches!(dtype, DType::Text | DType::Complex(_)) {
            continue;
        }
        let values = numbers(proto, dtype, &shape, folder)?;
        weights.insert(graph.tensors[*tensor].name.clone(), (shape, values));
    }
    Ok(weights)
}

/// The elements of a checked tensor.
fn numbers(
    t: &TensorProto,
    dtype: DType,
    shape: &[u64],
    folder: Option<&Path>,
) -> Result<Vec<f32>, OnnxError> {
    let fail = |reason: String| OnnxError::Tensor {
        name: t.name.clone(),
        reason,
    };
    let large = || fail(format!("shape {shape:?} is too large to be read"));
    let count = elements(shape)
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(large)?;
    if t.data_location == 1 || (!t.external_data.is_empty() && t.raw_data.is_empty()) {
        let bytes = (count as u64)
            .checked_mul(dtype.raw_bits())
            .ok_or_else(large)?
            .div_ceil(8);
        let raw = external(t, bytes, folder)?;
        return raw_numbers(&raw, dtype, count).ok_or_else(large);
    }
    if !t.raw_data.is_empty() {
        return raw_numbers(&t.raw_data, dtype, count).ok_or_else(large);
    }
    Ok(match dtype {
        DType::Float(Format::FP32) => t.float_data.clone(),
        DType::Float(f) if f.bits() == 64 => t.double_data.iter().map(|x| *x as f32).collect(),
        DType::Int {
            bits: 64,
            signed: true,
        } => t.int64_data.iter().map(|x| *x as f32).collect(),
        DType::Int {
            bits: 64 | 32,
            signed: false,
        } => t.uint64_data.iter().map(|x| *x as f32).collect(),
        _ if t.int32_data.len() == count => {
            let decode = decoder(dtype).ok_or_else(large)?;
            let code = |x: &i32| decode(*x as u32 as u64 & mask(dtype.raw_bits()));
            t.int32_data.iter().map(code).collect()
        }
        // Several elements of fewer than eight bits to a word, the first in its low bits.
        _ => {
            let bytes: Vec<u8> = t.int32_data.iter().map(|x| *x as u8).collect();
            raw_numbers(&bytes, dtype, count).ok_or_else(large)?
        }
    })
}

fn mask(bits: u64) -> u64 {
    if bits >= 64 {
        u64::MAX
    } else {
        (1 << bits) - 1
    }
}

/// Reads so many bytes of external data.
fn external(t: &TensorProto, bytes: u64, folder: Option<&Path>) -> Result<Vec<u8>, OnnxError> {
    let entry = |key: &str| t.external_data.iter().find(|e| e.key == key);
    let location = entry("location").map_or("", |e| e.value.as_str());
    let fail = |reason: String| OnnxError::External {
        name: t.name.clone(),
        location: location.into(),
        reason,
    };
    let folder = folder.ok_or_else(|| fail("the model has no folder".into()))?;
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let offset = match entry("offset").map(|e| e.value.trim().parse::<u64>()) {
        None => 0,
        Some(Ok(offset)) => offset,
        Some(Err(_)) => return Err(fail("its offset is no number".into())),
    };
    let io = |e: std::io::Error| fail(e.to_string());
    let root = folder.canonicalize().map_err(io)?;
    let path = root.join(location).canonicalize().map_err(io)?;
    if !path.starts_with(&root) {
        return Err(fail("it leaves the folder".into()));
    }
    let mut file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    if offset.checked_add(bytes).is_none_or(|end| end > size) {
        return Err(fail(format!(
            "{bytes} bytes from {offset} on are not there: the file has {size}"
        )));
    }
    file.seek(SeekFrom::Start(offset)).map_err(io)?;
    let mut raw = Vec::new();
    file.take(bytes).read_to_end(&mut raw).map_err(io)?;
    if raw.len() as u64 == bytes {
        Ok(raw)
    } else {
        Err(fail("it ends early".into()))
    }
}

/// Little-endian codes as numbers; those of fewer than eight bits are packed, the first in the low bits.
fn raw_numbers(raw: &[u8], dtype: DType, count: usize) -> Option<Vec<f32>> {
    let bits = dtype.raw_bits();
    let decode = decoder(dtype)?;
    if bits < 8 {
        let per = (8 / bits) as usize;
        let code = |i: usize| {
            let byte = u64::from(*raw.get(i / per)?);
            Some(decode((byte >> (bits as usize * (i % per))) & mask(bits)))
        };
        return (0..count).map(code).collect();
    }
    let width = (bits / 8) as usize;
    let whole = raw.chunks_exact(width).take(count).map(|bytes| {
        let code = bytes
            .iter()
            .rev()
            .fold(0u64, |code, b| code << 8 | u64::from(*b));
        decode(code)
    });
    Some(whole.collect::<Vec<f32>>()).filter(|all| all.len() == count)
}

/// What a code of a type stands for.
fn decoder(dtype: DType) -> Option<Box<dyn Fn(u64) -> f32>> {
    Some(match dtype {
        DType::Bool => Box::new(|c| f32::from(u8::from(c != 0))),
        DType::Int { bits, signed } => {
            let shift = 64 - u32::from(bits.clamp(1, 64));
            if signed {
                Box::new(move |c| (((c << shift) as i64) >> shift) as f32)
            } else {
                Box::new(|c| c as f32)
            }
        }
        DType::Float(Format::FP32) => Box::new(|c| f32::from_bits(c as u32)),
        DType::Float(Format::BF16) => Box::new(|c| f32::from_bits((c as u32) << 16)),
        DType::Float(f) if f.bits() == 64 => Box::new(|c| f64::from_bits(c) as f32),
        DType::Float(f) => {
            let codec = Codec::new(f, Conversion::default()).ok()?;
            Box::new(move |c| codec.decode(u128::from(c)).to_f64() as f32)
        }
        DType::Text | DType::Complex(_) => return None,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::proto::StringStringEntryProto;
    use super::*;

    fn stored(number: i32, dims: &[i64], raw: &[u8]) -> TensorProto {
        TensorProto {
            name: "w".into(),
            data_type: number,
            dims: dims.to_vec(),
            raw_data: raw.to_vec().into(),
            ..TensorProto::default()
        }
    }

    fn read(t: &TensorProto, folder: Option<&Path>) -> Result<Vec<f32>, OnnxError> {
        let (dtype, shape) = check_tensor(t)?;
        numbers(t, dtype, &shape, folder)
    }

    #[test]
    fn elements_of_every_width_become_numbers() {
        let cases: [(i32, &[u8], &[f32]); 10] = [
            (1, &[0, 0, 0x20, 0xc0], &[-2.5]),
            (2, &[255, 1], &[255.0, 1.0]),
            (3, &[255, 1], &[-1.0, 1.0]),
            (5, &[0xfe, 0xff], &[-2.0]),
            (7, &[0xff; 8], &[-1.0]),
            (9, &[1, 0], &[1.0, 0.0]),
            (10, &[0, 0x3c, 0, 0xbe], &[1.0, -1.5]),
            (16, &[0x40, 0x40], &[3.0]),
            (17, &[0x38, 0xc0], &[1.0, -2.0]),
            (22, &[0x8f, 0x07], &[-1.0, -8.0, 7.0]),
        ];
        for (number, raw, expected) in cases {
            let t = stored(number, &[expected.len() as i64], raw);
            assert_eq!(read(&t, None).unwrap(), expected, "{number}");
        }
        let words = TensorProto {
            name: "w".into(),
            data_type: 16,
            dims: vec![2],
            int32_data: vec![0x4040, 0xbf80],
            ..TensorProto::default()
        };
        assert_eq!(read(&words, None).unwrap(), [3.0, -1.0]);
    }

    #[test]
    fn external_data_are_read_inside_the_folder_only() {
        let root = std::env::temp_dir().join(format!("presil-external-{}", std::process::id()));
        let folder = root.join("model");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("data"), [0, 0, 0, 0, 0, 0, 0x20, 0xc0]).unwrap();
        std::fs::write(root.join("secret"), [0; 8]).unwrap();
        let external = |location: &str, offset: &str| TensorProto {
            data_location: 1,
            external_data: [("location", location), ("offset", offset)]
                .map(|(key, value)| StringStringEntryProto {
                    key: key.into(),
                    value: value.into(),
                })
                .to_vec(),
            ..stored(1, &[1], &[])
        };
        let of = |location: &str, offset: &str| read(&external(location, offset), Some(&folder));
        assert_eq!(of("data", "4").unwrap(), [-2.5]);
        assert!(of("data", "5").is_err());
        assert!(of("data", "18446744073709551615").is_err());
        assert!(of("../secret", "0").is_err());
        assert!(of("absent", "0").is_err());
        assert!(read(&external("data", "0"), None).is_err());
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(root.join("secret"), folder.join("link")).unwrap();
            assert!(of("link", "0").is_err());
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}
