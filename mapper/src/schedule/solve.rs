//! The mappings of a graph's array ops: each distinct problem is solved once, all of a round in parallel.
//!
//! Problems are told apart by [`Key`]; results are kept in the order that the problems first appear, so that they
//! do not depend on the number of threads. A [`Memo`] carries solutions over to further graphs on one chip
//! (decode steps at other contexts, the other phase).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use crate::case::on_chip::OnChip;
use crate::passes;
use crate::problem::Problem;
use crate::search::{self, Key, Objective, Solution, Start};
use presil_workloads::{Domain, Einsum};

/// How hard mappings are searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// As a schedule's are.
    Full,
    /// As full, but a mask is left out of the search: its mapping is that of the problem without, and the proof is made
    /// from there. Exact analyses of masks that tiles cut at odd places take long.
    Unmasked,
    /// As what is only compared: a few bounds, near the best of the space in most cases.
    Quick,
    /// As what is only ranked: one short climb.
    Glance,
}

/// Bounds computed in a quick search.
const QUICK: u64 = 50;

/// Solutions by problem, for one chip and objective.
#[derive(Debug, Default)]
pub struct Memo {
    /// Of each effort.
    solved: Mutex<Solved>,
    unmasked: Mutex<Solved>,
    quick: Mutex<Solved>,
    glanced: Mutex<Solved>,
    /// The same for the chip with fewer cores.
    shares: Mutex<BTreeMap<u64, Arc<Memo>>>,
}

type Solved = FxHashMap<Key, Result<Solution, String>>;

impl Memo {
    /// Distinct problems solved so far.
    pub fn problems(&self) -> usize {
        self.solved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Distinct problems solved so far on the chip with so many of its cores.
    pub fn share_problems(&self, cores: u64) -> usize {
        self.share(cores).problems()
    }

    /// Solutions on the chip with so many of its cores; 0: with one instance of what keeps weights in them.
    pub(crate) fn share(&self, cores: u64) -> Arc<Memo> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(shares.entry(cores).or_default())
    }

    fn of(&self, effort: Effort) -> &Mutex<Solved> {
        match effort {
            Effort::Full => &self.solved,
            Effort::Unmasked => &self.unmasked,
            Effort::Quick => &self.quick,
            Effort::Glance => &self.glanced,
        }
    }

    fn get(&self, effort: Effort, key: &Key) -> Option<Result<Solution, String>> {
        self.of(effort)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned()
    }

    fn put(&self, effort: Effort, key: Key, solution: Result<Solution, String>) {
        self.of(effort)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, solution);
    }
}

/// Solves problems: one result for each, in order. On a chip whose kernels run these ops a mapping only says that the array can.
pub(crate) fn solve_all(
    problems: &[Problem],
    objective: Objective,
    memo: &Memo,
    effort: Effort,
) -> Vec<Result<Solution, String>> {
    let kernels = |p: &Problem| p.chip.kernels.is_some();
    let effort = match problems.first().is_some_and(kernels) {
        true => Effort::Glance,
        false => effort,
    };
    if effort == Effort::Unmasked {
        return unmasked(problems, objective, memo);
    }
    let options = match effort {
        Effort::Full | Effort::Unmasked => search::Options::default(),
        Effort::Quick | Effort::Glance => search::Options {
            budget: QUICK,
            ..search::Options::default()
        },
    };
    let start = match effort {
        Effort::Glance => Start::Glance,
        _ => Start::Climb,
    };
    each(problems, objective, memo, effort, |i| {
        let free = search::solve_from(&problems[i], objective, &options, start);
        passes::solution(&problems[i], free).map_err(|e| e.to_string())
    })
}

/// Bounds computed in each stage of a constrained search: what obeys may be hard to find.
const CONSTRAINED: u64 = 20_000;

/// The solution of a problem whose mappings have to obey.
pub(crate) fn constrained(
    problem: &Problem,
    asked: &OnChip,
    objective: Objective,
    memo: &Memo,
) -> Result<Solution, String> {
    let key = Key::of(problem, objective).asking(&asked.constraints, &asked.kept);
    if let Some(known) = memo.get(Effort::Full, &key) {
        return known;
    }
    let chip = asked.chip(problem.chip);
    let restricted = Problem {
        chip: &chip,
        ..problem.clone()
    };
    let options = search::Options {
        budget: CONSTRAINED,
        ..search::Options::default()
    };
    let solved = search::solve_within(&restricted, &asked.constraints, objective, &options);
    let solution = solved.map_err(|e| e.to_string());
    memo.put(Effort::Full, key, solution.clone());
    solution
}

/// The results by key; problems without one are solved, in parallel.
fn each(
    problems: &[Problem],
    objective: Objective,
    memo: &Memo,
    effort: Effort,
    solve: impl Fn(usize) -> Result<Solution, String> + Sync,
) -> Vec<Result<Solution, String>> {
    let keys: Vec<Key> = problems.iter().map(|p| Key::of(p, objective)).collect();
    let mut first: FxHashMap<&Key, usize> = FxHashMap::default();
    let mut open: Vec<usize> = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        if memo.get(effort, key).is_none() && first.insert(key, i).is_none() {
            open.push(i);
        }
    }
    let solved: Vec<Result<Solution, String>> = open.par_iter().map(|i| solve(*i)).collect();
    for (i, solution) in open.into_iter().zip(solved) {
        memo.put(effort, keys[i].clone(), solution);
    }
    keys.iter()
        .map(|k| {
            memo.get(effort, k)
                .unwrap_or_else(|| Err("it was not solved".into()))
        })
        .collect()
}

/// Problems without their masks solved in full; of those with one, the exact cost of that mapping and the proof from
/// there.
fn unmasked(
    problems: &[Problem],
    objective: Objective,
    memo: &Memo,
) -> Vec<Result<Solution, String>> {
    let dense: Vec<Einsum> = problems
        .iter()
        .map(|p| Einsum {
            domain: match p.einsum.domain {
                Domain::Causal { .. } | Domain::Banded { .. } => Domain::Dense,
                ref other => other.clone(),
            },
            ..p.einsum.clone()
        })
        .collect();
    let without: Vec<Problem> = problems
        .iter()
        .zip(&dense)
        .map(|(p, einsum)| Problem {
            einsum,
            ..p.clone()
        })
        .collect();
    let found = solve_all(&without, objective, memo, Effort::Full);
    let options = search::Options::default();
    each(problems, objective, memo, Effort::Unmasked, |i| {
        let (problem, found) = (&problems[i], found[i].clone()?);
        if problem.einsum.domain == without[i].einsum.domain {
            return Ok(found);
        }
        let start = Start::Given(&found.mapping);
        let from = |start| search::solve_from(problem, objective, &options, start);
        from(start)
            .or_else(|_| from(Start::Climb))
            .map_err(|e| e.to_string())
    })
}
