//! Look-ups, views and moves.

use crate::graph::GraphError;
use crate::meaning::Meaning;
use crate::op::{Op, OpClass, OpKind};
use crate::tensor::TensorId;

use super::{Builder, elements};

impl Builder {
    /// Rows of `table` [entries, width] looked up by `indices`.
    pub fn gather(
        &mut self,
        name: &str,
        table: TensorId,
        indices: TensorId,
    ) -> Result<TensorId, GraphError> {
        let &[_, width] = self.shape(table) else {
            return Err(Self::shape_error(name, "a look-up table needs two ranks"));
        };
        let mut shape = self.shape(indices).to_vec();
        let rows = elements(&shape);
        shape.push(width);
        let kind = OpKind::Gather {
            rows,
            row_elements: width,
        };
        let out = self.push(name, OpClass::Gather, kind, &[table, indices], &shape);
        self.means(Meaning::Gather { axis: 0 });
        Ok(out)
    }

    /// The same elements in another shape; nothing moves.
    pub fn reshape(
        &mut self,
        name: &str,
        x: TensorId,
        shape: &[u64],
    ) -> Result<TensorId, GraphError> {
        let count = |shape: &[u64]| shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        let (have, want) = (count(self.shape(x)), count(shape));
        if have.is_none() || want.is_none() {
            let reason = format!("shape {:?} is too large", self.shape(x));
            return Err(Self::shape_error(name, reason));
        }
        if have != want {
            return Err(Self::shape_error(
                name,
                format!("{:?} does not reshape to {shape:?}", self.shape(x)),
            ));
        }
        let out = self.push(name, OpClass::Move, OpKind::View, &[x], shape);
        self.means(Meaning::Reshape);
        Ok(out)
    }

    /// A contiguous or strided part of `x` that is read in place; nothing moves.
    pub fn view(&mut self, name: &str, x: TensorId, shape: &[u64]) -> TensorId {
        self.push(name, OpClass::Move, OpKind::View, &[x], shape)
    }

    /// The elements `start..start + length` of `x` along an axis, read in place and seen in a shape; nothing moves.
    pub fn part(
        &mut self,
        name: &str,
        x: TensorId,
        axis: usize,
        [start, length]: [u64; 2],
        shape: &[u64],
    ) -> Result<TensorId, GraphError> {
        let mut sizes = self.shape(x).to_vec();
        let whole = sizes.get(axis).copied().unwrap_or(0);
        let fits = start.checked_add(length).is_some_and(|end| end <= whole);
        if let Some(size) = sizes.get_mut(axis) {
            *size = length;
        }
        if !fits || elements(&sizes) != elements(shape) {
            let reason = format!(
                "{shape:?} is not {length} elements from {start} on along rank {axis} of {:?}",
                self.shape(x)
            );
            return Err(Self::shape_error(name, reason));
        }
        let mut starts = vec![0; sizes.len()];
        starts[axis] = start;
        let out = self.view(name, x, shape);
        let steps = vec![1; sizes.len()];
        self.means(Meaning::Slice {
            starts,
            sizes,
            steps,
        });
        Ok(out)
    }

    /// Elements moved without arithmetic into a new tensor (transposition, concatenation, padding).
    pub fn copy(&mut self, name: &str, inputs: &[TensorId], shape: &[u64]) -> TensorId {
        self.push(
            name,
            OpClass::Move,
            OpKind::Move {
                elements: elements(shape),
            },
            inputs,
            shape,
        )
    }

    /// The inputs one after the other along an axis, copied into a new tensor.
    pub fn concat(
        &mut self,
        name: &str,
        inputs: &[TensorId],
        axis: usize,
    ) -> Result<TensorId, GraphError> {
        let Some(mut shape) = inputs
            .first()
            .map(|t| self.shape(*t).to_vec())
            .filter(|s| axis < s.len())
        else {
            return Err(Self::shape_error(
                name,
                format!("a concatenation needs inputs that have an axis {axis}"),
            ));
        };
        for t in &inputs[1..] {
            let own = self.shape(*t);
            let fits = own.len() == shape.len()
                && own
                    .iter()
                    .zip(&shape)
                    .enumerate()
                    .all(|(i, (a, b))| i == axis || a == b);
            let Some(sum) = fits.then(|| shape[axis].checked_add(own[axis])).flatten() else {
                let reason = format!("{own:?} does not continue {shape:?} along axis {axis}");
                return Err(Self::shape_error(name, reason));
            };
            shape[axis] = sum;
        }
        let out = self.copy(name, inputs, &shape);
        self.means(Meaning::Concat { axis });
        Ok(out)
    }

    /// A transposition, copied: rank `i` of the output is rank `order[i]` of `x`.
    pub fn transpose(
        &mut self,
        name: &str,
        x: TensorId,
        order: &[usize],
    ) -> Result<TensorId, GraphError> {
        let own = self.shape(x);
        let mut seen = vec![false; own.len()];
        for axis in order {
            if let Some(s) = seen.get_mut(*axis) {
                *s = true;
            }
        }
        if order.len() != own.len() || seen.contains(&false) {
            return Err(Self::shape_error(
                name,
                format!("{order:?} is no order of the ranks of {own:?}"),
            ));
        }
        let shape: Vec<u64> = order.iter().map(|axis| own[*axis]).collect();
        let order = order.to_vec();
        let out = self.copy(name, &[x], &shape);
        self.means(Meaning::Transpose { order });
        Ok(out)
    }

    /// [n, c, h, w] enlarged by whole factors (height, width), each element repeated.
    pub fn upsample_nearest(
        &mut self,
        name: &str,
        x: TensorId,
        factors: [u64; 2],
    ) -> Result<TensorId, GraphError> {
        let &[n, c, h, w] = self.shape(x) else {
            return Err(Self::shape_error(
                name,
                format!("enlarging needs four ranks, not {:?}", self.shape(x)),
            ));
        };
        let shape = [
            n,
            c,
            h.saturating_mul(factors[0]),
            w.saturating_mul(factors[1]),
        ];
        let out = self.copy(name, &[x], &shape);
        self.means(Meaning::Enlarge {
            factors: vec![1, 1, factors[0], factors[1]],
        });
        Ok(out)
    }

    /// Appends `x` to a cache.
    pub fn cache_write(&mut self, name: &str, x: TensorId, cache: TensorId) {
        let kind = OpKind::Move {
            elements: elements(self.shape(x)),
        };
        let op = Op {
            name: name.into(),
            class: OpClass::CacheWrite,
            kind,
            inputs: vec![x],
            outputs: vec![cache],
            steps: 1,
            meaning: Meaning::Append,
        };
        self.push_op(op);
    }
}
