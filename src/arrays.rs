//! Arrays of files: .npy, .npz and safetensors, by name.
//!
//! Numbers become f32. Integers beyond 2^24 would not stay what they are, and doubles would be rounded: the first are
//! refused, the second are rounded to nearest, as a framework's own conversion does.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use ndarray::ArrayD;
use ndarray_npy::{ReadNpyExt, ReadableElement};
use presil_execution::Array;
use presil_numerics::{Codec, Conversion, Format};
use safetensors::{Dtype, SafeTensors};
use thiserror::Error;

/// Why a file's arrays can't be read.
#[derive(Debug, Error)]
pub enum ArraysError {
    /// A file that can't be read.
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
    /// A file of another kind.
    #[error("{0} is no .npy, .npz or .safetensors file")]
    Kind(PathBuf),
    /// A file that is not what its name says.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Arrays by name; that of an .npy file is called like the file.
///
/// # Errors
/// A file that can't be read, or holds other types.
pub fn read(path: &Path) -> Result<BTreeMap<String, Array>, ArraysError> {
    let bytes = std::fs::read(path).map_err(|e| ArraysError::Io(path.into(), e))?;
    let kind = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    let wrong = |reason: String| ArraysError::Malformed {
        path: path.into(),
        reason,
    };
    match kind {
        "npy" => {
            let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or("");
            Ok([(name.to_string(), npy(&bytes).map_err(wrong)?)].into())
        }
        "npz" => npz(path).map_err(wrong),
        "safetensors" => safe_tensors(&bytes).map_err(wrong),
        _ => Err(ArraysError::Kind(path.into())),
    }
}

/// Elements that the header of an .npy file tells of; none if it is not one. A reader makes room for all of them before
/// it reads one.
pub(crate) fn declared(bytes: &[u8]) -> Option<u128> {
    let [major, ..] = *bytes.get(6..)? else {
        return None;
    };
    let long = || Some(u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?));
    let short = || Some(u16::from_le_bytes(bytes.get(8..10)?.try_into().ok()?));
    let (size, at): (usize, usize) = match major {
        1 => (usize::from(short()?), 10),
        _ => (usize::try_from(long()?).ok()?, 12),
    };
    let header = bytes.get(at..)?.get(..size)?;
    let header = std::str::from_utf8(header).ok()?;
    let (_, shape) = header.split_once("shape")?;
    let (_, shape) = shape.split_once('(')?;
    let (shape, _) = shape.split_once(')')?;
    let sizes = shape.split(',').map(str::trim).filter(|t| !t.is_empty());
    let sizes: Option<Vec<u128>> = sizes
        .map(|t| t.trim_end_matches('L').parse().ok())
        .collect();
    sizes.map(|s| s.into_iter().fold(1, u128::saturating_mul))
}

fn npy(bytes: &[u8]) -> Result<Array, String> {
    let held = bytes.len() as u128;
    if let Some(elements) = declared(bytes).filter(|n| *n > held) {
        return Err(format!(
            "its header tells of {elements} elements, and it has {held} bytes"
        ));
    }
    let floats = of::<f32>(bytes)
        .or_else(|| {
            let (shape, values) = of::<f64>(bytes)?;
            Some((shape, values.into_iter().map(|v| v as f32).collect()))
        })
        .or_else(|| {
            let (shape, values) = of::<bool>(bytes)?;
            Some((shape, values.into_iter().map(f32::from).collect()))
        });
    if let Some((shape, values)) = floats {
        return array(shape, values);
    }
    let integers = ints::<i8>(bytes)
        .or_else(|| ints::<i16>(bytes))
        .or_else(|| ints::<i32>(bytes))
        .or_else(|| ints::<i64>(bytes))
        .or_else(|| ints::<u8>(bytes))
        .or_else(|| ints::<u16>(bytes))
        .or_else(|| ints::<u32>(bytes))
        .or_else(|| ints::<u64>(bytes));
    match integers {
        Some((shape, values)) => array(shape, whole(values.into_iter())?),
        None => Err("its elements are no real numbers that presil reads".into()),
    }
}

/// The shape and elements of an .npy file, if they are of this type.
fn of<T: ReadableElement>(bytes: &[u8]) -> Option<(Vec<usize>, Vec<T>)> {
    let array = ArrayD::<T>::read_npy(Cursor::new(bytes)).ok()?;
    Some((array.shape().to_vec(), array.into_iter().collect()))
}

fn ints<T: ReadableElement + Into<i128>>(bytes: &[u8]) -> Option<(Vec<usize>, Vec<i128>)> {
    let (shape, values) = of::<T>(bytes)?;
    Some((shape, values.into_iter().map(Into::into).collect()))
}

fn array(shape: Vec<usize>, values: Vec<f32>) -> Result<Array, String> {
    Array::new(shape, values).map_err(|e| e.to_string())
}

fn whole(values: impl Iterator<Item = i128>) -> Result<Vec<f32>, String> {
    let exact = |v: i128| {
        let kept = v.unsigned_abs() <= 1 << 24;
        kept.then_some(v as f32)
            .ok_or_else(|| format!("{v} is beyond 2^24, up to which f32 holds all integers"))
    };
    values.map(exact).collect()
}

fn npz(path: &Path) -> Result<BTreeMap<String, Array>, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| e.to_string())?;
    let mut arrays = BTreeMap::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(|e| e.to_string())?;
        let name = entry.name().trim_end_matches(".npy").to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        let array = npy(&bytes).map_err(|reason| format!("`{name}`: {reason}"))?;
        arrays.insert(name, array);
    }
    Ok(arrays)
}

fn safe_tensors(bytes: &[u8]) -> Result<BTreeMap<String, Array>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut arrays = BTreeMap::new();
    for (name, view) in file.tensors() {
        let values =
            numbers(view.dtype(), view.data()).map_err(|reason| format!("`{name}`: {reason}"))?;
        arrays.insert(name, array(view.shape().to_vec(), values)?);
    }
    Ok(arrays)
}

fn numbers(dtype: Dtype, data: &[u8]) -> Result<Vec<f32>, String> {
    Ok(match dtype {
        Dtype::F32 => each(data, f32::from_le_bytes).collect(),
        Dtype::F64 => each(data, f64::from_le_bytes).map(|v| v as f32).collect(),
        Dtype::I8 => whole(each(data, i8::from_le_bytes).map(i128::from))?,
        Dtype::I16 => whole(each(data, i16::from_le_bytes).map(i128::from))?,
        Dtype::I32 => whole(each(data, i32::from_le_bytes).map(i128::from))?,
        Dtype::I64 => whole(each(data, i64::from_le_bytes).map(i128::from))?,
        Dtype::U8 | Dtype::BOOL => whole(data.iter().map(|v| i128::from(*v)))?,
        Dtype::U16 => whole(each(data, u16::from_le_bytes).map(i128::from))?,
        Dtype::U32 => whole(each(data, u32::from_le_bytes).map(i128::from))?,
        Dtype::U64 => whole(each(data, u64::from_le_bytes).map(i128::from))?,
        Dtype::F16 => halves(data, Format::FP16)?,
        Dtype::BF16 => halves(data, Format::BF16)?,
        other => {
            return Err(format!(
                "its elements are {other:?}, which presil does not read"
            ));
        }
    })
}

/// Elements of `N` bytes each.
fn each<const N: usize, T>(data: &[u8], of: fn([u8; N]) -> T) -> impl Iterator<Item = T> + '_
where
    T: 'static,
{
    data.as_chunks::<N>().0.iter().map(move |bytes| of(*bytes))
}

fn halves(data: &[u8], format: Format) -> Result<Vec<f32>, String> {
    let codec = Codec::new(format, Conversion::default()).map_err(|e| e.to_string())?;
    let table = codec.decode_table();
    let codes = each(data, u16::from_le_bytes);
    Ok(codes.map(|code| table[usize::from(code)]).collect())
}
