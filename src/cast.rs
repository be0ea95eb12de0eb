//! Casts of arrays in .npy files between any two number formats, and what was lost.
//!
//! An array of floats holds numbers. An array of integers holds numbers where the source format is an integer, codes of
//! the source format (in the low bits) elsewhere. Element formats are written as an array of codes, of the narrowest
//! unsigned integers that hold them; integers, fp32 and fp64 as their own kind. Schemes with scales are written as an
//! .npz of
//!
//! ```text
//! codes    a code for each element, in the input's shape          packed   the same at their width, the first lowest
//! scales   one for each block of the flattened array              block    elements of a block, code_bits   their width
//! ```
//!
//! and, where the scheme has them, `tensor_scale`, `outer_scales` and `offset`, `zero_points`, or `palette`; GGUF types
//! as an array of their bytes. With `decode` the numbers are written instead: f32, or f64 where f32 can't hold them.

use std::fs::File;
use std::io::{BufWriter, Cursor, Write};
use std::path::{Path, PathBuf};

use ndarray::{Array1, ArrayD, IxDyn};
use ndarray_npy::{NpzWriter, ReadNpyExt, WritableElement, WriteNpyExt};
use presil_numerics::block::mx::ScaleRule;
use presil_numerics::block::scheme::{Scheme, SchemeError, Side, Stored};
use presil_numerics::codec::CodecError;
use presil_numerics::conversion::{Outcome, Tally};
use presil_numerics::format::UnknownFormat;
use presil_numerics::{Codec, Conversion, Exact, Fidelity, Format};
use serde::Serialize;
use thiserror::Error;

use crate::arrays::declared;

/// What is cast to what.
#[derive(Debug, Clone)]
pub struct Request {
    /// The .npy file read.
    pub input: PathBuf,
    /// The .npy or .npz file written.
    pub output: PathBuf,
    /// The format of the input; `None` for what the array itself says.
    pub from: Option<String>,
    /// A format or scheme.
    pub to: String,
    /// How numbers become codes.
    pub conversion: Conversion,
    /// How MX scales are chosen.
    pub scale_rule: ScaleRule,
    /// Write numbers, not codes.
    pub decode: bool,
}

/// What a cast did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The source format.
    pub from: String,
    /// The target.
    pub to: String,
    /// Extents of the array.
    pub shape: Vec<usize>,
    /// What became of the numbers.
    #[serde(flatten)]
    pub tally: Tally,
    /// Errors of the results.
    #[serde(flatten)]
    pub fidelity: Fidelity,
}

/// Why an array can't be cast.
#[derive(Debug, Error)]
pub enum CastError {
    /// A file can't be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// A file that is no .npy, or holds another type.
    #[error("{0} is no .npy array of f32, f64 or integers (view fp16 and others as integers): {1}")]
    NotAnArray(PathBuf, String),
    /// A result that can't be written.
    #[error("{0} can't be written: {1}")]
    Write(PathBuf, String),
    /// An unknown source format.
    #[error(transparent)]
    From(#[from] UnknownFormat),
    /// A source format that the array is not of.
    #[error("the array holds {0}, so it can't be of `{1}`")]
    Mismatch(&'static str, Format),
    /// Integers whose format is not said.
    #[error(
        "the array holds integers: say with `--from` what they are (int8, or the format whose codes they are)"
    )]
    NoFrom,
    /// A format that can't be encoded so.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A scheme that can't quantize.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
    /// Numbers that a scheme on f32 would round twice.
    #[error(
        "`{0}` is defined on f32, and the input has numbers that f32 has not: cast it to fp32 first"
    )]
    NeedsF32(String),
    /// Codes wider than an array's integers.
    #[error("codes of `{0}` have more than 64 bits: write its numbers with `--decode`")]
    TooWide(Format),
}

/// An array as it was read.
enum Array {
    F32(ArrayD<f32>),
    F64(ArrayD<f64>),
    /// Two's complement of any width, and the width.
    Int(ArrayD<i64>, u8),
    Uint(ArrayD<u64>),
}

/// Casts a file and tells what became of its numbers.
pub fn cast(request: &Request) -> Result<Report, CastError> {
    let array = read(&request.input)?;
    let (from, shape, numbers) = decode(array, request.from.as_deref())?;
    let scheme = Scheme::named(&request.to, &request.conversion, request.scale_rule)?;
    let (tally, fidelity) = match scheme {
        Some(scheme) => {
            let narrow: Vec<f32> = numbers.iter().map(|x| x.to_f32()).collect();
            let same = |(x, y): (&Exact, &f32)| x.is_nan() || x.to_f64() == f64::from(*y);
            if !numbers.iter().zip(&narrow).all(same) {
                return Err(CastError::NeedsF32(request.to.clone()));
            }
            let stored = scheme.quantize(&narrow)?;
            let report = compare(&narrow, &stored);
            write_stored(request, &shape, matches!(scheme, Scheme::Gguf(_)), stored)?;
            report
        }
        None => {
            let format: Format = request.to.parse()?;
            let codec = Codec::new(format, request.conversion)?;
            if codec.code_bits() > 64 && !request.decode {
                return Err(CastError::TooWide(format));
            }
            cast_elements(request, &codec, &shape, &numbers)?
        }
    };
    Ok(Report {
        from: from.to_string(),
        to: request.to.clone(),
        shape,
        tally,
        fidelity,
    })
}

fn cast_elements(
    request: &Request,
    codec: &Codec,
    shape: &[usize],
    numbers: &[Exact],
) -> Result<(Tally, Fidelity), CastError> {
    let mut tally = Tally::default();
    let mut codes = Vec::with_capacity(numbers.len());
    let mut values = Vec::with_capacity(numbers.len());
    for (x, index) in numbers.iter().zip(0..) {
        let encoded = codec.encode(*x, index);
        tally.count(encoded.outcome);
        codes.push(encoded.code as u64);
        values.push(codec.decode(encoded.code).to_f64());
    }
    let pairs = numbers.iter().zip(&values);
    let fidelity = Fidelity::new(pairs.map(|(x, y)| (x.to_f64(), *y)));
    let file = Output { request, shape };
    if request.decode {
        let narrow = values
            .iter()
            .all(|x| f64::from(*x as f32) == *x || x.is_nan());
        if narrow {
            file.npy(values.iter().map(|x| *x as f32).collect())?;
        } else {
            file.npy(values)?;
        }
    } else {
        file.codes(codec, codes)?;
    }
    Ok((tally, fidelity))
}

fn compare(numbers: &[f32], stored: &Stored) -> (Tally, Fidelity) {
    let mut tally = Tally::default();
    for (x, y) in numbers.iter().zip(&stored.values) {
        tally.count(if x.is_nan() {
            Outcome::Nan
        } else if x == y {
            Outcome::Exact
        } else if *y == 0.0 {
            Outcome::Flushed
        } else {
            Outcome::Rounded
        });
    }
    tally.overflowed = stored.saturated.min(tally.rounded);
    tally.rounded -= tally.overflowed;
    let pairs = numbers.iter().zip(&stored.values);
    let fidelity = Fidelity::new(pairs.map(|(x, y)| (f64::from(*x), f64::from(*y))));
    (tally, fidelity)
}

fn read(path: &Path) -> Result<Array, CastError> {
    let bytes = std::fs::read(path).map_err(|e| CastError::File(path.into(), e))?;
    let held = bytes.len() as u128;
    if let Some(elements) = declared(&bytes).filter(|n| *n > held) {
        let reason = format!("its header tells of {elements} elements, and it has {held} bytes");
        return Err(CastError::NotAnArray(path.into(), reason));
    }
    /// The array if its elements are of this type.
    fn of<T: ndarray_npy::ReadableElement>(bytes: &[u8]) -> Option<ArrayD<T>> {
        ArrayD::<T>::read_npy(Cursor::new(bytes)).ok()
    }
    if let Some(a) = of(&bytes) {
        return Ok(Array::F32(a));
    }
    if let Some(a) = of(&bytes) {
        return Ok(Array::F64(a));
    }
    let signed = of::<i8>(&bytes)
        .map(|a| (a.mapv(i64::from), 8))
        .or_else(|| of::<i16>(&bytes).map(|a| (a.mapv(i64::from), 16)))
        .or_else(|| of::<i32>(&bytes).map(|a| (a.mapv(i64::from), 32)))
        .or_else(|| of::<i64>(&bytes).map(|a| (a, 64)));
    if let Some((a, bits)) = signed {
        return Ok(Array::Int(a, bits));
    }
    let unsigned = of::<u8>(&bytes)
        .map(|a| a.mapv(u64::from))
        .or_else(|| of::<u16>(&bytes).map(|a| a.mapv(u64::from)))
        .or_else(|| of::<u32>(&bytes).map(|a| a.mapv(u64::from)))
        .or_else(|| of::<u64>(&bytes));
    if let Some(a) = unsigned {
        return Ok(Array::Uint(a));
    }
    let reason = ArrayD::<f32>::read_npy(Cursor::new(&bytes[..]));
    let reason = reason.err().map(|e| e.to_string()).unwrap_or_default();
    Err(CastError::NotAnArray(path.into(), reason))
}

/// The source format, the shape, and the numbers in row-major order.
fn decode(array: Array, from: Option<&str>) -> Result<(Format, Vec<usize>, Vec<Exact>), CastError> {
    let given: Option<Format> = from.map(str::parse).transpose()?;
    let float = |own: Format, what| match given {
        Some(format) if format != own => Err(CastError::Mismatch(what, format)),
        _ => Ok(own),
    };
    let codes = |codes: Vec<u128>| {
        let format = given.ok_or(CastError::NoFrom)?;
        let codec = Codec::new(format, Conversion::default())?;
        let numbers = codes.into_iter().map(|c| codec.decode(c)).collect();
        Ok::<_, CastError>((format, numbers))
    };
    match array {
        Array::F32(a) => {
            let format = float(Format::FP32, "f32")?;
            let numbers = a.iter().map(|x| Exact::from(*x)).collect();
            Ok((format, a.shape().to_vec(), numbers))
        }
        Array::F64(a) => {
            let format = float("fp64".parse()?, "f64")?;
            let numbers = a.iter().map(|x| Exact::from(*x)).collect();
            Ok((format, a.shape().to_vec(), numbers))
        }
        Array::Int(a, bits) => {
            let own = Format::Int { bits, signed: true };
            if given.is_none_or(|f| f == own) {
                let numbers = a.iter().map(|x| Exact::from(i128::from(*x))).collect();
                return Ok((own, a.shape().to_vec(), numbers));
            }
            let (format, numbers) = codes(a.iter().map(|x| *x as u128).collect())?;
            Ok((format, a.shape().to_vec(), numbers))
        }
        Array::Uint(a) => {
            let (format, numbers) = codes(a.iter().map(|x| u128::from(*x)).collect())?;
            Ok((format, a.shape().to_vec(), numbers))
        }
    }
}

/// Where results go.
struct Output<'a> {
    request: &'a Request,
    shape: &'a [usize],
}

impl Output<'_> {
    fn error(&self, reason: impl ToString) -> CastError {
        CastError::Write(self.request.output.clone(), reason.to_string())
    }

    fn file(&self) -> Result<BufWriter<File>, CastError> {
        let path = &self.request.output;
        let file = File::create(path).map_err(|e| CastError::File(path.clone(), e))?;
        Ok(BufWriter::new(file))
    }

    fn shaped<T>(&self, elements: Vec<T>) -> Result<ArrayD<T>, CastError> {
        ArrayD::from_shape_vec(IxDyn(self.shape), elements).map_err(|e| self.error(e))
    }

    fn npy<T: WritableElement>(&self, elements: Vec<T>) -> Result<(), CastError> {
        let array = self.shaped(elements)?;
        let mut file = self.file()?;
        array.write_npy(&mut file).map_err(|e| self.error(e))?;
        file.flush().map_err(|e| self.error(e))
    }

    /// Codes in elements of the kind that fits the format.
    fn codes(&self, codec: &Codec, codes: Vec<u64>) -> Result<(), CastError> {
        let signed = matches!(codec.format, Format::Int { signed: true, .. });
        let wide = |code: u64| {
            let unused = 64 - codec.code_bits();
            (code << unused) as i64 >> unused
        };
        match (codec.code_bits(), signed) {
            _ if codec.format == Format::FP32 => {
                self.npy(codes.iter().map(|c| f32::from_bits(*c as u32)).collect())
            }
            (64, false) if codec.format.is_float() => {
                self.npy(codes.iter().map(|c| f64::from_bits(*c)).collect())
            }
            (..=8, true) => self.npy(codes.iter().map(|c| wide(*c) as i8).collect()),
            (..=16, true) => self.npy(codes.iter().map(|c| wide(*c) as i16).collect()),
            (..=32, true) => self.npy(codes.iter().map(|c| wide(*c) as i32).collect()),
            (_, true) => self.npy(codes.iter().map(|c| wide(*c)).collect()),
            (..=8, false) => self.npy(codes.iter().map(|c| *c as u8).collect()),
            (..=16, false) => self.npy(codes.iter().map(|c| *c as u16).collect()),
            (..=32, false) => self.npy(codes.iter().map(|c| *c as u32).collect()),
            _ => self.npy(codes),
        }
    }
}

fn write_stored(
    request: &Request,
    shape: &[usize],
    bytes: bool,
    stored: Stored,
) -> Result<(), CastError> {
    let file = Output { request, shape };
    if request.decode {
        return file.npy(stored.values);
    }
    if bytes {
        let shape = [stored.codes.len()];
        return Output {
            request,
            shape: &shape,
        }
        .npy(stored.codes);
    }
    let mut npz = NpzWriter::new(file.file()?);
    let error = |e: ndarray_npy::WriteNpzError| file.error(e);
    let packed = Array1::from_vec(stored.packed());
    npz.add_array("packed", &packed).map_err(error)?;
    let number = |x: u32| Array1::from_vec(vec![x]);
    npz.add_array("block", &number(stored.block as u32))
        .map_err(error)?;
    npz.add_array("code_bits", &number(stored.code_bits))
        .map_err(error)?;
    for (name, side) in stored.sides {
        match side {
            Side::Bytes(x) => npz.add_array(name, &Array1::from_vec(x)),
            Side::Floats(x) => npz.add_array(name, &Array1::from_vec(x)),
        }
        .map_err(error)?;
    }
    npz.add_array("codes", &file.shaped(stored.codes)?)
        .map_err(error)?;
    let mut inner = npz.finish().map_err(error)?;
    inner.flush().map_err(|e| file.error(e))
}

impl Report {
    /// The report as text.
    pub fn text(&self) -> String {
        let t = &self.tally;
        let sqnr = match self.fidelity.sqnr_db {
            Some(db) => format!("{db:.2} dB"),
            None => "no noise".into(),
        };
        let extents: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        format!(
            "{} to {}, {} values ({})\nexact {}   rounded {}   to zero {}   overflowed {}   NaN {}\n\
             SQNR {sqnr}   largest error {:.6e}   mean error {:.3e}",
            self.from,
            self.to,
            t.values(),
            extents.join("x"),
            t.exact,
            t.rounded,
            t.flushed,
            t.overflowed,
            t.nan,
            self.fidelity.max_abs_error,
            self.fidelity.mean_error,
        )
    }
}
