//! The importer against files whose contents a separate counter has counted, and against damaged files.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::Value as Json;

use super::proto::*;
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
    json.as_array()
        .unwrap()
        .iter()
        .map(|d| d.as_u64().unwrap())
        .collect()
}

/// The shapes that a file was run with.
fn request(case: &Json) -> Request {
    let shapes = case["inputs"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, s)| (name.clone(), shape(s)))
        .collect();
    Request {
        shapes,
        ..Request::default()
    }
}

fn load(name: &str, request: &Request) -> Result<Graph, ModelError> {
    import(&folder().join(name), request)
}

/// A model of one graph.
fn model(graph: GraphProto, functions: Vec<FunctionProto>) -> Vec<u8> {
    let opset_import = vec![OperatorSetIdProto {
        domain: String::new(),
        version: 17,
    }];
    ModelProto {
        ir_version: Some(8),
        graph: Some(graph),
        opset_import,
        functions,
        ..ModelProto::default()
    }
    .encode_to_vec()
}

fn node(op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    let names = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    NodeProto {
        op_type: op.into(),
        input: names(inputs),
        output: names(outputs),
        attribute,
        ..NodeProto::default()
    }
}

fn body(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        g: Some(graph),
        ..AttributeProto::default()
    }
}

/// A value of a type; extents below 0 are open and called `d<extent>`.
fn value(name: &str, elem_type: i32, dims: &[i64]) -> ValueInfoProto {
    let dim = |d: &i64| DimensionProto {
        dim_value: (*d >= 0).then_some(*d),
        dim_param: (*d < 0).then(|| format!("d{d}")),
    };
    let shape = Some(TensorShapeProto {
        dim: dims.iter().map(dim).collect(),
    });
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto { elem_type, shape }),
        }),
    }
}

fn numbers(name: &str, values: &[i64], dims: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: 7,
        dims: dims.to_vec(),
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
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
        if case["macs"].is_null()
            || !(expect.starts_with("ok") || expect == "error_if_weights_needed")
        {
            continue;
        }
        files += 1;
        let graph = load(&name, &request(&case)).unwrap_or_else(|e| panic!("{e}"));
        let counts = count(&graph);
        let branches = case["if_branches"].as_object();
        let heaviest = branches.map_or(0, |b| {
            b.values().map(|v| v.as_u64().unwrap()).max().unwrap_or(0)
        });
        assert_eq!(
            counts.macs,
            u128::from(case["macs"].as_u64().unwrap() + heaviest),
            "{name}"
        );
        assert_eq!(
            counts.weight_bytes,
            u128::from(case["stored_bytes"].as_u64().unwrap()),
            "{name}"
        );
        assert_eq!(
            counts.parameters,
            u128::from(case["parameters"].as_u64().unwrap()),
            "{name}"
        );

        // MACs of each node, in file order. The parts of a recurrent layer are one node, all ops of a loop are.
        let mut own: Vec<(String, u64)> = Vec::new();
        for (id, op) in graph.ops.iter_ids() {
            let macs = u64::try_from(op_macs(&graph, id).0).unwrap();
            if macs == 0 {
                continue;
            }
            match own.last_mut() {
                Some((node, total)) if op.name.strip_suffix(".recurrent") == Some(node) => {
                    *total += macs
                }
                _ => own.push((op.name.trim_end_matches(".input").to_string(), macs)),
            }
        }
        let own: Vec<u64> = own.into_iter().map(|(_, m)| m).collect();
        let mut wanted: Vec<u64> = case["mac_ops"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m[1].as_u64().unwrap())
            .collect();
        if heaviest > 0 {
            // Two equal products.
            wanted.extend([heaviest / 2; 2]);
        }
        assert_eq!(own, wanted, "{name}");

        for (output, wanted) in case["outputs"].as_object().unwrap() {
            let tensor = graph
                .tensors
                .iter()
                .find(|t| t.name == *output && t.role == Role::Output);
            assert_eq!(
                tensor.map(|t| t.shape.clone()),
                Some(shape(wanted)),
                "{name}: {output}"
            );
        }
    }
    assert_eq!(files, 31);
}

#[test]
fn bad_files_are_refused_with_their_place() {
    let cases = [
        (
            "bad_conv_groups.onnx",
            &["(Conv)", "8 input", "3 groups"][..],
        ),
        ("bad_conv_stride0.onnx", &["(Conv)", "strides [0, 1]"]),
        ("bad_cycle2.onnx", &["node 0 (Add)", "`b`", "cycle"]),
        ("bad_dims_2e31.onnx", &["2147483648", "too large"]),
        ("bad_dtype_99.onnx", &["tensor `w`", "99"]),
        ("bad_duplicate_output.onnx", &["`y`", "exists already"]),
        ("bad_empty.onnx", &["empty"]),
        (
            "bad_ext_path_traversal.onnx",
            &["`i.weight`", "../../../../etc/passwd", "leaves the folder"],
        ),
        (
            "bad_matmul_k_mismatch.onnx",
            &["(MatMul)", "[4, 8]", "[9, 3]"],
        ),
        ("bad_missing_initializer.onnx", &["(MatMul)", "`w`"]),
        ("bad_negative_dim.onnx", &["`x`", "-3", "negative"]),
        (
            "bad_node_no_inputs.onnx",
            &["(Softmax)", "input 0 is missing"],
        ),
        ("bad_not_onnx_png.onnx", &["not a whole ONNX model"]),
        ("bad_opset_9999.onnx", &["9999", "1 to 28"]),
        ("bad_raw_data_short.onnx", &["tensor `w`", "96 bytes", "50"]),
        ("bad_truncated_half.onnx", &["not a whole ONNX model"]),
        (
            "unknown_domain_op.onnx",
            &["com.acme::FancyOp", "--allow-unknown"],
        ),
    ];
    for (name, parts) in cases {
        let message = refused(name);
        for part in parts {
            assert!(
                message.contains(part),
                "{name}: `{part}` is not in: {message}"
            );
        }
    }
    let all = golden().into_iter().filter(|(n, c)| {
        n.starts_with("bad_") && c["expect"].as_str().unwrap().starts_with("error")
    });
    let listed = cases.iter().filter(|(n, _)| n.starts_with("bad_")).count();
    // All of them but the one whose shapes are whole.
    assert_eq!(all.count(), listed + 1);
}

#[test]
fn an_unknown_operator_is_costed_and_named_when_that_is_allowed() {
    let graph = load(
        "unknown_domain_op.onnx",
        &Request {
            allow_unknown: true,
            ..Request::default()
        },
    )
    .unwrap();
    let op = graph.ops.iter().next().unwrap();
    assert_eq!(
        (op.class, &op.kind),
        (
            OpClass::Unknown,
            &OpKind::Unknown {
                name: "com.acme::FancyOp".into()
            }
        )
    );
    assert!(
        graph
            .assumptions
            .iter()
            .any(|a| a.contains("com.acme::FancyOp"))
    );
}

/// Files that ask for far more than they hold.
#[test]
fn hostile_files_are_refused() {
    let huge = 1i64 << 40;
    let of_shape = |extents: &[i64]| GraphProto {
        initializer: vec![numbers("s", extents, &[extents.len() as i64])],
        node: vec![node("ConstantOfShape", &["s"], &["y"], vec![])],
        output: vec![value("y", 1, &[])],
        ..GraphProto::default()
    };
    let constant = GraphProto {
        node: vec![node(
            "Constant",
            &[],
            &["y"],
            vec![AttributeProto {
                name: "value".into(),
                t: Some(numbers("c", &[], &[huge])),
                ..AttributeProto::default()
            }],
        )],
        output: vec![value("y", 7, &[])],
        ..GraphProto::default()
    };
    let mut nested = GraphProto {
        node: vec![node("Identity", &["x"], &["y"], vec![])],
        output: vec![value("y", 1, &[4])],
        ..GraphProto::default()
    };
    for _ in 0..28 {
        let inner = node(
            "If",
            &["c"],
            &["y"],
            vec![
                body("then_branch", nested.clone()),
                body(
                    "else_branch",
                    GraphProto {
                        name: "e".into(),
                        ..nested.clone()
                    },
                ),
            ],
        );
        nested = GraphProto {
            node: vec![inner],
            output: vec![value("y", 1, &[4])],
            ..GraphProto::default()
        };
        if nested.encoded_len() > 1 << 16 {
            // One branch is enough to go deeper.
            nested.node[0].attribute[1].g = Some(GraphProto::default());
        }
    }
    nested.input = vec![value("x", 1, &[4]), value("c", 9, &[])];
    let calls = |k: usize, to: usize| FunctionProto {
        domain: "f".into(),
        name: format!("f{k}"),
        input: vec!["x".into()],
        output: vec!["y".into()],
        node: [("x", "m"), ("m", "y")]
            .iter()
            .map(|(i, o)| NodeProto {
                domain: "f".into(),
                ..node(&format!("f{to}"), &[i], &[o], vec![])
            })
            .collect(),
        ..FunctionProto::default()
    };
    let call = GraphProto {
        input: vec![value("x", 1, &[4])],
        node: vec![NodeProto {
            domain: "f".into(),
            ..node("f0", &["x"], &["y"], vec![])
        }],
        output: vec![value("y", 1, &[4])],
        ..GraphProto::default()
    };
    let leaf = FunctionProto {
        node: vec![node("Relu", &["x"], &["y"], vec![])],
        ..calls(20, 0)
    };
    let looped = |trips: i64| {
        let inner = GraphProto {
            input: vec![value("i", 7, &[]), value("c", 9, &[]), value("v", 1, &[4])],
            node: vec![
                node("Identity", &["c"], &["d"], vec![]),
                node(
                    "Concat",
                    &["v", "v"],
                    &["w"],
                    vec![AttributeProto {
                        name: "axis".into(),
                        ..AttributeProto::default()
                    }],
                ),
            ],
            output: vec![value("d", 9, &[]), value("w", 1, &[])],
            ..GraphProto::default()
        };
        GraphProto {
            input: vec![value("x", 1, &[4])],
            initializer: vec![numbers("n", &[trips], &[])],
            node: vec![node(
                "Loop",
                &["n", "", "x"],
                &["y"],
                vec![body("body", inner)],
            )],
            output: vec![value("y", 1, &[])],
            ..GraphProto::default()
        }
    };
    let cases = [
        (model(of_shape(&[huge, huge]), vec![]), "too large"),
        (model(of_shape(&[-1]), vec![]), "negative"),
        (model(constant, vec![]), "holds 0"),
        (model(nested, vec![]), ""),
        (model(call.clone(), vec![calls(0, 0)]), "nest deeper"),
        (
            model(
                call,
                (0..20).map(|k| calls(k, k + 1)).chain([leaf]).collect(),
            ),
            "nodes",
        ),
        (model(looped(100), vec![]), "too large"),
        (model(looped(i64::MAX), vec![]), "iterations"),
    ];
    for (bytes, wanted) in cases {
        let error = match import_bytes("hostile", &bytes, &Request::default()) {
            Err(error) => error.to_string(),
            Ok(graph) => panic!(
                "{} was imported ({} ops), not refused: {wanted}",
                graph.name,
                graph.ops.len()
            ),
        };
        assert!(error.contains(wanted), "`{wanted}` is not in: {error}");
    }
    // A large tensor that nobody stores is only a shape.
    let graph = import_bytes(
        "large",
        &model(of_shape(&[huge]), vec![]),
        &Request::default(),
    )
    .unwrap();
    assert_eq!(
        graph.tensors.iter().find(|t| t.name == "y").unwrap().shape,
        [1 << 40]
    );
}

/// Open extents: batches, names that several inputs share, and what must be given.
#[test]
fn open_extents_are_batches_or_asked_for() {
    let graph = |a: &[i64], b: &[i64]| {
        model(
            GraphProto {
                input: vec![value("a", 1, a), value("b", 1, b)],
                node: vec![
                    node("Relu", &["a"], &["y"], vec![]),
                    node("Relu", &["b"], &["z"], vec![]),
                ],
                output: vec![value("y", 1, &[-9]), value("z", 1, &[-9])],
                ..GraphProto::default()
            },
            vec![],
        )
    };
    let ask = |bytes: &[u8], batch: u64, shapes: &[(&str, &[u64])]| {
        let shapes = shapes
            .iter()
            .map(|(n, s)| ((*n).to_string(), s.to_vec()))
            .collect();
        let graph = import_bytes(
            "m",
            bytes,
            &Request {
                batch,
                shapes,
                ..Request::default()
            },
        );
        graph
            .map(|g| {
                (
                    ["a", "b"].map(|n| {
                        g.tensors
                            .iter()
                            .find(|t| t.name == n)
                            .unwrap()
                            .shape
                            .clone()
                    }),
                    g.assumptions,
                )
            })
            .map_err(|e| e.to_string())
    };
    let batched = graph(&[-1, 3], &[-1]);
    let (shapes, assumptions) = ask(&batched, 4, &[]).unwrap();
    assert_eq!(shapes, [vec![4, 3], vec![4]]);
    assert_eq!(assumptions, ["batch: `d-1` taken as 4"]);
    assert_eq!(
        ask(&batched, 1, &[("a", &[7, 3])]).unwrap(),
        ([vec![7, 3], vec![7]], vec![])
    );

    let open = graph(&[1, -2], &[-2, 5]);
    let error = ask(&open, 1, &[]).unwrap_err();
    assert!(
        error.contains("`a`") && error.contains("--shape a=1x<d-2>"),
        "{error}"
    );
    assert_eq!(
        ask(&open, 1, &[("b", &[9, 5])]).unwrap().0,
        [vec![1, 9], vec![9, 5]]
    );
    for (shapes, wanted) in [
        (&[("a", &[1u64, 8][..]), ("b", &[9, 5][..])][..], "at once"),
        (&[("a", &[2, 8])], "fixes"),
        (&[("a", &[1, 8, 3])], "ranks"),
        (&[("c", &[1])], "`a`, `b`"),
    ] {
        let error = ask(&open, 1, shapes).unwrap_err();
        assert!(error.contains(wanted), "`{wanted}` is not in: {error}");
    }
    let fixed = graph(&[1, 3], &[1]);
    assert!(
        ask(&fixed, 8, &[])
            .unwrap_err()
            .contains("fixes its shape 1 x 3")
    );
    assert!(ask(&fixed, 1, &[]).is_ok());
}

/// A damaged file that still decodes: what is stored twice, what contradicts itself.
#[test]
fn contradictions_are_named() {
    let graph = |initializer: Vec<TensorProto>, node: Vec<NodeProto>| GraphProto {
        input: vec![value("x", 1, &[1, 4, 9])],
        initializer,
        node,
        output: vec![value("y", 1, &[-9])],
        ..GraphProto::default()
    };
    let weights = |dims: &[i64]| TensorProto {
        name: "w".into(),
        data_type: 1,
        dims: dims.to_vec(),
        raw_data: vec![0; 4 * dims.iter().product::<i64>() as usize].into(),
        ..TensorProto::default()
    };
    let ints = |name: &str, ints: &[i64]| AttributeProto {
        name: name.into(),
        ints: ints.to_vec(),
        ..AttributeProto::default()
    };
    let conv = |attributes| node("Conv", &["x", "w"], &["y"], attributes);
    let cases = [
        (
            graph(vec![weights(&[8, 4, 3]); 2], vec![conv(vec![])]),
            "stored twice",
        ),
        (
            graph(
                vec![weights(&[8, 4, 3])],
                vec![conv(vec![ints("kernel_shape", &[5])])],
            ),
            "kernel_shape [5]",
        ),
        (
            graph(vec![weights(&[8, 4, 30])], vec![conv(vec![])]),
            "larger than the padded input",
        ),
        (
            graph(vec![weights(&[8, 3, 3])], vec![conv(vec![])]),
            "3 input channels of a group",
        ),
        (
            graph(
                vec![weights(&[8, 4, 3])],
                vec![conv(vec![ints("pads", &[1])])],
            ),
            "pads [1] must have 2 numbers",
        ),
        (
            graph(vec![weights(&[8, 4, 3, 3])], vec![conv(vec![])]),
            "ranks must be equal",
        ),
        (
            graph(vec![], vec![node("Reshape", &["x", "x"], &["y"], vec![])]),
            "depends on the data",
        ),
        (
            graph(
                vec![numbers("s", &[5, -1], &[2])],
                vec![node("Reshape", &["x", "s"], &["y"], vec![])],
            ),
            "[1, 4, 9] does not reshape to [5, -1]",
        ),
        (
            graph(
                vec![],
                vec![node(
                    "Transpose",
                    &["x"],
                    &["y"],
                    vec![ints("perm", &[0, 0, 1])],
                )],
            ),
            "no permutation",
        ),
        (
            graph(vec![], vec![node("Relu", &["x"], &["z"], vec![])]),
            "output `y` is made by no node",
        ),
        (
            graph(
                vec![numbers("s", &[7], &[1])],
                vec![node("Gather", &["x", "s"], &["y"], vec![])],
            ),
            "index 7 is outside axis 0",
        ),
    ];
    for (graph, wanted) in cases {
        let error = import_bytes("m", &model(graph, vec![]), &Request::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(wanted), "`{wanted}` is not in: {error}");
    }
}

/// A function's nodes take attributes from its call, or its defaults.
#[test]
fn functions_pass_attributes_on() {
    let axis = |i: i64| AttributeProto {
        name: "axis".into(),
        i,
        ..AttributeProto::default()
    };
    let reference = AttributeProto {
        ref_attr_name: "along".into(),
        ..axis(0)
    };
    let along = |i: i64| AttributeProto {
        name: "along".into(),
        ..axis(i)
    };
    let twice = FunctionProto {
        domain: "f".into(),
        name: "twice".into(),
        input: vec!["a".into()],
        output: vec!["b".into()],
        node: vec![node("Concat", &["a", "a"], &["b"], vec![reference])],
        attribute_proto: vec![along(1)],
        ..FunctionProto::default()
    };
    for (attributes, wanted) in [(vec![], [2, 6]), (vec![along(0)], [4, 3])] {
        let graph = GraphProto {
            input: vec![value("x", 1, &[2, 3])],
            node: vec![NodeProto {
                domain: "f".into(),
                ..node("twice", &["x"], &["y"], attributes)
            }],
            output: vec![value("y", 1, &[-9])],
            ..GraphProto::default()
        };
        let graph =
            import_bytes("m", &model(graph, vec![twice.clone()]), &Request::default()).unwrap();
        assert_eq!(
            graph.tensors.iter().find(|t| t.name == "y").unwrap().shape,
            wanted
        );
    }
}

/// Quantized files carry their own formats; only real conversions are ops.
#[test]
fn quantization_belongs_to_tensors() {
    for name in [
        "tinyres_qdq_int8_perchannel.onnx",
        "tinyres_qoperator_int8.onnx",
    ] {
        let graph = load(name, &Request::default()).unwrap();
        for op in graph.ops.iter().filter(|o| o.contraction().is_some()) {
            let format = |t: crate::TensorId| graph.tensors[t].quantization.to_string();
            assert_eq!(format(op.inputs[0]), "uint8", "{name}: {}", op.name);
            assert!(
                format(op.inputs[1]).starts_with("int8"),
                "{name}: {}",
                op.name
            );
            assert_eq!(format(op.outputs[0]), "uint8", "{name}: {}", op.name);
        }
        // The float input in, the float logits out.
        assert_eq!(graph.histogram().get("quantize"), Some(&2), "{name}");
    }
    let graph = load("matmul_int4_blockwise_op21.onnx", &Request::default()).unwrap();
    let op = graph.ops.iter().next().unwrap();
    assert_eq!(
        (
            graph.ops.len(),
            graph.tensors[op.inputs[1]].quantization.to_string()
        ),
        (1, "int4_g32".to_string())
    );
    let graph = load(
        "struct_llama3_8b_1layer_S128_op18_dynamo.onnx",
        &Request::default(),
    )
    .unwrap();
    assert!(
        graph
            .tensors
            .iter()
            .filter(|t| t.role == Role::Weight && t.shape.len() == 2)
            .all(|t| t.quantization.to_string() == "bf16")
    );
}

/// Which matmuls are attention, linears and recurrences.
#[test]
fn matmuls_have_their_classes() {
    let cases = [
        ("vit_tiny2_op20_dynamo.onnx", "attn_pv", 2),
        ("tinyunet_xattn_op17_legacy.onnx", "attn_qk", 1),
        ("tinyunet_dynamic_int8.onnx", "attn_qk", 1),
        ("tinyllama_prefill16_op17_legacy.onnx", "attn_qk", 2),
        ("tinyllama_prefill16_op17_legacy.onnx", "attn_pv", 2),
        ("tinyllama_decode_past15_op20_dynamo.onnx", "linear", 15),
        ("lstm2_op17_legacy.onnx", "recurrent", 2),
        ("matmul_broadcast.onnx", "matmul", 1),
        ("oddconv_op17_legacy.onnx", "conv_transpose", 1),
    ];
    for (name, class, count) in cases {
        let graph = load(name, &Request::default()).unwrap();
        assert_eq!(
            graph.histogram().get(class),
            Some(&count),
            "{name}: {class}"
        );
    }
}

#[test]
fn a_chain_of_3000_nodes_is_3000_ops() {
    let bytes = std::fs::read(folder().join("edge_chain3000.onnx")).unwrap();
    let graph = import_bytes("chain", &bytes, &Request::default()).unwrap();
    assert_eq!(graph.ops.len(), 3000);
}

/// Every file cut at many places, and with bits flipped at random: an error or a graph, never a panic.
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
            let _ = import_bytes(
                "flipped",
                &bytes,
                &Request {
                    allow_unknown: true,
                    ..Request::default()
                },
            );
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
