//! DRAM parts: one row of `dram.csv` for each.
//!
//! `peak` is a unit's pin rate; long streams reach `streaming_efficiency` of it (refresh, turnaround). The energy
//! of a bit is the sum of row activation in long streams, array access, IO, and the controller's PHY on the chip's
//! side; background and refresh power is drawn whenever the chip is on.

use serde::Deserialize;

use super::{Estimate, Technology, data};
use crate::sourced::Status;

/// A DRAM part.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct DramPart {
    /// Name, such as "LPDDR5-6400".
    pub part: String,
    /// What one unit is.
    pub unit: String,
    /// Peak of one unit in gigabytes per second.
    pub peak_gb_s: f64,
    /// Bytes of a burst.
    pub burst_bytes: u64,
    /// Fraction of the peak that long streams reach.
    pub streaming_efficiency: f64,
    /// Bytes of a row (page) of one unit.
    pub page_bytes: u64,
    /// Banks of one unit.
    pub banks: u64,
    /// Least time between the activations of two rows of different banks of a unit: max(tRRD, tFAW / 4).
    pub activate_ns: f64,
    /// Least time between the activations of two rows of one bank: tRC.
    pub row_cycle_ns: f64,
    /// Row activation in long streams.
    pub activate_pj_bit: f64,
    /// Array access.
    pub array_pj_bit: f64,
    /// IO.
    pub io_pj_bit: f64,
    /// Controller and PHY on the chip.
    pub phy_pj_bit: f64,
    /// The device's energy may be lower by this factor.
    pub low_factor: f64,
    /// The device's energy may be higher by this factor.
    pub high_factor: f64,
    /// Background and refresh power of one unit.
    pub background_mw: f64,
    /// Time from a request to its first word at no load.
    pub latency_ns: f64,
    /// How well the figures are known.
    pub status: Status,
    /// Where they come from.
    pub source: String,
}

impl DramPart {
    /// Energy of a bit read or written, in joules.
    pub fn energy(&self) -> Estimate {
        let device = self.activate_pj_bit + self.array_pj_bit + self.io_pj_bit;
        let total = |factor: f64| (device * factor + self.phy_pj_bit) * 1e-12;
        let split = format!(
            "activate {} + array {} + IO {} + PHY {} pJ/bit",
            self.activate_pj_bit, self.array_pj_bit, self.io_pj_bit, self.phy_pj_bit
        );
        Estimate {
            value: total(1.0),
            low: total(self.low_factor),
            high: total(self.high_factor),
            source: format!("{}: {split}; {}", self.part, self.source),
        }
    }
}

impl Technology {
    /// Background and refresh power of some units of a part, in watts.
    pub fn dram_background(&self, part: &DramPart, units: u64) -> Estimate {
        let watts = part.background_mw * 1e-3 * units as f64;
        let source = format!("{}: {}", part.part, part.source);
        self.constant("dram_background")
            .times(watts)
            .because(source)
    }
}

/// The part of a name.
pub fn part(name: &str) -> Option<&'static DramPart> {
    data().parts.iter().find(|p| p.part == name)
}

/// Names of all parts.
pub fn part_names() -> Vec<&'static str> {
    data().parts.iter().map(|p| p.part.as_str()).collect()
}
