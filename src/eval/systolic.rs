//! Layers on a systolic array as SCALE-Sim counts them, from its own `.cfg` and topology `.csv`. Its model has
//! folds and no loop nest, so that these layers are told in convention `scalesim` alone.

use std::fmt::Write;

use presil_mapper::conventions::scalesim::{Report, evaluate};
use presil_mapper::interop::scalesim::{NamedLayer, read_config, read_topology};
use serde_json::{Value, json};

use super::load::LoadError;
use super::text::{figure, table};

/// Layers on an array, told.
#[derive(Debug, Clone, PartialEq)]
pub struct Layers {
    /// Name of the run.
    pub name: String,
    /// Each layer and what SCALE-Sim would report of it.
    pub layers: Vec<(NamedLayer, Report)>,
}

/// Reads a configuration and a topology (labels and texts) and evaluates every layer.
///
/// # Errors
/// If there is not one of each, a file means nothing, or a layer has no closed form.
pub fn layers(cfg: &[(String, String)], csv: &[(String, String)]) -> Result<Layers, LoadError> {
    let ([(cfg_name, cfg)], [(csv_name, csv)]) = (cfg, csv) else {
        let message = "SCALE-Sim's files are one .cfg and one topology .csv";
        return Err(LoadError::Set(message.into()));
    };
    let told = |name: &str, error: String| LoadError::Set(format!("{name}: {error}"));
    let config = read_config(cfg).map_err(|e| told(cfg_name, e.to_string()))?;
    let topology = read_topology(csv).map_err(|e| told(csv_name, e.to_string()))?;
    let mut layers = Vec::new();
    for layer in topology {
        let report = evaluate(&config.array, &layer.layer)
            .map_err(|e| told(csv_name, format!("layer `{}`: {e}", layer.name)))?;
        layers.push((layer, report));
    }
    Ok(Layers {
        name: config.name,
        layers,
    })
}

impl Layers {
    /// Cycles of all layers, stalls included, where all have a closed form.
    pub fn total_cycles(&self) -> Option<u64> {
        let of = |(layer, report): &(NamedLayer, Report)| {
            report.total_cycles()?.checked_mul(layer.repeat)
        };
        let cycles: Option<Vec<u64>> = self.layers.iter().map(of).collect();
        cycles?.into_iter().try_fold(0u64, u64::checked_add)
    }

    /// As a table, one row a layer.
    pub fn text(&self) -> String {
        let heads = [
            "layer",
            "times",
            "MACs",
            "compute",
            "stalls",
            "cycles",
            "mapped",
            "utilized",
            "input reads",
            "filter reads",
            "output writes",
        ];
        let mut rows = vec![heads.map(String::from).to_vec()];
        let count = |c: Option<u64>| c.map_or("-".into(), |c| figure(c as f64));
        for (layer, r) in &self.layers {
            let [input, filter, output] = r.sram.map(|words| figure(words as f64));
            rows.push(vec![
                layer.name.clone(),
                layer.repeat.to_string(),
                figure(r.macs as f64),
                figure(r.compute_cycles as f64),
                count(r.stall_cycles),
                count(r.total_cycles()),
                format!("{:.1} %", 100.0 * r.mapping_efficiency),
                format!("{:.1} %", 100.0 * r.compute_utilization),
                input,
                filter,
                output,
            ]);
        }
        let mut text = format!("{}: convention scalesim\n\n{}", self.name, table(&rows, 1));
        let total = self.total_cycles().map(|c| c as f64);
        let total = total.map_or("not told: a layer has no closed form".into(), figure);
        let _ = writeln!(text, "\n  cycles in all: {total}");
        text
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let layers = self.layers.iter().map(|(layer, r)| {
            json!({
                "layer": layer.name,
                "times": layer.repeat,
                "macs": r.macs,
                "compute_cycles": r.compute_cycles,
                "stall_cycles": r.stall_cycles,
                "cycles": r.total_cycles(),
                "cycles_with_prefetch": r.cycles_with_prefetch,
                "mapping_efficiency": r.mapping_efficiency,
                "compute_utilization": r.compute_utilization,
                "overall_utilization": r.overall_utilization(),
                "input_sram_reads": r.sram[0],
                "filter_sram_reads": r.sram[1],
                "output_sram_writes": r.sram[2],
                "input_dram_reads": r.dram_reads[0].map(|s| s.words),
                "filter_dram_reads": r.dram_reads[1].map(|s| s.words),
                "output_dram_writes": r.dram_writes,
            })
        });
        json!({
            "case": self.name,
            "convention": "scalesim",
            "layers": layers.collect::<Vec<_>>(),
            "cycles": self.total_cycles(),
            "version": crate::VERSION,
        })
    }
}
