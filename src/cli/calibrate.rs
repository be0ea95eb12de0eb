//! `presil calibrate`: the few parameters of a family of chips, from measured rows.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use presil::silicon::calibrate;

use super::Failure;

/// Arguments of `presil calibrate`.
#[derive(ClapArgs)]
pub struct Args {
    /// Folder with gemm.csv, attention.csv, vector.csv.
    #[arg(long)]
    data: PathBuf,
    /// Chips to fit on; all that have rows where none is given.
    #[arg(long = "chip")]
    chips: Vec<String>,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn main(args: &Args) -> Result<(), Failure> {
    let found = calibrate(&args.data, &args.chips).map_err(Failure::input)?;
    if args.json {
        super::print_json(&serde_json::to_value(&found)?)
    } else {
        super::print(&found.markdown())
    }
}
