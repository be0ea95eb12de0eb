//! The mappings of a graph's array ops: each distinct problem is solved once, all of a round in parallel.
//!
//! Problems are told apart by [`Key`]; results are kept in the order that the problems first appear, so that they
//! do not depend on the number of threads. A [`Memo`] carries solutions over to further graphs on one chip
//! (decode steps at other contexts, the other phase).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use crate::problem::Problem;
use crate::search::{self, Key, Objective, Solution};

/// How hard mappings are searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// As a schedule's are.
    Full,
    /// As what is only compared: a few bounds, near the best of the space in most cases.
    Quick,
}

/// Bounds computed in a quick search.
const QUICK: u64 = 50;

/// Solutions by problem, for one chip and objective.
#[derive(Debug, Default)]
pub struct Memo {
    solved: Mutex<Solved>,
    quick: Mutex<Solved>,
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
            Effort::Quick => &self.quick,
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

/// Solves problems: one result for each, in order.
pub(crate) fn solve_all(
    problems: &[Problem],
    objective: Objective,
    memo: &Memo,
    effort: Effort,
) -> Vec<Result<Solution, String>> {
    let keys: Vec<Key> = problems.iter().map(|p| Key::of(p, objective)).collect();
    let mut first: FxHashMap<&Key, usize> = FxHashMap::default();
    let mut open: Vec<usize> = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        if memo.get(effort, key).is_none() && first.insert(key, i).is_none() {
            open.push(i);
        }
    }
    let mut options = search::Options::default();
    if effort == Effort::Quick {
        options.budget = QUICK;
    }
    let solved: Vec<Result<Solution, String>> = open
        .par_iter()
        .map(|&i| search::solve(&problems[i], objective, &options).map_err(|e| e.to_string()))
        .collect();
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
