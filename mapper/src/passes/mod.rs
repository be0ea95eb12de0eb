//! Row-stationary arrays: convolutions in passes of rows.
//!
//! After Chen, Krishna, Emer and Sze, "Eyeriss", JSSC 52(1), 2017, and Chen, Emer and Sze, ISCA 2016. A *set* of
//! `R x e` processing elements makes `e` rows of an output: a filter row stays in each row of PEs, input rows run
//! along diagonals, partial sums go up the columns. A PE slides along a row with `S` weights of `p` filters and `q`
//! channels at hand, so it holds `q S` inputs, `p q S` weights and `p` partial sums. `r` sets work on other
//! channels and `t` on other filters. Sets wider than the array are folded: their segments stand below each other.
//!
//! # A pass
//!
//! makes the partial sums of `p t` filters and `q r` channels over `e` output rows and `f` output columns of `n`
//! images. The buffer holds the partial sums of `m` filters for all passes over the channels, and the inputs of one
//! pass; what weights go through on their way holds those of one pass, the next one's. With `U` the stride, `H = U (e - 1) + R` input rows of `W = U (f - 1) + S` columns (padding is sent as
//! zeros), and networks that deliver `w` words per cycle of each operand, a pass takes, one after the other,
//!
//! ```text
//! filters   p t q r R S / w_weight                 weights into the PEs
//! window    H S q r / w_input                      the first window of inputs
//! steady    max of  compute  n p q S f / (MACs per cycle)      a PE's MACs
//!                   inputs   n q r H W / w_input
//!                   sums     n p t e f / w_output               in and, at once, out
//! drain     e p t / w_output                       partial sums of the last column
//! ```
//!
//! At edges each of these takes its remainder. Nothing here is fitted: every term is a size over a width.
//!
//! # What moves
//!
//! ```text
//! home of inputs    each strip's rows (halo included, padding not) for each group of m filters
//! buffer            the same written; n q r H W read in each pass; partial sums read and written in each pass (the
//!                   first reads zeros or biases), results read once more when they leave
//! home of weights   all weights for each strip, tile of columns and group of images, through the memories between
//! home of outputs   results once
//! PEs               each MAC reads an input, a weight and a partial sum and writes the sum; inputs and weights are
//!                   written once for each PE that they reach; partial sums go from PE to PE up each column
//! ```
//!
//! # Time
//!
//! The next filters come while a pass runs. Inputs and results do not: the buffer has no room for a second tile, so
//! what of them crosses the port of their homes adds to the time of the passes, which is the
//! *processing* time. That is `Resource::Compute` of the cost.
//!
//! # Parameters
//!
//! come from the chip file where it lists the layer's size. Otherwise they are those with the least processing time,
//! then the fewest words to and from homes, of all that fit, with `m` as large as the buffer allows.

mod choose;
mod conv;
mod moves;
mod nest;

use presil_hwmodels::{Chip, EngineKind, NodeId, Operand, PassParameters};
use presil_numerics::Seconds;

use crate::analysis::compute;
use crate::cost::{Cost, Resource};
use crate::ledger;
use crate::mapping::Mapping;
use crate::problem::Problem;
use crate::search::{Certificate, SearchError, Solution};

use choose::Machine;
use conv::Conv;

/// Cycles of one pass, in the order in which its parts run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PassTime {
    /// Weights into the PEs.
    pub filters: f64,
    /// The first window of inputs.
    pub window: f64,
    /// The slowest of what then runs at once.
    pub steady: f64,
    /// The last partial sums out.
    pub drain: f64,
}

impl PassTime {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.filters + self.window + self.steady + self.drain
    }
}

/// Passes of one size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PassKind {
    /// How many there are.
    pub count: u64,
    /// Images.
    pub images: u64,
    /// Output rows.
    pub rows: u64,
    /// Output columns.
    pub columns: u64,
    /// Filters.
    pub filters: u64,
    /// Channels.
    pub channels: u64,
    /// Cycles of one.
    pub time: PassTime,
}

/// The passes of an op.
#[derive(Debug, Clone, PartialEq)]
pub struct Passes {
    /// Parameters, cut to the op's sizes.
    pub parameters: PassParameters,
    /// Whether the chip file gives them.
    pub stated: bool,
    /// Kinds of passes: whole ones first.
    pub kinds: Vec<PassKind>,
    /// Seconds of a cycle.
    pub cycle: Seconds,
    /// PEs at work, at most.
    pub active: u64,
    /// The memory that inputs and partial sums of a pass are in.
    pub buffer: NodeId,
    /// Bits between it and the array.
    pub array_bits: f64,
    /// Time that the best mapping found would take, were the array's control free to run any.
    pub free: Option<Seconds>,
}

impl Passes {
    /// Cycles of all passes.
    pub fn cycles(&self) -> f64 {
        let of = |k: &PassKind| k.count as f64 * k.time.total();
        self.kinds.iter().map(of).sum()
    }

    /// Passes in all.
    pub fn count(&self) -> u64 {
        self.kinds.iter().map(|k| k.count).sum()
    }

    /// One line for reports.
    pub fn describe(&self) -> String {
        let PassParameters {
            m,
            n,
            e,
            f,
            p,
            q,
            r,
            t,
        } = self.parameters;
        let whose = if self.stated {
            "as the chip file states"
        } else {
            "the least processing time"
        };
        let free = self.free.map_or(String::new(), |t| {
            format!("; the best mapping that the array could run if its control were free would take {t}")
        });
        format!(
            "row-stationary: {} passes with m {m}, n {n}, e {e}, f {f}, p {p}, q {q}, r {r}, t {t} ({whose}){free}",
            self.count()
        )
    }
}

/// A convolution planned in passes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planned {
    pub(crate) passes: Passes,
    pub(crate) mapping: Mapping,
    pub(crate) cost: Cost,
}

/// The passes of a problem with their cost, latency of inputs and results left out. `None` if the chip's array is not row-stationary,
/// the einsum is no plain convolution, or its rows fit in no way.
pub(crate) fn plan(problem: &Problem) -> Option<Planned> {
    let machine = Machine::of(problem)?;
    let conv = Conv::of(problem.einsum)?;
    let (parameters, stated) = machine.parameters(problem, &conv)?;
    let (node, mode) = compute(problem)?;
    let clock = problem.chip.clocks[node.clock].domain;
    let mut passes = Passes {
        kinds: machine.kinds(&conv, &parameters, mode.macs_per_cycle),
        parameters,
        stated,
        cycle: clock.seconds(1.0),
        active: 0,
        buffer: machine.buffer(),
        array_bits: 0.0,
        free: None,
    };
    let mapping = nest::mapping(problem, &machine, &conv, &parameters)?;
    let cost = moves::cost(problem, &machine, &conv, &mut passes)?;
    Some(Planned {
        passes,
        mapping,
        cost,
    })
}

/// The solution of a problem whose free search is given: that, unless the array runs in passes.
pub(crate) fn solution(
    problem: &Problem,
    free: Result<Solution, SearchError>,
) -> Result<Solution, SearchError> {
    let Some(planned) = plan(problem) else {
        return free;
    };
    let passes = Passes {
        free: free.as_ref().ok().map(|s| s.cost.time),
        ..planned.passes
    };
    Ok(Solution {
        mapping: planned.mapping,
        cost: planned.cost,
        evaluated: free.map_or(0, |s| s.evaluated),
        space: passes.describe(),
        lower_bound: 0.0,
        proven: false,
        certificate: Certificate::default(),
        near: Vec::new(),
        cuts: Vec::new(),
        passes: Some(passes),
    })
}

/// Adds the transfers between homes and buffer that nothing hides: inputs and results, as `cost` counts them.
pub(crate) fn expose(chip: &Chip, home: [NodeId; 3], cost: &mut Cost) {
    for operand in [Operand::Input, Operand::Output] {
        let home = home[operand.index()];
        let own = |c: &&crate::cost::MemoryCount| c.memory == home && c.operand == operand;
        let (read, written) = cost
            .counts
            .iter()
            .filter(own)
            .fold((0.0, 0.0), |(r, w), c| (r + c.read_bits, w + c.write_bits));
        cost.latency += ledger::port_time(chip, home, read, written);
    }
    cost.time = cost.latency + ledger::longest(&cost.busy);
}

/// Fixed time of an op: launch, fill and drain of the array.
fn fixed(problem: &Problem, cycle: Seconds) -> Seconds {
    let Some(engine) = problem.chip.engines.get(problem.engine) else {
        return Seconds::ZERO;
    };
    match engine.kind {
        EngineKind::Array {
            fill_cycles,
            drain_cycles,
            ..
        } => engine.launch + cycle * (fill_cycles + drain_cycles) as f64,
        _ => engine.launch,
    }
}

/// Busy time of the passes.
fn processing(passes: &Passes) -> (Resource, Seconds) {
    (Resource::Compute, passes.cycle * passes.cycles())
}

#[cfg(test)]
mod tests;
