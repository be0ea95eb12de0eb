//! Quantization: where it is a property of a tensor, and where it is an op.
//!
//! - The dequantization of a parameter is how the parameter is stored. Its scales (and zero points), where there
//!   is more than one, are part of that storage: their own tensors then store nothing.
//! - A quantization behind an op, when nobody else reads the op's result, is the format in which the op writes
//!   it; the dequantization in front of an op is the format in which it reads it.
//! - Everything else converts: a float input that is quantized, an output that is dequantized, a
//!   requantization, dynamic quantization.

use presil_numerics::quantization::{Granularity, Scaling, Sparsity};
use presil_numerics::{Conversion, LanePrimitive as L, Overflow, Quantization};

use crate::build::{Function, dims, plain};
use crate::einsum::{Place, ReduceOperator};
use crate::expr::Expr;
use crate::formula::{Binary, Formula, Unary};
use crate::meaning::Meaning;
use crate::op::{Op, OpClass, OpKind};
use crate::tensor::{Role, TensorId};

use super::error::Fault;
use super::import::Importer;
use super::lower::{Lowered, lanes};
use super::node::Node;
use super::shapes;
use super::value::{DType, Known, Value};

/// The storage of scales that are counted with the tensor that they belong to: none of their own.
const NOTHING: Sparsity = Sparsity::NOfM { kept: 0, group: 1 };

impl<'m> Importer<'m> {
    /// Counts input `i`, a parameter of scales or zero points, with the tensor that it belongs to.
    pub fn absorb(&mut self, node: &Node<'m>, i: usize) {
        if let Some(t) = node.optional(i).filter(|v| v.weight).and_then(|v| v.tensor) {
            self.builder.graph.tensors[t].quantization.sparsity = NOTHING;
        }
    }

    /// Takes scales and zero points of a parameter into its storage, if there is more than one of them; a single
    /// one stays a constant of the graph.
    pub fn merge_scales(
        &mut self,
        node: &Node<'m>,
        w: usize,
        scale: usize,
        zero: usize,
        axis: i64,
    ) -> Result<(), Fault> {
        let (weight, scales) = (node.input(w)?, node.input(scale)?);
        let axis = shapes::axis(axis, weight.rank())?;
        if scales.elements() == 1 {
            return Ok(());
        }
        if scales.elements() != weight.shape[axis] {
            return Err(format!(
                "{} scales for extent {} of weights of shape {:?}",
                scales.elements(),
                weight.shape[axis],
                weight.shape
            )
            .into());
        }
        let Some(t) = weight.tensor.filter(|_| weight.weight) else {
            return Ok(());
        };
        let zero_point = node.optional(zero).map(|z| z.dtype.format());
        let scaling = Scaling {
            granularity: Granularity::Channel { axis: axis as i8 },
            scale: scales.dtype.format(),
            zero_point,
            outer: None,
        };
        self.builder.graph.tensors[t].quantization.scaling = Some(scaling);
        self.absorb(node, scale);
        self.absorb(node, zero);
        Ok(())
    }

    /// DequantizeLinear.
    pub fn dequantize(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let (x, scale) = (node.input(0)?.clone(), node.input(1)?.clone());
        let to = match node.int("output_dtype", 0) {
            0 => scale.dtype,
            n => i32::try_from(n)
                .ok()
                .and_then(DType::of)
                .ok_or_else(|| format!("element type {n} is none that ONNX defines"))?,
        };
        let granularity = self.granularity(node, &x, &scale)?;
        let value = self.dequantized(node, 0, [1, 2]);
        if x.is_fixed() {
            let t = self.operand(node, 0)?;
            let tensor = &mut self.builder.graph.tensors[t];
            tensor.quantization = Quantization::from(x.dtype.format());
            if let Some(granularity) = granularity {
                let zero_point = node.optional(2).map(|z| z.dtype.format());
                tensor.quantization.scaling = Some(Scaling {
                    granularity,
                    scale: scale.dtype.format(),
                    zero_point,
                    outer: None,
                });
                self.absorb(node, 1);
                self.absorb(node, 2);
            }
            return Ok(vec![Value {
                dtype: to,
                tensor: Some(t),
                known: Known::Nothing,
                expr: Some(self.dequantized(node, 0, [1, 2])),
                ..x
            }]);
        }
        if x.dtype.is_narrow_int() || matches!(x.dtype, DType::Float(f) if f.bits() <= 8) {
            return Ok(vec![Value {
                dtype: to,
                expr: Some(value),
                ..x
            }]);
        }
        let operands = [
            (self.operand(node, 0)?, x.shape.clone()),
            (self.operand(node, 1)?, vec![1; 0]),
        ];
        let operands = if scale.elements() == 1 {
            &operands[..]
        } else {
            &operands[..1]
        };
        let out = self.lanes(
            node,
            "",
            OpClass::Quantize,
            operands,
            Function::Convert.program(),
            to,
        )?;
        self.says(&out, value);
        Ok(vec![out])
    }

    /// Along what the scales of a (de)quantization repeat; `None` for one scale.
    fn granularity(
        &self,
        node: &Node<'m>,
        x: &Value<'m>,
        scale: &Value<'m>,
    ) -> Result<Option<Granularity>, Fault> {
        let fail = || {
            Err(format!(
                "scales of shape {:?} do not fit a tensor of shape {:?}",
                scale.shape, x.shape
            )
            .into())
        };
        let block = u32::try_from(node.int("block_size", 0))
            .map_err(|_| "its block_size must be 0 or more")?;
        if scale.elements() == 1 && block == 0 {
            return Ok(None);
        }
        let axis = shapes::axis(node.int("axis", 1), x.rank())?;
        if block > 0 {
            let fits = scale.rank() == x.rank()
                && (0..x.rank()).all(|i| {
                    scale.shape[i]
                        == if i == axis {
                            x.shape[i].div_ceil(u64::from(block))
                        } else {
                            x.shape[i]
                        }
                });
            return if fits {
                Ok(Some(Granularity::Block {
                    axis: axis as i8,
                    size: block,
                }))
            } else {
                fail()
            };
        }
        if scale.shape == [x.shape[axis]] {
            Ok(Some(Granularity::Channel { axis: axis as i8 }))
        } else {
            fail()
        }
    }

    /// QuantizeLinear.
    pub fn quantize(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let (x, scale) = (node.input(0)?.clone(), node.input(1)?.clone());
        self.granularity(node, &x, &scale)?;
        let to = match (node.optional(2), node.int("output_dtype", 0)) {
            (Some(zero), _) => zero.dtype,
            (None, 0) => DType::U8,
            (None, n) => i32::try_from(n)
                .ok()
                .and_then(DType::of)
                .ok_or_else(|| format!("element type {n} is none that ONNX defines"))?,
        };
        let format: Quantization = to.format().into();
        let t = self.operand(node, 0)?;
        let value = self.quantized(node, self.expr(node, 0), [1, 2], to);
        if x.weight {
            self.builder.graph.tensors[t].quantization = format;
            return Ok(vec![Value {
                dtype: to,
                tensor: Some(t),
                known: Known::Nothing,
                expr: Some(value),
                ..x
            }]);
        }
        let view = self.views.contains(&t);
        let tensor = &mut self.builder.graph.tensors[t];
        let stored = tensor.quantization.format;
        let name = node.proto.input.first().map_or("", String::as_str);
        let alone = tensor.role == Role::Activation
            && stored == x.dtype.format()
            && stored.is_float()
            && self.uses(name) == 1;
        if view && stored == to.format() || !view && alone {
            self.builder.graph.tensors[t].quantization = format;
            return Ok(vec![Value {
                dtype: to,
                expr: Some(value),
                ..x
            }]);
        }
        let out = self.lanes(
            node,
            "",
            OpClass::Quantize,
            &[(t, x.shape)],
            Function::Convert.program(),
            to,
        )?;
        self.says(&out, value);
        Ok(vec![out])
    }

    /// An input's reals: `(x - zero point) x scale`, with the scale and the zero point that two inputs give.
    pub fn dequantized(&self, node: &Node<'m>, i: usize, [scale, zero]: [usize; 2]) -> Expr {
        let x = self.expr(node, i);
        let along = |p: &Expr| along(node, p, x.shape());
        let scale = along(&self.expr(node, scale));
        match self.given(node, zero) {
            Some(zero) => Expr::formula("(x - y) * z", &[&x, &along(&zero), &scale]),
            None => x.binary(Binary::Multiply, &scale),
        }
    }

    /// Reals as codes of a type: `round(x / scale) + zero point`, ties to even, saturating.
    pub fn quantized(
        &self,
        node: &Node<'m>,
        x: Expr,
        [scale, zero]: [usize; 2],
        to: DType,
    ) -> Expr {
        let along = |p: &Expr| along(node, p, x.shape());
        // The quotient is a number of f32 before it is rounded.
        let quotient = x.binary(Binary::Divide, &along(&self.expr(node, scale)));
        let zero = self.given(node, zero).map(|z| along(&z));
        rounded(&quotient, zero.as_ref(), to, node.int("saturate", 1) != 0)
    }

    /// DynamicQuantizeLinear: the range of the data first, then the conversion.
    pub fn dynamic_quantize(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let t = self.operand(node, 0)?;
        let all = dims(&[("x", x.elements().max(1))]);
        let each = |place| plain(place, &all, &[0]);
        let one = |place| plain(place, &all, &[]);
        let (sum, input) = (ReduceOperator::Sum, Place::Input(0));
        let cascade = vec![
            lanes(
                vec![each(input)],
                one(Place::Local(0)),
                &all,
                &[],
                ReduceOperator::Max,
            ),
            lanes(
                vec![each(input)],
                one(Place::Local(1)),
                &all,
                &[],
                ReduceOperator::Min,
            ),
            lanes(
                vec![each(input), one(Place::Local(0)), one(Place::Local(1))],
                each(Place::Output(0)),
                &all,
                &[L::Fma, L::Convert],
                sum,
            ),
        ];
        let kind = if x.elements() == 0 {
            OpKind::View
        } else {
            OpKind::Cascade(cascade)
        };
        let types = [
            (DType::U8, x.shape.clone()),
            (DType::F32, vec![]),
            (DType::U8, vec![]),
        ];
        let made: Vec<Value<'m>> = types
            .into_iter()
            .zip(["", ".scale", ".zero"])
            .map(|((dtype, shape), part)| {
                let tensor = self.fresh(&format!("{}{part}", node.name), &shape, dtype);
                Value::made(dtype, shape, tensor)
            })
            .collect();
        let outputs: Vec<TensorId> = made.iter().filter_map(|v| v.tensor).collect();
        self.builder.push_op(Op {
            name: node.name.clone(),
            class: OpClass::Quantize,
            kind,
            inputs: vec![t],
            outputs: outputs.clone(),
            steps: 1,
            meaning: crate::Meaning::Unstated,
        });
        let gives = outputs.into_iter().zip(dynamic(&self.expr(node, 0)));
        let gives = gives.collect();
        self.says_all(gives);
        Ok(made)
    }

    /// QLinearAdd and QLinearMul: a, its scale and zero point, b, its scale and zero point, those of the result.
    pub fn q_linear_elementwise(&mut self, node: &Node<'m>, primitive: L) -> Lowered<'m> {
        let dtype = node.input(0)?.dtype;
        // Both operands are rescaled, the result converted.
        let out = self.over_inputs(
            node,
            OpClass::Elementwise,
            &[0, 3],
            &[L::Fma, primitive, L::Convert],
            dtype,
        )?;
        let operation = if node.op == "QLinearAdd" {
            Binary::Add
        } else {
            Binary::Multiply
        };
        let (a, b) = (
            self.dequantized(node, 0, [1, 2]),
            self.dequantized(node, 3, [4, 5]),
        );
        let value = self.quantized(node, a.binary(operation, &b), [6, 7], dtype);
        self.meaning_of(&out, value);
        Ok(out)
    }

    /// QLinearConcat: scale and zero point of the result, then each input with its own.
    pub fn q_linear_concat(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let parts: Vec<usize> = (2..node.inputs.len()).step_by(3).collect();
        let first = node.input(2)?.clone();
        let axis = shapes::axis(node.int("axis", 0), first.rank())?;
        let mut shape = first.shape.clone();
        let mut tensors = vec![self.operand(node, 2)?];
        for &i in parts.iter().skip(1) {
            let part = node.input(i)?.shape.clone();
            if part.len() != shape.len()
                || (0..shape.len()).any(|r| r != axis && part[r] != shape[r])
            {
                return Err(format!(
                    "{part:?} does not concatenate with {:?} along axis {axis}",
                    first.shape
                )
                .into());
            }
            shape[axis] = shape[axis]
                .checked_add(part[axis])
                .ok_or("its result is too large")?;
            tensors.push(self.operand(node, i)?);
        }
        let elements = super::value::elements(&shape).ok_or("its result is too large")?;
        let out = self.emit(
            node,
            "",
            OpClass::Move,
            OpKind::Move { elements },
            tensors,
            &shape,
            first.dtype,
        )?;
        let reals: Vec<Expr> = parts
            .iter()
            .map(|i| self.dequantized(node, *i, [i + 1, i + 2]))
            .collect();
        let all = Expr::concat(axis, &reals.iter().collect::<Vec<_>>());
        let value = self.quantized(node, all, [0, 1], first.dtype);
        self.says(&out, value);
        Ok(vec![out])
    }
}

/// Codes of unsigned 8 bits, the scale and the zero point of a range that includes 0 and all elements.
pub(super) fn dynamic(x: &Expr) -> [Expr; 3] {
    let every: Vec<usize> = (0..x.shape().len()).collect();
    let bound = |operator| x.reduce(operator, false, &every).reshape(&[]);
    let most = bound(ReduceOperator::Max).with(Binary::Maximum, 0.0);
    let least = bound(ReduceOperator::Min).with(Binary::Minimum, 0.0);
    // All zeros have the scale 1.
    let scale = Expr::formula("select(equal(x, y), 1, (x - y) / 255)", &[&most, &least]);
    let zero = Expr::formula("-x / y", &[&least, &scale]);
    let zero = rounded(&zero, None, DType::U8, true);
    let codes = x.binary(Binary::Divide, &scale);
    [rounded(&codes, Some(&zero), DType::U8, true), scale, zero]
}

/// Quotients as codes of a type, about a zero point.
pub(super) fn rounded(quotient: &Expr, zero: Option<&Expr>, to: DType, saturate: bool) -> Expr {
    let format = to.format();
    let Some(range) = format.int_range() else {
        let overflow = if saturate {
            Overflow::Saturate
        } else {
            Overflow::Infinity
        };
        let sum = zero.map_or(quotient.clone(), |z| quotient.binary(Binary::Add, z));
        let conversion = Conversion {
            overflow,
            ..Conversion::default()
        };
        let meaning = Meaning::Convert { format, conversion };
        return Expr::step(meaning, &[&sum], sum.shape().to_vec());
    };
    let whole = match zero {
        Some(_) => Formula::of(Unary::Round)
            .with_input(Binary::Add, 1)
            .clipped(range.least() as f64, range.largest() as f64),
        None => Formula::of(Unary::Round).clipped(range.least() as f64, range.largest() as f64),
    };
    let operands: Vec<&Expr> = std::iter::once(quotient).chain(zero).collect();
    Expr::elementwise(whole, &operands)
}

/// A scale or a zero point as it broadcasts to a tensor: one for all, one for each entry of an axis, one for each block
/// along it.
fn along(node: &Node, parameter: &Expr, shape: &[u64]) -> Expr {
    let own = parameter.shape();
    let count: u64 = own.iter().product();
    if count == 1 {
        return parameter.reshape(&[]);
    }
    let block = node.int("block_size", 0);
    // Quantized products have one scale for each row of weights; what they mean is said where they are lowered.
    let Ok(axis) = shapes::axis(node.int("axis", 1), shape.len()) else {
        return Expr::unknown(shape);
    };
    if block == 0 {
        let mut seen = vec![1; shape.len()];
        seen[axis] = count;
        return parameter.reshape(&seen);
    }
    let Ok(block) = usize::try_from(block) else {
        return Expr::unknown(shape);
    };
    let extent = usize::try_from(shape[axis]).unwrap_or(usize::MAX);
    if own.len() != shape.len() || extent as u64 > super::value::FOLDED_ELEMENTS {
        return Expr::unknown(shape);
    }
    let places = (0..extent).map(|i| Some(i / block)).collect();
    parameter.take(axis, places, 0.0)
}
