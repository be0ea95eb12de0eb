//! Rules that every cascade keeps.

use crate::einsum::{Access, Domain, Einsum, Place};
use crate::graph::{Graph, GraphError};
use crate::op::Op;

use super::Builder;

/// Checks that a cascade's accesses name existing dimensions and operands, stay within their tensors, and that
/// its points can be counted.
pub(crate) fn check_cascade(graph: &Graph, op: &Op, einsums: &[Einsum]) -> Result<(), GraphError> {
    let fail = |reason: String| Err(Builder::shape_error(&op.name, reason));
    if einsums.is_empty() {
        return fail("a cascade needs at least one einsum".into());
    }
    for (index, e) in einsums.iter().enumerate() {
        if let Some(d) = e.dims.iter().find(|d| d.size == 0) {
            return fail(format!("dimension `{}` has size 0", d.name));
        }
        if e.is_contraction() && e.inputs.len() != 2 {
            return fail(format!("a multiply-accumulate needs two inputs, not {}", e.inputs.len()));
        }
        for access in e.operands() {
            check_access(graph, op, index, e, access)?;
        }
        let in_range = |d: crate::DimId| (d.0 as usize) < e.dims.len();
        let named = match e.domain {
            Domain::Dense => true,
            Domain::Causal { query, key, .. } | Domain::Banded { query, key, .. } => in_range(query) && in_range(key),
            Domain::Ragged { group, row, .. } => in_range(group) && in_range(row),
        };
        if !named {
            return fail("its domain names a dimension that does not exist".into());
        }
        let points = e.points().and_then(|p| p.checked_mul(op.steps));
        if points.is_none() || e.executed_points().is_none() {
            return Err(GraphError::Overflow(op.name.clone()));
        }
    }
    Ok(())
}

fn check_access(graph: &Graph, op: &Op, index: usize, e: &Einsum, a: &Access) -> Result<(), GraphError> {
    let fail = |reason: String| Err(Builder::shape_error(&op.name, reason));
    if a.ranks.len() != a.extents.len() {
        return fail("an access needs one extent for each rank".into());
    }
    let tensor = match a.place {
        Place::Input(i) => op.inputs.get(i as usize).copied(),
        Place::Output(i) => op.outputs.get(i as usize).copied(),
        Place::Local(i) if (i as usize) <= index => None,
        Place::Local(_) => return fail("a local is read before it is made".into()),
    };
    if tensor.is_none() && !matches!(a.place, Place::Local(_)) {
        return fail("an access names an operand that the op does not have".into());
    }
    if let Some(t) = tensor {
        let seen = a.extents.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        let held = graph.tensors[t].elements();
        if seen.is_none_or(|s| s > held) {
            let tensor = &graph.tensors[t];
            return fail(format!("its view {:?} is larger than tensor `{}` {:?}", a.extents, tensor.name, tensor.shape));
        }
    }
    for (rank, extent) in a.ranks.iter().zip(&a.extents) {
        if rank.terms.iter().any(|(d, c)| d.0 as usize >= e.dims.len() || *c == 0) {
            return fail("an index expression names a dimension that does not exist".into());
        }
        // Without padding terms the whole range must fall inside.
        let (mut low, mut high) = (i128::from(rank.offset), i128::from(rank.offset));
        for (d, c) in &rank.terms {
            let reach = i128::from(*c) * i128::from(e.dim(*d).size - 1);
            low += reach.min(0);
            high += reach.max(0);
        }
        if high < 0 || low >= i128::from(*extent) {
            return fail(format!("an index runs from {low} to {high} outside its rank of {extent}"));
        }
    }
    Ok(())
}
