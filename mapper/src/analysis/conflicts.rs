//! Bank conflicts of the instances below a memory that read or write it at once.
//!
//! The lanes of an access are the instances of the spatial loops between a memory and what it feeds, along the dimensions that
//! the operand has (others want the same words). Lane `i` of a loop over dimension `d` in steps of `t` is
//! `i t x sum over ranks (coefficient of d x pitch of the rank)` bytes from the first one. Pitches are those of the tensor where the
//! memory is its home; else those of the tile alone, its ranks in the same order. [`presil_hwmodels::banks`] tells what
//! the lanes' banks make of it.
//!
//! Operands that are packed for the mapping (weights) have no conflicts. A chip file asks for them by `bank_width`
//! beside `banks`. They are in simulated times, as time of the memory's port, and not in the analytic cost that mappings are
//! searched by: a stride modulo the banks is no monotone function of tile sizes, and bounds of the search would not hold.

use presil_hwmodels::banks::Axis;
use presil_hwmodels::{NodeId, Operand};
use presil_numerics::ids::Id;
use presil_workloads::{DimId, Einsum};

use super::counts::{Counts, Edge, Prepared};
use super::nest::Nest;
use super::runs::Layout;
use super::traffic;
use crate::hierarchy::access_of;
use crate::mapping::Mapping;
use crate::problem::Problem;

/// Conflicts of an operand in a memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conflict {
    /// The memory.
    pub memory: NodeId,
    /// The operand.
    pub operand: Operand,
    /// How much longer its accesses take: above 1.
    pub factor: f64,
}

/// What has conflicts under a mapping.
pub fn conflicts(problem: &Problem, mapping: &Mapping) -> Vec<Conflict> {
    let banked = |n: &NodeId| {
        let memory = problem.chip.nodes[*n].memory();
        memory.is_some_and(|m| m.banks.is_some())
    };
    if !problem.path.iter().any(banked) {
        return Vec::new();
    }
    let nest = Nest::new(problem, mapping.steps());
    let prepared = Prepared::new(problem.einsum);
    let counts = Counts::new(problem.einsum, &prepared, &nest);
    let of = |edge: &Edge| Conflict {
        memory: problem.path[edge.parent],
        operand: traffic::operand(edge),
        factor: factor(problem, &nest, edge),
    };
    let all = counts.edges.iter().map(of);
    all.filter(|c| c.factor > 1.0).collect()
}

/// How much longer the accesses of an edge take its parent.
pub(super) fn factor(problem: &Problem, nest: &Nest, edge: &Edge) -> f64 {
    let node = problem.path[edge.parent];
    let banks = problem.chip.nodes[node].memory().and_then(|m| m.banks);
    let operand = traffic::operand(edge).index();
    let (Some(banks), Some(lies)) = (banks, &problem.lies[operand]) else {
        return 1.0;
    };
    let einsum = problem.einsum;
    let access = access_of(einsum, edge.operand);
    let layout = Layout::new(access, lies, problem.bits[operand], |d| Some(d.0 as usize));
    let mut tile: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
    for l in &nest.loops[..edge.from] {
        tile[l.dim] = l.tile;
    }
    let home = problem.home[operand] == node;
    let pitches = layout.pitches((!home).then_some(&tile));
    let lanes = nest.loops[edge.from..edge.to].iter();
    let lanes = lanes.filter(|l| l.network.is_some() && l.trips > 1);
    let named = lanes.filter(|l| Einsum::names(access, DimId::new(l.dim)));
    let axes: Vec<Axis> = named
        .map(|l| Axis {
            lanes: l.trips,
            stride: (layout.step(&pitches, l.dim) * l.tile as f64).round() as u64,
        })
        .collect();
    banks.strided(&axes).factor()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mapping::Step;
    use crate::oracle::{cases, chips};
    use crate::problem::Lies;
    use presil_hwmodels::{Banks, Fanout, Memory, NodeKind, OperandSet};
    use presil_numerics::{Bytes, JoulesPerBit};

    /// Eight instances that each take a row of an int8 matrix out of eight banks of a byte.
    fn rows_of(pitch: u64, at_home: bool) -> Vec<Conflict> {
        let einsum = cases::matmul(8, 2, pitch.min(8));
        let banked = Memory {
            banks: Some(Banks {
                count: 8,
                width: Bytes(1),
            }),
            ..chips::memory()
        };
        let fanout = NodeKind::Fanout(Fanout {
            dims: vec![chips::axis(8, OperandSet::NONE, false)],
            hop_energy: JoulesPerBit(0.0),
            network: None,
        });
        let root = match at_home {
            true => Vec::new(),
            false => vec![NodeKind::Memory(chips::memory())],
        };
        let kinds = root.into_iter().chain([NodeKind::Memory(banked), fanout]);
        let chip = chips::chip(kinds.collect());
        let mut problem = chips::problem(&einsum, &chip);
        problem.lies[0] = Some(Lies {
            pitch_bits: vec![8 * pitch, 8],
        });
        let memories = if at_home { 1 } else { 2 };
        let mut steps = Vec::new();
        for memory in 0..memories {
            steps.extend(Operand::ALL.map(|operand| Step::Store {
                memory: NodeId(memory),
                operand,
            }));
        }
        steps.push(Step::Spatial {
            fanout: NodeId(memories),
            axis: 0,
            dim: DimId(0),
            tile: 1,
        });
        steps.extend([1, 2].map(|d| Step::Temporal {
            dim: DimId(d),
            tile: 1,
        }));
        conflicts(&problem, &Mapping::new(&problem, steps).unwrap())
    }

    #[test]
    fn lanes_meet_where_their_stride_and_the_banks_share_a_factor() {
        let input = |pitch: u64, at_home: bool| {
            let all = rows_of(pitch, at_home);
            assert!(all.iter().all(|c| c.operand == Operand::Input), "{all:?}");
            all.first().map_or(1.0, |c| c.factor)
        };
        for (pitch, factor) in [(1, 1.0), (2, 2.0), (3, 1.0), (4, 4.0), (6, 2.0), (8, 8.0)] {
            assert_eq!(input(pitch, true), factor, "{pitch} bytes");
            assert_eq!(input(pitch, false), factor, "{pitch} bytes in a tile");
        }
        // A byte of padding sets rows apart where they are at home; a tile by itself has none.
        assert_eq!((input(9, true), input(9, false)), (1.0, 8.0));
    }
}
