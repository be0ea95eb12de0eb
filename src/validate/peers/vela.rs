//! Estimates of Arm's compiler Vela for networks on Ethos-U: total cycles of each run in `vela.json`.
//!
//! A run names a network, an accelerator, a system configuration and a memory mode; the chip file that states the
//! same parameters runs the network's `.tflite` file, which lies beside `vela.json` or in a folder `tflite` there.
//! The total passes if it is within 25 %; those of U85, whose engine is not published, are reported.

use std::path::Path;

use presil_workloads::{Graph, Model, Request, tflite};
use rayon::prelude::*;
use serde::Deserialize;

use super::super::{Case, relative};
use super::{File, failed, left_out};
use crate::run::{Options, run_on};

const CLASS: &str = "estimate: vela";
/// Relative error of a network's total that passes.
const TOLERANCE: f64 = 0.25;

/// Accelerator, system configuration, memory mode, the chip file that states them, and whether its runs are judged.
type Known = (&'static str, &'static str, &'static str, &'static str, bool);

const SHARED: &str = "Shared_Sram";
const SMALL: &str = "Dedicated_Sram_384KB";
const LARGE: &str = "Dedicated_Sram_512KB";

/// The engine of U85 is not published: its chip files scale that of U65.
const CHIPS: [Known; 11] = [
    (
        "ethos-u55-32",
        "Ethos_U55_Deep_Embedded",
        SHARED,
        "ethos-u55-32",
        true,
    ),
    (
        "ethos-u55-128",
        "Ethos_U55_High_End_Embedded",
        SHARED,
        "ethos-u55-128",
        true,
    ),
    (
        "ethos-u55-256",
        "Ethos_U55_High_End_Embedded",
        SHARED,
        "ethos-u55-256",
        true,
    ),
    (
        "ethos-u65-256",
        "Ethos_U65_Embedded",
        SHARED,
        "ethos-u65-256-embedded",
        true,
    ),
    (
        "ethos-u65-256",
        "Ethos_U65_Mid_End",
        SMALL,
        "ethos-u65-256",
        true,
    ),
    (
        "ethos-u65-512",
        "Ethos_U65_High_End",
        SMALL,
        "ethos-u65-512",
        true,
    ),
    (
        "ethos-u85-128",
        "Ethos_U85_SYS_Flash_Low",
        SHARED,
        "ethos-u85-128",
        false,
    ),
    (
        "ethos-u85-256",
        "Ethos_U85_SYS_Flash_High",
        SHARED,
        "ethos-u85-256",
        false,
    ),
    (
        "ethos-u85-512",
        "Ethos_U85_SYS_DRAM_Low",
        SMALL,
        "ethos-u85-512",
        false,
    ),
    (
        "ethos-u85-1024",
        "Ethos_U85_SYS_DRAM_Mid",
        LARGE,
        "ethos-u85-1024",
        false,
    ),
    (
        "ethos-u85-2048",
        "Ethos_U85_SYS_DRAM_High",
        LARGE,
        "ethos-u85-2048",
        false,
    ),
];

macro_rules! models {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_bytes!(concat!("../../../tests/data/vela/tflite/", $name, ".tflite")))),+]
    };
}

/// The built-in networks.
const MODELS: [(&str, &[u8]); 8] = models![
    "ae_mlp_toyadmos",
    "conv1x1_14x14x512_512",
    "conv1x1_56x56x64_64",
    "conv3x3_56x56x64_64",
    "ds_cnn_kws",
    "dw3x3_112x112x32",
    "lstm_28x28_20_unrolled",
    "mobilenet_v1_a0.25_96",
];

#[derive(Debug, Deserialize)]
struct Runs {
    runs: Vec<Run>,
}

#[derive(Debug, Deserialize)]
struct Run {
    network: String,
    accelerator: String,
    system_config: String,
    memory_mode: String,
    summary: Summary,
}

#[derive(Debug, Deserialize)]
struct Summary {
    core_clock: f64,
    cycles_total: f64,
}

/// The runs of a file.
pub(super) fn cases(file: &File) -> Vec<Case> {
    let runs: Runs = match serde_json::from_str(&file.text) {
        Ok(runs) => runs,
        Err(error) => return vec![failed(CLASS, &file.name, file, error.to_string())],
    };
    let case = |run: &Run| {
        let name = format!("{} {} {}", run.network, run.accelerator, run.system_config);
        let graph = match graph(file, &run.network) {
            Ok(Some(graph)) => graph,
            Ok(None) => {
                let reason = format!("`{}.tflite` is not beside it", run.network);
                return left_out(CLASS, &name, file, reason);
            }
            Err(reason) => return failed(CLASS, &name, file, reason),
        };
        let known = CHIPS.iter().find(|(accelerator, system, mode, ..)| {
            *accelerator == run.accelerator
                && *system == run.system_config
                && *mode == run.memory_mode
        });
        let Some((.., chip, judged)) = known else {
            let reason = "no chip file states its configuration";
            return left_out(CLASS, &name, file, reason.into());
        };
        match compare(run, graph, chip) {
            Ok(cycles) => told(run, &name, file, cycles, *judged),
            Err(reason) => failed(CLASS, &name, file, reason),
        }
    };
    runs.runs.par_iter().map(case).collect()
}

/// The network of a name; `None` where there is none.
fn graph(file: &File, network: &str) -> Result<Option<Graph>, String> {
    let import = |bytes: &[u8]| {
        tflite::import_bytes(network, bytes, &Request::default()).map_err(|e| e.to_string())
    };
    let Some(folder) = &file.folder else {
        let known = MODELS.iter().find(|(n, _)| *n == network);
        return known.map(|(_, bytes)| import(bytes)).transpose();
    };
    // A network is a file's name, not a path.
    if Path::new(network).components().count() != 1 {
        return Err(format!("`{network}` is no name of a network"));
    }
    let name = format!("{network}.tflite");
    let place = [folder.join(&name), folder.join("tflite").join(&name)];
    match place.iter().find(|p| p.is_file()) {
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
            import(&bytes).map(Some)
        }
        None => Ok(None),
    }
}

/// Cycles of the core clock that presil says.
fn compare(run: &Run, graph: Graph, chip: &str) -> Result<f64, String> {
    let options = Options::new(run.network.clone(), chip);
    let chip = presil_hwmodels::load(chip, &[]).map_err(|e| e.to_string())?;
    let model = Model::Graph(Box::new(graph));
    let result = run_on(&model, &chip, &options).map_err(|e| e.to_string())?;
    let seconds: f64 = result.phases.iter().map(|p| p.latency_s).sum();
    Ok(seconds * run.summary.core_clock)
}

fn told(run: &Run, name: &str, file: &File, cycles: f64, judged: bool) -> Case {
    let reference = run.summary.cycles_total;
    let error = relative(cycles, reference);
    Case {
        name: name.into(),
        class: CLASS.into(),
        predicted: Some(cycles),
        reference,
        unit: "cycles".into(),
        error: Some(error),
        tolerance: judged.then_some(TOLERANCE),
        passed: judged && error.abs() <= TOLERANCE,
        source: file.name.clone(),
        note: "a compiler's estimate, no measurement".into(),
    }
}
