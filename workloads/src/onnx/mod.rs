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
mod einsum;
mod error;
mod finish;
mod fold;
mod formulas;
mod fused_attention;
mod import;
mod inputs;
mod lower;
mod matmul;
mod means;
mod movement;
mod node;
mod norm;
mod proto;
mod quantize;
mod recurrent;
mod resize;
mod results;
mod scores;
mod select;
mod shapes;
#[cfg(test)]
mod tests;
mod value;
mod vector;
mod weights;
mod window;

use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;

pub use error::{OnnxError, Place};
pub(crate) use finish::finish as finish_graph;
pub use weights::Weights;

use crate::graph::Graph;
use crate::model::{ModelError, Request};

/// Imports a file. The graph is called like the file, without folder and extension.
pub fn import(path: &Path, request: &Request) -> Result<Graph, ModelError> {
    read(path, |name, model, _| {
        import::model(name, model, request).map(|(graph, _)| graph)
    })
}

/// Imports a file, and reads the elements of all tensors that it stores, by the names that the graph calls them. They
/// are numbers in f32; external data are read from files inside the model's folder only.
pub fn import_with_weights(path: &Path, request: &Request) -> Result<(Graph, Weights), ModelError> {
    read(path, |name, model, folder| {
        let (graph, stored) = import::model(name, model, request)?;
        let weights = weights::all(&graph, &stored, Some(folder))?;
        Ok((graph, weights))
    })
}

fn read<T>(
    path: &Path,
    of: impl FnOnce(&str, &proto::ModelProto, &Path) -> Result<T, OnnxError>,
) -> Result<T, ModelError> {
    let bytes = std::fs::read(path).map_err(|error| ModelError::Io {
        path: path.into(),
        error,
    })?;
    let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or("model");
    let folder = path.parent().unwrap_or(Path::new(""));
    let made = decode(bytes.into()).and_then(|model| of(name, &model, folder));
    made.map_err(|error| ModelError::Onnx {
        model: path.display().to_string(),
        error,
    })
}

/// Imports a model of a name from memory.
pub fn import_bytes(name: &str, bytes: &[u8], request: &Request) -> Result<Graph, OnnxError> {
    let model = decode(Bytes::copy_from_slice(bytes))?;
    import::model(name, &model, request).map(|(graph, _)| graph)
}

/// Imports a model of a name from memory, with the elements of its tensors; none of them may stand outside.
pub fn import_bytes_with_weights(
    name: &str,
    bytes: &[u8],
    request: &Request,
) -> Result<(Graph, Weights), OnnxError> {
    let model = decode(Bytes::copy_from_slice(bytes))?;
    let (graph, stored) = import::model(name, &model, request)?;
    let weights = weights::all(&graph, &stored, None)?;
    Ok((graph, weights))
}

fn decode(bytes: Bytes) -> Result<proto::ModelProto, OnnxError> {
    if bytes.is_empty() {
        return Err(OnnxError::Malformed("the file is empty".into()));
    }
    proto::ModelProto::decode(bytes).map_err(|e| OnnxError::Malformed(e.to_string()))
}
