use std::collections::BTreeMap;

use super::*;

/// Rows of the recorded runs, by column.
fn rows() -> Vec<BTreeMap<String, String>> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/data/systolic/scalesim.csv"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(|l| l.split(',').map(String::from));
    let header: Vec<String> = lines.next().unwrap().collect();
    lines
        .map(|values| header.iter().cloned().zip(values).collect())
        .collect()
}

fn array(row: &BTreeMap<String, String>) -> SystolicArray {
    let get = |key: &str| row[key].parse().unwrap();
    SystolicArray {
        rows: get("rows"),
        cols: get("cols"),
        dataflow: match row["df"].as_str() {
            "ws" => Dataflow::WeightStationary,
            "is" => Dataflow::InputStationary,
            _ => Dataflow::OutputStationary,
        },
        input_sram: 1024 * get("ifmap_kb"),
        filter_sram: 1024 * get("filter_kb"),
        output_sram: 1024 * get("ofmap_kb"),
        bandwidth: match row["mode"].as_str() {
            "CALC" => Bandwidth::Estimated,
            _ => Bandwidth::Given {
                input: get("if_bw"),
                filter: get("fi_bw"),
                output: get("bw"),
            },
        },
    }
}

fn layer(row: &BTreeMap<String, String>) -> Layer {
    let get = |key: &str| row[key].parse().unwrap();
    if row["kind"] == "gemm" {
        return Layer::Gemm {
            m: get("M"),
            n: get("N"),
            k: get("K"),
        };
    }
    Layer::Conv {
        height: get("H"),
        width: get("W"),
        filter_height: get("R"),
        filter_width: get("S"),
        channels: get("C"),
        filters: get("F"),
        stride: get("stride"),
    }
}

/// Figures of a report under SCALE-Sim's names.
fn figures(r: &Report) -> Vec<(String, Option<f64>)> {
    let count = |c: Option<u64>| c.map(|c| c as f64);
    let mut figures = vec![
        ("compute_cycles".into(), Some(r.compute_cycles as f64)),
        ("Stall Cycles".into(), count(r.stall_cycles)),
        ("Total Cycles".into(), count(r.total_cycles())),
        (
            "Total Cycles (incl. prefetch)".into(),
            count(r.cycles_with_prefetch),
        ),
        (
            "Mapping Efficiency %".into(),
            Some(100.0 * r.mapping_efficiency),
        ),
        ("Compute Util %".into(), Some(100.0 * r.compute_utilization)),
        (
            "Overall Util %".into(),
            r.overall_utilization().map(|u| 100.0 * u),
        ),
        ("SRAM IFMAP Reads".into(), Some(r.sram[0] as f64)),
        ("SRAM Filter Reads".into(), Some(r.sram[1] as f64)),
        ("SRAM OFMAP Writes".into(), Some(r.sram[2] as f64)),
        ("DRAM OFMAP Writes".into(), count(r.dram_writes)),
    ];
    for (i, name) in ["IFMAP", "FILTER", "OFMAP"].into_iter().enumerate() {
        let rate = r.sram_rates().map(|rates| rates[i]);
        figures.push((format!("Avg {name} SRAM BW"), rate));
    }
    let [input, filter] = r.dram_reads;
    for (name, title, stream) in [
        ("IFMAP", "IFMAP", input),
        ("FILTER", "Filter", filter),
        ("OFMAP", "OFMAP", r.write_stream),
    ] {
        figures.push((format!("Avg {name} DRAM BW"), stream.map(|s| s.rate())));
        let start = stream.map(|s| s.start as f64);
        figures.push((format!("DRAM {title} Start Cycle"), start));
        let stop = stream.map(|s| s.stop as f64);
        figures.push((format!("DRAM {title} Stop Cycle"), stop));
        if name != "OFMAP" {
            let words = stream.map(|s| s.words as f64);
            figures.push((format!("DRAM {title} Reads"), words));
        }
    }
    figures
}

#[test]
fn every_figure_with_a_closed_form_is_scale_sims() {
    let rows = rows();
    assert_eq!(rows.len(), 131);
    let (mut told, mut all) = (0, 0);
    for row in &rows {
        let report = evaluate(&array(row), &layer(row)).unwrap();
        for (name, value) in figures(&report) {
            all += 1;
            let Some(value) = value else {
                continue;
            };
            told += 1;
            let expected: f64 = row[&name].parse().unwrap();
            let apart = (value - expected).abs();
            assert!(
                apart <= 1e-12 * expected.abs(),
                "{name} of {row:?}: {value}"
            );
        }
    }
    // The rest hangs on the order in which small memories fetch and drain.
    assert_eq!((told, all), (2722, 3275));
}

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
