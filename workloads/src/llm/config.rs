//! The one resolved description of a decoder-only language model.
//!
//! ```text
//! tokens -> embedding (+ learned positions, x scale, norm) -> runs of layers -> final norm -> head -> logits
//! layer   = mixer (attention over a KV cache) and feed-forward (dense or experts), with norms placed around
//! ```
//!
//! Each family of models is a small reader that fills a [`Config`] from a HuggingFace `config.json`; one builder
//! makes the graph of a pass from it. What has no effect on operations or results (dropout, initial values)
//! is not kept.

use presil_numerics::LanePrimitive::{self as L, *};

use crate::build::{Function, NormKind};
use crate::formula::{Binary, Formula};

/// A decoder-only language model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Name of the model.
    pub name: String,
    /// The `model_type` of its `config.json`.
    pub model_type: String,
    /// Rows of the embedding table.
    pub vocab: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Width of the embedding table. Where it differs from `hidden`, linears without bias lead in and out.
    pub embedding_width: u64,
    /// Whether embeddings are multiplied by a constant.
    pub embedding_scale: bool,
    /// Whether embeddings are normalized.
    pub embedding_norm: bool,
    /// How positions are known.
    pub position: Position,
    /// Tokens that the model was made for. Only learned positions enforce it.
    pub max_context: u64,
    /// The norms outside attention.
    pub norm: Norm,
    /// Where norms and residual adds stand in a layer.
    pub placement: Placement,
    /// Whether a norm precedes the head.
    pub final_norm: bool,
    /// Whether the head uses the embedding table.
    pub tied: bool,
    /// Whether logits are capped by `c tanh(x / c)`.
    pub logit_softcap: bool,
    /// What execution needs beyond operations; `None` where presil has not learned it of the family: its models can be
    /// timed and not executed.
    pub values: Option<Values>,
    /// The layers, in order.
    pub runs: Vec<Run>,
}

/// Numbers that change results and no operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Values {
    /// What norms add to the mean square.
    pub norm_epsilon: f64,
    /// Base of the rotary angles, without any rescaling.
    pub rotary_base: f64,
}

/// A pattern of layers that repeats.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// One period of the pattern; at least one layer.
    pub period: Vec<Layer>,
    /// How often it repeats, at least 1.
    pub repeat: u64,
}

/// A decoder layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// How tokens exchange information.
    pub mixer: Mixer,
    /// The feed-forward part.
    pub feed: Feed,
}

/// How tokens exchange information.
#[derive(Debug, Clone, PartialEq)]
pub enum Mixer {
    /// Multi-head, grouped-query or multi-query attention.
    Attention(Attention),
    /// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434).
    Mla(Mla),
    /// Gated delta rule (arXiv 2412.06464): a matrix state for each value head instead of a KV cache.
    Delta(Delta),
}

/// Multi-head, grouped-query or multi-query attention.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attention {
    /// Query heads, a multiple of `kv_heads`.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Width of a head.
    pub head_dim: u64,
    /// Keys that a query sees at most, itself included; `None` for all earlier ones.
    pub window: Option<u64>,
    /// Whether one linear makes queries, keys and values.
    pub fused_qkv: bool,
    /// Biases of the query, key and value linears.
    pub qkv_bias: bool,
    /// Bias of the output linear.
    pub out_bias: bool,
    /// RMS norms of each query and key head.
    pub qk_norm: bool,
    /// Whether scores are capped by `c tanh(x / c)`.
    pub softcap: bool,
    /// A learned logit for each head that takes part in the softmax and is dropped after it.
    pub sinks: bool,
    /// Whether the query linear also makes a gate, whose sigmoid multiplies the output.
    pub output_gate: bool,
}

/// Multi-head latent attention: keys and values are linear in a narrow latent, which is what the cache holds,
/// beside one rotary key that all heads share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mla {
    /// Heads.
    pub heads: u64,
    /// Width of the query latent; `None`: queries come from the residual stream directly.
    pub q_rank: Option<u64>,
    /// Width of the key-value latent.
    pub kv_rank: u64,
    /// Width of a query and key head without position.
    pub nope_dim: u64,
    /// Width of the rotary part of a query and of the shared rotary key.
    pub rope_dim: u64,
    /// Width of a value head.
    pub value_dim: u64,
    /// Biases of the down-projections and of the output linear.
    pub bias: bool,
}

/// Gated delta rule with a short causal convolution before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Query and key heads; divides `value_heads`.
    pub key_heads: u64,
    /// Value heads, each with a state of `key_dim` x `value_dim`.
    pub value_heads: u64,
    /// Width of a key head.
    pub key_dim: u64,
    /// Width of a value head.
    pub value_dim: u64,
    /// Taps of the depthwise convolution.
    pub kernel: u64,
}

/// The feed-forward part of a layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Feed {
    /// The same weights for every token.
    Dense(Mlp),
    /// A mixture of experts.
    Experts(Moe),
}

/// A feed-forward network: `down(act(up x))`, or gated: `down(act(gate x) * up x)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mlp {
    /// Inner width.
    pub intermediate: u64,
    /// The activation.
    pub activation: Activation,
    /// Whether it is gated.
    pub gated: bool,
    /// Whether one linear makes gate and up.
    pub fused: bool,
    /// Biases of the linears.
    pub bias: bool,
}

/// A mixture of experts: a router linear, a choice of `top_k`, and gated experts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moe {
    /// Routed experts.
    pub experts: u64,
    /// Routed experts that a token uses.
    pub top_k: u64,
    /// The experts.
    pub expert: Mlp,
    /// How router logits become weights.
    pub scoring: Scoring,
    /// Bias of the router.
    pub router_bias: bool,
    /// Whether the chosen weights are divided by their sum.
    pub renormalize: bool,
    /// Groups of experts and how many of them a token may use.
    pub groups: Option<(u64, u64)>,
    /// An expert that every token uses.
    pub shared: Option<Mlp>,
    /// Whether the shared expert is multiplied by a gate of its own.
    pub shared_gate: bool,
}

/// How router logits become weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scoring {
    /// Softmax over all experts, then the choice.
    Softmax,
    /// The choice, then a softmax over the chosen.
    SoftmaxChosen,
    /// A sigmoid of each expert; a correction that is no parameter biases the choice.
    Sigmoid,
}

/// An activation with its gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// A function, times the other branch where gated.
    Function(Function),
    /// `(u + 1) g sigmoid(1.702 g)` of clamped gate and up (gpt-oss).
    ClampedSwiglu,
}

impl Activation {
    /// Its lane program for one element.
    pub fn program(self, gated: bool) -> Vec<L> {
        match self {
            Self::Function(f) => f
                .program()
                .iter()
                .copied()
                .chain(gated.then_some(Mul))
                .collect(),
            Self::ClampedSwiglu => vec![Max, Max, Max, Mul, Exp2, Add, Reciprocal, Mul, Fma],
        }
    }

    /// What it computes of the gate and the other branch.
    pub fn formula(self, gated: bool) -> Option<Formula> {
        let Self::Function(f) = self else { return None };
        let formula = f.formula()?;
        Some(if gated {
            formula.with_input(Binary::Multiply, 1)
        } else {
            formula
        })
    }
}

/// How positions are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Rotary: queries and keys are rotated.
    Rotary,
    /// Linear biases on scores (arXiv 2108.12409).
    Alibi,
    /// A learned table of `rows`, added to the embeddings.
    Learned {
        /// Rows of the table; may exceed the longest context.
        rows: u64,
    },
}

/// A norm outside attention; always with a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Norm {
    /// Layer or RMS norm.
    pub kind: NormKind,
    /// Whether it has a shift.
    pub bias: bool,
}

/// Where norms and residual adds stand in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// `x + f(norm x)`.
    Pre,
    /// `norm(x + f(x))`.
    Post,
    /// `x + norm(f(norm x))`.
    Sandwich,
    /// `x + attention(norm x) + mlp(norm x)`; with one norm, or `separate` ones.
    Parallel {
        /// Whether attention and MLP have norms of their own.
        separate: bool,
    },
}

impl Layer {
    /// Elements that the layer keeps for each cached token.
    pub fn cache_elements_per_token(&self) -> u64 {
        match &self.mixer {
            Mixer::Attention(a) => 2 * a.kv_heads * a.head_dim,
            Mixer::Mla(m) => m.kv_rank + m.rope_dim,
            Mixer::Delta(_) => 0,
        }
    }

    /// Elements that a decode step reads whatever the context is, its own included.
    pub fn state_elements(&self) -> u64 {
        match &self.mixer {
            Mixer::Delta(d) => {
                d.value_heads * d.key_dim * d.value_dim
                    + (2 * d.key_heads * d.key_dim + d.value_heads * d.value_dim) * d.kernel
            }
            Mixer::Attention(_) | Mixer::Mla(_) => 0,
        }
    }

    /// Keys that the newest of `context` tokens sees, itself included.
    pub fn keys(&self, context: u64) -> u64 {
        match &self.mixer {
            Mixer::Attention(a) => a.window.map_or(context, |w| w.min(context)),
            Mixer::Mla(_) | Mixer::Delta(_) => context,
        }
    }
}

impl Config {
    /// All layers in order.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.runs
            .iter()
            .flat_map(|r| (0..r.repeat).flat_map(|_| &r.period))
    }

    /// Number of layers.
    pub fn layer_count(&self) -> u64 {
        self.runs
            .iter()
            .map(|r| r.period.len() as u64 * r.repeat)
            .sum()
    }

    /// Cache elements that one more token adds over all layers while no sliding window is full: latents for
    /// MLA, keys and values of the key-value heads otherwise.
    pub fn kv_elements_per_token(&self) -> u64 {
        self.sum(|l| l.cache_elements_per_token())
    }

    /// Cache elements of one sequence that a decode step with `context` tokens reads, its own included. Sliding
    /// windows hold no more than the window; matrix states count as they are.
    pub fn kv_elements(&self, context: u64) -> u64 {
        self.sum(|l| {
            l.keys(context)
                .saturating_mul(l.cache_elements_per_token())
                .saturating_add(l.state_elements())
        })
    }

    fn sum(&self, of: impl Fn(&Layer) -> u64) -> u64 {
        let run = |r: &Run| {
            r.period
                .iter()
                .map(&of)
                .fold(0, u64::saturating_add)
                .saturating_mul(r.repeat)
        };
        self.runs.iter().map(run).fold(0, u64::saturating_add)
    }
}

/// Longest period that [`runs`] looks for. The longest known is 6 (gemma 3).
const LONGEST_PERIOD: usize = 16;

/// Groups layers into repeating patterns: at each place the period that covers most layers, the shortest of
/// equals.
pub(super) fn runs(layers: &[Layer]) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut rest = layers;
    while !rest.is_empty() {
        let mut best = (1, 1);
        for period in 1..=LONGEST_PERIOD.min(rest.len()) {
            let repeat = rest
                .chunks_exact(period)
                .take_while(|c| *c == &rest[..period])
                .count();
            if repeat * period > best.0 * best.1 && (repeat > 1 || period == 1) {
                best = (period, repeat);
            }
        }
        let (period, repeat) = best;
        runs.push(Run {
            period: rest[..period].to_vec(),
            repeat: repeat as u64,
        });
        rest = &rest[period * repeat..];
    }
    runs
}
