//! Convolutions of one to three spatial ranks.
//!
//! Dimensions are called as those of 2-D convolutions (n, g, k, c; p, q, r, s); a 1-D convolution is one of
//! height 1, a 3-D one has the further output and filter ranks o and t in front.

use crate::build::single;
use crate::einsum::{
    Access, Affine, Dim, DimId, Domain, Einsum, MapOperator, Place, ReduceOperator,
};
use crate::expr::Expr;
use crate::formula::Binary;
use crate::op::OpClass;

use super::error::Fault;
use super::import::Importer;
use super::lower::Lowered;
use super::node::Node;
use super::value::{DType, Value};
use super::window::{LARGEST_STEP, Window};

/// Which inputs of a node are what.
pub(super) struct Operands {
    /// Activations.
    pub x: usize,
    /// Weights.
    pub w: usize,
    /// Bias, perhaps left out.
    pub bias: Option<usize>,
    /// Type of the output.
    pub dtype: DType,
}

/// Channels of a convolution.
struct Channels {
    batch: u64,
    groups: u64,
    /// Output channels of a group.
    k: u64,
    /// Input channels of a group.
    c: u64,
}

fn channels(node: &Node, x: &Value, w: &Value, transposed: bool) -> Result<Channels, Fault> {
    let groups = u64::try_from(node.int("group", 1)).unwrap_or(0);
    let &[batch, c, ..] = x.shape.as_slice() else {
        return Err(format!(
            "it needs an input of three or more ranks, not {:?}",
            x.shape
        )
        .into());
    };
    if w.rank() != x.rank() {
        return Err(format!(
            "weights of shape {:?} for an input of shape {:?}: their ranks must be equal",
            w.shape, x.shape
        )
        .into());
    }
    if x.shape.contains(&0) || w.shape.contains(&0) {
        return Err(format!(
            "an input of shape {:?} or weights of shape {:?} without elements",
            x.shape, w.shape
        )
        .into());
    }
    let outputs = if transposed {
        w.shape[1]
            .checked_mul(groups)
            .ok_or("its output channels overflow")?
    } else {
        w.shape[0]
    };
    if groups == 0 || c % groups != 0 || outputs % groups != 0 {
        return Err(format!(
            "{c} input and {outputs} output channels must be divisible by {groups} groups"
        )
        .into());
    }
    let wanted = if transposed { c } else { c / groups };
    let given = if transposed { w.shape[0] } else { w.shape[1] };
    if wanted != given {
        return Err(format!("weights of shape {:?} are for {given} input channels{}; the input of shape {:?} in {groups} groups has {wanted}", w.shape, if transposed { "" } else { " of a group" }, x.shape).into());
    }
    Ok(Channels {
        batch,
        groups,
        k: outputs / groups,
        c: c / groups,
    })
}

impl<'m> Importer<'m> {
    /// Conv, and FusedConv with its activation.
    pub fn conv(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let dtype = node.input(0)?.dtype;
        let out = self.convolve(
            node,
            Operands {
                x: 0,
                w: 1,
                bias: Some(2),
                dtype,
            },
        )?;
        let fused = node.op == "FusedConv" && node.optional(3).is_some();
        let added = fused.then(|| self.what(&out).binary(Binary::Add, &self.expr(node, 3)));
        let sum = if fused {
            let operands = [
                (out.tensor.ok_or("it has no output")?, out.shape.clone()),
                (self.operand(node, 3)?, node.input(3)?.shape.clone()),
            ];
            self.lanes(
                node,
                ".add",
                OpClass::Elementwise,
                &operands,
                &[presil_numerics::LanePrimitive::Add],
                dtype,
            )?
        } else {
            out
        };
        if let Some(added) = added {
            self.says(&sum, added);
        }
        self.fused_activation(node, sum)
    }

    /// ConvInteger: 32-bit sums of 8-bit products.
    pub fn conv_integer(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let out = self.convolve(
            node,
            Operands {
                x: 0,
                w: 1,
                bias: None,
                dtype: DType::I32,
            },
        )?;
        let sums = self.integer_convolution(node, &out, [0, 2], [1, 3]);
        self.says(&out, sums);
        Ok(vec![out])
    }

    /// The exact sums of a convolution of codes less their zero points; those of weights may be one for each output
    /// channel.
    fn integer_convolution(
        &self,
        node: &Node<'m>,
        out: &Value<'m>,
        x: [usize; 2],
        w: [usize; 2],
    ) -> Expr {
        let weights = self.expr(node, w[0]);
        let zero_x = self.given(node, x[1]).map(|z| z.reshape(&[]));
        let zero_w = self
            .given(node, w[1])
            .map(|z| along_first(&z, weights.shape().len()));
        self.integer_sums(out, [(self.expr(node, x[0]), zero_x), (weights, zero_w)])
    }

    /// QLinearConv: x, its scale and zero point, w, its scale and zero point, those of the output, bias.
    pub fn q_linear_conv(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let dtype = node.input(0)?.dtype;
        self.merge_scales(node, 3, 4, 5, 0)?;
        let out = self.convolve(
            node,
            Operands {
                x: 0,
                w: 3,
                bias: Some(8),
                dtype,
            },
        )?;
        let mut sums = self.integer_convolution(node, &out, [0, 2], [3, 5]);
        let channels = |p: &Expr| along_first(p, out.shape.len() - 1);
        if let Some(bias) = self.given(node, 8) {
            sums = sums.binary(Binary::Add, &channels(&bias));
        }
        let scales = [1, 4, 6].map(|i| channels(&self.expr(node, i)));
        let scale = Expr::formula("x * y / z", &scales.each_ref());
        let quotient = sums.binary(Binary::Multiply, &scale);
        let zero = self.given(node, 7).map(|z| z.reshape(&[]));
        let codes = super::quantize::rounded(&quotient, zero.as_ref(), dtype, true);
        self.says(&out, codes);
        Ok(vec![out])
    }

    /// The activation that a fused operator applies to its result.
    pub fn fused_activation(&mut self, node: &Node<'m>, out: Value<'m>) -> Lowered<'m> {
        use crate::build::Function as F;
        let f = match node.text("activation") {
            "" => return Ok(vec![out]),
            "Relu" => F::Relu,
            "Clip" => F::Clip,
            "LeakyRelu" => F::LeakyRelu,
            "Sigmoid" => F::Sigmoid,
            "Tanh" => F::Tanh,
            "HardSigmoid" => F::HardSigmoid,
            other => return Err(format!("its fused activation `{other}` is not supported").into()),
        };
        let operands = [(out.tensor.ok_or("it has no output")?, out.shape.clone())];
        let result = self.lanes(
            node,
            ".activation",
            OpClass::Activation,
            &operands,
            f.program(),
            out.dtype,
        )?;
        // FusedGemm names the parameters, FusedConv lists them.
        let parameter = |name: &str, at: usize, default: f64| {
            let listed = node
                .floats("activation_params")
                .and_then(|p| p.get(at))
                .map(|p| f64::from(*p));
            let named = node.attribute(name).map(|a| f64::from(a.f));
            named.or(listed).unwrap_or(default)
        };
        let x = self.what(&out);
        let value = match f {
            F::Clip => x.clipped(
                parameter("activation_min", 0, f64::NEG_INFINITY),
                parameter("activation_max", 1, f64::INFINITY),
            ),
            F::LeakyRelu => {
                let alpha = parameter("activation_alpha", 0, f64::from(0.01f32));
                Expr::formula(&format!("max(x, 0) + {alpha} * min(x, 0)"), &[&x])
            }
            F::HardSigmoid => {
                let alpha = parameter("activation_alpha", 0, f64::from(0.2f32));
                let beta = parameter("activation_beta", 1, 0.5);
                Expr::formula(&format!("max(0, min(1, {alpha} * x + {beta}))"), &[&x])
            }
            other => match other.formula() {
                Some(formula) => Expr::elementwise(formula, &[&x]),
                None => Expr::unknown(&out.shape),
            },
        };
        self.says(&result, value);
        Ok(vec![result])
    }

    fn kernel(node: &Node<'m>, w: &Value<'m>) -> Result<Vec<i64>, Fault> {
        let own: Vec<i64> = w.shape.iter().skip(2).map(|k| *k as i64).collect();
        match node.ints("kernel_shape") {
            Some(given) if given != own => Err(format!(
                "its kernel_shape {given:?} contradicts its weights of shape {:?}",
                w.shape
            )
            .into()),
            _ => Ok(own),
        }
    }

    fn bias(
        &mut self,
        node: &Node<'m>,
        bias: Option<usize>,
        outputs: u64,
    ) -> Result<Option<crate::TensorId>, Fault> {
        let Some(i) = bias.filter(|i| node.optional(*i).is_some()) else {
            return Ok(None);
        };
        let shape = &node.input(i)?.shape;
        if *shape != [outputs] {
            return Err(format!("its bias must have shape [{outputs}], not {shape:?}").into());
        }
        self.operand(node, i).map(Some)
    }

    fn convolve(&mut self, node: &Node<'m>, o: Operands) -> Result<Value<'m>, Fault> {
        let (x, w) = (node.input(o.x)?.clone(), node.input(o.w)?.clone());
        let ch = channels(node, &x, &w, false)?;
        let window = Window::of(node, &x.shape, &Self::kernel(node, &w)?, false)?;
        let spatial = window.outputs()?;
        let shape: Vec<u64> = [ch.batch, ch.groups * ch.k]
            .into_iter()
            .chain(spatial)
            .collect();
        let window = window.at_least_2d();
        let out = window.outputs()?;
        let (dims, first_out, first_tap) = frame(&ch, &out, &window.kernel);
        let mut input = channel_access(Place::Input(0), &dims, &[0, 1, 3]);
        let mut output = channel_access(Place::Output(0), &dims, &[0, 1, 2]);
        let mut weight = channel_access(Place::Input(1), &dims, &[1, 2, 3]);
        for (i, &extent) in out.iter().enumerate() {
            let (p, r) = (DimId(first_out + i as u32), DimId(first_tap + i as u32));
            input.ranks.push(window.affine(i, p, r));
            input.extents.push(window.extents[i]);
            output.ranks.push(Affine::dim(p));
            output.extents.push(extent);
            weight.ranks.push(Affine::dim(r));
            weight.extents.push(window.kernel[i]);
        }
        let einsum = contraction(dims, input, weight, output);
        let tensors = [self.operand(node, o.x)?, self.operand(node, o.w)?]
            .into_iter()
            .chain(self.bias(node, o.bias, ch.groups * ch.k)?)
            .collect();
        let out = self.emit(
            node,
            "",
            OpClass::Conv,
            single(einsum),
            tensors,
            &shape,
            o.dtype,
        )?;
        let operands = [self.expr(node, o.x), self.expr(node, o.w)];
        let bias = o.bias.and_then(|i| self.given(node, i));
        let value = self.contracted(&out, operands, bias, 1);
        self.says(&out, value);
        Ok(out)
    }

    /// ConvTranspose: the index of the output is affine, each input scatters a filter.
    pub fn conv_transpose(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let (x, w) = (node.input(0)?.clone(), node.input(1)?.clone());
        let ch = channels(node, &x, &w, true)?;
        let mut window = Window::of(node, &x.shape, &Self::kernel(node, &w)?, false)?;
        let rank = window.kernel.len();
        let extra = match node.ints("output_padding") {
            Some(e) if e.len() == rank => e
                .iter()
                .map(|v| {
                    u64::try_from(*v)
                        .ok()
                        .filter(|v| *v < LARGEST_STEP)
                        .ok_or("a negative output_padding")
                })
                .collect::<Result<_, _>>()?,
            Some(e) if !e.is_empty() => {
                return Err(format!("output_padding {e:?} must have {rank} numbers").into());
            }
            _ => vec![0u64; rank],
        };
        let wanted = node.ints("output_shape").filter(|s| !s.is_empty());
        let mut spatial = Vec::new();
        for (i, extra) in extra.into_iter().enumerate() {
            let full = (window.extents[i] - 1)
                .checked_mul(window.stride[i])
                .and_then(|f| f.checked_add(window.span(i)))
                .and_then(|f| f.checked_add(extra))
                .ok_or("its output is too large")?;
            // A given output shape, and auto_pad, say how much of the full result is cut off.
            let target = match (wanted, window.auto) {
                (Some(s), _) => s
                    .get(s.len().wrapping_sub(rank).wrapping_add(i))
                    .and_then(|v| u64::try_from(*v).ok()),
                (None, Some(_)) => window.extents[i].checked_mul(window.stride[i]),
                (None, None) => full.checked_sub(window.before[i] + window.after[i]),
            };
            let target = target
                .filter(|t| *t > 0)
                .ok_or("its padding leaves no output")?;
            if wanted.is_some() || window.auto.is_some() {
                let cut = full.saturating_sub(target);
                window.before[i] = if window.auto == Some(true) {
                    cut / 2
                } else {
                    cut - cut / 2
                };
            }
            spatial.push(target);
        }
        let shape: Vec<u64> = [ch.batch, ch.groups * ch.k]
            .into_iter()
            .chain(spatial.iter().copied())
            .collect();
        let window = window.at_least_2d();
        let out: Vec<u64> = std::iter::repeat_n(1, window.kernel.len() - rank)
            .chain(spatial)
            .collect();
        // The output dimensions run over the input, so that points = input elements x k/g x taps.
        let (dims, first_in, first_tap) = frame(&ch, &window.extents, &window.kernel);
        let mut input = channel_access(Place::Input(0), &dims, &[0, 1, 3]);
        let mut output = channel_access(Place::Output(0), &dims, &[0, 1, 2]);
        let mut weight = channel_access(Place::Input(1), &dims, &[1, 3, 2]);
        for (i, &extent) in out.iter().enumerate() {
            let (p, r) = (DimId(first_in + i as u32), DimId(first_tap + i as u32));
            input.ranks.push(Affine::dim(p));
            input.extents.push(window.extents[i]);
            output.ranks.push(window.affine(i, p, r));
            output.extents.push(extent);
            weight.ranks.push(Affine::dim(r));
            weight.extents.push(window.kernel[i]);
        }
        let einsum = contraction(dims, input, weight, output);
        let tensors = [self.operand(node, 0)?, self.operand(node, 1)?]
            .into_iter()
            .chain(self.bias(node, Some(2), ch.groups * ch.k)?)
            .collect();
        let out = self.emit(
            node,
            "",
            OpClass::ConvTranspose,
            single(einsum),
            tensors,
            &shape,
            x.dtype,
        )?;
        let operands = [self.expr(node, 0), self.expr(node, 1)];
        let bias = self.given(node, 2);
        let value = self.contracted(&out, operands, bias, 1);
        self.says(&out, value);
        Ok(vec![out])
    }
}

/// A parameter of one number, or of one for each entry of the first of so many ranks.
fn along_first(parameter: &Expr, ranks: usize) -> Expr {
    let count: u64 = parameter.shape().iter().product();
    if count == 1 {
        return parameter.reshape(&[]);
    }
    let mut shape = vec![1; ranks.max(1)];
    shape[0] = count;
    parameter.reshape(&shape)
}

/// Dimensions n, g, k, c, the output's (o, p, q) and the filter's (t, r, s), and where the latter two start.
fn frame(ch: &Channels, out: &[u64], taps: &[u64]) -> (Vec<Dim>, u32, u32) {
    let depth = out.len() - 2;
    let names = |all: &[&'static str]| {
        all.iter()
            .skip(1 - depth.min(1))
            .copied()
            .collect::<Vec<_>>()
    };
    let mut dims: Vec<Dim> =
        crate::build::dims(&[("n", ch.batch), ("g", ch.groups), ("k", ch.k), ("c", ch.c)]);
    for (names, sizes) in [
        (names(&["o", "p", "q"]), out),
        (names(&["t", "r", "s"]), taps),
    ] {
        dims.extend(names.iter().zip(sizes).map(|(n, s)| Dim {
            name: (*n).into(),
            size: *s,
        }));
    }
    (dims, 4, 4 + out.len() as u32)
}

fn channel_access(place: Place, dims: &[Dim], ranks: &[u32]) -> Access {
    crate::build::plain(place, dims, ranks)
}

/// A dense multiply-accumulate einsum.
pub(super) fn contraction(dims: Vec<Dim>, a: Access, b: Access, output: Access) -> Einsum {
    Einsum {
        dims,
        inputs: vec![a, b],
        output,
        map: MapOperator::MultiplyAccumulate,
        reduce: ReduceOperator::Sum,
        domain: Domain::Dense,
    }
}
