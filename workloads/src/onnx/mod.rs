//! The ONNX importer.
use std::path::Path;
use crate::graph::Graph;
use crate::model::{ModelError, Request};
/// Why an ONNX file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// Not an ONNX model.
    #[error("not an ONNX model: {0}")]
    Malformed(String),
}
/// Imports a file.
pub fn import(path: &Path, _request: &Request) -> Result<Graph, ModelError> {
    Err(ModelError::Unknown { name: path.display().to_string(), near: Vec::new() })
}
