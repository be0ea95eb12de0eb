//! Gemma 1, 2 and 3.

use super::*;

pub(super) fn gemma(f: &mut Fields<'_>) -> Config {
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

pub(super) fn gemma2(f: &mut Fields<'_>) -> Config {
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

pub(super) fn gemma3(f: &mut Fields<'_>) -> Config {
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
