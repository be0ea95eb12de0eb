//! `presil chips`: the chips that ship.

use clap::{Args as ClapArgs, Subcommand};
use presil::hwmodels::{Chip, EngineKind, NodeKind, Status, library, load};
use serde_json::json;

use super::{Failure, parse_set};

/// Arguments of `presil chips`.
#[derive(ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// One JSON document on stdout.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// A chip's tree, engines, area and power, and every constant with its source.
    Show {
        /// Chip that ships, or a chip file.
        name: String,
        /// Override a field of the chip.
        #[arg(long = "set", value_parser = parse_set)]
        sets: Vec<(String, String)>,
    },
}

/// Runs the command.
pub fn main(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Some(Command::Show { name, sets }) => {
            let chip = load(name, sets).map_err(Failure::input)?;
            if args.json {
                super::print_json(&to_json(&chip))
            } else {
                super::print(&to_text(&chip))
            }
        }
        None if args.json => super::print_json(&json!({ "chips": library::names() })),
        None => super::print(&library::names().join("\n")),
    }
}

/// Dense peak in operations per second of every mode of the chip's arrays.
fn peaks(chip: &Chip) -> Vec<(String, f64)> {
    let mut peaks: Vec<(String, f64)> = Vec::new();
    for node in chip.nodes.iter() {
        let NodeKind::Compute(compute) = &node.kind else {
            continue;
        };
        for mode in &compute.modes {
            let name = format!("{} x {}", mode.weight, mode.input);
            if !peaks.iter().any(|(n, _)| *n == name) {
                peaks.push((name, chip.peak_ops(mode.weight, mode.input)));
            }
        }
    }
    peaks
}

fn to_json(chip: &Chip) -> serde_json::Value {
    let named = |list: Vec<(String, f64)>| {
        list.into_iter()
            .map(|(n, v)| (n, json!(v)))
            .collect::<serde_json::Map<_, _>>()
    };
    json!({
        "name": chip.name,
        "description": chip.description,
        "node_nm": chip.node_nm,
        "hash": chip.hash,
        "peak_ops_per_s": named(peaks(chip)),
        "area_mm2": named(chip.area().into_iter().map(|(n, a)| (n, a.0)).collect()),
        "static_power_w": named(chip.static_power().into_iter().map(|(n, p)| (n, p.0)).collect()),
        "memories": chip.nodes.iter().filter_map(|n| n.memory().map(|m| json!({
            "name": n.name,
            "instances": n.instances,
            "capacity_bytes": m.capacity.0,
            "read_bytes_per_s": m.read_rate.0,
            "write_bytes_per_s": m.write_rate.0,
            "streaming_efficiency": m.streaming_efficiency,
            "read_j_per_bit": m.read_energy.0,
            "write_j_per_bit": m.write_energy.0,
        }))).collect::<Vec<_>>(),
        "engines": chip.engines.iter().map(|e| e.name.clone()).collect::<Vec<_>>(),
        "constants": chip.provenance,
    })
}

fn to_text(chip: &Chip) -> String {
    let mut text = format!("{}: {}\n\n", chip.name, chip.description);
    text.push_str(&format!("  node {} nm, hash {}\n", chip.node_nm, chip.hash));
    for (name, ops) in peaks(chip) {
        text.push_str(&format!("  {name:<24}{:>10.3} TOPS dense\n", ops / 1e12));
    }
    text.push_str("\n  tree\n");
    for node in chip.nodes.iter() {
        let mut depth = 0;
        let mut at = node.parent;
        while let Some(parent) = at {
            depth += 1;
            at = chip.nodes[parent].parent;
        }
        let what = match &node.kind {
            NodeKind::Memory(m) => format!(
                "{} x {}, read {}, write {}, {} / {}",
                node.instances,
                m.capacity,
                m.read_rate,
                m.write_rate,
                m.read_energy,
                m.write_energy
            ),
            NodeKind::Fanout(f) => f
                .dims
                .iter()
                .map(|d| format!("{} {}", d.size, d.name))
                .collect::<Vec<_>>()
                .join(" x "),
            NodeKind::Compute(c) => {
                let modes = c.modes.iter().map(|m| {
                    format!(
                        "{}x{}: {} MAC/cycle {}",
                        m.weight, m.input, m.macs_per_cycle, m.energy
                    )
                });
                format!(
                    "{} x [{}]",
                    node.instances,
                    modes.collect::<Vec<_>>().join("; ")
                )
            }
        };
        text.push_str(&format!(
            "  {:indent$}{}  {what}\n",
            "",
            node.name,
            indent = 2 * depth
        ));
    }
    text.push_str("\n  engines\n");
    for engine in chip.engines.iter() {
        let what = match &engine.kind {
            EngineKind::Array { compute, .. } => {
                format!("MAC array at {}", chip.nodes[*compute].name)
            }
            EngineKind::Vector {
                memory,
                lanes,
                modes,
                ..
            } => {
                let formats: Vec<String> = modes.iter().map(|m| m.format.to_string()).collect();
                format!(
                    "vector unit of {lanes} lanes at {}, {}",
                    chip.nodes[*memory].name,
                    formats.join(", ")
                )
            }
            EngineKind::Host {
                operations_per_second,
                rate,
                ..
            } => {
                format!(
                    "host processor, {:.3} Gop/s, {rate}",
                    operations_per_second / 1e9
                )
            }
        };
        text.push_str(&format!("  {:<14}{what}\n", engine.name));
    }
    let area: f64 = chip.area().iter().map(|a| a.1.0).sum();
    let power: f64 = chip.static_power().iter().map(|p| p.1.0).sum();
    text.push_str(&format!(
        "\n  area {area:.2} mm2, static power {power:.3} W\n"
    ));
    for (title, of) in [("assumed", true), ("known", false)] {
        let rows: Vec<_> = chip
            .provenance
            .iter()
            .filter(|p| (p.status == Status::Assumed) == of)
            .collect();
        text.push_str(&format!("\n  constants {title} ({})\n", rows.len()));
        for p in rows {
            let range = p
                .range
                .as_ref()
                .map_or(String::new(), |(lo, hi)| format!(" [{lo} .. {hi}]"));
            let status = format!("{:?}", p.status).to_lowercase();
            text.push_str(&format!(
                "  {:<36}{}{range}  {status}: {}\n",
                p.path, p.value, p.source
            ));
        }
    }
    text
}
