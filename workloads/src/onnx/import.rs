//! The walk over a file's graph: values by name, inputs and their shapes, nodes in order, outputs.

use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::build::Builder;
use crate::expr::{self, Expr};
use crate::graph::Graph;
use crate::model::Request;
use crate::op::{OpClass, OpKind};
use crate::tensor::{Role, TensorId};

use super::error::{Fault, OnnxError, Place};
use super::node::{Attributes, Node};
use super::proto::{
    FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    ValueInfoProto,
};
use super::value::{DType, Known, Value, check_tensor};
use super::{finish, fold, inputs};

/// Oldest supported version of the default operator set.
pub(super) const OLDEST: i64 = 1;
/// Newest supported version of the default operator set (ONNX 1.23).
pub(super) const NEWEST: i64 = 28;
/// Nodes that a file may have, functions inlined and loops unrolled.
const MOST_NODES: u32 = 200_000;
/// How deep bodies and function calls may nest.
const DEEPEST: usize = 24;

/// Values of one graph, body or function.
pub(super) struct Scope<'m> {
    values: FxHashMap<&'m str, Value<'m>>,
    /// How often each name is read, nested bodies and outputs included.
    uses: FxHashMap<&'m str, u32>,
    /// Names that nodes of this scope make.
    made: FxHashMap<&'m str, ()>,
    /// A function's body sees nothing outside.
    closed: bool,
    /// For error messages: "the body of `loop`".
    within: String,
    /// In front of the names of its ops and tensors.
    pub prefix: String,
    /// Version of the default operator set.
    opset: i64,
    /// Attributes of the function call.
    pub attributes: Attributes<'m>,
}

/// The import of a file.
pub(super) struct Importer<'m> {
    /// The graph so far.
    pub builder: Builder,
    /// What is asked for.
    pub request: &'m Request,
    /// The model's own functions by domain and name.
    pub functions: FxHashMap<(&'m str, &'m str, &'m str), &'m FunctionProto>,
    /// Runs of the loops around the current node.
    pub steps: u64,
    scopes: Vec<Scope<'m>>,
    nodes_left: u32,
    fold_left: u64,
    /// Types and shapes that the file declares for the values of its graph, where they are whole.
    declared: FxHashMap<&'m str, (DType, Vec<u64>)>,
    assumed: FxHashSet<String>,
    /// Ops of branches that are not counted.
    pub dropped: FxHashSet<u32>,
    /// Tensors that views make.
    pub views: FxHashSet<TensorId>,
    /// Tensors whose elements the file stores.
    pub stored: Vec<Stored<'m>>,
}

/// A tensor and where its elements stand.
pub(super) type Stored<'m> = (TensorId, &'m TensorProto);

/// Imports a decoded model.
pub(super) fn model<'m>(
    name: &str,
    model: &'m ModelProto,
    request: &'m Request,
) -> Result<(Graph, Vec<Stored<'m>>), OnnxError> {
    let graph = model
        .graph
        .as_ref()
        .ok_or_else(|| OnnxError::Malformed("it has no graph".into()))?;
    if model.ir_version.is_none_or(|v| v < 1) {
        return Err(OnnxError::Malformed(
            "it does not say its format version (ir_version)".into(),
        ));
    }
    let opset = default_opset(&model.opset_import).unwrap_or(OLDEST);
    if !(OLDEST..=NEWEST).contains(&opset) {
        return Err(OnnxError::Version {
            version: opset,
            oldest: OLDEST,
            newest: NEWEST,
        });
    }
    let mut importer = Importer {
        builder: Builder::new(name),
        request,
        functions: model
            .functions
            .iter()
            .map(|f| ((f.domain.as_str(), f.name.as_str(), f.overload.as_str()), f))
            .collect(),
        steps: 1,
        scopes: Vec::new(),
        nodes_left: MOST_NODES,
        fold_left: fold::BUDGET,
        declared: FxHashMap::default(),
        assumed: FxHashSet::default(),
        dropped: FxHashSet::default(),
        views: FxHashSet::default(),
        stored: Vec::new(),
    };
    importer.scopes.push(Scope::of_graph(graph, opset));
    importer.initializers(graph)?;
    importer.inputs(graph)?;
    for info in graph.value_info.iter().chain(&graph.output) {
        if let Some(whole) = inputs::declared(info)? {
            importer.declared.insert(&info.name, whole);
        }
    }
    importer.nodes(&graph.node)?;
    importer.outputs(&graph.output)?;
    let (graph, kept) = finish::finish(importer.builder, &importer.dropped)?;
    let kept = |(t, proto): Stored<'m>| Some((kept.get(t.0 as usize).copied()??, proto));
    let stored = importer.stored.into_iter().filter_map(kept).collect();
    Ok((graph, stored))
}

/// The version of the default operator set among imports.
pub(super) fn default_opset(imports: &[OperatorSetIdProto]) -> Option<i64> {
    imports
        .iter()
        .find(|o| matches!(o.domain.as_str(), "" | "ai.onnx"))
        .map(|o| o.version)
}

impl<'m> Scope<'m> {
    /// The scope of a graph whose nodes are about to be imported.
    pub fn of_graph(graph: &'m GraphProto, opset: i64) -> Self {
        let mut scope = Self::of_nodes(
            &graph.node,
            graph.output.iter().map(|o| o.name.as_str()),
            opset,
        );
        scope.within = String::new();
        scope
    }

    /// The scope of nodes and the outputs that are read from them.
    pub fn of_nodes(
        nodes: &'m [NodeProto],
        outputs: impl Iterator<Item = &'m str>,
        opset: i64,
    ) -> Self {
        let mut uses = FxHashMap::default();
        count_uses(nodes, &mut uses);
        for o in outputs {
            // An output is read in the form that the file declares for it.
            *uses.entry(o).or_insert(0) += 2;
        }
        Self {
            values: FxHashMap::default(),
            uses,
            made: nodes
                .iter()
                .flat_map(|n| &n.output)
                .map(|o| (o.as_str(), ()))
                .collect(),
            closed: false,
            within: String::new(),
            prefix: String::new(),
            opset,
            attributes: Rc::default(),
        }
    }
}

fn count_uses<'m>(nodes: &'m [NodeProto], uses: &mut FxHashMap<&'m str, u32>) {
    // Bodies nest no deeper than the decoder allows (100 messages).
    for n in nodes {
        for i in &n.input {
            *uses.entry(i.as_str()).or_insert(0) += 1;
        }
        for body in n.attribute.iter().filter_map(|a| a.g.as_ref()) {
            count_uses(&body.node, uses);
            for o in &body.output {
                *uses.entry(o.name.as_str()).or_insert(0) += 1;
            }
        }
    }
}

impl<'m> Importer<'m> {
    /// Enters a body or a function.
    pub fn enter(
        &mut self,
        mut scope: Scope<'m>,
        name: &str,
        kind: &str,
        closed: bool,
    ) -> Result<(), Fault> {
        if self.scopes.len() >= DEEPEST {
            return Err(OnnxError::Limit(format!(
                "bodies and functions nest deeper than {DEEPEST} (a function that calls itself?)"
            ))
            .into());
        }
        if let Some(outer) = self.scopes.last() {
            let of = if outer.within.is_empty() {
                String::new()
            } else {
                format!(" in {}", outer.within)
            };
            scope.within = format!("{kind} of `{name}`{of}");
            if !closed {
                scope.attributes = outer.attributes.clone();
            }
        }
        scope.prefix = format!("{name}/");
        scope.closed = closed;
        self.scopes.push(scope);
        Ok(())
    }

    /// Leaves it.
    pub fn leave(&mut self) {
        self.scopes.pop();
    }

    /// How many scopes are open.
    pub fn depth(&self) -> usize {
        self.scopes.len()
    }

    /// Leaves all scopes beyond so many.
    pub fn truncate(&mut self, depth: usize) {
        self.scopes.truncate(depth);
    }

    /// Gives a name of the current scope its value.
    pub fn define(&mut self, name: &'m str, value: Value<'m>) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.values.insert(name, value);
        }
    }

    /// The version of the default operator set here.
    pub fn opset(&self) -> i64 {
        self.scopes.last().map_or(NEWEST, |s| s.opset)
    }

    /// The value of a name, from the innermost scope outwards.
    pub fn find(&self, name: &str) -> Option<&Value<'m>> {
        for scope in self.scopes.iter().rev() {
            if let Some(value) = scope.values.get(name) {
                return Some(value);
            }
            if scope.closed {
                return None;
            }
        }
        None
    }

    /// How often a name of the current scope is read.
    pub fn uses(&self, name: &str) -> u32 {
        // A name of an outer scope counts as read more than once: bodies repeat.
        self.scopes
            .last()
            .filter(|s| s.values.contains_key(name))
            .and_then(|s| s.uses.get(name).copied())
            .unwrap_or(2)
    }

    /// The declared type and shape of a value of the model's graph.
    pub fn declared(&self, name: &str) -> Option<&(DType, Vec<u64>)> {
        self.declared.get(name).filter(|_| self.scopes.len() == 1)
    }

    /// Says a fact about how the graph was made, once.
    pub fn assume(&mut self, fact: String) {
        if self.assumed.insert(fact.clone()) {
            self.builder.graph.assumptions.push(fact);
        }
    }

    /// Makes the weights of a graph.
    pub fn initializers(&mut self, graph: &'m GraphProto) -> Result<(), OnnxError> {
        for t in &graph.initializer {
            let (dtype, shape) = check_tensor(t)?;
            self.weight(&t.name, dtype, shape, Known::Stored(t))?;
        }
        for s in &graph.sparse_initializer {
            // The stored zeros are left out in the file; the graph holds the dense tensor.
            let Some(t) = &s.values else { continue };
            let fail = |reason| OnnxError::Tensor {
                name: t.name.clone(),
                reason,
            };
            let (dtype, _) = check_tensor(t)?;
            let shape = super::value::shape_of(&s.dims).map_err(fail)?;
            self.weight(&t.name, dtype, shape, Known::Nothing)?;
        }
        Ok(())
    }

    fn weight(
        &mut self,
        name: &'m str,
        dtype: DType,
        shape: Vec<u64>,
        known: Known<'m>,
    ) -> Result<(), OnnxError> {
        if self
            .scopes
            .last()
            .is_some_and(|s| s.values.contains_key(name))
        {
            return Err(OnnxError::Tensor {
                name: name.into(),
                reason: "it is stored twice".into(),
            });
        }
        let prefix = self.scopes.last().map_or("", |s| s.prefix.as_str());
        let tensor = self.builder.weight(format!("{prefix}{name}"), &shape);
        self.builder.graph.tensors[tensor].quantization = dtype.format().into();
        if let Known::Stored(proto) = known {
            self.stored.push((tensor, proto));
        }
        self.define(
            name,
            Value {
                dtype,
                shape,
                known,
                tensor: Some(tensor),
                weight: true,
                expr: None,
            },
        );
        Ok(())
    }

    fn inputs(&mut self, graph: &'m GraphProto) -> Result<(), OnnxError> {
        let open: Vec<&'m ValueInfoProto> = graph
            .input
            .iter()
            .filter(|i| self.find(&i.name).is_none())
            .collect();
        let shapes = inputs::resolve(&open, self.request, &mut self.builder.graph.assumptions)?;
        for (info, (dtype, shape)) in open.into_iter().zip(shapes) {
            let tensor = self.builder.input(&info.name, &shape);
            self.builder.graph.tensors[tensor].quantization = dtype.format().into();
            self.define(&info.name, Value::made(dtype, shape, tensor));
        }
        Ok(())
    }

    /// Imports nodes in order.
    pub fn nodes(&mut self, nodes: &'m [NodeProto]) -> Result<(), OnnxError> {
        nodes
            .iter()
            .enumerate()
            .try_for_each(|(index, node)| self.node(index, node))
    }

    fn node(&mut self, index: usize, proto: &'m NodeProto) -> Result<(), OnnxError> {
        let op = match proto.domain.as_str() {
            "" | "ai.onnx" => proto.op_type.clone(),
            domain => format!("{domain}::{}", proto.op_type),
        };
        let scope = self.scopes.last();
        let within = scope.map_or(String::new(), |s| s.within.clone());
        let prefix = scope.map_or("", |s| s.prefix.as_str());
        let name = match proto.name.as_str() {
            "" => format!("{prefix}{}_{index}", proto.op_type),
            name => format!("{prefix}{name}"),
        };
        let place = Place {
            index,
            node: proto.name.clone(),
            op,
            within,
        };
        self.nodes_left = self.nodes_left.checked_sub(1).ok_or_else(|| {
            OnnxError::Limit(format!(
                "functions inlined and loops unrolled, it has more than {MOST_NODES} nodes"
            ))
        })?;
        let mut values = Vec::with_capacity(proto.input.len());
        for input in &proto.input {
            values.push(match self.find(input) {
                _ if input.is_empty() => None,
                Some(value) => Some(value.clone()),
                None => {
                    let later = self
                        .scopes
                        .last()
                        .is_some_and(|s| s.made.contains_key(input.as_str()));
                    return Err(OnnxError::Missing {
                        place: Box::new(place),
                        name: input.clone(),
                        later,
                    });
                }
            });
        }
        let outer = self
            .scopes
            .last()
            .map(|s| s.attributes.clone())
            .unwrap_or_default();
        let node = Node {
            proto,
            outer,
            op: &proto.op_type,
            name,
            place,
            inputs: values,
            opset: self.opset(),
        };
        let first = self.builder.graph.tensors.len();
        let outputs = match fold::fold(&node, &mut self.fold_left) {
            Some(outputs) => Ok(outputs),
            None => self.run(&node),
        };
        let bound = outputs.and_then(|outputs| self.bind(&node, outputs, first));
        bound.map_err(|fault| fault.at(node.place))
    }

    /// Control flow and functions by their bodies, everything else by its lowering.
    fn run(&mut self, node: &Node<'m>) -> Result<Vec<Value<'m>>, Fault> {
        let key = (
            node.proto.domain.as_str(),
            node.op,
            node.proto.overload.as_str(),
        );
        if let Some(function) = self.functions.get(&key).copied() {
            return self.call(node, function);
        }
        let standard = matches!(node.proto.domain.as_str(), "" | "ai.onnx");
        match node.op {
            "If" if standard => return self.branch(node),
            "Loop" if standard => return self.repeat(node),
            "Scan" if standard => return self.scan(node),
            _ => {}
        }
        let first = self.builder.graph.ops.len();
        let outputs = match self.lower(node) {
            Err(Fault::Unknown) if self.request.allow_unknown => self.unknown(node)?,
            outputs => outputs?,
        };
        let steps = self.steps;
        for op in self.builder.graph.ops.iter_mut().skip(first) {
            op.steps = op
                .steps
                .checked_mul(steps)
                .ok_or("its loops run more than 2^64 times")?;
            // The body of a loop stands for all its iterations: it is counted, and not executed.
            if steps > 1 {
                op.meaning = crate::Meaning::Unstated;
            }
        }
        Ok(outputs)
    }

    /// Gives the outputs of a node their names.
    fn bind(
        &mut self,
        node: &Node<'m>,
        outputs: Vec<Value<'m>>,
        first: usize,
    ) -> Result<(), Fault> {
        let prefix = self
            .scopes
            .last()
            .map_or(String::new(), |s| s.prefix.clone());
        let mut outputs = outputs.into_iter();
        for (i, name) in node.proto.output.iter().enumerate() {
            let value = outputs.next();
            if name.is_empty() {
                continue;
            }
            let value = value.ok_or_else(|| format!("its output {i} `{name}` is not supported"))?;
            if let Some(t) = value.tensor.filter(|t| t.0 as usize >= first) {
                self.builder.graph.tensors[t].name = format!("{prefix}{name}");
            }
            let Some(scope) = self.scopes.last_mut() else {
                return Ok(());
            };
            if scope.values.insert(name, value).is_some() {
                return Err(OnnxError::Twice {
                    place: Box::new(node.place.clone()),
                    name: name.clone(),
                }
                .into());
            }
        }
        Ok(())
    }

    fn unknown(&mut self, node: &Node<'m>) -> Result<Vec<Value<'m>>, Fault> {
        let like = node
            .inputs
            .iter()
            .flatten()
            .next()
            .map(|v| (v.dtype, v.shape.clone()));
        let types: Option<Vec<(DType, Vec<u64>)>> = node
            .proto
            .output
            .iter()
            .map(|o| self.declared(o).cloned().or(like.clone()))
            .collect();
        let types =
            types.ok_or("the shapes of its outputs are unknown; declare them as value_info")?;
        let inputs = self.operands(node);
        let kind = OpKind::Unknown {
            name: node.place.op.clone(),
        };
        let outputs: Vec<TensorId> = types
            .iter()
            .map(|(dtype, shape)| self.fresh(&node.name, shape, *dtype))
            .collect();
        let op = crate::Op {
            name: node.name.clone(),
            class: OpClass::Unknown,
            kind,
            inputs,
            outputs: outputs.clone(),
            steps: 1,
            meaning: crate::Meaning::Unstated,
        };
        self.builder.push_op(op);
        self.assume(format!(
            "{} has no model: costed as reading its inputs and writing its outputs",
            node.place
        ));
        Ok(types
            .into_iter()
            .zip(outputs)
            .map(|((dtype, shape), t)| Value::made(dtype, shape, t))
            .collect())
    }

    /// The tensor of an input, made if it is a constant that no op has read yet.
    pub fn operand(&mut self, node: &Node<'m>, i: usize) -> Result<TensorId, Fault> {
        let value = node.input(i)?.clone();
        if let Some(t) = value.tensor {
            return Ok(t);
        }
        let name = node.proto.input.get(i).map_or("", String::as_str);
        // The same input may have been made for an earlier operand of this very node.
        if let Some(t) = self.find(name).and_then(|v| v.tensor) {
            return Ok(t);
        }
        let prefix = self.scopes.last().map_or("", |s| s.prefix.as_str());
        let tensor = self
            .builder
            .tensor(format!("{prefix}{name}"), &value.shape, Role::Constant);
        self.builder.graph.tensors[tensor].quantization = value.storage();
        self.states(tensor, &value);
        for scope in self.scopes.iter_mut().rev() {
            if let Some(v) = scope.values.get_mut(name) {
                v.tensor = Some(tensor);
                break;
            }
            if scope.closed {
                break;
            }
        }
        Ok(tensor)
    }

    /// The tensors of all inputs that are given.
    pub fn operands(&mut self, node: &Node<'m>) -> Vec<TensorId> {
        (0..node.inputs.len())
            .filter_map(|i| self.operand(node, i).ok())
            .collect()
    }

    /// A new tensor of an op.
    pub fn fresh(&mut self, name: &str, shape: &[u64], dtype: DType) -> TensorId {
        let tensor = self.builder.tensor(name, shape, Role::Activation);
        self.builder.graph.tensors[tensor].quantization = dtype.format().into();
        tensor
    }

    fn outputs(&mut self, outputs: &'m [ValueInfoProto]) -> Result<(), OnnxError> {
        for output in outputs {
            let value = self
                .find(&output.name)
                .cloned()
                .ok_or_else(|| OnnxError::NoOutput(output.name.clone()))?;
            let shape = &value.shape;
            if let Some((_, said)) = self
                .declared
                .get(output.name.as_str())
                .filter(|(_, s)| s != shape)
                .cloned()
            {
                self.assume(format!(
                    "output `{}`: the file declares shape {said:?}, its nodes give {shape:?}",
                    output.name
                ));
            }
            let given = value.tensor.map(|t| &self.builder.graph.tensors[t]);
            let as_is = given.is_some_and(|t| {
                t.role == Role::Activation
                    && t.shape == *shape
                    && t.quantization == value.storage()
                    && value.expr.is_none()
            });
            let tensor = match value.tensor {
                Some(t) if as_is => t,
                from => {
                    let name = format!("{}.output", output.name);
                    let from = from.unwrap_or_else(|| {
                        let t = self.builder.tensor(
                            format!("{}.value", output.name),
                            shape,
                            Role::Constant,
                        );
                        self.builder.graph.tensors[t].quantization = value.storage();
                        self.states(t, &value);
                        t
                    });
                    let stored = self.builder.graph.tensors[from].quantization;
                    let (class, kind) = if stored == value.storage() || value.elements() == 0 {
                        (OpClass::Move, OpKind::View)
                    } else {
                        (
                            OpClass::Quantize,
                            super::lower::lanes_over(
                                shape,
                                crate::build::Function::Convert.program(),
                            ),
                        )
                    };
                    let seen = match &value.expr {
                        Some(expr) => expr.clone(),
                        None => Expr::tensor(from, &self.builder.graph.tensors[from].shape)
                            .reshape(shape),
                    };
                    let t = self.builder.push(&name, class, kind, &[from], shape);
                    self.builder.means(expr::meaning(&[from], &[(t, seen)]));
                    let tensors = &mut self.builder.graph.tensors;
                    tensors[t].quantization = value.storage();
                    // The name belongs to what leaves the graph; what it is made from keeps it only if the file
                    // gives it that name, too.
                    if !matches!(tensors[from].role, Role::Input | Role::Weight)
                        && tensors[from].name == output.name
                    {
                        tensors[from].name = format!("{}.value", output.name);
                    }
                    tensors[t].name.clone_from(&output.name);
                    t
                }
            };
            self.builder.output(tensor);
        }
        Ok(())
    }
}
