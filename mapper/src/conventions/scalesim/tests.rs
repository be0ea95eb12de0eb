#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

/// 2 x 2 array, `[3, 2] x [2, 2]`: one fold. By hand: two cycles to load, rows enter one after another (3), the last
/// one passes two rows and one more column.
fn small() -> SystolicArray {
    SystolicArray {
        rows: 2,
        cols: 2,
        dataflow: Dataflow::WeightStationary,
        input_sram: 1024,
        filter_sram: 1024,
        output_sram: 1024,
        bandwidth: Bandwidth::Given {
            input: 1,
            filter: 1,
            output: 1,
        },
    }
}

#[test]
fn a_fold_loads_streams_and_drains() {
    let r = evaluate(&small(), &Layer::Gemm { m: 3, n: 2, k: 2 }).unwrap();
    assert_eq!(r.compute_cycles, 2 * 2 + 2 + 3 - 2 - 1);
    assert_eq!(r.sram, [6, 4, 6]);
    assert_eq!(r.mapping_efficiency, 1.0);
    assert_eq!(r.dram_reads[0].unwrap().start, -6);
    assert_eq!(
        r.write_stream.unwrap(),
        Stream {
            words: 6,
            start: 6,
            stop: 11
        }
    );
    assert_eq!(r.cycles_with_prefetch, Some(17));
}

#[test]
fn a_last_window_that_hangs_over_reads_nothing_outside() {
    // Windows of 2 at 0 and 3 of 4 positions: the second has one inside.
    let side = Side::new(4, 2, 3).unwrap();
    assert_eq!((side.windows, side.distinct, side.words), (2, 3, 3));
    // Windows of 3 at 0, 2, 4 of 7: halos repeat.
    let side = Side::new(7, 3, 2).unwrap();
    assert_eq!((side.windows, side.distinct, side.words), (3, 7, 9));
}

#[test]
fn small_memories_have_no_invented_stalls() {
    let layer = Layer::Gemm {
        m: 64,
        n: 64,
        k: 64,
    };
    let r = evaluate(&small(), &layer).unwrap();
    assert_eq!((r.stall_cycles, r.dram_reads[0]), (None, None));
    assert_eq!((r.dram_writes, r.cycles_with_prefetch), (None, None));
    assert!(r.compute_cycles > 0);
    // Estimated bandwidth never stalls, but what is fetched again is still unknown.
    let array = SystolicArray {
        bandwidth: Bandwidth::Estimated,
        ..small()
    };
    let r = evaluate(&array, &layer).unwrap();
    assert_eq!((r.stall_cycles, r.dram_reads[0]), (Some(0), None));
}

#[test]
fn nonsense_is_an_error() {
    let gemm = |m, n, k| evaluate(&small(), &Layer::Gemm { m, n, k }).unwrap_err();
    assert_eq!(gemm(0, 1, 1), ScaleSimError::Zero("a size of the layer"));
    assert_eq!(gemm(u64::MAX, 2, 2), ScaleSimError::Large);
    assert_eq!(gemm(1 << 30, 1 << 20, 1 << 20), ScaleSimError::Large);
    let conv = |height, stride| {
        let layer = Layer::Conv {
            height,
            width: 8,
            filter_height: 3,
            filter_width: 3,
            channels: 1,
            filters: 1,
            stride,
        };
        evaluate(&small(), &layer).unwrap_err()
    };
    assert_eq!(conv(2, 1), ScaleSimError::Filter);
    assert_eq!(conv(8, 0), ScaleSimError::Zero("the stride"));
    assert_eq!(conv(u64::MAX, u64::MAX), ScaleSimError::Large);
    let no_rows = SystolicArray { rows: 0, ..small() };
    let e = evaluate(&no_rows, &Layer::Gemm { m: 1, n: 1, k: 1 }).unwrap_err();
    assert_eq!(e, ScaleSimError::Zero("rows of the array"));
}
