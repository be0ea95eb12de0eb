//! Decoder-only language models by configuration.
use crate::graph::Graph;
use crate::model::{ModelError, Request};
/// A model's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name.
    pub name: String,
}
impl Config {
    /// Reads a HuggingFace `config.json`.
    pub fn read(name: &str, _text: &str) -> Result<Self, ModelError> {
        Err(ModelError::Unknown { name: name.into(), near: Vec::new() })
    }
}
/// Names that ship, sorted.
pub fn names() -> Vec<&'static str> {
    Vec::new()
}
/// The configuration that ships under a name.
pub fn named(_name: &str) -> Option<Result<Config, ModelError>> {
    None
}
/// The graph of a pass.
pub fn build(config: &Config, _request: &Request) -> Result<Graph, ModelError> {
    Err(ModelError::Unknown { name: config.name.clone(), near: Vec::new() })
}
