//! BERT (Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", 2018), in the form of HuggingFace
//! transformers, from a `config.json`. Without a mask every token attends to every token.

use serde::Deserialize;

use super::{Built, Fault, Inputs, configuration};
use crate::build::{Attention, Builder, Function, Mask, NormKind};
use crate::tensor::{Role, TensorId};

pub const BASE: &str = include_str!("../../../configs/models/bert-base.json");
pub const LARGE: &str = include_str!("../../../configs/models/bert-large.json");

/// Token ids [batch, tokens].
pub const INPUTS: &[(&str, &[u64])] = &[("input_ids", &[512])];

#[derive(Deserialize)]
struct Config {
    architectures: Vec<String>,
    hidden_act: String,
    hidden_size: u64,
    intermediate_size: u64,
    max_position_embeddings: u64,
    num_attention_heads: u64,
    num_hidden_layers: u64,
    type_vocab_size: u64,
    vocab_size: u64,
}

/// Builds a BERT: with a pooler (`BertModel`) or with a head for spans (`BertForQuestionAnswering`).
pub fn build(b: &mut Builder, inputs: &Inputs, text: &str) -> Built {
    let c: Config = configuration(text)?;
    let [batch, tokens] = inputs.shape::<2>("input_ids")?;
    if tokens > c.max_position_embeddings {
        let reason = format!(
            "reads at most {} tokens, not {tokens}",
            c.max_position_embeddings
        );
        return Err(Fault::Unsupported(reason));
    }
    if c.hidden_act != "gelu"
        || c.num_attention_heads == 0
        || !c.hidden_size.is_multiple_of(c.num_attention_heads)
    {
        return Err(Fault::Unsupported(
            "needs GELU and heads that divide its width".into(),
        ));
    }
    let hidden = c.hidden_size;
    let x = embeddings(b, &c, batch, tokens)?;
    b.end_block("embeddings", 1);

    let name = |part: &str| format!("encoder.layer.{part}");
    let [q, k, v] = ["query", "key", "value"]
        .map(|part| b.linear(&name(&format!("attention.self.{part}")), x, hidden, true));
    let attention = Attention {
        batch,
        heads: c.num_attention_heads,
        kv_heads: c.num_attention_heads,
        query_length: tokens,
        key_length: tokens,
        key_width: hidden / c.num_attention_heads,
        value_width: hidden / c.num_attention_heads,
        mask: Mask::Full,
    };
    let y = b.attention(&name("attention.self"), [q?, k?, v?], &attention)?;
    let y = b.linear(&name("attention.output.dense"), y, hidden, true)?;
    let y = b.add(&name("attention.output.add"), y, x)?;
    let x = b.norm(
        &name("attention.output.LayerNorm"),
        y,
        NormKind::Layer,
        true,
        true,
    )?;
    let y = b.linear(&name("intermediate.dense"), x, c.intermediate_size, true)?;
    let y = b.function(&name("intermediate.gelu"), y, Function::Gelu)?;
    let y = b.linear(&name("output.dense"), y, hidden, true)?;
    let y = b.add(&name("output.add"), y, x)?;
    let x = b.norm(&name("output.LayerNorm"), y, NormKind::Layer, true, true)?;
    b.end_block("encoder", c.num_hidden_layers);

    match c.architectures.first().map(String::as_str) {
        Some("BertForQuestionAnswering") => {
            let spans = b.linear("qa_outputs", x, 2, true)?;
            b.output(spans);
        }
        Some("BertModel") => {
            b.output(x);
            let first = b.view("pooler.first", x, &[batch, hidden]);
            let pooled = b.linear("pooler.dense", first, hidden, true)?;
            let pooled = b.function("pooler.tanh", pooled, Function::Tanh)?;
            b.output(pooled);
        }
        other => {
            return Err(Fault::Unsupported(format!(
                "has an architecture that presil does not build: {other:?}"
            )));
        }
    }
    Ok(())
}

/// Word, segment and position embeddings, added and normalized.
fn embeddings(b: &mut Builder, c: &Config, batch: u64, tokens: u64) -> Result<TensorId, Fault> {
    let words = b.input("input_ids", &[batch, tokens]);
    let segments = b.input("token_type_ids", &[batch, tokens]);
    let positions = b.tensor("position_ids", &[1, tokens], Role::Constant);
    let mut look_up = |part: &str, entries: u64, indices: TensorId| {
        let table = b.weight(
            format!("embeddings.{part}_embeddings.weight"),
            &[entries, c.hidden_size],
        );
        b.gather(&format!("embeddings.{part}_embeddings"), table, indices)
    };
    let word = look_up("word", c.vocab_size, words)?;
    let segment = look_up("token_type", c.type_vocab_size, segments)?;
    let position = look_up("position", c.max_position_embeddings, positions)?;
    let x = b.add("embeddings.add_type", word, segment)?;
    let x = b.add("embeddings.add_position", x, position)?;
    Ok(b.norm("embeddings.LayerNorm", x, NormKind::Layer, true, true)?)
}
