//! Figures of silicon, RTL and other estimators: `measured.csv`.

use std::collections::BTreeMap;
use std::path::Path;

use presil_hwmodels::Chip;
use presil_numerics::{Bytes, Joules, Seconds, Watts};
use presil_sim::Run;
use presil_sim::run::{PassRun, Phase};
use presil_workloads::{Graph, Model};
use rayon::prelude::*;
use serde::Deserialize;

use super::files::built_in;
use super::{Case, relative};
use crate::run::{Options, run_on};

/// A row of `measured.csv`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct MeasuredRow {
    case: String,
    class: String,
    chip: String,
    model: String,
    precision: Option<String>,
    batch: Option<u64>,
    prompt: Option<u64>,
    generate: Option<u64>,
    op: Option<String>,
    metric: String,
    value: f64,
    unit: String,
    tolerance: Option<f64>,
    source: String,
    note: Option<String>,
}

/// Runs each distinct (chip, model, precision, batch, tokens) once and reads every row's figure from it.
pub(super) fn measured_cases(data: Option<&Path>, rows: &[MeasuredRow]) -> Vec<Case> {
    type Key = (
        String,
        String,
        Option<String>,
        Option<u64>,
        Option<u64>,
        Option<u64>,
    );
    let key = |r: &MeasuredRow| -> Key {
        (
            r.chip.clone(),
            r.model.clone(),
            r.precision.clone(),
            r.batch,
            r.prompt,
            r.generate,
        )
    };
    let distinct: BTreeMap<Key, &MeasuredRow> = rows.iter().map(|r| (key(r), r)).collect();
    let distinct: Vec<(Key, &MeasuredRow)> = distinct.into_iter().collect();
    let runs: Vec<Result<Run, String>> = distinct
        .par_iter()
        .map(|(_, row)| run_row(data, row))
        .collect();
    let runs: BTreeMap<Key, Result<Run, String>> =
        distinct.into_iter().map(|(k, _)| k).zip(runs).collect();
    rows.iter()
        .map(|row| measured_case(row, runs.get(&key(row))))
        .collect()
}

fn run_row(data: Option<&Path>, row: &MeasuredRow) -> Result<Run, String> {
    let mut options = Options::new(row.model.clone(), row.chip.clone());
    options.batch = row.batch.unwrap_or(1);
    options.prompt = row.prompt.unwrap_or(options.prompt);
    options.generate = row.generate.unwrap_or(options.generate);
    options.precision = row
        .precision
        .as_ref()
        .map(|p| p.parse())
        .transpose()
        .map_err(|e| format!("{e}"))?;
    let chip = find_chip(data, &row.chip)?;
    let model = find_model(data, &row.model)?;
    run_on(&model, &chip, &options).map_err(|e| e.to_string())
}

/// A chip by name, or a chip file beside the cases.
fn find_chip(data: Option<&Path>, name: &str) -> Result<Chip, String> {
    let found = match (data, built_in(name)) {
        (None, Some(text)) => presil_hwmodels::load::from_text(name, text, None, &[]),
        (Some(folder), _) if folder.join(name).is_file() => {
            presil_hwmodels::load(&folder.join(name).display().to_string(), &[])
        }
        _ => presil_hwmodels::load(name, &[]),
    };
    found.map_err(|e| e.to_string())
}

/// A model by name, or a graph file beside the cases.
fn find_model(data: Option<&Path>, name: &str) -> Result<Model, String> {
    if let (None, Some(text)) = (data, built_in(name)) {
        let graph: Graph = presil_workloads::file::parse(name, text).map_err(|e| e.to_string())?;
        return Ok(Model::Graph(Box::new(graph)));
    }
    let beside = data.map(|folder| folder.join(name)).filter(|p| p.is_file());
    let name = beside.map_or_else(|| name.to_string(), |p| p.display().to_string());
    Model::find(&name).map_err(|e| e.to_string())
}

fn measured_case(row: &MeasuredRow, run: Option<&Result<Run, String>>) -> Case {
    let predicted = match run {
        Some(Ok(run)) => figure(run, row),
        Some(Err(e)) => Err(e.clone()),
        None => Err("the case was not run".into()),
    };
    let error = predicted.as_ref().ok().map(|p| relative(*p, row.value));
    let within = |tolerance: f64| error.is_some_and(|e| e.abs() <= tolerance);
    let note = match (&predicted, &row.note) {
        (Err(reason), _) => reason.clone(),
        (Ok(_), note) => note.clone().unwrap_or_default() + &beside(run, row),
    };
    Case {
        name: row.case.clone(),
        class: row.class.clone(),
        predicted: predicted.ok(),
        reference: row.value,
        unit: row.unit.clone(),
        error,
        tolerance: row.tolerance,
        passed: row.tolerance.is_some_and(within),
        source: row.source.clone(),
        note,
    }
}

/// The figure that a row asks for, in its unit.
fn figure(run: &Run, row: &MeasuredRow) -> Result<f64, String> {
    let phase = |name: &str| {
        run.phases
            .iter()
            .find(|p| p.name == name)
            .ok_or_else(|| format!("the model has no {name} phase"))
    };
    let any = || {
        run.phases
            .first()
            .ok_or_else(|| "the run has no phase".to_string())
    };
    let (latency, energy, macs, dram) = match row.metric.as_str() {
        "ttft" => sums(phase("prefill")?),
        "tpot" => sums(phase("decode")?),
        _ => match &row.op {
            Some(op) => of_op(any()?, op)?,
            None => sums(any()?),
        },
    };
    let unit = row.unit.as_str();
    let one = format!("1 {unit}");
    let bad = |e: presil_numerics::units::UnitError| e.to_string();
    match row.metric.as_str() {
        "latency" | "ttft" | "tpot" => Ok(latency / one.parse::<Seconds>().map_err(bad)?.0),
        "energy" => Ok(energy / one.parse::<Joules>().map_err(bad)?.0),
        "power" => Ok(energy / latency / one.parse::<Watts>().map_err(bad)?.0),
        "processing_latency" | "active_pes" => passes(any()?, row).and_then(|p| match unit {
            "PE" => Ok(p.active as f64),
            _ => Ok(p.processing_s / one.parse::<Seconds>().map_err(bad)?.0),
        }),
        "array_bytes" => {
            let bytes = one.parse::<Bytes>().map_err(bad)?.0 as f64;
            passes(any()?, row).map(|p| p.buffer_bytes / bytes)
        }
        "chip_power" => {
            let board = root_energy(any()?, row.op.as_deref());
            Ok((energy - board) / latency / one.parse::<Watts>().map_err(bad)?.0)
        }
        "dram_bytes" => Ok(dram / one.parse::<Bytes>().map_err(bad)?.0 as f64),
        "throughput" if unit == "TOPS" => Ok(2.0 * macs as f64 / latency / 1e12),
        "throughput" => Err(format!("the unit of a throughput is TOPS, not `{unit}`")),
        other => Err(format!(
            "`{other}` is none of latency, processing_latency, ttft, tpot, throughput, dram_bytes, array_bytes, \
             active_pes, energy, power, chip_power"
        )),
    }
}

/// What stands beside the processing time of a stated mapping: the time of the best one.
fn beside(run: Option<&Result<Run, String>>, row: &MeasuredRow) -> String {
    let phase = run.and_then(|r| r.as_ref().ok()?.phases.first());
    let passes = phase.and_then(|p| passes(p, row).ok());
    match passes.and_then(|p| p.free_s) {
        Some(free) if row.metric == "processing_latency" => {
            format!(
                "; the best mapping of the array would take {}",
                Seconds(free)
            )
        }
        _ => String::new(),
    }
}

/// The passes of a row's op.
fn passes<'r>(phase: &'r Phase, row: &MeasuredRow) -> Result<&'r PassRun, String> {
    let name = row.op.as_deref().unwrap_or_default();
    let op = phase.ops.iter().find(|o| o.name == name);
    op.and_then(|o| o.passes.as_ref())
        .ok_or_else(|| format!("`{name}` is no op that runs in passes"))
}

/// Energy of the root memory, which is on the board: of an op or, without one, of the phase.
fn root_energy(phase: &Phase, op: Option<&str>) -> f64 {
    let root = phase.traffic.first().map(|t| t.memory.as_str());
    let entries = match op {
        Some(name) => phase.ops.iter().find(|o| o.name == name).map(|o| &o.energy),
        None => Some(&phase.energy),
    };
    let own = entries.into_iter().flatten();
    own.filter(|e| Some(e.component.as_str()) == root)
        .map(|e| e.energy_j)
        .sum()
}

type Sums = (f64, f64, u128, f64);

/// Latency, energy, executed MACs and root memory bytes of a phase.
fn sums(phase: &Phase) -> Sums {
    let dram = phase
        .traffic
        .first()
        .map_or(0.0, |t| t.read_bytes + t.write_bytes);
    (phase.latency_s, phase.energy_j, phase.executed_macs, dram)
}

/// The same of one op. Its energy takes its share of the static energy by time.
fn of_op(phase: &Phase, name: &str) -> Result<Sums, String> {
    let op = phase
        .ops
        .iter()
        .find(|o| o.name == name)
        .ok_or_else(|| format!("the model has no op `{name}`"))?;
    let fixed: f64 = phase
        .energy
        .iter()
        .filter(|e| e.action == "static")
        .map(|e| e.energy_j)
        .sum();
    let share = if phase.latency_s > 0.0 {
        op.time.total_s / phase.latency_s
    } else {
        0.0
    };
    let energy = op.energy.iter().map(|e| e.energy_j).sum::<f64>() + fixed * share;
    let root = phase.traffic.first().map(|t| t.memory.as_str());
    let dram = op
        .traffic
        .iter()
        .filter(|t| Some(t.memory.as_str()) == root);
    Ok((
        op.time.total_s,
        energy,
        op.executed_macs,
        dram.map(|t| t.read_bytes + t.write_bytes).sum(),
    ))
}
