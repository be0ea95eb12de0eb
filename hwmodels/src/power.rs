//! Operating points, and what a chip draws between passes.
//!
//! An operating point is a supply voltage `V` of the die and a frequency `f` of each of its clocks. Against the file's own voltage
//! `V0` and frequency `f0` (the first point of the list if it says so, else what `[technology]` and `[[clock]]` say):
//!
//! | figure | at the point | why |
//! |---|---|---|
//! | rates of memories, lanes and MACs on a clock | x f / f0 | a word per port and cycle |
//! | latencies of memories on a clock | x f0 / f | so many cycles |
//! | dynamic energy on the die | x (V / V0)^2 | C V^2 of a node that switches |
//! | leakage on the die | x V / V0 | leakage current taken as constant, as the technology tables do |
//!
//! DRAM, flash, the host, launches and `other.power` are not the die's supply and keep what they have. A memory that names no clock
//! is on that of the array below it. That a chip works at the point (timing closes at that voltage) is what its file states.
//!
//! Between passes a chip stays on (its static power), goes *idle* (clocks off, everything kept) or *sleeps* (supply off but for what
//! wakes it). After a sleep that keeps nothing the next pass begins with cold weights.

use presil_numerics::{
    BytesPerSecond, ClockDomain, Hertz, Joules, JoulesPerBit, Seconds, Volts, Watts,
};

use crate::chip::{Chip, ClockId, EngineKind, MemoryKind, NodeId, NodeKind};
use crate::resolve::hash;

/// What a chip can do to draw less.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PowerStates {
    /// Supply voltage of the die that the chip's figures hold for.
    pub voltage: Volts,
    /// Operating points, in the order of the file.
    pub points: Vec<OperatingPoint>,
    /// Power of the whole chip with its memory while it waits, clocks off.
    pub idle: Option<Watts>,
    /// Its sleep.
    pub sleep: Option<Sleep>,
}

/// A supply voltage and the clocks that go with it.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatingPoint {
    /// Name ("low").
    pub name: String,
    /// Supply voltage of the die.
    pub voltage: Volts,
    /// Frequencies; clocks that are not among them keep theirs.
    pub clocks: Vec<(ClockId, Hertz)>,
}

/// Supply off but for what wakes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sleep {
    /// Power of the whole chip with its memory.
    pub power: Watts,
    /// From the wish to work to the first op.
    pub wake: Seconds,
    /// Energy of going to sleep and waking up.
    pub wake_energy: Joules,
    /// Whether memories on chip keep what they hold.
    pub retains: bool,
}

impl Chip {
    /// The chip at one of its operating points; none if there is no point of that name.
    pub fn at_point(&self, name: &str) -> Option<Chip> {
        let point = self.power.points.iter().find(|p| p.name == name)?;
        let mut chip = self.clone();
        let mut speed = vec![1.0; chip.clocks.len()];
        for (id, frequency) in &point.clocks {
            let clock = chip.clocks.iter_mut().nth(id.0 as usize)?;
            if let Some(ratio) = speed.get_mut(id.0 as usize) {
                *ratio = frequency.0 / clock.domain.frequency.0;
            }
            clock.domain = ClockDomain::new(*frequency)?;
        }
        let volts = point.voltage.0 / self.power.voltage.0;
        let owners: Vec<Option<ClockId>> = chip.nodes.ids().map(|id| self.clock_of(id)).collect();
        for (node, clock) in chip.nodes.iter_mut().zip(owners) {
            let speed = clock.and_then(|c| speed.get(c.0 as usize)).copied();
            scale_node(&mut node.kind, speed.unwrap_or(1.0), volts);
        }
        for engine in chip.engines.iter_mut() {
            engine.static_power = Watts(engine.static_power.0 * volts);
            let EngineKind::Vector { modes, .. } = &mut engine.kind else {
                continue;
            };
            for cost in modes.iter_mut().flat_map(|m| &mut m.primitives).flatten() {
                cost.energy = Joules(cost.energy.0 * volts * volts);
            }
        }
        if let Some(kernels) = &mut chip.kernels {
            let energy = &mut kernels.parameters.mac_energy;
            *energy = Joules(energy.0 * volts * volts);
        }
        chip.power.voltage = point.voltage;
        chip.name = format!("{}@{name}", self.name);
        chip.hash = hash(&chip);
        Some(chip)
    }

    /// The clock of what a node does: its own, else that of the compute below it. None off chip.
    fn clock_of(&self, id: NodeId) -> Option<ClockId> {
        match &self.nodes[id].kind {
            NodeKind::Compute(c) => Some(c.clock),
            NodeKind::Memory(m) if off_chip(m.kind) => None,
            NodeKind::Memory(m) if m.clock.is_some() => m.clock,
            _ => {
                let mut below = self.nodes.iter_ids().filter(|(_, n)| n.parent == Some(id));
                below.find_map(|(child, _)| self.clock_of(child))
            }
        }
    }
}

fn off_chip(kind: MemoryKind) -> bool {
    matches!(kind, MemoryKind::Dram | MemoryKind::Flash)
}

fn scale_node(kind: &mut NodeKind, speed: f64, volts: f64) {
    let switched = |e: JoulesPerBit| JoulesPerBit(e.0 * volts * volts);
    match kind {
        NodeKind::Memory(m) if off_chip(m.kind) => {}
        NodeKind::Memory(m) => {
            m.read_rate = BytesPerSecond(m.read_rate.0 * speed);
            m.write_rate = BytesPerSecond(m.write_rate.0 * speed);
            m.latency = Seconds(m.latency.0 / speed);
            m.setup = Seconds(m.setup.0 / speed);
            m.read_energy = switched(m.read_energy);
            m.write_energy = switched(m.write_energy);
            m.static_power = Watts(m.static_power.0 * volts);
        }
        NodeKind::Fanout(f) => f.hop_energy = switched(f.hop_energy),
        NodeKind::Compute(c) => {
            c.static_power = Watts(c.static_power.0 * volts);
            for mode in &mut c.modes {
                mode.energy = Joules(mode.energy.0 * volts * volts);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use crate::load::load;

    fn close(a: f64, b: f64, what: &str) {
        assert!(
            (a - b).abs() <= 1e-12 * a.abs().max(b.abs()),
            "{what}: {a} {b}"
        );
    }

    /// The same chip from a file that says the point's clock and voltage.
    #[test]
    fn a_point_is_what_a_file_with_its_clock_and_voltage_resolves_to() {
        let low = load("edge-npu", &[]).unwrap().at_point("low").unwrap();
        let set = |path: &str, value: &str| (path.to_string(), value.to_string());
        let sets = [
            set("core.frequency", "740 MHz"),
            set("technology.voltage", "0.6 V"),
        ];
        let stated = load("edge-npu", &sets).unwrap();
        assert_eq!(low.name, "edge-npu@low");
        for (a, b) in low.nodes.iter().zip(stated.nodes.iter()) {
            match (&a.kind, &b.kind) {
                (NodeKind::Memory(x), NodeKind::Memory(y)) => {
                    // The weights' registers state a rate that goes with the file's own clock.
                    let written = a.name == "weight_register";
                    let speed = if written { 0.74 } else { 1.0 };
                    close(x.read_rate.0, y.read_rate.0 * speed, &a.name);
                    close(x.write_rate.0, y.write_rate.0 * speed, &a.name);
                    close(x.read_energy.0, y.read_energy.0, &a.name);
                    close(x.static_power.0, y.static_power.0, &a.name);
                }
                (NodeKind::Compute(x), NodeKind::Compute(y)) => {
                    for (x, y) in x.modes.iter().zip(&y.modes) {
                        close(x.energy.0, y.energy.0, &a.name);
                    }
                    close(x.static_power.0, y.static_power.0, &a.name);
                }
                (NodeKind::Fanout(x), NodeKind::Fanout(y)) => {
                    close(x.hop_energy.0, y.hop_energy.0, &a.name);
                }
                _ => panic!("{} is another kind of node", a.name),
            }
        }
        for (a, b) in low.engines.iter().zip(stated.engines.iter()) {
            close(a.static_power.0, b.static_power.0, &a.name);
        }
        assert_eq!(low.clocks, stated.clocks);
        assert_ne!(low.hash, stated.hash);
    }

    #[test]
    fn the_point_of_the_file_changes_nothing_but_the_name() {
        let chip = load("edge-npu", &[]).unwrap();
        let nominal = chip.at_point("nominal").unwrap();
        assert_eq!(
            (&nominal.nodes, &nominal.engines),
            (&chip.nodes, &chip.engines)
        );
        assert!(chip.at_point("none").is_none());
    }
}
