//! The command line: one file a subcommand. Results go to stdout, everything else to stderr.
//!
//! Exit codes: 0 done, 2 bad input (with a diagnostic), 1 anything else.

mod calibrate;
mod chips;
mod eval;
mod import;
mod map;
mod models;
mod numerics;
mod run;
mod schema;
mod validate;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Hardware/software co-design simulator: what a model takes on a chip, before tape-out.
#[derive(Parser)]
#[command(name = "presil", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Latency, energy and bottleneck of a model on a chip, per layer, with a report.
    Run(Box<run::Args>),
    /// The best mapping of a case, proven, as a loop nest.
    Map(Box<map::Args>),
    /// What a given mapping costs: accesses, energy and cycles, as presil and other tools count them.
    Eval(eval::Args),
    /// What a model file contains: ops, MACs, parameters, bytes.
    Import(import::Args),
    /// The models that ship.
    Models(models::Args),
    /// The chips that ship.
    Chips(chips::Args),
    /// Every reference case: measured silicon, exact counts. The trust table.
    Validate(validate::Args),
    /// Fits the parameters that a family of GPUs shares to measured kernels, part of them held apart.
    Calibrate(calibrate::Args),
    /// Models and arrays in a chip's arithmetic: execution, casts, golden vectors.
    Numerics(numerics::Args),
    /// JSON Schema of a file form, for editors.
    Schema(schema::Args),
}

/// Why a command ends early, and with which exit code.
pub(crate) enum Failure {
    /// The user's input is wrong; the message says how.
    Input(String),
    /// Anything else.
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl Failure {
    /// A mistake in the input.
    pub(crate) fn input(message: impl ToString) -> Self {
        Self::Input(message.to_string())
    }
}

/// Parses the command line, runs the command and turns its end into an exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => run::main(&args),
        Command::Map(args) => map::main(&args),
        Command::Eval(args) => eval::main(&args),
        Command::Import(args) => import::main(&args),
        Command::Models(args) => models::main(&args),
        Command::Chips(args) => chips::main(&args),
        Command::Validate(args) => validate::main(&args),
        Command::Calibrate(args) => calibrate::main(&args),
        Command::Numerics(args) => numerics::main(&args),
        Command::Schema(args) => schema::main(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Input(message)) => {
            let prefix = if message.starts_with("error") {
                ""
            } else {
                "error: "
            };
            eprintln!("{prefix}{message}");
            ExitCode::from(2)
        }
        Err(Failure::Other(error)) => {
            let broken_pipe = error.chain().any(|e| {
                e.downcast_ref::<io::Error>()
                    .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
            });
            if broken_pipe {
                return ExitCode::SUCCESS;
            }
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

/// Writes to stdout; a closed pipe is an error that ends the program quietly.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

/// Writes one JSON document to stdout.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&serde_json::to_string_pretty(value)?)
}

/// Columns of the terminal, or 100 where there is none to ask.
pub(crate) fn terminal_width() -> usize {
    std::env::var("COLUMNS")
        .ok()
        .and_then(|c| c.parse().ok())
        .unwrap_or(100)
        .clamp(60, 200)
}

/// Whether to colour stdout.
pub(crate) fn use_color() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Reads "NAME=1x3x224x224".
pub(crate) fn parse_shape(text: &str) -> Result<(String, Vec<u64>), String> {
    let expected = || format!("`{text}` is not a shape; write INPUT=1x3x224x224");
    let (name, dims) = text.split_once('=').ok_or_else(expected)?;
    let dims: Result<Vec<u64>, _> = dims.split('x').map(|d| d.trim().parse::<u64>()).collect();
    let dims = dims.map_err(|_| expected())?;
    if dims.contains(&0) {
        return Err(format!("`{text}`: every extent must be at least 1"));
    }
    Ok((name.trim().to_string(), dims))
}

/// Reads "dram.bandwidth=1.2 TB/s".
pub(crate) fn parse_set(text: &str) -> Result<(String, String), String> {
    let (path, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not an override; write dram.bandwidth=\"68 GB/s\""))?;
    Ok((
        path.trim().to_string(),
        value.trim().trim_matches('"').to_string(),
    ))
}
