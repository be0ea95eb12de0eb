//! Which engine runs an op, and in which format.
//!
//! MAC einsums go to an array that multiplies the operands' formats: the exact pair where there is one, else the
//! narrowest pair that holds both (operands are converted on the way in and the op runs at that pair's rate).
//! Several arrays are tried fastest first. Lane cascades go to the first vector unit that can compute them.
//! What neither runs goes to the host, with the reason; without a host it is unsupported.

use presil_hwmodels::{Chip, Compute, EngineId, EngineKind, NodeKind};
use presil_numerics::Format;
use presil_workloads::einsum::Place;
use presil_workloads::{Einsum, Graph, Op, OpKind};

use crate::formats::holds;
use crate::vector::{self, Operands};

/// Who runs an op.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Choice {
    /// Nobody: nothing moves.
    View,
    /// Arrays with the mode used, best first, and the host's reason should no array have a mapping.
    Array(Vec<(EngineId, usize)>),
    /// A vector unit.
    Vector(EngineId),
    /// The memories alone; a vector unit where there are comparisons.
    Movement(Option<EngineId>),
    /// The host, and why.
    Host(EngineId, String),
    /// Nobody can, and why.
    Unsupported(String),
}

/// The choice for an op whose operands are stored as given.
pub(crate) fn choose(chip: &Chip, graph: &Graph, op: &Op, operands: Operands) -> Choice {
    match &op.kind {
        OpKind::View => Choice::View,
        OpKind::Cascade(einsums) => match einsums.as_slice() {
            [e] if e.is_contraction() => contraction(chip, graph, op, e),
            _ => lanes(chip, einsums, operands),
        },
        OpKind::Gather { .. } | OpKind::Move { .. } | OpKind::Unknown { .. } => {
            Choice::Movement(None)
        }
        OpKind::Select { .. } => {
            let able = vector_units(chip).find(|id| {
                let reads: Vec<_> = operands
                    .inputs
                    .iter()
                    .map(|s| vector::Moved {
                        stored: *s,
                        elements: 0,
                    })
                    .collect();
                vector::movement(chip, Some(&chip.engines[*id]), &reads, &[], 1).is_ok()
            });
            match able {
                Some(id) => Choice::Movement(Some(id)),
                None => otherwise(chip, "no vector unit compares its operands".into()),
            }
        }
    }
}

fn vector_units(chip: &Chip) -> impl Iterator<Item = EngineId> + '_ {
    chip.engines
        .iter_ids()
        .filter(|(_, e)| matches!(e.kind, EngineKind::Vector { .. }))
        .map(|(id, _)| id)
}

/// The chip's host.
pub(crate) fn host(chip: &Chip) -> Option<EngineId> {
    chip.engines
        .iter_ids()
        .find(|(_, e)| matches!(e.kind, EngineKind::Host { .. }))
        .map(|(id, _)| id)
}

/// The host if there is one; else unsupported.
pub(crate) fn otherwise(chip: &Chip, reason: String) -> Choice {
    match host(chip) {
        Some(id) => Choice::Host(id, reason),
        None => Choice::Unsupported(reason),
    }
}

fn lanes(chip: &Chip, einsums: &[Einsum], operands: Operands) -> Choice {
    let mut reason = None;
    for id in vector_units(chip) {
        match vector::lane_work(chip, &chip.engines[id], einsums, operands) {
            Ok(_) => return Choice::Vector(id),
            Err(e) => reason = reason.or(Some(e.to_string())),
        }
    }
    otherwise(
        chip,
        reason.unwrap_or_else(|| "the chip has no vector unit".into()),
    )
}

/// The formats of the two inputs of a MAC einsum; `None` where one is no tensor of the op.
pub(crate) fn pair(graph: &Graph, op: &Op, einsum: &Einsum) -> Option<[Format; 2]> {
    let format = |i: usize| match einsum.inputs.get(i)?.place {
        Place::Input(p) => op
            .inputs
            .get(p as usize)
            .map(|t| graph.tensors[*t].quantization.format),
        _ => None,
    };
    Some([format(0)?, format(1)?])
}

fn contraction(chip: &Chip, graph: &Graph, op: &Op, einsum: &Einsum) -> Choice {
    let Some([input, weight]) = pair(graph, op, einsum) else {
        return otherwise(chip, "its operands are made within its own cascade".into());
    };
    let found = arrays(chip, [input, weight]);
    if found.is_empty() {
        return otherwise(chip, format!("no array multiplies {input} by {weight}"));
    }
    Choice::Array(found)
}

/// The arrays that multiply two formats, fastest first, each with its mode.
pub fn arrays(chip: &Chip, [input, weight]: [Format; 2]) -> Vec<(EngineId, usize)> {
    let mut found: Vec<(f64, EngineId, usize)> = Vec::new();
    for (id, engine) in chip.engines.iter_ids() {
        let EngineKind::Array { compute, .. } = engine.kind else {
            continue;
        };
        let NodeKind::Compute(c) = &chip.nodes[compute].kind else {
            continue;
        };
        if let Some(mode) = mode(c, input, weight) {
            found.push((array_rate(chip, id, mode).unwrap_or(0.0), id, mode));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found.into_iter().map(|(_, id, mode)| (id, mode)).collect()
}

/// The mode of a compute node for two formats.
pub(crate) fn mode(compute: &Compute, input: Format, weight: Format) -> Option<usize> {
    let able = compute
        .modes
        .iter()
        .enumerate()
        .filter(|(_, m)| holds(m.input, input) && holds(m.weight, weight));
    let rank = |(at, m): &(usize, &presil_hwmodels::MacMode)| {
        let exact = m.input == input && m.weight == weight;
        (!exact, m.input.bits() + m.weight.bits(), *at)
    };
    able.min_by(|a, b| {
        let (ea, ba, ia) = rank(a);
        let (eb, bb, ib) = rank(b);
        (ea, ba)
            .cmp(&(eb, bb))
            .then(b.1.macs_per_cycle.total_cmp(&a.1.macs_per_cycle))
            .then(ia.cmp(&ib))
    })
    .map(|(at, _)| at)
}

/// What to tell a reader about the formats that an array op runs in.
pub(crate) fn conversion_note(
    compute: &Compute,
    mode: usize,
    [input, weight]: [Format; 2],
) -> Option<String> {
    let m = compute.modes.get(mode)?;
    let widened = |what: &str, from: Format, to: Format| {
        (from != to).then(|| format!("{what} {from} as {to}"))
    };
    let parts: Vec<String> = [
        widened("input", input, m.input),
        widened("weight", weight, m.weight),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| format!("computes {}", parts.join(", ")))
}

/// The highest rate, in MACs per second, at which an array of the chip can run any of the graph's MAC ops: the
/// peak that utilizations refer to.
pub fn peak_macs_per_second(graph: &Graph, chip: &Chip) -> f64 {
    let mut peak = 0.0f64;
    let mut seen: Vec<[Format; 2]> = Vec::new();
    for op in graph.ops.iter() {
        let Some(pair) = op.contraction().and_then(|e| pair(graph, op, e)) else {
            continue;
        };
        if !seen.contains(&pair) {
            seen.push(pair);
            let rates = chip.engines.ids().filter_map(|id| {
                let EngineKind::Array { compute, .. } = chip.engines[id].kind else {
                    return None;
                };
                let NodeKind::Compute(c) = &chip.nodes[compute].kind else {
                    return None;
                };
                mode(c, pair[0], pair[1]).and_then(|m| array_rate(chip, id, m))
            });
            peak = rates.fold(peak, f64::max);
        }
    }
    peak
}

/// MACs per second of an array in a mode of its compute node.
pub fn array_rate(chip: &Chip, engine: EngineId, mode: usize) -> Option<f64> {
    let EngineKind::Array { compute, .. } = chip.engines[engine].kind else {
        return None;
    };
    let node = &chip.nodes[compute];
    let NodeKind::Compute(c) = &node.kind else {
        return None;
    };
    let hertz = chip.clocks[c.clock].domain.frequency.0;
    c.modes
        .get(mode)
        .map(|m| m.macs_per_cycle * node.instances as f64 * hertz)
}
