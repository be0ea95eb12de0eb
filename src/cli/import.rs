//! `presil import`: what a model file contains.

use clap::Args as ClapArgs;
use presil::inspect::{Question, inspect};

use super::{Failure, parse_shape};

/// Arguments of `presil import`.
#[derive(ClapArgs)]
pub struct Args {
    /// ONNX or TFLite file, HuggingFace config.json or presil graph TOML (zoo names work too).
    file: String,
    #[command(flatten)]
    pass: PassArgs,
    /// Shape of an input that the file leaves open, such as x=1x3x224x224.
    #[arg(long = "shape", value_parser = parse_shape)]
    shapes: Vec<(String, Vec<u64>)>,
    /// List ops that presil has no model of instead of refusing the model.
    #[arg(long)]
    allow_unknown: bool,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Which pass of a model is looked at.
#[derive(ClapArgs, Clone)]
pub struct PassArgs {
    /// LLMs: which phase.
    #[arg(long, value_parser = ["prefill", "decode"], default_value = "prefill")]
    pub phase: String,
    /// LLMs: tokens of the prompt (prefill).
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..))]
    pub prompt: u64,
    /// LLMs: tokens attended to, the new one included (decode).
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..))]
    pub context: u64,
    /// Images or sequences at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub batch: u64,
    /// Multi-head latent attention: absorb the projections in decode, instead of expanding keys and values as the
    /// reference implementations do.
    #[arg(long)]
    pub absorb_mla: bool,
}

impl PassArgs {
    /// The question that these flags ask of a model.
    pub fn question(&self, model: &str) -> Question {
        Question {
            model: model.to_string(),
            decode: self.phase == "decode",
            prompt: self.prompt,
            context: self.context,
            batch: self.batch,
            absorb_mla: self.absorb_mla,
            shapes: Vec::new(),
            allow_unknown: false,
        }
    }
}

/// Runs the command.
pub fn main(args: &Args) -> Result<(), Failure> {
    let question = Question {
        shapes: args.shapes.clone(),
        allow_unknown: args.allow_unknown,
        ..args.pass.question(&args.file)
    };
    let answer = inspect(&question).map_err(Failure::input)?;
    if args.json {
        super::print_json(&serde_json::to_value(&answer)?)
    } else {
        super::print(&answer.text())
    }
}
