//! Tiles of queries and keys under a mask, equal ones counted once.
//!
//! ```text
//! query q of a tile sees keys k with   q + offset - window < k <= q + offset
//! ```
//!
//! Tiles whose queries all see all their keys are counted by division; tiles along the mask's borders one by one.

use rustc_hash::FxHashMap;

use super::axes::{Group, Mask};
use super::step::close;

/// Rows of tiles at most.
const ROWS: u64 = 1 << 16;

/// Weight, queries, keys and offset.
pub(super) type Pairs = (u64, u64, u64, Option<i64>);

/// Starts and lengths of an axis' tiles.
fn spans(size: u64, tile: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..size.div_ceil(tile)).map(move |i| (i * tile, tile.min(size - i * tile)))
}

/// Masked tiles of which some are equal.
#[derive(Default)]
struct Tally {
    list: Vec<Pairs>,
    at: FxHashMap<(u64, u64, Option<i64>), usize>,
}

impl Tally {
    fn add(&mut self, count: u64, tile: (u64, u64, Option<i64>)) {
        if count > 0 {
            let at = *self.at.entry(tile).or_insert(self.list.len());
            match self.list.get_mut(at) {
                Some(known) => known.0 += count,
                None => self.list.push((count, tile.0, tile.1, tile.2)),
            }
        }
    }
}

/// Keys that some of a tile's queries see, and those that all of them see.
struct Row {
    some: (u64, u64),
    all: (u64, u64),
}

impl Row {
    /// Of `t` queries from `q` on.
    fn new(q: u64, t: u64, keys: u64, mask: &Mask) -> Self {
        // Keys of the first query end before this one; those of a query begin a window before its end.
        let end = i128::from(q) + i128::from(mask.offset) + 1;
        let more = i128::from(t) - 1;
        let start = |end: i128| mask.window.map_or(0, |w| end - i128::from(w));
        let within = |k: i128| k.clamp(0, i128::from(keys)) as u64;
        let range = |from: i128, to: i128| (within(from).min(within(to)), within(to));
        Self {
            some: range(start(end), end + more),
            all: range(start(end + more), end),
        }
    }
}

/// The tiles of a masked pair of axes that run anything; `None` if there are too many, or a row of queries sees no key.
pub(super) fn masked_pieces(group: &Group, tiles: &[u64], mask: &Mask) -> Option<Vec<Pairs>> {
    let (queries, keys) = (group.axes[mask.query].size, group.axes[mask.key].size);
    let (tile, each) = (tiles[mask.query], tiles[mask.key]);
    if queries.div_ceil(tile) > ROWS {
        None
    } else if each < keys {
        tiles_of_both(queries, keys, (tile, each), mask)
    } else {
        tiles_of_queries(queries, keys, tile, mask)
    }
}

/// Offset of queries from `q` on against keys from `lo` on.
fn offset(q: u64, lo: u64, mask: &Mask) -> Option<i64> {
    i64::try_from(i128::from(q) + i128::from(mask.offset) - i128::from(lo)).ok()
}

/// Tiles of both axes that have pairs.
fn tiles_of_both(
    queries: u64,
    keys: u64,
    (tile, each): (u64, u64),
    mask: &Mask,
) -> Option<Vec<Pairs>> {
    let of = |key: u64| each.min(keys - key * each);
    let mut tally = Tally::default();
    for (q, t) in spans(queries, tile) {
        let row = Row::new(q, t, keys, mask);
        let (first, end) = (row.some.0 / each, row.some.1.div_ceil(each));
        // Tiles of which all pairs are executed; the last tile may be short.
        let last = if row.all.1 == keys {
            end
        } else {
            row.all.1 / each
        };
        let from = row.all.0.div_ceil(each).clamp(first, end);
        let to = last.clamp(from, end);
        for key in (first..from).chain(to..end) {
            let offset = offset(q, key * each, mask)?;
            if executed(t, of(key), offset, mask.window) > 0 {
                tally.add(1, (t, of(key), Some(offset)));
            }
        }
        if from < to {
            tally.add(to - 1 - from, (t, each, None));
            tally.add(1, (t, of(to - 1), None));
        }
    }
    Some(tally.list)
}

/// Tiles of queries with all keys that any of them sees. Those that grow by the same amount from one to the next are one,
/// or two halves.
fn tiles_of_queries(queries: u64, keys: u64, tile: u64, mask: &Mask) -> Option<Vec<Pairs>> {
    let mut all: Vec<(u64, u64, i64)> = Vec::new();
    for (q, t) in spans(queries, tile) {
        let (lo, hi) = Row::new(q, t, keys, mask).some;
        let n = Some(hi - lo).filter(|n| *n > 0)?;
        all.push((t, n, offset(q, lo, mask)?));
    }
    let change = |a: &(u64, u64, i64), b: &(u64, u64, i64)| {
        let pairs = |x: &(u64, u64, i64)| executed(x.0, x.1, x.2, mask.window) as i128;
        (
            i128::from(b.0) - i128::from(a.0),
            i128::from(b.1) - i128::from(a.1),
            i128::from(b.2) - i128::from(a.2),
            pairs(b) - pairs(a),
        )
    };
    let mut list: Vec<Pairs> = Vec::new();
    let mut at = 0;
    while at < all.len() {
        let mut end = at + 1;
        while end < all.len()
            && all[end].0 == all[at].0
            && (end < at + 2 || change(&all[end - 1], &all[end]) == change(&all[at], &all[at + 1]))
        {
            end += 1;
        }
        let n = (end - at) as u64;
        let middle = |i: usize, weight: u64| (weight, all[i].0, all[i].1, Some(all[i].2));
        if n % 2 == 1 {
            list.push(middle(at + (n / 2) as usize, n));
        } else {
            list.push(middle(at + (n / 2) as usize - 1, n / 2));
            list.push(middle(at + (n / 2) as usize, n / 2));
        }
        at = end;
    }
    Some(list)
}

/// Masked tiles made dense.
pub(super) fn mean(list: &[Pairs], mask: &Mask) -> Vec<Pairs> {
    let mut sums: Vec<(u64, u64, u128)> = Vec::new();
    let mut dense: Vec<Pairs> = Vec::new();
    for p in list {
        let Some(offset) = p.3 else {
            dense.push(*p);
            continue;
        };
        let pairs = u128::from(p.0) * u128::from(executed(p.1, p.2, offset, mask.window));
        match sums.iter_mut().find(|s| close(p.1, s.1)) {
            Some(s) => (s.0, s.2) = (s.0 + p.0, s.2 + pairs),
            None => sums.push((p.0, p.1, pairs)),
        }
    }
    dense.extend(sums.iter().map(|(weight, queries, pairs)| {
        let rows = u128::from(*weight) * u128::from(*queries);
        let keys = u64::try_from((pairs + rows / 2) / rows.max(1)).unwrap_or(u64::MAX);
        (*weight, *queries, keys.max(1), None)
    }));
    dense
}

/// Pairs inside a mask: query `q` sees the keys up to `q + offset`, in a window only the last ones of them.
///
/// ```text
/// pairs = sum over q of clamp(q + offset + 1) - clamp(q + offset + 1 - window)      clamped to 0..keys
/// ```
fn executed(queries: u64, keys: u64, offset: i64, window: Option<u64>) -> u64 {
    let k = i128::from(keys);
    // Sum of clamp(y) over all y below x.
    let below = |x: i128| {
        let inside = x.clamp(0, k);
        inside * (inside - 1) / 2 + (x - k).max(0) * k
    };
    let from = |end: i128| below(end + i128::from(queries)) - below(end);
    let end = i128::from(offset) + 1;
    let pairs = from(end) - window.map_or(0, |w| from(end - i128::from(w)));
    u64::try_from(pairs).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(q: u64, k: u64, offset: i64, window: Option<u64>) -> bool {
        let last = q as i64 + offset;
        k as i64 <= last && window.is_none_or(|w| k as i64 > last - w as i64)
    }

    fn counted(queries: u64, keys: u64, offset: i64, window: Option<u64>) -> u64 {
        let of = |q| {
            (0..keys)
                .filter(move |k| seen(q, *k, offset, window))
                .count() as u64
        };
        (0..queries).map(of).sum()
    }

    proptest! {
        /// Pairs in closed form are those that are counted.
        #[test]
        fn pairs_are_counted(
            queries in 0u64..24, keys in 0u64..24, offset in -30i64..30,
            window in proptest::option::of(1u64..30),
        ) {
            prop_assert_eq!(executed(queries, keys, offset, window), counted(queries, keys, offset, window));
        }

        /// Tiles of both axes are those with pairs, each as often as it is there; whole ones have no mask.
        #[test]
        fn tiles_are_those_with_pairs(
            queries in 1u64..40, keys in 2u64..40, tile in 1u64..40, each in 1u64..39, offset in -20i64..40,
            window in proptest::option::of(1u64..40),
        ) {
            let (tile, each) = (tile.min(queries), each.min(keys - 1));
            let mask = Mask { query: 0, key: 1, offset, window };
            let mut wanted: Vec<Pairs> = Vec::new();
            for q in (0..queries).step_by(tile as usize) {
                for k in (0..keys).step_by(each as usize) {
                    let (t, n) = (tile.min(queries - q), each.min(keys - k));
                    let at = offset + q as i64 - k as i64;
                    let pairs = counted(t, n, at, window);
                    if pairs > 0 {
                        wanted.push((1, t, n, (pairs < t * n).then_some(at)));
                    }
                }
            }
            let found = tiles_of_both(queries, keys, (tile, each), &mask).unwrap_or_default();
            let mut alone: Vec<Pairs> = found
                .iter()
                .flat_map(|p| std::iter::repeat_n((1, p.1, p.2, p.3), p.0 as usize))
                .collect();
            alone.sort_unstable();
            wanted.sort_unstable();
            prop_assert_eq!(alone, wanted);
        }
    }
}
