//! Encodings that leave zeros out: N:M groups, bitmasks, runs of zeros, compressed rows.
//!
//! - **N:M** (2:4, 1:2): of every `group` consecutive elements `kept` are stored, in order, each with its place in the
//!   group in `ceil(log2 group)` bits. A group with fewer nonzero elements stores zeros from its first free places.
//!   [`NOfM::prune`] keeps the largest magnitudes, the earlier of equal ones.
//! - **Bitmask**: a bit for each element, the first in the lowest bit of the first byte, and the nonzero elements.
//! - **Runs**: tokens of a number of zeros (up to `2^run_bits - 1`) and the element behind them, which is a zero itself
//!   where the run is longer. The last token of a tensor that ends in zeros stands for what is left.
//! - **Compressed rows** (CSR): for each row where its nonzero elements start, and for each of them its column.
//!
//! How many bits these take of random data is in [`coding`](crate::coding) and [`quantization`](crate::quantization).
//! Sources: NVIDIA, "Accelerating sparse deep neural networks", 2021 (2:4); Chen et al., "Eyeriss", 2016 (runs).

/// N:M sparsity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NOfM {
    kept: usize,
    group: usize,
}

/// Kept elements and their places.
#[derive(Debug, Clone, PartialEq)]
pub struct Grouped {
    /// `kept` of each group.
    pub values: Vec<f32>,
    /// Place of each in its group.
    pub places: Vec<u8>,
}

/// A group that has too many nonzero elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("group {group} has {nonzero} nonzero elements; {kept} are kept")]
pub struct TooDense {
    /// Which group.
    pub group: usize,
    /// Its nonzero elements.
    pub nonzero: usize,
    /// Elements kept of each.
    pub kept: usize,
}

impl NOfM {
    /// `kept` of every `group` (at most 256), or `None` where that is none or more than the group.
    pub fn new(kept: u8, group: u8) -> Option<Self> {
        let (kept, group) = (usize::from(kept), usize::from(group));
        (kept > 0 && kept <= group).then_some(Self { kept, group })
    }

    /// Bits of a place.
    pub fn place_bits(&self) -> u32 {
        self.group.max(2).next_power_of_two().ilog2()
    }

    /// Sets all but the largest magnitudes of each group to zero. NaN counts as the largest.
    pub fn prune(&self, values: &mut [f32]) {
        for group in values.chunks_mut(self.group) {
            let mut order: Vec<usize> = (0..group.len()).collect();
            order.sort_by(|&a, &b| group[b].abs().total_cmp(&group[a].abs()).then(a.cmp(&b)));
            for &place in order.iter().skip(self.kept) {
                group[place] = 0.0;
            }
        }
    }

    /// The kept elements of a tensor that has no more than that in any group. A last partial group is filled with zeros.
    pub fn encode(&self, values: &[f32]) -> Result<Grouped, TooDense> {
        let mut grouped = Grouped {
            values: Vec::new(),
            places: Vec::new(),
        };
        for (g, group) in values.chunks(self.group).enumerate() {
            let nonzero = group.iter().filter(|x| **x != 0.0).count();
            if nonzero > self.kept {
                return Err(TooDense {
                    group: g,
                    nonzero,
                    kept: self.kept,
                });
            }
            let mut spare = self.kept - nonzero;
            for place in 0..self.group {
                let x = group.get(place).copied().unwrap_or(0.0);
                let fill = x == 0.0 && spare > 0;
                spare -= usize::from(fill);
                if x != 0.0 || fill {
                    grouped.values.push(x);
                    grouped.places.push(place as u8);
                }
            }
        }
        Ok(grouped)
    }

    /// The tensor of `length` elements; kept elements out of place are left out.
    pub fn decode(&self, grouped: &Grouped, length: usize) -> Vec<f32> {
        let mut values = vec![0.0; length];
        let kept = grouped.values.iter().zip(&grouped.places);
        for (i, (x, place)) in kept.enumerate() {
            let at = i / self.kept * self.group + usize::from(*place);
            if let Some(slot) = values.get_mut(at) {
                *slot = *x;
            }
        }
        values
    }

    /// The places packed, the first in the lowest bits of the first byte.
    pub fn pack_places(&self, places: &[u8]) -> Vec<u8> {
        let bits = self.place_bits();
        let mut bytes = vec![0; (places.len() * bits as usize).div_ceil(8)];
        for (i, place) in places.iter().enumerate() {
            let at = i * bits as usize;
            let wide = u16::from(*place) << (at % 8);
            bytes[at / 8] |= wide as u8;
            if let Some(next) = bytes.get_mut(at / 8 + 1) {
                *next |= (wide >> 8) as u8;
            }
        }
        bytes
    }
}

/// A bit for each element and the nonzero ones.
pub fn bitmask(values: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let byte = |eight: &[f32]| {
        let bits = eight.iter().enumerate();
        bits.fold(0, |byte, (i, x)| byte | u8::from(*x != 0.0) << i)
    };
    let nonzero = values.iter().copied().filter(|x| *x != 0.0);
    (values.chunks(8).map(byte).collect(), nonzero.collect())
}

/// The tensor of a bitmask.
pub fn from_bitmask(mask: &[u8], nonzero: &[f32], length: usize) -> Vec<f32> {
    let mut nonzero = nonzero.iter().copied();
    let mut element = |i: usize| {
        let stored = mask.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1);
        if stored {
            nonzero.next().unwrap_or(0.0)
        } else {
            0.0
        }
    };
    (0..length).map(&mut element).collect()
}

/// Tokens of a run of zeros and the element behind it. `run_bits` is at most 16.
pub fn runs(values: &[f32], run_bits: u32) -> Vec<(u16, f32)> {
    let longest = ((1u32 << run_bits.min(16)) - 1) as u16;
    let mut tokens = Vec::new();
    let mut run = 0;
    for (i, x) in values.iter().enumerate() {
        if *x != 0.0 || run == longest || i + 1 == values.len() {
            tokens.push((run, *x));
            run = 0;
        } else {
            run += 1;
        }
    }
    tokens
}

/// The tensor of tokens, at most `length` elements.
pub fn from_runs(tokens: &[(u16, f32)], length: usize) -> Vec<f32> {
    let zeros = |run: u16| std::iter::repeat_n(0.0, usize::from(run));
    let elements = tokens.iter().flat_map(|(run, x)| zeros(*run).chain([*x]));
    elements.take(length).collect()
}

/// Compressed rows.
#[derive(Debug, Clone, PartialEq)]
pub struct CompressedRows {
    /// Where each row's elements start, and after the last row their number.
    pub starts: Vec<usize>,
    /// Column of each nonzero element.
    pub columns: Vec<usize>,
    /// The nonzero elements.
    pub values: Vec<f32>,
}

impl CompressedRows {
    /// The nonzero elements of rows of so many columns.
    pub fn new(values: &[f32], columns: usize) -> Self {
        let mut rows = Self {
            starts: vec![0],
            columns: Vec::new(),
            values: Vec::new(),
        };
        for row in values.chunks(columns.max(1)) {
            for (column, x) in row.iter().enumerate().filter(|(_, x)| **x != 0.0) {
                rows.columns.push(column);
                rows.values.push(*x);
            }
            rows.starts.push(rows.values.len());
        }
        rows
    }

    /// The rows of so many columns.
    pub fn dense(&self, columns: usize) -> Vec<f32> {
        let rows = self.starts.len().saturating_sub(1);
        let mut values = vec![0.0; rows * columns];
        for (row, ends) in self.starts.windows(2).enumerate() {
            let elements = self.columns.iter().zip(&self.values);
            let count = ends[1].saturating_sub(ends[0]);
            for (column, x) in elements.skip(ends[0]).take(count) {
                if let Some(slot) = values.get_mut(row * columns + column) {
                    *slot = *x;
                }
            }
        }
        values
    }
}
