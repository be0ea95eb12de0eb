//! Reference cases: what presil says beside what silicon and exact counts say.
//!
//! Two forms of case, both CSV; the ones in `configs/validation/` are built in, and a folder of the user's own
//! files of the same names is read with `--data`:
//!
//! - `counts.csv`: `model,phase,batch,tokens,macs,parameters,source`: exact counts, which must be equal.
//!   `tokens` is the prompt of a prefill, the context of a decode, empty otherwise.
//! - `measured.csv`: `case,class,chip,model,precision,batch,prompt,generate,op,metric,value,unit,tolerance,source,note`:
//!   a figure of one op (or of the whole model where `op` is empty). `class` is `silicon`, `rtl` or `estimate`.
//!   `metric` is `latency` (s, ms, us), `ttft`, `tpot`, `throughput` (TOPS: executed MACs count two),
//!   `dram_bytes` (B, kB, MB), `energy` (J, mJ, uJ) or `power` (W, mW: energy over latency).
//!   `tolerance` is the relative error that passes; where it is empty the case is reported, not judged.
//!   `model` may be a path relative to the file's folder.
//!
//! The relative error is `(presil - reference) / reference`; a class reports the mean, median and largest of its
//! absolute value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use presil_numerics::{Bytes, Joules, Seconds, Watts};
use presil_sim::Run;
use presil_sim::run::Phase;
use presil_workloads::{Graph, Model};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::inspect::{Question, inspect};
use crate::run::{Options, run_on};

/// Why the cases could not be read.
#[derive(Debug, Error)]
pub enum ValidateError {
    /// The folder has none of the files.
    #[error("`{0}` holds neither counts.csv nor measured.csv")]
    Empty(PathBuf),
    /// A file can't be read.
    #[error("cannot read `{path}`: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A row is wrong.
    #[error("{file}: {error}")]
    Row {
        /// The file.
        file: String,
        /// What is wrong and in which line.
        error: String,
    },
}

/// A row of `counts.csv`.
#[derive(Debug, Clone, Deserialize)]
struct CountRow {
    model: String,
    phase: String,
    batch: u64,
    tokens: Option<u64>,
    macs: u128,
    parameters: Option<u128>,
    source: String,
}

/// A row of `measured.csv`.
#[derive(Debug, Clone, Deserialize)]
struct MeasuredRow {
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

/// A reference case with presil's answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Case {
    /// Name.
    pub name: String,
    /// "silicon", "rtl", "estimate", "exact counts".
    pub class: String,
    /// What presil says, in the unit; `None` where it can't, with the reason in `note`.
    pub predicted: Option<f64>,
    /// What the reference says.
    pub reference: f64,
    /// Unit of both.
    pub unit: String,
    /// (predicted - reference) / reference.
    pub error: Option<f64>,
    /// Largest error that passes; `None`: reported only.
    pub tolerance: Option<f64>,
    /// Whether it is judged and within its tolerance.
    pub passed: bool,
    /// Where the reference comes from.
    pub source: String,
    /// What a reader must know.
    pub note: String,
}

/// Cases of a class, summed up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Class {
    /// Class.
    pub class: String,
    /// Cases.
    pub cases: usize,
    /// Cases with a tolerance.
    pub judged: usize,
    /// Judged cases that pass.
    pub passed: usize,
    /// Mean of the absolute errors.
    pub mean_error: Option<f64>,
    /// Median of the absolute errors.
    pub median_error: Option<f64>,
    /// Largest absolute error.
    pub max_error: Option<f64>,
    /// Names of the worst cases, worst first.
    pub worst: Vec<String>,
}

/// The trust table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Validation {
    /// Version of the tool.
    pub version: &'static str,
    /// One row a class.
    pub classes: Vec<Class>,
    /// All cases.
    pub cases: Vec<Case>,
}

/// The built-in files by name.
const BUILT_IN: [(&str, &str); 10] = [
    (
        "counts.csv",
        include_str!("../configs/validation/counts.csv"),
    ),
    (
        "measured.csv",
        include_str!("../configs/validation/measured.csv"),
    ),
    (
        "eyeriss-alexnet.toml",
        include_str!("../configs/validation/eyeriss-alexnet.toml"),
    ),
    (
        "eyeriss-vgg16.toml",
        include_str!("../configs/validation/eyeriss-vgg16.toml"),
    ),
    (
        "tpu-v1-mlp0.toml",
        include_str!("../configs/validation/tpu-v1-mlp0.toml"),
    ),
    (
        "tpu-v1-mlp1.toml",
        include_str!("../configs/validation/tpu-v1-mlp1.toml"),
    ),
    (
        "tpu-v1-lstm0.toml",
        include_str!("../configs/validation/tpu-v1-lstm0.toml"),
    ),
    (
        "tpu-v1-lstm1.toml",
        include_str!("../configs/validation/tpu-v1-lstm1.toml"),
    ),
    (
        "tpu-v1-cnn0.toml",
        include_str!("../configs/validation/tpu-v1-cnn0.toml"),
    ),
    (
        "tpu-v1-cnn1.toml",
        include_str!("../configs/validation/tpu-v1-cnn1.toml"),
    ),
];

/// Runs every built-in case, or those of a folder.
pub fn validate(data: Option<&Path>) -> Result<Validation, ValidateError> {
    let counts = text_of(data, "counts.csv")?;
    let measured = text_of(data, "measured.csv")?;
    if let (Some(folder), None, None) = (data, &counts, &measured) {
        return Err(ValidateError::Empty(folder.into()));
    }
    let counts: Vec<CountRow> = rows("counts.csv", counts.as_deref().unwrap_or_default())?;
    let measured: Vec<MeasuredRow> = rows("measured.csv", measured.as_deref().unwrap_or_default())?;
    let mut cases: Vec<Case> = counts.par_iter().flat_map_iter(count_cases).collect();
    cases.extend(measured_cases(data, &measured));
    Ok(Validation {
        version: crate::VERSION,
        classes: sum_up(&cases),
        cases,
    })
}

/// A file's text: of the user's folder (`None` where it has none), or built in.
fn text_of(data: Option<&Path>, name: &str) -> Result<Option<String>, ValidateError> {
    match data {
        None => Ok(BUILT_IN
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, text)| (*text).to_string())),
        Some(folder) => {
            let path = folder.join(name);
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok(Some(text)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(ValidateError::Io { path, error }),
            }
        }
    }
}

fn rows<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<Vec<T>, ValidateError> {
    let mut reader = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let rows: Result<Vec<T>, csv::Error> = reader.deserialize().collect();
    rows.map_err(|e| ValidateError::Row {
        file: file.into(),
        error: e.to_string(),
    })
}

fn count_cases(row: &CountRow) -> Vec<Case> {
    let name = match row.tokens {
        Some(tokens) => format!("{} {} {tokens}", row.model, row.phase),
        None => row.model.clone(),
    };
    let question = Question {
        model: row.model.clone(),
        decode: row.phase == "decode",
        prompt: row.tokens.unwrap_or(1),
        context: row.tokens.unwrap_or(1),
        batch: row.batch,
        // The references expand latent attention at every step.
        absorb_mla: false,
        shapes: Vec::new(),
        allow_unknown: false,
    };
    let answer = inspect(&question);
    let case = |what: &str, reference: u128, predicted: Result<u128, String>| Case {
        name: format!("{name} {what}"),
        class: "exact counts".into(),
        predicted: predicted.as_ref().ok().map(|p| *p as f64),
        reference: reference as f64,
        unit: what.into(),
        error: predicted
            .as_ref()
            .ok()
            .map(|p| relative(*p as f64, reference as f64)),
        tolerance: Some(0.0),
        passed: predicted == Ok(reference),
        source: row.source.clone(),
        note: predicted.err().unwrap_or_default(),
    };
    let answer = answer.map_err(|e| e.to_string());
    let mut cases = vec![case(
        "macs",
        row.macs,
        answer.as_ref().map(|a| a.macs).map_err(Clone::clone),
    )];
    if let Some(parameters) = row.parameters {
        cases.push(case("parameters", parameters, answer.map(|a| a.parameters)));
    }
    cases
}

/// Runs each distinct (chip, model, precision, batch, tokens) once and reads every row's figure from it.
fn measured_cases(data: Option<&Path>, rows: &[MeasuredRow]) -> Vec<Case> {
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
    let chip = presil_hwmodels::load(&row.chip, &[]).map_err(|e| e.to_string())?;
    let model = find_model(data, &row.model)?;
    run_on(&model, &chip, &options).map_err(|e| e.to_string())
}

/// A model by name, or a graph file beside the cases.
fn find_model(data: Option<&Path>, name: &str) -> Result<Model, String> {
    if let (None, Some((_, text))) = (data, BUILT_IN.iter().find(|(n, _)| *n == name)) {
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
        (Ok(_), note) => note.clone().unwrap_or_default(),
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

fn relative(predicted: f64, reference: f64) -> f64 {
    if predicted == reference {
        0.0
    } else {
        (predicted - reference) / reference
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
        "dram_bytes" => Ok(dram / one.parse::<Bytes>().map_err(bad)?.0 as f64),
        "throughput" if unit == "TOPS" => Ok(2.0 * macs as f64 / latency / 1e12),
        "throughput" => Err(format!("the unit of a throughput is TOPS, not `{unit}`")),
        other => Err(format!(
            "`{other}` is none of latency, ttft, tpot, throughput, dram_bytes, energy, power"
        )),
    }
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

fn sum_up(cases: &[Case]) -> Vec<Class> {
    let mut by_class: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        by_class.entry(&case.class).or_default().push(case);
    }
    let class = |(name, cases): (&str, Vec<&Case>)| {
        let mut errors: Vec<(f64, &str)> = cases
            .iter()
            .filter_map(|c| c.error.map(|e| (e.abs(), c.name.as_str())))
            .collect();
        errors.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let mean = errors.iter().map(|e| e.0).sum::<f64>() / errors.len() as f64;
        Class {
            class: name.into(),
            cases: cases.len(),
            judged: cases.iter().filter(|c| c.tolerance.is_some()).count(),
            passed: cases.iter().filter(|c| c.passed).count(),
            mean_error: (!errors.is_empty()).then_some(mean),
            median_error: errors.get(errors.len() / 2).map(|e| e.0),
            max_error: errors.first().map(|e| e.0),
            worst: errors
                .iter()
                .filter(|e| e.0 > 0.0)
                .take(3)
                .map(|e| e.1.to_string())
                .collect(),
        }
    };
    by_class.into_iter().map(class).collect()
}

impl Validation {
    /// The trust table as Markdown: classes, then every case that is no exact count, then counts that differ.
    pub fn markdown(&self) -> String {
        let percent = |e: Option<f64>| e.map_or("-".into(), |e| format!("{:.1} %", 100.0 * e));
        let mut text = format!(
            "# Validation\n\nWritten by `presil validate --out FILE`, presil {}.\n\n",
            self.version
        );
        text.push_str("| class | cases | judged | passed | mean error | median | max | worst |\n|---|---:|---:|---:|---:|---:|---:|---|\n");
        for c in &self.classes {
            text.push_str(&format!(
                "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
                c.class,
                c.cases,
                c.judged,
                c.passed,
                percent(c.mean_error),
                percent(c.median_error),
                percent(c.max_error),
                c.worst.join(", ")
            ));
        }
        text.push_str("\nThe error is (presil - reference) / reference. A class without judged cases is reported as it is.\n");
        let shown: Vec<&Case> = self
            .cases
            .iter()
            .filter(|c| c.class != "exact counts" || !c.passed)
            .collect();
        if !shown.is_empty() {
            text.push_str("\n| case | class | presil | reference | unit | error | source | note |\n|---|---|---:|---:|---|---:|---|---|\n");
        }
        for c in shown {
            let predicted = c.predicted.map_or("-".into(), |p| format!("{p:.4}"));
            let error = c
                .error
                .map_or("-".into(), |e| format!("{:+.1} %", 100.0 * e));
            text.push_str(&format!(
                "| {} | {} | {predicted} | {} | {} | {error} | {} | {} |\n",
                c.name,
                c.class,
                c.reference,
                c.unit,
                c.source,
                c.note.replace('\n', " ").replace('|', "/")
            ));
        }
        text
    }
}
