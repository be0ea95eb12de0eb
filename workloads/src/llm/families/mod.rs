//! One reader for each family of models: from the fields of its `config.json` to a [`Config`].
//!
//! Defaults for fields that a file leaves out are those of the family's configuration class in HuggingFace
//! transformers 5.23; sizes that every real file states have none. To add a family, write its reader and name it
//! in [`FAMILIES`].

mod classic;
mod deepseek;
mod gemma;
mod llama;
mod qwen;

use presil_numerics::diagnostic::nearest;

use super::config::*;
use super::fields::Fields;
use crate::build::{Function, NormKind};
use crate::model::ModelError;

type Reader = fn(&mut Fields<'_>) -> Config;

/// Families by `model_type`.
const FAMILIES: &[(&str, Reader)] = &[
    ("bloom", classic::bloom),
    ("deepseek_v2", deepseek::deepseek),
    ("deepseek_v3", deepseek::deepseek),
    ("falcon", classic::falcon),
    ("gemma", gemma::gemma),
    ("gemma2", gemma::gemma2),
    ("gemma3_text", gemma::gemma3),
    ("gpt2", classic::gpt2),
    ("gpt_oss", llama::gpt_oss),
    ("llama", llama::llama),
    ("mistral", llama::mistral),
    ("mixtral", llama::mixtral),
    ("opt", classic::opt),
    ("phi3", llama::phi3),
    ("qwen2", qwen::qwen2),
    ("qwen2_moe", qwen::qwen2),
    ("qwen3", qwen::qwen3),
    ("qwen3_moe", qwen::qwen3),
    ("qwen3_next", qwen::qwen3_next),
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
            return Err(fields.into_error());
        };
        let Some((_, reader)) = FAMILIES.iter().find(|(t, _)| *t == model_type) else {
            let known: Vec<&str> = FAMILIES.iter().map(|(t, _)| *t).collect();
            let near = nearest(&model_type, known.iter().copied());
            let near = near.map_or(String::new(), |n| format!(" (did you mean `{n}`?)"));
            let inner = match fields.has("text_config") {
                true => {
                    "; the language part of a multimodal model is its `text_config`, which may be a file of its own"
                }
                false => "",
            };
            let known = known.join(", ");
            let reason = format!(
                "model_type `{model_type}` is not supported{near}; presil builds {known}{inner}"
            );
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
        values: None,
        runs: runs(&layers),
    }
}

/// What execution needs of a family whose norms and rotary positions are Llama's.
fn llama_values(f: &mut Fields<'_>) -> Option<Values> {
    let scaled = f.has("rope_scaling") || f.has("partial_rotary_factor");
    let values = Values {
        norm_epsilon: f.real_or("rms_norm_eps", 1e-6),
        rotary_base: f.real_or("rope_theta", 1e4),
    };
    (!scaled).then_some(values)
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
