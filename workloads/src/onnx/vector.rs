//! Elementwise functions, norms, softmax, pooling, reductions and resizing.

use presil_numerics::LanePrimitive as L;

use crate::build::{Function, plain, single};
use crate::einsum::{Access, Affine, DimId, Place, ReduceOperator};
use crate::op::{OpClass, OpKind};

use super::conv::Window;
use super::error::Fault;
use super::import::Importer;
use super::lower::{Lowered, dtype, lanes, numbered};
use super::node::Node;
use super::value::{DType, Value};
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
        if node.op != "LogSoftmax" {
            return Ok(vec![out]);
        }
        let operands = [(out.tensor.unwrap_or(t), x.shape.clone())];
        Ok(vec![self.lanes(
            node,
            ".log",
            OpClass::Softmax,
            &operands,
            Function::Log.program(),
            x.dtype,
        )?])
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
        if node.wants(1) {
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
        Ok(vec![self.reduced(
            node,
            &over,
            operator,
            &[],
            last,
            &shape,
            x.dtype,
        )?])
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
            return self.same(node);
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
        Ok(vec![self.reduced(
            node, &axes, operator, first, last, &shape, dtype,
        )?])
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

    /// Resizing: nearest neighbours only move; linear interpolation takes two taps a resized axis, cubic four.
    /// Each resized axis reads whole input rows: an output index is `input index x factor + part` where it grows,
    /// an input index `output index x step` where it shrinks; factors that are no integers are rounded up.
    pub fn resize(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let shape = self.resized(node, &x)?;
        let t = self.operand(node, 0)?;
        let mode = node.text("mode");
        let changed = shape.iter().zip(&x.shape).filter(|(a, b)| a != b).count() as u32;
        if changed == 0 {
            return self.same(node);
        }
        if mode.is_empty() || mode == "nearest" || shape.contains(&0) || x.shape.contains(&0) {
            let kind = OpKind::Move {
                elements: shape.iter().product(),
            };
            let out = self.emit(node, "", OpClass::Move, kind, vec![t], &shape, x.dtype)?;
            self.store_as(&out, t);
            return Ok(vec![out]);
        }
        let taps = if mode == "cubic" { 4usize } else { 2 }.pow(changed.min(4));
        let mut all: Vec<crate::Dim> = Vec::new();
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for (i, (&want, &have)) in shape.iter().zip(&x.shape).enumerate() {
            let d = DimId(all.len() as u32);
            if want > have {
                let factor = want.div_ceil(have);
                all.push(crate::Dim {
                    name: format!("x{i}"),
                    size: have.min(want.div_ceil(factor)),
                });
                all.push(crate::Dim {
                    name: format!("u{i}"),
                    size: factor,
                });
                from.push(Affine::dim(d));
                to.push(Affine {
                    terms: vec![(d, factor as i64), (DimId(d.0 + 1), 1)],
                    offset: 0,
                });
            } else {
                all.push(crate::Dim {
                    name: format!("x{i}"),
                    size: want,
                });
                from.push(Affine {
                    terms: vec![(d, (have / want) as i64)],
                    offset: 0,
                });
                to.push(Affine::dim(d));
            }
        }
        let input = Access {
            place: Place::Input(0),
            ranks: from,
            extents: x.shape.clone(),
        };
        let output = Access {
            place: Place::Output(0),
            ranks: to,
            extents: shape.clone(),
        };
        let einsum = lanes(
            vec![input],
            output,
            &all,
            &vec![L::Fma; taps],
            ReduceOperator::Sum,
        );
        Ok(vec![self.emit(
            node,
            "",
            OpClass::Elementwise,
            single(einsum),
            vec![t],
            &shape,
            x.dtype,
        )?])
    }

    fn resized(&self, node: &Node<'m>, x: &Value<'m>) -> Result<Vec<u64>, Fault> {
        // Upsample: scales as attribute (7) or input 1 (9); Resize: input 1 (10), inputs 2 and 3 (11 on).
        let (scales, sizes) = match (node.op, node.opset) {
            ("Resize", 11..) => (2, Some(3)),
            _ => (1, None),
        };
        let axes = match node.ints("axes") {
            Some(axes) => axes
                .iter()
                .map(|a| shapes::axis(*a, x.rank()))
                .collect::<Result<Vec<_>, _>>()?,
            None => (0..x.rank()).collect(),
        };
        let mut shape = x.shape.clone();
        if let Some(i) = sizes.filter(|i| node.optional(*i).is_some_and(|v| v.elements() > 0)) {
            let sizes = node.known(i, "the extents of its result")?;
            if sizes.len() != axes.len() {
                return Err(format!("{} sizes for {} axes", sizes.len(), axes.len()).into());
            }
            let wanted: Vec<u64> = sizes
                .iter()
                .map(|s| u64::try_from(*s).map_err(|_| format!("extent {s} is negative")))
                .collect::<Result<_, _>>()?;
            let ratio = |(a, w): (&usize, &u64)| *w as f64 / x.shape[*a].max(1) as f64;
            let ratios = axes.iter().zip(&wanted).map(ratio);
            let common = match node.text("keep_aspect_ratio_policy") {
                "not_larger" => Some(ratios.fold(f64::INFINITY, f64::min)),
                "not_smaller" => Some(ratios.fold(0.0, f64::max)),
                _ => None,
            };
            for (a, w) in axes.iter().zip(&wanted) {
                shape[*a] = common.map_or(*w, |r| (x.shape[*a] as f64 * r).round() as u64);
            }
            return Ok(shapes::checked(shape)?);
        }
        let factors: Vec<f64> = match node.floats("scales") {
            Some(f) => f.iter().map(|v| f64::from(*v)).collect(),
            None => {
                let given = node.input(scales)?;
                let few = (given.elements() <= x.rank() as u64)
                    .then(|| given.data())
                    .flatten();
                let data = few.ok_or("its scales depend on the data, so the shape is unknown; export the model with fixed shapes")?;
                data.floats()
            }
        };
        if factors.len() != axes.len() {
            return Err(format!("{} scales for {} axes", factors.len(), axes.len()).into());
        }
        for (a, f) in axes.iter().zip(&factors) {
            // Scales are f32 in the file; their product with an extent is rounded down.
            let extent = x.shape[*a] as f64 * f;
            if !(0.0..1e15).contains(&extent) {
                return Err(format!("scale {f} of extent {} is out of range", x.shape[*a]).into());
            }
            shape[*a] = extent.floor() as u64;
        }
        Ok(shapes::checked(shape)?)
    }
}
