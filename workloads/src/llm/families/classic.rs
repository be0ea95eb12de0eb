//! Families with layer norms: GPT-2, OPT, BLOOM, Falcon.

use super::*;

/// GPT-2 keeps one linear for queries, keys and values, layer norms and learned positions.
pub(super) fn gpt2(f: &mut Fields<'_>) -> Config {
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

pub(super) fn opt(f: &mut Fields<'_>) -> Config {
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

pub(super) fn bloom(f: &mut Fields<'_>) -> Config {
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
pub(super) fn falcon(f: &mut Fields<'_>) -> Config {
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
