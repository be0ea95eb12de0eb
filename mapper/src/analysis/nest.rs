//! A mapping flattened for analysis: its loops, and for each operand where it is stored.
//!
//! Loops of one iteration are dropped: they change nothing. A loop's iterations of dimension `d` are counted in
//! mixed radix: the tile at loop digits `i_0, i_1, ..` starts at `sum(i_l * tile_l)`, and exists if that is below
//! the extent. Only the outermost loop of a dimension may leave a remainder, so inner digits are complete except
//! in the last outer tile.

use presil_hwmodels::{NodeId, NodeKind, Operand, OperandSet};
use presil_numerics::ids::Id;
use presil_workloads::{Access, DimId, Domain, Einsum};

use crate::mapping::Step;
use crate::problem::Problem;

/// The network that a spatial loop lies on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network {
    pub(crate) fanout: NodeId,
    /// Operands that one read can deliver to all instances that need the same.
    pub(crate) multicast: OperandSet,
    /// Whether outputs are summed on the way up.
    pub(crate) reduces: bool,
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
}

/// A storage node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Store {
    pub(crate) memory: NodeId,
    /// Number of loops above it.
    pub(crate) above: usize,
}

/// A flattened mapping.
#[derive(Debug, Clone)]
pub(crate) struct Nest {
    /// Loops from the outside in.
    pub(crate) loops: Vec<Loop>,
    /// Storage nodes of each operand, home first.
    pub(crate) chains: [Vec<Store>; 3],
}

impl Nest {
    /// Flattens checked steps.
    pub(crate) fn new(problem: &Problem, steps: &[Step]) -> Self {
        let mut tiles: Vec<u64> = problem.einsum.dims.iter().map(|d| d.size).collect();
        let mut nest = Self {
            loops: Vec::with_capacity(steps.len()),
            chains: [Vec::new(), Vec::new(), Vec::new()],
        };
        for step in steps {
            let (dim, tile, network) = match *step {
                Step::Store { memory, operand } => {
                    nest.chains[operand.index()].push(Store {
                        memory,
                        above: nest.loops.len(),
                    });
                    continue;
                }
                Step::Temporal { dim, tile } => (dim, tile, None),
                Step::Spatial {
                    fanout,
                    axis,
                    dim,
                    tile,
                } => {
                    let NodeKind::Fanout(f) = &problem.chip.nodes[fanout].kind else {
                        continue;
                    };
                    let Some(axis) = f.dims.get(usize::from(axis)) else {
                        continue;
                    };
                    (
                        dim,
                        tile,
                        Some(Network {
                            fanout,
                            multicast: axis.multicast,
                            reduces: axis.reduces,
                        }),
                    )
                }
            };
            let Some(outer) = tiles.get_mut(dim.index()) else {
                continue;
            };
            let trips = outer.div_ceil(tile.max(1));
            *outer = tile;
            if trips > 1 {
                nest.loops.push(Loop {
                    dim: dim.index(),
                    tile,
                    trips,
                    network,
                });
            }
        }
        nest
    }

    /// Tile of every dimension under the first `above` loops.
    pub(crate) fn tiles(&self, einsum: &Einsum, above: usize) -> Vec<u64> {
        let mut tiles: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
        for l in &self.loops[..above] {
            tiles[l.dim] = l.tile;
        }
        tiles
    }
}

impl Nest {
    /// Whether the `order`-th storage of the output may hold partial sums: whether a loop above the next storage
    /// inside it (or above the compute) reduces, other than spatially on the way up between the two.
    pub(crate) fn holds_partial(&self, einsum: &Einsum, order: usize) -> bool {
        let chain = &self.chains[Operand::Output.index()];
        let from = chain.get(order).map_or(0, |s| s.above);
        let to = chain.get(order + 1).map_or(self.loops.len(), |s| s.above);
        self.loops[..to].iter().enumerate().any(|(i, l)| {
            let summed = i >= from
                && einsum.is_reduced(DimId::new(l.dim))
                && l.network.is_some_and(|n| n.reduces);
            scatters(einsum, l.dim) && !summed
        })
    }
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
