//! Counting the tiles of one dimension by the digits of its loops.
//!
//! With the last tile's digits `n`, a tile of digits `i` exists if `i <= n` in lexicographic order, and is full
//! unless `i == n`. Counting such digits with some of them held is a product of radices for each position where
//! a free digit first falls below `n`.

use smallvec::SmallVec;

use super::flow::Role;
use super::nest::Loop;

/// A loop of the dimension.
#[derive(Debug, Clone, Copy)]
struct Digit {
    trips: u64,
    tile: u64,
    /// Of the last tile.
    last: u64,
    role: Role,
    /// Temporal loops outside it.
    outside: usize,
}

/// The loops of one dimension.
#[derive(Debug, Clone)]
pub(crate) struct Digits {
    loops: SmallVec<[Digit; 8]>,
    tile: u64,
    /// Elements of the last tile.
    rest: u64,
    /// Number of temporal loops.
    temporal: usize,
}

impl Digits {
    /// The loops of a dimension of an extent, cut into tiles by them.
    pub(crate) fn new(size: u64, tile: u64, own: &[(Loop, Role)]) -> Self {
        let mut at = size - 1;
        let mut temporal = 0;
        let loops = own
            .iter()
            .map(|(l, role)| {
                let last = at / l.tile;
                at %= l.tile;
                let outside = temporal;
                temporal += usize::from(*role == Role::Time);
                Digit {
                    trips: l.trips,
                    tile: l.tile,
                    last,
                    role: *role,
                    outside,
                }
            })
            .collect();
        Self {
            loops,
            tile,
            rest: at + 1,
            temporal,
        }
    }

    /// Number of temporal loops.
    pub(crate) fn inner_loops(&self) -> usize {
        self.temporal
    }

    /// Existing tiles whose digits are `held` where that gives one, and whether the last tile is among them.
    fn count(&self, held: impl Fn(usize) -> Option<u64>) -> (u64, bool) {
        // Of the digits from a loop inwards: how many there are, how many are not behind the last tile's.
        let (mut all, mut existing, mut ends) = (1u64, 1u64, true);
        for (i, l) in self.loops.iter().enumerate().rev() {
            match held(i) {
                Some(digit) if digit < l.last => (existing, ends) = (all, false),
                Some(digit) if digit > l.last => (existing, ends) = (0, false),
                Some(_) => {}
                None => {
                    existing += l.last * all;
                    all *= l.trips;
                }
            }
        }
        (existing, ends)
    }

    /// The digit held when the temporal loops from the `k`-th on stand at their first, as do merged ones.
    fn first(&self, k: usize, i: usize) -> Option<u64> {
        let l = &self.loops[i];
        match l.role {
            Role::Merged => Some(0),
            Role::Fixed(digit) => Some(digit),
            Role::Space => None,
            Role::Time => (l.outside >= k).then_some(0),
        }
    }

    /// Prefixes of the first `k` temporal loops that have a state, over all instances.
    pub(crate) fn prefixes(&self, k: usize) -> u128 {
        u128::from(self.count(|i| self.first(k, i)).0)
    }

    /// Elements of the tiles of prefixes that have just one state. Merged iterations have a tile each.
    pub(crate) fn single_states(&self, k: usize) -> u128 {
        let merged: Vec<usize> = (0..self.loops.len())
            .filter(|i| self.loops[*i].role == Role::Merged)
            .collect();
        let mut at = vec![0u64; merged.len()];
        let mut elements = 0;
        loop {
            elements += u128::from(self.single_state_of(k, &merged, &at));
            let step = (0..at.len())
                .rev()
                .find(|i| at[*i] + 1 < self.loops[merged[*i]].trips);
            let Some(step) = step else {
                return elements;
            };
            at[step] += 1;
            at[step + 1..].fill(0);
        }
    }

    /// The same, of the merged iterations of some digits.
    fn single_state_of(&self, k: usize, merged: &[usize], at: &[u64]) -> u64 {
        let first = |i: usize| match merged.iter().position(|m| *m == i) {
            Some(place) => Some(at[place]),
            None => self.first(k, i),
        };
        let (tiles, last) = self.count(first);
        let missing = if last { self.tile - self.rest } else { 0 };
        let all = tiles * self.tile - missing;
        let innermost = self.loops.iter().rposition(|l| l.role == Role::Time);
        let Some(inner) = innermost.filter(|_| k < self.temporal) else {
            return all;
        };
        // The second state of a prefix, if there is one, has a 1 in the innermost temporal loop; it exists if its
        // first merged iteration does, and so wherever a tile that starts behind that does.
        let starts = merged.iter().zip(at).map(|(i, d)| self.loops[*i].tile * d);
        if starts.sum::<u64>() >= self.loops[inner].tile {
            return 0;
        }
        let second = |i: usize| {
            if i == inner {
                Some(1)
            } else {
                self.first(k, i)
            }
        };
        all - self.count(second).0 * self.tile
    }
}
