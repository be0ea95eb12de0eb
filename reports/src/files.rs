//! All reports of a Run in a folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use presil_sim::Run;
use thiserror::Error;

use crate::{html, json, trace};

/// Why a report could not be written.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The folder could not be made.
    #[error("cannot make the folder `{path}`: {source}; give another one with --out")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file could not be written.
    #[error(
        "cannot write `{path}`: {source}; check that there is room and that the folder may be written"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A report could not be made.
    #[error("cannot make `{path}`: {reason}")]
    Make {
        /// The file that it was meant for.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

/// Writes a file under a temporary name and renames it, so that a reader sees the old file or the new one whole.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy())
        .unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let done = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    done.map_err(|source| {
        // Best effort: the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
        ReportError::Write {
            path: path.into(),
            source,
        }
    })
}

/// Writes `report.html` and `run.json`, of simulated phases `trace.pftrace`, and with the feature `tables` `layers.csv` and `layers.parquet`, into a
/// folder that is made if need be. `version` is the tool's. Returns the files as they were written; a file that
/// can't be written keeps none of the others from it.
pub fn write_all(run: &Run, dir: &Path, version: &str) -> Result<Vec<PathBuf>, ReportError> {
    fs::create_dir_all(dir).map_err(|source| ReportError::Folder {
        path: dir.into(),
        source,
    })?;
    let mut written = Vec::new();
    let mut failed = None;
    let mut put = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        match write_whole(&path, bytes) {
            Ok(()) => written.push(path),
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
    };
    let make = |name: &str, reason: String| ReportError::Make {
        path: dir.join(name),
        reason,
    };

    let page = html::page(run, version).map_err(|e| make("report.html", e.to_string()))?;
    put("report.html", page.as_bytes());
    let mut document = serde_json::to_string_pretty(&json::run_json(run, version))
        .map_err(|e| make("run.json", e.to_string()))?;
    document.push('\n');
    put("run.json", document.as_bytes());

    for phase in &run.phases {
        let name = match run.phases.len() {
            1 => "trace.pftrace".to_string(),
            _ => format!("trace-{}.pftrace", phase.name),
        };
        if let Some(trace) = trace::perfetto(run, phase) {
            put(&name, &trace);
        }
    }

    #[cfg(feature = "tables")]
    {
        use crate::tables;
        let mut frame = tables::layers(run).map_err(|e| make("layers.csv", e.to_string()))?;
        let mut bytes = Vec::new();
        tables::write_csv(&mut frame, &mut bytes).map_err(|e| make("layers.csv", e.to_string()))?;
        put("layers.csv", &bytes);
        bytes.clear();
        tables::write_parquet(&mut frame, &mut bytes)
            .map_err(|e| make("layers.parquet", e.to_string()))?;
        put("layers.parquet", &bytes);
    }
    failed.map_or(Ok(written), Err)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::sample;

    /// A folder for the samples: kept and looked at if `PRESIL_SAMPLES` names one, else temporary.
    fn folder() -> (PathBuf, bool) {
        match std::env::var_os("PRESIL_SAMPLES") {
            Some(dir) => (dir.into(), true),
            None => (
                std::env::temp_dir().join(format!("presil-reports-{}", std::process::id())),
                false,
            ),
        }
    }

    #[test]
    fn every_file_is_written_and_nothing_else() {
        let (dir, keep) = folder();
        for (i, run) in sample::all().iter().enumerate() {
            let to = dir.join(i.to_string());
            if keep {
                fs::create_dir_all(&dir).unwrap();
                let table = crate::terminal::table(run, 100, false);
                fs::write(dir.join(format!("{i}.txt")), table).unwrap();
            }
            let first = write_all(run, &to, "1.2.3").unwrap();
            let before: Vec<_> = first.iter().map(|p| fs::read(p).unwrap()).collect();
            let again = write_all(run, &to, "1.2.3").unwrap();
            let after: Vec<_> = again.iter().map(|p| fs::read(p).unwrap()).collect();
            assert!(before == after, "two writes of one Run differ");
            let mut found: Vec<_> = fs::read_dir(&to)
                .unwrap()
                .map(|e| e.unwrap().path())
                .collect();
            let mut told = again.clone();
            found.sort();
            told.sort();
            assert_eq!(found, told);
        }
        if !keep {
            fs::remove_dir_all(&dir).unwrap();
        }
    }

    #[test]
    fn errors_name_the_file() {
        let dir =
            std::env::temp_dir().join(format!("presil-reports-errors-{}", std::process::id()));
        fs::create_dir_all(dir.join("report.html")).unwrap();
        let e = write_all(&sample::empty(), &dir, "1")
            .unwrap_err()
            .to_string();
        assert!(e.contains("report.html"), "{e}");
        let left: Vec<String> = fs::read_dir(&dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        let temporary = left.iter().find(|name| name.starts_with('.'));
        assert_eq!(temporary, None, "the temporary file is gone");
        assert!(
            left.iter().any(|name| name == "run.json"),
            "the others are kept: {left:?}"
        );
        let file = dir.join("file");
        fs::write(&file, "x").unwrap();
        assert!(
            write_all(&sample::empty(), &file, "1")
                .unwrap_err()
                .to_string()
                .contains("file")
        );
        fs::remove_dir_all(&dir).unwrap();
    }
}
