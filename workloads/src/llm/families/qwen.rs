//! Qwen 2, 3 and Next, dense and with experts.

use super::*;

/// Qwen 2 and 3: sliding windows only where switched on, and then from `max_window_layers` on.
fn qwen_windows(f: &mut Fields<'_>) -> Vec<Option<u64>> {
    let window = sliding_window(f, Some(4096));
    let on = f.flag("use_sliding_window", false);
    let from = f.count_or(&["max_window_layers"], 28);
    windows(f, window.filter(|_| on), |i| i >= from)
}

pub(super) fn qwen2(f: &mut Fields<'_>) -> Config {
    let attention = Attention {
        qkv_bias: true,
        ..grouped(f, None)
    };
    let windows = qwen_windows(f);
    let mut layers = layers(windows, &attention, &Feed::Dense(gated(f, false)));
    if f.is_family(&["qwen2_moe"]) {
        qwen_experts(f, &mut layers);
    }
    Config {
        values: llama_values(f),
        ..decoder(f, false, layers)
    }
}

pub(super) fn qwen3(f: &mut Fields<'_>) -> Config {
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
    Config {
        values: llama_values(f),
        ..decoder(f, false, layers)
    }
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

pub(super) fn qwen3_next(f: &mut Fields<'_>) -> Config {
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
