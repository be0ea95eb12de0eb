//! Searches that share some seconds.

use std::fmt::Write;
use std::time::Instant;

use super::rules::Constraint;
use super::stages::search;
use super::{Objective, Options, SearchError, Solution, Start};
use crate::Problem;

/// Budget of the first of the searches that share some seconds; each one after has [`DEEPER`] times that of the one before.
const FIRST: u64 = 20_000;
const DEEPER: u64 = 4;

/// Share by which a bound may be below what was found and still prove it.
const EQUAL: f64 = 1e-9;

/// Searches with growing budgets while the seconds allow another one: a search that is cut off has often done the wrong thing
/// first. The best of what they found, and the best of their bounds.
pub(super) fn deepen(
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
        let (mine, its) = (of(&self).found, of(&before).found);
        // Of equal ones that with less of the other figure: a search that is cut off may not have come to it.
        let later = match (mine - its).abs() <= EQUAL * its {
            true => self.certificate.other.found <= before.certificate.other.found,
            false => mine < its,
        };
        let mut better = match later {
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
        proof.proven |= proof.lower_bound >= proof.found * (1.0 - EQUAL);
        better.lower_bound = better.certificate.objective.lower_bound;
        better
    }
}
