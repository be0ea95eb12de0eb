#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::count::{count, op_macs, tensor_repeats};
use crate::graph::Graph;
use crate::model::{Pass, Request, Routing};
use crate::op::OpClass;
use crate::tensor::Role;

fn data(file: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/workloads/");
    std::fs::read_to_string(format!("{path}{file}")).unwrap()
}

fn golden() -> Value {
    serde_json::from_str(&data("golden_llm.json")).unwrap()
}

fn config(name: &str) -> Config {
    named(name).unwrap().unwrap()
}

fn graph(name: &str, pass: Pass, batch: u64, absorb_mla: bool) -> Graph {
    build(
        &config(name),
        &Request {
            batch,
            pass,
            absorb_mla,
            ..Request::default()
        },
    )
    .unwrap()
}

fn prefill(name: &str, prompt: u64) -> Graph {
    graph(name, Pass::Prefill { prompt }, 1, false)
}

fn decode(name: &str, context: u64) -> Graph {
    graph(name, Pass::Decode { context }, 1, false)
}

/// Elements of all caches.
fn cached(graph: &Graph) -> u64 {
    let caches = graph
        .tensors
        .iter()
        .zip(tensor_repeats(graph))
        .filter(|(t, _)| t.role == Role::Cache);
    caches.map(|(t, repeat)| t.elements() * repeat).sum()
}

fn phases(model: &Value) -> Vec<(Pass, u64, &Value)> {
    let phases = model["phases"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, phase)| {
            let (context, batch) = (
                phase["context"].as_u64().unwrap(),
                phase["batch"].as_u64().unwrap(),
            );
            let pass = if name.starts_with("prefill") {
                Pass::Prefill { prompt: context }
            } else {
                Pass::Decode { context }
            };
            (pass, batch, phase)
        });
    phases.collect()
}

#[test]
fn counts_equal_the_traced_ones() {
    let golden = golden();
    let models = golden["models"].as_object().unwrap();
    assert_eq!(models.len(), 32);
    for (name, model) in models {
        for (pass, batch, phase) in phases(model) {
            let graph = graph(name, pass, batch, false);
            let counts = count(&graph);
            let what = format!("{name} {pass:?} batch {batch}");
            assert_eq!(
                counts.parameters,
                u128::from(model["params"].as_u64().unwrap()),
                "{what}"
            );
            assert_eq!(
                counts.macs,
                u128::from(phase["macs"].as_u64().unwrap()),
                "{what}"
            );
            let own = |class: &str| counts.macs_by_class.get(class).copied().unwrap_or(0);
            for (class, macs) in phase["macs_by_type"].as_object().unwrap() {
                let own = match class.as_str() {
                    // Where the trace saw plain batched matmuls, they are those of attention.
                    "batched_matmul" => own("attn_qk") + own("attn_pv"),
                    class => own(class),
                };
                assert_eq!(own, u128::from(macs.as_u64().unwrap()), "{what} {class}");
            }
            let (head, _) = graph
                .ops
                .iter_ids()
                .find(|(_, op)| op.name == "lm_head")
                .unwrap();
            assert_eq!(
                op_macs(&graph, head).0,
                u128::from(phase["lm_head_macs"].as_u64().unwrap()),
                "{what}"
            );
        }
    }
}

#[test]
fn caches_equal_the_traced_ones() {
    let golden = golden();
    let mut compared = 0;
    for (name, model) in golden["models"].as_object().unwrap() {
        let config = config(name);
        for (pass, batch, phase) in phases(model) {
            let Pass::Decode { context } = pass else {
                continue;
            };
            for absorb in [false, true] {
                let cached = cached(&graph(name, pass, batch, absorb));
                assert_eq!(
                    cached,
                    batch * config.kv_elements(context),
                    "{name} {context}"
                );
                let before = cached - batch * config.kv_elements_per_token();
                assert_eq!(
                    Some(before),
                    phase["kv_cache_elems_before_step"].as_u64(),
                    "{name} {context}"
                );
                let slides = config.layers().any(|l| l.keys(context) < context);
                for key in ["kv_bytes_fp16_closed_form", "mla_latent_kv_bytes_fp16"] {
                    if let Some(bytes) = phase[key].as_u64().filter(|_| !slides) {
                        assert_eq!(2 * cached, bytes, "{name} {context}");
                        compared += 1;
                    }
                }
            }
        }
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn absorbed_mla_equals_the_closed_form() {
    let golden = golden();
    let mut compared = 0;
    for (pass, batch, phase) in phases(&golden["models"]["deepseek-v2-lite"]) {
        if let Some(macs) = phase["mla_absorbed_total_macs"].as_u64() {
            let counts = count(&graph("deepseek-v2-lite", pass, batch, true));
            assert_eq!(counts.macs, u128::from(macs), "{pass:?}");
            assert_eq!(counts.parameters, 15_706_484_224);
            compared += 1;
        }
    }
    assert_eq!(compared, 4);
    // Prefill is expanded either way.
    let pass = Pass::Prefill { prompt: 512 };
    let [absorbed, expanded] =
        [true, false].map(|a| count(&graph("deepseek-v2-lite", pass, 1, a)).macs);
    assert_eq!(absorbed, expanded);
}

#[test]
fn layers_equal_the_traced_ones() {
    for (file, graph) in [
        ("prefill", prefill("llama3-8b", 512)),
        ("decode", decode("llama3-8b", 512)),
    ] {
        let text = data(&format!("layers/llama3-8b_{file}512.csv"));
        let mut rows = text.lines();
        let header: Vec<&str> = rows.next().unwrap().split(',').collect();
        let column = |name: &str| header.iter().position(|h| *h == name).unwrap();
        let want: Vec<(String, String, u64, u64)> = rows
            .map(|r| {
                let cells: Vec<&str> = r.split(',').collect();
                let number = |name: &str| cells[column(name)].parse().unwrap();
                (
                    cells[1].into(),
                    cells[2].into(),
                    number("macs"),
                    number("weight_elems"),
                )
            })
            .collect();
        let mut own = Vec::new();
        for block in &graph.blocks {
            for i in 0..block.repeat {
                for op in graph
                    .ops
                    .iter_ids()
                    .filter(|(id, op)| block.ops.contains(&id.0) && op.contraction().is_some())
                {
                    let (id, op) = op;
                    let weight = op
                        .inputs
                        .get(1)
                        .map(|t| &graph.tensors[*t])
                        .filter(|t| t.role == Role::Weight);
                    let name = op
                        .name
                        .replacen("layers.0", &format!("model.layers.{i}"), 1);
                    let name = name.replace(".scores", "").replace(".values", "");
                    let weights = weight.map_or(0, |w| w.elements());
                    own.push((
                        name,
                        op.class.name().to_string(),
                        op_macs(&graph, id).0 as u64,
                        weights,
                    ));
                }
            }
        }
        assert_eq!(own.len(), 289);
        assert_eq!(own, want, "{file}");
    }
}

#[test]
fn parameters_equal_the_published_ones() {
    // Totals of the released checkpoints (without multi-token-prediction layers).
    let published: [(&str, u128); 3] = [
        ("deepseek-v3", 671_026_404_352),
        ("qwen3-235b-a22b", 235_093_634_560),
        ("qwen3-next-80b-a3b", 79_674_391_296),
    ];
    for (name, parameters) in published {
        assert_eq!(count(&decode(name, 512)).parameters, parameters, "{name}");
    }
    // Qwen1.5-MoE-A2.7B and Falcon-40B, whose families have further members.
    let others = [
        (
            r#"{"model_type": "qwen2_moe", "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16,
            "num_key_value_heads": 16, "intermediate_size": 5632, "moe_intermediate_size": 1408, "vocab_size": 151936,
            "shared_expert_intermediate_size": 5632, "num_experts": 60, "num_experts_per_tok": 4, "hidden_act": "silu",
            "max_position_embeddings": 8192}"#,
            14_315_784_192,
        ),
        (
            r#"{"model_type": "falcon", "hidden_size": 8192, "num_hidden_layers": 60, "num_attention_heads": 128,
            "num_kv_heads": 8, "new_decoder_architecture": true, "vocab_size": 65024}"#,
            41_303_293_952,
        ),
    ];
    for (text, parameters) in others {
        let request = Request {
            pass: Pass::Decode { context: 9 },
            ..Request::default()
        };
        let graph = build(&Config::read("other", text).unwrap(), &request).unwrap();
        assert_eq!(count(&graph).parameters, parameters);
    }
    // Active parameters in billions: weights that one token multiplies, and the embedding table.
    for (name, billions) in [
        ("deepseek-v3", 37.55),
        ("qwen3-235b-a22b", 22.19),
        ("mixtral-8x7b", 12.88),
    ] {
        let counts = count(&decode(name, 1));
        let config = config(name);
        let weights = counts.macs_by_class["linear"] + counts.macs_by_class["moe_expert"];
        let active = (weights + u128::from(config.vocab * config.hidden)) as f64 / 1e9;
        assert!((active - billions).abs() < 0.006, "{name} {active}");
    }
    // Falcon-7B by hand: embedding, 32 x (fused qkv, output, two MLP linears, one layer norm), last norm.
    let h = 4544u128;
    let falcon = 65024 * h + 32 * (h * (71 + 2) * 64 + h * h + 2 * 4 * h * h + 2 * h) + 2 * h;
    assert_eq!(count(&decode("falcon-7b", 512)).parameters, falcon);
}

#[test]
fn every_shipped_model_builds_small() {
    assert!(names().is_sorted());
    assert_eq!(names().len(), 45);
    for name in names() {
        for pass in [Pass::Prefill { prompt: 700 }, Pass::Decode { context: 700 }] {
            for absorb_mla in [false, true] {
                let graph = graph(name, pass, 3, absorb_mla);
                assert!(graph.ops.len() < 320, "{name} has {} ops", graph.ops.len());
                let output = graph
                    .tensors
                    .iter()
                    .find(|t| t.role == Role::Output)
                    .unwrap();
                assert_eq!(output.shape, [3, 1, config(name).vocab], "{name}");
            }
        }
    }
    let pass = Pass::Decode { context: 4096 };
    let graph = graph("llama3-70b", pass, 1, true);
    assert!(
        graph.ops.len() < 40 && graph.blocks.iter().any(|b| b.repeat == 80),
        "{}",
        graph.ops.len()
    );
}

#[test]
fn sequences_of_layers_become_runs() {
    let runs = |name: &str| {
        config(name)
            .runs
            .iter()
            .map(|r| (r.period.len(), r.repeat))
            .collect::<Vec<_>>()
    };
    assert_eq!(runs("llama3-70b"), [(1, 80)]);
    assert_eq!(runs("gemma2-2b"), [(2, 13)]);
    assert_eq!(runs("gemma3-1b"), [(6, 4), (1, 2)]);
    assert_eq!(runs("gpt-oss-20b"), [(2, 12)]);
    assert_eq!(runs("deepseek-v3"), [(1, 3), (1, 58)]);
    assert_eq!(runs("qwen3-next-80b-a3b"), [(4, 12)]);
}

/// Executed MACs of attention by counting the pairs that each query sees.
fn attention_by_walk(config: &Config, tokens: u64) -> u128 {
    let pairs = |window: Option<u64>| {
        (1..=tokens)
            .map(|seen| u128::from(seen.min(window.unwrap_or(seen))))
            .sum::<u128>()
    };
    let layer = |l: &Layer| match &l.mixer {
        Mixer::Attention(a) => 2 * u128::from(a.heads * a.head_dim) * pairs(a.window),
        Mixer::Mla(m) => {
            u128::from(m.heads * (m.nope_dim + m.rope_dim + m.value_dim)) * pairs(None)
        }
        Mixer::Delta(_) => 0,
    };
    config.layers().map(layer).sum()
}

#[test]
fn prefill_executes_the_pairs_inside_the_mask() {
    for name in [
        "llama3-8b",
        "gemma3-1b",
        "gpt-oss-20b",
        "phi-3-mini-4k",
        "deepseek-v2-lite",
        "falcon-7b",
        "bloom-560m",
    ] {
        for tokens in [1, 127, 128, 129, 700, 2100] {
            let counts = count(&prefill(name, tokens));
            let attention: u128 = ["attn_qk", "attn_pv"]
                .iter()
                .map(|c| counts.macs_by_class[c])
                .sum();
            let executed = counts.executed_macs - (counts.macs - attention);
            assert_eq!(
                executed,
                attention_by_walk(&config(name), tokens),
                "{name} {tokens}"
            );
        }
    }
    // Causal, in closed form: half of the square and half of the diagonal.
    let counts = count(&prefill("llama3-8b", 512));
    assert_eq!(
        counts.macs - counts.executed_macs,
        2 * 32 * 32 * 128 * (512 * 511 / 2)
    );
}

#[test]
fn decode_attends_to_the_window_only() {
    // 22 of 26 layers of gemma3-1b slide over 512 keys; 4 heads of width 256.
    for (context, sliding) in [(100, 100), (512, 512), (513, 512), (8192, 512)] {
        let counts = count(&decode("gemma3-1b", context));
        let keys = u128::from(22 * sliding + 4 * context);
        assert_eq!(counts.macs_by_class["attn_qk"], 4 * 256 * keys, "{context}");
        assert_eq!(counts.macs, counts.executed_macs);
    }
    // After a prefill the cache holds the window's earlier tokens.
    let cache = |tokens| cached(&prefill("mistral-7b-v0.1", tokens)) / (32 * 2 * 8 * 128);
    assert_eq!([cache(4095), cache(4096), cache(9000)], [4095; 3]);
}

#[test]
fn a_delta_rule_keeps_a_state_of_fixed_size() {
    let config = config("qwen3-next-80b-a3b");
    for context in [64, 4096] {
        let cached = cached(&decode("qwen3-next-80b-a3b", context));
        // 12 attention layers of 2 heads of 256; 36 states of 32 x 128 x 128 and 4 rows of 8192 channels.
        assert_eq!(
            cached,
            12 * 2 * 2 * 256 * context + 36 * (32 * 128 * 128 + 4 * 8192)
        );
        assert_eq!(cached, config.kv_elements(context));
    }
    // Two read-outs of each state for each token.
    let counts = count(&prefill("qwen3-next-80b-a3b", 100));
    assert_eq!(
        counts.macs_by_class["recurrent"],
        100 * 36 * 2 * 32 * 128 * 128
    );
    assert_eq!(counts.macs_by_class["conv"], 100 * 36 * 8192 * 4);
}

#[test]
fn a_tied_head_reads_the_embedding() {
    for (name, tied) in [("llama3.2-1b", true), ("llama3-8b", false)] {
        let graph = decode(name, 16);
        let (_, head) = graph
            .ops
            .iter_ids()
            .find(|(_, op)| op.name == "lm_head")
            .unwrap();
        assert_eq!(
            graph.tensors[head.inputs[1]].name == "embed_tokens.weight",
            tied
        );
    }
}

#[test]
fn weights_are_second_operands() {
    for name in names() {
        let graph = graph(name, Pass::Decode { context: 300 }, 2, true);
        for op in graph
            .ops
            .iter()
            .filter(|op| matches!(op.class, OpClass::Linear | OpClass::MoeExpert))
        {
            assert_eq!(
                graph.tensors[op.inputs[1]].role,
                Role::Weight,
                "{name} {}",
                op.name
            );
        }
        for op in graph
            .ops
            .iter()
            .filter(|op| matches!(op.class, OpClass::AttentionQk | OpClass::AttentionPv))
        {
            assert_eq!(
                graph.tensors[op.inputs[1]].role,
                Role::Cache,
                "{name} {}",
                op.name
            );
        }
    }
}

#[test]
fn precision_follows_roles() {
    use presil_numerics::{Format, Quantization};
    let [int4, bf16, int8] = [
        Format::Int {
            bits: 4,
            signed: true,
        },
        Format::BF16,
        Format::INT8,
    ]
    .map(Quantization::from);
    let mut llama = decode("llama3-8b", 512);
    llama.set_precision(int4, bf16, int8);
    let counts = count(&llama);
    // Linears and head in half a byte, embedding and norms in two; keys and values in one.
    let linear = 7_504_658_432;
    assert_eq!(
        counts.weight_bytes,
        linear / 2 + 2 * (counts.parameters - linear)
    );
    assert_eq!(counts.cache_bytes, 512 * 32 * 2 * 8 * 128);
    for name in ["gpt-oss-20b", "deepseek-v2-lite", "gpt2"] {
        let mut graph = graph(name, Pass::Decode { context: 64 }, 1, true);
        graph.set_precision(int4, bf16, int8);
        for t in graph.tensors.iter() {
            let linear = t.name.ends_with(".weight")
                && (t.name.contains("_proj") || t.name.contains("router"));
            let head =
                t.name == "lm_head.weight" || t.name == "embed_tokens.weight" && name == "gpt2";
            let want = match t.role {
                Role::Weight if linear || head => int4,
                Role::Cache => int8,
                _ => bf16,
            };
            assert_eq!(t.quantization, want, "{name} {}", t.name);
        }
    }
}

#[test]
fn experts_touched_follow_the_routing() {
    let distinct = |tokens: u64, routing: Routing| {
        let pass = Pass::Decode { context: 64 };
        let request = Request {
            batch: tokens,
            pass,
            routing,
            ..Request::default()
        };
        let graph = build(&config("mixtral-8x7b"), &request).unwrap();
        let op = graph
            .ops
            .iter()
            .find(|op| op.class == OpClass::MoeExpert)
            .unwrap();
        match op.contraction().unwrap().domain {
            crate::Domain::Ragged { rows, distinct, .. } => (rows, distinct),
            _ => (0, 0.0),
        }
    };
    assert_eq!(distinct(1, Routing::Uniform), (2, 2.0));
    let (rows, touched) = distinct(8, Routing::Uniform);
    assert_eq!(rows, 16);
    assert!((touched - 8.0 * (1.0 - 0.75f64.powi(8))).abs() < 1e-12);
    let (_, skewed) = distinct(8, Routing::PowerLaw { exponent: 1.2 });
    assert!(skewed < touched && skewed > 2.0);
    let (_, two) = distinct(
        8,
        Routing::Histogram(vec![0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]),
    );
    assert!((two - 2.0).abs() < 1e-12);
    let wrong = Request {
        pass: Pass::Decode { context: 4 },
        routing: Routing::Histogram(vec![1.0]),
        ..Request::default()
    };
    assert!(
        build(&config("mixtral-8x7b"), &wrong)
            .unwrap_err()
            .to_string()
            .contains("8 experts")
    );
}

#[test]
fn wrong_passes_are_refused() {
    let error = |name, pass, batch| {
        build(
            &config(name),
            &Request {
                pass,
                batch,
                ..Request::default()
            },
        )
        .unwrap_err()
        .to_string()
    };
    assert!(error("gpt2", Pass::Forward, 1).contains("--prompt"));
    assert!(error("gpt2", Pass::Decode { context: 1025 }, 1).contains("1024"));
    assert!(error("opt-125m", Pass::Prefill { prompt: 2049 }, 1).contains("2048"));
    assert!(error("llama3-8b", Pass::Prefill { prompt: 0 }, 1).contains("at least 1"));
    assert!(error("llama3-8b", Pass::Prefill { prompt: 8 }, 0).contains("at least 1"));
    assert!(error("llama3-8b", Pass::Prefill { prompt: u64::MAX }, 3).contains("64 bits"));
    let far = decode("llama1-13b", 8192);
    assert!(
        far.assumptions.iter().any(|a| a.contains("2048")),
        "{:?}",
        far.assumptions
    );
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let text = r#"{
  "model_type": "llama",
  "hidden_size": 4096,
  "num_attention_heads": 33,
  "num_hidden_layers": 0,
  "hidden_act": "silou",
  "intermediate_size": "11008",
  "max_position_embeddings": 9223372036854775808
}"#;
    let message = Config::read("mine.json", text).unwrap_err().to_string();
    for part in [
        "mine.json:4:26",
        "4096 is not divisible by 33",
        "`num_hidden_layers` cannot be 0",
        "`hidden_act` is `silou`",
        "did you mean `silu`?",
        "`intermediate_size` cannot be \"11008\"",
        "`max_position_embeddings` cannot be 9223372036854775808",
        "`vocab_size` is missing",
    ] {
        assert!(message.contains(part), "{part} not in:\n{message}");
    }
    assert!(!message.contains("`intermediate_size` is missing"));
    let message = Config::read("x.json", r#"{"model_type": "lama"}"#)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("`llama`") && message.contains("gpt_oss"),
        "{message}"
    );
    let message = Config::read("x.json", "{\n \"a\": 1,\n oops }")
        .unwrap_err()
        .to_string();
    assert!(message.contains("x.json:3:2"), "{message}");
    assert!(
        Config::read("x.json", "[]")
            .unwrap_err()
            .to_string()
            .contains("object")
    );
    assert!(
        Config::read("x.json", "{}")
            .unwrap_err()
            .to_string()
            .contains("model_type")
    );
}

#[test]
fn defaults_are_those_of_the_configuration_classes() {
    let without = |name: &str, key: &str| {
        let text = SHIPPED.iter().find(|(n, _)| *n == name).unwrap().1;
        let mut value: Value = serde_json::from_str(text).unwrap();
        value.as_object_mut().unwrap().remove(key);
        Config::read(name, &value.to_string()).unwrap()
    };
    assert!(without("gemma-2b", "tie_word_embeddings").tied);
    assert!(!without("llama3-8b", "tie_word_embeddings").tied);
    let attention = |c: &Config| match &c.runs[0].period[0].mixer {
        Mixer::Attention(a) => a.clone(),
        _ => Attention::default(),
    };
    assert_eq!(attention(&without("llama3.2-1b", "head_dim")).head_dim, 64);
    assert_eq!(attention(&without("gemma-2b", "head_dim")).head_dim, 256);
    assert_eq!(
        attention(&without("mistral-7b-v0.1", "sliding_window")).window,
        Some(4096)
    );
    assert_eq!(attention(&config("mistral-7b-v0.3")).window, None);
    let q_rank = |c: &Config| match &c.runs[0].period[0].mixer {
        Mixer::Mla(m) => m.q_rank,
        _ => Some(0),
    };
    assert_eq!(q_rank(&config("deepseek-v2-lite")), None);
    assert_eq!(
        q_rank(&without("deepseek-v2-lite", "q_lora_rank")),
        Some(1536)
    );
}

/// Reads and, if that works, builds and counts.
fn survive(text: &str, batch: u64, pass: Pass, absorb_mla: bool) {
    if let Ok(config) = Config::read("fuzz", text) {
        let request = Request {
            batch,
            pass,
            absorb_mla,
            ..Request::default()
        };
        if let Ok(graph) = build(&config, &request) {
            count(&graph);
            config.kv_elements(u64::MAX);
        }
    }
}

fn sizes() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..4u64,
        60..70u64,
        Just(2048),
        Just(1 << 20),
        Just(1 << 33),
        Just(1 << 62),
        Just(u64::MAX)
    ]
}

fn passes() -> impl Strategy<Value = Pass> {
    (any::<bool>(), sizes()).prop_map(|(prefill, n)| match prefill {
        true => Pass::Prefill { prompt: n },
        false => Pass::Decode { context: n },
    })
}

fn values() -> impl Strategy<Value = Value> {
    let numbers = sizes().prop_map(Value::from);
    let small = (0..300u64).prop_map(Value::from);
    let floats = prop_oneof![Just(-1.0), Just(0.5), Just(1e300)].prop_map(Value::from);
    let others = prop_oneof![
        Just(Value::Null),
        Just(Value::Bool(true)),
        Just(Value::Bool(false)),
        Just(Value::from("relu")),
        Just(Value::from("llama")),
        Just(serde_json::json!([1, 2])),
        Just(serde_json::json!(["full_attention"])),
        Just(serde_json::json!({})),
    ];
    prop_oneof![
        numbers,
        small,
        floats,
        others,
        Just(Value::from(1u64 << 28)),
        Just(Value::from(1024u64))
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_text_never_panics(text in "\\PC*", json in "[\\[\\]{}:,\"a-z0-9 \\\\]{0,40}") {
        let pass = Pass::Decode { context: 5 };
        survive(&text, 1, pass, true);
        survive(&json, 1, pass, true);
    }

    #[test]
    fn mutated_configurations_never_panic(
        model in 0..SHIPPED.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::option::of(values())), 0..4),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        (batch, pass, absorb) in (sizes(), passes(), any::<bool>()),
    ) {
        let mut value: Value = serde_json::from_str(SHIPPED[model].1).unwrap();
        let object = value.as_object_mut().unwrap();
        for (at, change) in changes {
            let key = object.keys().nth(at.index(object.len())).unwrap().clone();
            match change {
                Some(v) => { object.insert(key, v); }
                None => { object.remove(&key); }
            }
        }
        let mut bytes = value.to_string().into_bytes();
        for (at, byte) in flips {
            let i = at.index(bytes.len());
            bytes[i] = byte;
        }
        let text = String::from_utf8_lossy(&bytes);
        survive(&text, batch, pass, absorb);
        let modest = Pass::Prefill { prompt: 65 };
        survive(&text, 2, modest, absorb);
    }
}
