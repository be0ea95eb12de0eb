//! `presil map`: the best mapping of a case, or of one einsum on a chip.

mod chip;

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, ValueEnum};
use presil::eval::{Asked, Loaded, load};
use presil::map::certify;
use presil::map::explain::explain;
use presil::map::{MapError, Mapped, Options, Wanted, map, map_all, show};
use presil::mapper::case::Case;
use presil::mapper::case::write::write;
use presil::mapper::interop::timeloop::write_mapping;
use presil::mapper::search::Objective;

use super::eval::parse_convention;
use super::{Failure, parse_set};

/// Arguments of `presil map`.
#[derive(ClapArgs)]
pub struct Args {
    /// Case files (.toml, .json), or the .yaml files of a Timeloop set. Cases of one einsum that differ only in energies
    /// and in sizes of memories are searched at once, much faster than one by one. With --chip also a layer, as MODEL/NAME, or
    /// "matmul 512x1024x768", "conv k64 c3 p112 q112 r7 s7 stride2".
    #[arg(required = true)]
    problem: Vec<PathBuf>,
    /// Chip that ships, or a chip file: maps one einsum on it, in convention physical.
    #[arg(long)]
    chip: Option<String>,
    /// Override a field of the chip, such as dram.bandwidth="68 GB/s".
    #[arg(long = "set", value_parser = parse_set, requires = "chip")]
    sets: Vec<(String, String)>,
    /// What is made small [default: as the case says].
    #[arg(long, value_enum)]
    objective: Option<Goal>,
    /// Convention that the result is told in [default: that of the search].
    #[arg(long, value_parser = parse_convention)]
    convention: Option<Asked>,
    /// Only tiles that divide their extents, without partial last tiles.
    #[arg(long)]
    perfect: bool,
    /// Partial mappings that the search may look at; what is left open then is told as the gap to a bound [default:
    /// 2000000; with --budget as many as its seconds allow; with --chip 200000 bounds, and 10000 in each search of
    /// --explain].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    work: Option<u64>,
    /// Seconds that the search of each case may take. The best found so far is told with its gap; it depends on the
    /// machine, unlike what --work gives.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    budget: Option<f64>,
    /// So many of the best mappings of a case of one einsum.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "pareto")]
    best: Option<u16>,
    /// All mappings of which none is at least as good as another in energy and time. What the work leaves open is told as gaps.
    #[arg(long)]
    pareto: bool,
    /// Count every mapping one by one, with no bounds, up to --work of them [default: 1000000000]: to test the search on
    /// cases of one einsum.
    #[arg(long, conflicts_with_all = ["best", "pareto", "explain"])]
    exhaustive: bool,
    /// Write a certificate of the best mapping to a file: the space, and why each part of it holds nothing better.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["best", "pareto"])]
    certificate: Option<PathBuf>,
    /// Check a certificate of the case, without searching.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["best", "pareto", "certificate", "exhaustive", "explain", "format", "perfect"])]
    check: Option<PathBuf>,
    /// What one more KiB, bit per cycle or instance of each level would give; with --chip also why no more of each
    /// axis is used.
    #[arg(long)]
    explain: bool,
    /// How the mapping is printed.
    #[arg(long, value_enum, default_value_t = Format::Text, conflicts_with = "json")]
    format: Format,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
    #[command(flatten, next_help_heading = "With --chip")]
    on_chip: chip::ChipArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Goal {
    Latency,
    Energy,
    Edp,
}

impl Goal {
    fn objective(self) -> Objective {
        match self {
            Self::Latency => Objective::Latency,
            Self::Energy => Objective::Energy,
            Self::Edp => Objective::Edp,
        }
    }
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    /// Nest, counts, energy and time.
    Text,
    /// A case file with the mapping in it.
    Case,
    /// Timeloop's mapping directives.
    Timeloop,
}

/// Partial mappings that the search may look at unless --work says otherwise.
const WORK: u64 = 2_000_000;

/// Mappings that --exhaustive counts unless --work says otherwise: a minute or so.
const WALK: u64 = 1_000_000_000;

/// Runs the command.
pub fn main(args: &Args) -> Result<(), Failure> {
    if chip::asked(args) {
        return chip::main(args);
    }
    if args.on_chip.constraints.is_some() {
        return Err(Failure::input(
            "--constraints is of mappings on a chip in convention physical; put [[constraint]] tables into the case",
        ));
    }
    let chip = args.chip.as_ref();
    let chip = chip.map(|name| presil::hwmodels::load(name, &args.sets).map_err(Failure::input));
    let loaded = load(&args.problem, chip.transpose()?.as_ref()).map_err(Failure::input)?;
    if let Some(file) = &args.check {
        return check(args, &loaded, file);
    }
    let convention = match args.convention {
        None | Some(Asked::Own) => None,
        Some(Asked::One(convention)) => Some(convention),
        Some(Asked::All) => {
            let message = "--convention all is for `presil eval`; print the mapping with --format case, and give it that file";
            return Err(Failure::input(message));
        }
    };
    let options = Options {
        objective: args.objective.map(Goal::objective),
        perfect: args.perfect,
        // A budget of time is none of work.
        work: args.work.unwrap_or(match args.budget {
            Some(_) => u64::MAX,
            None if args.exhaustive => WALK,
            None => WORK,
        }),
        budget: args.budget,
        exhaustive: args.exhaustive,
        convention,
    };
    if args.certificate.is_some() && loaded.len() != 1 {
        return Err(Failure::input("--certificate is of one case; give one"));
    }
    let (all, failed) = map_cases(args, loaded, &options);
    if !all.is_empty() {
        print_mappings(args, &all, &options)?;
    }
    if let (Some(file), [mapped]) = (&args.certificate, all.as_slice()) {
        write_certificate(file, mapped, &options)?;
    }
    match failed.is_empty() {
        true => Ok(()),
        false => {
            let lines: Vec<String> = failed.iter().map(MapError::to_string).collect();
            Err(Failure::input(lines.join("\n")))
        }
    }
}

/// The mappings of cases, and why others have none.
fn map_cases(args: &Args, loaded: Vec<Loaded>, options: &Options) -> (Vec<Mapped>, Vec<MapError>) {
    let wanted = match args.best {
        Some(count) => Wanted::Nearest(usize::from(count)),
        None if args.pareto => Wanted::Front,
        None => Wanted::Best,
    };
    let found: Vec<Result<Vec<Mapped>, MapError>> = if wanted == Wanted::Best {
        let each = map_all(loaded, options).into_iter();
        each.map(|m| m.map(|m| vec![m])).collect()
    } else {
        let each = loaded.into_iter();
        each.map(|case| map(case, wanted, options)).collect()
    };
    let (mut all, mut failed) = (Vec::new(), Vec::new());
    for one in found {
        match one {
            Ok(mappings) => all.extend(mappings),
            Err(error) => failed.push(error),
        }
    }
    (all, failed)
}

fn print_mappings(args: &Args, all: &[Mapped], options: &Options) -> Result<(), Failure> {
    let mut texts = Vec::new();
    let mut values = Vec::new();
    for mapped in all {
        let case = &mapped.report.case;
        match args.format {
            Format::Case => texts.push(write(case, &[]).map_err(Failure::input)?),
            Format::Timeloop => texts.extend(timeloop(case)?),
            Format::Text => {
                let prices = args.explain.then(|| explain(case, options, &mapped.proof));
                if args.json {
                    values.push(show::json(mapped, prices.as_deref()));
                } else {
                    texts.push(show::text(mapped, prices.as_deref()));
                }
            }
        }
    }
    if !args.json && all.len() > 1 && args.format == Format::Text {
        texts.push(show::list(all));
    }
    match values.as_slice() {
        _ if !args.json => super::print(&texts.join("\n")),
        [one] => super::print_json(one),
        _ => super::print_json(&serde_json::json!({ "mappings": values })),
    }
}

/// Writes the certificate of a mapping.
fn write_certificate(file: &Path, mapped: &Mapped, options: &Options) -> Result<(), Failure> {
    let certificate = certify::certificate(mapped, options).map_err(Failure::input)?;
    let text = serde_json::to_string(&certificate)?;
    std::fs::write(file, text).map_err(|error| unusable(file, "written", &error))?;
    eprintln!("wrote {}", file.display());
    Ok(())
}

/// Checks a certificate.
fn check(args: &Args, loaded: &[Loaded], file: &Path) -> Result<(), Failure> {
    let [Loaded { case, .. }] = loaded else {
        return Err(Failure::input("--check is of one case; give one"));
    };
    let text = std::fs::read_to_string(file).map_err(|error| unusable(file, "read", &error))?;
    let objective = args.objective.map(Goal::objective);
    let checked = certify::check(case, objective, &text);
    let named = |error| Failure::input(format!("`{}`: {error}", file.display()));
    let (certificate, verdict) = checked.map_err(named)?;
    if args.json {
        super::print_json(&certify::json(&certificate, &verdict))
    } else {
        super::print(&certify::text(&certificate, &verdict))
    }
}

fn unusable(file: &Path, what: &str, error: &std::io::Error) -> Failure {
    Failure::input(format!("`{}` cannot be {what}: {error}", file.display()))
}

/// Reads a number of seconds.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds.is_finite() => Ok(seconds),
        _ => Err(format!("`{text}` is no number of seconds above 0")),
    }
}

/// The mappings of a case as Timeloop's directives.
fn timeloop(case: &Case) -> Result<Vec<String>, Failure> {
    let mut texts = Vec::new();
    for (i, e) in case.einsums.iter().enumerate() {
        let tree = e.mapping.clone().unwrap_or_default();
        let names = case.operand_names(i);
        let text = write_mapping(&e.einsum, &e.hierarchy, &tree, &names);
        texts.push(text.map_err(|error| Failure::input(format!("einsum `{}`: {error}", e.name)))?);
    }
    Ok(texts)
}
