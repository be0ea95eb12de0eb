//! `presil eval`: what given mappings cost.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use presil::eval::load::split_systolic;
use presil::eval::{Asked, Report, evaluate, json, load, systolic, text};
use presil::mapper::conventions::Convention;

use super::{Failure, parse_set};

/// Arguments of `presil eval`.
#[derive(ClapArgs)]
pub struct Args {
    /// Case files (.toml, .json), the .yaml files of a Timeloop set, or a SCALE-Sim .cfg and .csv.
    #[arg(required = true)]
    cases: Vec<PathBuf>,
    /// Whose rules of counting: physical, timeloop, accelforge, zigzag, scalesim, or all side by side
    /// [default: the case's own].
    #[arg(long, value_parser = parse_convention)]
    convention: Option<Asked>,
    /// Chip that ships, or a chip file, for cases that write no levels.
    #[arg(long)]
    chip: Option<String>,
    /// Override a field of the chip, such as dram.bandwidth="68 GB/s".
    #[arg(long = "set", value_parser = parse_set, requires = "chip")]
    sets: Vec<(String, String)>,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Reads --convention.
pub fn parse_convention(name: &str) -> Result<Asked, String> {
    if name == "all" {
        return Ok(Asked::All);
    }
    Convention::parse(name).map(Asked::One).ok_or_else(|| {
        let names: Vec<&str> = Convention::ALL.iter().map(|c| c.name()).collect();
        let near = presil::numerics::diagnostic::nearest(name, names.iter().copied());
        let near = near.map_or(String::new(), |n| format!("did you mean `{n}`? "));
        format!("{near}There is {} and all", names.join(", "))
    })
}

/// Runs the command.
pub fn main(args: &Args) -> Result<(), Failure> {
    let chip = args.chip.as_ref();
    let chip = chip.map(|name| presil::hwmodels::load(name, &args.sets).map_err(Failure::input));
    let (cfg, csv, others) = split_systolic(&args.cases).map_err(Failure::input)?;
    let loaded = load(&others, chip.transpose()?.as_ref()).map_err(Failure::input)?;
    let asked = args.convention.unwrap_or(Asked::Own);
    let reports: Result<Vec<Report>, _> = loaded.into_iter().map(|l| evaluate(l, asked)).collect();
    let reports = reports.map_err(Failure::input)?;
    let mut layers = Vec::new();
    if !cfg.is_empty() || !csv.is_empty() {
        if !matches!(asked, Asked::Own | Asked::One(Convention::ScaleSim)) {
            let message =
                "SCALE-Sim's files hold no mapping: they are told in convention scalesim alone";
            return Err(Failure::input(message));
        }
        layers.push(systolic::layers(&cfg, &csv).map_err(Failure::input)?);
    }
    if args.json {
        let mut values: Vec<_> = reports.iter().map(json::report).collect();
        values.extend(layers.iter().map(systolic::Layers::json));
        return match values.as_slice() {
            [one] => super::print_json(one),
            _ => super::print_json(&serde_json::json!({ "cases": values })),
        };
    }
    let mut texts: Vec<String> = reports.iter().map(text::report).collect();
    texts.extend(layers.iter().map(systolic::Layers::text));
    super::print(&texts.join("\n"))
}
