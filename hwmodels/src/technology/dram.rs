//! DRAM parts: one row of `dram.csv` for each.
//!
//! `peak` is a unit's pin rate; long streams of reads reach `streaming_efficiency` of it (refresh, changes of rows); what
//! writes between reads take beside is in the durations and queues of [`DramPart::channel`]. The energy of a bit is the sum of row activation in long streams, array access, IO, and the controller's PHY on the chip's
//! side; background and refresh power is drawn whenever the chip is on.

use presil_numerics::{Bytes, Seconds};
use serde::Deserialize;

use super::{Estimate, Technology, data};
use crate::dram::{Channel, Queues, Timing};
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
    /// Bank groups of one unit.
    pub bank_groups: u64,
    /// tRCD.
    pub rcd_ns: f64,
    /// tRP.
    pub rp_ns: f64,
    /// Read latency, CL.
    pub rl_ns: f64,
    /// Write latency, CWL.
    pub wl_ns: f64,
    /// tCCD_L.
    pub ccd_l_ns: f64,
    /// tWTR_S.
    pub wtr_ns: f64,
    /// tWR.
    pub wr_ns: f64,
    /// tRTP.
    pub rtp_ns: f64,
    /// Gap of the bus from reads to writes beyond the data.
    pub rtrs_ns: f64,
    /// tRFC of all banks.
    pub rfc_ns: f64,
    /// tREFI.
    pub refi_ns: f64,
    /// Reads that the controller of a unit holds, in bursts.
    pub read_queue: u64,
    /// Writes that it collects before it drains them, in bursts.
    pub write_queue: u64,
    /// Commands that it holds for a bank, in bursts.
    pub bank_queue: u64,
    /// Order of an address's fields.
    pub address_order: String,
    /// Where durations beside those of rows, and queues, come from.
    pub timing_source: String,
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
    /// One unit with its controller.
    pub fn channel(&self) -> Channel {
        let ns = |t: f64| Seconds(t * 1e-9);
        let groups = self.bank_groups.max(1);
        Channel {
            burst: Bytes(self.burst_bytes),
            page: Bytes(self.page_bytes),
            groups,
            banks: (self.banks / groups).max(1),
            ranks: 1,
            timing: Timing {
                burst: ns(self.burst_bytes as f64 / self.peak_gb_s),
                rcd: ns(self.rcd_ns),
                rp: ns(self.rp_ns),
                rc: ns(self.row_cycle_ns),
                activate: ns(self.activate_ns),
                cl: ns(self.rl_ns),
                cwl: ns(self.wl_ns),
                ccd_l: ns(self.ccd_l_ns),
                wtr: ns(self.wtr_ns),
                wr: ns(self.wr_ns),
                rtp: ns(self.rtp_ns),
                rtrs: ns(self.rtrs_ns),
                rfc: ns(self.rfc_ns),
                refi: ns(self.refi_ns),
            },
            order: self.address_order.parse().unwrap_or_default(),
            queues: Queues {
                reads: self.read_queue,
                writes: self.write_queue,
                bank: self.bank_queue,
            },
        }
    }

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
