//! Constraints: directives like those of a mapping that need not be complete, in a list (v3: `targets`) or inside
//! the architecture's nodes (v4).
//!
//! What presil's constraints can say: factors that are given (`M=2`), dimensions of one iteration (`M=1`, `M<=1`),
//! the order of loops, data spaces kept or bypassed, which dimensions lie along X and which along Y (a permutation
//! of all dimensions with `split`), and the least utilization of a memory or fanout. Anything else, upper bounds
//! of factors among it, is an error that names the key.

use super::TimeloopError;
use super::arch::Architecture;
use super::mapping::{kind, read_factor, read_order, read_spaces, target};
use super::problem::Problem;
use super::tree::{Cursor, Value};
use crate::case::{Constraints, LevelConstraint};
use crate::hierarchy::{Level, Mask};

/// Reads a list of constraints.
pub(super) fn read(
    section: &Cursor<'_>,
    problem: &Problem,
    arch: &mut Architecture<'_>,
    constraints: &mut Constraints,
) -> Result<(), TimeloopError> {
    if section.is_empty() {
        return Ok(());
    }
    let list = match section.node.value {
        Value::Map(_) => {
            section.only(&["targets", "version"], "a constraint")?;
            match section.get("targets") {
                Some(list) => list,
                None => return Ok(()),
            }
        }
        _ => section.clone(),
    };
    for directive in list.items()? {
        let kind = kind(&directive)?;
        let at = target(&directive, arch, kind == "spatial")?;
        apply(&directive, kind, at, problem, arch, constraints)?;
    }
    Ok(())
}

/// Reads the constraints that stand in the architecture.
pub(super) fn read_embedded(
    problem: &Problem,
    arch: &mut Architecture<'_>,
    constraints: &mut Constraints,
) -> Result<(), TimeloopError> {
    keep_what_parallel_nodes_say(problem, arch)?;
    for (at, cursor) in std::mem::take(&mut arch.embedded) {
        cursor.only(
            &["spatial", "temporal", "dataspace", "bypass", "utilization"],
            "a constraint",
        )?;
        let Some(of) = arch.targets.get(at).cloned() else {
            continue;
        };
        for (key, kind) in [
            ("spatial", "spatial"),
            ("temporal", "temporal"),
            ("dataspace", "bypass"),
            ("bypass", "bypass"),
            ("utilization", "utilization"),
        ] {
            let Some(directive) = cursor.get(key) else {
                continue;
            };
            // A node with a fanout in front of it stands for both; each takes its own.
            if (kind == "spatial") == of.memory.is_none() {
                apply(&directive, kind, at, problem, arch, constraints)?;
            }
        }
    }
    Ok(())
}

/// Nodes of a `!Parallel` stand beside each other: each keeps only what it says, the others pass it by.
fn keep_what_parallel_nodes_say(
    problem: &Problem,
    arch: &mut Architecture<'_>,
) -> Result<(), TimeloopError> {
    for (at, node) in std::mem::take(&mut arch.parallel) {
        let said = node.get("constraints").and_then(|c| c.get("dataspace"));
        let keep = match &said {
            Some(spaces) => read_spaces(spaces, problem)?.0,
            None => Mask::NONE,
        };
        if keep.is_empty() {
            return Err(node
                .fail("a component in !Parallel says what it keeps: constraints.dataspace.keep"));
        }
        let level = arch.targets.get(at).and_then(|t| t.memory);
        if let Some(Level::Memory(memory)) = level.and_then(|l| arch.hierarchy.levels.get_mut(l)) {
            memory.keeps = keep;
        }
    }
    Ok(())
}

fn apply(
    directive: &Cursor<'_>,
    kind: &str,
    at: usize,
    problem: &Problem,
    arch: &mut Architecture<'_>,
    constraints: &mut Constraints,
) -> Result<(), TimeloopError> {
    let known = [
        "target",
        "type",
        "factors",
        "permutation",
        "split",
        "keep",
        "bypass",
        "min",
    ];
    directive.only(&known, "presil's constraints")?;
    let Some(of) = arch.targets.get(at).cloned() else {
        return Ok(());
    };
    match kind {
        "bypass" => bypass(directive, of.memory, problem, arch),
        "temporal" => match of.memory {
            Some(level) => loops(directive, level, problem, constraints),
            None => only_ones(directive, problem),
        },
        "spatial" => match of.fanout {
            Some(level) => {
                axes(directive, level, problem, arch)?;
                loops(directive, level, problem, constraints)
            }
            None => only_ones(directive, problem),
        },
        _ => {
            let Some(level) = of.memory.or(of.fanout) else {
                return Ok(());
            };
            let least = directive.need("min")?.amount()?;
            if least > 1.0 {
                return Err(directive.fail(format!("min is {least}; a share is at most 1")));
            }
            entry(constraints, level).min_utilization = least;
            Ok(())
        }
    }
}

fn entry(constraints: &mut Constraints, level: usize) -> &mut LevelConstraint {
    let known = constraints.levels.iter().position(|l| l.level == level);
    let at = known.unwrap_or_else(|| {
        constraints.levels.push(LevelConstraint {
            level,
            ..LevelConstraint::default()
        });
        constraints.levels.len() - 1
    });
    &mut constraints.levels[at]
}

fn bypass(
    directive: &Cursor<'_>,
    memory: Option<usize>,
    problem: &Problem,
    arch: &mut Architecture<'_>,
) -> Result<(), TimeloopError> {
    let (keep, bypass) = read_spaces(directive, problem)?;
    let level = memory.and_then(|m| arch.hierarchy.levels.get_mut(m));
    match level {
        Some(Level::Memory(memory)) => {
            let all = (0..problem.operands.len()).fold(Mask::NONE, Mask::with);
            memory.keeps = memory.keeps.and(all).minus(bypass);
            memory.must_keep = memory.must_keep.or(keep);
            Ok(())
        }
        _ if keep.is_empty() => Ok(()),
        _ => Err(directive.fail("this level carries loops only and keeps nothing")),
    }
}

/// A level without loops of the kind: every factor must be 1.
fn only_ones(directive: &Cursor<'_>, problem: &Problem) -> Result<(), TimeloopError> {
    let Some(factors) = directive.get("factors") else {
        return Ok(());
    };
    for word in factors.words()? {
        let (_, _, n) = read_factor(&factors, &word, problem)?;
        if n != 1 {
            return Err(factors.fail(format!(
                "`{word}`: this level has no such loops; its factors are 1"
            )));
        }
    }
    Ok(())
}

fn loops(
    directive: &Cursor<'_>,
    level: usize,
    problem: &Problem,
    constraints: &mut Constraints,
) -> Result<(), TimeloopError> {
    let entry = entry(constraints, level);
    if let Some(factors) = directive.get("factors") {
        for word in factors.words()? {
            let (dim, relation, n) = read_factor(&factors, &word, problem)?;
            match (relation, n) {
                ("=", 1) | ("<=", 1) => entry.forbidden = entry.forbidden.with(dim),
                // Timeloop reads 0 as the whole dimension.
                ("=", 0) => entry.trips.push((dim, problem.einsum.dims[dim].size)),
                // Bounds that bind nothing.
                ("<=", n) if n >= problem.einsum.dims[dim].size => {}
                (">=", 1) => {}
                ("=", n) => entry.trips.push((dim, n)),
                _ => {
                    return Err(factors.fail(format!(
                        "`{word}`: presil's constraints give factors exactly (M=2) or not at all"
                    )));
                }
            }
        }
    }
    if let Some(permutation) = directive.get("permutation") {
        entry.order = read_order(&permutation, problem)?;
    }
    Ok(())
}

/// Which dimensions may lie along X and Y.
fn axes(
    directive: &Cursor<'_>,
    level: usize,
    problem: &Problem,
    arch: &mut Architecture<'_>,
) -> Result<(), TimeloopError> {
    let Some(split) = directive.get("split") else {
        return Ok(());
    };
    let Some(permutation) = directive.get("permutation") else {
        return Err(split.fail("says nothing without a `permutation`; add one"));
    };
    let mut order = read_order(&permutation, problem)?;
    order.extend(
        (0..problem.einsum.dims.len())
            .filter(|d| !order.contains(d))
            .collect::<Vec<_>>(),
    );
    let at = (split.amount()? as usize).min(order.len());
    let mask = |dims: &[usize]| dims.iter().fold(Mask::NONE, |m, d| m.with(*d));
    let (x, y) = (mask(&order[..at]), mask(&order[at..]));
    if let Some(Level::Fanout(fanout)) = arch.hierarchy.levels.get_mut(level) {
        for axis in &mut fanout.axes {
            axis.accepts = axis.accepts.and(if axis.name == "Y" { y } else { x });
        }
    }
    Ok(())
}
