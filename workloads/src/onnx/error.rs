//! Why an ONNX file cannot be imported.

use std::fmt;

use thiserror::Error;

use crate::graph::GraphError;

/// Where a node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its position in its graph, from 0.
    pub index: usize,
    /// Its name; often empty.
    pub node: String,
    /// Its operator, with the domain where that is not the default one.
    pub op: String,
    /// The body or function that it stands in; empty for the model's own graph.
    pub within: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.index)?;
        if !self.node.is_empty() {
            write!(f, " `{}`", self.node)?;
        }
        write!(f, " ({})", self.op)?;
        if !self.within.is_empty() {
            write!(f, " of {}", self.within)?;
        }
        Ok(())
    }
}

/// Why an ONNX file cannot be imported: what is wrong, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OnnxError {
    /// Not an ONNX model, or a damaged one.
    #[error("not a whole ONNX model: {0}")]
    Malformed(String),
    /// An operator set that this version does not know.
    #[error(
        "it asks for version {version} of the default operator set; versions {oldest} to {newest} are supported: convert it with onnx.version_converter"
    )]
    Version {
        /// Asked for.
        version: i64,
        /// Oldest supported.
        oldest: i64,
        /// Newest supported.
        newest: i64,
    },
    /// A stored tensor (initializer or constant) that contradicts itself.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// External data outside the model's folder.
    #[error(
        "tensor `{name}` refers to external data at `{location}`: {reason}; external data must be a relative path inside the model's folder"
    )]
    External {
        /// The tensor.
        name: String,
        /// As the file gives it.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An input of the model whose shape is open or contradicts what was asked for.
    #[error("input `{name}`: {reason}")]
    Input {
        /// The input.
        name: String,
        /// What is wrong, with the option that helps.
        reason: String,
    },
    /// A shape was given for an input that does not exist.
    #[error("a shape was given for `{name}`, which is no input; its inputs are {inputs}")]
    NoSuchInput {
        /// As given.
        name: String,
        /// The inputs, quoted.
        inputs: String,
    },
    /// A value that two nodes make.
    #[error("{place} makes `{name}`, which exists already; every value is made once")]
    Twice {
        /// The second maker.
        place: Box<Place>,
        /// The value.
        name: String,
    },
    /// A value that nobody has made when a node reads it.
    #[error("{place} reads `{name}`, which {}", if *later { "a later node makes: the nodes form a cycle or are not in order" } else { "is no input, no initializer and no output of an earlier node" })]
    Missing {
        /// The reader.
        place: Box<Place>,
        /// The value.
        name: String,
        /// Whether a later node of the same graph makes it.
        later: bool,
    },
    /// An output of a graph that nobody makes.
    #[error("output `{0}` is made by no node")]
    NoOutput(String),
    /// An operator that presil has no model of.
    #[error(
        "{place}: presil has no model of this operator; --allow-unknown costs it as reading its inputs and writing its outputs"
    )]
    Unknown {
        /// The node.
        place: Box<Place>,
    },
    /// A node whose operands or attributes do not fit.
    #[error("{place}: {reason}")]
    Node {
        /// The node.
        place: Box<Place>,
        /// What does not fit.
        reason: String,
    },
    /// The file is deeper or, functions inlined and loops unrolled, longer than presil imports.
    #[error("{0}")]
    Limit(String),
    /// The imported graph is inconsistent.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// A failure inside a node, before the node's place is known.
#[derive(Debug)]
pub(super) enum Fault {
    /// What does not fit.
    Reason(String),
    /// An operator without a model.
    Unknown,
    /// An error with a place of its own (inside a body or function).
    Placed(OnnxError),
}

impl Fault {
    /// With the place of the node that failed.
    pub fn at(self, place: Place) -> OnnxError {
        match self {
            Self::Reason(reason) => OnnxError::Node {
                place: Box::new(place),
                reason,
            },
            Self::Unknown => OnnxError::Unknown {
                place: Box::new(place),
            },
            Self::Placed(error) => error,
        }
    }
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Reason(reason)
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Self::Reason(reason.into())
    }
}

impl From<OnnxError> for Fault {
    fn from(error: OnnxError) -> Self {
        Self::Placed(error)
    }
}

impl From<GraphError> for Fault {
    fn from(error: GraphError) -> Self {
        match error {
            // The op's name is the node's: the place says it already.
            GraphError::Shape { reason, .. } => Self::Reason(reason),
            other => Self::Reason(other.to_string()),
        }
    }
}
