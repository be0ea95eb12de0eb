//! Patterns of requests, and the time of a burst in them.

use presil_numerics::{Bytes, Seconds};

use super::Channel;

/// What is asked of a channel, without a pause.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Demand {
    /// Neighbours, all read or all written.
    Stream,
    /// Runs of neighbouring bytes, read, their starts so far apart.
    Runs {
        /// Length of one.
        length: Bytes,
        /// From the start of one to the start of the next.
        pitch: Bytes,
    },
    /// Single bursts anywhere, so many of them written, of 1.
    Random {
        /// Share of writes.
        written: f64,
    },
    /// Streams that take turns.
    Streams(Streams),
}

/// Streams that take turns, each moving a chunk before the next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Streams {
    /// Streams that are read.
    pub reads: u64,
    /// Streams that are written.
    pub writes: u64,
    /// Bytes that each moves in its turn.
    pub chunk: Bytes,
    /// Whether their arrays are of one alignment, so that they are at the same place of different rows at any time.
    pub aligned: bool,
}

/// What a walk over addresses finds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Walk {
    bursts: u64,
    activations: u64,
    /// Activations of the bank that has most.
    busiest: u64,
    ranks: u64,
    /// Bursts of one bank group, and activations of one rank, that follow each other in the mean.
    in_group: f64,
    in_rank: f64,
}

/// Bursts that are walked over, at most: several rows of every bank.
const WALKED: u64 = 1 << 16;

impl Channel {
    /// The share of the peak that a pattern reaches.
    pub fn efficiency(&self, demand: Demand) -> f64 {
        let each = self.burst_time(demand).0;
        (self.timing.burst.0 / each).min(1.0) * (1.0 - self.refresh())
    }

    /// Time of a burst in a pattern, refresh aside.
    pub fn burst_time(&self, demand: Demand) -> Seconds {
        Seconds(match demand {
            Demand::Stream => self.runs(self.page, self.page),
            Demand::Runs { length, pitch } => self.runs(length, pitch),
            Demand::Random { written } => self.random(written),
            Demand::Streams(streams) => self.streams(streams),
        })
    }

    fn runs(&self, length: Bytes, pitch: Bytes) -> f64 {
        let t = &self.timing;
        let walk = self.walk(length, pitch);
        let bursts = walk.bursts.max(1) as f64;
        let column = if self.groups > 1 && t.ccd_l > t.burst {
            self.overlapped(walk.in_group.round() as u64, t.ccd_l.0)
        } else {
            t.burst.0
        };
        let bank = walk.busiest as f64 * t.rc.0 / bursts;
        let opening = walk.activations as f64 * t.activate.0 / bursts;
        let alone = column.max(bank).max(opening);
        if walk.ranks <= 1 || opening < alone {
            return alone;
        }
        // Activations bind: another rank is opened beside as far as it is seen, and bursts of both take turns.
        let seen = (self.queues.reads + self.queues.bank) as f64;
        let beside = (1.0 - seen / walk.in_rank.max(1.0)).max(1.0 / walk.ranks as f64);
        let turns = column + t.rtrs.0;
        alone.min(turns.max(bank).max(opening * beside))
    }

    /// Walks over runs until every bank has had its turn several times.
    fn walk(&self, length: Bytes, pitch: Bytes) -> Walk {
        let burst = self.burst.0.max(1);
        let (each, step) = (length.0.div_ceil(burst).max(1), (pitch.0 / burst).max(1));
        let banks = self.ranks.max(1) * self.groups.max(1) * self.banks.max(1);
        let all = 4 * banks.saturating_mul(self.page_bursts().max(each));
        let runs = (all.min(WALKED) / each).max(1);
        let mut open: Vec<Option<u64>> = vec![None; banks as usize];
        let mut opened = vec![0u64; banks as usize];
        let mut walk = Walk::default();
        let (mut groups, mut ranks) = (1u64, 1u64);
        let mut ranks_seen = vec![false; self.ranks.max(1) as usize];
        let mut last: Option<(u64, u64)> = None;
        for run in 0..runs {
            for i in 0..each {
                let place = self.order.place(self, run * step + i);
                let bank = place.bank as usize;
                walk.bursts += 1;
                ranks_seen[place.rank as usize] = true;
                if open[bank] != Some(place.row) {
                    open[bank] = Some(place.row);
                    opened[bank] += 1;
                    walk.activations += 1;
                }
                if let Some((group, rank)) = last {
                    groups += u64::from(group != place.group);
                    ranks += u64::from(rank != place.rank);
                }
                last = Some((place.group, place.rank));
            }
        }
        walk.busiest = opened.into_iter().max().unwrap_or(0);
        walk.ranks = ranks_seen.iter().filter(|r| **r).count() as u64;
        walk.in_group = walk.bursts as f64 / groups as f64;
        walk.in_rank = walk.activations as f64 / ranks as f64;
        walk
    }

    fn random(&self, written: f64) -> f64 {
        let t = &self.timing;
        let ranks = self.ranks.max(1) as f64;
        let banks = ranks * (self.groups.max(1) * self.banks.max(1)) as f64;
        let other_rank = 1.0 - 1.0 / ranks;
        let turns = written / self.queues.writes.max(1) as f64;
        let data = t.burst.0 + other_rank * t.rtrs.0 + turns * self.turn().0;
        data.max(t.activate.0 / ranks).max(t.rc.0 / banks)
    }

    fn streams(&self, s: Streams) -> f64 {
        let t = &self.timing;
        let (reads, writes) = (s.reads.max(1) as f64, s.writes as f64);
        let chunk = s.chunk.0.div_ceil(self.burst.0.max(1)).max(1);
        // One group of writes, and the reads that come with it.
        let written = self.queues.writes.max(chunk) as f64;
        let (written, read) = match s.writes {
            0 => (0.0, written),
            _ => (written, written * reads / writes),
        };
        let turned = f64::from(u8::from(written > 0.0));
        let one_bank = s.aligned && s.reads + s.writes > 1 && !self.order.interleaves_groups();
        let time = if one_bank {
            let column = if self.groups > 1 { t.ccd_l } else { t.burst }.max(t.burst);
            let in_row = self.page_bursts().min(chunk.max(self.queues.bank));
            let row = t.rcd.0 + (in_row - 1) as f64 * column.0 + (t.rtp + t.rp).0;
            let each = row.max(t.rc.0) / in_row as f64;
            // Chunks of more than a row go on in the next bank before the other stream comes.
            let to_bank = match chunk < self.page_bursts() {
                true => self.page_bursts().saturating_mul(s.reads.max(1)),
                false => self.page_bursts(),
            };
            let turn = self.turn_of_rows().0 * turned;
            read * self.overlapped(to_bank, each) + written * column.0 + turn
        } else {
            let column = self.runs(self.page, self.page);
            (read + written) * column + self.turn().0 * turned
        };
        time / (read + written)
    }
}
