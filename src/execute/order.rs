//! The arithmetic of each op in the order in which its mapping adds.

use std::collections::BTreeMap;
use std::sync::Arc;

use presil_execution::choice::{ChoiceError, Chosen};
use presil_execution::{Adder, Arithmetic};
use presil_hwmodels::Chip;
use presil_mapper::reduction::Reduction;
use presil_mapper::schedule::Execution;
use presil_workloads::{Model, Pass};

use super::ExecuteError;
use crate::run::{Options, scheduled};

/// For each op that an array runs by a mapping, the arithmetic with its order of products: a tree of those that meet the
/// accumulator at once, accumulators of instances that share a sum. Units that add in blocks of their own (fused dot
/// units, presets with trees or spills) keep the einsum's order.
pub(super) fn by_op(
    model: &Model,
    chip: &Chip,
    options: &Options,
    pass: Pass,
    chosen: &mut Chosen,
) -> Result<BTreeMap<String, Arithmetic>, ExecuteError> {
    let mut ordered = BTreeMap::new();
    let Adder::Ordered(base) = &chosen.arithmetic.adder else {
        return Ok(ordered);
    };
    let base = base.summation;
    if base.tree > 1 || base.lanes > 1 || base.spill.is_some() {
        return Ok(ordered);
    }
    let (graph, schedule) = scheduled(model, chip, options, pass)?;
    let mut sequential = Vec::new();
    for ((id, op), scheduled) in graph.ops.iter_ids().zip(schedule.ops.iter()) {
        let Some(einsum) = op.contraction() else {
            continue;
        };
        // Of a fused group's member a part is mapped; where that part holds whole sums, its order is the op's.
        let mapped = scheduled.tile.as_ref().unwrap_or(einsum);
        let whole = einsum
            .dim_ids()
            .all(|d| !einsum.is_reduced(d) || mapped.dim(d).size == einsum.dim(d).size);
        let order = match &scheduled.execution {
            Execution::Mapped { mapping, .. } if whole => Reduction::new(mapped, mapping.steps()),
            _ => None,
        };
        let Some(order) = order else {
            sequential.push(graph.ops[id].name.clone());
            continue;
        };
        let mut summation = base;
        summation.tree = order.tree;
        summation.tree_adder = Some(base.accumulator);
        summation.lanes = order.lanes;
        let adder = Adder::ordered(&summation).map_err(ChoiceError::from)?;
        let arithmetic = Arithmetic {
            order: Some(Arc::from(order.places)),
            adder: adder.clone(),
            activation_adder: adder,
            ..chosen.arithmetic.clone()
        };
        ordered.insert(op.name.clone(), arithmetic);
    }
    if !ordered.is_empty() {
        chosen.adder.push_str(" in the mappings' order");
    }
    if !sequential.is_empty() {
        chosen.assumptions.push(format!(
            "{} of {} matrix ops add in the order of their einsum: no mapping tells theirs",
            sequential.len(),
            sequential.len() + ordered.len()
        ));
    }
    Ok(ordered)
}
