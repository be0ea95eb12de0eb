//! From a node to ops: which operator is lowered by which function.

use presil_numerics::LanePrimitive as L;

use crate::build::{Function, dims, plain, single};
use crate::einsum::{Access, Affine, DimId, Domain, Einsum, MapOperator, Place, ReduceOperator};
use crate::op::{Op, OpClass, OpKind};
use crate::tensor::{Role, TensorId};

use super::error::Fault;
use super::import::Importer;
use super::node::Node;
use super::shapes;
use super::value::{DType, Value, elements};

/// What lowering a node gives.
pub(super) type Lowered<'m> = Result<Vec<Value<'m>>, Fault>;

/// Lane primitives over every element of a shape: one input, one output.
pub(super) fn lanes_over(shape: &[u64], program: &[L]) -> OpKind {
    let n = elements(shape).unwrap_or(1).max(1);
    let all = dims(&[("x", n)]);
    single(lanes(
        vec![plain(Place::Input(0), &all, &[0])],
        plain(Place::Output(0), &all, &[0]),
        &all,
        program,
        ReduceOperator::Sum,
    ))
}

/// An einsum of lane primitives.
pub(super) fn lanes(
    inputs: Vec<Access>,
    output: Access,
    all: &[crate::Dim],
    program: &[L],
    reduce: ReduceOperator,
) -> Einsum {
    Einsum {
        dims: all.to_vec(),
        inputs,
        output,
        map: MapOperator::Lanes(program.to_vec()),
        reduce,
        domain: Domain::Dense,
    }
}

/// Elements of a shape whose size is checked.
pub(super) fn transposed_elements(shape: &[u64]) -> u64 {
    elements(shape).unwrap_or(0)
}

/// Dimensions x0, x1, .. of a shape.
pub(super) fn numbered(shape: &[u64]) -> Vec<crate::Dim> {
    shape
        .iter()
        .enumerate()
        .map(|(i, d)| crate::Dim {
            name: format!("x{i}"),
            size: *d,
        })
        .collect()
}

/// How an operand of shape `own` is read when it broadcasts to `rank` ranks.
pub(super) fn broadcast_access(place: Place, own: &[u64], rank: usize) -> Access {
    let skip = rank - own.len().min(rank);
    let ranks = own.iter().enumerate().map(|(r, d)| {
        if *d == 1 {
            Affine::zero()
        } else {
            Affine::dim(DimId((skip + r) as u32))
        }
    });
    Access {
        place,
        ranks: ranks.collect(),
        extents: own.to_vec(),
    }
}

impl<'m> Importer<'m> {
    /// Appends an op with one output.
    #[expect(clippy::too_many_arguments, reason = "an op is all of these")]
    pub fn emit(
        &mut self,
        node: &Node<'m>,
        part: &str,
        class: OpClass,
        kind: OpKind,
        inputs: Vec<TensorId>,
        shape: &[u64],
        dtype: DType,
    ) -> Result<Value<'m>, Fault> {
        let shape = shapes::checked(shape.to_vec())?;
        let name = format!("{}{part}", node.name);
        let output = self.fresh(&name, &shape, dtype);
        // A constant that is multiplied is a parameter, wherever the file keeps it.
        if let OpKind::Cascade(einsums) = &kind
            && einsums.iter().any(Einsum::is_contraction)
        {
            for t in inputs.iter().skip(1) {
                let tensor = &mut self.builder.graph.tensors[*t];
                if tensor.role == Role::Constant {
                    tensor.role = Role::Weight;
                }
            }
        }
        let empty = |t: &TensorId| self.builder.graph.tensors[*t].shape.contains(&0);
        // Nothing happens to no elements.
        let kind = if shape.contains(&0)
            || (matches!(kind, OpKind::Cascade(_)) && inputs.iter().any(empty))
        {
            OpKind::View
        } else {
            kind
        };
        if kind == OpKind::View {
            self.views.insert(output);
        }
        self.builder.push_op(Op {
            name,
            class,
            kind,
            inputs,
            outputs: vec![output],
            steps: 1,
            meaning: crate::Meaning::Unstated,
        });
        Ok(Value::made(dtype, shape, output))
    }

    /// A view of an input; it is stored as the input is.
    pub fn view(
        &mut self,
        node: &Node<'m>,
        i: usize,
        part: &str,
        shape: &[u64],
    ) -> Result<Value<'m>, Fault> {
        let dtype = node.input(i)?.dtype;
        let from = self.operand(node, i)?;
        let value = self.emit(
            node,
            part,
            OpClass::Move,
            OpKind::View,
            vec![from],
            shape,
            dtype,
        )?;
        self.store_as(&value, from);
        let seen = self.expr(node, i);
        if seen.shape().iter().product::<u64>() == value.elements() {
            self.says(&value, seen.reshape(shape));
        }
        Ok(value)
    }

    /// Stores an output in the format of another tensor (a quantized one that only moves).
    pub fn store_as(&mut self, value: &Value<'m>, like: TensorId) {
        if let Some(t) = value.tensor {
            let graph = &mut self.builder.graph;
            let format = graph.tensors[like].quantization.format;
            graph.tensors[t].quantization = format.into();
        }
    }

    /// A lane program over broadcast operands, given with the shapes that they are seen in.
    pub fn lanes(
        &mut self,
        node: &Node<'m>,
        part: &str,
        class: OpClass,
        operands: &[(TensorId, Vec<u64>)],
        program: &[L],
        dtype: DType,
    ) -> Result<Value<'m>, Fault> {
        let shape = shapes::broadcast(operands.iter().map(|(_, s)| &s[..]))?;
        if operands.len() > 250 {
            return Err(format!("{} inputs are more than an op can have", operands.len()).into());
        }
        let all = numbered(&shape);
        let inputs = operands
            .iter()
            .enumerate()
            .map(|(i, (_, own))| broadcast_access(Place::Input(i as u8), own, shape.len()))
            .collect();
        let every: Vec<u32> = (0..shape.len() as u32).collect();
        let einsum = lanes(
            inputs,
            plain(Place::Output(0), &all, &every),
            &all,
            program,
            ReduceOperator::Sum,
        );
        let tensors = operands.iter().map(|(t, _)| *t).collect();
        self.emit(node, part, class, single(einsum), tensors, &shape, dtype)
    }

    /// A lane program over inputs of the node, broadcast.
    pub fn over_inputs(
        &mut self,
        node: &Node<'m>,
        class: OpClass,
        inputs: &[usize],
        program: &[L],
        dtype: DType,
    ) -> Lowered<'m> {
        let mut operands = Vec::new();
        for &i in inputs {
            operands.push((self.operand(node, i)?, node.input(i)?.shape.clone()));
        }
        let out = self.lanes(node, "", class, &operands, program, dtype)?;
        if let Some(expr) = self.elementwise_value(node) {
            self.says(&out, expr);
        }
        Ok(vec![out])
    }

    /// Ops for a node.
    pub fn lower(&mut self, node: &Node<'m>) -> Lowered<'m> {
        match node.proto.domain.as_str() {
            "" | "ai.onnx" => self.standard(node),
            "com.microsoft" => self.contributed(node),
            _ => Err(Fault::Unknown),
        }
    }

    fn standard(&mut self, node: &Node<'m>) -> Lowered<'m> {
        use Function as F;
        match node.op {
            "Constant" => self.constant(node),
            "Conv" => self.conv(node),
            "ConvTranspose" => self.conv_transpose(node),
            "ConvInteger" => self.conv_integer(node),
            "QLinearConv" => self.q_linear_conv(node),
            "Gemm" => self.gemm(node),
            "MatMul" => self.matmul(node),
            "MatMulInteger" => self.matmul_integer(node),
            "QLinearMatMul" => self.q_linear_matmul(node),
            "Einsum" => self.einsum(node),
            "LSTM" | "GRU" | "RNN" => self.recurrent(node),
            "Attention" => self.attention(node),
            "RotaryEmbedding" => self.rotary(node),
            "QuantizeLinear" => self.quantize(node),
            "DequantizeLinear" => self.dequantize(node),
            "DynamicQuantizeLinear" => self.dynamic_quantize(node),

            "Relu" => self.function(node, F::Relu),
            "Clip" => self.function(node, F::Clip),
            "LeakyRelu" | "ThresholdedRelu" | "Shrink" => self.function(node, F::LeakyRelu),
            "Sigmoid" => self.function(node, F::Sigmoid),
            "Tanh" => self.function(node, F::Tanh),
            "Swish" => self.function(node, F::Silu),
            "Gelu" => self.function(
                node,
                if node.text("approximate") == "tanh" {
                    F::GeluTanh
                } else {
                    F::Gelu
                },
            ),
            "HardSigmoid" => self.function(node, F::HardSigmoid),
            "HardSwish" => self.function(node, F::HardSwish),
            "Exp" => self.function(node, F::Exp),
            "Log" => self.function(node, F::Log),
            "Sqrt" => self.function(node, F::Sqrt),
            "Reciprocal" => self.function(node, F::Reciprocal),
            "Erf" => self.function(node, F::Erf),
            "Softplus" => self.function(node, F::Softplus),
            "Elu" | "Celu" | "Selu" => self.program(
                node,
                OpClass::Activation,
                &[L::Mul, L::Exp2, L::Fma, L::Compare],
            ),
            "Softsign" => self.program(
                node,
                OpClass::Activation,
                &[L::Max, L::Add, L::Reciprocal, L::Mul],
            ),
            "Mish" => self.program(
                node,
                OpClass::Activation,
                &[L::Mul, L::Exp2, L::Fma, L::Fma, L::Reciprocal, L::Mul],
            ),
            "Abs" | "Neg" | "Sign" => self.function(node, F::Sign),
            "Sin" | "Cos" | "Tan" | "Asin" | "Acos" | "Atan" | "Sinh" | "Cosh" | "Asinh"
            | "Acosh" | "Atanh" => {
                self.program(node, OpClass::Elementwise, F::Trigonometric.program())
            }
            "Floor" | "Ceil" | "Round" => self.program(node, OpClass::Elementwise, &[L::Convert]),
            "Not" | "IsNaN" | "IsInf" => self.predicate(node, &[0]),
            "BitwiseNot" => self.program(node, OpClass::Elementwise, &[L::Compare]),
            "Cast" | "CastLike" => self.cast(node),

            "Add" | "Sub" => self.chain(node, OpClass::Elementwise, L::Add),
            "Mul" => self.chain(node, OpClass::Elementwise, L::Mul),
            "Div" => self.over_inputs(
                node,
                OpClass::Elementwise,
                &[0, 1],
                &[L::Reciprocal, L::Mul],
                dtype(node)?,
            ),
            "Pow" => self.power(node),
            "Mod" => self.over_inputs(
                node,
                OpClass::Elementwise,
                &[0, 1],
                &[L::Reciprocal, L::Mul, L::Convert, L::Fma],
                dtype(node)?,
            ),
            "Sum" | "Mean" => self.chain(node, OpClass::Elementwise, L::Add),
            "Max" | "Min" => self.chain(node, OpClass::Elementwise, L::Max),
            "BitShift" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" => self.over_inputs(
                node,
                OpClass::Elementwise,
                &[0, 1],
                &[L::Compare],
                dtype(node)?,
            ),
            "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And" | "Or"
            | "Xor" => self.predicate(node, &[0, 1]),
            "PRelu" => self.over_inputs(
                node,
                OpClass::Activation,
                &[0, 1],
                &[L::Mul, L::Max],
                dtype(node)?,
            ),
            "Where" => {
                let dtype = node.input(1)?.dtype;
                self.over_inputs(node, OpClass::Elementwise, &[0, 1, 2], &[L::Compare], dtype)
            }

            "BatchNormalization" => self.batch_norm(node),
            "InstanceNormalization" => self.instance_norm(node),
            "LayerNormalization" => self.layer_norm(node, crate::build::NormKind::Layer),
            "RMSNormalization" | "SimplifiedLayerNormalization" => {
                self.layer_norm(node, crate::build::NormKind::Rms)
            }
            "GroupNormalization" => self.group_norm(node),
            "LpNormalization" | "MeanVarianceNormalization" => self.axis_norm(node),
            "LRN" => self.lrn(node),
            "Softmax" | "LogSoftmax" => self.softmax(node),
            "Hardmax" => self.select(node),
            "MaxPool" | "AveragePool" | "LpPool" => self.pool(node),
            "GlobalMaxPool" | "GlobalAveragePool" | "GlobalLpPool" => self.global_pool(node),
            "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1"
            | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceSumSquare" | "ArgMax"
            | "ArgMin" => self.reduce(node),
            "CumSum" | "CumProd" => self.cumulative(node),
            "Resize" | "Upsample" => self.resize(node),

            "Identity" | "Dropout" => self.same(node),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => self.reshape(node),
            "Transpose" => self.transpose(node),
            "Concat" => self.concat(node),
            "Slice" => self.slice(node),
            "Split" => self.split(node),
            "Expand" => self.expand(node),
            "Tile" => self.tile(node),
            "Pad" => self.pad(node),
            "DepthToSpace" | "SpaceToDepth" => self.depth_space(node),
            "Trilu" => self.triangle(node),
            "ReverseSequence" => self.moved(node),
            "ConstantOfShape" | "EyeLike" | "Range" | "HannWindow" | "HammingWindow"
            | "BlackmanWindow" | "RandomNormal" | "RandomUniform" | "RandomNormalLike"
            | "RandomUniformLike" | "Bernoulli" => self.fill(node),
            "Gather" => self.gather(node),
            "GatherElements" => self.gather_elements(node),
            "GatherND" => self.gather_nd(node),
            "Scatter" | "ScatterElements" | "ScatterND" | "TensorScatter" => self.scatter(node),
            "OneHot" => self.one_hot(node),
            "TopK" => self.top_k(node),
            "NonMaxSuppression" => self.non_max_suppression(node),
            "NonZero" => self.non_zero(node),
            "Compress" | "Unique" => self.chosen_all(node),
            "CenterCropPad" => self.center_crop_pad(node),
            "MaxUnpool" => self.max_unpool(node),
            "GridSample" => self.grid_sample(node),
            "RoiAlign" => self.roi_align(node),
            _ => Err(Fault::Unknown),
        }
    }

    fn contributed(&mut self, node: &Node<'m>) -> Lowered<'m> {
        use crate::build::NormKind;
        match node.op {
            "QuantizeLinear" => self.quantize(node),
            "DequantizeLinear" => self.dequantize(node),
            "QGemm" => self.q_gemm(node),
            "QLinearAdd" => self.q_linear_elementwise(node, L::Add),
            "QLinearMul" => self.q_linear_elementwise(node, L::Mul),
            "QLinearGlobalAveragePool" => self.global_pool(node),
            "QLinearAveragePool" => self.pool(node),
            "QLinearConcat" => self.q_linear_concat(node),
            "QLinearSigmoid" => self.function(node, Function::Sigmoid),
            "QLinearLeakyRelu" => self.function(node, Function::LeakyRelu),
            "QLinearSoftmax" => self.softmax(node),
            "DynamicQuantizeMatMul" | "MatMulIntegerToFloat" => self.matmul_to_float(node),
            "MatMulNBits" => self.matmul_n_bits(node),
            "FusedMatMul" => self.matmul(node),
            "FusedConv" => self.conv(node),
            "FusedGemm" => self.gemm(node),
            "Gelu" => self.function(node, Function::Gelu),
            "FastGelu" | "BiasGelu" => self.bias_gelu(node),
            "QuickGelu" => self.function(node, Function::QuickGelu),
            "SkipLayerNormalization" => self.skip_norm(node, NormKind::Layer),
            "SkipSimplifiedLayerNormalization" => self.skip_norm(node, NormKind::Rms),
            "LayerNormalization" => self.layer_norm(node, NormKind::Layer),
            "SimplifiedLayerNormalization" => self.layer_norm(node, NormKind::Rms),
            "RotaryEmbedding" => self.rotary(node),
            "Attention" => self.packed_attention(node),
            "MultiHeadAttention" => self.multi_head_attention(node),
            "GroupQueryAttention" => self.group_query_attention(node),
            _ => Err(Fault::Unknown),
        }
    }

    fn constant(&mut self, node: &Node<'m>) -> Lowered<'m> {
        use super::value::{Data, Known, check_tensor};
        if let Some(t) = node.tensor("value") {
            let (dtype, shape) = check_tensor(t)?;
            return Ok(vec![Value {
                dtype,
                shape,
                known: Known::Stored(t),
                tensor: None,
                weight: false,
                expr: None,
            }]);
        }
        let list = |dtype, data: Data| vec![Value::constant(dtype, vec![data.len() as u64], data)];
        if let Some(a) = node.attribute("value_int") {
            return Ok(vec![Value::constant(
                DType::I64,
                vec![],
                Data::Int(vec![a.i]),
            )]);
        }
        if let Some(a) = node.attribute("value_float") {
            return Ok(vec![Value::constant(
                DType::F32,
                vec![],
                Data::Float(vec![f64::from(a.f)]),
            )]);
        }
        if let Some(v) = node.ints("value_ints") {
            return Ok(list(DType::I64, Data::Int(v.to_vec())));
        }
        if let Some(v) = node.floats("value_floats") {
            return Ok(list(
                DType::F32,
                Data::Float(v.iter().map(|x| f64::from(*x)).collect()),
            ));
        }
        if let Some(s) = node
            .attribute("sparse_value")
            .and_then(|a| a.sparse_tensor.as_ref())
        {
            let dtype = s
                .values
                .as_ref()
                .and_then(|v| DType::of(v.data_type))
                .ok_or("its sparse value has no type")?;
            let shape = super::value::shape_of(&s.dims)?;
            return Ok(vec![Value {
                dtype,
                shape,
                known: Known::Nothing,
                tensor: None,
                weight: false,
                expr: None,
            }]);
        }
        Err("its value is missing, or is text".into())
    }
}

/// The type of a node's first input, which most operators keep.
pub(super) fn dtype(node: &Node) -> Result<DType, Fault> {
    Ok(node.input(0)?.dtype)
}
