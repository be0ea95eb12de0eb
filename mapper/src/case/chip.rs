//! A chip's array as the hierarchy of an einsum, for cases that name a chip instead of writing levels out.
//!
//! The path from the root memory to the array's compute units becomes the levels. Operands are the chip's input,
//! weight and output in this order. Cycles are those of the compute units' clock; rates are streaming rates
//! (bytes per second times streaming efficiency), energies those of the resolved chip. Elements are as wide as the
//! case says, except partial sums: below the root memory the output is as wide as the mode's accumulator.
//! What a path does not know stays out: static power, set-up and launch, latencies.

use presil_hwmodels::{
    Chip, Compute, EngineKind, Fanout, FanoutDim, MacMode, Memory, NodeId, NodeKind, Operand,
    OperandSet,
};
use presil_numerics::ids::Id;
use presil_workloads::Einsum;

use crate::hierarchy::{
    Axis, ComputeLevel, FanoutLevel, Hierarchy, Level, Mask, MemoryLevel, Port, Transfer,
};
use crate::mapping::selects;

/// Picojoules in a joule.
const PICO: f64 = 1e12;

/// The operands of a chip, in the einsum's order.
const ROLES: [Operand; 3] = [Operand::Input, Operand::Weight, Operand::Output];

/// The hierarchy of an einsum on a chip's first array.
///
/// # Errors
/// If the chip has no array, the einsum is no product of two inputs, or no mode is wide enough.
pub fn hierarchy(chip: &Chip, einsum: &Einsum, bits: &[f64]) -> Result<Hierarchy, String> {
    let array = chip.engines.iter().find_map(|e| match e.kind {
        EngineKind::Array { compute, .. } => Some(compute),
        _ => None,
    });
    let Some(array) = array else {
        return Err(format!("chip `{}` has no MAC array", chip.name));
    };
    let &[input, weight, result] = bits else {
        return Err("the array of a chip multiplies two inputs".into());
    };
    let NodeKind::Compute(compute) = &chip.nodes[array].kind else {
        return Err(format!("chip `{}` has no compute units", chip.name));
    };
    let mode = mode_of(compute, input, weight).ok_or_else(|| {
        format!(
            "chip `{}` has no mode for elements of {input} and {weight} bits",
            chip.name
        )
    })?;
    let sums = (mode.accumulate.bits() as f64).max(result);
    let cycle = Cycle(chip.clocks[compute.clock].domain.frequency.0);
    let level = |node: NodeId| {
        let name = chip.nodes[node].name.clone();
        match &chip.nodes[node].kind {
            NodeKind::Memory(m) => {
                let result = if node == chip.root() { result } else { sums };
                Level::Memory(memory(name, m, &[input, weight, result], cycle))
            }
            NodeKind::Fanout(f) => Level::Fanout(fanout(name, f, einsum)),
            NodeKind::Compute(_) => Level::Compute(ComputeLevel {
                name,
                energy: mode.energy.0 * PICO,
                rate: mode.macs_per_cycle,
                leakage: 0.0,
            }),
        }
    };
    Ok(Hierarchy {
        name: chip.name.clone(),
        levels: chip.path(array).into_iter().map(level).collect(),
    })
}

/// The clock of a chip's first array, in hertz.
pub fn clock_hz(chip: &Chip) -> Option<f64> {
    chip.engines.iter().find_map(|e| match e.kind {
        EngineKind::Array { compute, .. } => match &chip.nodes[compute].kind {
            NodeKind::Compute(c) => Some(chip.clocks[c.clock].domain.frequency.0),
            _ => None,
        },
        _ => None,
    })
}

/// The narrowest mode that multiplies elements of these widths; the first of several.
fn mode_of(compute: &Compute, input: f64, weight: f64) -> Option<&MacMode> {
    let width = |m: &MacMode| m.input.bits() + m.weight.bits();
    let fits = |m: &&MacMode| m.input.bits() as f64 >= input && m.weight.bits() as f64 >= weight;
    compute.modes.iter().filter(fits).min_by_key(|m| width(m))
}

/// Hertz of the clock that cycles are told in.
#[derive(Debug, Clone, Copy)]
struct Cycle(f64);

fn mask(set: OperandSet) -> Mask {
    let those = (0..ROLES.len()).filter(|o| set.has(ROLES[*o]));
    those.fold(Mask::NONE, Mask::with)
}

fn memory(name: String, m: &Memory, bits: &[f64; 3], cycle: Cycle) -> MemoryLevel {
    let [reads, writes] = m.streams().map(|rate| 8.0 * rate.0 / cycle.0);
    let port = |name: &str, transfers: &[Transfer]| Port {
        name: name.into(),
        read_rate: reads,
        write_rate: writes,
        granule: 1.0,
        access_energy: None,
        carries: (0..ROLES.len())
            .flat_map(|o| transfers.iter().map(move |t| (o, *t)))
            .collect(),
    };
    let (reads, writes): (Vec<Transfer>, Vec<Transfer>) =
        Transfer::ALL.iter().partition(|t| t.reads());
    MemoryLevel {
        capacity: 8.0 * m.capacity.0 as f64,
        buffering: f64::from(m.buffering.max(1)),
        read_energy: m.read_energy.0 * PICO,
        write_energy: m.write_energy.0 * PICO,
        update_energy: m.write_energy.0 * PICO,
        ports: if m.shared_port {
            vec![port("port", &Transfer::ALL)]
        } else {
            vec![port("read", &reads), port("write", &writes)]
        },
        bits: bits.to_vec(),
        keeps: mask(m.keeps),
        must_keep: mask(m.must_keep),
        overlap: m.overlap,
        ..MemoryLevel::unlimited(name, ROLES.len(), 1.0)
    }
}

fn fanout(name: String, f: &Fanout, einsum: &Einsum) -> FanoutLevel {
    FanoutLevel {
        name,
        axes: f.dims.iter().map(|d| axis(d, einsum)).collect(),
        hop_energy: f.hop_energy.0 * PICO,
    }
}

fn axis(d: &FanoutDim, einsum: &Einsum) -> Axis {
    let inputs = mask(d.multicast).minus(Mask::one(2));
    let accepts = |dim| d.accepts.iter().any(|s| selects(einsum, s, dim));
    let accepted = einsum.dim_ids().filter(|dim| accepts(*dim));
    Axis {
        name: d.name.clone(),
        size: d.size,
        shares: if d.reduces { inputs.with(2) } else { inputs },
        shares_overlap: Mask::NONE,
        must_share: Mask::NONE,
        accepts: accepted.fold(Mask::NONE, |m, d| m.with(d.index())),
        min_usage: 0.0,
        systolic: false,
    }
}
