//! `presil numerics`: number formats at work.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use presil::cast::{CastError, Request, cast};
use presil::numerics::block::mx::ScaleRule;
use presil::numerics::conversion::{MissingNan, Subnormals};
use presil::numerics::{Conversion, Overflow, Rounding};

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

/// Runs the command.
pub fn main(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Cast(args) => run_cast(args),
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
    let request = Request {
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
    let report = cast(&request).map_err(|error| match error {
        CastError::Write(..) => Failure::Other(error.into()),
        _ => Failure::input(error),
    })?;
    if args.json {
        super::print_json(&serde_json::to_value(&report)?)
    } else {
        super::print(&report.text())
    }
}
