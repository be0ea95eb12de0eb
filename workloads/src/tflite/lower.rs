//! Which operator becomes which op.

use presil_numerics::LanePrimitive as L;

use crate::build::Function as F;
use crate::einsum::ReduceOperator as R;
use crate::tensor::TensorId;

use super::error::Fault;
use super::file::Operator;
use super::import::Importer;

/// The graph's tensors for an operator's outputs, in order.
pub(super) type Lowered = Result<Vec<TensorId>, Fault>;

impl<'a> Importer<'_, 'a> {
    /// Lowers an operator.
    pub(super) fn lower(&mut self, op: &Operator<'a>) -> Lowered {
        match op.name.as_str() {
            "CONV_2D" => self.conv(op),
            "DEPTHWISE_CONV_2D" => self.depthwise(op),
            "TRANSPOSE_CONV" => self.transpose_conv(op),
            "FULLY_CONNECTED" => self.fully_connected(op),
            "BATCH_MATMUL" => self.batch_matmul(op),
            "UNIDIRECTIONAL_SEQUENCE_LSTM" => self.lstm(op),
            "AVERAGE_POOL_2D" | "MAX_POOL_2D" | "L2_POOL_2D" => self.pool(op),

            "MEAN" => self.reduce(op, R::Sum, true),
            "SUM" => self.reduce(op, R::Sum, false),
            "REDUCE_MAX" | "REDUCE_ANY" => self.reduce(op, R::Max, false),
            "REDUCE_MIN" | "REDUCE_ALL" => self.reduce(op, R::Min, false),
            "REDUCE_PROD" => self.reduce(op, R::Product, false),
            "SOFTMAX" | "LOG_SOFTMAX" => self.softmax(op),
            "L2_NORMALIZATION" => self.l2_norm(op),

            "ADD" | "SUB" => self.each(op, 2, &[L::Add], Some(0)),
            "MUL" => self.each(op, 2, &[L::Mul], Some(0)),
            "DIV" => self.each(op, 2, &[L::Reciprocal, L::Mul], Some(0)),
            "FLOOR_DIV" | "FLOOR_MOD" => {
                self.each(op, 2, &[L::Reciprocal, L::Mul, L::Convert, L::Fma], None)
            }
            "SQUARED_DIFFERENCE" => self.each(op, 2, &[L::Add, L::Mul], None),
            "MAXIMUM" | "MINIMUM" => self.each(op, 2, &[L::Max], None),
            "EQUAL" | "NOT_EQUAL" | "LESS" | "LESS_EQUAL" | "GREATER" | "GREATER_EQUAL"
            | "LOGICAL_AND" | "LOGICAL_OR" => self.each(op, 2, &[L::Compare], None),
            "POW" => self.each(op, 2, F::Power.program(), None),
            "PRELU" => self.each(op, 2, &[L::Mul, L::Max], None),
            "SELECT" | "SELECT_V2" => self.each(op, 3, &[L::Compare], None),
            "ADD_N" => self.add_all(op),
            "QUANTIZE" | "DEQUANTIZE" | "CAST" => self.convert(op),

            "RELU" => self.function(op, F::Relu),
            "RELU6" | "RELU_N1_TO_1" | "RELU_0_TO_1" => self.function(op, F::Clip),
            "LEAKY_RELU" => self.function(op, F::LeakyRelu),
            "LOGISTIC" => self.function(op, F::Sigmoid),
            "TANH" => self.function(op, F::Tanh),
            "HARD_SWISH" => self.function(op, F::HardSwish),
            "GELU" => self.function(
                op,
                if op.byte(0)? != 0 {
                    F::GeluTanh
                } else {
                    F::Gelu
                },
            ),
            "ELU" => self.each(op, 1, &[L::Mul, L::Exp2, L::Add, L::Max], None),
            "EXP" => self.function(op, F::Exp),
            "LOG" => self.function(op, F::Log),
            "SQRT" => self.function(op, F::Sqrt),
            "RSQRT" => self.function(op, F::Rsqrt),
            "SQUARE" => self.function(op, F::Square),
            "ABS" | "NEG" | "SIGN" | "LOGICAL_NOT" => self.function(op, F::Sign),
            "FLOOR" | "CEIL" | "ROUND" => self.each(op, 1, &[L::Convert], None),
            "SIN" | "COS" => self.function(op, F::Trigonometric),

            "RESHAPE" | "SQUEEZE" | "EXPAND_DIMS" | "BITCAST" => self.view(op),
            "TRANSPOSE" | "REVERSE_V2" | "SPACE_TO_DEPTH" | "DEPTH_TO_SPACE" => {
                self.moved(op, 0, true)
            }
            "PAD"
            | "PADV2"
            | "MIRROR_PAD"
            | "SLICE"
            | "STRIDED_SLICE"
            | "TILE"
            | "BROADCAST_TO"
            | "SPACE_TO_BATCH_ND"
            | "BATCH_TO_SPACE_ND"
            | "RESIZE_NEAREST_NEIGHBOR"
            | "DILATE" => self.moved(op, 0, false),
            "CONCATENATION" => self.concat(op),
            "PACK" => self.pack(op),
            "UNPACK" | "SPLIT_V" => self.parts(op, 0),
            "SPLIT" => self.parts(op, 1),
            "RESIZE_BILINEAR" => self.bilinear(op),
            "GATHER" => self.gather(op, 0, 1),
            "EMBEDDING_LOOKUP" => self.gather(op, 1, 0),
            "ARG_MAX" | "ARG_MIN" | "TOPK_V2" => self.select(op),
            "SHAPE" | "FILL" | "ZEROS_LIKE" | "RANGE" => self.fill(op),
            _ => Err(Fault::Unknown),
        }
    }
}
