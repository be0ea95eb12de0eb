//! Views and moves.
//!
//! Parameters are reshaped and transposed before inference: such nodes only see them in another shape. Views
//! (reshapes, slices, parts of a split) move nothing; concatenations, transpositions, paddings and repetitions
//! move each element of their result once.

use crate::op::{Op, OpClass, OpKind};

use super::error::Fault;
use super::import::Importer;
use super::lower::{Lowered, transposed_elements};
use super::node::Node;
use super::value::{DType, Known, Value, elements};
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
        }
        Ok(out)
    }

    /// Reshape, Flatten, Squeeze, Unsqueeze.
    pub fn reshape(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let shape = results::reshaped(node)?;
        if x.weight && x.tensor.is_some() {
            return Ok(vec![Value { shape, ..x }]);
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
                ..x
            }]);
        }
        let order: Vec<usize> = perm.into_iter().filter(|p| x.shape[*p] != 1).collect();
        if order.windows(2).all(|w| w[0] < w[1]) {
            return Ok(vec![self.view(node, 0, "", &shape)?]);
        }
        self.moved_to(node, &[0], &shape)
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
        let (_, shape) = results::concatenated(node)?;
        let given: Vec<usize> = (0..node.inputs.len())
            .filter(|i| node.optional(*i).is_some_and(|v| v.elements() > 0))
            .collect();
        match given.as_slice() {
            [one] => Ok(vec![self.view(node, *one, "", &shape)?]),
            [] => self.moved_to(node, &[0], &shape),
            all => self.moved_to(node, all, &shape),
        }
    }

    /// Slice: read in place.
    pub fn slice(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let shape = results::sliced(node)?.shape;
        let weight = node.input(0)?.weight;
        Ok(vec![Value {
            weight,
            ..self.view(node, 0, "", &shape)?
        }])
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
        let outputs = values.iter().filter_map(|v| v.tensor).collect();
        self.builder.push_op(Op {
            name: node.name.clone(),
            class: OpClass::Move,
            kind: OpKind::View,
            inputs: vec![from],
            outputs,
            steps: 1,
            meaning: crate::Meaning::Unstated,
        });
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
        self.moved_to(node, &[0], &shape)
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
        self.moved_to(node, &[0], &shape)
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
        self.moved_to(node, &[0], &shape)
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
        self.moved_to(node, &[0], &shape)
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
        Ok(vec![self.emit(
            node,
            "",
            OpClass::Move,
            kind,
            vec![],
            &shape,
            dtype,
        )?])
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
        self.moved_to(node, &[0], &shape)
    }
}
