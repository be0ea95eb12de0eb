//! What a way to run a group takes at least.
//!
//! ```text
//! T >= sum over ops of (N x launch + max(MACs / peak rate, lane work, root bytes of this way / root rate))
//! E >= energy of MACs, lanes, root bytes, intermediates written and read once
//! ```

use presil_hwmodels::{Chip, EngineKind, NodeId, NodeKind};
use presil_workloads::count::op_macs;
use presil_workloads::{OpKind, TensorId};

use super::axes::Group;
use super::plan::{Tiling, Way};
use crate::ledger;
use crate::schedule::array_rate;
use crate::schedule::engines::Choice;
use crate::schedule::operands::{moved, stored_operands};
use crate::schedule::residency::{Residency, Scene};
use crate::schedule::tails;
use crate::vector::{self, Operands};

/// Seconds and joules that nothing beats.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Floor {
    pub(crate) time: f64,
    pub(crate) energy: f64,
}

/// What a tiling takes at least in a memory: everything but what depends on loop order and what is held.
#[derive(Debug, Clone, Default)]
pub(crate) struct Base {
    /// For each member: compute, lanes, launches in seconds.
    work: Vec<[f64; 3]>,
    /// Root bits written for each member, and read of what is no operand to choose for.
    written: Vec<f64>,
    /// For each member and outside operand, root bits read if it is streamed.
    streamed: Vec<Vec<f64>>,
    energy: f64,
}

/// The work of a tiling's pieces. `launch`: whether each op of an iteration is launched.
pub(crate) fn base(
    scene: &Scene,
    group: &Group,
    tiling: &Tiling,
    memory: NodeId,
    residency: &Residency,
    launch: bool,
) -> Base {
    let chip = scene.chip;
    let root = chip.root();
    let n = group.ops.len();
    let mut base = Base {
        work: vec![[0.0; 3]; n],
        written: vec![0.0; n],
        streamed: vec![vec![0.0; tiling.outside.len()]; n],
        energy: 0.0,
    };
    let way = Way {
        memory,
        loops: Vec::new(),
        held: Vec::new(),
    };
    for (piece, step) in &tiling.pieces {
        let w = piece.weight as f64;
        for (id, op) in step.graph.ops.iter_ids() {
            let member = id.0 as usize;
            let at = step.tails.position[member];
            if step.tails.folded[member] {
                continue;
            }
            let home = |t: TensorId| {
                let sums = tiling.accumulates(scene, group, member) && op.outputs.contains(&t);
                tiling.home(group, &way, residency, step.whole[t.0 as usize], sums)
            };
            let [inputs, outputs] = stored_operands(&step.graph, op, home);
            let operands = Operands {
                inputs: &inputs,
                outputs: &outputs,
            };
            let unit = match (&step.choices[member], step.tails.into[member]) {
                (_, Some(_)) => tails::inline_unit(chip),
                (Choice::Vector(e), _) => Some(*e),
                _ => None,
            };
            if let (Some(unit), OpKind::Cascade(list)) = (unit, &op.kind)
                && let Ok(work) = vector::lane_work(chip, &chip.engines[unit], list, operands)
            {
                base.work[at][1] += work.busy.0 * w;
                base.energy += work.energy * w;
                if launch && step.tails.into[member].is_none() {
                    base.work[at][2] += chip.engines[unit].launch.0 * w;
                }
            }
            if let Choice::Array(engines) = &step.choices[member]
                && let Some((engine, mode)) = engines.first()
            {
                let macs = op_macs(&step.graph, id).1 as f64 * w;
                base.work[at][0] +=
                    macs / array_rate(chip, *engine, *mode).unwrap_or(f64::INFINITY);
                let least = engines
                    .iter()
                    .filter_map(|(e, m)| match chip.engines[*e].kind {
                        EngineKind::Array { compute, .. } => match &chip.nodes[compute].kind {
                            NodeKind::Compute(c) => c.modes.get(*m).map(|m| m.energy.0),
                            _ => None,
                        },
                        _ => None,
                    });
                base.energy += macs * least.fold(f64::INFINITY, f64::min);
                if launch {
                    base.work[at][2] += chip.engines[*engine].launch.0 * w;
                }
            }
            let [reads, writes] = moved(&step.graph, op, operands);
            let here = chip.nodes[memory].memory();
            let [read, written] = here.map_or([0.0; 2], |m| [m.read_energy.0, m.write_energy.0]);
            let passes = |t: TensorId| group.inner.contains(&step.whole[t.0 as usize]);
            for (t, m) in op.inputs.iter().zip(&reads) {
                let bits = m.elements as f64 * m.stored.bits * w;
                let whole = step.whole[t.0 as usize];
                if passes(*t) {
                    base.energy += bits * read;
                }
                if m.stored.home != root {
                    continue;
                }
                if let Some(o) = tiling.outside.iter().position(|o| o.tensor == whole) {
                    base.streamed[at][o] += bits;
                }
            }
            for (t, m) in op.outputs.iter().zip(&writes) {
                let inner = step.graph.tensors[*t].role == presil_workloads::Role::Activation;
                if passes(*t) {
                    base.energy += m.elements as f64 * m.stored.bits * w * written;
                }
                if m.stored.home == root && !inner {
                    base.written[at] += m.elements as f64 * m.stored.bits * w;
                }
            }
        }
    }
    base
}

impl Base {
    /// The same of whole axes, cut into iterations: of each member its work grows (rows made again), and each iteration
    /// launches it.
    pub(crate) fn cut(&self, iterations: f64, grown: impl Fn(usize) -> f64) -> Self {
        let mut base = self.clone();
        for (member, work) in base.work.iter_mut().enumerate() {
            let grown = grown(member);
            *work = [work[0] * grown, work[1] * grown, work[2] * iterations];
        }
        base
    }

    /// The bound of a way.
    pub(crate) fn floor(
        &self,
        chip: &Chip,
        tiling: &Tiling,
        way: &Way,
        residency: &Residency,
        static_power: f64,
    ) -> Floor {
        let root = chip.root();
        let reads = |member: usize| {
            let mut read = 0.0;
            for (o, bits) in tiling.outside.iter().zip(&self.streamed[member]) {
                if !way.held.contains(&o.tensor) {
                    read += bits;
                } else if o.readers.first() == Some(&member)
                    && residency.home[o.tensor.0 as usize] == root
                {
                    read += tiling.fetched(way, o) * o.bits;
                }
            }
            read
        };
        self.close(chip, static_power, reads)
    }

    /// The bound of all ways of the tiling: each operand once, by its first reader.
    pub(crate) fn best(&self, chip: &Chip, tiling: &Tiling, static_power: f64) -> Floor {
        let reads = |member: usize| {
            let first = |o: &super::plan::Outside| o.readers.first() == Some(&member);
            let own = tiling.outside.iter().zip(&self.streamed[member]);
            let once = own.filter(|(o, _)| first(o));
            once.map(|(o, bits)| bits.min(o.fetched * o.bits)).sum()
        };
        self.close(chip, static_power, reads)
    }

    /// The bound of work with root bits read for each member.
    fn close(&self, chip: &Chip, static_power: f64, reads: impl Fn(usize) -> f64) -> Floor {
        let root = chip.root();
        let mut floor = Floor {
            time: 0.0,
            energy: self.energy,
        };
        let energy = chip.nodes[root]
            .memory()
            .map_or([0.0; 2], |m| [m.read_energy.0, m.write_energy.0]);
        for (member, work) in self.work.iter().enumerate() {
            let read = reads(member);
            let port = ledger::port_time(chip, root, read, self.written[member]).0;
            floor.time += work[2] + work[0].max(work[1]).max(port);
            floor.energy += read * energy[0] + self.written[member] * energy[1];
        }
        floor.energy += static_power * floor.time;
        floor
    }
}
