//! presil's own graph TOML: a workload by hand, of ops by name and of einsums.
//!
//! ```toml
//! name = "tiny"
//! format = "bf16"                    # of all tensors that do not say otherwise; the default
//! outputs = ["logits"]               # by default: what no op reads
//! assumptions = ["..."]              # shown by every report
//!
//! [[tensor]]                         # what exists before the ops, and results that need a shape, role or format
//! name = "image"
//! shape = [1, 3, 32, 32]             # outermost first
//! role = "input"                     # input | output | weight | constant | cache | activation
//! format = "int8"                    # any storage that presil knows: "int4_g128", "mxfp4", ...
//! shared = true                      # a weight that all repetitions of a block use
//! density = 0.6                      # share of the elements that are not zero; 1 by default
//! values = [1.0, 0.5]                # the elements of a constant, row-major; needed to execute
//!
//! [[block]]                          # consecutive ops that run several times, with weights of their own each time
//! name = "layers"
//! repeat = 12
//! shared = true                      # a recurrence: all repetitions use the same weights
//! carries = { x = "x_next" }         # for execution: what a repetition reads, and what the one before made of it
//!
//! [[op]]                             # in execution order
//! op = "conv2d"
//! name = "conv1"                     # also that of its result, unless `output = "..."` gives another
//! input = "image"                    # or `inputs = [..]`
//! out_channels = 16
//! kernel = 3                         # one integer for height and width, or [height, width]
//! padding = 1                        # all sides; [height, width]; or [top, left, bottom, right]
//! bias = true                        # weights are made as `conv1.weight` and `conv1.bias`
//! block = "layers"
//! steps = 1                          # runs in sequence with the same weights
//!
//! [[op]]
//! einsum = "O[n,k,p] += I[n,c,2p+r-1] * W[k,c,r]"
//! dims = { p = 16, r = 3 }           # those that no plain index of a known tensor gives
//! ```
//!
//! # Ops by name
//!
//! | `op` | operands | parameters (defaults) |
//! |---|---|---|
//! | `conv2d` | `input` [n, c, h, w], `weight` [k, c/groups, r, s] (made) | `out_channels`, `kernel`, `stride` (1), `padding` (0), `dilation` (1), `groups` (1), `bias` (false) |
//! | `conv_transpose2d` | `input`, `weight` [c, k/groups, r, s] (made) | the same, `output_padding` (0) |
//! | `linear` | `input` [.., k], `weight` [n, k] (made) | `features`, `bias` (false) |
//! | `matmul` | `inputs` = [a [b, m, k], b [b or 1, k, n]] | `transposed` (false): b is [.., n, k] |
//! | `attention` | `inputs` = [queries [b, i, heads x d], keys [b, j, kv_heads x d], values] | `heads`, `kv_heads` (heads), `mask` = `full`, `causal`, `sliding` (`full`), `past` (0), `window`. Makes `name.scores`, `name.softmax`, `name` |
//! | `softmax` | `input` | `axis` (-1), `scale` of the input (1) |
//! | `norm` | `input` | `kind` = `layer`, `rms`, `batch`, `group` (`layer`), `groups`, `affine` (true), `epsilon` (1e-5) |
//! | `elementwise` | `input` or `inputs` (broadcast) | `function` = `add`, `mul`, `relu`, `gelu`, ...; or `formula` = `"x * sigmoid(1.702 * x)"` of inputs x, y, z or x0, x1, ..; or `lanes` = primitives for each element |
//! | `rotary` | `input` [b, tokens, heads x width] | `heads`, `base` (10000), `first` position (0), `neighbours` (false): pairs (2i, 2i+1). A table is made as `name.table` |
//! | `pool` | `input` [n, c, h, w] | `kind` = `max`, `average`; `kernel`, `stride` (kernel), `padding` (0), `ceil` (false); or `size`: average to this output size. Averages count padding |
//! | `reduce` | `input` | `kind` = `sum`, `mean`, `max`, `min`, `product`; `axes` = [first, last]; `keep` (true) |
//! | `gather` | `table` [entries, width], `indices` | |
//! | `reshape` | `input` | `shape`: nothing moves |
//! | `view` | `input` | `shape`: a part that is read in place; nothing moves. `axis` and `start` say which: that many elements from there on |
//! | `step` | `input` | `axis` (1): the part of the repetition's number, read in place |
//! | `concat` | `inputs` | `axis` |
//! | `transpose` | `input` | `order` |
//! | `upsample` | `input` [n, c, h, w] | `factor` |
//! | `move` | `inputs` | `shape` |
//! | `cache_write` | `input`, `cache` | |
//!
//! # Einsums
//!
//! `OUTPUT[indices] ASSIGN INPUT[indices] JOIN ...`. An index is a sum of dimensions with integer factors and a
//! constant (`2p+r-1`); what lies outside a tensor's extent is padding. `ASSIGN` reduces over the dimensions that
//! the output does not name: `+=` sum, `max=`, `min=`, `*=`; `=` where there are none.
//!
//! - `A * B` under `+=` is one MAC at each point. The second input is the weight operand.
//! - Anything else is vector work: `lanes = ["mul", "exp2"]` names the primitives at each point; without it `*`
//!   multiplies and `+` adds. `Y[j,i] = X[i,j]` is a movement.
//! - `causal = { query = "i", key = "j", offset = 0 }` executes the points with j <= i + offset;
//!   `banded = { query = "i", key = "j", offset = 0, window = 128 }` those with i + offset - window < j as well.
//! - An output that is not declared gets the shape that its indices span. `class` overrides the class in reports.
//!
//! Every problem of a file is reported at once, with its place.

mod fields;
mod lower;
mod ops;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::Path;

use presil_numerics::format::UnknownFormat;
use presil_numerics::{Format, Quantization};
use rustc_hash::{FxHashMap, FxHashSet};
use toml::de::DeTable;

use crate::build::{Builder, check_cascade};
use crate::graph::{Graph, GraphError};
use crate::model::{ModelError, Request};
use crate::op::{OpId, OpKind};
use crate::tensor::{Role, TensorId};

use fields::{Fields, Problems, Text};

/// Largest file that is read, in bytes.
const LARGEST: u64 = 8 << 20;
/// Longest format name, in bytes.
const FORMAT: usize = 32;

/// Reads a graph file.
///
/// # Errors
/// [`ModelError::Io`] if it cannot be read, [`ModelError::Text`] with every problem of its text.
pub fn read(path: &Path) -> Result<Graph, ModelError> {
    let io = |error| ModelError::Io {
        path: path.into(),
        error,
    };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > LARGEST {
        let reason = format!("a graph file has at most {LARGEST} bytes, not {size}");
        return Err(ModelError::Unsupported {
            model: path.display().to_string(),
            reason,
        });
    }
    let text = std::fs::read_to_string(path).map_err(io)?;
    parse(&path.display().to_string(), &text)
}

/// Reads a graph file for a request. A file states one pass with its own batch and shapes, so a request that asks
/// for others is refused.
///
/// # Errors
/// Those of [`read`], and [`ModelError::Unsupported`] for such a request.
pub fn build(path: &Path, request: &Request) -> Result<Graph, ModelError> {
    let plain = Request::default();
    if (request.batch, request.pass, &request.shapes) != (plain.batch, plain.pass, &plain.shapes) {
        let reason =
            "a graph file has its own batch and shapes and one pass; change the file instead";
        return Err(ModelError::Unsupported {
            model: path.display().to_string(),
            reason: reason.into(),
        });
    }
    read(path)
}

/// Reads the text of a graph file; `origin` is what messages call it.
///
/// # Errors
/// [`ModelError::Text`] with every problem of the text.
pub fn parse(origin: &str, text: &str) -> Result<Graph, ModelError> {
    let problems = Problems::default();
    let (table, errors) = DeTable::parse_recoverable(text);
    for e in &errors {
        problems.at(e.span().unwrap_or(0..0), e.message());
    }
    let mut graph = None;
    if errors.is_empty() {
        graph = graph_of(&Fields::new(table.get_ref(), 0..0, &problems), text);
    }
    match (problems.into_diagnostics(origin, text), graph) {
        (None, Some(built)) => built.map_err(|error| ModelError::Graph {
            model: origin.into(),
            error,
        }),
        (Some(problems), _) => Err(ModelError::Text(Box::new(problems))),
        (None, None) => Err(ModelError::Unsupported {
            model: origin.into(),
            reason: "holds no graph".into(),
        }),
    }
}

const ROLES: &[(&str, Role)] = &[
    ("input", Role::Input),
    ("output", Role::Output),
    ("weight", Role::Weight),
    ("constant", Role::Constant),
    ("cache", Role::Cache),
    ("activation", Role::Activation),
];

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    /// A tensor that exists.
    Made(TensorId),
    /// Entry of [`Reader::declared`]: a result that no op has made yet.
    Declared(usize),
    /// The result of an op that is wrong; who reads it is not told again.
    Broken,
}

/// A result with a shape, role and format of its own.
struct Declared<'a> {
    name: &'a str,
    span: Range<usize>,
    shape: Vec<u64>,
    role: Role,
    quantization: Quantization,
    density: f64,
    made: bool,
}

/// A `[[block]]`.
struct FileBlock<'a> {
    name: &'a str,
    span: Range<usize>,
    repeat: u64,
    /// Whether all repetitions use the same weights.
    shared: bool,
    /// What a repetition reads, and what the one before made of it.
    carries: Vec<(Text<'a>, Text<'a>)>,
    /// Whether its ops have been read.
    ended: bool,
}

/// A graph file that is being read.
struct Reader<'a> {
    problems: &'a Problems,
    source: &'a str,
    b: Builder,
    names: FxHashMap<String, Named>,
    declared: Vec<Declared<'a>>,
    op_names: FxHashSet<String>,
    /// Storage of tensors that do not say otherwise.
    format: Quantization,
}

/// Reads the whole file. `None` if something was wrong and has been recorded.
fn graph_of<'a>(f: &Fields<'a>, source: &'a str) -> Option<Result<Graph, GraphError>> {
    let problems = f.problems();
    let name = f.need_text("name");
    let mut r = Reader {
        problems,
        source,
        b: Builder::new(name.map_or("", |n| n.0)),
        names: FxHashMap::default(),
        declared: Vec::new(),
        op_names: FxHashSet::default(),
        format: Quantization::from(Format::BF16),
    };
    r.format = r.format_of(f);
    r.b.graph.assumptions = f
        .texts("assumptions")
        .unwrap_or_default()
        .iter()
        .map(|t| t.0.to_string())
        .collect();
    let outputs = f.texts("outputs");
    for t in f.tables("tensor") {
        r.tensor(&t);
    }
    let blocks = f.tables("block");
    let ops = f.tables("op");
    if ops.is_empty() {
        problems.at(0..0, "a graph has at least one op: `[[op]]`");
    }
    r.all_ops(&ops, &blocks);
    r.outputs(outputs.as_deref());
    f.finish();
    (problems.count() == 0).then(|| r.b.finish())
}

impl<'a> Reader<'a> {
    /// The storage that the key `format` names.
    fn format_of(&self, f: &Fields<'a>) -> Quantization {
        let Some((word, span)) = f.text("format") else {
            return self.format;
        };
        // Schemes nest, so that reading one of any length would recurse as deep.
        if word.len() > FORMAT {
            self.problems.at(
                span,
                format!("no format has a name of more than {FORMAT} bytes"),
            );
            return self.format;
        }
        word.parse().unwrap_or_else(|e: UnknownFormat| {
            self.problems.at(span, e.to_string());
            self.format
        })
    }

    /// A `[[tensor]]`.
    fn tensor(&mut self, f: &Fields<'a>) {
        let name = f.need_text("name");
        let shape = f.need_numbers("shape", 1);
        let role = f.choice("role", ROLES, None);
        let quantization = self.format_of(f);
        let shared = f.flag("shared", false);
        let density = f.share("density", 1.0);
        let values = f.has("values").then(|| f.reals("values")).flatten();
        f.finish();
        let Some((name, span)) = name else { return };
        let named = match (shape, role) {
            (Some(shape), Some(role @ (Role::Activation | Role::Output))) => {
                self.declared.push(Declared {
                    name,
                    span: span.clone(),
                    shape,
                    role,
                    quantization,
                    density,
                    made: false,
                });
                Named::Declared(self.declared.len() - 1)
            }
            (Some(shape), Some(role)) => {
                let id = self.b.tensor(name, &shape, role);
                self.b.graph.tensors[id].quantization = quantization;
                self.b.graph.tensors[id].shared = shared;
                self.b.graph.tensors[id].density = density;
                self.check_size(id, &span);
                if let Some(values) = values {
                    self.values(id, values, &span);
                }
                Named::Made(id)
            }
            _ => Named::Broken,
        };
        if self.names.insert(name.into(), named).is_some() {
            self.problems
                .at(span, format!("two tensors are called `{name}`"));
        }
    }

    /// Keeps the elements that the file states for a constant.
    fn values(&mut self, id: TensorId, values: Vec<f64>, span: &Range<usize>) {
        let tensor = &self.b.graph.tensors[id];
        if tensor.role != Role::Constant {
            self.problems
                .at(span.clone(), "only a constant has `values`");
        } else if crate::build::elements(&tensor.shape) != values.len() as u64 {
            let message = format!(
                "{} values do not fill the shape {:?}",
                values.len(),
                tensor.shape
            );
            self.problems.at(span.clone(), message);
        } else {
            self.b.graph.constants.insert(id, values);
        }
    }

    fn check_size(&self, id: TensorId, span: &Range<usize>) {
        let t = &self.b.graph.tensors[id];
        let elements = t.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        if elements.is_none() || t.quantization.storage(&t.shape).is_none() {
            let error = GraphError::TooLarge {
                name: t.name.clone(),
                shape: t.shape.clone(),
            };
            self.problems.at(span.clone(), error.to_string());
        }
    }

    /// The tensor of a name that an op reads. `None` if there is none, which has been recorded.
    fn read(&self, (name, span): Text<'a>) -> Option<TensorId> {
        match self.names.get(name) {
            Some(Named::Made(id)) => return Some(*id),
            Some(Named::Broken) => {}
            Some(Named::Declared(_)) => {
                self.problems.at(
                    span,
                    format!("tensor `{name}` is read before any op makes it"),
                );
            }
            None => {
                // In order, not in that of the hash map.
                let made = self.b.graph.tensors.iter().map(|t| t.name.as_str());
                let known = made.chain(self.declared.iter().map(|d| d.name));
                self.problems.unknown("tensor", name, span, known);
            }
        }
        None
    }

    /// The result of an op that is wrong, or reads one that is: who reads it is not told again.
    fn broken(&mut self, name: String) -> Option<Lowered> {
        if !matches!(self.names.get(&name), Some(Named::Made(_))) {
            self.names.insert(name, Named::Broken);
        }
        None
    }

    /// All ops, in the blocks that they name.
    fn all_ops(&mut self, ops: &[Fields<'a>], blocks: &[Fields<'a>]) {
        let mut known: Vec<FileBlock<'_>> = Vec::new();
        let mut index: FxHashMap<&str, usize> = FxHashMap::default();
        for f in blocks {
            let (name, repeat) = (f.need_text("name"), f.need_number("repeat", 1));
            let shared = f.flag("shared", false);
            let carries = f.table("carries").map(|t| t.names()).unwrap_or_default();
            f.finish();
            let Some((name, span)) = name else { continue };
            if index.insert(name, known.len()).is_some() {
                self.problems
                    .at(span.clone(), format!("two blocks are called `{name}`"));
            }
            known.push(FileBlock {
                name,
                span,
                repeat: repeat.unwrap_or(1),
                shared,
                carries,
                ended: false,
            });
        }
        let mut current: Option<usize> = None;
        for f in ops {
            let block = f.text("block").and_then(|(name, span)| {
                let found = index.get(name).copied();
                if found.is_none() {
                    self.problems.unknown(
                        "block",
                        name,
                        span.clone(),
                        known.iter().map(|k| k.name),
                    );
                }
                found.map(|i| (i, span))
            });
            let next = block.as_ref().map(|(i, _)| *i);
            if next != current {
                self.end_block(current.and_then(|c| known.get_mut(c)));
            }
            if let Some((i, span)) = block
                && known[i].ended
            {
                self.problems.at(
                    span,
                    format!("the ops of block `{}` are not consecutive", known[i].name),
                );
            }
            current = next;
            let repeat = next.map_or(1, |i| known[i].repeat);
            self.op(f, repeat);
            f.finish();
        }
        self.end_block(current.and_then(|c| known.get_mut(c)));
        for block in known.into_iter().filter(|b| !b.ended) {
            self.problems
                .at(block.span, format!("no op is in block `{}`", block.name));
        }
    }

    fn end_block(&mut self, block: Option<&mut FileBlock<'a>>) {
        let Some(block) = block else {
            self.b.end_block("ops", 1);
            return;
        };
        self.b.end_block(block.name, block.repeat);
        block.ended = true;
        if block.shared
            && let Some(ended) = self.b.graph.blocks.last()
        {
            let ops = ended.ops.clone().map(OpId);
            let inputs: Vec<TensorId> = ops
                .flat_map(|op| self.b.graph.ops[op].inputs.clone())
                .collect();
            for t in inputs {
                let tensor = &mut self.b.graph.tensors[t];
                tensor.shared |= tensor.role == Role::Weight;
            }
        }
        for (reads, made) in &block.carries {
            let (Some(reads), Some(made)) = (self.read(reads.clone()), self.read(made.clone()))
            else {
                continue;
            };
            let [a, b] = [reads, made].map(|t| &self.b.graph.tensors[t]);
            if a.shape != b.shape {
                let message = format!(
                    "`{}` of shape {:?} can't become `{}` of shape {:?}",
                    b.name, b.shape, a.name, a.shape
                );
                self.problems.at(block.span.clone(), message);
            }
            self.b.carries(reads, made);
        }
    }

    /// An `[[op]]` whose block runs `repeat` times.
    fn op(&mut self, f: &Fields<'a>, repeat: u64) {
        let before = self.problems.count();
        let (ops, tensors) = (self.b.graph.ops.len(), self.b.graph.tensors.len());
        let steps = f.number("steps", 1).unwrap_or(1);
        let Some(lowered) = (if f.has("einsum") {
            lower::einsum(self, f)
        } else {
            ops::named(self, f)
        }) else {
            return;
        };
        let place = f.place();
        let result = match lowered.result {
            Ok(result) if self.problems.count() == before => result,
            wrong => {
                if let Err(e) = wrong {
                    self.problems.at(place, e.to_string());
                }
                self.broken(lowered.name);
                return;
            }
        };
        for id in (ops..self.b.graph.ops.len()).map(|i| OpId(i as u32)) {
            self.b.graph.ops[id].steps = steps;
            let op = &self.b.graph.ops[id];
            let name = op.name.clone();
            let checked = match &op.kind {
                OpKind::Cascade(einsums) => check_cascade(&self.b.graph, op, einsums),
                _ => Ok(()),
            };
            let (points, _) = crate::count::op_macs(&self.b.graph, id);
            if let Err(e) = checked {
                self.problems.at(place.clone(), e.to_string());
            } else if points * u128::from(repeat) > u128::from(u64::MAX) {
                self.problems.at(
                    place.clone(),
                    GraphError::Overflow(name.clone()).to_string(),
                );
            }
            if !self.op_names.insert(name.clone()) {
                self.problems
                    .at(place.clone(), format!("two ops are called `{name}`"));
            }
        }
        if let Some(id) = result {
            self.name_result(id, lowered.name, &place);
        }
        for id in (tensors..self.b.graph.tensors.len()).map(|i| TensorId(i as u32)) {
            if Some(id) != result {
                self.b.graph.tensors[id].quantization = self.format;
                let name = self.b.graph.tensors[id].name.clone();
                if self.names.insert(name.clone(), Named::Made(id)).is_some() {
                    self.problems.at(
                        place.clone(),
                        format!("it makes a tensor `{name}`, but there is one already"),
                    );
                }
            }
            self.check_size(id, &place);
        }
    }

    /// Gives a result its name and what its declaration says.
    fn name_result(&mut self, id: TensorId, name: String, place: &Range<usize>) {
        match self.names.get(&name) {
            Some(Named::Made(_)) => {
                self.problems.at(
                    place.clone(),
                    format!("it makes a tensor `{name}`, but there is one already"),
                );
            }
            Some(Named::Declared(index)) => {
                let declared = &mut self.declared[*index];
                declared.made = true;
                let tensor = &mut self.b.graph.tensors[id];
                if tensor.shape != declared.shape {
                    let message = format!(
                        "its result has the shape {:?}, but `{name}` is declared as {:?}",
                        tensor.shape, declared.shape
                    );
                    self.problems.at(place.clone(), message);
                }
                (tensor.role, tensor.quantization) = (declared.role, declared.quantization);
                tensor.density = declared.density;
            }
            Some(Named::Broken) | None => self.b.graph.tensors[id].quantization = self.format,
        }
        self.b.graph.tensors[id].name.clone_from(&name);
        self.names.insert(name, Named::Made(id));
    }

    /// Marks the outputs: those named, or every result that no op reads.
    fn outputs(&mut self, named: Option<&[Text<'a>]>) {
        for d in &self.declared {
            // A name that has become broken has been reported.
            if !d.made && matches!(self.names.get(d.name), Some(Named::Declared(_))) {
                self.problems
                    .at(d.span.clone(), format!("no op makes `{}`", d.name));
            }
        }
        if let Some(named) = named {
            for text in named {
                let Some(id) = self.read(text.clone()) else {
                    continue;
                };
                match self.b.graph.tensors[id].role {
                    Role::Activation | Role::Output => self.b.output(id),
                    _ => self.problems.at(
                        text.1.clone(),
                        format!("`{}` is no result of an op", text.0),
                    ),
                }
            }
            return;
        }
        let (_, read) = self.b.graph.uses();
        for id in self.b.graph.tensors.ids().collect::<Vec<_>>() {
            let unread = read.get(id.0 as usize).is_some_and(Vec::is_empty);
            if unread && self.b.graph.tensors[id].role == Role::Activation {
                self.b.output(id);
            }
        }
    }
}

/// What an entry of `[[op]]` became.
struct Lowered {
    /// Name of its result.
    name: String,
    /// Its result, if it makes a tensor.
    result: Result<Option<TensorId>, GraphError>,
}
