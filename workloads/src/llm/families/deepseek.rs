//! DeepSeek-V2 and -V3.

use super::*;

pub(super) fn deepseek(f: &mut Fields<'_>) -> Config {
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
