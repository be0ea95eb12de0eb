//! Look-ups, views and moves.

use crate::graph::GraphError;
use crate::op::{Op, OpClass, OpKind};
use crate::tensor::TensorId;

use super::Builder;

impl Builder {
    /// Rows of `table` [entries, width] looked up by `indices`.
    pub fn gather(&mut self, name: &str, table: TensorId, indices: TensorId) -> Result<TensorId, GraphError> {
        let &[_, width] = self.shape(table) else {
            return Err(Self::shape_error(name, "a look-up table needs two ranks"));
        };
        let mut shape = self.shape(indices).to_vec();
        let rows = shape.iter().product();
        shape.push(width);
        let kind = OpKind::Gather { rows, row_elements: width };
        Ok(self.push(name, OpClass::Gather, kind, &[table, indices], &shape))
    }

    /// The same elements in another shape; nothing moves.
    pub fn reshape(&mut self, name: &str, x: TensorId, shape: &[u64]) -> Result<TensorId, GraphError> {
        let (have, want) = (self.shape(x).iter().product::<u64>(), shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d)));
        if Some(have) != want {
            return Err(Self::shape_error(name, format!("{:?} does not reshape to {shape:?}", self.shape(x))));
        }
        Ok(self.push(name, OpClass::Move, OpKind::View, &[x], shape))
    }

    /// A contiguous or strided part of `x` that is read in place; nothing moves.
    pub fn view(&mut self, name: &str, x: TensorId, shape: &[u64]) -> TensorId {
        self.push(name, OpClass::Move, OpKind::View, &[x], shape)
    }

    /// Elements moved without arithmetic into a new tensor (transposition, concatenation, padding).
    pub fn copy(&mut self, name: &str, inputs: &[TensorId], shape: &[u64]) -> TensorId {
        let elements = shape.iter().product();
        self.push(name, OpClass::Move, OpKind::Move { elements }, inputs, shape)
    }

    /// Appends `x` to a cache.
    pub fn cache_write(&mut self, name: &str, x: TensorId, cache: TensorId) {
        let elements = self.graph.tensors[x].elements();
        let kind = OpKind::Move { elements };
        let op = Op { name: name.into(), class: OpClass::CacheWrite, kind, inputs: vec![x], outputs: vec![cache], steps: 1 };
        self.push_op(op);
    }
}
