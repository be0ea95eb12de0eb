//! Every mapping of an einsum, counted one by one: the exhaustive mode, and what the search is tested against.
//!
//! The space is that of the search ([`super`]), walked with no bound and no comparison of partial mappings: placements, orders
//! of storages, helpful loops, splits of every dimension over the loops and axes ([`nest`], [`split`]). Each valid mapping
//! is counted exactly in convention `accelforge`, partial tiles included: energy, the time of every port, the room in every
//! memory, the instances along every axis. Mappings whose tiles do not fit are left out many at a time, where the least that
//! is still to come exceeds a memory or an axis; they are not counted.
//!
//! # How it is fast
//!
//! What a mapping costs is a signed sum of products with one factor for each dimension ([`model`](mod@model)). Factors
//! are told once for each split of a dimension. The walk chooses the split of one dimension after the other and carries sums of
//! products so far that go on alike ([`table`]); for the last dimension, the one with the most splits, a handful of multiply-adds
//! is left for each mapping, over columns of numbers ([`run`]).
//!
//! ```text
//! energy(split of the last dimension) = e0 + e1 x column1[split] + e2 x column2[split] ..   e: sums of products so far
//! ```
//!
//! One thing is beyond it: windows of more than two dimensions, where what stays when one slides is no product.

mod model;
mod nest;
mod run;
mod split;
mod table;

use rayon::prelude::*;

use self::model::measures;
use self::nest::{Nest, Nests};
use self::run::{End, Run, Told};
use self::split::Splits;
use self::table::Table;
use super::chain::{Asked, nothing, roots, solution};
use super::join::Joined;
use super::link::{Link, link};
use super::prices::COLUMNS;
use super::search::{Fuse, Part, Placement, Score, Step, Work};
use super::space::{MEMORIES, Space, SpaceError};
use super::{Options, Solution};
use crate::case::Case;
use crate::search::Objective;

/// Most splits of a dimension; their factors are kept in memory.
const SPLITS: usize = 1 << 19;

/// Placements that are walked side by side; not the machine's threads, so that what is cut off does not depend on them.
const ABREAST: usize = 4;

/// The best mapping of a case of one einsum, by counting all of them; `options.work` mappings and the rest of those walked
/// side by side at most. [`Solution::expanded`] tells how many were counted.
///
/// # Errors
/// If the einsum is beyond the walk, or nothing fits, or there is more than one einsum.
pub(super) fn solve(case: &Case, options: &Options) -> Result<Solution, SpaceError> {
    let limit = |what, limit, got| match got > limit {
        true => Err(SpaceError::TooMany { what, limit, got }),
        false => Ok(()),
    };
    limit("einsums for a walk of all mappings", 1, case.einsums.len())?;
    let link = link(case, 0, options)?;
    let windows = link.space.operands.iter().flat_map(|o| &o.windows);
    let widest = windows.map(|w| w.terms.len()).max().unwrap_or(0);
    limit(
        "dimensions in a window for a walk of all mappings",
        2,
        widest,
    )?;
    let asked = Asked::new(options);
    let mut work = Work::default();
    let mut best: Option<Found> = None;
    let all: Vec<usize> = (0..link.placements.len()).collect();
    for some in all.chunks(ABREAST) {
        let end = end(asked.fuse(&work));
        let walk = |i: &usize| walk(&link, *i, options.objective, end);
        let walks: Vec<Result<Walked, SpaceError>> = some.par_iter().map(walk).collect();
        for walked in walks {
            let walked = walked?;
            work.expanded += walked.counted;
            work.cut |= walked.cut;
            let beats = |f: &Found| best.as_ref().is_none_or(|b| f.score.beats(b.score));
            if let Some(found) = walked.best.filter(beats) {
                best = Some(found);
            }
        }
        if work.cut {
            let roots = roots(&link, link.space.perfect, options.objective);
            roots.iter().for_each(|r| work.leave(r.0.0));
            break;
        }
    }
    let best = best.ok_or(nothing(&work))?;
    let joined = Joined {
        score: best.score,
        energy: best.energy,
        cycles: best.cycles,
        parts: vec![part(best)],
    };
    Ok(solution(case, &[link], &joined, options, work))
}

fn end(fuse: Fuse) -> End {
    End {
        most: fuse.work,
        until: fuse.until,
    }
}

/// The best mapping of a walk.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    score: Score,
    energy: f64,
    cycles: f64,
    steps: Vec<Step>,
    placement: usize,
}

/// A walk of one placement.
#[derive(Debug, Clone, Default, PartialEq)]
struct Walked {
    counted: u64,
    cut: bool,
    best: Option<Found>,
}

/// Counts all mappings of a placement.
fn walk(link: &Link, index: usize, objective: Objective, end: End) -> Result<Walked, SpaceError> {
    let (space, placement) = (&link.space, &link.placements[index]);
    let mut walked = Walked::default();
    let mut failed = None;
    let mut visit = |nest: &Nest| {
        let splits = match splits(space, nest) {
            Ok(splits) => splits,
            Err(error) => {
                failed = Some(error);
                return false;
            }
        };
        let end = End {
            most: end.most.saturating_sub(walked.counted),
            ..end
        };
        let run = all_of(space, placement, nest, &splits, (objective, end), None);
        walked.counted += run.0;
        walked.cut |= run.1;
        if let Some((score, told)) = run.2
            && walked.best.as_ref().is_none_or(|b| score.beats(b.score))
        {
            walked.best = Some(Found {
                score,
                energy: told.energy,
                cycles: told.cycles,
                steps: nest.steps(&splits, &told.chosen),
                placement: index,
            });
        }
        !walked.cut
    };
    let mut nests = Nests::new(space, placement, &mut visit);
    nests.run();
    if nests.overflow {
        return Err(SpaceError::TooMany {
            what: "rules of loops for a walk of all mappings",
            limit: u64::BITS as usize,
            got: u64::BITS as usize + 1,
        });
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(walked),
    }
}

/// The splits of all dimensions of a nest; those of the dimension with the most of them by their bits.
fn splits(space: &Space, nest: &Nest) -> Result<Vec<Splits>, SpaceError> {
    // An einsum of one iteration has one mapping of each nest: a dimension with one split.
    let dims = 0..space.dims.len().max(1);
    let splits = dims.map(|d| Splits::new(space, nest, d, SPLITS));
    let splits: Option<Vec<Splits>> = splits.collect();
    splits.ok_or(SpaceError::TooMany {
        what: "splits of a dimension for a walk of all mappings",
        limit: SPLITS,
        got: SPLITS + 1,
    })
}

/// Counts all mappings of a nest: how many, whether it was cut off, and the best one.
fn all_of(
    space: &Space,
    placement: &Placement,
    nest: &Nest,
    splits: &[Splits],
    (objective, end): (Objective, End),
    watch: Option<&mut dyn FnMut(&Told)>,
) -> (u64, bool, Option<(Score, Told)>) {
    if splits.iter().any(|s| s.len() == 0) {
        return (0, false, None);
    }
    let mut order: Vec<usize> = (0..splits.len()).collect();
    order.sort_by_key(|d| splits[*d].len());
    let measures = measures(space, placement, nest, splits);
    let table = Table::new(&measures, splits, &order);
    let mut run = Run::new(&table, &nest.checks, objective, end, watch);
    run.run();
    (run.counted, run.cut, run.best)
}

fn part(found: Found) -> Part {
    Part {
        tiles: [None, None],
        moved: [0.0; COLUMNS],
        energy: found.energy,
        cycles: found.cycles,
        used: [0.0; MEMORIES],
        outside: [[0.0; MEMORIES]; 2],
        common: [Vec::new(), Vec::new()],
        cuts: Vec::new(),
        steps: found.steps,
        placement: found.placement,
    }
}

/// Calls `see` with the mappings of a case of one einsum, about `options.work` at most, and the energy and cycles that the
/// walk counts.
#[cfg(test)]
pub(super) fn each(
    case: &Case,
    options: &Options,
    see: &mut dyn FnMut(&crate::looptree::LoopTree, f64, f64),
) -> Result<(), SpaceError> {
    let link = link(case, 0, options)?;
    let space = &link.space;
    let mut left = options.work;
    for placement in &link.placements {
        let mut visit = |nest: &Nest| {
            let splits = splits(space, nest).unwrap_or_default();
            let mut watch = |told: &Told| {
                let steps = nest.steps(&splits, &told.chosen);
                let tree = super::placement::tree(space, placement, &steps);
                see(&tree, told.energy, told.cycles);
            };
            let end = End {
                most: left,
                until: None,
            };
            let goal = (options.objective, end);
            let run = all_of(space, placement, nest, &splits, goal, Some(&mut watch));
            left = left.saturating_sub(run.0);
            !run.1
        };
        Nests::new(space, placement, &mut visit).run();
    }
    Ok(())
}
