//! Llama and the families that differ from it little: Mistral, Mixtral, Phi-3, gpt-oss.

use super::*;

pub(super) fn llama(f: &mut Fields<'_>) -> Config {
    let bias = f.flag("attention_bias", false);
    let attention = Attention {
        qkv_bias: bias,
        out_bias: bias,
        ..grouped(f, None)
    };
    let mlp_bias = f.flag("mlp_bias", false);
    let feed = Feed::Dense(gated(f, mlp_bias));
    let windows = windows(f, None, |_| false);
    Config {
        values: llama_values(f),
        ..decoder(f, false, layers(windows, &attention, &feed))
    }
}

pub(super) fn mistral(f: &mut Fields<'_>) -> Config {
    let (attention, feed) = (grouped(f, None), Feed::Dense(gated(f, false)));
    let window = sliding_window(f, Some(4096));
    let windows = windows(f, window, |_| true);
    Config {
        values: llama_values(f),
        ..decoder(f, false, layers(windows, &attention, &feed))
    }
}

pub(super) fn mixtral(f: &mut Fields<'_>) -> Config {
    let attention = grouped(f, None);
    let feed = Feed::Experts(experts(f, &["num_local_experts"], &["intermediate_size"]));
    let window = sliding_window(f, None);
    let windows = windows(f, window, |_| true);
    decoder(f, false, layers(windows, &attention, &feed))
}

pub(super) fn phi3(f: &mut Fields<'_>) -> Config {
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

pub(super) fn gpt_oss(f: &mut Fields<'_>) -> Config {
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
