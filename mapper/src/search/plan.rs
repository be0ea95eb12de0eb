//! Plans: points of the search space, and their steps.
//!
//! A plan gives every dimension a chain of factors from the inside out: at each level a temporal factor, at each
//! axis spatial ones. A tile is the product of the factors inside it, cut off at the dimension's extent, and
//! level 0 takes what remains. So any factors make a legal chain of tiles: each inner tile divides the next
//! outer one but for the outermost, which is the extent itself.
//!
//! Beside factors, a plan has for each level the order of its loops, the operands it keeps, and how far up into
//! the loops of the level above each operand's storage is hoisted: above loops that index it, it holds a larger
//! tile, which pays where the next loop further out does not index it.

use presil_hwmodels::Operand;
use smallvec::{SmallVec, smallvec};

use super::frame::Frame;
use crate::mapping::Step;

/// A short list without a heap: climbs copy plans by the thousand.
pub(super) type Few<T> = SmallVec<[T; 8]>;

/// A dimension laid along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Spread {
    /// Index into [`Frame::axes`].
    pub axis: usize,
    /// Index into [`Frame::dims`].
    pub dim: usize,
    /// Iterations, at most.
    pub factor: u64,
}

/// Loops and storage of one level.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Layer {
    /// Temporal factor by dimension; that of level 0 is not used.
    pub factors: Few<u64>,
    /// Dimensions in the order of the loops, outermost first.
    pub order: Few<usize>,
    /// Operands kept, as bits.
    pub keep: u8,
    /// By operand: its storage stands before this place of the loop order of the level above. The number of
    /// dimensions: below all of them.
    pub hoist: [usize; 3],
}

/// A point of the search space.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    pub spreads: Few<Spread>,
    pub layers: Vec<Layer>,
}

/// One item of a lowered plan, outermost first.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item {
    /// An operand is kept by a store.
    Keep {
        operand: usize,
        store: usize,
        level: usize,
        elements: f64,
    },
    /// A loop in time.
    Time(Loop),
    /// A loop in space; `axis` is an index into [`Frame::axes`].
    Space { each: Loop, axis: usize },
    /// A fanout begins here.
    Fan { hop: f64 },
}

/// A loop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loop {
    pub dim: usize,
    /// Tile inside.
    pub tile: u64,
    /// Iterations.
    pub trips: f64,
    /// Tile outside over tile inside: the iterations, a partial one counted in part.
    pub ratio: f64,
}

impl Plan {
    /// The plan with every loop at level 0, only what must be kept, and nothing in parallel: it fits if anything
    /// does.
    pub fn trivial(frame: &Frame) -> Self {
        let n = frame.dims.len();
        let layer = |(i, l): (usize, &super::frame::Level)| Layer {
            factors: smallvec![1; n],
            order: (0..n).collect(),
            keep: if i == 0 { 0b111 } else { l.required },
            hoist: [n; 3],
        };
        Self {
            spreads: Few::new(),
            layers: frame.levels.iter().enumerate().map(layer).collect(),
        }
    }

    /// Lowers to items; `items` and `tile` are overwritten. Loops of one iteration are left out.
    pub fn lower(&self, frame: &Frame, items: &mut Vec<Item>, tile: &mut Vec<u64>) {
        items.clear();
        tile.clear();
        tile.resize(frame.dims.len(), 1);
        // From the inside out, so that tiles are known; reversed at the end.
        for (l, layer) in self.layers.iter().enumerate().rev() {
            for fan in frame.levels[l].fans.iter().rev() {
                for s in self
                    .spreads
                    .iter()
                    .rev()
                    .filter(|s| fan.axes.contains(&s.axis))
                {
                    if let Some(each) = grow(frame, tile, s.dim, s.factor) {
                        items.push(Item::Space { each, axis: s.axis });
                    }
                }
                items.push(Item::Fan { hop: fan.hop });
            }
            let places = self.hoists(frame, l);
            for (place, &dim) in layer.order.iter().enumerate().rev() {
                if places & (1 << ((place + 1) & 63)) != 0 {
                    self.hoisted(frame, l, place + 1, items, tile);
                }
                let factor = if l == 0 { u64::MAX } else { layer.factors[dim] };
                if let Some(each) = grow(frame, tile, dim, factor) {
                    items.push(Item::Time(each));
                }
            }
            self.hoisted(frame, l, 0, items, tile);
            if l == 0 || !frame.levels[l - 1].fans.is_empty() {
                // Storage that cannot be hoisted stands right above its own loops.
                self.place(frame, l, |_| true, items, tile);
            }
        }
        items.reverse();
    }

    /// Places of the loops of level `above` at which there is storage of the next level, as bits (modulo 64).
    fn hoists(&self, frame: &Frame, above: usize) -> u64 {
        let n = frame.dims.len();
        self.layers.get(above + 1).map_or(0, |layer| {
            let kept = (0..3).filter(|o| layer.keep & (1 << o) != 0);
            kept.fold(0, |bits, o| bits | 1 << (layer.hoist[o].min(n) & 63))
        })
    }

    /// Storage of level `above + 1` that is hoisted to a place of the loops of level `above`.
    fn hoisted(
        &self,
        frame: &Frame,
        above: usize,
        place: usize,
        items: &mut Vec<Item>,
        tile: &[u64],
    ) {
        if above + 1 < self.layers.len() && frame.levels[above].fans.is_empty() {
            let n = frame.dims.len();
            self.place(frame, above + 1, |h| h.min(n) == place, items, tile);
        }
    }

    fn place(
        &self,
        frame: &Frame,
        l: usize,
        here: impl Fn(usize) -> bool,
        items: &mut Vec<Item>,
        tile: &[u64],
    ) {
        for operand in (0..3).rev() {
            let layer = &self.layers[l];
            if layer.keep & (1 << operand) != 0
                && here(layer.hoist[operand])
                && let Some(store) = frame.levels[l].memory[operand]
            {
                let elements = frame.elements(operand, tile);
                items.push(Item::Keep {
                    operand,
                    store,
                    level: l,
                    elements,
                });
            }
        }
    }

    /// The steps of a plan.
    pub fn steps(&self, frame: &Frame) -> Vec<Step> {
        let (mut items, mut tile) = (Vec::new(), Vec::new());
        self.lower(frame, &mut items, &mut tile);
        let step = |item: &Item| match *item {
            Item::Keep { operand, store, .. } => Some(Step::Store {
                memory: frame.stores[store].node,
                operand: Operand::ALL[operand],
            }),
            Item::Time(l) => Some(Step::Temporal {
                dim: frame.dims[l.dim].id,
                tile: l.tile,
            }),
            Item::Space { each: l, axis } => {
                let a = &frame.axes[axis];
                Some(Step::Spatial {
                    fanout: a.fanout,
                    axis: a.axis,
                    dim: frame.dims[l.dim].id,
                    tile: l.tile,
                })
            }
            Item::Fan { .. } => None,
        };
        items.iter().filter_map(step).collect()
    }
}

/// Grows a dimension's tile by a factor; the loop over it, if it has more than one iteration.
fn grow(frame: &Frame, tile: &mut [u64], dim: usize, factor: u64) -> Option<Loop> {
    let (size, inner) = (frame.dims[dim].size, tile[dim]);
    if inner >= size || factor <= 1 {
        return None;
    }
    let extent = inner.saturating_mul(factor).min(size);
    tile[dim] = extent;
    let trips = extent.div_ceil(inner) as f64;
    Some(Loop {
        dim,
        tile: inner,
        trips,
        ratio: extent as f64 / inner as f64,
    })
}
