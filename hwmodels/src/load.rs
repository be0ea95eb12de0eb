//! From a name or a path to a chip.

use std::path::{Path, PathBuf};

use presil_numerics::Diagnostics;
use presil_numerics::diagnostic::nearest_names;
use thiserror::Error;

use crate::chip::Chip;
use crate::decode::Decode;
use crate::document::{Item, ItemKind, Problems, merge, parse};
use crate::library;
use crate::overrides::set;
use crate::resolve::{Defaults, resolve};
use crate::sourced::Status;
use crate::spec::{ChipSpec, SECTIONS};

/// Largest chip file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Longest chain of `extends`.
const MAX_CHAIN: usize = 16;

/// Why there is no chip. `Display` is the full text for the user.
#[derive(Debug, Error)]
pub enum ChipError {
    /// Neither a chip that ships nor a file.
    #[error("there is no chip `{name}`{}", suggestion(nearest))]
    Unknown {
        /// As asked for.
        name: String,
        /// Nearest names that ship.
        nearest: Vec<String>,
    },
    /// A file that can't be read.
    #[error("chip file {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Files or overrides with mistakes, each with its place.
    #[error("{}", texts(.0))]
    Invalid(Vec<Diagnostics>),
}

fn suggestion(nearest: &[String]) -> String {
    if nearest.is_empty() {
        return format!(
            "; there is {}, or give a .toml file",
            library::names().join(", ")
        );
    }
    format!(
        "; did you mean {}?",
        nearest
            .iter()
            .map(|n| format!("`{n}`"))
            .collect::<Vec<_>>()
            .join(" or ")
    )
}

fn texts(all: &[Diagnostics]) -> String {
    all.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Loads a chip: a name of the library or the path of a chip file, with overrides of single fields
/// (`("dram.bandwidth", "68 GB/s")`).
pub fn load(name_or_path: &str, sets: &[(String, String)]) -> Result<Chip, ChipError> {
    let (origin, text, folder) = find(name_or_path, None)?;
    from_text(&origin, &text, folder.as_deref(), sets)
}

/// Loads a chip from the text of a chip file. `folder` is where relative paths in `extends` start.
pub fn from_text(
    origin: &str,
    text: &str,
    folder: Option<&Path>,
    sets: &[(String, String)],
) -> Result<Chip, ChipError> {
    let mut problems = Problems::default();
    let mut defaults = Vec::new();
    let mut root = document(
        origin,
        text,
        folder,
        &mut vec![],
        &mut problems,
        &mut defaults,
    )?;
    let readable = problems.is_empty();
    if readable && !sets.is_empty() {
        let source = problems.source("--set", "");
        defaults.push(Defaults {
            status: Status::Assumed,
            source: "--set".into(),
        });
        for (path, value) in sets {
            set(&mut root, &SECTIONS, path, value, source, &mut problems);
        }
    }
    let spec = if readable {
        ChipSpec::decode(&root, &mut problems)
    } else {
        None
    };
    let chip = spec.and_then(|spec| resolve(&spec, &defaults, &mut problems));
    match chip {
        Some(chip) if problems.is_empty() => Ok(chip),
        _ => Err(ChipError::Invalid(problems.into_diagnostics())),
    }
}

/// Reads one document and those that it extends, merged.
fn document(
    origin: &str,
    text: &str,
    folder: Option<&Path>,
    chain: &mut Vec<String>,
    problems: &mut Problems,
    defaults: &mut Vec<Defaults>,
) -> Result<Item, ChipError> {
    let source = problems.source(origin, text);
    let root = parse(source, problems);
    chain.push(origin.to_string());
    let status = root
        .get("status")
        .and_then(|i| Status::decode(i, &mut Problems::default()));
    let stated = root.get("source").and_then(Item::text).map(str::to_string);
    defaults.push(Defaults {
        status: status.unwrap_or(Status::Assumed),
        source: stated.unwrap_or_else(|| origin.to_string()),
    });
    let Some(extends) = root.get("extends") else {
        return Ok(root);
    };
    let Some(base) = extends.text() else {
        return Ok(root);
    };
    let (base_origin, base_text, base_folder) = match find(base, folder) {
        Ok(found) => found,
        Err(error) => {
            problems.at(
                &extends.place,
                error.to_string(),
                "name a chip that ships, or a file beside this one",
            );
            return Ok(root);
        }
    };
    if chain.len() >= MAX_CHAIN || chain.contains(&base_origin) {
        problems.at(
            &extends.place,
            format!("`{base}` extends itself"),
            "a chain of `extends` must end",
        );
        return Ok(root);
    }
    let mut below = document(
        &base_origin,
        &base_text,
        base_folder.as_deref(),
        chain,
        problems,
        defaults,
    )?;
    if let ItemKind::Table(pairs) = &mut below.kind {
        pairs.retain(|(k, _)| !matches!(k.name.as_str(), "status" | "source" | "extends"));
    }
    Ok(merge(below, root))
}

/// Origin, text and folder of a chip.
fn find(name: &str, folder: Option<&Path>) -> Result<(String, String, Option<PathBuf>), ChipError> {
    if let Some(text) = library::text(name) {
        return Ok((format!("{name}.toml"), text.to_string(), None));
    }
    let path = folder.map_or_else(|| PathBuf::from(name), |f| f.join(name));
    let is_path = name.ends_with(".toml") || name.contains(['/', '\\']);
    if !is_path && !path.is_file() {
        let known = library::names();
        return Err(ChipError::Unknown {
            name: name.into(),
            nearest: nearest_names(name, known),
        });
    }
    let error = |reason: String| ChipError::Read {
        path: path.clone(),
        reason,
    };
    let metadata = std::fs::metadata(&path).map_err(|e| error(e.to_string()))?;
    if !metadata.is_file() {
        return Err(error("it is not a file".into()));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(error(format!(
            "it is larger than {MAX_FILE_BYTES} bytes, which no chip file is"
        )));
    }
    let text = std::fs::read_to_string(&path).map_err(|e| error(e.to_string()))?;
    Ok((
        path.display().to_string(),
        text,
        path.parent().map(Path::to_path_buf),
    ))
}

#[cfg(test)]
mod data_tests;
#[cfg(test)]
mod movement_tests;
#[cfg(test)]
mod tests;
