//! Costs of mappings worked out by hand.

use super::{cases, chips};
use crate::mapping::Mapping;
use presil_hwmodels::Operand;

/// 256 x 256 x 256 matmul of bytes; DRAM at 100 J, a 64 KiB buffer at 6 J a word, a MAC at 1 J.
///
/// The buffer holds one whole operand (64 KiB less what the other tiles need is too little), so one operand is
/// fetched twice at best: with n in two halves outside, the weight half-panel (256 x 128) and one row of input
/// and output stay in the buffer:
///
/// ```text
/// for n in 2 (tile 128)
///   buffer keeps weight 256 x 128 = 32768 words; entering: 2 x 32768 = 65536
///   for m in 256 (tile 1)
///     buffer keeps input  1 x 256; entering: 2 x 256 x 256  = 131072 (each row once for each half)
///     buffer keeps output 1 x 128; entering: 2 x 256 x 128  = 65536, all new, all final
///     for n in 128, for k in 256
/// ```
///
/// MACs take each 1 input, 1 weight, 1 update: M = 16777216 each; each update but the first of an element
/// (65536) reads its old value.
///
/// ```text
/// MAC     M                                                                       = 16777216
/// buffer  6 x (reads 2 M + (M - 65536) + drains 65536; writes 65536 + 131072 + M) = 6 x (4 M + 196608)
/// DRAM    100 x (65536 + 131072 reads, 65536 writes)                              = 26214400
/// in all                                                                          = 446824448
/// ```
///
/// which is also the optimum that an exhaustive search finds for this case (AccelForge 1.0.467; its buffer
/// figures sum to the same: 4 M - 65536 + 2 x 65536 + 65536 + 65536 for the second fetch).
#[test]
fn a_matmul_under_one_buffer_costs_what_its_derivation_says() {
    use crate::mapping::Step;
    use presil_hwmodels::{Memory, NodeId, NodeKind};
    use presil_numerics::{Bytes, JoulesPerBit};
    use presil_workloads::DimId;

    let einsum = cases::matmul(256, 256, 256);
    let energy = |word: f64| (JoulesPerBit(word / 8.0), JoulesPerBit(word / 8.0));
    let node = |word: f64, capacity: u64| {
        let (read_energy, write_energy) = energy(word);
        let buffering = 1;
        NodeKind::Memory(Memory {
            read_energy,
            write_energy,
            capacity: Bytes(capacity),
            buffering,
            ..chips::memory()
        })
    };
    let mut chip = chips::chip(vec![node(100.0, 1 << 30), node(6.0, 64 << 10)]);
    let mac = chip.nodes.iter_mut().last().unwrap();
    let NodeKind::Compute(compute) = &mut mac.kind else {
        unreachable!()
    };
    compute.modes[0].energy = presil_numerics::Joules(1.0);
    let mut problem = chips::problem(&einsum, &chip);
    problem.capacity[1] = Bytes(64 << 10);
    problem.accumulate = presil_numerics::Format::Int {
        bits: 8,
        signed: true,
    };
    let (dram, buffer) = (NodeId(0), NodeId(1));
    let (m, n, k) = (DimId(0), DimId(1), DimId(2));
    let keep = |memory, operand| Step::Store { memory, operand };
    let (input, weight, output) = (Operand::Input, Operand::Weight, Operand::Output);
    let steps = vec![
        keep(dram, input),
        keep(dram, weight),
        keep(dram, output),
        Step::Temporal { dim: n, tile: 128 },
        keep(buffer, weight),
        Step::Temporal { dim: m, tile: 1 },
        keep(buffer, input),
        keep(buffer, output),
        Step::Temporal { dim: n, tile: 1 },
        Step::Temporal { dim: k, tile: 1 },
    ];
    let mapping = Mapping::new(&problem, steps).unwrap();
    let cost = crate::evaluate(&problem, &mapping).unwrap();
    let macs = 256u128.pow(3);
    let find = |memory, operand| {
        let c = cost
            .counts
            .iter()
            .find(|c| c.memory == memory && c.operand == operand)
            .unwrap();
        (c.reads, c.writes)
    };
    assert_eq!(find(dram, input), (131_072, 0));
    assert_eq!(find(dram, weight), (65_536, 0));
    assert_eq!(find(dram, output), (0, 65_536));
    assert_eq!(find(buffer, input), (macs, 131_072));
    assert_eq!(find(buffer, weight), (macs, 65_536));
    assert_eq!(find(buffer, output), (macs - 65_536 + 65_536, macs));
    assert_eq!(cost.compute_cycles, macs as f64);
    assert_eq!(cost.energy_total().0, 446_824_448.0);
}

/// A product of a vector and a 64 x 1000 matrix, streamed from DRAM (1 GB/s, 80 %) through a buffer in 125 tiles.
fn streamed(buffer: presil_hwmodels::Memory, dram: presil_hwmodels::Memory) -> crate::Cost {
    use crate::mapping::Step;
    use presil_hwmodels::{NodeId, NodeKind};
    use presil_workloads::DimId;

    let einsum = cases::matmul(1, 1000, 64);
    let chip = chips::chip(vec![NodeKind::Memory(dram), NodeKind::Memory(buffer)]);
    let problem = chips::problem(&einsum, &chip);
    let mut steps: Vec<Step> = Operand::ALL
        .iter()
        .map(|o| Step::Store {
            memory: NodeId(0),
            operand: *o,
        })
        .collect();
    steps.push(Step::Temporal {
        dim: DimId(1),
        tile: 8,
    });
    steps.extend(Operand::ALL.iter().map(|o| Step::Store {
        memory: NodeId(1),
        operand: *o,
    }));
    steps.extend([
        Step::Temporal {
            dim: DimId(0),
            tile: 1,
        },
        Step::Temporal {
            dim: DimId(1),
            tile: 1,
        },
    ]);
    steps.push(Step::Temporal {
        dim: DimId(2),
        tile: 1,
    });
    crate::evaluate(&problem, &Mapping::new(&problem, steps).unwrap()).unwrap()
}

fn fast() -> presil_hwmodels::Memory {
    let rate = presil_numerics::BytesPerSecond(1e15);
    presil_hwmodels::Memory {
        read_rate: rate,
        write_rate: rate,
        ..chips::memory()
    }
}

fn close(x: f64, y: f64) -> bool {
    (x - y).abs() < 1e-6 * y.abs()
}

#[test]
fn time_of_a_stream_is_its_bytes_at_the_streaming_rate_and_its_first_and_last_tiles() {
    let dram = presil_hwmodels::Memory {
        streaming_efficiency: 0.8,
        latency: presil_numerics::Seconds(1e-7),
        ..chips::memory()
    };
    let cost = streamed(fast(), dram.clone());
    // DRAM reads 64000 weights and 64 inputs of a byte at 0.8 GB/s; 1000 results are written meanwhile. The MACs
    // take 64 us.
    let reads = 64_064.0 / 0.8e9;
    assert_eq!(
        cost.bottleneck(),
        crate::Resource::Memory(presil_hwmodels::NodeId(0))
    );
    assert!(cost.busy.iter().any(|b| close(b.1.0, reads)), "{cost:?}");
    // All reads, the first answer, and the last 8 results, which nothing hides: read at that, DRAM's other work
    // (1000 writes) is hidden, so its exposed time is that of the first tile and of the last 8 bytes.
    let last = 8.0 / 0.8e9;
    assert!(
        cost.time.0 >= reads + 1e-7 && cost.time.0 <= reads + 1e-7 + last,
        "{cost:?}"
    );
    // A shared port adds the writes.
    let shared = streamed(
        fast(),
        presil_hwmodels::Memory {
            shared_port: true,
            ..dram
        },
    );
    assert!(
        shared.busy.iter().any(|b| close(b.1.0, 65_064.0 / 0.8e9)),
        "{shared:?}"
    );
}

#[test]
fn a_single_buffer_cannot_fill_while_it_is_used() {
    let single = streamed(
        presil_hwmodels::Memory {
            buffering: 1,
            ..fast()
        },
        chips::memory(),
    );
    // 64000 MACs at 1 GHz, then every byte in (64000 + 64) and out (1000) at 1 GB/s, none at the same time.
    assert!(close(single.time.0, 64_000e-9 + 65_064e-9), "{single:?}");
    let double = streamed(fast(), chips::memory());
    assert!(double.time.0 < 66_000e-9, "{double:?}");
}

#[test]
fn illegal_steps_are_refused_with_their_reason() {
    use crate::mapping::{MappingError, Step};
    use presil_hwmodels::{NodeId, NodeKind};
    use presil_workloads::DimId;

    let einsum = cases::matmul(6, 6, 6);
    let small = presil_hwmodels::Memory {
        capacity: presil_numerics::Bytes(64),
        ..chips::memory()
    };
    let chip = chips::chip(vec![
        NodeKind::Memory(chips::memory()),
        NodeKind::Memory(small),
    ]);
    let mut problem = chips::problem(&einsum, &chip);
    problem.capacity[1] = presil_numerics::Bytes(64);
    let home: Vec<Step> = Operand::ALL
        .iter()
        .map(|o| Step::Store {
            memory: NodeId(0),
            operand: *o,
        })
        .collect();
    let t = |d: u32, tile| Step::Temporal {
        dim: DimId(d),
        tile,
    };
    let closing = [t(0, 1), t(1, 1), t(2, 1)];
    let refused = |steps: &[Step]| Mapping::new(&problem, steps.to_vec()).unwrap_err();
    let with = |extra: &[Step]| [&home[..], extra, &closing[..]].concat();
    assert!(Mapping::new(&problem, with(&[t(0, 4), t(0, 2)])).is_ok());
    let inner = refused(&with(&[t(0, 4), t(0, 3)]));
    assert!(
        matches!(
            inner,
            MappingError::Tile {
                step: 4,
                tile: 3,
                outer: 4,
                ..
            }
        ),
        "{inner}"
    );
    assert!(matches!(refused(&home), MappingError::Open { tile: 6, .. }));
    let unhomed = refused(&closing);
    assert!(matches!(unhomed, MappingError::Place { .. }), "{unhomed}");
    let twice = refused(&with(&[Step::Store {
        memory: NodeId(0),
        operand: Operand::Input,
    }]));
    assert!(
        matches!(twice, MappingError::Place { step: 3, .. }),
        "{twice}"
    );
    // 36 inputs of a byte, two tiles of them.
    let full = refused(&with(&[Step::Store {
        memory: NodeId(1),
        operand: Operand::Input,
    }]));
    let needed = presil_numerics::Bytes(72);
    assert!(
        matches!(full, MappingError::Capacity { needed: n, .. } if n == needed),
        "{full}"
    );
    // A tile of 4 x 4 partial sums of 4 bytes, two of them.
    let wide = refused(&with(&[
        t(2, 3),
        t(0, 4),
        t(1, 4),
        Step::Store {
            memory: NodeId(1),
            operand: Operand::Output,
        },
    ]));
    let needed = presil_numerics::Bytes(128);
    assert!(
        matches!(wide, MappingError::Capacity { needed: n, .. } if n == needed),
        "{wide}"
    );
}
