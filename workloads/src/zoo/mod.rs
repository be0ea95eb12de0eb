//! Models by name.
use crate::graph::Graph;
use crate::model::{ModelError, Request};
/// Names of the zoo, sorted.
pub fn names() -> Vec<&'static str> {
    Vec::new()
}
/// The graph of a model of the zoo.
pub fn build(name: &str, _request: &Request) -> Result<Graph, ModelError> {
    Err(ModelError::Unknown { name: name.into(), near: Vec::new() })
}
