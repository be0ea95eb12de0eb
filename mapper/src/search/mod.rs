//! The search for the best mapping of a problem, with a proof.
//!
//! ```text
//! frame     the problem compiled: levels, axes, plain numbers
//! rules     what a user asks of mappings beside
//! seed      a heuristic climb: the first incumbent            (spatial, plan, estimate, climb, factors)
//! assign    all assignments of dimensions to axes, each with a bound from compulsory traffic     (symmetry)
//! shape     all orders of storage, and what stays over which loops
//! chain     all chains of tile counts of a dimension; build: those that fit, with their factors; options: the best of them
//! layout    costs as products of one factor a dimension; terms: exact for plain operands, bounds for all
//! cases     a tree of each assignment, shape and case of the output                            (posynomial)
//! dual      a bound on a whole tree by duality; options that no optimum has are dropped
//! relax     a bound on all mappings at once: what crosses into the memories above all fanouts
//! tree      one dimension after the other takes a chain; what cannot beat the incumbent is cut off
//! prove     best first over assignments, shapes and trees; bound, gap, proof
//! judge     the exact analysis of what is left
//! stages    one search, from climbs to the second proof; seconds: searches that share some
//! front     searches within limits on the other figure: Pareto fronts
//! ```
//!
//! # The space
//!
//! All placements and bypasses, uneven ones included; all assignments of dimensions to axes; all tile sizes of the
//! rule that each inner tile divides the next outer one and only the outermost split leaves a remainder; all orders
//! of loops. Of mappings that provably cost the same or more only one is looked at ([`chain`](self): fewest trips; `shape`: where
//! loops stand). For plain operands on dense domains (matmuls, 1x1 convolutions) nothing is lost:
//! the optimum is that of all legal mappings, but for uneven splits of a dimension over instances: one that is less even than its number
//! of trips allows can expose less of a first tile (5 % in the worst of some four thousand random problems with extents of at most 4). For sliding windows and masks, where tiles overlap, and for operands that lie
//! off chip in rows, of which tiles fetch runs, those rules are part
//! of the space's statement: loops stand where `shape` puts them, tile counts are fewest, and of
//! each gap's loops any one may be innermost, those that index the same operands right around it, the others in the order of the dimensions.
//!
//! # Two stages
//!
//! First the least objective. Then, of all mappings within a share [`Options::give`] of it, the least of the
//! other figure (energy for latency and EDP, latency for energy): each stage is a branch and bound of its own, with its own proof
//! ([`Certificate`]). Equal figures (to 1e-9) are ties: the first found, in a fixed order, stays.
//!
//! # Proof
//!
//! Every mapping of the space lies under exactly the trees of its assignment and of a shape in which its cost is exact; each node's bound is no more than the exact cost of
//! any mapping below that it stands for (`terms`; of assignments also `assign`: first transfers against set-ups). So when all open bounds are at least the incumbent's figure, nothing is better. The budget counts bounds
//! computed, never time; when it runs out, the least open bound and with it the gap are reported, and nothing is called proven. No thread or hash decides
//! anything, and no clock unless seconds are given ([`Options::seconds`]): then searches with growing budgets share them (`seconds`).

mod assign;
mod build;
mod cases;
mod chain;
mod climb;
mod dual;
mod estimate;
mod factors;
mod frame;
mod front;
mod judge;
mod key;
mod layout;
mod model;
mod options;
mod plan;
mod posynomial;
mod prove;
mod relax;
mod rules;
mod seconds;
mod seed;
mod shape;
mod spatial;
mod stages;
mod symmetry;
mod terms;
mod tree;

#[cfg(test)]
mod tests;

pub use front::{Front, Point, front};
pub use key::Key;
pub use rules::{Constraint, level_name};

use presil_hwmodels::{NodeId, Operand};
use presil_numerics::Bytes;
use presil_workloads::DimId;
use thiserror::Error;

use crate::analysis::AnalysisError;
use crate::{Cost, Mapping, MappingError, Problem};
use frame::Frame;
use seconds::deepen;
use stages::search;

/// What is made small. Near ties ([`Options::give`]) go to the one with less energy (less time, where energy itself
/// is made small).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Objective {
    /// Time.
    #[default]
    Latency,
    /// Energy: dynamic, and the chip's static power over the op's time.
    Energy,
    /// That energy times time.
    Edp,
}

impl Objective {
    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Energy => "energy",
            Self::Edp => "edp",
        }
    }
}

/// How a problem is searched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Work of each stage: bounds computed, of about a microsecond each. A stage whose trees are more than this can
    /// reach takes a twentieth of it. What is not proven carries its lower bound. From 2,000 on, proofs of the least time that take
    /// no longer than a climb are made in any case.
    pub budget: u64,
    /// Share of the objective that may be given up for the other figure: a mapping that takes half the energy is
    /// preferred to one that is a thousandth faster. 0 for the objective alone.
    pub give: f64,
    /// Mappings wanted beside the best one: the best by the objective ([`Solution::near`]).
    pub near: usize,
    /// Whether each subtree that was cut off in the first stage is wanted ([`Solution::cuts`]).
    pub log: bool,
    /// Seconds that the search may take, beside the budget of work: [`solve_within`] searches with growing budgets until they are
    /// used up. What it finds then depends on the machine.
    pub seconds: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            budget: RUN,
            give: 0.005,
            near: 0,
            log: false,
            seconds: None,
        }
    }
}

/// What is known of the least of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Proof {
    /// The least found (seconds, joules, or their product).
    pub found: f64,
    /// No mapping of the space has less.
    pub lower_bound: f64,
    /// Whether both are equal (to 1e-9) by exhaustion of the space, not of the budget.
    pub proven: bool,
    /// Bounds computed.
    pub expanded: u64,
    /// Subtrees cut off.
    pub pruned: u64,
    /// Mappings analysed exactly.
    pub analysed: u64,
}

impl Proof {
    /// The share of what was found that a better mapping might save.
    pub fn gap(&self) -> f64 {
        if self.proven || self.found <= 0.0 {
            0.0
        } else {
            (1.0 - self.lower_bound / self.found).max(0.0)
        }
    }
}

/// What is known of a solution: of the objective, and of the other figure among the mappings whose objective is
/// within [`Options::give`] of the least found.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Certificate {
    /// The objective over the whole space.
    pub objective: Proof,
    /// The other figure over the mappings within reach.
    pub other: Proof,
}

/// A mapping and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// The mapping.
    pub mapping: Mapping,
    /// Its exact cost.
    pub cost: Cost,
    /// Plans, bounds and exact analyses looked at.
    pub evaluated: u64,
    /// What was searched, and what is proven, in one line.
    pub space: String,
    /// No mapping of the space has a smaller objective (seconds, joules, or joule-seconds).
    pub lower_bound: f64,
    /// Whether both stages are proven.
    pub proven: bool,
    /// What was done and proven, by stage.
    pub certificate: Certificate,
    /// The best mappings by the objective, if asked for: time, energy (static included), mapping.
    pub near: Vec<(f64, f64, Mapping)>,
    /// Subtrees cut off in the first stage, if asked for.
    pub cuts: Vec<Cut>,
}

/// A subtree that was cut off, in the problem's own terms: every mapping that lays these dimensions along these axes, and, where given, stores operands in this order and cuts
/// these dimensions like this.
#[derive(Debug, Clone, PartialEq)]
pub struct Cut {
    /// Fanout, its axis, dimension and trips of each spatial loop.
    pub spreads: Vec<(NodeId, u8, DimId, u64)>,
    /// Memory and operand of each mark, and the section (fanouts passed) that it stands in; none: all shapes.
    pub marks: Option<Vec<(NodeId, Operand, usize)>>,
    /// Loops of dimensions that are chosen, from the outside in.
    pub chains: Vec<(DimId, Vec<CutLoop>)>,
    /// Objective of all of them, at least.
    pub bound: f64,
}

/// A loop of a [`Cut`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutLoop {
    /// Trips.
    pub trips: u64,
    /// In time: the mark right inside its gap, or the number of marks above the compute.
    pub mark: usize,
    /// In space: the axis, counted over the fanouts of the path.
    pub axis: Option<usize>,
}

impl Cut {
    fn new(frame: &Frame, cut: &prove::Cut) -> Self {
        let axis = |a: u8| &frame.axes[usize::from(a)];
        let spreads = cut.assignment.spreads.iter().map(|s| {
            let a = axis(s.axis);
            (
                a.fanout,
                a.axis,
                frame.dims[usize::from(s.dim)].id,
                u64::from(s.trips),
            )
        });
        let link = |l: &chain::Link| CutLoop {
            trips: u64::from(l.trips),
            mark: usize::from(l.gap),
            axis: l.axis.map(usize::from),
        };
        Self {
            spreads: spreads.collect(),
            marks: cut.marks.clone(),
            chains: cut
                .fixed
                .iter()
                .map(|(d, links)| (frame.dims[*d].id, links.iter().map(link).collect()))
                .collect(),
            bound: cut.bound,
        }
    }
}

/// Why a problem has no solution.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SearchError {
    /// Not even single elements fit.
    #[error(
        "no mapping fits: memory `{memory}` must hold at least {needed} of {operands} but has {available}; \
         enlarge it, lower its `buffering`, or let operands bypass it"
    )]
    DoesNotFit {
        /// The memory.
        memory: String,
        /// The operands that it must keep.
        operands: String,
        /// Bytes of their smallest tiles.
        needed: Bytes,
        /// Bytes that tiles may take.
        available: Bytes,
    },
    /// The problem itself is not well-formed.
    #[error("no mapping is legal: {0}")]
    Illegal(#[from] MappingError),
    /// A constraint that nothing can meet.
    #[error("the constraint of `{level}` cannot be met: {reason}")]
    Constraint {
        /// What it is of.
        level: String,
        /// Why not.
        reason: String,
    },
    /// Nothing that obeys the constraints was found.
    #[error("{}", unmet(level.as_deref(), *proven))]
    Unmet {
        /// What a constraint is of that nothing meets even alone.
        level: Option<String>,
        /// Whether no mapping obeys.
        proven: bool,
    },
    /// The analysis of every legal mapping failed.
    #[error("the analysis of a mapping failed: {0}")]
    Analysis(#[from] AnalysisError),
}

fn unmet(level: Option<&str>, proven: bool) -> String {
    match (level, proven) {
        (Some(level), _) => format!("no mapping meets the constraint of `{level}`, also without any others"),
        (None, true) => "no mapping meets all constraints at once; leave one out".into(),
        (None, false) => "no mapping that meets all constraints was found; give the search more work, or ask for less".into(),
    }
}

/// The default budget.
const RUN: u64 = 2_000;
/// A budget of fewer bounds wants a quick comparison: the light climb is all, and no bound on all mappings at once.
const QUICK_BELOW: u64 = 100;

/// What a search starts from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Climbs.
    Climb,
    /// One short climb, and no proof: a legal mapping for what is only ranked.
    Glance,
    /// A mapping that is known, in place of climbs.
    Given(&'a Mapping),
}

/// The best mapping of a problem. Equal problems give equal solutions, unless seconds are given.
///
/// # Errors
/// If no mapping is legal: [`SearchError::DoesNotFit`] names the memory that is too small.
pub fn solve(
    problem: &Problem,
    objective: Objective,
    options: &Options,
) -> Result<Solution, SearchError> {
    solve_from(problem, objective, options, Start::Climb)
}

/// The same from another start.
pub(crate) fn solve_from(
    problem: &Problem,
    objective: Objective,
    options: &Options,
    start: Start,
) -> Result<Solution, SearchError> {
    search(problem, &[], objective, options, start)
}

/// The best of the mappings that obey constraints; bounds and proofs are of those.
///
/// # Errors
/// As [`solve`]; or if a constraint can never be met, or no mapping that obeys was found: [`SearchError::Unmet`] says whether
/// there is none.
pub fn solve_within(
    problem: &Problem,
    constraints: &[Constraint],
    objective: Objective,
    options: &Options,
) -> Result<Solution, SearchError> {
    let found = match options.seconds {
        Some(seconds) => deepen(problem, constraints, objective, options, seconds),
        None => search(problem, constraints, objective, options, Start::Climb),
    };
    let Err(SearchError::Unmet { proven, .. }) = found else {
        return found;
    };
    let few = Options {
        budget: options.budget.min(ALONE),
        near: 0,
        log: false,
        ..*options
    };
    let never = |c: &&Constraint| {
        let one = std::slice::from_ref(*c);
        let alone = search(problem, one, objective, &few, Start::Climb);
        matches!(alone, Err(SearchError::Unmet { proven: true, .. }))
    };
    let alone = constraints.iter().find(never);
    Err(SearchError::Unmet {
        level: alone.map(|c| rules::level_name(problem, c)),
        proven: proven || alone.is_some(),
    })
}

/// Whether mappings of a problem obey constraints.
///
/// # Errors
/// If one can never be met.
pub fn obedience<'a>(
    problem: &'a Problem,
    constraints: &[Constraint],
) -> Result<impl Fn(&Mapping) -> bool + use<'a>, SearchError> {
    let frame = Frame::new(problem);
    let rules = rules::Rules::new(problem, &frame, constraints)?;
    Ok(move |mapping: &Mapping| {
        let broken = rules.as_ref().map(|r| r.broken(problem, &frame, mapping));
        broken.is_none_or(|far| far == 0.0)
    })
}

/// Budget of a search for the one constraint that nothing meets.
const ALONE: u64 = 20_000;

/// The first memory whose smallest tiles do not fit.
fn too_small(problem: &Problem, frame: &Frame) -> Option<SearchError> {
    let tile = vec![1; frame.dims.len()];
    let reduces = frame.dims.iter().any(|d| d.scatters);
    let output = 1 << Operand::Output.index();
    let sums_in_space = frame.axes.iter().any(|a| a.shared & output != 0);
    for (at, level) in frame.levels.iter().enumerate().skip(1) {
        // Nothing further in sums in its place.
        let innermost = frame.levels[at + 1..].iter().all(|l| l.memory[2].is_none());
        for (s, store) in frame.stores.iter().enumerate() {
            let set =
                (0..3).filter(|o| level.required & (1 << o) != 0 && level.memory[*o] == Some(s));
            let set: Vec<Operand> = set.map(|o| Operand::ALL[o]).collect();
            let width = |o: &Operand| {
                if reduces && innermost && !sums_in_space && *o == Operand::Output {
                    frame.partial
                } else {
                    frame.bits[o.index()]
                }
            };
            let bits: f64 = set
                .iter()
                .map(|o| frame.elements(o.index(), &tile) * width(o))
                .sum();
            if bits > store.capacity {
                let names: Vec<&str> = set.iter().map(|o| o.name()).collect();
                return Some(SearchError::DoesNotFit {
                    memory: problem.chip.nodes[store.node].name.clone(),
                    operands: names.join(", "),
                    needed: Bytes((bits / 8.0).ceil() as u64),
                    available: Bytes((store.capacity / 8.0) as u64),
                });
            }
        }
    }
    None
}
