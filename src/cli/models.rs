//! `presil models`: the models that ship.

use clap::{Args as ClapArgs, Subcommand};
use presil::inspect::inspect;
use presil::workloads::Model;

use super::Failure;
use super::import::PassArgs;

/// Arguments of `presil models`.
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
    /// Ops, MACs, parameters and bytes of a model.
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        pass: PassArgs,
    },
}

/// Runs the command.
pub fn main(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Some(Command::Show { name, pass }) => {
            let answer = inspect(&pass.question(name)).map_err(Failure::input)?;
            if args.json {
                super::print_json(&serde_json::to_value(&answer)?)
            } else {
                super::print(&answer.text())
            }
        }
        None if args.json => super::print_json(&serde_json::json!({ "models": Model::names() })),
        None => super::print(&Model::names().join("\n")),
    }
}
