//! Bursts and rows: what short runs of a tile cost a DRAM.
//!
//! A tile of an operand at home in a DRAM is a set of *runs* of neighbouring bytes, `L` long, `P` apart. With bursts of
//! `B` bytes, and pages of `W` bytes over all `c` channels ([`presil_hwmodels::Rows`]):
//!
//! ```text
//! bytes of bursts  = ceil(L / g) g + B - g        starts are multiples of g = gcd(P, B); no more than P
//! activations      = P / W         if P < W       several runs in an open row
//!                    max(1, L / W) else
//! banks reached    = banks / gcd(banks, P / W)    if P is a multiple of W, else all
//! time of a run    = max(bytes of bursts / rate, activations x max(tRRD, tFAW / 4, tRC / banks reached) / c)
//! ```
//!
//! [`stretch`] tells both against `L / rate`, what the run would take in a long stream; refresh, turns of the bus and
//! requests in flight are in the rate, as for streams ([`Memory::streams`]). The form and its check are those of `tests/data/dram`: it agrees with DRAMsim3's
//! sequential, random and tiled reads of an HBM2 channel to 1.4 %. Other streams that open other rows in between are
//! not in it.
//!
//! *Runs of a tile.* Ranks in the order of their pitch, the smallest first: as long as a rank is whole in the tile and
//! the next one follows without padding, runs go on through it. A rank that is touched with gaps (a stride) ends them.
//! Operands without a place of their own ([`crate::problem::Lies`]: weights, which are packed for the mapping before
//! they are loaded, one tile after the other) are streams.

use presil_hwmodels::Memory;
use presil_workloads::{Access, Affine, DimId};
use smallvec::SmallVec;

use crate::problem::Lies;

/// Runs of a tile, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Runs {
    /// Length of one.
    pub length: f64,
    /// From the start of one to the start of the next.
    pub pitch: f64,
}

/// What runs take against a long stream: both at least 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// Time.
    pub time: f64,
    /// Bytes that cross the memory's pins.
    pub bytes: f64,
}

impl Stretch {
    /// That of a long stream.
    pub const NONE: Self = Self {
        time: 1.0,
        bytes: 1.0,
    };
}

/// What runs take when read and when written, against the memory's long streams.
pub fn stretches(memory: &Memory, runs: Runs) -> [Stretch; 2] {
    let refresh = memory.streaming_efficiency;
    memory
        .streams()
        .map(|rate| stretch(memory, rate.0 / refresh, runs))
}

/// What runs in a memory take against a long stream of a rate in bytes per second, refresh aside.
pub fn stretch(memory: &Memory, rate: f64, runs: Runs) -> Stretch {
    let (length, pitch) = (runs.length.max(1.0), runs.pitch.max(runs.length).max(1.0));
    let burst = memory.burst.0.max(1);
    let grain = gcd(pitch.round() as u64, burst) as f64;
    let burst = burst as f64;
    let whole = (length / grain).ceil() * grain + burst - grain;
    let bytes = whole.min(pitch).max(length);
    let opening = memory.rows.map_or(0.0, |rows| {
        let page = (rows.page.0 as f64).max(1.0);
        let activations = if pitch < page {
            pitch / page
        } else {
            (length / page).max(1.0)
        };
        let step = pitch / page;
        let banks = rows.banks.max(1);
        let reached = if step >= 1.0 && step.fract() == 0.0 {
            banks / gcd(banks, step as u64)
        } else {
            banks
        };
        let each = rows.activate.0.max(rows.row_cycle.0 / reached as f64);
        activations * each / rows.channels.max(1) as f64
    });
    let time = (bytes / rate).max(opening);
    Stretch {
        time: (time * rate / length).max(1.0),
        bytes: bytes / length,
    }
}

/// How an operand lies at its home: what tells the runs of its tiles.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// Bytes of an element.
    element: f64,
    /// Ranks of more than one index, the smallest pitch first.
    ranks: Vec<Rank>,
}

#[derive(Debug, Clone, PartialEq)]
struct Rank {
    /// Bytes from one index to the next.
    pitch: f64,
    extent: u64,
    /// Dimensions with the sizes of their coefficients.
    terms: Vec<(usize, u64)>,
}

impl Layout {
    /// That of an operand whose elements have so many bits; `place` numbers the dimensions of tiles, and leaves out those of
    /// one iteration.
    pub fn new(
        access: &Access,
        lies: &Lies,
        bits: f64,
        place: impl Fn(DimId) -> Option<usize>,
    ) -> Self {
        let mut order: Vec<usize> = (0..access.ranks.len().min(lies.pitch_bits.len())).collect();
        order.sort_by_key(|r| (lies.pitch_bits[*r], std::cmp::Reverse(*r)));
        order.retain(|r| access.extents[*r] > 1);
        let terms = |rank: &Affine| {
            let terms = rank.terms.iter().filter(|(_, c)| *c != 0);
            let terms = terms.filter_map(|(d, c)| Some((place(*d)?, c.unsigned_abs())));
            terms.collect()
        };
        let ranks = order.iter().map(|r| Rank {
            pitch: lies.pitch_bits[*r] as f64 / 8.0,
            extent: access.extents[*r],
            terms: terms(&access.ranks[*r]),
        });
        Self {
            element: bits / 8.0,
            ranks: ranks.collect(),
        }
    }

    /// The runs of a tile with the given extent along each dimension.
    pub fn runs(&self, tile: &[u64]) -> Runs {
        let mut length = self.element;
        for rank in &self.ranks {
            let (reach, dense) = rank.span(tile);
            let reach = reach.min(rank.extent);
            if reach <= 1 {
                // The tile has one row of this rank: what lies beyond is reached by no other run of the same rank.
                let pitch = self.next_pitch(tile, rank.pitch);
                return Runs { length, pitch };
            }
            // Rows are padded, or the rank inside is not whole: runs end here.
            if rank.pitch > length * (1.0 + 1e-9) || !dense {
                let pitch = rank.pitch * rank.gap(tile);
                return Runs { length, pitch };
            }
            length = rank.pitch * reach as f64;
            if reach < rank.extent {
                let pitch = self.next_pitch(tile, rank.pitch * rank.extent as f64);
                return Runs { length, pitch };
            }
        }
        Runs {
            length,
            pitch: length,
        }
    }

    /// Bytes from one index to the next of each rank; in a tile that lies by itself, if one is given.
    pub fn pitches(&self, alone: Option<&Vec<u64>>) -> Vec<f64> {
        let Some(tile) = alone else {
            return self.ranks.iter().map(|r| r.pitch).collect();
        };
        let mut pitch = self.element;
        let mut pitches = Vec::with_capacity(self.ranks.len());
        for rank in &self.ranks {
            pitches.push(pitch);
            pitch *= rank.span(tile).0.min(rank.extent) as f64;
        }
        pitches
    }

    /// Bytes from an element to that of the next index of a dimension.
    pub fn step(&self, pitches: &[f64], dim: usize) -> f64 {
        let ranks = self.ranks.iter().zip(pitches);
        let of = |(rank, pitch): (&Rank, &f64)| {
            let own = rank.terms.iter().filter(|(d, _)| *d == dim);
            own.map(|(_, c)| *c as f64 * pitch).sum::<f64>()
        };
        ranks.map(of).sum()
    }

    /// The least pitch, at least so large, of a rank in which the tile has several rows.
    fn next_pitch(&self, tile: &[u64], least: f64) -> f64 {
        let several = self.ranks.iter().filter(|r| r.span(tile).0 > 1);
        let pitches = several
            .map(|r| r.pitch * r.gap(tile))
            .filter(|p| *p >= least * (1.0 - 1e-9));
        let found = pitches.fold(f64::INFINITY, f64::min);
        if found.is_finite() { found } else { least }
    }
}

impl Rank {
    /// Rows from the first to the last that a tile touches, and whether it touches all of them.
    fn span(&self, tile: &[u64]) -> (u64, bool) {
        let terms = self.terms.iter().map(|(d, c)| (*c, tile[*d].max(1) - 1));
        let mut terms: SmallVec<[(u64, u64); 4]> = terms.filter(|(_, t)| *t > 0).collect();
        terms.sort_unstable();
        let (mut reach, mut dense) = (1u64, true);
        for (c, t) in terms {
            dense &= c <= reach;
            reach = reach.saturating_add(c.saturating_mul(t));
        }
        (reach, dense)
    }

    /// Rows from one that a tile touches to the next.
    fn gap(&self, tile: &[u64]) -> f64 {
        let moving = self.terms.iter().filter(|(d, _)| tile[*d] > 1);
        moving.map(|(_, c)| *c).min().unwrap_or(1) as f64
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use presil_hwmodels::{MemoryKind, Rows};
    use presil_numerics::ids::Id;
    use presil_numerics::{Bytes, BytesPerSecond, Seconds};
    use presil_workloads::einsum::Place;
    use proptest::prelude::*;

    const RATE: f64 = 32e9;
    const REFRESH: f64 = 1.0 - 260.0 / 3900.0;

    /// The channel of the DRAMsim3 rows: 128 bits at 2 Gb/s; timings of its configuration file.
    fn hbm2() -> Memory {
        Memory {
            kind: MemoryKind::Dram,
            read_rate: BytesPerSecond(RATE),
            write_rate: BytesPerSecond(RATE),
            streaming_efficiency: 1.0,
            burst: Bytes(64),
            rows: Some(Rows {
                page: Bytes(2048),
                banks: 16,
                channels: 1,
                activate: Seconds(7.5e-9),
                row_cycle: Seconds(48e-9),
            }),
            ..crate::oracle::chips::memory()
        }
    }

    #[test]
    fn reads_of_an_hbm2_channel_are_those_of_dramsim3() {
        let file = include_str!("../../../tests/data/dram/dram_efficiency_dramsim3.csv");
        let mut reader = csv::Reader::from_reader(file.as_bytes());
        let mut seen = 0;
        for row in reader.records().map(Result::unwrap) {
            let runs = match &row[4] {
                "seq_rd" | "seq_wr" => Runs {
                    length: 2048.0,
                    pitch: 2048.0,
                },
                // An odd number of pages: all banks are reached.
                "rand_rd" => Runs {
                    length: 64.0,
                    pitch: 2048.0 * 1001.0,
                },
                tile if tile.starts_with("tile_") => Runs {
                    length: tile[5..].parse().unwrap(),
                    pitch: 8192.0,
                },
                _ => continue,
            };
            // Row pitch of the other mapping is not known.
            let other = &row[2] != "default" && row[4].starts_with("tile_");
            if &row[1] != "HBM2_8Gb_x128" || other {
                continue;
            }
            let efficiency: f64 = row[8].parse().unwrap();
            let stretch = stretch(&hbm2(), RATE, runs);
            let ours = REFRESH / stretch.time;
            assert!(
                (ours / efficiency - 1.0).abs() < 0.015,
                "{}: {ours} against {efficiency}",
                &row[4]
            );
            assert_eq!(stretch.bytes, 1.0);
            seen += 1;
        }
        assert_eq!(seen, 9);
    }

    #[test]
    fn bursts_are_whole() {
        let mut memory = hbm2();
        memory.rows = None;
        let of = |length, pitch| stretch(&memory, RATE, Runs { length, pitch });
        // 16 of each 64 bytes: a burst a run.
        assert_eq!(of(16.0, 64.0).bytes, 4.0);
        // 16 of each 24 bytes: bursts are shared, so all 24.
        assert_eq!(of(16.0, 24.0).bytes, 1.5);
        // 96 bytes from a multiple of 32: two bursts or, half of the times, 128 bytes; never the third.
        assert_eq!(of(96.0, 1024.0 + 32.0).bytes, (96.0 + 32.0) / 96.0);
        assert_eq!(of(96.0, 1024.0).bytes, 128.0 / 96.0);
        assert_eq!(of(1024.0, 4096.0).time, 1.0);
    }

    fn runs(access: &Access, lies: &Lies, tile: &[u64], bits: f64) -> Runs {
        Layout::new(access, lies, bits, |d| Some(d.0 as usize)).runs(tile)
    }

    fn access(ranks: &[&[(usize, i64)]], extents: &[u64]) -> Access {
        let rank = |terms: &&[(usize, i64)]| Affine {
            terms: terms.iter().map(|(d, c)| (DimId::new(*d), *c)).collect(),
            offset: 0,
        };
        Access {
            place: Place::Input(0),
            ranks: ranks.iter().map(rank).collect(),
            extents: extents.to_vec(),
        }
    }

    fn dense(extents: &[u64]) -> Lies {
        let mut pitch_bits = vec![8; extents.len()];
        for r in (0..extents.len().saturating_sub(1)).rev() {
            pitch_bits[r] = pitch_bits[r + 1] * extents[r + 1];
        }
        Lies { pitch_bits }
    }

    #[test]
    fn images_by_channels() {
        // [c, h, w] lies as h, w, c: 16 channels of 10 x 12 pixels.
        let lies = Lies {
            pitch_bits: vec![8, 12 * 16 * 8, 16 * 8],
        };
        let extents = [16, 10, 12];
        let window: [&[(usize, i64)]; 3] = [&[(0, 1)], &[(1, 1), (3, 1)], &[(2, 1), (4, 1)]];
        let a = access(&window, &extents);
        let of = |tile: [u64; 5]| {
            let r = runs(&a, &lies, &tile, 8.0);
            (r.length, r.pitch)
        };
        // Half the channels: 8 bytes of each pixel.
        assert_eq!(of([8, 4, 4, 3, 3]), (8.0, 16.0));
        // All channels, 6 of 12 pixels of a row.
        assert_eq!(of([16, 4, 4, 3, 3]), (96.0, 192.0));
        // Whole rows go on.
        assert_eq!(of([16, 4, 10, 3, 3]), (192.0 * 6.0, 1920.0));
        // One column.
        assert_eq!(of([16, 8, 1, 3, 1]), (16.0, 192.0));
        // Every other pixel.
        let b = access(&[&[(0, 1)], &[(1, 2)], &[(2, 2)]], &extents);
        let r = runs(&b, &lies, &[16, 5, 6], 8.0);
        assert_eq!((r.length, r.pitch), (16.0, 32.0));
    }

    /// Maximal runs of the bytes that a tile at the origin touches, and the least distance of two starts.
    fn walked(lies: &Lies, tile: &[u64]) -> (f64, f64) {
        let mut bytes = vec![0u64];
        for (t, pitch) in tile.iter().zip(&lies.pitch_bits) {
            let rows = 0..*t;
            bytes = rows
                .flat_map(|i| bytes.iter().map(move |b| b + i * pitch / 8))
                .collect();
        }
        bytes.sort_unstable();
        let starts: Vec<u64> = bytes
            .iter()
            .enumerate()
            .filter(|(i, b)| *i == 0 || bytes[i - 1] + 1 < **b)
            .map(|(_, b)| *b)
            .collect();
        let length = bytes.len() as f64 / starts.len() as f64;
        let least = starts.windows(2).map(|w| w[1] - w[0]).min();
        (length, least.map_or(length, |p| p as f64))
    }

    proptest! {
        #[test]
        fn runs_agree_with_a_walk(
            shape in proptest::collection::vec((1u64..5, 1u64..5), 1..5),
            padding in 0u64..2,
        ) {
            let extents: Vec<u64> = shape.iter().map(|(e, _)| *e).collect();
            let tile: Vec<u64> = shape.iter().map(|(e, t)| *t.min(e)).collect();
            let mut lies = dense(&extents);
            // Rows of the outermost rank may be padded.
            lies.pitch_bits[0] += padding * 8;
            let ranks: Vec<Vec<(usize, i64)>> = (0..extents.len()).map(|d| vec![(d, 1)]).collect();
            let ranks: Vec<&[(usize, i64)]> = ranks.iter().map(Vec::as_slice).collect();
            let found = runs(&access(&ranks, &extents), &lies, &tile, 8.0);
            let (length, pitch) = walked(&lies, &tile);
            prop_assert_eq!(found.length, length);
            if tile.iter().product::<u64>() as f64 > length {
                prop_assert_eq!(found.pitch, pitch);
            }
        }
    }
}
