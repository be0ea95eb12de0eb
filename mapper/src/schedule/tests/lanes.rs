//! Vector ops on chips with kernels take the time of the family's kernels, which measured rows are compared with.

use presil_numerics::{Format, Quantization};
use presil_workloads::build::Builder;

use super::{OPTIONS, op};
use crate::kernels::{RowOp, Rows, machine, rows, stream};
use crate::schedule::schedule;

#[test]
fn vector_ops_of_a_gpu_are_kernels() {
    let chip = presil_hwmodels::load("h100-sxm", &[]).unwrap();
    let x = machine(&chip, 0).unwrap();
    // Four times as much as the cache holds.
    let (m, n) = (32_768, 4_096);
    let mut b = Builder::new("lanes");
    let (p, q) = (b.input("p", &[m, n]), b.input("q", &[m, n]));
    let sum = b.add("add", p, q).unwrap();
    let soft = b.softmax("softmax", sum, 1).unwrap();
    b.output(soft);
    let mut graph = b.finish().unwrap();
    let bf16 = Quantization::from(Format::BF16);
    graph.set_precision(bf16, bf16, bf16);
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    let bytes = 2.0 * (m * n) as f64;
    let time = |name: &str| op(&graph, &s, name).cost.time.0;
    let added = stream(&x, "add", 2.0 * bytes, bytes, 0.0, 1.0).time;
    assert!(
        (time("add") / added - 1.0).abs() < 0.01,
        "{} {added}",
        time("add")
    );
    let row = Rows {
        op: RowOp::Softmax,
        rows: m,
        columns: n,
        bits: 16.0,
        cached: false,
    };
    let soft = rows(&x, "softmax", &row).time;
    let ratio = time("softmax") / soft;
    assert!((0.99..1.01).contains(&ratio), "{} {soft}", time("softmax"));
}
