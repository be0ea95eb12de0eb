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
mod rules;
mod seed;
mod shape;
mod spatial;
mod symmetry;
mod terms;
mod tree;

#[cfg(test)]
mod tests;

pub use key::Key;
pub use rules::Constraint;

use std::fmt::Write;
use std::time::{Duration, Instant};

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
use rules::Rules;
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

/// Budget of the first of the searches that share some seconds; each one after has [`DEEPER`] times that of the one before.
const FIRST: u64 = 20_000;
const DEEPER: u64 = 4;

/// Searches with growing budgets while the seconds allow another one: a search that is cut off has often done the wrong thing
/// first. The best of what they found, and the best of their bounds.
fn deepen(
    problem: &Problem,
    constraints: &[Constraint],
    objective: Objective,
    options: &Options,
    seconds: f64,
) -> Result<Solution, SearchError> {
    let start = Instant::now();
    let mut budget = FIRST.min(options.budget);
    let mut best: Option<Solution> = None;
    loop {
        let begun = start.elapsed().as_secs_f64();
        let round = Options {
            budget,
            seconds: Some((seconds - begun).max(0.0)),
            ..*options
        };
        let found = search(problem, constraints, objective, &round, Start::Climb);
        let now = start.elapsed().as_secs_f64();
        let last = budget >= options.budget || now + (now - begun) > seconds;
        match (found, &best) {
            (Ok(next), _) => best = Some(next.beside(best)),
            (Err(SearchError::Unmet { proven: false, .. }), _) if !last => {}
            (Err(error), None) => return Err(error),
            (Err(_), Some(_)) => {}
        }
        match best {
            Some(solution) if last || solution.proven => return Ok(solution),
            _ => budget = budget.saturating_mul(DEEPER).min(options.budget),
        }
    }
}

impl Solution {
    /// The better of two solutions of one problem, with the better of their bounds.
    fn beside(self, before: Option<Self>) -> Self {
        let Some(before) = before else { return self };
        let of = |s: &Self| s.certificate.objective;
        let bound = of(&self).lower_bound.max(of(&before).lower_bound);
        let work = self.evaluated + before.evaluated;
        let mut better = match of(&self).found <= of(&before).found {
            true => self,
            false => before,
        };
        better.evaluated = work;
        let proof = &mut better.certificate.objective;
        let own = std::mem::replace(&mut proof.lower_bound, bound.min(proof.found));
        if own < proof.lower_bound {
            let most = 100.0 * (proof.found / proof.lower_bound - 1.0);
            let _ = write!(
                better.space,
                "; by another search at most {most:.2} % above the least"
            );
        }
        better.lower_bound = better.certificate.objective.lower_bound;
        better
    }
}

/// Budget of a search for the one constraint that nothing meets.
const ALONE: u64 = 20_000;

fn search(
    problem: &Problem,
    constraints: &[Constraint],
    objective: Objective,
    options: &Options,
    start: Start,
) -> Result<Solution, SearchError> {
    #[cfg(test)]
    let watch = tests::Watch::new();
    #[cfg(test)]
    let options = &tests::changed(options);
    let mut frame = Frame::new(problem);
    frame.rules = Rules::new(problem, &frame, constraints)?;
    let clock = Clock::new(options);
    frame.until = clock.end(1.0);
    let analyzer = Analyzer::new(problem)?;
    let model = match start {
        Start::Glance => None,
        _ => Model::new(problem, &frame)?,
    };
    let search = Search {
        problem,
        frame: &frame,
        analyzer: &analyzer,
        model: model.as_ref(),
        objective,
        options,
        start,
        clock,
    };
    let solution = search.solve()?;
    #[cfg(test)]
    watch.tell(problem, &solution);
    Ok(solution)
}

/// When parts of a search have to end.
#[derive(Debug, Clone, Copy)]
struct Clock {
    start: Instant,
    seconds: Option<f64>,
}

impl Clock {
    fn new(options: &Options) -> Self {
        Self {
            start: Instant::now(),
            seconds: options.seconds,
        }
    }

    /// After a share of the seconds.
    fn end(self, share: f64) -> Option<Instant> {
        let length = Duration::try_from_secs_f64(self.seconds? * share).ok()?;
        self.start.checked_add(length)
    }
}

/// Shares of the seconds after which the first stage ends, and the second.
const STAGES: [f64; 2] = [0.7, 0.95];

/// One search.
struct Search<'a, 'p> {
    problem: &'a Problem<'p>,
    frame: &'a Frame,
    analyzer: &'a Analyzer<'p>,
    model: Option<&'a Model<'a>>,
    objective: Objective,
    options: &'a Options,
    start: Start<'a>,
    clock: Clock,
}

/// What the first climbs found.
struct Climbed {
    seeds: Vec<Found>,
    /// Why they found nothing.
    failure: Option<SearchError>,
    /// Plans looked at.
    looked: u64,
    /// Whether only light ones were made, since the proof is within reach.
    light: bool,
    /// Bounds that the first stage may compute.
    budget: u64,
}

impl Search<'_, '_> {
    fn climb(&self, effort: Effort) -> Result<(Vec<Found>, u64), SearchError> {
        let (problem, frame, analyzer) = (self.problem, self.frame, self.analyzer);
        match self.start {
            Start::Climb => seed::seeds(problem, frame, analyzer, self.objective, effort),
            Start::Glance => seed::glance(problem, frame, analyzer, self.objective, GLANCE),
            Start::Given(mapping) => seed::given(problem, frame, analyzer, mapping),
        }
    }

    /// Whether no more than a quick comparison is wanted.
    fn quick(&self) -> bool {
        self.options.budget < QUICK_BELOW
    }

    /// Climbs: light ones where the proof is within reach, else full ones.
    fn first_climbs(&self) -> Result<Climbed, SearchError> {
        let options = self.options;
        let latency = self.objective == Objective::Latency;
        let plain = self.model.is_some_and(|m| m.exact);
        let budget = match latency && plain && options.budget >= RUN {
            true => options.budget.max(PROOF),
            false => options.budget,
        };
        let hopeful = latency && budget >= PROOFS_FROM && matches!(self.start, Start::Climb);
        let first = self.climb(if hopeful || self.quick() { LIGHT } else { SEED });
        let (mut seeds, mut looked) = match first {
            // What little there is may have escaped them: the proof looks for it.
            Err(failure) if self.model.is_some() => {
                return Ok(Climbed {
                    seeds: Vec::new(),
                    failure: Some(failure),
                    looked: 0,
                    light: false,
                    budget,
                });
            }
            found => found?,
        };
        let near = self.near(&seeds);
        let within = self
            .model
            .is_some_and(|m| hopeful && reaches(m, near, budget));
        if hopeful && !within {
            let (more, counted) = self.climb(SEED)?;
            seeds.extend(more);
            looked += counted;
        }
        // Those of the light climbs bound what the proof looks at.
        Ok(Climbed {
            seeds,
            failure: None,
            looked,
            light: within,
            budget: if within { budget } else { options.budget },
        })
    }

    /// The time of the fastest mapping, and what may be given up of it.
    fn near(&self, seeds: &[Found]) -> f64 {
        let fastest = seeds.iter().map(|f| f.time).fold(f64::INFINITY, f64::min);
        fastest * (1.0 + self.options.give)
    }

    /// The figures of the two stages.
    fn figures(&self) -> (Figure, Figure) {
        match self.objective {
            Objective::Latency => (Figure::Time, Figure::Energy),
            Objective::Energy => (Figure::Energy, Figure::Time),
            Objective::Edp => (Figure::Product, Figure::Energy),
        }
    }

    fn solve(&self) -> Result<Solution, SearchError> {
        let Climbed {
            seeds,
            failure,
            mut looked,
            light,
            budget,
        } = self.first_climbs()?;
        let (first, second) = self.figures();
        // No mapping that takes longer than the seeds is chosen for its time, nor for its energy after that.
        let most = match first {
            Figure::Time if !self.options.log => self.near(&seeds),
            _ => f64::INFINITY,
        };
        let mut exact = Exact::new(self.problem, self.analyzer, self.frame, seeds);
        let mut common = self.model.map(|m| Common::new(m, most, budget));
        let goal = Goal {
            figure: first,
            limited: first,
            limit: f64::INFINITY,
        };
        let log = self.options.log;
        let (mut of_objective, outcome) =
            self.stage(&mut exact, &mut common, (goal, 0), budget, log);
        match failure {
            Some(failure) if exact.is_empty() => return Err(failure),
            Some(_) => {}
            None => looked += self.climb_again(&mut exact, &mut of_objective, light)?,
        }
        if self.frame.rules.is_some() && exact.is_empty() {
            let (level, proven) = (None, of_objective.proven);
            return Err(SearchError::Unmet { level, proven });
        }
        let goal = Goal {
            figure: second,
            limited: first,
            limit: of_objective.found * (1.0 + self.options.give),
        };
        let (of_other, _) = self.stage(
            &mut exact,
            &mut common,
            (goal, 1),
            self.options.budget,
            false,
        );
        let Some(mapping) = exact.chosen(goal) else {
            return Err(SearchError::Illegal(MappingError::Place {
                step: 0,
                reason: "the search made no mapping".into(),
            }));
        };
        let certificate = Certificate {
            objective: of_objective,
            other: of_other,
        };
        let near = match self.model {
            Some(model) if self.options.near > 0 => {
                let until = self.clock.end(1.0);
                nearest(model, &mut exact, first, self.options, until)
            }
            _ => Vec::new(),
        };
        let work = |p: &Proof| p.expanded + p.analysed;
        let cuts = outcome.cuts.iter().map(|c| Cut::new(self.frame, c));
        Ok(Solution {
            cost: self.analyzer.evaluate(&mapping)?,
            mapping,
            evaluated: looked + work(&of_objective) + work(&of_other),
            space: words(
                self.objective,
                self.frame,
                &outcome,
                &certificate,
                self.options,
            ),
            lower_bound: of_objective.lower_bound,
            proven: of_objective.proven && of_other.proven,
            certificate,
            near,
            cuts: cuts.collect(),
        })
    }

    /// One branch and bound towards a goal, of the first stage or the second.
    fn stage(
        &self,
        exact: &mut Exact,
        common: &mut Option<Common>,
        (goal, which): (Goal, usize),
        budget: u64,
        log: bool,
    ) -> (Proof, Outcome) {
        exact.begin(goal, self.options.give);
        let best = exact.best();
        let outcome = match (self.model, common) {
            (Some(model), Some(common)) => {
                common.until = self.clock.end(STAGES[which]);
                prove(model, goal, best, exact, budget, log, common)
            }
            _ => {
                let (time, energy) = self.frame.floor();
                Outcome {
                    bound: goal.of(self.frame.static_power, time, energy),
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
    }

    /// One more climb where much may be left to gain, or where the proof that full climbs were left out for failed; plans
    /// looked at.
    fn climb_again(
        &self,
        exact: &mut Exact,
        proof: &mut Proof,
        light: bool,
    ) -> Result<u64, SearchError> {
        let dense = self.frame.density >= 1.0;
        let climbs = matches!(self.start, Start::Climb);
        let long = dense && !self.quick() && climbs && proof.gap() > WIDE;
        if !long && (!light || proof.proven) {
            return Ok(0);
        }
        let (more, counted) = self.climb(if long { LONG } else { SEED })?;
        exact.add(more);
        proof.found = proof.found.min(exact.best());
        proof.lower_bound = proof.lower_bound.min(proof.found);
        Ok(counted)
    }
}

/// The best mappings by a figure, as many as are wanted or as the budget finds.
fn nearest(
    model: &Model,
    exact: &mut Exact,
    figure: Figure,
    options: &Options,
    until: Option<Instant>,
) -> Vec<(f64, f64, Mapping)> {
    let goal = Goal {
        figure,
        limited: figure,
        limit: f64::INFINITY,
    };
    exact.begin(goal, options.give);
    exact.keep(options.near);
    let mut common = Common::new(model, f64::INFINITY, options.budget);
    common.until = until;
    prove(
        model,
        goal,
        f64::INFINITY,
        exact,
        options.budget,
        false,
        &mut common,
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
