//! Attention and latent attention.

use presil_numerics::LanePrimitive::{Add, Exp2, Fma, Mul, Reciprocal};

use super::config::{Attention, Mla};
use super::pass::Maker;
use crate::build::{self, Function, Mask, NormKind, dims, plain, single};
use crate::einsum::{Domain, Einsum, MapOperator, Place, ReduceOperator};
use crate::graph::GraphError;
use crate::op::{OpClass, OpKind};
use crate::tensor::TensorId;

/// Keys that the new tokens attend to and rows that the cache keeps.
struct Reach {
    keys: u64,
    cached: u64,
    mask: Mask,
}

impl Maker<'_> {
    /// What an attention sees: in decode the cache, which holds the window's earlier tokens and the new one; in
    /// prefill the prompt, of which the window's earlier tokens for the next step stay.
    fn reach(&self, window: Option<u64>) -> Reach {
        let window = window.filter(|w| *w <= self.context);
        if self.decode {
            let keys = window.unwrap_or(self.context);
            return Reach {
                keys,
                cached: keys,
                mask: Mask::Full,
            };
        }
        let keys = self.tokens;
        match window {
            None => Reach {
                keys,
                cached: keys,
                mask: Mask::Causal { past: 0 },
            },
            Some(w) => Reach {
                keys,
                cached: (w - 1).max(1),
                mask: Mask::Sliding { past: 0, window: w },
            },
        }
    }

    /// Attention over heads.
    pub fn attention(
        &mut self,
        p: &str,
        x: TensorId,
        a: &Attention,
    ) -> Result<TensorId, GraphError> {
        let name = |part: &str| format!("{p}.{part}");
        let (q_width, kv_width) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
        let q_made = if a.output_gate { 2 * q_width } else { q_width };
        let (mut q, k, v) = if a.fused_qkv {
            let qkv = self
                .b
                .linear(&name("qkv_proj"), x, q_made + 2 * kv_width, a.qkv_bias)?;
            let mut part = |part: &str, start: u64, width: u64| {
                let shape = self.shape(&[width]);
                self.b.part(&name(part), qkv, 2, [start, width], &shape)
            };
            (
                part("q", 0, q_made)?,
                part("k", q_made, kv_width)?,
                part("v", q_made + kv_width, kv_width)?,
            )
        } else {
            let q = self.b.linear(&name("q_proj"), x, q_made, a.qkv_bias)?;
            let k = self.b.linear(&name("k_proj"), x, kv_width, a.qkv_bias)?;
            (
                q,
                k,
                self.b.linear(&name("v_proj"), x, kv_width, a.qkv_bias)?,
            )
        };
        let (q_shape, kv_shape) = (
            self.shape(&[a.heads, a.head_dim]),
            self.shape(&[a.kv_heads, a.head_dim]),
        );
        let gate = a.output_gate.then(|| {
            let shape = self.shape(&[q_width]);
            let gate = self.b.view(&name("gate"), q, &shape);
            q = self.b.view(&name("query"), q, &q_shape);
            gate
        });
        let mut k = k;
        if a.qk_norm {
            let heads = self.seen_as(&name("q_heads"), q, &q_shape);
            q = self
                .b
                .norm(&name("q_norm"), heads, NormKind::Rms, true, false)?;
            self.norm_means();
            let heads = self.seen_as(&name("k_heads"), k, &kv_shape);
            k = self
                .b
                .norm(&name("k_norm"), heads, NormKind::Rms, true, false)?;
            self.norm_means();
        }
        if self.config.position == super::Position::Rotary {
            q = self.rotate(&name("q_rope"), q, a.heads, a.head_dim)?;
            k = self.rotate(&name("k_rope"), k, a.kv_heads, a.head_dim)?;
        }
        let reach = self.reach(a.window);
        let cache_k = self.cache(name("cache.k"), reach.cached, &[a.kv_heads, a.head_dim]);
        let cache_v = self.cache(name("cache.v"), reach.cached, &[a.kv_heads, a.head_dim]);
        self.write(&name("cache_k"), k, reach.cached, cache_k);
        self.write(&name("cache_v"), v, reach.cached, cache_v);
        let (k, v) = if self.decode {
            (cache_k, cache_v)
        } else {
            (k, v)
        };
        let shape = build::Attention {
            batch: self.batch,
            heads: a.heads,
            kv_heads: a.kv_heads,
            query_length: self.tokens,
            key_length: reach.keys,
            key_width: a.head_dim,
            value_width: a.head_dim,
            mask: reach.mask,
        };
        let sinks = a.sinks.then(|| self.b.weight(name("sinks"), &[a.heads]));
        let mut out = self.attend(p, [q, k, v], &shape, a.softcap, sinks)?;
        if let Some(gate) = gate {
            let program: Vec<_> = Function::Sigmoid
                .program()
                .iter()
                .copied()
                .chain([Mul])
                .collect();
            out = self.b.elementwise(
                &name("output_gate"),
                OpClass::Activation,
                &[out, gate],
                &program,
            )?;
        }
        self.b
            .linear(&name("o_proj"), out, self.config.hidden, a.out_bias)
    }

    /// `x`, or a view of it if its shape is another.
    fn seen_as(&mut self, name: &str, x: TensorId, shape: &[u64]) -> TensorId {
        if self.b.shape(x) == shape {
            x
        } else {
            let seen = self.b.view(name, x, shape);
            self.b.means(crate::Meaning::Reshape);
            seen
        }
    }

    /// Adds a sink for each head to the softmax that was pushed last: the denominator of each row gains
    /// `exp(sink - max)`. (A sink above all scores would raise the maximum too; that comparison is not counted.)
    pub fn add_sinks(&mut self, sinks: TensorId) {
        let Some(op) = self.b.last_op() else { return };
        op.inputs.push(sinks);
        if let OpKind::Cascade(einsums) = &mut op.kind {
            for e in einsums {
                if e.map == MapOperator::Lanes(vec![Reciprocal]) {
                    e.map = MapOperator::Lanes(vec![Fma, Exp2, Add, Reciprocal]);
                }
            }
        }
    }

    /// Multi-head latent attention.
    pub fn mla(&mut self, p: &str, x: TensorId, m: &Mla) -> Result<TensorId, GraphError> {
        let name = |part: &str| format!("{p}.{part}");
        let (h, q_dim) = (m.heads, m.nope_dim + m.rope_dim);
        let q = match m.q_rank {
            None => self.b.linear(&name("q_proj"), x, h * q_dim, false)?,
            Some(rank) => {
                let latent = self.b.linear(&name("q_a_proj"), x, rank, m.bias)?;
                let latent =
                    self.b
                        .norm(&name("q_a_layernorm"), latent, NormKind::Rms, true, false)?;
                self.b.linear(&name("q_b_proj"), latent, h * q_dim, false)?
            }
        };
        let part = |maker: &mut Self, part: &str, of: TensorId, width: &[u64]| {
            let shape = maker.shape(width);
            maker.b.view(&name(part), of, &shape)
        };
        let q_nope = part(self, "q_nope", q, &[h, m.nope_dim]);
        let q_rope = part(self, "q_pe", q, &[h, m.rope_dim]);
        let q_rope = self.rotate(&name("q_rope"), q_rope, h, m.rope_dim)?;
        let kv = self.b.linear(
            &name("kv_a_proj_with_mqa"),
            x,
            m.kv_rank + m.rope_dim,
            m.bias,
        )?;
        let latent = part(self, "latent", kv, &[m.kv_rank]);
        let latent = self
            .b
            .norm(&name("kv_a_layernorm"), latent, NormKind::Rms, true, false)?;
        let k_rope = part(self, "k_pe", kv, &[1, m.rope_dim]);
        let k_rope = self.rotate(&name("k_rope"), k_rope, 1, m.rope_dim)?;
        // The up-projection is held as its key and its value half.
        let up_k = self
            .b
            .weight(name("kv_b_proj.k.weight"), &[h * m.nope_dim, m.kv_rank]);
        let up_v = self
            .b
            .weight(name("kv_b_proj.v.weight"), &[h * m.value_dim, m.kv_rank]);
        let reach = self.reach(None);
        let mut shape = build::Attention {
            batch: self.batch,
            heads: h,
            kv_heads: h,
            query_length: self.tokens,
            key_length: reach.keys,
            key_width: q_dim,
            value_width: m.value_dim,
            mask: reach.mask,
        };
        let out = if self.absorb {
            let width = m.kv_rank + m.rope_dim;
            let cache = self.cache(name("cache.latent"), reach.cached, &[width]);
            self.write(&name("cache_latent"), latent, reach.cached, cache);
            self.write(&name("cache_rope"), k_rope, reach.cached, cache);
            let absorbed = self.per_head(
                &name("kv_b_proj.k"),
                q_nope,
                up_k,
                [h, m.nope_dim, m.kv_rank],
                false,
            );
            let q_shape = self.shape(&[h, width]);
            let q = self
                .b
                .copy(&name("q_concat"), &[absorbed, q_rope], &q_shape);
            shape.kv_heads = 1;
            (shape.key_width, shape.value_width) = (width, m.kv_rank);
            let out = self.attend(p, [q, cache, cache], &shape, false, None)?;
            self.widen_values(width);
            self.per_head(
                &name("kv_b_proj.v"),
                out,
                up_v,
                [h, m.kv_rank, m.value_dim],
                true,
            )
        } else {
            let cache_latent = self.cache(name("cache.latent"), reach.cached, &[m.kv_rank]);
            let cache_rope = self.cache(name("cache.rope"), reach.cached, &[m.rope_dim]);
            self.write(&name("cache_latent"), latent, reach.cached, cache_latent);
            self.write(&name("cache_rope"), k_rope, reach.cached, cache_rope);
            let (latents, ropes) = if self.decode {
                (cache_latent, cache_rope)
            } else {
                (latent, k_rope)
            };
            let k = self
                .b
                .linear_with(&name("kv_b_proj.k"), latents, up_k, None)?;
            let v = self
                .b
                .linear_with(&name("kv_b_proj.v"), latents, up_v, None)?;
            let k = self.b.copy(
                &name("k_concat"),
                &[k, ropes],
                &[self.batch, reach.keys, h, q_dim],
            );
            let q_shape = self.shape(&[h, q_dim]);
            let q = self.b.copy(&name("q_concat"), &[q_nope, q_rope], &q_shape);
            self.attend(p, [q, k, v], &shape, false, None)?
        };
        self.b
            .linear(&name("o_proj"), out, self.config.hidden, m.bias)
    }

    /// The values that were read last are a prefix of rows of `width` elements.
    fn widen_values(&mut self, width: u64) {
        if let Some(op) = self.b.last_op()
            && let OpKind::Cascade(einsums) = &mut op.kind
        {
            for extent in einsums
                .iter_mut()
                .filter_map(|e| e.inputs.get_mut(1)?.extents.last_mut())
            {
                *extent = width;
            }
        }
    }

    /// A linear of each head's own weights: `x` [batch, tokens, heads, in] with weights [heads x in, out], or
    /// [heads x out, in] if `transposed`.
    fn per_head(
        &mut self,
        name: &str,
        x: TensorId,
        weight: TensorId,
        [heads, k, n]: [u64; 3],
        transposed: bool,
    ) -> TensorId {
        let dims = dims(&[
            ("g", heads),
            ("m", self.batch * self.tokens),
            ("n", n),
            ("k", k),
        ]);
        let ranks: &[u32] = if transposed { &[0, 2, 3] } else { &[0, 3, 2] };
        let einsum = Einsum {
            inputs: vec![
                plain(Place::Input(0), &dims, &[1, 0, 3]),
                plain(Place::Input(1), &dims, ranks),
            ],
            output: plain(Place::Output(0), &dims, &[1, 0, 2]),
            dims,
            map: MapOperator::MultiplyAccumulate,
            reduce: ReduceOperator::Sum,
            domain: Domain::Dense,
        };
        let shape = self.shape(&[heads * n]);
        self.b
            .push(name, OpClass::Linear, single(einsum), &[x, weight], &shape)
    }
}
