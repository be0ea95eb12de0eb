//! Decoder-only language models by configuration.
//!
//! [`Config`] is the one description that every family resolves to; [`Config::read`] fills it from a HuggingFace
//! `config.json`, [`build`] makes the graph of a pass from it.
//!
//! # Passes
//!
//! - **Prefill** of `S` tokens: attention over the fresh keys and values, which are also written to the cache;
//!   the head runs on the last token only.
//! - **Decode** at context `L`: one new token for each sequence attends to `L` keys, its own included; keys and
//!   values are read from the cache, after the new ones are written to it. A sliding window of `W` keeps `W - 1`
//!   earlier tokens.
//!
//! Equal layers are built once, as blocks that repeat; so an 80-layer model is a few dozen ops.
//!
//! # What ops stand for
//!
//! - `1 / sqrt(width)` on scores is folded into the softmax. Softmax, caps and linear position biases run over the
//!   pairs inside the mask.
//! - The activation and the product with its gate are one op, as kernels have it.
//! - The rotary embedding is one op for queries and one for keys with the lane program shuffle, multiply,
//!   multiply-add for each element; cosines and sines come from a table. Where only a part of a head is rotary,
//!   the rest turns by the angle 0.
//! - MLA ([`Mla`]) is *expanded* (keys and values made from all cached latents at each step, as HuggingFace
//!   transformers does) or *absorbed* (the up-projections multiply queries and outputs, so that attention is
//!   multi-query over latents). Prefill is always expanded: it needs fewer operations there.
//! - A mixture of experts is a router linear, its scores, the choice, a look-up of rows by expert, the experts'
//!   linears over `tokens x top_k` rows, and the weighted sum. See [`routing`] for the experts touched.

mod config;
mod delta;
mod families;
mod feed;
mod fields;
mod mixer;
mod pass;
pub mod routing;
#[cfg(test)]
mod tests;

pub use config::{
    Activation, Attention, Config, Delta, Feed, Layer, Mixer, Mla, Mlp, Moe, Norm, Placement,
    Position, Run, Scoring,
};
pub use pass::build;

use crate::model::ModelError;

/// Embeds `configs/models/NAME.json`.
macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../configs/models/", $name, ".json")))),*]
    };
}

/// Configurations that ship, sorted by name. Their sources are in `configs/models/SOURCES.toml`.
const SHIPPED: &[(&str, &str)] = shipped![
    "bloom-560m",
    "bloom-7b1",
    "deepseek-v2-lite",
    "deepseek-v3",
    "falcon-7b",
    "gemma-2b",
    "gemma2-2b",
    "gemma2-9b",
    "gemma3-1b",
    "gpt-oss-20b",
    "gpt2",
    "gpt2-large",
    "gpt2-medium",
    "gpt2-xl",
    "llama1-13b",
    "llama1-65b",
    "llama1-7b",
    "llama2-13b",
    "llama2-70b",
    "llama2-7b",
    "llama3-70b",
    "llama3-8b",
    "llama3.2-1b",
    "llama3.2-3b",
    "mistral-7b-v0.1",
    "mistral-7b-v0.3",
    "mixtral-8x7b",
    "opt-1.3b",
    "opt-125m",
    "opt-13b",
    "opt-2.7b",
    "opt-350m",
    "opt-6.7b",
    "phi-3-mini-4k",
    "phi-3.5-mini",
    "qwen2.5-0.5b",
    "qwen2.5-3b",
    "qwen2.5-7b",
    "qwen3-0.6b",
    "qwen3-235b-a22b",
    "qwen3-30b-a3b",
    "qwen3-8b",
    "qwen3-next-80b-a3b",
    "smollm2-135m",
    "tinyllama-1.1b",
];

/// Names that ship, sorted.
pub fn names() -> Vec<&'static str> {
    SHIPPED.iter().map(|(name, _)| *name).collect()
}

/// The configuration that ships under a name.
pub fn named(name: &str) -> Option<Result<Config, ModelError>> {
    SHIPPED
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(name, text)| Config::read(name, text))
}
