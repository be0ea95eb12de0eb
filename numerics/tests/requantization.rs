//! gemmlowp's double and single rounding, 2754 accumulators and multipliers.

use presil_numerics::integer::requantize::{FixedMultiplier, Requantization};

use crate::reference;

#[test]
fn both_roundings_are_equal() {
    let text = reference("mbqm.csv");
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let mut passed = 0;
    for row in rows.records() {
        let row = row.unwrap();
        let integer = |i: usize| row[i].parse::<i64>().unwrap();
        let m = FixedMultiplier {
            significand: integer(1) as i32,
            shift: integer(2) as i32,
        };
        // The file's own multiplier is the one that its real number gives.
        let real: f64 = row[3].parse().unwrap();
        assert_eq!(FixedMultiplier::new(real), m, "{real}");
        assert_eq!(
            Requantization::DoubleRounding(m).apply(integer(0), 0),
            integer(4),
            "{row:?}"
        );
        assert_eq!(
            Requantization::SingleRounding(m).apply(integer(0), 0),
            integer(5),
            "{row:?}"
        );
        passed += 1;
    }
    assert_eq!(passed, 2754);
}
