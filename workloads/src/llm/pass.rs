//! The graph of a pass: embedding, layers, head.

use presil_numerics::LanePrimitive::{Fma, Mul};

use super::config::*;
use super::routing;
use crate::build::{self, Builder, Function, Mask};
use crate::einsum::{DimId, Domain};
use crate::graph::{Graph, GraphError};
use crate::meaning::Meaning;
use crate::model::{ModelError, Pass, Request};
use crate::op::{OpClass, OpKind};
use crate::tensor::{Role, TensorId};

/// A graph in the making, and what all layers need to know.
pub(super) struct Maker<'a> {
    pub b: Builder,
    pub config: &'a Config,
    /// Sequences.
    pub batch: u64,
    /// New tokens of a sequence.
    pub tokens: u64,
    /// Tokens of a sequence, new ones included.
    pub context: u64,
    /// Whether earlier tokens are in the cache.
    pub decode: bool,
    /// Whether MLA is absorbed where that helps.
    pub absorb: bool,
    request: &'a Request,
    /// Tables of cosines and sines by width.
    tables: Vec<(u64, TensorId)>,
}

/// The graph of a pass.
///
/// Errors: a [`Pass::Forward`], a batch or context of 0 or beyond learned positions, a routing that does not fit
/// the experts, sizes that do not fit 64 bits.
pub fn build(config: &Config, request: &Request) -> Result<Graph, ModelError> {
    let fail = |reason: String| {
        Err(ModelError::Unsupported {
            model: config.name.clone(),
            reason,
        })
    };
    let (tokens, context, decode) = match request.pass {
        Pass::Prefill { prompt } => (prompt, prompt, false),
        Pass::Decode { context } => (1, context, true),
        Pass::Forward => {
            let reason = "a language model has a prefill and a decode pass: give --prompt, or --phase and --context";
            return fail(reason.into());
        }
    };
    if request.batch == 0 || context == 0 {
        return fail("batch, prompt and context must be at least 1".into());
    }
    if let Position::Learned { .. } = config.position
        && context > config.max_context
    {
        let most = config.max_context;
        return fail(format!(
            "it has learned positions for {most} tokens, so a context of {context} is not possible; prompt and generated tokens together are at most that many"
        ));
    }
    if let Err(reason) = check_sizes(config, request.batch, tokens, context) {
        return fail(reason);
    }
    let assumptions = match assumptions(config, request, tokens, context, decode) {
        Ok(assumptions) => assumptions,
        Err(e) => return fail(e.to_string()),
    };
    let phase = if decode { "decode" } else { "prefill" };
    let mut name = format!("{} {phase} {context}", config.name);
    if request.batch > 1 {
        name = format!("{name} batch {}", request.batch);
    }
    let mut maker = Maker {
        b: Builder::new(name),
        config,
        batch: request.batch,
        tokens,
        context,
        decode,
        absorb: request.absorb_mla && decode,
        request,
        tables: Vec::new(),
    };
    maker.b.graph.assumptions = assumptions;
    let made = maker.model().and_then(|()| maker.b.finish());
    made.map_err(|error| ModelError::Graph {
        model: config.name.clone(),
        error,
    })
}

/// Refuses sizes whose products, as the builder forms them, would not fit; so that it can multiply freely.
fn check_sizes(config: &Config, batch: u64, tokens: u64, context: u64) -> Result<(), String> {
    let product = |factors: &[u64]| {
        let all = factors
            .iter()
            .try_fold(1u64, |n, f| n.checked_mul(*f))
            .filter(|n| *n <= i64::MAX as u64);
        all.ok_or_else(|| format!("its tensors do not fit 64 bits ({factors:?})"))
    };
    let some = |sizes: &[u64]| match sizes.contains(&0) {
        true => Err("a size is 0".to_string()),
        false => Ok(()),
    };
    let rows = product(&[batch, context])?;
    some(&[config.vocab, config.hidden, config.embedding_width])?;
    product(&[
        rows,
        config.vocab.max(config.hidden).max(config.embedding_width),
    ])?;
    for layer in config.runs.iter().flat_map(|r| &r.period) {
        match &layer.mixer {
            Mixer::Attention(a) => {
                some(&[a.heads, a.kv_heads, a.head_dim, a.window.unwrap_or(1)])?;
                let all = a.heads.saturating_add(2 * a.kv_heads.min(1 << 62));
                product(&[rows, 2, all, a.head_dim])?;
                product(&[batch, a.heads, tokens, context])?;
            }
            Mixer::Mla(m) => {
                let widths = [
                    m.q_rank.unwrap_or(1),
                    m.kv_rank,
                    m.nope_dim,
                    m.rope_dim,
                    m.value_dim,
                ];
                some(&widths)?;
                some(&[m.heads])?;
                let width = widths.iter().fold(0u64, |a, w| a.saturating_add(*w));
                product(&[rows, m.heads, width])?;
                product(&[batch, m.heads, tokens, context])?;
            }
            Mixer::Delta(d) => {
                some(&[d.key_heads, d.value_heads, d.key_dim, d.value_dim, d.kernel])?;
                if d.value_heads % d.key_heads != 0 {
                    return Err(format!(
                        "{} value heads are no multiple of {} key heads",
                        d.value_heads, d.key_heads
                    ));
                }
                product(&[
                    rows,
                    d.value_heads.max(d.key_heads),
                    d.key_dim,
                    d.value_dim,
                    8,
                    d.kernel,
                ])?;
            }
        }
        let mlp = |m: &Mlp, rows: u64| {
            some(&[m.intermediate]).and(product(&[rows, 2, m.intermediate]).map(|_| ()))
        };
        match &layer.feed {
            Feed::Dense(m) => mlp(m, rows)?,
            Feed::Experts(m) => {
                some(&[m.experts, m.top_k])?;
                if m.top_k > m.experts {
                    return Err(format!("{} experts per token of {}", m.top_k, m.experts));
                }
                let (groups, chosen) = m.groups.unwrap_or((1, 1));
                some(&[groups, chosen])?;
                let used = product(&[rows, m.top_k])?;
                mlp(&m.expert, used)?;
                product(&[used, config.hidden])?;
                product(&[rows, m.experts, 64])?;
                m.shared.as_ref().map_or(Ok(()), |s| mlp(s, rows))?;
            }
        }
    }
    Ok(())
}

/// What a report must say about the graph.
fn assumptions(
    config: &Config,
    request: &Request,
    tokens: u64,
    context: u64,
    decode: bool,
) -> Result<Vec<String>, routing::RoutingError> {
    let mut facts = Vec::new();
    if !decode {
        facts.push("the head runs on the last token of each prompt only".to_string());
    }
    if config.position == Position::Rotary && context > config.max_context {
        facts.push(format!(
            "the context {context} exceeds the {} tokens that the model was made for",
            config.max_context
        ));
    }
    let layers = || config.runs.iter().flat_map(|r| &r.period);
    let slides = |l: &Layer| matches!(&l.mixer, Mixer::Attention(a) if a.window.is_some_and(|w| w < context));
    if layers().any(slides) {
        facts.push(match decode {
            true => "sliding-window layers read no more keys than their window from the cache".into(),
            false => "sliding-window layers execute the pairs inside the window and cache its earlier tokens only".to_string(),
        });
    }
    if layers().any(|l| matches!(l.mixer, Mixer::Mla(_))) {
        facts.push(match (decode, request.absorb_mla) {
            (true, true) => {
                "MLA absorbed: up-projections multiply queries and outputs, attention reads latents"
                    .into()
            }
            (true, false) => {
                "MLA expanded: keys and values are made from all cached latents at each step".into()
            }
            (false, _) => {
                "MLA expanded in prefill: keys and values are made from the latents".to_string()
            }
        });
    }
    if layers().any(|l| matches!(l.mixer, Mixer::Delta(_))) {
        facts.push("gated delta rule executed token by token; its state updates are lane work, its read-outs MACs".into());
    }
    let mut seen = Vec::new();
    for layer in layers() {
        if let Feed::Experts(m) = &layer.feed
            && !seen.contains(&(m.experts, m.top_k))
        {
            seen.push((m.experts, m.top_k));
            let all = request.batch * tokens;
            let distinct = routing::distinct(&request.routing, m.experts, m.top_k, all)?;
            facts.push(format!(
                "experts touched per layer: {distinct:.2} of {} expected ({all} tokens x {} experts, {}, tokens independent)",
                m.experts,
                m.top_k,
                routing::describe(&request.routing)
            ));
        }
    }
    Ok(facts)
}

impl Maker<'_> {
    /// The shape [batch, tokens, ..] of new tokens.
    pub fn shape(&self, rest: &[u64]) -> Vec<u64> {
        [self.batch, self.tokens]
            .iter()
            .chain(rest)
            .copied()
            .collect()
    }

    /// Expected number of distinct experts.
    pub fn distinct(&self, m: &Moe) -> Result<f64, GraphError> {
        routing::distinct(
            &self.request.routing,
            m.experts,
            m.top_k,
            self.batch * self.tokens,
        )
        .map_err(|e| Builder::shape_error("router", e.to_string()))
    }

    fn model(&mut self) -> Result<(), GraphError> {
        let c = self.config;
        let tokens = self.b.input("tokens", &[self.batch, self.tokens]);
        let table = self
            .b
            .weight("embed_tokens.weight", &[c.vocab, c.embedding_width]);
        let mut x = self.b.gather("embed_tokens", table, tokens)?;
        if c.embedding_width != c.hidden {
            x = self.b.linear("project_in", x, c.hidden, false)?;
        }
        if c.embedding_scale {
            x = self
                .b
                .elementwise("embed_scale", OpClass::Elementwise, &[x], &[Mul])?;
        }
        if let Position::Learned { rows } = c.position {
            let table = self.b.weight("embed_positions.weight", &[rows, c.hidden]);
            let places = self.b.tensor("positions", &[self.tokens], Role::Constant);
            let position = self.b.gather("embed_positions", table, places)?;
            x = self.b.add("embed_add", x, position)?;
        }
        if c.embedding_norm {
            x = self.norm("embed_norm", x)?;
        }
        self.b.end_block("embedding", 1);
        let mut first = 0;
        for run in &c.runs {
            let entered = x;
            for (i, layer) in (first..).zip(&run.period) {
                x = self.layer(&format!("layers.{i}"), x, layer)?;
            }
            let layers = run.period.len() as u64 * run.repeat;
            let name = match c.runs.len() {
                1 => "layers".to_string(),
                _ if layers == 1 => format!("layer {first}"),
                _ => format!("layers {first}-{}", first + layers - 1),
            };
            self.b.end_block(name, run.repeat);
            self.b.carries(entered, x);
            first += layers;
        }
        if c.final_norm {
            x = self.norm("norm", x)?;
        }
        if c.embedding_width != c.hidden {
            x = self.b.linear("project_out", x, c.embedding_width, false)?;
        }
        if self.tokens > 1 {
            let shape = [self.batch, 1, c.embedding_width];
            x = self
                .b
                .part("last_token", x, 1, [self.tokens - 1, 1], &shape)?;
        }
        let head = if c.tied {
            table
        } else {
            self.b
                .weight("lm_head.weight", &[c.vocab, c.embedding_width])
        };
        let mut logits = self.b.linear_with("lm_head", x, head, None)?;
        if c.logit_softcap {
            logits =
                self.b
                    .elementwise("logit_softcap", OpClass::Activation, &[logits], &softcap())?;
        }
        self.b.output(logits);
        self.b.end_block("head", 1);
        Ok(())
    }

    fn layer(&mut self, p: &str, x: TensorId, layer: &Layer) -> Result<TensorId, GraphError> {
        let name = |part: &str| format!("{p}.{part}");
        match self.config.placement {
            Placement::Pre => {
                let h = self.norm(&name("input_layernorm"), x)?;
                let h = self.mix(p, h, layer)?;
                let x = self.b.add(&name("attn_residual"), x, h)?;
                let h = self.norm(&name("post_attention_layernorm"), x)?;
                let h = self.feed(p, h, layer)?;
                self.b.add(&name("mlp_residual"), x, h)
            }
            Placement::Post => {
                let h = self.mix(p, x, layer)?;
                let x = self.b.add(&name("attn_residual"), x, h)?;
                let x = self.norm(&name("attn_layernorm"), x)?;
                let h = self.feed(p, x, layer)?;
                let x = self.b.add(&name("mlp_residual"), x, h)?;
                self.norm(&name("mlp_layernorm"), x)
            }
            Placement::Sandwich => {
                let h = self.norm(&name("input_layernorm"), x)?;
                let h = self.mix(p, h, layer)?;
                let h = self.norm(&name("post_attention_layernorm"), h)?;
                let x = self.b.add(&name("attn_residual"), x, h)?;
                let h = self.norm(&name("pre_feedforward_layernorm"), x)?;
                let h = self.feed(p, h, layer)?;
                let h = self.norm(&name("post_feedforward_layernorm"), h)?;
                self.b.add(&name("mlp_residual"), x, h)
            }
            Placement::Parallel { separate } => {
                let h = self.norm(&name("input_layernorm"), x)?;
                let to_feed = if separate {
                    self.norm(&name("mlp_layernorm"), x)?
                } else {
                    h
                };
                let a = self.mix(p, h, layer)?;
                let m = self.feed(p, to_feed, layer)?;
                let both = self.b.add(&name("branch_add"), a, m)?;
                self.b.add(&name("residual"), x, both)
            }
        }
    }

    fn mix(&mut self, p: &str, x: TensorId, layer: &Layer) -> Result<TensorId, GraphError> {
        match &layer.mixer {
            Mixer::Attention(a) => self.attention(&format!("{p}.self_attn"), x, a),
            Mixer::Mla(m) => self.mla(&format!("{p}.self_attn"), x, m),
            Mixer::Delta(d) => self.delta(&format!("{p}.linear_attn"), x, d),
        }
    }

    fn feed(&mut self, p: &str, x: TensorId, layer: &Layer) -> Result<TensorId, GraphError> {
        match &layer.feed {
            Feed::Dense(m) => self.mlp(&format!("{p}.mlp"), x, m),
            Feed::Experts(m) => self.experts(&format!("{p}.mlp"), x, m),
        }
    }

    fn norm(&mut self, name: &str, x: TensorId) -> Result<TensorId, GraphError> {
        let norm = self.config.norm;
        let out = self.b.norm(name, x, norm.kind, true, norm.bias)?;
        self.norm_means();
        Ok(out)
    }

    /// What the norm that was pushed last computes.
    pub fn norm_means(&mut self) {
        match self.config.values {
            Some(values) => self.b.with_epsilon(values.norm_epsilon),
            None => self.b.means(Meaning::Unstated),
        }
    }

    /// Rotates `x`, seen as [batch, tokens, heads, width].
    pub fn rotate(
        &mut self,
        name: &str,
        x: TensorId,
        heads: u64,
        width: u64,
    ) -> Result<TensorId, GraphError> {
        let table = match self.tables.iter().find(|(w, _)| *w == width) {
            Some((_, table)) => *table,
            None => {
                let table = self.b.tensor(
                    format!("rope.{width}"),
                    &[self.tokens, width],
                    Role::Constant,
                );
                self.b.graph.tensors[table].shared = true;
                self.tables.push((width, table));
                table
            }
        };
        let shape = self.shape(&[heads, width]);
        let rotary = self.config.values.map(|v| Meaning::Rotary {
            base: v.rotary_base,
            first: self.context - self.tokens,
            neighbours: false,
        });
        let out = self.b.rotary(name, x, table, &shape)?;
        self.b.means(rotary.unwrap_or_default());
        Ok(out)
    }

    /// Limits the last op, elementwise over [batch, heads, queries, keys], to the pairs inside the mask.
    pub fn within(&mut self, mask: Mask) {
        let (query, key) = (DimId(2), DimId(3));
        let domain = match mask {
            Mask::Full => Domain::Dense,
            Mask::Causal { past } => Domain::Causal {
                query,
                key,
                offset: past as i64,
            },
            Mask::Sliding { past, window } => Domain::Banded {
                query,
                key,
                offset: past as i64,
                window,
            },
        };
        if let Some(op) = self.b.last_op()
            && let OpKind::Cascade(einsums) = &mut op.kind
        {
            for e in einsums {
                e.domain = domain.clone();
            }
        }
    }

    /// A cache of one layer that holds `rows` tokens of each sequence.
    pub fn cache(&mut self, name: String, rows: u64, width: &[u64]) -> TensorId {
        let shape: Vec<u64> = [self.batch, rows].iter().chain(width).copied().collect();
        self.b.tensor(name, &shape, Role::Cache)
    }

    /// Writes the last `rows` of the new tokens' `x` to a cache.
    pub fn write(&mut self, name: &str, x: TensorId, rows: u64, cache: TensorId) {
        let mut shape = self.b.shape(x).to_vec();
        let mut x = x;
        if rows < self.tokens
            && let Some(length) = shape.get_mut(1)
        {
            *length = rows;
            x = self.b.view(&format!("{name}.last"), x, &shape);
        }
        self.b.cache_write(name, x, cache);
    }

    /// Scores, position biases and caps, softmax and values; `softmax` may adjust the softmax op.
    pub fn attend(
        &mut self,
        p: &str,
        [q, k, v]: [TensorId; 3],
        a: &build::Attention,
        softcapped: bool,
        sinks: Option<TensorId>,
    ) -> Result<TensorId, GraphError> {
        let mut scores = self.b.attention_scores(&format!("{p}.scores"), q, k, a)?;
        if self.config.position == Position::Alibi {
            let biases = self.b.tensor(
                format!("{p}.alibi_biases"),
                &[a.heads, 1, a.key_length],
                Role::Constant,
            );
            self.b.graph.tensors[biases].shared = true;
            scores = self.b.elementwise(
                &format!("{p}.alibi"),
                OpClass::Position,
                &[scores, biases],
                &[Fma],
            )?;
            self.within(a.mask);
        }
        if softcapped {
            scores = self.b.elementwise(
                &format!("{p}.softcap"),
                OpClass::Activation,
                &[scores],
                &softcap(),
            )?;
            self.within(a.mask);
        }
        let weights = self
            .b
            .attention_softmax(&format!("{p}.softmax"), scores, a)?;
        if let Some(sinks) = sinks {
            self.add_sinks(sinks);
        }
        self.b
            .attention_values(&format!("{p}.values"), weights, v, a)
    }
}

/// `c tanh(x / c)`.
fn softcap() -> Vec<presil_numerics::LanePrimitive> {
    [Mul]
        .iter()
        .chain(Function::Tanh.program())
        .chain(&[Mul])
        .copied()
        .collect()
}
