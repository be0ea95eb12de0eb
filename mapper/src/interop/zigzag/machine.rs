//! The accelerator of a record as a hierarchy.

use super::bits;
use super::record::{Hardware, Layer, Memory, MemoryPort};
use crate::hierarchy::{
    Axis, ComputeLevel, FanoutLevel, Hierarchy, Level, Mask, MemoryLevel, Port, Transfer,
};

/// Names of the four transfers in port allocations, in the order of [`Transfer::ALL`].
const PORTS: [&str; 4] = ["fh", "th", "tl", "fl"];

/// The accelerator as a layer's operands see it: outer memories, the array, inner memories, compute.
pub(super) fn hierarchy(
    hardware: &Hardware,
    layer: &Layer,
    operands: &[String],
) -> Result<Hierarchy, String> {
    let array = &hardware.operational_array;
    if array.dimensions.len() != array.sizes.len() {
        return Err("the array needs a size for each dimension".into());
    }
    let axes = array.dimensions.iter().zip(&array.sizes);
    let fanout = FanoutLevel {
        name: "array".into(),
        axes: axes
            .map(|(name, size)| Axis {
                name: name.clone(),
                size: *size,
                shares: Mask::ALL,
                shares_overlap: Mask::NONE,
                must_share: Mask::NONE,
                accepts: Mask::ALL,
                min_usage: 0.0,
                systolic: array.systolic_dimensions.contains(name),
            })
            .collect(),
        hop_energy: 0.0,
    };
    let memories = |inside: bool| {
        let all = hardware.memories.0.iter().rev();
        let some = all.filter(move |(_, m)| m.served_dimensions.is_empty() == inside);
        some.map(|(name, m)| Ok(Level::Memory(memory(name, m, layer, operands)?)))
    };
    let mut levels = memories(false).collect::<Result<Vec<_>, String>>()?;
    levels.push(Level::Fanout(fanout));
    levels.extend(memories(true).collect::<Result<Vec<_>, String>>()?);
    levels.push(Level::Compute(ComputeLevel {
        name: "mac".into(),
        energy: array.unit_energy,
        rate: 1.0,
        leakage: 0.0,
    }));
    Ok(Hierarchy {
        name: layer.name.clone(),
        levels,
    })
}

fn memory(
    name: &str,
    m: &Memory,
    layer: &Layer,
    operands: &[String],
) -> Result<MemoryLevel, String> {
    let number = |mem_operand: &str| {
        let links = &layer.operand_to_memory_operand;
        operands
            .iter()
            .position(|o| links.get(o).is_some_and(|l| l == mem_operand))
    };
    let widths = operands.iter().map(|o| bits(layer, o));
    let keeps = m.operands.iter().filter_map(|o| number(o));
    let keeps = keeps.fold(Mask::NONE, Mask::with);
    let mut level = MemoryLevel::unlimited(name, operands.len(), 0.0);
    level.capacity = m.size;
    level.bits = widths.collect::<Result<_, String>>()?;
    level.final_bits = Some(layer.precision_final_output_bits);
    level.keeps = keeps;
    level.must_keep = keeps;
    level.serves = m.served_dimensions.clone();
    level.ports = m
        .ports
        .iter()
        .map(|port| {
            Ok(Port {
                name: port.name.clone(),
                read_rate: port.bandwidth_max,
                write_rate: port.bandwidth_max,
                granule: port.bandwidth_min,
                access_energy: Some([m.r_cost, m.w_cost]),
                carries: carries(m, port, number)?,
            })
        })
        .collect::<Result<_, String>>()?;
    Ok(level)
}

/// What a port carries, operand by operand in the memory's order.
fn carries(
    m: &Memory,
    port: &MemoryPort,
    number: impl Fn(&str) -> Option<usize>,
) -> Result<Vec<(usize, Transfer)>, String> {
    let mut carries = Vec::new();
    for operand in &m.operands {
        for text in &port.allocation {
            let parts = text.split_once(',').map(|(o, t)| (o.trim(), t.trim()));
            let transfer = parts.and_then(|(_, t)| PORTS.iter().position(|p| *p == t));
            let (Some((o, _)), Some(transfer)) = (parts, transfer) else {
                return Err(format!("port `{}`: `{text}` is no transfer", port.name));
            };
            if let (true, Some(number)) = (o == operand, number(o)) {
                carries.push((number, Transfer::ALL[transfer]));
            }
        }
    }
    Ok(carries)
}
