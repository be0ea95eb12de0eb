//! What a model is evaluated on: a data file, and which of its arrays are inputs and targets.
//!
//! ```toml
//! data = "eval.safetensors"        # .npz, .npy or .safetensors beside this file
//! metric = "mse"                   # classes | next_token | mse
//! output = "velocity"              # of the model
//! target = "vel_target"            # of the data; next_token: the tokens themselves
//!
//! [inputs]                         # input of the model = array of the data; those of one name need no entry
//! x = "vel_x"
//! ```
//!
//! Where results are fed back, `--growth` tells errors step by step:
//!
//! ```toml
//! [sampler]                        # x += velocity / steps, at t = 0, 1/steps, ..
//! steps = 20
//! state = "x"
//! time = "t"
//! update = "velocity"
//! inputs = { x = "noise", y = "sample_label" }
//!
//! [decoder]                        # or: the largest logit becomes the next token
//! prompt = 32
//! tokens = 48
//! state = "ids"
//! logits = "logits"
//! inputs = { ids = "greedy_ids" }
//! ```
//!
//! On the command line the same is `--data eval.npz --metric mse:velocity=vel_target --input x=vel_x`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use presil_execution::Array;
use presil_execution::evaluate::{Metric, Task};
use presil_execution::growth::Process;
use presil_workloads::{Graph, Role};
use serde::Deserialize;
use thiserror::Error;

use crate::arrays::{self, ArraysError};

/// A metric of an output against a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// Which.
    pub metric: Metric,
    /// Output of the model.
    pub output: String,
    /// Array of the data.
    pub target: String,
}

/// A metric that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no metric: write classes:OUTPUT=LABELS, next_token:OUTPUT=TOKENS or mse:OUTPUT=TARGET"
)]
pub struct UnknownMetric(String);

impl FromStr for Measured {
    type Err = UnknownMetric;

    fn from_str(text: &str) -> Result<Self, UnknownMetric> {
        let wrong = || UnknownMetric(text.into());
        let (metric, rest) = text.split_once(':').ok_or_else(wrong)?;
        let (output, target) = rest.split_once('=').ok_or_else(wrong)?;
        let metric = match metric {
            "classes" => Metric::Classes,
            "next_token" => Metric::NextToken,
            "mse" => Metric::Mse,
            _ => return Err(wrong()),
        };
        Ok(Self {
            metric,
            output: output.into(),
            target: target.into(),
        })
    }
}

/// A process and the arrays of its inputs.
pub type Fed<'a> = (&'a Process, BTreeMap<String, Array>);

/// Why there is no task.
#[derive(Debug, Error)]
pub enum DataError {
    /// The arrays.
    #[error(transparent)]
    Arrays(#[from] ArraysError),
    /// A task file that can't be read.
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
    /// A task file that is wrong.
    #[error("{0}: {1}")]
    Text(PathBuf, toml::de::Error),
    /// An array that the data has not.
    #[error("{file} has no array `{name}`{needed}; it has {has}")]
    NoArray {
        /// The data.
        file: PathBuf,
        /// The array.
        name: String,
        /// What needs it.
        needed: String,
        /// Its arrays.
        has: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    data: PathBuf,
    metric: Option<Kind>,
    output: Option<String>,
    target: Option<String>,
    #[serde(default)]
    inputs: BTreeMap<String, String>,
    sampler: Option<Sampler>,
    decoder: Option<Decoder>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sampler {
    steps: usize,
    state: String,
    time: Option<String>,
    update: String,
    inputs: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decoder {
    prompt: usize,
    tokens: usize,
    state: String,
    logits: String,
    inputs: BTreeMap<String, String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Classes,
    NextToken,
    Mse,
}

/// A data file and what is asked of it, before the model is known.
#[derive(Debug, Clone, Default)]
pub struct Data {
    /// The file.
    pub file: PathBuf,
    /// Input of the model, array of the data.
    pub inputs: BTreeMap<String, String>,
    /// What is measured.
    pub measured: Option<Measured>,
    /// How results are fed back, and the arrays of its inputs.
    pub process: Option<(Process, BTreeMap<String, String>)>,
}

impl Data {
    /// A task file, or a data file by itself.
    ///
    /// # Errors
    /// A task file that can't be read.
    pub fn named(path: &Path) -> Result<Self, DataError> {
        if path.extension().is_none_or(|e| e != "toml") {
            return Ok(Self {
                file: path.into(),
                ..Self::default()
            });
        }
        let text = std::fs::read_to_string(path).map_err(|e| DataError::Io(path.into(), e))?;
        let text: Text = toml::from_str(&text).map_err(|e| DataError::Text(path.into(), e))?;
        let measured = match (text.metric, text.output, text.target) {
            (Some(kind), Some(output), Some(target)) => Some(Measured {
                metric: match kind {
                    Kind::Classes => Metric::Classes,
                    Kind::NextToken => Metric::NextToken,
                    Kind::Mse => Metric::Mse,
                },
                output,
                target,
            }),
            _ => None,
        };
        let sampler = text.sampler.map(|s| {
            let process = Process::Euler {
                steps: s.steps,
                state: s.state,
                time: s.time,
                update: s.update,
            };
            (process, s.inputs)
        });
        let decoder = text.decoder.map(|d| {
            let process = Process::Greedy {
                prompt: d.prompt,
                tokens: d.tokens,
                state: d.state,
                logits: d.logits,
            };
            (process, d.inputs)
        });
        Ok(Self {
            process: sampler.or(decoder),
            file: path.parent().unwrap_or(Path::new("")).join(text.data),
            inputs: text.inputs,
            measured,
        })
    }

    /// The arrays of the process, by input; `None` where the task has no process.
    ///
    /// # Errors
    /// Data that can't be read, arrays that it has not.
    pub fn process_inputs(&self) -> Result<Option<Fed<'_>>, DataError> {
        let Some((process, names)) = &self.process else {
            return Ok(None);
        };
        let mut arrays = arrays::read(&self.file)?;
        let has = arrays.keys().cloned().collect::<Vec<_>>().join(", ");
        let mut inputs = BTreeMap::new();
        for (input, name) in names {
            let array = arrays.remove(name).ok_or_else(|| DataError::NoArray {
                file: self.file.clone(),
                name: name.clone(),
                needed: format!(" for input `{input}` of the process"),
                has: has.clone(),
            })?;
            inputs.insert(input.clone(), array);
        }
        Ok(Some((process, inputs)))
    }

    /// The task on a graph.
    ///
    /// # Errors
    /// Data that can't be read, arrays that it has not.
    pub fn task(&self, graph: &Graph) -> Result<Task, DataError> {
        let mut arrays = arrays::read(&self.file)?;
        let has = arrays.keys().cloned().collect::<Vec<_>>().join(", ");
        let missing = |name: &str, needed: String| DataError::NoArray {
            file: self.file.clone(),
            name: name.into(),
            needed,
            has: has.clone(),
        };
        let metric = match &self.measured {
            None => None,
            Some(m) => {
                let target = arrays.get(&m.target).cloned();
                let target =
                    target.ok_or_else(|| missing(&m.target, ", which the metric is of".into()))?;
                Some((m.metric, m.output.clone(), target))
            }
        };
        let tokens = matches!(metric, Some((Metric::NextToken, ..)));
        let mut inputs = BTreeMap::new();
        for t in graph.tensors.iter().filter(|t| t.role == Role::Input) {
            let name = self.inputs.get(&t.name).unwrap_or(&t.name);
            let needed = format!(
                " for input `{}`; `--input {}=ARRAY` names another",
                t.name, t.name
            );
            let array = arrays.remove(name).ok_or_else(|| missing(name, needed))?;
            let length = t.shape.last().copied().unwrap_or(1) as usize;
            inputs.insert(
                t.name.clone(),
                if tokens {
                    without_last(array, length)
                } else {
                    array
                },
            );
        }
        Ok(Task { inputs, metric })
    }
}

/// Sequences without the last token, which is only told, where they are one longer than the model reads.
fn without_last(sequences: Array, length: usize) -> Array {
    match sequences.shape() {
        &[count, own] if own == length + 1 => {
            let kept = sequences.values().chunks(own).flat_map(|s| &s[..length]);
            Array::new(vec![count, length], kept.copied().collect()).unwrap_or(sequences)
        }
        _ => sequences,
    }
}
