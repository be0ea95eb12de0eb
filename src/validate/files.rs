//! Files of reference cases: those that are built in, or those of a folder.

use std::path::{Path, PathBuf};

use super::ValidateError;

/// The built-in files by name.
const BUILT_IN: [(&str, &str); 15] = [
    (
        "counts.csv",
        include_str!("../../configs/validation/counts.csv"),
    ),
    (
        "measured.csv",
        include_str!("../../configs/validation/measured.csv"),
    ),
    (
        "eyeriss-alexnet.toml",
        include_str!("../../configs/validation/eyeriss-alexnet.toml"),
    ),
    (
        "eyeriss-vgg16.toml",
        include_str!("../../configs/validation/eyeriss-vgg16.toml"),
    ),
    (
        "tpu-v1-mlp0.toml",
        include_str!("../../configs/validation/tpu-v1-mlp0.toml"),
    ),
    (
        "tpu-v1-mlp1.toml",
        include_str!("../../configs/validation/tpu-v1-mlp1.toml"),
    ),
    (
        "tpu-v1-lstm0.toml",
        include_str!("../../configs/validation/tpu-v1-lstm0.toml"),
    ),
    (
        "tpu-v1-lstm1.toml",
        include_str!("../../configs/validation/tpu-v1-lstm1.toml"),
    ),
    (
        "tpu-v1-cnn0.toml",
        include_str!("../../configs/validation/tpu-v1-cnn0.toml"),
    ),
    (
        "tpu-v1-cnn1.toml",
        include_str!("../../configs/validation/tpu-v1-cnn1.toml"),
    ),
    (
        "nvdla-1024.toml",
        include_str!("../../configs/validation/nvdla-1024.toml"),
    ),
    (
        "nvdla-512.toml",
        include_str!("../../configs/validation/nvdla-512.toml"),
    ),
    (
        "nvdla-256.toml",
        include_str!("../../configs/validation/nvdla-256.toml"),
    ),
    (
        "nvdla-128.toml",
        include_str!("../../configs/validation/nvdla-128.toml"),
    ),
    (
        "nvdla-32.toml",
        include_str!("../../configs/validation/nvdla-32.toml"),
    ),
];

/// The text of a built-in file.
pub(super) fn built_in(name: &str) -> Option<&'static str> {
    let found = BUILT_IN.iter().find(|(n, _)| *n == name);
    found.map(|(_, text)| *text)
}

/// A file's text: of the user's folder (`None` where it has none), or built in.
pub(super) fn text_of(data: Option<&Path>, name: &str) -> Result<Option<String>, ValidateError> {
    match data {
        None => Ok(built_in(name).map(str::to_string)),
        Some(folder) => {
            let path = folder.join(name);
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok(Some(text)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(ValidateError::Io { path, error }),
            }
        }
    }
}

/// The rows of a CSV file.
pub(crate) fn rows<T: serde::de::DeserializeOwned>(
    file: &str,
    text: &str,
) -> Result<Vec<T>, ValidateError> {
    let mut reader = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let rows: Result<Vec<T>, csv::Error> = reader.deserialize().collect();
    rows.map_err(|e| ValidateError::Row {
        file: file.into(),
        error: e.to_string(),
    })
}

/// How deep below the folder of the user files of peers are looked for.
const DEPTH: usize = 2;
/// Most entries of a folder that are looked at.
const MOST: usize = 10_000;

/// All files of a folder and of those in it, in order of their paths.
pub(crate) fn all_files(folder: &Path) -> Result<Vec<PathBuf>, ValidateError> {
    let mut files = Vec::new();
    walk(folder, DEPTH, &mut files)?;
    files.sort();
    Ok(files)
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), ValidateError> {
    let error = |error: std::io::Error| ValidateError::Io {
        path: folder.into(),
        error,
    };
    for entry in std::fs::read_dir(folder).map_err(error)?.take(MOST) {
        let path = entry.map_err(error)?.path();
        if path.is_file() {
            files.push(path);
        } else if depth > 0 && path.is_dir() {
            walk(&path, depth - 1, files)?;
        }
    }
    Ok(())
}

/// Reads a file's text.
pub(crate) fn text(path: &Path) -> Result<String, ValidateError> {
    std::fs::read_to_string(path).map_err(|error| ValidateError::Io {
        path: path.into(),
        error,
    })
}
