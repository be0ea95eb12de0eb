//! Accounts of what moves: reads and writes by memory and operand, and the Cost that they make.
//!
//! Everything that is no mapped MAC einsum (vector passes, moves, host ops, epilogues) is counted here, in whole
//! elements and stored bits, and closed into a [`Cost`] by the same equations as a mapping's:
//!
//! ```text
//! busy(memory)   = read bytes / read rate + write bytes / write rate    one shared port
//!                = max of the two                                        two ports
//! energy(memory) = read bits x read energy + write bits x write energy
//! time           = latency + largest busy time
//! ```
//!
//! Rates are those of long streams ([`presil_hwmodels::Memory::streams`]). A memory of several instances is taken to share the bytes evenly.

use presil_hwmodels::{Chip, NodeId, Operand};
use presil_numerics::Seconds;

use crate::cost::{Cost, EnergyEntry, MemoryCount, Resource};

/// A tensor, or the part of it that an op touches, where it is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stored {
    /// The memory that holds it.
    pub home: NodeId,
    /// Element format.
    pub format: presil_numerics::Format,
    /// Elements of the whole tensor.
    pub elements: u64,
    /// Mean stored bits of an element, scales included.
    pub bits: f64,
    /// Mean bits of the elements alone.
    pub payload: f64,
    /// The role that its traffic is booked under.
    pub role: Operand,
}

/// Reads and writes of an op, and where they are booked.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    counts: Vec<MemoryCount>,
}

impl Ledger {
    /// The accounts of a cost, to add to.
    pub fn of(cost: &Cost) -> Self {
        Self {
            counts: cost.counts.clone(),
        }
    }

    fn slot(&mut self, memory: NodeId, operand: Operand) -> &mut MemoryCount {
        let at = self
            .counts
            .iter()
            .position(|c| c.memory == memory && c.operand == operand)
            .unwrap_or(self.counts.len());
        if at == self.counts.len() {
            self.counts.push(MemoryCount {
                memory,
                operand,
                reads: 0,
                writes: 0,
                read_bits: 0.0,
                write_bits: 0.0,
            });
        }
        &mut self.counts[at]
    }

    /// Books elements read out of a memory.
    pub fn read(&mut self, memory: NodeId, operand: Operand, elements: u128, bits: f64) {
        let slot = self.slot(memory, operand);
        slot.reads += elements;
        slot.read_bits += elements as f64 * bits;
    }

    /// Books elements written into a memory.
    pub fn write(&mut self, memory: NodeId, operand: Operand, elements: u128, bits: f64) {
        let slot = self.slot(memory, operand);
        slot.writes += elements;
        slot.write_bits += elements as f64 * bits;
    }

    /// Books bits that belong to elements already counted (scales).
    pub fn beside(&mut self, memory: NodeId, operand: Operand, read_bits: f64, write_bits: f64) {
        if read_bits + write_bits > 0.0 {
            let slot = self.slot(memory, operand);
            slot.read_bits += read_bits;
            slot.write_bits += write_bits;
        }
    }

    /// Books a transfer between two memories; nothing where they are one.
    pub fn transfer(
        &mut self,
        from: NodeId,
        to: NodeId,
        operand: Operand,
        elements: u128,
        bits: f64,
    ) {
        if from != to {
            self.read(from, operand, elements, bits);
            self.write(to, operand, elements, bits);
        }
    }

    /// Adds other accounts.
    pub fn merge(&mut self, other: &Self) {
        for c in &other.counts {
            let slot = self.slot(c.memory, c.operand);
            slot.reads += c.reads;
            slot.writes += c.writes;
            slot.read_bits += c.read_bits;
            slot.write_bits += c.write_bits;
        }
    }

    /// A share of these accounts. Elements are rounded, bits are not.
    #[must_use]
    pub fn share(&self, share: f64) -> Self {
        let part = |n: u128| (n as f64 * share).round() as u128;
        let counts = self.counts.iter().map(|c| MemoryCount {
            reads: part(c.reads),
            writes: part(c.writes),
            read_bits: c.read_bits * share,
            write_bits: c.write_bits * share,
            ..*c
        });
        Self {
            counts: counts.collect(),
        }
    }

    /// Bits read from and written to a memory.
    pub fn bits(&self, memory: NodeId) -> (f64, f64) {
        bits(&self.counts, memory)
    }

    /// Bits of weights read from a memory.
    pub fn weight_bits(&self, memory: NodeId) -> f64 {
        let own = self
            .counts
            .iter()
            .filter(|c| c.memory == memory && c.operand == Operand::Weight);
        own.fold(0.0, |sum, c| sum + c.read_bits)
    }

    /// The cost of these accounts alone, with what else is busy and what overlaps with nothing.
    pub fn close(
        self,
        chip: &Chip,
        other: &[(Resource, Seconds)],
        latency: Seconds,
        mut energy: Vec<EnergyEntry>,
    ) -> Cost {
        let mut busy = other.to_vec();
        for (id, node) in chip.nodes.iter_ids() {
            let (read, written) = self.bits(id);
            if read + written > 0.0 {
                busy.push((Resource::Memory(id), port_time(chip, id, read, written)));
                if let Some(m) = node.memory() {
                    add_energy(&mut energy, &node.name, "read", m.read_energy.0 * read);
                    add_energy(&mut energy, &node.name, "write", m.write_energy.0 * written);
                }
            }
        }
        let mut cost = Cost {
            counts: self.counts,
            busy,
            latency,
            energy,
            ..Cost::default()
        };
        cost.time = latency + longest(&cost.busy);
        cost
    }
}

/// Bits read from and written to a memory, by counts.
pub fn bits(counts: &[MemoryCount], memory: NodeId) -> (f64, f64) {
    let own = counts.iter().filter(|c| c.memory == memory);
    own.fold((0.0, 0.0), |(r, w), c| (r + c.read_bits, w + c.write_bits))
}

/// Busy time of a memory's ports, its instances sharing the bits evenly. Zero for nodes that are no memory.
pub fn port_time(chip: &Chip, memory: NodeId, read_bits: f64, write_bits: f64) -> Seconds {
    let node = &chip.nodes[memory];
    let Some(m) = node.memory() else {
        return Seconds::ZERO;
    };
    let scale = 8.0 * node.instances.max(1) as f64;
    let [reads, writes] = m.streams();
    let time = |bits: f64, rate: f64| {
        if bits > 0.0 {
            bits / (rate * scale)
        } else {
            0.0
        }
    };
    let (read, write) = (time(read_bits, reads.0), time(write_bits, writes.0));
    Seconds(if m.shared_port {
        read + write
    } else {
        read.max(write)
    })
}

/// Adds energy to the entry of a component and action, which it makes if there is none.
pub fn add_energy(
    entries: &mut Vec<EnergyEntry>,
    component: &str,
    action: &'static str,
    joules: f64,
) {
    if joules == 0.0 {
        return;
    }
    match entries
        .iter_mut()
        .find(|e| e.action == action && e.component == component)
    {
        Some(e) => e.energy += presil_numerics::Joules(joules),
        None => entries.push(EnergyEntry {
            component: component.into(),
            action,
            energy: presil_numerics::Joules(joules),
        }),
    }
}

/// Adds busy time to a resource.
pub fn add_busy(busy: &mut Vec<(Resource, Seconds)>, resource: Resource, time: Seconds) {
    match busy.iter_mut().find(|b| b.0 == resource) {
        Some(b) => b.1 += time,
        None if time.0 > 0.0 => busy.push((resource, time)),
        None => {}
    }
}

/// The longest busy time.
pub fn longest(busy: &[(Resource, Seconds)]) -> Seconds {
    busy.iter().fold(Seconds::ZERO, |t, b| t.max(b.1))
}

/// Adds traffic to a cost: counts, energy, and the busy time of the memories by what the bytes add to it.
pub fn add_traffic(chip: &Chip, cost: &mut Cost, extra: Ledger) {
    let mut sum = Ledger::of(cost);
    sum.merge(&extra);
    for (id, node) in chip.nodes.iter_ids() {
        let (read, written) = extra.bits(id);
        if read + written == 0.0 {
            continue;
        }
        let (old_read, old_written) = bits(&cost.counts, id);
        let before = port_time(chip, id, old_read, old_written);
        let after = port_time(chip, id, old_read + read, old_written + written);
        add_busy(&mut cost.busy, Resource::Memory(id), after - before);
        if let Some(m) = node.memory() {
            add_energy(&mut cost.energy, &node.name, "read", m.read_energy.0 * read);
            add_energy(
                &mut cost.energy,
                &node.name,
                "write",
                m.write_energy.0 * written,
            );
        }
    }
    cost.counts = sum.counts;
    cost.time = cost.latency + longest(&cost.busy);
}

/// The cost of running something `times` in sequence.
pub fn repeat(mut cost: Cost, times: u64) -> Cost {
    let n = times as f64;
    cost.executed_macs *= u128::from(times);
    for c in &mut cost.counts {
        c.reads *= u128::from(times);
        c.writes *= u128::from(times);
        c.read_bits *= n;
        c.write_bits *= n;
    }
    stretch(&mut cost, n);
    cost
}

/// Multiplies cycles, seconds and joules.
fn stretch(cost: &mut Cost, by: f64) {
    cost.compute_cycles *= by;
    for b in &mut cost.busy {
        b.1 = b.1 * by;
    }
    for e in &mut cost.energy {
        e.energy = e.energy * by;
    }
    cost.latency = cost.latency * by;
    cost.time = cost.time * by;
}

/// Adds the cost of something else that runs after what `sum` is the cost of.
pub fn add(sum: &mut Cost, cost: &Cost) {
    sum.executed_macs += cost.executed_macs;
    sum.compute_cycles += cost.compute_cycles;
    sum.instances_used = sum.instances_used.max(cost.instances_used);
    let mut counts = Ledger::of(sum);
    counts.merge(&Ledger::of(cost));
    sum.counts = counts.counts;
    for b in &cost.busy {
        add_busy(&mut sum.busy, b.0, b.1);
    }
    for e in &cost.energy {
        add_energy(&mut sum.energy, &e.component, e.action, e.energy.0);
    }
    sum.latency += cost.latency;
    sum.time += cost.time;
}

/// The share of a cost that falls on one of several equal parts. Counts of elements are rounded.
pub fn scale(mut cost: Cost, share: f64) -> Cost {
    let counts = Ledger::of(&cost).share(share);
    cost.counts = counts.counts;
    cost.executed_macs = (cost.executed_macs as f64 * share).round() as u128;
    stretch(&mut cost, share);
    cost
}
