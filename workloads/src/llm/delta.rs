//! The gated delta rule: linear attention with a matrix state.

use presil_numerics::LanePrimitive::{Add, Exp2, Fma, Log2, Mul};

use super::config::Delta;
use super::pass::Maker;
use crate::build::{Function, NormKind, dims as dims_of, plain, single};
use crate::einsum::{Access, Affine, DimId, Domain, Einsum, MapOperator, Place, ReduceOperator};
use crate::graph::GraphError;
use crate::op::{Op, OpClass};
use crate::tensor::{Role, TensorId};

impl Maker<'_> {
    /// Gated delta rule (arXiv 2412.06464, eq. 10). With state `S` [key, value], gate `a` in (0, 1) and strength
    /// `b` of each value head, each token does
    ///
    /// ```text
    /// m = S^T k;  d = b (v - a m);  S = a S + k d^T;  o = S^T q
    /// ```
    pub fn delta(&mut self, p: &str, x: TensorId, d: &Delta) -> Result<TensorId, GraphError> {
        let name = |part: &str| format!("{p}.{part}");
        let (heads, key, value) = (d.value_heads, d.key_dim, d.value_dim);
        let (k_width, v_width) = (d.key_heads * key, heads * value);
        let mixed = 2 * k_width + v_width;
        let view = |maker: &mut Self, part: &str, of: TensorId, width: &[u64]| {
            let shape = maker.shape(width);
            maker.b.view(&name(part), of, &shape)
        };
        let qkvz = self
            .b
            .linear(&name("in_proj_qkvz"), x, mixed + v_width, false)?;
        let ba = self.b.linear(&name("in_proj_ba"), x, 2 * heads, false)?;
        let qkv = view(self, "qkv", qkvz, &[mixed]);
        let qkv = self.causal_conv(p, qkv, mixed, d.kernel);
        let qkv = self.b.function(&name("conv_act"), qkv, Function::Silu)?;
        let q = view(self, "q", qkv, &[d.key_heads, key]);
        let q = self
            .b
            .norm(&name("q_norm"), q, NormKind::Rms, false, false)?;
        let k = view(self, "k", qkv, &[d.key_heads, key]);
        let k = self
            .b
            .norm(&name("k_norm"), k, NormKind::Rms, false, false)?;
        let v = view(self, "v", qkv, &[heads, value]);
        let strength = view(self, "b", ba, &[heads]);
        let strength = self
            .b
            .function(&name("beta"), strength, Function::Sigmoid)?;
        // exp(-exp(A) softplus(a + dt)), exp(A) known beforehand.
        let a = view(self, "a", ba, &[heads]);
        let decay = self.b.weight(name("A_log"), &[heads]);
        let dt = self.b.weight(name("dt_bias"), &[heads]);
        let program = [Add, Mul, Exp2, Add, Log2, Mul, Exp2];
        let gate = self.b.elementwise(
            &name("decay"),
            OpClass::Activation,
            &[a, decay, dt],
            &program,
        )?;

        let state = self.b.tensor(
            name("cache.state"),
            &[self.batch, heads, key, value],
            Role::Cache,
        );
        // Dimensions: batch, key head, value heads of it, key width, value width. One step each.
        let dims = dims_of(&[
            ("b", self.batch),
            ("g", d.key_heads),
            ("u", heads / d.key_heads),
            ("k", key),
            ("n", value),
        ]);
        let of_key = |place| plain(place, &dims, &[0, 1, 3]);
        let of_value = |place| plain(place, &dims, &[0, 1, 2, 4]);
        let of_head = |place| plain(place, &dims, &[0, 1, 2]);
        let of_state = |place| plain(place, &dims, &[0, 1, 2, 3, 4]);
        let step = |inputs, output, map| {
            let (dims, reduce, domain) = (dims.clone(), ReduceOperator::Sum, Domain::Dense);
            Einsum {
                dims,
                inputs,
                output,
                map,
                reduce,
                domain,
            }
        };
        let read = |place| {
            step(
                vec![of_key(Place::Input(0)), of_state(Place::Input(1))],
                place,
                MapOperator::MultiplyAccumulate,
            )
        };
        let out_shape = self.shape(&[v_width]);
        let each = |maker: &mut Self, part: &str, class, einsum: Einsum, inputs: &[TensorId]| {
            let out = maker
                .b
                .push(&name(part), class, single(einsum), inputs, &out_shape);
            maker.per_token();
            out
        };
        let memory = each(
            self,
            "recall",
            OpClass::Recurrent,
            read(of_value(Place::Output(0))),
            &[k, state],
        );
        let value_dims = dims_of(&[("b", self.batch), ("h", heads), ("n", value)]);
        let each_value = |place| plain(place, &value_dims, &[0, 1, 2]);
        let each_head = |place| plain(place, &value_dims, &[0, 1]);
        let change = Einsum {
            inputs: vec![
                each_value(Place::Input(0)),
                each_value(Place::Input(1)),
                each_head(Place::Input(2)),
                each_head(Place::Input(3)),
            ],
            output: each_value(Place::Output(0)),
            dims: value_dims.clone(),
            map: MapOperator::Lanes(vec![Fma, Mul]),
            reduce: ReduceOperator::Sum,
            domain: Domain::Dense,
        };
        let change = each(
            self,
            "change",
            OpClass::Elementwise,
            change,
            &[memory, v, gate, strength],
        );
        let update = step(
            vec![
                of_state(Place::Input(0)),
                of_key(Place::Input(1)),
                of_value(Place::Input(2)),
                of_head(Place::Input(3)),
            ],
            of_state(Place::Output(0)),
            MapOperator::Lanes(vec![Mul, Fma]),
        );
        self.b.push_op(Op {
            name: name("update"),
            class: OpClass::Elementwise,
            kind: single(update),
            inputs: vec![state, k, change, gate],
            outputs: vec![state],
            steps: self.tokens,
            meaning: crate::Meaning::Unstated,
        });
        let out = each(
            self,
            "read",
            OpClass::Recurrent,
            read(of_value(Place::Output(0))),
            &[q, state],
        );
        let out = view(self, "out_heads", out, &[heads, value]);
        let out = self
            .b
            .norm(&name("norm"), out, NormKind::Rms, true, false)?;
        let z = view(self, "z", qkvz, &[heads, value]);
        let program: Vec<_> = Function::Silu
            .program()
            .iter()
            .copied()
            .chain([Mul])
            .collect();
        let out = self
            .b
            .elementwise(&name("gate"), OpClass::Activation, &[z, out], &program)?;
        let out = view(self, "out", out, &[v_width]);
        self.b
            .linear(&name("out_proj"), out, self.config.hidden, false)
    }

    /// The last op runs once for each new token.
    fn per_token(&mut self) {
        let tokens = self.tokens;
        if let Some(op) = self.b.last_op() {
            op.steps = tokens;
        }
    }

    /// A depthwise convolution over each token and the `kernel - 1` before it, which a cache holds in decode.
    fn causal_conv(&mut self, p: &str, x: TensorId, channels: u64, kernel: u64) -> TensorId {
        let weight = self
            .b
            .weight(format!("{p}.conv1d.weight"), &[channels, 1, kernel]);
        let rows = if self.decode {
            kernel
        } else {
            kernel.min(self.tokens)
        };
        let cache = self.cache(format!("{p}.cache.conv"), rows, &[channels]);
        self.write(&format!("{p}.cache_conv"), x, rows, cache);
        let dims = dims_of(&[
            ("n", self.batch),
            ("g", channels),
            ("p", self.tokens),
            ("r", kernel),
        ]);
        let (source, length, padding) = if self.decode {
            (cache, rows, 0)
        } else {
            (x, self.tokens, kernel as i64 - 1)
        };
        let row = Affine {
            terms: vec![(DimId(2), 1), (DimId(3), 1)],
            offset: -padding,
        };
        let input = Access {
            place: Place::Input(0),
            ranks: vec![Affine::dim(DimId(0)), row, Affine::dim(DimId(1))],
            extents: vec![self.batch, length, channels],
        };
        let einsum = Einsum {
            inputs: vec![input, plain(Place::Input(1), &dims, &[1, 3])],
            output: plain(Place::Output(0), &dims, &[0, 2, 1]),
            dims,
            map: MapOperator::MultiplyAccumulate,
            reduce: ReduceOperator::Sum,
            domain: Domain::Dense,
        };
        let shape = self.shape(&[channels]);
        self.b.push(
            &format!("{p}.conv1d"),
            OpClass::Conv,
            single(einsum),
            &[source, weight],
            &shape,
        )
    }
}
