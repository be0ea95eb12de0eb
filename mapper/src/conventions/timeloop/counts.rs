//! Accesses of each storage level by each operand, per instance.

use presil_numerics::ids::Id;
use presil_workloads::{Affine, Einsum};

use super::deltas::{Step, Totals, Walk};
use super::nest::{Loop, Nest};
use super::space::Space;
use super::{ConventionError, Release, beyond};
use crate::hierarchy::{access_of, operand_count};
use crate::looptree::tile_shape;

/// What one instance of a storage level does for one operand.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Count {
    /// Elements of the tile.
    pub tile: u64,
    /// Distinct elements over the run.
    pub partition: u64,
    /// Reads.
    pub reads: u64,
    /// Writes from above.
    pub fills: u64,
    /// Writes from below.
    pub updates: u64,
    /// Values added to what is here.
    pub reductions: u64,
}

/// Counts by storage level and operand; none where the operand is not kept.
pub(super) type Counts = Vec<Vec<Option<Count>>>;

/// Counts all accesses of a nest.
pub(super) fn count(
    release: Release,
    einsum: &Einsum,
    nest: &Nest,
) -> Result<Counts, ConventionError> {
    let mut counts: Counts = nest.storages.iter().map(|_| Vec::new()).collect();
    for operand in 0..operand_count(einsum) {
        let chain = Chain::new(release, einsum, nest, operand)?;
        let is_output = operand == einsum.inputs.len();
        for (level, count) in chain.counts(nest, is_output).into_iter().enumerate() {
            counts[level].push(count);
        }
    }
    Ok(counts)
}

/// What one operand's storage levels move, before levels that do not keep it are passed over.
struct Chain {
    operand: usize,
    tiles: Vec<u64>,
    partitions: Vec<u64>,
    /// Read out of each level to those below.
    accesses: Vec<f64>,
    /// Received by all instances below each level.
    received: Vec<f64>,
    /// Received by them from neighbours.
    linked: Vec<f64>,
    /// Average that an instance of each level receives from above.
    shares: Vec<f64>,
}

impl Chain {
    fn new(
        release: Release,
        einsum: &Einsum,
        nest: &Nest,
        operand: usize,
    ) -> Result<Self, ConventionError> {
        let words = |tiles: &[u64]| words(einsum, operand, tiles);
        let mut chain = Self {
            operand,
            tiles: Vec::new(),
            partitions: Vec::new(),
            accesses: Vec::new(),
            received: Vec::new(),
            linked: Vec::new(),
            shares: Vec::new(),
        };
        for (level, storage) in nest.storages.iter().enumerate() {
            let tile = words(&storage.tiles)?;
            let partition = match level.checked_sub(1) {
                None => tile,
                Some(parent) if nest.storages[parent].spatial.is_empty() => {
                    chain.partitions[parent]
                }
                Some(parent) => {
                    let union = words(&nest.storages[parent].union)?;
                    let share = u128::from(chain.partitions[parent]) * u128::from(tile);
                    (share / u128::from(union.max(1))) as u64
                }
            };
            let totals = walk(release, einsum, nest, level, operand)?;
            chain.shares.push(match level.checked_sub(1) {
                None => 0.0,
                Some(parent) => chain.received[parent] / nest.storages[parent].fanout() as f64,
            });
            chain.tiles.push(tile);
            chain.partitions.push(partition);
            chain.accesses.push(totals.reads as f64);
            chain.received.push(totals.received as f64);
            chain.linked.push(totals.linked as f64);
        }
        Ok(chain)
    }

    /// Passes what is asked of levels that do not keep the operand to the next outer one.
    fn pass_over(&mut self, nest: &Nest, level: usize) {
        let Some(outer) = level.checked_sub(1) else {
            return;
        };
        let all_children = self.accesses[level] * nest.storages[outer].fanout() as f64;
        let factor = all_children / self.received[outer];
        self.accesses[outer] *= factor;
        self.received[outer] *= factor;
        self.linked[outer] = 0.0;
    }

    fn counts(mut self, nest: &Nest, is_output: bool) -> Vec<Option<Count>> {
        let levels = nest.storages.len();
        let keeps: Vec<bool> = nest
            .storages
            .iter()
            .map(|s| s.keeps.has(self.operand))
            .collect();
        // Links are told by the network of the level above, whether or not that keeps the operand; a level that
        // is passed over has lost its own.
        for level in (0..levels).rev().filter(|l| !keeps[*l]) {
            self.pass_over(nest, level);
        }
        let outermost = keeps.iter().position(|k| *k);
        // Nothing comes to the outermost level that keeps the operand.
        self.linked
            .iter_mut()
            .take(outermost.unwrap_or(0))
            .for_each(|l| *l = 0.0);
        (0..levels)
            .map(|level| {
                let first = Some(level) == outermost;
                keeps[level].then(|| self.count(nest, level, first, is_output))
            })
            .collect()
    }

    fn count(&self, nest: &Nest, level: usize, outermost: bool, is_output: bool) -> Count {
        let peer = match level.checked_sub(1) {
            Some(parent) => self.linked[parent] / nest.storages[level].instances as f64,
            None => 0.0,
        };
        let accesses = self.accesses[level];
        let partition = self.partitions[level] as f64;
        let share = if outermost { 0.0 } else { self.shares[level] };
        let count = Count {
            tile: self.tiles[level],
            partition: self.partitions[level],
            ..Count::default()
        };
        if is_output {
            let again = (accesses + peer - partition).round() as u64;
            let held = if outermost { 0.0 } else { partition };
            Count {
                reads: again,
                fills: (share + peer - held).round() as u64,
                updates: accesses.round() as u64,
                reductions: again,
                ..count
            }
        } else {
            Count {
                reads: (accesses + peer).round() as u64,
                fills: (share + peer) as u64,
                ..count
            }
        }
    }
}

/// Elements of a tile.
fn words(einsum: &Einsum, operand: usize, tiles: &[u64]) -> Result<u64, ConventionError> {
    let shape = tile_shape(einsum, operand, tiles);
    shape
        .into_iter()
        .try_fold(1u64, u64::checked_mul)
        .ok_or_else(|| beyond("counts at most 2^64 elements"))
}

/// What the children of a storage level ask for.
fn walk(
    release: Release,
    einsum: &Einsum,
    nest: &Nest,
    level: usize,
    operand: usize,
) -> Result<Totals, ConventionError> {
    let ranks = &access_of(einsum, operand).ranks;
    let moves = |l: &Loop| -> Vec<i64> { ranks.iter().map(|r| step_of(r, l)).collect() };
    let steps: Vec<Step> = nest.storages[..=level]
        .iter()
        .flat_map(|s| &s.temporal)
        .map(|l| Step {
            trips: l.trips,
            moves: moves(l),
        })
        .collect();
    let storage = &nest.storages[level];
    let space = storage.grid.map(|grid| {
        let spatial: Vec<Vec<i64>> = storage.spatial.iter().map(moves).collect();
        let shares = grid.shares.has(operand);
        Space::new(&storage.spatial, &spatial, grid, shares, ranks.len())
    });
    // The compute units hold nothing: below the last level every iteration asks again.
    let innermost = level + 1 == nest.storages.len();
    let shape = tile_shape(einsum, operand, &nest.tiles_below(level));
    let extents = shape.into_iter().map(|e| e as i64).collect();
    Walk::new(release, &steps, extents, !innermost, space)
        .totals()
        .ok_or_else(|| beyond("counts at most 2^128 accesses"))
}

/// How far one iteration of a loop moves an index.
fn step_of(rank: &Affine, l: &Loop) -> i64 {
    let along = rank.terms.iter().filter(|(d, _)| d.index() == l.dim);
    along.map(|(_, c)| c * l.step as i64).sum()
}
