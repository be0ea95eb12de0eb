//! The TFLite (LiteRT) importer.
//!
//! A `.tflite` file is a flatbuffer that holds one graph with all shapes fixed. It becomes a [`Graph`] in one pass
//! over its operators, in file order:
//!
//! - `flat` reads tables, vectors and strings, each access checked against the file; `file` makes plain values of
//!   the first subgraph's tensors and operators, with limits that keep a hostile file cheap;
//! - tensors keep the file's shapes (activations are [n, h, w, c]), names and element formats (int8, int16, int4,
//!   float ...). Scales and zero points are constants of the graph, as [`presil_numerics::Quantization`] says of
//!   integers; a bias is int32;
//! - `lower` says which operator becomes which op; `conv`, `matmul`, `vector` and `movement` make them. A fused
//!   activation is an op of its own behind its op. Every result is compared with the shape that the file states;
//! - an operator without a lowering is an error with its name and place, or with [`Request::allow_unknown`] an op
//!   of unknown cost that every report names;
//! - as for ONNX, attention is recognized, names are made unique and the graph is checked.
//!
//! Counting: constants that ops read as data are weights, shapes and axes are not.

mod conv;
mod error;
mod file;
mod flat;
mod import;
mod lower;
mod matmul;
mod movement;
mod operators;
#[cfg(test)]
mod tests;
mod vector;

use std::path::Path;

pub use error::{Place, TfliteError};

use crate::graph::Graph;
use crate::model::{ModelError, Request};

/// Imports a file. The graph is called like the file, without folder and extension.
pub fn import(path: &Path, request: &Request) -> Result<Graph, ModelError> {
    let bytes = std::fs::read(path).map_err(|error| ModelError::Io {
        path: path.into(),
        error,
    })?;
    let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or("model");
    import_bytes(name, &bytes, request).map_err(|error| ModelError::Tflite {
        model: path.display().to_string(),
        error,
    })
}

/// Imports a model of a name from memory.
pub fn import_bytes(name: &str, bytes: &[u8], request: &Request) -> Result<Graph, TfliteError> {
    import::model(name, &file::read(bytes)?, request)
}
