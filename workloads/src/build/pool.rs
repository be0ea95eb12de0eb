//! Poolings and reductions. Each is a cascade of einsums like what `vector` has.

use presil_numerics::LanePrimitive as L;

use crate::einsum::{Affine, DimId, Place, ReduceOperator};
use crate::graph::GraphError;
use crate::meaning::Meaning;
use crate::op::{OpClass, OpKind};
use crate::tensor::TensorId;

use super::vector::lanes;
use super::{Builder, dims, plain, signed};

/// A pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// Largest of the window.
    Max,
    /// Mean of the window.
    Average,
}

impl Builder {
    /// A 2-D pooling over [n, c, h, w] with padding (top, left, bottom, right); padding elements are not read.
    /// `ceil` rounds the output size up. Averages divide by the whole window, padding included.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parameters of a pooling, in the order that frameworks have"
    )]
    pub fn pool2d(
        &mut self,
        name: &str,
        x: TensorId,
        kind: PoolKind,
        kernel: [u64; 2],
        stride: [u64; 2],
        padding: [u64; 4],
        ceil: bool,
    ) -> Result<TensorId, GraphError> {
        let &[n, c, h, w] = self.shape(x) else {
            return Err(Self::shape_error(
                name,
                format!("a 2-D pooling needs four ranks, not {:?}", self.shape(x)),
            ));
        };
        let out = |size: u64, before: u64, after: u64, kernel: u64, stride: u64| {
            let room = size
                .checked_add(before)?
                .checked_add(after)?
                .checked_sub(kernel)?;
            let steps = if ceil {
                room.div_ceil(stride)
            } else {
                room / stride
            };
            // A window that would start in the far padding is dropped.
            let steps = if ceil && steps.saturating_mul(stride) >= size.saturating_add(before) {
                steps - 1
            } else {
                steps
            };
            steps.checked_add(1)
        };
        if stride.contains(&0) || kernel.contains(&0) {
            return Err(Self::shape_error(
                name,
                "window and stride must be at least 1",
            ));
        }
        let p = out(h, padding[0], padding[2], kernel[0], stride[0]);
        let q = out(w, padding[1], padding[3], kernel[1], stride[1]);
        let (Some(p), Some(q)) = (p, q) else {
            return Err(Self::shape_error(
                name,
                format!("the window {kernel:?} is larger than the padded input {h}x{w}"),
            ));
        };
        let all = dims(&[
            ("n", n),
            ("c", c),
            ("p", p),
            ("q", q),
            ("r", kernel[0]),
            ("s", kernel[1]),
        ]);
        let rank = |out: u32, tap: u32, axis: usize| Affine {
            terms: vec![(DimId(out), signed(stride[axis])), (DimId(tap), 1)],
            offset: -signed(padding[axis]),
        };
        let mut input = plain(Place::Input(0), &all, &[0, 1]);
        input.ranks.extend([rank(2, 4, 0), rank(3, 5, 1)]);
        input.extents.extend([h, w]);
        let shape = [n, c, p, q];
        let cascade = match kind {
            PoolKind::Max => vec![lanes(
                vec![input],
                plain(Place::Output(0), &all, &[0, 1, 2, 3]),
                &all,
                &[],
                ReduceOperator::Max,
            )],
            PoolKind::Average => {
                let rows = dims(&[("n", n), ("c", c), ("p", p), ("q", q)]);
                let every = [0, 1, 2, 3];
                let sums = plain(Place::Local(0), &all, &every);
                vec![
                    lanes(vec![input], sums, &all, &[], ReduceOperator::Sum),
                    lanes(
                        vec![plain(Place::Local(0), &rows, &every)],
                        plain(Place::Output(0), &rows, &every),
                        &rows,
                        &[L::Mul],
                        ReduceOperator::Sum,
                    ),
                ]
            }
        };
        let out = self.push(name, OpClass::Pool, OpKind::Cascade(cascade), &[x], &shape);
        self.means(Meaning::Pool {
            kind,
            counts_padding: true,
        });
        Ok(out)
    }

    /// An average pooling of `x` [n, c, h, w] to a given output size with equal windows that cover the input:
    /// stride floor(in / out), window in - (out - 1) x stride. Where `out` divides `in` this is the adaptive
    /// pooling of frameworks; elsewhere theirs has windows of slightly differing sizes.
    pub fn adaptive_average_pool2d(
        &mut self,
        name: &str,
        x: TensorId,
        out: [u64; 2],
    ) -> Result<TensorId, GraphError> {
        let &[_, _, h, w] = self.shape(x) else {
            return Err(Self::shape_error(
                name,
                format!("a 2-D pooling needs four ranks, not {:?}", self.shape(x)),
            ));
        };
        if out.contains(&0) || h < out[0] || w < out[1] {
            let reason = format!(
                "its {h}x{w} input is smaller than its {}x{} output",
                out[0], out[1]
            );
            return Err(Self::shape_error(name, reason));
        }
        let stride = [h / out[0], w / out[1]];
        let kernel = [h - (out[0] - 1) * stride[0], w - (out[1] - 1) * stride[1]];
        let made = self.pool2d(name, x, PoolKind::Average, kernel, stride, [0; 4], false)?;
        if h % out[0] != 0 || w % out[1] != 0 {
            self.means(Meaning::Unstated);
        }
        Ok(made)
    }

    /// A reduction over a range of ranks, which stay with extent 1 if `keep`. `mean` adds the division.
    pub fn reduce(
        &mut self,
        name: &str,
        x: TensorId,
        over: std::ops::Range<usize>,
        operator: ReduceOperator,
        mean: bool,
        keep: bool,
    ) -> Result<TensorId, GraphError> {
        let shape = self.shape(x).to_vec();
        let [outer, k, inner] = self.around(name, &shape, over.start, over.end)?;
        let all = dims(&[("x", outer), ("k", k), ("y", inner)]);
        let input = plain(Place::Input(0), &all, &[0, 1, 2]);
        let cascade = if mean {
            let rows = dims(&[("x", outer), ("y", inner)]);
            vec![
                lanes(
                    vec![input],
                    plain(Place::Local(0), &all, &[0, 2]),
                    &all,
                    &[],
                    operator,
                ),
                lanes(
                    vec![plain(Place::Local(0), &rows, &[0, 1])],
                    plain(Place::Output(0), &rows, &[0, 1]),
                    &rows,
                    &[L::Mul],
                    operator,
                ),
            ]
        } else {
            vec![lanes(
                vec![input],
                plain(Place::Output(0), &all, &[0, 2]),
                &all,
                &[],
                operator,
            )]
        };
        let mut out = shape[..over.start].to_vec();
        if keep {
            out.extend(over.clone().map(|_| 1));
        }
        out.extend_from_slice(&shape[over.end..]);
        let made = self.push(name, OpClass::Pool, OpKind::Cascade(cascade), &[x], &out);
        self.means(Meaning::Reduce {
            operator,
            mean,
            axes: over.collect(),
        });
        Ok(made)
    }
}
