//! What the instances below one storage level need at one step: equal deltas, and deltas that a neighbour had.

use std::collections::BTreeMap;

use super::nest::{Grid, Loop};

/// How often one delta is read for all instances, in deltas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Demand {
    /// Reads of the parent.
    pub reads: u64,
    /// Instances that get it from the parent.
    pub received: u64,
    /// Instances that get it from a neighbour.
    pub linked: u64,
}

/// The instances below a storage level, as one operand sees them: instance `i` needs the box of the first one,
/// shifted by `offsets[i]`.
#[derive(Debug, Clone)]
pub(super) struct Space {
    offsets: Vec<Vec<i64>>,
    grid: Grid,
    shares: bool,
    plain: Demand,
    /// Demands with links, by how far the first instance's delta moved.
    linked: BTreeMap<Vec<i64>, Demand>,
}

impl Space {
    /// The instances of spatial loops (outermost first), whose iterations move the box by `moves`.
    pub fn new(loops: &[Loop], moves: &[Vec<i64>], grid: Grid, shares: bool, ranks: usize) -> Self {
        let mut offsets = vec![vec![0; ranks]];
        for (l, step) in loops.iter().zip(moves) {
            let shifted =
                |o: &Vec<i64>, i: i64| o.iter().zip(step).map(|(o, s)| o + s * i).collect();
            offsets = offsets
                .iter()
                .flat_map(|o| (0..l.trips as i64).map(move |i| shifted(o, i)))
                .collect();
        }
        let mut space = Self {
            offsets,
            grid,
            shares,
            plain: Demand::default(),
            linked: BTreeMap::new(),
        };
        space.plain = space.demand(|_| false);
        space
    }

    /// Demand where the neighbours held nothing of use.
    pub fn plain(&self) -> Demand {
        self.plain
    }

    /// Demand where the delta of the first instance has the shape of the one before, `moved` away from it.
    pub fn moved(&mut self, moved: &[i64]) -> Demand {
        if let Some(demand) = self.linked.get(moved) {
            return *demand;
        }
        let linked = self.demand(|i| self.neighbour_held(i, moved));
        let best = if linked.reads < self.plain.reads {
            linked
        } else {
            self.plain
        };
        self.linked.insert(moved.to_vec(), best);
        best
    }

    fn demand(&self, linked: impl Fn(usize) -> bool) -> Demand {
        let mut demand = Demand::default();
        let mut wanted: Vec<&Vec<i64>> = Vec::new();
        for (i, offset) in self.offsets.iter().enumerate() {
            if linked(i) {
                demand.linked += 1;
            } else {
                wanted.push(offset);
            }
        }
        demand.received = wanted.len() as u64;
        if self.shares {
            wanted.sort_unstable();
            wanted.dedup();
        }
        demand.reads = wanted.len() as u64;
        demand
    }

    /// Whether a neighbour of instance `i` needed one step ago what `i` needs now.
    fn neighbour_held(&self, i: usize, moved: &[i64]) -> bool {
        let (columns, rows) = (self.grid.columns as usize, self.grid.rows as usize);
        let (row, column) = (i / columns, i % columns);
        let mut neighbours = [None; 4];
        if row > 0 {
            neighbours[0] = Some(i - columns);
        }
        if row + 1 < rows {
            neighbours[1] = Some(i + columns);
        }
        if column > 0 {
            neighbours[2] = Some(i - 1);
        }
        if column + 1 < columns {
            neighbours[3] = Some(i + 1);
        }
        let mine = &self.offsets[i];
        neighbours.into_iter().flatten().any(|n| {
            self.offsets.get(n).is_some_and(|theirs| {
                let gap = theirs.iter().zip(mine).map(|(t, m)| t - m);
                gap.eq(moved.iter().copied())
            })
        })
    }
}
