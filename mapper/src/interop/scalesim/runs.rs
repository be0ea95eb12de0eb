//! Recorded SCALE-Sim runs: one CSV row a layer, with its parameters and the tool's reports under its own names.
//!
//! Columns that are read: `layer`, `kind` (`gemm`: `M`, `N`, `K`; `conv`: `H`, `W`, `R`, `S`, `C`, `F`, `stride`), `df`,
//! `rows`, `cols`, `ifmap_kb`, `filter_kb`, `ofmap_kb`, `mode`, and in `USER` mode `bw` (output), `if_bw`, `fi_bw`; and
//! those of the figures of [`figures`] that are there.

use std::collections::BTreeMap;

use super::ScaleSimFileError;
use crate::conventions::scalesim::{
    Bandwidth, Dataflow, Layer, Report, ScaleSimError, SystolicArray, evaluate,
};

/// A recorded run of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Name of the layer.
    pub name: String,
    /// The array.
    pub array: SystolicArray,
    /// The layer.
    pub layer: Layer,
    /// What SCALE-Sim reported, by name.
    pub reported: BTreeMap<String, f64>,
}

/// How a run compares.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Comparison {
    /// Reported figures with a closed form.
    pub told: usize,
    /// Reported figures without one: small memories, whose order of fetching and draining decides.
    pub untold: usize,
    /// Figures that are not as reported: name, reported, told.
    pub differences: Vec<(String, f64, f64)>,
}

impl Run {
    /// Compares what was reported with the closed forms, to `tolerance` (relative).
    ///
    /// # Errors
    /// If the layer cannot be told.
    pub fn compare(&self, tolerance: f64) -> Result<Comparison, ScaleSimError> {
        let report = evaluate(&self.array, &self.layer)?;
        let mut comparison = Comparison::default();
        for (name, value) in figures(&report) {
            let Some(&reported) = self.reported.get(name) else {
                continue;
            };
            let Some(value) = value else {
                comparison.untold += 1;
                continue;
            };
            comparison.told += 1;
            if (value - reported).abs() > tolerance * reported.abs().max(value.abs()) {
                comparison.differences.push((name.into(), reported, value));
            }
        }
        Ok(comparison)
    }
}

/// Figures of a report under SCALE-Sim's names; none where there is no closed form.
pub fn figures(r: &Report) -> Vec<(&'static str, Option<f64>)> {
    let count = |c: Option<u64>| c.map(|c| c as f64);
    let percent = |share: f64| 100.0 * share;
    let rate = |i: usize| r.sram_rates().map(|rates| rates[i]);
    let [input, filter] = r.dram_reads;
    let output = r.write_stream;
    vec![
        ("compute_cycles", Some(r.compute_cycles as f64)),
        ("Stall Cycles", count(r.stall_cycles)),
        ("Total Cycles", count(r.total_cycles())),
        (
            "Total Cycles (incl. prefetch)",
            count(r.cycles_with_prefetch),
        ),
        ("Overall Util %", r.overall_utilization().map(percent)),
        ("Mapping Efficiency %", Some(percent(r.mapping_efficiency))),
        ("Compute Util %", Some(percent(r.compute_utilization))),
        ("Avg IFMAP SRAM BW", rate(0)),
        ("Avg FILTER SRAM BW", rate(1)),
        ("Avg OFMAP SRAM BW", rate(2)),
        ("Avg IFMAP DRAM BW", input.map(|s| s.rate())),
        ("Avg FILTER DRAM BW", filter.map(|s| s.rate())),
        ("Avg OFMAP DRAM BW", output.map(|s| s.rate())),
        ("SRAM IFMAP Reads", Some(r.sram[0] as f64)),
        ("SRAM Filter Reads", Some(r.sram[1] as f64)),
        ("SRAM OFMAP Writes", Some(r.sram[2] as f64)),
        ("DRAM IFMAP Start Cycle", input.map(|s| s.start as f64)),
        ("DRAM IFMAP Stop Cycle", input.map(|s| s.stop as f64)),
        ("DRAM IFMAP Reads", input.map(|s| s.words as f64)),
        ("DRAM Filter Start Cycle", filter.map(|s| s.start as f64)),
        ("DRAM Filter Stop Cycle", filter.map(|s| s.stop as f64)),
        ("DRAM Filter Reads", filter.map(|s| s.words as f64)),
        ("DRAM OFMAP Start Cycle", output.map(|s| s.start as f64)),
        ("DRAM OFMAP Stop Cycle", output.map(|s| s.stop as f64)),
        ("DRAM OFMAP Writes", count(r.dram_writes)),
    ]
}

/// Reads recorded runs. Values hold no commas or quotes.
///
/// # Errors
/// The first row with a parameter that is missing or none.
pub fn read_runs(text: &str) -> Result<Vec<Run>, ScaleSimFileError> {
    let mut lines = text.lines().enumerate();
    let header: Vec<&str> = match lines.next() {
        Some((_, line)) => line.split(',').map(str::trim).collect(),
        None => return Ok(Vec::new()),
    };
    let rows = lines.filter(|(_, line)| !line.trim().is_empty());
    rows.map(|(i, line)| {
        let values = line.split(',').map(str::trim);
        let row = Row(header.iter().copied().zip(values).collect());
        row.run().map_err(|reason| ScaleSimFileError::Line {
            line: i + 1,
            reason,
        })
    })
    .collect()
}

/// A row by column.
struct Row<'a>(BTreeMap<&'a str, &'a str>);

impl Row<'_> {
    fn text(&self, column: &str) -> Result<&str, String> {
        let value = self.0.get(column).copied();
        value.ok_or_else(|| format!("no column `{column}`"))
    }

    fn number(&self, column: &str) -> Result<u64, String> {
        let value = self.text(column)?;
        value
            .parse()
            .map_err(|_| format!("{column} = `{value}` is no whole number"))
    }

    fn run(&self) -> Result<Run, String> {
        let kib = |column| Ok::<_, String>(self.number(column)?.saturating_mul(1024));
        let array = SystolicArray {
            rows: self.number("rows")?,
            cols: self.number("cols")?,
            dataflow: Dataflow::parse(self.text("df")?).ok_or_else(|| {
                format!("df = `{}` is no dataflow", self.text("df").unwrap_or(""))
            })?,
            input_sram: kib("ifmap_kb")?,
            filter_sram: kib("filter_kb")?,
            output_sram: kib("ofmap_kb")?,
            bandwidth: match self.text("mode")? {
                "CALC" => Bandwidth::Estimated,
                "USER" => Bandwidth::Given {
                    input: self.number("if_bw")?,
                    filter: self.number("fi_bw")?,
                    output: self.number("bw")?,
                },
                mode => return Err(format!("mode = `{mode}` is neither CALC nor USER")),
            },
        };
        let layer = match self.text("kind")? {
            "gemm" => Layer::Gemm {
                m: self.number("M")?,
                n: self.number("N")?,
                k: self.number("K")?,
            },
            "conv" => Layer::Conv {
                height: self.number("H")?,
                width: self.number("W")?,
                filter_height: self.number("R")?,
                filter_width: self.number("S")?,
                channels: self.number("C")?,
                filters: self.number("F")?,
                stride: self.number("stride")?,
            },
            kind => return Err(format!("kind = `{kind}` is neither gemm nor conv")),
        };
        let reported = self.0.iter();
        let reported = reported.filter_map(|(k, v)| Some(((*k).into(), v.parse().ok()?)));
        Ok(Run {
            name: self.text("layer")?.into(),
            array,
            layer,
            reported: reported.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn runs() -> Vec<Run> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/data/systolic/scalesim.csv"
        );
        read_runs(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn every_figure_with_a_closed_form_is_scale_sims() {
        let runs = runs();
        let (mut told, mut untold) = (0, 0);
        for run in &runs {
            let c = run.compare(1e-12).unwrap();
            assert_eq!(c.differences, [], "{run:?}");
            told += c.told;
            untold += c.untold;
        }
        // The rest hangs on the order in which small memories fetch and drain.
        assert_eq!((runs.len(), told, untold), (131, 2722, 553));
    }

    #[test]
    fn cycles_and_sram_counts_are_told_of_every_run() {
        for run in runs() {
            let told = figures(&evaluate(&run.array, &run.layer).unwrap());
            for name in [
                "compute_cycles",
                "SRAM IFMAP Reads",
                "SRAM Filter Reads",
                "SRAM OFMAP Writes",
                "Mapping Efficiency %",
                "Compute Util %",
            ] {
                assert!(
                    told.iter().any(|(n, v)| *n == name && v.is_some()),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn a_wrong_figure_is_named() {
        let mut run = runs().swap_remove(0);
        run.reported.insert("Total Cycles".into(), 1.0);
        let c = run.compare(1e-12).unwrap();
        assert_eq!(c.differences, [("Total Cycles".into(), 1.0, 387.0)]);
    }

    #[test]
    fn rows_that_miss_something_are_told_by_line() {
        for (text, says) in [
            ("layer,kind\na,gemm\n", "line 2: no column `rows`"),
            ("layer,rows\na,x\n", "rows = `x`"),
        ] {
            let error = read_runs(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert_eq!(read_runs(""), Ok(Vec::new()));
    }
}
