//! Layers that SCALE-Sim ran: every column that has a closed form. Columns are those of its reports; the layer and
//! the array are in columns `kind` (gemm, conv), `M`, `N`, `K`, or `H`, `W`, `R`, `S`, `C`, `F`, `stride`, and `df`,
//! `rows`, `cols`, `ifmap_kb`, `filter_kb`, `ofmap_kb`, `mode` (CALC, USER), `if_bw`, `fi_bw`, `bw`.

use std::collections::BTreeMap;

use presil_mapper::conventions::scalesim::{
    Bandwidth, Dataflow, Layer, Report, SystolicArray, evaluate,
};

use super::super::Case;
use super::super::files::rows;
use super::{Figure, File, compared, failed};

const CLASS: &str = "peer: scalesim";
/// Relative differences that are rounding.
const TOLERANCE: f64 = 1e-9;

type Row = BTreeMap<String, String>;

/// The layers of a file.
pub(super) fn cases(file: &File) -> Vec<Case> {
    let rows: Vec<Row> = match rows(&file.name, &file.text) {
        Ok(rows) => rows,
        Err(error) => return vec![failed(CLASS, &file.name, file, error.to_string())],
    };
    let case = |(number, row): (usize, &Row)| {
        let word = |key: &str| row.get(key).map_or("?", String::as_str);
        let name = format!(
            "{} {} {} {}x{} {} (row {})",
            word("group"),
            word("layer"),
            word("df"),
            word("rows"),
            word("cols"),
            word("mode"),
            number + 1
        );
        match compare(row) {
            Ok((figures, differences, untold)) => {
                compared(CLASS, &name, file, figures, &differences, untold)
            }
            Err(reason) => failed(CLASS, &name, file, reason),
        }
    };
    rows.iter().enumerate().map(case).collect()
}

fn get<T: std::str::FromStr>(row: &Row, key: &str) -> Result<T, String> {
    let text = row.get(key).map_or("", String::as_str);
    let value = text.parse::<T>();
    value.map_err(|_| format!("column `{key}`: `{text}` is no number"))
}

fn array(row: &Row) -> Result<SystolicArray, String> {
    let kilobytes = |key: &str| {
        let size: u64 = get(row, key)?;
        size.checked_mul(1024)
            .ok_or(format!("`{key}` is too large"))
    };
    Ok(SystolicArray {
        rows: get(row, "rows")?,
        cols: get(row, "cols")?,
        dataflow: match row.get("df").map_or("", String::as_str) {
            "ws" => Dataflow::WeightStationary,
            "is" => Dataflow::InputStationary,
            "os" => Dataflow::OutputStationary,
            other => return Err(format!("column `df`: `{other}` is none of ws, is, os")),
        },
        input_sram: kilobytes("ifmap_kb")?,
        filter_sram: kilobytes("filter_kb")?,
        output_sram: kilobytes("ofmap_kb")?,
        bandwidth: match row.get("mode").map_or("", String::as_str) {
            "CALC" => Bandwidth::Estimated,
            _ => Bandwidth::Given {
                input: get(row, "if_bw")?,
                filter: get(row, "fi_bw")?,
                output: get(row, "bw")?,
            },
        },
    })
}

fn layer(row: &Row) -> Result<Layer, String> {
    if row.get("kind").is_some_and(|k| k == "gemm") {
        return Ok(Layer::Gemm {
            m: get(row, "M")?,
            n: get(row, "N")?,
            k: get(row, "K")?,
        });
    }
    Ok(Layer::Conv {
        height: get(row, "H")?,
        width: get(row, "W")?,
        filter_height: get(row, "R")?,
        filter_width: get(row, "S")?,
        channels: get(row, "C")?,
        filters: get(row, "F")?,
        stride: get(row, "stride")?,
    })
}

/// Figures with a closed form, those of them that differ, and how many have none.
fn compare(row: &Row) -> Result<(usize, Vec<Figure>, usize), String> {
    let report = evaluate(&array(row)?, &layer(row)?).map_err(|e| e.to_string())?;
    let (mut told, mut differences, mut untold) = (0, Vec::new(), 0);
    for (name, got) in figures(&report) {
        let Some(expected) = row.get(&name).and_then(|v| v.parse::<f64>().ok()) else {
            continue;
        };
        let Some(got) = got else {
            untold += 1;
            continue;
        };
        told += 1;
        if (got - expected).abs() > TOLERANCE * expected.abs() {
            differences.push(Figure {
                name,
                expected,
                got,
            });
        }
    }
    Ok((told, differences, untold))
}

/// Figures under SCALE-Sim's names.
fn figures(r: &Report) -> Vec<(String, Option<f64>)> {
    let count = |c: Option<u64>| c.map(|c| c as f64);
    let share = |s: Option<f64>| s.map(|s| 100.0 * s);
    let own = |name: &str, value: Option<f64>| (name.to_string(), value);
    let mut figures = vec![
        own("compute_cycles", Some(r.compute_cycles as f64)),
        own("Stall Cycles", count(r.stall_cycles)),
        own("Total Cycles", count(r.total_cycles())),
        own(
            "Total Cycles (incl. prefetch)",
            count(r.cycles_with_prefetch),
        ),
        own("Mapping Efficiency %", share(Some(r.mapping_efficiency))),
        own("Compute Util %", share(Some(r.compute_utilization))),
        own("Overall Util %", share(r.overall_utilization())),
        own("SRAM IFMAP Reads", Some(r.sram[0] as f64)),
        own("SRAM Filter Reads", Some(r.sram[1] as f64)),
        own("SRAM OFMAP Writes", Some(r.sram[2] as f64)),
        own("DRAM OFMAP Writes", count(r.dram_writes)),
    ];
    let [input, filter] = r.dram_reads;
    let streams = [
        ("IFMAP", "IFMAP", input),
        ("FILTER", "Filter", filter),
        ("OFMAP", "OFMAP", r.write_stream),
    ];
    for (i, (name, title, stream)) in streams.into_iter().enumerate() {
        let rate = r.sram_rates().map(|rates| rates[i]);
        figures.push((format!("Avg {name} SRAM BW"), rate));
        figures.push((format!("Avg {name} DRAM BW"), stream.map(|s| s.rate())));
        let start = stream.map(|s| s.start as f64);
        figures.push((format!("DRAM {title} Start Cycle"), start));
        let stop = stream.map(|s| s.stop as f64);
        figures.push((format!("DRAM {title} Stop Cycle"), stop));
        if i < 2 {
            let words = stream.map(|s| s.words as f64);
            figures.push((format!("DRAM {title} Reads"), words));
        }
    }
    figures
}
