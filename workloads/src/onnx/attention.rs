//! Attention operators: scores, softmax and weighted values as ops of their own.

use presil_numerics::LanePrimitive as L;

use crate::build::{dims, plain, single};
use crate::einsum::{Access, DimId, Domain, Place};
use crate::op::{OpClass, OpKind};
use crate::tensor::TensorId;

use super::conv::contraction;
use super::error::Fault;
use super::import::Importer;
use super::lower::Lowered;
use super::matmul::Product;
use super::node::Node;
use super::shapes;
use super::value::{DType, Value};

/// A scaled-dot-product attention.
struct Heads {
    batch: u64,
    heads: u64,
    kv_heads: u64,
    queries: u64,
    keys: u64,
    key_width: u64,
    value_width: u64,
    /// Whether queries, and keys and values, are [batch, heads, length, width] or [batch, length, heads x width].
    heads_first: [bool; 2],
    /// Whether a query sees only keys up to itself; the offset is `keys - queries`.
    causal: bool,
    /// Keys that a query sees at most, itself included.
    window: Option<u64>,
    dtype: DType,
}

impl<'m> Importer<'m> {
    /// Scores, softmax, values; returns the result, laid out as the queries are, and the scores.
    fn attend(
        &mut self,
        node: &Node<'m>,
        q: TensorId,
        k: TensorId,
        v: TensorId,
        a: &Heads,
    ) -> Result<[Value<'m>; 2], Fault> {
        if a.kv_heads == 0 || a.heads == 0 || !a.heads.is_multiple_of(a.kv_heads) {
            return Err(format!(
                "{} query heads must be a multiple of {} key-value heads",
                a.heads, a.kv_heads
            )
            .into());
        }
        let frame = |width| {
            dims(&[
                ("b", a.batch),
                ("g", a.kv_heads),
                ("u", a.heads / a.kv_heads),
                ("m", a.queries),
                ("n", a.keys),
                ("k", width),
            ])
        };
        let domain = || {
            let (query, key, offset) = (DimId(3), DimId(4), a.keys as i64 - a.queries as i64);
            match a.window {
                Some(window) => Domain::Banded {
                    query,
                    key,
                    offset,
                    window,
                },
                None if a.causal => Domain::Causal { query, key, offset },
                None => Domain::Dense,
            }
        };
        let of_queries = |place, all: &[crate::Dim]| -> Access {
            plain(
                place,
                all,
                if a.heads_first[0] {
                    &[0, 1, 2, 3, 5]
                } else {
                    &[0, 3, 1, 2, 5]
                },
            )
        };
        let of_keys = |place, all: &[crate::Dim]| -> Access {
            plain(
                place,
                all,
                if a.heads_first[1] {
                    &[0, 1, 4, 5]
                } else {
                    &[0, 4, 1, 5]
                },
            )
        };
        let all = frame(a.key_width);
        let mut einsum = contraction(
            all.clone(),
            of_queries(Place::Input(0), &all),
            of_keys(Place::Input(1), &all),
            plain(Place::Output(0), &all, &[0, 1, 2, 3, 4]),
        );
        einsum.domain = domain();
        let shape = [a.batch, a.heads, a.queries, a.keys];
        let product = self.emit(
            node,
            ".scores",
            OpClass::AttentionQk,
            single(einsum),
            vec![q, k],
            &shape,
            a.dtype,
        )?;
        let scores = product.tensor.ok_or("it has no scores")?;
        let weights = self
            .builder
            .softmax(&format!("{}.softmax", node.name), scores, 3)?;
        self.builder.graph.tensors[weights].quantization = a.dtype.format().into();
        let all = frame(a.value_width);
        let mut einsum = contraction(
            all.clone(),
            plain(Place::Input(0), &all, &[0, 1, 2, 3, 4]),
            of_keys(Place::Input(1), &all),
            of_queries(Place::Output(0), &all),
        );
        einsum.domain = domain();
        let shape = if a.heads_first[0] {
            vec![a.batch, a.heads, a.queries, a.value_width]
        } else {
            vec![a.batch, a.queries, a.heads.saturating_mul(a.value_width)]
        };
        Ok([
            self.emit(
                node,
                "",
                OpClass::AttentionPv,
                single(einsum),
                vec![weights, v],
                &shape,
                a.dtype,
            )?,
            product,
        ])
    }

    /// A cache and what is new, in one tensor [batch, heads, length, width].
    fn appended(
        &mut self,
        node: &Node<'m>,
        part: &str,
        past: usize,
        new: TensorId,
        shape: [u64; 4],
        dtype: DType,
    ) -> Result<Value<'m>, Fault> {
        let inputs = vec![self.operand(node, past)?, new];
        let elements = shapes::checked(shape.to_vec())?.iter().product();
        self.emit(
            node,
            part,
            OpClass::CacheWrite,
            OpKind::Move { elements },
            inputs,
            &shape,
            dtype,
        )
    }

    /// Attention of the default operator set (23): Q, K, V, mask, past key, past value.
    pub fn attention(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let (q, k, v) = (
            node.input(0)?.clone(),
            node.input(1)?.clone(),
            node.input(2)?.clone(),
        );
        let fits = || {
            format!(
                "queries {:?}, keys {:?} and values {:?} do not fit",
                q.shape, k.shape, v.shape
            )
        };
        let count = |name: &str| u64::try_from(node.int(name, 0)).ok().filter(|h| *h > 0);
        let view = |x: &Value<'m>, heads: Option<u64>| -> Option<([u64; 4], bool)> {
            match *x.shape.as_slice() {
                [b, h, l, d] => Some(([b, h, l, d], true)),
                [b, l, w] => heads
                    .filter(|h| w % h == 0)
                    .map(|h| ([b, h, l, w / h], false)),
                _ => None,
            }
        };
        let (
            ([batch, heads, queries, key_width], q_first),
            ([bk, kv_heads, new, dk], first),
            ([bv, hv, lv, value_width], _),
        ) = match (
            view(&q, count("q_num_heads")),
            view(&k, count("kv_num_heads")),
            view(&v, count("kv_num_heads")),
        ) {
            (Some(q), Some(k), Some(v)) => (q, k, v),
            _ => {
                return Err(
                    format!("{}; three ranks need q_num_heads and kv_num_heads", fits()).into(),
                );
            }
        };
        if [bk, bv] != [batch; 2] || hv != kv_heads || dk != key_width || lv != new {
            return Err(fits().into());
        }
        let (tq, mut tk, mut tv) = (
            self.operand(node, 0)?,
            self.operand(node, 1)?,
            self.operand(node, 2)?,
        );
        let past = node
            .optional(4)
            .and_then(|p| p.shape.get(2).copied())
            .unwrap_or(0);
        let keys = past.checked_add(new).ok_or_else(fits)?;
        let mut outputs = Vec::new();
        let mut kv_first = first;
        if node.optional(4).is_some() || node.wants(1) {
            node.input(5).or_else(|e| {
                if node.wants(1) && past == 0 {
                    node.input(2)
                } else {
                    Err(e)
                }
            })?;
            let source = |i: usize, own: usize| if node.optional(i).is_some() { i } else { own };
            let present_k = self.appended(
                node,
                ".present_key",
                source(4, 1),
                tk,
                [batch, kv_heads, keys, key_width],
                k.dtype,
            )?;
            let present_v = self.appended(
                node,
                ".present_value",
                source(5, 2),
                tv,
                [batch, kv_heads, keys, value_width],
                v.dtype,
            )?;
            (tk, tv) = (
                present_k.tensor.unwrap_or(tk),
                present_v.tensor.unwrap_or(tv),
            );
            kv_first = true;
            outputs = vec![present_k, present_v];
        }
        let causal = node.int("is_causal", 0) != 0;
        let heads = Heads {
            batch,
            heads,
            kv_heads,
            queries,
            keys,
            key_width,
            value_width,
            heads_first: [q_first, kv_first],
            causal,
            window: None,
            dtype: q.dtype,
        };
        let [out, scores] = self.attend(node, tq, tk, tv, &heads)?;
        outputs.insert(0, out);
        if node.wants(3) {
            // Not asked for: the names of the second and third outputs are empty.
            outputs.resize(3, scores.clone());
            outputs.push(scores);
        }
        Ok(outputs)
    }

    /// com.microsoft Attention: the projections of one input by one packed weight, then attention.
    pub fn packed_attention(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        if node.optional(4).is_some() || node.wants(1) {
            return Err("its past and present states are not supported".into());
        }
        let bias = node.optional(2).map(|_| 2);
        let packed = self.product(
            node,
            Product {
                a: 0,
                b: 1,
                transpose_a: false,
                transpose_b: false,
                bias,
                dtype: x.dtype,
                part: ".qkv",
            },
        )?;
        let &[batch, length, width] = packed.shape.as_slice() else {
            return Err(format!("it needs an input of three ranks, not {:?}", x.shape).into());
        };
        let heads = u64::try_from(node.int("num_heads", 0))
            .ok()
            .filter(|h| *h > 0)
            .ok_or("num_heads must be 1 or more")?;
        let sizes: Vec<u64> = match node.ints("qkv_hidden_sizes").filter(|s| !s.is_empty()) {
            Some(s) => s.iter().map(|v| u64::try_from(*v).unwrap_or(0)).collect(),
            None => vec![width / 3; 3],
        };
        let &[wq, wk, wv] = sizes.as_slice() else {
            return Err("qkv_hidden_sizes must have three numbers".into());
        };
        if wq != wk
            || wq % heads != 0
            || wv % heads != 0
            || wq.saturating_add(wk).saturating_add(wv) != width
        {
            return Err(
                format!("a packed projection of width {width} does not fit {heads} heads").into(),
            );
        }
        let from = packed.tensor.ok_or("it has no projection")?;
        let mut parts = Vec::new();
        for (part, w) in [(".q", wq), (".k", wk), (".v", wv)] {
            let value = self.emit(
                node,
                part,
                OpClass::Move,
                OpKind::View,
                vec![from],
                &[batch, length, w],
                x.dtype,
            )?;
            parts.extend(value.tensor);
        }
        let &[q, k, v] = parts.as_slice() else {
            return Err("it has no projection".into());
        };
        let causal = node.int("unidirectional", 0) != 0;
        let heads = Heads {
            batch,
            heads,
            kv_heads: heads,
            queries: length,
            keys: length,
            key_width: wq / heads,
            value_width: wv / heads,
            heads_first: [false; 2],
            causal,
            window: None,
            dtype: x.dtype,
        };
        let [out, _] = self.attend(node, q, k, v, &heads)?;
        Ok(vec![out])
    }

    /// com.microsoft MultiHeadAttention: query, key, value [batch, length, width].
    pub fn multi_head_attention(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let heads = u64::try_from(node.int("num_heads", 0))
            .ok()
            .filter(|h| *h > 0)
            .ok_or("num_heads must be 1 or more")?;
        if (6..8).any(|i| node.optional(i).is_some()) || node.wants(1) {
            return Err("its past and present states are not supported".into());
        }
        let (q, k, v) = (
            node.input(0)?.clone(),
            node.input(1)?.clone(),
            node.input(2)?.clone(),
        );
        let fits = || {
            format!(
                "queries {:?}, keys {:?} and values {:?} do not fit {heads} heads",
                q.shape, k.shape, v.shape
            )
        };
        let &[batch, queries, width] = q.shape.as_slice() else {
            return Err(fits().into());
        };
        // Keys and values of a cross attention may come with their heads apart.
        let flat = |x: &Value<'m>| match *x.shape.as_slice() {
            [b, l, w] => Some((b, l, w, false)),
            [b, h, l, d] if h == heads => Some((b, l, h.checked_mul(d)?, true)),
            _ => None,
        };
        let ((bk, keys, kw, first), (bv, lv, vw, first_v)) =
            flat(&k).zip(flat(&v)).ok_or_else(fits)?;
        if [bk, bv] != [batch; 2]
            || keys != lv
            || kw != width
            || width % heads != 0
            || vw % heads != 0
            || first != first_v
        {
            return Err(fits().into());
        }
        let (tq, tk, tv) = (
            self.operand(node, 0)?,
            self.operand(node, 1)?,
            self.operand(node, 2)?,
        );
        let causal = node.int("unidirectional", 0) != 0;
        let heads = Heads {
            batch,
            heads,
            kv_heads: heads,
            queries,
            keys,
            key_width: width / heads,
            value_width: vw / heads,
            heads_first: [false, first],
            causal,
            window: None,
            dtype: q.dtype,
        };
        let [out, _] = self.attend(node, tq, tk, tv, &heads)?;
        Ok(vec![out])
    }

    /// com.microsoft GroupQueryAttention: query, key, value, past key, past value; packed where key is left out.
    pub fn group_query_attention(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let count = |name: &str| {
            u64::try_from(node.int(name, 0))
                .ok()
                .filter(|h| *h > 0)
                .ok_or_else(|| format!("{name} must be 1 or more"))
        };
        let (heads, kv_heads) = (count("num_heads")?, count("kv_num_heads")?);
        let q = node.input(0)?.clone();
        let &[batch, queries, packed] = q.shape.as_slice() else {
            return Err(format!("it needs queries of three ranks, not {:?}", q.shape).into());
        };
        let all = heads
            .checked_add(kv_heads.saturating_mul(2))
            .ok_or("it has too many heads")?;
        let from = self.operand(node, 0)?;
        let (width, tensors) = if node.optional(1).is_some() {
            let width = packed / heads;
            for i in [1, 2] {
                if node.input(i)?.shape != [batch, queries, kv_heads.saturating_mul(width)] {
                    return Err(format!(
                        "input {i} of shape {:?} does not fit {kv_heads} heads of width {width}",
                        node.input(i)?.shape
                    )
                    .into());
                }
            }
            (
                width,
                vec![from, self.operand(node, 1)?, self.operand(node, 2)?],
            )
        } else {
            let width = packed / all;
            let mut parts = Vec::new();
            for (part, h) in [(".q", heads), (".k", kv_heads), (".v", kv_heads)] {
                let value = self.emit(
                    node,
                    part,
                    OpClass::Move,
                    OpKind::View,
                    vec![from],
                    &[batch, queries, h * width],
                    q.dtype,
                )?;
                parts.extend(value.tensor);
            }
            (width, parts)
        };
        let total = if node.optional(1).is_some() {
            heads
        } else {
            all
        };
        if width == 0 || width.saturating_mul(total) != packed {
            return Err(format!("queries of width {packed} do not fit {total} heads").into());
        }
        let &[mut tq, mut tk, mut tv] = tensors.as_slice() else {
            return Err("it has no queries".into());
        };
        if node.int("do_rotary", 0) != 0 {
            let rotate =
                |t, part: &str, h: u64| (t, part.to_string(), vec![batch, queries, h * width]);
            for (slot, (t, part, shape)) in [
                (0, rotate(tq, ".q_rotary", heads)),
                (1, rotate(tk, ".k_rotary", kv_heads)),
            ] {
                let value = self.lanes(
                    node,
                    &part,
                    OpClass::Position,
                    &[(t, shape)],
                    &[L::Shuffle, L::Mul, L::Fma],
                    q.dtype,
                )?;
                let rotated = value.tensor.unwrap_or(t);
                if slot == 0 {
                    tq = rotated
                } else {
                    tk = rotated
                }
            }
        }
        let past = node
            .optional(3)
            .and_then(|p| p.shape.get(2).copied())
            .unwrap_or(0);
        let keys = past
            .checked_add(queries)
            .ok_or("its sequence is too long")?;
        let mut outputs = Vec::new();
        let mut first = false;
        if node.optional(3).is_some() {
            let shape = [batch, kv_heads, keys, width];
            let present_k = self.appended(node, ".present_key", 3, tk, shape, q.dtype)?;
            let present_v = self.appended(node, ".present_value", 4, tv, shape, q.dtype)?;
            (tk, tv, first) = (
                present_k.tensor.unwrap_or(tk),
                present_v.tensor.unwrap_or(tv),
                true,
            );
            outputs = vec![present_k, present_v];
        }
        let window = u64::try_from(node.int("local_window_size", -1))
            .ok()
            .filter(|w| *w > 0);
        let a = Heads {
            batch,
            heads,
            kv_heads,
            queries,
            keys,
            key_width: width,
            value_width: width,
            heads_first: [false, first],
            causal: true,
            window,
            dtype: q.dtype,
        };
        let [out, _] = self.attend(node, tq, tk, tv, &a)?;
        outputs.insert(0, out);
        Ok(outputs)
    }

    /// RotaryEmbedding: a rotation of pairs by cosines and sines that are read from tables.
    pub fn rotary(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let t = self.operand(node, 0)?;
        let value = self.lanes(
            node,
            "",
            OpClass::Position,
            &[(t, x.shape)],
            &[L::Shuffle, L::Mul, L::Fma],
            x.dtype,
        )?;
        let tables: Vec<TensorId> = (1..node.inputs.len())
            .filter_map(|i| self.operand(node, i).ok())
            .collect();
        if let Some(op) = self.builder.last_op() {
            op.inputs.extend(tables);
        }
        Ok(vec![value])
    }
}
