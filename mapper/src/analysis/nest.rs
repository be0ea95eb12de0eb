//! A mapping flattened for analysis: its loops, and for each operand where it is stored.
//!
//! Operands are numbered as in the einsum (inputs in order, then the output), levels by their place on the path
//! from the outermost memory to the compute. A [`Nest`] is made from a mapping of a [`Problem`] or from a loop
//! tree on a [`Hierarchy`]; the counts know neither.
//!
//! Loops of one iteration are dropped: they change nothing. A loop's iterations of dimension `d` are counted in
//! mixed radix: the tile at loop digits `i_0, i_1, ..` starts at `sum(i_l * tile_l)`, and exists if that is below
//! the extent. Only the outermost loop of a dimension may leave a remainder, so inner digits are complete except
//! in the last outer tile.

use presil_hwmodels::{FanoutDim, NodeKind, Operand, Overlap};
use presil_numerics::ids::Id;
use presil_workloads::{Access, DimId, Domain, Einsum};

use crate::hierarchy::{Hierarchy, Mask, operand_count};
use crate::looptree::{LoopTree, Node};
use crate::mapping::Step;
use crate::problem::Problem;

/// The network that a spatial loop lies on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network {
    /// Level of the fanout.
    pub(crate) level: usize,
    /// Which of its axes.
    pub(crate) axis: usize,
    /// Operands of which one transfer serves all iterations, for what their tiles have in common; of the output:
    /// whose common elements are summed on the way up. Those that the axis shares under loops that do not index
    /// them, and those whose overlap it shares.
    pub(crate) serves: Mask,
}

/// A loop of more than one iteration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loop {
    /// Index of the dimension.
    pub(crate) dim: usize,
    /// Tile inside the loop.
    pub(crate) tile: u64,
    /// Iterations in a full outer tile.
    pub(crate) trips: u64,
    /// Where its iterations lie in space; none if they follow each other in time.
    pub(crate) network: Option<Network>,
    /// Whether its iterations may update the same output element.
    pub(crate) scatters: bool,
    /// Whether all tiles of its dimension are full. Only the outermost loop of a dimension can leave a remainder.
    pub(crate) whole: bool,
}

/// A storage node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Store {
    /// Level of the memory.
    pub(crate) level: usize,
    /// Number of loops above it.
    pub(crate) above: usize,
    /// Whether a changed tile of an input enters whole.
    pub(crate) refetches: bool,
}

/// A flattened mapping.
#[derive(Debug, Clone)]
pub(crate) struct Nest {
    /// Loops from the outside in.
    pub(crate) loops: Vec<Loop>,
    /// Storage nodes of each operand, home first.
    pub(crate) chains: Vec<Vec<Store>>,
}

impl Nest {
    fn empty(operands: usize, nodes: usize) -> Self {
        Self {
            loops: Vec::with_capacity(nodes),
            chains: (0..operands).map(|_| Vec::with_capacity(4)).collect(),
        }
    }

    /// Flattens checked steps of a problem's mapping.
    pub(crate) fn new(problem: &Problem, steps: &[Step]) -> Self {
        let einsum = problem.einsum;
        let mut tiles = sizes(einsum);
        let mut nest = Self::empty(Operand::ALL.len(), steps.len());
        let place = |node| problem.path.iter().position(|p| *p == node);
        for step in steps {
            match *step {
                Step::Store { memory, operand } => {
                    if let Some(level) = place(memory) {
                        let m = problem.chip.nodes[memory].memory();
                        let overlap = m.map_or(Overlap::Keep, |m| m.overlap);
                        nest.keep(operand.index(), level, overlap);
                    }
                }
                Step::Temporal { dim, tile } => nest.cut(einsum, &mut tiles, dim, tile, None),
                Step::Spatial {
                    fanout,
                    axis,
                    dim,
                    tile,
                } => {
                    let NodeKind::Fanout(f) = &problem.chip.nodes[fanout].kind else {
                        continue;
                    };
                    let number = usize::from(axis);
                    if let Some((level, axis)) = place(fanout).zip(f.dims.get(number)) {
                        let network = Network {
                            level,
                            axis: number,
                            serves: shares(axis).minus(indexed(einsum, dim)),
                        };
                        nest.cut(einsum, &mut tiles, dim, tile, Some(network));
                    }
                }
            }
        }
        nest
    }

    /// Flattens a checked loop tree.
    pub(crate) fn of_tree(einsum: &Einsum, hierarchy: &Hierarchy, tree: &LoopTree) -> Self {
        let mut tiles = sizes(einsum);
        let mut nest = Self::empty(operand_count(einsum), tree.nodes.len());
        for node in &tree.nodes {
            match *node {
                Node::Keep { level, operand } => {
                    let memory = hierarchy.levels.get(level).and_then(|l| l.memory());
                    let overlap = memory.map_or(Overlap::Keep, |m| m.overlap);
                    nest.keep(operand, level, overlap);
                }
                Node::Temporal { dim, tile } => nest.cut(einsum, &mut tiles, dim, tile, None),
                Node::Spatial {
                    level,
                    axis,
                    dim,
                    tile,
                } => {
                    let fanout = hierarchy.levels.get(level).and_then(|l| l.fanout());
                    let number = axis;
                    if let Some(axis) = fanout.and_then(|f| f.axes.get(number)) {
                        let same = axis.shares.minus(indexed(einsum, dim));
                        let network = Network {
                            level,
                            axis: number,
                            serves: same.or(axis.shares_overlap),
                        };
                        nest.cut(einsum, &mut tiles, dim, tile, Some(network));
                    }
                }
            }
        }
        nest
    }

    fn keep(&mut self, operand: usize, level: usize, overlap: Overlap) {
        let above = self.loops.len();
        if let Some(chain) = self.chains.get_mut(operand) {
            chain.push(Store {
                level,
                above,
                refetches: overlap == Overlap::Refetch,
            });
        }
    }

    fn cut(
        &mut self,
        einsum: &Einsum,
        tiles: &mut [u64],
        dim: DimId,
        tile: u64,
        network: Option<Network>,
    ) {
        let Some(outer) = tiles.get_mut(dim.index()) else {
            return;
        };
        let dim = dim.index();
        let trips = outer.div_ceil(tile.max(1));
        let whole = *outer == trips * tile;
        *outer = tile;
        if trips > 1 {
            let outermost = self.loops.iter().find(|l| l.dim == dim);
            self.loops.push(Loop {
                dim,
                whole: outermost.map_or(whole, |l| l.whole),
                tile,
                trips,
                network,
                scatters: scatters(einsum, dim),
            });
        }
    }

    /// The number of the output.
    pub(crate) fn output(&self) -> usize {
        self.chains.len() - 1
    }

    /// Tile of every dimension under the first `above` loops.
    pub(crate) fn tiles(&self, einsum: &Einsum, above: usize) -> Vec<u64> {
        let mut tiles = sizes(einsum);
        for l in &self.loops[..above] {
            tiles[l.dim] = l.tile;
        }
        tiles
    }

    /// Instances under the first `above` loops.
    pub(crate) fn instances(&self, above: usize) -> u64 {
        let spatial = self.loops[..above].iter().filter(|l| l.network.is_some());
        spatial.map(|l| l.trips).product()
    }

    /// Whether the `order`-th storage of the output may hold partial sums: whether a loop above the next storage
    /// inside it (or above the compute) reduces, other than spatially on the way up between the two.
    pub(crate) fn holds_partial(&self, order: usize) -> bool {
        let output = self.output();
        let chain = &self.chains[output];
        let from = chain.get(order).map_or(0, |s| s.above);
        let to = chain.get(order + 1).map_or(self.loops.len(), |s| s.above);
        let mut above = self.loops[..to].iter().enumerate();
        above.any(|(i, l)| l.scatters && !(i >= from && l.serves(output)))
    }
}

impl Loop {
    /// Whether its iterations lie in space, and one transfer of an operand serves all of them.
    pub(crate) fn serves(&self, operand: usize) -> bool {
        self.network.is_some_and(|n| n.serves.has(operand))
    }
}

/// Operands that a dimension indexes.
fn indexed(einsum: &Einsum, dim: DimId) -> Mask {
    let operands = einsum.operands().enumerate();
    let indexed = operands.filter(|(_, a)| Einsum::names(a, dim));
    indexed.fold(Mask::NONE, |mask, (o, _)| mask.with(o))
}

fn sizes(einsum: &Einsum) -> Vec<u64> {
    einsum.dims.iter().map(|d| d.size).collect()
}

/// Operands that an axis of a chip's fanout serves together: those it multicasts, the output if it reduces.
pub(crate) fn shares(axis: &FanoutDim) -> Mask {
    let served = |o: &Operand| match o {
        Operand::Output => axis.reduces,
        _ => axis.multicast.has(*o),
    };
    let served = Operand::ALL.into_iter().filter(served);
    served.fold(Mask::NONE, |mask, o| mask.with(o.index()))
}

/// Whether points of different indices of a dimension may update the same output element: a reduced dimension,
/// or one that shares an output rank with others.
pub(crate) fn scatters(einsum: &Einsum, dim: usize) -> bool {
    let id = DimId::new(dim);
    let shares = |terms: &[(DimId, i64)]| {
        terms.iter().any(|t| t.0 == id)
            && terms.iter().filter(|t| einsum.dim(t.0).size > 1).count() > 1
    };
    // Rows of ragged groups share a rank but no element.
    let rows =
        matches!(einsum.domain, Domain::Ragged { group, row, .. } if group == id || row == id);
    einsum.is_reduced(id) || (!rows && einsum.output.ranks.iter().any(|r| shares(&r.terms)))
}

/// The access of an operand of a contraction.
pub(crate) fn access(einsum: &Einsum, operand: Operand) -> Option<&Access> {
    match operand {
        Operand::Input => einsum.inputs.first(),
        Operand::Weight => einsum.inputs.get(1),
        Operand::Output => Some(&einsum.output),
    }
}
