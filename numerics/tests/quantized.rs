//! Quantized kernels against LiteRT: every one-op model under three resolvers, and a whole network.

use std::collections::BTreeMap;

use presil_numerics::quantized::sigmoid::{Function, Sigmoid};
use serde_json::Value;

use crate::quantized_run::{Op, Runtime, Tensor, integers};
use crate::reference;

/// Cases, elements, elements that differ.
type Row = [usize; 3];

/// All cases of both files by op, computed as one runtime and compared with what that runtime gave.
fn compare(runtime: Runtime) -> BTreeMap<String, Row> {
    let mut table: BTreeMap<String, Row> = BTreeMap::new();
    for (file, count) in [("quantized.json", 80), ("quantized_random.json", 148)] {
        let cases: Vec<Value> = serde_json::from_str(&reference(file)).unwrap();
        assert_eq!(cases.len(), count);
        for case in &cases {
            let row = table
                .entry(case["op"].as_str().unwrap().into())
                .or_default();
            row[0] += 1;
            for run in case["runs"].as_array().unwrap() {
                let (got, expected) = outputs(case, run, runtime);
                assert_eq!(got.len(), expected.len(), "{}", case["id"]);
                row[1] += got.len();
                row[2] += got.iter().zip(&expected).filter(|(a, b)| a != b).count();
            }
        }
    }
    table
}

/// What a run of a case gives here, and what the runtime gave.
fn outputs(case: &Value, run: &Value, runtime: Runtime) -> (Vec<i64>, Vec<i64>) {
    let list = |key: &str| -> Vec<usize> {
        let list = case[key].as_array().unwrap().iter();
        list.filter_map(|i| Some(i.as_u64()? as usize)).collect()
    };
    let mut tensors = tensors(case);
    let inputs = run["inputs"].as_array().unwrap();
    for (given, data) in list("given").into_iter().zip(inputs) {
        let dtype = tensors[given].dtype.clone();
        tensors[given].data = integers(data.as_str().unwrap(), &dtype);
    }
    let output = &tensors[list("outputs")[0]];
    let op = Op {
        name: case["op"].as_str().unwrap(),
        options: &case["options"],
        inputs: list("inputs").into_iter().map(|i| &tensors[i]).collect(),
        output,
        runtime,
    };
    let mut expected = integers(run["output"].as_str().unwrap(), &output.dtype);
    let other = match runtime {
        Runtime::Reference => &Value::Null,
        Runtime::Xnnpack => &run["auto"],
        Runtime::Optimized => &run["builtin"],
    };
    for pair in other.as_array().into_iter().flatten() {
        expected[pair[0].as_u64().unwrap() as usize] = pair[1].as_i64().unwrap();
    }
    (op.run(), expected)
}

fn tensors(case: &Value) -> Vec<Tensor> {
    let list = case["tensors"].as_array().unwrap();
    list.iter().map(Tensor::read).collect()
}

#[test]
fn every_case_of_the_reference_resolver_is_equal() {
    let table = compare(Runtime::Reference);
    assert_eq!(table.len(), 35);
    assert_eq!(table.values().map(|row| row[0]).sum::<usize>(), 228);
    for (op, [cases, elements, wrong]) in table {
        assert_eq!(wrong, 0, "{op}: {cases} cases, {elements} elements");
    }
}

/// What the default resolver gives is XNNPACK's where it takes the op, else the optimized kernels'.
#[test]
fn every_case_of_the_default_resolver_is_equal() {
    for (op, [cases, elements, wrong]) in compare(Runtime::Xnnpack) {
        assert_eq!(wrong, 0, "{op}: {cases} cases, {elements} elements");
    }
}

/// Of the optimized kernels, those whose recipe is known.
#[test]
fn products_of_the_optimized_kernels_are_equal() {
    let table = compare(Runtime::Optimized);
    for op in [
        "conv2d",
        "fully_connected",
        "fully_connected_biasonly_requant",
        "fully_connected_per_channel",
        "batch_matmul",
        "logistic_int16",
        "tanh_int16",
    ] {
        assert_eq!(table[op][2], 0, "{op}");
    }
}

/// The same int16 functions on all codes: FNV-1a of the outputs' bytes.
#[test]
fn int16_functions_are_equal_on_every_code() {
    let hashes: Value = serde_json::from_str(&reference("quantized_int16.json")).unwrap();
    let scale = 2f32.powi(-12);
    for (name, function) in [("logistic", Function::Logistic), ("tanh", Function::Tanh)] {
        let fixed_point = Sigmoid::fixed_point(function, scale).unwrap();
        let interpolated = Sigmoid::interpolated(function, scale);
        for (resolver, op) in [("reference", interpolated), ("builtin", fixed_point)] {
            let bytes = (i16::MIN..=i16::MAX).flat_map(|x| op.code(x).to_le_bytes());
            let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
            });
            let expected = hashes[name][resolver].as_str().unwrap();
            assert_eq!(format!("{hash:016x}"), expected, "{name} {resolver}");
        }
    }
}

/// Every layer's output of two images, and the logits of all.
#[test]
fn the_digits_network_is_equal() {
    let network: Value = serde_json::from_str(&reference("quantized_digits.json")).unwrap();
    let images = integers(network["images"].as_str().unwrap(), "int8");
    for (runtime, logits) in [
        (Runtime::Reference, "reference"),
        (Runtime::Xnnpack, "auto"),
    ] {
        let tensors = inference(&network, &images, runtime);
        let logits = integers(network["logits"][logits].as_str().unwrap(), "int8");
        let result = &tensors[network["result"].as_u64().unwrap() as usize];
        assert_eq!(logits.len(), 4780);
        assert_eq!(result.data, logits);
        if runtime == Runtime::Reference {
            let mut checked = 0;
            for (i, taps) in network["taps"].as_array().unwrap().iter().enumerate() {
                for (name, tap) in taps.as_object().unwrap() {
                    let tap = integers(tap.as_str().unwrap(), "int8");
                    let tensor = tensors.iter().find(|t| &t.name == name).unwrap();
                    assert_eq!(tensor.data[i * tap.len()..][..tap.len()], tap, "{name}");
                    checked += 1;
                }
            }
            assert_eq!(checked, 18);
        }
    }
}

/// All tensors of a network, of all images at once.
fn inference(network: &Value, images: &[i64], runtime: Runtime) -> Vec<Tensor> {
    let mut tensors = tensors(network);
    let given = network["given"].as_u64().unwrap() as usize;
    let count = images.len() / tensors[given].shape.iter().product::<usize>();
    for tensor in &mut tensors {
        if tensor.data.is_empty() {
            tensor.shape[0] = count;
        }
    }
    tensors[given].data = images.to_vec();
    for op in network["ops"].as_array().unwrap() {
        let list = |key: &str| op[key].as_array().unwrap().iter();
        let at = |i: &Value| i.as_u64().unwrap() as usize;
        let output = at(list("outputs").next().unwrap());
        let op = Op {
            name: op["op"].as_str().unwrap(),
            options: &op["options"],
            inputs: list("inputs").map(|i| &tensors[at(i)]).collect(),
            output: &tensors[output],
            runtime,
        };
        let data = op.run();
        tensors[output].data = data;
    }
    tensors
}
