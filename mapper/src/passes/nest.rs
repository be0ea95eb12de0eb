//! The passes as a loop nest.

use presil_hwmodels::{NodeId, Operand, PassParameters};
use presil_numerics::Bytes;

use super::choose::Machine;
use super::conv::{Conv, DIMS, dim};
use crate::mapping::{Mapping, Step};
use crate::problem::Problem;

/// Steps under way, with the tile of each dimension of [`DIMS`].
struct Nest<'p> {
    problem: &'p Problem<'p>,
    tiles: [u64; 8],
    steps: Vec<Step>,
}

impl Nest<'_> {
    fn at(name: &str) -> usize {
        DIMS.iter().position(|d| *d == name).unwrap_or(0)
    }

    fn keep(&mut self, memory: NodeId, operand: Operand) {
        self.steps.push(Step::Store { memory, operand });
    }

    /// A loop over a dimension down to a tile; none if the tile is that already.
    fn cut(&mut self, name: &str, tile: u64, place: Option<(NodeId, u8)>) -> Option<()> {
        let now = &mut self.tiles[Self::at(name)];
        let tile = tile.min(*now);
        if tile == *now {
            return Some(());
        }
        *now = tile;
        let dim = dim(self.problem.einsum, name)?;
        self.steps.push(match place {
            Some((fanout, axis)) => Step::Spatial {
                fanout,
                axis,
                dim,
                tile,
            },
            None => Step::Temporal { dim, tile },
        });
        Some(())
    }
}

/// The mapping that the passes are. Tiles of a row-stationary array are handed over word by word, not buffered
/// twice, so memories take as much as they hold. `None` if the parameters make no legal nest.
pub(super) fn mapping(
    problem: &Problem,
    machine: &Machine,
    conv: &Conv,
    x: &PassParameters,
) -> Option<Mapping> {
    let mut whole = problem.clone();
    for (node, capacity) in problem.path.iter().zip(&mut whole.capacity) {
        let copies = problem.chip.nodes[*node]
            .memory()
            .map_or(1, |m| m.buffering);
        *capacity = Bytes(capacity.0.saturating_mul(u64::from(copies)));
    }
    let sizes = [conv.n, conv.g, conv.k, conv.c, conv.out[0], conv.out[1]];
    let mut tiles = [1; 8];
    tiles[..6].copy_from_slice(&sizes);
    tiles[6..].copy_from_slice(&conv.filter);
    let mut nest = Nest {
        problem: &whole,
        tiles,
        steps: Vec::new(),
    };
    for operand in Operand::ALL {
        nest.keep(problem.home[operand.index()], operand);
    }
    let [rows, columns] = machine
        .axes
        .map(|a| Some((machine.fanout, u8::try_from(a).unwrap_or(0))));
    // Tiles of partial sums, channels, sets of filters: one pass each.
    for (name, tile) in [("n", x.n), ("g", 1), ("k", x.m), ("p", x.e), ("q", x.f)] {
        nest.cut(name, tile, None)?;
    }
    nest.keep(machine.buffer(), Operand::Output);
    nest.cut("c", x.q * x.r, None)?;
    nest.keep(machine.buffer(), Operand::Input);
    nest.cut("k", x.p * x.t, None)?;
    for node in problem.levels_below_home(Operand::Weight) {
        if node != machine.spads[1] {
            nest.keep(node, Operand::Weight);
        }
    }
    // Sets on the array.
    nest.cut("c", x.q, rows)?;
    nest.cut("k", x.p * machine.beside(conv, x), rows)?;
    nest.cut("r", 1, rows)?;
    let segment = x.e.div_ceil(machine.segments(x.e));
    nest.cut("p", segment, rows)?;
    nest.cut("k", x.p, columns)?;
    nest.cut("p", 1, columns)?;
    // In a PE: weights stay for the images and columns of a pass.
    nest.keep(machine.spads[1], Operand::Weight);
    for (name, tile) in [("n", 1), ("q", 1)] {
        nest.cut(name, tile, None)?;
    }
    nest.keep(machine.spads[0], Operand::Input);
    nest.keep(machine.spads[2], Operand::Output);
    for name in ["c", "s", "k"] {
        nest.cut(name, 1, None)?;
    }
    let steps = nest.steps;
    Mapping::new(&whole, steps).ok()
}
