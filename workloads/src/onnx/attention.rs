//! Attention operators: scores, softmax and weighted values as ops of their own.

use presil_numerics::LanePrimitive as L;

use crate::build::{dims, plain, single};
use crate::einsum::{Access, DimId, Domain, Place, ReduceOperator};
use crate::expr::Expr;
use crate::formula::Binary;
use crate::meaning::Meaning;
use crate::op::{OpClass, OpKind};
use crate::tensor::TensorId;

use super::conv::contraction;
use super::error::Fault;
use super::import::Importer;
use super::lower::Lowered;
use super::node::Node;
use super::scores::{Heads, Values, heads_apart};
use super::shapes;
use super::value::{DType, Value};

impl<'m> Importer<'m> {
    /// Scores, softmax, values; returns the result, laid out as the queries are, and the scores: with `all_scores` those
    /// that no query sees, too.
    pub fn attend(
        &mut self,
        node: &Node<'m>,
        q: TensorId,
        k: TensorId,
        v: TensorId,
        a: &Heads,
        all_scores: bool,
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
            let (query, key, offset) = (DimId(3), DimId(4), a.offset);
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
        if !all_scores {
            einsum.domain = domain();
        }
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
        let values = &a.values;
        let scale = values
            .scale
            .unwrap_or(1.0 / (a.key_width.max(1) as f64).sqrt());
        let products = self.contracted(&product, [values.q.clone(), values.k.clone()], None, 0);
        self.says(&product, products.with(Binary::Multiply, scale));
        let weights = self
            .builder
            .softmax(&format!("{}.softmax", node.name), scores, 3)?;
        self.builder.graph.tensors[weights].quantization = a.dtype.format().into();
        let [_, _, seen] = a.stages(&self.what(&product));
        let shares = Meaning::Softmax {
            axis: 3,
            scale: 1.0,
            log: false,
        };
        let shares = Expr::step(shares, &[&seen], shape.to_vec());
        // A query that sees no key takes nothing.
        let most = seen.reduce(ReduceOperator::Max, false, &[3]);
        let shares = Expr::formula("select(equal(y, -1e999), 0, x)", &[&shares, &most]);
        let shares = if values.incomplete {
            Expr::unknown(&shape)
        } else {
            shares
        };
        self.says_all(vec![(weights, shares)]);
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
        let out = self.emit(
            node,
            "",
            OpClass::AttentionPv,
            single(einsum),
            vec![weights, v],
            &shape,
            a.dtype,
        )?;
        let shares = Expr::tensor(weights, &[a.batch, a.heads, a.queries, a.keys]);
        let value = self.contracted(&out, [shares.clone(), values.v.clone()], None, 0);
        self.says(&out, value);
        // What the scores are called may be any stage on the way.
        let scored = match node.int("qk_matmul_output_mode", 0) {
            1 => Some(a.stages(&self.what(&product))[1].clone()),
            2 => Some(seen),
            3 => Some(shares),
            _ => None,
        };
        let product = Value {
            expr: scored,
            ..product
        };
        Ok([out, product])
    }

    /// A cache and what is new, in one tensor [batch, heads, length, width].
    pub fn appended(
        &mut self,
        node: &Node<'m>,
        part: &str,
        past: usize,
        (new, added): (TensorId, &Expr),
        shape: [u64; 4],
        dtype: DType,
    ) -> Result<Value<'m>, Fault> {
        let inputs = vec![self.operand(node, past)?, new];
        let elements = shapes::checked(shape.to_vec())?.iter().product();
        let out = self.emit(
            node,
            part,
            OpClass::CacheWrite,
            OpKind::Move { elements },
            inputs,
            &shape,
            dtype,
        )?;
        let added = heads_apart(added, shape[1]);
        let old = self.expr(node, past);
        let value = if added.shape() == shape {
            added
        } else {
            Expr::concat(2, &[&old, &added])
        };
        self.says(&out, value);
        Ok(out)
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
                (tk, &self.expr(node, 1)),
                [batch, kv_heads, keys, key_width],
                k.dtype,
            )?;
            let present_v = self.appended(
                node,
                ".present_value",
                source(5, 2),
                (tv, &self.expr(node, 2)),
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
        let side = |name: &str| u64::try_from(node.int(name, -1)).ok();
        let band = [side("left_window_size"), side("right_window_size")];
        let number = |name: &str| node.attribute(name).map(|a| f64::from(a.f));
        let of = |made: Option<&Value<'m>>, own: usize, importer: &Self| match made {
            Some(value) => importer.what(value),
            None => importer.expr(node, own),
        };
        let lengths = self.given(node, 6);
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
            window: band[0]
                .filter(|_| causal && lengths.is_none())
                .and_then(|left| left.checked_add(1)),
            dtype: q.dtype,
            // The lengths of sequences are known when it runs; at most all keys are theirs.
            offset: match lengths {
                Some(_) => keys as i64 - queries as i64,
                None => past as i64,
            },
            values: Values {
                q: self.expr(node, 0),
                k: of(outputs.first(), 1, self),
                v: of(outputs.get(1), 2, self),
                scale: number("scale"),
                softcap: number("softcap").unwrap_or(0.0),
                mask: self.additive(node, 3, keys),
                band,
                lengths,
                incomplete: false,
            },
        };
        let [out, scores] = self.attend(node, tq, tk, tv, &heads, node.wants(3))?;
        outputs.insert(0, out);
        if node.wants(3) {
            // Not asked for: the names of the second and third outputs are empty.
            outputs.resize(3, scores.clone());
            outputs.push(scores);
        }
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
        let turned = self.rotated(node);
        self.says(
            &value,
            turned.unwrap_or_else(|| Expr::unknown(&value.shape)),
        );
        Ok(vec![value])
    }
}
