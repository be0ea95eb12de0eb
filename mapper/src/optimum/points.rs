//! Design points solved at once.
//!
//! Cases of one einsum that differ only in energies and in sizes of memories have the same mappings, which move the same
//! elements in the same time: they are one space with several prices and sizes ([`merge`]). One search looks at
//! it for all of them. What a partial mapping moves and uses is counted once; it carries the set of points at which it
//! may still become the best mapping. A point leaves the set
//!
//! - where its memories cannot hold the tiles,
//! - where the bound at its prices is no better than the best that is known there,
//! - where another partial mapping, of which the point has not left the set, is at least as good at its prices;
//!
//! and a partial mapping is left out when no point is left. Each of them is what the search of that point alone would
//! do, so what is found at each point is proven like there.
//!
//! Good mappings are known from the start: a few points, those that are farthest from their bounds, are searched
//! quickly, and every mapping found is told at all points.

use presil_numerics::ids::Id;
use presil_workloads::Einsum;

use super::chain::{Asked, nothing, quick_at, roots_at, slowly, solution, solve};
use super::join::Joined;
use super::link::{Link, link};
use super::placement::tree;
use super::prices::{POINTS, Points, merge};
use super::search::{Goal, Part, Score, Target, Work};
use super::space::SpaceError;
use super::{Options, Solution};
use crate::case::Case;
use crate::looptree::{LoopTree, Node, tile_shape};

/// Points that are searched quickly, beside those at which no mapping found for another one fits.
const SAMPLES: usize = 6;

/// The best mappings of cases.
pub(super) fn solve_all(cases: &[Case], options: &Options) -> Vec<Result<Solution, SpaceError>> {
    let mut solutions: Vec<Option<Result<Solution, SpaceError>>> = vec![None; cases.len()];
    // Seconds are those of a case, and looking at everything is for tests of the plain search.
    let alone = options.seconds.is_some() || options.exhaustive;
    let groups = if alone {
        Vec::new()
    } else {
        groups(cases, options)
    };
    for group in groups {
        let members: Vec<&Case> = group.members.iter().map(|i| &cases[*i]).collect();
        let found = together(&members, group.link, options);
        for (i, found) in group.members.iter().zip(found) {
            solutions[*i] = found;
        }
    }
    let all = solutions.into_iter().zip(cases);
    all.map(|(found, case)| found.unwrap_or_else(|| solve(case, options)))
        .collect()
}

/// Cases that are searched at once.
struct Group {
    members: Vec<usize>,
    /// Their common space.
    link: Link,
}

/// Groups of more than one case each.
fn groups(cases: &[Case], options: &Options) -> Vec<Group> {
    let one = |case: &Case| match case.einsums.len() {
        1 => link(case, 0, options).ok(),
        _ => None,
    };
    let mut links: Vec<Option<Link>> = cases.iter().map(one).collect();
    let mut groups = Vec::new();
    for i in 0..links.len() {
        let Some(first) = links[i].take() else {
            continue;
        };
        let shape = first.space.shape();
        let mut members = vec![i];
        let mut same = vec![first];
        for (j, other) in links.iter_mut().enumerate().skip(i + 1) {
            let fits = |other: &mut Link| {
                same.len() < POINTS
                    && shaped(&cases[i].einsums[0].einsum, other, &same[0])
                    && other.space.shape() == shape
            };
            if let Some(other) = other.take_if(fits) {
                members.push(j);
                same.push(other);
            }
        }
        if let Some(link) = common(same) {
            groups.push(Group { members, link });
        }
    }
    groups
}

/// Whether two einsums have the same mappings.
fn shaped(einsum: &Einsum, a: &Link, b: &Link) -> bool {
    a.einsum == *einsum && a.placements == b.placements
}

/// One link for several; none for one.
fn common(mut links: Vec<Link>) -> Option<Link> {
    if links.len() < 2 {
        return None;
    }
    let spaces: Vec<_> = links.iter().map(|l| &l.space).collect();
    let space = merge(&spaces)?;
    let hierarchies = links
        .iter_mut()
        .flat_map(|l| std::mem::take(&mut l.hierarchies));
    let hierarchies = hierarchies.collect();
    let first = links.into_iter().next()?;
    Some(first.with(space, hierarchies))
}

/// Solves the points of a space at once; none of those that this does not prove.
fn together(
    cases: &[&Case],
    link: Link,
    options: &Options,
) -> Vec<Option<Result<Solution, SpaceError>>> {
    let points = cases.len();
    let asked = Asked::new(&Options {
        work: options.work.saturating_mul(points as u64),
        ..*options
    });
    let mut work = Work::default();
    let mut goal = Goal::of(points);
    sample(&link, options, &asked, &mut goal, &mut work);
    slowly(&link, options.objective, &asked, &mut goal, &mut work);
    let links = [link];
    let told = |(target, case): (Target, &&Case)| {
        if work.cut {
            return None;
        }
        let Some(best) = target.best else {
            return Some(Err(nothing(&work)));
        };
        let joined = Joined {
            score: Score::new(options.objective, best.energy, best.cycles),
            energy: best.energy,
            cycles: best.cycles,
            parts: vec![best],
        };
        let work = Work {
            least: target.least,
            open: None,
            ..work
        };
        let found = solution(case, &links, &joined, options, work);
        let proven = found.lower_bound >= joined.score.0 * (1.0 - 1e-12);
        proven.then_some(Ok(found))
    };
    goal.targets.into_iter().zip(cases).map(told).collect()
}

/// Finds a good mapping at each point.
fn sample(link: &Link, options: &Options, asked: &Asked, goal: &mut Goal, work: &mut Work) {
    let points = goal.targets.len();
    let roots = roots_at(link, options.objective);
    let mut tried = vec![false; points];
    for round in 0..points {
        let gap = |p: &usize| {
            goal.targets[*p]
                .limit
                .map_or(f64::INFINITY, |l| l.0 / roots[*p])
        };
        let open = (0..points).filter(|p| !tried[*p]);
        let Some(point) = open.max_by(|a, b| gap(a).total_cmp(&gap(b)).then(b.cmp(a))) else {
            return;
        };
        if round >= SAMPLES && goal.targets[point].best.is_some() {
            return;
        }
        tried[point] = true;
        quick_at(link, point, options.objective, asked, goal, work);
        tell(link, point, options, goal);
    }
}

/// Tells the best mapping of a point, of perfect factors, at all points whose memories hold its tiles.
fn tell(link: &Link, point: usize, options: &Options, goal: &mut Goal) {
    let Some(best) = goal.targets[point].best.clone() else {
        return;
    };
    let tree = tree(&link.space, &link.placements[best.placement], &best.steps);
    for p in holds(link, &tree).iter() {
        let prices = &link.space.prices;
        let energy = prices.compute[p] + prices.energy(p, &best.moved);
        let score = Score::new(options.objective, energy, best.cycles);
        let target = &mut goal.targets[p];
        if target.limit.is_none_or(|limit| score.beats(limit)) {
            target.limit = Some(score);
            target.best = Some(Part {
                energy,
                ..best.clone()
            });
        }
    }
}

/// The points at which memories hold the tiles of a mapping.
fn holds(link: &Link, tree: &LoopTree) -> Points {
    let einsum = &link.einsum;
    let mut tiles: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
    let memories = || link.space.segments.iter().flat_map(|s| &s.memories);
    let mut used: Vec<f64> = memories().map(|_| 0.0).collect();
    for node in &tree.nodes {
        match *node {
            Node::Keep { level, operand } => {
                let shape = tile_shape(einsum, operand, &tiles);
                let words: f64 = shape.iter().map(|e| *e as f64).product();
                let here = memories().zip(&mut used).filter(|(m, _)| m.level == level);
                here.for_each(|(m, used)| *used += words * m.bits[operand]);
            }
            Node::Temporal { dim, tile } | Node::Spatial { dim, tile, .. } => {
                tiles[dim.index()] = tile;
            }
        }
    }
    let all = Points::first(link.space.prices.points());
    let fit = memories().zip(used).map(|(m, used)| m.holds(used));
    fit.fold(all, Points::and)
}
