//! Convolutions.

use crate::einsum::{Access, Affine, DimId, Domain, Einsum, MapOperator, Place, ReduceOperator};
use crate::graph::GraphError;
use crate::meaning::Meaning;
use crate::op::OpClass;
use crate::tensor::TensorId;

use super::{Builder, dims, plain, signed, single};

/// Parameters of a 2-D convolution over [batch, channels, height, width]. 1-D convolutions have height 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conv {
    /// Output channels.
    pub out_channels: u64,
    /// Filter height and width.
    pub kernel: [u64; 2],
    /// Steps between outputs.
    pub stride: [u64; 2],
    /// Zeros added at top, left, bottom, right.
    pub padding: [u64; 4],
    /// Steps between filter taps.
    pub dilation: [u64; 2],
    /// Groups; both channel counts must be divisible by it.
    pub groups: u64,
    /// Whether a bias is added.
    pub bias: bool,
}

impl Conv {
    /// A square filter with stride, "same"-style padding on all sides, no groups, no bias.
    pub fn square(out_channels: u64, kernel: u64, stride: u64, padding: u64) -> Self {
        Self {
            out_channels,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 4],
            dilation: [1; 2],
            groups: 1,
            bias: false,
        }
    }

    /// With a bias.
    pub fn with_bias(self) -> Self {
        Self { bias: true, ..self }
    }

    /// With groups.
    pub fn with_groups(self, groups: u64) -> Self {
        Self { groups, ..self }
    }
}

impl Builder {
    /// A convolution of `x` [n, c, h, w] with weights of its own, made as `name.weight` (and `name.bias`).
    pub fn conv2d(&mut self, name: &str, x: TensorId, conv: &Conv) -> Result<TensorId, GraphError> {
        let c = self.shape(x).get(1).copied().unwrap_or(0);
        let per_group = c.checked_div(conv.groups).unwrap_or(0);
        let shape = [conv.out_channels, per_group, conv.kernel[0], conv.kernel[1]];
        let weight = self.weight(format!("{name}.weight"), &shape);
        let bias = conv
            .bias
            .then(|| self.weight(format!("{name}.bias"), &[conv.out_channels]));
        self.conv2d_with(name, x, weight, bias, conv)
    }

    /// A convolution with given weights [k, c/g, r, s].
    pub fn conv2d_with(
        &mut self,
        name: &str,
        x: TensorId,
        weight: TensorId,
        bias: Option<TensorId>,
        conv: &Conv,
    ) -> Result<TensorId, GraphError> {
        let fail = |reason: String| Err(Self::shape_error(name, reason));
        let &[n, c, h, w] = self.shape(x) else {
            return fail(format!(
                "a 2-D convolution needs an input of four ranks, not {:?}",
                self.shape(x)
            ));
        };
        let (g, k) = (conv.groups, conv.out_channels);
        if g == 0 || c % g != 0 || k % g != 0 || c == 0 || k == 0 {
            return fail(format!(
                "{c} input and {k} output channels must be divisible by {g} groups"
            ));
        }
        let [r, s] = conv.kernel;
        if self.shape(weight) != [k, c / g, r, s] {
            return fail(format!(
                "weights must be {:?}, not {:?}",
                [k, c / g, r, s],
                self.shape(weight)
            ));
        }
        if conv.stride.contains(&0) || conv.dilation.contains(&0) || r == 0 || s == 0 {
            return fail("strides, dilations and filter sizes must be at least 1".into());
        }
        let [top, left, bottom, right] = conv.padding;
        let out = |size: u64, before: u64, after: u64, filter: u64, stride: u64, dilation: u64| {
            let span = dilation.checked_mul(filter - 1)?.checked_add(1)?;
            let padded = size.checked_add(before)?.checked_add(after)?;
            padded.checked_sub(span).map(|room| room / stride + 1)
        };
        let p = out(h, top, bottom, r, conv.stride[0], conv.dilation[0]);
        let q = out(w, left, right, s, conv.stride[1], conv.dilation[1]);
        let (Some(p), Some(q)) = (p, q) else {
            return fail(format!(
                "the {r}x{s} filter is larger than the padded {h}x{w} input"
            ));
        };
        let dims = dims(&[
            ("n", n),
            ("g", g),
            ("k", k / g),
            ("c", c / g),
            ("p", p),
            ("q", q),
            ("r", r),
            ("s", s),
        ]);
        let rank = |out: u32, tap: u32, axis: usize, pad: u64| Affine {
            terms: vec![
                (DimId(out), signed(conv.stride[axis])),
                (DimId(tap), signed(conv.dilation[axis])),
            ],
            offset: -signed(pad),
        };
        let mut input = plain(Place::Input(0), &dims, &[0, 1, 3]);
        input
            .ranks
            .extend([rank(4, 6, 0, top), rank(5, 7, 1, left)]);
        input.extents.extend([h, w]);
        let einsum = Einsum {
            inputs: vec![input, plain(Place::Input(1), &dims, &[1, 2, 3, 6, 7])],
            output: plain(Place::Output(0), &dims, &[0, 1, 2, 4, 5]),
            dims,
            map: MapOperator::MultiplyAccumulate,
            reduce: ReduceOperator::Sum,
            domain: Domain::Dense,
        };
        let inputs: Vec<TensorId> = [x, weight].into_iter().chain(bias).collect();
        let out = self.push(name, OpClass::Conv, single(einsum), &inputs, &[n, k, p, q]);
        self.means(Meaning::Contraction { bias_rank: 1 });
        Ok(out)
    }

    /// A transposed convolution of `x` [n, c, h, w] with given weights [c, k/g, r, s]; `output_padding` rows and
    /// columns are added at bottom and right. The output's index is affine: each input scatters a filter.
    pub fn conv_transpose2d_with(
        &mut self,
        name: &str,
        x: TensorId,
        weight: TensorId,
        bias: Option<TensorId>,
        conv: &Conv,
        output_padding: [u64; 2],
    ) -> Result<TensorId, GraphError> {
        let fail = |reason: String| Err(Self::shape_error(name, reason));
        let &[n, c, h, w] = self.shape(x) else {
            return fail(format!(
                "a 2-D transposed convolution needs an input of four ranks, not {:?}",
                self.shape(x)
            ));
        };
        let (g, k) = (conv.groups, conv.out_channels);
        if g == 0 || c % g != 0 || k % g != 0 || c == 0 || k == 0 || h == 0 || w == 0 {
            return fail(format!(
                "{c} input and {k} output channels must be divisible by {g} groups"
            ));
        }
        let [r, s] = conv.kernel;
        if self.shape(weight) != [c, k / g, r, s] {
            return fail(format!(
                "weights must be {:?}, not {:?}",
                [c, k / g, r, s],
                self.shape(weight)
            ));
        }
        if conv.stride.contains(&0) || conv.dilation.contains(&0) || r == 0 || s == 0 {
            return fail("strides, dilations and filter sizes must be at least 1".into());
        }
        let [top, left, bottom, right] = conv.padding;
        let out =
            |size: u64, pads: [u64; 2], filter: u64, stride: u64, dilation: u64, extra: u64| {
                let reach = (size - 1)
                    .checked_mul(stride)?
                    .checked_add(dilation.checked_mul(filter - 1)?)?;
                let full = reach.checked_add(1)?.checked_add(extra)?;
                full.checked_sub(pads[0].checked_add(pads[1])?)
                    .filter(|o| *o > 0)
            };
        let p = out(
            h,
            [top, bottom],
            r,
            conv.stride[0],
            conv.dilation[0],
            output_padding[0],
        );
        let q = out(
            w,
            [left, right],
            s,
            conv.stride[1],
            conv.dilation[1],
            output_padding[1],
        );
        let (Some(p), Some(q)) = (p, q) else {
            return fail("its padding leaves no output".into());
        };
        // Dimensions p and q run over the input, so that points = input elements x k/g x r x s.
        let dims = dims(&[
            ("n", n),
            ("g", g),
            ("k", k / g),
            ("c", c / g),
            ("p", h),
            ("q", w),
            ("r", r),
            ("s", s),
        ]);
        let rank = |from: u32, tap: u32, axis: usize, pad: u64| Affine {
            terms: vec![
                (DimId(from), signed(conv.stride[axis])),
                (DimId(tap), signed(conv.dilation[axis])),
            ],
            offset: -signed(pad),
        };
        let output = Access {
            place: Place::Output(0),
            ranks: vec![
                Affine::dim(DimId(0)),
                Affine::dim(DimId(1)),
                Affine::dim(DimId(2)),
                rank(4, 6, 0, top),
                rank(5, 7, 1, left),
            ],
            extents: vec![n, g, k / g, p, q],
        };
        let einsum = Einsum {
            inputs: vec![
                plain(Place::Input(0), &dims, &[0, 1, 3, 4, 5]),
                plain(Place::Input(1), &dims, &[1, 3, 2, 6, 7]),
            ],
            output,
            dims,
            map: MapOperator::MultiplyAccumulate,
            reduce: ReduceOperator::Sum,
            domain: Domain::Dense,
        };
        let inputs: Vec<TensorId> = [x, weight].into_iter().chain(bias).collect();
        let shape = [n, k, p, q];
        let out = self.push(
            name,
            OpClass::ConvTranspose,
            single(einsum),
            &inputs,
            &shape,
        );
        self.means(Meaning::Contraction { bias_rank: 1 });
        Ok(out)
    }
}
