//! Matrix products and recurrent layers.

use presil_numerics::LanePrimitive as L;

use crate::build::{dims, lanes, plain, single};
use crate::einsum::{Access, Affine, DimId, Domain, Einsum, MapOperator, Place, ReduceOperator};
use crate::op::{Op, OpClass, OpKind};
use crate::tensor::{Role, TensorId};

use super::error::Fault;
use super::file::Operator;
use super::import::Importer;
use super::lower::Lowered;

/// `out[m, n] = sum_k in[m, k] weights[n, k]`.
fn product(m: u64, n: u64, k: u64) -> OpKind {
    let all = dims(&[("m", m), ("n", n), ("k", k)]);
    single(Einsum {
        inputs: vec![
            plain(Place::Input(0), &all, &[0, 2]),
            plain(Place::Input(1), &all, &[1, 2]),
        ],
        output: plain(Place::Output(0), &all, &[0, 1]),
        dims: all,
        map: MapOperator::MultiplyAccumulate,
        reduce: ReduceOperator::Sum,
        domain: Domain::Dense,
    })
}

impl<'a> Importer<'_, 'a> {
    /// FULLY_CONNECTED: weights [n, k]; the input is seen as rows of k elements.
    pub(super) fn fully_connected(&mut self, op: &Operator<'a>) -> Lowered {
        let (x, weight) = (self.operand(op, 0)?, self.operand(op, 1)?);
        let &[n, k] = weight.shape.as_slice() else {
            return Err("a fully connected layer needs weights of two ranks".into());
        };
        let elements = x.elements();
        if n == 0 || k == 0 || elements % k != 0 {
            return Err(format!(
                "an input {:?} is no multiple of rows of {k} elements",
                x.shape
            )
            .into());
        }
        if op.byte(1)? != 0 {
            return Err(
                "its weights are shuffled; convert the model without shuffled weights".into(),
            );
        }
        let shape = self.result(op, 0)?.shape.clone();
        let m = elements / k;
        if shape.iter().product::<u64>() != m.saturating_mul(n) {
            return Err(format!("its result should have {m} x {n} elements, not {shape:?}").into());
        }
        let mut inputs = vec![self.input(op, 0)?, self.input(op, 1)?];
        let learned = self.builder.graph.tensors[inputs[1]].role == Role::Weight;
        inputs.extend(self.optional(op, 2)?);
        let class = if learned {
            OpClass::Linear
        } else {
            OpClass::Matmul
        };
        let name = self.result(op, 0)?.name.clone();
        let out = self
            .builder
            .push(&name, class, product(m, n, k), &inputs, &shape);
        self.activated(op, op.byte(0)?, out)
    }

    /// BATCH_MATMUL: operands [.., m, k] and [.., k, n], each perhaps transposed; outer ranks broadcast.
    pub(super) fn batch_matmul(&mut self, op: &Operator<'a>) -> Lowered {
        let (a, b) = (self.operand(op, 0)?, self.operand(op, 1)?);
        let (Some((a_outer, &[a0, a1])), Some((b_outer, &[b0, b1]))) = (
            a.shape.split_last_chunk::<2>(),
            b.shape.split_last_chunk::<2>(),
        ) else {
            return Err("a batched matmul needs operands of two ranks or more".into());
        };
        let (transpose_a, transpose_b) = (op.byte(0)? != 0, op.byte(1)? != 0);
        let (m, k) = if transpose_a { (a1, a0) } else { (a0, a1) };
        let (bk, n) = if transpose_b { (b1, b0) } else { (b0, b1) };
        if k != bk {
            return Err(format!("its operands reduce over {k} and {bk} elements").into());
        }
        let ranks = a_outer.len().max(b_outer.len());
        let extent = |outer: &[u64], rank: usize| {
            (rank + outer.len())
                .checked_sub(ranks)
                .and_then(|r| outer.get(r).copied())
                .unwrap_or(1)
        };
        let mut shape: Vec<u64> = Vec::new();
        for rank in 0..ranks {
            match (extent(a_outer, rank), extent(b_outer, rank)) {
                (x, y) if x == y || y == 1 => shape.push(x),
                (1, y) => shape.push(y),
                (x, y) => return Err(format!("its batches {x} and {y} do not broadcast").into()),
            }
        }
        let names: Vec<String> = (0..ranks).map(|r| format!("b{r}")).collect();
        let mut named: Vec<(&str, u64)> = names
            .iter()
            .zip(&shape)
            .map(|(n, d)| (n.as_str(), *d))
            .collect();
        named.extend([("m", m), ("n", n), ("k", k)]);
        let all = dims(&named);
        let place = |rank: usize| DimId(rank as u32);
        let (dm, dn, dk) = (place(ranks), place(ranks + 1), place(ranks + 2));
        let access = |at: u8, outer: &[u64], inner: [(DimId, u64); 2]| {
            let first = ranks - outer.len();
            let batches = outer.iter().enumerate().map(|(r, d)| match d {
                1 => (Affine::zero(), 1),
                _ => (Affine::dim(place(first + r)), *d),
            });
            let inner = inner.map(|(dim, d)| (Affine::dim(dim), d));
            let (ranks, extents) = batches.chain(inner).unzip();
            Access {
                place: Place::Input(at),
                ranks,
                extents,
            }
        };
        let order = |swap: bool, pair: [(DimId, u64); 2]| match (swap, pair) {
            (true, [first, second]) => [second, first],
            (false, pair) => pair,
        };
        let mut ranks_out: Vec<u32> = (0..ranks as u32).collect();
        ranks_out.extend([dm.0, dn.0]);
        let einsum = Einsum {
            inputs: vec![
                access(0, a_outer, order(transpose_a, [(dm, m), (dk, k)])),
                access(1, b_outer, order(transpose_b, [(dk, k), (dn, n)])),
            ],
            output: plain(Place::Output(0), &all, &ranks_out),
            dims: all,
            map: MapOperator::MultiplyAccumulate,
            reduce: ReduceOperator::Sum,
            domain: Domain::Dense,
        };
        shape.extend([m, n]);
        let inputs = [self.input(op, 0)?, self.input(op, 1)?];
        let learned = self.builder.graph.tensors[inputs[1]].role == Role::Weight;
        let class = if learned {
            OpClass::Linear
        } else {
            OpClass::Matmul
        };
        let name = self.result(op, 0)?.name.clone();
        let out = self
            .builder
            .push(&name, class, single(einsum), &inputs, &shape);
        Ok(vec![out])
    }

    /// UNIDIRECTIONAL_SEQUENCE_LSTM: inputs 1 to 4 are the weights of the input, forget, cell and output gates for
    /// the input, 5 to 8 those for the state, 12 to 15 biases, 18 and 19 the states. Without an input gate it is
    /// one minus the forget gate. The products with the input need no state: one matmul over all time steps for
    /// each gate. Those with the state run step by step.
    pub(super) fn lstm(&mut self, op: &Operator<'a>) -> Lowered {
        let x = self.operand(op, 0)?;
        let &[first, second, features] = x.shape.as_slice() else {
            return Err("a recurrent layer needs an input of three ranks".into());
        };
        let present = |i: usize| op.inputs.get(i).is_some_and(|p| *p >= 0);
        if (9..=11).chain([16, 17]).chain(20..=23).any(present) {
            return Err(
                "peepholes, projections and layer norms of a recurrent layer are not supported"
                    .into(),
            );
        }
        let (steps, batch) = if op.byte(3)? != 0 {
            (first, second)
        } else {
            (second, first)
        };
        let width = match self.operand(op, 6)?.shape.as_slice() {
            &[n, k] if n == k && n > 0 => n,
            other => return Err(format!("its recurrent weights are {other:?}, not square").into()),
        };
        let gates: Vec<usize> = (0..4).filter(|g| present(1 + g)).collect();
        if !(gates == [0, 1, 2, 3] || gates == [1, 2, 3]) {
            return Err("it lacks the weights of a gate".into());
        }
        let format = x.quantization();
        let (input, state) = (self.input(op, 0)?, self.input(op, 18)?);
        let cell = self.input(op, 19)?;
        let name = self.result(op, 0)?.name.clone();
        let mut sums: Vec<TensorId> = Vec::new();
        for gate in &gates {
            for (what, at, from, m, k, steps) in [
                ("input", 1, input, steps.saturating_mul(batch), features, 1),
                ("state", 5, state, batch, width, steps),
            ] {
                let weight = self.input(op, at + gate)?;
                if self.builder.shape(weight) != [width, k] {
                    return Err(format!(
                        "weights of a gate are {:?}, not {:?}",
                        self.builder.shape(weight),
                        [width, k]
                    )
                    .into());
                }
                let mut operands = vec![from, weight];
                if what == "input" {
                    operands.extend(self.optional(op, 12 + gate)?);
                }
                let (class, called) = (
                    if what == "input" {
                        OpClass::Linear
                    } else {
                        OpClass::Recurrent
                    },
                    format!("{name}.{what}.{gate}"),
                );
                let kind = product(m, width, k);
                let out = self
                    .builder
                    .push(&called, class, kind, &operands, &[m, width]);
                self.builder.graph.tensors[out].quantization = format;
                if let Some(last) = self.builder.last_op() {
                    last.steps = steps;
                }
                sums.push(out);
            }
        }
        let shape = self.result(op, 0)?.shape.clone();
        if shape != [first, second, width] {
            return Err(format!("its result should be {:?}", [first, second, width]).into());
        }
        sums.push(cell);
        let out = self.gates(&name, &sums, batch, steps, width, &shape);
        self.builder.graph.tensors[out].quantization = format;
        Ok(vec![out])
    }

    /// The gates of a step: each a sum of two products through a sigmoid or tanh, c = f c + i g, h = o tanh c.
    fn gates(
        &mut self,
        name: &str,
        sums: &[TensorId],
        batch: u64,
        steps: u64,
        width: u64,
        shape: &[u64],
    ) -> TensorId {
        let all = dims(&[("b", batch), ("h", width)]);
        let inputs = (0..sums.len()).map(|i| plain(Place::Input(i as u8), &all, &[0, 1]));
        let mut program = Vec::new();
        for _ in 0..sums.len() / 2 {
            program.extend([L::Add, L::Mul, L::Exp2, L::Add, L::Reciprocal]);
        }
        program.extend([
            L::Mul,
            L::Fma,
            L::Mul,
            L::Exp2,
            L::Add,
            L::Reciprocal,
            L::Fma,
            L::Mul,
        ]);
        let einsum = lanes(
            inputs.collect(),
            plain(Place::Output(0), &all, &[0, 1]),
            &all,
            &program,
            ReduceOperator::Sum,
        );
        let out = self.builder.tensor(name, shape, Role::Activation);
        self.builder.push_op(Op {
            name: format!("{name}.gates"),
            class: OpClass::Activation,
            kind: single(einsum),
            inputs: sums.to_vec(),
            outputs: vec![out],
            steps,
            meaning: crate::Meaning::Unstated,
        });
        out
    }
}

impl From<std::num::TryFromIntError> for Fault {
    fn from(_: std::num::TryFromIntError) -> Self {
        Self::Reason("a number of its options is negative or too large".into())
    }
}
