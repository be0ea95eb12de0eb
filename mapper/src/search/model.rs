//! A problem compiled for the proof: sections of the path, plain numbers, chains of tile counts.

use presil_hwmodels::Operand;
use presil_workloads::Domain;

use super::SearchError;
use super::chain::Chain;
use super::frame::{Frame, Rank};
use super::symmetry::{Swap, swaps};
use crate::analysis::{Analyzer, compulsory};
use crate::problem::Problem;

/// Dimensions of more than one iteration that the search takes.
pub(super) const DIMS: usize = 10;
/// Memories that the search takes.
pub(super) const STORES: usize = 8;

/// A storage that a mapping may or must have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub operand: usize,
    pub store: usize,
    pub section: usize,
    pub required: bool,
}

/// Storage and fanouts between two fanouts: loops and storage stand in any order, then come the fanouts.
#[derive(Debug, Clone)]
pub(super) struct Section {
    /// Indices into [`Model::slots`].
    pub slots: std::ops::Range<usize>,
    /// Indices into [`Model::fans`].
    pub fans: std::ops::Range<usize>,
}

/// A memory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Store {
    /// Bits that tiles may take.
    pub capacity: f64,
    /// Joules for a bit read and written.
    pub energy: [f64; 2],
    /// Seconds for a bit read and written by one instance.
    pub time: [f64; 2],
    pub shared_port: bool,
    pub single: bool,
    pub setup: f64,
    pub latency: f64,
}

impl Store {
    /// Busy seconds of a port, of those that it reads and writes.
    pub fn busy(&self, [read, write]: &[f64; 2]) -> f64 {
        if self.shared_port {
            read + write
        } else {
            read.max(*write)
        }
    }
}

/// A problem compiled for the search.
#[derive(Clone)]
pub(super) struct Model<'a> {
    pub frame: &'a Frame,
    pub chains: Vec<Chain>,
    pub sizes: Vec<u32>,
    /// Dimensions in order of descending density of use; masks of operands.
    pub named: Vec<u8>,
    pub stores: [Store; STORES],
    pub slots: Vec<Slot>,
    pub sections: Vec<Section>,
    /// Of each fanout its axes and joules for a bit.
    pub fans: Vec<(std::ops::Range<usize>, f64)>,
    pub touched: [f64; 3],
    /// Words that the compute takes, each operand.
    pub points: [f64; 3],
    /// For a masked domain, the dimensions coupled and the share of their points executed.
    pub masked: [bool; DIMS],
    /// By operand the dimensions whose tiles may overlap.
    pub windowed: [[bool; DIMS]; 3],
    /// Section that each axis lies below.
    pub axis_section: Vec<usize>,
    pub density: f64,
    /// Whether an operand's tiles may overlap, or be cut by a border or a mask.
    pub windows: [bool; 3],
    /// Whether an operand lies in an off-chip memory in a way that makes its tiles runs: their bursts and rows may cost
    /// more than the closed form, which stays a lower bound.
    pub lies: [bool; 3],
    /// Whether no operand's may: then costs in closed form are exact, but for runs.
    pub exact: bool,
    /// Seconds of latency of the memories that every mapping reads inputs or weights from, and of the set-ups of its first transfers, at
    /// least.
    pub answers: f64,
    pub setups: f64,
    /// Dimensions that may change places.
    pub swaps: Vec<Swap>,
    /// Whether loops may stand before every mark of an operand that they index: what a part of a mapping has where the
    /// whole one has marks in between.
    pub loose: bool,
}

impl<'a> Model<'a> {
    /// Compiles a problem; none if it has too many dimensions or memories.
    pub fn new(problem: &Problem, frame: &'a Frame) -> Result<Option<Self>, SearchError> {
        let dims = frame.dims.len();
        if dims > DIMS || frame.stores.len() > STORES {
            return Ok(None);
        }
        let chains: Option<Vec<Chain>> = frame.dims.iter().map(|d| Chain::new(d.size)).collect();
        let Some(chains) = chains else {
            return Ok(None);
        };
        let mut stores = [Store::default(); STORES];
        for (store, s) in stores.iter_mut().zip(&frame.stores) {
            let place = problem.path.iter().position(|n| *n == s.node);
            let memory = problem.chip.nodes[s.node].memory();
            let bytes = place
                .and_then(|p| problem.capacity.get(p))
                .map_or(0, |b| b.0);
            *store = Store {
                capacity: bytes as f64 * 8.0 / f64::from(memory.map_or(1, |m| m.buffering.max(1))),
                energy: s.energy,
                time: s.time,
                shared_port: s.shared_port,
                single: s.single,
                setup: s.setup,
                latency: memory.map_or(0.0, |m| m.latency.0),
            };
        }
        let (slots, sections, fans) = sections(frame);
        let mut masked = [false; DIMS];
        let coupled = match problem.einsum.domain {
            Domain::Dense => None,
            Domain::Causal { query, key, .. } | Domain::Banded { query, key, .. } => {
                Some([query, key])
            }
            Domain::Ragged { group, row, .. } => Some([group, row]),
        };
        for (m, d) in masked.iter_mut().zip(&frame.dims) {
            *m = coupled.is_some_and(|c| c.contains(&d.id));
        }
        let touched = compulsory(problem).map(|t| t as f64);
        let plain = |o: usize| {
            let full: f64 = frame
                .dims
                .iter()
                .filter(|d| d.operands & (1 << o) != 0)
                .map(|d| d.size as f64)
                .product();
            coupled.is_none()
                && frame.ranks[o].iter().all(|r| r.terms.len() == 1)
                && touched[o] == full
        };
        let windows = [0, 1, 2].map(|o| !plain(o));
        let points = points(problem, frame)?;
        let mut windowed = [masked; 3];
        for (o, ranks) in frame.ranks.iter().enumerate() {
            for r in ranks.iter().filter(|r| r.terms.len() > 1) {
                r.terms.iter().for_each(|(d, _)| windowed[o][*d] = true);
            }
        }
        let mut axis_section = vec![0; frame.axes.len()];
        for (i, s) in sections.iter().enumerate() {
            for fan in &fans[s.fans.clone()] {
                axis_section[fan.0.clone()].fill(i);
            }
        }
        let (answers, setups) = waits(frame, &stores, &slots);
        Ok(Some(Self {
            answers,
            setups,
            frame,
            sizes: frame.dims.iter().map(|d| d.size as u32).collect(),
            named: frame.dims.iter().map(|d| d.operands).collect(),
            chains,
            stores,
            slots,
            sections,
            fans,
            touched,
            points,
            masked,
            windowed,
            axis_section,
            density: frame.density,
            lies: [0, 1, 2].map(|o: usize| problem.lies[o].is_some()),
            exact: windows == [false; 3],
            windows,
            swaps: swaps(problem, frame),
            loose: false,
        }))
    }

    pub fn has(&self, operand: usize, dim: usize) -> bool {
        self.named[dim] & (1 << operand) != 0
    }

    /// Whether transfers into a slot may take a set-up.
    pub fn sets_up(&self, slot: usize) -> bool {
        let operand = self.slots[slot].operand;
        let mut above = self.slots[..slot]
            .iter()
            .filter(|s| s.operand == operand)
            .map(|s| s.store)
            .chain(self.frame.levels[0].memory[operand]);
        above.any(|s| self.stores[s].setup > 0.0)
    }

    /// The part of every mapping that lies above all fanouts, if what is stored there always is.
    pub fn above_fanouts(&self) -> Option<Self> {
        let first = self.sections.first()?;
        let slots = self.slots.get(first.slots.clone())?;
        if slots.is_empty() || !slots.iter().all(|s| s.required) {
            return None;
        }
        let section = Section {
            slots: first.slots.clone(),
            fans: 0..0,
        };
        Some(Self {
            slots: slots.to_vec(),
            sections: vec![section],
            loose: true,
            ..self.clone()
        })
    }

    pub fn windows(&self, operand: usize) -> bool {
        self.windows[operand]
    }

    pub fn shares(&self, axis: u8, operand: usize) -> bool {
        self.frame.axes[usize::from(axis)].shared & (1 << operand) != 0
    }
}

/// Words that the compute takes of each operand: those that the innermost storage gives in the plainest mapping.
fn points(problem: &Problem, frame: &Frame) -> Result<[f64; 3], SearchError> {
    let macs = frame.macs;
    // Windows, and dimensions that reach into padding.
    let plain = |r: &Rank| match r.terms[..] {
        [(d, _)] => r.extent >= frame.dims[d].size as f64,
        _ => false,
    };
    let windows = frame.ranks.iter().any(|o| !o.iter().all(plain))
        || compulsory(problem)
            .iter()
            .zip(&frame.ranks)
            .any(|(t, ranks)| *t as f64 != ranks.iter().map(|r| r.extent).product::<f64>());
    if !windows {
        return Ok([macs; 3]);
    }
    let plan = super::plan::Plan::trivial(frame);
    let Ok(mapping) = crate::Mapping::new(problem, plan.steps(frame)) else {
        // Nothing fits; nothing will be searched.
        return Ok([0.0; 3]);
    };
    let cost = Analyzer::new(problem)?.evaluate(&mapping)?;
    let mut points = [macs; 3];
    for operand in [Operand::Input, Operand::Weight] {
        let last = mapping.steps().iter().rev().find_map(|s| match s {
            crate::Step::Store { memory, operand: o } if *o == operand => Some(*memory),
            _ => None,
        });
        let count = cost
            .counts
            .iter()
            .find(|c| Some(c.memory) == last && c.operand == operand);
        if let Some(c) = count {
            points[operand.index()] = c.reads as f64;
        }
    }
    Ok(points)
}

/// Latency of the memories that every mapping reads inputs or weights from, and set-ups of the first transfers that it must have:
/// out of each operand's home, if it must be kept further in, and out of each memory that must keep it but the last.
fn waits(frame: &Frame, stores: &[Store; STORES], slots: &[Slot]) -> (f64, f64) {
    let mut answers = [false; STORES];
    let mut setups = 0.0;
    for operand in 0..3 {
        let home = frame.levels[0].memory[operand].unwrap_or(0);
        let kept = slots.iter().filter(|s| s.operand == operand && s.required);
        let mut from = home;
        let mut all = vec![home];
        for s in kept {
            setups += stores[from].setup;
            from = s.store;
            all.push(from);
        }
        if operand < 2 {
            all.iter().for_each(|s| answers[*s] = true);
        }
    }
    let latency = stores.iter().zip(answers).filter(|(_, a)| *a);
    (latency.map(|(s, _)| s.latency).sum(), setups)
}

type Fans = Vec<(std::ops::Range<usize>, f64)>;

fn sections(frame: &Frame) -> (Vec<Slot>, Vec<Section>, Fans) {
    let (mut slots, mut sections, mut fans): (Vec<Slot>, Vec<Section>, Fans) =
        (Vec::new(), Vec::new(), Vec::new());
    let mut start = 0;
    for (l, level) in frame.levels.iter().enumerate() {
        for operand in (0..3).filter(|_| l > 0) {
            if let Some(store) = level.memory[operand] {
                slots.push(Slot {
                    operand,
                    store,
                    section: sections.len(),
                    required: level.required & (1 << operand) != 0,
                });
            }
        }
        let from = fans.len();
        fans.extend(level.fans.iter().map(|f| (f.axes.clone(), f.hop)));
        if fans.len() > from || l + 1 == frame.levels.len() {
            sections.push(Section {
                slots: start..slots.len(),
                fans: from..fans.len(),
            });
            start = slots.len();
        }
    }
    (slots, sections, fans)
}
