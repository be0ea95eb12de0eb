//! Chains against full enumeration: every loop tree of two einsums, with what lies between them handed over whole or
//! tile by tile.
//!
//! ```text
//! trees     of one einsum: the intermediate whole at the outermost memory, or its home at a memory inside below loops
//!           in time that all index it
//! pairs     both whole; or the same memory and tile, one order of shared loops for the storages of both, and room for
//!           one einsum and what the other keeps outside the home
//! ```

use presil_workloads::Einsum;
use proptest::prelude::*;

use super::super::{Options, solve};
use super::trees::{Trees, value};
use super::{Random, einsum, fits, random_fanout, random_memory};
use crate::case::{Case, CaseEinsum, Constraints};
use crate::conventions::{Convention, evaluate};
use crate::hierarchy::{ComputeLevel, Hierarchy, Level, operand_count};
use crate::looptree::{LoopTree, Node, tile_shape};
use crate::search::Objective;

/// Loop trees of an einsum that are enumerated at most; larger problems are left out.
const MOST: u64 = 8_000;

/// What a neighbour sees of a mapping.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct View {
    /// Memory and tile, by rank, of the intermediate; none if it is whole.
    home: Option<(usize, Vec<u64>)>,
    /// Tiles of the intermediate at storages outside its home.
    cuts: Vec<Vec<u64>>,
    /// Bits used of each level, and those of storages outside the home.
    used: Vec<u64>,
    outside: Vec<u64>,
    /// Of those, level, tile and bits of the tensor that both einsums read.
    common: Vec<(usize, Vec<u64>, u64)>,
}

fn view(e: &Einsum, h: &Hierarchy, tree: &LoopTree, between: usize, common: Option<usize>) -> View {
    let mut view = View {
        home: None,
        cuts: Vec::new(),
        used: vec![0; h.levels.len()],
        outside: vec![0; h.levels.len()],
        common: Vec::new(),
    };
    for (i, n) in tree.nodes.iter().enumerate() {
        let Node::Keep { level, operand } = *n else {
            continue;
        };
        let tiles = tree.tiles(e, i);
        let mine = tile_shape(e, between, &tiles);
        let memory = h.levels[level].memory().unwrap();
        let words: u64 = tile_shape(e, operand, &tiles).iter().product();
        let bits = words * memory.bits[operand] as u64;
        view.used[level] += bits;
        if operand == between && view.home.is_none() {
            view.home = Some((level, mine));
        } else if view.home.is_none() {
            view.outside[level] += bits;
            if common == Some(operand) {
                let tile = tile_shape(e, operand, &tiles);
                view.common.push((level, tile, bits));
            }
            view.cuts.push(mine);
        }
    }
    if view.home.as_ref().is_some_and(|home| home.0 == 0) {
        view.home = None;
    }
    if view.home.is_none() {
        view.cuts.clear();
        view.used.fill(0);
        view.outside.fill(0);
        view.common.clear();
    }
    view.cuts.dedup();
    view
}

/// Whether two einsums can run in one nest of loops, and both fit.
fn agree(a: &View, b: &View, h: &Hierarchy, whole: &[u64]) -> bool {
    if a.home != b.home {
        return false;
    }
    let Some((_, tile)) = &a.home else {
        return true;
    };
    let mut cuts: Vec<&Vec<u64>> = a.cuts.iter().chain(&b.cuts).chain([tile]).collect();
    cuts.sort_by_key(|c| std::cmp::Reverse(c.iter().product::<u64>()));
    let nested = cuts
        .windows(2)
        .all(|w| (0..whole.len()).all(|r| w[0][r] % w[1][r] == 0 || w[0][r] == whole[r]));
    nested
        && h.levels.iter().enumerate().all(|(l, level)| {
            level.memory().is_none_or(|m| {
                let once = a.common.iter().filter(|c| c.0 == l && b.common.contains(c));
                let once: u64 = once.map(|c| c.2).sum();
                let most = (a.used[l] + b.outside[l]).max(b.used[l] + a.outside[l]);
                (most - once) as f64 <= m.capacity / m.buffering
            })
        })
}

pub(super) fn named(mut e: Einsum, names: &[&str]) -> Einsum {
    for (d, name) in e.dims.iter_mut().zip(names) {
        d.name = (*name).into();
    }
    e
}

type Ranks<'a> = &'a [&'a [(u32, i64)]];
const A: &[(u32, i64)] = &[(0, 1)];
const B: &[(u32, i64)] = &[(1, 1)];
const C: &[(u32, i64)] = &[(2, 1)];

/// Two einsums, the operand of the second that the first makes, and the operand of each that both read.
struct Pair {
    einsums: [Einsum; 2],
    read: usize,
    common: Option<[usize; 2]>,
}

fn pair(r: &mut Random) -> Pair {
    let (m, n) = (r.of(&[1, 2, 3, 4]), r.of(&[1, 2, 4]));
    let (k, p) = (r.of(&[1, 2]), r.of(&[1, 2, 3]));
    let gemm: [Ranks; 2] = [&[A, C], &[C, B]];
    let kind = r.next() % 4;
    let first = match kind {
        // t[m, n] = x[m, k] w[k, n].
        0 | 1 => named(einsum(&[m, n, k], &gemm, &[A, B]), &["m", "n", "k"]),
        // t[b, m, n] = x[b, m, n], a batch.
        3 => return batch(m, n, k),
        // t[m, n] = x[m, n].
        _ => named(einsum(&[m, n], &[&[A, B]], &[A, B]), &["m", "n"]),
    };
    let (next, read, common) = match r.next() % 5 {
        // o[m, n] = x[m, n] t[m, n], of the x above.
        4 if kind == 2 => {
            let next = einsum(&[m, n], &[&[A, B], &[A, B]], &[A, B]);
            (named(next, &["m", "n"]), 1, Some([0, 0]))
        }
        // o[m, p] = t[m, n] v[n, p].
        0 | 1 => {
            let next = einsum(&[m, p, n], &gemm, &[A, B]);
            (named(next, &["m", "p", "n"]), 0, None)
        }
        // o[m, n] = t[m, n].
        2 => {
            let next = einsum(&[m, n], &[&[A, B]], &[A, B]);
            (named(next, &["m", "n"]), 0, None)
        }
        // o[m] = y[m] t[m, n].
        _ => {
            let next = einsum(&[m, n], &[&[A], &[A, B]], &[A]);
            (named(next, &["m", "n"]), 1, None)
        }
    };
    Pair {
        einsums: [first, next],
        read,
        common,
    }
}

/// Two einsums of a batch: t[b, m, n] = x[b, m, n], and o[b, m] = y[b, n] t[b, m, n].
fn batch(b: u64, n: u64, m: u64) -> Pair {
    let rank: Ranks = &[A, B, C];
    let first = einsum(&[b, m, n], &[rank], rank);
    let next = einsum(&[b, m, n], &[&[A, C], rank], &[A, B]);
    let names = ["b", "m", "n"];
    Pair {
        einsums: [named(first, &names), named(next, &names)],
        read: 1,
        common: None,
    }
}

/// A hierarchy for einsums of up to three operands: memories that are no limit of what must be kept.
fn hierarchy(r: &mut Random) -> Hierarchy {
    let mut levels = vec![Level::Memory(random_memory(
        r,
        "dram",
        3,
        10.0,
        &[f64::INFINITY],
    ))];
    let third = r.chance(30);
    if third {
        let memory = random_memory(r, "l2", 3, 2.0, &[8.0, 16.0, 40.0]);
        levels.push(Level::Memory(memory));
    }
    levels.push(Level::Memory(random_memory(
        r,
        "glb",
        3,
        1.0,
        &[4.0, 6.0, 9.0, 14.0, 30.0],
    )));
    if r.chance(30) {
        levels.push(random_fanout(r));
        if !third && r.chance(40) {
            levels.push(Level::Memory(random_memory(r, "rf", 3, 0.1, &[3.0, 6.0])));
        }
    }
    for level in &mut levels {
        if let Level::Memory(m) = level {
            m.bits = vec![8.0; 3];
            m.update_energy = 7.0;
        }
    }
    levels.push(Level::Compute(ComputeLevel {
        name: "mac".into(),
        energy: 0.5,
        rate: 1.0,
        leakage: 0.0,
    }));
    Hierarchy {
        name: "random".into(),
        levels,
    }
}

/// A case of einsums with the tensors of their operands, all on one machine.
pub(super) fn case_of(
    einsums: &[(Einsum, Vec<usize>)],
    h: &Hierarchy,
    objective: Objective,
) -> Case {
    let one = |(e, operands): &(Einsum, Vec<usize>)| CaseEinsum {
        name: "e".into(),
        einsum: e.clone(),
        operands: operands.clone(),
        hierarchy: h.clone(),
        mapping: None,
        constraints: Constraints::default(),
    };
    Case {
        name: "chain".into(),
        tensors: Vec::new(),
        einsums: einsums.iter().map(one).collect(),
        convention: Convention::AccelForge,
        objective,
        clock_hz: None,
    }
}

/// Tensors of the operands of two einsums.
fn tensors(pair: &Pair) -> Vec<(Einsum, Vec<usize>)> {
    let [made, reads] = &pair.einsums;
    let first: Vec<usize> = (0..operand_count(made)).collect();
    let between = first.len() - 1;
    let tensor = |o: usize| match pair.common {
        _ if o == pair.read => between,
        Some([a, b]) if b == o => a,
        _ => 10 + o,
    };
    let next = (0..operand_count(reads)).map(tensor).collect();
    vec![(made.clone(), first), (reads.clone(), next)]
}

/// A random case of two einsums.
pub(super) fn random_pair(seed: u64) -> Case {
    random_problem(seed).case
}

/// A random case of two einsums, and the least figure of all their mappings; none if they are too many.
pub(super) fn enumerated(seed: u64, perfect: bool) -> Option<(Case, f64)> {
    let problem = random_problem(seed);
    let least = problem.least(perfect)?;
    Some((problem.case, least))
}

/// A pair, and its case.
struct Problem {
    pair: Pair,
    hierarchy: Hierarchy,
    case: Case,
}

fn random_problem(seed: u64) -> Problem {
    let mut r = Random(seed);
    let pair = pair(&mut r);
    let hierarchy = hierarchy(&mut r);
    let objective = r.of(&[Objective::Latency, Objective::Energy, Objective::Edp]);
    let case = case_of(&tensors(&pair), &hierarchy, objective);
    Problem {
        pair,
        hierarchy,
        case,
    }
}

impl Problem {
    /// The operands between both.
    fn between(&self) -> [usize; 2] {
        [operand_count(&self.pair.einsums[0]) - 1, self.pair.read]
    }

    fn view(&self, i: usize, tree: &LoopTree) -> View {
        let common = self.pair.common.map(|c| c[i]);
        let between = self.between()[i];
        view(
            &self.pair.einsums[i],
            &self.hierarchy,
            tree,
            between,
            common,
        )
    }

    /// Extents of the tensor between.
    fn whole(&self) -> Vec<u64> {
        let first = &self.pair.einsums[0];
        let extents: Vec<u64> = first.dims.iter().map(|d| d.size).collect();
        tile_shape(first, self.between()[0], &extents)
    }

    /// The least figure of all mappings.
    fn least(&self, perfect: bool) -> Option<f64> {
        let h = &self.hierarchy;
        let all = |i: usize| {
            let view = |t: &LoopTree| self.view(i, t);
            let between = [self.between()[i]];
            Trees::all(&self.pair.einsums[i], h, &between, perfect, MOST, &view)
        };
        let (first, next) = (all(0)?, all(1)?);
        let whole = self.whole();
        let mut best = f64::INFINITY;
        for a in &first {
            for b in next.iter().filter(|b| agree(&a.0, &b.0, h, &whole)) {
                best = best.min(value(self.case.objective, a.1 + b.1, a.2 + b.2));
            }
        }
        Some(best)
    }
}

/// Whether a pair was small enough to compare, and whether it was handed over tile by tile.
fn compare(seed: u64, perfect: bool) -> Result<(bool, bool), TestCaseError> {
    let problem = random_problem(seed);
    let (case, h, pair) = (&problem.case, &problem.hierarchy, &problem.pair.einsums);
    let (objective, whole) = (case.objective, problem.whole());
    let Some(best) = problem.least(perfect) else {
        return Ok((false, false));
    };
    let options = Options {
        perfect,
        work: u64::MAX,
        ..Options::new(objective)
    };
    let solution = match solve(case, &options) {
        Ok(solution) => solution,
        Err(error) => {
            prop_assert!(
                best.is_infinite(),
                "{error}, enumeration {best}, seed {seed}"
            );
            return Ok((true, false));
        }
    };
    let mut views = Vec::new();
    let mut text = String::new();
    let (mut energy, mut cycles) = (0.0, 0.0);
    for (i, mapped) in solution.einsums.iter().enumerate() {
        text += &mapped.tree.describe(&pair[i], h, &case_names(i, case));
        let told = evaluate(Convention::AccelForge, &pair[i], h, &mapped.tree);
        prop_assert!(told.is_ok(), "{told:?} seed {seed}\n{text}");
        let told = told.unwrap();
        prop_assert!(fits(&pair[i], h, &mapped.tree), "seed {seed}\n{text}");
        energy += told.energy_total();
        cycles += told.cycles;
        views.push(problem.view(i, &mapped.tree));
    }
    let found = value(objective, energy, cycles);
    let context =
        format!("{objective:?} found {found}, enumeration {best}, seed {seed}\n{text}\n{views:#?}");
    prop_assert!(agree(&views[0], &views[1], h, &whole), "{context}");
    prop_assert!((found - best).abs() <= 1e-9 * best, "{context}");
    let bound = solution.lower_bound;
    prop_assert!(
        (bound - best).abs() <= 1e-9 * best,
        "bound {bound} {context}"
    );
    prop_assert!(
        (energy - solution.energy).abs() <= 1e-9 * energy,
        "{context}"
    );
    Ok((true, solution.fused == [true]))
}

fn case_names(i: usize, case: &Case) -> Vec<String> {
    let operands = case.einsums[i].operands.iter();
    operands.map(|t| format!("tensor {t}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(70))]

    #[test]
    fn pairs_equal_full_enumeration(seed in any::<u64>()) {
        compare(seed, true)?;
        compare(seed, false)?;
    }
}

#[test]
fn many_random_pairs_are_enumerated_and_fused() {
    let seen: Vec<(bool, bool)> = (0..60)
        .filter_map(|s| compare(s, s % 2 == 0).ok())
        .collect();
    let compared = seen.iter().filter(|s| s.0).count();
    let fused = seen.iter().filter(|s| s.1).count();
    assert!(
        compared > 25 && fused > 6,
        "{compared} compared, {fused} fused"
    );
}
