//! Operands of an op as they are stored and moved.

use presil_hwmodels::{NodeId, Operand};
use presil_workloads::einsum::Place;
use presil_workloads::{Einsum, Graph, Op, OpKind, Role, TensorId};

use crate::ledger::Stored;
use crate::touched::touched;
use crate::vector::{Moved, Operands};

pub(crate) fn stored(graph: &Graph, t: TensorId, home: NodeId, output: bool) -> Stored {
    let tensor = &graph.tensors[t];
    let role = match tensor.role {
        _ if output => Operand::Output,
        Role::Weight | Role::Constant => Operand::Weight,
        _ => Operand::Input,
    };
    let elements = tensor.elements();
    let bits = tensor.bits().0 as f64 / elements.max(1) as f64;
    let payload = tensor
        .quantization
        .storage(&tensor.shape)
        .map_or(bits, |s| s.payload.0 as f64 / elements.max(1) as f64);
    Stored {
        home,
        format: tensor.quantization.format,
        elements,
        bits,
        payload,
        role,
    }
}

pub(crate) fn stored_operands(
    graph: &Graph,
    op: &Op,
    home: impl Fn(TensorId) -> NodeId,
) -> [Vec<Stored>; 2] {
    let list = |tensors: &[TensorId], output| {
        tensors
            .iter()
            .map(|t| stored(graph, *t, home(*t), output))
            .collect()
    };
    [list(&op.inputs, false), list(&op.outputs, true)]
}

/// What ops without a mapping read and write in one step.
pub(crate) fn moved(graph: &Graph, op: &Op, operands: Operands) -> [Vec<Moved>; 2] {
    let whole = |tensors: &[TensorId], list: &[Stored], most: u64| -> Vec<Moved> {
        let each = tensors.iter().zip(list);
        each.map(|(t, s)| Moved {
            stored: *s,
            elements: graph.tensors[*t].elements().min(most),
        })
        .collect()
    };
    let all = |most: u64| {
        [
            whole(&op.inputs, operands.inputs, most),
            whole(&op.outputs, operands.outputs, most),
        ]
    };
    match &op.kind {
        OpKind::Gather { rows, row_elements } => {
            let [mut reads, writes] = all(u64::MAX);
            if let Some(table) = reads.first_mut() {
                table.elements = rows.saturating_mul(*row_elements);
            }
            [reads, writes]
        }
        OpKind::Move { elements } => all(*elements),
        OpKind::Cascade(einsums) => {
            let [mut reads, mut writes] = all(u64::MAX);
            for (i, m) in reads.iter_mut().enumerate() {
                let own = |a: &&presil_workloads::Access| matches!(a.place, Place::Input(p) if p as usize == i);
                let most = einsums
                    .iter()
                    .flat_map(|e| e.inputs.iter().filter(own).map(move |a| touched(e, a)))
                    .max();
                m.elements = most.unwrap_or(m.elements);
            }
            for (i, m) in writes.iter_mut().enumerate() {
                let own =
                    |e: &&Einsum| matches!(e.output.place, Place::Output(p) if p as usize == i);
                let most = einsums
                    .iter()
                    .filter(own)
                    .map(|e| touched(e, &e.output))
                    .max();
                m.elements = most.unwrap_or(m.elements);
            }
            [reads, writes]
        }
        _ => all(u64::MAX),
    }
}
