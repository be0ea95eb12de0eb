//! Look-ups and choices by data, counted exactly where they are, at their upper bound where they are not (stated
//! as an assumption).

use crate::einsum::ReduceOperator;
use crate::expr::Expr;
use crate::meaning::Meaning;
use crate::op::{Op, OpClass, OpKind};

use super::import::Importer;
use super::lower::{Lowered, dtype, transposed_elements};
use super::node::Node;
use super::shapes;
use super::value::{DType, Value};

/// Known indices that are looked at for an even spacing.
const MOST_INDICES: u64 = 1024;

impl<'m> Importer<'m> {
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
                let out = self.view(node, 0, "", &shape)?;
                let place = |i: &i64| usize::try_from(if *i < 0 { i + extent } else { *i }).ok();
                let places = known.iter().map(place).collect();
                let value = self.expr(node, 0).take(axis, places, 0.0);
                self.says(&out, value.reshape(&shape));
                return Ok(vec![Value {
                    weight: x.weight,
                    ..out
                }]);
            }
        }
        let outer: u64 = x.shape[..axis].iter().product();
        let kind = OpKind::Gather {
            rows: outer.saturating_mul(index.elements()),
            row_elements: x.shape[axis + 1..].iter().product(),
        };
        let out = self.looked_up(node, kind, &shape)?;
        let value = self.expr(node, 0).gather(axis, &self.expr(node, 1));
        self.meaning_of(&out, value);
        Ok(out)
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
        let axis = shapes::axis(node.int("axis", 0), x.rank())?;
        if x.rank() != index.rank() {
            return Err(format!(
                "indices of shape {:?} for data of shape {:?}: their ranks must be equal",
                index.shape, x.shape
            )
            .into());
        }
        let kind = OpKind::Gather {
            rows: index.elements(),
            row_elements: 1,
        };
        let out = self.looked_up(node, kind, &index.shape)?;
        let operands = [&self.expr(node, 0), &self.expr(node, 1)];
        let meaning = Meaning::GatherElements { axis };
        self.meaning_of(&out, Expr::step(meaning, &operands, index.shape.clone()));
        Ok(out)
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
        let shape = shapes::checked(shape)?;
        let out = self.looked_up(node, kind, &shape)?;
        let operands = [&self.expr(node, 0), &self.expr(node, 1)];
        let meaning = Meaning::GatherVectors { batch };
        self.meaning_of(&out, Expr::step(meaning, &operands, shape));
        Ok(out)
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
        let reduction = match node.text("reduction") {
            "add" => Some(ReduceOperator::Sum),
            "mul" => Some(ReduceOperator::Product),
            "max" => Some(ReduceOperator::Max),
            "min" => Some(ReduceOperator::Min),
            _ => None,
        };
        let meaning = match node.op {
            "Scatter" | "ScatterElements" => Meaning::ScatterElements {
                axis: shapes::axis(node.int("axis", 0), x.rank())?,
                reduction,
            },
            "ScatterND" => Meaning::ScatterVectors { reduction },
            _ => Meaning::Unstated,
        };
        let parts: Vec<Expr> = (0..3).map(|i| self.expr(node, i)).collect();
        let parts: Vec<&Expr> = parts.iter().collect();
        self.says(&value, Expr::step(meaning, &parts, x.shape.clone()));
        Ok(vec![value])
    }

    /// CumSum and CumProd.
    pub fn cumulative(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let out = self.program(
            node,
            OpClass::Elementwise,
            &[presil_numerics::LanePrimitive::Add],
        )?;
        let rank = node.input(0)?.rank();
        let axis = node.optional(1).and_then(Value::scalar);
        if let Some(axis) = axis.and_then(|a| shapes::axis(a, rank).ok()) {
            let meaning = Meaning::Cumulative {
                axis,
                product: node.op == "CumProd",
                exclusive: node.int("exclusive", 0) != 0,
                reverse: node.int("reverse", 0) != 0,
            };
            let x = self.expr(node, 0);
            self.meaning_of(&out, Expr::step(meaning, &[&x], x.shape().to_vec()));
        }
        Ok(out)
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
            let window = super::window::Window::of(node, &x.shape, kernel, false)?;
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
        let out = self.emit(node, "", OpClass::Gather, kind, vec![t], &shape, values)?;
        if depth <= super::value::FOLDED_ELEMENTS {
            let (index, values) = (self.expr(node, 0), self.expr(node, 2));
            let mut own = index.shape().to_vec();
            own.insert(axis, 1);
            let mut along = vec![1; shape.len()];
            along[axis] = depth;
            let places = Expr::constant(&along, (0..depth).map(|i| i as f64).collect());
            let (off, on) = (values.part(0, 0, 1), values.part(0, 1, 1));
            // Negative indices count from the end.
            let text = format!("select(equal(select(less(x, 0), x + {depth}, x), y), x2, x3)");
            let operands = [
                &index.reshape(&own),
                &places,
                &on.reshape(&[]),
                &off.reshape(&[]),
            ];
            self.says(&out, Expr::formula(&text, &operands));
        }
        Ok(vec![out])
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
            meaning: crate::Meaning::Unstated,
        });
        Ok(values)
    }

    /// Hardmax: one comparison for each element.
    pub fn select(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let out = self.chosen(
            node,
            x.elements(),
            x.elements(),
            &[(x.dtype, x.shape.clone())],
        )?;
        let old = node.opset < 13;
        let axis = shapes::axis(node.int("axis", if old { 1 } else { -1 }), x.rank())?;
        let input = self.expr(node, 0);
        let (seen, at) = if old {
            let (before, behind) = x.shape.split_at(axis);
            (vec![before.iter().product(), behind.iter().product()], 1)
        } else {
            (x.shape.clone(), axis)
        };
        let seen_input = input.reshape(&seen);
        let order = Meaning::Order {
            axis: at,
            count: 1,
            largest: true,
            last: false,
        };
        let mut one = seen.clone();
        one[at] = 1;
        let first = Expr::step(order, &[&seen_input], one);
        let mut along = vec![1; seen.len()];
        along[at] = seen[at];
        if seen[at] <= super::value::FOLDED_ELEMENTS {
            let places = Expr::constant(&along, (0..seen[at]).map(|i| i as f64).collect());
            let value = Expr::formula("equal(x, y)", &[&first, &places]);
            self.meaning_of(&out, value.reshape(&x.shape));
        }
        Ok(out)
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
        let out = self.chosen(
            node,
            x.elements(),
            x.elements().saturating_mul(depth),
            &[(x.dtype, shape.clone()), (DType::I64, shape.clone())],
        )?;
        let input = self.expr(node, 0);
        let order = Meaning::Order {
            axis,
            count: usize::try_from(k).unwrap_or(usize::MAX),
            largest: node.int("largest", 1) != 0,
            last: false,
        };
        let places = Expr::step(order, &[&input], shape.clone());
        let values = Expr::step(Meaning::GatherElements { axis }, &[&input, &places], shape);
        let tensors = out.iter().filter_map(|v| v.tensor);
        let gives = tensors.zip([values, places]).collect();
        self.says_all(gives);
        Ok(out)
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
