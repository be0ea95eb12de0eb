//! What holds for every mapping, by the definitions.

use proptest::prelude::*;

use super::cases::{self, Kind, Random};
use super::chips;
use super::tests::{Case, case};
use crate::conventions::{Convention, Evaluation, evaluate};
use crate::hierarchy::{Level, Mask, access_of, operand_count};
use crate::looptree::Node;
use crate::{Mapping, Problem};
use presil_hwmodels::{NodeKind, Operand, Overlap};
use presil_workloads::Domain;

fn told(case: &Case) -> Option<Evaluation> {
    evaluate(
        Convention::Physical,
        &case.einsum,
        &case.hierarchy,
        &case.tree,
    )
    .ok()
}

/// The case with its memories and fanouts changed.
fn with(case: &Case, change: impl Fn(&mut Level)) -> Option<Evaluation> {
    let mut hierarchy = case.hierarchy.clone();
    hierarchy.levels.iter_mut().for_each(change);
    evaluate(Convention::Physical, &case.einsum, &hierarchy, &case.tree).ok()
}

fn overlap(overlap: Overlap) -> impl Fn(&mut Level) {
    move |l| {
        if let Level::Memory(m) = l {
            m.overlap = overlap;
        }
    }
}

/// Sharing of all axes: of what is the same, and of what overlaps.
fn sharing(same: Mask, overlapping: Mask) -> impl Fn(&mut Level) {
    move |l| {
        if let Level::Fanout(f) = l {
            for a in &mut f.axes {
                (a.shares, a.shares_overlap) = (same, overlapping);
            }
        }
    }
}

/// Whether all instances have work at the same times: every tile is whole, every point is executed.
fn is_regular(case: &Case) -> bool {
    let cuts = case.tree.nodes.iter().enumerate();
    let mut cuts = cuts.filter_map(|(i, n)| Some((i, n.cut()?)));
    case.einsum.domain == Domain::Dense
        && cuts.all(|(i, (dim, tile))| {
            let outer = case.tree.tiles(&case.einsum, i)[dim.0 as usize];
            outer.is_multiple_of(tile)
        })
}

fn has_spatial(case: &Case) -> bool {
    let mut nodes = case.tree.nodes.iter();
    nodes.any(|n| matches!(n, Node::Spatial { .. }))
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 500,
        failure_persistence: None,
        max_shrink_iters: 0,
        max_global_rejects: 100_000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// A faster port makes no mapping slower.
    #[test]
    fn more_bandwidth_is_never_slower(seed: u64) {
        let mut r = Random(seed);
        let kind = Kind::CONTRACTIONS[r.int(0, Kind::CONTRACTIONS.len() as u64 - 1) as usize];
        let einsum = cases::einsum(&mut r, kind);
        let mut chip = chips::random_chip(&mut r);
        // Rates at which any port may be the slowest, some tiles that wait for others, a memory set up for each.
        for node in chip.nodes.iter_mut() {
            if let NodeKind::Memory(m) = &mut node.kind {
                m.read_rate.0 = r.int(1, 40) as f64 * 1e8;
                m.write_rate.0 = r.int(1, 40) as f64 * 1e8;
                m.buffering = r.int(1, 2) as u32;
                m.setup.0 = r.int(0, 2) as f64 * 1e-8;
            }
        }
        let problem = chips::problem(&einsum, &chip);
        let Ok(mapping) = Mapping::new(&problem, chips::mapping(&mut r, &problem)) else {
            return Ok(());
        };
        let before = crate::evaluate(&problem, &mapping).unwrap().time.0;
        let memories: Vec<_> = problem
            .path
            .iter()
            .filter(|n| chip.nodes[**n].memory().is_some())
            .collect();
        let node = *memories[r.int(0, memories.len() as u64 - 1) as usize];
        let mut faster = chip.clone();
        if let NodeKind::Memory(m) = &mut faster.nodes[node].kind {
            let rate = if r.chance(50) {
                &mut m.read_rate
            } else {
                &mut m.write_rate
            };
            rate.0 *= 1.0 + r.int(1, 30) as f64 / 10.0;
        }
        let problem = Problem {
            chip: &faster,
            ..problem.clone()
        };
        let after = crate::evaluate(&problem, &mapping).unwrap().time.0;
        prop_assert!(after <= before * (1.0 + 1e-12), "{after} after {before}");
    }

    /// A step that keeps fetches what is new; one that refetches fetches the same or the whole tile.
    #[test]
    fn keeping_never_fetches_more_than_refetching(seed: u64) {
        let case = case(seed);
        let kept = with(&case, overlap(Overlap::Keep));
        let refetched = with(&case, overlap(Overlap::Refetch));
        prop_assume!(kept.is_some() && refetched.is_some());
        let pairs = kept.unwrap().accesses.into_iter().zip(refetched.unwrap().accesses);
        for (k, r) in pairs {
            prop_assert!(k.reads <= r.reads && k.fills <= r.fills, "seed {seed} {k:?} {r:?}");
        }
    }

    /// An element that enters the union of some buffers enters one of them, if they step together. What enters
    /// each buffer does not depend on what is shared above it.
    #[test]
    fn sharing_never_adds_to_what_the_parent_moves(seed: u64, mask: u32) {
        let case = case(seed);
        prop_assume!(has_spatial(&case) && is_regular(&case));
        let some = Mask(mask);
        let keep = |share: &dyn Fn(&mut Level)| with(&case, |l| {
            overlap(Overlap::Keep)(l);
            share(l);
        });
        let none = keep(&sharing(Mask::NONE, Mask::NONE));
        let same = keep(&sharing(some, Mask::NONE));
        let overlapping = keep(&sharing(some, some));
        let all = keep(&sharing(Mask::ALL, Mask::ALL));
        prop_assume!(none.is_some());
        let told = [none, same, overlapping, all].map(|e| e.unwrap().accesses);
        let output = case.einsum.inputs.len();
        for pair in told.windows(2) {
            for (less, more) in pair[0].iter().zip(&pair[1]) {
                prop_assert!(more.updates <= less.updates, "seed {seed} {less:?} {more:?}");
                prop_assert_eq!(more.drains, less.drains);
                if less.operand != output {
                    prop_assert!(more.reads <= less.reads, "seed {seed} {less:?} {more:?}");
                    prop_assert_eq!(more.fills, less.fills);
                }
            }
        }
    }

    /// Whatever is touched moves at least once across every edge.
    #[test]
    fn no_mapping_moves_less_than_what_is_touched(seed: u64) {
        let case = case(seed);
        let e = told(&case);
        prop_assume!(e.is_some());
        for a in e.unwrap().accesses {
            let access = access_of(&case.einsum, a.operand);
            let touched = crate::analysis::touched_of(&case.einsum, access) as f64;
            let moved = if a.operand == case.einsum.inputs.len() { a.updates } else { a.reads };
            prop_assert!(moved >= touched, "seed {seed} {a:?} {touched}");
        }
    }
}

#[test]
fn operands_are_numbered_alike_by_problems_and_einsums() {
    let case = super::cases::matmul(2, 3, 4);
    assert_eq!(operand_count(&case), Operand::ALL.len());
    assert_eq!(access_of(&case, Operand::Output.index()), &case.output);
}
