//! Quantized kernels against LiteRT: every one-op model, and a whole network.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::quantized_run::{Op, Runtime, Tensor, integers};
use crate::reference;

#[test]
fn explore() {
    let cases: Vec<Value> = serde_json::from_str(&reference("quantized.json")).unwrap();
    for runtime in [Runtime::LitertReference, Runtime::Xnnpack] {
        let mut table: BTreeMap<String, [usize; 5]> = BTreeMap::new();
        for case in &cases {
            let row = table.entry(case["op"].as_str().unwrap().into()).or_default();
            let mut wrong = [0; 3];
            let mut n = 0;
            for run in case["runs"].as_array().unwrap() {
                let (got, expected) = outputs(case, run, runtime);
                let with = |key: &str| {
                    let mut other = expected.clone();
                    for pair in run[key].as_array().unwrap() {
                        other[pair[0].as_u64().unwrap() as usize] = pair[1].as_i64().unwrap();
                    }
                    other
                };
                let differ = |e: &[i64]| got.iter().zip(e).filter(|(a, b)| a != b).count();
                n += got.len();
                wrong[0] += differ(&expected);
                wrong[1] += differ(&with("auto"));
                wrong[2] += differ(&with("builtin"));
            }
            row[0] += 1;
            row[1] += n;
            for i in 0..3 {
                row[2 + i] += wrong[i];
            }
            if wrong[0] > 0 && runtime == Runtime::LitertReference {
                println!("{} {wrong:?} of {n}", case["id"]);
            }
        }
        for (op, row) in table {
            println!("{op:34} {row:?}");
        }
        println!();
    }
}

/// What a run of a case gives here, and what the reference gave.
fn outputs(case: &Value, run: &Value, runtime: Runtime) -> (Vec<i64>, Vec<i64>) {
    let list = |key: &str| -> Vec<usize> {
        let list = case[key].as_array().unwrap().iter();
        list.filter_map(|i| Some(i.as_u64()? as usize)).collect()
    };
    let mut tensors: Vec<Tensor> = case["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .map(Tensor::read)
        .collect();
    for (given, data) in list("given").into_iter().zip(run["inputs"].as_array().unwrap()) {
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
    let expected = integers(run["output"].as_str().unwrap(), &output.dtype);
    (op.run(), expected)
}
