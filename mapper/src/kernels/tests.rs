#![expect(clippy::unwrap_used, reason = "tests")]

use presil_hwmodels::{KernelParameters, KernelTile};
use presil_numerics::{Bytes, Joules, Seconds};

use super::reuse::region;
use super::*;

fn tile(m: u64, n: u64, stages: u64) -> KernelTile {
    KernelTile {
        m,
        n,
        k: Bytes(128),
        stages,
        cluster: 1,
    }
}

/// A machine of the size of an A100.
fn example() -> Machine {
    Machine {
        multiprocessors: 108.0,
        hertz: 1.41e9,
        macs_per_cycle: 1024.0,
        lanes: 64.0,
        dram_rate: 1.75e12,
        memory_latency: 450e-9,
        cache_rate: 7.2e12,
        cache: 20e6,
        shared: 164.0 * 1024.0,
        accumulators: 200.0 * 1024.0,
        threads: 2048.0,
        persistent: false,
        parameters: KernelParameters {
            launch: Seconds(1.4e-6),
            round_trip: Seconds(1.7e-6),
            cache_efficiency: 0.67,
            issue_efficiency: 0.83,
            step_cycles: 220.0,
            score_operations: 8.5,
            block_round_trips: 2.2,
            mac_energy: Joules(2.4e-12),
        },
        operand_width: 1.0,
        dram_energy: 34e-12,
        cache_energy: 5e-12,
        power_limit: 315.0,
        static_power: 85.0,
        power_exponent: 2.5,
        tiles: vec![
            tile(16, 64, 4),
            tile(64, 64, 5),
            tile(64, 128, 4),
            tile(128, 256, 3),
        ],
    }
}

fn product(m: u64, n: u64, k: u64) -> Matmul {
    Matmul {
        m,
        n,
        k,
        batch: 1,
        distinct: 1.0,
        input_bits: 16.0,
        weight_bits: 16.0,
        output_bits: 16.0,
        input_cached: false,
        weight_cached: false,
        output_cached: false,
    }
}

const SHAPES: [[u64; 3]; 9] = [
    [1, 64, 32],
    [7, 1536, 1536],
    [1, 16384, 8192],
    [97, 1536, 5120],
    [512, 512, 65536],
    [4353, 1536, 1536],
    [8192, 8192, 128],
    [4096, 4096, 4096],
    [3073, 16384, 12288],
];

fn kernel(x: &Machine, [m, n, k]: [u64; 3]) -> Kernel {
    matmul(x, &product(m, n, k)).unwrap()
}

#[test]
fn parts_sum_to_the_time() {
    let x = example();
    let all = SHAPES.map(|s| kernel(&x, s));
    let a = attention(&x, &causal(4, 2048));
    let r = rows(
        &x,
        "norm",
        &Rows {
            op: RowOp::LayerNorm,
            rows: 8192,
            columns: 4096,
            bits: 32.0,
            cached: false,
        },
    );
    for k in all.iter().chain([&a, &r]) {
        assert!((k.parts.total() - k.time).abs() < 1e-9 * k.time, "{k:?}");
        assert!(k.energy > 0.0 && k.slowdown >= 1.0);
    }
}

#[test]
fn nothing_beats_the_roofline() {
    let x = example();
    for s in SHAPES {
        let p = product(s[0], s[1], s[2]);
        let bytes: f64 = p.bytes().iter().sum();
        let peak = x.macs_per_cycle * x.multiprocessors * x.hertz;
        let bound = (p.macs() / peak).max(bytes / x.dram_rate);
        assert!(kernel(&x, s).time > bound, "{s:?}");
    }
}

#[test]
fn faster_memories_clocks_and_more_power_never_hurt() {
    let x = example();
    let better: [fn(&mut Machine); 6] = [
        |x| x.dram_rate *= 1.5,
        |x| x.cache_rate *= 1.5,
        |x| x.macs_per_cycle *= 2.0,
        |x| x.power_limit *= 2.0,
        |x| x.cache *= 4.0,
        |x| x.tiles.push(tile(128, 128, 4)),
    ];
    for s in SHAPES {
        let before = kernel(&x, s).time;
        for (i, change) in better.iter().enumerate() {
            let mut y = x.clone();
            // Energy at the full clock is that of the work; without a limit the rates alone count.
            if i != 3 {
                y.power_limit = f64::INFINITY;
            }
            let base = if i == 3 { before } else { kernel(&y, s).time };
            change(&mut y);
            let after = kernel(&y, s).time;
            assert!(
                after <= base * (1.0 + 1e-12),
                "{s:?}, change {i}: {base} to {after}"
            );
        }
    }
}

#[test]
fn a_board_that_is_limited_runs_at_its_limit() {
    let x = example();
    let k = kernel(&x, [8192, 8192, 8192]);
    assert!(k.slowdown > 1.0);
    let power = k.energy / (k.time - k.parts.launch);
    assert!((power / x.power_limit - 1.0).abs() < 1e-9, "{power}");
    let board = k.board_energy(&x) / k.time;
    assert!(
        board < x.power_limit + x.static_power && board > 0.99 * (x.power_limit + x.static_power)
    );
}

/// Walks the first blocks of a grid band by band, column by column, and counts the panels that they read.
fn walked(outputs: u64, rows: u64, columns: u64, band: u64) -> (u64, u64) {
    let (mut a, mut b) = (
        std::collections::BTreeSet::new(),
        std::collections::BTreeSet::new(),
    );
    let mut left = outputs;
    'all: for top in (0..rows).step_by(band as usize) {
        for column in 0..columns {
            for row in top..(top + band).min(rows) {
                if left == 0 {
                    break 'all;
                }
                left -= 1;
                a.insert(row);
                b.insert(column);
            }
        }
    }
    (a.len() as u64, b.len() as u64)
}

#[test]
fn panels_shared_in_a_wave_are_those_that_a_walk_of_its_blocks_counts() {
    let mut checked = 0;
    for rows in 1..=9 {
        for columns in 1..=9 {
            for outputs in 1..=rows * columns {
                for (bm, bn) in [(64.0, 64.0), (64.0, 256.0), (256.0, 64.0)] {
                    let (r, c) = (rows as f64, columns as f64);
                    let region = region(outputs as f64, r, c, 1.0, bm, bn);
                    let (a, b) = walked(outputs, rows, columns, region.band as u64);
                    // A wave of a whole matrix is walked in one band as high as it is.
                    assert_eq!(
                        (region.rows as u64, region.columns as u64),
                        (a, b),
                        "{outputs} of {rows}x{columns} in bands of {}",
                        region.band
                    );
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 5000);
}

#[test]
fn whole_matrices_of_a_batch_share_nothing() {
    let r = region(24.0, 2.0, 3.0, 8.0, 64.0, 64.0);
    assert_eq!((r.rows, r.columns), (8.0, 12.0));
}

#[test]
fn few_tiles_of_a_long_reduction_are_cut_into_slices() {
    let k = kernel(&example(), [64, 64, 65536]);
    assert!(k.name.contains("slices"), "{}", k.name);
    assert!(k.blocks > 8.0);
}

fn causal(batch: u64, tokens: u64) -> Attention {
    Attention {
        batch,
        heads: 32,
        kv_heads: 8,
        queries: tokens,
        keys: tokens,
        head_dim: 128,
        window: None,
        causal: true,
        query_bits: 16.0,
        key_bits: 16.0,
        output_bits: 16.0,
    }
}

#[test]
fn a_mask_halves_long_attention_and_a_window_makes_it_linear() {
    let x = example();
    let time = |a: Attention| attention(&x, &a).time;
    let (masked, full) = (
        time(causal(8, 8192)),
        time(Attention {
            causal: false,
            ..causal(8, 8192)
        }),
    );
    assert!((full / masked - 2.0).abs() < 0.1, "{}", full / masked);
    let windowed = |tokens| {
        time(Attention {
            window: Some(256),
            ..causal(8, tokens)
        })
    };
    let ratio = windowed(16384) / windowed(8192);
    assert!((ratio - 2.0).abs() < 0.1, "{ratio}");
}

#[test]
fn decode_is_bound_by_its_keys() {
    let x = example();
    let a = Attention {
        queries: 1,
        ..causal(64, 8192)
    };
    let k = attention(&x, &a);
    let bytes = 2.0 * 64.0 * 8192.0 * 8.0 * 128.0 * 2.0;
    assert!(
        k.time > bytes / x.dram_rate && k.time < 1.2 * bytes / x.dram_rate,
        "{k:?}"
    );
    // One sequence has fewer blocks than multiprocessors: its keys are cut.
    let one = attention(&x, &Attention { batch: 1, ..a });
    assert!(one.name.contains("slices"), "{}", one.name);
}

#[test]
fn rows_that_fit_are_read_once() {
    let x = example();
    let norm = |columns| {
        let r = Rows {
            op: RowOp::RmsNorm,
            rows: 65536,
            columns,
            bits: 32.0,
            cached: false,
        };
        rows(&x, "norm", &r).dram_read / (65536.0 * columns as f64 * 4.0)
    };
    assert!((norm(1024) - 1.0).abs() < 1e-9);
    assert!((norm(8192) - 2.0).abs() < 1e-9);
}

/// A row has one block, and a block one multiprocessor: its lanes bound few rows, the memory many.
#[test]
fn few_rows_use_few_multiprocessors() {
    let x = example();
    let softmax = |count, columns| {
        let r = Rows {
            op: RowOp::Softmax,
            rows: count,
            columns,
            bits: 16.0,
            cached: false,
        };
        rows(&x, "softmax", &r)
    };
    let one = softmax(1, 131_072);
    let own = 40.0 * 131_072.0 / (x.lanes * x.hertz * x.parameters.issue_efficiency);
    assert!((one.parts.compute / own - 1.0).abs() < 1e-9, "{one:?}");
    let all = softmax(108, 131_072);
    assert!((all.parts.compute / own - 1.0).abs() < 1e-9, "{all:?}");
    let wave = softmax(1080, 131_072);
    assert!(
        wave.parts.compute.max(wave.parts.dram) > 9.0 * own,
        "{wave:?}"
    );
    // Four warps a block: four rows go as fast as one.
    assert_eq!(softmax(4, 512).time, softmax(1, 512).time);
}

/// The least that a kernel takes: its launch, a load and a store.
#[test]
fn small_streams_take_two_loads() {
    let x = example();
    let least = x.parameters.launch.0 + 2.0 * x.memory_latency;
    let small = stream(&x, "add", 3e3, 1.5e3, 1e3, 1.0);
    assert!((small.time / least - 1.0).abs() < 0.01, "{small:?}");
}
