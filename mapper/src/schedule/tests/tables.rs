//! Functions that a vector unit has no primitives of, but tables.

use presil_workloads::build::{Builder, Function};

use super::{OPTIONS, int8, op};
use crate::schedule::{Execution, schedule};

/// The TPU's activation unit looks sigmoid and tanh up: 256 values a cycle at 700 MHz.
#[test]
fn functions_of_bytes_are_looked_up_where_there_are_tables() {
    let chip = presil_hwmodels::load("tpu-v1", &[]).unwrap();
    let mut b = Builder::new("gates");
    let x = b.input("x", &[64, 8192]);
    let t = b.function("tanh", x, Function::Tanh).unwrap();
    b.output(t);
    let graph = int8(b.finish().unwrap());
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    let tanh = op(&graph, &s, "tanh");
    assert!(matches!(tanh.execution, Execution::Vector));
    let lanes = 64.0 * 8192.0 / (256.0 * 700e6);
    let busy = super::busy(tanh, crate::cost::Resource::Vector);
    assert!((busy / lanes - 1.0).abs() < 1e-9, "{busy} {lanes}");
}

/// Two entries and a step between them for wider integers; floats have no table.
#[test]
fn functions_of_wider_integers_are_interpolated() {
    let chip = presil_hwmodels::load("tpu-v1", &[]).unwrap();
    let run = |format: &str| {
        let mut b = Builder::new("gates");
        let x = b.input("x", &[64, 8192]);
        let t = b.function("tanh", x, Function::Tanh).unwrap();
        b.output(t);
        let mut graph = b.finish().unwrap();
        let q =
            presil_numerics::Quantization::from(format.parse::<presil_numerics::Format>().unwrap());
        graph.set_precision(q, q, q);
        let s = schedule(&graph, &chip, &OPTIONS).unwrap();
        op(&graph, &s, "tanh").clone()
    };
    let tanh = run("int16");
    assert!(matches!(tanh.execution, Execution::Vector));
    let lanes = 3.0 * 64.0 * 8192.0 / (256.0 * 700e6);
    let busy = super::busy(&tanh, crate::cost::Resource::Vector);
    assert!((busy / lanes - 1.0).abs() < 1e-9, "{busy} {lanes}");
    assert!(matches!(run("bf16").execution, Execution::Host { .. }));
}
