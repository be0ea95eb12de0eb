//! Kernels of a graph's MAC ops: the product that an einsum is, and the cost of its kernel.
//!
//! Dimensions in both inputs and the output are the batch, in both inputs alone the reduction, in the first input and
//! the output rows, in the second and the output columns. A convolution is the product that its windows unfold to (an
//! implicit one: overlapping windows come from DRAM once). Domains that leave points out (masks, experts) shorten the
//! rows.

use presil_hwmodels::{Chip, EngineKind, NodeId, NodeKind, Operand};
use presil_numerics::{Joules, Seconds};
use presil_workloads::Einsum;

use crate::cost::{Cost, EnergyEntry, Resource};
use crate::kernels::{Kernel, Matmul, machine, matmul};
use crate::ledger::{Ledger, Stored, longest};
use crate::touched::touched;

/// Where the operands of a product are stored: input, weight, output.
pub(crate) type Where = [Stored; 3];

/// The kernel of a MAC einsum in a mode of the array; `None` where the chip has none for it.
pub(crate) fn of_einsum(
    chip: &Chip,
    mode: usize,
    einsum: &Einsum,
    stored: &Where,
) -> Option<Kernel> {
    let x = machine(chip, mode)?;
    matmul(&x, &product(chip, einsum, stored)?)
}

fn product(chip: &Chip, einsum: &Einsum, stored: &Where) -> Option<Matmul> {
    let [input, weight] = [einsum.inputs.first()?, einsum.inputs.get(1)?];
    let (mut m, mut n, mut k, mut batch) = (1u64, 1u64, 1u64, 1u64);
    for d in einsum.dim_ids() {
        let size = einsum.dim(d).size;
        let named = |access| Einsum::names(access, d);
        let extent = match (named(input), named(weight), named(&einsum.output)) {
            (true, true, true) => &mut batch,
            (true, true, false) => &mut k,
            (true, false, true) => &mut m,
            (false, true, true) => &mut n,
            // Summed over one operand alone: as if it were part of the reduction.
            (_, _, false) => &mut k,
            (false, false, true) => &mut n,
        };
        *extent = extent.saturating_mul(size);
    }
    let all = m as f64 * n as f64 * k as f64 * batch as f64;
    let executed = einsum.executed_points().unwrap_or(0) as f64;
    if all <= 0.0 || executed <= 0.0 {
        return None;
    }
    let unfolded = m as f64 * k as f64 * batch as f64;
    let distinct = (touched(einsum, input) as f64 / unfolded).min(1.0);
    let rows = ((m as f64 * executed / all).ceil() as u64).max(1);
    let near = |s: &Stored| s.home != chip.root();
    let output_bits = stored[2].bits;
    Some(Matmul {
        m: rows,
        n,
        k,
        batch,
        distinct,
        input_bits: stored[0].bits,
        weight_bits: stored[1].bits,
        output_bits,
        input_cached: near(&stored[0]),
        weight_cached: near(&stored[1]),
        output_cached: near(&stored[2]),
    })
}

/// The cost of one run of a kernel: its time, its traffic by memory and operand, its energy. `like`: the cost of a
/// mapping of the same einsum, whose MACs it takes over.
pub(crate) fn cost(
    chip: &Chip,
    kernel: &Kernel,
    einsum: &Einsum,
    stored: &Where,
    like: &Cost,
) -> Cost {
    let Some(k) = &chip.kernels else {
        return like.clone();
    };
    let mut ledger = Ledger::default();
    let accesses = [einsum.inputs.first(), einsum.inputs.get(1)];
    let once: Vec<f64> = accesses
        .iter()
        .zip(stored)
        .map(|(a, s)| a.map_or(0.0, |a| touched(einsum, a) as f64) * s.bits / 8.0)
        .collect();
    let root = chip.root();
    let far = |i: usize| stored[i].home == root;
    let all: f64 = (0..2).filter(|i| far(*i)).map(|i| once[i]).sum();
    for (i, operand) in [Operand::Input, Operand::Weight].into_iter().enumerate() {
        let share = once[i] / (once[0] + once[1]).max(1.0);
        if far(i) && all > 0.0 {
            book(
                &mut ledger,
                root,
                operand,
                kernel.dram_read * once[i] / all,
                stored[i].bits,
            );
        }
        book(
            &mut ledger,
            k.cache,
            operand,
            kernel.cache_bytes * share,
            stored[i].bits,
        );
    }
    let outputs = u128::from(touched(einsum, &einsum.output));
    ledger.write(k.cache, Operand::Output, outputs, stored[2].bits);
    if far(2) {
        ledger.write(root, Operand::Output, outputs, stored[2].bits);
    }
    let mut energy = Vec::new();
    if let EngineKind::Array { compute, .. } = chip.engines[k.array].kind {
        energy.push(EnergyEntry {
            component: chip.nodes[compute].name.clone(),
            action: "mac",
            energy: Joules(kernel.multiply_energy),
        });
    }
    let busy = [(Resource::Compute, Seconds(kernel.busy * kernel.slowdown))];
    let mut cost = ledger.close(chip, &busy, Seconds::ZERO, energy);
    cost.latency = Seconds((kernel.time - longest(&cost.busy).0).max(0.0));
    cost.time = cost.latency + longest(&cost.busy);
    cost.executed_macs = like.executed_macs;
    cost.instances_used = like.instances_used;
    cost.compute_cycles = cycles(chip, kernel);
    cost
}

/// Books bytes read, as whole elements.
fn book(ledger: &mut Ledger, memory: NodeId, operand: Operand, bytes: f64, bits: f64) {
    if bits > 0.0 {
        let elements = (bytes * 8.0 / bits).round();
        ledger.read(memory, operand, elements as u128, bits);
    }
}

fn cycles(chip: &Chip, kernel: &Kernel) -> f64 {
    let array = chip.kernels.as_ref().map(|k| &chip.engines[k.array].kind);
    match array {
        Some(EngineKind::Array { compute, .. }) => match &chip.nodes[*compute].kind {
            NodeKind::Compute(c) => kernel.busy * chip.clocks[c.clock].domain.frequency.0,
            _ => 0.0,
        },
        _ => 0.0,
    }
}
