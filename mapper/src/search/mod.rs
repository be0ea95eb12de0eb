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

mod climb;
mod estimate;
mod factors;
mod frame;
mod key;
mod plan;
mod spatial;

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
use climb::Climb;
use estimate::{Estimator, Score};
use factors::Factors;
use frame::Frame;
use plan::{Plan, Spread};

/// What is made small. Ties are broken by energy (by time, where energy itself is made small).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Objective {
    /// Time.
    #[default]
    Latency,
    /// Dynamic energy.
    Energy,
    /// Dynamic energy times time.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Estimates in closed form.
    pub estimates: u64,
    /// Exact analyses.
    pub evaluations: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { estimates: 12_000, evaluations: 96 }
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
const ASSIGNMENTS: usize = 16;
/// Climbs from the best seeds.
const CLIMBS: usize = 6;
/// Exact analyses of a masked problem.
const MASKED: u64 = 4;
/// Plans that are analysed exactly before the last climb.
const FINALISTS: usize = 24;

/// The best mapping found for a problem. Equal problems give equal solutions.
///
/// # Errors
/// If no mapping is legal: [`SearchError::DoesNotFit`] names the memory that is too small.
pub fn solve(problem: &Problem, objective: Objective, options: &Options) -> Result<Solution, SearchError> {
    let frame = Frame::new(problem);
    let mut search = Search {
        frame: &frame,
        objective,
        estimator: Estimator::default(),
        factors: Factors::default(),
        pool: Vec::new(),
    };
    let trivial = Plan::trivial(&frame);
    let spreads = spatial::assignments(&frame, ASSIGNMENTS);
    search.explore(&trivial, &spreads, options.estimates);
    // The analysis of a masked domain walks its tiles: it is worth only the few best plans.
    let options = if matches!(problem.einsum.domain, Domain::Dense) {
        *options
    } else {
        Options { evaluations: options.evaluations.min(MASKED), ..*options }
    };
    let mut exact = Exact { problem, frame: &frame, objective, best: None, failure: None, seen: FxHashSet::default(), count: 0 };
    let pool = std::mem::take(&mut search.pool);
    for (_, plan) in pool.iter().take(FINALISTS.min(options.evaluations.max(1) as usize)) {
        exact.evaluate(plan);
    }
    if exact.best.is_none() {
        exact.evaluate(&trivial);
    }
    if let Some((score, plan, ..)) = exact.best.clone() {
        let left = options.evaluations.saturating_sub(exact.count);
        let mut climb = Climb { frame: &frame, spreads: &spreads, factors: &mut search.factors };
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
    match (exact.best, exact.failure) {
        (Some((_, _, mapping, cost)), _) => Ok(Solution { mapping, cost, evaluated, space }),
        (None, Some(failure)) => Err(too_small(problem, &frame).unwrap_or(failure)),
        (None, None) => Err(too_small(problem, &frame).unwrap_or(SearchError::Illegal(MappingError::Place {
            step: 0,
            reason: "the search made no mapping".into(),
        }))),
    }
}

/// The search on estimates.
struct Search<'a> {
    frame: &'a Frame,
    objective: Objective,
    estimator: Estimator,
    factors: Factors,
    /// The best plans, best first.
    pool: Vec<(Score, Plan)>,
}

impl Search<'_> {
    fn score(&mut self, plan: &Plan) -> Score {
        let objective = self.objective;
        let estimate = self.estimator.estimate(self.frame, plan);
        estimate.map_or(Score::WORST, |e| Score::new(objective, e.time, e.energy))
    }

    /// Fills the pool within a budget of estimates.
    fn explore(&mut self, trivial: &Plan, spreads: &[Vec<Spread>], budget: u64) {
        let mut seeds = Vec::new();
        for s in spreads {
            for keep_all in [true, false] {
                let mut plan = Plan { spreads: s.clone(), ..trivial.clone() };
                for (layer, level) in plan.layers.iter_mut().zip(&self.frame.levels).skip(1) {
                    layer.keep = if keep_all { level.allowed() } else { level.required };
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
        let seeds = varied(seeds, CLIMBS);
        let share = budget.saturating_sub(self.estimator.count) / seeds.len().max(1) as u64;
        for (score, plan) in seeds {
            self.climb(spreads, plan, score, share);
        }
        let left = budget.saturating_sub(self.estimator.count);
        if let Some((score, plan)) = self.pool.first().cloned() {
            self.climb(spreads, plan, score, left);
        }
    }

    fn climb(&mut self, spreads: &[Vec<Spread>], plan: Plan, score: Score, budget: u64) {
        let (frame, objective) = (self.frame, self.objective);
        let Self { estimator, factors, pool, .. } = self;
        let mut climb = Climb { frame, spreads, factors };
        let mut last = Score::WORST;
        let mut evaluate = |p: &Plan| {
            let score = estimator.estimate(frame, p).map_or(Score::WORST, |e| Score::new(objective, e.time, e.energy));
            // What nearly was the best may be so in the exact analysis.
            if score.beats(last) {
                last = score;
                pool.push((score, p.clone()));
            }
            score
        };
        let found = climb.climb(plan, score, budget, &mut evaluate);
        self.pool.push((found.1, found.0));
        rank(&mut self.pool);
        self.pool.dedup_by(|a, b| a.1 == b.1);
        self.pool.truncate(4 * FINALISTS);
    }

    fn filled(&mut self, plan: Plan) -> Plan {
        let frame = self.frame;
        let Self { estimator, factors, .. } = self;
        let mut climb = Climb { frame, spreads: &[], factors };
        climb.filled(plan, &mut |p| estimator.estimate(frame, p).is_some())
    }

    /// Puts the loops that leave an operand where it is innermost, at every level.
    fn ordered(&self, mut plan: Plan, stationary: usize) -> Plan {
        for layer in &mut plan.layers {
            layer.order.sort_by_key(|d| (self.frame.dims[*d].operands & (1 << stationary) == 0, *d));
        }
        plan
    }
}

fn rank(plans: &mut [(Score, Plan)]) {
    plans.sort_by(|a, b| a.0.0.total_cmp(&b.0.0).then(a.0.1.total_cmp(&b.0.1)));
}

/// The best plans, at most two of each assignment of axes.
fn varied(plans: Vec<(Score, Plan)>, count: usize) -> Vec<(Score, Plan)> {
    let mut kept: Vec<(Score, Plan)> = Vec::new();
    for p in plans {
        if kept.len() < count && kept.iter().filter(|k| k.1.spreads == p.1.spreads).count() < 2 {
            kept.push(p);
        }
    }
    kept
}

/// Exact analyses, and the best of them.
struct Exact<'a, 'p> {
    problem: &'a Problem<'p>,
    frame: &'a Frame,
    objective: Objective,
    best: Option<(Score, Plan, Mapping, Cost)>,
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
                let score = Score::new(self.objective, cost.time.0, cost.energy_total().0);
                if self.best.as_ref().is_none_or(|b| score.beats(b.0)) {
                    self.best = Some((score, plan.clone(), mapping, cost));
                }
                score
            }
            Err(e) => {
                self.failure.get_or_insert(e.into());
                Score::WORST
            }
        }
    }
}

/// The first memory whose smallest tiles do not fit.
fn too_small(problem: &Problem, frame: &Frame) -> Option<SearchError> {
    let tile = vec![1; frame.dims.len()];
    for level in frame.levels.iter().skip(1) {
        for (s, store) in frame.stores.iter().enumerate() {
            let set = (0..3).filter(|o| level.required & (1 << o) != 0 && level.memory[*o] == Some(s));
            let set: Vec<Operand> = set.map(|o| Operand::ALL[o]).collect();
            let reduces = frame.dims.iter().any(|d| d.scatters);
            let width = |o: &Operand| if reduces && *o == Operand::Output { frame.partial } else { frame.bits[o.index()] };
            let bits: f64 = set.iter().map(|o| frame.elements(o.index(), &tile) * width(o)).sum();
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
