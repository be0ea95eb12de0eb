//! Control flow and functions.
//!
//! - `If` with a condition known at import takes that branch; otherwise the branch with more MACs (more ops if
//!   equal) stands for both, stated as an assumption.
//! - `Loop` and `Scan` import their body once, its ops run once for each iteration (`Op::steps`). A loop whose
//!   carried shapes change is unrolled. A trip count that the file does not fix is an error, or one iteration where
//!   [`allow_unknown`](crate::Request::allow_unknown) says so.
//! - Functions are inlined.

use std::rc::Rc;

use crate::op::{OpClass, OpId, OpKind};

use super::error::{Fault, OnnxError};
use super::import::{Importer, Scope, default_opset};
use super::lower::transposed_elements;
use super::node::{Node, resolve};
use super::proto::{FunctionProto, GraphProto};
use super::shapes;
use super::value::{DType, Data, Known, Value};

/// Iterations that are unrolled at most.
const MOST_UNROLLED: u64 = 1024;

impl<'m> Importer<'m> {
    /// Imports a body in a scope of its own and returns its outputs.
    fn body(
        &mut self,
        node: &Node<'m>,
        graph: &'m GraphProto,
        kind: &str,
        tag: &str,
        inputs: Vec<Value<'m>>,
    ) -> Result<Vec<Value<'m>>, Fault> {
        if graph.input.len() != inputs.len() {
            return Err(format!(
                "its {kind} takes {} inputs, not {}",
                graph.input.len(),
                inputs.len()
            )
            .into());
        }
        let name = format!("{}{tag}", node.name);
        self.enter(Scope::of_graph(graph, self.opset()), &name, kind, false)?;
        for (info, value) in graph.input.iter().zip(inputs) {
            self.define(&info.name, value);
        }
        self.initializers(graph)?;
        self.nodes(&graph.node)?;
        let outputs = graph.output.iter().map(|o| {
            self.find(&o.name)
                .cloned()
                .ok_or_else(|| OnnxError::NoOutput(o.name.clone()))
        });
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        self.leave();
        Ok(outputs)
    }

    /// Inlines a function.
    pub(super) fn call(
        &mut self,
        node: &Node<'m>,
        function: &'m FunctionProto,
    ) -> Result<Vec<Value<'m>>, Fault> {
        let opset = default_opset(&function.opset_import).unwrap_or(self.opset());
        let mut scope = Scope::of_nodes(
            &function.node,
            function.output.iter().map(String::as_str),
            opset,
        );
        let given = node
            .proto
            .attribute
            .iter()
            .filter_map(|a| resolve(a, &node.outer).map(|r| (a.name.as_str(), r)));
        let defaults = function
            .attribute_proto
            .iter()
            .map(|a| (a.name.as_str(), a));
        scope.attributes = Rc::new(defaults.chain(given).collect());
        if node.inputs.len() > function.input.len() {
            return Err(format!(
                "its function takes {} inputs, not {}",
                function.input.len(),
                node.inputs.len()
            )
            .into());
        }
        self.enter(scope, &node.name, "the function", true)?;
        for (name, value) in function.input.iter().zip(&node.inputs) {
            if let Some(value) = value {
                self.define(name, value.clone());
            }
        }
        self.nodes(&function.node)?;
        let outputs = function.output.iter().map(|o| {
            self.find(o)
                .cloned()
                .ok_or_else(|| OnnxError::NoOutput(o.clone()))
        });
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        self.leave();
        Ok(outputs)
    }

    /// Imports an If.
    pub(super) fn branch(&mut self, node: &Node<'m>) -> Result<Vec<Value<'m>>, Fault> {
        let (yes, no) = (node.graph("then_branch")?, node.graph("else_branch")?);
        let condition = node.input(0)?;
        if let Some(known) = condition.scalar() {
            let taken = if known != 0 { yes } else { no };
            return self.body(node, taken, "the taken branch", "", vec![]);
        }
        let start = self.builder.graph.ops.len();
        let left = self.body(node, yes, "the then branch", "/then", vec![])?;
        let middle = self.builder.graph.ops.len();
        let right = self.body(node, no, "the else branch", "/else", vec![])?;
        let end = self.builder.graph.ops.len();
        let (a, b) = (self.weight_of(start, middle), self.weight_of(middle, end));
        let (keep_left, name) = if a >= b {
            (true, "then")
        } else {
            (false, "else")
        };
        self.drop_ops(if keep_left {
            middle..end
        } else {
            start..middle
        });
        self.assume(format!(
            "{}: its condition depends on the data; the {name} branch, the heavier one, is counted",
            node.place
        ));
        self.unsaid(start..end);
        if left.len() != right.len() {
            return Err(format!(
                "its branches give {} and {} outputs",
                left.len(),
                right.len()
            )
            .into());
        }
        let outputs = if keep_left { left } else { right };
        Ok(outputs.into_iter().map(|v| self.opaque(v)).collect())
    }

    /// Imports a Loop.
    pub(super) fn repeat(&mut self, node: &Node<'m>) -> Result<Vec<Value<'m>>, Fault> {
        let body = node.graph("body")?;
        let carried: Vec<Value<'m>> = node
            .inputs
            .iter()
            .skip(2)
            .map(|v| v.clone().ok_or("a carried value is missing"))
            .collect::<Result<_, _>>()?;
        if body.input.len() != carried.len() + 2 || body.output.len() < carried.len() + 1 {
            return Err(format!(
                "its body has {} inputs and {} outputs for {} carried values",
                body.input.len(),
                body.output.len(),
                carried.len()
            )
            .into());
        }
        let first = node.optional(1).map(|c| c.scalar());
        if first == Some(Some(0)) {
            // Never runs: the carried values pass, the scanned ones are empty.
            return Ok(carried);
        }
        let trips = match node.optional(0).map(|m| m.scalar()) {
            Some(Some(m)) => u64::try_from(m).unwrap_or(0),
            _ if self.request.allow_unknown => {
                self.assume(format!(
                    "{}: how often it runs depends on the data; one iteration is counted",
                    node.place
                ));
                1
            }
            _ => {
                return Err("how often it runs depends on the data; export the model with a fixed trip count or with shapes that fix it, or count one iteration with --allow-unknown".into());
            }
        };
        if trips == 0 {
            return Ok(carried);
        }
        let start = self.builder.graph.ops.len();
        let steps = self.steps;
        self.steps = steps
            .checked_mul(trips)
            .ok_or("its loops run more than 2^64 times")?;
        let hidden: Vec<Value<'m>> = carried.iter().map(|v| self.opaque(v.clone())).collect();
        let iteration = self.opaque(Value::constant(DType::I64, vec![], Data::Int(vec![0])));
        let going = Value::constant(DType::Bool, vec![], Data::Int(vec![1]));
        let depth = self.depth();
        let once = self.body(
            node,
            body,
            "the loop body",
            "",
            [iteration, going]
                .into_iter()
                .chain(hidden.clone())
                .collect(),
        );
        self.steps = steps;
        let stable = once.as_ref().is_ok_and(|out| {
            out.iter()
                .skip(1)
                .zip(&carried)
                .all(|(a, b)| a.shape == b.shape)
        });
        if stable && let Ok(mut outputs) = once {
            let end = self.builder.graph.ops.len();
            self.unsaid(start..end);
            let condition = outputs.remove(0);
            if condition.scalar() != Some(1) {
                self.assume(format!(
                    "{}: it may end early; all {trips} iterations are counted",
                    node.place
                ));
            }
            let mut result: Vec<Value<'m>> = outputs
                .drain(..carried.len())
                .map(|v| self.opaque(v))
                .collect();
            for scanned in outputs {
                result.push(self.stacked(node, scanned, trips, 0)?);
            }
            return Ok(result);
        }
        // Carried shapes change (or shapes inside depend on the iteration): unroll.
        self.truncate(depth);
        if trips > MOST_UNROLLED {
            return match once {
                Err(fault) => Err(fault),
                Ok(_) => Err(format!("its carried shapes change over {trips} iterations; at most {MOST_UNROLLED} are unrolled").into()),
            };
        }
        let end = self.builder.graph.ops.len();
        self.drop_ops(start..end);
        let mut carried = carried;
        let mut scanned: Vec<Vec<Value<'m>>> = Vec::new();
        for i in 0..trips {
            let iteration = Value::constant(DType::I64, vec![], Data::Int(vec![i as i64]));
            let going = Value::constant(DType::Bool, vec![], Data::Int(vec![1]));
            let inputs = [iteration, going]
                .into_iter()
                .chain(carried.iter().cloned())
                .collect();
            let mut out = self.body(node, body, "the loop body", &format!("/{i}"), inputs)?;
            let condition = out.remove(0);
            scanned.push(out.split_off(carried.len()));
            carried = out;
            match condition.scalar() {
                Some(0) => break,
                Some(_) => {}
                None => self.assume(format!(
                    "{}: it may end early; all {trips} iterations are counted",
                    node.place
                )),
            }
        }
        let runs = scanned.len() as u64;
        for parts in scanned.into_iter().next().unwrap_or_default() {
            let stacked = self.stacked(node, parts, runs, 0)?;
            carried.push(stacked);
        }
        Ok(carried)
    }

    /// Imports a Scan (version 9 and later).
    pub(super) fn scan(&mut self, node: &Node<'m>) -> Result<Vec<Value<'m>>, Fault> {
        if node.opset < 9 {
            return Err(
                "Scan is supported from version 9 of the operator set on; convert the model".into(),
            );
        }
        let body = node.graph("body")?;
        let scans = usize::try_from(node.int("num_scan_inputs", 0))
            .ok()
            .filter(|n| (1..=node.inputs.len()).contains(n));
        let scans =
            scans.ok_or("its num_scan_inputs must be between 1 and the number of its inputs")?;
        let states = node.inputs.len() - scans;
        let axis_of =
            |list: &str, i: usize| node.ints(list).and_then(|a| a.get(i).copied()).unwrap_or(0);
        let mut inputs = Vec::new();
        let mut trips = None;
        for i in 0..node.inputs.len() {
            let value = node.input(i)?.clone();
            if i < states {
                inputs.push(self.opaque(value));
                continue;
            }
            let axis = shapes::axis(axis_of("scan_input_axes", i - states), value.rank())?;
            let mut shape = value.shape.clone();
            let extent = shape.remove(axis);
            if *trips.get_or_insert(extent) != extent {
                return Err("its scanned inputs have different lengths".into());
            }
            let t = self.operand(node, i)?;
            let class = OpClass::Move;
            inputs.push(self.emit(
                node,
                &format!(".slice{}", i - states),
                class,
                OpKind::View,
                vec![t],
                &shape,
                value.dtype,
            )?);
        }
        let trips = trips.unwrap_or(0).max(1);
        let steps = self.steps;
        self.steps = steps
            .checked_mul(trips)
            .ok_or("its loops run more than 2^64 times")?;
        let out = self.body(node, body, "the scan body", "", inputs);
        self.steps = steps;
        let out = out?;
        if out.len() < states {
            return Err(format!("its body gives {} outputs for {states} states", out.len()).into());
        }
        let mut result = Vec::new();
        for (i, value) in out.into_iter().enumerate() {
            result.push(match i.checked_sub(states) {
                None => self.opaque(value),
                Some(k) => self.stacked(node, value, trips, axis_of("scan_output_axes", k))?,
            });
        }
        Ok(result)
    }

    /// The values of all iterations in one tensor.
    fn stacked(
        &mut self,
        node: &Node<'m>,
        value: Value<'m>,
        trips: u64,
        axis: i64,
    ) -> Result<Value<'m>, Fault> {
        let mut shape = value.shape.clone();
        let axis = shapes::axis(axis, shape.len() + 1)?;
        shape.insert(axis, trips);
        let shape = shapes::checked(shape)?;
        let from = self.opaque(value.clone());
        let inputs = from.tensor.into_iter().collect();
        let kind = OpKind::Move {
            elements: transposed_elements(&shape),
        };
        self.emit(
            node,
            ".stack",
            OpClass::Move,
            kind,
            inputs,
            &shape,
            value.dtype,
        )
    }

    /// A value whose elements must not be relied on, since they change.
    fn opaque(&mut self, value: Value<'m>) -> Value<'m> {
        let tensor = value.tensor.unwrap_or_else(|| {
            let t = self
                .builder
                .tensor("value", &value.shape, crate::tensor::Role::Constant);
            self.builder.graph.tensors[t].quantization = value.storage();
            self.states(t, &value);
            t
        });
        Value {
            known: Known::Nothing,
            tensor: Some(tensor),
            ..value
        }
    }

    /// MACs and number of a run of ops.
    fn weight_of(&self, start: usize, end: usize) -> (u128, usize) {
        let ids = (start as u32..end as u32).filter(|i| !self.dropped.contains(i));
        let graph = &self.builder.graph;
        ids.fold((0, 0), |(macs, n), i| {
            (crate::count::op_macs(graph, OpId(i)).0 + macs, n + 1)
        })
    }

    /// Says nothing of a run of ops that are counted and not executed.
    fn unsaid(&mut self, range: std::ops::Range<usize>) {
        let ops = self.builder.graph.ops.iter_mut();
        for op in ops.take(range.end).skip(range.start) {
            op.meaning = crate::Meaning::Unstated;
        }
    }

    /// Drops a run of ops when the graph is finished.
    fn drop_ops(&mut self, range: std::ops::Range<usize>) {
        self.dropped.extend(range.start as u32..range.end as u32);
    }
}
