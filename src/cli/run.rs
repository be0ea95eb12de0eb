//! `presil run`: the main job.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};
use presil::numerics::{Seconds, Watts};
use presil::reports::ReportError;
use presil::run::{Objective, Options, PhaseChoice};
use presil::workloads::Routing;

use super::{Failure, parse_set, parse_shape};

/// Arguments of `presil run`.
#[derive(ClapArgs)]
pub struct Args {
    /// Zoo name, ONNX or TFLite file, HuggingFace config.json or presil graph TOML.
    model: String,
    /// Chip that ships, or a chip file.
    #[arg(long)]
    chip: String,
    /// Images or sequences at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// LLMs: tokens of the prompt.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..))]
    prompt: u64,
    /// LLMs: tokens to generate.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..))]
    generate: u64,
    /// LLMs: which phases.
    #[arg(long, value_enum, default_value_t = Phase::Both)]
    phase: Phase,
    /// LLMs: decode one token at this context instead of the mean over --generate.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    context: Option<u64>,
    /// Shape of an input that the model file leaves open, such as x=1x3x224x224.
    #[arg(long = "shape", value_parser = parse_shape)]
    shapes: Vec<(String, Vec<u64>)>,
    /// Formats of weights, activations and KV cache: int8, bf16, w4a16kv8, w=mxfp4,a=bf16,kv=int8.
    #[arg(long)]
    precision: Option<String>,
    /// Format of weights alone.
    #[arg(long)]
    weights: Option<String>,
    /// Format of activations alone.
    #[arg(long)]
    activations: Option<String>,
    /// Format of the KV cache alone.
    #[arg(long)]
    kv: Option<String>,
    /// Format of partial sums.
    #[arg(long)]
    accumulate: Option<String>,
    /// What the mapping minimizes.
    #[arg(long, value_enum, default_value_t = Goal::Latency)]
    objective: Goal,
    /// How the figures are made.
    #[arg(long, value_enum, default_value_t = Fidelity::Simulated)]
    fidelity: Fidelity,
    /// Mixture of experts: "uniform", "power:EXPONENT" or a file with one weight per expert and line.
    #[arg(long, default_value = "uniform")]
    routing: String,
    /// Multi-head latent attention: expand keys and values at each step instead of absorbing the projections.
    #[arg(long)]
    expand_mla: bool,
    /// Cost ops that presil has no model of as data movement instead of refusing the model.
    #[arg(long)]
    allow_unknown: bool,
    /// Run each op by itself, even where the chip's compiler runs groups of ops tile by tile.
    #[arg(long)]
    no_fusion: bool,
    /// File of constraints that mappings must obey, as of `presil map --constraints`: [[constraint]] tables; those with
    /// `op = ["NAME", "layer1.*"]` hold for these ops, others for every op that has what they name.
    #[arg(long, value_name = "FILE")]
    constraints: Option<PathBuf>,
    /// Override a field of the chip, such as dram.bandwidth="68 GB/s".
    #[arg(long = "set", value_parser = parse_set)]
    sets: Vec<(String, String)>,
    /// Operating point of the chip: a name of its [[power.point]] tables.
    #[arg(long, conflicts_with = "power_limit")]
    point: Option<String>,
    /// What the chip may draw on average, such as "2 W": the fastest of its operating points that keeps to it is taken.
    #[arg(long, value_name = "POWER", value_parser = parse_watts)]
    power_limit: Option<Watts>,
    /// The run comes again every so often, such as "100 ms": average power, idling or asleep in between.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    period: Option<Seconds>,
    /// Folder for report.html, layers.csv, layers.parquet, run.json and, of simulated times, trace.pftrace [default: out/MODEL-CHIP].
    #[arg(long)]
    out: Option<PathBuf>,
    /// One JSON document on stdout; files only where --out is given.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Phase {
    Prefill,
    Decode,
    Both,
}

#[derive(Clone, Copy, ValueEnum)]
enum Fidelity {
    /// Closed forms.
    Analytic,
    /// Tiles as events.
    Simulated,
}

#[derive(Clone, Copy, ValueEnum)]
enum Goal {
    Latency,
    /// Many passes: one after the other at the lowest latency, or as a pipeline over the chip's cores where all weights
    /// fit in them.
    Throughput,
    Energy,
    Edp,
}

/// Runs the command.
pub fn main(args: &Args) -> Result<(), Failure> {
    let options = options(args)?;
    let run = presil::run::run(&options).map_err(Failure::input)?;
    // A closed or full stdout costs no files, and a folder that can't be written costs no table.
    let printed = if args.json {
        super::print_json(&presil::reports::run_json(&run, presil::VERSION))
    } else {
        super::print(&presil::reports::table(
            &run,
            super::terminal_width(),
            super::use_color(),
        ))
    };
    let folder = match (&args.out, args.json) {
        (Some(folder), _) => Some(folder.clone()),
        (None, true) => None,
        (None, false) => Some(PathBuf::from("out").join(format!(
            "{}-{}",
            file_stem(&run.model),
            file_stem(&run.chip)
        ))),
    };
    if let Some(folder) = folder {
        let written =
            presil::reports::write_all(&run, &folder, presil::VERSION).map_err(|e| match e {
                ReportError::Folder { .. } => Failure::input(e),
                _ => e.into(),
            })?;
        for path in written {
            eprintln!("wrote {}", path.display());
        }
    }
    printed
}

fn options(args: &Args) -> Result<Options, Failure> {
    let quantization = |text: &Option<String>, flag: &str| {
        let parse = |t: &String| {
            t.parse()
                .map_err(|e| Failure::input(format!("--{flag}: {e}")))
        };
        text.as_ref().map(parse).transpose()
    };
    let precision = args.precision.as_ref().map(|t| {
        t.parse()
            .map_err(|e| Failure::input(format!("--precision: {e}")))
    });
    let accumulate = args.accumulate.as_ref().map(|t| {
        t.parse()
            .map_err(|e| Failure::input(format!("--accumulate: {e}; partial sums need the format of one element, such as int32 or fp32")))
    });
    Ok(Options {
        model: args.model.clone(),
        chip: args.chip.clone(),
        batch: args.batch,
        prompt: args.prompt,
        generate: args.generate,
        phase: match args.phase {
            Phase::Prefill => PhaseChoice::Prefill,
            Phase::Decode => PhaseChoice::Decode,
            Phase::Both => PhaseChoice::Both,
        },
        context: args.context,
        shapes: args.shapes.clone(),
        precision: precision.transpose()?,
        weights: quantization(&args.weights, "weights")?,
        activations: quantization(&args.activations, "activations")?,
        kv: quantization(&args.kv, "kv")?,
        accumulate: accumulate.transpose()?,
        objective: match args.objective {
            Goal::Latency | Goal::Throughput => Objective::Latency,
            Goal::Energy => Objective::Energy,
            Goal::Edp => Objective::Edp,
        },
        throughput: matches!(args.objective, Goal::Throughput),
        fidelity: match args.fidelity {
            Fidelity::Analytic => presil::sim::run::Fidelity::Analytic,
            Fidelity::Simulated => presil::sim::run::Fidelity::Simulated,
        },
        routing: routing(&args.routing)?,
        absorb_mla: !args.expand_mla,
        allow_unknown: args.allow_unknown,
        sets: args.sets.clone(),
        point: args.point.clone(),
        power_limit: args.power_limit,
        period: args.period,
        fuse: !args.no_fusion,
        constraints: args.constraints.clone(),
    })
}

fn parse_watts(text: &str) -> Result<Watts, String> {
    let power: Watts = text.parse().map_err(|e| format!("{e}"))?;
    match power.0 > 0.0 {
        true => Ok(power),
        false => Err("the limit must be above zero".into()),
    }
}

fn parse_seconds(text: &str) -> Result<Seconds, String> {
    let time: Seconds = text.parse().map_err(|e| format!("{e}"))?;
    match time.0 > 0.0 {
        true => Ok(time),
        false => Err("the period must be above zero".into()),
    }
}

/// Reads --routing.
fn routing(text: &str) -> Result<Routing, Failure> {
    if text == "uniform" {
        return Ok(Routing::Uniform);
    }
    if let Some(exponent) = text.strip_prefix("power:") {
        let exponent = exponent
            .parse::<f64>()
            .ok()
            .filter(|e| e.is_finite() && *e >= 0.0);
        let exponent = exponent.ok_or_else(|| {
            Failure::input(format!(
                "--routing: `{text}` needs an exponent of at least 0, such as power:1.2"
            ))
        })?;
        return Ok(Routing::PowerLaw { exponent });
    }
    let content = std::fs::read_to_string(text).map_err(|e| {
        Failure::input(format!(
            "--routing: `{text}` is neither `uniform`, `power:EXPONENT` nor a readable file ({e})"
        ))
    })?;
    let weights: Result<Vec<f64>, _> = content.split_whitespace().map(str::parse::<f64>).collect();
    let weights = weights.map_err(|e| Failure::input(format!("--routing: {text}: {e}")))?;
    if weights.is_empty()
        || weights.iter().any(|w| !w.is_finite() || *w < 0.0)
        || weights.iter().all(|w| *w == 0.0)
    {
        return Err(Failure::input(format!(
            "--routing: {text} must hold one weight per expert, none negative, not all zero"
        )));
    }
    Ok(Routing::Histogram(weights))
}

/// A name that is fit for a folder: of a path its stem, other characters than letters, digits, dot and dash as dash.
fn file_stem(name: &str) -> String {
    let base = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let base = base
        .strip_suffix(".onnx")
        .or_else(|| base.strip_suffix(".json"))
        .or_else(|| base.strip_suffix(".toml"))
        .unwrap_or(base);
    base.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' || c == '_' {
                c
            } else {
                '-'
            }
        })
        .collect()
}
