//! The search for the best mapping of a problem.
//!
//! ```text
//! frame     the problem compiled: levels, axes, plain numbers
//! spatial   assignments of dimensions to axes, by speed-up
//! plan      a point of the space: axes, factors, loop orders, bypasses, hoists; any plan is a legal chain of tiles
//! estimate  cost of a plan in closed form (under a microsecond)
//! climb     from a plan to a local optimum
//! solve     seeds -> climbs on the estimate -> exact analysis of the best -> a last climb on the exact cost
//! ```
//!
//! The space is all of: assignments of at most three dimensions to an axis, every tile size (quotients need not
//! be exact), every loop order, every bypass and every placement of storage between the loops of adjacent levels.
//! The search of it is heuristic: it is deterministic, always ends at a legal mapping if there is one, and is
//! bounded by a number of evaluations, never by time. It does not prove that nothing better exists.

mod assign;
mod chain;
mod climb;
mod estimate;
mod factors;
mod frame;
mod key;
mod model;
mod plan;
mod prove;
mod shape;
mod spatial;
mod terms;
mod tree;

#[cfg(test)]
mod tests;

pub use key::Key;

use presil_hwmodels::Operand;
use presil_numerics::Bytes;
use presil_workloads::Domain;
use rustc_hash::FxHashSet;
use thiserror::Error;

use crate::analysis::{AnalysisError, evaluate};
use crate::{Cost, Mapping, MappingError, Problem};
use climb::{Climb, Numbers};
use estimate::{Estimator, Score};
use factors::Factors;
use frame::Frame;
use plan::{Plan, Spread};

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

/// How much work a search may do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Estimates in closed form.
    pub estimates: u64,
    /// Exact analyses.
    pub evaluations: u64,
    /// Share of the objective that may be given up for the other figure: a mapping that takes half the energy is
    /// preferred to one that is a thousandth faster. 0 for the objective alone.
    pub give: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            estimates: 6_000,
            evaluations: 72,
            give: 0.005,
        }
    }
}

/// A mapping and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// The mapping.
    pub mapping: Mapping,
    /// Its exact cost.
    pub cost: Cost,
    /// Plans looked at: estimates and exact analyses.
    pub evaluated: u64,
    /// What was searched, and how, in one line.
    pub space: String,
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

/// Assignments of axes that are looked into.
const ASSIGNMENTS: usize = 12;
/// Positions of a mask that are analysed in full budget.
const SHORT_MASK: u64 = 1024;
/// Climbs from the best seeds.
const CLIMBS: usize = 6;
/// Plans that are analysed exactly before the last climb.
const FINALISTS: usize = 16;

/// The best mapping found for a problem. Equal problems give equal solutions.
///
/// A climb towards one figure alone ends at worse local optima than one towards the product of energy and time, as
/// often as not, also in that figure (and estimates spread a mask evenly over the tiles, which misleads more). So the
/// problem is searched towards both (half as long towards the one figure), and the better of both ends is taken.
///
/// # Errors
/// If no mapping is legal: [`SearchError::DoesNotFit`] names the memory that is too small.
pub fn solve(
    problem: &Problem,
    objective: Objective,
    options: &Options,
) -> Result<Solution, SearchError> {
    let solution = seed(problem, objective, options)?;
    #[cfg(test)]
    tests::measure::trace(problem, objective, &solution);
    Ok(solution)
}

fn seed(
    problem: &Problem,
    objective: Objective,
    options: &Options,
) -> Result<Solution, SearchError> {
    let frame = Frame::new(problem);
    let options = &affordable(problem, options);
    let balanced = solve_towards(problem, &frame, Objective::Edp, options)?;
    if objective == Objective::Edp {
        return Ok(balanced);
    }
    let less = Options {
        estimates: options.estimates / 2,
        evaluations: options.evaluations / 2,
        ..*options
    };
    let single = solve_towards(problem, &frame, objective, &less)?;
    let evaluated = single.evaluated + balanced.evaluated;
    let ends = [&single, &balanced].map(|s| {
        let (time, dynamic) = (s.cost.time.0, s.cost.energy_total().0);
        (time, dynamic + frame.static_power * time)
    });
    let best = match chosen(objective, options.give, &ends) {
        Some(1) => balanced,
        _ => single,
    };
    Ok(Solution { evaluated, ..best })
}

/// Fewer exact analyses for long masks: the work of one grows with the tiles along the mask's border, so with its
/// length. The budget is that of masks of up to `SHORT_MASK` positions.
fn affordable(problem: &Problem, options: &Options) -> Options {
    let size = |d| problem.einsum.dim(d).size;
    let length = match problem.einsum.domain {
        Domain::Causal { query, key, .. } | Domain::Banded { query, key, .. } => {
            size(query).min(size(key))
        }
        _ => 1,
    };
    let share = length.div_ceil(SHORT_MASK).max(1);
    Options {
        evaluations: (options.evaluations / share).max(2),
        ..*options
    }
}

/// One search towards an objective.
fn solve_towards(
    problem: &Problem,
    frame: &Frame,
    objective: Objective,
    options: &Options,
) -> Result<Solution, SearchError> {
    let mut search = Search {
        frame,
        objective,
        estimator: Estimator::default(),
        factors: Factors::default(),
        pool: Vec::new(),
        balanced: Vec::new(),
    };
    let trivial = Plan::trivial(frame);
    let spreads = spatial::assignments(frame, ASSIGNMENTS);
    search.explore(&trivial, &spreads, options.estimates);
    let mut exact = Exact {
        problem,
        frame,
        objective,
        best: None,
        legal: Vec::new(),
        failure: None,
        seen: FxHashSet::default(),
        count: 0,
    };
    let pool = std::mem::take(&mut search.pool);
    let finalists = pool
        .iter()
        .map(|(_, plan)| plan)
        .take(FINALISTS)
        .chain(&search.balanced);
    for plan in finalists.take(options.evaluations.max(1) as usize) {
        exact.evaluate(plan);
    }
    if exact.best.is_none() {
        exact.evaluate(&trivial);
    }
    if let Some((score, plan)) = exact.best.clone() {
        let left = options.evaluations.saturating_sub(exact.count);
        let mut climb = Climb {
            frame,
            spreads: &spreads,
            factors: &mut search.factors,
            thorough: false,
        };
        climb.climb(plan, score, left, &mut |p| exact.evaluate(p));
    }
    let evaluated = search.estimator.count + exact.count;
    let space = format!(
        "{} axis assignments, {} levels, {} dimensions: {} estimates, {} exact analyses; local optimum, not proven",
        spreads.len(),
        frame.levels.len(),
        frame.dims.len(),
        search.estimator.count,
        exact.count,
    );
    match (exact.chosen(options.give), exact.failure) {
        (Some((mapping, cost)), _) => Ok(Solution {
            mapping,
            cost,
            evaluated,
            space,
        }),
        (None, Some(failure)) => Err(too_small(problem, frame).unwrap_or(failure)),
        (None, None) => Err(too_small(problem, frame).unwrap_or(SearchError::Illegal(
            MappingError::Place {
                step: 0,
                reason: "the search made no mapping".into(),
            },
        ))),
    }
}

/// The search on estimates.
struct Search<'a> {
    frame: &'a Frame,
    objective: Objective,
    estimator: Estimator,
    factors: Factors,
    /// The best plans, best first.
    pool: Vec<Scored>,
    /// Where climbs ended, also those that other objectives led: safe where the estimate of one of them errs.
    balanced: Vec<Plan>,
}

impl Search<'_> {
    fn score(&mut self, plan: &Plan) -> Score {
        let objective = self.objective;
        let estimate = self.estimator.estimate(self.frame, plan);
        estimate.map_or(Score::WORST, |e| {
            self.frame.score(objective, e.time, e.energy)
        })
    }

    /// Fills the pool within a budget of estimates.
    fn explore(&mut self, trivial: &Plan, spreads: &[Vec<Spread>], budget: u64) {
        let mut seeds = Vec::new();
        for (i, s) in spreads.iter().enumerate() {
            for keep_all in [true, false].into_iter().take(if i < 3 { 2 } else { 1 }) {
                let mut plan = Plan {
                    spreads: s.clone(),
                    ..trivial.clone()
                };
                for (layer, level) in plan.layers.iter_mut().zip(&self.frame.levels).skip(1) {
                    layer.keep = if keep_all {
                        level.allowed()
                    } else {
                        level.required
                    };
                }
                if self.score(&plan) != Score::WORST {
                    let filled = self.filled(plan);
                    for stationary in 0..3 {
                        let plan = self.ordered(filled.clone(), stationary);
                        seeds.push((self.score(&plan), plan));
                    }
                }
            }
        }
        let score = self.score(trivial);
        if score != Score::WORST {
            seeds.push((score, trivial.clone()));
        }
        rank(&mut seeds);
        let (seeds, rest) = varied(seeds, CLIMBS);
        // The product of time and energy has fewer plateaus than either: it leads, the objective follows. Energy
        // has none; it leads the way for time from the best seed.
        let share = budget.saturating_sub(self.estimator.count) / (3 * seeds.len() + 6) as u64;
        let placed = self.placed(trivial, share);
        let seeds = seeds.into_iter().map(|s| s.1).chain(placed);
        for (i, seed) in seeds.enumerate() {
            for leader in [Objective::Edp, Objective::Energy, Objective::Latency] {
                let leads = leader == self.objective || leader == Objective::Edp;
                if !leads && (i > 0 || leader == Objective::Latency) {
                    continue;
                }
                let mut plan = self.climb(leader, spreads, seed.clone(), Score::WORST, share);
                if leader != self.objective {
                    self.balanced.push(plan.clone());
                    plan = self.climb(self.objective, spreads, plan, Score::WORST, share);
                }
                self.balanced.push(plan);
            }
        }
        self.polish(spreads, rest, budget);
    }

    /// The plainest plan with the best order of its loops and the best places of storage among them.
    fn placed(&mut self, trivial: &Plan, budget: u64) -> Option<Plan> {
        let score = self.score(trivial);
        let Self {
            frame,
            objective,
            estimator,
            factors,
            ..
        } = self;
        let mut climb = Climb {
            frame,
            spreads: &[],
            factors,
            thorough: true,
        };
        let mut evaluate = |p: &Plan| {
            let estimate = estimator.estimate(frame, p);
            estimate.map_or(Score::WORST, |e| frame.score(*objective, e.time, e.energy))
        };
        (score != Score::WORST)
            .then(|| climb.placed(trivial.clone(), score, 3 * budget, &mut evaluate))
    }

    /// Climbs from kicked good plans, and from the seeds that are left, in turn, as long as the budget lasts.
    fn polish(&mut self, spreads: &[Vec<Spread>], seeds: Vec<Scored>, budget: u64) {
        let mut numbers = Numbers(1);
        let mut seeds = seeds.into_iter();
        let mut round = 0;
        // Without loops there is little to change.
        let budget = if self.frame.dims.is_empty() {
            0
        } else {
            budget
        };
        while self.estimator.count < budget && !self.pool.is_empty() {
            round += 1;
            let seed = if round % 2 == 0 { seeds.next() } else { None };
            // A seed keeps its assignment of axes for as long as nothing else can better it.
            let (plan, allowed) = match seed {
                Some((_, plan)) => (plan, &[][..]),
                None => {
                    let from = if round % 4 == 1 {
                        0
                    } else {
                        numbers.below(self.pool.len().min(FINALISTS))
                    };
                    let plan = self.pool[from].1.clone();
                    let mut climb = Climb {
                        frame: self.frame,
                        spreads,
                        factors: &mut self.factors,
                        thorough: false,
                    };
                    (climb.kicked(plan, &mut numbers), spreads)
                }
            };
            let score = self.score(&plan);
            if score != Score::WORST {
                let left = budget.saturating_sub(self.estimator.count);
                self.climb(self.objective, allowed, plan, score, left.min(budget / 8));
            }
        }
    }

    /// Climbs from a plan towards an objective; what it finds enters the pool.
    fn climb(
        &mut self,
        towards: Objective,
        spreads: &[Vec<Spread>],
        plan: Plan,
        score: Score,
        budget: u64,
    ) -> Plan {
        let (frame, objective) = (self.frame, self.objective);
        let Self {
            estimator,
            factors,
            pool,
            ..
        } = self;
        let mut climb = Climb {
            frame,
            spreads,
            factors,
            thorough: true,
        };
        let mut last = Score::WORST;
        let mut evaluate = |p: &Plan| {
            let Some(e) = estimator.estimate(frame, p) else {
                return Score::WORST;
            };
            let score = frame.score(objective, e.time, e.energy);
            // What nearly was the best may be so in the exact analysis.
            if score.beats(last) {
                last = score;
                pool.push((score, p.clone()));
            }
            frame.score(towards, e.time, e.energy)
        };
        let score = if score == Score::WORST {
            evaluate(&plan)
        } else {
            score
        };
        let (found, _) = climb.climb(plan, score, budget, &mut evaluate);
        rank(&mut self.pool);
        self.pool.dedup_by(|a, b| a.1 == b.1);
        self.pool.truncate(4 * FINALISTS);
        found
    }

    fn filled(&mut self, plan: Plan) -> Plan {
        let frame = self.frame;
        let Self {
            estimator, factors, ..
        } = self;
        let mut climb = Climb {
            frame,
            spreads: &[],
            factors,
            thorough: false,
        };
        climb.filled(plan, &mut |p| estimator.estimate(frame, p).is_some())
    }

    /// Puts the loops that leave an operand where it is innermost, at every level.
    fn ordered(&self, mut plan: Plan, stationary: usize) -> Plan {
        for layer in &mut plan.layers {
            layer
                .order
                .sort_by_key(|d| (self.frame.dims[*d].operands & (1 << stationary) == 0, *d));
        }
        plan
    }
}

/// A plan and its score.
type Scored = (Score, Plan);

fn rank(plans: &mut [Scored]) {
    plans.sort_by(|a, b| a.0.0.total_cmp(&b.0.0).then(a.0.1.total_cmp(&b.0.1)));
}

/// The best plans, at most two of each assignment of axes; and the best of each other assignment.
fn varied(plans: Vec<Scored>, count: usize) -> (Vec<Scored>, Vec<Scored>) {
    let (mut kept, mut rest): (Vec<Scored>, Vec<Scored>) = (Vec::new(), Vec::new());
    for p in plans {
        let same = |k: &&Scored| k.1.spreads == p.1.spreads;
        let seen = kept.iter().filter(same).count();
        if kept.len() < count && seen < 2 {
            kept.push(p);
        } else if seen == 0 && !rest.iter().any(|k| k.1.spreads == p.1.spreads) {
            rest.push(p);
        }
    }
    (kept, rest)
}

/// Exact analyses, and the best of them.
struct Exact<'a, 'p> {
    problem: &'a Problem<'p>,
    frame: &'a Frame,
    objective: Objective,
    /// The best score and its plan.
    best: Option<(Score, Plan)>,
    /// Every legal mapping that was evaluated: time, energy with the static share, the mapping and its cost.
    legal: Vec<(f64, f64, Mapping, Cost)>,
    failure: Option<SearchError>,
    seen: FxHashSet<Vec<crate::Step>>,
    count: u64,
}

impl Exact<'_, '_> {
    fn evaluate(&mut self, plan: &Plan) -> Score {
        let steps = plan.steps(self.frame);
        if !self.seen.insert(steps.clone()) {
            return Score::WORST;
        }
        self.count += 1;
        let mapping = match Mapping::new(self.problem, steps) {
            Ok(mapping) => mapping,
            Err(e) => {
                self.failure.get_or_insert(e.into());
                return Score::WORST;
            }
        };
        match evaluate(self.problem, &mapping) {
            Ok(cost) => {
                let (time, dynamic) = (cost.time.0, cost.energy_total().0);
                let score = self.frame.score(self.objective, time, dynamic);
                if self.best.as_ref().is_none_or(|b| score.beats(b.0)) {
                    self.best = Some((score, plan.clone()));
                }
                let energy = dynamic + self.frame.static_power * time;
                self.legal.push((time, energy, mapping, cost));
                score
            }
            Err(e) => {
                self.failure.get_or_insert(e.into());
                Score::WORST
            }
        }
    }
}

impl Exact<'_, '_> {
    /// The mapping to take.
    fn chosen(&mut self, give: f64) -> Option<(Mapping, Cost)> {
        let figures: Vec<(f64, f64)> = self.legal.iter().map(|l| (l.0, l.1)).collect();
        let at = chosen(self.objective, give, &figures)?;
        let (_, _, mapping, cost) = self.legal.swap_remove(at);
        Some((mapping, cost))
    }
}

/// Of (time, energy) pairs whose objective is within a share `give` of the best, the place of the one with least of
/// the other figure (energy for time, time for energy). The first of equals.
fn chosen(objective: Objective, give: f64, pairs: &[(f64, f64)]) -> Option<usize> {
    let figures = |&(time, energy): &(f64, f64)| match objective {
        Objective::Latency => (time, energy),
        Objective::Energy => (energy, time),
        Objective::Edp => (time * energy, energy),
    };
    let least = pairs
        .iter()
        .map(|p| figures(p).0)
        .fold(f64::INFINITY, f64::min);
    let near = pairs
        .iter()
        .enumerate()
        .filter(|(_, p)| figures(p).0 <= least * (1.0 + give));
    let best = near.min_by(|a, b| {
        let (x, y) = (figures(a.1), figures(b.1));
        x.1.total_cmp(&y.1).then(x.0.total_cmp(&y.0))
    });
    best.map(|(at, _)| at)
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
