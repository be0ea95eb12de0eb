//! Properties of units, formats and storage, over random inputs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use crate::quantization::{Granularity, Scaling, Sparsity};
use crate::{Bits, Bytes, BytesPerSecond, Format, Hertz, Precision, Quantization, Seconds};

fn formats() -> impl Strategy<Value = Format> {
    let ints = (1u8..=64, any::<bool>()).prop_map(|(bits, signed)| Format::Int { bits, signed });
    let palettes = (1u8..=8).prop_map(|bits| Format::Palette { bits });
    let names = proptest::sample::select(Format::names()).prop_map(|n| n.parse().unwrap());
    let floats = (1u8..=15, 0u8..=112, -100i16..100, 0usize..4).prop_map(|(e, m, bias, kind)| {
        let kind = ["", "fn", "fnuz", "finite"][kind];
        format!("fp_e{e}m{m}{kind}_b{bias}").parse().unwrap()
    });
    prop_oneof![ints, palettes, names, floats]
}

/// Storage counted element by element: a scale where a block starts.
fn walked(q: &Quantization, rows: u64, columns: u64) -> (u64, u64) {
    let (mut payload, mut scales) = (0, 0);
    for row in 0..rows {
        for column in 0..columns {
            payload += q.format.bits();
            let starts = match q.scaling.unwrap().granularity {
                Granularity::Tensor => row == 0 && column == 0,
                Granularity::Channel { axis } => {
                    if axis == 0 {
                        column == 0
                    } else {
                        row == 0
                    }
                }
                Granularity::Block { axis, size } => {
                    if axis == 0 {
                        row % u64::from(size) == 0
                    } else {
                        column % u64::from(size) == 0
                    }
                }
            };
            scales += u64::from(starts) * q.scaling.unwrap().scale.bits();
        }
    }
    (payload, scales)
}

proptest! {
    #[test]
    fn formats_survive_their_names(format in formats()) {
        prop_assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
    }

    #[test]
    fn storage_equals_a_walk(
        format in formats(), rows in 1u64..12, columns in 1u64..40, kind in 0usize..3, axis in 0i8..2, size in 1u32..20,
    ) {
        let granularity = [Granularity::Tensor, Granularity::Channel { axis }, Granularity::Block { axis, size }][kind];
        let scaling = Scaling { granularity, scale: Format::FP16, zero_point: None, outer: None };
        let q = Quantization { format, scaling: Some(scaling), sparsity: Sparsity::Dense };
        let storage = q.storage(&[rows, columns]).unwrap();
        prop_assert_eq!((storage.payload.0, storage.scales.0), walked(&q, rows, columns));
    }

    #[test]
    fn storage_never_wraps(dims in proptest::collection::vec(any::<u64>(), 0..5), name in proptest::sample::select(&Quantization::NAMES[..])) {
        let q: Quantization = name.parse().unwrap();
        let elements = dims.iter().try_fold(1u128, |n, &d| n.checked_mul(u128::from(d)));
        if let Some(s) = q.storage(&dims) {
            prop_assert!(u128::from(s.total().0) >= elements.unwrap() * u128::from(q.format.bits()));
        }
    }

    #[test]
    fn any_text_is_a_quantity_or_an_error(text in ".{0,40}") {
        let _ = text.parse::<Bytes>();
        let _ = text.parse::<Bits>();
        let _ = text.parse::<Hertz>();
        let _ = text.parse::<BytesPerSecond>();
        let _ = text.parse::<Format>();
        let _ = text.parse::<Quantization>();
        let _ = text.parse::<Precision>();
    }

    #[test]
    fn long_names_are_errors(part in proptest::sample::select(vec!["_2:4", "_g8", "_pc"]), times in 2usize..20_000) {
        let text = format!("int8{}", part.repeat(times));
        prop_assert!(text.parse::<Quantization>().is_err());
    }

    #[test]
    fn quantities_print_near_what_they_are(value in 1e-14f64..1e6) {
        let back: Seconds = Seconds(value).to_string().parse().unwrap();
        prop_assert!((back.0 - value).abs() <= 1e-3 * value, "{} {}", back, value);
    }
}
