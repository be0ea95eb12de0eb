//! The importer against files whose contents a separate counter has counted, and against damaged files.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::Value as Json;

use super::*;
use crate::count::{count, op_macs};
use crate::op::{OpClass, OpKind};
use crate::tensor::Role;

fn folder() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/onnx")).into()
}

fn golden() -> BTreeMap<String, Json> {
    serde_json::from_str(&std::fs::read_to_string(folder().join("golden.json")).unwrap()).unwrap()
}

fn shape(json: &Json) -> Vec<u64> {
    json.as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).collect()
}

/// The shapes that a file was run with.
fn request(case: &Json) -> Request {
    let shapes = case["inputs"].as_object().unwrap().iter().map(|(name, s)| (name.clone(), shape(s))).collect();
    Request { shapes, ..Request::default() }
}

fn load(name: &str, request: &Request) -> Result<Graph, ModelError> {
    import(&folder().join(name), request)
}

fn refused(name: &str) -> String {
    match load(name, &Request::default()) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{name} was imported"),
    }
}

#[test]
fn good_files_have_their_golden_contents() {
    let mut files = 0;
    for (name, case) in golden() {
        let expect = case["expect"].as_str().unwrap();
        // The data that are out of bounds are not read: the shapes of that file are whole.
        if case["macs"].is_null() || !(expect.starts_with("ok") || expect == "error_if_weights_needed") {
            continue;
        }
        files += 1;
        let graph = load(&name, &request(&case)).unwrap_or_else(|e| panic!("{e}"));
        let counts = count(&graph);
        let branches = case["if_branches"].as_object();
        let heaviest = branches.map_or(0, |b| b.values().map(|v| v.as_u64().unwrap()).max().unwrap_or(0));
        assert_eq!(counts.macs, u128::from(case["macs"].as_u64().unwrap() + heaviest), "{name}");
        assert_eq!(counts.parameters, u128::from(case["parameters"].as_u64().unwrap()), "{name}");

        // MACs of each node, in file order. The parts of a recurrent layer are one node, all ops of a loop are.
        let mut own: Vec<(String, u64)> = Vec::new();
        for (id, op) in graph.ops.iter_ids() {
            let macs = u64::try_from(op_macs(&graph, id).0).unwrap();
            if macs == 0 {
                continue;
            }
            match own.last_mut() {
                Some((node, total)) if op.name.strip_suffix(".recurrent") == Some(node) => *total += macs,
                _ => own.push((op.name.trim_end_matches(".input").to_string(), macs)),
            }
        }
        let own: Vec<u64> = own.into_iter().map(|(_, m)| m).collect();
        let mut wanted: Vec<u64> = case["mac_ops"].as_array().unwrap().iter().map(|m| m[1].as_u64().unwrap()).collect();
        if heaviest > 0 {
            // Two equal products.
            wanted.extend([heaviest / 2; 2]);
        }
        assert_eq!(own, wanted, "{name}");

        for (output, wanted) in case["outputs"].as_object().unwrap() {
            let tensor = graph.tensors.iter().find(|t| t.name == *output && t.role == Role::Output);
            assert_eq!(tensor.map(|t| t.shape.clone()), Some(shape(wanted)), "{name}: {output}");
        }
    }
    assert_eq!(files, 31);
}

#[test]
fn bad_files_are_refused_with_their_place() {
    let cases = [
        ("bad_conv_groups.onnx", &["(Conv)", "8 input", "3 groups"][..]),
        ("bad_conv_stride0.onnx", &["(Conv)", "strides [0, 1]"]),
        ("bad_cycle2.onnx", &["node 0 (Add)", "`b`", "cycle"]),
        ("bad_dims_2e31.onnx", &["2147483648", "too large"]),
        ("bad_dtype_99.onnx", &["tensor `w`", "99"]),
        ("bad_duplicate_output.onnx", &["`y`", "exists already"]),
        ("bad_empty.onnx", &["empty"]),
        ("bad_ext_path_traversal.onnx", &["`i.weight`", "../../../../etc/passwd", "leaves the folder"]),
        ("bad_matmul_k_mismatch.onnx", &["(MatMul)", "[4, 8]", "[9, 3]"]),
        ("bad_missing_initializer.onnx", &["(MatMul)", "`w`"]),
        ("bad_negative_dim.onnx", &["`x`", "-3", "negative"]),
        ("bad_node_no_inputs.onnx", &["(Softmax)", "input 0 is missing"]),
        ("bad_not_onnx_png.onnx", &["not a whole ONNX model"]),
        ("bad_opset_9999.onnx", &["9999", "1 to 28"]),
        ("bad_raw_data_short.onnx", &["tensor `w`", "96 bytes", "50"]),
        ("bad_truncated_half.onnx", &["not a whole ONNX model"]),
        ("unknown_domain_op.onnx", &["com.acme::FancyOp", "--allow-unknown"]),
    ];
    for (name, parts) in cases {
        let start = Instant::now();
        let message = refused(name);
        assert!(start.elapsed().as_secs_f64() < 1.0, "{name}");
        for part in parts {
            assert!(message.contains(part), "{name}: `{part}` is not in: {message}");
        }
    }
    let all = golden().into_iter().filter(|(n, c)| n.starts_with("bad_") && c["expect"].as_str().unwrap().starts_with("error"));
    let listed = cases.iter().filter(|(n, _)| n.starts_with("bad_")).count();
    // All of them but the one whose shapes are whole.
    assert_eq!(all.count(), listed + 1);
}

#[test]
fn an_unknown_operator_is_costed_and_named_when_that_is_allowed() {
    let graph = load("unknown_domain_op.onnx", &Request { allow_unknown: true, ..Request::default() }).unwrap();
    let op = graph.ops.iter().next().unwrap();
    assert_eq!((op.class, &op.kind), (OpClass::Unknown, &OpKind::Unknown { name: "com.acme::FancyOp".into() }));
    assert!(graph.assumptions.iter().any(|a| a.contains("com.acme::FancyOp")));
}

/// Importing the longest file stays quick even without optimization.
#[test]
fn a_chain_of_3000_nodes_is_no_work() {
    let bytes = std::fs::read(folder().join("edge_chain3000.onnx")).unwrap();
    let start = Instant::now();
    let graph = import_bytes("chain", &bytes, &Request::default()).unwrap();
    let time = start.elapsed();
    eprintln!("3000 nodes in {time:?}");
    assert_eq!(graph.ops.len(), 3000);
    assert!(time.as_secs_f64() < 1.0);
}

/// Every file cut at many places, and with bits flipped at random: an error or a graph, quickly, never a panic.
#[test]
fn damaged_files_never_panic() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut cases = 0u32;
    for name in golden().keys() {
        let whole = std::fs::read(folder().join(name)).unwrap();
        if whole.is_empty() || whole.len() > 70_000 {
            continue;
        }
        for cut in (0..whole.len()).step_by((whole.len() / 60).max(1)) {
            let _ = import_bytes("cut", &whole[..cut], &Request::default());
            cases += 1;
        }
        let flips = proptest::collection::vec((0..whole.len(), 0u8..8), 1..4);
        for _ in 0..60 {
            let mut bytes = whole.clone();
            for (at, bit) in flips.new_tree(&mut runner).unwrap().current() {
                bytes[at] ^= 1 << bit;
            }
            let start = Instant::now();
            let _ = import_bytes("flipped", &bytes, &Request { allow_unknown: true, ..Request::default() });
            assert!(start.elapsed().as_secs_f64() < 5.0, "{name}");
            cases += 1;
        }
    }
    assert!(cases > 2000, "{cases}");
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = import_bytes("random", &bytes, &Request::default());
    }
}
