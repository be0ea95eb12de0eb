//! SCALE-Sim 3.0.0 (PyPI `scalesim`): what it reports of a layer on a systolic array, where a closed form exists.
//!
//! SCALE-Sim replays the demands of a dense product on an `R x C` array cycle by cycle. Most of what it reports
//! follows from the shapes; what does not is `None` here: never a guess. The closed forms were derived from its
//! sources (`compute/systolic_compute_{ws,is,os}.py`, `memory/{read_buffer,read_buffer_estimate_bw,write_buffer}.py`,
//! `single_layer_sim.py`), and hold in every row of `tests/data/systolic/scalesim.csv` that they cover.
//!
//! # The product
//! A layer is `[M, K] x [K, N]`: of a convolution `M` output pixels, `K` window elements, `N` filters. The input
//! includes its padding, and an output side is `ceil((H - R + s) / s)`: a last window may hang over the input.
//!
//! # The array
//! ```text
//!                      ws                        is                        os
//! folds F              ceil(K/R) ceil(N/C)       ceil(K/R) ceil(M/C)       ceil(M/R) ceil(N/C)
//! streamed T           M                         N                         K
//! cycles of a fold     2R + C + T - 2            2R + C + T - 2            R + C + T - 2
//! input reads          M K ceil(N/C)             M K                       M K ceil(N/C)
//! filter reads         K N                       K N ceil(M/C)             K N ceil(M/R)
//! output writes        M N ceil(K/R)             M N ceil(K/R)             M N + F (R + C)
//! mapping efficiency   K N / (F R C)             K M / (F R C)             M N / (F R C)
//! compute cycles       F x cycles of a fold - 1 (the index of the last cycle)
//! compute utilization  mapping efficiency x T / (2R + 2C + T - 3; os: R + C + T - 2)
//! ```
//!
//! Folds do not overlap, partial sums are never read back, and os counts `R + C` output writes too many in each fold.
//!
//! # The memories
//! Each operand has its own SRAM of two halves and its own port to DRAM; a word is a byte. The input's and the
//! filter's SRAM are filled before cycle 0. Nothing is fetched again, and no read stalls, if
//! - bandwidth is estimated: the distinct words are less than 50 parts of the SRAM, in hundredths of `q =
//!   floor(size / 100)` words. They take `ceil(ceil(distinct / q) q / 10)` cycles at the 10 words a cycle that SCALE-Sim
//!   assumes;
//! - bandwidth is given: the words in the order of use (with repeats) fit in the parts of `q = ceil(size / 100)` words
//!   that the first half takes, `ceil(words / q) <= ceil(ceil(size / 2) / q)`. It then requests lines of a cycle's
//!   words, `min(ceil(half / bw), ceil(words, padded to the array, / bw))`, and counts whole lines.
//!
//! Outputs (partial sums each time) are written back at `C` words a cycle if bandwidth is estimated, else at that
//! given. If all fit in half of the SRAM, that starts when the last cycle is over. If not, they drain meanwhile, with
//! an order and number of requests that have no closed form; the array waits for that only if the port is narrower
//! than `C`.
//!
//! Total cycles are compute cycles and stalls; those with prefetch run from the first DRAM read to the last write.

use thiserror::Error;

use super::{Convention, ConventionError};

/// Which operand stays in the array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dataflow {
    /// Filters.
    WeightStationary,
    /// Inputs.
    InputStationary,
    /// Outputs.
    OutputStationary,
}

impl Dataflow {
    /// The dataflow of a name: `ws`, `is` or `os`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "ws" => Some(Self::WeightStationary),
            "is" => Some(Self::InputStationary),
            "os" => Some(Self::OutputStationary),
            _ => None,
        }
    }
}

/// Words a cycle of the three DRAM ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bandwidth {
    /// As much as it takes (`CALC`).
    Estimated,
    /// Given (`USER`).
    Given {
        /// Of the input's port.
        input: u64,
        /// Of the filter's port.
        filter: u64,
        /// Of the output's port.
        output: u64,
    },
}

/// A systolic array with its SRAMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SystolicArray {
    /// Rows.
    pub rows: u64,
    /// Columns.
    pub cols: u64,
    /// Dataflow.
    pub dataflow: Dataflow,
    /// Bytes of the input's SRAM.
    pub input_sram: u64,
    /// Bytes of the filter's SRAM.
    pub filter_sram: u64,
    /// Bytes of the output's SRAM.
    pub output_sram: u64,
    /// Bandwidth to DRAM.
    pub bandwidth: Bandwidth,
}

/// A layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layer {
    /// `[m, k] x [k, n]`.
    Gemm {
        /// Rows of the input and output.
        m: u64,
        /// Columns of the filter and output.
        n: u64,
        /// Columns of the input.
        k: u64,
    },
    /// A convolution.
    Conv {
        /// Rows of the input, with padding.
        height: u64,
        /// Columns of the input, with padding.
        width: u64,
        /// Rows of the filter.
        filter_height: u64,
        /// Columns of the filter.
        filter_width: u64,
        /// Channels of the input.
        channels: u64,
        /// Filters.
        filters: u64,
        /// Stride along both sides.
        stride: u64,
    },
}

/// Words between an SRAM and DRAM. Cycle 0 is the array's first; reads come before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// Words, as requested.
    pub words: u64,
    /// First cycle.
    pub start: i64,
    /// Last cycle.
    pub stop: i64,
}

impl Stream {
    /// Words a cycle on average.
    pub fn rate(&self) -> f64 {
        self.words as f64 / (self.stop - self.start + 1) as f64
    }
}

/// What SCALE-Sim reports of a layer; `None` where there is no closed form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// MACs.
    pub macs: u64,
    /// Cycles without stalls.
    pub compute_cycles: u64,
    /// Cycles that the array waits for memories.
    pub stall_cycles: Option<u64>,
    /// Cycles from the first DRAM read to the last DRAM write.
    pub cycles_with_prefetch: Option<u64>,
    /// Share of the array that is mapped, on average over folds.
    pub mapping_efficiency: f64,
    /// MACs over what the array could do in the cycles that SCALE-Sim counts for its folds here.
    pub compute_utilization: f64,
    /// SRAM reads of the input and filter, writes of the output.
    pub sram: [u64; 3],
    /// DRAM reads of the input and filter.
    pub dram_reads: [Option<Stream>; 2],
    /// DRAM writes of the output.
    pub dram_writes: Option<u64>,
    /// When they happen.
    pub write_stream: Option<Stream>,
    /// Processing elements.
    pub elements: u64,
}

impl Report {
    /// Compute cycles and stalls.
    pub fn total_cycles(&self) -> Option<u64> {
        self.stall_cycles.map(|s| self.compute_cycles + s)
    }
    /// MACs over what the array could do in all cycles.
    pub fn overall_utilization(&self) -> Option<f64> {
        let cycles = self.total_cycles().filter(|c| *c > 0)?;
        Some(self.macs as f64 / (cycles as f64 * self.elements as f64))
    }
    /// SRAM words a cycle of the input, filter and output.
    pub fn sram_rates(&self) -> Option<[f64; 3]> {
        let cycles = self.total_cycles().filter(|c| *c > 0)?;
        Some(self.sram.map(|words| words as f64 / cycles as f64))
    }
}

/// Why a layer cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScaleSimError {
    /// Something that must be positive.
    #[error("{0} must not be 0")]
    Zero(&'static str),
    /// A filter that does not fit into the input.
    #[error("the filter must not be larger than the input")]
    Filter,
    /// Figures beyond exact counting.
    #[error(
        "the layer or the array is too large to count: at most 2^53 MACs and 2^16 rows or columns"
    )]
    Large,
}

/// Why a loop tree is no input of this convention.
pub(super) fn no_mapping() -> ConventionError {
    ConventionError::Beyond {
        convention: Convention::ScaleSim.name(),
        reason: "tells layers on a systolic array, not mappings: give a SCALE-Sim .cfg and a topology .csv"
            .into(),
    }
}

/// A layer as the product it is.
#[derive(Debug, Clone, Copy)]
struct Product {
    m: u64,
    n: u64,
    k: u64,
    /// Distinct input words that windows touch.
    distinct: u64,
    /// Input words of all windows, without what hangs over.
    words: u64,
}

/// What SCALE-Sim reports of a layer.
///
/// # Errors
/// If a size is 0, too large, or a filter larger than its input.
pub fn evaluate(array: &SystolicArray, layer: &Layer) -> Result<Report, ScaleSimError> {
    check_array(array)?;
    let p = product(layer)?;
    let (rows, cols) = (array.rows, array.cols);
    let up = u64::div_ceil;
    let (row_folds, col_folds, streamed) = match array.dataflow {
        Dataflow::WeightStationary => (up(p.k, rows), up(p.n, cols), p.m),
        Dataflow::InputStationary => (up(p.k, rows), up(p.m, cols), p.n),
        Dataflow::OutputStationary => (up(p.m, rows), up(p.n, cols), p.k),
    };
    let folds = row_folds * col_folds;
    let output_stationary = array.dataflow == Dataflow::OutputStationary;
    let (fold, counted) = match output_stationary {
        true => (rows + cols + streamed - 2, rows + cols + streamed - 2),
        false => (
            2 * rows + cols + streamed - 2,
            2 * rows + 2 * cols + streamed - 3,
        ),
    };
    let macs = p.m * p.n * p.k;
    let efficiency = (macs / streamed) as f64 / (folds as f64 * (rows * cols) as f64);
    let (input, filter, output) = (p.m * p.k, p.k * p.n, p.m * p.n);
    let (reads, written) = match array.dataflow {
        Dataflow::WeightStationary => ([input * col_folds, filter], output * row_folds),
        Dataflow::InputStationary => ([input, filter * col_folds], output * row_folds),
        Dataflow::OutputStationary => ([input * col_folds, filter * row_folds], output),
    };
    let compute_cycles = exact(u128::from(folds) * u128::from(fold) - 1)?;
    let overcount = u128::from(folds) * u128::from(rows + cols) * u128::from(output_stationary);
    let dram_reads = [
        read_stream(array, 0, p.distinct, p.words, padded(array, &p)[0]),
        read_stream(array, 1, filter, filter, padded(array, &p)[1]),
    ];
    let width = match array.bandwidth {
        Bandwidth::Estimated => cols,
        Bandwidth::Given { output, .. } => output,
    };
    let buffered = written <= array.output_sram / 2;
    let estimated = array.bandwidth == Bandwidth::Estimated;
    let reads_ready = estimated || dram_reads.iter().all(Option::is_some);
    let stalls = (reads_ready && (buffered || width >= cols)).then_some(0);
    let write_stream = stalls.filter(|_| buffered).map(|_| Stream {
        words: written,
        start: compute_cycles as i64,
        stop: (compute_cycles + written.div_ceil(width)) as i64 - 1,
    });
    let with_prefetch = || {
        let first = dram_reads[0]?.start.min(dram_reads[1]?.start);
        Some((write_stream?.stop - first) as u64)
    };
    Ok(Report {
        macs,
        compute_cycles,
        stall_cycles: stalls,
        cycles_with_prefetch: with_prefetch(),
        mapping_efficiency: efficiency,
        compute_utilization: efficiency * streamed as f64 / counted as f64,
        sram: [reads[0], reads[1], exact(u128::from(written) + overcount)?],
        dram_reads,
        dram_writes: buffered.then_some(written),
        write_stream,
        elements: rows * cols,
    })
}

/// The largest count that is told: exact as a double, with room to add.
const LARGEST: u64 = 1 << 53;

fn exact(count: u128) -> Result<u64, ScaleSimError> {
    u64::try_from(count)
        .ok()
        .filter(|c| *c < 1 << 62)
        .ok_or(ScaleSimError::Large)
}

fn check_array(array: &SystolicArray) -> Result<(), ScaleSimError> {
    let mut sizes = vec![
        (array.rows, "rows of the array"),
        (array.cols, "columns of the array"),
        (array.input_sram, "the input's SRAM"),
        (array.filter_sram, "the filter's SRAM"),
        (array.output_sram, "the output's SRAM"),
    ];
    if let Bandwidth::Given {
        input,
        filter,
        output,
    } = array.bandwidth
    {
        sizes.push((input, "the input's bandwidth"));
        sizes.push((filter, "the filter's bandwidth"));
        sizes.push((output, "the output's bandwidth"));
    }
    if let Some((_, what)) = sizes.iter().find(|(size, _)| *size == 0) {
        return Err(ScaleSimError::Zero(what));
    }
    let large = array.rows.max(array.cols) > 1 << 16 || sizes.iter().any(|s| s.0 > LARGEST);
    if large {
        Err(ScaleSimError::Large)
    } else {
        Ok(())
    }
}

fn product(layer: &Layer) -> Result<Product, ScaleSimError> {
    let large = ScaleSimError::Large;
    let times = |a: u64, b: u64| {
        a.checked_mul(b)
            .filter(|p| *p <= LARGEST)
            .ok_or(large.clone())
    };
    let p = match *layer {
        Layer::Gemm { m, n, k } => Product {
            m,
            n,
            k,
            distinct: times(m, k)?,
            words: times(m, k)?,
        },
        Layer::Conv {
            height,
            width,
            filter_height,
            filter_width,
            channels,
            filters,
            stride,
        } => {
            if stride == 0 {
                return Err(ScaleSimError::Zero("the stride"));
            }
            if filter_height > height || filter_width > width {
                return Err(ScaleSimError::Filter);
            }
            let (down, across) = (
                Side::new(height, filter_height, stride)?,
                Side::new(width, filter_width, stride)?,
            );
            Product {
                m: times(down.windows, across.windows)?,
                n: filters,
                k: times(times(filter_height, filter_width)?, channels)?,
                distinct: times(times(down.distinct, across.distinct)?, channels)?,
                words: times(times(down.words, across.words)?, channels)?,
            }
        }
    };
    if p.m == 0 || p.n == 0 || p.k == 0 {
        return Err(ScaleSimError::Zero("a size of the layer"));
    }
    times(times(p.m, p.n)?, p.k)?;
    Ok(p)
}

/// Windows along one side of a convolution.
#[derive(Debug, Clone, Copy)]
struct Side {
    windows: u64,
    /// Distinct positions that they touch.
    distinct: u64,
    /// Positions of all windows; the last one may hang over.
    words: u64,
}

impl Side {
    fn new(extent: u64, filter: u64, stride: u64) -> Result<Self, ScaleSimError> {
        let reach = (extent - filter).checked_add(stride);
        let windows = reach.ok_or(ScaleSimError::Large)?.div_ceil(stride);
        let last = (windows - 1)
            .checked_mul(stride)
            .ok_or(ScaleSimError::Large)?;
        let last = extent.saturating_sub(last).min(filter);
        let whole = (windows - 1)
            .checked_mul(filter)
            .ok_or(ScaleSimError::Large)?;
        let step = whole.min((windows - 1).saturating_mul(stride));
        Ok(Self {
            windows,
            distinct: step + last,
            words: whole + last,
        })
    }
}

/// Words of the input and the filter in the order of use, filled up to whole folds along the array.
fn padded(array: &SystolicArray, p: &Product) -> [u128; 2] {
    let over_rows = |size: u64| u128::from(size.div_ceil(array.rows)) * u128::from(array.rows);
    let over_cols = |size: u64| u128::from(size.div_ceil(array.cols)) * u128::from(array.cols);
    let (m, n, k) = (p.m, p.n, p.k);
    let [k_words, m_words, n_words] = [k, m, n].map(u128::from);
    match array.dataflow {
        Dataflow::WeightStationary => [m_words * over_rows(k), k_words * over_cols(n)],
        Dataflow::InputStationary => [k_words * over_cols(m), n_words * over_rows(k)],
        Dataflow::OutputStationary => [k_words * over_rows(m), k_words * over_cols(n)],
    }
}

/// What fills the SRAM of the input (0) or the filter (1) before cycle 0, if nothing more is ever fetched.
fn read_stream(
    array: &SystolicArray,
    operand: usize,
    distinct: u64,
    words: u64,
    padded: u128,
) -> Option<Stream> {
    let size = [array.input_sram, array.filter_sram][operand];
    let (words, cycles) = match array.bandwidth {
        Bandwidth::Estimated => {
            let part = size / 100;
            if distinct >= 50 * part {
                return None;
            }
            (distinct, (distinct.div_ceil(part) * part).div_ceil(10))
        }
        Bandwidth::Given { input, filter, .. } => {
            let width = [input, filter][operand];
            let (part, half) = (size.div_ceil(100), size.div_ceil(2));
            if words.div_ceil(part) > half.div_ceil(part) {
                return None;
            }
            let needed = padded.div_ceil(u128::from(width));
            let lines = needed.min(u128::from(half.div_ceil(width)));
            let lines = u64::try_from(lines).ok()?;
            (lines.checked_mul(width)?, lines)
        }
    };
    Some(Stream {
        words,
        start: -(cycles as i64),
        stop: -1,
    })
}

#[cfg(test)]
mod tests;
