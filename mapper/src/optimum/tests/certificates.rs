//! Certificates of small cases hold; changed ones are refused.

use proptest::prelude::*;

use super::super::certificate::{Certificate, CertifyError, End, Line, Partial, Tells, certify};
use super::super::check::{Refusal, Verdict, check};
use super::super::{Options, solve};
use super::chains::random_pair;
use super::constraints::constrained;
use super::single::random_case;
use super::trees::value;
use super::{Random, chains, triples};
use crate::case::{Case, LevelConstraint};
use crate::hierarchy::{Mask, operand_count};
use crate::search::Objective;

/// A case of one einsum with its certificate, or none if nothing fits.
fn certified(seed: u64, perfect: bool) -> Option<(Case, Certificate)> {
    certificate_of(random_case(seed), perfect)
}

fn certificate_of(case: Case, perfect: bool) -> Option<(Case, Certificate)> {
    let options = Options {
        perfect,
        work: u64::MAX,
        ..Options::new(case.objective)
    };
    let solution = solve(&case, &options).ok()?;
    let certificate = certify(&case, &options, &solution.einsums).unwrap();
    Some((case, certificate))
}

/// The same with something in one tree changed.
fn with(
    certificate: &Certificate,
    (einsum, tree): (usize, usize),
    partials: Vec<Partial>,
) -> Certificate {
    let mut changed = certificate.clone();
    changed.einsums[einsum].trees[tree].partials = partials;
    changed
}

/// Without a partial mapping and all that extends it.
fn without(partials: &[Partial], gone: usize) -> Vec<Partial> {
    let mut number = Vec::new();
    let mut kept = Vec::new();
    for (at, partial) in partials.iter().enumerate() {
        let goes = at == gone || partial.of.is_some_and(|of| number[of] == usize::MAX);
        number.push(if goes { usize::MAX } else { kept.len() });
        if !goes {
            kept.push(partial.clone());
        }
    }
    for partial in &mut kept {
        partial.of = partial.of.map(|of| number[of]);
        if let End::Dominated(by) = &mut partial.end {
            *by = number[*by];
        }
    }
    kept
}

fn holds(case: &Case, certificate: &Certificate) -> Result<Verdict, TestCaseError> {
    let verdict = check(case, certificate);
    prop_assert!(verdict.is_ok(), "{:?}\n{certificate:#?}", verdict);
    Ok(verdict.unwrap())
}

fn compare(
    certified: Option<(Case, Certificate)>,
    perfect: bool,
) -> Result<Option<Verdict>, TestCaseError> {
    let Some((case, certificate)) = certified else {
        return Ok(None);
    };
    let verdict = holds(&case, &certificate)?;
    prop_assert!(verdict.proven || !perfect, "{verdict:?}");
    // As text and back.
    let text = serde_json::to_string(&certificate).unwrap();
    let again: Certificate = serde_json::from_str(&text).unwrap();
    holds(&case, &again)?;
    Ok(Some(verdict))
}

/// Changes that make a certificate wrong.
fn changed(seed: u64, certified: Option<(Case, Certificate)>) -> Result<(), TestCaseError> {
    let Some((case, certificate)) = certified else {
        return Ok(());
    };
    let mut r = Random(seed);
    let refused = |what: &str, wrong: &Certificate| {
        prop_assert!(check(&case, wrong).is_err(), "{what}, seed {seed}");
        Ok(())
    };
    for change in [0.9, 1.1] {
        let mut wrong = certificate.clone();
        wrong.found.energy_pj *= change;
        refused("energy", &wrong)?;
        let mut wrong = certificate.clone();
        wrong.found.cycles *= change;
        refused("cycles", &wrong)?;
        let mut wrong = certificate.clone();
        wrong.found.figure *= change;
        refused("figure", &wrong)?;
        let mut wrong = certificate.clone();
        wrong.lower_bound *= change;
        refused("lower bound", &wrong)?;
    }
    for (einsum, looked) in certificate.einsums.iter().enumerate() {
        for tree in 0..looked.trees.len() {
            changed_tree(&mut r, &case, &certificate, (einsum, tree))?;
        }
    }
    Ok(())
}

/// Changes of one tree.
fn changed_tree(
    r: &mut Random,
    case: &Case,
    certificate: &Certificate,
    (einsum, tree): (usize, usize),
) -> Result<(), TestCaseError> {
    let looked = &certificate.einsums[einsum];
    let (tells, partials) = (looked.trees[tree].tells, &looked.trees[tree].partials);
    // No bound of the tree is below.
    let figure = match tells {
        Tells::Energy => looked.least_energy_pj,
        Tells::Cycles => looked.least_cycles,
        Tells::Parts => certificate.found.figure,
    };
    // Where memories have constraints, what is bounded or dominated may be infeasible as well.
    let free = case.einsums[einsum].constraints.levels.is_empty();
    let count = partials.len();
    let refused = |what: &str, partials: Vec<Partial>| {
        let wrong = with(certificate, (einsum, tree), partials);
        let verdict = check(case, &wrong);
        prop_assert!(verdict.is_err(), "{what}, {tells:?} of {einsum}\n{case:?}");
        Ok(())
    };
    let at = r.next() as usize % count;
    refused("one part removed", without(partials, at))?;
    let mut fewer = partials.clone();
    fewer.swap_remove(at);
    refused("one entry removed", fewer)?;
    let with = |at: usize, end: End| {
        let mut wrong = partials.clone();
        wrong[at].end = end;
        wrong
    };
    // A part of a large one.
    let step = count.div_ceil(60);
    let some = partials.iter().enumerate();
    for (at, partial) in some.skip(r.next() as usize % step).step_by(step) {
        match partial.end {
            End::Bound(bound) => {
                refused("bound raised", with(at, End::Bound(bound * 1e9)))?;
                refused("bound lowered", with(at, End::Bound(figure * 0.9)))?;
                if free {
                    refused("infeasible", with(at, End::Infeasible))?;
                }
            }
            End::Dominated(_) => {
                refused("by itself", with(at, End::Dominated(at)))?;
                refused("by none", with(at, End::Dominated(count)))?;
                refused("by the start", with(at, End::Dominated(0)))?;
                if free {
                    refused("infeasible", with(at, End::Infeasible))?;
                }
            }
            End::Open => refused("closed", with(at, End::Infeasible))?,
            End::Whole(told) => {
                refused("figure", with(at, End::Whole(told * 1.01)))?;
                refused("unhelpful", with(at, End::Unhelpful))?;
                if tells == Tells::Parts && told < figure * 0.999 {
                    refused("part left out", with(at, End::Bound(figure)))?;
                }
            }
            End::Infeasible => refused("opened", with(at, End::Open))?,
            End::Unhelpful => refused("whole", with(at, End::Whole(figure)))?,
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn certificates_hold(seed in any::<u64>()) {
        compare(certified(seed, true), true)?;
        compare(certified(seed, false), false)?;
    }

    #[test]
    fn certificates_of_constrained_cases_hold(seed in any::<u64>()) {
        for perfect in [true, false] {
            compare(certificate_of(constrained(seed, perfect), perfect), perfect)?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn changed_certificates_are_refused(seed in any::<u64>()) {
        changed(seed, certified(seed, true))?;
        changed(seed, certified(seed, false))?;
        for perfect in [true, false] {
            changed(seed, certificate_of(constrained(seed, perfect), perfect))?;
        }
    }
}

/// The certificate of a random chain holds, and the cost found is the least that enumeration finds.
fn compare_chain(
    enumerated: Option<(Case, f64)>,
    perfect: bool,
) -> Result<Option<Verdict>, TestCaseError> {
    let Some((case, least)) = enumerated else {
        return Ok(None);
    };
    let Some((case, certificate)) = certificate_of(case, perfect) else {
        return Ok(None);
    };
    let found = certificate.found.figure;
    prop_assert!(
        (found - least).abs() <= 1e-9 * least,
        "{found} is found, {least} enumerated"
    );
    let verdict = compare(Some((case, certificate)), perfect)?;
    if let Some(v) = verdict {
        prop_assert!(
            (v.lower_bound - least).abs() <= 1e-9 * least,
            "{v:?}, {least}"
        );
    }
    Ok(verdict)
}

/// Figures of a chain that make its certificate wrong.
fn changed_chain(
    seed: u64,
    (case, certificate): &(Case, Certificate),
) -> Result<(), TestCaseError> {
    let count = certificate.einsums.len();
    let refused = |what: &str, wrong: &Certificate| {
        prop_assert!(check(case, wrong).is_err(), "{what}, seed {seed}");
        Ok(())
    };
    for i in 0..count {
        let looked = &certificate.einsums[i];
        for least in [looked.least_energy_pj * 1.01, f64::NAN, f64::INFINITY] {
            let mut wrong = certificate.clone();
            wrong.einsums[i].least_energy_pj = least;
            if looked.least_energy_pj > 0.0 || least.is_nan() {
                refused("least energy", &wrong)?;
            }
        }
        if looked.least_cycles > 0.0 {
            let mut wrong = certificate.clone();
            wrong.einsums[i].least_cycles *= 1.01;
            refused("least cycles", &wrong)?;
        }
        for tree in 0..looked.trees.len() {
            let mut wrong = certificate.clone();
            wrong.einsums[i].trees.remove(tree);
            refused("a tree removed", &wrong)?;
            let mut wrong = certificate.clone();
            let again = looked.trees[tree].clone();
            if again.tells == Tells::Parts {
                wrong.einsums[i].trees.push(again);
                refused("two trees of parts", &wrong)?;
            }
        }
        let mut wrong = certificate.clone();
        wrong.found.mappings[i].remove(0);
        refused("a node of the mapping removed", &wrong)?;
    }
    let mut wrong = certificate.clone();
    wrong.einsums.pop();
    refused("an einsum removed", &wrong)?;
    let mut wrong = certificate.clone();
    wrong.found.mappings.pop();
    refused("a mapping removed", &wrong)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn certificates_of_pairs_hold(seed in any::<u64>()) {
        for perfect in [true, false] {
            compare_chain(chains::enumerated(seed, perfect), perfect)?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]

    #[test]
    fn certificates_of_triples_hold(seed in any::<u64>()) {
        for perfect in [true, false] {
            compare_chain(triples::enumerated(seed, perfect), perfect)?;
        }
    }
}

/// A constraint that costs something is no constraint of another case.
#[test]
fn constraints_belong_to_the_certificate() {
    let (mut costs, mut refused) = (0, 0);
    for seed in 0..150 {
        let perfect = seed % 2 == 0;
        let Some((case, certificate)) = certificate_of(constrained(seed, perfect), perfect) else {
            continue;
        };
        let mut free = case.clone();
        free.einsums[0].constraints.levels.clear();
        let Some((_, best)) = certificate_of(free.clone(), perfect) else {
            continue;
        };
        if best.found.figure < certificate.found.figure * (1.0 - 1e-9) {
            costs += 1;
            assert!(check(&free, &certificate).is_err(), "seed {seed}");
            refused += u64::from(check(&case, &best).is_err());
        }
    }
    assert!(costs > 10 && refused == costs, "{costs}, {refused}");
}

#[test]
fn changed_certificates_of_chains_are_refused() {
    let mut joined = 0;
    for seed in 0..40 {
        let perfect = seed % 2 == 0;
        let case = match seed % 4 {
            3 => triples::random_triple(seed),
            _ => random_pair(seed),
        };
        let Some(certified) = certificate_of(case, perfect) else {
            continue;
        };
        changed_chain(seed, &certified).unwrap();
        joined += check(&certified.0, &certified.1).unwrap().joins;
        if certified
            .1
            .einsums
            .iter()
            .flat_map(|e| &e.trees)
            .all(|t| t.partials.len() < 3000)
        {
            changed(seed, Some(certified)).unwrap();
        }
    }
    assert!(joined > 100, "{joined}");
}

/// The best mappings for another objective, with their true figures, are not the best for this one.
#[test]
fn worse_chains_are_refused() {
    let (mut worse, mut apart) = (0, 0);
    for seed in 0..80 {
        let case = random_pair(seed);
        let other = match case.objective {
            Objective::Energy => Objective::Latency,
            _ => Objective::Energy,
        };
        let other = Case {
            objective: other,
            ..case.clone()
        };
        let Some((case, certificate)) = certificate_of(case, true) else {
            continue;
        };
        let Some((_, its)) = certificate_of(other, true) else {
            continue;
        };
        // One einsum's mapping of either: tiles that are handed over differ, or figures do.
        let mut mixed = certificate.clone();
        mixed.found.mappings[1].clone_from(&its.found.mappings[1]);
        let refusal = check(&case, &mixed).err();
        let hands = Refusal::Found("hands over tiles that the next einsum does not take".into());
        apart += u64::from(refusal == Some(hands));
        let (energy, cycles) = (its.found.energy_pj, its.found.cycles);
        let figure = value(case.objective, energy, cycles);
        if figure > certificate.found.figure * (1.0 + 1e-6) {
            worse += 1;
            let mut wrong = certificate.clone();
            wrong.found = its.found.clone();
            wrong.found.figure = figure;
            wrong.lower_bound = figure;
            assert!(check(&case, &wrong).is_err(), "seed {seed}");
        }
    }
    assert!(worse > 10 && apart > 3, "{worse}, {apart}");
}

/// Without the ways to hand over tile by tile, a certificate is of another space.
#[test]
fn every_way_to_hand_over_is_looked_at() {
    let mut refused = 0;
    for seed in 0..20 {
        let Some((case, certificate)) = certificate_of(random_pair(seed), true) else {
            continue;
        };
        let last = operand_count(&case.einsums[0].einsum) - 1;
        let looked = &certificate.einsums[0];
        let whole = |p: &usize| looked.placements[*p][last][0] == 0;
        let kept: Vec<usize> = (0..looked.placements.len()).filter(whole).collect();
        let mut wrong = certificate.clone();
        let one = &mut wrong.einsums[0];
        one.placements = kept.iter().map(|p| looked.placements[*p].clone()).collect();
        for tree in &mut one.trees {
            let starts = |at: &Partial| at.placement.is_some_and(|p| !kept.contains(&p));
            while let Some(at) = tree.partials.iter().position(starts) {
                tree.partials = without(&tree.partials, at);
            }
            for partial in &mut tree.partials {
                let number = |p: usize| kept.iter().position(|k| *k == p).unwrap();
                partial.placement = partial.placement.map(number);
            }
        }
        let refusal = check(&case, &wrong).unwrap_err();
        assert!(matches!(refusal, Refusal::Cover(_)), "{refusal}");
        refused += 1;
    }
    assert!(refused > 10, "{refused}");
}

/// Constraints of memories hold in chains too.
#[test]
fn certificates_of_constrained_chains_hold() {
    let (mut held, mut costs) = (0, 0);
    for seed in 0..80 {
        let free = random_pair(seed);
        let mut r = Random(seed);
        let mut case = free.clone();
        for e in &mut case.einsums {
            let constraint = LevelConstraint {
                level: 1,
                forbidden: Mask::one(r.next() as usize % e.einsum.dims.len()),
                min_utilization: r.of(&[0.0, 0.3, 0.6]),
                ..LevelConstraint::default()
            };
            e.constraints.levels.push(constraint);
        }
        let perfect = seed % 2 == 0;
        let Some((case, certificate)) = certificate_of(case, perfect) else {
            continue;
        };
        let figure = certificate.found.figure;
        compare(Some((case, certificate.clone())), perfect).unwrap();
        held += 1;
        let Some((_, best)) = certificate_of(free.clone(), perfect) else {
            continue;
        };
        if best.found.figure < figure * (1.0 - 1e-9) {
            costs += 1;
            assert!(check(&free, &certificate).is_err(), "seed {seed}");
        }
    }
    assert!(held > 20 && costs > 5, "{held}, {costs}");
}

#[test]
fn certificates_hold_every_kind_of_end() {
    let mut all = Verdict::default();
    for seed in 0..60 {
        let perfect = seed % 2 == 0;
        if let Some(v) = compare(certified(seed, perfect), perfect).unwrap() {
            all.open += v.open;
            all.bounded += v.bounded;
            all.dominated += v.dominated;
            all.infeasible += v.infeasible;
            all.unhelpful += v.unhelpful;
            all.whole += v.whole;
        }
    }
    let ends = [
        all.open,
        all.bounded,
        all.dominated,
        all.infeasible,
        all.unhelpful,
        all.whole,
    ];
    assert!(ends.iter().all(|n| *n > 5), "{all:?}");
}

#[test]
fn certificates_of_other_cases_are_refused() {
    let (case, certificate) = certified(3, true).unwrap();
    let mut longer = case.clone();
    longer.einsums[0].einsum.dims[0].size *= 2;
    let refusal = check(&longer, &certificate).unwrap_err();
    assert_eq!(refusal, Refusal::Statement { what: "extents" });
    let mut other = certificate.clone();
    other.found.mappings[0].push(Line::For(0, 1));
    assert!(check(&case, &other).is_ok(), "a loop of one trip is none");
    other.found.mappings[0].push(Line::Keep(9, 0));
    assert!(matches!(check(&case, &other), Err(Refusal::Found(_))));
    let mut other = certificate;
    other.einsums[0].placements.pop();
    assert!(check(&case, &other).is_err());
}

#[test]
fn searches_cut_off_are_not_certified() {
    let large = |seed: &u64| {
        certified(*seed, true).is_some_and(|c| c.1.einsums[0].trees[0].partials.len() > 50)
    };
    let case = random_case((0..).find(large).unwrap());
    let options = Options {
        perfect: true,
        ..Options::new(case.objective)
    };
    let solution = solve(&case, &options).unwrap();
    let short = Options { work: 1, ..options };
    let error = certify(&case, &short, &solution.einsums).unwrap_err();
    assert_eq!(error, CertifyError::Unfinished);
    // What costs more than the best is not the best.
    let mut worse = solution.einsums.clone();
    (worse[0].energy, worse[0].cycles) = (worse[0].energy * 2.0, worse[0].cycles * 2.0);
    let error = certify(&case, &options, &worse).unwrap_err();
    assert_eq!(error, CertifyError::Better);
    let error = certify(&random_pair(1), &options, &worse).unwrap_err();
    let (einsums, mappings) = (2, 1);
    assert_eq!(error, CertifyError::Mappings { einsums, mappings });
}
