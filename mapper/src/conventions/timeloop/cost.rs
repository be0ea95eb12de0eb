//! Energy and cycles of counted accesses.

use presil_workloads::Einsum;

use super::counts::{Count, Counts};
use super::nest::Nest;
use super::{ConventionError, beyond};
use crate::conventions::{Accesses, ActionEnergy, CyclePart, Evaluation, LevelUse};
use crate::hierarchy::{Hierarchy, Level, MemoryLevel, Port, Transfer};
use crate::looptree::LoopTreeError;

/// The evaluation of counted accesses.
pub(super) fn price(
    einsum: &Einsum,
    hierarchy: &Hierarchy,
    nest: &Nest,
    counts: &Counts,
) -> Result<Evaluation, ConventionError> {
    let compute = hierarchy
        .compute()
        .ok_or_else(|| beyond("needs compute units at the end of the hierarchy"))?;
    let points = einsum
        .points()
        .ok_or_else(|| beyond("counts at most 2^64 operations"))? as f64;
    let mut evaluation = Evaluation {
        operations: points,
        instances_used: nest.units as f64,
        ..Evaluation::default()
    };
    for (storage, counts) in nest.storages.iter().zip(counts) {
        let Some(level) = storage.memory else {
            continue;
        };
        let Some(memory) = hierarchy.levels.get(level).and_then(Level::memory) else {
            continue;
        };
        check_capacity(memory, counts)?;
        let (cycles, throttling) = cycles(memory, counts, nest.iterations);
        evaluation.levels.push(LevelUse {
            level,
            instances: storage.instances as f64,
            cycles,
            throttling,
        });
        evaluation.parts.push(CyclePart {
            name: memory.name.clone(),
            cycles,
        });
        let physical = instances_of(hierarchy, level);
        for (operand, count) in counts.iter().enumerate() {
            let Some(count) = count else {
                continue;
            };
            let at = Place {
                level,
                operand,
                instances: storage.instances,
                physical,
            };
            evaluation.accesses.push(at.accesses(count));
            evaluation.energy.extend(at.energy(memory, count));
        }
    }
    let busy = (nest.iterations as f64 / compute.rate).ceil();
    let level = hierarchy.levels.len() - 1;
    evaluation.levels.push(LevelUse {
        level,
        instances: nest.units as f64,
        cycles: busy,
        throttling: 1.0,
    });
    evaluation.parts.push(CyclePart {
        name: compute.name.clone(),
        cycles: busy,
    });
    evaluation.cycles = evaluation
        .levels
        .iter()
        .map(|l| l.cycles)
        .fold(0.0, f64::max);
    evaluation.energy.push(ActionEnergy {
        level,
        operand: None,
        action: "compute",
        energy: points * compute.energy,
    });
    leak(hierarchy, &mut evaluation);
    Ok(evaluation)
}

/// Leakage of the memories: of the instances used, over all cycles.
fn leak(hierarchy: &Hierarchy, evaluation: &mut Evaluation) {
    for used in &evaluation.levels {
        if let Some(memory) = hierarchy.levels[used.level].memory() {
            evaluation.energy.push(ActionEnergy {
                level: used.level,
                operand: None,
                action: "leak",
                energy: memory.leakage * used.instances * evaluation.cycles,
            });
        }
    }
}

/// An operand at a memory.
struct Place {
    level: usize,
    operand: usize,
    instances: u64,
    physical: f64,
}

impl Place {
    fn accesses(&self, count: &Count) -> Accesses {
        let instances = self.instances as f64;
        let all = |n: u64| n as f64 * instances;
        Accesses {
            level: self.level,
            operand: self.operand,
            tile: count.tile as f64,
            instances,
            reads: all(count.reads),
            fills: all(count.fills),
            updates: all(count.updates),
            drains: 0.0,
            reductions: all(count.reductions),
            partition: count.partition as f64,
        }
    }

    /// Energy of all used instances: each kind of access in whole blocks, paid once a cluster.
    fn energy(&self, memory: &MemoryLevel, count: &Count) -> [ActionEnergy; 3] {
        let bits = memory.bits.get(self.operand).copied().unwrap_or(0.0);
        let clusters = (self.physical / memory.cluster.max(1) as f64).floor();
        let paid = (self.instances as f64).min(clusters.max(1.0));
        let entry = |action, n: u64, per_bit: f64| ActionEnergy {
            level: self.level,
            operand: Some(self.operand),
            action,
            energy: n.div_ceil(memory.block.max(1)) as f64
                * (per_bit * bits * memory.block as f64)
                * paid,
        };
        [
            entry("read", count.reads, memory.read_energy),
            entry("write", count.fills, memory.write_energy),
            entry("update", count.updates, memory.update_energy),
        ]
    }
}

/// Physical instances of a level.
fn instances_of(hierarchy: &Hierarchy, level: usize) -> f64 {
    let fanouts = hierarchy.levels[..level].iter().filter_map(Level::fanout);
    fanouts
        .flat_map(|f| &f.axes)
        .map(|a| a.size as f64)
        .product()
}

/// Elements of one operand are counted in those of the first, where their sizes differ.
fn scale(memory: &MemoryLevel, operand: usize) -> f64 {
    match (memory.bits.get(operand), memory.bits.first()) {
        (Some(bits), Some(first)) if *first > 0.0 => bits / first,
        _ => 1.0,
    }
}

fn check_capacity(memory: &MemoryLevel, counts: &[Option<Count>]) -> Result<(), ConventionError> {
    let word = memory.bits.first().copied().unwrap_or(1.0);
    let available = (memory.capacity / word / memory.buffering).floor();
    let tiles = counts.iter().enumerate();
    let needed: f64 = tiles
        .map(|(o, c)| c.map_or(0.0, |c| c.tile as f64 * scale(memory, o)))
        .sum();
    if needed > available {
        return Err(LoopTreeError::Capacity {
            memory: memory.name.clone(),
            needed_bits: (needed * word) as u64,
            available_bits: (available * word) as u64,
        }
        .into());
    }
    Ok(())
}

/// Cycles of a memory, and the share of full speed that its slowest port allows.
fn cycles(memory: &MemoryLevel, counts: &[Option<Count>], iterations: u64) -> (f64, f64) {
    let ports = memory
        .ports
        .iter()
        .map(|p| speed(memory, p, counts, iterations));
    let throttling = ports.fold(1.0, f64::min);
    ((iterations as f64 / throttling).ceil(), throttling)
}

/// The share of full speed that a port allows.
fn speed(memory: &MemoryLevel, port: &Port, counts: &[Option<Count>], iterations: u64) -> f64 {
    let demand = |reads: bool| -> f64 {
        (0..counts.len())
            .map(|operand| {
                let Some(count) = &counts[operand] else {
                    return 0.0;
                };
                let carried = |t: Transfer| port.carries.contains(&(operand, t));
                let n = if reads {
                    u64::from(carried(Transfer::ToBelow)) * count.reads
                } else {
                    u64::from(carried(Transfer::FromBelow)) * count.updates
                        + u64::from(carried(Transfer::FromAbove)) * count.fills
                };
                n as f64 * scale(memory, operand) / iterations as f64
            })
            .sum()
    };
    let word = memory.bits.first().copied().unwrap_or(1.0);
    let (read_rate, write_rate) = (port.read_rate / word, port.write_rate / word);
    let (reads, writes) = (demand(true), demand(false));
    let share = |rate: f64, demand: f64| if rate < demand { rate / demand } else { 1.0 };
    if writes == 0.0 {
        share(read_rate, reads)
    } else if reads == 0.0 {
        share(write_rate, writes)
    } else if read_rate == write_rate {
        share(read_rate, reads + writes)
    } else {
        // Transfers of one port take turns.
        (1.0 / (reads / read_rate + writes / write_rate)).min(1.0)
    }
}
