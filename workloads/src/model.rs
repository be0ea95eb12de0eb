//! From what a user names (a model of the zoo, a file) to graphs.

use std::path::{Path, PathBuf};

use presil_numerics::Diagnostics;
use thiserror::Error;

use crate::graph::{Graph, GraphError};

/// Why a model could not be had.
#[derive(Debug, Error)]
pub enum ModelError {
    /// No model of this name, no file at this path.
    #[error("no model is called `{name}` and no such file exists{}", if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) })]
    Unknown {
        /// As given.
        name: String,
        /// Nearest names, quoted.
        near: Vec<String>,
    },
    /// A path that is no file.
    #[error("`{name}` is {}", if *folder { format!("a folder; give the model file in it, such as `{}`", Path::new(name).join("config.json").display()) } else { "no file that can be read as a model".into() })]
    NoFile {
        /// As given.
        name: String,
        /// Whether it is a folder.
        folder: bool,
    },
    /// The file could not be read.
    #[error("cannot read `{path}`: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file's text is wrong; all problems are shown with their places.
    #[error("{0}")]
    Text(Box<Diagnostics>),
    /// The file is no model that presil reads, or asks for what it does not support.
    #[error("`{model}`: {reason}")]
    Unsupported {
        /// Model or file.
        model: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The graph is inconsistent.
    #[error("`{model}`: {error}")]
    Graph {
        /// Model or file.
        model: String,
        /// What is wrong.
        error: GraphError,
    },
    /// An ONNX file that cannot be imported.
    #[error("`{model}`: {error}")]
    Onnx {
        /// File.
        model: String,
        /// What is wrong.
        error: crate::onnx::OnnxError,
    },
    /// A TFLite file that cannot be imported.
    #[error("`{model}`: {error}")]
    Tflite {
        /// File.
        model: String,
        /// What is wrong.
        error: crate::tflite::TfliteError,
    },
}

/// Which pass of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The only pass of models that are no LLMs.
    Forward,
    /// An LLM reads a prompt of so many tokens and gives the first one.
    Prefill {
        /// Tokens.
        prompt: u64,
    },
    /// An LLM makes one token; `context` counts the tokens that it attends to, the new one included.
    Decode {
        /// Tokens.
        context: u64,
    },
}

/// How tokens spread over experts.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Routing {
    /// Every expert equally likely: E (1 - (1 - k/E)^T) distinct experts for T tokens.
    #[default]
    Uniform,
    /// Expert i has weight proportional to (i + 1)^-exponent.
    PowerLaw {
        /// Exponent, 0 for uniform.
        exponent: f64,
    },
    /// Relative weights of the experts, as measured.
    Histogram(Vec<f64>),
}

/// What is asked of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Sequences or images.
    pub batch: u64,
    /// Which pass.
    pub pass: Pass,
    /// Shapes given for inputs by name, for files whose shapes are open.
    pub shapes: Vec<(String, Vec<u64>)>,
    /// How tokens spread over experts.
    pub routing: Routing,
    /// Multi-head latent attention with the up-projections absorbed into queries and outputs, so that decoding
    /// reads latents only. Otherwise keys and values are expanded from the latents at each step.
    pub absorb_mla: bool,
    /// Cost ops that presil has no model of as data movement instead of refusing.
    pub allow_unknown: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            batch: 1,
            pass: Pass::Forward,
            shapes: Vec::new(),
            routing: Routing::Uniform,
            absorb_mla: true,
            allow_unknown: false,
        }
    }
}

/// A model, before it is asked for a pass.
#[derive(Debug, Clone)]
pub enum Model {
    /// A vision, text or diffusion model of the zoo, by its name.
    Zoo(&'static str),
    /// A decoder-only language model.
    Llm(Box<crate::llm::Config>),
    /// An ONNX file.
    Onnx(PathBuf),
    /// A TFLite file.
    Tflite(PathBuf),
    /// A presil graph file.
    File(PathBuf),
    /// A graph that was made before.
    Graph(Box<Graph>),
}

impl Model {
    /// Finds a model by name or path: a zoo name first, then a file by its kind (`.onnx`, `.tflite`, `.toml`,
    /// a HuggingFace `config.json`).
    pub fn find(name: &str) -> Result<Self, ModelError> {
        if let Some(known) = crate::zoo::names().into_iter().find(|n| *n == name) {
            return Ok(Self::Zoo(known));
        }
        if let Some(config) = crate::llm::named(name) {
            return config.map(|c| Self::Llm(Box::new(c)));
        }
        let path = Path::new(name);
        if path.exists() && !path.is_file() {
            return Err(ModelError::NoFile {
                name: name.into(),
                folder: path.is_dir(),
            });
        }
        if !path.is_file() {
            let all: Vec<&str> = Self::names();
            let near = presil_numerics::diagnostic::nearest_names(name, all).into_iter();
            return Err(ModelError::Unknown {
                name: name.into(),
                near: near.map(|n| format!("`{n}`")).collect(),
            });
        }
        match path.extension().and_then(|e| e.to_str()) {
            Some("onnx") => Ok(Self::Onnx(path.into())),
            Some("tflite") => Ok(Self::Tflite(path.into())),
            Some("toml") => Ok(Self::File(path.into())),
            Some("json") => {
                let text = std::fs::read_to_string(path).map_err(|error| ModelError::Io {
                    path: path.into(),
                    error,
                })?;
                crate::llm::Config::read(name, &text).map(|c| Self::Llm(Box::new(c)))
            }
            _ => Err(ModelError::Unsupported {
                model: name.into(),
                reason: "presil reads .onnx, .tflite, a graph .toml and a HuggingFace config .json"
                    .into(),
            }),
        }
    }

    /// Every name that ships, sorted.
    pub fn names() -> Vec<&'static str> {
        let mut names: Vec<&str> = crate::zoo::names()
            .into_iter()
            .chain(crate::llm::names())
            .collect();
        names.sort_unstable();
        names
    }

    /// Whether it is a decoder-only language model, with prefill and decode passes.
    pub fn is_llm(&self) -> bool {
        matches!(self, Self::Llm(_))
    }

    /// The graph of a pass.
    pub fn graph(&self, request: &Request) -> Result<Graph, ModelError> {
        self.check_shapes(request)?;
        match self {
            Self::Zoo(name) => crate::zoo::build(name, request),
            Self::Llm(config) => crate::llm::build(config, request),
            Self::Onnx(path) => crate::onnx::import(path, request),
            Self::Tflite(path) => crate::tflite::import(path, request),
            Self::File(path) => crate::file::build(path, request),
            Self::Graph(graph) => Ok((**graph).clone()),
        }
    }

    /// Refuses shapes that are given twice, or to a language model.
    fn check_shapes(&self, request: &Request) -> Result<(), ModelError> {
        let fail = |model: String, reason: String| Err(ModelError::Unsupported { model, reason });
        let model = || match self {
            Self::Zoo(name) => (*name).to_string(),
            Self::Llm(config) => config.name.clone(),
            Self::Onnx(path) | Self::Tflite(path) | Self::File(path) => path.display().to_string(),
            Self::Graph(graph) => graph.name.clone(),
        };
        if let (Self::Llm(_), Some((name, _))) = (self, request.shapes.first()) {
            let reason = format!(
                "a shape was given for `{name}`; the inputs of a language model follow from --batch, --prompt and --context"
            );
            return fail(model(), reason);
        }
        let mut names: Vec<&str> = request.shapes.iter().map(|(n, _)| n.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|w| w[0] == w[1]) {
            Some(twice) => fail(
                model(),
                format!("two shapes were given for `{}`; give one", twice[0]),
            ),
            None => Ok(()),
        }
    }
}
