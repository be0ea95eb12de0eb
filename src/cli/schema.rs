//! `presil schema`: JSON Schema of a file form.

use clap::{Args as ClapArgs, ValueEnum};

use super::Failure;

/// Arguments of `presil schema`.
#[derive(ClapArgs)]
pub struct Args {
    /// The file form.
    #[arg(value_enum)]
    form: Form,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// Chip files.
    Chip,
    /// Case files: einsums, a machine, constraints and a mapping.
    Case,
}

/// Runs the command.
pub fn main(args: &Args) -> Result<(), Failure> {
    match args.form {
        Form::Chip => super::print_json(&presil::hwmodels::schema::chip()),
        Form::Case => super::print_json(&presil::mapper::case::schema::case()),
    }
}
