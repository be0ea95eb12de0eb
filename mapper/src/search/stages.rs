//! One search: climbs, and two stages of proof.

use std::time::{Duration, Instant};

use super::frame::Frame;
use super::judge::Exact;
use super::model::Model;
use super::prove::{Common, Outcome, prove, reaches};
use super::rules::{Constraint, Rules};
use super::seed::{self, Effort, Found};
use super::tree::{Figure, Goal};
use super::{
    Certificate, Cut, Objective, Options, Proof, QUICK_BELOW, RUN, SearchError, Solution, Start,
};
use crate::analysis::Analyzer;
use crate::{Mapping, MappingError, Problem};

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
/// climb only if it fails. Budgets from [`RUN`] on allow that.
const PROOF: u64 = 32_000;

/// One search.
///
/// # Errors
/// As of [`super::solve_within`].
pub(super) fn search(
    problem: &Problem,
    constraints: &[Constraint],
    objective: Objective,
    options: &Options,
    start: Start,
) -> Result<Solution, SearchError> {
    #[cfg(test)]
    let watch = super::tests::Watch::new();
    #[cfg(test)]
    let options = &super::tests::changed(options);
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

/// A search that runs.
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
            passes: None,
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
