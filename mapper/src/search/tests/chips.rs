//! Chips and einsums for the tests.

use presil_hwmodels::*;
use presil_numerics::*;
use presil_workloads::build::{Builder, Conv};
use presil_workloads::*;

use crate::Problem;

/// A memory of a size that keeps some operands ("iwo"), at so many bytes a cycle and picojoules a byte.
pub fn memory(capacity: u64, keeps: &str, bytes_per_cycle: f64, pj_per_byte: f64) -> Memory {
    let operands: Vec<Operand> = Operand::ALL
        .into_iter()
        .filter(|o| keeps.contains(&o.name()[..1]))
        .collect();
    let rate = BytesPerSecond(bytes_per_cycle * 1e9);
    Memory {
        kind: MemoryKind::Sram,
        capacity: Bytes(capacity),
        word: Bytes(1),
        read_rate: rate,
        write_rate: rate,
        shared_port: false,
        streaming_efficiency: 1.0,
        read_energy: JoulesPerBit(pj_per_byte * 1e-12 / 8.0),
        write_energy: JoulesPerBit(pj_per_byte * 1e-12 / 8.0),
        static_power: Watts::ZERO,
        area: SquareMm::ZERO,
        keeps: OperandSet::of(&operands),
        must_keep: OperandSet::NONE,
        buffering: 1,
        resident: false,
        overlap: Overlap::Keep,
        latency: Seconds::ZERO,
        setup: Seconds::ZERO,
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

/// DRAM without limits.
pub fn dram(bytes_per_cycle: f64) -> NodeKind {
    NodeKind::Memory(memory(1 << 40, "iwo", bytes_per_cycle, 100.0))
}

/// A fanout; axes are (size, selectors), multicast and reducing.
pub fn fanout(axes: &[(u64, &[DimSelector])]) -> NodeKind {
    let axis = |(size, accepts): &(u64, &[DimSelector])| FanoutDim {
        name: "axis".into(),
        size: *size,
        multicast: OperandSet::ALL,
        reduces: true,
        accepts: accepts.to_vec(),
        per_stream: *size,
    };
    NodeKind::Fanout(Fanout {
        dims: axes.iter().map(axis).collect(),
        hop_energy: JoulesPerBit(0.01e-12),
        network: None,
    })
}

/// A chip at 1 GHz: nodes one under the other, and a MAC at the end.
pub fn chip(nodes: Vec<NodeKind>) -> Chip {
    let mut clocks = IdVec::new();
    let clock = clocks.push(Clock {
        name: "core".into(),
        domain: clock(),
    });
    let mode = MacMode {
        input: Format::INT8,
        weight: Format::INT8,
        accumulate: Format::INT32,
        macs_per_cycle: 1.0,
        energy: Joules(0.2e-12),
        structured: None,
    };
    let leaf = Compute {
        clock,
        modes: vec![mode],
        area: SquareMm::ZERO,
        static_power: Watts::ZERO,
        gating: None,
    };
    let mut tree: IdVec<NodeId, Node> = IdVec::new();
    let mut instances = 1;
    let mut parent = None;
    for (i, kind) in nodes
        .into_iter()
        .chain([NodeKind::Compute(leaf)])
        .enumerate()
    {
        let below = if let NodeKind::Fanout(f) = &kind {
            f.instances()
        } else {
            1
        };
        parent = Some(tree.push(Node {
            name: format!("node{i}"),
            parent,
            instances,
            kind,
        }));
        instances *= below;
    }
    let mut engines = IdVec::new();
    let compute = parent.unwrap();
    engines.push(Engine {
        name: "array".into(),
        kind: EngineKind::Array {
            compute,
            fill_cycles: 0,
            drain_cycles: 0,
        },
        area: SquareMm::ZERO,
        static_power: Watts::ZERO,
        launch: Seconds::ZERO,
    });
    Chip {
        name: "test".into(),
        description: String::new(),
        node_nm: 7.0,
        clocks,
        nodes: tree,
        engines,
        kernels: None,
        power: PowerStates::default(),
        movement: presil_hwmodels::Movement::DEFAULT,
        mapspace: Mapspace {
            prefetch_weights: false,
            keep_activations: false,
            keep_weights: false,
            fuse_cascades: false,
            fuse_groups: presil_hwmodels::FuseGroups::None,
            launch_groups_once: false,
            prefetch_ops: None,
            row_stationary: None,
        },
        blocks: None,
        numerics: Numerics::default(),
        other_power: Watts::ZERO,
        other_area: SquareMm::ZERO,
        provenance: Vec::new(),
        hash: String::new(),
    }
}

fn clock() -> ClockDomain {
    ClockDomain::new(Hertz(1e9)).unwrap()
}

/// An int8 problem on a chip with everything at home in its root.
pub fn problem<'a>(chip: &'a Chip, einsum: &'a Einsum) -> Problem<'a> {
    let leaf = chip.nodes.ids().next_back().unwrap();
    let path = chip.path(leaf);
    let capacity = path
        .iter()
        .map(|n| chip.nodes[*n].memory().map_or(Bytes(0), |m| m.capacity))
        .collect();
    Problem {
        einsum,
        chip,
        engine: EngineId(0),
        path,
        bits: [8.0; 3],
        accumulate: Format::INT32,
        mode: 0,
        home: [NodeId(0); 3],
        capacity,
        lies: [const { None }; 3],
    }
}

/// The first contraction of what a builder makes.
pub fn einsum(build: impl FnOnce(&mut Builder)) -> Einsum {
    let mut b = Builder::new("test");
    build(&mut b);
    let ops: Vec<&Op> = b.graph.ops.iter().collect();
    ops.iter().find_map(|o| o.contraction()).unwrap().clone()
}

/// A matmul of m x k by k x n.
pub fn gemm(m: u64, n: u64, k: u64) -> Einsum {
    einsum(|b| {
        let x = b.input("x", &[m, k]);
        b.linear("y", x, n, false).unwrap();
    })
}

/// A convolution of an image of c channels and a given height and width.
pub fn conv(c: u64, size: u64, conv: &Conv) -> Einsum {
    einsum(|b| {
        let x = b.input("x", &[1, c, size, size]);
        b.conv2d("y", x, conv).unwrap();
    })
}
