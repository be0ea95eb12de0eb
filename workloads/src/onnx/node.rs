//! A node as the lowering functions see it: inputs looked up, attributes typed.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::error::{Fault, Place};
use super::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use super::value::Value;

/// Numbers that a list of extents, axes, bounds and the like may have.
const LONGEST_LIST: u64 = 4096;

/// Attributes of the function call that a node stands in.
pub(super) type Attributes<'m> = Rc<FxHashMap<&'m str, &'m AttributeProto>>;

/// A node with its inputs.
pub(super) struct Node<'m> {
    /// As the file has it.
    pub proto: &'m NodeProto,
    /// What its references to a function's attributes refer to.
    pub outer: Attributes<'m>,
    /// Operator without domain.
    pub op: &'m str,
    /// Name for the ops that it becomes.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// Inputs; `None` where one is left out.
    pub inputs: Vec<Option<Value<'m>>>,
    /// Version of the operator set that it belongs to.
    pub opset: i64,
}

impl<'m> Node<'m> {
    /// A required input.
    pub fn input(&self, i: usize) -> Result<&Value<'m>, Fault> {
        self.optional(i)
            .ok_or_else(|| Fault::Reason(format!("input {i} is missing; the operator needs it")))
    }

    /// An input that may be left out.
    pub fn optional(&self, i: usize) -> Option<&Value<'m>> {
        self.inputs.get(i).and_then(Option::as_ref)
    }

    /// The integers of an input whose elements must be known at import.
    pub fn known(&self, i: usize, what: &str) -> Result<Vec<i64>, Fault> {
        let value = self.input(i)?;
        if value.elements() > LONGEST_LIST {
            return Err(format!(
                "{what} come from a list of {} numbers; up to {LONGEST_LIST} are supported",
                value.elements()
            )
            .into());
        }
        value.ints().ok_or_else(|| {
            let name = self.proto.input.get(i).map_or("", String::as_str);
            Fault::Reason(format!("{what} are given by `{name}`, which depends on the data (or is stored outside the file), so the shape is unknown; export the model with fixed shapes"))
        })
    }

    /// An attribute.
    pub fn attribute(&self, name: &str) -> Option<&'m AttributeProto> {
        let own = self.proto.attribute.iter().find(|a| a.name == name)?;
        resolve(own, &self.outer)
    }

    /// An integer attribute.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |a| a.i)
    }

    /// A string attribute, or an empty string.
    pub fn text(&self, name: &str) -> &'m str {
        self.attribute(name)
            .and_then(|a| std::str::from_utf8(&a.s).ok())
            .unwrap_or("")
    }

    /// An attribute of integers.
    pub fn ints(&self, name: &str) -> Option<&'m [i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    /// An attribute of floats.
    pub fn floats(&self, name: &str) -> Option<&'m [f32]> {
        self.attribute(name).map(|a| a.floats.as_slice())
    }

    /// A tensor attribute.
    pub fn tensor(&self, name: &str) -> Option<&'m TensorProto> {
        self.attribute(name).and_then(|a| a.t.as_ref())
    }

    /// A graph attribute.
    pub fn graph(&self, name: &str) -> Result<&'m GraphProto, Fault> {
        let graph = self.attribute(name).and_then(|a| a.g.as_ref());
        graph.ok_or_else(|| Fault::Reason(format!("it needs a graph `{name}`")))
    }

    /// Axes: an attribute up to some version of the operator, an input (the `i`-th) from then on.
    pub fn axes(&self, i: usize) -> Result<Option<Vec<i64>>, Fault> {
        match self.ints("axes") {
            Some(axes) => Ok(Some(axes.to_vec())),
            None if self.optional(i).is_some() => self.known(i, "its axes").map(Some),
            None => Ok(None),
        }
    }

    /// Whether output `i` is used.
    pub fn wants(&self, i: usize) -> bool {
        self.proto.output.get(i).is_some_and(|o| !o.is_empty())
    }
}

/// An attribute itself, or the one of the enclosing function call that it refers to.
pub(super) fn resolve<'m>(
    own: &'m AttributeProto,
    outer: &Attributes<'m>,
) -> Option<&'m AttributeProto> {
    if own.ref_attr_name.is_empty() {
        Some(own)
    } else {
        outer.get(own.ref_attr_name.as_str()).copied()
    }
}
