//! NF4 and FP4 of bitsandbytes, and its double quantization of the scales (`nf4.json`).
//!
//! Tensors: code book, scales, packed codes and numbers are equal. Scales quantized twice: each code is equal, and of
//! each tensor the dynamic map, the offset, the outer scales, the first packed codes and the first 128 numbers.
//!
//! Listed: a scale whose stored code is the farther of two, by more than 9e-7 of the largest: rounding in f32 moves the
//! quotient, whose magnitude is at most 1, by 6e-8 and cannot explain it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::text::{Bytes, Number, Numbers, all_same, same};
use super::{Group, Groups, ReferenceError, Verdict, check_length};
use crate::codebook::{CodeBook, nf4};

const FARTHER: &str = "the code that bitsandbytes stored is the farther of two by 1e-6 of the largest scale, more than rounding in f32 explains";
/// How much farther a code must be to be wrong by its own rule.
const BEYOND_ROUNDING: f32 = 9e-7;
/// Elements of a tensor that the file holds beside its scales.
const SHOWN: usize = 128;

#[derive(Deserialize)]
struct File {
    codebook: BTreeMap<Book, Vec<f64>>,
    cases: Vec<Case>,
    #[serde(default)]
    double_quant: Vec<Double>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Book {
    Nf4,
    Fp4,
}

#[derive(Deserialize)]
struct Case {
    #[serde(rename = "type")]
    book: Book,
    blocksize: usize,
    input: Numbers,
    packed_hex: Bytes,
    absmax: Numbers,
    output: Numbers,
}

#[derive(Deserialize)]
struct Double {
    absmax_f32: Numbers,
    offset: Number,
    absmax_codes_hex: Bytes,
    state2_absmax: Numbers,
    state2_code: Numbers,
    packed_first64_hex: Bytes,
    input_first128: Numbers,
    output_first128: Numbers,
}

/// Tensors by code book, scales quantized twice, and the tensors of these.
pub(super) fn groups(text: &str) -> Result<Groups, ReferenceError> {
    let file: File = serde_json::from_str(text)?;
    let mut groups = Groups::default();
    for (index, case) in file.cases.iter().enumerate() {
        let (name, book) = match case.book {
            Book::Nf4 => ("NF4", CodeBook::nf4()),
            Book::Fp4 => ("FP4", CodeBook::fp4()),
        };
        let theirs = file.codebook.get(&case.book);
        let books_equal = theirs.is_some_and(|theirs| {
            let theirs: Vec<f32> = theirs.iter().map(|x| *x as f32).collect();
            theirs == book.values()
        });
        let verdict = Verdict::of(books_equal && blocks_equal(&book, case));
        let group = groups.named(&format!("bitsandbytes: {name}"));
        group.count(verdict, || format!("case {index}"));
    }
    for (index, case) in file.double_quant.iter().enumerate() {
        let double = nf4::DoubleQuantized::new(&case.absmax_f32.0);
        let group = groups.named("bitsandbytes: scales quantized twice");
        count_scales(group, index, &double, case)?;
        let verdict = Verdict::of(tensors_equal(&double, case));
        let group = groups.named("bitsandbytes: tensors of these scales");
        group.count(verdict, || format!("tensor {index}"));
    }
    Ok(groups)
}

fn blocks_equal(book: &CodeBook, case: &Case) -> bool {
    let (codes, scales) = nf4::quantize(book, &case.input.0, case.blocksize);
    let values = nf4::dequantize(book, &codes, &scales, case.blocksize);
    all_same(&scales, &case.absmax.0)
        && nf4::pack(&codes) == case.packed_hex.0
        && all_same(&values, &case.output.0)
}

/// Counts the codes of a tensor's scales.
fn count_scales(
    group: &mut Group,
    tensor: usize,
    double: &nf4::DoubleQuantized,
    case: &Double,
) -> Result<(), ReferenceError> {
    let (scales, theirs) = (&case.absmax_f32.0, &case.absmax_codes_hex.0);
    check_length(
        &format!("tensor {tensor}"),
        "codes of scales",
        scales.len(),
        theirs.len(),
    )?;
    let map = nf4::dynamic_map();
    let outer = |i: usize| double.outer.get(i / nf4::OUTER_BLOCK).copied();
    let codes = double.codes.iter().zip(theirs);
    for (i, ((ours, theirs), scale)) in codes.zip(scales).enumerate() {
        let x = (scale - double.offset) / outer(i).unwrap_or(f32::NAN);
        let distance = |code: u8| (x - map.value(code)).abs();
        let verdict = if ours == theirs {
            Verdict::Passed
        } else if distance(*theirs) - distance(*ours) > BEYOND_ROUNDING {
            Verdict::Listed(FARTHER)
        } else {
            Verdict::Failed
        };
        group.count(verdict, || format!("tensor {tensor} scale {i}"));
    }
    Ok(())
}

fn tensors_equal(double: &nf4::DoubleQuantized, case: &Double) -> bool {
    let book = CodeBook::nf4();
    let (codes, _) = nf4::quantize(&book, &case.input_first128.0, nf4::BLOCK);
    let output = nf4::dequantize(&book, &codes, &double.scales(), nf4::BLOCK);
    let shown = |numbers: &[f32]| numbers.get(..SHOWN).map(<[f32]>::to_vec);
    let outputs = shown(&output).zip(shown(&case.output_first128.0));
    all_same(nf4::dynamic_map().values(), &case.state2_code.0)
        && same(double.offset, case.offset.0)
        && all_same(&double.outer, &case.state2_absmax.0)
        && nf4::pack(&codes).starts_with(&case.packed_first64_hex.0)
        && !case.packed_first64_hex.0.is_empty()
        && outputs.is_some_and(|(ours, theirs)| all_same(&ours, &theirs))
}
