//! Rows of measured latencies.

use serde::Deserialize;

use crate::validate::{ValidateError, csv_rows};

/// Which file a row is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum File {
    Gemm,
    Attention,
    Vector,
}

impl File {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gemm => "gemm",
            Self::Attention => "attention",
            Self::Vector => "vector",
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    /// m, n, k, batch.
    Gemm([u64; 4]),
    /// Causal attention.
    Attention {
        decode: bool,
        kv_dtype: String,
        batch: u64,
        queries: u64,
        keys: u64,
        heads: u64,
        kv_heads: u64,
        head_dim: u64,
        window: u64,
    },
    /// An elementwise op, a softmax or a norm.
    Vector {
        op: String,
        rows: u64,
        columns: u64,
        elements: u64,
    },
}

/// A measured latency.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) file: File,
    /// Row of the file, from 0: decides whether a calibration sees it.
    pub(crate) index: usize,
    pub(crate) device: String,
    pub(crate) dtype: String,
    pub(crate) framework: String,
    pub(crate) op: Op,
    /// Microseconds.
    pub(crate) latency: f64,
    pub(crate) source: String,
}

#[derive(Deserialize)]
struct GemmRow {
    device: String,
    dtype: String,
    m: u64,
    n: u64,
    k: u64,
    batch: u64,
    latency_us: f64,
    framework: String,
    #[serde(default)]
    source: String,
}

/// The rows of `gemm.csv`.
pub(super) fn gemm(text: &str) -> Result<Vec<Row>, ValidateError> {
    let rows: Vec<GemmRow> = csv_rows("gemm.csv", text)?;
    let row = |(index, r): (usize, GemmRow)| Row {
        file: File::Gemm,
        index,
        device: r.device,
        dtype: r.dtype,
        framework: r.framework,
        op: Op::Gemm([r.m, r.n, r.k, r.batch]),
        latency: r.latency_us,
        source: r.source,
    };
    Ok(rows.into_iter().enumerate().map(row).collect())
}

#[derive(Deserialize)]
struct AttentionRow {
    device: String,
    phase: String,
    dtype: String,
    kv_dtype: String,
    batch: u64,
    q_len: u64,
    kv_len: u64,
    heads: u64,
    kv_heads: u64,
    head_dim: u64,
    window: u64,
    latency_us: f64,
    framework: String,
    #[serde(default)]
    source: String,
}

/// The rows of `attention.csv`. `kv_heads` 0 stands for as many as heads.
pub(super) fn attention(text: &str) -> Result<Vec<Row>, ValidateError> {
    let rows: Vec<AttentionRow> = csv_rows("attention.csv", text)?;
    let row = |(index, r): (usize, AttentionRow)| Row {
        file: File::Attention,
        index,
        device: r.device,
        dtype: r.dtype,
        framework: r.framework,
        op: Op::Attention {
            decode: r.phase == "decode",
            kv_dtype: r.kv_dtype,
            batch: r.batch,
            queries: r.q_len,
            keys: r.kv_len,
            heads: r.heads,
            kv_heads: if r.kv_heads == 0 { r.heads } else { r.kv_heads },
            head_dim: r.head_dim,
            window: r.window,
        },
        latency: r.latency_us,
        source: r.source,
    };
    Ok(rows.into_iter().enumerate().map(row).collect())
}

#[derive(Deserialize)]
struct VectorRow {
    device: String,
    op: String,
    dtype: String,
    rows: u64,
    cols: u64,
    elements: u64,
    latency_us: f64,
    framework: String,
    #[serde(default)]
    source: String,
}

/// The rows of `vector.csv`.
pub(super) fn vector(text: &str) -> Result<Vec<Row>, ValidateError> {
    let rows: Vec<VectorRow> = csv_rows("vector.csv", text)?;
    let row = |(index, r): (usize, VectorRow)| Row {
        file: File::Vector,
        index,
        device: r.device,
        dtype: r.dtype,
        framework: r.framework,
        op: Op::Vector {
            op: r.op,
            rows: r.rows,
            columns: r.cols,
            elements: r.elements,
        },
        latency: r.latency_us,
        source: r.source,
    };
    Ok(rows.into_iter().enumerate().map(row).collect())
}

impl Row {
    /// The op within its file, for classes and groups: "bf16", "prefill bf16", "softmax".
    pub(crate) fn kind(&self) -> String {
        let dtype = match self.dtype.as_str() {
            "bfloat16" => "bf16",
            other => other,
        };
        match &self.op {
            Op::Gemm(_) => dtype.into(),
            Op::Attention {
                decode, kv_dtype, ..
            } => {
                let phase = if *decode { "decode" } else { "prefill" };
                let cache = if *kv_dtype == self.dtype {
                    String::new()
                } else {
                    format!(" kv {kv_dtype}")
                };
                format!("{phase} {dtype}{cache}")
            }
            Op::Vector { op, .. } => match op.as_str() {
                "softmax" => "softmax".into(),
                "layernorm" | "rmsnorm" => "norm".into(),
                _ => "elementwise".into(),
            },
        }
    }

    /// The row in a few words.
    pub(crate) fn name(&self) -> String {
        let what = match &self.op {
            Op::Gemm([m, n, k, batch]) => format!("{batch} x {m}x{n}x{k}"),
            Op::Attention {
                batch,
                queries,
                keys,
                heads,
                kv_heads,
                head_dim,
                window,
                ..
            } => {
                format!("{batch} x {queries}/{keys} {heads}/{kv_heads}x{head_dim} window {window}")
            }
            Op::Vector {
                op, rows, columns, ..
            } => format!("{op} {rows}x{columns}"),
        };
        format!("{} {} {} {what}", self.device, self.framework, self.kind())
    }
}
