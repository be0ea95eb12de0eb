//! Free ranges of a memory at one time.

/// Free ranges, by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holes(Vec<(u64, u64)>);

impl Holes {
    /// What ranges leave of a capacity; they may overlap each other.
    pub(super) fn new(capacity: u64, taken: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut taken: Vec<(u64, u64)> = taken.collect();
        taken.sort_unstable();
        let (mut holes, mut end) = (Vec::new(), 0);
        for (from, to) in taken {
            if from > end {
                holes.push((end, from.min(capacity)));
            }
            end = end.max(to);
        }
        if end < capacity {
            holes.push((end, capacity));
        }
        holes.retain(|(from, to)| from < to);
        Self(holes)
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }

    pub(super) fn largest(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).max().unwrap_or(0)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Takes bytes: the start of the tightest hole that has them, else of the largest ones until there are enough.
    /// What is left of a hole starts at a whole word, unless that would leave too little for what is asked.
    pub(super) fn take(&mut self, bytes: u64, word: u64) -> Vec<(u64, u64)> {
        let mut missing = bytes.min(self.total());
        let mut ranges = Vec::new();
        while missing > 0 {
            let size = |h: &(u64, u64)| h.1 - h.0;
            let able = (0..self.0.len()).filter(|i| size(&self.0[*i]) >= missing);
            let tightest = able.min_by_key(|i| (size(&self.0[*i]), *i));
            let largest =
                || (0..self.0.len()).max_by_key(|i| (size(&self.0[*i]), std::cmp::Reverse(*i)));
            let Some(i) = tightest.or_else(largest) else {
                break;
            };
            let (from, to) = self.0[i];
            let part = missing.min(to - from);
            ranges.push((from, from + part));
            missing -= part;
            let next = (from + part).checked_next_multiple_of(word).unwrap_or(to);
            if next < to {
                self.0[i].0 = next;
            } else {
                self.0.remove(i);
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_what_is_left() {
        let mut h = Holes::new(100, [(40, 50), (0, 8), (45, 60)].into_iter());
        assert_eq!((h.total(), h.largest()), (72, 40));
        assert_eq!(h.all().collect::<Vec<_>>(), [(8, 40), (60, 100)]);
        // The tightest; then in words; then split, the largest first.
        assert_eq!(h.take(30, 8), [(8, 38)]);
        assert_eq!(h.take(17, 8), [(60, 77)]);
        assert_eq!(h.all().collect::<Vec<_>>(), [(80, 100)]);
        assert_eq!(h.take(50, 8), [(80, 100)]);
        assert_eq!(h.take(1, 8), []);
        let mut split = Holes::new(100, [(10, 20), (50, 90)].into_iter());
        assert_eq!(split.take(45, 1), [(20, 50), (0, 10), (90, 95)]);
        assert_eq!(Holes::new(10, [(0, 20)].into_iter()).total(), 0);
    }
}
