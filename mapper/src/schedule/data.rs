//! What zeros in the data make of a cost.
//!
//! The cost of an op is first that of dense data; this takes from it what the chip's codes, gates and structured
//! sparsity save at the densities of the op's tensors (`Tensor::density`), zeros being independent:
//!
//! ```text
//! code at a memory     bits of an operand there x coded bits / element bits, metadata included    traffic, energy, port time
//! gate of a memory     energy of MACs' accesses x (open + (1 - open) rest)     open = product of the densities that it goes by
//! gate of a compute    energy of MACs likewise; their time stays
//! structured sparsity  MACs' time and energy x kept / group, where weights are stored so
//! ```
//!
//! A tensor is stored as it is where its code would be longer. Partial sums are not coded. Mappings are searched for
//! on dense data: what is proven is proven of those.

use presil_hwmodels::{Chip, EngineId, EngineKind, MacMode, NodeId, NodeKind, Operand};
use presil_numerics::Seconds;
use presil_numerics::quantization::Sparsity;
use presil_workloads::einsum::Place;
use presil_workloads::{OpId, TensorId};

use super::pricer::Pricer;
use crate::cost::{Cost, MemoryCount, Resource};
use crate::ledger::{longest, port_time};

/// The data of an op, by operand: input, weight, output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Data {
    density: [f64; 3],
    /// Bits of an element, without scales.
    element: [f64; 3],
    /// Elements of the output: what of its traffic is no partial sum.
    results: f64,
}

impl Pricer<'_> {
    /// The data of an op. Of several tensors in one role it is the mean over their elements.
    pub(super) fn data(&self, id: OpId) -> Data {
        let graph = self.scene.graph;
        let op = &graph.ops[id];
        let mut tensors: Vec<(Operand, TensorId)> = Vec::new();
        match op.contraction() {
            Some(einsum) => {
                for (access, operand) in einsum.inputs.iter().zip(Operand::ALL) {
                    if let Place::Input(p) = access.place
                        && let Some(t) = op.inputs.get(usize::from(p))
                    {
                        tensors.push((operand, *t));
                    }
                }
            }
            None => {
                let role = |t: &TensorId| (self.stored(*t, false).role, *t);
                tensors.extend(op.inputs.iter().map(role));
            }
        }
        let last = self.scene.output_of(id).into_iter();
        tensors.extend(last.map(|t| (Operand::Output, t)));
        let mut data = Data {
            density: [1.0; 3],
            element: [0.0; 3],
            results: 0.0,
        };
        for operand in Operand::ALL {
            let own = tensors.iter().filter(|t| t.0 == operand).map(|t| t.1);
            let (mut elements, mut nonzero, mut bits) = (0.0, 0.0, 0.0);
            for t in own {
                let n = graph.tensors[t].elements() as f64;
                elements += n;
                nonzero += n * graph.tensors[t].density;
                bits += n * self.stored(t, operand == Operand::Output).payload;
            }
            if elements > 0.0 {
                data.density[operand.index()] = nonzero / elements;
                data.element[operand.index()] = bits / elements;
            }
            if operand == Operand::Output {
                data.results = elements;
            }
        }
        data
    }

    /// Takes from the cost of an op on an array the MACs that a mode of it skips, if the weights are stored so.
    pub(super) fn skip_weights(&self, id: OpId, engine: EngineId, mode: usize, cost: &mut Cost) {
        let chip = self.scene.chip;
        let EngineKind::Array { compute, .. } = chip.engines[engine].kind else {
            return;
        };
        let NodeKind::Compute(node) = &chip.nodes[compute].kind else {
            return;
        };
        let kept = node
            .modes
            .get(mode)
            .map_or(1.0, |m| self.kept_weights(id, m));
        if kept < 1.0 {
            let cycle = chip.clocks[node.clock].domain.seconds(1.0);
            skip(cost, &chip.nodes[compute].name, kept, cycle);
        }
    }

    /// The share of weights that a mode multiplies.
    fn kept_weights(&self, id: OpId, mode: &MacMode) -> f64 {
        let op = &self.scene.graph.ops[id];
        let place = op
            .contraction()
            .and_then(|e| e.inputs.get(1))
            .map(|a| a.place);
        let tensor = match place {
            Some(Place::Input(p)) => op.inputs.get(usize::from(p)).copied(),
            _ => None,
        };
        let sparsity = tensor.map(|t| self.scene.graph.tensors[t].quantization.sparsity);
        match (mode.structured, sparsity) {
            (Some((kept, of)), Some(Sparsity::NOfM { kept: k, group }))
                if (kept, of) == (u64::from(k), u64::from(group)) =>
            {
                kept as f64 / of as f64
            }
            _ => 1.0,
        }
    }
}

impl Data {
    /// Coded bits of an operand over its bits in a memory.
    pub(super) fn coded_share(&self, chip: &Chip, memory: NodeId, operand: Operand) -> f64 {
        let (at, code) = (
            operand.index(),
            chip.nodes[memory].memory().and_then(|m| m.compression),
        );
        match code {
            Some(c) if c.operands.has(operand) && self.element[at] > 0.0 => {
                c.coding.bits(self.element[at], self.density[at]) / self.element[at]
            }
            _ => 1.0,
        }
    }
}

/// Takes from a cost what its data saves.
pub(super) fn apply(chip: &Chip, data: &Data, cost: &mut Cost) {
    for (id, node) in chip.nodes.iter_ids() {
        match &node.kind {
            NodeKind::Memory(memory) => {
                if let Some(c) = memory.compression {
                    let before = crate::ledger::bits(&cost.counts, id);
                    for count in cost.counts.iter_mut().filter(|n| n.memory == id) {
                        if c.operands.has(count.operand) {
                            code(count, data, |bits, density| c.coding.bits(bits, density));
                        }
                    }
                    rescale(chip, id, before, cost);
                }
                if let Some(gate) = memory.gating {
                    let share = gate.share(data.density);
                    let (read, written) = gated(&cost.counts, id, share);
                    scale_energy(cost, &node.name, "read", read);
                    scale_energy(cost, &node.name, "write", written);
                }
            }
            NodeKind::Compute(compute) => {
                if let Some(gate) = compute.gating {
                    scale_energy(cost, &node.name, "mac", gate.share(data.density));
                }
            }
            NodeKind::Fanout(_) => {}
        }
    }
    cost.time = cost.latency + longest(&cost.busy);
}

/// Takes from a cost the MACs that structured sparsity skips; `kept` are left. `cycle`: of the compute node.
fn skip(cost: &mut Cost, component: &str, kept: f64, cycle: Seconds) {
    let saved = cycle * (cost.compute_cycles * (1.0 - kept));
    cost.compute_cycles *= kept;
    if let Some(busy) = cost.busy.iter_mut().find(|b| b.0 == Resource::Compute) {
        busy.1 = (busy.1 - saved).max(Seconds::ZERO);
    }
    scale_energy(cost, component, "mac", kept);
    cost.time = cost.latency + longest(&cost.busy);
}

/// Codes the traffic of an operand.
fn code(count: &mut MemoryCount, data: &Data, coded: impl Fn(f64, f64) -> f64) {
    let at = count.operand.index();
    let element = data.element[at];
    if element <= 0.0 {
        return;
    }
    let saved = 1.0 - coded(element, data.density[at]) / element;
    if count.operand == Operand::Output {
        // Of what is written only results are coded; what is read back are partial sums.
        let results = data.results.min(count.writes as f64);
        count.write_bits -= results * element * saved;
    } else {
        count.read_bits -= count.reads as f64 * element * saved;
        count.write_bits -= count.writes as f64 * element * saved;
    }
}

/// Brings energy and port time of a memory in line with its bits, given what they were.
fn rescale(chip: &Chip, memory: NodeId, before: (f64, f64), cost: &mut Cost) {
    let after = crate::ledger::bits(&cost.counts, memory);
    let ratio = |new: f64, old: f64| if old > 0.0 { new / old } else { 1.0 };
    let time = |b: (f64, f64)| port_time(chip, memory, b.0, b.1).0;
    let faster = ratio(time(after), time(before));
    if let Some(busy) = cost
        .busy
        .iter_mut()
        .find(|b| b.0 == Resource::Memory(memory))
    {
        busy.1 = busy.1 * faster;
    }
    let name = &chip.nodes[memory].name;
    scale_energy(cost, name, "read", ratio(after.0, before.0));
    scale_energy(cost, name, "write", ratio(after.1, before.1));
}

/// Shares of a gated memory's energy of reads and of writes: MACs read all operands and write sums only.
fn gated(counts: &[MemoryCount], memory: NodeId, share: f64) -> (f64, f64) {
    let own = counts.iter().filter(|c| c.memory == memory);
    let (mut sums, mut all) = (0.0, 0.0);
    for c in own {
        all += c.write_bits;
        if c.operand == Operand::Output {
            sums += c.write_bits;
        }
    }
    let written = if all > 0.0 {
        1.0 - sums / all * (1.0 - share)
    } else {
        1.0
    };
    (share, written)
}

fn scale_energy(cost: &mut Cost, component: &str, action: &str, by: f64) {
    for e in &mut cost.energy {
        if e.component == component && e.action == action {
            e.energy = e.energy * by;
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use presil_hwmodels::{Compression, Gating, OperandSet};
    use presil_numerics::{Coding, Joules};

    use super::super::tests::chip::chip;
    use super::*;
    use crate::ledger::{Ledger, add_traffic};

    const DATA: Data = Data {
        density: [0.25, 1.0, 0.5],
        element: [8.0; 3],
        results: 1e6,
    };

    fn root(chip: &mut Chip) -> &mut presil_hwmodels::Memory {
        match &mut chip.nodes[NodeId(0)].kind {
            NodeKind::Memory(m) => m,
            _ => unreachable!(),
        }
    }

    /// A million inputs read from DRAM, twice as many partial results written as there are results, half read back.
    fn cost(chip: &Chip) -> Cost {
        let mut moved = Ledger::default();
        moved.read(NodeId(0), Operand::Input, 1_000_000, 8.0);
        moved.write(NodeId(0), Operand::Output, 2_000_000, 8.0);
        moved.read(NodeId(0), Operand::Output, 1_000_000, 8.0);
        let mut cost = Cost::default();
        add_traffic(chip, &mut cost, moved);
        cost
    }

    #[test]
    fn codes_shorten_traffic_time_and_energy_of_what_they_hold() {
        let mut chip = chip();
        let dense = cost(&chip);
        root(&mut chip).compression = Some(Compression {
            coding: Coding::Bitmask,
            operands: OperandSet::of(&[Operand::Input, Operand::Output]),
        });
        let mut coded = dense.clone();
        apply(&chip, &DATA, &mut coded);
        // A mask bit and a quarter of 8 bits; a mask bit and half of 8 bits for results, sums as they are.
        let (read, written) = crate::ledger::bits(&coded.counts, NodeId(0));
        assert_eq!(read, 1e6 * 3.0 + 8e6);
        assert_eq!(written, 1e6 * 5.0 + 8e6);
        let time = |c: &Cost| {
            c.busy
                .iter()
                .find(|b| b.0 == Resource::Memory(NodeId(0)))
                .unwrap()
                .1
                .0
        };
        let port = port_time(&chip, NodeId(0), read, written).0;
        assert!((time(&coded) / port - 1.0).abs() < 1e-12);
        assert!(coded.time < dense.time);
        let energy = |c: &Cost, action: &str| {
            let own = c.energy.iter().filter(|e| e.action == action);
            own.map(|e| e.energy.0).sum::<f64>()
        };
        assert!((energy(&coded, "read") / energy(&dense, "read") - 11.0 / 16.0).abs() < 1e-12);
        assert!((energy(&coded, "write") / energy(&dense, "write") - 13.0 / 16.0).abs() < 1e-12);
    }

    #[test]
    fn dense_data_and_operands_outside_of_the_code_stay() {
        let mut chip = chip();
        let dense = cost(&chip);
        root(&mut chip).compression = Some(Compression {
            coding: Coding::Bitmask,
            operands: OperandSet::of(&[Operand::Weight]),
        });
        let mut coded = dense.clone();
        apply(&chip, &DATA, &mut coded);
        assert_eq!(coded, dense);
        root(&mut chip).compression = Some(Compression {
            coding: Coding::Bitmask,
            operands: OperandSet::ALL,
        });
        let full = Data {
            density: [1.0; 3],
            ..DATA
        };
        apply(&chip, &full, &mut coded);
        assert_eq!(coded.counts, dense.counts);
    }

    #[test]
    fn gates_save_energy_and_no_time() {
        let gate = Gating {
            by: OperandSet::of(&[Operand::Input, Operand::Output]),
            rest: 0.2,
        };
        // Open for an eighth of the data.
        assert!((gate.share(DATA.density) - (0.125 + 0.875 * 0.2)).abs() < 1e-12);
        let mut chip = chip();
        let mut gated = cost(&chip);
        let dense = gated.clone();
        root(&mut chip).gating = Some(gate);
        apply(&chip, &DATA, &mut gated);
        assert_eq!((gated.time, &gated.counts), (dense.time, &dense.counts));
        assert!(gated.energy_total() < dense.energy_total());
    }

    #[test]
    fn structured_sparsity_halves_macs() {
        let mut cost = Cost {
            compute_cycles: 100.0,
            busy: vec![(Resource::Compute, Seconds(120.0))],
            energy: vec![crate::cost::EnergyEntry {
                component: "mac".into(),
                action: "mac",
                energy: Joules(4.0),
            }],
            ..Cost::default()
        };
        skip(&mut cost, "mac", 0.5, Seconds(1.0));
        // What the array waits for besides stays.
        assert_eq!((cost.compute_cycles, cost.time), (50.0, Seconds(70.0)));
        assert_eq!(cost.energy_total(), Joules(2.0));
    }
}
