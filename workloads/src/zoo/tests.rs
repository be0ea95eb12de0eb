#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use super::*;
use crate::count::{count, op_macs};
use crate::op::{Op, OpClass};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/workloads");

fn with_shape(name: &str, input: &str, shape: &[u64]) -> Graph {
    let request = Request {
        shapes: vec![(input.into(), shape.to_vec())],
        ..Request::default()
    };
    build(name, &request).unwrap_or_else(|e| panic!("{e}"))
}

fn forward(name: &str) -> Graph {
    build(name, &Request::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// The type of a MAC op in the reference tables, which tell depthwise convolutions (groups = channels) apart.
fn reference_type(op: &Op) -> &'static str {
    match op.class {
        OpClass::Conv => {
            let e = op.contraction().unwrap();
            let size = |name: &str| e.dims.iter().find(|d| d.name == name).unwrap().size;
            if size("g") > 1 && size("c") == 1 {
                "conv2d_depthwise"
            } else {
                "conv2d"
            }
        }
        class => class.name(),
    }
}

fn macs_by_type(g: &Graph) -> BTreeMap<String, u64> {
    let mut by_type = BTreeMap::new();
    for ((id, op), repeat) in g.ops.iter_ids().zip(g.repeats()) {
        if op.contraction().is_some() {
            *by_type.entry(reference_type(op).to_string()).or_insert(0) +=
                op_macs(g, id).0 as u64 * repeat;
        }
    }
    by_type
}

#[test]
fn macs_and_parameters_equal_the_golden_ones() {
    let text = std::fs::read_to_string(format!("{DATA}/golden_zoo.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let models = golden.as_object().unwrap();
    assert!(models.len() >= 6);
    for (model, entry) in models {
        for (phase, expected) in entry["phases"].as_object().unwrap() {
            let (input, shape) = expected["inputs"]
                .as_object()
                .unwrap()
                .iter()
                .next()
                .unwrap();
            let shape: Vec<u64> = serde_json::from_value(shape.clone()).unwrap();
            let g = with_shape(model, input, &shape);
            let counts = count(&g);
            assert_eq!(
                Some(counts.parameters),
                entry["params"].as_u64().map(u128::from),
                "{model} {phase}: parameters"
            );
            assert_eq!(
                Some(counts.macs),
                expected["macs"].as_u64().map(u128::from),
                "{model} {phase}: MACs"
            );
            assert_eq!(
                counts.executed_macs, counts.macs,
                "{model} {phase}: no mask"
            );
            let by_type: BTreeMap<String, u64> =
                serde_json::from_value(expected["macs_by_type"].clone()).unwrap();
            assert_eq!(macs_by_type(&g), by_type, "{model} {phase}: MACs by type");
        }
    }
}

/// Parameters and GMACs that torchvision publishes with its weights; the UNet's parameters as diffusers counts them.
#[test]
fn parameters_and_macs_equal_the_published_ones() {
    let cases = [
        ("alexnet", 61_100_840, Some(0.714)),
        ("vgg16", 138_357_544, Some(15.47)),
        ("resnet18", 11_689_512, Some(1.814)),
        ("resnet34", 21_797_672, Some(3.664)),
        ("resnet50", 25_557_032, Some(4.089)),
        ("resnet101", 44_549_160, Some(7.801)),
        ("resnet152", 60_192_808, Some(11.514)),
        ("mobilenet_v2", 3_504_872, Some(0.301)),
        ("squeezenet1_0", 1_248_424, Some(0.819)),
        ("vit_b_16", 86_567_656, Some(17.564)),
        ("sd15-unet", 859_520_964, None),
        ("sdxl-unet", 2_567_463_684, None),
    ];
    for (name, parameters, giga) in cases {
        let counts = count(&forward(name));
        assert_eq!(counts.parameters, parameters, "{name}");
        if let Some(giga) = giga {
            // To the decimals that are published.
            let decimals = if giga == 15.47 { 0.005 } else { 0.0005 };
            assert!(
                (counts.macs as f64 / 1e9 - giga).abs() <= decimals,
                "{name}: {} MACs",
                counts.macs
            );
        }
    }
}

/// One row of a reference table: type, MACs, elements of weights, input, second input and output.
type Row = (String, [u64; 5]);

/// Rows of a reference table, with their names.
fn reference_rows(model: &str) -> Vec<(String, Row)> {
    let text = std::fs::read_to_string(format!("{DATA}/layers/{model}.csv")).unwrap();
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap().split(',').collect();
    let at = |column: &str| head.iter().position(|h| *h == column).unwrap();
    let numbers = ["macs", "weight_elems", "in_elems", "in2_elems", "out_elems"].map(at);
    let (name, kind) = (at("name"), at("type"));
    let rows = lines.map(|line| {
        let cells: Vec<&str> = line.split(',').collect();
        let kind = cells[kind].replace("conv2d_depthwise", "conv2d");
        (
            cells[name].to_string(),
            (kind, numbers.map(|n| cells[n].parse().unwrap())),
        )
    });
    rows.collect()
}

/// Rows of a graph in the same form, repeats written out.
fn rows(g: &Graph) -> Vec<(String, Row)> {
    let mut rows = Vec::new();
    for block in &g.blocks {
        for _ in 0..block.repeat {
            for (id, op) in g.ops.iter_ids().filter(|(id, _)| block.ops.contains(&id.0)) {
                if op.contraction().is_none() {
                    continue;
                }
                let elements = |i: usize| g.tensors[op.inputs[i]].elements();
                let weighted = matches!(op.class, OpClass::Conv | OpClass::Linear);
                let (weights, second) = if weighted {
                    (elements(1), 0)
                } else {
                    (0, elements(1))
                };
                let kind = reference_type(op).replace("conv2d_depthwise", "conv2d");
                let out = g.tensors[op.outputs[0]].elements();
                rows.push((
                    op.name.clone(),
                    (
                        kind,
                        [op_macs(g, id).0 as u64, weights, elements(0), second, out],
                    ),
                ));
            }
        }
    }
    rows
}

#[test]
fn every_layer_equals_its_row_of_the_reference_tables() {
    for model in ["resnet50", "mobilenet_v2", "vit_b_16", "sd15-unet"] {
        let (ours, theirs) = (rows(&forward(model)), reference_rows(model));
        assert_eq!(ours.len(), theirs.len(), "{model}");
        // The tables are in execution order, and so are the graphs.
        for ((name, our), (reference, their)) in ours.iter().zip(&theirs) {
            assert_eq!(our, their, "{model}: {name} against {reference}");
        }
    }
}

#[test]
fn unique_layers_are_called_as_in_the_reference_tables() {
    for model in ["resnet50", "mobilenet_v2", "sd15-unet"] {
        for ((ours, _), (theirs, row)) in rows(&forward(model)).iter().zip(&reference_rows(model)) {
            let suffix = match row.0.as_str() {
                "attn_qk" => ".scores",
                "attn_pv" => ".values",
                _ => "",
            };
            assert_eq!(*ours, format!("{theirs}{suffix}"));
        }
    }
}

#[test]
fn names_are_sorted_and_all_build() {
    let names = names();
    assert!(names.is_sorted() && names.len() == 14, "{names:?}");
    for name in names {
        let g = forward(name);
        assert!(
            g.tensors.iter().any(|t| t.role == crate::Role::Output),
            "{name} has an output"
        );
    }
}

#[test]
fn macs_grow_with_the_batch_and_parameters_do_not() {
    for name in names() {
        let one = count(&forward(name));
        let four = count(
            &build(
                name,
                &Request {
                    batch: 4,
                    ..Request::default()
                },
            )
            .unwrap(),
        );
        assert_eq!(
            (four.macs, four.parameters),
            (4 * one.macs, one.parameters),
            "{name}"
        );
    }
}

#[test]
fn vector_work_is_there() {
    let histogram = |name: &str| forward(name).histogram();
    // Counts of the reference run's operators: 53 batch norms, 49 activations, 16 additions, 2 poolings.
    let h = histogram("resnet50");
    assert_eq!(
        [h["norm"], h["activation"], h["elementwise"], h["pool"]],
        [53, 49, 16, 2]
    );
    let h = histogram("mobilenet_v2");
    assert_eq!(
        [h["norm"], h["activation"], h["elementwise"], h["pool"]],
        [52, 35, 10, 1]
    );
    let h = histogram("vit_b_16");
    assert_eq!(
        [h["norm"], h["activation"], h["elementwise"], h["softmax"]],
        [25, 12, 25, 12]
    );
    let h = histogram("bert-base");
    assert_eq!(
        [
            h["norm"],
            h["activation"],
            h["elementwise"],
            h["softmax"],
            h["gather"]
        ],
        [25, 13, 26, 12, 3]
    );
    let h = histogram("squeezenet1_0");
    assert_eq!([h["activation"], h["pool"], h["move"]], [26, 4, 8 + 1]);
    // 22 residual blocks (two norms each, three activations), 16 transformers, 12 concatenations, 3 enlargements.
    let h = histogram("sd15-unet");
    assert_eq!([h["norm"], h["softmax"]], [22 * 2 + 16 * 4 + 1, 32]);
    assert_eq!(h["activation"], 22 * 3 + 16 + 1 + 1);
}

#[test]
fn other_sizes_are_possible_where_the_architecture_allows_them() {
    let double = with_shape("resnet50", "image", &[1, 3, 448, 448]);
    let plain = forward("resnet50");
    let convs = |g: &Graph| macs_by_type(g)["conv2d"];
    assert_eq!(convs(&double), 4 * convs(&plain));
    // The batch of a shape is the batch.
    assert_eq!(
        count(&with_shape("vgg16", "image", &[2, 3, 224, 224])).macs,
        2 * count(&forward("vgg16")).macs
    );
    // 24 x 24 patches and the class token.
    let vit = with_shape("vit_b_16", "image", &[1, 3, 384, 384]);
    assert_eq!(count(&vit).parameters, 86_567_656 + 768 * (577 - 197));
    let unet = with_shape("sd15-unet", "sample", &[1, 4, 96, 96]);
    assert_eq!(count(&unet).parameters, 859_520_964);
    // A size that the pooling does not divide.
    assert_eq!(
        count(&with_shape("alexnet", "image", &[1, 3, 384, 384])).parameters,
        61_100_840
    );
}

#[test]
fn what_cannot_be_built_is_refused_with_a_remedy() {
    let shape = |input: &str, s: &[u64]| Request {
        shapes: vec![(input.into(), s.to_vec())],
        ..Request::default()
    };
    let cases = [
        (
            "resnet50",
            Request {
                pass: Pass::Prefill { prompt: 8 },
                ..Request::default()
            },
            "language model",
        ),
        ("resnet5", Request::default(), "`resnet50`"),
        ("resnet50", shape("x", &[1, 3, 224, 224]), "`image`"),
        ("resnet50", shape("image", &[3, 224, 224]), "4 extents"),
        ("resnet50", shape("image", &[1, 1, 224, 224]), "3 channels"),
        (
            "resnet50",
            Request {
                batch: 3,
                ..shape("image", &[2, 3, 224, 224])
            },
            "batch 2",
        ),
        (
            "resnet50",
            Request {
                batch: 0,
                ..Request::default()
            },
            "at least 1",
        ),
        ("alexnet", shape("image", &[1, 3, 32, 32]), "larger than"),
        (
            "vit_b_16",
            shape("image", &[1, 3, 225, 224]),
            "multiples of 16",
        ),
        ("bert-base", shape("input_ids", &[1, 513]), "at most 512"),
        (
            "sd15-unet",
            shape("sample", &[1, 4, 63, 64]),
            "multiples of 8",
        ),
        (
            "sd15-unet",
            shape("encoder_hidden_states", &[1, 77, 1024]),
            "width of 768",
        ),
    ];
    for (name, request, expected) in cases {
        let message = build(name, &request)
            .map(|g| g.name)
            .unwrap_err()
            .to_string();
        assert!(message.contains(expected), "{name}: {message}");
    }
}

/// Sizes that overflow are errors.
#[test]
fn huge_sizes_are_errors() {
    for name in names() {
        for batch in [1 << 40, u64::MAX / 2, u64::MAX] {
            assert!(
                build(
                    name,
                    &Request {
                        batch,
                        ..Request::default()
                    }
                )
                .is_err(),
                "{name} {batch}"
            );
        }
    }
    for size in [1 << 31, 1 << 33, 1 << 62, u64::MAX - 15] {
        let request = Request {
            shapes: vec![("image".into(), vec![1, 3, size, size])],
            ..Request::default()
        };
        for name in ["resnet18", "vit_b_16", "alexnet", "squeezenet1_0"] {
            assert!(build(name, &request).is_err(), "{name} {size}");
        }
    }
}
