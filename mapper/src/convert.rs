//! A problem and its mapping on the neutral ground: as a hierarchy and a loop tree, to be told in any convention.

use presil_hwmodels::{Compute, NodeKind, Operand};
use presil_numerics::ids::Id;

use crate::analysis::nest::{Nest, shares};
use crate::analysis::{AnalysisError, Pattern, compute, nest};
use crate::hierarchy::{
    Axis, ComputeLevel, FanoutLevel, Hierarchy, Level, Mask, MemoryLevel, Port, Transfer,
};
use crate::looptree::{LoopTree, Node};
use crate::mapping::{Mapping, Step, selects};
use crate::problem::Problem;

/// Picojoules in a joule.
const PICO: f64 = 1e12;

/// The path of a problem as a hierarchy, and a mapping of it as a loop tree.
///
/// Level `i` is node `path[i]`; operands are input, weight, output. Cycles are those of the compute's clock; rates
/// are streaming rates. The output has the accumulator's width at memories that may hold partial sums, its final
/// width at the others. A memory's capacity is what the problem leaves to tiles, and what the whole tensors at
/// home there take. Static power stays out: it is paid for the time of a whole network. So do latency, set-up,
/// launch, fill and drain, which a hierarchy does not know.
///
/// # Errors
/// If the problem's path does not end in a compute node with its mode.
pub fn to_tree(
    problem: &Problem,
    mapping: &Mapping,
) -> Result<(Hierarchy, LoopTree), AnalysisError> {
    let (mac, mode) = compute(problem).ok_or(AnalysisError::NoCompute { mode: problem.mode })?;
    let nest = Nest::new(problem, mapping.steps());
    let level = |place: usize| match &problem.chip.nodes[problem.path[place]].kind {
        NodeKind::Memory(_) => Level::Memory(memory(problem, &nest, mac, place)),
        NodeKind::Fanout(f) => Level::Fanout(FanoutLevel {
            name: name(problem, place),
            axes: f.dims.iter().map(|a| axis(problem, a)).collect(),
            hop_energy: f.hop_energy.0 * PICO,
        }),
        NodeKind::Compute(_) => Level::Compute(ComputeLevel {
            name: name(problem, place),
            energy: mode.energy.0 * PICO,
            rate: mode.macs_per_cycle,
            leakage: 0.0,
        }),
    };
    let hierarchy = Hierarchy {
        name: problem.chip.name.clone(),
        levels: (0..problem.path.len()).map(level).collect(),
    };
    Ok((hierarchy, tree(problem, mapping)))
}

fn name(problem: &Problem, place: usize) -> String {
    problem.chip.nodes[problem.path[place]].name.clone()
}

fn memory(problem: &Problem, nest: &Nest, mac: &Compute, place: usize) -> MemoryLevel {
    let node = problem.path[place];
    let bits = Operand::ALL.map(|o| width(problem, nest, o, place));
    let at_home = Operand::ALL
        .into_iter()
        .filter(|o| problem.home[o.index()] == node);
    let whole = |o: Operand| {
        let access = nest::access(problem.einsum, o);
        let elements =
            Pattern::of(problem.einsum, access, None).tile_elements(&nest.tiles(problem.einsum, 0));
        elements as f64 * bits[o.index()]
    };
    let set = |has: &dyn Fn(Operand) -> bool| {
        let some = Operand::ALL.into_iter().filter(|o| has(*o));
        some.fold(Mask::NONE, |mask, o| mask.with(o.index()))
    };
    let inside_home = |o: Operand| {
        let home = problem
            .path
            .iter()
            .position(|n| *n == problem.home[o.index()]);
        home.is_some_and(|h| h < place)
    };
    let Some(m) = problem.chip.nodes[node].memory() else {
        return MemoryLevel::unlimited(name(problem, place), Operand::ALL.len(), 0.0);
    };
    let buffering = f64::from(m.buffering);
    let capacity = problem.capacity.get(place).copied().unwrap_or(m.capacity);
    let hertz = problem.chip.clocks[mac.clock].domain.frequency.0;
    let [reads, writes] = m.streams().map(|rate| rate.0 * 8.0 / hertz);
    MemoryLevel {
        capacity: 8.0 * capacity.0 as f64 + buffering * at_home.map(whole).sum::<f64>(),
        buffering,
        bits: bits.to_vec(),
        read_energy: m.read_energy.0 * PICO,
        write_energy: m.write_energy.0 * PICO,
        update_energy: m.write_energy.0 * PICO,
        ports: ports(reads, writes, m.shared_port),
        keeps: set(&|o| m.keeps.has(o) || problem.home[o.index()] == node),
        must_keep: set(&|o| m.must_keep.has(o) && inside_home(o)),
        overlap: m.overlap,
        ..MemoryLevel::unlimited(name(problem, place), Operand::ALL.len(), 0.0)
    }
}

/// Bits of an element of an operand at a memory under a mapping.
fn width(problem: &Problem, nest: &Nest, operand: Operand, place: usize) -> f64 {
    let chain = &nest.chains[operand.index()];
    let order = chain.iter().position(|s| s.level == place);
    let partial =
        operand == Operand::Output && order.is_some_and(|order| nest.holds_partial(order));
    if partial {
        problem.accumulate.bits() as f64
    } else {
        problem.bits[operand.index()]
    }
}

/// One port for everything where it is shared, else one for reads and one for writes.
fn ports(read_rate: f64, write_rate: f64, shared: bool) -> Vec<Port> {
    let carries = |some: &dyn Fn(Transfer) -> bool| {
        let operands = 0..Operand::ALL.len();
        let all = operands.flat_map(|o| Transfer::ALL.map(|t| (o, t)));
        all.filter(|(_, t)| some(*t)).collect()
    };
    let port = |name: &str, carries| Port {
        name: name.into(),
        read_rate,
        write_rate,
        granule: 1.0,
        access_energy: None,
        carries,
    };
    if shared {
        vec![port("port", carries(&|_| true))]
    } else {
        vec![
            port("read", carries(&Transfer::reads)),
            port("write", carries(&|t: Transfer| !t.reads())),
        ]
    }
}

fn axis(problem: &Problem, axis: &presil_hwmodels::FanoutDim) -> Axis {
    let einsum = problem.einsum;
    let accepted = einsum
        .dim_ids()
        .filter(|d| axis.accepts.iter().any(|s| selects(einsum, s, *d)));
    Axis {
        name: axis.name.clone(),
        size: axis.size,
        shares: shares(axis),
        shares_overlap: Mask::NONE,
        must_share: Mask::NONE,
        accepts: accepted.fold(Mask::NONE, |mask, d| mask.with(d.index())),
        min_usage: 0.0,
        systolic: false,
    }
}

fn tree(problem: &Problem, mapping: &Mapping) -> LoopTree {
    let level = |node| problem.path.iter().position(|p| *p == node);
    let node = |step: &Step| {
        Some(match *step {
            Step::Store { memory, operand } => Node::Keep {
                level: level(memory)?,
                operand: operand.index(),
            },
            Step::Temporal { dim, tile } => Node::Temporal { dim, tile },
            Step::Spatial {
                fanout,
                axis,
                dim,
                tile,
            } => Node::Spatial {
                level: level(fanout)?,
                axis: usize::from(axis),
                dim,
                tile,
            },
        })
    };
    LoopTree {
        nodes: mapping.steps().iter().filter_map(node).collect(),
    }
}
