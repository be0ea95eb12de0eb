//! Why a mapping uses no more of an axis: for each dimension, what keeps more of it from lying there.
//!
//! The mapping is changed in one place at a time: some iterations of a dimension move from the nearest loop inside
//! or outside the axis onto it, and all else stays. The first reason that holds is told:
//!
//! - the axis does not accept the dimension;
//! - no iteration of it is left: all of them lie in space, or it has one;
//! - the axis has no room for twice as much of it, or one more;
//! - no tile divides the ones around it;
//! - the tiles that it needs do not fit a memory;
//! - a constraint does not allow it;
//! - it would be legal, and costs this: the best of the changes by the objective.

use presil_hwmodels::{DimSelector, NodeId, NodeKind};
use presil_numerics::Bytes;
use presil_workloads::DimId;

use super::{AxisUse, Usage, figures, objective};
use crate::analysis::Analyzer;
use crate::cost::Cost;
use crate::mapping::{Mapping, MappingError, Step, selects};
use crate::problem::Problem;
use crate::search::{Constraint, Objective, obedience};

/// Most trips tried on an axis for one dimension.
const MOST_TRIES: u64 = 4096;

/// Why one dimension does not use more of an axis.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// The axis accepts other dimensions only; these.
    Accepts(Vec<DimSelector>),
    /// All its iterations lie in space.
    Spent,
    /// The axis has no room for twice its present use.
    Room,
    /// No tile divides those around it.
    Factor,
    /// The tiles that it needs do not fit.
    Capacity {
        /// The memory.
        memory: String,
        /// Bytes of tiles, all copies counted.
        needed: Bytes,
        /// Bytes there are.
        available: Bytes,
    },
    /// A constraint does not allow it.
    Asked,
    /// It would be legal.
    Costs {
        /// Instances of the axis that would work.
        used: u64,
        /// Relative change of the time.
        time: f64,
        /// Relative change of the energy.
        energy: f64,
    },
}

/// Why an axis is not used more.
#[derive(Debug, Clone, PartialEq)]
pub struct AxisWhy {
    /// The axis as it is used.
    pub axis: AxisUse,
    /// By dimension of more than one iteration; empty for an axis in full use.
    pub reasons: Vec<(DimId, Reason)>,
}

/// Why a mapping uses no more of each axis; `usage` and `cost` are its own, and it obeys `constraints`.
pub fn why(
    problem: &Problem,
    constraints: &[Constraint],
    mapping: &Mapping,
    usage: &Usage,
    cost: &Cost,
    by: Objective,
) -> Vec<AxisWhy> {
    let obeys = obedience(problem, constraints);
    let (Ok(analyzer), Ok(obeys)) = (Analyzer::new(problem), obeys) else {
        return Vec::new();
    };
    let trial = Trial {
        problem,
        analyzer: &analyzer,
        obeys: &obeys,
        steps: mapping.steps(),
        now: figures(problem, cost),
        by,
    };
    let dims = || {
        problem
            .einsum
            .dim_ids()
            .filter(|d| problem.einsum.dim(*d).size > 1)
    };
    let axis = |axis: &AxisUse| AxisWhy {
        axis: axis.clone(),
        reasons: match axis.used < axis.size {
            true => dims().map(|d| (d, trial.reason(axis, d))).collect(),
            false => Vec::new(),
        },
    };
    usage.axes.iter().map(axis).collect()
}

struct Trial<'a> {
    problem: &'a Problem<'a>,
    analyzer: &'a Analyzer<'a>,
    obeys: &'a dyn Fn(&Mapping) -> bool,
    steps: &'a [Step],
    now: (f64, f64),
    by: Objective,
}

impl Trial<'_> {
    fn reason(&self, axis: &AxisUse, dim: DimId) -> Reason {
        let accepts = match &self.problem.chip.nodes[axis.fanout].kind {
            NodeKind::Fanout(f) => f.dims.get(usize::from(axis.axis)).map(|d| &d.accepts),
            _ => None,
        };
        let Some(accepts) = accepts else {
            return Reason::Accepts(Vec::new());
        };
        if !accepts.iter().any(|s| selects(self.problem.einsum, s, dim)) {
            return Reason::Accepts(accepts.clone());
        }
        if self.left_in_time(dim) < 2 {
            return Reason::Spent;
        }
        let room = axis.size / axis.used.max(1);
        if room < 2 {
            return Reason::Room;
        }
        let mut refused = None;
        let mut best: Option<(f64, Reason)> = None;
        for trips in (2..=room.min(MOST_TRIES)).rev() {
            for steps in self.variants(axis, dim, trips) {
                let mapping = match Mapping::new(self.problem, steps) {
                    Ok(mapping) => mapping,
                    Err(MappingError::Capacity {
                        memory,
                        needed,
                        available,
                    }) => {
                        // The fewest trips need the least.
                        refused = Some(Reason::Capacity {
                            memory,
                            needed,
                            available,
                        });
                        continue;
                    }
                    Err(_) => continue,
                };
                if !(self.obeys)(&mapping) {
                    refused = Some(Reason::Asked);
                    continue;
                }
                let Ok(cost) = self.analyzer.evaluate(&mapping) else {
                    continue;
                };
                let told = figures(self.problem, &cost);
                let value = objective(self.by, told);
                if best.as_ref().is_none_or(|b| value < b.0) {
                    let change = |x: f64, was: f64| if was > 0.0 { x / was - 1.0 } else { 0.0 };
                    let reason = Reason::Costs {
                        used: axis.used * trips,
                        time: change(told.0, self.now.0),
                        energy: change(told.1, self.now.1),
                    };
                    best = Some((value, reason));
                }
            }
        }
        best.map(|b| b.1).or(refused).unwrap_or(Reason::Factor)
    }

    /// Iterations of a dimension that follow each other in time.
    fn left_in_time(&self, dim: DimId) -> u64 {
        let mut tile = self.problem.einsum.dim(dim).size;
        let mut left = 1u64;
        for step in self.steps {
            match *step {
                Step::Temporal { dim: d, tile: t } if d == dim => {
                    left = left.saturating_mul(tile.div_ceil(t.max(1)));
                    tile = t;
                }
                Step::Spatial {
                    dim: d, tile: t, ..
                } if d == dim => tile = t,
                _ => {}
            }
        }
        left
    }

    /// The mapping with so many trips of a dimension moved onto an axis, from inside and from outside.
    fn variants(&self, axis: &AxisUse, dim: DimId, trips: u64) -> Vec<Vec<Step>> {
        let at = self.place(axis.fanout);
        let tile_of = |step: &Step| match *step {
            Step::Temporal { dim: d, tile } | Step::Spatial { dim: d, tile, .. } if d == dim => {
                Some(tile)
            }
            _ => None,
        };
        let (outside, inside) = self.steps.split_at(at);
        let size = self.problem.einsum.dim(dim).size;
        let tile = outside.iter().rev().find_map(tile_of).unwrap_or(size);
        let spread = |tile: u64| Step::Spatial {
            fanout: axis.fanout,
            axis: axis.axis,
            dim,
            tile,
        };
        let mut all = Vec::new();
        // From the loops inside: the tile is cut before it reaches them.
        if let Some(next) = inside.iter().find_map(tile_of) {
            let cut = tile.div_ceil(trips).next_multiple_of(next.max(1));
            if cut < tile && tile.div_ceil(cut) == trips {
                let mut steps = outside.to_vec();
                steps.push(spread(cut));
                steps.extend_from_slice(inside);
                all.push(steps);
            }
        }
        // From the nearest loop in time outside: its tile grows, and is cut here.
        let nearest = outside
            .iter()
            .rposition(|s| matches!(*s, Step::Temporal { dim: d, .. } if d == dim));
        let is_last = |n: usize| outside.iter().skip(n + 1).all(|s| tile_of(s).is_none());
        if let Some(n) = nearest.filter(|n| is_last(*n)) {
            let around = outside
                .iter()
                .take(n)
                .rev()
                .find_map(tile_of)
                .unwrap_or(size);
            let grown = tile.saturating_mul(trips).min(around);
            if grown.div_ceil(tile) == trips {
                let mut steps = outside.to_vec();
                steps[n] = Step::Temporal { dim, tile: grown };
                steps.push(spread(tile));
                steps.extend_from_slice(inside);
                all.push(steps);
            }
        }
        all
    }

    /// Where a loop on a fanout may stand: behind its own last one, or before the first step further in.
    fn place(&self, fanout: NodeId) -> usize {
        let place = |n: NodeId| self.problem.path.iter().position(|p| *p == n);
        let own = place(fanout);
        let last = self
            .steps
            .iter()
            .rposition(|s| matches!(*s, Step::Spatial { fanout: f, .. } if f == fanout));
        if let Some(last) = last {
            return last + 1;
        }
        let inner = |s: &Step| match *s {
            Step::Store { memory, .. } => place(memory) > own,
            Step::Spatial { fanout: f, .. } => place(f) > own,
            Step::Temporal { .. } => false,
        };
        self.steps
            .iter()
            .position(inner)
            .unwrap_or(self.steps.len())
    }
}
