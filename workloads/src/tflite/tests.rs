//! The importer against files that TensorFlow Lite's own converter made, and against damaged ones.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::count::count;
use crate::op::OpKind;
use crate::tensor::Role;
use presil_numerics::Format;

fn data(folder: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data")).join(folder)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(data("tflite").join(name)).unwrap()
}

fn load(name: &str) -> Graph {
    import(&data("tflite").join(name), &Request::default()).unwrap()
}

/// Everything that the folders hold.
fn files() -> Vec<PathBuf> {
    let mut all = Vec::new();
    for folder in ["tflite", "vela/tflite"] {
        for entry in std::fs::read_dir(data(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "tflite") {
                all.push(path);
            }
        }
    }
    all.sort();
    all
}

#[test]
fn macs_and_parameters_are_those_of_the_networks() {
    // MACs: what Vela counts for convolutions and linears; parameters: elements of the constants that ops read.
    let expected = BTreeMap::from([
        ("ae_mlp_toyadmos", (264_192, 264_192)),
        ("conv1x1_14x14x512_512", (51_380_224, 262_656)),
        ("conv1x1_56x56x64_64", (12_845_056, 4_160)),
        ("conv3x3_56x56x64_64", (115_605_504, 36_928)),
        ("ds_cnn_kws", (2_656_768, 22_592)),
        ("dw3x3_112x112x32", (3_612_672, 320)),
        ("lstm_28x28_20_unrolled", (106_120, 4_200)),
        ("mobilenet_v1_a0.25_96", (7_489_664, 210_850)),
    ]);
    for (name, (macs, parameters)) in expected {
        let path = data("vela/tflite").join(format!("{name}.tflite"));
        let graph = import(&path, &Request::default()).unwrap();
        let counted = count(&graph);
        assert_eq!(
            (counted.macs, counted.parameters),
            (macs, parameters),
            "{name}"
        );
    }
}

#[test]
fn every_file_imports_with_formats_of_its_own() {
    let files = files();
    assert!(files.len() > 30);
    for path in files {
        let graph = import(&path, &Request::default());
        let graph = graph.unwrap_or_else(|e| panic!("{e}"));
        let ints = graph.tensors.iter().all(|t| {
            matches!(
                t.quantization.format,
                Format::Int {
                    bits: 8 | 16 | 32 | 64,
                    ..
                }
            )
        });
        assert!(ints, "{}", path.display());
        let outputs = graph.tensors.iter().filter(|t| t.role == Role::Output);
        assert_eq!(outputs.count(), 1, "{}", path.display());
    }
}

#[test]
fn a_small_network_is_what_its_definition_says() {
    // 3x3 1->16, depthwise 3x3, 1x1 16->32, 3x3/2 32->32, 3x3 32->32 and its sum with the one before, mean, 32->10.
    let graph = load("digits_cnn_a.tflite");
    let macs = 64 * 9 * 16 + 64 * 9 * 16 + 64 * 16 * 32 + 16 * 9 * 32 * 32 * 2 + 320;
    assert_eq!(count(&graph).macs, macs);
    let ops: Vec<&str> = graph.ops.iter().map(|o| o.class.name()).collect();
    let relu = "activation";
    let first = [
        "conv",
        relu,
        "conv",
        relu,
        "conv",
        relu,
        "conv",
        relu,
        "conv",
        "elementwise",
        relu,
        "pool",
        "linear",
    ];
    let kept: Vec<&str> = ops.into_iter().filter(|o| *o != "move").collect();
    assert_eq!(kept, first);
}

#[test]
fn recurrent_layers_run_their_state_step_by_step() {
    for (name, gates) in [("lstm_int8_01.tflite", 4), ("lstm_cifg_int8_01.tflite", 3)] {
        let graph = load(name);
        let input = graph
            .tensors
            .iter()
            .find(|t| t.role == Role::Input)
            .unwrap();
        let output = graph
            .tensors
            .iter()
            .find(|t| t.role == Role::Output)
            .unwrap();
        let (rows, features) = (input.shape[0] * input.shape[1], input.shape[2]);
        let width = output.shape[2];
        let expected = gates * rows * width * (features + width);
        assert_eq!(count(&graph).macs, u128::from(expected), "{name}");
        let stepped = graph.ops.iter().filter(|o| o.steps > 1).count() as u64;
        assert_eq!(stepped, gates + 1, "{name}");
    }
}

#[test]
fn sixteen_bit_and_transposed_operands_are_kept() {
    let graph = load("conv2d_int16x8_01.tflite");
    let conv = graph
        .ops
        .iter()
        .find(|o| o.contraction().is_some())
        .unwrap();
    let bits = |i: usize| graph.tensors[conv.inputs[i]].quantization.format.bits();
    assert_eq!((bits(0), bits(1)), (16, 8));
    for name in ["batch_matmul_01.tflite", "batch_matmul_03.tflite"] {
        let graph = load(name);
        let op = graph.ops.iter().next().unwrap();
        let e = op.contraction().unwrap();
        let out = &graph.tensors[op.outputs[0]];
        assert_eq!(e.output.extents.iter().product::<u64>(), out.elements());
    }
}

#[test]
fn shapes_and_batches_are_the_files() {
    let whole = bytes("conv2d_05.tflite");
    let wrong = |request: Request| import_bytes("m", &whole, &request).unwrap_err().to_string();
    let batch = wrong(Request {
        batch: 7,
        ..Request::default()
    });
    assert!(
        batch.contains("batch of a .tflite file is fixed"),
        "{batch}"
    );
    let shape = |name: &str| Request {
        shapes: vec![(name.into(), vec![1, 2, 3, 4])],
        ..Request::default()
    };
    let nobody = wrong(shape("nobody"));
    assert!(nobody.contains("no input; its inputs are `"), "{nobody}");
    let graph = load("conv2d_05.tflite");
    let input = graph
        .tensors
        .iter()
        .find(|t| t.role == Role::Input)
        .unwrap();
    let other = wrong(shape(&input.name));
    assert!(other.contains("its shape in the file is"), "{other}");
}

#[test]
fn an_operator_without_a_model_is_named_with_its_place() {
    // Of all files that differ in one byte, one has the operator LEAKY_RELU become UNIQUE (code 103).
    let whole = bytes("leaky_relu_01.tflite");
    let found = (0..whole.len()).find_map(|at| {
        let mut other = whole.clone();
        other[at] = 103;
        match import_bytes("m", &other, &Request::default()) {
            Err(TfliteError::Unknown { place }) if place.op == "UNIQUE" => Some((other, place)),
            _ => None,
        }
    });
    let (other, place) = found.unwrap();
    assert_eq!((place.index, place.makes.is_empty()), (0, false));
    let message = TfliteError::Unknown { place }.to_string();
    assert!(
        message.contains("operator 0 (UNIQUE) that makes `"),
        "{message}"
    );
    assert!(message.contains("--allow-unknown"), "{message}");
    let request = Request {
        allow_unknown: true,
        ..Request::default()
    };
    let graph = import_bytes("m", &other, &request).unwrap();
    let unknown = |o: &crate::Op| matches!(&o.kind, OpKind::Unknown { name } if name == "UNIQUE");
    assert!(graph.ops.iter().any(unknown));
}

#[test]
fn cut_files_are_errors() {
    let whole = bytes("conv2d_05.tflite");
    for end in 0..whole.len() {
        // The last bytes of a file may be padding.
        match import_bytes("m", &whole[..end], &Request::default()) {
            Ok(_) => assert!(end + 8 > whole.len(), "cut at {end}"),
            Err(e) => assert!(!e.to_string().is_empty()),
        }
    }
    let text = import_bytes("m", b"name = 'not a model'", &Request::default()).unwrap_err();
    assert!(text.to_string().contains("TFL3"), "{text}");
}

#[test]
fn distances_out_of_the_file_are_errors() {
    // Every aligned word becomes the largest number: sizes, offsets and codes alike.
    for name in [
        "conv2d_05.tflite",
        "lstm_int8_01.tflite",
        "softmax_01.tflite",
    ] {
        let whole = bytes(name);
        for at in (0..whole.len() - 4).step_by(4) {
            for word in [u32::MAX, i32::MAX as u32, 0x0100_0000] {
                let mut other = whole.clone();
                other[at..at + 4].copy_from_slice(&word.to_le_bytes());
                let start = Instant::now();
                let _ = import_bytes("m", &other, &Request::default());
                assert!(start.elapsed() < Duration::from_secs(1), "{name} at {at}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_files_never_panic(
        pick in 0usize..1000,
        changes in proptest::collection::vec((0usize..100_000, any::<u8>()), 1..12),
    ) {
        let small = [
            "add_01", "batch_matmul_01", "conv2d_05", "depthwise_conv2d_03", "fully_connected_03",
            "lstm_int8_01", "max_pool2d_01", "mean_hw_01", "softmax_01", "l2_normalization_01",
        ];
        let mut whole = bytes(&format!("{}.tflite", small[pick % small.len()]));
        for (at, value) in changes {
            let at = at % whole.len();
            whole[at] = value;
        }
        let start = Instant::now();
        let request = Request { allow_unknown: pick % 2 == 0, ..Request::default() };
        let _ = import_bytes("m", &whole, &request);
        prop_assert!(start.elapsed() < Duration::from_secs(1));
    }
}
