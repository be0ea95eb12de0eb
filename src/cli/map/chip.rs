//! `presil map PROBLEM --chip CHIP`: one einsum on a chip, in convention physical.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};
use presil::map::chip::{Ask, Target, json, map, show};
use presil::run::{Objective, Options, PhaseChoice};

use super::super::{Failure, parse_shape, print, print_json};
use super::{Args, Format, Goal};
use presil::eval::Asked;
use presil::map::Wanted;
use presil::mapper::conventions::Convention;

/// Bounds that a stage of a search computes unless --work says otherwise: about a second.
const WORK: u64 = 200_000;
/// The same for each of the searches that --explain takes.
const WORK_OF_EACH: u64 = 10_000;

/// Arguments for problems on chips alone: as those of `presil run`.
#[derive(ClapArgs)]
pub struct ChipArgs {
    /// An op of a model, where PROBLEM names the model; the same as MODEL/NAME.
    #[arg(long, value_name = "NAME", requires = "chip")]
    layer: Option<String>,
    /// File of constraints that the mapping must obey: [[constraint]] tables with `level` (a memory, a fanout, or
    /// FANOUT.AXIS), `trips`, `forbidden`, `order`, `min_utilization`, `keep`, `bypass`.
    #[arg(long, value_name = "FILE", requires = "chip")]
    pub(super) constraints: Option<PathBuf>,
    /// Layers: images or sequences at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), requires = "chip")]
    batch: u64,
    /// Layers of LLMs: tokens of the prompt.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..), requires = "chip")]
    prompt: u64,
    /// Layers of LLMs: which phase.
    #[arg(long, value_enum, default_value_t = Phase::Prefill, requires = "chip")]
    phase: Phase,
    /// Layers of LLMs: context of the decode step [default: the prompt and one token].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), requires = "chip")]
    context: Option<u64>,
    /// Shape of an input that the model file leaves open, such as x=1x3x224x224.
    #[arg(long = "shape", value_parser = parse_shape, requires = "chip")]
    shapes: Vec<(String, Vec<u64>)>,
    /// Formats: int8, bf16, w4a16kv8, w=mxfp4,a=bf16,kv=int8 [default: the chip's; of a case its widths].
    #[arg(long, requires = "chip")]
    precision: Option<String>,
    /// Format of weights alone.
    #[arg(long, requires = "chip")]
    weights: Option<String>,
    /// Format of activations alone.
    #[arg(long, requires = "chip")]
    activations: Option<String>,
    /// Format of the KV cache alone.
    #[arg(long, requires = "chip")]
    kv: Option<String>,
    /// Format of partial sums.
    #[arg(long, requires = "chip")]
    accumulate: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Phase {
    Prefill,
    Decode,
}

/// Whether the problem is one for a chip in convention physical.
pub fn asked(args: &Args) -> bool {
    let physical = matches!(
        args.convention,
        None | Some(Asked::Own | Asked::One(Convention::Physical))
    );
    let yaml = |p: &std::path::PathBuf| p.extension().is_some_and(|e| e == "yaml" || e == "yml");
    args.chip.is_some() && physical && !args.problem.iter().any(yaml)
}

/// Runs the command.
pub fn main(args: &Args) -> Result<(), Failure> {
    let ask = ask(args)?;
    let mapping = map(&ask).map_err(Failure::input)?;
    match args.format {
        Format::Case => print(&mapping.case.map_err(Failure::input)?),
        Format::Timeloop => print(&mapping.timeloop.map_err(Failure::input)?),
        Format::Text if args.json => print_json(&json::json(&mapping)),
        Format::Text => print(&show::text(&mapping)),
    }
}

fn ask(args: &Args) -> Result<Ask, Failure> {
    for (given, flag) in [
        (args.perfect, "perfect"),
        (args.exhaustive, "exhaustive"),
        (args.certificate.is_some(), "certificate"),
        (args.check.is_some(), "check"),
    ] {
        if given {
            return Err(Failure::input(format!(
                "--{flag} is of the search of cases, in convention accelforge; leave out --{flag}, or leave out --chip and give a case file"
            )));
        }
    }
    let layer = args.on_chip.layer.as_deref();
    let a = &args.on_chip;
    let target = Target::parse(&args.problem, layer).map_err(Failure::input)?;
    let model = match &target {
        Target::Layer { model, .. } => model.clone(),
        Target::Case(_) | Target::Short(_) => String::new(),
    };
    let wanted = match args.best {
        Some(count) => Wanted::Nearest(usize::from(count)),
        None if args.pareto => Wanted::Front,
        None => Wanted::Best,
    };
    if args.explain && args.budget.is_some() {
        return Err(Failure::input(
            "--explain takes many searches on a chip; bound each one by --work, not --budget",
        ));
    }
    let work = match args.budget {
        // A budget of time is none of work.
        Some(_) => u64::MAX,
        None if args.explain => WORK_OF_EACH,
        None => WORK,
    };
    Ok(Ask {
        target,
        objective: args.objective.map(|goal| match goal {
            Goal::Latency => Objective::Latency,
            Goal::Energy => Objective::Energy,
            Goal::Edp => Objective::Edp,
        }),
        run: options(args, model)?,
        work: args.work.unwrap_or(work),
        seconds: args.budget,
        constraints: a.constraints.clone(),
        wanted,
        explain: args.explain,
    })
}

fn options(args: &Args, model: String) -> Result<Options, Failure> {
    fn read<T: std::str::FromStr<Err: std::fmt::Display>>(
        text: Option<&String>,
        flag: &str,
    ) -> Result<Option<T>, Failure> {
        let parse = |t: &String| {
            t.parse()
                .map_err(|e| Failure::input(format!("--{flag}: {e}")))
        };
        text.map(parse).transpose()
    }
    let a = &args.on_chip;
    let chip = args.chip.clone().unwrap_or_default();
    Ok(Options {
        batch: a.batch,
        prompt: a.prompt,
        phase: match a.phase {
            Phase::Prefill => PhaseChoice::Prefill,
            Phase::Decode => PhaseChoice::Decode,
        },
        context: a.context,
        shapes: a.shapes.clone(),
        precision: read(a.precision.as_ref(), "precision")?,
        weights: read(a.weights.as_ref(), "weights")?,
        activations: read(a.activations.as_ref(), "activations")?,
        kv: read(a.kv.as_ref(), "kv")?,
        accumulate: read(a.accumulate.as_ref(), "accumulate")?,
        sets: args.sets.clone(),
        ..Options::new(model, chip)
    })
}
