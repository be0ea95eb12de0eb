//! A file's tables as plain values: tensors and operators of its first subgraph.
//!
//! Field numbers are those of TensorFlow Lite's `schema.fbs`, version 3.

use presil_numerics::{Format, Quantization};

use super::error::TfliteError;
use super::flat::{Table, Vector};
use super::operators;

/// Operators that a file may have.
const MOST_OPERATORS: usize = 200_000;
/// Tensors that a file may have.
const MOST_TENSORS: usize = 1_000_000;
/// Ranks of a tensor.
const MOST_RANKS: usize = 16;
/// Operands of an operator.
const MOST_OPERANDS: usize = 255;
/// Bytes of a name that are kept.
const LONGEST_NAME: usize = 1000;
/// Bytes of all names: vectors of a hostile file may all be one.
const ALL_NAMES: usize = 32 << 20;
/// Operands of all operators, for the same reason.
const ALL_OPERANDS: usize = 4_000_000;

/// A tensor as the file states it.
#[derive(Debug, Clone)]
pub(super) struct Stored<'a> {
    /// Its name.
    pub(super) name: String,
    /// Its extents.
    pub(super) shape: Vec<u64>,
    /// The encoding of its elements; `None` for strings, resources and the like.
    pub(super) format: Option<Format>,
    /// The bytes of a constant; empty for what is computed, and for constants that the file only refers to.
    pub(super) data: &'a [u8],
    /// Whether it is a constant.
    pub(super) constant: bool,
    /// Whether it lasts from one inference to the next.
    pub(super) variable: bool,
}

impl Stored<'_> {
    /// Number of elements. Checked when the tensor was read.
    pub(super) fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// How its elements are stored.
    pub(super) fn quantization(&self) -> Quantization {
        Quantization::from(self.format.unwrap_or(Format::INT32))
    }

    /// The values of a small integer constant.
    pub(super) fn integers(&self) -> Option<Vec<i64>> {
        let wide = || {
            let (words, rest) = self.data.as_chunks::<8>();
            rest.is_empty()
                .then(|| words.iter().map(|w| i64::from_le_bytes(*w)).collect())
        };
        let narrow = || {
            let (words, rest) = self.data.as_chunks::<4>();
            rest.is_empty().then(|| {
                words
                    .iter()
                    .map(|w| i64::from(i32::from_le_bytes(*w)))
                    .collect()
            })
        };
        let values: Vec<i64> = match self.format? {
            Format::Int { bits: 64, .. } => wide()?,
            Format::Int { bits: 32, .. } => narrow()?,
            _ => return None,
        };
        (values.len() as u64 == self.elements()).then_some(values)
    }
}

/// An operator.
#[derive(Debug, Clone)]
pub(super) struct Operator<'a> {
    /// Its name: the builtin's, or the custom code.
    pub(super) name: String,
    /// Positions of tensors read; -1 for one left out.
    pub(super) inputs: Vec<i32>,
    /// Positions of tensors made.
    pub(super) outputs: Vec<i32>,
    options: Option<Table<'a>>,
}

impl Operator<'_> {
    /// A byte of its options.
    pub(super) fn byte(&self, field: usize) -> Result<u8, TfliteError> {
        self.options.map_or(Ok(0), |o| o.u8(field, 0))
    }

    /// A word of its options.
    pub(super) fn word(&self, field: usize, default: i32) -> Result<i32, TfliteError> {
        self.options.map_or(Ok(default), |o| o.i32(field, default))
    }
}

/// The first subgraph of a file.
#[derive(Debug, Clone)]
pub(super) struct File<'a> {
    /// Its tensors.
    pub(super) tensors: Vec<Stored<'a>>,
    /// Its operators, in order.
    pub(super) operators: Vec<Operator<'a>>,
    /// Positions of the tensors given.
    pub(super) inputs: Vec<i32>,
    /// Positions of the tensors returned.
    pub(super) outputs: Vec<i32>,
    /// Subgraphs of the file.
    pub(super) subgraphs: usize,
}

fn limit<T>(what: &str, most: usize) -> Result<T, TfliteError> {
    Err(TfliteError::Limit(format!(
        "it has more than {most} {what}"
    )))
}

/// Reads a file.
pub(super) fn read(bytes: &[u8]) -> Result<File<'_>, TfliteError> {
    if bytes.get(4..8) != Some(b"TFL3") {
        return Err(TfliteError::Malformed(
            "it does not carry the identifier TFL3".into(),
        ));
    }
    let model = Table::root(bytes)?;
    let codes = model.vector(1, 4)?;
    let subgraphs = model.vector(2, 4)?;
    let buffers = model.vector(4, 4)?;
    if subgraphs.len() == 0 {
        return Err(TfliteError::Malformed("it has no subgraph".into()));
    }
    let graph = subgraphs.table(0)?;
    let tensors = tensors(bytes, graph.vector(0, 4)?, buffers)?;
    let operators = operators_of(graph.vector(3, 4)?, codes, tensors.len())?;
    let inputs = positions(graph.vector(1, 4)?, tensors.len(), false)?;
    let outputs = positions(graph.vector(2, 4)?, tensors.len(), false)?;
    Ok(File {
        tensors,
        operators,
        inputs,
        outputs,
        subgraphs: subgraphs.len(),
    })
}

fn tensors<'a>(
    bytes: &'a [u8],
    list: Vector<'a>,
    buffers: Vector<'a>,
) -> Result<Vec<Stored<'a>>, TfliteError> {
    if list.len() > MOST_TENSORS {
        return limit("tensors", MOST_TENSORS);
    }
    let mut names = 0;
    let mut all = Vec::new();
    for index in 0..list.len() {
        let tensor = self::tensor(bytes, index, list.table(index)?, buffers)?;
        names += tensor.name.len();
        if names > ALL_NAMES {
            return limit("bytes of names", ALL_NAMES);
        }
        all.push(tensor);
    }
    Ok(all)
}

fn tensor<'a>(
    bytes: &'a [u8],
    index: usize,
    table: Table<'a>,
    buffers: Vector<'a>,
) -> Result<Stored<'a>, TfliteError> {
    let whole = table.text(3)?;
    let mut end = whole.len().min(LONGEST_NAME);
    while !whole.is_char_boundary(end) {
        end -= 1;
    }
    let name = match whole.get(..end) {
        None | Some("") => format!("tensor.{index}"),
        Some(name) => name.to_string(),
    };
    let wrong = |reason: String| TfliteError::Tensor {
        index,
        name: name.clone(),
        reason,
    };
    let extents = table.vector(0, 4)?;
    if extents.len() > MOST_RANKS {
        return Err(wrong(format!("it has more than {MOST_RANKS} ranks")));
    }
    let shape: Option<Vec<u64>> = extents.words().map(|d| u64::try_from(d).ok()).collect();
    let shape = shape.ok_or_else(|| wrong("its shape has a negative extent".into()))?;
    let elements = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
    let Some(elements) = elements.filter(|n| *n <= u64::MAX / 128) else {
        return Err(wrong(format!("shape {shape:?} is too large")));
    };
    let kind = table.u8(1, 0)?;
    let format = format_of(kind).map_err(&wrong)?;
    let buffer = table.u32(2, 0)? as usize;
    let (data, given) = match buffer {
        0 => (&[][..], false),
        _ if buffer >= buffers.len() => {
            return Err(wrong(format!(
                "its buffer is number {buffer} of {}",
                buffers.len()
            )));
        }
        _ => buffer_of(bytes, buffers.table(buffer)?)?,
    };
    // Sparse tensors store fewer elements than their shape has.
    let sparse = table.table(6)?.is_some();
    let needed = format.map(|f| elements.saturating_mul(f.bits()).div_ceil(8));
    if !data.is_empty() && !sparse && needed.is_some_and(|n| n != data.len() as u64) {
        return Err(wrong(format!(
            "shape {shape:?} does not fit its {} bytes of data",
            data.len()
        )));
    }
    Ok(Stored {
        name,
        shape,
        format,
        data,
        constant: given,
        variable: table.u8(5, 0)? != 0,
    })
}

/// The data of a buffer, which may lie behind the flatbuffer, and whether it has any.
fn buffer_of<'a>(bytes: &'a [u8], table: Table<'a>) -> Result<(&'a [u8], bool), TfliteError> {
    let data = table.vector(0, 1)?.raw();
    let (offset, size) = (table.u64(1, 0)?, table.u64(2, 0)?);
    if offset <= 1 || !data.is_empty() {
        return Ok((data, !data.is_empty()));
    }
    let place = usize::try_from(offset)
        .ok()
        .zip(usize::try_from(size).ok())
        .and_then(|(o, s)| bytes.get(o..o.checked_add(s)?));
    match place {
        Some(data) => Ok((data, true)),
        None => Err(TfliteError::Malformed(format!(
            "a buffer of {size} bytes at byte {offset} lies outside the file"
        ))),
    }
}

/// The encoding of a type of the schema; `None` for what is no number.
fn format_of(kind: u8) -> Result<Option<Format>, String> {
    let int = |bits| Some(Format::Int { bits, signed: true });
    let unsigned = |bits| {
        Some(Format::Int {
            bits,
            signed: false,
        })
    };
    Ok(match kind {
        0 => Some(Format::FP32),
        1 => Some(Format::FP16),
        2 => int(32),
        3 | 6 => unsigned(8),
        4 => int(64),
        7 => int(16),
        9 => int(8),
        10 => "fp64".parse().ok(),
        12 => unsigned(64),
        15 => unsigned(32),
        16 => unsigned(16),
        17 => int(4),
        18 => Some(Format::BF16),
        5 | 8 | 11 | 13 | 14 => None,
        _ => return Err(format!("presil does not know its element type {kind}")),
    })
}

fn positions(list: Vector<'_>, tensors: usize, optional: bool) -> Result<Vec<i32>, TfliteError> {
    if list.len() > tensors.max(MOST_OPERANDS) {
        return Err(TfliteError::Malformed(
            "a list of tensors is longer than there are tensors".into(),
        ));
    }
    let all: Vec<i32> = list.words().collect();
    let inside = |p: &i32| match usize::try_from(*p) {
        Ok(p) => p < tensors,
        Err(_) => optional && *p == -1,
    };
    match all.iter().find(|p| !inside(p)) {
        Some(p) => Err(TfliteError::Malformed(format!(
            "tensor {p} is named, of {tensors}"
        ))),
        None => Ok(all),
    }
}

fn operators_of<'a>(
    list: Vector<'a>,
    codes: Vector<'a>,
    tensors: usize,
) -> Result<Vec<Operator<'a>>, TfliteError> {
    if list.len() > MOST_OPERATORS {
        return limit("operators", MOST_OPERATORS);
    }
    let mut operands = 0;
    let mut all = Vec::new();
    for index in 0..list.len() {
        let table = list.table(index)?;
        let (reads, makes) = (table.vector(1, 4)?, table.vector(2, 4)?);
        if reads.len().max(makes.len()) > MOST_OPERANDS {
            return Err(TfliteError::Limit(format!(
                "operator {index} has more than {MOST_OPERANDS} operands"
            )));
        }
        operands += reads.len() + makes.len();
        if operands > ALL_OPERANDS {
            return limit("operands", ALL_OPERANDS);
        }
        let code = codes.table(table.u32(0, 0)? as usize)?;
        // The old field is a byte; newer operators are in the new one only.
        let builtin = i32::from(code.u8(0, 0)? as i8).max(code.i32(3, 0)?);
        let custom = code.text(1)?;
        let name = match operators::name(builtin) {
            "CUSTOM" if !custom.is_empty() => custom.chars().take(100).collect(),
            name => name.to_string(),
        };
        all.push(Operator {
            name,
            inputs: positions(reads, tensors, true)?,
            outputs: positions(makes, tensors, false)?,
            options: table.table(4)?,
        });
    }
    Ok(all)
}
