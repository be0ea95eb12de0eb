//! Linears, attention, experts and other matmuls.

use presil_numerics::LanePrimitive as L;

use crate::einsum::{DimId, Domain, Einsum, MapOperator, Place, ReduceOperator};
use crate::graph::GraphError;
use crate::meaning::Meaning;
use crate::op::OpClass;
use crate::tensor::TensorId;

use super::{Builder, dims, plain, signed, single};

/// Which keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// All of them.
    Full,
    /// Those not later than itself, given the tokens already in the cache.
    Causal {
        /// Tokens already in the cache.
        past: u64,
    },
    /// The last `window` of those, itself included.
    Sliding {
        /// Tokens already in the cache, as far as the cache still holds them.
        past: u64,
        /// Keys seen at most.
        window: u64,
    },
}

/// Shape of a scaled-dot-product attention. Queries are [batch, query_length, heads x width], keys and values
/// [batch, key_length, kv_heads x width].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attention {
    /// Sequences.
    pub batch: u64,
    /// Query heads; a multiple of `kv_heads`.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Queries of a sequence.
    pub query_length: u64,
    /// Keys of a sequence, cached ones included.
    pub key_length: u64,
    /// Width of a query and key head.
    pub key_width: u64,
    /// Width of a value head.
    pub value_width: u64,
    /// Which keys a query sees.
    pub mask: Mask,
}

/// Shape of a mixture-of-experts linear: `rows` = tokens x top_k rows of `in_features` over `experts` experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// Experts that exist.
    pub experts: u64,
    /// Rows over all experts (tokens x experts per token).
    pub rows: u64,
    /// Expected number of distinct experts touched.
    pub distinct: f64,
    /// Width of a row.
    pub in_features: u64,
    /// Outputs of an expert.
    pub out_features: u64,
}

impl Builder {
    /// A linear of `x` [.., features] with weights of its own [out, features], made as `name.weight`
    /// (and `name.bias`).
    pub fn linear(
        &mut self,
        name: &str,
        x: TensorId,
        out: u64,
        bias: bool,
    ) -> Result<TensorId, GraphError> {
        let features = self.shape(x).last().copied().unwrap_or(0);
        let weight = self.weight(format!("{name}.weight"), &[out, features]);
        let bias = bias.then(|| self.weight(format!("{name}.bias"), &[out]));
        self.linear_with(name, x, weight, bias)
    }

    /// A linear of `x` [.., k] with given weights [n, k] (row-major, as frameworks store them).
    pub fn linear_with(
        &mut self,
        name: &str,
        x: TensorId,
        weight: TensorId,
        bias: Option<TensorId>,
    ) -> Result<TensorId, GraphError> {
        let shape = self.shape(x).to_vec();
        let (Some((&k, outer)), &[n, wk]) = (shape.split_last(), self.shape(weight)) else {
            return Err(Self::shape_error(
                name,
                "a linear needs an input of one or more ranks and a weight of two",
            ));
        };
        if k != wk || k == 0 || n == 0 {
            return Err(Self::shape_error(
                name,
                format!("inputs of width {k} do not fit weights of width {wk}"),
            ));
        }
        let rows = outer
            .iter()
            .try_fold(1u64, |a, &d| a.checked_mul(d))
            .filter(|r| *r > 0);
        let rows = rows.ok_or_else(|| {
            Self::shape_error(name, format!("input shape {shape:?} is empty or too large"))
        })?;
        let dims = dims(&[("m", rows), ("n", n), ("k", k)]);
        let einsum = Einsum {
            inputs: vec![
                plain(Place::Input(0), &dims, &[0, 2]),
                plain(Place::Input(1), &dims, &[1, 2]),
            ],
            output: plain(Place::Output(0), &dims, &[0, 1]),
            dims,
            map: MapOperator::MultiplyAccumulate,
            reduce: ReduceOperator::Sum,
            domain: Domain::Dense,
        };
        let inputs: Vec<TensorId> = [x, weight].into_iter().chain(bias).collect();
        let out_shape: Vec<u64> = outer.iter().copied().chain([n]).collect();
        let out = self.push(name, OpClass::Linear, single(einsum), &inputs, &out_shape);
        let bias_rank = outer.len();
        self.means(Meaning::Contraction { bias_rank });
        Ok(out)
    }

    /// A batched matmul `a` [b, m, k] x `b` [b, k, n] (or [b, n, k] if `transposed`) of two activations; the
    /// batch of `b` may be 1. Ranks beyond three must be merged by the caller.
    pub fn matmul(
        &mut self,
        name: &str,
        class: OpClass,
        a: TensorId,
        b: TensorId,
        transposed: bool,
    ) -> Result<TensorId, GraphError> {
        let (&[ba, m, k], &[bb, b1, b2]) = (self.shape(a), self.shape(b)) else {
            return Err(Self::shape_error(
                name,
                "a batched matmul needs operands of three ranks",
            ));
        };
        let (kb, n) = if transposed { (b2, b1) } else { (b1, b2) };
        if k != kb || (bb != ba && bb != 1) || [ba, m, n, k].contains(&0) {
            let reason = format!(
                "operands {:?} and {:?} do not fit",
                self.shape(a),
                self.shape(b)
            );
            return Err(Self::shape_error(name, reason));
        }
        let dims = dims(&[("b", ba), ("m", m), ("n", n), ("k", k)]);
        let inner: &[u32] = if transposed { &[2, 3] } else { &[3, 2] };
        let ranks: Vec<u32> = (bb == ba)
            .then_some(0)
            .into_iter()
            .chain(inner.iter().copied())
            .collect();
        let einsum = Einsum {
            inputs: vec![
                plain(Place::Input(0), &dims, &[0, 1, 3]),
                plain(Place::Input(1), &dims, &ranks),
            ],
            output: plain(Place::Output(0), &dims, &[0, 1, 2]),
            dims,
            map: MapOperator::MultiplyAccumulate,
            reduce: ReduceOperator::Sum,
            domain: Domain::Dense,
        };
        let out = self.push(name, class, single(einsum), &[a, b], &[ba, m, n]);
        self.means(Meaning::Contraction { bias_rank: 2 });
        Ok(out)
    }

    /// Attention scores [batch, heads, query_length, key_length] of queries and keys. Keys may be a cache.
    pub fn attention_scores(
        &mut self,
        name: &str,
        q: TensorId,
        k: TensorId,
        a: &Attention,
    ) -> Result<TensorId, GraphError> {
        let (dims, domain) = a.frame(name, a.key_width)?;
        // b, g (kv head), u (query head of it), m (query), n (key), k (width)
        let einsum = Einsum {
            inputs: vec![
                plain(Place::Input(0), &dims, &[0, 3, 1, 2, 5]),
                plain(Place::Input(1), &dims, &[0, 4, 1, 5]),
            ],
            output: plain(Place::Output(0), &dims, &[0, 1, 2, 3, 4]),
            domain: domain(3, 4),
            dims,
            map: MapOperator::MultiplyAccumulate,
            reduce: ReduceOperator::Sum,
        };
        let shape = [a.batch, a.heads, a.query_length, a.key_length];
        let out = self.push(name, OpClass::AttentionQk, single(einsum), &[q, k], &shape);
        self.means(Meaning::Contraction { bias_rank: 3 });
        Ok(out)
    }

    /// Attention output [batch, query_length, heads x value_width] of probabilities and values.
    pub fn attention_values(
        &mut self,
        name: &str,
        p: TensorId,
        v: TensorId,
        a: &Attention,
    ) -> Result<TensorId, GraphError> {
        let (dims, domain) = a.frame(name, a.value_width)?;
        // Here the width is an output dimension and the keys are reduced.
        let einsum = Einsum {
            inputs: vec![
                plain(Place::Input(0), &dims, &[0, 1, 2, 3, 4]),
                plain(Place::Input(1), &dims, &[0, 4, 1, 5]),
            ],
            output: plain(Place::Output(0), &dims, &[0, 3, 1, 2, 5]),
            domain: domain(3, 4),
            dims,
            map: MapOperator::MultiplyAccumulate,
            reduce: ReduceOperator::Sum,
        };
        let shape = [
            a.batch,
            a.query_length,
            a.heads.saturating_mul(a.value_width),
        ];
        let out = self.push(name, OpClass::AttentionPv, single(einsum), &[p, v], &shape);
        self.means(Meaning::Contraction { bias_rank: 2 });
        Ok(out)
    }

    /// Softmax over the keys of attention scores times 1/sqrt(key width), over the executed pairs only.
    pub fn attention_softmax(
        &mut self,
        name: &str,
        scores: TensorId,
        a: &Attention,
    ) -> Result<TensorId, GraphError> {
        let expected = [a.batch, a.heads, a.query_length, a.key_length];
        if self.shape(scores) != expected {
            let reason = format!("scores must be {expected:?}, not {:?}", self.shape(scores));
            return Err(Self::shape_error(name, reason));
        }
        // `frame` checks the heads; it must not fail once the op is pushed.
        let domain = a.frame(name, 1)?.1;
        let out = self.softmax(name, scores, 3)?;
        // A softmax has rows x = batch x heads x queries; the mask needs the queries on their own.
        let rows = a.batch.saturating_mul(a.heads);
        if let Some(op) = self.last_op()
            && let crate::op::OpKind::Cascade(einsums) = &mut op.kind
        {
            super::vector::split_rows(einsums, rows, a.query_length, domain(1, 2));
        }
        let scale = 1.0 / (a.key_width.max(1) as f64).sqrt();
        self.means(Meaning::Softmax {
            axis: 3,
            scale,
            log: false,
        });
        Ok(out)
    }

    /// Scaled-dot-product attention as three ops: `name.scores`, `name.softmax` and `name.values` (the scale
    /// 1/sqrt(width) is folded into the softmax). The output is [batch, query_length, heads x value_width].
    pub fn attention(
        &mut self,
        name: &str,
        [q, k, v]: [TensorId; 3],
        a: &Attention,
    ) -> Result<TensorId, GraphError> {
        let scores = self.attention_scores(&format!("{name}.scores"), q, k, a)?;
        let p = self.attention_softmax(&format!("{name}.softmax"), scores, a)?;
        self.attention_values(&format!("{name}.values"), p, v, a)
    }

    /// Rotary position encoding of `x`, seen as [batch, tokens, heads, width], by a `table` [tokens, width] of cosines
    /// and sines. What base and positions they are of, [`Builder::means`] tells.
    pub fn rotary(
        &mut self,
        name: &str,
        x: TensorId,
        table: TensorId,
        shape: &[u64],
    ) -> Result<TensorId, GraphError> {
        let &[batch, tokens, heads, width] = shape else {
            let reason = format!("{shape:?} is not batch, tokens, heads and width");
            return Err(Self::shape_error(name, reason));
        };
        if super::elements(self.shape(x)) != super::elements(shape) || width % 2 != 0 {
            let reason = format!(
                "{:?} is not seen as {shape:?} with heads of an even width",
                self.shape(x)
            );
            return Err(Self::shape_error(name, reason));
        }
        let dims = dims(&[("b", batch), ("m", tokens), ("h", heads), ("k", width)]);
        let every = [0, 1, 2, 3];
        let einsum = Einsum {
            inputs: vec![
                plain(Place::Input(0), &dims, &every),
                plain(Place::Input(1), &dims, &[1, 3]),
            ],
            output: plain(Place::Output(0), &dims, &every),
            dims,
            map: MapOperator::Lanes(vec![L::Shuffle, L::Mul, L::Fma]),
            reduce: ReduceOperator::Sum,
            domain: Domain::Dense,
        };
        Ok(self.push(name, OpClass::Position, single(einsum), &[x, table], shape))
    }

    /// An expert linear: `x` holds `rows` rows, `weight` [experts, out, in].
    pub fn experts_with(
        &mut self,
        name: &str,
        x: TensorId,
        weight: TensorId,
        e: &Experts,
    ) -> Result<TensorId, GraphError> {
        let touched = (e.distinct.ceil() as u64).clamp(1, e.experts.max(1));
        let per_expert = e.rows.div_ceil(touched);
        let dims = dims(&[
            ("e", touched),
            ("m", per_expert),
            ("n", e.out_features),
            ("k", e.in_features),
        ]);
        let mut input = plain(Place::Input(0), &dims, &[0, 1, 3]);
        // Rows are ragged: the operand holds e.rows of them, each read in its own expert's place.
        let mut output = plain(Place::Output(0), &dims, &[0, 1, 2]);
        let ragged = touched.checked_mul(per_expert) != Some(e.rows);
        if ragged {
            for a in [&mut input, &mut output] {
                a.ranks = vec![
                    crate::Affine {
                        terms: vec![(DimId(0), signed(per_expert)), (DimId(1), 1)],
                        offset: 0,
                    },
                    a.ranks[2].clone(),
                ];
                a.extents = vec![e.rows, a.extents[2]];
            }
        }
        let einsum = Einsum {
            inputs: vec![input, plain(Place::Input(1), &dims, &[0, 2, 3])],
            output,
            domain: Domain::Ragged {
                group: DimId(0),
                row: DimId(1),
                rows: e.rows,
                distinct: e.distinct,
            },
            dims,
            map: MapOperator::MultiplyAccumulate,
            reduce: ReduceOperator::Sum,
        };
        let shape = [e.rows, e.out_features];
        Ok(self.push(
            name,
            OpClass::MoeExpert,
            single(einsum),
            &[x, weight],
            &shape,
        ))
    }
}

type DomainOf = Box<dyn Fn(u32, u32) -> Domain>;

impl Attention {
    /// Dimensions b, g, u, m, n, k and the domain as a function of the query and key dimension.
    fn frame(&self, name: &str, width: u64) -> Result<(Vec<crate::Dim>, DomainOf), GraphError> {
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            let reason = format!(
                "{} query heads must be a multiple of {} key-value heads",
                self.heads, self.kv_heads
            );
            return Err(Builder::shape_error(name, reason));
        }
        let dims = dims(&[
            ("b", self.batch),
            ("g", self.kv_heads),
            ("u", self.heads / self.kv_heads),
            ("m", self.query_length),
            ("n", self.key_length),
            ("k", width),
        ]);
        let mask = self.mask;
        let domain = move |query: u32, key: u32| {
            let (query, key) = (DimId(query), DimId(key));
            match mask {
                Mask::Full => Domain::Dense,
                Mask::Causal { past } => Domain::Causal {
                    query,
                    key,
                    offset: signed(past),
                },
                Mask::Sliding { past, window } => Domain::Banded {
                    query,
                    key,
                    offset: signed(past),
                    window,
                },
            }
        };
        Ok((dims, Box::new(domain)))
    }
}
