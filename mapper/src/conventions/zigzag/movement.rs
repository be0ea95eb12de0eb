//! What moves between the levels of an operand: data held, and for each of the four directions of a level the
//! amount, width, period and time of a transfer.
//!
//! Stage 0 is the array; stage `l + 1` is level `l`. A level's transfers below are those of its own stage's lower
//! neighbour, its transfers above those of its own stage.

use super::nest::{Loop, OperandNest, Relevance, View};
use crate::hierarchy::{Hierarchy, MemoryLevel, Transfer};

/// Transfers of one kind at a memory: `count` of them, one a `period`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Move {
    /// Elements a transfer.
    pub(super) elements: f64,
    /// Bits of an element.
    pub(super) bits: f64,
    /// Cycles from one transfer to the next.
    pub(super) period: f64,
    /// Transfers in all; 0 if there are none of this kind.
    pub(super) count: f64,
    /// Cycles of a period at its end in which what is replaced is no longer needed.
    pub(super) window: f64,
    /// Bits a cycle on average, cut to whole ones.
    pub(super) rate: f64,
}

/// A level of an operand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LevelMoves {
    /// Elements that an instance holds.
    pub(super) elements: f64,
    /// Their bits.
    pub(super) bits: f64,
    /// Their bits without the outermost relevant loops: what is in use at a time.
    pub(super) active_bits: f64,
    /// Instances used.
    pub(super) instances: f64,
    /// Transfers, in the order of [`Transfer::ALL`].
    pub(super) moves: [Move; 4],
}

impl LevelMoves {
    /// Transfers of one kind.
    pub(super) fn at(&self, transfer: Transfer) -> &Move {
        &self.moves[index(transfer)]
    }
}

/// The place of a transfer in [`Transfer::ALL`].
pub(super) fn index(transfer: Transfer) -> usize {
    match transfer {
        Transfer::FromAbove => 0,
        Transfer::ToAbove => 1,
        Transfer::ToBelow => 2,
        Transfer::FromBelow => 3,
    }
}

/// How far loops of one stage grow an operand (`relevant`) and how often they meet the same element (`reuse`).
#[derive(Debug, Clone, Copy, PartialEq)]
struct Growth {
    relevant: f64,
    reuse: f64,
    /// The two multiplied loop by loop.
    total: f64,
    /// Whether a single loop has reuse above 1.
    reuses: bool,
}

/// Growth of each stage. A loop over a sliding rank grows it by the ratio of distinct elements before and after.
fn growth(nest: &OperandNest, stages: &[Vec<Loop>]) -> Vec<Growth> {
    let mut trips = vec![[1.0, 1.0]; nest.windows.len()];
    let mut before = vec![[1.0, 1.0]; nest.windows.len()];
    let stage = |loops: &Vec<Loop>| {
        let mut g = Growth {
            relevant: 1.0,
            reuse: 1.0,
            total: 1.0,
            reuses: false,
        };
        for l in loops {
            let [relevant, reuse] = match nest.relevance[l.dim] {
                Relevance::Relevant => [l.trips, 1.0],
                Relevance::Irrelevant => [1.0, l.trips],
                Relevance::Sliding { window, first } => {
                    let t = &mut trips[window];
                    t[usize::from(!first)] *= l.trips;
                    let elements = nest.windows[window].elements(t[0], t[1]);
                    let now = [elements, t[0] * t[1] / elements];
                    let was = std::mem::replace(&mut before[window], now);
                    [now[0] / was[0], now[1] / was[1]]
                }
            };
            g.relevant *= relevant;
            g.reuse *= reuse;
            g.total = g.total * relevant * reuse;
            g.reuses |= reuse > 1.0;
        }
        g
    };
    stages.iter().map(stage).collect()
}

/// Temporal loops of each stage (none at the array), followed by the spatial ones `shift` stages further in.
fn stages(nest: &OperandNest, view: View, shift: usize) -> Vec<Vec<Loop>> {
    let spatial = nest.spatial(view);
    let stage = |s: usize| {
        let temporal = s.checked_sub(1).map_or(&[][..], |l| &nest.temporal[l]);
        let laid = s.checked_sub(shift).map_or(&[][..], |s| &spatial[s]);
        [temporal, laid].concat()
    };
    (0..spatial.len()).map(stage).collect()
}

/// What moves at each level of an operand; `output` says whether it is the output.
pub(super) fn moves(
    nest: &OperandNest,
    hierarchy: &Hierarchy,
    view: View,
    output: bool,
) -> Vec<LevelMoves> {
    let held = growth(nest, &stages(nest, view, 1));
    let with_array = growth(nest, &stages(nest, view, 0));
    let over_array = growth(nest, nest.spatial(view));
    let top = held.len() - 1;

    // Outputs are partial while a loop that reduces is still outside.
    let partial = |stage: usize| {
        output
            && with_array[(stage + 1).min(top + 1)..]
                .iter()
                .any(|g| g.reuses)
    };
    let memory = |level: usize| hierarchy.levels[nest.memories[level]].memory();
    let width = |m: Option<&MemoryLevel>, partial: bool| {
        let bits = m.and_then(|m| m.bits.get(nest.operand)).copied();
        let bits = bits.unwrap_or(0.0);
        let last = m.and_then(|m| m.final_bits).unwrap_or(bits);
        if output && !partial { last } else { bits }
    };
    let stage_bits = |s: usize| width(memory(s.saturating_sub(1)), partial(s));
    let product = |from: usize, to: usize, f: fn(&Growth) -> f64, of: &[Growth]| {
        of[from..to].iter().map(f).product::<f64>()
    };
    let elements: Vec<f64> = (0..=top)
        .map(|s| product(0, s + 1, |g| g.relevant, &held).round_ties_even())
        .collect();
    let unique = |s: usize| product(s, top + 1, |g| g.relevant, &over_array);
    let instances = |s: usize| {
        let all = product(s, top + 1, |g| g.total, &over_array);
        ((all * 1e3).round_ties_even() / 1e3).round_ties_even()
    };
    // Instances of the next inner stage that one instance of a level feeds with different data.
    let fan = |level: usize| (unique(level) / unique(level + 1)).round_ties_even();

    let stationary = if output {
        1.0
    } else {
        nest.stationary_cycles()
    };
    let mut period = vec![stationary];
    let mut run = 1.0;
    for loops in &nest.temporal {
        run *= loops.iter().map(|l| l.trips).product::<f64>();
        period.push(run);
    }
    let outermost = |s: usize, what: Relevance| match s.checked_sub(1) {
        Some(level) => nest.outermost_run(level, what),
        None => 1.0,
    };
    let transfer = |s: usize, fan: f64, bits: f64| Move {
        elements: elements[s] * fan,
        bits,
        period: period[s],
        count: (run / period[s]).floor(),
        window: (period[s] / outermost(s, Relevance::Irrelevant)).floor(),
        rate: (elements[s] * stage_bits(s) / period[s] * fan).trunc(),
    };
    let level = |l: usize| {
        let (m, s) = (memory(l), l + 1);
        let (down, up) = (
            |bits| transfer(l, fan(l), bits),
            |bits| {
                if s == top {
                    Move::default()
                } else {
                    transfer(s, 1.0, bits)
                }
            },
        );
        let none = Move::default();
        // A transfer's width follows from whether partial sums come back over the same link.
        let moves = match output {
            false => [up(width(m, true)), none, down(width(m, true)), none],
            true => {
                let (below, above) = (partial(l), partial(s));
                let back = |partial, m| if partial { m } else { none };
                [
                    back(above, up(width(m, true))),
                    up(width(m, above)),
                    back(below, down(width(m, true))),
                    down(width(m, below)),
                ]
            }
        };
        let bits = elements[s] * stage_bits(s);
        LevelMoves {
            elements: elements[s],
            bits,
            active_bits: (bits / outermost(s, Relevance::Relevant)).floor(),
            instances: instances(s),
            moves,
        }
    };
    (0..top).map(level).collect()
}
