//! `presil numerics`: number formats at work.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use presil::cast::{self, CastError};
use presil::execute::task::Measured;
use presil::execute::{Request, execute};
use presil::numerics::block::mx::ScaleRule;
use presil::numerics::conversion::{MissingNan, Subnormals};
use presil::numerics::{Conversion, Overflow, Rounding};
use presil::vectors::{self, VectorsError};

use super::Failure;

/// Arguments of `presil numerics`.
#[derive(ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Casts an array from any format to any other and tells what was lost.
    Cast(Cast),
    /// Executes a model in a chip's arithmetic beside its reference: errors of each op, the task's metric, the cost.
    Run(Box<Run>),
    /// Golden vectors for a unit: operands, accumulators and sums, of an op of a model or of the unit alone.
    Vectors(Box<VectorsArgs>),
}

#[derive(ClapArgs)]
struct Cast {
    /// The .npy array: f32, f64, integers, or codes of `--from` in integers.
    input: PathBuf,
    /// Where the codes go: .npy; .npz for schemes with scales (mxfp4, nvfp4, nf4, int4_g128).
    output: PathBuf,
    /// The input's format, where its array does not say: int8, fp16, fp8_e4m3fn.
    #[arg(long)]
    from: Option<String>,
    /// The target: a format (bf16, fp8_e5m2, int8, fp_e5m3) or a scheme (mxfp4, nvfp4, nf4_dq, int4_g128, q8_0).
    #[arg(long)]
    to: String,
    /// rne, rna, rtz, rtn, rtp, half_up, odd, stochastic, or stochastic8 for 8 random bits.
    #[arg(long, alias = "rounding", default_value = "rne")]
    round: Rounding,
    /// Beyond the range: saturate, wrap (integers), nonfinite (infinity, or NaN where there is none), nan.
    #[arg(long, default_value = "saturate")]
    overflow: Overflow,
    /// Seed of stochastic rounding.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Numbers below the smallest normal one become zero.
    #[arg(long)]
    flush_subnormals: bool,
    /// What NaN becomes in formats without one.
    #[arg(long, value_enum, default_value_t = Nan::Zero)]
    nan: Nan,
    /// MX: the exponent of a block's scale.
    #[arg(long, value_enum, default_value_t = Scale::Floor)]
    mx_scale: Scale,
    /// Write the numbers that the codes stand for, not the codes.
    #[arg(long)]
    decode: bool,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Nan {
    /// Zero of its sign.
    Zero,
    /// Zero of the opposite sign.
    Negated,
    /// The largest number.
    Largest,
}

#[derive(Clone, Copy, ValueEnum)]
enum Scale {
    /// That of the largest magnitude (OCP).
    Floor,
    /// One more unless it is a power of two.
    Ceil,
    /// That of the largest magnitude rounded to the element's mantissa.
    Even,
    /// The least under which nothing saturates.
    Rceil,
}

/// A model, what it is evaluated on, and the arithmetic.
#[derive(ClapArgs)]
struct Scene {
    /// Chip that ships, or a chip file.
    #[arg(long)]
    chip: String,
    /// What it is evaluated on: a task file (TOML), or arrays (.npz, .npy, .safetensors) with samples along the outermost rank.
    #[arg(long)]
    data: PathBuf,
    /// An input that has another name in the data: x=vel_x.
    #[arg(long = "input", value_parser = pair)]
    inputs: Vec<(String, String)>,
    /// Weights; by default weights.safetensors beside the model file.
    #[arg(long)]
    parameters: Option<PathBuf>,
    /// LLMs of the zoo: tokens of a sequence.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..))]
    prompt: u64,
    /// Format that ops' results are kept in.
    #[arg(long)]
    results: Option<String>,
    /// Format of vector work: fp32, bf16, fp16.
    #[arg(long)]
    vector: Option<String>,
    /// The unit of a function: rsqrt=quake_1, exp2=poly4x2 (4 segments of degree 2), silu=table256; others are correctly rounded.
    #[arg(long = "function", value_parser = pair)]
    functions: Vec<(String, String)>,
    /// A field of the chip: dram.bandwidth="68 GB/s".
    #[arg(long = "set", value_parser = super::parse_set)]
    sets: Vec<(String, String)>,
}

/// What a matrix unit works on.
#[derive(ClapArgs)]
struct Formats {
    /// Format of weights: int8_pc, mxfp4, nf4, bf16, fp32. By default the chip's.
    #[arg(long)]
    weights: Option<String>,
    /// Format of activations that matrix units read: int8, fp8_e4m3fn, bf16, fp32. By default the chip's.
    #[arg(long)]
    activations: Option<String>,
    /// A unit (hopper_f8, int24_saturating) or a register (int20, int20:wrap, fp16) that adds products up.
    #[arg(long)]
    accumulate: Option<String>,
}

#[derive(ClapArgs)]
struct Run {
    /// Zoo name, model file or presil graph TOML, whose ops say what they compute.
    model: String,
    #[command(flatten)]
    scene: Scene,
    #[command(flatten)]
    formats: Formats,
    /// classes:OUTPUT=LABELS, next_token:OUTPUT=TOKENS or mse:OUTPUT=TARGET.
    #[arg(long)]
    metric: Option<Measured>,
    /// Samples at most.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    samples: Option<u64>,
    /// Try each matrix op alone in this arithmetic and rank them.
    #[arg(long)]
    sensitivity: bool,
    /// Run the task's sampler or decoder and tell errors step by step.
    #[arg(long)]
    growth: bool,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

#[derive(ClapArgs)]
struct VectorsArgs {
    /// Zoo name, model file or presil graph TOML; without it, vectors of the unit alone.
    #[arg(requires = "op")]
    model: Option<String>,
    /// The model's op.
    #[arg(long, requires = "model")]
    op: Option<String>,
    /// Chip that ships, or a chip file; for an op.
    #[arg(long, requires = "model")]
    chip: Option<String>,
    /// What the model runs on; for an op.
    #[arg(long, requires = "model")]
    data: Option<PathBuf>,
    /// Weights of the model; by default weights.safetensors beside its file.
    #[arg(long, requires = "model")]
    parameters: Option<PathBuf>,
    #[command(flatten)]
    formats: Formats,
    /// Products of a sum; for a unit alone.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65536))]
    length: u32,
    /// Seed of random operands; for a unit alone.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Sums at most.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100000))]
    count: u32,
    /// The folder that is written.
    #[arg(long)]
    out: PathBuf,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

fn run_model(args: &Run) -> Result<(), Failure> {
    let (scene, formats) = (&args.scene, &args.formats);
    let request = Request {
        model: args.model.clone(),
        chip: scene.chip.clone(),
        sets: scene.sets.clone(),
        data: scene.data.clone(),
        inputs: scene.inputs.clone(),
        metric: args.metric.clone(),
        parameters: scene.parameters.clone(),
        prompt: scene.prompt,
        weights: formats.weights.clone(),
        activations: formats.activations.clone(),
        results: scene.results.clone(),
        accumulate: formats.accumulate.clone(),
        vector: scene.vector.clone(),
        functions: scene.functions.clone(),
        samples: args
            .samples
            .map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX)),
        sensitivity: args.sensitivity,
        growth: args.growth,
    };
    let report = execute(&request).map_err(Failure::input)?;
    if args.json {
        super::print_json(&serde_json::to_value(&report)?)
    } else {
        super::print(&report.text())
    }
}

fn write_vectors(args: &VectorsArgs) -> Result<(), Failure> {
    let formats = &args.formats;
    let needed = |what: &Option<String>, flag: &str| {
        let missing = || {
            Failure::input(format!(
                "vectors of {} need `{flag}`",
                if args.model.is_some() {
                    "an op"
                } else {
                    "a unit"
                }
            ))
        };
        what.clone().ok_or_else(missing)
    };
    let from = match (&args.model, &args.op) {
        (Some(model), Some(op)) => {
            let data = args
                .data
                .clone()
                .ok_or_else(|| Failure::input("vectors of an op need `--data`"))?;
            let request = Request {
                model: model.clone(),
                chip: needed(&args.chip, "--chip")?,
                data,
                parameters: args.parameters.clone(),
                prompt: 128,
                weights: formats.weights.clone(),
                activations: formats.activations.clone(),
                accumulate: formats.accumulate.clone(),
                ..Request::default()
            };
            vectors::From::Model(Box::new(request), op.clone())
        }
        _ => vectors::From::Unit {
            weights: needed(&formats.weights, "--weights")?,
            activations: needed(&formats.activations, "--activations")?,
            accumulate: needed(&formats.accumulate, "--accumulate")?,
            length: args.length as usize,
            seed: args.seed,
        },
    };
    let written =
        vectors::write(&from, args.count as usize, &args.out).map_err(|error| match error {
            VectorsError::Io(..) => Failure::Other(error.into()),
            _ => Failure::input(error),
        })?;
    for path in written {
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

/// Runs the command.
pub fn main(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Cast(args) => run_cast(args),
        Command::Run(args) => run_model(args),
        Command::Vectors(args) => write_vectors(args),
    }
}

fn run_cast(args: &Cast) -> Result<(), Failure> {
    let rounding = match args.round {
        Rounding::Stochastic { bits, .. } => Rounding::Stochastic {
            bits,
            seed: args.seed,
        },
        other => other,
    };
    let request = cast::Request {
        input: args.input.clone(),
        output: args.output.clone(),
        from: args.from.clone(),
        to: args.to.clone(),
        conversion: Conversion {
            rounding,
            overflow: args.overflow,
            subnormals: if args.flush_subnormals {
                Subnormals::Flush
            } else {
                Subnormals::Keep
            },
            missing_nan: match args.nan {
                Nan::Zero => MissingNan::Zero,
                Nan::Negated => MissingNan::NegatedZero,
                Nan::Largest => MissingNan::Largest,
            },
        },
        scale_rule: match args.mx_scale {
            Scale::Floor => ScaleRule::Floor,
            Scale::Ceil => ScaleRule::Ceil,
            Scale::Even => ScaleRule::Even,
            Scale::Rceil => ScaleRule::Rceil,
        },
        decode: args.decode,
    };
    let report = cast::cast(&request).map_err(|error| match error {
        CastError::Write(..) => Failure::Other(error.into()),
        _ => Failure::input(error),
    })?;
    if args.json {
        super::print_json(&serde_json::to_value(&report)?)
    } else {
        super::print(&report.text())
    }
}
