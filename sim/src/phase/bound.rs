//! The bound that nothing beats: each resource alone, at its peak rate, doing only what it must.
//!
//! ```text
//! array    executed MACs / (MACs per cycle of the mode x instances x clock)
//! vector   lane work of the cascades;     host: its operations or bytes
//! root     what must cross it once an inference: weights and caches that do not stay on chip, inputs, outputs,
//!          cache writes;  bytes / peak rate, without the streaming efficiency
//! bound    = the largest of these over the whole graph
//! ```
//!
//! It knows neither mapping nor order: it is computed from the graph, not from the costs (lanes and host aside,
//! whose work is fixed by the graph).

use presil_hwmodels::{Chip, EngineId, NodeId};
use presil_mapper::cost::Resource;
use presil_mapper::schedule::{Execution, Schedule, array_rate};
use presil_mapper::touched;
use presil_workloads::count::op_macs;
use presil_workloads::einsum::Place;
use presil_workloads::{Graph, Op, OpKind, Role, TensorId};

/// Bits that must be read from and written to the root memory in one inference.
pub(crate) fn compulsory(
    graph: &Graph,
    chip: &Chip,
    schedule: &Schedule,
    root: NodeId,
) -> (f64, f64) {
    let mut read = vec![0.0f64; graph.tensors.len()];
    let mut write = vec![0.0f64; graph.tensors.len()];
    for ((id, op), repeat) in graph.ops.iter_ids().zip(graph.repeats()) {
        let runs = !matches!(
            schedule.ops[id].execution,
            Execution::View | Execution::Unsupported { .. }
        );
        if !runs {
            continue;
        }
        for (i, t) in op.inputs.iter().enumerate() {
            let tensor = &graph.tensors[*t];
            let kept = matches!(
                tensor.role,
                Role::Weight | Role::Constant | Role::Cache | Role::Input
            );
            if kept && schedule.homes[*t] == root {
                // One of each repetition; a shared tensor might stay.
                let times = if tensor.shared || tensor.role == Role::Input {
                    1.0
                } else {
                    repeat as f64
                };
                let bits = read_elements(graph, op, i, *t) as f64
                    * stored_bits(graph, chip, root, *t)
                    * times;
                read[t.0 as usize] = read[t.0 as usize].max(bits);
            }
        }
        for t in &op.outputs {
            let tensor = &graph.tensors[*t];
            if schedule.homes[*t] != root {
                continue;
            }
            let elements = match (tensor.role, &op.kind) {
                (Role::Cache, OpKind::Move { elements }) => {
                    (*elements).min(tensor.elements()) * repeat
                }
                (Role::Output, _) if written_whole(graph, op) => tensor.elements(),
                _ => 0,
            };
            let bits = elements as f64 * stored_bits(graph, chip, root, *t);
            write[t.0 as usize] = write[t.0 as usize].max(bits);
        }
    }
    (read.iter().sum(), write.iter().sum())
}

/// Bits of an element in the root memory, as few as a code there may make of it.
fn stored_bits(graph: &Graph, chip: &Chip, root: NodeId, t: TensorId) -> f64 {
    let tensor = &graph.tensors[t];
    let bits = tensor.bits().0 as f64 / tensor.elements().max(1) as f64;
    match chip.nodes[root].memory().and_then(|m| m.compression) {
        Some(c) => c.coding.bits(bits, tensor.density),
        None => bits,
    }
}

/// Elements of an input that an op must read.
fn read_elements(graph: &Graph, op: &Op, index: usize, t: TensorId) -> u64 {
    let all = graph.tensors[t].elements();
    match &op.kind {
        OpKind::Cascade(einsums) => {
            let own = einsums
                .iter()
                .flat_map(|e| e.inputs.iter().map(move |a| (e, a)));
            let here =
                own.filter(|(_, a)| matches!(a.place, Place::Input(p) if p as usize == index));
            here.map(|(e, a)| touched(e, a)).max().unwrap_or(all)
        }
        OpKind::Gather { rows, row_elements } if index == 0 => rows.saturating_mul(*row_elements),
        OpKind::Move { elements } => all.min(*elements),
        _ => all,
    }
}

/// Whether an op writes every element of its outputs.
fn written_whole(graph: &Graph, op: &Op) -> bool {
    match &op.kind {
        OpKind::Cascade(einsums) => einsums.iter().all(|e| match e.output.place {
            Place::Output(i) => op
                .outputs
                .get(i as usize)
                .is_some_and(|t| touched(e, &e.output) >= graph.tensors[*t].elements()),
            _ => true,
        }),
        OpKind::Move { elements } => op
            .outputs
            .iter()
            .all(|t| graph.tensors[*t].elements() <= *elements),
        _ => true,
    }
}

/// The bound in seconds and the resource that makes it.
pub(crate) fn lower(graph: &Graph, chip: &Chip, schedule: &Schedule) -> (f64, String) {
    let mut arrays = vec![0.0f64; chip.engines.len()];
    let mut lanes = vec![0.0f64; chip.engines.len()];
    for ((id, op), repeat) in schedule.ops.iter_ids().zip(graph.repeats()) {
        let n = repeat as f64;
        let Some(EngineId(engine)) = op.engine else {
            continue;
        };
        let at = engine as usize;
        if let Some(mode) = op.execution.array_mode()
            && let Some(rate) = array_rate(chip, EngineId(engine), mode)
        {
            arrays[at] += op_macs(graph, id).1 as f64 * n / rate;
        }
        let of = |r: Resource| {
            op.cost
                .busy
                .iter()
                .filter(|b| b.0 == r)
                .fold(0.0, |sum, b| sum + b.1.0)
                * n
        };
        match op.execution {
            // Lanes of an epilogue are those of the inline unit, of which there is one.
            Execution::Mapped { .. } => {
                let inline = |e: &presil_hwmodels::Engine| {
                    matches!(
                        e.kind,
                        presil_hwmodels::EngineKind::Vector { inline: true, .. }
                    )
                };
                if let Some((unit, _)) = chip.engines.iter_ids().find(|(_, e)| inline(e)) {
                    lanes[unit.0 as usize] += of(Resource::Vector);
                }
            }
            _ => lanes[at] += of(Resource::Vector) + of(Resource::Host),
        }
    }
    let root = chip.root();
    let (read, write) = compulsory(graph, chip, schedule, root);
    let memory = chip.nodes[root].memory().map_or(0.0, |m| {
        let (read, write) = (read / 8.0 / m.read_rate.0, write / 8.0 / m.write_rate.0);
        if m.shared_port {
            read + write
        } else {
            read.max(write)
        }
    });
    let engines = chip
        .engines
        .iter()
        .zip(arrays.iter().zip(&lanes))
        .map(|(e, (a, l))| (a.max(*l), e.name.clone()));
    let all = engines.chain([(memory, chip.nodes[root].name.clone())]);
    all.fold(
        (0.0, "nothing".into()),
        |best, x| if x.0 > best.0 { x } else { best },
    )
}
