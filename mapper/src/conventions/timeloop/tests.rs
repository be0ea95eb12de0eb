#![expect(clippy::unwrap_used, reason = "tests")]

//! The walk of remembered states against a plain simulation of boxes, instances and neighbours.

use proptest::prelude::*;

use super::Release;
use super::deltas::{Step, Totals, Walk};
use super::nest::{Grid, Loop};
use super::space::Space;
use crate::hierarchy::Mask;

/// `[low, high)` of each rank.
type Box = Vec<(i64, i64)>;

fn size(b: &Box) -> u128 {
    b.iter().map(|(l, h)| (h - l) as u128).product()
}

/// `b` without what `held` covers, if they differ along one axis only; boxes of the same shape.
fn without(b: &Box, held: &Box) -> Box {
    let differing: Vec<usize> = (0..b.len()).filter(|r| b[*r] != held[*r]).collect();
    match differing[..] {
        [] => b.iter().map(|_| (0, 0)).collect(),
        [r] if held[r].1 > b[r].0 && held[r].0 < b[r].1 => {
            let mut rest = b.clone();
            rest[r] = if held[r].0 < b[r].0 {
                (held[r].1, b[r].1)
            } else {
                (b[r].0, held[r].0)
            };
            rest
        }
        _ => b.clone(),
    }
}

struct Simulation {
    release: Release,
    holds: bool,
    extents: Vec<i64>,
    offsets: Vec<Vec<i64>>,
    grid: Grid,
    shares: bool,
    held: Option<Box>,
    stride: Option<Vec<i64>>,
    before: Option<Vec<Box>>,
    totals: Totals,
}

impl Simulation {
    fn run(&mut self, steps: &[Step], origin: Vec<i64>, times: u128) {
        let Some((step, inner)) = steps.split_first() else {
            self.visit(&origin, times);
            return;
        };
        self.run(inner, origin.clone(), times);
        let moved = origin.iter().zip(&step.moves).map(|(o, m)| o + m).collect();
        self.run(inner, moved, times * u128::from(step.trips - 1));
    }

    fn visit(&mut self, origin: &[i64], times: u128) {
        let tile: Box = origin
            .iter()
            .zip(&self.extents)
            .map(|(o, e)| (*o, o + e))
            .collect();
        let delta = self.delta(&tile);
        let deltas: Vec<Box> = self
            .offsets
            .iter()
            .map(|o| {
                delta
                    .iter()
                    .zip(o)
                    .map(|((l, h), o)| (l + o, h + o))
                    .collect()
            })
            .collect();
        let plain = self.ask(&deltas, |_| false, times);
        let before = self.before.replace(deltas.clone());
        let linked = self.ask(
            &deltas,
            |i| {
                before
                    .as_ref()
                    .is_some_and(|b| size(&delta) > 0 && self.neighbour_had(i, &deltas, b))
            },
            times,
        );
        let best = if linked.reads < plain.reads {
            linked
        } else {
            plain
        };
        self.totals.reads += best.reads;
        self.totals.received += best.received;
        self.totals.linked += best.linked;
    }

    fn delta(&mut self, tile: &Box) -> Box {
        let held = self.held.replace(tile.clone());
        let Some(held) = held.filter(|_| self.holds) else {
            return tile.clone();
        };
        let moved: Vec<i64> = tile.iter().zip(&held).map(|(t, h)| t.0 - h.0).collect();
        if self.release == Release::Current && moved.iter().all(|m| *m == 0) {
            return without(tile, &held);
        }
        match &self.stride {
            Some(stride) if *stride != moved => {
                self.stride = None;
                tile.clone()
            }
            _ => {
                self.stride = Some(moved);
                without(tile, &held)
            }
        }
    }

    fn ask(&self, deltas: &[Box], linked: impl Fn(usize) -> bool, times: u128) -> Totals {
        let mut totals = Totals::default();
        let mut read: Vec<&Box> = Vec::new();
        for (i, delta) in deltas.iter().enumerate() {
            let n = size(delta) * times;
            if linked(i) {
                totals.linked += n;
                continue;
            }
            totals.received += n;
            if !self.shares || !read.contains(&delta) {
                read.push(delta);
                totals.reads += n;
            }
        }
        totals
    }

    fn neighbour_had(&self, i: usize, now: &[Box], before: &[Box]) -> bool {
        let columns = self.grid.columns as usize;
        let place = |i: usize| (i / columns, i % columns);
        (0..before.len()).any(|n| {
            let ((r, c), (s, d)) = (place(i), place(n));
            r.abs_diff(s) + c.abs_diff(d) == 1 && before[n] == now[i]
        })
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (2u64..4, prop::collection::vec(-2i64..4, 2));
    let step = step.prop_map(|(trips, moves)| Step { trips, moves });
    prop::collection::vec(step, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_walk_agrees_with_a_simulation(
        steps in steps(),
        extents in prop::collection::vec(1i64..5, 2),
        spatial in prop::collection::vec((2u64..4, prop::collection::vec(-1i64..3, 2)), 0..3),
        more_columns in 0u64..3,
        rows in any::<bool>(),
        shares in any::<bool>(),
        holds in any::<bool>(),
        current in any::<bool>(),
    ) {
        let release = if current { Release::Current } else { Release::BeforeTranslationFix };
        let loops: Vec<Loop> = spatial.iter().map(|(trips, _)| Loop { dim: 0, trips: *trips, step: 1 }).collect();
        let moves: Vec<Vec<i64>> = spatial.iter().map(|(_, m)| m.clone()).collect();
        let instances: u64 = loops.iter().map(|l| l.trips).product();
        let inner = loops.last().map_or(1, |l| l.trips);
        let grid = Grid {
            columns: if rows { inner } else { instances } + more_columns,
            rows: if rows { instances.div_ceil(inner) } else { 1 },
            shares: Mask::ALL,
        };
        let space = Space::new(&loops, &moves, grid, shares, 2);
        let got = Walk::new(release, &steps, extents.clone(), holds, Some(space)).totals().unwrap();

        let mut offsets = vec![vec![0i64; 2]];
        for (l, m) in loops.iter().zip(&moves) {
            offsets = offsets.iter().flat_map(|o| {
                (0..l.trips as i64).map(move |i| vec![o[0] + m[0] * i, o[1] + m[1] * i])
            }).collect();
        }
        let mut simulation = Simulation {
            release, holds, extents, offsets, grid, shares,
            held: None, stride: None, before: None, totals: Totals::default(),
        };
        simulation.run(&steps, vec![0, 0], 1);
        prop_assert_eq!(got, simulation.totals);
    }
}

/// Loops that an operand does not depend on are free; the walk's effort stays small with many loops.
#[test]
fn many_loops_are_walked_at_once() {
    let still = |trips| Step {
        trips,
        moves: vec![0],
    };
    let mut steps: Vec<Step> = (0..60).map(|_| still(2)).collect();
    steps.push(Step {
        trips: 16,
        moves: vec![1],
    });
    let totals = Walk::new(Release::Current, &steps, vec![3], true, None)
        .totals()
        .unwrap();
    // The window is fetched anew in each of 2^60 passes: 3 + 15 x 1.
    assert_eq!(totals.reads, 18 << 60);
}
