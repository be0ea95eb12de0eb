//! The order in which a mapping adds up the products of an output.
//!
//! The loops over reduced dimensions, from the outside in, are of three kinds, by where they stand to the accumulator,
//! the innermost memory that keeps the output:
//!
//! ```text
//! lanes   across instances outside the accumulator: each has an accumulator of its own; they are added in the end
//! time    one step after the other, wherever it stands
//! tree    across instances inside the accumulator: their products are added before they meet it
//! ```
//!
//! In each step of time every accumulator takes the sum of a tree's products. The products of an output are so
//! numbered `((step x lanes) + lane) x tree + position`. Where a dimension leaves a remainder, places stand empty.
//!
//! A partial sum that leaves its accumulator for a memory above comes back at the same width (partial sums are stored
//! wide), so that spills change no bit; neither does what is outside the loops over reduced dimensions.

use presil_hwmodels::Operand;
use presil_numerics::ids::Id;
use presil_workloads::{DimId, Einsum};

use crate::mapping::Step;

/// The order of an output's products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduction {
    /// For each place in the order the product that stands there: its index over the reduced dimensions in the
    /// einsum's order, the last one fastest. [`EMPTY`] where none does.
    pub places: Vec<u32>,
    /// Neighbouring places that are added before they meet an accumulator.
    pub tree: usize,
    /// Accumulators: the groups of `tree` places go to them in turn.
    pub lanes: usize,
}

/// A place without a product.
pub const EMPTY: u32 = u32::MAX;

/// Most places of an order that is written down.
const MOST: u64 = 1 << 24;

/// A loop over a reduced dimension.
#[derive(Debug, Clone, Copy)]
struct Loop {
    dim: DimId,
    trips: u64,
    tile: u64,
}

impl Reduction {
    /// The order of a mapping's steps for an einsum; `None` where it has more than 2^24 places.
    pub fn new(einsum: &Einsum, steps: &[Step]) -> Option<Self> {
        let [mut time, mut lanes, mut tree]: [Vec<Loop>; 3] = Default::default();
        let keeps =
            |s: &Step| matches!(s, Step::Store { operand, .. } if *operand == Operand::Output);
        let accumulator = steps.iter().rposition(keeps).unwrap_or(0);
        let mut tiles: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
        for (i, step) in steps.iter().enumerate() {
            let (dim, tile) = match *step {
                Step::Temporal { dim, tile } | Step::Spatial { dim, tile, .. } => (dim, tile),
                Step::Store { .. } => continue,
            };
            let outer = std::mem::replace(&mut tiles[dim.index()], tile);
            if !einsum.is_reduced(dim) {
                continue;
            }
            let trips = outer.div_ceil(tile);
            let group = match step {
                Step::Spatial { .. } if i > accumulator => &mut tree,
                Step::Spatial { .. } => &mut lanes,
                _ => &mut time,
            };
            group.push(Loop { dim, trips, tile });
        }
        let count = |loops: &[Loop]| loops.iter().try_fold(1u64, |n, l| n.checked_mul(l.trips));
        let (lane_count, tree_count) = (count(&lanes)?, count(&tree)?);
        let all = count(&time)?
            .checked_mul(lane_count)?
            .checked_mul(tree_count)?;
        if all > MOST {
            return None;
        }
        let nest: Vec<Loop> = time.into_iter().chain(lanes).chain(tree).collect();
        let reduced: Vec<DimId> = einsum.dim_ids().filter(|d| einsum.is_reduced(*d)).collect();
        let places = (0..all).map(|place| product(einsum, &reduced, &nest, place));
        Some(Self {
            places: places.collect(),
            tree: usize::try_from(tree_count).ok()?,
            lanes: usize::try_from(lane_count).ok()?,
        })
    }
}

/// The product at a place of a loop nest.
fn product(einsum: &Einsum, reduced: &[DimId], nest: &[Loop], place: u64) -> u32 {
    let mut index = vec![0u64; einsum.dims.len()];
    let mut left = place;
    for l in nest.iter().rev() {
        index[l.dim.index()] += left % l.trips * l.tile;
        left /= l.trips;
    }
    let mut flat = 0;
    for d in reduced {
        let size = einsum.dim(*d).size;
        if index[d.index()] >= size {
            return EMPTY;
        }
        flat = flat * size + index[d.index()];
    }
    u32::try_from(flat).unwrap_or(EMPTY)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use presil_hwmodels::NodeId;
    use presil_workloads::einsum::Place;
    use presil_workloads::{Access, Affine, Dim, Domain, MapOperator, ReduceOperator};

    use super::*;

    /// O[m] += A[m, c, r] B[c, r].
    fn einsum(m: u64, c: u64, r: u64) -> Einsum {
        let access = |place, ranks: &[u32], extents: &[u64]| Access {
            place,
            ranks: ranks.iter().map(|d| Affine::dim(DimId(*d))).collect(),
            extents: extents.to_vec(),
        };
        let dims = [("m", m), ("c", c), ("r", r)].map(|(name, size)| Dim {
            name: name.into(),
            size,
        });
        Einsum {
            dims: dims.to_vec(),
            inputs: vec![
                access(Place::Input(0), &[0, 1, 2], &[m, c, r]),
                access(Place::Input(1), &[1, 2], &[c, r]),
            ],
            output: access(Place::Output(0), &[0], &[m]),
            map: MapOperator::MultiplyAccumulate,
            reduce: ReduceOperator::Sum,
            domain: Domain::Dense,
        }
    }

    fn time(dim: u32, tile: u64) -> Step {
        Step::Temporal {
            dim: DimId(dim),
            tile,
        }
    }

    fn space(dim: u32, tile: u64) -> Step {
        Step::Spatial {
            fanout: NodeId(1),
            axis: 0,
            dim: DimId(dim),
            tile,
        }
    }

    fn keep() -> Step {
        Step::Store {
            memory: NodeId(2),
            operand: Operand::Output,
        }
    }

    #[test]
    fn time_runs_outside_lanes_and_trees() {
        // c = 4 over two instances, each with r = 3 in time and two of c in a tree.
        let e = einsum(5, 4, 3);
        let steps = [space(1, 2), keep(), time(0, 1), time(2, 1), space(1, 1)];
        let order = Reduction::new(&e, &steps).unwrap();
        assert_eq!((order.lanes, order.tree), (2, 2));
        // Step of r, then the lane, then the place in the tree: c x 3 + r.
        assert_eq!(order.places, [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]);
    }

    #[test]
    fn remainders_leave_places_empty_and_no_product_out() {
        let e = einsum(1, 7, 3);
        for steps in [
            vec![keep(), time(1, 2), time(2, 1), space(1, 1)],
            vec![
                space(1, 4),
                keep(),
                time(1, 2),
                time(1, 1),
                space(2, 2),
                time(2, 1),
            ],
            vec![time(2, 2), keep(), time(1, 3), space(1, 1), time(2, 1)],
        ] {
            let order = Reduction::new(&e, &steps).unwrap();
            let mut products: Vec<u32> = order
                .places
                .iter()
                .copied()
                .filter(|p| *p != EMPTY)
                .collect();
            products.sort_unstable();
            assert_eq!(products, (0..21).collect::<Vec<u32>>(), "{steps:?}");
            assert_eq!(order.places.len() % (order.lanes * order.tree), 0);
        }
    }
}
