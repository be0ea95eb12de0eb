//! Chains of three einsums against full enumeration: every loop tree of each, with both intermediates handed over whole
//! or tile by tile.
//!
//! ```text
//! groups    einsums handed over tile by tile to the next; each hand-over has one memory and tile on both sides
//! nest      all storages outside the shared loops of a group stand in one order of loops
//! room      while an einsum runs: its own storages, and those of the others of the group that stand outside the loops
//!           which both share; of one tensor that several read, equal tiles at one memory count once
//! ```
//!
//! The loops that the first and the last einsum share are those outside both homes of the middle one.

use presil_numerics::ids::Id;
use presil_workloads::Einsum;
use proptest::prelude::*;

use super::super::{Options, Solution, solve};
use super::chains::{case_of, named};
use super::trees::{Trees, value};
use super::{Random, einsum, fits, random_fanout, random_memory};
use crate::case::Case;
use crate::conventions::{Convention, evaluate};
use crate::hierarchy::{ComputeLevel, Hierarchy, Level, MemoryLevel, access_of, operand_count};
use crate::looptree::{LoopTree, Node, tile_shape};
use crate::search::Objective;

/// Loop trees of an einsum that are enumerated at most; larger problems are left out.
const MOST: u64 = 20_000;

/// Names of all dimensions.
const DIMS: [&str; 5] = ["m", "k", "n", "p", "q"];

/// Tile of each dimension of a case.
type Tiles = [u64; 5];

/// A storage that stands outside a home.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    level: usize,
    tiles: Tiles,
    bits: u64,
    /// The tensor of an input, and its tile along each of its dimensions.
    copy: Option<(usize, Vec<(usize, u64)>)>,
    /// Whether it stands outside the home of the intermediate that comes in, and that goes out.
    outside: [bool; 2],
}

/// Memory and tile, by rank, of an intermediate, and where it stands.
type Home = (usize, Vec<u64>, Tiles);

/// What neighbours see of a mapping.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct View {
    /// Of the intermediate that comes in, and that goes out; none if it is whole or there is none.
    homes: [Option<Home>; 2],
    /// Where storages stand, from the outermost to the innermost home.
    cuts: Vec<Tiles>,
    kept: Vec<Kept>,
    /// Bits used of each level, and of which copies.
    used: Vec<u64>,
    copies: Vec<Kept>,
}

/// An einsum of a chain, with what lies between it and its neighbours.
struct Member {
    einsum: Einsum,
    tensors: Vec<usize>,
    between: [Option<usize>; 2],
}

/// A chain, with the extents of all dimensions.
struct Triple {
    members: Vec<Member>,
    whole: Tiles,
    /// Count what the first and last einsum keep outside any shared loop all the time, as if it never went.
    held: bool,
}

impl Triple {
    fn view(&self, h: &Hierarchy, i: usize, tree: &LoopTree) -> View {
        let Member {
            einsum: e,
            tensors,
            between,
        } = &self.members[i];
        let mut view = View {
            homes: [None, None],
            cuts: Vec::new(),
            kept: Vec::new(),
            used: vec![0; h.levels.len()],
            copies: Vec::new(),
        };
        let nodes = tree.nodes.iter().enumerate();
        let storages: Vec<(usize, usize, usize)> = nodes
            .filter_map(|(i, n)| match *n {
                Node::Keep { level, operand } => Some((i, level, operand)),
                _ => None,
            })
            .collect();
        // The place of each home; an intermediate at the outermost level has none.
        let home = |o: Option<usize>| {
            let first = storages.iter().find(|s| Some(s.2) == o)?;
            (first.1 > 0).then_some(first.0)
        };
        let homes = between.map(home);
        let Some(innermost) = homes.iter().flatten().max() else {
            return view;
        };
        for &(at, level, operand) in &storages {
            let tiles = tree.tiles(e, at);
            let number = |d: usize| DIMS.iter().position(|n| **n == e.dims[d].name).unwrap();
            let mut all = self.whole;
            for (d, t) in tiles.iter().enumerate() {
                all[number(d)] = *t;
            }
            let tile = tile_shape(e, operand, &tiles);
            let words: u64 = tile.iter().product();
            let bits = words * h.levels[level].memory().unwrap().bits[operand] as u64;
            view.used[level] += bits;
            for (side, home) in homes.iter().enumerate() {
                if *home == Some(at) {
                    view.homes[side] = Some((level, tile.clone(), all));
                }
            }
            if at <= *innermost {
                view.cuts.push(all);
            }
            let input = operand + 1 < tensors.len();
            let kept = Kept {
                level,
                tiles: all,
                bits,
                copy: input.then(|| {
                    let ranks = &access_of(e, operand).ranks;
                    let dims = ranks.iter().map(|r| number(r.terms[0].0.index()));
                    (tensors[operand], dims.zip(tile).collect())
                }),
                outside: homes.map(|h| h.is_some_and(|h| at < h)),
            };
            // A level without bounds needs no room.
            if h.levels[level].memory().unwrap().capacity.is_infinite() {
                continue;
            }
            if input {
                view.copies.push(kept.clone());
            }
            if kept.outside.contains(&true) {
                view.kept.push(kept);
            }
        }
        view.cuts.dedup();
        view
    }

    /// Whether one tile stands inside or at another.
    fn within(&self, inner: &Tiles, outer: &Tiles) -> bool {
        (0..inner.len()).all(|d| outer[d].is_multiple_of(inner[d]) || outer[d] == self.whole[d])
    }

    /// Whether three einsums can run as they want, and fit.
    fn agree(&self, h: &Hierarchy, all: [&View; 3]) -> bool {
        let same = |a: &Option<Home>, b: &Option<Home>| match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => (a.0, &a.1) == (b.0, &b.1),
            _ => false,
        };
        let handed = [0, 1].map(|i| same(&all[i].homes[1], &all[i + 1].homes[0]));
        if handed != [true; 2] {
            return false;
        }
        match [0, 1].map(|i| all[i].homes[1].is_some()) {
            [false, false] => true,
            [true, false] => self.run(h, &all[..2]),
            [false, true] => self.run(h, &all[1..]),
            [true, true] => self.run(h, &all),
        }
    }

    /// Whether a group runs in one nest, and fits.
    fn run(&self, h: &Hierarchy, group: &[&View]) -> bool {
        let mut cuts: Vec<&Tiles> = group.iter().flat_map(|v| &v.cuts).collect();
        cuts.sort_by_key(|c| std::cmp::Reverse(c.iter().product::<u64>()));
        if !cuts.windows(2).all(|w| self.within(w[1], w[0])) {
            return false;
        }
        (0..group.len()).all(|running| {
            let mut used = group[running].used.clone();
            let copies = &group[running].copies;
            let mut copies: Vec<&Kept> = copies.iter().collect();
            let others = (0..group.len()).filter(|o| *o != running);
            for kept in others.flat_map(|o| self.alive(group, o, running)) {
                let same = |c: &&Kept| (c.level, &c.copy) == (kept.level, &kept.copy);
                if kept.copy.is_none() || !copies.iter().any(same) {
                    used[kept.level] += kept.bits;
                    copies.push(kept);
                }
            }
            let room = |(l, level): (usize, &Level)| {
                let fits = |m: &MemoryLevel| used[l] as f64 <= m.capacity / m.buffering;
                level.memory().is_none_or(fits)
            };
            h.levels.iter().enumerate().all(room)
        })
    }

    /// What an einsum of a group keeps while another runs.
    fn alive<'a>(&self, group: &[&'a View], one: usize, running: usize) -> Vec<&'a Kept> {
        let side = usize::from(running > one);
        let kept = group[one].kept.iter();
        let beside = |k: &&Kept| k.outside[side];
        if one.abs_diff(running) == 1 || self.held {
            return kept.filter(beside).collect();
        }
        // The outer home of the middle einsum; both where they stand at one place.
        let [a, b] = group[1].homes.each_ref().map(|h| h.as_ref().unwrap().2);
        let outer = if self.within(&a, &b) { b } else { a };
        let own = if one == 0 { a } else { b };
        if own == outer {
            return kept.filter(beside).collect();
        }
        let out = |k: &&Kept| k.outside[side] && k.tiles != outer && self.within(&outer, &k.tiles);
        kept.filter(out).collect()
    }
}

/// Einsums as text: inputs, ">" and the output, each a tensor, ":" and its dimensions.
fn member(text: &str, sizes: &Tiles, tensors: &mut Vec<String>) -> (Einsum, Vec<usize>) {
    let (inputs, output) = text.split_once(" > ").unwrap();
    let mut names: Vec<&str> = Vec::new();
    let mut ids = Vec::new();
    let mut ranks: Vec<Vec<Vec<(u32, i64)>>> = Vec::new();
    for operand in inputs.split(' ').chain([output]) {
        let (tensor, dims) = operand.split_once(':').unwrap();
        let known = tensors.iter().position(|t| t == tensor);
        ids.push(known.unwrap_or_else(|| {
            tensors.push(tensor.into());
            tensors.len() - 1
        }));
        let mut all = Vec::new();
        for name in dims.split("").filter(|d| !d.is_empty()) {
            let at = names.iter().position(|n| *n == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            all.push(vec![(at as u32, 1)]);
        }
        ranks.push(all);
    }
    let size = |n: &&str| sizes[DIMS.iter().position(|d| d == n).unwrap()];
    let extents: Vec<u64> = names.iter().map(size).collect();
    let borrowed: Vec<Vec<&[(u32, i64)]>> = ranks
        .iter()
        .map(|r| r.iter().map(Vec::as_slice).collect())
        .collect();
    let (output, inputs) = borrowed.split_last().unwrap();
    let inputs: Vec<&[&[(u32, i64)]]> = inputs.iter().map(Vec::as_slice).collect();
    (named(einsum(&extents, &inputs, output), &names), ids)
}

fn triple(r: &mut Random) -> (Triple, Vec<(Einsum, Vec<usize>)>) {
    let mut whole = [
        r.of(&[2, 2, 3, 4]),
        r.of(&[1, 2]),
        r.of(&[1, 2, 3, 4]),
        r.of(&[1, 2]),
        r.of(&[1, 2]),
    ];
    let mut first = r.of(&["x:mn > t:mn", "x:mk w:kn > t:mn", "x:mn y:n > t:mn"]);
    let (next, last) = match r.next() % 6 {
        0 | 1 => {
            let next = r.of(&[
                "t:mn > s:mn",
                "x:mn t:mn > s:mn",
                "y:n t:mn > s:mn",
                "t:mn y:n > s:mn",
            ]);
            let last = r.of(&[
                "s:mn > o:mn",
                "s:mn v:np > o:mp",
                "x:mn s:mn > o:mn",
                "s:mn y:n > o:mn",
                "s:mn > o:m",
                "s:mn > o:n",
            ]);
            (next, last)
        }
        2 => {
            let next = "t:mn v:np > s:mp";
            (
                next,
                r.of(&["s:mp > o:mp", "s:mp u:pq > o:mq", "s:mp > o:p"]),
            )
        }
        // Rooms that the first and the last einsum take inside the loop over m only.
        3 => {
            whole = [2, 2, 2, 2, 2];
            first = "x:mk w:kn > t:mn";
            ("t:mn v:np > s:mp", "s:mp u:pq > o:mq")
        }
        4 => {
            whole = [2, 2, 2, 2, 2];
            first = "x:mk w:kn > t:mn";
            ("t:mn > s:m", "s:m u:mp > o:mq")
        }
        _ => (
            r.of(&["t:mn > s:m", "t:mn y:n > s:m"]),
            r.of(&["s:m > o:m", "s:m z:mq > o:mq", "s:m z:mq > o:q"]),
        ),
    };
    chain(whole, [first, next, last])
}

fn chain(whole: Tiles, texts: [&str; 3]) -> (Triple, Vec<(Einsum, Vec<usize>)>) {
    let mut tensors = Vec::new();
    let chain = texts.map(|text| member(text, &whole, &mut tensors));
    let mut members: Vec<Member> = Vec::new();
    for (i, (einsum, ids)) in chain.iter().enumerate() {
        let made = |j: usize| chain.get(j).and_then(|c| c.1.last());
        let input = i.checked_sub(1).and_then(made);
        let input = input.and_then(|t| ids.iter().position(|x| x == t));
        members.push(Member {
            einsum: einsum.clone(),
            tensors: ids.clone(),
            between: [input, (i < 2).then_some(operand_count(einsum) - 1)],
        });
    }
    let triple = Triple {
        members,
        whole,
        held: false,
    };
    (triple, chain.to_vec())
}

/// Two memories, seldom three, and perhaps a fanout.
fn hierarchy(r: &mut Random) -> Hierarchy {
    let dram = memory(r, "dram", 10.0, &[f64::INFINITY]);
    let mut levels = vec![Level::Memory(dram)];
    if r.chance(15) {
        levels.push(Level::Memory(memory(r, "l2", 2.0, &[8.0, 16.0])));
    }
    let sizes = [3.0, 4.0, 5.0, 5.0, 6.0, 8.0, 10.0, 14.0];
    levels.push(Level::Memory(memory(r, "glb", 1.0, &sizes)));
    if r.chance(15) {
        levels.push(random_fanout(r));
    }
    levels.push(compute());
    Hierarchy {
        name: "random".into(),
        levels,
    }
}

/// A memory that keeps all operands in bytes.
fn memory(r: &mut Random, name: &str, energy: f64, words: &[f64]) -> MemoryLevel {
    MemoryLevel {
        bits: vec![8.0; 3],
        ..random_memory(r, name, 3, energy, words)
    }
}

fn compute() -> Level {
    Level::Compute(ComputeLevel {
        name: "mac".into(),
        energy: 0.5,
        rate: 1.0,
        leakage: 0.0,
    })
}

/// What enumeration finds: the least figure, and whether the search was compared with it.
fn least(triple: &Triple, h: &Hierarchy, objective: Objective, perfect: bool) -> Option<f64> {
    let mut all = Vec::new();
    for (i, m) in triple.members.iter().enumerate() {
        let view = |t: &LoopTree| triple.view(h, i, t);
        let between: Vec<usize> = m.between.iter().flatten().copied().collect();
        all.push(Trees::all(&m.einsum, h, &between, perfect, MOST, &view)?);
    }
    let [first, next, last] = all.as_slice() else {
        return None;
    };
    let mut best = f64::INFINITY;
    let met = |a: &Option<Home>, b: &Option<Home>| {
        a.as_ref().map(|h| (h.0, &h.1)) == b.as_ref().map(|h| (h.0, &h.1))
    };
    for b in next {
        let before = first.iter().filter(|a| met(&a.0.homes[1], &b.0.homes[0]));
        let after: Vec<_> = last
            .iter()
            .filter(|c| met(&b.0.homes[1], &c.0.homes[0]))
            .collect();
        for a in before {
            for c in &after {
                let figure = value(objective, a.1 + b.1 + c.1, a.2 + b.2 + c.2);
                if figure < best * (1.0 - 1e-12) && triple.agree(h, [&a.0, &b.0, &c.0]) {
                    best = figure;
                }
            }
        }
    }
    Some(best)
}

/// What was seen of a triple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    TooLarge,
    Nothing,
    /// So many hand-overs tile by tile.
    Fused(usize),
}

/// A random chain, its machine and what is made small.
fn random(seed: u64) -> Problem {
    let mut r = Random(seed);
    let (triple, einsums) = triple(&mut r);
    let h = hierarchy(&mut r);
    let objective = r.of(&[Objective::Latency, Objective::Energy, Objective::Edp]);
    (triple, case_of(&einsums, &h, objective))
}

type Problem = (Triple, Case);

/// A random case of three einsums.
pub(super) fn random_triple(seed: u64) -> Case {
    random(seed).1
}

/// A random case of three einsums, and the least figure of all their mappings; none if they are too many.
pub(super) fn enumerated(seed: u64, perfect: bool) -> Option<(Case, f64)> {
    let (triple, case) = random(seed);
    let h = &case.einsums[0].hierarchy;
    let least = least(&triple, h, case.objective, perfect)?;
    Some((case, least))
}

fn compare(problem: &Problem, perfect: bool, seed: u64) -> Result<Seen, TestCaseError> {
    let (triple, case) = problem;
    let (h, objective) = (&case.einsums[0].hierarchy, case.objective);
    let Some(best) = least(triple, h, objective, perfect) else {
        return Ok(Seen::TooLarge);
    };
    let options = Options {
        perfect,
        work: u64::MAX,
        ..Options::new(objective)
    };
    let solution = match solve(case, &options) {
        Ok(solution) => solution,
        Err(error) => {
            prop_assert!(best.is_infinite(), "{error}: {best}, seed {seed}");
            return Ok(Seen::Nothing);
        }
    };
    let text = told(triple, case, h, &solution)?;
    let views: Vec<View> = solution
        .einsums
        .iter()
        .enumerate()
        .map(|(i, m)| triple.view(h, i, &m.tree))
        .collect();
    let found = value(objective, solution.energy, solution.cycles);
    let context = format!(
        "{objective:?} found {found}, enumeration {best}, seed {seed}\n{text}\n{:?}\n{h:#?}",
        triple.whole
    );
    prop_assert!(
        triple.agree(h, [&views[0], &views[1], &views[2]]),
        "does not agree: {context}\n{views:#?}"
    );
    prop_assert!((found - best).abs() <= 1e-9 * best, "{context}");
    let bound = solution.lower_bound;
    prop_assert!(
        (bound - best).abs() <= 1e-9 * best,
        "bound {bound} {context}"
    );
    Ok(Seen::Fused(solution.fused.iter().filter(|f| **f).count()))
}

/// The trees of a solution, as text, if its figures are what the convention says.
fn told(
    triple: &Triple,
    case: &Case,
    h: &Hierarchy,
    solution: &Solution,
) -> Result<String, TestCaseError> {
    let mut text = String::new();
    let (mut energy, mut cycles) = (0.0, 0.0);
    for (i, mapped) in solution.einsums.iter().enumerate() {
        let e = &triple.members[i].einsum;
        let names = case.einsums[i].operands.iter();
        let names: Vec<String> = names.map(|t| format!("tensor {t}")).collect();
        text += &mapped.tree.describe(e, h, &names);
        let told = evaluate(Convention::AccelForge, e, h, &mapped.tree);
        prop_assert!(told.is_ok() && fits(e, h, &mapped.tree), "{told:?}\n{text}");
        let told = told.unwrap();
        energy += told.energy_total();
        cycles += told.cycles;
    }
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b;
    prop_assert!(
        near(solution.energy, energy) && near(solution.cycles, cycles),
        "{text}"
    );
    Ok(text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn triples_equal_full_enumeration(seed in any::<u64>()) {
        compare(&random(seed), true, seed)?;
        compare(&random(seed), false, seed)?;
    }
}

#[test]
fn many_random_triples_are_enumerated_and_fused() {
    let mut fused = [0; 3];
    for seed in 0..60 {
        if let Seen::Fused(n) = compare(&random(seed), seed % 2 == 0, seed).unwrap() {
            fused[n] += 1;
        }
    }
    assert!(fused.iter().all(|n| *n > 5), "{fused:?}");
}

/// What an einsum keeps inside loops that another does not share is free while that runs.
#[test]
fn room_is_free_while_others_run() {
    let mut problem = random(1404);
    let seen = compare(&problem, true, 1404).unwrap();
    assert_eq!(seen, Seen::Fused(2));
    let least = |triple: &Triple| {
        let case = &problem.1;
        least(triple, &case.einsums[0].hierarchy, case.objective, true).unwrap()
    };
    let freed = least(&problem.0);
    problem.0.held = true;
    assert!(freed < least(&problem.0) * 0.999);
}

/// The first einsum cuts m before n, outside a storage that m does not index: alone the loop would be better inside, but the
/// last two share it.
#[test]
fn shared_loops_keep_their_place() {
    let whole = [3, 1, 3, 2, 2];
    let texts = ["x:mn y:n > t:mn", "t:mn y:n > s:m", "s:m z:mq > o:mq"];
    let (triple, einsums) = chain(whole, texts);
    let mut machine = None;
    // One port for all at either memory.
    for seed in 0..1000 {
        let mut r = Random(seed);
        let h = Hierarchy {
            name: "small".into(),
            levels: vec![
                Level::Memory(memory(&mut r, "dram", 10.0, &[f64::INFINITY])),
                Level::Memory(memory(&mut r, "glb", 1.0, &[4.0])),
                compute(),
            ],
        };
        let one = |l: &Level| {
            let rate = |m: &MemoryLevel| m.ports.len() == 1 && m.ports[0].read_rate == 8.0;
            l.memory().is_none_or(rate)
        };
        if h.levels.iter().all(one) {
            machine = Some(h);
            break;
        }
    }
    let case = case_of(&einsums, &machine.unwrap(), Objective::Edp);
    let seen = compare(&(triple, case), false, 0).unwrap();
    assert_eq!(seen, Seen::Fused(2));
}
