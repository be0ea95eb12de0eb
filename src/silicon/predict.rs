//! What the kernel model says of measured rows.

use std::collections::BTreeMap;

use presil_hwmodels::{Chip, KernelParameters};
use presil_mapper::kernels::{
    Attention, Kernel, Machine, Matmul, RowOp, Rows, attention, machine, matmul, rows, stream,
};
use presil_mapper::schedule::arrays;
use presil_numerics::Format;
use rayon::prelude::*;
use serde::Deserialize;

use super::measuring::{Held, Measuring, Overhead};
use super::rows::{Op, Row};
use crate::validate::{Case, ValidateError, csv_rows, relative};

const DEVICES: &str = include_str!("../../configs/validation/devices.csv");

#[derive(Deserialize)]
struct Device {
    device: String,
    chip: String,
}

/// The chips that devices in rows are.
pub(crate) struct Chips {
    chips: BTreeMap<String, Chip>,
}

impl Chips {
    /// Of the names that ship.
    pub(crate) fn built_in() -> Result<Self, ValidateError> {
        let devices: Vec<Device> = csv_rows("devices.csv", DEVICES)?;
        let mut chips = BTreeMap::new();
        for d in devices {
            let chip = presil_hwmodels::load(&d.chip, &[]).map_err(|e| ValidateError::Row {
                file: "devices.csv".into(),
                error: e.to_string(),
            })?;
            chips.insert(d.device, chip);
        }
        Ok(Self { chips })
    }

    /// The chip of a device: by its name in data, else a chip of the library.
    pub(crate) fn of(&self, device: &str) -> Option<&Chip> {
        let own = |c: &&Chip| c.name == device;
        self.chips
            .get(device)
            .or_else(|| self.chips.values().find(own))
    }

    /// Rows with what the model needs to know of them.
    pub(crate) fn subjects<'a>(
        &'a self,
        rows: &'a [Row],
        measuring: &Measuring,
    ) -> Vec<Subject<'a>> {
        rows.iter()
            .map(|row| {
                let chip = self.of(&row.device);
                Subject {
                    row,
                    held: measuring.of(row),
                    chip: chip.map_or("no chip", |c| c.name.as_str()),
                    known: chip
                        .ok_or_else(|| format!("no chip is known as `{}`", row.device))
                        .and_then(|c| known(c, row)),
                }
            })
            .collect()
    }
}

/// Formats of a row: elements as multiplied, stored bits with scales.
pub(super) struct Formats {
    pub(super) input: Format,
    pub(super) weight: Format,
    pub(super) bits: [f64; 2],
}

pub(super) fn formats(dtype: &str) -> Option<Formats> {
    let (input, weight, bits) = match dtype {
        "bfloat16" | "bf16" => ("bf16", "bf16", [16.0, 16.0]),
        "fp16" | "float16" => ("fp16", "fp16", [16.0, 16.0]),
        "fp32" => ("fp32", "fp32", [32.0, 32.0]),
        "fp8" => ("fp8_e4m3fn", "fp8_e4m3fn", [8.0, 8.0]),
        // Blocks of 16 share a scale of 8 bits.
        "nvfp4" => ("fp4_e2m1fn", "fp4_e2m1fn", [4.5, 4.5]),
        "sq" | "int8" => ("int8", "int8", [8.0, 8.0]),
        "int8_wo" => ("bf16", "int8", [16.0, 8.0]),
        "int4_wo" => ("bf16", "int4", [16.0, 4.0]),
        _ => return None,
    };
    Some(Formats {
        input: input.parse().ok()?,
        weight: weight.parse().ok()?,
        bits,
    })
}

/// What is known of a row's machine and operands.
pub(crate) struct Known {
    pub(crate) machine: Machine,
    bits: [f64; 2],
}

fn known(chip: &Chip, row: &Row) -> Result<Known, String> {
    // Vector kernels multiply nothing: any mode's machine has their rates.
    let dtype = match &row.op {
        Op::Vector { .. } => "fp16",
        _ => row.dtype.as_str(),
    };
    let f = formats(dtype).ok_or_else(|| format!("no format is known as `{dtype}`"))?;
    let (_, mode) = arrays(chip, [f.input, f.weight])
        .first()
        .copied()
        .ok_or_else(|| {
            format!(
                "{} does not multiply {} by {}",
                chip.name, f.input, f.weight
            )
        })?;
    let machine = machine(chip, mode).ok_or_else(|| format!("{} has no kernels", chip.name))?;
    let bits = match &row.op {
        Op::Vector { .. } => {
            let own = formats(&row.dtype)
                .ok_or_else(|| format!("no format is known as `{}`", row.dtype))?;
            own.bits
        }
        _ => f.bits,
    };
    Ok(Known { machine, bits })
}

/// A row, what it holds beside its op, and its machine.
pub(crate) struct Subject<'a> {
    pub(crate) row: &'a Row,
    pub(crate) held: Held,
    /// Name of its chip.
    pub(crate) chip: &'a str,
    pub(crate) known: Result<Known, String>,
}

/// A prediction in microseconds, and whether the row told its group's overhead.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Predicted {
    pub(crate) latency: f64,
    pub(crate) told: bool,
    kernel: String,
}

impl Subject<'_> {
    /// The parameters of its chip file.
    pub(crate) fn parameters(&self) -> Option<KernelParameters> {
        self.known.as_ref().ok().map(|k| k.machine.parameters)
    }

    /// The kernels alone.
    fn kernel(&self, parameters: KernelParameters) -> Option<(f64, String)> {
        let known = self.known.as_ref().ok()?;
        let mut x = known.machine.clone();
        x.parameters = parameters;
        let kernel = own(&x, self.row, known.bits, self.held.copies)?;
        let elements = input_elements(&self.row.op);
        let [read, write] = self.held.before;
        let mut time = kernel.time;
        if read + write > 0.0 {
            let bytes = |bits: f64| elements * bits / 8.0;
            time += stream(&x, "quantize", bytes(read), bytes(write), 0.0, 1.0).time;
        }
        Some((time * 1e6, kernel.name))
    }

    /// Rows of one group share one overhead.
    fn group(&self) -> (String, String, String) {
        let op = match &self.row.op {
            Op::Vector { op, .. } => op.clone(),
            _ => self.row.kind(),
        };
        (self.row.device.clone(), self.row.framework.clone(), op)
    }

    /// The class of its errors.
    pub(crate) fn class(&self) -> String {
        let size = match self.row.op {
            Op::Gemm(_) if self.row.latency >= 100.0 => " >=100us",
            Op::Gemm(_) => " <100us",
            _ => "",
        };
        format!(
            "silicon: gpu {} {} {}{size}",
            self.row.file.name(),
            self.row.kind(),
            self.chip
        )
    }

    /// Its case.
    pub(crate) fn case(&self, predicted: Option<Predicted>) -> Case {
        let told = predicted.as_ref().is_some_and(|p| p.told);
        let note = match (&self.known, &predicted) {
            (Err(why), _) => why.clone(),
            (_, None) => "no kernel for it".into(),
            (_, Some(p)) if told => format!("{}; tells what rows hold beside the op", p.kernel),
            (_, Some(p)) => p.kernel.clone(),
        };
        let latency = predicted.map(|p| p.latency);
        Case {
            name: self.row.name(),
            class: self.class(),
            predicted: latency,
            reference: self.row.latency,
            unit: "us".into(),
            error: latency
                .filter(|_| !told)
                .map(|p| relative(p, self.row.latency)),
            tolerance: None,
            passed: false,
            source: self.row.source.clone(),
            note,
        }
    }
}

/// Predictions of rows with parameters of the caller's choice; those whose overhead is the smallest row's share it.
pub(crate) fn predictions(
    subjects: &[&Subject],
    parameters: impl Fn(&Subject) -> Option<KernelParameters> + Sync,
) -> Vec<Option<Predicted>> {
    let kernels: Vec<Option<(f64, String)>> = subjects
        .par_iter()
        .map(|s| parameters(s).and_then(|p| s.kernel(p)))
        .collect();
    let mut smallest: BTreeMap<(String, String, String), (f64, usize, f64)> = BTreeMap::new();
    for (at, (s, k)) in subjects.iter().zip(&kernels).enumerate() {
        if let (Overhead::Smallest, Some((k, _))) = (s.held.overhead, k) {
            let own = (s.row.latency, at, (s.row.latency - k).max(0.0));
            let entry = smallest.entry(s.group()).or_insert(own);
            if own.0 < entry.0 {
                *entry = own;
            }
        }
    }
    subjects
        .iter()
        .zip(kernels)
        .enumerate()
        .map(|(at, (s, k))| {
            let (latency, kernel) = k?;
            let (overhead, told) = match s.held.overhead {
                Overhead::Fixed(seconds) => (seconds * 1e6, false),
                Overhead::Smallest => smallest
                    .get(&s.group())
                    .map_or((0.0, false), |(_, own, o)| (*o, *own == at)),
            };
            Some(Predicted {
                latency: latency + overhead,
                told,
                kernel,
            })
        })
        .collect()
}

/// Elements of the first operand (queries, keys and values of attention).
fn input_elements(op: &Op) -> f64 {
    match op {
        Op::Gemm([m, _, k, batch]) => (m * k * batch) as f64,
        Op::Attention {
            batch,
            queries,
            heads,
            kv_heads,
            head_dim,
            ..
        } => (batch * queries * (heads + 2 * kv_heads) * head_dim) as f64,
        Op::Vector { elements, .. } => *elements as f64,
    }
}

/// The kernel of a row.
fn own(x: &Machine, row: &Row, bits: [f64; 2], copies: f64) -> Option<Kernel> {
    match &row.op {
        Op::Gemm([m, n, k, batch]) => {
            let output_bits = if row.dtype == "fp32" { 32.0 } else { 16.0 };
            let p = Matmul {
                m: *m,
                n: *n,
                k: *k,
                batch: *batch,
                distinct: 1.0,
                input_bits: bits[0],
                weight_bits: bits[1],
                output_bits,
                input_cached: false,
                weight_cached: false,
                output_cached: false,
            };
            let [input, weight, output] = p.bytes();
            let cached = copies > 0.0 && input + output + copies * weight <= x.cache;
            matmul(
                x,
                &Matmul {
                    input_cached: cached,
                    weight_cached: cached,
                    output_cached: cached,
                    ..p
                },
            )
        }
        Op::Attention {
            kv_dtype,
            batch,
            queries,
            keys,
            heads,
            kv_heads,
            head_dim,
            window,
            ..
        } => {
            let key_bits = if kv_dtype == "fp8" { 8.0 } else { bits[0] };
            Some(attention(
                x,
                &Attention {
                    batch: *batch,
                    heads: *heads,
                    kv_heads: *kv_heads,
                    queries: *queries,
                    keys: *keys,
                    head_dim: *head_dim,
                    window: (*window > 0).then_some(*window),
                    causal: true,
                    query_bits: bits[0],
                    key_bits,
                    output_bits: 16.0,
                },
            ))
        }
        Op::Vector {
            op,
            rows: count,
            columns,
            elements,
        } => vector(x, op, [*count, *columns, *elements], bits[0], copies),
    }
}

/// The kernel of a vector op; `None` for ops whose columns have no stated meaning.
fn vector(
    x: &Machine,
    op: &str,
    [count, columns, elements]: [u64; 3],
    bits: f64,
    copies: f64,
) -> Option<Kernel> {
    let bytes = elements as f64 * bits / 8.0;
    // What the op before wrote, and what this one writes.
    let cached = |reads: f64| copies > 0.0 && (reads + 1.0) * bytes <= x.cache;
    let of_rows = |row_op| {
        let r = Rows {
            op: row_op,
            rows: count,
            columns,
            bits,
            cached: cached(1.0),
        };
        rows(x, op, &r)
    };
    let reads = match op {
        "softmax" => return Some(of_rows(RowOp::Softmax)),
        "layernorm" => return Some(of_rows(RowOp::LayerNorm)),
        "rmsnorm" => return Some(of_rows(RowOp::RmsNorm)),
        "add" | "mul" | "div" | "pow" => 2.0,
        "addu" | "mulu" | "divu" | "powu" | "relu" | "tanh" | "gelu" => 1.0,
        _ => return None,
    };
    let x = if cached(reads) {
        &x.with_cached_memory()
    } else {
        x
    };
    Some(stream(x, op, reads * bytes, bytes, elements as f64, 1.0))
}
