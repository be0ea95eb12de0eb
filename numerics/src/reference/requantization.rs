//! Requantization by gemmlowp's and TFLite's formulas (`mbqm.csv`): an accumulator times a multiplier, rounded twice and
//! once. Both results are equal, and the file's multiplier is the one that its real number gives.

use serde::Deserialize;

use super::{Groups, ReferenceError, Verdict};
use crate::integer::requantize::{FixedMultiplier, Requantization};

#[derive(Deserialize)]
struct Row {
    acc_i32: i32,
    multiplier_q31: i32,
    shift: i32,
    real_multiplier: f64,
    double_rounding: i64,
    single_rounding: i64,
}

/// All rows.
pub(super) fn groups(text: &str) -> Result<Groups, ReferenceError> {
    let mut groups = Groups::default();
    for row in csv::Reader::from_reader(text.as_bytes()).deserialize() {
        let row: Row = row?;
        let name = || format!("{} x {}", row.acc_i32, row.real_multiplier);
        if !(-31..=30).contains(&row.shift) {
            return Err(ReferenceError::Range {
                case: name(),
                what: "shift",
                value: row.shift.to_string(),
            });
        }
        let multiplier = FixedMultiplier {
            significand: row.multiplier_q31,
            shift: row.shift,
        };
        let apply = |form: Requantization| form.apply(row.acc_i32.into(), 0);
        let equal = FixedMultiplier::new(row.real_multiplier) == multiplier
            && apply(Requantization::DoubleRounding(multiplier)) == row.double_rounding
            && apply(Requantization::SingleRounding(multiplier)) == row.single_rounding;
        let group = groups.named("gemmlowp and TFLite requantization");
        group.count(Verdict::of(equal), name);
    }
    Ok(groups)
}
