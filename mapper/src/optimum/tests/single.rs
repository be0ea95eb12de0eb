//! The search against full enumeration: every loop tree of small problems, canonical or not.

use presil_workloads::{DimId, Einsum};
use proptest::prelude::*;

use super::super::{Options, Solution, front, nearest, solve, solve_einsum};
use super::{Random, einsum, figure, fits, random_hierarchy};
use crate::case::{Case, CaseEinsum, Constraints};
use crate::conventions::{Convention, evaluate};
use crate::hierarchy::{Hierarchy, Level, Mask, MemoryLevel, operand_count};
use crate::looptree::{LoopTree, Node};
use crate::search::Objective;

pub(super) fn random_einsum(r: &mut Random, partial: bool) -> Einsum {
    let sizes: &[u64] = if partial {
        &[1, 2, 3, 5]
    } else {
        &[1, 2, 4, 6]
    };
    match r.next() % 4 {
        // GEMM m, n, k.
        0 => {
            let s = [r.of(sizes), r.of(sizes), r.of(sizes)];
            einsum(
                &s,
                &[&[&[(0, 1)], &[(2, 1)]], &[&[(2, 1)], &[(1, 1)]]],
                &[&[(0, 1)], &[(1, 1)]],
            )
        }
        // Batched matrix-vector product b, m, k.
        1 => {
            let s = [r.of(&[1, 2]), r.of(sizes), r.of(sizes)];
            einsum(
                &s,
                &[&[&[(0, 1)], &[(2, 1)]], &[&[(0, 1)], &[(1, 1)], &[(2, 1)]]],
                &[&[(0, 1)], &[(1, 1)]],
            )
        }
        // One-dimensional convolution p, r, m with stride and dilation.
        2 => {
            let s = [r.of(sizes), r.of(&[2, 3]), r.of(&[1, 2])];
            let (stride, dilation) = r.of(&[(1, 1), (2, 1), (1, 2)]);
            einsum(
                &s,
                &[&[&[(0, stride), (1, dilation)]], &[&[(2, 1)], &[(1, 1)]]],
                &[&[(2, 1)], &[(0, 1)]],
            )
        }
        // Elementwise with one input, reduced over k.
        _ => {
            let s = [r.of(sizes), r.of(sizes)];
            einsum(&s, &[&[&[(0, 1)], &[(1, 1)]]], &[&[(0, 1)]])
        }
    }
}

/// Loop trees that an enumeration may have; larger problems are left out.
pub(super) const MOST: u64 = 20_000;

/// Walks all loop trees, from the outside in.
pub(super) struct All<'a> {
    einsum: &'a Einsum,
    hierarchy: &'a Hierarchy,
    perfect: bool,
    objective: Objective,
    pub best: f64,
    least: LoopTree,
    tree: LoopTree,
    pub count: u64,
    /// Whether a tree is asked for.
    asked: &'a dyn Fn(&LoopTree) -> bool,
}

impl<'a> All<'a> {
    pub(super) fn new(
        einsum: &'a Einsum,
        hierarchy: &'a Hierarchy,
        perfect: bool,
        objective: Objective,
        asked: &'a dyn Fn(&LoopTree) -> bool,
    ) -> Self {
        Self {
            einsum,
            hierarchy,
            perfect,
            objective,
            best: f64::INFINITY,
            least: LoopTree::default(),
            tree: LoopTree::default(),
            count: 0,
            asked,
        }
    }

    pub(super) fn run(&mut self) {
        self.homes(0);
    }

    /// Homes of all operands come first, at a memory above the first fanout.
    fn homes(&mut self, operand: usize) {
        if operand == operand_count(self.einsum) {
            let tiles: Vec<u64> = self.einsum.dims.iter().map(|d| d.size).collect();
            self.go(&tiles, 0, None);
            return;
        }
        for level in 0..self.hierarchy.levels.len() {
            let Some(m) = self.hierarchy.levels[level].memory() else {
                break;
            };
            if m.keeps.has(operand) {
                self.tree.nodes.push(Node::Keep { level, operand });
                self.homes(operand + 1);
                self.tree.nodes.pop();
            }
            if m.must_keep.has(operand) {
                break;
            }
        }
    }

    /// `floor`: the innermost fanout passed (levels above it are closed).
    fn go(&mut self, tiles: &[u64], floor: usize, last: Option<usize>) {
        if self.count > MOST {
            return;
        }
        if tiles.iter().all(|t| *t == 1) {
            self.close();
        }
        for dim in 0..tiles.len() {
            let outer = tiles[dim];
            for tile in 1..outer {
                let first = outer == self.einsum.dims[dim].size;
                if !outer.is_multiple_of(tile) && (self.perfect || !first) {
                    continue;
                }
                let mut next = tiles.to_vec();
                next[dim] = tile;
                let id = DimId(dim as u32);
                // Two loops of one dimension directly after each other are one.
                if last != Some(dim) {
                    self.tree.nodes.push(Node::Temporal { dim: id, tile });
                    self.go(&next, floor, Some(dim));
                    self.tree.nodes.pop();
                }
                for (level, l) in self.hierarchy.levels.iter().enumerate() {
                    let Some(f) = l.fanout() else { continue };
                    if level < floor || self.inside(level) {
                        continue;
                    }
                    for axis in 0..f.axes.len() {
                        self.tree.nodes.push(Node::Spatial {
                            level,
                            axis,
                            dim: id,
                            tile,
                        });
                        if self.fits_axis(level, axis) {
                            self.go(&next, level, None);
                        }
                        self.tree.nodes.pop();
                    }
                }
            }
        }
        for (level, l) in self.hierarchy.levels.iter().enumerate() {
            let Some(m) = l.memory() else { continue };
            if level < floor {
                continue;
            }
            for operand in 0..operand_count(self.einsum) {
                let inner = self.tree.nodes.iter().any(
                    |n| matches!(n, Node::Keep { level: k, operand: o } if *o == operand && *k >= level),
                );
                if m.keeps.has(operand) && !inner {
                    self.tree.nodes.push(Node::Keep { level, operand });
                    let through = self.through(level).max(floor);
                    self.go(tiles, through, None);
                    self.tree.nodes.pop();
                }
            }
        }
    }

    /// Whether a memory inside a level is already in use.
    fn inside(&self, level: usize) -> bool {
        self.tree
            .nodes
            .iter()
            .any(|n| matches!(n, Node::Keep { level: k, .. } if *k > level))
    }

    /// The innermost fanout above a level: once passed, memories above it are closed.
    fn through(&self, level: usize) -> usize {
        let above = (0..level).rev();
        above
            .into_iter()
            .find(|l| self.hierarchy.levels[*l].fanout().is_some())
            .unwrap_or(0)
    }

    fn fits_axis(&self, level: usize, axis: usize) -> bool {
        // Leave every other check to the loop tree's own.
        let mut used = 1;
        let mut tiles: Vec<u64> = self.einsum.dims.iter().map(|d| d.size).collect();
        for n in &self.tree.nodes {
            if let Some((dim, tile)) = n.cut() {
                let outer = std::mem::replace(&mut tiles[dim.0 as usize], tile);
                if matches!(n, Node::Spatial { level: l, axis: a, .. } if (*l, *a) == (level, axis))
                {
                    used *= outer.div_ceil(tile);
                }
            }
        }
        self.hierarchy.levels[level]
            .fanout()
            .is_some_and(|f| used <= f.axes[axis].size)
    }

    fn close(&mut self) {
        self.count += 1;
        if !fits(self.einsum, self.hierarchy, &self.tree) || !(self.asked)(&self.tree) {
            return;
        }
        if let Ok(e) = evaluate(
            Convention::AccelForge,
            self.einsum,
            self.hierarchy,
            &self.tree,
        ) {
            let figure = figure(self.objective, &e);
            if figure < self.best {
                self.best = figure;
                self.least = self.tree.clone();
            }
        }
    }
}

/// Loop trees enumerated (0 if there are too many), and whether the search called its mapping proven.
fn compare(seed: u64, perfect: bool) -> Result<(u64, bool), TestCaseError> {
    let mut proven = true;
    let mut r = Random(seed);
    let e = random_einsum(&mut r, !perfect);
    let h = random_hierarchy(&mut r, operand_count(&e));
    let objective = r.of(&[Objective::Latency, Objective::Energy, Objective::Edp]);
    // Full enumeration of more than a few iterations takes too long.
    let loops: u64 = e.dims.iter().map(|d| u64::from(d.size.ilog2())).sum();
    if loops > 4 {
        return Ok((0, true));
    }
    let mut all = All::new(&e, &h, perfect, objective, &|_| true);
    all.run();
    if all.count > MOST {
        return Ok((0, true));
    }
    let options = Options {
        perfect,
        work: u64::MAX,
        ..Options::new(objective)
    };
    let names: Vec<String> = (0..4).map(|i| format!("x{i}")).collect();
    match solve_einsum(&e, &h, &options) {
        Ok(solution) => {
            let text = solution.einsums[0].tree.describe(&e, &h, &names);
            let least = all.least.describe(&e, &h, &names);
            let context =
                format!("seed {seed} {objective:?}\n{e:#?}\n{h:#?}\n{text}\nthe best is\n{least}");
            let told = evaluate(Convention::AccelForge, &e, &h, &solution.einsums[0].tree);
            prop_assert!(told.is_ok(), "{:?} {}", told, context);
            let told = told.unwrap();
            prop_assert!(
                fits(&e, &h, &solution.einsums[0].tree),
                "does not fit {context}"
            );
            let found = figure(objective, &told);
            let bound = solution.lower_bound;
            let context = format!(
                "found {found}, bound {bound}, enumeration {} of {} {context}",
                all.best, all.count
            );
            prop_assert!(bound <= all.best * (1.0 + 1e-9), "{context}");
            // What is called proven is the best there is.
            if bound >= found * (1.0 - 1e-9) {
                prop_assert!((found - all.best).abs() <= 1e-9 * all.best, "{context}");
            }
            proven = bound >= found * (1.0 - 1e-9);
            {
                // Uneven tiles of memories along axes are only bounded.
                prop_assert!(proven || !perfect, "{context}");
                let energy = told.energy_total();
                prop_assert!(
                    (energy - solution.energy).abs() <= 1e-9 * energy,
                    "energy {} {} {context}",
                    energy,
                    solution.energy
                );
                prop_assert!(
                    (told.cycles - solution.cycles).abs() <= 1e-9 * told.cycles,
                    "cycles {} {} {context}",
                    told.cycles,
                    solution.cycles
                );
            }
        }
        Err(error) => prop_assert!(all.best.is_infinite(), "{error} seed {seed} {e:#?}\n{h:#?}"),
    }
    Ok((all.count, proven))
}

/// A random einsum and hierarchy that a search takes.
pub(super) fn random_problem(seed: u64, partial: bool) -> (Einsum, Hierarchy, Objective) {
    let mut r = Random(seed);
    let e = random_einsum(&mut r, partial);
    let h = random_hierarchy(&mut r, operand_count(&e));
    let objective = r.of(&[Objective::Latency, Objective::Energy, Objective::Edp]);
    (e, h, objective)
}

/// The same as a case.
pub(super) fn random_case(seed: u64) -> Case {
    let (e, h, objective) = random_problem(seed, false);
    case_of(&e, &h, objective)
}

fn found(e: &Einsum, h: &Hierarchy, options: &Options) -> Option<f64> {
    let solution = solve_einsum(e, h, options).ok()?;
    let tree = &solution.einsums[0].tree;
    let told = evaluate(Convention::AccelForge, e, h, tree).ok()?;
    Some(figure(options.objective, &told))
}

/// What is allowed more makes the optimum no worse.
fn monotone(seed: u64) -> Result<(), TestCaseError> {
    let (e, h, objective) = random_problem(seed, false);
    let options = Options {
        perfect: true,
        ..Options::new(objective)
    };
    let Some(before) = found(&e, &h, &options) else {
        return Ok(());
    };
    let change = |f: &dyn Fn(&mut MemoryLevel)| {
        let mut wider = h.clone();
        for level in &mut wider.levels {
            if let Level::Memory(m) = level {
                f(m);
            }
        }
        found(&e, &wider, &options)
    };
    let wider = [
        ("larger memories", change(&|m| m.capacity *= 1.5)),
        (
            "more bandwidth",
            change(&|m| m.ports.iter_mut().for_each(|p| p.read_rate *= 2.0)),
        ),
        (
            "bypasses",
            change(&|m| {
                if m.name != "dram" {
                    m.must_keep = Mask::NONE;
                }
            }),
        ),
        ("everything kept anywhere", change(&|m| m.keeps = Mask::ALL)),
        (
            "partial tiles",
            found(
                &e,
                &h,
                &Options {
                    perfect: false,
                    ..options
                },
            ),
        ),
    ];
    for (what, after) in wider {
        let better = after.is_some_and(|a| a <= before * (1.0 + 1e-9));
        prop_assert!(better, "{what}: {before} -> {after:?}, seed {seed}");
    }
    Ok(())
}

pub(super) fn case_of(e: &Einsum, h: &Hierarchy, objective: Objective) -> Case {
    Case {
        name: "random".into(),
        tensors: Vec::new(),
        einsums: vec![CaseEinsum {
            name: "e".into(),
            einsum: e.clone(),
            operands: (0..operand_count(e)).collect(),
            hierarchy: h.clone(),
            mapping: None,
            constraints: Constraints::default(),
        }],
        convention: Convention::AccelForge,
        objective,
        clock_hz: None,
    }
}

/// Fronts and near sets agree with the optima of single objectives.
fn sets(seed: u64) -> Result<(), TestCaseError> {
    let (e, h, objective) = random_problem(seed, false);
    let options = Options {
        perfect: true,
        ..Options::new(objective)
    };
    let case = case_of(&e, &h, objective);
    let Ok(best) = solve(&case, &options) else {
        return Ok(());
    };
    let value = |s: &Solution| match objective {
        Objective::Latency => s.cycles,
        Objective::Energy => s.energy,
        Objective::Edp => s.energy * s.cycles,
    };
    let near = nearest(&case, 5, &options).unwrap();
    let figures: Vec<f64> = near.iter().map(value).collect();
    prop_assert!(figures.is_sorted(), "{figures:?} seed {seed}");
    prop_assert!(
        (figures[0] - value(&best)).abs() <= 1e-9 * figures[0],
        "seed {seed}"
    );
    let trees: Vec<_> = near.iter().map(|s| &s.einsums[0].tree).collect();
    for (i, tree) in trees.iter().enumerate() {
        prop_assert!(!trees[..i].contains(tree), "one mapping twice, seed {seed}");
    }
    let front = front(&case, &options).unwrap();
    prop_assert!(
        front.is_sorted_by(|a, b| a.energy < b.energy && a.cycles > b.cycles),
        "seed {seed}"
    );
    let least = front.iter().map(value).fold(f64::INFINITY, f64::min);
    prop_assert!(
        (least - value(&best)).abs() <= 1e-9 * least,
        "{least} seed {seed}"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn perfect_factors_equal_full_enumeration(seed in any::<u64>()) {
        compare(seed, true)?;
    }

    #[test]
    fn partial_tiles_equal_full_enumeration(seed in any::<u64>()) {
        compare(seed, false)?;
    }

    #[test]
    fn wider_spaces_are_never_worse(seed in any::<u64>()) {
        monotone(seed)?;
    }

    #[test]
    fn fronts_and_near_sets_agree_with_optima(seed in any::<u64>()) {
        sets(seed)?;
    }
}

#[test]
fn most_random_problems_are_enumerated_and_proven() {
    for perfect in [true, false] {
        let seen: Vec<(u64, bool)> = (0..60).filter_map(|s| compare(s, perfect).ok()).collect();
        let enumerated = seen.iter().filter(|c| c.0 > 10).count();
        let proven = seen.iter().filter(|c| c.0 > 10 && c.1).count();
        assert!(enumerated > 30, "{seen:?}");
        assert!(
            10 * proven >= 9 * enumerated,
            "{proven} of {enumerated} are proven"
        );
    }
}
#[test]
fn a_loop_above_or_below_an_unused_fan_is_one_mapping() {
    sets(16_801_014_729_309_894_402).unwrap();
}

#[test]
fn fronts_tell_what_differs_by_rounding_once() {
    sets(8_594_230_713_589_682_359).unwrap();
}

#[test]
fn the_last_partial_mapping_is_worked_off_too() {
    compare(12_390_761_346_353_509_166, false).unwrap();
}

#[test]
fn ports_that_serve_whole_tiles_are_not_paced_by_partial_ones() {
    compare(526_119_578_441_252_089, false).unwrap();
}
