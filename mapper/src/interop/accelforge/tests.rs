//! Every case of the committed file becomes a case file and back; the regression form on a small file of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::case::write::write;
use crate::hierarchy::Mask;
use crate::search::Objective;

const OPTIMA: &str = include_str!("../../../../tests/data/mapping/optima_accelforge.json");

#[test]
fn the_optima_are_cases() {
    let references = read(OPTIMA).unwrap();
    assert_eq!((references.cases.len(), references.skipped.len()), (10, 0));
    for r in &references.cases {
        assert_eq!(r.expected.einsums.len(), r.case.einsums.len(), "{}", r.id);
        let sum: f64 = r.expected.einsums.iter().map(|e| e.0).sum();
        assert!((sum / r.expected.energy - 1.0).abs() < 1e-9, "{}", r.id);
        assert!(!r.expected.actions.is_empty(), "{}", r.id);
        let written = write(&r.case, &[]).unwrap();
        assert_eq!(
            read_case(&r.id, &written, None).unwrap(),
            r.case,
            "{written}"
        );
    }
    let case = |id: &str| &references.cases.iter().find(|r| r.id == id).unwrap().case;
    let dilated = &case("N13").einsums[0];
    assert_eq!(dilated.einsum.inputs[0].extents, [1, 32, 36, 36]);
    let mlp = &case("N15").einsums[1].hierarchy;
    let register = mlp.levels[7].memory().unwrap();
    assert_eq!((register.capacity, register.keeps), (8.0, Mask(2)));
    assert_eq!(case("N05").objective, Objective::Edp);
}

/// The regression form: a scalar unit in the middle, several instances of a memory, a copy, a window.
const REGRESSION: &str = r#"{
  "archs": { "npu": [
    { "kind": "Memory", "name": "MainMemory", "size": "inf", "total_latency": "sum(a)",
      "actions": [{ "name": "read", "energy": 7e-12, "throughput": 4e9, "bits_per_action": 1.0 },
                  { "name": "write", "energy": 8e-12, "throughput": 2e9, "bits_per_action": 1.0 }],
      "keep": "InvertibleSet(frozenset({'T0', 'W0'}))", "may_keep": "InvertibleSet(frozenset({'T1', 'T0', 'W0'}))" },
    { "kind": "Memory", "name": "Local", "size": 1024.0, "total_latency": "max(a)",
      "actions": [{ "name": "read", "energy": 1e-12, "throughput": 8e9, "bits_per_action": 2.0 },
                  { "name": "write", "energy": 1e-12, "throughput": "inf", "bits_per_action": 1.0 }],
      "spatial": [{ "name": "Z", "fanout": 4.0, "reuse": "InvertibleSet(frozenset())", "may_reuse": "InvertibleSet(frozenset())", "min_usage": 1.0 }],
      "keep": "~MainMemory.tensors", "may_keep": "InvertibleSet(frozenset({'T1', 'T0', 'W0'}))" },
    { "kind": "Compute", "name": "Scalar", "actions": [{ "name": "compute", "energy": 0.0, "throughput": 4e9 }] },
    { "kind": "Container", "name": "PE", "spatial": [{ "name": "x", "fanout": 8.0,
      "reuse": "InvertibleSet(frozenset({'T0'}))", "may_reuse": "InvertibleSet(frozenset({'T0'}))", "min_usage": 1.0 }] },
    { "kind": "Compute", "name": "MAC", "actions": [{ "name": "compute", "energy": 2e-13, "throughput": 2e9 }] }
  ] },
  "workloads": { "w": { "bits_per_value": { "All": 16.0 }, "einsums": [
    { "name": "In", "is_copy": true, "tensors": [
      { "name": "I_in", "projection": { "M": "m" }, "output": false }, { "name": "I", "projection": { "M": "m" }, "output": true }],
      "iteration_space": "0 <= m < 6" },
    { "name": "Conv", "is_copy": false, "tensors": [
      { "name": "I", "projection": { "M": "p + r" }, "output": false },
      { "name": "W", "projection": { "R": "r" }, "output": false },
      { "name": "C", "projection": { "P": "p" }, "output": true }],
      "iteration_space": "0 <= p + r < 6 and 0 <= r < 3 and 0 <= p < 4" },
    { "name": "Act", "is_copy": false, "tensors": [
      { "name": "C", "projection": { "P": "p" }, "output": false }, { "name": "A", "projection": { "P": "p" }, "output": true }],
      "iteration_space": "0 <= p < 4" }
  ] } },
  "cases": [
    { "id": "ok", "arch": "npu", "workload": "w", "fused": true, "objective": "edp", "energy": 3e-12, "latency": 2e-9,
      "energy_per_component": { "('Conv', 'MAC', 'compute')": 1e-12, "('Act', 'Scalar', 'compute')": 2e-12 },
      "latency_per_component": { "('Conv', 'MainMemory')": 1e-9, "('Conv', 'MAC')": 5e-10, "('Act', 'Scalar')": 1e-9 },
      "actions": { "('Conv', 'MainMemory', 'I', 'read')": 96.0, "('Conv', 'MAC', 'None', 'compute')": 12.0 } },
    { "id": "no arch", "arch": "tpu", "workload": "w", "objective": "edp", "energy": 1, "latency": 1 }
  ]
}"#;

#[test]
fn the_regression_form_is_read_in_picojoules_and_cycles() {
    let references = read(REGRESSION).unwrap();
    let missing = (
        "no arch".to_string(),
        "the file has no arch `tpu`".to_string(),
    );
    assert_eq!(references.skipped, [missing]);
    let r = &references.cases[0];
    let (conv, act) = (&r.case.einsums[0], &r.case.einsums[1]);
    let names = |e: &crate::case::CaseEinsum| {
        let levels = e.hierarchy.levels.iter();
        levels.map(|l| l.name().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(conv), ["MainMemory", "Locals", "Local", "PE", "MAC"]);
    assert_eq!(names(act), ["MainMemory", "Locals", "Local", "Scalar"]);
    assert_eq!(r.copies, ["In"]);
    assert_eq!(r.case.tensors[0].name, "I_in");
    assert_eq!(r.case.tensors[0].extents, [6]);
    let main = conv.hierarchy.levels[0].memory().unwrap();
    // Operands: I_in, W, C; C is read by Act and need not go out.
    assert_eq!((main.must_keep, main.keeps), (Mask(0b011), Mask(0b111)));
    assert_eq!((main.read_energy, main.ports[0].write_rate), (7.0, 1.0));
    let local = conv.hierarchy.levels[2].memory().unwrap();
    assert_eq!((local.read_energy, local.ports[0].read_rate), (0.5, 8.0));
    assert_eq!(
        (local.ports.len(), local.must_keep_unless_above),
        (2, Mask(0b111))
    );
    let axis = &conv.hierarchy.levels[1].fanout().unwrap().axes[0];
    assert_eq!((axis.size, axis.shares), (4, Mask::NONE));
    let axis = &conv.hierarchy.levels[3].fanout().unwrap().axes[0];
    assert_eq!((axis.shares, axis.must_share), (Mask(1), Mask(1)));
    assert_eq!(act.hierarchy.compute().unwrap().rate, 2.0);
    assert_eq!((r.expected.cycles, r.case.clock_hz), (4.0, Some(2e9)));
    assert_eq!(r.expected.einsums, [(1.0, 2.0), (2.0, 2.0)]);
    assert_eq!(r.expected.actions[1].tensor, None);
    // Not fused, every tensor goes out.
    let unfused = read(&REGRESSION.replace("\"fused\": true", "\"fused\": false")).unwrap();
    let main = unfused.cases[0].case.einsums[0].hierarchy.levels[0].clone();
    assert_eq!(main.memory().unwrap().must_keep, Mask(0b111));
    // The einsum whose path ends at the scalar unit is written and read like the others.
    let written = write(&r.case, &[]).unwrap();
    assert_eq!(read_case("x", &written, None).unwrap(), r.case, "{written}");
}

#[test]
fn other_files_are_refused() {
    for text in [
        "",
        "[]",
        "{}",
        "{\"cases\": [{}]}",
        "{\"cases\": [{\"id\": \"a\"}]}",
    ] {
        assert!(
            matches!(read(text), Err(AccelForgeError::Form(_))),
            "{text}"
        );
    }
    let broken = OPTIMA.replacen("A[m, k]", "A[m, z]", 1);
    let told = read(&broken).unwrap_err().to_string();
    assert!(
        told.contains("N00") && told.contains("rank `z` has no size"),
        "{told}"
    );
}
