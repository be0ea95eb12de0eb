//! The walk over a file's operators.

use rustc_hash::FxHashSet;

use crate::build::Builder;
use crate::graph::Graph;
use crate::model::Request;
use crate::op::{OpClass, OpKind};
use crate::tensor::{Role, TensorId};

use super::error::{Fault, Place, TfliteError};
use super::file::{File, Operator, Stored};

/// The import of a file.
pub(super) struct Importer<'f, 'a> {
    /// The graph so far.
    pub(super) builder: Builder,
    /// The file.
    pub(super) file: &'f File<'a>,
    /// For each of the file's tensors, that of the graph, once something made or read it.
    values: Vec<Option<TensorId>>,
    allow_unknown: bool,
}

/// Imports a file that was read.
pub(super) fn model(name: &str, file: &File<'_>, request: &Request) -> Result<Graph, TfliteError> {
    check_request(file, request)?;
    let mut importer = Importer {
        builder: Builder::new(name),
        file,
        values: vec![None; file.tensors.len()],
        allow_unknown: request.allow_unknown,
    };
    for position in &file.inputs {
        importer.given(*position)?;
    }
    for (index, operator) in file.operators.iter().enumerate() {
        importer.operator(index, operator)?;
    }
    importer.finish()
}

/// The shapes of a file are fixed: what is asked must agree with them.
fn check_request(file: &File<'_>, request: &Request) -> Result<(), TfliteError> {
    let inputs = || {
        file.inputs
            .iter()
            .filter_map(|p| file.tensors.get(usize::try_from(*p).ok()?))
    };
    for (name, shape) in &request.shapes {
        let Some(input) = inputs().find(|t| t.name == *name) else {
            let quoted: Vec<String> = inputs().map(|t| format!("`{}`", t.name)).collect();
            return Err(TfliteError::NoSuchInput {
                name: name.clone(),
                inputs: quoted.join(", "),
            });
        };
        if input.shape != *shape {
            let reason = format!(
                "its shape in the file is {:?}; the shapes of a .tflite file are fixed: convert the model again with the shape {shape:?}",
                input.shape
            );
            return Err(TfliteError::Input {
                name: name.clone(),
                reason,
            });
        }
    }
    match inputs().next() {
        Some(first) if request.batch > 1 && first.shape.first() != Some(&request.batch) => {
            let reason = format!(
                "its shape in the file is {:?}; the batch of a .tflite file is fixed: convert the model again for batches of {}",
                first.shape, request.batch
            );
            Err(TfliteError::Input {
                name: first.name.clone(),
                reason,
            })
        }
        _ => Ok(()),
    }
}

impl<'f, 'a> Importer<'f, 'a> {
    /// A tensor of the file; positions were checked when it was read.
    pub(super) fn stored(&self, position: i32) -> Result<&'f Stored<'a>, Fault> {
        let found = usize::try_from(position)
            .ok()
            .and_then(|p| self.file.tensors.get(p));
        found.ok_or_else(|| Fault::from("it names a tensor that does not exist"))
    }

    fn given(&mut self, position: i32) -> Result<(), TfliteError> {
        let Some(at) = usize::try_from(position).ok() else {
            return Ok(());
        };
        let Some(stored) = self.file.tensors.get(at) else {
            return Ok(());
        };
        if self.values[at].is_none() {
            let id = self.builder.input(stored.name.clone(), &stored.shape);
            self.builder.graph.tensors[id].quantization = stored.quantization();
            self.values[at] = Some(id);
        }
        Ok(())
    }

    /// Input `i` of an operator as the file states it.
    pub(super) fn operand(&self, op: &Operator<'_>, i: usize) -> Result<&'f Stored<'a>, Fault> {
        match op.inputs.get(i) {
            Some(p) if *p >= 0 => self.stored(*p),
            _ => Err(format!("its input {i} is missing").into()),
        }
    }

    /// Output `i` of an operator as the file states it.
    pub(super) fn result(&self, op: &Operator<'_>, i: usize) -> Result<&'f Stored<'a>, Fault> {
        match op.outputs.get(i) {
            Some(p) => self.stored(*p),
            None => Err(format!("its output {i} is missing").into()),
        }
    }

    /// Input `i` of an operator in the graph. Constants enter it when they are first read.
    pub(super) fn input(&mut self, op: &Operator<'_>, i: usize) -> Result<TensorId, Fault> {
        let stored = self.operand(op, i)?;
        let at = op
            .inputs
            .get(i)
            .and_then(|p| usize::try_from(*p).ok())
            .unwrap_or(usize::MAX);
        let Some(place) = self.values.get_mut(at) else {
            return Err("it names a tensor that does not exist".into());
        };
        if let Some(id) = place {
            return Ok(*id);
        }
        let role = match (stored.constant, stored.variable) {
            (true, _) => Role::Weight,
            (false, true) => Role::Cache,
            (false, false) => {
                return Err(format!(
                    "it reads `{}`, which is no input, no constant and no output of an earlier operator",
                    stored.name
                )
                .into());
            }
        };
        let id = self
            .builder
            .tensor(stored.name.clone(), &stored.shape, role);
        self.builder.graph.tensors[id].quantization = stored.quantization();
        *place = Some(id);
        Ok(id)
    }

    /// Input `i` if the operator has it.
    pub(super) fn optional(
        &mut self,
        op: &Operator<'_>,
        i: usize,
    ) -> Result<Option<TensorId>, Fault> {
        match op.inputs.get(i) {
            Some(p) if *p >= 0 => self.input(op, i).map(Some),
            _ => Ok(None),
        }
    }

    /// Integers of input `i`, which must be a constant.
    pub(super) fn known(&self, op: &Operator<'_>, i: usize) -> Result<Vec<i64>, Fault> {
        let stored = self.operand(op, i)?;
        stored.integers().ok_or_else(|| {
            Fault::from(format!(
                "its input {i} `{}` must be an integer constant: shapes that depend on the data are not supported",
                stored.name
            ))
        })
    }

    fn operator(&mut self, index: usize, op: &Operator<'a>) -> Result<(), TfliteError> {
        let place = || Place {
            index,
            op: op.name.clone(),
            makes: self
                .result(op, 0)
                .map_or(String::new(), |s| s.name.chars().take(120).collect()),
        };
        let place = place();
        let before = self.builder.graph.ops.len();
        let made = match self.lower(op) {
            Err(Fault::Unknown) if self.allow_unknown => {
                self.unknown(op).map_err(|f| f.at(place.clone()))?
            }
            other => other.map_err(|f| f.at(place.clone()))?,
        };
        debug_assert!(self.builder.graph.ops.len() >= before);
        self.bind(op, &made).map_err(|f| f.at(place))
    }

    /// What an operator made becomes what the file says of it.
    fn bind(&mut self, op: &Operator<'a>, made: &[TensorId]) -> Result<(), Fault> {
        if made.len() != op.outputs.len() {
            return Err(format!("it has {} outputs, not {}", op.outputs.len(), made.len()).into());
        }
        for (i, (id, position)) in made.iter().zip(&op.outputs).enumerate() {
            let stored = self.result(op, i)?;
            let tensor = &mut self.builder.graph.tensors[*id];
            if tensor.shape != stored.shape {
                return Err(format!(
                    "its result is {:?}, but the file states {:?}",
                    tensor.shape, stored.shape
                )
                .into());
            }
            tensor.quantization = stored.quantization();
            let Some(place) = usize::try_from(*position)
                .ok()
                .and_then(|p| self.values.get_mut(p))
            else {
                continue;
            };
            if place.is_some_and(|p| p != *id) {
                return Err(format!("it makes `{}`, which exists already", stored.name).into());
            }
            *place = Some(*id);
        }
        Ok(())
    }

    /// An operator that presil has no model of.
    fn unknown(&mut self, op: &Operator<'a>) -> Result<Vec<TensorId>, Fault> {
        let inputs: Vec<TensorId> = (0..op.inputs.len())
            .filter_map(|i| self.optional(op, i).transpose())
            .collect::<Result<_, _>>()?;
        let outputs: Vec<TensorId> = (0..op.outputs.len())
            .map(|i| {
                let stored = self.result(op, i)?;
                Ok(self
                    .builder
                    .tensor(stored.name.clone(), &stored.shape, Role::Activation))
            })
            .collect::<Result<_, Fault>>()?;
        let name = self.result(op, 0)?.name.clone();
        self.builder.push_op(crate::op::Op {
            name,
            class: OpClass::Unknown,
            kind: OpKind::Unknown {
                name: op.name.clone(),
            },
            inputs,
            outputs: outputs.clone(),
            steps: 1,
            meaning: crate::Meaning::Unstated,
        });
        Ok(outputs)
    }

    fn finish(mut self) -> Result<Graph, TfliteError> {
        for position in &self.file.outputs {
            let at = usize::try_from(*position).ok();
            let (Some(stored), Some(value)) = (
                at.and_then(|p| self.file.tensors.get(p)),
                at.and_then(|p| self.values.get(p).copied()),
            ) else {
                continue;
            };
            match value {
                Some(id) if self.builder.graph.tensors[id].role == Role::Activation => {
                    self.builder.output(id);
                }
                Some(_) => {}
                None if stored.constant => {}
                None => return Err(TfliteError::NoOutput(stored.name.clone())),
            }
        }
        if self.file.subgraphs > 1 {
            self.builder.graph.assumptions.push(format!(
                "the file has {} subgraphs; only the first one is counted",
                self.file.subgraphs
            ));
        }
        let (graph, _) = crate::onnx::finish_graph(self.builder, &FxHashSet::default())?;
        Ok(graph)
    }
}
