//! Views, moves, look-ups and choices by data.
//!
//! Parameters are reshaped and transposed before inference: such nodes only see them in another shape. Views
//! (reshapes, slices, parts of a split) move nothing; concatenations, transpositions, paddings and repetitions
//! move each element of their result once.

use crate::op::{Op, OpClass, OpKind};

use super::error::Fault;
use super::import::Importer;
use super::lower::{Lowered, dtype, transposed_elements};
use super::node::Node;
use super::value::{DType, Known, Value, elements};
use super::{fold, shapes};

/// Known indices that are looked at for an even spacing.
const MOST_INDICES: u64 = 1024;

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
        let shape = fold::reshaped(node)?;
        if x.weight && x.tensor.is_some() {
            return Ok(vec![Value { shape, ..x }]);
        }
        Ok(vec![self.view(node, 0, "", &shape)?])
    }

    /// Transpose; one that only moves extents of 1 is a view.
    pub fn transpose(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let perm = fold::permutation(node, x.rank())?;
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
    fn moved_to(&mut self, node: &Node<'m>, inputs: &[usize], shape: &[u64]) -> Lowered<'m> {
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
        let (_, shape) = fold::concatenated(node)?;
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
        let shape = fold::sliced(node)?.shape;
        let weight = node.input(0)?.weight;
        Ok(vec![Value {
            weight,
            ..self.view(node, 0, "", &shape)?
        }])
    }

    /// Split: every part is read in place.
    pub fn split(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let (axis, parts) = fold::split(node)?;
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
        let shape = fold::tiled(&x.shape, &by)?;
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

    /// Gather along an axis; indices that are known and evenly spaced are a view.
    pub fn gather(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let (x, index) = (node.input(0)?.clone(), node.input(1)?.clone());
        let axis = shapes::axis(node.int("axis", 0), x.rank())?;
        let shape: Vec<u64> = x.shape[..axis]
            .iter()
            .chain(&index.shape)
            .chain(&x.shape[axis + 1..])
            .copied()
            .collect();
        let shape = shapes::checked(shape)?;
        if let Some(known) = (index.elements() <= MOST_INDICES)
            .then(|| index.ints())
            .flatten()
        {
            let extent = x.shape[axis] as i64;
            if let Some(bad) = known.iter().find(|i| !(-extent..extent).contains(*i)) {
                return Err(format!("index {bad} is outside axis {axis} of {:?}", x.shape).into());
            }
            let even = known
                .windows(3)
                .all(|w| w[1].wrapping_sub(w[0]) == w[2].wrapping_sub(w[1]));
            if even {
                return Ok(vec![Value {
                    weight: x.weight,
                    ..self.view(node, 0, "", &shape)?
                }]);
            }
        }
        let outer: u64 = x.shape[..axis].iter().product();
        let kind = OpKind::Gather {
            rows: outer.saturating_mul(index.elements()),
            row_elements: x.shape[axis + 1..].iter().product(),
        };
        self.looked_up(node, kind, &shape)
    }

    fn looked_up(&mut self, node: &Node<'m>, kind: OpKind, shape: &[u64]) -> Lowered<'m> {
        let dtype = dtype(node)?;
        let tensors = vec![self.operand(node, 0)?, self.operand(node, 1)?];
        let from = tensors[0];
        let value = self.emit(node, "", OpClass::Gather, kind, tensors, shape, dtype)?;
        self.store_as(&value, from);
        Ok(vec![value])
    }

    /// GatherElements: one element for each index.
    pub fn gather_elements(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let (x, index) = (node.input(0)?, node.input(1)?.clone());
        shapes::axis(node.int("axis", 0), x.rank())?;
        if x.rank() != index.rank() {
            return Err(format!(
                "indices of shape {:?} for data of shape {:?}: their ranks must be equal",
                index.shape, x.shape
            )
            .into());
        }
        self.looked_up(
            node,
            OpKind::Gather {
                rows: index.elements(),
                row_elements: 1,
            },
            &index.shape,
        )
    }

    /// GatherND: a slice for each index vector.
    pub fn gather_nd(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let (x, index) = (node.input(0)?.clone(), node.input(1)?.clone());
        let fits = || {
            format!(
                "indices of shape {:?} do not fit data of shape {:?}",
                index.shape, x.shape
            )
        };
        let batch = usize::try_from(node.int("batch_dims", 0)).map_err(|_| fits())?;
        let (&width, rows) = index.shape.split_last().ok_or_else(fits)?;
        let width = usize::try_from(width).map_err(|_| fits())?;
        let rest = batch
            .checked_add(width)
            .and_then(|b| x.shape.get(b..))
            .ok_or_else(fits)?;
        if batch > rows.len() {
            return Err(fits().into());
        }
        let shape: Vec<u64> = rows.iter().chain(rest).copied().collect();
        let kind = OpKind::Gather {
            rows: rows.iter().product(),
            row_elements: rest.iter().product(),
        };
        self.looked_up(node, kind, &shapes::checked(shape)?)
    }

    /// Scatter: the data are copied, the updates written over them.
    pub fn scatter(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        // TensorScatter: data, updates, indices; the others: data, indices, updates.
        let updates = node
            .input(if node.op == "TensorScatter" { 1 } else { 2 })?
            .elements();
        let tensors = self.operands(node);
        let elements = x.elements().saturating_add(updates);
        let value = self.emit(
            node,
            "",
            OpClass::Gather,
            OpKind::Move { elements },
            tensors,
            &x.shape,
            x.dtype,
        )?;
        Ok(vec![value])
    }

    /// MaxUnpool: a filled tensor, the maxima written to their places.
    pub fn max_unpool(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let (x, kernel) = (
            node.input(0)?.clone(),
            node.ints("kernel_shape").ok_or("it needs a kernel_shape")?,
        );
        node.input(1)?;
        let shape = if node.optional(2).is_some() {
            let wanted = node.known(2, "the extents of its result")?;
            wanted
                .iter()
                .map(|d| u64::try_from(*d).map_err(|_| format!("extent {d} is negative")))
                .collect::<Result<_, _>>()?
        } else {
            let window = super::conv::Window::of(node, &x.shape, kernel, false)?;
            x.shape[..2]
                .iter()
                .copied()
                .chain(window.inverse()?)
                .collect()
        };
        let shape = shapes::checked(shape)?;
        let elements = transposed_elements(&shape);
        let tensors = vec![self.operand(node, 0)?, self.operand(node, 1)?];
        Ok(vec![self.emit(
            node,
            "",
            OpClass::Gather,
            OpKind::Move { elements },
            tensors,
            &shape,
            x.dtype,
        )?])
    }

    /// OneHot.
    pub fn one_hot(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let (index, values) = (node.input(0)?.clone(), node.input(2)?.dtype);
        let depth = node.input(1)?.data().ok_or("its depth depends on the data, so the shape is unknown; export the model with fixed shapes")?;
        // The depth may be a float.
        let depth = depth
            .floats()
            .first()
            .copied()
            .filter(|d| (0.0..1e15).contains(d))
            .ok_or("its depth must be 0 or more")? as u64;
        let mut shape = index.shape.clone();
        let axis = shapes::axis(node.int("axis", -1), index.rank() + 1)?;
        shape.insert(axis, depth);
        let shape = shapes::checked(shape)?;
        let kind = OpKind::Move {
            elements: transposed_elements(&shape),
        };
        let t = self.operand(node, 0)?;
        Ok(vec![self.emit(
            node,
            "",
            OpClass::Gather,
            kind,
            vec![t],
            &shape,
            values,
        )?])
    }

    /// A choice with some outputs.
    fn chosen(
        &mut self,
        node: &Node<'m>,
        candidates: u64,
        comparisons: u64,
        outputs: &[(DType, Vec<u64>)],
    ) -> Lowered<'m> {
        let inputs = self.operands(node);
        let mut values = Vec::new();
        for (i, (dtype, shape)) in outputs.iter().enumerate() {
            let shape = shapes::checked(shape.clone())?;
            let tensor = self.fresh(&format!("{}.{i}", node.name), &shape, *dtype);
            values.push(Value::made(*dtype, shape, tensor));
        }
        let outputs = values.iter().filter_map(|v| v.tensor).collect();
        let kind = OpKind::Select {
            candidates,
            comparisons,
        };
        self.builder.push_op(Op {
            name: node.name.clone(),
            class: OpClass::Select,
            kind,
            inputs,
            outputs,
            steps: 1,
        });
        Ok(values)
    }

    /// Hardmax: one comparison for each element.
    pub fn select(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        self.chosen(
            node,
            x.elements(),
            x.elements(),
            &[(x.dtype, x.shape.clone())],
        )
    }

    /// TopK: a heap of k over each row, `n log2 k` comparisons expected.
    pub fn top_k(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let axis = shapes::axis(node.int("axis", -1), x.rank())?;
        let k = match node.attribute("k") {
            Some(a) if node.opset < 10 => a.i,
            _ => node.known(1, "its k")?.first().copied().unwrap_or(-1),
        };
        let k = u64::try_from(k)
            .ok()
            .filter(|k| *k <= x.shape[axis])
            .ok_or_else(|| format!("k of {k} for an extent of {}", x.shape[axis]))?;
        let mut shape = x.shape.clone();
        shape[axis] = k;
        let depth = u64::from(64 - k.saturating_sub(1).leading_zeros()).max(1);
        self.chosen(
            node,
            x.elements(),
            x.elements().saturating_mul(depth),
            &[(x.dtype, shape.clone()), (DType::I64, shape)],
        )
    }

    /// NonMaxSuppression: every box kept is compared with every candidate; as many boxes as may be chosen are
    /// assumed to be.
    pub fn non_max_suppression(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let (boxes, scores) = (node.input(0)?.clone(), node.input(1)?.clone());
        let (&[batch, count, _], &[_, classes, _]) =
            (boxes.shape.as_slice(), scores.shape.as_slice())
        else {
            return Err(format!(
                "it needs boxes and scores of three ranks, not {:?} and {:?}",
                boxes.shape, scores.shape
            )
            .into());
        };
        let most = node
            .optional(2)
            .and_then(Value::scalar)
            .and_then(|m| u64::try_from(m).ok())
            .unwrap_or(count)
            .min(count);
        let rows = batch.saturating_mul(classes).saturating_mul(most);
        self.assume(format!(
            "{}: as many boxes are kept as it allows, {rows}",
            node.place
        ));
        let comparisons = rows.saturating_mul(count);
        self.chosen(
            node,
            scores.elements(),
            comparisons,
            &[(DType::I64, vec![rows, 3])],
        )
    }

    /// NonZero: as many as there are elements.
    pub fn non_zero(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        self.assume(format!(
            "{}: all {} elements are taken as non-zero",
            node.place,
            x.elements()
        ));
        self.chosen(
            node,
            x.elements(),
            x.elements(),
            &[(DType::I64, vec![x.rank() as u64, x.elements()])],
        )
    }

    /// Compress and Unique: as many as there are candidates are taken as chosen.
    pub fn chosen_all(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let axis = node
            .attribute("axis")
            .map(|a| shapes::axis(a.i, x.rank()))
            .transpose()?;
        let (shape, count) = match axis {
            Some(a) => (x.shape.clone(), x.shape[a]),
            None => (vec![x.elements()], x.elements()),
        };
        self.assume(format!(
            "{}: all {count} candidates are taken as chosen",
            node.place
        ));
        if node.op == "Compress" {
            return self.chosen(node, count, count, &[(x.dtype, shape)]);
        }
        // Sorting: n log2 n comparisons.
        let depth = u64::from(64 - count.saturating_sub(1).leading_zeros()).max(1);
        let index = (DType::I64, vec![count]);
        self.chosen(
            node,
            x.elements(),
            x.elements().saturating_mul(depth),
            &[(x.dtype, shape), index.clone(), index.clone(), index],
        )
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

    /// GridSample: taps by data for each point of the grid.
    pub fn grid_sample(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let (x, grid) = (node.input(0)?.clone(), node.input(1)?.clone());
        let (Some((_, points)), [n, c, ..]) = (grid.shape.split_last(), x.shape.as_slice()) else {
            return Err(format!(
                "an input of shape {:?} and a grid of shape {:?} do not fit",
                x.shape, grid.shape
            )
            .into());
        };
        if grid.rank() != x.rank() || points.first() != Some(n) {
            return Err(format!(
                "an input of shape {:?} and a grid of shape {:?} do not fit",
                x.shape, grid.shape
            )
            .into());
        }
        let taps: u64 = match node.text("mode") {
            "nearest" => 1,
            "bicubic" | "cubic" => 4u64.pow((x.rank() - 2).min(8) as u32),
            _ => 2u64.pow((x.rank() - 2).min(8) as u32),
        };
        let shape: Vec<u64> = [*n, *c]
            .into_iter()
            .chain(points[1..].iter().copied())
            .collect();
        let rows = points.iter().product::<u64>().saturating_mul(taps);
        self.looked_up(
            node,
            OpKind::Gather {
                rows,
                row_elements: *c,
            },
            &shapes::checked(shape)?,
        )
    }

    /// RoiAlign: four taps for each sample of each bin of each region.
    pub fn roi_align(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let (x, rois) = (node.input(0)?.clone(), node.input(1)?.clone());
        let size = |name| {
            u64::try_from(node.int(name, 1))
                .ok()
                .filter(|s| (1..1 << 20).contains(s))
                .ok_or_else(|| format!("{name} must be 1 or more"))
        };
        let (h, w) = (size("output_height")?, size("output_width")?);
        let samples = u64::try_from(node.int("sampling_ratio", 0))
            .unwrap_or(0)
            .clamp(1, 1 << 10);
        let (Some(&regions), Some(&c)) = (rois.shape.first(), x.shape.get(1)) else {
            return Err(format!(
                "an input of shape {:?} and regions of shape {:?} do not fit",
                x.shape, rois.shape
            )
            .into());
        };
        let shape = shapes::checked(vec![regions, c, h, w])?;
        let rows = [h, w, samples, samples, 4]
            .iter()
            .fold(regions, |n, d| n.saturating_mul(*d));
        self.looked_up(
            node,
            OpKind::Gather {
                rows,
                row_elements: c,
            },
            &shape,
        )
    }
}
