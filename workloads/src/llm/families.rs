//! One reader for each family of models: from the fields of its `config.json` to a [`Config`].
//!
//! Defaults for fields that a file leaves out are those of the family's configuration class in HuggingFace
//! transformers 5.23; sizes that every real file states have none. To add a family, write its reader and name it
//! in [`FAMILIES`].

use presil_numerics::diagnostic::nearest;

use super::config::*;
use super::fields::Fields;
use crate::build::{Function, NormKind};
use crate::model::ModelError;

type Reader = fn(&mut Fields<'_>) -> Config;

/// Families by `model_type`.
const FAMILIES: &[(&str, Reader)] = &[
    ("bloom", bloom),
    ("deepseek_v2", deepseek),
    ("deepseek_v3", deepseek),
    ("falcon", falcon),
    ("gemma", gemma),
    ("gemma2", gemma2),
    ("gemma3_text", gemma3),
    ("gpt2", gpt2),
    ("gpt_oss", gpt_oss),
    ("llama", llama),
    ("mistral", mistral),
    ("mixtral", mixtral),
    ("opt", opt),
    ("phi3", phi3),
    ("qwen2", qwen2),
    ("qwen2_moe", qwen2),
    ("qwen3", qwen3),
    ("qwen3_moe", qwen3),
    ("qwen3_next", qwen3_next),
];

impl Config {
    /// Reads a HuggingFace `config.json`; `name` is what the model is called and where messages point.
    pub fn read(name: &str, text: &str) -> Result<Self, ModelError> {
        let mut fields = Fields::parse(name, text)?;
        let Some(model_type) = fields.text(&["model_type"]) else {
            if !fields.has("model_type") {
                let help = "a HuggingFace configuration names its family here";
                fields.problem("model_type", "`model_type` is missing", help);
            }
            return Err(fields
                .finish(())
                .err()
                .unwrap_or_else(|| unsupported(name, "it has no `model_type`".into())));
        };
        let Some((_, reader)) = FAMILIES.iter().find(|(t, _)| *t == model_type) else {
            let known: Vec<&str> = FAMILIES.iter().map(|(t, _)| *t).collect();
            let near = nearest(&model_type, known.iter().copied());
            let near = near.map_or(String::new(), |n| format!(" (did you mean `{n}`?)"));
            let known = known.join(", ");
            let reason =
                format!("model_type `{model_type}` is not supported{near}; presil builds {known}");
            return Err(unsupported(name, reason));
        };
        let config = reader(&mut fields);
        fields.finish(Self {
            name: name.into(),
            model_type,
            ..config
        })
    }
}

fn unsupported(model: &str, reason: String) -> ModelError {
    ModelError::Unsupported {
        model: model.into(),
        reason,
    }
}

const ACTIVATIONS: &[(&str, Function)] = &[
    ("silu", Function::Silu),
    ("swish", Function::Silu),
    ("gelu", Function::Gelu),
    ("gelu_new", Function::GeluTanh),
    ("gelu_fast", Function::GeluTanh),
    ("gelu_pytorch_tanh", Function::GeluTanh),
    ("gelu_python", Function::Gelu),
    ("quick_gelu", Function::QuickGelu),
    ("relu", Function::Relu),
    ("tanh", Function::Tanh),
    ("sigmoid", Function::Sigmoid),
];

const RMS: Norm = Norm {
    kind: NormKind::Rms,
    bias: false,
};
const LAYER: Norm = Norm {
    kind: NormKind::Layer,
    bias: true,
};

fn activation(f: &mut Fields<'_>, keys: &[&'static str], default: Function) -> Activation {
    Activation::Function(f.choice(keys, ACTIVATIONS, default))
}

/// What most families share: RMS norms before attention and MLP, rotary positions, a final norm.
fn decoder(f: &mut Fields<'_>, tied: bool, layers: Vec<Layer>) -> Config {
    let hidden = f.size(&["hidden_size", "n_embd"]);
    let max_context = f.size(&["max_position_embeddings", "n_positions"]);
    frame(f, hidden, max_context, tied, layers)
}

fn frame(
    f: &mut Fields<'_>,
    hidden: u64,
    max_context: u64,
    tied: bool,
    layers: Vec<Layer>,
) -> Config {
    Config {
        name: String::new(),
        model_type: String::new(),
        vocab: f.size(&["vocab_size"]),
        hidden,
        embedding_width: hidden,
        embedding_scale: false,
        embedding_norm: false,
        position: Position::Rotary,
        max_context,
        norm: RMS,
        placement: Placement::Pre,
        final_norm: true,
        tied: f.flag("tie_word_embeddings", tied),
        logit_softcap: false,
        runs: runs(&layers),
    }
}

/// Equal layers but for the window, and for what `change` does to them.
fn layers(windows: Vec<Option<u64>>, attention: &Attention, feed: &Feed) -> Vec<Layer> {
    let layer = |window| Layer {
        mixer: Mixer::Attention(Attention {
            window,
            ..attention.clone()
        }),
        feed: feed.clone(),
    };
    windows.into_iter().map(layer).collect()
}

/// The window of each layer: by `layer_types` where given, else by `slides`.
fn windows(
    f: &mut Fields<'_>,
    window: Option<u64>,
    slides: impl Fn(u64) -> bool,
) -> Vec<Option<u64>> {
    let count = f.layers(&["num_hidden_layers"]);
    let Some(types) = layer_types(f, count) else {
        return (0..count).map(|i| window.filter(|_| slides(i))).collect();
    };
    if types.iter().any(|t| t == "sliding_attention") && window.is_none() {
        f.problem(
            "layer_types",
            "layers slide, but `sliding_window` is not given",
            "",
        );
    }
    if let Some(other) = types
        .iter()
        .find(|t| *t != "sliding_attention" && *t != "full_attention")
    {
        let help = "known: sliding_attention, full_attention";
        f.problem(
            "layer_types",
            format!("layer type `{other}` is not known"),
            help,
        );
    }
    types
        .iter()
        .map(|t| window.filter(|_| t == "sliding_attention"))
        .collect()
}

fn layer_types(f: &mut Fields<'_>, count: u64) -> Option<Vec<String>> {
    let types = f.texts("layer_types")?;
    if types.len() as u64 != count {
        let message = format!(
            "`layer_types` has {} entries for {count} layers",
            types.len()
        );
        f.problem("layer_types", message, "one for each layer");
    }
    Some(types)
}

/// `sliding_window`, where absent means `default` and null means none.
fn sliding_window(f: &mut Fields<'_>, default: Option<u64>) -> Option<u64> {
    if f.has("sliding_window") {
        f.size_if(&["sliding_window"])
    } else if f.is_null("sliding_window") {
        None
    } else {
        default
    }
}

/// Grouped-query attention; `head_dim` absent means the hidden size over the heads, or `default`.
fn grouped(f: &mut Fields<'_>, default: Option<u64>) -> Attention {
    let heads = f.size(&["num_attention_heads"]);
    // Null means as many as query heads. So does absence in llama and phi 3; other classes have defaults of old
    // releases there.
    let plain = f.is_null("num_key_value_heads") || f.is_family(&["llama", "phi3"]);
    let kv_heads = if plain {
        f.size_or(&["num_key_value_heads"], heads)
    } else {
        f.size(&["num_key_value_heads"])
    };
    f.divide(
        "num_key_value_heads",
        heads,
        kv_heads,
        "query heads must be a multiple of key-value heads",
    );
    let head_dim = f.size_if(&["head_dim"]).or(default);
    let head_dim = head_dim.unwrap_or_else(|| head_width(f, heads));
    Attention {
        heads,
        kv_heads,
        head_dim,
        ..Attention::default()
    }
}

fn head_width(f: &mut Fields<'_>, heads: u64) -> u64 {
    let Some(hidden) = f.size_if(&["hidden_size", "n_embd"]) else {
        return 1;
    };
    f.divide(
        "num_attention_heads",
        hidden,
        heads,
        "the hidden size must be a multiple of the heads",
    )
}

fn gated(f: &mut Fields<'_>, bias: bool) -> Mlp {
    let activation = activation(f, &["hidden_act"], Function::Silu);
    Mlp {
        intermediate: f.size(&["intermediate_size"]),
        activation,
        gated: true,
        fused: false,
        bias,
    }
}

fn experts(f: &mut Fields<'_>, count: &[&'static str], intermediate: &[&'static str]) -> Moe {
    let (experts, top_k) = (f.experts(count), f.size(&["num_experts_per_tok"]));
    if top_k > experts {
        let message = format!("{top_k} experts per token of {experts} are too many");
        f.problem(
            "num_experts_per_tok",
            message,
            "at most the number of experts",
        );
    }
    let activation = activation(f, &["hidden_act"], Function::Silu);
    let intermediate = f.size(intermediate);
    Moe {
        experts,
        top_k,
        expert: Mlp {
            intermediate,
            activation,
            gated: true,
            fused: true,
            bias: false,
        },
        scoring: Scoring::Softmax,
        router_bias: false,
        renormalize: true,
        groups: None,
        shared: None,
        shared_gate: false,
    }
}

fn llama(f: &mut Fields<'_>) -> Config {
    let bias = f.flag("attention_bias", false);
    let attention = Attention {
        qkv_bias: bias,
        out_bias: bias,
        ..grouped(f, None)
    };
    let mlp_bias = f.flag("mlp_bias", false);
    let feed = Feed::Dense(gated(f, mlp_bias));
    let windows = windows(f, None, |_| false);
    decoder(f, false, layers(windows, &attention, &feed))
}

fn mistral(f: &mut Fields<'_>) -> Config {
    let (attention, feed) = (grouped(f, None), Feed::Dense(gated(f, false)));
    let window = sliding_window(f, Some(4096));
    let windows = windows(f, window, |_| true);
    decoder(f, false, layers(windows, &attention, &feed))
}

fn mixtral(f: &mut Fields<'_>) -> Config {
    let attention = grouped(f, None);
    let feed = Feed::Experts(experts(f, &["num_local_experts"], &["intermediate_size"]));
    let window = sliding_window(f, None);
    let windows = windows(f, window, |_| true);
    decoder(f, false, layers(windows, &attention, &feed))
}

/// Qwen 2 and 3: sliding windows only where switched on, and then from `max_window_layers` on.
fn qwen_windows(f: &mut Fields<'_>) -> Vec<Option<u64>> {
    let window = sliding_window(f, Some(4096));
    let on = f.flag("use_sliding_window", false);
    let from = f.count_or(&["max_window_layers"], 28);
    windows(f, window.filter(|_| on), |i| i >= from)
}

fn qwen2(f: &mut Fields<'_>) -> Config {
    let attention = Attention {
        qkv_bias: true,
        ..grouped(f, None)
    };
    let windows = qwen_windows(f);
    let mut layers = layers(windows, &attention, &Feed::Dense(gated(f, false)));
    if f.is_family(&["qwen2_moe"]) {
        qwen_experts(f, &mut layers);
    }
    decoder(f, false, layers)
}

fn qwen3(f: &mut Fields<'_>) -> Config {
    let bias = f.flag("attention_bias", false);
    let moe = f.is_family(&["qwen3_moe"]);
    let attention = Attention {
        qkv_bias: bias,
        out_bias: bias,
        qk_norm: true,
        ..grouped(f, (!moe).then_some(128))
    };
    let windows = qwen_windows(f);
    let mut layers = layers(windows, &attention, &Feed::Dense(gated(f, false)));
    if moe {
        qwen_experts(f, &mut layers);
    }
    decoder(f, false, layers)
}

/// Gives layers their experts by `decoder_sparse_step` and `mlp_only_layers`.
fn qwen_experts(f: &mut Fields<'_>, layers: &mut [Layer]) {
    let mut moe = experts(
        f,
        &["num_experts", "num_local_experts"],
        &["moe_intermediate_size"],
    );
    moe.renormalize = f.flag("norm_topk_prob", false);
    if let Some(intermediate) = f.size_if(&["shared_expert_intermediate_size"]) {
        moe.shared = Some(Mlp {
            intermediate,
            fused: false,
            ..moe.expert.clone()
        });
        moe.shared_gate = true;
    }
    let (step, dense) = (
        f.size_or(&["decoder_sparse_step"], 1),
        f.counts("mlp_only_layers"),
    );
    for (i, layer) in (0u64..).zip(layers) {
        if (i + 1) % step == 0 && !dense.contains(&i) {
            layer.feed = Feed::Experts(moe.clone());
        }
    }
}

fn qwen3_next(f: &mut Fields<'_>) -> Config {
    let bias = f.flag("attention_bias", false);
    let attention = Attention {
        qkv_bias: bias,
        out_bias: bias,
        qk_norm: true,
        output_gate: true,
        ..grouped(f, Some(256))
    };
    let delta = Delta {
        key_heads: f.size(&["linear_num_key_heads"]),
        value_heads: f.size(&["linear_num_value_heads"]),
        key_dim: f.size(&["linear_key_head_dim"]),
        value_dim: f.size(&["linear_value_head_dim"]),
        kernel: f.size_or(&["linear_conv_kernel_dim"], 4),
    };
    let (values, keys) = (delta.value_heads, delta.key_heads);
    f.divide(
        "linear_num_value_heads",
        values,
        keys,
        "value heads must be a multiple of key heads",
    );
    let every = f.size_or(&["full_attention_interval"], 4);
    let count = f.layers(&["num_hidden_layers"]);
    let full: Vec<bool> = match layer_types(f, count) {
        Some(types) => types.iter().map(|t| t == "full_attention").collect(),
        None => (1..=count).map(|i| i % every == 0).collect(),
    };
    let dense = Feed::Dense(gated(f, false));
    let mixer = |full: &bool| {
        if *full {
            Mixer::Attention(attention.clone())
        } else {
            Mixer::Delta(delta.clone())
        }
    };
    let mut layers: Vec<Layer> = full
        .iter()
        .map(|l| Layer {
            mixer: mixer(l),
            feed: dense.clone(),
        })
        .collect();
    qwen_experts(f, &mut layers);
    decoder(f, false, layers)
}

fn gemma(f: &mut Fields<'_>) -> Config {
    let bias = f.flag("attention_bias", false);
    let attention = Attention {
        qkv_bias: bias,
        out_bias: bias,
        ..grouped(f, Some(256))
    };
    let feed = gemma_feed(f);
    let windows = windows(f, None, |_| false);
    let layers = layers(windows, &attention, &feed);
    Config {
        embedding_scale: true,
        ..decoder(f, true, layers)
    }
}

/// Gemma runs the tanh form of GELU whatever the older field `hidden_act` says.
fn gemma_feed(f: &mut Fields<'_>) -> Feed {
    let activation = activation(f, &["hidden_activation"], Function::GeluTanh);
    Feed::Dense(Mlp {
        activation,
        intermediate: f.size(&["intermediate_size"]),
        gated: true,
        fused: false,
        bias: false,
    })
}

/// Gemma 2 and 3: scale on embeddings, norms before and after, caps on logits.
fn sandwiched(f: &mut Fields<'_>, layers: Vec<Layer>, cap: bool) -> Config {
    Config {
        embedding_scale: true,
        placement: Placement::Sandwich,
        logit_softcap: cap,
        ..decoder(f, true, layers)
    }
}

fn gemma2(f: &mut Fields<'_>) -> Config {
    let bias = f.flag("attention_bias", false);
    // Absent means the class defaults (50 and 30), null no cap.
    let softcap = !f.is_null("attn_logit_softcapping");
    let cap = !f.is_null("final_logit_softcapping");
    let attention = Attention {
        qkv_bias: bias,
        out_bias: bias,
        softcap,
        ..grouped(f, Some(256))
    };
    let feed = gemma_feed(f);
    let window = sliding_window(f, Some(4096));
    let windows = windows(f, window, |i| i % 2 == 0);
    let layers = layers(windows, &attention, &feed);
    sandwiched(f, layers, cap)
}

fn gemma3(f: &mut Fields<'_>) -> Config {
    let bias = f.flag("attention_bias", false);
    let softcap = f.has("attn_logit_softcapping");
    let cap = f.has("final_logit_softcapping");
    let attention = Attention {
        qkv_bias: bias,
        out_bias: bias,
        softcap,
        qk_norm: true,
        ..grouped(f, Some(256))
    };
    let feed = gemma_feed(f);
    let window = sliding_window(f, Some(4096));
    let every = f.size_or(&["sliding_window_pattern", "_sliding_window_pattern"], 6);
    let windows = windows(f, window, |i| (i + 1) % every != 0);
    let layers = layers(windows, &attention, &feed);
    sandwiched(f, layers, cap)
}

fn phi3(f: &mut Fields<'_>) -> Config {
    let attention = Attention {
        fused_qkv: true,
        ..grouped(f, None)
    };
    let feed = Feed::Dense(Mlp {
        fused: true,
        ..gated(f, false)
    });
    let window = sliding_window(f, None);
    let windows = windows(f, window, |_| true);
    decoder(f, false, layers(windows, &attention, &feed))
}

fn gpt_oss(f: &mut Fields<'_>) -> Config {
    let bias = f.flag("attention_bias", true);
    let attention = Attention {
        qkv_bias: bias,
        out_bias: bias,
        sinks: true,
        ..grouped(f, Some(64))
    };
    let moe = experts(f, &["num_local_experts"], &["intermediate_size"]);
    let expert = Mlp {
        activation: Activation::ClampedSwiglu,
        bias: true,
        ..moe.expert
    };
    let feed = Feed::Experts(Moe {
        expert,
        scoring: Scoring::SoftmaxChosen,
        router_bias: true,
        renormalize: false,
        ..moe
    });
    let window = sliding_window(f, Some(128));
    let windows = windows(f, window, |i| i % 2 == 0);
    decoder(f, false, layers(windows, &attention, &feed))
}

fn deepseek(f: &mut Fields<'_>) -> Config {
    let v3 = f.is_family(&["deepseek_v3"]);
    // Absent means the class default (1536), null that queries are not compressed.
    let q_rank = if f.is_null("q_lora_rank") {
        None
    } else {
        Some(f.size_or(&["q_lora_rank"], 1536))
    };
    let mixer = Mixer::Mla(Mla {
        heads: f.size(&["num_attention_heads"]),
        q_rank,
        kv_rank: f.size(&["kv_lora_rank"]),
        nope_dim: f.size(&["qk_nope_head_dim"]),
        rope_dim: f.size(&["qk_rope_head_dim"]),
        value_dim: f.size(&["v_head_dim"]),
        bias: f.flag("attention_bias", false),
    });
    let dense = gated(f, false);
    let mut moe = experts(
        f,
        &["n_routed_experts", "num_routed_experts"],
        &["moe_intermediate_size"],
    );
    moe.renormalize = f.flag("norm_topk_prob", v3);
    if v3 {
        moe.scoring = Scoring::Sigmoid;
    }
    let groups = f.size_or(&["n_group"], 1);
    if groups > 1 {
        f.divide(
            "n_group",
            moe.experts,
            groups,
            "experts must divide into groups",
        );
        let chosen = f.size(&["topk_group"]);
        if chosen > groups || moe.top_k > chosen.saturating_mul(moe.experts / groups) {
            f.problem(
                "topk_group",
                "the chosen groups do not hold the experts of a token",
                "",
            );
        }
        moe.groups = Some((groups, chosen));
    }
    let shared = f.count_or(&["n_shared_experts", "num_shared_experts"], 0);
    if shared > 0 {
        let intermediate = shared * moe.expert.intermediate;
        moe.shared = Some(Mlp {
            intermediate,
            fused: false,
            ..moe.expert.clone()
        });
    }
    let first = f.count_or(&["first_k_dense_replace"], 0);
    let step = f.size_or(&["moe_layer_freq"], 1);
    let count = f.layers(&["num_hidden_layers"]);
    let feed = |i| {
        if i >= first && i % step == 0 {
            Feed::Experts(moe.clone())
        } else {
            Feed::Dense(dense.clone())
        }
    };
    let layers: Vec<Layer> = (0..count)
        .map(|i| Layer {
            mixer: mixer.clone(),
            feed: feed(i),
        })
        .collect();
    decoder(f, false, layers)
}

/// GPT-2 keeps one linear for queries, keys and values, layer norms and learned positions.
fn gpt2(f: &mut Fields<'_>) -> Config {
    let heads = f.size(&["n_head", "num_attention_heads"]);
    let head_dim = head_width(f, heads);
    let attention = Attention {
        heads,
        kv_heads: heads,
        head_dim,
        fused_qkv: true,
        qkv_bias: true,
        out_bias: true,
        ..Attention::default()
    };
    let hidden = f.size_if(&["n_embd", "hidden_size"]).unwrap_or(1);
    let intermediate = f.size_or(&["n_inner"], 4 * hidden);
    let activation = activation(f, &["activation_function"], Function::GeluTanh);
    let feed = Feed::Dense(Mlp {
        intermediate,
        activation,
        gated: false,
        fused: false,
        bias: true,
    });
    let count = f.layers(&["n_layer", "num_hidden_layers"]);
    let layers = layers(vec![None; count as usize], &attention, &feed);
    let base = decoder(f, true, layers);
    Config {
        position: Position::Learned {
            rows: base.max_context,
        },
        norm: LAYER,
        ..base
    }
}

/// OPT's position table has two rows that no token uses.
const OPT_UNUSED_POSITIONS: u64 = 2;

fn opt(f: &mut Fields<'_>) -> Config {
    let heads = f.size(&["num_attention_heads"]);
    let bias = f.flag("enable_bias", true);
    let attention = Attention {
        heads,
        kv_heads: heads,
        head_dim: head_width(f, heads),
        qkv_bias: bias,
        out_bias: bias,
        ..Attention::default()
    };
    let activation = activation(f, &["activation_function"], Function::Relu);
    let intermediate = f.size(&["ffn_dim"]);
    let feed = Feed::Dense(Mlp {
        intermediate,
        activation,
        gated: false,
        fused: false,
        bias,
    });
    let count = f.layers(&["num_hidden_layers"]);
    let before = f.flag("do_layer_norm_before", true);
    let removed = f.flag("_remove_final_layer_norm", false);
    let base = decoder(
        f,
        true,
        layers(vec![None; count as usize], &attention, &feed),
    );
    Config {
        embedding_width: f.size_or(&["word_embed_proj_dim"], base.hidden),
        position: Position::Learned {
            rows: base.max_context + OPT_UNUSED_POSITIONS,
        },
        norm: LAYER,
        placement: if before {
            Placement::Pre
        } else {
            Placement::Post
        },
        final_norm: before && !removed,
        ..base
    }
}

/// Context that BLOOM was trained with (arXiv 2211.05100, table 3); its configuration class has no field for it.
const BLOOM_CONTEXT: u64 = 2048;

fn bloom(f: &mut Fields<'_>) -> Config {
    let heads = f.size(&["n_head", "num_attention_heads"]);
    let hidden = f.size(&["hidden_size", "n_embed"]);
    let head_dim = f.divide(
        "n_head",
        hidden,
        heads,
        "the hidden size must be a multiple of the heads",
    );
    let attention = Attention {
        heads,
        kv_heads: heads,
        head_dim,
        fused_qkv: true,
        qkv_bias: true,
        out_bias: true,
        ..Attention::default()
    };
    let activation = Activation::Function(Function::GeluTanh);
    let feed = Feed::Dense(Mlp {
        intermediate: 4 * hidden,
        activation,
        gated: false,
        fused: false,
        bias: true,
    });
    let count = f.layers(&["n_layer", "num_hidden_layers"]);
    let max_context = f.size_or(&["seq_length"], BLOOM_CONTEXT);
    let layers = layers(vec![None; count as usize], &attention, &feed);
    let base = frame(f, hidden, max_context, true, layers);
    Config {
        embedding_norm: true,
        position: Position::Alibi,
        norm: LAYER,
        ..base
    }
}

/// Default of Falcon's configuration class.
const FALCON_CONTEXT: u64 = 2048;

/// Falcon: multi-query with parallel attention (7B), grouped with two norms (40B and up), or plain (1B).
fn falcon(f: &mut Fields<'_>) -> Config {
    let heads = f.size(&["num_attention_heads", "n_head"]);
    let hidden = f.size(&["hidden_size"]);
    let what = "the hidden size must be a multiple of the heads";
    let head_dim = f.divide("num_attention_heads", hidden, heads, what);
    let (new, multi_query) = (
        f.flag("new_decoder_architecture", false),
        f.flag("multi_query", true),
    );
    let kv_heads = match (new, multi_query) {
        (true, _) => f.size_or(&["num_kv_heads"], heads),
        (false, true) => 1,
        (false, false) => heads,
    };
    f.divide(
        "num_kv_heads",
        heads,
        kv_heads,
        "query heads must be a multiple of key-value heads",
    );
    let bias = f.flag("bias", false);
    let attention = Attention {
        heads,
        kv_heads,
        head_dim,
        fused_qkv: true,
        qkv_bias: bias,
        out_bias: bias,
        ..Attention::default()
    };
    let intermediate = f.size_or(&["ffn_hidden_size"], 4 * hidden);
    let activation = activation(f, &["activation"], Function::Gelu);
    let feed = Feed::Dense(Mlp {
        intermediate,
        activation,
        gated: false,
        fused: false,
        bias,
    });
    let count = f.layers(&["num_hidden_layers", "n_layer"]);
    let separate = new && f.count_or(&["num_ln_in_parallel_attn"], 2) == 2;
    let parallel = new || f.flag("parallel_attn", true);
    let alibi = f.flag("alibi", false);
    let max_context = f.size_or(&["max_position_embeddings"], FALCON_CONTEXT);
    let layers = layers(vec![None; count as usize], &attention, &feed);
    let base = frame(f, hidden, max_context, true, layers);
    Config {
        position: if alibi {
            Position::Alibi
        } else {
            Position::Rotary
        },
        norm: LAYER,
        placement: if parallel {
            Placement::Parallel { separate }
        } else {
            Placement::Pre
        },
        ..base
    }
}
