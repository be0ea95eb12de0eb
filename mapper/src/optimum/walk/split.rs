//! Splits of one dimension: the tiles that the loops over it leave, and sums over these tiles.

use crate::optimum::space::Space;

use super::nest::{Kind, Nest, Slot};

/// All splits of a dimension over the slots of a nest.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Splits {
    /// Slots of the dimension, as numbers in the nest, inside out.
    pub slots: Vec<usize>,
    /// Tiles inside each slot, then the extent; one split after the other.
    tiles: Vec<u32>,
    /// Bits of the slots of more than one trip.
    pub bits: Vec<u64>,
}

impl Splits {
    pub(super) fn len(&self) -> usize {
        self.bits.len()
    }

    /// Tiles inside each slot, then the extent.
    pub(super) fn tiles(&self, split: usize) -> &[u32] {
        let width = self.slots.len() + 1;
        &self.tiles[split * width..][..width]
    }

    /// How many of the slots stand inside a place of the nest.
    pub(super) fn inside(&self, place: usize) -> usize {
        self.slots.partition_point(|s| *s < place)
    }

    /// All splits of a dimension, `most` at most: none if there are more.
    pub(super) fn new(space: &Space, nest: &Nest, dim: usize, most: usize) -> Option<Self> {
        let slots = nest.slots.iter().enumerate().filter(|s| s.1.dim == dim);
        let mut splits = Self {
            slots: slots.map(|s| s.0).collect(),
            ..Self::default()
        };
        let mut maker = Maker {
            space,
            nest,
            dim,
            most,
            tiles: vec![1],
        };
        maker.go(&mut splits, 0).then(|| splits.sorted())
    }

    /// The same, those with the same bits together.
    fn sorted(self) -> Self {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|i| self.bits[*i]);
        let tiles = order.iter().flat_map(|i| self.tiles(*i));
        Self {
            tiles: tiles.copied().collect(),
            bits: order.iter().map(|i| self.bits[*i]).collect(),
            slots: self.slots,
        }
    }
}

struct Maker<'a> {
    space: &'a Space,
    nest: &'a Nest,
    dim: usize,
    most: usize,
    tiles: Vec<u32>,
}

impl Maker<'_> {
    /// Makes splits from a slot on, which sets some bits. Whether there were not too many.
    fn go(&mut self, splits: &mut Splits, bits: u64) -> bool {
        let size = self.space.sizes[self.dim];
        let at = self.tiles.len() - 1;
        let tile = self.tiles[at];
        let Some(slot) = splits.slots.get(at).map(|s| self.nest.slots[*s]) else {
            if tile == size && self.obeys(splits) {
                splits.tiles.extend(&self.tiles);
                splits.bits.push(bits);
            }
            return splits.len() <= self.most;
        };
        for outer in self.options(&slot, tile) {
            self.tiles.push(outer);
            let bits = bits | if outer > tile { slot.bits } else { 0 };
            let go_on = self.go(splits, bits);
            self.tiles.pop();
            if !go_on {
                return false;
            }
        }
        true
    }

    /// Tiles that a slot may leave outside.
    fn options(&self, slot: &Slot, tile: u32) -> Vec<u32> {
        let size = self.space.sizes[self.dim];
        let mut outer = Vec::new();
        match slot.kind {
            Kind::Rest => return vec![size],
            Kind::Time { .. } => {
                self.space.outer_tiles(self.dim, tile, &mut outer);
            }
            Kind::Space { segment, axis } => {
                let count = size.div_ceil(tile);
                let axis = &self.space.segments[segment].axes[axis];
                let most = axis.size.min(u64::from(count)) as u32;
                let factors =
                    (2..=most).filter(|f| !self.space.perfect || count.is_multiple_of(*f));
                outer.extend(factors.map(|f| tile.saturating_mul(f).min(size)));
            }
        }
        if slot.kind != (Kind::Time { slides: true }) {
            outer.insert(0, tile);
        }
        outer
    }

    /// Whether trips are as constraints give them.
    fn obeys(&self, splits: &Splits) -> bool {
        let trips = |mine: &dyn Fn(&Slot) -> bool| {
            let slots = splits.slots.iter().zip(self.tiles.windows(2));
            let mine = slots.filter(|(s, _)| mine(&self.nest.slots[**s]));
            mine.fold(1u32, |n, (_, t)| n.saturating_mul(t[1].div_ceil(t[0])))
        };
        let time = self.space.rules.iter().all(|rule| {
            let here = Some((rule.segment, rule.memory));
            let mut given = rule.given.iter().filter(|g| g.0 == self.dim);
            given.all(|(_, n)| trips(&|s: &Slot| s.memory == here) == *n)
        });
        let space = self.space.segments.iter().enumerate().all(|(i, segment)| {
            let mut given = segment.given.iter().filter(|g| g.0 == self.dim);
            let along = |s: &Slot| matches!(s.kind, Kind::Space { segment, .. } if segment == i);
            given.all(|(_, n)| self.across(splits, &along) == *n)
        });
        time && space
    }

    /// Tiles of the inside of some slots that stand together in one outside of them.
    fn across(&self, splits: &Splits, mine: &dyn Fn(&Slot) -> bool) -> u32 {
        let mut ends = splits.slots.iter().zip(self.tiles.windows(2));
        let mut mine = ends.by_ref().filter(|(s, _)| mine(&self.nest.slots[**s]));
        let Some((_, first)) = mine.next() else {
            return 1;
        };
        let last = mine.last().map_or(first, |l| l.1);
        last[1].div_ceil(first[0])
    }
}

/// Sum of `leaf` over the extents of all tiles that loops leave of an extent. `tiles`: inside each loop, inside out, then
/// what is cut up; loops `folded`, by bit, count as one iteration: their first.
pub(super) fn over(tiles: &[u32], folded: u64, leaf: &impl Fn(u32) -> f64) -> f64 {
    match tiles.last() {
        Some(extent) => cut(*extent, tiles, folded, leaf),
        None => 0.0,
    }
}

fn cut(extent: u32, tiles: &[u32], folded: u64, leaf: &impl Fn(u32) -> f64) -> f64 {
    if extent == 0 {
        return 0.0;
    }
    let Some((_, [.., tile])) = tiles.split_last() else {
        return leaf(extent);
    };
    let inner = &tiles[..tiles.len() - 1];
    if folded & (1 << (inner.len() - 1)) != 0 {
        return cut(extent.min(*tile), inner, folded, leaf);
    }
    let (full, rest) = (extent / tile, extent % tile);
    let rest = cut(rest, inner, folded, leaf);
    match full {
        0 => rest,
        _ => f64::from(full) * cut(*tile, inner, folded, leaf) + rest,
    }
}
