//! LSTM, GRU and RNN layers.
//!
//! The products of all inputs with W do not depend on the state: one matmul over all time steps. The products of
//! the state with R follow one another: one matmul that runs as often as there are time steps (`Op::steps`), and
//! after it the gates. MACs: `T B D G H (I + H)` for T steps, batch B, D directions, G gates, width H, inputs I.

use presil_numerics::LanePrimitive as L;

use crate::build::{dims, plain, single};
use crate::einsum::{Affine, DimId, Place, ReduceOperator};
use crate::expr::{self, Expr};
use crate::meaning::Meaning;
use crate::op::{Op, OpClass, OpKind};
use crate::program::{Cell, Gate, Recurrence};
use crate::tensor::{Role, TensorId};

use super::conv::contraction;
use super::import::Importer;
use super::lower::{Lowered, lanes};
use super::node::Node;
use super::shapes;
use super::value::Value;

/// Gates of a layer, its states, and the lane program of the gates for one element of the state.
fn gates(op: &str) -> (u64, usize, &'static [L]) {
    use L::{Add, Exp2, Fma, Mul, Reciprocal};
    match op {
        // Three sigmoids and a tanh of sums, c = f c + i g, h = o tanh(c).
        "LSTM" => (
            4,
            2,
            &[
                Add, Add, Add, Add, Mul, Exp2, Add, Reciprocal, Mul, Exp2, Add, Reciprocal, Mul,
                Exp2, Add, Reciprocal, Mul, Exp2, Add, Reciprocal, Fma, Mul, Fma, Mul, Exp2, Add,
                Reciprocal, Fma, Mul,
            ],
        ),
        // Two sigmoids and a tanh of sums, h = (1 - z) n + z h.
        "GRU" => (
            3,
            1,
            &[
                Add, Add, Add, Mul, Exp2, Add, Reciprocal, Mul, Exp2, Add, Reciprocal, Fma, Mul,
                Exp2, Add, Reciprocal, Fma, Add, Mul, Fma,
            ],
        ),
        _ => (1, 1, &[Add, Mul, Exp2, Add, Reciprocal, Fma]),
    }
}

impl<'m> Importer<'m> {
    /// LSTM, GRU, RNN.
    pub fn recurrent(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let (x, w, r) = (
            node.input(0)?.clone(),
            node.input(1)?.clone(),
            node.input(2)?.clone(),
        );
        let (gates, states, program) = gates(node.op);
        let directions = if node.text("direction") == "bidirectional" {
            2
        } else {
            1
        };
        let batch_first = node.int("layout", 0) != 0;
        let &[first, second, inputs] = x.shape.as_slice() else {
            return Err(format!("it needs an input of three ranks, not {:?}", x.shape).into());
        };
        let (steps, batch) = if batch_first {
            (second, first)
        } else {
            (first, second)
        };
        let &[_, _, width] = r.shape.as_slice() else {
            return Err(format!(
                "its recurrence weights must have three ranks, not {:?}",
                r.shape
            )
            .into());
        };
        let rows = gates
            .checked_mul(width)
            .ok_or("its weights are too large")?;
        if w.shape != [directions, rows, inputs] || r.shape != [directions, rows, width] {
            return Err(format!(
                "weights of shape {:?} and {:?} do not fit {directions} directions, {gates} gates of width {width} and inputs of width {inputs}",
                w.shape, r.shape
            )
            .into());
        }
        let given = node.int("hidden_size", 0);
        if given != 0 && u64::try_from(given) != Ok(width) {
            return Err(format!(
                "hidden_size {given} contradicts recurrence weights of shape {:?}",
                r.shape
            )
            .into());
        }
        if steps == 0 || batch == 0 || width == 0 || inputs == 0 {
            return Err(format!("an input of shape {:?} without elements", x.shape).into());
        }
        let bias = node.optional(3).is_some();
        let sequence = steps.checked_mul(batch).ok_or("its sequence is too long")?;

        // All inputs by W: [T B, D, G H].
        let all = dims(&[
            ("m", sequence),
            ("g", directions),
            ("n", rows),
            ("k", inputs),
        ]);
        let at = |place, ranks: &[u32]| plain(place, &all, ranks);
        let einsum = contraction(
            all.clone(),
            at(Place::Input(0), &[0, 3]),
            at(Place::Input(1), &[1, 2, 3]),
            at(Place::Output(0), &[0, 1, 2]),
        );
        let mut tensors = vec![self.operand(node, 0)?, self.operand(node, 1)?];
        if bias {
            tensors.push(self.operand(node, 3)?);
        }
        let from_inputs = self.emit(
            node,
            ".input",
            OpClass::Linear,
            single(einsum),
            tensors,
            &[sequence, directions, rows],
            x.dtype,
        )?;
        // In the order of time; the bias is added with the products of the state.
        let input = self.expr(node, 0);
        let input = if batch_first {
            input.transpose(&[1, 0, 2])
        } else {
            input
        };
        let products = self.contracted(&from_inputs, [input, self.expr(node, 1)], None, 2);
        self.says(&from_inputs, products);

        // The state lives between steps.
        let mut state: Vec<TensorId> = Vec::new();
        for (i, part) in [".state", ".cell"].into_iter().take(states).enumerate() {
            let t = self.fresh(
                &format!("{}{part}", node.name),
                &[directions, batch, width],
                x.dtype,
            );
            self.builder.graph.tensors[t].role = Role::Cache;
            if let Some(initial) = node.optional(5 + i).cloned().filter(|v| !v.is_fixed()) {
                if initial.elements() != directions * batch * width {
                    return Err(format!(
                        "an initial state of shape {:?} for {directions} x {batch} x {width}",
                        initial.shape
                    )
                    .into());
                }
                let from = self.operand(node, 5 + i)?;
                let kind = OpKind::Move {
                    elements: initial.elements(),
                };
                self.builder.push_op(Op {
                    name: format!("{}{part}.initial", node.name),
                    class: OpClass::CacheWrite,
                    kind,
                    inputs: vec![from],
                    outputs: vec![t],
                    steps: 1,
                    meaning: crate::Meaning::Elsewhere,
                });
            }
            state.push(t);
        }
        let hidden = *state.first().ok_or("it has no state")?;

        // The state by R, once a step: [D, B, G H].
        let all = dims(&[("g", directions), ("m", batch), ("n", rows), ("k", width)]);
        let at = |place, ranks: &[u32]| plain(place, &all, ranks);
        let einsum = contraction(
            all.clone(),
            at(Place::Input(0), &[0, 1, 3]),
            at(Place::Input(1), &[0, 2, 3]),
            at(Place::Output(0), &[0, 1, 2]),
        );
        let weights = self.operand(node, 2)?;
        let from_state = self.emit(
            node,
            ".recurrent",
            OpClass::Recurrent,
            single(einsum),
            vec![hidden, weights],
            &[directions, batch, rows],
            x.dtype,
        )?;
        self.elsewhere();
        self.run_for(steps);

        // The gates, once a step: both sums in, the states in and out.
        let all = dims(&[("g", directions), ("m", batch), ("n", width)]);
        let each = |place| plain(place, &all, &[0, 1, 2]);
        let gate = |place| {
            let mut access = plain(place, &all, &[0, 1]);
            access.ranks.push(Affine {
                terms: vec![(DimId(2), gates as i64)],
                offset: 0,
            });
            access.extents.push(rows);
            access
        };
        let mut reads = vec![gate(Place::Input(0)), gate(Place::Input(1))];
        reads.extend((0..states).map(|i| each(Place::Input(2 + i as u8))));
        let einsum = lanes(
            reads,
            each(Place::Output(0)),
            &all,
            program,
            ReduceOperator::Sum,
        );
        let operands = [from_inputs.tensor, from_state.tensor]
            .into_iter()
            .flatten()
            .chain(state.iter().copied())
            .collect();
        let gates_op = self.builder.push_op(Op {
            name: format!("{}.gates", node.name),
            class: OpClass::Activation,
            kind: single(einsum),
            inputs: operands,
            outputs: state.clone(),
            steps: 1,
            meaning: crate::Meaning::Unstated,
        });
        self.run_for(steps);

        // Outputs: every state, the last state, the last cell.
        let whole = if batch_first {
            vec![batch, steps, directions, width]
        } else {
            vec![steps, directions, batch, width]
        };
        let last = if batch_first {
            vec![batch, directions, width]
        } else {
            vec![directions, batch, width]
        };
        let elements = shapes::checked(whole.clone())?.iter().product();
        let mut outputs = vec![self.emit(
            node,
            "",
            OpClass::Move,
            OpKind::Move { elements },
            vec![hidden],
            &whole,
            x.dtype,
        )?];
        self.elsewhere();
        // The op of the gates gives all states: those of each step, the last ones, the last cells.
        let layer = self.layer(node, &from_inputs, &r, [steps, batch], directions);
        let one = directions * batch * width;
        let every = layer.part(0, 0, steps.saturating_mul(one));
        let every = every.reshape(&[steps, directions, batch, width]);
        let every = if batch_first {
            every.transpose(&[2, 0, 1, 3])
        } else {
            every
        };
        let mut gives: Vec<(TensorId, Expr)> = outputs
            .iter()
            .filter_map(|o| Some((o.tensor?, every.clone())))
            .collect();
        for (i, t) in state.iter().enumerate() {
            let last = layer.part(0, steps.saturating_mul(one) + i as u64 * one, one);
            gives.push((*t, last.reshape(&[directions, batch, width])));
        }
        let op = &mut self.builder.graph.ops[gates_op];
        op.meaning = expr::meaning(&op.inputs, &gives);
        for (i, t) in state.into_iter().enumerate() {
            let value: Value<'m> = if node.wants(1 + i) {
                self.emit(
                    node,
                    [".last", ".last_cell"][i.min(1)],
                    OpClass::Move,
                    OpKind::View,
                    vec![t],
                    &last,
                    x.dtype,
                )
                .inspect(|value| {
                    let state = Expr::tensor(t, &[directions, batch, width]);
                    let state = if batch_first {
                        state.transpose(&[1, 0, 2])
                    } else {
                        state
                    };
                    self.says(value, state);
                })?
            } else {
                Value::made(x.dtype, vec![directions, batch, width], t)
            };
            outputs.push(value);
        }
        Ok(outputs)
    }

    /// The value of a layer, as [`Recurrence`] says.
    fn layer(
        &self,
        node: &Node<'m>,
        from_inputs: &Value<'m>,
        r: &Value<'m>,
        [steps, batch]: [u64; 2],
        directions: u64,
    ) -> Expr {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let width = r.shape.last().copied().unwrap_or(0);
        let cell = match node.op {
            "LSTM" => Cell::Lstm,
            "GRU" => Cell::Gru {
                reset_after: node.int("linear_before_reset", 0) != 0,
            },
            _ => Cell::Plain,
        };
        let states = if cell == Cell::Lstm { 2 } else { 1 };
        let all = (steps + states).saturating_mul(directions * batch * width);
        let Some(functions) = functions(node, cell, number(directions)) else {
            return Expr::unknown(&[all]);
        };
        let given: [Option<Expr>; 5] = [3, 4, 5, 6, 7].map(|i| self.given(node, i));
        let recurrence = Recurrence {
            cell,
            steps: number(steps),
            batch: number(batch),
            reverse: match node.text("direction") {
                "bidirectional" => vec![false, true],
                "reverse" => vec![true],
                _ => vec![false],
            },
            width: number(width),
            functions,
            clip: node.attribute("clip").map(|a| f64::from(a.f)),
            coupled: node.int("input_forget", 0) != 0,
            given: given.each_ref().map(Option::is_some),
        };
        // States of a batch-first layer are [batch, directions, width].
        let in_order = |x: &Expr| {
            if node.int("layout", 0) != 0 && x.shape().len() == 3 {
                x.transpose(&[1, 0, 2])
            } else {
                x.clone()
            }
        };
        let mut operands = vec![self.what(from_inputs), self.expr(node, 2)];
        for (i, value) in given.iter().enumerate() {
            operands.extend(value.as_ref().map(|v| {
                if i == 2 || i == 3 {
                    in_order(v)
                } else {
                    v.clone()
                }
            }));
        }
        let operands: Vec<&Expr> = operands.iter().collect();
        Expr::step(
            Meaning::Recurrence(Box::new(recurrence)),
            &operands,
            vec![all],
        )
    }

    /// Lets the last op run so often.
    fn run_for(&mut self, steps: u64) {
        if let Some(op) = self.builder.last_op() {
            op.steps = steps;
        }
    }
}

/// The functions of each direction's gates, candidate and cell, as the node names them.
fn functions(node: &Node, cell: Cell, directions: usize) -> Option<Vec<[Gate; 3]>> {
    let each = match cell {
        Cell::Lstm => 3,
        Cell::Gru { .. } => 2,
        Cell::Plain => 1,
    };
    let names: Vec<&str> = node.attribute("activations").map_or(Vec::new(), |a| {
        a.strings
            .iter()
            .filter_map(|s| std::str::from_utf8(s).ok())
            .collect()
    });
    let parameter = |list: &str, at: usize| node.floats(list).and_then(|p| p.get(at)).copied();
    let standard: &[&str] = match cell {
        Cell::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        Cell::Gru { .. } => &["Sigmoid", "Tanh"],
        Cell::Plain => &["Tanh"],
    };
    let gate = |at: usize| {
        let name = match names.get(at) {
            Some(name) => name,
            None => standard.get(at % each)?,
        };
        let number = |list: &str, default: f32| f64::from(parameter(list, at).unwrap_or(default));
        let (alpha, beta) = ("activation_alpha", "activation_beta");
        let text = match name.to_ascii_lowercase().as_str() {
            "sigmoid" => "sigmoid(x)".into(),
            "tanh" => "tanh(x)".into(),
            "relu" => "relu(x)".into(),
            "softsign" => "x / (1 + abs(x))".into(),
            "softplus" => "softplus(x)".into(),
            "affine" => format!("{} * x + {}", number(alpha, 1.0), number(beta, 0.0)),
            "leakyrelu" => format!("max(x, 0) + {} * min(x, 0)", number(alpha, 0.01)),
            "thresholdedrelu" => format!("select(less({}, x), x, 0)", number(alpha, 1.0)),
            "scaledtanh" => format!("{} * tanh({} * x)", number(alpha, 1.0), number(beta, 1.0)),
            "hardsigmoid" => format!(
                "max(0, min(1, {} * x + {}))",
                number(alpha, 0.2),
                number(beta, 0.5)
            ),
            "elu" => format!("max(x, 0) + {} * (exp(min(x, 0)) - 1)", number(alpha, 1.0)),
            _ => return None,
        };
        let formula = crate::Formula::parse(&text).ok()?;
        Some(Gate { formula })
    };
    (0..directions)
        .map(|d| {
            let at = |i: usize| gate(d * each + i.min(each - 1));
            Some([at(0)?, at(1)?, at(2)?])
        })
        .collect()
}
