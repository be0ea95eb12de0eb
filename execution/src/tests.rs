//! Trained models against the results of the framework that they come from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use presil_numerics::arithmetic::summation::{Accumulator, Summation};
use presil_numerics::block::group::GroupInt;
use presil_numerics::block::scheme::Scheme;
use presil_numerics::{Conversion, Exact, Format, Overflow};
use presil_workloads::{Graph, file};
use safetensors::{Dtype, SafeTensors};

use crate::evaluate::{Metric, Task};
use crate::executor::order;
use crate::growth::Process;
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
    eval: BTreeMap<String, Array>,
    taps: BTreeMap<String, Array>,
    meta: serde_json::Value,
}

fn case(model: &str) -> Case {
    let at = folder(model);
    let meta = std::fs::read_to_string(at.join("meta.json")).unwrap();
    Case {
        graph: file::read(&at.join("graph.toml")).unwrap(),
        weights: arrays(&at.join("weights.safetensors")),
        eval: arrays(&at.join("eval.safetensors")),
        taps: arrays(&at.join("activations.safetensors")),
        meta: serde_json::from_str(&meta).unwrap(),
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
fn a_language_model_gives_its_frameworks_activations() {
    let c = case("char-llama");
    // Its activations are of 48 tokens; what follows a token changes nothing before it.
    let reference = Arithmetic::reference();
    let executor = Executor::new(&c.graph, &c.weights, |_| &reference).unwrap();
    let mut ids = c.taps["input_ids"].values().to_vec();
    ids.resize(128, 0.0);
    let inputs = [("ids".to_string(), Array::new(vec![1, 128], ids).unwrap())];
    let made = all_tensors(&executor, &inputs.into());
    let rows = [
        ("embed", "embed", 0, 128),
        ("blocks.0.n1", "L0.norm1", 0, 128),
        ("blocks.0.attn", "L0.attn_ctx", 0, 128),
        ("blocks.0.resid1", "L0.resid1", 0, 128),
        ("blocks.0.swiglu", "L0.swiglu", 0, 384),
        ("blocks.0.resid2", "L0.resid2", 0, 128),
        ("blocks.0.resid2", "L3.resid2", 3, 128),
        ("norm", "final_norm", 0, 128),
        ("logits", "logits", 0, 94),
    ];
    for (ours, taps, layer, width) in rows {
        let given = &made[&(ours.to_string(), layer)].values()[..48 * width];
        near(taps, c.taps[taps].values(), given);
    }
    // The framework has heads before tokens.
    for (ours, taps, heads) in [
        ("blocks.0.q_rope", "L0.q_rope", 4),
        ("blocks.0.k_rope", "L0.k_rope", 2),
    ] {
        let given = &made[&(ours.to_string(), 0)];
        let at = |h: usize, t: usize, d: usize| given.values()[(t * heads + h) * 32 + d];
        let given: Vec<f32> = (0..heads)
            .flat_map(|h| (0..48).flat_map(move |t| (0..32).map(move |d| at(h, t, d))))
            .collect();
        near(taps, c.taps[taps].values(), &given);
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

/// The arithmetic of f32 with weights in a format.
fn weight_only(format: &str) -> Arithmetic {
    Arithmetic {
        weights: Storage::named(format).unwrap(),
        ..Arithmetic::reference()
    }
}

/// Names of formats in the models' files, and what presil calls them.
const FORMATS: [(&str, &str); 17] = [
    ("f32", "fp32"),
    ("bf16", "bf16"),
    ("fp16", "fp16"),
    ("int8_per_channel_sym", "int8_pc"),
    ("int4_g128_sym", "int4_g128"),
    ("int4_g128_asym", "uint4_g128"),
    ("int4_g32_sym", "int4_g32"),
    ("nf4_b64", "nf4"),
    ("mxfp4", "mxfp4"),
    ("mxfp6_e2m3", "mxfp6_e2m3"),
    ("mxfp8_e4m3", "mxfp8_e4m3"),
    ("mxfp8_e5m2", "mxfp8_e5m2"),
    ("mxint8", "mxint8"),
    ("nvfp4", "nvfp4"),
    ("q8_0", "q8_0"),
    ("q4_0", "q4_0"),
    ("fp8_e4m3_per_tensor", "fp8_e4m3fn"),
];

/// The metric under weights of each format, against the framework's.
#[track_caller]
fn weight_only_metrics(model: &str, task: &Task, loss: &str, formats: impl Fn(&str) -> bool) {
    let c = case(model);
    for (theirs, ours) in FORMATS.into_iter().filter(|(name, _)| formats(name)) {
        let mut arithmetic = weight_only(ours);
        // The models' groups have f32 scales.
        if let Storage::Scheme(scheme) = &mut arithmetic.weights
            && let Scheme::Group { group, size, .. } = scheme.as_mut()
        {
            let format = ours.split('_').next().unwrap().parse().unwrap();
            let asymmetric = ours.starts_with('u');
            *group = GroupInt::new(
                format,
                *size,
                Format::FP32,
                asymmetric,
                Conversion::default(),
            )
            .unwrap();
        }
        let executor = Executor::new(&c.graph, &c.weights, |_| &arithmetic).unwrap();
        let score = task.evaluate(&executor).unwrap().unwrap();
        let expected = &c.meta["metrics_weight_only"][theirs];
        let expected_loss = expected[loss].as_f64().unwrap();
        assert!(
            (score.loss() / expected_loss - 1.0).abs() < 1e-4,
            "{model} {theirs}: {} {expected_loss}",
            score.loss()
        );
        let share = expected["accuracy"].as_f64().or(expected["top1"].as_f64());
        if let Some(share) = share {
            assert_eq!(
                score.correct,
                (share * score.count as f64).round() as u64,
                "{model} {theirs}"
            );
        }
    }
}

fn task(c: &Case, inputs: &[(&str, &str)], metric: Metric, output: &str, target: &str) -> Task {
    let inputs = inputs
        .iter()
        .map(|(ours, theirs)| (ours.to_string(), c.eval[*theirs].clone()));
    Task {
        inputs: inputs.collect(),
        metric: Some((metric, output.into(), c.eval[target].clone())),
    }
}

#[test]
fn weights_in_any_format_give_the_frameworks_metric() {
    let c = case("digits-cnn");
    let classes = task(
        &c,
        &[("input", "input")],
        Metric::Classes,
        "logits",
        "label",
    );
    weight_only_metrics("digits-cnn", &classes, "mean_ce", |_| true);
    let c = case("cifg-kws");
    let classes = task(
        &c,
        &[("input", "input")],
        Metric::Classes,
        "logits",
        "label",
    );
    let some = ["int4_g32_sym", "mxfp8_e5m2", "q4_0"];
    weight_only_metrics("cifg-kws", &classes, "mean_ce", |f| some.contains(&f));
    let c = case("digits-dit");
    let inputs = [("x", "vel_x"), ("t", "vel_t"), ("y", "vel_y")];
    let velocity = task(&c, &inputs, Metric::Mse, "velocity", "vel_target");
    weight_only_metrics("digits-dit", &velocity, "velocity_mse_vs_target", |_| true);
}

#[test]
fn a_language_models_perplexity_is_the_frameworks() {
    let c = case("char-llama");
    // 129 tokens: 128 are read, and the one behind each is told.
    let mut tokens = task(&c, &[("ids", "ids")], Metric::NextToken, "logits", "ids");
    let read = c.eval["ids"]
        .values()
        .chunks(129)
        .flat_map(|s| &s[..128])
        .copied()
        .collect();
    tokens
        .inputs
        .insert("ids".into(), Array::new(vec![64, 128], read).unwrap());
    let some = ["f32", "int4_g128_asym", "mxfp4", "nvfp4"];
    weight_only_metrics("char-llama", &tokens, "nll_nats_per_char", |f| {
        some.contains(&f)
    });
}

/// A narrow accumulator in some order of products, all of a network's sums against the scalar routine.
#[test]
fn sums_in_any_order_are_those_of_the_scalar_routine() {
    let c = case("digits-cnn");
    let task = task(
        &c,
        &[("input", "input")],
        Metric::Classes,
        "logits",
        "label",
    );
    let inputs = [("input".to_string(), one(&task.inputs["input"], 3))].into();
    let (conv4, _) = c
        .graph
        .ops
        .iter_ids()
        .find(|(_, op)| op.name == "conv4")
        .unwrap();
    // 288 products of conv4: taps outside channels, in trees of four on two accumulators; the last places stand empty.
    let taps_first = (0..296u32).map(|i| {
        if i < 288 {
            i % 32 * 9 + i / 32
        } else {
            u32::MAX
        }
    });
    let orders: [(Vec<u32>, usize, usize); 3] = [
        ((0..288).collect(), 1, 1),
        ((0..288).rev().collect(), 1, 1),
        (taps_first.collect(), 4, 2),
    ];
    let mut results = Vec::new();
    for (places, tree, lanes) in orders {
        let register = Accumulator::int(16, Overflow::Saturate);
        let summation = Summation {
            tree,
            tree_adder: Some(register),
            lanes,
            ..Summation::sequential(register)
        };
        let narrow = Arithmetic {
            weights: Storage::named("int8_pc").unwrap(),
            activations: Storage::named("int8").unwrap(),
            order: Some(places.clone().into()),
            adder: Adder::ordered(&summation).unwrap(),
            ..Arithmetic::reference()
        };
        let reference = Arithmetic::reference();
        let own = |op: &presil_workloads::Op| {
            if op.name == "conv4" {
                &narrow
            } else {
                &reference
            }
        };
        let executor = Executor::new(&c.graph, &c.weights, own).unwrap();
        let state = executor.run(&inputs).unwrap();
        let out = state.tensor(c.graph.ops[conv4].outputs[0]).unwrap();
        let vectors = executor
            .vectors(&inputs, conv4, usize::MAX)
            .unwrap()
            .unwrap();
        assert_eq!(vectors.vectors.len(), out.values().len());
        let summer = summation.summer().unwrap();
        for v in &vectors.vectors {
            let exact = |x: &[f32]| x.iter().map(|x| Exact::from(*x)).collect::<Vec<_>>();
            let sum = summer
                .dot(&exact(&v.a), &exact(&v.b), Exact::from(v.start))
                .value
                .to_f64();
            assert_eq!(sum, v.sum);
        }
        // Within a channel all outputs have one scale: their ratios are those of the sums.
        let channel: Vec<&vectors::Vector> = vectors
            .vectors
            .iter()
            .filter(|v| v.place / 16 == 5)
            .collect();
        let of = |v: &vectors::Vector| (out.values()[v.place] as f64, v.sum);
        let (unit, sum) = channel.iter().map(|v| of(v)).find(|p| p.1 != 0.0).unwrap();
        for v in channel {
            let (x, s) = of(v);
            assert!((x - s * unit / sum).abs() <= x.abs() * 1e-6, "{x} {s}");
        }
        results.push(out.values().to_vec());
    }
    // Saturation depends on the order.
    assert_ne!(results[0], results[1]);
    assert_ne!(results[0], results[2]);
}

#[test]
fn a_samplers_error_is_the_frameworks() {
    let c = case("digits-dit");
    let euler = Process::Euler {
        steps: 20,
        state: "x".into(),
        time: Some("t".into()),
        update: "velocity".into(),
    };
    let inputs: BTreeMap<String, Array> = [("x", "noise"), ("y", "sample_label")]
        .map(|(ours, theirs)| (ours.to_string(), c.eval[theirs].clone()))
        .into();
    let reference = Arithmetic::reference();
    let exact = Executor::new(&c.graph, &c.weights, |_| &reference).unwrap();
    let arithmetic = weight_only("mxfp6_e2m3");
    let executor = Executor::new(&c.graph, &c.weights, |_| &arithmetic).unwrap();
    let grown = euler.run(&exact, &executor, &inputs).unwrap();
    let expected = c.meta["metrics_weight_only"]["mxfp6_e2m3"]["sample_mse_vs_f32"]
        .as_f64()
        .unwrap();
    let mse = grown.steps[19].errors.mse();
    assert!((mse / expected - 1.0).abs() < 2e-3, "{mse} {expected}");
    // Errors grow with the steps.
    assert!(grown.steps[0].errors.mse() < mse);
    let samples: Vec<f32> = grown
        .ends
        .iter()
        .flat_map(|e| e[0].values().to_vec())
        .collect();
    near("samples", c.eval["f32_samples"].values(), &samples);
}

#[test]
fn a_decoder_makes_the_frameworks_tokens() {
    let c = case("char-llama");
    let greedy = Process::Greedy {
        prompt: 32,
        tokens: 48,
        state: "ids".into(),
        logits: "logits".into(),
    };
    let ids = &c.eval["greedy_ids"];
    let inputs = [("ids".to_string(), ids.clone())].into();
    let reference = Arithmetic::reference();
    let exact = Executor::new(&c.graph, &c.weights, |_| &reference).unwrap();
    let coarse = weight_only("q4_0");
    let coarse = Executor::new(&c.graph, &c.weights, |_| &coarse).unwrap();
    let grown = greedy.run(&exact, &coarse, &inputs).unwrap();
    for (sample, ends) in grown.ends.iter().enumerate() {
        assert_eq!(ends[0].values()[..80], *one(ids, sample).values());
    }
    assert!(grown.steps[0].alike >= grown.steps[47].alike);
    assert!(grown.steps[47].alike < 4, "4-bit weights change no token");
}

#[test]
fn what_would_lose_numbers_is_refused() {
    // Unsigned integers by themselves have no zero point.
    assert!(Storage::named("uint8").is_err());
    assert!(Storage::named("uint4_g128").is_ok());
    let c = case("char-llama");
    let reference = Arithmetic::reference();
    let exact = Executor::new(&c.graph, &c.weights, |_| &reference).unwrap();
    let inputs = [("ids".to_string(), c.eval["greedy_ids"].clone())].into();
    for (prompt, tokens) in [(100, 29), (0, 4)] {
        let greedy = Process::Greedy {
            prompt,
            tokens,
            state: "ids".into(),
            logits: "logits".into(),
        };
        let refused = greedy.run(&exact, &exact, &inputs).err();
        assert!(
            matches!(
                refused,
                Some(crate::evaluate::TaskError::Window { window: 128, .. })
            ),
            "{refused:?}"
        );
    }
}

/// A weight's channels are what they are, wherever its layout has them: [n, k] and [k, n], and in four ranks.
#[test]
fn scales_and_blocks_follow_output_channels_in_any_layout() {
    let graph = |weight: &str, einsum: &str| {
        let text = format!(
            "name = \"g\"\nformat = \"fp32\"\n[[tensor]]\nname = \"X\"\nshape = [5, 64]\nrole = \"input\"\n[[tensor]]\nname = \"W\"\nshape = {weight}\nrole = \"weight\"\n[[op]]\neinsum = \"{einsum}\"\n"
        );
        file::parse("g", &text).unwrap()
    };
    let number = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 300.0 - 1.7;
    let at = |n: usize, k: usize| number(n * 64 + k) * (1 << n) as f32;
    let rows: Vec<f32> = (0..6)
        .flat_map(|n| (0..64).map(move |k| at(n, k)))
        .collect();
    let columns: Vec<f32> = (0..64)
        .flat_map(|k| (0..6).map(move |n| at(n, k)))
        .collect();
    // [k / 8, n, 8]: the channel is the middle rank.
    let middle: Vec<f32> = (0..8)
        .flat_map(|o| (0..6).flat_map(move |n| (0..8).map(move |i| at(n, o * 8 + i))))
        .collect();
    let layouts = [
        (
            graph("[6, 64]", "O[m,n] += X[m,k] * W[n,k]"),
            rows,
            vec![6, 64],
        ),
        (
            graph("[64, 6]", "O[m,n] += X[m,k] * W[k,n]"),
            columns,
            vec![64, 6],
        ),
        (
            graph("[8, 6, 8]", "O[m,n] += X[m,8o+i] * W[o,n,i]"),
            middle,
            vec![8, 6, 8],
        ),
    ];
    let x: Vec<f32> = (0..320).map(|i| number(i * 3 + 1)).collect();
    let inputs: BTreeMap<String, Array> =
        [("X".to_string(), Array::new(vec![5, 64], x).unwrap())].into();
    for (weights, activations) in [
        ("int8_pc", "int8"),
        ("int8_pc", "fp32"),
        ("mxfp4", "fp32"),
        ("int4_g32", "bf16"),
        ("int4_pc", "int8"),
    ] {
        let arithmetic = Arithmetic {
            weights: Storage::named(weights).unwrap(),
            activations: Storage::named(activations).unwrap(),
            ..Arithmetic::reference()
        };
        let mut first: Option<Vec<f32>> = None;
        for (graph, w, shape) in &layouts {
            let stored: Weights = [(
                "W".to_string(),
                Array::new(shape.clone(), w.clone()).unwrap(),
            )]
            .into();
            let executor = Executor::new(graph, &stored, |_| &arithmetic).unwrap();
            let state = executor.run(&inputs).unwrap();
            let out = state
                .tensor(graph.ops.iter().next().unwrap().outputs[0])
                .unwrap();
            match &first {
                None => first = Some(out.values().to_vec()),
                Some(first) => assert_eq!(out.values(), first, "{weights} {shape:?}"),
            }
        }
    }
}
