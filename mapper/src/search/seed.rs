//! Good mappings to start from: a climb on estimates in closed form, then on the exact cost.
//!
//! ```text
//! spatial   assignments of dimensions to axes, by speed-up
//! plan      a point of the space: axes, factors, loop orders, bypasses, hoists; any plan is a legal chain of tiles
//! estimate  cost of a plan in closed form (under a microsecond)
//! climb     from a plan to a local optimum
//! ```
//!
//! A heuristic: deterministic, bounded by a number of evaluations, always with a legal mapping if there is one. It proves nothing; its best mapping
//! is the incumbent of the search that does, and all there is for problems that the proof does not take.

use presil_workloads::Domain;
use rustc_hash::FxHashSet;

use super::climb::{Climb, Numbers};
use super::estimate::{Estimator, Score};
use super::factors::Factors;
use super::frame::Frame;
use super::plan::{Few, Plan, Spread};
use super::{Objective, SearchError, spatial, too_small};
use crate::analysis::Analyzer;
use crate::{Mapping, MappingError, Problem};

/// How much work the climb may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// Estimates in closed form.
    pub estimates: u64,
    /// Exact analyses.
    pub evaluations: u64,
}

/// A mapping that was analysed.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Seconds.
    pub time: f64,
    /// Joules, static ones included.
    pub energy: f64,
    pub mapping: Mapping,
}

/// Assignments of axes that are looked into.
const ASSIGNMENTS: usize = 12;
/// The same of a short search.
const GLANCED: usize = 6;
/// Positions of a mask that are analysed in full budget.
const SHORT_MASK: u64 = 1024;
/// Climbs from the best seeds.
const CLIMBS: usize = 6;
/// Plans that are analysed exactly before the last climb.
const FINALISTS: usize = 16;

/// Mappings found, all that were analysed, and the number of plans looked at.
///
/// A climb towards one figure alone ends at worse local optima than one towards the product of energy and time, as
/// often as not, also in that figure (and estimates spread a mask evenly over the tiles, which misleads more). So the
/// problem is searched towards both (half as long towards the one figure).
pub(super) fn seeds(
    problem: &Problem,
    frame: &Frame,
    analyzer: &Analyzer,
    objective: Objective,
    effort: Effort,
) -> Result<(Vec<Found>, u64), SearchError> {
    let effort = affordable(problem, effort);
    let mut seeder = Seeder::new(problem, frame, analyzer, ASSIGNMENTS);
    let (mut found, mut count) = seeder.towards(Objective::Edp, effort)?;
    if objective != Objective::Edp {
        let less = Effort {
            estimates: effort.estimates / 2,
            evaluations: effort.evaluations / 2,
        };
        let (more, counted) = seeder.towards(objective, less)?;
        found.extend(more);
        count += counted;
    }
    Ok((found, count))
}

/// Fewer exact analyses for long masks: the work of one grows with the tiles along the mask's border, so with its
/// length. The budget is that of masks of up to `SHORT_MASK` positions.
fn affordable(problem: &Problem, effort: Effort) -> Effort {
    let size = |d| problem.einsum.dim(d).size;
    let length = match problem.einsum.domain {
        Domain::Causal { query, key, .. } | Domain::Banded { query, key, .. } => {
            size(query).min(size(key))
        }
        _ => 1,
    };
    let share = length.div_ceil(SHORT_MASK).max(1);
    Effort {
        evaluations: (effort.evaluations / share).max(2),
        ..effort
    }
}

/// A mapping that is known, analysed.
pub(super) fn given(
    problem: &Problem,
    frame: &Frame,
    analyzer: &Analyzer,
    mapping: &Mapping,
) -> Result<(Vec<Found>, u64), SearchError> {
    let Some(mapping) = frame.mapping(problem, mapping.steps().to_vec())? else {
        return Ok((Vec::new(), 1));
    };
    let cost = analyzer.evaluate(&mapping)?;
    let time = cost.time.0;
    let energy = cost.energy_total().0 + frame.static_power * time;
    Ok((
        vec![Found {
            time,
            energy,
            mapping,
        }],
        1,
    ))
}

/// One short search towards an objective.
pub(super) fn glance(
    problem: &Problem,
    frame: &Frame,
    analyzer: &Analyzer,
    objective: Objective,
    effort: Effort,
) -> Result<(Vec<Found>, u64), SearchError> {
    let effort = affordable(problem, effort);
    Seeder::new(problem, frame, analyzer, GLANCED).towards(objective, effort)
}

/// Searches of one problem: what they have in common.
struct Seeder<'a, 'p> {
    problem: &'a Problem<'p>,
    frame: &'a Frame,
    analyzer: &'a Analyzer<'p>,
    spreads: Vec<Vec<Spread>>,
    /// Remembers plans from one search to the next.
    estimator: Estimator,
}

impl<'a, 'p> Seeder<'a, 'p> {
    /// Searches that look into so many assignments of axes.
    fn new(
        problem: &'a Problem<'p>,
        frame: &'a Frame,
        analyzer: &'a Analyzer<'p>,
        assignments: usize,
    ) -> Self {
        let mut spreads = spatial::assignments(frame, assignments);
        if let Some(rules) = &frame.rules {
            spreads = spreads.iter().map(|s| rules.fit(frame, s)).collect();
            spreads.dedup();
        }
        Self {
            problem,
            frame,
            analyzer,
            spreads,
            estimator: Estimator::default(),
        }
    }

    /// One search towards an objective.
    fn towards(
        &mut self,
        objective: Objective,
        effort: Effort,
    ) -> Result<(Vec<Found>, u64), SearchError> {
        let Self {
            problem,
            frame,
            analyzer,
            spreads,
            estimator,
        } = self;
        let (problem, frame) = (*problem, *frame);
        estimator.count = 0;
        let mut search = Search {
            frame,
            objective,
            estimator,
            factors: Factors::default(),
            pool: Vec::new(),
            balanced: Vec::new(),
        };
        let trivial = Plan::trivial(frame);
        search.explore(&trivial, spreads, effort.estimates);
        let mut exact = Exact {
            problem,
            analyzer,
            frame,
            objective,
            best: None,
            legal: Vec::new(),
            failure: None,
            seen: FxHashSet::default(),
            disobeyed: false,
            count: 0,
        };
        let pool = std::mem::take(&mut search.pool);
        let finalists = pool
            .iter()
            .map(|(_, plan)| plan)
            .take(FINALISTS)
            .chain(&search.balanced);
        for plan in finalists.take(effort.evaluations.max(1) as usize) {
            exact.evaluate(plan);
        }
        if exact.best.is_none() {
            exact.evaluate(&trivial);
        }
        if let Some((score, plan)) = exact.best.clone() {
            let left = effort.evaluations.saturating_sub(exact.count);
            let mut climb = Climb {
                frame,
                spreads,
                factors: &mut search.factors,
                thorough: false,
            };
            climb.climb(plan, score, left, &mut |p| exact.evaluate(p));
        }
        if exact.legal.is_empty() && !exact.disobeyed {
            let failure = exact
                .failure
                .unwrap_or(SearchError::Illegal(MappingError::Place {
                    step: 0,
                    reason: "the search made no mapping".into(),
                }));
            return Err(too_small(problem, frame).unwrap_or(failure));
        }
        Ok((exact.legal, search.estimator.count + exact.count))
    }
}

/// The search on estimates.
struct Search<'a> {
    frame: &'a Frame,
    objective: Objective,
    estimator: &'a mut Estimator,
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
                    spreads: Few::from_slice(s),
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
        while self.estimator.count < budget && !self.pool.is_empty() && !self.frame.late() {
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
    analyzer: &'a Analyzer<'p>,
    frame: &'a Frame,
    objective: Objective,
    /// The best score and its plan.
    best: Option<(Score, Plan)>,
    /// Every legal mapping that was analysed.
    legal: Vec<Found>,
    failure: Option<SearchError>,
    seen: FxHashSet<Vec<crate::Step>>,
    /// Whether one was legal but did not obey.
    disobeyed: bool,
    count: u64,
}

impl Exact<'_, '_> {
    fn evaluate(&mut self, plan: &Plan) -> Score {
        let steps = plan.steps(self.frame);
        if !self.seen.insert(steps.clone()) {
            return Score::WORST;
        }
        self.count += 1;
        let mapping = match self.frame.mapping(self.problem, steps) {
            Ok(Some(mapping)) => mapping,
            Ok(None) => {
                self.disobeyed = true;
                return Score::WORST;
            }
            Err(e) => {
                self.failure.get_or_insert(e.into());
                return Score::WORST;
            }
        };
        match self.analyzer.evaluate(&mapping) {
            Ok(cost) => {
                let (time, dynamic) = (cost.time.0, cost.energy_total().0);
                let score = self.frame.score(self.objective, time, dynamic);
                if self.best.as_ref().is_none_or(|b| score.beats(b.0)) {
                    self.best = Some((score, plan.clone()));
                }
                let energy = dynamic + self.frame.static_power * time;
                self.legal.push(Found {
                    time,
                    energy,
                    mapping,
                });
                score
            }
            Err(e) => {
                self.failure.get_or_insert(e.into());
                Score::WORST
            }
        }
    }
}
