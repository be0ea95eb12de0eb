//! Golden vectors for those who build a unit: operands, accumulators and sums, of an op of a model or of a unit alone.
//!
//! A folder of
//!
//! ```text
//! vectors.json                     formats, extents, the order of what follows
//! a.npy, b.npy                     operands [sums, products], in the order in which the unit takes them
//! start.npy, sum.npy               what accumulators start from and end at [sums]
//! trace.npy                        what accumulators hold after each addition [sums, additions]
//! a.mem, b.mem, start.mem, ..      the same as hexadecimal codes, one a line, for $readmemh
//! ```
//!
//! Codes are those of the formats that `vectors.json` names: operands in theirs, the others in the register's.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2};
use ndarray_npy::WriteNpyExt;
use presil_execution::choice::{Choice, ChoiceError};
use presil_execution::vectors::{Vector, Vectors, register, traced};
use presil_numerics::codec::CodecError;
use presil_numerics::{Codec, Conversion, Exact, Format, Overflow, random};
use serde_json::json;
use thiserror::Error;

use crate::execute::{self, ExecuteError};

/// Where vectors come from.
#[derive(Debug, Clone)]
pub enum From {
    /// An op of a model, on the first sample of the data.
    Model(Box<execute::Request>, String),
    /// A unit with operands of two formats, drawn at random.
    Unit {
        /// Storage of the second operand.
        weights: String,
        /// Storage of the first.
        activations: String,
        /// The unit or register.
        accumulate: String,
        /// Products of a sum.
        length: usize,
        /// Seed of the operands.
        seed: u64,
    },
}

/// Why there are no vectors.
#[derive(Debug, Error)]
pub enum VectorsError {
    /// The model.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// The unit.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// A format without codes.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Operands that no single format holds.
    #[error("operands of `{0}` are blocks under scales: vectors are of formats of single elements")]
    Blocks(String),
    /// A file.
    #[error("{0}: {1}")]
    Io(PathBuf, String),
}

/// Writes at most `count` sums into a folder, and gives what it wrote.
///
/// # Errors
/// A model, unit or format that is not there, a folder that can't be written.
pub fn write(from: &From, count: usize, folder: &Path) -> Result<Vec<PathBuf>, VectorsError> {
    let (vectors, what) = match from {
        From::Model(request, op) => (
            execute::vectors(request, op, count)?,
            format!("op {op} of {}", request.model),
        ),
        From::Unit {
            accumulate, length, ..
        } => (
            of_unit(from, count)?,
            format!("{accumulate}, {length} products"),
        ),
    };
    std::fs::create_dir_all(folder).map_err(|e| VectorsError::Io(folder.into(), e.to_string()))?;
    let [a, b] = vectors.formats;
    let each = |of: fn(&Vector) -> Vec<f64>| vectors.vectors.iter().map(of).collect::<Vec<_>>();
    let floats = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
    let operand = |of: fn(&Vector) -> &[f32]| {
        vectors
            .vectors
            .iter()
            .map(|v| floats(of(v)))
            .collect::<Vec<_>>()
    };
    let lists = [
        ("a", a, operand(|v| &v.a)),
        ("b", b, operand(|v| &v.b)),
        ("start", vectors.register, each(|v| vec![v.start])),
        ("trace", vectors.register, each(|v| v.trace.clone())),
        ("sum", vectors.register, each(|v| vec![v.sum])),
    ];
    let mut written = Vec::new();
    let mut described = Vec::new();
    for (name, format, rows) in &lists {
        let width = rows.first().map_or(0, Vec::len);
        written.push(npy(folder, name, rows)?);
        written.push(mem(folder, name, *format, rows)?);
        described.push(json!({"name": name, "format": format.to_string(), "bits": format.bits(), "sums": rows.len(), "each": width}));
    }
    let document = json!({
        "of": what,
        "places": vectors.vectors.iter().map(|v| v.place).collect::<Vec<_>>(),
        "files": described,
        "version": crate::VERSION,
    });
    let path = folder.join("vectors.json");
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    std::fs::write(&path, text + "\n")
        .map_err(|e| VectorsError::Io(path.clone(), e.to_string()))?;
    written.push(path);
    Ok(written)
}

/// Sums of operands drawn at random: three in four of a normal's range, the others over the format's whole range.
fn of_unit(from: &From, count: usize) -> Result<Vectors, VectorsError> {
    let From::Unit {
        weights,
        activations,
        accumulate,
        length,
        seed,
    } = from
    else {
        return Ok(Vectors {
            formats: [Format::FP32; 2],
            register: Format::FP32,
            vectors: Vec::new(),
        });
    };
    let choice = Choice {
        weights: weights.clone(),
        activations: activations.clone(),
        accumulate: Some(accumulate.clone()),
        ..Choice::default()
    };
    let chosen = choice.arithmetic(&[])?;
    let format = |name: &str| {
        let parsed: Result<Format, _> = name.parse();
        parsed.map_err(|_| VectorsError::Blocks(name.into()))
    };
    let formats = [format(activations)?, format(weights)?];
    let conversion = Conversion {
        overflow: Overflow::Saturate,
        ..Conversion::default()
    };
    let codecs = [
        Codec::new(formats[0], conversion)?,
        Codec::new(formats[1], conversion)?,
    ];
    let draw = |codec: &Codec, index: u64| -> f32 {
        let bits = random::word(*seed, index);
        let unit = f64::from(bits >> 8) / f64::from(1 << 24) * 2.0 - 1.0;
        if codec.format.is_int() {
            let largest = codec.rounded(f64::INFINITY, 0).0;
            return codec.rounded(unit * largest, 0).0 as f32;
        }
        let spread = if bits & 3 == 0 {
            f64::from(bits >> 2 & 31) - 16.0
        } else {
            0.0
        };
        codec.rounded(unit * spread.exp2(), 0).0 as f32
    };
    let adder = &chosen.arithmetic.adder;
    let vectors = (0..count).map(|sum| {
        let index = |i: usize, operand: u64| ((sum * length + i) as u64) * 2 + operand;
        let a: Vec<f32> = (0..*length)
            .map(|i| draw(&codecs[0], index(i, 0)))
            .collect();
        let b: Vec<f32> = (0..*length)
            .map(|i| draw(&codecs[1], index(i, 1)))
            .collect();
        let (result, trace) = traced(adder, &a, &b, 0.0);
        Vector {
            place: sum,
            a,
            b,
            start: 0.0,
            trace,
            sum: result,
        }
    });
    Ok(Vectors {
        formats,
        register: register(adder),
        vectors: vectors.collect(),
    })
}

fn npy(folder: &Path, name: &str, rows: &[Vec<f64>]) -> Result<PathBuf, VectorsError> {
    let path = folder.join(format!("{name}.npy"));
    let wrong = |e: String| VectorsError::Io(path.clone(), e);
    let file = std::fs::File::create(&path).map_err(|e| wrong(e.to_string()))?;
    let width = rows.first().map_or(0, Vec::len);
    let flat: Vec<f64> = rows.iter().flatten().copied().collect();
    let made = if width == 1 {
        Array1::from(flat).write_npy(file)
    } else {
        let array = Array2::from_shape_vec((rows.len(), width), flat);
        array.map_err(|e| wrong(e.to_string()))?.write_npy(file)
    };
    made.map_err(|e| wrong(e.to_string()))?;
    Ok(path)
}

fn mem(
    folder: &Path,
    name: &str,
    format: Format,
    rows: &[Vec<f64>],
) -> Result<PathBuf, VectorsError> {
    let codec = Codec::new(format, Conversion::default())?;
    let digits = codec.code_bits().div_ceil(4) as usize;
    let mut text = String::new();
    for x in rows.iter().flatten() {
        let code = codec.encode(Exact::from(*x), 0).code;
        // A String takes all that is written to it.
        let _ = writeln!(text, "{code:0digits$x}");
    }
    let path = folder.join(format!("{name}.mem"));
    std::fs::write(&path, text).map_err(|e| VectorsError::Io(path.clone(), e.to_string()))?;
    Ok(path)
}
