//! The cost model of ZigZag 3.9.1 (KULeuven-MICAS, `zigzag-dse` on PyPI), for a given mapping.
//!
//! Definitions are those of its sources `mapping/{mapping,temporal_mapping,spatial_mapping_internal}.py` and
//! `cost_model/cost_model.py`, told here in our words and equations.
//!
//! # What it sees
//! For each operand a chain of memories, level 0 innermost, below it the array (stage 0; level `l` is stage
//! `l + 1`). Each level holds temporal loops; levels of different operands may split the one loop order anywhere.
//! A loop over the array belongs to the innermost level of the operand whose memory serves its axis: a memory serves
//! the axes of all fanouts inside it, or only those named in [`crate::hierarchy::MemoryLevel::serves`]. *Where
//! spatial loops stand among the nodes of the loop tree says nothing here.* A memory keeps its operand from its
//! storage node on inwards, and every operand is kept outside all loops.
//!
//! A dimension is *relevant* to an operand that it indexes alone, *sliding* if it shares a rank with another one
//! (`2p + r`), else *irrelevant*. Sizes are products of loops, where the loops of a sliding rank give
//! `a b - max(0, b - s) (a - d)` distinct elements (`s`, `d`: strides of its first and second term by their common
//! divisor; at most the rank's extent).
//!
//! A dimension that does not fill its instances is laid `size / ceil(size / instances)` wide on average. Energy and
//! utilization count this mean, time its whole part; cycles are the product of the temporal loops.
//!
//! Irrelevant loops that stand innermost in a level are moved to the next inner level, which then keeps its data
//! for longer; those innermost of all let the array reuse an element for `c0` cycles.
//!
//! # Transfers
//! With `D_s` the elements that an instance at stage `s` holds, `T_s` the product of the temporal loops up to
//! level `s - 1` (`T_0 = c0`; 1 for the output), `T` all cycles, `f_l` the instances at stage `l` that one instance
//! of level `l` feeds with different data:
//!
//! ```text
//! level l, to and from below: D_l f_l elements every T_l cycles,        floor(T / T_l) times
//! level l, to and from above: D_{l+1} elements every T_{l+1} cycles,    floor(T / T_{l+1}) times (not at the top)
//! ```
//!
//! Inputs are read to below and written from above. Outputs are written from below and read to above; while a loop
//! that reduces stands outside the link, partial sums also come back, every time (the first visit is not
//! left out), and all transfers of the link are as wide as a partial sum; else as wide as a finished output. Halos
//! of sliding windows are loaded again.
//!
//! Words: `trunc(ceil(elements x bits / least) x least / width x times x instances)`, with `width` and `least` the
//! port's bits a cycle and smallest access. Energy is words x the price of an access, and operations x theirs;
//! nothing else has energy. `D x bits / capacity` is an operand's use of a memory.
//!
//! # Time
//! A level is double-buffered for an operand if the bits in use there (`D x bits` without the outermost relevant
//! loops, summed over operands) take at most half of it, or if the operand's own would fit into the rest once more
//! (then they are added, so that the next operand sees less room; the output asks first). A transfer may take a whole
//! period `T_s` if the level that it refills or empties is double-buffered, else the period over the outermost
//! irrelevant loops of it. It takes `ceil(elements x bits / width)` cycles.
//!
//! ```text
//! stall of a transfer  = (taken - allowed) x (times - 1)
//! stall of a port      = that of its only transfer, or
//!                        sum of positive ones + max(0, sum of negative ones + sum of allowed x (times - 1) - union)
//! union                = cycles in which some window is open; one that is always open makes it all cycles
//! stall                = max(0, those of all ports)
//! ```
//!
//! First loads of inputs and last stores of the output come on top. Those that happen once may borrow what their port
//! has to spare while the array computes, the longest first, down to what level 0 needs to start. Loads of the two
//! inputs overlap except on links that share ports; stores of the output's levels do not overlap. Along a systolic
//! axis the last results leave one instance a cycle. In all:
//!
//! ```text
//! cycles = computation (T) + stall + onloading + offloading + systolic drain
//! ```
//!
//! # What it does not count
//! Leakage, networks, reduction trees, latencies of memories, [`crate::hierarchy::MemoryLevel::buffering`]. Widths
//! may differ from memory to memory here, which ZigZag cannot say; where they do not, figures are ZigZag's own.

mod movement;
mod nest;
#[cfg(test)]
mod tests;
mod timing;

use presil_workloads::Einsum;

use self::movement::{LevelMoves, Move, index};
use self::nest::{Nest, OperandNest, View};
use self::timing::{Stalls, Traffic, port_of, rate};
use super::{Accesses, ActionEnergy, ConventionError, CyclePart, Evaluation};
use crate::hierarchy::{Hierarchy, Port, Transfer};
use crate::looptree::LoopTree;

/// Four figures of a level, in the order of [`Transfer::ALL`].
pub type FourWay = [f64; 4];

/// What ZigZag says of one operand at one memory.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelReport {
    /// Index of the memory in the hierarchy.
    pub level: usize,
    /// The operand.
    pub operand: usize,
    /// Elements that an instance holds.
    pub tile: f64,
    /// Share of the capacity that the operand takes.
    pub utilization: f64,
    /// Instances used.
    pub instances: f64,
    /// Elements moved, over all instances.
    pub elements: FourWay,
    /// Accesses of the ports' width that they take.
    pub words: FourWay,
    /// Picojoules.
    pub energy: FourWay,
}

/// Stall or slack of a port.
#[derive(Debug, Clone, PartialEq)]
pub struct PortReport {
    /// Index of the memory in the hierarchy.
    pub level: usize,
    /// Index of the port in the memory.
    pub port: usize,
    /// Cycles that it holds the array up; negative: that its only transfer could have been later.
    pub stall: f64,
}

/// What ZigZag says of a mapping. Energies in picojoules.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// By operand (inputs, then the output) and level, innermost first.
    pub levels: Vec<LevelReport>,
    /// By memory and port, outermost memory first.
    pub ports: Vec<PortReport>,
    /// Energy of the operations.
    pub operation_energy: f64,
    /// Operations.
    pub operations: f64,
    /// Instances used on average.
    pub instances_used: f64,
    /// Cycles if all instances computed all the time.
    pub ideal: f64,
    /// Cycles of the temporal loops.
    pub computation: f64,
    /// Cycles that ports hold the array up.
    pub stall: f64,
    /// Cycles of first loads that stay visible.
    pub onloading: f64,
    /// Cycles of last stores that stay visible.
    pub offloading: f64,
    /// Cycles for the last results to leave a systolic array.
    pub systolic_drain: f64,
}

impl Report {
    /// Picojoules of all memories.
    pub fn memory_energy(&self) -> f64 {
        self.levels.iter().flat_map(|l| &l.energy).sum()
    }
    /// Cycles in all.
    pub fn cycles(&self) -> f64 {
        self.computation + self.stall + self.onloading + self.offloading + self.systolic_drain
    }
}

fn beyond(reason: impl Into<String>) -> ConventionError {
    ConventionError::Beyond {
        convention: super::Convention::ZigZag.name(),
        reason: reason.into(),
    }
}

/// What ZigZag says of a mapping, in full.
///
/// # Errors
/// If the mapping is no legal one, or holds something that ZigZag has no rule for.
pub fn report(
    einsum: &Einsum,
    hierarchy: &Hierarchy,
    tree: &LoopTree,
) -> Result<Report, ConventionError> {
    let nest = nest::read(einsum, hierarchy, tree)?;
    let moves = |view| {
        let output = nest.operands.len() - 1;
        let of = |o: &OperandNest| movement::moves(o, hierarchy, view, o.operand == output);
        nest.operands.iter().map(of).collect::<Vec<_>>()
    };
    let mean = moves(View::Mean);
    let double = double_buffered(hierarchy, &nest, &mean);
    let traffic: Vec<Traffic> = nest
        .operands
        .iter()
        .zip(moves(View::Whole))
        .zip(double)
        .map(|((nest, levels), double)| Traffic {
            nest,
            levels,
            double,
        })
        .collect();
    let Stalls {
        ports,
        stall,
        onloading,
        offloading,
    } = timing::stalls(hierarchy, &traffic, nest.cycles)?;
    let energy = hierarchy.compute().map_or(0.0, |c| c.energy);
    let systolic = nest.axes.iter().filter(|a| a.systolic);
    Ok(Report {
        levels: level_reports(hierarchy, &nest, &mean)?,
        ports: ports
            .into_iter()
            .map(|(level, port, stall)| PortReport { level, port, stall })
            .collect(),
        operation_energy: energy * nest.operations,
        operations: nest.operations,
        instances_used: nest.operations / nest.cycles,
        ideal: (nest.operations / nest.units).ceil(),
        computation: nest.cycles,
        stall,
        onloading,
        offloading,
        systolic_drain: systolic.map(|a| (a.used - 1) as f64).sum(),
    })
}

/// Share of a memory's capacity that some bits take.
fn share(hierarchy: &Hierarchy, level: usize, bits: f64) -> f64 {
    let capacity = hierarchy.levels[level].memory().map(|m| m.capacity);
    bits / capacity.unwrap_or(f64::INFINITY)
}

/// Share of a memory's capacity that all operands kept there take, of the bits `of` each.
fn shared(
    hierarchy: &Hierarchy,
    nest: &Nest,
    moves: &[Vec<LevelMoves>],
    level: usize,
    of: fn(&LevelMoves) -> f64,
) -> f64 {
    let at = |(o, m): (&OperandNest, &Vec<LevelMoves>)| {
        let l = o.memories.iter().position(|m| *m == level)?;
        Some(share(hierarchy, level, of(&m[l])))
    };
    nest.operands.iter().zip(moves).filter_map(at).sum()
}

/// Which levels are double-buffered, by operand.
fn double_buffered(
    hierarchy: &Hierarchy,
    nest: &Nest,
    moves: &[Vec<LevelMoves>],
) -> Vec<Vec<bool>> {
    let mut used: Vec<f64> = (0..hierarchy.levels.len())
        .map(|level| shared(hierarchy, nest, moves, level, |m| m.active_bits))
        .collect();
    let mut double: Vec<Vec<bool>> = moves.iter().map(|m| vec![false; m.len()]).collect();
    let output = moves.len() - 1;
    for o in std::iter::once(output).chain(0..output) {
        for (l, &level) in nest.operands[o].memories.iter().enumerate() {
            let own = share(hierarchy, level, moves[o][l].active_bits);
            let fits_again = own <= 1.0 - used[level];
            double[o][l] = used[level] <= 0.5 || fits_again;
            if used[level] > 0.5 && fits_again {
                used[level] += own;
            }
        }
    }
    double
}

fn level_reports(
    hierarchy: &Hierarchy,
    nest: &Nest,
    moves: &[Vec<LevelMoves>],
) -> Result<Vec<LevelReport>, ConventionError> {
    let mut reports = Vec::new();
    for (operand, levels) in nest.operands.iter().zip(moves) {
        for (&level, own) in operand.memories.iter().zip(levels) {
            let mut report = LevelReport {
                level,
                operand: operand.operand,
                tile: own.elements,
                utilization: share(hierarchy, level, own.bits),
                instances: own.instances,
                elements: [0.0; 4],
                words: [0.0; 4],
                energy: [0.0; 4],
            };
            for transfer in Transfer::ALL {
                let i = index(transfer);
                let m = own.at(transfer);
                let elements = m.elements * m.count * own.instances;
                if elements == 0.0 || m.bits == 0.0 {
                    continue;
                }
                let port = port_of(hierarchy, level, operand.operand, transfer);
                let port =
                    port.ok_or_else(|| no_port(hierarchy, level, operand.operand, transfer))?;
                let words = words(m, port, rate(port, transfer), own.instances);
                report.elements[i] = elements;
                report.words[i] = words;
                report.energy[i] = words * access_energy(hierarchy, level, port, transfer);
            }
            reports.push(report);
        }
    }
    Ok(reports)
}

/// Accesses of a port's width that some transfers take.
fn words(m: &Move, port: &Port, width: f64, instances: f64) -> f64 {
    let least = if port.granule > 0.0 {
        port.granule
    } else {
        width
    };
    let accesses = (m.elements * m.bits / least).ceil() * (least / width);
    (accesses * m.count * instances).trunc()
}

/// Picojoules of one access of a port's width.
fn access_energy(hierarchy: &Hierarchy, level: usize, port: &Port, transfer: Transfer) -> f64 {
    if let Some([read, write]) = port.access_energy {
        return if transfer.reads() { read } else { write };
    }
    let bit = hierarchy.levels[level]
        .memory()
        .map_or(0.0, |m| match transfer {
            Transfer::ToAbove | Transfer::ToBelow => m.read_energy,
            Transfer::FromAbove => m.write_energy,
            Transfer::FromBelow => m.update_energy,
        });
    bit * rate(port, transfer)
}

fn no_port(
    hierarchy: &Hierarchy,
    level: usize,
    operand: usize,
    transfer: Transfer,
) -> ConventionError {
    let name = hierarchy.levels[level].name();
    beyond(format!(
        "counts accesses by port: `{name}` needs one of finite rate for {transfer:?} of operand {operand}"
    ))
}

/// What a mapping costs as ZigZag counts it. Parts of the time add up to the cycles.
///
/// # Errors
/// If the mapping is no legal one, or holds something that ZigZag has no rule for.
pub fn evaluate(
    einsum: &Einsum,
    hierarchy: &Hierarchy,
    tree: &LoopTree,
) -> Result<Evaluation, ConventionError> {
    let report = report(einsum, hierarchy, tree)?;
    let mut levels: Vec<&LevelReport> = report.levels.iter().collect();
    levels.sort_by_key(|l| (l.level, l.operand));
    let accesses = |of: fn(&LevelReport) -> FourWay| {
        let of_level = |l: &&LevelReport| {
            let [fills, drains, reads, updates] = of(l);
            Accesses {
                level: l.level,
                operand: l.operand,
                tile: l.tile,
                instances: l.instances,
                reads,
                fills,
                updates,
                drains,
                ..Accesses::default()
            }
        };
        levels.iter().map(of_level).collect()
    };
    let part = |name: &str, cycles| CyclePart {
        name: name.into(),
        cycles,
    };
    Ok(Evaluation {
        accesses: accesses(|l| l.elements),
        words: accesses(|l| l.words),
        energy: energies(&report, &levels, hierarchy.levels.len() - 1),
        parts: vec![
            part("computation", report.computation),
            part("stall", report.stall),
            part("onloading", report.onloading),
            part("offloading", report.offloading),
            part("systolic drain", report.systolic_drain),
        ],
        cycles: report.cycles(),
        operations: report.operations,
        instances_used: report.instances_used,
        ..Evaluation::default()
    })
}

fn energies(report: &Report, levels: &[&LevelReport], compute: usize) -> Vec<ActionEnergy> {
    let actions = ["write", "drain", "read", "update"];
    let memories = levels.iter().flat_map(|l| {
        let priced = actions.iter().zip(l.energy).filter(|(_, e)| *e != 0.0);
        priced.map(|(action, energy)| ActionEnergy {
            level: l.level,
            operand: Some(l.operand),
            action,
            energy,
        })
    });
    memories
        .chain([ActionEnergy {
            level: compute,
            operand: None,
            action: "compute",
            energy: report.operation_energy,
        }])
        .collect()
}
