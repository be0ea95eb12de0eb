//! Why a TFLite file cannot be imported.

use std::fmt;

use thiserror::Error;

use crate::graph::GraphError;

/// Where an operator stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its position among the operators, from 0.
    pub index: usize,
    /// Its operator.
    pub op: String,
    /// The tensor that it makes: operators have no names of their own.
    pub makes: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operator {} ({})", self.index, self.op)?;
        if !self.makes.is_empty() {
            write!(f, " that makes `{}`", self.makes)?;
        }
        Ok(())
    }
}

/// Why a TFLite file cannot be imported: what is wrong, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TfliteError {
    /// Not a TFLite model, or a damaged one.
    #[error("not a whole TFLite model: {0}")]
    Malformed(String),
    /// A tensor that contradicts itself.
    #[error("tensor {index} `{name}`: {reason}")]
    Tensor {
        /// Its position.
        index: usize,
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// What was asked of an input is not what the file states.
    #[error("input `{name}`: {reason}")]
    Input {
        /// The input.
        name: String,
        /// What is wrong.
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
    /// An output that no operator makes.
    #[error("output `{0}` is made by no operator")]
    NoOutput(String),
    /// An operator that presil has no model of.
    #[error(
        "{place}: presil has no model of this operator; --allow-unknown costs it as reading its inputs and writing its outputs"
    )]
    Unknown {
        /// The operator.
        place: Box<Place>,
    },
    /// An operator whose operands or options do not fit.
    #[error("{place}: {reason}")]
    Operator {
        /// The operator.
        place: Box<Place>,
        /// What does not fit.
        reason: String,
    },
    /// More than presil imports.
    #[error("{0}")]
    Limit(String),
    /// The imported graph is inconsistent.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// A failure inside an operator, before its place is known.
#[derive(Debug)]
pub(super) enum Fault {
    /// What does not fit.
    Reason(String),
    /// An operator without a model.
    Unknown,
    /// An error that needs no place.
    Whole(TfliteError),
}

impl Fault {
    /// With the place of the operator that failed.
    pub(super) fn at(self, place: Place) -> TfliteError {
        let place = Box::new(place);
        match self {
            Self::Reason(reason) => TfliteError::Operator { place, reason },
            Self::Unknown => TfliteError::Unknown { place },
            Self::Whole(error) => error,
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

impl From<TfliteError> for Fault {
    fn from(error: TfliteError) -> Self {
        Self::Whole(error)
    }
}

impl From<GraphError> for Fault {
    fn from(error: GraphError) -> Self {
        match error {
            GraphError::Shape { reason, .. } => Self::Reason(reason),
            other => Self::Reason(other.to_string()),
        }
    }
}
