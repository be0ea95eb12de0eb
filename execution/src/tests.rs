//! Trained models against the results of the framework that they come from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use presil_workloads::{Graph, file};
use safetensors::{Dtype, SafeTensors};

use crate::executor::order;
use crate::*;

fn folder(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data/models")
        .join(model)
}

pub(crate) fn arrays(path: &Path) -> BTreeMap<String, Array> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let read = file.tensors().into_iter().map(|(name, view)| {
        let values = match view.dtype() {
            Dtype::F32 => view
                .data()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
            Dtype::I64 => view
                .data()
                .as_chunks::<8>()
                .0
                .iter()
                .map(|b| i64::from_le_bytes(*b) as f32)
                .collect(),
            Dtype::I8 => view.data().iter().map(|b| f32::from(*b as i8)).collect(),
            other => panic!("{other:?}"),
        };
        (name, Array::new(view.shape().to_vec(), values).unwrap())
    });
    read.collect()
}

struct Case {
    graph: Graph,
    weights: Weights,
    taps: BTreeMap<String, Array>,
}

fn case(model: &str) -> Case {
    let at = folder(model);
    Case {
        graph: file::read(&at.join("graph.toml")).unwrap(),
        weights: arrays(&at.join("weights.safetensors")),
        taps: arrays(&at.join("activations.safetensors")),
    }
}

/// The tensors that inputs make, each as it is after every repetition of its op.
fn all_tensors(
    executor: &Executor,
    inputs: &BTreeMap<String, Array>,
) -> BTreeMap<(String, usize), Array> {
    let mut state = executor.start(inputs).unwrap();
    let mut made = BTreeMap::new();
    for (op, repetition) in order(executor.graph) {
        executor.step(&mut state, op, repetition).unwrap();
        let out = executor.graph.ops[op].outputs[0];
        let name = executor.graph.tensors[out].name.clone();
        made.insert((name, repetition), state.tensor(out).unwrap().clone());
    }
    made
}

#[track_caller]
fn near(name: &str, expected: &[f32], given: &[f32]) {
    assert_eq!(expected.len(), given.len(), "{name}");
    let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    for (x, y) in expected.iter().zip(given) {
        assert!(
            (x - y).abs() <= 1e-4 * largest,
            "{name}: {x} {y} of {largest}"
        );
    }
}

fn one(x: &Array, sample: usize) -> Array {
    x.outer(sample, 1).unwrap()
}

#[test]
fn a_convolutional_network_gives_its_frameworks_activations() {
    let c = case("digits-cnn");
    let reference = Arithmetic::reference();
    let executor = Executor::new(&c.graph, &c.weights, |_| &reference).unwrap();
    for sample in 0..4 {
        let inputs = [("input".to_string(), one(&c.taps["input"], sample))].into();
        let made = all_tensors(&executor, &inputs);
        let names = [
            "conv1_relu",
            "dw2_relu6",
            "pw3_relu6",
            "conv4_relu",
            "conv5_add_relu",
            "gap",
            "logits",
        ];
        for name in names {
            near(
                name,
                one(&c.taps[name], sample).values(),
                made[&(name.to_string(), 0)].values(),
            );
        }
    }
}

#[test]
fn a_recurrent_network_gives_its_frameworks_activations() {
    let c = case("cifg-kws");
    let reference = Arithmetic::reference();
    let executor = Executor::new(&c.graph, &c.weights, |_| &reference).unwrap();
    for sample in 0..3 {
        let inputs = [("input".to_string(), one(&c.taps["input"], sample))].into();
        let made = all_tensors(&executor, &inputs);
        for (name, taps) in [("h_next", "h_seq"), ("c_next", "c_seq")] {
            let taps = one(&c.taps[taps], sample);
            for step in 0..40 {
                let expected = &taps.values()[step * 64..(step + 1) * 64];
                near(name, expected, made[&(name.to_string(), step)].values());
            }
        }
        near(
            "logits",
            one(&c.taps["logits"], sample).values(),
            made[&("logits".to_string(), 0)].values(),
        );
    }
}

#[test]
fn a_diffusion_transformer_gives_its_frameworks_activations() {
    let c = case("digits-dit");
    let reference = Arithmetic::reference();
    let executor = Executor::new(&c.graph, &c.weights, |_| &reference).unwrap();
    for sample in 0..2 {
        let inputs = ["x", "t", "y"].map(|n| (n.to_string(), one(&c.taps[n], sample)));
        let made = all_tensors(&executor, &inputs.into());
        for name in ["patch_embed", "cond", "velocity"] {
            near(
                name,
                one(&c.taps[name], sample).values(),
                made[&(name.to_string(), 0)].values(),
            );
        }
        let layers = [
            ("ada", "ada"),
            ("mod1", "mod1"),
            ("attn.softmax", "attn_probs"),
            ("attn", "attn_ctx"),
            ("resid1", "resid1"),
            ("gelu", "gelu"),
            ("resid2", "resid2"),
        ];
        for (layer, (ours, taps)) in (0..4).flat_map(|l| layers.map(|n| (l, n))) {
            let expected = one(&c.taps[&format!("L{layer}.{taps}")], sample);
            near(
                taps,
                expected.values(),
                made[&(format!("blocks.0.{ours}"), layer)].values(),
            );
        }
    }
}
