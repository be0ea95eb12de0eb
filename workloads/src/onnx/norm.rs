//! Norms.

use presil_numerics::LanePrimitive as L;

use crate::build::{Builder, NormKind, dims, plain};
use crate::einsum::{Access, Affine, DimId, Place, ReduceOperator};
use crate::expr::{self, Expr};
use crate::formula::{Binary, Unary};
use crate::graph::GraphError;
use crate::meaning::{Meaning, Parameters};
use crate::op::{OpClass, OpKind};
use crate::tensor::TensorId;

use super::error::Fault;
use super::import::Importer;
use super::lower::{Lowered, lanes};
use super::node::Node;
use super::shapes;
use super::value::{DType, FOLDED_ELEMENTS, Value};

/// Where scale and shift lie: along the normalized ranks, or the channels.
#[derive(Clone, Copy)]
enum Along<'s> {
    Row(&'s [u64]),
    Channels(u64),
}

fn epsilon(node: &Node, default: f64) -> f64 {
    node.attribute("epsilon")
        .map_or(f64::from(default as f32), |a| f64::from(a.f))
}

impl<'m> Importer<'m> {
    /// Batch normalization at inference: one multiply-add for each element. Mean and variance are folded into
    /// scale and shift before inference and not read.
    pub fn batch_norm(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        if node.int("training_mode", 0) != 0 {
            return Err("it is in training mode; export the model for inference".into());
        }
        let channels = *x
            .shape
            .get(1)
            .ok_or_else(|| format!("it needs an input of two or more ranks, not {:?}", x.shape))?;
        for i in 1..5 {
            if node.input(i)?.shape != [channels] {
                return Err(format!(
                    "input {i} must have shape [{channels}], not {:?}",
                    node.input(i)?.shape
                )
                .into());
            }
        }
        let mut seen = vec![1u64; x.rank() - 1];
        seen[0] = channels;
        let operands = vec![
            (self.operand(node, 0)?, x.shape.clone()),
            (self.operand(node, 1)?, seen.clone()),
            (self.operand(node, 2)?, seen),
        ];
        let out = self.lanes(node, "", OpClass::Norm, &operands, &[L::Fma], x.dtype)?;
        let mut along = vec![1u64; x.rank() - 1];
        along[0] = channels;
        let parameters: Vec<Expr> = (1..5).map(|i| self.expr(node, i).reshape(&along)).collect();
        let input = self.expr(node, 0);
        let all: Vec<&Expr> = std::iter::once(&input).chain(&parameters).collect();
        let epsilon = epsilon(node, 1e-5);
        let text = format!("(x0 - x3) / sqrt(x4 + {epsilon}) * x1 + x2");
        self.says(&out, Expr::formula(&text, &all));
        Ok(vec![out])
    }

    /// Runs a builder method that makes an op of one output over `x`, seen in a shape of the same elements, and
    /// gives the output the shape `shape`.
    pub fn built(
        &mut self,
        node: &Node<'m>,
        x: TensorId,
        seen: &[u64],
        shape: &[u64],
        dtype: DType,
        make: impl FnOnce(&mut Builder, &str) -> Result<TensorId, GraphError>,
    ) -> Result<Value<'m>, Fault> {
        if shape.contains(&0) {
            return self.emit(node, "", OpClass::Move, OpKind::View, vec![x], shape, dtype);
        }
        let own = std::mem::replace(&mut self.builder.graph.tensors[x].shape, seen.to_vec());
        let made = make(&mut self.builder, &node.name);
        self.builder.graph.tensors[x].shape = own;
        let made = made?;
        let tensor = &mut self.builder.graph.tensors[made];
        tensor.shape = shape.to_vec();
        tensor.quantization = dtype.format().into();
        Ok(Value::made(dtype, shape.to_vec(), made))
    }

    fn norm_over(
        &mut self,
        node: &Node<'m>,
        kind: NormKind,
        seen: &[u64],
        parameters: &[usize],
        along: Along<'_>,
    ) -> Result<Value<'m>, Fault> {
        let x = node.input(0)?.clone();
        let mut inputs = vec![self.operand(node, 0)?];
        for &i in parameters.iter().filter(|i| node.optional(**i).is_some()) {
            inputs.push(self.operand(node, i)?);
        }
        let last = seen.len() - 1;
        let out = self.built(node, inputs[0], seen, &x.shape, x.dtype, |b, name| {
            b.norm_with(name, &inputs, kind, last..last + 1)
        })?;
        let given: Vec<Expr> = parameters
            .iter()
            .filter_map(|i| self.given(node, *i))
            .map(|p| match along {
                Along::Row(row) => p.expand(row),
                Along::Channels(channels) => p.reshape(&[channels]),
            })
            .collect();
        let input = self.expr(node, 0);
        let operands: Vec<&Expr> = std::iter::once(&input).chain(&given).collect();
        let meaning = Meaning::Norm {
            kind,
            epsilon: epsilon(node, 1e-5),
            parameters: match along {
                Along::Row(_) => Parameters::Row,
                Along::Channels(_) => Parameters::Channels,
            },
        };
        self.says(&out, Expr::step(meaning, &operands, x.shape.clone()));
        Ok(out)
    }

    /// Layer or RMS normalization from an axis on.
    pub fn layer_norm(&mut self, node: &Node<'m>, kind: NormKind) -> Lowered<'m> {
        let x = node.input(0)?;
        let axis = shapes::axis(node.int("axis", -1), x.rank())?;
        let inner: u64 = x.shape[axis..].iter().product();
        for i in [1, 2] {
            if let Some(p) = node.optional(i).filter(|p| {
                shapes::broadcast([&x.shape[axis..], &p.shape]).as_deref() != Ok(&x.shape[axis..])
            }) {
                return Err(format!(
                    "input {i} of shape {:?} does not fit the normalized {:?}",
                    p.shape,
                    &x.shape[axis..]
                )
                .into());
            }
        }
        let seen = [x.shape[..axis].iter().product(), inner];
        let row = x.shape[axis..].to_vec();
        let mut outputs = vec![self.norm_over(node, kind, &seen, &[1, 2], Along::Row(&row))?];
        let over: Vec<usize> = (axis..x.rank()).collect();
        let input = self.expr(node, 0);
        let mean = input.reduce(ReduceOperator::Sum, true, &over);
        let squares = match kind {
            NormKind::Layer => Expr::formula("square(x - y)", &[&input, &mean]),
            NormKind::Rms => Expr::formula("square(x)", &[&input]),
        };
        let squares = squares.reduce(ReduceOperator::Sum, true, &over);
        let text = format!("rsqrt(x + {})", epsilon(node, 1e-5));
        let deviation = Expr::formula(&text, &[&squares]);
        let x = node.input(0)?;
        // Mean and inverse deviation, where they are asked for, are by-products of the op.
        for (i, part) in [(1, ".mean"), (2, ".deviation")] {
            if node.wants(i) {
                let mut shape = x.shape.clone();
                shape[axis..].fill(1);
                let from = outputs[0].tensor.into_iter().collect();
                outputs.push(self.emit(
                    node,
                    part,
                    OpClass::Move,
                    OpKind::Move { elements: seen[0] },
                    from,
                    &shape,
                    x.dtype,
                )?);
                let value = if i == 1 && kind == NormKind::Layer {
                    &mean
                } else {
                    &deviation
                };
                self.builder.means(expr::meaning(
                    &[],
                    &outputs
                        .last()
                        .and_then(|o| o.tensor)
                        .map(|t| (t, value.clone()))
                        .into_iter()
                        .collect::<Vec<_>>(),
                ));
            } else if node.proto.output.len() > i {
                outputs.push(outputs[0].clone());
            }
        }
        Ok(outputs)
    }

    /// Normalization over all ranks behind the channels.
    pub fn instance_norm(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?;
        let [n, c, rest @ ..] = x.shape.as_slice() else {
            return Err(
                format!("it needs an input of two or more ranks, not {:?}", x.shape).into(),
            );
        };
        node.input(1)?;
        node.input(2)?;
        let (seen, channels) = ([n * c, rest.iter().product()], *c);
        Ok(vec![self.norm_over(
            node,
            NormKind::Layer,
            &seen,
            &[1, 2],
            Along::Channels(channels),
        )?])
    }

    /// Normalization over groups of channels.
    pub fn group_norm(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?;
        let groups = u64::try_from(node.int("num_groups", 1)).unwrap_or(0);
        let [n, c, rest @ ..] = x.shape.as_slice() else {
            return Err(
                format!("it needs an input of two or more ranks, not {:?}", x.shape).into(),
            );
        };
        if groups == 0 || c % groups != 0 {
            return Err(format!("{c} channels must be divisible by {groups} groups").into());
        }
        node.input(1)?;
        node.input(2)?;
        let seen = [n * groups, c / groups * rest.iter().product::<u64>()];
        let channels = *c;
        let out = self.norm_over(
            node,
            NormKind::Layer,
            &seen,
            &[1, 2],
            Along::Channels(channels),
        )?;
        // Before version 21 there is one scale and one shift for each group.
        if node.input(1)?.shape == [groups] && groups != channels {
            let spread = |i: usize| {
                let each = usize::try_from(channels / groups).unwrap_or(1);
                let places = (0..usize::try_from(channels).unwrap_or(0)).map(|c| Some(c / each));
                self.expr(node, i).take(0, places.collect(), 0.0)
            };
            let (input, scale, shift) = (self.expr(node, 0), spread(1), spread(2));
            let meaning = Meaning::Norm {
                kind: NormKind::Layer,
                epsilon: epsilon(node, 1e-5),
                parameters: Parameters::Channels,
            };
            let shape = out.shape.clone();
            self.says(&out, Expr::step(meaning, &[&input, &scale, &shift], shape));
        }
        Ok(vec![out])
    }

    /// Normalization along one axis (LpNormalization) or all but the channels (MeanVarianceNormalization).
    pub fn axis_norm(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?;
        let (kind, axes) = match node.op {
            "LpNormalization" => (NormKind::Rms, vec![node.int("axis", -1)]),
            _ => (
                NormKind::Layer,
                node.ints("axes")
                    .map_or_else(|| vec![0, 2, 3], <[i64]>::to_vec),
            ),
        };
        let axes = shapes::axes(&axes, x.rank())?;
        let inner: u64 = axes.iter().map(|a| x.shape[*a]).product();
        let seen = [x.elements().checked_div(inner).unwrap_or(0), inner];
        let out = self.norm_over(node, kind, &seen, &[], Along::Row(&[]))?;
        let input = self.expr(node, 0);
        let sum = |x: &Expr, mean| x.reduce(ReduceOperator::Sum, mean, &axes);
        let value = if node.op == "LpNormalization" {
            let p = node.int("p", 2);
            let powers = sum(
                &Expr::formula(&format!("pow(abs(x), {p})"), &[&input]),
                false,
            );
            // Rows of zeros stay so.
            let text = format!("select(equal(y, 0), 0, x / pow(y, 1 / {p}))");
            Expr::formula(&text, &[&input, &powers])
        } else {
            let centred = input.binary(Binary::Subtract, &sum(&input, true));
            let variance = sum(&centred.unary(Unary::Square), true);
            Expr::formula("x / (sqrt(y) + 1e-9)", &[&centred, &variance])
        };
        self.says(&out, value);
        Ok(vec![out])
    }

    /// Local response normalization: squares summed over neighbouring channels, a power, a product.
    pub fn lrn(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let size = u64::try_from(node.int("size", 1))
            .ok()
            .filter(|s| *s > 0)
            .ok_or("its size must be at least 1")?;
        let [n, c, rest @ ..] = x.shape.as_slice() else {
            return Err(
                format!("it needs an input of two or more ranks, not {:?}", x.shape).into(),
            );
        };
        let inner: u64 = rest.iter().product();
        let all = dims(&[("n", *n), ("c", *c), ("x", inner), ("s", size)]);
        let points = dims(&[("n", *n), ("c", *c), ("x", inner)]);
        let before = i64::try_from((size - 1) / 2).unwrap_or(0);
        let window = Access {
            place: Place::Input(0),
            ranks: vec![
                Affine::dim(DimId(0)),
                Affine {
                    terms: vec![(DimId(1), 1), (DimId(3), 1)],
                    offset: -before,
                },
                Affine::dim(DimId(2)),
            ],
            extents: vec![*n, *c, inner],
        };
        let at = |place| plain(place, &points, &[0, 1, 2]);
        let cascade = vec![
            lanes(
                vec![window],
                plain(Place::Local(0), &all, &[0, 1, 2]),
                &all,
                &[L::Mul],
                ReduceOperator::Sum,
            ),
            lanes(
                vec![at(Place::Input(0)), at(Place::Local(0))],
                at(Place::Output(0)),
                &points,
                &[L::Fma, L::Log2, L::Mul, L::Exp2, L::Mul],
                ReduceOperator::Sum,
            ),
        ];
        let t = self.operand(node, 0)?;
        let out = self.emit(
            node,
            "",
            OpClass::Norm,
            OpKind::Cascade(cascade),
            vec![t],
            &x.shape,
            x.dtype,
        )?;
        let number =
            |name: &str, default: f64| node.attribute(name).map_or(default, |a| f64::from(a.f));
        let (alpha, beta) = (number("alpha", f64::from(1e-4f32)), number("beta", 0.75));
        let bias = number("bias", 1.0);
        let input = self.expr(node, 0);
        let (before, after) = ((size - 1) / 2, size / 2);
        let taps = |c: u64| {
            let last = c.saturating_add(after).min(x.shape[1] - 1);
            let window = c.saturating_sub(before)..=last;
            window.map(|i| (i as usize, 1.0)).collect()
        };
        let value = if size.min(x.shape[1]).saturating_mul(x.shape[1]) > FOLDED_ELEMENTS {
            Expr::unknown(&x.shape)
        } else {
            let squares = input.unary(Unary::Square);
            let sums = squares.blend(1, (0..x.shape[1]).map(taps).collect());
            let text = format!("x / pow({bias} + {alpha} / {size} * y, {beta})");
            Expr::formula(&text, &[&input, &sums])
        };
        self.says(&out, value);
        Ok(vec![out])
    }

    /// A residual sum followed by a norm; the sum is the fourth output, where it is asked for.
    pub fn skip_norm(&mut self, node: &Node<'m>, kind: NormKind) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let width = *x
            .shape
            .last()
            .ok_or("it needs an input of one or more ranks")?;
        let rows = x.elements().checked_div(width).unwrap_or(0);
        // Layer: x, skip, gamma, beta, bias; RMS: x, skip, gamma, bias.
        let (beta, bias) = if kind == NormKind::Layer {
            (Some(3), 4)
        } else {
            (None, 3)
        };
        let mut operands = vec![
            (self.operand(node, 0)?, x.shape.clone()),
            (self.operand(node, 1)?, node.input(1)?.shape.clone()),
        ];
        let mut program = vec![L::Add];
        if let Some(b) = node.optional(bias) {
            operands.push((self.operand(node, bias)?, b.shape.clone()));
            program.push(L::Add);
        }
        let sum = self.lanes(
            node,
            ".sum",
            OpClass::Elementwise,
            &operands,
            &program,
            x.dtype,
        )?;
        let mut total = self.expr(node, 0).binary(Binary::Add, &self.expr(node, 1));
        if let Some(b) = self.given(node, bias) {
            total = total.binary(Binary::Add, &b);
        }
        self.says(&sum, total);
        let mut inputs = vec![sum.tensor.ok_or("it has no input")?, self.operand(node, 2)?];
        if let Some(beta) = beta.filter(|b| node.optional(*b).is_some()) {
            inputs.push(self.operand(node, beta)?);
        }
        let out = self.built(
            node,
            inputs[0],
            &[rows, width],
            &x.shape,
            x.dtype,
            |b, name| b.norm_with(name, &inputs, kind, 1..2),
        )?;
        let mut operands = vec![self.what(&sum), self.expr(node, 2)];
        operands.extend(beta.and_then(|b| self.given(node, b)));
        let meaning = Meaning::Norm {
            kind,
            epsilon: epsilon(node, f64::from(1e-12f32)),
            parameters: Parameters::Row,
        };
        let operands: Vec<&Expr> = operands.iter().collect();
        self.says(&out, Expr::step(meaning, &operands, x.shape.clone()));
        if node.wants(1) || node.wants(2) {
            return Err("its outputs of mean and deviation are not supported".into());
        }
        Ok(vec![out.clone(), out.clone(), out, sum])
    }
}
