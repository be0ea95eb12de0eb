//! Elementwise functions, softmax, pooling and reductions.

use presil_numerics::LanePrimitive as L;

use crate::build::{Function, PoolKind, plain, single};
use crate::einsum::{DimId, Place, ReduceOperator};
use crate::expr::Expr;
use crate::meaning::Meaning;
use crate::op::{OpClass, OpKind};

use super::error::Fault;
use super::import::Importer;
use super::lower::{Lowered, dtype, lanes, numbered};
use super::node::Node;
use super::value::{DType, Value};
use super::window::Window;
use super::{results, shapes};

impl<'m> Importer<'m> {
    /// A function of each element of the first input. Bounds and other parameters are part of the program.
    pub fn function(&mut self, node: &Node<'m>, f: Function) -> Lowered<'m> {
        self.program(node, f.class(), f.program())
    }

    /// A lane program over each element of the first input.
    pub fn program(&mut self, node: &Node<'m>, class: OpClass, program: &[L]) -> Lowered<'m> {
        self.over_inputs(node, class, &[0], program, dtype(node)?)
    }

    /// A comparison: its result is boolean.
    pub fn predicate(&mut self, node: &Node<'m>, inputs: &[usize]) -> Lowered<'m> {
        self.over_inputs(
            node,
            OpClass::Elementwise,
            inputs,
            &[L::Compare],
            DType::Bool,
        )
    }

    /// An operator of any number of inputs, one primitive for each beyond the first.
    pub fn chain(&mut self, node: &Node<'m>, class: OpClass, primitive: L) -> Lowered<'m> {
        if node.inputs.len() == 1 {
            return self.same(node);
        }
        node.input(1)?;
        let inputs: Vec<usize> = (0..node.inputs.len()).collect();
        let program = vec![primitive; inputs.len() - 1];
        self.over_inputs(node, class, &inputs, &program, dtype(node)?)
    }

    /// x^y: a multiplication for squares, a square root for halves, logarithm and exponential otherwise.
    pub fn power(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let y = node.input(1)?;
        let exponent = (y.elements() == 1)
            .then(|| y.data())
            .flatten()
            .and_then(|d| d.floats().first().copied());
        match exponent {
            Some(2.0) => self.program(node, OpClass::Elementwise, Function::Square.program()),
            Some(3.0) => self.program(node, OpClass::Elementwise, &[L::Mul, L::Mul]),
            Some(0.5) => self.program(node, OpClass::Elementwise, Function::Sqrt.program()),
            Some(-0.5) => self.program(node, OpClass::Elementwise, Function::Rsqrt.program()),
            Some(-1.0) => self.program(node, OpClass::Elementwise, Function::Reciprocal.program()),
            Some(_) => self.program(node, OpClass::Elementwise, Function::Power.program()),
            None => self.over_inputs(
                node,
                OpClass::Elementwise,
                &[0, 1],
                Function::Power.program(),
                dtype(node)?,
            ),
        }
    }

    /// Gelu of a sum with a bias, where there is one.
    pub fn bias_gelu(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let f = if node.op == "FastGelu" {
            Function::GeluTanh
        } else {
            Function::Gelu
        };
        if node.optional(1).is_none() {
            return self.function(node, f);
        }
        let program: Vec<L> = std::iter::once(L::Add)
            .chain(f.program().iter().copied())
            .collect();
        self.over_inputs(node, OpClass::Activation, &[0, 1], &program, dtype(node)?)
    }

    /// A conversion; a parameter is converted before inference.
    pub fn cast(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?;
        let to = match node.op {
            "Cast" => {
                let number = node.int("to", 0);
                i32::try_from(number)
                    .ok()
                    .and_then(DType::of)
                    .ok_or_else(|| format!("element type {number} is none that ONNX defines"))?
            }
            _ => node.input(1)?.dtype,
        };
        if to == x.dtype {
            return self.same(node);
        }
        if x.weight && x.tensor.is_some() && x.dtype.is_float() && to.is_float() {
            return Ok(vec![Value {
                dtype: to,
                known: super::value::Known::Nothing,
                expr: self.elementwise_value(node),
                ..x.clone()
            }]);
        }
        self.over_inputs(
            node,
            OpClass::Quantize,
            &[0],
            Function::Convert.program(),
            to,
        )
    }

    /// Softmax over an axis; before version 13 over all ranks from an axis on.
    pub fn softmax(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let old = node.opset < 13;
        let axis = shapes::axis(node.int("axis", if old { 1 } else { -1 }), x.rank())?;
        let t = self.operand(node, 0)?;
        let (seen, at) = if old {
            (
                vec![
                    x.shape[..axis].iter().product(),
                    x.shape[axis..].iter().product(),
                ],
                1,
            )
        } else {
            (x.shape.clone(), axis)
        };
        let out = self.built(node, t, &seen, &x.shape, x.dtype, |b, name| {
            b.softmax(name, t, at)
        })?;
        let input = self.expr(node, 0).reshape(&seen);
        let value = |log| {
            let meaning = Meaning::Softmax {
                axis: at,
                scale: 1.0,
                log,
            };
            Expr::step(meaning, &[&input], seen.clone()).reshape(&x.shape)
        };
        // The operands of com.microsoft's quantized one are codes.
        if node.op == "QLinearSoftmax" {
            self.builder.means(Meaning::Unstated);
            return Ok(vec![out]);
        }
        self.says(&out, value(false));
        if node.op != "LogSoftmax" {
            return Ok(vec![out]);
        }
        let operands = [(out.tensor.unwrap_or(t), x.shape.clone())];
        let log = self.lanes(
            node,
            ".log",
            OpClass::Softmax,
            &operands,
            Function::Log.program(),
            x.dtype,
        )?;
        // Of the input, not of the softmax: its small values have no logarithm in f32.
        self.says(&log, value(true));
        Ok(vec![log])
    }

    /// Pooling of one to three ranks.
    pub fn pool(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let kernel = node.ints("kernel_shape").ok_or("it needs a kernel_shape")?;
        let window = Window::of(node, &x.shape, kernel, node.int("ceil_mode", 0) != 0)?;
        let out = window.outputs()?;
        let shape: Vec<u64> = x.shape[..2].iter().chain(&out).copied().collect();
        let rank = out.len() as u32;
        let mut all = numbered(&shape);
        all.extend(window.kernel.iter().enumerate().map(|(i, k)| crate::Dim {
            name: format!("r{i}"),
            size: *k,
        }));
        let mut input = plain(Place::Input(0), &all, &[0, 1]);
        for i in 0..rank {
            input
                .ranks
                .push(window.affine(i as usize, DimId(2 + i), DimId(2 + rank + i)));
            input.extents.push(window.extents[i as usize]);
        }
        let every: Vec<u32> = (0..2 + rank).collect();
        let points = numbered(&shape);
        let (first, last): (&[L], &[L]) = match node.op {
            "MaxPool" => (&[], &[]),
            "LpPool" => (&[L::Mul], &[L::Rsqrt, L::Mul]),
            _ => (&[], &[L::Mul]),
        };
        let cascade = if last.is_empty() {
            vec![lanes(
                vec![input],
                plain(Place::Output(0), &all, &every),
                &all,
                first,
                ReduceOperator::Max,
            )]
        } else {
            vec![
                lanes(
                    vec![input],
                    plain(Place::Local(0), &all, &every),
                    &all,
                    first,
                    ReduceOperator::Sum,
                ),
                lanes(
                    vec![plain(Place::Local(0), &points, &every)],
                    plain(Place::Output(0), &points, &every),
                    &points,
                    last,
                    ReduceOperator::Sum,
                ),
            ]
        };
        let t = self.operand(node, 0)?;
        let mut values = vec![self.emit(
            node,
            "",
            OpClass::Pool,
            OpKind::Cascade(cascade),
            vec![t],
            &shape,
            x.dtype,
        )?];
        let value = self.pooled(node, &window, &shape);
        self.meaning_of(&values, value);
        if node.wants(1) {
            self.builder.means(Meaning::Unstated);
            // Where the maxima were found, written beside them.
            let places = self.fresh(&format!("{}.indices", node.name), &shape, DType::I64);
            if let Some(op) = self.builder.last_op() {
                op.outputs.push(places);
            }
            values.push(Value::made(DType::I64, shape, places));
        }
        Ok(values)
    }

    /// Pooling over all ranks behind the channels.
    pub fn global_pool(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        if x.rank() < 3 {
            return Err(format!(
                "it needs an input of three or more ranks, not {:?}",
                x.shape
            )
            .into());
        }
        let (over, kept): (Vec<usize>, Vec<usize>) = if node.int("channels_last", 0) != 0 {
            ((1..x.rank() - 1).collect(), vec![0, x.rank() - 1])
        } else {
            ((2..x.rank()).collect(), vec![0, 1])
        };
        let shape: Vec<u64> = x
            .shape
            .iter()
            .enumerate()
            .map(|(i, d)| if kept.contains(&i) { *d } else { 1 })
            .collect();
        let (operator, last): (_, &[L]) = match node.op {
            "GlobalMaxPool" => (ReduceOperator::Max, &[]),
            "GlobalLpPool" => (ReduceOperator::Sum, &[L::Rsqrt, L::Mul]),
            _ => (ReduceOperator::Sum, &[L::Mul]),
        };
        let out = self.reduced(node, &over, operator, &[], last, &shape, x.dtype)?;
        let input = self.expr(node, 0);
        let value = match node.op {
            "GlobalMaxPool" => input.reduce(ReduceOperator::Max, false, &over),
            "GlobalAveragePool" => input.reduce(ReduceOperator::Sum, true, &over),
            "GlobalLpPool" => {
                let p = node.int("p", 2);
                let powers = Expr::formula(&format!("pow(abs(x), {p})"), &[&input]);
                let sum = powers.reduce(ReduceOperator::Sum, false, &over);
                Expr::formula(&format!("pow(x, 1 / {p})"), &[&sum])
            }
            // QLinearGlobalAveragePool: x, its scale and zero point, those of the result.
            _ => {
                let mean = self.dequantized(node, 0, [1, 2]);
                let mean = mean.reduce(ReduceOperator::Sum, true, &over);
                self.quantized(node, mean, [3, 4], x.dtype)
            }
        };
        self.says(&out, value);
        Ok(vec![out])
    }

    /// What a pooling makes of its windows.
    fn pooled(&self, node: &Node<'m>, window: &Window, shape: &[u64]) -> Expr {
        let pool = |x: &Expr, kind, counts_padding| {
            let meaning = Meaning::Pool {
                kind,
                counts_padding,
            };
            Expr::step(meaning, &[x], shape.to_vec())
        };
        let counts = node.int("count_include_pad", 0) != 0;
        let x = self.expr(node, 0);
        if counts && window.ceil {
            // A last window that hangs over the padding has a divisor of its own.
            return Expr::unknown(shape);
        }
        match node.op {
            "MaxPool" => pool(&x, PoolKind::Max, false),
            "AveragePool" => pool(&x, PoolKind::Average, counts),
            "LpPool" => {
                let p = node.int("p", 2);
                let powers = Expr::formula(&format!("pow(abs(x), {p})"), &[&x]);
                let taps: u64 = window.kernel.iter().product();
                let mean = pool(&powers, PoolKind::Average, true);
                Expr::formula(&format!("pow(x * {taps}, 1 / {p})"), &[&mean])
            }
            // QLinearAveragePool: x, its scale and zero point, those of the result.
            _ if node.int("channels_last", 0) == 0 => {
                let mean = pool(
                    &self.dequantized(node, 0, [1, 2]),
                    PoolKind::Average,
                    counts,
                );
                match node.optional(0) {
                    Some(own) => self.quantized(node, mean, [3, 4], own.dtype),
                    None => Expr::unknown(shape),
                }
            }
            _ => Expr::unknown(shape),
        }
    }

    /// A reduction over any axes.
    pub fn reduce(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let arg = node.op.starts_with("Arg");
        let axes = if arg {
            vec![shapes::axis(node.int("axis", 0), x.rank())?]
        } else {
            results::reduced(node)?
        };
        if axes.is_empty() && !x.shape.is_empty() {
            let out = self.same(node)?;
            let plain = [
                "ReduceSum",
                "ReduceMean",
                "ReduceMax",
                "ReduceMin",
                "ReduceProd",
            ];
            if !plain.contains(&node.op) && !x.is_fixed() {
                self.builder.means(Meaning::Unstated);
            }
            return Ok(out);
        }
        let keep = node.int("keepdims", 1) != 0;
        let extents = x
            .shape
            .iter()
            .enumerate()
            .map(|(i, d)| (axes.binary_search(&i).is_err(), *d));
        let shape: Vec<u64> = extents
            .filter(|(kept, _)| *kept || keep)
            .map(|(kept, d)| if kept { d } else { 1 })
            .collect();
        let (operator, first, last): (_, &[L], &[L]) = match node.op {
            "ReduceMean" => (ReduceOperator::Sum, &[], &[L::Mul]),
            "ReduceMax" => (ReduceOperator::Max, &[], &[]),
            "ReduceMin" => (ReduceOperator::Min, &[], &[]),
            "ReduceProd" => (ReduceOperator::Product, &[], &[]),
            "ReduceL1" => (ReduceOperator::Sum, &[L::Max], &[]),
            "ReduceL2" => (ReduceOperator::Sum, &[L::Mul], &[L::Rsqrt, L::Mul]),
            "ReduceLogSum" => (ReduceOperator::Sum, &[], &[L::Log2, L::Mul]),
            "ReduceLogSumExp" => (ReduceOperator::Sum, &[L::Mul, L::Exp2], &[L::Log2, L::Mul]),
            "ReduceSumSquare" => (ReduceOperator::Sum, &[L::Mul], &[]),
            "ArgMax" | "ArgMin" => (ReduceOperator::Max, &[L::Compare], &[]),
            _ => (ReduceOperator::Sum, &[], &[]),
        };
        let dtype = if arg { DType::I64 } else { x.dtype };
        let out = self.reduced(node, &axes, operator, first, last, &shape, dtype)?;
        let value = reduction(node, &self.expr(node, 0), &axes, x.dtype.is_float());
        self.says(&out, value.reshape(&shape));
        Ok(vec![out])
    }

    #[expect(clippy::too_many_arguments, reason = "a reduction is all of these")]
    fn reduced(
        &mut self,
        node: &Node<'m>,
        axes: &[usize],
        operator: ReduceOperator,
        first: &[L],
        last: &[L],
        shape: &[u64],
        dtype: DType,
    ) -> Result<Value<'m>, Fault> {
        let x = node.input(0)?;
        let all = numbered(&x.shape);
        let every: Vec<u32> = (0..x.rank() as u32).collect();
        let kept: Vec<u32> = every
            .iter()
            .copied()
            .filter(|i| !axes.contains(&(*i as usize)))
            .collect();
        let input = plain(Place::Input(0), &all, &every);
        let points: Vec<crate::Dim> = kept.iter().map(|i| all[*i as usize].clone()).collect();
        let each: Vec<u32> = (0..points.len() as u32).collect();
        let kind = if last.is_empty() {
            single(lanes(
                vec![input],
                plain(Place::Output(0), &all, &kept),
                &all,
                first,
                operator,
            ))
        } else {
            OpKind::Cascade(vec![
                lanes(
                    vec![input],
                    plain(Place::Local(0), &all, &kept),
                    &all,
                    first,
                    operator,
                ),
                lanes(
                    vec![plain(Place::Local(0), &points, &each)],
                    plain(Place::Output(0), &points, &each),
                    &points,
                    last,
                    operator,
                ),
            ])
        };
        let t = self.operand(node, 0)?;
        self.emit(node, "", OpClass::Pool, kind, vec![t], shape, dtype)
    }
}

/// What a reduction gives, the reduced ranks of extent 1.
fn reduction(node: &Node, x: &Expr, axes: &[usize], is_float: bool) -> Expr {
    let sum = |x: &Expr| x.reduce(ReduceOperator::Sum, false, axes);
    let of = |text: &str, x: &Expr| Expr::formula(text, &[x]);
    match node.op {
        "ReduceMean" => {
            let mean = x.reduce(ReduceOperator::Sum, true, axes);
            if is_float {
                mean
            } else {
                of("sign(x) * floor(abs(x))", &mean)
            }
        }
        "ReduceMax" => x.reduce(ReduceOperator::Max, false, axes),
        "ReduceMin" => x.reduce(ReduceOperator::Min, false, axes),
        "ReduceProd" => x.reduce(ReduceOperator::Product, false, axes),
        "ReduceL1" => sum(&of("abs(x)", x)),
        "ReduceL2" => of("sqrt(x)", &sum(&of("square(x)", x))),
        "ReduceLogSum" => of("log(x)", &sum(x)),
        "ReduceSumSquare" => sum(&of("square(x)", x)),
        "ReduceLogSumExp" => {
            // Less the largest, so that nothing overflows.
            let most = x.reduce(ReduceOperator::Max, false, axes);
            let powers = Expr::formula("select(equal(x, y), 1, exp(x - y))", &[x, &most]);
            Expr::formula("log(x) + y", &[&sum(&powers), &most])
        }
        "ArgMax" | "ArgMin" => {
            let Some(&axis) = axes.first() else {
                return Expr::unknown(x.shape());
            };
            let mut shape = x.shape().to_vec();
            shape[axis] = 1;
            let meaning = Meaning::Order {
                axis,
                count: 1,
                largest: node.op == "ArgMax",
                last: node.int("select_last_index", 0) != 0,
            };
            Expr::step(meaning, &[x], shape)
        }
        _ => sum(x),
    }
}
