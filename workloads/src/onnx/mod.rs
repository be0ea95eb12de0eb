//! The ONNX importer.
//!
//! A file becomes a [`Graph`] in one pass over its nodes, in file order:
//!
//! - messages are decoded by hand-written `prost` structs (`proto`); stored tensors are checked, never evaluated
//!   beyond small ones; external data are known by shape alone, and no path may leave the model's folder;
//! - open extents of inputs come from [`Request::shapes`] or are batches (`inputs`);
//! - what only computes shapes, axes, masks and positions is evaluated at import (`fold`), so every tensor has a
//!   fixed shape; a shape that depends on the data is an error that says so;
//! - bodies of `Loop` and `Scan` run `Op::steps` times, `If` takes its known or its heavier branch, functions are
//!   inlined (`control`);
//! - every other node is lowered to ops (`lower` says which by which function); an operator without a lowering is
//!   an error, or with [`Request::allow_unknown`] an op of unknown cost that every report names;
//! - attention is recognized, names made unique, the whole graph checked (`finish`).
//!
//! Counting: all initializers are weights, so that [`crate::count::count`] gives the elements that the file
//! stores as initializers, with those of scales, zero points and shapes; constants of nodes are no parameters.
//! A damaged or hostile file gives an [`OnnxError`]: sizes are checked before anything is allocated by them,
//! nesting is bounded, and so is the work spent on evaluation, functions and unrolled loops.

mod arithmetic;
mod attention;
mod control;
mod conv;
mod error;
mod finish;
mod fold;
mod import;
mod inputs;
mod lower;
mod matmul;
mod movement;
mod node;
mod norm;
mod proto;
mod quantize;
mod recurrent;
mod results;
mod select;
mod shapes;
#[cfg(test)]
mod tests;
mod value;
mod vector;

use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;

pub use error::{OnnxError, Place};
pub(crate) use finish::finish as finish_graph;

use crate::graph::Graph;
use crate::model::{ModelError, Request};

/// Imports a file. The graph is called like the file, without folder and extension.
pub fn import(path: &Path, request: &Request) -> Result<Graph, ModelError> {
    let bytes = std::fs::read(path).map_err(|error| ModelError::Io {
        path: path.into(),
        error,
    })?;
    let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or("model");
    from_bytes(name, bytes.into(), request).map_err(|error| ModelError::Onnx {
        model: path.display().to_string(),
        error,
    })
}

/// Imports a model of a name from memory.
pub fn import_bytes(name: &str, bytes: &[u8], request: &Request) -> Result<Graph, OnnxError> {
    from_bytes(name, Bytes::copy_from_slice(bytes), request)
}

fn from_bytes(name: &str, bytes: Bytes, request: &Request) -> Result<Graph, OnnxError> {
    if bytes.is_empty() {
        return Err(OnnxError::Malformed("the file is empty".into()));
    }
    let model =
        proto::ModelProto::decode(bytes).map_err(|e| OnnxError::Malformed(e.to_string()))?;
    import::model(name, &model, request)
}
