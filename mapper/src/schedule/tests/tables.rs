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

/// Wider elements have no table of all values: the host computes them.
#[test]
fn wide_functions_are_not() {
    let chip = presil_hwmodels::load("tpu-v1", &[]).unwrap();
    let mut b = Builder::new("gates");
    let x = b.input("x", &[64, 8192]);
    let t = b.function("tanh", x, Function::Tanh).unwrap();
    b.output(t);
    let mut graph = b.finish().unwrap();
    let q = presil_numerics::Quantization::from(presil_numerics::Format::INT16);
    graph.set_precision(q, q, q);
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    assert!(matches!(
        op(&graph, &s, "tanh").execution,
        Execution::Host { .. }
    ));
}
