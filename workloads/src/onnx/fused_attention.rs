//! Attention operators of com.microsoft.

use presil_numerics::LanePrimitive as L;

use crate::expr::Expr;
use crate::op::{OpClass, OpKind};

use super::import::Importer;
use super::lower::Lowered;
use super::matmul::Product;
use super::node::Node;
use super::scores::{Heads, Values};
use super::value::Value;

impl<'m> Importer<'m> {
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
        let (mut parts, mut exprs) = (Vec::new(), Vec::new());
        let mut start = 0;
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
            let own = self.what(&packed).part(2, start, w);
            self.says(&value, own);
            start += w;
            exprs.push(self.what(&value));
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
            offset: 0,
            values: Values {
                mask: self.given(node, 5),
                incomplete: node.optional(3).is_some(),
                ..self.plain(node, exprs)
            },
        };
        let [out, _] = self.attend(node, q, k, v, &heads, false)?;
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
            offset: keys as i64 - queries as i64,
            values: Values {
                mask: self.given(node, 5),
                incomplete: (3..5).any(|i| node.optional(i).is_some()),
                ..self.plain(node, (0..3).map(|i| self.expr(node, i)).collect())
            },
        };
        let [out, _] = self.attend(node, tq, tk, tv, &heads, false)?;
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
        let mut exprs: Vec<Expr> = (0..3).map(|i| self.expr(node, i)).collect();
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
            let mut start = 0;
            exprs.clear();
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
                let own = self.expr(node, 0).part(2, start, h * width);
                self.says(&value, own);
                start += h * width;
                exprs.push(self.what(&value));
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
        let past = node
            .optional(3)
            .and_then(|p| p.shape.get(2).copied())
            .unwrap_or(0);
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
                let turned = self.turned(node, &exprs[slot], past, queries, width);
                self.says(&value, turned);
                exprs[slot] = self.what(&value);
                if slot == 0 {
                    tq = rotated
                } else {
                    tk = rotated
                }
            }
        }
        let keys = past
            .checked_add(queries)
            .ok_or("its sequence is too long")?;
        let mut outputs = Vec::new();
        let mut first = false;
        if node.optional(3).is_some() {
            let shape = [batch, kv_heads, keys, width];
            let present_k =
                self.appended(node, ".present_key", 3, (tk, &exprs[1]), shape, q.dtype)?;
            let present_v =
                self.appended(node, ".present_value", 4, (tv, &exprs[2]), shape, q.dtype)?;
            exprs[1] = self.what(&present_k);
            exprs[2] = self.what(&present_v);
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
            offset: past as i64,
            values: Values {
                softcap: node.attribute("softcap").map_or(0.0, |a| f64::from(a.f)),
                mask: self.given(node, 10),
                band: [window.map(|w| w - 1), None],
                incomplete: node.optional(11).is_some() || node.int("smooth_softmax", 0) > 0,
                ..self.plain(node, exprs)
            },
        };
        let [out, _] = self.attend(node, tq, tk, tv, &a, false)?;
        outputs.insert(0, out);
        Ok(outputs)
    }
}
