//! Searches that are cut off keep what they found, and their bounds hold.

use proptest::prelude::*;

use super::super::{Options, Solution, SpaceError, solve};
use super::chains::{case_of, random_pair};
use super::single::random_case;
use crate::case::Case;
use crate::search::Objective;

fn value(objective: Objective, s: &Solution) -> f64 {
    match objective {
        Objective::Latency => s.cycles,
        Objective::Energy => s.energy,
        Objective::Edp => s.energy * s.cycles,
    }
}

/// Whether a search that was cut off was told so.
fn cut_off(case: &Case, work: u64, seconds: Option<f64>) -> Result<bool, TestCaseError> {
    let mut some = false;
    for perfect in [true, false] {
        let full = Options {
            perfect,
            work: u64::MAX,
            ..Options::new(case.objective)
        };
        let Ok(whole) = solve(case, &full) else {
            continue;
        };
        let short = Options {
            work,
            seconds,
            ..full
        };
        let part = match solve(case, &short) {
            Ok(part) => part,
            Err(error) => {
                // Only where narrow searches find nothing.
                prop_assert_eq!(error, SpaceError::Unfinished);
                continue;
            }
        };
        let (found, best) = (value(case.objective, &part), value(case.objective, &whole));
        let bound = part.lower_bound;
        prop_assert!(found >= best * (1.0 - 1e-9), "{found} is below {best}");
        prop_assert!(bound <= best * (1.0 + 1e-9), "bound {bound} of {best}");
        prop_assert!(part.complete || part.expanded > work || seconds.is_some());
        some |= !part.complete;
    }
    Ok(some)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_found_is_kept(seed in any::<u64>(), work in 1..400u64) {
        cut_off(&random_case(seed), work, None)?;
    }

    #[test]
    fn chains_keep_what_is_found(seed in any::<u64>(), work in 1..400u64) {
        cut_off(&random_pair(seed), work, None)?;
    }
}

#[test]
fn searches_without_time_or_work_say_so() {
    let cases = (0..40).map(random_case).chain((0..20).map(random_pair));
    let cases: Vec<Case> = cases.collect();
    for (work, seconds) in [(1, None), (u64::MAX, Some(1e-9))] {
        let cut = cases.iter().filter_map(|c| cut_off(c, work, seconds).ok());
        assert!(cut.filter(|c| *c).count() > 20);
    }
    let empty = case_of(&[], &cases[0].einsums[0].hierarchy, Objective::Edp);
    assert!(!cut_off(&empty, 1, Some(1e-9)).unwrap());
}
