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

/// Solutions by problem, for one chip and objective.
#[derive(Debug, Default)]
pub struct Memo {
    solved: Mutex<FxHashMap<Key, Result<Solution, String>>>,
    /// The same for the chip with fewer cores.
    shares: Mutex<BTreeMap<u64, Arc<Memo>>>,
}

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

    fn get(&self, key: &Key) -> Option<Result<Solution, String>> {
        self.solved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned()
    }

    fn put(&self, key: Key, solution: Result<Solution, String>) {
        self.solved
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
) -> Vec<Result<Solution, String>> {
    let keys: Vec<Key> = problems.iter().map(|p| Key::of(p, objective)).collect();
    let mut first: FxHashMap<&Key, usize> = FxHashMap::default();
    let mut open: Vec<usize> = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        if memo.get(key).is_none() && first.insert(key, i).is_none() {
            open.push(i);
        }
    }
    let options = search::Options::default();
    let solved: Vec<Result<Solution, String>> = open
        .par_iter()
        .map(|&i| search::solve(&problems[i], objective, &options).map_err(|e| e.to_string()))
        .collect();
    for (i, solution) in open.into_iter().zip(solved) {
        memo.put(keys[i].clone(), solution);
    }
    keys.iter()
        .map(|k| {
            memo.get(k)
                .unwrap_or_else(|| Err("it was not solved".into()))
        })
        .collect()
}
