//! Views and moves.
//!
//! Parameters are reshaped and transposed before inference: such nodes only see them in another shape. Views
//! (reshapes, slices, parts of a split) move nothing; concatenations, transpositions, paddings and repetitions
//! move each element of their result once.

use crate::expr::Expr;
use crate::op::{Op, OpClass, OpKind};
use crate::tensor::TensorId;

use super::error::Fault;
use super::import::Importer;
use super::lower::{Lowered, transposed_elements};
use super::node::Node;
use super::value::{DType, Data, Known, Value, elements};
use super::{results, shapes};

impl<'m> Importer<'m> {
    /// The first input itself (Identity; Dropout at inference, with an unused mask).
    pub fn same(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        if x.is_fixed() {
            return Ok(vec![x]);
        }
        let shape = x.shape.clone();
        let mut out = vec![self.view(node, 0, "", &shape)?];
        if node.op == "Dropout" && node.proto.output.len() > 1 {
            let elements = x.elements();
            out.push(self.emit(
                node,
                ".mask",
                OpClass::Move,
                OpKind::Move { elements },
                vec![],
                &shape,
                DType::Bool,
            )?);
            let kept = Expr::number(1.0).expand(&shape);
            self.meaning_of(&out[1..], kept);
        }
        Ok(out)
    }

    /// Reshape, Flatten, Squeeze, Unsqueeze.
    pub fn reshape(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let shape = results::reshaped(node)?;
        if x.weight && x.tensor.is_some() {
            let expr = Some(self.expr(node, 0).reshape(&shape));
            return Ok(vec![Value { shape, expr, ..x }]);
        }
        Ok(vec![self.view(node, 0, "", &shape)?])
    }

    /// Transpose; one that only moves extents of 1 is a view.
    pub fn transpose(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let perm = results::permutation(node, x.rank())?;
        let shape: Vec<u64> = perm.iter().map(|p| x.shape[*p]).collect();
        if x.weight && x.tensor.is_some() {
            return Ok(vec![Value {
                shape,
                known: Known::Nothing,
                expr: Some(self.expr(node, 0).transpose(&perm)),
                ..x
            }]);
        }
        let value = self.expr(node, 0).transpose(&perm);
        let order: Vec<usize> = perm.into_iter().filter(|p| x.shape[*p] != 1).collect();
        if order.windows(2).all(|w| w[0] < w[1]) {
            return Ok(vec![self.view(node, 0, "", &shape)?]);
        }
        self.moved_as(node, &[0], value)
    }

    /// A move of some inputs that gives a value.
    pub fn moved_as(&mut self, node: &Node<'m>, inputs: &[usize], value: Expr) -> Lowered<'m> {
        let out = self.moved_to(node, inputs, value.shape())?;
        self.meaning_of(&out, value);
        Ok(out)
    }

    /// A move of some inputs into a tensor of a shape.
    pub fn moved_to(&mut self, node: &Node<'m>, inputs: &[usize], shape: &[u64]) -> Lowered<'m> {
        let dtype = node.input(inputs.first().copied().unwrap_or(0))?.dtype;
        let tensors = inputs
            .iter()
            .map(|i| self.operand(node, *i))
            .collect::<Result<Vec<_>, _>>()?;
        let elements = elements(shape).ok_or_else(|| format!("shape {shape:?} is too large"))?;
        let first = tensors.first().copied();
        let value = self.emit(
            node,
            "",
            OpClass::Move,
            OpKind::Move { elements },
            tensors,
            shape,
            dtype,
        )?;
        if let Some(first) = first {
            self.store_as(&value, first);
        }
        Ok(vec![value])
    }

    /// A move that keeps the shape.
    pub fn moved(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let shape = node.input(0)?.shape.clone();
        self.moved_to(node, &[0], &shape)
    }

    /// Concat; a single input is the result.
    pub fn concat(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let (axis, shape) = results::concatenated(node)?;
        let given: Vec<usize> = (0..node.inputs.len())
            .filter(|i| node.optional(*i).is_some_and(|v| v.elements() > 0))
            .collect();
        match given.as_slice() {
            [one] => Ok(vec![self.view(node, *one, "", &shape)?]),
            [] => self.moved_to(node, &[0], &shape),
            all => {
                let out = self.moved_to(node, all, &shape)?;
                let parts: Vec<Expr> = all.iter().map(|i| self.expr(node, *i)).collect();
                let value = Expr::concat(axis, &parts.iter().collect::<Vec<_>>());
                self.meaning_of(&out, value);
                Ok(out)
            }
        }
    }

    /// Slice: read in place.
    pub fn slice(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let part = results::sliced(node)?;
        let weight = node.input(0)?.weight;
        let out = self.view(node, 0, "", &part.shape)?;
        let value = self.expr(node, 0);
        self.says(&out, value.slice(&part.starts, &part.shape, &part.steps));
        Ok(vec![Value { weight, ..out }])
    }

    /// Split: every part is read in place.
    pub fn split(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let (axis, parts) = results::split(node)?;
        let from = self.operand(node, 0)?;
        let mut values = Vec::new();
        for (i, part) in parts.into_iter().enumerate() {
            let mut shape = x.shape.clone();
            shape[axis] = part;
            let tensor = self.fresh(&format!("{}.{i}", node.name), &shape, x.dtype);
            self.views.insert(tensor);
            let value = Value {
                weight: x.weight,
                ..Value::made(x.dtype, shape, tensor)
            };
            self.store_as(&value, from);
            values.push(value);
        }
        let outputs: Vec<TensorId> = values.iter().filter_map(|v| v.tensor).collect();
        let whole = self.expr(node, 0);
        let mut start = 0;
        let mut gives = Vec::new();
        for (tensor, value) in outputs.iter().zip(&values) {
            let extent = value.shape[axis];
            gives.push((*tensor, whole.part(axis, start, extent)));
            start += extent;
        }
        self.builder.push_op(Op {
            name: node.name.clone(),
            class: OpClass::Move,
            kind: OpKind::View,
            inputs: vec![from],
            outputs,
            steps: 1,
            meaning: crate::Meaning::Unstated,
        });
        self.says_all(gives);
        Ok(values)
    }

    /// Expand.
    pub fn expand(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let wanted = node.known(1, "the extents of its result")?;
        let wanted: Vec<u64> = wanted
            .iter()
            .map(|d| u64::try_from(*d).map_err(|_| format!("extent {d} is negative")))
            .collect::<Result<_, _>>()?;
        let shape = shapes::broadcast([&x.shape[..], &wanted])?;
        if elements(&shape) == Some(x.elements()) {
            return Ok(vec![self.view(node, 0, "", &shape)?]);
        }
        let value = self.expr(node, 0).expand(&shape);
        self.moved_as(node, &[0], value)
    }

    /// Tile.
    pub fn tile(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let by = node.known(1, "its repeats")?;
        let by: Vec<u64> = by
            .iter()
            .map(|d| u64::try_from(*d).map_err(|_| format!("{d} repeats")))
            .collect::<Result<_, _>>()?;
        let shape = results::tiled(&x.shape, &by)?;
        if by.iter().all(|r| *r == 1) {
            return self.same(node);
        }
        // Each repeated rank stands behind a rank of as many copies.
        let mut value = self.expr(node, 0);
        for (axis, by) in by.iter().enumerate().filter(|(_, by)| **by != 1) {
            let own = value.shape().to_vec();
            let mut split = own.clone();
            split.insert(axis, 1);
            let mut copies = split.clone();
            copies[axis] = *by;
            let mut merged = own;
            merged[axis] = merged[axis].saturating_mul(*by);
            value = value.reshape(&split).expand(&copies).reshape(&merged);
        }
        if value.shape() != shape {
            return self.moved_to(node, &[0], &shape);
        }
        self.moved_as(node, &[0], value)
    }

    /// Pad; negative paddings crop.
    pub fn pad(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let pads = match node.ints("pads").or_else(|| node.ints("paddings")) {
            Some(p) if node.opset < 11 => p.to_vec(),
            _ => node.known(1, "its paddings")?,
        };
        let axes: Vec<usize> = if node.optional(3).is_some() {
            node.known(3, "its axes")?
                .iter()
                .map(|a| shapes::axis(*a, x.rank()))
                .collect::<Result<_, _>>()?
        } else {
            (0..x.rank()).collect()
        };
        if pads.len() != 2 * axes.len() {
            return Err(format!(
                "{} paddings for {} axes; it needs two for each",
                pads.len(),
                axes.len()
            )
            .into());
        }
        let mut shape = x.shape.clone();
        for (i, a) in axes.iter().enumerate() {
            let sum =
                i128::from(shape[*a]) + i128::from(pads[i]) + i128::from(pads[i + axes.len()]);
            shape[*a] = u64::try_from(sum)
                .map_err(|_| format!("paddings {pads:?} leave nothing of {:?}", x.shape))?;
        }
        let shape = shapes::checked(shape)?;
        if pads.iter().all(|p| *p == 0) {
            return self.same(node);
        }
        let before: Vec<i64> = pads[..axes.len()].to_vec();
        let out = self.moved_to(node, &[0], &shape)?;
        if let Some(value) = self.padded(node, &axes, &before, &shape) {
            self.meaning_of(&out, value);
        }
        Ok(out)
    }

    /// The first input with elements around it, by the node's mode; `before` each of some axes.
    fn padded(
        &self,
        node: &Node<'m>,
        axes: &[usize],
        before: &[i64],
        shape: &[u64],
    ) -> Option<Expr> {
        let mut value = self.expr(node, 0);
        let mode = node.text("mode");
        let fill = match node.attribute("value") {
            Some(a) if node.opset < 11 => f64::from(a.f),
            _ => match node.optional(2) {
                Some(v) if v.elements() == 1 => *v.data()?.floats().first()?,
                _ => 0.0,
            },
        };
        let unknown = mode.is_empty() || mode == "constant";
        if unknown && node.opset >= 11 && node.optional(2).is_some_and(|v| v.data().is_none()) {
            return None;
        }
        for (axis, before) in axes.iter().zip(before) {
            let (own, wanted) = (value.shape()[*axis], shape[*axis]);
            if own == wanted && *before == 0 {
                continue;
            }
            if wanted > 1 << 24 || own == 0 {
                return None;
            }
            let own = i64::try_from(own).ok()?;
            let place = |i: i64| {
                let at = i - before;
                let inside = (0..own).contains(&at);
                let at = match mode {
                    _ if inside => at,
                    "edge" => at.clamp(0, own - 1),
                    "wrap" => at.rem_euclid(own),
                    "reflect" if own > 1 => {
                        let turn = 2 * (own - 1);
                        let back = at.rem_euclid(turn);
                        back.min(turn - back)
                    }
                    "reflect" => 0,
                    _ => return None,
                };
                usize::try_from(at).ok()
            };
            value = value.take(*axis, (0..wanted as i64).map(place).collect(), fill);
        }
        Some(value)
    }

    /// Trilu: one half of each matrix, zeros elsewhere.
    pub fn triangle(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let k = match node.optional(1) {
            Some(_) => *node.known(1, "its diagonal")?.first().unwrap_or(&0),
            None => 0,
        };
        let input = self.expr(node, 0);
        let (least, most) = if node.int("upper", 1) != 0 {
            (Some(k), None)
        } else {
            (None, Some(k))
        };
        let value = input.band(least, most, 0.0);
        self.moved_as(node, &[0], value)
    }

    /// DepthToSpace and SpaceToDepth.
    pub fn depth_space(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?;
        let block = u64::try_from(node.int("blocksize", 0))
            .ok()
            .filter(|b| (1..1 << 20).contains(b))
            .ok_or("its blocksize must be 1 or more")?;
        let &[n, c, h, w] = x.shape.as_slice() else {
            return Err(format!("it needs an input of four ranks, not {:?}", x.shape).into());
        };
        let (fits, shape) = if node.op == "DepthToSpace" {
            (
                c % (block * block) == 0,
                vec![
                    n,
                    c / (block * block),
                    h.saturating_mul(block),
                    w.saturating_mul(block),
                ],
            )
        } else {
            (
                h % block == 0 && w % block == 0,
                vec![n, c.saturating_mul(block * block), h / block, w / block],
            )
        };
        if !fits {
            return Err(
                format!("shape {:?} is not divisible by blocks of {block}", x.shape).into(),
            );
        }
        let input = self.expr(node, 0);
        let value = if node.op == "SpaceToDepth" {
            let split = [n, c, h / block, block, w / block, block];
            input.reshape(&split).transpose(&[0, 3, 5, 1, 2, 4])
        } else if node.text("mode") == "CRD" {
            let split = [n, c / (block * block), block, block, h, w];
            input.reshape(&split).transpose(&[0, 1, 4, 2, 5, 3])
        } else {
            let split = [n, block, block, c / (block * block), h, w];
            input.reshape(&split).transpose(&[0, 3, 4, 1, 5, 2])
        };
        self.moved_as(node, &[0], value.reshape(&shape))
    }

    /// A tensor filled with something that is not evaluated at import.
    pub fn fill(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let typed = |name: &str, default: DType| match node.int(name, 0) {
            0 => Ok(default),
            n => i32::try_from(n).ok().and_then(DType::of).ok_or_else(|| {
                Fault::Reason(format!("element type {n} is none that ONNX defines"))
            }),
        };
        let natural = |list: Vec<i64>| {
            list.iter()
                .map(|d| u64::try_from(*d).map_err(|_| format!("extent {d} is negative")))
                .collect::<Result<Vec<u64>, _>>()
        };
        let (shape, dtype) = match node.op {
            "ConstantOfShape" => {
                let dtype = match node.tensor("value") {
                    Some(t) => super::value::check_tensor(t)?.0,
                    None => DType::F32,
                };
                (natural(node.known(0, "the extents of its result")?)?, dtype)
            }
            "RandomNormal" | "RandomUniform" => (natural(node.ints("shape").unwrap_or_default().to_vec())?, typed("dtype", DType::F32)?),
            "HannWindow" | "HammingWindow" | "BlackmanWindow" => {
                let dtype = i32::try_from(node.int("output_datatype", 1)).ok().and_then(DType::of).ok_or("its output_datatype is none that ONNX defines")?;
                (natural(node.known(0, "its length")?)?, dtype)
            }
            "Range" => return Err("its bounds depend on the data, so the shape is unknown; export the model with fixed shapes".into()),
            _ => {
                let x = node.input(0)?;
                (x.shape.clone(), typed("dtype", x.dtype)?)
            }
        };
        let shape = shapes::checked(shape)?;
        let kind = OpKind::Move {
            elements: transposed_elements(&shape),
        };
        let out = self.emit(node, "", OpClass::Move, kind, vec![], &shape, dtype)?;
        let value = match node.op {
            "ConstantOfShape" => {
                let one = match node.tensor("value") {
                    Some(t) => Value {
                        known: Known::Stored(t),
                        ..Value::constant(dtype, vec![1], Data::Int(vec![]))
                    }
                    .data()
                    .and_then(|d| d.floats().first().copied()),
                    None => Some(0.0),
                };
                one.map(|x| Expr::number(x).expand(&shape))
            }
            "EyeLike" => {
                let k = node.int("k", 0);
                let ones = Expr::number(1.0).expand(&shape);
                Some(ones.band(Some(k), Some(k), 0.0))
            }
            _ => None,
        };
        if let Some(value) = value {
            self.says(&out, value);
        }
        Ok(vec![out])
    }

    /// CenterCropPad.
    pub fn center_crop_pad(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let wanted = node.known(1, "the extents of its result")?;
        let axes: Vec<usize> = match node.ints("axes") {
            Some(a) => a
                .iter()
                .map(|a| shapes::axis(*a, x.rank()))
                .collect::<Result<_, _>>()?,
            None => (0..x.rank()).collect(),
        };
        if wanted.len() != axes.len() {
            return Err(format!("{} extents for {} axes", wanted.len(), axes.len()).into());
        }
        let mut shape = x.shape.clone();
        for (a, w) in axes.iter().zip(&wanted) {
            shape[*a] = u64::try_from(*w).map_err(|_| format!("extent {w} is negative"))?;
        }
        let shape = shapes::checked(shape)?;
        let out = self.moved_to(node, &[0], &shape)?;
        // Of an odd difference the end gets one element more.
        let difference = |a: &usize| {
            let (own, wanted) = (x.shape[*a] as i64, shape[*a] as i64);
            (wanted - own).div_euclid(2) + i64::from(wanted < own && (own - wanted) % 2 != 0)
        };
        let before: Vec<i64> = axes.iter().map(difference).collect();
        if let Some(value) = self.padded(node, &axes, &before, &shape) {
            self.meaning_of(&out, value);
        }
        Ok(out)
    }
}
