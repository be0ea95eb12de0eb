//! The search for the best mapping of a problem, with a proof.
//!
//! ```text
//! frame     the problem compiled: levels, axes, plain numbers
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
//! ```
//!
//! # The space
//!
//! All placements and bypasses, uneven ones included; all assignments of dimensions to axes; all tile sizes of the
//! rule that each inner tile divides the next outer one and only the outermost split leaves a remainder; all orders
//! of loops. Of mappings that provably cost the same or more only one is looked at ([`chain`](self): fewest trips; `shape`: where
//! loops stand). For plain operands on dense domains (matmuls, 1x1 convolutions) nothing is lost:
//! the optimum is that of all legal mappings, but for uneven splits of a dimension over instances: one that is less even than its number
//! of trips allows can expose a little less of a first tile (0.3 % and 0.02 %, in two of some two thousand small random arrays). For sliding windows and masks, where tiles overlap, and for operands that lie
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
//! computed, never time; when it runs out, the least open bound and with it the gap are reported, and nothing is called proven. No thread, hash or clock decides
//! anything.

mod assign;
mod build;
mod cases;
mod chain;
mod climb;
mod dual;
mod estimate;
mod factors;
mod frame;
mod judge;
mod key;
mod layout;
mod model;
mod options;
mod plan;
mod posynomial;
mod prove;
mod relax;
mod seed;
mod shape;
mod spatial;
mod symmetry;
mod terms;
mod tree;

#[cfg(test)]
mod tests;

pub use key::Key;

use presil_hwmodels::{NodeId, Operand};
use presil_numerics::Bytes;
use presil_workloads::DimId;
use thiserror::Error;

use crate::analysis::{AnalysisError, Analyzer};
use crate::{Cost, Mapping, MappingError, Problem};
use frame::Frame;
use judge::Exact;
use model::Model;
use prove::{Common, Outcome, prove, reaches};
use seed::{Effort, Found};
use tree::{Figure, Goal};

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
}

impl Default for Options {
    fn default() -> Self {
        Self {
            budget: RUN,
            give: 0.005,
            near: 0,
            log: false,
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
    /// The analysis of every legal mapping failed.
    #[error("the analysis of a mapping failed: {0}")]
    Analysis(#[from] AnalysisError),
}

/// Effort of the climb where the proof is within reach: its dives do the rest.
const LIGHT: Effort = Effort {
    estimates: 1_000,
    evaluations: 12,
};

/// Effort of the climb elsewhere.
const SEED: Effort = Effort {
    estimates: 6_000,
    evaluations: 72,
};

/// Effort of one more climb where much may be left to gain: nothing better than this share above the lower bound was found.
const LONG: Effort = Effort {
    estimates: 40_000,
    evaluations: 480,
};
const WIDE: f64 = 0.2;

/// Effort of a climb whose result is only ranked.
const GLANCE: Effort = Effort {
    estimates: 240,
    evaluations: 4,
};

/// A budget of fewer bounds reaches hardly any proof: the full climb is made at once.
const PROOFS_FROM: u64 = 10_000;
/// Bounds of a proof that takes no longer than the full climb, where operands are plain: it is made instead, and after it the full
/// climb only if it fails. Budgets from `RUN` on allow that.
const PROOF: u64 = 32_000;
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

/// The best mapping of a problem. Equal problems give equal solutions.
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
    #[cfg(test)]
    let watch = tests::Watch::new();
    #[cfg(test)]
    let options = &tests::changed(options);
    let frame = Frame::new(problem);
    let analyzer = Analyzer::new(problem)?;
    let model = match start {
        Start::Glance => None,
        _ => Model::new(problem, &frame)?,
    };
    let climb = |effort| match start {
        Start::Climb => seed::seeds(problem, &frame, &analyzer, objective, effort),
        Start::Glance => seed::glance(problem, &frame, &analyzer, objective, GLANCE),
        Start::Given(mapping) => seed::given(problem, &frame, &analyzer, mapping),
    };
    let plain = model.as_ref().is_some_and(|m| m.exact);
    let budget = match objective {
        Objective::Latency if plain && options.budget >= RUN => options.budget.max(PROOF),
        _ => options.budget,
    };
    let hopeful =
        objective == Objective::Latency && budget >= PROOFS_FROM && matches!(start, Start::Climb);
    let quick = options.budget < QUICK_BELOW;
    let (mut seeds, mut looked) = climb(if hopeful || quick { LIGHT } else { SEED })?;
    let fastest = |s: &[Found]| s.iter().map(|f| f.time).fold(f64::INFINITY, f64::min);
    let near = fastest(&seeds) * (1.0 + options.give);
    let light = model
        .as_ref()
        .is_some_and(|m| hopeful && reaches(m, near, budget));
    let budget = if light { budget } else { options.budget };
    if hopeful && !light {
        let (more, counted) = climb(SEED)?;
        seeds.extend(more);
        looked += counted;
    }
    let (first, second) = match objective {
        Objective::Latency => (Figure::Time, Figure::Energy),
        Objective::Energy => (Figure::Energy, Figure::Time),
        Objective::Edp => (Figure::Product, Figure::Energy),
    };
    let mut exact = Exact::new(problem, &analyzer, frame.static_power, seeds);
    // No mapping that takes longer than the seeds is chosen for its time, nor for its energy after that.
    let most = match first {
        Figure::Time if !options.log => near,
        _ => f64::INFINITY,
    };
    let mut common = model.as_ref().map(|m| Common::new(m, most, budget));
    let mut stage = |exact: &mut Exact, goal: Goal, budget: u64, log: bool| {
        exact.begin(goal, options.give);
        let best = exact.best();
        let outcome = match (&model, &mut common) {
            (Some(model), Some(common)) => prove(model, goal, best, exact, budget, log, common),
            _ => {
                let (time, energy) = frame.floor();
                Outcome {
                    bound: goal.of(frame.static_power, time, energy),
                    ..Outcome::default()
                }
            }
        };
        let proof = Proof {
            found: exact.best(),
            lower_bound: outcome.bound.min(exact.best()),
            proven: outcome.proven,
            expanded: outcome.work.bounds,
            pruned: outcome.work.pruned,
            analysed: outcome.work.leaves,
        };
        (proof, outcome)
    };
    let goal = Goal {
        figure: first,
        limited: first,
        limit: f64::INFINITY,
    };
    let (mut of_objective, outcome) = stage(&mut exact, goal, budget, options.log);
    let dense = frame.density >= 1.0;
    let long = dense && !quick && matches!(start, Start::Climb) && of_objective.gap() > WIDE;
    if long || (light && !of_objective.proven) {
        let (more, counted) = climb(if long { LONG } else { SEED })?;
        looked += counted;
        exact.add(more);
        of_objective.found = of_objective.found.min(exact.best());
        of_objective.lower_bound = of_objective.lower_bound.min(of_objective.found);
    }
    let goal = Goal {
        figure: second,
        limited: first,
        limit: of_objective.found * (1.0 + options.give),
    };
    let (of_other, _) = stage(&mut exact, goal, options.budget, false);
    let Some(mapping) = exact.chosen(goal) else {
        return Err(SearchError::Illegal(MappingError::Place {
            step: 0,
            reason: "the search made no mapping".into(),
        }));
    };
    let cost = analyzer.evaluate(&mapping)?;
    let certificate = Certificate {
        objective: of_objective,
        other: of_other,
    };
    let near = match &model {
        Some(model) if options.near > 0 => nearest(model, &mut exact, first, options),
        _ => Vec::new(),
    };
    let work = |p: &Proof| p.expanded + p.analysed;
    let cuts = outcome.cuts.iter().map(|c| Cut::new(&frame, c)).collect();
    let solution = Solution {
        mapping,
        cost,
        evaluated: looked + work(&of_objective) + work(&of_other),
        space: words(objective, &frame, &outcome, &certificate, options),
        lower_bound: of_objective.lower_bound,
        proven: of_objective.proven && of_other.proven,
        certificate,
        near,
        cuts,
    };
    #[cfg(test)]
    watch.tell(problem, &solution);
    Ok(solution)
}

/// The best mappings by a figure, as many as are wanted or as the budget finds.
fn nearest(
    model: &Model,
    exact: &mut Exact,
    figure: Figure,
    options: &Options,
) -> Vec<(f64, f64, Mapping)> {
    let goal = Goal {
        figure,
        limited: figure,
        limit: f64::INFINITY,
    };
    exact.begin(goal, options.give);
    exact.keep(options.near);
    prove(
        model,
        goal,
        f64::INFINITY,
        exact,
        options.budget,
        false,
        &mut Common::new(model, f64::INFINITY, options.budget),
    );
    exact.kept()
}

/// What was searched and proven, in one line.
fn words(
    objective: Objective,
    frame: &Frame,
    outcome: &Outcome,
    certificate: &Certificate,
    options: &Options,
) -> String {
    if outcome.shapes == 0 {
        return format!(
            "{} dimensions: climbed to a local optimum, not proven",
            frame.dims.len()
        );
    }
    let Certificate {
        objective: o,
        other,
    } = certificate;
    let first = if o.proven {
        format!("{} proven optimal", objective.name())
    } else {
        format!(
            "{} at most {:.2} % above the optimum",
            objective.name(),
            100.0 * o.gap() / (1.0 - o.gap()).max(1e-9)
        )
    };
    let name = if objective == Objective::Energy {
        "latency"
    } else {
        "energy"
    };
    let reach = if options.give > 0.0 {
        format!(" within {} % of it", 100.0 * options.give)
    } else {
        " of those".into()
    };
    let second = if other.proven {
        format!("least {name}{reach} proven")
    } else {
        format!(
            "{name}{reach} at most {:.2} % above the least",
            100.0 * other.gap() / (1.0 - other.gap()).max(1e-9)
        )
    };
    format!(
        "{} axis assignments, {} shapes, {} dimensions: {first}; {second}; {} bounds, {} exact analyses",
        outcome.assignments,
        outcome.shapes,
        frame.dims.len(),
        o.expanded + other.expanded,
        o.analysed + other.analysed,
    )
}

/// The first memory whose smallest tiles do not fit.
fn too_small(problem: &Problem, frame: &Frame) -> Option<SearchError> {
    let tile = vec![1; frame.dims.len()];
    for level in frame.levels.iter().skip(1) {
        for (s, store) in frame.stores.iter().enumerate() {
            let set =
                (0..3).filter(|o| level.required & (1 << o) != 0 && level.memory[*o] == Some(s));
            let set: Vec<Operand> = set.map(|o| Operand::ALL[o]).collect();
            let reduces = frame.dims.iter().any(|d| d.scatters);
            let width = |o: &Operand| {
                if reduces && *o == Operand::Output {
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
