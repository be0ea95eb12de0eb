//! What a mapping costs: counts, time by resource and energy by component and action.
//!
//! The time of an op is the time of its busiest resource plus what cannot overlap:
//!
//! ```text
//! T = latency + max over resources (busy time)
//! busy(compute)      = cycles / clock                      cycles = sum over temporal iterations of 1/rate
//! busy(memory port)  = bytes / rate of long streams                worst instance; reads + writes where shared
//! latency            = launch, array fill and drain, first tiles in and last tiles out, as far as the busiest
//!                      resource does not work meanwhile (see [`crate::analysis`])
//! ```
//!
//! Energy of memory accesses is bits x energy per bit, of MACs executed MACs x energy of the mode, of wires bits
//! delivered x hop energy. Static energy is added over the whole network's time, not here.

use presil_hwmodels::{NodeId, Operand};
use presil_numerics::{Joules, Seconds};
use serde::Serialize;

/// What can limit an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Resource {
    /// The compute nodes of an array.
    Compute,
    /// A memory's port(s).
    Memory(NodeId),
    /// The busiest link of a fanout's network.
    Network(NodeId),
    /// A vector unit's lanes.
    Vector,
    /// The host processor.
    Host,
    /// What overlaps with nothing: launch, fill, drain, handover.
    #[default]
    Latency,
}

/// Exact accesses of one memory by one operand, summed over instances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryCount {
    /// The memory.
    pub memory: NodeId,
    /// The operand.
    pub operand: Operand,
    /// Elements read out of it (to below, or drained to above).
    pub reads: u128,
    /// Elements written into it (filled from above, or updated from below).
    pub writes: u128,
    /// Bits read (partial sums are wider than final results).
    pub read_bits: f64,
    /// Bits written.
    pub write_bits: f64,
}

/// Energy of one action of one component.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EnergyEntry {
    /// Component name as in the chip file.
    pub component: String,
    /// "read", "write", "mac", "hop", "lane", "static" ...
    pub action: &'static str,
    /// Energy.
    pub energy: Joules,
}

/// What one run of one op costs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cost {
    /// MACs inside the domain.
    pub executed_macs: u128,
    /// Compute cycles of the busiest instance.
    pub compute_cycles: f64,
    /// Instances of the compute node that work, at most.
    pub instances_used: u64,
    /// Accesses by memory and operand.
    pub counts: Vec<MemoryCount>,
    /// Busy time by resource; for a memory that of its busiest instance.
    pub busy: Vec<(Resource, Seconds)>,
    /// Launch, fill, drain: what overlaps with nothing.
    pub latency: Seconds,
    /// Total time: latency + largest busy time.
    pub time: Seconds,
    /// Dynamic energy by component and action.
    pub energy: Vec<EnergyEntry>,
}

impl Cost {
    /// The resource that takes longest; [`Resource::Latency`] if latency is more than half the time.
    pub fn bottleneck(&self) -> Resource {
        let worst = self
            .busy
            .iter()
            .fold(None::<&(Resource, Seconds)>, |best, b| match best {
                Some(x) if x.1.0 >= b.1.0 => Some(x),
                _ => Some(b),
            });
        match worst {
            Some((resource, t)) if t.0 >= self.latency.0 => *resource,
            _ => Resource::Latency,
        }
    }

    /// Dynamic energy in all.
    pub fn energy_total(&self) -> Joules {
        self.energy.iter().map(|e| e.energy).sum()
    }
}
