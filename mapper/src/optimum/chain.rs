//! The best mapping of a chain of einsums: which intermediates are handed over on chip, below which shared loops.
//!
//! An intermediate between an einsum and the next is handed over *whole*, through the outermost memory, or *tile by
//! tile*: it is kept at an inner memory below loops that both einsums share. For both einsums, those loops are
//! the ones above its storage, so they are told by its memory and kept tile. Two mappings fit if these are equal, and
//! one nest of loops has all tiles at which storages stand between the shared loops of either: sorted, each must be
//! a tile of the next outer one (a storage that wants `m` outside `n` does not go with one that wants `n` outside
//! `m`). While an einsum runs, what its neighbour keeps outside the shared loops stays in memory, whole tensors
//! included; both must fit together in every memory above the first fanout.
//!
//! ```text
//! parts      for each einsum: the mappings of which none is at least as good as another with the same tiles, in
//!            energy, time, room and room outside the shared loops; of those that can be part of something better
//!            than what is known (with the least energy and time of the others beside it)
//! join       from the first einsum to the last: the best sums for each tile handed over next
//! ```
//!
//! What several einsums of a group keep of one tensor outside the shared loops, in tiles of one size at one memory, is
//! one copy.
//!
//! Room of earlier einsums outside the shared loops is counted to the end of the group, also where it is free
//! earlier: a chain of three or more that needs that room is not found.

use std::time::{Duration, Instant};

use super::join::{Joined, join};
use super::link::{Link, link};
use super::placement::tree;
use super::search::{Fuse, Goal, Part, Parts, Score, Search, Tiles, Work, least as least_of};
use super::space::SpaceError;
use super::{Mapped, Options, Solution};
use crate::case::{Case, CaseEinsum};
use crate::conventions::{Convention, evaluate};
use crate::search::Objective;

/// Partial mappings that the first, quick search keeps at each fan.
const BEAM: usize = 4;

/// The most that it keeps where it finds nothing with fewer.
const WIDEST: usize = 512;

/// The best mappings of all einsums of a case together.
///
/// # Errors
/// If an einsum is beyond the search, or has no mapping that fits.
pub(super) fn solve(case: &Case, options: &Options) -> Result<Solution, SpaceError> {
    let asked = Asked::new(options);
    let mut work = Work::default();
    let mut links = links(case, options)?;
    if let [link] = links.as_slice() {
        let best = best(link, options.objective, &asked, &mut work).ok_or(nothing(&work))?;
        let joined = Joined {
            score: Score::new(options.objective, best.energy, best.cycles),
            energy: best.energy,
            cycles: best.cycles,
            parts: vec![best],
        };
        return Ok(solution(case, &links, &joined, options, work));
    }
    for link in &mut links {
        link.least = least(link, &asked, &mut work)?;
    }
    let known = quick(&links, &asked, &mut work);
    let score = known.as_ref().map(|j| j.score);
    let least = apart(&links, options);
    // Each einsum at its best by itself: nothing is better.
    let joined = match score {
        Some(s) if s.0 <= least * (1.0 + 1e-12) => None,
        _ => exact(&links, score, least, &asked, &mut work),
    };
    let joined = [joined, known].into_iter().flatten().reduce(better);
    let joined = joined.ok_or(nothing(&work))?;
    Ok(solution(case, &links, &joined, options, work))
}

/// The mappings of a case of which none is at least as good as another in energy and time, by energy.
///
/// # Errors
/// If an einsum is beyond the search, or has no mapping that fits.
pub(super) fn front(case: &Case, options: &Options) -> Result<Vec<Solution>, SpaceError> {
    let asked = Asked::new(options);
    let mut work = Work::default();
    let links = links(case, options)?;
    let parts: Vec<Vec<Part>> = (0..links.len())
        .map(|i| collect(&links, i, None, &asked, &mut work))
        .collect();
    let mut chains = join(&links, &parts, options);
    chains.sort_by(|a, b| {
        a.energy
            .total_cmp(&b.energy)
            .then(a.cycles.total_cmp(&b.cycles))
    });
    // What differs by rounding only is the same.
    let near = 1.0 + 1e-12;
    let mut front: Vec<Joined> = Vec::new();
    for chain in chains {
        if front
            .last()
            .is_some_and(|l| l.cycles <= chain.cycles * near)
        {
            continue;
        }
        if front
            .last()
            .is_some_and(|l| chain.energy <= l.energy * near)
        {
            front.pop();
        }
        front.push(chain);
    }
    if front.is_empty() {
        return Err(nothing(&work));
    }
    let solutions = front
        .iter()
        .map(|c| solution(case, &links, c, options, work));
    Ok(solutions.collect())
}

/// The `count` best mappings of a case of one einsum, of those that differ in more than the order of loops that
/// makes no difference; the best first.
///
/// # Errors
/// If the einsum is beyond the search, or has no mapping that fits, or there is more than one einsum.
pub(super) fn nearest(
    case: &Case,
    count: usize,
    options: &Options,
) -> Result<Vec<Solution>, SpaceError> {
    let asked = Asked::new(options);
    let links = links(case, options)?;
    let [link] = links.as_slice() else {
        return Err(SpaceError::TooMany {
            what: "einsums for more than one best mapping",
            limit: 1,
            got: links.len(),
        });
    };
    let mut work = Work::default();
    let mut goal = Goal {
        near: Some((count.max(1), Vec::new())),
        ..Goal::of(1)
    };
    let perfect = link.space.perfect;
    search(
        link,
        perfect,
        options.objective,
        &asked,
        &mut goal,
        None,
        &mut work,
    );
    let near = goal.near.map_or(Vec::new(), |n| n.1);
    if near.is_empty() {
        return Err(nothing(&work));
    }
    let one = |(score, part): (Score, Part)| {
        let joined = Joined {
            score,
            energy: part.energy,
            cycles: part.cycles,
            parts: vec![part],
        };
        solution(case, &links, &joined, options, work)
    };
    let mut solutions: Vec<Solution> = near.into_iter().map(one).collect();
    let figure = |s: &Solution| Score::new(options.objective, s.energy, s.cycles);
    solutions.sort_by(|a, b| {
        let (a, b) = (figure(a), figure(b));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    Ok(solutions)
}

/// What is asked for, and when it is due.
pub(super) struct Asked {
    options: Options,
    until: Option<Instant>,
}

impl Asked {
    pub(super) fn new(options: &Options) -> Self {
        let budget = options.seconds.map(Duration::try_from_secs_f64);
        // A budget that no clock reaches is none.
        let budget = budget.and_then(Result::ok);
        Self {
            options: *options,
            until: budget.and_then(|b| Instant::now().checked_add(b)),
        }
    }

    /// What is left of the work and time.
    pub(super) fn fuse(&self, work: &Work) -> Fuse {
        Fuse {
            work: self.options.work.saturating_sub(work.expanded),
            until: self.until,
        }
    }
}

/// Why there is no mapping.
pub(super) fn nothing(work: &Work) -> SpaceError {
    if work.cut {
        SpaceError::Unfinished
    } else {
        SpaceError::Nothing
    }
}

fn links(case: &Case, options: &Options) -> Result<Vec<Link>, SpaceError> {
    (0..case.einsums.len())
        .map(|i| link(case, i, options))
        .collect()
}

fn better(a: Joined, b: Joined) -> Joined {
    if b.score.beats(a.score) { b } else { a }
}

/// A lower bound of a chain: the least energy and time of each einsum, whatever its neighbours do.
fn apart(links: &[Link], options: &Options) -> f64 {
    let least = |(energy, cycles): (f64, f64), link: &Link| {
        let root = |objective| {
            let roots = roots(link, false, objective).into_iter();
            roots.map(|r| r.0.0).fold(f64::INFINITY, f64::min)
        };
        (
            energy + link.least.0.max(root(Objective::Energy)),
            cycles + link.least.1.max(root(Objective::Latency)),
        )
    };
    let (energy, cycles) = links.iter().fold((0.0, 0.0), least);
    Score::new(options.objective, energy, cycles).0
}

/// The best mapping of an einsum by itself: found quickly, then proven; with perfect factors first, since most of what
/// partial tiles allow is no better.
fn best(link: &Link, objective: Objective, asked: &Asked, work: &mut Work) -> Option<Part> {
    let mut goal = Goal::of(1);
    quickly(link, objective, asked, &mut goal, work);
    slowly(link, objective, asked, &mut goal, work);
    goal.targets[0].best.take()
}

/// Looks at the whole space.
pub(super) fn slowly(
    link: &Link,
    objective: Objective,
    asked: &Asked,
    goal: &mut Goal,
    work: &mut Work,
) {
    search(link, true, objective, asked, goal, None, work);
    if !link.space.perfect {
        // Only this pass, which looks at the whole space, tells what is left.
        work.open = None;
        search(link, false, objective, asked, goal, None, work);
    }
}

/// A good mapping at the point that is looked at, by beams that grow until there is one, whatever work and time are
/// left.
fn quickly(link: &Link, objective: Objective, asked: &Asked, goal: &mut Goal, work: &mut Work) {
    let point = goal.only.unwrap_or(0);
    let mut beam = BEAM;
    // Tiles that are asked for may fit nothing: other chains are tried as well.
    let tiles = goal.asked.iter().flatten().any(Option::is_some);
    let widest = if tiles { WIDEST / 8 } else { WIDEST };
    while goal.targets[point].best.is_none() && beam <= widest {
        search(link, true, objective, asked, goal, Some(beam), work);
        beam *= 8;
    }
}

/// Looks quickly for something better than what is known at one point.
pub(super) fn quick_at(
    link: &Link,
    point: usize,
    objective: Objective,
    asked: &Asked,
    goal: &mut Goal,
    work: &mut Work,
) {
    goal.only = Some(point);
    if goal.targets[point].best.is_some() {
        search(link, true, objective, asked, goal, Some(BEAM), work);
    } else {
        quickly(link, objective, asked, goal, work);
    }
    goal.only = None;
}

/// Least bounds of all placements, by point.
pub(super) fn roots_at(link: &Link, objective: Objective) -> Vec<f64> {
    let mut least = vec![f64::INFINITY; link.space.prices.points()];
    for (i, placement) in link.placements.iter().enumerate() {
        let search = Search::new(&link.space, None, objective, placement, i, Fuse::NONE);
        let roots = search.root();
        least
            .iter_mut()
            .zip(roots)
            .for_each(|(l, r)| *l = l.min(r.0));
    }
    least
}

fn search(
    link: &Link,
    perfect: bool,
    objective: Objective,
    asked: &Asked,
    goal: &mut Goal,
    beam: Option<usize>,
    work: &mut Work,
) {
    let space = if perfect { &link.factors } else { &link.space };
    let exact = Some((&link.einsum, link.hierarchies.as_slice()));
    for (_, i) in roots(link, perfect, objective) {
        let fuse = match beam {
            Some(_) => Fuse::NONE,
            None => asked.fuse(work),
        };
        let placement = &link.placements[i];
        let mut search = Search::new(space, exact, objective, placement, i, fuse);
        search.run(goal, beam);
        work.add(search.work);
    }
    work.least = least_of(work.least, goal.targets[0].least);
}

/// The placements with their bounds, the most promising first; at the first point, where there are several.
pub(super) fn roots(link: &Link, perfect: bool, objective: Objective) -> Vec<(Score, usize)> {
    let space = if perfect { &link.factors } else { &link.space };
    let placements = link.placements.iter().enumerate();
    let root = |(i, p)| {
        let search = Search::new(space, None, objective, p, i, Fuse::NONE);
        (search.root()[0], i)
    };
    let mut roots: Vec<(Score, usize)> = placements.map(root).collect();
    roots.sort_by(|a, b| a.0.0.total_cmp(&b.0.0).then(a.0.1.total_cmp(&b.0.1)));
    roots
}

/// Least energy and least cycles of an einsum, whatever its neighbours do.
fn least(link: &Link, asked: &Asked, work: &mut Work) -> Result<(f64, f64), SpaceError> {
    let mut figures = (0.0, 0.0);
    for objective in [Objective::Energy, Objective::Latency] {
        let wanted = asked.options.objective;
        let needed = wanted == objective || wanted == Objective::Edp;
        if !needed {
            continue;
        }
        let mut own = Work {
            least: None,
            open: None,
            ..*work
        };
        let best = best(link, objective, asked, &mut own).ok_or(nothing(&own))?;
        let bound = |found: f64| own.bound(found);
        *work = Work {
            least: work.least,
            open: work.open,
            ..own
        };
        match objective {
            Objective::Energy => figures.0 = bound(best.energy),
            _ => figures.1 = bound(best.cycles),
        }
    }
    Ok(figures)
}

/// The best of a few chains of parts: handing over whole, and tile by tile in the tiles that the first
/// einsum, or the last, would choose.
fn quick(links: &[Link], asked: &Asked, work: &mut Work) -> Option<Joined> {
    let count = links.len();
    let whole =
        |i: usize, _: &[Option<Part>]| [(i > 0).then_some(None), (i + 1 < count).then_some(None)];
    let forwards = |i: usize, parts: &[Option<Part>]| {
        let before = i.checked_sub(1).and_then(|b| parts[b].as_ref());
        [before.map(|p| p.tiles[1].clone()), None]
    };
    let backwards = |i: usize, parts: &[Option<Part>]| {
        let after = parts.get(i + 1).and_then(Option::as_ref);
        [None, after.map(|p| p.tiles[0].clone())]
    };
    let order: Vec<usize> = (0..count).collect();
    let reverse: Vec<usize> = (0..count).rev().collect();
    let chains = [
        greedy(links, &order, &whole, asked, work),
        greedy(links, &order, &forwards, asked, work),
        greedy(links, &reverse, &backwards, asked, work),
    ];
    let known = chains.into_iter().flatten();
    known.reduce(better)
}

/// What to ask of an einsum, given the parts chosen so far.
type Ask<'a> = &'a dyn Fn(usize, &[Option<Part>]) -> [Option<Tiles>; 2];

/// Chooses the best part of one einsum after the other, in an order.
fn greedy(
    links: &[Link],
    order: &[usize],
    ask: Ask,
    asked: &Asked,
    work: &mut Work,
) -> Option<Joined> {
    let mut parts: Vec<Option<Part>> = vec![None; links.len()];
    for &i in order {
        let mut goal = Goal {
            beside: beside(links, i),
            asked: ask(i, &parts),
            ..Goal::of(1)
        };
        quickly(&links[i], asked.options.objective, asked, &mut goal, work);
        parts[i] = Some(goal.targets[0].best.take()?);
    }
    let parts: Vec<Vec<Part>> = parts.into_iter().map(|p| p.into_iter().collect()).collect();
    join(links, &parts, &asked.options).into_iter().next()
}

/// Least energy and cycles of all einsums but one.
fn beside(links: &[Link], i: usize) -> (f64, f64) {
    let others = links.iter().enumerate().filter(|(j, _)| *j != i);
    others.fold((0.0, 0.0), |(e, t), (_, l)| (e + l.least.0, t + l.least.1))
}

/// Shares of the gap between the least bound and what is known that are searched one after the other.
const SHARES: [f64; 3] = [1.0 / 64.0, 1.0 / 8.0, 1.0];

/// The best chain of parts, if it is better than what is known. The best one is often much nearer to the bound, and what
/// is near to it is found quickly: all chains below a share of the gap are looked at first, and the best of them, if
/// there is one, is the best of all.
fn exact(
    links: &[Link],
    known: Option<Score>,
    least: f64,
    asked: &Asked,
    work: &mut Work,
) -> Option<Joined> {
    let Some(known) = known else {
        return below(links, None, asked, work);
    };
    for share in SHARES {
        let limit = match share < 1.0 {
            true => least + share * (known.0 - least),
            false => known.0,
        };
        // What is as good as the known chain need not be found again.
        let limit = Score(limit, f64::NEG_INFINITY);
        let found = below(links, Some(limit), asked, work);
        if found.as_ref().is_some_and(|j| j.score.beats(limit)) || work.cut {
            return found;
        }
    }
    None
}

/// The best chain of parts, of those below a limit.
fn below(links: &[Link], limit: Option<Score>, asked: &Asked, work: &mut Work) -> Option<Joined> {
    let parts: Vec<Vec<Part>> = (0..links.len())
        .map(|i| collect(links, i, limit, asked, work))
        .collect();
    join(links, &parts, &asked.options).into_iter().next()
}

fn collect(
    links: &[Link],
    i: usize,
    limit: Option<Score>,
    asked: &Asked,
    work: &mut Work,
) -> Vec<Part> {
    let mut goal = Goal {
        beside: beside(links, i),
        parts: Some(Parts::default()),
        ..Goal::below(limit)
    };
    let perfect = links[i].space.perfect;
    search(
        &links[i],
        perfect,
        asked.options.objective,
        asked,
        &mut goal,
        None,
        work,
    );
    goal.parts.map_or(Vec::new(), |p| p.parts)
}

/// The trees of a chain of parts, with their exact figures.
pub(super) fn solution(
    case: &Case,
    links: &[Link],
    joined: &Joined,
    options: &Options,
    work: Work,
) -> Solution {
    let mapped = |((link, part), e): ((&Link, &Part), &CaseEinsum)| {
        let tree = tree(&link.space, &link.placements[part.placement], &part.steps);
        let told = evaluate(Convention::AccelForge, &e.einsum, &e.hierarchy, &tree);
        let figures = told.map(|t| (t.energy_total(), t.cycles));
        let (energy, cycles) = figures.unwrap_or((part.energy, part.cycles));
        Mapped {
            tree,
            energy,
            cycles,
        }
    };
    let einsums = links.iter().zip(&joined.parts).zip(&case.einsums);
    let fused = joined.parts.iter().skip(1).map(|p| p.tiles[0].is_some());
    let complete = !work.cut;
    let einsums: Vec<Mapped> = einsums.map(mapped).collect();
    Solution {
        energy: einsums.iter().map(|e| e.energy).sum(),
        cycles: einsums.iter().map(|e| e.cycles).sum(),
        einsums,
        fused: fused.collect(),
        lower_bound: match links {
            // What a chain left is not told: its parts by themselves bound it.
            [_, _, ..] if work.cut => apart(links, options).min(joined.score.0),
            _ => work.bound(joined.score.0),
        },
        complete,
        expanded: work.expanded,
        bounded: work.bounded,
        dominated: work.dominated,
    }
}
