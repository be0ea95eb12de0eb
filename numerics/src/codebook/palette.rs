//! Palettes: code books of 2 to 256 numbers fitted to a tensor.
//!
//! Lloyd's algorithm for the least mean squared error, in f64 over the sorted numbers: entries start at the middles of
//! equal shares of them; each pass assigns every number to its nearest entry and moves each entry to the mean of its
//! numbers, until nothing moves or 100 passes are done. The error never rises. The result depends on the numbers
//! alone, not on their order. Entries are f32; a tensor with no more distinct numbers than entries is kept exactly.

use crate::codebook::CodeBook;

/// The code book of `2^bits` numbers fitted to a tensor; `None` for bits outside 1..=8, or where no number is finite.
pub fn fit(values: &[f32], bits: u8) -> Option<CodeBook> {
    if !(1..=8).contains(&bits) {
        return None;
    }
    let entries = 1usize << bits;
    let mut sorted: Vec<f32> = values.iter().copied().filter(|x| x.is_finite()).collect();
    sorted.sort_by(f32::total_cmp);
    let last = *sorted.last()?;
    let mut distinct = sorted.clone();
    distinct.dedup();
    if distinct.len() <= entries {
        distinct.resize(entries, last);
        return CodeBook::new(&distinct);
    }
    let mut sums = vec![0f64; sorted.len() + 1];
    for (i, x) in sorted.iter().enumerate() {
        sums[i + 1] = sums[i] + f64::from(*x);
    }
    let middle = |k: usize| sorted[(2 * k + 1) * sorted.len() / (2 * entries)];
    let mut book: Vec<f64> = (0..entries).map(|k| f64::from(middle(k))).collect();
    for _ in 0..100 {
        let ends: Vec<usize> = book
            .windows(2)
            .map(|w| sorted.partition_point(|x| f64::from(*x) <= (w[0] + w[1]) / 2.0))
            .chain([sorted.len()])
            .collect();
        let mut start = 0;
        let mut moved = false;
        for (entry, end) in book.iter_mut().zip(ends) {
            if end > start {
                let mean = (sums[end] - sums[start]) / (end - start) as f64;
                moved |= mean != *entry;
                *entry = mean;
                start = end;
            }
        }
        if !moved {
            break;
        }
    }
    let book: Vec<f32> = book.into_iter().map(|x| x as f32).collect();
    CodeBook::new(&book)
}
