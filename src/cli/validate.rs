//! `presil validate`: the trust table.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use presil::validate::validate;

use super::Failure;

/// Arguments of `presil validate`.
#[derive(ClapArgs)]
pub struct Args {
    /// Folder with counts.csv and measured.csv of your own instead of the built-in cases.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Write the table as Markdown to a file.
    #[arg(long)]
    out: Option<PathBuf>,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn main(args: &Args) -> Result<(), Failure> {
    let validation = validate(args.data.as_deref()).map_err(Failure::input)?;
    if let Some(path) = &args.out {
        if let Err(e) = std::fs::write(path, validation.markdown()) {
            // The table took its time: it goes where it can.
            super::print(&validation.markdown())?;
            return Err(Failure::input(format!(
                "cannot write `{}`: {e}; give another file with --out",
                path.display()
            )));
        }
        eprintln!("wrote {}", path.display());
    }
    if args.json {
        super::print_json(&serde_json::to_value(&validation)?)
    } else if args.out.is_none() {
        super::print(&validation.markdown())
    } else {
        Ok(())
    }
}
