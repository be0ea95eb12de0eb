//! What elementwise operators compute.
//!
//! Each is a formula of its inputs, which broadcast; parameters are numbers in it where they are attributes, further
//! inputs where they are inputs. Integers are those of their type: a quotient is cut, a shift leaves the type's bits.

use presil_numerics::function::Function;
use presil_numerics::{Conversion, Format, Overflow, Rounding};

use crate::expr::Expr;
use crate::formula::{Binary, Formula, Unary};
use crate::meaning::Meaning;

use super::import::Importer;
use super::node::Node;
use super::value::DType;

impl<'m> Importer<'m> {
    /// The value of an elementwise node, where it can be said.
    pub fn elementwise_value(&self, node: &Node<'m>) -> Option<Expr> {
        let number =
            |name: &str, default: f64| node.attribute(name).map_or(default, |a| f64::from(a.f));
        let x = self.expr(node, 0);
        let of = |text: &str| Some(Expr::formula(text, &[&x]));
        let all: Vec<Expr> = (0..node.inputs.len()).map(|i| self.expr(node, i)).collect();
        let parts: Vec<&Expr> = all.iter().collect();
        let two = |text: &str| Some(Expr::formula(text, parts.get(..2)?));
        let every = |op: Binary| Some(Expr::elementwise(Formula::of_all(op, parts.len()), &parts));
        let of_unary = |f: Unary| Some(x.unary(f));
        let is_float = node.optional(0)?.dtype.is_float();
        match node.op {
            "Relu" => of_unary(Unary::Relu),
            "Clip" => self.clip(node, &x),
            "LeakyRelu" => {
                let alpha = number("alpha", f64::from(0.01f32));
                of(&format!("max(x, 0) + {alpha} * min(x, 0)"))
            }
            "ThresholdedRelu" => of(&format!("select(less({}, x), x, 0)", number("alpha", 1.0))),
            "Shrink" => {
                let (bound, bias) = (number("lambd", 0.5), number("bias", 0.0));
                of(&format!(
                    "select(less(x, -{bound}), x + {bias}, select(less({bound}, x), x - {bias}, 0))"
                ))
            }
            "Sigmoid" => of_unary(Unary::Of(Function::Sigmoid)),
            "Tanh" => of_unary(Unary::Of(Function::Tanh)),
            "Swish" => match number("alpha", 1.0) {
                1.0 => of_unary(Unary::Of(Function::Silu)),
                alpha => of(&format!("x * sigmoid({alpha} * x)")),
            },
            "Gelu" if node.text("approximate") == "tanh" => of_unary(Unary::Of(Function::GeluTanh)),
            "Gelu" | "BiasGelu" | "FastGelu" => {
                let f = if node.op == "FastGelu" {
                    Unary::Of(Function::GeluTanh)
                } else {
                    Unary::Of(Function::Gelu)
                };
                match parts.get(..2) {
                    Some(two) => Some(Expr::elementwise(Formula::of_two(Binary::Add).then(f), two)),
                    None => of_unary(f),
                }
            }
            "QuickGelu" => of(&format!(
                "x * sigmoid({} * x)",
                number("alpha", f64::from(1.702f32))
            )),
            "HardSigmoid" => {
                let (alpha, beta) = (number("alpha", f64::from(0.2f32)), number("beta", 0.5));
                of(&format!("max(0, min(1, {alpha} * x + {beta}))"))
            }
            "HardSwish" => of_unary(Unary::Of(Function::HardSwish)),
            "Exp" => of_unary(Unary::Of(Function::Exp)),
            "Log" => of_unary(Unary::Of(Function::Log)),
            "Sqrt" => of_unary(Unary::Of(Function::Sqrt)),
            "Reciprocal" => of_unary(Unary::Of(Function::Reciprocal)),
            "Erf" => of_unary(Unary::Of(Function::Erf)),
            "Softplus" => of_unary(Unary::Of(Function::Softplus)),
            "Elu" => of(&format!(
                "max(x, 0) + {} * (exp(min(x, 0)) - 1)",
                number("alpha", 1.0)
            )),
            "Celu" => {
                let alpha = number("alpha", 1.0);
                of(&format!(
                    "max(x, 0) + {alpha} * (exp(min(x, 0) / {alpha}) - 1)"
                ))
            }
            "Selu" => {
                let alpha = number("alpha", f64::from(1.673_263_2_f32));
                let gamma = number("gamma", f64::from(1.050_701_f32));
                of(&format!(
                    "{gamma} * (max(x, 0) + {alpha} * (exp(min(x, 0)) - 1))"
                ))
            }
            "Softsign" => of("x / (1 + abs(x))"),
            "Mish" => of("x * tanh(softplus(x))"),
            "Abs" => of_unary(Unary::Abs),
            "Neg" => of_unary(Unary::Negate),
            "Sign" => of_unary(Unary::Sign),
            "Sin" => of_unary(Unary::Of(Function::Sin)),
            "Cos" => of_unary(Unary::Of(Function::Cos)),
            "Tan" => of("sin(x) / cos(x)"),
            "Atan" => of_unary(Unary::Atan),
            "Asin" => of("atan(x / sqrt(1 - x * x))"),
            "Acos" => of("1.5707963267948966 - atan(x / sqrt(1 - x * x))"),
            "Sinh" => of("(exp(x) - exp(-x)) / 2"),
            "Cosh" => of("(exp(x) + exp(-x)) / 2"),
            "Asinh" => of("sign(x) * log(abs(x) + sqrt(x * x + 1))"),
            "Acosh" => of("log(x + sqrt(x * x - 1))"),
            "Atanh" => of("log((1 + x) / (1 - x)) / 2"),
            "Floor" => of_unary(Unary::Floor),
            "Ceil" => of_unary(Unary::Ceil),
            "Round" => of_unary(Unary::Round),
            "Not" => of("equal(x, 0)"),
            "IsNaN" => of("equal(equal(x, x), 0)"),
            "IsInf" => {
                let side = |on: i64, text: &str| {
                    if on != 0 {
                        text.to_string()
                    } else {
                        "0".into()
                    }
                };
                let above = side(node.int("detect_positive", 1), "less(1e308, x)");
                let below = side(node.int("detect_negative", 1), "less(x, -1e308)");
                of(&format!("max({above}, {below})"))
            }
            "Cast" | "CastLike" => {
                let from = node.optional(0)?.dtype;
                let to = match node.op {
                    "Cast" => DType::of(i32::try_from(node.int("to", 0)).ok()?)?,
                    _ => node.optional(1)?.dtype,
                };
                cast(node, &x, from, to)
            }

            "Add" | "Sum" => every(Binary::Add),
            "Mul" => every(Binary::Multiply),
            "Sub" => two("x - y"),
            "Mean" => Some(every(Binary::Add)?.with(Binary::Divide, parts.len() as f64)),
            "Max" => every(Binary::Maximum),
            "Min" => every(Binary::Minimum),
            "Div" if is_float => two("x / y"),
            "Div" => two("sign(x / y) * floor(abs(x / y))"),
            "Pow" => two("pow(x, y)"),
            "Mod" if node.int("fmod", 0) != 0 => two("x - y * sign(x / y) * floor(abs(x / y))"),
            "Mod" => two("x - y * floor(x / y)"),
            "BitShift" => shift(node, &parts),
            "Equal" => two("equal(x, y)"),
            "Less" => two("less(x, y)"),
            "Greater" => two("less(y, x)"),
            "LessOrEqual" => two("max(less(x, y), equal(x, y))"),
            "GreaterOrEqual" => two("max(less(y, x), equal(x, y))"),
            "And" => two("min(x, y)"),
            "Or" => two("max(x, y)"),
            "Xor" => two("equal(equal(x, y), 0)"),
            "PRelu" => two("select(less(x, 0), x * y, x)"),
            "Where" => Some(Expr::formula("select(x, y, z)", parts.get(..3)?)),
            "QLinearSigmoid" => self.between(node, [1, 2], [3, 4], |x| {
                x.unary(Unary::Of(Function::Sigmoid))
            }),
            "QLinearLeakyRelu" => {
                let alpha = number("alpha", f64::from(0.01f32));
                let text = format!("max(x, 0) + {alpha} * min(x, 0)");
                self.between(node, [1, 2], [3, 4], |x| Expr::formula(&text, &[&x]))
            }
            _ => None,
        }
    }

    fn clip(&self, node: &Node<'m>, x: &Expr) -> Option<Expr> {
        if let (None, None) = (node.optional(1), node.optional(2)) {
            let bound =
                |name: &str, none: f64| node.attribute(name).map_or(none, |a| f64::from(a.f));
            return Some(x.clipped(bound("min", f64::NEG_INFINITY), bound("max", f64::INFINITY)));
        }
        let raised = match self.given(node, 1) {
            Some(low) => x.binary(Binary::Maximum, &low),
            None => x.clone(),
        };
        Some(match self.given(node, 2) {
            Some(high) => raised.binary(Binary::Minimum, &high),
            None => raised,
        })
    }

    /// A function of reals between a dequantization and a quantization.
    fn between(
        &self,
        node: &Node<'m>,
        own: [usize; 2],
        result: [usize; 2],
        function: impl FnOnce(Expr) -> Expr,
    ) -> Option<Expr> {
        let to = node.optional(0)?.dtype;
        let x = self.dequantized(node, 0, own);
        Some(self.quantized(node, function(x), result, to))
    }
}

/// A shift by so many bits; one by a negative number, or by as many as the type has, leaves none (of a negative number
/// to the right: all ones).
fn shift(node: &Node, parts: &[&Expr]) -> Option<Expr> {
    let DType::Int { bits, signed } = node.optional(0)?.dtype else {
        return None;
    };
    let inside = format!("min(less(-0.5, y), less(y, {bits}))");
    if node.text("direction") == "RIGHT" {
        let none = if signed { "floor(x / 1e30)" } else { "0" };
        let text = format!("select({inside}, floor(x / exp2({inside} * y)), {none})");
        return Some(Expr::formula(&text, parts.get(..2)?));
    }
    let all = 2f64.powi(i32::from(bits));
    // What leaves the type's bits is dropped; the upper half of a signed type is negative.
    let low = if signed { all / 2.0 } else { 0.0 };
    let shifted = format!("(x * exp2({inside} * y) + {low})");
    let text = format!("select({inside}, {shifted} - {all} * floor({shifted} / {all}) - {low}, 0)");
    Some(Expr::formula(&text, parts.get(..2)?))
}

/// A conversion between types.
fn cast(node: &Node, x: &Expr, from: DType, to: DType) -> Option<Expr> {
    let convert_of = |x: &Expr, format: Format, rounding, overflow| {
        let conversion = Conversion {
            rounding,
            overflow,
            ..Conversion::default()
        };
        let meaning = Meaning::Convert { format, conversion };
        Some(Expr::step(meaning, &[x], x.shape().to_vec()))
    };
    let convert = |format, rounding, overflow| convert_of(x, format, rounding, overflow);
    match to {
        DType::Bool => Some(Expr::formula("select(x, 1, 0)", &[x])),
        DType::Int { .. } => {
            let wide = matches!(from, DType::Bool);
            if wide {
                return Some(x.clone());
            }
            convert(to.format(), Rounding::TowardZero, Overflow::Wrap)
        }
        DType::Float(Format::E8m0) => {
            let rounding = match node.text("round_mode") {
                "down" => Rounding::TowardZero,
                "nearest" => Rounding::NearestEven,
                _ => Rounding::Up,
            };
            if node.int("saturate", 1) == 0 {
                return convert(to.format(), rounding, Overflow::Nan);
            }
            // Zero, below every power of two, is the least one.
            let text = format!("select(equal(x, 0), {}, x)", 2f64.powi(-127));
            let raised = Expr::formula(&text, &[x]);
            convert_of(&raised, to.format(), rounding, Overflow::Saturate)
        }
        DType::Float(f) if f.bits() >= 32 => Some(x.clone()),
        DType::Float(f) => {
            let saturates = f.bits() <= 8 && (f.bits() < 8 || node.int("saturate", 1) != 0);
            let overflow = if saturates {
                Overflow::Saturate
            } else {
                Overflow::Infinity
            };
            convert(f, Rounding::NearestEven, overflow)
        }
        DType::Text | DType::Complex(_) => None,
    }
}
