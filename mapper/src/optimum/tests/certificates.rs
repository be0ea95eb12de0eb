//! Certificates of small cases hold; changed ones are refused.

use proptest::prelude::*;

use super::super::certificate::{Certificate, CertifyError, End, Line, certify};
use super::super::check::{Refusal, Verdict, check};
use super::super::{Options, solve};
use super::Random;
use super::chains::random_pair;
use super::single::random_case;
use crate::case::Case;

/// A case with its certificate, or none if nothing fits.
fn certified(seed: u64, perfect: bool) -> Option<(Case, Certificate)> {
    let case = random_case(seed);
    let options = Options {
        perfect,
        work: u64::MAX,
        ..Options::new(case.objective)
    };
    let solution = solve(&case, &options).ok()?;
    let certificate = certify(&case, &options, &solution.einsums[0]).unwrap();
    Some((case, certificate))
}

/// Without a partial mapping and all that extends it.
fn without(certificate: &Certificate, gone: usize) -> Certificate {
    let mut number = Vec::new();
    let mut kept = Vec::new();
    for (at, partial) in certificate.partials.iter().enumerate() {
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
    Certificate {
        partials: kept,
        ..certificate.clone()
    }
}

fn holds(case: &Case, certificate: &Certificate) -> Result<Verdict, TestCaseError> {
    let verdict = check(case, certificate);
    prop_assert!(verdict.is_ok(), "{:?}\n{certificate:#?}", verdict);
    Ok(verdict.unwrap())
}

fn compare(seed: u64, perfect: bool) -> Result<Option<Verdict>, TestCaseError> {
    let Some((case, certificate)) = certified(seed, perfect) else {
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
fn changed(seed: u64, perfect: bool) -> Result<(), TestCaseError> {
    let Some((case, certificate)) = certified(seed, perfect) else {
        return Ok(());
    };
    let mut r = Random(seed);
    let count = certificate.partials.len();
    let refused = |what: &str, wrong: &Certificate| {
        prop_assert!(check(&case, wrong).is_err(), "{what}, seed {seed}");
        Ok(())
    };
    let at = r.next() as usize % count;
    refused("one part removed", &without(&certificate, at))?;
    let mut wrong = certificate.clone();
    wrong.partials.swap_remove(at);
    refused("one entry removed", &wrong)?;
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
    let with = |at: usize, end: End| {
        let mut wrong = certificate.clone();
        wrong.partials[at].end = end;
        wrong
    };
    // A part of a large one.
    let step = count.div_ceil(60);
    let some = certificate.partials.iter().enumerate();
    for (at, partial) in some.skip(r.next() as usize % step).step_by(step) {
        match partial.end {
            End::Bound(bound) => {
                refused("bound raised", &with(at, End::Bound(bound * 1e9)))?;
                let low = certificate.found.figure * 0.9;
                refused("bound lowered", &with(at, End::Bound(low)))?;
                refused("infeasible", &with(at, End::Infeasible))?;
            }
            End::Dominated(_) => {
                refused("by itself", &with(at, End::Dominated(at)))?;
                refused("by none", &with(at, End::Dominated(count)))?;
                refused("by the start", &with(at, End::Dominated(0)))?;
                refused("infeasible", &with(at, End::Infeasible))?;
            }
            End::Open => refused("closed", &with(at, End::Infeasible))?,
            End::Whole(figure) => {
                refused("figure", &with(at, End::Whole(figure * 1.01)))?;
                refused("unhelpful", &with(at, End::Unhelpful))?;
            }
            End::Infeasible => refused("opened", &with(at, End::Open))?,
            End::Unhelpful => {
                refused("whole", &with(at, End::Whole(certificate.lower_bound)))?;
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn certificates_hold(seed in any::<u64>()) {
        compare(seed, true)?;
        compare(seed, false)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn changed_certificates_are_refused(seed in any::<u64>()) {
        changed(seed, true)?;
        changed(seed, false)?;
    }
}

#[test]
fn certificates_hold_every_kind_of_end() {
    let mut all = Verdict::default();
    for seed in 0..60 {
        let perfect = seed % 2 == 0;
        if let Some(v) = compare(seed, perfect).unwrap() {
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
    other.found.mapping.push(Line::For(0, 1));
    assert!(check(&case, &other).is_ok(), "a loop of one trip is none");
    other.found.mapping.push(Line::Keep(9, 0));
    assert!(matches!(check(&case, &other), Err(Refusal::Found(_))));
    let mut other = certificate;
    other.space.placements.pop();
    assert!(check(&case, &other).is_err());
}

#[test]
fn chains_and_searches_cut_off_are_not_certified() {
    let pair = random_pair(1);
    let options = Options::new(pair.objective);
    let solution = solve(&pair, &options).unwrap();
    let error = certify(&pair, &options, &solution.einsums[0]).unwrap_err();
    assert_eq!(error, CertifyError::Chain(2));
    let large = |seed: &u64| certified(*seed, true).is_some_and(|c| c.1.partials.len() > 50);
    let case = random_case((0..).find(large).unwrap());
    let options = Options {
        perfect: true,
        ..Options::new(case.objective)
    };
    let solution = solve(&case, &options).unwrap();
    let short = Options { work: 1, ..options };
    let error = certify(&case, &short, &solution.einsums[0]).unwrap_err();
    assert_eq!(error, CertifyError::Unfinished);
    // What costs more than the best is not the best.
    let mut worse = solution.einsums[0].clone();
    (worse.energy, worse.cycles) = (worse.energy * 2.0, worse.cycles * 2.0);
    let error = certify(&case, &options, &worse).unwrap_err();
    assert_eq!(error, CertifyError::Better);
}
