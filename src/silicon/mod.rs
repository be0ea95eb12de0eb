//! Measured kernels of GPUs: rows of users' own silicon beside the kernel model.
//!
//! Four files (`docs/reference-cases.md`), in the folder of `--data` or up to two folders below it:
//!
//! - `gemm.csv`: `device,dtype,m,n,k,batch,latency_us,framework`: one product `[m,k] x [k,n]`;
//! - `attention.csv`: `device,phase,dtype,kv_dtype,batch,q_len,kv_len,heads,kv_heads,head_dim,window,latency_us,framework`;
//! - `vector.csv`: `device,op,dtype,rows,cols,elements,latency_us,framework`;
//! - `gemm_power.csv`: board power and rate over many large products.
//!
//! A name may have another before it and a hyphen (`h200-gemm.csv`), so that a folder holds files of several devices.
//!
//! A latency row may hold more than the op: the host's dispatch, quantization kernels, other kernels of a framework. What
//! each framework's rows hold is data too: `configs/validation/measuring.csv` (`Measuring`).
//!
//! The prediction of a row is `overhead + kernels before it + kernel`. Where `overhead` is said to be `smallest`, the
//! smallest row of the same device, framework, op and formats tells it, and is itself left out of the errors.

pub mod calibrate;
mod measuring;
mod power;
mod predict;
mod rows;

use std::path::{Path, PathBuf};

use crate::validate::{Case, ValidateError};

pub use calibrate::{Calibration, calibrate};
pub(crate) use measuring::Measuring;
pub(crate) use predict::{Chips, Subject, predictions};
pub(crate) use rows::Row;

/// The rows of a folder, and the power file if there is one.
pub(crate) struct Data {
    pub(crate) rows: Vec<Row>,
    power: Vec<power::PowerRow>,
}

/// Reads what a folder has of the four files.
pub(crate) fn read(files: &[PathBuf]) -> Result<Data, ValidateError> {
    let mut data = Data {
        rows: Vec::new(),
        power: Vec::new(),
    };
    for path in files {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let read = |path: &Path| crate::validate::text(path);
        match name.rsplit('-').next().unwrap_or(name) {
            "gemm.csv" => data.rows.extend(rows::gemm(&read(path)?)?),
            "attention.csv" => data.rows.extend(rows::attention(&read(path)?)?),
            "vector.csv" => data.rows.extend(rows::vector(&read(path)?)?),
            "gemm_power.csv" => data.power.extend(power::rows(&read(path)?)?),
            _ => {}
        }
    }
    Ok(data)
}

impl Data {
    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.power.is_empty()
    }
}

/// The cases of a folder's rows.
pub(crate) fn cases(data: &Data) -> Result<Vec<Case>, ValidateError> {
    let (measuring, chips) = (Measuring::built_in()?, Chips::built_in()?);
    let subjects = chips.subjects(&data.rows, &measuring);
    let all: Vec<&Subject> = subjects.iter().collect();
    let predicted = predictions(&all, |s| s.parameters());
    let mut cases: Vec<Case> = all.iter().zip(predicted).map(|(s, p)| s.case(p)).collect();
    cases.extend(power::cases(&chips, &data.power));
    Ok(cases)
}
