//! Rows of `tests/data/dram`: what a command-level simulator measured of a channel, and the channel.
//!
//! Patterns are `seq_rd`, `seq_wr`, `rand_rd`, `rand_mix` (a third written), `tile_BYTES` (runs of so many bytes, 8 KiB
//! apart) and `mix_BYTES` (two read streams and a written one that take turns in such chunks, their arrays aligned).

use presil_numerics::{Bytes, Seconds};
use serde::Deserialize;

use super::{AddressOrder, Channel, Demand, Queues, Streams, Timing};

/// A channel of `channels.csv`, its durations in cycles.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ChannelRow {
    /// Configuration file that it is.
    pub ini: String,
    /// Name of the mapping of addresses.
    pub mapping: String,
    tck_ns: f64,
    burst_bytes: u64,
    page_bytes: u64,
    groups: u64,
    banks: u64,
    ranks: u64,
    order: String,
    burst: f64,
    rcd: f64,
    rp: f64,
    rc: f64,
    activate: f64,
    cl: f64,
    cwl: f64,
    ccd_l: f64,
    wtr: f64,
    wr: f64,
    rtp: f64,
    rtrs: f64,
    rfc: f64,
    refi: f64,
    reads: u64,
    writes: u64,
    bank: u64,
}

impl ChannelRow {
    /// The channel; none where the order of its addresses is none.
    pub fn channel(&self) -> Option<Channel> {
        let order: AddressOrder = self.order.parse().ok()?;
        let t = |cycles: f64| Seconds(cycles * self.tck_ns * 1e-9);
        Some(Channel {
            burst: Bytes(self.burst_bytes),
            page: Bytes(self.page_bytes),
            groups: self.groups,
            banks: self.banks,
            ranks: self.ranks,
            timing: Timing {
                burst: t(self.burst),
                rcd: t(self.rcd),
                rp: t(self.rp),
                rc: t(self.rc),
                activate: t(self.activate),
                cl: t(self.cl),
                cwl: t(self.cwl),
                ccd_l: t(self.ccd_l),
                wtr: t(self.wtr),
                wr: t(self.wr),
                rtp: t(self.rtp),
                rtrs: t(self.rtrs),
                rfc: t(self.rfc),
                refi: t(self.refi),
            },
            order,
            queues: Queues {
                reads: self.reads,
                writes: self.writes,
                bank: self.bank,
            },
        })
    }
}

/// A measurement.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct EfficiencyRow {
    /// Configuration file of the channel.
    pub ini: String,
    /// Name of the mapping of addresses.
    pub mapping: String,
    /// Pattern.
    pub pattern: String,
    /// Share of the peak that was reached.
    pub eff: f64,
}

impl EfficiencyRow {
    /// What is asked of the channel; none where the pattern is none.
    pub fn demand(&self) -> Option<Demand> {
        let bytes = |text: &str| text.parse().ok().map(Bytes);
        Some(match self.pattern.split_once('_')? {
            ("seq", _) => Demand::Stream,
            ("rand", "rd") => Demand::Random { written: 0.0 },
            ("rand", "mix") => Demand::Random { written: 1.0 / 3.0 },
            ("tile", length) => Demand::Runs {
                length: bytes(length)?,
                pitch: Bytes(8192),
            },
            ("mix", chunk) => Demand::Streams(Streams {
                reads: 2,
                writes: 1,
                chunk: bytes(chunk)?,
                aligned: true,
            }),
            _ => return None,
        })
    }

    /// The relative error that is asked for; none where parameters of the channel are not known well enough, or nothing
    /// but a report is.
    pub fn tolerance(&self) -> Option<f64> {
        match (&*self.ini, &*self.pattern) {
            ("HBM2_8Gb_x128", p) if p.contains("mix") => Some(0.1),
            ("HBM2_8Gb_x128", _) => Some(0.03),
            ("DDR4_8Gb_x8_3200", "seq_rd") => Some(0.05),
            _ => None,
        }
    }
}
