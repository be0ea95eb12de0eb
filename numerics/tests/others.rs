//! Groups, block floating point, palettes, code books and sparsity: against what defines them, over random data.

use presil_numerics::block::floating::BlockFloat;
use presil_numerics::block::group::{GroupError, GroupInt};
use presil_numerics::block::mx::ScaleRule;
use presil_numerics::block::scheme::{Scheme, SchemeError};
use presil_numerics::codebook::{CodeBook, palette};
use presil_numerics::sparse::{self, CompressedRows, NOfM};
use presil_numerics::{Coding, Conversion, Format, Quantization, Rounding};
use proptest::prelude::*;

fn format(name: &str) -> Format {
    name.parse().unwrap()
}

fn numbers() -> impl Strategy<Value = Vec<f32>> {
    let number = prop_oneof![
        4 => -3.0f32..3.0,
        1 => Just(0.0f32),
        1 => (-1.0f32..1.0).prop_map(|x| x * 1e-4),
        1 => (-1.0f32..1.0).prop_map(|x| x * 500.0),
    ];
    proptest::collection::vec(number, 1..200)
}

proptest! {
    /// Every element is the nearest code of its group, by trying all codes.
    #[test]
    fn groups_hold_the_nearest_codes(values in numbers(), bits in 2u8..=6, group in 1usize..70, asymmetric: bool) {
        let element = Format::Int { bits, signed: !asymmetric };
        let g = GroupInt::new(element, group, Format::FP16, asymmetric, Conversion::default()).unwrap();
        let groups = g.quantize(&values);
        let back = g.dequantize(&groups);
        prop_assert_eq!(groups.scales.len(), values.len().div_ceil(group));
        for (i, (x, y)) in values.iter().zip(&back).enumerate() {
            let scale = groups.scales[i / group];
            let zero = groups.zero_points.get(i / group).copied().unwrap_or(0);
            let (least, largest) = if asymmetric { (0, (1i64 << bits) - 1) } else { (1 - (1 << (bits - 1)), (1 << (bits - 1)) - 1) };
            let best = (least..=largest).map(|q| ((q - zero) as f32 * scale - x).abs()).fold(f32::INFINITY, f32::min);
            prop_assert!((x - y).abs() <= best * 1.000_01 + 1e-7, "{} became {} with scale {}", x, y, scale);
            // Half a step, and what rounding the scale to fp16 takes from the ends of the range.
            prop_assert!((x - y).abs() <= scale * 0.51 + x.abs() * 1e-3 + 1e-7);
        }
    }

    #[test]
    fn block_floats_round_at_the_shared_unit(values in numbers(), mantissa in 1u8..=15, block in 1usize..40) {
        let bfp = BlockFloat::new(mantissa, block, Rounding::NearestEven).unwrap();
        let (exponents, codes) = bfp.quantize(&values);
        let back = bfp.dequantize(&exponents, &codes);
        for (g, (values, back)) in values.chunks(block).zip(back.chunks(block)).enumerate() {
            let amax = values.iter().fold(0f32, |a, x| a.max(x.abs()));
            if amax == 0.0 {
                prop_assert!(back.iter().all(|x| *x == 0.0));
                continue;
            }
            let unit = 2f64.powi(amax.log2().floor() as i32 + 1 - i32::from(mantissa));
            prop_assert_eq!(2f64.powi(i32::from(exponents[g]) - 126 - i32::from(mantissa)), unit);
            let top = (1i64 << mantissa) - 1;
            for (x, y) in values.iter().zip(back) {
                let expected = (f64::from(*x) / unit).round_ties_even().clamp(-top as f64, top as f64) * unit;
                prop_assert_eq!(f64::from(*y), expected);
            }
        }
    }

    /// The nearest entry, by trying all.
    #[test]
    fn code_books_give_the_nearest(entries in proptest::collection::vec(-4.0f32..4.0, 1..40), values in numbers()) {
        let book = CodeBook::new(&entries).unwrap();
        for x in values {
            let y = book.value(book.nearest(x));
            let best = entries.iter().map(|e| (f64::from(*e) - f64::from(x)).abs()).fold(f64::INFINITY, f64::min);
            prop_assert_eq!((f64::from(y) - f64::from(x)).abs(), best);
        }
    }

    /// Each entry is the mean of the numbers nearest to it, and no order of the numbers changes it.
    #[test]
    fn palettes_are_stationary(values in numbers(), bits in 1u8..=4) {
        let book = palette::fit(&values, bits).unwrap();
        let mut reversed = values.clone();
        reversed.reverse();
        prop_assert_eq!(&palette::fit(&reversed, bits).unwrap(), &book);
        let mut cells = vec![(0f64, 0u32); book.values().len()];
        for x in &values {
            let cell = &mut cells[usize::from(book.nearest(*x))];
            *cell = (cell.0 + f64::from(*x), cell.1 + 1);
        }
        for (entry, (sum, count)) in book.values().iter().zip(cells).filter(|(_, c)| c.1 > 0) {
            prop_assert!((f64::from(*entry) - sum / f64::from(count)).abs() < 1e-4 * f64::from(entry.abs()) + 1e-6);
        }
    }

    #[test]
    fn sparse_forms_survive(mut values in numbers(), kept in 1u8..=4, extra in 0u8..=12, run_bits in 0u32..6, columns in 1usize..30) {
        let (mask, nonzero) = sparse::bitmask(&values);
        prop_assert_eq!(&sparse::from_bitmask(&mask, &nonzero, values.len()), &values);
        let tokens = sparse::runs(&values, run_bits);
        prop_assert!(tokens.iter().all(|t| u32::from(t.0) < 1 << run_bits));
        prop_assert_eq!(&sparse::from_runs(&tokens, values.len()), &values);
        let rows = CompressedRows::new(&values, columns);
        prop_assert_eq!(&rows.dense(columns)[..values.len()], &values[..]);
        let n_of_m = NOfM::new(kept, kept + extra).unwrap();
        let before = values.clone();
        n_of_m.prune(&mut values);
        for (pruned, full) in values.chunks((kept + extra).into()).zip(before.chunks((kept + extra).into())) {
            prop_assert!(pruned.iter().filter(|x| **x != 0.0).count() <= kept.into());
            let least_kept = pruned.iter().filter(|x| **x != 0.0).fold(f32::INFINITY, |a, x| a.min(x.abs()));
            let lost = pruned.iter().zip(full).filter(|(p, f)| p != f);
            prop_assert!(lost.clone().all(|(_, f)| f.abs() <= least_kept));
        }
        let grouped = n_of_m.encode(&values).unwrap();
        prop_assert_eq!(&n_of_m.decode(&grouped, values.len()), &values);
        prop_assert_eq!(grouped.values.len(), values.len().div_ceil((kept + extra).into()) * usize::from(kept));
    }
}

#[test]
fn two_of_four_packs_two_bits_a_place() {
    let two_of_four = NOfM::new(2, 4).unwrap();
    let grouped = two_of_four
        .encode(&[0.0, 1.0, 0.0, 2.0, 3.0, 0.0, 0.0, 0.0])
        .unwrap();
    assert_eq!(grouped.values, [1.0, 2.0, 3.0, 0.0]);
    assert_eq!(grouped.places, [1, 3, 0, 1]);
    assert_eq!(two_of_four.pack_places(&grouped.places), [0b0100_1101]);
    assert!(two_of_four.encode(&[1.0, 2.0, 3.0, 0.0]).is_err());
    let seventeen = NOfM::new(2, 17).unwrap();
    assert_eq!(seventeen.place_bits(), 5);
    assert_eq!(seventeen.pack_places(&[31, 1]), [0b0011_1111, 0]);
}

/// Tokens of random data are as many as the expectation that costs them.
#[test]
fn run_lengths_are_as_counted() {
    let mut state = 1u64;
    let values: Vec<f32> = (0..200_000)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            f32::from(state >> 40 & 0xff < 77)
        })
        .collect();
    let coding = Coding::RunLength {
        run_bits: 3,
        value_bits: 16,
        tokens_per_word: 1,
        word_bits: 19,
    };
    let tokens = sparse::runs(&values, 3).len() as f64;
    let expected = coding.bits(16.0, 77.0 / 256.0) / 19.0 * values.len() as f64;
    assert!(
        (tokens / expected - 1.0).abs() < 0.01,
        "{tokens} for {expected}"
    );
}

#[test]
fn wrong_groups_are_refused() {
    let new = |element: &str, group, asymmetric| {
        GroupInt::new(
            format(element),
            group,
            Format::FP16,
            asymmetric,
            Conversion::default(),
        )
        .map(|_| ())
    };
    assert_eq!(
        new("bf16", 32, false),
        Err(GroupError::Element(format("bf16")))
    );
    assert_eq!(
        new("uint4", 32, false),
        Err(GroupError::Unsigned(format("uint4")))
    );
    assert_eq!(new("int4", 0, false), Err(GroupError::Empty));
    assert!(palette::fit(&[f32::NAN], 4).is_none());
    let kept = palette::fit(&[1.0, 2.0, 1.0], 2).unwrap();
    assert_eq!(kept.values(), [1.0, 2.0, 2.0, 2.0]);
}

/// Every scheme that has a quantizer stores as many bits of codes as its storage says, and loses no more than its steps.
#[test]
fn schemes_store_what_they_cost() {
    let values: Vec<f32> = (0..512).map(|i| (i as f32 * 0.37).sin() * 2.0).collect();
    let mut with = 0;
    let names =
        Quantization::NAMES
            .into_iter()
            .chain(["uint4_g64", "int8_g128", "palette3", "tq2_0"]);
    for name in names {
        let scheme = Scheme::named(name, &Conversion::default(), ScaleRule::Floor)
            .unwrap()
            .unwrap();
        let stored = match scheme.quantize(&values) {
            Ok(stored) => stored,
            Err(SchemeError::Gguf(_)) => continue,
            Err(other) => panic!("{name}: {other}"),
        };
        with += 1;
        assert_eq!(stored.values.len(), values.len());
        let noise: f32 = stored
            .values
            .iter()
            .zip(&values)
            .map(|(y, x)| (y - x).powi(2))
            .sum();
        assert!(noise / 512.0 < 0.4, "{name} {noise}");
        if let Ok(quantization) = name.parse::<Quantization>() {
            let storage = quantization.storage(&[512]).unwrap();
            let bits = stored.packed().len() as u64 * 8;
            if let Scheme::Gguf(_) = scheme {
                assert_eq!(bits, storage.total().0, "{name}");
            } else {
                assert_eq!(bits, storage.payload.0, "{name}");
            }
        }
    }
    assert_eq!(with, 20);
    let plain = Scheme::named("bf16", &Conversion::default(), ScaleRule::Floor).unwrap();
    assert!(plain.is_none());
}
