//! presil's own graph TOML.
use std::path::Path;
use crate::graph::Graph;
use crate::model::ModelError;
/// Reads a graph file.
pub fn read(path: &Path) -> Result<Graph, ModelError> {
    Err(ModelError::Unknown { name: path.display().to_string(), near: Vec::new() })
}
