//! Pareto fronts of time and energy, with bounds.
//!
//! # The searches
//!
//! The best mapping by each objective (with and without what may be given up for the other figure), and then branch and bound, one end after the other, with all that was ever analysed as incumbents:
//!
//! ```text
//! E      = min energy                                     the slow end; of those the fastest
//! t[1]   = min time,                                      e[1] = min energy of those with time <= t[1]
//! t[k+1] = min time of those with energy < e[k],          e[k+1] = min energy of those with time <= t[k+1]
//! ```
//!
//! until `e[k]` is `E`. Each of them may run out of its work; then what was found stands in place of the minimum and the search's
//! lower bound `l[k] <= t[k]` beside it.
//!
//! # What is known in the end
//!
//! *No mapping is better than all points by more than their gaps.* Take any mapping `(t, e)` of the space.
//! Let `k` be the first point with `e[k] <= e`, if there is one. Then `e < e[k-1]`, so `t >= l[k]`: point `k` needs no more energy and at most
//! `t[k] / l[k]` of the time. If there is none, `e` is at least the lower bound of `E`, and the last point is that close in
//! energy (and, as above, within its gap in time). So the front is exact if all `l[k] = t[k]` and `E` is proven; it
//! does not depend on the second searches, which only save steps. Of points that differ by less than a billionth one is told.
//!
//! Where the work or the number of points ends first, what else was found and is dominated by nothing fills the rest, with the last
//! bound.

use std::time::{Duration, Instant};

use super::frame::Frame;
use super::model::Model;
use super::prove::{Common, late, prove};
use super::rules::{Constraint, Rules};
use super::seed::Found;
use super::stages::search;
use super::tree::{EQUAL, Figure, Goal, Judge};
use super::{Objective, Options, SearchError, Start};
use crate::analysis::Analyzer;
use crate::mapping::Step;
use crate::{Cost, Mapping, Problem};

/// Share by which the next point must need less energy than the one before.
const APART: f64 = 3.0 * EQUAL;
/// Points whose neighbours are searched for, at most.
const MOST: usize = 1_000;
/// Work of all searches together, in budgets of one.
const SEARCHES: u64 = 64;
/// Share of the seconds left that one search may take.
const SHARE: f64 = 0.25;

/// Share of all seconds that each search of an objective before takes.
const FIRST: f64 = 0.1;

/// A mapping that no other one found is as good as in both time and energy.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Seconds.
    pub time: f64,
    /// Joules, static ones included.
    pub energy: f64,
    /// The mapping.
    pub mapping: Mapping,
    /// No mapping that needs less energy than the point before (the first: no mapping at all) is faster than this.
    pub least_time: f64,
}

/// What is known of all mappings by time and energy.
#[derive(Debug, Clone, PartialEq)]
pub struct Front {
    /// The fastest first.
    pub points: Vec<Point>,
    /// No mapping needs less energy.
    pub least_energy: f64,
    /// Branch and bounds made.
    pub searches: usize,
    /// Bounds computed.
    pub expanded: u64,
    /// Mappings analysed exactly.
    pub analysed: u64,
}

impl Front {
    /// The share of a point's time that a mapping of no more energy might save, at most.
    pub fn time_gap(&self) -> f64 {
        let gap = |p: &Point| 1.0 - p.least_time / p.time;
        told(self.points.iter().map(gap).fold(0.0, f64::max))
    }

    /// The share of the least energy found that a mapping might save.
    pub fn energy_gap(&self) -> f64 {
        let last = self.points.last();
        told(last.map_or(0.0, |p| 1.0 - self.least_energy / p.energy))
    }

    /// Whether no point is missing, and none can be improved.
    pub fn proven(&self) -> bool {
        self.time_gap() == 0.0 && self.energy_gap() == 0.0
    }
}

/// A gap that is no matter of rounding.
fn told(gap: f64) -> f64 {
    if gap > 4.0 * EQUAL { gap } else { 0.0 }
}

/// The front of the mappings of a problem that obey constraints. `options.budget` is the work of one search; all
/// together take 64 times that at most.
///
/// # Errors
/// As of [`super::solve_within`].
pub fn front(
    problem: &Problem,
    constraints: &[Constraint],
    options: &Options,
) -> Result<Front, SearchError> {
    let mut frame = Frame::new(problem);
    frame.rules = Rules::new(problem, &frame, constraints)?;
    let until = options.seconds.and_then(after);
    frame.until = until;
    let analyzer = Analyzer::new(problem)?;
    let model = Model::new(problem, &frame)?;
    let mut archive = Archive {
        problem,
        analyzer: &analyzer,
        frame: &frame,
        goal: goal(Figure::Time, Figure::Energy, f64::INFINITY),
        points: Vec::new(),
    };
    let (time, energy) = frame.floor();
    let mut lower = vec![(f64::INFINITY, time)];
    let mut least_energy = energy + frame.static_power * time;
    let mut failure = None;
    let (latency, energy, edp) = (Objective::Latency, Objective::Energy, Objective::Edp);
    let give = options.give;
    for (objective, give) in [
        (latency, 0.0),
        (latency, give),
        (energy, 0.0),
        (energy, give),
        (edp, give),
    ] {
        let one = Options {
            give,
            near: 0,
            log: false,
            seconds: options.seconds.map(|s| s * FIRST),
            ..*options
        };
        let found = match search(problem, constraints, objective, &one, Start::Climb) {
            Ok(found) => found,
            Err(error) => {
                failure = Some(error);
                continue;
            }
        };
        match objective {
            Objective::Latency => lower.push((f64::INFINITY, found.lower_bound)),
            Objective::Energy => least_energy = least_energy.max(found.lower_bound),
            Objective::Edp => {}
        }
        archive.add(archive.of(found.mapping, &found.cost));
    }
    let mut sweep = Sweep {
        archive,
        options,
        until,
        work: options.budget.saturating_mul(SEARCHES),
        lower,
        front: Front {
            points: Vec::new(),
            least_energy,
            searches: 0,
            expanded: 0,
            analysed: 0,
        },
    };
    if let Some(model) = &model {
        sweep.run(model);
    }
    match (sweep.archive.points.is_empty(), failure) {
        (false, _) => Ok(sweep.finish()),
        (true, Some(error)) => Err(error),
        (true, None) => Err(SearchError::Unmet {
            level: None,
            proven: false,
        }),
    }
}

fn after(seconds: f64) -> Option<Instant> {
    Instant::now().checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

/// Least of a figure of those mappings whose other figure is within a limit.
fn goal(figure: Figure, limited: Figure, limit: f64) -> Goal {
    Goal {
        figure,
        limited,
        limit,
    }
}

/// The searches of a front, one after the other.
struct Sweep<'a, 'p> {
    archive: Archive<'a, 'p>,
    options: &'a Options,
    until: Option<Instant>,
    /// Bounds that may still be computed.
    work: u64,
    /// Limits of energy, and the least time of mappings within them.
    lower: Vec<(f64, f64)>,
    front: Front,
}

impl Sweep<'_, '_> {
    fn run(&mut self, model: &Model) {
        let any = f64::INFINITY;
        let mut common = Common::new(model, any, self.options.budget);
        let energy = self.search(model, &mut common, goal(Figure::Energy, Figure::Time, any));
        self.front.least_energy = self.front.least_energy.max(energy);
        let Some(last) = self.archive.points.last() else {
            return;
        };
        let slow = goal(Figure::Time, Figure::Energy, last.energy);
        self.search(model, &mut common, slow);
        // Slower mappings than the one of least energy have no place in the front.
        let slowest = self.archive.points.last().map_or(any, |p| p.time);
        let mut common = Common::new(model, slowest, self.options.budget);
        let mut limit = any;
        for _ in 0..MOST {
            let fast = goal(Figure::Time, Figure::Energy, limit);
            let time = self.search(model, &mut common, fast);
            self.lower.push((limit, time.min(slowest)));
            let Some(fastest) = self.archive.fastest(limit) else {
                return;
            };
            let frugal = goal(Figure::Energy, Figure::Time, fastest.time);
            self.search(model, &mut common, frugal);
            let least = self.archive.frugal(frugal.limit);
            limit = least.min(limit) * (1.0 - APART);
            let over = self.archive.fastest(limit).is_none();
            if over || self.work == 0 || late(self.until) {
                return;
            }
        }
    }

    /// One branch and bound; the lower bound of its figure.
    fn search(&mut self, model: &Model, common: &mut Common, goal: Goal) -> f64 {
        self.archive.goal = goal;
        let best = self.archive.best();
        common.until = self.until.map(|end| {
            let now = Instant::now();
            now + end.saturating_duration_since(now).mul_f64(SHARE)
        });
        let budget = self.options.budget.min(self.work);
        let out = prove(model, goal, best, &mut self.archive, budget, false, common);
        self.work -= out.work.bounds.min(self.work);
        self.front.searches += 1;
        self.front.expanded += out.work.bounds;
        self.front.analysed += out.work.leaves;
        // What was found may be above what was known: bounds of the search are of mappings better than that.
        out.bound.min(self.archive.best())
    }

    /// The points found, each with the best bound that holds before it.
    fn finish(self) -> Front {
        let mut before = f64::INFINITY;
        let lower = |energy: f64| {
            let holds = |l: &&(f64, f64)| l.0 >= energy * (1.0 - 2.0 * APART);
            let times = self.lower.iter().filter(holds).map(|l| l.1);
            times.fold(0.0, f64::max)
        };
        let point = |f: Found| {
            let least = lower(std::mem::replace(&mut before, f.energy));
            Point {
                least_time: least.min(f.time),
                time: f.time,
                energy: f.energy,
                mapping: f.mapping,
            }
        };
        Front {
            points: self.archive.points.into_iter().map(point).collect(),
            ..self.front
        }
    }
}

/// Mappings of which none is as good as another in both figures, the fastest first.
struct Archive<'a, 'p> {
    problem: &'a Problem<'p>,
    analyzer: &'a Analyzer<'p>,
    frame: &'a Frame,
    goal: Goal,
    points: Vec<Found>,
}

impl Archive<'_, '_> {
    fn of(&self, mapping: Mapping, cost: &Cost) -> Found {
        let time = cost.time.0;
        let energy = cost.energy_total().0 + self.frame.static_power * time;
        Found {
            time,
            energy,
            mapping,
        }
    }

    fn add(&mut self, new: Found) {
        let most = 1.0 + EQUAL;
        let no_more = |a: &Found, b: &Found| a.time <= b.time * most && a.energy <= b.energy * most;
        if self.points.iter().any(|p| no_more(p, &new)) {
            return;
        }
        self.points.retain(|p| !no_more(&new, p));
        let at = self.points.partition_point(|p| p.time < new.time);
        self.points.insert(at, new);
    }

    /// The fastest within a limit on energy.
    fn fastest(&self, limit: f64) -> Option<&Found> {
        self.points
            .iter()
            .find(|p| p.energy <= limit * (1.0 + EQUAL))
    }

    /// The least energy within a limit on time.
    fn frugal(&self, limit: f64) -> f64 {
        let within = self
            .points
            .iter()
            .filter(|p| p.time <= limit * (1.0 + EQUAL));
        within.map(|p| p.energy).fold(f64::INFINITY, f64::min)
    }

    /// The least of the goal's figure.
    fn best(&self) -> f64 {
        let all = self
            .points
            .iter()
            .map(|p| self.goal.of(0.0, p.time, p.energy));
        all.fold(f64::INFINITY, f64::min)
    }
}

impl Judge for Archive<'_, '_> {
    fn judge(&mut self, steps: Vec<Step>, _: f64) -> Option<f64> {
        let mapping = self.frame.mapping(self.problem, steps).ok()??;
        let cost = self.analyzer.evaluate(&mapping).ok()?;
        let found = self.of(mapping, &cost);
        let figure = self.goal.of(0.0, found.time, found.energy);
        self.add(found);
        figure.is_finite().then_some(figure)
    }
}
