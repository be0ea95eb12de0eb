//! Random chips and problems, for the tests.

use presil_hwmodels::{
    Chip, Clock, ClockId, Compute, DimSelector, Engine, EngineId, EngineKind, Fanout, FanoutDim,
    MacMode, Mapspace, Memory, MemoryKind, Node, NodeId, NodeKind, Numerics, Operand, OperandSet,
    Overlap, PowerStates,
};
use presil_numerics::{
    Bytes, BytesPerSecond, ClockDomain, Format, Hertz, Joules, JoulesPerBit, Seconds, SquareMm,
    Watts,
};
use presil_workloads::Einsum;

use super::cases::{self, Random};
use crate::hierarchy::{Axis, FanoutLevel, Hierarchy, Level, Mask, MemoryLevel};
use crate::looptree;
use crate::mapping::{Step, selects};
use crate::problem::Problem;

/// A memory that keeps everything, with round figures.
pub(crate) fn memory() -> Memory {
    Memory {
        kind: MemoryKind::Sram,
        capacity: Bytes(1 << 30),
        word: Bytes(8),
        read_rate: BytesPerSecond(1e9),
        write_rate: BytesPerSecond(1e9),
        shared_port: false,
        streaming_efficiency: 1.0,
        read_energy: JoulesPerBit(0.0),
        write_energy: JoulesPerBit(0.0),
        static_power: Watts(0.0),
        area: SquareMm(0.0),
        keeps: OperandSet::ALL,
        must_keep: OperandSet::NONE,
        buffering: 2,
        resident: true,
        overlap: Overlap::Keep,
        latency: Seconds(0.0),
        setup: Seconds(0.0),
        burst: Bytes(1),
        rows: None,
        turns: None,
        banks: None,
        in_flight: presil_hwmodels::InFlight::default(),
        compression: None,
        gating: None,
        clock: None,
    }
}

/// A fanout dimension that accepts everything.
pub(crate) fn axis(size: u64, multicast: OperandSet, reduces: bool) -> FanoutDim {
    use DimSelector::{Group, OutputChannel, Pixel, Reduction};
    let accepts = vec![Reduction, OutputChannel, Pixel, Group];
    FanoutDim {
        name: "x".into(),
        size,
        multicast,
        reduces,
        accepts,
        per_stream: size,
    }
}

/// A chip that is a chain of nodes under which int8 MACs run at 1 GHz, one a cycle.
pub(crate) fn chip(kinds: Vec<NodeKind>) -> Chip {
    let mac = MacMode {
        input: int(8),
        weight: int(8),
        accumulate: int(32),
        macs_per_cycle: 1.0,
        energy: Joules(0.0),
        structured: None,
    };
    let compute = Compute {
        clock: ClockId(0),
        modes: vec![mac],
        area: SquareMm(0.0),
        static_power: Watts(0.0),
        gating: None,
    };
    let mut chip = Chip {
        name: "test".into(),
        description: String::new(),
        node_nm: 7.0,
        clocks: Default::default(),
        nodes: Default::default(),
        engines: Default::default(),
        kernels: None,
        power: PowerStates::default(),
        blocks: None,
        movement: presil_hwmodels::Movement::DEFAULT,
        mapspace: Mapspace {
            prefetch_weights: false,
            keep_activations: false,
            keep_weights: false,
            fuse_cascades: false,
            fuse_groups: presil_hwmodels::FuseGroups::None,
            launch_groups_once: false,
            row_stationary: None,
            prefetch_ops: None,
        },
        numerics: Numerics::default(),
        other_power: Watts(0.0),
        other_area: SquareMm(0.0),
        provenance: vec![],
        hash: String::new(),
    };
    let domain = ClockDomain::new(Hertz(1e9)).unwrap();
    chip.clocks.push(Clock {
        name: "core".into(),
        domain,
    });
    let mut instances = 1;
    let mut parent = None;
    for (i, kind) in kinds
        .into_iter()
        .chain([NodeKind::Compute(compute)])
        .enumerate()
    {
        let below = if let NodeKind::Fanout(f) = &kind {
            f.instances()
        } else {
            1
        };
        parent = Some(chip.nodes.push(Node {
            name: format!("n{i}"),
            parent,
            instances,
            kind,
        }));
        instances *= below;
    }
    let kind = EngineKind::Array {
        compute: parent.unwrap(),
        fill_cycles: 0,
        drain_cycles: 0,
    };
    let (area, static_power, launch) = (SquareMm(0.0), Watts(0.0), Seconds(0.0));
    chip.engines.push(Engine {
        name: "array".into(),
        kind,
        area,
        static_power,
        launch,
    });
    chip
}

/// A random chain of one to four memories and up to two fanouts.
pub(crate) fn random_chip(r: &mut Random) -> Chip {
    let (memories, fanouts) = (r.int(0, 3), r.int(0, 2));
    let mut kinds: Vec<NodeKind> = Vec::new();
    for _ in 0..memories {
        let overlap = if r.chance(70) {
            Overlap::Keep
        } else {
            Overlap::Refetch
        };
        let keeps = if r.chance(60) {
            OperandSet::ALL
        } else {
            OperandSet(r.int(1, 7) as u8)
        };
        kinds.push(NodeKind::Memory(Memory {
            overlap,
            keeps,
            shared_port: r.chance(30),
            read_energy: JoulesPerBit(r.int(1, 9) as f64 * 1e-12),
            write_energy: JoulesPerBit(r.int(1, 9) as f64 * 1e-12),
            ..memory()
        }));
    }
    for _ in 0..fanouts {
        let dims = (0..r.int(1, 2))
            .map(|_| axis(r.int(2, 5), OperandSet(r.int(0, 7) as u8), r.chance(50)))
            .collect();
        kinds.push(NodeKind::Fanout(Fanout {
            dims,
            hop_energy: JoulesPerBit(1e-12),
            network: None,
        }));
    }
    r.shuffle(&mut kinds);
    kinds.insert(0, NodeKind::Memory(memory()));
    chip(kinds)
}

/// The problem of an einsum on a chip, all operands at home in the root.
pub(crate) fn problem<'a>(einsum: &'a Einsum, chip: &'a Chip) -> Problem<'a> {
    let EngineKind::Array { compute, .. } = chip.engines[EngineId(0)].kind else {
        unreachable!()
    };
    let path = chip.path(compute);
    let capacity = path.iter().map(|_| Bytes(1 << 30)).collect();
    Problem {
        einsum,
        chip,
        engine: EngineId(0),
        path,
        bits: [8.0; 3],
        accumulate: int(32),
        mode: 0,
        home: [NodeId(0); 3],
        capacity,
        lies: [const { None }; 3],
    }
}

/// What a mapping of a problem may look like: its path, and what may be kept where.
fn sketch(problem: &Problem) -> Hierarchy {
    let set = |has: &dyn Fn(Operand) -> bool| {
        let some = Operand::ALL.into_iter().filter(|o| has(*o));
        some.fold(Mask::NONE, |mask, o| mask.with(o.index()))
    };
    let axis = |a: &FanoutDim| {
        let einsum = problem.einsum;
        let accepts = einsum
            .dim_ids()
            .filter(|d| a.accepts.iter().any(|s| selects(einsum, s, *d)));
        Axis {
            size: a.size,
            accepts: accepts.fold(Mask::NONE, |mask, d| mask.with(d.0 as usize)),
            ..cases::axis(1)
        }
    };
    let level = |node: &NodeId| match &problem.chip.nodes[*node].kind {
        NodeKind::Memory(_) => Level::Memory(MemoryLevel {
            keeps: set(&|o| problem.levels_below_home(o).contains(node)),
            ..MemoryLevel::unlimited("", 3, 8.0)
        }),
        NodeKind::Fanout(f) => Level::Fanout(FanoutLevel {
            axes: f.dims.iter().map(axis).collect(),
            ..cases::fanout()
        }),
        NodeKind::Compute(_) => Level::Compute(cases::compute()),
    };
    Hierarchy {
        name: String::new(),
        levels: problem.path.iter().map(level).collect(),
    }
}

/// A random legal mapping.
pub(crate) fn mapping(r: &mut Random, problem: &Problem) -> Vec<Step> {
    let place = |n| problem.path.iter().position(|p| *p == n).unwrap();
    let homes = problem.home.map(|h| Some(place(h)));
    let tree = cases::tree(r, problem.einsum, &sketch(problem), &homes);
    let step = |node: &looptree::Node| match *node {
        looptree::Node::Keep { level, operand } => Step::Store {
            memory: problem.path[level],
            operand: Operand::ALL[operand],
        },
        looptree::Node::Temporal { dim, tile } => Step::Temporal { dim, tile },
        looptree::Node::Spatial {
            level,
            axis,
            dim,
            tile,
        } => Step::Spatial {
            fanout: problem.path[level],
            axis: axis as u8,
            dim,
            tile,
        },
    };
    tree.nodes.iter().map(step).collect()
}

pub(crate) fn int(bits: u8) -> Format {
    Format::Int { bits, signed: true }
}
