//! A small chip for tests: DRAM, one buffer, an array of 16 x 16, a vector unit on the buffer and a host. Figures
//! are round, not those of any silicon.

use presil_hwmodels::*;
use presil_numerics::*;

fn memory(kind: MemoryKind, capacity: u64, rate: f64, energy: f64) -> Memory {
    Memory {
        kind,
        capacity: Bytes(capacity),
        word: Bytes(8),
        read_rate: BytesPerSecond(rate),
        write_rate: BytesPerSecond(rate),
        shared_port: kind == MemoryKind::Dram,
        streaming_efficiency: if kind == MemoryKind::Dram { 0.8 } else { 1.0 },
        read_energy: JoulesPerBit(energy),
        write_energy: JoulesPerBit(energy),
        static_power: Watts(1e-3),
        area: SquareMm(1.0),
        keeps: OperandSet::ALL,
        must_keep: OperandSet::NONE,
        buffering: 2,
        resident: false,
        overlap: Overlap::Keep,
        latency: Seconds(if kind == MemoryKind::Dram {
            100e-9
        } else {
            0.0
        }),
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

fn mode(input: Format, weight: Format, accumulate: Format, macs_per_cycle: f64) -> MacMode {
    MacMode {
        input,
        weight,
        accumulate,
        macs_per_cycle,
        energy: Joules(1e-13 / macs_per_cycle),
        structured: None,
    }
}

/// The chip. Fields are public: tests change what they need.
pub fn chip() -> Chip {
    let clock = Clock {
        name: "core".into(),
        domain: ClockDomain::new(Hertz(1e9)).unwrap(),
    };
    let node = |name: &str, parent: Option<u32>, instances, kind| Node {
        name: name.into(),
        parent: parent.map(NodeId),
        instances,
        kind,
    };
    let axis = |name: &str, accepts: Vec<DimSelector>, reduces| FanoutDim {
        name: name.into(),
        size: 16,
        multicast: OperandSet::ALL,
        reduces,
        accepts,
        per_stream: 16,
    };
    let fanout = Fanout {
        dims: vec![
            axis(
                "rows",
                vec![DimSelector::Reduction, DimSelector::Pixel],
                true,
            ),
            axis(
                "columns",
                vec![DimSelector::OutputChannel, DimSelector::Group],
                false,
            ),
        ],
        hop_energy: JoulesPerBit(1e-14),
        network: None,
    };
    let int8 = mode(Format::INT8, Format::INT8, Format::INT32, 1.0);
    let bf16 = mode(Format::BF16, Format::BF16, Format::FP32, 0.5);
    let compute = Compute {
        clock: ClockId(0),
        modes: vec![int8, bf16],
        area: SquareMm(1e-3),
        static_power: Watts(1e-5),
        gating: None,
    };
    let buffer = Memory {
        resident: true,
        ..memory(MemoryKind::Sram, 1 << 20, 256e9, 1e-13)
    };
    let nodes = [
        node(
            "dram",
            None,
            1,
            NodeKind::Memory(memory(MemoryKind::Dram, 16 << 30, 16e9, 4e-12)),
        ),
        node("buffer", Some(0), 1, NodeKind::Memory(buffer)),
        node("grid", Some(1), 1, NodeKind::Fanout(fanout)),
        node("mac", Some(2), 256, NodeKind::Compute(compute)),
    ];
    let lane = Some(PrimitiveCost {
        per_cycle: 1.0,
        latency: 4.0,
        energy: Joules(2e-13),
    });
    let whole = |format| VectorMode {
        format,
        primitives: vec![lane; LanePrimitive::ALL.len()],
    };
    // The integer mode has no transcendentals.
    let hard = [
        LanePrimitive::Exp2,
        LanePrimitive::Log2,
        LanePrimitive::Rsqrt,
        LanePrimitive::Reciprocal,
    ];
    let simple = LanePrimitive::ALL.map(|p| if hard.contains(&p) { None } else { lane });
    let vector = EngineKind::Vector {
        memory: NodeId(1),
        lanes: 32,
        clock: ClockId(0),
        modes: vec![
            VectorMode {
                format: Format::INT8,
                primitives: simple.to_vec(),
            },
            whole(Format::BF16),
            whole(Format::FP32),
        ],
        inline: true,
    };
    let host = EngineKind::Host {
        operations_per_second: 1e9,
        rate: BytesPerSecond(1e9),
        energy: Joules(1e-11),
        handover: Seconds(10e-6),
    };
    let engine = |name: &str, kind| Engine {
        name: name.into(),
        kind,
        area: SquareMm(0.1),
        static_power: Watts(1e-4),
        launch: Seconds(100e-9),
    };
    let array = EngineKind::Array {
        compute: NodeId(3),
        fill_cycles: 16,
        drain_cycles: 16,
    };
    Chip {
        name: "test".into(),
        description: "a chip of round figures".into(),
        node_nm: 7.0,
        clocks: [clock].into_iter().collect(),
        nodes: nodes.into_iter().collect(),
        engines: [
            engine("array", array),
            engine("vector", vector),
            engine("host", host),
        ]
        .into_iter()
        .collect(),
        kernels: None,
        power: PowerStates::default(),
        blocks: None,
        movement: presil_hwmodels::Movement::DEFAULT,
        mapspace: Mapspace {
            prefetch_weights: true,
            keep_activations: true,
            keep_weights: false,
            fuse_cascades: true,
            fuse_groups: presil_hwmodels::FuseGroups::None,
            launch_groups_once: false,
            row_stationary: None,
            prefetch_ops: None,
        },
        numerics: Numerics::default(),
        other_power: Watts(1e-3),
        other_area: SquareMm(1.0),
        provenance: Vec::new(),
        hash: String::new(),
    }
}

/// The buffer.
pub fn buffer(chip: &mut Chip) -> &mut Memory {
    memory_mut(chip, 1)
}

/// The DRAM.
pub fn dram(chip: &mut Chip) -> &mut Memory {
    memory_mut(chip, 0)
}

fn memory_mut(chip: &mut Chip, node: u32) -> &mut Memory {
    match &mut chip.nodes[NodeId(node)].kind {
        NodeKind::Memory(m) => m,
        _ => panic!("node {node} is a memory"),
    }
}
