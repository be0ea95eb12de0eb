//! What one channel of a DRAM reaches of its peak, by what is asked of it.
//!
//! Nothing is simulated: a pattern of requests is reduced to times that its parts need, and the largest counts. With
//! bursts of duration `b`, rows (pages) of `p` bursts, and controllers that keep requests in queues:
//!
//! ```text
//! efficiency = b / time of a burst x (1 - refresh)
//! refresh    = (tRFC + tRP + tRCD) / tREFI            all rows are closed before and opened after it
//! turn       = (CL - CWL + tRTRS) + (CWL + tWTR)      idle bus: reads to writes and back, once for each group of writes
//! ```
//!
//! *Groups.* A controller collects writes and drains them when its queue of writes is full: reads and writes turn the
//! bus once for as many written bursts as that queue holds, or as come one behind the other if those are more
//! ([`Queues`]).
//!
//! *Bank groups.* Bursts of one bank group are `tCCD_L` apart, those of different ones `b`. Where the address order
//! ([`order`]) puts the bits of the bank group below those of the column, neighbours lie in different ones. Where it
//! puts them above, `n` neighbours lie in one group, and only what the controller sees of the next group meanwhile
//! runs beside it:
//!
//! ```text
//! seen         = queue of reads + queue of a bank - tRCD / tCCD_L
//! time of each = max(b, (1 - seen / n) tCCD_L)
//! ```
//!
//! *Rows.* Activations of a rank are max(tRRD, tFAW / 4) apart, those of a bank tRC; which banks a pattern reaches is
//! counted by walking its addresses ([`pattern`]).
//!
//! *Streams that meet in a bank.* Streams that read and write arrays of equal alignment, at the same pace, are all in
//! different rows of one bank, unless neighbours lie in different banks. Each change of stream then changes the row; the
//! controller puts off changes as long as its queue of that bank has requests for the open row:
//!
//! ```text
//! requests a row   = min(p, max(chunk, queue of a bank))
//! time of a row    = max(tRC, tRCD + (requests - 1) tCCD_L + tRTP + tRP)
//! time of each     = max(b, (1 - seen / n) time of a row / requests)      n: requests to a bank in a row
//! turn             = (tRTP + tRP + tRCD - b) + (CWL + b + tWR + tRP + tRCD - b)
//! ```
//!
//! The turn is longer because a row must be closed and another opened at it: after reads tRTP, after writes CWL, the
//! data and tWR are waited for first.
//!
//! Assumptions: requests come as fast as they are taken; rows stay open until another is asked for; a queue is served
//! out of order among the requests that it holds. [`Demand`]s whose rows are put off for fairness by less than a
//! bank's queue, and refreshes that fall into a time in which no rank of the pattern is busy, are not seen.
//!
//! `tests/data/dram` holds what a command-level simulator (DRAMsim3) measures for such patterns, and the parameters of
//! its channels; the tests say how far this model is from it.

pub mod order;
pub mod pattern;
pub mod reference;
#[cfg(test)]
mod tests;

use presil_numerics::{Bytes, BytesPerSecond, Seconds};

pub use order::AddressOrder;
pub use pattern::{Demand, Streams};

/// A channel with its controller.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// Bytes of a burst.
    pub burst: Bytes,
    /// Bytes of a row, all devices of the channel together.
    pub page: Bytes,
    /// Bank groups of a rank.
    pub groups: u64,
    /// Banks of a bank group.
    pub banks: u64,
    /// Ranks.
    pub ranks: u64,
    /// Durations.
    pub timing: Timing,
    /// Where addresses lie.
    pub order: AddressOrder,
    /// What the controller sees at once.
    pub queues: Queues,
}

/// Durations of a channel, by their names in data sheets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// Data of a burst on the bus.
    pub burst: Seconds,
    /// tRCD: activation of a row to its first column.
    pub rcd: Seconds,
    /// tRP: closing of a row.
    pub rp: Seconds,
    /// tRC: activation to activation of one bank.
    pub rc: Seconds,
    /// max(tRRD, tFAW / 4): activation to activation of one rank.
    pub activate: Seconds,
    /// CL: column to data of a read.
    pub cl: Seconds,
    /// CWL: column to data of a write.
    pub cwl: Seconds,
    /// tCCD_L: column to column in one bank group.
    pub ccd_l: Seconds,
    /// tWTR_S: data of a write to a read in another bank group.
    pub wtr: Seconds,
    /// tWR: data of a write to the closing of its row.
    pub wr: Seconds,
    /// tRTP: a read to the closing of its row.
    pub rtp: Seconds,
    /// tRTRS: the bus changes its driver, between ranks and at turns.
    pub rtrs: Seconds,
    /// tRFC: a refresh.
    pub rfc: Seconds,
    /// tREFI: refresh to refresh of a rank.
    pub refi: Seconds,
}

/// Requests, in bursts, that a controller holds and chooses from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queues {
    /// Reads that wait.
    pub reads: u64,
    /// Writes that are collected; a full queue is drained.
    pub writes: u64,
    /// Commands of one bank.
    pub bank: u64,
}

impl Channel {
    /// Peak rate.
    pub fn peak(&self) -> BytesPerSecond {
        BytesPerSecond(self.burst.0 as f64 / self.timing.burst.0)
    }

    /// The share of time that refresh takes.
    pub fn refresh(&self) -> f64 {
        let t = &self.timing;
        ((t.rfc + t.rp + t.rcd).0 / t.refi.0).clamp(0.0, 1.0)
    }

    /// Idle time of the bus from reads to writes and back.
    pub fn turn(&self) -> Seconds {
        let t = &self.timing;
        t.cl - t.cwl + t.rtrs + t.cwl + t.wtr
    }

    /// The same where the row changes as well, in one bank.
    pub fn turn_of_rows(&self) -> Seconds {
        let t = &self.timing;
        let opened = t.rp + t.rcd;
        (t.rtp + opened - t.burst) + (t.cwl + t.wr + opened)
    }

    /// Written bytes that one turn is paid for, at least.
    pub fn write_group(&self) -> Bytes {
        Bytes(self.queues.writes.max(1).saturating_mul(self.burst.0))
    }

    /// Bursts of a row.
    pub fn page_bursts(&self) -> u64 {
        (self.page.0 / self.burst.0.max(1)).max(1)
    }

    /// The time of each of `n` bursts that follow each other in one place (a bank, a bank group) which takes `alone`
    /// for each, if what the controller sees of the next place runs beside them.
    fn overlapped(&self, n: u64, alone: f64) -> f64 {
        let seen = (self.queues.reads + self.queues.bank) as f64 - self.timing.rcd.0 / alone;
        let left = 1.0 - (seen / n.max(1) as f64).clamp(0.0, 1.0);
        (left * alone).max(self.timing.burst.0)
    }
}

/// The rate that requests in flight allow, by Little's law: each is answered after the latency.
pub fn in_flight(requests: u64, bytes: Bytes, latency: Seconds) -> BytesPerSecond {
    let flying = requests as f64 * bytes.0 as f64;
    BytesPerSecond(if latency.0 > 0.0 {
        flying / latency.0
    } else {
        f64::INFINITY
    })
}
