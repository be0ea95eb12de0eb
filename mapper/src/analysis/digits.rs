//! Counting the tiles of one dimension by the digits of its loops.
//!
//! With the last tile's digits `n`, a tile of digits `i` exists if `i <= n` in lexicographic order, and is full
//! unless `i == n`. Counting such digits with some of them held is a product of radices for each position where
//! a free digit first falls below `n`.

use super::flow::Role;
use super::nest::Loop;

/// The loops of one dimension.
#[derive(Debug, Clone)]
pub(crate) struct Digits {
    /// Trips, last tile's digit and role of each loop.
    loops: Vec<(u64, u64, Role)>,
    tile: u64,
    /// Elements of the last tile.
    rest: u64,
}

impl Digits {
    /// The loops of a dimension of an extent, cut into tiles by them.
    pub(crate) fn new(size: u64, tile: u64, own: &[(Loop, Role)]) -> Self {
        let mut at = size - 1;
        let loops = own
            .iter()
            .map(|(l, role)| {
                let digit = at / l.tile;
                at %= l.tile;
                (l.trips, digit, *role)
            })
            .collect();
        Self {
            loops,
            tile,
            rest: at + 1,
        }
    }

    /// Number of temporal loops.
    pub(crate) fn inner_loops(&self) -> usize {
        self.loops.iter().filter(|l| l.2 == Role::Time).count()
    }

    /// Existing tiles whose digits are `held` where that gives one, and whether the last tile is among them.
    fn count(&self, held: impl Fn(usize) -> Option<u64>) -> (u128, bool) {
        let mut free: u128 = self
            .loops
            .iter()
            .enumerate()
            .filter(|(i, _)| held(*i).is_none())
            .map(|(_, l)| u128::from(l.0))
            .product();
        let mut count = 0;
        for (i, (trips, last, _)) in self.loops.iter().enumerate() {
            match held(i) {
                Some(digit) if digit < *last => return (count + free, false),
                Some(digit) if digit > *last => return (count, false),
                Some(_) => {}
                None => {
                    free /= u128::from(*trips);
                    count += u128::from(*last) * free;
                }
            }
        }
        (count + 1, true)
    }

    /// The digits held when the temporal loops from the `k`-th on stand at their first.
    fn first(&self, k: usize) -> impl Fn(usize) -> Option<u64> {
        let mut seen = 0;
        let held: Vec<Option<u64>> = self
            .loops
            .iter()
            .map(|l| match l.2 {
                Role::Merged => Some(0),
                Role::Fixed(digit) => Some(digit),
                Role::Space => None,
                Role::Time => {
                    seen += 1;
                    (seen > k).then_some(0)
                }
            })
            .collect();
        move |i| held.get(i).copied().flatten()
    }

    /// Prefixes of the first `k` temporal loops that have a state, over all instances.
    pub(crate) fn prefixes(&self, k: usize) -> u128 {
        self.count(self.first(k)).0
    }

    /// Elements of the tiles of prefixes that have just one state.
    pub(crate) fn single_states(&self, k: usize) -> u128 {
        let first = self.first(k);
        let (tiles, last) = self.count(&first);
        let elements = tiles * u128::from(self.tile)
            - if last {
                u128::from(self.tile - self.rest)
            } else {
                0
            };
        // The second state of a prefix, if there is one, has a 1 in the innermost temporal loop.
        let innermost = self.loops.iter().rposition(|l| l.2 == Role::Time);
        match innermost {
            Some(inner) if k < self.inner_loops() => {
                let (more, _) = self.count(|i| if i == inner { Some(1) } else { first(i) });
                elements - more * u128::from(self.tile)
            }
            _ => elements,
        }
    }
}
