//! Rules that every cascade keeps.
//!
//! - each einsum has dimensions of size 1 or more, and points that fit 64 bits (times the op's steps);
//! - a multiply-accumulate has two inputs;
//! - an access names operands that the op has, or a local that an earlier einsum made; einsum `i` writes an output
//!   or local `i`, and the last one an output;
//! - a view has no more elements than its tensor or local, one expression for each rank, and some index of each rank lies
//!   inside (what lies outside is padding, or cropped where it is an output);
//! - an expression names each dimension at most once, with a coefficient other than 0;
//! - a domain names two different dimensions.

use crate::einsum::{Access, DimId, Domain, Einsum, Place};
use crate::graph::{Graph, GraphError};
use crate::op::Op;

use super::Builder;

/// Checks the rules above.
pub(crate) fn check_cascade(graph: &Graph, op: &Op, einsums: &[Einsum]) -> Result<(), GraphError> {
    let fail = |reason: String| Err(Builder::shape_error(&op.name, reason));
    if !matches!(
        einsums.last().map(|e| e.output.place),
        Some(Place::Output(_))
    ) {
        return fail("a cascade ends with an einsum that makes the output".into());
    }
    for (index, e) in einsums.iter().enumerate() {
        if let Some(d) = e.dims.iter().find(|d| d.size == 0) {
            return fail(format!("dimension `{}` has size 0", d.name));
        }
        if e.is_contraction() && e.inputs.len() != 2 {
            return fail(format!(
                "a multiply-accumulate needs two inputs, not {}",
                e.inputs.len()
            ));
        }
        for a in &e.inputs {
            if let Place::Local(i) = a.place {
                let maker = einsums[..index].get(usize::from(i));
                let Some(maker) = maker.filter(|m| m.output.place == a.place) else {
                    return fail(format!("local {i} is read before it is made"));
                };
                if super::elements(&a.extents) > super::elements(&maker.output.extents) {
                    return fail(format!(
                        "a view {:?} is larger than local {i} {:?}",
                        a.extents, maker.output.extents
                    ));
                }
            }
            check_access(graph, op, e, a)?;
        }
        match e.output.place {
            Place::Local(i) if usize::from(i) != index => {
                return fail(format!("einsum {index} makes local {i}"));
            }
            Place::Input(_) => return fail("an einsum writes an input".into()),
            _ => check_access(graph, op, e, &e.output)?,
        }
        check_domain(op, e)?;
        let points = e.points().and_then(|p| p.checked_mul(op.steps));
        if points.is_none() || e.executed_points().is_none() {
            return Err(GraphError::Overflow(op.name.clone()));
        }
    }
    Ok(())
}

fn check_domain(op: &Op, e: &Einsum) -> Result<(), GraphError> {
    let fail = |reason: String| Err(Builder::shape_error(&op.name, reason));
    let (a, b) = match e.domain {
        Domain::Dense => return Ok(()),
        Domain::Causal { query, key, .. } | Domain::Banded { query, key, .. } => (query, key),
        Domain::Ragged { group, row, .. } => (group, row),
    };
    let extent = |d: DimId| e.dims.get(d.0 as usize).map(|d| d.size);
    let (Some(groups), Some(rows_of_each)) = (extent(a), extent(b)) else {
        return fail("its domain names a dimension that does not exist".into());
    };
    if a == b {
        return fail("its domain names one dimension twice".into());
    }
    if let Domain::Ragged { rows, distinct, .. } = e.domain
        && (u128::from(rows) > u128::from(groups) * u128::from(rows_of_each)
            || distinct.is_nan()
            || distinct < 0.0)
    {
        return fail(format!(
            "{rows} rows do not fit {groups} groups of {rows_of_each}"
        ));
    }
    Ok(())
}

fn check_access(graph: &Graph, op: &Op, e: &Einsum, a: &Access) -> Result<(), GraphError> {
    let fail = |reason: String| Err(Builder::shape_error(&op.name, reason));
    if a.ranks.len() != a.extents.len() {
        return fail("an access needs one extent for each rank".into());
    }
    let tensor = match a.place {
        Place::Input(i) => Some(op.inputs.get(usize::from(i))),
        Place::Output(i) => Some(op.outputs.get(usize::from(i))),
        Place::Local(_) => None,
    };
    match tensor {
        Some(None) => return fail("an access names an operand that the op does not have".into()),
        Some(Some(t)) => {
            let seen = a.extents.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
            let tensor = &graph.tensors[*t];
            if seen.is_none_or(|s| s > super::elements(&tensor.shape)) {
                let (view, name, shape) = (&a.extents, &tensor.name, &tensor.shape);
                return fail(format!(
                    "its view {view:?} is larger than tensor `{name}` {shape:?}"
                ));
            }
        }
        None => {}
    }
    for (rank, extent) in a.ranks.iter().zip(&a.extents) {
        // The range of the index; it may run into padding but must touch the rank.
        let (mut low, mut high) = (i128::from(rank.offset), i128::from(rank.offset));
        for (i, (d, c)) in rank.terms.iter().enumerate() {
            let Some(dim) = e.dims.get(d.0 as usize) else {
                return fail("an index expression names a dimension that does not exist".into());
            };
            if *c == 0 || rank.terms[..i].iter().any(|(other, _)| other == d) {
                return fail(format!(
                    "an index expression names dimension `{}` in vain or twice",
                    dim.name
                ));
            }
            let reach = i128::from(*c) * i128::from(dim.size - 1);
            low = low.saturating_add(reach.min(0));
            high = high.saturating_add(reach.max(0));
        }
        if high < 0 || low >= i128::from(*extent) {
            return fail(format!(
                "an index runs from {low} to {high} outside its rank of {extent}"
            ));
        }
    }
    Ok(())
}
