//! Values while a file is being imported: element type, shape, and the elements where they are known.

use std::rc::Rc;

use presil_numerics::{Format, Quantization};

use crate::expr::Expr;
use crate::tensor::TensorId;

use super::error::OnnxError;
use super::proto::TensorProto;

/// Values of more elements than this are never evaluated at import.
pub(super) const FOLDED_ELEMENTS: u64 = 1 << 17;
/// Most ranks that a tensor may have.
pub(super) const MOST_RANKS: usize = 16;

/// An element type, by the numbers of `TensorProto.DataType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DType {
    /// An integer.
    Int { bits: u8, signed: bool },
    /// A boolean, stored in a byte.
    Bool,
    /// A real float.
    Float(Format),
    /// A string; 64 bits of reference are counted.
    Text,
    /// A complex number of two floats of so many bits; counted as an integer of both.
    Complex(u8),
}

impl DType {
    /// 64-bit integers, the type of shapes.
    pub const I64: Self = Self::Int {
        bits: 64,
        signed: true,
    };
    /// 32-bit integers, the type of integer accumulations.
    pub const I32: Self = Self::Int {
        bits: 32,
        signed: true,
    };
    /// 8-bit unsigned integers.
    pub const U8: Self = Self::Int {
        bits: 8,
        signed: false,
    };
    /// binary32.
    pub const F32: Self = Self::Float(Format::FP32);

    /// The type of a number in a file.
    pub fn of(number: i32) -> Option<Self> {
        let int = |bits, signed| Some(Self::Int { bits, signed });
        let float = |name: &str| name.parse::<Format>().ok().map(Self::Float);
        match number {
            1 => Some(Self::F32),
            2 => int(8, false),
            3 => int(8, true),
            4 => int(16, false),
            5 => int(16, true),
            6 => int(32, true),
            7 => int(64, true),
            8 => Some(Self::Text),
            9 => Some(Self::Bool),
            10 => Some(Self::Float(Format::FP16)),
            11 => float("fp64"),
            12 => int(32, false),
            13 => int(64, false),
            14 => Some(Self::Complex(32)),
            15 => Some(Self::Complex(64)),
            16 => Some(Self::Float(Format::BF16)),
            17 => float("fp8_e4m3fn"),
            18 => float("fp8_e4m3fnuz"),
            19 => float("fp8_e5m2"),
            20 => float("fp8_e5m2fnuz"),
            21 => int(4, false),
            22 => int(4, true),
            23 => float("fp4_e2m1fn"),
            24 => Some(Self::Float(Format::E8m0)),
            25 => int(2, false),
            26 => int(2, true),
            _ => None,
        }
    }

    /// How an element is stored.
    pub fn format(self) -> Format {
        match self {
            Self::Int { bits, signed } => Format::Int { bits, signed },
            Self::Bool => Format::Int {
                bits: 8,
                signed: false,
            },
            Self::Float(format) => format,
            Self::Text | Self::Complex(_) => Format::Int {
                bits: 64,
                signed: false,
            },
        }
    }

    /// Bits of an element in a file's raw data, packed below a byte.
    pub fn raw_bits(self) -> u64 {
        match self {
            Self::Complex(bits) => 2 * u64::from(bits),
            other => other.format().bits(),
        }
    }

    /// Whether arithmetic on it is that of reals.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float(_))
    }

    /// Whether it is an integer of eight bits or fewer.
    pub fn is_narrow_int(self) -> bool {
        matches!(self, Self::Int { bits, .. } if bits <= 8)
    }
}

/// Elements, row-major. Booleans are 0 and 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    /// Integers and booleans.
    Int(Vec<i64>),
    /// Floats.
    Float(Vec<f64>),
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Int(v) => v.len(),
            Self::Float(v) => v.len(),
        }
    }

    /// The elements at some places, in order. `None` if one is out of range.
    pub fn pick(&self, places: &[usize]) -> Option<Self> {
        Some(match self {
            Self::Int(v) => Self::Int(
                places
                    .iter()
                    .map(|i| v.get(*i).copied())
                    .collect::<Option<_>>()?,
            ),
            Self::Float(v) => Self::Float(
                places
                    .iter()
                    .map(|i| v.get(*i).copied())
                    .collect::<Option<_>>()?,
            ),
        })
    }

    /// As integers, if they are.
    pub fn ints(&self) -> Option<&[i64]> {
        match self {
            Self::Int(v) => Some(v),
            Self::Float(_) => None,
        }
    }

    /// As floats.
    pub fn floats(&self) -> Vec<f64> {
        match self {
            Self::Int(v) => v.iter().map(|x| *x as f64).collect(),
            Self::Float(v) => v.clone(),
        }
    }
}

/// What is known of a value's elements.
#[derive(Debug, Clone)]
pub(super) enum Known<'m> {
    /// Nothing.
    Nothing,
    /// They stand in the file and are decoded when they are asked for.
    Stored(&'m TensorProto),
    /// All of them.
    All(Rc<Data>),
}

/// A value: what a name stands for.
#[derive(Debug, Clone)]
pub(super) struct Value<'m> {
    /// Element type, as the file sees it (a dequantized int8 tensor is float here).
    pub dtype: DType,
    /// Extents.
    pub shape: Vec<u64>,
    /// Elements, where they are known.
    pub known: Known<'m>,
    /// The tensor that holds it, perhaps in another shape of the same elements (weights only). `None` for
    /// constants that no op has read yet.
    pub tensor: Option<TensorId>,
    /// Whether it is a parameter, perhaps seen through reshapes, transpositions and dequantization.
    pub weight: bool,
    /// What it is where it is not simply its tensor or its elements.
    pub expr: Option<Expr>,
}

impl<'m> Value<'m> {
    /// A constant.
    pub fn constant(dtype: DType, shape: Vec<u64>, data: Data) -> Self {
        Self {
            dtype,
            shape,
            known: Known::All(Rc::new(data)),
            tensor: None,
            weight: false,
            expr: None,
        }
    }

    /// A value that an op makes.
    pub fn made(dtype: DType, shape: Vec<u64>, tensor: TensorId) -> Self {
        Self {
            dtype,
            shape,
            known: Known::Nothing,
            tensor: Some(tensor),
            weight: false,
            expr: None,
        }
    }

    /// Number of elements; checked when the value is made.
    pub fn elements(&self) -> u64 {
        elements(&self.shape).unwrap_or(u64::MAX)
    }

    /// Number of ranks.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The elements, if they are known and few.
    pub fn data(&self) -> Option<Rc<Data>> {
        match &self.known {
            Known::Nothing => None,
            Known::All(data) => Some(data.clone()),
            Known::Stored(proto) => decode(proto, self.dtype, self.elements()).map(Rc::new),
        }
    }

    /// The elements as integers, if they are known, few and integers.
    pub fn ints(&self) -> Option<Vec<i64>> {
        match &*self.data()? {
            Data::Int(v) => Some(v.clone()),
            Data::Float(_) => None,
        }
    }

    /// The only element, as an integer.
    pub fn scalar(&self) -> Option<i64> {
        (self.elements() == 1)
            .then(|| self.ints())
            .flatten()?
            .first()
            .copied()
    }

    /// Whether it is the same for each inference: a parameter or a constant.
    pub fn is_fixed(&self) -> bool {
        self.weight || self.tensor.is_none()
    }

    /// How it is stored.
    pub fn storage(&self) -> Quantization {
        Quantization::from(self.dtype.format())
    }
}

/// Product of extents, if it and its bits fit 63 bits, even where extents of 0 are left out (so that products of
/// some of the extents fit, too).
pub(super) fn elements(shape: &[u64]) -> Option<u64> {
    let n = shape
        .iter()
        .try_fold(1u64, |n, d| n.checked_mul((*d).max(1)))?;
    n.checked_mul(256)?;
    Some(if shape.contains(&0) { 0 } else { n })
}

/// Extents of a file as a shape.
pub(super) fn shape_of(dims: &[i64]) -> Result<Vec<u64>, String> {
    if dims.len() > MOST_RANKS {
        return Err(format!(
            "it has {} ranks; {MOST_RANKS} are supported",
            dims.len()
        ));
    }
    let shape = dims.iter().map(|d| {
        u64::try_from(*d).map_err(|_| format!("extent {d} of shape {dims:?} is negative"))
    });
    let shape: Vec<u64> = shape.collect::<Result<_, _>>()?;
    match elements(&shape) {
        Some(_) => Ok(shape),
        None => Err(format!(
            "shape {shape:?} is too large: its size does not fit 64 bits"
        )),
    }
}

/// Checks a stored tensor: a known type, a shape, as much data as they need, and external data inside the
/// model's folder. Returns type and shape.
pub(super) fn check_tensor(t: &TensorProto) -> Result<(DType, Vec<u64>), OnnxError> {
    let fail = |reason: String| OnnxError::Tensor {
        name: t.name.clone(),
        reason,
    };
    let dtype = DType::of(t.data_type).ok_or_else(|| {
        fail(format!(
            "element type {} is none that ONNX defines",
            t.data_type
        ))
    })?;
    let shape = shape_of(&t.dims).map_err(fail)?;
    let count = elements(&shape).unwrap_or(u64::MAX);
    let bytes = (u128::from(count) * u128::from(dtype.raw_bits())).div_ceil(8);
    if t.data_location == 1 || (!t.external_data.is_empty() && t.raw_data.is_empty()) {
        check_external(t, bytes)?;
        return Ok((dtype, shape));
    }
    if !t.raw_data.is_empty() {
        if t.raw_data.len() as u128 != bytes {
            return Err(fail(format!(
                "shape {shape:?} needs {bytes} bytes of data, the file holds {}",
                t.raw_data.len()
            )));
        }
        return Ok((dtype, shape));
    }
    let words = match dtype {
        DType::Text => t.string_data.len(),
        DType::Float(Format::FP32) | DType::Complex(32) => t.float_data.len(),
        DType::Complex(_) => t.double_data.len(),
        DType::Float(f) if f.bits() == 64 => t.double_data.len(),
        DType::Int {
            bits: 64,
            signed: true,
        } => t.int64_data.len(),
        DType::Int {
            bits: 64 | 32,
            signed: false,
        } => t.uint64_data.len(),
        _ => t.int32_data.len(),
    };
    let packed = if dtype.raw_bits() < 8 {
        8 / dtype.raw_bits()
    } else {
        1
    };
    let parts = if matches!(dtype, DType::Complex(_)) {
        2
    } else {
        1
    };
    // Elements narrower than a byte are packed in the words; some writers store one a word.
    let wanted = count.div_ceil(packed).saturating_mul(parts);
    if words as u64 != wanted && words as u64 != count.saturating_mul(parts) {
        return Err(fail(format!(
            "shape {shape:?} needs {wanted} stored elements, the file holds {words}"
        )));
    }
    Ok((dtype, shape))
}

fn check_external(t: &TensorProto, bytes: u128) -> Result<(), OnnxError> {
    let entry = |key: &str| {
        t.external_data
            .iter()
            .find(|e| e.key == key)
            .map(|e| e.value.as_str())
    };
    let location = entry("location").unwrap_or("");
    let fail = |reason: &str| {
        Err(OnnxError::External {
            name: t.name.clone(),
            location: location.into(),
            reason: reason.into(),
        })
    };
    let mut parts = location.split(['/', '\\']);
    let drive = location.as_bytes().get(1) == Some(&b':');
    if location.is_empty() {
        return fail("it is empty");
    }
    if location.starts_with(['/', '\\']) || drive {
        return fail("it is an absolute path");
    }
    if parts.any(|p| p == "..") {
        return fail("it leaves the folder");
    }
    if location.contains('\0') {
        return fail("it contains a null character");
    }
    if let Some(length) = entry("length") {
        match length.trim().parse::<u128>() {
            Ok(length) if length == bytes => {}
            Ok(length) => {
                let reason = format!(
                    "its shape {:?} needs {bytes} bytes, its external data are given as {length}",
                    t.dims
                );
                return Err(OnnxError::Tensor {
                    name: t.name.clone(),
                    reason,
                });
            }
            Err(_) => return fail("its length is no number"),
        }
    }
    match entry("offset").map(|o| o.trim().parse::<u64>()) {
        Some(Err(_)) => fail("its offset is no number"),
        _ => Ok(()),
    }
}

/// The elements of a checked tensor, if they stand in the file and are few.
fn decode(t: &TensorProto, dtype: DType, count: u64) -> Option<Data> {
    if count > FOLDED_ELEMENTS || t.data_location == 1 {
        return None;
    }
    let count = count as usize;
    let (bits, signed) = match dtype {
        DType::Int { bits, signed } => (bits, signed),
        DType::Bool => (8, false),
        DType::Float(f) => (f.bits() as u8, false),
        DType::Text | DType::Complex(_) => return None,
    };
    // Raw codes of `bits` bits each.
    let codes: Vec<u64> = if !t.raw_data.is_empty() {
        let byte = |i: usize| t.raw_data.get(i).copied().map(u64::from);
        if bits < 8 {
            let per = usize::from(8 / bits);
            let mask = (1u64 << bits) - 1;
            let code =
                |i: usize| byte(i / per).map(|b| (b >> (usize::from(bits) * (i % per))) & mask);
            (0..count).map(code).collect::<Option<_>>()?
        } else {
            let width = usize::from(bits / 8);
            let code = |i: usize| {
                (0..width).try_fold(0u64, |n, b| Some(n | (byte(i * width + b)? << (8 * b))))
            };
            (0..count).map(code).collect::<Option<_>>()?
        }
    } else {
        match dtype {
            DType::Float(Format::FP32) => {
                return (t.float_data.len() == count)
                    .then(|| Data::Float(t.float_data.iter().map(|x| f64::from(*x)).collect()));
            }
            DType::Float(f) if f.bits() == 64 => {
                return (t.double_data.len() == count).then(|| Data::Float(t.double_data.clone()));
            }
            DType::Int {
                bits: 64,
                signed: true,
            } => return (t.int64_data.len() == count).then(|| Data::Int(t.int64_data.clone())),
            DType::Int {
                bits: 64 | 32,
                signed: false,
            } => t.uint64_data.clone(),
            _ if t.int32_data.len() == count => {
                t.int32_data.iter().map(|x| *x as u32 as u64).collect()
            }
            _ => return None,
        }
    };
    if codes.len() != count {
        return None;
    }
    match dtype {
        DType::Float(format) => codes
            .iter()
            .map(|c| float_of(*c, format))
            .collect::<Option<_>>()
            .map(Data::Float),
        DType::Bool => Some(Data::Int(
            codes.iter().map(|c| i64::from(*c != 0)).collect(),
        )),
        _ => {
            let shift = 64 - u32::from(bits.clamp(1, 64));
            let widen = |c: &u64| {
                if signed {
                    ((c << shift) as i64) >> shift
                } else {
                    ((c << shift) >> shift) as i64
                }
            };
            // An unsigned 64-bit value beyond the signed range is not evaluated.
            if !signed && bits == 64 && codes.iter().any(|c| i64::try_from(*c).is_err()) {
                return None;
            }
            Some(Data::Int(codes.iter().map(widen).collect()))
        }
    }
}

/// The value of a float code of 16, 32 or 64 bits; narrower ones are not evaluated.
fn float_of(code: u64, format: Format) -> Option<f64> {
    match format {
        Format::FP32 => Some(f64::from(f32::from_bits(code as u32))),
        Format::BF16 => Some(f64::from(f32::from_bits((code as u32) << 16))),
        Format::FP16 => {
            let (sign, exponent, mantissa) = (
                code >> 15 & 1,
                (code >> 10 & 31) as i32,
                (code & 1023) as f64,
            );
            let value = match exponent {
                0 => mantissa * 2f64.powi(-24),
                31 if mantissa == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                e => (1024.0 + mantissa) * 2f64.powi(e - 25),
            };
            Some(if sign == 1 { -value } else { value })
        }
        f if f.bits() == 64 => Some(f64::from_bits(code)),
        _ => None,
    }
}
