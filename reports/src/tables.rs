//! One row per op and phase as a polars data frame, and as CSV and Parquet.
//!
//! Columns carry their unit: `latency_s`, `energy_j`, `dram_bytes`. After the fixed columns come those of the
//! Run's own memories and components, the same for every row (zero where an op does not use one):
//!
//! | column | meaning |
//! | --- | --- |
//! | `time_compute_s`, `time_wait_<memory>_s`, `time_vector_s`, `time_latency_s` | parts of `latency_s` |
//! | `energy_<component>_j` | parts of `energy_j` (dynamic energy) |
//! | `read_<memory>_bytes`, `write_<memory>_bytes` | traffic |
//!
//! In column names, characters of a memory's or component's name other than letters, digits, `.` and `-` are `_`.
//! Counts are unsigned 64-bit integers; a column with a count beyond that is floating-point. A figure that is not
//! finite is null. `dram_bytes` is the traffic of the root memory, whatever its name is.

use std::io::Write;

use polars::prelude::{Column, DataFrame, PolarsResult};
use polars_io::prelude::{CsvWriter, ParquetWriter, SerWriter};
use presil_sim::Run;
use presil_sim::run::OpRun;

use crate::figures::{self, View};

type Row<'a> = (&'a str, usize, &'a OpRun);

/// Names that are fit for columns: letters, digits, `.`, `-` and `_`, each one once.
fn slugs(names: &[&str]) -> Vec<String> {
    let fit = |c: char| {
        if c.is_alphanumeric() || matches!(c, '.' | '-') {
            c
        } else {
            '_'
        }
    };
    let mut done: Vec<String> = Vec::new();
    for name in names {
        let slug: String = name.chars().map(fit).collect();
        let mut unique = slug.clone();
        let mut n = 2;
        while done.contains(&unique) {
            unique = format!("{slug}.{n}");
            n += 1;
        }
        done.push(unique);
    }
    done
}

/// A finite number; zero without a sign, which the sum of nothing has.
fn number(x: f64) -> Option<f64> {
    x.is_finite().then_some(x + 0.0)
}

fn real(rows: &[Row<'_>], name: impl Into<String>, f: impl Fn(&OpRun) -> Option<f64>) -> Column {
    let values: Vec<Option<f64>> = rows.iter().map(|r| f(r.2).and_then(number)).collect();
    Column::new(name.into().into(), values)
}

fn words(rows: &[Row<'_>], name: &str, f: impl Fn(&OpRun) -> String) -> Column {
    let values: Vec<String> = rows.iter().map(|r| f(r.2)).collect();
    Column::new(name.into(), values)
}

fn count(rows: &[Row<'_>], name: &str, f: impl Fn(&OpRun) -> u128) -> Column {
    let exact: Result<Vec<u64>, _> = rows.iter().map(|r| u64::try_from(f(r.2))).collect();
    match exact {
        Ok(values) => Column::new(name.into(), values),
        Err(_) => Column::new(
            name.into(),
            rows.iter().map(|r| f(r.2) as f64).collect::<Vec<f64>>(),
        ),
    }
}

/// The ops of a Run, one row per op and phase, in execution order.
pub fn layers(run: &Run) -> PolarsResult<DataFrame> {
    let view = View::new(run);
    let rows: Vec<Row<'_>> = run
        .phases
        .iter()
        .flat_map(|p| {
            p.ops
                .iter()
                .enumerate()
                .map(|(i, op)| (p.name.as_str(), i, op))
        })
        .collect();
    let rows = rows.as_slice();
    let mut columns = vec![
        Column::new("phase".into(), rows.iter().map(|r| r.0).collect::<Vec<_>>()),
        Column::new(
            "index".into(),
            rows.iter().map(|r| r.1 as u64).collect::<Vec<_>>(),
        ),
        words(rows, "name", |op| op.name.clone()),
        words(rows, "class", |op| op.class.clone()),
        words(rows, "shape", |op| op.shape.clone()),
        count(rows, "repeat", |op| op.repeat.into()),
        words(rows, "engine", |op| op.engine.clone()),
        count(rows, "macs", |op| op.macs),
        count(rows, "executed_macs", |op| op.executed_macs),
        real(rows, "latency_s", |op| Some(op.time.total_s)),
        words(rows, "bottleneck", |op| op.bottleneck.clone()),
        real(rows, "utilization", |op| Some(op.utilization)),
        real(rows, "intensity_macs_per_byte", |op| op.intensity),
        real(rows, "energy_j", |op| Some(figures::op_joules(op))),
        real(rows, "dram_bytes", |op| Some(view.root_bytes(&op.traffic))),
        real(rows, "time_compute_s", |op| Some(op.time.compute_s)),
    ];
    let memories = slugs(&view.memories);
    for (memory, slug) in view.memories.iter().zip(&memories) {
        columns.push(real(rows, format!("time_wait_{slug}_s"), |op| {
            Some(
                op.time
                    .memory_s
                    .iter()
                    .filter(|m| m.0 == *memory)
                    .map(|m| m.1)
                    .sum(),
            )
        }));
    }
    columns.push(real(rows, "time_vector_s", |op| Some(op.time.vector_s)));
    columns.push(real(rows, "time_latency_s", |op| Some(op.time.latency_s)));
    let components: Vec<&str> = view.components.iter().map(|c| c.0).collect();
    for (component, slug) in components.iter().zip(slugs(&components)) {
        columns.push(real(rows, format!("energy_{slug}_j"), |op| {
            let mine = op
                .energy
                .iter()
                .filter(|e| e.component == *component && !figures::is_static(&e.action));
            Some(mine.map(|e| e.energy_j).sum())
        }));
    }
    for (memory, slug) in view.memories.iter().zip(&memories) {
        for (word, read) in [("read", true), ("write", false)] {
            columns.push(real(rows, format!("{word}_{slug}_bytes"), |op| {
                let mine = op.traffic.iter().filter(|t| t.memory == *memory);
                Some(
                    mine.map(|t| if read { t.read_bytes } else { t.write_bytes })
                        .sum(),
                )
            }));
        }
    }
    columns.push(words(rows, "mapping", |op| op.mapping.join("\n")));
    columns.push(words(rows, "notes", |op| op.notes.join("; ")));
    DataFrame::new(rows.len(), columns)
}

/// Writes a data frame as CSV with a header line.
pub fn write_csv(frame: &mut DataFrame, to: impl Write) -> PolarsResult<()> {
    CsvWriter::new(to).finish(frame)
}

/// Writes a data frame as Parquet (Zstandard).
pub fn write_parquet(frame: &mut DataFrame, to: impl Write) -> PolarsResult<()> {
    ParquetWriter::new(to).finish(frame).map(|_| ())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::io::Cursor;

    use polars_io::prelude::{CsvReadOptions, CsvReader, ParquetReader, SerReader};

    use super::*;
    use crate::sample;

    #[test]
    fn parquet_and_csv_read_back_as_written() {
        for run in sample::all() {
            let mut frame = layers(&run).unwrap();
            let ops: usize = run.phases.iter().map(|p| p.ops.len()).sum();
            assert_eq!(frame.height(), ops);

            let mut bytes = vec![];
            write_parquet(&mut frame, &mut bytes).unwrap();
            let back = ParquetReader::new(Cursor::new(bytes)).finish().unwrap();
            assert!(back.equals_missing(&frame), "{}", run.model);

            let mut bytes = vec![];
            write_csv(&mut frame, &mut bytes).unwrap();
            let back: DataFrame = CsvReader::new(Cursor::new(bytes))
                .with_options(CsvReadOptions::default().with_infer_schema_length(None))
                .finish()
                .unwrap();
            assert_eq!(back.height(), ops);
            assert_eq!(back.get_column_names(), frame.get_column_names());
            if ops > 0 && run.model != "zeros" {
                let sum = |f: &DataFrame| {
                    f.column("latency_s")
                        .unwrap()
                        .f64()
                        .unwrap()
                        .iter()
                        .flatten()
                        .sum::<f64>()
                };
                assert_eq!(sum(&back).to_bits(), sum(&frame).to_bits(), "{}", run.model);
            }
        }
    }

    #[test]
    fn column_names_are_plain_and_unique() {
        assert_eq!(
            slugs(&["l1 data", "l1_data", "l1/data", "dram"]),
            ["l1_data", "l1_data.2", "l1_data.3", "dram"]
        );
    }

    #[test]
    fn parts_sum_to_their_totals_in_every_row() {
        let frame = layers(&sample::llm()).unwrap();
        let column = |name: &str| -> Vec<f64> {
            frame
                .column(name)
                .unwrap()
                .f64()
                .unwrap()
                .iter()
                .map(|x| x.unwrap())
                .collect()
        };
        for (total, prefix, suffix) in [("latency_s", "time_", "_s"), ("energy_j", "energy_", "_j")]
        {
            let parts: Vec<Vec<f64>> = frame
                .get_column_names()
                .iter()
                .filter(|n| n.starts_with(prefix) && n.ends_with(suffix) && n.as_str() != total)
                .map(|n| column(n))
                .collect();
            assert!(parts.len() >= 4);
            for (i, t) in column(total).into_iter().enumerate() {
                let sum: f64 = parts.iter().map(|p| p[i]).sum();
                assert!(
                    (sum - t).abs() <= 1e-9 * t,
                    "{total} of row {i}: {sum} and {t}"
                );
            }
        }
    }
}
