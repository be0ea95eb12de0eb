//! Exact analysis of the mappings that bounds leave.

use crate::analysis::Analyzer;
use crate::mapping::Step;
use crate::{Mapping, Problem};

use super::frame::Frame;
use super::seed::Found;
use super::tree::{Goal, Judge};

/// Mappings kept for the second stage, at most.
const POOL: usize = 256;

/// Analyses mappings, and keeps the best.
pub(super) struct Exact<'a, 'p> {
    problem: &'a Problem<'p>,
    analyzer: &'a Analyzer<'p>,
    frame: &'a Frame,
    goal: Goal,
    give: f64,
    /// Mappings that may be chosen.
    pool: Vec<Found>,
    /// The least figure so far.
    best: f64,
    /// Best mappings wanted, and those found, best first.
    wanted: usize,
    top: Vec<(f64, Found)>,
}

impl<'a, 'p> Exact<'a, 'p> {
    pub fn new(
        problem: &'a Problem<'p>,
        analyzer: &'a Analyzer<'p>,
        frame: &'a Frame,
        pool: Vec<Found>,
    ) -> Self {
        let figure = super::tree::Figure::Time;
        Self {
            problem,
            analyzer,
            frame,
            goal: Goal {
                figure,
                limited: figure,
                limit: f64::INFINITY,
            },
            give: 0.0,
            pool,
            best: f64::INFINITY,
            wanted: 0,
            top: Vec::new(),
        }
    }

    /// Sets the goal; `give` is the share by which mappings may miss it and still be kept.
    pub fn begin(&mut self, goal: Goal, give: f64) {
        self.goal = goal;
        self.give = give;
        let figures = self.pool.iter().map(|f| figure(&goal, f.time, f.energy));
        self.best = figures.fold(f64::INFINITY, f64::min);
    }

    /// Adds mappings that were analysed.
    pub fn add(&mut self, found: Vec<Found>) {
        let figures = found.iter().map(|f| figure(&self.goal, f.time, f.energy));
        self.best = figures.fold(self.best, f64::min);
        self.pool.extend(found);
    }

    /// Whether no mapping was found.
    pub fn is_empty(&self) -> bool {
        self.pool.is_empty()
    }

    /// The least figure so far.
    pub fn best(&self) -> f64 {
        self.best
    }

    /// The mapping with the least figure, the first of equals.
    pub fn chosen(&self, goal: Goal) -> Option<Mapping> {
        let mut best: Option<(f64, &Found)> = None;
        for f in &self.pool {
            let x = figure(&goal, f.time, f.energy);
            if x.is_finite() && best.is_none_or(|b| x < b.0) {
                best = Some((x, f));
            }
        }
        best.map(|b| b.1.mapping.clone())
    }

    /// From now on, so many mappings are kept, and the figure to beat is that of the last of them.
    pub fn keep(&mut self, wanted: usize) {
        self.wanted = wanted;
        self.top.clear();
    }

    /// Those mappings, best first: time, energy, mapping.
    pub fn kept(&mut self) -> Vec<(f64, f64, Mapping)> {
        let top = std::mem::take(&mut self.top);
        top.into_iter()
            .map(|(_, f)| (f.time, f.energy, f.mapping))
            .collect()
    }
}

/// The figure of a time and an energy (static included) within the goal's limit.
fn figure(goal: &Goal, time: f64, energy: f64) -> f64 {
    goal.of(0.0, time, energy)
}

impl Judge for Exact<'_, '_> {
    fn judge(&mut self, steps: Vec<Step>, _: f64) -> Option<f64> {
        let mapping = self.frame.mapping(self.problem, steps).ok()??;
        let cost = self.analyzer.evaluate(&mapping).ok()?;
        let time = cost.time.0;
        let energy = cost.energy_total().0 + self.frame.static_power * time;
        let x = figure(&self.goal, time, energy);
        let found = Found {
            time,
            energy,
            mapping,
        };
        if self.wanted > 0 {
            if x.is_finite() && !self.top.iter().any(|t| t.1.mapping == found.mapping) {
                let at = self.top.partition_point(|t| t.0 <= x);
                self.top.insert(at, (x, found));
                self.top.truncate(self.wanted);
            }
            return (self.top.len() == self.wanted)
                .then(|| self.top.last().map_or(f64::INFINITY, |t| t.0));
        }
        if x < self.best || (x <= self.best * (1.0 + self.give) && self.pool.len() < POOL) {
            self.pool.push(found);
        }
        self.best = self.best.min(x);
        x.is_finite().then_some(x)
    }
}
